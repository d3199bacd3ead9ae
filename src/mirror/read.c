/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reads: verified, failed over, merged unit by unit (I3).
 *
 * Order of tries: the caller's whole original range on one leg, the whole range on the other, then the units that
 * are still missing one by one on each leg. So a leg sees each byte at most twice, and what is left to try
 * shrinks with every try (I5). The first try reads into the caller's buffer, later ones into a spare one from which
 * good units are copied; a buffer that a leg would not give back is replaced (the caller then gets another).
 *
 * A first try that takes far longer than its leg's usual (pace.c) is hedged: the keeper sends the whole range to the
 * other leg as well, and each answer is looked at as it comes. As soon as every unit is right the reader has it. The
 * beaten try keeps its buffer and its time: if that runs out, the leg goes offline, since the other one has answered.
 * Meanwhile readers go to the leg that keeps nobody waiting.
 *
 * What no leg in sync has right is looked for, unit by unit, on one that is stale or being filled, and on one that is
 * being replaced: it may well have what has not changed since. That is taken only if it is verified, and never charged
 * if it is not. One that has kept a request is asked for nothing more.
 *
 * A leg that did not answer in time is charged only when the other one has answered (I6), a request error is charged
 * to nobody (I7), and the last in-sync leg is never failed by a read (I12).
 */
#include "mirror_private.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define ERROR_COST_NS (10 * NSEC_PER_MSEC) /* a bad copy weighs as much as an answer this slow */

static bool readable(const struct mirror *mirror, int leg)
{
	return mirror->legs[leg].state == MIRROR_INSYNC;
}

/* It lacks something, perhaps not this: what is known by its checksum may be read there if no leg in sync has it. */
static bool last_source(const struct request *request, int leg)
{
	const struct mirror_leg *mine = &request->mirror->legs[leg];
	bool lacking = mine->state == MIRROR_STALE || mine->state == MIRROR_RESYNC;

	return lacking && !mine->abandoned && request->io->verify;
}

bool read_late_locked(const struct mirror *mirror, int leg)
{
	return mirror->legs[leg].late > 0;
}

static void arm_locked(struct request *request, int leg, bool single, uint32_t unit)
{
	struct try *try = &request->tries[leg];
	uint32_t first = single ? unit * request->unit_blocks : 0;
	uint32_t count = single ? request->unit_blocks : request->count;
	struct iobuf *buf = request->fresh ? request->buf : request->spare;
	size_t offset = (request->fresh ? request->offset : 0) + (size_t)first * MIRROR_BLOCK;

	request->leg = leg;
	request->single = single;
	request->unit = unit;
	try->unread = true;
	try->spare = !request->fresh;
	request->fresh = false;
	request_arm_locked(request, leg, LEG_READ, 0, request->block + first, count, buf, offset);
}

int read_first_locked(struct request *request, unsigned int *mask)
{
	struct mirror *mirror = request->mirror;
	int leg = request->only;

	if (leg < 0)
		leg = pick_leg_locked(mirror, request->block, request->count);
	else if (!leg_writable(mirror, leg) && mirror->legs[leg].state != MIRROR_STALE)
		return -EIO;
	request->tries[leg].count = 1;
	pick_note_locked(mirror, leg, request->block, request->count);
	arm_locked(request, leg, false, 0);
	*mask = 1u << leg;
	return 0;
}

static uint32_t missing_from(const struct request *request, uint32_t unit)
{
	while (unit < request->units && unit_in(&request->have, unit))
		unit++;
	return unit;
}

static void unit_copy(struct request *request, uint32_t unit)
{
	size_t unit_bytes = (size_t)request->unit_blocks * MIRROR_BLOCK, at = unit * unit_bytes;

	memcpy(request->buf->data + request->offset + at, request->spare->data + at, unit_bytes);
	unit_add(&request->have, unit);
}

static bool buf_is_out(const struct request *request)
{
	bool out = false;

	for (int leg = 0; leg < PLACES; leg++)
		out |= request->tries[leg].unread && !request->tries[leg].spare;
	return out;
}

/* Judges each unit of the answer. Returns how many were bad. No lock: the request is in our hand. */
static uint32_t judge(struct request *request, struct try *try)
{
	size_t unit_bytes = (size_t)request->unit_blocks * MIRROR_BLOCK;
	uint32_t first = request->single ? request->unit : 0;
	uint32_t end = request->single ? first + 1 : request->units;
	struct mirror_io *io = request->io;
	uint32_t bad = 0;

	try->unread = false;
	if (try->verdict == LEG_REQUEST || try->verdict == LEG_GONE) {
		request->fresh |= !try->spare;
		return 0;
	}
	for (uint32_t unit = first; unit < end; unit++) {
		const unsigned char *data = (unsigned char *)try->io.data + (unit - first) * unit_bytes;

		if (try->verdict != LEG_OK || (io->verify && !io->verify(io, unit, data))) {
			unit_add(&request->bad[try->leg], unit);
			bad++;
			continue;
		}
		unit_drop(&request->bad[try->leg], unit);
		unit_add(try->spare ? &request->copied : &request->have, unit);
	}
	for (uint32_t unit = 0; !buf_is_out(request) && unit < request->units; unit++) {
		if (unit_in(&request->copied, unit) && !unit_in(&request->have, unit))
			unit_copy(request, unit);
	}
	return bad;
}

static void out_of_time_locked(struct mirror *mirror, int leg)
{
	if (leg_out_locked(mirror, leg, "no answer to a read within %" PRIu64 " ms",
			   mirror->legs[leg].timeout_ns / NSEC_PER_MSEC))
		mirror->legs[leg].charged++;
}

static void account_locked(struct request *request, const struct try *try, uint32_t bad)
{
	struct mirror *mirror = request->mirror;
	int leg = try->leg;
	struct mirror_leg *mine = &mirror->legs[leg];
	struct try *other = &request->tries[!leg];

	/* One that lacks something is not to blame for it, and one that leaves not for anything. */
	if (leg == OUTGOING || (request->only < 0 && !readable(mirror, leg) && try->verdict != LEG_GONE))
		return;
	switch (try->verdict) {
	case LEG_OK:
		if (bad)
			mine->latency_ns += ERROR_COST_NS / 8;
		mine->checksum_errors += bad;
		mine->read_errors += bad;
		mine->charged += bad;
		break;
	case LEG_REQUEST:
		mirror->request_errors++;
		break;
	case LEG_GONE:
		mine->charged++;
		if (request->only < 0)
			leg_out_locked(mirror, leg, "a read at block %" PRIu64 " failed: %s", request->block,
				       strerror(-try->io.error));
		break;
	default:
		mine->latency_ns += ERROR_COST_NS / 8;
		mine->read_errors++;
		mine->charged++;
	}
	/* This leg has answered, so the silence of the other one is its own. */
	if (try->verdict != LEG_GONE && other->state == TRY_ABANDONED)
		out_of_time_locked(mirror, !leg);
}

/* The legs keep the buffers of tries that were given up; with them goes what was read into them. */
static void lose_buffers(struct request *request)
{
	bool buf = false, spare = false;

	for (int leg = 0; leg < PLACES; leg++) {
		struct try *try = &request->tries[leg];

		if (!try->unread || try->answered || try->state == TRY_FLYING)
			continue;
		try->unread = false;
		buf |= !try->spare;
		spare |= try->spare;
	}
	if (spare) {
		iobuf_put(request->spare);
		request->spare = NULL;
		memset(&request->copied, 0, sizeof(request->copied));
	}
	if (buf) {
		iobuf_put(request->buf);
		request->buf = request->spare;
		request->offset = 0;
		request->have = request->copied;
		request->fresh = !unit_any(&request->have);
		request->spare = NULL;
		memset(&request->copied, 0, sizeof(request->copied));
	}
}

static bool all_refused(const struct request *request)
{
	bool any = false;

	for (int leg = 0; leg < PLACES; leg++) {
		const struct try *try = &request->tries[leg];

		if (!try->count)
			continue;
		if (!try->answered || try->verdict != LEG_REQUEST)
			return false;
		any = true;
	}
	return any;
}

/* What to try next: a leg and perhaps one unit. False: nothing is left to try. */
static bool choose_locked(struct request *request, int *leg, bool *single, uint32_t *unit)
{
	struct mirror *mirror = request->mirror;
	struct try *last = &request->tries[request->leg];

	*unit = missing_from(request, 0);
	if (*unit == request->units || request->expired || request->only >= 0)
		return false;
	if (request->single && last->answered && last->verdict != LEG_GONE &&
	    (readable(mirror, request->leg) || last_source(request, request->leg))) {
		*unit = missing_from(request, request->unit + 1);
		*leg = request->leg;
		*single = true;
		if (*unit < request->units)
			return true;
		*unit = missing_from(request, 0);
	}
	*single = false;
	for (*leg = 0; *leg < MIRROR_LEGS; ++*leg) {
		if (readable(mirror, *leg) && !request->tries[*leg].count)
			return true;
	}
	if (all_refused(request))
		return false;
	*single = true;
	for (*leg = 0; *leg < MIRROR_LEGS; ++*leg) {
		struct try *try = &request->tries[*leg];

		if (readable(mirror, *leg) && try->count < TRIES_A_LEG && try->answered && try->verdict != LEG_GONE)
			return true;
	}
	for (*leg = 0; *leg < PLACES; ++*leg) {
		if (last_source(request, *leg) && !request->tries[*leg].count)
			return true;
	}
	return false;
}

/* The buffer that the next try reads into. False: the pool has none now. */
static bool provide_buffer(struct request *request)
{
	struct iobuf_pool *pool = request->mirror->options.pool;
	size_t size = (size_t)request->count * MIRROR_BLOCK;

	if (!request->buf) {
		request->buf = iobuf_try_get(pool, size);
		request->offset = 0;
		return request->buf;
	}
	if (!request->fresh && !request->spare)
		request->spare = iobuf_try_get(pool, size);
	return request->fresh || request->spare;
}

static bool known_bad(const struct request *request, uint32_t unit)
{
	bool bad = false;

	for (int leg = 0; leg < PLACES; leg++)
		bad |= unit_in(&request->bad[leg], unit);
	return bad;
}

/* Each range of them is told, unless nobody says what is right there: whoever reads so misses nothing. */
static void lose_units_locked(struct request *request)
{
	uint32_t run;

	for (uint32_t unit = 0; unit < request->units; unit += run ? run : 1) {
		uint64_t block = request->block + unit * request->unit_blocks;
		uint32_t count;

		for (run = 0; unit + run < request->units && !unit_in(&request->have, unit + run) &&
			      known_bad(request, unit + run);)
			run++;
		count = run * request->unit_blocks;
		lost_add_locked(request->mirror, block, count);
		if (run)
			event_post_locked(request->mirror, MIRROR_EVENT_UNRECOVERABLE, LOG_LEVEL_ERROR, -1, block,
					  count, "no leg has a good copy: block=%" PRIu64 " count=%u", block, count);
	}
}

static int verdict_of_all_locked(struct request *request)
{
	bool answered = false;

	for (int leg = 0; leg < PLACES; leg++)
		answered |= request->tries[leg].answered;
	if (missing_from(request, 0) == request->units)
		return 0;
	if (request->expired || !answered)
		return -ETIMEDOUT;
	if (all_refused(request))
		return request->tries[request->leg].io.error;
	if (request->only < 0 && request->io->verify)
		lose_units_locked(request);
	return -EIO;
}

void read_resume(struct request *request)
{
	struct mirror *mirror = request->mirror;
	bool single, launch = false;
	uint32_t unit;
	int leg, error = 0;

	mutex_lock(&mirror->lock);
	if (!choose_locked(request, &leg, &single, &unit)) {
		error = verdict_of_all_locked(request);
		mutex_unlock(&mirror->lock);
		request_end(request, error);
		return;
	}
	if (provide_buffer(request)) {
		/* A pass over single units is one try of the leg. */
		if (!single || !request->single || request->leg != leg)
			request->tries[leg].count++;
		mirror->retries++;
		request->in_hand = false;
		arm_locked(request, leg, single, unit);
		launch = true;
	} else {
		request_park_locked(request, ON_STARVED);
	}
	mutex_unlock(&mirror->lock);
	if (launch)
		request_launch(request, 1u << leg);
}

/* Every unit is right: in one buffer alone, if the other one is still with its leg. */
static bool whole(const struct request *request)
{
	for (uint32_t unit = 0; unit < request->units; unit++) {
		if (!unit_in(&request->have, unit) && !unit_in(&request->copied, unit))
			return false;
	}
	return true;
}

static void beat_locked(struct request *request)
{
	for (int leg = 0; leg < PLACES; leg++) {
		struct try *try = &request->tries[leg];

		if (try->state != TRY_FLYING)
			continue;
		try->state = TRY_BEATEN;
		request->mirror->beaten++;
		request->mirror->legs[leg].overtaken += try->late;
		request->waiting--;
	}
	lose_buffers(request);
}

static struct try *answer_locked(struct request *request)
{
	for (int leg = 0; leg < PLACES; leg++) {
		if (request->tries[leg].unread && request->tries[leg].answered)
			return &request->tries[leg];
	}
	return NULL;
}

void read_step(struct request *request)
{
	struct mirror *mirror = request->mirror;
	struct try *try;
	bool wait;

	mutex_lock(&mirror->lock);
	for (;;) {
		uint32_t bad;

		if (!request->waiting)
			request_gather_locked(request);
		lose_buffers(request);
		try = answer_locked(request);
		if (!try)
			break;
		mutex_unlock(&mirror->lock);
		bad = judge(request, try);
		mutex_lock(&mirror->lock);
		account_locked(request, try, bad);
		request_judged_locked(try);
	}
	if (whole(request)) {
		beat_locked(request);
		lost_drop_locked(mirror, request->block, request->count);
	}
	wait = request->waiting > 0;
	request->in_hand = !wait;
	mutex_unlock(&mirror->lock);
	if (!wait)
		read_resume(request);
}

/* ---- hedging ---- */

static bool may_be_hedged(const struct try *try)
{
	const struct request *request = try->request;

	return request->op == MIRROR_READ && !request->repairing && !request->in_hand && request->only < 0 &&
	       !request->single && try->state == TRY_FLYING && !try->overdue && !request->tries[!try->leg].count &&
	       readable(request->mirror, !try->leg);
}

struct request *read_hedge_locked(struct mirror *mirror)
{
	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		struct mirror_leg *mine = &mirror->legs[leg];
		uint64_t patience = pace_patience_ns(mine);
		struct try *try;

		if (patience == CLOCK_NEVER)
			continue;
		TAILQ_FOREACH (try, &mine->tries, entry) {
			struct request *request = try->request;

			/* In the order in which they were launched. */
			if (mirror->running_ns < try->begun_ns + patience)
				break;
			if (!may_be_hedged(try))
				continue;
			/* Without a buffer it waits on. */
			request->spare = iobuf_try_get(mirror->options.pool, (size_t)request->count * MIRROR_BLOCK);
			if (!request->spare)
				return NULL;
			try->late = true;
			mine->late++;
			mine->hedged++;
			request->tries[!leg].count++;
			arm_locked(request, !leg, false, 0);
			return request;
		}
	}
	return NULL;
}

/* What it brought is not looked at: nobody needs it, and there is no buffer to repair from. */
void read_beaten_locked(struct try *try)
{
	struct mirror *mirror = try->request->mirror;
	enum leg_verdict verdict = leg_classify(LEG_READ, try->io.error);

	if (verdict == LEG_REQUEST)
		mirror->request_errors++;
	if (verdict == LEG_OK || verdict == LEG_REQUEST)
		return;
	mirror->legs[try->leg].read_errors++;
	mirror->legs[try->leg].charged++;
	if (verdict == LEG_GONE)
		leg_out_locked(mirror, try->leg, "a read at block %" PRIu64 " failed: %s", try->request->block,
			       strerror(-try->io.error));
}

void read_beaten_overdue_locked(struct try *try)
{
	request_give_up_locked(try);
	out_of_time_locked(try->request->mirror, try->leg);
}

void read_deliver(struct request *request)
{
	struct mirror_io *io = request->io;

	if (!request->buf || request->buf == io->buf)
		return;
	iobuf_put(io->buf);
	io->buf = request->buf;
	io->buf_offset = request->offset;
	request->buf = NULL;
}
