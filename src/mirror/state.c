/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * States of the legs and of the volume, and the events that tell of their changes. At least one leg is in sync as
 * long as the mirror lives: the last one is never taken out (I12).
 */
#include "mirror_private.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define EVENTS_MAX 256 /* waiting for the keeper; above it repairs and bad ranges are no longer told one by one */

/* The one table: from the row to the column. */
static const bool legal[MIRROR_LEG_STATES][MIRROR_LEG_STATES] = {
	[MIRROR_ABSENT] = {[MIRROR_INSYNC] = true, [MIRROR_STALE] = true},
	[MIRROR_INSYNC] = {[MIRROR_OFFLINE] = true},
	[MIRROR_STALE] = {[MIRROR_RESYNC] = true, [MIRROR_OFFLINE] = true},
	[MIRROR_RESYNC] = {[MIRROR_INSYNC] = true, [MIRROR_STALE] = true, [MIRROR_OFFLINE] = true},
	[MIRROR_OFFLINE] = {[MIRROR_ABSENT] = true},
};

bool state_legal(enum mirror_leg_state from, enum mirror_leg_state to)
{
	return legal[from][to];
}

const char *mirror_leg_state_name(enum mirror_leg_state state)
{
	static const char *const names[MIRROR_LEG_STATES] = {
		[MIRROR_ABSENT] = "absent", [MIRROR_INSYNC] = "in-sync",  [MIRROR_STALE] = "stale",
		[MIRROR_RESYNC] = "resync", [MIRROR_OFFLINE] = "offline",
	};

	return names[state];
}

static struct mirror_snapshot snapshot_locked(const struct mirror *mirror)
{
	struct mirror_snapshot snapshot = {
		.leg_count = mirror->identity.leg_count,
		.failed = mirror->failed,
		.resync = resync_status_locked(mirror),
	};
	struct mirror_missing missing;
	bool some = resync_missing_locked(mirror, &missing);

	snapshot.lacking = some ? missing.leg : -1;
	snapshot.lacks_after = some ? missing.since.after : 0;
	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		const struct mirror_leg *mine = &mirror->legs[leg];

		snapshot.leg[leg].state = mine->state;
		snapshot.leg[leg].slow = mine->slow;
		snapshot.leg[leg].read_errors = mine->read_errors;
		snapshot.leg[leg].checksum_errors = mine->checksum_errors;
		snapshot.leg[leg].repaired = mine->repaired;
		snapshot.leg[leg].timeouts = mine->timeouts;
		snapshot.leg[leg].abandoned = mine->abandoned;
		snapshot.leg[leg].charged = mine->charged;
	}
	return snapshot;
}

void mirror_snapshot(struct mirror *mirror, struct mirror_snapshot *snapshot)
{
	mutex_lock(&mirror->lock);
	*snapshot = snapshot_locked(mirror);
	mutex_unlock(&mirror->lock);
}

static void event_vpost_locked(struct mirror *mirror, enum mirror_event_kind kind, enum log_level level, int leg,
			       uint64_t block, uint32_t count, const char *format, va_list args)
{
	bool minor = kind == MIRROR_EVENT_REPAIR || kind == MIRROR_EVENT_UNRECOVERABLE;
	struct event *event;

	if (minor && mirror->event_count >= EVENTS_MAX)
		return;
	event = calloc(1, sizeof(*event));
	if (!event)
		return;
	event->event = (struct mirror_event){.kind = kind, .leg = leg, .block = block, .count = count};
	event->level = level;
	vsnprintf(event->text, sizeof(event->text), format, args);
	event->event.text = event->text;
	event->event.now = snapshot_locked(mirror);
	TAILQ_INSERT_TAIL(&mirror->events, event, entry);
	mirror->event_count++;
	cond_signal(&mirror->kick);
}

void event_post_locked(struct mirror *mirror, enum mirror_event_kind kind, enum log_level level, int leg,
		       uint64_t block, uint32_t count, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	event_vpost_locked(mirror, kind, level, leg, block, count, format, args);
	va_end(args);
}

static void state_change_locked(struct mirror *mirror, int leg, enum mirror_leg_state state, const char *why)
{
	struct mirror_leg *mine = &mirror->legs[leg];
	enum mirror_leg_state from = mine->state;

	if (!state_legal(from, state)) {
		log_error("leg %d cannot change from %s to %s", leg, mirror_leg_state_name(from),
			  mirror_leg_state_name(state));
		abort();
	}
	mine->state = state;
	snprintf(mine->why, sizeof(mine->why), "%s", state == MIRROR_INSYNC ? "" : why);
	cond_broadcast(&mirror->idle);
	cond_broadcast(&mirror->resync.wake);
	event_post_locked(mirror, MIRROR_EVENT_LEG_STATE, state == MIRROR_INSYNC ? LOG_LEVEL_INFO : LOG_LEVEL_WARN, leg,
			  0, 0, "leg %d is %s: leg=%d path=%s from=%s reason=\"%s\"", leg, mirror_leg_state_name(state),
			  leg, mine->leg ? leg_path(mine->leg) : "-", mirror_leg_state_name(from), why);
}

void state_set_locked(struct mirror *mirror, int leg, enum mirror_leg_state state, const char *format, ...)
{
	char why[256];
	va_list args;

	va_start(args, format);
	vsnprintf(why, sizeof(why), format, args);
	va_end(args);
	state_change_locked(mirror, leg, state, why);
}

bool leg_out_locked(struct mirror *mirror, int leg, const char *format, ...)
{
	struct mirror_leg *survivor = &mirror->legs[!leg];
	struct try *try;
	char why[256];
	va_list args;

	if (!leg_writable(mirror, leg) || survivor->state != MIRROR_INSYNC)
		return false;
	va_start(args, format);
	vsnprintf(why, sizeof(why), format, args);
	va_end(args);
	/* What a request met with is not the whole story, if whoever served it is gone. */
	(void)leg_lost(mirror->legs[leg].leg, why);
	if (!mirror->options.read_only && !label_has(&survivor->label, LABEL_LACKS_OTHER)) {
		label_set(&survivor->label, LABEL_LACKS_OTHER, true);
		survivor->label.lacks_after = le64_of(mirror->generation);
		relabel_want_locked(mirror, !leg);
	}
	state_change_locked(mirror, leg, MIRROR_OFFLINE, why);
	/* Whatever still lands on it is no danger any more to those who reuse the range. */
	TAILQ_FOREACH (try, &mirror->legs[leg].tries, entry) {
		if (try->pin)
			mirror_pin_put(try->pin);
		try->pin = NULL;
	}
	cond_signal(&mirror->kick);
	return true;
}

void volume_fail_locked(struct mirror *mirror, const char *format, ...)
{
	va_list args;

	if (mirror->failed)
		return;
	mirror->failed = true;
	va_start(args, format);
	vsnprintf(mirror->failed_why, sizeof(mirror->failed_why), format, args);
	va_end(args);
	event_post_locked(mirror, MIRROR_EVENT_READ_ONLY, LOG_LEVEL_ERROR, -1, 0, 0, "%s", mirror->failed_why);
	cond_signal(&mirror->kick);
}

bool leg_writable(const struct mirror *mirror, int leg)
{
	return mirror->legs[leg].state == MIRROR_INSYNC || mirror->legs[leg].state == MIRROR_RESYNC;
}

int survivor_locked(const struct mirror *mirror)
{
	if (mirror->identity.leg_count < MIRROR_LEGS)
		return -1;
	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		if (mirror->legs[leg].state != MIRROR_INSYNC)
			return !leg;
	}
	return -1;
}
