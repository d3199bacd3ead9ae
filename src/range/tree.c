/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Changing the tree of gaps: see tree_private.h for what it is. A change goes to one leaf and mends the maxima
 * above it only as far as they are touched; a full node is split on the way, a thin one merged or evened out with
 * its neighbour. Splitting and merging leave the maxima of everything above as they were.
 *
 * Memory. A leaf is split at its end when it is the last one, so that an ascending load fills its leaves; other
 * leaves are at least a third full: 16 to 49 bytes a gap, and 24 for each leaf above that.
 */
#include "tree_private.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Merged only if the result has room left, lest the next insertion split it again. */
#define LEAF_MERGED_MAX (TREE_LEAF * 7 / 8)
#define INNER_MERGED_MAX (TREE_INNER * 7 / 8)

static inline uint64_t larger(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/*
 * The largest of every `stride`th value. Taking from the largest gap, as a new volume always does, asks for this on
 * each level; four maxima at once keep a processor busy that one would have waiting for itself.
 */
static inline uint64_t largest_of(const uint64_t *values, uint64_t count, unsigned int stride)
{
	uint64_t a = 0, b = 0, c = 0, d = 0;

	for (; count >= 4; count -= 4, values += 4 * stride) {
		a = larger(a, values[0]);
		b = larger(b, values[stride]);
		c = larger(c, values[2 * stride]);
		d = larger(d, values[3 * stride]);
	}
	for (; count; count--, values += stride)
		a = larger(a, values[0]);
	return larger(larger(a, b), larger(c, d));
}

static uint64_t leaf_fit(const struct tree_leaf *leaf, unsigned int shift)
{
	uint64_t most = 0;

	if (!shift)
		return largest_of(&leaf->gaps[0].length, leaf->count, sizeof(leaf->gaps[0]) / sizeof(uint64_t));
	for (unsigned int i = 0; i < leaf->count; i++)
		most = larger(most, tree_gap_fit(&leaf->gaps[i], shift));
	return most;
}

static uint64_t inner_fit(const struct tree_inner *inner, unsigned int class)
{
	return largest_of(inner->fit[class], inner->count, 1);
}

static size_t inner_bytes(unsigned int classes)
{
	return sizeof(struct tree_inner) + classes * sizeof(((struct tree_inner *)0)->fit[0]);
}

int tree_init(struct tree *tree)
{
	*tree = (struct tree){ .classes = 1, .generation = 1, .leaves = 1 };
	tree->root = calloc(1, sizeof(struct tree_leaf));
	return tree->root ? 0 : -ENOMEM;
}

static void drop_spare_inners(struct tree *tree)
{
	while (tree->spare_inner) {
		struct tree_inner *inner = tree->spare_inner;

		tree->spare_inner = inner->child[0];
		free(inner);
	}
	tree->spare_inners = 0;
}

static void drop_nodes(void *node, unsigned int height)
{
	if (height) {
		struct tree_inner *inner = node;

		for (unsigned int i = 0; i < inner->count; i++)
			drop_nodes(inner->child[i], height - 1);
	}
	free(node);
}

void tree_fini(struct tree *tree)
{
	drop_nodes(tree->root, tree->depth);
	drop_spare_inners(tree);
	free(tree->spare_leaf);
}

int tree_prepare(struct tree *tree)
{
	if (!tree->spare_leaf) {
		tree->spare_leaf = malloc(sizeof(*tree->spare_leaf));
		if (!tree->spare_leaf)
			return -ENOMEM;
	}
	/* Each inner level may split, and the root then gets a parent. */
	while (tree->spare_inners < tree->depth + 1) {
		struct tree_inner *inner = malloc(inner_bytes(tree->classes));

		if (!inner)
			return -ENOMEM;
		inner->child[0] = tree->spare_inner;
		tree->spare_inner = inner;
		tree->spare_inners++;
	}
	return 0;
}

static struct tree_leaf *new_leaf(struct tree *tree)
{
	struct tree_leaf *leaf = tree->spare_leaf;

	assert(leaf);
	tree->spare_leaf = NULL;
	tree->leaves++;
	leaf->count = 0;
	return leaf;
}

static struct tree_inner *new_inner(struct tree *tree)
{
	struct tree_inner *inner = tree->spare_inner;

	assert(inner);
	tree->spare_inner = inner->child[0];
	tree->spare_inners--;
	tree->inners++;
	inner->count = 0;
	return inner;
}

static void drop_leaf(struct tree *tree, struct tree_leaf *leaf)
{
	if (leaf->previous)
		leaf->previous->next = leaf->next;
	if (leaf->next)
		leaf->next->previous = leaf->previous;
	free(leaf);
	tree->leaves--;
}

static void drop_inner(struct tree *tree, struct tree_inner *inner)
{
	free(inner);
	tree->inners--;
}

#define MOVE(row)                                                                                                 \
	do {                                                                                                      \
		memmove(&to->row[at + count], &to->row[at], behind * sizeof(to->row[0]));                         \
		memcpy(&to->row[at], &from->row[first], count * sizeof(to->row[0]));                              \
		memmove(&from->row[first], &from->row[first + count], rest * sizeof(to->row[0]));                 \
	} while (0)

/* Moves `count` slots of `from`, from `first` on, to `to` at `at`, where there is room; `from` is closed up. */
static void move_slots(const struct tree *tree, struct tree_inner *from, uint64_t first, uint64_t count,
		       struct tree_inner *to, uint64_t at)
{
	uint64_t behind = to->count - at, rest = from->count - first - count;

	assert(to->count + count <= TREE_INNER);
	MOVE(child);
	MOVE(key);
	for (unsigned int class = 0; class < tree->classes; class ++)
		MOVE(fit[class]);
	to->count += count;
	from->count -= count;
}

static void move_gaps(struct tree_leaf *from, uint64_t first, uint64_t count, struct tree_leaf *to, uint64_t at)
{
	uint64_t behind = to->count - at, rest = from->count - first - count;

	assert(to->count + count <= TREE_LEAF);
	MOVE(gaps);
	to->count += count;
	from->count -= count;
}

/* A free slot at `slot`; its fits are 0. */
static void open_slot(const struct tree *tree, struct tree_inner *inner, uint64_t slot, uint64_t key, void *child)
{
	uint64_t behind = inner->count - slot;

	assert(inner->count < TREE_INNER);
	memmove(&inner->child[slot + 1], &inner->child[slot], behind * sizeof(inner->child[0]));
	memmove(&inner->key[slot + 1], &inner->key[slot], behind * sizeof(inner->key[0]));
	inner->child[slot] = child;
	inner->key[slot] = key;
	for (unsigned int class = 0; class < tree->classes; class ++) {
		uint64_t *fit = inner->fit[class];

		memmove(&fit[slot + 1], &fit[slot], behind * sizeof(fit[0]));
		fit[slot] = 0;
	}
	inner->count++;
}

static void close_slot(const struct tree *tree, struct tree_inner *inner, uint64_t slot)
{
	uint64_t behind = inner->count - slot - 1;

	memmove(&inner->child[slot], &inner->child[slot + 1], behind * sizeof(inner->child[0]));
	memmove(&inner->key[slot], &inner->key[slot + 1], behind * sizeof(inner->key[0]));
	for (unsigned int class = 0; class < tree->classes; class ++)
		memmove(&inner->fit[class][slot], &inner->fit[class][slot + 1], behind * sizeof(uint64_t));
	inner->count--;
}

/* Computes the fits of one child afresh; `height` is the child's. */
static void refit_slot(const struct tree *tree, struct tree_inner *inner, uint64_t slot, unsigned int height)
{
	for (unsigned int class = 0; class < tree->classes; class ++)
		inner->fit[class][slot] = height ? inner_fit(inner->child[slot], class) :
						   leaf_fit(inner->child[slot], tree->shift[class]);
}

/* Where the fit of the path's node at `height` is kept. */
static uint64_t *fit_of(struct tree *tree, struct tree_path *path, unsigned int height, unsigned int class)
{
	if (height == tree->depth)
		return &tree->fit[class];
	return &path->up[height].node->fit[class][path->up[height].slot];
}

/*
 * One gap of the path's leaf was `was` and is `now` (NULL: none). A maximum above is looked for again only
 * if it was this gap's and the gap has shrunk.
 */
static void refit(struct tree *tree, struct tree_path *path, const struct range_extent *was,
		  const struct range_extent *now)
{
	for (unsigned int class = 0; class < tree->classes; class ++) {
		unsigned int shift = tree->shift[class];
		uint64_t before = was ? tree_gap_fit(was, shift) : 0;
		uint64_t after = now ? tree_gap_fit(now, shift) : 0;

		for (unsigned int height = 0;; height++) {
			uint64_t *fit = fit_of(tree, path, height, class);
			uint64_t old = *fit;

			if (after > old)
				*fit = after;
			else if (before == old && after < old && height)
				*fit = inner_fit(path->up[height - 1].node, class);
			else if (before == old && after < old)
				*fit = leaf_fit(path->leaf, shift);
			if (*fit == old || height == tree->depth)
				break;
			before = old;
			after = *fit;
		}
	}
}

/* A parent for the root; the path learns of it. */
static void raise_root(struct tree *tree, struct tree_path *path)
{
	struct tree_inner *root = new_inner(tree);

	assert(tree->depth < TREE_DEPTH);
	root->count = 1;
	root->child[0] = tree->root;
	root->key[0] = 0;
	for (unsigned int class = 0; class < tree->classes; class ++)
		root->fit[class][0] = tree->fit[class];
	tree->root = root;
	path->up[tree->depth].node = root;
	path->up[tree->depth].slot = 0;
	tree->depth++;
	tree->generation++;
}

/* Hangs `right` up behind its left sibling at `height`, which is on the path and has just been split. */
static void adopt(struct tree *tree, struct tree_path *path, unsigned int height, uint64_t key, void *right)
{
	struct tree_inner *parent = path->up[height].node;
	uint64_t slot = path->up[height].slot;

	open_slot(tree, parent, slot + 1, key, right);
	refit_slot(tree, parent, slot, height);
	refit_slot(tree, parent, slot + 1, height);
	tree->generation++;
}

/* Room for one more slot in the inner node at `height` > 0. The path keeps leading to the same leaf. */
static void make_room(struct tree *tree, struct tree_path *path, unsigned int height)
{
	struct tree_inner *inner = path->up[height - 1].node, *right;
	uint64_t slot = path->up[height - 1].slot, middle;

	if (inner->count < TREE_INNER)
		return;
	if (height == tree->depth)
		raise_root(tree, path);
	else
		make_room(tree, path, height + 1);
	right = new_inner(tree);
	middle = path->leaf->next ? TREE_INNER / 2 : TREE_INNER - 1;
	move_slots(tree, inner, middle, TREE_INNER - middle, right, 0);
	adopt(tree, path, height, right->key[0], right);
	if (slot >= middle) {
		path->up[height - 1].node = right;
		path->up[height - 1].slot = (unsigned int)(slot - middle);
		path->up[height].slot++;
	}
}

/* Makes room in the path's full leaf for a gap at `index` that starts at `key`; returns its new index. */
static unsigned int split_leaf(struct tree *tree, struct tree_path *path, unsigned int index, uint64_t key)
{
	struct tree_leaf *leaf = path->leaf, *right = new_leaf(tree);
	unsigned int middle = index == TREE_LEAF && !leaf->next ? TREE_LEAF : TREE_LEAF / 2;

	if (!tree->depth)
		raise_root(tree, path);
	else
		make_room(tree, path, 1);
	move_gaps(leaf, middle, TREE_LEAF - middle, right, 0);
	right->previous = leaf;
	right->next = leaf->next;
	if (right->next)
		right->next->previous = right;
	leaf->next = right;
	adopt(tree, path, 0, right->count ? right->gaps[0].start : key, right);
	if (index < middle || (index == middle && right->count))
		return index;
	path->leaf = right;
	path->up[0].slot++;
	return index - middle;
}

/* Merges the children at `slot` and behind it, or evens them out. True: merged. */
static bool join(struct tree *tree, struct tree_inner *parent, uint64_t slot, unsigned int height)
{
	void *left = parent->child[slot], *right = parent->child[slot + 1];
	uint64_t nleft = height ? ((struct tree_inner *)left)->count : ((struct tree_leaf *)left)->count;
	uint64_t nright = height ? ((struct tree_inner *)right)->count : ((struct tree_leaf *)right)->count;
	bool merged = nleft + nright <= (height ? INNER_MERGED_MAX : LEAF_MERGED_MAX);
	uint64_t want = merged ? nleft + nright : (nleft + nright) / 2; /* in the left one */

	tree->generation++;
	if (height) {
		struct tree_inner *right_inner = right;

		right_inner->key[0] = parent->key[slot + 1];
		if (want > nleft)
			move_slots(tree, right, 0, want - nleft, left, nleft);
		else
			move_slots(tree, left, want, nleft - want, right, 0);
		parent->key[slot + 1] = right_inner->key[0];
	} else {
		if (want > nleft)
			move_gaps(right, 0, want - nleft, left, nleft);
		else
			move_gaps(left, want, nleft - want, right, 0);
		if (!merged)
			parent->key[slot + 1] = ((struct tree_leaf *)right)->gaps[0].start;
	}
	refit_slot(tree, parent, slot, height);
	if (!merged) {
		refit_slot(tree, parent, slot + 1, height);
		return false;
	}
	close_slot(tree, parent, slot + 1);
	if (height)
		drop_inner(tree, right);
	else
		drop_leaf(tree, right);
	return true;
}

/* Something was taken out of the path's leaf: mends the nodes that have become too thin. Ends the path. */
static void thin_out(struct tree *tree, struct tree_path *path)
{
	uint64_t count = path->leaf->count;

	for (unsigned int height = 0; height < tree->depth; height++) {
		struct tree_inner *parent = path->up[height].node;
		uint64_t slot = path->up[height].slot;

		if (count >= (height ? TREE_INNER_LOW : TREE_LEAF_LOW))
			break;
		if (parent->count > 1) {
			if (!join(tree, parent, slot ? slot - 1 : 0, height))
				break;
		} else if (!count) {
			/* An only child, as the right edge has them while it grows. */
			if (height)
				drop_inner(tree, parent->child[0]);
			else
				drop_leaf(tree, parent->child[0]);
			parent->count = 0;
			tree->generation++;
		} else {
			break;
		}
		count = parent->count;
	}
	while (tree->depth && ((struct tree_inner *)tree->root)->count == 1) {
		struct tree_inner *root = tree->root;

		tree->root = root->child[0];
		tree->depth--;
		tree->generation++;
		drop_inner(tree, root);
	}
}

static void tally(struct tree *tree, uint64_t length, bool more)
{
	unsigned int bucket = 63 - (unsigned int)__builtin_clzll(length);

	if (bucket >= RANGE_HISTOGRAM)
		bucket = RANGE_HISTOGRAM - 1;
	tree->histogram[bucket] += more ? 1 : UINT64_MAX;
	tree->gaps += more ? 1 : UINT64_MAX;
	tree->free += more ? length : -length;
}

static void insert_gap(struct tree *tree, struct tree_path *path, const struct range_extent *gap)
{
	struct tree_leaf *leaf;
	unsigned int index;

	tree_seek(tree, path, gap->start);
	index = tree_leaf_index(path->leaf, gap->start);
	if (path->leaf->count == TREE_LEAF)
		index = split_leaf(tree, path, index, gap->start);
	leaf = path->leaf;
	memmove(&leaf->gaps[index + 1], &leaf->gaps[index], (leaf->count - index) * sizeof(*gap));
	leaf->gaps[index] = *gap;
	leaf->count++;
	tally(tree, gap->length, true);
	refit(tree, path, NULL, gap);
}

static void erase_gap(struct tree *tree, struct tree_path *path, const struct range_extent *gap)
{
	struct range_extent was = *gap;
	struct tree_leaf *leaf;
	unsigned int index;

	tree_seek(tree, path, was.start);
	leaf = path->leaf;
	index = tree_leaf_index(leaf, was.start) - 1;
	assert(leaf->gaps[index].start == was.start);
	memmove(&leaf->gaps[index], &leaf->gaps[index + 1], (leaf->count - index - 1) * sizeof(was));
	leaf->count--;
	tally(tree, was.length, false);
	refit(tree, path, &was, NULL);
	thin_out(tree, path);
}

/* The new bounds may pass no other gap, and not go below what belongs to the leaf. */
static void change_gap(struct tree *tree, struct tree_path *path, uint64_t start, const struct range_extent *now)
{
	struct range_extent *gap, was;

	tree_seek(tree, path, start);
	gap = &path->leaf->gaps[tree_leaf_index(path->leaf, start) - 1];
	assert(gap->start == start);
	was = *gap;
	*gap = *now;
	tally(tree, was.length, false);
	tally(tree, now->length, true);
	refit(tree, path, &was, now);
}

uint64_t tree_add(struct tree *tree, struct tree_path *path, uint64_t start, uint64_t length)
{
	struct range_extent gap = { start, length }, before = { 0 }, behind = { 0 };
	const struct tree_leaf *leaf;
	bool joins_before, joins_behind;
	unsigned int index;

	tree_seek(tree, path, start);
	leaf = path->leaf;
	index = tree_leaf_index(leaf, start);
	if (index)
		before = leaf->gaps[index - 1];
	else if (leaf->previous)
		before = leaf->previous->gaps[leaf->previous->count - 1];
	if (index < leaf->count)
		behind = leaf->gaps[index];
	else if (leaf->next)
		behind = leaf->next->gaps[0];
	assert(!before.length || before.start + before.length <= start);
	assert(!behind.length || start + length <= behind.start);

	joins_before = before.length && before.start + before.length == start;
	joins_behind = behind.length && start + length == behind.start;
	/* A gap of the next leaf cannot be drawn down here: it would lie below its leaf's key. */
	if (joins_behind && (joins_before || index == leaf->count)) {
		erase_gap(tree, path, &behind);
		gap.length += behind.length;
		joins_behind = false;
	}
	if (joins_before) {
		gap.start = before.start;
		gap.length += before.length;
		change_gap(tree, path, before.start, &gap);
	} else if (joins_behind) {
		gap.length += behind.length;
		change_gap(tree, path, behind.start, &gap);
	} else {
		insert_gap(tree, path, &gap);
	}
	return gap.start + gap.length;
}

void tree_take(struct tree *tree, struct tree_path *path, uint64_t start, uint64_t length)
{
	struct range_extent gap = tree_gap_before(tree, path, start);
	struct range_extent low = { gap.start, start - gap.start };
	struct range_extent high = { start + length, gap.start + gap.length - (start + length) };

	assert(gap.length > low.length && gap.length - low.length >= length);
	if (low.length) {
		change_gap(tree, path, gap.start, &low);
		if (high.length)
			insert_gap(tree, path, &high);
		return;
	}
	tree_seek(tree, path, gap.start);
	if (high.length && high.start < path->high) {
		change_gap(tree, path, gap.start, &high);
		return;
	}
	/* What is left may start among the keys of the next leaf. */
	erase_gap(tree, path, &gap);
	if (high.length)
		insert_gap(tree, path, &high);
}

/* Room for one more class in each inner node, and its fits. False: no memory, and nothing has changed to others. */
static bool widen(struct tree *tree, void **node, unsigned int height, unsigned int shift)
{
	struct tree_inner *inner = realloc(*node, inner_bytes(tree->classes + 1));

	if (!inner)
		return false;
	*node = inner;
	for (unsigned int i = 0; i < inner->count; i++) {
		if (height > 1 && !widen(tree, &inner->child[i], height - 1, shift))
			return false;
		inner->fit[tree->classes][i] = height > 1 ? inner_fit(inner->child[i], tree->classes) :
							    leaf_fit(inner->child[i], shift);
	}
	return true;
}

int tree_class(struct tree *tree, unsigned int shift)
{
	unsigned int class;

	for (class = 0; class < tree->classes; class ++)
		if (tree->shift[class] == shift)
			return (int)class;
	tree->generation++;
	drop_spare_inners(tree);
	if (tree->depth && !widen(tree, &tree->root, tree->depth, shift))
		return -ENOMEM;
	tree->shift[class] = (uint8_t)shift;
	tree->fit[class] = tree->depth ? inner_fit(tree->root, class) : leaf_fit(tree->root, shift);
	tree->classes++;
	return (int)class;
}

size_t tree_bytes(const struct tree *tree)
{
	uint64_t inners = tree->inners + tree->spare_inners, leaves = tree->leaves + (tree->spare_leaf ? 1 : 0);

	return leaves * sizeof(struct tree_leaf) + inners * inner_bytes(tree->classes);
}
