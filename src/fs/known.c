/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How often callers have looked up an inode that is not in memory: a hash table by number, open addressing, a quarter
 * of it free at least. All under the table lock.
 *
 * It is the one thing that grows with what the kernel knows, 16 to 48 bytes an inode; the kernel's own are thirty times
 * as large.
 */
#include "fs_private.h"

#include <stdlib.h>

#define SIZE_LEAST 64

/* Where the number is, or would be put. */
static size_t known_slot(const struct known *known, uint64_t number)
{
	size_t at = (size_t)(number * UINT64_C(0x9e3779b97f4a7c15) >> 20) & (known->size - 1);

	while (known->slots[at].lookups && known->slots[at].number != number)
		at = (at + 1) & (known->size - 1);
	return at;
}

static bool known_resize(struct fs *fs, size_t size)
{
	struct known *known = &fs->known, old = *known;
	struct known_slot *slots = calloc(size, sizeof(*slots));

	if (!slots)
		return false;
	known->slots = slots;
	known->size = size;
	for (size_t i = 0; i < old.size; i++)
		if (old.slots[i].lookups)
			slots[known_slot(known, old.slots[i].number)] = old.slots[i];
	free(old.slots);
	cache_charge(fs->cache, (ssize_t)(size * sizeof(*slots)) - (ssize_t)(old.size * sizeof(*slots)));
	return true;
}

bool known_put(struct fs *fs, uint64_t number, uint64_t lookups)
{
	struct known *known = &fs->known;

	if ((known->count + 1) * 4 > known->size * 3 && !known_resize(fs, known->size ? known->size * 2 : SIZE_LEAST))
		return false;
	known->slots[known_slot(known, number)] = (struct known_slot){ number, lookups };
	known->count++;
	return true;
}

uint64_t known_take(struct fs *fs, uint64_t number)
{
	struct known *known = &fs->known;
	size_t at = known->size ? known_slot(known, number) : 0;
	uint64_t lookups = known->size ? known->slots[at].lookups : 0;

	if (!lookups)
		return 0;
	known->slots[at].lookups = 0;
	known->count--;
	/* Those behind it that stood aside move up, so that no search ends too early. */
	for (at = (at + 1) & (known->size - 1); known->slots[at].lookups; at = (at + 1) & (known->size - 1)) {
		struct known_slot moved = known->slots[at];

		known->slots[at].lookups = 0;
		known->slots[known_slot(known, moved.number)] = moved;
	}
	if (known->size > SIZE_LEAST && known->count < known->size / 8)
		known_resize(fs, known->size / 2);
	return lookups;
}

void known_fini(struct fs *fs)
{
	cache_charge(fs->cache, -(ssize_t)(fs->known.size * sizeof(*fs->known.slots)));
	free(fs->known.slots);
}
