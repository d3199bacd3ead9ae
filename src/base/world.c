/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The real world: pthreads, the kernel's clocks and its random numbers. The only file that names them. */
#include "mirrorfs/base/world.h"

#include "mirrorfs/base/clock.h"
#include "mirrorfs/base/sync.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <time.h>

/* A pthread call of ours that fails means corrupted memory or a lock used wrongly: never go on. */
static void must(int error)
{
	if (error)
		abort();
}

static void real_mutex_init(struct mutex *mutex)
{
	must(pthread_mutex_init(&mutex->real, NULL));
}

static void real_mutex_fini(struct mutex *mutex)
{
	must(pthread_mutex_destroy(&mutex->real));
}

static void real_mutex_lock(struct mutex *mutex)
{
	must(pthread_mutex_lock(&mutex->real));
}

static bool real_mutex_trylock(struct mutex *mutex)
{
	int error = pthread_mutex_trylock(&mutex->real);

	if (error == EBUSY)
		return false;
	must(error);
	return true;
}

static void real_mutex_unlock(struct mutex *mutex)
{
	must(pthread_mutex_unlock(&mutex->real));
}

static void real_cond_init(struct cond *cond)
{
	pthread_condattr_t attr;

	must(pthread_condattr_init(&attr));
	must(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC));
	must(pthread_cond_init(&cond->real, &attr));
	must(pthread_condattr_destroy(&attr));
}

static void real_cond_fini(struct cond *cond)
{
	must(pthread_cond_destroy(&cond->real));
}

static bool real_cond_wait(struct cond *cond, struct mutex *mutex, uint64_t deadline_ns)
{
	struct timespec until;
	int error;

	if (deadline_ns == CLOCK_NEVER) {
		must(pthread_cond_wait(&cond->real, &mutex->real));
		return true;
	}
	until.tv_sec = (time_t)(deadline_ns / NSEC_PER_SEC);
	until.tv_nsec = (long)(deadline_ns % NSEC_PER_SEC);
	error = pthread_cond_timedwait(&cond->real, &mutex->real, &until);
	if (error == ETIMEDOUT)
		return false;
	must(error);
	return true;
}

static void real_cond_wake(struct cond *cond, bool all)
{
	must(all ? pthread_cond_broadcast(&cond->real) : pthread_cond_signal(&cond->real));
}

static void real_rwlock_init(struct rwlock *lock)
{
	pthread_rwlockattr_t attr;

	/* A stream of readers must not starve the transaction that waits to write. */
	must(pthread_rwlockattr_init(&attr));
	must(pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP));
	must(pthread_rwlock_init(&lock->real, &attr));
	must(pthread_rwlockattr_destroy(&attr));
}

static void real_rwlock_fini(struct rwlock *lock)
{
	must(pthread_rwlock_destroy(&lock->real));
}

static void real_rwlock_lock(struct rwlock *lock, bool exclusive)
{
	must(exclusive ? pthread_rwlock_wrlock(&lock->real) : pthread_rwlock_rdlock(&lock->real));
}

static bool real_rwlock_tryread(struct rwlock *lock)
{
	int error = pthread_rwlock_tryrdlock(&lock->real);

	if (error == EBUSY || error == EAGAIN)
		return false;
	must(error);
	return true;
}

static void real_rwlock_unlock(struct rwlock *lock)
{
	must(pthread_rwlock_unlock(&lock->real));
}

static void (*thread_hook)(void);

void thread_on_start(void (*hook)(void))
{
	thread_hook = hook;
}

static _Thread_local struct thread *self;

static void *real_thread_main(void *arg)
{
	struct thread *thread = arg;

	if (thread_hook)
		thread_hook();
	prctl(PR_SET_NAME, thread->name);
	self = thread;
	thread->run(thread->arg);
	if (self)
		must(sem_post(&thread->ended));
	return NULL;
}

static int real_thread_start(struct thread *thread, const char *name, void (*run)(void *arg), void *arg)
{
	sigset_t all, before;
	int error;

	(void)name;
	(void)run;
	(void)arg;
	must(sem_init(&thread->ended, 0, 0));
	thread->lingers = false;
	sigfillset(&all);
	sigdelset(&all, SIGSYS);
	must(pthread_sigmask(SIG_SETMASK, &all, &before));
	error = pthread_create(&thread->real, NULL, real_thread_main, thread);
	must(pthread_sigmask(SIG_SETMASK, &before, NULL));
	return -error;
}

static void real_thread_join(struct thread *thread)
{
	while (sem_wait(&thread->ended))
		; /* EINTR */
	must(thread->lingers ? pthread_detach(thread->real) : pthread_join(thread->real, NULL));
	must(sem_destroy(&thread->ended));
}

void thread_linger(void)
{
	if (self)
		self->lingers = true;
}

void thread_leave(void)
{
	struct thread *thread = self;

	thread_linger();
	self = NULL;
	if (thread)
		must(sem_post(&thread->ended));
}

static uint64_t real_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NSEC_PER_SEC + (uint64_t)now.tv_nsec;
}

static uint64_t real_boot_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	return (uint64_t)now.tv_sec * NSEC_PER_SEC + (uint64_t)now.tv_nsec;
}

static void real_wall(int64_t *seconds, uint32_t *nanoseconds)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	*seconds = now.tv_sec;
	*nanoseconds = (uint32_t)now.tv_nsec;
}

static void real_random(void *buffer, size_t length)
{
	unsigned char *at = buffer;

	while (length) {
		ssize_t got = getrandom(at, length, 0);

		if (got < 0) {
			if (errno == EINTR)
				continue;
			abort();
		}
		at += got;
		length -= (size_t)got;
	}
}

const struct world_ops world_real = {
	.mutex_init = real_mutex_init,
	.mutex_fini = real_mutex_fini,
	.mutex_lock = real_mutex_lock,
	.mutex_trylock = real_mutex_trylock,
	.mutex_unlock = real_mutex_unlock,
	.cond_init = real_cond_init,
	.cond_fini = real_cond_fini,
	.cond_wait = real_cond_wait,
	.cond_wake = real_cond_wake,
	.rwlock_init = real_rwlock_init,
	.rwlock_fini = real_rwlock_fini,
	.rwlock_lock = real_rwlock_lock,
	.rwlock_tryread = real_rwlock_tryread,
	.rwlock_unlock = real_rwlock_unlock,
	.thread_start = real_thread_start,
	.thread_join = real_thread_join,
	.now_ns = real_now_ns,
	.boot_ns = real_boot_ns,
	.wall = real_wall,
	.random = real_random,
};

const struct world_ops *world = &world_real;

uint64_t clock_now_ns(void)
{
	return world->now_ns();
}

uint64_t clock_boot_ns(void)
{
	return world->boot_ns();
}

void clock_wall(int64_t *seconds, uint32_t *nanoseconds)
{
	world->wall(seconds, nanoseconds);
}

void random_bytes(void *buffer, size_t length)
{
	world->random(buffer, length);
}

uint64_t random_u64(void)
{
	uint64_t value;

	world->random(&value, sizeof(value));
	return value;
}
