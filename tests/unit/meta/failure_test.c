/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Legs that fail while the volume is in use: what is told to whom, and what a later mount finds. */
#include "fixture.h"

#include <unistd.h>

#define FILE1 100

static void both_fail(enum leg_op op, uint64_t block, uint64_t count, int answer)
{
	for (int leg = 0; leg < MIRROR_LEGS; leg++)
		disk_fails(leg, op, block, (uint32_t)count, answer);
}

static void expect_read_only(void)
{
	struct mirror_status status;

	struct meta_write write = { .io = { .count = 1 } };

	ck_assert_int_eq(try_put_item(FILE1, 9, 9, 9), -EROFS);
	ck_assert_int_eq(meta_promise(meta, 1), -EROFS);
	ck_assert_int_eq(meta_write(meta, &write), -EROFS);
	ck_assert_int_ne(meta_checkpoint(meta), 0);
	/* One state for everybody, with its reason. */
	mirror_status(mirror, &status);
	ck_assert(status.failed && !status.healthy);
	ck_assert_msg(strstr(status.failed_why, "read-only by error: "), "%s", status.failed_why);
}

START_TEST(a_record_that_no_leg_takes_stops_the_volume)
{
	uint64_t synced = put_item(FILE1, 1, 1, 10), lost;

	ck_assert_int_eq(meta_sync(meta, synced), 0);
	lost = put_item(FILE1, 2, 2, 10);
	both_fail(LEG_WRITE, meta->ring_start, meta->ring_blocks, -EIO);
	ck_assert_int_lt(meta_sync(meta, lost), 0);
	disks_work();
	ck_assert_int_eq(meta_sync(meta, synced), 0); /* that one is durable */
	ck_assert_int_lt(meta_sync(meta, lost), 0);
	expect_read_only();
	expect_item(FILE1, 2, 2, 10); /* what was committed can still be read */
	ck_assert_int_lt(volume_close(), 0);
	volume_mount(false);
	expect_item(FILE1, 1, 1, 10);
	expect_item(FILE1, 2, 2, -ENOENT);
}
END_TEST

START_TEST(a_flush_that_no_leg_takes_writes_no_record)
{
	size_t from;

	put_file(FILE1, 0, 4, 1, false, 0, NULL);
	from = log_count();
	both_fail(LEG_FLUSH, 0, 0, -EIO);
	ck_assert_int_lt(meta_sync(meta, meta_sequence(meta)), 0);
	ck_assert_uint_eq(log_find(from, -1, PLACE_RING), log_count());
	expect_read_only();
	disks_work();
	ck_assert_int_lt(volume_close(), 0);
}
END_TEST

START_TEST(a_slot_that_no_leg_takes_loses_nothing)
{
	put_item(FILE1, 1, 1, 10);
	put_file(FILE1, 0, 4, 1, true, 0, NULL);
	both_fail(LEG_WRITE, 0, SUPER_RING, -EIO);
	ck_assert_int_lt(meta_checkpoint(meta), 0);
	expect_read_only();
	disks_work();
	ck_assert_int_lt(volume_close(), 0);
	volume_mount(false);
	expect_item(FILE1, 1, 1, 10);
	expect_file(FILE1, 0, 4, 1);
}
END_TEST

START_TEST(nodes_that_no_leg_takes_lose_nothing)
{
	put_item(FILE1, 1, 1, 10);
	both_fail(LEG_WRITE, meta->heap_start, meta->boundary - meta->heap_start, -EIO);
	ck_assert_int_lt(meta_checkpoint(meta), 0);
	expect_read_only();
	disks_work();
	ck_assert_int_lt(volume_close(), 0);
	volume_mount(false);
	expect_item(FILE1, 1, 1, 10);
}
END_TEST

static void checkpoint_in_thread(void *error)
{
	*(int *)error = meta_checkpoint(meta);
}

/*
 * The images' own filesystem is full: the data of a record does not get to its place, but a slot still would. The ring
 * has the only copy, so no checkpoint that waited for that write may let go of it.
 */
START_TEST(data_that_found_no_room_stays_in_the_ring)
{
	struct thread thread;
	int error = 0;
	size_t from;

	put_file(FILE1, 0, 4, 1, true, 0, NULL);
	both_fail(LEG_WRITE, meta->boundary, meta->heap_end - meta->boundary, FAKE_HANG);
	from = log_count();
	ck_assert_int_eq(thread_start(&thread, "checkpoint", checkpoint_in_thread, &error), 0);
	disk_wait_hanging(disks[0], 1);
	disk_wait_hanging(disks[1], 1);
	disks_work();
	disk_release(disks[0], -ENOSPC);
	disk_release(disks[1], -ENOSPC);
	thread_join(&thread);
	ck_assert_int_lt(error, 0);
	ck_assert_uint_eq(log_find(from, -1, PLACE_SLOT), log_count());
	expect_read_only();
	ck_assert_int_lt(volume_close(), 0);
	volume_mount(false);
	expect_file(FILE1, 0, 4, 1);
}
END_TEST

/* The mirror has stopped for another's write; what was committed and not synced is lost, and closing says so. */
START_TEST(closing_tells_that_commits_are_lost)
{
	struct put put;

	put_item(FILE1, 1, 1, 10);
	both_fail(LEG_WRITE, meta->boundary, meta->heap_end - meta->boundary, -EIO);
	put_begin(&put, FILE1, 0, 4, 1, false, 0);
	ck_assert_int_lt(put_wait(&put), 0);
	meta_txn_abort(put.txn);
	disks_work();
	ck_assert(mirror_failed(mirror));
	ck_assert_int_lt(volume_close(), 0);
	volume_mount(false);
	expect_item(FILE1, 1, 1, -ENOENT);
}
END_TEST

START_TEST(one_leg_that_fails_is_gone_without)
{
	put_item(FILE1, 1, 1, 10);
	disk_fails(_i, LEG_WRITE, 0, UINT32_MAX, -EIO);
	disk_fails(_i, LEG_FLUSH, 0, 0, -EIO);
	sync_all();
	ck_assert(!mirror_leg_insync(mirror, _i));
	put_file(FILE1, 0, 4, 1, false, 0, NULL);
	ck_assert_int_eq(meta_checkpoint(meta), 0);
	expect_item(FILE1, 1, 1, 10);
}
END_TEST

/* Big items: three a leaf. Which leaf has number n is known from the disk. */
static uint64_t leaf_of(uint64_t number)
{
	struct meta_key key = item_key(FILE1, number);
	struct format_pointer pointer;
	struct node_bounds bounds;

	rwlock_read(&meta->tree_lock);
	ck_assert_int_eq(tree_pointer(meta, 0, &key, &pointer, &bounds), 0);
	rwlock_unlock(&meta->tree_lock);
	return le64_get(pointer.address);
}

static void lose_leaf(uint64_t leaf)
{
	for (int leg = 0; leg < MIRROR_LEGS; leg++)
		disk_fails(leg, LEG_READ, leaf, NODE_BLOCKS, -EIO);
}

START_TEST(an_unreadable_leaf_fails_only_who_needs_it)
{
	struct meta_key key = item_key(FILE1, 10), last = item_key(FILE1, 100);
	struct meta_txn *txn;
	uint64_t leaf;

	for (uint64_t i = 0; i < 30; i++)
		put_item(FILE1, i, 1, NODE_VALUE_MAX);
	volume_remount();
	leaf = leaf_of(10); /* the first leaf was read by the mount */
	ck_assert_uint_ne(leaf, leaf_of(20));
	lose_leaf(leaf);
	ck_assert_int_eq(meta_get(meta, &key, NULL, 0), -EIO);
	ck_assert_int_eq(meta_next(meta, &key, &last, NULL, 0), -EIO);
	ck_assert_int_eq(try_put_item(FILE1, 10, 2, 10), -EIO);
	txn = meta_txn_begin(meta);
	key = item_key(FILE1, 20);
	meta_txn_put(txn, &key, "no", 2);
	key = item_key(FILE1, 10);
	meta_txn_delete(txn, &key);
	ck_assert_int_eq(meta_txn_commit(txn, NULL), -EIO);
	expect_item(FILE1, 20, 1, NODE_VALUE_MAX);
	put_item(FILE1, 21, 2, 20);
	sync_all();
	ck_assert_int_eq(meta_checkpoint(meta), 0);
	disks_work();
	put_item(FILE1, 10, 2, 30);
	volume_remount();
	expect_item(FILE1, 10, 2, 30);
	expect_item(FILE1, 21, 2, 20);
}
END_TEST

START_TEST(a_search_reads_no_leaf_beyond_its_end)
{
	struct meta_key key = item_key(FILE1, 20), last = item_key(FILE1, 26);

	for (uint64_t i = 0; i < 40; i++)
		put_item(FILE1, i, 1, NODE_VALUE_MAX);
	for (uint64_t i = 20; i < 29; i++)
		delete_item(FILE1, i);
	volume_remount();
	ck_assert_uint_ne(leaf_of(25), leaf_of(29));
	lose_leaf(leaf_of(29));
	ck_assert_int_eq(meta_next(meta, &key, &last, NULL, 0), -ENOENT);
	last = item_key(FILE1, 31);
	ck_assert_int_eq(meta_next(meta, &key, &last, NULL, 0), -EIO);
	disks_work();

	/* The first key of a leaf may be gone: what is before that is in the leaf before. */
	for (uint64_t i = 29; i < 39 && leaf_of(i - 1) == leaf_of(i); i++)
		key = item_key(FILE1, i + 1);
	delete_item(FILE1, key.offset);
	volume_remount();
	lose_leaf(leaf_of(key.offset - 1));
	last = key;
	ck_assert_int_eq(meta_previous(meta, &key, &last, NULL, 0), -ENOENT);
	last.offset--;
	ck_assert_int_eq(meta_previous(meta, &key, &last, NULL, 0), -EIO);
	disks_work();
}
END_TEST

/* The node above the leaves that has this item. */
static uint64_t parent_of(uint64_t number)
{
	struct meta_key key = item_key(FILE1, number);
	struct format_pointer pointer;
	struct node_bounds bounds;

	rwlock_read(&meta->tree_lock);
	ck_assert_int_eq(tree_pointer(meta, 1, &key, &pointer, &bounds), 0);
	rwlock_unlock(&meta->tree_lock);
	return le64_get(pointer.address);
}

#define MANY 1500u /* a tree of three levels */

/* And what the ring has of what cannot be read is as unreadable. */
START_TEST(of_a_damaged_tree_a_read_only_mount_gives_the_rest)
{
	struct error why;
	uint64_t lost;

	for (uint64_t i = 0; i < MANY; i++)
		put_item(FILE1, i, 1, NODE_VALUE_MAX);
	volume_remount();
	ck_assert_uint_eq(meta->root.level, 2);
	lost = parent_of(MANY - 1);
	ck_assert_uint_ne(lost, parent_of(10));
	put_item(FILE1, 10, 2, 20);
	put_item(FILE1, MANY - 1, 2, 20);
	put_item(FILE1, 11, 2, 20);
	sync_all();
	volume_kill();
	for (int leg = 0; leg < MIRROR_LEGS; leg++)
		disk_rot(leg, lost, 1);
	ck_assert_int_eq(volume_try_mount(false, &why), -EIO);
	volume_mount(true);
	ck_assert_ptr_nonnull(meta_damage(meta));
	expect_item(FILE1, 10, 2, 20);
	expect_item(FILE1, 11, 2, 20);
	expect_item(FILE1, 12, 1, NODE_VALUE_MAX);
	expect_item(FILE1, MANY - 1, 1, -EIO);
	expect_item(FILE1, MANY - 2, 1, -EIO);
	ck_assert_int_eq(try_put_item(FILE1, 12, 1, 1), -EROFS);
}
END_TEST

START_TEST(a_scrub_passes_over_what_is_lost)
{
	struct meta_scrub scrub = { .context = NULL };
	uint64_t lost, leaf;

	for (uint64_t i = 0; i < MANY; i++)
		put_item(FILE1, i, 1, NODE_VALUE_MAX);
	put_file(FILE1 + 1, 0, 4, 1, false, 0, NULL);
	volume_remount();
	lost = parent_of(400);
	leaf = leaf_of(MANY - 1);
	volume_unmount();
	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		disk_rot(leg, lost, 1);
		disk_rot(leg, leaf, 1);
	}
	volume_mount(true);
	ck_assert_int_eq(meta_scrub(meta, &scrub), 0);
	ck_assert_uint_eq(scrub.unrecoverable, 2 * NODE_BLOCKS);
}
END_TEST

/* Two leaves: the first one, which the mount has read, is emptied, while the other one cannot be read. */
START_TEST(an_unreadable_neighbour_fails_no_deletion)
{
	const struct meta_key root = { OBJECT_ROOT, TYPE_INODE, 0 };
	struct meta_txn *txn;
	uint64_t kept, number = 0;
	struct meta_stats stats;

	do {
		put_item(FILE1, number++, 1, NODE_VALUE_MAX);
		meta_stats(meta, &stats);
	} while (stats.tree_height < 2);
	volume_remount();
	kept = leaf_of(number - 1);
	ck_assert_uint_ne(kept, leaf_of(0));
	lose_leaf(kept);
	txn = meta_txn_begin(meta);
	meta_txn_delete(txn, &root);
	ck_assert_int_eq(meta_txn_commit(txn, NULL), 0);
	for (uint64_t i = 0; leaf_of(i) != kept; i++)
		delete_item(FILE1, i);
	sync_all();
	ck_assert_int_eq(meta_checkpoint(meta), 0);
	disks_work();
	expect_item(FILE1, 0, 1, -ENOENT);
	put_item(FILE1, number - 1, 2, 30);
	volume_remount();
	expect_item(FILE1, number - 1, 2, 30);
	delete_item(FILE1, number - 1);
	volume_remount();
	expect_item(FILE1, number - 1, 2, -ENOENT);
}
END_TEST

Suite *failure_suite(void)
{
	Suite *suite = suite_create("failure");
	TCase *tcase = tcase_create("failure");

	tcase_add_checked_fixture(tcase, volume_setup, volume_teardown);
	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, a_record_that_no_leg_takes_stops_the_volume);
	tcase_add_test(tcase, a_flush_that_no_leg_takes_writes_no_record);
	tcase_add_test(tcase, a_slot_that_no_leg_takes_loses_nothing);
	tcase_add_test(tcase, nodes_that_no_leg_takes_lose_nothing);
	tcase_add_test(tcase, data_that_found_no_room_stays_in_the_ring);
	tcase_add_test(tcase, closing_tells_that_commits_are_lost);
	tcase_add_loop_test(tcase, one_leg_that_fails_is_gone_without, 0, 2);
	tcase_add_test(tcase, an_unreadable_leaf_fails_only_who_needs_it);
	tcase_add_test(tcase, a_search_reads_no_leaf_beyond_its_end);
	tcase_add_test(tcase, of_a_damaged_tree_a_read_only_mount_gives_the_rest);
	tcase_add_test(tcase, a_scrub_passes_over_what_is_lost);
	tcase_add_test(tcase, an_unreadable_neighbour_fails_no_deletion);
	suite_add_tcase(suite, tcase);
	return suite;
}
