/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What may be changed of a volume in use. Some of it holds until the volume is closed; what stands in the labels is
 * durable on each leg when it is told to be so, and in both they are made to agree at the next mount.
 */
#include "mirror_private.h"

#include <errno.h>
#include <string.h>

#define DEADLINE_NS (20 * NSEC_PER_SEC)
#define TRY_NS (5 * NSEC_PER_SEC)
#define TRY_ROTATIONAL_NS (15 * NSEC_PER_SEC)

/* ---- until the volume is closed ---- */

static const char *const policies[] = {
	[MIRROR_POLICY_AUTO] = "auto",
	[MIRROR_POLICY_ROUND_ROBIN] = "round-robin",
	[MIRROR_POLICY_LEG0] = "leg0",
	[MIRROR_POLICY_LEG1] = "leg1",
};

int mirror_policy_named(const char *name)
{
	for (size_t i = 0; i < sizeof(policies) / sizeof(policies[0]); i++)
		if (!strcmp(name, policies[i]))
			return (int)i;
	return -1;
}

const char *mirror_policy_name(enum mirror_read_policy policy)
{
	return policies[policy];
}

void mirror_set_policy(struct mirror *mirror, enum mirror_read_policy policy)
{
	mutex_lock(&mirror->lock);
	mirror->options.policy = policy;
	mutex_unlock(&mirror->lock);
}

void mirror_set_write_mostly(struct mirror *mirror, unsigned int mask)
{
	mutex_lock(&mirror->lock);
	mirror->options.write_mostly = mask;
	mutex_unlock(&mirror->lock);
}

void settings_times_locked(struct mirror *mirror)
{
	uint64_t first_tries_ns = 0;

	for (int i = 0; i < PLACES; i++) {
		struct mirror_leg *mine = &mirror->legs[i];

		if (!mine->leg)
			continue;
		mine->timeout_ns = mirror->options.leg_timeout_ns;
		if (!mine->timeout_ns)
			mine->timeout_ns = leg_geometry(mine->leg)->rotational ? TRY_ROTATIONAL_NS : TRY_NS;
		first_tries_ns += mine->timeout_ns + 2 * TICK_NS;
	}
	mirror->deadline_ns = mirror->options.deadline_ns ? mirror->options.deadline_ns : DEADLINE_NS;
	if (mirror->deadline_ns < first_tries_ns)
		mirror->deadline_ns = first_tries_ns;
}

void mirror_set_leg_timeout(struct mirror *mirror, uint64_t ns)
{
	mutex_lock(&mirror->lock);
	mirror->options.leg_timeout_ns = ns;
	settings_times_locked(mirror);
	mutex_unlock(&mirror->lock);
}

void mirror_set_deadline(struct mirror *mirror, uint64_t ns)
{
	mutex_lock(&mirror->lock);
	mirror->options.deadline_ns = ns;
	settings_times_locked(mirror);
	mutex_unlock(&mirror->lock);
}

/* ---- in the labels ---- */

/* All labels get what the identity says now. One that goes out meanwhile gets it when it comes back. */
static int labels_tell_locked(struct mirror *mirror)
{
	uint64_t version[MIRROR_LEGS] = { 0 }, until_ns = relabel_deadline_ns(mirror);
	int error = 0, survivor;

	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		struct format_label *label = &mirror->legs[leg].label;

		if (!relabel_has_locked(mirror, leg))
			continue;
		memcpy(label->name, mirror->identity.label, sizeof(label->name));
		label_set(label, LABEL_DEGRADED_AUTO, mirror->identity.degraded_auto);
		version[leg] = relabel_want_locked(mirror, leg);
	}
	for (int leg = 0; leg < MIRROR_LEGS && !error; leg++) {
		error = version[leg] ? relabel_wait_until_locked(mirror, leg, version[leg], until_ns) : 0;
		if (error == -EINTR || (error == -EIO && !mirror->failed))
			error = 0;
	}
	survivor = error ? -1 : write_alone_locked(mirror);
	if (survivor >= 0)
		error = relabel_wait_until_locked(mirror, survivor, mirror->legs[survivor].relabel.wanted, until_ns);
	return error;
}

int mirror_set_label(struct mirror *mirror, const char *label)
{
	int error = -EROFS;

	if (strlen(label) >= sizeof(mirror->identity.label))
		return -EINVAL;
	mutex_lock(&mirror->lock);
	if (!mirror->options.read_only && !mirror->failed) {
		memset(mirror->identity.label, 0, sizeof(mirror->identity.label));
		memcpy(mirror->identity.label, label, strlen(label));
		error = labels_tell_locked(mirror);
	}
	mutex_unlock(&mirror->lock);
	return error;
}

/* A leg whose label cannot be written is out, and is claimed or not when it comes back. */
int mirror_set_shared(struct mirror *mirror, bool on)
{
	int error = -EROFS;

	mutex_lock(&mirror->lock);
	for (int leg = 0; leg < MIRROR_LEGS && !mirror->options.read_only && !mirror->failed; leg++) {
		struct mirror_leg *mine = &mirror->legs[leg];
		bool shared = on || (mine->leg && leg_geometry(mine->leg)->shared);

		if (!relabel_has_locked(mirror, leg) || label_shared(&mine->label) == shared)
			continue;
		label_set_claim(&mine->label, shared ? &mirror->claim : NULL);
		claim_begin_locked(mirror, leg, shared ? clock_boot_ns() : 0);
	}
	if (!mirror->options.read_only && !mirror->failed)
		error = labels_tell_locked(mirror);
	mutex_unlock(&mirror->lock);
	return error;
}

int mirror_set_degraded_auto(struct mirror *mirror, bool on)
{
	int error = -EROFS;

	mutex_lock(&mirror->lock);
	if (!mirror->options.read_only && !mirror->failed) {
		mirror->identity.degraded_auto = on;
		error = labels_tell_locked(mirror);
	}
	mutex_unlock(&mirror->lock);
	return error;
}
