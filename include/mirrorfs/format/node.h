/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tree nodes and the keys and values in them. A node is 16 KiB: a header, an array of items in key order growing
 * upwards, and their values growing downwards from the end. In internal nodes each value is a format_pointer and
 * the key is the smallest that may be found below.
 */
#ifndef MIRRORFS_FORMAT_NODE_H
#define MIRRORFS_FORMAT_NODE_H

#include "mirrorfs/base/endian.h"
#include "mirrorfs/format/super.h"

#define NODE_MAGIC 0x4f4e464du /* "MFNO" */
#define NODE_BYTES 16384u
#define NODE_BLOCKS (NODE_BYTES / FORMAT_BLOCK)
#define NODE_LEVELS 12u /* the root's level is below this */

struct format_node { /* 64 bytes */
	le32 magic; /* 0-3 */
	le32 crc; /* 4-7: of all NODE_BYTES, itself counted as zero */
	uint8_t volume[16]; /* 8-23: UUID */
	le64 address; /* 24-31: its own; shows a misdirected write */
	le64 generation; /* 32-39 */
	uint8_t level; /* 40: 0: a leaf */
	uint8_t reserved0[3]; /* 41-43 */
	le16 count; /* 44-45: items */
	le16 values; /* 46-47: offset of the lowest value; NODE_BYTES if there is none */
	le16 dead; /* 48-49: bytes of values that no item names any more */
	uint8_t reserved1[14]; /* 50-63 */
};
static_assert(sizeof(struct format_node) == 64, "disk format");

struct format_item { /* 24 bytes */
	le64 object; /* 0-7 */
	le64 offset; /* 8-15 */
	uint8_t type; /* 16: between object and offset in the order */
	uint8_t reserved; /* 17 */
	le16 value; /* 18-19: offset of the value in the node */
	le16 length; /* 20-21: of the value, bytes */
	le16 reserved1; /* 22-23 */
};
static_assert(sizeof(struct format_item) == 24, "disk format");

/* The longest value: at least three items always fit a node. */
#define NODE_VALUE_MAX 4352u

/* ---- keys: (object, type, offset) ---- */

#define OBJECT_VOLUME 0u /* the volume's own items; every other object is an inode */
#define OBJECT_ROOT 1u /* the root directory */

enum format_type {
	/* of OBJECT_VOLUME */
	TYPE_ALLOC = 1, /* offset: first block of an extent of file data */
	TYPE_ORPHAN = 2, /* offset: an inode; cut what lies beyond its size, everything if nlink is 0; no value */
	TYPE_SHARE = 3, /* offset: first block of a counted extent, above a slot's number */
	/* of an inode */
	TYPE_INODE = 16, /* offset 0 */
	TYPE_SYMLINK = 17, /* offset 0: the target's bytes */
	TYPE_DIRENT = 18, /* offset: hash of the name above a collision number; the readdir cookie */
	TYPE_XATTR = 19, /* offset: hash of the name, above a collision number, above a part's */
	TYPE_EXTENT = 20, /* offset: first block in the file */
	TYPE_INLINE = 21, /* reserved for the content of small files */
};

struct format_alloc { /* 32 bytes: TYPE_ALLOC */
	le64 owner; /* 0-7: the inode whose extent this is; 0: counted, share items name the extents */
	le64 owner_offset; /* 8-15: the block in that file which the first block holds; counted: 0 */
	le64 birth; /* 16-23: generation of the first checkpoint that contains it */
	le32 length; /* 24-27: blocks */
	le32 references; /* 28-31: 1; counted: how many extents each block is in, up to SHARE_SLOTS */
};
static_assert(sizeof(struct format_alloc) == 32, "disk format");

#define SHARE_SLOT_BITS 12u
#define SHARE_SLOTS (1u << SHARE_SLOT_BITS) /* counted extents that begin at one block, at most */

struct format_share { /* 16 bytes: TYPE_SHARE */
	le64 owner; /* 0-7: the inode whose extent this is */
	le64 owner_offset; /* 8-15: its first block in that file */
};
static_assert(sizeof(struct format_share) == 16, "disk format");

#define EXTENT_BLOCKS_MAX 256u /* 1 MiB: the longest extent */

struct format_extent { /* 16 bytes and 4 a block: TYPE_EXTENT */
	le64 address; /* 0-7: first block on the legs */
	le32 length; /* 8-11: blocks, 1 .. EXTENT_BLOCKS_MAX */
	le32 flags; /* 12-15: zero; reserved for space without content. Others: the extent is malformed */
	le32 crc[]; /* 16-: CRC-32C of each 4096 bytes, zeros beyond the end of file */
};
static_assert(sizeof(struct format_extent) == 16, "disk format");

#define INODE_NAME_MAX 255u

struct format_inode { /* 160 bytes: TYPE_INODE */
	le32 mode; /* 0-3: as st_mode */
	le32 uid; /* 4-7 */
	le32 gid; /* 8-11 */
	le32 nlink; /* 12-15 */
	le64 size; /* 16-23: bytes; of a directory: the number of its entries */
	le64 blocks; /* 24-31: 4096-byte blocks of data allocated */
	le64 atime; /* 32-39: seconds, two's complement */
	le64 mtime; /* 40-47 */
	le64 ctime; /* 48-55 */
	le64 btime; /* 56-63 */
	le32 atime_nsec; /* 64-67 */
	le32 mtime_nsec; /* 68-71 */
	le32 ctime_nsec; /* 72-75 */
	le32 btime_nsec; /* 76-79 */
	le32 rdev; /* 80-83: of device nodes */
	le32 flags; /* 84-87: those of chattr(1): 0x10 immutable, 0x20 append, 0x40 no dump, 0x80 no atime */
	le64 generation; /* 88-95: for handles; differs on reuse of a number (numbers are not reused) */
	le64 parent; /* 96-103: of a directory: the one that names it */
	uint8_t reserved[56]; /* 104-159 */
};
static_assert(sizeof(struct format_inode) == 160, "disk format");

struct format_dirent { /* 16 bytes and the name: TYPE_DIRENT */
	le64 object; /* 0-7: the inode */
	uint8_t type; /* 8: DT_* as in dirent.h */
	uint8_t name_length; /* 9: 1 .. 255 */
	uint8_t reserved[6]; /* 10-15 */
	char name[]; /* 16-: no NUL */
};
static_assert(sizeof(struct format_dirent) == 16, "disk format");

#define XATTR_VALUE_MAX 65536u
#define XATTR_PART 4032u /* bytes of a value in one item */

struct format_xattr { /* 8 bytes, the name and the first part of the value: TYPE_XATTR, part 0 */
	le32 length; /* 0-3: of the value, bytes, up to 65536 */
	uint8_t name_length; /* 4: 1 .. 255 */
	uint8_t reserved[3]; /* 5-7 */
	char name[]; /* 8-: with its namespace, no NUL; the value's first 4032 bytes follow */
};
static_assert(sizeof(struct format_xattr) == 8, "disk format");
static_assert(sizeof(struct format_xattr) + INODE_NAME_MAX + XATTR_PART <= NODE_VALUE_MAX, "disk format");

#endif
