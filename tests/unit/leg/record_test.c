/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "leg_test.h"

START_TEST(what_succeeded_is_recorded_in_order_with_its_data)
{
	struct leg_record_entry entry;
	struct leg *leg, *faulty;

	ck_assert_int_eq(leg_fault_wrap(leg_test_memory(), "write,error=EIO,range=64K-", &faulty, NULL), 0);
	ck_assert_int_eq(leg_record_wrap(faulty, &leg), 0);
	leg_test_fill(leg, 0, 4096, 4096, 1);
	leg_test_expect(leg, 4096, 4096, 1);
	ck_assert_int_eq(leg_test_io(leg, LEG_FLUSH, 0, 0, 0, NULL), 0);
	ck_assert_int_eq(leg_test_io(leg, LEG_WRITE, 0, 65536, 4096, leg_memory_bytes(leg)), -EIO);
	leg_test_fill(leg, LEG_DSYNC, 8192, 512, 2);
	ck_assert_int_eq(leg_test_io(leg, LEG_DISCARD, 0, 0, 1 << 20, NULL), 0);
	ck_assert_uint_eq(leg_record_count(leg), 4);
	leg_record_get(leg, 0, &entry);
	ck_assert_int_eq(entry.op, LEG_WRITE);
	ck_assert_uint_eq(entry.flags, 0);
	ck_assert_uint_eq(entry.offset, 4096);
	ck_assert_uint_eq(entry.length, 4096);
	ck_assert_int_eq(((const unsigned char *)entry.data)[4095], 1);
	leg_record_get(leg, 1, &entry);
	ck_assert_int_eq(entry.op, LEG_FLUSH);
	leg_record_get(leg, 2, &entry);
	ck_assert_uint_eq(entry.flags, LEG_DSYNC);
	ck_assert_int_eq(((const unsigned char *)entry.data)[0], 2);
	leg_record_get(leg, 3, &entry);
	ck_assert_int_eq(entry.op, LEG_DISCARD);
	ck_assert_uint_eq(entry.length, 1 << 20);
	ck_assert_ptr_null(entry.data);
	leg_close(leg);
}
END_TEST

START_TEST(replaying_a_whole_record_gives_the_same_disk)
{
	enum { COUNT = 300 };
	static struct leg_test_request requests[COUNT];
	struct leg_memory_options options = { .size_bytes = 1 << 20, .block_size = 512, .name = "busy",
					      .latency_max_ns = 1000000 };
	unsigned char *data = leg_test_buffer(COUNT * 512, 0), *replayed = leg_test_buffer(1 << 20, 0);
	struct leg_record_entry entry;
	struct leg *memory, *leg;

	ck_assert_int_eq(leg_memory_open(&options, &memory), 0);
	ck_assert_int_eq(leg_record_wrap(memory, &leg), 0);
	for (int i = 0; i < COUNT; i++) {
		memset(data + i * 512, i, 512);
		/* ten blocks only: writes overtake each other, and only the order of completion explains the disk */
		leg_test_start(leg, &requests[i], LEG_WRITE, 0, (uint64_t)(i % 10) * 512, 512, data + i * 512);
	}
	for (int i = 0; i < COUNT; i++)
		ck_assert_int_eq(leg_test_wait(&requests[i]), 0);
	ck_assert_uint_eq(leg_record_count(leg), COUNT);
	for (size_t i = 0; i < COUNT; i++) {
		leg_record_get(leg, i, &entry);
		memcpy(replayed + entry.offset, entry.data, entry.length);
	}
	ck_assert_mem_eq(replayed, leg_memory_bytes(leg), 1 << 20);
	free(data);
	free(replayed);
	leg_close(leg);
}
END_TEST

Suite *record_suite(void)
{
	Suite *suite = suite_create("record");
	TCase *tests = tcase_create("record");

	tcase_add_test(tests, what_succeeded_is_recorded_in_order_with_its_data);
	tcase_add_test(tests, replaying_a_whole_record_gives_the_same_disk);
	suite_add_tcase(suite, tests);
	return suite;
}
