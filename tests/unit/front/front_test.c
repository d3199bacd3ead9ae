/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What can be told without a mount: the agreement at INIT, the log, when to poll. The rest is tested on mounts. */
#include "front_test.h"

#include "mirrorfs/base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static struct front front = { .buffer_bytes = 16 * FRONT_IO_MAX, .threads = 16 };
static int rings_error; /* what comes of making them */
static unsigned int rings_made;

int rings_create(struct front *mount)
{
	if (!rings_error)
		mount->ring_count = mount->ring_entries = rings_made;
	return rings_error;
}

#define OVER_IO_URING (1u << 9) /* in flags2 */

static struct fuse_init_out answer_to(uint32_t flags)
{
	struct fuse_init_in in = { .major = 7, .minor = 45, .flags = flags, .flags2 = UINT32_MAX };
	/* As libfuse fills it before us. */
	struct fuse_init_out out = { .major = 7,
				     .minor = 31,
				     .flags = FUSE_BIG_WRITES | FUSE_AUTO_INVAL_DATA | FUSE_ATOMIC_O_TRUNC,
				     .max_write = FRONT_IO_MAX };

	init_answer(&front, &in, &out);
	return out;
}

START_TEST(what_libfuse_leaves_out_is_agreed)
{
	struct fuse_init_out out = answer_to(UINT32_MAX);

	ck_assert(out.flags & FUSE_PARALLEL_DIROPS);
	ck_assert(out.flags & FUSE_HANDLE_KILLPRIV_V2);
	ck_assert(out.flags & FUSE_EXPLICIT_INVAL_DATA);
	ck_assert(out.flags & FUSE_POSIX_ACL && out.flags & FUSE_DONT_MASK); /* whoever inherits lists masks, too */
	ck_assert_uint_eq(out.max_pages * 4096u, FRONT_IO_MAX);
	ck_assert_uint_ge(out.max_background, 64);
}
END_TEST

START_TEST(rings_are_agreed_where_there_are_any)
{
	front = (struct front){ .buffer_bytes = 16 * FRONT_IO_MAX, .threads = 16 };
	ck_assert_uint_eq(answer_to(UINT32_MAX).flags2, OVER_IO_URING);
	ck_assert(front.agreed >> 32 & OVER_IO_URING);
	rings_error = -ENOMEM;
	ck_assert_uint_eq(answer_to(UINT32_MAX).flags2, 0);
	rings_error = 0;
	front.transport = FRONT_CLASSIC;
	ck_assert_uint_eq(answer_to(UINT32_MAX).flags2, 0);
}
END_TEST

START_TEST(what_an_older_kernel_did_not_say_is_not_agreed)
{
	struct fuse_init_out out;

	front = (struct front){ .buffer_bytes = 16 * FRONT_IO_MAX, .threads = 16 };
	out = answer_to(~(uint32_t)FUSE_INIT_EXT);
	ck_assert_uint_eq(out.flags2, 0);
	ck_assert(!(out.flags & FUSE_INIT_EXT));
	ck_assert(out.flags & FUSE_PARALLEL_DIROPS);
}
END_TEST

START_TEST(a_small_mount_agrees_on_small_requests_and_few)
{
	struct fuse_init_out out;

	front = (struct front){ .buffer_bytes = 2 << 20, .threads = 8 };
	out = answer_to(UINT32_MAX);
	ck_assert_uint_eq(out.max_write, 256 << 10);
	ck_assert_uint_eq(out.max_pages * 4096u, 256 << 10);
	ck_assert_uint_eq(out.max_background, 32);
}
END_TEST

/* The transport's memory is a part of what is promised: the more threads share it, the shorter the requests. */
START_TEST(as_many_threads_as_there_are_share_the_memory)
{
	front = (struct front){ .buffer_bytes = 14 << 20, .threads = 14 };
	ck_assert_uint_eq(answer_to(UINT32_MAX).max_write, 1 << 20);
	front = (struct front){ .buffer_bytes = 14 << 20, .threads = 16 };
	ck_assert_uint_eq(answer_to(UINT32_MAX).max_write, 512 << 10);
	rings_made = 29;
	front = (struct front){ .buffer_bytes = 14 << 20, .threads = 16 };
	ck_assert_uint_eq(answer_to(UINT32_MAX).max_write, 256 << 10);
	rings_made = 0;
}
END_TEST

START_TEST(what_would_lose_or_slow_is_never_agreed)
{
	struct fuse_init_out out = answer_to(UINT32_MAX);

	ck_assert(!(out.flags & FUSE_WRITEBACK_CACHE));
	ck_assert(!(out.flags & FUSE_AUTO_INVAL_DATA));
	ck_assert(!(out.flags & FUSE_ATOMIC_O_TRUNC));
	ck_assert(!(out.flags & (FUSE_POSIX_LOCKS | FUSE_FLOCK_LOCKS)));
	ck_assert(!(out.flags & (FUSE_SPLICE_READ | FUSE_SPLICE_WRITE | FUSE_SPLICE_MOVE)));
	ck_assert_uint_eq(out.flags2 & ~OVER_IO_URING, 0);
}
END_TEST

START_TEST(an_older_kernel_gets_nothing_that_it_did_not_offer)
{
	for (int bit = 0; bit < 32; bit++) {
		uint32_t offered = ~(UINT32_C(1) << bit);

		ck_assert_uint_eq(answer_to(offered).flags & ~offered, 0);
	}
	ck_assert_uint_eq(answer_to(0).flags, 0);
	ck_assert_uint_eq(answer_to(0).max_pages, 0);
}
END_TEST

/* Who answered first may come to the log last. */
START_TEST(time_never_goes_backwards_in_a_log)
{
	static const unsigned int ended_msec[] = { 50, 30, 70, 69 };
	char folder[] = "/tmp/iolog-XXXXXX", prefix[64], path[80];
	unsigned long long at[4] = { 0 };
	struct iolog *iolog;
	uint64_t now_ns;
	FILE *log;

	ck_assert_ptr_nonnull(mkdtemp(folder));
	snprintf(prefix, sizeof(prefix), "%s/x", folder);
	ck_assert_int_eq(iolog_open(prefix, 0, &iolog, NULL), 0);
	now_ns = clock_now_ns();
	for (int i = 0; i < 4; i++)
		iolog_add(iolog, true, now_ns + ended_msec[i] * NSEC_PER_MSEC, 1, 0, 4096);
	iolog_close(iolog);
	snprintf(path, sizeof(path), "%s_lat.log", prefix);
	log = fopen(path, "r");
	ck_assert_ptr_nonnull(log);
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(fscanf(log, "%llu,%*[^\n]", &at[i]), 1);
	fclose(log);
	ck_assert(at[0] <= at[1] && at[1] < at[2] && at[2] <= at[3]);
	for (int i = 0; i < 3; i++) {
		snprintf(path, sizeof(path), "%s_%s.log", prefix, (const char *[]){ "lat", "bw", "iops" }[i]);
		unlink(path);
	}
	rmdir(folder);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("front");
	TCase *tests = tcase_create("init");
	SRunner *runner;
	int failed;

	tcase_add_test(tests, time_never_goes_backwards_in_a_log);
	tcase_add_test(tests, what_libfuse_leaves_out_is_agreed);
	tcase_add_test(tests, rings_are_agreed_where_there_are_any);
	tcase_add_test(tests, what_an_older_kernel_did_not_say_is_not_agreed);
	tcase_add_test(tests, a_small_mount_agrees_on_small_requests_and_few);
	tcase_add_test(tests, as_many_threads_as_there_are_share_the_memory);
	tcase_add_test(tests, what_would_lose_or_slow_is_never_agreed);
	tcase_add_test(tests, an_older_kernel_gets_nothing_that_it_did_not_offer);
	suite_add_tcase(suite, tests);
	suite_add_tcase(suite, poll_tests());
	suite_add_tcase(suite, closing_tests());
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
