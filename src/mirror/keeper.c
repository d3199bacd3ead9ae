/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The keeper: a thread that judges time, has labels written (relabel.c), claims kept up (claim.c) and names looked
 * after (look.c), and gives the answers that nobody else may give. It never waits for a leg.
 *
 * Time (I6) is the daemon's own running time: it advances by ticks, only while requests are in flight, and a tick
 * that comes much later than due (a suspended machine, a stopped process) counts as one tick. Such a tick judges
 * nothing, so that engines first reap what completed meanwhile.
 */
#include "mirror_private.h"

#include <errno.h>
#include <stdlib.h>

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
	for (int leg = 0; leg < PLACES; leg++) {
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

	for (int leg = 0; leg < PLACES; leg++) {
		TAILQ_FOREACH (try, &mirror->legs[leg].tries, entry) {
			if (try->state != TRY_BEATEN && (try->state != TRY_FLYING || try->overdue))
				continue;
			if (mirror->legs[leg].state != MIRROR_OFFLINE && mirror->running_ns < try->due_ns)
				break;
			if (try->state == TRY_BEATEN)
				read_beaten_overdue_locked(try);
			else
				request_overdue_locked(try, work);
		}
		relabel_expire_locked(mirror, leg);
	}
	TAILQ_FOREACH (request, &mirror->requests, entry) {
		if (mirror->running_ns < request->deadline_ns)
			break;
		if (!request->expired && (request->waiting || request->on == ON_HELD || request->on == ON_STARVED))
			expire_request_locked(request, work);
	}
}

/* Whoever serves it will answer nothing any more, so nobody waits for its time to be up. */
void keeper_lost_locked(struct mirror *mirror)
{
	char why[LEG_WHY_MAX];

	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		struct mirror_leg *mine = &mirror->legs[leg];

		if (mine->leg && leg_writable(mirror, leg) && leg_lost(mine->leg, why))
			leg_out_locked(mirror, leg, "%s", why);
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
	keeper_lost_locked(mirror);
	/* Late twice in a row is a busy machine, not a stopped one. */
	if (!late || mirror->late)
		expire_locked(mirror, work);
	mirror->late = late;
	if (late)
		mirror->resumed_ns = now;
	mirror->ticking = mirror->working > 0 || mirror->beaten > 0 || relabel_flying_locked(mirror);
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

/* Not after a jump of the clock, which tells nothing of the legs. */
static void hedge_reads(struct mirror *mirror)
{
	struct request *request;

	while (!mirror->late && (request = read_hedge_locked(mirror))) {
		int leg = request->leg;

		mutex_unlock(&mirror->lock);
		request_launch(request, 1u << leg);
		mutex_lock(&mirror->lock);
	}
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

static uint64_t next_ns(const struct mirror *mirror)
{
	uint64_t look_ns = look_next_locked(mirror), claim_ns = claim_next_locked(mirror);
	uint64_t next_ns = look_ns < claim_ns ? look_ns : claim_ns, tick_ns = mirror->tick_ns + TICK_NS;

	return mirror->ticking && tick_ns < next_ns ? tick_ns : next_ns;
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
			hedge_reads(mirror);
		}
		relabel_release_locked(mirror);
		if (claim_work_locked(mirror) || relabel_work_locked(mirror) || look_work_locked(mirror) ||
		    complete_refused(mirror) || answer_one(mirror) || tell_event(mirror))
			continue;
		if (mirror->stopping)
			break;
		cond_wait_until(&mirror->kick, &mirror->lock, next_ns(mirror));
	}
	mutex_unlock(&mirror->lock);
}
