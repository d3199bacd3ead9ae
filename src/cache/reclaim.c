/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The reclaimer, in the manner of kswapd: it wakes when less than `low` is free and sleeps when `high` is, and as free
 * bytes serve every page size (pool.c), reaching a watermark proves that the next allocations succeed.
 *
 * It works in passes, each bounded: a share of the queues that doubles only when the pass before freed nothing. It
 * never waits for I/O (I10): unclean pages are on no queue. When nothing is left to take it marks the cache starved,
 * has the writer and the presser run, and sleeps until a page becomes clean or loses its last user.
 *
 * Data and nodes give in proportion to what they hold, nodes only of what they hold above their floor.
 */
#include "cache_private.h"

#define BATCH 16 /* pages isolated at a time */
#define PAGE_MAX 65536
#define PRIORITY_FIRST 12 /* a pass looks at 1 / 2^priority of the pages */

static void set_starved(struct cache *cache, bool starved)
{
	__atomic_store_n(&cache->starved, starved, __ATOMIC_SEQ_CST);
}

bool reclaim_starved(const struct cache *cache)
{
	return __atomic_load_n(&cache->starved, __ATOMIC_SEQ_CST);
}

void reclaim_kick(struct cache *cache)
{
	if (pool_available(cache) >= (ssize_t)cache->low_bytes && !cache->waiting) {
		set_starved(cache, false);
		return;
	}
	if (cache->reclaim_kicked)
		return;
	cache->reclaim_kicked = true;
	cond_signal(&cache->reclaim_wake);
}

void reclaim_unpinned(struct cache *cache)
{
	/* Pairs with the reclaimer's mark and second look: one of the two sees the other. */
	if (!reclaim_starved(cache))
		return;
	mutex_lock(&cache->lock);
	reclaim_kick(cache);
	mutex_unlock(&cache->lock);
}

/*
 * What a pass may look at: the same share of data and of what nodes hold above their floor. Takes the bytes that are
 * wanted at most, and a little, as pages are whole. Cache's lock held.
 */
static void plan_pass(struct cache *cache, unsigned int priority, size_t need_bytes, struct policy_scan scan[])
{
	size_t data = cache->queue_pages[QUEUE_SMALL] + cache->queue_pages[QUEUE_MAIN];
	size_t nodes = cache->class[CACHE_NODES].bytes, above = 0;

	scan[CACHE_DATA] = (struct policy_scan){ .class = CACHE_DATA, .bytes = need_bytes + PAGE_MAX };
	scan[CACHE_NODES] = (struct policy_scan){ .class = CACHE_NODES };
	if (nodes > cache->floor_bytes) {
		scan[CACHE_NODES].bytes = nodes - cache->floor_bytes;
		above = (size_t)((double)cache->queue_pages[QUEUE_NODES] * (double)scan[CACHE_NODES].bytes /
				 (double)nodes) + 1;
	}
	if (!data) {
		scan[CACHE_NODES].pages = above >> priority;
		return;
	}
	scan[CACHE_DATA].pages = data >> priority > BATCH ? data >> priority : BATCH;
	/* Shares below one page add up over the passes. */
	cache->scan_carry += (double)scan[CACHE_DATA].pages * (double)above / (double)data;
	scan[CACHE_NODES].pages = (size_t)cache->scan_carry;
	cache->scan_carry -= (double)scan[CACHE_NODES].pages;
}

/* One bounded pass over both classes; the number of pages freed. */
static size_t scan_pass(struct cache *cache, unsigned int priority, size_t goal_bytes, bool *progress)
{
	struct policy_scan scan[CACHE_CLASSES];
	struct page *batch[BATCH];
	ssize_t available;
	size_t count, freed = 0;

	mutex_lock(&cache->lock);
	available = pool_available(cache);
	if (available >= (ssize_t)goal_bytes) {
		mutex_unlock(&cache->lock);
		return 0;
	}
	plan_pass(cache, priority, (size_t)((ssize_t)goal_bytes - available), scan);
	for (int class = 0; class < CACHE_CLASSES; class++) {
		while (scan[class].pages && (count = policy_isolate(cache, &scan[class], batch, BATCH))) {
			mutex_unlock(&cache->lock);
			for (size_t i = 0; i < count; i++)
				freed += page_reclaim(batch[i], true);
			mutex_lock(&cache->lock);
		}
		*progress |= scan[class].progress;
	}
	mutex_unlock(&cache->lock);
	return freed;
}

static bool balanced(struct cache *cache)
{
	bool enough;

	mutex_lock(&cache->lock);
	enough = cache->stop || pool_available(cache) >= (ssize_t)cache->high_bytes;
	mutex_unlock(&cache->lock);
	return enough;
}

/* Frees up to the high watermark. False: nothing is left that could be freed now. */
static bool balance(struct cache *cache)
{
	unsigned int priority = PRIORITY_FIRST;

	while (!balanced(cache)) {
		bool progress = false;

		if (scan_pass(cache, priority, cache->high_bytes, &progress))
			continue;
		if (priority)
			priority--;
		else if (!progress)
			return false;
	}
	return true;
}

void reclaim_run(void *arg)
{
	struct cache *cache = arg;

	mutex_lock(&cache->lock);
	for (;;) {
		bool starved;

		while (!cache->stop && !cache->reclaim_kicked)
			cond_wait(&cache->reclaim_wake, &cache->lock);
		if (cache->stop)
			break;
		cache->wakeups++;
		cache->reclaim_kicked = false;
		mutex_unlock(&cache->lock);

		set_starved(cache, false);
		starved = !balance(cache);
		if (starved) {
			/* What came free before the mark could be seen kicked nobody: look once more. */
			set_starved(cache, true);
			starved = !balance(cache);
			set_starved(cache, starved);
		}

		mutex_lock(&cache->lock);
		if (starved) {
			cond_signal(&cache->write_wake);
			cond_signal(&cache->press_wake);
		} else if (pool_available(cache) >= (ssize_t)cache->low_bytes && !cache->waiting) {
			/* What it was asked for meanwhile is done. */
			cache->reclaim_kicked = false;
		}
	}
	mutex_unlock(&cache->lock);
}

/* A little for the caller itself. The number of pages freed. */
static size_t reclaim_direct(struct cache *cache)
{
	bool progress = true;

	for (unsigned int priority = PRIORITY_FIRST; priority || progress; priority -= priority > 0) {
		size_t freed;

		progress = false;
		freed = scan_pass(cache, priority, cache->low_bytes, &progress);
		if (freed)
			return freed;
	}
	return 0;
}

struct page *reclaim_page(struct cache_space *space, bool wait)
{
	struct cache *cache = space->cache;
	struct page *page;
	uint64_t frees;

	mutex_lock(&cache->lock);
	for (;;) {
		page = pool_take(space);
		if (page)
			break;
		frees = cache->frees;
		cache->class[space->class].direct++;
		mutex_unlock(&cache->lock);
		reclaim_direct(cache);
		mutex_lock(&cache->lock);
		page = pool_take(space);
		if (page || !wait)
			break;
		/* Others were quicker: try again, unless nothing came free at all. */
		if (cache->frees != frees)
			continue;
		cache->class[space->class].stalls++;
		cache->waiting++;
		reclaim_kick(cache);
		cond_wait(&cache->freed, &cache->lock);
		cache->waiting--;
	}
	mutex_unlock(&cache->lock);
	return page;
}

bool cache_has_spare(struct cache *cache, size_t bytes)
{
	bool spare;

	mutex_lock(&cache->lock);
	spare = pool_available(cache) >= (ssize_t)(cache->min_bytes + bytes);
	mutex_unlock(&cache->lock);
	return spare;
}

void cache_drop_clean(struct cache *cache)
{
	struct page *batch[BATCH];
	bool more;

	for (int class = 0; class < CACHE_CLASSES; class++) {
		struct policy_scan scan = { .class = class, .bytes = SIZE_MAX, .all = true };
		size_t count;

		mutex_lock(&cache->lock);
		for (int queue = 0; queue < QUEUES; queue++)
			scan.pages += cache->queue_pages[queue];
		while (scan.pages && (count = policy_isolate(cache, &scan, batch, BATCH))) {
			mutex_unlock(&cache->lock);
			for (size_t i = 0; i < count; i++)
				page_reclaim(batch[i], false);
			mutex_lock(&cache->lock);
		}
		mutex_unlock(&cache->lock);
	}
	/* A little at a time: others want the lock. */
	do {
		mutex_lock(&cache->lock);
		more = pool_trim(cache, BATCH);
		mutex_unlock(&cache->lock);
	} while (more);
}
