/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Many threads on few pages and little memory. Each page of a file is made of 64-bit words that all say the same:
 * its index and a version. A model of storage keeps what was written; what a miss reads back must be what was written
 * last, so a page that was lost between dirty and clean, or freed under a user, shows.
 */
#include "cache_test.h"

#define FILES 3
#define FILE_PAGES 700
#define NODE_PAGES 300
#define WORKERS 4
#define ROUNDS 6000
#define WORDS 8 /* of a page that are looked at */

struct file {
	struct cache_space space;
	struct mutex locks[FILE_PAGES]; /* content of a page and its model, as an inode's lock would */
	uint64_t storage[FILE_PAGES];
	uint64_t newest[FILE_PAGES];
};

/* Answers writes on a thread of its own, late and now and then with an error. */
struct answers {
	struct mutex lock;
	struct cond wake;
	struct cache_page *pages[FILES * FILE_PAGES];
	size_t count;
	bool stop;
	struct thread thread;
};

static struct cache *cache;
static struct file files[FILES];
static struct cache_space nodes;
static struct answers answers;

static uint64_t *words(struct cache_page *page)
{
	return (uint64_t *)page->data;
}

static void file_write(struct cache_page **pages, size_t count)
{
	mutex_lock(&answers.lock);
	for (size_t i = 0; i < count; i++)
		answers.pages[answers.count++] = pages[i];
	cond_signal(&answers.wake);
	mutex_unlock(&answers.lock);
}

static void answer(struct cache_page *page, bool fail)
{
	struct file *file = page->space->context;

	if (!fail) {
		mutex_lock(&file->locks[page->index]);
		for (int i = 1; i < WORDS; i++)
			ck_assert_uint_eq(words(page)[i], words(page)[0]);
		file->storage[page->index] = words(page)[0];
		mutex_unlock(&file->locks[page->index]);
	}
	cache_written(page, fail ? -EIO : 0);
}

static void answers_run(void *arg)
{
	unsigned int number = 0;

	mutex_lock(&answers.lock);
	while (!answers.stop || answers.count) {
		struct cache_page *page;

		if (!answers.count) {
			cond_wait(&answers.wake, &answers.lock);
			continue;
		}
		page = answers.pages[--answers.count];
		mutex_unlock(&answers.lock);
		answer(page, ++number % 64 == 0);
		mutex_lock(&answers.lock);
	}
	mutex_unlock(&answers.lock);
}

static void nodes_pressure(struct cache_space *space)
{
	for (uint64_t i = 0; i < NODE_PAGES; i++) {
		struct cache_page *page;

		if (cache_get(space, i << 20, false, true, &page))
			continue;
		if (cache_write_begin(page))
			cache_written(page, 0);
		cache_put(page);
	}
}

static void file_evict(struct cache_space *space, struct cache_page *page)
{
	page->owner = NULL;
}

static const struct cache_space_ops file_ops = { .write = file_write, .evict = file_evict };
static const struct cache_space_ops node_ops = { .pressure = nodes_pressure, .evict = file_evict };

static void use_page(struct file *file, uint64_t index, bool dirty)
{
	struct cache_page *page;
	int got;

	cache_throttle(cache);
	got = cache_get(&file->space, index, true, true, &page);
	ck_assert_int_ge(got, 0);
	mutex_lock(&file->locks[index]);
	if (got == 1) {
		ck_assert_uint_eq(file->storage[index], file->newest[index]);
		for (int i = 0; i < WORDS; i++)
			words(page)[i] = file->storage[index];
	}
	mutex_unlock(&file->locks[index]);
	if (got == 1)
		cache_filled(page, 0);
	/* An inode's lock ranks below the cache's: it is held over cache_dirty() as fs does. */
	mutex_lock(&file->locks[index]);
	for (int i = 0; i < WORDS; i++) {
		ck_assert_uint_eq(words(page)[i], file->newest[index]);
		if (dirty)
			words(page)[i]++;
	}
	if (dirty) {
		file->newest[index]++;
		cache_dirty(page);
	}
	mutex_unlock(&file->locks[index]);
	cache_put(page);
}

static void use_node(uint64_t index, bool dirty)
{
	struct cache_page *page;
	int got = cache_get(&nodes, index << 20, true, true, &page);

	/* Some fills fail, and whoever waited for one hears of it. */
	ck_assert(got >= 0 || got == -EIO);
	if (got < 0)
		return;
	if (got == 1)
		cache_filled(page, index % 16 == 3 && dirty ? -EIO : 0);
	else if (dirty)
		cache_dirty(page);
	cache_put(page);
}

static void worker_run(void *arg)
{
	uint32_t state = (uint32_t)(uintptr_t)arg * 7919;

	for (int round = 0; round < ROUNDS; round++) {
		uint32_t random = state = state * 1664525 + 1013904223;
		struct file *file = &files[random >> 8 & 1]; /* the last one is for those who truncate */
		uint64_t index = (random >> 12) % FILE_PAGES;

		switch (random >> 24 & 15) {
		case 0:
			cache_write_range(&file->space, index, index + 40);
			break;
		case 1:
			cache_range_dirty(&file->space, index, index + 40);
			cache_drop_range(&files[2].space, index, index + 40);
			break;
		case 2:
			if (round % 64 == 0)
				cache_drop_clean(cache);
			break;
		case 3:
		case 4: {
			struct cache_page *page;
			int got = cache_get(&files[2].space, index, true, round % 2, &page);

			if (got == 1)
				cache_filled(page, 0);
			if (got >= 0)
				cache_put(page);
			break;
		}
		case 5:
		case 6:
			use_node((random >> 12) % NODE_PAGES, true);
			break;
		case 7:
		case 8:
			use_node((random >> 12) % NODE_PAGES, false);
			break;
		default:
			use_page(file, index, random >> 28 & 1);
			break;
		}
	}
}

START_TEST(nothing_is_lost_or_stuck_under_many_threads_and_little_memory)
{
	struct cache_config config = { .budget_bytes = 4 * MIB, .write_after_ns = 2 * NSEC_PER_MSEC };
	struct thread workers[WORKERS];
	struct cache_stats stats;

	cache = cache_create(&config);
	mutex_init(&answers.lock, RANK_FS_TABLE);
	cond_init(&answers.wake);
	thread_start(&answers.thread, "answers", answers_run, NULL);
	for (int i = 0; i < FILES; i++) {
		for (int k = 0; k < FILE_PAGES; k++)
			mutex_init(&files[i].locks[k], RANK_FS_INODE);
		cache_space_init(cache, &files[i].space, CACHE_DATA, 4096, &file_ops, &files[i]);
	}
	cache_space_init(cache, &nodes, CACHE_NODES, 16384, &node_ops, NULL);
	for (uintptr_t i = 0; i < WORKERS; i++)
		thread_start(&workers[i], "worker", worker_run, (void *)(i + 1));
	for (int i = 0; i < WORKERS; i++)
		thread_join(&workers[i]);
	for (int i = 0; i < FILES; i++) {
		int tries = 0;

		while (cache_write_range(&files[i].space, 0, UINT64_MAX))
			ck_assert_int_lt(tries++, 100);
		ck_assert_uint_eq(cache_dirty_pages(&files[i].space), 0);
		for (int k = 0; k < FILE_PAGES; k++)
			ck_assert_uint_eq(files[i].storage[k], files[i].newest[k]);
	}
	stats = stats_of(cache);
	ck_assert_uint_gt(stats.class[CACHE_DATA].stolen, 0);
	ck_assert_uint_gt(stats.class[CACHE_NODES].stolen, 0);
	ck_assert_uint_le(stats.used_bytes, stats.budget_bytes);
	for (int i = 0; i < FILES; i++)
		cache_space_fini(&files[i].space);
	cache_space_fini(&nodes);
	stats = stats_of(cache);
	ck_assert_uint_eq(stats.class[CACHE_DATA].pages + stats.class[CACHE_NODES].pages, 0);
	ck_assert_uint_eq(stats.class[CACHE_DATA].bytes + stats.class[CACHE_NODES].bytes, 0);
	ck_assert_uint_eq(stats.class[CACHE_DATA].dirty + stats.class[CACHE_NODES].dirty, 0);
	cache_destroy(cache);
	mutex_lock(&answers.lock);
	answers.stop = true;
	cond_signal(&answers.wake);
	mutex_unlock(&answers.lock);
	thread_join(&answers.thread);
}
END_TEST

void hammer_tests(Suite *suite)
{
	TCase *tests = tcase_create("hammer");

	tcase_set_timeout(tests, 180);
	tcase_add_test(tests, nothing_is_lost_or_stuck_under_many_threads_and_little_memory);
	suite_add_tcase(suite, tests);
}
