/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * range beside the two walks that its history left behind, for n ranges under four loads:
 *
 *   friendly     the oldest range is freed and one of the same length allocated
 *   random       a random range is freed and one of the same length allocated
 *   fragmented   every second block is taken, room for two lies at the far end; between two requests a block at
 *                the near end is freed and taken again, which draws every cached position back there
 *   churn        a random range is freed and one of another length allocated, 1 to 64 blocks, log-uniform
 *
 * The space is four fifths full. Times are of single calls and include the clock's; p99.9 on a busy machine tells of
 * the machine. A walk is stopped after so many nodes, and its column `calls` tells how many calls it got to.
 *
 * Then pairs a second of churn at a million live ranges with and without magazines, by one thread and by two.
 *
 *   range_bench [LARGEST_N]    1000 .. 10000000, which is what it is otherwise
 *
 * Fails if the nodes visited by the fragmented load at the largest n are more than four times those at 1000.
 */
#include "iova_walk.h"

#include "mirrorfs/base/sync.h"
#include "mirrorfs/range.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define CALLS 20000
#define WALK_MAX UINT64_C(20000000) /* nodes a walk may visit in one load */
#define LENGTH_MAX 64
#define ROUNDS 3

enum load { FRIENDLY, RANDOM, FRAGMENTED, CHURN, LOADS };
static const char *const load_names[] = { "friendly", "random", "fragmented", "churn" };

enum subject { WALK, WALK_CACHED, RANGE, SUBJECTS };
static const char *const subject_names[] = { "walk", "walk+cached", "range" };

struct bench {
	enum subject subject;
	struct range *range;
	struct iova_walk *walk;
	enum range_zone zone;
	uint64_t seed;
	uint64_t count;
	struct range_extent *live;
};

static uint64_t random_next(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

static uint64_t random_below(uint64_t *state, uint64_t limit)
{
	return (uint64_t)((unsigned __int128)random_next(state) * limit >> 64);
}

/* Log-uniform lengths, drawn from a table so that the draw costs nothing. */
static unsigned char lengths[1 << 12];

static void fill_lengths(void)
{
	for (unsigned int i = 0; i < sizeof(lengths); i++)
		lengths[i] = (unsigned char)exp2(log2(LENGTH_MAX + 1) * (i + 0.5) / sizeof(lengths));
}

static uint64_t random_length(uint64_t *state)
{
	return lengths[random_next(state) % sizeof(lengths)];
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t cpu_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void *must(void *memory)
{
	if (!memory)
		abort();
	return memory;
}

static bool bench_alloc(struct bench *bench, uint64_t length, struct range_extent *got)
{
	struct range_request request = { .at_least = length, .at_most = length, .zone = bench->zone };

	got->length = length;
	if (bench->subject != RANGE)
		return iova_walk_alloc(bench->walk, length, &got->start);
	return !range_alloc(bench->range, &request, got);
}

static void bench_free(struct bench *bench, const struct range_extent *extent)
{
	if (bench->subject != RANGE)
		iova_walk_free(bench->walk, extent->start);
	else if (range_free(bench->range, extent->start, extent->length))
		abort();
}

static void bench_reserve(struct bench *bench, uint64_t start, uint64_t length)
{
	if (bench->subject != RANGE)
		iova_walk_reserve(bench->walk, start, length);
	else if (range_reserve(bench->range, start, length))
		abort();
}

static uint64_t bench_visited(struct bench *bench)
{
	struct range_stats stats;

	if (bench->subject != RANGE)
		return iova_walk_visited(bench->walk);
	range_stats(bench->range, &stats);
	return stats.visited;
}

/*
 * n ranges in ascending order, a quarter of their length free behind each on average. Fragmented: single blocks, a
 * free one behind each; the last but one stands without free neighbours, so that it can be freed and taken again.
 */
static uint64_t choose_ranges(struct bench *bench, enum load load)
{
	uint64_t seed = bench->seed, position = load == FRAGMENTED ? 2 : 0;

	for (uint64_t i = 0; i < bench->count; i++) {
		uint64_t length = load == FRAGMENTED ? 1 : load == CHURN ? random_length(&seed) : 8;

		bench->live[i] = (struct range_extent){ position, length };
		position += length;
		if (load != FRAGMENTED)
			position += random_below(&seed, length / 2 + 2);
		else if (i + 3 < bench->count)
			position++;
	}
	return position;
}

/* Returns the nanoseconds of processor time that taking them took. */
static uint64_t lay_out(struct bench *bench, enum load load)
{
	uint64_t length = choose_ranges(bench, load), start;

	if (bench->subject == RANGE) {
		struct range_config config = { .length = length, .boundary = bench->zone == RANGE_LOW ? length : 0 };

		bench->range = must(range_create(&config));
	} else {
		bench->walk = iova_walk_create(length, bench->subject == WALK_CACHED);
	}
	start = cpu_ns();
	for (uint64_t i = 0; i < bench->count; i++)
		bench_reserve(bench, bench->live[i].start, bench->live[i].length);
	return cpu_ns() - start;
}

static void bench_end(struct bench *bench)
{
	range_destroy(bench->range);
	if (bench->walk)
		iova_walk_destroy(bench->walk);
	free(bench->live);
}

static int by_value(const void *a, const void *b)
{
	const uint64_t *left = a, *right = b;

	return *left < *right ? -1 : *left > *right;
}

struct times {
	uint64_t *ns;
	uint64_t count;
};

static void print_times(struct times *times)
{
	qsort(times->ns, times->count, sizeof(*times->ns), by_value);
	printf(" %9" PRIu64 " %9" PRIu64, times->ns[times->count / 2], times->ns[times->count * 999 / 1000]);
}

static struct range_extent *choose(struct bench *bench, enum load load, uint64_t call)
{
	switch (load) {
	case FRIENDLY:
		return &bench->live[call % bench->count];
	case FRAGMENTED:
		return &bench->live[bench->count - 2];
	default:
		return &bench->live[random_below(&bench->seed, bench->count)];
	}
}

/* One line of the table. The mean number of nodes that an allocation visited. */
static double run_load(enum subject subject, enum load load, uint64_t n)
{
	struct bench bench = { .subject = subject, .seed = n, .count = n,
			       .zone = load == FRAGMENTED ? RANGE_LOW : RANGE_HIGH };
	struct times allocs = { must(malloc(CALLS * sizeof(uint64_t))), 0 };
	struct times frees = { must(malloc(CALLS * sizeof(uint64_t))), 0 };
	uint64_t visited = 0, failed = 0, calls;

	bench.live = must(malloc(n * sizeof(*bench.live)));
	lay_out(&bench, load);
	for (calls = 0; calls < CALLS && (subject == RANGE || visited < WALK_MAX); calls++) {
		struct range_extent *one = choose(&bench, load, calls), got;
		uint64_t length = load == CHURN ? random_length(&bench.seed) : one->length;
		uint64_t start = now_ns(), before;

		bench_free(&bench, one);
		frees.ns[frees.count++] = now_ns() - start;
		if (load == FRAGMENTED) {
			if (!bench_alloc(&bench, 1, one))
				abort();
			length = 2;
		}
		before = bench_visited(&bench);
		start = now_ns();
		if (!bench_alloc(&bench, length, &got)) {
			failed++;
			if (!bench_alloc(&bench, 1, &got))
				abort();
		}
		allocs.ns[allocs.count++] = now_ns() - start;
		visited += bench_visited(&bench) - before;
		if (load == FRAGMENTED)
			bench_free(&bench, &got);
		else
			*one = got;
	}
	printf("%-10s %9" PRIu64 " %-11s %6" PRIu64, load_names[load], n, subject_names[subject], calls);
	print_times(&allocs);
	print_times(&frees);
	printf(" %11.1f %6" PRIu64 "\n", (double)visited / (double)calls, failed);
	fflush(stdout);
	bench_end(&bench);
	free(allocs.ns);
	free(frees.ns);
	return (double)visited / (double)calls;
}

/*
 * Throughput, without a clock between the calls; by one or more threads on one range. Times are those of the processor
 * that a thread had, so that others who use the machine do not count, and of the wall, where waiting does. Two threads
 * may be more than twice one: each has half of the live ranges, and a processor's cache for them.
 */
struct runner {
	struct thread thread;
	struct range *range;
	struct range_extent *live;
	uint64_t count, pairs, seed, fixed;
	double cpu_ns;
};

struct rate {
	double cpu, wall; /* pairs a second */
};

static uint64_t churn_length(struct runner *runner)
{
	return runner->fixed ? runner->fixed : random_length(&runner->seed);
}

static struct range_extent *choose_next(struct runner *runner)
{
	struct range_extent *next = &runner->live[random_below(&runner->seed, runner->count)];

	__builtin_prefetch(next, 1);
	return next;
}

/* Each victim is chosen a step ahead and fetched: to wait for the list of live ranges is no work of the allocator's. */
static void churn(void *arg)
{
	struct runner *runner = arg;
	struct range_extent *next = choose_next(runner);
	uint64_t start = cpu_ns();

	for (uint64_t i = 0; i < runner->pairs; i++) {
		struct range_extent *one = next;
		uint64_t length = churn_length(runner);
		struct range_request request = { .at_least = length, .at_most = length, .zone = RANGE_LOW };

		next = choose_next(runner);
		if (range_free(runner->range, one->start, one->length) || range_alloc(runner->range, &request, one))
			abort();
	}
	runner->cpu_ns = (double)(cpu_ns() - start);
}

static void start_runners(struct runner *runners, unsigned int threads, uint64_t pairs)
{
	for (unsigned int i = 0; i < threads; i++) {
		runners[i].pairs = pairs;
		if (thread_start(&runners[i].thread, "churn", churn, &runners[i]))
			abort();
	}
	for (unsigned int i = 0; i < threads; i++)
		thread_join(&runners[i].thread);
}

static struct rate measure_rate(uint64_t n, unsigned int threads, uint64_t fixed, bool magazines)
{
	struct runner *runners = must(calloc(threads, sizeof(*runners)));
	uint64_t length = n * (fixed ? fixed : 15) * 5 / 4, each = n / threads, start;
	struct range_config config = { .length = length, .boundary = length,
				       .magazine_length = !magazines ? 0 : fixed ? fixed : 1,
				       .magazine_most = fixed ? fixed : LENGTH_MAX };
	struct bench bench = { .subject = RANGE, .range = must(range_create(&config)),
			       .live = must(malloc(n * sizeof(*bench.live))) };
	struct rate rate = { 0 };

	for (unsigned int i = 0; i < threads; i++) {
		runners[i] = (struct runner){ .range = bench.range, .live = bench.live + each * i, .count = each,
					      .seed = i + 1, .fixed = fixed };
		for (uint64_t j = 0; j < each; j++)
			if (!bench_alloc(&bench, churn_length(&runners[i]), &runners[i].live[j]))
				abort();
	}
	start_runners(runners, threads, 2 * each); /* to grow old */
	start = now_ns();
	start_runners(runners, threads, 2 * n);
	rate.wall = 2e9 * (double)n * threads / (double)(now_ns() - start);
	for (unsigned int i = 0; i < threads; i++)
		rate.cpu += 2e9 * (double)n / runners[i].cpu_ns;
	free(runners);
	bench_end(&bench);
	return rate;
}

static int by_rate(const void *a, const void *b)
{
	const double *left = a, *right = b;

	return *left < *right ? -1 : *left > *right;
}

/* One thread and two, turn by turn; medians. */
static void measure_rates(uint64_t n, uint64_t fixed, bool magazines, struct rate *one, struct rate *two)
{
	double cpu[2][ROUNDS], wall[2][ROUNDS];

	for (unsigned int round = 0; round < ROUNDS; round++)
		for (unsigned int threads = 1; threads <= 2; threads++) {
			struct rate rate = measure_rate(n, threads, fixed, magazines);

			cpu[threads - 1][round] = rate.cpu;
			wall[threads - 1][round] = rate.wall;
		}
	for (unsigned int i = 0; i < 2; i++) {
		qsort(cpu[i], ROUNDS, sizeof(cpu[i][0]), by_rate);
		qsort(wall[i], ROUNDS, sizeof(wall[i][0]), by_rate);
	}
	*one = (struct rate){ cpu[0][ROUNDS / 2], wall[0][ROUNDS / 2] };
	*two = (struct rate){ cpu[1][ROUNDS / 2], wall[1][ROUNDS / 2] };
}

static void print_rates(uint64_t n)
{
	static const char *const names[] = { "churn, 1..64 blocks", "churn, 4 blocks" };

	printf("\nmillion pairs a second of processor time (of wall time), %" PRIu64 " live ranges, medians of %d\n", n,
	       ROUNDS);
	printf("%-20s %-10s %16s %16s %8s\n", "load", "magazines", "one thread", "two threads", "ratio");
	for (unsigned int load = 0; load < 2; load++)
		for (int magazines = 1; magazines >= 0; magazines--) {
			struct rate one, two;

			measure_rates(n, load * 4, magazines, &one, &two);
			printf("%-20s %-10s %7.2f (%6.2f) %7.2f (%6.2f) %5.2f (%4.2f)\n", names[load],
			       magazines ? "yes" : "no", one.cpu / 1e6, one.wall / 1e6, two.cpu / 1e6, two.wall / 1e6,
			       two.cpu / one.cpu, two.wall / one.wall);
			fflush(stdout);
		}
}

static bool print_load(uint64_t n)
{
	struct bench bench = { .subject = RANGE, .seed = 1, .count = n };
	struct range_stats stats;
	uint64_t taken_ns;

	bench.live = must(malloc(n * sizeof(*bench.live)));
	taken_ns = lay_out(&bench, FRAGMENTED);
	range_stats(bench.range, &stats);
	printf("\nload of %" PRIu64 " ranges in ascending order: %.1f ns and %.1f bytes a range\n", n,
	       (double)taken_ns / (double)n, (double)stats.memory_bytes / (double)n);
	bench_end(&bench);
	return stats.memory_bytes < UINT64_C(1) << 30;
}

/* Ranges at random, as a checkpoint frees them. */
static void print_deferred(uint64_t n)
{
	struct bench bench = { .subject = RANGE, .seed = 1, .count = n };
	uint64_t start, deferred_ns;

	bench.live = must(malloc(n * sizeof(*bench.live)));
	lay_out(&bench, CHURN);
	for (uint64_t i = 0; i < n; i++) {
		uint64_t other = random_below(&bench.seed, n);
		struct range_extent one = bench.live[i];

		bench.live[i] = bench.live[other];
		bench.live[other] = one;
	}
	start = cpu_ns();
	for (uint64_t i = 0; i < n; i++)
		if (range_defer(bench.range, bench.live[i].start, bench.live[i].length, 1))
			abort();
	deferred_ns = cpu_ns() - start;
	start = cpu_ns();
	range_release(bench.range, 1, NULL, NULL);
	printf("flush queue, %" PRIu64 " ranges at random: %.1f ns to defer one, %.1f ns to release it\n", n,
	       (double)deferred_ns / (double)n, (double)(cpu_ns() - start) / (double)n);
	bench_end(&bench);
}

int main(int argc, char **argv)
{
	uint64_t largest = argc > 1 ? strtoull(argv[1], NULL, 0) : 10000000;
	double first = 0, last = 0;

	fill_lengths();
	printf("%-10s %9s %-11s %6s %9s %9s %9s %9s %11s %6s\n", "load", "n", "allocator", "calls", "alloc p50",
	       "p99.9", "free p50", "p99.9", "nodes/alloc", "failed");
	for (enum load load = 0; load < LOADS; load++)
		for (uint64_t n = 1000; n <= largest; n *= 10)
			for (enum subject subject = 0; subject < SUBJECTS; subject++) {
				double visited = run_load(subject, load, n);

				if (load != FRAGMENTED || subject != RANGE)
					continue;
				first = n == 1000 ? visited : first;
				last = visited;
			}
	if (!print_load(largest))
		return EXIT_FAILURE;
	print_deferred(1000000);
	print_rates(1000000);
	printf("\nfragmented: %.1f nodes at 1000, %.1f at %" PRIu64 "\n", first, last, largest);
	return last > 4 * first ? EXIT_FAILURE : EXIT_SUCCESS;
}
