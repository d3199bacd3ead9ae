/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cache_test.h"

static struct cache *cache;
static struct owner nodes, data;

static void setup(void)
{
	cache = make_cache(4 * MIB, NEVER_NS);
	owner_init(&nodes, cache, CACHE_NODES, 16384, true);
	owner_init(&data, cache, CACHE_DATA, 4096, false);
}

static void teardown(void)
{
	owner_fini(&nodes);
	owner_fini(&data);
	cache_destroy(cache);
}

static bool was_pressed(void *context)
{
	bool pressed;

	mutex_lock(&nodes.lock);
	pressed = nodes.pressed;
	mutex_unlock(&nodes.lock);
	return pressed;
}

static bool all_clean(void *context)
{
	return cache_dirty_pages(&nodes.space) == 0;
}

static void let_pressure_write(uint64_t last)
{
	mutex_lock(&nodes.lock);
	nodes.press_writes = true;
	nodes.press_last = last;
	mutex_unlock(&nodes.lock);
}

START_TEST(an_owner_with_a_plan_is_pressed_when_a_third_of_the_budget_is_dirty)
{
	size_t third = 4 * MIB / 3 / 16384;

	for (uint64_t i = 0; i < third; i++)
		owner_write_page(&nodes, i);
	ck_assert(!was_pressed(NULL));
	let_pressure_write(third);
	owner_write_page(&nodes, third);
	wait_until(was_pressed, NULL);
	wait_until(all_clean, NULL);
	cache_throttle(cache);
}
END_TEST

START_TEST(an_owner_with_a_plan_is_pressed_when_its_pages_keep_others_from_memory)
{
	struct cache_page *held[256];
	size_t count = 0;

	/* Dirty nodes below a third, the rest of the memory in use: only writing nodes can make room. */
	for (uint64_t i = 0; i < 80; i++)
		owner_write_page(&nodes, i);
	while (cache_get(&nodes.space, 1000 + count, true, false, &held[count]) == 1)
		cache_filled(held[count++], 0);
	let_pressure_write(80);
	owner_read(&nodes, 5000);
	ck_assert(was_pressed(NULL));
	while (count)
		cache_put(held[--count]);
}
END_TEST

START_TEST(clean_nodes_are_no_reason_to_press)
{
	for (uint64_t i = 0; i < 1000; i++)
		owner_read(&nodes, i);
	for (uint64_t i = 0; i < 20; i++)
		owner_write_page(&nodes, i);
	for (uint64_t i = 0; i < 5000; i++)
		owner_read(&data, i);
	ck_assert(!was_pressed(NULL));
}
END_TEST

START_TEST(who_is_throttled_by_nodes_does_not_wait_for_ever)
{
	for (uint64_t i = 0; i < 4 * MIB / 3 / 16384 + 1; i++)
		owner_write_page(&nodes, i);
	cache_throttle(cache); /* pressure changes nothing */
	ck_assert_uint_eq(stats_of(cache).throttled, 1);
	ck_assert_uint_ge(nodes.pressed, 2);
}
END_TEST

void pressure_tests(Suite *suite)
{
	TCase *tests = tcase_create("pressure");

	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_set_timeout(tests, 10);
	tcase_add_test(tests, an_owner_with_a_plan_is_pressed_when_a_third_of_the_budget_is_dirty);
	tcase_add_test(tests, an_owner_with_a_plan_is_pressed_when_its_pages_keep_others_from_memory);
	tcase_add_test(tests, clean_nodes_are_no_reason_to_press);
	tcase_add_test(tests, who_is_throttled_by_nodes_does_not_wait_for_ever);
	suite_add_tcase(suite, tests);
}
