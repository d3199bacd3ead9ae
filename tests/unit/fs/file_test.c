/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fixture.h"

#include <linux/falloc.h>

START_TEST(what_was_written_is_read_at_any_alignment)
{
	static const uint64_t offsets[] = { 0, 1, 4095, 4096, 4097, 70000, 1 << 20 };
	static const size_t lengths[] = { 1, 333, 4095, 4096, 4097, 65537, (1 << 20) + 1 };

	for (size_t i = 0; i < 7; i++) {
		for (size_t j = 0; j < 7; j++) {
			uint64_t file = make_file(ROOT, "file");
			unsigned int seed = (unsigned int)(i * 7 + j);

			put_pattern(file, offsets[i], lengths[j], seed);
			expect_size(file, offsets[i] + lengths[j]);
			for (int pass = 0; pass < 2; pass++) {
				expect_zeros(file, 0, offsets[i]);
				expect_pattern(file, offsets[i], lengths[j], seed);
				sync_file(file);
				cache_drop_clean(cache);
			}
			ck_assert_int_eq(fs_unlink(fs, ROOT, "file"), 0);
			fs_forget(fs, file, 1);
		}
	}
}
END_TEST

START_TEST(an_overwrite_changes_its_own_bytes_only)
{
	uint64_t file = make_file(ROOT, "file");

	put_pattern(file, 0, 20000, 1);
	sync_file(file);
	cache_drop_clean(cache);
	put_pattern(file, 5000, 6000, 2);
	for (int pass = 0; pass < 2; pass++) {
		expect_pattern(file, 0, 5000, 1);
		expect_pattern(file, 5000, 6000, 2);
		expect_pattern(file, 11000, 9000, 1);
		volume_remount();
	}
	ck_assert_uint_eq(attr_of(file).st.st_blocks, 5 * 8);
}
END_TEST

START_TEST(a_read_ends_at_the_end_of_the_file)
{
	uint64_t file = make_file(ROOT, "file");
	unsigned char data[8192];

	ck_assert_int_eq(fs_read(fs, file, data, sizeof(data), 0), 0);
	put_pattern(file, 0, 5000, 1);
	ck_assert_int_eq(fs_read(fs, file, data, sizeof(data), 0), 5000);
	ck_assert_int_eq(fs_read(fs, file, data, sizeof(data), 4999), 1);
	ck_assert_int_eq(fs_read(fs, file, data, sizeof(data), 5000), 0);
	ck_assert_int_eq(fs_read(fs, file, data, sizeof(data), UINT64_C(1) << 61), 0);
	ck_assert_int_eq(fs_read(fs, file, data, 0, 0), 0);
	ck_assert_int_eq(fs_read(fs, ROOT, data, 1, 0), -EISDIR);
	ck_assert_int_eq(fs_write(fs, ROOT, data, 1, 0, 0), -EISDIR);
	ck_assert_int_eq(fs_write(fs, file, data, 0, 9999, 0), 0);
	expect_size(file, 5000);
}
END_TEST

START_TEST(a_sparse_file_takes_blocks_for_its_data_alone)
{
	uint64_t file = make_file(ROOT, "file"), tib = UINT64_C(1) << 40, offset;

	put_pattern(file, tib, 10000, 1);
	put_pattern(file, 1 << 20, 100, 2);
	volume_remount();
	expect_size(file, tib + 10000);
	ck_assert_uint_eq(attr_of(file).st.st_blocks, 4 * 8);
	expect_zeros(file, 0, 1 << 20);
	expect_pattern(file, 1 << 20, 100, 2);
	expect_zeros(file, (1 << 20) + 100, 50000);
	expect_zeros(file, tib - 8192, 8192);
	expect_pattern(file, tib, 10000, 1);
	offset = 0;
	ck_assert_int_eq(fs_lseek(fs, file, false, &offset), 0);
	ck_assert_uint_eq(offset, 1 << 20);
	ck_assert_int_eq(fs_lseek(fs, file, true, &offset), 0);
	ck_assert_uint_eq(offset, (1 << 20) + 4096);
	ck_assert_int_eq(fs_lseek(fs, file, false, &offset), 0);
	ck_assert_uint_eq(offset, tib);
	offset += 5;
	ck_assert_int_eq(fs_lseek(fs, file, false, &offset), 0);
	ck_assert_uint_eq(offset, tib + 5);
	ck_assert_int_eq(fs_lseek(fs, file, true, &offset), 0);
	ck_assert_uint_eq(offset, tib + 10000);
	ck_assert_int_eq(fs_lseek(fs, file, true, &offset), -ENXIO);
	ck_assert_int_eq(fs_lseek(fs, file, false, &offset), -ENXIO);
}
END_TEST

START_TEST(seeking_sees_data_that_is_not_written_out)
{
	uint64_t file = make_file(ROOT, "file"), offset = 0;

	put_pattern(file, 50000, 10, 1);
	ck_assert_int_eq(fs_lseek(fs, file, false, &offset), 0);
	ck_assert_uint_eq(offset, 49152);
	offset = 0;
	ck_assert_int_eq(fs_lseek(fs, file, true, &offset), 0);
	ck_assert_uint_eq(offset, 0);
	set_size(file, 1 << 20);
	offset = 55000;
	ck_assert_int_eq(fs_lseek(fs, file, false, &offset), -ENXIO);
}
END_TEST

START_TEST(a_full_volume_refuses_the_write_and_not_the_write_out)
{
	uint64_t file = make_file(ROOT, "file"), other = make_file(ROOT, "other"), seen;
	unsigned char byte = 1;

	put_pattern(file, 0, 50 * FS_BLOCK, 1);
	ck_assert_int_eq(fs_error_mark(fs, file, &seen), 0);
	volume_fill();
	ck_assert_int_eq(fs_write(fs, other, &byte, 1, 0, 0), -ENOSPC);
	expect_size(other, 0);
	ck_assert_int_eq(fs_fsync(fs, file, false, &seen), 0);
	ck_assert_int_eq(fs_sync(fs), 0);
	/* Even then a file can be removed, and its room is to be had again. */
	ck_assert_int_eq(fs_unlink(fs, ROOT, "filler"), 0);
	fs_forget(fs, attr_of(file).st.st_ino, 0);
	expect_pattern(file, 0, 50 * FS_BLOCK, 1);
	volume_remount();
	expect_pattern(file, 0, 50 * FS_BLOCK, 1);
	put_pattern(other, 0, 100 * FS_BLOCK, 2);
	ck_assert_int_eq(fs_sync(fs), 0);
}
END_TEST

START_TEST(a_through_write_is_in_the_tree_and_a_sync_write_survives)
{
	uint64_t file = make_file(ROOT, "file");
	static unsigned char data[3 * FS_BLOCK];

	memset(data, 'd', sizeof(data));
	ck_assert_int_eq(fs_write(fs, file, data, 5000, 100, FS_WRITE_THROUGH), 5000);
	ck_assert_uint_gt(count_items(file, TYPE_EXTENT), 0);
	put_pattern(file, 1 << 20, 17 * FS_BLOCK, 9); /* dirty, and not asked for */
	ck_assert_int_eq(fs_write(fs, file, data, sizeof(data), 8192, FS_WRITE_SYNC), sizeof(data));
	volume_crash();
	expect_size(file, 8192 + sizeof(data));
	expect_zeros(file, 0, 100);
	ck_assert_int_eq(fs_read(fs, file, data, sizeof(data), 8192), sizeof(data));
	ck_assert_int_eq(data[0], 'd');
	ck_assert_int_eq(memcmp(data, data + 1, sizeof(data) - 1), 0);
}
END_TEST

START_TEST(a_rotten_block_is_read_from_the_other_leg_and_never_believed)
{
	uint64_t file = make_file(ROOT, "file");
	struct meta_mapping mapping;
	struct mirror_io io = { .op = MIRROR_WRITE, .count = 1 };
	unsigned char data[FS_BLOCK];

	put_pattern(file, 0, 40000, 1);
	sync_file(file);
	ck_assert_int_eq(meta_map(meta, file, 3, 1, &mapping), 0);
	ck_assert_uint_ne(mapping.address, 0);
	for (int leg = 0; leg < 2; leg++) {
		cache_drop_clean(cache);
		io.block = mapping.address;
		io.flags = leg ? MIRROR_ONLY_LEG1 : MIRROR_ONLY_LEG0;
		io.buf = iobuf_get(mirror_pool(meta_mirror(meta)), FS_BLOCK);
		io.buf_offset = 0;
		memset(io.buf->data, 0xee, FS_BLOCK);
		ck_assert_int_eq(mirror_submit_wait(meta_mirror(meta), &io), 0);
		iobuf_put(io.buf);
		expect_pattern(file, 0, 40000, 1);
	}
	/* Repaired each time, so it takes both at once to lose it. */
	cache_drop_clean(cache);
	io.flags = 0;
	io.buf = iobuf_get(mirror_pool(meta_mirror(meta)), FS_BLOCK);
	memset(io.buf->data, 0xee, FS_BLOCK);
	ck_assert_int_eq(mirror_submit_wait(meta_mirror(meta), &io), 0);
	iobuf_put(io.buf);
	ck_assert_int_eq(fs_read(fs, file, data, 1, 3 * FS_BLOCK), -EIO);
	expect_pattern(file, 0, 3 * FS_BLOCK, 1);
	expect_pattern(file, 4 * FS_BLOCK, 40000 - 4 * FS_BLOCK, 1);
	/* A whole new block needs nothing of the old one. */
	put_pattern(file, 3 * FS_BLOCK, FS_BLOCK, 1);
	expect_pattern(file, 0, 40000, 1);
}
END_TEST

START_TEST(more_than_the_cache_holds_is_written_and_read)
{
	uint64_t file = make_file(ROOT, "file");

	for (uint64_t mib = 0; mib < 24; mib++)
		put_pattern(file, mib << 20, 1 << 20, 5);
	for (uint64_t mib = 0; mib < 24; mib++)
		expect_pattern(file, mib << 20, 1 << 20, 5);
	volume_remount();
	for (uint64_t mib = 0; mib < 24; mib++)
		expect_pattern(file, mib << 20, 1 << 20, 5);
}
END_TEST

Suite *file_suite(void)
{
	Suite *suite = suite_create("file");
	TCase *tests = tcase_create("file"), *small = tcase_create("small");

	tcase_add_checked_fixture(tests, volume_setup, volume_teardown);
	tcase_set_timeout(tests, 120);
	tcase_add_test(tests, what_was_written_is_read_at_any_alignment);
	tcase_add_test(tests, an_overwrite_changes_its_own_bytes_only);
	tcase_add_test(tests, a_read_ends_at_the_end_of_the_file);
	tcase_add_test(tests, a_sparse_file_takes_blocks_for_its_data_alone);
	tcase_add_test(tests, seeking_sees_data_that_is_not_written_out);
	tcase_add_test(tests, a_through_write_is_in_the_tree_and_a_sync_write_survives);
	tcase_add_test(tests, a_rotten_block_is_read_from_the_other_leg_and_never_believed);
	tcase_add_test(tests, more_than_the_cache_holds_is_written_and_read);
	suite_add_tcase(suite, tests);
	tcase_add_checked_fixture(small, volume_setup_small, volume_teardown);
	tcase_set_timeout(small, 120);
	tcase_add_test(small, a_full_volume_refuses_the_write_and_not_the_write_out);
	suite_add_tcase(suite, small);
	return suite;
}
