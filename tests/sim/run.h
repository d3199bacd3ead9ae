/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One run in a process of its own, because a crash leaks and a failure aborts. At many points of it the process is
 * forked: there the power fails, the volume is mounted again and compared with the oracle, and the run goes on as
 * if nothing had been. So one run sees many crashes, several of them at the same moment.
 */
#ifndef SIM_RUN_H
#define SIM_RUN_H

#include "exhaust.h"
#include "level.h"

#include <stdbool.h>
#include <stdint.h>

struct run_order {
	const struct level *level;
	uint64_t seed;
	unsigned int most; /* operations; 0: what the seed says */
	const bool *left_out; /* [number of an operation]; NULL: none */
	bool dense; /* a crash at every turn */
	bool both; /* at its end blocks go bad on both legs */
	bool quiet, verbose;
	struct exhaust_order exhaust; /* length > 0: that instead */
};

struct run_outcome {
	bool good;
	uint64_t hash; /* of every step */
	unsigned int operations; /* begun when it ended or failed */
	unsigned long crashes; /* survived */
	struct exhaust_counts exhaust;
	const char *why; /* of a failure: the format of its message, an address that all processes share */
};

void run_play(const struct run_order *order, struct run_outcome *outcome);

#endif
