/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fingers: the leaves that were changed last. Most of what a transaction looks for or changes is where the one before
 * has just been (the item of a directory, the next inode, the note of what is to be deleted), and gets there without
 * the way down from the root.
 *
 * Promise: what a finger points to is the leaf of the tree where the keys in its bounds belong. So whoever copies,
 * splits or frees a node drops the finger on it first; a node that only takes a neighbour's items in keeps its finger,
 * whose bounds are then narrower than they might be. Readers use fingers, and only who holds the tree's lock
 * exclusively moves them.
 */
#include "meta_private.h"

#include <string.h>

static bool covers(const struct finger *finger, const struct meta_key *key)
{
	return meta_key_compare(&finger->bounds.least, key) <= 0 &&
	       (finger->bounds.endless || meta_key_compare(key, &finger->bounds.end) < 0);
}

const struct finger *finger_find(const struct meta *meta, const struct meta_key *key)
{
	for (const struct finger *at = meta->fingers; at < meta->fingers + FINGERS && at->leaf; at++) {
		if (covers(at, key))
			return at;
	}
	return NULL;
}

/* The place `at` goes to `first`, which becomes the one used last. */
static void bring_forward(struct meta *meta, size_t at, struct finger first)
{
	memmove(&meta->fingers[1], &meta->fingers[0], at * sizeof(first));
	meta->fingers[0] = first;
}

struct cache_page *finger_use(struct meta *meta, const struct finger *finger)
{
	if (finger != meta->fingers)
		bring_forward(meta, (size_t)(finger - meta->fingers), *finger);
	return meta->fingers[0].leaf;
}

void finger_keep(struct meta *meta, struct cache_page *leaf, const struct node_bounds *bounds)
{
	size_t at = 0;

	while (at < FINGERS - 1 && meta->fingers[at].leaf && meta->fingers[at].leaf != leaf)
		at++;
	if (meta->fingers[at].leaf != leaf) {
		cache_ref(leaf);
		cache_put(meta->fingers[at].leaf);
	}
	bring_forward(meta, at, (struct finger){ leaf, *bounds });
}

void finger_drop(struct meta *meta, const struct cache_page *node)
{
	for (unsigned int at = 0; at < FINGERS && meta->fingers[at].leaf; at++) {
		if (meta->fingers[at].leaf != node)
			continue;
		cache_put(meta->fingers[at].leaf);
		memmove(&meta->fingers[at], &meta->fingers[at + 1], (FINGERS - 1 - at) * sizeof(meta->fingers[0]));
		meta->fingers[FINGERS - 1].leaf = NULL;
		return;
	}
}

void finger_drop_all(struct meta *meta)
{
	while (meta->fingers[0].leaf)
		finger_drop(meta, meta->fingers[0].leaf);
}
