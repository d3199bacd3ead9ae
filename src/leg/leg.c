/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The leg's door. Every request passes here, whatever engine or wrapper stands behind: it is refused if it is
 * empty (I4) or misaligned, counted, and handed on; on the way back it is counted by what its error means.
 * leg_classify() is the only place in the project that gives an errno a meaning (I7).
 */
#include "leg_private.h"

#include "mirrorfs/base/clock.h"
#include "mirrorfs/base/log.h"
#include "mirrorfs/base/probe.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Below all that is wrapped around it. */
static struct leg *leg_engine_of(struct leg *leg)
{
	while (leg->below)
		leg = leg->below;
	return leg;
}

enum leg_verdict leg_classify(enum leg_op op, int error)
{
	switch (-error) {
	case 0:
		return LEG_OK;
	case EINVAL:
	case EOPNOTSUPP:
	case EAGAIN:
	case ENOMEM:
	case EINTR:
		return LEG_REQUEST;
	case ENODEV:
	case ENXIO:
	case ENOLINK:
	case ENOTCONN:
	case ETIMEDOUT:
		return LEG_GONE;
	case ENOSPC:
	case EDQUOT:
	case EROFS:
		/* A flush that finds no space has lost data that was called written: that is worse than being full. */
		return op == LEG_WRITE || op == LEG_DISCARD ? LEG_SPACE : LEG_MEDIA;
	default:
		/* EIO, ENODATA, EILSEQ, and what nobody has heard of: distrust this range, not the whole leg. */
		return LEG_MEDIA;
	}
}

const char *leg_verdict_name(enum leg_verdict verdict)
{
	static const char *const names[LEG_VERDICTS] = {
		[LEG_OK] = "ok",     [LEG_REQUEST] = "request", [LEG_MEDIA] = "media",
		[LEG_GONE] = "gone", [LEG_SPACE] = "space",
	};

	return (unsigned int)verdict < LEG_VERDICTS ? names[verdict] : "unknown";
}

int leg_init(struct leg *leg, const struct leg_ops *ops, const char *address, const char *path)
{
	leg->ops = ops;
	leg->fd = -1;
	leg->path = strdup(path);
	leg->address = strdup(address ? address : path);
	if (!leg->path || !leg->address) {
		free(leg->path);
		free(leg->address);
		return -ENOMEM;
	}
	mutex_init(&leg->lock, RANK_LEG);
	return 0;
}

int leg_init_wrapper(struct leg *leg, const struct leg_ops *ops, struct leg *below)
{
	int error = leg_init(leg, ops, below->address, below->path);

	if (error)
		return error;
	leg->below = below;
	leg->read_only = below->read_only;
	leg->geometry = below->geometry;
	return 0;
}

int leg_refresh_wrapper(struct leg *leg)
{
	int error = leg_refresh(leg->below);
	uint64_t size;

	if (error)
		return error;
	mutex_lock(&leg->below->lock);
	size = leg->below->geometry.size_bytes;
	mutex_unlock(&leg->below->lock);
	mutex_lock(&leg->lock);
	leg->geometry.size_bytes = size;
	mutex_unlock(&leg->lock);
	return 0;
}

void leg_fini(struct leg *leg)
{
	mutex_fini(&leg->lock);
	free(leg->path);
	free(leg->address);
}

void leg_queue_add(struct leg_queue *queue, struct leg_io *io)
{
	io->next = NULL;
	if (queue->first)
		queue->last->next = io;
	else
		queue->first = io;
	queue->last = io;
}

struct leg_io *leg_queue_take(struct leg_queue *queue)
{
	struct leg_io *io = queue->first;

	if (io)
		queue->first = io->next;
	return io;
}

void leg_thread_abandon(struct thread *thread)
{
	if (world->thread_join == world_real.thread_join)
		thread_join(thread);
}

static int leg_open_path(const char *address, const char *path, const struct leg_options *options, struct leg **leg,
			 struct error *error)
{
	struct leg_file file;
	int result = leg_opener_open(path, options, &file, error);

	if (result)
		return result;
	/* Without O_DIRECT the kernel would hand every request to a thread of its own: ours are as good. */
	if (options->engine == LEG_ENGINE_URING || (options->engine == LEG_ENGINE_AUTO && file.geometry.direct)) {
		result = leg_uring_create(&file, address, leg);
		if (!result)
			return 0;
		if (options->engine == LEG_ENGINE_URING) {
			leg_file_close(&file);
			return error_set(error, result, "%s: io_uring is refused here (%s); try engine=threads", path,
					 strerror(-result));
		}
		log_debug("io_uring is refused, using threads path=%s error=%s", path, strerror(-result));
	}
	result = leg_threads_create(&file, address, leg);
	if (!result)
		return 0;
	leg_file_close(&file);
	return error_set(error, result, "%s: cannot start its threads: %s", path, strerror(-result));
}

static int leg_open_inside(const char *address, const char *inside, const struct leg_options *options,
			   struct leg **leg, struct error *error)
{
	if (leg_address_elsewhere(inside))
		return leg_transport_open(inside, address, options, leg, error);
	return leg_open_path(address, inside, options, leg, error);
}

/* fault:RULES:PATH */
static int leg_open_fault(const char *address, const struct leg_options *options, struct leg **leg,
			  struct error *error)
{
	const char *start = address + strlen("fault:"), *inside = leg_address_inside(address);
	struct leg *below;
	char *rules;
	int result;

	if (inside == address || !inside[0])
		return error_set(error, -EINVAL, "%s: a fault leg is written fault:RULES:PATH", address);
	rules = strndup(start, (size_t)(inside - 1 - start));
	if (!rules)
		return error_set(error, -ENOMEM, "%s: %s", address, strerror(ENOMEM));
	result = leg_open_inside(address, inside, options, &below, error);
	if (!result)
		result = leg_fault_wrap(below, rules, leg, error);
	free(rules);
	return result;
}

int leg_open(const char *address, const struct leg_options *options, struct leg **leg, struct error *error)
{
	*leg = NULL;
	if (!strncmp(address, "fault:", strlen("fault:")))
		return leg_open_fault(address, options, leg, error);
	return leg_open_inside(address, address, options, leg, error);
}

void leg_close(struct leg *leg)
{
	struct leg *engine, *driller;
	bool busy;

	if (!leg)
		return;
	/* What a wrapper holds back itself, it ends. */
	engine = leg_engine_of(leg);
	mutex_lock(&engine->lock);
	busy = engine->counters.in_flight;
	mutex_unlock(&engine->lock);
	if (busy) {
		log_warn("leg left open, it has not given everything back: path=%s", leg->path);
		return;
	}
	driller = atomic_load(&leg->driller);
	if (driller)
		driller->ops->close(driller);
	leg->ops->close(leg);
}

static int leg_check(const struct leg *leg, const struct leg_io *io)
{
	const struct leg_geometry *geometry = &leg->geometry;

	if (leg->read_only && (io->op == LEG_WRITE || io->op == LEG_DISCARD))
		return -EROFS;
	if (io->op == LEG_DISCARD && !geometry->discard)
		return -EOPNOTSUPP;
	if (io->offset > INT64_MAX || io->length > INT64_MAX - io->offset)
		return -ERANGE;
	return 0;
}

static bool leg_is_aligned(const struct leg *leg, const struct leg_io *io)
{
	const struct leg_geometry *geometry = &leg->geometry;

	if (io->offset % geometry->block_size || io->length % geometry->block_size)
		return false;
	if (io->op == LEG_DISCARD)
		return true;
	return io->length <= geometry->max_io && (uintptr_t)io->data % geometry->mem_align == 0;
}

/* Counts the request in, or says why not. */
static int leg_admit(struct leg *leg, const struct leg_io *io)
{
	if ((unsigned int)io->op >= LEG_OPS)
		return -EINVAL;
	if (io->op == LEG_LOOK && !leg->geometry.file_ino)
		return -EOPNOTSUPP;
	if (io->op != LEG_FLUSH && io->op != LEG_LOOK) {
		int error;

		if (!io->length) { /* I4 */
			leg->counters.empty_refused++;
			return -EINVAL;
		}
		error = leg_check(leg, io);
		if (error)
			return error;
		if (!leg_is_aligned(leg, io)) {
			leg->counters.unaligned_refused++;
			return -EINVAL;
		}
	}
	leg->counters.in_flight++;
	return 0;
}

int leg_submit(struct leg *leg, struct leg_io *io)
{
	struct leg *drill = atomic_load(&leg->drill);

	if (io->op == LEG_LOOK)
		return leg_submit_past_drill(leg_engine_of(leg), io);
	return leg_submit_past_drill(drill ? drill : leg, io);
}

int leg_submit_past_drill(struct leg *leg, struct leg_io *io)
{
	int error;

	mutex_lock(&leg->lock);
	error = leg_admit(leg, io);
	mutex_unlock(&leg->lock);
	if (error)
		return error;
	io->leg = leg;
	io->next = NULL;
	io->engine = NULL;
	io->error = 0;
	io->bytes = 0;
	io->submitted_ns = clock_now_ns();
	probe4(leg_begin, leg->path, io->op, io->offset, io->length);
	error = leg->ops->submit(leg, io);
	if (error) {
		mutex_lock(&leg->lock);
		leg->counters.in_flight--;
		mutex_unlock(&leg->lock);
	}
	return error;
}

void leg_complete(struct leg_io *io, int error, size_t bytes)
{
	struct leg *leg = io->leg;

	io->error = error;
	io->bytes = bytes;
	probe4(leg_end, leg->path, io->op, error, bytes);
	log_debug("completed op=%d offset=%llu bytes=%zu of=%zu error=%d us=%llu path=%s", io->op,
		  (unsigned long long)io->offset, bytes, io->length, error,
		  (unsigned long long)(clock_now_ns() - io->submitted_ns) / 1000, leg->path);
	mutex_lock(&leg->lock);
	leg->counters.in_flight--;
	leg->counters.ops[io->op]++;
	leg->counters.bytes[io->op] += bytes;
	if (io->op != LEG_LOOK) /* which tells of the name alone */
		leg->counters.errors[leg_classify(io->op, error)]++;
	mutex_unlock(&leg->lock);
	io->done(io);
}

static void leg_waited_for(struct leg_io *io)
{
	leg_wait_done(io->context);
}

int leg_submit_wait(struct leg *leg, struct leg_io *io)
{
	struct leg_wait wait;
	int error;

	io->done = leg_waited_for;
	io->context = &wait;
	leg_wait_begin(&wait);
	error = leg_submit(leg, io);
	if (error)
		leg_wait_done(&wait);
	leg_wait(&wait);
	return error ? error : io->error;
}

const struct leg_geometry *leg_geometry(const struct leg *leg)
{
	return &leg->geometry;
}

bool leg_geometry_same_disk(const struct leg_geometry *a, const struct leg_geometry *b)
{
	if (a->disk_rdev && a->disk_rdev == b->disk_rdev)
		return true;
	return a->file_ino && b->file_ino && a->file_dev == b->file_dev;
}

int leg_refresh(struct leg *leg)
{
	return leg->ops->refresh(leg);
}

int leg_hand_over(struct leg *leg, uint64_t limit_ns)
{
	return leg_file_hand_over(leg_engine_of(leg), limit_ns);
}

int leg_allocate(struct leg *leg, uint64_t offset, uint64_t length)
{
	while (!leg->ops->allocate && leg->below)
		leg = leg->below;
	return leg->ops->allocate ? leg->ops->allocate(leg, offset, length) : 0;
}

bool leg_lost(struct leg *leg, char why[LEG_WHY_MAX])
{
	struct leg *engine = leg_engine_of(leg);

	return engine->ops->lost && engine->ops->lost(engine, why);
}

int leg_give_up(struct leg *leg)
{
	struct leg *engine = leg_engine_of(leg);

	return engine->ops->give_up ? engine->ops->give_up(engine) : -EOPNOTSUPP;
}

const char *leg_address(const struct leg *leg)
{
	return leg->address;
}

const char *leg_path(const struct leg *leg)
{
	return leg->path;
}

const char *leg_engine_name(const struct leg *leg)
{
	while (!leg->ops->name)
		leg = leg->below;
	return leg->ops->name;
}

void leg_counters(struct leg *leg, struct leg_counters *counters)
{
	mutex_lock(&leg->lock);
	*counters = leg->counters;
	mutex_unlock(&leg->lock);
}
