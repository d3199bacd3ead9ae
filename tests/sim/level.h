/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A level of the stack under simulation: actors that use it, and an oracle that knows what they were promised. The
 * rounds are the same for each: mount, check, let the actors run, crash or unmount.
 */
#ifndef SIM_LEVEL_H
#define SIM_LEVEL_H

#include "machine.h"
#include "script.h"

#include <stdbool.h>
#include <stdint.h>

struct level {
	const char *name;
	enum machine_height height;
	bool crashes; /* it has something that a crash could take */
	void *(*create)(struct machine *machine, uint64_t seed);
	/* After a mount: compares everything with what must and may be there, and takes it as the new state. */
	void (*check)(void *state, bool crashed);
	/* Starts the actors; they end by themselves with the script. */
	void (*start)(void *state, struct script *script);
	/* After the mount of a spoilt volume: what is not an error is right. NULL: the level does not know errors. */
	void (*check_spoilt)(void *state);
	/* Every actor has ended. */
	bool (*idle)(void *state);
	void (*join)(void *state);
	/* A quiet end: what is there is exactly what was promised, and it can all be deleted. */
	void (*finish)(void *state);
};

extern const struct level level_mirror;
extern const struct level level_cache;
extern const struct level level_meta;
extern const struct level level_fs;

#endif
