/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who may have space, and when freed space may be had again (I9). */
#include "fixture.h"

#define FILE1 100
#define FILE2 101

static struct meta_statfs statfs_now(void)
{
	struct meta_statfs st;

	meta_statfs(meta, &st);
	ck_assert_uint_le(st.available, st.free);
	ck_assert_uint_le(st.free, st.blocks);
	return st;
}

static void expect_same_space(const struct meta_statfs *wanted)
{
	struct meta_statfs st = statfs_now();

	ck_assert_uint_eq(st.blocks, wanted->blocks);
	ck_assert_uint_eq(st.free, wanted->free);
	ck_assert_uint_eq(st.available, wanted->available);
}

START_TEST(no_more_is_promised_than_there_is)
{
	const struct meta_statfs st = statfs_now();

	ck_assert_uint_gt(st.available, 1000);
	ck_assert_int_eq(meta_promise(meta, st.available + 1), -ENOSPC);
	ck_assert_int_eq(meta_promise(meta, st.available), 0);
	ck_assert_int_eq(meta_promise(meta, 1), -ENOSPC);
	ck_assert_uint_eq(statfs_now().available, 0);
	ck_assert_uint_eq(statfs_now().free, st.free);
	meta_unpromise(meta, 1);
	ck_assert_int_eq(meta_promise(meta, 1), 0);
	meta_unpromise(meta, st.available);
	expect_same_space(&st);
}
END_TEST

START_TEST(an_aborted_transaction_gives_its_blocks_back)
{
	const struct meta_statfs before = statfs_now();
	struct meta_txn *txn = meta_txn_begin(meta);
	struct range_extent got;

	ck_assert_int_eq(meta_promise(meta, 20), 0);
	ck_assert_int_eq(meta_alloc(txn, &(struct meta_aim){ .at_least = 1 }, 12, &got), 0);
	ck_assert_uint_eq(got.length, 12);
	ck_assert(range_is_taken(meta->data_range, got.start, 12));
	meta_txn_abort(txn);
	meta_unpromise(meta, 8); /* what was taken came out of the promise */
	alloc_release(meta);
	ck_assert(is_free(got.start, 12));
	expect_same_space(&before);
}
END_TEST

START_TEST(a_refused_commit_gives_its_blocks_back)
{
	const struct meta_statfs before = statfs_now();
	static const unsigned char value[NODE_VALUE_MAX];
	struct put put;

	put_begin(&put, FILE1, 0, 16, 1, false, 0);
	ck_assert_int_eq(put_wait(&put), 0);
	put_map(&put);
	for (uint64_t i = 0; i < 70; i++) {
		struct meta_key key = item_key(FILE1, i);

		meta_txn_put(put.txn, &key, value, sizeof(value));
	}
	ck_assert_int_eq(meta_txn_commit(put.txn, NULL), -ENOSPC);
	alloc_release(meta);
	ck_assert(is_free(put.extent.start, 16));
	expect_same_space(&before);
	expect_hole(FILE1, 0, 16);
}
END_TEST

START_TEST(freed_blocks_wait_for_the_checkpoint_that_freed_them)
{
	struct range_extent where;

	put_file(FILE1, 0, 8, 1, false, 0, &where);
	sync_all();
	punch(FILE1, 2, 6);
	sync_all();
	alloc_release(meta);
	for (uint64_t i = 0; i < 8; i++)
		ck_assert(range_is_taken(meta->data_range, where.start + i, 1));
	ck_assert_int_eq(meta_checkpoint(meta), 0);
	ck_assert(is_free(where.start + 2, 4));
	ck_assert(!is_free(where.start, 2));
	ck_assert(!is_free(where.start + 6, 2));
}
END_TEST

START_TEST(freed_blocks_wait_for_who_looked_them_up_before)
{
	struct range_extent where;
	struct mirror_pin *pin, *later;

	put_file(FILE1, 0, 8, 1, false, 0, &where);
	sync_all();
	pin = mirror_pin(mirror);
	punch(FILE1, 0, 8);
	ck_assert_int_eq(meta_checkpoint(meta), 0);
	later = mirror_pin(mirror);
	alloc_release(meta);
	ck_assert(range_is_taken(meta->data_range, where.start, 8));
	ck_assert_uint_ge(statfs_now().free, 8);
	mirror_pin_put(pin);
	alloc_release(meta);
	ck_assert(is_free(where.start, 8));
	mirror_pin_put(later);
}
END_TEST

START_TEST(old_nodes_wait_for_who_reads_them)
{
	uint64_t root = le64_get(disk_super(0, true)->root.address);
	struct mirror_pin *pin = mirror_pin(mirror);

	put_item(FILE1, 1, 1, 10);
	ck_assert_int_eq(meta_checkpoint(meta), 0);
	alloc_release(meta);
	ck_assert(range_is_taken(meta->node_range, root, NODE_BLOCKS));
	mirror_pin_put(pin);
	alloc_release(meta);
	ck_assert(is_free(root, NODE_BLOCKS));
}
END_TEST

/* A write in flight to blocks of an aborted transaction: nobody else gets them before it has ended. */
START_TEST(blocks_being_written_are_not_had_again)
{
	struct put put;

	disk_fails(1, LEG_WRITE, meta->boundary, (uint32_t)(meta->heap_end - meta->boundary), FAKE_HANG);
	put_begin(&put, FILE1, 0, 4, 1, false, 0);
	disk_wait_hanging(disks[1], 1);
	meta_txn_abort(put.txn);
	alloc_release(meta);
	ck_assert(range_is_taken(meta->data_range, put.extent.start, 4));
	disks_work();
	disk_release(disks[1], 0);
	ck_assert_int_eq(put_wait(&put), 0);
	ck_assert(mirror_pins_passed(mirror) > 0);
	volume_remount();
	ck_assert(is_free(put.extent.start, 4));
}
END_TEST

START_TEST(a_file_grows_in_place)
{
	struct range_extent first, second;

	put_file(FILE1, 0, 8, 1, true, 0, &first);
	put_file(FILE1, 8, 8, 2, true, first.start + 8, &second);
	ck_assert_uint_eq(second.start, first.start + 8);
}
END_TEST

START_TEST(nodes_lie_below_file_data)
{
	static uint64_t nodes[4096];
	size_t count;

	for (unsigned int i = 0; i < 40; i++) {
		struct range_extent where;

		put_file(FILE1 + i, 0, 16, i, false, 0, &where);
		ck_assert_uint_ge(where.start, meta->boundary);
		for (unsigned int j = 0; j < 40; j++)
			put_item(FILE1 + i, j, i, 200);
		ck_assert_int_eq(meta_checkpoint(meta), 0);
	}
	count = disk_nodes(disk_super(0, true), nodes, 4096);
	ck_assert_uint_gt(count, 10);
	for (size_t i = 0; i < count; i++)
		ck_assert_uint_lt(nodes[i], meta->boundary);
}
END_TEST

START_TEST(freed_ranges_are_discarded_only_if_asked_for)
{
	volume_unmount();
	discard = _i;
	volume_mount(false);
	put_file(FILE1, 0, 64, 1, false, 0, NULL);
	punch(FILE1, 0, 64);
	ck_assert_uint_eq(disk_count(disks[0], LEG_DISCARD), 0);
	ck_assert_int_eq(meta_checkpoint(meta), 0);
	ck_assert_int_eq(disk_count(disks[0], LEG_DISCARD) > 0, _i);
	ck_assert_int_eq(disk_count(disks[1], LEG_DISCARD) > 0, _i);
	if (_i) {
		ck_assert_uint_eq(disk_last_length(disks[0], LEG_DISCARD), 64 * FORMAT_BLOCK);
	}
}
END_TEST

static unsigned int fill_with_data(void)
{
	unsigned int files = 0;

	for (uint32_t blocks = EXTENT_BLOCKS_MAX; blocks; blocks /= 2) {
		while (meta_promise(meta, blocks) == 0) {
			meta_unpromise(meta, blocks);
			put_file(FILE1 + files, 0, blocks, files, false, 0, NULL);
			files++;
		}
	}
	return files;
}

START_TEST(a_full_volume_makes_room_by_deleting)
{
	const struct meta_statfs empty = statfs_now();
	unsigned int files = fill_with_data();
	struct range_extent where;

	ck_assert_uint_eq(statfs_now().available, 0);
	put_item(FILE1, 1, 1, 100); /* metadata has its reserve */
	for (unsigned int i = 0; i < files; i += 2)
		punch(FILE1 + i, 0, EXTENT_BLOCKS_MAX);
	ck_assert_int_eq(meta_promise(meta, 200), 0); /* it sees to it that what was freed comes back */
	meta_unpromise(meta, 200);
	put_file(FILE2 - 1, 0, 100, 9, false, 0, &where);
	volume_remount();
	expect_file(FILE2 - 1, 0, 100, 9);
	for (unsigned int i = 1; i < files; i += 2)
		expect_file(FILE1 + i, 0, 1, i);
	for (unsigned int i = 0; i < files; i++)
		punch(FILE1 + i, 0, EXTENT_BLOCKS_MAX);
	ck_assert_int_eq(meta_checkpoint(meta), 0);
	volume_remount();
	expect_same_space(&empty);
}
END_TEST

START_TEST(a_volume_full_of_metadata_makes_room_by_deleting)
{
	uint64_t number = 0, kept;
	int error;

	fill_with_data();
	while (!(error = try_put_item(FILE1, number, 1, NODE_VALUE_MAX)))
		number++;
	ck_assert_int_eq(error, -ENOSPC);
	ck_assert_uint_gt(number, 100);
	kept = number / 2;
	for (uint64_t i = 0; i < number; i++) {
		if (i != kept)
			delete_item(FILE1, i);
	}
	put_item(FILE1, number, 1, NODE_VALUE_MAX);
	volume_remount();
	expect_item(FILE1, kept, 1, NODE_VALUE_MAX);
	expect_item(FILE1, number, 1, NODE_VALUE_MAX);
	expect_item(FILE1, 0, 1, -ENOENT);
}
END_TEST

START_TEST(what_was_promised_can_be_written_on_a_full_volume)
{
	uint64_t number = 0;

	ck_assert_int_eq(meta_promise(meta, 512), 0);
	fill_with_data();
	while (!try_put_item(FILE1, number, 1, NODE_VALUE_MAX))
		number++;
	for (unsigned int i = 0; i < 32; i++) {
		struct put put;

		put_take(&put, meta_txn_begin(meta), FILE2, 16 * i, 16, i, i & 1, 0);
		ck_assert_int_eq(put_wait(&put), 0);
		put_commit(&put);
	}
	volume_remount();
	for (unsigned int i = 0; i < 32; i++)
		expect_file(FILE2, 16 * i, 16, i);
}
END_TEST

START_TEST(a_mount_finds_the_same_space)
{
	struct meta_statfs st;
	struct meta_super_info before, after;

	for (unsigned int i = 0; i < 20; i++)
		put_file(FILE1, i * 7, 10, i, i & 1, 0, NULL);
	punch(FILE1, 3, 9);
	sync_all();
	st = statfs_now();
	meta_super_info(meta, &before);
	ck_assert_uint_eq(before.data_blocks, 19 * 7 + 10 - 6);
	ck_assert_uint_eq(st.blocks - st.free, before.data_blocks);
	for (int i = 0; i < 2; i++) {
		if (i)
			volume_remount();
		else
			volume_crash();
		expect_same_space(&st);
		meta_super_info(meta, &after);
		ck_assert_uint_eq(after.data_blocks, before.data_blocks);
	}
}
END_TEST

/* A promise of much data asks for nodes to map it with; these may come from chunks. */
START_TEST(much_can_be_promised_when_few_nodes_are_left)
{
	uint64_t available = statfs_now().available, promised = 0;

	rwlock_write(&meta->tree_lock);
	ck_assert_int_eq(alloc_spare(meta, 220, 0), 0);
	rwlock_unlock(&meta->tree_lock);
	while (promised < available * 9 / 10) {
		ck_assert_int_eq(meta_promise(meta, 100), 0);
		promised += 100;
	}
	meta_unpromise(meta, promised);
}
END_TEST

/* What nodes had above the boundary, and none was in, is theirs no more after a mount: the reserve has to be sought. */
START_TEST(there_is_room_in_a_tree_that_outgrew_its_place)
{
	for (uint64_t i = 0; i < 1400; i++)
		put_item(FILE1, i, 1, NODE_VALUE_MAX);
	volume_remount();
	ck_assert_uint_gt(statfs_now().available, 4096);
	ck_assert_int_eq(meta_promise(meta, 16), 0);
	meta_unpromise(meta, 16);
}
END_TEST

/* In the end nothing is kept for nodes but the reserve, wherever they were, also where data lay between them. */
START_TEST(what_nodes_no_longer_need_is_free_for_data_again)
{
	uint64_t empty = statfs_now().free, number = 0;

	do {
		for (int i = 0; i < 9; i++)
			put_item(FILE1, number++, 1, NODE_VALUE_MAX);
		put_file(FILE2, number, 1, 1, false, 0, NULL);
		ck_assert_int_eq(meta_checkpoint(meta), 0);
	} while (meta->chunk_blocks < 5 * CHUNK_BLOCKS);
	if (_i == 1)
		volume_remount();
	/* As a busy moment leaves them behind. */
	rwlock_write(&meta->tree_lock);
	if (_i == 2)
		ck_assert_int_eq(alloc_spare(meta, 300, 0), 0);
	alloc_spare_trim(meta, 300);
	rwlock_unlock(&meta->tree_lock);
	while (number > 0)
		delete_item(FILE1, --number);
	punch(FILE2, 0, 100000);
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(meta_checkpoint(meta), 0);
	ck_assert_uint_eq(statfs_now().free, empty);
}
END_TEST

START_TEST(chunks_go_back_down_to_the_reserve)
{
	meta->reserve = range_free_count(meta->node_range) + CHUNK_BLOCKS;
	for (int i = 0; i < 5; i++)
		ck_assert(chunk_take(meta));
	chunk_return(meta);
	ck_assert_uint_eq(meta->chunk_blocks, CHUNK_BLOCKS);
	ck_assert_uint_eq(range_free_count(meta->node_range), meta->reserve);
}
END_TEST

START_TEST(a_node_that_was_taken_ahead_keeps_no_chunk)
{
	struct meta_list below = { NULL };

	for (uint64_t at = meta->heap_start; at < meta->boundary; at += NODE_BLOCKS) {
		if (!range_reserve(meta->node_range, at, NODE_BLOCKS))
			ck_assert_int_eq(meta_list_add(&below, at), 0);
	}
	ck_assert(chunk_take(meta));
	rwlock_write(&meta->tree_lock);
	ck_assert_int_eq(alloc_spare(meta, meta->spare.count + 1, 0), 0);
	rwlock_unlock(&meta->tree_lock);
	ck_assert_uint_ge(meta->spare.at[meta->spare.count - 1], meta->boundary);
	for (size_t i = 0; i < below.count; i++)
		ck_assert_int_eq(range_free(meta->node_range, below.at[i], NODE_BLOCKS), 0);
	free(below.at);
	for (int i = 0; i < 4; i++) {
		put_item(FILE1, 0, i, 1);
		ck_assert_int_eq(meta_checkpoint(meta), 0);
	}
	ck_assert_uint_eq(meta->chunk_blocks, 0);
}
END_TEST

/* The first child of a node also holds what is smaller than its key, which may be far from the least below it. */
START_TEST(allocations_before_the_first_key_are_found)
{
	const struct meta_key root = { OBJECT_ROOT, TYPE_INODE, 0 };
	struct range_extent where;
	struct meta_txn *txn;

	/* Full leaves, as what is appended makes them; what the first ones hold goes, and they with it. */
	for (uint64_t i = 0; i < 600; i++)
		put_item(FILE1, i, 1, 200);
	txn = meta_txn_begin(meta);
	meta_txn_delete(txn, &root);
	ck_assert_int_eq(meta_txn_commit(txn, NULL), 0);
	for (uint64_t i = 0; i < 300; i++)
		delete_item(FILE1, i);
	put_file(FILE2, 0, 4, 2, true, 0, &where);
	volume_remount();
	ck_assert(range_is_taken(meta->data_range, where.start, 4));
	expect_file(FILE2, 0, 4, 2);
}
END_TEST

/* Files of one block each up to the last one, then every other is deleted: no two free blocks are neighbours. */
START_TEST(a_full_volume_in_crumbs_makes_room_by_deleting)
{
	uint64_t blocks = 0;

	while (meta_promise(meta, 1) == 0) {
		meta_unpromise(meta, 1);
		put_file(FILE1, 2 * blocks, 1, 1, true, 0, NULL);
		blocks++;
	}
	for (uint64_t i = 0; i < blocks; i += 2)
		punch(FILE1, 2 * i, 2 * i + 1);
	for (uint64_t i = 1; i < blocks; i += 2)
		punch(FILE1, 2 * i, 2 * i + 1);
	volume_remount();
	expect_hole(FILE1, 0, 2 * (uint32_t)blocks);
	ck_assert_uint_eq(statfs_now().free, meta->heap_end - meta->boundary);
}
END_TEST

/* What a mount finds around a node may reach below the boundary: that much of it was never the data's. */
START_TEST(what_lies_below_the_data_is_not_given_to_it)
{
	const uint64_t empty = statfs_now().free, end = meta->boundary - meta->boundary % CHUNK_BLOCKS + CHUNK_BLOCKS;

	/* Room at the boundary and nowhere else, so that nodes go there. */
	ck_assert_uint_ne(meta->boundary % CHUNK_BLOCKS, 0);
	ck_assert_int_eq(range_reserve(meta->data_range, end, meta->heap_end - end), 0);
	for (uint64_t at = meta->heap_start; at < meta->boundary; at += NODE_BLOCKS)
		(void)range_reserve(meta->node_range, at, NODE_BLOCKS);
	meta->reserve = 0;
	put_item(FILE1, 0, 1, NODE_VALUE_MAX);
	ck_assert_int_eq(meta_checkpoint(meta), 0);
	volume_remount();
	ck_assert_uint_eq(meta->chunks.count, 1);
	ck_assert_uint_lt(meta->chunks.at[0], meta->boundary);
	delete_item(FILE1, 0);
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(meta_checkpoint(meta), 0);
	ck_assert_uint_le(statfs_now().free, empty);
	volume_remount();
	ck_assert_uint_eq(statfs_now().free, empty);
}
END_TEST

START_TEST(a_transaction_replaces_few_extents_at_a_time)
{
	struct meta_txn *txn;

	for (uint64_t i = 0; i < 3 * META_TXN_CUTS; i++)
		put_file(FILE1, i, 1, 1, true, 40 * i, NULL);
	txn = meta_txn_begin(meta);
	ck_assert_uint_eq(meta_map_limit(txn, FILE1, 3 * META_TXN_CUTS, 10), 10);
	ck_assert_uint_eq(meta_map_limit(txn, FILE1, 4, 10), 10);
	ck_assert_uint_eq(meta_map_limit(txn, FILE1, 20, 200), META_TXN_CUTS - 10);
	ck_assert_uint_eq(meta_map_limit(txn, FILE1, 60, 1), 0);
	ck_assert_uint_eq(meta_map_limit(txn, FILE2, 60, 100), 100);
	meta_txn_abort(txn);
}
END_TEST

static size_t cache_uses(void)
{
	struct cache_stats stats;

	cache_stats(meta->cache, &stats);
	return stats.used_bytes + stats.beyond_bytes - stats.class[CACHE_NODES].bytes;
}

START_TEST(memory_of_fragmented_space_counts_against_the_cache)
{
	struct range_stats stats;
	size_t before, after;

	sync_all();
	ck_assert_int_eq(meta_checkpoint(meta), 0);
	before = cache_uses();
	ck_assert_uint_gt(meta->charged, 0);
	for (uint64_t block = meta->boundary; block + 1 < meta->heap_end; block += 2)
		(void)range_reserve(meta->data_range, block, 1);
	ck_assert_int_eq(meta_checkpoint(meta), 0);
	range_stats(meta->data_range, &stats);
	ck_assert_uint_gt(stats.ranges, 5000);
	after = cache_uses();
	ck_assert_uint_ge(after - before, 16 * stats.ranges);
	for (uint64_t block = meta->boundary; block + 1 < meta->heap_end; block += 2)
		(void)range_free(meta->data_range, block, 1);
}
END_TEST

Suite *alloc_suite(void)
{
	Suite *suite = suite_create("alloc");
	TCase *tcase = tcase_create("alloc");

	tcase_add_checked_fixture(tcase, volume_setup, volume_teardown);
	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, no_more_is_promised_than_there_is);
	tcase_add_test(tcase, an_aborted_transaction_gives_its_blocks_back);
	tcase_add_test(tcase, a_refused_commit_gives_its_blocks_back);
	tcase_add_test(tcase, freed_blocks_wait_for_the_checkpoint_that_freed_them);
	tcase_add_test(tcase, freed_blocks_wait_for_who_looked_them_up_before);
	tcase_add_test(tcase, old_nodes_wait_for_who_reads_them);
	tcase_add_test(tcase, blocks_being_written_are_not_had_again);
	tcase_add_test(tcase, a_file_grows_in_place);
	tcase_add_test(tcase, nodes_lie_below_file_data);
	tcase_add_loop_test(tcase, freed_ranges_are_discarded_only_if_asked_for, 0, 2);
	tcase_add_test(tcase, a_full_volume_makes_room_by_deleting);
	tcase_add_test(tcase, a_volume_full_of_metadata_makes_room_by_deleting);
	tcase_add_test(tcase, what_was_promised_can_be_written_on_a_full_volume);
	tcase_add_test(tcase, a_mount_finds_the_same_space);
	tcase_add_test(tcase, allocations_before_the_first_key_are_found);
	tcase_add_test(tcase, a_full_volume_in_crumbs_makes_room_by_deleting);
	tcase_add_test(tcase, chunks_go_back_down_to_the_reserve);
	tcase_add_test(tcase, a_node_that_was_taken_ahead_keeps_no_chunk);
	tcase_add_test(tcase, what_lies_below_the_data_is_not_given_to_it);
	tcase_add_test(tcase, there_is_room_in_a_tree_that_outgrew_its_place);
	tcase_add_loop_test(tcase, what_nodes_no_longer_need_is_free_for_data_again, 0, 3);
	tcase_add_test(tcase, much_can_be_promised_when_few_nodes_are_left);
	tcase_add_test(tcase, a_transaction_replaces_few_extents_at_a_time);
	tcase_add_test(tcase, memory_of_fragmented_space_counts_against_the_cache);
	suite_add_tcase(suite, tcase);
	return suite;
}
