/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A volume's life: made, opened, closed; the keeper, which sees to it that what was committed to memory is in the ring
 * in time and that the ring is emptied before it is full.
 *
 * Mount order: the newest slot valid on any in-sync leg; the ring, whose records are made equal on both legs; the slot
 * made equal; then a checkpoint under a new epoch, so that no record of an earlier mount can be taken for one of this;
 * only then is anything freed or written (I1, I2).
 */
#include "meta_private.h"
#include "mirrorfs/base/clock.h"
#include "mirrorfs/base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COMMIT_NS (5 * NSEC_PER_SEC)
#define SETTLE_COMMITS 8 /* so many times commit_ns without a change */
#define REPAIRS_NS (5 * NSEC_PER_SEC)

#define RING_MIN (8 * MIB_BLOCKS)
#define RING_MAX (64 * MIB_BLOCKS)
#define NODE_ZONE_MIN (8 * MIB_BLOCKS)
#define OBJECTS_LOST_MAX RING_MAX /* a transaction that makes one waits for at least a block of the ring */
#define SPACE_MIN (62 * MIB_BLOCKS) /* a leg of 64 MiB holds it */

/* ---- making ---- */

static uint64_t clamp(uint64_t value, uint64_t least, uint64_t most)
{
	return value < least ? least : value > most ? most : value;
}

/* A 64th of the heap holds the nodes of a volume full of middling files; more of them go where data goes. */
struct meta_geometry meta_geometry_of(uint64_t space)
{
	struct meta_geometry geometry = { .ring_blocks = clamp(space / 32, RING_MIN, RING_MAX) };
	uint64_t zone;

	geometry.heap_start = (SUPER_RING + geometry.ring_blocks + NODE_BLOCKS - 1) / NODE_BLOCKS * NODE_BLOCKS;
	geometry.heap_blocks = space - geometry.heap_start;
	zone = clamp(geometry.heap_blocks / 64, NODE_ZONE_MIN, UINT64_MAX) / NODE_BLOCKS * NODE_BLOCKS;
	geometry.boundary = geometry.heap_start + zone;
	geometry.allocated = clamp(zone, 0, ALLOCATED_MAX);
	return geometry;
}

uint64_t meta_fixed_start(const struct meta *meta)
{
	return meta->boundary - clamp(meta->boundary - meta->heap_start, 0, ALLOCATED_MAX);
}

uint64_t meta_minimum_blocks(void)
{
	return SPACE_MIN;
}

void meta_fixed_extents(uint64_t space_blocks, struct range_extent extents[META_FIXED_EXTENTS])
{
	struct meta_geometry geometry = meta_geometry_of(space_blocks);

	extents[0] = (struct range_extent){ 0, SUPER_RING + geometry.ring_blocks };
	/* Nodes are placed downwards from the boundary. */
	extents[1] = (struct range_extent){ geometry.boundary - geometry.allocated, geometry.allocated };
}

void meta_reserved_extents(const struct meta *meta, struct range_extent extents[META_RESERVED_EXTENTS])
{
	uint64_t fixed = meta_fixed_start(meta);

	extents[0] = (struct range_extent){ 0, meta->ring_start + meta->ring_blocks };
	extents[1] = (struct range_extent){ fixed, meta->boundary - fixed };
	extents[2] = meta->grown;
}

static void super_fill(struct format_super *super, uint64_t space, const uint8_t volume[16])
{
	struct meta_geometry geometry = meta_geometry_of(space);
	uint32_t nanoseconds;
	int64_t seconds;

	memset(super, 0, sizeof(*super));
	super->magic = le32_of(SUPER_MAGIC);
	memcpy(super->volume, volume, sizeof(super->volume));
	super->version = le32_of(FORMAT_VERSION);
	super->ring_start = le64_of(SUPER_RING);
	super->ring_blocks = le64_of(geometry.ring_blocks);
	super->heap_start = le64_of(geometry.heap_start);
	super->heap_blocks = le64_of(geometry.heap_blocks);
	super->boundary = le64_of(geometry.boundary);
	super->reserve_blocks = le64_of(geometry.allocated / 2); /* the other half is for nodes that stay */
	clock_wall(&seconds, &nanoseconds);
	super->made_seconds = le64_of((uint64_t)seconds);
	random_bytes(super->hash_key, sizeof(super->hash_key));
}

/* One leaf with the root directory in it, and no slot but the first one: an older volume's must not outlive this. */
static int format_tree(struct meta *meta, const struct format_inode *root, struct meta_root *at)
{
	static const unsigned char none[FORMAT_BLOCK];
	const struct meta_key key = { OBJECT_ROOT, TYPE_INODE, 0 };
	unsigned char node[NODE_BYTES];
	int error;

	*at = (struct meta_root){ .address = le64_get(meta->super.boundary) - NODE_BLOCKS, .generation = 1 };
	node_init(node, 0, meta->volume, at->address, at->generation);
	node_insert(node, 0, &key, root, sizeof(*root));
	at->crc = node_seal(node);
	error = io_write(meta->mirror, 0, at->address, node, sizeof(node));
	if (!error)
		error = io_write(meta->mirror, 0, SUPER_SLOT0, none, sizeof(none));
	return error ? error : io_flush(meta->mirror);
}

int meta_format(struct mirror *mirror, const struct format_inode *root, struct error *error)
{
	const struct meta_cut cut = { .generation = 1 };
	struct meta_root at;
	struct meta *meta;
	int result;

	if (mirror_blocks(mirror) < meta_minimum_blocks())
		return error_set(error, -ENOSPC, "too small for a volume: %llu MiB, at least %u are needed",
				 (unsigned long long)(mirror_blocks(mirror) / MIB_BLOCKS), SPACE_MIN / MIB_BLOCKS);
	meta = calloc(1, sizeof(*meta));
	if (!meta)
		return error_set(error, -ENOMEM, "out of memory");
	meta->mirror = mirror;
	memcpy(meta->volume, mirror_identity(mirror)->volume.bytes, sizeof(meta->volume));
	super_fill(&meta->super, mirror_blocks(mirror), meta->volume);
	meta->epoch = random_u64() >> 1;
	meta->closing = true;
	atomic_init(&meta->next_object, OBJECT_ROOT + 1);
	result = format_tree(meta, root, &at);
	if (!result)
		result = super_write(meta, &at, &cut);
	free(meta);
	return result ? error_set(error, result, "cannot write the new volume: %s", strerror(-result)) : 0;
}

/* ---- may it write? ---- */

int meta_fail(struct meta *meta, int error)
{
	int none = 0;

	char why[128];

	if (!atomic_compare_exchange_strong(&meta->failed, &none, error))
		return error;
	snprintf(why, sizeof(why), "the journal or a checkpoint cannot be written: %s", strerror(-error));
	mirror_fail(meta->mirror, why);
	log_error("what was not yet synced is lost at unmount: %s", strerror(-error));
	return error;
}

int meta_writable(struct meta *meta)
{
	return meta->options.read_only || atomic_load(&meta->failed) || mirror_failed(meta->mirror) ? -EROFS : 0;
}

/* ---- the keeper ---- */

void meta_kick(struct meta *meta, const struct meta_due *due)
{
	uint_fast64_t none = 0;
	bool first = atomic_compare_exchange_strong(&meta->first_change_ns, &none, clock_now_ns());

	if (!first && !due->records && !due->checkpoint && !due->homes)
		return;
	mutex_lock(&meta->keeper_lock);
	meta->want_records |= due->records;
	meta->want_checkpoint |= due->checkpoint;
	meta->want_homes |= due->homes;
	cond_signal(&meta->keeper_wake);
	mutex_unlock(&meta->keeper_lock);
}

/* A checkpoint may give room back: of what was deleted, or of the nodes that told of it. */
static bool has_to_settle(struct meta *meta)
{
	bool chunks;

	mutex_lock(&meta->alloc_lock);
	chunks = meta->chunk_blocks;
	mutex_unlock(&meta->alloc_lock);
	return chunks || atomic_load(&meta->freed_blocks);
}

/*
 * What is due now. Returns with the lock held, as called. Whoever has deleted a lot and then does nothing sees the
 * space of it all the same: when it has been quiet for a while there is a checkpoint.
 */
static void keeper_turn(struct meta *meta)
{
	uint64_t since = atomic_load(&meta->first_change_ns);
	bool settles;

	if (meta->want_checkpoint) {
		meta->want_checkpoint = false;
		mutex_unlock(&meta->keeper_lock);
		(void)meta_checkpoint(meta); /* a failure is latched, whoever commits next is told */
		mutex_lock(&meta->keeper_lock);
	} else if (meta->want_records) {
		meta->want_records = false;
		mutex_unlock(&meta->keeper_lock);
		(void)meta_sync(meta, meta_sequence(meta));
		mutex_lock(&meta->keeper_lock);
	} else if (meta->want_homes) {
		meta->want_homes = false;
		mutex_unlock(&meta->keeper_lock);
		(void)home_bring_all(meta);
		mutex_lock(&meta->keeper_lock);
	} else if (!since && clock_now_ns() < meta->settle_ns) {
		cond_wait_until(&meta->keeper_wake, &meta->keeper_lock, meta->settle_ns);
	} else if (!since) {
		meta->settle_ns = CLOCK_NEVER;
		meta->want_checkpoint = true;
	} else if (clock_now_ns() < since + meta->options.commit_ns) {
		cond_wait_until(&meta->keeper_wake, &meta->keeper_lock, since + meta->options.commit_ns);
	} else {
		atomic_store(&meta->first_change_ns, 0);
		mutex_unlock(&meta->keeper_lock);
		(void)meta_sync(meta, meta_sequence(meta));
		(void)home_bring_all(meta);
		settles = has_to_settle(meta);
		mutex_lock(&meta->keeper_lock);
		meta->settle_ns = settles ? clock_now_ns() + SETTLE_COMMITS * meta->options.commit_ns : CLOCK_NEVER;
	}
}

static void keeper(void *arg)
{
	struct meta *meta = arg;

	mutex_lock(&meta->keeper_lock);
	while (!meta->stop)
		keeper_turn(meta);
	mutex_unlock(&meta->keeper_lock);
}

static void keeper_stop(struct meta *meta)
{
	if (!meta->keeper_runs)
		return;
	mutex_lock(&meta->keeper_lock);
	meta->stop = true;
	cond_signal(&meta->keeper_wake);
	mutex_unlock(&meta->keeper_lock);
	thread_join(&meta->keeper);
}

/* ---- opening ---- */

static void nodes_pressure(struct cache_space *space)
{
	(void)meta_checkpoint(space->context);
}

static const struct cache_space_ops nodes_ops = { .pressure = nodes_pressure };

static void locks_init(struct meta *meta)
{
	rwlock_init(&meta->tree_lock, RANK_META_TREE);
	mutex_init(&meta->share_lock, RANK_META_SHARE);
	mutex_init(&meta->checkpoint_lock, RANK_META_CHECKPOINT);
	mutex_init(&meta->journal_lock, RANK_META_JOURNAL);
	cond_init(&meta->journal_moved);
	cond_init(&meta->progressed);
	mutex_init(&meta->alloc_lock, RANK_META_ALLOC);
	meta->cohort = 2; /* 0: a transaction is in none */
	cond_init(&meta->cohort_moved);
	mutex_init(&meta->homes.lock, RANK_META_ALLOC);
	cond_init(&meta->homes.moved);
	mutex_init(&meta->keeper_lock, RANK_META_ALLOC);
	cond_init(&meta->keeper_wake);
	STAILQ_INIT(&meta->pending);
}

static void locks_fini(struct meta *meta)
{
	cond_fini(&meta->keeper_wake);
	mutex_fini(&meta->keeper_lock);
	cond_fini(&meta->homes.moved);
	mutex_fini(&meta->homes.lock);
	cond_fini(&meta->cohort_moved);
	mutex_fini(&meta->alloc_lock);
	cond_fini(&meta->progressed);
	cond_fini(&meta->journal_moved);
	mutex_fini(&meta->journal_lock);
	mutex_fini(&meta->checkpoint_lock);
	mutex_fini(&meta->share_lock);
	rwlock_fini(&meta->tree_lock);
}

void meta_free(struct meta *meta)
{
	struct meta_chunk *chunk;

	while ((chunk = STAILQ_FIRST(&meta->pending))) {
		STAILQ_REMOVE_HEAD(&meta->pending, link);
		journal_chunk_free(chunk);
	}
	finger_drop_all(meta);
	cache_put(meta->root_page);
	cache_space_fini(&meta->nodes);
	alloc_close(meta);
	replay_close(meta);
	home_close(meta);
	free(meta->dirty.at);
	free(meta->freed_nodes.at);
	free(meta->freed_data.at);
	free(meta->chunks.at);
	free(meta->high_nodes.at);
	free(meta->spare.at);
	histograms_destroy(meta->times);
	locks_fini(meta);
	free(meta);
}

/* From here on records are of this mount. */
static int epoch_begin(struct meta *meta)
{
	int error = super_equalise(meta);

	if (!error)
		error = io_flush(meta->mirror);
	if (error)
		return error;
	meta->epoch++;
	/* Numbers that a crash has lost may be remembered outside. No more can have waited for the ring at a time. */
	if (!meta->unmounted)
		atomic_fetch_add(&meta->next_object, OBJECTS_LOST_MAX);
	meta->last_cut = (struct meta_cut){ .record = meta->record, .crc = meta->record_crc, .position = meta->head };
	meta->cut[0].generation = meta->cut[1].generation = 0;
	return checkpoint_run(meta);
}

/*
 * What the ranges hold back for repairs of what this mount has read would be forgotten if they were made anew. A leg
 * that hangs may keep such a repair: then what the tail named stays taken until the next mount.
 */
static bool repairs_ended(struct meta *meta)
{
	uint64_t stamp = mirror_pin_stamp(meta->mirror), until = clock_now_ns() + REPAIRS_NS;

	while (mirror_pins_passed(meta->mirror) < stamp && clock_now_ns() < until) {
		mutex_lock(&meta->keeper_lock);
		cond_wait_until(&meta->keeper_wake, &meta->keeper_lock, clock_now_ns() + NSEC_PER_MSEC);
		mutex_unlock(&meta->keeper_lock);
	}
	return mirror_pins_passed(meta->mirror) >= stamp;
}

/*
 * The newest slot may be on one leg alone, but not before the one before it was durable on every leg in sync. Only for
 * a leg that went missing does that say something new, and the next checkpoint overwrites it.
 */
static void tell_known(struct meta *meta)
{
	uint64_t known = 0;

	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		uint64_t generation = mirror_leg_insync(meta->mirror, leg) ?
					      super_generation(meta, leg, le64_get(meta->super.generation)) :
					      0;

		known = generation > known ? generation : known;
	}
	mirror_generation_known(meta->mirror, known);
}

static int open_tree(struct meta *meta, struct error *error)
{
	int result = alloc_open(meta);

	if (result == -EIO && meta->options.read_only) {
		meta->damage = "the tree is damaged or cannot be read on any leg";
		result = alloc_open_blind(meta);
	}
	if (result == -EIO)
		return error_set(error, result, "the tree is damaged or cannot be read on any leg");
	if (result)
		return error_set(error, result, "cannot read the tree: %s", strerror(-result));
	if (!meta->options.read_only)
		tell_known(meta);
	result = replay(meta, error);
	if (!result && !meta->options.read_only)
		result = epoch_begin(meta);
	/* What the ring's tail named was reserved as a whole, whatever became of it. */
	if (!result && atomic_load(&meta->replayed) && !meta->damage && repairs_ended(meta))
		result = alloc_open(meta);
	if (!result && !meta->options.read_only)
		result = chunk_gather(meta);
	alloc_charge(meta);
	return result ? error_set(error, result, "cannot open the volume: %s", strerror(-result)) : 0;
}

/*
 * Until a checkpoint, a node that was changed takes its old place and a new one: so no more of them than a small part
 * of the volume, or of the reserve, whatever memory there is.
 */
static size_t dirty_limit(const struct meta *meta, size_t cache_bytes)
{
	uint64_t room = (meta->heap_end - meta->heap_start) / 32;

	if (room < meta->reserve / 2)
		room = meta->reserve / 2;
	return cache_bytes / 8 < room * FORMAT_BLOCK ? cache_bytes / 8 : room * FORMAT_BLOCK;
}

static int super_admit(struct mirror *mirror, bool read_only, struct format_super *super, struct error *error)
{
	int result = super_read(mirror, super, error);
	uint64_t unknown = result ? 0 : le64_get(super->ro_compat) & ~(uint64_t)SUPER_RO_KNOWN;

	if (read_only || !unknown)
		return result;
	return error_set(error, -EPROTONOSUPPORT,
			 "the volume uses features that this mirrorfs only reads (ro_compat 0x%llx): mount with -o ro",
			 (unsigned long long)unknown);
}

int meta_admit(struct mirror *mirror, bool read_only, struct error *error)
{
	struct format_super super;

	return super_admit(mirror, read_only, &super, error);
}

int meta_new(struct mirror *mirror, struct cache *cache, const struct meta_options *options, struct meta **made,
	     struct error *error)
{
	struct cache_stats stats;
	struct format_super super;
	int result = super_admit(mirror, options->read_only, &super, error);
	struct meta *meta;

	if (result)
		return result;
	meta = calloc(1, sizeof(*meta));
	if (!meta)
		return error_set(error, -ENOMEM, "out of memory");
	meta->mirror = mirror;
	meta->cache = cache;
	meta->options = *options;
	if (!meta->options.commit_ns)
		meta->options.commit_ns = COMMIT_NS;
	meta->settle_ns = CLOCK_NEVER;
	memcpy(meta->volume, mirror_identity(mirror)->volume.bytes, sizeof(meta->volume));
	super_adopt(meta, &super);
	cache_stats(cache, &stats);
	meta->dirty_limit = dirty_limit(meta, stats.budget_bytes);
	meta->times = histograms_create(META_TIMES);
	result = meta->times ? cache_space_init(cache, &meta->nodes, CACHE_NODES, NODE_BYTES, &nodes_ops, meta) :
			       -ENOMEM;
	if (result) {
		histograms_destroy(meta->times);
		free(meta);
		return error_set(error, result, "out of memory");
	}
	locks_init(meta);
	*made = meta;
	return 0;
}

int meta_open(struct mirror *mirror, struct cache *cache, const struct meta_options *options, struct meta **opened,
	      struct error *error)
{
	struct meta *meta;
	int result = meta_new(mirror, cache, options, &meta, error);

	if (result)
		return result;
	result = options->read_only ? 0 : home_open(meta);
	if (!result)
		result = open_tree(meta, error);
	else
		error_set(error, result, "out of memory");
	if (!result && !options->read_only) {
		result = thread_start(&meta->keeper, "journal", keeper, meta);
		meta->keeper_runs = !result;
	}
	if (result) {
		meta_free(meta);
		return error_set(error, result, "cannot start a thread");
	}
	if (!options->read_only && !options->checking)
		resync_serve(meta);
	*opened = meta;
	return 0;
}

int meta_close(struct meta *meta)
{
	int error;

	resync_stop(meta);
	keeper_stop(meta);
	meta->closing = true;
	error = atomic_load(&meta->failed);
	if (!meta_writable(meta))
		error = checkpoint_run(meta);
	/* What both slots of one leg have is on the other, too: all there is, should that be away at the next mount. */
	if (!error && !meta_writable(meta) && mirror_leg_insync(meta->mirror, 0) && mirror_leg_insync(meta->mirror, 1))
		error = checkpoint_run(meta);
	else if (!error && meta->durable != meta->committed) /* the mirror has stopped, and nobody committed since */
		error = -EROFS;
	/* A checkpoint that somebody short of memory asked for may still be failing. */
	mutex_lock(&meta->checkpoint_lock);
	mutex_unlock(&meta->checkpoint_lock);
	meta_free(meta);
	return error;
}

/* ---- reading the tree ---- */

ssize_t meta_get(struct meta *meta, const struct meta_key *key, void *value, size_t size)
{
	ssize_t result;

	rwlock_read(&meta->tree_lock);
	result = tree_get(meta, key, value, size);
	rwlock_unlock(&meta->tree_lock);
	return result;
}

ssize_t meta_next(struct meta *meta, struct meta_key *key, const struct meta_key *last, void *value, size_t size)
{
	ssize_t result;

	rwlock_read(&meta->tree_lock);
	result = tree_next(meta, key, last, value, size);
	rwlock_unlock(&meta->tree_lock);
	return result;
}

ssize_t meta_previous(struct meta *meta, struct meta_key *key, const struct meta_key *first, void *value, size_t size)
{
	ssize_t result;

	rwlock_read(&meta->tree_lock);
	result = tree_previous(meta, key, first, value, size);
	rwlock_unlock(&meta->tree_lock);
	return result;
}

/* ---- what it is like ---- */

const char *meta_damage(const struct meta *meta)
{
	return meta->damage;
}

struct mirror *meta_mirror(struct meta *meta)
{
	return meta->mirror;
}

void meta_super_info(struct meta *meta, struct meta_super_info *info)
{
	rwlock_read(&meta->tree_lock);
	*info = (struct meta_super_info){
		.generation = meta->generation,
		.epoch = meta->epoch,
		.data_blocks = (uint64_t)meta->data_blocks,
		.heap_blocks = meta->heap_end - meta->heap_start,
		.next_object = atomic_load(&meta->next_object),
	};
	memcpy(info->hash_key, meta->super.hash_key, sizeof(info->hash_key));
	info->sequence = meta_sequence(meta);
	rwlock_unlock(&meta->tree_lock);
}

void meta_let_go(struct meta *meta)
{
	rwlock_write(&meta->tree_lock);
	finger_drop_all(meta);
	cache_put(meta->root_page);
	meta->root_page = NULL;
	rwlock_unlock(&meta->tree_lock);
}

void meta_stats(struct meta *meta, struct meta_stats *stats)
{
	struct range_stats nodes;

	*stats = (struct meta_stats){
		.commits = atomic_load(&meta->commits),
		.waited = atomic_load(&meta->waited),
		.records = atomic_load(&meta->records),
		.checkpoints = atomic_load(&meta->checkpoints),
		.replayed = atomic_load(&meta->replayed),
		.ring_blocks = meta->ring_blocks,
		.cut_off = meta->cut_off,
	};
	rwlock_read(&meta->tree_lock);
	stats->dirty_nodes = meta->dirty.count;
	stats->tree_height = meta->root.level + 1;
	rwlock_unlock(&meta->tree_lock);
	mutex_lock(&meta->journal_lock);
	stats->ring_used_blocks = meta->ring_written - meta->ring_released;
	mutex_unlock(&meta->journal_lock);
	range_stats(meta->data_range, &stats->range);
	range_stats(meta->node_range, &nodes);
	stats->range.total = meta->heap_end - meta->heap_start;
	stats->range.free += nodes.free;
	stats->range.deferred += nodes.deferred;
}

void meta_times(struct meta *meta, enum meta_time what, struct histogram *histogram)
{
	histograms_read(meta->times, what, histogram);
}

struct free_map {
	uint64_t start, blocks; /* of the heap */
	uint32_t cells;
	uint64_t *free; /* blocks of each cell */
};

/* A range may lie in many cells. */
static bool free_map_add(void *context, uint64_t start, uint64_t length)
{
	struct free_map *map = context;
	uint64_t at = start - map->start, end = at + length;

	while (at < end) {
		uint64_t cell = at * map->cells / map->blocks;
		uint64_t next = ((cell + 1) * map->blocks + map->cells - 1) / map->cells;

		next = next < end ? next : end;
		map->free[cell] += next - at;
		at = next;
	}
	return true;
}

void meta_free_map(struct meta *meta, uint32_t *parts, uint32_t cells)
{
	struct free_map map = {
		.start = meta->heap_start, .blocks = meta->heap_end - meta->heap_start, .cells = cells
	};

	map.free = calloc(cells, sizeof(*map.free));
	if (!map.free)
		return;
	range_each_free(meta->data_range, free_map_add, &map);
	range_each_free(meta->node_range, free_map_add, &map);
	for (uint32_t i = 0; i < cells; i++) {
		uint64_t part = map.free[i] * 1000 * cells / map.blocks;

		parts[i] = part < 1000 ? (uint32_t)part : 1000;
	}
	free(map.free);
}
