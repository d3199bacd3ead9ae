/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The ring after a crash: what counts as a record, and what becomes of what it holds. */
#include "fixture.h"

#define FILE1 100
#define FILE2 101

static uint64_t replayed(void)
{
	struct meta_stats stats;

	meta_stats(meta, &stats);
	return stats.replayed;
}

/* Three records of a block each; the volume is killed. Where in the mirrored space the first one is. */
static uint64_t three_records(void)
{
	uint64_t block = meta->ring_start + meta->head;

	for (uint64_t i = 1; i <= 3; i++) {
		put_item(FILE1, i, (int)i, 50);
		sync_all();
	}
	volume_kill();
	return block;
}

static void expect_items(uint64_t count)
{
	for (uint64_t i = 1; i <= 3; i++)
		expect_item(FILE1, i, (int)i, i <= count ? 50 : -ENOENT);
	ck_assert_uint_eq(replayed(), count);
}

static bool keep_by_chance(const struct entry *entry)
{
	return rand() % 2;
}

START_TEST(a_crash_leaves_a_prefix_with_all_that_was_synced)
{
	size_t synced[31] = { 0 };

	seed_srand(__func__);
	for (uint64_t i = 1; i <= 30; i++) {
		synced[i] = synced[i - 1];
		put_item(FILE1, i, 1, 100);
		if (i % 4 == 0)
			put_file(FILE2, i, 3, (unsigned int)i, i % 8, 0, NULL);
		if (i % 3 && i < 30)
			continue;
		sync_all();
		synced[i] = log_count();
	}
	crash_take();
	for (size_t n = 0; n <= crash_count(); n++) {
		uint64_t there = 0;

		crash_at(n, keep_by_chance);
		volume_mount(false);
		for (uint64_t i = 1; i <= 30; i++) {
			struct meta_key key = item_key(FILE1, i);

			if (meta_get(meta, &key, NULL, 0) == 100)
				ck_assert_uint_eq(++there, i);
			else if (i % 3 == 0)
				ck_assert_uint_lt(n, synced[i]);
		}
		for (uint64_t i = 4; i < there; i += 4)
			expect_file(FILE2, i, 3, (unsigned int)i);
		volume_kill();
	}
}
END_TEST

START_TEST(a_torn_record_ends_the_tail)
{
	uint64_t block = three_records();

	for (int leg = 0; leg < MIRROR_LEGS; leg++)
		disk_block(leg, block + 1)[4000] ^= 1;
	volume_mount(false);
	expect_items(1);
	put_item(FILE1, 2, 2, 50);
	sync_all();
	volume_crash(); /* the third one, of an earlier mount, lies behind it */
	expect_item(FILE1, 2, 2, 50);
	expect_item(FILE1, 3, 3, -ENOENT);
}
END_TEST

/* The one after it was written when it was on the legs. */
START_TEST(a_check_sees_that_records_are_lost)
{
	uint64_t block = three_records();
	struct meta_stats stats;

	for (int leg = 0; leg < MIRROR_LEGS; leg++)
		disk_block(leg, block + (_i ? 1 : 2))[4000] ^= 1;
	checking = true;
	volume_mount(false);
	expect_items(_i ? 1 : 2);
	meta_stats(meta, &stats);
	ck_assert_uint_eq(stats.cut_off, _i ? 2 : 0); /* what was written last may be torn */
	volume_remount();
	meta_stats(meta, &stats);
	ck_assert_uint_eq(stats.cut_off, 0);
	checking = false;
}
END_TEST

START_TEST(a_record_on_one_leg_counts_and_is_copied_to_the_other)
{
	uint64_t block = three_records();

	disk_block(_i, block + 1)[8] ^= 1;
	disk_block(!_i, block + 2)[4000] ^= 1;
	volume_mount(false);
	expect_items(3);
	for (unsigned int i = 0; i < 3; i++)
		ck_assert_mem_eq(disk_block(0, block + i), disk_block(1, block + i), FORMAT_BLOCK);
	ck_assert(log_wrote(0, log_count(), block + 1, 2));
	ck_assert(!log_wrote(0, log_count(), block, 1));
}
END_TEST

static void forge_record(struct format_record *record, int how)
{
	switch (how) {
	case 0: record->magic = le32_of(1); break;
	case 1: record->volume[3] ^= 1; break;
	case 2: record->position = le64_of(le64_get(record->position) + 1); break;
	case 3: record->sequence = le64_of(le64_get(record->sequence) + 1); break;
	case 4: record->sequence = le64_of(le64_get(record->sequence) - 1); break;
	case 5: record->epoch = le64_of(le64_get(record->epoch) - 1); break;
	case 6: record->epoch = le64_of(le64_get(record->epoch) + 1); break;
	case 7: record->previous_crc = le32_of(le32_get(record->previous_crc) ^ 1); break;
	case 8: record->blocks = le32_of(0); break;
	case 9: record->blocks = le32_of(JOURNAL_RECORD_BLOCKS + 1); break;
	case 10: record->blocks = le32_of(UINT32_MAX); break;
	case 11: record->data = le32_of(1); break;
	case 12: record->data = le32_of(UINT32_MAX); break;
	case 13: record->update_bytes = le32_of(8000); break;
	case 14: record->update_bytes = le32_of(UINT32_MAX); break;
	}
}
#define FORGERIES 15

START_TEST(a_record_that_does_not_belong_there_is_not_taken)
{
	uint64_t block = three_records();

	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		struct format_record *record = (void *)disk_block(leg, block + 1);

		forge_record(record, _i);
		record_reseal(record, 1);
	}
	volume_mount(false);
	expect_items(1);
}
END_TEST

static void forge_update(struct format_record *record, int how)
{
	struct format_update *update = (struct format_update *)(record + 1);

	switch (how) {
	case 0: update->kind = 0; break;
	case 1: update->kind = 9; break;
	case 2: update->length = le16_of(NODE_VALUE_MAX + 1); break;
	case 3: update->length = le16_of(80); break; /* longer than what is there */
	case 4: record->updates = le32_of(2); break;
	case 5: record->updates = le32_of(UINT32_MAX); break;
	case 6: update->kind = UPDATE_DATA; break; /* the record has no data */
	case 8: record->generation = le64_of(UINT64_MAX); break;
	case 9: record->next_object = le64_of(FORMAT_NUMBER_END); break;
	case 7: /* an allocation of another length */
		update->object = le64_of(OBJECT_VOLUME);
		update->type = TYPE_ALLOC;
		break;
	}
}
#define SENSELESS 10

START_TEST(a_valid_record_without_sense_refuses_the_volume)
{
	uint64_t block = three_records();
	struct error why;

	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		struct format_record *record = (void *)disk_block(leg, block);

		forge_update(record, _i);
		record_reseal(record, 1);
	}
	ck_assert_int_eq(volume_try_mount(false, &why), -EIO);
	ck_assert_ptr_nonnull(strstr(why.text, "journal"));
}
END_TEST

START_TEST(an_allocation_outside_the_data_refuses_the_volume)
{
	static const uint64_t starts[] = { 0, UINT64_MAX - 3, UINT64_MAX, 40, 1 << 20 };
	uint64_t block = meta->ring_start + meta->head;
	struct meta_key key = { OBJECT_VOLUME, TYPE_ALLOC, starts[_i] };
	struct format_alloc alloc = { .length = le32_of(4) };
	struct meta_txn *txn = meta_txn_begin(meta);
	struct error why;

	meta_txn_put(txn, &key, &alloc, sizeof(alloc));
	ck_assert_int_eq(meta_txn_commit(txn, NULL), 0);
	sync_all();
	ck_assert(log_wrote(0, log_count(), block, 1));
	volume_kill();
	ck_assert_int_eq(volume_try_mount(false, &why), -EIO);
}
END_TEST

START_TEST(a_ring_that_no_leg_can_read_refuses_the_volume)
{
	uint64_t block = three_records();
	struct error why;

	disk_fails(0, LEG_READ, block + _i, 1, -EIO);
	disk_fails(1, LEG_READ, block + _i, 1, -EIO);
	ck_assert_int_eq(volume_try_mount(false, &why), -EIO);
	ck_assert_uint_eq(log_find(0, -1, PLACE_SLOT), log_count());
	disks_work();
	volume_mount(false);
	expect_items(3);
}
END_TEST

START_TEST(a_ring_block_that_one_leg_cannot_read_is_harmless)
{
	uint64_t block = three_records();

	disk_fails(_i & 1, LEG_READ, block + (unsigned int)_i / 2, 1, -EIO);
	volume_mount(false);
	expect_items(3);
}
END_TEST

START_TEST(a_leg_that_cannot_take_a_record_at_mount_goes_out)
{
	uint64_t block = three_records();

	disk_block(_i, block + 1)[8] ^= 1;
	disk_fails(_i, LEG_WRITE, block, 3, -EIO);
	volume_mount(false);
	expect_items(3);
	ck_assert(!mirror_leg_insync(mirror, _i));
	ck_assert(mirror_leg_insync(mirror, !_i));
}
END_TEST

/* Data that was synced in a record, in place on no disk. */
static void data_in_the_ring_alone(void)
{
	put_item(FILE1, 1, 1, 50);
	put_file(FILE1, 0, 16, 5, true, 0, NULL);
	put_file(FILE1, 4, 3, 6, true, 0, NULL);
	sync_all();
	put_file(FILE2, 0, 4, 7, false, 0, NULL);
	sync_all();
	put_file(FILE2, 2, 1, 8, true, 0, NULL);
	sync_all();
}

static bool keep_other_places(const struct entry *entry)
{
	return entry->place != PLACE_HEAP;
}

static void expect_data_of_the_ring(void)
{
	expect_item(FILE1, 1, 1, 50);
	expect_file(FILE1, 0, 4, 5);
	expect_file(FILE1, 4, 3, 6);
	expect_file(FILE1, 7, 9, 5);
	expect_file(FILE2, 0, 2, 7);
	expect_file(FILE2, 2, 1, 8);
	expect_file(FILE2, 3, 1, 7);
}

START_TEST(data_that_rode_in_records_is_brought_home)
{
	size_t mounted;

	data_in_the_ring_alone();
	crash_take();
	crash_at(crash_count(), keep_other_places);
	volume_mount(false);
	expect_data_of_the_ring();
	mounted = log_count();
	crash_take();
	for (size_t n = 0; n <= mounted; n++) { /* power fails again while it is replayed */
		crash_at(n, keep_nothing);
		volume_mount(false);
		expect_data_of_the_ring();
		volume_kill();
	}
}
END_TEST

START_TEST(a_read_only_mount_after_a_crash_writes_nothing)
{
	struct put put;
	uint64_t block;

	data_in_the_ring_alone();
	put_begin(&put, FILE1, 100, 1, 9, true, 0);
	ck_assert_int_eq(put_wait(&put), 0);
	block = meta->ring_start + meta->head;
	ck_assert_int_eq(meta_sync(meta, put_commit(&put)), 0);
	crash_take();
	crash_at(crash_count(), keep_other_places);
	disk_block(0, block)[8] ^= 1; /* a record on one leg */
	disk_block(1, SUPER_SLOT1)[8] ^= 1;
	volume_mount(true);
	expect_data_of_the_ring();
	expect_file(FILE1, 100, 1, 9);
	ck_assert_int_eq(try_put_item(FILE1, 9, 1, 1), -EROFS);
	ck_assert_int_eq(meta_promise(meta, 1), -EROFS);
	ck_assert_int_eq(meta_checkpoint(meta), -EROFS);
	volume_unmount();
	ck_assert_uint_eq(log_count(), 0);
	volume_mount(false);
	expect_data_of_the_ring();
	expect_file(FILE1, 100, 1, 9);
}
END_TEST

/*
 * No node of the replay may go where the tail of the ring has data. Nodes go there only when their own zone is full, so
 * it is filled; then they take what is free next to it, and there is the tail's data.
 */
START_TEST(no_node_is_put_where_the_tail_has_data)
{
	const uint32_t piece = NODE_BLOCKS;
	unsigned int files = 0;
	uint64_t number = 0;
	struct range_extent where;

	do {
		for (int i = 0; i < 9; i++)
			put_item(FILE1, number++, 1, NODE_VALUE_MAX);
		ck_assert_int_eq(meta_checkpoint(meta), 0);
	} while (!meta->chunk_blocks);
	volume_remount();
	for (uint64_t block = meta->boundary; files < 60; block += piece) {
		if (!is_free(block, piece))
			continue;
		put_file(FILE2, files * piece, piece, files, false, block, &where);
		ck_assert_uint_eq(where.start, block);
		files++;
	}
	for (uint64_t i = 0; i < 60; i += 3)
		put_item(FILE1, i * 10 + 1, 2, 10);
	sync_all();
	volume_crash();
	ck_assert_uint_gt(replayed(), 0);
	for (unsigned int i = 0; i < files; i++)
		expect_file(FILE2, i * piece, piece, i);
	for (uint64_t i = 0; i < 60; i += 3)
		expect_item(FILE1, i * 10 + 1, 2, 10);
}
END_TEST

/* Leaves of three items each are in a checkpoint; the ring changes each of them. */
static void change_many_leaves(unsigned int leaves, unsigned int leaves_a_record)
{
	for (uint64_t i = 0; i < 3 * leaves; i++)
		put_item(FILE1, 10 * i, 1, NODE_VALUE_MAX);
	ck_assert_int_eq(meta_checkpoint(meta), 0);
	for (uint64_t i = 0; i < leaves; i++) {
		put_item(FILE1, 30 * i + 1, 2, 10);
		if (i % leaves_a_record == leaves_a_record - 1)
			sync_all();
	}
	sync_all();
}

static void expect_many_leaves(unsigned int leaves)
{
	for (uint64_t i = 0; i < leaves; i++)
		expect_item(FILE1, 30 * i + 1, 2, 10);
}

/*
 * Mounted with the least memory: a checkpoint in the middle of the replay, between two records or within one, and the
 * power may fail around it.
 */
START_TEST(a_tail_longer_than_memory_is_replayed_in_pieces)
{
	const unsigned int leaves = 60;
	size_t mounted;

	change_many_leaves(leaves, _i ? leaves : 4);
	crash_take();
	crash_at(crash_count(), keep_nothing);
	cache_bytes = 4u << 20;
	volume_mount(false);
	ck_assert_uint_lt(log_find(log_find(0, 0, PLACE_SLOT) + 1, 0, PLACE_SLOT), log_count());
	expect_many_leaves(leaves);
	mounted = log_count();
	crash_take();
	for (size_t n = 0; n <= mounted; n += 3) {
		crash_at(n, keep_nothing);
		volume_mount(false);
		expect_many_leaves(leaves);
		volume_kill();
	}
}
END_TEST

START_TEST(a_tail_longer_than_memory_is_not_replayed_without_writing)
{
	struct error why;

	change_many_leaves(60, 4);
	crash_take();
	crash_at(crash_count(), keep_nothing);
	cache_bytes = 4u << 20;
	ck_assert_int_eq(volume_try_mount(true, &why), -ENOMEM);
	ck_assert_ptr_nonnull(strstr(why.text, "cache="));
	volume_mount(false);
	expect_many_leaves(60);
}
END_TEST

START_TEST(every_mount_has_an_epoch_of_its_own)
{
	struct meta_super_info before, after;

	meta_super_info(meta, &before);
	volume_remount();
	meta_super_info(meta, &after);
	ck_assert_uint_eq(after.epoch, before.epoch + 1);
	volume_crash();
	meta_super_info(meta, &before);
	ck_assert_uint_eq(before.epoch, after.epoch + 1);
	ck_assert_uint_gt(before.generation, after.generation);
}
END_TEST

Suite *replay_suite(void)
{
	Suite *suite = suite_create("replay");
	TCase *tcase = tcase_create("replay");

	tcase_add_checked_fixture(tcase, volume_setup, volume_teardown);
	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, a_crash_leaves_a_prefix_with_all_that_was_synced);
	tcase_add_test(tcase, a_torn_record_ends_the_tail);
	tcase_add_loop_test(tcase, a_check_sees_that_records_are_lost, 0, 2);
	tcase_add_loop_test(tcase, a_record_on_one_leg_counts_and_is_copied_to_the_other, 0, 2);
	tcase_add_loop_test(tcase, a_record_that_does_not_belong_there_is_not_taken, 0, FORGERIES);
	tcase_add_loop_test(tcase, a_valid_record_without_sense_refuses_the_volume, 0, SENSELESS);
	tcase_add_loop_test(tcase, an_allocation_outside_the_data_refuses_the_volume, 0, 5);
	tcase_add_loop_test(tcase, a_ring_that_no_leg_can_read_refuses_the_volume, 0, 4);
	tcase_add_loop_test(tcase, a_ring_block_that_one_leg_cannot_read_is_harmless, 0, 8);
	tcase_add_loop_test(tcase, a_leg_that_cannot_take_a_record_at_mount_goes_out, 0, 2);
	tcase_add_test(tcase, data_that_rode_in_records_is_brought_home);
	tcase_add_test(tcase, a_read_only_mount_after_a_crash_writes_nothing);
	tcase_add_test(tcase, no_node_is_put_where_the_tail_has_data);
	tcase_add_loop_test(tcase, a_tail_longer_than_memory_is_replayed_in_pieces, 0, 2);
	tcase_add_test(tcase, a_tail_longer_than_memory_is_not_replayed_without_writing);
	tcase_add_test(tcase, every_mount_has_an_epoch_of_its_own);
	suite_add_tcase(suite, tcase);
	return suite;
}
