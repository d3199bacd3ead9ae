/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The free gaps of a space: a B+ tree of (start, length) in ascending order, where each inner node knows, for each
 * child, the most that fits into one gap below it. The taken ranges are what lies between the gaps, so
 * neighbours merge by themselves on either side. tree.c changes it, search.c looks into it.
 *
 * Classes. With an alignment, how much fits into a gap depends on where the gap lies, so a maximum of lengths
 * would not lead to a fit. The maxima are therefore kept once for each alignment in use: class 0 is alignment 1,
 * the others join when first asked for, by one pass over the tree.
 *
 * Paths. A path is a place in the tree that its owner keeps from call to call; as long as no node was made,
 * moved or dropped since, the next call near it starts at the leaf and not at the root.
 *
 * The caller holds the lock.
 */
#ifndef MIRRORFS_RANGE_TREE_PRIVATE_H
#define MIRRORFS_RANGE_TREE_PRIVATE_H

#include "mirrorfs/range.h"

#define TREE_LEAF 62 /* gaps in a leaf: 1016 bytes, a whole chunk of malloc's */
#define TREE_LEAF_LOW (TREE_LEAF / 3) /* fewer: merged or evened out, but not at the right edge, which grows */
#define TREE_INNER 42
#define TREE_INNER_LOW (TREE_INNER / 3)
#define TREE_DEPTH 16 /* TREE_INNER_LOW^15 leaves are more than 2^57 */
#define TREE_CLASSES 64

struct tree_leaf {
	struct tree_leaf *previous, *next;
	uint64_t count;
	struct range_extent gaps[TREE_LEAF];
};

struct tree_inner {
	uint64_t count;
	void *child[TREE_INNER];
	uint64_t key[TREE_INNER]; /* gaps below child[i] start at key[i] or later, those before it earlier; [0]: void */
	uint64_t fit[][TREE_INNER]; /* [class][i]: the most that fits below child[i] */
};

struct tree {
	void *root;
	unsigned int depth; /* inner nodes above a leaf */
	unsigned int classes;
	uint8_t shift[TREE_CLASSES]; /* alignment 1 << shift */
	uint64_t fit[TREE_CLASSES]; /* the most that fits at all */
	uint64_t generation; /* of the nodes; paths of another one are void */
	uint64_t gaps, free, leaves, inners, visited;
	uint64_t histogram[RANGE_HISTOGRAM];
	struct tree_leaf *spare_leaf;
	struct tree_inner *spare_inner;
	unsigned int spare_inners;
};

struct tree_path {
	uint64_t generation; /* 0: nowhere */
	uint64_t low, high; /* the keys that belong to `leaf`: [low, high) */
	struct tree_leaf *leaf;
	struct {
		struct tree_inner *node;
		unsigned int slot;
	} up[TREE_DEPTH]; /* from the root */
};

int tree_init(struct tree *tree); /* no gaps. 0 or -ENOMEM */
void tree_fini(struct tree *tree);

/* Memory for one tree_add() or tree_take(), which cannot fail then. 0 or -ENOMEM. */
int tree_prepare(struct tree *tree);
/* Makes a range free; it must not be (asserted). Returns the end of the gap that it is in now. */
uint64_t tree_add(struct tree *tree, struct tree_path *path, uint64_t start, uint64_t length);
/* Takes a range, which must lie in one gap (asserted). */
void tree_take(struct tree *tree, struct tree_path *path, uint64_t start, uint64_t length);

/* The class of 1 << shift, joining it if need be: >= 0 or -ENOMEM. */
int tree_class(struct tree *tree, unsigned int shift);
bool tree_check(struct tree *tree);
size_t tree_bytes(const struct tree *tree);

/* What fits into a gap at an alignment. */
static inline uint64_t tree_gap_fit(const struct range_extent *gap, unsigned int shift)
{
	uint64_t skip = -gap->start & ((UINT64_C(1) << shift) - 1);

	return gap->length > skip ? gap->length - skip : 0;
}

/* search.c */

/* Moves the path to the leaf where a gap that starts at `key` is or would be. */
void tree_seek(struct tree *tree, struct tree_path *path, uint64_t key);
/* The number of gaps of a leaf that start at or before `key`. */
unsigned int tree_leaf_index(const struct tree_leaf *leaf, uint64_t key);
/* The last gap that starts at or before `position`; length 0 if there is none. */
struct range_extent tree_gap_before(struct tree *tree, struct tree_path *path, uint64_t position);
/* The lowest (highest) place for `size` in [from, to) at the alignment of the class. At most a walk up and down. */
bool tree_find_up(struct tree *tree, struct tree_path *path, uint64_t from, uint64_t to, uint64_t size,
		  unsigned int class, uint64_t *position);
bool tree_find_down(struct tree *tree, struct tree_path *path, uint64_t from, uint64_t to, uint64_t size,
		    unsigned int class, uint64_t *position);
/* The most that fits into one piece in [from, to). */
uint64_t tree_largest(struct tree *tree, uint64_t from, uint64_t to, unsigned int class);

#endif
