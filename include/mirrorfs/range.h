/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * range: which ranges of an address space are taken. Pure memory, no I/O; the numbers are blocks to its users and
 * mean nothing here.
 *
 * The idea is Linux's IOVA allocator (drivers/iommu/iova.c): a tree of ranges, requests with a limit, a cached
 * position, magazines of freed ranges over a depot, and a flush queue that holds freed ranges until nothing can
 * refer to them any more. Its history is in here too: the walk of the allocated ranges that made each
 * allocation linear in the 64-bit space (2017), the anchor, the retry from the top, the size known to fail
 * that any free must reset (2022). What it could not do then is done here: the tree is augmented
 * with the largest gap below each node, so that a fit is found in O(log n) however fragmented the space is.
 *
 * Zones: the space is cut at `boundary`. A LOW request is placed as high as possible below the boundary, going
 * downwards as IOVAs do; a HIGH request goes upwards from its goal or from the zone's cached position. A request
 * that does not fit in its zone is tried in the other one.
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

struct range_config {
	uint64_t start; /* the space is [start, start + length) */
	uint64_t length;
	uint64_t boundary; /* start <= boundary <= start + length */
	uint64_t magazine_length; /* the length of single requests that magazines serve in the LOW zone; 0: none */
	uint64_t magazine_align;
};

/* Everything free. NULL: no memory. Magazines are kept for each thread that allocates, and bounded. */
struct range *range_create(const struct range_config *config);
void range_destroy(struct range *range);

struct range_request {
	uint64_t at_least; /* > 0 */
	uint64_t at_most; /* >= at_least; a fragmented space gives the longest piece it finds at a reasonable cost */
	uint64_t align; /* of the start: a power of two, 1 if 0 */
	enum range_zone zone;
	uint64_t goal; /* HIGH: start here if free (a file grows in place), else search upwards from here; 0: none */
};

/* 0 and *got, or -ENOSPC: magazines and depot were drained and the whole space searched. -ENOMEM. Never waits. */
int range_alloc(struct range *range, const struct range_request *request, struct range_extent *got);

/* Frees any taken sub-range; it must be taken whole (asserted). -ENOMEM: nothing changed. */
int range_free(struct range *range, uint64_t start, uint64_t length);

/*
 * Takes exactly this range. -EEXIST: some of it is taken already, nothing changed; -ERANGE: outside the space;
 * -ENOMEM. Ascending calls (a load from sorted records) cost O(1) amortised each.
 */
int range_reserve(struct range *range, uint64_t start, uint64_t length);

/*
 * The flush queue. range_defer() takes a freed range that must not be reused yet and holds it, still taken, under a
 * ticket of the caller's; tickets never decrease from call to call. range_release() frees everything with a ticket
 * <= `ticket` and calls `freed` (may be NULL) for each range before it is free. O(1) a range, amortised.
 */
int range_defer(struct range *range, uint64_t start, uint64_t length, uint64_t ticket);
void range_release(struct range *range, uint64_t ticket, void (*freed)(void *context, uint64_t start, uint64_t length),
		   void *context);

/* Calls `visit` for each taken (or free) range in ascending order until it returns false. Magazines count as
 * free, deferred ranges as taken. The range may not be changed meanwhile by `visit`. */
void range_each_taken(struct range *range, bool (*visit)(void *context, uint64_t start, uint64_t length), void *context);
void range_each_free(struct range *range, bool (*visit)(void *context, uint64_t start, uint64_t length), void *context);
bool range_is_taken(struct range *range, uint64_t start, uint64_t length); /* all of it */

#define RANGE_HISTOGRAM 32
struct range_stats {
	uint64_t total;
	uint64_t free; /* magazines and depot included, deferred not */
	uint64_t deferred;
	uint64_t magazines;
	uint64_t ranges; /* nodes of the tree */
	uint64_t largest_free;
	uint64_t free_extents[RANGE_HISTOGRAM]; /* [i]: gaps of 2^i .. 2^(i+1)-1 blocks; magazines not counted */
	uint64_t visited; /* nodes visited by all searches so far */
	uint64_t allocations, frees;
	size_t memory_bytes;
};
void range_stats(struct range *range, struct range_stats *stats);
/* The cheap part: free blocks, magazines included. Any thread, no lock. */
uint64_t range_free_count(struct range *range);

/* Debug and tests: every invariant of the tree and of the sums. False: broken; tells where on standard error. */
bool range_check(struct range *range);

#endif
