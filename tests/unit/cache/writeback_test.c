/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cache_private.h"
#include "cache_test.h"

#include <sched.h>

static struct cache *cache;
static struct owner owner;

static void start(size_t budget_bytes, uint64_t write_after_ns)
{
	cache = make_cache(budget_bytes, write_after_ns);
	owner_init(&owner, cache, CACHE_DATA, 4096, false);
}

static void setup(void)
{
	start(8 * MIB, NEVER_NS);
}

static void teardown(void)
{
	owner_fini(&owner);
	cache_destroy(cache);
}

static size_t unclean(void)
{
	struct cache_stats stats = stats_of(cache);

	return stats.class[CACHE_DATA].dirty + stats.class[CACHE_DATA].writing;
}

START_TEST(pages_of_a_range_go_out_ascending_in_one_call)
{
	for (uint64_t i = 0; i < 150; i++)
		owner_write_page(&owner, i * 67 % 150 + 1000);
	owner_write_page(&owner, 999);
	owner_write_page(&owner, 1150);
	ck_assert_int_eq(cache_write_range(&owner.space, 1000, 1149), 0);
	ck_assert_uint_eq(owner.calls, 1);
	ck_assert_uint_eq(owner.written_count, 150);
	ck_assert(!owner.unsorted);
	ck_assert_uint_eq(cache_dirty_pages(&owner.space), 2);
	ck_assert(!cache_range_dirty(&owner.space, 1000, 1149));
	ck_assert(cache_range_dirty(&owner.space, 999, 999));
	/* Clean now: nothing to do. */
	ck_assert_int_eq(cache_write_range(&owner.space, 1000, 1149), 0);
	ck_assert_uint_eq(owner.calls, 1);
}
END_TEST

START_TEST(a_call_takes_4096_pages_at_most)
{
	teardown();
	start(512 * MIB, NEVER_NS); /* so that half of the limit is more than this: the writer sleeps */
	for (uint64_t i = 0; i < 10000; i++)
		owner_write_page(&owner, i);
	ck_assert_int_eq(cache_write_range(&owner.space, 0, UINT64_MAX), 0);
	ck_assert_uint_eq(owner.calls, 3);
	ck_assert_uint_eq(owner.largest_call, 4096);
	ck_assert(!owner.unsorted);
}
END_TEST

static struct owner many[CACHE_WRITE_SPACES * 3];

static void each_owner_has_a_dirty_page(uint64_t pages)
{
	owner_writes = 0;
	for (size_t i = 0; i < CACHE_WRITE_SPACES * 3; i++) {
		owner_init(&many[i], cache, CACHE_DATA, 4096, false);
		for (uint64_t j = 0; j < pages; j++)
			owner_write_page(&many[i], j);
	}
}

static void owners_go(void)
{
	for (size_t i = 0; i < CACHE_WRITE_SPACES * 3; i++) {
		ck_assert(!many[i].unsorted);
		ck_assert_uint_eq(cache_dirty_pages(&many[i].space), 0);
		owner_fini(&many[i]);
	}
}

START_TEST(few_pages_of_many_spaces_go_out_in_one_call)
{
	teardown();
	start(64 * MIB, NEVER_NS);
	each_owner_has_a_dirty_page(2);
	for (uint64_t i = 0; i < 100; i++)
		owner_write_page(&owner, i);
	ck_assert_uint_eq(__atomic_load_n(&owner_writes, __ATOMIC_SEQ_CST), 0);
	cache_write_all(cache);
	ck_assert_uint_eq(unclean(), 0);
	ck_assert_uint_eq(__atomic_load_n(&owner_writes, __ATOMIC_SEQ_CST), 4); /* and a call for what has many */
	ck_assert_uint_eq(owner.largest_call, 100);
	owners_go();
}
END_TEST

/* Each has its own written, and finds that it went with those before. */
START_TEST(who_has_one_space_after_the_other_written_waits_for_many_together)
{
	teardown();
	start(64 * MIB, NEVER_NS);
	each_owner_has_a_dirty_page(2);
	for (size_t i = 0; i < CACHE_WRITE_SPACES * 3; i++) {
		ck_assert_int_eq(cache_write_space(&many[i].space), 0);
		ck_assert(!cache_range_dirty(&many[i].space, 0, UINT64_MAX));
	}
	ck_assert_uint_eq(__atomic_load_n(&owner_writes, __ATOMIC_SEQ_CST), 3);
	owners_go();
}
END_TEST

static bool all_is_clean(void *context)
{
	return unclean() == 0;
}

START_TEST(old_data_of_many_spaces_is_few_calls)
{
	teardown();
	start(8 * MIB, NSEC_PER_SEC / 2);
	each_owner_has_a_dirty_page(1);
	wait_until(all_is_clean, NULL);
	/* 3, and some more if this took long. */
	ck_assert_uint_le(__atomic_load_n(&owner_writes, __ATOMIC_SEQ_CST), CACHE_WRITE_SPACES);
	owners_go();
}
END_TEST

static bool owner_is_gone(void *context)
{
	return cache_space_pages(&owner.space) == 4;
}

/* What nobody has used since it was written leaves with that; but for the last of it, which may not be full. */
START_TEST(what_is_wanted_soon_goes_out_before_its_age_and_leaves)
{
	struct cache_page *held;

	for (uint64_t i = 0; i < 200; i++)
		owner_write_page(&owner, i);
	owner_read(&owner, 7);
	ck_assert_int_eq(cache_get(&owner.space, 9, false, false, &held), 0);
	ck_assert_uint_eq(unclean(), 200);
	cache_write_soon(&owner.space);
	owner_wait_written(&owner, 200);
	ck_assert(!owner.unsorted);
	owner_write_page(&owner, 1000);
	wait_until(owner_is_gone, NULL);
	ck_assert(owner_has(&owner, 7) && owner_has(&owner, 9) && owner_has(&owner, 199) && owner_has(&owner, 1000));
	cache_put(held);
	/* Whoever has it written otherwise keeps it. */
	ck_assert_int_eq(cache_write_range(&owner.space, 0, UINT64_MAX), 0);
	ck_assert(owner_has(&owner, 1000));
	cache_write_soon(&owner.space); /* clean */
}
END_TEST

/* It is gone while the writer still meant to come to it. */
START_TEST(a_space_that_is_wanted_soon_may_end)
{
	struct owner other;

	for (unsigned int i = 0; i < 200; i++) {
		owner_init(&other, cache, CACHE_DATA, 4096, false);
		owner_write_page(&other, i);
		cache_write_soon(&other.space);
		owner_fini(&other);
	}
	owner_write_page(&owner, 0);
	cache_write_soon(&owner.space);
	owner_wait_written(&owner, 1);
}
END_TEST

static void wait_until_the_writer_sleeps(void)
{
	const uint64_t end = clock_now_ns() + 20 * NSEC_PER_SEC;
	uint64_t looks;

	do {
		sched_yield();
		mutex_lock(&cache->lock);
		looks = cache->write_looks_ns;
		mutex_unlock(&cache->lock);
	} while (looks != CLOCK_NEVER && clock_now_ns() < end);
}

START_TEST(old_data_is_written_without_being_asked_for)
{
	teardown();
	start(8 * MIB, NSEC_PER_MSEC);
	wait_until_the_writer_sleeps();
	owner_write_page(&owner, 3);
	owner_wait_written(&owner, 1);
	ck_assert_int_eq(cache_write_range(&owner.space, 0, UINT64_MAX), 0);
	ck_assert_uint_eq(cache_dirty_pages(&owner.space), 0);
}
END_TEST

/* Who writes and has it written again and again would wake it each time. */
START_TEST(a_writer_that_looks_soon_enough_is_not_woken)
{
	uint64_t looks, woken;

	owner_write_page(&owner, 0);
	do {
		mutex_lock(&cache->lock);
		looks = cache->write_looks_ns;
		woken = cache->write_woken;
		mutex_unlock(&cache->lock);
		sched_yield();
	} while (!looks || looks == CLOCK_NEVER);
	for (uint64_t i = 0; i < 100; i++) {
		ck_assert_int_eq(cache_write_range(&owner.space, 0, UINT64_MAX), 0);
		owner_write_page(&owner, i);
	}
	ck_assert_uint_eq(cache->write_woken, woken);
	ck_assert_uint_eq(owner.written_count, 100);
}
END_TEST

START_TEST(young_data_is_written_when_half_of_the_limit_is_dirty)
{
	size_t background = 8 * MIB / 100 * 20 / 2 / 4096;

	for (uint64_t i = 0; i < background; i++)
		owner_write_page(&owner, i);
	ck_assert_uint_eq(owner.written_count, 0);
	for (uint64_t i = 0; i < 10; i++)
		owner_write_page(&owner, background + i);
	owner_wait_written(&owner, background);
}
END_TEST

START_TEST(a_page_dirtied_while_it_is_written_is_written_again)
{
	struct cache_page *page;

	owner_write_page(&owner, 1);
	ck_assert_int_eq(cache_get(&owner.space, 1, true, true, &page), 0);
	ck_assert(cache_write_begin(page));
	ck_assert(!cache_write_begin(page));
	ck_assert_uint_eq(cache_dirty_pages(&owner.space), 0);
	ck_assert(cache_range_dirty(&owner.space, 1, 1));
	cache_dirty(page);
	ck_assert(!cache_write_begin(page));
	cache_written(page, 0);
	ck_assert_uint_eq(cache_dirty_pages(&owner.space), 1);
	ck_assert(cache_write_begin(page));
	cache_written(page, 0);
	ck_assert(!cache_range_dirty(&owner.space, 1, 1));
	ck_assert(!cache_write_begin(page));
	cache_put(page);
}
END_TEST

struct ranger {
	struct thread thread;
	uint64_t first, last;
	int result;
	bool ended;
};

static void range_run(void *arg)
{
	struct ranger *ranger = arg;

	ranger->result = cache_write_range(&owner.space, ranger->first, ranger->last);
	__atomic_store_n(&ranger->ended, true, __ATOMIC_SEQ_CST);
}

static void range_start(struct ranger *ranger, uint64_t first, uint64_t last)
{
	*ranger = (struct ranger){ .first = first, .last = last };
	ck_assert_int_eq(thread_start(&ranger->thread, "range", range_run, ranger), 0);
}

static bool range_ended(const struct ranger *ranger)
{
	return __atomic_load_n(&ranger->ended, __ATOMIC_SEQ_CST);
}

START_TEST(a_range_waits_for_pages_that_were_being_written_and_reports_their_error)
{
	struct cache_page *page;
	struct ranger ranger;

	owner_set(&owner, true, 0);
	owner_write_page(&owner, 1);
	owner_write_page(&owner, 2);
	ck_assert_int_eq(cache_get(&owner.space, 1, true, true, &page), 0);
	ck_assert(cache_write_begin(page));
	range_start(&ranger, 0, 10);
	owner_wait_held(&owner, 1);
	owner_answer(&owner, 0);
	ck_assert(!range_ended(&ranger));
	cache_written(page, -EIO);
	thread_join(&ranger.thread);
	ck_assert_int_eq(ranger.result, -EIO);
	ck_assert_uint_eq(cache_dirty_pages(&owner.space), 1);
	cache_put(page);
	/* Nobody's later range hears of it again, and the page can still be written. */
	owner_set(&owner, false, 0);
	ck_assert_int_eq(cache_write_range(&owner.space, 0, 10), 0);
	ck_assert_uint_eq(cache_dirty_pages(&owner.space), 0);
}
END_TEST

static bool page_is_waited_for(void *page)
{
	/* The index, the test, the write, and the one who waits. */
	return __atomic_load_n(&((struct cache_page *)page)->refs, __ATOMIC_SEQ_CST) == 4;
}

START_TEST(a_range_writes_again_what_was_dirtied_under_a_write)
{
	struct cache_page *page;
	struct ranger ranger;

	owner_write_page(&owner, 1);
	ck_assert_int_eq(cache_get(&owner.space, 1, true, true, &page), 0);
	ck_assert(cache_write_begin(page));
	cache_dirty(page);
	range_start(&ranger, 0, 10);
	wait_until(page_is_waited_for, page);
	ck_assert_uint_eq(owner.written_count, 0);
	cache_written(page, 0);
	thread_join(&ranger.thread);
	ck_assert_int_eq(ranger.result, 0);
	ck_assert_uint_eq(owner.written_count, 1);
	ck_assert(!cache_range_dirty(&owner.space, 1, 1));
	cache_put(page);
}
END_TEST

START_TEST(an_error_outside_the_range_is_not_the_ranges)
{
	struct cache_page *page;
	struct ranger ranger;

	owner_set(&owner, true, 0);
	owner_write_page(&owner, 1);
	owner_write_page(&owner, 20);
	ck_assert_int_eq(cache_get(&owner.space, 20, true, true, &page), 0);
	ck_assert(cache_write_begin(page));
	range_start(&ranger, 0, 10);
	owner_wait_held(&owner, 1);
	cache_written(page, -EIO);
	owner_answer(&owner, 0);
	thread_join(&ranger.thread);
	ck_assert_int_eq(ranger.result, 0);
	cache_put(page);
}
END_TEST

START_TEST(a_failed_page_stays_dirty_and_is_tried_again_by_age)
{
	uint64_t begun = clock_now_ns();

	teardown();
	start(8 * MIB, 20 * NSEC_PER_MSEC);
	owner_set(&owner, false, -EIO);
	owner_write_page(&owner, 1);
	owner_wait_written(&owner, 4);
	ck_assert_uint_ge(clock_now_ns() - begun, 80 * NSEC_PER_MSEC);
	owner_set(&owner, false, 0);
	owner_wait_written(&owner, 5);
	ck_assert_int_eq(cache_write_range(&owner.space, 0, UINT64_MAX), 0);
	ck_assert_uint_eq(unclean(), 0);
}
END_TEST

static bool writer_gave_up(void *context)
{
	return stats_of(cache).class[CACHE_DATA].writing == 0 && owner.written_count >= *(size_t *)context;
}

START_TEST(a_space_that_fails_is_left_alone_until_its_age_and_others_are_written)
{
	size_t half = 8 * MIB / 100 * 20 / 2 / 4096;
	struct owner other;
	size_t tried;

	owner_set(&owner, false, -EIO);
	for (uint64_t i = 0; i < half + 1; i++)
		owner_write_page(&owner, i);
	wait_until(writer_gave_up, &half);
	tried = owner.written_count;
	owner_init(&other, cache, CACHE_DATA, 4096, false);
	for (uint64_t i = 0; i < 20; i++) {
		owner_write_page(&other, i);
		owner_wait_written(&other, i + 1);
	}
	ck_assert_uint_le(owner.written_count, tried + half + 1);
	ck_assert_uint_eq(cache_dirty_pages(&owner.space), half + 1);
	owner_fini(&other);
}
END_TEST

static void throttle_run(void *arg)
{
	struct ranger *ranger = arg;

	cache_throttle(cache);
	__atomic_store_n(&ranger->ended, true, __ATOMIC_SEQ_CST);
}

static bool is_throttled(void *context)
{
	return stats_of(cache).throttled == 1;
}

static void dirty_over_the_limit(void)
{
	size_t limit = 8 * MIB / 100 * 20 / 4096;

	cache_throttle(cache);
	ck_assert_uint_eq(stats_of(cache).throttled, 0);
	for (uint64_t i = 0; i < limit + 1; i++)
		owner_write_page(&owner, i);
}

START_TEST(who_would_dirty_above_the_limit_waits_until_it_is_written)
{
	struct ranger ranger = { 0 };

	owner_set(&owner, true, 0);
	dirty_over_the_limit();
	ck_assert_int_eq(thread_start(&ranger.thread, "throttle", throttle_run, &ranger), 0);
	wait_until(is_throttled, NULL);
	ck_assert_uint_eq(stats_of(cache).slowed, 0); /* it has not come as far as that */
	ck_assert(!range_ended(&ranger));
	owner_set(&owner, false, 0);
	owner_answer(&owner, 0);
	thread_join(&ranger.thread);
	owner_answer(&owner, 0);
}
END_TEST

START_TEST(who_comes_near_the_limit_is_slowed_and_not_stopped)
{
	size_t limit = 8 * MIB / 100 * 20 / 4096;
	uint64_t i = 0;

	owner_set(&owner, true, 0);
	for (; i < limit * 7 / 10; i++)
		owner_write_page(&owner, i);
	cache_throttle(cache);
	ck_assert_uint_eq(stats_of(cache).slowed, 0);
	for (; i < limit * 9 / 10; i++)
		owner_write_page(&owner, i);
	cache_throttle(cache);
	ck_assert_uint_eq(stats_of(cache).slowed, 1);
	ck_assert_uint_eq(stats_of(cache).throttled, 0);
	owner_set(&owner, false, 0);
	owner_answer(&owner, 0);
}
END_TEST

START_TEST(who_is_throttled_goes_on_when_writes_fail)
{
	struct ranger ranger = { 0 };

	owner_set(&owner, true, -EROFS);
	dirty_over_the_limit();
	ck_assert_int_eq(thread_start(&ranger.thread, "throttle", throttle_run, &ranger), 0);
	wait_until(is_throttled, NULL);
	owner_wait_held(&owner, 1);
	owner_set(&owner, false, -EROFS);
	owner_answer(&owner, -EROFS);
	thread_join(&ranger.thread);
	owner_answer(&owner, -EROFS);
	ck_assert_uint_gt(unclean(), 8 * MIB / 100 * 20 / 4096);
}
END_TEST

static void drop_run(void *arg)
{
	struct ranger *ranger = arg;

	cache_drop_range(&owner.space, ranger->first, ranger->last);
	__atomic_store_n(&ranger->ended, true, __ATOMIC_SEQ_CST);
}

static bool only_writing_left(void *context)
{
	return stats_of(cache).class[CACHE_DATA].pages == 1;
}

START_TEST(a_drop_waits_for_pages_being_written)
{
	struct ranger ranger = { .first = 0, .last = UINT64_MAX };
	struct cache_page *page;

	owner_write_page(&owner, 1);
	owner_write_page(&owner, 2);
	ck_assert_int_eq(cache_get(&owner.space, 1, true, true, &page), 0);
	ck_assert(cache_write_begin(page));
	cache_put(page);
	ck_assert_int_eq(thread_start(&ranger.thread, "drop", drop_run, &ranger), 0);
	wait_until(only_writing_left, NULL);
	ck_assert(!range_ended(&ranger));
	cache_written(page, 0);
	thread_join(&ranger.thread);
	ck_assert_uint_eq(stats_of(cache).class[CACHE_DATA].pages, 0);
	ck_assert_uint_eq(unclean(), 0);
}
END_TEST

static void fini_run(void *arg)
{
	struct ranger *ranger = arg;

	cache_space_fini(&owner.space);
	__atomic_store_n(&ranger->ended, true, __ATOMIC_SEQ_CST);
}

START_TEST(the_end_of_a_space_waits_for_its_writes_and_drops_what_is_dirty)
{
	struct ranger ranger = { 0 };
	struct cache_page *page;

	for (uint64_t i = 0; i < 20; i++)
		owner_write_page(&owner, i);
	ck_assert_int_eq(cache_get(&owner.space, 7, true, true, &page), 0);
	ck_assert(cache_write_begin(page));
	cache_put(page);
	ck_assert_int_eq(thread_start(&ranger.thread, "fini", fini_run, &ranger), 0);
	wait_until(only_writing_left, NULL);
	ck_assert(!range_ended(&ranger));
	cache_written(page, 0);
	thread_join(&ranger.thread);
	ck_assert_uint_eq(stats_of(cache).class[CACHE_DATA].pages, 0);
	ck_assert_uint_eq(unclean(), 0);
	ck_assert_uint_eq(owner.written_count, 0);
	owner_init(&owner, cache, CACHE_DATA, 4096, false);
}
END_TEST

void writeback_tests(Suite *suite)
{
	TCase *tests = tcase_create("writeback");

	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_set_timeout(tests, 10);
	tcase_add_test(tests, pages_of_a_range_go_out_ascending_in_one_call);
	tcase_add_test(tests, a_call_takes_4096_pages_at_most);
	tcase_add_test(tests, few_pages_of_many_spaces_go_out_in_one_call);
	tcase_add_test(tests, who_has_one_space_after_the_other_written_waits_for_many_together);
	tcase_add_test(tests, old_data_of_many_spaces_is_few_calls);
	tcase_add_test(tests, what_is_wanted_soon_goes_out_before_its_age_and_leaves);
	tcase_add_test(tests, a_space_that_is_wanted_soon_may_end);
	tcase_add_test(tests, old_data_is_written_without_being_asked_for);
	tcase_add_test(tests, a_writer_that_looks_soon_enough_is_not_woken);
	tcase_add_test(tests, young_data_is_written_when_half_of_the_limit_is_dirty);
	tcase_add_test(tests, a_page_dirtied_while_it_is_written_is_written_again);
	tcase_add_test(tests, a_range_waits_for_pages_that_were_being_written_and_reports_their_error);
	tcase_add_test(tests, a_range_writes_again_what_was_dirtied_under_a_write);
	tcase_add_test(tests, an_error_outside_the_range_is_not_the_ranges);
	tcase_add_test(tests, a_failed_page_stays_dirty_and_is_tried_again_by_age);
	tcase_add_test(tests, a_space_that_fails_is_left_alone_until_its_age_and_others_are_written);
	tcase_add_test(tests, who_would_dirty_above_the_limit_waits_until_it_is_written);
	tcase_add_test(tests, who_comes_near_the_limit_is_slowed_and_not_stopped);
	tcase_add_test(tests, who_is_throttled_goes_on_when_writes_fail);
	tcase_add_test(tests, a_drop_waits_for_pages_being_written);
	tcase_add_test(tests, the_end_of_a_space_waits_for_its_writes_and_drops_what_is_dirty);
	suite_add_tcase(suite, tests);
}
