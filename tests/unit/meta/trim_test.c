/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the legs are told to be free, and when. */
#include "fixture.h"

#define FILE1 100

static uint64_t trim(uint64_t start, uint64_t length, uint64_t at_least)
{
	struct meta_trim trim = { .start = start, .length = length, .at_least = at_least };

	ck_assert_int_eq(meta_trim(meta, &trim), 0);
	return trim.trimmed;
}

START_TEST(a_trim_tells_of_all_that_is_free)
{
	uint64_t free = range_free_count(meta->data_range);
	struct range_extent where;

	/* Nodes lie where mkfs has allocated for real: that stays so. */
	ck_assert_uint_eq(trim(0, UINT64_MAX, 0), free);
	put_file(FILE1, 0, 64, 1, false, meta->boundary + 1000, &where);
	ck_assert_uint_eq(trim(0, UINT64_MAX, 0), free - 64);
	ck_assert_uint_eq(trim(where.start - 10, 64 + 30, 0), 10 + 20);
	ck_assert_uint_eq(trim(0, UINT64_MAX, where.start - meta->boundary + 1),
			  free - 64 - (where.start - meta->boundary));
	ck_assert_uint_eq(range_free_count(meta->data_range), free - 64);
	expect_file(FILE1, 0, 64, 1);
}
END_TEST

static void trim_all(void *arg)
{
	*(uint64_t *)arg = trim(0, UINT64_MAX, 0);
}

START_TEST(nobody_gets_what_is_being_discarded)
{
	uint64_t free = range_free_count(meta->data_range), trimmed = 0;
	struct meta_statfs before, during;
	struct thread trimmer;

	meta_statfs(meta, &before);
	disk_fails(1, LEG_DISCARD, meta->boundary, (uint32_t)(meta->heap_end - meta->boundary), FAKE_HANG);
	ck_assert_int_eq(thread_start(&trimmer, "trimmer", trim_all, &trimmed), 0);
	disk_wait_hanging(disks[1], 1);
	ck_assert(range_is_taken(meta->data_range, meta->boundary, 16));
	meta_statfs(meta, &during);
	ck_assert_uint_eq(during.free, before.free);
	ck_assert_uint_ge(during.available, before.available / 2); /* others still get some */
	disks_work();
	disk_release(disks[1], 0);
	thread_join(&trimmer);
	ck_assert_uint_eq(trimmed, free);
	ck_assert_uint_eq(range_free_count(meta->data_range), free);
}
END_TEST

START_TEST(a_full_volume_is_trimmed_where_nothing_is_promised)
{
	struct meta_statfs st;

	meta_statfs(meta, &st);
	ck_assert_int_eq(meta_promise(meta, st.available), 0);
	ck_assert_uint_eq(trim(0, UINT64_MAX, 0), 0);
	meta_unpromise(meta, st.available);
	ck_assert_uint_gt(trim(0, UINT64_MAX, 0), 0);
}
END_TEST

START_TEST(what_was_allocated_for_real_is_not_discarded)
{
	volume_unmount();
	discard = true;
	volume_mount(false);
	for (unsigned int i = 0; i < 4; i++) {
		put_item(FILE1, i, 1, 100);
		ck_assert_int_eq(meta_checkpoint(meta), 0);
	}
	ck_assert_uint_eq(disk_count(disks[0], LEG_DISCARD), 0);
}
END_TEST

START_TEST(nothing_is_discarded_from_a_mount_for_reading)
{
	struct meta_trim all = { .length = UINT64_MAX };

	volume_unmount();
	volume_mount(true);
	ck_assert_int_eq(meta_trim(meta, &all), -EROFS);
	ck_assert_uint_eq(disk_count(disks[0], LEG_DISCARD), 0);
}
END_TEST

Suite *trim_suite(void)
{
	Suite *suite = suite_create("trim");
	TCase *tcase = tcase_create("trim");

	tcase_add_checked_fixture(tcase, volume_setup, volume_teardown);
	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, a_trim_tells_of_all_that_is_free);
	tcase_add_test(tcase, nobody_gets_what_is_being_discarded);
	tcase_add_test(tcase, a_full_volume_is_trimmed_where_nothing_is_promised);
	tcase_add_test(tcase, what_was_allocated_for_real_is_not_discarded);
	tcase_add_test(tcase, nothing_is_discarded_from_a_mount_for_reading);
	suite_add_tcase(suite, tcase);
	return suite;
}
