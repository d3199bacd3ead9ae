/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The label: what makes a device or file a leg of a volume. Two slots lie before the mirrored space of each leg
 * and are written in turn, the slot being the parity of the sequence, so that a torn write leaves the older one.
 *
 * The history is a list of epochs, oldest first. An epoch is begun when the volume is made and whenever it is
 * first written without one of its legs. A leg whose newest epoch is known to the other leg has an ancestor of
 * the other's content; if neither knows the other's newest epoch, both were written alone.
 *
 * What is called reserved is zero until a later mirrorfs gives it a meaning, and is kept as it is found whenever a
 * label is written anew. Whoever uses it so that this does not suffice sets a feature bit.
 */
#ifndef MIRRORFS_FORMAT_LABEL_H
#define MIRRORFS_FORMAT_LABEL_H

#include "mirrorfs/base/endian.h"

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#define LABEL_MAGIC 0x4c53464du /* "MFSL" */
#define LABEL_VERSION 1u
#define LABEL_SIZE 4096u
#define LABEL_SLOTS 2
#define LABEL_SLOT0 UINT64_C(4096) /* byte offsets on the leg: a boot sector or partition table spares them, */
#define LABEL_SLOT1 UINT64_C(528384) /* and one bad patch of a disk does not take both */
#define LABEL_LEGS 2
#define LABEL_PATH_SIZE 1024
#define LABEL_HISTORY 32 /* the oldest epoch is dropped to make room */

/* format_label.flags */
#define LABEL_LACKS_OTHER 1u /* the volume runs on without the other leg, see lacks_after */
#define LABEL_RESYNCING 2u /* this leg is being filled: not mountable alone */
#define LABEL_SUPERSEDED 4u /* the other leg was seen to be newer: not mountable alone */
#define LABEL_EPOCH_ALONE 8u /* the newest epoch was begun without the other leg */
#define LABEL_DEGRADED_AUTO 16u /* policy: a missing leg never needs the user's word */

/* format_label.compat */
#define LABEL_COMPAT_REPLACED 0x1u /* another leg has its place, and is whole: of no volume, unless mounted by name */
#define LABEL_COMPAT_KNOWN LABEL_COMPAT_REPLACED

/* format_label.incompat */
#define LABEL_INCOMPAT_SHARED 0x1u /* machines share the leg: the claim holds */
#define LABEL_INCOMPAT_KNOWN LABEL_INCOMPAT_SHARED

struct format_epoch { /* 40 bytes */
	uint8_t uuid[16]; /* 0-15 */
	le64 begun_seconds; /* 16-23: since 1970 */
	le64 generation; /* 24-31: the last checkpoint before it that was durable; 0: not known */
	le64 written; /* 32-39: blocks written in it without the other leg, as of this label; 0: not known */
};
static_assert(sizeof(struct format_epoch) == 40, "disk format");

/*
 * How far this leg has been filled, while LABEL_RESYNCING. It has what was born up to `generation` and lies below
 * `position`; what was born later may be missing anywhere. A hint: with `generation` 0 all is copied again.
 */
struct format_resync { /* 56 bytes */
	le64 after; /* 0-7: it had what was born up to this generation when it began; 0: nothing is known */
	le64 generation; /* 8-15 */
	le64 position; /* 16-23: block of the mirrored space */
	uint8_t epoch[16]; /* 24-39: the newest of the leg that it is filled from */
	uint8_t reserved[16]; /* 40-55 */
};
static_assert(sizeof(struct format_resync) == 56, "disk format");

/*
 * Which mount has the leg, with LABEL_INCOMPAT_SHARED; each label that is written with it, one every `beat_ms`, says
 * that this still holds. Who has written none for `fence_ms` writes nothing any more; others may take it when none was
 * written for `wait_ms`. They write both slots.
 */
struct format_claim { /* 128 bytes */
	uint8_t mount[16]; /* 0-15: drawn for each mount; zero: nobody has it, and all else is zero, too */
	uint8_t machine[16]; /* 16-31: a hash of its machine-id; zero: not known */
	uint8_t boot[16]; /* 32-47: its kernel's boot_id; zero: not known */
	le64 since_seconds; /* 48-55: when it was claimed */
	le32 beat_ms; /* 56-59 */
	le32 fence_ms; /* 60-63 */
	le32 wait_ms; /* 64-67 */
	uint8_t host[52]; /* 68-119: its name for people, NUL-terminated */
	uint8_t reserved[8]; /* 120-127 */
};
static_assert(sizeof(struct format_claim) == 128, "disk format");

struct format_label { /* 4096 bytes */
	le32 magic; /* 0-3 */
	le32 crc; /* 4-7: of all 4096 bytes, itself counted as zero */
	uint8_t volume[16]; /* 8-23: UUID */
	le64 address; /* 24-31: of this slot, bytes from the leg's start */
	le64 sequence; /* 32-39: of this label on this leg; the larger one counts */
	le32 version; /* 40-43: LABEL_VERSION */
	le32 flags; /* 44-47 */
	le64 compat; /* 48-55: unknown bits are ignored */
	le64 ro_compat; /* 56-63: unknown bits: mount read-only */
	le64 incompat; /* 64-71: unknown bits: refuse */
	uint8_t leg[LABEL_LEGS][16]; /* 72-103: UUIDs, leg 1 zero in a single-leg volume */
	le32 index; /* 104-107: which leg this is */
	le32 leg_count; /* 108-111: 1 or 2 */
	le64 space_blocks; /* 112-119: of the mirrored space */
	le64 lacks_after; /* 120-127: the other leg lacks what was born after this generation */
	le64 written_seconds; /* 128-135: when this label was written */
	uint8_t name[64]; /* 136-199: the volume's label for people, NUL-terminated */
	struct format_resync resync; /* 200-255: of this leg */
	uint8_t path[LABEL_LEGS][LABEL_PATH_SIZE]; /* 256-2303: addresses of the legs, NUL-terminated; "" not known */
	le32 history_count; /* 2304-2307: 1 .. LABEL_HISTORY */
	le32 reserved0; /* 2308-2311 */
	struct format_epoch history[LABEL_HISTORY]; /* 2312-3591: oldest first */
	struct format_claim claim; /* 3592-3719: the machine that has it mounted */
	uint8_t growth[32]; /* 3720-3751: reserved for a change of space_blocks under way */
	uint8_t reserved[344]; /* 3752-4095 */
};
static_assert(sizeof(struct format_label) == LABEL_SIZE, "disk format");
static_assert(offsetof(struct format_label, space_blocks) == 112, "disk format");
static_assert(offsetof(struct format_label, path) == 256, "disk format");
static_assert(offsetof(struct format_label, history_count) == 2304, "disk format");
static_assert(offsetof(struct format_label, history) == 2312, "disk format");
static_assert(offsetof(struct format_label, claim) == 3592, "disk format");

#endif
