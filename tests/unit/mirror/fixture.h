/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A volume on two disks whose answers the test decides, and what the tests ask of it. */
#ifndef FIXTURE_H
#define FIXTURE_H

#include "fake_leg.h"
#include "mirror_private.h"

#include <check.h>
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#define DISK_SIZE (UINT64_C(8) << 20)

extern struct disk *disks[2];
extern struct mirror *mirror;
extern struct iobuf_pool *pool;
extern struct mirror_options options;
extern struct error why;

/* Formatted, and opened with leg 0 preferred for reads, leg_timeout 50 ms, deadline 2 s. */
void setup(void);
/* Only the disks and the pool: for tests that open by themselves. */
void setup_disks(void);
void teardown(void);
/* The same with a clock that the test lets jump to so much after the real one, as it does for a stopped process. */
void setup_jumping(void);
void teardown_jumping(void);
void clock_jump(uint64_t ns);
uint64_t running_now(void); /* the mirror's */
/* The same where a test can come in between: when this thread next gives the mirror's lock up, `hook` is run. */
void setup_hooked(void);
void teardown_hooked(void);
void at_unlock(void (*hook)(void));
int open_both(void);
int open_legs(struct disk *first, struct disk *second); /* 0 or what mirror_open() said; closes the legs on failure */
void close_mirror(void);				/* ends everything that hangs first */

/* A block's right content follows from its number. */
void fill(uint64_t block, uint32_t count); /* on both disks */
void rot(int leg, uint64_t block);	   /* makes it wrong on that disk */
bool block_right(int leg, uint64_t block);
bool verify_blocks(const struct mirror_io *io, uint32_t unit, const void *data);

/* Requests that are answered in the background. */
struct shot {
	struct mirror_io io;
	struct mutex lock;
	struct cond cond;
	bool done;
	struct iobuf *given;
	void (*at_done)(struct shot *shot);
	int seen;
};
void shot_init(struct shot *shot, enum mirror_op op, uint64_t block, uint32_t count);
int shot_fire(struct shot *shot);
bool shot_done(struct shot *shot);
int shot_wait(struct shot *shot);		 /* and puts its buffer */
int read_blocks(uint64_t block, uint32_t count); /* verified in units of one block, under a pin; checks the data */
int write_blocks(uint64_t block, uint32_t count, unsigned int flags);
int flush(void);
void wait_repairs(void); /* until the mirror has retired every request */

/* Rules. */
int rule_hang(struct disk *disk, const struct leg_io *io, void *context);
int rule_fail(struct disk *disk, const struct leg_io *io, void *context); /* everything, with *(int *)context */
int rule_fail_reads(struct disk *disk, const struct leg_io *io, void *context);
int rule_fail_writes(struct disk *disk, const struct leg_io *io, void *context);
int rule_fail_flushes(struct disk *disk, const struct leg_io *io, void *context);
int rule_fail_labels(struct disk *disk, const struct leg_io *io, void *context);
int rule_hang_labels(struct disk *disk, const struct leg_io *io, void *context);

struct mirror_status status(void);
enum mirror_leg_state state_of(int leg);
struct format_label label_of(struct disk *disk); /* the newest valid one in its bytes */
/* Rewrites that one in place after `change`. */
void change_label(struct disk *disk, void (*change)(struct format_label *label));
unsigned int events_of(enum mirror_event_kind kind);

TCase *read_tests(void);
TCase *resync_tests(void);
TCase *write_tests(void);
TCase *clock_tests(void);
TCase *late_tests(void);
TCase *hedge_tests(void);
TCase *stopped_tests(void);
TCase *between_tests(void);
TCase *pick_tests(void);
TCase *settings_tests(void);
TCase *assemble_tests(void);
TCase *look_tests(void);
TCase *replace_tests(void);
TCase *state_tests(void);

#endif
