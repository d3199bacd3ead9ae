/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cache_private.h"
#include "cache_test.h"

static struct cache *cache;
static struct owner data, other;

static void start(size_t budget_bytes)
{
	cache = make_cache(budget_bytes, NEVER_NS);
	owner_init(&data, cache, CACHE_DATA, 4096, false);
	owner_init(&other, cache, CACHE_DATA, 4096, false);
}

static void setup(void)
{
	start(4 * MIB);
}

static void teardown(void)
{
	owner_fini(&data);
	owner_fini(&other);
	cache_destroy(cache);
}

/* Reads pages until one more would take what is free below low (or takes it there, with `over`). */
static uint64_t fill_to_low(bool over)
{
	size_t stop = stats_of(cache).low_bytes + (over ? 0 : 3 * 4096);
	uint64_t next = 0;

	/* In this order: the reclaimer may have been quicker than the look at what is free. */
	while (free_for_data(cache, 25) >= stop && !stats_of(cache).wakeups)
		owner_read(&data, next++);
	return next;
}

START_TEST(the_reclaimer_does_not_wake_while_enough_is_free)
{
	uint64_t read = fill_to_low(false);

	for (int round = 0; round < 20; round++) {
		for (uint64_t i = 0; i < read; i++)
			ck_assert(owner_read(&data, i));
	}
	for (uint64_t i = 0; i < 50; i++)
		owner_write_page(&data, i);
	ck_assert_int_eq(cache_write_range(&data.space, 0, UINT64_MAX), 0);
	ck_assert_uint_eq(stats_of(cache).wakeups, 0);
	ck_assert_uint_eq(stats_of(cache).class[CACHE_DATA].scanned, 0);
	ck_assert_uint_eq(stats_of(cache).class[CACHE_DATA].direct, 0);
}
END_TEST

static bool is_high(void *context)
{
	return free_for_data(cache, 25) >= stats_of(cache).high_bytes;
}

START_TEST(it_wakes_below_low_and_works_up_to_high)
{
	struct cache_stats stats;

	fill_to_low(true);
	wait_until(is_high, NULL);
	stats = stats_of(cache);
	ck_assert_uint_eq(stats.wakeups, 1);
	/* Not much further either. */
	ck_assert_uint_le(stats.class[CACHE_DATA].stolen * 4096, stats.high_bytes - stats.low_bytes + 3 * 65536);
	ck_assert_uint_eq(stats.class[CACHE_DATA].stalls, 0);
}
END_TEST

struct reader {
	struct thread thread;
	uint64_t first, count;
	bool ended;
	int result;
};

static void reader_run(void *arg)
{
	struct reader *reader = arg;

	for (uint64_t i = 0; i < reader->count; i++)
		owner_read(&other, reader->first + i);
	__atomic_store_n(&reader->ended, true, __ATOMIC_SEQ_CST);
}

static void reader_start(struct reader *reader, uint64_t first, uint64_t count)
{
	*reader = (struct reader){ .first = first, .count = count };
	ck_assert_int_eq(thread_start(&reader->thread, "reader", reader_run, reader), 0);
}

START_TEST(a_burst_that_takes_everything_does_not_thrash)
{
	struct reader readers[4];
	size_t kept = 0;
	struct cache_stats stats;

	for (int round = 0; round < 4; round++) {
		for (uint64_t i = 0; i < 200; i++)
			owner_read(&data, i);
	}
	for (size_t i = 0; i < 4; i++)
		reader_start(&readers[i], i * 100000, 3000);
	for (size_t i = 0; i < 4; i++)
		thread_join(&readers[i].thread);
	for (uint64_t i = 0; i < 200; i++)
		kept += owner_has(&data, i);
	ck_assert_uint_ge(kept, 190);
	stats = stats_of(cache);
	ck_assert_uint_le(stats.used_bytes, stats.budget_bytes);
	/* Work in proportion: not many looks for each page taken, and many pages for each wake-up. */
	ck_assert_uint_le(stats.class[CACHE_DATA].scanned, 4 * stats.class[CACHE_DATA].stolen);
	ck_assert_uint_le(stats.wakeups * 8, stats.class[CACHE_DATA].stolen);
}
END_TEST

START_TEST(the_scanner_goes_on_while_writes_hang)
{
	size_t limit = 4 * MIB / 100 * 20 / 4096;
	struct reader reader;

	owner_set(&data, true, 0);
	for (uint64_t i = 0; i < limit; i++)
		owner_write_page(&data, i);
	owner_wait_held(&data, 1); /* the writer has begun and gets no answer */
	reader_start(&reader, 0, 10000);
	thread_join(&reader.thread);
	ck_assert_uint_gt(stats_of(cache).class[CACHE_DATA].stolen, 9000);
	owner_set(&data, false, 0);
	owner_answer(&data, 0);
	ck_assert_int_eq(cache_write_range(&data.space, 0, UINT64_MAX), 0);
}
END_TEST

/* Makes pages dirty until there is no memory for another. */
static uint64_t dirty_everything(void)
{
	struct cache_page *page;
	uint64_t index = 0;

	while (cache_get(&data.space, index, true, false, &page) == 1) {
		cache_filled(page, 0);
		cache_dirty(page);
		cache_put(page);
		index++;
	}
	return index;
}

static bool has_stalled(void *context)
{
	return stats_of(cache).class[CACHE_DATA].stalls > 0;
}

START_TEST(writing_out_with_no_free_memory_completes)
{
	struct reader reader;
	uint64_t dirtied;

	owner_set(&data, true, 0);
	dirtied = dirty_everything();
	ck_assert_uint_gt(dirtied, 600);
	ck_assert_uint_eq(stats_of(cache).class[CACHE_DATA].pages, dirtied);
	reader_start(&reader, 0, 100);
	wait_until(has_stalled, NULL);
	ck_assert(!__atomic_load_n(&reader.ended, __ATOMIC_SEQ_CST));
	/* Not all has to be written before the one who waits can go on. */
	owner_wait_held(&data, 1);
	owner_set(&data, false, 0);
	owner_answer(&data, 0);
	thread_join(&reader.thread);
	ck_assert_int_eq(cache_write_range(&data.space, 0, UINT64_MAX), 0);
	owner_answer(&data, 0);
}
END_TEST

START_TEST(who_may_not_wait_is_told_so)
{
	struct cache_page *page;

	owner_set(&data, true, 0);
	dirty_everything();
	ck_assert_int_eq(cache_get(&other.space, 0, true, false, &page), -EAGAIN);
	ck_assert_ptr_null(page);
	ck_assert_uint_eq(stats_of(cache).class[CACHE_DATA].stalls, 0);
	owner_set(&data, false, 0);
	owner_answer(&data, 0);
	ck_assert_int_eq(cache_write_range(&data.space, 0, UINT64_MAX), 0);
	owner_answer(&data, 0);
}
END_TEST

START_TEST(who_waits_for_memory_gets_it_from_the_next_page_that_is_put)
{
	struct cache_page *pages[1024];
	struct reader reader;
	size_t count = 0;

	while (cache_get(&data.space, count, true, false, &pages[count]) == 1)
		cache_filled(pages[count++], 0);
	reader_start(&reader, 0, 1);
	wait_until(has_stalled, NULL);
	/* A few, so that what is free gets above the minimum again. */
	for (int i = 0; i < 4; i++)
		cache_put(pages[--count]);
	thread_join(&reader.thread);
	while (count)
		cache_put(pages[--count]);
}
END_TEST

START_TEST(dirty_and_used_pages_are_never_taken)
{
	struct cache_page *held;

	ck_assert_int_eq(cache_get(&data.space, 1000, true, true, &held), 1);
	cache_filled(held, 0);
	for (uint64_t i = 0; i < 50; i++)
		owner_write_page(&data, i);
	for (uint64_t i = 0; i < 5000; i++)
		owner_read(&other, i);
	ck_assert_uint_eq(data.evicted, 0);
	for (uint64_t i = 0; i < 50; i++)
		ck_assert(owner_has(&data, i));
	ck_assert(owner_has(&data, 1000));
	cache_put(held);
}
END_TEST

START_TEST(nodes_for_writing_out_are_there_when_data_has_taken_all_it_can)
{
	struct owner nodes;
	struct cache_page *page;

	owner_init(&nodes, cache, CACHE_NODES, 16384, true);
	owner_set(&data, true, 0);
	dirty_everything();
	for (uint64_t i = 0; i < 60; i++) {
		ck_assert_int_eq(cache_get(&nodes.space, i, true, false, &page), 1);
		cache_filled(page, 0);
		cache_put(page);
	}
	owner_set(&data, false, 0);
	owner_answer(&data, 0);
	ck_assert_int_eq(cache_write_range(&data.space, 0, UINT64_MAX), 0);
	owner_answer(&data, 0);
	owner_fini(&nodes);
}
END_TEST

void reclaim_tests(Suite *suite)
{
	TCase *tests = tcase_create("reclaim");

	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_set_timeout(tests, 10);
	tcase_add_test(tests, the_reclaimer_does_not_wake_while_enough_is_free);
	tcase_add_test(tests, it_wakes_below_low_and_works_up_to_high);
	tcase_add_test(tests, a_burst_that_takes_everything_does_not_thrash);
	tcase_add_test(tests, the_scanner_goes_on_while_writes_hang);
	tcase_add_test(tests, writing_out_with_no_free_memory_completes);
	tcase_add_test(tests, who_may_not_wait_is_told_so);
	tcase_add_test(tests, who_waits_for_memory_gets_it_from_the_next_page_that_is_put);
	tcase_add_test(tests, dirty_and_used_pages_are_never_taken);
	tcase_add_test(tests, nodes_for_writing_out_are_there_when_data_has_taken_all_it_can);
	suite_add_tcase(suite, tests);
}
