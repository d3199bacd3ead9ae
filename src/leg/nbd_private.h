/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of the NBD transport share: nbd.c has the leg, nbd_connection.c one connection of it. */
#ifndef MIRRORFS_LEG_NBD_PRIVATE_H
#define MIRRORFS_LEG_NBD_PRIVATE_H

#include "transport.h"

#include <bsd/sys/queue.h>
#include <libnbd.h>

#define NBD_CONNECTIONS 4u /* where the server says that they are as one */

enum nbd_kind { NBD_READ, NBD_WRITE, NBD_FLUSH, NBD_TRIM, NBD_HOLE, NBD_ZERO };

/* What the server is asked for one leg_io: once, or one part after the other. */
struct nbd_task {
	TAILQ_ENTRY(nbd_task) entry;
	struct nbd_leg *nbd;
	struct leg_io *io;
	enum nbd_kind kind;
	bool own; /* the transport's, which the door has not counted */
	bool durable; /* all of it has to be before it is answered */
	uint64_t since_ns; /* it waits for a connection */
	/* of the part that a connection has, or had */
	struct nbd_connection *connection;
	size_t part;
	uint64_t changes; /* of a flush: those that it makes durable */
	int error; /* 0 or an errno of the server's; ENOTCONN: it was not answered */
};
TAILQ_HEAD(nbd_tasks, nbd_task);

enum nbd_connection_state {
	NBD_IDLE, /* there is none; one is made at due_ns */
	NBD_CONNECTING, /* until due_ns */
	NBD_READY,
	NBD_ENDING, /* it is lost, and what changes the export was not answered; due_ns: given back then */
};

struct nbd_connection {
	struct nbd_leg *nbd;
	struct nbd_handle *handle;
	enum nbd_connection_state state;
	int fd; /* ours, of the same socket: it stays open when the library closes its own */
	struct nbd_tasks flying; /* ENDING: what was not answered */
	unsigned int count; /* of them */
	uint64_t due_ns;
	uint64_t pause_ns; /* until the next attempt, if this one fails */
	int error; /* what it ended with; 0: the other end was closed */
	char why[LEG_WHY_MAX];
};

struct nbd_export {
	uint64_t size_bytes;
	uint32_t block_size;
	uint32_t max_io; /* of one part */
	bool read_only, flush, fua, trim, zero, holes, many;
};

struct nbd_leg {
	struct leg leg;
	struct thread thread;
	int wake_fd; /* an eventfd */
	int lock_fd; /* see nbd.c; -1: none is needed */
	bool read_only, single; /* single: one connection will do */

	/* under leg.lock */
	struct nbd_tasks queue;
	bool woken, stopping, giving_up;
	bool settled; /* it is open, or has failed: what follows says so */
	struct cond opened;
	int code;
	struct error said;
	bool left; /* nobody waits for it to be open any more */
	bool lost; /* for good */
	char why[LEG_WHY_MAX];

	/* the thread's own; `export` is the others' to read once it is open */
	struct nbd_connection connection[NBD_CONNECTIONS];
	struct nbd_export export;
	bool open;
	struct nbd_tasks waiting; /* for a connection */
	struct nbd_tasks answered;
	uint64_t changes; /* writes that were answered, and are durable when a flush that began later was answered */
	uint64_t durable; /* so many of them are */
};

/* nbd.c. The thread alone. */
void nbd_lose(struct nbd_leg *nbd, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool nbd_is_lost(struct nbd_leg *nbd);
bool nbd_changes(const struct nbd_task *task); /* it may change what is there, whenever the server comes to it */
bool nbd_forces(const struct nbd_leg *nbd, const struct nbd_task *task); /* it goes out with FUA */
void nbd_extent(struct nbd_task *task, uint64_t length, bool hole); /* of a NBD_HOLE: the first one */
/* The first connection stands, or has failed with `code`. */
void nbd_opened(struct nbd_leg *nbd, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* nbd_connection.c. The thread alone. */
void nbd_connection_init(struct nbd_connection *connection, struct nbd_leg *nbd);
/* Begins what is due by now. */
void nbd_connection_tend(struct nbd_connection *connection, uint64_t now_ns);
/* Hands a task to the server. False: the library refuses it, task->error tells. */
bool nbd_connection_issue(struct nbd_connection *connection, struct nbd_task *task);
/* What to poll for; false: nothing. */
struct pollfd;
bool nbd_connection_polls(const struct nbd_connection *connection, struct pollfd *poll);
void nbd_connection_turn(struct nbd_connection *connection, short seen);
/* In order, within a moment; nothing is under way. */
void nbd_connection_end(struct nbd_connection *connection);
/* At once. What it has is answered with ENOTCONN. */
void nbd_connection_drop(struct nbd_connection *connection);

#endif
