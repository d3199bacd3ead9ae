/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The commands. Each is answered at once: what takes long goes on by itself, and is asked about. But those that change
 * the legs are answered when they have (legs.c).
 */
#include "ctl_private.h"

#include "mirrorfs/base/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* ---- answers ---- */

bool command_send(int fd, const char *text, size_t length, int flags)
{
	size_t sent = 0;
	ssize_t got = 0;

	while (sent < length && got >= 0) {
		got = send(fd, text + sent, length - sent, flags | MSG_NOSIGNAL);
		if (got > 0)
			sent += (size_t)got;
		else if (got < 0 && errno == EINTR)
			got = 0;
	}
	return sent == length;
}

char *command_line(const char *name, json_t *value)
{
	json_t *line = json_pack("{s:i, s:o}", "version", CTL_VERSION, name, value);
	char *text = line ? json_dumps(line, JSON_COMPACT) : NULL;

	json_decref(line);
	return text;
}

json_t *command_text(const char *text)
{
	json_t *json = json_string(text);
	char *copy = json ? NULL : strdup(text);

	for (char *at = copy; at && *at; at++) {
		if ((unsigned char)*at >= 0x80)
			*at = '?';
	}
	if (copy)
		json = json_string(copy);
	free(copy);
	return json;
}

void command_answer(int fd, const char *name, json_t *value)
{
	char *line = command_line(name, value);
	size_t length;

	if (!line)
		return;
	length = strlen(line);
	line[length++] = '\n'; /* where the string ended */
	command_send(fd, line, length, MSG_DONTWAIT);
	free(line);
}

json_t *command_error(int error, const char *text)
{
	return json_pack("{s:s, s:s}", "errno", strerrorname_np(-error), "text", text);
}

void command_answer_error(int fd, int error, const char *text)
{
	command_answer(fd, "error", command_error(error, text));
}

/* ---- the commands ---- */

static void status_command(struct ctl *ctl, int fd, const json_t *request)
{
	json_t *status = status_whole(ctl);

	if (status)
		command_answer(fd, "result", status);
	else
		command_answer_error(fd, -ENOMEM, "out of memory");
}

static void drop_caches_command(struct ctl *ctl, int fd, const json_t *request)
{
	struct cache *cache = ctl->subjects.cache;

	if (!cache) {
		command_answer_error(fd, -EOPNOTSUPP, "there is no cache");
		return;
	}
	if (ctl->subjects.meta)
		meta_let_go(ctl->subjects.meta);
	cache_drop_clean(cache);
	command_answer(fd, "result", json_pack("{s:o}", "cache", status_cache(cache)));
}

static void scrub_command(struct ctl *ctl, int fd, const json_t *request)
{
	const char *what = json_string_value(json_object_get(request, "do")) ?: "show";
	json_int_t limit = json_integer_value(json_object_get(request, "limit"));
	int error = 0;

	if (!ctl->subjects.meta) {
		command_answer_error(fd, -EOPNOTSUPP, "there is nothing to scrub");
		return;
	}
	if (!strcmp(what, "start") && limit >= 0)
		error = scrub_start(ctl, (uint64_t)limit);
	else if (!strcmp(what, "stop"))
		scrub_stop(ctl);
	else if (strcmp(what, "show") != 0)
		error = -EINVAL;
	if (error)
		command_answer_error(fd, error, error == -EBUSY ? "it is just being stopped" : strerror(-error));
	else
		command_answer(fd, "result", scrub_json(ctl, true));
}

static void drill_command(struct ctl *ctl, int fd, const json_t *request)
{
	const json_t *leg = json_object_get(request, "leg"), *seconds = json_object_get(request, "seconds");
	const char *rules = json_string_value(json_object_get(request, "rules"));
	struct error told = { "" };
	int error = -EINVAL;

	if (rules && json_is_integer(leg) && json_integer_value(seconds) >= 1 &&
	    json_integer_value(seconds) <= CTL_DRILL_SECONDS)
		error = mirror_drill(ctl->subjects.mirror, (int)json_integer_value(leg), rules,
				     (uint64_t)json_integer_value(seconds) * NSEC_PER_SEC, &told);
	else
		error_set(&told, error, "a drill has a leg, rules, and lasts for 1 to %d seconds", CTL_DRILL_SECONDS);
	if (error)
		command_answer_error(fd, error, told.text);
	else
		command_answer(fd, "result", json_object());
}

/* A remount. */
static void atime_command(struct ctl *ctl, int fd, const json_t *request)
{
	json_int_t mode = json_integer_value(json_object_get(request, "mode"));
	struct fs_atime_options options = {
		.mode = (enum fs_atime)mode,
		.not_directories = json_is_true(json_object_get(request, "not_directories")),
	};

	if (!ctl->subjects.fs || mode < FS_ATIME_RELATIVE || mode > FS_ATIME_NEVER) {
		command_answer_error(fd, -EINVAL, "no such mode");
		return;
	}
	fs_set_atime(ctl->subjects.fs, &options);
	command_answer(fd, "result", json_object());
}

static const struct {
	const char *name;
	void (*run)(struct ctl *ctl, int fd, const json_t *request);
} commands[] = {
	{ "status", status_command },
	{ "stats", stats_command },
	{ "history", history_command },
	{ "drop-caches", drop_caches_command },
	{ "scrub", scrub_command },
	{ "resync", legs_resync },
	{ "detach", legs_change },
	{ "attach", legs_change },
	{ "replace", legs_change },
	{ "grow", legs_change },
	{ "trim", legs_change },
	{ "set", legs_change },
	{ "drill", drill_command },
	{ "files", files_command },
	{ "events", events_command },
	{ "atime", atime_command },
	{ "end", end_command },
};

void command_run(struct ctl *ctl, int fd, const char *line, size_t length)
{
	json_t *request;
	const char *name;
	size_t i = 0;

	if (length >= 4 && !memcmp(line, "GET ", 4)) {
		stats_http(ctl, fd, line, length);
		return;
	}
	request = json_loadb(line, length, JSON_REJECT_DUPLICATES, NULL);
	name = json_string_value(json_object_get(request, "command"));
	while (name && i < sizeof(commands) / sizeof(commands[0]) && strcmp(name, commands[i].name) != 0)
		i++;
	if (!name)
		command_answer_error(fd, -EINVAL, "not a request");
	else if (i == sizeof(commands) / sizeof(commands[0]))
		command_answer_error(fd, -ENOSYS, "no such command");
	else
		commands[i].run(ctl, fd, request);
	json_decref(request);
}
