/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "check_fixture.h"

#include <stdio.h>

uint64_t dir, sub, file, other, linked;

struct told told;

bool check_tell(struct fs_check *check, const struct fs_problem *problem)
{
	ck_assert_uint_lt(told.count, 32);
	ck_assert_int_eq(problem->cure[0] == '\0', problem->remedy == FS_REMEDY_NONE);
	snprintf(told.text[told.count], sizeof(told.text[0]), "%s", problem->text);
	told.kinds[told.count++] = problem->kind;
	return told.cure && (!told.safe_only || problem->remedy == FS_REMEDY_SAFE);
}

struct fs_check check_run(bool cure)
{
	struct fs_check check = { .problem = check_tell };

	told = (struct told){ .cure = cure };
	ck_assert_int_eq(fs_check(meta, &check), 0);
	ck_assert_uint_eq(check.problems, told.count);
	return check;
}

void check_expect_clean(void)
{
	struct fs_check check = check_run(false);

	ck_assert_msg(!told.count, "%s", told.text[0]);
	ck_assert_uint_eq(check.cured, 0);
}

/* The first look finds these and changes nothing, the second finds and cures them; what was left whole is right. */
void check_expect_cured(unsigned int count, const enum fs_problem_kind *kinds)
{
	for (int look = 0; look < 2; look++) {
		struct fs_check check = check_run(look == 1);

		for (unsigned int i = 0; i < told.count && i < count; i++)
			ck_assert_msg(told.kinds[i] == kinds[i], "problem %u is %d: %s", i, told.kinds[i],
				      told.text[i]);
		ck_assert_msg(told.count == count, "%u problems: %s ... %s", told.count, told.text[0],
			      told.text[told.count ? told.count - 1 : 0]);
		ck_assert_uint_eq(check.cured, look ? count : 0);
	}
	volume_remount();
	check_expect_clean();
}


void check_setup(void)
{
	struct fs_attr attr;
	uint64_t gap;

	volume_setup();
	dir = make_dir(ROOT, "dir");
	sub = make_dir(dir, "sub");
	file = make_file(ROOT, "file");
	other = make_file(sub, "other");
	ck_assert_int_eq(fs_symlink(fs, &caller, ROOT, "link", "dir/sub", &attr), 0);
	linked = make_file(dir, "linked");
	ck_assert_int_eq(fs_link(fs, linked, ROOT, "linked", &attr), 0);
	ck_assert_int_eq(fs_setxattr(fs, linked, "user.long", told.text, 9000, 0), 0);
	ck_assert_int_eq(fs_setxattr(fs, sub, "user.short", "value", 5, 0), 0);
	put_pattern(file, 0, BYTES, 1);
	sync_file(file);
	gap = make_file(ROOT, "gap");
	put_pattern(gap, 0, 40 * FS_BLOCK, 3);
	sync_file(gap);
	put_pattern(other, 0, BYTES, 2);
	sync_file(other);
	ck_assert_int_eq(fs_unlink(fs, ROOT, "gap"), 0);
	volume_remount();
}

void check_put(uint64_t object, uint8_t type, uint64_t offset, const void *value, size_t length)
{
	const struct meta_key key = { object, type, offset };
	struct meta_txn *txn = meta_txn_begin(meta);

	meta_txn_put(txn, &key, value, length);
	ck_assert_int_eq(meta_txn_commit(txn, NULL), 0);
}

void check_drop(uint64_t object, uint8_t type, uint64_t offset)
{
	const struct meta_key key = { object, type, offset };
	struct meta_txn *txn = meta_txn_begin(meta);

	meta_txn_delete(txn, &key);
	ck_assert_int_eq(meta_txn_commit(txn, NULL), 0);
}

struct format_inode check_item_of(uint64_t number)
{
	const struct meta_key key = inode_key(number);
	struct format_inode item;

	ck_assert_int_eq(meta_get(meta, &key, &item, sizeof(item)), sizeof(item));
	return item;
}

void check_put_item_of(uint64_t number, const struct format_inode *item)
{
	check_put(number, TYPE_INODE, 0, item, sizeof(*item));
}

union check_extent check_extent_of(uint64_t number, uint64_t *offset)
{
	struct meta_key key = { number, TYPE_EXTENT, 0 };
	const struct meta_key last = { number, TYPE_EXTENT, UINT64_MAX };
	union check_extent extent;

	ck_assert_int_gt(meta_next(meta, &key, &last, &extent, sizeof(extent)), 0);
	*offset = key.offset;
	return extent;
}

size_t check_extent_bytes(const union check_extent *extent)
{
	return sizeof(extent->head) + 4 * le32_get(extent->head.length);
}

/* `other` gets an extent at `at`, of which `file` has blocks. */
void check_put_overlap(uint64_t at, uint32_t length, uint64_t offset, bool recorded)
{
	union check_extent extent = { .head = { .address = le64_of(at), .length = le32_of(length) } };
	const struct format_alloc record = {
		.owner = le64_of(other),
		.owner_offset = le64_of(offset),
		.length = le32_of(length),
		.references = le32_of(1),
	};
	struct format_inode item = check_item_of(other);

	check_put(other, TYPE_EXTENT, offset, &extent, check_extent_bytes(&extent));
	item.blocks = le64_of(BLOCKS + length);
	check_put_item_of(other, &item);
	if (recorded)
		check_put(OBJECT_VOLUME, TYPE_ALLOC, at, &record, sizeof(record));
}
