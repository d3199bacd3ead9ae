/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The superblock: two slots in the mirrored space, written in turn by checkpoints; the newest valid one counts.
 * All addresses are blocks of 4096 bytes of the mirrored space.
 *
 * What is called reserved here is zero until a later mirrorfs gives it a meaning, and a checkpoint keeps it as it was
 * found. Reserved parts of records, nodes and values are written as zero: whoever uses one sets at least a bit in
 * ro_compat. Bits are given out in mirrorfs(5), and none twice.
 */
#ifndef MIRRORFS_FORMAT_SUPER_H
#define MIRRORFS_FORMAT_SUPER_H

#include "mirrorfs/base/endian.h"

#include <assert.h>
#include <stddef.h>

#define FORMAT_VERSION 1u

#define FORMAT_BLOCK 4096u

/* Generations, sequences and object numbers are below this, so that what is added to one never wraps around. */
#define FORMAT_NUMBER_END (UINT64_C(1) << 63)

/* The mirrored space: slots, ring, heap. */
#define SUPER_SLOT0 0u
#define SUPER_SLOT1 16u /* 64 KiB apart: one bad patch of a disk does not take both */
#define SUPER_RING 32u

#define SUPER_MAGIC 0x5553464du /* "MFSU" */

/* A child of a tree node, or the root: where it is and what must be found there. */
struct format_pointer { /* 24 bytes */
	le64 address; /* 0-7: first block of the node */
	le64 generation; /* 8-15: of the checkpoint that wrote it; no node below it is newer */
	le32 crc; /* 16-19: the node's own checksum, kept apart from it */
	le32 reserved; /* 20-23: zero */
};
static_assert(sizeof(struct format_pointer) == 24, "disk format");

/* format_super.scrub_flags */
#define SUPER_SCRUB_UNDER_WAY 1u /* nobody has stopped it: the next mount goes on */

/* format_super.ro_compat */
#define SUPER_RO_SHARED 0x1u /* there may be blocks that files share */
#define SUPER_RO_XATTRS 0x2u /* there may be extended attributes */
#define SUPER_RO_FLAGS 0x4u /* there may be flags of inodes */
#define SUPER_RO_KNOWN (SUPER_RO_SHARED | SUPER_RO_XATTRS | SUPER_RO_FLAGS)

/* format_super.flags */
#define SUPER_UNMOUNTED 1u /* written by an orderly unmount: nothing was done since */

struct format_super { /* 4096 bytes */
	le32 magic; /* 0-3 */
	le32 crc; /* 4-7: of all 4096 bytes, itself counted as zero */
	uint8_t volume[16]; /* 8-23: UUID */
	le64 address; /* 24-31: of this slot */
	le64 generation; /* 32-39: of this checkpoint; the slots alternate */
	le32 version; /* 40-43: FORMAT_VERSION */
	le32 flags; /* 44-47 */
	le64 compat; /* 48-55: unknown bits are ignored */
	le64 ro_compat; /* 56-63: unknown bits: mount read-only */
	le64 incompat; /* 64-71: unknown bits: refuse */
	struct format_pointer root; /* 72-95 */
	le32 root_level; /* 96-99: 0: the root is a leaf */
	le32 reserved1; /* 100-103 */
	le64 sequence; /* 104-111: S: the tree holds every record <= S and nothing later */
	le64 ring_position; /* 112-119: blocks from the ring's start, where record S + 1 is or will be */
	le32 ring_crc; /* 120-123: checksum of record S, the predecessor that S + 1 must name */
	le32 reserved2; /* 124-127 */
	le64 epoch; /* 128-135: of the mount that wrote this slot; records after it carry the same */
	le64 next_object; /* 136-143: the lowest object number never used; numbers are never used again */
	le64 ring_start; /* 144-151 */
	le64 ring_blocks; /* 152-159 */
	le64 heap_start; /* 160-167 */
	le64 heap_blocks; /* 168-175 */
	le64 boundary; /* 176-183: file data above; nodes below, and above when there is no room left below */
	le64 reserve_blocks; /* 184-191: how much of the heap is kept free for nodes */
	le64 data_blocks; /* 192-199: blocks of file data, allocated */
	le64 made_seconds; /* 200-207: when mkfs ran */
	uint8_t hash_key[16]; /* 208-223: SipHash key of directory entry names */
	le64 scrub_position; /* 224-231: file data below was looked at by the latest scrub; 0: all or none */
	le64 scrub_done; /* 232-239: blocks of the space that it has looked at */
	le64 scrub_blocks; /* 240-247: copies that it has verified */
	le64 scrub_repaired; /* 248-255: and rewritten */
	le64 scrub_unrecoverable; /* 256-263: blocks without a good copy */
	le64 scrub_began; /* 264-271: seconds since 1970; 0: there was none */
	le64 scrub_ended; /* 272-279: when the latest one was through; 0: not yet */
	le32 scrub_flags; /* 280-283 */
	le32 reserved3; /* 284-287 */
	le64 grown_start; /* 288-295: what the reserve has got since, above the boundary, for nodes alone; */
	le64 grown_blocks; /* 296-303: 0: nothing. Of what is free there when a volume is mounted */
	uint8_t growth[16]; /* 304-319: reserved for a change of heap_blocks */
	uint8_t reserved[3776]; /* 320-4095 */
};
static_assert(sizeof(struct format_super) == 4096, "disk format");
static_assert(offsetof(struct format_super, hash_key) == 208, "disk format");

#endif
