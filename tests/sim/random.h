/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A stream of random numbers from a seed (splitmix64). Each user has a stream of its own, so that one more draw
 * here does not change what happens there.
 */
#ifndef SIM_RANDOM_H
#define SIM_RANDOM_H

#include <stdbool.h>
#include <stdint.h>

struct sim_random {
	uint64_t state;
};

/* `stream` tells the streams of one seed apart. */
static inline struct sim_random sim_random_of(uint64_t seed, uint64_t stream)
{
	return (struct sim_random){ seed * UINT64_C(0xd1342543de82ef95) + stream * UINT64_C(0xaf251af3b0f025b5) };
}

static inline uint64_t sim_random_mix(uint64_t value)
{
	value = (value ^ value >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	value = (value ^ value >> 27) * UINT64_C(0x94d049bb133111eb);
	return value ^ value >> 31;
}

static inline uint64_t sim_random_u64(struct sim_random *random)
{
	return sim_random_mix(random->state += UINT64_C(0x9e3779b97f4a7c15));
}

/* 0 .. n - 1; n > 0. The bias of a modulus does not matter here. */
static inline uint64_t sim_random_below(struct sim_random *random, uint64_t n)
{
	return sim_random_u64(random) % n;
}

/* True once in `n` times. */
static inline bool sim_random_chance(struct sim_random *random, uint64_t n)
{
	return sim_random_below(random, n) == 0;
}

#endif
