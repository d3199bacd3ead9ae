/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fixture.h"

START_TEST(an_unlinked_file_is_whole_until_it_is_forgotten)
{
	uint64_t before = free_blocks(), file = make_file(ROOT, "file");
	struct fs_stats stats;
	struct fs_attr attr;

	put_pattern(file, 0, 100000, 1);
	sync_file(file);
	ck_assert_int_eq(fs_unlink(fs, ROOT, "file"), 0);
	fs_stats(fs, &stats);
	ck_assert_uint_eq(stats.orphans, 1);
	ck_assert_uint_eq(count_items(OBJECT_VOLUME, TYPE_ORPHAN), 1);
	expect_pattern(file, 0, 100000, 1);
	put_pattern(file, 100000, 5000, 1);
	expect_pattern(file, 0, 105000, 1);
	ck_assert_int_eq(fs_link(fs, file, ROOT, "back", &attr), -ENOENT);
	ck_assert_int_eq(fs_forget(fs, file, 1), 0);
	ck_assert_int_eq(fs_getattr(fs, file, &attr), -ESTALE);
	fs_stats(fs, &stats);
	ck_assert_uint_eq(stats.orphans, 0);
	ck_assert_uint_eq(count_items(OBJECT_VOLUME, TYPE_ORPHAN), 0);
	ck_assert_uint_eq(count_items(file, TYPE_INODE), 0);
	ck_assert_uint_eq(count_items(file, TYPE_EXTENT), 0);
	ck_assert_uint_eq(free_blocks(), before);
}
END_TEST

START_TEST(orphans_are_deleted_by_the_unmount_or_the_next_mount)
{
	uint64_t before = free_blocks(), file = make_file(ROOT, "file"), dir = make_dir(ROOT, "dir");
	struct fs_attr link;

	ck_assert_int_eq(fs_symlink(fs, &caller, ROOT, "link", "target", &link), 0);
	put_pattern(file, 0, 1 << 20, 1);
	sync_file(file);
	ck_assert_int_eq(fs_unlink(fs, ROOT, "file"), 0);
	ck_assert_int_eq(fs_unlink(fs, ROOT, "link"), 0);
	ck_assert_int_eq(fs_rmdir(fs, ROOT, "dir"), 0);
	ck_assert_uint_eq(count_items(OBJECT_VOLUME, TYPE_ORPHAN), 3);
	sync_file(ROOT);
	if (_i)
		volume_crash();
	else
		volume_remount();
	ck_assert_uint_eq(count_items(OBJECT_VOLUME, TYPE_ORPHAN), 0);
	ck_assert_uint_eq(count_items(file, TYPE_INODE), 0);
	ck_assert_uint_eq(count_items(file, TYPE_EXTENT), 0);
	ck_assert_uint_eq(count_items(dir, TYPE_INODE), 0);
	ck_assert_uint_eq(count_items(link.st.st_ino, TYPE_INODE), 0);
	ck_assert_uint_eq(count_items(link.st.st_ino, TYPE_SYMLINK), 0);
	ck_assert_uint_eq(free_blocks(), before);
	ck_assert_uint_eq(count_entries(ROOT), 0);
}
END_TEST

START_TEST(a_read_only_mount_leaves_orphans_alone)
{
	uint64_t file = make_file(ROOT, "file");

	ck_assert_int_eq(fs_unlink(fs, ROOT, "file"), 0);
	sync_file(ROOT);
	volume_crash();
	volume_unmount();
	volume_mount(true);
	ck_assert_uint_eq(count_items(file, TYPE_INODE), 0); /* the mount behind the crash has deleted it */
}
END_TEST

START_TEST(a_file_of_many_pieces_is_deleted_whole)
{
	uint64_t before = free_blocks(), file = make_file(ROOT, "file");

	for (uint64_t i = 0; i < 2000; i++)
		put_bytes(file, i * 2 * FS_BLOCK, "x", 1);
	sync_file(file);
	ck_assert_int_eq(fs_unlink(fs, ROOT, "file"), 0);
	fs_forget(fs, file, 1);
	ck_assert_uint_eq(count_items(file, TYPE_EXTENT), 0);
	ck_assert_uint_eq(free_blocks(), before);
}
END_TEST

START_TEST(a_note_that_leads_nowhere_is_removed)
{
	struct meta_txn *txn = meta_txn_begin(meta);

	orphan_put(txn, 123456789);
	ck_assert_int_eq(meta_txn_commit(txn, NULL), 0);
	volume_remount();
	ck_assert_uint_eq(count_items(OBJECT_VOLUME, TYPE_ORPHAN), 0);
}
END_TEST

START_TEST(a_forgotten_file_leaves_memory_and_loses_nothing)
{
	uint64_t file = make_file(ROOT, "file");
	struct fs_stats stats;

	put_pattern(file, 0, 50000, 1);
	fs_stats(fs, &stats);
	ck_assert_uint_eq(stats.dirty_inodes, 1);
	fs_forget(fs, file, 1);
	fs_stats(fs, &stats);
	ck_assert_uint_eq(stats.inodes, 0);
	expect_size(file, 50000);
	expect_pattern(file, 0, 50000, 1);
}
END_TEST

Suite *orphan_suite(void)
{
	Suite *suite = suite_create("orphan");
	TCase *tests = tcase_create("orphan");

	tcase_add_checked_fixture(tests, volume_setup, volume_teardown);
	tcase_set_timeout(tests, 60);
	tcase_add_test(tests, an_unlinked_file_is_whole_until_it_is_forgotten);
	tcase_add_loop_test(tests, orphans_are_deleted_by_the_unmount_or_the_next_mount, 0, 2);
	tcase_add_test(tests, a_read_only_mount_leaves_orphans_alone);
	tcase_add_test(tests, a_file_of_many_pieces_is_deleted_whole);
	tcase_add_test(tests, a_note_that_leads_nowhere_is_removed);
	tcase_add_test(tests, a_forgotten_file_leaves_memory_and_loses_nothing);
	suite_add_tcase(suite, tests);
	return suite;
}
