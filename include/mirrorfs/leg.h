/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * leg: one copy. Opens, locks, probes, and carries out reads, writes, flushes and discards with a completion.
 *
 * Promise
 *  - A request that leg_submit() took is completed exactly once, by `done`, never from inside leg_submit().
 *  - No empty request passes (I4): leg_submit() refuses length 0 of a read, write or discard with -EINVAL and
 *    counts it. A flush is an operation of its own and has no length.
 *  - A read or write is carried out whole or reported: a short completion arrives as its error with `bytes`
 *    telling how much was done, never as success.
 *  - The lock (I13) is taken through the very open file that does the I/O: O_EXCL on a block device, flock on
 *    an image. It lasts until the kernel has ended the last request, also after SIGKILL. A device that a mount has
 *    claimed instead (leg_hand_over()) has a record lock, which keeps every other leg_open() off as well.
 *  - An error is only reported here. What it means for the leg is classed by leg_classify(), the one place
 *    that maps errno to a meaning (I7), and decided in `mirror`.
 *
 * Legs stack: a leg is a small table of operations, and `fault` and `record` wrap another leg.
 */
#ifndef MIRRORFS_LEG_H
#define MIRRORFS_LEG_H

#include "mirrorfs/base/error.h"
#include "mirrorfs/base/sync.h"
#include "mirrorfs/base/uuid.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct leg;

enum leg_op {
	LEG_READ,
	LEG_WRITE,
	LEG_FLUSH, /* completed writes are durable when it completes; offset, length and data are unused */
	LEG_DISCARD, /* advice: content of the range becomes undefined (holes in an image file); data unused */
	/*
	 * Looks whether an image's path still names it: -ENOENT, it has been deleted; -ESTALE, it has not, but is
	 * elsewhere; whatever else keeps from telling. It passes by what wraps the leg; all else is unused.
	 */
	LEG_LOOK,
	LEG_OPS,
};

/* leg_io.flags */
#define LEG_DSYNC 1u /* write only: the bytes of this request are durable at completion, and no others */

struct leg_io {
	/* the caller fills */
	enum leg_op op;
	unsigned int flags;
	uint64_t offset; /* bytes from the leg's start, a multiple of geometry.block_size */
	size_t length; /* bytes, a multiple of geometry.block_size, > 0 and <= geometry.max_io; for a discard up to
			  the leg's size */
	void *data; /* aligned to geometry.mem_align; stays untouched (read: unread) until done */
	/* An engine's thread, or the submitter's in leg_wait(); must not wait for I/O or for buffers; may submit. */
	void (*done)(struct leg_io *io);
	void *context; /* the caller's own */

	/* filled by the engine before done */
	int error; /* 0 or -errno */
	size_t bytes; /* done, == length when error is 0 (reads and writes) */

	/* the engine's own from submit to done */
	struct leg *leg;
	struct leg_io *next;
	uint64_t submitted_ns; /* clock_now_ns() */
	void *engine;
};

/* What an error says about a leg; the single table of I7. */
enum leg_verdict {
	LEG_OK,
	LEG_REQUEST, /* the request was at fault (EINVAL, EOPNOTSUPP, EAGAIN, ENOMEM, EINTR): never charged */
	LEG_MEDIA, /* this range (EIO, ENODATA, EILSEQ, a short completion; anything unknown) */
	LEG_GONE, /* the whole leg (ENODEV, ENXIO, ENOLINK, ENOTCONN, ETIMEDOUT, beyond the end of a shrunken file) */
	LEG_SPACE, /* the image's own filesystem (ENOSPC, EDQUOT, EROFS); of a write or discard */
	LEG_VERDICTS,
};

/* `error` is 0 or -errno as in leg_io. Pure. */
enum leg_verdict leg_classify(enum leg_op op, int error);
const char *leg_verdict_name(enum leg_verdict verdict);

struct leg_geometry {
	uint64_t size_bytes; /* usable size now; grows or shrinks are seen by leg_refresh() */
	uint32_t block_size; /* granularity of offset and length: 512 .. 4096 */
	uint32_t mem_align; /* alignment of data; never above IOBUF_ALIGN */
	uint32_t max_io; /* the longest read or write, bytes; at least IOBUF_MAX */
	bool device; /* a block device, else an image file (or memory) */
	bool rotational; /* or a network: slow to answer */
	bool elsewhere; /* reached by a transport: no file or device of this machine's */
	bool direct; /* O_DIRECT: nothing is cached below */
	bool discard; /* LEG_DISCARD is supported */
	bool shared; /* other machines can open it as well, by its kind: a mount claims it (mirror) */
	/* Identity, to find two legs on one thing. Zero for memory. */
	dev_t file_dev; /* of an image: its filesystem */
	ino_t file_ino;
	dev_t device_rdev; /* of a device: itself */
	dev_t disk_rdev; /* the whole disk below (of an image: below its filesystem), 0 if not known */
};

/* Do both lie on one disk, or in one filesystem, as far as is known? */
bool leg_geometry_same_disk(const struct leg_geometry *a, const struct leg_geometry *b);

enum leg_engine { LEG_ENGINE_AUTO, LEG_ENGINE_URING, LEG_ENGINE_THREADS };

struct leg_options {
	enum leg_engine engine; /* AUTO: uring, else threads where io_uring or O_DIRECT is refused */
	/*
	 * Writes and discards are refused with -EROFS. An image is locked against writers only; a device, of which
	 * the kernel knows no shared claim, against everybody.
	 */
	bool read_only;
	bool shared; /* take no lock at all, so read_only too: looking at a leg that may be mounted */
	bool handed_over; /* a device that our own mount has claimed, as after leg_hand_over() */
};

/*
 * An address is a path, a URI that names a transport (nbd://HOST/EXPORT), or either with rules for faults before it,
 * fault:RULES:PATH (grammar in mirrorfs(8), parser in fault.c). leg_address_inside() is what stands behind the rules.
 */
const char *leg_address_inside(const char *address);
bool leg_address_elsewhere(const char *address); /* a URI: no file or device of this machine's */

/*
 * Opens what `address` names, and takes the lock. 0, or -errno with `error` told: -EBUSY locked by someone (and by
 * whom, where /proc tells), -ENOENT, -EACCES, -ENOTBLK neither a file nor a block device, -EINVAL a malformed address,
 * -ETIMEDOUT nobody has answered for it in 15 seconds; of a URI also -ENXIO nobody serves that, -EROFS it is served for
 * reading only, -ELIBACC and -ELIBBAD the module of its transport is not there or not of this build, -EPERM
 * leg_network_seal() was called before it was loaded. On failure *leg is NULL and nothing stays open. May wait; not
 * from a completion.
 */
int leg_open(const char *address, const struct leg_options *options, struct leg **leg, struct error *error);

/* False: nobody answers for that path, as its filesystem hangs; whoever asks the kernel for it would wait as well. */
bool leg_answers(const char *path);

/*
 * Releases the lock. NULL is allowed. A leg that has not given every request back is left open on purpose, with its
 * lock (I13): it may be closed later.
 */
void leg_close(struct leg *leg);

/*
 * Hands the request to the leg. 0: `done` will be called, once, on another thread (or later on this one), and
 * until then the engine owns `io` and `data`. -errno: refused, `done` will not be called: -EINVAL for an
 * empty or misaligned request (our own bug; counted), -ERANGE beyond INT64_MAX, -EROFS a write or discard of a leg
 * open for reading, -EOPNOTSUPP a discard without geometry.discard or a look at what is no image, -ENOMEM. Never waits.
 * Any thread; no lock of rank RANK_LEG or above may be held. A request beyond the end of the leg is taken, and
 * completed with -ENXIO.
 */
int leg_submit(struct leg *leg, struct leg_io *io);

/*
 * Waiting for what oneself submits, without a change of threads. Between leg_wait_begin() and leg_wait() a thread only
 * submits (and what it submits may be answered there, and not before); leg_wait() returns when somebody, on whatever
 * thread, has called leg_wait_done(). Locks may be held that rank before those which the completions take. Not from a
 * completion, and not one within another. Each begin has its wait.
 */
struct leg_ring;
struct leg_wait {
	/* its own */
	struct mutex lock;
	struct cond cond;
	bool done;
	struct leg_ring *ring;
};
void leg_wait_begin(struct leg_wait *wait);
void leg_wait(struct leg_wait *wait);
void leg_wait_done(struct leg_wait *wait); /* once; any context; `wait` may be gone when it returns */

/*
 * Modules of transports are loaded when the first address asks for them. leg_network() loads them for those that will
 * come: 0 or -errno told. After leg_network_seal() none is loaded any more; true: one was, and needs the network.
 */
int leg_network(struct error *error);
bool leg_network_seal(void);

/*
 * A ring of a thread's own, in which it has other things, too, beside requests to legs: leg_ring_turn() submits all
 * that is prepared, waits until something comes, and sees to that. A request to a leg is completed; anything else has
 * user data with LEG_RING_OTHER in it, and is told to `other`. What the thread submits while the ring collects goes
 * there, if no leg_wait_begin() is in force; it then has to take turns until none is left. All but creation and wake-up
 * is for the thread that entered.
 */
struct io_uring_sqe;
#define LEG_RING_OTHER 1u
/* `room`: for so many other things at a time, of 128 bytes. NULL, and errno tells why: the kernel refuses one. */
struct leg_ring *leg_ring_create(unsigned int room, void (*other)(void *context, uint64_t data, int result),
				 void *context);
void leg_ring_enter(struct leg_ring *ring);
struct io_uring_sqe *leg_ring_sqe(struct leg_ring *ring); /* to be prepared at once; never NULL */
void leg_ring_collect(struct leg_ring *ring, bool collect);
/*
 * Submits all that is prepared and looks itself for what comes, for `ns` or until *turn is not `ours` any more; any
 * other thread goes first. False: nothing has come; a turn would wait.
 */
bool leg_ring_look(struct leg_ring *ring, uint64_t ns, const _Atomic(const void *) *turn, const void *ours);
bool leg_ring_disturbed(struct leg_ring *ring); /* since asked last: others ran while it looked, for long */
bool leg_ring_busy(const struct leg_ring *ring); /* a leg has something of it */
void leg_ring_submit(struct leg_ring *ring); /* a turn that does not wait */
void leg_ring_turn(struct leg_ring *ring); /* also returns if it was woken, or interrupted */
void leg_ring_wake(struct leg_ring *ring); /* any thread, as long as the ring is there */
/* By who has entered it, the last thing that thread does; if a leg still has something, nobody is held up by that. */
void leg_ring_destroy(struct leg_ring *ring);

/* Submits and waits for the completion; returns io->error or the refusal. May wait; not from a completion. */
int leg_submit_wait(struct leg *leg, struct leg_io *io);

const struct leg_geometry *leg_geometry(const struct leg *leg);
/* Reads the size anew; 0 or -errno. Whoever else reads leg_geometry() of this leg meanwhile sees either size. */
int leg_refresh(struct leg *leg);
/*
 * The kernel's claim on a device is let go, so that a mount can take it; the lock by which we know each other stays
 * without a gap. What is under way ends as it would, and keeps the claim until then: that is waited for. 0: it is free
 * to be taken; -ENOTBLK no device; -EBUSY: somebody still has it after `limit_ns`, perhaps what is under way; else
 * -errno. Not while leg_close() is called, nor twice.
 */
int leg_hand_over(struct leg *leg, uint64_t limit_ns);
/*
 * True: whoever serves the leg is gone, for good as far as this open leg goes, and `why` tells. What it has is given
 * back when it can no longer change anything there, perhaps never. Never waits.
 */
#define LEG_WHY_MAX 256
bool leg_lost(struct leg *leg, char why[LEG_WHY_MAX]);
/*
 * Somebody knows that no request of this leg can change anything any more, as its server was stopped: what has not been
 * answered is given back, with -ENOTCONN, and nothing is served from then on. -EOPNOTSUPP: the kernel has them, and
 * nobody can know that. Does not wait.
 */
int leg_give_up(struct leg *leg);
/* What is written there later finds room: a sparse image gets its blocks for real. 0 or -errno. May wait. */
int leg_allocate(struct leg *leg, uint64_t offset, uint64_t length);
const char *leg_address(const struct leg *leg); /* as given to leg_open */
const char *leg_path(const struct leg *leg); /* the absolute path inside it; "memory" for a memory leg */
const char *leg_engine_name(const struct leg *leg); /* "uring", "threads", "nbd", "memory" */

struct leg_counters {
	uint64_t ops[LEG_OPS]; /* completed */
	uint64_t bytes[LEG_OPS];
	uint64_t errors[LEG_VERDICTS]; /* completions by verdict */
	uint64_t empty_refused; /* length 0 at the leg's door (I4): must stay 0 */
	uint64_t unaligned_refused; /* a caller's alignment reached the leg: must stay 0 */
	uint64_t in_flight;
};
void leg_counters(struct leg *leg, struct leg_counters *counters);

/*
 * What lies on an open leg before we use it (libblkid; our own labels are told by `mirror`, from the bytes).
 * 0 or -errno with `error` told. `found` false: nothing known. May wait.
 */
struct leg_signature {
	bool found;
	char type[32]; /* "ext4", "gpt", … */
	char usage[32]; /* "filesystem", "raid", "partition-table", … */
	char label[64];
	char uuid[UUID_TEXT_SIZE];
};
int leg_probe(struct leg *leg, struct leg_signature *signature, struct error *error);
/* Wipes every signature libblkid knows from the open leg (mkfs -f). 0 or -errno with `error` told. */
int leg_wipe(struct leg *leg, struct error *error);
/*
 * True if `path` is mounted or used as swap, a device also if another one stands on it or a partition of it is in
 * use, an image file also if it lies under a loop device; `where` tells which, as "mounted on /mnt".
 */
bool leg_in_use(const char *path, char *where, size_t where_size);

/*
 * A simulated disk in memory of `size_bytes`, on the clock of the world in force: a request takes between
 * latency_min_ns and latency_max_ns (drawn with random_u64), several are in flight and complete in any order.
 * Writes without DSYNC stay in a volatile cache until a flush.
 */
struct leg_memory_options {
	uint64_t size_bytes;
	uint32_t block_size; /* 512 or 4096 */
	uint64_t latency_min_ns, latency_max_ns;
	const char *name; /* copied; for logs */
	unsigned char *bytes; /* anonymous memory of the caller's, what is on the disk; NULL: the leg's own, zeros */
	/* Told of each request but reads as it takes effect; a flush has length 0. NULL; may not wait. */
	void (*changed)(void *context, uint64_t offset, size_t length);
	void *context;
};
int leg_memory_open(const struct leg_memory_options *options, struct leg **leg);
/* The disk's bytes as a reader sees them now (volatile cache included); size_bytes long, owned by the leg. */
unsigned char *leg_memory_bytes(struct leg *leg);
/* It becomes so large, at most as large as it was opened: leg_refresh() sees that. */
void leg_memory_resize(struct leg *leg, uint64_t size_bytes);
/*
 * Power loss, now. Requests in flight are never completed; each unflushed write (and each in flight) is, by
 * `choose(context, n)` returning 0 .. n-1, kept, dropped or torn (its head, its tail or any of its 512-byte sectors are
 * kept), in any order. Without `choose` all that had completed is kept in its order, and nothing else. The resulting
 * disk is copied to `image` (size_bytes; it may be the caller's own `bytes`). The leg is of no further use but for
 * leg_memory_abandon().
 */
void leg_memory_crash(struct leg *leg, unsigned char *image, uint32_t (*choose)(void *context, uint32_t n),
		      void *context);
/*
 * It is pulled: power loss as above, of the leg's own bytes, but the machine goes on: requests in flight, and all that
 * come, are completed with -ENODEV. The leg is closed like any other; its bytes, if they are the caller's, stay.
 */
void leg_memory_pull(struct leg *leg, uint32_t (*choose)(void *context, uint32_t n), void *context);
/* Frees a crashed leg, with what is wrapped around it, without waiting for anything but its own real threads. */
void leg_memory_abandon(struct leg *leg);

/*
 * fault: wraps `below`, which it owns from then on (also on failure: it is closed). `rules` is the RULES of
 * fault:RULES:PATH. 0 or -EINVAL with `error` told.
 */
int leg_fault_wrap(struct leg *below, const char *rules, struct leg **leg, struct error *error);
/* Replaces the rules of a fault leg while it runs; requests that hang are then completed with -EIO. */
int leg_fault_set(struct leg *leg, const char *rules, struct error *error);

/*
 * A drill: what `rules` say befalls a leg that is in use, for `last_ns` or until another call ("" ends it). What hung
 * is then completed with -EIO. It may fail, hang, delay, and corrupt what is read: -EINVAL for anything else, which
 * could change what is on the disk. 0 or -errno with `error` told. One caller at a time.
 */
#define LEG_DRILL_MAX 256
int leg_drill(struct leg *leg, const char *rules, uint64_t last_ns, struct error *error);
void leg_drill_now(struct leg *leg, char text[LEG_DRILL_MAX], uint64_t *left_ns); /* "": none */

/*
 * record: wraps `below` (owned as above) and appends each write, flush and discard that succeeded, in order of
 * completion and with its data, to the log for crash tests.
 */
struct leg_record_entry {
	enum leg_op op;
	unsigned int flags;
	uint64_t offset;
	size_t length;
	const void *data; /* of a write */
};
int leg_record_wrap(struct leg *below, struct leg **leg);
size_t leg_record_count(struct leg *leg);
/* Entry n of leg_record_count(); pointers stay valid until leg_close(). */
void leg_record_get(struct leg *leg, size_t n, struct leg_record_entry *entry);

#endif
