/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The other transport: FUSE over io_uring (Linux 6.14, where the fuse module's parameter enable_uring is on). The
 * kernel keeps a queue for each processor and gives a request to the queue of the processor that it was made on. So the
 * threads of a queue are pinned there, and one call answers a request and waits for the next.
 *
 * What wakes no other processor is quick; but a long read or write is copied and summed on one while others idle, so
 * with such a request a thread goes to where there is room. And one that looks for requests itself (poll.c) must not be
 * in the way of who makes them.
 *
 * An entry is a header and the payload behind it, which the kernel writes a request into and reads its answer from. It
 * belongs to whichever thread answered it last: there the next request comes. The kernel takes the entry that was
 * answered last, so that of many threads few are busy where few are needed. The head of the request, which libfuse
 * wants in one piece, is put together in front of the payload: a WRITE's data is not moved, nor is an answer's that was
 * made in the payload.
 *
 * A thread has one ring (leg.h) for entries and for legs. With one entry it carries out whatever comes, to its end. But
 * a short read past the cache goes on by itself, and where many come at a time one thread, the reader of its queue, has
 * them all: whoever else gets one gives it the entry. So it answers many and takes the next with one call. Nobody is
 * kept waiting by that: what may have to wait (all but these and the release of a file) a thread carries out only if it
 * has no other entry and no leg has anything of its ring; else it gives it, with its entry, to a thread that has none.
 * For that there are more threads than entries. One more thread may have two: who looks for requests (poll.c), while it
 * expects the release of a file, see may_park().
 *
 * The kernel holds back all requests between its INIT, where this was agreed, and the first entry of the last queue.
 * So the rings are there before that answer; if it refuses an entry, it goes back to /dev/fuse by itself, and so does
 * the thread. Forgets and interrupts always come there, so that there are readers in any case.
 */
#include "ring.h"

#include "mirrorfs/base/clock.h"
#include "mirrorfs/base/log.h"

#include <assert.h>
#include <errno.h>
#include <liburing.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

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

#define LONG_BYTES (64u << 10)
#define CROWD 4u /* reads at a time: there is work for more processors than one */
#define LONE 32u /* reads one at a time, one after another: the crowd is over */
#define PARKED_MOST 32u /* requests, until the kernel is told of a release in any case */
#define MINOR_6_18 45u /* of the protocol, with Linux 6.18 */
#define PIECE 4u /* requests begun and answered before the kernel is told of them */

static _Thread_local struct ring *mine;

/* ---- the entry ---- */

static struct ring_header *header_of(const struct front_entry *entry)
{
	return (struct ring_header *)entry->memory;
}

static struct io_uring_sqe *prepare(struct ring *ring, struct front_entry *entry, unsigned int command)
{
	struct io_uring_sqe *sqe = leg_ring_sqe(ring->legs);
	struct ring_command *how;

	memset(sqe, 0, 2 * sizeof(*sqe));
	sqe->opcode = IORING_OP_URING_CMD;
	sqe->fd = entry->front->fd;
	sqe->cmd_op = command;
	sqe->user_data = (uintptr_t)entry | LEG_RING_OTHER;
	how = (void *)sqe->cmd;
	how->queue = (uint16_t)ring->cpu;
	how->commit_id = header_of(entry)->commit_id;
	ring->fetching++;
	return sqe;
}

/* Puts the request in one piece, and an error in the place of its answer, for whoever does not answer. */
static void assemble(struct front_entry *entry)
{
	struct ring_header *header = header_of(entry);
	struct fuse_in_header in;
	struct fuse_out_header out = { .len = sizeof(out), .error = -EIO };
	size_t argument;

	memcpy(&in, header->in_out, sizeof(in));
	argument = in.len - sizeof(in) - header->payload_bytes;
	assert(argument <= sizeof(header->argument));
	entry->request = entry->payload - argument - sizeof(in);
	memcpy(entry->request, &in, sizeof(in));
	memcpy(entry->request + sizeof(in), header->argument, argument);
	out.unique = in.unique;
	memcpy(header->in_out, &out, sizeof(out));
	header->payload_bytes = 0;
}

void ring_entry_came(void *context, uint64_t data, int result)
{
	struct front_entry *entry = (struct front_entry *)(uintptr_t)(data & ~(uint64_t)LEG_RING_OTHER);
	struct ring *ring = context;

	ring->fetching--;
	if (!result) {
		assemble(entry);
		measure_begin(entry);
		poll_request(&entry->front->poll, atomic_load_explicit(&entry->began_ns, memory_order_relaxed));
		entry->ended = entry->may_wait = entry->answered = false;
		STAILQ_INSERT_TAIL(&ring->ready, entry, link);
		return;
	}
	if (ring->entering) {
		ring->refused = result;
		return;
	}
	if (result != -ENOTCONN && result != -ECONNABORTED)
		log_error("taking requests over io_uring failed: %s", strerror(-result));
	rings_end(entry->front);
}

static void answer(struct front_entry *entry, const struct fuse_out_header *out, size_t payload_bytes)
{
	struct ring_header *header = header_of(entry);

	memcpy(header->in_out, out, sizeof(*out));
	header->payload_bytes = (uint32_t)payload_bytes;
}

void ring_answer(struct front_entry *entry, const struct iovec *iov, int count)
{
	size_t at = 0;

	for (int i = 1; i < count; i++) {
		assert(iov[i].iov_len <= entry->room - at);
		if (iov[i].iov_base != entry->payload + at)
			memmove(entry->payload + at, iov[i].iov_base, iov[i].iov_len);
		at += iov[i].iov_len;
	}
	answer(entry, iov[0].iov_base, at);
}

/* ---- the thread ---- */

bool ring_has_entry(const struct ring *ring)
{
	return ring->begins;
}

/* A processor that is not there, or not for us, is refused: then the thread stays, or is wherever there is room. */
static bool go(struct ring *ring, enum place place)
{
	bool refused = ring->place != place && sched_setaffinity(0, sizeof(cpu_set_t), &ring->places[place]);

	if (!refused || place != ELSEWHERE)
		ring->place = place;
	return !refused;
}

/* The ring becomes this thread's, and its entry the kernel's: 0, or why it is refused. */
static int enter(struct front_worker *worker)
{
	struct ring *ring = worker->ring;
	struct front_entry *entry = worker->entry;
	struct iovec parts[2];
	struct io_uring_sqe *sqe;

	CPU_SET(ring->cpu, &ring->places[HOME]);
	if (!sched_getaffinity(0, sizeof(cpu_set_t), &ring->places[ANYWHERE])) {
		ring->places[ELSEWHERE] = ring->places[ANYWHERE];
		CPU_CLR(ring->cpu, &ring->places[ELSEWHERE]);
		ring->place = ANYWHERE;
		go(ring, HOME);
	}
	leg_ring_enter(ring->legs);
	ring->entered = true;
	ring->worker = worker;
	mine = ring;
	if (!entry)
		return 0;
	parts[0] = (struct iovec){ entry->memory, sizeof(struct ring_header) };
	parts[1] = (struct iovec){ entry->payload, entry->room };
	sqe = prepare(ring, entry, COMMAND_REGISTER);
	sqe->addr = (uintptr_t)parts;
	sqe->len = 2;
	/* What is refused is refused at once; what is not may already have brought a request. */
	ring->entering = true;
	leg_ring_submit(ring->legs);
	ring->entering = false;
	worker->entry = ring->refused ? entry : NULL;
	return ring->refused;
}

/* ---- who does what ---- */

/* Queue's lock held. */
static void give(struct ring *to, struct front_entry *entry)
{
	STAILQ_INSERT_TAIL(&to->inbox, entry, link);
	if (atomic_load(&to->asleep))
		leg_ring_wake(to->legs);
	atomic_store(&to->asleep, false);
}

/* Queue's lock held. To one without any entry, as soon as there is one. */
static void give_to_idle(struct ring_queue *queue, struct front_entry *entry)
{
	struct ring *to = TAILQ_FIRST(&queue->idle);

	if (!to) {
		STAILQ_INSERT_TAIL(&queue->waiting, entry, link);
		return;
	}
	TAILQ_REMOVE(&queue->idle, to, idle_link);
	to->idle = false;
	give(to, entry);
}

/* True: somebody else has it now. */
static bool given_to_who_may_wait(struct ring *ring, struct front_entry *entry)
{
	struct ring_queue *queue = ring->queue;
	bool others = ring->fetching || atomic_load(&ring->reading) || !STAILQ_EMPTY(&ring->ready);
	bool given = false;

	if (!others && !leg_ring_busy(ring->legs) && !ring->was_reader)
		return false;
	mutex_lock(&queue->lock);
	others |= !STAILQ_EMPTY(&ring->inbox);
	if ((others || leg_ring_busy(ring->legs)) && !queue->over) {
		given = others || !TAILQ_EMPTY(&queue->idle);
		entry->may_wait = true;
		if (given)
			give_to_idle(queue, entry);
	}
	if (!given) {
		if (queue->reader == ring)
			queue->reader = NULL;
		ring->was_reader = false;
	}
	mutex_unlock(&queue->lock);
	return given;
}

/* True: it has reads under way, and has this one now. */
static bool given_to_reader(struct ring *ring, struct front_entry *entry)
{
	struct ring_queue *queue = ring->queue;
	struct ring *reader;
	bool given;

	mutex_lock(&queue->lock);
	reader = queue->reader;
	given = reader && reader != ring && atomic_load(&reader->reading);
	if (given)
		give(reader, entry);
	else
		queue->reader = ring;
	mutex_unlock(&queue->lock);
	ring->was_reader |= !given;
	return given;
}

/* ---- files that are closed ---- */

/*
 * A program that closes a file goes on. If the entry of the release is not back by then, its next request goes to
 * another thread, which has to be woken. So whoever looks for requests carries a release out where it comes in, and
 * where another is expected before long (closing.c), it is to come upon two entries. To have but one for what may wait,
 * the thread parks that of the release, while it looks for requests, until the next is due: then the kernel is told of
 * both answers at a time. Not where the kernel has the program wait: of a block device, before Linux 6.18.
 */
static bool may_park(const struct ring *ring)
{
	const struct front *front = ring->worker->front;

	return ring->place == ELSEWHERE && !ring->parked && closing_expected(&ring->closing) &&
	       (!front->block_device || front->kernel_minor >= MINOR_6_18);
}

static void unpark(struct ring *ring)
{
	prepare(ring, ring->parked, COMMAND_COMMIT_AND_FETCH);
	ring->parked = NULL;
}

/* This thread is going to wait, and is not to have two. */
static void unpark_elsewhere(struct ring *ring)
{
	struct ring_queue *queue = ring->queue;
	struct front_entry *entry = ring->parked;

	if (!entry)
		return;
	if (!ring->fetching && !ring->worker->entry) {
		unpark(ring);
		return;
	}
	mutex_lock(&queue->lock);
	entry->answered = true;
	give_to_idle(queue, entry);
	mutex_unlock(&queue->lock);
	ring->parked = NULL;
}

/* Queue's lock held. Something to do is found, or it is known that there is none. */
static void look_for_work_locked(struct ring *ring, bool has_some)
{
	struct ring_queue *queue = ring->queue;
	struct front_entry *entry;

	STAILQ_CONCAT(&ring->ready, &ring->inbox);
	if (!STAILQ_EMPTY(&ring->ready) || has_some)
		return;
	entry = STAILQ_FIRST(&queue->waiting);
	if (entry) {
		STAILQ_REMOVE_HEAD(&queue->waiting, link);
		STAILQ_INSERT_TAIL(&ring->ready, entry, link);
	} else if (!ring->idle) {
		TAILQ_INSERT_HEAD(&queue->idle, ring, idle_link);
		ring->idle = true;
	}
}

/*
 * The kernel gives the next request to the thread that answered last: so that is the one which looks for it. What no
 * program waited for tells nothing of what comes next.
 */
static bool poll_or_not(struct ring *ring)
{
	struct front *front = ring->worker->front;
	struct poll *poll = &front->poll;
	bool polls = poll->on;

	if (ring->began_ns)
		polls = poll_goes_on(poll, leg_ring_disturbed(ring->legs), ring->began_ns, clock_now_ns());
	ring->began_ns = 0;
	polls = polls && (ring->fetching || ring->parked) && !leg_ring_busy(ring->legs);
	if (polls != (ring->place == ELSEWHERE))
		polls = go(ring, polls ? ELSEWHERE : HOME) && polls;
	if (polls && poll->turn != ring)
		poll->turn = ring;
	return polls;
}

/* True: something has come. */
static bool looks(struct ring *ring)
{
	struct poll *poll = &ring->worker->front->poll;
	bool wants = ring->parked && !ring->fetching, came;

	atomic_store(&ring->wants, wants);
	came = leg_ring_look(ring->legs, poll->most_ns, &poll->turn, ring);
	if (wants) {
		mutex_lock(&ring->queue->lock);
		atomic_store(&ring->wants, false);
		STAILQ_CONCAT(&ring->ready, &ring->inbox);
		mutex_unlock(&ring->queue->lock);
		came |= !STAILQ_EMPTY(&ring->ready);
	}
	if (!came && ring->parked)
		closing_parked(&ring->closing, true);
	return came;
}

/* False: there is nothing, and there will be nothing. */
static bool await(struct ring *ring)
{
	struct ring_queue *queue = ring->queue;
	bool entries = ring->fetching || atomic_load(&ring->reading), over;

	mutex_lock(&queue->lock);
	look_for_work_locked(ring, entries || ring->parked || leg_ring_busy(ring->legs));
	over = STAILQ_EMPTY(&ring->ready) && !entries && queue->over;
	if (over && ring->idle)
		TAILQ_REMOVE(&queue->idle, ring, idle_link);
	if (over && queue->reader == ring)
		queue->reader = NULL;
	atomic_store(&ring->asleep, STAILQ_EMPTY(&ring->ready) && !over);
	mutex_unlock(&queue->lock);
	if (over)
		return false;
	if (STAILQ_EMPTY(&ring->ready)) {
		ring->untold = 0;
		if (!poll_or_not(ring) || !looks(ring)) {
			unpark_elsewhere(ring);
			leg_ring_turn(ring->legs);
		}
		atomic_store(&ring->asleep, false);
	}
	return true;
}

/* ---- reads that go on by themselves ---- */

static void read_done(void *context, ssize_t result)
{
	struct front_entry *entry = context;
	struct ring *ring = entry->ring;

	entry->result = result;
	entry->ended = true;
	if (ring == mine) {
		STAILQ_INSERT_TAIL(&ring->ended, entry, link);
		return;
	}
	mutex_lock(&ring->queue->lock);
	give(ring, entry);
	mutex_unlock(&ring->queue->lock);
}

/* It is what this thread carries out, or has carried out. */
static void begin(struct ring *ring, const struct front_entry *entry)
{
	if (transport_awaited(entry))
		ring->began_ns = atomic_load_explicit(&entry->began_ns, memory_order_relaxed);
}

/* Of a request that does not go through libfuse. */
static void finish(struct ring *ring, struct front_entry *entry, const struct fuse_out_header *out,
		   size_t payload_bytes)
{
	begin(ring, entry);
	answer(entry, out, payload_bytes);
	measure_answer(entry, out);
	transport_idle(entry);
	atomic_fetch_add_explicit(&ring->worker->requests, 1, memory_order_relaxed);
}

static void read_end(struct ring *ring, struct front_entry *entry)
{
	const struct fuse_in_header *in = (const void *)entry->request;
	size_t bytes = entry->result < 0 ? 0 : (size_t)entry->result;
	struct fuse_out_header out = {
		.len = (uint32_t)(sizeof(out) + bytes),
		.error = entry->result < 0 ? (int32_t)entry->result : 0,
		.unique = in->unique,
	};

	atomic_fetch_sub(&ring->reading, 1);
	finish(ring, entry, &out, bytes);
	prepare(ring, entry, COMMAND_COMMIT_AND_FETCH);
	ring->untold++;
}

static bool read_begin(struct ring *ring, struct front_entry *entry)
{
	const struct fuse_in_header *in = (const void *)entry->request;
	const struct fuse_read_in *read = (const void *)(in + 1);
	unsigned int flags = read->flags & O_NOATIME ? FS_READ_PAST | FS_READ_QUIETLY : FS_READ_PAST;

	entry->ring = ring;
	atomic_fetch_add(&ring->reading, 1);
	if (transport_busy(entry) && !fs_read_begin(entry->front->fs, in->nodeid, entry->payload, read->size,
						    read->offset, flags, read_done, entry)) {
		ring->untold++;
		return true;
	}
	atomic_fetch_sub(&ring->reading, 1);
	return false;
}

/*
 * One alone is quickest where its program is; a crowd is not to take turns with it there. To go there and back with
 * each wave of requests would cost more than either.
 */
static void go_by_crowd(struct ring *ring, unsigned int reading)
{
	if (reading >= CROWD)
		ring->lone = 0;
	else if (!reading && ring->lone < LONE)
		ring->lone++;
	if (!ring->lone)
		go(ring, ANYWHERE);
	else if (ring->lone == LONE && ring->place == ANYWHERE)
		go(ring, HOME);
}

/* True: it is under way, here or with the reader. */
static bool goes_on_by_itself(struct ring *ring, struct front_entry *entry)
{
	const struct fuse_in_header *in = (const void *)entry->request;
	const struct fuse_read_in *read = (const void *)(in + 1);
	unsigned int reading;

	if (entry->may_wait || in->opcode != FUSE_READ || !(read->flags & O_DIRECT) || read->size >= LONG_BYTES)
		return false;
	reading = atomic_load(&ring->reading);
	if (!reading && given_to_reader(ring, entry))
		return true;
	go_by_crowd(ring, reading);
	return read_begin(ring, entry);
}

/* It does not wait. */
static void release(struct ring *ring, struct front_entry *entry)
{
	const struct fuse_in_header *in = (const void *)entry->request;
	const struct fuse_release_in *release_in = (const void *)(in + 1);
	struct fuse_out_header out = { .len = sizeof(out), .unique = in->unique };

	if (transport_busy(entry))
		ops_release(entry->front, release_in->fh);
	finish(ring, entry, &out, 0);
	closing_release(&ring->closing);
	if (may_park(ring)) {
		ring->parked = entry;
		ring->parked_for = 0;
		return;
	}
	prepare(ring, entry, COMMAND_COMMIT_AND_FETCH);
	leg_ring_submit(ring->legs);
}

/* ---- taking requests ---- */

/* What came goes before what has ended, so that the legs have something to do meanwhile. */
static struct front_entry *take(struct ring *ring)
{
	struct entry_list *list = STAILQ_EMPTY(&ring->ready) ? &ring->ended : &ring->ready;
	struct front_entry *entry = STAILQ_FIRST(list);

	if (entry)
		STAILQ_REMOVE_HEAD(list, link);
	return entry;
}

/*
 * The next that this thread is to carry out; meanwhile reads begin and end. NULL: there will be none.
 *
 * Many at a time are told of piece by piece: while this thread is busy with a piece, the legs are with the last one and
 * so is whoever has its answers.
 */
static struct front_entry *next_entry(struct ring *ring)
{
	for (;;) {
		struct front_entry *entry;

		if (ring->untold >= PIECE) {
			ring->untold = 0;
			leg_ring_submit(ring->legs);
		}
		entry = take(ring);
		if (!entry) {
			if (!await(ring))
				return NULL;
			continue;
		}
		if (entry->answered)
			prepare(ring, entry, COMMAND_COMMIT_AND_FETCH);
		else if (entry->ended)
			read_end(ring, entry);
		else if (entry->opcode == FUSE_RELEASE)
			release(ring, entry);
		else if (!goes_on_by_itself(ring, entry) && !given_to_who_may_wait(ring, entry))
			return entry;
	}
}

static bool is_long(const struct front_entry *entry)
{
	const struct fuse_in_header *in = (const void *)entry->request;
	const struct fuse_read_in *read = (const void *)(in + 1);

	return in->len >= LONG_BYTES || (in->opcode == FUSE_READ && read->size >= LONG_BYTES);
}

/* True: whoever looks for requests wanted one more, and has it now. */
static bool given_to_who_wants(struct ring *ring, struct front_entry *entry)
{
	struct poll *poll = &entry->front->poll;
	struct ring *poller = poll->on ? (struct ring *)poll->turn : NULL;
	bool given;

	if (!poller || poller == ring || poller->queue != ring->queue || !atomic_load(&poller->wants))
		return false;
	mutex_lock(&ring->queue->lock);
	given = atomic_exchange(&poller->wants, false);
	entry->answered = given;
	if (given)
		give(poller, entry);
	mutex_unlock(&ring->queue->lock);
	return given;
}

/* The answer of what was carried out to its end. */
static void tell(struct ring *ring, struct front_entry *entry)
{
	closing_request(&ring->closing, entry->opcode);
	if (given_to_who_wants(ring, entry))
		return;
	prepare(ring, entry, COMMAND_COMMIT_AND_FETCH);
	if (!ring->parked)
		return;
	closing_parked(&ring->closing, false);
	if (closing_is_next(&ring->closing))
		unpark(ring);
	else if (++ring->parked_for == PARKED_MOST)
		unpark_elsewhere(ring);
}

/* What is known to. */
static bool takes_long(const struct front_entry *entry)
{
	return entry->opcode == FUSE_FSYNC || entry->opcode == FUSE_FSYNCDIR || entry->opcode == OPCODE_SYNCFS ||
	       entry->opcode == FUSE_FALLOCATE || entry->opcode == FUSE_COPY_FILE_RANGE || is_long(entry);
}

ssize_t ring_receive(struct front_worker *worker)
{
	struct ring *ring = worker->ring;

	if (!ring->entered) {
		int error = enter(worker);

		if (error) {
			if (error != -ENOTCONN && error != -ECONNABORTED)
				log_warn("FUSE over io_uring is refused by the kernel: %s", strerror(-error));
			atomic_fetch_add(&worker->front->rings_refused, 1);
			return error;
		}
	} else if (worker->entry) {
		tell(ring, worker->entry);
		worker->entry = NULL;
	}
	leg_ring_collect(ring->legs, true);
	worker->entry = next_entry(ring);
	leg_ring_collect(ring->legs, false);
	if (!worker->entry)
		return -ENODEV;
	begin(ring, worker->entry);
	if (takes_long(worker->entry))
		unpark_elsewhere(ring);
	if (ring->place != ELSEWHERE)
		go(ring, is_long(worker->entry) ? ANYWHERE : HOME);
	return ((const struct fuse_in_header *)worker->entry->request)->len;
}

void ring_leave(struct ring *ring)
{
	struct leg_ring *legs = ring->legs;

	mutex_lock(&ring->queue->lock);
	ring->legs = NULL;
	mutex_unlock(&ring->queue->lock);
	leg_ring_destroy(legs);
}
