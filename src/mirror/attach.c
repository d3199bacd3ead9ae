/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Legs that leave and join a volume in use.
 *
 * A leg that is detached has failed, to the labels: the survivor's says durably what it lacks before it is let go. It
 * is closed when it has given everything back (I6), so it may be attached again like one that was away.
 *
 * A leg that joins is stale until a resync has filled it. A new one, or one whose own history is given up, gets labels
 * that say so before the survivor's names it: whatever is interrupted, the survivor is whole, and the other one is not
 * mountable alone (I11). One that takes another's place gets them while that one is still in sync, which then stays
 * open as a last source (outgoing.c).
 */
#include "mirror_private.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* What joins, as its label has it. */
struct newcomer {
	struct leg *leg;
	struct format_label label;
	bool labelled; /* with a label that we understand */
	uint64_t begun_ns; /* claimed then; 0: machines do not share it */
	bool ours; /* it was a leg of this volume, and has nothing that the survivor does not know of */
};

static int usable_locked(const struct mirror *mirror, int survivor, struct error *error)
{
	if (mirror->options.read_only || mirror->failed)
		return error_set(error, -EROFS, "the volume is read-only");
	if (mirror->legs[survivor].state != MIRROR_INSYNC)
		return error_set(error, -EBUSY, "leg %d, the other one, is not whole: it is %s", survivor,
				 mirror_leg_state_name(mirror->legs[survivor].state));
	return 0;
}

/* ---- leaving ---- */

static int may_leave_locked(const struct mirror *mirror, int leg, struct error *error)
{
	int code = usable_locked(mirror, !leg, error);

	if (code)
		return code;
	if (!mirror->legs[leg].leg)
		return error_set(error, -ENOENT, "leg %d is not there", leg);
	if (mirror->legs[!leg].leaving)
		return error_set(error, -EBUSY,
				 "the file of leg %d, the other one, was deleted or moved: replace that first", !leg);
	return 0;
}

/* Its label says all that it is to say: 0. If it hangs, whoever waits for this has his deadline, as the closing has. */
static int survivor_tell_locked(struct mirror *mirror, int survivor)
{
	return relabel_wait_until_locked(mirror, survivor, mirror->legs[survivor].relabel.wanted,
					 relabel_deadline_ns(mirror));
}

/* If machines share it: when its claim was renewed last. 0: it has none that could be given back. */
static uint64_t renewed_locked(const struct mirror *mirror, int leg)
{
	const struct mirror_leg *mine = &mirror->legs[leg];

	return mine->claim.on && relabel_has_locked(mirror, leg) ? mine->claim.renewed_ns : 0;
}

/* It has failed, as far as anybody else is concerned. 0: and has given everything back. Drops the lock meanwhile. */
static int leave_locked(struct mirror *mirror, int leg, bool give_up, const char *why, struct error *error)
{
	struct mirror_leg *mine = &mirror->legs[leg];
	uint64_t until_ns, renewed_ns = renewed_locked(mirror, leg);
	int code;

	resync_cancel_locked(mirror);
	if (mine->state == MIRROR_STALE)
		state_set_locked(mirror, leg, MIRROR_OFFLINE, "%s", why);
	else
		leg_out_locked(mirror, leg, "%s", why);
	code = survivor_tell_locked(mirror, !leg);
	if (code)
		return error_set(error, code, "leg %d is out, but the label of the other leg cannot be written%s", leg,
				 code == -ETIMEDOUT ? " in time" : "");
	code = give_up ? leg_give_up(mine->leg) : 0;
	if (code == -EOPNOTSUPP && !leg_quiet(mine))
		return error_set(error, code,
				 "leg %d is out, but the kernel has requests of it, which nobody can give up", leg);
	until_ns = clock_now_ns() + mine->timeout_ns + 2 * TICK_NS;
	while (!leg_quiet(mine)) {
		if (!cond_wait_until(&mirror->idle, &mirror->lock, until_ns) && !leg_quiet(mine))
			return error_set(error, -EBUSY,
					 "leg %d is out, but has not given back %" PRIu64
					 " requests: it stays open until it has%s",
					 leg, mine->abandoned,
					 leg_geometry(mine->leg)->elsewhere ?
						 ", or until its server was stopped and you say so (mirrorctl detach "
						 "--force)" :
						 "");
	}
	if (renewed_ns) {
		mutex_unlock(&mirror->lock);
		claim_drop(mine->leg, &mirror->claim, renewed_ns);
		mutex_lock(&mirror->lock);
	}
	return 0;
}

/* Its place is free. */
static void depart_locked(struct mirror *mirror, int leg, const char *why)
{
	struct mirror_leg *mine = &mirror->legs[leg];
	struct leg *gone = mine->leg;

	mine->leg = NULL;
	mine->leaving = false;
	claim_begin_locked(mirror, leg, 0);
	state_set_locked(mirror, leg, MIRROR_ABSENT, "%s; it was %.200s", why, leg_path(gone));
}

int mirror_detach(struct mirror *mirror, int leg, bool give_up, struct error *error)
{
	struct leg *gone = NULL;
	int code;

	mutex_lock(&mirror->lock);
	code = may_leave_locked(mirror, leg, error);
	if (!code)
		code = leave_locked(mirror, leg, give_up, "detached", error);
	if (!code) {
		gone = mirror->legs[leg].leg;
		depart_locked(mirror, leg, "detached");
	}
	outgoing_tend_locked(mirror);
	mutex_unlock(&mirror->lock);
	leg_close(gone);
	return code;
}

/* ---- joining ---- */

/* The place that is free. */
static int place_locked(const struct mirror *mirror)
{
	if (mirror->identity.leg_count < MIRROR_LEGS)
		return 1;
	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		if (mirror->legs[leg].state == MIRROR_ABSENT && !mirror->legs[leg].leg)
			return leg;
	}
	return -1;
}

static int fits(const struct mirror *mirror, const struct leg *leg, struct error *error)
{
	uint64_t needed = MIRROR_SPACE_OFFSET + mirror->space_blocks * MIRROR_BLOCK;
	uint64_t size = leg_geometry(leg)->size_bytes;

	if (size >= needed)
		return 0;
	return error_set(error, -ENOSPC, "%s is too small: it has %" PRIu64 " bytes, a leg of this volume %" PRIu64,
			 leg_path(leg), size, needed);
}

/* What it has must be known to the survivor, or nobody minds that it is lost. */
static int judge_locked(const struct mirror *mirror, int leg, struct newcomer *new, bool force, struct error *error)
{
	const struct format_label *from = &mirror->legs[!leg].label;
	const char *path = leg_path(new->leg);
	bool same = new->labelled && !memcmp(new->label.volume, from->volume, sizeof(from->volume));
	bool given_up = label_has(&new->label, LABEL_RESYNCING | LABEL_SUPERSEDED);
	bool known = same && (given_up || label_knows(from, &new->label));
	int code = fits(mirror, new->leg, error);

	if (code)
		return code;
	new->ours = known && le32_get(new->label.index) == (uint32_t)leg &&
		    !memcmp(new->label.leg[leg], from->leg[leg], sizeof(from->leg[leg]));
	if (new->ours || force || !new->labelled || known)
		return 0;
	if (same)
		return error_set(error, -ESTALE,
				 "%s was written alone, and what it alone has would be lost; attach --force gives "
				 "it up",
				 path);
	return error_set(error, -EXDEV,
			 "%s is a leg of another volume, which would be lost; attach --force gives it up", path);
}

/* Where those that are there were said to be shared, what joins them is, too. */
static bool is_shared(struct mirror *mirror)
{
	bool shared = false;

	mutex_lock(&mirror->lock);
	for (int i = 0; i < MIRROR_LEGS; i++) {
		const struct mirror_leg *mine = &mirror->legs[i];

		shared |= mine->leg && label_shared(&mine->label) && !leg_geometry(mine->leg)->shared;
	}
	mutex_unlock(&mirror->lock);
	return shared;
}

/* Reads its label, if it has one, and claims it if machines share it: no other mount may have it. May wait. */
static int newcomer_claim(struct mirror *mirror, struct newcomer *new, bool force, struct error *error)
{
	struct mirror_options options = {.host = mirror->options.host, .shared = is_shared(mirror), .takeover = force};
	struct leg *legs[MIRROR_LEGS] = {new->leg};
	uint64_t begun_ns[MIRROR_LEGS] = {0};
	int code = 0;

	new->labelled = !label_read(new->leg, &new->label, NULL);
	if (new->labelled)
		code = claim_take(legs, &mirror->claim, &options, "--force", begun_ns, error);
	else if (options.shared || leg_geometry(new->leg)->shared)
		begun_ns[0] = clock_boot_ns();
	new->begun_ns = begun_ns[0];
	if (!code && new->labelled && new->begun_ns)
		code = label_read(new->leg, &new->label, error);
	return code;
}

/* It does not join after all. */
static void newcomer_release(struct mirror *mirror, const struct newcomer *new)
{
	if (new->begun_ns)
		claim_drop(new->leg, &mirror->claim, new->begun_ns);
}

/* Labels of one that is filled as a whole. Both slots, so that no older label stays behind. May wait. */
static int label_blank(struct mirror *mirror, struct newcomer *new, const struct format_label *from, int leg,
		       struct error *error)
{
	struct format_label *label = &new->label;
	uint64_t sequence = new->labelled ? le64_get(label->sequence) : 0;
	struct uuid uuid = uuid_random();
	int code = 0;

	*label = *from;
	label->sequence = le64_of(sequence);
	label->index = le32_of((uint32_t)leg);
	label->leg_count = le32_of(MIRROR_LEGS);
	label->flags = le32_of(LABEL_RESYNCING);
	label->history_count = le32_of(0);
	memset(&label->resync, 0, sizeof(label->resync));
	memcpy(label->leg[leg], uuid.bytes, sizeof(label->leg[leg]));
	label_set_claim(label, new->begun_ns ? &mirror->claim : NULL);
	label_set_path(label, leg, leg_path(new->leg));
	label_begin_epoch(label, false, 0);
	for (int slot = 0; slot < LABEL_SLOTS && !code; slot++) {
		bool ours = !new->begun_ns || claim_lasts(&mirror->claim, new->begun_ns);

		code = ours ? label_write_wait(new->leg, label) : -ETIMEDOUT;
	}
	if (code)
		error_set(error, code, "%s: its label cannot be written: %s", leg_path(new->leg), strerror(-code));
	return code;
}

static void join_locked(struct mirror *mirror, int leg, const struct newcomer *new)
{
	struct mirror_leg *mine = &mirror->legs[leg], *from = &mirror->legs[!leg];

	mine->label = new->label;
	mine->relabel.durable = mine->relabel.wanted;
	/* What the one before it answered last is nothing to this one: it would get that label, as a second try. */
	mine->relabel.answered = false;
	leg_take_locked(mirror, leg, new->leg);
	claim_begin_locked(mirror, leg, new->begun_ns);
	if (!new->ours) {
		leg_forget(mine);
		memcpy(from->label.leg[leg], new->label.leg[leg], sizeof(from->label.leg[leg]));
		from->label.leg_count = le32_of(MIRROR_LEGS);
		from->label.lacks_after = le64_of(0);
		memcpy(mirror->identity.leg[leg].bytes, new->label.leg[leg], sizeof(new->label.leg[leg]));
		mirror->identity.leg_count = MIRROR_LEGS;
	}
	label_set(&from->label, LABEL_LACKS_OTHER, true);
	label_set_path(&from->label, leg, leg_path(new->leg));
	label_set(&mine->label, LABEL_SUPERSEDED, true);
	state_set_locked(mirror, leg, MIRROR_STALE, new->ours ? "attached again" : "attached, nothing is on it yet");
	relabel_want_locked(mirror, leg);
	relabel_want_locked(mirror, !leg);
	mirror->resync.wanted = true;
	cond_broadcast(&mirror->resync.wake);
}

int mirror_attach(struct mirror *mirror, struct leg *leg, bool force, struct error *error)
{
	struct newcomer new = {.leg = leg};
	struct format_label from = {.magic = le32_of(0)};
	int place, code;

	code = newcomer_claim(mirror, &new, force, error);
	if (code)
		return code;
	mutex_lock(&mirror->lock);
	place = place_locked(mirror);
	if (place < 0)
		code = error_set(error, -EEXIST, "both legs are there: detach one first");
	else
		code = usable_locked(mirror, !place, error);
	if (!code)
		code = judge_locked(mirror, place, &new, force, error);
	if (!code)
		from = mirror->legs[!place].label;
	mutex_unlock(&mirror->lock);
	if (!code && !new.ours)
		code = label_blank(mirror, &new, &from, place, error);
	if (code) {
		newcomer_release(mirror, &new);
		return code;
	}
	mutex_lock(&mirror->lock);
	code = usable_locked(mirror, !place, error);
	if (!code && place_locked(mirror) != place)
		code = error_set(error, -EEXIST, "another leg was attached meanwhile");
	if (!code) {
		join_locked(mirror, place, &new);
		/* It names the newcomer, durably: what is written from now on may be missing there. */
		(void)survivor_tell_locked(mirror, !place);
	}
	mutex_unlock(&mirror->lock);
	if (code)
		newcomer_release(mirror, &new);
	return code;
}

int mirror_replace(struct mirror *mirror, int leg, struct leg *by, bool force, struct error *error)
{
	struct newcomer new = {.leg = by};
	struct format_label from;
	struct leg *gone = NULL;
	bool whole = false;
	int code;

	code = newcomer_claim(mirror, &new, force, error);
	if (code)
		return code;
	mutex_lock(&mirror->lock);
	code = may_leave_locked(mirror, leg, error);
	if (!code)
		code = judge_locked(mirror, leg, &new, force, error);
	from = mirror->legs[!leg].label;
	mutex_unlock(&mirror->lock);
	/* It may be a copy of the other one, and is not to be taken for that. */
	new.ours = false;
	if (!code)
		code = label_blank(mirror, &new, &from, leg, error);
	if (code) {
		newcomer_release(mirror, &new);
		return code;
	}
	mutex_lock(&mirror->lock);
	code = may_leave_locked(mirror, leg, error);
	whole = mirror->legs[leg].state == MIRROR_INSYNC;
	if (!code)
		code = leave_locked(mirror, leg, false, "replaced", error);
	outgoing_tend_locked(mirror);
	if (!code)
		code = usable_locked(mirror, !leg, error);
	if (!code && whole && !mirror->legs[OUTGOING].leg)
		outgoing_keep_locked(mirror, leg);
	else if (!code)
		gone = mirror->legs[leg].leg;
	if (!code) {
		depart_locked(mirror, leg, "replaced");
		join_locked(mirror, leg, &new);
		(void)survivor_tell_locked(mirror, !leg);
	}
	mutex_unlock(&mirror->lock);
	leg_close(gone);
	if (code)
		newcomer_release(mirror, &new);
	return code;
}

int mirror_hand_over(struct mirror *mirror, const char *path)
{
	struct leg *found = NULL;
	uint64_t timeout_ns = 0;

	mutex_lock(&mirror->lock);
	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		struct leg *open = mirror->legs[leg].leg;

		if (!open || strcmp(leg_path(open), path) != 0)
			continue;
		found = open;
		timeout_ns = mirror->legs[leg].timeout_ns;
	}
	mutex_unlock(&mirror->lock);
	return found ? leg_hand_over(found, timeout_ns) : -ENOENT;
}
