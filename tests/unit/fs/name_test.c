/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fixture.h"

#include <limits.h>

START_TEST(a_name_exists_once)
{
	struct fs_attr attr;

	make_file(ROOT, "name");
	ck_assert_int_eq(fs_mknod(fs, &caller, ROOT, "name", S_IFREG, 0, &attr), -EEXIST);
	ck_assert_int_eq(fs_mkdir(fs, &caller, ROOT, "name", 0755, &attr), -EEXIST);
	ck_assert_int_eq(fs_symlink(fs, &caller, ROOT, "name", "x", &attr), -EEXIST);
	ck_assert_int_eq(fs_link(fs, find(ROOT, "name"), ROOT, "name", &attr), -EEXIST);
	ck_assert_uint_eq(count_entries(ROOT), 1);
}
END_TEST

START_TEST(mknod_makes_no_directory_and_no_symlink)
{
	struct fs_attr attr;

	ck_assert_int_eq(fs_mknod(fs, &caller, ROOT, "d", S_IFDIR | 0755, 0, &attr), -EINVAL);
	ck_assert_int_eq(fs_mknod(fs, &caller, ROOT, "l", S_IFLNK | 0755, 0, &attr), -EINVAL);
	ck_assert_int_eq(fs_mknod(fs, &caller, ROOT, "s", S_IFSOCK | 0755, 0, &attr), 0);
	ck_assert_uint_eq(attr.st.st_mode, S_IFSOCK | 0755);
}
END_TEST

START_TEST(numbers_are_never_used_again)
{
	uint64_t first = make_file(ROOT, "a"), second;

	ck_assert_int_eq(fs_unlink(fs, ROOT, "a"), 0);
	fs_forget(fs, first, 1);
	second = make_file(ROOT, "a");
	ck_assert_uint_ne(first, second);
	volume_remount();
	ck_assert_uint_gt(make_file(ROOT, "b"), second);
}
END_TEST

START_TEST(a_symlink_keeps_its_target)
{
	char target[PATH_MAX + 1], back[PATH_MAX];
	struct fs_attr attr;

	memset(target, 't', sizeof(target));
	target[PATH_MAX] = 0;
	ck_assert_int_eq(fs_symlink(fs, &caller, ROOT, "long", target, &attr), -ENAMETOOLONG);
	target[PATH_MAX - 1] = 0;
	ck_assert_int_eq(fs_symlink(fs, &caller, ROOT, "link", target, &attr), 0);
	ck_assert_uint_eq(attr.st.st_mode, S_IFLNK | 0777);
	ck_assert_int_eq(attr.st.st_size, PATH_MAX - 1);
	volume_remount();
	ck_assert_int_eq(fs_readlink(fs, attr.st.st_ino, back, sizeof(back)), 0);
	ck_assert_str_eq(back, target);
	expect_size(attr.st.st_ino, PATH_MAX - 1);
	ck_assert_int_eq(fs_readlink(fs, ROOT, back, sizeof(back)), -EINVAL);
	ck_assert_int_eq(fs_symlink(fs, &caller, ROOT, "empty", "", &attr), -ENOENT);
	ck_assert_int_eq(fs_unlink(fs, ROOT, "link"), 0);
}
END_TEST

START_TEST(links_are_counted_by_names_and_subdirectories)
{
	uint64_t dir = make_dir(ROOT, "dir"), file = make_file(dir, "file");
	struct fs_attr attr;

	ck_assert_uint_eq(attr_of(dir).st.st_nlink, 2);
	make_dir(dir, "sub1");
	make_dir(dir, "sub2");
	ck_assert_uint_eq(attr_of(dir).st.st_nlink, 4);
	ck_assert_int_eq(fs_rmdir(fs, dir, "sub1"), 0);
	ck_assert_uint_eq(attr_of(dir).st.st_nlink, 3);
	ck_assert_int_eq(fs_link(fs, file, ROOT, "again", &attr), 0);
	ck_assert_uint_eq(attr.st.st_nlink, 2);
	ck_assert_uint_eq(attr.st.st_ino, file);
	ck_assert_int_eq(fs_link(fs, dir, ROOT, "no", &attr), -EPERM);
	volume_remount();
	ck_assert_uint_eq(attr_of(file).st.st_nlink, 2);
	ck_assert_uint_eq(attr_of(dir).st.st_nlink, 3);
	ck_assert_uint_eq(attr_of(ROOT).st.st_nlink, 3);
}
END_TEST

START_TEST(a_file_lives_until_its_last_name_goes)
{
	uint64_t file = make_file(ROOT, "one");
	struct fs_attr attr;

	put_pattern(file, 0, 5000, 3);
	ck_assert_int_eq(fs_link(fs, file, ROOT, "two", &attr), 0);
	ck_assert_int_eq(fs_unlink(fs, ROOT, "one"), 0);
	ck_assert_int_eq(fs_forget(fs, file, 2), 0);
	volume_remount();
	ck_assert_uint_eq(find(ROOT, "two"), file);
	expect_pattern(file, 0, 5000, 3);
	ck_assert_int_eq(fs_unlink(fs, ROOT, "two"), 0);
	ck_assert_int_eq(fs_getattr(fs, file, &attr), -ESTALE);
}
END_TEST

START_TEST(too_many_links_are_refused)
{
	uint64_t file = make_file(ROOT, "file");
	struct inode *inode;
	struct fs_attr attr;

	ck_assert_int_eq(inode_get(fs, file, &inode), 0);
	inode->attr.nlink = FS_NLINK_MAX;
	ck_assert_int_eq(fs_link(fs, file, ROOT, "more", &attr), -EMLINK);
	inode->attr.nlink = 1;
	inode_put(inode);
	ck_assert_int_eq(inode_get(fs, ROOT, &inode), 0);
	inode->attr.nlink = FS_NLINK_MAX;
	ck_assert_int_eq(fs_mkdir(fs, &caller, ROOT, "dir", 0755, &attr), -EMLINK);
	inode->attr.nlink = 2;
	inode_put(inode);
}
END_TEST

START_TEST(unlink_and_rmdir_know_what_they_remove)
{
	uint64_t dir = make_dir(ROOT, "dir");

	make_file(ROOT, "file");
	make_file(dir, "inside");
	ck_assert_int_eq(fs_unlink(fs, ROOT, "dir"), -EISDIR);
	ck_assert_int_eq(fs_rmdir(fs, ROOT, "file"), -ENOTDIR);
	ck_assert_int_eq(fs_rmdir(fs, ROOT, "dir"), -ENOTEMPTY);
	ck_assert_int_eq(fs_unlink(fs, ROOT, "nothing"), -ENOENT);
	ck_assert_int_eq(fs_unlink(fs, dir, "inside"), 0);
	ck_assert_int_eq(fs_rmdir(fs, ROOT, "dir"), 0);
	ck_assert_uint_eq(find(ROOT, "dir"), 0);
}
END_TEST

START_TEST(nothing_is_made_in_a_removed_directory)
{
	uint64_t dir = make_dir(ROOT, "dir"), file = make_file(ROOT, "file");
	struct fs_attr attr;

	ck_assert_int_eq(fs_rmdir(fs, ROOT, "dir"), 0);
	ck_assert_uint_eq(attr_of(dir).st.st_nlink, 0);
	ck_assert_int_eq(fs_mknod(fs, &caller, dir, "x", S_IFREG, 0, &attr), -ENOENT);
	ck_assert_int_eq(fs_mkdir(fs, &caller, dir, "x", 0755, &attr), -ENOENT);
	ck_assert_int_eq(fs_link(fs, file, dir, "x", &attr), -ENOENT);
	ck_assert_int_eq(fs_rename(fs, &caller, ROOT, "file", dir, "x", 0), -ENOENT);
	ck_assert_uint_eq(count_entries(dir), 0);
	fs_forget(fs, dir, 1);
	ck_assert_uint_eq(count_items(dir, TYPE_INODE), 0);
}
END_TEST

START_TEST(a_directorys_times_follow_its_entries)
{
	uint64_t dir = make_dir(ROOT, "dir");
	struct fs_attr old = { .st.st_mtim = { 5, 0 } }, attr = old;

	ck_assert_int_eq(fs_setattr(fs, dir, FS_SET_MTIME, &attr), 0);
	make_file(dir, "a");
	ck_assert_int_gt(attr_of(dir).st.st_mtim.tv_sec, 5);
	attr = old;
	ck_assert_int_eq(fs_setattr(fs, dir, FS_SET_MTIME, &attr), 0);
	ck_assert_int_eq(fs_rename(fs, &caller, dir, "a", dir, "b", 0), 0);
	ck_assert_int_gt(attr_of(dir).st.st_mtim.tv_sec, 5);
	attr = old;
	ck_assert_int_eq(fs_setattr(fs, dir, FS_SET_MTIME, &attr), 0);
	ck_assert_int_eq(fs_unlink(fs, dir, "b"), 0);
	ck_assert_int_gt(attr_of(dir).st.st_mtim.tv_sec, 5);
}
END_TEST

START_TEST(an_fsync_of_a_directory_keeps_its_names_through_a_crash)
{
	uint64_t dir = make_dir(ROOT, "dir"), file = make_file(dir, "file");

	sync_file(dir);
	volume_crash();
	ck_assert_uint_eq(find(ROOT, "dir"), dir);
	ck_assert_uint_eq(find(dir, "file"), file);
	expect_size(file, 0);
}
END_TEST

Suite *name_suite(void)
{
	Suite *suite = suite_create("name");
	TCase *tests = tcase_create("name");

	tcase_add_checked_fixture(tests, volume_setup, volume_teardown);
	tcase_set_timeout(tests, 60);
	tcase_add_test(tests, a_name_exists_once);
	tcase_add_test(tests, mknod_makes_no_directory_and_no_symlink);
	tcase_add_test(tests, numbers_are_never_used_again);
	tcase_add_test(tests, a_symlink_keeps_its_target);
	tcase_add_test(tests, links_are_counted_by_names_and_subdirectories);
	tcase_add_test(tests, a_file_lives_until_its_last_name_goes);
	tcase_add_test(tests, too_many_links_are_refused);
	tcase_add_test(tests, unlink_and_rmdir_know_what_they_remove);
	tcase_add_test(tests, nothing_is_made_in_a_removed_directory);
	tcase_add_test(tests, a_directorys_times_follow_its_entries);
	tcase_add_test(tests, an_fsync_of_a_directory_keeps_its_names_through_a_crash);
	suite_add_tcase(suite, tests);
	return suite;
}
