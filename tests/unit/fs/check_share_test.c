/* SPDX-License-Identifier: GPL-2.0-or-later */
/* As check_test.c, of what files share. */
#include "check_fixture.h"

/* All of `file` is in `twin`, too, and some of it in `third`. */
static uint64_t make_twins(uint64_t *third)
{
	uint64_t twin = make_file(ROOT, "twin");

	*third = make_file(dir, "third");
	ck_assert_int_eq(fs_copy_range(fs, file, 0, twin, 0, BYTES), BYTES);
	ck_assert_int_eq(fs_copy_range(fs, twin, 10 * FS_BLOCK, *third, FS_BLOCK, 20 * FS_BLOCK), 20 * FS_BLOCK);
	put_pattern(*third, 5 * FS_BLOCK, FS_BLOCK, 7);
	volume_remount();
	check_expect_clean();
	return twin;
}

static void expect_twins(uint64_t twin, uint64_t third)
{
	expect_pattern(file, 0, BYTES, 1);
	expect_pattern(twin, 0, BYTES, 1);
	expect_pattern(third, 5 * FS_BLOCK, FS_BLOCK, 7);
	ck_assert_int_eq(attr_of(twin).st.st_blocks, BLOCKS * 8);
	ck_assert_int_eq(attr_of(third).st.st_blocks, 20 * 8);
}

START_TEST(counts_of_shared_blocks_are_put_right)
{
	uint64_t third, twin = make_twins(&third), before = free_blocks(), offset;
	uint64_t at = le64_get(check_extent_of(file, &offset).head.address);
	const struct meta_key key = { OBJECT_VOLUME, TYPE_ALLOC, at };
	struct format_alloc record;

	ck_assert_int_eq(meta_get(meta, &key, &record, sizeof(record)), sizeof(record));
	ck_assert_uint_eq(le32_get(record.references), 2);
	if (_i < 2) {
		record.references = le32_of(_i ? 1 : 3);
		check_put(OBJECT_VOLUME, TYPE_ALLOC, at, &record, sizeof(record));
	} else if (_i == 2) { /* two records in one */
		record.length = le32_of(le32_get(record.length) + 4);
		check_drop(OBJECT_VOLUME, TYPE_ALLOC, at + 10);
		check_put(OBJECT_VOLUME, TYPE_ALLOC, at, &record, sizeof(record));
	} else if (_i == 3) { /* space that nobody has */
		check_put(OBJECT_VOLUME, TYPE_ALLOC, at + 2000, &record, sizeof(record));
	} else { /* an extent that is not there any more */
		const struct format_share share = { .owner = le64_of(file), .owner_offset = le64_of(1000) };

		check_put(OBJECT_VOLUME, TYPE_SHARE, at << SHARE_SLOT_BITS | 77, &share, sizeof(share));
	}
	EXPECT_CURED(FS_PROBLEM_ALLOCATION);
	ck_assert_uint_eq(free_blocks(), before);
	expect_twins(twin, third);
}
END_TEST

/* What is lost of who shares what is found again by the content that each says to have. */
START_TEST(copies_are_told_by_what_is_in_them)
{
	uint64_t third, twin = make_twins(&third), before = free_blocks(), offset;
	uint64_t at = le64_get(check_extent_of(file, &offset).head.address);
	struct meta_key key = { OBJECT_VOLUME, _i == 1 ? TYPE_ALLOC : TYPE_SHARE, 0 };
	const struct meta_key last = { OBJECT_VOLUME, _i == 0 ? TYPE_ALLOC : TYPE_SHARE, UINT64_MAX };

	if (_i == 0)
		key.type = TYPE_ALLOC;
	/* Records; items; both, and then others' as well, but each of them is alone on its blocks. */
	for (; meta_next(meta, &key, &last, NULL, 0) >= 0; key.offset++) {
		uint64_t address = key.type == TYPE_SHARE ? key.offset >> SHARE_SLOT_BITS : key.offset;

		if (address >= at && address < at + BLOCKS)
			check_drop(OBJECT_VOLUME, key.type, key.offset);
	}
	volume_unmount();
	volume_mount_to_check();
	told = (struct told){ .cure = true, .safe_only = true };
	for (int look = 0; look < 3; look++)
		check_run(true);
	volume_remount();
	check_expect_clean();
	ck_assert_uint_eq(free_blocks(), before);
	expect_twins(twin, third);
}
END_TEST

START_TEST(an_extent_that_lies_on_shared_blocks_is_cut)
{
	uint64_t third, twin = make_twins(&third), offset;

	check_put_overlap(le64_get(check_extent_of(file, &offset).head.address) + 3, 5, 1000, false);
	EXPECT_CURED(FS_PROBLEM_OVERLAP);
	expect_twins(twin, third);
}
END_TEST

/* A counted extent of which some blocks are given up: those who share them keep them. */
START_TEST(a_piece_of_a_shared_extent_is_cut)
{
	uint64_t third, twin = make_twins(&third), offset;
	union check_extent extent = check_extent_of(file, &offset), own = { .head = { .length = le32_of(2) } };
	uint64_t at = le64_get(extent.head.address) + 2000;
	const struct format_alloc record = {
		.owner = le64_of(twin),
		.owner_offset = le64_of(le32_get(extent.head.length) - 1),
		.length = le32_of(2),
		.references = le32_of(1),
	};
	struct format_inode item = check_item_of(twin);

	own.head.address = le64_of(at);
	own.head.crc[0] = own.head.crc[1] = le32_of(1);
	check_put(twin, TYPE_EXTENT, BLOCKS - 1, &own, check_extent_bytes(&own));
	check_put(OBJECT_VOLUME, TYPE_ALLOC, at, &record, sizeof(record));
	item.blocks = le64_of(BLOCKS + 2);
	check_put_item_of(twin, &item);
	EXPECT_CURED(FS_PROBLEM_OVERLAP);
	expect_pattern(file, 0, BYTES, 1);
	expect_pattern(twin, 0, BYTES, 1);
}
END_TEST

Suite *check_share_suite(void)
{
	Suite *suite = suite_create("check_share");
	TCase *tests = tcase_create("check_share");

	tcase_add_checked_fixture(tests, check_setup, volume_teardown);
	tcase_set_timeout(tests, 60);
	tcase_add_loop_test(tests, counts_of_shared_blocks_are_put_right, 0, 5);
	tcase_add_loop_test(tests, copies_are_told_by_what_is_in_them, 0, 3);
	tcase_add_test(tests, an_extent_that_lies_on_shared_blocks_is_cut);
	tcase_add_test(tests, a_piece_of_a_shared_extent_is_cut);
	suite_add_tcase(suite, tests);
	return suite;
}
