/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fixture.h"

#include <linux/falloc.h>
#include <stdio.h>

#define KEEP FALLOC_FL_KEEP_SIZE
#define PUNCH (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)
#define ZERO FALLOC_FL_ZERO_RANGE

/* Whatever was beyond the end: it must not come back when the file grows. */
static void expect_nothing_behind(uint64_t file, uint64_t end, bool by_write)
{
	if (by_write)
		put_bytes(file, end + 30000, "x", 1);
	else
		set_size(file, end + 30001);
	for (int pass = 0; pass < 2; pass++) {
		expect_zeros(file, end, 30000);
		volume_remount();
	}
}

START_TEST(bytes_beyond_a_cut_never_come_back)
{
	/* Bits: written out before, cache dropped before, remounted after, grown by a write. */
	uint64_t file = make_file(ROOT, "file");

	put_pattern(file, 0, 20000, 1);
	if (_i & 1)
		sync_file(file);
	if (_i & 2)
		cache_drop_clean(cache);
	set_size(file, 5000);
	expect_size(file, 5000);
	if (_i & 4)
		volume_remount();
	expect_pattern(file, 0, 5000, 1);
	expect_nothing_behind(file, 5000, _i & 8);
	expect_pattern(file, 0, 5000, 1);
}
END_TEST

START_TEST(bytes_beyond_a_cut_do_not_come_back_behind_a_crash)
{
	uint64_t file = make_file(ROOT, "file");

	put_pattern(file, 0, 20000, 1);
	sync_file(file);
	sync_names();
	set_size(file, 5000);
	if (_i & 1)
		put_pattern(file, 100, 200, 1); /* dirty again */
	sync_names(); /* the cut is durable, whatever is dirty is not written */
	volume_crash();
	expect_size(file, 5000);
	expect_pattern(file, 0, 5000, 1);
	expect_nothing_behind(file, 5000, _i & 2);
}
END_TEST

START_TEST(a_cut_gives_its_blocks_back)
{
	uint64_t before = free_blocks(), file = make_file(ROOT, "file");

	put_pattern(file, 0, 3 << 20, 1);
	ck_assert_uint_eq(free_blocks(), before - 768);
	set_size(file, 5000);
	ck_assert_uint_eq(attr_of(file).st.st_blocks, 2 * 8);
	ck_assert_uint_eq(free_blocks(), before - 2);
	set_size(file, 0);
	ck_assert_uint_eq(free_blocks(), before);
	put_pattern(file, 0, 3 << 20, 1);
	set_size(file, 0); /* never written out: promises alone */
	ck_assert_uint_eq(free_blocks(), before);
	ck_assert_uint_eq(attr_of(file).st.st_blocks, 0);
	ck_assert_uint_eq(count_items(OBJECT_VOLUME, TYPE_ORPHAN), 0);
}
END_TEST

START_TEST(a_cut_in_many_transactions_leaves_no_note)
{
	uint64_t file = make_file(ROOT, "file");

	for (uint64_t i = 0; i < 2000; i++)
		put_bytes(file, i * 2 * FS_BLOCK, "x", 1);
	sync_file(file);
	ck_assert_uint_eq(attr_of(file).st.st_blocks, 2000 * 8);
	set_size(file, 10);
	ck_assert_uint_eq(attr_of(file).st.st_blocks, 8);
	ck_assert_uint_eq(count_items(OBJECT_VOLUME, TYPE_ORPHAN), 0);
	ck_assert_uint_eq(count_items(file, TYPE_EXTENT), 1);
	volume_remount();
	expect_size(file, 10);
	ck_assert_uint_eq(attr_of(file).st.st_blocks, 8);
}
END_TEST

START_TEST(what_a_crash_left_of_a_cut_is_finished_by_the_next_mount)
{
	uint64_t file = make_file(ROOT, "file"), before;
	struct format_inode item;
	struct inode *inode;
	struct meta_txn *txn;
	struct meta_key key;

	put_pattern(file, 0, 2 * FS_BLOCK, 1);
	sync_file(file);
	before = free_blocks();
	put_pattern(file, 2 * FS_BLOCK, 500 * FS_BLOCK, 1);
	sync_file(file);
	/* The first transaction of a cut that got no further: the size, and the note. */
	ck_assert_int_eq(inode_get(fs, file, &inode), 0);
	inode->attr.size = 2 * FS_BLOCK;
	inode_encode(&inode->attr, &item);
	inode_put(inode);
	key = inode_key(file);
	txn = meta_txn_begin(meta);
	meta_txn_put(txn, &key, &item, sizeof(item));
	orphan_put(txn, file);
	ck_assert_int_eq(meta_txn_commit(txn, NULL), 0);
	ck_assert_int_eq(meta_sync(meta, meta_sequence(meta)), 0);
	volume_crash();
	ck_assert_uint_eq(count_items(OBJECT_VOLUME, TYPE_ORPHAN), 0);
	ck_assert_uint_eq(attr_of(file).st.st_blocks, 2 * 8);
	ck_assert_uint_eq(free_blocks(), before);
	set_size(file, 100 * FS_BLOCK);
	expect_pattern(file, 0, 2 * FS_BLOCK, 1);
	expect_zeros(file, 2 * FS_BLOCK, 98 * FS_BLOCK);
}
END_TEST

START_TEST(a_file_does_not_grow_over_an_unfinished_cut)
{
	uint64_t file = make_file(ROOT, "file");
	struct inode *inode;

	put_pattern(file, 0, 10 * FS_BLOCK, 1);
	sync_file(file);
	ck_assert_int_eq(inode_get(fs, file, &inode), 0);
	/* As if the chain behind a cut to two blocks had failed. */
	filepage_drop(inode, 2, UINT64_MAX);
	inode->attr.size = inode->logged_size = 2 * FS_BLOCK;
	inode->truncating = true;
	inode_put(inode);
	if (_i == 0)
		put_bytes(file, 9 * FS_BLOCK, "x", 1);
	else if (_i == 1)
		set_size(file, 9 * FS_BLOCK);
	else
		ck_assert_int_eq(fs_fallocate(fs, file, 0, 8 * FS_BLOCK, FS_BLOCK), 0);
	sync_file(file);
	cache_drop_clean(cache);
	expect_pattern(file, 0, 2 * FS_BLOCK, 1);
	expect_zeros(file, 2 * FS_BLOCK, 7 * FS_BLOCK);
}
END_TEST

/* What it would take the place of stays, and the blocks held back are for those that give one back. */
START_TEST(cuts_of_copies_leave_room_for_other_cuts_on_a_full_volume)
{
	uint64_t alone = make_file(ROOT, "alone"), from = make_file(ROOT, "from"), copies[40];

	put_pattern(alone, 0, 3 * FS_BLOCK, 1);
	put_pattern(from, 0, 3 * FS_BLOCK, 2);
	for (int i = 0; i < 40; i++) {
		char name[16];

		snprintf(name, sizeof(name), "copy %d", i);
		copies[i] = make_file(ROOT, name);
		ck_assert_int_eq(fs_copy_range(fs, from, 0, copies[i], 0, 3 * FS_BLOCK), 3 * FS_BLOCK);
	}
	ck_assert_int_eq(fs_sync(fs), 0);
	volume_fill();
	for (int i = 0; i < 40; i++) {
		struct fs_attr attr = { .st.st_size = FS_BLOCK + 100 };
		int error = fs_setattr(fs, copies[i], FS_SET_SIZE, &attr);

		ck_assert(!error || error == -ENOSPC);
		ck_assert_int_eq(fs_sync(fs), 0);
	}
	set_size(alone, FS_BLOCK + 100);
	expect_pattern(alone, 0, FS_BLOCK + 100, 1);
}
END_TEST

START_TEST(a_cut_on_a_full_volume_works_anywhere)
{
	uint64_t file = make_file(ROOT, "file");

	put_pattern(file, 0, 10 * FS_BLOCK, 1);
	sync_file(file);
	volume_fill();
	/* Each takes a block for the last one, and gives that back: more of them than are held back. */
	for (uint64_t size = 10 * FS_BLOCK - 1; size > 10 * FS_BLOCK - 100; size--)
		set_size(file, size);
	set_size(file, 4 * FS_BLOCK);
	expect_pattern(file, 0, 4 * FS_BLOCK, 1);
	ck_assert_int_eq(fs_fallocate(fs, file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 100, 200), 0);
	expect_zeros(file, 100, 200);
	sync_file(file);
	set_size(file, 0);
	ck_assert_uint_eq(attr_of(file).st.st_blocks, 0);
}
END_TEST

/* ---- fallocate ---- */

START_TEST(fallocate_makes_blocks_of_zeros_that_cannot_fail_later)
{
	uint64_t file = make_file(ROOT, "file"), before = free_blocks();

	put_pattern(file, 5000, 100, 1);
	ck_assert_int_eq(fs_fallocate(fs, file, 0, 0, 100 * FS_BLOCK), 0);
	expect_size(file, 100 * FS_BLOCK);
	ck_assert_uint_eq(free_blocks(), before - 100);
	ck_assert_uint_eq(attr_of(file).st.st_blocks, 100 * 8);
	volume_remount();
	expect_size(file, 100 * FS_BLOCK);
	ck_assert_uint_eq(attr_of(file).st.st_blocks, 100 * 8);
	expect_zeros(file, 0, 5000);
	expect_pattern(file, 5000, 100, 1);
	expect_zeros(file, 5100, 90 * FS_BLOCK);
	/* A second time nothing is needed. */
	ck_assert_int_eq(fs_fallocate(fs, file, 0, 0, 100 * FS_BLOCK), 0);
	ck_assert_uint_eq(free_blocks(), before - 100);
}
END_TEST

START_TEST(fallocate_beyond_the_room_there_is_takes_nothing)
{
	uint64_t file = make_file(ROOT, "file"), before = free_blocks();

	ck_assert_int_eq(fs_fallocate(fs, file, 0, 0, UINT64_C(1) << 40), -ENOSPC);
	expect_size(file, 0);
	ck_assert_uint_eq(free_blocks(), before);
	ck_assert_int_eq(fs_fallocate(fs, file, 0, FS_SIZE_MAX, 1), -EFBIG);
	ck_assert_int_eq(fs_fallocate(fs, file, 0, 0, 0), -EINVAL);
	ck_assert_int_eq(fs_fallocate(fs, file, FALLOC_FL_PUNCH_HOLE, 0, 1), -EOPNOTSUPP);
	ck_assert_int_eq(fs_fallocate(fs, file, FALLOC_FL_COLLAPSE_RANGE, 0, 4096), -EOPNOTSUPP);
	ck_assert_int_eq(fs_fallocate(fs, ROOT, 0, 0, 1), -EISDIR);
}
END_TEST

START_TEST(keep_size_allocates_beyond_the_end_and_a_cut_frees_it)
{
	uint64_t file = make_file(ROOT, "file"), before = free_blocks();

	put_pattern(file, 0, 5000, 1);
	ck_assert_int_eq(fs_fallocate(fs, file, KEEP, 0, 50 * FS_BLOCK), 0);
	expect_size(file, 5000);
	ck_assert_uint_eq(free_blocks(), before - 50);
	volume_remount();
	expect_size(file, 5000);
	put_pattern(file, 40 * FS_BLOCK, 10, 2);
	expect_pattern(file, 0, 5000, 1);
	expect_zeros(file, 5000, 35 * FS_BLOCK);
	volume_remount();
	expect_pattern(file, 40 * FS_BLOCK, 10, 2);
	ck_assert_uint_eq(attr_of(file).st.st_blocks, 50 * 8);
	set_size(file, 0);
	ck_assert_uint_eq(free_blocks(), before);
}
END_TEST

START_TEST(a_punched_hole_is_zeros_and_the_rest_stays)
{
	uint64_t file = make_file(ROOT, "file");

	put_pattern(file, 0, 20 * FS_BLOCK, 1);
	if (_i & 1) {
		sync_file(file);
		cache_drop_clean(cache);
	}
	ck_assert_int_eq(fs_fallocate(fs, file, PUNCH, 5000, 7 * FS_BLOCK), 0);
	ck_assert_int_eq(fs_fallocate(fs, file, PUNCH, 50000, 100), 0);
	ck_assert_int_eq(fs_fallocate(fs, file, PUNCH, 19 * FS_BLOCK + 7, UINT64_C(1) << 40), 0);
	for (int pass = 0; pass < 2; pass++) {
		expect_size(file, 20 * FS_BLOCK);
		expect_pattern(file, 0, 5000, 1);
		expect_zeros(file, 5000, 7 * FS_BLOCK);
		expect_pattern(file, 5000 + 7 * FS_BLOCK, 50000 - 5000 - 7 * FS_BLOCK, 1);
		expect_zeros(file, 50000, 100);
		expect_pattern(file, 50100, 19 * FS_BLOCK + 7 - 50100, 1);
		expect_zeros(file, 19 * FS_BLOCK + 7, FS_BLOCK - 7);
		volume_remount();
	}
	ck_assert_uint_eq(attr_of(file).st.st_blocks, 14 * 8);
}
END_TEST

START_TEST(a_hole_punched_over_dirty_pages_keeps_the_size)
{
	uint64_t file = make_file(ROOT, "file");

	put_pattern(file, 0, 20 * FS_BLOCK, 1);
	ck_assert_int_eq(fs_fallocate(fs, file, PUNCH, 10 * FS_BLOCK, 10 * FS_BLOCK), 0);
	sync_file(file);
	volume_crash();
	expect_size(file, 20 * FS_BLOCK);
	expect_pattern(file, 0, 10 * FS_BLOCK, 1);
	expect_zeros(file, 10 * FS_BLOCK, 10 * FS_BLOCK);
}
END_TEST

START_TEST(a_hole_punched_in_a_hole_takes_nothing)
{
	uint64_t file = make_file(ROOT, "file"), before;

	set_size(file, 1 << 20);
	before = free_blocks();
	ck_assert_int_eq(fs_fallocate(fs, file, PUNCH, 100, 500000), 0);
	ck_assert_uint_eq(free_blocks(), before);
	ck_assert_uint_eq(attr_of(file).st.st_blocks, 0);
}
END_TEST

START_TEST(zero_range_zeroes_and_grows_unless_told_not_to)
{
	uint64_t file = make_file(ROOT, "file");

	put_pattern(file, 0, 20000, 1);
	ck_assert_int_eq(fs_fallocate(fs, file, ZERO | KEEP, 15000, 30000), 0);
	expect_size(file, 20000);
	expect_pattern(file, 0, 15000, 1);
	expect_zeros(file, 15000, 5000);
	ck_assert_int_eq(fs_fallocate(fs, file, ZERO, 10000, 30000), 0);
	expect_size(file, 40000);
	volume_remount();
	expect_pattern(file, 0, 10000, 1);
	expect_zeros(file, 10000, 30000);
}
END_TEST

Suite *truncate_suite(void)
{
	Suite *suite = suite_create("truncate");
	TCase *tests = tcase_create("truncate"), *small = tcase_create("small");

	tcase_add_checked_fixture(tests, volume_setup, volume_teardown);
	tcase_set_timeout(tests, 60);
	tcase_add_loop_test(tests, bytes_beyond_a_cut_never_come_back, 0, 16);
	tcase_add_loop_test(tests, bytes_beyond_a_cut_do_not_come_back_behind_a_crash, 0, 4);
	tcase_add_test(tests, a_cut_gives_its_blocks_back);
	tcase_add_test(tests, a_cut_in_many_transactions_leaves_no_note);
	tcase_add_test(tests, what_a_crash_left_of_a_cut_is_finished_by_the_next_mount);
	tcase_add_loop_test(tests, a_file_does_not_grow_over_an_unfinished_cut, 0, 3);
	tcase_add_test(tests, fallocate_makes_blocks_of_zeros_that_cannot_fail_later);
	tcase_add_test(tests, fallocate_beyond_the_room_there_is_takes_nothing);
	tcase_add_test(tests, keep_size_allocates_beyond_the_end_and_a_cut_frees_it);
	tcase_add_loop_test(tests, a_punched_hole_is_zeros_and_the_rest_stays, 0, 2);
	tcase_add_test(tests, a_hole_punched_over_dirty_pages_keeps_the_size);
	tcase_add_test(tests, a_hole_punched_in_a_hole_takes_nothing);
	tcase_add_test(tests, zero_range_zeroes_and_grows_unless_told_not_to);
	suite_add_tcase(suite, tests);
	tcase_add_checked_fixture(small, volume_setup_small, volume_teardown);
	tcase_set_timeout(small, 60);
	tcase_add_test(small, a_cut_on_a_full_volume_works_anywhere);
	tcase_add_test(small, cuts_of_copies_leave_room_for_other_cuts_on_a_full_volume);
	suite_add_tcase(suite, small);
	return suite;
}
