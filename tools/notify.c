/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The protocol is one datagram, and sd_notify(3) promises that it stays so: a library, and what it brings with it into
 * a process that holds everybody's files, would be much for a single call.
 */
#include "notify.h"

#include <ctype.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

static int notify_socket = -1;
static struct sockaddr_un notify_address = { .sun_family = AF_UNIX };
static socklen_t notify_length;

void notify_begin(void)
{
	const char *path = getenv("NOTIFY_SOCKET");
	size_t length = path ? strlen(path) : 0;

	if (length > 1 && length < sizeof(notify_address.sun_path) && (path[0] == '/' || path[0] == '@')) {
		memcpy(notify_address.sun_path, path, length + 1);
		notify_length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + (path[0] == '/'));
		/* The abstract ones of Linux begin with a zero, which is not to be written in an environment. */
		if (path[0] == '@')
			notify_address.sun_path[0] = '\0';
		notify_socket = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	}
	unsetenv("NOTIFY_SOCKET");
}

bool notify_wanted(void)
{
	return notify_socket >= 0;
}

void notify_send(const char *state, const char *format, ...)
{
	char status[1024], text[2048];
	va_list args;

	if (notify_socket < 0)
		return;
	va_start(args, format);
	vsnprintf(status, sizeof(status), format, args);
	va_end(args);
	/* A newline in a path would begin another line. */
	for (char *at = status; *at; at++)
		*at = iscntrl((unsigned char)*at) ? ' ' : *at;
	snprintf(text, sizeof(text), "%s%sSTATUS=%s", state, state[0] ? "\n" : "", status);
	/* Who does not listen misses it. */
	(void)!sendto(notify_socket, text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL,
		      (struct sockaddr *)&notify_address, notify_length);
}
