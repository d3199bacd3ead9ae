/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The commands: status is answered at once, scrub by a thread of its own that keeps the connection. */
#include "ctl_private.h"

#include "mirrorfs/base/clock.h"
#include "mirrorfs/base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define PROGRESS_NS (NSEC_PER_SEC / 2)
/* Places named; the counts go on. A user must know what was lost, and only that something was healed. */
#define LOST_TOLD_MAX 1000u
#define HEALED_TOLD_MAX 10u
#define CLIENT_SECONDS 5 /* how long a scrub waits for a client that does not read */

/* ---- answers ---- */

/*
 * Sends {"version": …, `name`: `value`} and a newline; `value` is stolen. 0 or -errno: -EAGAIN, the client does not
 * read.
 */
static int answer(int fd, int flags, const char *name, json_t *value)
{
	json_t *line = json_pack("{s:i, s:o}", "version", CTL_VERSION, name, value);
	char *text = line ? json_dumps(line, JSON_COMPACT) : NULL;
	size_t length, sent = 0;
	ssize_t got = 0;

	json_decref(line);
	if (!text)
		return -ENOMEM;
	length = strlen(text);
	text[length++] = '\n';
	while (sent < length && got >= 0) {
		got = send(fd, text + sent, length - sent, flags | MSG_NOSIGNAL);
		if (got > 0)
			sent += (size_t)got;
		else if (got < 0 && errno == EINTR)
			got = 0;
	}
	free(text);
	return sent == length ? 0 : -errno;
}

static void answer_error(int fd, int error, const char *text)
{
	answer(fd, MSG_DONTWAIT, "error", json_pack("{s:s, s:s}", "errno", strerrorname_np(-error), "text", text));
}

/* ---- scrub ---- */

static bool scrub_progress(struct meta_scrub *run, uint64_t done, uint64_t total)
{
	struct ctl_scrub *scrub = run->context;
	uint64_t now = clock_now_ns();
	int error;

	if (atomic_load(&scrub->stop))
		return false;
	if (now - scrub->told_ns < PROGRESS_NS)
		return true;
	scrub->told_ns = now;
	error = answer(scrub->fd, MSG_DONTWAIT, "progress",
		       json_pack("{s:I, s:I, s:I, s:I}", "done", (json_int_t)done, "total", (json_int_t)total,
				 "repaired", (json_int_t)run->repaired, "unrecoverable",
				 (json_int_t)run->unrecoverable));
	/* Whoever asked has gone: it is a foreground command. */
	return error != -EPIPE && error != -ECONNRESET;
}

static void scrub_bad(struct meta_scrub *run, const struct meta_live *live, int leg, bool healed)
{
	struct ctl_scrub *scrub = run->context;

	if (healed ? scrub->healed_told++ >= HEALED_TOLD_MAX : scrub->lost_told++ >= LOST_TOLD_MAX)
		return;
	answer(scrub->fd, 0, "bad",
	       json_pack("{s:s, s:I, s:I, s:I, s:I, s:i, s:b}", "kind", live->kind == META_LIVE_DATA ? "data" : "node",
			 "inode", (json_int_t)live->object, "file_block", (json_int_t)live->offset, "block",
			 (json_int_t)live->address, "count", (json_int_t)live->count, "leg", leg, "healed", healed));
}

static void scrub_run(void *arg)
{
	struct ctl *ctl = arg;
	struct ctl_scrub *scrub = &ctl->scrub;
	struct meta_scrub run = { .progress = scrub_progress, .bad = scrub_bad, .context = scrub };
	int error;

	log_info("scrub started");
	error = meta_scrub(ctl->subjects.meta, &run);
	log_info("scrub ended blocks=%llu repaired=%llu unrecoverable=%llu error=%d", (unsigned long long)run.blocks,
		 (unsigned long long)run.repaired, (unsigned long long)run.unrecoverable, error);
	if (error)
		answer_error(scrub->fd, error, error == -EINTR ? "the scrub was interrupted" : strerror(-error));
	else
		answer(scrub->fd, 0, "result",
		       json_pack("{s:I, s:I, s:I}", "blocks", (json_int_t)run.blocks, "repaired",
				 (json_int_t)run.repaired, "unrecoverable", (json_int_t)run.unrecoverable));
	close(scrub->fd);
	atomic_store(&scrub->running, false);
}

static void scrub_join(struct ctl_scrub *scrub)
{
	if (scrub->started)
		thread_join(&scrub->thread);
	scrub->started = false;
}

static bool scrub_start(struct ctl *ctl, int fd)
{
	struct timeval patience = { .tv_sec = CLIENT_SECONDS };
	struct ctl_scrub *scrub = &ctl->scrub;
	int error;

	if (!ctl->subjects.meta) {
		answer_error(fd, -EOPNOTSUPP, "there is nothing to scrub");
		return false;
	}
	if (atomic_load(&scrub->running)) {
		answer_error(fd, -EBUSY, "a scrub is already running");
		return false;
	}
	scrub_join(scrub);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	scrub->fd = fd;
	scrub->told_ns = 0;
	scrub->healed_told = scrub->lost_told = 0;
	atomic_store(&scrub->running, true);
	error = thread_start(&scrub->thread, "scrub", scrub_run, ctl);
	scrub->started = !error;
	if (error) {
		atomic_store(&scrub->running, false);
		answer_error(fd, error, "cannot start a thread");
	}
	return !error;
}

void command_stop(struct ctl *ctl)
{
	atomic_store(&ctl->scrub.stop, true);
	scrub_join(&ctl->scrub);
}

/* ---- the table ---- */

static bool status_answer(struct ctl *ctl, int fd)
{
	json_t *status = status_make(&ctl->subjects);

	if (status)
		answer(fd, MSG_DONTWAIT, "result", status);
	else
		answer_error(fd, -ENOMEM, "out of memory");
	return false;
}

static const struct {
	const char *name;
	bool (*run)(struct ctl *ctl, int fd);
} commands[] = {
	{ "status", status_answer },
	{ "scrub", scrub_start },
};

bool command_run(struct ctl *ctl, int fd, const char *line, size_t length)
{
	json_t *request = json_loadb(line, length, JSON_REJECT_DUPLICATES, NULL);
	const char *name = json_string_value(json_object_get(request, "command"));
	bool taken = false;
	size_t i = 0;

	while (name && i < sizeof(commands) / sizeof(commands[0]) && strcmp(name, commands[i].name) != 0)
		i++;
	if (!name)
		answer_error(fd, -EINVAL, "not a request");
	else if (i == sizeof(commands) / sizeof(commands[0]))
		answer_error(fd, -ENOSYS, "no such command");
	else
		taken = commands[i].run(ctl, fd);
	json_decref(request);
	return taken;
}
