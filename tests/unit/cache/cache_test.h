/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An owner of a space that answers writes as a test wants it to, and the test cases of each file. */
#ifndef CACHE_TEST_H
#define CACHE_TEST_H

#include "mirrorfs/base/clock.h"
#include "mirrorfs/base/sync.h"
#include "mirrorfs/cache.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MIB ((size_t)1 << 20)
#define NEVER_NS (3600 * NSEC_PER_SEC) /* as write_after: no test lasts that long */
#define OWNER_LOG 16384

struct owner {
	struct cache_space space;
	struct mutex lock;
	struct cond changed;
	bool hold; /* writes are not answered until owner_answer() */
	int error; /* the answer */
	struct cache_page *held[OWNER_LOG];
	size_t held_count;
	uint64_t written[OWNER_LOG]; /* indexes handed to write, in order */
	size_t written_count;
	size_t calls, largest_call;
	bool unsorted; /* some call's indexes did not ascend */
	size_t evicted;
	size_t pressed;
	bool press_writes; /* pressure cleans every dirty page below press_last */
	uint64_t press_last;
};

extern size_t owner_writes; /* calls of ops->write, of all owners; atomic */

/* With ops->write, or (planned) with ops->pressure. */
void owner_init(struct owner *owner, struct cache *cache, enum cache_class class, size_t page_bytes, bool planned);
void owner_fini(struct owner *owner);
void owner_answer(struct owner *owner, int error); /* all that is held */
void owner_wait_held(struct owner *owner, size_t count);
void owner_wait_written(struct owner *owner, size_t count);
void owner_set(struct owner *owner, bool hold, int error);

struct cache *make_cache(size_t budget_bytes, uint64_t write_after_ns);
/* A read as an owner does it: fills on a miss. True: a hit. */
bool owner_read(struct owner *owner, uint64_t index);
void owner_write_page(struct owner *owner, uint64_t index); /* fills on a miss, dirties */
bool owner_has(struct owner *owner, uint64_t index);
struct cache_stats stats_of(struct cache *cache);
size_t free_for_data(struct cache *cache, unsigned int floor_percent);
/* Waits until `done` holds; fails the test after a minute. */
void wait_until(bool (*done)(void *context), void *context);

void page_tests(Suite *suite);
void policy_tests(Suite *suite);
void reclaim_tests(Suite *suite);
void writeback_tests(Suite *suite);
void pressure_tests(Suite *suite);
void pool_tests(Suite *suite);
void hammer_tests(Suite *suite);

#endif
