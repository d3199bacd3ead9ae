/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fixture.h"

#include <stdio.h>

START_TEST(what_fsync_acknowledged_survives_a_crash)
{
	uint64_t file = make_file(ROOT, "file");
	static const size_t lengths[] = { 1, 4096, 65536, 65537, 3 << 20 };

	put_pattern(file, 0, lengths[_i], 1);
	ck_assert_int_eq(fs_fsync(fs, file, _i & 1, NULL), 0);
	put_pattern(file, 0, 100, 2); /* not acknowledged */
	volume_crash();
	ck_assert_uint_eq(find(ROOT, "file"), file);
	expect_size(file, lengths[_i]);
	expect_pattern(file, 0, lengths[_i], 1);
}
END_TEST

START_TEST(an_fsync_through_another_struct_in_memory_counts)
{
	uint64_t file = make_file(ROOT, "file");

	put_pattern(file, 0, 10000, 1);
	fs_forget(fs, file, 1); /* written out and gone from memory, not durable */
	sync_file(file);
	volume_crash();
	expect_pattern(file, 0, 10000, 1);
}
END_TEST

START_TEST(the_size_on_disk_never_runs_ahead_of_the_data)
{
	uint64_t file = make_file(ROOT, "file");
	static unsigned char block[FS_BLOCK];

	put_pattern(file, 0, 4 * FS_BLOCK, 1);
	sync_file(file);
	put_pattern(file, 4 * FS_BLOCK, 100 * FS_BLOCK, 1);
	/* Logs the item, for another reason, and makes that durable. */
	ck_assert_int_eq(fs_setattr(fs, file, FS_SET_MODE, &(struct fs_attr){ .st.st_mode = 0600 }), 0);
	sync_names();
	volume_crash();
	expect_size(file, 4 * FS_BLOCK);
	ck_assert_uint_eq(attr_of(file).st.st_mode & 07777, 0600);
	expect_pattern(file, 0, 4 * FS_BLOCK, 1);
	ck_assert_int_eq(fs_write(fs, file, block, FS_BLOCK, 0, FS_WRITE_THROUGH), FS_BLOCK);
}
END_TEST

static uint64_t look(uint64_t dir, const char *name)
{
	struct fs_attr attr;

	ck_assert_int_eq(fs_lookup(fs, dir, name, &attr), 0);
	return attr.st.st_ino;
}

/* `sync DIR` behind a copy; the kernel passes no sync(2) on. */
START_TEST(a_directory_that_is_synced_brings_what_lies_below)
{
	uint64_t top = make_dir(ROOT, "top"), deep = make_dir(make_dir(top, "a"), "b"), other = make_dir(ROOT, "other");
	uint64_t old, here, below, beside, moved;

	make_file(deep, "old");
	make_file(other, "moved");
	volume_remount();
	ck_assert_uint_eq(look(look(look(ROOT, "top"), "a"), "b"), deep);
	old = look(deep, "old");
	here = make_file(look(ROOT, "top"), "here");
	below = make_file(deep, "below");
	beside = make_file(look(ROOT, "other"), "beside");
	moved = look(other, "moved");
	put_pattern(here, 0, 5000, 1);
	put_pattern(below, 0, 300000, 1);
	put_pattern(beside, 0, 300000, 1); /* what is little may go with the others */
	put_pattern(old, 0, 5000, 1);
	ck_assert_int_eq(fs_rename(fs, &caller, other, "moved", deep, "moved", 0), 0);
	put_pattern(moved, 0, 300000, 1);
	sync_file(top);
	volume_crash();
	expect_pattern(here, 0, 5000, 1);
	expect_pattern(below, 0, 300000, 1);
	expect_pattern(old, 0, 5000, 1);
	expect_pattern(moved, 0, 300000, 1);
	expect_size(beside, 0);
}
END_TEST

static void sync_on_the_side(void *dir)
{
	sync_file(*(uint64_t *)dir);
}

/* More than somebody takes at a time, beside as many that lie elsewhere; twice at once. */
START_TEST(a_directory_of_many_files_is_brought_whole)
{
	uint64_t top = make_dir(ROOT, "top"), other = make_dir(ROOT, "other"), files[300];
	struct thread twin;
	char name[16];

	for (unsigned int i = 0; i < 300; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		files[i] = make_file(top, name);
		put_pattern(files[i], 0, 5000, i);
		put_pattern(make_file(other, name), 0, 5000, i);
	}
	ck_assert_int_eq(thread_start(&twin, "twin", sync_on_the_side, &top), 0);
	sync_file(top);
	thread_join(&twin);
	volume_crash();
	for (unsigned int i = 0; i < 300; i++)
		expect_pattern(files[i], 0, 5000, i);
}
END_TEST

START_TEST(what_is_written_again_is_brought_again)
{
	uint64_t dir = make_dir(ROOT, "dir"), file = make_file(dir, "file");

	for (unsigned int i = 1; i < 4; i++) {
		put_pattern(file, 0, 5000, i);
		sync_file(dir);
		sync_file(dir); /* finds that there is nothing to do */
	}
	volume_crash();
	expect_pattern(file, 0, 5000, 3);
}
END_TEST

START_TEST(bytes_behind_the_end_are_zeros_on_disk)
{
	uint64_t file = make_file(ROOT, "file");

	put_pattern(file, 0, 5000, 1);
	sync_file(file);
	put_bytes(file, 5000, "ab", 2);
	sync_file(file);
	cache_drop_clean(cache);
	put_bytes(file, 8191, "c", 1);
	expect_zeros(file, 5002, 8191 - 5002);
}
END_TEST

static void write_anew(void *arg)
{
	put_pattern(*(uint64_t *)arg, 0, 3000, 2);
}

START_TEST(a_page_dirtied_during_its_write_out_is_written_again)
{
	uint64_t file = make_file(ROOT, "file");
	struct cache_page *page;
	struct writeout wo;
	struct thread writer;
	struct inode *inode;

	put_pattern(file, 0, 3000, 1);
	ck_assert_int_eq(inode_get(fs, file, &inode), 0);
	ck_assert_int_eq(filepage_get(inode, 0, &page), 0);
	ck_assert(cache_write_begin(page));
	mutex_lock(&inode->log);
	ck_assert_int_eq(writeout_begin(&wo, fs), 0);
	ck_assert_int_eq(writeout_add(&wo, inode, &page, 1, 1), 1);
	ck_assert_int_eq(thread_start(&writer, "writer", write_anew, &file), 0);
	thread_join(&writer);
	ck_assert_int_eq(writeout_commit(&wo), 0);
	mutex_unlock(&inode->log);
	cache_written(page, 0);
	ck_assert_int_eq(filepage_mark(page), PAGE_PROMISED);
	cache_put(page);
	inode_put(inode);
	ck_assert(cache_range_dirty(&inode->space, 0, 0));
	volume_remount();
	expect_pattern(file, 0, 3000, 2);
}
END_TEST

static void expect_blocks(uint64_t file, bool pending)
{
	struct fs_attr attr = attr_of(file);

	ck_assert_int_eq(attr.st.st_blocks, 8);
	ck_assert_int_eq(attr.blocks_pending, pending);
}

/* Neither waiting nor counted yet: whoever asks just then is not told that the file is a hole, for ever. */
START_TEST(blocks_on_their_way_to_the_legs_are_counted_and_not_final)
{
	uint64_t file = make_file(ROOT, "file");
	struct cache_page *page;
	struct writeout wo;
	struct inode *inode;

	put_pattern(file, 0, 3000, 1);
	expect_blocks(file, true);
	ck_assert_int_eq(inode_get(fs, file, &inode), 0);
	ck_assert_int_eq(filepage_get(inode, 0, &page), 0);
	ck_assert(cache_write_begin(page));
	mutex_lock(&inode->log);
	ck_assert_int_eq(writeout_begin(&wo, fs), 0);
	ck_assert_int_eq(writeout_add(&wo, inode, &page, 1, 1), 1);
	expect_blocks(file, true);
	ck_assert_int_eq(writeout_commit(&wo), 0);
	mutex_unlock(&inode->log);
	cache_written(page, 0);
	cache_put(page);
	inode_put(inode);
	expect_blocks(file, false);
}
END_TEST

START_TEST(many_writes_and_syncs_leave_the_latest)
{
	uint64_t file = make_file(ROOT, "file");

	for (unsigned int round = 0; round < 20; round++) {
		put_pattern(file, 0, 300000, round);
		put_pattern(file, 100, 300, round + 1);
		sync_file(file);
		put_pattern(file, 100, 300, round);
		sync_file(file);
		cache_drop_clean(cache);
		expect_pattern(file, 0, 300000, round);
	}
}
END_TEST

START_TEST(a_file_written_in_order_lies_in_order)
{
	uint64_t file = make_file(ROOT, "file"), expected = 0;
	struct meta_mapping mapping;

	for (int i = 0; i < 4; i++) {
		put_pattern(file, (uint64_t)i << 20, 1 << 20, 1);
		sync_file(file);
	}
	for (uint64_t block = 0; block < 1024; block += mapping.count) {
		ck_assert_int_eq(meta_map(meta, file, block, 256, &mapping), 0);
		ck_assert_uint_ne(mapping.address, 0);
		if (block)
			ck_assert_uint_eq(mapping.address, expected);
		expected = mapping.address + mapping.count;
	}
}
END_TEST

/* Three pages that cannot be written out, as behind a failure that took their promises; the caller holds the room. */
static struct inode *file_that_fails(uint64_t file)
{
	struct inode *inode;

	put_pattern(file, 0, 10000, 1);
	sync_file(file);
	ck_assert_int_eq(meta_promise(meta, 3), 0);
	volume_fill();
	meta_unpromise(meta, 3);
	put_pattern(file, 0, 10000, 2);
	ck_assert_int_eq(inode_get(fs, file, &inode), 0);
	for (uint64_t i = 0; i < 3; i++) {
		struct cache_page *page;

		ck_assert_int_eq(filepage_get(inode, i, &page), 0);
		mutex_lock(&inode->state);
		filepage_set_mark(inode, page, PAGE_UNPROMISED);
		mutex_unlock(&inode->state);
		cache_put(page);
	}
	meta_unpromise(meta, 3);
	ck_assert_int_eq(meta_promise(meta, 3), 0);
	return inode;
}

START_TEST(a_failed_write_out_is_told_once_to_each_open_file)
{
	uint64_t file = make_file(ROOT, "file"), first, second, third;
	struct inode *inode;

	ck_assert_int_eq(fs_error_mark(fs, file, &first), 0);
	ck_assert_int_eq(fs_error_mark(fs, file, &second), 0);
	inode = file_that_fails(file);
	ck_assert_int_eq(fs_fsync(fs, file, false, &first), -ENOSPC);
	/* It is tried again for everyone who asks, and by itself. */
	ck_assert_int_eq(fs_fsync(fs, file, false, &first), -ENOSPC);
	ck_assert_int_eq(fs_sync(fs), -ENOSPC);
	/* The pages stayed dirty, so with room the next one writes them. */
	meta_unpromise(meta, 3);
	ck_assert_int_eq(fs_fsync(fs, file, false, &first), 0);
	ck_assert_int_eq(fs_fsync(fs, file, false, &second), -ENOSPC);
	ck_assert_int_eq(fs_fsync(fs, file, false, &second), 0);
	ck_assert_int_eq(fs_error_mark(fs, file, &third), 0);
	ck_assert_int_eq(fs_fsync(fs, file, false, &third), 0);
	inode_put(inode);
	volume_remount();
	expect_pattern(file, 0, 10000, 2);
}
END_TEST

START_TEST(a_failure_of_which_nobody_heard_is_told_to_who_opens_the_file_next)
{
	uint64_t file = make_file(ROOT, "file"), first, second, knows;
	struct inode *inode = file_that_fails(file);

	ck_assert_int_eq(fs_sync(fs), -ENOSPC);
	meta_unpromise(meta, 3);
	ck_assert_int_eq(fs_error_mark(fs, file, &first), 0);
	ck_assert_int_eq(fs_error_mark(fs, file, &knows), 0);
	ck_assert_int_eq(fs_fsync(fs, file, false, &first), -ENOSPC);
	ck_assert_int_eq(fs_fsync(fs, file, false, &first), 0);
	ck_assert_int_eq(fs_error_mark(fs, file, &second), 0);
	ck_assert_int_eq(fs_fsync(fs, file, false, &second), 0);
	fs_error_told(fs, file, &knows);
	ck_assert_int_eq(fs_fsync(fs, file, false, &knows), 0);
	inode_put(inode);
}
END_TEST

START_TEST(an_fsync_writes_no_other_file)
{
	uint64_t file = make_file(ROOT, "file"), others[20];
	struct cache_stats stats;
	char name[32];

	for (int i = 0; i < 20; i++) {
		snprintf(name, sizeof(name), "other%d", i);
		others[i] = make_file(ROOT, name);
		put_pattern(others[i], 0, 20 * FS_BLOCK, 2);
	}
	/* Much, and so little that it goes into the record. */
	for (size_t length = 400 * FS_BLOCK; length; length = length > FS_BLOCK ? FS_BLOCK : 0) {
		put_pattern(file, 0, length, 1);
		sync_file(file);
		cache_stats(cache, &stats);
		ck_assert_uint_eq(stats.class[CACHE_DATA].dirty + stats.class[CACHE_DATA].writing, 20 * 20);
	}
	volume_crash();
	expect_pattern(file, 0, 400 * FS_BLOCK, 1);
}
END_TEST

static uint64_t make_in(const uint64_t *dirs, unsigned int dir_count, unsigned int i)
{
	char name[32];

	snprintf(name, sizeof(name), "file%u", i);
	return make_file(dirs[i % dir_count], name);
}

START_TEST(small_files_written_together_are_few_writes_of_a_leg)
{
	const uint64_t dirs[] = { make_dir(ROOT, "a"), make_dir(ROOT, "b"), make_dir(ROOT, "c") };
	uint64_t files[256], before[2];

	for (unsigned int i = 0; i < 256; i++) {
		files[i] = make_in(dirs, 3, i);
		put_pattern(files[i], 0, 3000, i);
	}
	ck_assert_int_eq(meta_sync(meta, meta_sequence(meta)), 0); /* the names */
	for (int leg = 0; leg < 2; leg++)
		before[leg] = volume_writes(leg);
	ck_assert_int_eq(fs_sync(fs), 0);
	for (int leg = 0; leg < 2; leg++)
		ck_assert_uint_le(volume_writes(leg) - before[leg], 12); /* of data, and of the ring */
	volume_crash();
	for (unsigned int i = 0; i < 256; i++)
		expect_pattern(files[i], 0, 3000, i);
}
END_TEST

START_TEST(small_changes_of_old_files_go_together_too)
{
	uint64_t files[100], dir = make_dir(ROOT, "dir");

	for (unsigned int i = 0; i < 100; i++) {
		files[i] = make_in(&dir, 1, i);
		put_pattern(files[i], 0, (1 + i % 3) * 4000, i);
		if (i % 5 == 0)
			set_size(files[i], 300000 + i);
	}
	ck_assert_int_eq(fs_sync(fs), 0);
	for (unsigned int round = 1; round < 4; round++) {
		for (unsigned int i = 0; i < 100; i++) {
			put_pattern(files[i], (i % 7) * 3000, 3000, i);
			if (i % 11 == round)
				put_pattern(files[i], 100 * 4096, 300000, i); /* not so small */
		}
		ck_assert_int_eq(fs_sync(fs), 0);
		volume_remount();
		for (unsigned int i = 0; i < 100; i++) {
			expect_pattern(files[i], (i % 7) * 3000, 3000, i);
			expect_pattern(files[i], 0, 3000, i);
			if (i % 11 == round)
				expect_pattern(files[i], 100 * 4096, 300000, i);
		}
	}
}
END_TEST

START_TEST(pages_synced_here_and_there_go_home_together)
{
	uint64_t file = make_file(ROOT, "file"), before = 0, address, writes;
	unsigned int scattered = 0;

	put_pattern(file, 0, 512 * FS_BLOCK, 1);
	sync_file(file);
	for (uint64_t block = 0; block < 512; block += 3) {
		put_pattern(file, block * FS_BLOCK, FS_BLOCK, 3);
		sync_file(file);
	}
	ck_assert_int_eq(meta_checkpoint(meta), 0); /* there is room here and there */
	writes = volume_writes(0);
	for (unsigned int i = 0; i < 60; i++) {
		uint64_t block = i * 199 % 512;

		put_pattern(file, block * FS_BLOCK, FS_BLOCK, 2);
		sync_file(file);
		ck_assert_int_eq(meta_where(meta, file, block, &address), 0);
		scattered += address != before + 1;
		before = address;
	}
	ck_assert_uint_eq(volume_writes(0), writes + 60); /* records */
	ck_assert_uint_le(scattered, 2);
	volume_crash();
	for (unsigned int i = 0; i < 60; i++)
		expect_pattern(file, i * 199 % 512 * FS_BLOCK, FS_BLOCK, 2);
}
END_TEST

START_TEST(a_sync_makes_everything_durable)
{
	uint64_t a = make_file(ROOT, "a"), b = make_file(make_dir(ROOT, "dir"), "b");
	struct fs_stats stats;

	put_pattern(a, 0, 100000, 1);
	put_pattern(b, 7, 100, 2);
	ck_assert_int_eq(fs_sync(fs), 0);
	fs_stats(fs, &stats);
	ck_assert_uint_eq(stats.dirty_inodes, 0);
	volume_crash();
	expect_pattern(a, 0, 100000, 1);
	expect_pattern(b, 7, 100, 2);
}
END_TEST

/* Whoever gathers waits for the tree with a buffer in hand. */
START_TEST(the_tree_is_read_and_written_while_write_outs_have_all_the_buffers_they_get)
{
	uint64_t file = make_file(ROOT, "file");
	struct iobuf_pool *pool;
	struct iobuf *kept[64];
	unsigned int count = 0;

	put_pattern(file, 0, 3 * FS_BLOCK, 1);
	volume_remount();
	pool = mirror_pool(meta_mirror(meta));
	while (count < 64 && (kept[count] = iobuf_try_get_kept(pool, IOBUF_MAX)))
		count++;
	ck_assert_uint_gt(count, 0);
	ck_assert_uint_lt(count, 64);
	file = find(ROOT, "file");
	expect_pattern(file, 0, 3 * FS_BLOCK, 1);
	make_dir(ROOT, "beside");
	ck_assert_int_eq(meta_checkpoint(meta), 0);
	while (count)
		iobuf_put(kept[--count]);
}
END_TEST

Suite *writeout_suite(void)
{
	Suite *suite = suite_create("writeout");
	TCase *tests = tcase_create("writeout"), *small = tcase_create("small");

	tcase_add_checked_fixture(tests, volume_setup, volume_teardown);
	tcase_set_timeout(tests, 60);
	tcase_add_loop_test(tests, what_fsync_acknowledged_survives_a_crash, 0, 5);
	tcase_add_test(tests, an_fsync_through_another_struct_in_memory_counts);
	tcase_add_test(tests, the_size_on_disk_never_runs_ahead_of_the_data);
	tcase_add_test(tests, a_directory_that_is_synced_brings_what_lies_below);
	tcase_add_test(tests, a_directory_of_many_files_is_brought_whole);
	tcase_add_test(tests, what_is_written_again_is_brought_again);
	tcase_add_test(tests, bytes_behind_the_end_are_zeros_on_disk);
	tcase_add_test(tests, a_page_dirtied_during_its_write_out_is_written_again);
	tcase_add_test(tests, blocks_on_their_way_to_the_legs_are_counted_and_not_final);
	tcase_add_test(tests, many_writes_and_syncs_leave_the_latest);
	tcase_add_test(tests, a_file_written_in_order_lies_in_order);
	tcase_add_test(tests, an_fsync_writes_no_other_file);
	tcase_add_test(tests, small_files_written_together_are_few_writes_of_a_leg);
	tcase_add_test(tests, small_changes_of_old_files_go_together_too);
	tcase_add_test(tests, pages_synced_here_and_there_go_home_together);
	tcase_add_test(tests, a_sync_makes_everything_durable);
	tcase_add_test(tests, the_tree_is_read_and_written_while_write_outs_have_all_the_buffers_they_get);
	suite_add_tcase(suite, tests);
	tcase_add_checked_fixture(small, volume_setup_small, volume_teardown);
	tcase_set_timeout(small, 60);
	tcase_add_test(small, a_failed_write_out_is_told_once_to_each_open_file);
	tcase_add_test(small, a_failure_of_which_nobody_heard_is_told_to_who_opens_the_file_next);
	suite_add_tcase(suite, small);
	return suite;
}
