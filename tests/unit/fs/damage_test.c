/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Items that no mount of ours would have written, with checksums that are right: refused, and nothing hangs. */
#include "fixture.h"

#include <dirent.h>
#include <stdio.h>

static void put_item(uint64_t object, uint8_t type, uint64_t offset, const void *value, size_t length)
{
	const struct meta_key key = { object, type, offset };
	struct meta_txn *txn = meta_txn_begin(meta);

	meta_txn_put(txn, &key, value, length);
	ck_assert_int_eq(meta_txn_commit(txn, NULL), 0);
}

/* Another entry of `dir`, wherever its name's place is. */
static void put_entry(uint64_t dir, const char *name, size_t length, uint64_t inode)
{
	uint64_t bucket = dir_bucket(fs->hash(fs->hash_key, name, length));
	union dirent_value value = { .head = { .object = le64_of(inode), .type = DT_DIR } };

	value.head.name_length = (uint8_t)length;
	memcpy(value.bytes + sizeof(value.head), name, length);
	put_item(dir, TYPE_DIRENT, bucket, &value, sizeof(value.head) + length);
}

static struct format_inode item_of(uint64_t inode)
{
	const struct meta_key key = { inode, TYPE_INODE, 0 };
	struct format_inode item;

	ck_assert_int_eq(meta_get(meta, &key, &item, sizeof(item)), sizeof(item));
	return item;
}

static void put_parent(uint64_t dir, uint64_t parent)
{
	struct format_inode item = item_of(dir);

	item.parent = le64_of(parent);
	put_item(dir, TYPE_INODE, 0, &item, sizeof(item));
}

static bool take_all(void *context, const struct fs_entry *entry)
{
	(void)context;
	(void)entry;
	return true;
}

START_TEST(an_entry_whose_name_no_path_can_have_is_refused)
{
	static const struct {
		const char *name;
		size_t length;
	} names[] = { { "a/b", 3 }, { "/", 1 }, { ".", 1 }, { "..", 2 }, { "a\0b", 3 }, { "ab\0", 3 } };
	uint64_t dir = make_dir(ROOT, "dir"), file = make_file(ROOT, "file");

	put_entry(dir, names[_i].name, names[_i].length, file);
	ck_assert_int_eq(fs_readdir(fs, dir, 0, false, take_all, NULL), -EIO);
}
END_TEST

START_TEST(an_inode_of_no_type_or_of_an_impossible_size_is_refused)
{
	uint64_t inode = _i < 2 ? make_dir(ROOT, "it") : make_file(ROOT, "it");
	struct format_inode item;
	struct fs_attr attr;

	ck_assert_int_eq(fs_sync(fs), 0);
	fs_forget(fs, inode, 1);
	item = item_of(inode);
	switch (_i) {
	case 0: item.size = le64_of(FS_SIZE_MAX); break;
	case 1: item.mode = le32_of(0755); break;
	case 2: item.size = le64_of(FS_SIZE_MAX + 1); break;
	case 3: item.size = le64_of(UINT64_MAX); break;
	case 4: item.mode = le32_of(S_IFMT); break;
	}
	put_item(inode, TYPE_INODE, 0, &item, sizeof(item));
	ck_assert_int_eq(fs_getattr(fs, inode, &attr), -EIO);
	ck_assert_int_eq(fs_lookup(fs, ROOT, "it", &attr), -EIO);
}
END_TEST

START_TEST(a_directory_that_contains_itself_is_neither_removed_nor_renamed)
{
	uint64_t dir = make_dir(ROOT, "dir"), other = make_dir(ROOT, "other");

	put_entry(dir, "self", 4, dir);
	put_entry(other, "dir", 3, dir);
	ck_assert_int_eq(fs_rmdir(fs, dir, "self"), -EIO);
	ck_assert_int_eq(fs_rename(fs, &caller, dir, "self", dir, "new", 0), -EIO);
	ck_assert_int_eq(fs_rename(fs, &caller, dir, "self", ROOT, "other", 0), -EIO);
	ck_assert_int_eq(fs_rename(fs, &caller, ROOT, "other", dir, "self", 0), -EIO);
	ck_assert_int_eq(fs_rename(fs, &caller, other, "dir", dir, "self", 0), 0); /* two names of one */
}
END_TEST

START_TEST(directories_in_a_circle_hang_no_rename)
{
	uint64_t a = make_dir(ROOT, "a"), b = make_dir(a, "b"), c = make_dir(b, "c"), d = make_dir(ROOT, "d");

	make_file(c, "file");
	ck_assert_int_eq(fs_sync(fs), 0);
	fs_forget(fs, a, 1);
	fs_forget(fs, b, 1);
	fs_forget(fs, c, 1);
	put_parent(a, _i == 0 ? c : _i == 1 ? b : a);
	ck_assert_int_eq(fs_rename(fs, &caller, c, "file", d, "file", 0), -EIO);
	ck_assert_int_eq(fs_rename(fs, &caller, ROOT, "d", c, "d", 0), -EIO);
}
END_TEST

/* Two threads would lock them in two orders. */
START_TEST(directories_that_contain_each_other_are_not_removed)
{
	uint64_t a = make_dir(ROOT, "a"), b = make_dir(a, "b");
	struct format_inode item;

	ck_assert_int_eq(fs_sync(fs), 0);
	fs_forget(fs, a, 1);
	fs_forget(fs, b, 1);
	put_entry(b, "a", 1, a);
	if (_i)
		put_parent(a, b);
	for (int i = 0; i < 2; i++) { /* as if each were empty */
		item = item_of(i ? b : a);
		item.size = le64_of(0);
		put_item(i ? b : a, TYPE_INODE, 0, &item, sizeof(item));
	}
	ck_assert_int_eq(fs_rmdir(fs, b, "a"), -EIO);
	if (_i)
		ck_assert_int_eq(fs_rmdir(fs, a, "b"), -EIO);
}
END_TEST

START_TEST(a_number_that_is_in_use_is_not_given_again)
{
	uint64_t ahead = make_file(ROOT, "file") + 1;
	struct format_inode item;
	struct fs_attr attr;

	ck_assert_int_eq(fs_sync(fs), 0);
	item = item_of(ahead - 1);
	put_item(ahead, TYPE_INODE, 0, &item, sizeof(item));
	put_entry(ROOT, "ahead", 5, ahead);
	ck_assert_int_eq(fs_lookup(fs, ROOT, "ahead", &attr), 0);
	ck_assert_int_eq(fs_mknod(fs, &caller, ROOT, "another", S_IFREG | 0600, 0, &attr), -EIO);
	ck_assert_uint_eq(find(ROOT, "another"), 0);
	ck_assert_int_eq(fs_mknod(fs, &caller, ROOT, "another", S_IFREG | 0600, 0, &attr), 0);
}
END_TEST

START_TEST(a_file_that_cannot_be_mapped_keeps_no_other_from_being_written)
{
	const struct format_extent broken = { .length = le32_of(7), .flags = le32_of(1) };
	struct cache_stats stats;
	uint64_t files[10];

	for (unsigned int i = 0; i < 10; i++) {
		files[i] = make_file(ROOT, (char[]){ 'a' + (char)i, 0 });
		put_pattern(files[i], 0, FS_BLOCK, i);
	}
	put_item(files[3], TYPE_EXTENT, 0, &broken, sizeof(broken));
	cache_write_all(cache);
	cache_stats(cache, &stats);
	ck_assert_uint_eq(stats.class[CACHE_DATA].dirty, 1);
	ck_assert_int_eq(fs_sync(fs), -EIO);
	for (unsigned int i = 0; i < 10; i++)
		ck_assert_int_eq(fs_fsync(fs, files[i], false, NULL), i == 3 ? -EIO : 0);
	volume_crash();
	for (unsigned int i = 0; i < 10; i++)
		if (i != 3)
			expect_pattern(files[i], 0, FS_BLOCK, i);
}
END_TEST

Suite *damage_suite(void)
{
	Suite *suite = suite_create("damage");
	TCase *tests = tcase_create("damage");

	tcase_add_checked_fixture(tests, volume_setup, volume_teardown);
	tcase_add_loop_test(tests, an_entry_whose_name_no_path_can_have_is_refused, 0, 6);
	tcase_add_loop_test(tests, an_inode_of_no_type_or_of_an_impossible_size_is_refused, 0, 5);
	tcase_add_test(tests, a_directory_that_contains_itself_is_neither_removed_nor_renamed);
	tcase_add_loop_test(tests, directories_in_a_circle_hang_no_rename, 0, 3);
	tcase_add_loop_test(tests, directories_that_contain_each_other_are_not_removed, 0, 2);
	tcase_add_test(tests, a_number_that_is_in_use_is_not_given_again);
	tcase_add_test(tests, a_file_that_cannot_be_mapped_keeps_no_other_from_being_written);
	suite_add_tcase(suite, tests);
	return suite;
}
