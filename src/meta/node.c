/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The layout of one node: items in order from the front, values in any order from the back, and between them the
 * free bytes. A removed value leaves dead bytes, which are squeezed out when an insertion needs them.
 */
#include "node_private.h"

#include "mirrorfs/base/crc32c.h"

#include <assert.h>
#include <string.h>

static struct format_item *items(void *node)
{
	return (struct format_item *)((char *)node + sizeof(struct format_node));
}

static const struct format_item *items_const(const void *node)
{
	return (const struct format_item *)((const char *)node + sizeof(struct format_node));
}

static size_t items_end(unsigned int count)
{
	return sizeof(struct format_node) + count * NODE_ITEM_BYTES;
}

void node_init(void *node, uint8_t level, const uint8_t volume[16], uint64_t address, uint64_t generation)
{
	struct format_node *head = node;

	memset(node, 0, NODE_BYTES);
	head->magic = le32_of(NODE_MAGIC);
	memcpy(head->volume, volume, sizeof(head->volume));
	head->address = le64_of(address);
	head->generation = le64_of(generation);
	head->level = level;
	head->values = le16_of(NODE_BYTES);
}

unsigned int node_count(const void *node)
{
	return le16_get(((const struct format_node *)node)->count);
}

uint8_t node_level(const void *node)
{
	return ((const struct format_node *)node)->level;
}

uint64_t node_generation(const void *node)
{
	return le64_get(((const struct format_node *)node)->generation);
}

int meta_key_compare(const struct meta_key *a, const struct meta_key *b)
{
	if (a->object != b->object)
		return a->object < b->object ? -1 : 1;
	if (a->type != b->type)
		return a->type < b->type ? -1 : 1;
	if (a->offset != b->offset)
		return a->offset < b->offset ? -1 : 1;
	return 0;
}

struct meta_key node_key(const void *node, unsigned int slot)
{
	const struct format_item *item = &items_const(node)[slot];

	return (struct meta_key){ le64_get(item->object), item->type, le64_get(item->offset) };
}

const void *node_value(const void *node, unsigned int slot, size_t *length)
{
	const struct format_item *item = &items_const(node)[slot];

	if (length)
		*length = le16_get(item->length);
	return (const char *)node + le16_get(item->value);
}

void *node_value_mutable(void *node, unsigned int slot)
{
	return (char *)node + le16_get(items(node)[slot].value);
}

/* As meta_key_compare(), of an item where it lies: most of the time it is the object that tells. */
static inline int item_compare(const struct format_item *item, const struct meta_key *key)
{
	uint64_t object = le64_get(item->object), offset;

	if (object != key->object)
		return object < key->object ? -1 : 1;
	if (item->type != key->type)
		return item->type < key->type ? -1 : 1;
	offset = le64_get(item->offset);
	return offset < key->offset ? -1 : offset > key->offset;
}

unsigned int node_search(const void *node, const struct meta_key *key, bool *exact)
{
	const struct format_item *item = items_const(node);
	unsigned int low = 0, high = node_count(node);

	*exact = false;
	while (low < high) {
		unsigned int middle = (low + high) / 2;
		int order = item_compare(&item[middle], key);

		if (order == 0) {
			*exact = true;
			return middle;
		}
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

unsigned int node_child_slot(const void *node, const struct meta_key *key)
{
	bool exact;
	unsigned int slot = node_search(node, key, &exact);

	return exact || slot == 0 ? slot : slot - 1;
}

size_t node_room(const void *node)
{
	const struct format_node *head = node;

	return le16_get(head->values) + le16_get(head->dead) - items_end(node_count(node));
}

/* Packs the values against the end, so that no dead bytes are left between them. */
static void squeeze(void *node)
{
	struct format_node *head = node;
	unsigned char copy[NODE_BYTES];
	size_t at = NODE_BYTES;

	memcpy(copy, node, NODE_BYTES);
	for (unsigned int i = 0; i < node_count(node); i++) {
		struct format_item *item = &items(node)[i];
		size_t length = le16_get(item->length);

		at -= length;
		memcpy((char *)node + at, copy + le16_get(item->value), length);
		item->value = le16_of((uint16_t)at);
	}
	head->values = le16_of((uint16_t)at);
	head->dead = le16_of(0);
}

void node_insert(void *node, unsigned int slot, const struct meta_key *key, const void *value, size_t length)
{
	struct format_node *head = node;
	struct format_item *item = &items(node)[slot];
	unsigned int count = node_count(node);
	size_t at;

	assert(slot <= count && length <= NODE_VALUE_MAX && node_room(node) >= NODE_ITEM_BYTES + length);
	if (le16_get(head->values) - items_end(count) < NODE_ITEM_BYTES + length)
		squeeze(node);
	memmove(item + 1, item, (count - slot) * NODE_ITEM_BYTES);
	at = le16_get(head->values) - length;
	if (length)
		memcpy((char *)node + at, value, length);
	*item = (struct format_item){
		.object = le64_of(key->object),
		.offset = le64_of(key->offset),
		.type = key->type,
		.value = le16_of((uint16_t)at),
		.length = le16_of((uint16_t)length),
	};
	head->values = le16_of((uint16_t)at);
	head->count = le16_of((uint16_t)(count + 1));
}

void node_remove(void *node, unsigned int slot)
{
	struct format_node *head = node;
	struct format_item *item = &items(node)[slot];
	unsigned int count = node_count(node);

	assert(slot < count);
	head->dead = le16_of((uint16_t)(le16_get(head->dead) + le16_get(item->length)));
	memmove(item, item + 1, (count - slot - 1) * NODE_ITEM_BYTES);
	head->count = le16_of((uint16_t)(count - 1));
	if (count == 1) {
		head->values = le16_of(NODE_BYTES);
		head->dead = le16_of(0);
	}
}

void node_rekey(void *node, unsigned int slot, const struct meta_key *key)
{
	struct format_item *item = &items(node)[slot];

	item->object = le64_of(key->object);
	item->type = key->type;
	item->offset = le64_of(key->offset);
}

void node_move(void *node, unsigned int slot, void *to)
{
	struct format_node *head = node;
	unsigned int count = node_count(node);

	for (unsigned int i = slot; i < count; i++) {
		struct meta_key key = node_key(node, i);
		size_t length;
		const void *value = node_value(node, i, &length);

		node_insert(to, node_count(to), &key, value, length);
	}
	head->count = le16_of((uint16_t)slot);
	squeeze(node);
}

unsigned int node_middle(const void *node)
{
	unsigned int count = node_count(node), slot = 0;
	size_t used = NODE_BYTES - sizeof(struct format_node) - node_room(node), left = 0, next = 0;

	assert(count >= 2);
	while (slot < count - 1 && next < used / 2) {
		left = next;
		next += NODE_ITEM_BYTES + le16_get(items_const(node)[slot].length);
		slot++;
	}
	/* The item that crosses the middle goes where the halves are more alike: each then has room for any other. */
	if (slot > 1 && used / 2 - left < next - used / 2)
		slot--;
	return slot ? slot : 1;
}

/* The values lie behind the items, none beyond the end, and together they are as long as the head says. */
static bool layout_valid(const void *node, int level)
{
	const struct format_node *head = node;
	unsigned int count = node_count(node);
	size_t values = le16_get(head->values), total = 0;

	if (items_end(count) > values || values > NODE_BYTES)
		return false;
	for (unsigned int i = 0; i < count; i++) {
		const struct format_item *item = &items_const(node)[i];
		size_t at = le16_get(item->value), length = le16_get(item->length);

		if (at < values || length > NODE_VALUE_MAX || at + length > NODE_BYTES)
			return false;
		if (level > 0 && length != sizeof(struct format_pointer))
			return false;
		total += length;
		if (i > 0) {
			struct meta_key before = node_key(node, i - 1), key = node_key(node, i);

			if (meta_key_compare(&before, &key) >= 0)
				return false;
		}
	}
	return total + le16_get(head->dead) == NODE_BYTES - values && (level == 0 || count > 0);
}

bool node_valid(const void *node, const uint8_t volume[16], uint64_t address, int level, const uint64_t *generation,
		const uint32_t *crc)
{
	const struct format_node *head = node;

	if (le32_get(head->magic) != NODE_MAGIC || memcmp(head->volume, volume, sizeof(head->volume)) ||
	    le64_get(head->address) != address || head->level != level)
		return false;
	if (generation && le64_get(head->generation) != *generation)
		return false;
	if (crc && le32_get(head->crc) != *crc)
		return false;
	if (crc32c_block(node, NODE_BYTES, offsetof(struct format_node, crc)) != le32_get(head->crc))
		return false;
	return layout_valid(node, level);
}

bool node_within(const void *node, const struct node_bounds *bounds)
{
	unsigned int count = node_count(node);
	struct meta_key first, last;

	if (!count)
		return true;
	first = node_key(node, 0);
	last = node_key(node, count - 1);
	return meta_key_compare(&first, &bounds->least) >= 0 &&
	       (bounds->endless || meta_key_compare(&last, &bounds->end) < 0);
}

struct node_bounds node_child_bounds(const void *node, unsigned int slot, const struct node_bounds *bounds)
{
	struct node_bounds below = { .least = node_key(node, slot), .end = bounds->end, .endless = bounds->endless };

	if (slot + 1 < node_count(node)) {
		below.end = node_key(node, slot + 1);
		below.endless = false;
	}
	return below;
}

uint32_t node_seal(void *node)
{
	struct format_node *head = node;
	uint32_t crc = crc32c_block(node, NODE_BYTES, offsetof(struct format_node, crc));

	head->crc = le32_of(crc);
	return crc;
}

void node_unseal(void *node)
{
	((struct format_node *)node)->crc = le32_of(0);
}

uint32_t node_sealed(const void *node)
{
	return le32_get(((const struct format_node *)node)->crc);
}
