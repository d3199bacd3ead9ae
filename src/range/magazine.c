/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Magazines over depots: see magazine_private.h. The scheme is Bonwick's, as Linux's iova code has it. */
#include "magazine_private.h"

#include <stdlib.h>

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

static size_t lines(size_t bytes)
{
	return (bytes + 63) & ~(size_t)63;
}

struct magazines *magazines_create(unsigned int kinds)
{
	size_t head = sizeof(struct magazines) + kinds * sizeof(struct magazine_depot);
	size_t pairs = lines(kinds * sizeof(struct magazine_pair));
	size_t bytes = head + MAGAZINE_SLOTS * pairs + kinds * MAGAZINES_A_KIND * sizeof(struct magazine);
	struct magazines *magazines = aligned_alloc(_Alignof(struct magazines), bytes);
	char *memory = (char *)magazines + head;
	struct magazine *magazine = (struct magazine *)(memory + MAGAZINE_SLOTS * pairs);

	if (!magazines)
		return NULL;
	magazines->kinds = kinds;
	magazines->bytes = bytes;
	atomic_init(&magazines->exchanges, 0);
	for (unsigned int i = 0; i < kinds * MAGAZINES_A_KIND; i++)
		magazine[i].count = 0;
	for (unsigned int i = 0; i < MAGAZINE_SLOTS; i++) {
		struct magazine_slot *slot = &magazines->slots[i];

		mutex_init(&slot->lock, RANK_RANGE_DEPOT);
		slot->gets = slot->puts = 0;
		atomic_init(&slot->balance, 0);
		slot->pairs = (struct magazine_pair *)(memory + i * pairs);
		for (unsigned int kind = 0; kind < kinds; kind++) {
			slot->pairs[kind].loaded = magazine++;
			slot->pairs[kind].previous = magazine++;
		}
	}
	for (unsigned int kind = 0; kind < kinds; kind++) {
		struct magazine_depot *depot = &magazines->depots[kind];

		mutex_init(&depot->lock, RANK_RANGE_DEPOT);
		depot->full = depot->idle = 0;
		for (unsigned int i = 0; i < MAGAZINE_DEPOT; i++)
			depot->magazines[i] = magazine++;
	}
	return magazines;
}

void magazines_destroy(struct magazines *magazines)
{
	if (!magazines)
		return;
	for (unsigned int i = 0; i < MAGAZINE_SLOTS; i++)
		mutex_fini(&magazines->slots[i].lock);
	for (unsigned int kind = 0; kind < magazines->kinds; kind++)
		mutex_fini(&magazines->depots[kind].lock);
	free(magazines);
}

static void swap(struct magazine **a, struct magazine **b)
{
	struct magazine *was = *a;

	*a = *b;
	*b = was;
}

static void count_exchange(struct magazines *magazines)
{
	atomic_fetch_add_explicit(&magazines->exchanges, 1, memory_order_relaxed);
}

/* Exchanges the pair's loaded magazine for a full one. The slot's lock is held. */
static bool depot_get(struct magazines *magazines, unsigned int kind, struct magazine_pair *pair)
{
	struct magazine_depot *depot = &magazines->depots[kind];
	bool got;

	mutex_lock_second(&depot->lock);
	got = depot->full;
	if (got) {
		swap(&pair->loaded, &depot->magazines[--depot->full]);
		count_exchange(magazines);
		if (depot->full < depot->idle)
			depot->idle = depot->full;
	}
	mutex_unlock(&depot->lock);
	return got;
}

/* Exchanges the pair's loaded magazine for an empty one. The slot's lock is held. */
static bool depot_put(struct magazines *magazines, unsigned int kind, struct magazine_pair *pair)
{
	struct magazine_depot *depot = &magazines->depots[kind];
	bool put;

	mutex_lock_second(&depot->lock);
	put = depot->full < MAGAZINE_DEPOT;
	if (put) {
		swap(&pair->loaded, &depot->magazines[depot->full++]);
		count_exchange(magazines);
	}
	mutex_unlock(&depot->lock);
	return put;
}

/* The slot's lock is held. */
static bool push(struct magazines *magazines, struct magazine_slot *slot, unsigned int units, uint64_t start)
{
	struct magazine_pair *pair = &slot->pairs[units - 1];

	if (pair->loaded->count == MAGAZINE_SIZE) {
		swap(&pair->loaded, &pair->previous);
		if (pair->loaded->count == MAGAZINE_SIZE && !depot_put(magazines, units - 1, pair))
			return false;
	}
	pair->loaded->starts[pair->loaded->count++] = start;
	return true;
}

/* Only the slot's lock holder writes it, so a plain addition will do. */
static void add_balance(struct magazine_slot *slot, uint64_t more)
{
	uint64_t balance = atomic_load_explicit(&slot->balance, memory_order_relaxed);

	atomic_store_explicit(&slot->balance, balance + more, memory_order_relaxed);
}

bool magazines_get(struct magazines *magazines, unsigned int units, uint64_t *start)
{
	struct magazine_slot *slot = own_slot(magazines);
	struct magazine_pair *pair = &slot->pairs[units - 1];
	bool got = true;

	mutex_lock(&slot->lock);
	if (!pair->loaded->count) {
		swap(&pair->loaded, &pair->previous);
		got = pair->loaded->count || depot_get(magazines, units - 1, pair);
	}
	if (got) {
		*start = pair->loaded->starts[--pair->loaded->count];
		slot->gets++;
		add_balance(slot, -(uint64_t)units);
	}
	mutex_unlock(&slot->lock);
	return got;
}

bool magazines_put(struct magazines *magazines, unsigned int units, uint64_t start)
{
	struct magazine_slot *slot = own_slot(magazines);
	bool put;

	mutex_lock(&slot->lock);
	put = push(magazines, slot, units, start);
	if (put) {
		slot->puts++;
		add_balance(slot, units);
	}
	mutex_unlock(&slot->lock);
	return put;
}

bool magazines_stock(struct magazines *magazines, unsigned int units, uint64_t start)
{
	struct magazine_slot *slot = own_slot(magazines);
	bool put;

	mutex_lock(&slot->lock);
	put = push(magazines, slot, units, start);
	mutex_unlock(&slot->lock);
	return put;
}

static int empty(struct magazine *magazine, unsigned int kind, magazine_give *give, void *context)
{
	while (magazine->count) {
		int error = give(context, magazine->starts[magazine->count - 1], kind + 1);

		if (error)
			return error;
		magazine->count--;
	}
	return 0;
}

/* Every magazine of a slot. */
static int empty_slot(struct magazines *magazines, struct magazine_slot *slot, magazine_give *give, void *context)
{
	int error = 0;

	mutex_lock(&slot->lock);
	for (unsigned int kind = 0; !error && kind < magazines->kinds; kind++) {
		error = empty(slot->pairs[kind].loaded, kind, give, context);
		if (!error)
			error = empty(slot->pairs[kind].previous, kind, give, context);
	}
	mutex_unlock(&slot->lock);
	return error;
}

/* The full magazines of a depot above `keep`; its lock is held. One left half full by an error may stay there. */
static int empty_depot(struct magazine_depot *depot, unsigned int kind, unsigned int keep, magazine_give *give,
		       void *context)
{
	int error = 0;

	while (!error && depot->full > keep) {
		error = empty(depot->magazines[depot->full - 1], kind, give, context);
		if (!error)
			depot->full--;
	}
	if (depot->full < depot->idle)
		depot->idle = depot->full;
	return error;
}

int magazines_drain(struct magazines *magazines, magazine_give *give, void *context)
{
	uint64_t before;
	int error = 0;

	/* A magazine that went from a depot to a slot behind our back is caught in another round. */
	do {
		before = atomic_load_explicit(&magazines->exchanges, memory_order_relaxed);
		for (unsigned int i = 0; !error && i < MAGAZINE_SLOTS; i++)
			error = empty_slot(magazines, &magazines->slots[i], give, context);
		for (unsigned int kind = 0; !error && kind < magazines->kinds; kind++) {
			mutex_lock(&magazines->depots[kind].lock);
			error = empty_depot(&magazines->depots[kind], kind, 0, give, context);
			mutex_unlock(&magazines->depots[kind].lock);
		}
	} while (!error && before != atomic_load_explicit(&magazines->exchanges, memory_order_relaxed));
	return error;
}

int magazines_relieve(struct magazines *magazines, unsigned int units, magazine_give *give, void *context)
{
	struct magazine_slot *slot = own_slot(magazines);
	int error;

	mutex_lock(&slot->lock);
	error = empty(slot->pairs[units - 1].previous, units - 1, give, context);
	mutex_unlock(&slot->lock);
	return error;
}

int magazines_trim(struct magazines *magazines, magazine_give *give, void *context)
{
	int error = 0;

	for (unsigned int kind = 0; !error && kind < magazines->kinds; kind++) {
		struct magazine_depot *depot = &magazines->depots[kind];

		mutex_lock(&depot->lock);
		error = empty_depot(depot, kind, depot->full - depot->idle, give, context);
		depot->idle = depot->full;
		mutex_unlock(&depot->lock);
	}
	return error;
}

static int look(const struct magazine *magazine, unsigned int kind, magazine_give *visit, void *context)
{
	int error = 0;

	for (unsigned int i = 0; !error && i < magazine->count; i++)
		error = visit(context, magazine->starts[i], kind + 1);
	return error;
}

static int look_into_slot(struct magazines *magazines, struct magazine_slot *slot, magazine_give *visit, void *context)
{
	int error = 0;

	mutex_lock(&slot->lock);
	for (unsigned int kind = 0; !error && kind < magazines->kinds; kind++) {
		error = look(slot->pairs[kind].loaded, kind, visit, context);
		if (!error)
			error = look(slot->pairs[kind].previous, kind, visit, context);
	}
	mutex_unlock(&slot->lock);
	return error;
}

int magazines_each(struct magazines *magazines, magazine_give *visit, void *context)
{
	int error = 0;

	for (unsigned int i = 0; !error && i < MAGAZINE_SLOTS; i++)
		error = look_into_slot(magazines, &magazines->slots[i], visit, context);
	for (unsigned int kind = 0; !error && kind < magazines->kinds; kind++) {
		struct magazine_depot *depot = &magazines->depots[kind];

		mutex_lock(&depot->lock);
		for (unsigned int i = 0; !error && i < depot->full; i++)
			error = look(depot->magazines[i], kind, visit, context);
		mutex_unlock(&depot->lock);
	}
	return error;
}

static int add_units(void *context, uint64_t start, unsigned int units)
{
	*(uint64_t *)context += units;
	return 0;
}

void magazines_count(struct magazines *magazines, uint64_t *held, uint64_t *gets, uint64_t *puts)
{
	*held = *gets = *puts = 0;
	(void)magazines_each(magazines, add_units, held);
	for (unsigned int i = 0; i < MAGAZINE_SLOTS; i++) {
		struct magazine_slot *slot = &magazines->slots[i];

		mutex_lock(&slot->lock);
		*gets += slot->gets;
		*puts += slot->puts;
		mutex_unlock(&slot->lock);
	}
}

uint64_t magazines_balance(struct magazines *magazines)
{
	uint64_t balance = 0;

	for (unsigned int i = 0; i < MAGAZINE_SLOTS; i++)
		balance += atomic_load_explicit(&magazines->slots[i].balance, memory_order_relaxed);
	return balance;
}
