/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The leg that another one replaces, while that one is being filled. It was in sync when the replacement began, so
 * what is unchanged since is right on it: if the survivor rots or fails meanwhile, it is a last source (read.c), and
 * gives it back to the survivor as well.
 *
 * Nothing is written to it, and no label names it any more: to a mount it is a leg that was detached, whatever is
 * interrupted. It is asked for what a reader can verify, since of what was written later it knows nothing.
 *
 * It is let go, and its lock with it, when the new leg is whole, has failed or was detached, or when the mirror closes;
 * not before it has given everything back. If its filesystem hangs then, it stays open: nobody waits for it.
 */
#include "mirror_private.h"

#include <stdio.h>

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

/* Whoever closes an image on a filesystem that hangs would wait with it, and nobody knows of that until he tries. */
bool outgoing_close(struct leg *leg)
{
	bool answers = !leg_geometry(leg)->file_ino || leg_answers(leg_path(leg));

	if (answers)
		leg_close(leg);
	else
		log_warn("leg left open, its filesystem does not answer: path=%s", leg_path(leg));
	return answers;
}

bool outgoing_tend_locked(struct mirror *mirror)
{
	struct mirror_leg *outgoing = &mirror->legs[OUTGOING];
	struct leg *leg = outgoing->leg;
	int replaced = mirror->replaced;
	char path[256];
	bool closed;

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
	mutex_unlock(&mirror->lock);
	closed = outgoing_close(leg);
	mutex_lock(&mirror->lock);
	if (closed)
		event_post_locked(mirror, MIRROR_EVENT_LEG_RELEASED, LOG_LEVEL_INFO, replaced, 0, 0,
				  "the leg that was replaced is released: leg=%d path=%s", replaced, path);
	return true;
}
