/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Resync: a leg that lacks something is filled from the other one, while the volume is in use.
 *
 * What there is to copy is known above: a source tells it piece by piece, each under a pin and with the means to judge
 * it. So nothing is copied that is not right (I3), and nobody else writes where a copy goes (I9).
 *
 *	1  the survivor's label durably says what the leg lacks
 *	2  the leg's label durably says that it is being filled: from here on it is not mountable alone
 *	3  RESYNC: new writes go to both legs, reads to the survivor
 *	4  the source waits for what was on its way before 3, then tells all that was born since; copied
 *	5  the source writes anew what is rewritten in place: slots and ring
 *	6  flush; the survivor's label, durably: its epoch alone has ended; INSYNC; the leg's label; the survivor's
 *
 * Whatever comes between, a crash or the leg's loss, the labels make it begin again at 1 with the same knowledge: what
 * is live and was born before has not been touched on the leg meanwhile, since only free space is written (I1). What is
 * acknowledged after 3 without the leg waits for no label, as the survivor's says already that the leg lacks it; after
 * 6 began it does, with an epoch of its own, because the leg may be mounted alone then (I8, I11).
 *
 * How far it got is a hint in the leg's label, written after a flush, beside a generation that was durable before.
 */
#include "mirror_private.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define COPIES 4u /* in flight */
#define BUSY_NS (100 * NSEC_PER_MSEC) /* so long after a request of somebody else's the volume counts as in use */
#define YIELD_PIECES 3u /* then so many times a piece's time is left to others, */
#define YIELD_MAX_NS (250 * NSEC_PER_MSEC) /* but not more than this: it gets on however busy the volume is */
#define SAVE_NS (10 * NSEC_PER_SEC)

struct copy {
	struct mirror_io io; /* first: a completion finds the copy by it */
	struct mirror_live live;
	struct mirror *mirror;
	uint32_t first; /* unit that io begins with */
	uint64_t started_ns;
	bool flying, failed;
};

static unsigned int only(int leg)
{
	return leg ? MIRROR_ONLY_LEG1 : MIRROR_ONLY_LEG0;
}

static bool goes_on_locked(const struct mirror *mirror, int leg)
{
	return !mirror->resync.stopping && !mirror->resync.cancelled && !mirror->failed &&
	       mirror->legs[leg].state == MIRROR_RESYNC;
}

static bool goes_on(struct mirror *mirror, int leg)
{
	bool on;

	mutex_lock(&mirror->lock);
	on = goes_on_locked(mirror, leg);
	mutex_unlock(&mirror->lock);
	return on;
}

/* What is read meanwhile is read for the resync: it leaves no time to that. */
static void looking(struct mirror *mirror, bool on)
{
	mutex_lock(&mirror->lock);
	mirror->resync.looking = on;
	mutex_unlock(&mirror->lock);
}

static int flush(struct mirror *mirror)
{
	struct mirror_io io = {.op = MIRROR_FLUSH};

	return mirror_submit_wait(mirror, &io);
}

/* ---- one piece ---- */

static bool right(const struct mirror_io *io, uint32_t unit, const void *data)
{
	const struct copy *copy = (const struct copy *)io;

	return copy->live.right(&copy->live, copy->first + unit, data);
}

static void landed(struct copy *copy, bool failed)
{
	struct mirror *mirror = copy->mirror;

	mutex_lock(&mirror->lock);
	copy->flying = false;
	copy->failed = failed;
	mirror->resync.flying--;
	mirror->resync.piece_ns = clock_now_ns() - copy->started_ns;
	cond_broadcast(&mirror->resync.wake);
	mutex_unlock(&mirror->lock);
}

static void was_written(struct mirror_io *io)
{
	landed((struct copy *)io, io->error);
}

static void to_write(struct copy *copy)
{
	copy->io.op = MIRROR_WRITE;
	copy->io.flags = only(copy->mirror->resync.leg);
	copy->io.verify = NULL;
	copy->io.verify_blocks = 0;
}

static void was_read(struct mirror_io *io)
{
	struct copy *copy = (struct copy *)io;

	if (!io->error) {
		to_write(copy);
		io->done = was_written;
		if (!mirror_submit(copy->mirror, io))
			return;
	}
	landed(copy, true);
}

static void to_read(struct copy *copy, uint32_t first, uint32_t units)
{
	const struct mirror_live *live = &copy->live;

	copy->first = first;
	copy->io.op = MIRROR_READ;
	copy->io.flags = only(!copy->mirror->resync.leg);
	copy->io.block = live->block + (uint64_t)first * live->unit_blocks;
	copy->io.count = units * live->unit_blocks;
	copy->io.verify = right;
	copy->io.pin = live->pin;
	copy->io.verify_blocks = live->unit_blocks;
}

static void start(struct copy *copy)
{
	struct mirror *mirror = copy->mirror;

	to_read(copy, 0, copy->live.count / copy->live.unit_blocks);
	copy->io.buf = iobuf_get(mirror->options.pool, copy->live.count * (size_t)MIRROR_BLOCK);
	copy->io.buf_offset = 0;
	copy->io.done = was_read;
	copy->started_ns = clock_now_ns();
	mutex_lock(&mirror->lock);
	copy->flying = true;
	mirror->resync.flying++;
	mutex_unlock(&mirror->lock);
	if (mirror_submit(mirror, &copy->io))
		landed(copy, true);
}

/*
 * From whatever leg has it right: what the survivor has lost may be found on the one that is filled, or on the one that
 * is replaced. Then the survivor gets it back by that (repair.c).
 */
static int read_anywhere(struct copy *copy, uint32_t unit)
{
	struct mirror *mirror = copy->mirror;
	int error;

	to_read(copy, unit, 1);
	copy->io.flags = 0;
	looking(mirror, true);
	error = mirror_submit_wait(mirror, &copy->io);
	looking(mirror, false);
	return error;
}

/* 0; 1: no leg has it right, and so nothing was copied; else the resync cannot go on. */
static int unit_again(struct copy *copy, uint32_t unit)
{
	struct mirror *mirror = copy->mirror;
	int leg = mirror->resync.leg, error;

	error = read_anywhere(copy, unit);
	if (error == -EIO && !iobuf_reserve_full(mirror->options.pool))
		return 1;
	if (error)
		return error;
	to_write(copy);
	for (unsigned int try = 0; try < TRIES_A_LEG; try++) {
		error = mirror_submit_wait(mirror, &copy->io);
		if (!error || !goes_on(mirror, leg))
			return error;
		if (error == -ETIMEDOUT)
			break;
	}
	mutex_lock(&mirror->lock);
	leg_out_locked(mirror, leg, "a copy at block %" PRIu64 " cannot be written: %s", copy->io.block,
		       strerror(-error));
	mutex_unlock(&mirror->lock);
	return error;
}

/* What could not be copied as a whole, unit by unit. */
static int piece_again(struct copy *copy)
{
	struct mirror *mirror = copy->mirror;
	uint32_t units = copy->live.count / copy->live.unit_blocks;
	int error = 0;

	iobuf_put(copy->io.buf);
	copy->io.buf = iobuf_get(mirror->options.pool, copy->live.unit_blocks * (size_t)MIRROR_BLOCK);
	copy->io.buf_offset = 0;
	for (uint32_t unit = 0; unit < units && error >= 0 && goes_on(mirror, mirror->resync.leg); unit++) {
		error = unit_again(copy, unit);
		if (error <= 0)
			continue;
		mutex_lock(&mirror->lock);
		mirror->resync.lost += copy->live.unit_blocks;
		mutex_unlock(&mirror->lock);
	}
	return error < 0 ? error : 0;
}

static int retire(struct copy *copy)
{
	struct mirror *mirror = copy->mirror;
	int error = copy->failed ? piece_again(copy) : 0;

	iobuf_put(copy->io.buf);
	copy->io.buf = NULL;
	mirror_pin_put(copy->live.pin);
	mutex_lock(&mirror->lock);
	mirror->resync.done += copy->live.count;
	mutex_unlock(&mirror->lock);
	return error;
}

/* ---- pace ---- */

/* False: the resync is to end. */
static bool sleep_until(struct mirror *mirror, int leg, uint64_t until_ns)
{
	while (goes_on_locked(mirror, leg) && clock_now_ns() < until_ns)
		cond_wait_until(&mirror->resync.wake, &mirror->lock, until_ns);
	return goes_on_locked(mirror, leg);
}

/* Waits until one more piece may be under way. Lock held. */
static void yield_locked(struct mirror *mirror, int leg)
{
	struct resync *resync = &mirror->resync;
	uint64_t now = clock_now_ns(), yield_ns;
	bool busy = now - resync->foreground_ns < BUSY_NS;

	while (goes_on_locked(mirror, leg) && resync->flying >= (busy ? 1 : COPIES))
		cond_wait(&resync->wake, &mirror->lock);
	yield_ns = YIELD_PIECES * resync->piece_ns;
	if (busy)
		sleep_until(mirror, leg, clock_now_ns() + (yield_ns < YIELD_MAX_NS ? yield_ns : YIELD_MAX_NS));
	if (resync->limit)
		sleep_until(mirror, leg, resync->due_ns);
}

/* ---- all of it ---- */

/* Below this everything was copied, or is bad on the survivor as well: what is in flight comes in ascending order. */
static void note_copied(struct mirror *mirror, const struct copy *copies, uint64_t position)
{
	for (unsigned int i = 0; i < COPIES; i++) {
		if (copies[i].io.buf && copies[i].live.position && copies[i].live.block < position)
			position = copies[i].live.block;
	}
	mutex_lock(&mirror->lock);
	mirror->resync.copied = position;
	mutex_unlock(&mirror->lock);
}

/* Ends what has landed, of what lies below `position`. With `all`: waits for everything. */
static int retire_landed(struct mirror *mirror, struct copy *copies, uint64_t position, bool all)
{
	int error = 0, result;

	for (unsigned int i = 0; i < COPIES; i++) {
		bool landed;

		mutex_lock(&mirror->lock);
		while (all && copies[i].flying)
			cond_wait(&mirror->resync.wake, &mirror->lock);
		landed = copies[i].io.buf && !copies[i].flying;
		mutex_unlock(&mirror->lock);
		result = landed ? retire(&copies[i]) : 0;
		if (landed)
			note_copied(mirror, copies, position);
		error = error ? error : result;
	}
	return error;
}

/* Everything below `position` that is old enough is on the leg: so much need not be copied again after a crash. */
static int save(struct mirror *mirror, int leg, uint64_t position)
{
	struct format_label *label = &mirror->legs[leg].label;
	uint64_t generation;
	int error;

	mutex_lock(&mirror->lock);
	generation = mirror->checkpoint;
	mutex_unlock(&mirror->lock);
	error = flush(mirror);
	if (error)
		return error;
	mutex_lock(&mirror->lock);
	if (mirror->legs[leg].state == MIRROR_RESYNC) {
		label->resync.generation = le64_of(generation);
		label->resync.position = le64_of(position);
		memcpy(label->resync.epoch, label_newest(&mirror->legs[!leg].label), sizeof(label->resync.epoch));
		relabel_want_locked(mirror, leg);
	}
	mutex_unlock(&mirror->lock);
	return 0;
}

static int next(struct mirror *mirror, struct copy *copies, uint64_t *position)
{
	struct resync *resync = &mirror->resync;
	struct copy *copy = copies;
	int error;

	while (copy->io.buf)
		copy++;
	looking(mirror, true);
	error = resync->source.next(resync->source.context, &copy->live);
	looking(mirror, false);
	mutex_lock(&mirror->lock);
	if (!error && resync->limit)
		resync->due_ns = clock_now_ns() + copy->live.count * MIRROR_BLOCK * NSEC_PER_SEC / resync->limit;
	mutex_unlock(&mirror->lock);
	if (error)
		return error;
	start(copy);
	*position = copy->live.position;
	return 0;
}

static int copy_all(struct mirror *mirror, int leg, const struct mirror_since *since, struct copy *copies)
{
	uint64_t position = 0, saved_ns = clock_now_ns();
	int error = 0, result;

	while (!error) {
		mutex_lock(&mirror->lock);
		outgoing_tend_locked(mirror);
		yield_locked(mirror, leg);
		mutex_unlock(&mirror->lock);
		if (!goes_on(mirror, leg)) {
			error = -EINTR;
			break;
		}
		error = retire_landed(mirror, copies, position, false);
		if (!error && position > since->position && clock_now_ns() - saved_ns >= SAVE_NS) {
			error = retire_landed(mirror, copies, position, true);
			if (!error)
				error = save(mirror, leg, position);
			saved_ns = clock_now_ns();
		}
		if (!error)
			error = next(mirror, copies, &position);
	}
	result = retire_landed(mirror, copies, position, true);
	if (!result && error == -EINTR && position > since->position)
		(void)save(mirror, leg, position);
	return error == -ENOENT ? result : error;
}

/* What the labels say that the leg has. Lock held. */
struct mirror_since resync_since_locked(const struct mirror *mirror, int leg)
{
	const struct format_label *label = &mirror->legs[leg].label, *from = &mirror->legs[!leg].label;
	struct mirror_since since = {.after = label_lacks_after(from, label)};

	if (!label_has(label, LABEL_RESYNCING))
		return since;
	/* An earlier one that knew less has not ended. */
	if (le64_get(label->resync.after) < since.after)
		since.after = le64_get(label->resync.after);
	if (le64_get(label->resync.after) == since.after &&
	    !memcmp(label->resync.epoch, label_newest(from), sizeof(label->resync.epoch))) {
		since.generation = le64_get(label->resync.generation);
		since.position = le64_get(label->resync.position);
	}
	return since;
}

/* What the leg was given earlier and has not given back may still land: on what is written there from now on. */
static int wait_quiet_locked(struct mirror *mirror, int leg)
{
	while (!TAILQ_EMPTY(&mirror->legs[leg].tries)) {
		if (mirror->resync.stopping || mirror->resync.cancelled || mirror->legs[leg].state != MIRROR_STALE)
			return -EINTR;
		cond_wait(&mirror->idle, &mirror->lock);
	}
	return 0;
}

static bool may_begin_locked(const struct mirror *mirror, int leg)
{
	return mirror->legs[leg].state == MIRROR_STALE && mirror->legs[!leg].state == MIRROR_INSYNC && !mirror->failed;
}

/* Steps 1 to 3. */
static int begin(struct mirror *mirror, int leg, struct mirror_since *since)
{
	struct mirror_leg *mine = &mirror->legs[leg], *from = &mirror->legs[!leg];
	const struct mirror_source *source = &mirror->resync.source;
	int error;

	mutex_lock(&mirror->lock);
	*since = resync_since_locked(mirror, leg);
	mutex_unlock(&mirror->lock);
	if (since->after && source->proven(source->context, leg, since->after) < since->after)
		*since = (struct mirror_since){.after = 0};
	mutex_lock(&mirror->lock);
	error = wait_quiet_locked(mirror, leg);
	if (!error)
		error = relabel_wait_locked(mirror, !leg, from->relabel.wanted);
	if (!error && !may_begin_locked(mirror, leg))
		error = -EIO;
	if (!error) {
		label_set(&mine->label, LABEL_RESYNCING, true);
		mine->label.resync.after = le64_of(since->after);
		mine->label.resync.generation = le64_of(since->generation);
		mine->label.resync.position = le64_of(since->position);
		error = relabel_wait_locked(mirror, leg, relabel_want_locked(mirror, leg));
	}
	if (!error && !may_begin_locked(mirror, leg))
		error = -EIO;
	if (!error) {
		mirror->resync.since = *since;
		mirror->resync.upto = UINT64_MAX;
		mirror->resync.copied = 0;
		state_set_locked(mirror, leg, MIRROR_RESYNC,
				 "being filled with what was born after generation %" PRIu64, since->after);
	}
	mutex_unlock(&mirror->lock);
	return error;
}

/* Steps 5 and 6. */
static int end(struct mirror *mirror, int leg)
{
	struct mirror_leg *mine = &mirror->legs[leg], *from = &mirror->legs[!leg];
	int error = mirror->resync.source.end(mirror->resync.source.context);

	if (!error)
		error = flush(mirror);
	mutex_lock(&mirror->lock);
	if (!error && !goes_on_locked(mirror, leg))
		error = -EINTR;
	if (!error) {
		/* From here on whoever writes without the leg begins an epoch first, also after a crash. */
		label_set(&from->label, LABEL_EPOCH_ALONE, false);
		error = relabel_wait_locked(mirror, !leg, relabel_want_locked(mirror, !leg));
	}
	if (!error && !goes_on_locked(mirror, leg))
		error = -EINTR;
	if (!error) {
		label_adopt(&mine->label, &from->label);
		mirror->generation = mirror->checkpoint;
		state_set_locked(mirror, leg, MIRROR_INSYNC, "filled: %" PRIu64 " blocks copied, %" PRIu64 " were bad",
				 mirror->resync.done, mirror->resync.lost);
		error = relabel_wait_locked(mirror, leg, relabel_want_locked(mirror, leg));
	}
	if (!error && mine->state == MIRROR_INSYNC && from->state == MIRROR_INSYNC) {
		label_set(&from->label, LABEL_LACKS_OTHER, false);
		error = relabel_wait_locked(mirror, !leg, relabel_want_locked(mirror, !leg));
	}
	mutex_unlock(&mirror->lock);
	return error;
}

static int fill(struct mirror *mirror, int leg)
{
	struct copy *copies = calloc(COPIES, sizeof(*copies));
	struct resync *resync = &mirror->resync;
	struct mirror_since since;
	uint64_t total = 0;
	int error = copies ? 0 : -ENOMEM;

	for (unsigned int i = 0; i < COPIES && copies; i++)
		copies[i].mirror = mirror;
	if (!error)
		error = begin(mirror, leg, &since);
	if (!error)
		error = resync->source.begin(resync->source.context, &since, &total);
	mutex_lock(&mirror->lock);
	resync->total = total;
	resync->upto = error ? UINT64_MAX : mirror->checkpoint;
	resync->started_ns = clock_now_ns();
	mutex_unlock(&mirror->lock);
	if (!error)
		error = copy_all(mirror, leg, &since, copies);
	if (!error)
		error = end(mirror, leg);
	free(copies);
	return error;
}

/* The leg has changed its state before, and that was told. */
static void tell_end_locked(struct mirror *mirror, int leg, int error)
{
	const struct resync *resync = &mirror->resync;
	uint64_t seconds = resync->started_ns ? (clock_now_ns() - resync->started_ns) / NSEC_PER_SEC : 0;

	if (error)
		event_post_locked(mirror, MIRROR_EVENT_RESYNC_STOPPED, LOG_LEVEL_WARN, leg, 0, 0,
				  "resync stopped: leg=%d copied_blocks=%" PRIu64 " of=%" PRIu64 " reason=\"%s\"", leg,
				  resync->done, resync->total, error == -EINTR ? "stopped" : strerror(-error));
	else
		event_post_locked(mirror, MIRROR_EVENT_RESYNC_ENDED, LOG_LEVEL_INFO, leg, 0, 0,
				  "resync ended: leg=%d copied_blocks=%" PRIu64 " bad_blocks=%" PRIu64
				  " seconds=%" PRIu64,
				  leg, resync->done, resync->lost, seconds);
}

static void run(void *arg)
{
	struct mirror *mirror = arg;
	struct resync *resync = &mirror->resync;

	mutex_lock(&mirror->lock);
	while (!resync->stopping) {
		int leg = mirror->legs[0].state == MIRROR_STALE ? 0 : 1, error;

		if (outgoing_tend_locked(mirror))
			continue;
		if (!resync->wanted || mirror->legs[leg].state != MIRROR_STALE) {
			resync->wanted = false;
			cond_wait(&resync->wake, &mirror->lock);
			continue;
		}
		resync->wanted = false;
		resync->leg = leg;
		resync->done = resync->total = resync->lost = resync->started_ns = 0;
		mutex_unlock(&mirror->lock);
		error = fill(mirror, leg);
		mutex_lock(&mirror->lock);
		if (mirror->legs[leg].state == MIRROR_RESYNC)
			state_set_locked(mirror, leg, MIRROR_STALE, "its resync has not ended: %s",
					 error == -EINTR ? "stopped" : strerror(-error));
		tell_end_locked(mirror, leg, error);
		resync->leg = -1;
		resync->ended++;
		resync->cancelled = false;
		cond_broadcast(&mirror->idle);
	}
	mutex_unlock(&mirror->lock);
}

int mirror_source_set(struct mirror *mirror, const struct mirror_source *source)
{
	struct resync *resync = &mirror->resync;

	mutex_lock(&mirror->lock);
	resync->stopping = !source;
	resync->wanted = source;
	if (source)
		resync->source = *source;
	cond_broadcast(&resync->wake);
	cond_broadcast(&mirror->idle);
	mutex_unlock(&mirror->lock);
	if (source)
		return thread_start(&resync->thread, "resync", run, mirror);
	thread_join(&resync->thread);
	return 0;
}

int mirror_resync_start(struct mirror *mirror)
{
	struct resync *resync = &mirror->resync;
	int error = 0;

	mutex_lock(&mirror->lock);
	if (mirror->failed || mirror->options.read_only)
		error = -EROFS;
	else if (resync->leg < 0 && mirror->legs[0].state != MIRROR_STALE &&
		 mirror->legs[1].state != MIRROR_STALE)
		error = -ENOENT;
	else
		resync->wanted = true;
	cond_broadcast(&resync->wake);
	mutex_unlock(&mirror->lock);
	return error;
}

void mirror_resync_limit(struct mirror *mirror, uint64_t bytes_per_second)
{
	mutex_lock(&mirror->lock);
	mirror->resync.limit = bytes_per_second;
	mirror->resync.due_ns = 0;
	cond_broadcast(&mirror->resync.wake);
	mutex_unlock(&mirror->lock);
}

void resync_cancel_locked(struct mirror *mirror)
{
	mirror->resync.wanted = false;
	while (mirror->resync.leg >= 0) {
		mirror->resync.cancelled = true;
		cond_broadcast(&mirror->resync.wake);
		cond_broadcast(&mirror->idle);
		cond_wait(&mirror->idle, &mirror->lock);
	}
}

bool resync_missing_locked(const struct mirror *mirror, struct mirror_missing *missing)
{
	int survivor = mirror->identity.leg_count < MIRROR_LEGS ? 0 : survivor_locked(mirror), leg = !survivor;
	const struct format_label *from;

	if (survivor < 0 || mirror->legs[survivor].state != MIRROR_INSYNC)
		return false;
	*missing = (struct mirror_missing){.leg = leg, .upto = UINT64_MAX};
	from = &mirror->legs[!leg].label;
	if (mirror->legs[leg].state == MIRROR_RESYNC) {
		missing->since = mirror->resync.since;
		missing->upto = mirror->resync.upto;
		missing->copied = mirror->resync.copied;
	} else if (le32_get(mirror->legs[leg].label.magic)) {
		missing->since = resync_since_locked(mirror, leg);
	} else if (label_has(from, LABEL_LACKS_OTHER)) {
		missing->since.after = le64_get(from->lacks_after);
	} else {
		return mirror->identity.leg_count < MIRROR_LEGS; /* it was in sync when it was last seen */
	}
	return true;
}

bool mirror_missing(struct mirror *mirror, struct mirror_missing *missing)
{
	bool some;

	mutex_lock(&mirror->lock);
	some = resync_missing_locked(mirror, missing);
	mutex_unlock(&mirror->lock);
	return some;
}

struct mirror_resync_status resync_status_locked(const struct mirror *mirror)
{
	const struct resync *resync = &mirror->resync;
	struct mirror_resync_status status = {.ended = resync->ended, .leg = resync->leg, .limit = resync->limit};

	if (resync->leg < 0)
		return status;
	status.done = resync->done;
	status.total = resync->total > resync->done ? resync->total : resync->done;
	status.lost = resync->lost;
	if (resync->total)
		status.elapsed_ns = clock_now_ns() - resync->started_ns;
	return status;
}
