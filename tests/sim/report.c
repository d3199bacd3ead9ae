/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "report.h"

#include "mirrorfs/base/clock.h"
#include "world.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define LINES 60
#define LINE_BYTES 160

static struct {
	bool verbose;
	char lines[LINES][LINE_BYTES];
	unsigned long count;
} story;

void report_start(bool verbose)
{
	story.verbose = verbose;
	story.count = 0;
}

void note(const char *format, ...)
{
	char *line = story.lines[story.count++ % LINES];
	int at = snprintf(line, LINE_BYTES, "%8lu %10.6f %-10s ", (unsigned long)sim_steps(),
			  (double)clock_now_ns() / 1e9, sim_fiber_name());
	va_list args;

	va_start(args, format);
	vsnprintf(line + at, (size_t)(LINE_BYTES - at), format, args);
	va_end(args);
	if (story.verbose)
		fprintf(stderr, "%s\n", line);
}

void report_tail(void)
{
	unsigned long first = story.count > LINES ? story.count - LINES : 0;

	if (story.verbose)
		return;
	for (unsigned long i = first; i < story.count; i++)
		fprintf(stderr, "%s\n", story.lines[i % LINES]);
}
