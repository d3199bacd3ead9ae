/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Blocks whose content rode in a record, on their way home: to where their file's mapping says that they are.
 *
 * Whoever waits for a commit waits for its record alone. Its blocks wait here, in memory that the mount has set aside
 * (I10), and go home later, many at once and neighbours as one request: when half of that memory is full, when the
 * journal is committed by the clock, and with each checkpoint. What is freed again before, as by who writes the same
 * page again and again, need never go.
 *
 * What holds, and why:
 *  - Until a block is home its record stays in the ring: a checkpoint, which lets go of the ring, first brings home all
 *    that was committed before its cut (I2). So a crash finds either, and replay writes the block as it always did.
 *  - A block is spared the way only by a transaction of the very generation that has mapped it. No checkpoint's tree
 *    refers to it then; before the next one the ring has it. Mapped in one generation and freed in the next, it belongs
 *    to the tree that is on its way to the legs, and goes home.
 *  - None comes late to a block that somebody else has by now (I9): freed space is not given out before the checkpoint
 *    that has it freed, and that one has waited for all of an earlier or the same generation.
 *  - An address that is handed out has its block on the legs: whoever looks one up, to read there, asks home_want()
 *    under the same hold of the tree's lock, so that it is no longer spared, and brings it home before he reads. So the
 *    mirror, its repairs and resyncs, and read-ahead, which believes nothing, need not know of this.
 *  - A leg that is lost meanwhile lacks what was born after the last checkpoint, which all that waits here was.
 *  - If one cannot be brought home the volume stops (I12). The ring keeps what it has, and until the unmount reads are
 *    answered from here: from then on nothing leaves this memory.
 */
#include "meta_private.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HOMES_MOST 512u /* 2 MiB */
#define HOMES_LEAST (2 * META_TXN_DATA_BLOCKS)
#define HOMES_SHARE 32u /* of the cache's budget */
#define RUN_BLOCKS JOURNAL_RECORD_BLOCKS

/* One block. */
struct home {
	uint64_t address;
	uint64_t generation; /* that it was mapped in */
	uint64_t order; /* of commits */
	unsigned char *data;
	bool wanted; /* to be read where it belongs: it must go there */
	bool flying; /* on its way */
};

int home_open(struct meta *meta)
{
	struct meta_homes *homes = &meta->homes;
	struct cache_stats stats;
	size_t room;

	cache_stats(meta->cache, &stats);
	room = stats.budget_bytes / HOMES_SHARE / FORMAT_BLOCK;
	room = room < HOMES_LEAST ? HOMES_LEAST : room > HOMES_MOST ? HOMES_MOST : room;
	homes->memory = malloc(room * FORMAT_BLOCK);
	homes->idle = calloc(room, sizeof(*homes->idle));
	homes->at = calloc(room, sizeof(*homes->at));
	homes->flying = calloc(room, sizeof(*homes->flying));
	if (!homes->memory || !homes->idle || !homes->at || !homes->flying)
		return -ENOMEM;
	for (size_t i = 0; i < room; i++)
		homes->idle[i] = homes->memory + i * FORMAT_BLOCK;
	homes->room = homes->idle_count = (unsigned int)room;
	cache_charge(meta->cache, (ssize_t)(room * FORMAT_BLOCK));
	return 0;
}

void home_close(struct meta *meta)
{
	struct meta_homes *homes = &meta->homes;

	if (homes->room)
		cache_charge(meta->cache, -(ssize_t)(homes->room * (size_t)FORMAT_BLOCK));
	free(homes->memory);
	free(homes->idle);
	free(homes->at);
	free(homes->flying);
}

/* The first at `address` or behind it. Lock held, also below. */
static unsigned int first_from(const struct meta_homes *homes, uint64_t address)
{
	unsigned int low = 0, high = homes->count;

	while (low < high) {
		unsigned int middle = (low + high) / 2;

		if (homes->at[middle].address < address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Those from `from` on that `leaves` says leave, up to `end`. Once the volume has failed they are all that there is. */
static void leave(struct meta *meta, unsigned int from, uint64_t end,
		  bool (*leaves)(const struct meta *meta, const struct home *home))
{
	struct meta_homes *homes = &meta->homes;
	unsigned int kept = from;

	if (atomic_load(&meta->failed))
		return;
	for (unsigned int i = from; i < homes->count; i++) {
		struct home *home = &homes->at[i];

		if (home->address < end && leaves(meta, home))
			homes->idle[homes->idle_count++] = home->data;
		else
			homes->at[kept++] = *home;
	}
	homes->count = kept;
	atomic_store(&homes->waiting, kept);
}

/* ---- the way home ---- */

int home_write(struct meta *meta, const struct meta_late *late, size_t count)
{
	struct batch batch;

	batch_begin(&batch, meta->mirror, NULL);
	for (size_t i = 0, run; i < count && !batch.error; i += run) {
		struct batch_io *write;

		for (run = 1; run < RUN_BLOCKS && i + run < count; run++) {
			if (late[i + run].address != late[i].address + run)
				break;
		}
		write = batch_next(&batch, run * FORMAT_BLOCK, true);
		write->io.op = MIRROR_WRITE;
		write->io.block = late[i].address;
		write->io.count = (uint32_t)run;
		for (size_t n = 0; n < run; n++)
			memcpy(write->io.buf->data + n * FORMAT_BLOCK, late[i + n].data, FORMAT_BLOCK);
		batch_submit(&batch, write);
	}
	return batch_end(&batch);
}

static bool is_home(const struct meta *meta, const struct home *home)
{
	(void)meta;
	return home->flying;
}

/* Brings those of these addresses home; nobody else is bringing any. Lock held at call and return, not meanwhile. */
static void bring(struct meta *meta, uint64_t from, uint64_t end)
{
	struct meta_homes *homes = &meta->homes;
	size_t count = 0;
	int error;

	for (unsigned int i = first_from(homes, from); i < homes->count && homes->at[i].address < end; i++) {
		homes->at[i].flying = true;
		homes->flying[count++] = (struct meta_late){ homes->at[i].address, homes->at[i].data };
	}
	homes->busy = true;
	mutex_unlock(&homes->lock);
	error = home_write(meta, homes->flying, count);
	if (error)
		meta_fail(meta, error);
	mutex_lock(&homes->lock);
	homes->busy = false;
	leave(meta, 0, UINT64_MAX, is_home);
	cond_broadcast(&homes->moved);
}

static bool any_waits(const struct meta_homes *homes, uint64_t from, uint64_t end, uint64_t order)
{
	for (unsigned int i = first_from(homes, from); i < homes->count && homes->at[i].address < end; i++) {
		if (homes->at[i].order <= order)
			return true;
	}
	return false;
}

static int bring_range(struct meta *meta, uint64_t from, uint64_t end)
{
	struct meta_homes *homes = &meta->homes;
	uint64_t order;
	int error = 0;

	if (!atomic_load(&homes->waiting))
		return 0;
	mutex_lock(&homes->lock);
	order = homes->order;
	while (any_waits(homes, from, end, order) && !(error = atomic_load(&meta->failed))) {
		if (homes->busy)
			cond_wait(&homes->moved, &homes->lock);
		else
			bring(meta, from, end);
	}
	mutex_unlock(&homes->lock);
	return error;
}

int home_bring(struct meta *meta, uint64_t address, uint32_t count)
{
	return bring_range(meta, address, address + count);
}

int home_bring_all(struct meta *meta)
{
	return bring_range(meta, 0, UINT64_MAX);
}

/* ---- who comes, and who need not go ---- */

int home_prepare(struct meta_txn *txn)
{
	struct meta_homes *homes = &txn->meta->homes;
	unsigned int count = txn->chunk->data_count;
	int error = 0;

	if (!count)
		return 0;
	mutex_lock(&homes->lock);
	while (homes->idle_count < count && !(error = meta_writable(txn->meta))) {
		if (homes->busy || !homes->count) /* or others have it, who are about to commit */
			cond_wait(&homes->moved, &homes->lock);
		else
			bring(txn->meta, 0, UINT64_MAX);
	}
	while (!error && txn->home_count < count)
		txn->homes[txn->home_count++].data = homes->idle[--homes->idle_count];
	mutex_unlock(&homes->lock);
	for (unsigned int i = 0; i < txn->home_count; i++)
		memcpy(txn->homes[i].data, txn->chunk->data + i * (size_t)FORMAT_BLOCK, FORMAT_BLOCK);
	return error;
}

void home_give_back(struct meta_txn *txn)
{
	struct meta_homes *homes = &txn->meta->homes;

	if (!txn->home_count)
		return;
	mutex_lock(&homes->lock);
	while (txn->home_count)
		homes->idle[homes->idle_count++] = txn->homes[--txn->home_count].data;
	cond_broadcast(&homes->moved);
	mutex_unlock(&homes->lock);
}

bool home_commit(struct meta_txn *txn)
{
	struct meta *meta = txn->meta;
	struct meta_homes *homes = &meta->homes;
	bool due;

	if (!txn->home_count)
		return false;
	mutex_lock(&homes->lock);
	homes->order++;
	while (txn->home_count) {
		const struct meta_txn_home *block = &txn->homes[--txn->home_count];
		unsigned int at = first_from(homes, block->address);

		assert(at == homes->count || homes->at[at].address != block->address); /* I9 */
		memmove(homes->at + at + 1, homes->at + at, (homes->count - at) * sizeof(*homes->at));
		homes->count++;
		homes->at[at] = (struct home){
			.address = block->address,
			.generation = meta->generation,
			.order = homes->order,
			.data = block->data,
		};
	}
	atomic_store(&homes->waiting, homes->count);
	due = homes->count >= homes->room / 2;
	cond_broadcast(&homes->moved);
	mutex_unlock(&homes->lock);
	return due;
}

/* No tree that reaches the legs refers to it, and nobody reads it. */
static bool is_spared(const struct meta *meta, const struct home *home)
{
	return home->generation == meta->generation && !home->wanted && !home->flying;
}

void home_freed(struct meta *meta, uint64_t address, uint64_t count)
{
	struct meta_homes *homes = &meta->homes;

	if (!atomic_load(&homes->waiting))
		return;
	mutex_lock(&homes->lock);
	leave(meta, first_from(homes, address), address + count, is_spared);
	cond_broadcast(&homes->moved);
	mutex_unlock(&homes->lock);
}

/* ---- who reads ---- */

bool home_want(struct meta *meta, uint64_t address, uint32_t count)
{
	struct meta_homes *homes = &meta->homes;
	bool any = false;

	if (!atomic_load(&homes->waiting))
		return false;
	mutex_lock(&homes->lock);
	for (unsigned int i = first_from(homes, address); i < homes->count; i++) {
		if (homes->at[i].address >= address + count)
			break;
		homes->at[i].wanted = any = true;
	}
	mutex_unlock(&homes->lock);
	return any;
}

uint32_t home_late(struct meta *meta, uint64_t address, uint32_t count, const void **data)
{
	struct meta_homes *homes = &meta->homes;
	unsigned int at;

	if (!atomic_load(&meta->failed) || !atomic_load(&homes->waiting))
		return replay_late(meta, address, count, data);
	*data = NULL;
	mutex_lock(&homes->lock);
	at = first_from(homes, address);
	if (at < homes->count && homes->at[at].address - address < count) {
		uint64_t before = homes->at[at].address - address;

		*data = before ? NULL : homes->at[at].data;
		count = before ? (uint32_t)before : 1;
	}
	mutex_unlock(&homes->lock);
	return count;
}
