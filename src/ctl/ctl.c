/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The daemon's side: a socket and one thread that waits on it. The thread never waits for a client (what does not fit
 * into a socket's buffer is dropped with its connection) and never for a leg (a scrub has a thread of its own), and no
 * request of the mount waits for it.
 *
 * A socket left behind by a daemon that was killed is replaced; one that answers is another daemon with this volume,
 * and is refused: it can only hold the other leg, written apart (I11).
 */
#include "ctl_private.h"

#include "mirrorfs/base/clock.h"
#include "mirrorfs/base/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define SPACE_MSEC 10000 /* how often somebody looks how much is left */

/* ---- the socket ---- */

static int directory_make(char *directory, size_t size, struct error *error)
{
	for (int n = 0; path_directory(geteuid(), n, directory, size); n++) {
		if (mkdir(directory, 0700) && errno != EEXIST)
			continue;
		if (path_trusted(directory, geteuid()))
			return 0;
	}
	return error_set(error, -EACCES, "no directory for the control socket: %s is not ours alone", directory);
}

int ctl_lock(struct error *error)
{
	char directory[CTL_PATH_SIZE];
	int code = directory_make(directory, sizeof(directory), error), fd;

	if (code)
		return code;
	fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	while (fd >= 0 && (code = flock(fd, LOCK_EX)) && errno == EINTR)
		;
	if (fd >= 0 && !code)
		return fd;
	code = error_set(error, -errno, "%s: cannot lock: %s", directory, strerror(errno));
	if (fd >= 0)
		close(fd);
	return code;
}

static int path_make(struct ctl *ctl, struct error *error)
{
	char directory[CTL_PATH_SIZE], uuid[UUID_TEXT_SIZE];
	int code = directory_make(directory, sizeof(directory), error);
	struct front_stats stats;

	if (code)
		return code;
	uuid_format(&mirror_identity(ctl->subjects.mirror)->volume, uuid);
	if (snprintf(ctl->path, sizeof(ctl->path), "%s/%s.sock", directory, uuid) >= (int)sizeof(ctl->path))
		return error_set(error, -ENAMETOOLONG, "%s: too long a path for a control socket", directory);
	if (!ctl->subjects.front)
		return 0;
	/* Shorter than the path above, so it fits: by this name a client finds the socket from mountinfo. */
	front_stats(ctl->subjects.front, &stats);
	if (snprintf(ctl->link, sizeof(ctl->link), "%s/%u:%u", directory, major(stats.device), minor(stats.device)) >=
	    (int)sizeof(ctl->link))
		return error_set(error, -ENAMETOOLONG, "%s: too long a path for a control socket", directory);
	return 0;
}

static const char *socket_name(const struct ctl *ctl)
{
	return strrchr(ctl->path, '/') + 1;
}

static bool link_is_ours(const struct ctl *ctl, int directory, const char *name)
{
	char target[CTL_PATH_SIZE];
	ssize_t length = readlinkat(directory, name, target, sizeof(target) - 1);

	if (length <= 0)
		return false;
	target[length] = '\0';
	return !strcmp(target, socket_name(ctl));
}

/* Dead mounts of this volume, if there are any, must not be taken for ours. */
static void remove_old_links(const struct ctl *ctl)
{
	char directory[CTL_PATH_SIZE];
	struct dirent *entry;
	DIR *dir;

	snprintf(directory, sizeof(directory), "%.*s", (int)(socket_name(ctl) - ctl->path), ctl->path);
	dir = opendir(directory);
	while (dir && (entry = readdir(dir)))
		if (link_is_ours(ctl, dirfd(dir), entry->d_name))
			unlinkat(dirfd(dir), entry->d_name, 0);
	if (dir)
		closedir(dir);
}

static int link_make(const struct ctl *ctl, struct error *error)
{
	remove_old_links(ctl);
	if (!ctl->link[0])
		return 0;
	unlink(ctl->link);
	if (symlink(socket_name(ctl), ctl->link))
		return error_set(error, -errno, "%s: %s", ctl->link, strerror(errno));
	return 0;
}

static int listen_at(struct ctl *ctl, struct error *error)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int other = path_connect(ctl->path);

	if (other >= 0) {
		close(other);
		return error_set(error, -EBUSY, "this volume is mounted by another daemon, which answers at %s",
				 ctl->path);
	}
	strcpy(address.sun_path, ctl->path);
	unlink(ctl->path);
	ctl->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (ctl->listener < 0)
		return error_set(error, -errno, "cannot make a control socket: %s", strerror(errno));
	if (bind(ctl->listener, (struct sockaddr *)&address, sizeof(address)) || chmod(ctl->path, 0600) ||
	    listen(ctl->listener, CTL_CONNECTIONS))
		return error_set(error, -errno, "%s: cannot make a control socket: %s", ctl->path, strerror(errno));
	return link_make(ctl, error);
}

/* ---- connections ---- */

static void connection_close(struct ctl_connection *connection)
{
	close(connection->fd);
	connection->fd = -1;
}

static bool peer_allowed(int fd)
{
	struct ucred peer;
	socklen_t length = sizeof(peer);

	return !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) && (peer.uid == 0 || peer.uid == geteuid());
}

static void connection_accept(struct ctl *ctl)
{
	int fd = accept4(ctl->listener, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0)
		return;
	if (!peer_allowed(fd)) {
		close(fd);
		return;
	}
	for (int i = 0; i < CTL_CONNECTIONS; i++) {
		if (ctl->connections[i].fd >= 0)
			continue;
		ctl->connections[i].fd = fd;
		ctl->connections[i].length = 0;
		return;
	}
	/* All are taken by clients that do not say what they want: the first one makes room. */
	connection_close(&ctl->connections[0]);
	ctl->connections[0].fd = fd;
	ctl->connections[0].length = 0;
}

/* Of HTTP the head has been read to its end, an empty line: who closes before that cuts the answer off. */
static char *request_end(const struct ctl_connection *connection)
{
	if (connection->length >= 4 && !memcmp(connection->line, "GET ", 4))
		return memmem(connection->line, connection->length, "\r\n\r\n", 4);
	return memchr(connection->line, '\n', connection->length);
}

static void connection_read(struct ctl *ctl, struct ctl_connection *connection)
{
	ssize_t got = recv(connection->fd, connection->line + connection->length,
			   sizeof(connection->line) - connection->length, MSG_DONTWAIT);
	char *end;

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got <= 0) {
		connection_close(connection);
		return;
	}
	connection->length += (size_t)got;
	end = request_end(connection);
	if (!end && connection->length < sizeof(connection->line))
		return;
	command_run(ctl, connection->fd, connection->line,
		    end ? (size_t)(end - connection->line) : connection->length);
	connection_close(connection);
}

static void serve(void *arg)
{
	struct ctl *ctl = arg;
	struct pollfd polls[2 + CTL_CONNECTIONS];
	uint64_t next_ns;

	for (;;) {
		polls[0] = (struct pollfd){ .fd = ctl->wake, .events = POLLIN };
		polls[1] = (struct pollfd){ .fd = ctl->listener, .events = POLLIN };
		for (int i = 0; i < CTL_CONNECTIONS; i++)
			polls[2 + i] = (struct pollfd){ .fd = ctl->connections[i].fd, .events = POLLIN };
		events_watch_space(ctl);
		next_ns = history_note(ctl) / NSEC_PER_MSEC + 1;
		if (poll(polls, 2 + CTL_CONNECTIONS, next_ns < SPACE_MSEC ? (int)next_ns : SPACE_MSEC) <= 0)
			continue;
		if (polls[0].revents)
			return;
		for (int i = 0; i < CTL_CONNECTIONS; i++)
			if (polls[2 + i].revents)
				connection_read(ctl, &ctl->connections[i]);
		if (polls[1].revents)
			connection_accept(ctl);
	}
}

/* ---- life ---- */

/* All but those who wait for the end. */
static void close_down(struct ctl *ctl)
{
	scrub_end(ctl);
	events_end(ctl);
	files_end(ctl);
	worker_end(&ctl->legs);
	for (int i = 0; i < CTL_CONNECTIONS; i++)
		if (ctl->connections[i].fd >= 0)
			close(ctl->connections[i].fd);
	if (ctl->listener >= 0) {
		close(ctl->listener);
		unlink(ctl->path);
		/* The next mount may have got the number that it is named after, and made it lead to itself. */
		if (ctl->link[0] && link_is_ours(ctl, AT_FDCWD, ctl->link))
			unlink(ctl->link);
	}
	if (ctl->wake >= 0)
		close(ctl->wake);
}

int ctl_serve(const struct ctl_subjects *subjects, struct ctl **result, struct error *error)
{
	struct ctl *ctl = calloc(1, sizeof(*ctl));
	int code;

	*result = NULL;
	if (!ctl)
		return error_set(error, -ENOMEM, "out of memory");
	ctl->subjects = *subjects;
	ctl->listener = -1;
	for (int i = 0; i < CTL_CONNECTIONS; i++)
		ctl->connections[i].fd = ctl->waiters[i] = -1;
	ctl->wake = eventfd(0, EFD_CLOEXEC);
	code = ctl->wake < 0 ? error_set(error, -errno, "cannot make an eventfd: %s", strerror(errno)) :
			       path_make(ctl, error);
	if (!code)
		code = listen_at(ctl, error);
	scrub_begin(ctl);
	events_begin(ctl);
	if (!code) {
		code = thread_start(&ctl->thread, "ctl", serve, ctl);
		if (code)
			error_set(error, code, "cannot start a thread: %s", strerror(-code));
	}
	if (code) {
		close_down(ctl);
		free(ctl);
		return code;
	}
	*result = ctl;
	return 0;
}

void ctl_stop(struct ctl *ctl)
{
	if (!ctl)
		return;
	if (eventfd_write(ctl->wake, 1))
		log_error("cannot end the control socket: %s", strerror(errno));
	thread_join(&ctl->thread);
	close_down(ctl);
}

void ctl_destroy(struct ctl *ctl, int code, const char *text)
{
	if (!ctl)
		return;
	end_tell(ctl, code, text);
	free(ctl);
}
