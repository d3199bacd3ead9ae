/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The text format of Prometheus, version 0.0.4, out of answers to "stats": one for each mount, since a family of
 * metrics must stand together. Pure.
 */
#include "ctl_private.h"

#include <stdio.h>
#include <string.h>

#define PREFIX "mirrorfs_"
#define LABELS_MAX 640
#define LE_DOUBLINGS 28 /* of the bounds of a histogram, from 1.024 us to 137 s */

/* One number of a mount, a leg or a class of pages. */
struct metric {
	const char *name, *type, *help;
	const char *object; /* in which it stands; of a leg or class NULL: there itself */
	const char *key;
	double scale;
};

static const struct metric volume_metrics[] = {
	{ "read_only", "gauge", "The mount cannot be written.", "volume", "read_only", 1 },
	{ "size_bytes", "gauge", "Size of the volume for data and metadata.", "space", "size_bytes", 1 },
	{ "free_bytes", "gauge", "Space that is free.", "space", "free_bytes", 1 },
	{ "available_bytes", "gauge", "Space that files can take.", "space", "available_bytes", 1 },
	{ "deferred_bytes", "gauge", "Space that is free at the next checkpoint.", "space", "deferred_bytes", 1 },
	{ "largest_free_bytes", "gauge", "The longest piece of free space.", "space", "largest_free_bytes", 1 },
	{ "requests_total", "counter", "Requests from the kernel.", "transport", "requests", 1 },
	{ "requests_in_flight", "gauge", "Requests being carried out.", "transport", "in_flight", 1 },
	{ "retries_total", "counter", "Requests tried again.", "mirror", "retries", 1 },
	{ "request_errors_total", "counter", "Requests to legs that were wrong in themselves.", "mirror",
	  "request_errors", 1 },
	{ "deadlines_missed_total", "counter", "Requests answered because their time was up.", "mirror",
	  "deadline_missed", 1 },
	{ "unrecoverable_blocks", "gauge", "Blocks known to be bad on every leg.", "mirror", "unrecoverable", 1 },
	{ "resync_done_bytes", "gauge", "Copied by the resync that runs.", "resync", "done_bytes", 1 },
	{ "resync_wanted_bytes", "gauge", "To be copied by the resync that runs.", "resync", "total_bytes", 1 },
	{ "resyncs_total", "counter", "Resyncs that have ended.", "resync", "ended", 1 },
	{ "scrub_running", "gauge", "A scrub runs.", "scrub", "running", 1 },
	{ "scrub_end_timestamp_seconds", "gauge", "When the latest scrub ended; 0: it has not.", "scrub", "ended", 1 },
	{ "scrub_repaired_blocks", "gauge", "Blocks that the latest scrub healed.", "scrub", "repaired", 1 },
	{ "scrub_unrecoverable_blocks", "gauge", "Blocks that the latest scrub found bad on every leg.", "scrub",
	  "unrecoverable", 1 },
	{ "commits_total", "counter", "Transactions committed.", "meta", "commits", 1 },
	{ "journal_records_total", "counter", "Records written to the journal.", "meta", "records", 1 },
	{ "checkpoints_total", "counter", "Checkpoints made.", "meta", "checkpoints", 1 },
	{ "journal_used_bytes", "gauge", "Journal that is still needed.", "meta", "ring_used_blocks", MIRROR_BLOCK },
	{ "journal_size_bytes", "gauge", "Size of the journal.", "meta", "ring_blocks", MIRROR_BLOCK },
	{ "dirty_nodes", "gauge", "Tree nodes that wait for a checkpoint.", "meta", "dirty_nodes", 1 },
	{ "cache_budget_bytes", "gauge", "Memory that the cache may use.", "cache", "budget_bytes", 1 },
	{ "cache_used_bytes", "gauge", "Memory that the cache uses.", "cache", "used_bytes", 1 },
	{ "cache_resident_bytes", "gauge", "Memory that the cache keeps.", "cache", "resident_bytes", 1 },
	{ "cache_wakeups_total", "counter", "Wake-ups of the reclaimer.", "cache", "wakeups", 1 },
	{ "cache_throttled_total", "counter", "Writers that waited as too much was dirty.", "cache", "throttled", 1 },
	{ "cache_slowed_total", "counter", "Writers that were slowed as much was dirty.", "cache", "slowed", 1 },
	{ "resident_bytes", "gauge", "Memory of the daemon.", "memory", "resident_bytes", 1 },
	{ "resident_limit_bytes", "gauge", "Memory that the daemon has at most.", "memory", "limit_bytes", 1 },
	{ "inodes", "gauge", "Inodes in memory.", "fs", "inodes", 1 },
};

static const struct metric leg_metrics[] = {
	{ "leg_slow", "gauge", "The leg is far slower than the other one.", NULL, "slow", 1 },
	{ "leg_size_bytes", "gauge", "Size of the leg.", NULL, "size_bytes", 1 },
	{ "leg_in_flight", "gauge", "Requests that the leg has.", NULL, "queue", 1 },
	{ "leg_abandoned", "gauge", "Requests given up that the leg still has.", NULL, "abandoned", 1 },
	{ "leg_read_errors_total", "counter", "Reads that failed on the leg or came back wrong.", NULL, "read_errors",
	  1 },
	{ "leg_checksum_errors_total", "counter", "Blocks that came without an error and were wrong.", NULL,
	  "checksum_errors", 1 },
	{ "leg_repaired_blocks_total", "counter", "Blocks rewritten with the good copy.", NULL, "repaired", 1 },
	{ "leg_timeouts_total", "counter", "Requests not answered in time.", NULL, "timeouts", 1 },
	{ "leg_charged_errors_total", "counter", "Errors held against the leg.", NULL, "charged", 1 },
	{ "leg_hedged_reads_total", "counter", "Reads so late that the other leg was asked, too.", NULL, "hedged", 1 },
	{ "leg_overtaken_reads_total", "counter", "Late reads that the other leg answered first.", NULL, "overtaken",
	  1 },
};

static const struct metric cache_metrics[] = {
	{ "cache_bytes", "gauge", "Memory of pages.", NULL, "bytes", 1 },
	{ "cache_dirty_pages", "gauge", "Pages that wait to be written.", NULL, "dirty", 1 },
	{ "cache_writing_pages", "gauge", "Pages being written.", NULL, "writing", 1 },
	{ "cache_hits_total", "counter", "Pages found in the cache.", NULL, "hits", 1 },
	{ "cache_misses_total", "counter", "Pages not found in the cache.", NULL, "misses", 1 },
	{ "cache_passed_total", "counter", "Misses read past the cache.", NULL, "passed", 1 },
	{ "cache_refaults_total", "counter", "Misses of pages given up not long before.", NULL, "refaults", 1 },
	{ "cache_scanned_total", "counter", "Pages looked at to find memory.", NULL, "scanned", 1 },
	{ "cache_stolen_total", "counter", "Pages given up for memory.", NULL, "stolen", 1 },
	{ "cache_direct_total", "counter", "Requests that found memory themselves.", NULL, "direct", 1 },
	{ "cache_stalls_total", "counter", "Requests that waited for memory.", NULL, "stalls", 1 },
};

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

/* ---- lines ---- */

static double number(const json_t *json)
{
	return json_is_true(json) ? 1 : json_number_value(json);
}

static void family(FILE *out, const char *name, const char *type, const char *help)
{
	fprintf(out, "# HELP " PREFIX "%s %s\n# TYPE " PREFIX "%s %s\n", name, help, name, type);
}

/* The text of a label: with backslash, quote and newline escaped. */
static void label_put(char *labels, size_t size, const char *name, const char *value)
{
	size_t used = strlen(labels);

	used += (size_t)snprintf(labels + used, size - used, "%s%s=\"", used ? "," : "", name);
	for (; *value && used + 4 < size; value++) {
		if (*value == '\\' || *value == '"' || *value == '\n')
			labels[used++] = '\\';
		labels[used++] = *value == '\n' ? 'n' : *value;
	}
	snprintf(labels + used, size - used, "\"");
}

static const char *text_of(const json_t *json, const char *key)
{
	return json_string_value(json_object_get(json, key)) ?: "";
}

static void mount_labels(const json_t *stats, char labels[LABELS_MAX])
{
	labels[0] = '\0';
	label_put(labels, LABELS_MAX / 2, "mountpoint", text_of(json_object_get(stats, "volume"), "mountpoint"));
}

static void leg_labels(const json_t *stats, size_t leg, char labels[LABELS_MAX])
{
	char digits[24];

	mount_labels(stats, labels);
	snprintf(digits, sizeof(digits), "%zu", leg);
	label_put(labels, LABELS_MAX, "leg", digits);
}

static void sample(FILE *out, const char *name, const char *labels, double value)
{
	fprintf(out, PREFIX "%s{%s} %.15g\n", name, labels, value);
}

static void metric_sample(FILE *out, const struct metric *metric, const json_t *from, const char *labels)
{
	const json_t *value = json_object_get(metric->object ? json_object_get(from, metric->object) : from,
					      metric->key);

	if (value)
		sample(out, metric->name, labels, number(value) * metric->scale);
}

static void histogram(FILE *out, const char *name, const char *labels, const json_t *times)
{
	const json_t *buckets = json_object_get(times, "buckets"), *bucket;
	json_int_t below = 0;
	size_t next = 0;

	for (unsigned int doubling = 0; doubling < LE_DOUBLINGS; doubling++) {
		json_int_t bound = (json_int_t)HISTOGRAM_FIRST_NS << doubling;

		while ((bucket = json_array_get(buckets, next)) && json_is_integer(json_array_get(bucket, 0)) &&
		       json_integer_value(json_array_get(bucket, 0)) <= bound) {
			below += json_integer_value(json_array_get(bucket, 1));
			next++;
		}
		fprintf(out, PREFIX "%s_bucket{%s,le=\"%.9g\"} %" JSON_INTEGER_FORMAT "\n", name, labels,
			(double)bound / 1e9, below);
	}
	fprintf(out, PREFIX "%s_bucket{%s,le=\"+Inf\"} %.15g\n", name, labels,
		number(json_object_get(times, "count")));
	fprintf(out, PREFIX "%s_sum{%s} %.15g\n" PREFIX "%s_count{%s} %.15g\n", name, labels,
		number(json_object_get(times, "sum_ns")) / 1e9, name, labels, number(json_object_get(times, "count")));
}

/* ---- families that are no plain numbers ---- */

static void health(FILE *out, const json_t *mounts)
{
	static const char *const states[] = { "healthy", "degraded", "failed" };
	char labels[LABELS_MAX];
	const json_t *stats;
	size_t i;

	family(out, "info", "gauge", "The mount; its value is 1.");
	json_array_foreach(mounts, i, stats)
	{
		const json_t *volume = json_object_get(stats, "volume");

		mount_labels(stats, labels);
		label_put(labels, LABELS_MAX, "volume", text_of(volume, "uuid"));
		label_put(labels, LABELS_MAX, "label", text_of(volume, "label"));
		label_put(labels, LABELS_MAX, "transport",
			  text_of(json_object_get(stats, "transport"), "transport"));
		sample(out, "info", labels, 1);
	}
	family(out, "health", "gauge", "1 for what the volume is, 0 for what it is not.");
	json_array_foreach(mounts, i, stats)
	{
		for (size_t n = 0; n < COUNT(states); n++) {
			mount_labels(stats, labels);
			label_put(labels, LABELS_MAX, "state", states[n]);
			sample(out, "health", labels, !strcmp(text_of(stats, "health"), states[n]));
		}
	}
}

static void leg_states(FILE *out, const json_t *mounts)
{
	const json_t *stats, *leg;
	char labels[LABELS_MAX];
	size_t i, n;

	family(out, "leg_state", "gauge", "1 for the state that the leg is in, 0 for the others.");
	json_array_foreach(mounts, i, stats)
		json_array_foreach(json_object_get(stats, "legs"), n, leg)
			for (int state = 0; state < MIRROR_LEG_STATES; state++) {
				const char *name = mirror_leg_state_name(state);

				leg_labels(stats, n, labels);
				label_put(labels, LABELS_MAX, "state", name);
				sample(out, "leg_state", labels, !strcmp(text_of(leg, "state"), name));
			}
}

/* What is told of a leg by operation: how long, and how much; and of errors by what they mean. */
static void leg_work(FILE *out, const json_t *mounts, const char *name, const char *type, const char *help,
		     const char *label, void (*print)(FILE *out, const char *name, const char *labels,
						      const json_t *leg, const char *key))
{
	static const char *const operations[] = { "read", "write", "flush", "discard" },
				 *const classes[] = { "request", "media", "gone", "space" };
	const char *const *keys = !strcmp(label, "class") ? classes : operations;
	const json_t *stats, *leg;
	char labels[LABELS_MAX];
	size_t i, n;

	family(out, name, type, help);
	json_array_foreach(mounts, i, stats)
		json_array_foreach(json_object_get(stats, "legs"), n, leg)
			for (size_t k = 0; k < COUNT(operations); k++) {
				leg_labels(stats, n, labels);
				label_put(labels, LABELS_MAX, label, keys[k]);
				print(out, name, labels, leg, keys[k]);
			}
}

static void print_took(FILE *out, const char *name, const char *labels, const json_t *leg, const char *key)
{
	histogram(out, name, labels, json_object_get(json_object_get(leg, "times"), key));
}

static void print_bytes(FILE *out, const char *name, const char *labels, const json_t *leg, const char *key)
{
	const json_t *io = json_object_get(json_object_get(leg, "io"), key);

	sample(out, name, labels, number(json_object_get(io, "bytes")));
}

static void print_errors(FILE *out, const char *name, const char *labels, const json_t *leg, const char *key)
{
	const json_t *errors = json_object_get(json_object_get(leg, "io"), "errors");

	sample(out, name, labels, number(json_object_get(errors, key)));
}

static void legs(FILE *out, const json_t *mounts)
{
	const json_t *stats, *leg;
	char labels[LABELS_MAX];
	size_t i, n;

	leg_states(out, mounts);
	for (size_t m = 0; m < COUNT(leg_metrics); m++) {
		family(out, leg_metrics[m].name, leg_metrics[m].type, leg_metrics[m].help);
		json_array_foreach(mounts, i, stats)
			json_array_foreach(json_object_get(stats, "legs"), n, leg)
			{
				leg_labels(stats, n, labels);
				metric_sample(out, &leg_metrics[m], leg, labels);
			}
	}
	leg_work(out, mounts, "leg_operation_seconds", "histogram", "How long the leg took to answer.", "operation",
		 print_took);
	leg_work(out, mounts, "leg_bytes_total", "counter", "Bytes that the leg read or wrote.", "operation",
		 print_bytes);
	leg_work(out, mounts, "leg_errors_total", "counter", "Requests that failed on the leg, by what it means.",
		 "class", print_errors);
}

static void operations(FILE *out, const json_t *mounts)
{
	static const char *const names[] = { "operation_seconds", "operation_errors_total", "operation_bytes_total" };
	char labels[LABELS_MAX], both[LABELS_MAX];
	const json_t *stats, *times, *count;
	const char *key, *class;
	size_t i;

	family(out, names[0], "histogram", "How long requests of the kernel took.");
	json_array_foreach(mounts, i, stats)
		json_object_foreach((json_t *)json_object_get(stats, "operations"), key, times)
		{
			mount_labels(stats, labels);
			label_put(labels, LABELS_MAX, "operation", key);
			histogram(out, names[0], labels, times);
		}
	family(out, names[1], "counter", "Requests of the kernel that failed, by whose affair that is.");
	json_array_foreach(mounts, i, stats)
		json_object_foreach((json_t *)json_object_get(stats, "operations"), key, times)
			json_object_foreach((json_t *)json_object_get(times, "errors"), class, count)
			{
				mount_labels(stats, both);
				label_put(both, LABELS_MAX, "operation", key);
				label_put(both, LABELS_MAX, "class", class);
				sample(out, names[1], both, number(count));
			}
	family(out, names[2], "counter", "Bytes that requests of the kernel read or wrote.");
	json_array_foreach(mounts, i, stats)
		json_object_foreach((json_t *)json_object_get(stats, "operations"), key, times)
		{
			mount_labels(stats, labels);
			label_put(labels, LABELS_MAX, "operation", key);
			if (!strcmp(key, "read") || !strcmp(key, "write"))
				sample(out, names[2], labels, number(json_object_get(times, "bytes")));
		}
}

static void journal(FILE *out, const json_t *mounts)
{
	static const char *const names[][3] = {
		{ "commit_seconds", "How long a record of the journal took to be durable.", "commit" },
		{ "checkpoint_seconds", "How long a checkpoint took.", "checkpoint" },
	};
	char labels[LABELS_MAX];
	const json_t *stats;
	size_t i;

	for (size_t n = 0; n < COUNT(names); n++) {
		family(out, names[n][0], "histogram", names[n][1]);
		json_array_foreach(mounts, i, stats)
		{
			const json_t *times = json_object_get(json_object_get(stats, "meta"), "times");

			mount_labels(stats, labels);
			histogram(out, names[n][0], labels, json_object_get(times, names[n][2]));
		}
	}
}

static void cache(FILE *out, const json_t *mounts)
{
	static const char *const classes[] = { "data", "nodes" };
	char labels[LABELS_MAX];
	const json_t *stats;
	size_t i;

	for (size_t m = 0; m < COUNT(cache_metrics); m++) {
		family(out, cache_metrics[m].name, cache_metrics[m].type, cache_metrics[m].help);
		json_array_foreach(mounts, i, stats)
			for (size_t class = 0; class < COUNT(classes); class++) {
				mount_labels(stats, labels);
				label_put(labels, LABELS_MAX, "class", classes[class]);
				metric_sample(out, &cache_metrics[m],
					      json_object_get(json_object_get(stats, "cache"), classes[class]), labels);
			}
	}
}

void ctl_prometheus(FILE *out, const json_t *mounts)
{
	char labels[LABELS_MAX];
	const json_t *stats;
	size_t i;

	health(out, mounts);
	for (size_t m = 0; m < COUNT(volume_metrics); m++) {
		family(out, volume_metrics[m].name, volume_metrics[m].type, volume_metrics[m].help);
		json_array_foreach(mounts, i, stats)
		{
			mount_labels(stats, labels);
			metric_sample(out, &volume_metrics[m], stats, labels);
		}
	}
	legs(out, mounts);
	operations(out, mounts);
	journal(out, mounts);
	cache(out, mounts);
}
