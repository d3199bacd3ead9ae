/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a resync has to wait for before it says anything, whoever its source is. */
#include "fixture.h"

#include <unistd.h>

#define PIECES 8u
#define LOOKED_MS 300 /* so long a resync that waits for too little has time to begin */
#define NOTED 256

static int enodev = -ENODEV;

/* ---- what leg 1 is asked for, in this order ---- */

enum noted { COPY, FLUSH, LABEL_FILLING, LABEL_GOT_SO_FAR, LABEL_WHOLE };

static enum noted notes[NOTED];
static unsigned int note_count;

static enum noted label_kind(const struct leg_io *io)
{
	struct format_label label;

	memcpy(&label, io->data, sizeof(label));
	if (!label_has(&label, LABEL_RESYNCING))
		return LABEL_WHOLE;
	return le64_get(label.resync.position) ? LABEL_GOT_SO_FAR : LABEL_FILLING;
}

static int rule_note(struct disk *disk, const struct leg_io *io, void *context)
{
	if ((io->op != LEG_WRITE && io->op != LEG_FLUSH) || note_count == NOTED)
		return 0;
	if (io->op == LEG_FLUSH)
		notes[note_count++] = FLUSH;
	else
		notes[note_count++] = io->offset < MIRROR_SPACE_OFFSET ? label_kind(io) : COPY;
	return 0;
}

/* NOTED: it is not there. */
static unsigned int first(enum noted what)
{
	unsigned int at = 0;

	while (at < note_count && notes[at] != what)
		at++;
	return at < note_count ? at : NOTED;
}

static unsigned int last_before(enum noted what, unsigned int end)
{
	while (end-- > 0)
		if (notes[end] == what)
			return end;
	return NOTED;
}

/* ---- the source: the first blocks, one by one ---- */

static struct {
	unsigned int begun, given;
	bool stops;    /* with half of the pieces given, until the resync is */
	bool halfway;
	bool fails;    /* instead of the first piece there is an error, once the test says so */
	bool may_fail; /* mirror->lock */
	bool beside_others;
} source;

static bool right(const struct mirror_live *live, uint32_t unit, const void *data)
{
	const struct mirror_io io = {.block = live->block, .verify_blocks = 1};

	return verify_blocks(&io, unit, data);
}

static uint64_t proven(void *context, int leg, uint64_t after)
{
	return after;
}

static int begin(void *context, const struct mirror_since *since, uint64_t *total)
{
	mutex_lock(&mirror->lock);
	source.begun++;
	source.beside_others |= !TAILQ_EMPTY(&mirror->legs[1].tries);
	cond_broadcast(&mirror->idle);
	mutex_unlock(&mirror->lock);
	source.given = 0;
	*total = PIECES;
	return 0;
}

static int next(void *context, struct mirror_live *live)
{
	bool fails;

	mutex_lock(&mirror->lock);
	source.halfway = source.given == PIECES / 2;
	cond_broadcast(&mirror->idle);
	while (source.stops && source.halfway && !mirror->resync.stopping)
		cond_wait(&mirror->idle, &mirror->lock);
	while (source.fails && !source.may_fail)
		cond_wait(&mirror->idle, &mirror->lock);
	fails = source.fails;
	source.fails = false;
	mutex_unlock(&mirror->lock);
	if (fails)
		return -EIO;
	if (source.given == PIECES)
		return -ENOENT;
	*live = (struct mirror_live){.block = source.given++, .count = 1, .unit_blocks = 1, .right = right};
	live->position = source.given;
	live->pin = mirror_pin(mirror);
	return 0;
}

static int end(void *context)
{
	return 0;
}

static void serve(void)
{
	const struct mirror_source served = {.proven = proven, .begin = begin, .next = next, .end = end};

	ck_assert_int_eq(mirror_source_set(mirror, &served), 0);
}

static void wait_begun(unsigned int times)
{
	mutex_lock(&mirror->lock);
	while (source.begun < times)
		cond_wait(&mirror->idle, &mirror->lock);
	mutex_unlock(&mirror->lock);
}

static void wait_ended(uint64_t times)
{
	mutex_lock(&mirror->lock);
	while (mirror->resync.ended < times)
		cond_wait(&mirror->idle, &mirror->lock);
	mutex_unlock(&mirror->lock);
}

/* What is noted ends with the rule, which is taken away before the mirror is closed. */
static void wait_labelled(void)
{
	mutex_lock(&mirror->lock);
	while (!relabel_durable_locked(mirror, 1, mirror->legs[1].relabel.wanted))
		cond_wait(&mirror->idle, &mirror->lock);
	mutex_unlock(&mirror->lock);
}

/* Leg 1 was away and has come back, and is not yet being filled. */
static void setup_stale(void)
{
	memset(&source, 0, sizeof(source));
	note_count = 0;
	setup_disks();
	fill(0, 1024);
	options.leg_timeout_ns = 60 * NSEC_PER_SEC; /* nothing is abandoned here */
	options.deadline_ns = 200 * NSEC_PER_SEC;
	ck_assert_int_eq(open_both(), 0);
	disk_rule_set(disks[1], rule_fail_writes, &enodev);
	ck_assert_int_eq(write_blocks(1100, 1, 0), 0);
	ck_assert_int_eq(mirror_detach(mirror, 1, false, &why), 0);
	disk_rule_set(disks[1], rule_note, NULL);
	ck_assert_int_eq(mirror_attach(mirror, disk_open(disks[1]), false, &why), 0);
	memset(disk_bytes(disks[1]) + MIRROR_SPACE_OFFSET, 0, PIECES * MIRROR_BLOCK);
}

START_TEST(the_label_says_that_a_leg_is_filled_before_and_that_it_is_whole_behind_a_flush)
{
	unsigned int whole, copied;

	serve();
	wait_ended(1);
	ck_assert_int_eq(state_of(1), MIRROR_INSYNC);
	for (unsigned int block = 0; block < PIECES; block++)
		ck_assert(block_right(1, block));
	ck_assert_int_eq(mirror_source_set(mirror, NULL), 0);
	close_mirror();
	/* Its attachment is noted too: a label that says neither. */
	whole = NOTED;
	for (unsigned int at = first(COPY); at < note_count && whole == NOTED; at++)
		whole = notes[at] == LABEL_WHOLE ? at : NOTED;
	ck_assert_uint_lt(first(LABEL_FILLING), first(COPY));
	ck_assert_uint_lt(whole, NOTED);
	copied = last_before(COPY, whole);
	ck_assert_uint_lt(last_before(FLUSH, whole), NOTED);
	ck_assert_uint_gt(last_before(FLUSH, whole), copied);
}
END_TEST

START_TEST(how_far_a_resync_got_is_on_the_leg_before_its_label_says_so)
{
	unsigned int told, copied;

	source.stops = true;
	serve();
	mutex_lock(&mirror->lock);
	while (!source.halfway)
		cond_wait(&mirror->idle, &mirror->lock);
	mutex_unlock(&mirror->lock);
	ck_assert_int_eq(mirror_source_set(mirror, NULL), 0);
	ck_assert_int_eq(state_of(1), MIRROR_STALE);
	wait_labelled();
	close_mirror();
	told = first(LABEL_GOT_SO_FAR);
	ck_assert_uint_lt(told, NOTED);
	copied = last_before(COPY, told);
	ck_assert_uint_lt(copied, told);
	ck_assert_uint_lt(last_before(FLUSH, told), NOTED);
	ck_assert_uint_gt(last_before(FLUSH, told), copied);
}
END_TEST

static int rule_hang_writes(struct disk *disk, const struct leg_io *io, void *context)
{
	return io->op == LEG_WRITE && io->offset >= MIRROR_SPACE_OFFSET ? FAKE_HANG : 0;
}

/* A write of an earlier attempt would land on what was written there since. */
START_TEST(a_resync_does_not_begin_beside_what_the_leg_has_not_given_back)
{
	struct shot shot;

	source.fails = true;
	serve();
	wait_begun(1);
	disk_rule_set(disks[1], rule_hang_writes, NULL);
	shot_init(&shot, MIRROR_WRITE, 1200, 1);
	ck_assert_int_eq(shot_fire(&shot), 0);
	disk_wait_hanging(disks[1], 1);
	mutex_lock(&mirror->lock);
	source.may_fail = true;
	cond_broadcast(&mirror->idle);
	mutex_unlock(&mirror->lock);
	wait_ended(1);
	ck_assert_int_eq(state_of(1), MIRROR_STALE);
	ck_assert_int_eq(mirror_resync_start(mirror), 0);
	usleep(LOOKED_MS * 1000);
	disk_rule_set(disks[1], NULL, NULL);
	disk_release(disks[1], 0);
	wait_ended(2);
	ck_assert_int_eq(shot_wait(&shot), 0);
	ck_assert_uint_eq(source.begun, 2);
	ck_assert(!source.beside_others);
	ck_assert_int_eq(state_of(1), MIRROR_INSYNC);
	ck_assert_int_eq(mirror_source_set(mirror, NULL), 0);
}
END_TEST

TCase *resync_tests(void)
{
	TCase *tests = tcase_create("resync");

	tcase_add_checked_fixture(tests, setup_stale, teardown);
	tcase_set_timeout(tests, 60);
	tcase_add_test(tests, the_label_says_that_a_leg_is_filled_before_and_that_it_is_whole_behind_a_flush);
	tcase_add_test(tests, how_far_a_resync_got_is_on_the_leg_before_its_label_says_so);
	tcase_add_test(tests, a_resync_does_not_begin_beside_what_the_leg_has_not_given_back);
	return tests;
}
