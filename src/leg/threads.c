/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The engine of plain system calls: a few threads, each carrying out one request at a time. It serves where
 * io_uring is refused (containers) or O_DIRECT is (odd filesystems), and lends its workers to the uring engine
 * for what that cannot do without waiting.
 *
 * A disk that hangs holds its workers; requests then wait in the queue, and whoever sent them has a deadline.
 */
#include "leg_private.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static int workers_discard(const struct leg *leg, const struct leg_io *io)
{
	uint64_t range[2] = { io->offset, io->length };

	if (leg->geometry.device)
		return ioctl(leg->fd, BLKDISCARD, range);
	return fallocate(leg->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)io->offset, (off_t)io->length);
}

static int workers_look(const struct leg *leg)
{
	struct stat open, named;

	if (fstat(leg->fd, &open))
		return -1;
	if (!stat(leg->path, &named)) {
		if (named.st_dev == open.st_dev && named.st_ino == open.st_ino)
			return 0;
	} else if (errno != ENOENT && errno != ENOTDIR) {
		return -1;
	}
	errno = open.st_nlink ? ESTALE : ENOENT;
	return -1;
}

static long workers_call(const struct leg *leg, const struct leg_io *io)
{
	struct iovec piece = { (char *)io->data + io->bytes, io->length - io->bytes };

	switch (io->op) {
	case LEG_READ:
		return preadv2(leg->fd, &piece, 1, (off_t)io->offset, 0);
	case LEG_WRITE:
		return pwritev2(leg->fd, &piece, 1, (off_t)(io->offset + io->bytes),
				io->flags & LEG_DSYNC ? RWF_DSYNC : 0);
	case LEG_FLUSH:
		return fdatasync(leg->fd);
	case LEG_LOOK:
		return workers_look(leg);
	default:
		return workers_discard(leg, io);
	}
}

static long workers_try(const struct leg *leg, const struct leg_io *io)
{
	long result = -EINTR;

	for (int tries = 0; (result == -EINTR || result == -EAGAIN) && tries < LEG_FILE_TRIES; tries++) {
		result = workers_call(leg, io);
		if (result < 0)
			result = -errno;
	}
	return result;
}

static void workers_perform(struct leg *leg, struct leg_io *io, bool beyond)
{
	long result = beyond ? -ENXIO : workers_try(leg, io);
	size_t bytes;
	int error;

	while (leg_file_goes_on(leg, io, result))
		result = workers_try(leg, io);
	error = leg_file_result(leg, io, result, &bytes);
	leg_complete(io, error, !error && io->op == LEG_DISCARD ? io->length : bytes);
}

static void workers_run(void *arg)
{
	struct leg_workers *workers = arg;
	struct leg *leg = workers->leg;

	mutex_lock(&leg->lock);
	for (;;) {
		struct leg_io *io = leg_queue_take(&workers->queue);
		bool beyond;

		if (!io) {
			if (workers->stopping)
				break;
			cond_wait(&workers->wake, &leg->lock);
			continue;
		}
		beyond = leg_file_beyond_locked(leg, io);
		mutex_unlock(&leg->lock);
		workers_perform(leg, io, beyond);
		mutex_lock(&leg->lock);
	}
	mutex_unlock(&leg->lock);
}

int leg_workers_start(struct leg_workers *workers, struct leg *leg, unsigned int count)
{
	workers->leg = leg;
	cond_init(&workers->wake);
	while (workers->count < count) {
		int error = thread_start(&workers->threads[workers->count], "leg-worker", workers_run, workers);

		if (error) {
			leg_workers_stop(workers);
			return error;
		}
		workers->count++;
	}
	return 0;
}

void leg_workers_stop(struct leg_workers *workers)
{
	mutex_lock(&workers->leg->lock);
	workers->stopping = true;
	mutex_unlock(&workers->leg->lock);
	cond_broadcast(&workers->wake);
	while (workers->count)
		thread_join(&workers->threads[--workers->count]);
	cond_fini(&workers->wake);
}

void leg_workers_submit(struct leg_workers *workers, struct leg_io *io)
{
	mutex_lock(&workers->leg->lock);
	leg_queue_add(&workers->queue, io);
	mutex_unlock(&workers->leg->lock);
	cond_signal(&workers->wake);
}

struct threads_leg {
	struct leg leg;
	struct leg_workers workers;
};

static int threads_submit(struct leg *leg, struct leg_io *io)
{
	leg_workers_submit(&((struct threads_leg *)leg)->workers, io);
	return 0;
}

static void threads_close(struct leg *leg)
{
	struct threads_leg *threads = (struct threads_leg *)leg;

	leg_workers_stop(&threads->workers);
	close(leg->fd);
	leg_fini(leg);
	free(threads);
}

static const struct leg_ops threads_ops = {
	.name = "threads",
	.submit = threads_submit,
	.refresh = leg_file_refresh,
	.allocate = leg_file_allocate,
	.close = threads_close,
};

int leg_threads_create(struct leg_file *file, const char *address, struct leg **leg)
{
	struct threads_leg *threads = calloc(1, sizeof(*threads));
	int error;

	if (!threads)
		return -ENOMEM;
	error = leg_init(&threads->leg, &threads_ops, address, file->path);
	if (error)
		goto no_leg;
	threads->leg.fd = file->fd;
	threads->leg.read_only = file->read_only;
	threads->leg.geometry = file->geometry;
	error = leg_workers_start(&threads->workers, &threads->leg, LEG_WORKERS_MAX);
	if (error)
		goto no_workers;
	free(file->path);
	*leg = &threads->leg;
	return 0;

no_workers:
	leg_fini(&threads->leg);
no_leg:
	free(threads);
	return error;
}
