/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The order in which commits reach the disks (I2), read off the log of both. */
#include "fixture.h"

#include <unistd.h>

#define FILE1 100

/* Records on the disks since entry `from`; each must be durable by itself. */
static unsigned int records(size_t from, int leg)
{
	unsigned int count = 0;

	while ((from = log_find(from, leg, PLACE_RING)) < log_count()) {
		ck_assert(log_entry(from)->dsync);
		count++;
		from++;
	}
	return count;
}

START_TEST(a_record_is_durable_on_both_legs_before_sync_returns)
{
	size_t from = log_count();
	uint64_t sequence = put_item(FILE1, 1, 7, 100);

	ck_assert_uint_eq(log_count(), from); /* a commit alone writes nothing */
	ck_assert_int_eq(meta_sync(meta, sequence), 0);
	for (int leg = 0; leg < MIRROR_LEGS; leg++)
		ck_assert_uint_eq(records(from, leg), 1);
	ck_assert_uint_eq(log_find(from, -1, PLACE_FLUSH), log_count());
	ck_assert_uint_eq(log_count(), from + 2);
	ck_assert_int_eq(meta_sync(meta, sequence), 0);
	ck_assert_uint_eq(log_count(), from + 2);
}
END_TEST

START_TEST(data_outside_a_record_is_flushed_before_it)
{
	size_t from = log_count();
	struct range_extent where;

	ck_assert_int_eq(meta_sync(meta, put_file(FILE1, 0, 32, 1, false, 0, &where)), 0);
	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		size_t data = log_find(from, leg, PLACE_HEAP), flush = log_find(data, leg, PLACE_FLUSH);

		ck_assert_uint_eq(log_entry(data)->block, where.start);
		ck_assert_uint_lt(flush, log_count());
		/* No record on either leg is earlier than a flush of any. */
		ck_assert_uint_gt(log_find(from, 0, PLACE_RING), flush);
		ck_assert_uint_gt(log_find(from, 1, PLACE_RING), flush);
		ck_assert_uint_eq(records(from, leg), 1);
	}
}
END_TEST

START_TEST(data_inside_a_record_needs_no_flush)
{
	size_t from = log_count(), at;

	ck_assert_int_eq(meta_sync(meta, put_file(FILE1, 0, META_TXN_DATA_BLOCKS, 1, true, 0, NULL)), 0);
	ck_assert_uint_eq(log_find(from, -1, PLACE_FLUSH), log_count());
	at = log_find(from, 0, PLACE_RING);
	ck_assert_uint_eq(log_entry(at)->count, 1 + META_TXN_DATA_BLOCKS);
	ck_assert_uint_eq(records(from, 0), 1);
}
END_TEST

START_TEST(commits_that_wait_together_share_a_record)
{
	size_t from = log_count();
	uint64_t sequence = 0;
	struct meta_stats stats;

	for (uint64_t i = 0; i < 50; i++)
		sequence = put_item(FILE1, i, 3, 10);
	ck_assert_int_eq(meta_sync(meta, sequence), 0);
	ck_assert_uint_eq(records(from, 0), 1);
	meta_stats(meta, &stats);
	ck_assert_uint_eq(stats.commits, 50);
	ck_assert_uint_eq(stats.records, 1);
}
END_TEST

START_TEST(one_commit_with_data_outside_makes_a_shared_record_flush)
{
	size_t from;

	put_item(FILE1, 1, 3, 10);
	put_file(FILE1, 0, 2, 1, false, 0, NULL);
	put_item(FILE1, 2, 3, 10);
	from = log_count();
	sync_all();
	ck_assert_uint_lt(log_find(from, 0, PLACE_FLUSH), log_find(from, 0, PLACE_RING));
	ck_assert_uint_eq(records(from, 0), 1);
}
END_TEST

static void sync_one(void *sequence)
{
	ck_assert_int_eq(meta_sync(meta, *(uint64_t *)sequence), 0);
}

static bool released;

static void release_later(void *arg)
{
	usleep(30000);
	__atomic_store_n(&released, true, __ATOMIC_SEQ_CST);
	disk_release(disks[1], 0);
}

START_TEST(sync_waits_for_the_record_that_another_thread_writes)
{
	struct thread writer, releaser;
	uint64_t sequence = put_item(FILE1, 1, 7, 100);

	disk_fails(1, LEG_WRITE, meta->ring_start, (uint32_t)meta->ring_blocks, FAKE_HANG);
	ck_assert_int_eq(thread_start(&writer, "writer", sync_one, &sequence), 0);
	disk_wait_hanging(disks[1], 1);
	disks_work();
	ck_assert_int_eq(thread_start(&releaser, "releaser", release_later, NULL), 0);
	ck_assert_int_eq(meta_sync(meta, sequence), 0);
	ck_assert(__atomic_load_n(&released, __ATOMIC_SEQ_CST));
	thread_join(&writer);
	thread_join(&releaser);
}
END_TEST

/* One record is on its way at a time: a later one is never durable before an earlier one. */
START_TEST(records_are_written_one_after_the_other)
{
	struct thread writer, releaser;
	uint64_t sequence = put_item(FILE1, 1, 7, 100);
	size_t first, second;

	disk_fails(1, LEG_WRITE, meta->ring_start, (uint32_t)meta->ring_blocks, FAKE_HANG);
	ck_assert_int_eq(thread_start(&writer, "writer", sync_one, &sequence), 0);
	disk_wait_hanging(disks[1], 1);
	disks_work();
	ck_assert_int_eq(thread_start(&releaser, "releaser", release_later, NULL), 0);
	ck_assert_int_eq(meta_sync(meta, put_item(FILE1, 2, 7, 100)), 0);
	thread_join(&writer);
	thread_join(&releaser);
	first = log_find(0, 0, PLACE_RING);
	second = log_find(first + 1, 0, PLACE_RING);
	ck_assert_uint_eq(log_entry(second)->block, log_entry(first)->block + 1);
	expect_item(FILE1, 1, 7, 100);
	expect_item(FILE1, 2, 7, 100);
}
END_TEST

/* Also: what a checkpoint must empty in between, and records behind the turn are found by a mount. */
START_TEST(the_ring_goes_round_and_nobody_fails)
{
	unsigned int turns = 0, commits = 0;
	uint64_t head = meta->head;
	struct meta_stats stats;

	while (turns < 2) {
		put_file(FILE1, commits % 3, 1, commits + 1, true, 0, NULL);
		commits++;
		for (uint64_t i = 0; i < 10; i++)
			put_item(FILE1, i, (int)commits, NODE_VALUE_MAX);
		sync_all();
		turns += meta->head < head;
		head = meta->head;
	}
	meta_stats(meta, &stats);
	ck_assert_uint_gt(stats.checkpoints, 3);
	ck_assert_uint_le(stats.ring_used_blocks, stats.ring_blocks);
	for (unsigned int i = 0; i < 2; i++) {
		put_item(FILE1, 20 + i, 9, 9);
		sync_all();
	}
	volume_crash();
	for (uint64_t i = 0; i < 10; i++)
		expect_item(FILE1, i, (int)commits, NODE_VALUE_MAX);
	expect_item(FILE1, 20, 9, 9);
	expect_item(FILE1, 21, 9, 9);
	for (unsigned int i = 0; i < 3; i++)
		expect_file(FILE1, (commits - 1 - i) % 3, 1, commits - i);
}
END_TEST

static struct meta_txn *txn_of(size_t bytes)
{
	struct meta_txn *txn = meta_txn_begin(meta);
	static const unsigned char value[NODE_VALUE_MAX];

	for (uint64_t i = 0; bytes; i++) {
		struct meta_key key = item_key(FILE1, i);
		size_t length = bytes < sizeof(value) ? bytes : sizeof(value);

		meta_txn_put(txn, &key, value, length);
		bytes -= length;
	}
	return txn;
}

START_TEST(a_transaction_that_no_record_holds_is_refused_whole)
{
	struct meta_txn *txn = txn_of(300u << 10);

	ck_assert(meta_txn_full(txn, 0, 0));
	ck_assert_int_eq(meta_txn_commit(txn, NULL), -ENOSPC);
	expect_item(FILE1, 0, 0, -ENOENT);
	txn = txn_of(META_TXN_BYTES - 32 * 24);
	ck_assert(!meta_txn_full(txn, 0, 0));
	ck_assert(meta_txn_full(txn, 1, 24 * 32));
	ck_assert_int_eq(meta_txn_commit(txn, NULL), 0);
	sync_all();
}
END_TEST

START_TEST(updates_of_a_transaction_are_applied_in_their_order)
{
	struct meta_txn *txn = meta_txn_begin(meta);
	struct meta_key key = item_key(FILE1, 1);

	meta_txn_put(txn, &key, "aaa", 3);
	meta_txn_delete(txn, &key);
	meta_txn_put(txn, &key, "bb", 2);
	ck_assert_int_eq(meta_get(meta, &key, NULL, 0), -ENOENT);
	ck_assert_int_eq(meta_txn_commit(txn, NULL), 0);
	expect_item(FILE1, 1, 'b', 2);
	sync_all();
	volume_crash();
	expect_item(FILE1, 1, 'b', 2);
}
END_TEST

Suite *journal_suite(void)
{
	Suite *suite = suite_create("journal");
	TCase *tcase = tcase_create("journal");

	tcase_add_checked_fixture(tcase, volume_setup, volume_teardown);
	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, a_record_is_durable_on_both_legs_before_sync_returns);
	tcase_add_test(tcase, data_outside_a_record_is_flushed_before_it);
	tcase_add_test(tcase, data_inside_a_record_needs_no_flush);
	tcase_add_test(tcase, commits_that_wait_together_share_a_record);
	tcase_add_test(tcase, one_commit_with_data_outside_makes_a_shared_record_flush);
	tcase_add_test(tcase, sync_waits_for_the_record_that_another_thread_writes);
	tcase_add_test(tcase, records_are_written_one_after_the_other);
	tcase_add_test(tcase, the_ring_goes_round_and_nobody_fails);
	tcase_add_test(tcase, a_transaction_that_no_record_holds_is_refused_whole);
	tcase_add_test(tcase, updates_of_a_transaction_are_applied_in_their_order);
	suite_add_tcase(suite, tcase);
	return suite;
}
