/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What ring.c and rings.c share. */
#ifndef MIRRORFS_FRONT_RING_H
#define MIRRORFS_FRONT_RING_H

#include "front_private.h"

#include <sched.h>

/* Where a thread runs: on the processor of its queue, where there is room, or on any other. */
enum place { HOME, ANYWHERE, ELSEWHERE, PLACES };

/* Of a processor. */
struct ring_queue {
	struct mutex lock; /* RANK_LEAF */
	struct ring *reader; /* it began reads when nobody else did; perhaps it has none now */
	TAILQ_HEAD(, ring) idle; /* without any entry */
	struct entry_list waiting; /* for one that is */
	bool over;
};

struct ring {
	struct leg_ring *legs;
	struct ring_queue *queue;
	struct front_worker *worker; /* once its thread runs */
	unsigned int cpu; /* the number of the queue, too */
	bool begins; /* with an entry */
	cpu_set_t places[PLACES];
	enum place place;
	uint64_t began_ns; /* what it carried out, if that was awaited; 0: nothing since it looked for work */
	unsigned int lone; /* reads that came while none was under way, since the last crowd */
	bool entered, entering;
	int refused; /* why the kernel did not take the entry */
	struct entry_list ready; /* requests that came */
	struct entry_list ended; /* reads */
	unsigned int untold; /* of them, since the kernel was last entered */
	unsigned int fetching; /* entries that the kernel has */
	bool was_reader;
	struct closing closing;
	struct front_entry *parked; /* the entry of a release, of which the kernel has not been told */
	unsigned int parked_for; /* requests since */
	_Atomic bool wants; /* an entry, since it has none but that; set under the queue's lock */
	_Atomic unsigned int reading; /* entries whose reads are under way */
	/* under the queue's lock */
	struct entry_list inbox; /* what others have for this thread */
	bool idle;
	TAILQ_ENTRY(ring) idle_link;
	_Atomic bool asleep; /* it is to be woken for that */
};

/* ring.c: the kernel gives an entry back: with a request, or because there are no more. */
void ring_entry_came(void *context, uint64_t data, int result);

#endif
