/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which page leaves first.
 *
 * Data, S3-FIFO: a page enters a small queue (a tenth of the data). At its end it moves to the main queue if it was
 * used more than once there, else it goes and leaves its key as a ghost; a page that misses while its ghost is
 * remembered enters the main queue at once. The main queue is a clock: a used page goes round again with one use
 * less. So a scan passes through the small queue alone.
 *
 * Nodes: a clock of their own.
 *
 * A hit bumps a counter in the page and does nothing else. Only clean pages are queued. A page that was written re-
 * enters cold, next to go, unless it was used meanwhile or had earned its place in the main queue before.
 */
#include "cache_private.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define USES_MAX 3
#define SMALL_SHARE 10 /* the small queue is one such part of the queued data */
#define GHOST_WAYS 4

/*
 * Keys of evicted pages: a hash with room for about as many as the main queue has pages. A key counts while fewer
 * evictions than that have followed. A false match costs a page one undeserved round.
 */
struct ghost {
	uint32_t now; /* evictions */
	uint32_t lifetime;
	uint64_t set_mask;
	struct {
		uint32_t tag; /* 0: empty */
		uint32_t when;
	} keys[];
};

int policy_init(struct cache *cache)
{
	size_t pages = cache->budget_bytes / 4096;
	size_t sets = 1;
	size_t bytes;

	while (sets * GHOST_WAYS < pages)
		sets *= 2;
	bytes = sizeof(*cache->ghost) + sets * GHOST_WAYS * sizeof(cache->ghost->keys[0]);
	cache->ghost = calloc(1, bytes);
	if (!cache->ghost)
		return -ENOMEM;
	cache->ghost->lifetime = (uint32_t)(pages - pages / SMALL_SHARE);
	cache->ghost->set_mask = sets - 1;
	cache->overhead_bytes += bytes;
	for (int i = 0; i < QUEUES; i++)
		TAILQ_INIT(&cache->queues[i]);
	return 0;
}

void policy_fini(struct cache *cache)
{
	free(cache->ghost);
}

static uint64_t ghost_key(const struct space_index *ix, uint64_t index)
{
	uint64_t key = (index + 1) * UINT64_C(0x9e3779b97f4a7c15) ^ ix->serial;

	key = (key ^ key >> 32) * UINT64_C(0xd6e8feb86659fd93);
	return key ^ key >> 32;
}

static uint32_t ghost_tag(uint64_t key)
{
	return (uint32_t)(key >> 32) | 1;
}

static void ghost_remember(struct ghost *ghost, uint64_t key)
{
	size_t at = (key & ghost->set_mask) * GHOST_WAYS;
	size_t oldest = at;

	for (size_t i = at; i < at + GHOST_WAYS; i++) {
		if (!ghost->keys[i].tag) {
			oldest = i;
			break;
		}
		if (ghost->now - ghost->keys[i].when > ghost->now - ghost->keys[oldest].when)
			oldest = i;
	}
	ghost->keys[oldest].tag = ghost_tag(key);
	ghost->keys[oldest].when = ghost->now++;
}

/* Takes the key out: a page has one ghost at most. */
static bool ghost_recall(struct ghost *ghost, uint64_t key)
{
	size_t at = (key & ghost->set_mask) * GHOST_WAYS;

	for (size_t i = at; i < at + GHOST_WAYS; i++) {
		if (ghost->keys[i].tag != ghost_tag(key))
			continue;
		ghost->keys[i].tag = 0;
		return ghost->now - ghost->keys[i].when <= ghost->lifetime;
	}
	return false;
}

void policy_arrive(struct page *page)
{
	struct cache *cache = cache_of(page);
	enum cache_class class = page->page.space->class;
	bool refault = ghost_recall(cache->ghost, ghost_key(index_of(page), page->page.index));

	if (refault)
		cache->class[class].refaults++;
	if (class == CACHE_NODES) {
		page->queue = QUEUE_NODES;
		page->uses = refault ? USES_MAX : 1;
	} else {
		page->queue = refault ? QUEUE_MAIN : QUEUE_SMALL;
		page->uses = 0;
	}
}

/* One ghost for all of them: who reads them again begins at the same place. They pass as if they had been evicted. */
bool policy_pass(struct space_index *ix, uint64_t index, size_t count)
{
	struct ghost *ghost = ix->space->cache->ghost;
	uint64_t key = ghost_key(ix, index);

	if (ghost_recall(ghost, key))
		return false;
	ghost_remember(ghost, key);
	ghost->now += (uint32_t)count - 1;
	return true;
}

static void enqueue(struct cache *cache, struct page *page, bool cold)
{
	assert(!page->queued);
	if (cold)
		TAILQ_INSERT_TAIL(&cache->queues[page->queue], page, queue_link);
	else
		TAILQ_INSERT_HEAD(&cache->queues[page->queue], page, queue_link);
	cache->queue_pages[page->queue]++;
	page->queued = true;
}

static void dequeue(struct cache *cache, struct page *page)
{
	assert(page->queued);
	TAILQ_REMOVE(&cache->queues[page->queue], page, queue_link);
	cache->queue_pages[page->queue]--;
	page->queued = false;
}

void policy_insert(struct page *page, enum policy_entry entry)
{
	struct cache *cache = cache_of(page);
	uint8_t uses = __atomic_load_n(&page->uses, __ATOMIC_RELAXED);

	enqueue(cache, page, entry == POLICY_WRITTEN && page->queue == QUEUE_SMALL && !uses);
	if (reclaim_starved(cache))
		reclaim_kick(cache);
}

void policy_remove(struct page *page)
{
	if (page->queued)
		dequeue(cache_of(page), page);
}

void policy_evicted(struct page *page)
{
	if (page->queue != QUEUE_MAIN)
		ghost_remember(cache_of(page)->ghost, ghost_key(index_of(page), page->page.index));
}

void policy_hit(struct page *page)
{
	uint8_t uses = __atomic_load_n(&page->uses, __ATOMIC_RELAXED);
	/* The pieces of one burst of writes are one use, else a slow append would fill the main queue. */
	uint8_t most = page->page.state & CACHE_DIRTY ? 1 : USES_MAX;

	if (uses < most)
		__atomic_store_n(&page->uses, uses + 1, __ATOMIC_RELAXED);
}

static struct page *tail(struct cache *cache, enum cache_class class)
{
	size_t small = cache->queue_pages[QUEUE_SMALL], main = cache->queue_pages[QUEUE_MAIN];
	enum queue_name queue = QUEUE_NODES;

	if (class == CACHE_DATA)
		queue = !main || small * SMALL_SHARE > small + main ? QUEUE_SMALL : QUEUE_MAIN;
	return TAILQ_LAST(&cache->queues[queue], page_queue);
}

/* What is due to the page at the end of its queue: true if that is to go. */
static bool judge(struct cache *cache, struct page *page, struct policy_scan *scan)
{
	uint8_t uses = __atomic_load_n(&page->uses, __ATOMIC_RELAXED);
	bool pinned = __atomic_load_n(&page->page.refs, __ATOMIC_SEQ_CST) > 1;

	if (!pinned && (scan->all || uses == 0 || (page->queue == QUEUE_SMALL && uses == 1)))
		return true;
	dequeue(cache, page);
	if (page->queue == QUEUE_SMALL && uses > 1) {
		page->queue = QUEUE_MAIN;
		__atomic_store_n(&page->uses, 0, __ATOMIC_RELAXED);
		scan->progress = true;
	} else if (uses && !pinned) {
		/* A hit that slips in between is lost: it is a hint, not a count. */
		__atomic_store_n(&page->uses, uses - 1, __ATOMIC_RELAXED);
		scan->progress = true;
	}
	enqueue(cache, page, false);
	return false;
}

size_t policy_isolate(struct cache *cache, struct policy_scan *scan, struct page **pages, size_t max)
{
	size_t count = 0;

	while (count < max && scan->pages) {
		struct page *page = tail(cache, scan->class);

		if (!page || page->page.space->page_bytes > scan->bytes)
			break;
		scan->pages--;
		cache->class[scan->class].scanned++;
		if (!judge(cache, page, scan))
			continue;
		dequeue(cache, page);
		__atomic_add_fetch(&page->page.refs, 1, __ATOMIC_SEQ_CST);
		scan->bytes -= page->page.space->page_bytes;
		pages[count++] = page;
	}
	if (count < max)
		scan->pages = 0; /* the queue or what may be taken from it is at its end */
	return count;
}
