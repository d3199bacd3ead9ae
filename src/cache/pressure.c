/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The presser: asks owners that write by their own plan (checkpoints) to do so, when their dirty pages fill a third of
 * the budget, or when they hold memory that the reclaimer needs and finds nowhere else.
 *
 * A thread of its own: the writer may itself be waiting for a node, for which only a checkpoint can make room.
 */
#include "cache_private.h"

#define PAUSE_FIRST_NS (10 * NSEC_PER_MSEC)
#define PAUSE_LAST_NS NSEC_PER_SEC

bool pressure_needed(const struct cache *cache)
{
	const struct cache_counts *nodes = &cache->class[CACHE_NODES];

	if (TAILQ_EMPTY(&cache->planned))
		return false;
	if (nodes->dirty_bytes > cache->budget_bytes / 3)
		return true;
	return reclaim_starved(cache) && nodes->bytes > cache->floor_bytes &&
	       pool_available(cache) + (ssize_t)nodes->writing_bytes < (ssize_t)cache->low_bytes;
}

/* Asks the owner that has waited longest. Cache's lock held, given up meanwhile. */
static void press(struct cache *cache)
{
	struct space_index *ix = TAILQ_FIRST(&cache->planned);

	TAILQ_REMOVE(&cache->planned, ix, link);
	TAILQ_INSERT_TAIL(&cache->planned, ix, link);
	ix->busy++;
	mutex_unlock(&cache->lock);
	ix->space->ops->pressure(ix->space);
	mutex_lock(&cache->lock);
	if (--ix->busy == 0)
		cond_broadcast(&cache->settled);
}

void pressure_run(void *arg)
{
	struct cache *cache = arg;
	uint64_t pause_ns = PAUSE_FIRST_NS;

	mutex_lock(&cache->lock);
	while (!cache->stop) {
		uint64_t before = cache->class[CACHE_NODES].cleaned, until;

		if (!pressure_needed(cache)) {
			cond_wait(&cache->press_wake, &cache->lock);
			continue;
		}
		press(cache);
		cache->pressure_rounds++;
		cond_broadcast(&cache->settled);
		if (cache->class[CACHE_NODES].cleaned != before) {
			pause_ns = PAUSE_FIRST_NS;
			continue;
		}
		/* Asking again at once would bring no more, whoever else signals meanwhile. */
		until = clock_now_ns() + pause_ns;
		while (!cache->stop && cond_wait_until(&cache->press_wake, &cache->lock, until))
			;
		if (pause_ns < PAUSE_LAST_NS)
			pause_ns *= 2;
	}
	mutex_unlock(&cache->lock);
}
