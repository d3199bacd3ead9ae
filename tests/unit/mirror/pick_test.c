/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which leg a read asks first, decided from what the test says the mirror has measured. */
#include "fixture.h"

static int eio = -EIO;

static void setup_auto(void)
{
	setup_disks();
	fill(0, 1024);
	options.policy = MIRROR_POLICY_AUTO;
	ck_assert_int_eq(open_both(), 0);
}

static int pick_long(uint64_t block, uint32_t count)
{
	int leg;

	mutex_lock(&mirror->lock);
	leg = pick_leg_locked(mirror, block, count);
	mutex_unlock(&mirror->lock);
	return leg;
}

static int pick(uint64_t block)
{
	return pick_long(block, 8);
}

static void note(int leg, uint64_t block, uint32_t count)
{
	mutex_lock(&mirror->lock);
	pick_note_locked(mirror, leg, block, count);
	mutex_unlock(&mirror->lock);
}

static void measured(uint64_t latency0, uint64_t latency1, unsigned int reading0, unsigned int reading1)
{
	mutex_lock(&mirror->lock);
	mirror->legs[0].latency_ns = latency0;
	mirror->legs[1].latency_ns = latency1;
	mirror->legs[0].reading = reading0;
	mirror->legs[1].reading = reading1;
	mutex_unlock(&mirror->lock);
}

START_TEST(the_leg_that_would_answer_first_is_asked)
{
	measured(1000, 2000, 0, 0);
	ck_assert_int_eq(pick(700), 0);
	measured(2000, 1000, 0, 0);
	ck_assert_int_eq(pick(100), 1);
	/* The fast one has so much to do that the slow one would be first. */
	measured(1000, 2000, 5, 1);
	ck_assert_int_eq(pick(100), 1);
	measured(0, 0, 0, 0);
}
END_TEST

START_TEST(equal_legs_share_the_space_by_stripes)
{
	measured(1000, 1010, 0, 0);
	for (uint64_t block = 1; block < 4096; block += 100)
		ck_assert_int_eq(pick(block), (int)(block / 512 & 1));
}
END_TEST

START_TEST(a_stream_stays_on_its_leg_until_the_other_is_twice_as_good)
{
	measured(1000, 1000, 0, 0);
	note(1, 100, 8);
	ck_assert_int_eq(pick(108), 1);
	ck_assert_int_eq(pick(100), 0);
	measured(1000, 1900, 0, 0);
	ck_assert_int_eq(pick(108), 1);
	measured(1000, 2100, 0, 0);
	ck_assert_int_eq(pick(108), 0);
}
END_TEST

START_TEST(on_one_disk_a_stream_stays_unless_the_other_leg_is_far_better)
{
	close_mirror();
	disk_lies_on(disks[0], 7, 1);
	disk_lies_on(disks[1], 7, 2);
	ck_assert_int_eq(open_both(), 0);
	/* It has reads ahead of itself, and nobody else has any. */
	measured(1000, 1000, 0, 8);
	note(1, 100, 8);
	ck_assert_int_eq(pick(108), 1);
	/* Whoever begins goes where less is to do. */
	ck_assert_int_eq(pick(700), 0);
	measured(1000, 17000, 0, 0);
	ck_assert_int_eq(pick(108), 0);
}
END_TEST

START_TEST(long_reads_of_one_stream_come_in_any_order)
{
	measured(1000, 1500, 0, 0);
	note(1, 10000, 256);
	ck_assert_int_eq(pick_long(10512, 256), 1);
	note(1, 10512, 256);
	ck_assert_int_eq(pick_long(10256, 256), 1);
	note(1, 10256, 256);
	/* It is where it had come to. */
	ck_assert_int_eq(pick_long(10768, 256), 1);
	ck_assert_int_eq(pick(10768), 1);
	/* Short ones near it are somebody's who reads here and there, and so are long ones far from it. */
	ck_assert_int_eq(pick(10512), 0);
	ck_assert_int_eq(pick_long(20000, 256), 0);
}
END_TEST

START_TEST(sixteen_streams_at_once_stay_each_on_its_leg)
{
	measured(1000, 1000, 0, 0);
	for (uint32_t step = 0; step < 10; step++) {
		for (uint64_t stream = 0; stream < 16; stream++) {
			uint64_t block = 1000 * (stream + 1) + (uint64_t)step * 8;
			int leg = (int)(stream / 3 & 1);

			if (step > 0)
				ck_assert_int_eq(pick(block), leg);
			note(leg, block, 8);
		}
	}
}
END_TEST

START_TEST(the_other_leg_is_asked_again_some_day)
{
	measured(1000, 100000, 0, 0);
	for (int i = 0; pick(5) == 0; i++)
		ck_assert_int_lt(i, 10000);
}
END_TEST

START_TEST(a_write_mostly_leg_is_read_only_where_the_other_cannot_answer)
{
	unsigned int before, other;

	close_mirror();
	options.write_mostly = 1u << 0;
	options.policy = MIRROR_POLICY_LEG0;
	ck_assert_int_eq(open_both(), 0);
	before = disk_count(disks[0], LEG_READ);
	for (uint64_t block = 0; block < 1000; block += 10)
		ck_assert_int_eq(read_blocks(block, 4), 0);
	ck_assert_uint_eq(disk_count(disks[0], LEG_READ), before);
	disk_rule_set(disks[1], rule_fail_reads, &eio);
	ck_assert_int_eq(read_blocks(0, 4), 0);
	ck_assert_uint_eq(disk_count(disks[0], LEG_READ), before + 1);
	disk_rule_set(disks[1], NULL, NULL);
	/* It is written like the other one. */
	other = disk_count(disks[0], LEG_WRITE);
	ck_assert_int_eq(write_blocks(0, 4, 0), 0);
	ck_assert_uint_gt(disk_count(disks[0], LEG_WRITE), other);
}
END_TEST

TCase *pick_tests(void)
{
	TCase *tests = tcase_create("pick");

	tcase_add_checked_fixture(tests, setup_auto, teardown);
	tcase_set_timeout(tests, 60);
	tcase_add_test(tests, the_leg_that_would_answer_first_is_asked);
	tcase_add_test(tests, equal_legs_share_the_space_by_stripes);
	tcase_add_test(tests, a_stream_stays_on_its_leg_until_the_other_is_twice_as_good);
	tcase_add_test(tests, on_one_disk_a_stream_stays_unless_the_other_leg_is_far_better);
	tcase_add_test(tests, long_reads_of_one_stream_come_in_any_order);
	tcase_add_test(tests, sixteen_streams_at_once_stay_each_on_its_leg);
	tcase_add_test(tests, the_other_leg_is_asked_again_some_day);
	tcase_add_test(tests, a_write_mostly_leg_is_read_only_where_the_other_cannot_answer);
	return tests;
}
