/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A node's way into memory: from a pointer to a page of the cache.
 *
 * Nothing is taken for a node that is not the one the pointer means: right by its checksum (I3, so the mirror tries
 * the other leg), of that generation and level, with keys inside the bounds that its parent leaves it. What is in the
 * cache already was held against a pointer before, but a broken tree may name a node twice, so all but the checksum is
 * looked at again.
 */
#include "meta_private.h"

#include <errno.h>
#include <string.h>

struct node_read {
	struct mirror_io io;
	struct meta *meta;
	uint64_t generation;
	uint32_t crc;
	int level;
	const struct node_bounds *bounds;
};

const struct node_bounds load_everything = { .endless = true };

static bool node_read_verify(const struct mirror_io *io, uint32_t unit, const void *data)
{
	const struct node_read *read = (const struct node_read *)io;

	(void)unit;
	return node_valid(data, read->meta->volume, io->block, read->level, &read->generation, &read->crc) &&
	       node_within(data, read->bounds);
}

/* Reads a node into the page that cache_get() gave to be filled. */
static int node_fill(struct meta *meta, struct cache_page *page, uint64_t generation, uint32_t crc, int level,
		     const struct node_bounds *bounds)
{
	struct node_read read = {
		.io = { .op = MIRROR_READ,
			.block = page->index,
			.count = NODE_BLOCKS,
			.verify = node_read_verify,
			.verify_blocks = NODE_BLOCKS },
		.meta = meta,
		.generation = generation,
		.crc = crc,
		.level = level,
		.bounds = bounds,
	};
	int error;

	read.io.buf = iobuf_get(mirror_pool(meta->mirror), NODE_BYTES);
	read.io.pin = mirror_pin(meta->mirror);
	error = mirror_submit_wait(meta->mirror, &read.io);
	if (!error)
		memcpy(page->data, read.io.buf->data + read.io.buf_offset, NODE_BYTES);
	mirror_pin_put(read.io.pin);
	iobuf_put(read.io.buf);
	cache_filled(page, error);
	return error;
}

static bool address_valid(const struct meta *meta, uint64_t address, uint64_t generation)
{
	if (meta->blind && generation == meta->generation && address >= meta->heap_end)
		return true;
	return address >= meta->heap_start && address <= meta->heap_end - NODE_BLOCKS;
}

/* Two pointers of a broken tree may name one node. */
static bool is_meant(const struct cache_page *page, uint64_t generation, int level, const struct node_bounds *bounds)
{
	return node_generation(page->data) == generation && node_level(page->data) == level &&
	       node_within(page->data, bounds);
}

static int load(struct meta *meta, uint64_t address, uint64_t generation, uint32_t crc, int level,
		const struct node_bounds *bounds, struct cache_page **page)
{
	struct cache_page *got;
	int error;

	*page = NULL;
	if (!address_valid(meta, address, generation) || level < 0)
		return -EIO;
	error = cache_get(&meta->nodes, address, true, true, &got);
	if (error == 1)
		error = node_fill(meta, got, generation, crc, level, bounds);
	else if (error)
		return error;
	else if (!is_meant(got, generation, level, bounds))
		error = -EIO;
	if (error)
		cache_put(got);
	else
		*page = got;
	return error;
}

int load_root(struct meta *meta, struct cache_page **page)
{
	struct cache_page *held = meta->root_page;

	if (held && held->index == meta->root.address && node_generation(held->data) == meta->root.generation) {
		cache_ref(held);
		*page = held;
		return 0;
	}
	return load(meta, meta->root.address, meta->root.generation, meta->root.crc, (int)meta->root.level,
		    &load_everything, page);
}

struct format_pointer load_pointer(const void *node, unsigned int slot)
{
	struct format_pointer pointer;

	memcpy(&pointer, node_value(node, slot, NULL), sizeof(pointer));
	return pointer;
}

int load_child(struct meta *meta, const struct cache_page *parent, unsigned int slot,
	       const struct node_bounds *bounds, struct cache_page **page)
{
	struct format_pointer at = load_pointer(parent->data, slot);

	*page = NULL;
	if (le64_get(at.generation) > node_generation(parent->data))
		return -EIO;
	return load(meta, le64_get(at.address), le64_get(at.generation), le32_get(at.crc),
		    node_level(parent->data) - 1, bounds, page);
}

/* NULL: it is not in memory, or not what is meant; whoever may wait tells why. */
static struct cache_page *in_memory(struct meta *meta, uint64_t address, uint64_t generation, int level,
				    const struct node_bounds *bounds)
{
	struct cache_page *page;

	if (cache_get(&meta->nodes, address, false, false, &page))
		return NULL;
	if (is_meant(page, generation, level, bounds))
		return page;
	cache_put(page);
	return NULL;
}

int load_leaf_now(struct meta *meta, const struct meta_key *key, struct cache_page **leaf)
{
	struct node_bounds bounds = load_everything;
	struct cache_page *page = in_memory(meta, meta->root.address, meta->root.generation, (int)meta->root.level,
					    &bounds);

	while (page && node_level(page->data)) {
		unsigned int slot = node_child_slot(page->data, key);
		struct format_pointer at = load_pointer(page->data, slot);
		int level = node_level(page->data) - 1;

		bounds = node_child_bounds(page->data, slot, &bounds);
		cache_put(page);
		page = in_memory(meta, le64_get(at.address), le64_get(at.generation), level, &bounds);
	}
	*leaf = page;
	return page ? 0 : -EAGAIN;
}
