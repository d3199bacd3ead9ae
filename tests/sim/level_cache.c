/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The cache alone, over a storage that is an array of stamps and takes its time. Each actor owns one space: a page that
 * it gets must hold the stamp that it put there last, however often the writer and the reclaimer have been at it;
 * what cache_write_range() has returned for is in storage. Storage fails now and then, and for good only by drop.
 */
#include "level.h"
#include "report.h"
#include "world.h"

#include "mirrorfs/base/sync.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ACTORS_MAX 5
#define PAGES 1600u

struct owner {
	struct cache_level *level;
	struct cache_space space;
	struct mutex lock; /* as an inode's: held while the content changes or is copied to be written */
	struct thread thread;
	struct sim_random random;
	size_t page_bytes;
	uint32_t now[PAGES], stored[PAGES];
	uint32_t stamps;
	bool nodes; /* written by a plan of its own, when pressed */
	bool running;
};

struct cache_level {
	struct machine *machine;
	struct owner owners[ACTORS_MAX];
	int count;
	struct sim_random random; /* of the storage */
	struct script *script;
};

static void page_fill(const struct owner *owner, const struct cache_page *page, uint32_t stamp)
{
	for (size_t i = 0; i < owner->page_bytes; i += 1024) {
		memcpy(page->data + i, &stamp, sizeof(stamp));
		memcpy(page->data + i + 8, &page->index, sizeof(page->index));
	}
}

static uint32_t page_stamp(const struct owner *owner, const struct cache_page *page)
{
	uint32_t first, stamp;
	uint64_t index;

	memcpy(&first, page->data, sizeof(first));
	for (size_t i = 0; i < owner->page_bytes; i += 1024) {
		memcpy(&stamp, page->data + i, sizeof(stamp));
		memcpy(&index, page->data + i + 8, sizeof(index));
		if (stamp != first || index != page->index)
			sim_fail("page %lu has torn or foreign content", (unsigned long)page->index);
	}
	return first;
}

static int store(struct owner *owner, uint64_t index, uint32_t stamp)
{
	sim_sleep(sim_random_below(&owner->level->random, 3000000));
	if (sim_random_chance(&owner->level->random, 60))
		return -EIO;
	owner->stored[index] = stamp;
	return 0;
}

/* Those of one owner at the head: how many. */
static size_t write_own(struct cache_page **pages, size_t all)
{
	struct owner *owner = pages[0]->space->context;
	uint32_t *stamps = calloc(all, sizeof(*stamps));
	size_t count;

	mutex_lock(&owner->lock);
	for (count = 0; count < all && pages[count]->space == &owner->space; count++) {
		if (count && pages[count]->index <= pages[count - 1]->index)
			sim_fail("pages to write do not ascend");
		stamps[count] = page_stamp(owner, pages[count]);
	}
	mutex_unlock(&owner->lock);
	for (size_t i = 0; i < count; i++)
		cache_written(pages[i], store(owner, pages[i]->index, stamps[i]));
	free(stamps);
	return count;
}

static void write_pages(struct cache_page **pages, size_t count)
{
	for (size_t done = 0; done < count;)
		done += write_own(pages + done, count - done);
}

static void evict(struct cache_space *space, struct cache_page *page)
{
	if (page->owner && page->owner != space->context)
		sim_fail("page %lu was evicted with a foreign owner", (unsigned long)page->index);
	page->owner = NULL;
}

/* By a plan of its own: all that is dirty, one by one. */
static void write_by_plan(struct owner *owner)
{
	for (uint64_t i = 0; i < PAGES; i++) {
		struct cache_page *page;
		uint32_t stamp;

		if (cache_get(&owner->space, i, false, false, &page) != 0)
			continue;
		mutex_lock(&owner->lock);
		stamp = page_stamp(owner, page);
		if (!cache_write_begin(page)) {
			mutex_unlock(&owner->lock);
			cache_put(page);
			continue;
		}
		mutex_unlock(&owner->lock);
		cache_written(page, store(owner, i, stamp));
		cache_put(page);
	}
}

static void pressure(struct cache_space *space)
{
	write_by_plan(space->context);
}

static const struct cache_space_ops data_ops = { .write = write_pages, .evict = evict };
static const struct cache_space_ops node_ops = { .pressure = pressure, .evict = evict };

/* The page, referenced, filled from storage if it was not there, and holding what it must. */
static struct cache_page *get(struct owner *owner, uint64_t index)
{
	struct cache_page *page;
	int error = cache_get(&owner->space, index, true, true, &page);

	if (error < 0)
		sim_fail("cache_get: %s", strerror(-error));
	if (error == 1) {
		sim_sleep(sim_random_below(&owner->level->random, 300000));
		page_fill(owner, page, owner->stored[index]);
		page->owner = owner;
		cache_filled(page, 0);
	}
	if (page_stamp(owner, page) != owner->now[index])
		sim_fail("page %lu holds stamp %u, not %u; stored is %u", (unsigned long)index, page_stamp(owner, page),
			 owner->now[index], owner->stored[index]);
	return page;
}

static void change(struct owner *owner, uint64_t first, uint64_t count)
{
	if (!owner->nodes)
		cache_throttle(owner->level->machine->cache);
	for (uint64_t i = first; i < first + count; i++) {
		struct cache_page *page = get(owner, i);

		mutex_lock(&owner->lock);
		page_fill(owner, page, ++owner->stamps);
		owner->now[i] = owner->stamps;
		cache_dirty(page);
		mutex_unlock(&owner->lock);
		cache_put(page);
	}
}

static void write_range(struct owner *owner, uint64_t first, uint64_t last)
{
	int error = cache_write_range(&owner->space, first, last);

	for (uint64_t i = first; i <= last && !error; i++)
		if (owner->stored[i] != owner->now[i])
			sim_fail("page %lu was written with stamp %u, stored is %u", (unsigned long)i, owner->now[i],
				 owner->stored[i]);
	if (!error && cache_range_dirty(&owner->space, first, last))
		sim_fail("a range is dirty after it was written");
}

static void drop_range(struct owner *owner, uint64_t first, uint64_t last)
{
	cache_drop_range(&owner->space, first, last);
	for (uint64_t i = first; i <= last; i++)
		owner->now[i] = owner->stored[i];
}

static void act(void *arg)
{
	struct owner *owner = arg;

	while (script_next(owner->level->script, &owner->random)) {
		uint64_t count = 1 + sim_random_below(&owner->random, sim_random_chance(&owner->random, 4) ? 200 : 10);
		uint64_t first = sim_random_below(&owner->random, PAGES - count);

		switch (sim_random_below(&owner->random, 8)) {
		case 0:
		case 1:
		case 2:
			change(owner, first, count);
			break;
		case 3:
			if (owner->nodes)
				write_by_plan(owner);
			else
				write_range(owner, first, first + count);
			break;
		case 4:
			if (sim_random_chance(&owner->random, 3))
				drop_range(owner, first, first + count);
			break;
		case 5:
			sim_sleep(sim_random_below(&owner->random,
						   sim_random_chance(&owner->random, 9) ? 8000000000 : 1000000));
			break;
		default:
			for (uint64_t i = first; i < first + count; i++)
				cache_put(get(owner, i));
		}
	}
	owner->running = false;
}

static void *create(struct machine *machine, uint64_t seed)
{
	struct cache_level *level = calloc(1, sizeof(*level));

	level->machine = machine;
	level->random = sim_random_of(seed, 20);
	level->count = 1 + (int)sim_random_below(&level->random, ACTORS_MAX);
	for (int i = 0; i < level->count; i++)
		level->owners[i].level = level;
	return level;
}

static void check(void *state, bool crashed)
{
	struct cache_level *level = state;

	for (int i = 0; i < level->count; i++)
		memset(level->owners[i].now, 0, sizeof(level->owners[i].now));
	for (int i = 0; i < level->count; i++)
		memset(level->owners[i].stored, 0, sizeof(level->owners[i].stored));
}

static void start(void *state, struct script *script)
{
	struct cache_level *level = state;

	level->script = script;
	for (int i = 0; i < level->count; i++) {
		struct owner *owner = &level->owners[i];
		char name[16] = "actor-0";

		name[6] = (char)('0' + i);
		owner->nodes = i == 0;
		owner->page_bytes = owner->nodes ? 16384 : 4096;
		owner->running = true;
		mutex_init(&owner->lock, RANK_FS_INODE);
		if (cache_space_init(level->machine->cache, &owner->space, owner->nodes ? CACHE_NODES : CACHE_DATA,
				     owner->page_bytes, owner->nodes ? &node_ops : &data_ops, owner) != 0)
			sim_fail("cache_space_init");
		thread_start(&owner->thread, name, act, owner);
	}
}

static bool idle(void *state)
{
	struct cache_level *level = state;

	for (int i = 0; i < level->count; i++)
		if (level->owners[i].running)
			return false;
	return true;
}

static void join(void *state)
{
	struct cache_level *level = state;

	for (int i = 0; i < level->count; i++)
		thread_join(&level->owners[i].thread);
	for (int i = 0; i < level->count; i++) {
		cache_space_fini(&level->owners[i].space);
		mutex_fini(&level->owners[i].lock);
	}
}

static void finish(void *state)
{
}

const struct level level_cache = {
	.name = "cache",
	.height = MACHINE_MIRROR,
	.create = create,
	.check = check,
	.start = start,
	.idle = idle,
	.join = join,
	.finish = finish,
};
