/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Extents and the records of what is taken: each extent has exactly one record at its address, each record its
 * extent, and no two lie on one block. Where they do, the one that comes first stays and the other is cut; where one
 * lies on a node of the tree, the node stays. What files share: check_share.c.
 */
#include "check_private.h"

#include <errno.h>
#include <string.h>

static struct meta_key record_key(uint64_t address)
{
	return (struct meta_key){ .object = OBJECT_VOLUME, .type = TYPE_ALLOC, .offset = address };
}

/* The extent that a record names: 0, -ENOENT: it has not this one, -EINVAL: it is malformed, -EIO. */
static int record_extent(struct check *check, const struct meta_key *key, const struct format_alloc *record,
			 union check_extent *extent)
{
	const struct meta_key extent_key = { le64_get(record->owner), TYPE_EXTENT, le64_get(record->owner_offset) };
	ssize_t length = -ENOENT;

	if (extent_key.object != OBJECT_VOLUME)
		length = check_get(check, &extent_key, extent, sizeof(*extent));
	if (length < 0)
		return (int)length;
	if (!meta_extent_valid(check->meta, &extent_key, extent, (size_t)length))
		return -EINVAL;
	return le64_get(extent->head.address) == key->offset ? 0 : -ENOENT;
}

int check_space_owner(struct check *check, const struct meta_key *key, const struct format_alloc *record)
{
	union check_extent extent;

	return record_extent(check, key, record, &extent);
}

void check_space_record(struct meta_txn *txn, uint64_t address, uint64_t owner, uint64_t offset, uint32_t length,
			uint64_t birth, uint32_t references)
{
	const struct meta_key key = record_key(address);
	const struct format_alloc record = {
		.owner = le64_of(owner),
		.owner_offset = le64_of(offset),
		.birth = le64_of(birth), /* 0: now, which no later copying passes over */
		.length = le32_of(length),
		.references = le32_of(references),
	};

	meta_txn_put(txn, &key, &record, sizeof(record));
}

static void record_put(struct meta_txn *txn, uint64_t address, uint64_t owner, uint64_t offset, uint32_t length,
		       uint64_t birth)
{
	check_space_record(txn, address, owner, offset, length, birth, 1);
}

bool check_space_own(struct check *check, const struct meta_key *key, const union check_extent *extent)
{
	const struct meta_key own = record_key(le64_get(extent->head.address));
	struct format_alloc record;

	return meta_get(check->meta, &own, &record, sizeof(record)) == sizeof(record) &&
	       le64_get(record.owner) == key->object && le64_get(record.owner_offset) == key->offset;
}

/* ---- cutting ---- */

/* What is left of an extent, as extents; `recorded`: with records of their own. */
static void cut_put_pieces(struct meta_txn *txn, const struct meta_key *key, const union check_extent *extent,
			   const bool *lost, bool recorded, uint64_t birth)
{
	uint32_t length = le32_get(extent->head.length);

	for (uint32_t at = 0, end; at < length; at = end) {
		struct meta_key piece_key = { key->object, TYPE_EXTENT, key->offset + at };
		union check_extent piece = { .head = { .address = le64_of(le64_get(extent->head.address) + at) } };

		for (end = at + 1; end < length && lost[end] == lost[at]; end++)
			;
		if (lost[at])
			continue;
		piece.head.length = le32_of(end - at);
		memcpy(piece.head.crc, extent->head.crc + at, (end - at) * sizeof(piece.head.crc[0]));
		meta_txn_put(txn, &piece_key, &piece, sizeof(piece.head) + (end - at) * sizeof(piece.head.crc[0]));
		if (recorded)
			record_put(txn, le64_get(piece.head.address), key->object, piece_key.offset, end - at, birth);
	}
}

/* Takes blocks out of an extent, and out of the count of its inode. */
static int cut(struct check *check, const struct meta_key *key, const union check_extent *extent, const bool *lost)
{
	const struct meta_key own = record_key(le64_get(extent->head.address));
	uint32_t length = le32_get(extent->head.length), gone = 0;
	bool plain = check_space_own(check, key, extent);
	bool shared = !plain && check_share_concerns(check, key, extent, lost);
	struct format_alloc record;
	struct format_inode item;
	uint64_t birth = 0;
	struct meta_txn *txn = meta_txn_begin(check->meta);
	int error = 0;

	if (!txn)
		return -ENOMEM;
	meta_txn_delete(txn, key);
	if (plain && meta_get(check->meta, &own, &record, sizeof(record)) == sizeof(record)) {
		birth = le64_get(record.birth);
		meta_txn_delete(txn, &own);
	}
	cut_put_pieces(txn, key, extent, lost, !shared, birth);
	if (shared)
		error = check_share_anew(check, txn, key, extent, lost);
	if (error) {
		meta_txn_abort(txn);
		return error;
	}
	for (uint32_t i = 0; i < length; i++)
		gone += lost[i];
	if (!check_item(check, key->object, &item) && le64_get(item.blocks) >= gone) {
		item.blocks = le64_of(le64_get(item.blocks) - gone);
		check_put_item(txn, key->object, &item);
	}
	return check_commit(check, txn);
}

int check_space_remove(struct check *check, const struct meta_key *key, const union check_extent *extent)
{
	bool lost[EXTENT_BLOCKS_MAX];

	memset(lost, true, sizeof(lost));
	return cut(check, key, extent, lost);
}

/* Tells which bytes of which file would be given up. 1: they were. */
static int overlap(struct check *check, const struct meta_key *key, const union check_extent *extent, const bool *lost,
		   const char *why)
{
	uint32_t length = le32_get(extent->head.length), first = 0, end = length;
	int error;

	while (!lost[first])
		first++;
	while (!lost[end - 1])
		end--;
	if (!check_problem(check, FS_PROBLEM_OVERLAP, FS_REMEDY_LOSSY, "these bytes become a hole",
			   "%s: bytes %llu to %llu %s", check_path(check, key->object),
			   (unsigned long long)(key->offset + first) * FS_BLOCK,
			   (unsigned long long)(key->offset + end) * FS_BLOCK - 1, why))
		return 0;
	error = cut(check, key, extent, lost);
	return error ? error : 1;
}

/* ---- pass 1: records ---- */

static bool born_later(struct check *check, uint64_t birth)
{
	struct meta_super_info info;

	meta_super_info(check->meta, &info);
	return birth > info.generation;
}

/* *high: where the records up to here end. 1: look at the place again. */
static int record_check(struct check *check, const struct meta_key *key, size_t length, uint64_t *high)
{
	bool lost[EXTENT_BLOCKS_MAX] = { false };
	union check_extent extent;
	struct meta_key extent_key;
	struct format_alloc record;
	struct meta_txn *txn;
	uint32_t blocks;
	int error;

	if (!meta_alloc_valid(check->meta, key, check->value, length)) {
		return check_problem(check, FS_PROBLEM_ALLOCATION, FS_REMEDY_SAFE, "it is removed",
				     "the record of what is taken at block %llu is malformed",
				     (unsigned long long)key->offset)
			       ? check_delete(check, key)
			       : 0;
	}
	memcpy(&record, check->value, sizeof(record));
	if (le64_get(record.owner) == OBJECT_VOLUME) {
		error = check_share_record(check, key->offset, &record, born_later(check, le64_get(record.birth)),
					   *high);
		if (!error && key->offset + le32_get(record.length) > *high)
			*high = key->offset + le32_get(record.length);
		return error;
	}
	extent_key = (struct meta_key){ le64_get(record.owner), TYPE_EXTENT, le64_get(record.owner_offset) };
	error = record_extent(check, key, &record, &extent);
	if (error == -EINVAL) /* pass 2 tells of it, and what it has is not freed before */
		return 0;
	if (error == -ENOENT)
		return check_problem(check, FS_PROBLEM_ALLOCATION, FS_REMEDY_SAFE, "they are free",
				     "%u blocks from %llu on are recorded as taken by inode %llu, from its byte %llu "
				     "on, which has them not",
				     le32_get(record.length), (unsigned long long)key->offset,
				     (unsigned long long)le64_get(record.owner),
				     (unsigned long long)le64_get(record.owner_offset) * FS_BLOCK)
			       ? check_delete(check, key)
			       : 0;
	if (error)
		return error;
	blocks = le32_get(extent.head.length);
	if ((blocks != le32_get(record.length) || le32_get(record.references) != 1 ||
	     born_later(check, le64_get(record.birth))) &&
	    check_problem(check, FS_PROBLEM_ALLOCATION, FS_REMEDY_SAFE, "it is written anew",
			  "the record of what is taken at block %llu contradicts the extent of inode %llu",
			  (unsigned long long)key->offset, (unsigned long long)le64_get(record.owner))) {
		txn = meta_txn_begin(check->meta);
		if (!txn)
			return -ENOMEM;
		record_put(txn, key->offset, extent_key.object, extent_key.offset, blocks, 0);
		error = check_commit(check, txn);
		if (error)
			return error;
	}
	for (uint32_t i = 0; i < blocks; i++)
		lost[i] = key->offset + i < *high;
	if (lost[0])
		error = overlap(check, &extent_key, &extent, lost, "lie where another file's bytes are");
	if (key->offset + blocks > *high && !error)
		*high = key->offset + blocks;
	return error < 0 ? error : 0;
}

int check_space(struct check *check)
{
	const struct meta_key last = { OBJECT_VOLUME, UINT8_MAX, UINT64_MAX };
	struct meta_key key = { OBJECT_VOLUME, 0, 0 };
	struct meta_super_info info;
	uint64_t high = 0, done = 0;
	ssize_t length;
	int error = 0;

	meta_super_info(check->meta, &info);
	error = check_shares(check);
	while (!error && (length = check_next(check, &key, &last)) != -ENOENT) {
		if (length < 0)
			return (int)length;
		if (key.type == TYPE_ALLOC)
			error = record_check(check, &key, (size_t)length, &high);
		else if (key.type != TYPE_SHARE && (key.type != TYPE_ORPHAN || length) &&
			 check_problem(check, FS_PROBLEM_ITEM, FS_REMEDY_LOSSY, "it is removed",
				       "an item of the volume has no meaning: type %u, offset %llu", key.type,
				       (unsigned long long)key.offset))
			error = check_delete(check, &key);
		if (key.type == TYPE_ALLOC && length == sizeof(struct format_alloc) && error != 1)
			done += le32_get(((const struct format_alloc *)check->value)->length);
		check_progress(check, 1, done, info.data_blocks);
		if (error == 1)
			error = 0;
		else
			check_advance(&key);
	}
	check->told->blocks = done;
	return error;
}

/* ---- pass 2: extents ---- */

static int record_missing(struct check *check, const struct meta_key *key, const union check_extent *extent)
{
	struct meta_txn *txn;

	if (!check_problem(check, FS_PROBLEM_ALLOCATION, FS_REMEDY_SAFE, "it is recorded",
			   "%s: the space of bytes %llu to %llu is not recorded as taken",
			   check_path(check, key->object), (unsigned long long)key->offset * FS_BLOCK,
			   (unsigned long long)(key->offset + le32_get(extent->head.length)) * FS_BLOCK - 1))
		return 0;
	txn = meta_txn_begin(check->meta);
	if (!txn)
		return -ENOMEM;
	record_put(txn, le64_get(extent->head.address), key->object, key->offset, le32_get(extent->head.length), 0);
	return check_commit(check, txn);
}

int check_space_extent(struct check *check, const struct meta_key *key, const union check_extent *extent,
		       uint64_t file_end)
{
	uint32_t length = le32_get(extent->head.length);
	bool lost[EXTENT_BLOCKS_MAX] = { false };
	int error;

	for (uint32_t i = 0; i < length; i++)
		lost[i] = key->offset + i < file_end;
	if (lost[0])
		return overlap(check, key, extent, lost, "are there twice");
	for (uint32_t i = 0; i < length; i++)
		lost[i] = meta_is_tree(check->meta, le64_get(extent->head.address) + i);
	if (memchr(lost, true, length))
		return overlap(check, key, extent, lost, "lie where a node of the tree is");
	/* What else is wrong with its own record was told in pass 1. */
	if (check_space_own(check, key, extent))
		return 0;
	error = check_share_extent(check, key, extent, lost);
	if (error == -ENOENT)
		return record_missing(check, key, extent);
	if (!error && memchr(lost, true, length))
		return overlap(check, key, extent, lost, "lie where another file's bytes are");
	return error;
}
