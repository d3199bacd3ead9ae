/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Policies from the textbook, one page one unit. Pages are numbered densely, so plain arrays do. */
#include "trace.h"

#include <stdlib.h>
#include <string.h>

#define NOBODY UINT32_MAX

/* A list of pages through two arrays; NOBODY is its head. */
struct list {
	uint32_t *before, *behind; /* of page + 1; 0 is the head */
};

static void list_cut(struct list *list, uint32_t page)
{
	list->behind[list->before[page + 1]] = list->behind[page + 1];
	list->before[list->behind[page + 1]] = list->before[page + 1];
}

static void list_push(struct list *list, uint32_t page)
{
	list->behind[page + 1] = list->behind[0];
	list->before[page + 1] = 0;
	list->before[list->behind[0]] = page + 1;
	list->behind[0] = page + 1;
}

size_t reference_lru(const struct trace *trace, uint32_t capacity, bool *hit)
{
	struct list list = { calloc(trace->pages + 1, sizeof(uint32_t)), calloc(trace->pages + 1, sizeof(uint32_t)) };
	bool *held = calloc(trace->pages, sizeof(*held));
	size_t count = 0, hits = 0;

	for (size_t i = 0; i < trace->length; i++) {
		uint32_t page = trace->at[i].page;

		hits += held[page];
		if (hit)
			hit[i] = held[page];
		if (held[page]) {
			list_cut(&list, page);
		} else if (count == capacity) {
			uint32_t last = list.before[0] - 1;

			list_cut(&list, last);
			held[last] = false;
		} else {
			count++;
		}
		held[page] = true;
		list_push(&list, page);
	}
	free(list.before);
	free(list.behind);
	free(held);
	return hits;
}

size_t reference_clock(const struct trace *trace, uint32_t capacity)
{
	uint32_t *ring = malloc(capacity * sizeof(*ring)), *slot = malloc(trace->pages * sizeof(*slot)), hand = 0;
	bool *used = calloc(capacity, sizeof(*used));
	size_t hits = 0;

	memset(ring, 0xff, capacity * sizeof(*ring));
	memset(slot, 0xff, trace->pages * sizeof(*slot));
	for (size_t i = 0; i < trace->length; i++) {
		uint32_t page = trace->at[i].page;

		if (slot[page] != NOBODY) {
			used[slot[page]] = true;
			hits++;
			continue;
		}
		for (; ring[hand] != NOBODY && used[hand]; hand = (hand + 1) % capacity)
			used[hand] = false;
		if (ring[hand] != NOBODY)
			slot[ring[hand]] = NOBODY;
		ring[hand] = page;
		slot[page] = hand;
		hand = (hand + 1) % capacity;
	}
	free(ring);
	free(slot);
	free(used);
	return hits;
}

/* ---- Belady: the page goes that is wanted last ---- */

struct wanted {
	size_t next;
	uint32_t page;
};

static void heap_push(struct wanted *heap, size_t *count, struct wanted wanted)
{
	size_t at = (*count)++;

	for (; at && heap[(at - 1) / 2].next < wanted.next; at = (at - 1) / 2)
		heap[at] = heap[(at - 1) / 2];
	heap[at] = wanted;
}

static struct wanted heap_pop(struct wanted *heap, size_t *count)
{
	struct wanted top = heap[0], last = heap[--*count];
	size_t at = 0, below;

	while ((below = 2 * at + 1) < *count) {
		if (below + 1 < *count && heap[below + 1].next > heap[below].next)
			below++;
		if (heap[below].next <= last.next)
			break;
		heap[at] = heap[below];
		at = below;
	}
	heap[at] = last;
	return top;
}

/* For each access the place of the next one to the same page. */
static size_t *next_uses(const struct trace *trace)
{
	size_t *next = malloc(trace->length * sizeof(*next)), *last = malloc(trace->pages * sizeof(*last));

	memset(last, 0xff, trace->pages * sizeof(*last));
	for (size_t i = trace->length; i-- > 0;) {
		next[i] = last[trace->at[i].page];
		last[trace->at[i].page] = i;
	}
	free(last);
	return next;
}

size_t reference_belady(const struct trace *trace, uint32_t capacity)
{
	size_t *next = next_uses(trace), *want = calloc(trace->pages, sizeof(*want)), hits = 0, held = 0, count = 0;
	struct wanted *heap = malloc(trace->length * sizeof(*heap)); /* with what is out of date: want[] tells */
	bool *has = calloc(trace->pages, sizeof(*has));

	for (size_t i = 0; i < trace->length; i++) {
		uint32_t page = trace->at[i].page;

		if (has[page]) {
			hits++;
		} else if (held++ == capacity) {
			struct wanted out;

			do
				out = heap_pop(heap, &count);
			while (!has[out.page] || want[out.page] != out.next);
			has[out.page] = false;
			held--;
		}
		has[page] = true;
		want[page] = next[i];
		heap_push(heap, &count, (struct wanted){ next[i], page });
	}
	free(next);
	free(want);
	free(heap);
	free(has);
	return hits;
}
