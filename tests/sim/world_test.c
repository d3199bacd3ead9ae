/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "world.h"

#include "mirrorfs/base/clock.h"
#include "mirrorfs/base/sync.h"

#include <check.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define SEEDS 60

static struct shared {
	struct mutex lock;
	struct cond cond;
	struct rwlock rwlock;
	int inside, worst, count, readers, readers_worst;
	bool flag, writer_waits, overtaken;
	uint64_t woken_ns;
} s;

static void install(uint64_t seed)
{
	sim_world_install(&(struct sim_world_options){ .seed = seed, .steps_max = 1000000 });
	memset(&s, 0, sizeof(s));
	mutex_init(&s.lock, RANK_META_JOURNAL);
	cond_init(&s.cond);
	rwlock_init(&s.rwlock, RANK_META_TREE);
}

static void run_all(int n, void (*run)(void *arg))
{
	struct thread threads[8];

	for (int i = 0; i < n; i++)
		ck_assert_int_eq(thread_start(&threads[i], "worker", run, NULL), 0);
	for (int i = 0; i < n; i++)
		thread_join(&threads[i]);
	ck_assert_uint_eq(sim_world_fibers(), 0);
}

static void enter_and_yield(void *arg)
{
	for (int i = 0; i < 20; i++) {
		mutex_lock(&s.lock);
		if (++s.inside > s.worst)
			s.worst = s.inside;
		sim_yield();
		sim_sleep(random_u64() % 1000);
		s.inside--;
		s.count++;
		mutex_unlock(&s.lock);
	}
}

START_TEST(one_fiber_at_a_time_holds_a_mutex)
{
	install((uint64_t)_i);
	run_all(5, enter_and_yield);
	ck_assert_int_eq(s.worst, 1);
	ck_assert_int_eq(s.count, 100);
}
END_TEST

static uint64_t hash_of(uint64_t seed)
{
	install(seed);
	run_all(5, enter_and_yield);
	return sim_trace_hash();
}

START_TEST(a_seed_replays_exactly_and_another_differs)
{
	uint64_t hash = hash_of((uint64_t)_i);

	ck_assert_uint_eq(hash, hash_of((uint64_t)_i));
	ck_assert_uint_ne(hash, hash_of((uint64_t)_i + 1));
}
END_TEST

START_TEST(time_jumps_to_the_deadline_of_a_wait)
{
	uint64_t before;

	install((uint64_t)_i);
	mutex_lock(&s.lock);
	before = clock_now_ns();
	while (cond_wait_until(&s.cond, &s.lock, before + 3600 * NSEC_PER_SEC))
		;
	ck_assert_uint_ge(clock_now_ns(), before + 3600 * NSEC_PER_SEC);
	ck_assert_uint_lt(clock_now_ns(), before + 3601 * NSEC_PER_SEC);
	mutex_unlock(&s.lock);
}
END_TEST

static void set_flag_later(void *arg)
{
	sim_sleep(NSEC_PER_SEC);
	mutex_lock(&s.lock);
	s.flag = true;
	cond_signal(&s.cond);
	mutex_unlock(&s.lock);
}

START_TEST(a_signal_ends_a_wait_before_its_deadline)
{
	struct thread thread;
	uint64_t before;
	bool in_time = true;

	install((uint64_t)_i);
	before = clock_now_ns();
	ck_assert_int_eq(thread_start(&thread, "setter", set_flag_later, NULL), 0);
	mutex_lock(&s.lock);
	while (!s.flag && in_time)
		in_time = cond_wait_until(&s.cond, &s.lock, before + 100 * NSEC_PER_SEC);
	mutex_unlock(&s.lock);
	ck_assert(in_time);
	ck_assert_uint_lt(clock_now_ns(), before + 2 * NSEC_PER_SEC);
	thread_join(&thread);
}
END_TEST

static void read_or_write(void *arg)
{
	for (int i = 0; i < 20; i++) {
		if (random_u64() % 3) {
			rwlock_read(&s.rwlock);
			if (++s.readers > s.readers_worst)
				s.readers_worst = s.readers;
			ck_assert_int_eq(s.inside, 0);
			sim_sleep(random_u64() % 1000);
			s.readers--;
		} else {
			rwlock_write(&s.rwlock);
			ck_assert_int_eq(s.readers + s.inside, 0);
			s.inside++;
			sim_sleep(random_u64() % 1000);
			s.inside--;
		}
		rwlock_unlock(&s.rwlock);
	}
}

START_TEST(readers_share_and_a_writer_is_alone)
{
	install((uint64_t)_i);
	run_all(6, read_or_write);
	ck_assert_int_gt(s.readers_worst, 1);
}
END_TEST

static void write_once(void *arg)
{
	s.writer_waits = true;
	rwlock_write(&s.rwlock);
	s.flag = true;
	rwlock_unlock(&s.rwlock);
}

static void read_once(void *arg)
{
	rwlock_read(&s.rwlock);
	s.overtaken = !s.flag;
	rwlock_unlock(&s.rwlock);
}

START_TEST(a_reader_does_not_overtake_a_writer_that_waits)
{
	struct thread writer, reader;

	install((uint64_t)_i);
	rwlock_read(&s.rwlock);
	ck_assert_int_eq(thread_start(&writer, "writer", write_once, NULL), 0);
	sim_sleep(NSEC_PER_MSEC); /* time passes only when nobody can run: the writer waits now */
	ck_assert(s.writer_waits);
	ck_assert_int_eq(thread_start(&reader, "reader", read_once, NULL), 0);
	sim_sleep(NSEC_PER_MSEC);
	rwlock_unlock(&s.rwlock);
	thread_join(&writer);
	thread_join(&reader);
	ck_assert(!s.overtaken);
}
END_TEST

static void hold_for_ever(void *arg)
{
	mutex_lock(&s.lock);
	for (;;) {
		sim_sleep(1000);
		s.count++;
	}
}

START_TEST(a_crash_drops_the_others_and_frees_their_mutexes)
{
	struct thread thread;
	int count;

	install((uint64_t)_i);
	ck_assert_int_eq(thread_start(&thread, "holder", hold_for_ever, NULL), 0);
	sim_wait_steps(200);
	sim_sleep(1000000);
	sim_world_crash();
	count = s.count;
	ck_assert_int_gt(count, 0);
	ck_assert_uint_eq(sim_world_fibers(), 0);
	sim_sleep(NSEC_PER_SEC);
	ck_assert_int_eq(s.count, count);
	mutex_lock(&s.lock);
	mutex_unlock(&s.lock);
}
END_TEST

START_TEST(a_wait_that_nobody_ends_is_told_as_deadlock)
{
	install(1);
	mutex_lock(&s.lock);
	for (;;)
		cond_wait(&s.cond, &s.lock);
}
END_TEST

START_TEST(a_lock_out_of_order_is_told)
{
	install(1);
	mutex_lock(&s.lock);
	rwlock_read(&s.rwlock);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("sim_world");
	SRunner *runner = srunner_create(suite);
	TCase *tests = tcase_create("world");
	int failed;

	tcase_set_timeout(tests, 60);
	tcase_add_loop_test(tests, one_fiber_at_a_time_holds_a_mutex, 0, SEEDS);
	tcase_add_loop_test(tests, a_seed_replays_exactly_and_another_differs, 0, SEEDS);
	tcase_add_loop_test(tests, time_jumps_to_the_deadline_of_a_wait, 0, SEEDS);
	tcase_add_loop_test(tests, a_signal_ends_a_wait_before_its_deadline, 0, SEEDS);
	tcase_add_loop_test(tests, readers_share_and_a_writer_is_alone, 0, SEEDS);
	tcase_add_loop_test(tests, a_reader_does_not_overtake_a_writer_that_waits, 0, SEEDS);
	tcase_add_loop_test(tests, a_crash_drops_the_others_and_frees_their_mutexes, 0, SEEDS);
	tcase_add_test_raise_signal(tests, a_wait_that_nobody_ends_is_told_as_deadlock, SIGABRT);
	tcase_add_test_raise_signal(tests, a_lock_out_of_order_is_told, SIGABRT);
	suite_add_tcase(suite, tests);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
