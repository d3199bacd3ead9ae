/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * meta: the superblock, the journal, the tree, transactions, and allocation made durable.
 *
 * One copy-on-write B-tree holds everything, keyed by (object, type, offset). A transaction is a set of key
 * updates with absolute values: applied to the tree in memory at once, appended to the journal as one record with
 * others, replayed idempotently. A checkpoint is the tree after exactly record S.
 *
 * Promise
 *  - meta_txn_commit() is atomic and ordered: after a crash the volume is the state after some prefix of the
 *    commits, and that prefix includes everything up to a sequence for which meta_sync() returned 0 (I2).
 *  - A record that is valid implies that the data it refers to is durable: data is either inside the record or
 *    under a flush that completed before the record was written. Replay judges no data.
 *  - Nothing referenced is overwritten (I1), freed space waits for I9.
 *
 * Every call may wait for I/O unless it says otherwise, and none may be made from a completion.
 */
#ifndef MIRRORFS_META_H
#define MIRRORFS_META_H

#include "mirrorfs/base/error.h"
#include "mirrorfs/cache.h"
#include "mirrorfs/format/node.h"
#include "mirrorfs/mirror.h"
#include "mirrorfs/range.h"

#include <bsd/sys/queue.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct meta;
struct meta_txn;

struct meta_key {
	uint64_t object;
	uint8_t type; /* enum format_type */
	uint64_t offset;
};

/* <0, 0, >0 */
int meta_key_compare(const struct meta_key *a, const struct meta_key *b);

/* ---- a volume's life ---- */

/*
 * Makes an empty volume in the mirrored space: slots, ring, and a tree that holds `root` as the inode
 * OBJECT_ROOT. The legs must have their labels (mirror_format). Durable at return. 0 or -errno.
 */
int meta_format(struct mirror *mirror, const struct format_inode *root, struct error *error);
uint64_t meta_minimum_blocks(void); /* the smallest mirrored space that meta_format takes */
/* What must be allocated for real in a sparse image of that space: slots and ring, and the nodes' reserve. */
#define META_FIXED_EXTENTS 2
void meta_fixed_extents(uint64_t space_blocks, struct range_extent extents[META_FIXED_EXTENTS]);
/* The same of a volume in use, which may have grown, for a leg that joins: those of length 0 are none. */
#define META_RESERVED_EXTENTS (META_FIXED_EXTENTS + 1)
void meta_reserved_extents(const struct meta *meta, struct range_extent extents[META_RESERVED_EXTENTS]);

struct meta_options {
	bool read_only;	    /* nothing is written: a ring with records is replayed in memory alone */
	uint64_t commit_ns; /* the journal is committed this long after the first change; 0: 5 s */
	bool discard;	    /* freed ranges go to the legs */
	/*
	 * For a check: allocation records that contradict one another are no reason to refuse, what a file refers to
	 * counts as taken whatever they say, every leaf is looked at (meta_damage()), and closing does not call the
	 * volume unmounted.
	 */
	bool checking;
};

/*
 * Opens: newest valid slot, ring replayed, slots and ring made equal on both legs, allocator rebuilt, one checkpoint
 * under a new epoch, committer started. -ENODATA no valid slot, -EPROTONOSUPPORT with `error` naming the version or
 * bit, -EIO an unreadable node. The mirror and the cache stay the caller's and must outlive the meta.
 *
 * Of a damaged tree a read-only open gives what can be read, see meta_damage(): what lies below an unreadable node, or
 * what the ring would have changed there, is -EIO.
 */
int meta_open(struct mirror *mirror, struct cache *cache, const struct meta_options *options, struct meta **meta,
	      struct error *error);
/* As mirror_options.admit: what meta_open() would say of the superblock, before anything is written. */
int meta_admit(struct mirror *mirror, bool read_only, struct error *error);
/* Commits, checkpoints unless read-only or failed, frees. The error of that last commit, else 0. */
int meta_close(struct meta *meta);

/* What is wrong with the tree, for people: it could only be opened read-only or to be checked. NULL: nothing. */
const char *meta_damage(const struct meta *meta);

/* ---- reading the tree ---- */

/* The value of `key`: its length, copied up to `size` bytes. -ENOENT, -EIO. */
ssize_t meta_get(struct meta *meta, const struct meta_key *key, void *value, size_t size);

/*
 * The first key >= *key and <= *last: *key becomes it. The value's length, copied up to `size`. -ENOENT: none.
 * Iterate by adding one to key->offset.
 */
ssize_t meta_next(struct meta *meta, struct meta_key *key, const struct meta_key *last, void *value, size_t size);
/* The last key <= *key and >= *first, likewise. */
ssize_t meta_previous(struct meta *meta, struct meta_key *key, const struct meta_key *first, void *value, size_t size);

/* ---- transactions ---- */

/* The most that one transaction may hold; longer work is a chain of transactions that recovery finishes. */
#define META_TXN_UPDATES 512u
#define META_TXN_BYTES (96u << 10) /* updates with values */
#define META_TXN_DATA_BLOCKS 16u   /* data inside the record: 64 KiB */
#define META_TXN_CUTS 32u /* extents that it may unmap or cut: each may lie in a leaf of its own */

/*
 * A transaction being built, on the caller's thread alone. It sees nothing of itself: reads see the tree.
 * The caller's own locks (an inode's) keep others from changing the keys it has read for it: two transactions that
 * touch one key are the callers' fault.
 */
struct meta_txn *meta_txn_begin(struct meta *meta); /* NULL: no memory; never waits */
void meta_txn_abort(struct meta_txn *txn);	    /* ranges that it allocated are free again */

/* Updates are applied in the order of these calls. Errors are kept and reported by meta_txn_commit(). */
void meta_txn_put(struct meta_txn *txn, const struct meta_key *key, const void *value, size_t length);
void meta_txn_delete(struct meta_txn *txn, const struct meta_key *key);
/* True if it may become too large for `updates` more updates with `bytes` of values: commit it and begin another. */
bool meta_txn_full(const struct meta_txn *txn, unsigned int updates, size_t bytes);

/*
 * Applies and journals. 0 and *sequence (may be NULL) to hand to meta_sync(); -EROFS read-only or failed, -ENOSPC,
 * -EIO, -ENOMEM: nothing was changed and its allocations are free again. The transaction is freed either way.
 */
int meta_txn_commit(struct meta_txn *txn, uint64_t *sequence);

/* Waits until every commit up to `sequence` is durable on every in-sync leg. 0, -EIO, -EROFS. */
int meta_sync(struct meta *meta, uint64_t sequence);
uint64_t meta_sequence(struct meta *meta); /* of the latest commit; never waits */

/* Commits the journal and makes a checkpoint now. */
int meta_checkpoint(struct meta *meta);

uint64_t meta_new_object(struct meta *meta); /* a number never used before, durable with the next commit; never waits */
void meta_skip_objects(struct meta *meta, uint64_t last); /* numbers up to `last` count as used */

/* ---- file data: allocation, mapping, I/O ---- */

/*
 * Promises room for `blocks` of file data, to be taken by meta_alloc with the promise or returned. What was promised
 * can be written. -ENOSPC; never waits for I/O but for a commit that frees space.
 */
int meta_promise(struct meta *meta, uint64_t blocks);
/*
 * One block that takes the place of block `offset` of the file: some are held back for these on a full volume, if the
 * other one becomes free, being shared with no other file. May wait for a node to be read, too; then also -EIO.
 */
int meta_promise_to_cut(struct meta *meta, uint64_t object, uint64_t offset);
void meta_unpromise(struct meta *meta, uint64_t blocks); /* never waits */

/* Where blocks should lie, as struct range_request has it; what cannot be is done otherwise. */
struct meta_aim {
	uint64_t goal, room; /* 0: none */
	uint32_t at_least; /* if a piece so long is to be had */
};

/*
 * Takes blocks for file data: at most `blocks` (<= EXTENT_BLOCKS_MAX), in one piece that may be shorter. The blocks
 * come out of the caller's promise. They belong to `txn`: before it is committed meta_map_put() must have named them
 * all; if it is not, they are free again. 0 and *got, -ENOSPC.
 */
int meta_alloc(struct meta_txn *txn, const struct meta_aim *aim, uint32_t blocks, struct range_extent *got);

/*
 * Writes allocated blocks to both legs. `buf` holds `count` blocks from buf_offset on. `done` is called once when
 * both legs have it (mirror_io rules). 0 or the refusal. Never waits.
 */
struct meta_write {
	struct mirror_io io;			/* the caller fills block, count, buf, buf_offset; meta the rest */
	void (*done)(struct meta_write *write); /* io.error tells; a completion's rules */
	void *context;
	struct mirror_pin *pin; /* meta's own */
};
int meta_write(struct meta *meta, struct meta_write *write);

/* A piece of a file: where `count` blocks from file block `offset` on are. */
struct meta_mapping {
	uint64_t offset;
	uint32_t count;
	uint64_t address; /* 0: a hole */
	/*
	 * Only on a read-only mount of a volume that was not unmounted, and on one that has failed: the content of
	 * these blocks, which the ring has and the legs may not have there. Valid until meta_close(). Else NULL.
	 */
	const void *data;
	uint32_t crc[EXTENT_BLOCKS_MAX]; /* [i]: of block offset + i; unset for a hole */
};

/*
 * The mapping of file block `offset`, cut to at most `count` blocks (<= EXTENT_BLOCKS_MAX). Take a mirror_pin()
 * before, keep it until the read's end. What is in the ring alone is written there first. 0 or -EIO.
 */
int meta_map(struct meta *meta, uint64_t object, uint64_t offset, uint32_t count, struct meta_mapping *mapping);
/* Where one block is, for who will not read it there; 0: a hole. 0 or -EIO. */
int meta_where(struct meta *meta, uint64_t object, uint64_t offset, uint64_t *address);
/* As meta_map() of blocks that lie on the legs, where nothing is to be waited for: else -EAGAIN. */
int meta_map_now(struct meta *meta, uint64_t object, uint64_t offset, uint32_t count, struct meta_mapping *mapping);

/*
 * In `txn`: file blocks offset .. offset + extent.length - 1 are now at `extent`, with these checksums. What they were
 * mapped to before is freed (I9). With `data` their content, extent.length * 4096 bytes there, rides in the record, so
 * that the commit needs no flush; at most META_TXN_DATA_BLOCKS a transaction. It is copied, and brought to its place
 * later. Without it (NULL) the blocks must have been written with meta_write() (done called with 0) before
 * meta_txn_commit(). *freed: how many blocks the file lost.
 * The caller keeps others from mapping this file. 0 or -EIO. What it may replace: see meta_map_limit().
 */
int meta_map_put(struct meta_txn *txn, uint64_t object, uint64_t offset, const struct range_extent *extent,
		 const uint32_t *crc, const void *data, uint64_t *freed);
/*
 * In `txn`: unmaps file blocks from *offset on up to and excluding `end`, as many as the transaction takes; *offset
 * becomes the first not yet done (== end: all). *freed: blocks that were mapped. Called again with a new
 * transaction to go on. 0 or -EIO.
 */
int meta_map_punch(struct meta_txn *txn, uint64_t object, uint64_t *offset, uint64_t end, uint64_t *freed);
/*
 * In `txn`: file blocks from to_offset on of `to` become those of `from` from from_offset on: the same blocks on the
 * legs, in one extent more, and holes where those are; as many as the transaction takes. The numbers go forward: what
 * is left is asked for with a new transaction. Both files are the caller's; they may be one, if the ranges do not
 * overlap. 0; -EMLINK: the first of them is in so many extents that it must be copied; -EIO. SUPER_RO_SHARED is in use.
 */
struct meta_sharing {
	uint64_t from, from_offset, to, to_offset;
	uint64_t count;
	uint64_t freed, taken; /* the answer: blocks that `to` lost, and got */
};
int meta_map_share(struct meta_txn *txn, struct meta_sharing *sharing);
/* The first mapped (or, with `hole`, unmapped) file block >= *offset: 0, or -ENOENT: none (hole: never). */
int meta_map_seek(struct meta *meta, uint64_t object, bool hole, uint64_t *offset);
/*
 * How many of `blocks` file blocks from `offset` on one meta_map_put() in this transaction may replace; counts the
 * extents there against META_TXN_CUTS, so ask once for what will be mapped. 0: commit it and begin another.
 */
uint32_t meta_map_limit(struct meta_txn *txn, uint64_t object, uint64_t offset, uint32_t blocks);
/* Room that one meta_map_put of `blocks` may take, to ask meta_txn_full() with. */
#define META_MAP_UPDATES 8u
#define META_MAP_BYTES(blocks) (3u * 4u * EXTENT_BLOCKS_MAX + 512u + 4u * (blocks))

struct mirror *meta_mirror(struct meta *meta);

struct meta_statfs {
	uint64_t blocks;    /* of 4096 bytes: heap without the reserve */
	uint64_t free;	    /* not taken; blocks that wait for I9 count as free */
	uint64_t available; /* free, less what was promised */
};
void meta_statfs(struct meta *meta, struct meta_statfs *statfs);

/* Discards what is free of [start, start + length), in blocks, in pieces of at least `at_least`. */
struct meta_trim {
	uint64_t start, length, at_least;
	uint64_t trimmed; /* the answer: so many blocks */
};
/* 0, -EROFS, -EOPNOTSUPP: no leg can. Waits for the legs. */
int meta_trim(struct meta *meta, struct meta_trim *trim);

/*
 * The volume takes up what its legs hold by now, while it is in use. 0: it has, durably. -ENOSPC: they hold no more
 * than it has, or images no room for its reserve; -EBUSY, -EROFS; what mirror_grow_room() says. One at a time of legs
 * that leave, join and grow.
 */
struct meta_growth {
	uint64_t before, now; /* the answer: blocks of the mirrored space */
};
int meta_grow(struct meta *meta, struct meta_growth *growth, struct error *error);

/*
 * One of SUPER_RO_KNOWN: to be asked before the first transaction that needs it. Waits for the legs the
 * first time in a volume's life. 0, or -EROFS, -EIO: no such transaction may be committed.
 */
int meta_use_feature(struct meta *meta, uint64_t ro_compat);

struct meta_super_info {
	uint64_t generation, sequence, epoch, data_blocks, heap_blocks, next_object;
	uint8_t hash_key[16];
};
void meta_super_info(struct meta *meta, struct meta_super_info *info);

struct meta_stats {
	uint64_t commits, records, checkpoints, replayed; /* transactions, ring records, checkpoints, those at mount */
	uint64_t cut_off; /* for a check: ring records that are lost, as no leg has one that others came behind */
	uint64_t waited; /* transactions that had to wait for a checkpoint */
	uint64_t ring_used_blocks, ring_blocks;
	uint64_t dirty_nodes, tree_height;
	struct range_stats range; /* total, free and deferred of the heap, the rest of where file data lies */
};
void meta_stats(struct meta *meta, struct meta_stats *stats);

/* For who empties the cache: meta holds on to no node. It will again to those that are changed from then on. */
void meta_let_go(struct meta *meta);

/* How much of each of `cells` equal pieces of the space for files and metadata is free, in thousandths. */
void meta_free_map(struct meta *meta, uint32_t *parts, uint32_t cells);

/* How long what came to a good end took since the mount. */
enum meta_time {
	META_TIME_COMMIT, /* the writing of a record, with the flush before it, if it needs one */
	META_TIME_CHECKPOINT,
	META_TIMES,
};
void meta_times(struct meta *meta, enum meta_time what, struct histogram *histogram);

/* ---- everything referenced, for scrub and check ---- */

/* A piece of a file, all of it in one extent, and where it lies. */
struct meta_owner {
	uint64_t object, offset;
	uint64_t extent_offset; /* where that extent begins in the file */
	uint64_t address;
	uint32_t count;
	bool counted; /* by an item of its own: it may share them */
	const uint32_t *crc; /* what that file says of each block */
};
typedef bool meta_owner_fn(void *context, const struct meta_owner *owner); /* false: enough */
/* Tells every piece of a file that lies in these blocks, each of those that share one. 0 or -EIO. */
int meta_owners(struct meta *meta, uint64_t address, uint32_t count, meta_owner_fn *tell, void *context);

/* The item by which the counted extent of a file is named that begins at this address: 0, -ENOENT, -EIO. */
int meta_share_find(struct meta *meta, uint64_t address, uint64_t object, uint64_t offset, struct meta_key *key);
/* In `txn` there is one, or no longer; the counts are the caller's business. 0 or -EIO. */
int meta_share_add(struct meta_txn *txn, uint64_t address, uint64_t object, uint64_t offset);
int meta_share_remove(struct meta_txn *txn, uint64_t address, uint64_t object, uint64_t offset);

enum meta_live_kind { META_LIVE_NODE, META_LIVE_DATA };
struct meta_live {
	enum meta_live_kind kind;
	uint64_t address;
	uint32_t count;	 /* blocks; a node: NODE_BLOCKS */
	uint64_t object; /* of data: the file */
	uint64_t offset; /* and the block in it */
};
/*
 * Whose content lies in this block of the space, and from there to the end of the piece: of those who share it, one.
 * -ENOENT: nobody's, so it is a node's or free; -EIO.
 */
int meta_whose(struct meta *meta, uint64_t block, struct meta_live *live);

struct meta_scrub {
	uint64_t blocks; /* verified, each leg counted */
	uint64_t repaired;
	uint64_t unrecoverable;
	/*
	 * False: stop; may be NULL. It may take its time: if `gently` nothing is under way while it runs, else at most
	 * one pin and what is read under it. `done` and `total` are blocks of the space.
	 */
	bool (*progress)(struct meta_scrub *scrub, uint64_t done, uint64_t total);
	/* A bad copy: told of each file that has a part in it. May be NULL. */
	void (*bad)(struct meta_scrub *scrub, const struct meta_live *live, int leg, bool healed);
	bool lost; /* while `bad` runs: no leg has a good copy of it */
	bool metadata_only; /* the caller's: leave out file data */
	bool gently; /* the caller's, also from `progress`: little at a time */
	/*
	 * Where file data is looked at next, in blocks of the space; 0: at slots and nodes first. With what one that
	 * was stopped has left here, in `done` and in the counts above, another goes on.
	 */
	uint64_t position, done;
	void *context;
};
/*
 * Reads every referenced block on each in-sync leg, verifies it, and rewrites a bad copy from the good one: slots,
 * nodes, then file data in the order in which it lies there; what the ring holds is first brought home by a
 * checkpoint. On a read-only volume nothing is rewritten. What lies below a lost node is passed over. Runs beside the
 * foreground, on the caller's thread. 0, -EINTR stopped, -EIO the last flush failed, or what the checkpoint said.
 */
int meta_scrub(struct meta *meta, struct meta_scrub *scrub);

/* ---- what is on one leg alone ---- */

struct meta_missing {
	/* A piece of a file: those of a file come together and in order. Nothing is locked. False: stop. */
	bool (*piece)(struct meta_missing *missing, uint64_t object, uint64_t offset, uint32_t count);
	void *context;
	/* The answer: the leg that lacks it, -1: none lacks anything; and how much metadata it lacks. */
	int leg;
	uint64_t node_blocks;
};
/*
 * Tells all that a leg lacks, file by file, by what is mapped at present; beside the foreground, of which nobody waits
 * for more than one lookup. 0, -EINTR stopped, -EIO.
 */
int meta_missing(struct meta *meta, struct meta_missing *missing);

/* ---- a tree that cannot be read as a whole ---- */

/* Keys that a lost node, and all below it, had: from `first` up to and excluding `end`. */
struct meta_loss {
	struct meta_key first, end;
	bool endless; /* `end` says nothing */
	bool leaf; /* the items were in it itself; else they were in nodes below, which may be found */
	uint64_t leaves; /* found again whole */
	uint64_t items; /* found in older leaves, and proven by records elsewhere */
};
struct meta_rebuild {
	void (*lost)(struct meta_rebuild *rebuild, const struct meta_loss *loss);
	void (*progress)(struct meta_rebuild *rebuild, uint64_t done, uint64_t total); /* may be NULL */
	void *context;
};
/*
 * Makes the tree of a volume that nobody has open readable again: looks for what lies below lost nodes on the legs, and
 * builds a tree of it and of all that is still named. It is one again that meta_open() takes with `checking`, and that
 * must be checked: what was not found is missing in it. Nothing that was referenced is overwritten, and until the one
 * slot that is written at the end nothing has changed. 0, -EPROTONOSUPPORT, -ENODATA no valid slot, -ENOSPC no room for
 * nodes, -ETIMEDOUT a leg does not answer, -ENOMEM.
 */
int meta_rebuild(struct mirror *mirror, struct cache *cache, struct meta_rebuild *rebuild, struct error *error);

/* The latest scrub, as the slots tell of it: kept with each checkpoint. */
struct meta_scrub_state {
	bool under_way; /* to be gone on with at the next mount; what a person has stopped is not */
	uint64_t position, done, blocks, repaired, unrecoverable; /* as in meta_scrub */
	uint64_t began, ended; /* seconds since 1970; 0: never, not yet */
};
void meta_scrub_state(struct meta *meta, struct meta_scrub_state *state);
/* `durable`: with a checkpoint now. 0, -EROFS, -EIO. */
int meta_scrub_remember(struct meta *meta, const struct meta_scrub_state *state, bool durable);

/* What a leg has in the two superblock slots. */
#define META_SLOTS 2
struct meta_slot {
	bool valid; /* of this volume, whole, and fit to be mounted */
	bool unmounted; /* written by an orderly unmount */
	uint64_t generation, data_blocks;
	uint64_t compat, ro_compat; /* feature bits that are not known */
	uint32_t crc; /* tells two slots of one generation apart */
};
void meta_slots(struct mirror *mirror, int leg, struct meta_slot slots[META_SLOTS]);

/* True for a TYPE_EXTENT or TYPE_ALLOC item that may stand under this key: its length, and where its blocks lie. */
bool meta_extent_valid(const struct meta *meta, const struct meta_key *key, const void *value, size_t length);
bool meta_alloc_valid(const struct meta *meta, const struct meta_key *key, const void *value, size_t length);
/* For a check: a node of the tree was on that block when the volume was opened. Only where file data may lie. */
bool meta_is_tree(const struct meta *meta, uint64_t block);

#endif
