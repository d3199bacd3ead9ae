/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Scrub: every referenced block is read on each in-sync leg and verified, and a bad copy is rewritten from a good one.
 *
 * First slots and nodes, by key, from the root down, since a node can only be looked up through those above it. Then
 * file data in the order in which it lies on the legs, window by window: what an allocation record names is looked up
 * and read from both legs at once. Whatever is not found sound so is looked at again, extent by extent, to be healed.
 *
 * All of that beside the foreground. Each address is looked up anew under a pin: what is pinned is not reused, so a
 * copy that is rewritten is the one that was verified (I9), even if nobody refers to it any more. Nodes that the legs
 * do not have yet are the next checkpoint's business. Between two windows the caller may let others go first, or stop,
 * to go on there another day; as long as it has us hurry, the second one is under way then.
 */
#include "meta_private.h"
#include "mirrorfs/base/crc32c.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WINDOW_SPANS 256u
#define WINDOW_BLOCKS 4096u /* 16 MiB */
#define GENTLE_BLOCKS 256u  /* while others are at work */

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
}

/* Neighbours that are bad alike are healed, and told of, together. */
static uint32_t bad_run(const struct copies *copies, int leg, uint32_t unit, uint32_t units)
{
	uint32_t run = 0;

	while (unit + run < units && copies->bad[leg][unit + run] && copies->have[unit + run] == copies->have[unit])
		run++;
	return run;
}

/* A piece of a bad copy, to each who has it. */
struct telling {
	struct meta_scrub *scrub;
	int leg;
	bool healed;
	bool told;
};

static bool tell_owner(void *context, const struct meta_owner *owner)
{
	struct telling *telling = context;
	const struct meta_live live = {
		.kind = META_LIVE_DATA,
		.address = owner->address,
		.count = owner->count,
		.object = owner->object,
		.offset = owner->offset,
	};

	telling->scrub->bad(telling->scrub, &live, telling->leg, telling->healed);
	telling->told = true;
	return true;
}

static void copy_tell(struct copies *copies, const struct meta_live *live, int leg, bool healed)
{
	struct telling telling = { .scrub = copies->scrub, .leg = leg, .healed = healed };

	if (!copies->scrub->bad)
		return;
	if (live->kind == META_LIVE_DATA)
		meta_owners(copies->meta, live->address, live->count, tell_owner, &telling);
	if (!telling.told)
		copies->scrub->bad(copies->scrub, live, leg, healed);
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
		copy_tell(copies, &live, leg, healed);
	}
}

/* A unit that no leg in sync has right. */
struct rest {
	struct mirror_io io; /* first: verify finds the rest by it */
	const struct copies *copies;
	uint32_t unit;
};

static bool rest_right(const struct mirror_io *io, uint32_t unit, const void *data)
{
	const struct rest *rest = (const void *)io;

	(void)unit;
	return rest->copies->right(rest->copies, rest->unit, data);
}

/* A leg that is being filled may have it, or one that is being replaced: the mirror knows where to look. */
static void rest_look(struct copies *copies, uint32_t unit)
{
	size_t size = (size_t)copies->unit_blocks * FORMAT_BLOCK;
	struct mirror *mirror = copies->meta->mirror;
	struct rest rest = { .copies = copies, .unit = unit };

	rest.io = (struct mirror_io){ .op = MIRROR_READ,
				      .block = block_of(copies, unit),
				      .count = copies->unit_blocks,
				      .verify = rest_right,
				      .verify_blocks = copies->unit_blocks,
				      .buf = iobuf_get(mirror_pool(mirror), size) };
	copies->have[unit] = !mirror_submit_wait(mirror, &rest.io);
	if (copies->have[unit])
		memcpy(good_at(copies, unit), rest.io.buf->data + rest.io.buf_offset, size);
	iobuf_put(rest.io.buf);
}

/* All copies of copies->live. */
static void copies_check(struct copies *copies, unsigned char *scratch)
{
	struct meta_scrub *scrub = copies->scrub;
	uint32_t units = copies->live.count / copies->unit_blocks;
	bool read[MIRROR_LEGS] = { false, false };

	memset(copies->have, 0, sizeof(copies->have));
	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		read[leg] = mirror_leg_insync(copies->meta->mirror, leg);
		if (!read[leg])
			continue;
		copy_judge(copies, leg, units, scratch);
		scrub->blocks += copies->live.kind == META_LIVE_NODE ? NODE_BLOCKS : 0;
	}
	for (uint32_t unit = 0; unit < units && read[0] != read[1]; unit++) {
		if (!copies->have[unit] && mirror_identity(copies->meta->mirror)->leg_count == MIRROR_LEGS)
			rest_look(copies, unit);
	}
	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		if (read[leg])
			copy_heal(copies, leg, units);
	}
	for (uint32_t unit = 0; unit < units; unit++) {
		if (copies->have[unit])
			continue;
		scrub->unrecoverable += copies->unit_blocks;
		mirror_lost(copies->meta->mirror, block_of(copies, unit), copies->unit_blocks);
	}
}

/* Nothing is pinned, and nothing under way. False: the caller wants no more. */
static bool go_on(struct copies *copies)
{
	struct meta_scrub *scrub = copies->scrub;

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
			copies_check(copies, scratch);
			copies->done += NODE_BLOCKS;
		}
		mirror_pin_put(pin);
		on = go_on(copies);
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
static void extent_check(struct copies *copies, uint64_t object, const struct map_extent *extent,
			 unsigned char *scratch)
{
	copies->unit_blocks = 1;
	copies->right = data_right;
	for (uint32_t at = 0, count; at < extent->length; at += count) {
		const void *late;

		count = home_late(copies->meta, extent->address + at, extent->length - at, &late);
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
		copies_check(copies, scratch);
	}
}

/* On behind a leaf that is lost, which was told. False: nothing lies behind it. */
static bool skip_lost(struct meta *meta, uint64_t *address)
{
	struct meta_key key = { OBJECT_VOLUME, TYPE_ALLOC, *address };
	bool more;

	rwlock_read(&meta->tree_lock);
	more = tree_skip(meta, &key);
	rwlock_unlock(&meta->tree_lock);
	*address = key.offset;
	return more && key.object == OBJECT_VOLUME && key.type == TYPE_ALLOC;
}

/* The next extent on the legs, once home_bring_all() has seen to that. -ENOENT: none. */
static int extent_next(struct meta *meta, uint64_t *address, uint64_t *object, struct map_extent *extent)
{
	int error;

	do {
		rwlock_read(&meta->tree_lock);
		error = map_at(meta, address, object, extent);
		if (!error)
			home_want(meta, extent->address, extent->length);
		rwlock_unlock(&meta->tree_lock);
	} while (error == -EIO && skip_lost(meta, address));
	return error == -EIO ? -ENOENT : error;
}

/* What lies from one address up to another, an extent after the other: healed, counted and told. */
static void extents_check(struct copies *copies, uint64_t from, uint64_t to, unsigned char *scratch)
{
	struct meta *meta = copies->meta;
	struct map_extent extent;
	uint64_t object;

	while (from < to) {
		struct mirror_pin *pin = mirror_pin(meta->mirror);
		int error = extent_next(meta, &from, &object, &extent);

		if (!error && from < to) {
			(void)home_bring_all(meta); /* else home_late() has it */
			extent_check(copies, object, &extent, scratch);
		}
		mirror_pin_put(pin);
		if (error)
			return;
		from++;
	}
}

/* Neighbouring extents, read from both legs at once. */
struct span {
	struct window *window;
	uint64_t address;
	uint32_t count;
	bool doubtful; /* something is wrong with a copy, or it is not all on the legs */
	uint32_t crc[EXTENT_BLOCKS_MAX];
};

struct window {
	struct copies *copies;
	struct batch *batch;
	struct mirror_pin *pin; /* NULL: not begun */
	uint64_t position; /* behind it */
	uint64_t blocks;
	unsigned int reading;
	uint32_t count;
	struct span spans[WINDOW_SPANS];
};

static void span_read(struct batch_io *io)
{
	struct span *span = io->context;

	span->window->reading--;
	span->window->copies->scrub->blocks += span->count;
	span->doubtful |= io->io.error != 0;
	for (uint32_t i = 0; i < span->count && !span->doubtful; i++)
		span->doubtful = crc32c(io->io.buf->data + io->io.buf_offset + (size_t)i * FORMAT_BLOCK,
					FORMAT_BLOCK) != span->crc[i];
}

static bool span_add(struct window *window, const struct map_extent *extent)
{
	struct span *span = window->count ? &window->spans[window->count - 1] : NULL;

	if (!span || span->address + span->count != extent->address ||
	    span->count + extent->length > EXTENT_BLOCKS_MAX) {
		if (window->count == WINDOW_SPANS)
			return false;
		span = &window->spans[window->count++];
		*span = (struct span){ .window = window, .address = extent->address };
	}
	memcpy(span->crc + span->count, extent->crc, extent->length * sizeof(extent->crc[0]));
	span->count += extent->length;
	return true;
}

static void spans_read(struct window *window)
{
	struct mirror *mirror = window->copies->meta->mirror;

	for (uint32_t i = 0; i < window->count; i++) {
		struct span *span = &window->spans[i];
		const void *late;

		span->doubtful = home_late(window->copies->meta, span->address, span->count, &late) < span->count ||
				 late;
		for (int leg = 0; leg < MIRROR_LEGS && !span->doubtful; leg++) {
			struct batch_io *io;

			if (!mirror_leg_insync(mirror, leg))
				continue;
			io = batch_next(window->batch, (size_t)span->count * FORMAT_BLOCK, true);
			io->context = span;
			io->io.op = MIRROR_READ;
			io->io.flags = io_only(leg);
			io->io.block = span->address;
			io->io.count = span->count;
			window->reading++;
			batch_submit(window->batch, io);
		}
	}
}

/*
 * File data from *address on, as much as is looked at in one go, is being read: then *address is behind it. -ENOENT:
 * that was the last.
 */
static int window_begin(struct window *window, uint64_t *address, uint64_t blocks)
{
	struct meta *meta = window->copies->meta;
	struct map_extent extent;
	uint64_t object;
	int error = 0;

	window->pin = mirror_pin(meta->mirror);
	window->count = 0;
	window->blocks = 0;
	while (window->blocks < blocks && !error) {
		error = extent_next(meta, address, &object, &extent);
		if (error || !span_add(window, &extent))
			break;
		window->blocks += extent.length;
		*address += extent.length;
	}
	window->position = *address;
	(void)home_bring_all(meta); /* what is not home then is doubtful */
	spans_read(window);
	return error;
}

/* Sound copies, as nearly all are, are told by reading alone. True: some were not. */
static bool window_end(struct window *window, unsigned char *scratch)
{
	bool found = false;

	if (!window->pin)
		return false;
	while (window->reading)
		batch_wait(window->batch);
	mirror_pin_put(window->pin);
	window->pin = NULL;
	for (uint32_t i = 0; i < window->count; i++) {
		const struct span *span = &window->spans[i];

		if (!span->doubtful)
			continue;
		/* To look again takes buffers. */
		while (!found && window->batch->in_flight)
			batch_wait(window->batch);
		found = true;
		extents_check(window->copies, span->address, span->address + span->count, scratch);
	}
	window->copies->done += window->blocks;
	window->copies->scrub->position = window->position;
	return found;
}

/* One window is read while the next one is looked up, unless others are at work or something is found. */
static int scrub_windows(struct copies *copies, struct window *windows, unsigned char *scratch)
{
	struct meta_scrub *scrub = copies->scrub;
	uint64_t next = scrub->position;
	unsigned int turn = 0;
	int error = 0;

	for (; !error; turn = !turn) {
		bool alone = scrub->gently;

		error = window_begin(&windows[turn], &next, alone ? GENTLE_BLOCKS : WINDOW_BLOCKS);
		alone |= window_end(&windows[!turn], scratch);
		if (alone || error)
			window_end(&windows[turn], scratch);
		if (!error && !go_on(copies))
			error = -EINTR;
	}
	window_end(&windows[!turn], scratch);
	return error == -ENOENT ? 0 : error;
}

static int scrub_data(struct copies *copies, unsigned char *scratch)
{
	struct window *windows = calloc(2, sizeof(*windows));
	struct batch *batch = malloc(sizeof(*batch));
	int error = windows && batch ? 0 : -ENOMEM;

	if (copies->scrub->position < copies->meta->boundary)
		copies->scrub->position = copies->meta->boundary;
	if (!error) {
		windows[0].copies = windows[1].copies = copies;
		windows[0].batch = windows[1].batch = batch;
		batch_begin(batch, copies->meta->mirror, span_read);
		error = scrub_windows(copies, windows, scratch);
		batch_end(batch);
	}
	free(batch);
	free(windows);
	return error;
}

/* ---- all of it ---- */

static int scrub_nodes(struct copies *copies, unsigned char *scratch)
{
	struct meta *meta = copies->meta;
	unsigned int height;
	int error = 0;

	super_scrub(meta, copies->scrub);
	rwlock_read(&meta->tree_lock);
	height = meta->root.level + 1;
	rwlock_unlock(&meta->tree_lock);
	for (unsigned int level = height; level > 0 && !error; level--)
		error = scrub_level(copies, level - 1, scratch);
	return error;
}

static int scrub_run(struct copies *copies, unsigned char *scratch)
{
	struct meta *meta = copies->meta;
	struct meta_scrub *scrub = copies->scrub;
	uint64_t nodes = alloc_node_blocks(meta);
	int error = 0;

	rwlock_read(&meta->tree_lock);
	copies->total = nodes + (scrub->metadata_only ? 0 : (uint64_t)meta->data_blocks);
	rwlock_unlock(&meta->tree_lock);
	copies->done = scrub->position ? scrub->done : 0;
	if (!scrub->position)
		error = scrub_nodes(copies, scratch);
	if (!error && !scrub->metadata_only)
		error = scrub_data(copies, scratch);
	scrub->done = copies->done;
	if (copies->repaired && (!error || error == -EINTR) && io_flush(meta->mirror))
		error = -EIO;
	if (!error)
		scrub->position = 0;
	return error;
}

int meta_scrub(struct meta *meta, struct meta_scrub *scrub)
{
	struct copies *copies;
	unsigned char *scratch;
	int error = meta->options.read_only || meta_writable(meta) ? 0 : meta_checkpoint(meta);

	if (error)
		return error;
	if (!scrub->position)
		scrub->blocks = scrub->repaired = scrub->unrecoverable = scrub->done = 0;
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
