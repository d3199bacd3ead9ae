/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who has to know when the legs are safe to pull asks before unmounting, and is told when the daemon has closed them:
 * umount(2) returns long before that. A connection that ends without a word is a daemon that was killed.
 * Whoever cannot be told must not wait either: the mount is not unmounted yet, so its daemon would not end.
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

#define DEATH_MSEC 2000 /* in which a process that closed its socket in dying is gone */

/* ---- the daemon's side ---- */

/* Who did not unmount after all, or does not wait, has closed its end and needs no room here. */
static void waiters_prune(struct ctl *ctl)
{
	for (int i = 0; i < CTL_CONNECTIONS; i++) {
		struct pollfd left = { .fd = ctl->waiters[i], .events = 0 };

		if (poll(&left, 1, 0) <= 0)
			continue;
		close(ctl->waiters[i]);
		ctl->waiters[i] = -1;
	}
}

void end_command(struct ctl *ctl, int fd, const json_t *request)
{
	waiters_prune(ctl);
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

/* The kernel lets go of a leg's lock when the process is gone. False: it is still there after `msec` (-1: no limit). */
static bool process_wait(int process, int msec)
{
	struct pollfd gone = { .fd = process, .events = POLLIN };
	int found = 1;

	while (process >= 0 && (found = poll(&gone, 1, msec)) < 0 && errno == EINTR)
		;
	return found != 0;
}

/* 0: it will tell; -EBUSY: it says that it cannot; -ETIMEDOUT: it says nothing; -ECONNRESET: its end is closed. */
static int promise_ask(int socket)
{
	static const char request[] = "{\"command\": \"end\"}\n";
	ssize_t got = send(socket, request, sizeof(request) - 1, MSG_NOSIGNAL);
	char promised = '\0';

	if (got > 0) {
		do
			got = recv(socket, &promised, 1, 0);
		while (got < 0 && errno == EINTR);
	}
	if (got > 0)
		return promised == '\n' ? 0 : -EBUSY;
	return got < 0 && errno == EAGAIN ? -ETIMEDOUT : -ECONNRESET;
}

int ctl_end_ask(const struct ctl_mount *mount, struct ctl_end *end, struct error *error)
{
	struct ucred peer;
	socklen_t length = sizeof(peer);
	int code;

	end->process = -1;
	end->socket = client_connect(mount, error);
	if (end->socket < 0)
		return end->socket;
	if (!getsockopt(end->socket, SOL_SOCKET, SO_PEERCRED, &peer, &length) && peer.pid > 0)
		end->process = pidfd_open(peer.pid, 0);
	code = promise_ask(end->socket);
	if (!code)
		return 0;
	/* A daemon that lives may hang up, too: on whom it has no room for. */
	if (code == -ECONNRESET)
		code = process_wait(end->process, DEATH_MSEC) ? -ECONNREFUSED : -EBUSY;
	ctl_end_forget(end);
	if (code == -ECONNREFUSED)
		return error_set(error, code, "the daemon has gone");
	return error_set(error, code, code == -EBUSY ? "the daemon cannot tell when it has ended" :
						       "the daemon does not answer");
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
	json_t *answer;
	int code = client_answer(end->socket, CLIENT_ENDLESS, &answer, NULL);
	const json_t *told = json_object_get(answer, "error");

	if (code)
		code = error_set(error, -ECONNRESET, "the daemon was killed: what was not synced is lost");
	else if (told)
		code = error_set(error, is_busy(told) ? -EBUSY : -EIO, "%s",
				 json_string_value(json_object_get(told, "text")) ?: "it has not ended well");
	/* With requests that the kernel has not given back, nobody knows when the process will be gone. */
	if (code != -EBUSY)
		process_wait(end->process, -1);
	json_decref(answer);
	ctl_end_forget(end);
	return code;
}
