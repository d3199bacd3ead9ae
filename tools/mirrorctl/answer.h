/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the daemon answers, as text for people. What an answer lacks is "" or 0. */
#ifndef MIRRORFS_ANSWER_H
#define MIRRORFS_ANSWER_H

#include "mirrorfs/ctl.h"

#include <stdio.h>

const char *answer_text(const json_t *json, const char *key);
unsigned long long answer_number(const json_t *json, const char *key);
const char *answer_size(unsigned long long bytes, char text[32]); /* "1.5 GiB" */
const char *answer_duration(unsigned long long ns, char text[16]); /* "    1.5 ms", always as wide */
double answer_percent(const json_t *scrub);

void answer_print_health(const json_t *answer); /* "healthy", on a terminal in its colour */
/* What came in so many seconds, between two answers to "stats". */
void answer_print_top(const char *mountpoint, const json_t *now, const json_t *before, double seconds);
void answer_print_status(const json_t *status);
void answer_print_files(const char *mountpoint, const json_t *listing); /* what is on one leg alone */
void answer_print_stats(const char *mountpoint, const json_t *result);

#endif
