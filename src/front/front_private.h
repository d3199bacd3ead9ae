/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of `front` share. */
#ifndef MIRRORFS_FRONT_PRIVATE_H
#define MIRRORFS_FRONT_PRIVATE_H

#include "mirrorfs/base/histogram.h"
#include "mirrorfs/base/sync.h"
#include "mirrorfs/front.h"

#include <bsd/sys/queue.h>
#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>
#include <linux/fuse.h>
#include <stdatomic.h>

/* The longest read or write that the kernel may send: what libfuse allows; what long attributes need. */
#define FRONT_IO_MAX (1u << 20)
#define FRONT_IO_LEAST (128u << 10)

/* Newer than the kernel's headers may be. */
#define OPCODE_SYNCFS 50u
#define OPCODE_TMPFILE 51u
#define OPCODE_STATX 52u

struct ring;
struct ring_queue;

/* poll.c: when a thread looks for requests itself. */
struct poll {
	uint64_t most_ns; /* at a time; 0: never */
	unsigned int processors; /* where ours may run */
	int loadavg; /* /proc/loadavg; -1: not to be had */
	/* In lines of their own: these are written by all. */
	_Alignas(64) _Atomic bool on;
	_Atomic int calm; /* requests of late that came close upon each other, alone */
	_Atomic uint64_t idle_since_ns; /* when a thread had nothing to do */
	_Atomic uint64_t not_before_ns, pause_ns; /* as it was of no use, or others wanted a processor */
	_Atomic uint64_t ask_ns; /* when to ask again for a processor */
	_Atomic(const void *) turn; /* whose it is */
	_Alignas(64) _Atomic unsigned int awaited; /* requests that are being carried out while programs wait */
};

/* closing.c: of the requests that a thread carries out. */
struct closing {
	uint32_t last; /* the opcode of the last that a program waited for; 0: it was a release */
	uint32_t before; /* and of that before the last release */
	unsigned int files; /* in a row, that were closed right behind such a one */
	unsigned int vain; /* times in a row that it was of no use to expect another */
};

/* Room for a request, and the one that is in it: in the hand of one thread at a time, or of the kernel. */
struct front_entry {
	struct front *front;
	unsigned char *memory; /* one mapping; the two below point into it */
	size_t room; /* in it, for a payload */
	unsigned char *request; /* where a request is read to, or put together */
	uint32_t opcode; /* of the request, which libfuse may be given as another */
	unsigned char *payload; /* page aligned; a WRITE's data lies here, a reply's data is made here */
	_Atomic bool busy; /* it is being carried out */
	_Atomic uint64_t began_ns, node; /* the request; began_ns 0: none */
	_Atomic uint32_t pid, series;
	int error; /* and what was answered */
	uint32_t answered_bytes;
	/* ring.c */
	STAILQ_ENTRY(front_entry) link;
	struct ring *ring; /* whose thread has begun to read */
	bool ended; /* and that has come to its end, with: */
	ssize_t result;
	bool may_wait; /* for whoever carries it out: nothing of it goes on by itself */
	bool answered; /* the kernel is to be told so, by whoever is given it */
};
STAILQ_HEAD(entry_list, front_entry);

/* A thread that takes requests. */
struct front_worker {
	struct front *front;
	struct thread thread;
	struct ring *ring; /* where it takes them from; NULL: from /dev/fuse */
	struct front_entry *entry; /* what it carries out, or takes one in; NULL: it has none now */
	_Atomic uint64_t requests;
};

/* An open file: which write-back errors this descriptor has been told of. */
struct front_handle {
	LIST_ENTRY(front_handle) link;
	uint64_t inode;
	bool writes; /* it was opened to write */
	_Atomic uint64_t seen;
};

struct front {
	struct fs *fs;
	struct fuse_session *session;
	int fd; /* of /dev/fuse; the session closes it */
	char *mountpoint;
	int (*unmount)(int flags); /* may be NULL */
	dev_t device; /* of the mount, as stat(2) and mountinfo show it */
	size_t buffer_bytes; /* for all payloads */
	size_t io_max; /* the longest read or write that this mount takes */
	enum front_transport transport; /* that was asked for */
	unsigned int threads; /* for as many requests at a time */
	bool old_kernel; /* a test: nothing that is newer than Linux 6.1 is used, here or in a request */
	unsigned int kernel_minor; /* of the protocol, as the kernel has it */
	bool negotiated;
	uint64_t agreed; /* of the FUSE_ flags of INIT, flags2 above flags */
	struct ring *rings; /* one a thread; none: the classic transport */
	unsigned int ring_count;
	unsigned int ring_entries; /* for so many requests at a time; there are more threads */
	struct ring_queue *ring_queues; /* by processor */
	_Atomic unsigned int rings_refused; /* by the kernel, which then takes none */
	_Atomic bool aborted; /* the connection was cut off, not unmounted */
	_Atomic bool cut; /* by us, when it had been detached */
	_Atomic bool last; /* the kernel has sent its last request, DESTROY, and waits for the answer */

	struct latency *latency; /* NULL: none */
	struct poll poll;
	struct iolog *iolog; /* NULL: none */
	struct histograms *times; /* by opcode; see measure.c */
	struct front_entry *entries;
	unsigned int entry_count; /* whose memory was made */
	struct front_worker *workers;
	unsigned int worker_count;
	unsigned int worker_started;

	struct mutex lock; /* RANK_FRONT: what is below */
	struct cond moved; /* what is below has, or a worker */
	unsigned int serving; /* workers */
	bool closed; /* the last request may be answered */
	LIST_HEAD(, front_handle) handles; /* what is left of them when the mount ends was never released */
	bool stop_started;
	bool stop_synced; /* it does not look at the fs any more */
	_Atomic bool stop_failed; /* the stopper has come to its end, and the mount is still there */
	bool ended; /* nobody serves any more */
	bool block_device;
	struct thread stop_thread;
};

/* front.c */
void front_last_request(struct front *front); /* returns when it may be answered */
void front_worker_moved(struct front *front);

/* transport.c */
int transport_entry_init(struct front_entry *entry, struct front *front);
void transport_entry_fini(struct front_entry *entry);
int transport_hook(struct front *front); /* puts our read and write under the mounted session */
/* A request is carried out from here to there. False: it is not to be, as the last one has come. */
bool transport_busy(struct front_entry *entry);
void transport_idle(struct front_entry *entry);
bool transport_awaited(const struct front_entry *entry); /* a program waits until it has been carried out */
int transport_serve_one(struct front_worker *worker); /* waits for a request and answers it; -ENODEV: unmounted */
void transport_run(void *worker);
/* Of the request that the calling thread carries out. */
uint32_t transport_opcode(void); /* as the kernel sent it */
const void *transport_argument(void); /* the raw structure behind the header */
unsigned char *transport_payload(void);

/* ring.c */
int rings_create(struct front *front); /* 0 or -errno: then there are none */
void rings_destroy(struct front *front);
struct ring *rings_at(struct front *front, unsigned int i); /* NULL: there are less */
bool ring_has_entry(const struct ring *ring); /* at first */
void rings_end(struct front *front); /* there are no more requests: threads that have none may go */
/* Answers the last request and waits for one: its length; -ENODEV: the end; another -errno: the ring is refused. */
ssize_t ring_receive(struct front_worker *worker);
void ring_answer(struct front_entry *entry, const struct iovec *iov, int count);
void ring_leave(struct ring *ring); /* by its thread, as the last thing that it does */

/* init.c */
void init_answer(struct front *front, const struct fuse_init_in *in, struct fuse_init_out *out);

/* iolog.c */
int iolog_open(const char *prefix, unsigned int msec, struct iolog **iolog, struct error *error);
void iolog_add(struct iolog *iolog, bool write, uint64_t ended_ns, uint64_t took_ns, uint64_t offset, uint32_t bytes);
void iolog_close(struct iolog *iolog); /* writes the rest; NULL is allowed */

/* latency.c */
int latency_create(const struct front_options *options, struct latency **latency, struct error *error);
void latency_destroy(struct latency *latency); /* NULL is allowed in both */
void latency_request(struct latency *latency, uint64_t now_ns); /* one has come */

/* measure.c: how long requests take */
void measure_begin(struct front_entry *entry); /* a request has come */
void measure_answer(struct front_entry *entry, const struct fuse_out_header *out);
void measure_end(struct front_entry *entry);

/* poll.c */
void poll_create(struct poll *poll, const struct front_options *options);
void poll_destroy(struct poll *poll);
void poll_request(struct poll *poll, uint64_t began_ns); /* one has come */
void poll_awaited(struct poll *poll, unsigned int more); /* than before are being carried out; -1u: one less */
/*
 * Before the wait for one, where one was carried out that began at `began_ns`. `disturbed`: while its thread looked for
 * it, others ran for long.
 */
bool poll_goes_on(struct poll *poll, bool disturbed, uint64_t began_ns, uint64_t now_ns);

/* closing.c */
void closing_request(struct closing *closing, uint32_t opcode); /* one that a program waited for was carried out */
void closing_release(struct closing *closing); /* so was a release */
bool closing_expected(const struct closing *closing); /* another, before long */
bool closing_is_next(const struct closing *closing); /* it is the next request */
void closing_parked(struct closing *closing, bool in_vain); /* the entry of the last: no request came meanwhile */

/* reply.c: each answers the request, and gives back what a kernel that no longer waits did not take */
void reply_error(fuse_req_t req, int error); /* 0 or -errno */
double reply_attr_seconds(const struct fs_attr *attr); /* for so long the kernel need not ask again */
void reply_attr(fuse_req_t req, const struct fs_attr *attr);
void reply_entry(fuse_req_t req, const struct fs_attr *attr);
void reply_no_entry(fuse_req_t req);
void reply_entry_fill(struct fuse_entry_param *entry, const struct fs_attr *attr);

/* statx.c */
void statx_reply(fuse_req_t req, const struct fs_attr *attr);

/* ioctl.c */
void ioctl_serve(fuse_req_t req, fuse_ino_t inode, unsigned int command, const void *in, size_t in_size,
		 size_t out_size);

/* ops.c */
void ops_release(struct front *front, uint64_t fh); /* a file is closed; does not wait */
extern const struct fuse_lowlevel_ops ops_table;

#endif
