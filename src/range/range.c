/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The interface, the zones and their cached positions. The tree of gaps, the magazines and the flush queue have
 * their own files; what is here decides where a request is placed and keeps the three in step.
 *
 * Cached positions. Low: nothing above `low.position` has room for `low.size` at `low.shift`, so a request that asks
 * no less starts there, and any free above it moves it up again. High: where the last search without a goal ended, or
 * the room that it left for its caller, so that whoever comes next leaves that alone as long as there is another place.
 *
 * Counting. Moving a range between the tree and a magazine changes nothing that is counted as free: what users
 * took from or gave to the tree is in `free`, what they took from or gave to magazines is in their balance.
 *
 * Locks: the tree's, then those of magazines and queue. The callback of range_release() runs under none.
 */
#include "mirrorfs/range.h"

#include "deferred_private.h"
#include "magazine_private.h"
#include "tree_private.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct range {
	struct range_config config;
	_Atomic uint64_t end; /* written under the lock */
	unsigned int unit_shift, magazine_shift; /* of magazine_length and magazine_align */
	struct magazines *magazines; /* NULL: none */
	_Atomic uint64_t hopeless_size; /* from this size on nothing fits at hopeless_shift; UINT64_MAX: not known */
	struct deferred deferred;

	/* RANK_RANGE: what follows. On lines of its own, so that magazines do not wait for those who write here. */
	_Alignas(64) struct mutex lock;
	struct tree tree;
	struct tree_path low_path, high_path, free_path;
	struct {
		uint64_t position, size;
		unsigned int shift;
	} low;
	struct {
		uint64_t start, position; /* what was placed last, with its room, and where to begin next */
	} high;
	unsigned int hopeless_shift;
	_Atomic uint64_t free; /* written under the lock */
	uint64_t allocations, frees;
};

/* A request, seen by the search. */
struct want {
	const struct range_request *request;
	unsigned int shift, class;
};

static unsigned int shift_of(uint64_t align)
{
	assert(!(align & (align - 1)));
	return align ? (unsigned int)__builtin_ctzll(align) : 0;
}

static unsigned int magazine_kinds(const struct range_config *config)
{
	uint64_t most = config->magazine_most / config->magazine_length;

	assert(most <= RANGE_MAGAZINE_KINDS);
	return most ? (unsigned int)most : 1;
}

struct range *range_create(const struct range_config *config)
{
	struct range *range = aligned_alloc(_Alignof(struct range), sizeof(*range));

	if (!range)
		return NULL;
	*range = (struct range){ .config = *config };
	range->end = config->start + config->length;
	assert(range->end >= config->start);
	assert(config->boundary >= config->start && config->boundary <= range->end);
	if (tree_init(&range->tree))
		goto no_tree;
	if (tree_prepare(&range->tree))
		goto no_magazines;
	if (config->magazine_length) {
		range->unit_shift = shift_of(config->magazine_length);
		range->magazine_shift = shift_of(config->magazine_align);
		range->magazines = magazines_create(magazine_kinds(config));
		if (!range->magazines || tree_class(&range->tree, range->magazine_shift) < 0 ||
		    tree_prepare(&range->tree))
			goto no_magazines;
	}
	mutex_init(&range->lock, RANK_RANGE);
	deferred_init(&range->deferred);
	if (config->length)
		tree_add(&range->tree, &range->free_path, config->start, config->length);
	range->low.position = config->boundary;
	range->high.start = range->high.position = config->boundary;
	atomic_init(&range->hopeless_size, UINT64_MAX);
	atomic_init(&range->free, config->length);
	return range;

no_magazines:
	magazines_destroy(range->magazines);
	tree_fini(&range->tree);
no_tree:
	free(range);
	return NULL;
}

void range_destroy(struct range *range)
{
	if (!range)
		return;
	magazines_destroy(range->magazines);
	deferred_fini(&range->deferred);
	mutex_fini(&range->lock);
	tree_fini(&range->tree);
	free(range);
}

static void forget_hopeless(struct range *range)
{
	if (atomic_load_explicit(&range->hopeless_size, memory_order_relaxed) != UINT64_MAX)
		atomic_store_explicit(&range->hopeless_size, UINT64_MAX, memory_order_relaxed);
}

static void add_free(struct range *range, uint64_t more)
{
	uint64_t was = atomic_load_explicit(&range->free, memory_order_relaxed);

	atomic_store_explicit(&range->free, was + more, memory_order_relaxed);
}

/* Makes a range free in the tree and lets the summaries know. Prepared; lock held. */
static void give(struct range *range, uint64_t start, uint64_t length)
{
	uint64_t end = tree_add(&range->tree, &range->free_path, start, length);

	if (end > range->config.boundary)
		end = range->config.boundary;
	if (end > range->low.position && start < range->config.boundary)
		range->low.position = end;
	forget_hopeless(range);
}

static int give_magazine(void *context, uint64_t start, unsigned int units)
{
	struct range *range = context;
	int error = tree_prepare(&range->tree);

	if (!error)
		give(range, start, (uint64_t)units << range->unit_shift);
	return error;
}

static int drain(struct range *range)
{
	return range->magazines ? magazines_drain(range->magazines, give_magazine, range) : 0;
}

static bool find_low(struct range *range, const struct want *want, uint64_t size, uint64_t *position)
{
	uint64_t top = range->config.boundary;
	bool found;

	if (size >= range->low.size && want->shift >= range->low.shift)
		top = range->low.position;
	found = tree_find_down(&range->tree, &range->low_path, range->config.start, top, size, want->class, position);
	range->low.position = found ? *position : range->config.start;
	range->low.size = size;
	range->low.shift = want->shift;
	return found;
}

/* From there upwards, and once more from the boundary up to `to`. */
static bool find_upwards(struct range *range, const struct want *want, uint64_t from, uint64_t to, uint64_t size,
			 uint64_t *position)
{
	uint64_t boundary = range->config.boundary;

	if (from < boundary)
		from = boundary;
	return tree_find_up(&range->tree, &range->high_path, from, range->end, size, want->class, position) ||
	       (from > boundary &&
		tree_find_up(&range->tree, &range->high_path, boundary, to, size, want->class, position));
}

static void move_high(struct range *range, uint64_t start, uint64_t length)
{
	range->high.start = start;
	range->high.position = start + length;
}

static bool find_high(struct range *range, const struct want *want, uint64_t size, uint64_t *position)
{
	uint64_t goal = want->request->zone == RANGE_HIGH ? want->request->goal : 0;

	if (!find_upwards(range, want, goal ? goal : range->high.position, range->end, size, position))
		return false;
	if (!goal)
		move_high(range, *position, size);
	return true;
}

/* In one zone: all that is asked for, else the longest piece. */
static bool find_in_zone(struct range *range, const struct want *want, enum range_zone zone, struct range_extent *got)
{
	bool (*find)(struct range *, const struct want *, uint64_t, uint64_t *) =
		zone == RANGE_LOW ? find_low : find_high;
	uint64_t from = zone == RANGE_LOW ? range->config.start : range->config.boundary;
	uint64_t to = zone == RANGE_LOW ? range->config.boundary : range->end;

	got->length = want->request->at_most;
	if (find(range, want, got->length, &got->start))
		return true;
	if (want->request->at_least == want->request->at_most)
		return false;
	got->length = tree_largest(&range->tree, from, to, want->class);
	return got->length >= want->request->at_least && find(range, want, got->length, &got->start);
}

/* At the goal itself, so that a file grows in place. */
static bool find_goal(struct range *range, const struct want *want, struct range_extent *got)
{
	uint64_t goal = want->request->goal;
	struct range_extent gap;

	if (want->request->zone != RANGE_HIGH || !goal || goal & ((UINT64_C(1) << want->shift) - 1))
		return false;
	gap = tree_gap_before(&range->tree, &range->high_path, goal);
	if (gap.length <= goal - gap.start || gap.length - (goal - gap.start) < want->request->at_least)
		return false;
	got->start = goal;
	got->length = gap.length - (goal - gap.start);
	if (got->length > want->request->at_most)
		got->length = want->request->at_most;
	return true;
}

/*
 * Where there is room for more than is asked for now, or in the longest piece; but not in the room that was left for
 * the last one, which may still be growing: two would take turns there, block by block.
 */
static bool find_room(struct range *range, const struct want *want, struct range_extent *got)
{
	const struct range_request *request = want->request;
	uint64_t room = request->room, to = range->high.start, before, behind;

	if (request->zone != RANGE_HIGH || room <= request->at_most)
		return false;
	if (!find_upwards(range, want, range->high.position, to, room, &got->start)) {
		before = tree_largest(&range->tree, range->config.boundary, to, want->class);
		behind = tree_largest(&range->tree, range->high.position, range->end, want->class);
		room = before > behind ? before : behind;
		if (room < request->at_most ||
		    !find_upwards(range, want, range->high.position, to, room, &got->start))
			return false;
	}
	got->length = request->at_most;
	move_high(range, got->start, room);
	return true;
}

static bool find(struct range *range, const struct want *want, struct range_extent *got)
{
	enum range_zone zone = want->request->zone;

	if (range->tree.fit[want->class] < want->request->at_least)
		return false;
	if (find_goal(range, want, got) || find_room(range, want, got) || find_in_zone(range, want, zone, got) ||
	    find_in_zone(range, want, zone == RANGE_LOW ? RANGE_HIGH : RANGE_LOW, got))
		return true;
	/* It lies across the boundary. */
	got->length = range->tree.fit[want->class];
	if (got->length > want->request->at_most)
		got->length = want->request->at_most;
	return tree_find_up(&range->tree, &range->high_path, range->config.start, range->end, got->length, want->class,
			    &got->start);
}

/* find(), with the magazines drained before it gives up. 0, -ENOSPC or -ENOMEM. */
static int find_or_drain(struct range *range, const struct want *want, struct range_extent *got)
{
	uint64_t at_least = want->request->at_least;
	int error;

	if (at_least >= atomic_load_explicit(&range->hopeless_size, memory_order_relaxed) &&
	    want->shift >= range->hopeless_shift)
		return -ENOSPC;
	if (find(range, want, got))
		return 0;
	/*
	 * Noted first: a range that is put into a magazine after that magazine was drained then takes the note back
	 * (its owner looks at it behind the slot's lock, which the drain has held).
	 */
	range->hopeless_shift = want->shift;
	atomic_store_explicit(&range->hopeless_size, at_least, memory_order_relaxed);
	error = drain(range);
	if (error) {
		forget_hopeless(range);
		return error;
	}
	return find(range, want, got) ? 0 : -ENOSPC;
}

/* The units of a length that there are magazines for; 0: there are none. */
static unsigned int magazine_units(const struct range *range, uint64_t length)
{
	uint64_t units = length >> range->unit_shift;

	if (!range->magazines || units << range->unit_shift != length || units > range->magazines->kinds)
		return 0;
	return (unsigned int)units;
}

/* Fills the calling thread's magazine, so that the next requests need not come here. What fails is left out. */
static void stock(struct range *range, const struct want *want, unsigned int units)
{
	uint64_t length = want->request->at_most, position;

	for (unsigned int i = 0; i < MAGAZINE_SIZE / 2; i++) {
		if (tree_prepare(&range->tree) || !find_low(range, want, length, &position) ||
		    !magazines_stock(range->magazines, units, position))
			break;
		/* Others may have it from the magazine already, but not give it back before we let go of the lock. */
		tree_take(&range->tree, &range->low_path, position, length);
	}
}

int range_alloc(struct range *range, const struct range_request *request, struct range_extent *got)
{
	struct want want = { .request = request, .shift = shift_of(request->align) };
	unsigned int units = 0;
	int class, error;

	assert(request->at_least && request->at_most >= request->at_least);
	if (request->zone == RANGE_LOW && request->at_least == request->at_most && want.shift == range->magazine_shift)
		units = magazine_units(range, request->at_most);
	if (units && magazines_get(range->magazines, units, &got->start)) {
		got->length = request->at_most;
		return 0;
	}
	mutex_lock(&range->lock);
	class = tree_class(&range->tree, want.shift);
	error = class < 0 ? class : tree_prepare(&range->tree);
	want.class = (unsigned int)class;
	if (!error)
		error = find_or_drain(range, &want, got);
	if (!error) {
		tree_take(&range->tree, got->start < range->config.boundary ? &range->low_path : &range->high_path,
			  got->start, got->length);
		add_free(range, -got->length);
		range->allocations++;
		if (units && got->start < range->config.boundary)
			stock(range, &want, units);
	}
	mutex_unlock(&range->lock);
	return error;
}

static void assert_inside(const struct range *range, uint64_t start, uint64_t length)
{
	assert(length && start >= range->config.start && start < range->end && length <= range->end - start);
}

int range_free(struct range *range, uint64_t start, uint64_t length)
{
	unsigned int units = 0;
	int error;

	assert_inside(range, start, length);
	if (start < range->config.boundary && length <= range->config.boundary - start &&
	    !(start & ((UINT64_C(1) << range->magazine_shift) - 1)))
		units = magazine_units(range, length);
	if (units && magazines_put(range->magazines, units, start)) {
		forget_hopeless(range);
		return 0;
	}
	mutex_lock(&range->lock);
	error = tree_prepare(&range->tree);
	if (!error) {
		give(range, start, length);
		add_free(range, length);
		range->frees++;
		/* Without memory it stays full, and the next one comes here again. */
		if (units)
			(void)magazines_relieve(range->magazines, units, give_magazine, range);
	}
	mutex_unlock(&range->lock);
	return error;
}

void range_grow(struct range *range, uint64_t length)
{
	uint64_t end = atomic_load_explicit(&range->end, memory_order_relaxed);

	assert(length <= UINT64_MAX - end);
	mutex_lock(&range->lock);
	atomic_store_explicit(&range->end, end + length, memory_order_relaxed);
	mutex_unlock(&range->lock);
}

static bool all_free(struct range *range, uint64_t start, uint64_t length)
{
	struct range_extent gap = tree_gap_before(&range->tree, &range->free_path, start);

	return gap.length > start - gap.start && gap.length - (start - gap.start) >= length;
}

int range_reserve(struct range *range, uint64_t start, uint64_t length)
{
	int error;

	if (!length || start < range->config.start || start >= range->end || length > range->end - start)
		return -ERANGE;
	mutex_lock(&range->lock);
	error = 0;
	if (!all_free(range, start, length)) {
		error = drain(range);
		if (!error && !all_free(range, start, length))
			error = -EEXIST;
	}
	if (!error)
		error = tree_prepare(&range->tree);
	if (!error) {
		tree_take(&range->tree, &range->free_path, start, length);
		add_free(range, -length);
	}
	mutex_unlock(&range->lock);
	return error;
}

int range_defer(struct range *range, uint64_t start, uint64_t length, uint64_t ticket)
{
	assert_inside(range, start, length);
	return deferred_push(&range->deferred, start, length, ticket);
}

/* Frees a batch, or puts back what there is no memory for. */
static bool free_batch(struct range *range, struct deferred_batch *batch)
{
	uint32_t done;
	uint64_t freed = 0;

	mutex_lock(&range->lock);
	for (done = 0; done < batch->count && !tree_prepare(&range->tree); done++) {
		give(range, batch->ranges[done].start, batch->ranges[done].length);
		freed += batch->ranges[done].length;
	}
	add_free(range, freed);
	range->frees += done;
	mutex_unlock(&range->lock);
	deferred_freed(&range->deferred, freed);
	if (done == batch->count) {
		free(batch);
		return true;
	}
	for (uint32_t i = done; i < batch->count; i++)
		batch->ranges[i - done] = batch->ranges[i];
	batch->count -= done;
	deferred_put_back(&range->deferred, batch);
	return false;
}

/* Tells of each range in the batch; those that are not to be freed leave it. */
static void tell_batch(struct range *range, struct deferred_batch *batch,
		       bool (*freed)(void *context, uint64_t start, uint64_t length), void *context)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < batch->count; i++) {
		struct range_extent at = batch->ranges[i];

		if (freed(context, at.start, at.length))
			batch->ranges[kept++] = at;
		else
			deferred_freed(&range->deferred, at.length);
	}
	batch->count = kept;
}

void range_release(struct range *range, uint64_t ticket, bool (*freed)(void *context, uint64_t start, uint64_t length),
		   void *context)
{
	struct deferred_batch *batch;

	while ((batch = deferred_pop_stuck(&range->deferred)))
		if (!free_batch(range, batch))
			return;
	while ((batch = deferred_pop(&range->deferred, ticket))) {
		if (freed)
			tell_batch(range, batch, freed, context);
		if (!free_batch(range, batch))
			return;
	}
	if (!range->magazines)
		return;
	/* Nothing else comes by so regularly. What there is no memory for stays where it is. */
	mutex_lock(&range->lock);
	(void)magazines_trim(range->magazines, give_magazine, range);
	mutex_unlock(&range->lock);
}

/* Lock held, magazines drained. False: stopped. */
static bool each_gap(struct range *range, bool (*visit)(void *context, uint64_t start, uint64_t length), void *context)
{
	tree_seek(&range->tree, &range->free_path, 0);
	for (const struct tree_leaf *leaf = range->free_path.leaf; leaf; leaf = leaf->next)
		for (unsigned int i = 0; i < leaf->count; i++)
			if (!visit(context, leaf->gaps[i].start, leaf->gaps[i].length))
				return false;
	return true;
}

void range_each_free(struct range *range, bool (*visit)(void *context, uint64_t start, uint64_t length), void *context)
{
	mutex_lock(&range->lock);
	(void)drain(range);
	(void)each_gap(range, visit, context);
	mutex_unlock(&range->lock);
}

/* Between the gaps. */
struct inverse {
	bool (*visit)(void *context, uint64_t start, uint64_t length);
	void *context;
	uint64_t end; /* of the last gap */
};

static bool visit_before(void *context, uint64_t start, uint64_t length)
{
	struct inverse *inverse = context;
	uint64_t from = inverse->end;

	inverse->end = start + length;
	return start == from || inverse->visit(inverse->context, from, start - from);
}

void range_each_taken(struct range *range, bool (*visit)(void *context, uint64_t start, uint64_t length),
		      void *context)
{
	struct inverse inverse = { .visit = visit, .context = context, .end = range->config.start };

	mutex_lock(&range->lock);
	(void)drain(range);
	if (each_gap(range, visit_before, &inverse))
		(void)visit_before(&inverse, range->end, 0);
	mutex_unlock(&range->lock);
}

bool range_next_free(struct range *range, uint64_t from, uint64_t at_least, struct range_extent *got)
{
	struct tree_path path = { 0 };
	struct range_extent gap;
	bool found;

	mutex_lock(&range->lock);
	found = tree_find_up(&range->tree, &path, from, range->end, at_least, 0, &got->start);
	if (found) {
		gap = tree_gap_before(&range->tree, &path, got->start);
		got->length = gap.start + gap.length - got->start;
	}
	mutex_unlock(&range->lock);
	return found;
}

bool range_is_taken(struct range *range, uint64_t start, uint64_t length)
{
	struct range_extent gap;

	assert_inside(range, start, length);
	mutex_lock(&range->lock);
	if (start < range->config.boundary)
		(void)drain(range);
	gap = tree_gap_before(&range->tree, &range->free_path, start + length - 1);
	mutex_unlock(&range->lock);
	return gap.start + gap.length <= start;
}

uint64_t range_free_count(struct range *range)
{
	uint64_t count = atomic_load_explicit(&range->free, memory_order_relaxed);

	if (range->magazines)
		count += magazines_balance(range->magazines) << range->unit_shift;
	return count;
}

void range_stats(struct range *range, struct range_stats *stats)
{
	uint64_t held = 0, gets = 0, puts = 0;

	mutex_lock(&range->lock);
	if (range->magazines)
		magazines_count(range->magazines, &held, &gets, &puts);
	*stats = (struct range_stats){
		.total = range->end - range->config.start,
		.free = range_free_count(range),
		.deferred = atomic_load_explicit(&range->deferred.blocks, memory_order_relaxed),
		.magazines = held << range->unit_shift,
		.ranges = range->tree.gaps,
		.largest_free = range->tree.fit[0],
		.visited = range->tree.visited,
		.allocations = range->allocations + gets,
		.frees = range->frees + puts,
		.memory_bytes = sizeof(*range) + (range->magazines ? range->magazines->bytes : 0) +
				tree_bytes(&range->tree) + deferred_bytes(&range->deferred),
	};
	for (unsigned int i = 0; i < RANGE_HISTOGRAM; i++)
		stats->free_extents[i] = range->tree.histogram[i];
	mutex_unlock(&range->lock);
}

/* The ranges in magazines: held back from the tree, aligned, no two of them the same. */
struct holding {
	struct range *range;
	uint64_t count, blocks;
	struct range_extent *extents;
};

static int hold(void *context, uint64_t start, unsigned int units)
{
	struct holding *holding = context;
	struct range *range = holding->range;
	uint64_t length = (uint64_t)units << range->unit_shift;
	struct range_extent gap = tree_gap_before(&range->tree, &range->free_path, start + length - 1);

	if (gap.start + gap.length > start || start & ((UINT64_C(1) << range->magazine_shift) - 1))
		return -EINVAL;
	holding->extents[holding->count++] = (struct range_extent){ start, length };
	holding->blocks += length;
	return 0;
}

static int by_start(const void *a, const void *b)
{
	const struct range_extent *left = a, *right = b;

	return left->start < right->start ? -1 : left->start > right->start;
}

static bool check_magazines(struct range *range)
{
	struct holding holding = { .range = range };
	bool good;

	holding.extents = calloc((size_t)range->magazines->kinds * MAGAZINES_A_KIND * MAGAZINE_SIZE,
				 sizeof(*holding.extents));
	if (!holding.extents)
		return true;
	good = !magazines_each(range->magazines, hold, &holding);
	qsort(holding.extents, holding.count, sizeof(holding.extents[0]), by_start);
	for (uint64_t i = 1; good && i < holding.count; i++)
		good = holding.extents[i].start - holding.extents[i - 1].start >= holding.extents[i - 1].length;
	/* What the users hold, what is free and what lies in magazines must add up in the tree. */
	good = good && range_free_count(range) == range->tree.free + holding.blocks;
	free(holding.extents);
	if (!good)
		fputs("range: broken: magazines\n", stderr);
	return good;
}

bool range_check(struct range *range)
{
	bool good;

	mutex_lock(&range->lock);
	good = tree_check(&range->tree) && (!range->magazines || check_magazines(range));
	if (good && !range->magazines && range_free_count(range) != range->tree.free) {
		fputs("range: broken: the count of free blocks\n", stderr);
		good = false;
	}
	mutex_unlock(&range->lock);
	return good;
}
