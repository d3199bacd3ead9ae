/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of meta share. Locks, outer first: checkpoint_lock, tree_lock, journal_lock, alloc_lock.
 */
#ifndef MIRRORFS_META_PRIVATE_H
#define MIRRORFS_META_PRIVATE_H

#include "mirrorfs/base/sync.h"
#include "mirrorfs/format/journal.h"
#include "mirrorfs/meta.h"
#include "node_private.h"

#include <bsd/sys/queue.h>
#include <stdatomic.h>

/* Where the tree begins; crc is right for what is on the legs, and set for all of it by tree_seal(). */
struct meta_root {
	uint64_t address;
	uint64_t generation;
	uint32_t crc;
	unsigned int level;
};

/* Addresses, growing as needed. */
struct meta_list {
	uint64_t *at;
	size_t count, room;
};
int meta_list_add(struct meta_list *list, uint64_t value);

struct meta_extents {
	struct range_extent *at;
	size_t count, room;
};
int meta_extents_add(struct meta_extents *list, uint64_t start, uint64_t length);

/* The ring behind the last record of a generation. */
struct meta_cut {
	uint64_t generation;
	uint64_t record; /* its sequence: S */
	uint32_t crc;
	uint64_t position; /* where the next record goes */
	uint64_t written; /* blocks of the ring used up to there, since the mount */
};

/* One committed transaction on its way to the ring. */
struct meta_chunk {
	STAILQ_ENTRY(meta_chunk) link;
	uint64_t sequence;
	uint64_t generation;
	uint64_t next_object;
	unsigned char *updates;
	size_t bytes;
	unsigned int update_count;
	unsigned char *data;
	unsigned int data_count;
	bool flush; /* refers to data that lies outside the record: flush before it is written */
	struct meta_extents freed; /* free once this is durable */
};
STAILQ_HEAD(meta_chunks, meta_chunk);

struct meta_overlay;

struct meta_txn {
	struct meta *meta;
	struct meta_chunk *chunk;
	size_t room; /* of chunk->updates */
	struct meta_extents taken; /* allocated by meta_alloc */
	struct meta_overlay *overlay; /* extents that it has changed (map.c) */
	size_t overlay_count, overlay_room;
	bool deletes;
	int error;
};

struct meta {
	struct mirror *mirror;
	struct cache *cache;
	struct meta_options options;
	uint8_t volume[16];
	struct format_super super; /* the geometry; the rest as of the last checkpoint */
	uint64_t ring_start, ring_blocks, heap_end, heap_start, boundary, reserve;
	atomic_int failed; /* 0, or the error that stopped writing (I12) */

	struct rwlock tree_lock;
	struct cache_space nodes;
	struct meta_root root;
	uint64_t generation; /* of the checkpoint that will contain what happens now */
	struct meta_list dirty; /* nodes of this generation */
	struct meta_list freed; /* nodes that this generation no longer needs */
	int64_t data_blocks;
	atomic_uint_fast64_t next_object;

	struct mutex checkpoint_lock;

	struct mutex journal_lock;
	struct cond journal_moved;
	struct meta_chunks pending;
	uint64_t pending_blocks; /* ring space that they may take at worst */
	uint64_t committed; /* sequence of the last transaction applied */
	uint64_t durable; /* of the last one that is in the ring on both legs */
	bool writing; /* somebody writes records */
	uint64_t record; /* sequence of the last record written */
	uint32_t record_crc;
	uint64_t head; /* blocks from the ring's start: where the next record goes */
	uint64_t ring_written, ring_released; /* blocks since the mount; the difference is still needed */
	struct meta_cut cut[2]; /* by parity of the generation: no more than two are about at a time */
	uint64_t epoch;

	struct mutex alloc_lock;
	struct range *node_range, *data_range;
	uint64_t promised;
	uint64_t stamp; /* the last one that a range was deferred under */
	struct cond writes_moved;
	struct meta_write *first_write, *last_write; /* home writes in flight, oldest first */
	uint64_t write_order;

	struct thread keeper;
	bool keeper_runs;
	struct mutex keeper_lock;
	struct cond keeper_wake;
	bool stop, want_checkpoint;
	uint64_t first_change_ns; /* of what is not yet committed; 0: nothing */

	atomic_uint_fast64_t commits, records, checkpoints, replayed;
};

/* meta.c */
int meta_fail(struct meta *meta, int error); /* stops writing; returns `error` */
int meta_writable(struct meta *meta); /* 0, -EROFS */
void meta_kick(struct meta *meta, bool checkpoint);

/* super.c */
int super_check(const struct format_super *super, uint64_t address, const uint8_t volume[16], struct error *error);
int super_write(struct meta *meta, const struct meta_root *root, const struct meta_cut *cut);
int super_read(struct mirror *mirror, struct format_super *super, struct error *error);
int super_equalise(struct meta *meta);
void super_adopt(struct meta *meta, const struct format_super *super);

/* tree.c; the lock is the caller's, exclusive for the three that change */
int tree_load(struct meta *meta, uint64_t address, uint64_t generation, uint32_t crc, int level, struct cache_page **page);
int tree_root_load(struct meta *meta, struct cache_page **page);
ssize_t tree_get(struct meta *meta, const struct meta_key *key, void *value, size_t size);
ssize_t tree_next(struct meta *meta, struct meta_key *key, const struct meta_key *last, void *value, size_t size);
ssize_t tree_previous(struct meta *meta, struct meta_key *key, const struct meta_key *first, void *value, size_t size);
int tree_put(struct meta *meta, const struct meta_key *key, const void *value, size_t length);
int tree_delete(struct meta *meta, const struct meta_key *key); /* 0 also if it was not there */
int tree_seal(struct meta *meta);
int tree_create(struct meta *meta);
/* Visits every node from the root down; leaves only if `leaves`. Stops at an error. */
int tree_walk(struct meta *meta, bool leaves,
	      int (*visit)(struct meta *meta, const struct format_pointer *pointer, unsigned int level, void *context),
	      void *context);

/* journal.c */
int journal_write(struct meta *meta, uint64_t up_to); /* waits until durable >= up_to */
void journal_add(struct meta *meta, struct meta_chunk *chunk); /* journal_lock held */
void journal_chunk_free(struct meta_chunk *chunk);
bool journal_record_valid(const struct meta *meta, const void *record, uint64_t position, uint64_t sequence,
			  uint32_t previous_crc);
uint64_t journal_next_position(const struct meta *meta, uint64_t position, uint64_t blocks);

/* replay.c */
int replay(struct meta *meta, struct error *error);

/* checkpoint.c */
int checkpoint(struct meta *meta);

/* alloc.c */
int alloc_open(struct meta *meta); /* ranges from the tree */
void alloc_close(struct meta *meta);
int alloc_node(struct meta *meta, uint64_t *address);
void alloc_defer(struct meta *meta, uint64_t start, uint64_t length);
void alloc_release(struct meta *meta); /* frees what nothing can refer to any more; may wait for discards */
int alloc_reserve_tail(struct meta *meta, uint64_t start, uint64_t length);
void alloc_wait_writes(struct meta *meta, uint64_t up_to);
uint64_t alloc_write_order(struct meta *meta);

/* txn.c */
void txn_update(struct meta_txn *txn, enum format_update_kind kind, const struct meta_key *key, const void *value,
		size_t length);

/* map.c */
bool map_verify(const struct mirror_io *io, uint32_t unit, const void *data);
struct map_read { /* a read of mapped blocks with their checksums */
	struct mirror_io io;
	const uint32_t *crc;
};

#endif
