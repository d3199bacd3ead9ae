/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which blocks are known to have no good copy, so that each is counted once, however often it is read, and no longer
 * once it was written or has been read after all. So many that the list is full are not counted further.
 */
#include "mirror_private.h"

#include <stdlib.h>
#include <string.h>

#define LOST_MAX 65536u

/* The place of the first one >= block. */
static size_t place_of(const struct lost *lost, uint64_t block)
{
	size_t low = 0, high = lost->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (lost->blocks[middle] < block)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool room(struct lost *lost)
{
	size_t more = lost->room ? 2 * lost->room : 64;
	uint64_t *blocks;

	if (lost->count < lost->room)
		return true;
	blocks = more <= LOST_MAX ? reallocarray(lost->blocks, more, sizeof(*blocks)) : NULL;
	if (!blocks)
		return false;
	lost->blocks = blocks;
	lost->room = more;
	return true;
}

void lost_add_locked(struct mirror *mirror, uint64_t block, uint32_t count)
{
	struct lost *lost = &mirror->lost;

	for (uint64_t end = block + count; block < end; block++) {
		size_t place = place_of(lost, block);

		if ((place < lost->count && lost->blocks[place] == block) || !room(lost))
			continue;
		memmove(lost->blocks + place + 1, lost->blocks + place, (lost->count - place) * sizeof(*lost->blocks));
		lost->blocks[place] = block;
		lost->count++;
	}
}

void lost_drop_locked(struct mirror *mirror, uint64_t block, uint32_t count)
{
	struct lost *lost = &mirror->lost;
	size_t from, to;

	if (!lost->count)
		return;
	from = place_of(lost, block);
	to = place_of(lost, block + count);
	memmove(lost->blocks + from, lost->blocks + to, (lost->count - to) * sizeof(*lost->blocks));
	lost->count -= to - from;
}
