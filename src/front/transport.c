/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How a request is carried out, whichever way it came; and the classic transport: each worker blocks in read(2) on
 * /dev/fuse, carries the request out and answers it with writev(2). The other one: ring.c.
 *
 * A request lies so that a WRITE's data begins on a page: its headers end where the page starts. The same pages hold
 * the data of an answer, since no request that is answered with data brings any.
 */
#include "front_private.h"

#include "mirrorfs/base/clock.h"
#include "mirrorfs/base/log.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#define PAGE 4096u
#define FORGETS_GATHER_NS (2 * NSEC_PER_MSEC)
#define HEAD (sizeof(struct fuse_in_header) + sizeof(struct fuse_write_in))

static _Thread_local struct front_entry *current; /* that this thread carries out */
static _Thread_local bool over_ring; /* it came there, and is answered there */

int transport_entry_init(struct front_entry *entry, struct front *front)
{
	entry->room = front->io_max;
	entry->memory = mmap(NULL, PAGE + entry->room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (entry->memory == MAP_FAILED)
		return -ENOMEM;
	entry->front = front;
	entry->payload = entry->memory + PAGE;
	entry->request = entry->payload - HEAD;
	return 0;
}

void transport_entry_fini(struct front_entry *entry)
{
	if (current == entry)
		current = NULL;
	munmap(entry->memory, PAGE + entry->room);
}

const void *transport_argument(void)
{
	return current->request + sizeof(struct fuse_in_header);
}

uint32_t transport_opcode(void)
{
	return current->opcode;
}

unsigned char *transport_payload(void)
{
	return current->payload;
}

/*
 * libfuse's answers come through here, on the thread that carries the request out; and what the kernel is told besides:
 * that, and the answer to an interrupt that came too late, has another number or none.
 */
static ssize_t hook_writev(int fd, struct iovec *iov, int count, void *userdata)
{
	const struct fuse_in_header *in = current ? (const void *)current->request : NULL;
	const struct fuse_out_header *out = iov[0].iov_base;
	struct fuse_init_out init;

	if (in && out->unique == in->unique)
		measure_answer(current, out);
	if (in && over_ring && out->unique == in->unique) {
		ring_answer(current, iov, count);
		return out->len;
	}
	if (in && in->opcode == FUSE_INIT && !out->error && count == 2 && iov[1].iov_len == sizeof(init)) {
		memcpy(&init, iov[1].iov_base, sizeof(init));
		init_answer(current->front, transport_argument(), &init);
		iov[1].iov_base = &init;
	}
	return writev(fd, iov, count);
}

/* libfuse wants one, but its own receiving is never called. */
static ssize_t hook_read(int fd, void *buffer, size_t length, void *userdata)
{
	return read(fd, buffer, length);
}

int transport_hook(struct front *front)
{
	static const struct fuse_custom_io hooks = { .writev = hook_writev, .read = hook_read };

	front->fd = fuse_session_fd(front->session);
	return fuse_session_custom_io(front->session, &hooks, front->fd);
}

static ssize_t receive(struct front_worker *worker)
{
	ssize_t length;

	if (worker->ring) {
		length = ring_receive(worker);
		if (length >= 0 || length == -ENODEV)
			return length;
		worker->ring = NULL;
		worker->entry->request = worker->entry->payload - HEAD;
	}
	do
		length = read(worker->front->fd, worker->entry->request, HEAD + worker->entry->room);
	while (length < 0 && (errno == EINTR || errno == EAGAIN || errno == ENOENT));
	if (length >= 0) {
		measure_begin(worker->entry);
		return length;
	}
	rings_end(worker->front);
	if (errno == ECONNABORTED)
		atomic_store(&worker->front->aborted, true);
	else if (errno != ENODEV)
		log_error("reading requests failed: %s", strerror(errno));
	return -ENODEV;
}

/*
 * What Debian's libfuse does not know yet goes to the handler of what it is made like, which asks transport_opcode():
 * TMPFILE has the arguments and the answer of CREATE, STATX begins with those of GETATTR. (STATX came with Linux 6.6,
 * TMPFILE with 6.1. What libfuse does not know it answers with ENOSYS, and is not asked again.)
 */
static uint32_t opcode_for_libfuse(const struct front *front, uint32_t opcode)
{
	switch (opcode) {
	case OPCODE_TMPFILE:
		return FUSE_CREATE;
	case OPCODE_STATX:
		return front->old_kernel ? opcode : FUSE_GETATTR;
	}
	return opcode;
}

/* syncfs(2), sync(2) and umount(2) of a block device ask for it; libfuse does not know it. */
static void sync_everything(struct front_entry *entry)
{
	const struct fuse_in_header *in = (const void *)entry->request;
	struct fuse_out_header out = { .len = sizeof(out), .unique = in->unique };
	struct iovec iov = { &out, sizeof(out) };

	out.error = fs_sync(entry->front->fs);
	if (hook_writev(entry->front->fd, &iov, 1, NULL) != sizeof(out))
		log_debug("syncfs not answered: %s", strerror(errno));
}

static void carry_out(struct front_entry *entry, size_t length)
{
	struct fuse_in_header *in = (void *)entry->request;
	struct fuse_buf request = { .size = length, .mem = entry->request, .fd = -1 };

	if (in->opcode == OPCODE_SYNCFS) {
		sync_everything(entry);
		return;
	}
	if (in->opcode == FUSE_DESTROY)
		front_last_request(entry->front);
	in->opcode = opcode_for_libfuse(entry->front, in->opcode);
	fuse_session_process_buf(entry->front->session, &request);
}

/*
 * Where requests come over rings, forgets come here, and but for the odd interrupt nothing else. Nobody waits for one:
 * those that come within a moment are taken together, and meanwhile the kernel has nobody to wake.
 */
static void gather_forgets(struct front_worker *worker)
{
	struct front *front = worker->front;

	if (worker->ring || !front->ring_count || atomic_load(&front->rings_refused) ||
	    (worker->entry->opcode != FUSE_FORGET && worker->entry->opcode != FUSE_BATCH_FORGET))
		return;
	mutex_lock(&front->lock);
	cond_wait_until(&front->moved, &front->lock, clock_now_ns() + FORGETS_GATHER_NS);
	mutex_unlock(&front->lock);
}

bool transport_awaited(const struct front_entry *entry)
{
	uint32_t opcode = entry->opcode;

	return opcode != FUSE_RELEASE && opcode != FUSE_RELEASEDIR && opcode != FUSE_FORGET &&
	       opcode != FUSE_BATCH_FORGET;
}

/* Whoever ends the mount sees that it is busy, or it sees that the end has come. */
bool transport_busy(struct front_entry *entry)
{
	if (!atomic_exchange(&entry->busy, true) && transport_awaited(entry))
		poll_awaited(&entry->front->poll, 1);
	latency_request(entry->front->latency, atomic_load_explicit(&entry->began_ns, memory_order_relaxed));
	return !atomic_load(&entry->front->last);
}

void transport_idle(struct front_entry *entry)
{
	measure_end(entry);
	if (atomic_exchange(&entry->busy, false) && transport_awaited(entry))
		poll_awaited(&entry->front->poll, -1u);
	if (atomic_load(&entry->front->last))
		front_worker_moved(entry->front);
}

int transport_serve_one(struct front_worker *worker)
{
	ssize_t length = receive(worker);
	struct front_entry *entry = worker->entry; /* which one, receiving decides */
	const struct fuse_in_header *in;

	if (length < 0)
		return (int)length;
	in = (const void *)entry->request;
	log_debug("request op=%u unique=%llu node=%llu bytes=%u uid=%u pid=%u", in->opcode,
		  (unsigned long long)in->unique, (unsigned long long)in->nodeid, in->len, in->uid, in->pid);
	current = entry;
	over_ring = worker->ring;
	if (transport_busy(entry))
		carry_out(entry, (size_t)length);
	transport_idle(entry);
	atomic_fetch_add_explicit(&worker->requests, 1, memory_order_relaxed);
	gather_forgets(worker);
	return 0;
}

void transport_run(void *worker)
{
	while (!transport_serve_one(worker))
		;
}
