/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Requests in flight together, for a thread that may wait: it hands one after the other over, and waits only for room
 * for the next, and at the end for all. What is to be done with an answer is done on that thread.
 *
 * A batch never waits for a buffer while it has one that it could wait for instead, so it cannot stand in its own way.
 */
#include "meta_private.h"

#include <errno.h>

#define BATCH_BYTES (4u << 20) /* of buffers: the rest of the pool is for others */

void batch_begin(struct batch *batch, struct mirror *mirror, void (*answered)(struct batch_io *io))
{
	batch->mirror = mirror;
	batch->answered = answered;
	mutex_init(&batch->lock, RANK_LEAF);
	cond_init(&batch->moved);
	SLIST_INIT(&batch->idle);
	SLIST_INIT(&batch->done);
	batch->in_flight = 0;
	batch->bytes = 0;
	batch->error = 0;
	for (unsigned int i = 0; i < BATCH_IOS; i++)
		SLIST_INSERT_HEAD(&batch->idle, &batch->ios[i], link);
}

static void batch_done(struct mirror_io *mirror_io)
{
	struct batch_io *io = (struct batch_io *)mirror_io;
	struct batch *batch = io->batch;

	mutex_lock(&batch->lock);
	SLIST_INSERT_HEAD(&batch->done, io, link);
	cond_signal(&batch->moved);
	mutex_unlock(&batch->lock);
}

/* One that has been answered, or NULL: none, and not to be waited for. */
static struct batch_io *batch_take(struct batch *batch, bool wait)
{
	struct batch_io *io;

	mutex_lock(&batch->lock);
	while (!(io = SLIST_FIRST(&batch->done)) && wait && batch->in_flight)
		cond_wait(&batch->moved, &batch->lock);
	if (io)
		SLIST_REMOVE_HEAD(&batch->done, link);
	mutex_unlock(&batch->lock);
	return io;
}

/* False: none is in flight, or none has been answered and `wait` is false. */
static bool batch_reap(struct batch *batch, bool wait)
{
	struct batch_io *io = batch_take(batch, wait);

	if (!io)
		return false;
	batch->in_flight--;
	batch->bytes -= io->bytes;
	if (!batch->error)
		batch->error = io->io.error;
	if (batch->answered)
		batch->answered(io);
	iobuf_put(io->io.buf);
	SLIST_INSERT_HEAD(&batch->idle, io, link);
	return true;
}

struct batch_io *batch_next(struct batch *batch, size_t bytes, bool wait)
{
	struct iobuf_pool *pool = mirror_pool(batch->mirror);
	struct iobuf *buf = NULL;
	struct batch_io *io;

	while (batch_reap(batch, false))
		;
	for (;;) {
		if (!SLIST_EMPTY(&batch->idle) && batch->bytes + bytes <= BATCH_BYTES)
			buf = iobuf_try_get(pool, bytes);
		if (buf || !wait)
			break;
		if (batch_reap(batch, true))
			continue;
		buf = iobuf_get(pool, bytes);
		break;
	}
	if (!buf)
		return NULL;
	io = SLIST_FIRST(&batch->idle);
	SLIST_REMOVE_HEAD(&batch->idle, link);
	io->io = (struct mirror_io){ .buf = buf };
	io->batch = batch;
	io->bytes = bytes;
	return io;
}

void batch_submit(struct batch *batch, struct batch_io *io)
{
	int error;

	io->io.done = batch_done;
	batch->in_flight++;
	batch->bytes += io->bytes;
	error = mirror_submit(batch->mirror, &io->io);
	if (error) {
		io->io.error = error;
		batch_done(&io->io);
	}
}

void batch_unused(struct batch *batch, struct batch_io *io)
{
	iobuf_put(io->io.buf);
	SLIST_INSERT_HEAD(&batch->idle, io, link);
}

void batch_wait(struct batch *batch)
{
	batch_reap(batch, true);
}

int batch_end(struct batch *batch)
{
	while (batch_reap(batch, true))
		;
	cond_fini(&batch->moved);
	mutex_fini(&batch->lock);
	return batch->error;
}
