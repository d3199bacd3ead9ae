/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is changed of a volume in use. */
#include "fixture.h"

START_TEST(a_volume_told_so_opens_without_a_leg_until_it_is_told_otherwise)
{
	ck_assert_int_eq(open_both(), 0);
	ck_assert_int_eq(mirror_set_degraded_auto(mirror, true), 0);
	ck_assert(status().identity.degraded_auto);
	close_mirror();
	ck_assert_int_eq(open_legs(disks[_i], NULL), 0);
	ck_assert_int_eq(mirror_set_degraded_auto(mirror, false), 0);
	close_mirror();
	/* The other one is old now, and gets what was said without it. */
	ck_assert_int_eq(open_both(), 0);
	ck_assert_int_eq(state_of(!_i), MIRROR_STALE);
	ck_assert(!mirror_identity(mirror)->degraded_auto);
}
END_TEST

static void half_told(struct format_label *label)
{
	label->flags = le32_of(LABEL_DEGRADED_AUTO);
}

/* Power was lost when one of them had been told. */
START_TEST(legs_that_were_told_differently_are_made_to_agree)
{
	change_label(disks[_i], half_told);
	ck_assert_int_eq(open_both(), 0);
	close_mirror();
	ck_assert_int_eq(open_legs(disks[!_i], NULL), _i ? -ENOLINK : 0);
}
END_TEST

START_TEST(a_volume_that_is_only_read_is_told_nothing)
{
	options.read_only = true;
	ck_assert_int_eq(open_both(), 0);
	ck_assert_int_eq(mirror_set_degraded_auto(mirror, true), -EROFS);
	ck_assert_int_eq(mirror_set_label(mirror, "new"), -EROFS);
	ck_assert(!status().identity.degraded_auto);
	ck_assert_str_eq(status().identity.label, "test");
}
END_TEST

START_TEST(a_try_has_the_time_that_was_set_last)
{
	struct shot stuck;

	options.leg_timeout_ns = 600 * NSEC_PER_SEC;
	options.deadline_ns = 1200 * NSEC_PER_SEC;
	ck_assert_int_eq(open_both(), 0);
	fill(0, 8);
	mirror_set_leg_timeout(mirror, 50 * NSEC_PER_MSEC);
	disk_rule_set(disks[0], rule_hang, NULL);
	ck_assert_int_eq(read_blocks(0, 1), 0);
	ck_assert_uint_eq(status().leg[0].timeouts, 1);
	disk_rule_set(disks[0], NULL, NULL);
	disk_release(disks[0], 0);
	/* And so have the requests. */
	mirror_set_deadline(mirror, NSEC_PER_SEC);
	disk_rule_set(disks[0], rule_hang, NULL);
	disk_rule_set(disks[1], rule_hang, NULL);
	shot_init(&stuck, MIRROR_READ, 1, 1);
	ck_assert_int_eq(shot_fire(&stuck), 0);
	ck_assert_int_eq(shot_wait(&stuck), -ETIMEDOUT);
}
END_TEST

START_TEST(a_deadline_has_room_for_a_try_on_each_leg)
{
	ck_assert_int_eq(open_both(), 0);
	mirror_set_deadline(mirror, NSEC_PER_MSEC);
	ck_assert_uint_ge(status().deadline_ns, 2 * 50 * NSEC_PER_MSEC);
	mirror_set_leg_timeout(mirror, 60 * NSEC_PER_SEC);
	ck_assert_uint_ge(status().deadline_ns, 120 * NSEC_PER_SEC);
	/* What made room for a long one does not stay when it has become short. */
	mirror_set_leg_timeout(mirror, NSEC_PER_MSEC);
	ck_assert_uint_lt(status().deadline_ns, NSEC_PER_SEC);
	mirror_set_leg_timeout(mirror, 0);
	mirror_set_deadline(mirror, 0);
	ck_assert_uint_eq(status().leg[0].timeout_ns, 5 * NSEC_PER_SEC);
	ck_assert_uint_eq(status().deadline_ns, 20 * NSEC_PER_SEC);
}
END_TEST

TCase *settings_tests(void)
{
	TCase *tests = tcase_create("settings");

	tcase_add_checked_fixture(tests, setup_disks, teardown);
	tcase_set_timeout(tests, 60);
	tcase_add_loop_test(tests, a_volume_told_so_opens_without_a_leg_until_it_is_told_otherwise, 0, 2);
	tcase_add_loop_test(tests, legs_that_were_told_differently_are_made_to_agree, 0, 2);
	tcase_add_test(tests, a_volume_that_is_only_read_is_told_nothing);
	tcase_add_test(tests, a_try_has_the_time_that_was_set_last);
	tcase_add_test(tests, a_deadline_has_room_for_a_try_on_each_leg);
	return tests;
}
