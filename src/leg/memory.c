/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A simulated disk in memory, on the clock of the world in force: the same code is the leg of the unit tests
 * (threads, real time) and of the simulator (fibers, virtual time).
 *
 * What it promises about power loss is what a disk with a volatile cache promises, and not a bit more:
 *  - A write without DSYNC stays in the cache until a flush that was submitted after the write had completed.
 *  - A DSYNC write makes its own bytes durable, nothing else: older writes stay in the cache, and they can no
 *    longer bring back what they held below these bytes.
 *  - Whatever is in the cache or in flight may be kept, dropped or torn, in any order.
 *  - Pulled out of a machine that goes on, it has lost power as well, and every request ends with -ENODEV.
 *  - A discard reads as zeros and is durable at once: the harshest of the things that a disk may do with it.
 *
 * How. `bytes` is the disk as a reader sees it. Each cached write keeps what it wrote and what it replaced, so
 * the durable disk is `bytes` with the cache undone, newest first; bytes that a test changes by hand are
 * durable. Requests wait in order of their completion times, drawn at submission; their effect happens then.
 */
#include "leg_private.h"

#include "mirrorfs/base/clock.h"
#include "mirrorfs/base/iobuf.h"

#include <assert.h>
#include <bsd/sys/queue.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define MEMORY_SECTOR 512u /* what a tear is a multiple of */
#define MEMORY_PAGE 4096u

struct memory_write {
	TAILQ_ENTRY(memory_write) link;
	uint64_t offset;
	size_t length;
	uint64_t order; /* of completion */
	unsigned char *after; /* inside data[] */
	unsigned char *before;
	unsigned char data[];
};

struct memory_request {
	TAILQ_ENTRY(memory_request) link;
	struct leg_io *io;
	struct memory_write *write; /* of a write that will be cached */
	uint64_t due_ns;
	uint64_t covers; /* of a flush: writes up to this order had completed when it was submitted */
};

struct memory_leg {
	struct leg leg;
	uint64_t latency_min_ns, latency_max_ns;
	unsigned char *bytes;
	bool own_bytes;
	uint64_t size_bytes, most_bytes; /* what refresh tells; how many bytes there are */
	void (*changed)(void *context, uint64_t offset, size_t length);
	void *context;
	uint64_t order; /* of the last completed write */
	TAILQ_HEAD(memory_requests, memory_request) requests; /* by due_ns */
	TAILQ_HEAD(memory_cache, memory_write) cache; /* completed and not flushed, by order */
	struct cond wake;
	struct thread thread;
	bool closing;
	bool crashed;
	bool pulled; /* whatever is asked is answered with -ENODEV */
};

static struct memory_leg *memory_of(struct leg *leg)
{
	while (leg->below)
		leg = leg->below;
	return (struct memory_leg *)leg;
}

/* Below these bytes the cache holds nothing any more: they are durable. `data` NULL means zeros. */
static void memory_settle(struct memory_leg *memory, uint64_t offset, size_t length, const unsigned char *data)
{
	struct memory_write *write;

	TAILQ_FOREACH(write, &memory->cache, link) {
		uint64_t from = write->offset > offset ? write->offset : offset;
		uint64_t end = write->offset + write->length < offset + length ? write->offset + write->length :
										 offset + length;
		size_t at = from - write->offset;

		if (from >= end)
			continue;
		if (data) {
			memcpy(write->before + at, data + (from - offset), end - from);
			memcpy(write->after + at, data + (from - offset), end - from);
		} else {
			memset(write->before + at, 0, end - from);
			memset(write->after + at, 0, end - from);
		}
	}
}

static void memory_write_apply(struct memory_leg *memory, struct memory_request *request)
{
	const struct leg_io *io = request->io;
	struct memory_write *write = request->write;

	memory->order++;
	if (!write) {
		memory_settle(memory, io->offset, io->length, io->data);
	} else {
		write->order = memory->order;
		memcpy(write->before, memory->bytes + io->offset, io->length);
		memcpy(write->after, io->data, io->length);
		TAILQ_INSERT_TAIL(&memory->cache, write, link);
		request->write = NULL;
	}
	memcpy(memory->bytes + io->offset, io->data, io->length);
}

static void memory_flush_apply(struct memory_leg *memory, uint64_t covers)
{
	struct memory_write *write;

	while ((write = TAILQ_FIRST(&memory->cache)) && write->order <= covers) {
		TAILQ_REMOVE(&memory->cache, write, link);
		free(write);
	}
}

static void memory_zero(unsigned char *at, size_t length)
{
	/* Gives the pages back, so that discarding a large leg makes it small. */
	if ((uintptr_t)at % MEMORY_PAGE || length % MEMORY_PAGE || madvise(at, length, MADV_DONTNEED))
		memset(at, 0, length);
}

/* The effect of a request, at its completion time, under the lock. Returns its error. */
static int memory_apply(struct memory_leg *memory, struct memory_request *request)
{
	struct leg_io *io = request->io;

	if (memory->pulled)
		return -ENODEV;
	if (io->op != LEG_FLUSH && io->offset + io->length > memory->leg.geometry.size_bytes)
		return -ENXIO;
	switch (io->op) {
	case LEG_READ:
		memcpy(io->data, memory->bytes + io->offset, io->length);
		break;
	case LEG_WRITE:
		memory_write_apply(memory, request);
		break;
	case LEG_FLUSH:
		memory_flush_apply(memory, request->covers);
		break;
	default:
		memory_settle(memory, io->offset, io->length, NULL);
		memory_zero(memory->bytes + io->offset, io->length);
	}
	if (memory->changed && io->op != LEG_READ)
		memory->changed(memory->context, io->op == LEG_FLUSH ? 0 : io->offset,
				io->op == LEG_FLUSH ? 0 : io->length);
	return 0;
}

static void memory_run(void *arg)
{
	struct memory_leg *memory = arg;
	struct memory_request *request;

	mutex_lock(&memory->leg.lock);
	while (!memory->crashed) {
		struct leg_io *io;
		int error;

		request = TAILQ_FIRST(&memory->requests);
		if (!request) {
			if (memory->closing)
				break;
			cond_wait(&memory->wake, &memory->leg.lock);
			continue;
		}
		if (request->due_ns > clock_now_ns() && !memory->pulled) {
			cond_wait_until(&memory->wake, &memory->leg.lock, request->due_ns);
			continue;
		}
		TAILQ_REMOVE(&memory->requests, request, link);
		error = memory_apply(memory, request);
		io = request->io;
		free(request->write);
		free(request);
		mutex_unlock(&memory->leg.lock);
		leg_complete(io, error, error || io->op == LEG_FLUSH ? 0 : io->length);
		mutex_lock(&memory->leg.lock);
	}
	mutex_unlock(&memory->leg.lock);
}

static struct memory_request *memory_request_create(struct leg_io *io)
{
	struct memory_request *request = calloc(1, sizeof(*request));
	struct memory_write *write;

	if (!request)
		return NULL;
	request->io = io;
	if (io->op != LEG_WRITE || io->flags & LEG_DSYNC)
		return request;
	write = malloc(sizeof(*write) + 2 * io->length);
	if (!write) {
		free(request);
		return NULL;
	}
	write->offset = io->offset;
	write->length = io->length;
	write->after = write->data;
	write->before = write->data + io->length;
	request->write = write;
	return request;
}

static int memory_submit(struct leg *leg, struct leg_io *io)
{
	struct memory_leg *memory = (struct memory_leg *)leg;
	struct memory_request *request = memory_request_create(io), *before;
	uint64_t spread = memory->latency_max_ns - memory->latency_min_ns;

	if (!request)
		return -ENOMEM;
	request->due_ns = io->submitted_ns + memory->latency_min_ns + (spread ? random_u64() % (spread + 1) : 0);
	mutex_lock(&leg->lock);
	request->covers = memory->order;
	TAILQ_FOREACH_REVERSE(before, &memory->requests, memory_requests, link) {
		if (before->due_ns <= request->due_ns)
			break;
	}
	if (before)
		TAILQ_INSERT_AFTER(&memory->requests, before, request, link);
	else
		TAILQ_INSERT_HEAD(&memory->requests, request, link);
	cond_signal(&memory->wake); /* under the lock: what is taken may be answered, and the leg be gone */
	mutex_unlock(&leg->lock);
	return 0;
}

static int memory_refresh(struct leg *leg)
{
	struct memory_leg *memory = (struct memory_leg *)leg;

	mutex_lock(&leg->lock);
	leg->geometry.size_bytes = memory->size_bytes;
	mutex_unlock(&leg->lock);
	return 0;
}

static void memory_free(struct memory_leg *memory)
{
	struct memory_request *request;

	memory_flush_apply(memory, UINT64_MAX);
	while ((request = TAILQ_FIRST(&memory->requests))) {
		TAILQ_REMOVE(&memory->requests, request, link);
		free(request->write);
		free(request);
	}
	cond_fini(&memory->wake);
	if (memory->own_bytes)
		munmap(memory->bytes, memory->most_bytes);
	leg_fini(&memory->leg);
	free(memory);
}

static void memory_close(struct leg *leg)
{
	struct memory_leg *memory = (struct memory_leg *)leg;

	mutex_lock(&leg->lock);
	memory->closing = true;
	mutex_unlock(&leg->lock);
	cond_signal(&memory->wake);
	thread_join(&memory->thread);
	memory_free(memory);
}

static void memory_abandon(struct leg *leg)
{
	struct memory_leg *memory = (struct memory_leg *)leg;

	assert(memory->crashed);
	leg_thread_abandon(&memory->thread);
	memory_free(memory);
}

static const struct leg_ops memory_ops = {
	.name = "memory",
	.submit = memory_submit,
	.refresh = memory_refresh,
	.close = memory_close,
	.abandon = memory_abandon,
};

int leg_memory_open(const struct leg_memory_options *options, struct leg **leg)
{
	struct memory_leg *memory = calloc(1, sizeof(*memory));
	struct leg_geometry *geometry;
	int error = -ENOMEM;

	*leg = NULL;
	if (!memory)
		return -ENOMEM;
	geometry = &memory->leg.geometry;
	geometry->size_bytes = options->size_bytes - options->size_bytes % options->block_size;
	memory->size_bytes = memory->most_bytes = geometry->size_bytes;
	geometry->block_size = options->block_size;
	geometry->mem_align = options->block_size;
	geometry->max_io = IOBUF_MAX;
	geometry->direct = true;
	geometry->discard = true;
	memory->latency_min_ns = options->latency_min_ns;
	memory->latency_max_ns = options->latency_max_ns > options->latency_min_ns ? options->latency_max_ns :
										      options->latency_min_ns;
	TAILQ_INIT(&memory->requests);
	TAILQ_INIT(&memory->cache);
	memory->own_bytes = !options->bytes;
	memory->bytes = options->bytes;
	memory->changed = options->changed;
	memory->context = options->context;
	/* Pages that nobody touched cost nothing, so a large leg is cheap. */
	if (memory->own_bytes)
		memory->bytes = mmap(NULL, geometry->size_bytes, PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory->bytes == MAP_FAILED)
		goto no_bytes;
	error = leg_init(&memory->leg, &memory_ops, options->name, "memory");
	if (error)
		goto no_leg;
	cond_init(&memory->wake);
	error = thread_start(&memory->thread, "leg-memory", memory_run, memory);
	if (error)
		goto no_thread;
	*leg = &memory->leg;
	return 0;

no_thread:
	cond_fini(&memory->wake);
	leg_fini(&memory->leg);
no_leg:
	if (memory->own_bytes)
		munmap(memory->bytes, memory->most_bytes);
no_bytes:
	free(memory);
	return error;
}

unsigned char *leg_memory_bytes(struct leg *leg)
{
	return memory_of(leg)->bytes;
}

void leg_memory_resize(struct leg *leg, uint64_t size_bytes)
{
	struct memory_leg *memory = memory_of(leg);

	assert(size_bytes <= memory->most_bytes);
	mutex_lock(&memory->leg.lock);
	memory->size_bytes = size_bytes;
	mutex_unlock(&memory->leg.lock);
}

/* What power loss may do to one write: all of it, nothing, its head, its tail, or any of its sectors. */
struct memory_loss {
	uint64_t offset;
	size_t length;
	const unsigned char *data; /* NULL: zeros, of a discard */
};

static void memory_keep(const struct memory_loss *loss, unsigned char *image, size_t from, size_t end)
{
	if (loss->data)
		memcpy(image + loss->offset + from, loss->data + from, end - from);
	else
		memset(image + loss->offset + from, 0, end - from);
}

static void memory_lose(const struct memory_loss *loss, unsigned char *image,
			uint32_t (*choose)(void *context, uint32_t n), void *context)
{
	uint32_t sectors = (uint32_t)(loss->length / MEMORY_SECTOR);
	size_t from = 0, end = loss->length;

	switch (choose(context, sectors > 1 ? 3 : 2)) {
	case 0:
		break;
	case 1:
		return;
	default:
		switch (choose(context, 3)) {
		case 0:
			end = (size_t)(1 + choose(context, sectors - 1)) * MEMORY_SECTOR;
			break;
		case 1:
			from = (size_t)(1 + choose(context, sectors - 1)) * MEMORY_SECTOR;
			break;
		default:
			for (; from < end; from += MEMORY_SECTOR)
				if (choose(context, 2))
					memory_keep(loss, image, from, from + MEMORY_SECTOR);
		}
	}
	memory_keep(loss, image, from, end);
}

/* The disk, with its cache or without. Reads where it can instead of writing: untouched pages stay untouched. */
static void memory_copy(struct memory_leg *memory, unsigned char *image, bool durable)
{
	const uint64_t size = memory->most_bytes;
	struct memory_write *write;

	for (uint64_t at = 0; at < size && image != memory->bytes; at += MEMORY_PAGE) {
		size_t length = size - at < MEMORY_PAGE ? size - at : MEMORY_PAGE;

		if (memcmp(image + at, memory->bytes + at, length))
			memcpy(image + at, memory->bytes + at, length);
	}
	if (!durable)
		return;
	TAILQ_FOREACH_REVERSE(write, &memory->cache, memory_cache, link)
		memcpy(image + write->offset, write->before, write->length);
}

/* Everything that is at stake: the cache and the requests in flight. NULL with 0 in *count if nothing is. */
static struct memory_loss *memory_at_stake(struct memory_leg *memory, uint32_t *count)
{
	struct memory_request *request;
	struct memory_write *write;
	struct memory_loss *losses;
	uint32_t n = 0;

	TAILQ_FOREACH(write, &memory->cache, link)
		n++;
	TAILQ_FOREACH(request, &memory->requests, link)
		n++;
	losses = calloc(n + 1, sizeof(*losses));
	if (!losses)
		abort(); /* only tests crash a memory leg, and they cannot go on without the answer */
	n = 0;
	TAILQ_FOREACH(write, &memory->cache, link)
		losses[n++] = (struct memory_loss){ write->offset, write->length, write->after };
	TAILQ_FOREACH(request, &memory->requests, link) {
		const struct leg_io *io = request->io;

		if ((io->op != LEG_WRITE && io->op != LEG_DISCARD) ||
		    io->offset + io->length > memory->leg.geometry.size_bytes)
			continue;
		losses[n++] = (struct memory_loss){ io->offset, io->length, io->op == LEG_WRITE ? io->data : NULL };
	}
	*count = n;
	return losses;
}

/* The power is gone: what the disk is left with. */
static void memory_power_off(struct memory_leg *memory, unsigned char *image,
			     uint32_t (*choose)(void *context, uint32_t n), void *context)
{
	struct memory_loss *losses;
	uint32_t count;

	memory_copy(memory, image, choose);
	losses = memory_at_stake(memory, &count);
	while (choose && count) {
		uint32_t pick = choose(context, count);

		memory_lose(&losses[pick], image, choose, context);
		losses[pick] = losses[--count];
	}
	free(losses);
}

void leg_memory_crash(struct leg *leg, unsigned char *image, uint32_t (*choose)(void *context, uint32_t n),
		      void *context)
{
	struct memory_leg *memory = memory_of(leg);

	/* Nobody waits while holding this lock, so in a simulator no sleeping fiber can have it. */
	mutex_lock(&memory->leg.lock);
	memory->crashed = true;
	memory_power_off(memory, image, choose, context);
	mutex_unlock(&memory->leg.lock);
	cond_signal(&memory->wake);
}

void leg_memory_pull(struct leg *leg, uint32_t (*choose)(void *context, uint32_t n), void *context)
{
	struct memory_leg *memory = memory_of(leg);

	mutex_lock(&memory->leg.lock);
	if (!memory->pulled)
		memory_power_off(memory, memory->bytes, choose, context);
	memory_flush_apply(memory, UINT64_MAX);
	memory->pulled = true;
	mutex_unlock(&memory->leg.lock);
	cond_signal(&memory->wake);
}

void leg_memory_abandon(struct leg *leg)
{
	leg->ops->abandon(leg);
}
