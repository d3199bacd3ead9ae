/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Nodes that will soon be wanted are read together, so that who goes through the tree waits for the legs once in a
 * while and not for each node. It changes nothing but time: a node that cannot be read is read again by who wants it,
 * and that one is told. Memory that is short is left to others.
 */
#include "meta_private.h"

#include <errno.h>
#include <string.h>

static bool ahead_verify(const struct mirror_io *io, uint32_t unit, const void *data)
{
	const struct batch_io *read = (const struct batch_io *)io;
	const struct meta *meta = read->context;
	uint64_t generation = le64_get(read->node.pointer.generation);
	uint32_t crc = le32_get(read->node.pointer.crc);

	(void)unit;
	return node_valid(data, meta->volume, io->block, read->node.level, &generation, &crc);
}

static void ahead_answered(struct batch_io *read)
{
	if (!read->io.error)
		memcpy(read->node.page->data, read->io.buf->data + read->io.buf_offset, NODE_BYTES);
	cache_filled(read->node.page, read->io.error);
	cache_put(read->node.page);
}

void ahead_begin(struct ahead *ahead, struct meta *meta)
{
	ahead->meta = meta;
	ahead->pin = mirror_pin(meta->mirror);
	batch_begin(&ahead->batch, meta->mirror, ahead_answered);
}

void ahead_end(struct ahead *ahead)
{
	batch_end(&ahead->batch);
	mirror_pin_put(ahead->pin);
}

bool ahead_node(struct ahead *ahead, const struct format_pointer *pointer, int level)
{
	struct meta *meta = ahead->meta;
	uint64_t address = le64_get(pointer->address);
	struct cache_page *page;
	struct batch_io *read;
	int error;

	if (address < meta->heap_start || address > meta->heap_end - NODE_BLOCKS)
		return true;
	read = batch_next(&ahead->batch, NODE_BYTES, false);
	if (!read)
		return false;
	error = cache_get(&meta->nodes, address, true, false, &page);
	if (error != 1) {
		batch_unused(&ahead->batch, read);
		if (!error)
			cache_put(page);
		return !error;
	}
	read->io.op = MIRROR_READ;
	read->io.block = address;
	read->io.count = NODE_BLOCKS;
	read->io.verify = ahead_verify;
	read->io.verify_blocks = NODE_BLOCKS;
	read->io.pin = ahead->pin;
	read->context = meta;
	read->node.page = page;
	read->node.pointer = *pointer;
	read->node.level = level;
	batch_submit(&ahead->batch, read);
	return true;
}

bool ahead_key(struct ahead *ahead, const struct meta_key *key)
{
	struct meta *meta = ahead->meta;
	struct format_pointer pointer = {
		.address = le64_of(meta->root.address),
		.generation = le64_of(meta->root.generation),
		.crc = le32_of(meta->root.crc),
	};
	int level = (int)meta->root.level, error;
	struct cache_page *page;

	for (;; level--) {
		error = cache_get(&meta->nodes, le64_get(pointer.address), false, false, &page);
		if (error == -ENOENT)
			return ahead_node(ahead, &pointer, level);
		if (error) /* being read */
			return true;
		if (!level || node_level(page->data) != level)
			break;
		memcpy(&pointer, node_value(page->data, node_child_slot(page->data, key), NULL), sizeof(pointer));
		cache_put(page);
	}
	cache_put(page);
	return true;
}

unsigned int ahead_children(struct meta *meta, const struct cache_page *parent, unsigned int slot,
			    const struct meta_key *last)
{
	unsigned int count = node_count(parent->data);
	struct ahead ahead;
	bool more = true;

	ahead_begin(&ahead, meta);
	for (; more && slot < count; slot++) {
		struct meta_key key = node_key(parent->data, slot);
		struct format_pointer pointer;

		if (meta_key_compare(&key, last) > 0)
			break;
		memcpy(&pointer, node_value(parent->data, slot, NULL), sizeof(pointer));
		more = ahead_node(&ahead, &pointer, node_level(parent->data) - 1);
	}
	ahead_end(&ahead);
	return slot;
}
