/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A page that shows how a volume is, of itself alone: it asks for nothing from anywhere. */
#ifndef MIRRORFS_REPORT_H
#define MIRRORFS_REPORT_H

#include "mirrorfs/ctl.h"

/* `data`: "time", and what "stats", "history" and "events" have answered under these names. 0 or -errno. */
int report_write(const char *path, const json_t *data);

#endif
