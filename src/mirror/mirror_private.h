/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of src/mirror share.
 *
 * A request is the mirror's own memory: it copies what it needs of the caller's mirror_io, which it does not touch
 * after `done`, because repairs, beaten and abandoned tries outlive the answer. It has one try for each leg. A try is
 * with its leg unless IDLE, and holds a reference to its buffer all that time.
 *
 *	mirror_submit -> launch -> (try_done | keeper: overdue) -> request_step -> launch ... -> request_end -> repair
 *
 * A request is in one hand only: whoever brings `waiting` to 0 under the lock (the completion of the last try, or
 * the keeper that judges it overdue) carries on with it. A read looks at each answer as it comes, since the first
 * right one ends it: there `in_hand` says that somebody does, who will see what others bring meanwhile. One lock
 * guards all; it is never held across a submit, a verify or a completion.
 */
#ifndef MIRROR_PRIVATE_H
#define MIRROR_PRIVATE_H

#include "mirrorfs/base/clock.h"
#include "mirrorfs/base/histogram.h"
#include "mirrorfs/base/log.h"
#include "mirrorfs/base/sync.h"
#include "mirrorfs/format/label.h"
#include "mirrorfs/mirror.h"

#include <bsd/sys/queue.h>

/* A leg that another one replaces keeps a place beside those of the volume: only reads know of it (outgoing.c). */
#define OUTGOING MIRROR_LEGS
#define PLACES (MIRROR_LEGS + 1)

#define TRIES_A_LEG 2u		     /* I5 */
#define TICK_NS (50 * NSEC_PER_MSEC) /* the keeper's */

/* ---- units of a read: a set of at most MIRROR_IO_BLOCKS ---- */

struct unit_set {
	uint64_t word[MIRROR_IO_BLOCKS / 64];
};

static inline bool unit_in(const struct unit_set *set, uint32_t unit)
{
	return set->word[unit / 64] >> (unit % 64) & 1;
}

static inline void unit_add(struct unit_set *set, uint32_t unit)
{
	set->word[unit / 64] |= UINT64_C(1) << (unit % 64);
}

static inline void unit_drop(struct unit_set *set, uint32_t unit)
{
	set->word[unit / 64] &= ~(UINT64_C(1) << (unit % 64));
}

static inline bool unit_any(const struct unit_set *set)
{
	uint64_t any = 0;

	for (unsigned int i = 0; i < MIRROR_IO_BLOCKS / 64; i++)
		any |= set->word[i];
	return any;
}

/* ---- requests and tries ---- */

enum try_state {
	TRY_IDLE, /* not with the leg */
	TRY_FLYING,
	TRY_BEATEN,    /* a read that the other leg has answered; it still has its time */
	TRY_ABANDONED, /* given up; the leg still has the buffer */
};

struct
try {
	struct leg_io io;
	struct request *request;
	int leg;
	enum try_state state;
	bool overdue;		  /* flying, and its time is up; judged when the request waits for no other */
	bool answered;		  /* by the leg, since it was last launched */
	bool unjudged;		  /* answered, and what that means is not decided yet */
	bool late;		  /* a read of which the other leg was asked, too, because it took so long */
	bool unread;		  /* a read whose answer was not looked at yet: it has the request's buffer */
	bool spare;		  /* it reads into request.spare, else into request.buf */
	enum leg_verdict verdict; /* of the answer */
	unsigned int count;	  /* tries so far (I5) */
	uint64_t begun_ns, due_ns; /* running time */
	uint64_t took_ns;	  /* the leg, to answer; 0: the clock cannot tell */
	struct iobuf *buf;	  /* while with the leg */
	struct mirror_pin *pin;	  /* an abandoned write or discard may still land: its range is not to be reused */
	TAILQ_ENTRY(try) entry;	  /* mirror_leg.tries */
	TAILQ_ENTRY(try) refused; /* mirror.refused */
};
TAILQ_HEAD(try_list, try);

enum request_list_name { ON_NONE, ON_HELD, ON_STARVED, ON_ENDED };

struct request {
	struct mirror *mirror;
	struct mirror_io *io; /* the caller's; NULL once answered */
	enum mirror_op op;
	unsigned int flags;
	uint64_t block;
	uint32_t count;
	uint64_t deadline_ns; /* running time */
	bool expired;	      /* the deadline passed */
	bool retired;	      /* answered, and any repair done: only abandoned tries keep it */
	bool repairing;
	bool in_hand;	      /* of a read: somebody looks at its answers */
	unsigned int waiting; /* tries that fly and are not overdue */
	unsigned int targets; /* mask of legs: of a write those it went to */
	int only;	      /* MIRROR_ONLY_LEGn, else -1 */
	int error;	      /* ON_ENDED */
	int hold_leg;	      /* ON_HELD: the leg whose label, of this version, must be durable */
	uint64_t hold;
	struct try tries[PLACES];
	enum request_list_name on;
	TAILQ_ENTRY(request) entry; /* mirror.requests */
	TAILQ_ENTRY(request) queue; /* the list that `on` names, or a thread's own work list */

	struct iobuf *buf; /* the data; where a leg keeps the first one of a read: another, or NULL */
	size_t offset;

	/* reads */
	uint32_t unit_blocks, units;
	bool fresh;	     /* nothing in buf, and nobody reads into it */
	struct iobuf *spare; /* what later tries read into; the source of repairs */
	int leg;	     /* of the latest try */
	bool single;	     /* it reads the one unit `unit` */
	uint32_t unit;
	struct unit_set have;	     /* verified and in buf */
	struct unit_set copied;	     /* verified and in spare */
	struct unit_set bad[PLACES]; /* the leg's copy is known bad */
	struct mirror_pin *pin;

	/* its repair */
	uint32_t run; /* units in the write in flight, from `unit` on */
};
TAILQ_HEAD(request_list, request);

/* ---- the mirror ---- */

/* The writing of one leg's label. Numbers count versions: wanted >= writing >= durable. */
struct relabel {
	uint64_t wanted, writing, durable;
	bool flying, answered;
	int error;
	unsigned int tries;
	uint64_t due_ns; /* running time */
	uint64_t begun_ns; /* clock_boot_ns() */
	struct leg_io io;
	struct mirror *mirror;
	void *image;
};

/* Whether the leg's path still names it. */
struct look {
	uint64_t due_ns; /* of the clock; CLOCK_NEVER: it has no name that could be lost */
	bool flying, answered;
	int error;
	struct leg_io io;
	struct mirror *mirror;
};

/* A mount's hold on a leg that machines share (claim.c). Times are of clock_boot_ns(). */
struct claim {
	bool on;
	uint64_t renewed_ns;	   /* its newest label there was begun then */
	_Atomic uint64_t until_ns; /* nothing is written from then on; CLOCK_NEVER: the leg is not shared */
	uint64_t due_ns;	   /* the next beat */
	uint64_t sequence, begun_ns; /* of the label that is looked for, when its writing began */
	bool flying, answered;
	int error;
	struct leg_io io;
	struct mirror *mirror;
	void *image;
};

struct mirror_leg {
	struct leg *leg; /* NULL: not given */
	enum mirror_leg_state state;
	char why[256];
	struct format_label label; /* as last written, or to be written; valid if leg */
	struct relabel relabel;
	struct look look;
	struct claim claim;
	bool leaving;
	uint64_t timeout_ns;
	struct try_list tries; /* with the leg, oldest first */
	unsigned int unjudged; /* its answers that somebody is yet to judge: as long it is this leg */
	unsigned int reading;  /* reads in flight */
	unsigned int late;     /* of these, those that took so long that the other leg was asked, too */
	uint64_t latency_ns;   /* of reads: their mean, new ones weigh more */
	uint64_t usual_ns;     /* hardly any of them takes longer */
	uint64_t slow_history; /* of the last 64 requests, a bit each: it was slow */
	uint64_t noted_ns; /* there: what was submitted before has been told with it */
	bool slow;
	uint64_t read_errors, checksum_errors, repaired, timeouts, abandoned, charged, hedged, overtaken;
};

struct resync {
	struct mirror_source source;
	struct thread thread;
	struct cond wake;
	bool wanted, cancelled;
	bool stopping; /* there is no source any more */
	bool looking;  /* what is read now is read to find what to copy */
	int leg;       /* being filled; -1: none */
	unsigned int flying;
	struct mirror_since since; /* what the leg had when it began */
	uint64_t upto;		   /* what is born later is on both legs */
	uint64_t copied;	   /* what lies below is, too */
	uint64_t done, total, lost; /* blocks */
	uint64_t ended;
	uint64_t started_ns, piece_ns, foreground_ns;
	uint64_t limit, due_ns; /* bytes a second, 0: none; when the next piece may begin */
};

struct event {
	struct mirror_event event;
	enum log_level level;
	char text[512];
	TAILQ_ENTRY(event) entry;
};

struct mirror_pin {
	struct mirror *mirror;
	uint64_t generation;
	unsigned long refs;
	TAILQ_ENTRY(mirror_pin) entry;
};

struct pins {
	struct mutex lock; /* RANK_LEAF */
	uint64_t generation;
	TAILQ_HEAD(pin_list, mirror_pin) list; /* oldest first */
	struct mirror_pin reserve;	       /* for when memory is out */
};

/* Ascending. */
struct lost {
	uint64_t *blocks;
	size_t count, room;
};

#define STREAMS 16u

/* A sequential reader, if somebody goes on there. */
struct stream {
	uint64_t next_block; /* 0: nobody has read yet */
	int leg;
};

struct mirror {
	struct mutex lock; /* RANK_MIRROR */
	struct cond kick;  /* the keeper */
	struct cond idle;  /* mirror_close */
	struct thread keeper;
	bool ticking, stopping, late;
	uint64_t running_ns, tick_ns; /* running time; when it was last advanced */
	uint64_t resumed_ns;	      /* when it was last seen that the clock had jumped */

	struct mirror_options options;
	struct mirror_identity identity;
	struct format_claim claim; /* by which it holds the legs that machines share */
	_Atomic uint64_t space_blocks; /* it may grow */
	uint64_t deadline_ns;
	struct mirror_leg legs[PLACES];
	struct histograms *times; /* what each place took, by operation: LEG_OPS a place */
	int replaced; /* whose place OUTGOING had */
	bool failed;	     /* I12 */
	char failed_why[256];
	uint64_t generation; /* durable on every leg while all are in sync */
	uint64_t checkpoint; /* durable on those that were in sync or being filled */
	bool unexpected;     /* a leg was missing at the mount, and nobody knows yet what it lacks */
	uint64_t alone;	     /* blocks written without a leg, which no label counts yet */
	struct resync resync;
	unsigned int turn; /* round robin */
	struct stream streams[STREAMS];
	unsigned int stream_turn; /* the next to be forgotten */

	struct request_list requests; /* not answered, oldest first */
	struct request_list held, starved, ended;
	struct try_list refused; /* by leg_submit() */
	struct request_list idle_requests;
	unsigned int idle_count;
	unsigned int working; /* requests not retired */
	unsigned int beaten;  /* tries */
	TAILQ_HEAD(, event) events;
	unsigned int event_count;
	struct pins pins;

	uint64_t empty_refused, request_errors, retries, deadline_missed;
	struct lost lost; /* blocks without a good copy */
};

/* ---- label.c ---- */

extern uint64_t label_patience_ns; /* how long reading or writing a label is waited for; tests have less */
uint64_t label_slot(uint64_t sequence);
/* Sets address, time and crc for the sequence that it carries. */
void label_seal(struct format_label *label);
/* The newest valid label of a leg; errors as mirror_label_read(). May wait. */
int label_read(struct leg *leg, struct format_label *label, struct error *error);
int label_read_slots(struct leg *leg, struct format_label *label, unsigned int *bad, struct error *error);
/* Writes the next sequence, durably. 0 or -errno. May wait. */
int label_write_wait(struct leg *leg, struct format_label *label);
void label_begin_epoch(struct format_label *label, bool alone, uint64_t generation);
void label_count_written(struct format_label *label, uint64_t blocks); /* in its newest epoch */
/* True if `label` knows the newest epoch of `of`. */
bool label_knows(const struct format_label *label, const struct format_label *of);
const uint8_t *label_newest(const struct format_label *label); /* UUID of its newest epoch */
/* The stale leg has all that was born up to this generation, as the other one's label says; 0: nobody knows. */
uint64_t label_lacks_after(const struct format_label *whole, const struct format_label *stale);
/* The leg has become equal to that of `from`. */
void label_adopt(struct format_label *label, const struct format_label *from);
void label_set_path(struct format_label *label, int leg, const char *path);
bool label_has(const struct format_label *label, uint32_t flag);
void label_set(struct format_label *label, uint32_t flag, bool on);
bool label_replaced(const struct format_label *label);
void label_set_replaced(struct format_label *label, bool replaced);
bool label_shared(const struct format_label *label);
void label_set_claim(struct format_label *label, const struct format_claim *claim); /* NULL: it is not shared */
/* What was read at that address is a label, as it was written there, of whatever version. */
bool label_sound(const struct format_label *label, uint64_t address);

/* ---- relabel.c ---- */

/* The label in memory was changed: the keeper writes it. Returns the version that then must become durable. */
uint64_t relabel_want_locked(struct mirror *mirror, int leg);
bool relabel_durable_locked(const struct mirror *mirror, int leg, uint64_t version);
bool relabel_has_locked(const struct mirror *mirror, int leg); /* its label is kept up to date */
/* Waits until it is durable: 0. -EIO: the leg is out, or the volume has failed. -EINTR: it ends. Not for the keeper. */
int relabel_wait_locked(struct mirror *mirror, int leg, uint64_t version);
int relabel_wait_until_locked(struct mirror *mirror, int leg, uint64_t version, uint64_t until_ns); /* or -ETIMEDOUT */
uint64_t relabel_deadline_ns(const struct mirror *mirror); /* for somebody who waits from now on */
bool relabel_flying_locked(const struct mirror *mirror);
/* What the labels are still to say, they say; or they never will. */
bool relabel_settled_locked(const struct mirror *mirror);
/* The keeper's own. */
bool relabel_work_locked(struct mirror *mirror); /* true: something was done */
void relabel_release_locked(struct mirror *mirror);
void relabel_expire_locked(struct mirror *mirror, int leg);

/* ---- claim.c ---- */

extern uint64_t claim_settle_ns; /* tests have less */
extern unsigned int claim_wait_fences;
void claim_make(struct format_claim *claim, const struct mirror_options *options);
/*
 * The legs that are shared become ours, others are left alone: 0, and begun_ns of each is what claim_begin_locked() is
 * to be told. -EBUSY: another mount has one, or may have; `way_out` says by which word a silent one is taken.
 * -ETIMEDOUT. Nobody's if it fails. A mount that only reads makes sure that nobody writes, and takes none. May wait.
 */
int claim_take(struct leg *legs[MIRROR_LEGS], const struct format_claim *by, const struct mirror_options *options,
	       const char *way_out, uint64_t begun_ns[MIRROR_LEGS], struct error *error);
/* What was claimed then, and not renewed since, is still ours to write. */
bool claim_lasts(const struct format_claim *claim, uint64_t begun_ns);
/* Nobody's, if it still was ours, since begun_ns: nothing of ours may be under way to the leg. May wait. */
void claim_drop(struct leg *leg, const struct format_claim *by, uint64_t begun_ns);
/* A leg has come to its place, claimed at begun_ns; 0: it is not shared. */
void claim_begin_locked(struct mirror *mirror, int leg, uint64_t begun_ns);
void claim_renewed_locked(struct mirror *mirror, int leg, uint64_t begun_ns); /* a label begun then is there */
/* May it be written now? If not, the leg goes out with it, or the volume fails. */
bool claim_holds(struct mirror *mirror, int leg);
bool claim_holds_locked(struct mirror *mirror, int leg);
/* The keeper's own. */
uint64_t claim_next_locked(const struct mirror *mirror);
bool claim_work_locked(struct mirror *mirror);
void claim_tell_locked(const struct mirror *mirror, int leg, struct mirror_claim *told);

/* ---- look.c ---- */

extern uint64_t look_period_ns; /* tests have less */
void look_begin_locked(struct mirror *mirror, int leg);
uint64_t look_next_locked(const struct mirror *mirror); /* when there is something to do again */
bool look_work_locked(struct mirror *mirror); /* the keeper's own; true: something was done */

/* ---- state.c ---- */

bool state_legal(enum mirror_leg_state from, enum mirror_leg_state to);
/* Aborts if the transition is illegal. One event. */
void state_set_locked(struct mirror *mirror, int leg, enum mirror_leg_state state, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
/*
 * The leg goes out: OFFLINE, the survivor's label is to say so. The other leg must be in sync; else nothing
 * happens and false is returned (I12).
 */
bool leg_out_locked(struct mirror *mirror, int leg, const char *format, ...) __attribute__((format(printf, 3, 4)));
void volume_fail_locked(struct mirror *mirror, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool leg_writable(const struct mirror *mirror, int leg); /* new writes go to it */
int survivor_locked(const struct mirror *mirror);	 /* the one leg in sync; -1: all legs of the volume are */
void event_post_locked(struct mirror *mirror, enum mirror_event_kind kind, enum log_level level, int leg,
		       uint64_t block, uint32_t count, const char *format, ...) __attribute__((format(printf, 7, 8)));

/* ---- assemble.c ---- */

struct assembly {
	struct leg *leg[MIRROR_LEGS]; /* by index */
	struct format_label label[MIRROR_LEGS];
	unsigned int bad[MIRROR_LEGS]; /* copies of its label */
	enum mirror_leg_state state[MIRROR_LEGS];
	char why[MIRROR_LEGS][256];
	int leg_count;
	uint64_t space_blocks;
};
int assemble(struct leg *legs[MIRROR_LEGS], const struct mirror_options *options, struct assembly *assembly,
	     struct error *error);

/* ---- request.c ---- */

struct request *request_create(struct mirror *mirror, struct mirror_io *io);
void request_arm_locked(struct request *request, int leg, enum leg_op op, unsigned int flags, uint64_t block,
			uint32_t count, struct iobuf *buf, size_t offset);
void request_launch(struct request *request, unsigned int mask);
void request_overdue_locked(struct try *try, struct request_list *work);
void request_give_up_locked(struct try *try);
void request_gather_locked(struct request *request);
void request_judged_locked(struct try *try); /* nobody looks at its answer any more */
void request_park_locked(struct request *request, enum request_list_name on);
void request_unpark_locked(struct request *request);
void request_step(struct request *request);
void request_end(struct request *request, int error);
void request_retire(struct request *request);
void request_try_done(struct leg_io *io);
bool try_timed_out(const struct try *try);

/* ---- lost.c ---- */

void lost_add_locked(struct mirror *mirror, uint64_t block, uint32_t count);
void lost_drop_locked(struct mirror *mirror, uint64_t block, uint32_t count);

/* ---- pick.c ---- */

int pick_leg_locked(struct mirror *mirror, uint64_t block, uint32_t count);
void pick_note_locked(struct mirror *mirror, int leg, uint64_t block, uint32_t count);

/* ---- pace.c ---- */

#define LATE_TICKS 4u /* a tick that comes later than this: the clock has jumped */

uint64_t pace_took_ns(const struct mirror *mirror, const struct leg_io *io); /* 0: the clock cannot tell */
void pace_read_locked(struct mirror *mirror, const struct try *try);
void pace_write_locked(struct mirror *mirror, const struct request *request);
uint64_t pace_patience_ns(const struct mirror_leg *leg); /* a read that takes longer is late; CLOCK_NEVER: none is */

/* ---- read.c, write.c, repair.c ---- */

int read_first_locked(struct request *request, unsigned int *mask);
void read_step(struct request *request);
void read_resume(struct request *request);
void read_deliver(struct request *request);
/* A read that is late and of which the other leg was not asked yet: armed there. NULL: none. */
struct request *read_hedge_locked(struct mirror *mirror);
void read_beaten_locked(struct try *try);	  /* it has come back after all */
void read_beaten_overdue_locked(struct try *try); /* it has not */
bool read_late_locked(const struct mirror *mirror, int leg); /* it keeps readers waiting */
int write_first_locked(struct request *request, unsigned int *mask);
void write_step(struct request *request);
/* Something is written without the other leg: its epoch begins. The leg whose label has to say so; -1: both are in. */
int write_alone_locked(struct mirror *mirror);
void discard_step(struct request *request);
bool repair_prepare(struct request *request);
void repair_start(struct request *request);
void repair_step(struct request *request);

/* ---- outgoing.c ---- */

void outgoing_keep_locked(struct mirror *mirror, int leg); /* it has left its place, whole and quiet */
/*
 * `replaced`: its label is to say so, which `by` claims if machines share it. False: it does not answer, and stays
 * open. May wait some seconds.
 */
bool outgoing_close(struct leg *leg, bool replaced, const struct format_claim *by);
bool outgoing_succeeded_locked(struct mirror *mirror); /* the one in its place is whole, durably; may wait for labels */
bool outgoing_tend_locked(struct mirror *mirror); /* true: it was let go, and the lock was dropped for that */

/* ---- mirror.c ---- */

void leg_take_locked(struct mirror *mirror, int leg, struct leg *open);
bool leg_busy(const struct mirror_leg *mine); /* it has something of ours */
bool leg_quiet(const struct mirror_leg *mine); /* it may be closed */
void leg_forget(struct mirror_leg *mine); /* another one has its place: what was counted and measured of it */

/* ---- settings.c ---- */

void settings_times_locked(struct mirror *mirror); /* each leg's time for a try, a deadline with room for them */

/* ---- resync.c ---- */

void resync_cancel_locked(struct mirror *mirror); /* waits until none runs */
struct mirror_since resync_since_locked(const struct mirror *mirror, int leg);
bool resync_missing_locked(const struct mirror *mirror, struct mirror_missing *missing); /* as mirror_missing() */
struct mirror_resync_status resync_status_locked(const struct mirror *mirror);

/* ---- keeper.c, pin.c ---- */

void keeper_run(void *arg);
void keeper_wake_locked(struct mirror *mirror); /* requests are in flight: the clock must run */
void keeper_lost_locked(struct mirror *mirror);
void pins_init(struct mirror *mirror);
void pins_fini(struct mirror *mirror);

#endif
