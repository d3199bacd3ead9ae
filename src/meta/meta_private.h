/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of meta share. Locks, outer first: share_lock, checkpoint_lock, tree_lock, journal_lock, alloc_lock.
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
void meta_list_sort(struct meta_list *list);

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
};
STAILQ_HEAD(meta_chunks, meta_chunk);

struct meta_overlay;
struct meta_record;
struct home;

/* Content of one block that rides, or rode, in the ring. */
struct meta_late {
	uint64_t address;
	const unsigned char *data;
};

struct meta_txn {
	struct meta *meta;
	struct meta_chunk *chunk;
	size_t room; /* of chunk->updates */
	struct meta_extents taken; /* allocated by meta_alloc */
	struct meta_extents freed; /* unmapped: free with the checkpoint that has it */
	unsigned int cohort; /* of transactions that took blocks, see alloc_wait_cohort() */
	unsigned int cuts; /* old extents that it may unmap, or has unmapped */
	struct {
		uint64_t object, from, to;
	} hole; /* blocks of a file that were found unmapped, and still are */
	struct meta_overlay *overlay; /* extents that it has changed (map.c) */
	size_t overlay_count, overlay_room;
	struct meta_txn_home {
		uint64_t address;
		unsigned char *data; /* of those that home_prepare() has found room for */
	} homes[META_TXN_DATA_BLOCKS]; /* blocks whose content is in the chunk */
	unsigned int home_count;
	bool deletes;
	bool shares; /* makes blocks shared: it is not to draw on what is kept for deletions */
	bool counts; /* holds share_lock */
	int error;
};

/* Blocks on their way home (home.c). */
struct meta_homes {
	struct mutex lock;
	struct cond moved;
	unsigned char *memory, **idle; /* blocks of it that are free */
	struct home *at; /* ascending by address */
	unsigned int room, idle_count, count;
	atomic_uint waiting; /* count, for who has no lock but the tree's */
	uint64_t order; /* of the last commit */
	bool busy; /* somebody brings `flying` home */
	struct meta_late *flying;
};

/* A leaf that is held in memory, and what its parents leave to it (finger.c). */
struct finger {
	struct cache_page *leaf; /* NULL: none, nor behind it */
	struct node_bounds bounds;
};
#define FINGERS 6

/* The walk over what a leg lacks (resync.c). */
struct meta_resync {
	bool serving; /* the mirror knows us */
	struct mirror_missing missing; /* what there is to copy, as of its beginning */
	unsigned int levels; /* of nodes, still to be gone through; 0: it is at the data */
	struct meta_key key; /* what comes next */
	bool endless; /* nothing comes next on this level */
	struct meta_key leaf_end; /* up to here a leaf is worth a look */
	uint32_t found; /* blocks of the last piece */
};

struct meta {
	struct mirror *mirror;
	struct cache *cache;
	struct meta_options options;
	uint8_t volume[16];
	struct format_super super; /* the geometry; the rest as of the last checkpoint */
	uint64_t ring_start, ring_blocks, heap_start, boundary;
	_Atomic uint64_t heap_end, reserve; /* a volume may grow */
	struct range_extent grown; /* for nodes, above the boundary, when that is so; under alloc_lock */
	bool unmounted; /* in order, the last time */
	bool closing;
	atomic_int failed; /* 0, or the error that stopped writing (I12) */
	uint64_t cut_off; /* records of the ring, see journal_cut_off(): for a check */
	const char *damage; /* of the tree, which is then only read; NULL: none */
	bool blind; /* who has what cannot be told: nodes that replay changes in memory lie beyond the heap */

	struct rwlock tree_lock;
	struct cache_space nodes;
	struct meta_root root;
	struct cache_page *root_page; /* held, once it was changed; else NULL */
	struct finger fingers[FINGERS]; /* the one used last comes first */
	uint64_t generation; /* of the checkpoint that will contain what happens now */
	size_t dirty_limit; /* bytes of nodes that wait for a checkpoint */
	struct meta_list dirty; /* nodes of this generation */
	struct meta_extents freed_nodes, freed_data; /* what this generation no longer needs */
	struct meta_list spare; /* addresses for nodes, taken ahead */
	atomic_uint_fast64_t freed_blocks; /* of freed_data, or on their way from there */
	uint64_t cut_sequence; /* last transaction of the generation before */
	int64_t data_blocks;
	atomic_uint_fast64_t next_object;
	atomic_uint_fast64_t features; /* bits of ro_compat that both slots have */

	struct mutex share_lock; /* records that transactions of more than one file may change (share.c) */

	struct mutex checkpoint_lock;
	/* How far the running checkpoint is, under journal_lock: writers are let on with it. */
	struct {
		bool under_way;
		size_t nodes, written;
		uint64_t moves; /* counts every change */
	} progress;
	struct cond progressed;

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
	struct meta_cut last_cut; /* of the last checkpoint on the legs */
	uint64_t epoch;

	struct mutex alloc_lock;
	struct range *node_range, *data_range;
	struct meta_list chunks; /* of nodes, above the boundary */
	uint64_t chunk_blocks; /* taken from data_range for nodes */
	struct meta_list high_nodes; /* for a check: those that were above the boundary when it began, ascending */
	uint64_t loaded; /* at mount: what lies below is in data_range */
	size_t charged; /* to the cache: the memory of both ranges */
	uint64_t promised;
	atomic_uint_fast64_t trimming; /* free, but taken while the legs are told so */
	unsigned int cohort, cohort_open[2]; /* transactions that took blocks and have not ended, by parity */
	struct cond cohort_moved;

	struct meta_homes homes;

	struct meta_resync resync; /* the resync thread's */

	/* Of a read-only mount: what replay would have brought home, ascending by address. */
	struct meta_late *late;
	size_t late_count;
	struct meta_record *late_records; /* hold the bytes */

	struct thread keeper;
	bool keeper_runs;
	struct mutex keeper_lock;
	struct cond keeper_wake;
	bool stop, want_checkpoint, want_records, want_homes;
	uint64_t settle_ns; /* when a checkpoint is due, if nothing changes until then; CLOCK_NEVER: none is */
	atomic_uint_fast64_t first_change_ns; /* of what is not yet committed; 0: nothing */

	atomic_uint_fast64_t commits, waited, records, checkpoints, replayed;
	struct histograms *times; /* by enum meta_time */
};

/* meta.c */
#define MIB_BLOCKS ((1u << 20) / FORMAT_BLOCK)
#define ALLOCATED_MAX (256 * MIB_BLOCKS)
struct meta_geometry {
	uint64_t ring_blocks, heap_start, heap_blocks, boundary;
	uint64_t allocated; /* below the boundary, also in a sparse image */
};
struct meta_geometry meta_geometry_of(uint64_t space); /* of a new volume */
uint64_t meta_fixed_start(const struct meta *meta); /* from there to the boundary mkfs allocated for real */
/* Everything but the tree: of the newest slot, as it is on the legs. */
int meta_new(struct mirror *mirror, struct cache *cache, const struct meta_options *options, struct meta **made,
	     struct error *error);
void meta_free(struct meta *meta); /* everything but the keeper */
int meta_fail(struct meta *meta, int error); /* stops writing; returns `error` */
int meta_writable(struct meta *meta); /* 0, -EROFS */
/* Something was committed to memory: the ring gets it in time, or now; or something else is due. */
struct meta_due {
	bool records, checkpoint, homes;
};
void meta_kick(struct meta *meta, const struct meta_due *due);

/* io.c; `size` is whole blocks, at most IOBUF_MAX */
unsigned int io_only(int leg); /* the flag */
int io_read(struct mirror *mirror, unsigned int flags, uint64_t block, void *bytes, size_t size);
int io_write(struct mirror *mirror, unsigned int flags, uint64_t block, const void *bytes, size_t size);
int io_flush(struct mirror *mirror);

/* super.c */
int super_write(struct meta *meta, const struct meta_root *root, const struct meta_cut *cut);
int super_read(struct mirror *mirror, struct format_super *super, struct error *error);
int super_equalise(struct meta *meta);
void super_scrub(struct meta *meta, struct meta_scrub *scrub);
/* The newest generation in the slots of a leg, in sync or not, that is below `below`; 0: none. */
uint64_t super_generation(struct meta *meta, int leg, uint64_t below);
void super_adopt(struct meta *meta, const struct format_super *super);

/* load.c; the tree's lock is the caller's. The caller puts the page; -EIO: no leg has it right. Errors: no page. */
extern const struct node_bounds load_everything; /* the root's, and so of all there is */
int load_root(struct meta *meta, struct cache_page **page);
/* `bounds`: the child's. */
/* The leaf where `key` belongs, if the way there is in memory: 0 or -EAGAIN. */
int load_leaf_now(struct meta *meta, const struct meta_key *key, struct cache_page **leaf);
int load_child(struct meta *meta, const struct cache_page *parent, unsigned int slot, const struct node_bounds *bounds,
	       struct cache_page **page);
struct format_pointer load_pointer(const void *node, unsigned int slot); /* of an internal node */

/* finger.c; the tree's lock is the caller's, exclusive for those that change */
const struct finger *finger_find(const struct meta *meta, const struct meta_key *key); /* NULL: none leads there */
struct cache_page *finger_use(struct meta *meta, const struct finger *finger); /* its leaf; it is the one used last */
void finger_keep(struct meta *meta, struct cache_page *leaf, const struct node_bounds *bounds);
void finger_drop(struct meta *meta, const struct cache_page *node); /* it is no longer where its keys belong */
void finger_drop_all(struct meta *meta);

/* tree.c; the lock is the caller's, exclusive for the three that change */
ssize_t tree_get(struct meta *meta, const struct meta_key *key, void *value, size_t size);
ssize_t tree_next(struct meta *meta, struct meta_key *key, const struct meta_key *last, void *value, size_t size);
/*
 * Loads what changing *key touches, and counts it: nodes on paths that differ from the one before of its kind, and
 * leaves among them.
 */
struct tree_touched {
	uint64_t last[2][NODE_LEVELS];
	size_t nodes, leaves;
};
int tree_touch(struct meta *meta, const struct meta_key *key, struct tree_touched *touched);
ssize_t tree_previous(struct meta *meta, struct meta_key *key, const struct meta_key *first, void *value, size_t size);
/* Every item from *first to *last, in order, until `visit` gives an error. `value` may be unaligned. */
int tree_scan(struct meta *meta, const struct meta_key *first, const struct meta_key *last,
	      int (*visit)(struct meta *meta, const struct meta_key *key, const void *value, size_t length));
int tree_put(struct meta *meta, const struct meta_key *key, const void *value, size_t length);
int tree_delete(struct meta *meta, const struct meta_key *key); /* 0 also if it was not there */
/*
 * Checksums for what the running generation has changed. Most leaves get theirs ahead, a few under each hold of the
 * lock, which is taken inside; who changes one again takes it away. The rest is done with the lock held exclusively.
 */
void tree_seal_ahead(struct meta *meta);
int tree_seal(struct meta *meta);
/* The pointer to the node of `level` below which *key belongs, and that node's bounds: at their end the next begins. */
int tree_pointer(struct meta *meta, unsigned int level, const struct meta_key *key, struct format_pointer *pointer,
		 struct node_bounds *bounds);
int tree_leaf(struct meta *meta, const struct meta_key *key, void *node); /* a copy of the one where *key belongs */
/* Moves *key behind the first leaf from there on that cannot be loaded, or what lies below such a node. False: none. */
bool tree_skip(struct meta *meta, struct meta_key *key);

/* batch.c */
#define BATCH_IOS 64u
struct batch;
struct batch_io {
	struct mirror_io io; /* the caller fills op, flags, block, count, verify and pin, and the buffer's bytes */
	void *context;
	struct {
		struct cache_page *page;
		struct format_pointer pointer;
		int level;
	} node; /* ahead.c */
	/* the batch's own */
	struct batch *batch;
	SLIST_ENTRY(batch_io) link;
	size_t bytes;
};
SLIST_HEAD(batch_ios, batch_io);
struct batch {
	struct mirror *mirror;
	void (*answered)(struct batch_io *io);
	unsigned int in_flight;
	size_t bytes;
	int error;
	struct batch_ios idle;
	struct mutex lock;
	struct cond moved;
	struct batch_ios done; /* under lock */
	struct batch_io ios[BATCH_IOS];
};
/* `answered`: called for each request before its buffer goes; may be NULL. */
void batch_begin(struct batch *batch, struct mirror *mirror, void (*answered)(struct batch_io *io));
/* A request to be filled, with a buffer of `bytes`. NULL: one would have to be waited for, and `wait` is false. */
struct batch_io *batch_next(struct batch *batch, size_t bytes, bool wait);
void batch_submit(struct batch *batch, struct batch_io *io);
void batch_unused(struct batch *batch, struct batch_io *io); /* instead of submitting it */
void batch_wait(struct batch *batch); /* for one of those that are in flight */
int batch_end(struct batch *batch); /* waits for all: the first error */

/* ahead.c; the tree's lock is the caller's */
struct ahead {
	struct meta *meta;
	struct mirror_pin *pin;
	struct batch batch;
};
/* What is read between these two is there behind them; nobody may ask for a node in between. */
void ahead_begin(struct ahead *ahead, struct meta *meta);
void ahead_end(struct ahead *ahead);
/* Begins to read a node if it is not in memory. False: no more at a time. */
bool ahead_node(struct ahead *ahead, const struct format_pointer *pointer, int level);
/* The same for the highest node that is not in memory on the way to *key. */
bool ahead_key(struct ahead *ahead, const struct meta_key *key);
/* Of a node's children from `slot` on those that may hold keys up to *last: the first slot not looked at. */
unsigned int ahead_children(struct meta *meta, const struct cache_page *parent, unsigned int slot,
			    const struct meta_key *last);

/* journal.c */
int journal_write(struct meta *meta, uint64_t up_to); /* waits until durable >= up_to */
void journal_add(struct meta *meta, struct meta_chunk *chunk); /* journal_lock held */
#define JOURNAL_DUE (4 * JOURNAL_RECORD_BLOCKS) /* so much waits: it is written before somebody asks for it */
void journal_relieve(struct meta *meta); /* waits if much more than that does */
bool journal_fits(const struct meta_chunk *chunk); /* into one record */
void journal_chunk_free(struct meta_chunk *chunk);
/* How long the record is whose first block is given, if it is the one that must stand there; else 0. */
uint32_t journal_record_blocks(const struct meta *meta, const void *record, uint64_t position, uint64_t sequence,
			       uint32_t previous_crc);
/* How many records the ring has lost behind the last one that was read: of a later one some leg has the whole. */
uint64_t journal_cut_off(struct meta *meta);
bool journal_record_valid(const void *record, uint32_t blocks); /* all of it, by its checksum */
uint64_t journal_next_position(const struct meta *meta, uint64_t position, uint64_t blocks);

/* resync.c */
void resync_serve(struct meta *meta);
void resync_stop(struct meta *meta);
/*
 * The node of `level` below which *key, or else the first key behind it, belongs and that is newer than `after`.
 * *key goes forward over what is not. -ENOENT: none. Tree locked.
 */
int resync_newer_node(struct meta *meta, unsigned int level, uint64_t after, struct meta_key *key,
		      struct format_pointer *pointer, struct node_bounds *bounds);
bool resync_lacks(const struct mirror_missing *missing, uint64_t address, const struct format_alloc *alloc);

/* replay.c */
int replay(struct meta *meta, struct error *error);
void replay_close(struct meta *meta);
/* Of `count` blocks from `address` on: how many are alike in that the ring has them (then *data) or not. */
uint32_t replay_late(const struct meta *meta, uint64_t address, uint32_t count, const void **data);

/* home.c */
int home_open(struct meta *meta); /* sets memory aside, unless read-only. -ENOMEM: home_close() is still to come */
void home_close(struct meta *meta);
/* Room for what the transaction carries, and a copy. May wait for the legs. -EROFS. */
int home_prepare(struct meta_txn *txn);
void home_give_back(struct meta_txn *txn); /* if it was not committed */
/* The tree's lock is held exclusively for both, with which the blocks are mapped, and freed. */
bool home_commit(struct meta_txn *txn); /* true: some should go */
void home_freed(struct meta *meta, uint64_t address, uint64_t count);
/* What was there at the call is on the legs, though not flushed; or the volume has failed, and why. Waits for them. */
int home_bring(struct meta *meta, uint64_t address, uint32_t count);
int home_bring_all(struct meta *meta);
/* With the tree's lock, under which these were found to be mapped: true: home_bring() must be called before a read. */
bool home_want(struct meta *meta, uint64_t address, uint32_t count);
/* As replay_late(), and of a failed volume what never came home. */
uint32_t home_late(struct meta *meta, uint64_t address, uint32_t count, const void **data);
/* Blocks in ascending order of their addresses, each once, all in flight together. 0 or the first error. */
int home_write(struct meta *meta, const struct meta_late *late, size_t count);

/* checkpoint.c */
int checkpoint_run(struct meta *meta); /* also if nothing has changed */
/* Many may want one at a time: only if `generation` is still the running one. Otherwise waits for that of others. */
int checkpoint_of(struct meta *meta, uint64_t generation);
/* Waits until a checkpoint begins, gets on or ends: until it has moved once more than so often. */
void checkpoint_wait(struct meta *meta, uint64_t moves);

/* alloc.c */
#define CUT_BLOCKS 16u /* held back for the new last blocks of files that are cut, so many at a time */
int alloc_open(struct meta *meta); /* ranges from the tree */
int alloc_open_blind(struct meta *meta); /* of a tree that is damaged, to be read: everything counts as taken */
void alloc_close(struct meta *meta);
uint64_t alloc_node_blocks(struct meta *meta); /* taken by nodes, waiting ones included */
/* Takes nodes ahead, up to `count`; leaves `keep` blocks below the boundary. -ENOSPC. Tree locked; below too. */
int alloc_spare(struct meta *meta, size_t count, uint64_t keep);
void alloc_spare_trim(struct meta *meta, size_t most); /* gives back all but so many */
int alloc_node(struct meta *meta, uint64_t *address);
void alloc_defer(struct meta *meta, struct range *range, const struct meta_extents *freed);
void alloc_charge(struct meta *meta); /* the cache's budget bears what the ranges take; a checkpoint at a time */
void alloc_release(struct meta *meta); /* frees what nothing can refer to any more; may wait for discards */
/*
 * For who is short of space: waits a while for the reads that hold what was freed. A leg that hangs may hold one for
 * long; then the answer is that there is no room now.
 */
void alloc_release_patiently(struct meta *meta);
int alloc_reserve_tail(struct meta *meta, uint64_t start, uint64_t length);
/* Waits until every transaction that has taken blocks so far has ended. */
void alloc_wait_cohort(struct meta *meta);
void alloc_leave_cohort(struct meta_txn *txn);

uint64_t alloc_available(struct meta *meta, uint64_t free); /* to file data, of so many; alloc_lock held */

/* trim.c */
/* Waits for the legs. False: one has not answered, and may still do it. */
bool trim_discard(struct meta *meta, uint64_t start, uint64_t length);

/* chunk.c */
#define CHUNK_BLOCKS 256u
bool chunk_take(struct meta *meta); /* takes room for nodes from the data */
void chunk_top_up(struct meta *meta); /* as much room for nodes as the reserve lacks, if it can be had */
void chunk_return(struct meta *meta); /* gives back what nodes no longer need */
int chunk_gather(struct meta *meta); /* at mount, behind the checkpoint: finds the chunks */

/* txn.c */
void txn_update(struct meta_txn *txn, enum format_update_kind kind, const struct meta_key *key, const void *value,
		size_t length);

/* map.c */
struct map_extent {
	uint64_t offset; /* in the file, blocks */
	uint64_t address;
	uint32_t length;
	uint32_t crc[EXTENT_BLOCKS_MAX];
};
/* The first extent that ends behind file block `offset`. -ENOENT: none. Tree locked. */
int map_find(struct meta *meta, uint64_t object, uint64_t offset, struct map_extent *extent);
/*
 * What the first record at *address on the legs or behind is of: an extent, or a piece of one of those that share it,
 * and whose. *address becomes where it is. Tree locked.
 */
int map_at(struct meta *meta, uint64_t *address, uint64_t *object, struct map_extent *extent);

/* share.c */
struct share_record { /* TYPE_ALLOC */
	uint64_t address;
	uint64_t owner, owner_offset; /* OBJECT_VOLUME: counted */
	uint64_t birth;
	uint32_t length, references;
};
int share_has(struct meta *meta, uint64_t object, uint64_t offset); /* 1: not the only one, 0, -errno. It may wait. */
void share_put_record(struct meta_txn *txn, const struct share_record *record);
/* The record that the block is in, as the transaction leaves it. If it is counted, nobody else changes it till then. */
int share_record_at(struct meta_txn *txn, uint64_t address, struct share_record *record);
/* Counted blocks are in one extent more (1) or less (-1): those that are in none are freed. */
int share_count(struct meta_txn *txn, uint64_t start, uint64_t end, int more);
void share_unlock(struct meta_txn *txn);
/* Those blocks in some extent that has all of them, and whose it is. -ENOENT: none, -EIO. Tree locked. */
int share_owner(struct meta *meta, uint64_t address, uint32_t length, uint64_t *object, struct map_extent *piece);

#endif
