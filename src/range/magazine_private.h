/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Magazines: freed ranges of some fixed lengths, kept for the next request of such a length, so that neither takes the
 * tree's lock. Lengths are counted in units, 1 to `kinds`. Each thread has a slot with two magazines of each kind (one
 * would be exchanged at every turn of a caller that goes back and forth across its end); full ones are exchanged for
 * empty ones at the kind's depot. The number of magazines is fixed, so what they hold is bounded.
 *
 * The depots are trimmed: each magazines_trim() gives back those full ones that nobody needed since the last.
 *
 * Locks: a slot's, then a depot's, both below the tree's.
 */
#ifndef MIRRORFS_RANGE_MAGAZINE_PRIVATE_H
#define MIRRORFS_RANGE_MAGAZINE_PRIVATE_H

#include "mirrorfs/base/sync.h"

#include <stdatomic.h>

#define MAGAZINE_SIZE 64
#define MAGAZINE_SLOTS 16 /* threads share when there are more */
#define MAGAZINE_DEPOT 32
#define MAGAZINES_A_KIND (2 * MAGAZINE_SLOTS + MAGAZINE_DEPOT)

struct magazine {
	_Alignas(64) unsigned int count; /* no line is shared by two threads */
	uint64_t starts[MAGAZINE_SIZE];
};

struct magazine_pair {
	struct magazine *loaded, *previous;
};

struct magazine_slot {
	_Alignas(64) struct mutex lock;
	struct magazine_pair *pairs; /* [units - 1] */
	uint64_t gets, puts;
	_Atomic uint64_t balance; /* units put - units got; read without the lock */
};

struct magazine_depot {
	_Alignas(64) struct mutex lock;
	struct magazine *magazines[MAGAZINE_DEPOT]; /* the full ones first */
	unsigned int full;
	unsigned int idle; /* the least `full` since the last trim */
};

struct magazines {
	struct magazine_slot slots[MAGAZINE_SLOTS];
	unsigned int kinds;
	size_t bytes;
	_Alignas(64) _Atomic uint64_t exchanges; /* changed under a depot's lock */
	/* [units - 1]; behind the slots, because locks of one rank are taken in ascending order of address. */
	struct magazine_depot depots[];
};

/* Takes a range out of a magazine; -errno: it stays there. */
typedef int magazine_give(void *context, uint64_t start, unsigned int units);

struct magazines *magazines_create(unsigned int kinds); /* NULL: no memory */
void magazines_destroy(struct magazines *magazines); /* NULL: nothing */

bool magazines_get(struct magazines *magazines, unsigned int units, uint64_t *start); /* false: empty */
bool magazines_put(struct magazines *magazines, unsigned int units, uint64_t start); /* false: full */

/* The rest: the caller holds the tree's lock. */

/* A newly taken range that nobody has asked for yet; false: full. */
bool magazines_stock(struct magazines *magazines, unsigned int units, uint64_t start);
/* Gives back everything, the calling thread's older magazine, what lay idle; until `give` fails with its error. */
int magazines_drain(struct magazines *magazines, magazine_give *give, void *context);
int magazines_relieve(struct magazines *magazines, unsigned int units, magazine_give *give, void *context);
int magazines_trim(struct magazines *magazines, magazine_give *give, void *context);
/* Looks at every range, until `visit` returns nonzero, which is passed on. */
int magazines_each(struct magazines *magazines, magazine_give *visit, void *context);

void magazines_count(struct magazines *magazines, uint64_t *held, uint64_t *gets, uint64_t *puts); /* held: units */
/* Units put less units got: what the tree's count of free ranges does not know. Any thread, no lock. */
uint64_t magazines_balance(struct magazines *magazines);

#endif
