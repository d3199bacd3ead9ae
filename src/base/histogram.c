/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mirrorfs/base/histogram.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CACHE_LINE 64u
#define SLOTS_MAX 64

/* A thread may be moved to another processor in the middle of an addition: so the additions are atomic. */
struct slot {
	_Alignas(CACHE_LINE) _Atomic uint64_t sum_ns;
	_Atomic uint64_t bucket[HISTOGRAM_BUCKETS];
	_Atomic uint64_t counter[HISTOGRAM_COUNTERS];
};

struct histograms {
	unsigned int slots, series;
	void *memory;
	struct slot *slot; /* [slot of a processor][series] */
};

/* A series that counts nothing takes no memory: pages of zeros are not there before they are written to. */
struct histograms *histograms_create(unsigned int series)
{
	struct histograms *histograms = malloc(sizeof(*histograms));
	long processors = sysconf(_SC_NPROCESSORS_CONF);

	if (!histograms)
		return NULL;
	histograms->slots = processors < 1 ? 1 : processors > SLOTS_MAX ? SLOTS_MAX : (unsigned int)processors;
	histograms->series = series;
	histograms->memory = calloc((size_t)histograms->slots * series + 1, sizeof(struct slot));
	if (!histograms->memory) {
		free(histograms);
		return NULL;
	}
	histograms->slot = (void *)(((uintptr_t)histograms->memory + CACHE_LINE - 1) & ~(uintptr_t)(CACHE_LINE - 1));
	return histograms;
}

void histograms_destroy(struct histograms *histograms)
{
	if (!histograms)
		return;
	free(histograms->memory);
	free(histograms);
}

static struct slot *slot_of(struct histograms *histograms, unsigned int series)
{
	int processor = sched_getcpu();
	unsigned int slot = processor < 0 ? 0 : (unsigned int)processor % histograms->slots;

	return &histograms->slot[slot * histograms->series + series];
}

static unsigned int bucket_of(uint64_t ns)
{
	unsigned int doubling, bucket;

	if (ns < HISTOGRAM_FIRST_NS)
		return 0;
	doubling = 63 - (unsigned int)__builtin_clzll(ns / HISTOGRAM_FIRST_NS);
	/* The two bits behind the leading one. */
	bucket = 1 + doubling * HISTOGRAM_STEPS + (unsigned int)(ns >> (doubling + 8) & (HISTOGRAM_STEPS - 1));
	return bucket < HISTOGRAM_BUCKETS ? bucket : HISTOGRAM_BUCKETS - 1;
}

uint64_t histogram_bound_ns(unsigned int bucket)
{
	if (bucket == HISTOGRAM_BUCKETS - 1)
		return UINT64_MAX;
	return (uint64_t)(HISTOGRAM_FIRST_NS / HISTOGRAM_STEPS) * (HISTOGRAM_STEPS + bucket % HISTOGRAM_STEPS)
	       << bucket / HISTOGRAM_STEPS;
}

void histograms_add(struct histograms *histograms, unsigned int series, uint64_t ns)
{
	struct slot *slot = slot_of(histograms, series);

	atomic_fetch_add_explicit(&slot->sum_ns, ns, memory_order_relaxed);
	atomic_fetch_add_explicit(&slot->bucket[bucket_of(ns)], 1, memory_order_relaxed);
}

void histograms_count(struct histograms *histograms, unsigned int series, unsigned int counter, uint64_t more)
{
	atomic_fetch_add_explicit(&slot_of(histograms, series)->counter[counter], more, memory_order_relaxed);
}

void histograms_read(const struct histograms *histograms, unsigned int series, struct histogram *histogram)
{
	memset(histogram, 0, sizeof(*histogram));
	for (unsigned int i = 0; i < histograms->slots; i++) {
		const struct slot *slot = &histograms->slot[i * histograms->series + series];

		for (unsigned int b = 0; b < HISTOGRAM_BUCKETS; b++)
			histogram->bucket[b] += atomic_load_explicit(&slot->bucket[b], memory_order_relaxed);
		for (unsigned int c = 0; c < HISTOGRAM_COUNTERS; c++)
			histogram->counter[c] += atomic_load_explicit(&slot->counter[c], memory_order_relaxed);
		histogram->sum_ns += atomic_load_explicit(&slot->sum_ns, memory_order_relaxed);
	}
	for (unsigned int b = 0; b < HISTOGRAM_BUCKETS; b++)
		histogram->count += histogram->bucket[b];
}

uint64_t histogram_quantile_ns(const struct histogram *histogram, double part)
{
	uint64_t wanted = (uint64_t)(part * (double)histogram->count), below = 0;
	unsigned int bucket = 0;

	if (!histogram->count)
		return 0;
	if ((double)wanted < part * (double)histogram->count || !wanted)
		wanted++;
	for (; bucket < HISTOGRAM_BUCKETS - 2; bucket++) {
		below += histogram->bucket[bucket];
		if (below >= wanted)
			break;
	}
	return histogram_bound_ns(bucket);
}
