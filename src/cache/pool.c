/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The memory of pages: resident memory never exceeds the budget, and pages of different sizes cannot fragment it.
 *
 * Each page size has an arena: address space for as many pages as the whole budget holds, of which only the slots in
 * use have memory. A freed slot stays warm; when another size needs its memory, the slot is given back to the system
 * (cold). All sizes are multiples of the system's page, so free bytes are free for any of them, and "enough is free"
 * proves that the next allocations of every size succeed.
 *
 * A slot's struct page is charged to the budget when the slot is first used, and stays.
 */
#include "cache_private.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

static struct arena *arena_of(struct cache *cache, size_t page_bytes)
{
	struct arena *arena = cache->arenas;

	for (size_t size = 4096; size < page_bytes; size *= 2)
		arena++;
	return arena;
}

static void *reserve(size_t bytes)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (at == MAP_FAILED)
		return NULL;
	/* A huge page would be resident as a whole for one slot; where the system has none, that is as good. */
	(void)madvise(at, bytes, MADV_NOHUGEPAGE);
	return at;
}

int pool_prepare(struct cache *cache, size_t page_bytes)
{
	struct arena *arena = arena_of(cache, page_bytes);

	if (arena->slots)
		return 0;
	arena->page_bytes = page_bytes;
	arena->data = reserve(cache->budget_bytes);
	if (!arena->data)
		return -ENOMEM;
	arena->pages = reserve(cache->budget_bytes / page_bytes * sizeof(struct page));
	if (!arena->pages) {
		munmap(arena->data, cache->budget_bytes);
		return -ENOMEM;
	}
	arena->slots = cache->budget_bytes / page_bytes;
	return 0;
}

void pool_fini(struct cache *cache)
{
	for (int i = 0; i < ARENAS; i++) {
		struct arena *arena = &cache->arenas[i];

		if (!arena->slots)
			continue;
		munmap(arena->data, cache->budget_bytes);
		munmap(arena->pages, arena->slots * sizeof(struct page));
	}
}

ssize_t pool_available(const struct cache *cache)
{
	size_t nodes = cache->class[CACHE_NODES].bytes;

	if (nodes < cache->floor_bytes)
		nodes = cache->floor_bytes;
	return (ssize_t)cache->budget_bytes -
	       (ssize_t)(cache->overhead_bytes + cache->class[CACHE_DATA].bytes + nodes);
}

static bool pool_has(const struct cache *cache, enum cache_class class, size_t page_bytes)
{
	size_t used = cache->overhead_bytes + cache->class[CACHE_DATA].bytes + cache->class[CACHE_NODES].bytes;

	if (class == CACHE_DATA)
		return pool_available(cache) >= (ssize_t)(cache->min_bytes + page_bytes);
	return used + page_bytes <= cache->budget_bytes;
}

static void chill(struct cache *cache, struct arena *arena)
{
	struct page *page = arena->warm;

	arena->warm = page->chain;
	page->chain = arena->cold;
	arena->cold = page;
	(void)madvise(page->page.data, arena->page_bytes, MADV_DONTNEED);
	cache->resident_bytes -= arena->page_bytes;
}

/* Warm slots of other sizes give their memory until `bytes` more fit. */
static void make_room(struct cache *cache, size_t bytes)
{
	for (int i = 0; i < ARENAS; i++) {
		struct arena *arena = &cache->arenas[i];

		while (arena->warm && cache->resident_bytes + cache->overhead_bytes + bytes > cache->budget_bytes)
			chill(cache, arena);
	}
}

bool pool_trim(struct cache *cache, size_t max)
{
	for (int i = 0; i < ARENAS; i++) {
		for (; cache->arenas[i].warm && max; max--)
			chill(cache, &cache->arenas[i]);
	}
	return !max;
}

static struct page *take_slot(struct cache *cache, struct arena *arena)
{
	struct page *page = arena->warm;

	if (page) {
		arena->warm = page->chain;
		return page;
	}
	page = arena->cold;
	if (page) {
		arena->cold = page->chain;
	} else {
		assert(arena->fresh < arena->slots);
		page = &arena->pages[arena->fresh];
		page->page.data = arena->data + arena->fresh * arena->page_bytes;
		arena->fresh++;
		cache->overhead_bytes += sizeof(*page);
	}
	make_room(cache, arena->page_bytes);
	cache->resident_bytes += arena->page_bytes;
	return page;
}

struct page *pool_take(struct cache_space *space)
{
	struct cache *cache = space->cache;
	struct cache_counts *counts = &cache->class[space->class];
	struct page *page = NULL;

	if (pool_has(cache, space->class, space->page_bytes)) {
		page = take_slot(cache, arena_of(cache, space->page_bytes));
		counts->pages++;
		counts->bytes += space->page_bytes;
		page->page.space = space;
		page->page.owner = NULL;
		page->page.state = 0;
		page->page.refs = 0;
		page->error = 0;
		page->ticket = 0;
		page->uses = 0;
		page->queued = false;
	}
	reclaim_kick(cache);
	return page;
}

void pool_give(struct page *page)
{
	struct cache *cache = cache_of(page);
	struct arena *arena = arena_of(cache, page->page.space->page_bytes);
	struct cache_counts *counts = &cache->class[page->page.space->class];

	counts->pages--;
	counts->bytes -= page->page.space->page_bytes;
	page->chain = arena->warm;
	arena->warm = page;
	/* Bookkeeping may have grown into memory that this page had. */
	make_room(cache, 0);
	cache->frees++;
	if (cache->waiting)
		cond_broadcast(&cache->freed);
}
