/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Looking into the tree of gaps. A search for a fit climbs from the leaf where it begins until some sibling on
 * the way has a fit below it, and goes down to that: at most twice the depth in nodes, whatever the space looks
 * like. The gap that lies across the beginning of the searched part counts only with what lies inside it, so
 * it is looked at by itself.
 */
#include "tree_private.h"

#include <assert.h>

/*
 * Both halvings go on by arithmetic and not by a branch: which half it is cannot be predicted, and a wrong guess costs
 * more than the comparison.
 */
unsigned int tree_leaf_index(const struct tree_leaf *leaf, uint64_t key)
{
	const struct range_extent *gap = leaf->gaps;
	unsigned int count = (unsigned int)leaf->count;

	if (!count)
		return 0;
	while (count > 1) {
		unsigned int half = count / 2;

		gap += gap[half].start <= key ? half : 0;
		count -= half;
	}
	return (unsigned int)(gap - leaf->gaps) + (gap->start <= key);
}

/* The child where `key` belongs. */
static unsigned int inner_slot(const struct tree_inner *inner, uint64_t key)
{
	const uint64_t *at = inner->key;
	unsigned int count = (unsigned int)inner->count;

	while (count > 1) {
		unsigned int half = count / 2;

		at += at[half] <= key ? half : 0;
		count -= half;
	}
	return (unsigned int)(at - inner->key);
}

/* A search in a large tree waits for memory and for little else: better for all lines of a node at once. */
static void fetch(const void *node)
{
	for (size_t at = 0; at < sizeof(struct tree_leaf); at += 64)
		__builtin_prefetch((const char *)node + at);
}

void tree_seek(struct tree *tree, struct tree_path *path, uint64_t key)
{
	void *node = tree->root;

	if (path->generation == tree->generation && key >= path->low && key < path->high)
		return;
	path->low = 0;
	path->high = UINT64_MAX;
	for (unsigned int height = tree->depth; height; height--) {
		struct tree_inner *inner = node;
		unsigned int slot = inner_slot(inner, key);

		path->up[height - 1].node = inner;
		path->up[height - 1].slot = slot;
		if (slot)
			path->low = inner->key[slot];
		if (slot + 1 < inner->count)
			path->high = inner->key[slot + 1];
		node = inner->child[slot];
		fetch(node);
	}
	path->leaf = node;
	path->generation = tree->generation;
	tree->visited += tree->depth;
}

/* The path was led to another leaf: which keys belong to it. */
static void mark_bounds(const struct tree *tree, struct tree_path *path)
{
	path->low = 0;
	path->high = UINT64_MAX;
	for (unsigned int height = tree->depth; height; height--) {
		const struct tree_inner *inner = path->up[height - 1].node;
		unsigned int slot = path->up[height - 1].slot;

		if (slot)
			path->low = inner->key[slot];
		if (slot + 1 < inner->count)
			path->high = inner->key[slot + 1];
	}
}

struct range_extent tree_gap_before(struct tree *tree, struct tree_path *path, uint64_t position)
{
	const struct tree_leaf *leaf;
	unsigned int index;

	tree_seek(tree, path, position);
	tree->visited++;
	leaf = path->leaf;
	index = tree_leaf_index(leaf, position);
	if (index)
		return leaf->gaps[index - 1];
	if (!leaf->previous)
		return (struct range_extent){ 0 };
	return leaf->previous->gaps[leaf->previous->count - 1];
}

/* What of a gap lies in [from, to). */
static struct range_extent clip(struct range_extent gap, uint64_t from, uint64_t to)
{
	uint64_t start = gap.start > from ? gap.start : from;
	uint64_t end = gap.start + gap.length < to ? gap.start + gap.length : to;

	return (struct range_extent){ start, end > start ? end - start : 0 };
}

static uint64_t lowest_in(const struct range_extent *gap, unsigned int shift)
{
	return gap->start + (-gap->start & ((UINT64_C(1) << shift) - 1));
}

static uint64_t highest_in(const struct range_extent *gap, uint64_t size, unsigned int shift)
{
	return (gap->start + gap->length - size) & -(UINT64_C(1) << shift);
}

/* Leads the path to the nearest leaf before or behind it that has a gap which fits. */
static bool next_leaf(struct tree *tree, struct tree_path *path, uint64_t size, unsigned int class, bool down)
{
	for (unsigned int height = 0; height < tree->depth; height++) {
		struct tree_inner *inner = path->up[height].node;
		unsigned int step = down ? UINT32_MAX : 1, slot = path->up[height].slot + step;

		tree->visited++;
		while (slot < inner->count && inner->fit[class][slot] < size)
			slot += step;
		if (slot >= inner->count)
			continue;
		path->up[height].slot = slot;
		while (height) {
			inner = inner->child[slot];
			slot = down ? (unsigned int)inner->count - 1 : 0;
			while (inner->fit[class][slot] < size)
				slot += step;
			height--;
			path->up[height].node = inner;
			path->up[height].slot = slot;
			tree->visited++;
		}
		path->leaf = inner->child[slot];
		mark_bounds(tree, path);
		return true;
	}
	return false;
}

/* The slot of the path's leaf says whether it is worth a look. */
static bool leaf_may_fit(const struct tree *tree, const struct tree_path *path, uint64_t size, unsigned int class)
{
	return !tree->depth || path->up[0].node->fit[class][path->up[0].slot] >= size;
}

bool tree_find_up(struct tree *tree, struct tree_path *path, uint64_t from, uint64_t to, uint64_t size,
		  unsigned int class, uint64_t *position)
{
	unsigned int shift = tree->shift[class], index;
	struct range_extent gap;

	if (from >= to || tree->fit[class] < size)
		return false;
	gap = clip(tree_gap_before(tree, path, from), from, to);
	if (tree_gap_fit(&gap, shift) >= size) {
		*position = lowest_in(&gap, shift);
		return true;
	}
	index = leaf_may_fit(tree, path, size, class) ? tree_leaf_index(path->leaf, from) : TREE_LEAF;
	for (;;) {
		for (; index < path->leaf->count; index++) {
			gap = path->leaf->gaps[index];
			if (tree_gap_fit(&gap, shift) < size)
				continue;
			/* Every later gap lies higher still. */
			*position = lowest_in(&gap, shift);
			return *position < to && to - *position >= size;
		}
		if (!next_leaf(tree, path, size, class, false))
			return false;
		index = 0;
		tree->visited++;
	}
}

bool tree_find_down(struct tree *tree, struct tree_path *path, uint64_t from, uint64_t to, uint64_t size,
		    unsigned int class, uint64_t *position)
{
	unsigned int shift = tree->shift[class], index;
	struct range_extent gap;

	if (from >= to || tree->fit[class] < size)
		return false;
	gap = tree_gap_before(tree, path, to - 1);
	if (!gap.length)
		return false;
	tree_seek(tree, path, gap.start);
	index = tree_leaf_index(path->leaf, gap.start) - 1;
	gap = clip(gap, from, to);
	if (tree_gap_fit(&gap, shift) >= size) {
		*position = highest_in(&gap, size, shift);
		return true;
	}
	if (!leaf_may_fit(tree, path, size, class))
		index = 0;
	for (;;) {
		while (index--) {
			gap = path->leaf->gaps[index];
			if (tree_gap_fit(&gap, shift) < size)
				continue;
			/* Every earlier gap lies lower still. */
			*position = highest_in(&gap, size, shift);
			return *position >= from;
		}
		if (!next_leaf(tree, path, size, class, true))
			return false;
		index = (unsigned int)path->leaf->count;
		tree->visited++;
	}
}

/* Of the gaps that start in (from, to) below `node`, whose own are in [low, high). */
static uint64_t largest_below(struct tree *tree, const void *node, unsigned int height, uint64_t low, uint64_t high,
			      uint64_t from, uint64_t to, unsigned int class, uint64_t most)
{
	tree->visited++;
	if (!height) {
		const struct tree_leaf *leaf = node;

		for (unsigned int i = tree_leaf_index(leaf, from); i < leaf->count && leaf->gaps[i].start < to; i++) {
			uint64_t fit = tree_gap_fit(&leaf->gaps[i], tree->shift[class]);

			if (fit > most)
				most = fit;
		}
		return most;
	}
	const struct tree_inner *inner = node;

	for (unsigned int i = inner_slot(inner, from); i < inner->count; i++) {
		uint64_t first = i ? inner->key[i] : low;
		uint64_t end = i + 1 < inner->count ? inner->key[i + 1] : high;

		if (first >= to)
			break;
		if (inner->fit[class][i] <= most)
			continue;
		if (first > from && end <= to)
			most = inner->fit[class][i];
		else
			most = largest_below(tree, inner->child[i], height - 1, first, end, from, to, class, most);
	}
	return most;
}

uint64_t tree_largest(struct tree *tree, uint64_t from, uint64_t to, unsigned int class)
{
	unsigned int shift = tree->shift[class];
	struct tree_path path = { 0 };
	struct range_extent first, last;
	uint64_t most, fit;

	if (from >= to)
		return 0;
	first = clip(tree_gap_before(tree, &path, from), from, to);
	last = tree_gap_before(tree, &path, to - 1);
	most = tree_gap_fit(&first, shift);
	if (last.start > from) {
		first = clip(last, from, to);
		fit = tree_gap_fit(&first, shift);
		if (fit > most)
			most = fit;
		most = largest_below(tree, tree->root, tree->depth, 0, UINT64_MAX, from, last.start, class, most);
	}
	return most;
}
