/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The verbs. Each returns the exit status; EXIT_USAGE: the words behind MNT make no sense. */
#ifndef MIRRORFS_VERBS_H
#define MIRRORFS_VERBS_H

#include "ask.h"

/* show.c: what there is to see */
int show_status(const struct ask *call);
int show_stats(const struct ask *call);
int show_top(const struct ask *call);
int show_events(const struct ask *call);
int show_report(const struct ask *call);

/* work.c: what takes long, and is waited for */
int work_scrub(const struct ask *call);
int work_resync(const struct ask *call);

/* change.c: what is done, or is not */
int change_attach(const struct ask *call);
int change_detach(const struct ask *call);
int change_replace(const struct ask *call);
int change_grow(const struct ask *call);
int change_trim(const struct ask *call);
int change_set(const struct ask *call);
int change_drill(const struct ask *call);
int change_drop_caches(const struct ask *call);
int change_umount(const struct ask *call);

#endif
