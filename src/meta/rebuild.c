/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The tree made anew when nodes of it can be read on no leg.
 *
 * What the newest checkpoint's tree still names, and can be read, is certain, and its leaves stay where they are. For
 * each gap between them leaves are looked for on the legs (salvage.c). Over all of these new internal nodes are built,
 * in free space, and one slot is written that names them: until then nothing has changed, and what was referenced is
 * never overwritten (I1). The slot keeps its place in the journal, so the next mount replays what the ring has.
 */
#include "rebuild_private.h"
#include "mirrorfs/base/array.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PACK_ROOM (NODE_BYTES / 8) /* left in each new node, so that the first insertion does not split it */

int rebuild_add_leaf(struct rebuild *rebuild, const struct meta_key *first, const struct format_pointer *pointer)
{
	/* A node in the wrong order would be no tree. */
	if (rebuild->leaf_count && meta_key_compare(&rebuild->leaves[rebuild->leaf_count - 1].first, first) >= 0)
		return -EIO;
	if (ARRAY_GROW(rebuild->leaves, rebuild->leaf_room, rebuild->leaf_count, 1024))
		return -ENOMEM;
	rebuild->leaves[rebuild->leaf_count++] = (struct rebuild_leaf){ *first, *pointer };
	return 0;
}

static int add_gap(struct rebuild *rebuild, const struct rebuild_gap *gap)
{
	int error = ARRAY_GROW(rebuild->gaps, rebuild->gap_room, rebuild->gap_count, 16);

	if (!error)
		rebuild->gaps[rebuild->gap_count++] = *gap;
	return error;
}

/* ---- space for new nodes ---- */

static uint64_t unit_of(const struct rebuild *rebuild, uint64_t address)
{
	return (address - rebuild->meta->heap_start) / NODE_BLOCKS;
}

void rebuild_mark(struct rebuild *rebuild, uint8_t *bits, uint64_t address)
{
	uint64_t unit = unit_of(rebuild, address);

	if (address >= rebuild->meta->heap_start && unit < rebuild->units)
		bits[unit / 8] |= (uint8_t)(1u << unit % 8);
}

static bool is_marked(const uint8_t *bits, uint64_t unit)
{
	return bits[unit / 8] & 1u << unit % 8;
}

/* Where no node was found at all, as long as there is such a place: another try may want to find them, too. */
static int take_unit(struct rebuild *rebuild, uint64_t *address)
{
	uint64_t unit = rebuild->next_unit;

	while (unit && (is_marked(rebuild->used, unit - 1) || is_marked(rebuild->found, unit - 1)))
		unit--;
	rebuild->next_unit = unit;
	if (!unit) {
		unit = rebuild->units;
		while (unit && is_marked(rebuild->used, unit - 1))
			unit--;
	}
	if (!unit)
		return -ENOSPC;
	*address = rebuild->meta->heap_start + (unit - 1) * NODE_BLOCKS;
	rebuild_mark(rebuild, rebuild->used, *address);
	return 0;
}

int rebuild_write_node(struct rebuild *rebuild, void *node, struct format_pointer *pointer)
{
	struct format_node *head = node;
	uint64_t address;
	int error = take_unit(rebuild, &address);

	if (error)
		return error;
	head->address = le64_of(address);
	*pointer = (struct format_pointer){
		.address = le64_of(address),
		.generation = head->generation,
		.crc = le32_of(node_seal(node)),
	};
	return io_write(rebuild->meta->mirror, 0, address, node, NODE_BYTES);
}

/* ---- what there is ---- */

static int survey_leaves(struct rebuild *rebuild)
{
	struct node_bounds bounds = { .endless = false };
	struct meta *meta = rebuild->meta;
	unsigned char *node = malloc(NODE_BYTES);
	int error = node ? 0 : -ENOMEM;

	while (!error && !bounds.endless) {
		struct format_pointer pointer;
		struct meta_key key = bounds.end;
		int path = tree_pointer(meta, 0, &key, &pointer, &bounds), leaf = path;

		if (!path)
			leaf = le64_get(pointer.address) % NODE_BLOCKS ? -EIO : tree_leaf(meta, &key, node);
		if (leaf && leaf != -EIO) { /* a leg that does not answer now may have it */
			error = leaf;
		} else if (leaf) {
			const struct rebuild_gap gap = {
				.bounds = bounds,
				.generation = le64_get(pointer.generation),
				.leaf = !path,
			};

			error = add_gap(rebuild, &gap);
		} else if (node_count(node)) {
			rebuild_mark(rebuild, rebuild->used, le64_get(pointer.address));
			error = rebuild_add_leaf(rebuild, &bounds.least, &pointer);
		}
	}
	free(node);
	return error;
}

/* The damaged tree counts until the new one's slot is written. */
static void survey_nodes(struct rebuild *rebuild)
{
	struct meta *meta = rebuild->meta;

	for (unsigned int level = meta->root.level; level > 0; level--) {
		struct node_bounds bounds = { .endless = false };

		while (!bounds.endless) {
			struct format_pointer pointer;

			if (!tree_pointer(meta, level, &bounds.end, &pointer, &bounds))
				rebuild_mark(rebuild, rebuild->used, le64_get(pointer.address));
		}
	}
}

/* The leaves that were named, and in the gaps between them what is found. */
static int fill_gaps(struct rebuild *rebuild)
{
	struct rebuild_leaf *named = rebuild->leaves;
	size_t count = rebuild->leaf_count, gap = 0, at = 0;
	struct salvage *salvage = NULL;
	int error = 0;

	rebuild->leaves = NULL;
	rebuild->leaf_count = rebuild->leaf_room = 0;
	if (rebuild->gap_count)
		error = salvage_scan(rebuild, &salvage);
	while (!error && (at < count || gap < rebuild->gap_count)) {
		if (gap == rebuild->gap_count ||
		    (at < count && meta_key_compare(&named[at].first, &rebuild->gaps[gap].bounds.least) < 0)) {
			error = rebuild_add_leaf(rebuild, &named[at].first, &named[at].pointer);
			at++;
		} else {
			error = salvage_gap(rebuild, salvage, &rebuild->gaps[gap++]);
		}
	}
	salvage_free(salvage);
	free(named);
	return error;
}

/* ---- the new tree ---- */

/* A level above these nodes, which it replaces. */
static int build_level(struct rebuild *rebuild, uint8_t level, unsigned char *node)
{
	struct rebuild_leaf *below = rebuild->leaves;
	size_t count = rebuild->leaf_count;
	struct format_pointer pointer;
	int error = 0;

	rebuild->leaves = NULL;
	rebuild->leaf_count = rebuild->leaf_room = 0;
	for (size_t i = 0, first = 0; i < count && !error; i++) {
		if (i == first)
			node_init(node, level, rebuild->meta->volume, 0, rebuild->meta->generation);
		node_insert(node, node_count(node), &below[i].first, &below[i].pointer, sizeof(pointer));
		if (i + 1 < count && node_room(node) > PACK_ROOM)
			continue;
		error = rebuild_write_node(rebuild, node, &pointer);
		if (!error)
			error = rebuild_add_leaf(rebuild, &below[first].first, &pointer);
		first = i + 1;
	}
	free(below);
	return error;
}

static int build(struct rebuild *rebuild, struct meta_root *root)
{
	const struct meta_key least = { 0, 0, 0 };
	unsigned char *node = malloc(NODE_BYTES);
	struct format_pointer pointer;
	uint8_t level = 0;
	int error = node ? 0 : -ENOMEM;

	if (!error && !rebuild->leaf_count) {
		node_init(node, 0, rebuild->meta->volume, 0, rebuild->meta->generation);
		error = rebuild_write_node(rebuild, node, &pointer);
		if (!error)
			error = rebuild_add_leaf(rebuild, &least, &pointer);
	}
	while (!error && rebuild->leaf_count > 1)
		error = ++level < NODE_LEVELS ? build_level(rebuild, level, node) : -EIO;
	free(node);
	if (error)
		return error;
	pointer = rebuild->leaves[0].pointer;
	*root = (struct meta_root){
		.address = le64_get(pointer.address),
		.generation = le64_get(pointer.generation),
		.crc = le32_get(pointer.crc),
		.level = level,
	};
	return 0;
}

/* The slot that the next checkpoint would have written: the older one is whole until this is. */
static int commit(struct rebuild *rebuild, const struct meta_root *root)
{
	struct meta *meta = rebuild->meta;
	const struct meta_cut cut = {
		.generation = meta->generation,
		.record = meta->record,
		.crc = meta->record_crc,
		.position = meta->head,
	};
	int error = io_flush(meta->mirror);

	return error ? error : super_write(meta, root, &cut);
}

static int run(struct rebuild *rebuild)
{
	struct meta *meta = rebuild->meta;
	struct meta_root root;
	int error;

	rebuild->units = rebuild->next_unit = (meta->boundary - meta->heap_start) / NODE_BLOCKS;
	rebuild->used = calloc(1, rebuild->units / 8 + 1);
	rebuild->found = calloc(1, rebuild->units / 8 + 1);
	if (!rebuild->used || !rebuild->found)
		return -ENOMEM;
	survey_nodes(rebuild);
	error = survey_leaves(rebuild);
	if (!error)
		error = fill_gaps(rebuild);
	if (!error)
		error = build(rebuild, &root);
	return error ? error : commit(rebuild, &root);
}

int meta_rebuild(struct mirror *mirror, struct cache *cache, struct meta_rebuild *told, struct error *error)
{
	const struct meta_options options = { .checking = true };
	struct rebuild rebuild = { .told = told };
	int result = meta_new(mirror, cache, &options, &rebuild.meta, error);

	if (result)
		return result;
	rwlock_write(&rebuild.meta->tree_lock);
	result = run(&rebuild);
	rwlock_unlock(&rebuild.meta->tree_lock);
	free(rebuild.used);
	free(rebuild.found);
	free(rebuild.gaps);
	free(rebuild.leaves);
	meta_free(rebuild.meta);
	if (result == -ENOSPC)
		return error_set(error, result, "there is no room for the nodes of a new tree");
	return result ? error_set(error, result, "the tree cannot be rebuilt: %s", strerror(-result)) : 0;
}
