/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fixture.h"

#include <unistd.h>

#define FILLED 64 /* blocks that a resync copies */

static int enodev = -ENODEV, eio = -EIO;
static struct disk *newcomer;

/* ---- what there is to copy: the first blocks, one by one, as far as the gate is open ---- */

static struct mutex gate_lock;
static struct cond gate_moved;
static uint64_t gate, next_block;
static bool gate_shut;

static void gate_open(uint64_t until)
{
	mutex_lock(&gate_lock);
	gate = until;
	cond_broadcast(&gate_moved);
	mutex_unlock(&gate_lock);
}

static bool live_right(const struct mirror_live *live, uint32_t unit, const void *data)
{
	const struct mirror_io io = {.block = live->block, .verify_blocks = 1};

	return verify_blocks(&io, unit, data);
}

static uint64_t source_proven(void *context, int leg, uint64_t after)
{
	return after;
}

static int source_begin(void *context, const struct mirror_since *since, uint64_t *total)
{
	next_block = 0;
	*total = FILLED;
	return 0;
}

static int source_next(void *context, struct mirror_live *live)
{
	mutex_lock(&gate_lock);
	while (next_block >= gate && !gate_shut)
		cond_wait(&gate_moved, &gate_lock);
	mutex_unlock(&gate_lock);
	if (gate_shut)
		return -EINTR;
	if (next_block == FILLED)
		return -ENOENT;
	*live = (struct mirror_live){.block = next_block++, .count = 1, .unit_blocks = 1, .right = live_right};
	live->position = next_block;
	live->pin = mirror_pin(mirror);
	return 0;
}

static int source_end(void *context)
{
	return 0;
}

static void serve(uint64_t until)
{
	const struct mirror_source source = {
		.proven = source_proven, .begin = source_begin, .next = source_next, .end = source_end};

	gate_open(until);
	ck_assert_int_eq(mirror_source_set(mirror, &source), 0);
}

static void serve_no_more(void)
{
	mutex_lock(&gate_lock);
	gate_shut = true;
	cond_broadcast(&gate_moved);
	mutex_unlock(&gate_lock);
	ck_assert_int_eq(mirror_source_set(mirror, NULL), 0);
}

/* No verdict depends on how long these take. */
static void wait_state(int leg, enum mirror_leg_state state)
{
	while (state_of(leg) != state || (state == MIRROR_INSYNC && status().resync.leg >= 0))
		usleep(1000);
}

static void wait_released(void)
{
	while (!events_of(MIRROR_EVENT_LEG_RELEASED))
		usleep(1000);
}

/* ---- the volume ---- */

static void setup_replace(void)
{
	setup();
	mutex_init(&gate_lock, RANK_LEAF);
	cond_init(&gate_moved);
	gate_shut = false;
	newcomer = disk_create("newcomer", DISK_SIZE);
}

static void teardown_replace(void)
{
	teardown();
	disk_destroy(newcomer);
	cond_fini(&gate_moved);
	mutex_fini(&gate_lock);
}

static int replace(int leg)
{
	struct leg *by = disk_open(newcomer);
	int code = mirror_replace(mirror, leg, by, false, &why);

	if (code)
		leg_close(by);
	return code;
}

static bool says_replaced(struct disk *disk)
{
	struct format_label label = label_of(disk);

	return label_replaced(&label);
}

static bool filled_right(uint64_t block)
{
	return !memcmp(disk_bytes(newcomer) + MIRROR_SPACE_OFFSET + block * MIRROR_BLOCK,
		       disk_bytes(disks[0]) + MIRROR_SPACE_OFFSET + block * MIRROR_BLOCK, MIRROR_BLOCK);
}

START_TEST(a_leg_that_is_replaced_has_what_the_survivor_loses)
{
	struct shot shot;

	ck_assert_int_eq(replace(1), 0);
	ck_assert_int_eq(state_of(1), MIRROR_STALE);
	ck_assert_str_eq(status().leg[1].replaces, "disk1");
	ck_assert_str_eq(status().leg[1].address, "newcomer");
	rot(0, 3);
	rot(0, 5);
	ck_assert_int_eq(read_blocks(0, 8), 0);
	wait_repairs();
	ck_assert(block_right(0, 3) && block_right(0, 5));
	disk_rule_set(disks[0], rule_fail_reads, &eio);
	ck_assert_int_eq(read_blocks(8, 8), 0);
	ck_assert_uint_eq(status().unrecoverable, 0);
	/* What the old one has may be old: only a reader that can tell gets it. */
	shot_init(&shot, MIRROR_READ, 8, 1);
	ck_assert_int_eq(shot_fire(&shot), 0);
	ck_assert_int_eq(shot_wait(&shot), -EIO);
}
END_TEST

START_TEST(what_a_leg_that_is_replaced_has_not_right_is_not_taken)
{
	unsigned int writes, flushes;

	ck_assert_int_eq(replace(1), 0);
	writes = disk_count(disks[1], LEG_WRITE);
	flushes = disk_count(disks[1], LEG_FLUSH);
	rot(0, 3);
	rot(1, 3);
	ck_assert_int_eq(read_blocks(0, 8), -EIO);
	ck_assert_uint_eq(status().unrecoverable, 1);
	ck_assert_uint_eq(status().leg[1].charged, 0);
	ck_assert_uint_eq(status().leg[1].checksum_errors, 0);
	/* Nor does it get anything. */
	ck_assert_int_eq(write_blocks(0, 8, MIRROR_DSYNC), 0);
	ck_assert_int_eq(flush(), 0);
	ck_assert(block_right(0, 3) && !block_right(1, 3));
	ck_assert_uint_eq(disk_count(disks[1], LEG_WRITE), writes);
	ck_assert_uint_eq(disk_count(disks[1], LEG_FLUSH), flushes);
}
END_TEST

/* What it has is copied, too, where the survivor cannot be read or is wrong. */
START_TEST(a_replacement_is_whole_though_the_survivor_rots)
{
	ck_assert_int_eq(replace(1), 0);
	serve(0);
	wait_state(1, MIRROR_RESYNC);
	for (uint64_t block = 0; block < FILLED; block += 5)
		rot(0, block);
	gate_open(UINT64_MAX);
	wait_state(1, MIRROR_INSYNC);
	ck_assert(status().healthy);
	wait_repairs();
	for (uint64_t block = 0; block < FILLED; block++)
		ck_assert(block_right(0, block) && filled_right(block));
	ck_assert_uint_eq(status().unrecoverable, 0);
	wait_released();
	ck_assert_str_eq(status().leg[1].replaces, "");
	serve_no_more();
	ck_assert_uint_eq(disks_open(), 2);
}
END_TEST

START_TEST(a_block_that_is_lost_everywhere_stops_no_replacement)
{
	rot(0, 7);
	rot(1, 7);
	ck_assert_int_eq(replace(1), 0);
	serve(UINT64_MAX);
	wait_state(1, MIRROR_INSYNC);
	wait_released();
	ck_assert_uint_eq(status().unrecoverable, 1);
	ck_assert_int_eq(read_blocks(7, 1), -EIO);
	ck_assert_int_eq(read_blocks(6, 1), 0);
	ck_assert_int_eq(read_blocks(8, 1), 0);
	serve_no_more();
}
END_TEST

/* The new one fails, or is detached, or the volume is closed. */
START_TEST(a_leg_that_is_replaced_is_released_when_that_has_come_to_an_end)
{
	static const unsigned int left[] = {2, 1, 3};

	ck_assert_int_eq(replace(1), 0);
	serve(0);
	wait_state(1, MIRROR_RESYNC);
	ck_assert_uint_eq(disks_open(), 3);
	ck_assert_uint_eq(events_of(MIRROR_EVENT_LEG_RELEASED), 0);
	if (_i == 0) {
		disk_rule_set(newcomer, rule_fail_writes, &enodev);
		ck_assert_int_eq(write_blocks(0, 1, 0), 0);
		gate_open(UINT64_MAX);
		wait_released();
		ck_assert_int_eq(state_of(1), MIRROR_OFFLINE);
	} else if (_i == 1) {
		gate_open(UINT64_MAX);
		ck_assert_int_eq(mirror_detach(mirror, 1, false, &why), 0);
		wait_released();
	}
	serve_no_more();
	ck_assert_uint_eq(disks_open(), left[_i]);
	disk_rule_set(newcomer, NULL, NULL);
	close_mirror();
	ck_assert_uint_eq(disks_open(), 0);
	/* Nothing is whole in its place. */
	ck_assert(!says_replaced(disks[1]));
}
END_TEST

/* The new leg goes while the one that it replaces has not given back a read. */
static void detach_while_the_old_one_owes(void)
{
	struct mirror_pin *pin = mirror_pin(mirror);
	struct shot shot;

	rot(0, 4);
	disk_rule_set(disks[1], rule_hang, NULL);
	shot_init(&shot, MIRROR_READ, 4, 1);
	shot.io.verify = verify_blocks;
	shot.io.verify_blocks = 1;
	shot.io.pin = pin;
	ck_assert_int_eq(shot_fire(&shot), 0);
	disk_wait_hanging(disks[1], 1);
	gate_open(UINT64_MAX);
	ck_assert_int_eq(mirror_detach(mirror, 1, false, &why), 0);
	ck_assert_int_eq(shot_wait(&shot), -EIO);
	mirror_pin_put(pin);
}

START_TEST(a_leg_that_is_replaced_and_hangs_holds_up_nobody)
{
	unsigned int asked;

	ck_assert_int_eq(replace(1), 0);
	serve(0);
	wait_state(1, MIRROR_RESYNC);
	disk_rule_set(disks[1], rule_hang, NULL);
	rot(0, 3);
	ck_assert_int_eq(read_blocks(3, 1), -EIO);
	ck_assert_uint_eq(status().deadline_missed, 0);
	/* It is asked for nothing more. */
	asked = disk_count(disks[1], LEG_READ);
	ck_assert_int_eq(read_blocks(3, 1), -EIO);
	ck_assert_uint_eq(disk_count(disks[1], LEG_READ), asked);
	/* Until it has given everything back. */
	disk_rule_set(disks[1], NULL, NULL);
	disk_release(disks[1], 0);
	while (read_blocks(3, 1))
		usleep(1000);
	/* One that hangs when it is to be released is, as soon as it has given everything back. */
	wait_repairs();
	detach_while_the_old_one_owes();
	ck_assert_uint_eq(disks_open(), 2);
	ck_assert_uint_eq(events_of(MIRROR_EVENT_LEG_RELEASED), 0);
	disk_release(disks[1], 0);
	wait_released();
	ck_assert_uint_eq(disks_open(), 1);
	serve_no_more();
}
END_TEST

START_TEST(a_leg_that_was_let_go_is_not_kept_for_whoever_joins_next)
{
	ck_assert_int_eq(replace(1), 0);
	serve(0);
	wait_state(1, MIRROR_RESYNC);
	detach_while_the_old_one_owes();
	gate_open(0);
	ck_assert_int_eq(mirror_attach(mirror, disk_open(newcomer), false, &why), 0);
	wait_state(1, MIRROR_RESYNC);
	ck_assert_uint_eq(disks_open(), 3);
	disk_release(disks[1], 0);
	/* That one goes on being filled, and still is. */
	gate_open(FILLED / 2);
	wait_released();
	ck_assert_int_eq(state_of(1), MIRROR_RESYNC);
	ck_assert_uint_eq(disks_open(), 2);
	serve_no_more();
}
END_TEST

START_TEST(a_leg_that_is_replaced_and_hangs_does_not_keep_the_volume_open)
{
	static struct mirror *leaked; /* it stays: reachable, so that no leak checker complains */

	leaked = mirror;
	ck_assert_int_eq(replace(1), 0);
	rot(0, 3);
	disk_rule_set(disks[1], rule_hang, NULL);
	ck_assert_int_eq(read_blocks(3, 1), -EIO);
	ck_assert(!mirror_close(mirror));
	ck_assert_uint_eq(disks_open(), 1);
	/* The late answer finds everything still there. */
	disk_rule_set(disks[1], NULL, NULL);
	disk_release(disks[1], -EIO);
	ck_assert_uint_eq(leaked->legs[OUTGOING].abandoned, 0);
	leg_close(leaked->legs[OUTGOING].leg);
	mirror = NULL;
}
END_TEST

/* In the midst of it the machine stops: the disks are what they are. */
START_TEST(a_crash_does_not_make_the_replaced_leg_one_of_the_volume)
{
	struct format_label label;

	ck_assert_int_eq(replace(1), 0);
	serve(FILLED / 2);
	wait_state(1, MIRROR_RESYNC);
	ck_assert_int_eq(write_blocks(900, 1, MIRROR_DSYNC), 0);
	label = label_of(disks[0]);
	ck_assert(label_has(&label, LABEL_LACKS_OTHER));
	ck_assert_uint_eq(le64_get(label.lacks_after), 0);
	label = label_of(newcomer);
	ck_assert(label_has(&label, LABEL_RESYNCING));
	serve_no_more();
	close_mirror();
	options.degraded = true;
	ck_assert_int_eq(open_both(), -EXDEV);
	ck_assert_int_eq(open_legs(newcomer, disks[1]), -EEXIST);
	ck_assert_int_eq(open_legs(newcomer, NULL), -ESTALE);
	ck_assert_int_eq(open_legs(disks[0], newcomer), 0);
	ck_assert_int_eq(state_of(0), MIRROR_INSYNC);
	ck_assert_int_eq(state_of(1), MIRROR_STALE);
	close_mirror();
}
END_TEST

/* Of the leg that is replaced: nothing is written to it before a mount would find the other two whole. */
static int rule_written_last(struct disk *disk, const struct leg_io *io, void *context)
{
	struct format_label from = label_of(disks[0]), by = label_of(newcomer);
	bool *good = context;

	if (io->op == LEG_WRITE)
		*good &= !label_has(&from, LABEL_LACKS_OTHER) && !label_has(&by, LABEL_RESYNCING | LABEL_SUPERSEDED) &&
			 !memcmp(from.leg, by.leg, sizeof(from.leg));
	return 0;
}

START_TEST(a_leg_that_was_replaced_says_so_when_the_new_one_is_whole)
{
	bool good = true;

	disk_rule_set(disks[1], rule_written_last, &good);
	ck_assert_int_eq(replace(1), 0);
	serve(UINT64_MAX);
	wait_released();
	serve_no_more();
	close_mirror();
	ck_assert(good);
	ck_assert(says_replaced(disks[1]));
	ck_assert(!says_replaced(disks[0]) && !says_replaced(newcomer));
	/* Nobody takes it for the volume, whatever was permitted to the volume, */
	ck_assert_int_eq(open_legs(disks[1], NULL), -ESTALE);
	/* but who insists: then it is one again. */
	options.degraded = true;
	ck_assert_int_eq(open_legs(disks[1], NULL), 0);
	close_mirror();
	ck_assert(!says_replaced(disks[1]));
}
END_TEST

START_TEST(a_leg_that_was_replaced_and_comes_back_is_one_again)
{
	struct leg *old;

	ck_assert_int_eq(replace(1), 0);
	serve(UINT64_MAX);
	wait_released();
	ck_assert_int_eq(mirror_detach(mirror, 1, false, &why), 0);
	old = disk_open(disks[1]);
	ck_assert_int_eq(mirror_attach(mirror, old, false, &why), 0);
	wait_state(1, MIRROR_INSYNC);
	serve_no_more();
	close_mirror();
	ck_assert(!says_replaced(disks[1]));
	ck_assert_int_eq(open_both(), 0);
	ck_assert(status().healthy);
}
END_TEST

START_TEST(a_replaced_leg_that_cannot_say_so_holds_up_nobody)
{
	uint64_t patience_ns = label_patience_ns;
	struct leg *old = mirror->legs[1].leg;

	disk_rule_set(disks[1], rule_fail_labels, &eio);
	if (_i)
		disk_rule_set(disks[1], rule_hang_labels, NULL);
	label_patience_ns = 200 * NSEC_PER_MSEC;
	ck_assert_int_eq(replace(1), 0);
	serve(UINT64_MAX);
	wait_state(1, MIRROR_INSYNC);
	while (status().leg[1].replaces[0])
		usleep(1000);
	serve_no_more();
	/* One that has not given back what it was asked for stays open. */
	ck_assert_uint_eq(disks_open(), _i ? 3 : 2);
	ck_assert(!says_replaced(disks[1]));
	disk_rule_set(disks[1], NULL, NULL);
	disk_release(disks[1], -EIO);
	if (_i)
		leg_close(old);
	close_mirror();
	ck_assert_uint_eq(events_of(MIRROR_EVENT_LEG_RELEASED), _i ? 0 : 1);
	label_patience_ns = patience_ns;
}
END_TEST

START_TEST(nothing_is_given_up_for_a_leg_that_cannot_be_labelled)
{
	disk_rule_set(newcomer, rule_fail_labels, &eio);
	ck_assert_int_eq(replace(1), -EIO);
	ck_assert_ptr_nonnull(strstr(why.text, "newcomer"));
	ck_assert(status().healthy);
	disk_rule_set(newcomer, NULL, NULL);
	disk_resize(newcomer, DISK_SIZE / 2);
	ck_assert_int_eq(replace(1), -ENOSPC);
	ck_assert(status().healthy);
	ck_assert_uint_eq(disks_open(), 2);
}
END_TEST

START_TEST(a_copy_of_a_leg_that_takes_its_place_is_filled_as_a_whole)
{
	struct format_label old = label_of(disks[1]), label;

	memcpy(disk_bytes(newcomer), disk_bytes(disks[1]), DISK_SIZE);
	ck_assert_int_eq(replace(1), 0);
	label = label_of(newcomer);
	ck_assert_mem_ne(label.leg[1], old.leg[1], sizeof(label.leg[1]));
	ck_assert(label_has(&label, LABEL_RESYNCING));
	old = label_of(disks[0]);
	ck_assert_mem_eq(label.leg[1], old.leg[1], sizeof(label.leg[1]));
	ck_assert_uint_eq(le64_get(old.lacks_after), 0);
}
END_TEST

START_TEST(a_leg_that_was_out_is_replaced_and_not_read)
{
	disk_rule_set(disks[1], rule_fail_writes, &enodev);
	ck_assert_int_eq(write_blocks(900, 1, 0), 0);
	disk_rule_set(disks[1], NULL, NULL);
	ck_assert_int_eq(state_of(1), MIRROR_OFFLINE);
	ck_assert_uint_gt(status().leg[1].charged, 0);
	ck_assert_int_eq(replace(1), 0);
	ck_assert_uint_eq(disks_open(), 2);
	ck_assert_str_eq(status().leg[1].replaces, "");
	/* Nor is the new one blamed for it. */
	ck_assert_uint_eq(status().leg[1].charged, 0);
}
END_TEST

/* The answer came, and whoever replaces the leg had the lock before the keeper that looks at it. */
START_TEST(a_label_that_the_replaced_leg_could_not_write_is_not_tried_again_on_the_new_one)
{
	struct relabel *relabel = &mirror->legs[1].relabel;
	struct format_label old = label_of(disks[1]), label;

	disk_rule_set(disks[1], rule_fail_writes, &enodev);
	ck_assert_int_eq(write_blocks(900, 1, 0), 0);
	ck_assert_int_eq(state_of(1), MIRROR_OFFLINE);
	mutex_lock(&mirror->lock);
	old.sequence = le64_of(100);
	label_seal(&old);
	memcpy(relabel->image, &old, sizeof(old));
	relabel->answered = true;
	relabel->error = -EIO;
	relabel->tries = 1;
	mutex_unlock(&mirror->lock);
	ck_assert_int_eq(replace(1), 0);
	mutex_lock(&mirror->lock);
	while (relabel->flying || !relabel_durable_locked(mirror, 1, relabel->wanted))
		cond_wait(&mirror->idle, &mirror->lock);
	mutex_unlock(&mirror->lock);
	label = label_of(newcomer);
	ck_assert(label_has(&label, LABEL_RESYNCING));
	ck_assert_mem_ne(label.leg[1], old.leg[1], sizeof(label.leg[1]));
	ck_assert_int_eq(state_of(1), MIRROR_STALE);
}
END_TEST

TCase *replace_tests(void)
{
	TCase *tests = tcase_create("replace");

	tcase_add_checked_fixture(tests, setup_replace, teardown_replace);
	tcase_set_timeout(tests, 60);
	tcase_add_test(tests, a_leg_that_is_replaced_has_what_the_survivor_loses);
	tcase_add_test(tests, what_a_leg_that_is_replaced_has_not_right_is_not_taken);
	tcase_add_test(tests, a_replacement_is_whole_though_the_survivor_rots);
	tcase_add_test(tests, a_block_that_is_lost_everywhere_stops_no_replacement);
	tcase_add_loop_test(tests, a_leg_that_is_replaced_is_released_when_that_has_come_to_an_end, 0, 3);
	tcase_add_test(tests, a_leg_that_is_replaced_and_hangs_holds_up_nobody);
	tcase_add_test(tests, a_leg_that_was_let_go_is_not_kept_for_whoever_joins_next);
	tcase_add_test(tests, a_leg_that_is_replaced_and_hangs_does_not_keep_the_volume_open);
	tcase_add_test(tests, a_crash_does_not_make_the_replaced_leg_one_of_the_volume);
	tcase_add_test(tests, a_leg_that_was_replaced_says_so_when_the_new_one_is_whole);
	tcase_add_test(tests, a_leg_that_was_replaced_and_comes_back_is_one_again);
	tcase_add_loop_test(tests, a_replaced_leg_that_cannot_say_so_holds_up_nobody, 0, 2);
	tcase_add_test(tests, nothing_is_given_up_for_a_leg_that_cannot_be_labelled);
	tcase_add_test(tests, a_copy_of_a_leg_that_takes_its_place_is_filled_as_a_whole);
	tcase_add_test(tests, a_leg_that_was_out_is_replaced_and_not_read);
	tcase_add_test(tests, a_label_that_the_replaced_leg_could_not_write_is_not_tried_again_on_the_new_one);
	return tests;
}
