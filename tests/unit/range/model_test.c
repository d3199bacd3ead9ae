/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Random operations against a map of one byte a block, which is searched naively. After each step the result
 * must be one that the map allows and range_check() must hold. The seed is printed; MIRRORFS_SEED replays a run,
 * MIRRORFS_STEPS makes it longer.
 */
#include "range_test.h"

#include "mirrorfs/base/clock.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FREE, TAKEN, DEFERRED };

#define QUEUE_MAX 4096

/* Check writes each of its assertions down, which would be gigabytes in a run of millions of steps. */
#define HOLDS(condition)                                                                                          \
	do {                                                                                                      \
		if (!(condition))                                                                                 \
			ck_abort_msg("%s", #condition);                                                           \
	} while (0)
#define EQUAL(a, b)                                                                                               \
	do {                                                                                                      \
		int64_t is_ = (int64_t)(a), due_ = (int64_t)(b);                                                  \
                                                                                                                  \
		if (is_ != due_)                                                                                  \
			ck_abort_msg("%s is %" PRId64 ", %s is %" PRId64, #a, is_, #b, due_);                     \
	} while (0)

struct model {
	struct range_config config;
	struct range *range;
	uint64_t seed;
	unsigned char *map; /* by block - config.start */
	uint64_t free;
	struct {
		uint64_t start, length, ticket;
	} queue[QUEUE_MAX];
	unsigned int queued;
	uint64_t ticket, released, told;
	bool filling;
};

static uint64_t env_number(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text && *text ? strtoull(text, NULL, 0) : otherwise;
}

static uint64_t at(const struct model *model, uint64_t position)
{
	return model->map[position - model->config.start];
}

static uint64_t end_of(const struct model *model)
{
	return model->config.start + model->config.length;
}

static bool is(const struct model *model, uint64_t start, uint64_t length, int state)
{
	for (uint64_t i = 0; i < length; i++)
		if (at(model, start + i) != (uint64_t)state)
			return false;
	return true;
}

static void set(struct model *model, uint64_t start, uint64_t length, int from, int to)
{
	HOLDS(is(model, start, length, from));
	memset(model->map + (start - model->config.start), to, length);
	model->free += to == FREE ? length : 0;
	model->free -= from == FREE ? length : 0;
}

/* The longest piece at an aligned start in [from, to), the lowest such place in *low and the highest in *high. */
static uint64_t longest(const struct model *model, uint64_t from, uint64_t to, uint64_t align, uint64_t enough,
			uint64_t *low, uint64_t *high)
{
	uint64_t best = 0, run = 0;

	for (uint64_t position = to; position > from; position--) {
		run = at(model, position - 1) == FREE ? run + 1 : 0;
		if ((position - 1) & (align - 1))
			continue;
		uint64_t here = run < enough ? run : enough;

		if (here > best) {
			best = here;
			*high = position - 1;
		}
		if (here == best)
			*low = position - 1;
	}
	return best;
}

static uint64_t random_size(struct model *model)
{
	uint64_t most = random_below(&model->seed, 16) ? 12 : model->config.length / 3 + 1;

	return 1 + random_below(&model->seed, 1 + random_below(&model->seed, most));
}

static void expect_placement(const struct model *model, const struct range_request *request,
			     const struct range_extent *got)
{
	uint64_t align = request->align ? request->align : 1, low = 0, high = 0;
	uint64_t boundary = model->config.boundary, goal = request->zone == RANGE_HIGH ? request->goal : 0;
	uint64_t from = request->zone == RANGE_LOW ? model->config.start : boundary;
	uint64_t to = request->zone == RANGE_LOW ? boundary : end_of(model);
	bool magazines = model->config.magazine_length; /* what lies in them is free to the map, but found last */
	uint64_t most;

	if (goal && !(magazines && goal < boundary) && !(goal & (align - 1)) && is(model, goal, 1, FREE)) {
		uint64_t run = 0;

		while (run < request->at_most && goal + run < end_of(model) && at(model, goal + run) == FREE)
			run++;
		if (run >= request->at_least) {
			EQUAL(got->start, goal);
			EQUAL(got->length, run);
			return;
		}
	}
	if (magazines)
		return;
	most = longest(model, from, to, align, request->at_most, &low, &high);
	if (most >= request->at_least) {
		EQUAL(got->length, most);
		HOLDS(got->start >= from && got->start + got->length <= to);
		if (request->zone == RANGE_LOW)
			EQUAL(got->start, high);
		if (goal > boundary && request->room <= request->at_most &&
		    longest(model, goal, to, align, most, &low, &high) == most)
			EQUAL(got->start, low);
	}
}

static void step_alloc(struct model *model)
{
	struct range_request request = { .at_least = random_size(model), .zone = RANGE_LOW };
	struct range_extent got = { 0 };
	uint64_t low, high, most;
	int error;

	request.at_most = request.at_least;
	if (!random_below(&model->seed, 3))
		request.at_most += random_size(model);
	if (!random_below(&model->seed, 3))
		request.align = UINT64_C(1) << random_below(&model->seed, 6);
	if (model->config.magazine_length && !random_below(&model->seed, 2)) {
		request.at_least = model->config.magazine_length * (1 + random_below(&model->seed, 9));
		request.at_most = request.at_least;
		request.align = model->config.magazine_align;
	} else if (random_below(&model->seed, 2)) {
		request.zone = RANGE_HIGH;
	}
	if (request.zone == RANGE_HIGH && random_below(&model->seed, 2))
		request.goal = model->config.start + random_below(&model->seed, model->config.length);
	if (request.zone == RANGE_HIGH && !random_below(&model->seed, 3))
		request.room = random_size(model);

	most = longest(model, model->config.start, end_of(model), request.align ? request.align : 1, request.at_most,
		       &low, &high);
	error = range_alloc(model->range, &request, &got);
	if (most < request.at_least) {
		EQUAL(error, -ENOSPC);
		model->filling = false;
		return;
	}
	EQUAL(error, 0);
	HOLDS(got.length >= request.at_least && got.length <= request.at_most);
	HOLDS(got.start >= model->config.start && got.start + got.length <= end_of(model));
	if (request.align)
		EQUAL(got.start % request.align, 0);
	expect_placement(model, &request, &got);
	set(model, got.start, got.length, FREE, TAKEN);
}

/* Some taken range, or none. */
static bool random_taken(struct model *model, uint64_t *start, uint64_t *length)
{
	uint64_t from = random_below(&model->seed, model->config.length), most = random_size(model), n = 0;

	for (uint64_t i = 0; i < 200; i++, from = (from + 1) % model->config.length)
		if (model->map[from] == TAKEN)
			break;
	while (n < most && from + n < model->config.length && model->map[from + n] == TAKEN)
		n++;
	*start = model->config.start + from;
	*length = n;
	return n;
}

static void step_free(struct model *model)
{
	uint64_t start, length;

	if (!random_taken(model, &start, &length)) {
		model->filling = true;
		return;
	}
	EQUAL(range_free(model->range, start, length), 0);
	set(model, start, length, TAKEN, FREE);
}

static void step_reserve(struct model *model)
{
	uint64_t start = model->config.start + random_below(&model->seed, model->config.length);
	uint64_t length = random_size(model);

	if (length > end_of(model) - start) {
		EQUAL(range_reserve(model->range, start, length), -ERANGE);
	} else if (is(model, start, length, FREE)) {
		HOLDS(!range_is_taken(model->range, start, length));
		EQUAL(range_reserve(model->range, start, length), 0);
		set(model, start, length, FREE, TAKEN);
	} else {
		bool all = true;

		for (uint64_t i = 0; i < length; i++)
			all = all && at(model, start + i) != FREE;
		EQUAL(range_reserve(model->range, start, length), -EEXIST);
		EQUAL(range_is_taken(model->range, start, length), all);
	}
}

static void step_defer(struct model *model)
{
	uint64_t start, length;

	if (model->queued == QUEUE_MAX || !random_taken(model, &start, &length))
		return;
	model->ticket += random_below(&model->seed, 2);
	EQUAL(range_defer(model->range, start, length, model->ticket), 0);
	set(model, start, length, TAKEN, DEFERRED);
	model->queue[model->queued].start = start;
	model->queue[model->queued].length = length;
	model->queue[model->queued++].ticket = model->ticket;
}

static bool told(void *context, uint64_t start, uint64_t length)
{
	struct model *model = context;

	HOLDS(is(model, start, length, DEFERRED));
	HOLDS(range_is_taken(model->range, start, length));
	model->told += length;
	return true;
}

static void step_release(struct model *model)
{
	uint64_t ticket = model->ticket - random_below(&model->seed, model->ticket + 1), due = 0;
	unsigned int kept = 0;

	for (unsigned int i = 0; i < model->queued; i++)
		if (model->queue[i].ticket <= ticket)
			due += model->queue[i].length;
	model->told = 0;
	range_release(model->range, ticket, told, model);
	EQUAL(model->told, due);
	for (unsigned int i = 0; i < model->queued; i++) {
		if (model->queue[i].ticket <= ticket)
			set(model, model->queue[i].start, model->queue[i].length, DEFERRED, FREE);
		else
			model->queue[kept++] = model->queue[i];
	}
	model->queued = kept;
}

struct walk {
	struct model *model;
	uint64_t position;
	bool taken;
};

/* Blocks from walk->position to `end` must be taken (or not). */
static void expect(struct walk *walk, uint64_t end, bool taken)
{
	for (; walk->position < end; walk->position++)
		if ((at(walk->model, walk->position) != FREE) != taken)
			ck_abort_msg("block %" PRIu64 " is walked over as %s", walk->position,
				     taken ? "taken" : "free");
}

static bool walk(void *context, uint64_t start, uint64_t length)
{
	struct walk *walk = context;

	HOLDS(start >= walk->position && length);
	expect(walk, start, !walk->taken);
	expect(walk, start + length, walk->taken);
	return true;
}

static void compare(struct model *model)
{
	struct walk taken = { model, model->config.start, true }, free_ones = { model, model->config.start, false };
	struct range_stats stats;
	uint64_t deferred = 0;

	range_each_taken(model->range, walk, &taken);
	expect(&taken, end_of(model), false);
	range_each_free(model->range, walk, &free_ones);
	expect(&free_ones, end_of(model), true);
	for (unsigned int i = 0; i < model->queued; i++)
		deferred += model->queue[i].length;
	range_stats(model->range, &stats);
	EQUAL(stats.deferred, deferred);
	EQUAL(stats.free, model->free);
}

static void run_model(const struct range_config *config, uint64_t steps)
{
	struct model *model = calloc(1, sizeof(*model));
	uint64_t seed = env_number("MIRRORFS_SEED", random_u64());

	printf("model: MIRRORFS_SEED=%" PRIu64 " length=%" PRIu64 " magazines=%" PRIu64 "\n", seed, config->length,
	       config->magazine_length);
	fflush(stdout);
	model->config = *config;
	model->seed = seed;
	model->map = calloc(1, config->length);
	model->free = config->length;
	model->filling = true;
	model->range = range_create(config);
	HOLDS(model->range);
	steps = env_number("MIRRORFS_STEPS", steps);
	for (uint64_t step = 0; step < steps; step++) {
		uint64_t dice = random_below(&model->seed, 100);

		if (dice < (model->filling ? 60 : 30))
			step_alloc(model);
		else if (dice < 85)
			step_free(model);
		else if (dice < 90)
			step_reserve(model);
		else if (dice < 98)
			step_defer(model);
		else
			step_release(model);
		EQUAL(range_free_count(model->range), model->free);
		if (!range_check(model->range))
			ck_abort_msg("seed %" PRIu64 ", step %" PRIu64, seed, step);
		if (!(step % 97))
			compare(model);
	}
	compare(model);
	range_destroy(model->range);
	free(model->map);
	free(model);
}

START_TEST(any_sequence_agrees_with_a_map_of_bytes)
{
	static const struct range_config configs[] = {
		{ .start = 0, .length = 40, .boundary = 16 },
		{ .start = 5, .length = 700, .boundary = 205 },
		{ .start = 1000, .length = 6000, .boundary = 1000 },
		{ .start = 3, .length = 900, .boundary = 903 },
		{ .start = 7, .length = 800, .boundary = 407, .magazine_length = 4, .magazine_align = 4 },
		{ .start = 0, .length = 30000, .boundary = 10000, .magazine_length = 1 },
		{ .start = 2, .length = 2000, .boundary = 1802,
		  .magazine_length = 2, .magazine_most = 16, .magazine_align = 2 },
	};
	uint64_t steps = configs[_i].length > 5000 ? 4000 : 10000;

	run_model(&configs[_i], steps);
}
END_TEST

TCase *model_tests(void)
{
	TCase *tests = tcase_create("model");

	tcase_set_timeout(tests, 0);
	tcase_add_loop_test(tests, any_sequence_agrees_with_a_map_of_bytes, 0, 7);
	return tests;
}
