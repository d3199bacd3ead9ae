/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The log in the journal, with fields: of each line, what stands in it as key=value becomes a field MIRRORFS_KEY, so
 * that `journalctl MIRRORFS_LEG=1` finds it. The journal's protocol is documented and one datagram a line, as in
 * notify.c.
 */
#ifndef MIRRORFS_TOOLS_JOURNALD_H
#define MIRRORFS_TOOLS_JOURNALD_H

#include <stdbool.h>
#include <stddef.h>

bool journald_open(void); /* false: there is none */
bool journald_is_stderr(void); /* what is written to standard error goes there */

/* What each line has from here on. Before that, or if a value is "", it has no such field. */
void journald_describe(const char *volume, const char *label, const char *mountpoint);
void journald_write(int priority, const char *line); /* that of syslog(3). Never waits: rather a line is lost */

/* The datagram of a line, of which the first `size` bytes are written; its length. For tests. */
size_t journald_format(char *text, size_t size, int priority, const char *line);

#endif
