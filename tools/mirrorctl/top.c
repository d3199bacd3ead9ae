/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What happens on a mount: the difference between two answers to "stats", as a screen for people. */
#include "answer.h"

#include "mirrorfs/base/clock.h"
#include "mirrorfs/base/histogram.h"

#include <string.h>
#include <time.h>

#define BARS_WIDTH 40

/* ---- differences ---- */

static void add_buckets(struct histogram *to, const json_t *times, bool less)
{
	const json_t *bucket;
	unsigned int at = 0;
	size_t i;

	json_array_foreach(json_object_get(times, "buckets"), i, bucket)
	{
		const json_t *below = json_array_get(bucket, 0);
		uint64_t count = (uint64_t)json_integer_value(json_array_get(bucket, 1));

		while (at < HISTOGRAM_BUCKETS - 1 &&
		       (json_is_null(below) || histogram_bound_ns(at) < (uint64_t)json_integer_value(below)))
			at++;
		to->bucket[at] += less ? -count : count;
	}
	to->count += less ? -answer_number(times, "count") : answer_number(times, "count");
	to->sum_ns += less ? -answer_number(times, "sum_ns") : answer_number(times, "sum_ns");
}

/* What has come to it since `before`, which may lack it. */
static struct histogram since(const json_t *now, const json_t *before)
{
	struct histogram histogram = { .count = 0 };

	add_buckets(&histogram, now, false);
	add_buckets(&histogram, before, true);
	return histogram;
}

static double rate(const json_t *now, const json_t *before, const char *key, double seconds)
{
	return ((double)answer_number(now, key) - (double)answer_number(before, key)) / seconds;
}

/* ---- lines ---- */

static void times_line(const char *name, const struct histogram *took, double bytes, double seconds)
{
	char mean[16], half[16], most[16], size[32] = "";

	if (!took->count)
		return;
	if (bytes > 0)
		snprintf(size, sizeof(size), "%.1f MiB/s", bytes / (1 << 20));
	printf("  %-16s %9.0f/s %14s %s %s %s\n", name, (double)took->count / seconds, size,
	       answer_duration(took->sum_ns / took->count, mean),
	       answer_duration(histogram_quantile_ns(took, 0.5), half),
	       answer_duration(histogram_quantile_ns(took, 0.99), most));
}

static void operations(const json_t *now, const json_t *before, double seconds, struct histogram *all)
{
	const json_t *times, *then;
	const char *name;

	json_object_foreach((json_t *)json_object_get(now, "operations"), name, times)
	{
		struct histogram took;

		then = json_object_get(json_object_get(before, "operations"), name);
		took = since(times, then);
		times_line(name, &took, rate(times, then, "bytes", seconds), seconds);
		for (unsigned int i = 0; i < HISTOGRAM_BUCKETS; i++)
			all->bucket[i] += took.bucket[i];
		all->count += took.count;
	}
}

static void legs(const json_t *now, const json_t *before, double seconds)
{
	const json_t *leg, *times;
	const char *operation;
	char name[32];
	size_t i;

	json_array_foreach(json_object_get(now, "legs"), i, leg)
	{
		const json_t *then = json_array_get(json_object_get(before, "legs"), i);

		printf("  leg %zu: %s%s, %llu in its queue\n", i, answer_text(leg, "state"),
		       json_is_true(json_object_get(leg, "slow")) ? ", SLOW" : "",
		       answer_number(leg, "queue"));
		json_object_foreach((json_t *)json_object_get(leg, "times"), operation, times)
		{
			const json_t *times_then = json_object_get(json_object_get(then, "times"), operation);
			struct histogram took = since(times, times_then);

			snprintf(name, sizeof(name), "  %s", operation);
			times_line(name, &took,
				   rate(json_object_get(json_object_get(leg, "io"), operation),
					json_object_get(json_object_get(then, "io"), operation), "bytes", seconds),
				   seconds);
		}
	}
}

/* A bar for each doubling in which there was something. */
static void bars(const struct histogram *all)
{
	static const char full[] = "########################################";
	uint64_t most = 0, sum[HISTOGRAM_DOUBLINGS + 2] = { 0 };
	unsigned int first = HISTOGRAM_DOUBLINGS + 2, last = 0;
	char bound[16];

	for (unsigned int i = 0; i < HISTOGRAM_BUCKETS; i++) {
		unsigned int row = (i + HISTOGRAM_STEPS - 1) / HISTOGRAM_STEPS;

		sum[row] += all->bucket[i];
		if (all->bucket[i] && row < first)
			first = row;
		last = all->bucket[i] ? row : last;
		most = sum[row] > most ? sum[row] : most;
	}
	for (unsigned int row = first; row <= last; row++)
		printf("  < %s %10llu %.*s\n",
		       answer_duration((uint64_t)HISTOGRAM_FIRST_NS << row, bound), (unsigned long long)sum[row],
		       (int)(sum[row] * BARS_WIDTH / most), full);
}

void answer_print_top(const char *mountpoint, const json_t *now, const json_t *before, double seconds)
{
	const json_t *cache = json_object_get(now, "cache"), *data = json_object_get(cache, "data");
	struct histogram all = { .count = 0 };
	char clock[16], used[32], budget[32];
	uint32_t nanoseconds;
	int64_t wall;

	clock_wall(&wall, &nanoseconds);
	strftime(clock, sizeof(clock), "%T", localtime(&(time_t){ wall }));
	printf("%s: ", mountpoint);
	answer_print_health(now);
	printf("   %s, of %.1f s\n", clock, seconds);
	printf("  requests %.0f/s, %llu in flight; commits %.0f/s, checkpoints %.1f/s\n",
	       rate(json_object_get(now, "transport"), json_object_get(before, "transport"), "requests", seconds),
	       answer_number(json_object_get(now, "transport"), "in_flight"),
	       rate(json_object_get(now, "meta"), json_object_get(before, "meta"), "commits", seconds),
	       rate(json_object_get(now, "meta"), json_object_get(before, "meta"), "checkpoints", seconds));
	printf("  cache %s of %s, %llu pages dirty\n", answer_size(answer_number(cache, "used_bytes"), used),
	       answer_size(answer_number(cache, "budget_bytes"), budget), answer_number(data, "dirty"));
	printf("  %-16s %11s %14s %10s %10s %10s\n", "", "", "", "mean", "half below", "99 %");
	operations(now, before, seconds, &all);
	legs(now, before, seconds);
	bars(&all);
	fflush(stdout);
}
