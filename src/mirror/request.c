/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The life of a request: made, launched on legs, taken in hand when its last try is answered or overdue, ended,
 * retired. Memory comes from a list of idle requests that grows. See mirror_private.h for the picture.
 */
#include "mirror_private.h"

#include "mirrorfs/base/probe.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define IDLE_MAX 256u /* idle requests kept */

struct request *request_create(struct mirror *mirror, struct mirror_io *io)
{
	struct request *request;

	mutex_lock(&mirror->lock);
	request = TAILQ_FIRST(&mirror->idle_requests);
	if (request) {
		TAILQ_REMOVE(&mirror->idle_requests, request, queue);
		mirror->idle_count--;
	}
	mutex_unlock(&mirror->lock);
	if (!request)
		request = malloc(sizeof(*request));
	if (!request)
		return NULL;
	memset(request, 0, sizeof(*request));
	request->mirror = mirror;
	request->io = io;
	request->op = io->op;
	request->flags = io->flags;
	request->block = io->block;
	request->count = io->count;
	probe3(mirror_begin, io->op, io->block, io->count);
	request->only = io->flags & MIRROR_ONLY_LEG0 ? 0 : io->flags & MIRROR_ONLY_LEG1 ? 1 : -1;
	for (int leg = 0; leg < PLACES; leg++) {
		request->tries[leg].request = request;
		request->tries[leg].leg = leg;
	}
	if (io->op == MIRROR_READ || io->op == MIRROR_WRITE) {
		request->buf = io->buf;
		request->offset = io->buf_offset;
		iobuf_ref(io->buf);
	}
	if (io->op == MIRROR_READ) {
		request->fresh = true;
		request->unit_blocks = io->verify ? io->verify_blocks : 1;
		request->units = io->count / request->unit_blocks;
		/* Only under a pin is the range sure to hold the same content when it is rewritten. */
		if (io->verify && io->pin) {
			request->pin = io->pin;
			mirror_pin_ref(io->pin);
		}
	}
	return request;
}

/* The last user is gone: answered, and no leg has any of its tries. */
static void release_locked(struct request *request)
{
	struct mirror *mirror = request->mirror;

	if (!request->retired)
		return;
	for (int leg = 0; leg < PLACES; leg++) {
		if (request->tries[leg].state != TRY_IDLE)
			return;
	}
	if (mirror->idle_count < IDLE_MAX) {
		TAILQ_INSERT_HEAD(&mirror->idle_requests, request, queue);
		mirror->idle_count++;
	} else {
		free(request);
	}
	cond_broadcast(&mirror->idle);
}

void request_retire(struct request *request)
{
	struct mirror *mirror = request->mirror;

	iobuf_put(request->buf);
	iobuf_put(request->spare);
	if (request->pin)
		mirror_pin_put(request->pin);
	mutex_lock(&mirror->lock);
	mirror->working--;
	request->retired = true;
	release_locked(request);
	cond_broadcast(&mirror->idle);
	mutex_unlock(&mirror->lock);
}

void request_end(struct request *request, int error)
{
	struct mirror *mirror = request->mirror;
	struct mirror_io *io = request->io;
	bool repair = request->op == MIRROR_READ && repair_prepare(request);

	assert(io && !request->waiting);
	probe4(mirror_end, request->op, request->block, request->count, error);
	log_debug("answered op=%d block=%llu count=%u error=%d", request->op, (unsigned long long)request->block,
		  request->count, error);
	if (request->op == MIRROR_READ)
		read_deliver(request);
	mutex_lock(&mirror->lock);
	TAILQ_REMOVE(&mirror->requests, request, entry);
	request->io = NULL;
	mutex_unlock(&mirror->lock);
	io->error = error;
	io->done(io);
	if (repair)
		repair_start(request);
	else
		request_retire(request);
}

static struct request_list *list_of(struct request *request)
{
	switch (request->on) {
	case ON_HELD:
		return &request->mirror->held;
	case ON_STARVED:
		return &request->mirror->starved;
	case ON_ENDED:
		return &request->mirror->ended;
	case ON_NONE:
		break;
	}
	return NULL;
}

void request_park_locked(struct request *request, enum request_list_name on)
{
	assert(request->on == ON_NONE);
	request->on = on;
	TAILQ_INSERT_TAIL(list_of(request), request, queue);
	cond_signal(&request->mirror->kick);
}

void request_unpark_locked(struct request *request)
{
	TAILQ_REMOVE(list_of(request), request, queue);
	request->on = ON_NONE;
}

void request_arm_locked(struct request *request, int leg, enum leg_op op, unsigned int flags, uint64_t block,
			uint32_t count, struct iobuf *buf, size_t offset)
{
	struct mirror *mirror = request->mirror;
	struct mirror_leg *mine = &mirror->legs[leg];
	struct try *try = &request->tries[leg];

	assert(try->state == TRY_IDLE);
	assert(op == LEG_FLUSH || count > 0); /* I4 */
	request_judged_locked(try);
	try->io = (struct leg_io){.op = op, .flags = flags, .done = request_try_done, .context = try};
	if (op != LEG_FLUSH) {
		try->io.offset = MIRROR_SPACE_OFFSET + block * MIRROR_BLOCK;
		try->io.length = (size_t)count * MIRROR_BLOCK;
	}
	if (buf) {
		try->io.data = buf->data + offset;
		iobuf_ref(buf);
	}
	try->buf = buf;
	try->state = TRY_FLYING;
	try->overdue = false;
	try->answered = false;
	try->took_ns = 0;
	/* The running time is up to a tick old. */
	try->begun_ns = mirror->running_ns + TICK_NS;
	try->due_ns = try->begun_ns + mine->timeout_ns;
	TAILQ_INSERT_TAIL(&mine->tries, try, entry);
	if (op == LEG_READ)
		mine->reading++;
	request->waiting++;
	keeper_wake_locked(mirror);
}

void request_launch(struct request *request, unsigned int mask)
{
	struct mirror *mirror = request->mirror;

	/* The request may be gone as soon as the last of its tries was handed over. */
	for (int leg = 0; leg < PLACES; leg++) {
		struct try *try = &request->tries[leg];
		int error;

		if (!(mask & 1u << leg))
			continue;
		mask &= ~(1u << leg);
		/* The last moment at which it can be kept from a leg that is another machine's by now (I13). */
		error = try->io.op == LEG_READ || claim_holds(mirror, leg) ?
				leg_submit(mirror->legs[leg].leg, &try->io) :
				-ENOLINK;
		if (error) {
			/* The keeper completes it: never from inside a submit. */
			try->io.error = error;
			mutex_lock(&mirror->lock);
			TAILQ_INSERT_TAIL(&mirror->refused, try, refused);
			cond_signal(&mirror->kick);
			mutex_unlock(&mirror->lock);
		}
		if (!mask)
			return;
	}
}

bool try_timed_out(const struct try *try)
{
	return try->count && !try->answered && try->state != TRY_FLYING;
}

void request_give_up_locked(struct try *try)
{
	struct mirror *mirror = try->request->mirror;

	if (try->state == TRY_BEATEN)
		mirror->beaten--;
	try->state = TRY_ABANDONED;
	mirror->legs[try->leg].timeouts++;
	mirror->legs[try->leg].abandoned++;
	if (try->buf)
		iobuf_abandon(try->buf);
}

/* The request waits for nobody any more: what is still out is given up, with its buffer (I6). */
void request_gather_locked(struct request *request)
{
	for (int leg = 0; leg < PLACES; leg++) {
		if (request->tries[leg].state == TRY_FLYING)
			request_give_up_locked(&request->tries[leg]);
	}
}

/* True: the request is in the caller's hand now. */
static bool take_locked(struct request *request)
{
	bool read = request->op == MIRROR_READ && !request->repairing;

	if (read ? request->in_hand : request->waiting > 0)
		return false;
	request->in_hand = read;
	if (!request->waiting)
		request_gather_locked(request);
	return true;
}

void request_overdue_locked(struct try *try, struct request_list *work)
{
	struct request *request = try->request;

	assert(try->state == TRY_FLYING && !try->overdue);
	try->overdue = true;
	if (!--request->waiting && take_locked(request))
		TAILQ_INSERT_TAIL(work, request, queue);
}

/* True: the request is in the caller's hand now. */
static bool returned_locked(struct try *try)
{
	struct request *request = try->request;
	struct mirror *mirror = request->mirror;
	struct mirror_leg *mine = &mirror->legs[try->leg];
	enum try_state state = try->state;

	try->took_ns = pace_took_ns(mirror, &try->io);
	if (try->took_ns)
		histograms_add(mirror->times, (unsigned int)try->leg * LEG_OPS + try->io.op, try->took_ns);
	TAILQ_REMOVE(&mine->tries, try, entry);
	if (try->io.op == LEG_READ) {
		mine->reading--;
		mine->late -= try->late;
		if (!try->io.error && try->leg != OUTGOING)
			pace_read_locked(mirror, try);
	}
	iobuf_put(try->buf);
	try->buf = NULL;
	try->late = false;
	try->state = TRY_IDLE;
	/* It may be waited for, to be closed. */
	if (try->leg == OUTGOING)
		cond_broadcast(&mirror->resync.wake);
	if (state == TRY_FLYING) {
		try->answered = try->unjudged = true;
		mine->unjudged++;
		try->verdict = leg_classify(try->io.op, try->io.error);
		/* Overdue, but others are still out: it was no longer waited for, and yet its answer counts. */
		request->waiting -= !try->overdue;
		return take_locked(request);
	}
	if (state == TRY_BEATEN) {
		mirror->beaten--;
		read_beaten_locked(try);
	} else {
		mine->abandoned--;
	}
	if (try->pin)
		mirror_pin_put(try->pin);
	try->pin = NULL;
	release_locked(request);
	cond_broadcast(&mirror->idle);
	return false;
}

/* Whoever waits for the leg to be quiet may close it, or give its place to another, which the answer is not of. */
void request_judged_locked(struct try *try)
{
	struct mirror *mirror = try->request->mirror;

	if (!try->unjudged)
		return;
	try->unjudged = false;
	mirror->legs[try->leg].unjudged--;
	cond_broadcast(try->leg == OUTGOING ? &mirror->resync.wake : &mirror->idle);
}

void request_try_done(struct leg_io *io)
{
	struct try *try = io->context;
	struct request *request = try->request;
	struct mirror *mirror = request->mirror;
	bool mine;

	mutex_lock(&mirror->lock);
	mine = returned_locked(try);
	mutex_unlock(&mirror->lock);
	if (mine)
		request_step(request);
}

void request_step(struct request *request)
{
	if (request->repairing)
		repair_step(request);
	else if (request->op == MIRROR_READ)
		read_step(request);
	else if (request->op == MIRROR_DISCARD)
		discard_step(request);
	else
		write_step(request);
}
