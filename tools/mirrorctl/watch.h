/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How far long work is: a bar with rate and time left on a terminal (standard error), a line now and then elsewhere
 * (standard output).
 */
#ifndef MIRRORFS_WATCH_H
#define MIRRORFS_WATCH_H

#include <stdbool.h>
#include <stdint.h>

struct watch {
	const char *what; /* "scrub" */
	bool quiet; /* nothing is told */
	bool terminal;
	bool begun;
	uint64_t began_ns, began_bytes; /* when it was first seen, and where it was then */
	uint64_t told_ns; /* the latest line */
};

void watch_begin(struct watch *watch, const char *what, bool quiet);
/* `more` is said behind it; "" for nothing. */
void watch_tell(struct watch *watch, uint64_t done_bytes, uint64_t total_bytes, const char *more);
void watch_end(struct watch *watch); /* before anything else is printed */

/* Whether standard output is a terminal that shall have colours (NO_COLOR is not set). */
bool watch_colours(void);

#endif
