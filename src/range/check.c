/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The invariants of the tree of gaps, each looked at from scratch. For tests and debugging; O(n). */
#include "tree_private.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct census {
	const struct tree *tree;
	const struct tree_leaf *leaf; /* the last one seen */
	uint64_t end; /* of the last gap seen */
	uint64_t gaps, free, leaves, inners;
	uint64_t histogram[RANGE_HISTOGRAM];
};

#define BROKEN(...) (fprintf(stderr, "range: broken: " __VA_ARGS__), fputc('\n', stderr), false)

static bool check_gap(struct census *census, const struct range_extent *gap, uint64_t low, uint64_t high, uint64_t *fit)
{
	unsigned int bucket;

	if (!gap->length || gap->start + gap->length < gap->start)
		return BROKEN("a gap of %" PRIu64 " at %" PRIu64, gap->length, gap->start);
	if (census->gaps && gap->start <= census->end)
		return BROKEN("a gap at %" PRIu64 " touches the one before it", gap->start);
	if (gap->start < low || gap->start >= high)
		return BROKEN("a gap at %" PRIu64 " in a leaf of %" PRIu64 "..%" PRIu64, gap->start, low, high);
	census->end = gap->start + gap->length;
	census->gaps++;
	census->free += gap->length;
	bucket = 63 - (unsigned int)__builtin_clzll(gap->length);
	census->histogram[bucket < RANGE_HISTOGRAM ? bucket : RANGE_HISTOGRAM - 1]++;
	for (unsigned int class = 0; class < census->tree->classes; class ++) {
		uint64_t here = tree_gap_fit(gap, census->tree->shift[class]);

		if (here > fit[class])
			fit[class] = here;
	}
	return true;
}

static bool check_leaf(struct census *census, const struct tree_leaf *leaf, uint64_t low, uint64_t high, uint64_t *fit)
{
	if (leaf->previous != census->leaf || (leaf->previous && leaf->previous->next != leaf))
		return BROKEN("the chain of leaves at %" PRIu64, low);
	if (census->tree->depth && (!leaf->count || (leaf->next && leaf->count < TREE_LEAF_LOW)))
		return BROKEN("a leaf of %" PRIu64 " gaps at %" PRIu64, leaf->count, low);
	census->leaf = leaf;
	census->leaves++;
	for (unsigned int i = 0; i < leaf->count; i++)
		if (!check_gap(census, &leaf->gaps[i], low, high, fit))
			return false;
	return true;
}

static bool check_node(struct census *census, const void *node, unsigned int height, uint64_t low, uint64_t high,
		       uint64_t *fit)
{
	const struct tree_inner *inner = node;

	memset(fit, 0, TREE_CLASSES * sizeof(*fit));
	if (!height)
		return check_leaf(census, node, low, high, fit);
	census->inners++;
	if (!inner->count || inner->count > TREE_INNER || (high != UINT64_MAX && inner->count < TREE_INNER_LOW))
		return BROKEN("an inner node of %" PRIu64 " at %" PRIu64, inner->count, low);
	for (unsigned int i = 0; i < inner->count; i++) {
		uint64_t first = i ? inner->key[i] : low;
		uint64_t end = i + 1 < inner->count ? inner->key[i + 1] : high;
		uint64_t below[TREE_CLASSES];

		if (!check_node(census, inner->child[i], height - 1, first, end, below))
			return false;
		for (unsigned int class = 0; class < census->tree->classes; class ++) {
			if (inner->fit[class][i] != below[class])
				return BROKEN("at %" PRIu64 ", height %u, 1<<%u: fit %" PRIu64 " instead of %" PRIu64,
					      first, height, census->tree->shift[class], inner->fit[class][i],
					      below[class]);
			if (below[class] > fit[class])
				fit[class] = below[class];
		}
	}
	return true;
}

bool tree_check(struct tree *tree)
{
	struct census census = { .tree = tree };
	uint64_t fit[TREE_CLASSES];

	if (!check_node(&census, tree->root, tree->depth, 0, UINT64_MAX, fit))
		return false;
	if (census.leaf->next)
		return BROKEN("the chain of leaves goes on behind the last one");
	if (tree->depth && ((struct tree_inner *)tree->root)->count < 2)
		return BROKEN("a root of one child");
	if (memcmp(fit, tree->fit, tree->classes * sizeof(fit[0])))
		return BROKEN("the root's fits");
	if (census.gaps != tree->gaps || census.free != tree->free)
		return BROKEN("%" PRIu64 " gaps, %" PRIu64 " free instead of %" PRIu64 ", %" PRIu64, tree->gaps,
			      tree->free, census.gaps, census.free);
	if (census.leaves != tree->leaves || census.inners != tree->inners)
		return BROKEN("the count of nodes");
	if (memcmp(census.histogram, tree->histogram, sizeof(census.histogram)))
		return BROKEN("the histogram");
	return true;
}
