/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Scrub: what rots on a leg is found, healed from the other leg, and told. */
#include "fixture.h"

#define FILE1 100
#define FILE2 101
#define NODES 1024

static struct found {
	struct meta_live live;
	int leg;
	bool healed;
} found[16];
static unsigned int found_count;
static uint64_t nodes[NODES];
static size_t nodes_live;
static struct range_extent data;

static void note(struct meta_scrub *scrub, const struct meta_live *live, int leg, bool healed)
{
	ck_assert_uint_lt(found_count, 16);
	found[found_count++] = (struct found){ *live, leg, healed };
}

static struct meta_scrub scrub(void)
{
	struct meta_scrub scrub = { .bad = note };

	found_count = 0;
	ck_assert_int_eq(meta_scrub(meta, &scrub), 0);
	return scrub;
}

static void setup(void)
{
	volume_setup();
	for (uint64_t i = 0; i < 200; i++)
		put_item(FILE1, i, 1, 1000);
	put_file(FILE1, 0, 40, 1, false, 0, &data);
	put_file(FILE2, 7, 3, 2, true, 0, NULL);
	ck_assert_int_eq(meta_checkpoint(meta), 0);
	nodes_live = disk_nodes(disk_super(0, true), nodes, NODES);
	ck_assert_uint_gt(nodes_live, 10);
}

START_TEST(a_sound_volume_is_read_whole_on_each_leg)
{
	struct meta_scrub done;
	size_t from = log_count();

	done = scrub();
	ck_assert_uint_eq(done.blocks, MIRROR_LEGS * (2 + nodes_live * NODE_BLOCKS + 40 + 3));
	ck_assert_uint_eq(done.repaired + done.unrecoverable + found_count, 0);
	ck_assert_uint_eq(log_count(), from);
}
END_TEST

/* Stops after each window. */
static bool one_window(struct meta_scrub *scrub, uint64_t done, uint64_t total)
{
	ck_assert_uint_le(done, total);
	return scrub->position == 0;
}

START_TEST(a_scrub_is_remembered_across_mounts)
{
	struct meta_scrub_state state = { .position = 123456, .done = 7, .blocks = 8, .repaired = 9,
					  .unrecoverable = 10, .began = 11, .ended = 12, .under_way = true };
	struct meta_scrub_state kept;

	meta_scrub_state(meta, &kept);
	ck_assert(!kept.under_way && !kept.began && !kept.ended && !kept.position);
	ck_assert_int_eq(meta_scrub_remember(meta, &state, true), 0);
	volume_crash();
	meta_scrub_state(meta, &kept);
	ck_assert_uint_eq(kept.position, 123456);
	ck_assert_uint_eq(kept.done, 7);
	ck_assert_uint_eq(kept.blocks, 8);
	ck_assert_uint_eq(kept.repaired, 9);
	ck_assert_uint_eq(kept.unrecoverable, 10);
	ck_assert_uint_eq(kept.began, 11);
	ck_assert_uint_eq(kept.ended, 12);
	ck_assert(kept.under_way);
	state.under_way = false;
	ck_assert_int_eq(meta_scrub_remember(meta, &state, false), 0);
	volume_unmount();
	volume_mount(false);
	meta_scrub_state(meta, &kept);
	ck_assert(!kept.under_way && kept.position == 123456);
}
END_TEST

START_TEST(a_scrub_that_is_stopped_goes_on_where_it_was)
{
	struct meta_scrub scrub = { .bad = note, .progress = one_window, .gently = true };
	struct range_extent extents[8];
	unsigned int runs = 1;

	for (int i = 0; i < 8; i++)
		put_file(FILE2 + 1 + (uint64_t)i, 0, 100, 3, false, 0, &extents[i]);
	ck_assert_int_eq(meta_checkpoint(meta), 0);
	found_count = 0;
	disk_rot(0, extents[0].start + 5, 1);
	disk_rot(1, extents[7].start + 5, 1);
	while (meta_scrub(meta, &scrub) == -EINTR) {
		/* It is not looked for again where it was looked for. */
		disk_rot(0, data.start + 1, 1);
		runs++;
	}
	ck_assert_uint_ge(runs, 3);
	ck_assert_uint_eq(scrub.repaired, 2);
	ck_assert_uint_eq(found_count, 2);
	ck_assert_uint_eq(scrub.position, 0);
	nodes_live = disk_nodes(disk_super(0, true), nodes, NODES);
	ck_assert_uint_ge(scrub.done, nodes_live * NODE_BLOCKS + 43 + 800);
	ck_assert_uint_eq(scrub.blocks, MIRROR_LEGS * (2 + nodes_live * NODE_BLOCKS + 43 + 800));
}
END_TEST

START_TEST(rotted_data_is_healed_from_the_other_leg)
{
	struct meta_scrub done;

	disk_rot(_i, data.start + 5, 2);
	done = scrub();
	ck_assert_uint_eq(done.repaired, 2);
	ck_assert_uint_eq(done.unrecoverable, 0);
	ck_assert_uint_eq(found_count, 1);
	ck_assert(found[0].healed && found[0].leg == _i && found[0].live.kind == META_LIVE_DATA);
	ck_assert_uint_eq(found[0].live.address, data.start + 5);
	ck_assert_uint_eq(found[0].live.count, 2);
	ck_assert_uint_eq(found[0].live.object, FILE1);
	ck_assert_uint_eq(found[0].live.offset, 5);
	expect_file(FILE1, 0, 40, 1);
	ck_assert_uint_eq(scrub().repaired, 0);
}
END_TEST

START_TEST(legs_that_are_bad_in_different_blocks_heal_each_other)
{
	struct meta_scrub done;

	disk_rot(0, data.start + 5, 1);
	disk_rot(1, data.start + 6, 1);
	disk_rot(0, data.start + 7, 1);
	done = scrub();
	ck_assert_uint_eq(done.repaired, 3);
	ck_assert_uint_eq(found_count, 3);
	expect_file(FILE1, 0, 40, 1);
}
END_TEST

START_TEST(a_rotted_node_is_healed)
{
	unsigned int which = (unsigned int)_i / 2; /* the root, and others */
	uint64_t node = nodes[which];
	struct meta_scrub done;

	disk_rot(_i & 1, node + 3, 1);
	done = scrub();
	ck_assert_uint_eq(done.repaired, NODE_BLOCKS);
	ck_assert_uint_eq(found_count, 1);
	ck_assert(found[0].healed && found[0].leg == (_i & 1) && found[0].live.kind == META_LIVE_NODE);
	ck_assert_uint_eq(found[0].live.address, node);
	for (unsigned int i = 0; i < NODE_BLOCKS; i++)
		ck_assert_mem_eq(disk_block(0, node + i), disk_block(1, node + i), FORMAT_BLOCK);
}
END_TEST

START_TEST(a_rotted_slot_is_healed)
{
	uint64_t slot = _i & 1 ? SUPER_SLOT1 : SUPER_SLOT0;

	disk_rot(_i / 2, slot, 1);
	ck_assert_uint_eq(scrub().repaired, 1);
	ck_assert_mem_eq(disk_block(0, slot), disk_block(1, slot), FORMAT_BLOCK);
	ck_assert_uint_eq(scrub().repaired, 0);
}
END_TEST

START_TEST(what_is_bad_on_both_legs_is_lost_and_left_alone)
{
	unsigned char before[MIRROR_LEGS][FORMAT_BLOCK];
	struct meta_scrub done;

	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		disk_rot(leg, data.start + 5, 1);
		disk_block(leg, data.start + 5)[leg] ^= 1;
		memcpy(before[leg], disk_block(leg, data.start + 5), FORMAT_BLOCK);
	}
	done = scrub();
	ck_assert_uint_eq(done.repaired, 0);
	ck_assert_uint_eq(done.unrecoverable, 1);
	ck_assert_uint_eq(found_count, 2);
	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		ck_assert(!found[leg].healed);
		ck_assert_mem_eq(before[leg], disk_block(leg, data.start + 5), FORMAT_BLOCK);
	}
	expect_file(FILE1, 6, 34, 1);
}
END_TEST

START_TEST(a_copy_that_cannot_be_read_is_rewritten)
{
	struct meta_scrub done;
	size_t from = log_count();

	disk_fails(_i, LEG_READ, data.start + 9, 1, -EIO);
	done = scrub();
	ck_assert_uint_eq(done.repaired, 1);
	ck_assert_uint_eq(found_count, 1);
	ck_assert(log_wrote(from, log_count(), data.start + 9, 1));
	ck_assert(!log_wrote(from, log_count(), data.start + 8, 1));
	ck_assert_uint_lt(log_find(from, _i, PLACE_FLUSH), log_count());
}
END_TEST

START_TEST(a_copy_that_cannot_be_rewritten_is_not_told_healed)
{
	struct meta_scrub done;

	disk_rot(1, data.start + 9, 1);
	disk_fails(1, LEG_WRITE, data.start + 9, 1, -EIO);
	done = scrub();
	ck_assert_uint_eq(done.repaired, 0);
	ck_assert_uint_eq(done.unrecoverable, 0);
	ck_assert_uint_eq(found_count, 1);
	ck_assert(!found[0].healed);
}
END_TEST

START_TEST(a_read_only_volume_is_checked_and_not_rewritten)
{
	struct meta_scrub done;

	volume_unmount();
	disk_rot(1, data.start + 5, 1);
	volume_mount(true);
	nodes_live = disk_nodes(disk_super(0, true), nodes, NODES);
	disk_rot(1, nodes[nodes_live - 1], 1);
	disk_rot(0, le64_get(disk_super(0, false)->address), 1);
	done = scrub();
	ck_assert_uint_eq(done.blocks, MIRROR_LEGS * (2 + nodes_live * NODE_BLOCKS + 40 + 3));
	ck_assert_uint_eq(done.repaired, 0);
	ck_assert_uint_eq(done.unrecoverable, 0);
	ck_assert_uint_eq(found_count, 2);
	ck_assert(!found[0].healed && found[0].live.kind == META_LIVE_NODE);
	ck_assert(!found[1].healed && found[1].live.kind == META_LIVE_DATA);
	volume_unmount();
	ck_assert_uint_eq(log_count(), 0);
}
END_TEST

/* What only the ring has is not bad on the disks. */
START_TEST(a_read_only_volume_with_a_tail_is_sound)
{
	struct meta_scrub done;

	put_file(FILE2, 0, 16, 3, true, 0, NULL);
	for (uint64_t i = 0; i < 50; i++)
		put_item(FILE1, 3 * i, 2, 900);
	sync_all();
	crash_take();
	crash_at(crash_count(), keep_nothing);
	volume_mount(true);
	done = scrub();
	ck_assert_uint_eq(done.unrecoverable, 0);
	ck_assert_uint_eq(found_count, 0);
	ck_assert_uint_gt(done.blocks, MIRROR_LEGS * (40 + 3));
}
END_TEST

static bool stop_early(struct meta_scrub *scrub, uint64_t done, uint64_t total)
{
	unsigned int *left = scrub->context;

	ck_assert_uint_gt(done, 0);
	ck_assert_uint_le(done, total);
	return --*left;
}

START_TEST(it_stops_when_it_is_told_to)
{
	unsigned int left = (unsigned int)_i;
	struct meta_scrub done = { .progress = stop_early, .context = &left };

	disk_rot(1, data.start + 39, 1);
	ck_assert_int_eq(meta_scrub(meta, &done), -EINTR);
	ck_assert_uint_eq(left, 0);
	ck_assert_uint_eq(done.repaired, 0);
}
END_TEST

START_TEST(what_the_ring_holds_is_brought_home_first)
{
	struct meta_scrub done;

	put_file(FILE2, 100, 4, 9, true, 0, NULL);
	done = scrub();
	ck_assert_uint_ge(done.blocks, MIRROR_LEGS * (2 + nodes_live * NODE_BLOCKS + 40 + 3 + 4));
	ck_assert_uint_eq(found_count, 0);
}
END_TEST

/* Between its windows somebody commits. */
static bool put_ahead(struct meta_scrub *scrub, uint64_t done, uint64_t total)
{
	static unsigned int more;

	(void)done, (void)total;
	if (scrub->position && more < 20) {
		put_file(FILE2 + 1, more, 1, more, true, scrub->position + 50, NULL);
		more++;
	}
	return true;
}

START_TEST(what_is_not_home_yet_is_nothing_wrong)
{
	struct meta_scrub beside = { .bad = note, .progress = put_ahead, .gently = true };

	for (uint64_t i = 0; i < 40; i++)
		put_file(FILE2 + 2 + i, 0, 200, 3, false, 0, NULL);
	ck_assert_int_eq(meta_scrub(meta, &beside), 0);
	ck_assert_uint_eq(beside.repaired + beside.unrecoverable + found_count, 0);
	for (unsigned int i = 0; i < 20; i++)
		expect_file(FILE2 + 1, i, 1, i);
}
END_TEST

static bool stop;

static void scrub_on(void *arg)
{
	do {
		struct meta_scrub done = scrub();

		ck_assert_uint_eq(done.repaired + done.unrecoverable, 0);
		ck_assert_uint_eq(found_count, 0);
		++*(unsigned int *)arg;
	} while (!__atomic_load_n(&stop, __ATOMIC_SEQ_CST));
}

START_TEST(changes_beside_it_are_nothing_wrong)
{
	struct thread thread;
	unsigned int rounds = 0;

	ck_assert_int_eq(thread_start(&thread, "scrub", scrub_on, &rounds), 0);
	for (unsigned int i = 0; i < 150; i++) {
		put_file(FILE1, i * 7 % 40, 1 + i % 16, i, i % 3, 0, NULL);
		put_item(FILE1, i, (int)i, 100 * (i % 30));
		if (i % 5 == 0)
			punch(FILE1, i * 3 % 40, i * 3 % 40 + 5);
		if (i % 7 == 0)
			sync_all();
		if (i % 20 == 0)
			ck_assert_int_eq(meta_checkpoint(meta), 0);
	}
	__atomic_store_n(&stop, true, __ATOMIC_SEQ_CST);
	thread_join(&thread);
	ck_assert_uint_gt(rounds, 0);
}
END_TEST

Suite *scrub_suite(void)
{
	Suite *suite = suite_create("scrub");
	TCase *tcase = tcase_create("scrub");

	tcase_add_checked_fixture(tcase, setup, volume_teardown);
	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, a_sound_volume_is_read_whole_on_each_leg);
	tcase_add_test(tcase, a_scrub_that_is_stopped_goes_on_where_it_was);
	tcase_add_test(tcase, a_scrub_is_remembered_across_mounts);
	tcase_add_loop_test(tcase, rotted_data_is_healed_from_the_other_leg, 0, 2);
	tcase_add_test(tcase, legs_that_are_bad_in_different_blocks_heal_each_other);
	tcase_add_loop_test(tcase, a_rotted_node_is_healed, 0, 6);
	tcase_add_loop_test(tcase, a_rotted_slot_is_healed, 0, 4);
	tcase_add_test(tcase, what_is_bad_on_both_legs_is_lost_and_left_alone);
	tcase_add_loop_test(tcase, a_copy_that_cannot_be_read_is_rewritten, 0, 2);
	tcase_add_test(tcase, a_copy_that_cannot_be_rewritten_is_not_told_healed);
	tcase_add_test(tcase, a_read_only_volume_is_checked_and_not_rewritten);
	tcase_add_test(tcase, a_read_only_volume_with_a_tail_is_sound);
	tcase_add_loop_test(tcase, it_stops_when_it_is_told_to, 1, 3);
	tcase_add_test(tcase, what_the_ring_holds_is_brought_home_first);
	tcase_add_test(tcase, what_is_not_home_yet_is_nothing_wrong);
	tcase_add_test(tcase, changes_beside_it_are_nothing_wrong);
	suite_add_tcase(suite, tcase);
	return suite;
}
