/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whether the images are still where they were. An image that was deleted while it is open serves on as if nothing had
 * happened, and is gone for good with the last request: so people are told while it is there. The leg is leaving: it
 * is written and read as before, since what it holds may be needed yet, but the volume counts as degraded until it is
 * replaced, or its path leads to it again.
 *
 * Of a leg that is served elsewhere it is asked instead whether its server is gone, which nobody would notice who has
 * nothing to read or to write.
 *
 * The keeper has the leg look, and does not wait: a path may lie where nobody answers any more. Then it is not known,
 * and nothing changes.
 */
#include "mirror_private.h"

#include <errno.h>

uint64_t look_period_ns = 10 * NSEC_PER_SEC;

void look_begin_locked(struct mirror *mirror, int leg)
{
	struct mirror_leg *mine = &mirror->legs[leg];

	const struct leg_geometry *geometry = leg_geometry(mine->leg);
	bool looked_after = geometry->file_ino || geometry->elsewhere;

	mine->leaving = mine->look.answered = false;
	mine->look.due_ns = looked_after ? clock_now_ns() + look_period_ns : CLOCK_NEVER;
	cond_signal(&mirror->kick);
}

static bool looked_after(const struct mirror_leg *mine)
{
	return mine->leg && mine->state != MIRROR_OFFLINE && mine->look.due_ns != CLOCK_NEVER;
}

uint64_t look_next_locked(const struct mirror *mirror)
{
	uint64_t next = CLOCK_NEVER;

	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		const struct mirror_leg *mine = &mirror->legs[leg];

		if (looked_after(mine) && !mine->look.flying && mine->look.due_ns < next)
			next = mine->look.due_ns;
	}
	return next;
}

static void looked(struct leg_io *io)
{
	struct look *look = io->context;
	struct mirror *mirror = look->mirror;

	mutex_lock(&mirror->lock);
	look->flying = false;
	look->answered = true;
	look->error = io->error;
	cond_signal(&mirror->kick);
	cond_broadcast(&mirror->idle);
	mutex_unlock(&mirror->lock);
}

static void submit(struct mirror *mirror, int leg)
{
	struct mirror_leg *mine = &mirror->legs[leg];
	struct look *look = &mine->look;

	if (leg_geometry(mine->leg)->elsewhere) {
		look->due_ns = clock_now_ns() + look_period_ns;
		keeper_lost_locked(mirror);
		return;
	}
	look->mirror = mirror;
	look->io = (struct leg_io){.op = LEG_LOOK, .done = looked, .context = look};
	look->due_ns = clock_now_ns() + look_period_ns;
	look->flying = true;
	mutex_unlock(&mirror->lock);
	if (leg_submit(mine->leg, &look->io)) {
		mutex_lock(&mirror->lock);
		look->flying = false;
		return;
	}
	mutex_lock(&mirror->lock);
}

static void judge_locked(struct mirror *mirror, int leg)
{
	struct mirror_leg *mine = &mirror->legs[leg];
	bool gone = mine->look.error == -ENOENT, moved = mine->look.error == -ESTALE;

	if (!looked_after(mine) || mine->leaving == (gone || moved) || (mine->look.error && !gone && !moved))
		return;
	mine->leaving = gone || moved;
	if (mine->leaving)
		event_post_locked(mirror, MIRROR_EVENT_LEG_NAME, LOG_LEVEL_WARN, leg, 0, 0,
				  "leg %d is leaving, its file was %s: leg=%d path=%s way_out=\"mirrorctl replace\"",
				  leg, gone ? "deleted, and ends with this mount" : "moved or covered", leg,
				  leg_path(mine->leg));
	else
		event_post_locked(mirror, MIRROR_EVENT_LEG_NAME, LOG_LEVEL_INFO, leg, 0, 0,
				  "leg %d stays, its file is found again: leg=%d path=%s", leg, leg,
				  leg_path(mine->leg));
}

bool look_work_locked(struct mirror *mirror)
{
	bool worked = false;

	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		struct mirror_leg *mine = &mirror->legs[leg];

		if (mine->look.answered) {
			mine->look.answered = false;
			judge_locked(mirror, leg);
			worked = true;
		}
		if (looked_after(mine) && !mine->look.flying && clock_now_ns() >= mine->look.due_ns) {
			submit(mirror, leg);
			worked = true;
		}
	}
	return worked;
}
