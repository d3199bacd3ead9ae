/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "helper.h"

#include "mirrorfs/base/clock.h"
#include "mirrorfs/front.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define HELPER_NAME "mirrorfs-helper"
#define HELPER_NOTICE_MAX 16384
#define HELPER_WORDS 64
#define HELPER_PROGRAM_NS (60 * NSEC_PER_SEC)

/* The daemon's ends; packets, so that each is whole. */
static int order_socket = -1; /* flags there, an errno back */
static int notice_socket = -1; /* a NUL, then words, each with one; what is waiting waits in the socket */

struct helper {
	const char *mountpoint;
	const char *program; /* or NULL */
	int orders, notices; /* -1: the daemon has closed it */
	pid_t child; /* the program that runs; 0: none does */
	int child_fd;
	uint64_t child_until_ns;
};

/* ---- the helper's side ---- */

static void program_reap(struct helper *helper)
{
	while (waitpid(helper->child, NULL, 0) < 0 && errno == EINTR)
		;
	if (helper->child_fd >= 0)
		close(helper->child_fd);
	helper->child = 0;
}

static void program_run(struct helper *helper, char *const argv[])
{
	posix_spawnattr_t attr;
	sigset_t none, all;

	sigemptyset(&none);
	sigfillset(&all);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSID);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	if (posix_spawn(&helper->child, helper->program, NULL, &attr, argv, environ))
		helper->child = 0;
	posix_spawnattr_destroy(&attr);
	if (!helper->child)
		return;
	helper->child_fd = pidfd_open(helper->child, 0);
	helper->child_until_ns = clock_now_ns() + HELPER_PROGRAM_NS;
	if (helper->child_fd < 0)
		program_reap(helper);
}

static void notice_take(struct helper *helper)
{
	char text[HELPER_NOTICE_MAX + 1], *argv[HELPER_WORDS + 2] = { (char *)helper->program };
	ssize_t length = recv(helper->notices, text, sizeof(text) - 1, 0);
	size_t words = 1;

	if (length <= 0) {
		close(helper->notices);
		helper->notices = -1;
		return;
	}
	text[length] = '\0';
	for (char *at = text + 1; at < text + length && words <= HELPER_WORDS; at += strlen(at) + 1)
		argv[words++] = at;
	argv[words] = NULL;
	if (helper->program)
		program_run(helper, argv);
}

static void order_take(struct helper *helper)
{
	int flags, error;

	if (recv(helper->orders, &flags, sizeof(flags), 0) != sizeof(flags)) {
		close(helper->orders);
		helper->orders = -1;
		return;
	}
	error = front_unmount(helper->mountpoint, flags);
	(void)!send(helper->orders, &error, sizeof(error), MSG_NOSIGNAL);
}

/* Until the daemon has ended, and nothing is left to tell. */
static void helper_run(struct helper *helper)
{
	while (helper->orders >= 0 || helper->notices >= 0 || helper->child) {
		struct pollfd polls[] = {
			{ .fd = helper->orders, .events = POLLIN },
			{ .fd = helper->child ? -1 : helper->notices, .events = POLLIN },
			{ .fd = helper->child ? helper->child_fd : -1, .events = POLLIN },
		};
		uint64_t now = clock_now_ns();
		int patience = -1;

		if (helper->child && now >= helper->child_until_ns)
			kill(-helper->child, SIGKILL);
		else if (helper->child)
			patience = (int)((helper->child_until_ns - now) / NSEC_PER_MSEC) + 1;
		if (poll(polls, sizeof(polls) / sizeof(polls[0]), patience) <= 0)
			continue;
		if (polls[2].revents)
			program_reap(helper);
		if (polls[0].revents)
			order_take(helper);
		if (polls[1].revents)
			notice_take(helper);
	}
}

/* Not the daemon's: neither its terminal, nor where it was started, nor what whoever started it waits to see closed. */
static void leave(bool foreground)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	setsid();
	for (int fd = 0; null >= 0 && fd <= (foreground ? 0 : 2); fd++)
		dup2(null, fd);
	if (null > 2)
		close(null);
	if (chdir("/"))
		_exit(1);
	signal(SIGTERM, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
}

/* In the process list, for people, and for whoever looks for the daemon by its words. */
static void call_oneself(char **argv, const char *mountpoint)
{
	size_t room = 0, used;

	/* getopt_long() has put them into another order. */
	for (int i = 0; argv[i]; i++) {
		size_t end = (size_t)(argv[i] - argv[0]) + strlen(argv[i]) + 1;

		room = end > room ? end : room;
	}
	memset(argv[0], 0, room);
	used = (size_t)snprintf(argv[0], room, "%s", HELPER_NAME) + 1;
	if (used < room)
		snprintf(argv[0] + used, room - used, "%s", mountpoint);
	prctl(PR_SET_NAME, HELPER_NAME);
}

/* ---- the daemon's side ---- */

int helper_start(const struct helper_options *options)
{
	int orders[2], notices[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, orders) ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, notices))
		return -errno;
	pid = fork();
	if (pid < 0)
		return -errno;
	if (!pid) {
		struct helper helper = { .mountpoint = strdup(options->mountpoint),
					 .program = options->program ? strdup(options->program) : NULL,
					 .orders = orders[1],
					 .notices = notices[1] };

		close(orders[0]);
		close(notices[0]);
		leave(options->foreground);
		if (helper.mountpoint) {
			call_oneself(options->argv, helper.mountpoint);
			helper_run(&helper);
		}
		_exit(0);
	}
	close(orders[1]);
	close(notices[1]);
	order_socket = orders[0];
	notice_socket = options->program ? notices[0] : -1;
	if (!options->program)
		close(notices[0]);
	return 0;
}

int helper_unmount(int flags)
{
	int error;

	if (send(order_socket, &flags, sizeof(flags), MSG_NOSIGNAL) != sizeof(flags) ||
	    recv(order_socket, &error, sizeof(error), 0) != sizeof(error))
		return -EPIPE;
	return error;
}

int helper_notify(const char *const words[])
{
	char text[HELPER_NOTICE_MAX] = "";
	size_t length = 1;

	if (notice_socket < 0)
		return -ENOENT;
	for (size_t i = 0; words[i]; i++) {
		size_t size = strlen(words[i]) + 1;

		if (i == HELPER_WORDS || size > sizeof(text) - length)
			return -E2BIG;
		memcpy(text + length, words[i], size);
		length += size;
	}
	if (send(notice_socket, text, length, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)length)
		return 0;
	return errno == EAGAIN ? -EAGAIN : -EPIPE;
}
