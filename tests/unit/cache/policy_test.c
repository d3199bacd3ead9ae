/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cache_private.h"
#include "cache_test.h"

#include <sched.h>

static struct cache *cache;
static struct owner data, nodes;

static void setup(void)
{
	cache = make_cache(8 * MIB, NEVER_NS);
	owner_init(&data, cache, CACHE_DATA, 4096, false);
	owner_init(&nodes, cache, CACHE_NODES, 16384, true);
}

static void teardown(void)
{
	owner_fini(&data);
	owner_fini(&nodes);
	cache_destroy(cache);
}

static size_t count_present(struct owner *owner, uint64_t first, uint64_t count)
{
	size_t present = 0;

	for (uint64_t i = first; i < first + count; i++) {
		struct cache_page *page;

		if (cache_get(&owner->space, i, false, true, &page))
			continue;
		present++;
		cache_put(page);
	}
	return present;
}

static void hit_page_one(void *arg)
{
	owner_read(&data, 1);
}

START_TEST(a_hit_takes_no_lock_of_the_cache)
{
	struct thread thread;

	owner_read(&data, 1);
	mutex_lock(&cache->lock);
	ck_assert_int_eq(thread_start(&thread, "hit", hit_page_one, NULL), 0);
	thread_join(&thread);
	mutex_unlock(&cache->lock);
	ck_assert_uint_eq(stats_of(cache).class[CACHE_DATA].hits, 1);
}
END_TEST

START_TEST(a_scan_passes_used_pages_by)
{
	for (int round = 0; round < 3; round++) {
		for (uint64_t i = 0; i < 500; i++)
			owner_read(&data, i);
	}
	for (uint64_t i = 0; i < 10000; i++)
		owner_read(&data, 1000 + i);
	ck_assert_uint_gt(stats_of(cache).class[CACHE_DATA].stolen, 8000);
	ck_assert_uint_ge(count_present(&data, 0, 500), 490);
}
END_TEST

START_TEST(a_page_that_comes_back_soon_is_kept)
{
	owner_read(&data, 0);
	for (uint64_t i = 0; i < 2500; i++)
		owner_read(&data, 1000 + i);
	ck_assert_uint_eq(stats_of(cache).class[CACHE_DATA].refaults, 0);
	/* The reclaimer may still hold the batch that it is in. */
	while (owner_has(&data, 0))
		sched_yield();
	ck_assert(!owner_read(&data, 0));
	ck_assert_uint_eq(stats_of(cache).class[CACHE_DATA].refaults, 1);
	for (uint64_t i = 0; i < 5000; i++)
		owner_read(&data, 1000000 + i);
	ck_assert(owner_has(&data, 0));
}
END_TEST

/* What the textbook's LRU would have hit with room for `capacity` pages. */
static size_t lru_hits(const uint64_t *trace, size_t length, size_t capacity)
{
	uint64_t *stack = calloc(capacity + 1, sizeof(*stack));
	size_t held = 0, hits = 0;

	for (size_t i = 0; i < length; i++) {
		size_t at = 0;

		while (at < held && stack[at] != trace[i])
			at++;
		if (at < held)
			hits++;
		else if (held < capacity)
			held++;
		else
			at = held - 1;
		memmove(stack + 1, stack, at * sizeof(*stack));
		stack[0] = trace[i];
	}
	free(stack);
	return hits;
}

static uint32_t next_random(uint32_t *state)
{
	*state = *state * 1664525 + 1013904223;
	return *state >> 8;
}

START_TEST(a_loop_of_scans_over_a_working_set_hits_more_than_lru)
{
	size_t length = 0, room = 60000, hits = 0;
	uint64_t *trace = calloc(room, sizeof(*trace));
	uint32_t seed = 1;
	struct cache_stats stats;

	/* 600 pages in use all the time, with a scan of 3000 others between that nobody reads twice. */
	for (uint64_t scan = 1; length + 6000 < room; scan++) {
		for (int i = 0; i < 3000; i++) {
			trace[length++] = next_random(&seed) % 600;
			trace[length++] = scan * 10000 + (uint64_t)i;
		}
		for (int i = 0; i < 3000 && length < room; i++)
			trace[length++] = scan * 10000 + 5000 + (uint64_t)i;
	}
	for (size_t i = 0; i < length; i++)
		hits += owner_read(&data, trace[i]);
	stats = stats_of(cache);
	ck_assert_uint_gt(stats.class[CACHE_DATA].stolen, 0);
	/* LRU may even have all the memory that data could ever get. */
	ck_assert_uint_gt(hits, lru_hits(trace, length, 6 * MIB / 4096) * 11 / 10);
	free(trace);
}
END_TEST

static bool has_reclaimed(void *context)
{
	return free_for_data(cache, 25) >= stats_of(cache).high_bytes;
}

/* Reads new pages until less than low is free, and waits for the reclaimer. */
static void reclaim_once(uint64_t from)
{
	while (free_for_data(cache, 25) >= stats_of(cache).low_bytes && !stats_of(cache).wakeups)
		owner_read(&data, from++);
	wait_until(has_reclaimed, NULL);
}

START_TEST(written_pages_go_first)
{
	for (uint64_t i = 0; i < 300; i++)
		owner_read(&data, i);
	for (uint64_t i = 300; i < 400; i++)
		owner_write_page(&data, i);
	ck_assert_int_eq(cache_write_range(&data.space, 0, UINT64_MAX), 0);
	reclaim_once(1000);
	ck_assert_uint_ge(stats_of(cache).class[CACHE_DATA].stolen, 50);
	ck_assert_uint_eq(count_present(&data, 0, 300), 300);
	ck_assert_uint_lt(count_present(&data, 300, 100), 50);
}
END_TEST

START_TEST(written_pages_that_were_used_meanwhile_are_as_good_as_new_ones)
{
	for (uint64_t i = 0; i < 300; i++)
		owner_read(&data, i);
	for (uint64_t i = 300; i < 400; i++)
		owner_write_page(&data, i);
	for (uint64_t i = 300; i < 400; i++)
		owner_read(&data, i);
	ck_assert_int_eq(cache_write_range(&data.space, 0, UINT64_MAX), 0);
	reclaim_once(1000);
	ck_assert_uint_eq(count_present(&data, 300, 100), 100);
}
END_TEST

START_TEST(nodes_keep_their_floor_against_a_data_scan)
{
	for (uint64_t i = 0; i < 120; i++)
		owner_read(&nodes, i * 40);
	for (uint64_t i = 0; i < 20000; i++)
		owner_read(&data, i);
	ck_assert_uint_eq(stats_of(cache).class[CACHE_NODES].stolen, 0);
	ck_assert_uint_eq(stats_of(cache).class[CACHE_NODES].pages, 120);
}
END_TEST

START_TEST(nodes_give_what_they_hold_above_their_floor)
{
	size_t floor = 8 * MIB / 100 * 25;

	for (uint64_t i = 0; i < 440; i++)
		owner_read(&nodes, i);
	ck_assert_uint_gt(stats_of(cache).class[CACHE_NODES].bytes, 2 * floor);
	for (uint64_t i = 0; i < 20000; i++) {
		owner_read(&data, i % 3000);
		ck_assert_uint_ge(stats_of(cache).class[CACHE_NODES].bytes, floor - 16384);
	}
	ck_assert_uint_lt(stats_of(cache).class[CACHE_NODES].bytes, 2 * floor);
}
END_TEST

START_TEST(nodes_get_memory_although_data_came_first)
{
	for (uint64_t i = 0; i < 5000; i++)
		owner_read(&data, i);
	for (uint64_t i = 0; i < 5000; i++)
		owner_read(&nodes, i % 120);
	ck_assert_uint_eq(stats_of(cache).class[CACHE_NODES].pages, 120);
	ck_assert_uint_eq(stats_of(cache).class[CACHE_NODES].misses, 120);
}
END_TEST

START_TEST(drop_clean_leaves_dirty_and_used_pages_and_gives_memory_back)
{
	struct cache_page *page;

	for (uint64_t i = 0; i < 200; i++) {
		for (int k = 0; k < 4; k++)
			owner_read(&data, i);
		owner_read(&nodes, i);
	}
	owner_write_page(&data, 5);
	ck_assert_int_eq(cache_get(&data.space, 6, true, true, &page), 0);
	cache_drop_clean(cache);
	ck_assert_uint_eq(stats_of(cache).class[CACHE_DATA].pages, 2);
	ck_assert_uint_eq(stats_of(cache).class[CACHE_NODES].pages, 0);
	ck_assert_uint_eq(stats_of(cache).class[CACHE_DATA].stolen, 0);
	ck_assert_uint_eq(stats_of(cache).resident_bytes, stats_of(cache).used_bytes);
	ck_assert(owner_has(&data, 5) && owner_has(&data, 6));
	cache_put(page);
}
END_TEST

void policy_tests(Suite *suite)
{
	TCase *tests = tcase_create("policy");

	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_set_timeout(tests, 10);
	tcase_add_test(tests, a_hit_takes_no_lock_of_the_cache);
	tcase_add_test(tests, a_scan_passes_used_pages_by);
	tcase_add_test(tests, a_page_that_comes_back_soon_is_kept);
	tcase_add_test(tests, a_loop_of_scans_over_a_working_set_hits_more_than_lru);
	tcase_add_test(tests, written_pages_go_first);
	tcase_add_test(tests, written_pages_that_were_used_meanwhile_are_as_good_as_new_ones);
	tcase_add_test(tests, nodes_keep_their_floor_against_a_data_scan);
	tcase_add_test(tests, nodes_give_what_they_hold_above_their_floor);
	tcase_add_test(tests, nodes_get_memory_although_data_came_first);
	tcase_add_test(tests, drop_clean_leaves_dirty_and_used_pages_and_gives_memory_back);
	suite_add_tcase(suite, tests);
}
