/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Files' mappings against a plain array: what is where, with which checksums, and how much was freed. */
#include "fixture.h"

#include <sched.h>

#define FILE1 100
#define FILES 2
#define BLOCKS 600
#define JOINED 4

/* Of each block: 0: a hole; else the seed of what was written there. */
static unsigned int model[FILES][BLOCKS];

static uint64_t model_set(unsigned int file, uint64_t from, uint64_t to, unsigned int seed)
{
	uint64_t lost = 0;

	for (uint64_t i = from; i < to; i++) {
		lost += model[file][i] != 0;
		model[file][i] = seed;
	}
	return lost;
}

/* What lies in the block is known to be this one's. */
static void expect_owner(uint64_t object, uint64_t offset)
{
	struct meta_mapping mapping;
	struct meta_live live;

	ck_assert_int_eq(meta_map(meta, object, offset, 1, &mapping), 0);
	ck_assert_int_eq(meta_whose(meta, mapping.address, &live), 0);
	ck_assert_uint_eq(live.object, object);
	ck_assert_uint_eq(live.offset, offset);
	ck_assert_uint_ge(live.count, 1);
}

/* Where nothing is to be waited for, both tell the same. For a moment a thread of meta's own may have the tree. */
static void expect_same_now(uint64_t object, uint64_t offset, uint32_t count)
{
	struct meta_mapping then, now;
	int error = -EAGAIN;

	if (count > EXTENT_BLOCKS_MAX)
		count = EXTENT_BLOCKS_MAX;
	ck_assert_int_eq(meta_map(meta, object, offset, count, &then), 0);
	for (unsigned int tries = 0; error == -EAGAIN && tries < (then.address ? 100000 : 1); tries++) {
		error = meta_map_now(meta, object, offset, count, &now);
		sched_yield();
	}
	ck_assert_int_eq(error, then.address ? 0 : -EAGAIN);
	if (!then.address)
		return;
	ck_assert_uint_eq(now.address, then.address);
	ck_assert_uint_eq(now.offset, then.offset);
	ck_assert_uint_eq(now.count, then.count);
	ck_assert_mem_eq(now.crc, then.crc, then.count * sizeof(then.crc[0]));
}

static void expect_model(void)
{
	uint64_t mapped = 0;
	struct meta_statfs st;
	struct meta_super_info info;

	for (unsigned int file = 0; file < FILES; file++) {
		for (uint64_t from = 0, to; from < BLOCKS; from = to) {
			for (to = from + 1; to < BLOCKS && model[file][to] == model[file][from]; to++)
				;
			if (model[file][from]) {
				expect_file(FILE1 + file, from, (uint32_t)(to - from), model[file][from]);
				expect_owner(FILE1 + file, from);
				expect_owner(FILE1 + file, to - 1);
				expect_same_now(FILE1 + file, from, (uint32_t)(to - from));
				expect_same_now(FILE1 + file, to - 1, BLOCKS);
				mapped += to - from;
			} else {
				expect_hole(FILE1 + file, from, (uint32_t)(to - from));
				expect_same_now(FILE1 + file, from, 1);
			}
		}
	}
	sync_all();
	meta_statfs(meta, &st);
	ck_assert_uint_eq(st.blocks - st.free, mapped);
	meta_super_info(meta, &info);
	ck_assert_uint_eq(info.data_blocks, mapped);
	ck_assert_int_eq(meta_whose(meta, SUPER_RING, &(struct meta_live){.count = 0}), -ENOENT);
}

/* Some pieces, that may overlap, in one transaction. */
static void put_pieces(unsigned int count, unsigned int *seed)
{
	struct put put[JOINED];
	struct meta_txn *txn = meta_txn_begin(meta);
	unsigned int files[JOINED];

	for (unsigned int i = 0; i < count; i++) {
		bool in_record = rand() % 2;
		uint32_t blocks = 1 + (uint32_t)rand() % (in_record ? META_TXN_DATA_BLOCKS / JOINED : 60);
		uint64_t offset = (uint64_t)rand() % (BLOCKS - blocks + 1);

		files[i] = i && rand() % 2 ? files[i - 1] : (unsigned int)rand() % FILES;
		if (i && rand() % 2) /* near the one before */
			offset = put[i - 1].offset + (uint64_t)rand() % 8;
		if (offset + blocks > BLOCKS)
			offset = BLOCKS - blocks;
		put_join(&put[i], txn, FILE1 + files[i], offset, blocks, ++*seed, in_record, 0);
	}
	for (unsigned int i = 0; i < count; i++)
		ck_assert_int_eq(put_wait(&put[i]), 0);
	for (unsigned int i = 0; i < count; i++) {
		uint64_t end = put[i].offset + put[i].extent.length;

		if (rand() % 2) /* and perhaps of more than is put then, or of another place */
			meta_map_limit(txn, FILE1 + files[i], put[rand() % (i + 1)].offset, 1 + (uint32_t)rand() % 60);
		ck_assert_uint_eq(put_map(&put[i]), model_set(files[i], put[i].offset, end, put[i].seed));
	}
	ck_assert_int_eq(meta_txn_commit(txn, NULL), 0);
}

static void punch_some(void)
{
	unsigned int file = (unsigned int)rand() % FILES;
	uint64_t from = (uint64_t)rand() % BLOCKS, to = from + 1 + (uint64_t)rand() % (BLOCKS - from), at = from;

	while (at < to) {
		struct meta_txn *txn = meta_txn_begin(meta);
		uint64_t before = at, freed;

		ck_assert_int_eq(meta_map_punch(txn, FILE1 + file, &at, to, &freed), 0);
		ck_assert_uint_gt(at, before);
		ck_assert_uint_eq(freed, model_set(file, before, at, 0));
		ck_assert_int_eq(meta_txn_commit(txn, NULL), 0);
	}
	ck_assert_uint_eq(at, to);
}

static void seek_some(void)
{
	unsigned int file = (unsigned int)rand() % FILES;
	bool hole = rand() % 2;
	uint64_t from = (uint64_t)rand() % BLOCKS, at = from, wanted = from;
	int error = meta_map_seek(meta, FILE1 + file, hole, &at);

	while (wanted < BLOCKS && (model[file][wanted] == 0) != hole)
		wanted++;
	if (wanted == BLOCKS && !hole) {
		ck_assert_int_eq(error, -ENOENT);
		return;
	}
	ck_assert_int_eq(error, 0);
	ck_assert_uint_eq(at, wanted);
}

START_TEST(random_mappings_are_those_of_an_array)
{
	unsigned int seed = 0;

	seed_srand(__func__);
	for (unsigned int step = 0; step < 600; step++) {
		unsigned int what = (unsigned int)rand() % 100;

		if (what < 50)
			put_pieces(1 + (unsigned int)rand() % JOINED, &seed);
		else if (what < 60)
			punch_some();
		else if (what < 95)
			seek_some();
		else if (what < 97)
			ck_assert_int_eq(meta_checkpoint(meta), 0);
		else if (what < 99)
			volume_remount();
		else {
			sync_all();
			volume_crash();
		}
		if (step % 50 == 0)
			expect_model();
	}
	expect_model();
	volume_remount();
	expect_model();
}
END_TEST

/* A transaction sees what it has done to a file itself, in the middle of an extent that it has cut already. */
START_TEST(a_transaction_cuts_what_it_has_cut)
{
	struct put put[3];
	struct meta_txn *txn = meta_txn_begin(meta);
	uint64_t at = 10, freed;

	put_file(FILE1, 0, 100, 1, false, 0, NULL);
	put_join(&put[0], txn, FILE1, 40, 20, 2, false, 0);
	put_join(&put[1], txn, FILE1, 45, 5, 3, true, 0);
	put_join(&put[2], txn, FILE1, 30, 18, 4, false, 0);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(put_wait(&put[i]), 0);
	ck_assert_uint_eq(put_map(&put[0]), 20);
	ck_assert_uint_eq(put_map(&put[1]), 5);
	ck_assert_uint_eq(put_map(&put[2]), 18);
	ck_assert_int_eq(meta_map_punch(txn, FILE1, &at, 35, &freed), 0);
	ck_assert_uint_eq(freed, 25);
	expect_file(FILE1, 0, 100, 1); /* nobody sees it before it is committed */
	ck_assert_int_eq(meta_txn_commit(txn, NULL), 0);
	for (int i = 0; i < 2; i++) {
		expect_file(FILE1, 0, 10, 1);
		expect_hole(FILE1, 10, 25);
		expect_file(FILE1, 35, 13, 4);
		expect_file(FILE1, 48, 2, 3);
		expect_file(FILE1, 50, 10, 2);
		expect_file(FILE1, 60, 40, 1);
		sync_all();
		volume_crash();
	}
}
END_TEST

/* Hundreds of extents: a punch of all is a chain of transactions, a put over all is one. */
static void make_crumbs(void)
{
	for (uint64_t i = 0; i < 400; i++)
		put_file(FILE1, i, 1, (unsigned int)i, true, 0, NULL);
	sync_all();
}

START_TEST(a_long_punch_is_a_chain_of_transactions)
{
	unsigned int links = 0;
	uint64_t at = 0, total = 0;

	make_crumbs();
	while (at < 400) {
		struct meta_txn *txn = meta_txn_begin(meta);
		uint64_t freed;

		ck_assert_int_eq(meta_map_punch(txn, FILE1, &at, 400, &freed), 0);
		ck_assert_int_eq(meta_txn_commit(txn, NULL), 0);
		total += freed;
		links++;
	}
	ck_assert_uint_eq(total, 400);
	ck_assert_uint_ge(links, 2);
	expect_hole(FILE1, 0, 400);
}
END_TEST

START_TEST(one_extent_replaces_hundreds)
{
	make_crumbs();
	put_file(FILE1, 0, EXTENT_BLOCKS_MAX, 7, false, 0, NULL);
	sync_all();
	volume_crash();
	expect_file(FILE1, 0, EXTENT_BLOCKS_MAX, 7);
}
END_TEST

START_TEST(another_file_is_not_touched)
{
	for (unsigned int i = 0; i < 3; i++)
		put_file(FILE1 + i, 0, 10, i, true, 0, NULL);
	punch(FILE1 + 1, 0, UINT64_MAX);
	expect_file(FILE1, 0, 10, 0);
	expect_hole(FILE1 + 1, 0, 10);
	expect_file(FILE1 + 2, 0, 10, 2);
}
END_TEST

/* Space without content, or whatever a later format means by a flag, is never taken for content. */
START_TEST(an_extent_with_flags_is_malformed)
{
	struct meta_key key = { FILE1, TYPE_EXTENT, 0 };
	struct format_extent *extent = calloc(1, sizeof(*extent) + 4);
	struct meta_mapping mapping;
	struct meta_txn *txn = meta_txn_begin(meta);

	extent->address = le64_of(meta->boundary);
	extent->length = le32_of(1);
	ck_assert(meta_extent_valid(meta, &key, extent, sizeof(*extent) + 4));
	extent->flags = le32_of(1);
	ck_assert(!meta_extent_valid(meta, &key, extent, sizeof(*extent) + 4));
	meta_txn_put(txn, &key, extent, sizeof(*extent) + 4);
	ck_assert_int_eq(meta_txn_commit(txn, NULL), 0);
	ck_assert_int_eq(meta_map(meta, FILE1, 0, 1, &mapping), -EIO);
	free(extent);
}
END_TEST

START_TEST(an_extent_that_is_longer_than_any_is_malformed)
{
	struct meta_key key = { FILE1, TYPE_EXTENT, 0 };
	size_t most = sizeof(struct format_extent) + 4 * EXTENT_BLOCKS_MAX;
	struct format_extent *extent = calloc(1, most + 4);

	extent->address = le64_of(meta->boundary);
	extent->length = le32_of(EXTENT_BLOCKS_MAX);
	ck_assert(meta_extent_valid(meta, &key, extent, most));
	extent->length = le32_of(EXTENT_BLOCKS_MAX + 1);
	ck_assert(!meta_extent_valid(meta, &key, extent, most + 4));
	/* Its checksums would take 4 bytes, in 32 bits. */
	extent->length = le32_of((1u << 30) + 1);
	ck_assert(!meta_extent_valid(meta, &key, extent, sizeof(*extent) + 4));
	free(extent);
}
END_TEST

Suite *map_suite(void)
{
	Suite *suite = suite_create("map");
	TCase *tcase = tcase_create("map");

	tcase_add_checked_fixture(tcase, volume_setup, volume_teardown);
	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, random_mappings_are_those_of_an_array);
	tcase_add_test(tcase, a_transaction_cuts_what_it_has_cut);
	tcase_add_test(tcase, a_long_punch_is_a_chain_of_transactions);
	tcase_add_test(tcase, one_extent_replaces_hundreds);
	tcase_add_test(tcase, another_file_is_not_touched);
	tcase_add_test(tcase, an_extent_with_flags_is_malformed);
	tcase_add_test(tcase, an_extent_that_is_longer_than_any_is_malformed);
	suite_add_tcase(suite, tcase);
	return suite;
}
