/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fixture.h"

static int eio = -EIO, einval = -EINVAL, enodev = -ENODEV;

START_TEST(a_healthy_read_asks_one_leg_once)
{
	ck_assert_int_eq(read_blocks(3, 7), 0);
	ck_assert_uint_eq(disk_last_offset(disks[0], LEG_READ), MIRROR_SPACE_OFFSET + 3 * MIRROR_BLOCK);
	ck_assert_uint_eq(disk_last_length(disks[0], LEG_READ), 7 * MIRROR_BLOCK);
	ck_assert_uint_eq(status().retries, 0);
	ck_assert(status().healthy);
}
END_TEST

START_TEST(read_fails_over_when_leg0_lies_and_the_bad_copy_is_rewritten)
{
	rot(0, 5);
	ck_assert_int_eq(read_blocks(0, 8), 0);
	wait_repairs();
	ck_assert(block_right(0, 5));
	ck_assert_uint_eq(status().leg[0].repaired, 1);
	ck_assert_uint_eq(status().leg[0].checksum_errors, 1);
	ck_assert(status().healthy);
	close_mirror();
	ck_assert_uint_eq(events_of(MIRROR_EVENT_REPAIR), 1);
}
END_TEST

START_TEST(a_failover_asks_for_the_whole_original_range)
{
	rot(0, 9);
	ck_assert_int_eq(read_blocks(8, 16), 0);
	ck_assert_uint_eq(disk_last_offset(disks[1], LEG_READ), MIRROR_SPACE_OFFSET + 8 * MIRROR_BLOCK);
	ck_assert_uint_eq(disk_last_length(disks[1], LEG_READ), 16 * MIRROR_BLOCK);
}
END_TEST

START_TEST(blocks_bad_on_both_legs_by_turns_read_right_and_are_all_repaired)
{
	for (uint64_t block = 0; block < 64; block++)
		rot((int)(block & 1), block);
	ck_assert_int_eq(read_blocks(0, 64), 0);
	wait_repairs();
	for (uint64_t block = 0; block < 64; block++)
		ck_assert(block_right(0, block) && block_right(1, block));
	ck_assert_uint_eq(status().leg[0].repaired, 32);
	ck_assert_uint_eq(status().leg[1].repaired, 32);
}
END_TEST

/* An unreadable block fails every read that touches it, as disks do, until it is rewritten. */
struct bad_blocks {
	struct mutex lock;
	bool bad[2][64];
};

static int rule_bad_blocks(struct disk *disk, const struct leg_io *io, void *context)
{
	struct bad_blocks *bad = context;
	bool *mine = bad->bad[disk == disks[1]];
	int answer = 0;

	if (io->op == LEG_FLUSH || io->offset < MIRROR_SPACE_OFFSET)
		return 0;
	mutex_lock(&bad->lock);
	for (uint64_t i = 0; i < io->length / MIRROR_BLOCK; i++) {
		uint64_t block = (io->offset - MIRROR_SPACE_OFFSET) / MIRROR_BLOCK + i;

		if (io->op == LEG_WRITE)
			mine[block] = false;
		else if (mine[block])
			answer = -EIO;
	}
	mutex_unlock(&bad->lock);
	return answer;
}

START_TEST(unreadable_blocks_on_both_legs_by_turns_read_right_one_by_one)
{
	struct bad_blocks bad = {.bad = {{false}}};

	mutex_init(&bad.lock, RANK_LEAF);
	for (int block = 0; block < 16; block++)
		bad.bad[block & 1][block] = true;
	disk_rule_set(disks[0], rule_bad_blocks, &bad);
	disk_rule_set(disks[1], rule_bad_blocks, &bad);
	ck_assert_int_eq(read_blocks(0, 16), 0);
	wait_repairs();
	for (int block = 0; block < 16; block++)
		ck_assert(!bad.bad[0][block] && !bad.bad[1][block]);
	ck_assert(status().healthy);
	ck_assert_uint_eq(status().unrecoverable, 0);
	close_mirror();
	mutex_fini(&bad.lock);
}
END_TEST

START_TEST(a_block_bad_on_both_legs_is_eio_for_that_range_alone)
{
	rot(0, 3);
	rot(1, 3);
	ck_assert_int_eq(read_blocks(0, 8), -EIO);
	ck_assert_int_eq(read_blocks(4, 4), 0);
	ck_assert_uint_eq(status().unrecoverable, 1);
	ck_assert(status().healthy);
	close_mirror();
	ck_assert_uint_eq(events_of(MIRROR_EVENT_UNRECOVERABLE), 1);
}
END_TEST

/* As one that reads ahead, where there may be nothing that anybody misses. */
START_TEST(what_cannot_be_read_and_nobody_judges_is_no_loss)
{
	struct bad_blocks bad = {.bad = {{false}}};
	struct shot shot;

	mutex_init(&bad.lock, RANK_LEAF);
	bad.bad[0][3] = bad.bad[1][3] = true;
	disk_rule_set(disks[0], rule_bad_blocks, &bad);
	disk_rule_set(disks[1], rule_bad_blocks, &bad);
	shot_init(&shot, MIRROR_READ, 0, 8);
	ck_assert_int_eq(shot_fire(&shot), 0);
	ck_assert_int_eq(shot_wait(&shot), -EIO);
	ck_assert_uint_eq(status().unrecoverable, 0);
	ck_assert(status().healthy);
	close_mirror();
	ck_assert_uint_eq(events_of(MIRROR_EVENT_UNRECOVERABLE), 0);
	mutex_fini(&bad.lock);
}
END_TEST

START_TEST(each_range_that_was_bad_is_told)
{
	rot(0, 1);
	rot(0, 2);
	rot(0, 6);
	ck_assert_int_eq(read_blocks(0, 8), 0);
	wait_repairs();
	for (int leg = 0; leg < 2; leg++) {
		rot(leg, 9);
		rot(leg, 11);
		rot(leg, 12);
	}
	ck_assert_int_eq(read_blocks(8, 8), -EIO);
	close_mirror();
	ck_assert_uint_eq(events_of(MIRROR_EVENT_REPAIR), 2);
	ck_assert_uint_eq(events_of(MIRROR_EVENT_UNRECOVERABLE), 2);
}
END_TEST

START_TEST(a_lost_block_is_counted_once_and_until_it_is_written)
{
	for (uint64_t block = 3; block < 9; block++) {
		rot(0, block);
		rot(1, block);
	}
	ck_assert_int_eq(read_blocks(4, 4), -EIO);
	ck_assert_int_eq(read_blocks(5, 1), -EIO);
	ck_assert_int_eq(read_blocks(0, 16), -EIO);
	ck_assert_uint_eq(status().unrecoverable, 6);
	ck_assert_int_eq(write_blocks(5, 2, 0), 0);
	ck_assert_uint_eq(status().unrecoverable, 4);
	mirror_lost(mirror, 3, 4);
	ck_assert_uint_eq(status().unrecoverable, 6);
	/* The medium gave it back after all. */
	fill(7, 2);
	ck_assert_int_eq(read_blocks(7, 2), 0);
	ck_assert_uint_eq(status().unrecoverable, 4);
	mirror_counters_clear(mirror);
	ck_assert_uint_eq(status().unrecoverable, 0);
}
END_TEST

START_TEST(tries_are_two_a_leg_and_then_it_is_eio)
{
	unsigned int before[2] = {disk_count(disks[0], LEG_READ), disk_count(disks[1], LEG_READ)};

	disk_rule_set(disks[0], rule_fail_reads, &eio);
	disk_rule_set(disks[1], rule_fail_reads, &eio);
	ck_assert_int_eq(read_blocks(0, 1), -EIO);
	for (int leg = 0; leg < 2; leg++)
		ck_assert_uint_eq(disk_count(disks[leg], LEG_READ) - before[leg], 2);
	before[0] = disk_count(disks[0], LEG_READ);
	ck_assert_int_eq(read_blocks(0, 8), -EIO);
	ck_assert_uint_eq(disk_count(disks[0], LEG_READ) - before[0], 1 + 8);
	ck_assert_uint_eq(status().retries, 3 + 1 + 16);
	ck_assert(mirror_leg_insync(mirror, 0) && mirror_leg_insync(mirror, 1));
}
END_TEST

START_TEST(einval_of_one_leg_is_charged_to_nobody)
{
	disk_rule_set(disks[0], rule_fail_reads, &einval);
	ck_assert_int_eq(read_blocks(0, 4), 0);
	wait_repairs();
	ck_assert_uint_eq(status().leg[0].charged, 0);
	ck_assert_uint_eq(status().leg[0].read_errors, 0);
	ck_assert_uint_eq(status().leg[0].repaired, 0);
	ck_assert_uint_eq(status().request_errors, 1);
	ck_assert(status().healthy);
}
END_TEST

START_TEST(einval_of_both_legs_goes_up_after_one_try_each)
{
	unsigned int before = disk_count(disks[0], LEG_READ);

	disk_rule_set(disks[0], rule_fail_reads, &einval);
	disk_rule_set(disks[1], rule_fail_reads, &einval);
	ck_assert_int_eq(read_blocks(0, 4), -EINVAL);
	ck_assert_uint_eq(disk_count(disks[0], LEG_READ) - before, 1);
	ck_assert(status().healthy);
}
END_TEST

START_TEST(a_refusal_by_the_leg_itself_fails_over_as_well)
{
	disk_refuse(disks[0], -EINVAL);
	ck_assert_int_eq(read_blocks(0, 4), 0);
	ck_assert_uint_eq(status().leg[0].charged, 0);
	ck_assert(status().healthy);
}
END_TEST

START_TEST(a_hanging_leg_is_answered_by_the_other_and_goes_offline)
{
	unsigned int before;
	struct shot shot;

	disk_rule_set(disks[0], rule_hang, NULL);
	shot_init(&shot, MIRROR_READ, 10, 4);
	iobuf_ref(shot.given);
	ck_assert_int_eq(shot_fire(&shot), 0);
	ck_assert_int_eq(shot_wait(&shot), 0);
	/* The first buffer is still the leg's: the answer lies in another. */
	ck_assert_ptr_ne(shot.io.buf, shot.given);
	ck_assert_uint_eq(shot.io.buf_offset, 0);
	iobuf_put(shot.given);
	ck_assert_int_eq(state_of(0), MIRROR_OFFLINE);
	ck_assert_uint_eq(status().leg[0].timeouts, 1);
	ck_assert_uint_eq(status().leg[0].abandoned, 1);
	before = disk_count(disks[0], LEG_READ);
	ck_assert_int_eq(read_blocks(10, 4), 0);
	ck_assert_uint_eq(disk_count(disks[0], LEG_READ), before);
	/* Its late answer is taken back without harm. */
	disk_release(disks[0], 0);
	ck_assert_uint_eq(status().leg[0].abandoned, 0);
	ck_assert_int_eq(state_of(0), MIRROR_OFFLINE);
}
END_TEST

START_TEST(when_both_legs_hang_neither_is_degraded)
{
	disk_rule_set(disks[0], rule_hang, NULL);
	disk_rule_set(disks[1], rule_hang, NULL);
	ck_assert_int_eq(read_blocks(0, 4), -ETIMEDOUT);
	ck_assert(status().healthy);
	ck_assert_uint_eq(status().leg[0].charged + status().leg[1].charged, 0);
	disk_rule_set(disks[0], NULL, NULL);
	disk_rule_set(disks[1], NULL, NULL);
	disk_release(disks[0], 0);
	disk_release(disks[1], 0);
	ck_assert_int_eq(read_blocks(0, 4), 0);
}
END_TEST

START_TEST(a_leg_that_is_gone_goes_offline_and_the_read_succeeds)
{
	disk_rule_set(disks[0], rule_fail_reads, &enodev);
	ck_assert_int_eq(read_blocks(0, 4), 0);
	ck_assert_int_eq(state_of(0), MIRROR_OFFLINE);
	ck_assert_int_eq(state_of(1), MIRROR_INSYNC);
	close_mirror();
	/* Durable although nothing was written: the next mount must not take leg 0 for whole. */
	struct format_label label = label_of(disks[1]);
	ck_assert(label_has(&label, LABEL_LACKS_OTHER));
	ck_assert(!label_has(&label, LABEL_EPOCH_ALONE));
	ck_assert_uint_eq(events_of(MIRROR_EVENT_LEG_STATE), 1);
}
END_TEST

START_TEST(the_last_in_sync_leg_is_never_failed_by_a_read)
{
	disk_rule_set(disks[0], rule_fail_reads, &enodev);
	ck_assert_int_eq(read_blocks(0, 4), 0);
	disk_rule_set(disks[1], rule_fail_reads, &enodev);
	ck_assert_int_eq(read_blocks(0, 4), -EIO);
	disk_rule_set(disks[1], rule_fail_reads, &eio);
	ck_assert_int_eq(read_blocks(0, 4), -EIO);
	ck_assert_int_eq(state_of(1), MIRROR_INSYNC);
	ck_assert(!mirror_failed(mirror));
	disk_rule_set(disks[1], NULL, NULL);
	ck_assert_int_eq(read_blocks(0, 4), 0);
	ck_assert_int_eq(write_blocks(0, 4, 0), 0);
}
END_TEST

START_TEST(a_hanging_last_leg_times_out_and_stays)
{
	disk_rule_set(disks[0], rule_fail_reads, &enodev);
	ck_assert_int_eq(read_blocks(0, 4), 0);
	disk_rule_set(disks[1], rule_hang, NULL);
	ck_assert_int_eq(read_blocks(0, 4), -ETIMEDOUT);
	ck_assert_int_eq(state_of(1), MIRROR_INSYNC);
}
END_TEST

START_TEST(empty_and_foreign_requests_are_refused_at_the_door)
{
	struct shot shot;

	shot_init(&shot, MIRROR_READ, 0, 1);
	for (enum mirror_op op = MIRROR_READ; op <= MIRROR_DISCARD; op++) {
		if (op == MIRROR_FLUSH)
			continue;
		shot.io.op = op;
		shot.io.count = 0;
		ck_assert_int_eq(shot_fire(&shot), -EINVAL);
	}
	ck_assert_uint_eq(status().empty_refused, 3);
	shot.io.op = MIRROR_READ;
	shot.io.count = 1;
	shot.io.block = mirror_blocks(mirror);
	ck_assert_int_eq(shot_fire(&shot), -EINVAL);
	shot.io.block = mirror_blocks(mirror) - 1;
	shot.io.count = 2;
	ck_assert_int_eq(shot_fire(&shot), -EINVAL);
	shot.io.block = 0;
	ck_assert_int_eq(shot_fire(&shot), -EINVAL); /* beyond its buffer */
	shot.io.count = MIRROR_IO_BLOCKS + 1;
	ck_assert_int_eq(shot_fire(&shot), -EINVAL);
	shot.io.count = 1;
	shot.io.flags = MIRROR_ONLY_LEG0 | MIRROR_ONLY_LEG1;
	ck_assert_int_eq(shot_fire(&shot), -EINVAL);
	shot.io.flags = 0;
	ck_assert_int_eq(shot_fire(&shot), 0);
	ck_assert_int_eq(shot_wait(&shot), 0);
	ck_assert_uint_eq(status().empty_refused, 3);
	ck_assert_uint_eq(status().leg[0].counters.empty_refused + status().leg[1].counters.empty_refused, 0);
}
END_TEST

START_TEST(a_repair_that_fails_takes_the_leg_out_after_one_retry)
{
	unsigned int before = disk_count(disks[0], LEG_WRITE);

	rot(0, 5);
	disk_rule_set(disks[0], rule_fail_writes, &eio);
	ck_assert_int_eq(read_blocks(0, 8), 0);
	wait_repairs();
	ck_assert_int_eq(state_of(0), MIRROR_OFFLINE);
	ck_assert_uint_eq(disk_count(disks[0], LEG_WRITE) - before, 2);
}
END_TEST

START_TEST(a_repair_that_is_refused_as_a_request_harms_nobody)
{
	rot(0, 5);
	disk_rule_set(disks[0], rule_fail_writes, &einval);
	ck_assert_int_eq(read_blocks(0, 8), 0);
	wait_repairs();
	ck_assert(status().healthy);
	ck_assert_uint_eq(status().leg[0].repaired, 0);
}
END_TEST

START_TEST(without_a_pin_nothing_is_repaired)
{
	struct shot shot;

	rot(0, 5);
	shot_init(&shot, MIRROR_READ, 0, 8);
	shot.io.verify = verify_blocks;
	shot.io.verify_blocks = 1;
	ck_assert_int_eq(shot_fire(&shot), 0);
	ck_assert_int_eq(shot_wait(&shot), 0);
	wait_repairs();
	ck_assert(!block_right(0, 5));
}
END_TEST

static int rule_hang_writes(struct disk *disk, const struct leg_io *io, void *context)
{
	return io->op == LEG_WRITE && io->offset >= MIRROR_SPACE_OFFSET ? FAKE_HANG : 0;
}

START_TEST(the_reader_is_answered_before_the_repair_which_keeps_the_pin)
{
	uint64_t stamp;

	close_mirror();
	options.leg_timeout_ns = 60 * NSEC_PER_SEC;
	ck_assert_int_eq(open_both(), 0);
	rot(0, 5);
	disk_rule_set(disks[0], rule_hang_writes, NULL);
	ck_assert_int_eq(read_blocks(0, 8), 0);
	disk_wait_hanging(disks[0], 1);
	stamp = mirror_pin_stamp(mirror);
	ck_assert_uint_lt(mirror_pins_passed(mirror), stamp);
	disk_rule_set(disks[0], NULL, NULL);
	disk_release(disks[0], 0);
	wait_repairs();
	ck_assert_uint_ge(mirror_pins_passed(mirror), stamp);
	ck_assert(block_right(0, 5));
}
END_TEST

START_TEST(a_read_of_one_leg_alone_degrades_nobody)
{
	struct shot shot;

	rot(1, 2);
	shot_init(&shot, MIRROR_READ, 0, 4);
	shot.io.flags = MIRROR_ONLY_LEG1;
	shot.io.verify = verify_blocks;
	shot.io.verify_blocks = 1;
	ck_assert_int_eq(shot_fire(&shot), 0);
	ck_assert_int_eq(shot_wait(&shot), -EIO);
	disk_rule_set(disks[1], rule_fail_reads, &enodev);
	shot_init(&shot, MIRROR_READ, 0, 4);
	shot.io.flags = MIRROR_ONLY_LEG1;
	ck_assert_int_eq(shot_fire(&shot), 0);
	ck_assert_int_eq(shot_wait(&shot), -EIO);
	ck_assert(status().healthy);
	ck_assert_uint_eq(disk_count(disks[0], LEG_READ), 2); /* its labels */
}
END_TEST

START_TEST(a_full_reserve_refuses_what_would_pin_more)
{
	struct shot shots[3];

	disk_rule_set(disks[0], rule_hang, NULL);
	disk_rule_set(disks[1], rule_hang, NULL);
	for (int i = 0; i < 2; i++) {
		shot_init(&shots[i], MIRROR_READ, 0, MIRROR_IO_BLOCKS);
		ck_assert_int_eq(shot_fire(&shots[i]), 0);
	}
	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(shot_wait(&shots[i]), -ETIMEDOUT);
	ck_assert(iobuf_reserve_full(pool));
	shot_init(&shots[2], MIRROR_READ, 0, 1);
	ck_assert_int_eq(shot_fire(&shots[2]), 0);
	ck_assert_int_eq(shot_wait(&shots[2]), -EIO);
	ck_assert(status().healthy);
}
END_TEST

START_TEST(a_failover_without_a_buffer_waits_for_one)
{
	struct iobuf *hoard[8];
	struct shot shot;

	close_mirror();
	options.deadline_ns = 60 * NSEC_PER_SEC;
	ck_assert_int_eq(open_both(), 0);
	disk_rule_set(disks[0], rule_fail_reads, &eio);
	shot_init(&shot, MIRROR_READ, 0, MIRROR_IO_BLOCKS);
	for (int i = 0; i < 7; i++)
		hoard[i] = iobuf_get(pool, IOBUF_MAX);
	ck_assert_int_eq(shot_fire(&shot), 0);
	mutex_lock(&mirror->lock);
	while (TAILQ_EMPTY(&mirror->starved)) {
		mutex_unlock(&mirror->lock);
		mutex_lock(&mirror->lock);
	}
	mutex_unlock(&mirror->lock);
	ck_assert(!shot_done(&shot));
	for (int i = 0; i < 7; i++)
		iobuf_put(hoard[i]);
	ck_assert_int_eq(shot_wait(&shot), 0);
}
END_TEST

START_TEST(round_robin_asks_both_legs)
{
	unsigned int before[2];

	close_mirror();
	options.policy = MIRROR_POLICY_ROUND_ROBIN;
	ck_assert_int_eq(open_both(), 0);
	before[0] = disk_count(disks[0], LEG_READ);
	before[1] = disk_count(disks[1], LEG_READ);
	for (int i = 0; i < 10; i++)
		ck_assert_int_eq(read_blocks((uint64_t)i, 1), 0);
	ck_assert_uint_eq(disk_count(disks[0], LEG_READ) - before[0], 5);
	ck_assert_uint_eq(disk_count(disks[1], LEG_READ) - before[1], 5);
}
END_TEST

START_TEST(auto_goes_around_a_leg_that_is_busy)
{
	struct shot stuck;

	close_mirror();
	options.policy = MIRROR_POLICY_AUTO;
	options.leg_timeout_ns = 60 * NSEC_PER_SEC;
	ck_assert_int_eq(open_both(), 0);
	ck_assert_int_eq(read_blocks(0, 1), 0);	  /* stripe 0: leg 0 */
	ck_assert_int_eq(read_blocks(512, 1), 0); /* both are measured now */
	mutex_lock(&mirror->lock);
	mirror->legs[0].latency_ns = mirror->legs[1].latency_ns = NSEC_PER_MSEC;
	mirror->legs[0].usual_ns = 60 * NSEC_PER_SEC; /* so nothing is late */
	mutex_unlock(&mirror->lock);
	disk_rule_set(disks[0], rule_hang, NULL);
	disk_rule_set(disks[1], rule_hang, NULL);
	shot_init(&stuck, MIRROR_READ, 7, 1);
	ck_assert_int_eq(shot_fire(&stuck), 0);
	disk_wait_hanging(disks[0], 1);
	disk_rule_set(disks[1], NULL, NULL);
	for (int i = 0; i < 5; i++)
		ck_assert_int_eq(read_blocks(20, 1), 0);
	ck_assert(!shot_done(&stuck));
	disk_rule_set(disks[0], NULL, NULL);
	disk_release(disks[0], 0);
	ck_assert_int_eq(shot_wait(&stuck), 0);
}
END_TEST

START_TEST(auto_turns_away_from_a_leg_that_fails_fast)
{
	unsigned int before;

	close_mirror();
	options.policy = MIRROR_POLICY_AUTO;
	ck_assert_int_eq(open_both(), 0);
	disk_rule_set(disks[0], rule_fail_reads, &eio);
	for (uint64_t block = 0; block < 60; block++)
		ck_assert_int_eq(read_blocks(block * 8 % 480, 1), 0);
	before = disk_count(disks[0], LEG_READ);
	for (uint64_t block = 0; block < 60; block++)
		ck_assert_int_eq(read_blocks(block * 8 % 480, 1), 0);
	ck_assert_uint_lt(disk_count(disks[0], LEG_READ) - before, 30);
}
END_TEST

/* Reads of leg 0 fail in every way by turns; each block of it is wrong now and then. */
static int rule_moody(struct disk *disk, const struct leg_io *io, void *context)
{
	static const int moods[] = {0, -EIO, 0, -EINVAL, 0, -EILSEQ, 0, -EAGAIN, -EINTR, 0, 0};
	unsigned int *turn = context;

	return io->op == LEG_READ ? moods[__atomic_fetch_add(turn, 1, __ATOMIC_SEQ_CST) % 11] : 0;
}

static void hammer(void *arg)
{
	uint64_t first = *(uint64_t *)arg;

	for (uint64_t i = 0; i < 150; i++) {
		uint64_t block = first + i * 7 % 56;

		ck_assert_int_eq(read_blocks(block, 1 + (uint32_t)(i % 8)), 0);
		ck_assert_int_eq(write_blocks(block, 1 + (uint32_t)(i % 8), i % 3 ? 0 : MIRROR_DSYNC), 0);
		if (i % 16 == 0)
			ck_assert_int_eq(flush(), 0);
	}
}

START_TEST(many_at_once_are_all_answered_right)
{
	static uint64_t firsts[4] = {0, 64, 128, 192};
	struct thread threads[4];
	unsigned int turn = 0;

	close_mirror();
	options.leg_timeout_ns = 60 * NSEC_PER_SEC;
	options.deadline_ns = 600 * NSEC_PER_SEC;
	ck_assert_int_eq(open_both(), 0);
	for (uint64_t block = 0; block < 256; block += 3)
		rot(0, block);
	disk_rule_set(disks[0], rule_moody, &turn);
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(thread_start(&threads[i], "hammer", hammer, &firsts[i]), 0);
	for (int i = 0; i < 4; i++)
		thread_join(&threads[i]);
	wait_repairs();
	ck_assert(status().healthy);
	ck_assert_uint_eq(status().leg[0].counters.in_flight + status().leg[1].counters.in_flight, 0);
	disk_rule_set(disks[0], NULL, NULL);
	ck_assert_int_eq(read_blocks(0, 256), 0);
	wait_repairs();
	for (uint64_t block = 0; block < 256; block++)
		ck_assert(block_right(0, block) && block_right(1, block));
}
END_TEST

TCase *read_tests(void)
{
	TCase *tests = tcase_create("read");

	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_set_timeout(tests, 60);
	tcase_add_test(tests, a_healthy_read_asks_one_leg_once);
	tcase_add_test(tests, read_fails_over_when_leg0_lies_and_the_bad_copy_is_rewritten);
	tcase_add_test(tests, a_failover_asks_for_the_whole_original_range);
	tcase_add_test(tests, blocks_bad_on_both_legs_by_turns_read_right_and_are_all_repaired);
	tcase_add_test(tests, unreadable_blocks_on_both_legs_by_turns_read_right_one_by_one);
	tcase_add_test(tests, a_block_bad_on_both_legs_is_eio_for_that_range_alone);
	tcase_add_test(tests, what_cannot_be_read_and_nobody_judges_is_no_loss);
	tcase_add_test(tests, each_range_that_was_bad_is_told);
	tcase_add_test(tests, a_lost_block_is_counted_once_and_until_it_is_written);
	tcase_add_test(tests, tries_are_two_a_leg_and_then_it_is_eio);
	tcase_add_test(tests, einval_of_one_leg_is_charged_to_nobody);
	tcase_add_test(tests, einval_of_both_legs_goes_up_after_one_try_each);
	tcase_add_test(tests, a_refusal_by_the_leg_itself_fails_over_as_well);
	tcase_add_test(tests, a_hanging_leg_is_answered_by_the_other_and_goes_offline);
	tcase_add_test(tests, when_both_legs_hang_neither_is_degraded);
	tcase_add_test(tests, a_leg_that_is_gone_goes_offline_and_the_read_succeeds);
	tcase_add_test(tests, the_last_in_sync_leg_is_never_failed_by_a_read);
	tcase_add_test(tests, a_hanging_last_leg_times_out_and_stays);
	tcase_add_test(tests, empty_and_foreign_requests_are_refused_at_the_door);
	tcase_add_test(tests, a_repair_that_fails_takes_the_leg_out_after_one_retry);
	tcase_add_test(tests, a_repair_that_is_refused_as_a_request_harms_nobody);
	tcase_add_test(tests, without_a_pin_nothing_is_repaired);
	tcase_add_test(tests, the_reader_is_answered_before_the_repair_which_keeps_the_pin);
	tcase_add_test(tests, a_read_of_one_leg_alone_degrades_nobody);
	tcase_add_test(tests, a_full_reserve_refuses_what_would_pin_more);
	tcase_add_test(tests, a_failover_without_a_buffer_waits_for_one);
	tcase_add_test(tests, round_robin_asks_both_legs);
	tcase_add_test(tests, auto_goes_around_a_leg_that_is_busy);
	tcase_add_test(tests, auto_turns_away_from_a_leg_that_fails_fast);
	tcase_add_test(tests, many_at_once_are_all_answered_right);
	return tests;
}
