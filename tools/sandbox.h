/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a daemon that serves can do without, it gives up: so that whoever takes it over by a forged leg or a request
 * gets the volume, which it has open, and little else.
 *
 * Promise: behind sandbox_enter() no thread, whenever it was started, has a capability but CAP_DAC_OVERRIDE (a leg that
 * is attached may be anybody's image) and CAP_IPC_LOCK; none may run or become another program or user, start a
 * process, look into or signal another one, mount, load code, change the system, or, unless a leg is served elsewhere,
 * talk to a network. Only files,
 * local sockets, threads, memory that is not code, and the disks' own ioctl(2) are left. Unmounting and running
 * programs is the helper's (helper.h). What io_uring does is not filtered: it does no more of these things.
 *
 * A call that is refused does nothing: it gets ENOSYS, and the log a line for each kind. The daemon goes on, since it
 * may as well be a C library that has learned something. But where signals are blocked, so that nobody hears of the
 * refusal (the C library does that to start a program), the daemon ends.
 */
#ifndef MIRRORFS_TOOLS_SANDBOX_H
#define MIRRORFS_TOOLS_SANDBOX_H

#include <stdbool.h>

/* Before the first thread: those that start from now on leave their capabilities. The caller's are out of effect. */
void sandbox_begin(void);
/* Between these the caller's are in effect, for mounting. */
void sandbox_lift(void);
void sandbox_lower(void);

/*
 * The caller leaves its own, and all threads get the filter. `network`: legs are served elsewhere, and connections to
 * their servers are made anew. What the kernel does not have is told to the log.
 */
void sandbox_enter(bool network);

#endif
