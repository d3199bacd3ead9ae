/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "answer.h"
#include "verbs.h"
#include "watch.h"

#include "options.h"

#include <stdio.h>
#include <string.h>

#define BLOCK 4096ull

/* "limit=SIZE", in bytes a second. */
static bool is_limit(const char *word, uint64_t *limit)
{
	return !strncmp(word, "limit=", 6) && options_size(word + 6, limit) && *limit <= INT64_MAX;
}

/* ---- scrub ---- */

static json_t *scrub_request(const char *what, uint64_t limit)
{
	return json_pack("{s:s, s:s, s:I}", "command", "scrub", "do", what, "limit", (json_int_t)limit);
}

static void print_finding(const json_t *finding)
{
	printf("leg %llu: %s: ", answer_number(finding, "leg"), answer_text(finding, "fate"));
	if (json_object_get(finding, "file"))
		printf("bytes %llu to %llu of %s\n", answer_number(finding, "from"), answer_number(finding, "to"),
		       answer_text(finding, "file"));
	else
		printf("metadata at block %llu\n", answer_number(finding, "block"));
}

static void print_scrubbed(const char *mountpoint, const json_t *result)
{
	const json_t *finding;
	size_t i;

	json_array_foreach(json_object_get(result, "findings"), i, finding) print_finding(finding);
	printf("%s: scrub verified %llu blocks, healed %llu, unrecoverable %llu\n", mountpoint,
	       answer_number(result, "blocks"), answer_number(result, "repaired"),
	       answer_number(result, "unrecoverable"));
	if (answer_text(result, "error")[0])
		printf("%s: and was ended by an error: %s\n", mountpoint, answer_text(result, "error"));
	else if (json_is_true(json_object_get(result, "stopped")))
		printf("%s: and was stopped at %.1f %%\n", mountpoint, answer_percent(result));
}

static bool is_clean(const json_t *result)
{
	return !answer_number(result, "unrecoverable") && !answer_text(result, "error")[0] &&
	       !json_is_true(json_object_get(result, "stopped"));
}

/* Asks until it has ended. */
static int scrub_watch(const struct ask *call, json_t *result)
{
	struct watch watch;
	char more[80];
	int code = 0;

	watch_begin(&watch, "scrub", call->json);
	while (!code && json_is_true(json_object_get(result, "running"))) {
		snprintf(more, sizeof(more), ", healed %llu, unrecoverable %llu", answer_number(result, "repaired"),
			 answer_number(result, "unrecoverable"));
		watch_tell(&watch, answer_number(result, "done") * BLOCK, answer_number(result, "total") * BLOCK,
			   more);
		ask_pause_msec(ASK_POLL_MSEC);
		json_decref(result);
		code = ask(call, scrub_request("show", 0), &result);
	}
	watch_end(&watch);
	if (!code && !call->json)
		print_scrubbed(call->mount->mountpoint, result);
	if (!code)
		code = is_clean(result) ? EXIT_HEALTHY : EXIT_FAILED;
	json_decref(result);
	return code;
}

int work_scrub(const struct ask *call)
{
	const char *what = "watch";
	uint64_t limit = 0;
	json_t *result;
	int code;

	for (char **word = call->words; *word; word++) {
		if (is_limit(*word, &limit))
			continue;
		if (strcmp(*word, "start") != 0 && strcmp(*word, "stop") != 0)
			return EXIT_USAGE;
		what = *word;
	}
	code = ask(call, scrub_request(!strcmp(what, "stop") ? what : "start", limit), &result);
	if (code)
		return code;
	if (!strcmp(what, "watch"))
		return scrub_watch(call, result);
	json_decref(result);
	return EXIT_HEALTHY;
}

/* ---- resync ---- */

/* Waits until one more resync has ended. */
static int resync_watch(const struct ask *call, unsigned long long ended)
{
	struct watch watch;
	const char *health;
	json_t *result;
	int code;

	watch_begin(&watch, "resync", call->json);
	for (;;) {
		const json_t *resync;

		code = ask_command(call, "status", &result);
		if (code)
			return code;
		resync = json_object_get(result, "resync");
		if (answer_number(resync, "ended") > ended)
			break;
		watch_tell(&watch, answer_number(resync, "done_bytes"), answer_number(resync, "total_bytes"), "");
		json_decref(result);
		ask_pause_msec(ASK_POLL_MSEC);
	}
	watch_end(&watch);
	health = answer_text(result, "health");
	if (!call->json)
		printf("%s: %s\n", call->mount->mountpoint, health);
	code = !strcmp(health, "healthy") ? EXIT_HEALTHY : EXIT_DEGRADED;
	json_decref(result);
	return code;
}

int work_resync(const struct ask *call)
{
	const char *word = call->words[0];
	json_t *request, *result;
	unsigned long long ended;
	uint64_t limit;
	bool runs;
	int code;

	if (word && !is_limit(word, &limit))
		return EXIT_USAGE;
	code = ask_command(call, "status", &result);
	if (code)
		return code;
	ended = answer_number(json_object_get(result, "resync"), "ended");
	json_decref(result);
	request = json_pack("{s:s}", "command", "resync");
	if (word)
		json_object_set_new(request, "limit", json_integer((json_int_t)limit));
	code = ask(call, request, &result);
	runs = json_is_true(json_object_get(result, "runs"));
	json_decref(result);
	if (!code && !runs && !word && !call->json)
		printf("%s: healthy\n", call->mount->mountpoint);
	return code || !runs ? code : resync_watch(call, ended);
}
