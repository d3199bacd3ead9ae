/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The cache as a whole: its budget and watermarks, its threads, its counters. */
#include "cache_private.h"

#include <assert.h>
#include <stdlib.h>

#define MIB ((size_t)1 << 20)
#define BUDGET_MIN (4 * MIB)
#define PAGE_MAX 65536

static size_t percent(size_t of, unsigned int share, unsigned int otherwise)
{
	return of / 100 * (share ? share : otherwise);
}

/* `low` leaves room for a page of any size above `min`: so who must wait for memory has woken the reclaimer. */
static void set_limits(struct cache *cache, const struct cache_config *config)
{
	size_t min = config->budget_bytes / 32;

	if (min > 16 * MIB)
		min = 16 * MIB;
	cache->budget_bytes = config->budget_bytes;
	cache->floor_bytes = percent(config->budget_bytes, config->node_floor_percent, 25);
	cache->min_bytes = min;
	cache->low_bytes = min + (min / 2 > PAGE_MAX ? min / 2 : PAGE_MAX);
	cache->high_bytes = cache->low_bytes + min;
	cache->dirty_limit_bytes = percent(config->budget_bytes, config->dirty_percent, 20);
	cache->background_bytes = cache->dirty_limit_bytes / 2;
	cache->write_after_ns = config->write_after_ns ? config->write_after_ns : 5 * NSEC_PER_SEC;
}

static void stop_threads(struct cache *cache, int started)
{
	struct thread *threads[] = { &cache->reclaimer, &cache->writer, &cache->presser };

	mutex_lock(&cache->lock);
	cache->stop = true;
	cond_signal(&cache->reclaim_wake);
	cond_signal(&cache->write_wake);
	cond_signal(&cache->press_wake);
	mutex_unlock(&cache->lock);
	for (int i = 0; i < started; i++)
		thread_join(threads[i]);
}

static bool start_threads(struct cache *cache)
{
	int started = 0;

	if (!thread_start(&cache->reclaimer, "cache-reclaim", reclaim_run, cache))
		started++;
	if (started == 1 && !thread_start(&cache->writer, "cache-write", writeback_run, cache))
		started++;
	if (started == 2 && !thread_start(&cache->presser, "cache-press", pressure_run, cache))
		return true;
	stop_threads(cache, started);
	return false;
}

static void free_cache(struct cache *cache)
{
	pool_fini(cache);
	policy_fini(cache);
	cond_fini(&cache->press_wake);
	cond_fini(&cache->write_wake);
	cond_fini(&cache->reclaim_wake);
	cond_fini(&cache->settled);
	cond_fini(&cache->freed);
	mutex_fini(&cache->lock);
	free(cache);
}

struct cache *cache_create(const struct cache_config *config)
{
	struct cache *cache = calloc(1, sizeof(*cache));

	assert(config->budget_bytes >= BUDGET_MIN);
	if (!cache)
		return NULL;
	mutex_init(&cache->lock, RANK_CACHE_POLICY);
	cond_init(&cache->freed);
	cond_init(&cache->settled);
	cond_init(&cache->reclaim_wake);
	cond_init(&cache->write_wake);
	cond_init(&cache->press_wake);
	TAILQ_INIT(&cache->dirty);
	TAILQ_INIT(&cache->soon);
	TAILQ_INIT(&cache->planned);
	set_limits(cache, config);
	cache->overhead_bytes = sizeof(*cache);
	if (policy_init(cache) || !start_threads(cache)) {
		free_cache(cache);
		return NULL;
	}
	return cache;
}

void cache_destroy(struct cache *cache)
{
	if (!cache)
		return;
	assert(!cache->spaces);
	stop_threads(cache, 3);
	free_cache(cache);
}

/* What owners keep counts up to a quarter of the budget: pages must always have room to come and go. */
static size_t charge_counts(const struct cache *cache)
{
	size_t most = cache->budget_bytes / 4;

	return cache->charged_bytes < most ? cache->charged_bytes : most;
}

void cache_charge(struct cache *cache, ssize_t bytes)
{
	mutex_lock(&cache->lock);
	cache->overhead_bytes -= charge_counts(cache);
	cache->charged_bytes += (size_t)bytes;
	cache->overhead_bytes += charge_counts(cache);
	reclaim_kick(cache);
	mutex_unlock(&cache->lock);
}

void cache_stats(struct cache *cache, struct cache_stats *stats)
{
	mutex_lock(&cache->lock);
	*stats = (struct cache_stats){
		.budget_bytes = cache->budget_bytes,
		.used_bytes = cache->overhead_bytes,
		.beyond_bytes = cache->charged_bytes - charge_counts(cache),
		.resident_bytes = cache->resident_bytes + cache->overhead_bytes,
		.min_bytes = cache->min_bytes,
		.low_bytes = cache->low_bytes,
		.high_bytes = cache->high_bytes,
		.wakeups = cache->wakeups,
		.throttled = cache->throttled,
		.slowed = cache->slowed,
	};
	for (int i = 0; i < CACHE_CLASSES; i++) {
		const struct cache_counts *counts = &cache->class[i];

		stats->used_bytes += counts->bytes;
		stats->class[i].pages = counts->pages;
		stats->class[i].bytes = counts->bytes;
		stats->class[i].dirty = counts->dirty;
		stats->class[i].writing = counts->writing;
		stats->class[i].hits = __atomic_load_n(&counts->hits, __ATOMIC_RELAXED);
		stats->class[i].misses = __atomic_load_n(&counts->misses, __ATOMIC_RELAXED);
		stats->class[i].passed = __atomic_load_n(&counts->passed, __ATOMIC_RELAXED);
		stats->class[i].refaults = counts->refaults;
		stats->class[i].scanned = counts->scanned;
		stats->class[i].stolen = counts->stolen;
		stats->class[i].stalls = counts->stalls;
		stats->class[i].direct = counts->direct;
	}
	mutex_unlock(&cache->lock);
}
