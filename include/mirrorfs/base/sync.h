/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Mutexes, conditions, reader-writer locks and threads; see world.h for why they are not pthreads directly.
 *
 * Order. Every lock has a rank from the list below; a thread takes locks in ascending rank only. Debug
 * builds (-Db_ndebug=false) assert it. Two locks of one rank are taken in ascending address order, with
 * mutex_lock_second. No lock is held across a submit, across a completion callback, or while a leg is waited for,
 * except those whose comment says that they may be.
 */
#ifndef MIRRORFS_BASE_SYNC_H
#define MIRRORFS_BASE_SYNC_H

#include "mirrorfs/base/world.h"

#include <pthread.h>
#include <semaphore.h>

/* Ascending: outer locks first. Gaps are for newcomers. */
enum lock_rank {
	RANK_FRONT = 10, /* front: session state */
	RANK_CTL_EVENTS = 18, /* ctl: events kept */
	RANK_CTL = 20, /* ctl: scrub */
	RANK_FS_RENAME = 28, /* fs: one directory rename at a time; may be held across I/O */
	RANK_FS_INODE = 30, /* fs: an inode's content; may be held across I/O */
	RANK_FS_WRITEBACK = 34, /* fs: an inode's write-back; may be held across I/O */
	RANK_META_SHARE = 36, /* meta: counts of blocks that files share, to the end of a transaction */
	RANK_FS_TABLE = 38, /* fs: the table of inodes in memory */
	RANK_FS_STATE = 39, /* fs: an inode's fields and the bytes of its pages; never held across a wait */
	RANK_META_CHECKPOINT = 40, /* meta: one checkpoint at a time; may be held across I/O */
	RANK_META_TREE = 44, /* meta: the tree in memory; held while a node is read, never while one is written */
	RANK_META_JOURNAL = 46, /* meta: the running record */
	RANK_META_ALLOC = 48, /* meta: reservations, freed ranges */
	RANK_CACHE = 50, /* cache: a space's index */
	RANK_CACHE_POLICY = 54, /* cache: queues, watermarks */
	RANK_RANGE = 60, /* range: the tree of ranges */
	RANK_RANGE_DEPOT = 62, /* range: magazines */
	RANK_MIRROR = 70, /* mirror: leg states, requests in flight */
	RANK_LEG = 80, /* leg: an engine's queue */
	RANK_POOL = 90, /* base: buffers */
	RANK_LEAF = 100, /* nothing is taken below it */
};

struct mutex {
	pthread_mutex_t real;
	void *sim; /* the simulator's: owner */
	int rank;
};

struct cond {
	pthread_cond_t real;
	void *sim;
};

struct rwlock {
	pthread_rwlock_t real;
	void *sim;
	int readers;
	int rank;
};

struct thread {
	pthread_t real;
	void *sim;
	void (*run)(void *arg);
	void *arg;
	sem_t ended; /* the real one's: its function has */
	bool lingers;
	char name[16];
};

void mutex_init(struct mutex *mutex, enum lock_rank rank);
void mutex_fini(struct mutex *mutex);
void mutex_lock(struct mutex *mutex);
void mutex_lock_second(struct mutex *mutex); /* a second lock of the rank that is already held */
bool mutex_trylock(struct mutex *mutex); /* never waits, so rank is not asserted */
void mutex_unlock(struct mutex *mutex);

void cond_init(struct cond *cond);
void cond_fini(struct cond *cond);
/* The mutex is held at the call and again at the return. Wake-ups may be spurious: wait in a loop. */
void cond_wait(struct cond *cond, struct mutex *mutex);
/* `deadline_ns` on clock_now_ns(). False: the deadline passed. */
bool cond_wait_until(struct cond *cond, struct mutex *mutex, uint64_t deadline_ns);
void cond_signal(struct cond *cond);
void cond_broadcast(struct cond *cond);

void rwlock_init(struct rwlock *lock, enum lock_rank rank);
void rwlock_fini(struct rwlock *lock);
void rwlock_read(struct rwlock *lock);
bool rwlock_tryread(struct rwlock *lock); /* never waits, so rank is not asserted */
void rwlock_write(struct rwlock *lock);
void rwlock_write_second(struct rwlock *lock); /* a second lock of the rank that is already held */
void rwlock_unlock(struct rwlock *lock);

/*
 * Starts a thread; `thread` must live until thread_join. 0 or -errno. `name` is cut to 15 bytes. Signals
 * stay blocked in it: they belong to the main thread. But SIGSYS, which whoever calls the kernel gets for that call.
 */
int thread_start(struct thread *thread, const char *name, void (*run)(void *arg), void *arg);
void thread_join(struct thread *thread);
/*
 * The kernel may not let this thread go for a while after its function has ended: thread_join() waits for that end
 * only. Nothing happens on a thread that thread_start() has not started.
 */
void thread_linger(void);
/*
 * Whoever joins this thread may go on from here: what it still does concerns nobody, and is done with what is its own.
 * Nothing happens on a thread that thread_start() has not started.
 */
void thread_leave(void);
/* Each thread that is started from now on calls it first: what a thread has of its own may be taken from it there. */
void thread_on_start(void (*hook)(void));

#endif
