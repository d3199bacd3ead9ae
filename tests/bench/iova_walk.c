/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "iova_walk.h"

#include <bsd/sys/tree.h>
#include <stdlib.h>

struct taken {
	RB_ENTRY(taken) link;
	uint64_t start, length;
};

static int by_start(const struct taken *a, const struct taken *b)
{
	return a->start < b->start ? -1 : a->start > b->start;
}

RB_HEAD(taken_tree, taken);
RB_PROTOTYPE(taken_tree, taken, link, by_start)
RB_GENERATE(taken_tree, taken, link, by_start)

struct iova_walk {
	struct taken_tree tree;
	struct taken *anchor; /* behind the space, so that a walk always has where to begin */
	struct taken *position;
	bool cached;
	uint64_t visited;
};

static struct taken *insert(struct iova_walk *walk, uint64_t start, uint64_t length)
{
	struct taken *taken = malloc(sizeof(*taken));

	if (!taken)
		abort();
	taken->start = start;
	taken->length = length;
	if (RB_INSERT(taken_tree, &walk->tree, taken))
		abort();
	return taken;
}

struct iova_walk *iova_walk_create(uint64_t end, bool cached)
{
	struct iova_walk *walk = calloc(1, sizeof(*walk));

	if (!walk)
		abort();
	RB_INIT(&walk->tree);
	walk->anchor = walk->position = insert(walk, end, 1);
	walk->cached = cached;
	return walk;
}

void iova_walk_destroy(struct iova_walk *walk)
{
	struct taken *taken;

	while ((taken = RB_ROOT(&walk->tree))) {
		RB_REMOVE(taken_tree, &walk->tree, taken);
		free(taken);
	}
	free(walk);
}

void iova_walk_reserve(struct iova_walk *walk, uint64_t start, uint64_t length)
{
	insert(walk, start, length);
}

static bool walk_down(struct iova_walk *walk, struct taken *from, uint64_t length, uint64_t *start)
{
	for (struct taken *above = from, *below; above; above = below) {
		uint64_t end;

		below = RB_PREV(taken_tree, &walk->tree, above);
		end = below ? below->start + below->length : 0;
		walk->visited++;
		if (above->start - end < length)
			continue;
		*start = above->start - length;
		walk->position = insert(walk, *start, length);
		return true;
	}
	return false;
}

bool iova_walk_alloc(struct iova_walk *walk, uint64_t length, uint64_t *start)
{
	if (!walk->cached)
		return walk_down(walk, walk->anchor, length, start);
	return walk_down(walk, walk->position, length, start) ||
	       (walk->position != walk->anchor && walk_down(walk, walk->anchor, length, start));
}

void iova_walk_free(struct iova_walk *walk, uint64_t start)
{
	struct taken key = { .start = start }, *taken = RB_FIND(taken_tree, &walk->tree, &key);

	if (!taken)
		abort();
	/* Above the cached position, or at it: the next search begins just above what became free. */
	if (taken->start >= walk->position->start)
		walk->position = RB_NEXT(taken_tree, &walk->tree, taken);
	RB_REMOVE(taken_tree, &walk->tree, taken);
	free(taken);
}

uint64_t iova_walk_visited(const struct iova_walk *walk)
{
	return walk->visited;
}
