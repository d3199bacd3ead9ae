/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tells the legs what is free: freed ranges on their way back, and, when asked, all that is.
 *
 * A discard that has not ended would wipe what is put there meanwhile (I9). So a free range is taken before it is
 * discarded, a piece at a time and never more than half of what writers may still have, and stays taken if a leg
 * does not answer.
 *
 * What mkfs allocated for real in image files, and what a growing volume added to that, stays allocated: it is there so
 * that deletions work when the filesystem of an image is full.
 */
#include "meta_private.h"
#include "mirrorfs/base/log.h"

#include <errno.h>

#define PIECE_BLOCKS 16384u /* 64 MiB */

static bool touches_grown(struct meta *meta, uint64_t start, uint64_t length)
{
	bool touches;

	mutex_lock(&meta->alloc_lock);
	touches = start < meta->grown.start + meta->grown.length && meta->grown.start < start + length;
	mutex_unlock(&meta->alloc_lock);
	return touches;
}

/* Cuts off the end of a range what was allocated for real; it may reach into that from below, and not out of it. */
static uint64_t cut_fixed(struct meta *meta, uint64_t start, uint64_t length)
{
	uint64_t fixed = meta_fixed_start(meta);

	if (touches_grown(meta, start, length))
		return 0;
	if (start >= meta->boundary || start + length <= fixed)
		return length;
	return start < fixed ? fixed - start : 0;
}

bool trim_discard(struct meta *meta, uint64_t start, uint64_t length)
{
	struct mirror_io io = { .op = MIRROR_DISCARD, .block = start };
	bool ended = true;

	if (meta_writable(meta))
		return true;
	for (uint64_t left = cut_fixed(meta, start, length); left; left -= io.count) {
		io.count = left > UINT32_MAX ? UINT32_MAX : (uint32_t)left;
		/* Advice: a leg that cannot is no fault. */
		ended &= mirror_submit_wait(meta->mirror, &io) != -ETIMEDOUT;
		io.block += io.count;
	}
	return ended;
}

/* How much may be taken from writers for a moment. alloc_lock is held. */
static uint64_t spare(struct meta *meta, struct range *range)
{
	uint64_t free;

	if (range == meta->data_range)
		return alloc_available(meta, range_free_count(meta->data_range)) / 2;
	free = range_free_count(meta->node_range);
	return free > meta->reserve ? (free - meta->reserve) / 2 : 0;
}

/* Takes some of a free range, from its start. -ENOSPC: nothing can be spared; -EEXIST: others were faster; -ENOMEM. */
static int take(struct meta *meta, struct range *range, const struct range_extent *at, uint64_t *taken)
{
	uint64_t most;
	int error;

	mutex_lock(&meta->alloc_lock);
	most = spare(meta, range);
	*taken = at->length < most ? at->length : most;
	if (*taken > PIECE_BLOCKS)
		*taken = PIECE_BLOCKS;
	error = *taken ? range_reserve(range, at->start, *taken) : -ENOSPC;
	if (!error)
		atomic_fetch_add(&meta->trimming, *taken);
	mutex_unlock(&meta->alloc_lock);
	return error;
}

static void put_back(struct meta *meta, struct range *range, uint64_t start, uint64_t length, bool ended)
{
	struct meta_extents late = { .at = &(struct range_extent){ start, length }, .count = 1 };

	if (!ended)
		alloc_defer(meta, range, &late);
	else if (range_free(range, start, length))
		log_warn("out of memory: free space is lost until the next mount blocks=%llu",
			 (unsigned long long)length);
	atomic_fetch_sub(&meta->trimming, length);
}

/* One free range. 0, or what take() says of the rest, which begins at *at; -ETIMEDOUT: a leg did not answer. */
static int trim_gap(struct meta *meta, struct range *range, uint64_t *at, uint64_t end, struct meta_trim *trim)
{
	while (*at < end) {
		uint64_t taken;
		int error = take(meta, range, &(struct range_extent){ *at, end - *at }, &taken);
		bool ended;

		if (error)
			return error;
		ended = trim_discard(meta, *at, taken);
		put_back(meta, range, *at, taken, ended);
		if (!ended)
			return -ETIMEDOUT;
		trim->trimmed += taken;
		*at += taken;
	}
	return 0;
}

static void trim_range(struct meta *meta, struct range *range, uint64_t start, uint64_t end, struct meta_trim *trim)
{
	struct range_extent gap;
	uint64_t at = start;

	while (!meta_writable(meta) && range_next_free(range, at, trim->at_least, &gap) && gap.start < end) {
		uint64_t gap_end = gap.length < end - gap.start ? gap.start + gap.length : end;
		int error;

		at = gap.start;
		error = trim_gap(meta, range, &at, gap_end, trim);
		if (error == -ETIMEDOUT)
			return;
		if (error && error != -EEXIST)
			at = gap_end;
	}
}

int meta_trim(struct meta *meta, struct meta_trim *trim)
{
	uint64_t fixed = meta_fixed_start(meta);
	uint64_t end = trim->length < UINT64_MAX - trim->start ? trim->start + trim->length : UINT64_MAX;
	int error = meta_writable(meta);

	trim->trimmed = 0;
	if (error)
		return error;
	if (!mirror_discards(meta->mirror))
		return -EOPNOTSUPP;
	if (!trim->at_least)
		trim->at_least = 1;
	trim_range(meta, meta->node_range, trim->start > meta->heap_start ? trim->start : meta->heap_start,
		   end < fixed ? end : fixed, trim);
	trim_range(meta, meta->data_range, trim->start > meta->boundary ? trim->start : meta->boundary,
		   end < meta->heap_end ? end : meta->heap_end, trim);
	return meta_writable(meta);
}
