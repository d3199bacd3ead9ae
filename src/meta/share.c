/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Blocks that files share.
 *
 * An extent is plain or counted. A plain one has the allocation record at its address to itself. A counted one is
 * named by a TYPE_SHARE item at its address, and its blocks lie in records without an owner, each of which says how
 * many extents its blocks are in; no extent has a part of such a record. An extent that is copied becomes counted, and
 * stays so when its copies are gone. So whoever cuts a file changes that file's items and the counts of what was cut,
 * never the items of another file; and a block is freed by the transaction that takes it out of the last extent.
 *
 * Counts go into a transaction as absolute values, and those of one record may be the concern of transactions of
 * several files at a time. So from its first look at a counted record to its end a transaction holds share_lock. What
 * it has changed itself it finds among its own updates.
 */
#include "meta_private.h"

#include <errno.h>
#include <string.h>

static bool record_parse(const struct meta_key *key, const void *value, size_t length, struct share_record *record)
{
	struct format_alloc alloc;

	if (length != sizeof(alloc))
		return false;
	memcpy(&alloc, value, sizeof(alloc));
	*record = (struct share_record){
		.address = key->offset,
		.owner = le64_get(alloc.owner),
		.owner_offset = le64_get(alloc.owner_offset),
		.birth = le64_get(alloc.birth),
		.length = le32_get(alloc.length),
		.references = le32_get(alloc.references),
	};
	return true;
}

static bool record_has(const struct share_record *record, uint64_t address)
{
	return record->address <= address && address - record->address < record->length;
}

/* ---- what the transaction itself has done ---- */

struct updates {
	const unsigned char *at;
	unsigned int left;
	struct meta_key key;
	bool put;
	const void *value;
	size_t length;
};

static struct updates updates_of(const struct meta_txn *txn)
{
	return (struct updates){ .at = txn->chunk->updates, .left = txn->chunk->update_count };
}

/* The next one of the volume's own items of that type. False: none. */
static bool updates_next(struct updates *updates, uint8_t type)
{
	while (updates->left) {
		struct format_update update;

		memcpy(&update, updates->at, sizeof(update));
		updates->key = (struct meta_key){ le64_get(update.object), update.type, le64_get(update.offset) };
		updates->put = update.kind == UPDATE_PUT;
		updates->value = updates->at + sizeof(update);
		updates->length = le16_get(update.length);
		updates->at += sizeof(update) + ((updates->length + 7) & ~(size_t)7);
		updates->left--;
		if (update.kind != UPDATE_DATA && updates->key.object == OBJECT_VOLUME && updates->key.type == type)
			return true;
	}
	return false;
}

/* Whether the transaction has this key: 1, 0 not any more, -ENOENT it says nothing of it. */
static int updates_say(const struct meta_txn *txn, const struct meta_key *key)
{
	struct updates updates = updates_of(txn);
	int said = -ENOENT;

	while (updates_next(&updates, key->type)) {
		if (updates.key.offset == key->offset)
			said = updates.put;
	}
	return said;
}

/* ---- records ---- */

static void lock_counts(struct meta_txn *txn)
{
	if (!txn->counts)
		mutex_lock(&txn->meta->share_lock);
	txn->counts = true;
}

void share_unlock(struct meta_txn *txn)
{
	if (txn->counts)
		mutex_unlock(&txn->meta->share_lock);
	txn->counts = false;
}

static int record_look(struct meta_txn *txn, uint64_t address, struct share_record *record)
{
	struct meta_key first = { OBJECT_VOLUME, TYPE_ALLOC, 0 }, key = { OBJECT_VOLUME, TYPE_ALLOC, address };
	struct updates updates = updates_of(txn);
	struct share_record own;
	struct format_alloc alloc;
	bool found = false;
	ssize_t size;

	while (updates_next(&updates, TYPE_ALLOC)) {
		if (found && updates.key.offset == record->address)
			found = false;
		if (updates.put && record_parse(&updates.key, updates.value, updates.length, &own) &&
		    record_has(&own, address)) {
			*record = own;
			found = true;
		}
	}
	if (found)
		return 0;
	if (address >= EXTENT_BLOCKS_MAX)
		first.offset = address - EXTENT_BLOCKS_MAX + 1;
	size = meta_previous(txn->meta, &key, &first, &alloc, sizeof(alloc));
	if (size < 0 && size != -ENOENT)
		return (int)size;
	/* What is mapped has a record. */
	return size == sizeof(alloc) && record_parse(&key, &alloc, sizeof(alloc), record) &&
			       record_has(record, address) && updates_say(txn, &key) == -ENOENT
		       ? 0
		       : -EIO;
}

int share_record_at(struct meta_txn *txn, uint64_t address, struct share_record *record)
{
	int error = record_look(txn, address, record);

	if (error || record->owner != OBJECT_VOLUME || txn->counts)
		return error;
	lock_counts(txn);
	return record_look(txn, address, record);
}

int share_has(struct meta *meta, uint64_t object, uint64_t offset)
{
	struct meta_key first = { OBJECT_VOLUME, TYPE_ALLOC, 0 }, key = { OBJECT_VOLUME, TYPE_ALLOC, 0 };
	struct share_record record;
	struct format_alloc alloc;
	uint64_t address;
	ssize_t size;
	int error = meta_where(meta, object, offset, &address);

	if (error || !address)
		return error;
	key.offset = address;
	if (key.offset >= EXTENT_BLOCKS_MAX)
		first.offset = key.offset - EXTENT_BLOCKS_MAX + 1;
	size = meta_previous(meta, &key, &first, &alloc, sizeof(alloc));
	if (size < 0 && size != -ENOENT)
		return (int)size;
	return size == sizeof(alloc) && record_parse(&key, &alloc, sizeof(alloc), &record) &&
	       record_has(&record, address) && record.references > 1;
}

void share_put_record(struct meta_txn *txn, const struct share_record *record)
{
	const struct meta_key key = { OBJECT_VOLUME, TYPE_ALLOC, record->address };
	const struct format_alloc alloc = {
		.owner = le64_of(record->owner),
		.owner_offset = le64_of(record->owner_offset),
		.birth = le64_of(record->birth),
		.length = le32_of(record->length),
		.references = le32_of(record->references),
	};

	meta_txn_put(txn, &key, &alloc, sizeof(alloc));
}

static void put_piece(struct meta_txn *txn, const struct share_record *whole, uint64_t from, uint64_t to,
		      uint32_t references)
{
	struct share_record piece = *whole;

	piece.address = from;
	piece.length = (uint32_t)(to - from);
	piece.references = references;
	if (from < to && references)
		share_put_record(txn, &piece);
}

/* Counts blocks [from, to) of a record. */
static int record_count(struct meta_txn *txn, const struct share_record *whole, uint64_t from, uint64_t to, int more)
{
	const struct meta_key key = { OBJECT_VOLUME, TYPE_ALLOC, whole->address };
	uint32_t references = whole->references + (uint32_t)more;

	if (from == whole->address && !references)
		meta_txn_delete(txn, &key);
	put_piece(txn, whole, whole->address, from, whole->references);
	put_piece(txn, whole, from, to, references);
	put_piece(txn, whole, to, whole->address + whole->length, whole->references);
	return references ? 0 : meta_extents_add(&txn->freed, from, to - from);
}

int share_count(struct meta_txn *txn, uint64_t start, uint64_t end, int more)
{
	for (uint64_t at = start, to; at < end; at = to) {
		struct share_record record;
		int error = share_record_at(txn, at, &record);

		if (!error && (record.owner != OBJECT_VOLUME || !record.references))
			error = -EIO;
		if (error)
			return error;
		to = record.address + record.length < end ? record.address + record.length : end;
		error = record_count(txn, &record, at, to, more);
		if (error)
			return error;
	}
	return 0;
}

/* ---- share items ---- */

static struct meta_key share_key(uint64_t address, uint64_t slot)
{
	return (struct meta_key){ OBJECT_VOLUME, TYPE_SHARE, address << SHARE_SLOT_BITS | slot };
}

/* Where the item of that extent is looked for first. */
static uint64_t first_slot(uint64_t object, uint64_t offset)
{
	return (object * UINT64_C(0x9e3779b97f4a7c15) + offset * UINT64_C(0xc2b2ae3d27d4eb4f)) >>
	       (64 - SHARE_SLOT_BITS);
}

static bool share_names(const void *value, size_t length, uint64_t object, uint64_t offset)
{
	struct format_share share;

	if (length != sizeof(share))
		return false;
	memcpy(&share, value, sizeof(share));
	return le64_get(share.owner) == object && le64_get(share.owner_offset) == offset;
}

/* Fewer extents begin at a block than it is in, and those are no more than slots: there is a free one. */
int meta_share_add(struct meta_txn *txn, uint64_t address, uint64_t object, uint64_t offset)
{
	const struct format_share share = { .owner = le64_of(object), .owner_offset = le64_of(offset) };
	uint64_t first = first_slot(object, offset);

	lock_counts(txn);
	for (uint64_t i = 0; i < SHARE_SLOTS; i++) {
		const struct meta_key key = share_key(address, (first + i) % SHARE_SLOTS);
		int said = updates_say(txn, &key);
		ssize_t size = said == -ENOENT ? meta_get(txn->meta, &key, NULL, 0) : said ? 0 : -ENOENT;

		if (size < 0 && size != -ENOENT)
			return (int)size;
		if (size == -ENOENT) {
			meta_txn_put(txn, &key, &share, sizeof(share));
			return 0;
		}
	}
	return -EIO;
}

/* From one slot to another. -ENOENT: it is not there. */
static int find_from(struct meta *meta, const struct meta_txn *txn, uint64_t object, uint64_t offset,
		     struct meta_key *key, const struct meta_key *last)
{
	struct format_share share;

	for (;; key->offset++) {
		ssize_t size = meta_next(meta, key, last, &share, sizeof(share));

		if (size < 0)
			return (int)size;
		if (share_names(&share, (size_t)size, object, offset) && (!txn || updates_say(txn, key) == -ENOENT))
			return 0;
		if (key->offset == last->offset)
			return -ENOENT;
	}
}

/* Slots may have become free in between: all are looked at before it is said not to be there. */
static int find(struct meta *meta, const struct meta_txn *txn, uint64_t address, uint64_t object, uint64_t offset,
		struct meta_key *key)
{
	const struct meta_key last = share_key(address, SHARE_SLOTS - 1);
	int error;

	*key = share_key(address, first_slot(object, offset));
	error = find_from(meta, txn, object, offset, key, &last);
	if (error != -ENOENT)
		return error;
	*key = share_key(address, 0);
	return find_from(meta, txn, object, offset, key, &last);
}

int meta_share_find(struct meta *meta, uint64_t address, uint64_t object, uint64_t offset, struct meta_key *key)
{
	return find(meta, NULL, address, object, offset, key);
}

int meta_share_remove(struct meta_txn *txn, uint64_t address, uint64_t object, uint64_t offset)
{
	struct meta_key own = { .type = 0 };
	struct updates updates = updates_of(txn);
	int error;

	while (updates_next(&updates, TYPE_SHARE)) {
		if (own.type && updates.key.offset == own.offset)
			own.type = 0;
		if (updates.put && updates.key.offset >> SHARE_SLOT_BITS == address &&
		    share_names(updates.value, updates.length, object, offset))
			own = updates.key;
	}
	lock_counts(txn);
	error = own.type ? 0 : find(txn->meta, txn, address, object, offset, &own);
	if (!error)
		meta_txn_delete(txn, &own);
	return error == -ENOENT ? -EIO : error;
}

/* ---- who has them ---- */

/* The counted extent that an item stands for. -ENOENT: it is not there, or elsewhere. Tree locked. */
static int share_extent(struct meta *meta, const struct meta_key *key, const void *value, size_t length,
			uint64_t *object, struct map_extent *extent)
{
	struct format_share share;
	uint64_t offset;
	int error;

	if (length != sizeof(share))
		return -ENOENT;
	memcpy(&share, value, sizeof(share));
	*object = le64_get(share.owner);
	offset = le64_get(share.owner_offset);
	if (*object == OBJECT_VOLUME || offset >= FORMAT_NUMBER_END)
		return -ENOENT;
	error = map_find(meta, *object, offset, extent);
	if (error)
		return error;
	return extent->offset == offset && extent->address == key->offset >> SHARE_SLOT_BITS ? 0 : -ENOENT;
}

int share_owner(struct meta *meta, uint64_t address, uint32_t length, uint64_t *object, struct map_extent *piece)
{
	const struct meta_key first = share_key(address < EXTENT_BLOCKS_MAX ? 0 : address - EXTENT_BLOCKS_MAX + 1, 0);
	struct meta_key key = share_key(address, SHARE_SLOTS - 1);
	int lost = -ENOENT;

	for (;; key.offset--) {
		struct format_share share;
		ssize_t size = tree_previous(meta, &key, &first, &share, sizeof(share));
		uint64_t skip;
		int error;

		if (size < 0)
			return size == -ENOENT ? lost : (int)size;
		error = share_extent(meta, &key, &share, (size_t)size, object, piece);
		skip = address - (key.offset >> SHARE_SLOT_BITS);
		if (!error && skip + length <= piece->length) {
			piece->offset += skip;
			piece->address += skip;
			piece->length = length;
			memmove(piece->crc, piece->crc + skip, length * sizeof(piece->crc[0]));
			return 0;
		}
		if (error == -EIO)
			lost = error;
		if (key.offset == first.offset)
			return lost;
	}
}

/* The piece of an extent that lies in [address, end). False: enough. */
static bool tell_piece(const struct map_extent *extent, uint64_t object, bool counted, uint64_t address, uint64_t end,
		       meta_owner_fn *tell, void *context)
{
	uint64_t from = extent->address > address ? extent->address : address;
	uint64_t to = extent->address + extent->length < end ? extent->address + extent->length : end;
	struct meta_owner owner = {
		.object = object,
		.offset = extent->offset + (from - extent->address),
		.extent_offset = extent->offset,
		.address = from,
		.count = (uint32_t)(to - from),
		.counted = counted,
	};

	if (from >= to)
		return true;
	owner.crc = extent->crc + (from - extent->address);
	return tell(context, &owner);
}

int meta_owners(struct meta *meta, uint64_t address, uint32_t count, meta_owner_fn *tell, void *context)
{
	uint64_t begin = address < EXTENT_BLOCKS_MAX ? 0 : address - EXTENT_BLOCKS_MAX + 1, end = address + count;
	struct meta_key key = { OBJECT_VOLUME, TYPE_ALLOC, begin }, last = { OBJECT_VOLUME, TYPE_ALLOC, end - 1 };
	struct format_alloc alloc;
	struct map_extent extent;
	struct share_record record;
	struct format_share share;
	uint64_t object;
	ssize_t size;
	int error;

	for (;; key.offset++) {
		rwlock_read(&meta->tree_lock);
		size = tree_next(meta, &key, &last, &alloc, sizeof(alloc));
		error = -ENOENT;
		if (size == sizeof(alloc) && record_parse(&key, &alloc, sizeof(alloc), &record) &&
		    record.owner != OBJECT_VOLUME && record.owner_offset < FORMAT_NUMBER_END)
			error = map_find(meta, record.owner, record.owner_offset, &extent);
		rwlock_unlock(&meta->tree_lock);
		if (size < 0)
			break;
		if (!error && extent.offset == record.owner_offset && extent.address == key.offset &&
		    !tell_piece(&extent, record.owner, false, address, end, tell, context))
			return 0;
	}
	if (size != -ENOENT)
		return (int)size;
	key = share_key(begin, 0);
	last = share_key(end - 1, SHARE_SLOTS - 1);
	for (;; key.offset++) {
		rwlock_read(&meta->tree_lock);
		size = tree_next(meta, &key, &last, &share, sizeof(share));
		error = size < 0 ? -ENOENT : share_extent(meta, &key, &share, (size_t)size, &object, &extent);
		rwlock_unlock(&meta->tree_lock);
		if (size < 0)
			return size == -ENOENT ? 0 : (int)size;
		if (!error && !tell_piece(&extent, object, true, address, end, tell, context))
			return 0;
	}
}
