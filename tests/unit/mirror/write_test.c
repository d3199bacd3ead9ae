/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fixture.h"

static int eio = -EIO, einval = -EINVAL, enodev = -ENODEV, enospc = -ENOSPC;

/* The first `times` writes to the space fail with `error`. */
struct some {
	int times, error;
	enum leg_op op;
};

static int rule_some(struct disk *disk, const struct leg_io *io, void *context)
{
	struct some *some = context;

	if (io->op != some->op || (io->op == LEG_WRITE && io->offset < MIRROR_SPACE_OFFSET) || !some->times)
		return 0;
	some->times--;
	return some->error;
}

/* What the survivor's label says at the moment of the answer. */
static void look_at_label0(struct shot *shot)
{
	struct format_label label = label_of(disks[0]);

	shot->seen = label_has(&label, LABEL_LACKS_OTHER) && label_has(&label, LABEL_EPOCH_ALONE);
}

static void look_at_label1(struct shot *shot)
{
	struct format_label label = label_of(disks[1]);

	shot->seen = label_has(&label, LABEL_LACKS_OTHER) && label_has(&label, LABEL_EPOCH_ALONE);
}

START_TEST(a_write_is_on_both_legs_when_it_is_answered)
{
	ck_assert_int_eq(write_blocks(2000 - 1000, 5, MIRROR_DSYNC), 0);
	for (uint64_t block = 1000; block < 1005; block++)
		ck_assert(block_right(0, block) && block_right(1, block));
	ck_assert_uint_eq(disk_last_flags(disks[0], LEG_WRITE), LEG_DSYNC);
	ck_assert_uint_eq(disk_last_flags(disks[1], LEG_WRITE), LEG_DSYNC);
	ck_assert_int_eq(write_blocks(1000, 1, 0), 0);
	ck_assert_uint_eq(disk_last_flags(disks[0], LEG_WRITE), 0);
	ck_assert_int_eq(flush(), 0);
	ck_assert_uint_eq(disk_count(disks[0], LEG_FLUSH), 1);
	ck_assert_uint_eq(disk_count(disks[1], LEG_FLUSH), 1);
}
END_TEST

START_TEST(a_write_is_answered_only_after_the_label_says_who_lacks_it)
{
	struct shot shot;

	disk_rule_set(disks[1], rule_fail_writes, &eio);
	shot_init(&shot, MIRROR_WRITE, 1100, 1);
	shot.at_done = look_at_label0;
	ck_assert_int_eq(shot_fire(&shot), 0);
	ck_assert_int_eq(shot_wait(&shot), 0);
	ck_assert(shot.seen);
	ck_assert_int_eq(state_of(1), MIRROR_OFFLINE);
	ck_assert(!mirror_failed(mirror));
}
END_TEST

START_TEST(writes_are_held_while_the_label_is_not_durable)
{
	struct shot first, second;

	close_mirror();
	options.deadline_ns = 60 * NSEC_PER_SEC;
	options.leg_timeout_ns = 60 * NSEC_PER_SEC;
	ck_assert_int_eq(open_both(), 0);
	disk_rule_set(disks[1], rule_hang_labels, NULL);
	disk_rule_set(disks[0], rule_fail_writes, &enodev);
	shot_init(&first, MIRROR_WRITE, 1100, 1);
	first.at_done = look_at_label1;
	ck_assert_int_eq(shot_fire(&first), 0);
	disk_wait_hanging(disks[1], 1);
	shot_init(&second, MIRROR_WRITE, 1101, 1);
	second.at_done = look_at_label1;
	ck_assert_int_eq(shot_fire(&second), 0);
	/* The survivor has the second one, but not yet its label. */
	mutex_lock(&mirror->lock);
	while (!TAILQ_FIRST(&mirror->held) || !TAILQ_NEXT(TAILQ_FIRST(&mirror->held), queue)) {
		mutex_unlock(&mirror->lock);
		sched_yield();
		mutex_lock(&mirror->lock);
	}
	mutex_unlock(&mirror->lock);
	ck_assert(!shot_done(&first) && !shot_done(&second));
	disk_rule_set(disks[1], NULL, NULL);
	disk_release(disks[1], 0);
	ck_assert_int_eq(shot_wait(&first), 0);
	ck_assert_int_eq(shot_wait(&second), 0);
	ck_assert(first.seen && second.seen);
}
END_TEST

START_TEST(a_write_held_by_a_hanging_label_is_answered_by_its_deadline)
{
	disk_rule_set(disks[1], rule_hang_labels, NULL);
	disk_rule_set(disks[0], rule_fail_writes, &enodev);
	ck_assert_int_eq(write_blocks(1100, 1, 0), -ETIMEDOUT);
	ck_assert_uint_eq(status().deadline_missed, 1);
}
END_TEST

static void open_hurried(void)
{
	close_mirror();
	options.deadline_ns = NSEC_PER_SEC / 4;
	ck_assert_int_eq(open_both(), 0);
}

START_TEST(who_changes_the_label_of_a_volume_has_a_deadline)
{
	open_hurried();
	ck_assert_int_eq(mirror_detach(mirror, 0, false, &why), 0);
	disk_rule_set(disks[1], rule_hang_labels, NULL);
	ck_assert_int_eq(mirror_set_label(mirror, "new"), -ETIMEDOUT);
	disk_rule_set(disks[1], NULL, NULL);
	disk_release(disks[1], 0);
	ck_assert_int_eq(mirror_set_label(mirror, "newer"), 0);
	ck_assert_str_eq((const char *)label_of(disks[1]).name, "newer");
}
END_TEST

START_TEST(who_detaches_a_leg_has_a_deadline)
{
	open_hurried();
	disk_rule_set(disks[1], rule_hang_labels, NULL);
	ck_assert_int_eq(mirror_detach(mirror, 0, false, &why), -ETIMEDOUT);
	ck_assert_int_eq(state_of(0), MIRROR_OFFLINE);
	disk_rule_set(disks[1], NULL, NULL);
	disk_release(disks[1], 0);
	ck_assert_int_eq(mirror_detach(mirror, 0, false, &why), 0);
	ck_assert_int_eq(state_of(0), MIRROR_ABSENT);
}
END_TEST

START_TEST(a_label_that_cannot_be_written_fails_the_volume)
{
	disk_rule_set(disks[1], rule_fail_labels, &eio);
	disk_rule_set(disks[0], rule_fail_writes, &enodev);
	ck_assert_int_eq(write_blocks(1100, 1, 0), -EIO);
	ck_assert(mirror_failed(mirror));
	ck_assert_ptr_nonnull(strstr(status().failed_why, "label cannot be written"));
	ck_assert_int_eq(write_blocks(1100, 1, 0), -EROFS);
	ck_assert_int_eq(read_blocks(0, 4), 0);
	close_mirror();
	ck_assert_uint_eq(events_of(MIRROR_EVENT_READ_ONLY), 1);
}
END_TEST

START_TEST(a_media_error_of_a_write_is_retried_once)
{
	struct some some = {.times = 1, .error = -EIO, .op = LEG_WRITE};

	disk_rule_set(disks[1], rule_some, &some);
	ck_assert_int_eq(write_blocks(1100, 1, 0), 0);
	ck_assert(status().healthy);
	ck_assert_uint_eq(status().retries, 1);
	ck_assert(block_right(0, 1100) && block_right(1, 1100));
}
END_TEST

START_TEST(a_second_media_error_takes_the_leg_out)
{
	struct some some = {.times = 2, .error = -EIO, .op = LEG_WRITE};
	unsigned int before = disk_count(disks[1], LEG_WRITE);

	disk_rule_set(disks[1], rule_some, &some);
	ck_assert_int_eq(write_blocks(1100, 1, 0), 0);
	ck_assert_int_eq(state_of(1), MIRROR_OFFLINE);
	ck_assert_uint_eq(disk_count(disks[1], LEG_WRITE) - before, 2);
	ck_assert_int_eq(write_blocks(1101, 1, 0), 0);
	ck_assert_uint_eq(disk_count(disks[1], LEG_WRITE) - before, 2); /* offline: no more requests */
}
END_TEST

START_TEST(a_failed_flush_takes_the_leg_out_at_once_lacking_all_since_the_last_good_one)
{
	struct some some = {.times = 1, .error = -EIO, .op = LEG_FLUSH};
	struct format_label label;

	ck_assert_int_eq(flush(), 0);
	mirror_generation_durable(mirror, 41);
	disk_rule_set(disks[1], rule_some, &some);
	ck_assert_int_eq(flush(), 0);
	mirror_generation_durable(mirror, 42);
	ck_assert_int_eq(state_of(1), MIRROR_OFFLINE);
	ck_assert_uint_eq(disk_count(disks[1], LEG_FLUSH), 2);
	label = label_of(disks[0]);
	ck_assert(label_has(&label, LABEL_LACKS_OTHER));
	ck_assert_uint_eq(le64_get(label.lacks_after), 41);
}
END_TEST

START_TEST(no_space_on_one_leg_degrades_it)
{
	disk_rule_set(disks[1], rule_fail_writes, &enospc);
	ck_assert_int_eq(write_blocks(1100, 1, 0), 0);
	ck_assert_int_eq(state_of(1), MIRROR_OFFLINE);
}
END_TEST

START_TEST(no_space_on_both_legs_goes_up_and_degrades_nobody)
{
	disk_rule_set(disks[0], rule_fail_writes, &enospc);
	disk_rule_set(disks[1], rule_fail_writes, &enospc);
	ck_assert_int_eq(write_blocks(1100, 1, 0), -ENOSPC);
	ck_assert(status().healthy);
	disk_rule_set(disks[0], NULL, NULL);
	disk_rule_set(disks[1], NULL, NULL);
	ck_assert_int_eq(write_blocks(1100, 1, 0), 0);
}
END_TEST

START_TEST(no_space_on_a_filesystem_of_both_degrades_nobody)
{
	close_mirror();
	for (unsigned int i = 0; i < 2; i++)
		disk_lies_on(disks[i], 1 + (dev_t)_i * i, 1 + i);
	ck_assert_int_eq(open_both(), 0);
	disk_rule_set(disks[1], rule_fail_writes, &enospc);
	ck_assert_int_eq(write_blocks(1100, 1, 0), _i ? 0 : -ENOSPC);
	ck_assert_int_eq(state_of(1), _i ? MIRROR_OFFLINE : MIRROR_INSYNC);
	disk_rule_set(disks[1], NULL, NULL);
	ck_assert_int_eq(write_blocks(1100, 1, 0), 0);
}
END_TEST

START_TEST(einval_of_one_leg_is_tried_again_and_forgiven)
{
	struct some some = {.times = 1, .error = -EINVAL, .op = LEG_WRITE};

	disk_rule_set(disks[0], rule_some, &some);
	ck_assert_int_eq(write_blocks(1100, 1, 0), 0);
	ck_assert(status().healthy);
	ck_assert_uint_eq(status().leg[0].charged, 0);
	ck_assert(block_right(0, 1100) && block_right(1, 1100));
}
END_TEST

START_TEST(einval_of_one_leg_alone_never_leaves_the_legs_differing_unsaid)
{
	struct shot shot;

	disk_rule_set(disks[1], rule_fail_writes, &einval);
	shot_init(&shot, MIRROR_WRITE, 1100, 1);
	shot.at_done = look_at_label0;
	ck_assert_int_eq(shot_fire(&shot), 0);
	ck_assert_int_eq(shot_wait(&shot), 0);
	ck_assert(shot.seen);
	ck_assert_int_eq(state_of(1), MIRROR_OFFLINE);
	ck_assert_uint_eq(status().leg[1].charged, 0);
	ck_assert_uint_eq(status().request_errors, 2);
}
END_TEST

START_TEST(einval_of_both_legs_goes_up_and_degrades_nobody)
{
	disk_rule_set(disks[0], rule_fail_writes, &einval);
	disk_rule_set(disks[1], rule_fail_writes, &einval);
	ck_assert_int_eq(write_blocks(1100, 1, 0), -EINVAL);
	ck_assert(status().healthy);
	ck_assert_uint_eq(status().leg[0].charged + status().leg[1].charged, 0);
}
END_TEST

START_TEST(a_write_that_fails_on_the_last_leg_makes_the_volume_read_only)
{
	disk_rule_set(disks[1], rule_fail_writes, &enodev);
	ck_assert_int_eq(write_blocks(1100, 1, 0), 0);
	disk_rule_set(disks[0], rule_fail_writes, &eio);
	ck_assert_int_eq(write_blocks(1101, 1, 0), -EIO);
	ck_assert(mirror_failed(mirror));
	disk_rule_set(disks[0], NULL, NULL);
	ck_assert_int_eq(write_blocks(1101, 1, 0), -EROFS);
	ck_assert_int_eq(flush(), -EROFS);
	ck_assert_int_eq(read_blocks(0, 8), 0);
	ck_assert_int_eq(state_of(0), MIRROR_INSYNC);
	close_mirror();
	ck_assert_uint_eq(events_of(MIRROR_EVENT_READ_ONLY), 1);
}
END_TEST

START_TEST(a_flush_that_fails_on_the_last_leg_makes_the_volume_read_only)
{
	disk_rule_set(disks[1], rule_fail_writes, &enodev);
	ck_assert_int_eq(write_blocks(1100, 1, 0), 0);
	disk_rule_set(disks[0], rule_fail_flushes, &eio);
	ck_assert_int_eq(flush(), -EIO);
	ck_assert(mirror_failed(mirror));
}
END_TEST

START_TEST(a_write_that_both_legs_fail_is_not_acknowledged_and_degrades_neither)
{
	disk_rule_set(disks[0], rule_fail_writes, &eio);
	disk_rule_set(disks[1], rule_fail_writes, &eio);
	ck_assert_int_eq(write_blocks(1100, 1, 0), -EIO);
	ck_assert(mirror_failed(mirror));
	ck_assert_int_eq(state_of(0), MIRROR_INSYNC);
	ck_assert_int_eq(state_of(1), MIRROR_INSYNC);
}
END_TEST

START_TEST(a_leg_that_hangs_in_a_write_goes_out_and_the_label_says_so)
{
	struct shot shot;
	uint64_t stamp;

	disk_rule_set(disks[1], rule_hang, NULL);
	shot_init(&shot, MIRROR_WRITE, 1100, 1);
	shot.at_done = look_at_label0;
	ck_assert_int_eq(shot_fire(&shot), 0);
	ck_assert_int_eq(shot_wait(&shot), 0);
	ck_assert(shot.seen);
	ck_assert_int_eq(state_of(1), MIRROR_OFFLINE);
	/* What it has is out of use: nobody needs to wait for it to reuse the range. */
	stamp = mirror_pin_stamp(mirror);
	ck_assert_uint_ge(mirror_pins_passed(mirror), stamp);
}
END_TEST

/* Detached, or gone by another write. */
START_TEST(what_a_leg_had_not_answered_when_it_went_out_is_not_held_against_it)
{
	struct shot shot[2];

	disk_rule_set(disks[1], rule_hang, NULL);
	for (unsigned int i = 0; i < 2; i++) {
		shot_init(&shot[i], MIRROR_WRITE, 1100 + i, 1);
		ck_assert_int_eq(shot_fire(&shot[i]), 0);
	}
	disk_wait_hanging(disks[1], 2);
	mutex_lock(&mirror->lock);
	ck_assert(leg_out_locked(mirror, 1, "detached"));
	mutex_unlock(&mirror->lock);
	disk_rule_set(disks[1], NULL, NULL);
	disk_release(disks[1], -EIO);
	for (unsigned int i = 0; i < 2; i++)
		ck_assert_int_eq(shot_wait(&shot[i]), 0);
	ck_assert_uint_eq(status().leg[1].charged, 0);
}
END_TEST

START_TEST(when_both_legs_hang_a_write_times_out_and_its_range_stays_pinned)
{
	uint64_t stamp;

	disk_rule_set(disks[0], rule_hang, NULL);
	disk_rule_set(disks[1], rule_hang, NULL);
	ck_assert_int_eq(write_blocks(1100, 1, 0), -ETIMEDOUT);
	ck_assert(status().healthy);
	stamp = mirror_pin_stamp(mirror);
	ck_assert_uint_lt(mirror_pins_passed(mirror), stamp);
	disk_rule_set(disks[0], NULL, NULL);
	disk_rule_set(disks[1], NULL, NULL);
	disk_release(disks[0], 0);
	ck_assert_uint_lt(mirror_pins_passed(mirror), stamp);
	disk_release(disks[1], 0);
	ck_assert_uint_ge(mirror_pins_passed(mirror), stamp);
	ck_assert_int_eq(write_blocks(1100, 1, 0), 0);
}
END_TEST

START_TEST(the_first_write_alone_begins_one_epoch)
{
	uint32_t before = le32_get(label_of(disks[0]).history_count);
	struct format_label label;

	disk_rule_set(disks[1], rule_fail_writes, &enodev);
	for (uint64_t block = 1100; block < 1105; block++)
		ck_assert_int_eq(write_blocks(block, 1, 0), 0);
	label = label_of(disks[0]);
	ck_assert_uint_eq(le32_get(label.history_count), before + 1);
	ck_assert_uint_eq(le32_get(label_of(disks[1]).history_count), before);
	ck_assert_int_ne(le64_get(label.history[before].begun_seconds), 0);
}
END_TEST

START_TEST(a_discard_goes_to_both_legs_and_its_failure_charges_nobody)
{
	struct mirror_io io = {.op = MIRROR_DISCARD, .block = 0, .count = 1500};

	ck_assert_int_eq(mirror_submit_wait(mirror, &io), 0);
	ck_assert_uint_eq(disk_count(disks[0], LEG_DISCARD), 1);
	ck_assert_uint_eq(disk_last_length(disks[1], LEG_DISCARD), 1500 * MIRROR_BLOCK);
	disk_rule_set(disks[1], rule_fail, &eio);
	ck_assert_int_eq(mirror_submit_wait(mirror, &io), -EIO);
	ck_assert(status().healthy);
	ck_assert_uint_eq(status().leg[1].charged, 0);
}
END_TEST

/* It wipes whatever was put there meanwhile. */
START_TEST(a_discard_that_may_still_land_keeps_its_range)
{
	struct mirror_io io = {.op = MIRROR_DISCARD, .block = 1100, .count = 1};
	uint64_t stamp;

	disk_rule_set(disks[1], rule_hang, NULL);
	ck_assert_int_eq(mirror_submit_wait(mirror, &io), -ETIMEDOUT);
	ck_assert(status().healthy);
	stamp = mirror_pin_stamp(mirror);
	ck_assert_uint_lt(mirror_pins_passed(mirror), stamp);
	disk_rule_set(disks[1], NULL, NULL);
	disk_release(disks[1], 0);
	ck_assert_uint_ge(mirror_pins_passed(mirror), stamp);
}
END_TEST

START_TEST(a_write_to_one_leg_alone_degrades_nobody)
{
	memset(disk_bytes(disks[0]) + MIRROR_SPACE_OFFSET, 0, MIRROR_BLOCK);
	memset(disk_bytes(disks[1]) + MIRROR_SPACE_OFFSET, 0, MIRROR_BLOCK);
	ck_assert_int_eq(write_blocks(0, 1, MIRROR_ONLY_LEG1 | MIRROR_DSYNC), 0);
	ck_assert(!block_right(0, 0) && block_right(1, 0));
	disk_rule_set(disks[1], rule_fail_writes, &enodev);
	ck_assert_int_eq(write_blocks(0, 1, MIRROR_ONLY_LEG1), -EIO);
	ck_assert(status().healthy);
	disk_rule_set(disks[1], NULL, NULL);
	ck_assert_int_eq(write_blocks(0, 1, 0), 0);
}
END_TEST

START_TEST(a_read_only_mirror_refuses_writes_and_leaves_every_byte)
{
	unsigned char *before = malloc(DISK_SIZE);

	close_mirror();
	rot(0, 3);
	memcpy(before, disk_bytes(disks[0]), DISK_SIZE);
	options.read_only = true;
	ck_assert_int_eq(open_both(), 0);
	ck_assert_int_eq(write_blocks(0, 1, 0), -EROFS);
	ck_assert_int_eq(flush(), -EROFS);
	ck_assert_int_eq(read_blocks(0, 8), 0);
	disk_rule_set(disks[1], rule_fail_reads, &enodev);
	ck_assert_int_eq(read_blocks(3, 1), -EIO); /* leg 1 goes offline; no label says so */
	close_mirror();
	ck_assert_int_eq(memcmp(before, disk_bytes(disks[0]), DISK_SIZE), 0);
	free(before);
}
END_TEST

START_TEST(a_jump_of_the_clock_is_no_hang)
{
	struct shot shot;
	uint64_t start;

	close_mirror();
	options.leg_timeout_ns = 60 * NSEC_PER_SEC;
	options.deadline_ns = 120 * NSEC_PER_SEC;
	ck_assert_int_eq(open_both(), 0);
	disk_rule_set(disks[1], rule_hang, NULL);
	shot_init(&shot, MIRROR_WRITE, 1100, 1);
	ck_assert_int_eq(shot_fire(&shot), 0);
	disk_wait_hanging(disks[1], 1);
	start = running_now();
	clock_jump(3600 * NSEC_PER_SEC);
	/* Some ticks later the hour has been noticed, and counted as one of them. */
	while (running_now() < start + 3 * TICK_NS)
		sched_yield();
	ck_assert_uint_lt(running_now() - start, 60 * NSEC_PER_SEC);
	ck_assert(!shot_done(&shot));
	disk_rule_set(disks[1], NULL, NULL);
	disk_release(disks[1], 0);
	ck_assert_int_eq(shot_wait(&shot), 0);
	ck_assert(status().healthy);
	ck_assert_uint_eq(status().leg[1].timeouts, 0);
}
END_TEST

START_TEST(closing_leaves_a_leg_open_that_does_not_give_back)
{
	static struct mirror *leaked; /* it stays: reachable, so that no leak checker complains */

	leaked = mirror;
	disk_rule_set(disks[1], rule_hang, NULL);
	ck_assert_int_eq(write_blocks(1100, 1, 0), 0);
	ck_assert(!mirror_close(mirror));
	ck_assert_uint_eq(disks_open(), 1);
	/* The late answer finds everything still there. */
	disk_release(disks[1], 0);
	ck_assert_uint_eq(leaked->legs[1].abandoned, 0);
	leg_close(leaked->legs[1].leg);
	mirror = NULL;
}
END_TEST

TCase *write_tests(void)
{
	TCase *tests = tcase_create("write");

	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_set_timeout(tests, 60);
	tcase_add_test(tests, a_write_is_on_both_legs_when_it_is_answered);
	tcase_add_test(tests, a_write_is_answered_only_after_the_label_says_who_lacks_it);
	tcase_add_test(tests, writes_are_held_while_the_label_is_not_durable);
	tcase_add_test(tests, a_write_held_by_a_hanging_label_is_answered_by_its_deadline);
	tcase_add_test(tests, who_changes_the_label_of_a_volume_has_a_deadline);
	tcase_add_test(tests, who_detaches_a_leg_has_a_deadline);
	tcase_add_test(tests, a_label_that_cannot_be_written_fails_the_volume);
	tcase_add_test(tests, a_media_error_of_a_write_is_retried_once);
	tcase_add_test(tests, a_second_media_error_takes_the_leg_out);
	tcase_add_test(tests, a_failed_flush_takes_the_leg_out_at_once_lacking_all_since_the_last_good_one);
	tcase_add_test(tests, no_space_on_one_leg_degrades_it);
	tcase_add_test(tests, no_space_on_both_legs_goes_up_and_degrades_nobody);
	tcase_add_loop_test(tests, no_space_on_a_filesystem_of_both_degrades_nobody, 0, 2);
	tcase_add_test(tests, einval_of_one_leg_is_tried_again_and_forgiven);
	tcase_add_test(tests, einval_of_one_leg_alone_never_leaves_the_legs_differing_unsaid);
	tcase_add_test(tests, einval_of_both_legs_goes_up_and_degrades_nobody);
	tcase_add_test(tests, a_write_that_fails_on_the_last_leg_makes_the_volume_read_only);
	tcase_add_test(tests, a_flush_that_fails_on_the_last_leg_makes_the_volume_read_only);
	tcase_add_test(tests, a_write_that_both_legs_fail_is_not_acknowledged_and_degrades_neither);
	tcase_add_test(tests, a_leg_that_hangs_in_a_write_goes_out_and_the_label_says_so);
	tcase_add_test(tests, what_a_leg_had_not_answered_when_it_went_out_is_not_held_against_it);
	tcase_add_test(tests, when_both_legs_hang_a_write_times_out_and_its_range_stays_pinned);
	tcase_add_test(tests, the_first_write_alone_begins_one_epoch);
	tcase_add_test(tests, a_discard_goes_to_both_legs_and_its_failure_charges_nobody);
	tcase_add_test(tests, a_discard_that_may_still_land_keeps_its_range);
	tcase_add_test(tests, a_write_to_one_leg_alone_degrades_nobody);
	tcase_add_test(tests, a_read_only_mirror_refuses_writes_and_leaves_every_byte);
	tcase_add_test(tests, closing_leaves_a_leg_open_that_does_not_give_back);
	return tests;
}

TCase *clock_tests(void)
{
	TCase *tests = tcase_create("clock");

	tcase_add_checked_fixture(tests, setup_jumping, teardown_jumping);
	tcase_set_timeout(tests, 60);
	tcase_add_test(tests, a_jump_of_the_clock_is_no_hang);
	return tests;
}
