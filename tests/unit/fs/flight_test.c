/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reads that are under way by themselves: what they bring, and what is not begun. */
#include "fixture.h"

#include "mirrorfs/base/clock.h"

#include <sched.h>

#define BLOCKS 64u
#define PIECES 1200u

/* The data of one; whoever wants it waits for that. */
struct flight_read {
	unsigned char data[4 * FS_BLOCK];
	struct mutex lock;
	struct cond ended;
	bool over;
	ssize_t result;
};

static void ended(void *context, ssize_t result)
{
	struct flight_read *read = context;

	mutex_lock(&read->lock);
	ck_assert(!read->over);
	read->over = true;
	read->result = result;
	cond_signal(&read->ended);
	mutex_unlock(&read->lock);
}

static int begin(struct flight_read *read, uint64_t file, uint64_t offset, size_t length, unsigned int flags)
{
	*read = (struct flight_read){ .over = false };
	mutex_init(&read->lock, RANK_LEAF);
	cond_init(&read->ended);
	return fs_read_begin(fs, file, read->data, length, offset, flags, ended, read);
}

static ssize_t wait_for(struct flight_read *read)
{
	mutex_lock(&read->lock);
	while (!read->over)
		cond_wait(&read->ended, &read->lock);
	mutex_unlock(&read->lock);
	return read->result;
}

static void expect_bytes(const struct flight_read *read, uint64_t offset, size_t length, unsigned int seed)
{
	unsigned char *right = pattern_of(offset, length, seed);

	ck_assert_mem_eq(read->data, right, length);
	free(right);
}

/* A file on the legs, nothing of it in the cache but the way to it. */
static uint64_t file_on_legs(void)
{
	uint64_t file = make_file(ROOT, "file");
	unsigned char byte;

	put_pattern(file, 0, BLOCKS * FS_BLOCK, 1);
	sync_file(file);
	cache_drop_clean(cache);
	ck_assert_int_eq(fs_read(fs, file, &byte, 1, (BLOCKS - 1) * FS_BLOCK), 1);
	return file;
}

START_TEST(a_read_goes_on_by_itself)
{
	uint64_t file = file_on_legs(), reads = volume_reads(0) + volume_reads(1);
	struct flight_read many[8];

	for (unsigned int i = 0; i < 8; i++)
		ck_assert_int_eq(begin(&many[i], file, 5 * i * FS_BLOCK, 4 * FS_BLOCK, FS_READ_PAST), 0);
	for (unsigned int i = 0; i < 8; i++) {
		ck_assert_int_eq(wait_for(&many[i]), 4 * FS_BLOCK);
		expect_bytes(&many[i], 5 * i * FS_BLOCK, 4 * FS_BLOCK, 1);
	}
	ck_assert_uint_eq(volume_reads(0) + volume_reads(1), reads + 8);
}
END_TEST

static void expect_not_begun(uint64_t file, uint64_t offset, size_t length, unsigned int flags)
{
	struct flight_read read;

	ck_assert_int_eq(begin(&read, file, offset, length, flags), -EAGAIN);
	ck_assert(!read.over);
}

START_TEST(what_is_not_simple_is_not_begun)
{
	uint64_t file = file_on_legs(), small = make_file(ROOT, "small");

	put_pattern(small, 0, 4 * FS_BLOCK, 1);
	set_size(file, (BLOCKS + 8) * FS_BLOCK + 100);
	sync_file(small);
	sync_file(file);
	expect_not_begun(file, 0, FS_BLOCK, 0); /* it may be in the cache */
	expect_not_begun(file, 0, 0, FS_READ_PAST);
	expect_not_begun(file, 1, FS_BLOCK, FS_READ_PAST);
	expect_not_begun(file, 0, FS_BLOCK - 1, FS_READ_PAST);
	expect_not_begun(file, BLOCKS * FS_BLOCK, FS_BLOCK, FS_READ_PAST); /* a hole */
	expect_not_begun(file, (BLOCKS - 1) * FS_BLOCK, 2 * FS_BLOCK, FS_READ_PAST);
	expect_not_begun(file, (BLOCKS + 8) * FS_BLOCK, FS_BLOCK, FS_READ_PAST); /* the end */
	expect_not_begun(file, (BLOCKS + 100) * FS_BLOCK, FS_BLOCK, FS_READ_PAST);
	expect_not_begun(small, 0, FS_BLOCK, FS_READ_PAST);
	expect_not_begun(ROOT, 0, FS_BLOCK, FS_READ_PAST);
	expect_not_begun(file + 1000, 0, FS_BLOCK, FS_READ_PAST);
}
END_TEST

START_TEST(what_is_newer_in_a_page_is_not_read_from_a_leg)
{
	uint64_t file = file_on_legs(), reads;
	struct flight_read read;

	put_pattern(file, 3 * FS_BLOCK, FS_BLOCK, 2);
	reads = volume_reads(0) + volume_reads(1);
	ck_assert_int_eq(begin(&read, file, 3 * FS_BLOCK, FS_BLOCK, FS_READ_PAST), 0);
	ck_assert_int_eq(wait_for(&read), FS_BLOCK);
	expect_bytes(&read, 3 * FS_BLOCK, FS_BLOCK, 2);
	ck_assert_uint_eq(volume_reads(0) + volume_reads(1), reads);
	expect_not_begun(file, 0, 4 * FS_BLOCK, FS_READ_PAST);
	ck_assert_int_eq(begin(&read, file, 4 * FS_BLOCK, FS_BLOCK, FS_READ_PAST), 0);
	ck_assert_int_eq(wait_for(&read), FS_BLOCK);
	expect_bytes(&read, 4 * FS_BLOCK, FS_BLOCK, 1);
}
END_TEST

/* An fsync of little data leaves its blocks in the journal alone. */
START_TEST(what_is_not_home_yet_is_read_as_it_will_be)
{
	uint64_t file = file_on_legs();
	struct flight_read read;
	unsigned char byte;

	for (unsigned int i = 0; i < 3; i++) {
		put_pattern(file, (4 + i) * FS_BLOCK, FS_BLOCK, 2);
		sync_file(file);
	}
	cache_drop_clean(cache);
	ck_assert_int_eq(fs_read(fs, file, &byte, 1, (BLOCKS - 1) * FS_BLOCK), 1);
	expect_not_begun(file, 5 * FS_BLOCK, FS_BLOCK, FS_READ_PAST);
	ck_assert_int_eq(fs_read_as(fs, file, read.data, FS_BLOCK, 5 * FS_BLOCK, FS_READ_PAST), FS_BLOCK);
	expect_bytes(&read, 5 * FS_BLOCK, FS_BLOCK, 2);
	expect_pattern(file, 4 * FS_BLOCK, 3 * FS_BLOCK, 2);
	expect_pattern(file, 0, 4 * FS_BLOCK, 1);
}
END_TEST

START_TEST(who_reads_the_same_again_gets_it_by_way_of_the_cache)
{
	uint64_t file = file_on_legs(), reads = volume_reads(0) + volume_reads(1);
	struct flight_read read;

	for (unsigned int i = 0; i < 4; i++) {
		ck_assert_int_eq(begin(&read, file, 0, FS_BLOCK, FS_READ_PAST), 0);
		ck_assert_int_eq(wait_for(&read), FS_BLOCK);
		expect_bytes(&read, 0, FS_BLOCK, 1);
	}
	ck_assert_uint_eq(volume_reads(0) + volume_reads(1), reads + 2);
}
END_TEST

/* The page that it fills has the same as whoever asked for it: the writer's, when that one has written. */
START_TEST(a_page_that_is_filled_by_the_way_is_not_older_than_a_write)
{
	uint64_t file = file_on_legs();
	unsigned char *right = pattern_of(0, FS_BLOCK, 2);
	struct flight_read first, again;

	ck_assert_int_eq(begin(&first, file, 0, FS_BLOCK, FS_READ_PAST), 0);
	ck_assert_int_eq(wait_for(&first), FS_BLOCK);
	for (int leg = 0; leg < MIRROR_LEGS; leg++)
		ck_assert_int_eq(mirror_drill(fs->mirror, leg, "read,delay=300", 600 * NSEC_PER_SEC, NULL), 0);
	ck_assert_int_eq(begin(&again, file, 0, FS_BLOCK, FS_READ_PAST), 0);
	ck_assert_int_eq(fs_write(fs, file, right, FS_BLOCK, 0, FS_WRITE_THROUGH), FS_BLOCK);
	free(right);
	ck_assert_int_eq(wait_for(&again), FS_BLOCK);
	expect_bytes(&again, 0, FS_BLOCK, 1);
	expect_pattern(file, 0, FS_BLOCK, 2);
}
END_TEST

START_TEST(a_page_that_could_not_be_filled_by_the_way_is_not_there)
{
	uint64_t file = file_on_legs();
	struct flight_read read;

	ck_assert_int_eq(begin(&read, file, 0, FS_BLOCK, FS_READ_PAST), 0);
	ck_assert_int_eq(wait_for(&read), FS_BLOCK);
	for (int leg = 0; leg < MIRROR_LEGS; leg++)
		ck_assert_int_eq(mirror_drill(fs->mirror, leg, "read,error=EIO", 600 * NSEC_PER_SEC, NULL), 0);
	ck_assert_int_eq(begin(&read, file, 0, FS_BLOCK, FS_READ_PAST), 0);
	ck_assert_int_eq(wait_for(&read), -EIO);
	for (int leg = 0; leg < MIRROR_LEGS; leg++)
		ck_assert_int_eq(mirror_drill(fs->mirror, leg, "", 0, NULL), 0);
	ck_assert_int_eq(fs_read(fs, file, read.data, FS_BLOCK, 0), FS_BLOCK);
	expect_bytes(&read, 0, FS_BLOCK, 1);
}
END_TEST

/* The way to a block of a file in very many pieces is more than the root of the tree. */
START_TEST(a_read_does_not_wait_for_the_way_there)
{
	uint64_t file = make_file(ROOT, "file");
	struct flight_read read;
	unsigned char byte;

	for (uint64_t i = 0; i < PIECES; i++)
		put_pattern(file, 2 * i * FS_BLOCK, FS_BLOCK, 1);
	sync_file(file);
	ck_assert_int_eq(meta_checkpoint(meta), 0);
	cache_drop_clean(cache);
	expect_not_begun(file, PIECES * FS_BLOCK, FS_BLOCK, FS_READ_PAST);
	ck_assert_int_eq(fs_read(fs, file, &byte, 1, (PIECES + 2) * FS_BLOCK), 1);
	ck_assert_int_eq(begin(&read, file, PIECES * FS_BLOCK, FS_BLOCK, FS_READ_PAST), 0);
	ck_assert_int_eq(wait_for(&read), FS_BLOCK);
	expect_bytes(&read, PIECES * FS_BLOCK, FS_BLOCK, 1);
}
END_TEST

START_TEST(what_is_to_be_waited_for_is_not_begun)
{
	uint64_t file = file_on_legs();
	struct inode *inode;

	ck_assert_int_eq(inode_get(fs, file, &inode), 0);
	rwlock_write(&inode->content); /* somebody writes */
	expect_not_begun(file, 0, FS_BLOCK, FS_READ_PAST);
	rwlock_unlock(&inode->content);
	inode_put(inode);
	fs_forget(fs, file, 1); /* nobody knows it */
	expect_not_begun(file, 0, FS_BLOCK, FS_READ_PAST);
	ck_assert_uint_eq(find(ROOT, "file"), file);
	volume_remount();
	expect_not_begun(file, 0, FS_BLOCK, FS_READ_PAST);
}
END_TEST

/* Block 7 of the file, wherever it lies on that leg. */
static void spoil(int leg, unsigned int seed)
{
	unsigned char *disk = volume_disk(leg), *block = pattern_of(7 * FS_BLOCK, FS_BLOCK, seed);
	unsigned int found = 0;

	for (uint64_t at = MIRROR_SPACE_OFFSET; at < volume_disk_bytes(); at += FS_BLOCK) {
		if (memcmp(disk + at, block, FS_BLOCK))
			continue;
		disk[at + 1000] ^= 1;
		found++;
	}
	ck_assert_uint_ge(found, 1);
	free(block);
}

START_TEST(a_bad_copy_is_answered_by_the_other_leg_and_healed)
{
	struct flight_read read;
	uint64_t file = file_on_legs();
	unsigned char byte;

	volume_unmount();
	spoil(_i, 1);
	volume_policy = _i ? MIRROR_POLICY_LEG1 : MIRROR_POLICY_LEG0;
	volume_mount(false);
	ck_assert_int_eq(fs_lookup(fs, ROOT, "file", &(struct fs_attr){ .generation = 0 }), 0);
	ck_assert_int_eq(fs_read(fs, file, &byte, 1, (BLOCKS - 1) * FS_BLOCK), 1);
	ck_assert_int_eq(begin(&read, file, 6 * FS_BLOCK, 3 * FS_BLOCK, FS_READ_PAST), 0);
	ck_assert_int_eq(wait_for(&read), 3 * FS_BLOCK);
	expect_bytes(&read, 6 * FS_BLOCK, 3 * FS_BLOCK, 1);
	mirror_repairs_wait();
	ck_assert_uint_eq(mirror_repaired(_i), 1);
}
END_TEST

START_TEST(what_no_leg_has_right_is_an_error)
{
	struct flight_read read;
	uint64_t file = file_on_legs();
	unsigned char byte;

	volume_unmount();
	spoil(0, 1);
	spoil(1, 1);
	volume_mount(false);
	ck_assert_int_eq(fs_lookup(fs, ROOT, "file", &(struct fs_attr){ .generation = 0 }), 0);
	ck_assert_int_eq(fs_read(fs, file, &byte, 1, (BLOCKS - 1) * FS_BLOCK), 1);
	ck_assert_int_eq(begin(&read, file, 6 * FS_BLOCK, 3 * FS_BLOCK, FS_READ_PAST), 0);
	ck_assert_int_eq(wait_for(&read), -EIO);
}
END_TEST

/* I9. The legs hang until the block has been freed and all is durable: what it was is what comes. */
START_TEST(what_a_read_is_under_way_to_is_not_given_to_anyone_else)
{
	uint64_t file = file_on_legs(), stamp;
	struct flight_read read;

	for (int leg = 0; leg < MIRROR_LEGS; leg++)
		ck_assert_int_eq(mirror_drill(fs->mirror, leg, "read,hang", 600 * NSEC_PER_SEC, NULL), 0);
	ck_assert_int_eq(begin(&read, file, 0, 2 * FS_BLOCK, FS_READ_PAST), 0);
	put_pattern(file, 0, BLOCKS * FS_BLOCK, 2);
	sync_file(file);
	stamp = mirror_pin_stamp(fs->mirror);
	ck_assert_uint_lt(mirror_pins_passed(fs->mirror), stamp);
	for (int leg = 0; leg < MIRROR_LEGS; leg++)
		ck_assert_int_eq(mirror_drill(fs->mirror, leg, "", 0, NULL), 0);
	ck_assert_int_eq(wait_for(&read), 2 * FS_BLOCK);
	expect_bytes(&read, 0, 2 * FS_BLOCK, 1);
	while (mirror_pins_passed(fs->mirror) < stamp) /* the mirror lets go of it, too */
		sched_yield();
}
END_TEST

Suite *flight_suite(void)
{
	Suite *suite = suite_create("flight");
	TCase *tcase = tcase_create("flight");

	tcase_add_checked_fixture(tcase, volume_setup, volume_teardown);
	tcase_set_timeout(tcase, 120);
	tcase_add_test(tcase, a_read_goes_on_by_itself);
	tcase_add_test(tcase, what_is_not_simple_is_not_begun);
	tcase_add_test(tcase, what_is_newer_in_a_page_is_not_read_from_a_leg);
	tcase_add_test(tcase, what_is_not_home_yet_is_read_as_it_will_be);
	tcase_add_test(tcase, who_reads_the_same_again_gets_it_by_way_of_the_cache);
	tcase_add_test(tcase, a_page_that_is_filled_by_the_way_is_not_older_than_a_write);
	tcase_add_test(tcase, a_page_that_could_not_be_filled_by_the_way_is_not_there);
	tcase_add_test(tcase, a_read_does_not_wait_for_the_way_there);
	tcase_add_test(tcase, what_is_to_be_waited_for_is_not_begun);
	tcase_add_loop_test(tcase, a_bad_copy_is_answered_by_the_other_leg_and_healed, 0, MIRROR_LEGS);
	tcase_add_test(tcase, what_no_leg_has_right_is_an_error);
	tcase_add_test(tcase, what_a_read_is_under_way_to_is_not_given_to_anyone_else);
	suite_add_tcase(suite, tcase);
	return suite;
}
