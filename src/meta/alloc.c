/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Space: who may have it, and when it may be had again.
 *
 * The heap is two ranges: below the boundary lie nodes and nothing else, above it file data, and chunks of nodes when
 * all but the reserve below is taken (chunk.c). The last half of the reserve is for what deletes, and for the mapping
 * of data whose room was promised: so however fragmented a full volume is, there are whole nodes left for the deletions
 * that make room again. Nodes are taken before a transaction is applied, as many as it may come to need: applying
 * cannot fail for space.
 *
 * Allocation is made durable by the tree: data by its TYPE_ALLOC items, nodes by being found in it. At mount the ranges
 * are filled from there.
 *
 * Freed space is reused only when nothing can refer to it (I9): the checkpoint without it is durable on every in-sync
 * leg; then it waits, deferred under a pin stamp, for every read and repair that began before, and for its discard. So
 * the ring never names a block twice, and what the last checkpoint refers to is whole until the next one.
 */
#include "meta_private.h"
#include "mirrorfs/base/array.h"
#include "mirrorfs/base/clock.h"
#include "mirrorfs/base/log.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define RELEASE_PATIENCE_NS NSEC_PER_SEC
#define RELEASE_STEP_NS NSEC_PER_MSEC
#define BLIND_BLOCKS (UINT64_C(1) << 40) /* for nodes that are never written */

int meta_list_add(struct meta_list *list, uint64_t value)
{
	int error = ARRAY_GROW(list->at, list->room, list->count, 64);

	if (!error)
		list->at[list->count++] = value;
	return error;
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

void meta_list_sort(struct meta_list *list)
{
	if (list->count)
		qsort(list->at, list->count, sizeof(*list->at), by_value);
}

int meta_extents_add(struct meta_extents *list, uint64_t start, uint64_t length)
{
	int error = ARRAY_GROW(list->at, list->room, list->count, 8);

	if (!error)
		list->at[list->count++] = (struct range_extent){ start, length };
	return error;
}

/* Above the boundary everything is taken from the nodes' view, until a chunk is given to them. */
static int node_reserve(struct meta *meta, uint64_t address)
{
	int error;

	if (address < meta->boundary)
		return range_reserve(meta->node_range, address, NODE_BLOCKS);
	meta->chunk_blocks += NODE_BLOCKS;
	if (!meta->options.checking)
		return range_reserve(meta->data_range, address, NODE_BLOCKS);
	error = meta_list_add(&meta->high_nodes, address);
	return error ? error : alloc_reserve_tail(meta, address, NODE_BLOCKS);
}

static int reserve_nodes(struct meta *meta, unsigned int level)
{
	struct node_bounds bounds = { .endless = false };

	while (!bounds.endless) {
		struct format_pointer pointer;
		int error = tree_pointer(meta, level, &bounds.end, &pointer, &bounds);
		uint64_t address = le64_get(pointer.address);

		if (error)
			return error;
		if (address < meta->heap_start || address > meta->heap_end - NODE_BLOCKS || address % NODE_BLOCKS)
			return -EIO;
		error = node_reserve(meta, address);
		if (error)
			return error == -ENOMEM ? error : -EIO;
	}
	return 0;
}

bool meta_is_tree(const struct meta *meta, uint64_t block)
{
	size_t low = 0, high = meta->high_nodes.count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (meta->high_nodes.at[middle] + NODE_BLOCKS <= block)
			low = middle + 1;
		else
			high = middle;
	}
	return low < meta->high_nodes.count && meta->high_nodes.at[low] <= block;
}

bool meta_alloc_valid(const struct meta *meta, const struct meta_key *key, const void *value, size_t length)
{
	struct format_alloc alloc;
	uint32_t blocks;

	if (length != sizeof(alloc))
		return false;
	memcpy(&alloc, value, sizeof(alloc));
	blocks = le32_get(alloc.length);
	return key->offset >= meta->boundary && blocks && blocks <= EXTENT_BLOCKS_MAX &&
	       key->offset <= meta->heap_end - blocks;
}

/*
 * The records come in ascending order, so what lies between them is free: a range in which all is taken gets the gaps
 * one behind the other, which costs less than to cut the taken out of one large gap.
 */
static int load_data(struct meta *meta, const struct meta_key *key, const void *value, size_t length)
{
	struct format_alloc alloc;
	uint64_t end;
	int error = 0;

	if (!meta_alloc_valid(meta, key, value, length))
		return meta->options.checking ? 0 : -EIO;
	memcpy(&alloc, value, sizeof(alloc));
	end = key->offset + le32_get(alloc.length);
	meta->data_blocks += le32_get(alloc.length);
	if (key->offset < meta->loaded && !meta->options.checking)
		return -EIO;
	if (key->offset > meta->loaded)
		error = range_free(meta->data_range, meta->loaded, key->offset - meta->loaded);
	if (end > meta->loaded)
		meta->loaded = end;
	return error;
}

static int load_all_data(struct meta *meta)
{
	const struct meta_key first = { OBJECT_VOLUME, TYPE_ALLOC, 0 };
	const struct meta_key last = { OBJECT_VOLUME, TYPE_ALLOC, UINT64_MAX };
	int error = 0;

	meta->data_blocks = 0;
	meta->loaded = meta->boundary;
	if (meta->boundary == meta->heap_end)
		return 0;
	error = range_reserve(meta->data_range, meta->boundary, meta->heap_end - meta->boundary);
	if (!error)
		error = tree_scan(meta, &first, &last, load_data);
	if (!error && meta->loaded < meta->heap_end)
		error = range_free(meta->data_range, meta->loaded, meta->heap_end - meta->loaded);
	return error;
}

/* For a check: no node is put on what a file refers to, even if no record says that it is taken. */
static int reserve_mapped(struct meta *meta, const struct meta_key *key, const void *value, size_t length)
{
	struct format_extent extent;

	if (key->type != TYPE_EXTENT || !meta_extent_valid(meta, key, value, length))
		return 0;
	memcpy(&extent, value, sizeof(extent));
	return alloc_reserve_tail(meta, le64_get(extent.address), le32_get(extent.length));
}

int alloc_open(struct meta *meta)
{
	const struct meta_key files = { OBJECT_ROOT, 0, 0 }, end = { UINT64_MAX, UINT8_MAX, UINT64_MAX };
	struct range_config nodes = {
		.start = meta->heap_start,
		.length = meta->heap_end - meta->heap_start,
		.boundary = meta->boundary,
		.magazine_length = NODE_BLOCKS,
		.magazine_align = NODE_BLOCKS,
	};
	struct range_config data = {
		.start = meta->boundary,
		.length = meta->heap_end - meta->boundary,
		.boundary = meta->boundary,
	};
	int error = 0;

	alloc_close(meta);
	meta->node_range = range_create(&nodes);
	meta->data_range = range_create(&data);
	if (!meta->node_range || !meta->data_range)
		return -ENOMEM;
	meta->chunk_blocks = meta->chunks.count = meta->high_nodes.count = 0;
	if (meta->boundary < meta->heap_end)
		error = range_reserve(meta->node_range, meta->boundary, meta->heap_end - meta->boundary);
	if (!error)
		error = load_all_data(meta);
	for (unsigned int level = meta->root.level + 1; !error && level > 0; level--)
		error = reserve_nodes(meta, level - 1);
	meta_list_sort(&meta->high_nodes);
	if (!error && meta->options.checking) {
		error = tree_scan(meta, &files, &end, reserve_mapped);
		if (error == -EIO) { /* all that is recorded is reserved */
			meta->damage = "a leaf of the tree cannot be read on any leg";
			error = 0;
		}
	}
	return error;
}

/* Fragmented space takes memory, 16 to 49 bytes a gap. Called by one thread at a time. */
void alloc_charge(struct meta *meta)
{
	struct range *ranges[] = { meta->node_range, meta->data_range };
	struct range_stats stats;
	size_t bytes = 0;

	for (int i = 0; i < 2; i++) {
		if (!ranges[i])
			continue;
		range_stats(ranges[i], &stats);
		bytes += stats.memory_bytes;
	}
	if (bytes != meta->charged)
		cache_charge(meta->cache, (ssize_t)bytes - (ssize_t)meta->charged);
	meta->charged = bytes;
}

int alloc_open_blind(struct meta *meta)
{
	struct range_config nodes = {
		.start = meta->heap_end,
		.length = BLIND_BLOCKS,
		.boundary = meta->heap_end + BLIND_BLOCKS,
	};
	struct range_config data = {
		.start = meta->boundary,
		.length = meta->heap_end - meta->boundary,
		.boundary = meta->boundary,
	};

	alloc_close(meta);
	meta->blind = true;
	meta->node_range = range_create(&nodes);
	meta->data_range = range_create(&data);
	if (!meta->node_range || !meta->data_range)
		return -ENOMEM;
	meta->chunk_blocks = meta->chunks.count = 0;
	meta->data_blocks = (int64_t)le64_get(meta->super.data_blocks);
	return data.length ? range_reserve(meta->data_range, data.start, data.length) : 0;
}

void alloc_close(struct meta *meta)
{
	if (meta->node_range)
		range_destroy(meta->node_range);
	if (meta->data_range)
		range_destroy(meta->data_range);
	meta->node_range = meta->data_range = NULL;
	alloc_charge(meta);
}

/* A record of the ring names this extent: no node may be put there while it is replayed. */
int alloc_reserve_tail(struct meta *meta, uint64_t start, uint64_t length)
{
	int error;

	if (start < meta->boundary || length > meta->heap_end - meta->boundary || start > meta->heap_end - length)
		return -EIO;
	error = length ? range_reserve(meta->data_range, start, length) : 0;
	if (error != -EEXIST || range_is_taken(meta->data_range, start, length))
		return error == -EEXIST ? 0 : error;
	for (uint64_t block = start; block < start + length; block++) {
		error = range_reserve(meta->data_range, block, 1);
		if (error && error != -EEXIST)
			return error;
	}
	return 0;
}

/*
 * One node. From below the boundary and the chunks as long as more than the reserve is free there; then from a new
 * chunk; the reserve last, down to `keep` blocks.
 */
static int take_node(struct meta *meta, uint64_t keep, uint64_t *address)
{
	const struct range_request request = {
		.at_least = NODE_BLOCKS,
		.at_most = NODE_BLOCKS,
		.align = NODE_BLOCKS,
		.zone = RANGE_LOW,
	};
	struct range_extent got;
	int error;

	if (range_free_count(meta->node_range) < meta->reserve + NODE_BLOCKS && !chunk_take(meta) &&
	    range_free_count(meta->node_range) < keep + NODE_BLOCKS)
		return -ENOSPC;
	error = range_alloc(meta->node_range, &request, &got);
	if (!error)
		*address = got.start;
	return error;
}

int alloc_spare(struct meta *meta, size_t count, uint64_t keep)
{
	int error = 0;

	while (!error && meta->spare.count < count) {
		uint64_t address;

		error = take_node(meta, keep, &address);
		if (!error)
			error = meta_list_add(&meta->spare, address);
	}
	return error;
}

void alloc_spare_trim(struct meta *meta, size_t most)
{
	while (meta->spare.count > most) {
		uint64_t address = meta->spare.at[--meta->spare.count];

		if (range_free(meta->node_range, address, NODE_BLOCKS)) {
			meta->spare.count++; /* no memory: it stays one */
			return;
		}
	}
}

int alloc_node(struct meta *meta, uint64_t *address)
{
	if (!meta->spare.count)
		return take_node(meta, 0, address); /* while the ring is replayed */
	*address = meta->spare.at[--meta->spare.count];
	return 0;
}

/* ---- freed space on its way back ---- */

void alloc_defer(struct meta *meta, struct range *range, const struct meta_extents *freed)
{
	uint64_t stamp;

	mutex_lock(&meta->alloc_lock);
	stamp = mirror_pin_stamp(meta->mirror);
	for (size_t i = 0; i < freed->count; i++) {
		const struct range_extent *extent = &freed->at[i];

		/* Without memory it stays taken until the next mount: room is lost for a while, never data. */
		if (range_defer(range, extent->start, extent->length, stamp))
			log_warn("out of memory: freed space is lost until the next mount blocks=%llu",
				 (unsigned long long)extent->length);
	}
	mutex_unlock(&meta->alloc_lock);
}

struct release {
	struct meta *meta;
	struct range *range;
};

/* True: the range may be had again. */
static bool release(void *context, uint64_t start, uint64_t length)
{
	const struct release *release = context;
	struct meta_extents again = { .at = &(struct range_extent){ start, length }, .count = 1 };

	if (!release->meta->options.discard || trim_discard(release->meta, start, length))
		return true;
	alloc_defer(release->meta, release->range, &again);
	return false;
}

void alloc_release(struct meta *meta)
{
	uint64_t passed = mirror_pins_passed(meta->mirror);

	range_release(meta->node_range, passed, release, &(struct release){ meta, meta->node_range });
	range_release(meta->data_range, passed, release, &(struct release){ meta, meta->data_range });
	chunk_return(meta);
}

void alloc_release_patiently(struct meta *meta)
{
	uint64_t now = clock_now_ns(), until = now + RELEASE_PATIENCE_NS;
	struct range_stats nodes, data;
	struct cond never;

	cond_init(&never);
	for (;;) {
		alloc_release(meta);
		range_stats(meta->node_range, &nodes);
		range_stats(meta->data_range, &data);
		now = clock_now_ns();
		if (!(nodes.deferred + data.deferred + atomic_load(&meta->trimming)) || now >= until)
			break;
		mutex_lock(&meta->alloc_lock);
		cond_wait_until(&never, &meta->alloc_lock, now + RELEASE_STEP_NS);
		mutex_unlock(&meta->alloc_lock);
	}
	cond_fini(&never);
}

/* ---- promises ---- */

/*
 * Blocks that file data may still take, if so many are free. To map it takes nodes: where there are none but those kept
 * for what deletes, and no chunk for more, there is no room for data either.
 */
uint64_t alloc_available(struct meta *meta, uint64_t free)
{
	uint64_t nodes = range_free_count(meta->node_range);
	uint64_t needed = meta->reserve * 3 / 4 + meta->promised / 16, held = meta->promised + CUT_BLOCKS;

	if (nodes < meta->reserve * 3 / 4)
		return 0;
	if (nodes < needed)
		held += needed - nodes;
	return free > held ? free - held : 0;
}

uint64_t alloc_node_blocks(struct meta *meta)
{
	if (meta->blind)
		return 0;
	return meta->boundary - meta->heap_start + meta->chunk_blocks - range_free_count(meta->node_range);
}

static bool has_room(struct meta *meta, uint64_t blocks, bool cuts)
{
	uint64_t free = range_free_count(meta->data_range);

	return cuts ? free >= meta->promised + blocks : alloc_available(meta, free) >= blocks;
}

static int promise(struct meta *meta, uint64_t blocks, bool cuts)
{
	int error = meta_writable(meta);

	/* What was freed lately comes back with a checkpoint. */
	for (int try = 0; !error; try++) {
		mutex_lock(&meta->alloc_lock);
		if (has_room(meta, blocks, cuts)) {
			meta->promised += blocks;
			mutex_unlock(&meta->alloc_lock);
			return 0;
		}
		mutex_unlock(&meta->alloc_lock);
		error = try == 0 ? meta_checkpoint(meta) : -ENOSPC;
		if (!error) {
			alloc_release_patiently(meta);
			chunk_top_up(meta);
		}
	}
	return error;
}

int meta_promise(struct meta *meta, uint64_t blocks)
{
	return promise(meta, blocks, false);
}

int meta_promise_to_cut(struct meta *meta, uint64_t object, uint64_t offset)
{
	int shared = share_has(meta, object, offset);

	return shared < 0 ? shared : promise(meta, 1, !shared);
}

void meta_unpromise(struct meta *meta, uint64_t blocks)
{
	mutex_lock(&meta->alloc_lock);
	assert(meta->promised >= blocks);
	meta->promised -= blocks;
	mutex_unlock(&meta->alloc_lock);
}

int meta_alloc(struct meta_txn *txn, const struct meta_aim *aim, uint32_t blocks, struct range_extent *got)
{
	struct meta *meta = txn->meta;
	uint64_t most = blocks < EXTENT_BLOCKS_MAX ? blocks : EXTENT_BLOCKS_MAX;
	struct range_request request = {
		.at_least = aim->at_least < most ? aim->at_least : most,
		.at_most = most,
		.zone = RANGE_HIGH,
		.goal = aim->goal,
		.room = aim->room,
	};
	int error = range_alloc(meta->data_range, &request, got);

	if (error == -ENOSPC) {
		request.at_least = 1;
		error = range_alloc(meta->data_range, &request, got);
	}
	if (error == -ENOSPC) {
		alloc_release(meta);
		error = range_alloc(meta->data_range, &request, got);
	}
	if (error)
		return error;
	mutex_lock(&meta->alloc_lock);
	assert(meta->promised >= got->length);
	meta->promised -= got->length;
	if (!txn->cohort) {
		txn->cohort = meta->cohort;
		meta->cohort_open[txn->cohort & 1]++;
	}
	mutex_unlock(&meta->alloc_lock);
	error = meta_extents_add(&txn->taken, got->start, got->length);
	if (error) {
		range_free(meta->data_range, got->start, got->length);
		mutex_lock(&meta->alloc_lock);
		meta->promised += got->length;
		mutex_unlock(&meta->alloc_lock);
	}
	return error;
}

/* ---- transactions that have taken blocks ---- */

void alloc_leave_cohort(struct meta_txn *txn)
{
	struct meta *meta = txn->meta;

	if (!txn->cohort)
		return;
	mutex_lock(&meta->alloc_lock);
	meta->cohort_open[txn->cohort & 1]--;
	cond_broadcast(&meta->cohort_moved);
	mutex_unlock(&meta->alloc_lock);
	txn->cohort = 0;
}

void alloc_wait_cohort(struct meta *meta)
{
	unsigned int before;

	mutex_lock(&meta->alloc_lock);
	before = meta->cohort++ & 1; /* the other parity's have ended: it was waited for the last time */
	while (meta->cohort_open[before])
		cond_wait(&meta->cohort_moved, &meta->alloc_lock);
	mutex_unlock(&meta->alloc_lock);
}

/* ---- writes of file data ---- */

static void write_done(struct mirror_io *io)
{
	struct meta_write *write = (struct meta_write *)io;
	struct mirror_pin *pin = write->pin;

	write->done(write);
	mirror_pin_put(pin);
}

static_assert(offsetof(struct meta_write, io) == 0, "write_done() finds the write by its io");

int meta_write(struct meta *meta, struct meta_write *write)
{
	int error = meta_writable(meta);

	if (error)
		return error;
	write->pin = mirror_pin(meta->mirror); /* blocks of a failed commit are not reused while this is in flight */
	write->io.op = MIRROR_WRITE;
	write->io.flags = 0;
	write->io.done = write_done;
	error = mirror_submit(meta->mirror, &write->io);
	if (error)
		mirror_pin_put(write->pin);
	return error;
}

void meta_statfs(struct meta *meta, struct meta_statfs *statfs)
{
	struct range_stats stats;
	uint64_t waiting;

	range_stats(meta->data_range, &stats);
	mutex_lock(&meta->alloc_lock);
	statfs->blocks = meta->heap_end - meta->boundary - meta->grown.length;
	waiting = stats.deferred + atomic_load(&meta->freed_blocks) + atomic_load(&meta->trimming);
	statfs->free = stats.free + waiting;
	statfs->available = alloc_available(meta, statfs->free);
	mutex_unlock(&meta->alloc_lock);
}
