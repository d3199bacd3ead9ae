/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The keeper: a thread that judges time, writes the survivor's label, and gives the answers that nobody else may
 * give. It never waits for a leg.
 *
 * Time (I6) is the daemon's own running time: it advances by ticks, only while requests are in flight, and a tick
 * that comes much later than due (a suspended machine, a stopped process) counts as one tick. Such a tick judges
 * nothing, so that engines first reap what completed meanwhile.
 *
 * The label (I8): whoever takes a leg out raises label.wanted; requests acknowledged without that leg are held until
 * label.durable has caught up. A label that cannot be written fails the volume (I12).
 */
#include "mirror_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LATE_TICKS 4u

void keeper_wake_locked(struct mirror *mirror)
{
	if (mirror->ticking)
		return;
	mirror->ticking = true;
	mirror->tick_ns = clock_now_ns();
	cond_signal(&mirror->kick);
}

static void expire_request_locked(struct request *request, struct request_list *work)
{
	request->expired = true;
	request->mirror->deadline_missed++;
	if (request->on == ON_HELD || request->on == ON_STARVED) {
		request_unpark_locked(request);
		request->error = -ETIMEDOUT;
		request_park_locked(request, ON_ENDED);
		return;
	}
	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		struct try *try = &request->tries[leg];

		if (try->state == TRY_FLYING && !try->overdue)
			request_overdue_locked(try, work);
	}
}

/* A leg that is out is not waited for: what it still has is overdue now. */
static void expire_locked(struct mirror *mirror, struct request_list *work)
{
	struct request *request;
	struct try *try;

	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		TAILQ_FOREACH (try, &mirror->legs[leg].tries, entry) {
			if (try->state != TRY_FLYING || try->overdue)
				continue;
			if (leg_writable(mirror, leg) && mirror->running_ns < try->due_ns)
				break;
			request_overdue_locked(try, work);
		}
	}
	TAILQ_FOREACH (request, &mirror->requests, entry) {
		if (mirror->running_ns < request->deadline_ns)
			break;
		if (!request->expired && (request->waiting || request->on == ON_HELD || request->on == ON_STARVED))
			expire_request_locked(request, work);
	}
}

/* Advances the clock. True: a tick has passed. */
static bool tick_locked(struct mirror *mirror, struct request_list *work)
{
	uint64_t now = clock_now_ns();
	uint64_t elapsed = now - mirror->tick_ns;
	bool late = elapsed > LATE_TICKS * TICK_NS;

	if (!mirror->ticking || elapsed < TICK_NS)
		return false;
	mirror->tick_ns = now;
	mirror->running_ns += late ? TICK_NS : elapsed;
	/* Late twice in a row is a busy machine, not a stopped one. */
	if (!late || mirror->late)
		expire_locked(mirror, work);
	mirror->late = late;
	mirror->ticking = mirror->working > 0;
	return true;
}

static void step_all(struct mirror *mirror, struct request_list *work)
{
	struct request *request;

	mutex_unlock(&mirror->lock);
	while ((request = TAILQ_FIRST(work))) {
		TAILQ_REMOVE(work, request, queue);
		request_step(request);
	}
	mutex_lock(&mirror->lock);
}

static void feed_starved(struct mirror *mirror)
{
	struct request_list hungry = TAILQ_HEAD_INITIALIZER(hungry);
	struct request *request;

	while ((request = TAILQ_FIRST(&mirror->starved))) {
		request_unpark_locked(request);
		TAILQ_INSERT_TAIL(&hungry, request, queue);
	}
	mutex_unlock(&mirror->lock);
	while ((request = TAILQ_FIRST(&hungry))) {
		TAILQ_REMOVE(&hungry, request, queue);
		read_resume(request);
	}
	mutex_lock(&mirror->lock);
}

/* Held requests whose label is durable, or never will be. */
static void release_held_locked(struct mirror *mirror)
{
	struct request *request, *next;

	TAILQ_FOREACH_SAFE (request, &mirror->held, queue, next) {
		if (request->hold > mirror->label.durable && !mirror->failed)
			continue;
		request_unpark_locked(request);
		request->error = request->hold > mirror->label.durable ? -EIO : 0;
		request_park_locked(request, ON_ENDED);
	}
}

static void label_done(struct leg_io *io)
{
	struct mirror *mirror = io->context;

	mutex_lock(&mirror->lock);
	mirror->label.flying = false;
	mirror->label.answered = true;
	mirror->label.error = io->error;
	cond_signal(&mirror->kick);
	cond_broadcast(&mirror->idle);
	mutex_unlock(&mirror->lock);
}

static void label_submit(struct mirror *mirror)
{
	struct label_writer *writer = &mirror->label;
	struct format_label *label = &mirror->legs[writer->leg].label;
	int error;

	writer->io = (struct leg_io){.op = LEG_WRITE,
				     .flags = LEG_DSYNC,
				     .offset = le64_get(label->address),
				     .length = LABEL_SIZE,
				     .data = writer->image,
				     .done = label_done,
				     .context = mirror};
	writer->flying = true;
	writer->tries++;
	mutex_unlock(&mirror->lock);
	error = leg_submit(mirror->legs[writer->leg].leg, &writer->io);
	mutex_lock(&mirror->lock);
	if (error) {
		writer->flying = false;
		writer->answered = true;
		writer->error = error;
	}
}

/* True: something was done. */
static bool label_work(struct mirror *mirror)
{
	struct label_writer *writer = &mirror->label;
	struct format_label *label;

	if (writer->answered) {
		writer->answered = false;
		if (!writer->error)
			writer->durable = writer->writing;
		else if (writer->tries < TRIES_A_LEG)
			label_submit(mirror); /* the same slot again: the other one holds the last good label */
		else
			volume_fail_locked(
				mirror, "read-only by error: the label cannot be written: leg=%d path=%s reason=\"%s\"",
				writer->leg, leg_path(mirror->legs[writer->leg].leg), strerror(-writer->error));
		return true;
	}
	if (mirror->failed || writer->flying || writer->durable == writer->wanted)
		return false;
	writer->leg = survivor_locked(mirror);
	writer->writing = writer->wanted;
	writer->tries = 0;
	label = &mirror->legs[writer->leg].label;
	label->sequence = le64_of(le64_get(label->sequence) + 1);
	label_seal(label);
	memcpy(writer->image, label, sizeof(*label));
	label_submit(mirror);
	return true;
}

static bool answer_one(struct mirror *mirror)
{
	struct request *request = TAILQ_FIRST(&mirror->ended);

	if (!request)
		return false;
	request_unpark_locked(request);
	mutex_unlock(&mirror->lock);
	request_end(request, request->error);
	mutex_lock(&mirror->lock);
	return true;
}

static bool complete_refused(struct mirror *mirror)
{
	struct try *try = TAILQ_FIRST(&mirror->refused);

	if (!try)
		return false;
	TAILQ_REMOVE(&mirror->refused, try, refused);
	mutex_unlock(&mirror->lock);
	request_try_done(&try->io);
	mutex_lock(&mirror->lock);
	return true;
}

static bool tell_event(struct mirror *mirror)
{
	struct event *event = TAILQ_FIRST(&mirror->events);

	if (!event)
		return false;
	TAILQ_REMOVE(&mirror->events, event, entry);
	mirror->event_count--;
	mutex_unlock(&mirror->lock);
	log_line(event->level, "%s", event->text);
	if (mirror->options.event)
		mirror->options.event(mirror->options.event_context, &event->event);
	free(event);
	mutex_lock(&mirror->lock);
	return true;
}

void keeper_run(void *arg)
{
	struct mirror *mirror = arg;

	mutex_lock(&mirror->lock);
	for (;;) {
		struct request_list work = TAILQ_HEAD_INITIALIZER(work);

		if (tick_locked(mirror, &work)) {
			step_all(mirror, &work);
			feed_starved(mirror);
		}
		release_held_locked(mirror);
		if (label_work(mirror) || complete_refused(mirror) || answer_one(mirror) || tell_event(mirror))
			continue;
		if (mirror->stopping)
			break;
		if (mirror->ticking)
			cond_wait_until(&mirror->kick, &mirror->lock, mirror->tick_ns + TICK_NS);
		else
			cond_wait(&mirror->kick, &mirror->lock);
	}
	mutex_unlock(&mirror->lock);
}
