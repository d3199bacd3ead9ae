/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Commands that wait for the legs: each kind has a thread of its own, one at a time, which answers when it is done. */
#include "ctl_private.h"

#include <errno.h>
#include <unistd.h>

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
	worker_done(worker);
	command_answer_error(fd, error, "cannot start a thread");
}

void worker_done(struct ctl_worker *worker)
{
	json_decref(worker->request);
	if (worker->fd >= 0)
		close(worker->fd);
	atomic_store(&worker->running, false);
}

void worker_end(struct ctl_worker *worker)
{
	if (worker->started)
		thread_join(&worker->thread);
	worker->started = false;
}
