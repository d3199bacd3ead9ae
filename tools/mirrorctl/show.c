/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "answer.h"
#include "report.h"
#include "verbs.h"

#include "mirrorfs/base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define TOP_SECONDS 1.0
#define TOP_SECONDS_MAX 3600.0

int show_status(const struct ask *call)
{
	const char *health;
	json_t *result;
	int code = ask_command(call, call->files ? "files" : "status", &result);

	if (code)
		return code;
	if (!call->json && call->files)
		answer_print_files(call->mount->mountpoint, result);
	else if (!call->json)
		answer_print_status(result);
	health = answer_text(result, "health");
	if (!strcmp(health, "failed"))
		code = EXIT_BROKEN;
	else if (strcmp(health, "healthy") != 0)
		code = EXIT_DEGRADED;
	json_decref(result);
	return code;
}

int show_stats(const struct ask *call)
{
	json_t *result;
	int code = ask_command(call, "stats", &result);

	if (!code && call->metrics)
		json_array_append(call->metrics, result);
	else if (!code && !call->json)
		answer_print_stats(call->mount->mountpoint, result);
	json_decref(result);
	return code;
}

/* Until the daemon goes, somebody ends it, or so often. */
int show_top(const struct ask *call)
{
	double seconds = TOP_SECONDS;
	uint64_t before_ns, now_ns;
	json_t *before, *now;
	char *end = "";
	long count = 0;
	int code;

	if (call->words[0])
		seconds = strtod(call->words[0], &end);
	if (call->words[0] && call->words[1] && !*end)
		count = strtol(call->words[1], &end, 10);
	if (*end || !(seconds >= 0.1 && seconds <= TOP_SECONDS_MAX) || count < 0)
		return EXIT_USAGE;
	before_ns = clock_now_ns();
	code = ask_command(call, "stats", &before);
	for (long n = 0; !code && (!count || n < count); n++) {
		ask_pause_msec((unsigned int)(seconds * 1e3));
		now_ns = clock_now_ns();
		code = ask_command(call, "stats", &now);
		if (!code && !call->json) {
			fputs(isatty(STDOUT_FILENO) ? "\033[H\033[J" : n ? "\n" : "", stdout);
			answer_print_top(call->mount->mountpoint, now, before, (double)(now_ns - before_ns) / 1e9);
		}
		json_decref(before);
		before = now;
		before_ns = now_ns;
	}
	json_decref(before);
	return code;
}

/* ---- events ---- */

static void print_event(const struct ask *call, const json_t *event)
{
	double when = json_number_value(json_object_get(event, "time"));
	time_t seconds = (time_t)when;
	char text[64];

	if (call->json) {
		ask_print_json(event);
		return;
	}
	strftime(text, sizeof(text), "%F %T", localtime(&seconds));
	printf("%s %s: %s\n", text, answer_text(event, "kind"), answer_text(event, "text"));
	fflush(stdout);
}

/* Some of those behind number *after, which moves on: an array, empty if there are none. NULL: told, with *code. */
static json_t *events_behind(const struct ask *call, json_int_t *after, int *code)
{
	struct ask quiet = *call;
	json_t *result, *list;

	/* Each is printed for itself. */
	quiet.json = false;
	*code = ask(&quiet, json_pack("{s:s, s:I}", "command", "events", "after", *after), &result);
	list = json_incref(json_object_get(result, "events"));
	if (json_array_size(list))
		*after = json_integer_value(
			json_object_get(json_array_get(list, json_array_size(list) - 1), "number"));
	json_decref(result);
	return list;
}

/* With --follow until the daemon goes. */
int show_events(const struct ask *call)
{
	json_int_t after = 0;
	bool more = true;
	int code = 0;

	while (more && !code) {
		json_t *list = events_behind(call, &after, &code);
		const json_t *event;
		size_t i;

		json_array_foreach(list, i, event) print_event(call, event);
		more = json_array_size(list) || call->follow;
		if (!json_array_size(list) && more && !code)
			ask_pause_msec(ASK_POLL_MSEC);
		json_decref(list);
	}
	return code;
}

/* ---- the page ---- */

static int all_events(const struct ask *call, json_t *all)
{
	json_int_t after = 0;
	json_t *list;
	bool more;
	int code;

	do {
		list = events_behind(call, &after, &code);
		more = json_array_size(list);
		json_array_extend(all, list);
		json_decref(list);
	} while (more);
	return code;
}

int show_report(const struct ask *call)
{
	json_t *stats = NULL, *history = NULL, *events = json_array(), *data;
	uint32_t nanoseconds;
	int64_t seconds;
	int code;

	clock_wall(&seconds, &nanoseconds);
	code = ask_command(call, "stats", &stats);
	if (!code)
		code = ask_command(call, "history", &history);
	if (!code)
		code = all_events(call, events);
	if (!code) {
		data = json_pack("{s:I, s:O, s:O, s:O}", "time", (json_int_t)seconds, "stats", stats, "history",
				 history, "events", events);
		code = report_write(call->words[0], data);
		if (code)
			ask_say("%s: %s", call->words[0], strerror(-code));
		json_decref(data);
		code = code ? EXIT_FAILED : EXIT_HEALTHY;
	}
	json_decref(stats);
	json_decref(history);
	json_decref(events);
	return code;
}
