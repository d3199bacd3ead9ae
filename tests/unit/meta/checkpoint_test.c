/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a checkpoint writes, in which order, and that any crash in between leaves a volume. */
#include "fixture.h"

#include <unistd.h>

#define FILE1 100
#define NODES 4096

static uint64_t nodes[NODES];

static void put_many(uint64_t from, uint64_t to, int byte)
{
	for (uint64_t i = from; i < to; i++)
		put_item(FILE1, i, byte, 1000);
}

static void expect_many(uint64_t from, uint64_t to, int byte)
{
	for (uint64_t i = from; i < to; i++)
		expect_item(FILE1, i, byte, 1000);
}

/* The last entry of this leg at this place before entry `end`. */
static size_t last_before(size_t end, int leg, enum place place)
{
	size_t found = SIZE_MAX;

	for (size_t n = log_find(0, leg, place); n < end; n = log_find(n + 1, leg, place))
		found = n;
	ck_assert_uint_ne(found, SIZE_MAX);
	return found;
}

START_TEST(nodes_are_flushed_before_the_slot)
{
	size_t from, slot[MIRROR_LEGS], first;

	put_many(0, 100, 1);
	from = log_count();
	ck_assert_int_eq(meta_checkpoint(meta), 0);
	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		slot[leg] = log_find(from, leg, PLACE_SLOT);
		ck_assert_uint_lt(slot[leg], log_count());
		ck_assert(log_entry(slot[leg])->dsync);
		ck_assert_uint_eq(log_find(slot[leg] + 1, leg, PLACE_SLOT), log_count());
		ck_assert_uint_eq(log_find(slot[leg], leg, PLACE_HEAP), log_count());
	}
	first = slot[0] < slot[1] ? slot[0] : slot[1];
	for (int leg = 0; leg < MIRROR_LEGS; leg++)
		ck_assert_uint_gt(last_before(first, leg, PLACE_FLUSH), last_before(log_count(), leg, PLACE_HEAP));
}
END_TEST

START_TEST(the_older_slot_is_written)
{
	for (int i = 0; i < 4; i++) {
		size_t from = log_count();
		uint64_t older = le64_get(disk_super(0, false)->address);

		put_item(FILE1, 1, i, 10);
		ck_assert_int_eq(meta_checkpoint(meta), 0);
		ck_assert_uint_eq(log_entry(log_find(from, 0, PLACE_SLOT))->block, older);
		ck_assert_uint_eq(log_entry(log_find(from, 1, PLACE_SLOT))->block, older);
		ck_assert_uint_eq(le64_get(disk_super(0, true)->address), older);
	}
}
END_TEST

/* I1: until another slot is durable, nothing is written where the newest one's tree and data are. */
START_TEST(what_the_newest_slot_refers_to_is_not_written)
{
	struct range_extent data;
	size_t from, count;

	put_many(0, 300, 1);
	put_file(FILE1, 0, 64, 1, false, 0, &data);
	for (int round = 0; round < 5; round++) {
		ck_assert_int_eq(meta_checkpoint(meta), 0);
		count = disk_nodes(disk_super(0, true), nodes, NODES);
		ck_assert_uint_gt(count, 10);
		from = log_count();
		put_many(0, 300, round);
		put_file(FILE1, 64, 64, 2, false, 0, NULL);
		sync_all();
		put_many(100, 200, round);
		ck_assert_int_eq(meta_checkpoint(meta), 0);
		for (size_t i = 0; i < count; i++)
			ck_assert(!log_wrote(from, log_count(), nodes[i], NODE_BLOCKS));
		ck_assert(!log_wrote(from, log_count(), data.start, 64));
	}
}
END_TEST

START_TEST(nothing_changed_writes_nothing)
{
	size_t from;

	put_item(FILE1, 1, 1, 10);
	ck_assert_int_eq(meta_checkpoint(meta), 0);
	from = log_count();
	ck_assert_int_eq(meta_checkpoint(meta), 0);
	sync_all();
	ck_assert_uint_eq(log_count(), from);
}
END_TEST

static bool keep_by_chance(const struct entry *entry)
{
	return rand() % 2;
}

/* Two checkpoints with changes before, between and behind; the power fails behind each single write of a leg. */
START_TEST(a_crash_between_any_two_writes_mounts)
{
	size_t synced[3], checkpointed;

	seed_srand(__func__);
	put_many(0, 20, 1);
	put_file(FILE1, 0, 4, 1, true, 0, NULL);
	sync_all();
	synced[0] = log_count();
	ck_assert_int_eq(meta_checkpoint(meta), 0);
	put_many(10, 30, 2);
	put_file(FILE1, 0, 2, 2, false, 0, NULL);
	sync_all();
	synced[1] = log_count();
	ck_assert_int_eq(meta_checkpoint(meta), 0);
	checkpointed = log_count();
	put_many(20, 40, 3);
	put_file(FILE1, 1, 4, 3, true, 0, NULL);
	sync_all();
	synced[2] = log_count();
	crash_take();
	for (size_t n = synced[0]; n <= synced[2]; n++) {
		crash_at(n, n % 3 ? keep_by_chance : keep_nothing);
		volume_mount(false);
		expect_many(0, 10, 1);
		if (n >= synced[1]) {
			expect_many(10, 20, 2);
			expect_file(FILE1, 0, 1, 2);
		}
		if (n >= synced[2]) {
			expect_many(20, 40, 3);
			expect_file(FILE1, 1, 4, 3);
		} else if (n >= checkpointed - 1) {
			expect_many(10, 20, 2);
		}
		volume_unmount();
		volume_mount(false);
		expect_many(0, 10, 1);
		volume_kill();
	}
}
END_TEST

/* Runs a checkpoint whose writes to leg 1 at that place hang; when they do, `meanwhile` may look around. */
static void checkpoint_in_thread(void *error)
{
	*(int *)error = meta_checkpoint(meta);
}

static void checkpoint_that_hangs(uint64_t block, uint32_t count, void (*meanwhile)(void))
{
	struct thread thread;
	int error = 1;

	disk_fails(1, LEG_WRITE, block, count, FAKE_HANG);
	ck_assert_int_eq(thread_start(&thread, "checkpoint", checkpoint_in_thread, &error), 0);
	disk_wait_hanging(disks[1], 1);
	disks_work();
	meanwhile();
	disk_release(disks[1], 0);
	thread_join(&thread);
	ck_assert_int_eq(error, 0);
}

static size_t node_count_before;

static void nothing_is_given_back(void)
{
	struct meta_stats stats;

	meta_stats(meta, &stats);
	ck_assert_uint_gt(stats.ring_used_blocks, 0);
	alloc_release(meta);
	for (size_t i = 0; i < node_count_before; i++)
		ck_assert(!is_free(nodes[i], NODE_BLOCKS));
}

START_TEST(ring_and_nodes_are_given_back_behind_the_slot)
{
	struct meta_stats stats;
	unsigned int given_back = 0;

	put_many(0, 100, 1);
	ck_assert_int_eq(meta_checkpoint(meta), 0);
	node_count_before = disk_nodes(disk_super(0, true), nodes, NODES);
	put_many(0, 100, 2);
	checkpoint_that_hangs(SUPER_SLOT0, SUPER_RING, nothing_is_given_back);
	meta_stats(meta, &stats);
	ck_assert_uint_eq(stats.ring_used_blocks, 0);
	for (size_t i = 0; i < node_count_before; i++)
		given_back += is_free(nodes[i], NODE_BLOCKS);
	ck_assert_uint_eq(given_back, node_count_before);
}
END_TEST

static void change_what_is_being_written(void)
{
	put_many(0, 100, 3);
}

START_TEST(changes_behind_the_cut_are_not_in_the_checkpoint)
{
	put_many(0, 100, 2);
	checkpoint_that_hangs(meta->heap_start, (uint32_t)(meta->heap_end - meta->heap_start),
			      change_what_is_being_written);
	expect_many(0, 100, 3);
	if (_i)
		volume_remount();
	else
		volume_crash(); /* what came behind the cut was not synced */
	expect_many(0, 100, _i ? 3 : 2);
}
END_TEST

static bool put_released;

static void release_later(void *arg)
{
	disk_wait_hanging(disks[0], 1);
	disks_work();
	usleep(50000);
	__atomic_store_n(&put_released, true, __ATOMIC_SEQ_CST);
	disk_release(disks[0], 0);
}

/* Most leaves have their checksums before the cut; one that is changed after that needs another. */
START_TEST(a_leaf_changed_after_it_was_sealed_is_sealed_again)
{
	for (uint64_t i = 0; i < 40; i++)
		put_item(FILE1, i, 1, NODE_VALUE_MAX);
	tree_seal_ahead(meta);
	put_item(FILE1, 7, 2, NODE_VALUE_MAX);
	delete_item(FILE1, 20);
	ck_assert_int_eq(meta_checkpoint(meta), 0);
	volume_crash();
	for (uint64_t i = 0; i < 40; i++)
		expect_item(FILE1, i, i == 7 ? 2 : 1, i == 20 ? -ENOENT : (ssize_t)NODE_VALUE_MAX);
}
END_TEST

START_TEST(data_on_its_way_is_waited_for_before_the_slot)
{
	struct thread releaser;

	disk_fails(0, LEG_WRITE, meta->boundary, (uint32_t)(meta->heap_end - meta->boundary), FAKE_HANG);
	put_file(FILE1, 0, 4, 1, true, 0, NULL);
	ck_assert_int_eq(thread_start(&releaser, "releaser", release_later, NULL), 0);
	ck_assert_int_eq(meta_checkpoint(meta), 0);
	ck_assert(__atomic_load_n(&put_released, __ATOMIC_SEQ_CST));
	thread_join(&releaser);
	expect_file(FILE1, 0, 4, 1);
}
END_TEST

START_TEST(object_numbers_lost_in_a_crash_are_not_used_again)
{
	uint64_t last = 0;

	for (int i = 0; i < 100; i++)
		last = meta_new_object(meta);
	volume_crash();
	for (int i = 0; i < 100; i++) {
		uint64_t object = meta_new_object(meta);

		ck_assert_uint_gt(object, last);
		last = object;
	}
	put_item(last, 1, 1, 1);
	sync_all();
	volume_crash();
	ck_assert_uint_gt(meta_new_object(meta), last);
	last = meta_new_object(meta);
	volume_remount();
	ck_assert_uint_eq(meta_new_object(meta), last + 1);
}
END_TEST

START_TEST(commits_go_on_beside_checkpoints)
{
	struct thread thread;
	int error = 1;

	for (int round = 0; round < 20; round++) {
		ck_assert_int_eq(thread_start(&thread, "checkpoint", checkpoint_in_thread, &error), 0);
		put_many(0, 60, round);
		sync_all();
		thread_join(&thread);
		ck_assert_int_eq(error, 0);
	}
	volume_crash();
	expect_many(0, 60, 19);
}
END_TEST

Suite *checkpoint_suite(void)
{
	Suite *suite = suite_create("checkpoint");
	TCase *tcase = tcase_create("checkpoint");

	tcase_add_checked_fixture(tcase, volume_setup, volume_teardown);
	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, nodes_are_flushed_before_the_slot);
	tcase_add_test(tcase, the_older_slot_is_written);
	tcase_add_test(tcase, what_the_newest_slot_refers_to_is_not_written);
	tcase_add_test(tcase, nothing_changed_writes_nothing);
	tcase_add_test(tcase, a_crash_between_any_two_writes_mounts);
	tcase_add_test(tcase, ring_and_nodes_are_given_back_behind_the_slot);
	tcase_add_loop_test(tcase, changes_behind_the_cut_are_not_in_the_checkpoint, 0, 2);
	tcase_add_test(tcase, a_leaf_changed_after_it_was_sealed_is_sealed_again);
	tcase_add_test(tcase, data_on_its_way_is_waited_for_before_the_slot);
	tcase_add_test(tcase, object_numbers_lost_in_a_crash_are_not_used_again);
	tcase_add_test(tcase, commits_go_on_beside_checkpoints);
	suite_add_tcase(suite, tcase);
	return suite;
}
