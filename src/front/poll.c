/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * When a thread looks for the next request itself, on another processor than the one that requests are made on, instead
 * of sleeping until the kernel wakes it. Who makes requests one by one then waits for one change of threads instead of
 * two, and has its processor for itself.
 *
 * That takes a processor. So one thread of a mount does it at a time; only after a run of requests that came close upon
 * each other, alone, and took less than it would look for; only if a processor is free; and for a moment each time.
 * Others go first there. If one had something to do for long, or looking was of no use, it is not done again for a
 * while, which grows each time.
 *
 * All of this is by guess and has to be cheap: no lock, and no order between threads but for whose turn it is.
 */
#include "front_private.h"

#include "mirrorfs/base/clock.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#define get(field) atomic_load_explicit(&(field), memory_order_relaxed)
/* A line that all processors read is written only if something changes. */
#define set(field, value)                                                              \
	do {                                                                           \
		__typeof__(value) value_ = (value);                                    \
		if (get(field) != value_)                                              \
			atomic_store_explicit(&(field), value_, memory_order_relaxed); \
	} while (0)

/* Of requests. */
#define CALM_MOST 64
#define CALM_ENOUGH 32 /* to begin */
#define CALM_STILL 16 /* to go on */
#define CALM_SLOW 4 /* by so many it counts for less if one came late, or took long; */
#define CALM_CROWD 16 /* or was not alone */

#define CLOSE_NS (NSEC_PER_MSEC / 5) /* as long as the two processors may take to wake */
#define OVER_NS NSEC_PER_MSEC /* nobody makes requests any more */
#define ASK_NS (NSEC_PER_MSEC / 2) /* until it is asked again whether a processor is free */
#define PAUSE_LEAST_NS (20 * NSEC_PER_MSEC)
#define PAUSE_MOST_NS (1280 * NSEC_PER_MSEC)

void poll_create(struct poll *poll, const struct front_options *options)
{
	poll->most_ns = options->poll_us * (NSEC_PER_MSEC / 1000);
	poll->loadavg = open("/proc/loadavg", O_RDONLY | O_CLOEXEC);
}

void poll_destroy(struct poll *poll)
{
	if (poll->loadavg >= 0)
		close(poll->loadavg);
}

/* Threads of the machine that want to run, this one among them: what comes behind the three averages. */
static unsigned long running(const struct poll *poll)
{
	char text[64], *at = text;
	ssize_t length = poll->loadavg < 0 ? 0 : pread(poll->loadavg, text, sizeof(text) - 1, 0);

	if (length <= 0)
		return ULONG_MAX;
	text[length] = '\0';
	for (int i = 0; i < 3; i++)
		strtod(at, &at);
	return strtoul(at, NULL, 10);
}

void poll_request(struct poll *poll, uint64_t began_ns)
{
	uint64_t since_ns = get(poll->idle_since_ns);
	int calm = get(poll->calm);

	if (!poll->most_ns)
		return;
	if (began_ns > since_ns + OVER_NS) {
		set(poll->calm, 0);
		set(poll->on, false);
	} else if (began_ns > since_ns + (get(poll->on) ? poll->most_ns : CLOSE_NS)) {
		set(poll->calm, calm > CALM_SLOW ? calm - CALM_SLOW : 0);
	} else if (calm < CALM_MOST) {
		set(poll->calm, calm + 1);
	}
}

void poll_awaited(struct poll *poll, unsigned int more)
{
	if (poll->most_ns)
		atomic_fetch_add_explicit(&poll->awaited, more, memory_order_relaxed);
}

static void leave(struct poll *poll, uint64_t now_ns)
{
	uint64_t pause_ns = get(poll->pause_ns);

	if (now_ns >= get(poll->not_before_ns) + 2 * pause_ns)
		pause_ns = PAUSE_LEAST_NS;
	else if (pause_ns < PAUSE_MOST_NS)
		pause_ns *= 2;
	set(poll->pause_ns, pause_ns);
	set(poll->not_before_ns, now_ns + pause_ns);
	set(poll->calm, 0);
	set(poll->on, false);
}

static bool begins(struct poll *poll, uint64_t now_ns)
{
	if (get(poll->calm) < CALM_ENOUGH || now_ns < get(poll->not_before_ns) || now_ns < get(poll->ask_ns))
		return false;
	set(poll->ask_ns, now_ns + ASK_NS);
	return running(poll) < poll->processors;
}

bool poll_goes_on(struct poll *poll, bool disturbed, uint64_t began_ns, uint64_t now_ns)
{
	bool alone = !get(poll->awaited), on = get(poll->on);
	int calm = get(poll->calm);

	/* Where many are at it, they are not to hold each other up here. */
	if (!poll->most_ns || (!alone && !calm && !on))
		return false;
	set(poll->idle_since_ns, now_ns);
	if (!alone)
		calm -= CALM_CROWD;
	else if (now_ns > began_ns + poll->most_ns)
		calm -= CALM_SLOW;
	set(poll->calm, calm > 0 ? calm : 0);
	if (!on)
		set(poll->on, begins(poll, now_ns));
	else if (disturbed || calm < CALM_STILL)
		leave(poll, now_ns);
	return get(poll->on);
}
