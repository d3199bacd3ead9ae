/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The leg that another one replaces, while that one is being filled. It was in sync when the replacement began, so
 * what is unchanged since is right on it: if the survivor rots or fails meanwhile, it is a last source (read.c), and
 * gives it back to the survivor as well.
 *
 * No label names it any more: to a mount it is a leg that was detached, whatever is interrupted. It is asked for what a
 * reader can verify, since of what was written later it knows nothing.
 *
 * If machines share it, it is claimed no more. Nothing is written to it, but in the end one label: when the new leg is
 * whole, and the labels of both durably say so, the old one's is to say that it was replaced, so that nobody who looks
 * for the volume takes it for a leg.
 *
 * It is let go, and its lock with it, when the new leg is whole, has failed or was detached, or when the mirror closes;
 * not before it has given everything back. If its filesystem hangs then, it stays open: nobody waits for it.
 */
#include "mirror_private.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

void outgoing_keep_locked(struct mirror *mirror, int leg)
{
	struct mirror_leg *mine = &mirror->legs[leg], *outgoing = &mirror->legs[OUTGOING];

	outgoing->leg = mine->leg;
	outgoing->timeout_ns = mine->timeout_ns;
	outgoing->state = MIRROR_STALE;
	mirror->replaced = leg;
}

static bool is_filled(const struct mirror *mirror)
{
	enum mirror_leg_state state = mirror->legs[mirror->replaced].state;

	return state == MIRROR_STALE || state == MIRROR_RESYNC;
}

/* 0; -ETIMEDOUT: it has not given back what was asked of it; -EBUSY: machines share it, and one has it by now. */
static int mark_replaced(struct leg *leg, const struct format_claim *by)
{
	struct mirror_options options = {.shared = false};
	struct leg *legs[MIRROR_LEGS] = {leg};
	uint64_t begun_ns[MIRROR_LEGS] = {0};
	struct format_label label;
	int error = label_read(leg, &label, NULL);

	if (!error && label_shared(&label)) {
		error = claim_take(legs, by, &options, "", begun_ns, NULL);
		error = error ? error : label_read(leg, &label, NULL);
	}
	if (error)
		return error;
	label_set_replaced(&label, true);
	if (begun_ns[0] && !claim_lasts(by, begun_ns[0]))
		return -EBUSY;
	error = label_write_wait(leg, &label);
	if (begun_ns[0] && !error)
		claim_drop(leg, by, begun_ns[0]);
	return error;
}

/* Whoever closes an image on a filesystem that hangs would wait with it, and nobody knows of that until he tries. */
bool outgoing_close(struct leg *leg, bool replaced, const struct format_claim *by)
{
	bool answers = !leg_geometry(leg)->file_ino || leg_answers(leg_path(leg));
	int error = answers && replaced ? mark_replaced(leg, by) : 0;

	if (error)
		log_warn("the label of the leg that was replaced does not say so: path=%s reason=\"%s\"",
			 leg_path(leg), strerror(-error));
	answers &= error != -ETIMEDOUT;
	if (answers)
		leg_close(leg);
	else
		log_warn("leg left open, its filesystem does not answer: path=%s", leg_path(leg));
	return answers;
}

/* What a mount finds now are the two that are whole: neither label says that the other leg lacks anything. */
bool outgoing_succeeded_locked(struct mirror *mirror)
{
	uint64_t until_ns = relabel_deadline_ns(mirror);
	bool durable = true;

	for (int leg = 0; leg < MIRROR_LEGS && durable; leg++) {
		const struct mirror_leg *mine = &mirror->legs[leg];

		durable = mine->state == MIRROR_INSYNC && !label_has(&mine->label, LABEL_LACKS_OTHER) &&
			  !relabel_wait_until_locked(mirror, leg, mine->relabel.wanted, until_ns);
	}
	return durable && mirror->legs[0].state == MIRROR_INSYNC;
}

bool outgoing_tend_locked(struct mirror *mirror)
{
	struct mirror_leg *outgoing = &mirror->legs[OUTGOING];
	struct leg *leg = outgoing->leg;
	int replaced = mirror->replaced;
	char path[256];
	bool closed, succeeded;

	/* Once it was let go, nobody who then takes the place keeps it. */
	if (!leg || (outgoing->state != MIRROR_OFFLINE && is_filled(mirror)))
		return false;
	/* No reader asks it, or waits for it, from here on. */
	outgoing->state = MIRROR_OFFLINE;
	if (!leg_quiet(outgoing))
		return false;
	outgoing->leg = NULL;
	outgoing->state = MIRROR_ABSENT;
	snprintf(path, sizeof(path), "%s", leg_path(leg));
	succeeded = outgoing_succeeded_locked(mirror);
	mutex_unlock(&mirror->lock);
	closed = outgoing_close(leg, succeeded, &mirror->claim);
	mutex_lock(&mirror->lock);
	if (closed)
		event_post_locked(mirror, MIRROR_EVENT_LEG_RELEASED, LOG_LEVEL_INFO, replaced, 0, 0,
				  "the leg that was replaced is released: leg=%d path=%s", replaced, path);
	return true;
}
