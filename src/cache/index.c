/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The index of a space: a hash table by page index, equally quick for a file's dense pages and for the scattered
 * addresses of tree nodes, and beside it the pages that are not clean in ascending order, so that finding them never
 * passes a clean one.
 *
 * The table grows with the pages; if there is no memory for that, its chains grow instead.
 */
#include "cache_private.h"

#include <stdlib.h>
#include <string.h>

static int page_compare(struct page *a, struct page *b)
{
	return a->page.index < b->page.index ? -1 : a->page.index > b->page.index;
}

RB_GENERATE_INTERNAL(unclean_tree, page, unclean_link, page_compare, __attribute__((unused)) static)

static size_t bucket_of(const struct space_index *ix, uint64_t index)
{
	return (size_t)((index * UINT64_C(0x9e3779b97f4a7c15)) >> (64 - ix->bucket_bits));
}

static size_t bucket_count(const struct space_index *ix)
{
	return (size_t)1 << ix->bucket_bits;
}

static void charge(struct space_index *ix, ssize_t bytes)
{
	struct cache *cache = ix->space->cache;

	mutex_lock(&cache->lock);
	cache->overhead_bytes += (size_t)bytes;
	mutex_unlock(&cache->lock);
}

/* Moves all pages to `to`, which has 1 << bits empty buckets. */
static void rehash(struct space_index *ix, struct page **to, unsigned int bits)
{
	struct page **from = ix->buckets;
	size_t count = bucket_count(ix);

	ix->buckets = to;
	ix->bucket_bits = bits;
	for (size_t i = 0; i < count; i++) {
		while (from[i]) {
			struct page *page = from[i];
			struct page **bucket = &to[bucket_of(ix, page->page.index)];

			from[i] = page->chain;
			page->chain = *bucket;
			*bucket = page;
		}
	}
	if (from != ix->few) {
		free(from);
		charge(ix, -(ssize_t)(count * sizeof(*from)));
	}
}

static void resize(struct space_index *ix, unsigned int bits)
{
	size_t count = (size_t)1 << bits;
	struct page **buckets = ix->few;

	if (count > INDEX_FEW) {
		buckets = calloc(count, sizeof(*buckets));
		if (!buckets)
			return;
		charge(ix, (ssize_t)(count * sizeof(*buckets)));
	} else {
		memset(ix->few, 0, sizeof(ix->few));
	}
	rehash(ix, buckets, bits);
}

void index_init(struct space_index *ix)
{
	ix->buckets = ix->few;
	ix->bucket_bits = 2;
	RB_INIT(&ix->unclean);
}

struct page *index_find(struct space_index *ix, uint64_t index)
{
	struct page *page = ix->buckets[bucket_of(ix, index)];

	while (page && page->page.index != index)
		page = page->chain;
	return page;
}

void index_insert(struct space_index *ix, struct page *page)
{
	struct page **bucket;

	if (ix->pages >= bucket_count(ix))
		resize(ix, ix->bucket_bits + 1);
	bucket = &ix->buckets[bucket_of(ix, page->page.index)];
	page->chain = *bucket;
	*bucket = page;
	__atomic_store_n(&ix->pages, ix->pages + 1, __ATOMIC_RELAXED);
}

void index_remove(struct space_index *ix, struct page *page)
{
	struct page **at = &ix->buckets[bucket_of(ix, page->page.index)];

	while (*at != page)
		at = &(*at)->chain;
	*at = page->chain;
	__atomic_store_n(&ix->pages, ix->pages - 1, __ATOMIC_RELAXED);
}

void index_trim(struct space_index *ix)
{
	unsigned int bits = ix->bucket_bits;

	while (bits > 2 && ix->pages < ((size_t)1 << bits) / 4)
		bits--;
	if (bits < ix->bucket_bits)
		resize(ix, bits);
}

struct page *index_sweep(struct space_index *ix, uint64_t first, uint64_t last, uint32_t except, size_t *bucket)
{
	/* The place is a page's index where the range is short, else a bucket. */
	if (last - first < bucket_count(ix)) {
		for (; *bucket <= last - first; ++*bucket) {
			struct page *page = index_find(ix, first + *bucket);

			if (page && !(page->page.state & except))
				return page;
		}
		return NULL;
	}
	for (; *bucket < bucket_count(ix); ++*bucket) {
		for (struct page *page = ix->buckets[*bucket]; page; page = page->chain) {
			if (page->page.index >= first && page->page.index <= last && !(page->page.state & except))
				return page;
		}
	}
	return NULL;
}

void index_unclean(struct space_index *ix, struct page *page, bool unclean)
{
	if (unclean)
		RB_INSERT(unclean_tree, &ix->unclean, page);
	else
		RB_REMOVE(unclean_tree, &ix->unclean, page);
}

struct page *index_next_unclean(struct space_index *ix, uint64_t first, uint64_t last)
{
	struct page key = { .page.index = first };
	struct page *page = RB_NFIND(unclean_tree, &ix->unclean, &key);

	return page && page->page.index <= last ? page : NULL;
}
