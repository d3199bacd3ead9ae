/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * front: the FUSE side. Takes requests from the kernel and answers them out of `fs`. The only door to libfuse.
 *
 * Threads each take a request, out of /dev/fuse or from a ring that they share with the kernel (FUSE over io_uring),
 * carry it out to its end and answer it; over a ring, short reads past the cache go on by themselves, many at a time.
 * What a request does is the same on both ways. libfuse parses and formats;
 * reading, writing and what is negotiated at INIT are ours (fuse_session_custom_io), since Debian's libfuse leaves
 * out what matters most. libfuse's own signal handlers are not used: with dirty data they lose it.
 */
#ifndef MIRRORFS_FRONT_H
#define MIRRORFS_FRONT_H

#include "mirrorfs/base/error.h"
#include "mirrorfs/base/histogram.h"
#include "mirrorfs/fs.h"

#include <stdbool.h>

struct front;

/* How requests come: over io_uring where the kernel has that, or out of /dev/fuse. */
enum front_transport { FRONT_AUTO, FRONT_URING, FRONT_CLASSIC };

#define FRONT_LATENCY_MOST 1000000u
/* Whether processors are kept from sleeping deep while requests follow each other: where it helps, never, always. */
enum front_latency { FRONT_LATENCY_AUTO, FRONT_LATENCY_OFF, FRONT_LATENCY_BOUND };

#define FRONT_POLL_US 50u /* where nobody chose */
#define FRONT_POLL_MOST 1000u

struct front_options {
	const char *mountpoint; /* absolute */
	const char *source; /* fsname in mountinfo: the first leg, absolute */
	bool read_only;
	bool block_device; /* root: the mount is one of the device `source`, which the kernel claims for it */
	enum front_transport transport; /* AUTO: what is faster here; URING is refused where the kernel has it not */
	unsigned int threads; /* for so many requests at a time; with URING 4 to 32 for each processor; 0: chosen */
	/* For what is on its way: the more requests share it, the shorter is the longest. 0: chosen */
	size_t buffer_bytes;
	enum front_latency cpu_latency; /* BOUND is refused where the kernel cannot be asked */
	unsigned int cpu_latency_us; /* with BOUND: waking one takes no longer; 0 to FRONT_LATENCY_MOST */
	unsigned int poll_us; /* a thread looks so long for a request before it sleeps; 0: never, to FRONT_POLL_MOST */
	const char *iolog; /* prefix of the logs of reads and writes in fio's format; NULL: none; see iolog.c */
	unsigned int iolog_msec; /* the windows of time that they tell of; 0: each request */
	const char *mount_options; /* further words for the kernel ("nosuid,nodev"), comma separated; may be NULL */
	/* Who unmounts in the place of this process, which may not, as front_unmount(); NULL: nobody. */
	int (*unmount)(int flags);
};

/*
 * Mounts and negotiates; returns when the kernel has had its first answers, so that the mount works. 0 or -errno with
 * `error` told. `fs` stays the caller's.
 */
int front_mount(struct fs *fs, const struct front_options *options, struct front **front, struct error *error);

/*
 * Serves until the filesystem is unmounted from outside or front_stop() is called. 0: unmounted in order;
 * -ECONNABORTED: the kernel's connection was cut off (fusectl). Called once, on the main thread. Nobody looks at the fs
 * any more when it returns. Of a block device, umount(2) returns and the kernel's claim ends with front_destroy().
 */
int front_serve(struct front *front);

/*
 * Ends the mount (SIGTERM, SIGINT): takes dirty mapped pages from the kernel, syncs and unmounts from a helper thread
 * while requests are still served; if it is busy, detaches it and serves until the last user is gone. Any thread;
 * returns at once.
 */
void front_stop(struct front *front);

/*
 * After front_stop() has detached a busy mount: does not wait for its last user any longer. Takes and syncs once more,
 * then cuts the connection (fusectl), which gives them errors. 0 or -errno: they are still served. Not a handler.
 */
int front_cut(struct front *front);

/* After front_serve(); the fs may be closed before. */
void front_destroy(struct front *front);

/*
 * umount2(2), or fusermount3 where only root may do that: 0 or -errno, -EBUSY also for whatever fusermount3 refuses.
 * The mount may be dead or another process's; it is not looked at. `flags`: 0, MNT_DETACH or MNT_FORCE.
 */
int front_unmount(const char *mountpoint, int flags);

struct front_stats {
	const char *transport; /* "uring", "classic" */
	unsigned int threads;
	uint64_t requests;
	uint64_t in_flight;
	dev_t device; /* of the mount, as stat(2) and mountinfo show it */
};
void front_stats(struct front *front, struct front_stats *stats);

/* Requests that are being carried out now; the count, at most `most`. */
struct front_in_flight {
	const char *op;
	uint64_t node, since_ns; /* inode; for so long */
	uint32_t pid;
};
size_t front_in_flight(struct front *front, struct front_in_flight *list, size_t most);

/* What was wrong with a request that ended with an error. */
enum front_error {
	FRONT_ERROR_CALLER, /* the caller's affair: no such file, not empty, not allowed */
	FRONT_ERROR_SPACE, /* the volume is full (ENOSPC, EDQUOT) */
	FRONT_ERROR_READ_ONLY, /* EROFS: mounted so, or turned so by an error */
	FRONT_ERROR_IO, /* the legs' or ours: EIO, ETIMEDOUT, ENOMEM */
	FRONT_ERRORS,
};
const char *front_error_name(enum front_error error);

#define FRONT_OPS 56 /* numbers of operations, with gaps */
const char *front_op_name(unsigned int op); /* "read"; NULL: there is no such operation */
/* How long requests of one kind took since the mount, from their coming to their answer. */
struct front_times {
	struct histogram took;
	uint64_t errors[FRONT_ERRORS];
	uint64_t bytes; /* read or written */
};
void front_times(struct front *front, unsigned int op, struct front_times *times);

#endif
