/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What "stats" answers: what "status" does, and how long everything took. "metrics" and an HTTP request for /metrics
 * tell the same in the text format of Prometheus.
 *
 * Nothing here waits for a leg, and what is counted is not stopped for it: see base/histogram.h.
 */
#include "ctl_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define INT(value) ((json_int_t)(value))

static const char *const leg_op_names[LEG_OPS] = {
	[LEG_READ] = "read", [LEG_WRITE] = "write", [LEG_FLUSH] = "flush", [LEG_DISCARD] = "discard",
};

/* Buckets that are empty are left out. */
static json_t *histogram_json(const struct histogram *histogram)
{
	json_t *buckets = json_array();

	for (unsigned int i = 0; i < HISTOGRAM_BUCKETS; i++) {
		uint64_t bound = histogram_bound_ns(i);
		json_t *below = bound == UINT64_MAX ? json_null() : json_integer(INT(bound));

		if (histogram->bucket[i])
			json_array_append_new(buckets, json_pack("[o, I]", below, INT(histogram->bucket[i])));
		else
			json_decref(below);
	}
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "count", INT(histogram->count), "sum_ns",
			 INT(histogram->sum_ns), "p50_ns", INT(histogram_quantile_ns(histogram, 0.5)), "p90_ns",
			 INT(histogram_quantile_ns(histogram, 0.9)), "p99_ns",
			 INT(histogram_quantile_ns(histogram, 0.99)), "p999_ns",
			 INT(histogram_quantile_ns(histogram, 0.999)), "buckets", buckets);
}

static json_t *operations_json(struct front *front)
{
	json_t *operations = json_object();
	struct front_times times;

	for (unsigned int op = 0; op < FRONT_OPS; op++) {
		json_t *one, *errors;

		if (!front_op_name(op))
			continue;
		front_times(front, op, &times);
		if (!times.took.count)
			continue;
		one = histogram_json(&times.took);
		errors = json_object();
		for (int error = 0; error < FRONT_ERRORS; error++)
			json_object_set_new(errors, front_error_name(error), json_integer(INT(times.errors[error])));
		json_object_set_new(one, "errors", errors);
		json_object_set_new(one, "bytes", json_integer(INT(times.bytes)));
		json_object_set_new(operations, front_op_name(op), one);
	}
	return operations;
}

static json_t *leg_times_json(struct mirror *mirror, int leg)
{
	json_t *times = json_object();
	struct histogram histogram;

	for (int op = 0; op < LEG_OPS; op++) {
		if (!leg_op_names[op])
			continue;
		mirror_times(mirror, leg, op, &histogram);
		json_object_set_new(times, leg_op_names[op], histogram_json(&histogram));
	}
	return times;
}

static json_t *meta_times_json(struct meta *meta)
{
	static const char *const names[META_TIMES] = {
		[META_TIME_COMMIT] = "commit", [META_TIME_CHECKPOINT] = "checkpoint",
	};
	json_t *times = json_object();
	struct histogram histogram;

	for (int what = 0; what < META_TIMES; what++) {
		meta_times(meta, what, &histogram);
		json_object_set_new(times, names[what], histogram_json(&histogram));
	}
	return times;
}

/* NULL: no memory. */
static json_t *stats_make(struct ctl *ctl)
{
	const struct ctl_subjects *subjects = &ctl->subjects;
	json_t *json = status_whole(ctl), *leg;
	size_t i;

	if (!json)
		return NULL;
	json_array_foreach(json_object_get(json, "legs"), i, leg)
		json_object_set_new(leg, "times", leg_times_json(subjects->mirror, (int)i));
	if (subjects->meta)
		json_object_set_new(json_object_get(json, "meta"), "times", meta_times_json(subjects->meta));
	if (subjects->front)
		json_object_set_new(json, "operations", operations_json(subjects->front));
	return json;
}

void stats_command(struct ctl *ctl, int fd, const json_t *request)
{
	json_t *stats = stats_make(ctl);

	if (stats)
		command_answer(fd, "result", stats);
	else
		command_answer_error(fd, -ENOMEM, "out of memory");
}

void stats_http(struct ctl *ctl, int fd, const char *line, size_t length)
{
	static const char wanted[] = "GET /metrics";
	bool found = length > strlen(wanted) && !memcmp(line, wanted, strlen(wanted)) &&
		     strchr(" ?\r\n", line[strlen(wanted)]);
	json_t *stats = found ? json_pack("[o]", stats_make(ctl)) : NULL;
	char *text = NULL, head[200];
	size_t size = 0;
	FILE *stream = stats ? open_memstream(&text, &size) : NULL;

	if (stream) {
		ctl_prometheus(stream, stats);
		fclose(stream);
	}
	snprintf(head, sizeof(head), "HTTP/1.0 %s\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
		 "Content-Length: %zu\r\nConnection: close\r\n\r\n", text ? "200 OK" : "404 Not Found", size);
	command_send(fd, head, strlen(head), MSG_DONTWAIT);
	if (text)
		command_send(fd, text, size, MSG_DONTWAIT);
	free(text);
	json_decref(stats);
}
