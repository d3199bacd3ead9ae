/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How long does a checkpoint keep writers waiting? Threads commit to random places of a tree with many leaves, so that
 * each checkpoint has much to write, and the time of each commit is taken.
 *
 *   puts     four threads, each commit changes four items of 100 bytes
 *   synced   the same, and each is made durable
 *   filling  four threads that add items in order, 100 a commit: the ring fills before the nodes are many
 *
 * `waited` are commits that found no room and had to wait for a checkpoint to end.
 *
 *   stall_bench [-d DIR] [-c CACHE_MIB] [-s SECONDS] [ITEMS]    of each load; 1000000 items in the tree, in memory
 */
#include "volume.h"

#include "mirrorfs/base/clock.h"
#include "mirrorfs/base/sync.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OBJECT 2u
#define THREADS 4u
#define ITEM_BYTES 100u
#define SAMPLES_MAX (1u << 22) /* a thread */

enum load { PUTS, SYNCED, FILLING, LOADS };
static const char *const load_names[] = { "puts", "synced", "filling" };

static uint64_t items = 1000000, cache_bytes = UINT64_C(512) << 20, seconds = 10;

struct writer {
	struct thread thread;
	enum load load;
	uint64_t seed, until_ns, next;
	uint32_t count, *us;
};

static void put(struct meta_txn *txn, uint64_t object, uint64_t number)
{
	static const unsigned char value[ITEM_BYTES];
	const struct meta_key key = { object, TYPE_XATTR, number };

	meta_txn_put(txn, &key, value, sizeof(value));
}

static void fill(void *context)
{
	volume_mount(cache_bytes);
	for (uint64_t i = 0; i < items;) {
		struct meta_txn *txn = meta_txn_begin(meta);

		for (unsigned int n = 0; n < 100 && i < items; n++)
			put(txn, OBJECT, i++);
		MUST(meta_txn_commit(txn, NULL));
	}
	volume_unmount();
}

static void commit_one(struct writer *writer)
{
	struct meta_txn *txn = meta_txn_begin(meta);
	uint64_t sequence;

	for (unsigned int i = 0; i < (writer->load == FILLING ? 100 : 4); i++) {
		if (writer->load == FILLING)
			put(txn, OBJECT + 1 + writer->seed, writer->next++);
		else
			put(txn, OBJECT, random_below(&writer->seed, items));
	}
	MUST(meta_txn_commit(txn, &sequence));
	if (writer->load == SYNCED)
		MUST(meta_sync(meta, sequence));
}

static void writer_run(void *arg)
{
	struct writer *writer = arg;
	uint64_t start = clock_now_ns(), now;

	for (; start < writer->until_ns && writer->count < SAMPLES_MAX; start = now) {
		commit_one(writer);
		now = clock_now_ns();
		writer->us[writer->count++] = (uint32_t)((now - start) / 1000);
	}
}

static int by_value(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static uint32_t *gather(struct writer *writers, uint32_t *count)
{
	uint32_t *all = malloc(THREADS * (size_t)SAMPLES_MAX * sizeof(*all));

	*count = 0;
	for (unsigned int i = 0; i < THREADS; i++) {
		memcpy(all + *count, writers[i].us, writers[i].count * sizeof(*all));
		*count += writers[i].count;
		free(writers[i].us);
	}
	qsort(all, *count, sizeof(*all), by_value);
	return all;
}

static void run(void *context)
{
	enum load load = *(enum load *)context;
	struct writer writers[THREADS];
	struct meta_stats before, after;
	uint32_t *all, count;
	uint64_t start;

	volume_mount(cache_bytes);
	meta_stats(meta, &before);
	start = clock_now_ns();
	for (unsigned int i = 0; i < THREADS; i++) {
		writers[i] = (struct writer){ .load = load, .seed = i, .until_ns = start + seconds * NSEC_PER_SEC };
		writers[i].us = malloc(SAMPLES_MAX * sizeof(uint32_t));
		MUST(thread_start(&writers[i].thread, "writer", writer_run, &writers[i]));
	}
	for (unsigned int i = 0; i < THREADS; i++)
		thread_join(&writers[i].thread);
	start = clock_now_ns() - start;
	meta_stats(meta, &after);
	all = gather(writers, &count);
	printf("%-8s %10.0f %8.3f %8.3f %8.3f %8.3f %11" PRIu64 " %7" PRIu64 "\n", load_names[load],
	       (double)count * 1e9 / (double)start, all[count / 2] / 1e3, all[count - 1 - count / 100] / 1e3,
	       all[count - 1 - count / 1000] / 1e3, all[count - 1] / 1e3, after.checkpoints - before.checkpoints,
	       after.waited - before.waited);
	free(all);
	volume_unmount();
}

int main(int argc, char **argv)
{
	const char *dir = NULL;
	int option;

	while ((option = getopt(argc, argv, "d:c:s:")) != -1) {
		switch (option) {
		case 'd': dir = optarg; break;
		case 'c': cache_bytes = strtoull(optarg, NULL, 0) << 20; break;
		case 's': seconds = strtoull(optarg, NULL, 0); break;
		default: return EXIT_FAILURE;
		}
	}
	if (optind < argc)
		items = strtoull(argv[optind], NULL, 0);
	volume_make(dir, (UINT64_C(4) << 30) + items * 1024);
	volume_part(fill, NULL);
	printf("%-8s %10s %8s %8s %8s %8s %11s %7s\n", "load", "commits/s", "p50 ms", "p99", "p99.9", "longest",
	       "checkpoints", "waited");
	for (enum load load = 0; load < LOADS; load++)
		volume_part(run, &load);
	volume_end();
	return EXIT_SUCCESS;
}
