/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "leg_test.h"

#include "mirrorfs/base/clock.h"

#include <stdio.h>
#include <unistd.h>

static struct leg *faulty(const char *rules)
{
	struct error error = { "" };
	struct leg *leg;

	ck_assert_msg(!leg_fault_wrap(leg_test_memory(), rules, &leg, &error), "%s", error.text);
	return leg;
}

static int read_at(struct leg *leg, uint64_t offset, size_t length)
{
	unsigned char *data = leg_test_buffer(length, 0);
	int error = leg_test_io(leg, LEG_READ, 0, offset, length, data);

	free(data);
	return error;
}

static int write_at(struct leg *leg, uint64_t offset, size_t length, int byte)
{
	unsigned char *data = leg_test_buffer(length, byte);
	int error = leg_test_io(leg, LEG_WRITE, 0, offset, length, data);

	free(data);
	return error;
}

START_TEST(no_rules_do_no_harm)
{
	struct leg *leg = faulty("");

	leg_test_fill(leg, 0, 4096, 8192, 1);
	leg_test_expect(leg, 4096, 8192, 1);
	ck_assert_int_eq(leg_test_io(leg, LEG_FLUSH, 0, 0, 0, NULL), 0);
	ck_assert_int_eq(leg_test_io(leg, LEG_DISCARD, 0, 0, 1 << 20, NULL), 0);
	leg_test_expect(leg, 4096, 8192, 0);
	ck_assert_str_eq(leg_engine_name(leg), "memory");
	leg_close(leg);
}
END_TEST

START_TEST(an_error_hits_its_operation_and_range_alone)
{
	struct leg *leg = faulty("write,error=ENOSPC,range=8K-16K;flush,error=5");
	struct leg_counters counters;

	ck_assert_int_eq(write_at(leg, 0, 8192, 1), 0);
	ck_assert_int_eq(write_at(leg, 4096, 8192, 1), -ENOSPC);
	ck_assert_int_eq(write_at(leg, 16384, 4096, 1), 0);
	ck_assert_int_eq(read_at(leg, 8192, 4096), 0);
	ck_assert_int_eq(leg_test_io(leg, LEG_FLUSH, 0, 0, 0, NULL), -EIO);
	leg_test_expect(leg, 8192, 8192, 0);
	leg_counters(leg, &counters);
	ck_assert_uint_eq(counters.errors[LEG_SPACE], 1);
	ck_assert_uint_eq(counters.errors[LEG_MEDIA], 1);
	leg_close(leg);
}
END_TEST

START_TEST(after_and_count_bound_a_rule)
{
	struct leg *leg = faulty("read,error=EIO,after=2,count=3");
	static const int expected[] = { 0, 0, -EIO, -EIO, -EIO, 0, 0 };

	for (size_t i = 0; i < 7; i++)
		ck_assert_int_eq(read_at(leg, 0, 4096), expected[i]);
	leg_close(leg);
}
END_TEST

START_TEST(chance_hits_some_and_misses_some)
{
	struct leg *leg = faulty("read,error=EIO,chance=4");
	int failed = 0;

	/* That 400 draws of one in four give no hit, or no miss, happens once in 10^49. */
	for (int i = 0; i < 400; i++)
		failed += read_at(leg, 0, 512) != 0;
	ck_assert_int_gt(failed, 0);
	ck_assert_int_lt(failed, 400);
	leg_close(leg);
}
END_TEST

START_TEST(align_refuses_loose_memory_only)
{
	struct leg *leg = faulty("any,align=4096");
	unsigned char *data = leg_test_buffer(8192, 0);

	ck_assert_int_eq(leg_test_io(leg, LEG_READ, 0, 0, 4096, data), 0);
	ck_assert_int_eq(leg_test_io(leg, LEG_READ, 0, 0, 4096, data + 512), -EINVAL);
	ck_assert_int_eq(leg_test_io(leg, LEG_WRITE, 0, 0, 4096, data + 512), -EINVAL);
	free(data);
	leg_close(leg);
}
END_TEST

START_TEST(a_dropped_write_is_answered_and_not_done)
{
	struct leg *leg = faulty("any,drop");

	ck_assert_int_eq(write_at(leg, 0, 4096, 1), 0);
	leg_test_expect(leg, 0, 4096, 0);
	ck_assert_int_eq(leg_test_io(leg, LEG_FLUSH, 0, 0, 0, NULL), 0);
	leg_close(leg);
}
END_TEST

START_TEST(a_torn_write_leaves_its_head)
{
	struct leg *leg = faulty("write,torn=1K");

	ck_assert_int_eq(write_at(leg, 0, 4096, 1), 0);
	leg_test_expect(leg, 0, 1024, 1);
	leg_test_expect(leg, 1024, 3072, 0);
	/* Less than a block of the leg: nothing is left of it, and no empty request goes down. */
	ck_assert_int_eq(leg_fault_set(leg, "write,torn=100", NULL), 0);
	ck_assert_int_eq(write_at(leg, 8192, 4096, 1), 0);
	leg_test_expect(leg, 8192, 4096, 0);
	leg_close(leg);
}
END_TEST

START_TEST(a_short_one_is_an_error_that_tells_how_far)
{
	struct leg *leg = faulty("any,short=1K");
	unsigned char *data = leg_test_buffer(4096, 7);
	struct leg_test_request request;

	leg_test_start(leg, &request, LEG_WRITE, 0, 0, 4096, data);
	ck_assert_int_eq(leg_test_wait(&request), -EIO);
	ck_assert_uint_eq(request.io.bytes, 1024);
	ck_assert_int_eq(leg_fault_set(leg, "", NULL), 0);
	leg_test_expect(leg, 0, 1024, 7);
	leg_test_expect(leg, 1024, 3072, 0);
	ck_assert_int_eq(leg_fault_set(leg, "read,short=0", NULL), 0);
	leg_test_start(leg, &request, LEG_READ, 0, 0, 4096, data);
	ck_assert_int_eq(leg_test_wait(&request), -EIO);
	ck_assert_uint_eq(request.io.bytes, 0);
	free(data);
	leg_close(leg);
}
END_TEST

/* Bytes of the block that are not `byte`. */
static size_t wrong_bytes(const unsigned char *block, int byte)
{
	size_t wrong = 0;

	for (size_t i = 0; i < 4096; i++)
		wrong += block[i] != byte;
	return wrong;
}

START_TEST(corruption_changes_one_byte_a_block_and_always_the_same)
{
	struct leg *leg = faulty("read,corrupt,range=4K-12K");
	unsigned char *data = leg_test_buffer(16384, 0), *again = leg_test_buffer(16384, 0);

	leg_test_fill(leg, 0, 0, 16384, 5);
	ck_assert_int_eq(leg_test_io(leg, LEG_READ, 0, 0, 16384, data), 0);
	ck_assert_uint_eq(wrong_bytes(data, 5), 0);
	ck_assert_uint_eq(wrong_bytes(data + 4096, 5), 1);
	ck_assert_uint_eq(wrong_bytes(data + 8192, 5), 1);
	ck_assert_uint_eq(wrong_bytes(data + 12288, 5), 0);
	ck_assert_int_eq(leg_test_io(leg, LEG_READ, 0, 0, 16384, again), 0);
	ck_assert_mem_eq(data, again, 16384);
	ck_assert_int_eq(leg_fault_set(leg, "", NULL), 0);
	leg_test_expect(leg, 0, 16384, 5);
	free(data);
	free(again);
	leg_close(leg);
}
END_TEST

START_TEST(a_latch_fails_until_it_is_rewritten)
{
	struct leg *leg = faulty("read,latch,range=4K-12K");

	ck_assert_int_eq(read_at(leg, 0, 4096), 0);
	ck_assert_int_eq(read_at(leg, 0, 8192), -EIO);
	ck_assert_int_eq(read_at(leg, 8192, 4096), -EIO);
	ck_assert_int_eq(write_at(leg, 4096, 2048, 1), 0);
	ck_assert_int_eq(read_at(leg, 4096, 4096), -EIO);
	ck_assert_int_eq(write_at(leg, 4096, 4096, 1), 0);
	ck_assert_int_eq(read_at(leg, 4096, 4096), 0);
	ck_assert_int_eq(read_at(leg, 8192, 4096), -EIO);
	leg_close(leg);
}
END_TEST

START_TEST(a_lost_write_is_done_though_nobody_was_told)
{
	unsigned char *data = leg_test_buffer(4096, 7), *seen = leg_test_buffer(4096, 0);
	struct leg *leg = faulty("write,lost");

	ck_assert_int_eq(leg_test_io(leg, LEG_WRITE, 0, 8192, 4096, data), -ENOTCONN);
	ck_assert_int_eq(leg_test_io(leg, LEG_READ, 0, 8192, 4096, seen), 0);
	ck_assert_mem_eq(seen, data, 4096);
	leg_close(leg);
	free(data);
	free(seen);
}
END_TEST

START_TEST(a_write_that_was_dropped_heals_no_latch)
{
	struct leg *leg = faulty("read,corrupt,latch,range=0-4K;write,drop,count=1");
	unsigned char *data = leg_test_buffer(4096, 0);

	ck_assert_int_eq(write_at(leg, 0, 4096, 3), 0);
	ck_assert_int_eq(leg_test_io(leg, LEG_READ, 0, 0, 4096, data), 0);
	ck_assert_uint_eq(wrong_bytes(data, 0), 1);
	ck_assert_int_eq(write_at(leg, 0, 4096, 3), 0);
	leg_test_expect(leg, 0, 4096, 3);
	free(data);
	leg_close(leg);
}
END_TEST

START_TEST(a_latch_with_chance_keeps_its_bad_blocks)
{
	struct leg *leg = faulty("read,latch,range=0-1M,chance=3");
	int errors[256], bad = 0;

	for (int i = 0; i < 256; i++) {
		errors[i] = read_at(leg, (uint64_t)i * 4096, 4096);
		bad += errors[i] != 0;
	}
	ck_assert_int_gt(bad, 0);
	ck_assert_int_lt(bad, 256);
	for (int i = 0; i < 256; i++)
		ck_assert_int_eq(read_at(leg, (uint64_t)i * 4096, 4096), errors[i]);
	leg_close(leg);
}
END_TEST

START_TEST(a_misdirected_write_lands_elsewhere)
{
	struct leg *leg = faulty("write,misdirect=8K,count=1");

	ck_assert_int_eq(write_at(leg, 0, 4096, 1), 0);
	leg_test_expect(leg, 0, 4096, 0);
	leg_test_expect(leg, 8192, 4096, 1);
	/* Outside the leg: not applied, rather than an error that no disk would give. */
	ck_assert_int_eq(leg_fault_set(leg, "write,misdirect=-8K", NULL), 0);
	ck_assert_int_eq(write_at(leg, 0, 4096, 2), 0);
	leg_test_expect(leg, 0, 4096, 2);
	leg_close(leg);
}
END_TEST

START_TEST(a_delayed_request_is_late_and_lets_others_pass)
{
	struct leg *leg = faulty("write,delay=60;write,error=EIO,range=0-4K");
	unsigned char *data = leg_test_buffer(4096, 1);
	struct leg_test_request slow, failing;
	uint64_t from = clock_now_ns();

	leg_test_start(leg, &slow, LEG_WRITE, 0, 4096, 4096, data);
	leg_test_start(leg, &failing, LEG_WRITE, 0, 0, 4096, data);
	ck_assert_int_eq(read_at(leg, 8192, 4096), 0);
	ck_assert_int_eq(leg_test_wait(&slow), 0);
	ck_assert_int_eq(leg_test_wait(&failing), -EIO);
	ck_assert_uint_ge(clock_now_ns() - from, 60 * NSEC_PER_MSEC);
	leg_test_expect(leg, 4096, 4096, 1);
	leg_test_expect(leg, 0, 4096, 0);
	free(data);
	leg_close(leg);
}
END_TEST

START_TEST(what_hangs_ends_when_the_rules_are_replaced)
{
	struct leg *leg = faulty("write,hang");
	unsigned char *data = leg_test_buffer(4096, 1);
	struct leg_test_request hanging;

	leg_test_start(leg, &hanging, LEG_WRITE, 0, 0, 4096, data);
	for (int i = 0; i < 20; i++)
		ck_assert_int_eq(read_at(leg, 0, 4096), 0);
	ck_assert_int_eq(hanging.done, 0);
	ck_assert_int_eq(leg_fault_set(leg, "", NULL), 0);
	ck_assert_int_eq(leg_test_wait(&hanging), -EIO);
	leg_test_expect(leg, 0, 4096, 0);
	free(data);
	leg_close(leg);
}
END_TEST

START_TEST(what_hangs_ends_when_the_leg_closes)
{
	struct leg *leg = faulty("any,hang");
	unsigned char *data = leg_test_buffer(4096, 1);
	struct leg_test_request write, flush;

	leg_test_start(leg, &write, LEG_WRITE, 0, 0, 4096, data);
	leg_test_start(leg, &flush, LEG_FLUSH, 0, 0, 0, NULL);
	leg_close(leg);
	ck_assert_int_eq(write.done, 1);
	ck_assert_int_eq(write.io.error, -EIO);
	ck_assert_int_eq(flush.done, 1);
	ck_assert_int_eq(flush.io.error, -EIO);
	free(data);
}
END_TEST

START_TEST(a_rule_sleeps_while_its_file_is_missing)
{
	char *path = leg_test_image(0), *rules;
	struct leg *leg;

	ck_assert_int_gt(asprintf(&rules, "read,error=EIO,when=%s", path), 0);
	leg = faulty(rules);
	ck_assert_int_eq(read_at(leg, 0, 4096), -EIO);
	unlink(path);
	ck_assert_int_eq(read_at(leg, 0, 4096), 0);
	free(rules);
	leg_test_unlink(path);
	leg_close(leg);
}
END_TEST

START_TEST(malformed_rules_are_refused_by_the_word)
{
	static const struct {
		const char *rules, *word;
	} table[] = {
		{ "frob,error=EIO", "`frob`" },		 { "read", "`read` alone" },
		{ "read,colour=red", "`colour`" },	 { "read,colour=red", "misdirect=" },
		{ "read,error=EFROB", "`EFROB`" },	 { "read,error", "`error`" },
		{ "read,error=", "`error`" },		 { "read,hang=5", "`hang`" },
		{ "read,range=9-3,hang", "`range`" },	 { "read,range=x,hang", "`range`" },
		{ "read,drop", "`drop`" },		 { "write,corrupt", "`corrupt`" },
		{ "read,torn=1", "`torn`" },		 { "flush,range=0-4K,hang", "`range`" },
		{ "read,latch", "`latch`" },		 { "write,latch,range=0-4K", "`latch`" },
		{ "read,misdirect=100", "`misdirect`" }, { "read,hang,error=EIO", "`hang` and `error`" },
		{ "read,count=0,hang", "`count`" },	 { "read,chance=many,hang", "`chance`" },
		{ "read,delay=1h", "`delay`" },		 { "read,range=0-99999999999T,hang", "`range`" },
		{ "read,hang;;x", "`x`" },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct error error = { "" };
		struct leg *leg;

		ck_assert_msg(leg_fault_wrap(leg_test_memory(), table[i].rules, &leg, &error) == -EINVAL, "%s",
			      table[i].rules);
		ck_assert_ptr_null(leg);
		ck_assert_msg(strstr(error.text, table[i].word), "%s: %s", table[i].rules, error.text);
	}
}
END_TEST

START_TEST(bad_new_rules_leave_the_old_ones)
{
	struct leg *leg = faulty("read,error=EIO");
	struct error error = { "" };

	ck_assert_int_eq(leg_fault_set(leg, "nonsense", &error), -EINVAL);
	ck_assert_int_eq(read_at(leg, 0, 4096), -EIO);
	leg_close(leg);
	leg = leg_test_memory();
	ck_assert_int_eq(leg_fault_set(leg, "", &error), -EINVAL);
	leg_close(leg);
}
END_TEST

START_TEST(an_address_names_rules_and_path)
{
	char *path = leg_test_image(1 << 20), *address;
	struct leg_options options = { .engine = LEG_ENGINE_AUTO };
	struct error error = { "" };
	struct leg *leg;

	ck_assert_int_gt(asprintf(&address, "fault:read,error=EIO,range=0-4K:%s", path), 0);
	ck_assert_msg(!leg_open(address, &options, &leg, &error), "%s", error.text);
	ck_assert_str_eq(leg_address(leg), address);
	ck_assert_str_eq(leg_path(leg), path);
	ck_assert_int_eq(read_at(leg, 0, 4096), -EIO);
	ck_assert_int_eq(read_at(leg, 4096, 4096), 0);
	ck_assert_int_eq(truncate(path, 2 << 20), 0);
	ck_assert_int_eq(leg_refresh(leg), 0);
	ck_assert_uint_eq(leg_geometry(leg)->size_bytes, 2 << 20);
	leg_close(leg);
	ck_assert_int_eq(leg_open("fault:read,hang", &options, &leg, &error), -EINVAL);
	ck_assert_ptr_null(leg);
	/* Rules that are refused leave the image unlocked. */
	free(address);
	ck_assert_int_gt(asprintf(&address, "fault:nonsense:%s", path), 0);
	ck_assert_int_eq(leg_open(address, &options, &leg, &error), -EINVAL);
	ck_assert_int_eq(leg_open(path, &options, &leg, &error), 0);
	leg_close(leg);
	free(address);
	leg_test_unlink(path);
}
END_TEST

static uint32_t choose_drop(void *context, uint32_t n)
{
	return n > 1 ? 1 : 0;
}

START_TEST(a_crash_reaches_through_a_fault_leg)
{
	struct leg *leg = faulty("write,hang,range=8K-12K");
	unsigned char *image = leg_test_buffer(1 << 20, 0), *data = leg_test_buffer(4096, 1);
	struct leg_test_request hanging;

	leg_test_fill(leg, LEG_DSYNC, 0, 4096, 1);
	leg_test_fill(leg, 0, 4096, 4096, 1);
	leg_test_start(leg, &hanging, LEG_WRITE, 0, 8192, 4096, data);
	leg_memory_crash(leg, image, choose_drop, NULL);
	leg_memory_abandon(leg);
	ck_assert_int_eq(hanging.done, 0);
	ck_assert_int_eq(image[0], 1);
	ck_assert_int_eq(image[4096], 0);
	ck_assert_int_eq(image[8192], 0);
	free(image);
	free(data);
}
END_TEST

Suite *fault_suite(void)
{
	Suite *suite = suite_create("fault");
	TCase *tests = tcase_create("fault");

	tcase_add_test(tests, no_rules_do_no_harm);
	tcase_add_test(tests, an_error_hits_its_operation_and_range_alone);
	tcase_add_test(tests, after_and_count_bound_a_rule);
	tcase_add_test(tests, chance_hits_some_and_misses_some);
	tcase_add_test(tests, align_refuses_loose_memory_only);
	tcase_add_test(tests, a_dropped_write_is_answered_and_not_done);
	tcase_add_test(tests, a_torn_write_leaves_its_head);
	tcase_add_test(tests, a_short_one_is_an_error_that_tells_how_far);
	tcase_add_test(tests, corruption_changes_one_byte_a_block_and_always_the_same);
	tcase_add_test(tests, a_latch_fails_until_it_is_rewritten);
	tcase_add_test(tests, a_lost_write_is_done_though_nobody_was_told);
	tcase_add_test(tests, a_write_that_was_dropped_heals_no_latch);
	tcase_add_test(tests, a_latch_with_chance_keeps_its_bad_blocks);
	tcase_add_test(tests, a_misdirected_write_lands_elsewhere);
	tcase_add_test(tests, a_delayed_request_is_late_and_lets_others_pass);
	tcase_add_test(tests, what_hangs_ends_when_the_rules_are_replaced);
	tcase_add_test(tests, what_hangs_ends_when_the_leg_closes);
	tcase_add_test(tests, a_rule_sleeps_while_its_file_is_missing);
	tcase_add_test(tests, malformed_rules_are_refused_by_the_word);
	tcase_add_test(tests, bad_new_rules_leave_the_old_ones);
	tcase_add_test(tests, an_address_names_rules_and_path);
	tcase_add_test(tests, a_crash_reaches_through_a_fault_leg);
	suite_add_tcase(suite, tests);
	return suite;
}
