/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One connection to an NBD server: made, used, lost.
 *
 * A connection that is lost with writes under way says nothing of them: the server may come to what it has received
 * any time later, over whatever was written since. So they are given back only when it is known that they cannot land:
 *
 *  - The server has closed its end (its FIN or RST was seen, not a time-out of our own kernel's). nbdkit and nbd-server
 *    do that when the last request has ended, and the kernel of a server that was killed when its last thread has.
 *    Where a server closes first and ends what it has begun afterwards, as qemu-nbd does, that is bounded by what its
 *    disk takes: so NBD_SETTLE_NS pass as well.
 *  - Or somebody says so who knows (leg_give_up()).
 *
 * Until then the leg is out and stays out. To have the server close its end, ours is shut for writing, behind what we
 * had sent; the socket itself stays open, through a descriptor of our own, as nobody would see the FIN else, and our
 * kernel would go on sending for a socket that nobody has.
 */
#include "nbd_private.h"

#include "mirrorfs/base/clock.h"
#include "mirrorfs/base/iobuf.h"
#include "mirrorfs/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define NBD_CONNECT_NS (10 * NSEC_PER_SEC) /* for one attempt */
#define NBD_PAUSE_NS (100 * NSEC_PER_MSEC) /* before the second attempt; doubled each time */
#define NBD_PAUSE_MAX_NS (5 * NSEC_PER_SEC)
#define NBD_SETTLE_NS (10 * NSEC_PER_SEC)
#define NBD_END_MSEC 1000 /* for an orderly end */
#define NBD_BLOCK 4096u /* of the mirror */

void nbd_connection_init(struct nbd_connection *connection, struct nbd_leg *nbd)
{
	*connection = (struct nbd_connection){ .nbd = nbd, .fd = -1, .pause_ns = NBD_PAUSE_NS };
	TAILQ_INIT(&connection->flying);
}

static void close_all(struct nbd_connection *connection)
{
	if (connection->handle)
		nbd_close(connection->handle);
	if (connection->fd >= 0)
		close(connection->fd);
	connection->handle = NULL;
	connection->fd = -1;
}

/* What the library says last, without the name of its function, which nobody has called. */
static const char *last_words(void)
{
	const char *said = nbd_get_error(), *colon = said ? strstr(said, ": ") : NULL;

	return colon ? colon + 2 : said ? said : "no reason was given";
}

static void failed(struct nbd_connection *connection, int code, const char *why)
{
	struct nbd_leg *nbd = connection->nbd;

	log_debug("no connection: leg=%s reason=\"%s\"", nbd->leg.path, why);
	if (!nbd->open)
		nbd_opened(nbd, code, "%s: %s", nbd->leg.path, why);
	close_all(connection);
	connection->state = NBD_IDLE;
	connection->due_ns = clock_now_ns() + connection->pause_ns;
	connection->pause_ns *= 2;
	if (connection->pause_ns > NBD_PAUSE_MAX_NS)
		connection->pause_ns = NBD_PAUSE_MAX_NS;
}

/* ---- making ---- */

/*
 * After a cut of the network each attempt to send comes later than the one before: no later than this, where the kernel
 * can. And a machine that vanishes without a word is noticed in the end.
 */
static void socket_set(int fd)
{
	static const struct {
		int option, value;
	} values[] = { { TCP_KEEPIDLE, 60 }, { TCP_KEEPINTVL, 20 }, { TCP_USER_TIMEOUT, 15 * 60 * 1000 },
		       { 44 /* TCP_RTO_MAX_MS, Linux 6.15 */, 5000 } };
	int on = 1;

	if (setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on)))
		return;
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
		(void)setsockopt(fd, IPPROTO_TCP, values[i].option, &values[i].value, sizeof(values[i].value));
}

static int code_of_errno(int error)
{
	switch (error) {
	case EACCES:
	case EPERM:
	case ENOMEM:
	case EINVAL:
		return -error;
	default: /* refused, unreachable, no such name, no such socket: nobody serves that */
		return -ENXIO;
	}
}

static void begin(struct nbd_connection *connection)
{
	struct nbd_leg *nbd = connection->nbd;
	struct nbd_handle *handle = nbd_create();

	connection->handle = handle;
	connection->error = 0;
	snprintf(connection->why, sizeof(connection->why), "its server closed the connection");
	if (!handle || nbd_set_uri_allow_local_file(handle, true) || nbd_set_pread_initialize(handle, false) ||
	    nbd_add_meta_context(handle, LIBNBD_CONTEXT_BASE_ALLOCATION) ||
	    nbd_aio_connect_uri(handle, nbd->leg.path)) {
		failed(connection, code_of_errno(nbd_get_errno()), last_words());
		return;
	}
	connection->state = NBD_CONNECTING;
	connection->due_ns = clock_now_ns() + NBD_CONNECT_NS;
}

static bool has(int answer)
{
	return answer > 0;
}

static int export_read(struct nbd_handle *handle, struct nbd_export *export, const char **why)
{
	int64_t size = nbd_get_size(handle), minimum = nbd_get_block_size(handle, LIBNBD_SIZE_MINIMUM);
	int64_t maximum = nbd_get_block_size(handle, LIBNBD_SIZE_MAXIMUM);

	if (size < 0) {
		*why = last_words();
		return -EIO;
	}
	*export = (struct nbd_export){
		.size_bytes = (uint64_t)size - (uint64_t)size % NBD_BLOCK,
		.block_size = minimum > 512 ? (uint32_t)minimum : 512,
		.max_io = maximum > 0 && maximum < IOBUF_MAX ? (uint32_t)(maximum - maximum % NBD_BLOCK) : IOBUF_MAX,
		.read_only = has(nbd_is_read_only(handle)),
		.flush = has(nbd_can_flush(handle)),
		.fua = has(nbd_can_fua(handle)),
		.trim = has(nbd_can_trim(handle)),
		.zero = has(nbd_can_zero(handle)),
		.holes = has(nbd_can_meta_context(handle, LIBNBD_CONTEXT_BASE_ALLOCATION)),
		.many = has(nbd_can_multi_conn(handle)),
	};
	if (export->block_size > NBD_BLOCK || NBD_BLOCK % export->block_size) {
		*why = "its blocks are larger than 4096 bytes: nbdkit --filter=blocksize serves smaller ones";
		return -EINVAL;
	}
	if (!export->max_io) {
		*why = "it takes no request of 4096 bytes";
		return -EINVAL;
	}
	return 0;
}

static bool export_same(const struct nbd_export *a, const struct nbd_export *b)
{
	return a->size_bytes == b->size_bytes && a->block_size == b->block_size && a->max_io == b->max_io &&
	       a->read_only == b->read_only && a->flush == b->flush && a->fua == b->fua && a->trim == b->trim &&
	       a->zero == b->zero && a->holes == b->holes && a->many == b->many;
}

static void stands(struct nbd_connection *connection)
{
	struct nbd_leg *nbd = connection->nbd;
	struct nbd_export export;
	const char *why = NULL;
	int code = export_read(connection->handle, &export, &why);

	if (!code && !nbd->read_only && export.read_only) {
		code = -EROFS;
		why = "it is served for reading only: -o ro mounts it so";
	}
	if (!code && !nbd->read_only && !export.flush && !export.fua) {
		code = -EINVAL;
		why = "its server cannot say when writes are durable (neither flush nor FUA; nbd-server: flush = true)";
	}
	if (!code && nbd->open && !export_same(&export, &nbd->export)) {
		nbd_lose(nbd, "its server came back with another export");
		code = -ENXIO;
		why = "another export";
	}
	if (code) {
		failed(connection, code, why);
		return;
	}
	connection->state = NBD_READY;
	connection->pause_ns = NBD_PAUSE_NS;
	connection->fd = fcntl(nbd_aio_get_fd(connection->handle), F_DUPFD_CLOEXEC, 0);
	socket_set(connection->fd);
	if (!nbd->open) {
		nbd->export = export;
		nbd_opened(nbd, 0, "%s", "");
	}
}

/* ---- losing ---- */

/* Our own kernel says so, or a router: the server may not even know. */
static bool is_hearsay(int error)
{
	return error == ETIMEDOUT || error == EHOSTUNREACH || error == EHOSTDOWN || error == ENETUNREACH ||
	       error == ENETDOWN || error == ENETRESET || error == ECONNABORTED;
}

/* Nobody will ever say what became of them. */
static void ending_unknown(struct nbd_connection *connection)
{
	log_warn("%s: %u requests were lost with the connection, and its server may yet come to them: the leg stays "
		 "out; way_out=\"stop its server, then mirrorctl detach --force\"",
		 connection->nbd->leg.path, connection->count);
	close_all(connection);
}

static void ending_turn(struct nbd_connection *connection)
{
	char nothing[4096];
	ssize_t got;

	/* An answer that still comes is nobody's: the library is done with this connection. */
	do
		got = recv(connection->fd, nothing, sizeof(nothing), MSG_DONTWAIT);
	while (got > 0);
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got < 0 && is_hearsay(errno)) {
		ending_unknown(connection);
		return;
	}
	connection->due_ns = clock_now_ns() + NBD_SETTLE_NS;
	close_all(connection);
}

static void end_begin(struct nbd_connection *connection)
{
	connection->state = NBD_ENDING;
	connection->due_ns = CLOCK_NEVER;
	nbd_close(connection->handle);
	connection->handle = NULL;
	if (is_hearsay(connection->error)) {
		ending_unknown(connection);
		return;
	}
	(void)shutdown(connection->fd, SHUT_WR);
	ending_turn(connection);
}

/* The library has ended it, and has answered what was under way with ENOTCONN, if it had nothing better. */
static void lost(struct nbd_connection *connection)
{
	struct nbd_leg *nbd = connection->nbd;
	struct nbd_task *task, *next;

	TAILQ_FOREACH_SAFE (task, &nbd->answered, entry, next) {
		if (task->connection != connection || task->error != ENOTCONN || !nbd_changes(task))
			continue;
		TAILQ_REMOVE(&nbd->answered, task, entry);
		TAILQ_INSERT_TAIL(&connection->flying, task, entry);
		connection->count++;
	}
	if (connection->count) {
		nbd_lose(nbd, "the connection was lost with %u writes under way: %.150s", connection->count,
			 connection->why);
		end_begin(connection);
		return;
	}
	if (nbd->changes > nbd->durable)
		nbd_lose(nbd, "the connection was lost, and with it perhaps what was not flushed yet: %.150s",
			 connection->why);
	else
		log_warn("%s: the connection was lost, and is made anew: reason=\"%s\"", nbd->leg.path,
			 connection->why);
	close_all(connection);
	connection->state = NBD_IDLE;
	connection->due_ns = clock_now_ns() + NBD_PAUSE_NS;
}

void nbd_connection_drop(struct nbd_connection *connection)
{
	struct nbd_task *task;

	close_all(connection);
	while ((task = TAILQ_FIRST(&connection->flying))) {
		TAILQ_REMOVE(&connection->flying, task, entry);
		task->error = ENOTCONN;
		TAILQ_INSERT_TAIL(&connection->nbd->answered, task, entry);
	}
	connection->count = 0;
	connection->state = NBD_IDLE;
	connection->due_ns = CLOCK_NEVER;
}

void nbd_connection_end(struct nbd_connection *connection)
{
	struct pollfd poll_fd;
	int left = NBD_END_MSEC / 100;

	if (connection->state == NBD_READY && !nbd_aio_disconnect(connection->handle, 0)) {
		while (left-- > 0 && nbd_connection_polls(connection, &poll_fd)) {
			(void)poll(&poll_fd, 1, 100);
			if (poll_fd.revents)
				nbd_connection_turn(connection, poll_fd.revents);
		}
	}
	nbd_connection_drop(connection);
}

/* ---- using ---- */

static int task_answered(void *context, int *error)
{
	struct nbd_task *task = context;

	TAILQ_REMOVE(&task->connection->flying, task, entry);
	task->connection->count--;
	task->error = *error;
	TAILQ_INSERT_TAIL(&task->nbd->answered, task, entry);
	return 1;
}

static int extent_told(void *context, const char *name, uint64_t offset, uint32_t *entries, size_t count, int *error)
{
	if (count >= 2 && !strcmp(name, LIBNBD_CONTEXT_BASE_ALLOCATION))
		nbd_extent(context, entries[0], entries[1] & LIBNBD_STATE_HOLE);
	return 0;
}

static int64_t issue(struct nbd_connection *connection, struct nbd_task *task)
{
	const nbd_completion_callback done = { .callback = task_answered, .user_data = task };
	const nbd_extent_callback extent = { .callback = extent_told, .user_data = task };
	struct nbd_handle *handle = connection->handle;
	uint64_t offset = task->io->offset + task->io->bytes;
	char *data = (char *)task->io->data + task->io->bytes;
	uint32_t fua = nbd_forces(connection->nbd, task) ? LIBNBD_CMD_FLAG_FUA : 0;

	switch (task->kind) {
	case NBD_READ:
		return nbd_aio_pread(handle, data, task->part, offset, done, 0);
	case NBD_WRITE:
		return nbd_aio_pwrite(handle, data, task->part, offset, done, fua);
	case NBD_FLUSH:
		return nbd_aio_flush(handle, done, 0);
	case NBD_TRIM:
		return nbd_aio_trim(handle, task->part, offset, done, 0);
	case NBD_HOLE:
		return nbd_aio_block_status(handle, task->part, offset, extent, done, LIBNBD_CMD_FLAG_REQ_ONE);
	case NBD_ZERO:
		break;
	}
	return nbd_aio_zero(handle, task->part, offset, done, LIBNBD_CMD_FLAG_NO_HOLE | fua);
}

bool nbd_connection_issue(struct nbd_connection *connection, struct nbd_task *task)
{
	unsigned int before = connection->count;

	task->connection = connection;
	TAILQ_INSERT_TAIL(&connection->flying, task, entry);
	connection->count++;
	/* If it ends the connection, the task was answered: see lost(). */
	if (issue(connection, task) >= 0 || connection->count == before)
		return true;
	TAILQ_REMOVE(&connection->flying, task, entry);
	connection->count--;
	task->error = nbd_get_errno() ? nbd_get_errno() : EIO;
	return false;
}

/* The library has changed its state. */
static void look(struct nbd_connection *connection)
{
	bool ended = nbd_aio_is_dead(connection->handle) > 0 || nbd_aio_is_closed(connection->handle) > 0;

	if (connection->state == NBD_CONNECTING && ended)
		failed(connection, code_of_errno(connection->error), connection->why);
	else if (connection->state == NBD_CONNECTING && nbd_aio_is_ready(connection->handle) > 0)
		stands(connection);
	else if (connection->state == NBD_READY && ended)
		lost(connection);
}

void nbd_connection_tend(struct nbd_connection *connection, uint64_t now_ns)
{
	if (connection->state == NBD_IDLE && now_ns >= connection->due_ns && !nbd_is_lost(connection->nbd))
		begin(connection);
	if (connection->state == NBD_CONNECTING || connection->state == NBD_READY)
		look(connection);
	if (connection->state == NBD_CONNECTING && now_ns >= connection->due_ns)
		failed(connection, -ETIMEDOUT, "its server does not answer");
	if (connection->state == NBD_ENDING && now_ns >= connection->due_ns)
		nbd_connection_drop(connection);
}

bool nbd_connection_polls(const struct nbd_connection *connection, struct pollfd *poll)
{
	unsigned int direction;

	*poll = (struct pollfd){ .fd = connection->fd, .events = POLLIN };
	if (connection->state == NBD_ENDING)
		return connection->fd >= 0;
	if (connection->state == NBD_IDLE)
		return false;
	poll->fd = nbd_aio_get_fd(connection->handle);
	direction = nbd_aio_get_direction(connection->handle);
	poll->events = (short)((direction & LIBNBD_AIO_DIRECTION_READ ? POLLIN : 0) |
			       (direction & LIBNBD_AIO_DIRECTION_WRITE ? POLLOUT : 0));
	return poll->fd >= 0;
}

/* Read here, it is known: who reads it next is told that the other end was closed. */
static void error_take(struct nbd_connection *connection)
{
	socklen_t size = sizeof(connection->error);

	if (connection->error || getsockopt(nbd_aio_get_fd(connection->handle), SOL_SOCKET, SO_ERROR,
					    &connection->error, &size))
		return;
	if (connection->error)
		snprintf(connection->why, sizeof(connection->why), "%s", strerror(connection->error));
}

void nbd_connection_turn(struct nbd_connection *connection, short seen)
{
	unsigned int direction;
	int result = 0;

	if (connection->state == NBD_ENDING) {
		ending_turn(connection);
		return;
	}
	if (connection->state == NBD_READY && seen & POLLERR)
		error_take(connection);
	direction = nbd_aio_get_direction(connection->handle);
	if (seen & (POLLIN | POLLHUP | POLLERR) && direction & LIBNBD_AIO_DIRECTION_READ)
		result = nbd_aio_notify_read(connection->handle);
	else if (seen & (POLLOUT | POLLHUP | POLLERR) && direction & LIBNBD_AIO_DIRECTION_WRITE)
		result = nbd_aio_notify_write(connection->handle);
	if (result >= 0 || connection->error)
		return;
	connection->error = nbd_get_errno();
	snprintf(connection->why, sizeof(connection->why), "%s", last_words());
}
