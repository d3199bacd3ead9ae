/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Traces of accesses to a cache: recorded ones (record.py) and made ones that are hard on some policy; and what
 * textbook policies would hit on them.
 */
#ifndef TRACE_H
#define TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct access {
	uint32_t page; /* 0 .. pages - 1, of the trace's own numbering */
	bool node, write;
};

struct trace {
	struct access *at;
	size_t length, room;
	uint32_t pages;
	size_t nodes; /* accesses to them */
};

/* From a file of record.py. Ends the program with a message if it cannot be read. */
void trace_load(struct trace *trace, const char *path);
void trace_free(struct trace *trace);

/*
 * What is left of a trace below another cache, of `capacity` pages and LRU, that lets every write and every use of a
 * node through: the kernel's, which has file data before we have.
 */
void trace_below(const struct trace *trace, uint32_t capacity, struct trace *left);

/* Those that are made: for a cache of `capacity` pages, from a seed. NULL ends the list. */
struct trace_maker {
	const char *name;
	void (*make)(struct trace *trace, uint32_t capacity);
	double behind_most; /* LRU, in points */
};
extern const struct trace_maker trace_makers[];

/* Hits with room for `capacity` pages. Belady's is the most that any policy can have. `hit`: each use's; or NULL. */
size_t reference_lru(const struct trace *trace, uint32_t capacity, bool *hit);
size_t reference_clock(const struct trace *trace, uint32_t capacity);
size_t reference_belady(const struct trace *trace, uint32_t capacity);

#endif
