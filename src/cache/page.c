/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The life of a page.
 *
 *   cache_get()                     FILLING   new, in the index, on no queue
 *   cache_filled(0)                 clean     queued: the reclaimer may take it once it has no user
 *   cache_filled(error)             GONE      out of the index, freed with its last reference
 *   cache_dirty()                   DIRTY     off its queue, in the ordered tree of the space
 *   handed to write                 WRITING   likewise; referenced by the write
 *   cache_dirty() meanwhile         DIRTY | WRITING
 *   cache_written(0)                clean, or DIRTY where it was dirtied meanwhile
 *   cache_written(error)            DIRTY
 *   page_reclaim()                  freed     only from clean and without users
 *   cache_drop_range()              GONE      from clean or DIRTY; waits for the end of FILLING and WRITING
 */
#include "cache_private.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

void page_set(struct page *page, uint32_t clear, uint32_t set)
{
	/* Atomic for those who read it under a mere reference. */
	__atomic_store_n(&page->page.state, (page->page.state & ~clear) | set, __ATOMIC_RELEASE);
}

static void page_free(struct space_index *ix, struct page *page)
{
	struct cache *cache = ix->space->cache;

	mutex_lock(&cache->lock);
	pool_give(page);
	mutex_unlock(&cache->lock);
	ix->live--;
	cond_broadcast(&ix->changed);
}

void page_unref(struct space_index *ix, struct page *page)
{
	if (__atomic_sub_fetch(&page->page.refs, 1, __ATOMIC_SEQ_CST) == 0)
		page_free(ix, page);
}

void page_drop(struct space_index *ix, struct page *page)
{
	struct cache *cache = ix->space->cache;
	bool dirty = page->page.state & CACHE_DIRTY;

	assert(!(page->page.state & (CACHE_WRITING | CACHE_GONE)));
	index_remove(ix, page);
	if (dirty) {
		index_unclean(ix, page, false);
		ix->ready--;
	}
	mutex_lock(&cache->lock);
	policy_remove(page);
	if (dirty)
		writeback_account(ix, -1, 0, -1);
	mutex_unlock(&cache->lock);
	page_set(page, CACHE_DIRTY | CACHE_FILLING, CACHE_GONE);
	if (ix->space->ops->evict)
		ix->space->ops->evict(ix->space, &page->page);
	page_unref(ix, page);
}

bool page_unused(const struct page *page)
{
	/* The index's reference and the caller's: nobody else has one, and none can come while the lock is held. */
	return __atomic_load_n(&page->page.refs, __ATOMIC_SEQ_CST) == 2;
}

bool page_reclaim(struct page *page, bool remember)
{
	struct space_index *ix = index_of(page);
	struct cache *cache = cache_of(page);
	bool ours;

	mutex_lock(&ix->lock);
	ours = page->page.state == 0 && page_unused(page);
	if (ours) {
		mutex_lock(&cache->lock);
		if (remember) {
			policy_evicted(page);
			cache->class[ix->space->class].stolen++;
		}
		mutex_unlock(&cache->lock);
		page_drop(ix, page);
		index_trim(ix);
	} else if (page->page.state == 0) {
		mutex_lock(&cache->lock);
		if (!page->queued) /* it may have been dirty and clean again since it was isolated */
			policy_insert(page, POLICY_ROTATE);
		mutex_unlock(&cache->lock);
	}
	page_unref(ix, page);
	mutex_unlock(&ix->lock);
	return ours;
}

/* Puts new memory into the index as the caller's to fill. */
static void page_start(struct space_index *ix, struct page *page, uint64_t index)
{
	struct cache *cache = ix->space->cache;

	page->page.index = index;
	page->page.state = CACHE_FILLING;
	__atomic_store_n(&page->page.refs, 2, __ATOMIC_SEQ_CST);
	index_insert(ix, page);
	ix->live++;
	mutex_lock(&cache->lock);
	policy_arrive(page);
	mutex_unlock(&cache->lock);
	__atomic_add_fetch(&cache->class[ix->space->class].misses, 1, __ATOMIC_RELAXED);
}

/* A page that was found: 0 and a reference, -EAGAIN, the error of its fill, or 1: look again. May wait. */
static int page_join(struct space_index *ix, struct page *page, bool wait)
{
	struct cache *cache = ix->space->cache;
	int error;

	if (page->page.state & CACHE_FILLING && !wait)
		return -EAGAIN;
	cache_ref(&page->page);
	while (page->page.state & CACHE_FILLING)
		cond_wait(&ix->changed, &ix->lock);
	if (!(page->page.state & CACHE_GONE)) {
		policy_hit(page);
		__atomic_add_fetch(&cache->class[ix->space->class].hits, 1, __ATOMIC_RELAXED);
		return 0;
	}
	error = page->error;
	page_unref(ix, page);
	return error ? error : 1;
}

static struct page *page_memory(struct space_index *ix)
{
	struct cache *cache = ix->space->cache;
	struct page *page;

	mutex_lock(&cache->lock);
	page = pool_take(ix->space);
	mutex_unlock(&cache->lock);
	return page;
}

int cache_get(struct cache_space *space, uint64_t index, bool create, bool wait, struct cache_page **result)
{
	struct space_index *ix = space->index;
	struct page *page, *spare = NULL;
	int error;

	mutex_lock(&ix->lock);
	for (;;) {
		page = index_find(ix, index);
		if (page) {
			error = page_join(ix, page, wait);
			if (error != 1)
				break;
			continue;
		}
		error = -ENOENT;
		if (!create)
			break;
		if (!spare)
			spare = page_memory(ix);
		if (spare) {
			page = spare;
			spare = NULL;
			page_start(ix, page, index);
			error = 1;
			break;
		}
		mutex_unlock(&ix->lock);
		spare = reclaim_page(space, wait);
		mutex_lock(&ix->lock);
		error = -EAGAIN;
		if (!spare)
			break;
	}
	mutex_unlock(&ix->lock);
	if (spare) {
		mutex_lock(&space->cache->lock);
		pool_give(spare);
		mutex_unlock(&space->cache->lock);
	}
	*result = error >= 0 ? &page->page : NULL;
	return error;
}

size_t cache_gap(struct cache_space *space, uint64_t index, size_t most)
{
	struct space_index *ix = space->index;
	size_t count = 0;

	mutex_lock(&ix->lock);
	while (count < most && !index_find(ix, index + count))
		count++;
	mutex_unlock(&ix->lock);
	return count;
}

bool cache_pass(struct cache_space *space, uint64_t index, size_t count)
{
	struct cache *cache = space->cache;
	struct cache_counts *counts = &cache->class[space->class];
	bool past;

	mutex_lock(&cache->lock);
	past = policy_pass(space->index, index, count);
	mutex_unlock(&cache->lock);
	if (past) {
		__atomic_add_fetch(&counts->misses, count, __ATOMIC_RELAXED);
		__atomic_add_fetch(&counts->passed, count, __ATOMIC_RELAXED);
	}
	return past;
}

void cache_filled(struct cache_page *page, int error)
{
	struct page *filled = page_of(page);
	struct space_index *ix = page->space->index;
	struct cache *cache = page->space->cache;

	mutex_lock(&ix->lock);
	assert(page->state & CACHE_FILLING);
	if (error) {
		filled->error = error == -EAGAIN ? 0 : error;
		page_drop(ix, filled);
	} else {
		page_set(filled, CACHE_FILLING, 0);
		mutex_lock(&cache->lock);
		policy_insert(filled, POLICY_FILLED);
		mutex_unlock(&cache->lock);
	}
	cond_broadcast(&ix->changed);
	mutex_unlock(&ix->lock);
}

void cache_ref(struct cache_page *page)
{
	uint32_t before = __atomic_fetch_add(&page->refs, 1, __ATOMIC_SEQ_CST);

	assert(before > 0);
	(void)before;
}

void cache_put(struct cache_page *page)
{
	struct cache *cache;
	struct space_index *ix;
	uint32_t refs;

	if (!page)
		return;
	cache = page->space->cache;
	ix = page->space->index;
	/* The last reference goes under the space's lock, so that cache_space_fini() cannot overtake it. */
	refs = __atomic_load_n(&page->refs, __ATOMIC_SEQ_CST);
	while (refs > 1) {
		if (!__atomic_compare_exchange_n(&page->refs, &refs, refs - 1, false, __ATOMIC_SEQ_CST,
						 __ATOMIC_SEQ_CST))
			continue;
		if (refs == 2)
			reclaim_unpinned(cache);
		return;
	}
	mutex_lock(&ix->lock);
	page_unref(ix, page_of(page));
	mutex_unlock(&ix->lock);
}

void cache_dirty(struct cache_page *page)
{
	struct page *dirty = page_of(page);
	struct space_index *ix = page->space->index;
	struct cache *cache = page->space->cache;
	bool writing;

	mutex_lock(&ix->lock);
	assert(!(page->state & CACHE_FILLING));
	/* Dirty data without a writer would be throttled for ever. */
	assert(page->space->ops->write || page->space->class == CACHE_NODES);
	/* Dropped meanwhile, by truncation: its content no longer belongs to the space. */
	if (page->state & (CACHE_DIRTY | CACHE_GONE)) {
		mutex_unlock(&ix->lock);
		return;
	}
	writing = page->state & CACHE_WRITING;
	page_set(dirty, 0, CACHE_DIRTY);
	if (!writing) {
		index_unclean(ix, dirty, true);
		ix->ready++;
	}
	mutex_lock(&cache->lock);
	policy_remove(dirty);
	writeback_account(ix, 1, 0, !writing);
	mutex_unlock(&cache->lock);
	mutex_unlock(&ix->lock);
}

bool cache_range_dirty(struct cache_space *space, uint64_t first, uint64_t last)
{
	struct space_index *ix = space->index;
	bool unclean;

	mutex_lock(&ix->lock);
	unclean = index_next_unclean(ix, first, last);
	mutex_unlock(&ix->lock);
	return unclean;
}

size_t cache_space_pages(const struct cache_space *space)
{
	return __atomic_load_n(&space->index->pages, __ATOMIC_RELAXED);
}

size_t cache_dirty_pages(const struct cache_space *space)
{
	return __atomic_load_n(&space->dirty, __ATOMIC_RELAXED);
}

/* Waits until the page is neither filled nor written. Space's lock held, given up meanwhile. */
static void settle(struct space_index *ix, struct page *page)
{
	cache_ref(&page->page);
	while (page->page.state & (CACHE_FILLING | CACHE_WRITING))
		cond_wait(&ix->changed, &ix->lock);
	page_unref(ix, page);
}

void cache_drop_range(struct cache_space *space, uint64_t first, uint64_t last)
{
	struct space_index *ix = space->index;
	struct page *page;
	size_t place;

	mutex_lock(&ix->lock);
	do {
		place = 0;
		while ((page = index_sweep(ix, first, last, CACHE_FILLING | CACHE_WRITING, &place)))
			page_drop(ix, page);
		place = 0;
		page = index_sweep(ix, first, last, 0, &place);
		if (page)
			settle(ix, page);
	} while (page);
	index_trim(ix);
	mutex_unlock(&ix->lock);
}

int cache_space_init(struct cache *cache, struct cache_space *space, enum cache_class class, size_t page_bytes,
		     const struct cache_space_ops *ops, void *context)
{
	struct space_index *ix = calloc(1, sizeof(*ix));
	int error;

	assert(page_bytes >= 4096 && page_bytes <= 65536 && !(page_bytes & (page_bytes - 1)));
	if (!ix)
		return -ENOMEM;
	*space = (struct cache_space){
		.cache = cache,
		.ops = ops,
		.context = context,
		.class = class,
		.page_bytes = page_bytes,
		.index = ix,
	};
	ix->space = space;
	mutex_init(&ix->lock, RANK_CACHE);
	cond_init(&ix->changed);
	index_init(ix);
	mutex_lock(&cache->lock);
	error = pool_prepare(cache, page_bytes);
	ix->serial = ++cache->serials;
	if (!error)
		cache->spaces++;
	mutex_unlock(&cache->lock);
	if (error) {
		cond_fini(&ix->changed);
		mutex_fini(&ix->lock);
		free(ix);
	} else {
		cache_charge(cache, sizeof(*ix));
	}
	return error;
}

void cache_space_fini(struct cache_space *space)
{
	struct space_index *ix = space->index;
	struct cache *cache = space->cache;

	cache_drop_range(space, 0, UINT64_MAX);
	/* The reclaimer may still hold what it isolated; nobody else should. */
	mutex_lock(&ix->lock);
	while (ix->live)
		cond_wait(&ix->changed, &ix->lock);
	mutex_unlock(&ix->lock);
	mutex_lock(&cache->lock);
	while (ix->busy)
		cond_wait(&cache->settled, &cache->lock);
	cache->spaces--;
	mutex_unlock(&cache->lock);
	cond_fini(&ix->changed);
	mutex_fini(&ix->lock);
	free(ix);
	cache_charge(cache, -(ssize_t)sizeof(*ix));
	space->index = NULL;
}
