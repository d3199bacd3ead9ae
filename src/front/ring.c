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
 * For that there are more threads than entries.
 *
 * The kernel holds back all requests between its INIT, where this was agreed, and the first entry of the last queue.
 * So the rings are there before that answer; if it refuses an entry, it goes back to /dev/fuse by itself, and so does
 * the thread. Forgets and interrupts always come there, so that there are readers in any case.
 */
#include "front_private.h"

#include "mirrorfs/base/clock.h"
#include "mirrorfs/base/log.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <sched.h>
#include <stdio.h>
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

#define SHARE_LEAST 4 /* entries of a processor: a few that wait may not be all */
#define SHARE_MOST 32u
#define STANDBY 2u /* threads of a processor beyond its entries, as a leg may be slow to give back what a ring had */

#define LONG_BYTES (64u << 10)
#define CROWD 4u /* reads at a time: there is work for more processors than one */
#define LONE 32u /* reads one at a time, one after another: the crowd is over */
#define PIECE 4u /* requests begun and answered before the kernel is told of them */

/* Where a thread runs: on the processor of its queue, where there is room, or on any other. */
enum place { HOME, ANYWHERE, ELSEWHERE, PLACES };

/* Of a processor. */
struct ring_queue {
	struct mutex lock; /* RANK_LEAF */
	struct ring *reader; /* it began reads when nobody else did; perhaps it has none now */
	TAILQ_HEAD(, ring) idle; /* without any entry */
	struct entry_list waiting; /* for one that is */
	bool over;
};

struct ring {
	struct leg_ring *legs;
	struct ring_queue *queue;
	struct front_worker *worker; /* once its thread runs */
	unsigned int cpu; /* the number of the queue, too */
	bool begins; /* with an entry */
	cpu_set_t places[PLACES];
	enum place place;
	uint64_t began_ns; /* what it carried out, if that was awaited; 0: nothing since it looked for work */
	unsigned int lone; /* reads that came while none was under way, since the last crowd */
	bool entered, entering;
	int refused; /* why the kernel did not take the entry */
	struct entry_list ready; /* requests that came */
	struct entry_list ended; /* reads */
	unsigned int untold; /* of them, since the kernel was last entered */
	unsigned int fetching; /* entries that the kernel has */
	bool was_reader;
	_Atomic unsigned int reading; /* entries whose reads are under way */
	/* under the queue's lock */
	struct entry_list inbox; /* what others have for this thread */
	bool idle;
	TAILQ_ENTRY(ring) idle_link;
	_Atomic bool asleep; /* it is to be woken for that */
};

static _Thread_local struct ring *mine;

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

static void entry_came(void *context, uint64_t data, int result);

static int ring_create(struct front *front, struct ring *ring, unsigned int cpu, bool begins)
{
	ring->cpu = cpu;
	ring->begins = begins;
	ring->queue = &front->ring_queues[cpu];
	STAILQ_INIT(&ring->ready);
	STAILQ_INIT(&ring->ended);
	STAILQ_INIT(&ring->inbox);
	ring->legs = leg_ring_create(front->ring_entries, entry_came, ring);
	return ring->legs ? 0 : -ENOMEM;
}

static int queues_create(struct front *front)
{
	front->ring_queues = calloc(CPU_SETSIZE, sizeof(*front->ring_queues));
	if (!front->ring_queues)
		return -ENOMEM;
	for (unsigned int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		struct ring_queue *queue = &front->ring_queues[cpu];

		mutex_init(&queue->lock, RANK_LEAF);
		TAILQ_INIT(&queue->idle);
		STAILQ_INIT(&queue->waiting);
	}
	return 0;
}

/* Entries of a processor: as many requests of all sizes as there is memory for, within reason. */
static unsigned int share_of(const struct front *front, unsigned int processors)
{
	unsigned int share = (unsigned int)(front->buffer_bytes / FRONT_IO_MAX) / processors;

	if (share > SHARE_MOST)
		share = SHARE_MOST;
	if (share < front->threads / processors)
		share = front->threads / processors;
	return share < SHARE_LEAST ? SHARE_LEAST : share;
}

/* Each possible processor has a queue that wants an entry; most are where requests can come from now. */
int rings_create(struct front *front)
{
	unsigned int share, standby, entries;
	cpu_set_t possible, online, ours;
	int error = 0;

	if (!cpus_listed("/sys/devices/system/cpu/possible", &possible) ||
	    !cpus_listed("/sys/devices/system/cpu/online", &online))
		return -ENOSYS;
	CPU_AND(&online, &online, &possible);
	share = share_of(front, (unsigned int)CPU_COUNT(&online));
	standby = STANDBY * (unsigned int)CPU_COUNT(&online);
	entries = (unsigned int)(CPU_COUNT(&possible) + (int)(share - 1) * CPU_COUNT(&online));
	if (entries > front->buffer_bytes / FRONT_IO_LEAST)
		return -E2BIG;
	front->ring_entries = entries;
	ours = online;
	if (!sched_getaffinity(0, sizeof(ours), &ours))
		CPU_AND(&ours, &ours, &online);
	front->poll.processors = (unsigned int)CPU_COUNT(&ours);
	front->rings = calloc(entries + standby, sizeof(*front->rings));
	error = front->rings ? queues_create(front) : -ENOMEM;
	for (unsigned int cpu = 0; cpu < CPU_SETSIZE && !error; cpu++) {
		unsigned int with = CPU_ISSET(cpu, &online) ? share : CPU_ISSET(cpu, &possible) ? 1 : 0;
		unsigned int wanted = with + (CPU_ISSET(cpu, &online) ? STANDBY : 0);

		for (unsigned int i = 0; i < wanted && !error; i++) {
			error = ring_create(front, &front->rings[front->ring_count], cpu, i < with);
			front->ring_count += !error;
		}
	}
	if (error)
		rings_destroy(front);
	return error;
}

void rings_destroy(struct front *front)
{
	for (; front->ring_count; front->ring_count--) {
		struct ring *ring = &front->rings[front->ring_count - 1];

		if (ring->legs)
			leg_ring_destroy(ring->legs);
	}
	for (unsigned int cpu = 0; front->ring_queues && cpu < CPU_SETSIZE; cpu++)
		mutex_fini(&front->ring_queues[cpu].lock);
	free(front->ring_queues);
	free(front->rings);
	front->ring_queues = NULL;
	front->rings = NULL;
}

struct ring *rings_at(struct front *front, unsigned int i)
{
	return i < front->ring_count ? &front->rings[i] : NULL;
}

bool ring_has_entry(const struct ring *ring)
{
	return ring->begins;
}

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

/* The kernel gives an entry back: with a request, or because there are no more. */
static void entry_came(void *context, uint64_t data, int result)
{
	struct front_entry *entry = (struct front_entry *)(uintptr_t)(data & ~(uint64_t)LEG_RING_OTHER);
	struct ring *ring = context;

	ring->fetching--;
	if (!result) {
		assemble(entry);
		measure_begin(entry);
		poll_request(&entry->front->poll, atomic_load_explicit(&entry->began_ns, memory_order_relaxed));
		entry->ended = entry->may_wait = false;
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

void rings_end(struct front *front)
{
	for (unsigned int i = 0; i < front->ring_count; i++) {
		struct ring *ring = &front->rings[i];

		mutex_lock(&ring->queue->lock);
		ring->queue->over = true;
		if (ring->legs)
			leg_ring_wake(ring->legs);
		mutex_unlock(&ring->queue->lock);
	}
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
		struct ring *to = TAILQ_FIRST(&queue->idle);

		given = to || others;
		entry->may_wait = true;
		if (to) {
			TAILQ_REMOVE(&queue->idle, to, idle_link);
			to->idle = false;
			give(to, entry);
		} else if (others) {
			STAILQ_INSERT_TAIL(&queue->waiting, entry, link);
		}
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
static void poll_or_not(struct ring *ring)
{
	struct front *front = ring->worker->front;
	struct poll *poll = &front->poll;
	bool polls = poll->on;

	if (ring->began_ns)
		polls = poll_goes_on(poll, leg_ring_disturbed(ring->legs), ring->began_ns, clock_now_ns());
	ring->began_ns = 0;
	polls = polls && ring->fetching;
	if (polls != (ring->place == ELSEWHERE))
		polls = go(ring, polls ? ELSEWHERE : HOME) && polls;
	if (polls && poll->turn != ring)
		poll->turn = ring;
	leg_ring_poll(ring->legs, polls ? poll->most_ns : 0, &poll->turn, ring);
}

/* False: there is nothing, and there will be nothing. */
static bool await(struct ring *ring)
{
	struct ring_queue *queue = ring->queue;
	bool entries = ring->fetching || atomic_load(&ring->reading), over;

	mutex_lock(&queue->lock);
	look_for_work_locked(ring, entries || leg_ring_busy(ring->legs));
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
		poll_or_not(ring);
		leg_ring_turn(ring->legs);
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
	prepare(ring, entry, COMMAND_COMMIT_AND_FETCH);
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

/* ---- what no program waits for (but on block devices, with an older kernel) ---- */

/*
 * Carried out here, by whoever gets it: the program has gone on, and its next request goes to another thread, which has
 * to be woken, if this entry is not back by then. It does not wait.
 */
static void release(struct ring *ring, struct front_entry *entry)
{
	const struct fuse_in_header *in = (const void *)entry->request;
	const struct fuse_release_in *release_in = (const void *)(in + 1);
	struct fuse_out_header out = { .len = sizeof(out), .unique = in->unique };

	if (transport_busy(entry))
		ops_release(entry->front, release_in->fh);
	finish(ring, entry, &out, 0);
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
		if (entry->ended)
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
		prepare(ring, worker->entry, COMMAND_COMMIT_AND_FETCH);
	}
	leg_ring_collect(ring->legs, true);
	worker->entry = next_entry(ring);
	leg_ring_collect(ring->legs, false);
	if (!worker->entry)
		return -ENODEV;
	begin(ring, worker->entry);
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
