/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "trace.h"

#include "random.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void put(struct trace *trace, uint32_t page, bool node, bool write)
{
	if (trace->length == trace->room) {
		trace->room = trace->room ? trace->room * 2 : 1 << 16;
		trace->at = realloc(trace->at, trace->room * sizeof(*trace->at));
	}
	trace->at[trace->length++] = (struct access){ page, node, write };
	trace->nodes += node;
	if (page >= trace->pages)
		trace->pages = page + 1;
}

void trace_free(struct trace *trace)
{
	free(trace->at);
	memset(trace, 0, sizeof(*trace));
}

void trace_below(const struct trace *trace, uint32_t capacity, struct trace *left)
{
	struct trace data = { .at = NULL };
	bool *hit = calloc(trace->length, sizeof(*hit));
	size_t at = 0;

	for (size_t i = 0; i < trace->length; i++)
		if (!trace->at[i].node)
			put(&data, trace->at[i].page, false, false);
	data.pages = trace->pages;
	reference_lru(&data, capacity, hit);
	for (size_t i = 0; i < trace->length; i++) {
		const struct access *access = &trace->at[i];

		if (access->node || access->write || !hit[at])
			put(left, access->page, access->node, access->write);
		at += !access->node;
	}
	left->pages = trace->pages;
	trace_free(&data);
	free(hit);
}

/* ---- recorded ---- */

/* (file, page) to a dense number: open addressing, grown by doubling. */
struct numbers {
	struct number {
		uint64_t file, page;
		uint32_t number; /* plus 1; 0: free */
	} *slots;
	size_t size, count;
};

static struct number *numbers_slot(const struct numbers *numbers, uint64_t file, uint64_t page)
{
	uint64_t hash = (file * UINT64_C(0x9e3779b97f4a7c15) ^ page) * UINT64_C(0xd6e8feb86659fd93);
	size_t at = (size_t)(hash >> 20) % numbers->size;

	while (numbers->slots[at].number && (numbers->slots[at].file != file || numbers->slots[at].page != page))
		at = (at + 1) % numbers->size;
	return &numbers->slots[at];
}

static uint32_t numbers_of(struct numbers *numbers, uint64_t file, uint64_t page)
{
	struct number *slot;

	if (numbers->count * 2 >= numbers->size) {
		struct numbers more = { .size = numbers->size ? numbers->size * 2 : 1 << 16 };

		more.slots = calloc(more.size, sizeof(*more.slots));
		for (size_t i = 0; i < numbers->size; i++)
			if (numbers->slots[i].number)
				*numbers_slot(&more, numbers->slots[i].file, numbers->slots[i].page) =
					numbers->slots[i];
		more.count = numbers->count;
		free(numbers->slots);
		*numbers = more;
	}
	slot = numbers_slot(numbers, file, page);
	if (!slot->number)
		*slot = (struct number){ file, page, (uint32_t)++numbers->count };
	return slot->number - 1;
}

/* The next number of the stream in LEB128; false: it has ended. */
static bool number_read(FILE *stream, uint64_t *number)
{
	unsigned int shift = 0;
	int byte;

	*number = 0;
	do {
		byte = getc(stream);
		if (byte == EOF)
			return false;
		*number |= (uint64_t)(byte & 127) << shift;
		shift += 7;
	} while (byte & 128 && shift < 64);
	return true;
}

static uint64_t zigzag(uint64_t number)
{
	return number & 1 ? ~(number >> 1) : number >> 1;
}

void trace_load(struct trace *trace, const char *path)
{
	static uint64_t next[1 << 16]; /* page behind the latest of each file */
	struct numbers numbers = { .slots = NULL };
	uint64_t file = 0, word, step, count;
	char command[4200];
	FILE *stream;

	memset(next, 0, sizeof(next));
	snprintf(command, sizeof(command), "xz -dc '%s'", path);
	stream = popen(command, "r");
	while (stream && number_read(stream, &word) && number_read(stream, &step) && number_read(stream, &count)) {
		file += zigzag(word >> 1);
		if (file >= sizeof(next) / sizeof(next[0]))
			break;
		next[file] += zigzag(step);
		while (count--)
			put(trace, numbers_of(&numbers, file, next[file]++), !file, word & 1);
	}
	free(numbers.slots);
	if (!stream || pclose(stream) || !trace->length) {
		fprintf(stderr, "%s: not a trace\n", path);
		exit(2);
	}
}

/* ---- made ---- */

static struct sim_random state; /* one after the other: each trace differs, each run is the same */

static double uniform(void)
{
	return (double)(sim_random_u64(&state) >> 11) / 9007199254740992.0;
}

static uint32_t below(uint32_t limit)
{
	return (uint32_t)(uniform() * limit);
}

/* Zipf's law with an exponent of 0.9 over `limit` pages, by the inverse of its integral. */
static uint32_t zipf(uint32_t limit)
{
	double x = pow(uniform() * (pow(limit, 0.1) - 1) + 1, 10) - 1;

	return x >= limit ? limit - 1 : (uint32_t)x;
}

/* A loop over half of the cache, and now and then one pass over much that is never used again. */
static void make_scan_over_loop(struct trace *trace, uint32_t capacity)
{
	uint32_t hot = capacity / 2, fresh = hot;

	for (int round = 0; round < 20; round++) {
		for (uint32_t i = 0; i < 4 * hot; i++)
			put(trace, i % hot, false, false);
		for (uint32_t i = 0; i < 3 * capacity; i++)
			put(trace, fresh++, false, false);
	}
}

/* A loop that does not quite fit. */
static void make_loop(struct trace *trace, uint32_t capacity)
{
	for (uint32_t i = 0; i < 30 * capacity; i++)
		put(trace, i % (capacity + capacity / 4), false, false);
}

static void make_zipf(struct trace *trace, uint32_t capacity)
{
	for (uint32_t i = 0; i < 60 * capacity; i++)
		put(trace, zipf(10 * capacity), false, false);
}

/* The same beside a reader of a file that is ten times as large as the cache. */
static void make_zipf_and_stream(struct trace *trace, uint32_t capacity)
{
	uint32_t stream = 10 * capacity;

	for (uint32_t i = 0; i < 60 * capacity; i++)
		put(trace, i % 2 ? zipf(10 * capacity) : stream + i / 2 % (10 * capacity), false, false);
}

/* A walk over the tree, again and again, while files are read once: the find beside the copy. */
static void make_find_beside_copy(struct trace *trace, uint32_t capacity)
{
	uint32_t nodes = capacity / 5, fresh = nodes;

	for (uint32_t i = 0; i < 60 * capacity; i++)
		put(trace, i % 8 ? fresh++ : i / 8 % nodes, i % 8 == 0, false);
}

/* Data and nodes by Zipf, each with more than fits. */
static void make_data_and_nodes(struct trace *trace, uint32_t capacity)
{
	for (uint32_t i = 0; i < 60 * capacity; i++) {
		bool node = below(3) == 0;

		put(trace, node ? zipf(capacity) : capacity + zipf(8 * capacity), node, false);
	}
}

/* One writes without end, and never looks back; another reads what is popular. */
static void make_huge_writer(struct trace *trace, uint32_t capacity)
{
	uint32_t fresh = 4 * capacity;

	for (uint32_t i = 0; i < 60 * capacity; i++) {
		bool write = below(2) == 0;

		put(trace, write ? fresh++ : zipf(4 * capacity), false, write);
	}
}

/* What is popular changes all the time: old merit must not count for ever. */
static void make_moving(struct trace *trace, uint32_t capacity)
{
	for (uint32_t i = 0; i < 60 * capacity; i++)
		put(trace, i / 8 + zipf(4 * capacity), false, false);
}

const struct trace_maker trace_makers[] = {
	{ "scan over a loop", make_scan_over_loop, 0 },
	{ "loop", make_loop, 0 },
	{ "zipf", make_zipf, 0 },
	{ "zipf and a stream", make_zipf_and_stream, 0 },
	{ "find beside a copy", make_find_beside_copy, 0 },
	{ "data and nodes", make_data_and_nodes, 0 },
	{ "huge writer", make_huge_writer, 0 },
	/* What was used often stays for a while after it has fallen from favour: the price of passing scans by. */
	{ "moving favourites", make_moving, 12 },
	{ NULL, NULL, 0 },
};
