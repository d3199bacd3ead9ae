/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Workers that do on a filesystem whatever can be done, at random from a seed. Some share a folder and know only which
 * errors may come (chaos.c); the others have a folder each, remember what they did, and compare (known.h). All that
 * follows is for POSIX and Linux to say: it runs on any filesystem, as the judge of itself.
 */
#ifndef STRESS_H
#define STRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define XATTR_MAX 65536u

struct stress {
	uint64_t seed;
	unsigned int seconds; /* of each round */
	bool direct, mmap; /* also this way */
	bool root;
	size_t xattr; /* bytes of the longest extended attribute */
};

/* ---- chance ---- */

struct chance {
	uint64_t state;
};
uint64_t chance_next(struct chance *chance);
uint64_t chance_below(struct chance *chance, uint64_t n);
static inline bool chance_of(struct chance *chance, uint64_t n)
{
	return chance_below(chance, n) == 0;
}

/* ---- workers: each is a process, and goes on where it was in the round before ---- */

struct worker {
	const struct stress *stress;
	struct chance chance;
	unsigned int number;
	unsigned long operations;
	char story[64][96]; /* of the last ones, in a ring */
};

/* What is about to be done: told if it fails. */
void worker_note(struct worker *worker, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Ends the process. */
_Noreturn void worker_fail(struct worker *worker, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* In the current folder; `state` is NULL in the first round. Returns it. */
void *known_round(struct worker *worker, void *state, bool (*goes_on)(void));
void *chaos_round(struct worker *worker, void *state, bool (*goes_on)(void));

#endif
