/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A tree node in memory is a tree node on disk: the 16 KiB of format/node.h. These are the operations on one such
 * buffer. Pure: no I/O, no locks, no allocation; the caller holds what it must.
 */
#ifndef MIRRORFS_META_NODE_PRIVATE_H
#define MIRRORFS_META_NODE_PRIVATE_H

#include "mirrorfs/format/node.h"
#include "mirrorfs/meta.h"

/* What an item costs besides its value. */
#define NODE_ITEM_BYTES sizeof(struct format_item)

void node_init(void *node, uint8_t level, const uint8_t volume[16], uint64_t address, uint64_t generation);

unsigned int node_count(const void *node);
uint8_t node_level(const void *node);
uint64_t node_generation(const void *node);
struct meta_key node_key(const void *node, unsigned int slot);
const void *node_value(const void *node, unsigned int slot, size_t *length);
void *node_value_mutable(void *node, unsigned int slot);

/* The first slot whose key is >= *key (count: none); *exact: it is equal. */
unsigned int node_search(const void *node, const struct meta_key *key, bool *exact);
/* Of an internal node: the slot of the child below which *key belongs. Slot 0 takes what is smaller than all. */
unsigned int node_child_slot(const void *node, const struct meta_key *key);

/* Bytes that further items with their values may take. */
size_t node_room(const void *node);
/* The caller has made sure of the room. */
void node_insert(void *node, unsigned int slot, const struct meta_key *key, const void *value, size_t length);
void node_remove(void *node, unsigned int slot);
/* Gives the item at `slot` another key, which keeps the order. */
void node_rekey(void *node, unsigned int slot, const struct meta_key *key);
/* Moves the items from `slot` on to the end of `to`, which has room. */
void node_move(void *node, unsigned int slot, void *to);
/* The slot at which a split leaves about half of the bytes on each side; 1 .. count - 1. */
unsigned int node_middle(const void *node);

/* The keys that may be found below a node: from `least` up to and excluding `end`. */
struct node_bounds {
	struct meta_key least, end;
	bool endless; /* `end` says nothing */
};
/* A lookup goes by the parents' keys: what a node has outside of them would be listed, and never found. */
bool node_within(const void *node, const struct node_bounds *bounds);
/* Of the child at `slot` of an internal node that has these bounds itself. */
struct node_bounds node_child_bounds(const void *node, unsigned int slot, const struct node_bounds *bounds);

/*
 * Everything that code above relies on: magic, volume, address, level, sizes, offsets, order of keys, and the checksum.
 * `generation` and `crc` are what the parent says; NULL where nobody says. Shared by reading, scrubbing and checking.
 */
bool node_valid(const void *node, const uint8_t volume[16], uint64_t address, int level, const uint64_t *generation,
		const uint32_t *crc);
/* Sets the checksum field and returns it. */
uint32_t node_seal(void *node);
/* A node that is being changed has 0 there. */
void node_unseal(void *node);
uint32_t node_sealed(const void *node);

#endif
