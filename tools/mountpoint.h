/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What lies at a mount point: dead mounts are cleared away, living ones are ended and waited for. */
#ifndef MIRRORFS_TOOLS_MOUNTPOINT_H
#define MIRRORFS_TOOLS_MOUNTPOINT_H

#include "mirrorfs/base/error.h"
#include "mirrorfs/ctl.h"

/* Detaches mounts of ours at `path` whose daemons are gone: nobody can use them. 0, or -errno told: one is left. */
int mountpoint_clear(const char *path, struct error *error);

/*
 * Unmounts (`flags` as for front_unmount()) and, but for MNT_DETACH, waits until the daemon has ended: then the legs
 * are safe to pull. 0 or -errno told: -EBUSY it is in use or, if *unmounted, a leg is or may be still held;
 * -ECONNREFUSED it is unmounted, but its daemon had gone before; others as of ctl_end_wait().
 */
int mountpoint_end(const struct ctl_mount *mount, int flags, bool *unmounted, struct error *error);

#endif
