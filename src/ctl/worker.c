/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Commands that wait for the legs: each kind has a thread of its own, one at a time, which answers when it is done. */
#include "ctl_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define SLOW_CLIENT_SECONDS 5

static void release(struct ctl_worker *worker)
{
	json_decref(worker->request);
	atomic_store(&worker->running, false);
}

void worker_start(struct ctl_worker *worker, const char *name, int fd, const json_t *request, void (*run)(void *),
		  void *arg)
{
	int error = -ENOMEM;

	if (atomic_load(&worker->running)) {
		command_answer_error(fd, -EBUSY, "another such command is under way");
		return;
	}
	worker_end(worker);
	worker->fd = dup(fd);
	worker->request = json_deep_copy(request);
	atomic_store(&worker->running, true);
	if (worker->fd >= 0 && worker->request)
		error = thread_start(&worker->thread, name, run, arg);
	worker->started = !error;
	if (!error)
		return;
	release(worker);
	if (worker->fd >= 0)
		close(worker->fd);
	command_answer_error(fd, error, "cannot start a thread");
}

/*
 * The last byte comes when all else is over: so whoever waits for the whole answer finds no command under way, and
 * who starts the next waits for no more than that byte.
 */
void worker_answer(struct ctl_worker *worker, const char *name, json_t *value)
{
	const struct timeval patience = { .tv_sec = SLOW_CLIENT_SECONDS };
	char *line = command_line(name, value);
	int fd = worker->fd;
	bool sent;

	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	sent = line && command_send(fd, line, strlen(line), 0);
	free(line);
	release(worker);
	if (sent)
		command_send(fd, "\n", 1, 0);
	close(fd);
}

void worker_end(struct ctl_worker *worker)
{
	if (worker->started)
		thread_join(&worker->thread);
	worker->started = false;
}
