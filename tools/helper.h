/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A small process beside the daemon, which keeps what the daemon gives up (sandbox.h): it unmounts, and runs programs.
 *
 * Promise: it does nothing but these two things, to the mount point and with the program that were named when it was
 * started; nobody can talk it into others. It has none of the daemon's files open, holds no lock of a leg, ignores the
 * signals that end the daemon, and ends when the daemon has, in whatever way: what was still to be told is told first.
 * If it was killed, calls fail, and the daemon serves on.
 */
#ifndef MIRRORFS_TOOLS_HELPER_H
#define MIRRORFS_TOOLS_HELPER_H

#include <stdbool.h>

struct helper_options {
	char **argv; /* of main(): there the process list finds its name; what lies there is lost to it */
	const char *mountpoint; /* absolute */
	const char *program; /* absolute, for helper_notify(); NULL: none */
	bool foreground; /* what the program prints goes where ours does; else nowhere */
};

/* Before any thread, and before a leg is opened: a copy of its descriptor would keep it locked. 0 or -errno. */
int helper_start(const struct helper_options *options);

/*
 * As front_unmount() of the mount point: 0 or -errno; -EPIPE: the helper is gone. Waits for the end of it. One caller
 * at a time.
 */
int helper_unmount(int flags);

/*
 * Has the program run with these words behind its name, up to a NULL; any thread, and never waits. They run one after
 * the other, in the order of the calls, with the environment that the daemon was started with and nothing on standard
 * input; one that has not ended after a minute is killed, with its process group.
 *
 * 0: it will be run. -ENOENT: there is no program; -E2BIG: more than 64 words or 16 KiB; -EAGAIN: so much waits already
 * (some 200 KiB) that this is not taken; -EPIPE: the helper is gone.
 */
int helper_notify(const char *const words[]);

#endif
