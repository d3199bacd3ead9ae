/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Labels of a running volume. Whoever changes a label in memory asks for it to be written and gets a version; the
 * keeper writes, one write at a time for each leg, the newest version there is.
 *
 * What may not be acknowledged before a label says so is held until that version is durable (I8). A label that cannot
 * be written, or hangs, takes its leg out; on the last leg in sync a failure stops the volume (I12), and one that hangs
 * leaves what waits for it to their deadlines (I6). Only a resync waits without one, until it is stopped.
 */
#include "mirror_private.h"

#include <errno.h>
#include <string.h>

uint64_t relabel_want_locked(struct mirror *mirror, int leg)
{
	cond_signal(&mirror->kick);
	return ++mirror->legs[leg].relabel.wanted;
}

bool relabel_durable_locked(const struct mirror *mirror, int leg, uint64_t version)
{
	return mirror->legs[leg].relabel.durable >= version;
}

bool relabel_flying_locked(const struct mirror *mirror)
{
	return mirror->legs[0].relabel.flying || mirror->legs[1].relabel.flying;
}

bool relabel_has_locked(const struct mirror *mirror, int leg)
{
	enum mirror_leg_state state = mirror->legs[leg].state;

	return state != MIRROR_ABSENT && state != MIRROR_OFFLINE;
}

bool relabel_settled_locked(const struct mirror *mirror)
{
	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		if (relabel_has_locked(mirror, leg) &&
		    !relabel_durable_locked(mirror, leg, mirror->legs[leg].relabel.wanted))
			return mirror->failed;
	}
	return true;
}

int relabel_wait_until_locked(struct mirror *mirror, int leg, uint64_t version, uint64_t until_ns)
{
	bool late = false;

	while (!relabel_durable_locked(mirror, leg, version)) {
		if (mirror->failed || !relabel_has_locked(mirror, leg))
			return -EIO;
		if (mirror->resync.stopping)
			return -EINTR;
		if (late)
			return -ETIMEDOUT;
		late = !cond_wait_until(&mirror->idle, &mirror->lock, until_ns);
	}
	return 0;
}

int relabel_wait_locked(struct mirror *mirror, int leg, uint64_t version)
{
	return relabel_wait_until_locked(mirror, leg, version, CLOCK_NEVER);
}

uint64_t relabel_deadline_ns(const struct mirror *mirror)
{
	return clock_now_ns() + mirror->deadline_ns;
}

/* Requests whose label is durable, or never will be. */
void relabel_release_locked(struct mirror *mirror)
{
	struct request *request, *next;

	TAILQ_FOREACH_SAFE (request, &mirror->held, queue, next) {
		bool durable = relabel_durable_locked(mirror, request->hold_leg, request->hold);

		if (!durable && !mirror->failed && relabel_has_locked(mirror, request->hold_leg))
			continue;
		request_unpark_locked(request);
		request->error = durable ? 0 : -EIO;
		request_park_locked(request, ON_ENDED);
	}
}

static void answered(struct leg_io *io)
{
	struct relabel *relabel = io->context;
	struct mirror *mirror = relabel->mirror;

	mutex_lock(&mirror->lock);
	relabel->flying = false;
	relabel->answered = true;
	relabel->error = io->error;
	cond_signal(&mirror->kick);
	cond_broadcast(&mirror->idle);
	mutex_unlock(&mirror->lock);
}

static void submit(struct mirror *mirror, int leg)
{
	struct mirror_leg *mine = &mirror->legs[leg];
	struct relabel *relabel = &mine->relabel;
	int error;

	relabel->io = (struct leg_io){.op = LEG_WRITE,
				      .flags = LEG_DSYNC,
				      .offset = le64_get(mine->label.address),
				      .length = LABEL_SIZE,
				      .data = relabel->image,
				      .done = answered,
				      .context = relabel};
	relabel->flying = true;
	relabel->begun_ns = clock_boot_ns();
	relabel->tries++;
	relabel->due_ns = mirror->running_ns + mine->timeout_ns + TICK_NS;
	keeper_wake_locked(mirror);
	error = claim_holds_locked(mirror, leg) ? 0 : -ENOLINK;
	if (!error) {
		mutex_unlock(&mirror->lock);
		error = leg_submit(mine->leg, &relabel->io);
		mutex_lock(&mirror->lock);
	}
	if (error) {
		relabel->flying = false;
		relabel->answered = true;
		relabel->error = error;
	}
}

static void give_up(struct mirror *mirror, int leg, const char *reason)
{
	struct mirror_leg *mine = &mirror->legs[leg];

	if (mine->state == MIRROR_STALE)
		state_set_locked(mirror, leg, MIRROR_OFFLINE, "its label cannot be written: %s", reason);
	else if (!leg_out_locked(mirror, leg, "its label cannot be written: %s", reason))
		volume_fail_locked(mirror,
				   "read-only by error: the label cannot be written: leg=%d path=%s reason=\"%s\"",
				   leg, leg_path(mine->leg), reason);
	cond_broadcast(&mirror->idle);
}

static bool leg_work(struct mirror *mirror, int leg)
{
	struct mirror_leg *mine = &mirror->legs[leg];
	struct relabel *relabel = &mine->relabel;

	if (relabel->answered) {
		relabel->answered = false;
		if (!relabel->error)
			relabel->durable = relabel->writing;
		else if (relabel_has_locked(mirror, leg) && relabel->tries < TRIES_A_LEG && !mirror->stopping)
			submit(mirror, leg); /* the same slot again: the other one holds the last good label */
		else if (relabel_has_locked(mirror, leg))
			give_up(mirror, leg, strerror(-relabel->error));
		cond_broadcast(&mirror->idle);
		return true;
	}
	if (mirror->failed || mirror->stopping || relabel->flying || relabel->durable == relabel->wanted ||
	    !relabel_has_locked(mirror, leg))
		return false;
	relabel->writing = relabel->wanted;
	relabel->tries = 0;
	if (label_has(&mine->label, LABEL_EPOCH_ALONE)) {
		label_count_written(&mine->label, mirror->alone);
		mirror->alone = 0;
	}
	mine->label.sequence = le64_of(le64_get(mine->label.sequence) + 1);
	label_seal(&mine->label);
	memcpy(relabel->image, &mine->label, sizeof(mine->label));
	submit(mirror, leg);
	return true;
}

bool relabel_work_locked(struct mirror *mirror)
{
	bool worked = false;

	for (int leg = 0; leg < MIRROR_LEGS; leg++)
		worked |= leg_work(mirror, leg);
	return worked;
}

void relabel_expire_locked(struct mirror *mirror, int leg)
{
	struct relabel *relabel = &mirror->legs[leg].relabel;

	if (relabel->flying && mirror->running_ns >= relabel->due_ns && relabel_has_locked(mirror, leg) &&
	    mirror->legs[!leg].state == MIRROR_INSYNC)
		give_up(mirror, leg, "no answer in time");
}
