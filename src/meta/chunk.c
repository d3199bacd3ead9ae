/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Chunks of nodes above the boundary. A volume of many small files has more nodes than fit below it. They do not go
 * just anywhere: where each file is a block, there would soon be no whole node's room left between them. A chunk is
 * taken from the data as a whole, and goes back as a whole.
 *
 * No record on the legs says what is a chunk. At mount, what is free around a node above the boundary is one again;
 * and what the reserve got when the volume grew, for good, which the slots tell.
 */
#include "meta_private.h"

static uint64_t chunk_of(uint64_t address)
{
	return address - address % CHUNK_BLOCKS;
}

/* Blocks that are taken from the data's view become free for nodes. Without memory for it they are lost until then. */
static bool give(struct meta *meta, uint64_t start, uint64_t length)
{
	if (range_free(meta->node_range, start, length))
		return false;
	meta->chunk_blocks += length;
	return true;
}

bool chunk_take(struct meta *meta)
{
	bool taken = false;

	mutex_lock(&meta->alloc_lock);
	/* What is promised or held back is not to be had. Smaller ones when there is no other way. */
	for (uint64_t size = CHUNK_BLOCKS; size >= NODE_BLOCKS && !taken; size /= 4) {
		const struct range_request request = {
			.at_least = size,
			.at_most = size,
			.align = size,
			.zone = RANGE_LOW,
		};
		struct range_extent got;

		if (range_free_count(meta->data_range) < meta->promised + CUT_BLOCKS + size ||
		    range_alloc(meta->data_range, &request, &got))
			continue;
		taken = give(meta, got.start, size);
		if (taken && size == CHUNK_BLOCKS)
			(void)meta_list_add(&meta->chunks, got.start); /* else it does not go back in this mount */
	}
	mutex_unlock(&meta->alloc_lock);
	return taken;
}

void chunk_top_up(struct meta *meta)
{
	while (range_free_count(meta->node_range) < meta->reserve && chunk_take(meta))
		;
}

void chunk_return(struct meta *meta)
{
	mutex_lock(&meta->alloc_lock);
	for (size_t i = meta->chunks.count; i > 0; i--) {
		uint64_t chunk = meta->chunks.at[i - 1];

		if (range_free_count(meta->node_range) < meta->reserve + CHUNK_BLOCKS)
			break;
		if (chunk < meta->boundary || chunk > meta->heap_end - CHUNK_BLOCKS)
			continue; /* what a mount found around a node at an end of the data is not all of it data's */
		if (range_reserve(meta->node_range, chunk, CHUNK_BLOCKS))
			continue; /* in use */
		if (range_free(meta->data_range, chunk, CHUNK_BLOCKS))
			continue;
		meta->chunk_blocks -= CHUNK_BLOCKS;
		meta->chunks.at[i - 1] = meta->chunks.at[--meta->chunks.count];
	}
	mutex_unlock(&meta->alloc_lock);
}

static void chunks_sort(struct meta_list *chunks)
{
	size_t kept = 0;

	meta_list_sort(chunks);
	for (size_t i = 0; i < chunks->count; i++)
		if (!kept || chunks->at[kept - 1] != chunks->at[i])
			chunks->at[kept++] = chunks->at[i];
	chunks->count = kept;
}

/* What is free around its nodes. */
static void gather(struct meta *meta, uint64_t chunk)
{
	for (uint64_t at = chunk; at < chunk + CHUNK_BLOCKS; at += NODE_BLOCKS) {
		if (at >= meta->boundary && at <= meta->heap_end - NODE_BLOCKS &&
		    !range_reserve(meta->data_range, at, NODE_BLOCKS))
			(void)give(meta, at, NODE_BLOCKS);
	}
}

static bool in_grown(const struct meta *meta, uint64_t address)
{
	return address >= meta->grown.start && address - meta->grown.start < meta->grown.length;
}

int chunk_gather(struct meta *meta)
{
	int error = 0;

	meta->grown = (struct range_extent){ le64_get(meta->super.grown_start), le64_get(meta->super.grown_blocks) };
	for (uint64_t at = 0; at < meta->grown.length; at += CHUNK_BLOCKS)
		gather(meta, meta->grown.start + at);
	for (unsigned int level = meta->root.level + 1; level > 0 && !error; level--) {
		struct node_bounds bounds = { .endless = false };

		while (!bounds.endless && !error) {
			struct format_pointer pointer;

			error = tree_pointer(meta, level - 1, &bounds.end, &pointer, &bounds);
			if (!error && le64_get(pointer.address) >= meta->boundary &&
			    !in_grown(meta, le64_get(pointer.address)))
				error = meta_list_add(&meta->chunks, chunk_of(le64_get(pointer.address)));
		}
	}
	chunks_sort(&meta->chunks);
	for (size_t i = 0; i < meta->chunks.count && !error; i++)
		gather(meta, meta->chunks.at[i]);
	/* The tree may have grown into the reserve, whose place chunks took that had no node when the mount ended. */
	if (!error)
		chunk_top_up(meta);
	return error;
}
