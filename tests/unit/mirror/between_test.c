/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A leg leaves while an answer of it has come and nobody has judged it yet. */
#include "fixture.h"

static int left;

static void leave(void)
{
	left = mirror_detach(mirror, 0, false, &why);
}

static int rule_hang_writes(struct disk *disk, const struct leg_io *io, void *context)
{
	return io->op == LEG_WRITE && io->offset >= MIRROR_SPACE_OFFSET ? FAKE_HANG : 0;
}

static void open_patient(void)
{
	close_mirror();
	options.leg_timeout_ns = NSEC_PER_SEC / 2;
	ck_assert_int_eq(open_both(), 0);
}

START_TEST(a_leg_is_not_let_go_before_the_answer_to_a_repair_is_judged)
{
	open_patient();
	rot(0, 5);
	disk_rule_set(disks[0], rule_hang_writes, NULL);
	ck_assert_int_eq(read_blocks(0, 8), 0);
	disk_wait_hanging(disks[0], 1);
	/* Whoever is to judge it is this thread. */
	at_unlock(leave);
	disk_release(disks[0], 0);
	ck_assert_int_eq(left, -EBUSY);
	wait_repairs();
	ck_assert_uint_eq(status().leg[0].repaired, 1);
	ck_assert_int_eq(state_of(0), MIRROR_OFFLINE);
	leave();
	ck_assert_int_eq(left, 0);
	ck_assert_int_eq(state_of(0), MIRROR_ABSENT);
}
END_TEST

START_TEST(a_leg_is_not_let_go_while_its_answer_to_a_write_waits_for_the_other)
{
	struct shot shot;

	open_patient();
	disk_rule_set(disks[0], rule_hang_writes, NULL);
	disk_rule_set(disks[1], rule_hang_writes, NULL);
	shot_init(&shot, MIRROR_WRITE, 5, 1);
	ck_assert_int_eq(shot_fire(&shot), 0);
	disk_wait_hanging(disks[0], 1);
	disk_wait_hanging(disks[1], 1);
	at_unlock(leave);
	disk_release(disks[0], -EIO);
	/* The other one's time was up first, so the write was judged, with both there. */
	ck_assert_int_eq(left, 0);
	ck_assert_int_eq(shot_wait(&shot), -EIO);
	ck_assert_int_eq(state_of(0), MIRROR_ABSENT);
	disk_release(disks[1], 0);
	ck_assert(status().failed);
}
END_TEST

TCase *between_tests(void)
{
	TCase *tests = tcase_create("between");

	tcase_add_checked_fixture(tests, setup_hooked, teardown_hooked);
	tcase_set_timeout(tests, 60);
	tcase_add_test(tests, a_leg_is_not_let_go_before_the_answer_to_a_repair_is_judged);
	tcase_add_test(tests, a_leg_is_not_let_go_while_its_answer_to_a_write_waits_for_the_other);
	return tests;
}
