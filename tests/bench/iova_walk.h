/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What range is measured against: an allocator as Linux's iova code had it, a tree of the allocated ranges that is
 * walked downwards from the top until a gap fits; without a cached position, as the 64-bit space was before 2017,
 * and with one, as it was after. For the benchmark alone.
 */
#ifndef TESTS_BENCH_IOVA_WALK_H
#define TESTS_BENCH_IOVA_WALK_H

#include <stdbool.h>
#include <stdint.h>

struct iova_walk;

struct iova_walk *iova_walk_create(uint64_t end, bool cached);
void iova_walk_destroy(struct iova_walk *walk);
void iova_walk_reserve(struct iova_walk *walk, uint64_t start, uint64_t length);
bool iova_walk_alloc(struct iova_walk *walk, uint64_t length, uint64_t *start);
void iova_walk_free(struct iova_walk *walk, uint64_t start);
uint64_t iova_walk_visited(const struct iova_walk *walk);

#endif
