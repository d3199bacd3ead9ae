/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fixture.h"

#include <unistd.h>

#define BLOCKS 300u
#define BYTES (BLOCKS * FS_BLOCK)

static uint64_t from, to;

static void setup(void)
{
	volume_setup();
	from = make_file(ROOT, "from");
	to = make_file(ROOT, "to");
}

static void copy(uint64_t a, uint64_t a_offset, uint64_t b, uint64_t b_offset, uint64_t length)
{
	ck_assert_int_eq(fs_copy_range(fs, a, a_offset, b, b_offset, length), (ssize_t)length);
}

/* Bytes of `to` are those of `from`. */
static void expect_alike(uint64_t from_offset, uint64_t to_offset, size_t length)
{
	unsigned char *a = malloc(length), *b = malloc(length);

	ck_assert_int_eq(fs_read(fs, from, a, length, from_offset), (ssize_t)length);
	ck_assert_int_eq(fs_read(fs, to, b, length, to_offset), (ssize_t)length);
	ck_assert_mem_eq(a, b, length);
	free(a);
	free(b);
}

static uint64_t blocks_free(void)
{
	ck_assert_int_eq(fs_sync(fs), 0);
	return free_blocks();
}

START_TEST(what_is_dirty_is_copied)
{
	uint64_t before;

	put_pattern(from, 0, BYTES, 1);
	copy(from, 0, to, 0, BYTES);
	expect_size(to, BYTES);
	expect_pattern(to, 0, BYTES, 1);
	before = blocks_free();
	copy(from, 0, to, BYTES, BYTES);
	ck_assert_uint_eq(blocks_free(), before);
	ck_assert_int_eq(attr_of(to).st.st_blocks, 2 * BLOCKS * 8);
	volume_remount();
	expect_alike(0, 0, BYTES);
	expect_alike(0, BYTES, BYTES);
}
END_TEST

START_TEST(what_the_target_had_is_gone)
{
	put_pattern(to, 0, BYTES, 1);
	ck_assert_int_eq(fs_sync(fs), 0);
	put_pattern(to, 10 * FS_BLOCK, 20 * FS_BLOCK, 2);
	put_pattern(from, 0, BYTES, 3);
	copy(from, 5 * FS_BLOCK, to, 5 * FS_BLOCK, 50 * FS_BLOCK);
	expect_pattern(to, 0, 5 * FS_BLOCK, 1);
	expect_pattern(to, 5 * FS_BLOCK, 50 * FS_BLOCK, 3);
	expect_pattern(to, 55 * FS_BLOCK, BYTES - 55 * FS_BLOCK, 1);
}
END_TEST

START_TEST(later_writes_change_one_of_them)
{
	put_pattern(from, 0, BYTES, 1);
	copy(from, 0, to, 0, BYTES);
	put_pattern(from, 3 * FS_BLOCK + 10, 100, 2);
	put_pattern(to, 7 * FS_BLOCK, FS_BLOCK, 3);
	sync_file(from);
	sync_file(to);
	volume_crash();
	expect_pattern(from, 3 * FS_BLOCK + 10, 100, 2);
	expect_pattern(from, 4 * FS_BLOCK, BYTES - 4 * FS_BLOCK, 1);
	expect_pattern(to, 0, 7 * FS_BLOCK, 1);
	expect_pattern(to, 7 * FS_BLOCK, FS_BLOCK, 3);
	expect_pattern(to, 8 * FS_BLOCK, BYTES - 8 * FS_BLOCK, 1);
}
END_TEST

START_TEST(ragged_ends_are_copied)
{
	uint64_t before;

	put_pattern(from, 0, BYTES + 1000, 1);
	put_pattern(to, 0, BYTES + 5000, 2);
	before = blocks_free();
	copy(from, 100, to, 100, BYTES + 900);
	ck_assert_uint_eq(blocks_free(), before + BLOCKS - 1);
	expect_pattern(to, 0, 100, 2);
	expect_pattern(to, 100, BYTES + 900, 1);
	expect_pattern(to, BYTES + 1000, 4000, 2);
	/* To the end of both: all of it is shared. */
	set_size(to, 0);
	copy(from, 0, to, 0, BYTES + 1000);
	ck_assert_uint_eq(blocks_free(), before + BLOCKS + 2);
	expect_size(to, BYTES + 1000);
	set_size(to, BYTES + FS_BLOCK);
	expect_zeros(to, BYTES + 1000, FS_BLOCK - 1000);
	/* No block of one is a block of the other. */
	copy(from, 1, to, 2, 3 * FS_BLOCK);
	expect_alike(1, 2, 3 * FS_BLOCK);
}
END_TEST

START_TEST(the_end_of_the_source_is_the_end)
{
	put_pattern(from, 0, 10000, 1);
	ck_assert_int_eq(fs_copy_range(fs, from, 4096, to, 0, BYTES), 10000 - 4096);
	expect_size(to, 10000 - 4096);
	ck_assert_int_eq(fs_copy_range(fs, from, 10000, to, 0, BYTES), 0);
	ck_assert_int_eq(fs_copy_range(fs, from, 0, to, FS_SIZE_MAX - 5, 10), -EFBIG);
	ck_assert_int_eq(fs_copy_range(fs, ROOT, 0, to, 0, 10), -EISDIR);
}
END_TEST

START_TEST(within_a_file_it_must_not_overlap)
{
	put_pattern(from, 0, BYTES, 1);
	ck_assert_int_eq(fs_copy_range(fs, from, 0, from, FS_BLOCK, 2 * FS_BLOCK), -EINVAL);
	ck_assert_int_eq(fs_copy_range(fs, from, FS_BLOCK, from, 0, 2 * FS_BLOCK), -EINVAL);
	ck_assert_int_eq(fs_copy_range(fs, from, 0, from, 0, 1), -EINVAL);
	copy(from, 0, from, 100 * FS_BLOCK, 100 * FS_BLOCK);
	to = from;
	expect_alike(0, 100 * FS_BLOCK, 100 * FS_BLOCK);
	put_pattern(from, 100 * FS_BLOCK, FS_BLOCK, 5);
	expect_pattern(from, 0, 100 * FS_BLOCK, 1);
}
END_TEST

START_TEST(the_last_copy_frees_the_blocks)
{
	uint64_t before = blocks_free(), copies[5];

	put_pattern(from, 0, BYTES, 1);
	for (int i = 0; i < 5; i++) {
		char name[] = "copy-0";

		name[5] = (char)('0' + i);
		copies[i] = make_file(ROOT, name);
		copy(i ? copies[i - 1] : from, 0, copies[i], 0, BYTES);
		ck_assert_int_eq(fs_unlink(fs, ROOT, i ? (name[5]--, name) : "from"), 0);
		ck_assert_int_eq(fs_forget(fs, i ? copies[i - 1] : from, 1), 0);
		ck_assert_uint_eq(blocks_free(), before - BLOCKS);
		expect_pattern(copies[i], 0, BYTES, 1);
	}
	ck_assert_int_eq(fs_unlink(fs, ROOT, "copy-4"), 0);
	ck_assert_int_eq(fs_forget(fs, copies[4], 1), 0);
	ck_assert_uint_eq(blocks_free(), before);
}
END_TEST

static void copy_on_the_side(void *got)
{
	*(ssize_t *)got = fs_copy_range(fs, from, 0, to, 0, BYTES);
}

/* The copy has looked at the size of the source when it waits for its content. */
START_TEST(a_source_that_is_cut_meanwhile_ends_there)
{
	struct inode *inode;
	struct thread thread;
	ssize_t got;

	put_pattern(from, 0, BYTES, 1);
	put_pattern(to, 0, BYTES, 2);
	ck_assert_int_eq(inode_get(fs, from, &inode), 0);
	rwlock_write(&inode->content);
	ck_assert_int_eq(thread_start(&thread, "copy", copy_on_the_side, &got), 0);
	usleep(50000); /* if that is too short, the test says less */
	ck_assert_int_eq(truncate_to(inode, 10 * FS_BLOCK + 100, false), 0);
	rwlock_unlock(&inode->content);
	inode_put(inode);
	thread_join(&thread);
	ck_assert_int_eq(got, 10 * FS_BLOCK + 100);
	expect_size(to, BYTES);
	expect_pattern(to, 0, 10 * FS_BLOCK + 100, 1);
	expect_pattern(to, 11 * FS_BLOCK, BYTES - 11 * FS_BLOCK, 2);
}
END_TEST

/* Its times are those of a file that was written to. */
START_TEST(the_target_was_modified)
{
	struct fs_attr before, after;

	put_pattern(from, 0, BYTES, 1);
	before = attr_of(to);
	copy(from, 0, to, 0, BYTES);
	after = attr_of(to);
	ck_assert(after.st.st_mtim.tv_sec > before.st.st_mtim.tv_sec ||
		  after.st.st_mtim.tv_nsec > before.st.st_mtim.tv_nsec);
	ck_assert_mem_eq(&after.st.st_mtim, &after.st.st_ctim, sizeof(after.st.st_mtim));
}
END_TEST

Suite *copy_suite(void)
{
	Suite *suite = suite_create("copy");
	TCase *tcase = tcase_create("copy");

	tcase_add_checked_fixture(tcase, setup, volume_teardown);
	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, what_is_dirty_is_copied);
	tcase_add_test(tcase, what_the_target_had_is_gone);
	tcase_add_test(tcase, later_writes_change_one_of_them);
	tcase_add_test(tcase, ragged_ends_are_copied);
	tcase_add_test(tcase, the_end_of_the_source_is_the_end);
	tcase_add_test(tcase, within_a_file_it_must_not_overlap);
	tcase_add_test(tcase, the_last_copy_frees_the_blocks);
	tcase_add_test(tcase, a_source_that_is_cut_meanwhile_ends_there);
	tcase_add_test(tcase, the_target_was_modified);
	suite_add_tcase(suite, tcase);
	return suite;
}
