/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A volume for benchmarks: two legs, image files in a directory or memory that outlives the process that mounts it. So
 * a process may mount, work and be gone without a word, as in a crash, and the next one finds what was on the legs.
 * Whatever fails ends the process.
 */
#ifndef MIRRORFS_TESTS_BENCH_VOLUME_H
#define MIRRORFS_TESTS_BENCH_VOLUME_H

#include "mirrorfs/cache.h"
#include "mirrorfs/meta.h"
#include "mirrorfs/mirror.h"

extern struct mirror *mirror;
extern struct cache *cache;
extern struct meta *meta;

/* Legs of that many bytes, sparse; `dir` NULL: in memory. Formats them in a process of its own. */
void volume_make(const char *dir, uint64_t bytes);
void volume_end(void); /* the images go */

/* To be called in one process at a time. Returns the nanoseconds that it took. */
uint64_t volume_mount(uint64_t cache_bytes);
void volume_unmount(void);

/* Runs `part` in a process of its own, which is ended without any cleaning up. */
void volume_part(void (*part)(void *context), void *context);
/* Zeroed memory that all these processes share. */
void *shared(size_t bytes);

uint64_t node_visits(void); /* nodes of the tree looked at since the mount */
uint64_t node_reads(void); /* nodes that were not in memory */

uint64_t random_next(uint64_t *state);
uint64_t random_below(uint64_t *state, uint64_t limit);

#define MUST(call) must_be_zero((call), #call)
void must_be_zero(int error, const char *what);

#endif
