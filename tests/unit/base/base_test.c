/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mirrorfs/base/clock.h"
#include "mirrorfs/base/crc32c.h"
#include "mirrorfs/base/endian.h"
#include "mirrorfs/base/error.h"
#include "mirrorfs/base/histogram.h"
#include "mirrorfs/base/host.h"
#include "mirrorfs/base/iobuf.h"
#include "mirrorfs/base/sync.h"
#include "mirrorfs/base/uuid.h"

#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

START_TEST(crc32c_gives_the_check_value)
{
	ck_assert_uint_eq(crc32c("123456789", 9), 0xe3069283u);
	ck_assert_uint_eq(crc32c_add(crc32c("1234", 4), "56789", 5), 0xe3069283u);
	ck_assert_uint_eq(crc32c("", 0), 0);
}
END_TEST

START_TEST(crc32c_block_counts_its_own_field_as_zero)
{
	unsigned char block[4096] = { 1, 2, 3 };
	uint32_t before = crc32c(block, sizeof(block));

	ck_assert_uint_eq(crc32c_block(block, sizeof(block), 100), before);
	memset(block + 100, 0xff, 4);
	ck_assert_uint_eq(crc32c_block(block, sizeof(block), 100), before);
	block[104] = 1;
	ck_assert_uint_ne(crc32c_block(block, sizeof(block), 100), before);
}
END_TEST

START_TEST(integers_lie_little_endian)
{
	le32 v = le32_of(0x01020304);
	const unsigned char *bytes = (const unsigned char *)&v;

	ck_assert_uint_eq(bytes[0], 4);
	ck_assert_uint_eq(bytes[3], 1);
	ck_assert_uint_eq(le64_get(le64_of(0x0102030405060708u)), 0x0102030405060708u);
}
END_TEST

START_TEST(uuid_survives_its_text)
{
	struct uuid uuid = uuid_random(), again;
	char text[UUID_TEXT_SIZE];

	ck_assert(uuid_parse(uuid_format(&uuid, text), &again));
	ck_assert(uuid_equal(&uuid, &again));
	ck_assert(!uuid_parse("not-a-uuid", &again));
	text[7] = 'g';
	ck_assert(!uuid_parse(text, &again));
	ck_assert(uuid_equal(&uuid, &again));
}
END_TEST

START_TEST(the_first_error_stays)
{
	struct error error = { "" };

	ck_assert_int_eq(error_set(&error, -EIO, "leg %d", 1), -EIO);
	error_set(&error, -EINVAL, "later");
	ck_assert_str_eq(error.text, "leg 1");
	ck_assert_int_eq(error_set(NULL, -EIO, "nobody listens"), -EIO);
}
END_TEST

#ifndef __SANITIZE_ADDRESS__ /* which maps more memory than there is */
START_TEST(iobuf_has_one_of_each_size_when_the_system_has_none)
{
	const struct rlimit nothing = { 1 << 20, RLIM_INFINITY }, before = { RLIM_INFINITY, RLIM_INFINITY };
	struct iobuf_pool *pool = iobuf_pool_create(4 * IOBUF_MAX, 8192);
	struct iobuf *got[9];

	/* Where we may not lock as much, they are there all the same. */
	ck_assert_int_ne(iobuf_pool_spare(pool), -ENOMEM);
	setrlimit(RLIMIT_AS, &nothing);
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 9; i++) {
			ck_assert_ptr_null(iobuf_try_get_early(pool, (size_t)IOBUF_ALIGN << i));
			got[i] = iobuf_try_get(pool, (size_t)IOBUF_ALIGN << i);
			ck_assert_ptr_nonnull(got[i]);
			memset(got[i]->data, 0xff, got[i]->size);
			ck_assert_ptr_null(iobuf_try_get(pool, (size_t)IOBUF_ALIGN << i));
		}
		for (int i = 0; i < 9; i++)
			iobuf_put(got[i]);
	}
	setrlimit(RLIMIT_AS, &before);
	/* As long as there is other memory they are not touched. */
	got[0] = iobuf_get(pool, IOBUF_MAX);
	ck_assert(!got[0]->spare);
	iobuf_put(got[0]);
	iobuf_pool_destroy(pool);
}
END_TEST
#endif

START_TEST(iobuf_limit_holds_and_abandoned_ones_leave_it)
{
	struct iobuf_pool *pool = iobuf_pool_create(IOBUF_MAX, 8192);
	struct iobuf *whole = iobuf_get(pool, IOBUF_MAX), *more;

	ck_assert_uint_eq((uintptr_t)whole->data % IOBUF_ALIGN, 0);
	ck_assert_ptr_null(iobuf_try_get(pool, 1));
	ck_assert(!iobuf_abandon(whole));
	ck_assert(iobuf_reserve_full(pool));
	more = iobuf_try_get(pool, 5000);
	ck_assert_ptr_nonnull(more);
	ck_assert_uint_eq(more->size, 8192);
	iobuf_ref(more);
	iobuf_put(more);
	iobuf_put(more);
	iobuf_put(whole);
	ck_assert(!iobuf_reserve_full(pool));
	iobuf_pool_destroy(pool);
}
END_TEST

START_TEST(iobuf_that_is_kept_leaves_some_to_those_who_are_waited_for)
{
	struct iobuf_pool *pool = iobuf_pool_create(2 * IOBUF_MAX, 8192);
	struct iobuf *kept = iobuf_get_kept(pool, IOBUF_MAX), *passing;

	ck_assert_ptr_null(iobuf_try_get_kept(pool, 1));
	passing = iobuf_try_get(pool, IOBUF_MAX);
	ck_assert_ptr_nonnull(passing);
	iobuf_put(kept);
	ck_assert_ptr_null(iobuf_try_get_kept(pool, 1));
	iobuf_put(passing);
	kept = iobuf_try_get_kept(pool, IOBUF_MAX);
	ck_assert_ptr_nonnull(kept);
	iobuf_put(kept);
	iobuf_pool_destroy(pool);
}
END_TEST

START_TEST(iobuf_that_one_could_do_without_leaves_half_of_the_pool)
{
	struct iobuf_pool *pool = iobuf_pool_create(4 * IOBUF_MAX, 8192);
	struct iobuf *early[2] = { iobuf_try_get_early(pool, IOBUF_MAX), iobuf_try_get_early(pool, IOBUF_MAX) };

	ck_assert(early[0] && early[1]);
	ck_assert_ptr_null(iobuf_try_get_early(pool, 1));
	iobuf_put(early[0]);
	early[0] = iobuf_try_get(pool, IOBUF_MAX);
	ck_assert_ptr_nonnull(early[0]);
	ck_assert_ptr_null(iobuf_try_get_early(pool, 1));
	iobuf_put(early[0]);
	iobuf_put(early[1]);
	iobuf_pool_destroy(pool);
}
END_TEST

struct getter {
	struct iobuf_pool *pool;
	struct iobuf *got;
};

static void get_one(void *arg)
{
	struct getter *getter = arg;

	getter->got = iobuf_get(getter->pool, 4096);
}

START_TEST(iobuf_get_waits_for_a_put)
{
	struct iobuf_pool *pool = iobuf_pool_create(IOBUF_MAX, 8192);
	struct iobuf *whole = iobuf_get(pool, IOBUF_MAX);
	struct getter getter = { pool, NULL };
	struct thread thread;

	ck_assert_int_eq(thread_start(&thread, "getter", get_one, &getter), 0);
	iobuf_put(whole);
	thread_join(&thread);
	ck_assert_ptr_nonnull(getter.got);
	iobuf_put(getter.got);
	iobuf_pool_destroy(pool);
}
END_TEST

#ifndef NDEBUG
START_TEST(a_lock_out_of_order_aborts)
{
	struct mutex inner, outer;

	mutex_init(&outer, RANK_FS_INODE);
	mutex_init(&inner, RANK_CACHE);
	mutex_lock(&inner);
	mutex_lock(&outer);
}
END_TEST
#endif

START_TEST(a_timed_wait_ends_at_its_deadline)
{
	struct mutex lock;
	struct cond cond;
	uint64_t until = clock_now_ns() + 20 * NSEC_PER_MSEC;

	mutex_init(&lock, RANK_LEAF);
	cond_init(&cond);
	mutex_lock(&lock);
	while (cond_wait_until(&cond, &lock, until))
		;
	mutex_unlock(&lock);
	ck_assert_uint_ge(clock_now_ns(), until);
	cond_fini(&cond);
	mutex_fini(&lock);
}
END_TEST

START_TEST(times_fall_into_buckets_no_wider_than_a_quarter)
{
	struct histograms *histograms = histograms_create(1);
	struct histogram got;
	uint64_t before = 0;

	ck_assert_ptr_nonnull(histograms);
	for (unsigned int bucket = 0; bucket < HISTOGRAM_BUCKETS; bucket++) {
		uint64_t bound = histogram_bound_ns(bucket);

		/* The least and the greatest time of the bucket, and nothing beside them. */
		histograms_add(histograms, 0, before);
		histograms_add(histograms, 0, bound - 1);
		histograms_read(histograms, 0, &got);
		ck_assert_uint_eq(got.bucket[bucket], 2);
		ck_assert_uint_eq(got.count, 2 * (bucket + 1));
		if (bucket && bucket < HISTOGRAM_BUCKETS - 1)
			ck_assert_uint_le(bound - before, before / 4);
		before = bound;
	}
	histograms_destroy(histograms);
}
END_TEST

START_TEST(a_quantile_is_no_less_than_the_time_and_at_most_a_quarter_more)
{
	struct histograms *histograms = histograms_create(2);
	struct histogram got;

	histograms_read(histograms, 1, &got);
	ck_assert_uint_eq(histogram_quantile_ns(&got, 0.5), 0);
	for (uint64_t us = 1; us <= 1000; us++)
		histograms_add(histograms, 1, us * 1000);
	histograms_read(histograms, 1, &got);
	for (int percent = 10; percent <= 100; percent += 10) {
		uint64_t exact = (uint64_t)percent * 10000, told = histogram_quantile_ns(&got, percent / 100.0);

		ck_assert_uint_ge(told, exact);
		ck_assert_uint_le(told, exact + exact / 4 + 1);
	}
	ck_assert_uint_eq(got.sum_ns, 1000u * 1001 / 2 * 1000);
	histograms_destroy(histograms);
}
END_TEST

#define ADDERS 4
#define ADDED 50000u

static void add_many(void *arg)
{
	for (unsigned int i = 0; i < ADDED; i++) {
		histograms_add(arg, 1, i % 5000);
		histograms_count(arg, 1, 2, 3);
	}
}

START_TEST(nothing_that_many_threads_count_at_once_is_lost)
{
	struct histograms *histograms = histograms_create(3);
	struct thread threads[ADDERS];
	struct histogram got;

	for (int i = 0; i < ADDERS; i++)
		ck_assert_int_eq(thread_start(&threads[i], "adder", add_many, histograms), 0);
	for (int i = 0; i < ADDERS; i++)
		thread_join(&threads[i]);
	histograms_read(histograms, 1, &got);
	ck_assert_uint_eq(got.count, ADDERS * ADDED);
	ck_assert_uint_eq(got.counter[2], 3 * ADDERS * ADDED);
	ck_assert_uint_eq(got.sum_ns, ADDERS * (ADDED / 5000) * (4999u * 5000 / 2));
	histograms_read(histograms, 0, &got);
	ck_assert_uint_eq(got.count, 0);
	histograms_destroy(histograms);
}
END_TEST

/* ---- threads that the kernel does not let go ---- */

static pthread_key_t held_up;
static sem_t let_go, held_sem;

static void hold_up(void *unused)
{
	while (sem_wait(&let_go))
		;
}

static void linger(void *unused)
{
	pthread_setspecific(held_up, &let_go);
	thread_linger();
}

START_TEST(a_thread_that_lingers_holds_up_nobody)
{
	struct thread *thread = malloc(sizeof(*thread));

	ck_assert_int_eq(sem_init(&let_go, 0, 0), 0);
	ck_assert_int_eq(pthread_key_create(&held_up, hold_up), 0);
	ck_assert_int_eq(thread_start(thread, "lingers", linger, NULL), 0);
	thread_join(thread);
	free(thread);
	sem_post(&let_go);
}
END_TEST

START_TEST(a_machine_is_always_the_same_and_does_not_tell_its_id)
{
	struct host once, again;
	char id[64] = "", shown[64] = "";
	FILE *file = fopen("/etc/machine-id", "re");

	memset(&once, 1, sizeof(once));
	host_this(&once);
	host_this(&again);
	ck_assert_mem_eq(&once, &again, sizeof(once));
	ck_assert_uint_gt(strlen(once.name), 0);
	if (!file || fscanf(file, "%32s", id) != 1)
		id[0] = '\0';
	if (file)
		fclose(file);
	for (int i = 0; i < 16; i++)
		sprintf(shown + 2 * i, "%02x", once.machine[i]);
	if (strlen(id) == 32)
		ck_assert(strcmp(id, shown) != 0 && strspn(shown, "0") < 32);
	else
		ck_assert_uint_eq(strspn(shown, "0"), 32);
}
END_TEST

static void leave(void *arg)
{
	(void)arg;
	thread_leave();
	while (sem_wait(&let_go))
		;
	sem_post(&held_sem);
}

/* The joiner may free what the thread was started with. */
START_TEST(a_thread_that_leaves_is_joined_before_it_ends)
{
	struct thread *thread = malloc(sizeof(*thread));

	ck_assert_int_eq(sem_init(&let_go, 0, 0) + sem_init(&held_sem, 0, 0), 0);
	ck_assert_int_eq(thread_start(thread, "leaves", leave, NULL), 0);
	thread_join(thread);
	memset(thread, 0xff, sizeof(*thread));
	free(thread);
	sem_post(&let_go);
	while (sem_wait(&held_sem))
		;
}
END_TEST

static void *try_to_read(void *lock)
{
	bool got = rwlock_tryread(lock);

	if (got)
		rwlock_unlock(lock);
	return got ? lock : NULL;
}

static bool others_may_read(struct rwlock *lock)
{
	pthread_t other;
	void *got;

	ck_assert_int_eq(pthread_create(&other, NULL, try_to_read, lock), 0);
	ck_assert_int_eq(pthread_join(other, &got), 0);
	return got;
}

START_TEST(a_lock_that_is_written_is_not_read_at_once)
{
	struct rwlock lock;

	rwlock_init(&lock, RANK_LEAF);
	ck_assert(others_may_read(&lock));
	rwlock_read(&lock);
	ck_assert(others_may_read(&lock));
	rwlock_unlock(&lock);
	rwlock_write(&lock);
	ck_assert(!others_may_read(&lock));
	rwlock_unlock(&lock);
	ck_assert(others_may_read(&lock));
	rwlock_fini(&lock);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("base");
	TCase *tests = tcase_create("base");
	SRunner *runner;
	int failed;

	tcase_add_test(tests, crc32c_gives_the_check_value);
	tcase_add_test(tests, crc32c_block_counts_its_own_field_as_zero);
	tcase_add_test(tests, integers_lie_little_endian);
	tcase_add_test(tests, uuid_survives_its_text);
	tcase_add_test(tests, times_fall_into_buckets_no_wider_than_a_quarter);
	tcase_add_test(tests, a_quantile_is_no_less_than_the_time_and_at_most_a_quarter_more);
	tcase_add_test(tests, nothing_that_many_threads_count_at_once_is_lost);
	tcase_add_test(tests, the_first_error_stays);
	tcase_add_test(tests, a_machine_is_always_the_same_and_does_not_tell_its_id);
#ifndef __SANITIZE_ADDRESS__
	tcase_add_test(tests, iobuf_has_one_of_each_size_when_the_system_has_none);
#endif
	tcase_add_test(tests, iobuf_limit_holds_and_abandoned_ones_leave_it);
	tcase_add_test(tests, iobuf_that_is_kept_leaves_some_to_those_who_are_waited_for);
	tcase_add_test(tests, iobuf_that_one_could_do_without_leaves_half_of_the_pool);
	tcase_add_test(tests, iobuf_get_waits_for_a_put);
#ifndef NDEBUG
	tcase_add_test_raise_signal(tests, a_lock_out_of_order_aborts, SIGABRT);
#endif
	tcase_add_test(tests, a_timed_wait_ends_at_its_deadline);
	tcase_add_test(tests, a_thread_that_lingers_holds_up_nobody);
	tcase_add_test(tests, a_thread_that_leaves_is_joined_before_it_ends);
	tcase_add_test(tests, a_lock_that_is_written_is_not_read_at_once);
	suite_add_tcase(suite, tests);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
