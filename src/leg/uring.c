/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The io_uring engine: one ring a leg and one thread that owns it. Whoever submits a request only queues it and
 * wakes that thread; it enters the kernel, reaps, and calls done. A thread that waits for what it submits does all that
 * itself, on a ring of its own (wait.c).
 *
 * Why one owner. A request belongs, in the kernel, to the thread that submitted it: it interrupts that thread to
 * complete, and a request that waits for a kernel worker is cancelled when that thread exits. Threads that serve
 * a filesystem come and go; the ring's owner does not. It also lets the ring defer its work to the owner's own
 * calls (kernel 6.1), and makes the submission queue private, so no request is refused because it is full.
 *
 * Reads, writes and flushes go through the ring. A discard or a look at the path can wait in the kernel, and a request
 * beyond the end of the leg needs no kernel at all: these go to workers of the threads engine, two of them, so that a
 * path which hangs holds up no discards.
 */
#include "leg_private.h"

#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define URING_DEPTH 128u /* requests in the kernel at a time; more wait in our queue */
#define URING_WORKERS 2u
#define URING_RETRY_MSEC 10 /* until a submission that the kernel had no memory for is tried again */

struct uring_leg {
	struct leg leg;
	struct leg_workers workers;
	struct thread thread;
	int wake_fd; /* an eventfd that the ring reads, so that a wake-up is a completion like any other */

	/* under leg.lock */
	struct leg_queue queue;
	bool asleep; /* the thread may be waiting in the kernel: wake it */
	bool stopping;

	/* the thread's own */
	struct io_uring ring;
	bool disabled; /* the ring waits to be enabled by its owner */
	bool wake_armed;
	uint64_t wake_count;
	unsigned int in_kernel;
};

static void uring_prepare(struct uring_leg *uring, struct leg_io *io, struct io_uring_sqe *sqe)
{
	const int fd = uring->leg.fd;

	switch (io->op) {
	case LEG_READ:
		io_uring_prep_read(sqe, fd, io->data, (unsigned int)io->length, io->offset);
		break;
	case LEG_WRITE:
		io_uring_prep_write(sqe, fd, (char *)io->data + io->bytes, (unsigned int)(io->length - io->bytes),
				    io->offset + io->bytes);
		sqe->rw_flags = io->flags & LEG_DSYNC ? RWF_DSYNC : 0;
		break;
	default:
		io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
	}
	io_uring_sqe_set_data(sqe, io);
}

/* Moves what is queued into the ring. False: the leg closes and nothing is left to do. */
static bool uring_fill(struct uring_leg *uring)
{
	struct leg_io *io;
	bool stop;

	if (!uring->wake_armed) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&uring->ring);

		io_uring_prep_read(sqe, uring->wake_fd, &uring->wake_count, sizeof(uring->wake_count), 0);
		io_uring_sqe_set_data(sqe, NULL);
		uring->wake_armed = true;
	}
	mutex_lock(&uring->leg.lock);
	while (uring->in_kernel < URING_DEPTH && (io = leg_queue_take(&uring->queue))) {
		uring_prepare(uring, io, io_uring_get_sqe(&uring->ring));
		uring->in_kernel++;
	}
	uring->asleep = true;
	stop = uring->stopping;
	mutex_unlock(&uring->leg.lock);
	return !stop || uring->in_kernel;
}

/* Queues; true if the thread must be woken. */
static bool uring_queue(struct uring_leg *uring, struct leg_io *io)
{
	bool wake;

	mutex_lock(&uring->leg.lock);
	leg_queue_add(&uring->queue, io);
	wake = uring->asleep;
	uring->asleep = false;
	mutex_unlock(&uring->leg.lock);
	return wake;
}

static void uring_wake(struct uring_leg *uring)
{
	/* Fails only if the count would overflow: then it is far from zero, and the thread wakes anyway. */
	(void)!eventfd_write(uring->wake_fd, 1);
}

void leg_uring_answered(struct leg_io *io, int result)
{
	struct uring_leg *uring = (struct uring_leg *)io->leg;
	uintptr_t tries = (uintptr_t)io->engine + 1;
	bool again = (result == -EAGAIN || result == -EINTR) && tries < LEG_FILE_TRIES;
	size_t bytes;
	int error;

	if (again)
		io->engine = (void *)tries;
	if (again || leg_file_goes_on(&uring->leg, io, result)) {
		if (uring_queue(uring, io))
			uring_wake(uring);
		return;
	}
	error = leg_file_result(&uring->leg, io, result, &bytes);
	leg_complete(io, error, bytes);
}

static void uring_reap(struct uring_leg *uring)
{
	struct io_uring_cqe *cqe;

	while (!io_uring_peek_cqe(&uring->ring, &cqe)) {
		struct leg_io *io = io_uring_cqe_get_data(cqe);
		int result = cqe->res;

		io_uring_cqe_seen(&uring->ring, cqe);
		if (!io) {
			uring->wake_armed = false;
			continue;
		}
		uring->in_kernel--;
		leg_uring_answered(io, result);
	}
}

static void uring_run(void *arg)
{
	struct uring_leg *uring = arg;

	/* liburing 2.3 declares io_uring_enable_rings(), but does not export it. */
	if (uring->disabled &&
	    syscall(__NR_io_uring_register, uring->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0))
		abort(); /* a ring made disabled by us can be enabled: anything else is corrupted memory */
	while (uring_fill(uring)) {
		if (io_uring_submit_and_wait(&uring->ring, 1) < 0) {
			/* No memory, or interrupted: what was not submitted stays in the ring for the next round. */
			struct __kernel_timespec pause = { .tv_nsec = URING_RETRY_MSEC * 1000000L };
			struct io_uring_cqe *cqe;

			io_uring_wait_cqe_timeout(&uring->ring, &cqe, &pause);
		}
		uring_reap(uring);
	}
}

static int uring_submit(struct leg *leg, struct leg_io *io)
{
	struct uring_leg *uring = (struct uring_leg *)leg;
	struct leg_ring *ring;
	bool elsewhere;

	mutex_lock(&leg->lock);
	elsewhere = io->op == LEG_DISCARD || io->op == LEG_LOOK || leg_file_beyond_locked(leg, io);
	mutex_unlock(&leg->lock);
	if (elsewhere)
		leg_workers_submit(&uring->workers, io);
	else if (leg_wait_takes(&ring))
		uring_prepare(uring, io, leg_wait_sqe(ring));
	else if (uring_queue(uring, io))
		uring_wake(uring);
	return 0;
}

static void uring_close(struct leg *leg)
{
	struct uring_leg *uring = (struct uring_leg *)leg;

	leg_workers_stop(&uring->workers);
	mutex_lock(&leg->lock);
	uring->stopping = true;
	mutex_unlock(&leg->lock);
	uring_wake(uring);
	thread_join(&uring->thread);
	io_uring_queue_exit(&uring->ring);
	close(uring->wake_fd);
	close(leg->fd);
	leg_fini(leg);
	free(uring);
}

static const struct leg_ops uring_ops = {
	.name = "uring",
	.submit = uring_submit,
	.refresh = leg_file_refresh,
	.allocate = leg_file_allocate,
	.close = uring_close,
};

static int uring_setup(struct uring_leg *uring)
{
	int error = io_uring_queue_init(2 * URING_DEPTH, &uring->ring,
					IORING_SETUP_R_DISABLED | IORING_SETUP_SINGLE_ISSUER |
					IORING_SETUP_DEFER_TASKRUN);

	uring->disabled = !error;
	if (error == -EINVAL) /* a kernel before 6.1 */
		error = io_uring_queue_init(2 * URING_DEPTH, &uring->ring, 0);
	return error;
}

int leg_uring_create(struct leg_file *file, const char *address, struct leg **leg)
{
	struct uring_leg *uring = calloc(1, sizeof(*uring));
	int error;

	if (!uring)
		return -ENOMEM;
	error = leg_init(&uring->leg, &uring_ops, address, file->path);
	if (error)
		goto no_leg;
	uring->leg.fd = file->fd;
	uring->leg.read_only = file->read_only;
	uring->leg.geometry = file->geometry;
	error = uring_setup(uring);
	if (error)
		goto no_ring;
	uring->wake_fd = eventfd(0, EFD_CLOEXEC);
	if (uring->wake_fd < 0) {
		error = -errno;
		goto no_wake;
	}
	error = leg_workers_start(&uring->workers, &uring->leg, URING_WORKERS);
	if (error)
		goto no_workers;
	error = thread_start(&uring->thread, "leg-uring", uring_run, uring);
	if (error)
		goto no_thread;
	free(file->path);
	*leg = &uring->leg;
	return 0;

no_thread:
	leg_workers_stop(&uring->workers);
no_workers:
	close(uring->wake_fd);
no_wake:
	io_uring_queue_exit(&uring->ring);
no_ring:
	leg_fini(&uring->leg);
no_leg:
	free(uring);
	return error;
}
