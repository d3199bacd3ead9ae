/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A world (mirrorfs/base/world.h) in one thread, from one seed: threads are fibers, time is virtual, randomness is
 * drawn from the seed. The same seed and the same program give the same run, step for step.
 *
 * At each lock, unlock, wait, wake and start the world takes a step, and may go on with another fiber that can run.
 * Time passes a little with each step; when no fiber can run it jumps to the next deadline; when there is none
 * either, the run has come to a deadlock: every fiber's stack is printed and the process aborts. So it does for a
 * lock that is taken against the order of its rank, released by another fiber, or destroyed while in use.
 *
 * The thread that calls sim_world_install() is the main fiber.
 */
#ifndef SIM_WORLD_H
#define SIM_WORLD_H

#include <stdbool.h>
#include <stdint.h>

struct sim_world_options {
	uint64_t seed;
	bool orderly; /* the main fiber is next whenever it can run */
	uint64_t steps_max; /* more steps than this are taken for a livelock; 0: no limit */
	/* Called before the process aborts, with the format of the message, to tell what led there; may be NULL. */
	void (*failed)(const char *format);
};
void sim_world_install(const struct sim_world_options *options);

/*
 * The machine dies: every fiber but the main one, which calls this, is dropped where it stands and never runs again.
 * Its memory leaks, its stack included: what it asked of a simulated disk may lie there. A mutex that it held can be
 * taken; every other object it used must not be touched again, a simulated disk's excepted.
 */
void sim_world_crash(void);

/* Fibers started and neither joined nor dropped. */
unsigned int sim_world_fibers(void);

/* Waits until the world has taken so many more steps, or until no other fiber will ever run without this one. */
void sim_wait_steps(uint64_t steps);
void sim_sleep(uint64_t ns);
void sim_yield(void);

uint64_t sim_steps(void);
const char *sim_fiber_name(void);

/* A hash over every step and every value handed in so far: two runs that differ anywhere differ here. */
uint64_t sim_trace_hash(void);
void sim_trace(uint64_t value);

/* Prints the stack of every fiber to standard error. */
void sim_print_stacks(void);
/* Prints a line, calls options.failed, prints the stacks, aborts. */
void sim_fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
/* For a handler of SIGABRT: tells the same of an assertion that failed, unless sim_fail() itself aborts. */
void sim_aborted(void);

#endif
