/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How much memory the daemon takes: the cache's budget where nobody says, and what it needs beside that. */
#ifndef MIRRORFS_BUDGET_H
#define MIRRORFS_BUDGET_H

#include <stddef.h>
#include <stdint.h>

/*
 * An eighth of the machine's memory, or of what the control groups of this process allow it if that is less; at least
 * 64 MiB, at most 4 GiB. `root` stands before /proc and /sys: "".
 */
uint64_t budget_default(const char *root);

/* The daemon's resident memory stays within 1.1 times the budget and `fixed_bytes`, which are 24 MiB at most. */
struct budget_plan {
	unsigned int threads; /* of the transport */
	size_t buffer_bytes; /* for its requests; what exceeds 14 MiB is of the budget's tenth */
	size_t pool_bytes, abandon_bytes; /* of buffers for the legs */
	size_t fixed_bytes; /* code, stacks, the transport's buffers; of the legs', what a tenth of the budget lacks */
};
struct budget_plan budget_plan(uint64_t cache_bytes);

#endif
