/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the engines and wrappers of the leg storey share. A leg is a `struct leg` at the head of its engine's own
 * structure; the door (leg.c) checks and counts, the table of operations does the work.
 */
#ifndef MIRRORFS_LEG_PRIVATE_H
#define MIRRORFS_LEG_PRIVATE_H

#include "mirrorfs/base/sync.h"
#include "mirrorfs/leg.h"

#include <liburing.h>
#include <stdatomic.h>

struct leg_ops {
	const char *name; /* of an engine; NULL in a wrapper, whose engine is the one below */
	/* A request that passed the door. 0, or -errno: refused and never completed. Never waits. No lock is held. */
	int (*submit)(struct leg *leg, struct leg_io *io);
	int (*refresh)(struct leg *leg);
	int (*allocate)(struct leg *leg, uint64_t offset, uint64_t length); /* NULL: the one below, or nothing to do */
	void (*close)(struct leg *leg); /* ends the threads and frees everything but what leg_fini frees */
	bool (*lost)(struct leg *leg, char *why); /* as leg_lost(); NULL: never */
	int (*give_up)(struct leg *leg); /* as leg_give_up(); NULL: it is the kernel that has them */
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
	_Atomic(struct leg *) drill; /* requests go through it first; NULL: no drill now */
	_Atomic(struct leg *) driller; /* the fault leg for that, owned, once there was one */
};

int leg_submit_past_drill(struct leg *leg, struct leg_io *io);

/* Sets up the head; address and path are copied (address NULL: the path). 0 or -ENOMEM (nothing to undo). */
int leg_init(struct leg *leg, const struct leg_ops *ops, const char *address, const char *path);
/* The same for a wrapper, which looks like what it wraps and owns it from then on. */
int leg_init_wrapper(struct leg *leg, const struct leg_ops *ops, struct leg *below);
int leg_refresh_wrapper(struct leg *leg); /* leg_ops.refresh of a wrapper */
void leg_fini(struct leg *leg);

/* An engine's only way to complete: counts, and calls done. No lock is held. `io` is gone afterwards. */
void leg_complete(struct leg_io *io, int error, size_t bytes);

/*
 * Ends a thread whose leg is abandoned. In a simulator its fiber never runs again, so there is nobody to wait
 * for; in the real world the thread leaves by itself and must be gone before its memory is.
 */
void leg_thread_abandon(struct thread *thread);

/* As leg_open() of a URI (transport.c). */
int leg_transport_open(const char *uri, const char *address, const struct leg_options *options, struct leg **leg,
		       struct error *error);

/* What a path was opened as; an engine takes it over whole. */
struct leg_file {
	int fd;
	char *path; /* absolute; the last component is not resolved, so /dev/disk/by-id/X stays one */
	bool read_only;
	struct leg_geometry geometry;
};

/* 0, or -errno with `error` told and nothing left open. */
int leg_file_open(const char *path, const struct leg_options *options, struct leg_file *file, struct error *error);
void leg_file_close(struct leg_file *file);
/* The same as leg_file_open(), but -ETIMEDOUT if the kernel does not answer in 15 seconds (opener.c). */
int leg_opener_open(const char *path, const struct leg_options *options, struct leg_file *file, struct error *error);
int leg_file_refresh(struct leg *leg); /* leg_ops.refresh of both engines */
int leg_file_allocate(struct leg *leg, uint64_t offset, uint64_t length);
int leg_file_hand_over(struct leg *leg, uint64_t limit_ns);
/* True if the request lies beyond the size last seen. The lock is held. */
bool leg_file_beyond_locked(const struct leg *leg, const struct leg_io *io);
/*
 * True: a part of a write was done, which io->bytes now counts, and the rest is to be asked for, as only its answer
 * tells what was in the way.
 */
bool leg_file_goes_on(const struct leg *leg, struct leg_io *io, long result);
/* Reads what the kernel answered (more bytes done, or -errno): the error for leg_complete, and all the bytes. */
int leg_file_result(const struct leg *leg, const struct leg_io *io, long result, size_t *bytes);

/* How often EAGAIN and EINTR, which say nothing about the disk, are tried again before they are reported. */
#define LEG_FILE_TRIES 3

/* The engines: on success the leg owns `file`; on failure it stays the caller's. */
int leg_uring_create(struct leg_file *file, const char *address, struct leg **leg);
int leg_threads_create(struct leg_file *file, const char *address, struct leg **leg);

/* io_uring has answered a request of that engine: completes it, or asks again. Any thread. */
void leg_uring_answered(struct leg_io *io, int result);

/* A ring of whoever waits for what it submits: lent for that (wait.c), or its own (ring.c). */
struct leg_ring {
	struct io_uring uring;
	unsigned int depth; /* requests to legs at a time; more go the usual way */
	unsigned int in_kernel; /* of these, also those that are not submitted yet */
	int wake_fd; /* an eventfd that the ring reads: others end the wait by it */
	bool wake_armed;
	uint64_t wake_count;
	/* of one that is lent */
	pid_t process; /* a child that was forked has rings of its own */
	struct leg_ring *next; /* it was left, with requests in it */
	bool watched;
	/* of one that is somebody's own */
	bool collects;
	void (*other)(void *context, uint64_t data, int result);
	void *context;
	bool disturbed; /* others ran while it was looked for something */
};

struct leg_ring *ring_create(unsigned int depth, unsigned int room, unsigned int setup); /* NULL: refused */
void ring_destroy(struct leg_ring *ring);
void ring_reap(struct leg_ring *ring);
/* Submits what is prepared, waits for an answer or a wake-up, and sees to what there is. 0 or -errno: nothing yet. */
int ring_turn(struct leg_ring *ring);
bool ring_collects(struct leg_ring **ring); /* this thread's own does, and has room */
/* The ring for a request that this thread submits. False: it has none, or none with room. */
bool leg_wait_takes(struct leg_ring **ring);
struct io_uring_sqe *leg_wait_sqe(struct leg_ring *ring); /* for a request of an io_uring leg; never NULL */

/* Requests waiting for an engine's thread: a queue through leg_io.next, under the leg's lock. */
struct leg_queue {
	struct leg_io *first;
	struct leg_io *last;
};

void leg_queue_add(struct leg_queue *queue, struct leg_io *io);
struct leg_io *leg_queue_take(struct leg_queue *queue); /* NULL: empty */

/* Threads that carry out requests with plain system calls: all of threads, and what io_uring cannot do. */
#define LEG_WORKERS_MAX 8

struct leg_workers {
	struct leg *leg;
	struct leg_queue queue;
	struct cond wake;
	struct thread threads[LEG_WORKERS_MAX];
	unsigned int count;
	bool stopping;
};

int leg_workers_start(struct leg_workers *workers, struct leg *leg, unsigned int count);
void leg_workers_stop(struct leg_workers *workers); /* after the last request has completed */
void leg_workers_submit(struct leg_workers *workers, struct leg_io *io);

/* The whole disk below a block device (disk.c): 0 if sysfs does not tell. */
dev_t leg_disk_below(dev_t device);
bool leg_disk_rotational(dev_t disk);
bool leg_disk_discards(dev_t device);

/* Names a living process that holds the file (in_use.c): "process 12 (mirrorfs)". False: nobody was found. */
struct stat;
bool leg_holder(const struct stat *file, char *who, size_t who_size);

#endif
