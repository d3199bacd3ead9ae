/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A read that is late is answered by the other leg. A leg is late here because it hangs until the test lets it go. */
#include "fixture.h"

static int eio = -EIO, enodev = -ENODEV;

/* Leg 0 is preferred, nothing is measured yet, and nobody is given up in this test's life. */
static void setup_patient(void)
{
	setup_disks();
	fill(0, 1024);
	options.leg_timeout_ns = 600 * NSEC_PER_SEC;
	options.deadline_ns = 1200 * NSEC_PER_SEC;
	ck_assert_int_eq(open_both(), 0);
}

static void wait_until(bool (*happened)(void))
{
	while (!happened())
		sched_yield();
}

static void usual_set(int leg, uint64_t usual_ns)
{
	mutex_lock(&mirror->lock);
	mirror->legs[leg].usual_ns = mirror->legs[leg].latency_ns = usual_ns;
	mutex_unlock(&mirror->lock);
}

START_TEST(a_late_read_is_answered_by_the_other_leg)
{
	struct shot shot;

	disk_rule_set(disks[0], rule_hang, NULL);
	shot_init(&shot, MIRROR_READ, 10, 4);
	shot.io.verify = verify_blocks;
	shot.io.verify_blocks = 1;
	iobuf_ref(shot.given);
	ck_assert_int_eq(shot_fire(&shot), 0);
	ck_assert_int_eq(shot_wait(&shot), 0);
	/* The first buffer is still the leg's: the answer lies in another. */
	ck_assert_ptr_ne(shot.io.buf, shot.given);
	ck_assert_uint_eq(shot.io.buf_offset, 0);
	iobuf_put(shot.given);
	ck_assert(status().healthy);
	ck_assert_uint_eq(status().leg[0].hedged, 1);
	ck_assert_uint_eq(status().leg[0].overtaken, 1);
	ck_assert_uint_eq(status().leg[0].timeouts + status().leg[0].abandoned + status().leg[0].charged, 0);
	ck_assert_uint_eq(status().retries, 0);
	/* It comes back, nobody needs it, and the leg is read again. */
	disk_rule_set(disks[0], NULL, NULL);
	disk_release(disks[0], 0);
	ck_assert_uint_eq(mirror->beaten, 0);
	ck_assert_int_eq(read_blocks(20, 4), 0);
	ck_assert_uint_eq(disk_last_offset(disks[0], LEG_READ), MIRROR_SPACE_OFFSET + 20 * MIRROR_BLOCK);
}
END_TEST

START_TEST(the_first_leg_may_still_win)
{
	struct shot shot;

	disk_rule_set(disks[0], rule_hang, NULL);
	disk_rule_set(disks[1], rule_hang, NULL);
	shot_init(&shot, MIRROR_READ, 10, 4);
	ck_assert_int_eq(shot_fire(&shot), 0);
	disk_wait_hanging(disks[1], 1);
	disk_release(disks[0], 0);
	ck_assert_int_eq(shot_wait(&shot), 0);
	ck_assert_ptr_eq(shot.io.buf, shot.given);
	ck_assert_uint_eq(status().leg[0].hedged, 1);
	ck_assert_uint_eq(status().leg[0].overtaken + status().leg[1].overtaken, 0);
	disk_release(disks[1], 0);
	ck_assert(status().healthy);
}
END_TEST

static bool leg1_gave_a_bad_block(void)
{
	return status().leg[1].checksum_errors == 1;
}

START_TEST(a_wrong_answer_does_not_win)
{
	struct mirror_pin *pin = mirror_pin(mirror);
	struct shot shot;

	rot(1, 12);
	disk_rule_set(disks[0], rule_hang, NULL);
	shot_init(&shot, MIRROR_READ, 10, 4);
	shot.io.verify = verify_blocks;
	shot.io.verify_blocks = 1;
	shot.io.pin = pin;
	ck_assert_int_eq(shot_fire(&shot), 0);
	wait_until(leg1_gave_a_bad_block);
	ck_assert(!shot_done(&shot));
	disk_rule_set(disks[0], NULL, NULL);
	disk_release(disks[0], 0);
	ck_assert_int_eq(shot_wait(&shot), 0);
	mirror_pin_put(pin);
	wait_repairs();
	ck_assert(block_right(1, 12));
	ck_assert_uint_eq(status().retries, 0);
}
END_TEST

START_TEST(two_answers_that_are_bad_in_different_blocks_make_one)
{
	struct mirror_pin *pin = mirror_pin(mirror);
	struct shot shot;

	rot(1, 12);
	rot(0, 11);
	disk_rule_set(disks[0], rule_hang, NULL);
	shot_init(&shot, MIRROR_READ, 10, 4);
	shot.io.verify = verify_blocks;
	shot.io.verify_blocks = 1;
	shot.io.pin = pin;
	iobuf_ref(shot.io.buf);
	ck_assert_int_eq(shot_fire(&shot), 0);
	wait_until(leg1_gave_a_bad_block);
	disk_rule_set(disks[0], NULL, NULL);
	disk_release(disks[0], 0);
	ck_assert_int_eq(shot_wait(&shot), 0);
	for (uint32_t unit = 0; unit < 4; unit++)
		ck_assert(verify_blocks(&shot.io, unit, shot.given->data + (size_t)unit * MIRROR_BLOCK));
	iobuf_put(shot.given);
	mirror_pin_put(pin);
	wait_repairs();
	ck_assert(block_right(0, 11) && block_right(1, 12));
	ck_assert_uint_eq(status().retries, 0);
}
END_TEST

START_TEST(where_the_second_leg_fails_the_first_is_waited_for)
{
	struct shot shot;

	disk_rule_set(disks[0], rule_hang, NULL);
	disk_rule_set(disks[1], rule_fail_reads, &enodev);
	shot_init(&shot, MIRROR_READ, 10, 4);
	ck_assert_int_eq(shot_fire(&shot), 0);
	while (state_of(1) != MIRROR_OFFLINE)
		sched_yield();
	ck_assert(!shot_done(&shot));
	disk_release(disks[0], 0);
	ck_assert_int_eq(shot_wait(&shot), 0);
	ck_assert_ptr_eq(shot.io.buf, shot.given);
}
END_TEST

START_TEST(readers_go_round_a_leg_that_keeps_one_waiting)
{
	unsigned int before;

	disk_rule_set(disks[0], rule_hang, NULL);
	ck_assert_int_eq(read_blocks(10, 4), 0);
	before = disk_count(disks[0], LEG_READ);
	for (uint64_t block = 0; block < 10; block++)
		ck_assert_int_eq(read_blocks(block, 1), 0);
	ck_assert_uint_eq(disk_count(disks[0], LEG_READ), before);
	ck_assert_uint_eq(status().leg[0].hedged, 1);
}
END_TEST

START_TEST(a_beaten_read_that_never_returns_takes_the_leg_out)
{
	close_mirror();
	options.leg_timeout_ns = NSEC_PER_SEC;
	ck_assert_int_eq(open_both(), 0);
	disk_rule_set(disks[0], rule_hang, NULL);
	ck_assert_int_eq(read_blocks(10, 4), 0);
	/* Nothing else is under way, and yet its clock runs. */
	while (state_of(0) != MIRROR_OFFLINE)
		sched_yield();
	ck_assert_uint_eq(status().leg[0].timeouts, 1);
	ck_assert_uint_eq(status().leg[0].abandoned, 1);
	ck_assert_uint_eq(mirror->beaten, 0);
	disk_release(disks[0], 0);
	ck_assert_uint_eq(status().leg[0].abandoned, 0);
	close_mirror();
	ck_assert_uint_eq(events_of(MIRROR_EVENT_LEG_STATE), 1);
}
END_TEST

START_TEST(a_beaten_read_that_finds_its_leg_gone_says_so)
{
	disk_rule_set(disks[0], rule_hang, NULL);
	ck_assert_int_eq(read_blocks(10, 4), 0);
	disk_release(disks[0], eio);
	ck_assert_int_eq(state_of(0), MIRROR_INSYNC);
	ck_assert_uint_eq(status().leg[0].read_errors, 1);
	ck_assert_int_eq(read_blocks(10, 4), 0);
	disk_release(disks[0], enodev);
	ck_assert_int_eq(state_of(0), MIRROR_OFFLINE);
}
END_TEST

START_TEST(a_read_of_one_leg_alone_is_not_sent_to_the_other)
{
	struct shot alone, shot;

	disk_rule_set(disks[0], rule_hang, NULL);
	shot_init(&alone, MIRROR_READ, 10, 4);
	alone.io.flags = MIRROR_ONLY_LEG0;
	ck_assert_int_eq(shot_fire(&alone), 0);
	shot_init(&shot, MIRROR_READ, 20, 4);
	ck_assert_int_eq(shot_fire(&shot), 0);
	/* The one that came first would have been sent first. */
	ck_assert_int_eq(shot_wait(&shot), 0);
	ck_assert(!shot_done(&alone));
	ck_assert_uint_eq(status().leg[0].hedged, 1);
	disk_release(disks[0], 0);
	ck_assert_int_eq(shot_wait(&alone), 0);
}
END_TEST

START_TEST(without_a_buffer_a_late_read_waits_for_one)
{
	struct iobuf *hoard[7];
	struct shot shot;

	disk_rule_set(disks[0], rule_hang, NULL);
	shot_init(&shot, MIRROR_READ, 0, MIRROR_IO_BLOCKS);
	for (int i = 0; i < 7; i++)
		hoard[i] = iobuf_get(pool, IOBUF_MAX);
	ck_assert_int_eq(shot_fire(&shot), 0);
	mutex_lock(&mirror->lock);
	for (uint64_t later = mirror->running_ns + NSEC_PER_SEC; mirror->running_ns < later;) {
		mutex_unlock(&mirror->lock);
		sched_yield();
		mutex_lock(&mirror->lock);
	}
	mutex_unlock(&mirror->lock);
	ck_assert(!shot_done(&shot));
	for (int i = 0; i < 7; i++)
		iobuf_put(hoard[i]);
	ck_assert_int_eq(shot_wait(&shot), 0);
}
END_TEST

START_TEST(late_is_what_takes_far_longer_than_usual_there)
{
	struct mirror_leg leg = {.timeout_ns = 5 * NSEC_PER_SEC, .usual_ns = 50 * NSEC_PER_MSEC};

	ck_assert_uint_eq(pace_patience_ns(&leg), 200 * NSEC_PER_MSEC);
	leg.usual_ns = 1000;
	ck_assert_uint_eq(pace_patience_ns(&leg), 10 * NSEC_PER_MSEC);
	/* A leg that always takes seconds is not hedged, but failed over when its time is up. */
	leg.usual_ns = NSEC_PER_SEC;
	ck_assert_uint_eq(pace_patience_ns(&leg), CLOCK_NEVER);
	leg.usual_ns = 0;
	ck_assert_uint_gt(pace_patience_ns(&leg), 100 * NSEC_PER_MSEC);
	ck_assert_uint_lt(pace_patience_ns(&leg), NSEC_PER_SEC);
}
END_TEST

static void answer_in(int leg, uint64_t took_ns, int times)
{
	struct try try = {.leg = leg, .took_ns = took_ns};

	mutex_lock(&mirror->lock);
	while (times-- > 0) {
		try.io.submitted_ns = clock_now_ns();
		pace_read_locked(mirror, &try);
	}
	mutex_unlock(&mirror->lock);
}

START_TEST(what_is_usual_does_not_follow_a_single_read)
{
	answer_in(0, NSEC_PER_MSEC, 100);
	ck_assert_uint_ge(status().leg[0].usual_ns, NSEC_PER_MSEC / 2);
	ck_assert_uint_le(status().leg[0].usual_ns, NSEC_PER_MSEC + NSEC_PER_MSEC / 8);
	answer_in(0, 60 * NSEC_PER_SEC, 1);
	ck_assert_uint_lt(status().leg[0].usual_ns, 2 * NSEC_PER_MSEC);
	/* One in eight takes 20 ms: that is usual here. */
	for (int i = 0; i < 200; i++) {
		answer_in(0, NSEC_PER_MSEC, 7);
		answer_in(0, 20 * NSEC_PER_MSEC, 1);
	}
	ck_assert_uint_gt(status().leg[0].usual_ns, 15 * NSEC_PER_MSEC);
	ck_assert_uint_lt(status().leg[0].usual_ns, 30 * NSEC_PER_MSEC);
}
END_TEST

START_TEST(a_leg_that_stays_slow_is_told_of_once_and_so_is_its_recovery)
{
	answer_in(1, NSEC_PER_MSEC, 100);
	answer_in(0, NSEC_PER_MSEC, 100);
	answer_in(0, 100 * NSEC_PER_MSEC, 20);
	ck_assert(!status().leg[0].slow);
	answer_in(0, 100 * NSEC_PER_MSEC, 40);
	ck_assert(status().leg[0].slow && !status().leg[1].slow);
	ck_assert(status().healthy);
	answer_in(0, NSEC_PER_MSEC, 40);
	ck_assert(status().leg[0].slow);
	answer_in(0, NSEC_PER_MSEC, 20);
	ck_assert(!status().leg[0].slow);
	/* As slow as the other one is not slow. */
	answer_in(1, 100 * NSEC_PER_MSEC, 400);
	answer_in(0, 100 * NSEC_PER_MSEC, 400);
	ck_assert(!status().leg[0].slow);
	close_mirror();
	ck_assert_uint_eq(events_of(MIRROR_EVENT_LEG_PACE), 2);
}
END_TEST

START_TEST(writes_that_one_leg_is_late_with_make_it_slow)
{
	struct request request = {.op = MIRROR_WRITE};
	struct try *tries = request.tries;

	tries[1].leg = 1;
	tries[0].took_ns = NSEC_PER_MSEC;
	tries[1].took_ns = 300 * NSEC_PER_MSEC;
	mutex_lock(&mirror->lock);
	for (int i = 0; i < 32; i++) {
		tries[0].io.submitted_ns = tries[1].io.submitted_ns = clock_now_ns();
		pace_write_locked(mirror, &request);
	}
	mutex_unlock(&mirror->lock);
	ck_assert(status().leg[1].slow && !status().leg[0].slow);
}
END_TEST

START_TEST(a_moment_in_which_many_requests_wait_makes_no_leg_slow)
{
	struct try try = {.leg = 0, .took_ns = 100 * NSEC_PER_MSEC};

	answer_in(1, NSEC_PER_MSEC, 100);
	answer_in(0, NSEC_PER_MSEC, 100);
	try.io.submitted_ns = clock_now_ns();
	mutex_lock(&mirror->lock);
	for (int i = 0; i < 300; i++)
		pace_read_locked(mirror, &try);
	mutex_unlock(&mirror->lock);
	ck_assert(!status().leg[0].slow);
	/* It is one of the 64. */
	answer_in(0, 100 * NSEC_PER_MSEC, 30);
	ck_assert(!status().leg[0].slow);
	answer_in(0, 100 * NSEC_PER_MSEC, 1);
	ck_assert(status().leg[0].slow);
}
END_TEST

/* ---- a process that was stopped ---- */

START_TEST(after_a_jump_of_the_clock_nothing_is_late)
{
	struct shot shot;
	uint64_t start;

	close_mirror();
	options.leg_timeout_ns = 600 * NSEC_PER_SEC;
	ck_assert_int_eq(open_both(), 0);
	usual_set(0, 20 * NSEC_PER_SEC);
	disk_rule_set(disks[0], rule_hang, NULL);
	shot_init(&shot, MIRROR_READ, 10, 4);
	ck_assert_int_eq(shot_fire(&shot), 0);
	disk_wait_hanging(disks[0], 1);
	start = running_now();
	clock_jump(3600 * NSEC_PER_SEC);
	while (running_now() < start + 3 * TICK_NS)
		sched_yield();
	ck_assert_uint_eq(status().leg[0].hedged, 0);
	/* Nor is the hour taken for the leg's own. */
	disk_release(disks[0], 0);
	ck_assert_int_eq(shot_wait(&shot), 0);
	ck_assert_uint_eq(status().leg[0].latency_ns, 20 * NSEC_PER_SEC);
	ck_assert_uint_eq(status().leg[0].usual_ns, 20 * NSEC_PER_SEC);
}
END_TEST

TCase *hedge_tests(void)
{
	TCase *tests = tcase_create("hedge");

	tcase_add_checked_fixture(tests, setup_patient, teardown);
	tcase_set_timeout(tests, 60);
	tcase_add_test(tests, the_first_leg_may_still_win);
	tcase_add_test(tests, a_wrong_answer_does_not_win);
	tcase_add_test(tests, two_answers_that_are_bad_in_different_blocks_make_one);
	tcase_add_test(tests, where_the_second_leg_fails_the_first_is_waited_for);
	tcase_add_test(tests, readers_go_round_a_leg_that_keeps_one_waiting);
	tcase_add_test(tests, a_beaten_read_that_never_returns_takes_the_leg_out);
	tcase_add_test(tests, a_beaten_read_that_finds_its_leg_gone_says_so);
	tcase_add_test(tests, a_read_of_one_leg_alone_is_not_sent_to_the_other);
	tcase_add_test(tests, without_a_buffer_a_late_read_waits_for_one);
	tcase_add_test(tests, late_is_what_takes_far_longer_than_usual_there);
	tcase_add_test(tests, what_is_usual_does_not_follow_a_single_read);
	tcase_add_test(tests, a_leg_that_stays_slow_is_told_of_once_and_so_is_its_recovery);
	tcase_add_test(tests, writes_that_one_leg_is_late_with_make_it_slow);
	tcase_add_test(tests, a_moment_in_which_many_requests_wait_makes_no_leg_slow);
	return tests;
}

/* Where no read is hedged, most of the above wait for ever. */
TCase *late_tests(void)
{
	TCase *tests = tcase_create("late");

	tcase_add_checked_fixture(tests, setup_patient, teardown);
	tcase_set_timeout(tests, 60);
	tcase_add_test(tests, a_late_read_is_answered_by_the_other_leg);
	return tests;
}

TCase *stopped_tests(void)
{
	TCase *tests = tcase_create("stopped");

	tcase_add_checked_fixture(tests, setup_jumping, teardown_jumping);
	tcase_set_timeout(tests, 60);
	tcase_add_test(tests, after_a_jump_of_the_clock_nothing_is_late);
	return tests;
}
