/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Each test breaks a volume in one way, behind the back of fs, and expects that the check finds just that, puts it
 * right, and then finds nothing; and that what was not broken is there.
 */
#include "check_fixture.h"

#include <dirent.h>
#include <stdio.h>

static struct meta_key entry_of(uint64_t in, const char *name)
{
	struct meta_super_info info;
	struct dir_entry entry;

	meta_super_info(meta, &info);
	ck_assert_int_eq(dir_find_in(meta, in, dir_bucket(siphash(info.hash_key, name, strlen(name))), name, &entry),
			 0);
	return entry.key;
}

static void put_entry(const struct meta_key *key, const char *name, uint64_t object, uint8_t type)
{
	struct meta_txn *txn = meta_txn_begin(meta);

	dir_put(txn, key, name, object, type);
	ck_assert_int_eq(meta_txn_commit(txn, NULL), 0);
}

/* Where an entry of that name goes. */
static struct meta_key place_of(uint64_t in, const char *name)
{
	struct meta_super_info info;
	struct dir_entry entry;

	meta_super_info(meta, &info);
	ck_assert_int_eq(dir_find_in(meta, in, dir_bucket(siphash(info.hash_key, name, strlen(name))), name, &entry),
			 -ENOENT);
	return entry.key;
}

START_TEST(a_sound_volume_has_no_problems)
{
	struct fs_check check;

	check_expect_clean();
	check = check_run(true);
	ck_assert_uint_eq(check.directories, 3);
	ck_assert_uint_eq(check.files, 4);
	ck_assert_uint_eq(check.blocks, 2 * BLOCKS);
	ck_assert_uint_eq(check.nameless, 0);
}
END_TEST

START_TEST(a_volume_that_crashed_in_the_middle_of_work_is_sound)
{
	for (int i = 0; i < 40; i++) {
		char name[16];
		uint64_t number;

		snprintf(name, sizeof(name), "f%d", i);
		number = make_file(dir, name);
		put_pattern(number, 0, 9000, 3);
		if (i % 3 == 0)
			ck_assert_int_eq(fs_unlink(fs, dir, name), 0);
		if (i == 30)
			sync_file(number);
	}
	volume_crash();
	check_expect_clean();
}
END_TEST

START_TEST(an_unlinked_open_file_is_no_problem)
{
	struct fs_attr attr;

	ck_assert_int_eq(fs_lookup(fs, ROOT, "file", &attr), 0);
	ck_assert_int_eq(fs_unlink(fs, ROOT, "file"), 0);
	ck_assert_uint_eq(check_run(false).nameless, 1);
	ck_assert_uint_eq(told.count, 0);
}
END_TEST

START_TEST(blocks_kept_beyond_the_end_are_no_problem)
{
	ck_assert_int_eq(fs_fallocate(fs, file, 1 /* FALLOC_FL_KEEP_SIZE */, BYTES, BYTES), 0);
	sync_file(file);
	check_expect_clean();
}
END_TEST

START_TEST(wrong_link_counts_are_set)
{
	struct format_inode item = check_item_of(linked);

	item.nlink = le32_of(7);
	check_put_item_of(linked, &item);
	item = check_item_of(dir);
	item.nlink = le32_of(2);
	check_put_item_of(dir, &item);
	EXPECT_CURED(FS_PROBLEM_LINKS, FS_PROBLEM_LINKS);
	ck_assert_uint_eq(attr_of(linked).st.st_nlink, 2);
	ck_assert_uint_eq(attr_of(dir).st.st_nlink, 3);
}
END_TEST

START_TEST(a_wrong_count_of_entries_is_set)
{
	struct format_inode item = check_item_of(dir);

	item.size = le64_of(0); /* it could be removed */
	check_put_item_of(dir, &item);
	EXPECT_CURED(FS_PROBLEM_LINKS);
	ck_assert_int_eq(fs_rmdir(fs, ROOT, "dir"), -ENOTEMPTY);
}
END_TEST

START_TEST(a_wrong_count_of_blocks_is_set)
{
	struct format_inode item = check_item_of(file);

	item.blocks = le64_of(BLOCKS + 5);
	check_put_item_of(file, &item);
	EXPECT_CURED(FS_PROBLEM_BLOCKS);
	ck_assert_int_eq(attr_of(file).st.st_blocks, BLOCKS * 8);
	expect_pattern(file, 0, BYTES, 1);
}
END_TEST

START_TEST(an_entry_that_leads_nowhere_is_removed)
{
	const struct meta_key key = place_of(sub, "ghost");
	struct format_inode item = check_item_of(sub);

	put_entry(&key, "ghost", 999999, DT_REG);
	item.size = le64_of(2);
	check_put_item_of(sub, &item);
	check_run(false);
	ck_assert_msg(strstr(told.text[0], "/dir/sub: the entry 'ghost'"), "%s", told.text[0]);
	EXPECT_CURED(FS_PROBLEM_NAME);
	ck_assert_uint_eq(find(sub, "ghost"), 0);
	ck_assert_uint_eq(count_entries(sub), 1);
}
END_TEST

START_TEST(a_malformed_entry_is_removed)
{
	static const char *const names[] = { "a/b", "..", "nul\0nul" };
	const size_t lengths[] = { 3, 2, 7 };
	union dirent_value value = { .head = { .object = le64_of(file), .type = DT_REG } };
	struct format_inode item = check_item_of(sub);

	value.head.name_length = (uint8_t)lengths[_i];
	memcpy(value.bytes + sizeof(value.head), names[_i], lengths[_i]);
	check_put(sub, TYPE_DIRENT, 5 << 8, &value, sizeof(value.head) + lengths[_i]);
	item.size = le64_of(2);
	check_put_item_of(sub, &item);
	EXPECT_CURED(FS_PROBLEM_NAME);
	ck_assert_uint_eq(count_entries(sub), 1);
}
END_TEST

static struct meta_key attribute_of(uint64_t number, const char *name, struct xattr *xattr)
{
	struct meta_super_info info;

	meta_super_info(meta, &info);
	ck_assert_int_eq(xattr_find_in(meta, number, xattr_bucket(siphash(info.hash_key, name, strlen(name))), name,
				       xattr),
			 0);
	return (struct meta_key){ number, TYPE_XATTR, xattr->offset };
}

/* Its last part, its first, a wrong length, a place where no lookup finds it. */
START_TEST(a_broken_attribute_is_removed_whole)
{
	struct xattr xattr;
	struct meta_key key = attribute_of(linked, "user.long", &xattr);
	size_t length = sizeof(xattr.value.head) + xattr.value.head.name_length + XATTR_PART;

	if (_i == 0)
		check_drop(linked, TYPE_XATTR, key.offset + 2);
	if (_i == 1) {
		check_drop(linked, TYPE_XATTR, key.offset);
		check_drop(linked, TYPE_XATTR, key.offset + 1);
	}
	if (_i == 2)
		check_put(linked, TYPE_XATTR, key.offset + 2, "short", 5);
	if (_i == 3) {
		xattr.value.head.name[5] = 'x';
		check_drop(linked, TYPE_XATTR, key.offset + 1);
		check_drop(linked, TYPE_XATTR, key.offset + 2);
		check_put(linked, TYPE_XATTR, key.offset, &xattr.value, length);
	}
	check_run(false);
	ck_assert_msg(strstr(told.text[0], "linked: a"), "%s", told.text[0]);
	EXPECT_CURED(FS_PROBLEM_ITEM);
	ck_assert_uint_eq(count_items(linked, TYPE_XATTR), 0);
	ck_assert_int_eq(fs_getxattr(fs, sub, "user.short", NULL, 0), 5);
}
END_TEST

START_TEST(attributes_without_an_inode_are_found)
{
	check_drop(linked, TYPE_INODE, 0);
	check_drop(ROOT, TYPE_DIRENT, entry_of(ROOT, "linked").offset);
	EXPECT_CURED(FS_PROBLEM_INODE, FS_PROBLEM_LINKS);
	ck_assert_int_eq(fs_getxattr(fs, linked, "user.long", NULL, 0), 9000);
}
END_TEST

START_TEST(a_lost_file_is_found_whole)
{
	struct format_inode item = check_item_of(sub);
	const struct meta_key key = entry_of(sub, "other");
	uint64_t found;
	char name[32];

	check_drop(key.object, key.type, key.offset);
	item.size = le64_of(0);
	check_put_item_of(sub, &item);
	EXPECT_CURED(FS_PROBLEM_LOST);
	snprintf(name, sizeof(name), "#%llu", (unsigned long long)other);
	found = find(find(ROOT, "lost+found"), name);
	ck_assert_uint_eq(found, other);
	expect_pattern(other, 0, BYTES, 2);
	ck_assert_uint_eq(attr_of(find(ROOT, "lost+found")).st.st_mode, S_IFDIR | 0700);
}
END_TEST

static bool cure_what_is_lost(struct fs_check *check, const struct fs_problem *problem)
{
	(void)check;
	return problem->kind == FS_PROBLEM_LOST;
}

/* A new directory for what is lost must not take the number of an inode that there is. */
START_TEST(a_number_that_is_in_use_ends_the_check)
{
	struct fs_check check = { .problem = cure_what_is_lost };
	struct format_inode item = check_item_of(file);

	item.size = item.blocks = le64_of(0);
	check_put_item_of(UINT64_C(1) << 40, &item);
	ck_assert_int_eq(fs_check(meta, &check), -EIO);
	ck_assert_uint_eq(find(ROOT, "lost+found"), 0);
}
END_TEST

START_TEST(a_lost_directory_is_found_with_what_is_below_it)
{
	struct format_inode item = check_item_of(ROOT);
	const struct meta_key key = entry_of(ROOT, "dir");
	char name[32];

	check_drop(key.object, key.type, key.offset);
	item.size = le64_of(le64_get(item.size) - 1);
	item.nlink = le32_of(le32_get(item.nlink) - 1);
	check_put_item_of(ROOT, &item);
	EXPECT_CURED(FS_PROBLEM_LOST);
	snprintf(name, sizeof(name), "#%llu", (unsigned long long)dir);
	ck_assert_uint_eq(find(find(ROOT, "lost+found"), name), dir);
	ck_assert_uint_eq(find(dir, ".."), find(ROOT, "lost+found"));
	ck_assert_uint_eq(find(find(dir, "sub"), "other"), other);
}
END_TEST

START_TEST(directories_below_themselves_are_found)
{
	struct meta_key key = entry_of(ROOT, "dir");
	struct format_inode item = check_item_of(ROOT);

	/* dir/sub/again is dir */
	check_drop(key.object, key.type, key.offset);
	item.size = le64_of(le64_get(item.size) - 1);
	item.nlink = le32_of(le32_get(item.nlink) - 1);
	check_put_item_of(ROOT, &item);
	key = place_of(sub, "again");
	put_entry(&key, "again", dir, DT_DIR);
	item = check_item_of(sub);
	item.size = le64_of(2);
	item.nlink = le32_of(3);
	check_put_item_of(sub, &item);
	item = check_item_of(dir);
	item.parent = le64_of(sub);
	check_put_item_of(dir, &item);
	check_run(false);
	ck_assert_uint_eq(told.count, 1);
	ck_assert_int_eq(told.kinds[0], FS_PROBLEM_PARENT);
	check_run(true);
	ck_assert_uint_eq(told.count, 2);
	ck_assert_int_eq(told.kinds[1], FS_PROBLEM_LOST);
	volume_remount();
	check_expect_clean();
	ck_assert_uint_eq(count_entries(find(ROOT, "lost+found")), 1);
}
END_TEST

START_TEST(a_second_name_of_a_directory_is_removed)
{
	const struct meta_key key = place_of(ROOT, "twin");
	struct format_inode item = check_item_of(ROOT);

	put_entry(&key, "twin", sub, DT_DIR);
	item.size = le64_of(le64_get(item.size) + 1);
	item.nlink = le32_of(le32_get(item.nlink) + 1);
	check_put_item_of(ROOT, &item);
	EXPECT_CURED(FS_PROBLEM_PARENT);
	ck_assert_uint_eq(find(ROOT, "twin"), 0);
	ck_assert_uint_eq(find(dir, "sub"), sub);
}
END_TEST

START_TEST(a_wrong_parent_is_set)
{
	struct format_inode item = check_item_of(sub);

	item.parent = le64_of(ROOT);
	check_put_item_of(sub, &item);
	EXPECT_CURED(FS_PROBLEM_PARENT);
	ck_assert_uint_eq(find(sub, ".."), dir);
}
END_TEST

START_TEST(a_misplaced_entry_is_moved)
{
	struct meta_key key = entry_of(ROOT, "file");

	check_drop(key.object, key.type, key.offset);
	key.offset = _i ? 1 << 8 : INT64_MAX - 5;
	put_entry(&key, "file", file, DT_REG);
	ck_assert_uint_eq(find(ROOT, "file"), 0);
	EXPECT_CURED(FS_PROBLEM_NAME);
	ck_assert_uint_eq(find(ROOT, "file"), file);
}
END_TEST

START_TEST(an_entry_of_the_wrong_type_is_set)
{
	const struct meta_key key = entry_of(ROOT, "file");

	put_entry(&key, "file", file, DT_DIR);
	EXPECT_CURED(FS_PROBLEM_NAME);
}
END_TEST

START_TEST(space_that_nobody_has_is_freed)
{
	const struct format_alloc record = {
		.owner = le64_of(file),
		.owner_offset = le64_of(_i ? 0 : 1000), /* where it has something else, or nothing */
		.length = le32_of(16),
		.references = le32_of(1),
	};
	uint64_t before = free_blocks(), offset;
	union check_extent extent = check_extent_of(other, &offset);

	check_put(OBJECT_VOLUME, TYPE_ALLOC, le64_get(extent.head.address) + 1000, &record, sizeof(record));
	volume_remount();
	ck_assert_uint_eq(free_blocks(), before - 16);
	EXPECT_CURED(FS_PROBLEM_ALLOCATION);
	ck_assert_uint_eq(free_blocks(), before);
}
END_TEST

START_TEST(space_that_is_not_recorded_is_recorded)
{
	uint64_t before = free_blocks(), offset;
	union check_extent extent = check_extent_of(file, &offset);

	check_drop(OBJECT_VOLUME, TYPE_ALLOC, le64_get(extent.head.address));
	check_run(false);
	ck_assert_msg(strstr(told.text[0], "/file: the space of bytes 0 to"), "%s", told.text[0]);
	EXPECT_CURED(FS_PROBLEM_ALLOCATION);
	ck_assert_uint_eq(free_blocks(), before);
	expect_pattern(file, 0, BYTES, 1);
}
END_TEST

START_TEST(a_record_that_contradicts_its_extent_is_written_anew)
{
	uint64_t offset;
	union check_extent extent = check_extent_of(file, &offset);
	const struct format_alloc record = {
		.owner = le64_of(file),
		.owner_offset = le64_of(offset),
		.length = le32_of(le32_get(extent.head.length) - 3),
		.references = le32_of(1),
	};

	check_put(OBJECT_VOLUME, TYPE_ALLOC, le64_get(extent.head.address), &record, sizeof(record));
	EXPECT_CURED(FS_PROBLEM_ALLOCATION);
	expect_pattern(file, 0, BYTES, 1);
}
END_TEST

START_TEST(of_two_files_on_one_block_the_later_is_cut)
{
	uint64_t offset;
	union check_extent extent = check_extent_of(file, &offset);
	uint32_t length = le32_get(extent.head.length);

	ck_assert_uint_eq(offset, 0);
	/* Unrecorded: at the same address. Recorded: the file's last 3 blocks, and 4 behind them. */
	if (_i)
		check_put_overlap(le64_get(extent.head.address) + length - 3, 7, 1000, true);
	else
		check_put_overlap(le64_get(extent.head.address), 1, 1000, false);
	if (_i) {
		/* Behind it lies other's own data: that piece is not the test's business. */
		union check_extent own = check_extent_of(other, &offset);

		ck_assert(le64_get(own.head.address) >= le64_get(extent.head.address) + length + 4 ||
			  le64_get(own.head.address) < le64_get(extent.head.address));
	}
	check_run(false);
	ck_assert_msg(strstr(told.text[0], _i ? "/dir/sub/other: bytes 4096000 to 4108287 "
					      : "/dir/sub/other: bytes 4096000 to 4100095 "),
		      "%s", told.text[0]);
	if (_i) { /* a mount would refuse it, the check's does not */
		volume_unmount();
		volume_mount_to_check();
	}
	EXPECT_CURED(FS_PROBLEM_OVERLAP);
	expect_pattern(file, 0, BYTES, 1);
	expect_pattern(other, 0, BYTES, 2);
	ck_assert_int_eq(attr_of(other).st.st_blocks, (BLOCKS + (_i ? 4 : 0)) * 8);
}
END_TEST

/* So many long links that the nodes do not find room below what is for file data. */
static uint64_t make_high_node(void)
{
	static char target[4001];
	struct fs_attr attr;
	char name[16];
	uint64_t block;

	memset(target, 'x', sizeof(target) - 1);
	for (int i = 0; i < 1900; i++) {
		snprintf(name, sizeof(name), "l%d", i);
		ck_assert_int_eq(fs_symlink(fs, &caller, dir, name, target, &attr), 0);
	}
	volume_unmount();
	volume_mount_to_check();
	for (block = 0; block < DISK_BLOCKS && !meta_is_tree(meta, block); block++)
		;
	ck_assert_uint_lt(block, DISK_BLOCKS);
	return block;
}

START_TEST(a_file_that_claims_a_node_of_the_tree_is_cut)
{
	uint64_t node = make_high_node();

	check_put_overlap(node + 1, 2, 1000, _i);
	EXPECT_CURED(FS_PROBLEM_OVERLAP);
	ck_assert_uint_eq(find(dir, "l500") != 0, 1);
	expect_pattern(other, 0, BYTES, 2);
}
END_TEST

START_TEST(a_block_that_a_file_has_twice_is_cut)
{
	uint64_t offset;
	union check_extent first = check_extent_of(file, &offset);
	union check_extent extent = { .head = { .length = le32_of(2) } };
	uint64_t at = le64_get(first.head.address) + 2000;
	const struct format_alloc record = {
		.owner = le64_of(file),
		.owner_offset = le64_of(le32_get(first.head.length) - 1),
		.length = le32_of(2),
		.references = le32_of(1),
	};
	struct format_inode item = check_item_of(file);

	ck_assert_uint_eq(le32_get(first.head.length), BLOCKS);
	extent.head.address = le64_of(at);
	check_put(file, TYPE_EXTENT, BLOCKS - 1, &extent, check_extent_bytes(&extent));
	check_put(OBJECT_VOLUME, TYPE_ALLOC, at, &record, sizeof(record));
	item.blocks = le64_of(BLOCKS + 2);
	check_put_item_of(file, &item);
	EXPECT_CURED(FS_PROBLEM_OVERLAP);
	expect_pattern(file, 0, BYTES, 1);
}
END_TEST

START_TEST(content_without_an_inode_is_found)
{
	check_drop(file, TYPE_INODE, 0);
	EXPECT_CURED(FS_PROBLEM_INODE);
	expect_pattern(file, 0, BYTES, 1);
	expect_size(file, BYTES);
	ck_assert_uint_eq(find(ROOT, "file"), file);
}
END_TEST

START_TEST(a_lost_root_is_made_again)
{
	volume_unmount(); /* fs has it in memory */
	volume_mount(false);
	check_drop(ROOT, TYPE_INODE, 0);
	check_run(true);
	ck_assert_int_eq(told.kinds[0], FS_PROBLEM_INODE);
	volume_remount();
	check_expect_clean();
	expect_pattern(find(ROOT, "file"), 0, BYTES, 1);
}
END_TEST

START_TEST(items_without_meaning_are_removed)
{
	struct format_inode item = check_item_of(file);

	check_put(file, 77, 5, "x", 1);
	check_put(OBJECT_VOLUME, 9, 5, "x", 1);
	check_put(file, TYPE_SYMLINK, 0, "target", 6);
	check_put(dir, TYPE_EXTENT, 0, &item, 50);
	EXPECT_CURED(FS_PROBLEM_ITEM, FS_PROBLEM_ITEM, FS_PROBLEM_ITEM, FS_PROBLEM_ITEM);
	expect_pattern(file, 0, BYTES, 1);
}
END_TEST

START_TEST(a_nameless_inode_without_a_note_is_deleted)
{
	const struct meta_key key = entry_of(ROOT, "file");
	struct format_inode item = check_item_of(ROOT);
	uint64_t before = free_blocks();

	check_drop(key.object, key.type, key.offset);
	item.size = le64_of(le64_get(item.size) - 1);
	check_put_item_of(ROOT, &item);
	item = check_item_of(file);
	item.nlink = le32_of(0);
	check_put_item_of(file, &item);
	check_put(OBJECT_VOLUME, TYPE_ORPHAN, 424242, NULL, 0); /* and a note of nothing */
	EXPECT_CURED(FS_PROBLEM_NOTE, FS_PROBLEM_NOTE);
	ck_assert_uint_eq(count_items(file, TYPE_INODE), 0);
	ck_assert_uint_eq(free_blocks(), before + BLOCKS);
}
END_TEST

START_TEST(a_number_is_not_given_twice)
{
	struct format_inode item = check_item_of(linked);
	struct meta_super_info info;
	const struct meta_key key = place_of(ROOT, "high");

	item.nlink = le32_of(1);
	check_put_item_of(UINT64_C(1) << 40, &item);
	put_entry(&key, "high", UINT64_C(1) << 40, DT_REG);
	item = check_item_of(ROOT);
	item.size = le64_of(le64_get(item.size) + 1);
	check_put_item_of(ROOT, &item);
	EXPECT_CURED(FS_PROBLEM_VOLUME);
	meta_super_info(meta, &info);
	ck_assert_uint_gt(info.next_object, UINT64_C(1) << 40);
}
END_TEST

START_TEST(only_what_was_agreed_to_is_changed)
{
	struct fs_check check = { .problem = check_tell };
	const struct meta_key key = place_of(sub, "ghost");
	struct format_inode item = check_item_of(sub);

	put_entry(&key, "ghost", 999999, DT_REG);
	item.size = le64_of(2);
	check_put_item_of(sub, &item);
	item = check_item_of(linked);
	item.nlink = le32_of(9);
	check_put_item_of(linked, &item);
	told = (struct told){ .cure = true, .safe_only = true };
	ck_assert_int_eq(fs_check(meta, &check), 0);
	ck_assert_uint_eq(check.problems, 2);
	ck_assert_uint_eq(check.cured, 1);
	volume_remount();
	check_run(false);
	ck_assert_uint_eq(told.count, 1);
	ck_assert_int_eq(told.kinds[0], FS_PROBLEM_NAME);
}
END_TEST

static void add_counts(TCase *tests)
{
	tcase_add_test(tests, wrong_link_counts_are_set);
	tcase_add_test(tests, a_wrong_count_of_entries_is_set);
	tcase_add_test(tests, a_wrong_count_of_blocks_is_set);
	tcase_add_test(tests, a_number_is_not_given_twice);
	tcase_add_test(tests, a_nameless_inode_without_a_note_is_deleted);
	tcase_add_test(tests, only_what_was_agreed_to_is_changed);
}

static void add_names(TCase *tests)
{
	tcase_add_test(tests, an_entry_that_leads_nowhere_is_removed);
	tcase_add_loop_test(tests, a_malformed_entry_is_removed, 0, 3);
	tcase_add_loop_test(tests, a_broken_attribute_is_removed_whole, 0, 4);
	tcase_add_test(tests, attributes_without_an_inode_are_found);
	tcase_add_test(tests, a_lost_file_is_found_whole);
	tcase_add_test(tests, a_number_that_is_in_use_ends_the_check);
	tcase_add_test(tests, a_lost_directory_is_found_with_what_is_below_it);
	tcase_add_test(tests, directories_below_themselves_are_found);
	tcase_add_test(tests, a_second_name_of_a_directory_is_removed);
	tcase_add_test(tests, a_wrong_parent_is_set);
	tcase_add_loop_test(tests, a_misplaced_entry_is_moved, 0, 2);
	tcase_add_test(tests, an_entry_of_the_wrong_type_is_set);
}

static void put_long(uint64_t inode, int byte, unsigned char *value)
{
	memset(value, byte, XATTR_VALUE_MAX);
	ck_assert_int_eq(fs_setxattr(fs, inode, "user.long", value, XATTR_VALUE_MAX, 0), 0);
}

static void flip(uint64_t at)
{
	for (int leg = 0; leg < MIRROR_LEGS; leg++)
		volume_disk(leg)[at] ^= 1;
}

/* Nothing is known of it, so nothing is wrong with it: it is not removed. */
START_TEST(an_attribute_that_no_leg_can_give_is_told_as_such)
{
	static unsigned char value[XATTR_VALUE_MAX];
	unsigned int refused = 0;

	/* Nothing else lies in the leaves of the second one. */
	put_long(dir, 0x11, value);
	put_long(other, 0x33, value);
	put_long(file, 0x22, value);
	volume_unmount();
	for (uint64_t at = MIRROR_SPACE_OFFSET; at < volume_disk_bytes(); at += FS_BLOCK) {
		struct fs_check check = { .problem = check_tell };

		if (!memmem(volume_disk(0) + at, FS_BLOCK, value, 1000))
			continue;
		flip(at + 2000);
		told.count = 0;
		volume_mount_to_check();
		if (fs_check(meta, &check)) {
			refused++;
			ck_assert_uint_eq(told.count, 1);
			ck_assert_int_eq(told.kinds[0], FS_PROBLEM_UNREADABLE);
		} else {
			ck_assert_uint_eq(told.count, 0); /* an old copy */
		}
		volume_unmount();
		flip(at + 2000);
	}
	ck_assert_uint_ge(refused, XATTR_VALUE_MAX / FS_BLOCK - 1);
	volume_mount(false);
}
END_TEST

Suite *check_suite(void)
{
	Suite *suite = suite_create("check");
	TCase *tests = tcase_create("check");

	tcase_add_checked_fixture(tests, check_setup, volume_teardown);
	tcase_set_timeout(tests, 60);
	tcase_add_test(tests, a_sound_volume_has_no_problems);
	tcase_add_test(tests, a_volume_that_crashed_in_the_middle_of_work_is_sound);
	tcase_add_test(tests, an_unlinked_open_file_is_no_problem);
	tcase_add_test(tests, blocks_kept_beyond_the_end_are_no_problem);
	add_counts(tests);
	add_names(tests);
	tcase_add_loop_test(tests, space_that_nobody_has_is_freed, 0, 2);
	tcase_add_test(tests, space_that_is_not_recorded_is_recorded);
	tcase_add_test(tests, a_record_that_contradicts_its_extent_is_written_anew);
	tcase_add_loop_test(tests, of_two_files_on_one_block_the_later_is_cut, 0, 2);
	tcase_add_loop_test(tests, a_file_that_claims_a_node_of_the_tree_is_cut, 0, 2);
	tcase_add_test(tests, a_block_that_a_file_has_twice_is_cut);
	tcase_add_test(tests, content_without_an_inode_is_found);
	tcase_add_test(tests, a_lost_root_is_made_again);
	tcase_add_test(tests, items_without_meaning_are_removed);
	tcase_add_test(tests, an_attribute_that_no_leg_can_give_is_told_as_such);
	suite_add_tcase(suite, tests);
	return suite;
}
