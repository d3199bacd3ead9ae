/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Waiting for one's own requests, in a ring that is lent or in one's own. */
#include "leg_test.h"

#include "mirrorfs/base/clock.h"

#include <linux/io_uring.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#define IMAGE_SIZE (8u << 20)

static struct leg *open_leg(const char *path, struct leg_options options)
{
	struct error error = { "" };
	struct leg *leg;

	ck_assert_msg(!leg_open(path, &options, &leg, &error), "%s", error.text);
	return leg;
}

struct answer {
	struct leg_io io;
	struct leg_wait wait;
	struct mutex lock;
	struct cond cond;
	pthread_t by;
	bool answered;
};

static void answered(struct leg_io *io)
{
	struct answer *answer = io->context;

	mutex_lock(&answer->lock);
	answer->by = pthread_self();
	answer->answered = true;
	cond_signal(&answer->cond);
	mutex_unlock(&answer->lock);
}

static void answered_and_done(struct leg_io *io)
{
	answered(io);
	leg_wait_done(&((struct answer *)io->context)->wait);
}

static void answer_init(struct answer *answer, void *data, void (*done)(struct leg_io *io))
{
	*answer = (struct answer){ .io = { .op = LEG_READ, .length = 4096, .data = data, .done = done,
					   .context = answer } };
	mutex_init(&answer->lock, RANK_LEAF);
	cond_init(&answer->cond);
}

/* No other thread is woken for it. */
START_TEST(who_waits_for_a_request_is_the_one_who_completes_it)
{
	char *path = leg_test_image(IMAGE_SIZE);
	struct leg *leg = open_leg(path, (struct leg_options){ .engine = LEG_ENGINE_URING });
	struct answer answer;
	unsigned char *data = leg_test_buffer(4096, 0);

	for (int i = 0; i < 3; i++) {
		answer_init(&answer, data, answered_and_done);
		leg_wait_begin(&answer.wait);
		ck_assert_int_eq(leg_submit(leg, &answer.io), 0);
		ck_assert(!answer.answered);
		leg_wait(&answer.wait);
		ck_assert(answer.answered && pthread_equal(answer.by, pthread_self()));
		ck_assert_int_eq(answer.io.error, 0);
	}
	leg_close(leg);
	leg_test_unlink(path);
	free(data);
}
END_TEST

/* As when one leg hangs and the other one has answered. */
START_TEST(a_request_that_nobody_waits_for_any_more_is_completed_all_the_same)
{
	char *path = leg_test_image(IMAGE_SIZE);
	struct leg *leg = open_leg(path, (struct leg_options){ .engine = LEG_ENGINE_URING });
	struct leg_counters counters;
	struct answer answer;
	unsigned char *data = leg_test_buffer(4096, 0);

	answer_init(&answer, data, answered);
	leg_wait_begin(&answer.wait);
	ck_assert_int_eq(leg_submit(leg, &answer.io), 0);
	leg_wait_done(&answer.wait);
	leg_wait(&answer.wait);
	mutex_lock(&answer.lock);
	while (!answer.answered)
		cond_wait(&answer.cond, &answer.lock);
	mutex_unlock(&answer.lock);
	ck_assert(!pthread_equal(answer.by, pthread_self()));
	leg_counters(leg, &counters);
	ck_assert_uint_eq(counters.in_flight, 0);
	leg_close(leg);
	leg_test_unlink(path);
	free(data);
}
END_TEST

/* One thread sees to all that is left, whoever left it. */
START_TEST(many_requests_that_nobody_waits_for_are_completed_by_one_thread)
{
	enum { MANY = 200 };
	char *path = leg_test_image(IMAGE_SIZE);
	struct leg *leg = open_leg(path, (struct leg_options){ .engine = LEG_ENGINE_URING });
	struct answer *answers = calloc(MANY, sizeof(*answers));
	unsigned char *data = leg_test_buffer(4096, 0);

	for (int i = 0; i < MANY; i++) {
		answer_init(&answers[i], data, answered);
		leg_wait_begin(&answers[i].wait);
		ck_assert_int_eq(leg_submit(leg, &answers[i].io), 0);
		leg_wait_done(&answers[i].wait);
		leg_wait(&answers[i].wait);
	}
	for (int i = 0; i < MANY; i++) {
		mutex_lock(&answers[i].lock);
		while (!answers[i].answered)
			cond_wait(&answers[i].cond, &answers[i].lock);
		mutex_unlock(&answers[i].lock);
		ck_assert(pthread_equal(answers[i].by, answers[0].by));
	}
	leg_close(leg);
	leg_test_unlink(path);
	free(answers);
	free(data);
}
END_TEST

static void end_wait(void *arg)
{
	struct answer *answer = arg;

	mutex_lock(&answer->lock);
	while (!answer->answered)
		cond_wait(&answer->cond, &answer->lock);
	mutex_unlock(&answer->lock);
	leg_wait_done(&answer->wait);
}

/* It sits in the kernel by then, and has nothing there. */
START_TEST(another_thread_ends_a_wait)
{
	char *path = leg_test_image(IMAGE_SIZE);
	struct leg *leg = open_leg(path, (struct leg_options){ .engine = LEG_ENGINE_URING });
	struct answer answer;
	struct thread thread;
	unsigned char *data = leg_test_buffer(4096, 0);

	for (int i = 0; i < 20; i++) {
		answer_init(&answer, data, answered); /* its answer ends nothing */
		leg_wait_begin(&answer.wait);
		ck_assert_int_eq(leg_submit(leg, &answer.io), 0);
		ck_assert_int_eq(thread_start(&thread, "end", end_wait, &answer), 0);
		leg_wait(&answer.wait);
		thread_join(&thread);
	}
	leg_close(leg);
	leg_test_unlink(path);
	free(data);
}
END_TEST

/* ---- a ring of one's own ---- */

#define OTHERS 5u
#define LONG_NS (3600 * NSEC_PER_SEC) /* a turn looks for so long, in every second run of a test */

struct loop {
	struct leg *leg;
	struct leg_ring *ring;
	struct answer answers[8];
	unsigned char *data;
	unsigned int others;
	struct mutex lock; /* nobody wakes a ring that is gone */
	bool stop;
	_Atomic unsigned int turns;
	uint64_t poll_ns;
	_Atomic(const void *) turn;
};

static void other_came(void *context, uint64_t data, int result)
{
	struct loop *loop = context;

	ck_assert_uint_eq(data, (uint64_t)(2 * loop->others + LEG_RING_OTHER));
	ck_assert_int_eq(result, 0);
	loop->others++;
}

static void loop_begin(struct loop *loop)
{
	leg_ring_enter(loop->ring);
	for (unsigned int i = 0; i < 8; i++) {
		answer_init(&loop->answers[i], loop->data + 4096 * (size_t)i, answered);
		loop->answers[i].io.offset = 4096 * (uint64_t)i;
	}
}

static void loop_turn(struct loop *loop)
{
	if (!loop->poll_ns || !leg_ring_look(loop->ring, loop->poll_ns, &loop->turn, loop))
		leg_ring_turn(loop->ring);
}

/* Answers to legs and whatever else there is come by the same turns, to the thread whose ring it is. */
static void loop_reads_and_others(void *arg)
{
	struct loop *loop = arg;
	unsigned int came = 0;

	loop_begin(loop);
	leg_ring_collect(loop->ring, true);
	for (unsigned int i = 0; i < 8; i++)
		ck_assert_int_eq(leg_submit(loop->leg, &loop->answers[i].io), 0);
	leg_ring_collect(loop->ring, false);
	ck_assert(leg_ring_busy(loop->ring));
	for (unsigned int i = 0; i < OTHERS; i++) {
		struct io_uring_sqe *sqe = leg_ring_sqe(loop->ring);

		memset(sqe, 0, 2 * sizeof(*sqe)); /* IORING_OP_NOP */
		sqe->user_data = 2 * i + LEG_RING_OTHER;
	}
	while (came < 8 || loop->others < OTHERS) {
		loop_turn(loop);
		for (came = 0; came < 8 && loop->answers[came].answered; came++)
			ck_assert(pthread_equal(loop->answers[came].by, pthread_self()));
	}
	ck_assert(!leg_ring_busy(loop->ring));
	leg_ring_destroy(loop->ring);
}

/* What is waited for is not mixed with what the ring collects. */
static void loop_waits_beside(void *arg)
{
	struct loop *loop = arg;
	struct answer waited;

	loop_begin(loop);
	leg_ring_collect(loop->ring, true);
	ck_assert_int_eq(leg_submit(loop->leg, &loop->answers[0].io), 0);
	answer_init(&waited, loop->data + 4096, answered_and_done);
	leg_wait_begin(&waited.wait);
	ck_assert_int_eq(leg_submit(loop->leg, &waited.io), 0);
	leg_wait(&waited.wait);
	ck_assert(waited.answered && !loop->answers[0].answered && leg_ring_busy(loop->ring));
	while (!loop->answers[0].answered)
		loop_turn(loop);
	leg_ring_destroy(loop->ring);
}

/* It ends with all of them out: they come back all the same, and the joiner need not wait for that. */
static void loop_ends_early(void *arg)
{
	struct loop *loop = arg;

	loop_begin(loop);
	leg_ring_collect(loop->ring, true);
	for (unsigned int i = 0; i < 8; i++)
		ck_assert_int_eq(leg_submit(loop->leg, &loop->answers[i].io), 0);
	leg_ring_destroy(loop->ring);
}

static void loop_sleeps(void *arg)
{
	struct loop *loop = arg;
	bool stop = false;

	loop_begin(loop);
	while (!stop) {
		loop_turn(loop);
		atomic_fetch_add(&loop->turns, 1);
		mutex_lock(&loop->lock);
		stop = loop->stop;
		mutex_unlock(&loop->lock);
	}
	leg_ring_destroy(loop->ring);
}

static void loop_run(void (*run)(void *arg), uint64_t poll_ns)
{
	char *path = leg_test_image(IMAGE_SIZE);
	struct loop loop = { .leg = open_leg(path, (struct leg_options){ .engine = LEG_ENGINE_URING }) };
	struct leg_counters counters;
	struct thread *thread = malloc(sizeof(*thread));

	mutex_init(&loop.lock, RANK_LEAF);
	loop.poll_ns = poll_ns;
	loop.turn = &loop;
	loop.data = leg_test_buffer(8 * 4096, 1);
	loop.ring = leg_ring_create(OTHERS, other_came, &loop);
	ck_assert_ptr_nonnull(loop.ring);
	ck_assert_int_eq(thread_start(thread, "loop", run, &loop), 0);
	for (unsigned int turns = 0; run == loop_sleeps && turns < 50; turns = atomic_load(&loop.turns)) {
		leg_ring_wake(loop.ring);
		while (atomic_load(&loop.turns) == turns)
			sched_yield();
		for (unsigned int i = 0; i < turns; i++)
			sched_yield(); /* it looks, or sleeps, when it is woken */
		atomic_store(&loop.turn, turns == 1 ? NULL : &loop);
	}
	if (run == loop_sleeps) {
		mutex_lock(&loop.lock);
		loop.stop = true;
		leg_ring_wake(loop.ring);
		mutex_unlock(&loop.lock);
	}
	thread_join(thread);
	free(thread);
	do
		leg_counters(loop.leg, &counters);
	while (counters.in_flight);
	if (run == loop_reads_and_others || run == loop_ends_early)
		ck_assert_uint_eq(counters.ops[LEG_READ], 8);
	leg_close(loop.leg);
	leg_test_unlink(path);
	free(loop.data);
}

START_TEST(a_ring_of_ones_own_has_legs_and_other_things)
{
	loop_run(loop_reads_and_others, _i * LONG_NS);
}
END_TEST

START_TEST(what_is_waited_for_is_not_in_a_ring_of_ones_own)
{
	loop_run(loop_waits_beside, _i * LONG_NS);
}
END_TEST

START_TEST(a_thread_that_ends_sees_to_what_its_ring_still_has)
{
	loop_run(loop_ends_early, _i * LONG_NS);
}
END_TEST

START_TEST(a_ring_of_ones_own_is_woken_by_others)
{
	loop_run(loop_sleeps, _i * LONG_NS);
}
END_TEST

Suite *wait_suite(void)
{
	Suite *suite = suite_create("wait");
	TCase *tests = tcase_create("wait");

	tcase_set_timeout(tests, 60);
	tcase_add_test(tests, who_waits_for_a_request_is_the_one_who_completes_it);
	tcase_add_test(tests, a_request_that_nobody_waits_for_any_more_is_completed_all_the_same);
	tcase_add_test(tests, many_requests_that_nobody_waits_for_are_completed_by_one_thread);
	tcase_add_test(tests, another_thread_ends_a_wait);
	tcase_add_loop_test(tests, a_ring_of_ones_own_has_legs_and_other_things, 0, 2);
	tcase_add_loop_test(tests, what_is_waited_for_is_not_in_a_ring_of_ones_own, 0, 2);
	tcase_add_loop_test(tests, a_thread_that_ends_sees_to_what_its_ring_still_has, 0, 2);
	tcase_add_loop_test(tests, a_ring_of_ones_own_is_woken_by_others, 0, 2);
	suite_add_tcase(suite, tests);
	return suite;
}
