/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Scrub: every referenced block is read on each in-sync leg and verified, and a bad copy is rewritten from a good one.
 *
 * The walk goes by key and looks each address up anew, under a pin, while the volume is in use: what is pinned is
 * not reused, so a copy that is rewritten is the one that was verified (I9), even if nobody refers to it any more.
 * Nodes that the legs do not have yet are the next checkpoint's business.
 */
#include "meta_private.h"
#include "mirrorfs/base/crc32c.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Copies of one piece of the space, judged a unit at a time. */
struct copies {
	struct meta *meta;
	struct meta_scrub *scrub;
	struct meta_live live;
	uint32_t unit_blocks;
	bool (*right)(const struct copies *copies, uint32_t unit, const void *data);
	union {
		const uint32_t *crc; /* of data */
		struct {
			uint64_t generation;
			uint32_t crc;
			int level;
			struct node_bounds bounds;
		} node;
	};
	unsigned char *good; /* IOBUF_MAX bytes: the content of the units that a leg has */
	bool have[EXTENT_BLOCKS_MAX], bad[MIRROR_LEGS][EXTENT_BLOCKS_MAX];
	bool repaired; /* anything: a flush is due */
	uint64_t done, total;
};

static_assert(EXTENT_BLOCKS_MAX * FORMAT_BLOCK <= IOBUF_MAX, "an extent is one request");

static uint64_t block_of(const struct copies *copies, uint32_t unit)
{
	return copies->live.address + (uint64_t)unit * copies->unit_blocks;
}

static unsigned char *good_at(const struct copies *copies, uint32_t unit)
{
	return copies->good + (size_t)unit * copies->unit_blocks * FORMAT_BLOCK;
}

/* Reads a leg's copy; a piece that cannot be read as a whole is read unit by unit. */
static void copy_judge(struct copies *copies, int leg, uint32_t units, unsigned char *scratch)
{
	size_t size = (size_t)copies->unit_blocks * FORMAT_BLOCK;
	struct mirror *mirror = copies->meta->mirror;
	bool whole = !io_read(mirror, io_only(leg), copies->live.address, scratch, units * size);

	for (uint32_t unit = 0; unit < units; unit++) {
		unsigned char *data = scratch + unit * size;
		bool read = whole || !io_read(mirror, io_only(leg), block_of(copies, unit), data, size);

		copies->bad[leg][unit] = !read || !copies->right(copies, unit, data);
		if (!copies->bad[leg][unit] && !copies->have[unit]) {
			memcpy(good_at(copies, unit), data, size);
			copies->have[unit] = true;
		}
	}
	copies->scrub->blocks += (uint64_t)units * copies->unit_blocks;
}

/* Neighbours that are bad alike are healed, and told of, together. */
static uint32_t bad_run(const struct copies *copies, int leg, uint32_t unit, uint32_t units)
{
	uint32_t run = 0;

	while (unit + run < units && copies->bad[leg][unit + run] && copies->have[unit + run] == copies->have[unit])
		run++;
	return run;
}

static void copy_heal(struct copies *copies, int leg, uint32_t units)
{
	size_t size = (size_t)copies->unit_blocks * FORMAT_BLOCK;
	struct meta_scrub *scrub = copies->scrub;

	for (uint32_t unit = 0, run; unit < units; unit += run ? run : 1) {
		struct meta_live live = copies->live;
		bool healed;

		run = bad_run(copies, leg, unit, units);
		if (!run)
			continue;
		healed = copies->have[unit] && !meta_writable(copies->meta) &&
			 !io_write(copies->meta->mirror, io_only(leg), block_of(copies, unit), good_at(copies, unit),
				   run * size);
		live.address = block_of(copies, unit);
		live.offset += unit;
		live.count = run * copies->unit_blocks;
		copies->repaired |= healed;
		scrub->lost = !copies->have[unit];
		if (healed)
			scrub->repaired += live.count;
		mirror_scrubbed(copies->meta->mirror, leg, live.count, healed ? live.count : 0);
		if (scrub->bad)
			scrub->bad(scrub, &live, leg, healed);
	}
}

/* All copies of copies->live. False: the caller wants no more. */
static bool copies_check(struct copies *copies, unsigned char *scratch)
{
	struct meta_scrub *scrub = copies->scrub;
	uint32_t units = copies->live.count / copies->unit_blocks;
	bool read[MIRROR_LEGS] = { false, false };

	memset(copies->have, 0, sizeof(copies->have));
	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		read[leg] = mirror_leg_insync(copies->meta->mirror, leg);
		if (read[leg])
			copy_judge(copies, leg, units, scratch);
	}
	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		if (read[leg])
			copy_heal(copies, leg, units);
	}
	for (uint32_t unit = 0; unit < units; unit++)
		scrub->unrecoverable += copies->have[unit] ? 0 : copies->unit_blocks;
	copies->done += copies->live.count;
	if (copies->done > copies->total)
		copies->total = copies->done;
	return !scrub->progress || scrub->progress(scrub, copies->done, copies->total);
}

/* ---- nodes ---- */

static bool node_right(const struct copies *copies, uint32_t unit, const void *data)
{
	(void)unit;
	return node_valid(data, copies->meta->volume, copies->live.address, copies->node.level,
			  &copies->node.generation, &copies->node.crc) &&
	       node_within(data, &copies->node.bounds);
}

static uint64_t durable_generation(struct meta *meta)
{
	uint64_t generation;

	mutex_lock(&meta->journal_lock);
	generation = meta->last_cut.generation;
	mutex_unlock(&meta->journal_lock);
	return generation;
}

static int scrub_level(struct copies *copies, unsigned int level, unsigned char *scratch)
{
	struct meta *meta = copies->meta;
	struct node_bounds bounds = { .endless = false };
	bool on = true;

	copies->unit_blocks = NODE_BLOCKS;
	copies->right = node_right;
	while (!bounds.endless && on) {
		struct mirror_pin *pin = mirror_pin(meta->mirror);
		struct format_pointer pointer;
		int error;

		rwlock_read(&meta->tree_lock);
		error = tree_pointer(meta, level, &bounds.end, &pointer, &bounds);
		rwlock_unlock(&meta->tree_lock);
		if (!error && le64_get(pointer.generation) <= durable_generation(meta)) {
			copies->live = (struct meta_live){
				.kind = META_LIVE_NODE,
				.address = le64_get(pointer.address),
				.count = NODE_BLOCKS,
			};
			copies->node.generation = le64_get(pointer.generation);
			copies->node.crc = le32_get(pointer.crc);
			copies->node.level = (int)level;
			copies->node.bounds = bounds;
			on = copies_check(copies, scratch);
		}
		mirror_pin_put(pin);
		if (error == -ENOENT) /* the tree has shrunk */
			return 0;
		if (error && error != -EIO) /* what is above it is lost, and was told */
			return error;
	}
	return on ? 0 : -EINTR;
}

/* ---- data ---- */

static bool data_right(const struct copies *copies, uint32_t unit, const void *data)
{
	return crc32c(data, FORMAT_BLOCK) == copies->crc[unit];
}

/* An extent, less what a read-only mount has in memory alone. */
static bool scrub_extent(struct copies *copies, uint64_t object, const struct map_extent *extent,
			 unsigned char *scratch)
{
	bool on = true;

	for (uint32_t at = 0, count; at < extent->length && on; at += count) {
		const void *late;

		count = replay_late(copies->meta, extent->address + at, extent->length - at, &late);
		if (late)
			continue;
		copies->live = (struct meta_live){
			.kind = META_LIVE_DATA,
			.address = extent->address + at,
			.count = count,
			.object = object,
			.offset = extent->offset + at,
		};
		copies->crc = extent->crc + at;
		on = copies_check(copies, scratch);
	}
	return on;
}

/* On behind a leaf that is lost, which was told. False: nothing lies behind it. */
static bool skip_lost(struct meta *meta, uint64_t *object, uint64_t *offset)
{
	struct meta_key key = { *object, TYPE_EXTENT, *offset };
	bool more;

	rwlock_read(&meta->tree_lock);
	more = tree_skip(meta, &key);
	rwlock_unlock(&meta->tree_lock);
	*object = key.type > TYPE_EXTENT ? key.object + 1 : key.object;
	*offset = key.type == TYPE_EXTENT ? key.offset : 0;
	return more && *object;
}

static int scrub_data(struct copies *copies, unsigned char *scratch)
{
	struct meta *meta = copies->meta;
	struct map_extent extent;
	uint64_t object = 0, offset = 0;
	bool on = true;

	copies->unit_blocks = 1;
	copies->right = data_right;
	while (on) {
		struct mirror_pin *pin = mirror_pin(meta->mirror);
		int error;

		rwlock_read(&meta->tree_lock);
		error = map_next(meta, &object, offset, &extent);
		rwlock_unlock(&meta->tree_lock);
		if (!error) {
			/* What was committed with its content in the ring may still be on its way there. */
			alloc_wait_writes(meta, alloc_write_order(meta));
			on = scrub_extent(copies, object, &extent, scratch);
			offset = extent.offset + 1;
		} else if (error == -EIO && skip_lost(meta, &object, &offset)) {
			error = 0;
		}
		mirror_pin_put(pin);
		if (error)
			return error == -ENOENT || error == -EIO ? 0 : error;
	}
	return -EINTR;
}

/* ---- all of it ---- */

static int scrub_run(struct copies *copies, unsigned char *scratch)
{
	struct meta *meta = copies->meta;
	unsigned int height;
	int error = 0;

	super_scrub(meta, copies->scrub);
	rwlock_read(&meta->tree_lock);
	height = meta->root.level + 1;
	copies->total = copies->scrub->metadata_only ? 0 : (uint64_t)meta->data_blocks;
	rwlock_unlock(&meta->tree_lock);
	copies->total += alloc_node_blocks(meta);
	/* A node can only be looked up through those above it. */
	for (unsigned int level = height; level > 0 && !error; level--)
		error = scrub_level(copies, level - 1, scratch);
	if (!error && !copies->scrub->metadata_only)
		error = scrub_data(copies, scratch);
	if (copies->repaired && !error)
		error = io_flush(meta->mirror);
	return error;
}

int meta_scrub(struct meta *meta, struct meta_scrub *scrub)
{
	struct copies *copies;
	unsigned char *scratch;
	int error = meta->options.read_only || meta_writable(meta) ? 0 : meta_checkpoint(meta);

	if (error)
		return error;
	scrub->blocks = scrub->repaired = scrub->unrecoverable = 0;
	copies = calloc(1, sizeof(*copies));
	scratch = malloc(IOBUF_MAX);
	if (copies)
		copies->good = malloc(IOBUF_MAX);
	if (copies && scratch && copies->good) {
		copies->meta = meta;
		copies->scrub = scrub;
		error = scrub_run(copies, scratch);
	} else {
		error = -ENOMEM;
	}
	if (copies)
		free(copies->good);
	free(copies);
	free(scratch);
	return error;
}
