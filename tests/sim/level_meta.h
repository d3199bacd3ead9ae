/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the actors and the oracle of the meta level (level_meta.c) and their histories (history.c) share. */
#ifndef SIM_LEVEL_META_H
#define SIM_LEVEL_META_H

#include "level.h"

#include "mirrorfs/base/sync.h"

#define ACTORS_MAX 5
#define KEYS 200u
#define BLOCKS 500u
#define VALUE_MAX 4000u

struct change {
	bool of_block;
	uint32_t first, count;
	uint32_t stamp; /* 0: deleted, a hole */
};

struct transaction {
	uint32_t number;
	uint64_t sequence; /* 0: the commit has not returned */
	struct change *changes;
	size_t count;
};

struct content {
	uint32_t number;
	uint32_t keys[KEYS], blocks[BLOCKS]; /* stamps */
};

struct actor {
	struct meta_level *level;
	uint64_t object;
	struct thread thread;
	struct sim_random random;
	struct content base; /* at the mount */
	struct content now; /* as acknowledged */
	uint32_t numbers; /* the highest number used, never used again */
	uint32_t synced; /* the highest number known durable */
	struct transaction *transactions; /* since the mount */
	size_t count;
	bool running;
};

struct meta_level {
	struct machine *machine;
	struct actor actors[ACTORS_MAX];
	int count;
	uint64_t synced_sequence;
	struct script *script;
	struct thread meddler;
	struct sim_random random;
	bool meddling;
};

/* What a stamp stands for: the bytes of a value, whose length is returned, or of a block. */
size_t history_value(const struct actor *actor, uint32_t key, uint32_t stamp, unsigned char *value);
void history_block(const struct actor *actor, uint32_t block, uint32_t stamp, unsigned char *data);

/* A transaction begins; it is the actor's last, and valid until the next one begins. */
struct transaction *history_begin(struct actor *actor);
void history_add(struct transaction *transaction, bool of_block, uint32_t first, uint32_t count, uint32_t stamp);
/* The last transaction never was: it was refused, and changed nothing. */
void history_forget_last(struct actor *actor);
void history_clear(struct actor *actor);
void history_apply(struct content *content, const struct transaction *transaction);

#endif
