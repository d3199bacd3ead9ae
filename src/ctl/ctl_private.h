/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of `ctl` share. */
#ifndef MIRRORFS_CTL_PRIVATE_H
#define MIRRORFS_CTL_PRIVATE_H

#include "mirrorfs/base/sync.h"
#include "mirrorfs/ctl.h"

#include <stdatomic.h>
#include <sys/un.h>

#define CTL_PATH_SIZE sizeof(((struct sockaddr_un *)0)->sun_path)
#define CTL_REQUEST_MAX 4096u /* bytes of a request line */
#define CTL_CONNECTIONS 16

/* A client that has not sent its whole line yet. */
struct ctl_connection {
	int fd; /* -1: free */
	size_t length;
	char line[CTL_REQUEST_MAX];
};

/* The one long command. It has a thread and the client's connection to itself. */
struct ctl_scrub {
	struct thread thread;
	bool started; /* to be joined; the serving thread's own */
	_Atomic bool running;
	_Atomic bool stop;
	int fd;
	uint64_t told_ns; /* when the last progress was sent */
	unsigned int healed_told, lost_told; /* places named to whoever asked */
};

struct ctl {
	struct ctl_subjects subjects;
	char path[CTL_PATH_SIZE]; /* of the socket */
	char link[CTL_PATH_SIZE]; /* by the mount's device number; "" none */
	int listener;
	int wake; /* eventfd: ctl_stop() was called */
	struct thread thread;
	struct ctl_connection connections[CTL_CONNECTIONS];
	struct ctl_scrub scrub;
};

/* path.c */
/*
 * The n-th directory in which a daemon of `owner` may have its sockets, the best first. False: there is none. A
 * directory counts only if it is the owner's and nobody else can write to it: path_trusted().
 */
bool path_directory(uid_t owner, int n, char *directory, size_t size);
bool path_trusted(const char *directory, uid_t owner);
int path_connect(const char *path); /* a connected socket or -errno */

/* status.c */
json_t *status_make(const struct ctl_subjects *subjects); /* NULL: no memory */

/* command.c */
/* Carries out one request line. True: the connection was handed on and is not the caller's any more. */
bool command_run(struct ctl *ctl, int fd, const char *line, size_t length);
void command_stop(struct ctl *ctl); /* ends a scrub and waits for it */

#endif
