/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cache_test.h"

size_t owner_writes;

/* Its pages at the head: how many. */
static size_t owner_write_own(struct cache_page **pages, size_t all)
{
	struct owner *owner = pages[0]->space->context;
	size_t count = 1;
	bool hold;
	int error;

	while (count < all && pages[count]->space == pages[0]->space)
		count++;
	mutex_lock(&owner->lock);
	owner->calls++;
	if (count > owner->largest_call)
		owner->largest_call = count;
	for (size_t i = 0; i < count; i++) {
		if (i && pages[i]->index <= pages[i - 1]->index)
			owner->unsorted = true;
		if (owner->written_count < OWNER_LOG)
			owner->written[owner->written_count] = pages[i]->index;
		owner->written_count++;
		if (owner->hold) {
			ck_assert_uint_lt(owner->held_count, OWNER_LOG);
			owner->held[owner->held_count++] = pages[i];
		}
	}
	hold = owner->hold;
	error = owner->error;
	cond_broadcast(&owner->changed);
	mutex_unlock(&owner->lock);
	for (size_t i = 0; i < count && !hold; i++)
		cache_written(pages[i], error);
	return count;
}

static void owner_write(struct cache_page **pages, size_t count)
{
	__atomic_add_fetch(&owner_writes, 1, __ATOMIC_SEQ_CST);
	for (size_t done = 0; done < count;)
		done += owner_write_own(pages + done, count - done);
}

static void owner_pressure(struct cache_space *space)
{
	struct owner *owner = space->context;
	bool writes;
	uint64_t last;

	mutex_lock(&owner->lock);
	owner->pressed++;
	writes = owner->press_writes;
	last = owner->press_last;
	cond_broadcast(&owner->changed);
	mutex_unlock(&owner->lock);
	for (uint64_t i = 0; writes && i <= last; i++) {
		struct cache_page *page;

		if (cache_get(space, i, false, true, &page))
			continue;
		if (cache_write_begin(page))
			cache_written(page, 0);
		cache_put(page);
	}
}

static void owner_evict(struct cache_space *space, struct cache_page *page)
{
	struct owner *owner = space->context;

	__atomic_add_fetch(&owner->evicted, 1, __ATOMIC_RELAXED);
	page->owner = NULL;
}

static const struct cache_space_ops write_ops = { .write = owner_write, .evict = owner_evict };
static const struct cache_space_ops planned_ops = { .pressure = owner_pressure, .evict = owner_evict };

void owner_init(struct owner *owner, struct cache *cache, enum cache_class class, size_t page_bytes, bool planned)
{
	memset(owner, 0, sizeof(*owner));
	mutex_init(&owner->lock, RANK_FS_INODE);
	cond_init(&owner->changed);
	ck_assert_int_eq(cache_space_init(cache, &owner->space, class, page_bytes, planned ? &planned_ops : &write_ops,
					  owner),
			 0);
}

void owner_fini(struct owner *owner)
{
	cache_space_fini(&owner->space);
	cond_fini(&owner->changed);
	mutex_fini(&owner->lock);
}

void owner_answer(struct owner *owner, int error)
{
	for (;;) {
		struct cache_page *page = NULL;

		mutex_lock(&owner->lock);
		if (owner->held_count)
			page = owner->held[--owner->held_count];
		mutex_unlock(&owner->lock);
		if (!page)
			return;
		cache_written(page, error);
	}
}

static void owner_wait(struct owner *owner, const size_t *what, size_t count)
{
	uint64_t until = clock_now_ns() + 60 * NSEC_PER_SEC;

	mutex_lock(&owner->lock);
	while (*what < count)
		ck_assert(cond_wait_until(&owner->changed, &owner->lock, until));
	mutex_unlock(&owner->lock);
}

void owner_wait_held(struct owner *owner, size_t count)
{
	owner_wait(owner, &owner->held_count, count);
}

void owner_wait_written(struct owner *owner, size_t count)
{
	owner_wait(owner, &owner->written_count, count);
}

void owner_set(struct owner *owner, bool hold, int error)
{
	mutex_lock(&owner->lock);
	owner->hold = hold;
	owner->error = error;
	mutex_unlock(&owner->lock);
}

struct cache *make_cache(size_t budget_bytes, uint64_t write_after_ns)
{
	struct cache_config config = { .budget_bytes = budget_bytes, .write_after_ns = write_after_ns };
	struct cache *cache = cache_create(&config);

	ck_assert_ptr_nonnull(cache);
	return cache;
}

static struct cache_page *owner_get(struct owner *owner, uint64_t index, bool *hit)
{
	struct cache_page *page;
	int got = cache_get(&owner->space, index, true, true, &page);

	ck_assert_int_ge(got, 0);
	*hit = got == 0;
	if (got == 1) {
		memcpy(page->data, &index, sizeof(index));
		cache_filled(page, 0);
	} else {
		ck_assert_int_eq(memcmp(page->data, &index, sizeof(index)), 0);
	}
	return page;
}

bool owner_read(struct owner *owner, uint64_t index)
{
	bool hit;

	cache_put(owner_get(owner, index, &hit));
	return hit;
}

void owner_write_page(struct owner *owner, uint64_t index)
{
	bool hit;
	struct cache_page *page = owner_get(owner, index, &hit);

	cache_dirty(page);
	cache_put(page);
}

bool owner_has(struct owner *owner, uint64_t index)
{
	struct cache_page *page;

	if (cache_get(&owner->space, index, false, true, &page))
		return false;
	cache_put(page);
	return true;
}

struct cache_stats stats_of(struct cache *cache)
{
	struct cache_stats stats;

	cache_stats(cache, &stats);
	return stats;
}

size_t free_for_data(struct cache *cache, unsigned int floor_percent)
{
	struct cache_stats stats = stats_of(cache);
	size_t floor = stats.budget_bytes / 100 * floor_percent;
	size_t nodes = stats.class[CACHE_NODES].bytes;
	size_t used = stats.used_bytes - nodes + (nodes > floor ? nodes : floor);

	return used < stats.budget_bytes ? stats.budget_bytes - used : 0;
}

void wait_until(bool (*done)(void *context), void *context)
{
	struct mutex lock;
	struct cond never;
	uint64_t until = clock_now_ns() + 60 * NSEC_PER_SEC;

	mutex_init(&lock, RANK_FRONT);
	cond_init(&never);
	mutex_lock(&lock);
	while (!done(context)) {
		ck_assert_uint_lt(clock_now_ns(), until);
		cond_wait_until(&never, &lock, clock_now_ns() + NSEC_PER_MSEC);
	}
	mutex_unlock(&lock);
	cond_fini(&never);
	mutex_fini(&lock);
}

int main(void)
{
	Suite *suite = suite_create("cache");
	SRunner *runner;
	int failed;

	page_tests(suite);
	pool_tests(suite);
	reclaim_tests(suite);
	pressure_tests(suite);
	policy_tests(suite);
	writeback_tests(suite);
	hammer_tests(suite);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
