/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the actors of a run may do. Operations are numbered in the order in which they begin, whoever does them, and
 * each draws from a random stream of its own number: when some are left out, the others stay what they were. So a
 * failure can be narrowed to the operations that it needs.
 */
#ifndef SIM_SCRIPT_H
#define SIM_SCRIPT_H

#include "random.h"

#include <stdbool.h>
#include <stdint.h>

#define SCRIPT_MOST 4096u /* operations of a run */

struct script {
	uint64_t seed;
	unsigned int begun; /* those that were left out included */
	unsigned int most;
	bool stop; /* nothing more begins */
	const bool *left_out; /* [number]; NULL: none */
};

static inline bool script_goes_on(const struct script *script)
{
	return !script->stop && script->begun < script->most;
}

/* The next operation that is not left out: its random stream; false: there is none. */
static inline bool script_next(struct script *script, struct sim_random *random)
{
	while (script_goes_on(script)) {
		unsigned int number = script->begun++;

		if (script->left_out && script->left_out[number])
			continue;
		*random = sim_random_of(script->seed, 1000 + number);
		return true;
	}
	return false;
}

#endif
