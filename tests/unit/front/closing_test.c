/* SPDX-License-Identifier: GPL-2.0-or-later */
/* When the release of a file is expected. */
#include "front_test.h"

static struct closing closing;

static void setup(void)
{
	closing = (struct closing){ 0 };
}

/* A file is made, written to in so many pieces, and closed. True: that was known. */
static bool file(unsigned int writes)
{
	bool known;

	closing_request(&closing, FUSE_LOOKUP);
	closing_request(&closing, FUSE_CREATE);
	for (unsigned int i = 0; i < writes; i++)
		closing_request(&closing, FUSE_WRITE);
	known = closing_is_next(&closing);
	closing_release(&closing);
	return known;
}

/* So many files until the release of one is known; 0: it never was. */
static unsigned int files(unsigned int writes, unsigned int most)
{
	for (unsigned int i = 1; i <= most; i++)
		if (file(writes))
			return i;
	return 0;
}

START_TEST(it_takes_some_files_that_are_closed_alike)
{
	ck_assert(!closing_expected(&closing));
	ck_assert_uint_eq(files(1, 100), 5);
	ck_assert(closing_expected(&closing) && !closing_is_next(&closing));
	closing_request(&closing, FUSE_LOOKUP);
	ck_assert(closing_expected(&closing) && !closing_is_next(&closing));
	closing_request(&closing, FUSE_CREATE);
	closing_request(&closing, FUSE_WRITE);
	ck_assert(closing_is_next(&closing));
}
END_TEST

START_TEST(a_request_that_another_one_follows_tells_nothing)
{
	ck_assert_uint_eq(files(2, 100), 0);
	ck_assert_uint_gt(files(1, 100), 0);
	ck_assert(!file(2)); /* and the next one begins anew */
	ck_assert(!file(1));
}
END_TEST

START_TEST(who_waits_for_his_release_is_left_alone)
{
	unsigned int known = 0;

	for (unsigned int i = 0; i < 100000; i++) {
		if (!file(1))
			continue;
		known++;
		closing_parked(&closing, true);
	}
	ck_assert_uint_gt(known, 10);
	ck_assert_uint_lt(known, 100);
	ck_assert_uint_gt(files(1, 10000), 0);
	closing_parked(&closing, false);
	closing_parked(&closing, true);
	ck_assert_uint_lt(files(1, 10000), 10);
}
END_TEST

TCase *closing_tests(void)
{
	TCase *tests = tcase_create("closing");

	tcase_add_checked_fixture(tests, setup, NULL);
	tcase_add_test(tests, it_takes_some_files_that_are_closed_alike);
	tcase_add_test(tests, a_request_that_another_one_follows_tells_nothing);
	tcase_add_test(tests, who_waits_for_his_release_is_left_alone);
	return tests;
}
