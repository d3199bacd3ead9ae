/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Repair: what a read found bad on one leg and good on the other is rewritten, after the reader was answered, from a
 * buffer of the mirror's own and under the reader's pin, so that the range still means the same (I3, I9). A read
 * without verify is never followed by a repair: nothing tells that the other leg's bytes are right.
 *
 * A rewrite that fails takes the leg out, as any failed write; one that is refused as a request is given up.
 */
#include "mirror_private.h"

#include <inttypes.h>
#include <string.h>

static bool wanted(const struct request *request, int leg, uint32_t unit)
{
	return unit_in(&request->bad[leg], unit) && unit_in(&request->have, unit);
}

/* Before the answer, while the data is still ours: brings every good unit that is wanted into the spare buffer. */
bool repair_prepare(struct request *request)
{
	size_t unit_bytes = (size_t)request->unit_blocks * MIRROR_BLOCK;
	bool any = false;

	if (!request->pin || request->only >= 0 || request->mirror->options.read_only)
		return false;
	for (uint32_t unit = 0; unit < request->units; unit++) {
		if (!wanted(request, 0, unit) && !wanted(request, 1, unit))
			continue;
		if (!request->spare) {
			memset(&request->copied, 0, sizeof(request->copied));
			request->spare =
				iobuf_try_get(request->mirror->options.pool, (size_t)request->count * MIRROR_BLOCK);
		}
		/* Without a buffer the bad copy waits for the next reader that meets it. */
		if (!request->spare)
			return false;
		if (!unit_in(&request->copied, unit))
			memcpy(request->spare->data + unit * unit_bytes,
			       request->buf->data + request->offset + unit * unit_bytes, unit_bytes);
		any = true;
	}
	return any;
}

static void arm_locked(struct request *request)
{
	uint32_t first = request->unit * request->unit_blocks;

	request->tries[request->leg].count++;
	request_arm_locked(request, request->leg, LEG_WRITE, 0, request->block + first,
			   request->run * request->unit_blocks, request->spare, (size_t)first * MIRROR_BLOCK);
}

/* The next run of bad units on the present leg, from `unit` on. False: none. */
static bool next_run(struct request *request)
{
	while (request->unit < request->units && !wanted(request, request->leg, request->unit))
		request->unit++;
	request->run = 0;
	while (request->unit + request->run < request->units &&
	       wanted(request, request->leg, request->unit + request->run))
		request->run++;
	return request->run;
}

static void next_leg(struct request *request)
{
	request->leg++;
	request->unit = 0;
}

/* The run that was written is good again. */
static void account_locked(struct request *request)
{
	struct mirror_leg *mine = &request->mirror->legs[request->leg];
	uint64_t block = request->block + request->unit * request->unit_blocks;
	uint32_t count = request->run * request->unit_blocks;

	mine->repaired += count;
	request->unit += request->run;
	event_post_locked(request->mirror, MIRROR_EVENT_REPAIR, LOG_LEVEL_WARN, request->leg, block, count,
			  "bad copy rewritten: leg=%d path=%s block=%" PRIu64 " count=%u", request->leg,
			  leg_path(mine->leg), block, count);
}

static void go_on(struct request *request)
{
	struct mirror *mirror = request->mirror;

	mutex_lock(&mirror->lock);
	for (; request->leg < MIRROR_LEGS; next_leg(request)) {
		int leg = request->leg;

		if (mirror->failed || mirror->legs[leg].state != MIRROR_INSYNC ||
		    request->tries[leg].state != TRY_IDLE || !next_run(request))
			continue;
		request->tries[leg].count = 0;
		arm_locked(request);
		mutex_unlock(&mirror->lock);
		request_launch(request, 1u << leg);
		return;
	}
	mutex_unlock(&mirror->lock);
	request_retire(request);
}

void repair_start(struct request *request)
{
	request->repairing = true;
	request->expired = false;
	request->leg = 0;
	request->unit = 0;
	go_on(request);
}

void repair_step(struct request *request)
{
	struct mirror *mirror = request->mirror;
	int leg = request->leg;
	struct try *try = &request->tries[leg];
	bool again = false;

	mutex_lock(&mirror->lock);
	if (try->answered && try->verdict == LEG_OK) {
		account_locked(request);
	} else {
		bool refused = try->answered && try->verdict == LEG_REQUEST;
		bool media = try->answered && try->verdict == LEG_MEDIA;

		again = (refused || media) && try->count < TRIES_A_LEG && leg_writable(mirror, leg);
		if (refused)
			mirror->request_errors++;
		else
			mirror->legs[leg].charged++;
		if (again) {
			mirror->retries++;
			arm_locked(request);
		} else {
			if (!refused)
				leg_out_locked(mirror, leg, "the repair of block %" PRIu64 " failed: %s",
					       request->block + request->unit * request->unit_blocks,
					       try->answered ? strerror(-try->io.error) : "no answer in time");
			next_leg(request);
		}
	}
	if (!again)
		request_judged_locked(try);
	mutex_unlock(&mirror->lock);
	if (again)
		request_launch(request, 1u << leg);
	else
		go_on(request);
}
