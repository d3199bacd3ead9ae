/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What an actor of the meta level has done: see level_meta.h. */
#include "level_meta.h"
#include "world.h"

#include <stdlib.h>
#include <string.h>

size_t history_value(const struct actor *actor, uint32_t key, uint32_t stamp, unsigned char *value)
{
	uint64_t word = sim_random_mix(actor->object << 48 ^ (uint64_t)key << 32 ^ stamp);
	size_t length = 8 + word % (word >> 32 & 7 ? 200 : VALUE_MAX - 8);

	for (size_t i = 0; i < length; i++)
		value[i] = (unsigned char)((word >> i % 8 * 8) + i);
	return length;
}

void history_block(const struct actor *actor, uint32_t block, uint32_t stamp, unsigned char *data)
{
	uint64_t word = sim_random_mix(actor->object << 48 ^ (uint64_t)block << 32 ^ stamp);

	for (size_t i = 0; i < MIRROR_BLOCK; i += 8, word++)
		memcpy(data + i, &word, 8);
}

struct transaction *history_begin(struct actor *actor)
{
	struct transaction *all = realloc(actor->transactions, (actor->count + 1) * sizeof(*all));

	if (!all)
		sim_fail("no memory");
	actor->transactions = all;
	all += actor->count++;
	*all = (struct transaction){ .number = ++actor->numbers };
	return all;
}

void history_add(struct transaction *transaction, bool of_block, uint32_t first, uint32_t count, uint32_t stamp)
{
	struct change *all = realloc(transaction->changes, (transaction->count + 1) * sizeof(*all));

	if (!all)
		sim_fail("no memory");
	transaction->changes = all;
	all[transaction->count++] = (struct change){ of_block, first, count, stamp };
}

void history_apply(struct content *content, const struct transaction *transaction)
{
	for (size_t i = 0; i < transaction->count; i++) {
		const struct change *change = &transaction->changes[i];
		uint32_t *at = (change->of_block ? content->blocks : content->keys) + change->first;

		for (uint32_t n = 0; n < change->count; n++)
			at[n] = change->stamp;
	}
	content->number = transaction->number;
}

void history_forget_last(struct actor *actor)
{
	free(actor->transactions[--actor->count].changes);
}

void history_clear(struct actor *actor)
{
	while (actor->count)
		history_forget_last(actor);
}
