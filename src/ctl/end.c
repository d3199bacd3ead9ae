/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who has to know when the legs are safe to pull asks before unmounting, and is told when the daemon has closed them:
 * umount(2) returns long before that. A connection that ends without a word is a daemon that was killed.
 */
#include "ctl_private.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- the daemon's side ---- */

void end_command(struct ctl *ctl, int fd, const json_t *request)
{
	for (int i = 0; i < CTL_CONNECTIONS; i++) {
		if (ctl->waiters[i] >= 0)
			continue;
		ctl->waiters[i] = fcntl(fd, F_DUPFD_CLOEXEC, 0);
		/* From now on the client may unmount: an empty line says so. */
		if (ctl->waiters[i] >= 0 && send(fd, "\n", 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1)
			return;
		if (ctl->waiters[i] >= 0)
			close(ctl->waiters[i]);
		ctl->waiters[i] = -1;
		break;
	}
	command_answer_error(fd, -EBUSY, "too many wait for the end of this mount");
}

void end_tell(struct ctl *ctl, int code, const char *text)
{
	for (int i = 0; i < CTL_CONNECTIONS; i++) {
		if (ctl->waiters[i] < 0)
			continue;
		if (code)
			command_answer_error(ctl->waiters[i], code, text);
		else
			command_answer(ctl->waiters[i], "result", json_object());
		close(ctl->waiters[i]);
		ctl->waiters[i] = -1;
	}
}

/* ---- the client's side ---- */

/* The kernel lets go of a leg's lock when the process is gone. */
static void process_wait(int process)
{
	struct pollfd gone = { .fd = process, .events = POLLIN };

	while (process >= 0 && poll(&gone, 1, -1) < 0 && errno == EINTR)
		;
}

int ctl_end_ask(const struct ctl_mount *mount, struct ctl_end *end, struct error *error)
{
	static const char request[] = "{\"command\": \"end\"}\n";
	const struct timeval for_ever = { .tv_sec = 0 };
	struct ucred peer;
	socklen_t length = sizeof(peer);
	char promised = '\0';
	bool silent;

	end->process = -1;
	end->socket = mount->socket[0] ? path_connect(mount->socket) : -ENOENT;
	if (end->socket < 0)
		return error_set(error, end->socket, "no daemon answers for this mount: %s", strerror(-end->socket));
	if (!getsockopt(end->socket, SOL_SOCKET, SO_PEERCRED, &peer, &length) && peer.pid > 0)
		end->process = pidfd_open(peer.pid, 0);
	errno = 0;
	if (send(end->socket, request, sizeof(request) - 1, MSG_NOSIGNAL) == sizeof(request) - 1 &&
	    recv(end->socket, &promised, 1, 0) == 1 && promised == '\n') {
		setsockopt(end->socket, SOL_SOCKET, SO_RCVTIMEO, &for_ever, sizeof(for_ever));
		return 0;
	}
	silent = errno == EAGAIN;
	if (!silent)
		process_wait(end->process);
	ctl_end_forget(end);
	return silent ? error_set(error, -ETIMEDOUT, "the daemon does not answer") :
			error_set(error, -ECONNREFUSED, "the daemon has gone");
}

void ctl_end_forget(struct ctl_end *end)
{
	if (end->socket >= 0)
		close(end->socket);
	if (end->process >= 0)
		close(end->process);
	end->socket = end->process = -1;
}

static bool is_busy(const json_t *told)
{
	const char *name = json_string_value(json_object_get(told, "errno"));

	return name && !strcmp(name, "EBUSY");
}

int ctl_end_wait(struct ctl_end *end, struct error *error)
{
	FILE *stream = fdopen(end->socket, "r");
	const json_t *told;
	json_t *answer;
	int code;

	if (!stream) {
		ctl_end_forget(end);
		return error_set(error, -ENOMEM, "out of memory");
	}
	end->socket = -1;
	code = client_answer(stream, &answer, NULL);
	fclose(stream);
	told = json_object_get(answer, "error");
	if (code)
		code = error_set(error, -ECONNRESET, "the daemon was killed: what was not synced is lost");
	else if (told)
		code = error_set(error, is_busy(told) ? -EBUSY : -EIO, "%s",
				 json_string_value(json_object_get(told, "text")) ?: "it has not ended well");
	/* With requests that the kernel has not given back, nobody knows when the process will be gone. */
	if (code != -EBUSY)
		process_wait(end->process);
	json_decref(answer);
	ctl_end_forget(end);
	return code;
}
