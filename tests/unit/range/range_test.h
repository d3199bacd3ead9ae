/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef TESTS_UNIT_RANGE_RANGE_TEST_H
#define TESTS_UNIT_RANGE_RANGE_TEST_H

#include "mirrorfs/range.h"

#include <check.h>

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

#endif
