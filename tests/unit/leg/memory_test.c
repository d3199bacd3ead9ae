/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "leg_test.h"

#include "mirrorfs/base/clock.h"
#include "mirrorfs/base/world.h"

/* Answers of `choose`, in order; after the last one that one stays. */
struct script {
	const uint32_t *answers;
	size_t count;
	size_t at;
};

static uint32_t scripted(void *context, uint32_t n)
{
	struct script *script = context;
	uint32_t answer = script->answers[script->at];

	if (script->at + 1 < script->count)
		script->at++;
	return answer < n ? answer : n - 1;
}

#define SCRIPT(...) \
	{ (const uint32_t[]){ __VA_ARGS__ }, sizeof((const uint32_t[]){ __VA_ARGS__ }) / sizeof(uint32_t), 0 }

/* choose(n) picks one of what is left, then its fate: 0 kept, 1 dropped, 2 torn. */
#define KEPT 0
#define DROPPED 1
#define TORN 2

static unsigned char *crash(struct leg *leg, struct script script)
{
	unsigned char *image = leg_test_buffer(1 << 20, 0xee);

	leg_memory_crash(leg, image, scripted, &script);
	leg_memory_abandon(leg);
	return image;
}

static void expect_image(unsigned char *image, size_t offset, size_t length, int byte)
{
	leg_test_all(image + offset, length, byte);
}

START_TEST(what_was_written_is_read)
{
	struct leg *leg = leg_test_memory();

	leg_test_expect(leg, 0, 8192, 0);
	leg_test_fill(leg, 0, 512, 4096, 0x5a);
	leg_test_expect(leg, 512, 4096, 0x5a);
	leg_test_expect(leg, 0, 512, 0);
	ck_assert_uint_eq(leg_memory_bytes(leg)[512], 0x5a);
	ck_assert_str_eq(leg_engine_name(leg), "memory");
	leg_close(leg);
}
END_TEST

START_TEST(a_flushed_write_survives_whatever_is_chosen)
{
	for (uint32_t fate = KEPT; fate <= TORN; fate++) {
		struct script script = SCRIPT(fate);
		struct leg *leg = leg_test_memory();
		unsigned char *image;

		leg_test_fill(leg, 0, 0, 4096, 1);
		ck_assert_int_eq(leg_test_io(leg, LEG_FLUSH, 0, 0, 0, NULL), 0);
		image = crash(leg, script);
		expect_image(image, 0, 4096, 1);
		expect_image(image, 4096, 4096, 0);
		free(image);
	}
}
END_TEST

START_TEST(an_unflushed_write_may_be_dropped_or_kept)
{
	for (uint32_t fate = KEPT; fate <= DROPPED; fate++) {
		struct script script = SCRIPT(0, fate);
		struct leg *leg = leg_test_memory();
		unsigned char *image;

		leg_test_fill(leg, LEG_DSYNC, 0, 4096, 1);
		leg_test_fill(leg, 0, 0, 4096, 2);
		image = crash(leg, script);
		expect_image(image, 0, 4096, fate == KEPT ? 2 : 1);
		free(image);
	}
}
END_TEST

START_TEST(an_unflushed_write_may_be_torn_at_a_sector)
{
	/* the write, torn, its head: sectors 0 .. 2 */
	struct script script = SCRIPT(0, TORN, 0, 2);
	struct leg *leg = leg_test_memory();
	unsigned char *image;

	leg_test_fill(leg, 0, 0, 4096, 9);
	image = crash(leg, script);
	expect_image(image, 0, 3 * 512, 9);
	expect_image(image, 3 * 512, 5 * 512, 0);
	free(image);
}
END_TEST

START_TEST(any_sectors_of_an_unflushed_write_may_be_kept)
{
	struct script script = SCRIPT(0, TORN, 2, 0, 1, 0, 0, 1, 1, 0, 0);
	struct leg *leg = leg_test_memory();
	unsigned char *image;

	leg_test_fill(leg, 0, 0, 4096, 9);
	image = crash(leg, script);
	expect_image(image, 0, 512, 0);
	expect_image(image, 512, 512, 9);
	expect_image(image, 2 * 512, 2 * 512, 0);
	expect_image(image, 4 * 512, 2 * 512, 9);
	expect_image(image, 6 * 512, 2 * 512, 0);
	free(image);
}
END_TEST

START_TEST(without_a_choice_what_had_completed_is_kept_in_its_order)
{
	unsigned char *image = leg_test_buffer(1 << 20, 0xee);
	struct leg *leg = leg_test_memory();

	leg_test_fill(leg, 0, 0, 4096, 1);
	leg_test_fill(leg, 0, 0, 2048, 2);
	leg_memory_crash(leg, image, NULL, NULL);
	leg_memory_abandon(leg);
	expect_image(image, 0, 2048, 2);
	expect_image(image, 2048, 2048, 1);
	free(image);
}
END_TEST

START_TEST(unflushed_writes_may_land_in_any_order)
{
	/* the second first, kept; then the first one, kept: the older bytes win */
	struct script script = SCRIPT(1, KEPT, 0, KEPT);
	struct leg *leg = leg_test_memory();
	unsigned char *image;

	leg_test_fill(leg, 0, 0, 4096, 1);
	leg_test_fill(leg, 0, 0, 4096, 2);
	leg_test_expect(leg, 0, 4096, 2);
	image = crash(leg, script);
	expect_image(image, 0, 4096, 1);
	free(image);
}
END_TEST

START_TEST(a_dsync_write_is_always_kept_and_keeps_nothing_else)
{
	for (uint32_t fate = KEPT; fate <= DROPPED; fate++) {
		struct script script = SCRIPT(0, fate);
		struct leg *leg = leg_test_memory();
		unsigned char *image;

		leg_test_fill(leg, 0, 0, 8192, 1);
		leg_test_fill(leg, LEG_DSYNC, 4096, 4096, 2);
		image = crash(leg, script);
		expect_image(image, 0, 4096, fate == KEPT ? 1 : 0);
		/* nor does the older write bring back what it held there */
		expect_image(image, 4096, 4096, 2);
		free(image);
	}
}
END_TEST

START_TEST(a_write_in_flight_may_be_kept_or_dropped_and_never_completes)
{
	for (uint32_t fate = KEPT; fate <= DROPPED; fate++) {
		struct leg_memory_options options = { .size_bytes = 1 << 20, .block_size = 512, .name = "slow",
						      .latency_min_ns = 3600 * NSEC_PER_SEC };
		struct script script = SCRIPT(0, fate);
		unsigned char *data = leg_test_buffer(4096, 3), *image;
		struct leg_test_request request;
		struct leg *leg;

		ck_assert_int_eq(leg_memory_open(&options, &leg), 0);
		leg_test_start(leg, &request, LEG_WRITE, LEG_DSYNC, 4096, 4096, data);
		image = crash(leg, script);
		expect_image(image, 4096, 4096, fate == KEPT ? 3 : 0);
		ck_assert_int_eq(request.done, 0);
		free(data);
		free(image);
	}
}
END_TEST

START_TEST(a_pulled_disk_has_lost_its_cache_and_answers_that_it_is_gone)
{
	for (uint32_t fate = KEPT; fate <= DROPPED; fate++) {
		unsigned char *bytes = leg_test_buffer(1 << 20, 0), *data = leg_test_buffer(4096, 9);
		struct leg_memory_options options = { .size_bytes = 1 << 20, .block_size = 512, .name = "stick",
						      .bytes = bytes };
		struct script script = SCRIPT(0, fate);
		struct leg_test_request request;
		struct leg *leg;

		ck_assert_int_eq(leg_memory_open(&options, &leg), 0);
		leg_test_fill(leg, LEG_DSYNC, 0, 4096, 1);
		leg_test_fill(leg, 0, 0, 4096, 2);
		leg_memory_pull(leg, scripted, &script);
		expect_image(bytes, 0, 4096, fate == KEPT ? 2 : 1);
		for (enum leg_op op = LEG_READ; op <= LEG_DISCARD; op++)
			ck_assert_int_eq(leg_test_io(leg, op, 0, 0, op == LEG_FLUSH ? 0 : 4096, data), -ENODEV);
		leg_close(leg);
		/* What is in flight is not waited for, and may have been done all the same. */
		options.latency_min_ns = 3600 * NSEC_PER_SEC;
		ck_assert_int_eq(leg_memory_open(&options, &leg), 0);
		leg_test_start(leg, &request, LEG_WRITE, 0, 4096, 4096, data);
		script.at = 0;
		leg_memory_pull(leg, scripted, &script);
		ck_assert_int_eq(leg_test_wait(&request), -ENODEV);
		expect_image(bytes, 4096, 4096, fate == KEPT ? data[0] : 0);
		leg_close(leg);
		free(bytes);
		free(data);
	}
}
END_TEST

static _Atomic uint64_t test_now;

static uint64_t stepped_now(void)
{
	return test_now;
}

/* Each draw of a latency takes the next of these. */
static const uint64_t *test_draws;

static void scripted_random(void *buffer, size_t length)
{
	ck_assert_uint_eq(length, sizeof(uint64_t));
	memcpy(buffer, test_draws++, length);
}

/* The thread sleeps in real time towards a virtual moment that is in the past of the real clock: it spins, politely. */
static struct world_ops stepped;

START_TEST(a_flush_covers_only_what_had_completed_when_it_was_submitted)
{
	/* Latencies: the early write 1 ns, the flush 30 ns, the late write 10 ns: it completes under way, uncovered. */
	static const uint64_t draws[] = { 1, 30, 10 };
	struct leg_memory_options options = { .size_bytes = 1 << 20, .block_size = 512, .name = "stepped",
					      .latency_max_ns = 100 };
	unsigned char *early = leg_test_buffer(4096, 1), *late = leg_test_buffer(4096, 2), *image;
	struct leg_test_request write_early, write_late, flush;
	struct script script = SCRIPT(0, DROPPED);
	struct leg *leg;

	stepped = world_real;
	stepped.now_ns = stepped_now;
	stepped.random = scripted_random;
	world = &stepped;
	test_draws = draws;
	test_now = 0;
	ck_assert_int_eq(leg_memory_open(&options, &leg), 0);
	leg_test_start(leg, &write_early, LEG_WRITE, 0, 0, 4096, early);
	test_now = 5;
	ck_assert_int_eq(leg_test_wait(&write_early), 0);
	leg_test_start(leg, &flush, LEG_FLUSH, 0, 0, 0, NULL);
	leg_test_start(leg, &write_late, LEG_WRITE, 0, 4096, 4096, late);
	test_now = 20;
	ck_assert_int_eq(leg_test_wait(&write_late), 0);
	ck_assert_int_eq(flush.done, 0);
	test_now = 40;
	ck_assert_int_eq(leg_test_wait(&flush), 0);
	image = crash(leg, script);
	world = &world_real;
	expect_image(image, 0, 4096, 1);
	expect_image(image, 4096, 4096, 0);
	free(early);
	free(late);
	free(image);
}
END_TEST

START_TEST(a_discard_reads_as_zeros_and_stays)
{
	struct script script = SCRIPT(0, KEPT);
	struct leg *leg = leg_test_memory();
	unsigned char *image;

	leg_test_fill(leg, 0, 0, 16384, 6);
	ck_assert_int_eq(leg_test_io(leg, LEG_DISCARD, 0, 4096, 8192, NULL), 0);
	leg_test_expect(leg, 4096, 8192, 0);
	leg_test_expect(leg, 12288, 4096, 6);
	image = crash(leg, script);
	expect_image(image, 4096, 8192, 0);
	free(image);
}
END_TEST

START_TEST(bytes_put_there_by_hand_survive_a_crash)
{
	struct script script = SCRIPT(0, DROPPED);
	struct leg *leg = leg_test_memory();
	unsigned char *image;

	memset(leg_memory_bytes(leg), 0x77, 1 << 20);
	leg_test_fill(leg, 0, 8192, 4096, 1);
	image = crash(leg, script);
	expect_image(image, 0, 1 << 20, 0x77);
	free(image);
}
END_TEST

START_TEST(many_requests_complete_once_each_in_any_order)
{
	enum { COUNT = 200 };
	struct leg_memory_options options = { .size_bytes = 1 << 20, .block_size = 512, .name = "busy",
					      .latency_max_ns = 2 * NSEC_PER_MSEC };
	static struct leg_test_request requests[COUNT];
	unsigned char *data = leg_test_buffer(COUNT * 512, 0);
	struct leg *leg;

	ck_assert_int_eq(leg_memory_open(&options, &leg), 0);
	for (int i = 0; i < COUNT; i++) {
		memset(data + i * 512, i, 512);
		leg_test_start(leg, &requests[i], LEG_WRITE, 0, (uint64_t)i * 512, 512, data + i * 512);
	}
	for (int i = 0; i < COUNT; i++)
		ck_assert_int_eq(leg_test_wait(&requests[i]), 0);
	for (int i = 0; i < COUNT; i++)
		leg_test_expect(leg, (uint64_t)i * 512, 512, i);
	free(data);
	leg_close(leg);
}
END_TEST

Suite *memory_suite(void)
{
	Suite *suite = suite_create("memory");
	TCase *tests = tcase_create("memory");

	tcase_add_test(tests, what_was_written_is_read);
	tcase_add_test(tests, a_flushed_write_survives_whatever_is_chosen);
	tcase_add_test(tests, an_unflushed_write_may_be_dropped_or_kept);
	tcase_add_test(tests, an_unflushed_write_may_be_torn_at_a_sector);
	tcase_add_test(tests, any_sectors_of_an_unflushed_write_may_be_kept);
	tcase_add_test(tests, without_a_choice_what_had_completed_is_kept_in_its_order);
	tcase_add_test(tests, unflushed_writes_may_land_in_any_order);
	tcase_add_test(tests, a_dsync_write_is_always_kept_and_keeps_nothing_else);
	tcase_add_test(tests, a_write_in_flight_may_be_kept_or_dropped_and_never_completes);
	tcase_add_test(tests, a_pulled_disk_has_lost_its_cache_and_answers_that_it_is_gone);
	tcase_add_test(tests, a_flush_covers_only_what_had_completed_when_it_was_submitted);
	tcase_add_test(tests, a_discard_reads_as_zeros_and_stays);
	tcase_add_test(tests, bytes_put_there_by_hand_survive_a_crash);
	tcase_add_test(tests, many_requests_complete_once_each_in_any_order);
	suite_add_tcase(suite, tests);
	return suite;
}
