/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Forged nodes: what node_valid() accepts, every operation must be able to take, and leave valid. */
#include "fuzz.h"

#include "node_private.h"

#include <stdlib.h>
#include <string.h>

#define ADDRESS 400u

static const uint8_t volume[16] = "a volume";

static struct meta_key key_of(struct sim_random *random)
{
	return (struct meta_key){
		.object = sim_random_below(random, 40),
		.type = (uint8_t)sim_random_below(random, 24),
		.offset = fuzz_number(random, sim_random_below(random, 100)),
	};
}

static void add(void *node, struct sim_random *random, const struct meta_key *key)
{
	size_t most = node_room(node) < NODE_ITEM_BYTES ? 0 : node_room(node) - NODE_ITEM_BYTES, length;
	unsigned char *value;
	unsigned int slot;
	bool exact;

	if (most > NODE_VALUE_MAX)
		most = NODE_VALUE_MAX;
	length = node_level(node) ? sizeof(struct format_pointer) : sim_random_below(random, most + 1);
	if (node_room(node) < NODE_ITEM_BYTES + length)
		return;
	slot = node_search(node, key, &exact);
	if (exact)
		return;
	value = malloc(length + 1);
	memset(value, (int)length, length);
	node_insert(node, slot, key, value, length);
	free(value);
}

static unsigned char *make(struct sim_random *random, uint8_t level)
{
	unsigned char *node = malloc(NODE_BYTES);
	uint64_t items = sim_random_below(random, sim_random_chance(random, 4) ? 700 : 30);

	node_init(node, level, volume, ADDRESS, 3);
	for (uint64_t i = 0; i < items + level; i++) {
		struct meta_key key = key_of(random);

		add(node, random, &key);
		if (sim_random_chance(random, 8) && node_count(node) > 1)
			node_remove(node, (unsigned int)sim_random_below(random, node_count(node)));
	}
	return node;
}

static bool valid(void *node, int level)
{
	const uint64_t generation = 3;
	const uint32_t crc = node_seal(node);

	return node_valid(node, volume, ADDRESS, level, &generation, &crc);
}

static uint64_t sum_of_values(const unsigned char *node)
{
	uint64_t sum = 0;

	for (unsigned int i = 0; i < node_count(node); i++) {
		size_t length;
		const unsigned char *value = node_value(node, i, &length);

		fuzz_expect(value + length <= node + NODE_BYTES);
		for (size_t n = 0; n < length; n++)
			sum += value[n];
	}
	return sum;
}

static void halve(unsigned char *node, struct sim_random *random)
{
	unsigned char *right = malloc(NODE_BYTES);
	unsigned int count = node_count(node), at = node_middle(node);
	uint64_t sum = sum_of_values(node);

	fuzz_expect(at > 0 && at < count);
	if (sim_random_chance(random, 4))
		at = (unsigned int)sim_random_below(random, count + 1);
	node_init(right, node_level(node), volume, ADDRESS, 3);
	node_move(node, at, right);
	fuzz_expect(node_count(node) == at && node_count(right) == count - at);
	fuzz_expect(sum_of_values(node) + sum_of_values(right) == sum);
	if (at < count)
		fuzz_expect(valid(right, node_level(node)));
	free(right);
}

static void change(unsigned char *node, struct sim_random *random)
{
	unsigned int count = node_count(node), slot = count ? (unsigned int)sim_random_below(random, count) : 0;
	struct meta_key key = key_of(random), found;
	size_t length;
	bool exact;

	switch (sim_random_below(random, 6)) {
	case 0:
		if (count > 1)
			halve(node, random);
		break;
	case 1:
	case 2:
		if (count > 1)
			node_remove(node, slot);
		break;
	case 3:
		if (count) {
			node_value(node, slot, &length);
			memset(node_value_mutable(node, slot), 1, length);
		}
		break;
	default:
		fuzz_expect(node_search(node, &key, &exact) <= count);
		fuzz_expect(!count || node_child_slot(node, &key) < count);
		for (unsigned int i = 0; i < count; i++) {
			found = node_key(node, i);
			fuzz_expect(node_search(node, &found, &exact) == i && exact);
		}
		add(node, random, &key);
	}
}

static void run(struct sim_random *random)
{
	uint8_t level = (uint8_t)sim_random_below(random, 3);
	unsigned char *node = make(random, level);

	for (uint64_t n = sim_random_below(random, 4); n > 0; n--)
		forge_node(node, random);
	level = node_level(node);
	if (valid(node, level)) {
		fuzz_accepted();
		for (int i = 0; i < 30; i++) {
			sum_of_values(node);
			change(node, random);
			if (node_count(node))
				fuzz_expect(valid(node, level));
		}
	}
	free(node);
}

const struct fuzz_target fuzz_node = { .name = "node", .run = run, .batch = 1024 };
