/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A checkpoint: the tree after exactly record S, on the legs.
 *
 *   cut     under the tree's lock: seal the nodes of this generation, begin the next one
 *   ring    write every transaction of the old generation; the last record is S
 *   writes  wait for file data on its way to where these transactions map it (data may still be in the ring alone)
 *   nodes   write them to free space (I1), flush
 *   slot    the older one; durable on both legs
 *   free    ring space up to S, and the nodes that the new tree does not need
 *
 * Transactions go on after the cut: they copy a node before they touch it.
 */
#include "meta_private.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct cut {
	struct meta_root root;
	uint64_t generation;
	uint64_t sequence; /* of the last transaction in it */
	uint64_t writes; /* order of the last file write submitted before */
	int64_t data_blocks;
	struct meta_list dirty, freed;
};

static int cut_make(struct meta *meta, struct cut *cut)
{
	int error;

	rwlock_write(&meta->tree_lock);
	error = tree_seal(meta);
	if (!error) {
		*cut = (struct cut){
			.root = meta->root,
			.generation = meta->generation,
			.sequence = meta_sequence(meta),
			.writes = alloc_write_order(meta),
			.data_blocks = meta->data_blocks,
			.dirty = meta->dirty,
			.freed = meta->freed,
		};
		memset(&meta->dirty, 0, sizeof(meta->dirty));
		memset(&meta->freed, 0, sizeof(meta->freed));
		meta->generation++;
	}
	rwlock_unlock(&meta->tree_lock);
	return error;
}

static int by_address(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Writes nodes that are neighbours on the legs together. */
static int write_nodes(struct meta *meta, const struct meta_list *dirty)
{
	const size_t most = IOBUF_MAX / NODE_BYTES;
	int error = 0;

	if (dirty->count)
		qsort(dirty->at, dirty->count, sizeof(*dirty->at), by_address);
	for (size_t i = 0, run; i < dirty->count && !error; i += run) {
		struct mirror_io io = { .op = MIRROR_WRITE, .block = dirty->at[i] };
		struct cache_page *pages[IOBUF_MAX / NODE_BYTES];

		run = 1;
		while (run < most && i + run < dirty->count && dirty->at[i + run] == dirty->at[i] + run * NODE_BLOCKS)
			run++;
		io.count = (uint32_t)(run * NODE_BLOCKS);
		io.buf = iobuf_get(mirror_pool(meta->mirror), run * NODE_BYTES);
		for (size_t n = 0; n < run; n++) {
			int there = cache_get(&meta->nodes, dirty->at[i + n], false, true, &pages[n]);

			assert(!there && cache_write_begin(pages[n])); /* dirty nodes stay in memory */
			(void)there;
			memcpy(io.buf->data + n * NODE_BYTES, pages[n]->data, NODE_BYTES);
		}
		error = mirror_submit_wait(meta->mirror, &io);
		iobuf_put(io.buf);
		for (size_t n = 0; n < run; n++) {
			cache_written(pages[n], error);
			cache_put(pages[n]);
		}
	}
	return error;
}

static int cut_write(struct meta *meta, const struct cut *cut)
{
	struct mirror_io flush = { .op = MIRROR_FLUSH };
	uint64_t record, position, used;
	uint32_t crc;
	int error = journal_write(meta, cut->sequence);

	if (error)
		return error;
	mutex_lock(&meta->journal_lock);
	/* Records after the cut may be in the ring already; they stay needed. */
	record = meta->cut_record;
	crc = meta->cut_crc;
	position = meta->cut_position;
	used = meta->ring_after_cut;
	mutex_unlock(&meta->journal_lock);
	(void)used;
	alloc_wait_writes(meta, cut->writes);
	error = write_nodes(meta, &cut->dirty);
	if (!error)
		error = mirror_submit_wait(meta->mirror, &flush);
	if (!error) {
		meta->super.data_blocks = le64_of((uint64_t)cut->data_blocks);
		error = super_write(meta, &cut->root, cut->generation, record, crc, position);
	}
	return error;
}
