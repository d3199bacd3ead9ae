/* SPDX-License-Identifier: GPL-2.0-or-later */
/* When a thread looks for requests itself, at times that are told here. */
#include "front_test.h"

#include "mirrorfs/base/clock.h"

#include <sys/mman.h>
#include <unistd.h>

#define USEC (NSEC_PER_MSEC / 1000)

static struct poll poll;
static uint64_t now_ns;

/* As the kernel tells it: the third number is what wants to run. */
static void running_are(const char *loadavg)
{
	ck_assert_int_eq(ftruncate(poll.loadavg, 0), 0);
	ck_assert_int_eq(pwrite(poll.loadavg, loadavg, strlen(loadavg), 0), (ssize_t)strlen(loadavg));
}

static void setup(void)
{
	now_ns = NSEC_PER_SEC;
	poll = (struct poll){ .most_ns = 50 * USEC, .processors = 2, .loadavg = memfd_create("loadavg", 0) };
	running_are("0.50 0.40 0.30 1/150 4711\n");
}

static void teardown(void)
{
	poll_destroy(&poll);
}

/* A request comes after `idle`, takes `took` microseconds, and then its thread waits for the next. */
static bool request(unsigned int idle, unsigned int took, bool alone, bool disturbed)
{
	uint64_t began_ns = now_ns + idle * USEC;
	bool goes_on;

	poll_request(&poll, began_ns);
	now_ns = began_ns + took * USEC;
	poll_awaited(&poll, !alone);
	goes_on = poll_goes_on(&poll, disturbed, began_ns, now_ns);
	poll_awaited(&poll, -(unsigned int)!alone);
	return goes_on;
}

/* So many quick ones, until it polls; 0: it never did. */
static unsigned int quick_ones(unsigned int most)
{
	for (unsigned int i = 1; i <= most; i++)
		if (request(5, 5, true, false))
			return i;
	return 0;
}

START_TEST(it_takes_a_run_of_quick_requests_that_are_alone)
{
	unsigned int enough = quick_ones(1000);

	ck_assert_uint_gt(enough, 16);
	for (int i = 0; i < 1000; i++)
		ck_assert(request(5, 5, true, false));
	teardown();
	setup();
	for (int i = 0; i < 1000; i++)
		ck_assert(!request(1000, 5, true, false)); /* seldom */
	for (int i = 0; i < 1000; i++)
		ck_assert(!request(5, 100, true, false)); /* for what legs have to be waited for */
	for (int i = 0; i < 1000; i++)
		ck_assert(!request(5, 5, i % 3, false)); /* of several programs */
	ck_assert_uint_gt(quick_ones(1000), 16);
}
END_TEST

START_TEST(one_that_is_late_or_slow_or_not_alone_is_not_the_end)
{
	ck_assert(quick_ones(1000));
	for (int i = 0; i < 100; i++)
		request(5, 5, true, false);
	ck_assert(request(100, 5, true, false));
	ck_assert(request(5, 100, true, false));
	ck_assert(request(5, 5, false, false));
	ck_assert(!request(5, 5, false, false) || !request(5, 5, false, false)); /* but many are */
}
END_TEST

START_TEST(it_takes_a_processor_that_is_free)
{
	running_are("1.50 0.40 0.30 2/150 4711\n");
	ck_assert(!quick_ones(1000));
	running_are("1.50 0.40 0.30 1/150 4711\n");
	ck_assert(quick_ones(1000));
	running_are("1.50 0.40 0.30 2/150 4711\n"); /* whoever makes the requests is one of them, at times */
	ck_assert(request(5, 5, true, false));
	teardown();
	setup();
	poll.processors = 1;
	ck_assert(!quick_ones(1000));
	poll.processors = 2;
	running_are(""); /* nobody knows */
	ck_assert(!quick_ones(1000));
}
END_TEST

START_TEST(others_are_given_way_and_ever_longer)
{
	uint64_t paused_ns, last_ns = 0;

	for (int i = 0; i < 5; i++) {
		ck_assert(quick_ones(1000000));
		ck_assert(!request(5, 5, true, true));
		paused_ns = now_ns;
		ck_assert(quick_ones(1000000));
		paused_ns = now_ns - paused_ns;
		ck_assert_uint_ge(paused_ns, 20 * NSEC_PER_MSEC);
		ck_assert_uint_ge(paused_ns, last_ns + last_ns / 2);
		last_ns = paused_ns;
	}
	/* That is forgotten after a while, even if it was asked for a processor all the time. */
	now_ns += NSEC_PER_SEC;
	running_are("1.50 0.40 0.30 2/150 4711\n");
	ck_assert(!quick_ones(1000000));
	running_are("1.50 0.40 0.30 1/150 4711\n");
	ck_assert(quick_ones(1000));
	ck_assert(!request(5, 5, true, true));
	paused_ns = now_ns;
	ck_assert(quick_ones(1000000));
	ck_assert_uint_lt(now_ns - paused_ns, 40 * NSEC_PER_MSEC);
}
END_TEST

START_TEST(a_program_that_comes_too_late_each_time_is_not_looked_for_often)
{
	unsigned int looks = 0;

	for (int i = 0; i < 10000; i++)
		looks += request(100, 5, true, false);
	ck_assert_uint_lt(looks, 200);
}
END_TEST

START_TEST(it_is_over_when_nobody_asks_any_more)
{
	ck_assert(quick_ones(1000));
	running_are("1.50 0.40 0.30 2/150 4711\n");
	ck_assert(!request(10000, 5, true, false));
	ck_assert(!quick_ones(1000));
	running_are("1.50 0.40 0.30 1/150 4711\n");
	ck_assert(quick_ones(1000)); /* and that was no failure */
}
END_TEST

START_TEST(it_can_be_left)
{
	poll.most_ns = 0;
	ck_assert(!quick_ones(1000));
}
END_TEST

TCase *poll_tests(void)
{
	TCase *tests = tcase_create("poll");

	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_add_test(tests, it_takes_a_run_of_quick_requests_that_are_alone);
	tcase_add_test(tests, one_that_is_late_or_slow_or_not_alone_is_not_the_end);
	tcase_add_test(tests, it_takes_a_processor_that_is_free);
	tcase_add_test(tests, others_are_given_way_and_ever_longer);
	tcase_add_test(tests, a_program_that_comes_too_late_each_time_is_not_looked_for_often);
	tcase_add_test(tests, it_is_over_when_nobody_asks_any_more);
	tcase_add_test(tests, it_can_be_left);
	return tests;
}
