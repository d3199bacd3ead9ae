/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What "stats" answers, as tables for people. */
#include "answer.h"

const char *answer_duration(unsigned long long ns, char text[16])
{
	static const char *const units[] = { "us", "ms", "s " };
	double value = (double)ns / 1e3;
	int unit = 0;

	while (value >= 999.95 && unit < 2) {
		value /= 1e3;
		unit++;
	}
	snprintf(text, 16, "%7.1f %s", value, units[unit]);
	return text;
}

static void print_times(const char *name, const json_t *times)
{
	unsigned long long count = answer_number(times, "count");
	char mean[16], half[16], most[16], nearly[16];

	if (count)
		printf("  %-18s %12llu %s %s %s %s", name, count,
		       answer_duration(answer_number(times, "sum_ns") / count, mean),
		       answer_duration(answer_number(times, "p50_ns"), half),
		       answer_duration(answer_number(times, "p99_ns"), most),
		       answer_duration(answer_number(times, "p999_ns"), nearly));
}

static void print_operations(const json_t *operations)
{
	const json_t *times, *count;
	const char *name, *class;
	char size[32];

	json_object_foreach((json_t *)operations, name, times)
	{
		print_times(name, times);
		if (answer_number(times, "bytes"))
			printf("  %s", answer_size(answer_number(times, "bytes"), size));
		json_object_foreach((json_t *)json_object_get(times, "errors"), class, count)
			if (json_integer_value(count))
				printf("  %" JSON_INTEGER_FORMAT " errors (%s)", json_integer_value(count), class);
		putchar('\n');
	}
}

static void print_leg_times(const json_t *legs)
{
	const json_t *leg, *times;
	const char *operation;
	char name[32];
	size_t i;

	json_array_foreach(legs, i, leg)
		json_object_foreach((json_t *)json_object_get(leg, "times"), operation, times)
		{
			if (!answer_number(times, "count"))
				continue;
			snprintf(name, sizeof(name), "leg %zu %s", i, operation);
			print_times(name, times);
			putchar('\n');
		}
}

static void print_journal_times(const json_t *journal)
{
	const json_t *times;
	const char *name;

	json_object_foreach((json_t *)journal, name, times)
	{
		if (!answer_number(times, "count"))
			continue;
		print_times(name, times);
		putchar('\n');
	}
}

void answer_print_stats(const char *mountpoint, const json_t *result)
{
	static const char *const rows[] = { "hits",  "misses",	"passed",  "refaults", "pages",	 "bytes",
					    "dirty", "writing", "scanned", "stolen",   "direct", "stalls" };
	const json_t *cache = json_object_get(result, "cache");
	char used[32], budget[32], resident[32];

	printf("%s: ", mountpoint);
	answer_print_health(result);
	printf("\n  %-18s %12s %10s %10s %10s %10s\n", "", "count", "mean", "half below", "99 %", "99.9 %");
	print_operations(json_object_get(result, "operations"));
	print_leg_times(json_object_get(result, "legs"));
	print_journal_times(json_object_get(json_object_get(result, "meta"), "times"));
	printf("  cache: %s of %s in use, %s resident; %llu wake-ups, %llu slowed, %llu throttled\n",
	       answer_size(answer_number(cache, "used_bytes"), used),
	       answer_size(answer_number(cache, "budget_bytes"), budget),
	       answer_size(answer_number(cache, "resident_bytes"), resident), answer_number(cache, "wakeups"),
	       answer_number(cache, "slowed"), answer_number(cache, "throttled"));
	printf("  %-10s %16s %16s\n", "", "data", "nodes");
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		printf("  %-10s %16llu %16llu\n", rows[i], answer_number(json_object_get(cache, "data"), rows[i]),
		       answer_number(json_object_get(cache, "nodes"), rows[i]));
}
