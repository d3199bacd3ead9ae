/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the engines and wrappers of the leg storey share. A leg is a `struct leg` at the head of its engine's own
 * structure; the door (leg.c) checks and counts, the table of operations does the work.
 */
#ifndef MIRRORFS_LEG_PRIVATE_H
#define MIRRORFS_LEG_PRIVATE_H

#include "mirrorfs/base/sync.h"
#include "mirrorfs/leg.h"

struct leg_ops {
	const char *name; /* of an engine; NULL in a wrapper, whose engine is the one below */
	/* A request that passed the door. 0, or -errno: refused and never completed. Never waits. No lock is held. */
	int (*submit)(struct leg *leg, struct leg_io *io);
	int (*refresh)(struct leg *leg);
	void (*close)(struct leg *leg); /* ends the threads and frees everything but what leg_fini frees */
	void (*abandon)(struct leg *leg); /* the same of a leg over crashed memory: nothing is completed any more */
};

struct leg {
	const struct leg_ops *ops;
	struct leg *below; /* of a wrapper: owned */
	char *address;
	char *path;
	int fd; /* the locked open file that does the I/O; -1: memory, or a wrapper */
	bool read_only;
	struct leg_geometry geometry; /* size_bytes changes under `lock` */
	struct mutex lock; /* RANK_LEG: counters and the engine's own queues; never held in a callback */
	struct leg_counters counters;
};

/* Sets up the head; address and path are copied (address NULL: the path). 0 or -ENOMEM (nothing to undo). */
int leg_init(struct leg *leg, const struct leg_ops *ops, const char *address, const char *path);
void leg_fini(struct leg *leg);

/* An engine's only way to complete: counts, and calls done. No lock is held. `io` is gone afterwards. */
void leg_complete(struct leg_io *io, int error, size_t bytes);

/*
 * Ends a thread whose leg is abandoned. In a simulator its fiber never runs again, so there is nobody to wait
 * for; in the real world the thread leaves by itself and must be gone before its memory is.
 */
void leg_thread_abandon(struct thread *thread);

#endif
