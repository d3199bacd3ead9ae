/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The flush queue: freed ranges that wait, still taken, until their ticket is due. Ranges of one ticket lie
 * together in batches, so that nothing is looked at before it is due, and a batch is handed back whole.
 */
#ifndef MIRRORFS_RANGE_DEFERRED_PRIVATE_H
#define MIRRORFS_RANGE_DEFERRED_PRIVATE_H

#include "mirrorfs/base/sync.h"
#include "mirrorfs/range.h"

#include <stdatomic.h>

#define DEFERRED_BATCH 254 /* 4 KiB */

struct deferred_batch {
	struct deferred_batch *next;
	uint64_t ticket;
	uint32_t count;
	bool told; /* the callback has seen these: they only wait for memory */
	struct range_extent ranges[DEFERRED_BATCH];
};

struct deferred {
	struct mutex lock;
	struct deferred_batch *first, *last; /* ascending tickets */
	struct deferred_batch *stuck; /* told */
	uint64_t batches;
	_Atomic uint64_t blocks;
};

void deferred_init(struct deferred *deferred);
void deferred_fini(struct deferred *deferred);
int deferred_push(struct deferred *deferred, uint64_t start, uint64_t length, uint64_t ticket);
/* A batch that is due, sorted, now the caller's, who frees it or puts it back; NULL: none. */
struct deferred_batch *deferred_pop(struct deferred *deferred, uint64_t ticket);
/* What was told and could not be freed now: all of it, the oldest anywhere. */
struct deferred_batch *deferred_pop_stuck(struct deferred *deferred);
void deferred_put_back(struct deferred *deferred, struct deferred_batch *batch);
/* `blocks` of a popped batch are free. */
void deferred_freed(struct deferred *deferred, uint64_t blocks);
size_t deferred_bytes(struct deferred *deferred);

#endif
