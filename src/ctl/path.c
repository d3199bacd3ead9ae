/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where control sockets are, for the daemon that makes one and the client that looks for it. */
#include "ctl_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

bool path_directory(uid_t owner, int n, char *directory, size_t size)
{
	const char *runtime = owner == geteuid() ? getenv("XDG_RUNTIME_DIR") : NULL;

	switch (n) {
	case 0:
		if (owner == 0)
			snprintf(directory, size, "/run/mirrorfs");
		else if (runtime && runtime[0] == '/')
			snprintf(directory, size, "%s/mirrorfs", runtime);
		else
			snprintf(directory, size, "/run/user/%u/mirrorfs", owner);
		return true;
	case 1:
		snprintf(directory, size, "/run/user/%u/mirrorfs", owner);
		return true;
	case 2:
		snprintf(directory, size, "/tmp/mirrorfs-%u", owner);
		return true;
	default:
		return false;
	}
}

bool path_trusted(const char *directory, uid_t owner)
{
	struct stat st;

	return !lstat(directory, &st) && S_ISDIR(st.st_mode) && st.st_uid == owner && !(st.st_mode & 022);
}

int path_connect(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct timeval patience = { .tv_sec = CTL_ANSWER_SECONDS };
	int fd, error;

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	if (!connect(fd, (struct sockaddr *)&address, sizeof(address)))
		return fd;
	error = -errno;
	close(fd);
	return error;
}
