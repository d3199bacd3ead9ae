/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fixture.h"

#include <sys/sysmacros.h>

static struct fs_attr set(uint64_t inode, unsigned int what, struct fs_attr attr)
{
	ck_assert_int_eq(fs_setattr(fs, inode, what, &attr), 0);
	return attr;
}

static uint32_t mode_behind(uint64_t inode, mode_t before, unsigned int what, struct fs_attr attr)
{
	set(inode, FS_SET_MODE, (struct fs_attr){ .st.st_mode = before });
	ck_assert_int_eq(fs_setattr(fs, inode, what, &attr), 0);
	return attr.st.st_mode & 07777;
}

START_TEST(a_new_inode_is_the_callers_and_now)
{
	struct timespec before = inode_now();
	struct fs_attr attr = attr_of(make_file(ROOT, "file"));

	ck_assert_uint_eq(attr.st.st_uid, caller.uid);
	ck_assert_uint_eq(attr.st.st_gid, caller.gid);
	ck_assert_uint_eq(attr.st.st_mode, S_IFREG | 0644);
	ck_assert_uint_eq(attr.st.st_nlink, 1);
	ck_assert_int_eq(attr.st.st_size, 0);
	ck_assert_int_eq(attr.st.st_blocks, 0);
	ck_assert_int_ge(attr.btime.tv_sec, before.tv_sec);
	ck_assert_int_eq(memcmp(&attr.btime, &attr.st.st_mtim, sizeof(attr.btime)), 0);
}
END_TEST

START_TEST(every_attribute_survives_a_remount)
{
	uint64_t inode = make_file(ROOT, "file");
	struct fs_attr attr = { .st = { .st_mode = 04751, .st_uid = 70000, .st_gid = 4000000000u,
					.st_atim = { 1, 2 }, .st_mtim = { -5, 999999999 } } };
	struct fs_attr before, after;

	set(inode, FS_SET_MODE | FS_SET_UID | FS_SET_GID | FS_SET_ATIME | FS_SET_MTIME, attr);
	before = attr_of(inode);
	ck_assert_uint_eq(before.st.st_mode, S_IFREG | 04751);
	ck_assert_uint_eq(before.st.st_uid, 70000);
	ck_assert_uint_eq(before.st.st_gid, 4000000000u);
	ck_assert_int_eq(before.st.st_mtim.tv_sec, -5);
	volume_remount();
	after = attr_of(inode);
	ck_assert_int_eq(memcmp(&before, &after, sizeof(after)), 0);
}
END_TEST

START_TEST(device_numbers_are_kept)
{
	dev_t rdev = makedev(259, 70000);
	struct fs_attr attr;

	ck_assert_int_eq(fs_mknod(fs, &caller, ROOT, "disk", S_IFBLK | 0600, rdev, &attr), 0);
	volume_remount();
	ck_assert_uint_eq(attr_of(attr.st.st_ino).st.st_rdev, rdev);
	ck_assert_uint_eq(attr_of(attr.st.st_ino).st.st_mode, S_IFBLK | 0600);
}
END_TEST

START_TEST(times_are_set_to_now_or_as_told_and_ctime_follows)
{
	uint64_t inode = make_file(ROOT, "file");
	struct timespec now = inode_now();
	struct fs_attr attr = { .st.st_mtim = { 100, 5 } };

	attr = set(inode, FS_SET_MTIME, attr);
	ck_assert_int_eq(attr.st.st_mtim.tv_sec, 100);
	ck_assert_int_ge(attr.st.st_ctim.tv_sec, now.tv_sec);
	attr = set(inode, FS_SET_MTIME_NOW | FS_SET_ATIME_NOW, attr);
	ck_assert_int_ge(attr.st.st_mtim.tv_sec, now.tv_sec);
	attr.st.st_ctim = (struct timespec){ 200, 7 };
	attr = set(inode, FS_SET_CTIME, attr);
	ck_assert_int_eq(attr.st.st_ctim.tv_sec, 200);
}
END_TEST

START_TEST(chown_takes_setuid_and_setgid_from_programs)
{
	uint64_t inode = make_file(ROOT, "file");
	struct fs_attr attr = { .st.st_uid = 7, .st.st_gid = 8 };

	ck_assert_uint_eq(mode_behind(inode, 06755, FS_SET_UID, attr), 0755);
	ck_assert_uint_eq(mode_behind(inode, 06755, FS_SET_GID, attr), 0755);
	/* Without group execution it means mandatory locking and stays. */
	ck_assert_uint_eq(mode_behind(inode, 02644, FS_SET_GID, attr), 02644);
	attr.st.st_mode = 04755;
	ck_assert_uint_eq(mode_behind(inode, 0755, FS_SET_UID | FS_SET_MODE, attr), 04755);
	ck_assert_uint_eq(mode_behind(inode, 06755, FS_KILL_SUIDGID, attr), 0755);
	ck_assert_uint_eq(mode_behind(make_dir(ROOT, "dir"), 02755, FS_SET_GID, attr), 02755);
}
END_TEST

START_TEST(writing_and_truncating_take_setuid_only_if_told)
{
	uint64_t inode = make_file(ROOT, "file");
	struct fs_attr attr = { .st.st_mode = 06755 };

	set(inode, FS_SET_MODE, attr);
	put_bytes(inode, 0, "x", 1);
	ck_assert_uint_eq(attr_of(inode).st.st_mode & 07777, 06755);
	ck_assert_int_eq(fs_write(fs, inode, "x", 1, 0, FS_WRITE_KILL_SUIDGID), 1);
	ck_assert_uint_eq(attr_of(inode).st.st_mode & 07777, 0755);
	set(inode, FS_SET_MODE, (struct fs_attr){ .st.st_mode = 06755 });
	set(inode, FS_SET_SIZE, (struct fs_attr){ .st.st_size = 0 });
	ck_assert_uint_eq(attr_of(inode).st.st_mode & 07777, 06755);
	put_bytes(inode, 0, "x", 1);
	set(inode, FS_SET_SIZE | FS_KILL_SUIDGID, (struct fs_attr){ .st.st_size = 0 });
	ck_assert_uint_eq(attr_of(inode).st.st_mode & 07777, 0755);
}
END_TEST

START_TEST(a_setgid_directory_gives_its_group_and_its_bit)
{
	uint64_t dir = make_dir(ROOT, "dir");
	struct fs_attr attr = { .st.st_mode = 02775, .st.st_gid = 4242 };

	set(dir, FS_SET_MODE | FS_SET_GID, attr);
	attr = attr_of(make_file(dir, "file"));
	ck_assert_uint_eq(attr.st.st_gid, 4242);
	ck_assert_uint_eq(attr.st.st_mode & 07777, 0644);
	attr = attr_of(make_dir(dir, "sub"));
	ck_assert_uint_eq(attr.st.st_gid, 4242);
	ck_assert_uint_eq(attr.st.st_mode & 07777, 02755);
}
END_TEST

START_TEST(a_write_moves_mtime_and_a_read_moves_atime_once)
{
	uint64_t inode = make_file(ROOT, "file");
	struct fs_attr attr = { .st.st_atim = { 50, 0 }, .st.st_mtim = { 100, 0 } };
	struct timespec now = inode_now(), first;
	char byte;

	set(inode, FS_SET_ATIME | FS_SET_MTIME, attr);
	put_bytes(inode, 0, "x", 1);
	ck_assert_int_ge(attr_of(inode).st.st_mtim.tv_sec, now.tv_sec);
	ck_assert_int_eq(attr_of(inode).st.st_atim.tv_sec, 50);
	ck_assert_int_eq(fs_read(fs, inode, &byte, 1, 0), 1);
	first = attr_of(inode).st.st_atim;
	ck_assert_int_ge(first.tv_sec, now.tv_sec);
	ck_assert_int_eq(fs_read(fs, inode, &byte, 1, 0), 1);
	ck_assert_int_eq(attr_of(inode).st.st_atim.tv_nsec, first.tv_nsec);
	volume_remount();
	ck_assert_int_eq(attr_of(inode).st.st_atim.tv_nsec, first.tv_nsec);
}
END_TEST

static bool ignore_entry(void *context, const struct fs_entry *entry)
{
	return true;
}

/* Sets the time of access back by so much against now, reads, and tells whether it has moved. */
static bool read_moves_atime(uint64_t inode, bool directory, int64_t age, struct fs_atime_options options)
{
	struct timespec now = inode_now(), old = { now.tv_sec - age, 0 };
	struct fs_attr attr = { .st.st_atim = old, .st.st_mtim = { 100, 0 }, .st.st_ctim = { 100, 0 } };
	char byte;

	fs_set_atime(fs, &options);
	set(inode, FS_SET_ATIME | FS_SET_MTIME | FS_SET_CTIME, attr);
	if (directory)
		ck_assert_int_eq(fs_readdir(fs, inode, 0, false, ignore_entry, NULL), 0);
	else
		ck_assert_int_eq(fs_read(fs, inode, &byte, 1, 0), 1);
	return attr_of(inode).st.st_atim.tv_sec != old.tv_sec;
}

START_TEST(reads_move_atime_as_the_mount_says)
{
	const struct fs_atime_options relative = { .mode = FS_ATIME_RELATIVE }, never = { .mode = FS_ATIME_NEVER },
				      strict = { .mode = FS_ATIME_STRICT }, files = { .not_directories = true };
	uint64_t file = make_file(ROOT, "file"), dir = make_dir(ROOT, "dir");
	const int64_t minute = 60, day = 86400;
	struct timespec before;
	char byte;

	put_bytes(file, 0, "x", 1);
	for (int d = 0; d < 2; d++) {
		uint64_t inode = d ? dir : file;

		ck_assert(!read_moves_atime(inode, d, minute, relative));
		ck_assert(read_moves_atime(inode, d, day + 1, relative));
		ck_assert(read_moves_atime(inode, d, minute, strict));
		ck_assert(!read_moves_atime(inode, d, day + 1, never));
		ck_assert(read_moves_atime(inode, d, day + 1, files) == !d);
	}
	ck_assert(!read_moves_atime(file, false, minute, relative));
	fs_set_atime(fs, &strict);
	before = attr_of(file).st.st_atim;
	ck_assert_int_eq(fs_read_as(fs, file, &byte, 1, 0, FS_READ_QUIETLY), 1);
	ck_assert_int_eq(attr_of(file).st.st_atim.tv_sec, before.tv_sec);
}
END_TEST

START_TEST(a_size_is_of_files_alone_and_bounded)
{
	struct fs_attr attr = { .st.st_size = 1 };
	uint64_t file = make_file(ROOT, "file");

	ck_assert_int_eq(fs_setattr(fs, ROOT, FS_SET_SIZE, &attr), -EISDIR);
	ck_assert_int_eq(fs_symlink(fs, &caller, ROOT, "link", "x", &attr), 0);
	ck_assert_int_eq(fs_setattr(fs, attr.st.st_ino, FS_SET_SIZE, &attr), -EINVAL);
	attr.st.st_size = (off_t)(FS_SIZE_MAX + 1);
	ck_assert_int_eq(fs_setattr(fs, file, FS_SET_SIZE, &attr), -EFBIG);
	ck_assert_int_eq(fs_write(fs, file, "xy", 2, FS_SIZE_MAX - 1, 0), -EFBIG);
	ck_assert_int_eq(fs_write(fs, file, "x", 1, FS_SIZE_MAX - 1, 0), 1);
	expect_size(file, FS_SIZE_MAX);
	volume_remount();
	expect_size(file, FS_SIZE_MAX);
	expect_zeros(file, FS_SIZE_MAX - 100, 99);
}
END_TEST

START_TEST(a_read_only_volume_is_read_and_refuses_every_change)
{
	uint64_t file = make_file(ROOT, "file"), dir = make_dir(ROOT, "dir"), seen;
	struct fs_attr attr = { .st.st_size = 0 };

	put_pattern(file, 0, 10000, 1);
	volume_unmount();
	volume_mount(true);
	expect_pattern(file, 0, 10000, 1);
	ck_assert_uint_eq(find(ROOT, "dir"), dir);
	ck_assert_int_eq(fs_setattr(fs, file, FS_SET_SIZE, &attr), -EROFS);
	ck_assert_int_eq(fs_write(fs, file, "x", 1, 0, 0), -EROFS);
	ck_assert_int_eq(fs_mknod(fs, &caller, ROOT, "new", S_IFREG, 0, &attr), -EROFS);
	ck_assert_int_eq(fs_link(fs, file, ROOT, "new", &attr), -EROFS);
	ck_assert_int_eq(fs_unlink(fs, ROOT, "file"), -EROFS);
	ck_assert_int_eq(fs_rmdir(fs, ROOT, "dir"), -EROFS);
	ck_assert_int_eq(fs_rename(fs, &caller, ROOT, "file", ROOT, "new", 0), -EROFS);
	ck_assert_int_eq(fs_fallocate(fs, file, 0, 0, 1), -EROFS);
	ck_assert_int_eq(fs_error_mark(fs, file, &seen), 0);
	ck_assert_int_eq(fs_fsync(fs, file, false, &seen), 0);
	ck_assert_int_eq(fs_sync(fs), 0);
}
END_TEST

START_TEST(statfs_counts_what_is_written)
{
	uint64_t before = free_blocks(), file = make_file(ROOT, "file");
	struct statvfs st;

	put_pattern(file, 0, 100 * FS_BLOCK, 1);
	ck_assert_int_eq(fs_statfs(fs, &st), 0);
	ck_assert_uint_eq(st.f_bavail, before - 100); /* promised */
	ck_assert_uint_eq(free_blocks(), before - 100);
	ck_assert_uint_eq(st.f_namemax, 255);
	ck_assert_uint_eq(attr_of(file).st.st_blocks, 800);
}
END_TEST

Suite *attr_suite(void)
{
	Suite *suite = suite_create("attr");
	TCase *tests = tcase_create("attr");

	tcase_add_checked_fixture(tests, volume_setup, volume_teardown);
	tcase_set_timeout(tests, 60);
	tcase_add_test(tests, a_new_inode_is_the_callers_and_now);
	tcase_add_test(tests, every_attribute_survives_a_remount);
	tcase_add_test(tests, device_numbers_are_kept);
	tcase_add_test(tests, times_are_set_to_now_or_as_told_and_ctime_follows);
	tcase_add_test(tests, chown_takes_setuid_and_setgid_from_programs);
	tcase_add_test(tests, writing_and_truncating_take_setuid_only_if_told);
	tcase_add_test(tests, a_setgid_directory_gives_its_group_and_its_bit);
	tcase_add_test(tests, reads_move_atime_as_the_mount_says);
	tcase_add_test(tests, a_write_moves_mtime_and_a_read_moves_atime_once);
	tcase_add_test(tests, a_size_is_of_files_alone_and_bounded);
	tcase_add_test(tests, a_read_only_volume_is_read_and_refuses_every_change);
	tcase_add_test(tests, statfs_counts_what_is_written);
	suite_add_tcase(suite, tests);
	return suite;
}
