/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Locks and threads over the world in force, with the lock order asserted: each thread remembers the ranks
 * that it holds. In a simulator all fibers share one thread, so the memory would mix them up; the order is
 * asserted in the real world only.
 */
#include "mirrorfs/base/sync.h"

#include <assert.h>
#include <stdio.h>

#ifndef NDEBUG
#define HELD_MAX 80 /* the write-out of many files at once holds one of each */

static _Thread_local int held[HELD_MAX]; /* ascending */
static _Thread_local int held_count;

static void order_enter(int rank, bool same_allowed)
{
	if (world != &world_real)
		return;
	assert(held_count < HELD_MAX);
	assert(!held_count || (same_allowed ? held[held_count - 1] <= rank : held[held_count - 1] < rank));
	held[held_count++] = rank;
}

/* One that was not waited for may be of any rank. */
static void order_enter_anywhere(int rank)
{
	int at;

	if (world != &world_real)
		return;
	assert(held_count < HELD_MAX);
	for (at = held_count++; at > 0 && held[at - 1] > rank; at--)
		held[at] = held[at - 1];
	held[at] = rank;
}

/* Rare, and kept out of what each unlocking runs through. */
__attribute__((noinline)) static void order_leave_earlier(int rank)
{
	for (int i = held_count - 2; i >= 0; i--) {
		if (held[i] != rank)
			continue;
		for (held_count--; i < held_count; i++)
			held[i] = held[i + 1];
		return;
	}
	assert(!"a lock was released that this thread does not hold");
}

static void order_leave(int rank)
{
	if (world != &world_real)
		return;
	if (held_count && held[held_count - 1] == rank)
		held_count--;
	else
		order_leave_earlier(rank);
}
#else
static inline void order_enter(int rank, bool same_allowed)
{
	(void)rank;
	(void)same_allowed;
}

static inline void order_enter_anywhere(int rank)
{
	(void)rank;
}

static inline void order_leave(int rank)
{
	(void)rank;
}
#endif

void mutex_init(struct mutex *mutex, enum lock_rank rank)
{
	mutex->rank = rank;
	mutex->sim = NULL;
	world->mutex_init(mutex);
}

void mutex_fini(struct mutex *mutex)
{
	world->mutex_fini(mutex);
}

void mutex_lock(struct mutex *mutex)
{
	order_enter(mutex->rank, false);
	world->mutex_lock(mutex);
}

void mutex_lock_second(struct mutex *mutex)
{
	order_enter(mutex->rank, true);
	world->mutex_lock(mutex);
}

bool mutex_trylock(struct mutex *mutex)
{
	if (!world->mutex_trylock(mutex))
		return false;
	order_enter_anywhere(mutex->rank);
	return true;
}

void mutex_unlock(struct mutex *mutex)
{
	order_leave(mutex->rank);
	world->mutex_unlock(mutex);
}

void cond_init(struct cond *cond)
{
	cond->sim = NULL;
	world->cond_init(cond);
}

void cond_fini(struct cond *cond)
{
	world->cond_fini(cond);
}

void cond_wait(struct cond *cond, struct mutex *mutex)
{
	world->cond_wait(cond, mutex, UINT64_MAX);
}

bool cond_wait_until(struct cond *cond, struct mutex *mutex, uint64_t deadline_ns)
{
	return world->cond_wait(cond, mutex, deadline_ns);
}

void cond_signal(struct cond *cond)
{
	world->cond_wake(cond, false);
}

void cond_broadcast(struct cond *cond)
{
	world->cond_wake(cond, true);
}

void rwlock_init(struct rwlock *lock, enum lock_rank rank)
{
	lock->rank = rank;
	lock->sim = NULL;
	lock->readers = 0;
	world->rwlock_init(lock);
}

void rwlock_fini(struct rwlock *lock)
{
	world->rwlock_fini(lock);
}

void rwlock_read(struct rwlock *lock)
{
	order_enter(lock->rank, false);
	world->rwlock_lock(lock, false);
}

bool rwlock_tryread(struct rwlock *lock)
{
	if (!world->rwlock_tryread(lock))
		return false;
	order_enter_anywhere(lock->rank);
	return true;
}

void rwlock_write(struct rwlock *lock)
{
	order_enter(lock->rank, false);
	world->rwlock_lock(lock, true);
}

void rwlock_write_second(struct rwlock *lock)
{
	order_enter(lock->rank, true);
	world->rwlock_lock(lock, true);
}

void rwlock_unlock(struct rwlock *lock)
{
	order_leave(lock->rank);
	world->rwlock_unlock(lock);
}

int thread_start(struct thread *thread, const char *name, void (*run)(void *arg), void *arg)
{
	thread->run = run;
	thread->arg = arg;
	thread->sim = NULL;
	snprintf(thread->name, sizeof(thread->name), "%s", name);
	return world->thread_start(thread, thread->name, run, arg);
}

void thread_join(struct thread *thread)
{
	world->thread_join(thread);
}
