/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Waiting for one's own requests. A thread that has nothing to do but wait for what it submits needs no other thread
 * to submit it and to be woken by: it puts the requests into a ring of its own, enters the kernel once to submit and
 * wait, and reaps. That is one change of threads a request instead of four.
 *
 * A ring is lent to a thread for one wait. Idle ones lie in a small table that is looked through without a lock,
 * beginning at the processor's own place.
 *
 * Who waits may be answered before all of its requests are: a leg hangs, and the other one was asked. Then the ring is
 * left to the reaper, a thread that sees to what still comes, since nobody else would. It is there before the first
 * ring is lent, so that there is none to be waited for then. In the kernel these requests belong to the thread that
 * submitted them, and hold up its exit: so that one lingers, and is not waited for when it is joined.
 *
 * A thread that has a ring of its own (ring.c) waits there for what it need not wait for here.
 */
#include "leg_private.h"

#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define RING_DEPTH 16u /* requests of one wait; more go the usual way */
#define RINGS_KEPT 64u
#define RING_RETRY_MSEC 10 /* until a submission that the kernel had no memory for is tried again */
#define REAPER_DEPTH 64u /* rings that it begins to watch at a time */

static _Atomic(struct leg_ring *) kept[RINGS_KEPT];
static struct {
	struct thread thread;
	struct io_uring ring; /* tells which rings have something */
	int wake_fd;
	bool wake_armed;
	uint64_t wake_count;
	_Atomic(pid_t) process; /* that it runs in; REAPER_STARTS: in a moment */
	_Atomic(struct leg_ring *) left; /* stack; pushed one by one, taken as a whole */
} reaper;
#define REAPER_STARTS (-1)
static _Thread_local struct leg_wait *current;

/* ---- rings ---- */

static unsigned int ring_place(void)
{
	int cpu = sched_getcpu();

	return cpu < 0 ? 0 : (unsigned int)cpu;
}

static void ring_keep(struct leg_ring *ring)
{
	unsigned int place = ring_place();

	for (unsigned int i = 0; i < RINGS_KEPT; i++) {
		struct leg_ring *nothing = NULL;

		if (atomic_compare_exchange_strong(&kept[(place + i) % RINGS_KEPT], &nothing, ring))
			return;
	}
	ring_destroy(ring);
}

/* ---- what is left ---- */

/* Once: when the ring has something it is said, and then it is looked through and watched again. NULL: new ones. */
static void reaper_watch(struct leg_ring *ring)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&reaper.ring);

	if (!sqe)
		return; /* in the next round */
	if (ring) {
		io_uring_prep_poll_add(sqe, ring->uring.ring_fd, POLLIN);
		ring->watched = true;
	} else {
		io_uring_prep_read(sqe, reaper.wake_fd, &reaper.wake_count, sizeof(reaper.wake_count), 0);
		reaper.wake_armed = true;
	}
	io_uring_sqe_set_data(sqe, ring);
}

/* Until a ring has something, or there is one more; `soon`: or for a moment. */
static void reaper_wait(bool soon)
{
	struct __kernel_timespec pause = { .tv_nsec = RING_RETRY_MSEC * 1000000L };
	struct io_uring_cqe *cqe;

	if (soon || io_uring_submit_and_wait(&reaper.ring, 1) < 0) {
		io_uring_submit(&reaper.ring);
		io_uring_wait_cqe_timeout(&reaper.ring, &cqe, &pause);
	}
	while (!io_uring_peek_cqe(&reaper.ring, &cqe)) {
		struct leg_ring *ring = io_uring_cqe_get_data(cqe);

		io_uring_cqe_seen(&reaper.ring, cqe);
		if (ring)
			ring->watched = false;
		else
			reaper.wake_armed = false;
	}
}

static struct leg_ring *reaper_more(struct leg_ring *rings)
{
	struct leg_ring *ring = atomic_exchange(&reaper.left, NULL), *next;

	for (; ring; ring = next) {
		next = ring->next;
		ring->next = rings;
		ring->watched = false;
		rings = ring;
	}
	return rings;
}

static void reaper_run(void *arg)
{
	struct leg_ring *rings = NULL;

	for (;;) {
		struct leg_ring **at = &rings, *ring;
		bool unsent = false;

		if (!reaper.wake_armed)
			reaper_watch(NULL);
		rings = reaper_more(rings);
		while ((ring = *at)) {
			if (io_uring_sq_ready(&ring->uring))
				io_uring_submit(&ring->uring);
			if (!ring->watched)
				ring_reap(ring);
			if (!ring->watched && !ring->in_kernel) {
				*at = ring->next;
				ring_keep(ring);
				continue;
			}
			if (!ring->watched)
				reaper_watch(ring);
			unsent |= io_uring_sq_ready(&ring->uring) || !ring->watched;
			at = &ring->next;
		}
		reaper_wait(unsent || !reaper.wake_armed);
	}
}

/* Starts it once in a process. False: it is not there, or not yet: then no ring is lent. */
static bool reaper_ready(void)
{
	pid_t process = getpid(), seen = atomic_load(&reaper.process);

	if (seen == process)
		return true;
	if (seen == REAPER_STARTS || !atomic_compare_exchange_strong(&reaper.process, &seen, REAPER_STARTS))
		return false;
	atomic_store(&reaper.left, NULL); /* the parent's, if any */
	reaper.wake_armed = false;
	reaper.wake_fd = eventfd(0, EFD_CLOEXEC);
	if (reaper.wake_fd < 0)
		goto no_wake;
	if (io_uring_queue_init(REAPER_DEPTH, &reaper.ring, 0))
		goto no_ring;
	if (thread_start(&reaper.thread, "leg-left", reaper_run, NULL))
		goto no_thread;
	atomic_store(&reaper.process, process);
	return true;

no_thread:
	io_uring_queue_exit(&reaper.ring);
no_ring:
	close(reaper.wake_fd);
no_wake:
	atomic_store(&reaper.process, 0);
	return false;
}

static void ring_leave(struct leg_ring *ring)
{
	ring->next = atomic_load(&reaper.left);
	while (!atomic_compare_exchange_weak(&reaper.left, &ring->next, ring))
		;
	(void)!eventfd_write(reaper.wake_fd, 1);
	thread_linger();
}

/* ---- waiting ---- */

/* A kernel before 5.19 does not know the first. */
static struct leg_ring *lendable(void)
{
	struct leg_ring *ring = ring_create(RING_DEPTH, 0, IORING_SETUP_COOP_TASKRUN);

	return ring ? ring : ring_create(RING_DEPTH, 0, 0);
}

static struct leg_ring *ring_take(void)
{
	unsigned int place = ring_place();

	for (unsigned int i = 0; i < RINGS_KEPT; i++) {
		_Atomic(struct leg_ring *) *at = &kept[(place + i) % RINGS_KEPT];
		struct leg_ring *ring = atomic_load(at) ? atomic_exchange(at, NULL) : NULL;

		if (ring && ring->process == getpid())
			return ring;
		if (ring)
			ring_destroy(ring);
	}
	return reaper_ready() ? lendable() : NULL;
}

void leg_wait_begin(struct leg_wait *wait)
{
	mutex_init(&wait->lock, RANK_LEAF);
	cond_init(&wait->cond);
	wait->done = false;
	wait->ring = NULL;
	current = world == &world_real ? wait : NULL;
}

bool leg_wait_takes(struct leg_ring **ring)
{
	struct leg_wait *wait = current;

	if (!wait)
		return ring_collects(ring);
	mutex_lock(&wait->lock);
	if (!wait->ring && !wait->done)
		wait->ring = ring_take();
	*ring = wait->done ? NULL : wait->ring;
	mutex_unlock(&wait->lock);
	return *ring && (*ring)->in_kernel < (*ring)->depth;
}

struct io_uring_sqe *leg_wait_sqe(struct leg_ring *ring)
{
	ring->in_kernel++;
	return leg_ring_sqe(ring);
}

void leg_wait(struct leg_wait *wait)
{
	mutex_lock(&wait->lock);
	while (!wait->done) {
		if (!wait->ring) {
			cond_wait(&wait->cond, &wait->lock);
			continue;
		}
		mutex_unlock(&wait->lock);
		ring_turn(wait->ring);
		mutex_lock(&wait->lock);
	}
	mutex_unlock(&wait->lock);
	current = NULL;
	if (wait->ring && wait->ring->in_kernel)
		ring_leave(wait->ring);
	else if (wait->ring)
		ring_keep(wait->ring);
	cond_fini(&wait->cond);
	mutex_fini(&wait->lock);
}

void leg_wait_done(struct leg_wait *wait)
{
	mutex_lock(&wait->lock);
	wait->done = true;
	if (wait->ring && wait != current)
		(void)!eventfd_write(wait->ring->wake_fd, 1);
	else
		cond_signal(&wait->cond);
	mutex_unlock(&wait->lock);
}
