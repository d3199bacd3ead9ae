/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Magazines over a depot: see magazine_private.h. The scheme is Bonwick's, as Linux's iova code has it. */
#include "magazine_private.h"

/*
 * A number for the calling thread. Under a simulator all fibers are one thread and share a slot, which the
 * slot's lock allows.
 */
static struct magazine_slot *own_slot(struct magazines *magazines)
{
	static _Atomic unsigned int threads;
	static _Thread_local unsigned int number; /* from 1 */

	if (!number)
		number = 1 + atomic_fetch_add_explicit(&threads, 1, memory_order_relaxed) % MAGAZINE_SLOTS;
	return &magazines->slots[number - 1];
}

void magazines_init(struct magazines *magazines)
{
	struct magazine *magazine = magazines->store;

	for (unsigned int i = 0; i < MAGAZINE_SLOTS; i++) {
		struct magazine_slot *slot = &magazines->slots[i];

		mutex_init(&slot->lock, RANK_RANGE_DEPOT);
		slot->loaded = magazine++;
		slot->previous = magazine++;
		slot->gets = slot->puts = 0;
		atomic_init(&slot->balance, 0);
	}
	mutex_init(&magazines->depot.lock, RANK_RANGE_DEPOT);
	magazines->depot.full = magazines->depot.idle = 0;
	magazines->depot.exchanges = 0;
	for (unsigned int i = 0; i < MAGAZINE_DEPOT; i++)
		magazines->depot.magazines[i] = magazine++;
	for (struct magazine *each = magazines->store; each < magazine; each++)
		each->count = 0;
}

void magazines_fini(struct magazines *magazines)
{
	for (unsigned int i = 0; i < MAGAZINE_SLOTS; i++)
		mutex_fini(&magazines->slots[i].lock);
	mutex_fini(&magazines->depot.lock);
}

static void swap(struct magazine **a, struct magazine **b)
{
	struct magazine *was = *a;

	*a = *b;
	*b = was;
}

/* Exchanges the slot's loaded magazine for a full one. */
static bool depot_get(struct magazines *magazines, struct magazine_slot *slot)
{
	struct magazine_depot *depot = &magazines->depot;
	bool got;

	mutex_lock_second(&depot->lock);
	got = depot->full;
	if (got) {
		swap(&slot->loaded, &depot->magazines[--depot->full]);
		depot->exchanges++;
		if (depot->full < depot->idle)
			depot->idle = depot->full;
	}
	mutex_unlock(&depot->lock);
	return got;
}

/* Exchanges the slot's loaded magazine for an empty one. */
static bool depot_put(struct magazines *magazines, struct magazine_slot *slot)
{
	struct magazine_depot *depot = &magazines->depot;
	bool put;

	mutex_lock_second(&depot->lock);
	put = depot->full < MAGAZINE_DEPOT;
	if (put) {
		swap(&slot->loaded, &depot->magazines[depot->full++]);
		depot->exchanges++;
	}
	mutex_unlock(&depot->lock);
	return put;
}

/* The slot's lock is held. */
static bool push(struct magazines *magazines, struct magazine_slot *slot, uint64_t start)
{
	if (slot->loaded->count == MAGAZINE_SIZE) {
		swap(&slot->loaded, &slot->previous);
		if (slot->loaded->count == MAGAZINE_SIZE && !depot_put(magazines, slot))
			return false;
	}
	slot->loaded->starts[slot->loaded->count++] = start;
	return true;
}

/* Only the slot's lock holder writes it, so a plain addition will do. */
static void add_balance(struct magazine_slot *slot, uint64_t more)
{
	uint64_t balance = atomic_load_explicit(&slot->balance, memory_order_relaxed);

	atomic_store_explicit(&slot->balance, balance + more, memory_order_relaxed);
}

bool magazines_get(struct magazines *magazines, uint64_t *start)
{
	struct magazine_slot *slot = own_slot(magazines);
	bool got = true;

	mutex_lock(&slot->lock);
	if (!slot->loaded->count) {
		swap(&slot->loaded, &slot->previous);
		got = slot->loaded->count || depot_get(magazines, slot);
	}
	if (got) {
		*start = slot->loaded->starts[--slot->loaded->count];
		slot->gets++;
		add_balance(slot, UINT64_MAX);
	}
	mutex_unlock(&slot->lock);
	return got;
}

bool magazines_put(struct magazines *magazines, uint64_t start)
{
	struct magazine_slot *slot = own_slot(magazines);
	bool put;

	mutex_lock(&slot->lock);
	put = push(magazines, slot, start);
	if (put) {
		slot->puts++;
		add_balance(slot, 1);
	}
	mutex_unlock(&slot->lock);
	return put;
}

bool magazines_stock(struct magazines *magazines, uint64_t start)
{
	struct magazine_slot *slot = own_slot(magazines);
	bool put;

	mutex_lock(&slot->lock);
	put = push(magazines, slot, start);
	mutex_unlock(&slot->lock);
	return put;
}

static int empty(struct magazine *magazine, magazine_give *give, void *context)
{
	while (magazine->count) {
		int error = give(context, magazine->starts[magazine->count - 1]);

		if (error)
			return error;
		magazine->count--;
	}
	return 0;
}

/* Gives back the full magazines of the depot above `keep`. One that is left half full by an error may stay there. */
static int empty_depot(struct magazine_depot *depot, unsigned int keep, magazine_give *give, void *context)
{
	int error = 0;

	mutex_lock(&depot->lock);
	while (!error && depot->full > keep) {
		error = empty(depot->magazines[depot->full - 1], give, context);
		if (!error)
			depot->full--;
	}
	if (depot->full < depot->idle)
		depot->idle = depot->full;
	mutex_unlock(&depot->lock);
	return error;
}

static uint64_t exchanges(struct magazine_depot *depot)
{
	uint64_t count;

	mutex_lock(&depot->lock);
	count = depot->exchanges;
	mutex_unlock(&depot->lock);
	return count;
}

int magazines_drain(struct magazines *magazines, magazine_give *give, void *context)
{
	uint64_t before;
	int error = 0;

	/* A magazine that went from the depot to a slot behind our back is caught in another round. */
	do {
		before = exchanges(&magazines->depot);
		for (unsigned int i = 0; !error && i < MAGAZINE_SLOTS; i++) {
			struct magazine_slot *slot = &magazines->slots[i];

			mutex_lock(&slot->lock);
			error = empty(slot->loaded, give, context);
			if (!error)
				error = empty(slot->previous, give, context);
			mutex_unlock(&slot->lock);
		}
		if (!error)
			error = empty_depot(&magazines->depot, 0, give, context);
	} while (!error && before != exchanges(&magazines->depot));
	return error;
}

int magazines_relieve(struct magazines *magazines, magazine_give *give, void *context)
{
	struct magazine_slot *slot = own_slot(magazines);
	int error;

	mutex_lock(&slot->lock);
	error = empty(slot->previous, give, context);
	mutex_unlock(&slot->lock);
	return error;
}

int magazines_trim(struct magazines *magazines, magazine_give *give, void *context)
{
	struct magazine_depot *depot = &magazines->depot;
	unsigned int keep;
	int error;

	mutex_lock(&depot->lock);
	keep = depot->full - depot->idle;
	mutex_unlock(&depot->lock);
	error = empty_depot(depot, keep, give, context);
	mutex_lock(&depot->lock);
	depot->idle = depot->full;
	mutex_unlock(&depot->lock);
	return error;
}

static int look(const struct magazine *magazine, magazine_give *visit, void *context)
{
	int error = 0;

	for (unsigned int i = 0; !error && i < magazine->count; i++)
		error = visit(context, magazine->starts[i]);
	return error;
}

int magazines_each(struct magazines *magazines, magazine_give *visit, void *context)
{
	int error = 0;

	for (unsigned int i = 0; !error && i < MAGAZINE_SLOTS; i++) {
		struct magazine_slot *slot = &magazines->slots[i];

		mutex_lock(&slot->lock);
		error = look(slot->loaded, visit, context);
		if (!error)
			error = look(slot->previous, visit, context);
		mutex_unlock(&slot->lock);
	}
	mutex_lock(&magazines->depot.lock);
	for (unsigned int i = 0; !error && i < magazines->depot.full; i++)
		error = look(magazines->depot.magazines[i], visit, context);
	mutex_unlock(&magazines->depot.lock);
	return error;
}

void magazines_count(struct magazines *magazines, uint64_t *held, uint64_t *gets, uint64_t *puts)
{
	*held = *gets = *puts = 0;
	for (unsigned int i = 0; i < MAGAZINE_SLOTS; i++) {
		struct magazine_slot *slot = &magazines->slots[i];

		mutex_lock(&slot->lock);
		*held += slot->loaded->count + slot->previous->count;
		*gets += slot->gets;
		*puts += slot->puts;
		mutex_unlock(&slot->lock);
	}
	mutex_lock(&magazines->depot.lock);
	for (unsigned int i = 0; i < magazines->depot.full; i++)
		*held += magazines->depot.magazines[i]->count;
	mutex_unlock(&magazines->depot.lock);
}

uint64_t magazines_balance(struct magazines *magazines)
{
	uint64_t balance = 0;

	for (unsigned int i = 0; i < MAGAZINE_SLOTS; i++)
		balance += atomic_load_explicit(&magazines->slots[i].balance, memory_order_relaxed);
	return balance;
}
