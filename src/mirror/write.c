/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writes, flushes and discards: to every leg that is in sync or being filled, at once.
 *
 * The rule that keeps legs from differing silently: a leg is taken out by a write only when an in-sync leg has it,
 * and then the write is answered only after the survivor's label durably says so (I8). Where no leg has it, the
 * error goes up and no leg is degraded; if the cause is a disk, the volume turns read-only (I12). Nor is one degraded
 * for want of room on a filesystem that holds both: that error goes up, too, though one has it. A request error of
 * one leg alone is retried once and then takes it out as well, not as faulty but as lacking the write (I7).
 */
#include "mirror_private.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

static const char *op_name(enum mirror_op op)
{
	return op == MIRROR_FLUSH ? "flush" : op == MIRROR_DISCARD ? "discard" : "write";
}

static void arm_locked(struct request *request, int leg)
{
	unsigned int flags = request->flags & MIRROR_DSYNC ? LEG_DSYNC : 0;

	request->tries[leg].count++;
	if (request->op == MIRROR_FLUSH)
		request_arm_locked(request, leg, LEG_FLUSH, 0, 0, 0, NULL, 0);
	else if (request->op == MIRROR_DISCARD)
		request_arm_locked(request, leg, LEG_DISCARD, 0, request->block, request->count, NULL, 0);
	else
		request_arm_locked(request, leg, LEG_WRITE, flags, request->block, request->count, request->buf,
				   request->offset);
}

int write_first_locked(struct request *request, unsigned int *mask)
{
	struct mirror *mirror = request->mirror;

	if (mirror->failed || mirror->options.read_only)
		return -EROFS;
	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		if (!leg_writable(mirror, leg) || (request->only >= 0 && request->only != leg))
			continue;
		if (request->op == MIRROR_DISCARD && !leg_geometry(mirror->legs[leg].leg)->discard)
			continue;
		arm_locked(request, leg);
		*mask |= 1u << leg;
	}
	request->targets = *mask;
	return request->only >= 0 && !*mask ? -EIO : 0;
}

static bool has_it(const struct request *request, int leg)
{
	return request->targets & 1u << leg && request->tries[leg].answered && request->tries[leg].verdict == LEG_OK;
}

/* Legs to try once more, armed. The tries just answered are those of the last launch: a second one is final. */
static unsigned int retry_locked(struct request *request)
{
	struct mirror *mirror = request->mirror;
	unsigned int again = 0;

	if (request->expired || request->only >= 0)
		return 0;
	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		struct try *try = &request->tries[leg];
		bool media = try->verdict == LEG_MEDIA && request->op == MIRROR_WRITE;
		bool alone = try->verdict == LEG_REQUEST && has_it(request, !leg);

		if (!(request->targets & 1u << leg) || !try->answered || !leg_writable(mirror, leg))
			continue;
		if (try->count >= TRIES_A_LEG || !(media || alone))
			continue;
		again |= 1u << leg;
	}
	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		if (!(again & 1u << leg))
			continue;
		if (request->tries[leg].verdict == LEG_REQUEST)
			mirror->request_errors++;
		else
			mirror->legs[leg].charged++;
		mirror->retries++;
		arm_locked(request, leg);
	}
	return again;
}

static const char *reason(const struct try *try)
{
	return try_timed_out(try) ? "no answer in time" : strerror(-try->io.error);
}

/* No in-sync leg has it: the error that goes up. Nobody is degraded. */
static int nobody_has_it_locked(struct request *request)
{
	struct mirror *mirror = request->mirror;
	int error = -ETIMEDOUT;

	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		struct try *try = &request->tries[leg];

		if (!(request->targets & 1u << leg) || !try->answered || try->verdict == LEG_OK)
			continue;
		if (try->verdict == LEG_REQUEST) {
			mirror->request_errors++;
			if (error == -ETIMEDOUT)
				error = try->io.error;
		} else if (try->verdict == LEG_SPACE) {
			if (error != -EIO)
				error = -ENOSPC;
		} else {
			mirror->legs[leg].charged++;
			error = -EIO;
			if (request->only < 0)
				volume_fail_locked(
					mirror,
					"read-only by error: no leg in sync has a %s: leg=%d path=%s block=%" PRIu64
					" count=%u reason=\"%s\"",
					op_name(request->op), leg, leg_path(mirror->legs[leg].leg), request->block,
					request->count, reason(try));
		}
	}
	return error;
}

/* An abandoned write may land at any time: as long as its leg counts, nobody may reuse its range. */
static void pin_late_locked(struct request *request)
{
	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		struct try *try = &request->tries[leg];

		if (try->state == TRY_ABANDONED && leg_writable(request->mirror, leg) && request->op != MIRROR_FLUSH)
			try->pin = mirror_pin(request->mirror);
	}
}

static void judged_locked(struct request *request)
{
	for (int leg = 0; leg < MIRROR_LEGS; leg++)
		request_judged_locked(&request->tries[leg]);
}

/* Two images on one filesystem: which of them still found room there is chance, and no fault of the other (I7). */
static bool share_room(const struct mirror *mirror)
{
	const struct leg_geometry *first = leg_geometry(mirror->legs[0].leg);
	const struct leg_geometry *second = leg_geometry(mirror->legs[1].leg);

	return first->file_ino && second->file_ino && first->file_dev == second->file_dev;
}

static int judge_locked(struct request *request)
{
	struct mirror *mirror = request->mirror;
	int holder = -1;

	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		if (has_it(request, leg) && (mirror->legs[leg].state == MIRROR_INSYNC || request->only >= 0))
			holder = leg;
	}
	if (holder < 0)
		return nobody_has_it_locked(request);
	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		struct try *try = &request->tries[leg];

		/* What is out already lacks this like everything else: no more is held against it. */
		if (!(request->targets & 1u << leg) || has_it(request, leg) || !leg_writable(mirror, leg))
			continue;
		if (try->answered && try->verdict == LEG_SPACE && share_room(mirror) &&
		    mirror->legs[leg].state == MIRROR_INSYNC)
			return -ENOSPC;
		if (try->answered && try->verdict == LEG_REQUEST)
			mirror->request_errors++;
		else
			mirror->legs[leg].charged++;
		leg_out_locked(mirror, leg, "a %s at block %" PRIu64 " failed: %s", op_name(request->op),
			       request->block, reason(try));
	}
	return 0;
}

int write_alone_locked(struct mirror *mirror)
{
	int survivor = survivor_locked(mirror);
	struct format_label *label;

	if (survivor < 0)
		return -1;
	label = &mirror->legs[survivor].label;
	/* One that is being filled cannot be mounted alone, so it has no history to tell from this one. */
	if (!label_has(label, LABEL_EPOCH_ALONE) && mirror->legs[!survivor].state != MIRROR_RESYNC) {
		label_begin_epoch(label, true, mirror->generation);
		relabel_want_locked(mirror, survivor);
	}
	return survivor;
}

/* True: acknowledged without the other leg, so the survivor's label has to say so first (I8, I11). */
static bool hold_locked(struct request *request)
{
	struct mirror *mirror = request->mirror;
	int survivor = request->only < 0 ? write_alone_locked(mirror) : -1;

	if (survivor < 0)
		return false;
	mirror->alone += request->op == MIRROR_WRITE ? request->count : 0;
	if (relabel_durable_locked(mirror, survivor, mirror->legs[survivor].relabel.wanted))
		return false;
	request->hold_leg = survivor;
	request->hold = mirror->legs[survivor].relabel.wanted;
	request_park_locked(request, ON_HELD);
	return true;
}

void write_step(struct request *request)
{
	struct mirror *mirror = request->mirror;
	unsigned int again;
	bool held = false;
	int error = 0;

	mutex_lock(&mirror->lock);
	again = retry_locked(request);
	if (!again) {
		error = judge_locked(request);
		if (request->op == MIRROR_WRITE) {
			pace_write_locked(mirror, request);
			if (!error)
				lost_drop_locked(mirror, request->block, request->count);
		}
		pin_late_locked(request);
		judged_locked(request);
		held = !error && hold_locked(request);
	}
	mutex_unlock(&mirror->lock);
	if (again)
		request_launch(request, again);
	else if (!held)
		request_end(request, error);
}

/* A discard is advice: a leg that fails it lacks nothing, so nobody is charged. */
void discard_step(struct request *request)
{
	struct mirror *mirror = request->mirror;
	int error = 0;

	mutex_lock(&mirror->lock);
	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		struct try *try = &request->tries[leg];

		if (!(request->targets & 1u << leg) || has_it(request, leg))
			continue;
		error = try->answered ? -EIO : -ETIMEDOUT;
		if (try->answered && try->verdict == LEG_REQUEST)
			mirror->request_errors++;
	}
	pin_late_locked(request);
	judged_locked(request);
	mutex_unlock(&mirror->lock);
	request_end(request, error);
}
