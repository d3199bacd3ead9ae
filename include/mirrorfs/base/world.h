/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The outside world as the stack sees it: threads, waiting, time and randomness.
 *
 * Everything in src/ that waits, starts a thread, reads a clock or draws a random number does so through
 * sync.h and clock.h, and these go through the one table below. The real world is pthreads and the
 * kernel's clocks. A simulator installs its own before it starts the stack: threads become fibers of one
 * thread, time becomes virtual, randomness comes from a seed, and the whole stack above `leg` replays
 * exactly.
 *
 * Rule: whoever waits without this table breaks the replay; tests/tidy refuses direct uses.
 */
#ifndef MIRRORFS_BASE_WORLD_H
#define MIRRORFS_BASE_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mutex;
struct cond;
struct rwlock;
struct thread;

struct world_ops {
	void (*mutex_init)(struct mutex *mutex);
	void (*mutex_fini)(struct mutex *mutex);
	void (*mutex_lock)(struct mutex *mutex);
	bool (*mutex_trylock)(struct mutex *mutex);
	void (*mutex_unlock)(struct mutex *mutex);

	void (*cond_init)(struct cond *cond);
	void (*cond_fini)(struct cond *cond);
	/* `deadline_ns` on clock_now_ns(), UINT64_MAX: none. False: the deadline passed. */
	bool (*cond_wait)(struct cond *cond, struct mutex *mutex, uint64_t deadline_ns);
	void (*cond_wake)(struct cond *cond, bool all);

	void (*rwlock_init)(struct rwlock *lock);
	void (*rwlock_fini)(struct rwlock *lock);
	void (*rwlock_lock)(struct rwlock *lock, bool exclusive);
	bool (*rwlock_tryread)(struct rwlock *lock);
	void (*rwlock_unlock)(struct rwlock *lock);

	int (*thread_start)(struct thread *thread, const char *name, void (*run)(void *arg), void *arg);
	void (*thread_join)(struct thread *thread);

	uint64_t (*now_ns)(void);
	uint64_t (*boot_ns)(void);
	void (*wall)(int64_t *seconds, uint32_t *nanoseconds);
	void (*random)(void *buffer, size_t length);
};

/* The world in force. Set once, before the first lock is made; never while the stack runs. */
extern const struct world_ops *world;
extern const struct world_ops world_real;

#endif
