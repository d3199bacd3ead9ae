/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Making a tree anew from what is left of it.
 *
 *   rebuild.c  what the damaged tree still names, the new nodes, the slot that makes them the tree
 *   salvage.c  what is found for the gaps: nodes that lie about on the legs, and what proves that they are not old
 */
#ifndef MIRRORFS_META_REBUILD_PRIVATE_H
#define MIRRORFS_META_REBUILD_PRIVATE_H

#include "meta_private.h"

/* A leaf of the tree to be built. */
struct rebuild_leaf {
	struct meta_key first; /* nothing in it is below that */
	struct format_pointer pointer;
};

/* Keys below a pointer that leads to nothing readable. */
struct rebuild_gap {
	struct node_bounds bounds;
	uint64_t generation; /* of the lost node: none below it is newer */
	bool leaf; /* it was a leaf: none that is found can be it */
};

struct rebuild {
	struct meta *meta;
	struct meta_rebuild *told;
	struct rebuild_gap *gaps; /* ascending */
	size_t gap_count, gap_room;
	struct rebuild_leaf *leaves; /* ascending */
	size_t leaf_count, leaf_room;
	/* A bit for each node's room below the boundary: the damaged tree has it; something was found there. */
	uint8_t *used, *found;
	uint64_t units, next_unit; /* looked for downwards */
};

/* ---- rebuild.c ---- */

int rebuild_add_leaf(struct rebuild *rebuild, const struct meta_key *first, const struct format_pointer *pointer);
/* Seals the node, which has no address yet, and writes it to free space. */
int rebuild_write_node(struct rebuild *rebuild, void *node, struct format_pointer *pointer);
void rebuild_mark(struct rebuild *rebuild, uint8_t *bits, uint64_t address);

/* ---- salvage.c ---- */

struct salvage;
/* Looks at all of the heap, on each leg. */
int salvage_scan(struct rebuild *rebuild, struct salvage **salvage);
/* Adds to the leaves what is to stand in this gap. */
int salvage_gap(struct rebuild *rebuild, struct salvage *salvage, const struct rebuild_gap *gap);
void salvage_free(struct salvage *salvage);

#endif
