/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The copy-on-write tree in memory.
 *
 * A node may be changed in place exactly if it was made in the running generation; an older one is first copied to
 * a new address and its parent told, up to the root (I1). So what a checkpoint writes is never touched by what
 * comes after its cut, and what the last checkpoint refers to stays as it is on the legs.
 *
 * Insertion splits full nodes on the way down, so that a parent always has room for one more child; deletion
 * joins thin ones on the way back. The checksums in the pointers to nodes of the running generation are set when the
 * generation ends (tree_seal).
 *
 * A node freed or replaced waits in meta->freed_nodes for the checkpoint without it.
 *
 * Where a finger (finger.c) points to the leaf, the way there is not gone again.
 */
#include "meta_private.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/* Room that an insertion may need in an internal node: one more child. */
#define CHILD_BYTES (NODE_ITEM_BYTES + sizeof(struct format_pointer))
/* A node with more room than this is joined with a neighbour, if both fit in one with this much to spare. */
#define THIN_ROOM (NODE_BYTES * 3 / 4)
#define JOINED_ROOM (NODE_BYTES / 4)
#define SEAL_STEP 64u /* leaves that are sealed ahead under one hold of the lock */

/* ---- reading ---- */

static ssize_t value_out(const void *node, unsigned int slot, void *value, size_t size)
{
	size_t length;
	const void *from = node_value(node, slot, &length);

	if (size && length)
		memcpy(value, from, length < size ? length : size);
	return (ssize_t)length;
}

static int leaf_load(struct meta *meta, const struct meta_key *key, struct cache_page **page)
{
	struct node_bounds bounds = load_everything;
	struct cache_page *child;
	int error = load_root(meta, page);

	while (!error && node_level((*page)->data)) {
		unsigned int slot = node_child_slot((*page)->data, key);

		bounds = node_child_bounds((*page)->data, slot, &bounds);
		error = load_child(meta, *page, slot, &bounds, &child);
		cache_put(*page);
		*page = child;
	}
	return error;
}

static ssize_t leaf_get(const struct cache_page *leaf, const struct meta_key *key, void *value, size_t size)
{
	bool exact;
	unsigned int slot = node_search(leaf->data, key, &exact);

	return exact ? value_out(leaf->data, slot, value, size) : -ENOENT;
}

ssize_t tree_get(struct meta *meta, const struct meta_key *key, void *value, size_t size)
{
	const struct finger *finger = finger_find(meta, key);
	struct cache_page *page;
	ssize_t result;
	int error;

	if (finger)
		return leaf_get(finger->leaf, key, value, size);
	error = leaf_load(meta, key, &page);
	if (error)
		return error;
	result = leaf_get(page, key, value, size);
	cache_put(page);
	return result;
}

int tree_touch(struct meta *meta, const struct meta_key *key, struct tree_touched *touched)
{
	uint64_t *last = touched->last[key->object == OBJECT_VOLUME];
	const struct finger *finger = finger_find(meta, key);
	struct node_bounds bounds = load_everything;
	struct cache_page *page, *child;
	int error;

	/* Whoever made this leaf has made the way to it. */
	if (finger && node_generation(finger->leaf->data) == meta->generation) {
		touched->nodes += last[0] != finger->leaf->index;
		touched->leaves += last[0] != finger->leaf->index;
		last[0] = finger->leaf->index;
		return 0;
	}
	error = load_root(meta, &page);
	while (!error) {
		unsigned int level = node_level(page->data), slot;

		if (last[level] != page->index) {
			last[level] = page->index;
			touched->nodes++;
			touched->leaves += !level;
		}
		if (!level)
			break;
		slot = node_child_slot(page->data, key);
		bounds = node_child_bounds(page->data, slot, &bounds);
		error = load_child(meta, page, slot, &bounds, &child);
		cache_put(page);
		page = child;
	}
	cache_put(page);
	return error;
}

/* What find() looks for, and how far it goes: nothing beyond `limit` is read. */
struct search {
	bool backwards;
	const struct meta_key *limit;
	void *value;
	size_t size;
};

/* True if nothing below the child at `slot` can be within the limit; the search comes from the one before. */
static bool beyond_limit(const struct search *search, const void *node, int slot)
{
	struct meta_key edge = node_key(node, (unsigned int)(search->backwards ? slot + 1 : slot));
	int order = meta_key_compare(&edge, search->limit);

	return search->backwards ? order <= 0 : order > 0;
}

/* The first key >= *key in the leaf (or, backwards, the last <= *key), up to the limit. */
static ssize_t find_in_leaf(const struct search *search, const void *node, struct meta_key *key)
{
	bool exact;
	int slot = (int)node_search(node, key, &exact), order;

	if (search->backwards && !exact)
		slot--;
	if (slot < 0 || slot >= (int)node_count(node))
		return -ENOENT;
	*key = node_key(node, (unsigned int)slot);
	order = meta_key_compare(key, search->limit);
	if (search->backwards ? order < 0 : order > 0)
		return -ENOENT;
	return value_out(node, (unsigned int)slot, search->value, search->size);
}

/* The same below `page`: found in a subtree or in the next one. */
static ssize_t find(struct meta *meta, const struct search *search, struct cache_page *page,
		    const struct node_bounds *bounds, struct meta_key *key)
{
	int slot, first, step = search->backwards ? -1 : 1;
	const void *node = page->data;
	struct node_bounds below;
	struct cache_page *child;
	ssize_t result = -ENOENT;

	if (!node_level(node))
		return find_in_leaf(search, node, key);
	first = (int)node_child_slot(node, key);
	for (slot = first; slot >= 0 && slot < (int)node_count(node) && result == -ENOENT; slot += step) {
		int error;

		if (slot != first && beyond_limit(search, node, slot))
			break;
		below = node_child_bounds(node, (unsigned int)slot, bounds);
		error = load_child(meta, page, (unsigned int)slot, &below, &child);
		if (error)
			return error;
		result = find(meta, search, child, &below, key);
		cache_put(child);
	}
	return result;
}

/* -EAGAIN: no finger says. */
static ssize_t find_by_finger(struct meta *meta, const struct search *search, struct meta_key *key)
{
	const struct finger *finger = finger_find(meta, key);
	ssize_t result = finger ? find_in_leaf(search, finger->leaf->data, key) : -EAGAIN;
	bool ends_within;

	if (result != -ENOENT)
		return result;
	ends_within = search->backwards ? meta_key_compare(&finger->bounds.least, search->limit) <= 0 :
					  finger->bounds.endless ||
						  meta_key_compare(&finger->bounds.end, search->limit) > 0;
	return ends_within ? -ENOENT : -EAGAIN;
}

static ssize_t search_run(struct meta *meta, const struct search *search, struct meta_key *key)
{
	struct meta_key at = *key;
	struct cache_page *root;
	ssize_t result = find_by_finger(meta, search, &at);

	if (result == -EAGAIN) {
		result = load_root(meta, &root);
		if (result)
			return result;
		result = find(meta, search, root, &load_everything, &at);
		cache_put(root);
	}
	if (result >= 0)
		*key = at;
	return result;
}

ssize_t tree_next(struct meta *meta, struct meta_key *key, const struct meta_key *last, void *value, size_t size)
{
	const struct search search = { .limit = last, .value = value, .size = size };

	return search_run(meta, &search, key);
}

ssize_t tree_previous(struct meta *meta, struct meta_key *key, const struct meta_key *first, void *value, size_t size)
{
	const struct search search = { .backwards = true, .limit = first, .value = value, .size = size };

	return search_run(meta, &search, key);
}

/* 1: past `last`. */
static int scan(struct meta *meta, struct cache_page *page, const struct node_bounds *bounds,
		const struct meta_key *first, const struct meta_key *last,
		int (*visit)(struct meta *meta, const struct meta_key *key, const void *value, size_t length))
{
	const void *node = page->data;
	unsigned int level = node_level(node);
	bool exact;
	unsigned int slot = level ? node_child_slot(node, first) : node_search(node, first, &exact), ahead = slot;
	int error = 0;

	for (; slot < node_count(node) && !error; slot++) {
		struct meta_key key = node_key(node, slot);
		struct node_bounds below;
		struct cache_page *child;
		size_t length;
		const void *value = node_value(node, slot, &length);

		if (meta_key_compare(&key, last) > 0)
			return 1;
		if (!level) {
			error = visit(meta, &key, value, length);
			continue;
		}
		if (slot == ahead)
			ahead = ahead_children(meta, page, slot, last);
		below = node_child_bounds(node, slot, bounds);
		error = load_child(meta, page, slot, &below, &child);
		if (error)
			break;
		error = scan(meta, child, &below, first, last, visit);
		cache_put(child);
	}
	return error;
}

int tree_scan(struct meta *meta, const struct meta_key *first, const struct meta_key *last,
	      int (*visit)(struct meta *meta, const struct meta_key *key, const void *value, size_t length))
{
	struct cache_page *root;
	int error = load_root(meta, &root);

	if (error)
		return error;
	error = scan(meta, root, &load_everything, first, last, visit);
	cache_put(root);
	return error < 0 ? error : 0;
}

int tree_pointer(struct meta *meta, unsigned int level, const struct meta_key *key, struct format_pointer *pointer,
		 struct node_bounds *bounds)
{
	const struct meta_key at = *key; /* which may lie in *bounds */
	struct cache_page *page, *child;
	int error;

	*bounds = load_everything;
	*pointer = (struct format_pointer){
		.address = le64_of(meta->root.address),
		.generation = le64_of(meta->root.generation),
		.crc = le32_of(meta->root.crc),
	};
	if (level >= meta->root.level)
		return level > meta->root.level ? -ENOENT : 0;
	error = load_root(meta, &page);
	while (!error) {
		unsigned int slot = node_child_slot(page->data, &at);

		*pointer = load_pointer(page->data, slot);
		*bounds = node_child_bounds(page->data, slot, bounds);
		if (node_level(page->data) == level + 1)
			break;
		error = load_child(meta, page, slot, bounds, &child);
		cache_put(page);
		page = child;
	}
	cache_put(page);
	return error;
}

int tree_leaf(struct meta *meta, const struct meta_key *key, void *node)
{
	struct cache_page *page;
	int error = leaf_load(meta, key, &page);

	if (error)
		return error;
	memcpy(node, page->data, NODE_BYTES);
	cache_put(page);
	return 0;
}

bool tree_skip(struct meta *meta, struct meta_key *key)
{
	struct node_bounds bounds = { .end = *key };
	bool skipped = false;

	while (!skipped && !bounds.endless) {
		struct format_pointer pointer;

		*key = bounds.end;
		skipped = tree_pointer(meta, 0, key, &pointer, &bounds) || tree_get(meta, key, NULL, 0) == -EIO;
	}
	*key = bounds.end;
	return skipped && !bounds.endless;
}

/* ---- changing ---- */

/* A page at a new address, valid and dirty; its content is the caller's to set at once. */
static int node_new(struct meta *meta, uint64_t *address, struct cache_page **page)
{
	int error = alloc_node(meta, address);

	if (error)
		return error;
	cache_drop_range(&meta->nodes, *address, *address); /* what was read from here in an earlier life */
	error = cache_get(&meta->nodes, *address, true, true, page);
	assert(error != 0);
	if (error < 0)
		return error;
	error = meta_list_add(&meta->dirty, *address);
	if (error) {
		cache_filled(*page, error);
		cache_put(*page);
		return error;
	}
	memset((*page)->data, 0, NODE_BYTES);
	cache_filled(*page, 0);
	cache_dirty(*page);
	return 0;
}

/* Frees the node at `page`, whose reference is the caller's. */
static int node_free(struct meta *meta, const struct cache_page *page)
{
	finger_drop(meta, page);
	return meta_extents_add(&meta->freed_nodes, page->index, NODE_BLOCKS);
}

static void pointer_set(struct cache_page *parent, unsigned int slot, const struct cache_page *child)
{
	struct format_pointer pointer = {
		.address = le64_of(child->index),
		.generation = le64_of(node_generation(child->data)),
	};

	memcpy(node_value_mutable(parent->data, slot), &pointer, sizeof(pointer));
}

static void root_set(struct meta *meta, struct cache_page *page)
{
	cache_ref(page);
	cache_put(meta->root_page);
	meta->root_page = page;
	meta->root.address = page->index;
	meta->root.generation = node_generation(page->data);
	meta->root.crc = 0;
	meta->root.level = node_level(page->data);
}

/*
 * Makes *page changeable; `parent` (changeable, NULL: it is the root) then points to the copy. The old reference is
 * exchanged for one to the copy.
 */
static int node_own(struct meta *meta, struct cache_page *parent, unsigned int slot, struct cache_page **page)
{
	struct format_node *head;
	struct cache_page *copy;
	uint64_t address;
	int error;

	if (node_generation((*page)->data) == meta->generation) {
		node_unseal((*page)->data);
		return 0;
	}
	error = node_new(meta, &address, &copy);
	if (error)
		return error;
	memcpy(copy->data, (*page)->data, NODE_BYTES);
	head = (struct format_node *)copy->data;
	head->address = le64_of(address);
	head->generation = le64_of(meta->generation);
	head->crc = le32_of(0);
	error = node_free(meta, *page);
	cache_put(*page);
	*page = copy;
	if (parent)
		pointer_set(parent, slot, copy);
	else
		root_set(meta, copy);
	return error;
}

/* Puts a new root above the old one. */
static int root_grow(struct meta *meta, struct cache_page **root)
{
	struct meta_key least = { 0, 0, 0 };
	struct format_pointer pointer = { .address = le64_of(0) };
	struct cache_page *above;
	uint64_t address;
	int error;

	if (node_level((*root)->data) + 1u >= NODE_LEVELS)
		return -ENOSPC;
	error = node_new(meta, &address, &above);
	if (error)
		return error;
	node_init(above->data, (uint8_t)(node_level((*root)->data) + 1), meta->volume, address, meta->generation);
	node_insert(above->data, 0, &least, &pointer, sizeof(pointer));
	pointer_set(above, 0, *root);
	root_set(meta, above);
	cache_put(*root);
	*root = above;
	return 0;
}

/*
 * Splits the child at `slot` of `parent`, which has room; both are changeable. Afterwards *page is the half where `key`
 * belongs. A key behind all others begins a new node, so that what is appended fills its nodes.
 */
static int node_split(struct meta *meta, struct cache_page *parent, unsigned int slot, struct cache_page **page,
		      const struct meta_key *key)
{
	struct format_pointer pointer = { .address = le64_of(0) };
	unsigned int count = node_count((*page)->data), at;
	uint8_t level = node_level((*page)->data);
	struct cache_page *right;
	struct meta_key first;
	uint64_t address;
	bool exact;
	int error = node_new(meta, &address, &right);

	if (error)
		return error;
	finger_drop(meta, *page);
	at = node_middle((*page)->data);
	if (!level && node_search((*page)->data, key, &exact) == count) {
		at = count;
		first = *key;
	} else {
		first = node_key((*page)->data, at);
	}
	node_init(right->data, level, meta->volume, address, meta->generation);
	node_move((*page)->data, at, right->data);
	node_insert(parent->data, slot + 1, &first, &pointer, sizeof(pointer));
	pointer_set(parent, slot + 1, right);
	if (meta_key_compare(key, &first) >= 0) {
		cache_put(*page);
		*page = right;
	} else {
		cache_put(right);
	}
	return 0;
}

/*
 * Room for one more child, or for the item. A value that replaces one as long needs none: what deletes changes items in
 * full leaves, too, and must not make the tree of a full volume grow.
 */
static bool has_room(const struct cache_page *page, const struct meta_key *key, size_t length)
{
	unsigned int slot;
	size_t old;
	bool exact;

	if (node_level(page->data))
		return node_room(page->data) >= CHILD_BYTES;
	if (node_room(page->data) >= NODE_ITEM_BYTES + length)
		return true;
	slot = node_search(page->data, key, &exact);
	if (!exact)
		return false;
	node_value(page->data, slot, &old);
	return old == length;
}

/* Into a leaf that is changeable. -ENOSPC: it is full. */
static int leaf_put(struct cache_page *leaf, const struct meta_key *key, const void *value, size_t length)
{
	bool exact;
	unsigned int slot = node_search(leaf->data, key, &exact);
	size_t old = 0;

	if (exact) {
		node_value(leaf->data, slot, &old);
		if (old == length) {
			if (length)
				memcpy(node_value_mutable(leaf->data, slot), value, length);
			return 0;
		}
		node_remove(leaf->data, slot);
	}
	if (node_room(leaf->data) < NODE_ITEM_BYTES + length)
		return -ENOSPC;
	node_insert(leaf->data, slot, key, value, length);
	return 0;
}

/* The leaf that a finger leads to, if it may be changed as it lies there; NULL: it may not, or none does. */
static struct cache_page *leaf_by_finger(struct meta *meta, const struct meta_key *key)
{
	const struct finger *finger = finger_find(meta, key);

	if (!finger || node_generation(finger->leaf->data) != meta->generation)
		return NULL;
	node_unseal(finger->leaf->data);
	return finger_use(meta, finger);
}

int tree_put(struct meta *meta, const struct meta_key *key, const void *value, size_t length)
{
	struct cache_page *page, *child, *leaf = leaf_by_finger(meta, key);
	struct node_bounds bounds = load_everything, below;
	struct meta_key first;
	unsigned int slot;
	int error;

	if (leaf && has_room(leaf, key, length))
		return leaf_put(leaf, key, value, length);
	error = load_root(meta, &page);
	if (error)
		return error;
	error = node_own(meta, NULL, 0, &page);
	if (!error && !has_room(page, key, length))
		error = root_grow(meta, &page);
	while (!error && node_level(page->data)) {
		slot = node_child_slot(page->data, key);
		first = node_key(page->data, 0);
		/* No key is below its child's first one; else a split of that child would not be in order. */
		if (meta_key_compare(key, &first) < 0)
			node_rekey(page->data, 0, key);
		below = node_child_bounds(page->data, slot, &bounds);
		error = load_child(meta, page, slot, &below, &child);
		if (error)
			break;
		error = node_own(meta, page, slot, &child);
		/* Uneven values may leave the half too full as well: then it is split again. */
		while (!error && !has_room(child, key, length) && node_room(page->data) >= CHILD_BYTES) {
			error = node_split(meta, page, slot, &child, key);
			slot = node_child_slot(page->data, key);
		}
		bounds = node_child_bounds(page->data, slot, &bounds);
		cache_put(page);
		page = child;
	}
	if (!error)
		error = leaf_put(page, key, value, length);
	if (!error)
		finger_keep(meta, page, &bounds);
	cache_put(page);
	return error;
}

/* A child that is in memory; NULL: it is not. */
static struct cache_page *child_cached(struct meta *meta, const struct cache_page *parent, unsigned int slot,
				       const struct node_bounds *bounds)
{
	struct node_bounds below = node_child_bounds(parent->data, slot, bounds);
	struct format_pointer at = load_pointer(parent->data, slot);
	struct cache_page *page;

	if (cache_get(&meta->nodes, le64_get(at.address), false, false, &page))
		return NULL;
	if (node_generation(page->data) == le64_get(at.generation) &&
	    node_level(page->data) + 1 == node_level(parent->data) && node_within(page->data, &below))
		return page;
	cache_put(page);
	return NULL;
}

/*
 * Joins the child at `slot` with the one behind it, if they are thin enough; both belong to `parent`, changeable, whose
 * bounds are given.
 * Nobody waits for a leg on that account: a thin node whose neighbour is not in memory stays as it is.
 */
static int node_join(struct meta *meta, struct cache_page *parent, unsigned int slot, const struct node_bounds *bounds)
{
	struct cache_page *left = child_cached(meta, parent, slot, bounds);
	struct cache_page *right = child_cached(meta, parent, slot + 1, bounds);
	int error = 0;
	size_t used;

	if (!left || !right) {
		cache_put(left);
		cache_put(right);
		return 0;
	}
	used = 2 * (NODE_BYTES - sizeof(struct format_node)) - node_room(left->data) - node_room(right->data);
	if (used + JOINED_ROOM < NODE_BYTES) {
		error = node_own(meta, parent, slot, &left);
		if (!error)
			error = node_own(meta, parent, slot + 1, &right);
		if (!error) {
			struct meta_key bound = node_key(parent->data, slot + 1);

			/* Its first child also held what lies between the parent's key and the child's own. */
			if (node_level(right->data))
				node_rekey(right->data, 0, &bound);
			node_move(right->data, 0, left->data);
			node_remove(parent->data, slot + 1);
			error = node_free(meta, right);
		}
	}
	cache_put(left);
	cache_put(right);
	return error;
}

/* Deletes below `page`, which is changeable. */
static int delete_below(struct meta *meta, struct cache_page *page, const struct node_bounds *bounds,
			const struct meta_key *key)
{
	struct node_bounds below;
	struct cache_page *child;
	unsigned int slot, count;
	bool exact, thin;
	int error;

	if (!node_level(page->data)) {
		slot = node_search(page->data, key, &exact);
		if (exact)
			node_remove(page->data, slot);
		finger_keep(meta, page, bounds);
		return 0;
	}
	slot = node_child_slot(page->data, key);
	below = node_child_bounds(page->data, slot, bounds);
	error = load_child(meta, page, slot, &below, &child);
	if (error)
		return error;
	error = node_own(meta, page, slot, &child);
	if (!error)
		error = delete_below(meta, child, &below, key);
	count = node_count(page->data);
	thin = node_room(child->data) > THIN_ROOM;
	if (!error && !node_count(child->data) && count > 1) {
		node_remove(page->data, slot);
		error = node_free(meta, child);
		thin = false;
	}
	cache_put(child);
	if (!error && thin && count > 1)
		error = node_join(meta, page, slot + 1 < count ? slot : slot - 1, bounds);
	return error;
}

/* Where nothing but a leaf changes. False: that is not so, or it is not known. */
static bool delete_by_finger(struct meta *meta, const struct meta_key *key)
{
	struct cache_page *leaf = leaf_by_finger(meta, key);
	unsigned int slot;
	size_t length;
	bool exact;

	if (!leaf)
		return false;
	slot = node_search(leaf->data, key, &exact);
	if (!exact)
		return true;
	node_value(leaf->data, slot, &length);
	if (node_count(leaf->data) == 1 || node_room(leaf->data) + NODE_ITEM_BYTES + length > THIN_ROOM)
		return false;
	node_remove(leaf->data, slot);
	return true;
}

int tree_delete(struct meta *meta, const struct meta_key *key)
{
	struct cache_page *page, *child;
	ssize_t there;
	int error;

	if (delete_by_finger(meta, key))
		return 0;
	there = tree_get(meta, key, NULL, 0);
	if (there == -ENOENT)
		return 0;
	if (there < 0)
		return (int)there;
	error = load_root(meta, &page);
	if (error)
		return error;
	error = node_own(meta, NULL, 0, &page);
	if (!error)
		error = delete_below(meta, page, &load_everything, key);
	while (!error && node_level(page->data) && node_count(page->data) == 1) {
		struct node_bounds below = node_child_bounds(page->data, 0, &load_everything);

		/* As in node_join(): a root above a single child is allowed. */
		if (load_child(meta, page, 0, &below, &child))
			break;
		error = node_own(meta, page, 0, &child);
		if (!error) {
			root_set(meta, child);
			error = node_free(meta, page);
		}
		cache_put(page);
		page = child;
	}
	cache_put(page);
	return error;
}

/* Checksums of all nodes of the running generation below `page`, children first. */
static int seal_below(struct meta *meta, struct cache_page *page, const struct node_bounds *bounds, uint32_t *crc)
{
	for (unsigned int i = 0; node_level(page->data) && i < node_count(page->data); i++) {
		struct node_bounds below = node_child_bounds(page->data, i, bounds);
		struct format_pointer pointer = load_pointer(page->data, i);
		struct cache_page *child;
		uint32_t sum;
		int error;

		if (le64_get(pointer.generation) != meta->generation)
			continue;
		error = load_child(meta, page, i, &below, &child);
		if (error)
			return error;
		error = seal_below(meta, child, &below, &sum);
		cache_put(child);
		if (error)
			return error;
		pointer.crc = le32_of(sum);
		memcpy(node_value_mutable(page->data, i), &pointer, sizeof(pointer));
	}
	*crc = node_sealed(page->data);
	if (node_level(page->data) || !*crc)
		*crc = node_seal(page->data);
	return 0;
}

void tree_seal_ahead(struct meta *meta)
{
	size_t at = 0, end = SIZE_MAX;

	while (at < end) {
		rwlock_read(&meta->tree_lock);
		end = meta->dirty.count;
		for (size_t n = 0; n < SEAL_STEP && at < end; n++, at++) {
			struct cache_page *page;

			if (cache_get(&meta->nodes, meta->dirty.at[at], false, false, &page))
				continue;
			if (!node_level(page->data) && !node_sealed(page->data))
				node_seal(page->data);
			cache_put(page);
		}
		rwlock_unlock(&meta->tree_lock);
	}
}

int tree_seal(struct meta *meta)
{
	struct cache_page *page;
	int error;

	if (meta->root.generation != meta->generation)
		return 0;
	error = load_root(meta, &page);
	if (error)
		return error;
	error = seal_below(meta, page, &load_everything, &meta->root.crc);
	cache_put(page);
	return error;
}
