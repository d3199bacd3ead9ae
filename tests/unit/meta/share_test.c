/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Blocks that files share, against a plain array of what each file's blocks hold. */
#include "fixture.h"

#include "mirrorfs/base/crc32c.h"

#define FILE1 100
#define FILES 3
#define BLOCKS 400

/* What is in a block of a file: made by that put, for that offset. */
static struct content {
	unsigned int seed; /* 0: a hole */
	uint64_t origin;
} model[FILES][BLOCKS];

static void model_hole(unsigned int file, uint64_t from, uint64_t to)
{
	memset(&model[file][from], 0, (to - from) * sizeof(model[0][0]));
}

static void model_put(unsigned int file, uint64_t from, uint32_t count, unsigned int seed)
{
	for (uint64_t i = from; i < from + count; i++)
		model[file][i] = (struct content){ seed, i };
}

static bool count_owner(void *context, const struct meta_owner *owner)
{
	*(unsigned int *)context += owner->count == 1;
	return true;
}

/* Each block of a put is in one place, whoever has it; each place knows by how many; and no more room is taken. */
static void expect_model(void)
{
	static uint64_t places[FILES * BLOCKS];
	static unsigned int times[FILES * BLOCKS];
	unsigned int count = 0;
	struct meta_statfs st;
	struct meta_super_info info;

	for (unsigned int file = 0; file < FILES; file++) {
		for (uint64_t i = 0; i < BLOCKS; i++) {
			unsigned char wanted[FORMAT_BLOCK];
			struct meta_mapping mapping;
			unsigned int at = 0;

			ck_assert_int_eq(meta_map(meta, FILE1 + file, i, 1, &mapping), 0);
			ck_assert_int_eq(mapping.address != 0, model[file][i].seed != 0);
			if (!mapping.address)
				continue;
			fill_block(wanted, model[file][i].origin, model[file][i].seed);
			ck_assert_uint_eq(mapping.crc[0], crc32c(wanted, FORMAT_BLOCK));
			ck_assert_mem_eq(disk_block(0, mapping.address), wanted, FORMAT_BLOCK);
			while (at < count && places[at] != mapping.address)
				at++;
			if (at == count) {
				places[count] = mapping.address;
				times[count++] = 0;
			}
			times[at]++;
		}
	}
	for (unsigned int at = 0; at < count; at++) {
		unsigned int owners = 0;

		ck_assert_int_eq(meta_owners(meta, places[at], 1, count_owner, &owners), 0);
		ck_assert_uint_eq(owners, times[at]);
	}
	sync_all();
	meta_statfs(meta, &st);
	ck_assert_uint_eq(st.blocks - st.free, count);
	meta_super_info(meta, &info);
	ck_assert_uint_eq(info.data_blocks, count);
}

static void share_some(void)
{
	unsigned int from = (unsigned int)rand() % FILES, to = (unsigned int)rand() % FILES;
	uint64_t count = 1 + (uint64_t)rand() % 120;
	uint64_t at = (uint64_t)rand() % (BLOCKS - count + 1), goal = (uint64_t)rand() % (BLOCKS - count + 1);

	if (from == to && at < goal + count && goal < at + count)
		return;
	share(FILE1 + from, at, FILE1 + to, goal, count);
	memcpy(&model[to][goal], &model[from][at], count * sizeof(model[0][0]));
}

static void put_some(unsigned int seed)
{
	unsigned int file = (unsigned int)rand() % FILES;
	uint32_t count = 1 + (uint32_t)rand() % (rand() % 2 ? 100 : 4);
	uint64_t at = (uint64_t)rand() % (BLOCKS - count + 1);

	put_file(FILE1 + file, at, count, seed, count <= META_TXN_DATA_BLOCKS && rand() % 2, 0, NULL);
	model_put(file, at, count, seed);
}

static void punch_some(void)
{
	unsigned int file = (unsigned int)rand() % FILES;
	uint64_t from = (uint64_t)rand() % BLOCKS, to = from + 1 + (uint64_t)rand() % (BLOCKS - from);

	punch(FILE1 + file, from, to);
	model_hole(file, from, to);
}

START_TEST(a_block_is_freed_with_the_last_that_has_it)
{
	unsigned int seed = 0;

	memset(model, 0, sizeof(model));
	seed_srand(__func__);
	for (unsigned int step = 0; step < 700; step++) {
		unsigned int what = (unsigned int)rand() % 100;

		if (what < 40)
			share_some();
		else if (what < 75)
			put_some(++seed);
		else if (what < 90)
			punch_some();
		else if (what < 93)
			ck_assert_int_eq(meta_checkpoint(meta), 0);
		else if (what < 96)
			volume_remount();
		else if (what < 98) {
			sync_all();
			volume_crash();
		}
		if (step % 50 == 0)
			expect_model();
	}
	expect_model();
	for (unsigned int file = 0; file < FILES; file++) {
		punch(FILE1 + file, 0, BLOCKS);
		model_hole(file, 0, BLOCKS);
	}
	volume_remount();
	expect_model();
}
END_TEST

START_TEST(a_copy_takes_no_room)
{
	struct meta_statfs before, after;

	memset(model, 0, sizeof(model));
	put_file(FILE1, 0, 200, 1, false, 0, NULL);
	meta_statfs(meta, &before);
	share(FILE1, 0, FILE1 + 1, 0, 200);
	meta_statfs(meta, &after);
	ck_assert_uint_eq(before.free, after.free);
	expect_file(FILE1, 0, 200, 1);
	expect_file(FILE1 + 1, 0, 200, 1);
	put_file(FILE1 + 1, 50, 10, 2, false, 0, NULL);
	expect_file(FILE1, 0, 200, 1);
	expect_file(FILE1 + 1, 0, 50, 1);
	expect_file(FILE1 + 1, 50, 10, 2);
	expect_file(FILE1 + 1, 60, 140, 1);
}
END_TEST

/* What a copy lacks became a hole of the target, too. */
START_TEST(holes_are_copied)
{
	put_file(FILE1, 10, 10, 1, false, 0, NULL);
	put_file(FILE1, 40, 5, 1, false, 0, NULL);
	put_file(FILE1 + 1, 0, 100, 2, false, 0, NULL);
	share(FILE1, 0, FILE1 + 1, 0, 90);
	expect_hole(FILE1 + 1, 0, 10);
	expect_file(FILE1 + 1, 10, 10, 1);
	expect_hole(FILE1 + 1, 20, 20);
	expect_file(FILE1 + 1, 40, 5, 1);
	expect_hole(FILE1 + 1, 45, 45);
	expect_file(FILE1 + 1, 90, 10, 2);
}
END_TEST

START_TEST(a_long_copy_is_a_chain_that_a_crash_cuts_anywhere)
{
	const uint64_t step = 2, count = 300;
	uint64_t there = 0;

	for (uint64_t i = 0; i < count; i += step)
		put_file(FILE1, i, 1, 1, true, 0, NULL);
	volume_remount();
	ck_assert_uint_ge(share(FILE1, 0, FILE1 + 1, 0, count), 3);
	sync_all();
	crash_take();
	for (size_t n = 0; n <= crash_count(); n++) {
		uint64_t i = 0, rest;

		crash_at(n, keep_nothing);
		volume_mount(false);
		for (struct meta_mapping mapping; i < count; i += step) {
			ck_assert_int_eq(meta_map(meta, FILE1 + 1, i, 1, &mapping), 0);
			if (!mapping.address)
				break;
			expect_file(FILE1 + 1, i, 1, 1);
		}
		rest = i;
		ck_assert_int_eq(meta_map_seek(meta, FILE1 + 1, false, &rest), -ENOENT);
		expect_file(FILE1, 0, 1, 1);
		ck_assert_uint_ge(i, there);
		there = i;
		volume_kill();
	}
	ck_assert_uint_eq(there, count);
	volume_mount(false);
}
END_TEST

/* As many as have a slot; then whoever asks must copy, and who has it may cut it into pieces. */
START_TEST(a_block_is_in_so_many_files_and_no_more)
{
	struct meta_sharing sharing = { FILE1, 0, FILE1 + SHARE_SLOTS, 0, 2, 0, 0 };
	struct meta_txn *txn;
	struct range_extent where;

	put_file(FILE1, 0, 3, 1, true, 0, &where);
	for (uint64_t i = 1; i < SHARE_SLOTS; i++)
		share(FILE1, 0, FILE1 + i, 0, 3);
	txn = meta_txn_begin(meta);
	ck_assert_int_eq(meta_map_share(txn, &sharing), -EMLINK);
	meta_txn_abort(txn);
	for (uint64_t i = 0; i < SHARE_SLOTS; i += 7)
		punch(FILE1 + i, 1, 2);
	for (uint64_t i = 0; i < SHARE_SLOTS; i++)
		expect_file(FILE1 + i, 2, 1, 1);
	for (uint64_t i = 0; i < SHARE_SLOTS; i++)
		punch(FILE1 + i, 0, 3);
	sync_all();
	ck_assert_int_eq(meta_checkpoint(meta), 0);
	ck_assert(is_free(where.start, 3));
}
END_TEST

static unsigned int bad_told;

static void tell_bad(struct meta_scrub *scrub, const struct meta_live *live, int leg, bool healed)
{
	(void)scrub;
	ck_assert_int_eq(leg, 1);
	ck_assert(healed);
	ck_assert_uint_eq(live->count, 1);
	ck_assert_uint_eq(live->offset, live->object == FILE1 ? 7 : 27);
	bad_told |= 1u << (live->object - FILE1);
}

START_TEST(scrub_names_every_file_that_shares_a_bad_block)
{
	struct meta_scrub scrub = { .bad = tell_bad };
	struct range_extent where;

	put_file(FILE1, 0, 20, 1, false, 0, &where);
	share(FILE1, 5, FILE1 + 1, 25, 10);
	share(FILE1, 0, FILE1 + 2, 20, 20);
	disk_rot(1, where.start + 7, 1);
	ck_assert_int_eq(meta_scrub(meta, &scrub), 0);
	ck_assert_uint_eq(scrub.repaired, 1);
	ck_assert_uint_eq(scrub.unrecoverable, 0);
	ck_assert_uint_eq(bad_told, 7);
	expect_file(FILE1, 0, 20, 1);
}
END_TEST

Suite *share_suite(void)
{
	Suite *suite = suite_create("share");
	TCase *tcase = tcase_create("share");

	tcase_add_checked_fixture(tcase, volume_setup, volume_teardown);
	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, a_block_is_freed_with_the_last_that_has_it);
	tcase_add_test(tcase, a_copy_takes_no_room);
	tcase_add_test(tcase, holes_are_copied);
	tcase_add_test(tcase, a_long_copy_is_a_chain_that_a_crash_cuts_anywhere);
	tcase_add_test(tcase, a_block_is_in_so_many_files_and_no_more);
	tcase_add_test(tcase, scrub_names_every_file_that_shares_a_bad_block);
	suite_add_tcase(suite, tcase);
	return suite;
}
