/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of the cache share.
 *
 * Locks: a space's `lock` (RANK_CACHE) guards its index and the state of its pages; the cache's `lock`
 * (RANK_CACHE_POLICY) guards queues, memory, counts and lists of spaces. The second is taken inside the first, never
 * the other way round: the reclaimer takes pages off a queue with a reference first and looks at their space after.
 *
 * References: the index holds one for every page in it. Only a thread with the space's lock can find a page there, so
 * under that lock a page whose references are the index's and one's own is nobody else's.
 *
 * A clean and valid page in an index is on a queue, or isolated by a thread that reclaims; no other page is. So the
 * reclaimer never meets a page that it would have to wait for (I10).
 */
#ifndef CACHE_PRIVATE_H
#define CACHE_PRIVATE_H

#include "mirrorfs/base/clock.h"
#include "mirrorfs/base/sync.h"
#include "mirrorfs/cache.h"

#include <bsd/sys/queue.h>
#include <bsd/sys/tree.h>
#include <sys/types.h>

#define WRITE_BATCH 4096 /* pages handed to `write` in one call, at most */
#define WRITE_FEW 64 /* a space with no more goes in one call with others */
#define INDEX_FEW 4

enum queue_name { QUEUE_SMALL, QUEUE_MAIN, QUEUE_NODES, QUEUES };

struct page {
	struct cache_page page; /* first: page_of() */
	struct page *chain; /* in its bucket, or in a list of idle memory */
	RB_ENTRY(page) unclean_link;
	TAILQ_ENTRY(page) queue_link;
	uint64_t ticket; /* of its latest hand-over to `write` */
	int error; /* of its fill */
	uint8_t uses; /* hits since it was queued or last looked at, up to USES_MAX; atomic */
	uint8_t queue; /* where it is or belongs; cache lock */
	bool queued; /* cache lock */
	bool passing; /* handed over to `write` for the last time that anybody wants it */
};

RB_HEAD(unclean_tree, page);

/* Someone in cache_write_range(): errors in its range are its own. */
struct range_wait {
	LIST_ENTRY(range_wait) link;
	uint64_t first, last;
	int error;
};

struct space_index {
	struct mutex lock; /* guards all down to `live` */
	struct cond changed; /* a page was filled, answered or freed */
	struct cache_space *space;
	struct page **buckets;
	unsigned int bucket_bits;
	struct page *few[INDEX_FEW];
	size_t pages;
	struct unclean_tree unclean; /* DIRTY or WRITING, by index */
	LIST_HEAD(, range_wait) range_waits;
	uint64_t tickets;
	size_t ready; /* DIRTY and not WRITING */
	uint64_t serial; /* names the space in ghost keys */
	size_t live; /* pages not freed, those GONE too */

	/* from here on the cache's lock */
	TAILQ_ENTRY(space_index) link; /* in `dirty` or `planned` while `ready` */
	bool listed;
	bool failed; /* a write was answered with an error: left alone until its age brings it up again */
	uint64_t since_ns; /* when it came to be listed, or was last written out as a whole */
	uint64_t listing; /* numbers that moment */
	uint64_t cursor; /* the writer goes on here */
	unsigned int busy; /* writer or presser is in one of its operations */
	TAILQ_ENTRY(space_index) soon_link; /* in `soon`, `listed` too */
	bool soon;
};

TAILQ_HEAD(page_queue, page);
TAILQ_HEAD(space_list, space_index);

struct cache_counts {
	size_t pages, bytes, dirty, writing;
	size_t dirty_bytes, writing_bytes, unclean_bytes;
	uint64_t hits, misses, passed; /* atomic: a hit takes no lock of the cache */
	uint64_t refaults, scanned, stolen, stalls, direct;
	uint64_t cleaned;
};

/* Memory for pages of one size; see pool.c. */
struct arena {
	size_t page_bytes;
	unsigned char *data;
	struct page *pages;
	size_t slots, fresh; /* slots from `fresh` on were never used */
	struct page *warm, *cold; /* idle, with and without memory behind them */
};

#define ARENAS 5 /* 4 KiB << 0 .. 4 */

struct ghost;

struct cache {
	struct mutex lock;
	size_t budget_bytes, floor_bytes;
	size_t min_bytes, low_bytes, high_bytes;
	size_t dirty_limit_bytes, background_bytes;
	uint64_t write_after_ns;

	struct arena arenas[ARENAS];
	size_t resident_bytes; /* of pages in use and of warm ones */
	size_t overhead_bytes; /* bookkeeping */
	size_t charged_bytes; /* by owners; part of it is in overhead_bytes */
	uint64_t frees;

	struct cache_counts class[CACHE_CLASSES];
	struct page_queue queues[QUEUES];
	size_t queue_pages[QUEUES];
	struct ghost *ghost;

	struct space_list dirty; /* spaces with `write`, oldest first */
	struct space_list soon; /* of these: whose turn is next */
	bool soon_last; /* it was the turn of one of them */
	struct space_list planned; /* spaces with `pressure` */
	uint64_t listings;
	size_t spaces;
	uint64_t serials;

	struct cond freed; /* memory came free; `waiting` of them */
	unsigned int waiting;
	struct cond settled; /* unclean pages became fewer, an owner's operation returned */
	unsigned int throttling;
	uint64_t pressure_rounds;
	bool failing; /* the latest answer of a write was an error */

	bool stop;
	struct cond reclaim_wake, write_wake, press_wake;
	/* When the writer looks next what is old; 0: now. So who makes a page dirty need not wake it each time. */
	uint64_t write_looks_ns;
	uint64_t write_woken; /* counts those who had to */
	bool reclaim_kicked;
	bool starved; /* nothing is left to reclaim: putting or cleaning a page kicks then; atomic */
	double scan_carry; /* part of a node that a pass was still due to look at */
	uint64_t wakeups, throttled, slowed;
	struct thread reclaimer, writer, presser;
	struct cache_page *batch[WRITE_BATCH]; /* the writer's own: write-out needs no memory (I10) */
};

static inline struct page *page_of(struct cache_page *page)
{
	return (struct page *)page;
}

static inline struct space_index *index_of(struct page *page)
{
	return page->page.space->index;
}

static inline struct cache *cache_of(struct page *page)
{
	return page->page.space->cache;
}

/* ---- pool.c; the cache's lock held ---- */

int pool_prepare(struct cache *cache, size_t page_bytes); /* the arena for pages of that size: 0 or -ENOMEM */
void pool_fini(struct cache *cache);
/* Free memory as data sees it, which may not take the floor of nodes; less than 0 while bookkeeping grows. */
ssize_t pool_available(const struct cache *cache);
/* Memory for a page of the space, or NULL: data leaves `min` to nodes, which write-out needs. */
struct page *pool_take(struct cache_space *space);
void pool_give(struct page *page);
/* Memory of up to `max` idle slots goes back to the system. False: there was less. */
bool pool_trim(struct cache *cache, size_t max);

/* ---- index.c; the space's lock held ---- */

void index_init(struct space_index *ix);
struct page *index_find(struct space_index *ix, uint64_t index);
void index_insert(struct space_index *ix, struct page *page);
void index_remove(struct space_index *ix, struct page *page);
void index_trim(struct space_index *ix); /* after removals: fewer buckets for fewer pages */
/* A page of the range that is not `except`ed by its state, or NULL. `*bucket` starts at 0 and remembers the place. */
struct page *index_sweep(struct space_index *ix, uint64_t first, uint64_t last, uint32_t except, size_t *bucket);
void index_unclean(struct space_index *ix, struct page *page, bool unclean); /* becomes, or ceases to be */
struct page *index_next_unclean(struct space_index *ix, uint64_t first, uint64_t last);

/* ---- page.c; the space's lock held ---- */

void page_set(struct page *page, uint32_t clear, uint32_t set);
void page_unref(struct space_index *ix, struct page *page);
/* Takes the page out of its space. The index's reference goes; the page itself with its last one. */
void page_drop(struct space_index *ix, struct page *page);
bool page_unused(const struct page *page); /* but by the caller, under a reference; the space's lock is held */
/* For an isolated page, no lock held; ends the isolation. True: it was nobody's and is freed. */
bool page_reclaim(struct page *page, bool remember);

/* ---- policy.c; the cache's lock held ---- */

bool policy_pass(struct space_index *ix, uint64_t index, size_t count); /* as cache_pass() */

enum policy_entry {
	POLICY_FILLED, /* new */
	POLICY_WRITTEN, /* was dirty */
	POLICY_ROTATE, /* was isolated and is in use */
};

int policy_init(struct cache *cache);
void policy_fini(struct cache *cache);
void policy_arrive(struct page *page); /* a miss: decides by the ghosts where the page will be queued */
void policy_insert(struct page *page, enum policy_entry entry);
void policy_remove(struct page *page);
void policy_evicted(struct page *page);
void policy_hit(struct page *page); /* the space's lock, not the cache's */

struct policy_scan {
	enum cache_class class;
	size_t pages; /* may still be looked at */
	size_t bytes; /* may still be isolated */
	bool all; /* whether used or not */
	bool progress; /* out: some page came nearer to its end */
};
/* Takes up to `max` pages off their queues, a reference each, for page_reclaim(). */
size_t policy_isolate(struct cache *cache, struct policy_scan *scan, struct page **pages, size_t max);

/* ---- reclaim.c ---- */

void reclaim_run(void *cache); /* the reclaimer's thread */
void reclaim_kick(struct cache *cache); /* if there is less than `low`, or someone waits; cache's lock held */
void reclaim_unpinned(struct cache *cache); /* a page lost its last user; no lock held */
bool reclaim_starved(const struct cache *cache); /* any lock or none */
/* A page of memory for the space; reclaims, and waits if allowed. No lock held. NULL: it would have to wait. */
struct page *reclaim_page(struct cache_space *space, bool wait);

/* ---- writeback.c ---- */

void writeback_run(void *cache); /* the writer's thread */
/* Counts of pages changed; lists the space while something is ready to write. Space's and cache's lock held. */
void writeback_account(struct space_index *ix, long dirty, long writing, long unclean);

/* ---- pressure.c ---- */

void pressure_run(void *cache); /* the presser's thread */
bool pressure_needed(const struct cache *cache); /* cache's lock held */

#endif
