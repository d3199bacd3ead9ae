/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ask.h"
#include "answer.h"

#include "mirrorfs/base/clock.h"
#include "mirrorfs/base/sync.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void ask_say(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("mirrorctl: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
}

void ask_print_json(const json_t *json)
{
	char *text = json_dumps(json, JSON_COMPACT);

	if (text)
		puts(text);
	free(text);
	fflush(stdout);
}

int ask(const struct ask *ask, json_t *request, json_t **result)
{
	const char *mountpoint = ask->mount->mountpoint;
	struct error error = { "" };
	json_t *answer;
	int code = ctl_request(ask->mount, request, &answer, &error);

	*result = NULL;
	if (code) {
		ask_say("%s: %s", mountpoint, error.text);
		return code == -EACCES || code == -EPERM ? EXIT_FAILED : EXIT_NO_DAEMON;
	}
	if (ask->json)
		ask_print_json(answer);
	if (json_object_get(answer, "error")) {
		ask_say("%s: %s", mountpoint, answer_text(json_object_get(answer, "error"), "text"));
		json_decref(answer);
		return EXIT_FAILED;
	}
	*result = json_incref(json_object_get(answer, "result"));
	json_decref(answer);
	return 0;
}

int ask_command(const struct ask *call, const char *command, json_t **result)
{
	return ask(call, json_pack("{s:s}", "command", command), result);
}

int ask_done(const struct ask *call, json_t *request)
{
	json_t *result;
	int code = ask(call, request, &result);

	json_decref(result);
	return code;
}

void ask_pause_msec(unsigned int msec)
{
	uint64_t until = clock_now_ns() + msec * NSEC_PER_MSEC;
	struct mutex lock;
	struct cond never;

	mutex_init(&lock, RANK_LEAF);
	cond_init(&never);
	mutex_lock(&lock);
	while (cond_wait_until(&never, &lock, until))
		;
	mutex_unlock(&lock);
	cond_fini(&never);
	mutex_fini(&lock);
}
