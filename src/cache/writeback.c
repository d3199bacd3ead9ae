/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writing out: what is handed to an owner's `write`, when, and what its answers do.
 *
 * The writer hands over a space's dirty pages in ascending order, up to WRITE_BATCH in a call, so that the owner sees
 * neighbours together; it goes round each space as a whole before it begins there again. It writes
 *   - a space that has been dirty for `write_after`,
 *   - the oldest space, while more than half of the dirty limit is dirty, or while the reclaimer has nothing left;
 *   - and by turns with these one of which more is to come. What is written of that leaves, unless it has been used.
 * With a space that has few pages go those that became dirty next and have few, too, if they are half as old or age
 * does not matter: many small files are few calls. A space whose write failed is tried again only by age.
 *
 * Writing out takes no memory: the writer's batch was made with the cache (I10).
 */
#include "cache_private.h"

#include <assert.h>
#include <stdlib.h>

#define UNCLEAN (CACHE_DIRTY | CACHE_WRITING)
#define BATCH_ON_STACK 64
#define ROUND_LOOKS (4 * CACHE_WRITE_SPACES)
#define SLOW_MOST_NS (20 * NSEC_PER_MSEC)

/* Something is to be written without regard to age. */
static bool eager(const struct cache *cache)
{
	const struct cache_counts *data = &cache->class[CACHE_DATA];

	if (data->dirty_bytes > cache->background_bytes)
		return true;
	/* What is being written already will come free. */
	return reclaim_starved(cache) &&
	       pool_available(cache) + (ssize_t)data->writing_bytes < (ssize_t)cache->low_bytes;
}

static struct space_list *list_of(struct space_index *ix)
{
	return ix->space->ops->write ? &ix->space->cache->dirty : &ix->space->cache->planned;
}

/* At the young end, as if it were dirty from now on. */
static void list_young(struct space_index *ix)
{
	struct cache *cache = ix->space->cache;
	struct space_list *list = list_of(ix);

	if (ix->listed)
		TAILQ_REMOVE(list, ix, link);
	TAILQ_INSERT_TAIL(list, ix, link);
	ix->listed = true;
	ix->since_ns = clock_now_ns();
	ix->listing = ++cache->listings;
}

static void soon_leave(struct space_index *ix)
{
	if (ix->soon)
		TAILQ_REMOVE(&ix->space->cache->soon, ix, soon_link);
	ix->soon = false;
}

static bool writeable(const struct space_index *ix)
{
	return ix->space->ops->write || ix->space->ops->pressure;
}

void writeback_account(struct space_index *ix, long dirty, long writing, long unclean)
{
	struct cache *cache = ix->space->cache;
	struct cache_counts *counts = &cache->class[ix->space->class];
	size_t page_bytes = ix->space->page_bytes;

	counts->dirty += (size_t)dirty;
	counts->writing += (size_t)writing;
	counts->dirty_bytes += (size_t)dirty * page_bytes;
	counts->writing_bytes += (size_t)writing * page_bytes;
	counts->unclean_bytes += (size_t)unclean * page_bytes;
	counts->cleaned += unclean < 0;
	__atomic_store_n(&ix->space->dirty, ix->space->dirty + (size_t)dirty, __ATOMIC_RELAXED);

	if (ix->ready && !ix->listed && writeable(ix)) {
		list_young(ix);
		/* None was older, and the writer sleeps for longer than that: it has a new hour to wake at. */
		if (TAILQ_FIRST(&cache->dirty) == ix && ix->since_ns + cache->write_after_ns < cache->write_looks_ns) {
			cache->write_looks_ns = 0;
			cache->write_woken++;
			cond_signal(&cache->write_wake);
		}
	} else if (!ix->ready && ix->listed) {
		TAILQ_REMOVE(list_of(ix), ix, link);
		ix->listed = false;
		soon_leave(ix);
	}
	if (dirty > 0 && eager(cache))
		cond_signal(&cache->write_wake);
	if (pressure_needed(cache))
		cond_signal(&cache->press_wake);
	if (unclean < 0 && cache->throttling)
		cond_broadcast(&cache->settled);
}

/* WRITING from now on, with a reference of its own; DIRTY no more. Space's lock held; the caller accounts. */
static void hand_over(struct space_index *ix, struct page *page, bool passing)
{
	page->passing = passing;
	page_set(page, CACHE_DIRTY, CACHE_WRITING);
	cache_ref(&page->page);
	page->ticket = ++ix->tickets;
	ix->ready--;
}

/* What is to be handed over of a space. */
struct part {
	uint64_t next, last;
	bool passing;
	bool done; /* to the end */
	bool missed; /* a page, as it is dirty while it is being written */
};

/* Hands over `max` dirty pages of the part at most; `next` moves behind them. No lock held. */
static size_t collect(struct space_index *ix, struct part *part, struct cache_page **pages, size_t max)
{
	struct cache *cache = ix->space->cache;
	struct page *page;
	size_t count = 0;

	part->done = false;
	mutex_lock(&ix->lock);
	while (count < max) {
		page = index_next_unclean(ix, part->next, part->last);
		if (!page) {
			part->done = true;
			break;
		}
		if ((page->page.state & UNCLEAN) == CACHE_DIRTY) {
			hand_over(ix, page, part->passing);
			pages[count++] = &page->page;
		} else if (page->page.state & CACHE_DIRTY) {
			part->missed = true;
		}
		if (page->page.index == part->last) {
			part->done = true;
			break;
		}
		part->next = page->page.index + 1;
	}
	if (count) {
		mutex_lock(&cache->lock);
		writeback_account(ix, -(long)count, (long)count, 0);
		mutex_unlock(&cache->lock);
	}
	mutex_unlock(&ix->lock);
	return count;
}

bool cache_write_begin(struct cache_page *page)
{
	struct space_index *ix = page->space->index;
	struct cache *cache = page->space->cache;
	bool begun;

	mutex_lock(&ix->lock);
	begun = (page->state & UNCLEAN) == CACHE_DIRTY;
	if (begun) {
		hand_over(ix, page_of(page), false);
		mutex_lock(&cache->lock);
		writeback_account(ix, -1, 1, 0);
		mutex_unlock(&cache->lock);
	}
	mutex_unlock(&ix->lock);
	return begun;
}

static void report(struct space_index *ix, uint64_t index, int error)
{
	struct range_wait *wait;

	LIST_FOREACH(wait, &ix->range_waits, link) {
		if (!wait->error && index >= wait->first && index <= wait->last)
			wait->error = error;
	}
}

void cache_written(struct cache_page *page, int error)
{
	struct space_index *ix = page->space->index;
	struct cache *cache = page->space->cache;
	bool again, clean, drop;

	mutex_lock(&ix->lock);
	assert(page->state & CACHE_WRITING);
	again = page->state & CACHE_DIRTY;
	clean = !again && !error;
	drop = clean && page_of(page)->passing && page_of(page)->queue == QUEUE_SMALL && !page_of(page)->uses &&
	       page_unused(page_of(page));
	page_set(page_of(page), CACHE_WRITING, clean ? 0 : CACHE_DIRTY);
	if (clean)
		index_unclean(ix, page_of(page), false);
	else
		ix->ready++;
	if (error)
		report(ix, page->index, error);
	mutex_lock(&cache->lock);
	cache->failing = error;
	ix->failed = error;
	writeback_account(ix, error && !again, -1, clean ? -1 : 0);
	if (error && ix->listed)
		list_young(ix);
	if (drop)
		policy_evicted(page_of(page));
	else if (clean)
		policy_insert(page_of(page), POLICY_WRITTEN);
	if (error && cache->throttling)
		cond_broadcast(&cache->settled);
	mutex_unlock(&cache->lock);
	cond_broadcast(&ix->changed);
	if (drop) {
		page_drop(ix, page_of(page));
		index_trim(ix);
	}
	page_unref(ix, page_of(page));
	mutex_unlock(&ix->lock);
}

/* Waits until what was handed over in the range so far is answered. */
static void wait_answers(struct space_index *ix, uint64_t first, uint64_t last)
{
	uint64_t ticket;

	mutex_lock(&ix->lock);
	ticket = ix->tickets;
	for (;;) {
		struct page *page = index_next_unclean(ix, first, last);

		if (!page)
			break;
		cache_ref(&page->page);
		while (page->page.state & CACHE_WRITING && page->ticket <= ticket)
			cond_wait(&ix->changed, &ix->lock);
		first = page->page.index + 1;
		page_unref(ix, page);
		if (!first || first > last)
			break;
	}
	mutex_unlock(&ix->lock);
}

int cache_write_range(struct cache_space *space, uint64_t first, uint64_t last)
{
	struct space_index *ix = space->index;
	struct range_wait wait = { .first = first, .last = last };
	struct cache_page *few[BATCH_ON_STACK], **pages;
	struct part part = { .last = last };
	int round = 0;
	size_t max;

	assert(space->ops->write);
	if (!cache_range_dirty(space, first, last))
		return 0;
	pages = malloc(WRITE_BATCH * sizeof(*pages));
	max = pages ? WRITE_BATCH : BATCH_ON_STACK;
	mutex_lock(&ix->lock);
	LIST_INSERT_HEAD(&ix->range_waits, &wait, link);
	mutex_unlock(&ix->lock);
	do {
		size_t count;

		part.next = first;
		part.missed = false;
		do {
			count = collect(ix, &part, pages ? pages : few, max);
			if (count)
				space->ops->write(pages ? pages : few, count);
		} while (!part.done);
		wait_answers(ix, first, last);
		/* A page that was missed is dirty, clean, or handed over by another since: the second round has it. */
	} while (part.missed && !wait.error && ++round < 2);
	mutex_lock(&ix->lock);
	LIST_REMOVE(&wait, link);
	mutex_unlock(&ix->lock);
	free(pages);
	return wait.error;
}

static bool over_limit(const struct cache *cache)
{
	return cache->class[CACHE_DATA].unclean_bytes > cache->dirty_limit_bytes;
}

/*
 * From half way between background writing and the limit on, ever longer: so writers come down to the speed of the legs
 * before they have to stand still. Cache's lock held, given up meanwhile.
 */
static void slow_down(struct cache *cache)
{
	size_t from = (cache->background_bytes + cache->dirty_limit_bytes) / 2, room = cache->dirty_limit_bytes - from;
	uint64_t begun = clock_now_ns();
	bool counted = false;

	for (;;) {
		size_t unclean = cache->class[CACHE_DATA].unclean_bytes;

		if (unclean <= from || cache->failing)
			return;
		cache->slowed += !counted;
		counted = true;
		if (unclean > from + room)
			unclean = from + room;
		if (!cond_wait_until(&cache->settled, &cache->lock, begun + SLOW_MOST_NS * (unclean - from) / room))
			return;
	}
}

void cache_throttle(struct cache *cache)
{
	uint64_t rounds;

	mutex_lock(&cache->lock);
	rounds = cache->pressure_rounds;
	if (over_limit(cache) || pressure_needed(cache))
		cache->throttled++;
	cache->throttling++;
	/* Where storage takes no more, waiting does not help: the caller will learn from its own write. */
	while (over_limit(cache) && !cache->failing)
		cond_wait(&cache->settled, &cache->lock);
	/* Two, as one may have begun before this caller came; an owner that cannot help must not hold it for ever. */
	while (pressure_needed(cache) && cache->pressure_rounds - rounds < 2)
		cond_wait(&cache->settled, &cache->lock);
	slow_down(cache);
	cache->throttling--;
	mutex_unlock(&cache->lock);
}

/* ---- from several spaces ---- */

/* Spaces that are written in one call. */
struct round {
	struct cache_page **pages;
	size_t max;
	bool passing; /* these pages */
	unsigned int count;
	struct space_index *spaces[CACHE_WRITE_SPACES];
};

static bool has_few(const struct space_index *ix)
{
	return cache_dirty_pages(ix->space) <= WRITE_FEW;
}

static bool goes_with(const struct space_index *ix, const struct space_index *first)
{
	return ix == first || (has_few(ix) && !ix->failed && ix->space->ops == first->space->ops);
}

/* `first`, and of those behind it in the list that are `age_ns` old some that go with it. Cache's lock held. */
static void round_begin(struct round *round, struct space_index *first, uint64_t age_ns)
{
	uint64_t now = clock_now_ns();
	struct space_index *ix = first;
	size_t pages = 0;

	round->count = 0;
	for (unsigned int looked = 0; looked < ROUND_LOOKS; looked++) {
		if (goes_with(ix, first)) {
			pages += cache_dirty_pages(ix->space);
			ix->busy++;
			round->spaces[round->count++] = ix;
		}
		ix = TAILQ_NEXT(ix, link);
		if (!ix || !has_few(first) || ix->since_ns + age_ns > now || round->count == CACHE_WRITE_SPACES ||
		    pages + WRITE_FEW > round->max)
			break;
	}
}

/* Cache's lock held, given up meanwhile. */
static void round_write(struct cache *cache, struct round *round)
{
	struct part parts[CACHE_WRITE_SPACES];
	size_t count = 0;

	for (unsigned int i = 0; i < round->count; i++)
		parts[i] = (struct part){ .next = round->spaces[i]->cursor, .last = UINT64_MAX,
					  .passing = round->passing && i == 0 };
	mutex_unlock(&cache->lock);

	for (unsigned int i = 0; i < round->count; i++)
		count += collect(round->spaces[i], &parts[i], round->pages + count, round->max - count);
	/* More may be put behind what was last put there. */
	if (round->count == 1 && round->passing && count)
		page_of(round->pages[count - 1])->passing = false;
	if (count)
		round->spaces[0]->space->ops->write(round->pages, count);

	mutex_lock(&cache->lock);
	for (unsigned int i = 0; i < round->count; i++) {
		struct space_index *ix = round->spaces[i];

		ix->cursor = parts[i].done ? 0 : parts[i].next;
		if (parts[i].done && ix->listed)
			list_young(ix);
		if (--ix->busy == 0)
			cond_broadcast(&cache->settled);
	}
}

/* The space that must be written next, or NULL: none before *until. Cache's lock held. */
static struct space_index *choose_due(struct cache *cache, uint64_t *until)
{
	struct space_index *ix = TAILQ_FIRST(&cache->dirty);

	*until = CLOCK_NEVER;
	if (!ix)
		return NULL;
	if (ix->since_ns + cache->write_after_ns <= clock_now_ns())
		return ix;
	*until = ix->since_ns + cache->write_after_ns;
	if (!eager(cache))
		return NULL;
	while (ix && ix->failed)
		ix = TAILQ_NEXT(ix, link);
	return ix;
}

/* That, or by turns one of which more is to come. Cache's lock held. */
static struct space_index *choose(struct cache *cache, uint64_t *until)
{
	struct space_index *due = choose_due(cache, until), *soon = TAILQ_FIRST(&cache->soon);

	cache->soon_last = soon && !(due && cache->soon_last);
	if (!cache->soon_last)
		return due;
	soon_leave(soon);
	return soon;
}

void writeback_run(void *arg)
{
	struct cache *cache = arg;
	struct round round = { .pages = cache->batch, .max = WRITE_BATCH };

	mutex_lock(&cache->lock);
	while (!cache->stop) {
		uint64_t until;
		struct space_index *ix = choose(cache, &until);

		if (ix) {
			round.passing = cache->soon_last;
			round_begin(&round, ix, eager(cache) ? 0 : cache->write_after_ns / 2);
			round_write(cache, &round);
		} else {
			cache->write_looks_ns = until;
			cond_wait_until(&cache->write_wake, &cache->lock, until);
			cache->write_looks_ns = 0;
		}
	}
	mutex_unlock(&cache->lock);
}

void cache_write_soon(struct cache_space *space)
{
	struct space_index *ix = space->index;
	struct cache *cache = space->cache;

	assert(space->ops->write);
	mutex_lock(&cache->lock);
	if (ix->listed && !ix->soon && !ix->failed) {
		TAILQ_INSERT_TAIL(&cache->soon, ix, soon_link);
		ix->soon = true;
		cond_signal(&cache->write_wake);
	}
	mutex_unlock(&cache->lock);
}

/* The first round takes the space and others; what it leaves, and every answer, is the second's. */
int cache_write_space(struct cache_space *space)
{
	struct cache *cache = space->cache;
	struct round round = { .max = WRITE_BATCH };

	assert(space->ops->write);
	if (!cache_range_dirty(space, 0, UINT64_MAX))
		return 0;
	round.pages = malloc(WRITE_BATCH * sizeof(*round.pages));
	mutex_lock(&cache->lock);
	if (round.pages && space->index->listed) {
		round_begin(&round, space->index, 0);
		round_write(cache, &round);
	}
	mutex_unlock(&cache->lock);
	free(round.pages);
	return cache_write_range(space, 0, UINT64_MAX);
}

void cache_write_all(struct cache *cache)
{
	struct cache_page *few[BATCH_ON_STACK];
	struct cache_page **pages = malloc(WRITE_BATCH * sizeof(*pages));
	struct round round = { .pages = pages ? pages : few, .max = pages ? WRITE_BATCH : BATCH_ON_STACK };
	struct space_index *ix;
	uint64_t last;

	mutex_lock(&cache->lock);
	last = cache->listings;
	while ((ix = TAILQ_FIRST(&cache->dirty)) && ix->listing <= last) {
		round_begin(&round, ix, 0);
		round_write(cache, &round);
	}
	mutex_unlock(&cache->lock);
	free(pages);
}
