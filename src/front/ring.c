/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The other transport: FUSE over io_uring (Linux 6.14, where the fuse module's parameter enable_uring is on). The
 * kernel keeps a queue for each processor and gives a request to the queue of the processor that it was made on. So the
 * threads of a queue are pinned there, and one call answers a request and waits for the next.
 *
 * What wakes no other processor is quick; but a long read or write is copied and summed on one while others idle, so
 * with such a request a thread goes to where there is room.
 *
 * Each thread has a ring of its own and in it one entry of its queue, for as many requests as it carries out at a time:
 * one, to its end. So a request that waits for a leg holds up no other: the queue's other threads go on. The kernel
 * gives a request to the thread that was free last, so that of many threads few are busy where few are needed.
 *
 * An entry is a header and the payload behind it, which the kernel writes a request into and reads its answer from. The
 * head of the request, which libfuse wants in one piece, is put together in front of the payload: a WRITE's data is not
 * moved, nor is an answer's that was made in the payload.
 *
 * The kernel holds back all requests between its INIT, where this was agreed, and the first entry of the last queue.
 * So the rings are there before that answer; if it refuses an entry, it goes back to /dev/fuse by itself, and so does
 * the thread. Forgets and interrupts always come there, so that there are readers in any case.
 */
#include "front_private.h"

#include "mirrorfs/base/log.h"

#include <assert.h>
#include <errno.h>
#include <liburing.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* As <linux/fuse.h> has them from version 7.42 on. */
#define COMMAND_REGISTER 1u
#define COMMAND_COMMIT_AND_FETCH 2u

struct ring_header {
	unsigned char in_out[128]; /* struct fuse_in_header; in its place the answer's, struct fuse_out_header */
	unsigned char argument[128]; /* the structure behind it */
	uint64_t flags;
	uint64_t commit_id;
	uint32_t payload_bytes;
	uint32_t padding;
	uint64_t reserved;
};
static_assert(sizeof(struct ring_header) == 288, "the kernel's");

struct ring_command {
	uint64_t flags;
	uint64_t commit_id;
	uint16_t queue;
	uint8_t padding[6];
};

#define SHARE_LEAST 4 /* threads of a processor: a few that wait may not be all */

#define LONG_BYTES (64u << 10)

struct ring {
	struct io_uring uring;
	unsigned int cpu; /* the number of the queue, too */
	cpu_set_t home, anywhere;
	bool away;
	bool entered; /* the entry is the kernel's or ours to give back */
};

/* ---- which processors there are ---- */

/* Of a list as "0-3,8". False: it cannot be read, or is longer than the set. */
static bool cpus_listed(const char *path, cpu_set_t *cpus)
{
	unsigned int first, last;
	FILE *file = fopen(path, "re");
	int separator = ',';

	CPU_ZERO(cpus);
	if (!file)
		return false;
	while (separator == ',' && fscanf(file, "%u", &first) == 1) {
		last = first;
		separator = fgetc(file);
		if (separator == '-' && fscanf(file, "%u", &last) == 1)
			separator = fgetc(file);
		for (; first <= last && first < CPU_SETSIZE; first++)
			CPU_SET(first, cpus);
		if (last >= CPU_SETSIZE)
			separator = '?';
	}
	fclose(file);
	return separator == '\n';
}

/* ---- making them ---- */

static int ring_create(struct ring *ring, unsigned int cpu)
{
	struct io_uring_params params = { .flags = IORING_SETUP_SQE128 | IORING_SETUP_R_DISABLED |
						   IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN };

	ring->cpu = cpu;
	return io_uring_queue_init_params(1, &ring->uring, &params);
}

/* Each possible processor has a queue that wants an entry; most threads go where requests can come from now. */
int rings_create(struct front *front)
{
	unsigned int share, total;
	cpu_set_t possible, online;
	int error = 0;

	if (!cpus_listed("/sys/devices/system/cpu/possible", &possible) ||
	    !cpus_listed("/sys/devices/system/cpu/online", &online))
		return -ENOSYS;
	CPU_AND(&online, &online, &possible);
	share = front->threads / (unsigned int)CPU_COUNT(&online);
	if (share < SHARE_LEAST)
		share = SHARE_LEAST;
	total = (unsigned int)(CPU_COUNT(&possible) + (int)(share - 1) * CPU_COUNT(&online));
	if (total > front->buffer_bytes / FRONT_IO_LEAST)
		return -E2BIG;
	front->rings = calloc(total, sizeof(*front->rings));
	if (!front->rings)
		return -ENOMEM;
	for (unsigned int cpu = 0; cpu < CPU_SETSIZE && !error; cpu++) {
		unsigned int wanted = CPU_ISSET(cpu, &online) ? share : CPU_ISSET(cpu, &possible) ? 1 : 0;

		for (; wanted && !error; wanted--) {
			error = ring_create(&front->rings[front->ring_count], cpu);
			front->ring_count += !error;
		}
	}
	if (error)
		rings_destroy(front);
	return error;
}

void rings_destroy(struct front *front)
{
	for (; front->ring_count; front->ring_count--)
		io_uring_queue_exit(&front->rings[front->ring_count - 1].uring);
	free(front->rings);
	front->rings = NULL;
}

struct ring *rings_at(struct front *front, unsigned int i)
{
	return i < front->ring_count ? &front->rings[i] : NULL;
}

/* ---- the entry ---- */

static struct ring_header *header_of(const struct front_worker *worker)
{
	return (struct ring_header *)worker->memory;
}

static struct io_uring_sqe *prepare(struct front_worker *worker, unsigned int command)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&worker->ring->uring);
	struct ring_command *how;

	if (!sqe)
		abort(); /* there is room for one, and the last one was submitted */
	memset(sqe, 0, 2 * sizeof(*sqe));
	sqe->opcode = IORING_OP_URING_CMD;
	sqe->fd = worker->front->fd;
	sqe->cmd_op = command;
	how = (void *)sqe->cmd;
	how->queue = (uint16_t)worker->ring->cpu;
	how->commit_id = header_of(worker)->commit_id;
	return sqe;
}

/* Goes on in the kernel until there is a request. 0 or the kernel's -errno. */
static int await(struct ring *ring)
{
	struct io_uring_cqe *cqe;
	int result;

	do
		result = io_uring_submit_and_wait(&ring->uring, 1);
	while (result == -EINTR || result == -EAGAIN || (result >= 0 && io_uring_peek_cqe(&ring->uring, &cqe)));
	if (result < 0)
		return result;
	result = cqe->res;
	io_uring_cqe_seen(&ring->uring, cqe);
	return result;
}

/* A processor that is not there, or not for us, is refused: then the thread is wherever there is room. */
static void go(struct ring *ring, bool away)
{
	if (ring->away != away)
		sched_setaffinity(0, sizeof(cpu_set_t), away ? &ring->anywhere : &ring->home);
	ring->away = away;
}

/* The ring becomes this thread's, and the entry the kernel's. */
static int enter(struct front_worker *worker)
{
	struct iovec parts[] = { { worker->memory, sizeof(struct ring_header) },
				 { worker->payload, worker->room } };
	struct ring *ring = worker->ring;
	struct io_uring_sqe *sqe;
	struct io_uring_cqe *cqe;
	int error = 0;

	CPU_SET(ring->cpu, &ring->home);
	if (!sched_getaffinity(0, sizeof(ring->anywhere), &ring->anywhere)) {
		ring->away = true;
		go(ring, false);
	}
	/* liburing 2.3 declares io_uring_enable_rings(), but does not export it. */
	if (syscall(__NR_io_uring_register, ring->uring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0))
		abort(); /* a ring made disabled by us can be enabled: anything else is corrupted memory */
	sqe = prepare(worker, COMMAND_REGISTER);
	sqe->addr = (uintptr_t)parts;
	sqe->len = 2;
	if (io_uring_submit(&ring->uring) < 0)
		return -EIO;
	/* What is refused is refused at once; what is not may already have brought a request. */
	if (!io_uring_peek_cqe(&ring->uring, &cqe))
		error = cqe->res;
	ring->entered = !error;
	return error;
}

/* Puts the request in one piece, and an error in the place of its answer, for whoever does not answer. */
static ssize_t assemble(struct front_worker *worker)
{
	struct ring_header *header = header_of(worker);
	struct fuse_in_header in;
	struct fuse_out_header out = { .len = sizeof(out), .error = -EIO };
	size_t argument;

	memcpy(&in, header->in_out, sizeof(in));
	argument = in.len - sizeof(in) - header->payload_bytes;
	assert(argument <= sizeof(header->argument));
	worker->request = worker->payload - argument - sizeof(in);
	memcpy(worker->request, &in, sizeof(in));
	memcpy(worker->request + sizeof(in), header->argument, argument);
	out.unique = in.unique;
	memcpy(header->in_out, &out, sizeof(out));
	header->payload_bytes = 0;
	return in.len;
}

static bool is_long(const struct front_worker *worker)
{
	const struct fuse_in_header *in = (const void *)worker->request;
	const struct fuse_read_in *read = (const void *)(in + 1);

	return in->len >= LONG_BYTES || (in->opcode == FUSE_READ && read->size >= LONG_BYTES);
}

ssize_t ring_receive(struct front_worker *worker)
{
	struct ring *ring = worker->ring;
	ssize_t length;
	int error;

	if (!ring->entered) {
		error = enter(worker);
		if (error) {
			if (error != -ENOTCONN && error != -ECONNABORTED)
				log_warn("FUSE over io_uring is refused by the kernel: %s", strerror(-error));
			atomic_fetch_add(&worker->front->rings_refused, 1);
			return error;
		}
	} else {
		prepare(worker, COMMAND_COMMIT_AND_FETCH);
	}
	error = await(ring);
	if (error && error != -ENOTCONN && error != -ECONNABORTED)
		log_error("taking requests over io_uring failed: %s", strerror(-error));
	if (error)
		return -ENODEV;
	length = assemble(worker);
	go(ring, is_long(worker));
	return length;
}

void ring_answer(struct front_worker *worker, const struct iovec *iov, int count)
{
	struct ring_header *header = header_of(worker);
	const struct fuse_out_header *out = iov[0].iov_base;
	size_t at = 0;

	for (int i = 1; i < count; i++) {
		assert(iov[i].iov_len <= worker->room - at);
		if (iov[i].iov_base != worker->payload + at)
			memmove(worker->payload + at, iov[i].iov_base, iov[i].iov_len);
		at += iov[i].iov_len;
	}
	memcpy(header->in_out, out, sizeof(*out));
	header->payload_bytes = (uint32_t)at;
}
