/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Magazines: freed ranges of one fixed length, kept for the next request of that length, so that neither takes the
 * tree's lock. Each thread has a slot with two magazines (one would be exchanged at every turn of a caller that
 * goes back and forth across its end); full ones are exchanged for empty ones at a depot. The number of
 * magazines is fixed, so what they hold is bounded.
 *
 * The depot is trimmed: each magazines_trim() gives back those full ones that nobody needed since the last.
 *
 * Locks: a slot's, then the depot's, both below the tree's.
 */
#ifndef MIRRORFS_RANGE_MAGAZINE_PRIVATE_H
#define MIRRORFS_RANGE_MAGAZINE_PRIVATE_H

#include "mirrorfs/base/sync.h"

#include <stdatomic.h>

#define MAGAZINE_SIZE 64
#define MAGAZINE_SLOTS 16 /* threads share when there are more */
#define MAGAZINE_DEPOT 32

struct magazine {
	_Alignas(64) unsigned int count; /* no line is shared by two threads */
	uint64_t starts[MAGAZINE_SIZE];
};

struct magazine_slot {
	_Alignas(64) struct mutex lock;
	struct magazine *loaded, *previous;
	uint64_t gets, puts;
	_Atomic uint64_t balance; /* puts - gets; read without the lock */
};

struct magazine_depot {
	_Alignas(64) struct mutex lock;
	struct magazine *magazines[MAGAZINE_DEPOT]; /* the full ones first */
	unsigned int full;
	unsigned int idle; /* the least `full` since the last trim */
	uint64_t exchanges;
};

struct magazines {
	struct magazine_slot slots[MAGAZINE_SLOTS];
	struct magazine_depot depot; /* behind the slots: locks of one rank are taken in ascending order */
	struct magazine store[2 * MAGAZINE_SLOTS + MAGAZINE_DEPOT];
};

/* Takes a range out of a magazine; -errno: it stays there. */
typedef int magazine_give(void *context, uint64_t start);

void magazines_init(struct magazines *magazines);
void magazines_fini(struct magazines *magazines);

bool magazines_get(struct magazines *magazines, uint64_t *start); /* false: empty */
bool magazines_put(struct magazines *magazines, uint64_t start); /* false: full */

/* The rest: the caller holds the tree's lock. */

/* A newly taken range that nobody has asked for yet; false: full. */
bool magazines_stock(struct magazines *magazines, uint64_t start);
/* Gives back everything, the calling thread's older magazine, what lay idle; until `give` fails with its error. */
int magazines_drain(struct magazines *magazines, magazine_give *give, void *context);
int magazines_relieve(struct magazines *magazines, magazine_give *give, void *context);
int magazines_trim(struct magazines *magazines, magazine_give *give, void *context);
/* Looks at every range, until `visit` returns nonzero, which is passed on. */
int magazines_each(struct magazines *magazines, magazine_give *visit, void *context);

void magazines_count(struct magazines *magazines, uint64_t *held, uint64_t *gets, uint64_t *puts);
/* Puts less gets: what the tree's count of free ranges does not know. Any thread, no lock. */
uint64_t magazines_balance(struct magazines *magazines);

#endif
