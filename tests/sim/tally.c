/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One page that all processes share; only one of them runs at a time. */
#include "tally.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

static unsigned long *counts;

void tally_start(void)
{
	counts = mmap(NULL, TALLY_ALL * sizeof(*counts), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (counts == MAP_FAILED) {
		perror("sim");
		exit(2);
	}
}

void tally(enum tally what)
{
	counts[what]++;
}

bool tally_print(bool files)
{
#define TALLY_TEXT(name, text) text,
	static const char *const texts[] = { TALLIES_OF_LEGS(TALLY_TEXT) NULL, TALLIES_OF_FILES(TALLY_TEXT) };
	bool all = true;

	for (int what = 0; what < (files ? TALLY_ALL : TALLY_LEGS_END); what++) {
		if (what == TALLY_LEGS_END)
			continue;
		printf("%12lu %s\n", counts[what], texts[what]);
		all &= counts[what] > 0;
	}
	return all;
}
