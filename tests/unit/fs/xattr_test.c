/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fixture.h"

#include <linux/xattr.h>
#include <stdio.h>

static unsigned char big[XATTR_VALUE_MAX + 1], back[XATTR_VALUE_MAX];

static void fill(unsigned int seed)
{
	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (unsigned char)(i * 7 + i / 251 + seed);
}

static void put(uint64_t inode, const char *name, const void *value, size_t size)
{
	ck_assert_int_eq(fs_setxattr(fs, inode, name, value, size, 0), 0);
}

static void expect(uint64_t inode, const char *name, const void *value, size_t size)
{
	ck_assert_int_eq(fs_getxattr(fs, inode, name, NULL, 0), (ssize_t)size);
	ck_assert_int_eq(fs_getxattr(fs, inode, name, back, sizeof(back)), (ssize_t)size);
	ck_assert_int_eq(memcmp(back, value, size), 0);
}

static void expect_none(uint64_t inode, const char *name)
{
	ck_assert_int_eq(fs_getxattr(fs, inode, name, back, sizeof(back)), -ENODATA);
}

static size_t count_names(uint64_t inode)
{
	char *names = (char *)back;
	ssize_t length = fs_listxattr(fs, inode, names, sizeof(back), true);
	size_t count = 0;

	ck_assert_int_ge(length, 0);
	for (ssize_t i = 0; i < length; i++)
		count += !names[i];
	return count;
}

static uint64_t same_hash(const uint8_t key[16], const void *data, size_t length)
{
	return UINT64_C(0xfedcba9876543210);
}

/* The longest there are, and those at which another item begins. */
START_TEST(a_value_comes_back_whole_behind_a_remount)
{
	static const size_t sizes[] = { 0, 1, XATTR_PART - 1, XATTR_PART, XATTR_PART + 1, 2 * XATTR_PART, 65535,
					65536 };
	uint64_t file = make_file(ROOT, "file"), dir = make_dir(ROOT, "dir"), of = _i & 1 ? file : dir;
	char name[INODE_NAME_MAX + 1] = "user.";

	memset(name + 5, 'n', sizeof(name) - 6);
	fill((unsigned int)_i);
	put(of, name, big, sizes[_i]);
	put(of, "trusted.small", "small", 5);
	expect(of, name, big, sizes[_i]);
	volume_remount();
	expect(of, name, big, sizes[_i]);
	expect(of, "trusted.small", "small", 5);
	expect_none(of, "user.other");
	ck_assert_uint_eq(count_names(of), 2);
	ck_assert_uint_eq(count_names(of == file ? dir : file), 0);
}
END_TEST

START_TEST(a_shorter_value_leaves_nothing_of_a_longer_one)
{
	uint64_t file = make_file(ROOT, "file");

	fill(1);
	put(file, "user.a", big, 65536);
	ck_assert_uint_eq(count_items(file, TYPE_XATTR), 17);
	put(file, "user.a", big + 7, 5000);
	ck_assert_uint_eq(count_items(file, TYPE_XATTR), 2);
	expect(file, "user.a", big + 7, 5000);
	put(file, "user.a", big, 10000);
	expect(file, "user.a", big, 10000);
	ck_assert_int_eq(fs_removexattr(fs, file, "user.a"), 0);
	ck_assert_uint_eq(count_items(file, TYPE_XATTR), 0);
	expect_none(file, "user.a");
	ck_assert_int_eq(fs_removexattr(fs, file, "user.a"), -ENODATA);
}
END_TEST

START_TEST(each_wrong_request_has_its_error)
{
	uint64_t file = make_file(ROOT, "file");
	char name[300] = "user.";

	ck_assert_int_eq(fs_setxattr(fs, file, "user.a", "x", 1, XATTR_REPLACE), -ENODATA);
	ck_assert_int_eq(fs_setxattr(fs, file, "user.a", "x", 1, XATTR_CREATE), 0);
	ck_assert_int_eq(fs_setxattr(fs, file, "user.a", "y", 1, XATTR_CREATE), -EEXIST);
	ck_assert_int_eq(fs_setxattr(fs, file, "user.a", "long", 4, XATTR_REPLACE), 0);
	ck_assert_int_eq(fs_setxattr(fs, file, "user.a", "y", 1, 8), -EINVAL);
	ck_assert_int_eq(fs_setxattr(fs, file, "user.a", big, XATTR_VALUE_MAX + 1, 0), -E2BIG);
	expect(file, "user.a", "long", 4);
	ck_assert_int_eq(fs_getxattr(fs, file, "user.a", back, 3), -ERANGE);
	ck_assert_int_eq(fs_listxattr(fs, file, NULL, 0, true), 7);
	ck_assert_int_eq(fs_listxattr(fs, file, (char *)back, 6, true), -ERANGE);
	ck_assert_int_eq(fs_listxattr(fs, file, (char *)back, 7, true), 7);
	ck_assert_int_eq(fs_setxattr(fs, file, "user.", "x", 1, 0), -EINVAL);
	ck_assert_int_eq(fs_setxattr(fs, file, "system.other", "x", 1, 0), -EOPNOTSUPP);
	ck_assert_int_eq(fs_getxattr(fs, file, "other", back, 1), -EOPNOTSUPP);
	ck_assert_int_eq(fs_getxattr(fs, 4711, "user.a", back, 1), -ESTALE);
	memset(name + 5, 'n', 251);
	ck_assert_int_eq(fs_setxattr(fs, file, name, "x", 1, 0), -ERANGE);
	volume_unmount();
	volume_mount(true);
	expect(file, "user.a", "long", 4);
	ck_assert_int_eq(fs_setxattr(fs, file, "user.a", "x", 1, 0), -EROFS);
	ck_assert_int_eq(fs_removexattr(fs, file, "user.a"), -EROFS);
}
END_TEST

START_TEST(trusted_names_are_for_root_alone)
{
	uint64_t file = make_file(ROOT, "file");

	put(file, "trusted.a", "x", 1);
	put(file, "user.b", "x", 1);
	put(file, "security.c", "x", 1);
	ck_assert_int_eq(fs_listxattr(fs, file, (char *)back, sizeof(back), true), 10 + 7 + 11);
	ck_assert_int_eq(fs_listxattr(fs, file, (char *)back, sizeof(back), false), 7 + 11);
	ck_assert_int_eq(fs_listxattr(fs, file, NULL, 0, false), 7 + 11);
}
END_TEST

START_TEST(names_of_one_hash_stay_apart)
{
	uint64_t file = make_file(ROOT, "file");
	char name[32];

	fs->hash = same_hash;
	fill(3);
	for (int i = 0; i < 256; i++) {
		snprintf(name, sizeof(name), "user.%d", i);
		put(file, name, big + i, i == 100 ? 9000 : 10);
	}
	ck_assert_int_eq(fs_setxattr(fs, file, "user.more", "x", 1, 0), -ENOSPC);
	expect_none(file, "user.more");
	ck_assert_uint_eq(count_names(file), 256);
	expect(file, "user.100", big + 100, 9000);
	expect(file, "user.255", big + 255, 10);
	ck_assert_int_eq(fs_removexattr(fs, file, "user.100"), 0);
	put(file, "user.more", "x", 1);
	expect(file, "user.more", "x", 1);
	expect(file, "user.101", big + 101, 10);
	expect(file, "user.255", big + 255, 10);
}
END_TEST

START_TEST(attributes_go_with_their_inode)
{
	uint64_t file = make_file(ROOT, "file");
	struct fs_attr attr;

	fill(5);
	for (int i = 0; i < 60; i++) {
		char name[32];

		snprintf(name, sizeof(name), "user.%d", i);
		put(file, name, big, 65536); /* more than one transaction deletes */
	}
	put_pattern(file, 0, 100000, 1);
	sync_file(file);
	ck_assert_int_eq(fs_unlink(fs, ROOT, "file"), 0);
	ck_assert_uint_eq(count_items(file, TYPE_XATTR), 60 * 17);
	sync_names();
	if (_i)
		volume_crash();
	fs_forget(fs, file, 1);
	ck_assert_uint_eq(count_items(file, TYPE_XATTR), 0);
	ck_assert_uint_eq(count_items(file, TYPE_INODE), 0);
	ck_assert_int_eq(fs_symlink(fs, &caller, ROOT, "link", "target", &attr), 0);
	put(attr.st.st_ino, "trusted.a", "x", 1);
	ck_assert_int_eq(fs_unlink(fs, ROOT, "link"), 0);
	fs_forget(fs, attr.st.st_ino, 1);
	ck_assert_uint_eq(count_items(attr.st.st_ino, TYPE_XATTR), 0);
}
END_TEST

START_TEST(a_change_of_attributes_moves_ctime_and_fsync_makes_it_durable)
{
	uint64_t file = make_file(ROOT, "file");
	struct fs_attr old = { .st.st_ctim = { 100, 0 } };

	ck_assert_int_eq(fs_setattr(fs, file, FS_SET_CTIME, &old), 0);
	put(file, "user.a", "kept", 4);
	ck_assert_int_gt(attr_of(file).st.st_ctim.tv_sec, 100);
	ck_assert_int_eq(attr_of(file).st.st_mtim.tv_nsec, old.st.st_mtim.tv_nsec);
	sync_file(file);
	volume_crash();
	expect(file, "user.a", "kept", 4);
}
END_TEST

/* Whoever does not know attributes must not write where there may be some, whichever slot he finds. */
START_TEST(the_volume_says_in_both_slots_that_it_has_attributes)
{
	static const uint64_t slots[] = { SUPER_SLOT0, SUPER_SLOT1 };
	uint64_t file = make_file(ROOT, "file");

	if (_i)
		put(file, "user.a", "x", 1);
	else
		expect_none(file, "user.a");
	volume_unmount();
	for (int leg = 0; leg < 2; leg++) {
		for (int i = 0; i < 2; i++) {
			const struct format_super *super =
				(const void *)(volume_disk(leg) + MIRROR_SPACE_OFFSET + slots[i] * FORMAT_BLOCK);

			ck_assert_uint_eq(le64_get(super->ro_compat), _i ? SUPER_RO_XATTRS : 0);
		}
	}
	volume_mount(false);
}
END_TEST

Suite *xattr_suite(void)
{
	Suite *suite = suite_create("xattr");
	TCase *tests = tcase_create("xattr");

	tcase_add_checked_fixture(tests, volume_setup, volume_teardown);
	tcase_set_timeout(tests, 60);
	tcase_add_loop_test(tests, a_value_comes_back_whole_behind_a_remount, 0, 8);
	tcase_add_test(tests, a_shorter_value_leaves_nothing_of_a_longer_one);
	tcase_add_test(tests, each_wrong_request_has_its_error);
	tcase_add_test(tests, trusted_names_are_for_root_alone);
	tcase_add_test(tests, names_of_one_hash_stay_apart);
	tcase_add_loop_test(tests, attributes_go_with_their_inode, 0, 2);
	tcase_add_test(tests, a_change_of_attributes_moves_ctime_and_fsync_makes_it_durable);
	tcase_add_loop_test(tests, the_volume_says_in_both_slots_that_it_has_attributes, 0, 2);
	suite_add_tcase(suite, tests);
	return suite;
}
