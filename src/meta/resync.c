/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the mirror asks when it fills a leg: which blocks were born after a generation, and what must be found there.
 *
 * Nothing is kept for it while a leg is away. A pointer in the tree carries the generation of the node it leads to, and
 * no node below is newer; so the walk passes by whatever is older than the leg's last checkpoint. First come the nodes
 * themselves, level by level, then file data in the order of its addresses, by the births in its allocation records.
 *
 * Complete: what is born after the checkpoint of resync_begin() is written to both legs, as new writes were before that
 * began (its transactions may have taken blocks earlier; they are waited for). What is older stays where it is until
 * something newer replaces it; the walk goes by key and misses nothing that is there from its beginning to its end. A
 * piece is looked up under a pin, so that nobody writes there before it is copied (I9).
 *
 * Slots and ring are rewritten in place: two checkpoints at the end put new slots on both legs, with nothing in the
 * ring that they need from before.
 */
#include "meta_private.h"
#include "mirrorfs/base/crc32c.h"
#include "mirrorfs/base/log.h"

#include <errno.h>
#include <string.h>

/* mirror_live.own: what must be found there. */
struct own_node {
	const struct meta *meta;
	uint64_t generation;
	uint32_t crc;
	int level;
	struct node_bounds bounds;
};

struct own_data {
	uint32_t crc[EXTENT_BLOCKS_MAX];
};

static_assert(sizeof(struct own_node) <= MIRROR_LIVE_OWN && sizeof(struct own_data) <= MIRROR_LIVE_OWN, "it fits");
static_assert(EXTENT_BLOCKS_MAX <= MIRROR_IO_BLOCKS, "an extent is one request");

static const struct meta_key alloc_first = { OBJECT_VOLUME, TYPE_ALLOC, 0 };
static const struct meta_key alloc_last = { OBJECT_VOLUME, TYPE_ALLOC, UINT64_MAX };

int resync_newer_node(struct meta *meta, unsigned int level, uint64_t after, struct meta_key *key,
		      struct format_pointer *pointer, struct node_bounds *bounds)
{
	unsigned int at = meta->root.level;

	if (level > at)
		return -ENOENT;
	for (;;) {
		int error = tree_pointer(meta, at, key, pointer, bounds);

		if (error)
			return error;
		if (le64_get(pointer->generation) > after) {
			if (at == level)
				return 0;
			at--;
		} else if (bounds->endless) {
			return -ENOENT;
		} else {
			*key = bounds->end;
			at = meta->root.level;
		}
	}
}

/* ---- nodes ---- */

static bool node_right(const struct mirror_live *live, uint32_t unit, const void *data)
{
	const struct own_node *own = (const void *)live->own;

	(void)unit;
	return node_valid(data, own->meta->volume, live->block, own->level, &own->generation, &own->crc) &&
	       node_within(data, &own->bounds);
}

/* The next node; `live` NULL: it is only counted. */
static int next_node(struct meta *meta, struct mirror_live *live)
{
	struct meta_resync *walk = &meta->resync;

	while (walk->levels) {
		struct format_pointer pointer;
		struct node_bounds bounds;
		unsigned int level = walk->levels - 1;
		int error = -ENOENT;

		if (!walk->endless)
			error = resync_newer_node(meta, level, walk->missing.since.after, &walk->key, &pointer,
						  &bounds);
		if (error && error != -ENOENT)
			return error;
		if (error) {
			walk->levels--;
			walk->key = (struct meta_key){ 0, 0, 0 };
			walk->endless = false;
			continue;
		}
		walk->key = bounds.end;
		walk->endless = bounds.endless;
		if (le64_get(pointer.generation) > walk->missing.upto)
			continue;
		walk->found = NODE_BLOCKS;
		if (!live)
			return 0;
		live->block = le64_get(pointer.address);
		live->count = live->unit_blocks = NODE_BLOCKS;
		live->position = 0;
		live->right = node_right;
		*(struct own_node *)(void *)live->own = (struct own_node){
			.meta = meta,
			.generation = le64_get(pointer.generation),
			.crc = le32_get(pointer.crc),
			.level = (int)level,
			.bounds = bounds,
		};
		return 0;
	}
	walk->key = walk->leaf_end = alloc_first;
	return -ENOENT;
}

/* ---- data ---- */

static bool data_right(const struct mirror_live *live, uint32_t unit, const void *data)
{
	const struct own_data *own = (const void *)live->own;

	return crc32c(data, FORMAT_BLOCK) == own->crc[unit];
}

bool resync_lacks(const struct mirror_missing *missing, uint64_t address, const struct format_alloc *alloc)
{
	uint64_t birth = le64_get(alloc->birth), end = address + le32_get(alloc->length);

	if (birth <= missing->since.after || birth > missing->upto || end <= missing->copied)
		return false;
	return birth > missing->since.generation || end > missing->since.position;
}

/* The next allocation that the leg lacks; walk->key is then its own. Tree locked. */
static int next_alloc(struct meta *meta, struct format_alloc *alloc)
{
	struct meta_resync *walk = &meta->resync;

	for (;;) {
		struct meta_key key = walk->key;
		ssize_t length;

		if (meta_key_compare(&key, &walk->leaf_end) >= 0) {
			struct format_pointer pointer;
			struct node_bounds bounds;
			int error = resync_newer_node(meta, 0, walk->missing.since.after, &key, &pointer, &bounds);

			if (error)
				return error;
			walk->leaf_end = bounds.endless ? (struct meta_key){ UINT64_MAX, UINT8_MAX, UINT64_MAX } :
							  bounds.end;
		}
		if (meta_key_compare(&key, &alloc_last) > 0)
			return -ENOENT;
		length = tree_next(meta, &key, &alloc_last, alloc, sizeof(*alloc));
		if (length < 0)
			return (int)length;
		if (!meta_alloc_valid(meta, &key, alloc, (size_t)length))
			return -EIO;
		walk->key = key;
		/* Behind the leaf's end this may be one of a leaf that is old. */
		if (meta_key_compare(&key, &walk->leaf_end) >= 0)
			continue;
		if (resync_lacks(&walk->missing, key.offset, alloc))
			return 0;
		walk->key.offset++;
	}
}

/* What the file that has it says of its content. Tree locked. */
static int extent_crc(struct meta *meta, uint64_t address, const struct format_alloc *alloc, uint32_t *crc)
{
	struct map_extent extent;
	uint64_t at = address, object;
	int error = map_at(meta, &at, &object, &extent);

	if (error)
		return error == -ENOENT ? -EIO : error;
	if (at != address || extent.length != le32_get(alloc->length))
		return -EIO;
	memcpy(crc, extent.crc, extent.length * sizeof(*crc));
	return 0;
}

/* Neighbours on the legs are one piece, as long as they fit into one request. Tree locked. */
static int next_data(struct meta *meta, struct mirror_live *live)
{
	struct meta_resync *walk = &meta->resync;
	struct format_alloc alloc;
	int error = next_alloc(meta, &alloc);
	uint64_t start = walk->key.offset;
	uint32_t count = 0;

	if (error)
		return error;
	do {
		uint64_t address = walk->key.offset;
		uint32_t length = le32_get(alloc.length);

		if (address != start + count || count + length > EXTENT_BLOCKS_MAX)
			break;
		error = live ? extent_crc(meta, address, &alloc, ((struct own_data *)(void *)live->own)->crc + count) :
			       0;
		if (error)
			return error;
		count += length;
		walk->key.offset++;
		error = next_alloc(meta, &alloc);
	} while (!error);
	if (error && error != -ENOENT)
		return error;
	walk->found = count;
	if (!live)
		return 0;
	live->block = start;
	live->count = count;
	live->unit_blocks = 1;
	live->position = start + count;
	live->right = data_right;
	return 0;
}

/* ---- the source ---- */

static int next_any(struct meta *meta, struct mirror_live *live)
{
	int error;

	rwlock_read(&meta->tree_lock);
	error = meta->resync.levels ? next_node(meta, live) : -ENOENT;
	if (error == -ENOENT)
		error = next_data(meta, live);
	rwlock_unlock(&meta->tree_lock);
	return error;
}

static void walk_start(struct meta *meta)
{
	meta->resync.key = meta->resync.leaf_end = (struct meta_key){ 0, 0, 0 };
	meta->resync.endless = false;
	rwlock_read(&meta->tree_lock);
	meta->resync.levels = meta->root.level + 1;
	rwlock_unlock(&meta->tree_lock);
}

static uint64_t resync_proven(void *context, int leg, uint64_t after)
{
	uint64_t generation = super_generation(context, leg, FORMAT_NUMBER_END);

	if (generation >= after)
		return after;
	log_warn("leg has less than the labels say, all of it is copied: leg=%d generation=%llu expected=%llu", leg,
		 (unsigned long long)generation, (unsigned long long)after);
	return 0;
}

static int resync_begin(void *context, const struct mirror_since *since, uint64_t *total)
{
	struct meta *meta = context;
	int error;

	/* Blocks that these transactions took may have been written to the survivor alone. */
	alloc_wait_cohort(meta);
	error = checkpoint_run(meta);
	if (error)
		return error;
	mutex_lock(&meta->journal_lock);
	meta->resync.missing = (struct mirror_missing){ .since = *since, .upto = meta->last_cut.generation };
	mutex_unlock(&meta->journal_lock);
	walk_start(meta);
	for (*total = 0; !(error = next_any(meta, NULL)); *total += meta->resync.found)
		;
	walk_start(meta);
	return error == -ENOENT ? 0 : error;
}

static int resync_next(void *context, struct mirror_live *live)
{
	struct meta *meta = context;
	int error;

	live->pin = mirror_pin(meta->mirror);
	error = next_any(meta, live);
	if (error)
		mirror_pin_put(live->pin);
	return error;
}

static int resync_end(void *context)
{
	struct meta *meta = context;
	int error = checkpoint_run(meta);

	return error ? error : checkpoint_run(meta);
}

void resync_serve(struct meta *meta)
{
	const struct mirror_source source = {
		.context = meta,
		.proven = resync_proven,
		.begin = resync_begin,
		.next = resync_next,
		.end = resync_end,
	};
	int error = mirror_source_set(meta->mirror, &source);

	meta->resync.serving = !error;
	if (error)
		log_warn("no thread for resyncs: a leg that lacks something stays out: %s", strerror(-error));
}

void resync_stop(struct meta *meta)
{
	if (meta->resync.serving)
		(void)mirror_source_set(meta->mirror, NULL);
	meta->resync.serving = false;
}
