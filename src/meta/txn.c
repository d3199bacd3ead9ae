/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Transactions: built on one thread as the very bytes that the journal will carry, then applied to the tree in
 * memory and queued for the ring under one hold of the tree's lock: the order in the ring is the order in the tree.
 */
#include "meta_private.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SPARE_NODES 32u /* kept between transactions */
#define USUAL_BYTES 1024u /* of updates: a change of names takes less */
#define FREED_BLOCKS_DUE 16384u /* 64 MiB wait for a checkpoint: it is due */

/* What room_for() misses. */
#define CHECKPOINT_DUE 1
#define CHECKPOINT_RUNS 2
#define SHORT_OF_SPACE 3

struct meta_txn *meta_txn_begin(struct meta *meta)
{
	struct meta_txn *txn = calloc(1, sizeof(*txn));

	if (!txn)
		return NULL;
	txn->meta = meta;
	txn->chunk = calloc(1, sizeof(*txn->chunk));
	if (!txn->chunk) {
		free(txn);
		return NULL;
	}
	txn->chunk->updates = malloc(USUAL_BYTES); /* else the first update tries again */
	txn->room = txn->chunk->updates ? USUAL_BYTES : 0;
	return txn;
}

static void txn_free(struct meta_txn *txn)
{
	alloc_leave_cohort(txn);
	share_unlock(txn);
	home_give_back(txn);
	if (txn->chunk)
		journal_chunk_free(txn->chunk);
	free(txn->taken.at);
	free(txn->freed.at);
	free(txn->overlay);
	free(txn);
}

void meta_txn_abort(struct meta_txn *txn)
{
	if (txn->taken.count)
		alloc_defer(txn->meta, txn->meta->data_range, &txn->taken);
	txn_free(txn);
}

void txn_update(struct meta_txn *txn, enum format_update_kind kind, const struct meta_key *key, const void *value,
		size_t length)
{
	struct meta_chunk *chunk = txn->chunk;
	size_t padded = (length + 7) & ~(size_t)7;
	struct format_update update = {
		.object = le64_of(key->object),
		.offset = le64_of(key->offset),
		.type = key->type,
		.kind = (uint8_t)kind,
		.length = le16_of((uint16_t)length),
	};

	if (txn->error)
		return;
	assert(length <= NODE_VALUE_MAX);
	if (chunk->bytes + sizeof(update) + padded > txn->room) {
		size_t room = 2 * (txn->room + sizeof(update) + padded);
		unsigned char *updates = realloc(chunk->updates, room);

		if (!updates) {
			txn->error = -ENOMEM;
			return;
		}
		chunk->updates = updates;
		txn->room = room;
	}
	memcpy(chunk->updates + chunk->bytes, &update, sizeof(update));
	memset(chunk->updates + chunk->bytes + sizeof(update), 0, padded);
	if (length)
		memcpy(chunk->updates + chunk->bytes + sizeof(update), value, length);
	chunk->bytes += sizeof(update) + padded;
	chunk->update_count++;
}

void meta_txn_put(struct meta_txn *txn, const struct meta_key *key, const void *value, size_t length)
{
	txn_update(txn, UPDATE_PUT, key, value, length);
}

void meta_txn_delete(struct meta_txn *txn, const struct meta_key *key)
{
	txn_update(txn, UPDATE_DELETE, key, NULL, 0);
	txn->deletes = true;
}

bool meta_txn_full(const struct meta_txn *txn, unsigned int updates, size_t bytes)
{
	return txn->error || txn->chunk->update_count + updates > META_TXN_UPDATES ||
	       txn->chunk->bytes + bytes + updates * sizeof(struct format_update) > META_TXN_BYTES;
}

/*
 * Births are those of the checkpoint that will first contain the blocks, known only now that the tree is locked. The
 * extents taken by this transaction are the ones whose allocation says 0.
 */
static int apply(struct meta *meta, struct meta_chunk *chunk)
{
	unsigned char *at = chunk->updates;

	for (unsigned int i = 0; i < chunk->update_count; i++) {
		struct format_update update;
		struct meta_key key;
		size_t length;
		int error = 0;

		memcpy(&update, at, sizeof(update));
		key = (struct meta_key){ le64_get(update.object), update.type, le64_get(update.offset) };
		length = le16_get(update.length);
		at += sizeof(update);
		if (update.kind == UPDATE_PUT && key.object == OBJECT_VOLUME && key.type == TYPE_ALLOC) {
			struct format_alloc *alloc = (struct format_alloc *)at;

			if (!le64_get(alloc->birth))
				alloc->birth = le64_of(meta->generation);
		}
		if (update.kind == UPDATE_PUT)
			error = tree_put(meta, &key, at, length);
		else if (update.kind == UPDATE_DELETE)
			error = tree_delete(meta, &key);
		if (error)
			return error;
		at += (length + 7) & ~(size_t)7;
	}
	return 0;
}

/*
 * Reads what the updates will touch: an unreadable node fails this transaction alone, and those who wait behind the
 * exclusive lock seldom wait for a leg. *nodes: how many new ones applying may take: each node touched is copied, each
 * leaf is split or joined with a neighbour, and the tree may grow.
 */
static int prefetch(struct meta *meta, const struct meta_chunk *chunk, size_t *nodes)
{
	const unsigned char *at = chunk->updates;
	struct tree_touched touched = { .nodes = 0 };
	int error = 0;

	rwlock_read(&meta->tree_lock);
	for (unsigned int i = 0; i < chunk->update_count && !error; i++) {
		struct format_update update;
		struct meta_key key;

		memcpy(&update, at, sizeof(update));
		key = (struct meta_key){ le64_get(update.object), update.type, le64_get(update.offset) };
		if (update.kind == UPDATE_PUT || update.kind == UPDATE_DELETE)
			error = tree_touch(meta, &key, &touched);
		at += sizeof(update) + ((le16_get(update.length) + (size_t)7) & ~(size_t)7);
	}
	*nodes = touched.nodes + touched.leaves + 4 * chunk->bytes / NODE_BYTES + 2 * (meta->root.level + 2);
	rwlock_unlock(&meta->tree_lock);
	return error;
}

/*
 * How many nodes may wait for a checkpoint: what memory allows, and on a volume that has no other room for nodes than
 * the reserve, half of that.
 */
static size_t dirty_most(struct meta *meta)
{
	size_t most = meta->dirty_limit / NODE_BYTES, reserve = meta->reserve / 2 / NODE_BLOCKS;

	return reserve < most && range_free_count(meta->node_range) < meta->reserve ? reserve : most;
}

/*
 * What must be there before a transaction is applied, as applying cannot fail half-way: ring, nodes, memory. 0: it is;
 * CHECKPOINT_DUE: there is more room when one has begun; CHECKPOINT_RUNS: when it is further than *moves;
 * SHORT_OF_SPACE: a whole one may help; -ENOSPC, -ENOMEM. Tree locked.
 *
 * A checkpoint is due at half of what there is. While it runs, the rest is given out as its nodes are written: then who
 * is faster than the legs waits a little each time, and nobody for the whole of it.
 */
static int room_for(struct meta *meta, const struct meta_txn *txn, size_t nodes, bool again, uint64_t *moves)
{
	const struct meta_chunk *chunk = txn->chunk;
	/* Only what deletes, or was promised its room, may draw on the last of the reserve. */
	uint64_t keep = (txn->deletes && !txn->shares) || txn->taken.count ? 0 : meta->reserve / 2;
	uint64_t ring, ring_most = meta->ring_blocks * 3 / 4;
	size_t most = dirty_most(meta);
	bool runs;
	int error;

	mutex_lock(&meta->journal_lock);
	ring = meta->ring_written - meta->ring_released + meta->pending_blocks + 2 * JOURNAL_RECORD_BLOCKS;
	runs = meta->progress.under_way;
	*moves = meta->progress.moves;
	if (runs) {
		size_t of = meta->progress.nodes + 1, written = meta->progress.written;

		most = most / 2 + most / 2 * written / of;
		ring_most = meta->ring_blocks * 11 / 16 + meta->ring_blocks * 3 / 16 * written / of;
	}
	mutex_unlock(&meta->journal_lock);
	ring += chunk->bytes / FORMAT_BLOCK + 2 + chunk->data_count;
	if (!again && (ring > ring_most || meta->dirty.count > most))
		return runs ? CHECKPOINT_RUNS : CHECKPOINT_DUE;
	if (ring > meta->ring_blocks - JOURNAL_RECORD_BLOCKS)
		return runs ? CHECKPOINT_RUNS : CHECKPOINT_DUE;
	error = alloc_spare(meta, nodes, keep);
	return error == -ENOSPC && !again ? SHORT_OF_SPACE : error;
}

/* What the transaction unmapped is free with the checkpoint that has it. Tree locked. */
static int take_freed(struct meta *meta, const struct meta_txn *txn)
{
	int error = 0;

	for (size_t i = 0; i < txn->freed.count && !error; i++) {
		const struct range_extent *extent = &txn->freed.at[i];

		error = meta_extents_add(&meta->freed_data, extent->start, extent->length);
		home_freed(meta, extent->start, extent->length);
		meta->data_blocks -= (int64_t)extent->length;
		atomic_fetch_add(&meta->freed_blocks, extent->length);
	}
	return error;
}

/* Applied: into the queue for the ring. Tree locked. Tells what is due. */
static void queue(struct meta *meta, struct meta_txn *txn, uint64_t *sequence, struct meta_due *due)
{
	struct meta_chunk *chunk = txn->chunk;

	chunk->generation = meta->generation;
	chunk->next_object = atomic_load(&meta->next_object);
	for (size_t i = 0; i < txn->taken.count; i++)
		meta->data_blocks += (int64_t)txn->taken.at[i].length;
	mutex_lock(&meta->journal_lock);
	journal_add(meta, chunk);
	if (sequence)
		*sequence = chunk->sequence;
	/* Long before anybody must wait for it. */
	due->records = meta->pending_blocks > JOURNAL_DUE;
	due->checkpoint =
		meta->ring_written - meta->ring_released + meta->pending_blocks > meta->ring_blocks / 2 ||
		meta->dirty.count > dirty_most(meta) / 2 || atomic_load(&meta->freed_blocks) > FREED_BLOCKS_DUE;
	mutex_unlock(&meta->journal_lock);
	atomic_fetch_add(&meta->commits, 1);
	txn->chunk = NULL;
	alloc_spare_trim(meta, SPARE_NODES);
}

/* Until there is room for the transaction. Returns 0 with the tree locked. */
static int wait_for_room(struct meta *meta, const struct meta_txn *txn, size_t nodes)
{
	bool waited = false;
	int error = 0;

	for (int try = 0; !error;) {
		uint64_t generation, moves;
		int room;

		rwlock_write(&meta->tree_lock);
		room = room_for(meta, txn, nodes, try >= 2, &moves);
		generation = meta->generation;
		if (!room)
			break;
		rwlock_unlock(&meta->tree_lock);
		waited = true;
		if (room == CHECKPOINT_DUE)
			meta_kick(meta, &(struct meta_due){ .checkpoint = true });
		if (room == CHECKPOINT_DUE || room == CHECKPOINT_RUNS)
			checkpoint_wait(meta, moves);
		else
			error = room < 0 ? room : checkpoint_of(meta, generation);
		if (!error)
			error = meta_writable(meta);
		if (!error && room == SHORT_OF_SPACE)
			alloc_release_patiently(meta);
		try += room != CHECKPOINT_RUNS;
	}
	atomic_fetch_add(&meta->waited, waited);
	return error;
}

int meta_txn_commit(struct meta_txn *txn, uint64_t *sequence)
{
	struct meta *meta = txn->meta;
	int error = txn->error ? txn->error : meta_writable(meta);
	struct meta_due due;
	size_t nodes = 0;

	if (!error)
		error = journal_fits(txn->chunk) ? prefetch(meta, txn->chunk, &nodes) : -ENOSPC;
	if (!error)
		error = home_prepare(txn);
	if (!error)
		error = wait_for_room(meta, txn, nodes);
	if (error) {
		meta_txn_abort(txn);
		return error;
	}
	error = apply(meta, txn->chunk);
	due.homes = !error && home_commit(txn);
	if (!error)
		error = take_freed(meta, txn);
	if (error) {
		/* Half applied: the tree in memory is no state that may ever reach the legs. */
		meta_fail(meta, error);
		rwlock_unlock(&meta->tree_lock);
		meta_txn_abort(txn);
		return error;
	}
	queue(meta, txn, sequence, &due);
	rwlock_unlock(&meta->tree_lock);
	share_unlock(txn);
	meta_kick(meta, &due);
	journal_relieve(meta);
	txn_free(txn);
	return 0;
}

uint64_t meta_new_object(struct meta *meta)
{
	return atomic_fetch_add(&meta->next_object, 1);
}

void meta_skip_objects(struct meta *meta, uint64_t last)
{
	uint_fast64_t next = atomic_load(&meta->next_object);

	while (next <= last && !atomic_compare_exchange_weak(&meta->next_object, &next, last + 1))
		;
}
