/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What lies about on the legs, and is it still true?
 *
 * Old nodes stay where they were until their space is used again, so most of what is found is out of date. A leaf that
 * was below a lost node is taken as it is if nothing speaks against it:
 *  - it was written by a checkpoint, no later than the lost node, and its keys lie within the bounds;
 *  - no newer leaf has keys between its first and its last. The tree's leaves never overlapped, so from that newer one
 *    on this one was no longer among them;
 *  - no newer node above leaves has another leaf in its place;
 *  - what is recorded as taken elsewhere agrees with it, where that can be read: records and extents name each other,
 *    and a block that was freed has no record, or one of a later birth.
 * From all other leaves, and where the leaf itself was lost, only single items are taken: extents that such a record
 * proves, as data is never written in place, and the inodes of those that have some.
 */
#include "rebuild_private.h"
#include "mirrorfs/base/array.h"

#include <bsd/sys/tree.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum verdict { VERDICT_OPEN, VERDICT_PROVEN, VERDICT_OLD };

/* A leaf that was found. */
struct found {
	struct meta_key first, last;
	uint64_t address, generation;
	uint32_t crc;
	uint8_t leg;
};

/* Keys between which newer leaves have some; none touches another. */
struct span {
	RB_ENTRY(span) entry;
	struct meta_key first, last;
};
RB_HEAD(spans, span);

/* A node above leaves that was found: its bytes. */
struct witness {
	struct witness *next;
	unsigned char node[NODE_BYTES];
};

struct item {
	struct meta_key key;
	uint64_t generation; /* of the leaf that had it */
	size_t length;
	unsigned char *value;
};

struct salvage {
	struct found *found; /* newest first */
	size_t count, room;
	struct witness *witnesses;
	/* of the gap at hand */
	struct spans newer;
	struct found **chosen; /* in order of their keys at the end */
	size_t chosen_count;
	struct item *items;
	size_t item_count, item_room;
	unsigned char node[NODE_BYTES], built[NODE_BYTES];
};

/* ---- looking ---- */

static bool touches(const struct node_bounds *bounds, const struct meta_key *first, const struct meta_key *last)
{
	return meta_key_compare(last, &bounds->least) >= 0 &&
	       (bounds->endless || meta_key_compare(first, &bounds->end) < 0);
}

static bool of_a_gap(const struct rebuild *rebuild, const struct meta_key *first, const struct meta_key *last)
{
	for (size_t i = 0; i < rebuild->gap_count; i++)
		if (touches(&rebuild->gaps[i].bounds, first, last))
			return true;
	return false;
}

static int found_add(struct salvage *salvage, const struct found *found)
{
	/* Both legs have most of them. */
	for (size_t i = salvage->count; i > 0 && salvage->count - i < 2 * IOBUF_MAX / NODE_BYTES; i--)
		if (salvage->found[i - 1].address == found->address && salvage->found[i - 1].crc == found->crc)
			return 0;
	if (ARRAY_GROW(salvage->found, salvage->room, salvage->count, 256))
		return -ENOMEM;
	salvage->found[salvage->count++] = *found;
	return 0;
}

static int witness_add(struct salvage *salvage, const void *node)
{
	struct witness *witness = malloc(sizeof(*witness));

	if (!witness)
		return -ENOMEM;
	memcpy(witness->node, node, NODE_BYTES);
	witness->next = salvage->witnesses;
	salvage->witnesses = witness;
	return 0;
}

/* What lies at a place where a node may be. */
static int look_at(struct rebuild *rebuild, struct salvage *salvage, int leg, uint64_t address, const void *node)
{
	const struct format_node *head = node;
	struct found found = { .address = address, .leg = (uint8_t)leg };

	if (le32_get(head->magic) != NODE_MAGIC || head->level >= NODE_LEVELS ||
	    !node_valid(node, rebuild->meta->volume, address, head->level, NULL, NULL))
		return 0;
	rebuild_mark(rebuild, rebuild->found, address);
	found.generation = node_generation(node);
	/* What a checkpoint began that was never finished is in the journal. */
	if (!node_count(node) || head->level > 1 || found.generation >= rebuild->meta->generation)
		return 0;
	found.first = node_key(node, 0);
	found.last = node_key(node, node_count(node) - 1);
	found.crc = le32_get(head->crc);
	if (!of_a_gap(rebuild, &found.first, &found.last))
		return 0;
	return head->level ? witness_add(salvage, node) : found_add(salvage, &found);
}

/* A piece of the heap on one leg; what cannot be read as a whole is read node by node. */
static int scan_piece(struct rebuild *rebuild, struct salvage *salvage, int leg, uint64_t address, size_t bytes,
		      unsigned char *buffer)
{
	struct mirror *mirror = rebuild->meta->mirror;
	bool whole = !io_read(mirror, io_only(leg), address, buffer, bytes);
	int error = 0;

	for (size_t at = 0; at + NODE_BYTES <= bytes && !error; at += NODE_BYTES) {
		uint64_t block = address + at / FORMAT_BLOCK;

		if (whole || !io_read(mirror, io_only(leg), block, buffer + at, NODE_BYTES))
			error = look_at(rebuild, salvage, leg, block, buffer + at);
	}
	return error;
}

static int newest_first(const void *a, const void *b)
{
	const struct found *x = a, *y = b;

	if (x->generation != y->generation)
		return x->generation > y->generation ? -1 : 1;
	return x->address < y->address ? -1 : x->address > y->address;
}

int salvage_scan(struct rebuild *rebuild, struct salvage **made)
{
	struct salvage *salvage = calloc(1, sizeof(*salvage));
	unsigned char *buffer = malloc(IOBUF_MAX);
	struct meta *meta = rebuild->meta;
	uint64_t address = meta->heap_start;
	int error = salvage && buffer ? 0 : -ENOMEM;

	while (!error && address < meta->heap_end) {
		uint64_t blocks = IOBUF_MAX / FORMAT_BLOCK;

		if (blocks > meta->heap_end - address)
			blocks = meta->heap_end - address;
		for (int leg = 0; leg < MIRROR_LEGS && !error; leg++)
			if (mirror_leg_insync(meta->mirror, leg))
				error = scan_piece(rebuild, salvage, leg, address, blocks * FORMAT_BLOCK, buffer);
		address += blocks;
		if (rebuild->told->progress)
			rebuild->told->progress(rebuild->told, address - meta->heap_start,
						meta->heap_end - meta->heap_start);
	}
	free(buffer);
	if (!error && salvage->count)
		qsort(salvage->found, salvage->count, sizeof(*salvage->found), newest_first);
	if (!error && salvage->count) {
		salvage->chosen = calloc(salvage->count, sizeof(*salvage->chosen));
		error = salvage->chosen ? 0 : -ENOMEM;
	}
	*made = salvage;
	return error;
}

static void items_clear(struct salvage *salvage)
{
	for (size_t i = 0; i < salvage->item_count; i++)
		free(salvage->items[i].value);
	salvage->item_count = 0;
}

void salvage_free(struct salvage *salvage)
{
	struct witness *witness;

	if (!salvage)
		return;
	while ((witness = salvage->witnesses)) {
		salvage->witnesses = witness->next;
		free(witness);
	}
	items_clear(salvage);
	free(salvage->items);
	free(salvage->chosen);
	free(salvage->found);
	free(salvage);
}

/* ---- what speaks for it, and what against ---- */

/* Do a record and an extent, each elsewhere in the tree, name each other? Open: the other one cannot be read. */
static enum verdict extent_verdict(struct meta *meta, const struct meta_key *key, const void *value, size_t length,
				   uint64_t generation)
{
	struct meta_key record_key = { .object = OBJECT_VOLUME, .type = TYPE_ALLOC };
	struct format_extent extent;
	struct format_alloc record;
	ssize_t size;

	if (!meta_extent_valid(meta, key, value, length))
		return VERDICT_OLD;
	memcpy(&extent, value, sizeof(extent));
	record_key.offset = le64_get(extent.address);
	size = tree_get(meta, &record_key, &record, sizeof(record));
	if (size < 0 && size != -ENOENT)
		return VERDICT_OPEN;
	if (size == sizeof(record) && le64_get(record.owner) == OBJECT_VOLUME)
		return VERDICT_OPEN; /* counted: others may have it */
	if (size != sizeof(record) || le64_get(record.owner) != key->object ||
	    le64_get(record.owner_offset) != key->offset || le32_get(record.length) != le32_get(extent.length))
		return VERDICT_OLD;
	/* Younger than the leaf: the same place was given to the same bytes again, or a check wrote the record anew. */
	return le64_get(record.birth) <= generation ? VERDICT_PROVEN : VERDICT_OPEN;
}

static enum verdict record_verdict(struct meta *meta, const struct meta_key *key, const void *value, size_t length)
{
	unsigned char extent_value[sizeof(struct format_extent) + 4 * EXTENT_BLOCKS_MAX];
	struct meta_key extent_key = { .type = TYPE_EXTENT };
	struct format_extent extent;
	struct format_alloc record;
	ssize_t size;

	if (!meta_alloc_valid(meta, key, value, length))
		return VERDICT_OLD;
	memcpy(&record, value, sizeof(record));
	if (le64_get(record.owner) == OBJECT_VOLUME)
		return VERDICT_OPEN; /* counted */
	extent_key.object = le64_get(record.owner);
	extent_key.offset = le64_get(record.owner_offset);
	size = tree_get(meta, &extent_key, extent_value, sizeof(extent_value));
	if (size < 0 && size != -ENOENT)
		return VERDICT_OPEN;
	memcpy(&extent, extent_value, sizeof(extent));
	return size > (ssize_t)sizeof(extent) && le64_get(extent.address) == key->offset &&
			       le32_get(extent.length) == le32_get(record.length)
		       ? VERDICT_PROVEN
		       : VERDICT_OLD;
}

static enum verdict item_verdict(struct meta *meta, const struct meta_key *key, const void *value, size_t length,
				 uint64_t generation)
{
	if (key->object == OBJECT_VOLUME)
		return key->type == TYPE_ALLOC ? record_verdict(meta, key, value, length) : VERDICT_OPEN;
	return key->type == TYPE_EXTENT ? extent_verdict(meta, key, value, length, generation) : VERDICT_OPEN;
}

/* One item that is out of date tells of the whole leaf. */
static bool leaf_is_old(struct meta *meta, const void *node)
{
	for (unsigned int i = 0; i < node_count(node); i++) {
		struct meta_key key = node_key(node, i);
		size_t length;
		const void *value = node_value(node, i, &length);

		if (item_verdict(meta, &key, value, length, node_generation(node)) == VERDICT_OLD)
			return true;
	}
	return false;
}

/* A newer node above leaves has something else where this leaf would be. Behind its last key it may end. */
static bool is_gainsaid(const struct salvage *salvage, const struct found *found)
{
	for (const struct witness *witness = salvage->witnesses; witness; witness = witness->next) {
		unsigned int count = node_count(witness->node), slot;
		struct meta_key first = node_key(witness->node, 0), last = node_key(witness->node, count - 1);
		struct format_pointer pointer;

		if (node_generation(witness->node) <= found->generation ||
		    meta_key_compare(&found->first, &first) < 0 || meta_key_compare(&found->first, &last) >= 0)
			continue;
		slot = node_child_slot(witness->node, &found->first);
		memcpy(&pointer, node_value(witness->node, slot, NULL), sizeof(pointer));
		if (le64_get(pointer.address) != found->address || le64_get(pointer.generation) != found->generation)
			return true;
	}
	return false;
}

static bool within(const struct rebuild_gap *gap, const struct found *found)
{
	return meta_key_compare(&found->first, &gap->bounds.least) >= 0 &&
	       (gap->bounds.endless || meta_key_compare(&found->last, &gap->bounds.end) < 0);
}

static bool found_read(struct rebuild *rebuild, const struct found *found, void *node)
{
	return !io_read(rebuild->meta->mirror, io_only(found->leg), found->address, node, NODE_BYTES) &&
	       node_valid(node, rebuild->meta->volume, found->address, 0, &found->generation, &found->crc);
}

/* ---- whole leaves ---- */

/* Spans that overlap are equal to the tree: it finds any of them. */
static int span_compare(const struct span *a, const struct span *b)
{
	if (meta_key_compare(&a->last, &b->first) < 0)
		return -1;
	return meta_key_compare(&a->first, &b->last) > 0;
}

RB_GENERATE_INTERNAL(spans, span, entry, span_compare, __attribute__((unused)) static)

static void spans_clear(struct spans *spans)
{
	struct span *span;

	while ((span = RB_ROOT(spans))) {
		RB_REMOVE(spans, spans, span);
		free(span);
	}
}

/* 1: a newer leaf has keys between those of this one; 0: none; -ENOMEM. From now on it is itself a newer one. */
static int span_add(struct spans *spans, const struct found *found)
{
	struct span *span = malloc(sizeof(*span)), *other;
	int overlaps = 0;

	if (!span)
		return -ENOMEM;
	*span = (struct span){ .first = found->first, .last = found->last };
	while ((other = RB_FIND(spans, spans, span))) {
		RB_REMOVE(spans, spans, other);
		if (meta_key_compare(&other->first, &span->first) < 0)
			span->first = other->first;
		if (meta_key_compare(&other->last, &span->last) > 0)
			span->last = other->last;
		free(other);
		overlaps = 1;
	}
	RB_INSERT(spans, spans, span);
	return overlaps;
}

static bool is_current(struct rebuild *rebuild, struct salvage *salvage, const struct found *found)
{
	return !is_gainsaid(salvage, found) && found_read(rebuild, found, salvage->node) &&
	       !leaf_is_old(rebuild->meta, salvage->node);
}

static int by_key(const void *a, const void *b)
{
	return meta_key_compare(&(*(struct found *const *)a)->first, &(*(struct found *const *)b)->first);
}

/* Newest first; of two that are equally new the first stands. */
static int choose_leaves(struct rebuild *rebuild, struct salvage *salvage, const struct rebuild_gap *gap)
{
	int overlaps = 0;

	salvage->chosen_count = 0;
	for (size_t i = 0; i < salvage->count && !gap->leaf && overlaps >= 0; i++) {
		struct found *found = &salvage->found[i];

		if (found->generation > gap->generation || !touches(&gap->bounds, &found->first, &found->last))
			continue;
		overlaps = span_add(&salvage->newer, found);
		if (!overlaps && within(gap, found) && is_current(rebuild, salvage, found))
			salvage->chosen[salvage->chosen_count++] = found;
	}
	spans_clear(&salvage->newer);
	if (salvage->chosen_count)
		qsort(salvage->chosen, salvage->chosen_count, sizeof(*salvage->chosen), by_key);
	for (size_t i = 0; i < salvage->chosen_count; i++)
		rebuild_mark(rebuild, rebuild->used, salvage->chosen[i]->address);
	return overlaps < 0 ? overlaps : 0;
}

/* ---- single items ---- */

static bool is_covered(const struct salvage *salvage, const struct meta_key *key)
{
	size_t low = 0, high = salvage->chosen_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (meta_key_compare(&salvage->chosen[middle]->last, key) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low < salvage->chosen_count && meta_key_compare(&salvage->chosen[low]->first, key) <= 0;
}

static int item_add(struct salvage *salvage, const struct meta_key *key, const void *value, size_t length,
		    uint64_t generation)
{
	struct item *item;

	if (ARRAY_GROW(salvage->items, salvage->item_room, salvage->item_count, 64))
		return -ENOMEM;
	item = &salvage->items[salvage->item_count];
	*item = (struct item){ .key = *key, .generation = generation, .length = length, .value = malloc(length) };
	if (!item->value)
		return -ENOMEM;
	memcpy(item->value, value, length);
	salvage->item_count++;
	return 0;
}

/* Proven extents, and for now every inode. */
static int items_of(struct rebuild *rebuild, struct salvage *salvage, const struct rebuild_gap *gap)
{
	const void *node = salvage->node;
	int error = 0;

	for (unsigned int i = 0; i < node_count(node) && !error; i++) {
		struct meta_key key = node_key(node, i);
		size_t length;
		const void *value = node_value(node, i, &length);
		bool inode = key.type == TYPE_INODE && !key.offset && length == sizeof(struct format_inode);

		if (key.object == OBJECT_VOLUME || meta_key_compare(&key, &gap->bounds.least) < 0 ||
		    (!gap->bounds.endless && meta_key_compare(&key, &gap->bounds.end) >= 0) ||
		    is_covered(salvage, &key))
			continue;
		if (inode || (key.type == TYPE_EXTENT && extent_verdict(rebuild->meta, &key, value, length,
									node_generation(node)) == VERDICT_PROVEN))
			error = item_add(salvage, &key, value, length, node_generation(node));
	}
	return error;
}

static int by_item(const void *a, const void *b)
{
	const struct item *x = a, *y = b;
	int order = meta_key_compare(&x->key, &y->key);

	if (order || x->generation == y->generation)
		return order;
	return x->generation > y->generation ? -1 : 1;
}

/* The block behind the last one that the file is known to have. 0: it is known to have none. */
static uint64_t file_end(struct meta *meta, const struct salvage *salvage, size_t inode)
{
	const struct meta_key first = { salvage->items[inode].key.object, TYPE_EXTENT, 0 };
	struct meta_key key = { first.object, TYPE_EXTENT, UINT64_MAX };
	struct format_extent extent;
	uint64_t end = 0;

	if (tree_previous(meta, &key, &first, &extent, sizeof(extent)) >= (ssize_t)sizeof(extent))
		end = key.offset + le32_get(extent.length);
	for (size_t i = inode + 1; i < salvage->item_count && salvage->items[i].key.object == first.object; i++) {
		if (salvage->items[i].key.type != TYPE_EXTENT)
			continue;
		memcpy(&extent, salvage->items[i].value, sizeof(extent));
		if (salvage->items[i].key.offset + le32_get(extent.length) > end)
			end = salvage->items[i].key.offset + le32_get(extent.length);
	}
	return end;
}

/*
 * Numbers are not given twice, so a file that has blocks is the one that this inode was of; but what has changed since
 * is not known. It is for its owner alone until somebody has looked, and no shorter than what it has.
 */
static bool inode_fit(struct meta *meta, struct salvage *salvage, size_t index)
{
	struct item *item = &salvage->items[index];
	struct format_inode inode;
	uint64_t end = file_end(meta, salvage, index);
	uint32_t mode;

	memcpy(&inode, item->value, sizeof(inode));
	mode = le32_get(inode.mode);
	if (!end || !S_ISREG(mode))
		return false;
	inode.mode = le32_of(S_IFREG | (mode & 0700));
	if (le64_get(inode.size) <= (end - 1) * FORMAT_BLOCK)
		inode.size = le64_of(end * FORMAT_BLOCK);
	memcpy(item->value, &inode, sizeof(inode));
	return true;
}

/* The newest of each key, and of inodes those that are still in use. */
static void items_settle(struct meta *meta, struct salvage *salvage)
{
	size_t kept = 0;

	if (salvage->item_count)
		qsort(salvage->items, salvage->item_count, sizeof(*salvage->items), by_item);
	for (size_t i = 0; i < salvage->item_count; i++) {
		struct item item = salvage->items[i];

		if ((kept && !meta_key_compare(&salvage->items[kept - 1].key, &item.key)) ||
		    (item.key.type == TYPE_INODE && !inode_fit(meta, salvage, i)))
			free(item.value);
		else
			salvage->items[kept++] = item;
	}
	salvage->item_count = kept;
}

static int choose_items(struct rebuild *rebuild, struct salvage *salvage, const struct rebuild_gap *gap)
{
	int error = 0;

	items_clear(salvage);
	for (size_t i = 0; i < salvage->count && !error; i++) {
		const struct found *found = &salvage->found[i];

		if (found->generation > gap->generation || !touches(&gap->bounds, &found->first, &found->last) ||
		    !found_read(rebuild, found, salvage->node))
			continue;
		error = items_of(rebuild, salvage, gap);
	}
	items_settle(rebuild->meta, salvage);
	return error;
}

/* ---- all of a gap ---- */

static int write_built(struct rebuild *rebuild, struct salvage *salvage)
{
	struct meta_key first = node_key(salvage->built, 0);
	struct format_pointer pointer;
	int error = rebuild_write_node(rebuild, salvage->built, &pointer);

	return error ? error : rebuild_add_leaf(rebuild, &first, &pointer);
}

/* Items from *at on, up to `end` (NULL: all), in new leaves. */
static int build_leaves(struct rebuild *rebuild, struct salvage *salvage, size_t *at, const struct meta_key *end)
{
	unsigned char *node = salvage->built;
	int error = 0;

	node_init(node, 0, rebuild->meta->volume, 0, rebuild->meta->generation);
	for (; *at < salvage->item_count && !error; ++*at) {
		const struct item *item = &salvage->items[*at];

		if (end && meta_key_compare(&item->key, end) >= 0)
			break;
		if (node_room(node) < NODE_ITEM_BYTES + item->length) {
			error = write_built(rebuild, salvage);
			node_init(node, 0, rebuild->meta->volume, 0, rebuild->meta->generation);
		}
		node_insert(node, node_count(node), &item->key, item->value, item->length);
	}
	return error || !node_count(node) ? error : write_built(rebuild, salvage);
}

int salvage_gap(struct rebuild *rebuild, struct salvage *salvage, const struct rebuild_gap *gap)
{
	struct meta_loss loss = {
		.first = gap->bounds.least,
		.end = gap->bounds.end,
		.endless = gap->bounds.endless,
		.leaf = gap->leaf,
	};
	size_t at = 0;
	int error;

	error = choose_leaves(rebuild, salvage, gap);
	if (!error)
		error = choose_items(rebuild, salvage, gap);
	loss.leaves = salvage->chosen_count;
	loss.items = salvage->item_count;
	for (size_t i = 0; i < salvage->chosen_count && !error; i++) {
		const struct found *found = salvage->chosen[i];
		const struct format_pointer pointer = {
			.address = le64_of(found->address),
			.generation = le64_of(found->generation),
			.crc = le32_of(found->crc),
		};

		error = build_leaves(rebuild, salvage, &at, &found->first);
		if (!error)
			error = rebuild_add_leaf(rebuild, &found->first, &pointer);
	}
	if (!error)
		error = build_leaves(rebuild, salvage, &at, NULL);
	if (!error)
		rebuild->told->lost(rebuild->told, &loss);
	return error;
}
