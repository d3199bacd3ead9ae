/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The story of a run: its last lines are told when it fails, all of them as they come with --verbose. */
#ifndef SIM_REPORT_H
#define SIM_REPORT_H

#include <stdbool.h>

void report_start(bool verbose);
void note(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Prints the last lines to standard error. */
void report_tail(void);

#endif
