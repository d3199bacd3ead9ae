/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A record of the journal ring: one or more transactions as key updates with absolute values, and the data blocks
 * that ride inside. A record starts at a block of the ring and is padded to whole blocks. None starts where it might
 * not fit: after a record that ends beyond ring_blocks - JOURNAL_RECORD_BLOCKS, the next one is at position 0.
 */
#ifndef MIRRORFS_FORMAT_JOURNAL_H
#define MIRRORFS_FORMAT_JOURNAL_H

#include "mirrorfs/base/endian.h"
#include "mirrorfs/format/super.h"

#define JOURNAL_MAGIC 0x4e4a464du /* "MFJN" */
#define JOURNAL_RECORD_BLOCKS 64u /* 256 KiB: the longest record */

struct format_record { /* 96 bytes, then the updates, then padding to a block, then the data blocks */
	le32 magic; /* 0-3 */
	le32 crc; /* 4-7: of the whole record with its data and padding, itself counted as zero */
	uint8_t volume[16]; /* 8-23: UUID */
	le64 position; /* 24-31: its own, blocks from the ring's start */
	le64 sequence; /* 32-39: one more than its predecessor's */
	le64 epoch; /* 40-47: of the mount that wrote it */
	le64 generation; /* 48-55: of the checkpoint that will first contain it */
	le32 previous_crc; /* 56-59: its predecessor's crc */
	le32 blocks; /* 60-63: length of all, 1 .. JOURNAL_RECORD_BLOCKS */
	le32 updates; /* 64-67: number of format_update */
	le32 update_bytes; /* 68-71: all of them with their values */
	le32 data; /* 72-75: number of data blocks at the end */
	le32 reserved0; /* 76-79 */
	le64 next_object; /* 80-87: as in the superblock, after this record */
	uint8_t reserved[8]; /* 88-95 */
};
static_assert(sizeof(struct format_record) == 96, "disk format");

enum format_update_kind {
	UPDATE_PUT = 1, /* the key has this value, whatever it had */
	UPDATE_DELETE = 2, /* the key is gone; no value */
	UPDATE_DATA = 3, /* offset: block address whose content is the record's next data block; object, type: zero */
};

struct format_update { /* 24 bytes, then the value padded to 8 */
	le64 object; /* 0-7 */
	le64 offset; /* 8-15 */
	uint8_t type; /* 16 */
	uint8_t kind; /* 17 */
	le16 length; /* 18-19: of the value, bytes */
	le32 reserved; /* 20-23 */
};
static_assert(sizeof(struct format_update) == 24, "disk format");

#endif
