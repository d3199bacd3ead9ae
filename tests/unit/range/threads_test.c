/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Eight threads on one range. What is theirs is marked in a map, so that a range given twice is seen at once. */
#include "range_test.h"

#include "mirrorfs/base/sync.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#define THREADS 8
#define SPACE 20000
#define STEPS 6000
#define HOLD 150

struct crowd {
	struct range *range;
	_Atomic unsigned char owner[SPACE];
	_Atomic uint64_t ticket;
};

struct worker {
	struct thread thread;
	struct crowd *crowd;
	unsigned char id;
	uint64_t seed;
	struct range_extent held[HOLD];
	unsigned int count;
};

static void mark(struct worker *worker, const struct range_extent *extent, unsigned char from, unsigned char to)
{
	for (uint64_t i = 0; i < extent->length; i++) {
		unsigned char expected = from;

		if (!atomic_compare_exchange_strong(&worker->crowd->owner[extent->start + i], &expected, to))
			abort(); /* a Check assertion does not leave a thread well */
	}
}

static void take_one(struct worker *worker)
{
	bool low = random_below(&worker->seed, 2);
	uint64_t size = low ? 4 * (1 + random_below(&worker->seed, 3)) : 1 + random_below(&worker->seed, 9);
	struct range_request request = { .at_least = size, .at_most = size, .align = low ? 4 : 1,
					 .zone = low ? RANGE_LOW : RANGE_HIGH };
	int error = range_alloc(worker->crowd->range, &request, &worker->held[worker->count]);

	if (error == -ENOSPC)
		return;
	if (error)
		abort();
	mark(worker, &worker->held[worker->count], 0, worker->id);
	worker->count++;
}

static void drop_one(struct worker *worker, bool defer)
{
	uint64_t index = random_below(&worker->seed, worker->count);
	struct range_extent extent = worker->held[index];

	worker->held[index] = worker->held[--worker->count];
	mark(worker, &extent, worker->id, 0);
	/* Tickets may not decrease, so every thread defers under the same one. */
	if (defer ? range_defer(worker->crowd->range, extent.start, extent.length, 1) :
		    range_free(worker->crowd->range, extent.start, extent.length))
		abort();
}

static void work(void *arg)
{
	struct worker *worker = arg;

	for (unsigned int i = 0; i < STEPS; i++) {
		uint64_t dice = random_below(&worker->seed, 100);

		if (worker->count < HOLD && (!worker->count || dice < 50))
			take_one(worker);
		else
			drop_one(worker, dice < 60);
		if (!(i % 50))
			range_release(worker->crowd->range, 1, NULL, NULL);
		(void)range_free_count(worker->crowd->range); /* no lock: for ThreadSanitizer to look at */
	}
	while (worker->count)
		drop_one(worker, false);
}

START_TEST(eight_threads_never_get_the_same_block)
{
	struct range_config config = { .length = SPACE, .boundary = SPACE / 4,
				       .magazine_length = 4, .magazine_most = 8, .magazine_align = 4 };
	struct crowd *crowd = calloc(1, sizeof(*crowd));
	struct worker *workers = calloc(THREADS, sizeof(*workers));

	crowd->range = range_create(&config);
	for (unsigned int i = 0; i < THREADS; i++) {
		workers[i].crowd = crowd;
		workers[i].id = (unsigned char)(i + 1);
		workers[i].seed = i;
		ck_assert_int_eq(thread_start(&workers[i].thread, "range", work, &workers[i]), 0);
	}
	for (unsigned int i = 0; i < THREADS; i++)
		thread_join(&workers[i].thread);
	range_release(crowd->range, 1, NULL, NULL);
	ck_assert_uint_eq(range_free_count(crowd->range), SPACE);
	ck_assert(range_check(crowd->range));
	range_destroy(crowd->range);
	free(workers);
	free(crowd);
}
END_TEST

TCase *threads_tests(void)
{
	TCase *tests = tcase_create("threads");

	tcase_set_timeout(tests, 0);
	tcase_add_test(tests, eight_threads_never_get_the_same_block);
	return tests;
}
