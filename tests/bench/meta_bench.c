/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What meta costs against the number of keys. Half of n keys are extents of one file, a block each, with a free block
 * between any two of them; the other half are the records of their allocation.
 *
 *   fill        in four passes over the file, 16 extents a transaction    a key
 *   look-up     a random extent                                           one
 *   insert      a random extent (two keys) in a transaction of its own    one
 *   scan        20000 extents in a row                                    a key
 *   commit      the same as insert, made durable                          one
 *   checkpoint  of what these have changed                                all
 *   mount       of a volume that was unmounted                            all
 *   replay      mount of one whose process ended without a word, the ring as full as it gets: n keys at most
 *
 * `nodes` are nodes of the tree that were looked at, each time; behind mount and replay, those read from the legs.
 *
 *   meta_bench [-d DIR] [LARGEST_N]    1000 .. 10000000, 1000000 otherwise; with -d on images in DIR, else in memory
 *
 * Fails if the nodes that a look-up, an insertion or a key of the scan visits at the largest n are more than four times
 * those at 1000 (and the tree's height has not grown as much), or if a mount reads more than there is to read.
 */
#include "volume.h"

#include "mirrorfs/base/clock.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OBJECT 2u
#define TOGETHER 16u
#define SAMPLES 20000u
#define COMMITS 1000u
#define MOUNTS 3u
#define CACHE_BYTES (UINT64_C(512) << 20)
#define PASSES 4u
#define APART 512u /* blocks of the file from one extent to the next: there is room for insertions */

struct cost {
	double ns, nodes;
};

struct line {
	uint64_t extents;
	uint64_t height;
	struct cost fill, lookup, insert, scan, commit, checkpoint;
	struct cost mount, replay;
	uint64_t mounts_ns[MOUNTS], nodes_there, nodes_written, replayed;
};

static struct line *line;
static uint64_t seed = 1;

/* ---- a clock and a counter around something that is done `times` times ---- */

static struct {
	uint64_t ns, visits;
} before;

static void begin(void)
{
	before.visits = node_visits();
	before.ns = clock_now_ns();
}

static struct cost end(uint64_t times)
{
	uint64_t ns = clock_now_ns() - before.ns;

	return (struct cost){ (double)ns / (double)times, (double)(node_visits() - before.visits) / (double)times };
}

/* ---- what is measured ---- */

/* The block mapped. */
static uint64_t map_one(struct meta_txn *txn, uint64_t offset, uint64_t goal)
{
	const struct meta_aim aim = { .goal = goal, .at_least = 1 };
	struct range_extent extent;
	const uint32_t crc = 0;
	uint64_t freed;

	MUST(meta_alloc(txn, &aim, 1, &extent));
	MUST(meta_map_put(txn, OBJECT, offset, &extent, &crc, NULL, &freed));
	return extent.start;
}

/* An odd block is between those that were filled. */
static uint64_t insert_one(void)
{
	struct meta_txn *txn = meta_txn_begin(meta);
	uint64_t sequence;

	MUST(meta_promise(meta, 1));
	map_one(txn, 2 * random_below(&seed, line->extents * APART / 2) + 1, 0);
	MUST(meta_txn_commit(txn, &sequence));
	return sequence;
}

static void fill(void)
{
	uint64_t n = line->extents, in_pass = n / PASSES, goal = 0;

	for (uint64_t i = 0; i < n;) {
		struct meta_txn *txn = meta_txn_begin(meta);
		uint64_t count = n - i < TOGETHER ? n - i : TOGETHER;

		MUST(meta_promise(meta, count));
		for (uint64_t last = i + count; i < last; i++)
			goal = 2 + map_one(txn, (i % in_pass * PASSES + i / in_pass) * APART, goal);
		MUST(meta_txn_commit(txn, NULL));
	}
}

static void look_up(void)
{
	for (unsigned int i = 0; i < SAMPLES; i++) {
		struct meta_key key = { OBJECT, TYPE_EXTENT, random_below(&seed, line->extents) * APART };

		if (meta_get(meta, &key, NULL, 0) <= 0)
			must_be_zero(ENOENT, "a key is missing");
	}
}

static uint64_t scan(void)
{
	const struct meta_key last = { OBJECT, TYPE_EXTENT, UINT64_MAX };
	uint64_t most = line->extents < SAMPLES ? line->extents : SAMPLES, count = 0;
	struct meta_key key = { OBJECT, TYPE_EXTENT, random_below(&seed, line->extents - most + 1) * APART };

	for (; count < most && meta_next(meta, &key, &last, NULL, 0) > 0; count++)
		key.offset++;
	return count;
}

static void commits(void)
{
	for (unsigned int i = 0; i < COMMITS; i++)
		MUST(meta_sync(meta, insert_one()));
}

static void checkpoint(void)
{
	struct meta_stats stats;

	meta_stats(meta, &stats);
	line->height = stats.tree_height;
	line->nodes_written = stats.dirty_nodes;
	begin();
	MUST(meta_checkpoint(meta));
	line->checkpoint = end(1);
}

/* ---- the parts, a process each ---- */

static void part_fill(void *context)
{
	uint64_t scanned;

	volume_mount(CACHE_BYTES);
	begin();
	fill();
	line->fill = end(2 * line->extents);
	MUST(meta_checkpoint(meta));
	look_up(); /* once to warm up */
	begin();
	look_up();
	line->lookup = end(SAMPLES);
	begin();
	scanned = scan();
	line->scan = end(scanned);
	begin();
	for (unsigned int i = 0; i < COMMITS; i++)
		insert_one();
	line->insert = end(COMMITS);
	begin();
	commits();
	line->commit = end(COMMITS);
	checkpoint();
	volume_unmount();
}

static int by_time(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void part_mount(void *context)
{
	*(uint64_t *)context = volume_mount(CACHE_BYTES);
	line->mount.nodes = (double)node_reads();
	volume_unmount();
}

/* As much as the ring takes before a checkpoint is due. */
static void part_crash(void *context)
{
	struct meta_stats stats;

	volume_mount(CACHE_BYTES);
	for (uint64_t i = 0; i < line->extents; i++) {
		insert_one();
		meta_stats(meta, &stats);
		if (stats.ring_used_blocks > stats.ring_blocks / 3 || stats.checkpoints > 1)
			break;
		if (i % TOGETHER == 0)
			MUST(meta_sync(meta, meta_sequence(meta)));
	}
	MUST(meta_sync(meta, meta_sequence(meta)));
}

static void part_replay(void *context)
{
	struct meta_stats stats;

	line->replay.ns = (double)volume_mount(CACHE_BYTES);
	line->replay.nodes = (double)node_reads();
	meta_stats(meta, &stats);
	line->replayed = stats.replayed;
	volume_unmount();
}

static void measure(const char *dir, uint64_t n)
{
	*line = (struct line){ .extents = n / 2 };
	/* Two blocks an extent, and room for all nodes twice. */
	volume_make(dir, (UINT64_C(256) << 20) + n * 4096 + n * 1024);
	volume_part(part_fill, NULL);
	for (unsigned int i = 0; i < MOUNTS; i++)
		volume_part(part_mount, &line->mounts_ns[i]);
	qsort(line->mounts_ns, MOUNTS, sizeof(line->mounts_ns[0]), by_time);
	line->mount.ns = (double)line->mounts_ns[MOUNTS / 2];
	volume_part(part_crash, NULL);
	volume_part(part_replay, NULL);
	volume_end();
}

static void print(uint64_t n)
{
	printf("%9" PRIu64 " %6" PRIu64 " %7.0f %6.1f %7.0f %6.1f %7.0f %6.1f %7.0f %6.2f %8.1f %7.1f %6" PRIu64
	       " %8.1f %7.0f %8.1f %7.0f %7" PRIu64 "\n",
	       n, line->height, line->fill.ns, line->fill.nodes, line->lookup.ns, line->lookup.nodes, line->insert.ns,
	       line->insert.nodes, line->scan.ns, line->scan.nodes, line->commit.ns / 1e3, line->checkpoint.ns / 1e6,
	       line->nodes_written, line->mount.ns / 1e6, line->mount.nodes, line->replay.ns / 1e6,
	       line->replay.nodes, line->replayed);
	fflush(stdout);
}

static bool grew(const char *what, double first, double last)
{
	printf("%s: %.1f nodes at 1000 keys, %.1f at the most\n", what, first, last);
	return last > 4 * first;
}

int main(int argc, char **argv)
{
	uint64_t largest = 1000000, start = clock_now_ns();
	const char *dir = NULL;
	struct line first = { 0 };
	bool failed = false;
	int option;

	while ((option = getopt(argc, argv, "d:")) == 'd')
		dir = optarg;
	if (option != -1)
		return EXIT_FAILURE;
	if (optind < argc)
		largest = strtoull(argv[optind], NULL, 0);
	line = shared(sizeof(*line));
	printf("%9s %6s %14s %14s %14s %14s %8s %14s %16s %24s\n", "", "", "fill", "look-up", "insert", "scan",
	       "commit", "checkpoint", "mount", "replay");
	printf("%9s %6s %7s %6s %7s %6s %7s %6s %7s %6s %8s %7s %6s %8s %7s %8s %7s %7s\n", "keys", "height", "ns",
	       "nodes", "ns", "nodes", "ns", "nodes", "ns", "nodes", "us", "ms", "nodes", "ms", "nodes", "ms", "nodes",
	       "records");
	for (uint64_t n = 1000; n <= largest; n *= 10) {
		measure(dir, n);
		print(n);
		if (n == 1000)
			first = *line;
	}
	failed |= grew("look-up", first.lookup.nodes, line->lookup.nodes);
	failed |= grew("insert", first.insert.nodes, line->insert.nodes);
	failed |= grew("scan", first.scan.nodes, line->scan.nodes);
	printf("%.0f s in all\n", (double)(clock_now_ns() - start) / 1e9);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
