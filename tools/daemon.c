/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon.h"
#include "journald.h"

#include "mirrorfs/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

#define EXIT_SYSTEM 2 /* mount(8) */

static int parent_pipe = -1;
static _Atomic enum place { PLACE_STDERR, PLACE_SYSLOG, PLACE_JOURNAL } place;

static void sink(enum log_level level, const char *line)
{
	static const int priority[] = { LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG };

	switch (atomic_load_explicit(&place, memory_order_relaxed)) {
	case PLACE_STDERR:
		fprintf(stderr, "mirrorfs: %s\n", line);
		break;
	case PLACE_SYSLOG:
		syslog(priority[level], "%s", line);
		break;
	case PLACE_JOURNAL:
		journald_write(priority[level], line);
		break;
	}
}

static void parent_wait(pid_t child, int fd)
{
	unsigned char told;
	int status = 0;

	if (read(fd, &told, 1) == 1)
		_exit(told);
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(status))
		_exit(WEXITSTATUS(status));
	fprintf(stderr, "mirrorfs: the daemon was killed by signal %d\n", WTERMSIG(status));
	_exit(EXIT_SYSTEM);
}

void daemon_begin(bool foreground)
{
	pid_t parent, child;
	int ends[2];

	log_set_sink(sink);
	if (foreground) {
		/* The same place, but there our lines have fields and their own priority. */
		if (journald_is_stderr() && journald_open())
			atomic_store(&place, PLACE_JOURNAL);
		return;
	}
	if (pipe2(ends, O_CLOEXEC)) {
		fprintf(stderr, "mirrorfs: pipe: %s\n", strerror(errno));
		exit(EXIT_SYSTEM);
	}
	parent = getpid();
	child = fork();
	if (child < 0) {
		fprintf(stderr, "mirrorfs: fork: %s\n", strerror(errno));
		exit(EXIT_SYSTEM);
	}
	if (child) {
		close(ends[1]);
		parent_wait(child, ends[0]);
	}
	close(ends[0]);
	parent_pipe = ends[1];
	/* Who gives up waiting for the mount does not want it any more. */
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		exit(EXIT_SYSTEM);
}

/* Nobody who reads what we said waits for the end of it either. */
static void terminal_leave(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (int fd = 0; null >= 0 && fd <= 2; fd++)
		dup2(null, fd);
	if (null > 2)
		close(null);
}

static bool parent_tell(int code)
{
	unsigned char told = (unsigned char)code;
	bool heard = write(parent_pipe, &told, 1) == 1;

	close(parent_pipe);
	parent_pipe = -1;
	return heard;
}

void daemon_ready(void)
{
	if (chdir("/"))
		log_warn("cannot leave the current directory: %s", strerror(errno));
	if (parent_pipe < 0)
		return;
	prctl(PR_SET_PDEATHSIG, 0);
	openlog("mirrorfs", LOG_PID, LOG_DAEMON);
	setsid();
	atomic_store(&place, journald_open() ? PLACE_JOURNAL : PLACE_SYSLOG);
	terminal_leave();
	if (!parent_tell(EXIT_SUCCESS))
		log_warn("nobody waits for the mount any more");
}

void daemon_over(int code)
{
	if (parent_pipe < 0)
		return;
	prctl(PR_SET_PDEATHSIG, 0);
	terminal_leave();
	(void)parent_tell(code);
}
