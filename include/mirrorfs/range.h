/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * range: which ranges of an address space are taken. Pure memory, no I/O; the numbers are blocks to its users and
 * mean nothing here.
 *
 * Origin. The vocabulary is that of Linux's IOVA allocator (drivers/iommu/iova.c): ranges in a tree, requests with a
 * zone and an alignment, a cached position where the next search begins, magazines of freed ranges over a depot, and
 * a flush queue that holds freed ranges until nothing can refer to them any more. So are its lessons: the walk over
 * the allocated ranges that made each allocation linear where no position was cached (2017), the second try
 * from the top, the size known to fail, which any free must take back or it fails for ever (2022), the depot that
 * grew without bound until it was trimmed (2023). Cached positions made the common case fast and left the worst
 * case linear: many small gaps before the one that fits.
 *
 * Idea. What is kept are the free gaps, in a B+ tree, each inner node knowing the most that fits into one gap below
 * each of its children. A search climbs from where it begins until a sibling has a fit, and goes down to it.
 * With an alignment, what fits depends on where a gap lies; so that is kept once for each alignment in use. Taken
 * ranges are what lies between the gaps: neighbours need no telling apart and are no two nodes.
 *
 * Costs, for n gaps (never more than taken ranges + 1), whatever the space looks like:
 *   range_alloc, range_free     O(log n); a search visits at most twice the tree's height in nodes (10 at n = 10^7), or
 *                               one if the next fit is near the cached position; a request with room or one that takes
 *                               what it gets searches a few times
 *   a size that fits nowhere    O(1): the root knows. Only the first such request drains the magazines
 *   an alignment never asked    one pass over the tree, once
 *   from a magazine             neither the tree nor its lock
 *   range_defer                 O(1); range_release: O(1) a range in the queue, and a free in the tree
 *   range_reserve, ascending    O(1) amortised
 *   memory                      16 bytes a gap after an ascending load, at worst 55, and 8 for each leaf of 20 to 62
 *                               gaps and alignment; 40 KiB for the magazines of each length
 *
 * Zones: the space is cut at `boundary`. A LOW request is placed as high as possible below the boundary, going
 * downwards as IOVAs do; a HIGH request goes upwards from its goal or from the zone's cached position, which is where
 * the last HIGH request without a goal ended, and once more from the boundary. A request that does not fit in its
 * zone is tried in the other one, and at last across the boundary.
 *
 * Room: whoever writes a file piece by piece asks for each at the end of the one before. Two that do so at once would
 * meet at every step. So a request says how much may follow, is placed where there is so much, and the cached position
 * goes behind it. Nothing is held back: if all else is taken, others may have the room.
 *
 * Threads: any thread, any function; one lock for the tree, one a thread slot for magazines (RANK_RANGE,
 * RANK_RANGE_DEPOT). Nothing waits for anything but these locks.
 */
#ifndef MIRRORFS_RANGE_H
#define MIRRORFS_RANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct range;

enum range_zone { RANGE_LOW, RANGE_HIGH };

struct range_extent {
	uint64_t start;
	uint64_t length;
};

#define RANGE_MAGAZINE_KINDS 64

struct range_config {
	uint64_t start; /* the space is [start, start + length) */
	uint64_t length;
	uint64_t boundary; /* start <= boundary <= start + length */
	/*
	 * Magazines serve requests in the LOW zone at exactly this alignment that are for exactly one length: the
	 * multiples of magazine_length, a power of two, up to magazine_most (at least magazine_length itself, at most
	 * RANGE_MAGAZINE_KINDS times that). 0: none. They hold up to 4096 ranges of each length and are filled by
	 * frees, and from the tree in dozens.
	 */
	uint64_t magazine_length, magazine_most;
	uint64_t magazine_align;
};

/* Everything free. NULL: no memory. */
struct range *range_create(const struct range_config *config);
void range_destroy(struct range *range);

struct range_request {
	uint64_t at_least; /* > 0 */
	/* >= at_least. A piece of at_most if the zone has one, else its longest. At the goal, what is free there. */
	uint64_t at_most;
	uint64_t align; /* of the start: a power of two, 1 if 0 */
	enum range_zone zone;
	uint64_t goal; /* HIGH: start here if free (a file grows in place), else search upwards from here; 0: none */
	/*
	 * HIGH, above at_most: what the caller may come to ask for next. If the goal is not free, the piece lies where
	 * there is so much, or else in the longest piece, and the next search without a goal begins behind that.
	 */
	uint64_t room;
};

/* 0 and *got, or -ENOSPC: magazines and depot were drained and the whole space searched. -ENOMEM. Never waits. */
int range_alloc(struct range *range, const struct range_request *request, struct range_extent *got);

/*
 * Frees any taken sub-range; it must be taken whole (asserted; for one that goes to a magazine, when it leaves that for
 * the tree). -ENOMEM: nothing changed.
 */
int range_free(struct range *range, uint64_t start, uint64_t length);

/*
 * Takes exactly this range. -EEXIST: some of it is taken already, nothing changed; -ERANGE: outside the space;
 * -ENOMEM. Ascending calls (a load from sorted records) cost O(1) amortised each.
 */
int range_reserve(struct range *range, uint64_t start, uint64_t length);

/* The space becomes longer by so much, all of it taken: range_free() gives it to whom it is for. */
void range_grow(struct range *range, uint64_t length);

/*
 * The flush queue. range_defer() takes a freed range that must not be reused yet and holds it, still taken, under a
 * ticket of the caller's; tickets never decrease from call to call (asserted). 0, or -ENOMEM: it was not taken over.
 *
 * range_release() calls `freed` (may be NULL) once for each range with a ticket <= `ticket`, without any lock, and
 * then frees it, or leaves it taken if that returns false: it is the caller's again, who may defer it anew. Ranges that
 * were deferred one after the other under one ticket and touch come back as one; those of one ticket come in ascending
 * order, 254 at a time. What there is no memory for stays deferred, and the next call frees it without calling `freed`
 * again. It is also when idle magazines are given back, so call it now and then.
 */
int range_defer(struct range *range, uint64_t start, uint64_t length, uint64_t ticket);
void range_release(struct range *range, uint64_t ticket, bool (*freed)(void *context, uint64_t start, uint64_t length),
		   void *context);

/*
 * Calls `visit` for each taken (or free) range in ascending order until it returns false. Magazines count as free and
 * are drained, deferred ranges count as taken. `visit` runs under the lock: it may not call back.
 */
void range_each_taken(struct range *range, bool (*visit)(void *context, uint64_t start, uint64_t length),
		      void *context);
void range_each_free(struct range *range, bool (*visit)(void *context, uint64_t start, uint64_t length), void *context);
/* The lowest free range from `from` on that is so long; what lies below `from` does not count. Not from magazines. */
bool range_next_free(struct range *range, uint64_t from, uint64_t at_least, struct range_extent *got);
bool range_is_taken(struct range *range, uint64_t start, uint64_t length); /* all of it */

#define RANGE_HISTOGRAM 32
struct range_stats {
	uint64_t total;
	uint64_t free; /* magazines and depot included, deferred not */
	uint64_t deferred;
	uint64_t magazines;
	uint64_t ranges; /* gaps in the tree */
	uint64_t largest_free;
	uint64_t free_extents[RANGE_HISTOGRAM]; /* [i]: gaps of 2^i .. 2^(i+1)-1 blocks; magazines not counted */
	uint64_t visited; /* nodes of the tree visited by all calls so far */
	uint64_t allocations, frees;
	size_t memory_bytes;
};
void range_stats(struct range *range, struct range_stats *stats);
/*
 * The cheap part: free blocks, magazines included. Any thread, no lock. Exact when nobody else is in a call; else
 * it may be off by what the others take and free meanwhile.
 */
uint64_t range_free_count(struct range *range);

/* Debug and tests: every invariant of the tree and of the sums. False: broken; tells where on standard error. */
bool range_check(struct range *range);

#endif
