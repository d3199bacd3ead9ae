/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where a file's blocks are: TYPE_EXTENT items with their checksums, and beside each a TYPE_ALLOC item at the physical
 * address that says whose it is. Cutting a piece out of an extent cuts both. Of blocks that files share: share.c.
 */
#include "meta_private.h"
#include "mirrorfs/base/array.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* What a transaction has done to the extent at one offset of a file: the tree does not show it yet. */
struct meta_overlay {
	uint64_t object, offset;
	uint64_t address;
	uint32_t length; /* 0: deleted */
	size_t crc; /* where the checksums are in the updates */
};

#define FILE_BLOCKS_MAX (UINT64_C(1) << 52) /* offsets beyond that are no file's */

union extent_value {
	struct format_extent head;
	unsigned char bytes[sizeof(struct format_extent) + 4 * EXTENT_BLOCKS_MAX];
};

static_assert(sizeof(union extent_value) <= NODE_VALUE_MAX, "an extent fits a node");

/* All but the checksums. */
static int extent_parse_head(const struct meta *meta, const struct meta_key *key, const struct format_extent *head,
			     ssize_t size, struct map_extent *extent)
{
	extent->offset = key->offset;
	if (size < (ssize_t)sizeof(*head))
		return -EIO;
	extent->length = le32_get(head->length);
	extent->address = le64_get(head->address);
	if (le32_get(head->flags) || !extent->length || extent->length > EXTENT_BLOCKS_MAX ||
	    key->offset > FILE_BLOCKS_MAX || extent->address < meta->boundary ||
	    extent->address > meta->heap_end - extent->length ||
	    size != (ssize_t)(sizeof(*head) + 4 * extent->length))
		return -EIO;
	return 0;
}

static int extent_parse(const struct meta *meta, const struct meta_key *key, const union extent_value *value,
			ssize_t size, struct map_extent *extent)
{
	int error = extent_parse_head(meta, key, &value->head, size, extent);

	if (error)
		return error;
	for (uint32_t i = 0; i < extent->length; i++)
		extent->crc[i] = le32_get(value->head.crc[i]);
	return 0;
}

bool meta_extent_valid(const struct meta *meta, const struct meta_key *key, const void *value, size_t length)
{
	struct map_extent extent;
	union extent_value copy;

	if (length > sizeof(copy))
		return false;
	memcpy(&copy, value, length);
	return !extent_parse(meta, key, &copy, (ssize_t)length, &extent);
}

int map_find(struct meta *meta, uint64_t object, uint64_t offset, struct map_extent *extent)
{
	struct meta_key first = { object, TYPE_EXTENT, 0 }, last = { object, TYPE_EXTENT, UINT64_MAX };
	struct meta_key key = { object, TYPE_EXTENT, offset };
	union extent_value value;
	ssize_t size;
	int error;

	/* None that begins earlier reaches up to there: where that cannot be read, this still can. */
	if (offset >= EXTENT_BLOCKS_MAX)
		first.offset = offset - EXTENT_BLOCKS_MAX + 1;
	size = tree_previous(meta, &key, &first, &value, sizeof(value));
	if (size >= 0) {
		error = extent_parse(meta, &key, &value, size, extent);
		if (error || extent->offset + extent->length > offset)
			return error;
	} else if (size != -ENOENT) {
		return (int)size;
	}
	key = (struct meta_key){ object, TYPE_EXTENT, offset };
	size = tree_next(meta, &key, &last, &value, sizeof(value));
	return size < 0 ? (int)size : extent_parse(meta, &key, &value, size, extent);
}

int map_at(struct meta *meta, uint64_t *address, uint64_t *object, struct map_extent *extent)
{
	struct meta_key key = { OBJECT_VOLUME, TYPE_ALLOC, *address }, last = { OBJECT_VOLUME, TYPE_ALLOC, UINT64_MAX };

	for (;; key.offset++) {
		struct format_alloc alloc;
		ssize_t size = tree_next(meta, &key, &last, &alloc, sizeof(alloc));
		uint64_t offset;
		int error;

		if (size < 0)
			return (int)size;
		*address = key.offset;
		if (size != sizeof(alloc) || key.offset == UINT64_MAX)
			continue;
		*object = le64_get(alloc.owner);
		offset = le64_get(alloc.owner_offset);
		/* What it names may be lost with its leaf, or the two disagree, which is for a check to tell. */
		if (*object == OBJECT_VOLUME) {
			if (!share_owner(meta, key.offset, le32_get(alloc.length), object, extent))
				return 0;
			continue;
		}
		error = offset > FILE_BLOCKS_MAX ? -EIO : map_find(meta, *object, offset, extent);
		if (!error && extent->offset == offset && extent->address == key.offset)
			return 0;
	}
}

int meta_whose(struct meta *meta, uint64_t block, struct meta_live *live)
{
	const struct meta_key first = { OBJECT_VOLUME, TYPE_ALLOC,
					block < EXTENT_BLOCKS_MAX ? 0 : block - EXTENT_BLOCKS_MAX + 1 };
	struct meta_key key = { OBJECT_VOLUME, TYPE_ALLOC, block };
	struct format_alloc alloc;
	struct map_extent extent;
	uint64_t address, object;
	int error = 0;

	rwlock_read(&meta->tree_lock);
	if (tree_previous(meta, &key, &first, &alloc, sizeof(alloc)) < 0)
		error = -ENOENT;
	address = key.offset;
	if (!error)
		error = map_at(meta, &address, &object, &extent);
	rwlock_unlock(&meta->tree_lock);
	if (error)
		return error;
	if (address != key.offset || block - address >= extent.length)
		return -ENOENT;
	*live = (struct meta_live){ .kind = META_LIVE_DATA,
				    .address = block,
				    .count = extent.length - (uint32_t)(block - address),
				    .object = object,
				    .offset = extent.offset + (block - address) };
	return 0;
}

static const struct meta_overlay *overlay_at(const struct meta_txn *txn, uint64_t object, uint64_t offset)
{
	for (size_t i = 0; txn && i < txn->overlay_count; i++) {
		if (txn->overlay[i].object == object && txn->overlay[i].offset == offset)
			return &txn->overlay[i];
	}
	return NULL;
}

/* The first extent of the transaction's own that ends behind `offset`. */
static const struct meta_overlay *overlay_find(const struct meta_txn *txn, uint64_t object, uint64_t offset)
{
	const struct meta_overlay *best = NULL;

	for (size_t i = 0; txn && i < txn->overlay_count; i++) {
		const struct meta_overlay *at = &txn->overlay[i];

		if (at->object == object && at->length && at->offset + at->length > offset &&
		    (!best || at->offset < best->offset))
			best = at;
	}
	return best;
}

static void overlay_extent(const struct meta_txn *txn, const struct meta_overlay *overlay, struct map_extent *extent)
{
	const le32 *crc = (const le32 *)(txn->chunk->updates + overlay->crc);

	*extent = (struct map_extent){
		.offset = overlay->offset,
		.address = overlay->address,
		.length = overlay->length,
	};
	for (uint32_t i = 0; i < overlay->length; i++)
		extent->crc[i] = le32_get(crc[i]);
}

/* As map_find(), with the changes of `txn` (NULL: none). */
static int extent_find_locked(struct meta *meta, const struct meta_txn *txn, uint64_t object, uint64_t offset,
			      struct map_extent *extent)
{
	const struct meta_overlay *own = overlay_find(txn, object, offset);
	uint64_t from = offset;
	int error;

	rwlock_read(&meta->tree_lock);
	do {
		error = map_find(meta, object, from, extent);
		from = extent->offset + extent->length;
	} while (!error && overlay_at(txn, object, extent->offset));
	rwlock_unlock(&meta->tree_lock);
	if (own && (error == -ENOENT || (!error && own->offset < extent->offset))) {
		overlay_extent(txn, own, extent);
		return 0;
	}
	return error;
}

static void overlay_set(struct meta_txn *txn, uint64_t object, uint64_t offset, uint64_t address, uint32_t length)
{
	struct meta_overlay *at = (struct meta_overlay *)overlay_at(txn, object, offset);

	if (txn->error) /* the update is not there */
		return;
	if (!at && ARRAY_GROW(txn->overlay, txn->overlay_room, txn->overlay_count, 16)) {
		txn->error = -ENOMEM;
		return;
	}
	if (!at)
		at = &txn->overlay[txn->overlay_count++];
	*at = (struct meta_overlay){
		.object = object,
		.offset = offset,
		.address = address,
		.length = length,
		.crc = txn->chunk->bytes - ((4 * (size_t)length + 7) & ~(size_t)7),
	};
}

/* Tree locked. */
static int map_look(struct meta *meta, uint64_t object, uint64_t offset, uint32_t count, struct meta_mapping *mapping)
{
	struct map_extent extent;
	int error = map_find(meta, object, offset, &extent);
	uint64_t skip;

	*mapping = (struct meta_mapping){ .offset = offset, .count = count };
	if (error)
		return error == -ENOENT ? 0 : error;
	if (extent.offset > offset) { /* a hole up to it */
		if (extent.offset - offset < count)
			mapping->count = (uint32_t)(extent.offset - offset);
		return 0;
	}
	skip = offset - extent.offset;
	if (extent.length - skip < count)
		mapping->count = (uint32_t)(extent.length - skip);
	mapping->address = extent.address + skip;
	memcpy(mapping->crc, extent.crc + skip, mapping->count * sizeof(mapping->crc[0]));
	return 0;
}

int meta_map(struct meta *meta, uint64_t object, uint64_t offset, uint32_t count, struct meta_mapping *mapping)
{
	bool waits = false;
	int error;

	rwlock_read(&meta->tree_lock);
	error = map_look(meta, object, offset, count, mapping);
	if (!error && mapping->address)
		waits = home_want(meta, mapping->address, mapping->count);
	rwlock_unlock(&meta->tree_lock);
	if (waits)
		(void)home_bring(meta, mapping->address, mapping->count); /* else home_late() has it */
	if (!error && mapping->address)
		mapping->count = home_late(meta, mapping->address, mapping->count, &mapping->data);
	return error;
}

int meta_where(struct meta *meta, uint64_t object, uint64_t offset, uint64_t *address)
{
	struct meta_mapping mapping;
	int error;

	rwlock_read(&meta->tree_lock);
	error = map_look(meta, object, offset, 1, &mapping);
	rwlock_unlock(&meta->tree_lock);
	*address = mapping.address;
	return error;
}

/* Of the extent in the leaf that contains `offset`. No more of it is looked at than is asked for. */
static int map_in_leaf(struct meta *meta, const void *leaf, uint64_t object, uint64_t offset, uint32_t count,
		       struct meta_mapping *mapping)
{
	struct meta_key key = { object, TYPE_EXTENT, offset };
	const unsigned char *value;
	struct format_extent head;
	struct map_extent extent;
	unsigned int slot;
	uint64_t skip;
	size_t size;
	bool exact;

	slot = node_search(leaf, &key, &exact);
	if (!exact && !slot--)
		return -EAGAIN;
	key = node_key(leaf, slot);
	value = node_value(leaf, slot, &size);
	if (key.object != object || key.type != TYPE_EXTENT || size < sizeof(head))
		return -EAGAIN;
	memcpy(&head, value, sizeof(head));
	if (extent_parse_head(meta, &key, &head, (ssize_t)size, &extent) || offset - extent.offset >= extent.length)
		return -EAGAIN;
	skip = offset - extent.offset;
	mapping->offset = offset;
	mapping->count = count < extent.length - skip ? count : (uint32_t)(extent.length - skip);
	mapping->address = extent.address + skip;
	if (home_want(meta, mapping->address, mapping->count))
		return -EAGAIN;
	mapping->count = home_late(meta, mapping->address, mapping->count, &mapping->data);
	value += sizeof(head) + skip * sizeof(le32);
	for (uint32_t i = 0; i < mapping->count; i++, value += sizeof(le32)) {
		le32 crc;

		memcpy(&crc, value, sizeof(crc));
		mapping->crc[i] = le32_get(crc);
	}
	return mapping->data ? -EAGAIN : 0;
}

int meta_map_now(struct meta *meta, uint64_t object, uint64_t offset, uint32_t count, struct meta_mapping *mapping)
{
	struct meta_key key = { object, TYPE_EXTENT, offset };
	struct cache_page *leaf;
	int error = -EAGAIN;

	if (!rwlock_tryread(&meta->tree_lock))
		return error;
	if (!load_leaf_now(meta, &key, &leaf)) {
		error = map_in_leaf(meta, leaf->data, object, offset, count, mapping);
		cache_put(leaf);
	}
	rwlock_unlock(&meta->tree_lock);
	return error;
}

/*
 * Whoever asks for room and then maps blocks would look twice for what is there. Most of the time that is nothing: then
 * it is known to the transaction, up to where it ends or something is mapped.
 */
static bool hole_covers(const struct meta_txn *txn, uint64_t object, uint64_t offset, uint64_t blocks)
{
	return txn->hole.object == object && offset >= txn->hole.from && offset < txn->hole.to &&
	       blocks <= txn->hole.to - offset;
}

static void hole_mapped(struct meta_txn *txn, uint64_t object, uint64_t offset, uint32_t length)
{
	if (object != txn->hole.object)
		return;
	if (offset <= txn->hole.from && offset + length > txn->hole.from)
		txn->hole.from = offset + length;
	else if (offset > txn->hole.from && offset < txn->hole.to)
		txn->hole.to = offset;
}

static void put_extent(struct meta_txn *txn, uint64_t object, uint64_t offset, uint64_t address, uint32_t length,
		       const uint32_t *crc)
{
	struct meta_key key = { object, TYPE_EXTENT, offset };
	union extent_value value = { .head = { .address = le64_of(address), .length = le32_of(length) } };

	for (uint32_t i = 0; i < length; i++)
		value.head.crc[i] = le32_of(crc[i]);
	meta_txn_put(txn, &key, &value, sizeof(value.head) + 4 * length);
	overlay_set(txn, object, offset, address, length);
	hole_mapped(txn, object, offset, length);
}

static void delete_extent(struct meta_txn *txn, uint64_t object, uint64_t offset)
{
	struct meta_key key = { object, TYPE_EXTENT, offset };

	meta_txn_delete(txn, &key);
	overlay_set(txn, object, offset, 0, 0);
}

/* The record of a plain extent. `birth` 0: new in this transaction. */
static void put_record(struct meta_txn *txn, uint64_t object, uint64_t offset, uint64_t address, uint32_t length,
		       uint64_t birth)
{
	const struct share_record record = {
		.address = address,
		.owner = object,
		.owner_offset = offset,
		.birth = birth,
		.length = length,
		.references = 1,
	};

	share_put_record(txn, &record);
}

/* Cuts file blocks [from, to) out of an extent that they touch; what is left of it stays. */
static int extent_cut(struct meta_txn *txn, uint64_t object, const struct map_extent *extent, uint64_t from,
		      uint64_t to)
{
	struct meta_key record_key = { OBJECT_VOLUME, TYPE_ALLOC, extent->address };
	uint64_t end = extent->offset + extent->length;
	uint32_t before = from > extent->offset ? (uint32_t)(from - extent->offset) : 0;
	uint32_t after = to < end ? (uint32_t)(end - to) : 0;
	uint32_t tail = extent->length - after;
	struct share_record record;
	int error = share_record_at(txn, extent->address, &record);
	bool counted = !error && record.owner == OBJECT_VOLUME;

	if (error)
		return error;
	if (!counted && (record.address != extent->address || record.length != extent->length ||
			 record.owner != object || record.owner_offset != extent->offset))
		return -EIO;
	if (before) {
		put_extent(txn, object, extent->offset, extent->address, before, extent->crc);
		if (!counted)
			put_record(txn, object, extent->offset, extent->address, before, record.birth);
	} else {
		delete_extent(txn, object, extent->offset);
		if (counted)
			error = meta_share_remove(txn, extent->address, object, extent->offset);
		else
			meta_txn_delete(txn, &record_key);
	}
	if (after && !error) {
		put_extent(txn, object, to, extent->address + tail, after, extent->crc + tail);
		if (counted)
			error = meta_share_add(txn, extent->address + tail, object, to);
		else
			put_record(txn, object, to, extent->address + tail, after, record.birth);
	}
	if (error)
		return error;
	if (counted)
		return share_count(txn, extent->address + before, extent->address + tail, -1);
	return meta_extents_add(&txn->freed, extent->address + before, tail - before);
}

/* All that file blocks [from, to) are mapped to. *freed: so many blocks more. */
static int extents_cut(struct meta_txn *txn, uint64_t object, uint64_t from, uint64_t to, uint64_t *freed)
{
	struct map_extent old;

	while (from < to) {
		int error = extent_find_locked(txn->meta, txn, object, from, &old);
		uint64_t first, end;

		if (error == -ENOENT || (!error && old.offset >= to))
			break;
		if (error)
			return error;
		first = old.offset > from ? old.offset : from;
		end = old.offset + old.length < to ? old.offset + old.length : to;
		error = extent_cut(txn, object, &old, first, end);
		if (error)
			return error;
		*freed += end - first;
		from = end;
	}
	return 0;
}

uint32_t meta_map_limit(struct meta_txn *txn, uint64_t object, uint64_t offset, uint32_t blocks)
{
	uint64_t end = offset + blocks, at = offset;
	struct map_extent old;

	if (hole_covers(txn, object, offset, blocks))
		return blocks;
	for (; at < end; at = old.offset + old.length) {
		int error = extent_find_locked(txn->meta, txn, object, at, &old);

		if (error && error != -ENOENT)
			return blocks; /* it is told where it is mapped */
		if (error || old.offset >= end) {
			txn->hole.object = object;
			txn->hole.from = at;
			txn->hole.to = error ? UINT64_MAX : old.offset;
			return blocks;
		}
		if (txn->cuts == META_TXN_CUTS)
			break;
		txn->cuts++;
	}
	return at < end ? (uint32_t)(at - offset) : blocks;
}

/* The room that one more cut may take; each block may have a count of its own. */
static bool room_to_cut(const struct meta_txn *txn)
{
	return txn->cuts < META_TXN_CUTS &&
	       !meta_txn_full(txn, 6 + EXTENT_BLOCKS_MAX,
			      3 * 4 * EXTENT_BLOCKS_MAX + EXTENT_BLOCKS_MAX * sizeof(struct format_alloc));
}

int meta_map_punch(struct meta_txn *txn, uint64_t object, uint64_t *offset, uint64_t end, uint64_t *freed)
{
	struct map_extent extent;

	*freed = 0;
	while (*offset < end && room_to_cut(txn)) {
		int error = extent_find_locked(txn->meta, txn, object, *offset, &extent);
		uint64_t from, to;

		if (error == -ENOENT || (!error && extent.offset >= end)) {
			*offset = end;
			break;
		}
		if (error)
			return error;
		from = extent.offset > *offset ? extent.offset : *offset;
		to = extent.offset + extent.length < end ? extent.offset + extent.length : end;
		error = extent_cut(txn, object, &extent, from, to);
		if (error)
			return error;
		txn->cuts++;
		*freed += to - from;
		*offset = to;
	}
	return 0;
}

int meta_map_put(struct meta_txn *txn, uint64_t object, uint64_t offset, const struct range_extent *extent,
		 const uint32_t *crc, const void *data, uint64_t *freed)
{
	struct meta_chunk *chunk = txn->chunk;
	int error = 0;

	*freed = 0;
	if (!hole_covers(txn, object, offset, extent->length))
		error = extents_cut(txn, object, offset, offset + extent->length, freed);
	if (error)
		return error;
	put_extent(txn, object, offset, extent->start, (uint32_t)extent->length, crc);
	put_record(txn, object, offset, extent->start, (uint32_t)extent->length, 0);
	if (data) {
		size_t bytes = chunk->data_count * (size_t)FORMAT_BLOCK, more = extent->length * FORMAT_BLOCK;
		unsigned char *room = realloc(chunk->data, bytes + more);

		assert(chunk->data_count + extent->length <= META_TXN_DATA_BLOCKS);
		if (!room)
			return -ENOMEM;
		memcpy(room + bytes, data, more);
		chunk->data = room;
		chunk->data_count += (unsigned int)extent->length;
		for (uint64_t i = 0; i < extent->length; i++) {
			struct meta_key key = { 0, 0, extent->start + i };

			txn->homes[chunk->data_count - extent->length + i].address = key.offset;
			txn_update(txn, UPDATE_DATA, &key, NULL, 0);
		}
	} else {
		chunk->flush = true;
	}
	return 0;
}

/* The record of a plain extent becomes a counted one. */
static int extent_begin_count(struct meta_txn *txn, uint64_t object, const struct map_extent *extent)
{
	struct share_record record;
	int error = share_record_at(txn, extent->address, &record);

	if (error || record.owner == OBJECT_VOLUME)
		return error;
	if (record.address != extent->address || record.length != extent->length || record.owner != object ||
	    record.owner_offset != extent->offset)
		return -EIO;
	record.owner = OBJECT_VOLUME;
	record.owner_offset = 0;
	share_put_record(txn, &record);
	return meta_share_add(txn, extent->address, object, extent->offset);
}

/* How many of these counted blocks may be in one extent more. */
static int share_room(struct meta_txn *txn, uint64_t address, uint32_t count, uint32_t *room)
{
	for (*room = 0; *room < count;) {
		struct share_record record;
		int error = share_record_at(txn, address + *room, &record);

		if (error)
			return error;
		if (record.references >= SHARE_SLOTS)
			break;
		*room = (uint32_t)(record.address + record.length - address);
	}
	if (*room > count)
		*room = count;
	return 0;
}

/* The first of these blocks are a hole, as many as *count. */
static int share_hole(struct meta_txn *txn, struct meta_sharing *sharing, uint64_t *count)
{
	uint64_t at = sharing->to_offset, freed;
	int error = meta_map_punch(txn, sharing->to, &at, sharing->to_offset + *count, &freed);

	*count = at - sharing->to_offset;
	sharing->freed += freed;
	return error;
}

/* The first of these blocks lie there. *count: as many as the transaction takes. -EMLINK: none can be shared. */
static int share_extent(struct meta_txn *txn, struct meta_sharing *sharing, const struct map_extent *extent,
			uint64_t *count)
{
	uint64_t skip = sharing->from_offset - extent->offset, address = extent->address + skip;
	uint32_t blocks = extent->length - skip < *count ? (uint32_t)(extent->length - skip) : (uint32_t)*count;
	int error;

	txn->cuts++;
	blocks = meta_map_limit(txn, sharing->to, sharing->to_offset, blocks);
	*count = 0;
	if (!blocks)
		return 0;
	error = extent_begin_count(txn, sharing->from, extent);
	if (!error)
		error = share_room(txn, address, blocks, &blocks);
	if (!error && !blocks)
		error = -EMLINK;
	if (!error)
		error = share_count(txn, address, address + blocks, 1);
	/* Counted before: the blocks that `to` has there may be the same. */
	if (!error)
		error = extents_cut(txn, sharing->to, sharing->to_offset, sharing->to_offset + blocks,
				    &sharing->freed);
	if (!error)
		error = meta_share_add(txn, address, sharing->to, sharing->to_offset);
	if (error)
		return error;
	put_extent(txn, sharing->to, sharing->to_offset, address, blocks, extent->crc + skip);
	sharing->taken += blocks;
	*count = blocks;
	return 0;
}

int meta_map_share(struct meta_txn *txn, struct meta_sharing *sharing)
{
	uint64_t begin = sharing->count, count = 1;
	struct map_extent extent;

	txn->shares = true;
	sharing->freed = sharing->taken = 0;
	while (sharing->count && count && room_to_cut(txn)) {
		int error = extent_find_locked(txn->meta, txn, sharing->from, sharing->from_offset, &extent);

		if (error && error != -ENOENT)
			return error;
		count = sharing->count;
		if (!error && extent.offset <= sharing->from_offset)
			error = share_extent(txn, sharing, &extent, &count);
		else if (!error && extent.offset - sharing->from_offset < count)
			count = extent.offset - sharing->from_offset;
		if (error == -ENOENT || extent.offset > sharing->from_offset)
			error = share_hole(txn, sharing, &count);
		if (error == -EMLINK && sharing->count < begin)
			return 0;
		if (error)
			return error;
		sharing->from_offset += count;
		sharing->to_offset += count;
		sharing->count -= count;
	}
	return 0;
}

int meta_map_seek(struct meta *meta, uint64_t object, bool hole, uint64_t *offset)
{
	struct map_extent extent;

	for (;;) {
		int error = extent_find_locked(meta, NULL, object, *offset, &extent);

		if (error == -ENOENT)
			return hole ? 0 : -ENOENT;
		if (error)
			return error;
		if (!hole) {
			if (extent.offset > *offset)
				*offset = extent.offset;
			return 0;
		}
		if (extent.offset > *offset)
			return 0;
		*offset = extent.offset + extent.length;
	}
}
