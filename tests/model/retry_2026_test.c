/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A model of the retry that hung readers of dm-mirror in 2026, to show what the guards against empty requests (I4) and
 * the rule for retries (I5) are there for.
 *
 * There, what was left of a request was counted in sectors, but its memory was walked vector by vector in bytes. Each
 * vector took its length in whole sectors off the count: 4 + 4092 bytes took 0 + 7 of 8. So the walk came to its end
 * with one sector still wanted, and from then on built request after request of no memory at all, for ever.
 */
#include "mirrorfs/leg.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>

#define SECTOR 512u
#define REQUEST 4096u
#define LIMIT 100 /* requests after which the model is stopped: it would not stop by itself */

struct outcome {
	int requests, empty;
	size_t bytes;
	int error; /* what a refusal said */
	bool ended; /* by itself */
};

/* Takes a request of so many bytes: 0, or -errno if it is refused. */
typedef int submit_fn(void *context, size_t length);

/* The retry as it was. `lengths` ends with 0. */
static struct outcome retry_by_sectors(const size_t *lengths, submit_fn *submit, void *context)
{
	struct outcome outcome = { 0 };
	size_t sectors_left = REQUEST / SECTOR;

	do {
		size_t length = 0;

		while (sectors_left && *lengths) {
			length += *lengths;
			sectors_left -= *lengths / SECTOR;
			lengths++;
		}
		outcome.error = submit(context, length);
		if (outcome.error)
			return outcome;
		outcome.requests++;
		outcome.empty += length == 0;
		outcome.bytes += length;
	} while (sectors_left && outcome.requests < LIMIT);
	outcome.ended = sectors_left == 0;
	return outcome;
}

/* The retry as it is here: the whole original range again, whatever memory the caller brought. */
static struct outcome retry_whole_range(submit_fn *submit, void *context)
{
	int error = submit(context, REQUEST);

	return (struct outcome){ .requests = 1, .bytes = REQUEST, .error = error, .ended = true };
}

static int take_anything(void *context, size_t length)
{
	return 0;
}

static const size_t odd_vectors[][4] = { { 4, 4092, 0 }, { 1, 511, 3584, 0 }, { 333, 3763, 0 } };

START_TEST(counting_sectors_over_odd_vectors_asks_for_nothing_for_ever)
{
	struct outcome outcome = retry_by_sectors(odd_vectors[_i], take_anything, NULL);

	ck_assert(!outcome.ended);
	ck_assert_int_eq(outcome.empty, LIMIT - 1);
	ck_assert_uint_eq(outcome.bytes, REQUEST); /* all that was wanted had come with the first one */
}
END_TEST

START_TEST(whole_sectors_hide_the_fault)
{
	const size_t lengths[] = { 512, 1024, 2560, 0 };
	struct outcome outcome = retry_by_sectors(lengths, take_anything, NULL);

	ck_assert(outcome.ended);
	ck_assert_int_eq(outcome.requests, 1);
	ck_assert_int_eq(outcome.empty, 0);
}
END_TEST

/* ---- the same against the door of a real leg ---- */

struct door {
	struct leg *leg;
	void *data;
};

static int submit_to_leg(void *context, size_t length)
{
	struct door *door = context;
	struct leg_io io = { .op = LEG_READ, .length = length, .data = door->data };

	return leg_submit_wait(door->leg, &io);
}

static void open_door(struct door *door)
{
	struct leg_memory_options options = { .size_bytes = 1 << 20, .block_size = 512, .name = "model" };

	ck_assert_int_eq(leg_memory_open(&options, &door->leg), 0);
	door->data = aligned_alloc(REQUEST, REQUEST);
	ck_assert_ptr_nonnull(door->data);
}

static void close_door(struct door *door)
{
	leg_close(door->leg);
	free(door->data);
}

START_TEST(the_door_of_a_leg_ends_it_at_the_first_empty_request)
{
	struct leg_counters counters;
	struct outcome outcome;
	struct door door;

	open_door(&door);
	outcome = retry_by_sectors(odd_vectors[_i], submit_to_leg, &door);
	leg_counters(door.leg, &counters);
	ck_assert_int_eq(outcome.error, -EINVAL);
	ck_assert_int_eq(outcome.requests, 1);
	ck_assert_uint_eq(counters.ops[LEG_READ], 1);
	ck_assert_uint_eq(counters.empty_refused, 1);
	close_door(&door);
}
END_TEST

START_TEST(a_retry_of_the_whole_range_sends_nothing_empty)
{
	struct leg_counters counters;
	struct outcome outcome;
	struct door door;

	open_door(&door);
	outcome = retry_whole_range(submit_to_leg, &door);
	leg_counters(door.leg, &counters);
	ck_assert(outcome.ended);
	ck_assert_int_eq(outcome.error, 0);
	ck_assert_uint_eq(counters.bytes[LEG_READ], REQUEST);
	ck_assert_uint_eq(counters.empty_refused, 0);
	close_door(&door);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("retry_2026");
	TCase *tests = tcase_create("retry_2026");
	SRunner *runner;
	int odd = sizeof(odd_vectors) / sizeof(odd_vectors[0]), failed;

	tcase_add_loop_test(tests, counting_sectors_over_odd_vectors_asks_for_nothing_for_ever, 0, odd);
	tcase_add_test(tests, whole_sectors_hide_the_fault);
	tcase_add_loop_test(tests, the_door_of_a_leg_ends_it_at_the_first_empty_request, 0, odd);
	tcase_add_test(tests, a_retry_of_the_whole_range_sends_nothing_empty);
	suite_add_tcase(suite, tests);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
