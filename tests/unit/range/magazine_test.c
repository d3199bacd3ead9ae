/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The rules of magazines, one claim each. */
#include "range_test.h"

#include <errno.h>

static struct range *space_with_magazines(uint64_t length, uint64_t boundary, uint64_t magazine_length)
{
	struct range_config config = { .length = length, .boundary = boundary, .magazine_length = magazine_length };
	struct range *range = range_create(&config);

	ck_assert_ptr_nonnull(range);
	return range;
}

START_TEST(a_free_into_a_magazine_makes_a_hopeless_size_possible)
{
	struct range *range = space_with_magazines(64, 64, 4);
	struct range_extent got;

	while (!alloc_between(range, RANGE_LOW, 4, 4, 0, &got))
		;
	ck_assert_int_eq(alloc_between(range, RANGE_LOW, 4, 4, 0, &got), -ENOSPC);
	ck_assert_int_eq(alloc_between(range, RANGE_HIGH, 2, 2, 0, &got), -ENOSPC);
	ck_assert_int_eq(range_free(range, 32, 4), 0);
	ck_assert_uint_eq(alloc(range, RANGE_HIGH, 2, 0), 34);
	end(range);
}
END_TEST

START_TEST(magazines_count_as_free_and_are_drained_before_enospc)
{
	struct range *range = space_with_magazines(4000, 4000, 4);

	for (unsigned int i = 0; i < 1000; i++)
		alloc(range, RANGE_LOW, 4, 0);
	ck_assert_uint_eq(range_free_count(range), 0);
	for (uint64_t i = 0; i < 1000; i++)
		ck_assert_int_eq(range_free(range, i * 4, 4), 0);
	ck_assert_uint_eq(range_free_count(range), 4000);
	ck_assert_uint_gt(stats_of(range).magazines, 0);
	ck_assert_uint_eq(stats_of(range).free, 4000);
	ck_assert_uint_eq(alloc(range, RANGE_HIGH, 4000, 0), 0);
	ck_assert_uint_eq(stats_of(range).magazines, 0);
	end(range);
}
END_TEST

START_TEST(magazines_are_bounded)
{
	uint64_t n = 100000;
	struct range *range = space_with_magazines(n, n, 1);

	for (uint64_t i = 0; i < n; i++)
		alloc(range, RANGE_LOW, 1, 0);
	for (uint64_t i = 0; i < n; i++)
		ck_assert_int_eq(range_free(range, i, 1), 0);
	ck_assert_uint_eq(range_free_count(range), n);
	ck_assert_uint_lt(stats_of(range).magazines, 5000);
	end(range);
}
END_TEST

START_TEST(what_lies_idle_in_the_depot_is_trimmed)
{
	uint64_t n = 10000, before;
	struct range *range = space_with_magazines(n, n, 1);

	for (uint64_t i = 0; i < n; i++)
		alloc(range, RANGE_LOW, 1, 0);
	for (uint64_t i = 0; i < n; i++)
		ck_assert_int_eq(range_free(range, i, 1), 0);
	before = stats_of(range).magazines;
	range_release(range, 0, NULL, NULL);
	range_release(range, 0, NULL, NULL);
	ck_assert_uint_lt(stats_of(range).magazines, before / 4);
	ck_assert_uint_eq(range_free_count(range), n);
	end(range);
}
END_TEST

START_TEST(magazines_take_no_other_length_zone_or_alignment)
{
	struct range_config config = { .length = 1000, .boundary = 500, .magazine_length = 4, .magazine_align = 4 };
	struct range *range = range_create(&config);

	ck_assert_int_eq(range_reserve(range, 0, 1000), 0);
	ck_assert_int_eq(range_free(range, 101, 4), 0);
	ck_assert_int_eq(range_free(range, 200, 5), 0);
	ck_assert_int_eq(range_free(range, 600, 4), 0);
	ck_assert_uint_eq(stats_of(range).magazines, 0);
	ck_assert_int_eq(range_free(range, 300, 4), 0);
	ck_assert_uint_eq(stats_of(range).magazines, 4);
	ck_assert(!range_is_taken(range, 300, 1));
	end(range);
}
END_TEST

START_TEST(magazines_of_each_length_hand_out_what_was_put_there)
{
	struct range_config config = { .length = 100000, .boundary = 100000, .magazine_length = 2, .magazine_most = 8 };
	struct range *range = range_create(&config);
	uint64_t of_two, of_six, of_ten, before;

	of_two = alloc(range, RANGE_LOW, 2, 0);
	of_six = alloc(range, RANGE_LOW, 6, 0);
	of_ten = alloc(range, RANGE_LOW, 10, 0);
	before = stats_of(range).magazines;
	ck_assert_int_eq(range_free(range, of_two, 2), 0);
	ck_assert_int_eq(range_free(range, of_six, 6), 0);
	ck_assert_uint_eq(stats_of(range).magazines, before + 8);
	ck_assert_int_eq(range_free(range, of_ten, 10), 0); /* too long for any */
	ck_assert_uint_eq(stats_of(range).magazines, before + 8);
	ck_assert(!range_is_taken(range, of_six, 6));
	range_destroy(range);

	range = range_create(&config);
	of_two = alloc(range, RANGE_LOW, 2, 0);
	of_six = alloc(range, RANGE_LOW, 6, 0);
	ck_assert_int_eq(range_free(range, of_six, 6), 0);
	ck_assert_int_eq(range_free(range, of_two, 2), 0);
	before = stats_of(range).visited;
	ck_assert_uint_eq(alloc(range, RANGE_LOW, 6, 0), of_six);
	ck_assert_uint_eq(alloc(range, RANGE_LOW, 2, 0), of_two);
	ck_assert_uint_eq(stats_of(range).visited, before);
	end(range);
}
END_TEST

START_TEST(reserve_and_the_walks_see_what_magazines_hold_as_free)
{
	struct range *range = space_with_magazines(100, 100, 1);

	ck_assert_int_eq(range_reserve(range, 0, 100), 0);
	ck_assert_int_eq(range_free(range, 50, 1), 0);
	ck_assert_uint_eq(stats_of(range).magazines, 1);
	ck_assert_int_eq(range_reserve(range, 50, 1), 0);
	ck_assert_uint_eq(range_free_count(range), 0);
	end(range);
}
END_TEST

TCase *magazine_tests(void)
{
	TCase *tests = tcase_create("magazine");

	tcase_set_timeout(tests, 0);
	tcase_add_test(tests, a_free_into_a_magazine_makes_a_hopeless_size_possible);
	tcase_add_test(tests, magazines_count_as_free_and_are_drained_before_enospc);
	tcase_add_test(tests, magazines_are_bounded);
	tcase_add_test(tests, what_lies_idle_in_the_depot_is_trimmed);
	tcase_add_test(tests, magazines_take_no_other_length_zone_or_alignment);
	tcase_add_test(tests, magazines_of_each_length_hand_out_what_was_put_there);
	tcase_add_test(tests, reserve_and_the_walks_see_what_magazines_hold_as_free);
	return tests;
}
