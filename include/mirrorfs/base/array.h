/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Arrays that grow by their end. */
#ifndef MIRRORFS_BASE_ARRAY_H
#define MIRRORFS_BASE_ARRAY_H

#include <errno.h>
#include <stdlib.h>

/* A number of items of which one more is to have room. 0; -ENOMEM: everything is as it was. Never waits. */
static inline int array_grow(void **array, size_t *room, size_t count, size_t first, size_t item)
{
	size_t more = *room ? 2 * *room : first;
	void *at;

	if (count < *room)
		return 0;
	at = reallocarray(*array, more, item);
	if (!at)
		return -ENOMEM;
	*array = at;
	*room = more;
	return 0;
}

/* Room for one more behind `count` items; `first`: how many there is room for to begin with. The items may move. */
#define ARRAY_GROW(array, room, count, first) array_grow((void **)&(array), &(room), count, first, sizeof(*(array)))

#endif
