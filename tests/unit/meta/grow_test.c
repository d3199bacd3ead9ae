/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fixture.h"

#include "mirrorfs/base/clock.h"
#include "mirrorfs/format/label.h"

#include <unistd.h>

#define FILE1 100
#define GROWN_BYTES (UINT64_C(72) << 20)
#define GROWN_BLOCKS ((GROWN_BYTES - MIRROR_SPACE_OFFSET) / FORMAT_BLOCK)
#define ADDED (8u << 20 >> 12)

static uint64_t old_end;
static struct meta_growth growth;

static void legs_hold(uint64_t bytes0, uint64_t bytes1)
{
	disk_resize(disks[0], bytes0);
	disk_resize(disks[1], bytes1);
	old_end = meta->heap_end;
}

static int try_grow(struct error *why)
{
	*why = (struct error){ "" };
	return meta_grow(meta, &growth, why);
}

static void grow(void)
{
	struct error why;
	int error = try_grow(&why);

	ck_assert_msg(!error, "%s", why.text);
}

static struct meta_statfs statfs_now(void)
{
	struct meta_statfs now;

	meta_statfs(meta, &now);
	return now;
}

/* All that is free is used, so some of it lies behind the old end. */
static void fill_up(void)
{
	uint64_t at = 0;

	while (statfs_now().available > 300) {
		put_file(FILE1, at, 200, 7, false, 0, NULL);
		at += 200;
	}
	for (uint64_t from = 0; from < at; from += 200)
		expect_file(FILE1, from, 200, 7);
}

static void legs_are_equal(void)
{
	struct meta_scrub scrub = { .blocks = 0 };

	ck_assert_int_eq(meta_scrub(meta, &scrub), 0);
	ck_assert_uint_eq(scrub.repaired + scrub.unrecoverable, 0);
}

START_TEST(a_volume_takes_up_what_both_legs_have_become_larger_by)
{
	struct meta_statfs before = statfs_now();

	legs_hold(GROWN_BYTES, GROWN_BYTES);
	grow();
	ck_assert_uint_eq(growth.before, old_end);
	ck_assert_uint_eq(growth.now, GROWN_BLOCKS);
	for (int again = 0; again < 2; again++) {
		struct meta_statfs now = statfs_now();

		ck_assert_uint_eq(meta->heap_end, GROWN_BLOCKS);
		ck_assert_uint_eq(now.blocks, before.blocks + ADDED);
		ck_assert_uint_eq(now.free, before.free + ADDED);
		ck_assert_uint_eq(now.available, before.available + ADDED);
		ck_assert(is_free(old_end, ADDED));
		volume_remount();
	}
	fill_up();
	ck_assert(!is_free(old_end, ADDED));
	legs_are_equal();
	volume_remount();
	expect_file(FILE1, 0, 200, 7);
}
END_TEST

START_TEST(the_leg_that_limits_is_named)
{
	struct error why;

	legs_hold(64u << 20, 64u << 20);
	ck_assert_int_eq(try_grow(&why), -ENOSPC);
	ck_assert_ptr_nonnull(strstr(why.text, "leg 0, disk0, holds 63 MiB"));
	ck_assert_ptr_nonnull(strstr(why.text, "so must the other"));
	legs_hold(GROWN_BYTES, 64u << 20);
	ck_assert_int_eq(try_grow(&why), -ENOSPC);
	ck_assert_ptr_nonnull(strstr(why.text, "leg 1, disk1, holds 63 MiB"));
	ck_assert_ptr_null(strstr(why.text, "other"));
	ck_assert_uint_eq(mirror_blocks(mirror), old_end);
	/* As far as the smaller one goes. */
	legs_hold(GROWN_BYTES, 68u << 20);
	grow();
	ck_assert_uint_eq(growth.now, old_end + ADDED / 2);
}
END_TEST

START_TEST(a_volume_does_not_grow_without_one_of_its_legs)
{
	struct error why;

	volume_unmount();
	legs_there = 1;
	volume_mount(false);
	legs_hold(GROWN_BYTES, GROWN_BYTES);
	ck_assert_int_eq(try_grow(&why), -EBUSY);
	ck_assert_ptr_nonnull(strstr(why.text, "leg 1 is absent"));
	legs_there = 3;
}
END_TEST

static void grow_in_thread(void *arg)
{
	struct error why;

	*(int *)arg = try_grow(&why);
}

static size_t slots_in_log(size_t from)
{
	size_t n = log_find(from, -1, PLACE_SLOT);

	return n < log_count();
}

/* The slot of leg 1 takes its time: until then nobody may have what is new. */
START_TEST(nothing_is_given_out_before_the_slot_says_so)
{
	struct thread thread;
	size_t from = log_count();
	int error = 1;

	legs_hold(GROWN_BYTES, GROWN_BYTES);
	disk_fails(1, LEG_WRITE, 0, SUPER_RING, FAKE_HANG);
	ck_assert_int_eq(thread_start(&thread, "grow", grow_in_thread, &error), 0);
	disk_wait_hanging(disks[1], 1);
	while (!slots_in_log(from)) /* leg 0's is written meanwhile */
		usleep(100);
	ck_assert_uint_eq(meta->heap_end, old_end);
	ck_assert_int_eq(range_reserve(meta->data_range, old_end, 1), -ERANGE);
	disks_work();
	disk_release(disks[1], 0);
	thread_join(&thread);
	ck_assert_int_eq(error, 0);
	ck_assert_int_eq(range_reserve(meta->data_range, old_end, 1), 0);
}
END_TEST

/* A slot that tells of more than the labels do would not be mounted. */
START_TEST(both_labels_are_durable_before_a_slot_says_so)
{
	size_t from = log_count(), slot;

	legs_hold(GROWN_BYTES, GROWN_BYTES);
	grow();
	slot = log_find(from, -1, PLACE_SLOT);
	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		size_t n = log_find(from, leg, PLACE_LABEL);

		ck_assert_uint_lt(n, slot);
		ck_assert(log_entry(n)->dsync);
		ck_assert_uint_eq(le64_get(((const struct format_label *)(void *)log_entry(n)->data)->space_blocks),
				  GROWN_BLOCKS);
	}
}
END_TEST

START_TEST(wherever_the_power_fails_the_volume_has_one_of_both_sizes)
{
	bool seen[2] = { false, false };
	size_t count;

	put_file(FILE1 + 1, 0, 200, 3, false, 0, NULL);
	sync_all();
	legs_hold(GROWN_BYTES, GROWN_BYTES);
	grow();
	put_file(FILE1 + 2, 0, 200, 4, false, old_end + 100, NULL);
	sync_all();
	crash_take();
	count = crash_count();
	for (size_t n = 0; n <= 2 * count; n++) {
		crash_at(n / 2, n % 2 ? keep_everything : keep_nothing);
		volume_mount(false);
		ck_assert(meta->heap_end == old_end || meta->heap_end == GROWN_BLOCKS);
		ck_assert_uint_ge(mirror_blocks(mirror), meta->heap_end);
		seen[meta->heap_end == old_end] = true;
		if (n / 2 == count)
			expect_file(FILE1 + 2, 0, 200, 4);
		if (meta->heap_end == old_end)
			grow();
		ck_assert_uint_eq(meta->heap_end, GROWN_BLOCKS);
		put_file(FILE1 + 3, 0, 16, 5, true, old_end + 600, NULL);
		volume_remount();
		expect_file(FILE1 + 3, 0, 16, 5);
		legs_are_equal();
		volume_unmount();
	}
	ck_assert(seen[false] && seen[true]);
}
END_TEST

START_TEST(a_label_that_cannot_be_written_ends_it_and_the_volume_stays)
{
	struct error why;

	legs_hold(GROWN_BYTES, GROWN_BYTES);
	disk_refuse(disks[1], -EIO);
	ck_assert_int_eq(try_grow(&why), -EIO);
	ck_assert_ptr_nonnull(strstr(why.text, "leg 1"));
	ck_assert_uint_eq(meta->heap_end, old_end);
	put_file(FILE1, 0, 200, 7, false, 0, NULL);
	disk_refuse(disks[1], 0);
	/* The labels tell of different sizes now: leg 1 comes back all the same. */
	volume_remount();
	while (!mirror_leg_insync(mirror, 1))
		usleep(1000);
	grow();
	ck_assert_uint_eq(meta->heap_end, GROWN_BLOCKS);
	expect_file(FILE1, 0, 200, 7);
	legs_are_equal();
}
END_TEST

Suite *grow_suite(void)
{
	Suite *suite = suite_create("grow");
	TCase *tests = tcase_create("grow");

	tcase_add_checked_fixture(tests, volume_setup, volume_teardown);
	tcase_set_timeout(tests, 120);
	tcase_add_test(tests, a_volume_takes_up_what_both_legs_have_become_larger_by);
	tcase_add_test(tests, the_leg_that_limits_is_named);
	tcase_add_test(tests, a_volume_does_not_grow_without_one_of_its_legs);
	tcase_add_test(tests, nothing_is_given_out_before_the_slot_says_so);
	tcase_add_test(tests, both_labels_are_durable_before_a_slot_says_so);
	tcase_add_test(tests, wherever_the_power_fails_the_volume_has_one_of_both_sizes);
	tcase_add_test(tests, a_label_that_cannot_be_written_ends_it_and_the_volume_stays);
	suite_add_tcase(suite, tests);
	return suite;
}
