/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "watch.h"
#include "answer.h"

#include "mirrorfs/base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define BAR_WIDTH 30
#define LINE_NS (5 * NSEC_PER_SEC) /* between two lines, where there is no terminal */
#define MEASURED_NS (NSEC_PER_SEC / 2) /* before that a rate says little */

void watch_begin(struct watch *watch, const char *what, bool quiet)
{
	*watch = (struct watch){ .what = what, .quiet = quiet, .terminal = isatty(STDERR_FILENO) };
}

/* ", 120.0 MiB/s, 0:01:10 left"; "" too early to tell. */
static void pace(const struct watch *watch, uint64_t done, uint64_t total, char *text, size_t size)
{
	uint64_t took_ns = clock_now_ns() - watch->began_ns;
	double rate = (double)(done - watch->began_bytes) * 1e9 / (double)(took_ns ? took_ns : 1);
	unsigned long long left;
	char rate_text[32];

	text[0] = '\0';
	if (took_ns < MEASURED_NS || done <= watch->began_bytes || done > total)
		return;
	left = (unsigned long long)((double)(total - done) / rate + 0.5);
	snprintf(text, size, ", %s/s, %llu:%02llu:%02llu left", answer_size((unsigned long long)rate, rate_text),
		 left / 3600, left / 60 % 60, left % 60);
}

void watch_tell(struct watch *watch, uint64_t done, uint64_t total, const char *more)
{
	static const char full[] = "==============================";
	double part = total ? (double)done / (double)total : 0;
	int width = part < 1 ? (int)(part * BAR_WIDTH) : BAR_WIDTH;
	char text[80];

	if (watch->quiet)
		return;
	if (!watch->begun || done < watch->began_bytes) {
		watch->began_ns = clock_now_ns();
		watch->began_bytes = done;
		watch->told_ns = watch->begun ? watch->told_ns : watch->began_ns;
		watch->begun = true;
	}
	pace(watch, done, total, text, sizeof(text));
	if (watch->terminal) {
		fprintf(stderr, "\r\033[K%s |%.*s%*s| %5.1f %%%s%s", watch->what, width, full, BAR_WIDTH - width, "",
			100 * part, text, more);
	} else if (clock_now_ns() - watch->told_ns >= LINE_NS) {
		watch->told_ns = clock_now_ns();
		printf("%s: %.1f %%%s%s\n", watch->what, 100 * part, text, more);
		fflush(stdout);
	}
}

void watch_end(struct watch *watch)
{
	if (watch->begun && watch->terminal)
		fputs("\r\033[K", stderr);
}

bool watch_colours(void)
{
	const char *none = getenv("NO_COLOR");

	return isatty(STDOUT_FILENO) && !(none && *none);
}
