/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The flush queue: see deferred_private.h. */
#include "deferred_private.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

void deferred_init(struct deferred *deferred)
{
	mutex_init(&deferred->lock, RANK_RANGE_DEPOT);
	deferred->first = deferred->last = deferred->stuck = NULL;
	deferred->batches = 0;
	atomic_init(&deferred->blocks, 0);
}

static void free_all(struct deferred_batch *batch)
{
	while (batch) {
		struct deferred_batch *next = batch->next;

		free(batch);
		batch = next;
	}
}

void deferred_fini(struct deferred *deferred)
{
	free_all(deferred->first);
	free_all(deferred->stuck);
	mutex_fini(&deferred->lock);
}

/* The batch that takes another range of this ticket; NULL: no memory. */
static struct deferred_batch *batch_for(struct deferred *deferred, uint64_t ticket)
{
	struct deferred_batch *batch = deferred->last;

	if (batch && batch->ticket == ticket && batch->count < DEFERRED_BATCH)
		return batch;
	batch = malloc(sizeof(*batch));
	if (!batch)
		return NULL;
	batch->next = NULL;
	batch->ticket = ticket;
	batch->count = 0;
	batch->told = false;
	if (deferred->last)
		deferred->last->next = batch;
	else
		deferred->first = batch;
	deferred->last = batch;
	deferred->batches++;
	return batch;
}

int deferred_push(struct deferred *deferred, uint64_t start, uint64_t length, uint64_t ticket)
{
	struct deferred_batch *batch;
	struct range_extent *last;

	mutex_lock(&deferred->lock);
	assert(!deferred->last || deferred->last->ticket <= ticket);
	batch = batch_for(deferred, ticket);
	if (!batch) {
		mutex_unlock(&deferred->lock);
		return -ENOMEM;
	}
	last = batch->count ? &batch->ranges[batch->count - 1] : NULL;
	if (last && last->start + last->length == start)
		last->length += length;
	else
		batch->ranges[batch->count++] = (struct range_extent){ start, length };
	atomic_fetch_add_explicit(&deferred->blocks, length, memory_order_relaxed);
	mutex_unlock(&deferred->lock);
	return 0;
}

static int by_start(const void *a, const void *b)
{
	const struct range_extent *left = a, *right = b;

	return left->start < right->start ? -1 : left->start > right->start;
}

struct deferred_batch *deferred_pop(struct deferred *deferred, uint64_t ticket)
{
	struct deferred_batch *batch;

	mutex_lock(&deferred->lock);
	batch = deferred->first;
	if (batch && batch->ticket <= ticket) {
		deferred->first = batch->next;
		if (!deferred->first)
			deferred->last = NULL;
		deferred->batches--;
	} else {
		batch = NULL;
	}
	mutex_unlock(&deferred->lock);
	/* Neighbours come one after the other, for the tree's sake and for whoever discards them. */
	if (batch)
		qsort(batch->ranges, batch->count, sizeof(batch->ranges[0]), by_start);
	return batch;
}

struct deferred_batch *deferred_pop_stuck(struct deferred *deferred)
{
	struct deferred_batch *batch;

	mutex_lock(&deferred->lock);
	batch = deferred->stuck;
	if (batch) {
		deferred->stuck = batch->next;
		deferred->batches--;
	}
	mutex_unlock(&deferred->lock);
	return batch;
}

void deferred_put_back(struct deferred *deferred, struct deferred_batch *batch)
{
	mutex_lock(&deferred->lock);
	batch->told = true;
	batch->next = deferred->stuck;
	deferred->stuck = batch;
	deferred->batches++;
	mutex_unlock(&deferred->lock);
}

void deferred_freed(struct deferred *deferred, uint64_t blocks)
{
	atomic_fetch_sub_explicit(&deferred->blocks, blocks, memory_order_relaxed);
}

size_t deferred_bytes(struct deferred *deferred)
{
	size_t bytes;

	mutex_lock(&deferred->lock);
	bytes = deferred->batches * sizeof(struct deferred_batch);
	mutex_unlock(&deferred->lock);
	return bytes;
}
