/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is on one leg alone, file by file, told while the volume is in use.
 *
 * It is found as a resync finds it, by generations: leaves that are older than what the leg lacks are passed by. But it
 * goes by key, so that the pieces of a file come together and nothing has to be kept. A leaf is copied, and the birth
 * of each extent in it is looked up under a hold of the tree's lock of its own: writers wait for one lookup at most.
 */
#include "meta_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/*
 * Of an extent's blocks from `at` on: how many lie in one record, and whether the leg lacks them. A file that changes
 * meanwhile may have the space no more.
 */
static uint32_t extent_lacks(struct meta *meta, const struct mirror_missing *what, const struct meta_key *key,
			     const struct format_extent *extent, uint32_t at, bool *lacks)
{
	uint64_t address = le64_get(extent->address) + at;
	const struct meta_key first = { OBJECT_VOLUME, TYPE_ALLOC,
					address < EXTENT_BLOCKS_MAX ? 0 : address - EXTENT_BLOCKS_MAX + 1 };
	struct meta_key found = { OBJECT_VOLUME, TYPE_ALLOC, address };
	uint32_t rest = le32_get(extent->length) - at, run;
	struct format_alloc alloc;
	ssize_t length;
	uint64_t owner;

	*lacks = false;
	rwlock_read(&meta->tree_lock);
	length = tree_previous(meta, &found, &first, &alloc, sizeof(alloc));
	rwlock_unlock(&meta->tree_lock);
	if (length != sizeof(alloc) || !meta_alloc_valid(meta, &found, &alloc, (size_t)length) ||
	    found.offset + le32_get(alloc.length) <= address)
		return rest;
	owner = le64_get(alloc.owner);
	*lacks = (owner == OBJECT_VOLUME ||
		  (owner == key->object && le64_get(alloc.owner_offset) == key->offset)) &&
		 resync_lacks(what, found.offset, &alloc);
	run = (uint32_t)(found.offset + le32_get(alloc.length) - address);
	return run < rest ? run : rest;
}

/* False: enough. */
static bool extent_tell(struct meta *meta, struct meta_missing *missing, const struct mirror_missing *what,
			const struct meta_key *key, const struct format_extent *extent)
{
	for (uint32_t at = 0, run; at < le32_get(extent->length); at += run) {
		bool lacks;

		run = extent_lacks(meta, what, key, extent, at, &lacks);
		if (lacks && !missing->piece(missing, key->object, key->offset + at, run))
			return false;
	}
	return true;
}

/* The extents of a leaf from *key on. False: enough. */
static bool leaf_tell(struct meta *meta, struct meta_missing *missing, const struct mirror_missing *what,
		      const struct meta_key *key, const void *leaf)
{
	bool exact;

	for (unsigned int slot = node_search(leaf, key, &exact); slot < node_count(leaf); slot++) {
		const struct meta_key at = node_key(leaf, slot);
		struct format_extent extent;
		const void *value;
		size_t length;

		if (at.type != TYPE_EXTENT)
			continue;
		value = node_value(leaf, slot, &length);
		if (!meta_extent_valid(meta, &at, value, length))
			continue;
		memcpy(&extent, value, sizeof(extent));
		if (!extent_tell(meta, missing, what, &at, &extent))
			return false;
	}
	return true;
}

/* Nodes of all levels. They are copied before any data. */
static uint64_t count_nodes(struct meta *meta, const struct mirror_missing *what)
{
	uint64_t blocks = 0;

	for (unsigned int level = 0; !what->copied && level < NODE_LEVELS; level++) {
		struct meta_key key = { 0, 0, 0 };
		struct node_bounds bounds = { .endless = false };

		while (!bounds.endless) {
			struct format_pointer pointer;
			int error;

			rwlock_read(&meta->tree_lock);
			error = resync_newer_node(meta, level, what->since.after, &key, &pointer, &bounds);
			rwlock_unlock(&meta->tree_lock);
			if (error)
				break;
			if (le64_get(pointer.generation) <= what->upto)
				blocks += NODE_BLOCKS;
			key = bounds.end;
		}
	}
	return blocks;
}

static int files_tell(struct meta *meta, struct meta_missing *missing, void *leaf)
{
	struct meta_key key = { OBJECT_VOLUME + 1, 0, 0 };
	struct node_bounds bounds = { .endless = false };
	struct mirror_missing what;

	/* It may come to lack less, or no longer anything, meanwhile. */
	while (!bounds.endless && mirror_missing(meta->mirror, &what)) {
		struct format_pointer pointer;
		int error;

		rwlock_read(&meta->tree_lock);
		error = resync_newer_node(meta, 0, what.since.after, &key, &pointer, &bounds);
		if (!error)
			error = tree_leaf(meta, &key, leaf);
		rwlock_unlock(&meta->tree_lock);
		if (error)
			return error == -ENOENT ? 0 : error;
		if (!leaf_tell(meta, missing, &what, &key, leaf))
			return -EINTR;
		key = bounds.end;
	}
	return 0;
}

int meta_missing(struct meta *meta, struct meta_missing *missing)
{
	struct mirror_missing what;
	void *leaf;
	int error;

	missing->leg = -1;
	missing->node_blocks = 0;
	if (!mirror_missing(meta->mirror, &what))
		return 0;
	leaf = malloc(NODE_BYTES);
	if (!leaf)
		return -ENOMEM;
	missing->leg = what.leg;
	missing->node_blocks = count_nodes(meta, &what);
	error = files_tell(meta, missing, leaf);
	free(leaf);
	return error;
}
