/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cache_private.h"
#include "cache_test.h"

#include <sys/mman.h>

static struct cache *cache;

static void setup(void)
{
	cache = make_cache(8 * MIB - 4097, NEVER_NS); /* that no page size divides it is nobody's concern */
}

static void teardown(void)
{
	cache_destroy(cache);
}

/* What the kernel says is resident of all arenas, page structs too. */
static size_t resident(void)
{
	size_t bytes = 0;

	for (int i = 0; i < ARENAS; i++) {
		struct arena *arena = &cache->arenas[i];
		void *at[] = { arena->data, arena->pages };
		size_t length[] = { cache->budget_bytes, arena->slots * sizeof(struct page) };

		for (int k = 0; k < 2 && arena->slots; k++) {
			size_t count = (length[k] + 4095) / 4096;
			unsigned char *vector = malloc(count);

			ck_assert_int_eq(mincore(at[k], length[k], vector), 0);
			for (size_t j = 0; j < count; j++)
				bytes += vector[j] & 1 ? 4096 : 0;
			free(vector);
		}
	}
	return bytes;
}

START_TEST(memory_of_one_page_size_serves_another_and_stays_within_the_budget)
{
	static const size_t sizes[] = { 4096, 65536, 16384, 4096, 8192, 32768, 4096 };
	struct owner owner;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		size_t pages = 6 * MIB / sizes[i] - 1;

		owner_init(&owner, cache, i % 2 ? CACHE_NODES : CACHE_DATA, sizes[i], false);
		for (uint64_t k = 0; k < 2 * pages; k++) {
			struct cache_page *page;

			ck_assert_int_eq(cache_get(&owner.space, k, true, true, &page), 1);
			memset(page->data, (int)k, sizes[i]);
			cache_filled(page, 0);
			cache_put(page);
		}
		ck_assert_uint_ge(stats_of(cache).class[i % 2 ? CACHE_NODES : CACHE_DATA].bytes, 9 * MIB / 2);
		ck_assert_uint_le(resident(), 8 * MIB);
		ck_assert_uint_le(stats_of(cache).used_bytes, 8 * MIB);
		owner_fini(&owner);
	}
}
END_TEST

START_TEST(two_sizes_side_by_side_leave_no_holes)
{
	struct owner small, large;
	struct cache_page *page;

	owner_init(&small, cache, CACHE_DATA, 4096, false);
	owner_init(&large, cache, CACHE_DATA, 65536, false);
	/* Every second small page stays: no two free ones are neighbours. */
	for (uint64_t i = 0; i < 1300; i++)
		owner_read(&small, i);
	for (uint64_t i = 0; i < 1300; i += 2)
		cache_drop_range(&small.space, i, i);
	for (uint64_t i = 0; i < 35; i++) {
		ck_assert_int_eq(cache_get(&large.space, i, true, false, &page), 1);
		cache_filled(page, 0);
		cache_put(page);
	}
	ck_assert_uint_eq(stats_of(cache).class[CACHE_DATA].stolen, 0);
	owner_fini(&small);
	owner_fini(&large);
}
END_TEST

START_TEST(bookkeeping_is_counted)
{
	struct owner owner;
	struct cache_stats before = stats_of(cache), after;

	ck_assert_uint_gt(before.used_bytes, 7 * MIB / 4096 * 8); /* room for ghosts */
	owner_init(&owner, cache, CACHE_DATA, 4096, false);
	for (uint64_t i = 0; i < 1000; i++)
		owner_read(&owner, i);
	after = stats_of(cache);
	ck_assert_uint_ge(after.used_bytes - before.used_bytes,
			  1000 * (4096 + sizeof(struct page) + sizeof(struct page *)));
	owner_fini(&owner);
	/* The index is given back; the slots' structs are kept. */
	ck_assert_uint_eq(stats_of(cache).used_bytes, before.used_bytes + 1000 * sizeof(struct page));
}
END_TEST

START_TEST(what_owners_keep_counts_and_leaves_room_for_pages)
{
	struct cache_stats before = stats_of(cache);
	struct owner owner;

	owner_init(&owner, cache, CACHE_DATA, 4096, false);
	cache_charge(cache, MIB);
	ck_assert_uint_ge(stats_of(cache).used_bytes, before.used_bytes + MIB);
	ck_assert_uint_eq(stats_of(cache).beyond_bytes, 0);
	cache_charge(cache, 16 * MIB); /* more than there is */
	ck_assert_uint_ge(stats_of(cache).beyond_bytes, 17 * MIB - before.budget_bytes / 4);
	for (uint64_t i = 0; i < 3000; i++)
		owner_read(&owner, i);
	ck_assert_uint_gt(stats_of(cache).class[CACHE_DATA].bytes, before.budget_bytes / 3);
	cache_charge(cache, -17 * (ssize_t)MIB);
	owner_fini(&owner);
	ck_assert_uint_le(stats_of(cache).used_bytes, before.used_bytes + 3000 * sizeof(struct page));
}
END_TEST

void pool_tests(Suite *suite)
{
	TCase *tests = tcase_create("pool");

	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_set_timeout(tests, 10);
	tcase_add_test(tests, memory_of_one_page_size_serves_another_and_stays_within_the_budget);
	tcase_add_test(tests, two_sizes_side_by_side_leave_no_holes);
	tcase_add_test(tests, bookkeeping_is_counted);
	tcase_add_test(tests, what_owners_keep_counts_and_leaves_room_for_pages);
	suite_add_tcase(suite, tests);
}
