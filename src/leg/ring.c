/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Rings of those who wait for what they submit themselves, and one that a thread has for its own, with other things in
 * it beside requests to legs: it enters the kernel once to submit whatever there is and to wait for whatever comes.
 *
 * Which of its requests go there it says (leg_ring_collect()): only such as it will be back for at once, since nobody
 * else sees an answer in its ring. A thread that ends before all have come back stays for them, alone.
 */
#include "leg_private.h"

#include "mirrorfs/base/clock.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#define RING_RETRY_MSEC 10 /* until a submission that the kernel had no memory for is tried again */
#define OWN_DEPTH 64u
#define LOOK_PAUSES 8 /* between two looks: about as long as these take */
#define DISTURBED_NS NSEC_PER_MSEC /* longer than interrupts take, and threads that have but little to do */

static _Thread_local struct leg_ring *own;

void ring_destroy(struct leg_ring *ring)
{
	io_uring_queue_exit(&ring->uring);
	close(ring->wake_fd);
	free(ring);
}

/* With `room` for other things, and the wake-up. */
struct leg_ring *ring_create(unsigned int depth, unsigned int room, unsigned int setup)
{
	struct leg_ring *ring = calloc(1, sizeof(*ring));
	int error;

	if (!ring)
		return NULL;
	ring->depth = depth;
	ring->process = getpid();
	ring->wake_fd = eventfd(0, EFD_CLOEXEC);
	error = ring->wake_fd < 0 ? -errno : io_uring_queue_init(depth + room + 1, &ring->uring, setup);
	if (!error)
		return ring;
	if (ring->wake_fd >= 0)
		close(ring->wake_fd);
	free(ring);
	errno = -error;
	return NULL;
}

void ring_reap(struct leg_ring *ring)
{
	struct io_uring_cqe *cqe;

	while (!io_uring_peek_cqe(&ring->uring, &cqe)) {
		uint64_t data = cqe->user_data;
		int result = cqe->res;

		io_uring_cqe_seen(&ring->uring, cqe);
		if (!data) {
			ring->wake_armed = false;
		} else if (data & LEG_RING_OTHER) {
			ring->other(ring->context, data, result);
		} else {
			ring->in_kernel--;
			leg_uring_answered((struct leg_io *)(uintptr_t)data, result);
		}
	}
}

/* What shares the core with this processor goes on the quicker. */
static void processor_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

static void arm_wake(struct leg_ring *ring)
{
	struct io_uring_sqe *sqe;

	if (ring->wake_armed)
		return;
	sqe = leg_ring_sqe(ring);
	io_uring_prep_read(sqe, ring->wake_fd, &ring->wake_count, sizeof(ring->wake_count), 0);
	io_uring_sqe_set_data(sqe, NULL);
	ring->wake_armed = true;
}

int ring_turn(struct leg_ring *ring)
{
	int result;

	arm_wake(ring);
	result = io_uring_submit_and_wait(&ring->uring, 1);
	if (result < 0) {
		/* No memory, or interrupted: what was not submitted stays in the ring for the next round. */
		struct __kernel_timespec pause = { .tv_nsec = RING_RETRY_MSEC * 1000000L };
		struct io_uring_cqe *cqe;

		io_uring_wait_cqe_timeout(&ring->uring, &cqe, &pause);
	}
	ring_reap(ring);
	return result < 0 ? result : 0;
}

bool ring_collects(struct leg_ring **ring)
{
	*ring = own;
	return own && own->collects && own->in_kernel < own->depth;
}

/* ---- a thread's own ---- */

struct leg_ring *leg_ring_create(unsigned int room, void (*other)(void *context, uint64_t data, int result),
				 void *context)
{
	struct leg_ring *ring = ring_create(OWN_DEPTH, room, IORING_SETUP_SQE128 | IORING_SETUP_R_DISABLED |
							     IORING_SETUP_SINGLE_ISSUER |
							     IORING_SETUP_DEFER_TASKRUN |
							     IORING_SETUP_TASKRUN_FLAG);

	if (!ring)
		return NULL;
	ring->other = other;
	ring->context = context;
	return ring;
}

void leg_ring_enter(struct leg_ring *ring)
{
	/* liburing 2.3 declares io_uring_enable_rings(), but does not export it. */
	if (syscall(__NR_io_uring_register, ring->uring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0))
		abort(); /* a ring made disabled by us can be enabled: anything else is corrupted memory */
	io_uring_register_ring_fd(&ring->uring); /* only quicker */
	own = ring;
}

struct io_uring_sqe *leg_ring_sqe(struct leg_ring *ring)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);

	if (!sqe)
		abort(); /* there is room for all that may be in the kernel at a time */
	return sqe;
}

void leg_ring_collect(struct leg_ring *ring, bool collect)
{
	ring->collects = collect;
}

/* True: something has come. */
static bool look(struct leg_ring *ring, uint64_t ns, const _Atomic(const void *) *turn, const void *ours)
{
	uint64_t began_ns, last_ns, now_ns;

	if (io_uring_submit_and_get_events(&ring->uring) < 0)
		return false;
	began_ns = last_ns = clock_now_ns();
	while (!io_uring_cq_ready(&ring->uring)) {
		if (IO_URING_READ_ONCE(*ring->uring.sq.kflags) & IORING_SQ_TASKRUN) {
			if (io_uring_get_events(&ring->uring) < 0)
				return false;
			continue;
		}
		for (int i = 0; i < LOOK_PAUSES; i++)
			processor_pause();
		sched_yield();
		now_ns = clock_now_ns();
		ring->disturbed |= now_ns - last_ns > DISTURBED_NS;
		if (ring->disturbed || now_ns - began_ns > ns || atomic_load(turn) != ours)
			return false;
		last_ns = now_ns;
	}
	return true;
}

bool leg_ring_look(struct leg_ring *ring, uint64_t ns, const _Atomic(const void *) *turn, const void *ours)
{
	arm_wake(ring);
	if (!look(ring, ns, turn, ours))
		return false; /* what may have come just now is there for the turn */
	ring_reap(ring);
	return true;
}

bool leg_ring_disturbed(struct leg_ring *ring)
{
	bool disturbed = ring->disturbed;

	ring->disturbed = false;
	return disturbed;
}

bool leg_ring_busy(const struct leg_ring *ring)
{
	return ring->in_kernel;
}

void leg_ring_submit(struct leg_ring *ring)
{
	io_uring_submit_and_get_events(&ring->uring);
	ring_reap(ring);
}

void leg_ring_turn(struct leg_ring *ring)
{
	ring_turn(ring);
}

void leg_ring_wake(struct leg_ring *ring)
{
	/* Fails only if the count would overflow: then it is far from zero, and the thread wakes anyway. */
	(void)!eventfd_write(ring->wake_fd, 1);
}

void leg_ring_destroy(struct leg_ring *ring)
{
	if (ring == own) {
		own = NULL;
		if (ring->in_kernel)
			thread_leave();
		while (ring->in_kernel)
			ring_turn(ring);
	}
	ring_destroy(ring);
}
