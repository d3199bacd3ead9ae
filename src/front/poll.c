/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * When a thread looks for the next request itself, on another processor than the one that requests are made on, instead
 * of sleeping until the kernel wakes it. Who makes requests one by one then waits for one change of threads instead of
 * two, and has its processor for itself.
 *
 * That takes a processor. So one thread of a mount does it at a time; only after a run of requests that came close upon
 * each other, alone, and took less than it would look for; only if a processor is free; and for a moment each time.
 * Others go first there: if one had something to do for long, it is not done again for a while, which grows each time.
 *
 * All of this is by guess and has to be cheap: no lock, and no order between threads but for whose turn it is.
 */
#include "front_private.h"

#include "mirrorfs/base/clock.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

/* Of requests. */
#define CALM_MOST 64
#define CALM_ENOUGH 32 /* to begin */
#define CALM_STILL 16 /* to go on */
#define CALM_SLOW 4 /* by so many it counts for less if one came late, or took long; */
#define CALM_CROWD 16 /* or was not alone */

#define CLOSE_NS (NSEC_PER_MSEC / 5) /* as long as the two processors may take to wake */
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

/* Threads that want to run, this one among them: what comes behind the three averages. */
static unsigned long running(const struct poll *poll)
{
	char text[64], *at = text;
	ssize_t length = poll->loadavg < 0 ? 0 : pread(poll->loadavg, text, sizeof(text) - 1, 0);

	if (length <= 0)
		return 1;
	text[length] = '\0';
	for (int i = 0; i < 3; i++)
		strtod(at, &at);
	return strtoul(at, NULL, 10);
}

static void pause_for_others(struct poll *poll, uint64_t now_ns)
{
	bool again = now_ns < poll->not_before_ns + 2 * poll->pause_ns;

	if (!again)
		poll->pause_ns = PAUSE_LEAST_NS;
	else if (poll->pause_ns < PAUSE_MOST_NS)
		poll->pause_ns *= 2;
	poll->not_before_ns = now_ns + poll->pause_ns;
	poll->calm = 0;
}

void poll_request(struct poll *poll, uint64_t began_ns)
{
	uint64_t since_ns = poll->idle_since_ns;
	bool late = began_ns > since_ns + (poll->on ? poll->most_ns : CLOSE_NS);
	int calm = poll->calm;

	if (!poll->most_ns)
		return;
	if (late)
		poll->calm = calm - CALM_SLOW;
	else if (calm < CALM_MOST)
		poll->calm = calm + 1;
}

bool poll_goes_on(struct poll *poll, bool alone, bool disturbed, uint64_t began_ns, uint64_t now_ns)
{
	int calm = poll->calm;

	if (!poll->most_ns)
		return false;
	poll->idle_since_ns = now_ns;
	if (!alone)
		calm -= CALM_CROWD;
	else if (now_ns > began_ns + poll->most_ns)
		calm -= CALM_SLOW;
	if (calm < 0)
		calm = 0;
	if (calm != poll->calm)
		poll->calm = calm;
	if (disturbed)
		pause_for_others(poll, now_ns);
	if (poll->calm < (poll->on ? CALM_STILL : CALM_ENOUGH) || now_ns < poll->not_before_ns)
		return poll->on = false;
	if (!poll->on && running(poll) >= poll->processors) {
		poll->not_before_ns = now_ns + ASK_NS;
		return false;
	}
	return poll->on = true;
}
