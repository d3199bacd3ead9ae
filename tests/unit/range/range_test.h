/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef TESTS_UNIT_RANGE_RANGE_TEST_H
#define TESTS_UNIT_RANGE_RANGE_TEST_H

#include "mirrorfs/range.h"

#include <check.h>

TCase *magazine_tests(void);
TCase *model_tests(void);
TCase *threads_tests(void);

/* splitmix64: the same sequence everywhere from a seed. */
static inline uint64_t random_next(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

static inline uint64_t random_below(uint64_t *state, uint64_t limit)
{
	return random_next(state) % limit;
}

static inline struct range *space(uint64_t length, uint64_t boundary)
{
	struct range_config config = { .length = length, .boundary = boundary };
	struct range *range = range_create(&config);

	ck_assert_ptr_nonnull(range);
	return range;
}

static inline int alloc_between(struct range *range, enum range_zone zone, uint64_t at_least, uint64_t at_most,
				uint64_t goal, struct range_extent *got)
{
	struct range_request request = { .at_least = at_least, .at_most = at_most, .zone = zone, .goal = goal };

	return range_alloc(range, &request, got);
}

static inline uint64_t alloc(struct range *range, enum range_zone zone, uint64_t length, uint64_t goal)
{
	struct range_extent got;

	ck_assert_int_eq(alloc_between(range, zone, length, length, goal, &got), 0);
	ck_assert_uint_eq(got.length, length);
	return got.start;
}

static inline void end(struct range *range)
{
	ck_assert(range_check(range));
	range_destroy(range);
}

static inline struct range_stats stats_of(struct range *range)
{
	struct range_stats stats;

	range_stats(range, &stats);
	return stats;
}

#endif
