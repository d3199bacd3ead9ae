/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "answer.h"
#include "verbs.h"

#include "mountpoint.h"

#include "mirrorfs/leg.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DRILL_SECONDS 60

/* ---- legs ---- */

static bool is_number(const char *leg)
{
	return !strcmp(leg, "0") || !strcmp(leg, "1");
}

/* A path as the daemon must be told it: it has another working directory. False: told. */
static bool address_of(const char *name, char *address, size_t size)
{
	const char *path = leg_address_inside(name);
	char current[4096] = "";

	if ((path[0] != '/' && !leg_address_elsewhere(name) && !getcwd(current, sizeof(current))) ||
	    snprintf(address, size, "%.*s%s%s%s", (int)(path - name), name, current, current[0] ? "/" : "", path) >=
		    (int)size) {
		ask_say("%s: too long a path", name);
		return false;
	}
	return true;
}

static int legs(const struct ask *call, const char *command, const char *leg, const char *newcomer)
{
	char address[8192] = "", name[8192] = "";
	json_t *result;
	int code;

	if (newcomer && !address_of(newcomer, address, sizeof(address)))
		return EXIT_FAILED;
	if (leg && is_number(leg))
		snprintf(name, sizeof(name), "%s", leg);
	else if (leg && !address_of(leg, name, sizeof(name)))
		return EXIT_FAILED;
	code = ask(call,
		   json_pack("{s:s, s:s, s:s, s:b}", "command", command, "leg", name, "address", address, "force",
			     call->force),
		   &result);
	if (!code && !call->json && json_object_get(result, "claimed"))
		printf("%s: the kernel keeps %s claimed until it is unmounted\n", call->mount->mountpoint,
		       answer_text(result, "claimed"));
	json_decref(result);
	return code;
}

int change_detach(const struct ask *call)
{
	return legs(call, "detach", call->words[0], NULL);
}

int change_attach(const struct ask *call)
{
	return legs(call, "attach", NULL, call->words[0]);
}

int change_replace(const struct ask *call)
{
	return legs(call, "replace", call->words[0], call->words[1]);
}

int change_drill(const struct ask *call)
{
	char **words = call->words, *end = "";
	long seconds = DRILL_SECONDS;

	if (words[2])
		seconds = strtol(words[2], &end, 10);
	if (!is_number(words[0]) || *end || seconds < 1 || seconds > CTL_DRILL_SECONDS)
		return EXIT_USAGE;
	return ask_done(call, json_pack("{s:s, s:i, s:s, s:I}", "command", "drill", "leg", words[0][0] - '0', "rules",
					strcmp(words[1], "off") ? words[1] : "", "seconds", (json_int_t)seconds));
}

/* ---- the volume ---- */

int change_grow(const struct ask *call)
{
	char before[32], now[32];
	json_t *result;
	int code = ask_command(call, "grow", &result);

	if (!code && !call->json)
		printf("%s: %s, it was %s\n", call->mount->mountpoint,
		       answer_size(answer_number(result, "size_bytes"), now),
		       answer_size(answer_number(result, "before_bytes"), before));
	json_decref(result);
	return code;
}

int change_trim(const struct ask *call)
{
	json_t *result;
	int code = ask_command(call, "trim", &result);
	char size[32];

	if (!code && !call->json)
		printf("%s: the legs were told of %s that are free\n", call->mount->mountpoint,
		       answer_size(answer_number(result, "trimmed_bytes"), size));
	json_decref(result);
	return code;
}

int change_set(const struct ask *call)
{
	const char *option = call->words[0], *value = strchr(option, '=');

	if (!value)
		return EXIT_USAGE;
	return ask_done(call, json_pack("{s:s, s:s%, s:s}", "command", "set", "option", option,
					(size_t)(value - option), "value", value + 1));
}

int change_drop_caches(const struct ask *call)
{
	return ask_done(call, json_pack("{s:s}", "command", "drop-caches"));
}

int change_umount(const struct ask *call)
{
	struct error error = { "" };
	bool unmounted;
	int code = mountpoint_end(call->mount, 0, &unmounted, &error);
	json_t *line;

	if (code)
		ask_say("%s: %s", call->mount->mountpoint, error.text);
	if (code == -ECONNREFUSED)
		code = 0;
	if (call->json) {
		line = code ? json_pack("{s:i, s:{s:s, s:s}}", "version", CTL_VERSION, "error", "errno",
					strerrorname_np(-code), "text", error.text)
			    : json_pack("{s:i, s:{}}", "version", CTL_VERSION, "result");
		ask_print_json(line);
		json_decref(line);
	}
	return code ? EXIT_FAILED : EXIT_HEALTHY;
}
