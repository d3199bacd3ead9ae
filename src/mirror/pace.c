/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How fast each leg is: how long a read of it takes as a rule, when one is late, and whether the leg is slow for good.
 *
 * What is usual is a time that hardly any read exceeds. It is found by small steps, up at a read that took longer and
 * down at one that did not, so that a single read of a minute moves it no further than one of a second. A leg is slow
 * if half of its last 64 requests took far longer than the other leg takes, and no longer slow when hardly any does:
 * a count of requests, which no clock that jumps can disturb. Requests that were under way together are one of them:
 * a moment in which nothing came back, of a busy machine perhaps, makes all of them late. What was under way while
 * the clock jumped is not measured.
 */
#include "mirror_private.h"

#define USUAL_STEP_UP 16u    /* parts */
#define USUAL_STEP_DOWN 256u /* so that one read in 17 exceeds it */
#define LATE_FACTOR 4u	     /* times the usual */
#define LATE_MIN_NS (10 * NSEC_PER_MSEC)
#define LATE_UNKNOWN_NS (200 * NSEC_PER_MSEC) /* nothing was measured yet */
#define SLOW_FACTOR 8u			      /* times what the other leg takes */
#define SLOW_MIN_NS (50 * NSEC_PER_MSEC)
#define SLOW_BEGINS 32 /* of 64 */
#define SLOW_ENDS 8

uint64_t pace_took_ns(const struct mirror *mirror, const struct leg_io *io)
{
	uint64_t now = clock_now_ns();

	if (io->submitted_ns <= mirror->resumed_ns || now - mirror->tick_ns > LATE_TICKS * TICK_NS)
		return 0;
	return now > io->submitted_ns ? now - io->submitted_ns : 1;
}

static void note_locked(struct mirror *mirror, const struct try *try, bool slow)
{
	int leg = try->leg, count;
	struct mirror_leg *mine = &mirror->legs[leg];

	if (try->io.submitted_ns < mine->noted_ns)
		return;
	mine->noted_ns = clock_now_ns();
	mine->slow_history = mine->slow_history << 1 | slow;
	count = __builtin_popcountll(mine->slow_history);
	if (mine->slow ? count > SLOW_ENDS : count < SLOW_BEGINS)
		return;
	mine->slow = !mine->slow;
	event_post_locked(mirror, MIRROR_EVENT_LEG_PACE, mine->slow ? LOG_LEVEL_WARN : LOG_LEVEL_INFO, leg, 0, 0,
			  "leg %d is %s: leg=%d path=%s usual_ms=%llu other_usual_ms=%llu", leg,
			  mine->slow ? "slow" : "no longer slow", leg, leg_path(mine->leg),
			  (unsigned long long)(mine->usual_ns / NSEC_PER_MSEC),
			  (unsigned long long)(mirror->legs[!leg].usual_ns / NSEC_PER_MSEC));
}

static bool slow(uint64_t took_ns, uint64_t other_ns)
{
	return other_ns && took_ns > SLOW_MIN_NS && took_ns / SLOW_FACTOR > other_ns;
}

void pace_read_locked(struct mirror *mirror, const struct try *try)
{
	struct mirror_leg *mine = &mirror->legs[try->leg];
	uint64_t took = try->took_ns;

	if (!took)
		return;
	if (!mine->latency_ns)
		mine->latency_ns = mine->usual_ns = took;
	else if (took > mine->latency_ns)
		mine->latency_ns += (took - mine->latency_ns) / 8;
	else
		mine->latency_ns -= (mine->latency_ns - took) / 8;
	if (took > mine->usual_ns)
		mine->usual_ns += mine->usual_ns / USUAL_STEP_UP + 1;
	else
		mine->usual_ns -= mine->usual_ns / USUAL_STEP_DOWN;
	note_locked(mirror, try, slow(took, mirror->legs[!try->leg].usual_ns));
}

/* Both legs were given the same at once: they tell of each other. */
void pace_write_locked(struct mirror *mirror, const struct request *request)
{
	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		uint64_t took = request->tries[leg].took_ns, other = request->tries[!leg].took_ns;

		if (took && other)
			note_locked(mirror, &request->tries[leg], slow(took, other));
	}
}

uint64_t pace_patience_ns(const struct mirror_leg *leg)
{
	uint64_t patience = leg->usual_ns ? LATE_FACTOR * leg->usual_ns : LATE_UNKNOWN_NS;

	if (patience < LATE_MIN_NS)
		patience = LATE_MIN_NS;
	/* Soon it is given up anyhow, and the other leg is asked then. */
	return patience < leg->timeout_ns / 2 ? patience : CLOCK_NEVER;
}
