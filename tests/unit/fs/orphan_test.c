/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fixture.h"

#include <stdio.h>
#include <unistd.h>

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

static struct fs_attr make_nameless(uint64_t dir, bool linkable)
{
	struct fs_attr attr;

	ck_assert_int_eq(fs_tmpfile(fs, &caller, dir, 0640, linkable, &attr), 0);
	return attr;
}

START_TEST(a_file_may_begin_without_a_name_and_get_one)
{
	struct fs_attr attr = make_nameless(ROOT, true);
	uint64_t file = attr.st.st_ino;

	ck_assert_uint_eq(attr.st.st_nlink, 0);
	ck_assert_uint_eq(attr.st.st_mode, S_IFREG | 0640);
	ck_assert_uint_eq(attr.st.st_uid, caller.uid);
	ck_assert_uint_eq(count_entries(ROOT), 0);
	put_pattern(file, 0, 100000, 1);
	set_size(file, 90000);
	ck_assert_int_eq(fs_link(fs, file, ROOT, "name", &attr), 0);
	ck_assert_uint_eq(attr.st.st_nlink, 1);
	ck_assert_uint_eq(count_items(OBJECT_VOLUME, TYPE_ORPHAN), 0);
	sync_names();
	volume_crash();
	ck_assert_uint_eq(find(ROOT, "name"), file);
	expect_size(file, 90000); /* brought along, as by a rename */
	expect_pattern(file, 0, 90000, 1);
	ck_assert_int_eq(fs_unlink(fs, ROOT, "name"), 0);
	ck_assert_uint_eq(count_items(file, TYPE_INODE), 0);
}
END_TEST

START_TEST(a_file_that_never_got_a_name_is_gone)
{
	uint64_t before = free_blocks(), file = make_nameless(ROOT, true).st.st_ino;

	put_pattern(file, 0, 1 << 20, 1);
	sync_file(file);
	ck_assert_uint_eq(count_items(OBJECT_VOLUME, TYPE_ORPHAN), 1);
	if (_i == 0)
		fs_forget(fs, file, 1);
	else if (_i == 1)
		volume_remount();
	else
		volume_crash();
	ck_assert_uint_eq(count_items(file, TYPE_INODE), 0);
	ck_assert_uint_eq(count_items(OBJECT_VOLUME, TYPE_ORPHAN), 0);
	ck_assert_uint_eq(free_blocks(), before);
}
END_TEST

START_TEST(only_who_may_get_a_name_gets_one_and_once)
{
	uint64_t file = make_nameless(ROOT, false).st.st_ino, dir = make_dir(ROOT, "dir");
	struct fs_attr attr;

	ck_assert_int_eq(fs_link(fs, file, ROOT, "name", &attr), -ENOENT);
	file = make_nameless(dir, true).st.st_ino;
	ck_assert_int_eq(fs_link(fs, file, ROOT, "name", &attr), 0);
	ck_assert_int_eq(fs_unlink(fs, ROOT, "name"), 0);
	ck_assert_int_eq(fs_link(fs, file, ROOT, "name", &attr), -ENOENT);
	ck_assert_int_eq(fs_rmdir(fs, ROOT, "dir"), 0);
	ck_assert_int_eq(fs_tmpfile(fs, &caller, dir, 0600, true, &attr), -ENOENT);
	ck_assert_int_eq(fs_tmpfile(fs, &caller, file, 0600, true, &attr), -ENOTDIR);
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
	sync_names();
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
	sync_names();
	volume_crash();
	volume_unmount();
	volume_mount(true);
	ck_assert_uint_eq(count_items(file, TYPE_INODE), 0); /* the mount behind the crash has deleted it */
}
END_TEST

#define PIECES 2000

static uint64_t make_file_of_many_pieces(void)
{
	uint64_t file = make_file(ROOT, "file");

	for (uint64_t i = 0; i < PIECES; i++)
		put_bytes(file, i * 2 * FS_BLOCK, "x", 1);
	sync_file(file);
	ck_assert_int_eq(fs_unlink(fs, ROOT, "file"), 0);
	sync_names();
	return file;
}

static void wait_for_the_reaper(void)
{
	struct fs_stats stats;

	do {
		usleep(1000);
		fs_stats(fs, &stats);
	} while (stats.orphans);
}

/* By the reaper, by that of the mount behind an unmount that came between, or behind a crash. */
START_TEST(a_file_of_many_pieces_is_deleted_whole)
{
	uint64_t before = free_blocks(), file = make_file_of_many_pieces();
	struct fs_attr attr;

	fs_forget(fs, file, 1);
	ck_assert_int_eq(fs_getattr(fs, file, &attr), -ESTALE);
	if (_i == 1)
		volume_remount();
	if (_i == 2)
		volume_crash();
	wait_for_the_reaper();
	ck_assert_uint_eq(count_items(file, TYPE_EXTENT), 0);
	ck_assert_uint_eq(count_items(file, TYPE_INODE), 0);
	ck_assert_uint_eq(count_items(OBJECT_VOLUME, TYPE_ORPHAN), 0);
	ck_assert_uint_eq(free_blocks(), before);
}
END_TEST

/* Who forgets it comes back behind a few transactions; the rest is done while he goes on. */
START_TEST(nobody_waits_for_a_file_of_many_pieces)
{
	uint64_t before = free_blocks(), file = make_file_of_many_pieces(), left;

	orphan_reaper_stop(fs);
	fs->reaper.runs = false;
	fs_forget(fs, file, 1);
	left = count_items(file, TYPE_EXTENT);
	ck_assert_uint_gt(left, PIECES / 2);
	ck_assert_uint_lt(left, PIECES);
	ck_assert_uint_ge(free_blocks(), before - 64); /* df counts what is on its way */
	volume_remount();
	wait_for_the_reaper();
	ck_assert_uint_eq(count_items(file, TYPE_EXTENT), 0);
	ck_assert_uint_eq(free_blocks(), before);
}
END_TEST

#define TOGETHER (2 * ORPHANS_TOGETHER)

static uint64_t commits(void)
{
	struct meta_stats stats;

	meta_stats(meta, &stats);
	return stats.commits;
}

/* With _i one of them is in more pieces than a transaction takes. */
START_TEST(files_that_are_forgotten_together_are_deleted_together)
{
	struct fs_forgotten forgotten[TOGETHER + 2];
	uint64_t before = free_blocks(), known, kept, committed;
	struct fs_stats stats;
	struct fs_attr attr;
	char name[16];

	for (unsigned int i = 0; i < TOGETHER; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		forgotten[i] = (struct fs_forgotten){ make_file(ROOT, name), 1 };
		put_pattern(forgotten[i].inode, 0, i == 5 && _i ? 1 : 5000, 1);
		for (uint64_t piece = 1; i == 5 && _i && piece < 2 * META_TXN_CUTS; piece++)
			put_bytes(forgotten[i].inode, piece * 2 * FS_BLOCK, "x", 1);
		if (i == 6)
			ck_assert_int_eq(fs_setxattr(fs, forgotten[i].inode, "user.a", "b", 1, 0), 0);
		sync_file(forgotten[i].inode);
	}
	known = make_file(ROOT, "known");
	ck_assert_int_eq(fs_lookup(fs, ROOT, "known", &attr), 0);
	kept = make_file(ROOT, "kept");
	for (unsigned int i = 0; i < TOGETHER; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		ck_assert_int_eq(fs_unlink(fs, ROOT, name), 0);
	}
	ck_assert_int_eq(fs_unlink(fs, ROOT, "known"), 0);
	forgotten[TOGETHER] = (struct fs_forgotten){ known, 1 };
	forgotten[TOGETHER + 1] = (struct fs_forgotten){ kept, 1 };
	committed = commits();
	fs_forget_many(fs, forgotten, TOGETHER + 2);
	committed = commits() - committed;
	ck_assert_uint_eq(attr_of(known).st.st_nlink, 0);
	ck_assert_uint_eq(find(ROOT, "kept"), kept);
	fs_stats(fs, &stats);
	ck_assert_uint_eq(stats.orphans, 1);
	fs_forget(fs, known, 1);
	ck_assert_int_eq(fs_unlink(fs, ROOT, "kept"), 0);
	for (unsigned int i = 0; i < TOGETHER; i++) {
		ck_assert_int_eq(fs_getattr(fs, forgotten[i].inode, &attr), -ESTALE);
		ck_assert_uint_eq(count_items(forgotten[i].inode, TYPE_INODE), 0);
		ck_assert_uint_eq(count_items(forgotten[i].inode, TYPE_EXTENT), 0);
		ck_assert_uint_eq(count_items(forgotten[i].inode, TYPE_XATTR), 0);
	}
	ck_assert_uint_eq(count_items(OBJECT_VOLUME, TYPE_ORPHAN), 0);
	ck_assert_uint_eq(free_blocks(), before);
	if (!_i)
		ck_assert_uint_eq(committed, 2);
}
END_TEST

static void reap_later(void *arg)
{
	usleep(200000);
	ck_assert_int_eq(orphan_reaper_start(fs), 0);
}

START_TEST(who_finds_no_room_waits_for_what_is_being_deleted)
{
	uint64_t file = make_file_of_many_pieces(), other = make_file(ROOT, "other");
	struct thread later;

	volume_fill();
	orphan_reaper_stop(fs);
	fs->reaper.stop = fs->reaper.runs = false;
	fs_forget(fs, file, 1);
	ck_assert_int_eq(thread_start(&later, "later", reap_later, NULL), 0);
	put_pattern(other, 0, (PIECES - 200) * (size_t)FS_BLOCK, 1);
	thread_join(&later);
	sync_file(other);
	expect_pattern(other, 0, (PIECES - 200) * (size_t)FS_BLOCK, 1);
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
	tcase_add_test(tests, a_file_may_begin_without_a_name_and_get_one);
	tcase_add_loop_test(tests, a_file_that_never_got_a_name_is_gone, 0, 3);
	tcase_add_test(tests, only_who_may_get_a_name_gets_one_and_once);
	tcase_add_loop_test(tests, orphans_are_deleted_by_the_unmount_or_the_next_mount, 0, 2);
	tcase_add_test(tests, a_read_only_mount_leaves_orphans_alone);
	tcase_add_loop_test(tests, a_file_of_many_pieces_is_deleted_whole, 0, 3);
	tcase_add_test(tests, nobody_waits_for_a_file_of_many_pieces);
	tcase_add_loop_test(tests, files_that_are_forgotten_together_are_deleted_together, 0, 2);
	tcase_add_test(tests, who_finds_no_room_waits_for_what_is_being_deleted);
	tcase_add_test(tests, a_note_that_leads_nowhere_is_removed);
	tcase_add_test(tests, a_forgotten_file_leaves_memory_and_loses_nothing);
	suite_add_tcase(suite, tests);
	return suite;
}
