/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fixture.h"

#include "mirrorfs/base/clock.h"

#include <stdio.h>
#include <unistd.h>

#define OLD 100 /* a file that both legs have from the beginning */
#define NEW 200 /* one that was written while leg 1 was away */
#define OLD_BLOCKS 2000

static void mount_with(unsigned int legs)
{
	legs_there = legs;
	volume_mount(false);
}

static struct mirror_status status(void)
{
	struct mirror_status now;

	mirror_status(mirror, &now);
	return now;
}

/* No verdict depends on how long it takes. */
static enum mirror_leg_state resync_ends(int leg)
{
	struct mirror_status now;

	do {
		usleep(1000);
		now = status();
	} while (!now.resync.ended && (now.leg[leg].state != MIRROR_INSYNC || now.resync.leg >= 0));
	return now.leg[leg].state;
}

static struct mirror_label_info label_of(int leg)
{
	struct mirror_label_info info;
	struct leg *open = disk_open(disks[leg]);

	ck_assert_int_eq(mirror_label_read(open, &info, NULL), 0);
	leg_close(open);
	return info;
}

/* Every copy on both legs is right. */
static void legs_are_equal(void)
{
	struct meta_scrub scrub = { .blocks = 0 };

	ck_assert_int_eq(meta_scrub(meta, &scrub), 0);
	ck_assert_uint_eq(scrub.repaired, 0);
	ck_assert_uint_eq(scrub.unrecoverable, 0);
}

static uint64_t blocks_to(int leg)
{
	uint64_t blocks = 0;

	for (size_t n = 0; n < log_count(); n++) {
		if (log_entry(n)->leg == leg && log_entry(n)->place == PLACE_HEAP)
			blocks += log_entry(n)->count;
	}
	return blocks;
}

static void put_big(uint64_t object, uint32_t blocks, unsigned int seed)
{
	for (uint32_t at = 0; at < blocks; at += 200)
		put_file(object, at, 200, seed, false, 0, NULL);
}

static void expect_big(uint64_t object, uint32_t blocks, unsigned int seed)
{
	for (uint32_t at = 0; at < blocks; at += 200)
		expect_file(object, at, 200, seed);
}

/* Leg 1 was away while this was written; unmounted. */
static void leg1_misses_something(void)
{
	put_big(OLD, OLD_BLOCKS, 1);
	ck_assert_int_eq(meta_checkpoint(meta), 0);
	volume_unmount();
	mount_with(1);
	put_file(NEW, 0, 20, 2, false, 0, NULL);
	put_file(NEW, 20, 3, 2, true, 0, NULL);
	put_file(OLD, 400, 5, 3, false, 0, NULL);
	put_item(NEW, 7, 7, 700);
	volume_unmount();
	legs_there = 3;
}

static void expect_all(void)
{
	expect_file(NEW, 0, 23, 2);
	expect_file(OLD, 0, 400, 1);
	expect_file(OLD, 400, 5, 3);
	expect_file(OLD, 405, 1500, 1);
	expect_item(NEW, 7, 7, 700);
}

START_TEST(a_leg_that_comes_back_is_filled_with_what_was_born_since)
{
	uint64_t copied;

	leg1_misses_something();
	mount_with(3);
	ck_assert_int_eq(resync_ends(1), MIRROR_INSYNC);
	ck_assert(status().healthy);
	copied = blocks_to(1);
	ck_assert_mem_eq(disk_block(1, SUPER_SLOT0), disk_block(0, SUPER_SLOT0), FORMAT_BLOCK);
	ck_assert_mem_eq(disk_block(1, SUPER_SLOT1), disk_block(0, SUPER_SLOT1), FORMAT_BLOCK);
	expect_all();
	legs_are_equal();
	/* Of 8 MB only what is new, and the nodes and checkpoints that lead to it. */
	ck_assert_uint_lt(copied, 28 + 40 * NODE_BLOCKS);
	volume_unmount();
	ck_assert(!label_of(1).resyncing && !label_of(1).superseded && !label_of(0).lacks_other);
	mount_with(2);
	expect_all();
}
END_TEST

START_TEST(a_leg_whose_past_is_not_known_is_filled_as_a_whole)
{
	put_big(OLD, OLD_BLOCKS, 1);
	ck_assert_int_eq(meta_checkpoint(meta), 0);
	volume_unmount();
	mount_with(1);
	put_file(NEW, 0, 20, 2, false, 0, NULL);
	volume_unmount();
	/* Its slots are those of an earlier time: it is not the leg that the label tells of. */
	memset(disk_block(1, SUPER_SLOT0), 0, FORMAT_BLOCK);
	memset(disk_block(1, SUPER_SLOT1), 0, FORMAT_BLOCK);
	for (uint64_t block = 0; block < 3000; block++)
		memset(disk_block(1, le64_get(disk_super(0, true)->boundary) + block), 0xee, FORMAT_BLOCK);
	mount_with(3);
	ck_assert_int_eq(resync_ends(1), MIRROR_INSYNC);
	ck_assert_uint_gt(blocks_to(1), OLD_BLOCKS);
	expect_big(OLD, OLD_BLOCKS, 1);
	legs_are_equal();
}
END_TEST

START_TEST(rot_is_not_copied)
{
	struct range_extent where;
	struct meta_scrub scrub = { .blocks = 0 };

	leg1_misses_something();
	mount_with(1);
	put_file(NEW, 100, 8, 5, false, 0, &where);
	volume_unmount();
	disk_rot(0, where.start + 3, 1);
	mount_with(3);
	ck_assert_int_eq(resync_ends(1), MIRROR_INSYNC);
	ck_assert(memcmp(disk_block(1, where.start + 3), disk_block(0, where.start + 3), FORMAT_BLOCK));
	ck_assert(!memcmp(disk_block(1, where.start + 4), disk_block(0, where.start + 4), FORMAT_BLOCK));
	ck_assert_int_eq(meta_scrub(meta, &scrub), 0);
	ck_assert_uint_eq(scrub.unrecoverable, 1);
}
END_TEST

START_TEST(what_the_survivor_has_lost_is_read_from_the_leg_that_is_filled)
{
	struct format_super super;
	uint64_t nodes[64];
	size_t count;

	for (uint64_t number = 0; number < 200; number++)
		put_item(OLD, number, 1, 700);
	ck_assert_int_eq(meta_checkpoint(meta), 0);
	volume_unmount();
	super = *disk_super(0, true);
	count = disk_nodes(&super, nodes, 64);
	ck_assert_uint_gt(count, 4);
	mount_with(1);
	put_item(NEW, 7, 7, 700);
	volume_unmount();
	/* All nodes that leg 1 has as well. */
	for (size_t n = 0; n < count; n++)
		disk_rot(0, nodes[n], NODE_BLOCKS);
	mount_with(3);
	ck_assert_int_eq(resync_ends(1), MIRROR_INSYNC);
	expect_item(NEW, 7, 7, 700);
	for (uint64_t number = 0; number < 200; number++)
		expect_item(OLD, number, 1, 700);
}
END_TEST

START_TEST(a_leg_that_fails_while_it_is_filled_goes_out_and_the_volume_goes_on)
{
	leg1_misses_something();
	disk_fails(1, LEG_WRITE, 0, UINT32_MAX, -EIO);
	mount_with(3);
	ck_assert_int_eq(resync_ends(1), MIRROR_OFFLINE);
	put_file(NEW, 300, 4, 9, false, 0, NULL);
	sync_all();
	ck_assert(!mirror_failed(mirror));
	volume_unmount();
	disks_work();
	ck_assert(label_of(1).resyncing);
	mount_with(3);
	ck_assert_int_eq(resync_ends(1), MIRROR_INSYNC);
	expect_all();
	expect_file(NEW, 300, 4, 9);
	legs_are_equal();
}
END_TEST

START_TEST(a_commit_that_took_its_blocks_before_the_resync_is_on_both_legs)
{
	struct put put;
	uint64_t from;

	leg1_misses_something();
	/* Leg 1 cannot begin: its superblock does not answer. */
	disk_fails(1, LEG_READ, SUPER_SLOT0, 1, FAKE_HANG);
	mount_with(3);
	disk_wait_hanging(disks[1], 1);
	put_begin(&put, NEW, 500, 16, 4, false, 0);
	ck_assert_int_eq(put_wait(&put), 0);
	disks_work();
	disk_release(disks[1], 0);
	/* Leg 1 is written to now: whatever has gone through the tree by now has not seen this extent. */
	while (status().leg[1].state != MIRROR_RESYNC)
		usleep(1000);
	from = log_count();
	put_item(NEW, 8, 8, 100);
	sync_all();
	while (log_find(from, 1, PLACE_RING) == log_count())
		usleep(1000);
	usleep(50000);
	put_commit(&put);
	ck_assert_int_eq(resync_ends(1), MIRROR_INSYNC);
	expect_file(NEW, 500, 16, 4);
	legs_are_equal();
}
END_TEST

static unsigned int cut_seed;

static bool keep_some(const struct entry *entry)
{
	uint64_t word = (entry->block + 1) * UINT64_C(0x9e3779b97f4a7c15) + cut_seed * UINT64_C(0xbf58476d1ce4e5b9);

	return word >> 40 & 1;
}

/* What leg 1 says of itself is true: either it is not to be mounted alone, or it has everything that was synced. */
static void leg1_alone_is_whole_or_refused(bool synced)
{
	struct mirror_label_info info = label_of(1);

	if (info.resyncing || info.superseded)
		return;
	mount_with(2);
	expect_all();
	if (synced)
		expect_file(NEW, 600, 4, 6);
	volume_kill();
}

START_TEST(wherever_the_power_fails_both_legs_come_good)
{
	size_t count, synced, told;

	seed_srand(__func__);
	leg1_misses_something();
	mount_with(3);
	put_file(NEW, 600, 4, 6, true, 0, NULL);
	sync_all();
	synced = log_count();
	put_file(NEW, 700, 9, 6, false, 0, NULL);
	ck_assert_int_eq(resync_ends(1), MIRROR_INSYNC);
	put_file(NEW, 800, 9, 6, false, 0, NULL);
	sync_all();
	told = log_find(0, 1, PLACE_LABEL); /* until then leg 1 cannot know that it was away */
	crash_take();
	count = crash_count();
	for (size_t n = 0; n <= count; n += count > 60 ? 1 + (size_t)rand() % (count / 30) : 1) {
		keep_rule *keep = n % 3 == 0 ? keep_nothing : n % 3 == 1 ? keep_everything : keep_some;

		cut_seed = (unsigned int)rand();
		crash_at(n, keep);
		if (n > told)
			leg1_alone_is_whole_or_refused(n >= synced);
		crash_at(n, keep);
		mount_with(3);
		ck_assert_int_eq(resync_ends(1), MIRROR_INSYNC);
		expect_all();
		if (n >= synced)
			expect_file(NEW, 600, 4, 6);
		legs_are_equal();
		volume_kill();
	}
	crash_at(count, keep_nothing);
	mount_with(3);
}
END_TEST

static int try_both(void)
{
	const struct mirror_options options = { .pool = iobuf_pool_create(1u << 20, 1u << 20), .read_only = true };
	struct leg *legs[MIRROR_LEGS] = { disk_open(disks[0]), disk_open(disks[1]) };
	struct mirror *both;
	struct error why;
	int error = mirror_open(legs, &options, &both, &why);

	if (!error)
		ck_assert(mirror_close(both));
	for (int leg = 0; leg < MIRROR_LEGS && error; leg++)
		leg_close(legs[leg]);
	iobuf_pool_destroy(options.pool);
	return error;
}

/* From the moment on that the filled leg may be mounted alone, also if the other one is lost in that very moment. */
START_TEST(what_either_leg_writes_alone_behind_a_resync_is_a_history_of_its_own)
{
	size_t filling;
	unsigned int seen = 0;

	leg1_misses_something();
	mount_with(3);
	ck_assert_int_eq(resync_ends(1), MIRROR_INSYNC);
	filling = log_find(0, 1, PLACE_LABEL); /* until then leg 1 cannot know that it was away */
	crash_take();
	for (size_t n = 1; n <= crash_count(); n++) {
		struct mirror_label_info info;

		if (crash_entry(n - 1)->place != PLACE_LABEL || n <= filling)
			continue;
		crash_at(n, keep_nothing);
		info = label_of(1);
		if (info.resyncing || info.superseded)
			continue;
		for (unsigned int legs = 2; legs > 0; legs--) {
			mount_with(legs);
			put_item(NEW, 10 + legs, 1, 100);
			volume_unmount();
		}
		ck_assert_int_eq(try_both(), -ESTALE);
		seen++;
	}
	ck_assert_uint_gt(seen, 0);
	legs_there = 3;
}
END_TEST

START_TEST(a_leg_missing_unexpectedly_lacks_what_came_after_the_last_but_one_checkpoint)
{
	put_big(OLD, OLD_BLOCKS, 1);
	ck_assert_int_eq(meta_checkpoint(meta), 0);
	put_item(NEW, 1, 1, 10);
	ck_assert_int_eq(meta_checkpoint(meta), 0);
	put_item(NEW, 2, 1, 10);
	sync_all();
	crash_take();
	crash_at(crash_count(), keep_nothing);
	mount_with(1);
	volume_unmount();
	ck_assert_uint_gt(label_of(0).lacks_after, 0);
	mount_with(3);
	ck_assert_int_eq(resync_ends(1), MIRROR_INSYNC);
	ck_assert_uint_lt(blocks_to(1), OLD_BLOCKS);
	legs_are_equal();
}
END_TEST

/* What meta_missing() has told, a line each: "object: offset+count". */
static char told[4096];

static bool tell(struct meta_missing *missing, uint64_t object, uint64_t offset, uint32_t count)
{
	size_t length = strlen(told);

	(void)missing;
	snprintf(told + length, sizeof(told) - length, "%llu: %llu+%u\n", (unsigned long long)object,
		 (unsigned long long)offset, count);
	return true;
}

static struct meta_missing missing_now(void)
{
	struct meta_missing missing = { .piece = tell };

	told[0] = '\0';
	ck_assert_int_eq(meta_missing(meta, &missing), 0);
	return missing;
}

static bool enough(struct meta_missing *missing, uint64_t object, uint64_t offset, uint32_t count)
{
	tell(missing, object, offset, count);
	return false;
}

START_TEST(what_is_on_one_leg_alone_is_told_by_file)
{
	struct meta_missing missing;

	put_big(OLD, OLD_BLOCKS, 1);
	ck_assert_int_eq(meta_checkpoint(meta), 0);
	ck_assert_int_eq(missing_now().leg, -1);
	volume_unmount();
	mount_with(1);
	missing = missing_now();
	ck_assert_int_eq(missing.leg, 1);
	ck_assert_str_eq(told, "");
	put_file(OLD, 400, 5, 3, false, 0, NULL);
	put_file(NEW, 20, 3, 2, true, 0, NULL);
	put_file(NEW, 0, 20, 2, false, 0, NULL);
	missing = missing_now();
	ck_assert_str_eq(told, "100: 400+5\n200: 0+20\n200: 20+3\n");
	ck_assert_uint_gt(missing.node_blocks, 0);
	/* It is so in the next mount, and what is gone is not told. */
	punch(NEW, 0, 20);
	volume_unmount();
	mount_with(1);
	missing_now();
	ck_assert_str_eq(told, "100: 400+5\n200: 20+3\n");
	missing = (struct meta_missing){ .piece = enough };
	told[0] = '\0';
	ck_assert_int_eq(meta_missing(meta, &missing), -EINTR);
	ck_assert_str_eq(told, "100: 400+5\n");
	volume_unmount();
	mount_with(3);
	ck_assert_int_eq(resync_ends(1), MIRROR_INSYNC);
	missing = missing_now();
	ck_assert_int_eq(missing.leg, -1);
	ck_assert_str_eq(told, "");
}
END_TEST

/* What is shared is as old as it is, and is copied once; but each file lacks it. */
START_TEST(a_copy_is_no_news_to_a_leg_that_was_away)
{
	put_big(OLD, OLD_BLOCKS, 1);
	ck_assert_int_eq(meta_checkpoint(meta), 0);
	volume_unmount();
	mount_with(1);
	share(OLD, 100, NEW, 100, 500);
	missing_now();
	ck_assert_str_eq(told, "");
	put_file(OLD, 200, 5, 3, false, 0, NULL);
	put_file(NEW, 700, 40, 2, false, 0, NULL);
	share(NEW, 710, NEW + 1, 10, 20);
	put_file(NEW, 715, 1, 4, true, 0, NULL);
	missing_now();
	ck_assert_str_eq(told, "100: 200+5\n200: 700+10\n200: 710+5\n200: 715+1\n200: 716+14\n200: 730+10\n"
			       "201: 10+5\n201: 15+1\n201: 16+14\n");
	volume_unmount();
	mount_with(3);
	ck_assert_int_eq(resync_ends(1), MIRROR_INSYNC);
	expect_file(OLD, 205, 1000, 1);
	expect_file(NEW, 100, 500, 1);
	expect_file(NEW, 700, 15, 2);
	legs_are_equal();
	/* The leg that was filled has all of it. */
	volume_unmount();
	mount_with(2);
	expect_file(NEW, 100, 500, 1);
	expect_file(NEW, 716, 24, 2);
}
END_TEST

START_TEST(while_a_leg_is_filled_what_is_still_missing_is_told)
{
	struct range_extent first, second;
	struct put put;

	put_big(OLD, OLD_BLOCKS, 1);
	ck_assert_int_eq(meta_checkpoint(meta), 0);
	volume_unmount();
	mount_with(1);
	put_file(NEW, 0, 200, 2, false, 0, &first);
	put_file(NEW, 300, 200, 2, false, 0, &second);
	ck_assert_uint_lt(first.start, second.start);
	volume_unmount();
	/* It gets as far as the second piece. */
	disk_fails(0, LEG_READ, second.start, 1, FAKE_HANG);
	legs_there = 3;
	volume_mount(false);
	disk_wait_hanging(disks[0], 1);
	while (missing_now(), strcmp(told, "200: 300+200\n"))
		usleep(1000);
	/* What is written now is on both legs. */
	put_begin(&put, NEW, 600, 5, 2, false, 0);
	put_answered(&put);
	put_commit(&put);
	ck_assert_uint_eq(missing_now().node_blocks, 0);
	ck_assert_str_eq(told, "200: 300+200\n");
	disks_work();
	disk_release(disks[0], 0);
	ck_assert_int_eq(put_wait(&put), 0);
	ck_assert_int_eq(resync_ends(1), MIRROR_INSYNC);
	missing_now();
	ck_assert_str_eq(told, "");
	legs_are_equal();
}
END_TEST

/* What waits to go home when a leg is lost was born since the last checkpoint. */
START_TEST(a_block_on_its_way_home_is_what_a_lost_leg_lacks)
{
	struct range_extent where;

	put_big(OLD, OLD_BLOCKS, 1);
	ck_assert_int_eq(meta_checkpoint(meta), 0);
	ck_assert_int_eq(meta_sync(meta, put_file(NEW, 0, 3, 2, true, 0, &where)), 0);
	disk_fails(1, LEG_WRITE, where.start, 3, -EIO);
	legs_there = 1;
	expect_file(NEW, 0, 3, 2); /* brings it home */
	ck_assert(!mirror_leg_insync(mirror, 1));
	ck_assert_int_eq(meta_sync(meta, put_file(NEW, 3, 3, 2, true, 0, NULL)), 0);
	disks_work();
	missing_now();
	ck_assert_str_eq(told, "200: 0+3\n200: 3+3\n");
	volume_unmount();
	mount_with(3);
	ck_assert_int_eq(resync_ends(1), MIRROR_INSYNC);
	expect_file(NEW, 0, 6, 2);
	legs_are_equal();
}
END_TEST

Suite *resync_suite(void)
{
	Suite *suite = suite_create("resync");
	TCase *tests = tcase_create("resync");

	tcase_add_checked_fixture(tests, volume_setup, volume_teardown);
	tcase_set_timeout(tests, 120);
	tcase_add_test(tests, a_leg_that_comes_back_is_filled_with_what_was_born_since);
	tcase_add_test(tests, a_leg_whose_past_is_not_known_is_filled_as_a_whole);
	tcase_add_test(tests, rot_is_not_copied);
	tcase_add_test(tests, what_the_survivor_has_lost_is_read_from_the_leg_that_is_filled);
	tcase_add_test(tests, a_leg_that_fails_while_it_is_filled_goes_out_and_the_volume_goes_on);
	tcase_add_test(tests, a_commit_that_took_its_blocks_before_the_resync_is_on_both_legs);
	tcase_add_test(tests, wherever_the_power_fails_both_legs_come_good);
	tcase_add_test(tests, what_either_leg_writes_alone_behind_a_resync_is_a_history_of_its_own);
	tcase_add_test(tests, a_leg_missing_unexpectedly_lacks_what_came_after_the_last_but_one_checkpoint);
	tcase_add_test(tests, what_is_on_one_leg_alone_is_told_by_file);
	tcase_add_test(tests, a_copy_is_no_news_to_a_leg_that_was_away);
	tcase_add_test(tests, while_a_leg_is_filled_what_is_still_missing_is_told);
	tcase_add_test(tests, a_block_on_its_way_home_is_what_a_lost_leg_lacks);
	suite_add_tcase(suite, tests);
	return suite;
}
