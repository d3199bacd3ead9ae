/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How long things take: log-linear histograms of times, and counters beside them, that many threads add to at once.
 *
 * Each processor has counters of its own, in cache lines of its own, so that adding costs a few nanoseconds and nobody
 * waits for anybody; whoever reads adds them up. They only ever grow: a window of time is the difference between two
 * looks, and nothing that is counted meanwhile is lost to either.
 *
 * A bucket holds what takes at least HISTOGRAM_FIRST_NS << n/4 times 1, 1.25, 1.5 or 1.75 (n/4 whole), so no time is
 * told wrong by more than a quarter, from a microsecond to more than a minute.
 */
#ifndef MIRRORFS_BASE_HISTOGRAM_H
#define MIRRORFS_BASE_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_FIRST_NS 1024u /* the first bucket is for whatever takes less */
#define HISTOGRAM_STEPS 4u /* buckets for each doubling */
#define HISTOGRAM_DOUBLINGS 27u /* up to 137 s */
#define HISTOGRAM_BUCKETS (2 + HISTOGRAM_STEPS * HISTOGRAM_DOUBLINGS)
#define HISTOGRAM_COUNTERS 6u /* beside the times, of each series; what they count is the owner's business */

struct histograms;

/* What one series has counted since it was made. */
struct histogram {
	uint64_t count, sum_ns;
	uint64_t bucket[HISTOGRAM_BUCKETS];
	uint64_t counter[HISTOGRAM_COUNTERS];
};

struct histograms *histograms_create(unsigned int series); /* NULL: no memory */
void histograms_destroy(struct histograms *histograms); /* NULL is allowed */

/* Any thread; never waits. */
void histograms_add(struct histograms *histograms, unsigned int series, uint64_t ns);
void histograms_count(struct histograms *histograms, unsigned int series, unsigned int counter, uint64_t more);
/* While others add, the parts of what is told may differ by what they are just adding. */
void histograms_read(const struct histograms *histograms, unsigned int series, struct histogram *histogram);

/* The least time that no longer belongs to this bucket; UINT64_MAX: none, as of the last one. */
uint64_t histogram_bound_ns(unsigned int bucket);
/* A time that `part` (0 .. 1) of all did not exceed, at most a quarter too long; 0: nothing was counted. */
uint64_t histogram_quantile_ns(const struct histogram *histogram, double part);

#endif
