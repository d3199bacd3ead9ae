/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fixture.h"

#include <linux/xattr.h>

#define ACCESS XATTR_NAME_POSIX_ACL_ACCESS
#define DEFAULT XATTR_NAME_POSIX_ACL_DEFAULT
#define NOBODY 0xff, 0xff, 0xff, 0xff

/* As the kernel writes them: version 2, then tag, permissions, id. Owner, user 7, group, mask, others. */
#define LIST(user, named, group, mask, others)                                                                         \
	{                                                                                                              \
		2, 0, 0, 0, 1, 0, user, 0, NOBODY, 2, 0, named, 0, 7, 0, 0, 0, 4, 0, group, 0, NOBODY, 16, 0, mask, 0, \
			NOBODY, 32, 0, others, 0, NOBODY                                                               \
	}
#define SHORT_LIST(user, group, others)                                                                                \
	{                                                                                                              \
		2, 0, 0, 0, 1, 0, user, 0, NOBODY, 4, 0, group, 0, NOBODY, 32, 0, others, 0, NOBODY                    \
	}

static const struct fs_caller careful = { .uid = 1000, .gid = 100, .umask = 077 };

static void put(uint64_t inode, const char *name, const void *list, size_t size)
{
	ck_assert_int_eq(fs_setxattr(fs, inode, name, list, size, 0), 0);
}

static void expect(uint64_t inode, const char *name, const void *list, size_t size)
{
	unsigned char got[256];

	ck_assert_int_eq(fs_getxattr(fs, inode, name, got, sizeof(got)), (ssize_t)size);
	ck_assert_int_eq(memcmp(got, list, size), 0);
}

static void expect_none(uint64_t inode, const char *name)
{
	ck_assert_int_eq(fs_getxattr(fs, inode, name, NULL, 0), -ENODATA);
}

static uint32_t mode_of(uint64_t inode)
{
	return attr_of(inode).st.st_mode & 07777;
}

static uint64_t same_hash(const uint8_t key[16], const void *data, size_t length)
{
	return UINT64_C(0xfedcba9876543210);
}

START_TEST(a_list_sets_the_mode_and_a_mode_the_list)
{
	static const unsigned char list[] = LIST(7, 7, 5, 6, 4), changed[] = LIST(6, 7, 5, 1, 0);
	uint64_t file = make_file(ROOT, "file");
	struct fs_attr attr = { .st.st_mode = 02611 };

	ck_assert_int_eq(fs_setattr(fs, file, FS_SET_MODE, &attr), 0);
	put(file, ACCESS, list, sizeof(list));
	ck_assert_uint_eq(mode_of(file), 02764); /* the mask stands where the group does */
	attr.st.st_mode = 0610;
	ck_assert_int_eq(fs_setattr(fs, file, FS_SET_MODE, &attr), 0);
	volume_remount();
	ck_assert_uint_eq(mode_of(file), 0610);
	expect(file, ACCESS, changed, sizeof(changed));
	ck_assert_int_eq(fs_removexattr(fs, file, ACCESS), 0);
	expect_none(file, ACCESS);
	ck_assert_int_eq(fs_removexattr(fs, file, ACCESS), 0); /* as elsewhere */
	ck_assert_uint_eq(mode_of(file), 0610);
}
END_TEST

START_TEST(a_list_that_says_no_more_than_a_mode_is_one)
{
	static const unsigned char list[] = LIST(7, 7, 5, 6, 4), brief[] = SHORT_LIST(6, 4, 1);
	static const unsigned char empty[] = { 2, 0, 0, 0 };
	uint64_t file = make_file(ROOT, "file"), dir = make_dir(ROOT, "dir");

	put(file, ACCESS, list, sizeof(list));
	put(file, ACCESS, brief, sizeof(brief));
	expect_none(file, ACCESS);
	ck_assert_uint_eq(mode_of(file), 0641);
	put(dir, DEFAULT, brief, sizeof(brief)); /* to be inherited, it says something */
	expect(dir, DEFAULT, brief, sizeof(brief));
	put(dir, DEFAULT, empty, sizeof(empty));
	expect_none(dir, DEFAULT);
	put(file, ACCESS, list, sizeof(list));
	put(file, ACCESS, NULL, 0);
	expect_none(file, ACCESS);
}
END_TEST

START_TEST(what_is_made_in_a_folder_inherits_its_default_list)
{
	static const unsigned char list[] = LIST(7, 7, 5, 7, 4), masked[] = LIST(6, 7, 5, 4, 0);
	static const unsigned char sub_access[] = LIST(7, 7, 5, 5, 0);
	uint64_t dir = make_dir(ROOT, "dir");
	struct fs_attr attr;

	fs->hash = _i ? same_hash : fs->hash; /* both lists of a directory want one place */
	put(dir, DEFAULT, list, sizeof(list));
	ck_assert_uint_eq(mode_of(dir), 0755);
	ck_assert_int_eq(fs_mknod(fs, &careful, dir, "file", S_IFREG | 0640, 0, &attr), 0);
	ck_assert_uint_eq(attr.st.st_mode & 07777, 0640); /* no umask where there is a list */
	expect(attr.st.st_ino, ACCESS, masked, sizeof(masked));
	expect_none(attr.st.st_ino, DEFAULT);
	ck_assert_int_eq(fs_tmpfile(fs, &careful, dir, 0640, true, &attr), 0);
	expect(attr.st.st_ino, ACCESS, masked, sizeof(masked));
	ck_assert_int_eq(fs_mkdir(fs, &careful, dir, "sub", 0750, &attr), 0);
	ck_assert_uint_eq(attr.st.st_mode & 07777, 0750);
	expect(attr.st.st_ino, ACCESS, sub_access, sizeof(sub_access));
	expect(attr.st.st_ino, DEFAULT, list, sizeof(list));
	ck_assert_int_eq(fs_symlink(fs, &careful, dir, "link", "x", &attr), 0);
	ck_assert_uint_eq(attr.st.st_mode & 07777, 0777);
	expect_none(attr.st.st_ino, ACCESS);
}
END_TEST

START_TEST(without_a_default_list_the_umask_counts)
{
	static const unsigned char brief[] = SHORT_LIST(7, 5, 5);
	uint64_t dir = make_dir(ROOT, "dir");
	struct fs_attr attr;

	ck_assert_int_eq(fs_mknod(fs, &careful, dir, "file", S_IFREG | 06664, 0, &attr), 0);
	ck_assert_uint_eq(attr.st.st_mode & 07777, 06600);
	ck_assert_int_eq(fs_mkdir(fs, &careful, dir, "sub", 0777, &attr), 0);
	ck_assert_uint_eq(attr.st.st_mode & 07777, 0700);
	put(dir, DEFAULT, brief, sizeof(brief));
	ck_assert_int_eq(fs_mknod(fs, &careful, dir, "file2", S_IFREG | 0666, 0, &attr), 0);
	ck_assert_uint_eq(attr.st.st_mode & 07777, 0644);
	expect_none(attr.st.st_ino, ACCESS);
}
END_TEST

START_TEST(what_is_no_list_is_refused)
{
	static const unsigned char list[] = LIST(7, 7, 5, 6, 4), wide[] = LIST(7, 8, 5, 6, 4);
	static unsigned char large[ACL_BYTES + 8] = { 2 };
	uint64_t file = make_file(ROOT, "file"), dir = make_dir(ROOT, "dir");
	unsigned char unmasked[sizeof(list) - 8], version[sizeof(list)], twice[sizeof(list) + 8];
	struct fs_attr attr;

	memcpy(unmasked, list, 4 + 3 * 8);
	memcpy(unmasked + 4 + 3 * 8, list + 4 + 4 * 8, 8);
	memcpy(version, list, sizeof(list));
	version[0] = 1;
	memcpy(twice, list, 12);
	memcpy(twice + 12, list + 4, sizeof(list) - 4);
	ck_assert_int_eq(fs_setxattr(fs, file, ACCESS, unmasked, sizeof(unmasked), 0), -EINVAL);
	ck_assert_int_eq(fs_setxattr(fs, file, ACCESS, version, sizeof(version), 0), -EINVAL);
	ck_assert_int_eq(fs_setxattr(fs, file, ACCESS, twice, sizeof(twice), 0), -EINVAL);
	ck_assert_int_eq(fs_setxattr(fs, file, ACCESS, wide, sizeof(wide), 0), -EINVAL);
	ck_assert_int_eq(fs_setxattr(fs, file, ACCESS, list, sizeof(list) - 1, 0), -EINVAL);
	ck_assert_int_eq(fs_setxattr(fs, file, ACCESS, list, sizeof(list) - 8, 0), -EINVAL);
	ck_assert_int_eq(fs_setxattr(fs, dir, ACCESS, large, sizeof(large), 0), -E2BIG);
	ck_assert_int_eq(fs_setxattr(fs, file, DEFAULT, list, sizeof(list), 0), -EACCES);
	ck_assert_int_eq(fs_symlink(fs, &caller, ROOT, "link", "x", &attr), 0);
	ck_assert_int_eq(fs_setxattr(fs, attr.st.st_ino, ACCESS, list, sizeof(list), 0), -EOPNOTSUPP);
	expect_none(file, ACCESS);
	ck_assert_uint_eq(mode_of(file), 0644);
}
END_TEST

START_TEST(a_list_takes_setgid_if_told)
{
	static const unsigned char list[] = LIST(7, 7, 5, 6, 4);
	uint64_t file = make_file(ROOT, "file");
	struct fs_attr attr = { .st.st_mode = 06755 };

	ck_assert_int_eq(fs_setattr(fs, file, FS_SET_MODE, &attr), 0);
	put(file, ACCESS, list, sizeof(list));
	ck_assert_uint_eq(mode_of(file), 06764);
	ck_assert_int_eq(fs_setxattr(fs, file, ACCESS, list, sizeof(list), FS_XATTR_KILL_SGID), 0);
	ck_assert_uint_eq(mode_of(file), 04764);
}
END_TEST

Suite *acl_suite(void)
{
	Suite *suite = suite_create("acl");
	TCase *tests = tcase_create("acl");

	tcase_add_checked_fixture(tests, volume_setup, volume_teardown);
	tcase_set_timeout(tests, 60);
	tcase_add_test(tests, a_list_sets_the_mode_and_a_mode_the_list);
	tcase_add_test(tests, a_list_that_says_no_more_than_a_mode_is_one);
	tcase_add_loop_test(tests, what_is_made_in_a_folder_inherits_its_default_list, 0, 2);
	tcase_add_test(tests, without_a_default_list_the_umask_counts);
	tcase_add_test(tests, what_is_no_list_is_refused);
	tcase_add_test(tests, a_list_takes_setgid_if_told);
	suite_add_tcase(suite, tests);
	return suite;
}
