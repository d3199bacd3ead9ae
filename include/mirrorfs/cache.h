/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cache: pages of file data and tree nodes under one budget, dirty tracking, the reclaimer and the writer.
 *
 * A page belongs to a space (a file, or the tree) and has an index there. Whoever misses fills the page itself: the
 * cache knows no storage. Writing is asked for through the operations that the space's owner hands in.
 *
 * The reclaimer is a thread of its own in the manner of kswapd: it wakes below the low watermark and sleeps at the
 * high one, its passes are bounded, and it never waits for I/O (I10): a dirty page at the tail is handed to the
 * writer, another thread. An allocation below min reclaims a little itself, then waits on the queue that freeing
 * wakes. Written-back data re-enters cold; nodes have a floor that data cannot take.
 *
 * No deadlock at any budget, as long as owners answer writes and keep three rules. A thread that asks for a page with
 * `wait` holds few others (a tree's path, not a request's worth; the rest it asks for without `wait`). It holds no lock
 * that a `write` or `pressure` needs to get on. And an owner whose writes fail for good drops its dirty pages:
 * nothing else frees them.
 *
 * Locks: all calls may be made under RANK_FS_* and RANK_META_* locks unless they say that they may wait for I/O.
 */
#ifndef MIRRORFS_CACHE_H
#define MIRRORFS_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct cache;
struct cache_space;

enum cache_class { CACHE_DATA, CACHE_NODES, CACHE_CLASSES };

/* Page states, for `state`; changed by the cache alone. */
#define CACHE_FILLING 1u /* one thread fills it, others wait */
#define CACHE_DIRTY 2u
#define CACHE_WRITING 4u /* handed to the owner's `write`, not yet reported by cache_written() */
#define CACHE_GONE 8u /* dropped from its space; freed with its last reference */

struct cache_page {
	unsigned char *data; /* of the space's page size; aligned to 4096; undefined when new */
	uint64_t index;
	struct cache_space *space;
	void *owner; /* the space owner's own; NULL when new */
	/* the cache's own */
	uint32_t state;
	uint32_t refs;
};

#define CACHE_WRITE_SPACES 64u

struct cache_space_ops {
	/*
	 * Write `count` dirty pages: those of a space stand together, ascending by index, neighbours where there were
	 * any. Those of spaces that have few come in one call, up to CACHE_WRITE_SPACES with these operations. They are
	 * referenced and WRITING; the owner must answer each with cache_written(), now or later, from any thread. The
	 * owner copies a page's bytes before it returns or keeps writers off it by locks of its own: a page may be
	 * dirtied again while WRITING and is then written again. Called on the writer thread and by
	 * cache_write_range() and cache_write_all(); may wait for I/O. NULL: pages of this space are written by their
	 * owner's own plan (checkpoints): then `pressure` is called. Data that becomes dirty has a `write`. Calls for a
	 * space may overlap.
	 */
	void (*write)(struct cache_page **pages, size_t count);
	/*
	 * Dirty pages of this space keep others from memory, or fill a third of the budget: have them written. Called
	 * on a thread of its own, as the writer may wait for this owner; may wait for I/O. It is called again, ever
	 * more slowly, while that changed nothing.
	 */
	void (*pressure)(struct cache_space *space);
	/*
	 * A page leaves memory (reclaimed or dropped): the owner forgets page->owner. Called under RANK_CACHE, on any
	 * thread that needs memory: must not wait or call the cache. May be NULL.
	 */
	void (*evict)(struct cache_space *space, struct cache_page *page);
};

/* Embedded in its owner (an inode, the tree). Fields are the cache's own. */
struct cache_space {
	struct cache *cache;
	const struct cache_space_ops *ops;
	void *context; /* the owner's */
	enum cache_class class;
	size_t page_bytes;
	size_t dirty;
	struct space_index *index;
};

struct cache_config {
	size_t budget_bytes; /* pages with their bookkeeping; at least 4 MiB */
	unsigned int node_floor_percent; /* of the budget, not to be taken by data; 25 */
	unsigned int dirty_percent; /* data: writers are throttled above it; background writing at half of it; 20 */
	uint64_t write_after_ns; /* dirty data older than this is written; 0: 5 s */
};

/*
 * Memory that an owner keeps beside its pages, and that grows with use, counts against the budget: so much more of it,
 * or less. It takes no more than a quarter of the budget from pages, however much it is: what it is beyond that comes
 * on top of the budget, see cache_stats.
 */
void cache_charge(struct cache *cache, ssize_t bytes);

/* Starts the reclaimer and the writer. NULL: no memory. */
struct cache *cache_create(const struct cache_config *config);
/* All spaces must have been finished. */
void cache_destroy(struct cache *cache);

/* `page_bytes`: 4096 .. 65536, a power of two. 0 or -ENOMEM. */
int cache_space_init(struct cache *cache, struct cache_space *space, enum cache_class class, size_t page_bytes,
		     const struct cache_space_ops *ops, void *context);
/*
 * Drops every page, dirty ones too (the owner has written what it wanted). Waits for pages being filled or written and
 * for a `write` or `pressure` that runs (so not to be called from these). No page may be referenced by the caller.
 */
void cache_space_fini(struct cache_space *space);

/*
 * The page at `index`, referenced.
 *   0        *page holds valid data
 *   1        *page is new or was emptied, FILLING, and the caller's to fill: call cache_filled() soon
 *   -ENOENT  not there, and `create` is false
 *   -EAGAIN  memory is short or another thread fills it, and `wait` is false
 *   other    what another thread's cache_filled() said while this one waited
 * With `wait` it may wait for memory and for another's fill (hence for I/O).
 */
int cache_get(struct cache_space *space, uint64_t index, bool create, bool wait, struct cache_page **page);
/* How many pages from `index` on, up to `most`, are not there: 0 if it is, or is being filled. */
size_t cache_gap(struct cache_space *space, uint64_t index, size_t most);
/*
 * `count` pages from `index` on, which are not there, are wanted once, by someone who keeps them himself. True: read
 * them past the cache; they count as missed. False: they were so not long ago, so he has not kept them: fill pages.
 */
bool cache_pass(struct cache_space *space, uint64_t index, size_t count);
/*
 * Ends FILLING. error 0: valid. Else the page is dropped and those who wait get `error`; -EAGAIN: they look again, and
 * one of them fills it. The reference stays.
 */
void cache_filled(struct cache_page *page, int error);
void cache_ref(struct cache_page *page);
void cache_put(struct cache_page *page); /* NULL is allowed */

/* The page (referenced, valid) has new content that storage lacks. */
void cache_dirty(struct cache_page *page);
/*
 * The owner's answer for a page that was handed to `write`, or that the owner wrote by its own plan
 * (cache_write_begin); ends the reference that goes with WRITING. error 0: clean unless dirtied again meanwhile; else
 * it stays dirty and is tried again by age.
 */
void cache_written(struct cache_page *page, int error);
/* An owner with a plan of its own takes a dirty page into WRITING. False: not dirty, or being written already. */
bool cache_write_begin(struct cache_page *page);

/*
 * Before making pages dirty, with no page referenced: waits while too much is dirty, and for some milliseconds while
 * that is near. May wait for I/O. Returns although too much is dirty when writes fail: then waiting would not end.
 */
void cache_throttle(struct cache *cache);

/*
 * Has all dirty pages with first <= index <= last written through ops->write on this thread, and waits until they
 * and those already being written are answered. 0 or the first error answered. May wait for I/O.
 */
int cache_write_range(struct cache_space *space, uint64_t first, uint64_t last);
/*
 * The same for all of a space. If that is little, it goes together with what is little of those that became dirty next:
 * whoever asks for one after the other waits once for many.
 */
int cache_write_space(struct cache_space *space);
/*
 * What is dirty of the space is written by the cache's writer without regard to age, and leaves the cache with that,
 * but for the last page and what is used meanwhile: more is to come, and then it would be in the way. Does not wait.
 */
void cache_write_soon(struct cache_space *space);
/*
 * Has all that is dirty now written through ops->write on this thread, what is little together with others, before it
 * returns or later: cache_write_range() waits for the answers and tells errors. May wait for I/O.
 */
void cache_write_all(struct cache *cache);
bool cache_range_dirty(struct cache_space *space, uint64_t first, uint64_t last); /* dirty or being written */
/* Number of dirty pages of the space, not counting those that are being written; any thread, no lock. */
size_t cache_dirty_pages(const struct cache_space *space);
size_t cache_space_pages(const struct cache_space *space); /* of it in memory; any thread, no lock */

/* Drops pages first .. last, dirty or not; waits for those being written or filled. For truncation. */
void cache_drop_range(struct cache_space *space, uint64_t first, uint64_t last);
/* So much can be had now, and nobody has to look for memory. */
bool cache_has_spare(struct cache *cache, size_t bytes);
/* Drops every clean, unreferenced page of every space, and gives the system back all memory that is idle. */
void cache_drop_clean(struct cache *cache);

struct cache_stats {
	size_t budget_bytes;
	size_t used_bytes;
	size_t beyond_bytes; /* that owners keep beyond a quarter of the budget: not in used_bytes */
	size_t resident_bytes; /* what is used, and memory that is kept for the next pages */
	size_t min_bytes, low_bytes, high_bytes; /* watermarks, of free memory */
	struct {
		size_t pages, bytes, dirty, writing;
		uint64_t hits, misses, refaults, scanned, stolen;
		uint64_t stalls; /* allocations that had to wait */
		uint64_t direct; /* allocations that reclaimed for themselves */
		uint64_t passed; /* misses that were read past the cache */
	} class[CACHE_CLASSES];
	uint64_t wakeups; /* of the reclaimer */
	uint64_t throttled; /* cache_throttle that waited because too much was dirty */
	uint64_t slowed; /* that took a little longer because it was nearly so */
};
void cache_stats(struct cache *cache, struct cache_stats *stats);

#endif
