/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A checkpoint: the tree after exactly record S, on the legs.
 *
 *   cut     under the tree's lock: seal the nodes of this generation, begin the next one
 *   ring    write every transaction of the old generation; the last record is S
 *   homes   bring file data that is in the ring alone to where these transactions map it
 *   nodes   write them to free space (I1), flush
 *   slot    the older one; durable on both legs
 *   free    ring space up to S, and the nodes and data that the new tree does not need
 *
 * Transactions go on after the cut: they copy a node before they touch it.
 */
#include "meta_private.h"

#include "mirrorfs/base/clock.h"
#include "mirrorfs/base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct cut {
	struct meta_root root;
	uint64_t generation;
	uint64_t sequence; /* of the last transaction in it */
	int64_t data_blocks;
	uint64_t freed_blocks;
	struct meta_list dirty;
	struct meta_extents freed_nodes, freed_data;
};

/* Leaves cut->generation 0 if there is nothing to write. */
static int cut_make(struct meta *meta, struct cut *cut, bool always, uint64_t generation)
{
	int error = 0;

	rwlock_write(&meta->tree_lock);
	always |= meta_sequence(meta) != meta->cut_sequence && (!generation || generation == meta->generation);
	if (always)
		error = tree_seal(meta);
	if (!error && always) {
		*cut = (struct cut){
			.root = meta->root,
			.generation = meta->generation,
			.sequence = meta_sequence(meta),
			.data_blocks = meta->data_blocks,
			.freed_blocks = atomic_load(&meta->freed_blocks),
			.dirty = meta->dirty,
			.freed_nodes = meta->freed_nodes,
			.freed_data = meta->freed_data,
		};
		memset(&meta->dirty, 0, sizeof(meta->dirty));
		memset(&meta->freed_nodes, 0, sizeof(meta->freed_nodes));
		memset(&meta->freed_data, 0, sizeof(meta->freed_data));
		meta->cut_sequence = cut->sequence;
		meta->generation++;
		/* What is taken ahead may lie in a chunk that nodes no longer need. */
		alloc_spare_trim(meta, 0);
	}
	rwlock_unlock(&meta->tree_lock);
	return error;
}

/* ---- those who wait ---- */

static void progress_begin(struct meta *meta, size_t nodes)
{
	mutex_lock(&meta->journal_lock);
	meta->progress.under_way = true;
	meta->progress.nodes = nodes;
	meta->progress.written = 0;
	meta->progress.moves++;
	cond_broadcast(&meta->progressed);
	mutex_unlock(&meta->journal_lock);
}

static void progress_nodes(struct meta *meta, size_t nodes)
{
	mutex_lock(&meta->journal_lock);
	meta->progress.written += nodes;
	meta->progress.moves++;
	cond_broadcast(&meta->progressed);
	mutex_unlock(&meta->journal_lock);
}

static void progress_end(struct meta *meta)
{
	mutex_lock(&meta->journal_lock);
	meta->progress.under_way = false;
	meta->progress.moves++;
	cond_broadcast(&meta->progressed);
	mutex_unlock(&meta->journal_lock);
}

void checkpoint_wait(struct meta *meta, uint64_t moves)
{
	mutex_lock(&meta->journal_lock);
	while (meta->progress.moves == moves)
		cond_wait(&meta->progressed, &meta->journal_lock);
	mutex_unlock(&meta->journal_lock);
}

/* ---- its parts ---- */

/* Dirty nodes stay in memory, and nobody else writes them. */
static struct cache_page *dirty_node(struct meta *meta, uint64_t address)
{
	struct cache_page *page;

	if (cache_get(&meta->nodes, address, false, true, &page))
		abort();
	return page;
}

static void nodes_written(struct batch_io *write)
{
	size_t count = write->io.count / NODE_BLOCKS;

	for (size_t n = 0; n < count; n++) {
		struct cache_page *page = dirty_node(write->context, write->io.block + n * NODE_BLOCKS);

		cache_written(page, write->io.error);
		cache_put(page);
	}
	progress_nodes(write->context, count);
}

/* Writes nodes that are neighbours on the legs together. */
static int write_nodes(struct meta *meta, struct meta_list *dirty)
{
	const size_t most = IOBUF_MAX / NODE_BYTES;
	struct batch batch;

	meta_list_sort(dirty);
	batch_begin(&batch, meta->mirror, nodes_written);
	for (size_t i = 0, run; i < dirty->count && !batch.error; i += run) {
		struct batch_io *write;

		run = 1;
		while (run < most && i + run < dirty->count && dirty->at[i + run] == dirty->at[i] + run * NODE_BLOCKS)
			run++;
		write = batch_next(&batch, run * NODE_BYTES, true);
		write->context = meta;
		write->io.op = MIRROR_WRITE;
		write->io.block = dirty->at[i];
		write->io.count = (uint32_t)(run * NODE_BLOCKS);
		for (size_t n = 0; n < run; n++) {
			struct cache_page *page = dirty_node(meta, dirty->at[i + n]);

			if (!cache_write_begin(page))
				abort();
			memcpy(write->io.buf->data + n * NODE_BYTES, page->data, NODE_BYTES);
			cache_put(page);
		}
		batch_submit(&batch, write);
	}
	return batch_end(&batch);
}

static int write_all(struct meta *meta, struct cut *cut, struct meta_cut *end)
{
	int error = journal_write(meta, cut->sequence);

	if (error)
		return error;
	mutex_lock(&meta->journal_lock);
	*end = meta->cut[cut->generation & 1];
	if (end->generation != cut->generation) { /* it has no record: S is still that of the last checkpoint */
		*end = meta->last_cut;
		end->generation = cut->generation;
	}
	mutex_unlock(&meta->journal_lock);
	/* If that fails the ring has the only copy, and keeps it. */
	error = home_bring_all(meta);
	if (!error)
		error = write_nodes(meta, &cut->dirty);
	if (!error)
		error = io_flush(meta->mirror);
	if (!error) {
		meta->super.data_blocks = le64_of((uint64_t)cut->data_blocks);
		error = super_write(meta, &cut->root, end);
	}
	return error;
}

/* `generation`: only if that is still the running one; 0: any. */
static int checkpoint_make(struct meta *meta, bool always, uint64_t generation)
{
	struct cut cut = { .generation = 0 };
	struct meta_cut end;
	uint64_t began_ns;
	int error;

	mutex_lock(&meta->checkpoint_lock);
	began_ns = clock_now_ns();
	error = meta_writable(meta);
	if (!error)
		tree_seal_ahead(meta);
	if (!error)
		error = cut_make(meta, &cut, always, generation);
	if (!error && cut.generation) {
		progress_begin(meta, cut.dirty.count);
		error = write_all(meta, &cut, &end);
	}
	if (!error && cut.generation) {
		mutex_lock(&meta->journal_lock);
		meta->last_cut = end;
		meta->ring_released = end.written;
		mutex_unlock(&meta->journal_lock);
		alloc_defer(meta, meta->node_range, &cut.freed_nodes);
		alloc_defer(meta, meta->data_range, &cut.freed_data);
		atomic_fetch_sub(&meta->freed_blocks, cut.freed_blocks);
		mirror_generation_durable(meta->mirror, cut.generation);
		atomic_fetch_add(&meta->checkpoints, 1);
		histograms_add(meta->times, META_TIME_CHECKPOINT, clock_now_ns() - began_ns);
		log_debug("checkpoint generation=%llu nodes=%zu us=%llu", (unsigned long long)cut.generation,
			  cut.dirty.count, (unsigned long long)(clock_now_ns() - began_ns) / 1000);
	} else if (error && cut.generation) {
		meta_fail(meta, error);
	}
	progress_end(meta); /* also if there was nothing to do, or it cannot be done: who waits looks for himself */
	free(cut.dirty.at);
	free(cut.freed_nodes.at);
	free(cut.freed_data.at);
	alloc_charge(meta);
	mutex_unlock(&meta->checkpoint_lock);
	if (!error)
		alloc_release(meta);
	return error;
}

int checkpoint_run(struct meta *meta)
{
	return checkpoint_make(meta, true, 0);
}

int checkpoint_of(struct meta *meta, uint64_t generation)
{
	return checkpoint_make(meta, false, generation);
}

int meta_checkpoint(struct meta *meta)
{
	return checkpoint_make(meta, false, 0);
}
