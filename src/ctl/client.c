/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The client's side. Mounts are found in /proc/self/mountinfo and never touched themselves: a mount may hang, and
 * that is just when somebody asks for its status.
 */
#include "ctl_private.h"

#include "mirrorfs/base/clock.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ANSWER_LEAST ((size_t)16 << 10)
#define ANSWER_MAX ((size_t)64 << 20) /* bytes of a line; the longest tells of a thousand files */
#define LOOK_MSEC 60000

uint64_t client_patience_ns = CTL_ANSWER_SECONDS * NSEC_PER_SEC;

/* ---- mounts ---- */

/* mountinfo writes blanks and backslashes as \ooo. */
static void unescape(char *text)
{
	char *to = text;

	for (const char *from = text; *from; to++) {
		if (from[0] == '\\' && isdigit(from[1]) && isdigit(from[2]) && isdigit(from[3])) {
			*to = (char)((from[1] - '0') * 64 + (from[2] - '0') * 8 + (from[3] - '0'));
			from += 4;
		} else {
			*to = *from++;
		}
	}
	*to = '\0';
}

/* `path` made absolute without looking at what is mounted there: only its parent is resolved. */
static int absolute(const char *path, char out[PATH_MAX])
{
	char copy[PATH_MAX], parent[PATH_MAX], *name;
	size_t length = strlen(path);

	while (length > 1 && path[length - 1] == '/')
		length--;
	if (!length || length >= sizeof(copy))
		return -ENAMETOOLONG;
	memcpy(copy, path, length);
	copy[length] = '\0';
	if (!strcmp(copy, "."))
		return getcwd(out, PATH_MAX) ? 0 : -errno;
	name = strrchr(copy, '/');
	if (name == copy || (name && !strcmp(name, "/..")) || !strcmp(copy, "..")) {
		/* Directly below the root, or a name that only the system can resolve. */
		if (name == copy && strcmp(copy, "/..") != 0) {
			strcpy(out, copy);
			return 0;
		}
		return realpath(copy, out) ? 0 : -errno;
	}
	if (name)
		*name++ = '\0';
	else
		name = copy;
	if (!realpath(name == copy ? "." : copy, parent))
		return -errno;
	if (snprintf(out, PATH_MAX, "%s/%s", strcmp(parent, "/") ? parent : "", name) >= PATH_MAX)
		return -ENAMETOOLONG;
	return 0;
}

struct mount_line {
	char device[32]; /* major:minor */
	char *mountpoint, *source;
	uid_t owner;
};

/* False: not a line of ours. Cuts `line` up. */
static bool mount_parse(char *line, struct mount_line *mount)
{
	char *rest = strstr(line, " - "), *root, *type, *options, *save = NULL, *owner;

	if (!rest)
		return false;
	*rest = '\0';
	strtok_r(line, " ", &save);
	strtok_r(NULL, " ", &save);
	snprintf(mount->device, sizeof(mount->device), "%s", strtok_r(NULL, " ", &save) ?: "");
	root = strtok_r(NULL, " ", &save);
	mount->mountpoint = strtok_r(NULL, " ", &save);
	type = strtok_r(rest + 3, " ", &save);
	mount->source = strtok_r(NULL, " ", &save);
	options = strtok_r(NULL, " \n", &save);
	if (!root || !mount->mountpoint || !type || !mount->source || !options || strcmp(root, "/") != 0 ||
	    (strcmp(type, "fuse.mirrorfs") != 0 && strcmp(type, "fuseblk.mirrorfs") != 0))
		return false;
	unescape(mount->mountpoint);
	unescape(mount->source);
	owner = strstr(options, "user_id=");
	mount->owner = owner ? (uid_t)strtoul(owner + strlen("user_id="), NULL, 10) : 0;
	return true;
}

/* Fills `socket` with the path behind the link that the daemon has made for its mount; "" if there is none. */
static void socket_find(const struct mount_line *mount, char *socket, size_t size)
{
	char directory[CTL_PATH_SIZE], link[CTL_PATH_SIZE + 40], name[UUID_TEXT_SIZE + 8];
	ssize_t length;

	socket[0] = '\0';
	for (int n = 0; path_directory(mount->owner, n, directory, sizeof(directory)); n++) {
		if (!path_trusted(directory, mount->owner))
			continue;
		snprintf(link, sizeof(link), "%s/%s", directory, mount->device);
		length = readlink(link, name, sizeof(name) - 1);
		if (length <= 0)
			continue;
		name[length] = '\0';
		if (snprintf(socket, size, "%s/%s", directory, name) < (int)size)
			return;
		socket[0] = '\0';
	}
}

int ctl_mounts(const char *mountpoint, struct ctl_mount *mounts, int max, struct error *error)
{
	char wanted[PATH_MAX], *line = NULL;
	struct mount_line mount;
	size_t size = 0;
	int found = 0;
	FILE *file;

	if (mountpoint) {
		int code = absolute(mountpoint, wanted);

		if (code)
			return error_set(error, code, "%s: %s", mountpoint, strerror(-code));
	}
	file = fopen("/proc/self/mountinfo", "re");
	if (!file)
		return error_set(error, -errno, "/proc/self/mountinfo: %s", strerror(errno));
	while (getline(&line, &size, file) > 0) {
		if (!mount_parse(line, &mount) || (mountpoint && strcmp(mount.mountpoint, wanted) != 0))
			continue;
		/* Of several at one place the last one is on top. */
		if (mountpoint)
			found = 0;
		if (found == max)
			break;
		snprintf(mounts[found].mountpoint, sizeof(mounts[found].mountpoint), "%s", mount.mountpoint);
		snprintf(mounts[found].source, sizeof(mounts[found].source), "%s", mount.source);
		mounts[found].owner = mount.owner;
		socket_find(&mount, mounts[found].socket, sizeof(mounts[found].socket));
		found++;
	}
	free(line);
	fclose(file);
	return found;
}

/* ---- requests ---- */

static int request_send(int fd, json_t *request)
{
	char *text = json_dumps(request, JSON_COMPACT);
	size_t length, sent = 0;
	ssize_t got = 0;

	if (!text)
		return -ENOMEM;
	length = strlen(text);
	text[length++] = '\n';
	while (sent < length && got >= 0) {
		got = send(fd, text + sent, length - sent, MSG_NOSIGNAL);
		sent += got > 0 ? (size_t)got : 0;
	}
	free(text);
	/* Who has hung up may have said something before. */
	return sent == length || errno == EPIPE ? 0 : -errno;
}

/* What comes next within the time: as many bytes, 0 at the end, or -errno. */
static ssize_t receive(int fd, char *to, size_t room, uint64_t until_ns)
{
	struct pollfd some = { .fd = fd, .events = POLLIN };
	uint64_t now_ns, left_ms;
	ssize_t got;

	do {
		now_ns = clock_now_ns();
		if (now_ns >= until_ns)
			return -ETIMEDOUT;
		left_ms = (until_ns - now_ns) / NSEC_PER_MSEC + 1;
		poll(&some, 1, left_ms < LOOK_MSEC ? (int)left_ms : LOOK_MSEC);
		got = recv(fd, to, room, MSG_DONTWAIT);
	} while (got < 0 && (errno == EAGAIN || errno == EINTR));
	return got < 0 ? -errno : got;
}

static uint64_t until(enum client_patience patience)
{
	return patience == CLIENT_ENDLESS ? CLOCK_NEVER : clock_now_ns() + client_patience_ns;
}

static bool grow(char **text, size_t *room)
{
	size_t wanted = *room ? 2 * *room : ANSWER_LEAST;
	char *larger = wanted <= ANSWER_MAX ? realloc(*text, wanted) : NULL;

	if (!larger)
		return false;
	*text = larger;
	*room = wanted;
	return true;
}

/* Empty lines say that it goes on. */
static size_t signs(const char *text, size_t length)
{
	size_t count = 0;

	while (count < length && text[count] == '\n')
		count++;
	return count;
}

/* The first line that is not empty: 0, and *line is the caller's. Whoever answers may be anybody: all is bounded. */
static int line_read(int fd, enum client_patience patience, char **line)
{
	uint64_t until_ns = until(patience);
	size_t length = 0, room = 0;
	char *text = NULL, *end = NULL;
	ssize_t got = 1;

	while (!end) {
		size_t skip;

		if (length == room && !grow(&text, &room))
			got = -EMSGSIZE;
		if (got > 0)
			got = receive(fd, text + length, room - length, until_ns);
		if (got <= 0)
			break;
		skip = length ? 0 : signs(text, (size_t)got);
		if (skip && patience == CLIENT_SIGNS)
			until_ns = until(patience);
		if (skip)
			memmove(text, text + skip, (size_t)got - skip);
		end = memchr(text + length, '\n', (size_t)got - skip);
		length += (size_t)got - skip;
	}
	if (end) {
		*end = '\0';
		*line = text;
		return 0;
	}
	free(text);
	*line = NULL;
	return got ? (int)got : -ECONNREFUSED;
}

int client_answer(int fd, enum client_patience patience, json_t **result, struct error *error)
{
	char *line;
	json_t *json = NULL;
	int code = line_read(fd, patience, &line);

	*result = NULL;
	if (code == -ETIMEDOUT)
		error_set(error, code, "the daemon does not answer");
	else if (code == -EMSGSIZE)
		error_set(error, code, "the daemon's answer has no end");
	else if (code)
		code = error_set(error, -ECONNREFUSED, "the daemon has gone");
	else
		json = json_loads(line, 0, NULL);
	free(line);
	if (!code && json_integer_value(json_object_get(json, "version")) != CTL_VERSION)
		code = error_set(error, -EPROTO, "the daemon speaks another version of the control protocol");
	if (code)
		json_decref(json);
	else
		*result = json;
	return code;
}

/* Whoever serves this socket is stopped (SIGSTOP, a debugger), and answers nobody: 0, or its process. */
static pid_t peer_stopped(int fd)
{
	struct ucred peer;
	socklen_t length = sizeof(peer);
	char path[40], state = 0;
	FILE *file;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) || peer.pid <= 0)
		return 0;
	snprintf(path, sizeof(path), "/proc/%d/stat", (int)peer.pid);
	file = fopen(path, "re");
	if (!file)
		return 0;
	/* Behind the name, which may have brackets itself; ours has none. */
	if (fscanf(file, "%*d (%*[^)]) %c", &state) != 1)
		state = 0;
	fclose(file);
	return state == 'T' || state == 't' ? peer.pid : 0;
}

int client_connect(const struct ctl_mount *mount, struct error *error)
{
	int fd = mount->socket[0] ? path_connect(mount->socket) : -ENOENT;
	pid_t stopped = fd < 0 ? 0 : peer_stopped(fd);

	if (fd < 0)
		return error_set(error, fd, "no daemon answers for this mount: %s", strerror(-fd));
	if (!stopped)
		return fd;
	close(fd);
	return error_set(error, -ETIMEDOUT, "the daemon is stopped, and so is the mount; kill -CONT %d lets it go on",
			 (int)stopped);
}

int ctl_request(const struct ctl_mount *mount, json_t *request, json_t **result, struct error *error)
{
	const char *command = json_string_value(json_object_get(request, "command"));
	/* Who is asked for his status may be anybody; whoever asks for more knows whom. */
	enum client_patience patience = command && !strcmp(command, "status") ? CLIENT_BRIEF : CLIENT_SIGNS;
	int fd = client_connect(mount, error), code;

	*result = NULL;
	if (fd < 0) {
		json_decref(request);
		return fd;
	}
	code = request_send(fd, request);
	json_decref(request);
	if (code)
		error_set(error, code, "cannot send: %s", strerror(-code));
	else
		code = client_answer(fd, patience, result, error);
	close(fd);
	return code;
}
