/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The rules of the interface, one claim each. */
#include "range_test.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>

START_TEST(a_low_request_goes_as_high_as_it_can_below_the_boundary)
{
	struct range *range = space(1000, 500);

	ck_assert_uint_eq(alloc(range, RANGE_LOW, 10, 0), 490);
	ck_assert_uint_eq(alloc(range, RANGE_LOW, 10, 0), 480);
	ck_assert_int_eq(range_free(range, 495, 3), 0);
	ck_assert_uint_eq(alloc(range, RANGE_LOW, 10, 0), 470);
	ck_assert_uint_eq(alloc(range, RANGE_LOW, 2, 0), 496);
	ck_assert_uint_eq(alloc(range, RANGE_LOW, 1, 0), 495);
	ck_assert_uint_eq(alloc(range, RANGE_LOW, 10, 0), 460);
	ck_assert_int_eq(range_free(range, 480, 10), 0);
	ck_assert_uint_eq(alloc(range, RANGE_LOW, 10, 0), 480);
	end(range);
}
END_TEST

START_TEST(a_high_request_goes_on_where_the_last_one_ended)
{
	struct range *range = space(1000, 500);

	ck_assert_uint_eq(alloc(range, RANGE_HIGH, 10, 0), 500);
	ck_assert_uint_eq(alloc(range, RANGE_HIGH, 10, 0), 510);
	ck_assert_int_eq(range_free(range, 500, 10), 0);
	ck_assert_uint_eq(alloc(range, RANGE_HIGH, 10, 0), 520);
	ck_assert_uint_eq(alloc(range, RANGE_HIGH, 470, 0), 530);
	ck_assert_uint_eq(alloc(range, RANGE_HIGH, 10, 0), 500); /* and begins again at the boundary */
	end(range);
}
END_TEST

START_TEST(a_file_grows_in_place)
{
	struct range *range = space(1000, 0);
	struct range_extent got;

	ck_assert_uint_eq(alloc(range, RANGE_HIGH, 10, 100), 100);
	ck_assert_uint_eq(alloc(range, RANGE_HIGH, 10, 110), 110);
	ck_assert_int_eq(range_reserve(range, 125, 5), 0);
	ck_assert_int_eq(alloc_between(range, RANGE_HIGH, 1, 50, 120, &got), 0);
	ck_assert_uint_eq(got.start, 120);
	ck_assert_uint_eq(got.length, 5);
	end(range);
}
END_TEST

START_TEST(a_taken_goal_is_searched_upwards_from)
{
	struct range *range = space(1000, 0);

	ck_assert_int_eq(range_reserve(range, 100, 20), 0);
	ck_assert_uint_eq(alloc(range, RANGE_HIGH, 10, 100), 120);
	ck_assert_int_eq(range_reserve(range, 995, 5), 0);
	ck_assert_uint_eq(alloc(range, RANGE_HIGH, 10, 995), 0); /* and from the start of the zone */
	end(range);
}
END_TEST

START_TEST(a_goal_does_not_move_the_cached_position)
{
	struct range *range = space(1000, 0);

	ck_assert_uint_eq(alloc(range, RANGE_HIGH, 10, 0), 0);
	ck_assert_uint_eq(alloc(range, RANGE_HIGH, 10, 500), 500);
	ck_assert_uint_eq(alloc(range, RANGE_HIGH, 10, 500), 510);
	ck_assert_uint_eq(alloc(range, RANGE_HIGH, 10, 0), 10);
	end(range);
}
END_TEST

static uint64_t alloc_with_room(struct range *range, uint64_t length, uint64_t goal, uint64_t room)
{
	struct range_request request = { .at_least = length, .at_most = length, .zone = RANGE_HIGH, .goal = goal,
					 .room = room };
	struct range_extent got;

	ck_assert_int_eq(range_alloc(range, &request, &got), 0);
	ck_assert_uint_eq(got.length, length);
	return got.start;
}

START_TEST(room_is_found_and_left_alone)
{
	struct range *range = space(1000, 0);

	ck_assert_int_eq(range_reserve(range, 0, 1000), 0);
	ck_assert_int_eq(range_free(range, 100, 10), 0);
	ck_assert_int_eq(range_free(range, 200, 60), 0);
	ck_assert_int_eq(range_free(range, 400, 100), 0);
	ck_assert_uint_eq(alloc_with_room(range, 4, 0, 50), 200);
	ck_assert_uint_eq(alloc(range, RANGE_HIGH, 1, 0), 250); /* behind the room */
	ck_assert_uint_eq(alloc_with_room(range, 4, 204, 300), 204); /* the goal comes first */
	ck_assert_uint_eq(alloc_with_room(range, 4, 200, 300), 400); /* so much is nowhere: the longest */
	ck_assert_uint_eq(alloc_with_room(range, 4, 200, 300), 208); /* the longest that is nobody's room */
	ck_assert_uint_eq(alloc_with_room(range, 90, 0, 300), 404); /* but it is not held back */
	end(range);
}
END_TEST

/* Two write in turns, a block each, with a third who never comes back; in pieces, how often one had to move. */
static unsigned int moves_of_two(struct range *range, uint64_t blocks)
{
	uint64_t next[2] = { 0, 0 };
	unsigned int moves = 0;

	for (uint64_t i = 0; i < blocks; i++)
		for (unsigned int j = 0; j < 2; j++) {
			uint64_t start = alloc_with_room(range, 1, next[j], i < 16 ? 16 : i);

			moves += start != next[j];
			next[j] = start + 1;
		}
	return moves;
}

START_TEST(two_that_grow_at_once_do_not_take_turns)
{
	struct range *range = space(20000, 0);

	ck_assert_uint_le(moves_of_two(range, 1000), 2 * 8);
	end(range);
	range = space(100000, 0);
	for (uint64_t i = 0; i < 100000; i += 60 + i % 40)
		ck_assert_int_eq(range_reserve(range, i, 1), 0);
	ck_assert_uint_le(moves_of_two(range, 1000), 2 * (8 + 1000 / 60));
	end(range);
}
END_TEST

START_TEST(each_zone_falls_over_to_the_other)
{
	struct range *range = space(100, 50);

	ck_assert_uint_eq(alloc(range, RANGE_LOW, 50, 0), 0);
	ck_assert_uint_eq(alloc(range, RANGE_LOW, 10, 0), 50);
	ck_assert_int_eq(range_free(range, 0, 50), 0);
	ck_assert_int_eq(range_reserve(range, 60, 40), 0);
	ck_assert_uint_eq(alloc(range, RANGE_HIGH, 10, 0), 40);
	end(range);
}
END_TEST

START_TEST(a_piece_across_the_boundary_is_found_last)
{
	struct range *range = space(100, 50);

	ck_assert_int_eq(range_reserve(range, 0, 45), 0);
	ck_assert_int_eq(range_reserve(range, 55, 45), 0);
	ck_assert_uint_eq(alloc(range, RANGE_HIGH, 8, 0), 45);
	end(range);
}
END_TEST

START_TEST(the_longest_piece_comes_if_the_whole_does_not_fit)
{
	struct range *range = space(1000, 0);
	struct range_extent got;

	ck_assert_int_eq(range_reserve(range, 0, 1000), 0);
	ck_assert_int_eq(range_free(range, 100, 5), 0);
	ck_assert_int_eq(range_free(range, 300, 20), 0);
	ck_assert_int_eq(range_free(range, 600, 7), 0);
	ck_assert_int_eq(alloc_between(range, RANGE_HIGH, 1, 50, 0, &got), 0);
	ck_assert_uint_eq(got.start, 300);
	ck_assert_uint_eq(got.length, 20);
	ck_assert_int_eq(alloc_between(range, RANGE_HIGH, 8, 50, 0, &got), -ENOSPC);
	ck_assert_int_eq(alloc_between(range, RANGE_HIGH, 6, 50, 0, &got), 0);
	ck_assert_uint_eq(got.start, 600);
	end(range);
}
END_TEST

START_TEST(a_fragmented_space_ends_in_pieces_and_not_in_enospc)
{
	struct range *range = space(1000, 0);
	struct range_extent got;
	uint64_t sum = 0;

	for (uint64_t i = 0; i < 1000; i += 2)
		ck_assert_int_eq(range_reserve(range, i, 1), 0);
	while (!alloc_between(range, RANGE_HIGH, 1, 100, 0, &got))
		sum += got.length;
	ck_assert_uint_eq(sum, 500);
	ck_assert_uint_eq(range_free_count(range), 0);
	end(range);
}
END_TEST

START_TEST(an_alignment_is_kept_however_large)
{
	struct range *range = space(UINT64_C(1) << 40, 1000);
	struct range_extent got;

	for (unsigned int shift = 0; shift < 39; shift++) {
		struct range_request request = { .at_least = 3, .at_most = 3, .align = UINT64_C(1) << shift,
						 .zone = RANGE_HIGH };

		ck_assert_int_eq(range_alloc(range, &request, &got), 0);
		ck_assert_uint_eq(got.start & (request.align - 1), 0);
		ck_assert(range_check(range));
	}
	end(range);
}
END_TEST

/* Gaps of 7 at 1 mod 8 hold no aligned 8, nor do gaps of 8; a maximum of lengths would say that they do. */
START_TEST(long_gaps_in_the_wrong_place_are_not_visited)
{
	struct range *range = space(1000000, 0);
	struct range_request request = { .at_least = 8, .at_most = 8, .align = 8, .zone = RANGE_HIGH };
	struct range_extent got;
	uint64_t before;

	ck_assert_int_eq(range_reserve(range, 0, 1000000), 0);
	for (uint64_t i = 0; i + 24 <= 1000000; i += 16)
		ck_assert_int_eq(range_free(range, i + 1, 14), 0);
	ck_assert_int_eq(range_alloc(range, &request, &got), -ENOSPC);
	ck_assert_int_eq(range_free(range, 999992, 8), 0);
	before = stats_of(range).visited;
	ck_assert_int_eq(range_alloc(range, &request, &got), 0);
	ck_assert_uint_eq(got.start, 999992);
	ck_assert_uint_lt(stats_of(range).visited - before, 20);
	end(range);
}
END_TEST

START_TEST(reserve_takes_exactly_or_changes_nothing)
{
	struct range_config config = { .start = 100, .length = 100, .boundary = 150 };
	struct range *range = range_create(&config);

	ck_assert_int_eq(range_reserve(range, 120, 10), 0);
	ck_assert_int_eq(range_reserve(range, 120, 10), -EEXIST);
	ck_assert_int_eq(range_reserve(range, 110, 11), -EEXIST);
	ck_assert_int_eq(range_reserve(range, 129, 10), -EEXIST);
	ck_assert_int_eq(range_reserve(range, 99, 2), -ERANGE);
	ck_assert_int_eq(range_reserve(range, 199, 2), -ERANGE);
	ck_assert_int_eq(range_reserve(range, 199, UINT64_MAX), -ERANGE);
	ck_assert_int_eq(range_reserve(range, 150, 0), -ERANGE);
	ck_assert_uint_eq(range_free_count(range), 90);
	ck_assert(range_is_taken(range, 120, 10));
	ck_assert(!range_is_taken(range, 119, 2));
	ck_assert(!range_is_taken(range, 129, 2));
	end(range);
}
END_TEST

START_TEST(neighbours_are_one_node)
{
	struct range *range = space(100000, 0);

	for (uint64_t i = 0; i < 100000; i += 10)
		ck_assert_int_eq(range_reserve(range, i, 10), 0);
	ck_assert_uint_eq(stats_of(range).ranges, 0);
	for (uint64_t i = 0; i < 100000; i += 20)
		ck_assert_int_eq(range_free(range, i, 10), 0);
	ck_assert_uint_eq(stats_of(range).ranges, 5000);
	for (uint64_t i = 10; i < 100000; i += 20)
		ck_assert_int_eq(range_free(range, i, 10), 0);
	ck_assert_uint_eq(stats_of(range).ranges, 1);
	ck_assert_uint_lt(stats_of(range).memory_bytes, 100000);
	end(range);
}
END_TEST

START_TEST(a_part_of_a_taken_range_can_be_freed)
{
	struct range *range = space(100, 0);

	ck_assert_int_eq(range_reserve(range, 0, 100), 0);
	ck_assert_int_eq(range_free(range, 40, 20), 0);
	ck_assert(range_is_taken(range, 0, 40));
	ck_assert(range_is_taken(range, 60, 40));
	ck_assert_uint_eq(range_free_count(range), 20);
	end(range);
}
END_TEST

/* Asks for two where every second block is taken, with room at the far end. The nodes visited by one request. */
static uint64_t visits_when_fragmented(uint64_t n, enum range_zone zone)
{
	struct range *range = space(2 * n + 4, zone == RANGE_LOW ? 2 * n + 4 : 0);
	uint64_t from = zone == RANGE_LOW ? 2 : 0, before, start;

	for (uint64_t i = 0; i < n; i++)
		ck_assert_int_eq(range_reserve(range, from + 2 * i, 1), 0);
	ck_assert_int_eq(range_reserve(range, zone == RANGE_LOW ? 2 * n + 2 : 2 * n, 2), 0);
	/* A smaller request draws the low zone's position up; a goal begins the high zone's search at its start. */
	alloc(range, zone, 1, zone == RANGE_LOW ? 0 : 1);
	before = stats_of(range).visited;
	start = alloc(range, zone, 2, zone == RANGE_LOW ? 0 : 1);
	ck_assert_uint_eq(start, zone == RANGE_LOW ? 0 : 2 * n + 2);
	before = stats_of(range).visited - before;
	end(range);
	return before;
}

START_TEST(fragmentation_costs_a_walk_up_and_down_and_no_more)
{
	for (enum range_zone zone = RANGE_LOW; zone <= RANGE_HIGH; zone++) {
		uint64_t few = visits_when_fragmented(1000, zone), many = visits_when_fragmented(200000, zone);

		ck_assert_uint_gt(few, 0);
		ck_assert_uint_le(many, 4 * few);
	}
}
END_TEST

START_TEST(a_hopeless_size_is_not_searched_for)
{
	struct range *range = space(100000, 0);
	struct range_extent got;
	uint64_t before;

	for (uint64_t i = 0; i < 100000; i += 2)
		ck_assert_int_eq(range_reserve(range, i, 1), 0);
	before = stats_of(range).visited;
	for (unsigned int i = 0; i < 100; i++)
		ck_assert_int_eq(alloc_between(range, RANGE_HIGH, 2, 2, 0, &got), -ENOSPC);
	ck_assert_uint_eq(stats_of(range).visited, before);
	ck_assert_int_eq(range_free(range, 500, 1), 0); /* any free may change that */
	ck_assert_uint_eq(alloc(range, RANGE_HIGH, 3, 0), 499);
	end(range);
}
END_TEST

struct collected {
	struct range_extent extents[16];
	unsigned int count, limit;
};

static bool collect(void *context, uint64_t start, uint64_t length)
{
	struct collected *collected = context;

	collected->extents[collected->count++] = (struct range_extent){ start, length };
	return collected->count < collected->limit;
}

static bool collect_freed(void *context, uint64_t start, uint64_t length)
{
	(void)collect(context, start, length);
	return true;
}

static bool refuse_ten(void *context, uint64_t start, uint64_t length)
{
	return start != 10;
}

START_TEST(a_deferred_range_stays_taken_if_its_user_says_so)
{
	struct range *range = space(100, 50);

	ck_assert_int_eq(range_reserve(range, 0, 100), 0);
	ck_assert_int_eq(range_defer(range, 10, 5, 1), 0);
	ck_assert_int_eq(range_defer(range, 20, 5, 1), 0);
	range_release(range, 1, refuse_ten, NULL);
	ck_assert(range_is_taken(range, 10, 5));
	ck_assert(!range_is_taken(range, 20, 5));
	ck_assert_uint_eq(stats_of(range).deferred, 0);
	ck_assert_int_eq(range_defer(range, 10, 5, 2), 0);
	range_release(range, 2, NULL, NULL);
	ck_assert(!range_is_taken(range, 10, 5));
	end(range);
}
END_TEST

START_TEST(the_walks_go_upwards_until_told_to_stop)
{
	struct range *range = space(100, 50);
	struct collected all = { .limit = 16 }, two = { .limit = 2 }, gaps = { .limit = 16 };

	ck_assert_int_eq(range_reserve(range, 0, 10), 0);
	ck_assert_int_eq(range_reserve(range, 40, 20), 0);
	ck_assert_int_eq(range_reserve(range, 90, 10), 0);
	range_each_taken(range, collect, &all);
	ck_assert_uint_eq(all.count, 3);
	ck_assert_uint_eq(all.extents[0].start, 0);
	ck_assert_uint_eq(all.extents[1].start, 40);
	ck_assert_uint_eq(all.extents[1].length, 20);
	ck_assert_uint_eq(all.extents[2].start, 90);
	range_each_taken(range, collect, &two);
	ck_assert_uint_eq(two.count, 2);
	range_each_free(range, collect, &gaps);
	ck_assert_uint_eq(gaps.count, 2);
	ck_assert_uint_eq(gaps.extents[1].start, 60);
	ck_assert_uint_eq(gaps.extents[1].length, 30);
	end(range);
}
END_TEST

START_TEST(the_next_free_range_is_the_lowest_that_is_long_enough)
{
	struct range *range = space(100, 50);
	struct range_extent got;

	ck_assert_int_eq(range_reserve(range, 0, 100), 0);
	ck_assert(!range_next_free(range, 0, 1, &got));
	ck_assert_int_eq(range_free(range, 10, 5), 0);
	ck_assert_int_eq(range_free(range, 20, 8), 0);
	ck_assert_int_eq(range_free(range, 60, 6), 0);
	ck_assert(range_next_free(range, 0, 1, &got) && got.start == 10 && got.length == 5);
	ck_assert(range_next_free(range, 0, 6, &got) && got.start == 20 && got.length == 8);
	ck_assert(range_next_free(range, 24, 4, &got) && got.start == 24 && got.length == 4);
	ck_assert(range_next_free(range, 24, 5, &got) && got.start == 60 && got.length == 6);
	ck_assert(!range_next_free(range, 66, 1, &got));
	end(range);
}
END_TEST

START_TEST(a_deferred_range_is_taken_until_its_ticket_is_due)
{
	struct range *range = space(100, 0);
	struct collected freed = { .limit = 16 };
	struct range_extent got;

	ck_assert_int_eq(range_reserve(range, 0, 100), 0);
	ck_assert_int_eq(range_defer(range, 30, 10, 5), 0);
	ck_assert_int_eq(range_defer(range, 10, 10, 5), 0);
	ck_assert_int_eq(range_defer(range, 70, 10, 6), 0);
	ck_assert(range_is_taken(range, 0, 100));
	ck_assert_uint_eq(stats_of(range).deferred, 30);
	ck_assert_int_eq(alloc_between(range, RANGE_HIGH, 1, 1, 0, &got), -ENOSPC);
	range_release(range, 4, collect_freed, &freed);
	ck_assert_uint_eq(freed.count, 0);
	range_release(range, 5, collect_freed, &freed);
	ck_assert_uint_eq(freed.count, 2);
	ck_assert_uint_eq(freed.extents[0].start, 10);
	ck_assert_uint_eq(freed.extents[1].start, 30);
	ck_assert_uint_eq(range_free_count(range), 20);
	ck_assert(range_is_taken(range, 70, 10));
	range_release(range, UINT64_MAX, NULL, NULL);
	ck_assert_uint_eq(stats_of(range).deferred, 0);
	ck_assert_uint_eq(range_free_count(range), 30);
	end(range);
}
END_TEST

START_TEST(a_release_of_many_ranges_frees_each)
{
	uint64_t n = 20000;
	struct range *range = space(2 * n, 0);

	ck_assert_int_eq(range_reserve(range, 0, 2 * n), 0);
	for (uint64_t i = 0; i < n; i++)
		ck_assert_int_eq(range_defer(range, (i * 7919 % n) * 2, 1, i / 100), 0);
	range_release(range, n / 200 - 1, NULL, NULL);
	ck_assert_uint_eq(range_free_count(range), n / 2);
	range_release(range, n, NULL, NULL);
	ck_assert_uint_eq(range_free_count(range), n);
	ck_assert_uint_eq(stats_of(range).ranges, n);
	end(range);
}
END_TEST

START_TEST(an_ascending_load_fits_into_64_bytes_a_range_and_visits_little)
{
	uint64_t n = 300000;
	struct range *range = space(3 * n, 0);

	for (uint64_t i = 0; i < n; i++)
		ck_assert_int_eq(range_reserve(range, 3 * i, 2), 0);
	ck_assert_uint_le(stats_of(range).memory_bytes, 64 * n);
	ck_assert_uint_le(stats_of(range).visited, 4 * n);
	end(range);
}
END_TEST

START_TEST(random_frees_fit_into_64_bytes_a_range)
{
	uint64_t n = 200000, seed = 1;
	struct range *range = space(2 * n, 0);

	ck_assert_int_eq(range_reserve(range, 0, 2 * n), 0);
	for (uint64_t i = 0; i < n; i++)
		ck_assert_int_eq(range_free(range, i * 99991 % n * 2, 1), 0);
	ck_assert_uint_le(stats_of(range).memory_bytes, 64 * stats_of(range).ranges);
	while (stats_of(range).ranges > 1000) {
		uint64_t start = random_below(&seed, n) * 2;

		if (!range_is_taken(range, start, 1))
			ck_assert_int_eq(range_reserve(range, start, 1), 0);
	}
	ck_assert_uint_le(stats_of(range).memory_bytes, 64 * 1000 + 16384);
	end(range);
}
END_TEST

START_TEST(the_histogram_counts_gaps_by_their_length)
{
	struct range *range = space(1000, 0);
	struct range_stats stats;

	ck_assert_int_eq(range_reserve(range, 0, 1000), 0);
	ck_assert_int_eq(range_free(range, 0, 1), 0);
	ck_assert_int_eq(range_free(range, 10, 7), 0);
	ck_assert_int_eq(range_free(range, 20, 4), 0);
	ck_assert_int_eq(range_free(range, 100, 300), 0);
	stats = stats_of(range);
	ck_assert_uint_eq(stats.free_extents[0], 1);
	ck_assert_uint_eq(stats.free_extents[2], 2);
	ck_assert_uint_eq(stats.free_extents[8], 1);
	ck_assert_uint_eq(stats.largest_free, 300);
	ck_assert_uint_eq(stats.total, 1000);
	ck_assert_uint_eq(stats.frees, 4);
	end(range);
}
END_TEST

START_TEST(an_empty_space_has_no_room)
{
	struct range *range = space(0, 0);
	struct range_extent got;

	ck_assert_int_eq(alloc_between(range, RANGE_LOW, 1, 9, 0, &got), -ENOSPC);
	ck_assert_int_eq(range_reserve(range, 0, 1), -ERANGE);
	end(range);
}
END_TEST

START_TEST(the_last_block_of_all_can_be_taken)
{
	struct range_config config = { .start = UINT64_MAX - 10, .length = 10, .boundary = UINT64_MAX - 5 };
	struct range *range = range_create(&config);

	ck_assert_uint_eq(alloc(range, RANGE_HIGH, 5, 0), UINT64_MAX - 5);
	ck_assert_uint_eq(alloc(range, RANGE_HIGH, 5, 0), UINT64_MAX - 10);
	ck_assert_int_eq(range_free(range, UINT64_MAX - 1, 1), 0);
	ck_assert_uint_eq(alloc(range, RANGE_LOW, 1, 0), UINT64_MAX - 1);
	end(range);
}
END_TEST

#ifndef NDEBUG
START_TEST(a_range_freed_twice_aborts)
{
	struct range *range = space(100, 0);

	ck_assert_int_eq(range_reserve(range, 0, 50), 0);
	(void)range_free(range, 40, 20);
}
END_TEST

START_TEST(a_ticket_that_decreases_aborts)
{
	struct range *range = space(100, 0);

	ck_assert_int_eq(range_reserve(range, 0, 50), 0);
	(void)range_defer(range, 0, 1, 2);
	(void)range_defer(range, 1, 1, 1);
}
END_TEST
#endif

static TCase *rules(void)
{
	TCase *tests = tcase_create("rules");

	tcase_set_timeout(tests, 0);
	tcase_add_test(tests, a_low_request_goes_as_high_as_it_can_below_the_boundary);
	tcase_add_test(tests, a_high_request_goes_on_where_the_last_one_ended);
	tcase_add_test(tests, a_file_grows_in_place);
	tcase_add_test(tests, a_taken_goal_is_searched_upwards_from);
	tcase_add_test(tests, a_goal_does_not_move_the_cached_position);
	tcase_add_test(tests, room_is_found_and_left_alone);
	tcase_add_test(tests, two_that_grow_at_once_do_not_take_turns);
	tcase_add_test(tests, each_zone_falls_over_to_the_other);
	tcase_add_test(tests, a_piece_across_the_boundary_is_found_last);
	tcase_add_test(tests, the_longest_piece_comes_if_the_whole_does_not_fit);
	tcase_add_test(tests, a_fragmented_space_ends_in_pieces_and_not_in_enospc);
	tcase_add_test(tests, an_alignment_is_kept_however_large);
	tcase_add_test(tests, long_gaps_in_the_wrong_place_are_not_visited);
	tcase_add_test(tests, reserve_takes_exactly_or_changes_nothing);
	tcase_add_test(tests, neighbours_are_one_node);
	tcase_add_test(tests, a_part_of_a_taken_range_can_be_freed);
	tcase_add_test(tests, fragmentation_costs_a_walk_up_and_down_and_no_more);
	tcase_add_test(tests, a_hopeless_size_is_not_searched_for);
	tcase_add_test(tests, a_deferred_range_stays_taken_if_its_user_says_so);
	tcase_add_test(tests, the_walks_go_upwards_until_told_to_stop);
	tcase_add_test(tests, the_next_free_range_is_the_lowest_that_is_long_enough);
	tcase_add_test(tests, a_deferred_range_is_taken_until_its_ticket_is_due);
	tcase_add_test(tests, a_release_of_many_ranges_frees_each);
	tcase_add_test(tests, an_ascending_load_fits_into_64_bytes_a_range_and_visits_little);
	tcase_add_test(tests, random_frees_fit_into_64_bytes_a_range);
	tcase_add_test(tests, the_histogram_counts_gaps_by_their_length);
	tcase_add_test(tests, an_empty_space_has_no_room);
	tcase_add_test(tests, the_last_block_of_all_can_be_taken);
#ifndef NDEBUG
	tcase_add_test_raise_signal(tests, a_range_freed_twice_aborts, SIGABRT);
	tcase_add_test_raise_signal(tests, a_ticket_that_decreases_aborts, SIGABRT);
#endif
	return tests;
}

int main(void)
{
	Suite *suite = suite_create("range");
	SRunner *runner;
	int failed;

	suite_add_tcase(suite, rules());
	suite_add_tcase(suite, magazine_tests());
	suite_add_tcase(suite, model_tests());
	suite_add_tcase(suite, threads_tests());
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
