/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Blocks that files share: each counted extent is named by one item, each record without an owner says of all its
 * blocks in how many extents they are, and no extent has a part of it. What is counted is put right from the extents;
 * one that nothing names is taken for a copy if those who have its blocks say the same of their content.
 */
#include "check_private.h"

#include <errno.h>
#include <string.h>

#define REGION_BLOCKS (3u * EXTENT_BLOCKS_MAX) /* an extent, and records that reach beyond its ends */

/* What the records of some blocks should be. */
struct region {
	uint64_t start;
	uint32_t length;
	uint32_t references[REGION_BLOCKS];
	uint64_t birth[REGION_BLOCKS]; /* 0: now, which no later copying passes over */
	bool border[REGION_BLOCKS]; /* an extent begins or ends before it */
	bool foreign[REGION_BLOCKS]; /* not ours to record */
	bool counted_only;
	uint64_t but, but_offset; /* an extent that is left out */
};

static void region_add(struct region *region, uint64_t address, uint32_t count)
{
	uint64_t first = address - region->start, end = first + count;

	for (uint64_t i = first; i < end; i++)
		region->references[i]++;
	region->border[first] = true;
	if (end < region->length)
		region->border[end] = true;
}

static bool region_owner(void *context, const struct meta_owner *owner)
{
	struct region *region = context;

	if ((owner->counted || !region->counted_only) &&
	    !(owner->object == region->but && owner->extent_offset == region->but_offset))
		region_add(region, owner->address, owner->count);
	return true;
}

/* Whether the blocks [at, end] are in one record. */
static bool region_goes_on(const struct region *region, uint32_t at, uint32_t end)
{
	return end < region->length && end - at < EXTENT_BLOCKS_MAX && !region->border[end] &&
	       region->references[end] == region->references[at] && region->birth[end] == region->birth[at] &&
	       region->foreign[end] == region->foreign[at];
}

static void region_put(struct meta_txn *txn, const struct region *region)
{
	for (uint32_t at = 0, end; at < region->length; at = end) {
		for (end = at + 1; region_goes_on(region, at, end); end++)
			;
		if (region->references[at] && !region->foreign[at])
			check_space_record(txn, region->start + at, OBJECT_VOLUME, 0, end - at, region->birth[at],
					   region->references[at]);
	}
}

/* ---- pass 1 ---- */

static int share_check(struct check *check, const struct meta_key *key, size_t length)
{
	uint64_t address = key->offset >> SHARE_SLOT_BITS;
	struct format_share share;
	union check_extent extent;
	struct meta_key extent_key, first;
	ssize_t size = -ENOENT;
	int error;

	if (length == sizeof(share)) {
		memcpy(&share, check->value, sizeof(share));
		extent_key = (struct meta_key){ le64_get(share.owner), TYPE_EXTENT, le64_get(share.owner_offset) };
		if (extent_key.object != OBJECT_VOLUME)
			size = check_get(check, &extent_key, &extent, sizeof(extent));
	}
	if (size < 0 && size != -ENOENT)
		return (int)size;
	if (size >= 0 && !meta_extent_valid(check->meta, &extent_key, &extent, (size_t)size))
		return 0; /* pass 2 tells of it */
	if (size >= 0 && le64_get(extent.head.address) == address) {
		error = meta_share_find(check->meta, address, extent_key.object, extent_key.offset, &first);
		if (error)
			return error;
		if (first.offset == key->offset && !check_space_own(check, &extent_key, &extent))
			return 0;
	}
	return check_problem(check, FS_PROBLEM_ALLOCATION, FS_REMEDY_SAFE, "it is removed",
			     "it is noted that an extent at block %llu is shared, which is not so",
			     (unsigned long long)address)
		       ? check_delete(check, key)
		       : 0;
}

int check_shares(struct check *check)
{
	struct meta_key key = { OBJECT_VOLUME, TYPE_SHARE, 0 };
	const struct meta_key last = { OBJECT_VOLUME, TYPE_SHARE, UINT64_MAX };
	ssize_t length;
	int error = 0;

	while (!error && (length = check_next(check, &key, &last)) != -ENOENT) {
		error = length < 0 ? (int)length : share_check(check, &key, (size_t)length);
		if (key.offset++ == UINT64_MAX)
			break;
	}
	return error;
}

int check_share_record(struct check *check, uint64_t address, const struct format_alloc *record, bool young,
		       uint64_t high)
{
	const struct meta_key key = { OBJECT_VOLUME, TYPE_ALLOC, address };
	struct region region = {
		.start = address,
		.length = le32_get(record->length),
		.counted_only = true,
	};
	bool right = !young && address >= high;
	struct meta_txn *txn;
	uint32_t most = 0;
	int error = meta_owners(check->meta, address, region.length, region_owner, &region);

	if (error)
		return error;
	for (uint32_t i = 0; i < region.length; i++) {
		right = right && region.references[i] == le32_get(record->references) && !(i && region.border[i]);
		region.foreign[i] = address + i < high;
		region.birth[i] = young ? 0 : le64_get(record->birth);
		most = region.references[i] > most ? region.references[i] : most;
	}
	if (right)
		return 0;
	if (!most ? !check_problem(check, FS_PROBLEM_ALLOCATION, FS_REMEDY_SAFE, "they are free",
				   "%u blocks from %llu on are recorded as shared, and no file has them",
				   region.length, (unsigned long long)address)
		  : !check_problem(check, FS_PROBLEM_ALLOCATION, FS_REMEDY_SAFE, "it is written anew",
				   "the record of what is shared at block %llu contradicts the files that have it",
				   (unsigned long long)address))
		return 0;
	txn = meta_txn_begin(check->meta);
	if (!txn)
		return -ENOMEM;
	meta_txn_delete(txn, &key);
	region_put(txn, &region);
	error = check_commit(check, txn);
	return error ? error : 1;
}

/* ---- pass 2 ---- */

/* What is recorded of an extent's blocks. */
enum claim { CLAIM_NONE, CLAIM_COUNTED, CLAIM_OTHER };

struct claims {
	enum claim claim[EXTENT_BLOCKS_MAX];
	bool same[EXTENT_BLOCKS_MAX]; /* another extent says the same of the content */
	const struct meta_key *key;
	const union check_extent *extent;
};

static bool claims_owner(void *context, const struct meta_owner *owner)
{
	struct claims *claims = context;
	uint64_t at = owner->address - le64_get(claims->extent->head.address);

	if (owner->object == claims->key->object && owner->extent_offset == claims->key->offset)
		return true;
	for (uint32_t i = 0; i < owner->count; i++)
		claims->same[at + i] |= owner->crc[i] == le32_get(claims->extent->head.crc[at + i]);
	return true;
}

/* Each record that has some of the extent's blocks: of its own, counted, or of another who has them. */
static int each_record(struct check *check, const struct meta_key *key, const union check_extent *extent,
		       void (*tell)(void *context, uint64_t address, const struct format_alloc *record), void *context)
{
	uint64_t start = le64_get(extent->head.address), end = start + le32_get(extent->head.length);
	struct meta_key at = { OBJECT_VOLUME, TYPE_ALLOC, 0 };
	const struct meta_key last = { OBJECT_VOLUME, TYPE_ALLOC, end - 1 };
	struct format_alloc record;
	ssize_t length;

	if (start >= EXTENT_BLOCKS_MAX)
		at.offset = start - EXTENT_BLOCKS_MAX + 1;
	for (; (length = meta_next(check->meta, &at, &last, &record, sizeof(record))) >= 0; at.offset++) {
		int error;

		if (!meta_alloc_valid(check->meta, &at, &record, (size_t)length) ||
		    at.offset + le32_get(record.length) <= start)
			continue;
		error = le64_get(record.owner) == OBJECT_VOLUME ? 0 : check_space_owner(check, &at, &record);
		if (error == -EIO)
			return error;
		if (!error &&
		    !(le64_get(record.owner) == key->object && le64_get(record.owner_offset) == key->offset))
			tell(context, at.offset, &record);
	}
	return length == -ENOENT ? 0 : (int)length;
}

static void claims_record(void *context, uint64_t address, const struct format_alloc *record)
{
	struct claims *claims = context;
	uint64_t start = le64_get(claims->extent->head.address);
	bool counted = le64_get(record->owner) == OBJECT_VOLUME;

	for (uint32_t i = 0; i < le32_get(claims->extent->head.length); i++) {
		if (start + i >= address && start + i < address + le32_get(record->length) &&
		    claims->claim[i] != CLAIM_OTHER)
			claims->claim[i] = counted ? CLAIM_COUNTED : CLAIM_OTHER;
	}
}

/* An extent's blocks are recorded anew, without those that it has lost: with what others have of them. */
struct anew {
	struct meta_txn *txn;
	struct region *region;
	const struct meta_key *key;
	const union check_extent *extent;
	const bool *lost;
	int error;
};

static bool keeps_some(const struct anew *anew, uint64_t address, uint32_t count)
{
	uint64_t start = le64_get(anew->extent->head.address);

	for (uint32_t i = 0; i < le32_get(anew->extent->head.length); i++) {
		if (!anew->lost[i] && start + i >= address && start + i < address + count)
			return true;
	}
	return false;
}

/* The records go; of a plain one with a block that is kept, the extent becomes counted. */
static void anew_record(void *context, uint64_t address, const struct format_alloc *record)
{
	struct anew *anew = context;
	const struct meta_key key = { OBJECT_VOLUME, TYPE_ALLOC, address };
	uint32_t count = le32_get(record->length);
	uint64_t owner = le64_get(record->owner);
	bool plain = owner != OBJECT_VOLUME, ours = !plain || keeps_some(anew, address, count);

	for (uint32_t i = 0; i < count; i++) {
		uint64_t at = address + i - anew->region->start;

		anew->region->birth[at] = le64_get(record->birth);
		anew->region->foreign[at] = !ours;
	}
	if (ours)
		meta_txn_delete(anew->txn, &key);
	if (ours && plain && !anew->error)
		anew->error = meta_share_add(anew->txn, address, owner, le64_get(record->owner_offset));
}

/* In `txn`: records and items of an extent without the blocks that it has lost, and of those who share the others. */
int check_share_anew(struct check *check, struct meta_txn *txn, const struct meta_key *key,
		     const union check_extent *extent, const bool *lost)
{
	uint64_t start = le64_get(extent->head.address);
	uint32_t length = le32_get(extent->head.length);
	uint64_t begin = start < EXTENT_BLOCKS_MAX ? 0 : start - EXTENT_BLOCKS_MAX + 1;
	struct region region = { .start = begin, .but = key->object, .but_offset = key->offset };
	struct anew anew = { .txn = txn, .region = &region, .key = key, .extent = extent, .lost = lost };
	struct meta_key found;
	int error = meta_share_find(check->meta, start, key->object, key->offset, &found);
	bool noted = !error;

	if (error && error != -ENOENT)
		return error;
	region.length = (uint32_t)(start - begin) + length + EXTENT_BLOCKS_MAX - 1;
	memset(region.foreign, true, sizeof(region.foreign));
	memset(region.foreign + (start - begin), false, length);
	error = meta_owners(check->meta, begin, region.length, region_owner, &region);
	if (!error)
		error = each_record(check, key, extent, anew_record, &anew);
	if (!error)
		error = anew.error;
	if (!error && noted && lost[0])
		error = meta_share_remove(txn, start, key->object, key->offset);
	for (uint32_t at = 0, end; at < length && !error; at = end) {
		for (end = at + 1; end < length && lost[end] == lost[at]; end++)
			;
		if (lost[at])
			continue;
		region_add(&region, start + at, end - at);
		if (at || !noted)
			error = meta_share_add(txn, start + at, key->object, key->offset + at);
	}
	if (!error)
		region_put(txn, &region);
	return error;
}

static int sharing_missing(struct check *check, const struct meta_key *key, const union check_extent *extent)
{
	const bool lost[EXTENT_BLOCKS_MAX] = { false };
	struct meta_txn *txn;
	int error;

	if (!check_problem(check, FS_PROBLEM_ALLOCATION, FS_REMEDY_SAFE, "it is recorded",
			   "%s: it is not recorded who shares bytes %llu to %llu", check_path(check, key->object),
			   (unsigned long long)key->offset * FS_BLOCK,
			   (unsigned long long)(key->offset + le32_get(extent->head.length)) * FS_BLOCK - 1))
		return 0;
	error = meta_use_feature(check->meta, SUPER_RO_SHARED);
	if (error)
		return error;
	txn = meta_txn_begin(check->meta);
	if (!txn)
		return -ENOMEM;
	error = check_share_anew(check, txn, key, extent, lost);
	if (!error)
		return check_commit(check, txn);
	meta_txn_abort(txn);
	return error;
}

int check_share_extent(struct check *check, const struct meta_key *key, const union check_extent *extent, bool *lost)
{
	uint32_t length = le32_get(extent->head.length), counted = 0, none = 0;
	struct claims claims = { .key = key, .extent = extent };
	struct meta_key found;
	int noted = meta_share_find(check->meta, le64_get(extent->head.address), key->object, key->offset, &found);
	int error = noted == -EIO ? noted : each_record(check, key, extent, claims_record, &claims);

	if (!error)
		error = meta_owners(check->meta, le64_get(extent->head.address), length, claims_owner, &claims);
	if (error)
		return error;
	for (uint32_t i = 0; i < length; i++) {
		counted += claims.claim[i] == CLAIM_COUNTED;
		none += claims.claim[i] == CLAIM_NONE;
		lost[i] = !claims.same[i] &&
			  (claims.claim[i] == CLAIM_OTHER || (noted && claims.claim[i] == CLAIM_COUNTED));
	}
	if (memchr(lost, true, length) || (!noted && counted == length))
		return 0;
	if (noted && none == length)
		return -ENOENT;
	return sharing_missing(check, key, extent);
}

bool check_share_concerns(struct check *check, const struct meta_key *key, const union check_extent *extent,
			  const bool *lost)
{
	struct claims claims = { .key = key, .extent = extent };
	struct meta_key found;

	if (!meta_share_find(check->meta, le64_get(extent->head.address), key->object, key->offset, &found))
		return true;
	if (each_record(check, key, extent, claims_record, &claims))
		return false;
	for (uint32_t i = 0; i < le32_get(extent->head.length); i++) {
		if (!lost[i] && claims.claim[i] != CLAIM_NONE)
			return true;
	}
	return false;
}
