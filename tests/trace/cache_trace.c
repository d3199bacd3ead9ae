/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What does our cache hit, and what would others have hit? Traces run through src/cache itself, in the simulator's
 * world: one thread, the same run each time. LRU, CLOCK and Belady get as much room as our cache has ever filled.
 *
 *   cache_trace [--check] [FILE.xz...]     recorded traces; without any, those that are made
 *
 * A recorded trace runs as it is, and once more ("+k") as it comes through a kernel's cache as large as ours: that is
 * what a mount sees.
 *
 * --check: with made traces, ours must be ahead of LRU, but for those that say how far it may be behind; with recorded
 * ones it may be 5 points behind at most, and must be ahead on most. Else the exit status is 1.
 */
#include "trace.h"

#include "world.h"

#include "mirrorfs/cache.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIB ((size_t)1 << 20)
#define PAGE 4096
#define BEHIND_MOST 5.0 /* points */
#define SAMPLE 64 /* accesses between two looks at how full it is */

struct result {
	size_t hits[CACHE_CLASSES], most;
};

static unsigned int rows, ahead;
static bool failed, checks;

static void write_pages(struct cache_page **pages, size_t count)
{
	for (size_t i = 0; i < count; i++)
		cache_written(pages[i], 0);
}

static const struct cache_space_ops ops = { .write = write_pages };

static void access_page(struct cache_space *space, const struct access *access, struct result *result)
{
	struct cache_page *page;

	if (access->write)
		cache_throttle(space->cache);
	if (cache_get(space, access->page, true, true, &page))
		cache_filled(page, 0);
	else
		result->hits[space->class]++;
	if (access->write)
		cache_dirty(page);
	cache_put(page);
}

static struct result run_ours(const struct trace *trace, size_t budget)
{
	struct sim_world_options world = { .seed = 1 };
	struct cache_config config = { .budget_bytes = budget };
	struct cache_space spaces[CACHE_CLASSES];
	struct result result = { .most = 0 };
	struct cache *cache;

	sim_world_install(&world);
	cache = cache_create(&config);
	for (int class = 0; class < CACHE_CLASSES; class++)
		cache_space_init(cache, &spaces[class], class, PAGE, &ops, NULL);
	for (size_t i = 0; i < trace->length; i++) {
		struct cache_stats stats;

		access_page(&spaces[trace->at[i].node ? CACHE_NODES : CACHE_DATA], &trace->at[i], &result);
		if (i % SAMPLE)
			continue;
		cache_stats(cache, &stats);
		if (stats.class[CACHE_DATA].pages + stats.class[CACHE_NODES].pages > result.most)
			result.most = stats.class[CACHE_DATA].pages + stats.class[CACHE_NODES].pages;
	}
	for (int class = 0; class < CACHE_CLASSES; class++)
		cache_space_fini(&spaces[class]);
	cache_destroy(cache);
	return result;
}

static double percent(size_t part, size_t whole)
{
	return whole ? 100.0 * (double)part / (double)whole : 0;
}

static void compare(const char *name, const struct trace *trace, size_t budget, double behind_most)
{
	struct result ours = run_ours(trace, budget);
	uint32_t room = (uint32_t)ours.most;
	double hit = percent(ours.hits[CACHE_DATA] + ours.hits[CACHE_NODES], trace->length);
	double lru = percent(reference_lru(trace, room, NULL), trace->length);
	bool good = hit > lru - behind_most;

	printf("%-20s %4zu MiB %8u %8zu  %6.2f %6.2f %6.2f %6.2f   %6.2f %6.2f%s\n", name, budget / MIB, trace->pages,
	       trace->length, hit, lru, percent(reference_clock(trace, room), trace->length),
	       percent(reference_belady(trace, room), trace->length),
	       percent(ours.hits[CACHE_DATA], trace->length - trace->nodes),
	       percent(ours.hits[CACHE_NODES], trace->nodes), good ? "" : "   BEHIND");
	fflush(stdout);
	rows++;
	ahead += hit >= lru;
	failed |= !good;
}

static void run_made(void)
{
	size_t budget = 8 * MIB;

	for (const struct trace_maker *maker = trace_makers; maker->name; maker++) {
		struct trace trace = { .at = NULL };

		maker->make(&trace, (uint32_t)(budget / PAGE));
		compare(maker->name, &trace, budget, maker->behind_most);
		trace_free(&trace);
	}
}

/* With room for a twentieth of its pages, and for twice as many up to 4/5: as far as a cache can be so small. */
static void run_recorded(const char *path)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	struct trace trace = { .at = NULL }, below = { .at = NULL };
	char below_name[64];

	trace_load(&trace, path);
	for (size_t parts = 1; parts <= 16; parts *= 2) {
		size_t budget = (size_t)trace.pages * PAGE / 20 * parts;

		if (budget < 4 * MIB)
			continue;
		compare(name, &trace, budget, BEHIND_MOST);
		snprintf(below_name, sizeof(below_name), "%s +k", name);
		trace_below(&trace, (uint32_t)(budget / PAGE), &below);
		compare(below_name, &below, budget, BEHIND_MOST);
		trace_free(&below);
	}
	trace_free(&trace);
}

int main(int argc, char **argv)
{
	checks = argc > 1 && !strcmp(argv[1], "--check");
	argc -= checks;
	argv += checks;
	printf("%-20s %8s %8s %8s  %6s %6s %6s %6s   %6s %6s\n", "trace", "budget", "pages", "uses", "ours", "lru",
	       "clock", "belady", "data", "nodes");
	if (argc == 1)
		run_made();
	for (int i = 1; i < argc; i++)
		run_recorded(argv[i]);
	printf("ahead of LRU in %u of %u\n", ahead, rows);
	return checks && (failed || ahead * 2 <= rows);
}
