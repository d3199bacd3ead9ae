/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The simulated machine: two disks whose bytes outlive its crashes, and the stack mounted on them. It fails the run
 * (sim_fail) where the stack breaks a promise that does not depend on what was stored.
 */
#ifndef SIM_MACHINE_H
#define SIM_MACHINE_H

#include "mirrorfs/base/iobuf.h"
#include "mirrorfs/cache.h"
#include "mirrorfs/format/label.h"
#include "mirrorfs/fs.h"
#include "mirrorfs/meta.h"
#include "mirrorfs/mirror.h"
#include "random.h"

#include <stdbool.h>
#include <stdint.h>

#define MACHINE_LABEL "simulated" /* of a new volume */

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
	bool lively; /* legs leave and join while mounted (legs.h) */
	uint64_t disk_bytes; /* that a disk needs for the volume; it may be larger */
	uint64_t most_bytes; /* that it can ever have */
	uint64_t changes; /* of the disks so far: writes, discards, flushes */
	struct machine_disk {
		struct machine *machine;
		uint64_t bytes; /* so large is it now */
		bool *written; /* [block]: ever */
		uint32_t *blocks; /* those */
		size_t count;
	} disks[MIRROR_LEGS];
	unsigned char *disk[MIRROR_LEGS]; /* while the power is off; NULL: lost for ever */
	bool stale[MIRROR_LEGS]; /* the volume has gone on without it: it must not be the only one */
	bool bad[MIRROR_LEGS]; /* it has answered writes that it did not do: until a scrub it must not be, either */
	bool strange[MIRROR_LEGS]; /* with a history of its own, or none: a mount with it may be refused */
	bool blank[MIRROR_LEGS]; /* never yet filled: whatever its label says, it must not be mounted alone */
	bool divided[MIRROR_LEGS]; /* both legs were written alone: they must be refused together */
	bool split[MIRROR_LEGS]; /* it was refused for its history */
	int suspect; /* the one leg that something is wrong with, or may be; -1: neither */
	bool faulty; /* faults may be injected in this mount */
	bool full; /* both disks, for file data */
	bool spoilt; /* blocks are bad on both legs: errors are right, wrong bytes are not */
	unsigned long problems; /* that the check named then */
	/* while mounted */
	bool whole; /* it was when it was unmounted: it must be so again at once */
	bool went_out;
	bool checkpointing; /* somebody has asked for one */
	enum mirror_leg_state told[MIRROR_LEGS]; /* by events */
	bool filled; /* a leg has come in sync */
	uint64_t tense_until; /* this step: a state has changed a short while ago */
	uint64_t filled_until; /* likewise: a leg has come in sync */
	uint64_t out_until; /* or has gone out, and the label of the other one is about to say so */
	unsigned long empties; /* empty requests made on purpose */
	unsigned int doubted; /* mask of legs: errors may be counted on it */
	unsigned int blamed; /* and charged to it */
	bool harmed[MIRROR_LEGS]; /* it fails requests just now, or does them wrong */
	bool pulled[MIRROR_LEGS];
	bool closing[MIRROR_LEGS]; /* who knows how far it has come */
	bool changing; /* somebody is changing the legs */
	bool growing;
	bool steady; /* what is wrong with a leg stays as it is to the end of this mount */
	const unsigned char *replaced[MIRROR_LEGS]; /* the disk whose place it has; NULL: none, or it says so */
	bool succeeded[MIRROR_LEGS]; /* by the labels that are on the disks, that leg has been whole since then */
	bool rotten; /* what the survivor has lost is on a leg that is being replaced: the power must not fail now */
	bool scrubbing;
	bool serving; /* a level that stands on the mirror alone tells what a leg is filled with */
	unsigned long troubles; /* so far */
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
/* Mounts; with `faulty` (and both legs in sync) legs_fault() works until the end of this mount. */
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
/* Mounts this disk, whose power is on, without the other, and unmounts it. False: it was refused, as it must be. */
bool machine_mount_alone(struct machine *machine, int leg, bool must);
/* False: the volume was refused with an error. */
bool machine_mount_spoilt(struct machine *machine);
/* A mount that comes only so far before the power fails again. */
void machine_mount_cut(struct machine *machine, uint64_t steps);
/* True once in a mount: a leg has gone out of sync since the last call. */
bool machine_leg_went_out(struct machine *machine);
/* Errors may be counted on the leg from now on; charged: charged to it, too. */
void machine_doubt(struct machine *machine, int leg, bool charged);
/* While the power is off: what the label says, LABEL_ flags; and whether the leg may be mounted alone by that. */
struct format_label machine_disk_label(const unsigned char *disk); /* if none is valid: LABEL_RESYNCING alone */
uint32_t machine_label(const struct machine *machine, int leg);
bool machine_label_says_whole(const struct machine *machine, int leg);
/* One disk: its legs are machine->memory[] and ->fault[]. Takes what is left of an earlier one's bytes. */
void machine_power_on(struct machine *machine, int leg);
void machine_power_off(struct machine *machine);
/* Another disk takes its place, whose power is off; that one is open still. */
void machine_swap_disk(struct machine *machine, int leg, uint64_t bytes);
/* So many blocks that both legs hold alike, outside of what is rewritten in place, go bad on `leg`. */
void machine_rot(struct machine *machine, int leg, const unsigned char *other, unsigned int count);
/* It becomes so large, its bytes stay. */
void machine_resize_disk(struct machine *machine, int leg, uint64_t bytes);
/* The bytes are others, and nothing is on them. */
void machine_new_disk(struct machine *machine, int leg, uint64_t bytes);
bool machine_pull(struct machine *machine, int leg); /* false: nothing was at stake */
void machine_create_pool_and_cache(struct machine *machine);
void machine_serve(struct machine *machine, const struct mirror_source *source);
/* What open_mirror() got; the check of fsck.mirrorfs finds nothing wrong with it. */
void machine_open_stack(struct machine *machine);
int machine_checkpoint(struct machine *machine);

#endif
