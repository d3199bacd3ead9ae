/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The simulated machine: two disks whose bytes outlive its crashes, and the stack mounted on them. It fails the run
 * (sim_fail) where the stack breaks a promise that does not depend on what was stored.
 */
#ifndef SIM_MACHINE_H
#define SIM_MACHINE_H

#include "mirrorfs/base/iobuf.h"
#include "mirrorfs/cache.h"
#include "mirrorfs/fs.h"
#include "mirrorfs/meta.h"
#include "mirrorfs/mirror.h"
#include "random.h"

#include <stdbool.h>
#include <stdint.h>

enum machine_height { MACHINE_MIRROR, MACHINE_META, MACHINE_FS }; /* how much of the stack is mounted */

/* How a disk is left by a crash. */
enum machine_cut {
	MACHINE_CUT_ANY, /* what was not durable is kept, lost, torn, reordered */
	MACHINE_CUT_DURABLE, /* it is lost */
	MACHINE_CUT_COMPLETED /* what had completed is kept, and nothing else */
};

struct machine {
	struct sim_random random;
	enum machine_height height;
	bool busy; /* actors do not rest, the ring is short, and flushes are often slow */
	uint64_t disk_bytes;
	uint64_t changes; /* of the disks so far: writes, discards, flushes */
	struct machine_disk {
		struct machine *machine;
		bool *written; /* [block]: ever */
		uint32_t *blocks; /* those */
		size_t count;
	} disks[MIRROR_LEGS];
	unsigned char *disk[MIRROR_LEGS]; /* while the power is off; NULL: lost for ever */
	bool stale[MIRROR_LEGS]; /* the volume has gone on without it: it must not be the only one */
	int suspect; /* the one leg that faults were injected on since the last scrub; -1: none */
	bool lied; /* it may have answered a write that it did not do */
	bool faulty; /* faults may be injected on it in this mount */
	bool spoilt; /* blocks are bad on both legs: errors are right, wrong bytes are not */
	unsigned long problems; /* that the check named then */
	/* while mounted */
	bool went_out;
	bool checkpointing; /* somebody has asked for one */
	int doubted; /* the suspect when this mount began: errors may be counted on it */
	struct leg *memory[MIRROR_LEGS];
	struct leg *fault[MIRROR_LEGS]; /* around it; NULL: none */
	bool dying; /* a disk is dead, and the power is about to fail */
	struct iobuf_pool *pool;
	struct mirror *mirror;
	struct cache *cache;
	struct meta *meta;
	struct fs *fs;
};

void machine_init(struct machine *machine, uint64_t seed, enum machine_height height);
/* Makes an empty volume on both disks. */
void machine_format(struct machine *machine);
/* Mounts; with `faulty` (and both legs in sync) machine_fault() works until the end of this mount. */
void machine_mount(struct machine *machine, bool faulty);
/* Ends the mount in order. No actor may be running. */
void machine_unmount(struct machine *machine);
/*
 * The power fails, for each disk at a point of its own: sometimes one dies a while before the other, which goes on.
 * Once in `lost_odds` times a disk is lost with it.
 */
void machine_crash(struct machine *machine, unsigned int lost_odds);
/* At once, both disks as told; `lost` (-1: none) is lost. */
void machine_crash_as(struct machine *machine, enum machine_cut how, int lost);
/* While the power is off: a hash of both disks. */
uint64_t machine_image(const struct machine *machine);
/* While the power is off: some blocks that were written go bad on both disks. Errors are foreseen from then on. */
void machine_spoil(struct machine *machine);
/* False: the volume was refused with an error. */
bool machine_mount_spoilt(struct machine *machine);
/* A mount that comes only so far before the power fails again. */
void machine_mount_cut(struct machine *machine, uint64_t steps);
/*
 * Changes what is wrong with the suspect leg. The other leg's copies are all good, so nothing may fail: no read, no
 * write, no sync.
 */
void machine_fault(struct machine *machine);
/* True once in a mount: a leg has gone out of sync since the last call. */
bool machine_leg_went_out(struct machine *machine);
/* Has everything verified. Unless faults go on: again, and the second pass must find nothing to repair. */
void machine_scrub(struct machine *machine);
/* With everything synced and nobody at work: both legs have the same slots, and the same records in the ring. */
void machine_compare_legs(struct machine *machine);
int machine_checkpoint(struct machine *machine);
void machine_check_counters(struct machine *machine);

#endif
