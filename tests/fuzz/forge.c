/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Forging. A change that a check refuses at once proves little, so most of them keep the rules that a node or a record
 * must keep (order, lengths, sums) and break what the fields say of other places.
 */
#include "fuzz.h"

#include "mirrorfs/base/crc32c.h"
#include "mirrorfs/format/journal.h"
#include "node_private.h"

#include <dirent.h>
#include <string.h>
#include <sys/stat.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define RECORDS_MAX 64u
#define RECORD_BYTES (JOURNAL_RECORD_BLOCKS * FORMAT_BLOCK)

/* Where file data lies on the volume at hand: what a node that stands alone takes them for. */
static uint64_t data_start = 2048, data_end = 16384;

static const struct fuzz_field super_fields[] = {
	FUZZ_FIELD(format_super, generation),	  FUZZ_FIELD(format_super, version),
	FUZZ_FIELD(format_super, flags),	  FUZZ_FIELD(format_super, compat),
	FUZZ_FIELD(format_super, ro_compat),	  FUZZ_FIELD(format_super, incompat),
	FUZZ_FIELD(format_super, root.address),	  FUZZ_FIELD(format_super, root.generation),
	FUZZ_FIELD(format_super, root.crc),	  FUZZ_FIELD(format_super, root_level),
	FUZZ_FIELD(format_super, sequence),	  FUZZ_FIELD(format_super, ring_position),
	FUZZ_FIELD(format_super, ring_crc),	  FUZZ_FIELD(format_super, epoch),
	FUZZ_FIELD(format_super, next_object),	  FUZZ_FIELD(format_super, ring_start),
	FUZZ_FIELD(format_super, ring_blocks),	  FUZZ_FIELD(format_super, heap_start),
	FUZZ_FIELD(format_super, heap_blocks),	  FUZZ_FIELD(format_super, boundary),
	FUZZ_FIELD(format_super, reserve_blocks), FUZZ_FIELD(format_super, data_blocks),
	FUZZ_FIELD(format_super, hash_key),	  FUZZ_FIELD(format_super, ring_blocks),
	FUZZ_FIELD(format_super, heap_blocks),	  FUZZ_FIELD(format_super, boundary),
	FUZZ_FIELD(format_super, grown_start),	  FUZZ_FIELD(format_super, grown_blocks),
};
static const struct fuzz_field node_fields[] = {
	FUZZ_FIELD(format_node, address), FUZZ_FIELD(format_node, generation), FUZZ_FIELD(format_node, level),
	FUZZ_FIELD(format_node, count),	  FUZZ_FIELD(format_node, values),     FUZZ_FIELD(format_node, dead),
};
static const struct fuzz_field item_fields[] = {
	FUZZ_FIELD(format_item, object), FUZZ_FIELD(format_item, offset), FUZZ_FIELD(format_item, type),
	FUZZ_FIELD(format_item, value),	 FUZZ_FIELD(format_item, length),
};
static const struct fuzz_field pointer_fields[] = {
	FUZZ_FIELD(format_pointer, address),
	FUZZ_FIELD(format_pointer, generation),
	FUZZ_FIELD(format_pointer, crc),
};
static const struct fuzz_field alloc_fields[] = {
	FUZZ_FIELD(format_alloc, owner),  FUZZ_FIELD(format_alloc, owner_offset),
	FUZZ_FIELD(format_alloc, birth),  FUZZ_FIELD(format_alloc, length),
	FUZZ_FIELD(format_alloc, length), FUZZ_FIELD(format_alloc, references),
};
static const struct fuzz_field extent_fields[] = {
	FUZZ_FIELD(format_extent, address),
	FUZZ_FIELD(format_extent, length),
	FUZZ_FIELD(format_extent, flags),
};
static const struct fuzz_field inode_fields[] = {
	FUZZ_FIELD(format_inode, mode),	  FUZZ_FIELD(format_inode, nlink),	FUZZ_FIELD(format_inode, size),
	FUZZ_FIELD(format_inode, blocks), FUZZ_FIELD(format_inode, mtime),	FUZZ_FIELD(format_inode, mtime_nsec),
	FUZZ_FIELD(format_inode, rdev),	  FUZZ_FIELD(format_inode, generation), FUZZ_FIELD(format_inode, parent),
};
static const struct fuzz_field dirent_fields[] = {
	FUZZ_FIELD(format_dirent, object),
	FUZZ_FIELD(format_dirent, type),
	FUZZ_FIELD(format_dirent, name_length),
};
static const struct fuzz_field xattr_fields[] = {
	FUZZ_FIELD(format_xattr, length),
	FUZZ_FIELD(format_xattr, name_length),
};
static const struct fuzz_field record_fields[] = {
	FUZZ_FIELD(format_record, position),	 FUZZ_FIELD(format_record, sequence),
	FUZZ_FIELD(format_record, epoch),	 FUZZ_FIELD(format_record, generation),
	FUZZ_FIELD(format_record, previous_crc), FUZZ_FIELD(format_record, blocks),
	FUZZ_FIELD(format_record, updates),	 FUZZ_FIELD(format_record, update_bytes),
	FUZZ_FIELD(format_record, data),	 FUZZ_FIELD(format_record, next_object),
};
static const struct fuzz_field update_fields[] = {
	FUZZ_FIELD(format_update, object), FUZZ_FIELD(format_update, offset), FUZZ_FIELD(format_update, type),
	FUZZ_FIELD(format_update, kind),   FUZZ_FIELD(format_update, length), FUZZ_FIELD(format_update, length),
};

/* ---- items ---- */

static uint64_t some_object(struct sim_random *random)
{
	return sim_random_chance(random, 8) ? fuzz_number(random, 1) : 1 + sim_random_below(random, VOLUME_OBJECTS);
}

static uint64_t some_block(struct sim_random *random)
{
	uint64_t most = sim_random_chance(random, 2) ? 600 : data_end - data_start;
	uint64_t block = data_start + sim_random_below(random, most);

	return sim_random_chance(random, 8) ? fuzz_number(random, block) : block;
}

static uint32_t some_length(struct sim_random *random)
{
	uint64_t length = 1 + sim_random_below(random, sim_random_chance(random, 2) ? 4 : EXTENT_BLOCKS_MAX);

	return (uint32_t)(sim_random_chance(random, 8) ? fuzz_number(random, length) : length);
}

static void change_value(struct sim_random *random, unsigned int level, uint8_t type, unsigned char *value,
			 size_t length)
{
	if (!length)
		return;
	if (level && length == sizeof(struct format_pointer))
		fuzz_field(random, value, pointer_fields, COUNT(pointer_fields));
	else if (type == TYPE_ALLOC && length >= sizeof(struct format_alloc))
		fuzz_field(random, value, alloc_fields, COUNT(alloc_fields));
	else if (type == TYPE_EXTENT && length >= sizeof(struct format_extent))
		fuzz_field(random, value, extent_fields, COUNT(extent_fields));
	else if (type == TYPE_INODE && length >= sizeof(struct format_inode))
		fuzz_field(random, value, inode_fields, COUNT(inode_fields));
	else if (type == TYPE_DIRENT && length >= sizeof(struct format_dirent) && !sim_random_chance(random, 3))
		fuzz_field(random, value, dirent_fields, COUNT(dirent_fields));
	else if (type == TYPE_XATTR && length >= sizeof(struct format_xattr) && !sim_random_chance(random, 3))
		fuzz_field(random, value, xattr_fields, COUNT(xattr_fields));
	else
		fuzz_bytes(random, value, length);
}

static size_t make_inode(struct sim_random *random, unsigned char *value)
{
	static const uint32_t types[] = { S_IFREG, S_IFREG, S_IFDIR, S_IFDIR, S_IFLNK, S_IFCHR, 0, S_IFMT };
	struct format_inode inode = {
		.mode = le32_of(types[sim_random_below(random, COUNT(types))] | 0644),
		.nlink = le32_of((uint32_t)sim_random_below(random, 4)),
		.size = le64_of(sim_random_below(random, UINT64_C(1) << sim_random_below(random, 64))),
		.blocks = le64_of(sim_random_below(random, 300)),
		.parent = le64_of(some_object(random)),
	};

	memcpy(value, &inode, sizeof(inode));
	return sizeof(inode);
}

static size_t make_dirent(struct sim_random *random, unsigned char *value)
{
	static const char *const names[] = { "a", "..", ".", "x/y", "d0", "f1", "a name that is rather long" };
	const char *name = names[sim_random_below(random, COUNT(names))];
	struct format_dirent dirent = {
		.object = le64_of(some_object(random)),
		.type = sim_random_chance(random, 2) ? DT_REG : DT_DIR,
		.name_length = (uint8_t)strlen(name),
	};

	memcpy(value, &dirent, sizeof(dirent));
	memcpy(value + sizeof(dirent), name, strlen(name));
	return sizeof(dirent) + strlen(name);
}

static size_t make_extent(struct sim_random *random, unsigned char *value)
{
	struct format_extent extent = {
		.address = le64_of(some_block(random)),
		.length = le32_of(some_length(random)),
	};
	uint32_t most = (NODE_VALUE_MAX - sizeof(extent)) / 4, length = le32_get(extent.length);

	if (sim_random_chance(random, 8)) /* longer than may be, and as long as it says */
		length = EXTENT_BLOCKS_MAX + (uint32_t)sim_random_below(random, most);
	if (length > most)
		length = most;
	if (sim_random_chance(random, 2))
		extent.length = le32_of(length);
	memcpy(value, &extent, sizeof(extent));
	memset(value + sizeof(extent), 0, 4 * length);
	return sizeof(extent) + 4 * length;
}

/* An item as the code above might have made it, but for what it says. */
static size_t make_item(struct sim_random *random, struct meta_key *key, unsigned char value[NODE_VALUE_MAX])
{
	static const uint8_t types[] = { TYPE_ALLOC,  TYPE_ALLOC,  TYPE_SHARE,	TYPE_ORPHAN, TYPE_INODE, TYPE_INODE,
					 TYPE_SYMLINK, TYPE_DIRENT, TYPE_DIRENT, TYPE_EXTENT, TYPE_EXTENT, TYPE_XATTR };
	struct format_share share;
	struct format_alloc alloc;
	size_t length = 0;

	*key = (struct meta_key){ some_object(random), types[sim_random_below(random, COUNT(types))], 0 };
	switch (key->type) {
	case TYPE_ALLOC:
		alloc = (struct format_alloc){
			.owner = le64_of(sim_random_chance(random, 2) ? OBJECT_VOLUME : some_object(random)),
			.owner_offset = le64_of(sim_random_below(random, 300)),
			.birth = le64_of(sim_random_below(random, 30)),
			.length = le32_of(some_length(random)),
			.references = le32_of((uint32_t)sim_random_below(random, 4)),
		};
		*key = (struct meta_key){ OBJECT_VOLUME, TYPE_ALLOC, some_block(random) };
		memcpy(value, &alloc, sizeof(alloc));
		length = sizeof(alloc);
		break;
	case TYPE_SHARE:
		share = (struct format_share){
			.owner = le64_of(some_object(random)),
			.owner_offset = le64_of(sim_random_below(random, 300)),
		};
		*key = (struct meta_key){ OBJECT_VOLUME, TYPE_SHARE,
					  some_block(random) << SHARE_SLOT_BITS |
						  sim_random_below(random, SHARE_SLOTS) };
		memcpy(value, &share, sizeof(share));
		length = sizeof(share);
		break;
	case TYPE_ORPHAN:
		*key = (struct meta_key){ OBJECT_VOLUME, TYPE_ORPHAN, some_object(random) };
		break;
	case TYPE_INODE:
		length = make_inode(random, value);
		break;
	case TYPE_DIRENT:
		key->offset = sim_random_u64(random) >> 1;
		length = make_dirent(random, value);
		break;
	case TYPE_EXTENT:
		key->offset = sim_random_below(random, UINT64_C(1) << sim_random_below(random, 64));
		length = make_extent(random, value);
		break;
	default:
		length = sim_random_below(random, sim_random_chance(random, 4) ? NODE_VALUE_MAX + 1 : 64);
		memset(value, 'v', length);
	}
	if (sim_random_chance(random, 4))
		change_value(random, 0, key->type, value, length);
	if (sim_random_chance(random, 16))
		length = sim_random_below(random, length + 1);
	return length;
}

/* ---- slots ---- */

void forge_slot(const struct volume *volume, struct sim_random *random)
{
	struct format_super *super = volume_super(volume);

	if (sim_random_chance(random, 10))
		fuzz_bytes(random, super, sizeof(*super));
	else
		fuzz_field(random, super, super_fields, COUNT(super_fields));
	volume_seal_super(super);
	volume_touched(super, FORMAT_BLOCK);
}

/* ---- nodes ---- */

static struct format_item *item_at(void *node, unsigned int slot)
{
	return (struct format_item *)((unsigned char *)node + sizeof(struct format_node)) + slot;
}

/* The value of an item, unless its item was forged to lie outside. */
static unsigned char *value_at(void *node, unsigned int slot, size_t *length)
{
	const struct format_item *item = item_at(node, slot);

	*length = le16_get(item->length);
	if (le16_get(item->value) + *length > NODE_BYTES)
		*length = 0;
	return (unsigned char *)node + le16_get(item->value);
}

/* A value is cut, and what it loses is dead. */
static void shorten(struct sim_random *random, struct format_node *head, struct format_item *item)
{
	uint16_t length = le16_get(item->length), now = (uint16_t)sim_random_below(random, length + 1u);

	item->length = le16_of(now);
	head->dead = le16_of((uint16_t)(le16_get(head->dead) + length - now));
}

/* The key of an item moves towards a neighbour's, or past it. */
static void shift_key(struct sim_random *random, void *node, unsigned int slot, unsigned int count)
{
	unsigned int other = sim_random_chance(random, 2) && slot ? slot - 1 : slot + 1 < count ? slot + 1 : slot;
	struct meta_key key = node_key(node, other);

	if (other == slot || sim_random_chance(random, 3))
		key.object = fuzz_number(random, key.object);
	else
		key.offset += other < slot ? 1 + sim_random_below(random, 3) : UINT64_MAX;
	node_rekey(node, slot, &key);
}

static void insert(struct sim_random *random, void *node)
{
	unsigned char value[NODE_VALUE_MAX];
	struct meta_key key;
	size_t length = make_item(random, &key, value);
	bool exact;
	unsigned int slot = node_search(node, &key, &exact);

	if (!exact && node_room(node) >= NODE_ITEM_BYTES + length && node_room(node) < NODE_BYTES)
		node_insert(node, slot, &key, value, length);
}

static bool looks_whole(const void *node)
{
	const struct format_node *head = node;
	size_t end = sizeof(*head) + le16_get(head->count) * NODE_ITEM_BYTES, sum = le16_get(head->dead);

	if (end > le16_get(head->values) || le16_get(head->values) > NODE_BYTES)
		return false;
	for (unsigned int i = 0; i < le16_get(head->count); i++) {
		const struct format_item *item = item_at((void *)(uintptr_t)node, i);

		if (le16_get(item->value) < le16_get(head->values) ||
		    le16_get(item->value) + le16_get(item->length) > NODE_BYTES)
			return false;
		sum += le16_get(item->length);
	}
	return sum == NODE_BYTES - le16_get(head->values);
}

void forge_node(void *node, struct sim_random *random)
{
	struct format_node *head = node;
	unsigned int count = node_count(node), slot, other;
	unsigned char *value, *from;
	size_t length, from_length;

	if (!looks_whole(node) || !count || sim_random_chance(random, 16)) {
		fuzz_bytes(random, node, NODE_BYTES);
		return;
	}
	slot = (unsigned int)sim_random_below(random, count);
	other = (unsigned int)sim_random_below(random, count);
	value = value_at(node, slot, &length);
	switch (sim_random_below(random, 12)) {
	case 0:
		fuzz_field(random, node, node_fields, COUNT(node_fields));
		break;
	case 1:
		fuzz_field(random, item_at(node, slot), item_fields, COUNT(item_fields));
		break;
	case 2:
	case 3:
		shift_key(random, node, sim_random_chance(random, 2) ? count - 1 : slot, count);
		break;
	case 4:
		shorten(random, head, item_at(node, slot));
		break;
	case 5: /* one value for two: a pointer to one child, an extent of one address */
		from = value_at(node, other, &from_length);
		memmove(value, from, from_length < length ? from_length : length);
		break;
	case 6:
	case 7:
		if (!head->level)
			insert(random, node);
		break;
	case 8:
		if (count > 1)
			node_remove(node, slot);
		break;
	default:
		change_value(random, head->level, item_at(node, slot)->type, value, length);
	}
}

void forge_tree(const struct volume *volume, struct sim_random *random)
{
	const struct format_super *super = volume_super(volume);
	struct volume_path path;
	void *last;

	volume_walk(volume, random, 1 + (unsigned int)sim_random_below(random, VOLUME_HEIGHT), &path);
	if (!path.count)
		return;
	data_start = le64_get(super->boundary);
	data_end = data_start + 8192;
	last = path.node[path.count - 1];
	for (uint64_t n = 1 + sim_random_below(random, 3); n > 0; n--)
		forge_node(last, random);
	volume_seal_path(volume, &path);
}

/* ---- the ring ---- */

struct ring {
	struct format_record *records[RECORDS_MAX];
	unsigned int count;
	uint64_t position; /* behind the last one */
	uint64_t sequence;
};

static bool ring_plausible(const struct format_super *super, const struct volume *volume)
{
	uint64_t start = le64_get(super->ring_start), blocks = le64_get(super->ring_blocks);
	uint64_t space = volume_blocks(volume);

	return blocks >= JOURNAL_RECORD_BLOCKS && blocks <= space && start <= space - blocks &&
	       le64_get(super->ring_position) <= blocks - JOURNAL_RECORD_BLOCKS;
}

static void *ring_at(const struct volume *volume, uint64_t position)
{
	return volume_block(volume, le64_get(volume_super(volume)->ring_start) + position);
}

static void ring_find(const struct volume *volume, struct ring *ring)
{
	const struct format_super *super = volume_super(volume);

	ring->count = 0;
	ring->position = le64_get(super->ring_position);
	ring->sequence = le64_get(super->sequence) + 1;
	while (ring->count < RECORDS_MAX) {
		struct format_record *record = ring_at(volume, ring->position);
		uint32_t blocks = le32_get(record->blocks);

		if (le32_get(record->magic) != JOURNAL_MAGIC || le64_get(record->sequence) != ring->sequence ||
		    le64_get(record->epoch) != le64_get(super->epoch) || !blocks || blocks > JOURNAL_RECORD_BLOCKS)
			break;
		ring->records[ring->count++] = record;
		ring->position += blocks;
		if (ring->position > le64_get(super->ring_blocks) - JOURNAL_RECORD_BLOCKS)
			ring->position = 0;
		ring->sequence++;
	}
}

/* Checksums from record `first` on: each names its predecessor's. */
static void ring_seal(const struct volume *volume, const struct ring *ring, unsigned int first)
{
	uint32_t previous = le32_get(volume_super(volume)->ring_crc);

	for (unsigned int i = 0; i < ring->count; i++) {
		struct format_record *record = ring->records[i];
		uint32_t blocks = le32_get(record->blocks);

		if (i > first)
			record->previous_crc = le32_of(previous);
		if (!blocks || blocks > JOURNAL_RECORD_BLOCKS)
			blocks = JOURNAL_RECORD_BLOCKS;
		if (i >= first) {
			record->crc = le32_of(crc32c_block(record, blocks * (size_t)FORMAT_BLOCK,
							   offsetof(struct format_record, crc)));
			volume_touched(record, blocks * (size_t)FORMAT_BLOCK);
		}
		previous = le32_get(record->crc);
	}
}

static void change_record(struct sim_random *random, struct format_record *record)
{
	unsigned char *at = (unsigned char *)(record + 1), *end = (unsigned char *)record + RECORD_BYTES;
	struct format_update *update = (struct format_update *)at;

	if (sim_random_chance(random, 8)) { /* as long as it says, whatever is there */
		uint32_t more = (uint32_t)fuzz_number(random, 0);

		record->data = le32_of(le32_get(record->data) + more);
		record->blocks = le32_of(le32_get(record->blocks) + more);
		return;
	}
	if (sim_random_chance(random, 3)) {
		fuzz_field(random, record, record_fields, COUNT(record_fields));
		return;
	}
	for (uint64_t n = sim_random_below(random, 1u + (le32_get(record->updates) & 1023)); n > 0; n--) {
		size_t step = sizeof(*update) + ((le16_get(update->length) + 7u) & ~7u);

		if ((size_t)(end - at) < step + sizeof(*update) + NODE_VALUE_MAX)
			break;
		at += step;
		update = (struct format_update *)at;
	}
	if (sim_random_chance(random, 2) || le16_get(update->length) > NODE_VALUE_MAX)
		fuzz_field(random, update, update_fields, COUNT(update_fields));
	else
		change_value(random, 0, update->type, at + sizeof(*update), le16_get(update->length));
}

static size_t make_update(struct sim_random *random, unsigned char *at, uint32_t *data)
{
	unsigned char value[NODE_VALUE_MAX];
	struct format_update update = { .kind = UPDATE_PUT };
	struct meta_key key;
	size_t length = make_item(random, &key, value);

	if (sim_random_chance(random, 5)) {
		update.kind = UPDATE_DELETE;
		length = 0;
	} else if (sim_random_chance(random, 6)) {
		update.kind = UPDATE_DATA;
		key = (struct meta_key){ 0, 0, some_block(random) };
		length = 0;
		*data += 1;
	}
	update.object = le64_of(key.object);
	update.offset = le64_of(key.offset);
	update.type = key.type;
	update.length = le16_of((uint16_t)length);
	memcpy(at, &update, sizeof(update));
	memset(at + sizeof(update), 0, (length + 7) & ~(size_t)7);
	memcpy(at + sizeof(update), value, length);
	return sizeof(update) + ((length + 7) & ~(size_t)7);
}

static void append_record(const struct volume *volume, struct sim_random *random, struct ring *ring)
{
	const struct format_super *super = volume_super(volume);
	struct format_record *record = ring_at(volume, ring->position);
	const struct format_record *last = ring->count ? ring->records[ring->count - 1] : NULL;
	uint32_t updates = 1 + (uint32_t)sim_random_below(random, 20), data = 0;
	size_t bytes = 0;

	for (uint32_t i = 0; i < updates; i++)
		bytes += make_update(random, (unsigned char *)(record + 1) + bytes, &data);
	*record = (struct format_record){
		.magic = le32_of(JOURNAL_MAGIC),
		.position = le64_of(ring->position),
		.sequence = le64_of(ring->sequence++),
		.epoch = super->epoch,
		.generation = le64_of(le64_get(super->generation) + 1),
		.previous_crc = last ? last->crc : super->ring_crc,
		.blocks = le32_of((uint32_t)((sizeof(*record) + bytes + FORMAT_BLOCK - 1) / FORMAT_BLOCK) + data),
		.updates = le32_of(updates),
		.update_bytes = le32_of((uint32_t)bytes),
		.data = le32_of(data),
		.next_object = super->next_object,
	};
	memcpy(record->volume, super->volume, sizeof(record->volume));
	ring->position += le32_get(record->blocks);
	if (ring->position > le64_get(super->ring_blocks) - JOURNAL_RECORD_BLOCKS)
		ring->position = 0;
	ring->records[ring->count++] = record;
}

void forge_ring(const struct volume *volume, struct sim_random *random)
{
	const struct format_super *super = volume_super(volume);
	struct ring ring;
	unsigned int first;

	if (!ring_plausible(super, volume))
		return;
	data_start = le64_get(super->boundary);
	data_end = data_start + 8192;
	ring_find(volume, &ring);
	if (ring.count < RECORDS_MAX && (!ring.count || sim_random_chance(random, 2))) {
		first = ring.count;
		append_record(volume, random, &ring);
		if (!sim_random_chance(random, 4)) {
			ring_seal(volume, &ring, first);
			return;
		}
	} else {
		first = (unsigned int)sim_random_below(random, ring.count);
	}
	change_record(random, ring.records[first]);
	ring_seal(volume, &ring, first);
}
