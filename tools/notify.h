/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What systemd is told while it waits for us: sd_notify(3). */
#ifndef MIRRORFS_TOOLS_NOTIFY_H
#define MIRRORFS_TOOLS_NOTIFY_H

#include <stdbool.h>

void notify_begin(void); /* takes NOTIFY_SOCKET out of the environment: those that we start are not the service */
bool notify_wanted(void); /* somebody listens */
/*
 * Tells a state like "READY=1", lines without the last newline, and for `systemctl status` a text, whatever characters
 * are in it. Never waits.
 */
void notify_send(const char *state, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
