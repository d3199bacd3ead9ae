/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Blocks whose content rode in a record: when they go home, and when they need not. */
#include "fixture.h"

#include <unistd.h>

#define FILE1 100
#define FILE2 101

static size_t heap_writes(size_t from, int leg)
{
	size_t count = 0;

	for (size_t n = from; n < log_count(); n++)
		count += log_entry(n)->place == PLACE_HEAP && (leg < 0 || log_entry(n)->leg == leg);
	return count;
}

static bool came_home(size_t from, const struct range_extent *extent)
{
	return log_wrote(from, log_count(), extent->start, (uint32_t)extent->length);
}

START_TEST(a_commit_that_is_durable_has_cost_one_write_of_each_leg)
{
	struct range_extent where;
	size_t from = log_count();

	ck_assert_int_eq(meta_sync(meta, put_file(FILE1, 0, 3, 1, true, 0, &where)), 0);
	ck_assert_uint_eq(log_count(), from + MIRROR_LEGS);
	ck_assert_uint_eq(meta->homes.count, 3);
	ck_assert_int_eq(meta_checkpoint(meta), 0);
	ck_assert(came_home(from, &where));
	ck_assert_uint_eq(meta->homes.count, 0);
	expect_file(FILE1, 0, 3, 1);
}
END_TEST

START_TEST(who_is_to_read_there_finds_it_there)
{
	static struct meta_mapping mapping;
	struct range_extent where[2];
	size_t from = log_count();
	uint64_t address;

	put_file(FILE1, 0, 3, 1, true, 0, &where[0]);
	put_file(FILE2, 0, 3, 2, true, where[0].start + 1000, &where[1]);
	ck_assert_int_eq(meta_where(meta, FILE1, 2, &address), 0);
	ck_assert_uint_eq(address, where[0].start + 2);
	ck_assert_int_eq(meta_where(meta, FILE1, 3, &address), 0);
	ck_assert_uint_eq(address, 0);
	ck_assert_int_eq(meta_map_now(meta, FILE1, 1, 2, &mapping), -EAGAIN);
	ck_assert_uint_eq(log_count(), from);
	expect_file(FILE1, 1, 2, 1);
	ck_assert_int_eq(meta_map_now(meta, FILE1, 1, 2, &mapping), 0);
	/* No more than that. */
	ck_assert_uint_eq(heap_writes(from, -1), MIRROR_LEGS);
	ck_assert_uint_eq(meta->homes.count, 1 + 3);
	expect_file(FILE1, 0, 3, 1);
	expect_file(FILE2, 0, 3, 2);
}
END_TEST

START_TEST(what_is_freed_before_never_goes)
{
	struct range_extent where[20];
	size_t from = log_count();

	for (unsigned int i = 0; i < 20; i++) {
		ck_assert_int_eq(meta_sync(meta, put_file(FILE1, 7, 1, i, true, 0, &where[i])), 0);
		ck_assert_uint_eq(meta->homes.count, 1);
	}
	ck_assert_int_eq(meta_checkpoint(meta), 0);
	for (unsigned int i = 0; i < 20; i++)
		ck_assert_int_eq(came_home(from, &where[i]), i == 19);
	expect_file(FILE1, 7, 1, 19);
}
END_TEST

/* A checkpoint takes back what its tree does not need, and its blocks are given out again. */
START_TEST(what_was_spared_the_way_does_not_come_late)
{
	struct range_extent where, again;

	put_file(FILE1, 0, 4, 1, true, 0, &where);
	punch(FILE1, 0, 4);
	ck_assert_uint_eq(meta->homes.count, 0);
	ck_assert(!is_free(where.start, 4));
	ck_assert_int_eq(meta_checkpoint(meta), 0);
	ck_assert(is_free(where.start, 4));
	put_file(FILE2, 0, 4, 2, false, where.start, &again);
	ck_assert_uint_eq(again.start, where.start);
	ck_assert_int_eq(home_bring_all(meta), 0);
	expect_file(FILE2, 0, 4, 2);
}
END_TEST

static void checkpoint_in_thread(void *error)
{
	*(int *)error = meta_checkpoint(meta);
}

/* The tree of that checkpoint refers to it, and what freed it may be lost. */
START_TEST(what_is_freed_behind_a_cut_goes_home)
{
	struct range_extent where;
	struct thread thread;
	int error = 1;
	size_t from;

	put_file(FILE1, 0, 4, 1, true, 0, &where);
	from = log_count();
	disk_fails(0, LEG_WRITE, meta->ring_start, (uint32_t)meta->ring_blocks, FAKE_HANG);
	ck_assert_int_eq(thread_start(&thread, "checkpoint", checkpoint_in_thread, &error), 0);
	disk_wait_hanging(disks[0], 1);
	punch(FILE1, 0, 4);
	disks_work();
	disk_release(disks[0], 0);
	thread_join(&thread);
	ck_assert_int_eq(error, 0);
	ck_assert(came_home(from, &where));
	volume_crash();
	expect_file(FILE1, 0, 4, 1);
}
END_TEST

/* As a reader does it who has an address when its file is cut. */
START_TEST(what_somebody_is_about_to_read_goes_home)
{
	struct range_extent where;
	size_t from = log_count();

	put_file(FILE1, 0, 4, 1, true, 0, &where);
	rwlock_read(&meta->tree_lock);
	ck_assert(home_want(meta, where.start + 1, 2));
	rwlock_unlock(&meta->tree_lock);
	punch(FILE1, 0, 4);
	ck_assert_uint_eq(meta->homes.count, 2);
	ck_assert_int_eq(home_bring(meta, where.start, 4), 0);
	ck_assert(log_wrote(from, log_count(), where.start + 1, 1));
	ck_assert(log_wrote(from, log_count(), where.start + 2, 1));
	ck_assert(!log_wrote(from, log_count(), where.start, 1));
	rwlock_read(&meta->tree_lock);
	ck_assert(!home_want(meta, where.start, 4));
	rwlock_unlock(&meta->tree_lock);
}
END_TEST

START_TEST(many_go_together_and_in_time)
{
	unsigned int most = 0;
	size_t from = log_count();

	for (unsigned int i = 0; i < 3000; i++) {
		put_file(FILE1, 2 * i, 1, i, true, 0, NULL);
		if (i % 50 == 0)
			sync_all();
		mutex_lock(&meta->homes.lock);
		if (meta->homes.count > most)
			most = meta->homes.count;
		mutex_unlock(&meta->homes.lock);
	}
	ck_assert_uint_le(most, meta->homes.room);
	ck_assert_uint_gt(most, meta->homes.room / 4);
	ck_assert_int_eq(home_bring_all(meta), 0);
	/* They lie side by side. */
	ck_assert_uint_lt(heap_writes(from, 0), 3000 / 8);
	for (unsigned int i = 0; i < 3000; i++)
		expect_file(FILE1, 2 * i, 1, i);
}
END_TEST

/* The volume stops, but what it has acknowledged can be read, and is there at the next mount. */
START_TEST(what_cannot_come_home_is_read_all_the_same)
{
	static struct meta_mapping mapping;
	struct range_extent where[2];

	ck_assert_int_eq(meta_sync(meta, put_file(FILE1, 0, 4, 1, true, 0, &where[0])), 0);
	put_file(FILE2, 0, 4, 2, true, where[0].start + 1000, &where[1]);
	for (int leg = 0; leg < MIRROR_LEGS; leg++)
		disk_fails(leg, LEG_WRITE, where[0].start + 2, 1, -EIO);
	expect_file(FILE1, 0, 4, 1);
	ck_assert_int_eq(meta_map(meta, FILE1, 2, 2, &mapping), 0);
	ck_assert_ptr_nonnull(mapping.data);
	ck_assert_int_eq(meta_map_now(meta, FILE1, 2, 2, &mapping), -EAGAIN);
	expect_file(FILE2, 0, 4, 2);
	ck_assert(mirror_failed(mirror));
	ck_assert_int_eq(try_put_item(FILE1, 9, 9, 9), -EROFS);
	ck_assert_int_ne(meta_checkpoint(meta), 0);
	disks_work();
	ck_assert_int_lt(volume_close(), 0);
	volume_mount(false);
	expect_file(FILE1, 0, 4, 1);
}
END_TEST

Suite *home_suite(void)
{
	Suite *suite = suite_create("home");
	TCase *tcase = tcase_create("home");

	tcase_add_checked_fixture(tcase, volume_setup, volume_teardown);
	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, a_commit_that_is_durable_has_cost_one_write_of_each_leg);
	tcase_add_test(tcase, who_is_to_read_there_finds_it_there);
	tcase_add_test(tcase, what_is_freed_before_never_goes);
	tcase_add_test(tcase, what_was_spared_the_way_does_not_come_late);
	tcase_add_test(tcase, what_is_freed_behind_a_cut_goes_home);
	tcase_add_test(tcase, what_somebody_is_about_to_read_goes_home);
	tcase_add_test(tcase, many_go_together_and_in_time);
	tcase_add_test(tcase, what_cannot_come_home_is_read_all_the_same);
	suite_add_tcase(suite, tcase);
	return suite;
}
