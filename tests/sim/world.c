/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fibers are ucontexts on mapped stacks with a guard page below. A fiber that cannot go on names what it waits for
 * (`waits_on`) and is made runnable by whoever changes that; then it looks again, so every wait here is a loop, as
 * in a real lock with barging. The schedule has two styles, drawn by the seed: any runnable fiber with the
 * same chance, or by priorities which change rarely, which drives fibers much further apart.
 */
#include "world.h"

#include "mirrorfs/base/clock.h"
#include "mirrorfs/base/sync.h"
#include "random.h"

#include <errno.h>
#include <execinfo.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#define SIM_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SIM_ASAN 1
#endif
#endif
#ifdef SIM_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#define FIBERS_MAX 512
#define HELD_MAX 80 /* as in base/sync.c */
#define STACK_BYTES ((size_t)1 << 20)
#define GUARD_BYTES ((size_t)4096)
#define WALL_START INT64_C(1700000000)

enum fiber_state { FIBER_RUNNABLE, FIBER_WAITING, FIBER_DONE, FIBER_DROPPED };

struct fiber {
	unsigned int id;
	char name[16];
	enum fiber_state state;
	const void *waits_on; /* NULL: for time or steps alone */
	const char *waits_how;
	const void *wants_write; /* the rwlock that it is to write, until it has it */
	bool timed_out;
	uint64_t deadline_ns;
	uint64_t until_step;
	uint64_t priority;
	struct {
		const void *lock;
		int rank;
	} held[HELD_MAX];
	int held_count;
	void (*run)(void *arg);
	void *arg;
	ucontext_t context;
	unsigned char *stack; /* guard page included; NULL: the process's own */
	const void *stack_low; /* for the sanitizer */
	size_t stack_size;
	void *fake_stack;
};

static struct {
	struct sim_world_options options;
	struct sim_random schedule, values;
	bool by_priority;
	uint64_t switch_odds; /* one step in so many changes the fiber */
	uint64_t now_ns;
	uint64_t steps;
	uint64_t hash;
	uint64_t next_deadline_ns; /* no fiber's deadline is earlier */
	uint64_t next_step;
	unsigned int ids;
	struct fiber main;
	struct fiber *current;
	struct fiber *live[FIBERS_MAX]; /* main first */
	unsigned int count;
	struct fiber *reporter; /* it wants every other fiber to print its stack */
	bool failing;
} sim;

/* ---- telling what went wrong ---- */

static void print_stack(const struct fiber *fiber)
{
	void *frames[48];
	int count = backtrace(frames, 48);
	char command[2048];
	int at;

	fprintf(stderr, "-- fiber %u %s: %s %p, holds", fiber->id, fiber->name,
		fiber->state == FIBER_WAITING ? fiber->waits_how : "can run", fiber->waits_on);
	for (int i = 0; i < fiber->held_count; i++)
		fprintf(stderr, " %d:%p", fiber->held[i].rank, fiber->held[i].lock);
	fprintf(stderr, "\n");
	fflush(stderr);
	at = snprintf(command, sizeof(command), "/proc/%d/exe", getpid());
	for (int i = 0; i < count; i++) {
		char **symbol = backtrace_symbols(frames + i, 1);
		const char *offset = symbol ? strstr(symbol[0], "(+0x") : NULL;

		if (offset && at + 64 < (int)sizeof(command))
			at += snprintf(command + at, sizeof(command) - (size_t)at, " %.*s",
				       (int)strcspn(offset + 2, ")"), offset + 2);
		else if (symbol)
			fprintf(stderr, "     %s\n", symbol[0]);
		free(symbol);
	}
	/* Static functions have no symbols at run time; whoever has addr2line sees their names. */
	char shell[2300];
	snprintf(shell, sizeof(shell), "addr2line -spfie %s 2>/dev/null | sed 's/^/     /' >&2", command);
	if (system(shell) != 0)
		backtrace_symbols_fd(frames, count, STDERR_FILENO);
}

static void switch_to(struct fiber *next);

void sim_print_stacks(void)
{
	struct fiber *self = sim.current;

	print_stack(self);
	for (unsigned int i = 0; i < sim.count; i++) {
		if (sim.live[i] == self || sim.live[i]->state == FIBER_DONE)
			continue;
		sim.reporter = self;
		switch_to(sim.live[i]);
	}
}

void sim_fail(const char *format, ...)
{
	va_list args;

	fprintf(stderr, "FAILED at step %lu, %.6f s, fiber %s: ", (unsigned long)sim.steps, (double)sim.now_ns / 1e9,
		sim.current->name);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, "\n");
	if (!sim.failing) {
		sim.failing = true;
		if (sim.options.failed)
			sim.options.failed(format);
		sim_print_stacks();
	}
	fflush(NULL);
	abort();
}

void sim_aborted(void)
{
	if (!sim.failing)
		sim_fail("an assertion failed");
}

/* ---- fibers ---- */

static void report_if_asked(void)
{
	while (sim.reporter) {
		struct fiber *reporter = sim.reporter;

		sim.reporter = NULL;
		print_stack(sim.current);
		switch_to(reporter);
	}
}

static void arrived(void)
{
#ifdef SIM_ASAN
	const void *low;
	size_t size;

	__sanitizer_finish_switch_fiber(sim.current->fake_stack, &low, &size);
	/* The first switch away from the main fiber tells where its stack is. */
	if (!sim.main.stack_low) {
		sim.main.stack_low = low;
		sim.main.stack_size = size;
	}
#endif
}

static void switch_to(struct fiber *next)
{
	struct fiber *self = sim.current;

	if (next == self)
		return;
	sim.current = next;
#ifdef SIM_ASAN
	__sanitizer_start_switch_fiber(self->state == FIBER_DONE ? NULL : &self->fake_stack, next->stack_low,
				       next->stack_size);
#endif
	swapcontext(&self->context, &next->context);
	arrived();
	report_if_asked();
}

static void trace(uint64_t value)
{
	sim.hash = (sim.hash ^ value) * UINT64_C(0x100000001b3);
	sim.hash ^= sim.hash >> 29;
}

static void make_runnable(struct fiber *fiber)
{
	fiber->state = FIBER_RUNNABLE;
	fiber->waits_on = NULL;
	fiber->waits_how = NULL;
}

/* Those whose time or step has come can run. */
static void wake_due(void)
{
	if (sim.now_ns < sim.next_deadline_ns && sim.steps < sim.next_step)
		return;
	sim.next_deadline_ns = CLOCK_NEVER;
	sim.next_step = UINT64_MAX;
	for (unsigned int i = 0; i < sim.count; i++) {
		struct fiber *fiber = sim.live[i];

		if (fiber->state != FIBER_WAITING)
			continue;
		if (fiber->deadline_ns <= sim.now_ns || fiber->until_step <= sim.steps) {
			fiber->timed_out = true;
			make_runnable(fiber);
			continue;
		}
		if (fiber->deadline_ns < sim.next_deadline_ns)
			sim.next_deadline_ns = fiber->deadline_ns;
		if (fiber->until_step < sim.next_step)
			sim.next_step = fiber->until_step;
	}
}

static struct fiber *pick(void)
{
	struct fiber *runnable[FIBERS_MAX], *best = NULL;
	unsigned int count = 0;

	for (unsigned int i = 0; i < sim.count; i++) {
		struct fiber *fiber = sim.live[i];

		if (fiber->state != FIBER_RUNNABLE)
			continue;
		runnable[count++] = fiber;
		if (!best || fiber->priority > best->priority)
			best = fiber;
	}
	if (!count || sim.by_priority)
		return best;
	return runnable[sim_random_below(&sim.schedule, count)];
}

static void go_on(void)
{
	struct fiber *next;

	for (;;) {
		wake_due();
		next = pick();
		if (next)
			break;
		if (sim.next_deadline_ns != CLOCK_NEVER)
			sim.now_ns = sim.next_deadline_ns;
		else if (sim.next_step != UINT64_MAX)
			sim.steps = sim.next_step;
		else
			sim_fail("deadlock: no fiber can ever run");
	}
	trace(next->id ^ sim.now_ns << 9);
	switch_to(next);
}

static void count_step(void)
{
	sim.steps++;
	sim.now_ns += 50 + (sim.hash & 63);
	trace(sim.steps);
	if (sim.options.steps_max && sim.steps > sim.options.steps_max)
		sim_fail("livelock: more than %lu steps", (unsigned long)sim.options.steps_max);
}

static void step(void)
{
	if (sim.failing)
		return;
	count_step();
	if (sim.by_priority && !sim.options.orderly && sim_random_chance(&sim.schedule, 512))
		sim.current->priority = sim_random_u64(&sim.schedule);
	if (sim.steps >= sim.next_step || sim_random_chance(&sim.schedule, sim.switch_odds))
		go_on();
}

static void wait_for(const void *object, const char *how, uint64_t deadline_ns, uint64_t until_step)
{
	struct fiber *self = sim.current;

	count_step();
	self->state = FIBER_WAITING;
	self->waits_on = object;
	self->waits_how = how;
	self->timed_out = false;
	self->deadline_ns = deadline_ns;
	self->until_step = until_step;
	if (deadline_ns < sim.next_deadline_ns)
		sim.next_deadline_ns = deadline_ns;
	if (until_step < sim.next_step)
		sim.next_step = until_step;
	go_on();
}

static void wake(const void *object)
{
	for (unsigned int i = 0; i < sim.count; i++)
		if (sim.live[i]->state == FIBER_WAITING && sim.live[i]->waits_on == object)
			make_runnable(sim.live[i]);
}

static void free_stack(struct fiber *fiber)
{
#ifdef SIM_ASAN
	__asan_unpoison_memory_region(fiber->stack + GUARD_BYTES, STACK_BYTES);
#endif
	munmap(fiber->stack, GUARD_BYTES + STACK_BYTES);
	fiber->stack = NULL;
}

static void forget(struct fiber *fiber)
{
	for (unsigned int i = 0; i < sim.count; i++) {
		if (sim.live[i] != fiber)
			continue;
		memmove(sim.live + i, sim.live + i + 1, (sim.count - i - 1) * sizeof(sim.live[0]));
		sim.count--;
		return;
	}
}

static void fiber_main(void)
{
	struct fiber *self = sim.current;

	arrived();
	report_if_asked();
	self->run(self->arg);
	if (self->held_count)
		sim_fail("a thread ended with %d locks held", self->held_count);
	self->state = FIBER_DONE;
	wake(self);
	go_on();
	abort(); /* a fiber that is done is never picked */
}

static int sim_thread_start(struct thread *thread, const char *name, void (*run)(void *arg), void *arg)
{
	struct fiber *fiber = calloc(1, sizeof(*fiber));

	if (!fiber || sim.count == FIBERS_MAX)
		sim_fail("no room for another fiber");
	fiber->id = ++sim.ids;
	snprintf(fiber->name, sizeof(fiber->name), "%s", name);
	fiber->run = run;
	fiber->arg = arg;
	fiber->priority = sim_random_u64(&sim.schedule);
	fiber->stack = mmap(NULL, GUARD_BYTES + STACK_BYTES, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (fiber->stack == MAP_FAILED || mprotect(fiber->stack, GUARD_BYTES, PROT_NONE) != 0)
		sim_fail("no memory for a stack");
	fiber->stack_low = fiber->stack + GUARD_BYTES;
	fiber->stack_size = STACK_BYTES;
	getcontext(&fiber->context);
	fiber->context.uc_stack.ss_sp = fiber->stack + GUARD_BYTES;
	fiber->context.uc_stack.ss_size = STACK_BYTES;
	makecontext(&fiber->context, fiber_main, 0);
	sim.live[sim.count++] = fiber;
	thread->sim = fiber;
	step();
	return 0;
}

static void sim_thread_join(struct thread *thread)
{
	struct fiber *fiber = thread->sim;

	step();
	while (fiber->state != FIBER_DONE)
		wait_for(fiber, "joins", CLOCK_NEVER, UINT64_MAX);
	forget(fiber);
	free_stack(fiber);
	free(fiber);
	thread->sim = NULL;
}

/* ---- locks ---- */

static void hold(const void *lock, int rank, bool ordered)
{
	struct fiber *self = sim.current;

	if (self->held_count == HELD_MAX)
		sim_fail("more than %d locks held", HELD_MAX);
	for (int i = 0; ordered && i < self->held_count; i++)
		if (self->held[i].rank > rank)
			sim_fail("a lock of rank %d is taken under one of rank %d", rank, self->held[i].rank);
	self->held[self->held_count].lock = lock;
	self->held[self->held_count++].rank = rank;
}

static void unhold(const void *lock)
{
	struct fiber *self = sim.current;

	for (int i = self->held_count - 1; i >= 0; i--) {
		if (self->held[i].lock != lock)
			continue;
		for (self->held_count--; i < self->held_count; i++)
			self->held[i] = self->held[i + 1];
		return;
	}
	sim_fail("lock %p is released by a fiber that does not hold it", lock);
}

static void must_be_idle(const void *object, const char *what)
{
	for (unsigned int i = 0; i < sim.count; i++)
		if (sim.live[i]->state == FIBER_WAITING && sim.live[i]->waits_on == object)
			sim_fail("%s %p is destroyed while fiber %s waits on it", what, object, sim.live[i]->name);
}

static bool taken(const void *owner)
{
	return owner && ((const struct fiber *)owner)->state != FIBER_DROPPED;
}

static void sim_mutex_init(struct mutex *mutex)
{
	mutex->sim = NULL;
}

static void sim_mutex_fini(struct mutex *mutex)
{
	if (taken(mutex->sim))
		sim_fail("a mutex of rank %d is destroyed while held", mutex->rank);
	must_be_idle(mutex, "mutex");
}

static void mutex_take(struct mutex *mutex, bool ordered)
{
	if (mutex->sim == sim.current)
		sim_fail("a mutex of rank %d is taken twice", mutex->rank);
	hold(mutex, mutex->rank, ordered);
	while (taken(mutex->sim))
		wait_for(mutex, "waits for mutex", CLOCK_NEVER, UINT64_MAX);
	mutex->sim = sim.current;
}

static void sim_mutex_lock(struct mutex *mutex)
{
	step();
	mutex_take(mutex, true);
}

static bool sim_mutex_trylock(struct mutex *mutex)
{
	step();
	if (taken(mutex->sim))
		return false;
	mutex_take(mutex, false);
	return true;
}

static void mutex_release(struct mutex *mutex)
{
	unhold(mutex);
	mutex->sim = NULL;
	wake(mutex);
}

static void sim_mutex_unlock(struct mutex *mutex)
{
	mutex_release(mutex);
	step();
}

static void sim_cond_init(struct cond *cond)
{
	cond->sim = NULL;
}

static void sim_cond_fini(struct cond *cond)
{
	must_be_idle(cond, "condition");
}

static bool sim_cond_wait(struct cond *cond, struct mutex *mutex, uint64_t deadline_ns)
{
	bool timed_out = false;

	if (sim.current->held_count && sim.current->held[sim.current->held_count - 1].rank > mutex->rank)
		sim_fail("a wait on a mutex of rank %d with an inner lock held", mutex->rank);
	mutex_release(mutex);
	/* A wake-up without reason now and then: whoever waits outside a loop is found out. */
	if (deadline_ns > sim.now_ns && !sim_random_chance(&sim.schedule, 64)) {
		wait_for(cond, "waits on condition", deadline_ns, UINT64_MAX);
		timed_out = sim.current->timed_out;
	} else {
		timed_out = deadline_ns <= sim.now_ns;
		step();
	}
	mutex_take(mutex, false);
	return !timed_out;
}

static void sim_cond_wake(struct cond *cond, bool all)
{
	struct fiber *waiting[FIBERS_MAX];
	unsigned int count = 0;

	if (all) {
		wake(cond);
	} else {
		for (unsigned int i = 0; i < sim.count; i++)
			if (sim.live[i]->state == FIBER_WAITING && sim.live[i]->waits_on == cond)
				waiting[count++] = sim.live[i];
		if (count)
			make_runnable(waiting[sim_random_below(&sim.schedule, count)]);
	}
	step();
}

static void sim_rwlock_init(struct rwlock *lock)
{
	lock->sim = NULL;
	lock->readers = 0;
}

static void sim_rwlock_fini(struct rwlock *lock)
{
	if (lock->sim || lock->readers)
		sim_fail("a rwlock of rank %d is destroyed while held", lock->rank);
	must_be_idle(lock, "rwlock");
}

static bool writer_waits(const struct rwlock *lock)
{
	for (unsigned int i = 0; i < sim.count; i++)
		if (sim.live[i]->wants_write == lock)
			return true;
	return false;
}

static void sim_rwlock_lock(struct rwlock *lock, bool exclusive)
{
	struct fiber *self = sim.current;

	step();
	for (int i = 0; i < self->held_count; i++)
		if (self->held[i].lock == lock)
			sim_fail("a rwlock of rank %d is taken twice by one fiber", lock->rank);
	hold(lock, lock->rank, true);
	self->wants_write = exclusive ? lock : NULL;
	/* Readers queue behind a writer that waits, as in the real world: there, too, reading twice would deadlock. */
	while (lock->sim || (exclusive ? lock->readers > 0 : writer_waits(lock)))
		wait_for(lock, exclusive ? "waits to write rwlock" : "waits to read rwlock", CLOCK_NEVER, UINT64_MAX);
	self->wants_write = NULL;
	if (exclusive)
		lock->sim = self;
	else
		lock->readers++;
}

static bool sim_rwlock_tryread(struct rwlock *lock)
{
	step();
	if (lock->sim || writer_waits(lock))
		return false;
	hold(lock, lock->rank, false);
	lock->readers++;
	return true;
}

static void sim_rwlock_unlock(struct rwlock *lock)
{
	unhold(lock);
	if (lock->sim == sim.current)
		lock->sim = NULL;
	else
		lock->readers--;
	wake(lock);
	step();
}

/* ---- time and randomness ---- */

static uint64_t sim_now_ns(void)
{
	return sim.now_ns;
}

static void sim_wall(int64_t *seconds, uint32_t *nanoseconds)
{
	*seconds = WALL_START + (int64_t)(sim.now_ns / NSEC_PER_SEC);
	*nanoseconds = (uint32_t)(sim.now_ns % NSEC_PER_SEC);
}

static void sim_random_fill(void *buffer, size_t length)
{
	unsigned char *at = buffer;

	while (length) {
		uint64_t value = sim_random_u64(&sim.values);
		size_t part = length < sizeof(value) ? length : sizeof(value);

		memcpy(at, &value, part);
		at += part;
		length -= part;
	}
}

static const struct world_ops world_sim = {
	.mutex_init = sim_mutex_init,
	.mutex_fini = sim_mutex_fini,
	.mutex_lock = sim_mutex_lock,
	.mutex_trylock = sim_mutex_trylock,
	.mutex_unlock = sim_mutex_unlock,
	.cond_init = sim_cond_init,
	.cond_fini = sim_cond_fini,
	.cond_wait = sim_cond_wait,
	.cond_wake = sim_cond_wake,
	.rwlock_init = sim_rwlock_init,
	.rwlock_fini = sim_rwlock_fini,
	.rwlock_lock = sim_rwlock_lock,
	.rwlock_tryread = sim_rwlock_tryread,
	.rwlock_unlock = sim_rwlock_unlock,
	.thread_start = sim_thread_start,
	.thread_join = sim_thread_join,
	.now_ns = sim_now_ns,
	.boot_ns = sim_now_ns,
	.wall = sim_wall,
	.random = sim_random_fill,
};

/* ---- the simulator's own ---- */

void sim_world_install(const struct sim_world_options *options)
{
	memset(&sim, 0, sizeof(sim));
	sim.options = *options;
	sim.schedule = sim_random_of(options->seed, 1);
	sim.values = sim_random_of(options->seed, 2);
	sim.by_priority = sim_random_chance(&sim.schedule, 3) || options->orderly;
	sim.switch_odds = UINT64_C(1) << sim_random_below(&sim.schedule, 7);
	sim.now_ns = NSEC_PER_SEC;
	sim.next_deadline_ns = CLOCK_NEVER;
	sim.next_step = UINT64_MAX;
	sim.hash = options->seed;
	snprintf(sim.main.name, sizeof(sim.main.name), "main");
	sim.main.priority = UINT64_MAX;
	sim.current = &sim.main;
	sim.live[sim.count++] = &sim.main;
	world = &world_sim;
}

void sim_world_crash(void)
{
	if (sim.current != &sim.main)
		sim_fail("only the main fiber survives a crash");
	/* The struct stays, since locks that the fiber held still point to it; so does the stack. */
	for (unsigned int i = 1; i < sim.count; i++)
		sim.live[i]->state = FIBER_DROPPED;
	sim.count = 1;
	trace(sim.steps);
}

unsigned int sim_world_fibers(void)
{
	return sim.count - 1;
}

void sim_wait_steps(uint64_t steps)
{
	wait_for(NULL, "waits for steps", CLOCK_NEVER, sim.steps + steps);
}

void sim_sleep(uint64_t ns)
{
	wait_for(NULL, "sleeps", sim.now_ns + ns, UINT64_MAX);
}

void sim_yield(void)
{
	step();
}

uint64_t sim_steps(void)
{
	return sim.steps;
}

const char *sim_fiber_name(void)
{
	return sim.current->name;
}

uint64_t sim_trace_hash(void)
{
	return sim.hash;
}

void sim_trace(uint64_t value)
{
	trace(value);
}
