/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the label of a leg says, which may be in use: it is neither locked nor written. */
#ifndef MIRRORFS_TOOLS_PEEK_H
#define MIRRORFS_TOOLS_PEEK_H

#include "mirrorfs/base/error.h"
#include "mirrorfs/mirror.h"

/* 0 or -errno told, as leg_open() and mirror_label_read(). */
int peek_label(const char *address, struct mirror_label_info *info, struct error *error);

#endif
