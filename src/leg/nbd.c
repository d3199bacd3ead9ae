/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * NBD: a leg that another machine, or another process, serves (leg-nbd.so; libnbd enters here and in
 * nbd_connection.c).
 *
 * One thread has it all: the connections, what is under way, what waits. Whoever submits only queues, and wakes it.
 * Where the server says that its connections are as one (multi-conn: a flush on one is good for what was answered on
 * all) there are several, else one.
 *
 * Promise
 *  - A request that may change the export is answered by the server, or given back only when it is known that it can
 *    change nothing any more (nbd_connection.c): so a leg that was given up never has an old write over a new one.
 *  - What a leg was told to have written is there, or the leg is lost: a server may have been another one behind a
 *    connection that was made anew, and have forgotten what it had not flushed. So a connection is made anew only where
 *    nothing was, and none of the writes was under way. Then nobody notices: who waits does so for NBD_PATIENCE_NS at
 *    most, well within a leg's time.
 *  - Once it is lost it stays so. To come back it is opened anew, and looked at as a leg that was away (leg_lost()).
 *
 * I13: an NBD server knows no lock. On this machine a name that only one process can have stands for it, until that
 * process has ended; about other machines see mirrorfs(7).
 */
#include "nbd_private.h"

#include "mirrorfs/base/clock.h"
#include "mirrorfs/base/iobuf.h"
#include "mirrorfs/base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define NBD_OPEN_NS (15 * NSEC_PER_SEC)
#define NBD_PATIENCE_NS (3 * NSEC_PER_SEC)
#define NBD_TRIM_MAX (UINT64_C(1) << 30) /* of one part */
#define NBD_ZERO_MAX (UINT64_C(16) << 20)

/* ---- state ---- */

bool nbd_is_lost(struct nbd_leg *nbd)
{
	bool lost;

	mutex_lock(&nbd->leg.lock);
	lost = nbd->lost;
	mutex_unlock(&nbd->leg.lock);
	return lost;
}

void nbd_lose(struct nbd_leg *nbd, const char *format, ...)
{
	char why[LEG_WHY_MAX];
	va_list args;
	bool first;

	va_start(args, format);
	vsnprintf(why, sizeof(why), format, args);
	va_end(args);
	mutex_lock(&nbd->leg.lock);
	first = !nbd->lost;
	if (first)
		memcpy(nbd->why, why, sizeof(why));
	nbd->lost = true;
	mutex_unlock(&nbd->leg.lock);
	if (first)
		log_warn("%s: %s", nbd->leg.path, why);
}

void nbd_opened(struct nbd_leg *nbd, int code, const char *format, ...)
{
	struct error said = { "" };
	va_list args;

	va_start(args, format);
	vsnprintf(said.text, sizeof(said.text), format, args);
	va_end(args);
	mutex_lock(&nbd->leg.lock);
	if (!nbd->settled) {
		nbd->code = code;
		nbd->said = said;
		nbd->settled = true;
		nbd->open = !code;
		cond_signal(&nbd->opened);
	}
	mutex_unlock(&nbd->leg.lock);
}

bool nbd_changes(const struct nbd_task *task)
{
	return task->kind == NBD_WRITE || task->kind == NBD_TRIM || task->kind == NBD_ZERO;
}

bool nbd_forces(const struct nbd_leg *nbd, const struct nbd_task *task)
{
	return nbd->export.fua && (task->durable || !nbd->export.flush);
}

/* ---- tasks ---- */

static void complete(struct nbd_task *task, int error)
{
	struct leg_io *io = task->io;
	bool own = task->own;

	free(task);
	if (!own) {
		leg_complete(io, error, io->bytes);
		return;
	}
	io->error = error;
	io->done(io);
}

static void task_wait(struct nbd_leg *nbd, struct nbd_task *task)
{
	task->since_ns = clock_now_ns();
	TAILQ_INSERT_TAIL(&nbd->waiting, task, entry);
}

/* What NBD says, in our words. */
static int error_of(int error)
{
	return error == ESHUTDOWN ? -ENOTCONN : -error;
}

void nbd_extent(struct nbd_task *task, uint64_t length, bool hole)
{
	task->part = length < task->io->length ? length : task->io->length;
	task->io->flags = hole;
}

static void finish(struct nbd_leg *nbd, struct nbd_task *task)
{
	struct leg_io *io = task->io;

	if (task->error == ENOTCONN && !nbd_changes(task) && !nbd_is_lost(nbd)) {
		task_wait(nbd, task);
		return;
	}
	if (task->error) {
		complete(task, error_of(task->error));
		return;
	}
	io->bytes += task->part;
	if (task->kind == NBD_FLUSH && task->changes > nbd->durable)
		nbd->durable = task->changes;
	/* What a trim leaves undone nobody misses. */
	if (nbd_changes(task) && task->kind != NBD_TRIM && !nbd_forces(nbd, task))
		nbd->changes++;
	if (task->kind != NBD_FLUSH && task->kind != NBD_HOLE && io->bytes < io->length) {
		task_wait(nbd, task);
	} else if (task->kind == NBD_WRITE && task->durable && !nbd->export.fua) {
		task->kind = NBD_FLUSH;
		task->part = 0;
		task_wait(nbd, task);
	} else {
		complete(task, 0);
	}
}

/* The connection that has least to do; NULL: none stands. */
static struct nbd_connection *connection_free(struct nbd_leg *nbd)
{
	struct nbd_connection *best = NULL;

	for (unsigned int i = 0; i < NBD_CONNECTIONS; i++) {
		struct nbd_connection *connection = &nbd->connection[i];

		if (connection->state == NBD_READY && (!best || connection->count < best->count))
			best = connection;
	}
	return best;
}

static void part_set(const struct nbd_leg *nbd, struct nbd_task *task)
{
	uint64_t left = task->io->length - task->io->bytes;
	uint64_t most = task->kind == NBD_TRIM || task->kind == NBD_HOLE ? NBD_TRIM_MAX :
			task->kind == NBD_ZERO				 ? NBD_ZERO_MAX :
									   nbd->export.max_io;

	task->part = task->kind == NBD_FLUSH ? 0 : left < most ? left : most;
	task->changes = nbd->changes;
}

static bool is_beyond(const struct nbd_leg *nbd, const struct nbd_task *task)
{
	return task->kind != NBD_FLUSH && task->io->offset + task->io->length > nbd->export.size_bytes;
}

static void issue(struct nbd_leg *nbd, uint64_t now_ns)
{
	bool lost = nbd_is_lost(nbd);
	struct nbd_task *task;

	while ((task = TAILQ_FIRST(&nbd->waiting))) {
		struct nbd_connection *connection = lost ? NULL : connection_free(nbd);

		if (!lost && !connection && now_ns < task->since_ns + NBD_PATIENCE_NS)
			return;
		TAILQ_REMOVE(&nbd->waiting, task, entry);
		if (!connection) {
			nbd_lose(nbd, "its server is gone: no connection in %" PRIu64 " seconds",
				 (uint64_t)(NBD_PATIENCE_NS / NSEC_PER_SEC));
			lost = true;
			complete(task, -ENOTCONN);
			continue;
		}
		part_set(nbd, task);
		if (task->kind == NBD_FLUSH && !nbd->export.flush)
			complete(task, 0); /* each write was durable when it was answered */
		else if (is_beyond(nbd, task))
			complete(task, -ENXIO);
		else if (!nbd_connection_issue(connection, task))
			complete(task, -task->error);
	}
}

/* ---- the thread ---- */

/* Until when it may sleep: what is due next. */
static uint64_t next_ns(const struct nbd_leg *nbd)
{
	const struct nbd_task *first = TAILQ_FIRST(&nbd->waiting);
	uint64_t next = first ? first->since_ns + NBD_PATIENCE_NS : CLOCK_NEVER;

	for (unsigned int i = 0; i < NBD_CONNECTIONS; i++) {
		const struct nbd_connection *connection = &nbd->connection[i];

		if (connection->state != NBD_READY && connection->due_ns < next)
			next = connection->due_ns;
	}
	return next;
}

static void sleep_until(struct nbd_leg *nbd, uint64_t until_ns)
{
	struct nbd_connection *of[NBD_CONNECTIONS];
	struct pollfd polls[NBD_CONNECTIONS + 1];
	uint64_t now_ns = clock_now_ns(), left_ns = until_ns > now_ns ? until_ns - now_ns : 0;
	int msec = until_ns == CLOCK_NEVER ? -1 : (int)(left_ns / NSEC_PER_MSEC) + 1;
	eventfd_t woken;
	nfds_t count = 0;

	for (unsigned int i = 0; i < NBD_CONNECTIONS; i++) {
		of[count] = &nbd->connection[i];
		count += nbd_connection_polls(&nbd->connection[i], &polls[count]);
	}
	polls[count] = (struct pollfd){ .fd = nbd->wake_fd, .events = POLLIN };
	if (poll(polls, count + 1, left_ns ? msec : 0) <= 0)
		return;
	for (nfds_t i = 0; i < count; i++) {
		if (polls[i].revents)
			nbd_connection_turn(of[i], polls[i].revents);
	}
	if (polls[count].revents)
		(void)!eventfd_read(nbd->wake_fd, &woken);
}

/* Takes what was queued. False: it is to end. */
static bool take(struct nbd_leg *nbd)
{
	struct nbd_tasks taken = TAILQ_HEAD_INITIALIZER(taken);
	struct nbd_task *task;
	bool give_up, stop;

	mutex_lock(&nbd->leg.lock);
	TAILQ_CONCAT(&taken, &nbd->queue, entry);
	nbd->woken = false;
	give_up = nbd->giving_up;
	nbd->giving_up = false;
	stop = nbd->stopping || nbd->left || (nbd->settled && nbd->code);
	mutex_unlock(&nbd->leg.lock);
	while ((task = TAILQ_FIRST(&taken))) {
		TAILQ_REMOVE(&taken, task, entry);
		task_wait(nbd, task);
	}
	if (give_up) {
		nbd_lose(nbd, "it was given up");
		for (unsigned int i = 0; i < NBD_CONNECTIONS; i++)
			nbd_connection_drop(&nbd->connection[i]);
	}
	return !stop;
}

static void tend(struct nbd_leg *nbd, uint64_t now_ns)
{
	unsigned int count = nbd->open && nbd->export.many && !nbd->single ? NBD_CONNECTIONS : 1;

	for (unsigned int i = 0; i < NBD_CONNECTIONS; i++)
		if (i < count || nbd->connection[i].state != NBD_IDLE)
			nbd_connection_tend(&nbd->connection[i], now_ns);
}

static void work(struct nbd_leg *nbd)
{
	uint64_t now_ns = clock_now_ns();
	struct nbd_task *task;

	tend(nbd, now_ns);
	issue(nbd, now_ns);
	/* One that was lost just now keeps what was under way. */
	tend(nbd, now_ns);
	while ((task = TAILQ_FIRST(&nbd->answered))) {
		TAILQ_REMOVE(&nbd->answered, task, entry);
		finish(nbd, task);
	}
}

static void nbd_run(void *arg)
{
	struct nbd_leg *nbd = arg;

	while (take(nbd)) {
		work(nbd);
		sleep_until(nbd, next_ns(nbd));
	}
	for (unsigned int i = 0; i < NBD_CONNECTIONS; i++)
		nbd_connection_end(&nbd->connection[i]);
	if (nbd->left && nbd->lock_fd >= 0)
		close(nbd->lock_fd);
}

/* ---- the leg ---- */

static void wake_locked(struct nbd_leg *nbd)
{
	if (!nbd->woken)
		(void)!eventfd_write(nbd->wake_fd, 1);
	nbd->woken = true;
}

static int task_queue(struct nbd_leg *nbd, enum nbd_kind kind, struct leg_io *io, bool own)
{
	struct nbd_task *task = calloc(1, sizeof(*task));

	if (!task)
		return -ENOMEM;
	task->nbd = nbd;
	task->io = io;
	task->kind = kind;
	task->own = own;
	task->durable = kind == NBD_WRITE && io->flags & LEG_DSYNC;
	mutex_lock(&nbd->leg.lock);
	TAILQ_INSERT_TAIL(&nbd->queue, task, entry);
	wake_locked(nbd);
	mutex_unlock(&nbd->leg.lock);
	return 0;
}

static int nbd_submit(struct leg *leg, struct leg_io *io)
{
	static const enum nbd_kind kinds[LEG_OPS] = {
		[LEG_READ] = NBD_READ, [LEG_WRITE] = NBD_WRITE, [LEG_FLUSH] = NBD_FLUSH, [LEG_DISCARD] = NBD_TRIM
	};

	return task_queue((struct nbd_leg *)leg, kinds[io->op], io, false);
}

static int nbd_refresh(struct leg *leg)
{
	return nbd_is_lost((struct nbd_leg *)leg) ? -ENXIO : 0;
}

static void call_done(struct leg_io *io)
{
	leg_wait_done(io->context);
}

static int call(struct nbd_leg *nbd, enum nbd_kind kind, struct leg_io *io)
{
	struct leg_wait wait;
	int error;

	io->done = call_done;
	io->context = &wait;
	leg_wait_begin(&wait);
	error = task_queue(nbd, kind, io, true);
	if (error)
		leg_wait_done(&wait);
	leg_wait(&wait);
	return error ? error : io->error;
}

/* What the server says to be a hole gets zeros that it is to keep room for. Where it cannot tell, there is no more. */
static int nbd_allocate(struct leg *leg, uint64_t offset, uint64_t length)
{
	struct nbd_leg *nbd = (struct nbd_leg *)leg;
	int error = 0;

	if (!nbd->export.holes || !nbd->export.zero)
		return 0;
	while (length && !error) {
		struct leg_io hole = { .offset = offset, .length = length };
		struct leg_io zero = { .offset = offset };

		error = call(nbd, NBD_HOLE, &hole);
		if (!error && !hole.bytes)
			error = -EIO;
		zero.length = hole.bytes;
		if (!error && hole.flags)
			error = call(nbd, NBD_ZERO, &zero);
		offset += hole.bytes;
		length -= hole.bytes;
	}
	return error == -EOPNOTSUPP || error == -EINVAL ? 0 : error;
}

static bool nbd_lost(struct leg *leg, char *why)
{
	struct nbd_leg *nbd = (struct nbd_leg *)leg;
	bool lost;

	mutex_lock(&leg->lock);
	lost = nbd->lost;
	if (lost)
		memcpy(why, nbd->why, sizeof(nbd->why));
	mutex_unlock(&leg->lock);
	return lost;
}

static int nbd_give_up(struct leg *leg)
{
	struct nbd_leg *nbd = (struct nbd_leg *)leg;

	mutex_lock(&leg->lock);
	nbd->giving_up = true;
	wake_locked(nbd);
	mutex_unlock(&leg->lock);
	return 0;
}

static void nbd_free(struct nbd_leg *nbd)
{
	if (nbd->wake_fd >= 0)
		close(nbd->wake_fd);
	if (nbd->lock_fd >= 0)
		close(nbd->lock_fd);
	cond_fini(&nbd->opened);
	leg_fini(&nbd->leg);
	free(nbd);
}

static void nbd_close_leg(struct leg *leg)
{
	struct nbd_leg *nbd = (struct nbd_leg *)leg;

	mutex_lock(&leg->lock);
	nbd->stopping = true;
	wake_locked(nbd);
	mutex_unlock(&leg->lock);
	thread_join(&nbd->thread);
	nbd_free(nbd);
}

static const struct leg_ops nbd_ops = {
	.name = "nbd",
	.submit = nbd_submit,
	.refresh = nbd_refresh,
	.allocate = nbd_allocate,
	.close = nbd_close_leg,
	.lost = nbd_lost,
	.give_up = nbd_give_up,
};

/* ---- opening ---- */

static int lock_take(const char *uri, int *fd, struct error *error)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	uint64_t hash = UINT64_C(0xcbf29ce484222325);
	socklen_t length;

	/* FNV-1a: a URI may be longer than a name. */
	for (const char *at = uri; *at; at++)
		hash = (hash ^ (unsigned char)*at) * UINT64_C(0x100000001b3);
	length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
			     (size_t)snprintf(name.sun_path + 1, sizeof(name.sun_path) - 1,
					      "mirrorfs-leg-%016" PRIx64, hash));
	*fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (*fd >= 0 && !bind(*fd, (struct sockaddr *)&name, length))
		return 0;
	if (*fd >= 0 && errno == EADDRINUSE) {
		close(*fd);
		*fd = -1;
		return error_set(error, -EBUSY, "%s is in use by another mirrorfs of this machine", uri);
	}
	return error_set(error, -errno, "%s: cannot lock: %s", uri, strerror(errno));
}

static struct nbd_leg *nbd_create_leg(const char *uri, const char *address, const struct leg_options *options)
{
	struct nbd_leg *nbd = calloc(1, sizeof(*nbd));

	if (!nbd || leg_init(&nbd->leg, &nbd_ops, address, uri)) {
		free(nbd);
		return NULL;
	}
	cond_init(&nbd->opened);
	nbd->lock_fd = -1;
	nbd->read_only = nbd->leg.read_only = options->read_only || options->shared;
	nbd->single = options->shared;
	TAILQ_INIT(&nbd->queue);
	TAILQ_INIT(&nbd->waiting);
	TAILQ_INIT(&nbd->answered);
	for (unsigned int i = 0; i < NBD_CONNECTIONS; i++)
		nbd_connection_init(&nbd->connection[i], nbd);
	nbd->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (nbd->wake_fd >= 0)
		return nbd;
	nbd_free(nbd);
	return NULL;
}

static void geometry_set(struct nbd_leg *nbd)
{
	nbd->leg.geometry = (struct leg_geometry){
		.size_bytes = nbd->export.size_bytes,
		.block_size = nbd->export.block_size,
		.mem_align = 1,
		.max_io = IOBUF_MAX,
		.rotational = true,
		.elsewhere = true,
		.shared = true,
		.direct = true,
		.discard = nbd->export.trim && !nbd->read_only,
	};
}

/* 0 or -errno told. What does not answer in time is left: its thread lets go when it is answered, and stays. */
static int opened_wait(struct nbd_leg *nbd, struct error *error)
{
	uint64_t until_ns = clock_now_ns() + NBD_OPEN_NS;
	int code = -ETIMEDOUT;

	mutex_lock(&nbd->leg.lock);
	while (!nbd->settled && cond_wait_until(&nbd->opened, &nbd->leg.lock, until_ns))
		;
	if (nbd->settled) {
		code = nbd->code;
		if (code)
			error_set(error, code, "%s", nbd->said.text);
	} else {
		nbd->left = true;
		wake_locked(nbd);
		error_set(error, code, "%s: its server does not answer", nbd->leg.path);
	}
	mutex_unlock(&nbd->leg.lock);
	return code;
}

static int nbd_open(const char *uri, const char *address, const struct leg_options *options, struct leg **leg,
		    struct error *error)
{
	struct nbd_leg *nbd = nbd_create_leg(uri, address, options);
	int code = 0;

	if (!nbd)
		return error_set(error, -ENOMEM, "%s: out of memory", uri);
	if (!options->shared)
		code = lock_take(uri, &nbd->lock_fd, error);
	if (!code) {
		code = thread_start(&nbd->thread, "leg-nbd", nbd_run, nbd);
		if (code)
			error_set(error, code, "%s: cannot start a thread: %s", uri, strerror(-code));
	}
	if (code) {
		nbd_free(nbd);
		return code;
	}
	code = opened_wait(nbd, error);
	if (!code) {
		geometry_set(nbd);
		*leg = &nbd->leg;
	} else if (!nbd->left) {
		thread_join(&nbd->thread);
		nbd_free(nbd);
	}
	return code;
}

const struct leg_transport leg_transport = {
	.abi = LEG_TRANSPORT_ABI,
	.leg_size = sizeof(struct leg),
	.version = MIRRORFS_VERSION,
	.open = nbd_open,
};
