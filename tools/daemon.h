/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A process that goes into the background only when its work is seen to work. */
#ifndef MIRRORFS_TOOLS_DAEMON_H
#define MIRRORFS_TOOLS_DAEMON_H

#include <stdbool.h>

/*
 * Unless `foreground`, forks: the parent never returns, but waits until the child calls daemon_ready() and exits with
 * 0, or until the child calls daemon_over() or ends, and exits with the child's status. Before any thread, ring or open
 * leg: they do not survive a fork, and a process with a thread that hangs with a leg cannot end.
 */
void daemon_begin(bool foreground);

/*
 * Lets the parent go; from here on the log goes to the journal, or to syslog where there is none, and the terminal is
 * left. In the foreground the log stays on standard error, or goes to the journal if that does.
 */
void daemon_ready(void);

/* There will be no mount: lets the parent go with this exit status. Nothing, if it was let go before. */
void daemon_over(int code);

#endif
