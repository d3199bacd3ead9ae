/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whether a leg's path still names it is looked at now and then, and tells nothing but that. */
#include "fixture.h"

static int enoent = -ENOENT, estale = -ESTALE, eacces = -EACCES;

static int rule_look(struct disk *disk, const struct leg_io *io, void *context)
{
	return io->op == LEG_LOOK ? *(int *)context : 0;
}

static int rule_hang_looks(struct disk *disk, const struct leg_io *io, void *context)
{
	return io->op == LEG_LOOK ? FAKE_HANG : 0;
}

static void setup_images(void)
{
	look_period_ns = 2 * NSEC_PER_MSEC;
	setup();
	close_mirror();
	for (unsigned int leg = 0; leg < MIRROR_LEGS; leg++)
		disk_lies_on(disks[leg], 1 + leg, 1);
	ck_assert_int_eq(open_both(), 0);
}

static void wait_looks(int leg, unsigned int count)
{
	for (count += disk_count(disks[leg], LEG_LOOK); disk_count(disks[leg], LEG_LOOK) < count;)
		sched_yield();
}

static void wait_leaving(int leg, bool leaving)
{
	while (status().leg[leg].leaving != leaving)
		sched_yield();
}

START_TEST(an_image_that_was_deleted_or_moved_leaves_and_serves_on)
{
	disk_rule_set(disks[1], rule_look, _i ? &enoent : &estale);
	wait_leaving(1, true);
	ck_assert(!status().healthy && !status().leg[0].leaving);
	ck_assert_int_eq(state_of(1), MIRROR_INSYNC);
	ck_assert_int_eq(write_blocks(1000, 3, MIRROR_DSYNC), 0);
	ck_assert(block_right(0, 1001) && block_right(1, 1001));
	rot(0, 1001);
	ck_assert_int_eq(read_blocks(1000, 3), 0);
	wait_looks(1, 3);
	ck_assert_uint_eq(events_of(MIRROR_EVENT_LEG_NAME), 1);
	ck_assert_uint_eq(status().leg[1].charged, 0);
	disk_rule_set(disks[1], NULL, NULL);
	wait_leaving(1, false);
	ck_assert(status().healthy);
	wait_looks(1, 3);
	ck_assert_uint_eq(events_of(MIRROR_EVENT_LEG_NAME), 2);
}
END_TEST

START_TEST(a_path_that_cannot_be_looked_at_says_nothing)
{
	disk_rule_set(disks[1], rule_look, &eacces);
	wait_looks(1, 3);
	ck_assert(status().healthy);
	ck_assert_uint_eq(events_of(MIRROR_EVENT_LEG_NAME), 0);
	disk_rule_set(disks[1], rule_look, &enoent);
	wait_leaving(1, true);
	disk_rule_set(disks[1], rule_look, &eacces);
	wait_looks(1, 3);
	ck_assert(status().leg[1].leaving);
}
END_TEST

START_TEST(a_path_that_hangs_holds_up_nobody)
{
	unsigned int asked;

	disk_rule_set(disks[1], rule_hang_looks, NULL);
	disk_wait_hanging(disks[1], 1);
	asked = disk_count(disks[1], LEG_LOOK);
	wait_looks(0, 5);
	ck_assert_int_eq(write_blocks(1000, 3, MIRROR_DSYNC), 0);
	ck_assert_int_eq(read_blocks(1000, 3), 0);
	ck_assert(status().healthy);
	/* It is asked once, until it answers. */
	ck_assert_uint_eq(disk_count(disks[1], LEG_LOOK), asked);
	disk_rule_set(disks[1], rule_look, &enoent);
	disk_release(disks[1], -ENOENT);
	wait_leaving(1, true);
}
END_TEST

START_TEST(the_whole_leg_stays_while_the_other_one_is_leaving)
{
	disk_rule_set(disks[1], rule_look, &enoent);
	wait_leaving(1, true);
	ck_assert_int_eq(mirror_detach(mirror, 0, false, &why), -EBUSY);
	ck_assert_ptr_nonnull(strstr(why.text, "replace"));
	ck_assert_int_eq(state_of(0), MIRROR_INSYNC);
	ck_assert_int_eq(mirror_detach(mirror, 1, false, &why), 0);
	ck_assert(!status().leg[1].leaving);
}
END_TEST

TCase *look_tests(void)
{
	TCase *tests = tcase_create("look");

	tcase_add_checked_fixture(tests, setup_images, teardown);
	tcase_add_loop_test(tests, an_image_that_was_deleted_or_moved_leaves_and_serves_on, 0, 2);
	tcase_add_test(tests, a_path_that_cannot_be_looked_at_says_nothing);
	tcase_add_test(tests, a_path_that_hangs_holds_up_nobody);
	tcase_add_test(tests, the_whole_leg_stays_while_the_other_one_is_leaving);
	return tests;
}
