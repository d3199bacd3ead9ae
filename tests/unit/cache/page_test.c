/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cache_test.h"

static struct cache *cache;
static struct owner owner;

static void setup(void)
{
	cache = make_cache(8 * MIB, NEVER_NS);
	owner_init(&owner, cache, CACHE_DATA, 4096, false);
}

static void teardown(void)
{
	owner_fini(&owner);
	cache_destroy(cache);
}

static struct cache_page *get(uint64_t index, int expected)
{
	struct cache_page *page;

	ck_assert_int_eq(cache_get(&owner.space, index, true, true, &page), expected);
	return page;
}

START_TEST(the_one_who_misses_fills_and_the_next_one_hits)
{
	struct cache_page *page, *again;

	ck_assert_int_eq(cache_get(&owner.space, 7, false, true, &page), -ENOENT);
	page = get(7, 1);
	ck_assert_uint_eq(page->index, 7);
	ck_assert_ptr_null(page->owner);
	ck_assert_uint_eq((uintptr_t)page->data % 4096, 0);
	strcpy((char *)page->data, "seven");
	cache_filled(page, 0);
	cache_put(page);
	again = get(7, 0);
	ck_assert_str_eq((char *)again->data, "seven");
	cache_put(again);
	ck_assert_uint_eq(stats_of(cache).class[CACHE_DATA].hits, 1);
	ck_assert_uint_eq(stats_of(cache).class[CACHE_DATA].misses, 1);
}
END_TEST

START_TEST(a_page_being_filled_is_not_waited_for_unless_allowed)
{
	struct cache_page *page = get(1, 1), *other;

	ck_assert_int_eq(cache_get(&owner.space, 1, true, false, &other), -EAGAIN);
	cache_filled(page, 0);
	ck_assert_int_eq(cache_get(&owner.space, 1, true, false, &other), 0);
	cache_put(other);
	cache_put(page);
}
END_TEST

struct joiner {
	struct thread thread;
	uint64_t index;
	int result;
};

static void join_page(void *arg)
{
	struct joiner *joiner = arg;
	struct cache_page *page;

	joiner->result = cache_get(&owner.space, joiner->index, false, true, &page);
	if (joiner->result == 0)
		cache_put(page);
}

static bool page_has_joiner(void *page)
{
	return __atomic_load_n(&((struct cache_page *)page)->refs, __ATOMIC_SEQ_CST) == 3;
}

static int join_while_filling(int error)
{
	struct cache_page *page = get(1, 1);
	struct joiner joiner = { .index = 1 };

	ck_assert_int_eq(thread_start(&joiner.thread, "joiner", join_page, &joiner), 0);
	wait_until(page_has_joiner, page);
	cache_filled(page, error);
	thread_join(&joiner.thread);
	cache_put(page);
	return joiner.result;
}

START_TEST(who_waits_for_anothers_fill_shares_it)
{
	ck_assert_int_eq(join_while_filling(0), 0);
}
END_TEST

START_TEST(who_waits_for_a_failed_fill_gets_its_error_and_the_next_fills_anew)
{
	struct cache_page *page;

	ck_assert_int_eq(join_while_filling(-EIO), -EIO);
	ck_assert_uint_eq(owner.evicted, 1);
	page = get(1, 1);
	cache_filled(page, -EIO);
	cache_put(page);
}
END_TEST

START_TEST(who_waits_for_a_fill_that_was_given_up_looks_again)
{
	ck_assert_int_eq(join_while_filling(-EAGAIN), -ENOENT);
	ck_assert_uint_eq(owner.evicted, 1);
}
END_TEST

START_TEST(a_dropped_page_stays_with_those_who_hold_it_and_is_gone_for_others)
{
	struct cache_page *page = get(5, 1), *fresh;

	strcpy((char *)page->data, "old");
	cache_filled(page, 0);
	cache_dirty(page);
	cache_drop_range(&owner.space, 0, 10);
	ck_assert_uint_eq(owner.evicted, 1);
	ck_assert(page->state & CACHE_GONE);
	ck_assert(!owner_has(&owner, 5));
	ck_assert_uint_eq(cache_dirty_pages(&owner.space), 0);
	ck_assert_str_eq((char *)page->data, "old");
	fresh = get(5, 1);
	ck_assert_ptr_ne(fresh, page);
	cache_dirty(page); /* a writer who comes too late */
	ck_assert_uint_eq(cache_dirty_pages(&owner.space), 0);
	cache_put(page);
	cache_filled(fresh, 0);
	cache_put(fresh);
	ck_assert_uint_eq(stats_of(cache).class[CACHE_DATA].pages, 1);
}
END_TEST

START_TEST(a_drop_takes_its_range_and_nothing_else)
{
	for (uint64_t i = 0; i < 300; i++)
		owner_read(&owner, i * i);
	cache_drop_range(&owner.space, 100, 100 * 100); /* sparse: by buckets */
	for (uint64_t i = 0; i < 300; i++)
		ck_assert_int_eq(owner_has(&owner, i * i), i < 10 || i > 100);
	cache_drop_range(&owner.space, 4, 9); /* short: by index */
	ck_assert(!owner_has(&owner, 4) && !owner_has(&owner, 9) && owner_has(&owner, 1) && owner_has(&owner, 0));
	cache_drop_range(&owner.space, 0, UINT64_MAX);
	ck_assert_uint_eq(stats_of(cache).class[CACHE_DATA].pages, 0);
}
END_TEST

START_TEST(the_index_serves_sparse_and_extreme_indexes)
{
	static const uint64_t at[] = { 0, 1, UINT64_MAX, UINT64_MAX - 1, UINT64_C(1) << 63, UINT64_C(1) << 32 };

	for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++)
		owner_write_page(&owner, at[i]);
	for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++)
		ck_assert(owner_read(&owner, at[i]));
	ck_assert(cache_range_dirty(&owner.space, 2, UINT64_MAX));
	ck_assert(!cache_range_dirty(&owner.space, 2, 1000));
	ck_assert_int_eq(cache_write_range(&owner.space, 0, UINT64_MAX), 0);
	ck_assert_uint_eq(owner.written_count, 6);
	ck_assert(!owner.unsorted);
}
END_TEST

void page_tests(Suite *suite)
{
	TCase *tests = tcase_create("page");

	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_add_test(tests, the_one_who_misses_fills_and_the_next_one_hits);
	tcase_add_test(tests, a_page_being_filled_is_not_waited_for_unless_allowed);
	tcase_add_test(tests, who_waits_for_anothers_fill_shares_it);
	tcase_add_test(tests, who_waits_for_a_failed_fill_gets_its_error_and_the_next_fills_anew);
	tcase_add_test(tests, who_waits_for_a_fill_that_was_given_up_looks_again);
	tcase_add_test(tests, a_dropped_page_stays_with_those_who_hold_it_and_is_gone_for_others);
	tcase_add_test(tests, a_drop_takes_its_range_and_nothing_else);
	tcase_add_test(tests, the_index_serves_sparse_and_extreme_indexes);
	suite_add_tcase(suite, tests);
}
