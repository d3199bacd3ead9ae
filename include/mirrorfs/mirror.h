/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mirror: two legs as one address space of 4096-byte blocks. Labels, leg states, read policy, failover,
 * repair. It knows nothing of files or trees: whoever can tell good bytes from bad hands in a `verify`.
 *
 * Promise (numbers are the invariants of src/README)
 *  - A write completes when every in-sync leg has it, or when the survivor's label durably says that the other
 *    leg lacks it (I8).
 *  - A read is verified before it is answered; a bad copy is answered by the other leg and then rewritten (I3).
 *    Each block is judged for itself: two legs that are bad in different blocks give a good read. What no leg in
 *    sync has right may come from one that is stale, being filled or being replaced, if the reader has a `verify`.
 *  - A read that takes a leg far longer than usual is also sent to the other one; the first right answer wins.
 *  - Every request is answered by its deadline (I6), retries shrink and are counted (I5), nothing empty is
 *    accepted (I4), request errors are charged to nobody (I7), the last in-sync leg is never failed by a
 *    read and a write that fails on it makes the volume read-only (I12).
 *
 * Requests are completions: mirror_submit() never waits, `done` is called once from an engine's or the
 * keeper's thread, never inside mirror_submit(). mirror_submit_wait() is for threads that may wait.
 */
#ifndef MIRRORFS_MIRROR_H
#define MIRRORFS_MIRROR_H

#include "mirrorfs/base/error.h"
#include "mirrorfs/base/histogram.h"
#include "mirrorfs/base/host.h"
#include "mirrorfs/base/iobuf.h"
#include "mirrorfs/base/uuid.h"
#include "mirrorfs/leg.h"

#include <stdbool.h>
#include <stdint.h>

#define MIRROR_BLOCK 4096u
#define MIRROR_LEGS 2
#define MIRROR_IO_BLOCKS (IOBUF_MAX / MIRROR_BLOCK) /* the longest read or write, blocks */

struct mirror;

/* ---- pins: which physical ranges may still be looked at (I9 b) ---- */

/*
 * A pin is taken before an address is looked up and put when nothing can resolve to it any more. The mirror
 * takes a reference of its own for as long as a repair of that read lasts. A range freed at stamp s
 * (mirror_pin_stamp) may be reused once mirror_pins_passed() >= s.
 */
struct mirror_pin;
struct mirror_pin *mirror_pin(struct mirror *mirror); /* never NULL; never waits */
void mirror_pin_ref(struct mirror_pin *pin);
void mirror_pin_put(struct mirror_pin *pin);
uint64_t mirror_pin_stamp(struct mirror *mirror);
uint64_t mirror_pins_passed(struct mirror *mirror); /* the latest stamp before which no pin is left */

/* ---- requests ---- */

enum mirror_op { MIRROR_READ, MIRROR_WRITE, MIRROR_FLUSH, MIRROR_DISCARD };

/* mirror_io.flags */
#define MIRROR_DSYNC 1u /* write: durable on every in-sync leg at completion (its own bytes, no others) */
#define MIRROR_ONLY_LEG0 2u /* read or write this leg alone, without failover and without repair: for slots and */
#define MIRROR_ONLY_LEG1 4u /* ring at mount, scrub, resync. A failed one degrades nobody. */

struct mirror_io {
	/* the caller fills */
	enum mirror_op op;
	unsigned int flags;
	uint64_t block; /* first block of the mirrored space */
	uint32_t count; /* blocks, > 0; flush: unused; read and write: <= MIRROR_IO_BLOCKS */
	struct iobuf *buf; /* read, write; the mirror holds references of its own while legs use it */
	size_t buf_offset; /* bytes into buf, a multiple of MIRROR_BLOCK */
	/*
	 * Reads only, may be NULL (then any whole read is right). Judges `verify_blocks` blocks at a time (count
	 * is a multiple of it): true if unit `unit` of this request, at `data`, is right. Engine's thread: pure
	 * computation.
	 */
	bool (*verify)(const struct mirror_io *io, uint32_t unit, const void *data);
	uint32_t verify_blocks;
	struct mirror_pin *pin; /* reads with verify: the pin under which the address was found; kept for repair */
	void (*done)(struct mirror_io *io); /* may submit; must not wait */
	void *context;

	/*
	 * Filled before done. After a read that failed over, `buf` may be another buffer than the one given in
	 * (buf_offset is then 0): the mirror put the caller's reference to the old one and the caller owns one to the
	 * new one. Either way the caller puts io->buf in the end. The buffer of a write that ended with -ETIMEDOUT may
	 * still be with a leg: put it, do not write to it.
	 */
	int error; /* 0, -EIO, -ETIMEDOUT, -EROFS (read-only), -ENOSPC, or a request error that every leg gave */
};

/*
 * 0: done will be called. -EINVAL: empty (counted, I4), beyond the end, or malformed; -ENOMEM: no memory for the
 * request. Refused so, done will not be called. Never waits. No lock of rank RANK_MIRROR or above may be held.
 */
int mirror_submit(struct mirror *mirror, struct mirror_io *io);
/* Submits and waits; io->done and io->context are its own. io->error or the refusal. Not from a completion. */
int mirror_submit_wait(struct mirror *mirror, struct mirror_io *io);

/* Buffers for requests, from the pool that the mirror was opened with. */
struct iobuf_pool *mirror_pool(struct mirror *mirror);

/* ---- a volume's life ---- */

enum mirror_leg_state {
	MIRROR_ABSENT, /* not given or not found; nothing is known of it but its label's word on the other leg */
	MIRROR_INSYNC,
	MIRROR_STALE, /* present, but lacks what was born after its generation; read as the last source alone */
	MIRROR_RESYNC, /* likewise, but new writes go to it, and what it lacks is being copied */
	MIRROR_OFFLINE, /* was in sync in this mount, has failed */
	MIRROR_LEG_STATES,
};
const char *mirror_leg_state_name(enum mirror_leg_state state);

struct mirror_identity {
	struct uuid volume;
	struct uuid leg[MIRROR_LEGS];
	char label[64]; /* of the volume; "" if none */
	bool degraded_auto; /* a missing leg never needs the user's word */
	int leg_count; /* 1: a single-leg volume */
};

/*
 * What one open leg's label says. 0: ours. -ENODATA: no valid label (not a mirrorfs leg). -EPROTONOSUPPORT:
 * a version or incompat bit that is not known, named in `error`. Reads both label slots. May wait.
 */
struct mirror_label_info {
	struct mirror_identity identity;
	int index; /* which leg this is: 0, 1 */
	uint64_t space_blocks; /* of the mirrored space */
	char path[MIRROR_LEGS][1024]; /* where the legs were at the last mount; "" not known */
	bool lacks_other; /* the volume runs on without the other leg: it lacks what was born after lacks_after */
	uint64_t lacks_after;
	bool resyncing; /* this leg is not mountable alone */
	bool superseded; /* nor is this one: the other leg was seen to be newer */
	bool replaced; /* nor this one, unless somebody insists: another leg has its place */
	bool shared; /* machines share it: a mount claims it */
};
int mirror_label_read(struct leg *leg, struct mirror_label_info *info, struct error *error);

/*
 * Writes the first labels of a new volume on one or two open legs (legs[1] NULL: single). The space is the same on
 * both: what the smaller one holds. Fills identity->volume and ->leg and space_blocks. Both legs durable. 0 or
 * -errno with `error` told. May wait.
 */
int mirror_format(struct leg *legs[MIRROR_LEGS], const char *label, struct mirror_identity *identity,
		  uint64_t *space_blocks, struct error *error);

/*
 * 0: no mount of any machine keeps up a claim of the leg, or there is none; -EBUSY: one does, `error` tells whose.
 * Watches a claim that is there as long as it needs to be silent to be taken. Else as mirror_label_read().
 */
int mirror_claim_silent(struct leg *leg, struct error *error);

/* How large the mirrored space of a leg of that size is, in blocks; 0: too small to be a leg. */
uint64_t mirror_space_blocks(uint64_t leg_bytes);
/* Byte offset of the mirrored space's block 0 on a leg. */
#define MIRROR_SPACE_OFFSET (UINT64_C(1) << 20)

enum mirror_read_policy { MIRROR_POLICY_AUTO, MIRROR_POLICY_ROUND_ROBIN, MIRROR_POLICY_LEG0, MIRROR_POLICY_LEG1 };

enum mirror_event_kind {
	MIRROR_EVENT_LEG_STATE, /* a leg changed its state */
	MIRROR_EVENT_REPAIR, /* a bad copy was rewritten */
	MIRROR_EVENT_UNRECOVERABLE, /* a range is bad on every in-sync leg */
	MIRROR_EVENT_READ_ONLY, /* I12 */
	MIRROR_EVENT_LEG_NAME, /* a leg's image was deleted or moved, or is found again */
	MIRROR_EVENT_LEG_PACE, /* a leg is far slower than the other one, or no longer so */
	MIRROR_EVENT_LEG_RELEASED, /* one that was replaced is closed */
	MIRROR_EVENT_RESYNC_ENDED, /* all that the leg lacked was copied */
	MIRROR_EVENT_RESYNC_STOPPED, /* or not all */
	MIRROR_EVENT_KINDS,
};

struct mirror_resync_status {
	uint64_t ended; /* resyncs since the mount that have ended, well or not */
	int leg; /* being filled; -1: none, and the rest is 0 */
	uint64_t done, total; /* blocks that it lacks, of which so many were copied */
	uint64_t lost; /* of these the survivor's copy was bad: they were not copied */
	uint64_t limit; /* bytes a second; 0: none */
	uint64_t elapsed_ns;
};

/* What a volume is like at the moment of an event. */
struct mirror_snapshot {
	struct {
		enum mirror_leg_state state;
		bool slow;
		uint64_t read_errors, checksum_errors, repaired, timeouts, abandoned, charged; /* as in mirror_status */
	} leg[MIRROR_LEGS];
	int leg_count;
	bool failed;
	int lacking; /* the leg that lacks what was born after `lacks_after`; -1: none */
	uint64_t lacks_after;
	struct mirror_resync_status resync;
};

struct mirror_event {
	enum mirror_event_kind kind;
	int leg; /* -1: the volume */
	uint64_t block;
	uint32_t count;
	const char *text; /* one line for people */
	struct mirror_snapshot now;
};

struct mirror_options {
	bool read_only; /* the labels are not written either */
	bool degraded; /* may start with a leg unexpectedly missing */
	bool shared; /* machines share all legs, from now on; else those whose label or kind says so */
	bool takeover; /* may take a claim of another machine that has fallen silent */
	uint64_t heartbeat_ns; /* how often a claim is renewed; 0: 2 s */
	struct host host; /* who claims */
	/*
	 * Asked before anything is written, with a mirror of which single legs may be read: not 0 refuses the
	 * volume, with `error` told. May be NULL.
	 */
	int (*admit)(struct mirror *mirror, bool read_only, struct error *error);
	enum mirror_read_policy policy;
	unsigned int write_mostly; /* mask: a leg that is read only where the other one cannot answer, or is late */
	uint64_t leg_timeout_ns; /* one leg's try; 0: 5 s, 15 s if rotational */
	uint64_t deadline_ns; /* a request; 0: 20 s; raised to a first try on each leg */
	/* Keeper's thread; may be NULL; must not wait. */
	void (*event)(void *context, const struct mirror_event *event);
	void *event_context;
	struct iobuf_pool *pool;
};

/*
 * Assembles a volume from one or two open legs in any order (legs[1] may be NULL). Compares labels, decides states,
 * starts the keeper thread. 0: the mirror owns the legs, and leg 0 of the mirror is the one whose label says 0.
 * -errno with `error` told, the legs stay the caller's: -ENODATA not a leg, -EXDEV legs of different volumes,
 * -EEXIST the same leg twice, -ENOLINK a leg is missing and `degraded` was not given (names which, and its last
 * path), -ESTALE split brain (I11) or a leg that is not mountable alone, -ENXIO shorter than the volume,
 * -EPROTONOSUPPORT, or what `admit` said; -EBUSY a leg that machines share is claimed by another mount.
 * A stale leg beside a whole one is no error: the volume starts without it. Writes nothing to the
 * legs but, unless read_only, labels. May wait.
 */
int mirror_open(struct leg *legs[MIRROR_LEGS], const struct mirror_options *options, struct mirror **mirror,
		struct error *error);

/*
 * All requests must have been answered. Waits for repairs, for the survivor's label and, at most `leg_timeout`, for
 * abandoned requests; closes the legs. False: a leg has still not given everything back. It is left open on purpose,
 * with the memory of its requests, and the pool must not be destroyed either.
 */
bool mirror_close(struct mirror *mirror);

/*
 * A checkpoint of this generation is durable on every in-sync leg: the mirror remembers it as the G of "lacks
 * everything born after generation G" for a leg that goes out later.
 */
void mirror_generation_durable(struct mirror *mirror, uint64_t generation);
/*
 * At the mount, before the first checkpoint: this one was durable on every leg that was in sync when the legs were last
 * in use. A leg that is missing unexpectedly lacks what was born after it.
 */
void mirror_generation_known(struct mirror *mirror, uint64_t generation);

const struct mirror_identity *mirror_identity(const struct mirror *mirror);
uint64_t mirror_blocks(const struct mirror *mirror); /* size of the mirrored space now */
bool mirror_leg_insync(struct mirror *mirror, int leg);
bool mirror_failed(struct mirror *mirror); /* read-only by error (I12) */
bool mirror_discards(struct mirror *mirror); /* a leg that is written can be told what is free */

/* ---- resync: a leg that lacks something is filled ---- */

/* A piece of what lies in the mirrored space. */
#define MIRROR_LIVE_OWN 1152
struct mirror_live {
	uint64_t block;
	uint32_t count; /* blocks, a multiple of unit_blocks, <= MIRROR_IO_BLOCKS */
	uint32_t unit_blocks; /* judged so many at a time */
	struct mirror_pin *pin; /* under which it was looked up; whoever gets the piece puts it */
	uint64_t position; /* whatever lies below this block has been told, this piece included; 0: not yet known */
	/* As mirror_io.verify. */
	bool (*right)(const struct mirror_live *live, uint32_t unit, const void *data);
	_Alignas(8) unsigned char own[MIRROR_LIVE_OWN]; /* the source's */
};

/* What a leg has: all born up to `after`; and what was born up to `generation` and lies below `position`. */
struct mirror_since {
	uint64_t after, generation, position;
};

/* What a leg lacks: all but that, and but what was born after `upto` or lies below `copied`, as both legs have it. */
struct mirror_missing {
	int leg;
	struct mirror_since since;
	uint64_t upto, copied;
};
/* As the labels and a running resync have it. False: no leg is known to lack anything. */
bool mirror_missing(struct mirror *mirror, struct mirror_missing *missing);

/*
 * Who knows what there is to copy. Called by the resync's thread, without any lock; each may wait. Only `next` is
 * called more than once for a resync.
 */
struct mirror_source {
	void *context;
	/* Up to which generation, at most `after`, this leg shows that it has all; 0: it does not. */
	uint64_t (*proven)(void *context, int leg, uint64_t after);
	/*
	 * From now on new writes go to the leg as well. Returns when all that was written before can be found by
	 * next(), with a checkpoint told by mirror_generation_durable(). *total: how much there is to copy, blocks.
	 */
	int (*begin)(void *context, const struct mirror_since *since, uint64_t *total);
	int (*next)(void *context, struct mirror_live *live); /* -ENOENT: that was all */
	/* All is copied: what is rewritten in place is to be written anew, so that it is on the leg too. */
	int (*end)(void *context);
};

/*
 * With a source the mirror fills a leg that is stale, now and whenever mirror_resync_start() asks. NULL: what runs is
 * stopped, and goes on from there at the next mount. 0 or -errno: no thread (then there is no source).
 */
int mirror_source_set(struct mirror *mirror, const struct mirror_source *source);
int mirror_resync_start(struct mirror *mirror); /* 0: it runs or will; -ENOENT: no leg is stale; -EROFS */
/* A resync leaves three quarters of the time to others while there are any. The limit holds besides; 0: none. */
void mirror_resync_limit(struct mirror *mirror, uint64_t bytes_per_second);

/* ---- legs that leave and join a volume in use ---- */

/*
 * The leg is taken out and closed; what it lacks from then on is remembered. -EBUSY: the other one is not whole or is
 * leaving, or this one has not given everything back (then it is out, and may be detached again later); -ENOENT,
 * -EROFS; -ETIMEDOUT: so is it, and the other one's label hangs. `give_up`: on the caller's word nothing that the leg
 * has not answered can change it any more, so that is not waited for (leg_give_up(); -EOPNOTSUPP where the kernel has
 * it). May wait, as long as a request may take.
 */
int mirror_detach(struct mirror *mirror, int leg, bool give_up, struct error *error);
/*
 * An open leg takes the place of the one that is absent, or makes a volume of one leg one of two, and is filled: with
 * what it lacks if it was a leg of this volume, as a whole if not. 0: the mirror owns it. -EEXIST no place is free,
 * -EBUSY the other one is not whole, -ENOSPC too small; unless `force`: -ESTALE it was written alone, -EXDEV it is a
 * leg of another volume. May wait.
 */
int mirror_attach(struct mirror *mirror, struct leg *leg, bool force, struct error *error);
/*
 * An open leg takes the place of one that is there, and is filled as a whole. If that one was in sync it stays open,
 * and is read where no leg in sync has a block right, until the new one is whole, fails or is detached
 * (MIRROR_EVENT_LEG_RELEASED). 0: the mirror owns the new one. Errors as of both calls above; -EBUSY also if the old
 * one has not given everything back, and is then out. Else an error changes nothing but what the new leg holds.
 */
int mirror_replace(struct mirror *mirror, int leg, struct leg *by, bool force, struct error *error);

/*
 * The kernel's claim on the device of the leg with this path passes to the mount that the caller makes next
 * (leg_hand_over()). -ENOTBLK it is no device; -ENOENT no leg has that path; -EBUSY it is not free within the time that
 * a leg has for an answer. If there is no mount then, the caller has nothing more written (mirror_fail()): the device
 * may be another's. May wait; not while legs are detached or replaced.
 */
int mirror_hand_over(struct mirror *mirror, const char *path);

/* ---- what may be changed of a volume in use ---- */

int mirror_policy_named(const char *name); /* -1: there is no such policy */
const char *mirror_policy_name(enum mirror_read_policy policy);

/* From now on, until the volume is closed; as the options that it was opened with. */
void mirror_set_policy(struct mirror *mirror, enum mirror_read_policy policy);
void mirror_set_write_mostly(struct mirror *mirror, unsigned int mask);
/* Of what a leg is given from now on; 0: by what kind of leg it is. The deadline is raised where it is too short. */
void mirror_set_leg_timeout(struct mirror *mirror, uint64_t ns);
void mirror_set_deadline(struct mirror *mirror, uint64_t ns); /* of requests that come from now on; 0: 20 s */

/*
 * For good, durable on each leg that has a label to be written: what the volume is called, and whether it may be opened
 * without mirror_options.degraded while a leg is missing. 0, -EINVAL too long, -EIO, -EROFS, -ETIMEDOUT.
 */
int mirror_set_label(struct mirror *mirror, const char *label);
int mirror_set_degraded_auto(struct mirror *mirror, bool on);
/* Also for good: machines share its legs, so that a mount claims them. Off: but those whose kind it is to be shared. */
int mirror_set_shared(struct mirror *mirror, bool on);

/* ---- legs that have become larger ---- */

/*
 * How large the mirrored space can be by what the legs hold now. -ENOSPC: no more than `blocks`, which it was; `error`
 * names the leg that limits. -EBUSY a leg is away or not whole, -EROFS. This and what follows may wait, and no leg may
 * leave or join meanwhile.
 */
int mirror_grow_room(struct mirror *mirror, uint64_t blocks, uint64_t *room, struct error *error);
/* Blocks of the space, beyond its end, too, are allocated for real in sparse images. 0 or -errno with `error` told. */
int mirror_grow_allocate(struct mirror *mirror, uint64_t block, uint64_t count, struct error *error);
/* The space has so many blocks. 0: the labels of all legs say so, durably; before that nobody may rely on it. */
int mirror_grow(struct mirror *mirror, uint64_t blocks, struct error *error);

/* Of a leg that machines share. */
struct mirror_claim {
	bool on;
	uint64_t since_seconds;
	uint64_t beat_ns; /* how often it is renewed */
	uint64_t left_ns; /* until the leg is given up, if it is not renewed */
};

struct mirror_status {
	struct mirror_identity identity;
	bool healthy; /* every leg of the volume in sync and not leaving, not failed */
	bool failed; /* I12 */
	char failed_why[256];
	bool read_only;
	uint64_t compat, ro_compat; /* feature bits of the labels that are not known */
	enum mirror_read_policy policy;
	unsigned int write_mostly; /* mask of legs */
	uint64_t deadline_ns;
	uint64_t space_blocks;
	struct {
		enum mirror_leg_state state;
		char address[1024];
		char engine[16];
		struct leg_geometry geometry; /* zero unless present */
		struct leg_counters counters;
		uint64_t latency_ns; /* of reads, smoothed */
		uint64_t usual_ns; /* hardly any read takes longer */
		bool slow; /* far slower than the other leg, for good */
		uint64_t hedged; /* reads so late here that the other leg was asked as well */
		uint64_t overtaken; /* of these, those that the other one answered first */
		uint64_t read_errors; /* media errors and bad checksums, told apart from repaired */
		uint64_t checksum_errors;
		uint64_t repaired; /* blocks rewritten */
		uint64_t timeouts;
		uint64_t timeout_ns; /* of one try */
		uint64_t abandoned; /* requests the kernel has not yet given back */
		uint64_t charged; /* errors charged to the leg */
		uint64_t queue; /* requests that it has */
		char drill[LEG_DRILL_MAX]; /* the rules of a drill that is on; "" */
		uint64_t drill_left_ns;
		char why[256]; /* why it is not in sync; "" */
		struct mirror_claim claim;
		bool leaving; /* its image was deleted or moved: it is to be replaced while it is there */
		char replaces[1024]; /* address of the leg that it is filled in place of, which is still open; "" */
	} leg[MIRROR_LEGS];
	uint64_t empty_refused; /* at the mirror's door (I4): must stay 0 */
	uint64_t request_errors; /* of the class "request": charged to nobody */
	uint64_t retries;
	uint64_t unrecoverable; /* blocks known to have no good copy, each counted once; 65536 at most */
	uint64_t deadline_missed; /* requests answered because their time was up */
	struct mirror_resync_status resync;
};
void mirror_status(struct mirror *mirror, struct mirror_status *status);
/*
 * How long the requests of one kind took on what was leg `leg` since the mount, from their submission to their answer,
 * also one that nobody waited for any more. Which leg it was may have changed: histograms only grow.
 */
void mirror_times(struct mirror *mirror, int leg, enum leg_op op, struct histogram *histogram);
void mirror_snapshot(struct mirror *mirror, struct mirror_snapshot *snapshot);
/*
 * Rehearses a fault of a leg, see leg_drill(). -EBUSY: a leg is not in sync, and what befalls the last one would stop
 * the volume; a drill can always be ended. -ENODEV: no such leg.
 */
int mirror_drill(struct mirror *mirror, int leg, const char *rules, uint64_t last_ns, struct error *error);
/* These blocks have no good copy, as a scrub has found. */
void mirror_lost(struct mirror *mirror, uint64_t block, uint32_t count);
/* Those above cannot write any more: nothing is written from here on (I12). Only a new mount ends that. */
void mirror_fail(struct mirror *mirror, const char *why);
/* What the legs have now; the count, at most `most`. */
struct mirror_in_flight {
	int leg;
	const char *op;
	uint64_t block, since_ns; /* of the mirrored space; for so long */
	uint32_t count;
	bool abandoned;
};
size_t mirror_in_flight(struct mirror *mirror, struct mirror_in_flight *list, size_t most);

/* Sets back what was counted of errors and repairs: a scrub has found every copy on every leg sound. */
void mirror_counters_clear(struct mirror *mirror);
/* A scrub, which reads and writes one leg alone, found so many bad blocks on it and rewrote so many: to be counted. */
void mirror_scrubbed(struct mirror *mirror, int leg, uint64_t bad, uint64_t rewritten);

#endif
