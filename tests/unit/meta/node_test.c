/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fixture.h"

#include <stdio.h>
#include <time.h>

static const uint8_t volume[16] = "a volume";
static unsigned char node[NODE_BYTES], other[NODE_BYTES];

static struct meta_key key_of(uint64_t number)
{
	return (struct meta_key){ 7, TYPE_XATTR, number };
}

static void add(void *to, uint64_t number, size_t length)
{
	unsigned char value[NODE_VALUE_MAX];
	struct meta_key key = key_of(number);
	bool exact;
	unsigned int slot = node_search(to, &key, &exact);

	memset(value, (int)number, sizeof(value));
	ck_assert(!exact);
	node_insert(to, slot, &key, value, length);
}

static void setup(void)
{
	node_init(node, 0, volume, 400, 3);
}

static bool valid(void)
{
	uint64_t generation = 3;
	uint32_t crc = node_seal(node);

	return node_valid(node, volume, 400, 0, &generation, &crc);
}

START_TEST(items_stay_in_order_with_their_values)
{
	for (uint64_t i = 0; i < 40; i++)
		add(node, i * 7 % 40, 8 * i);
	ck_assert_uint_eq(node_count(node), 40);
	ck_assert(valid());
	for (unsigned int i = 0; i < 40; i++) {
		struct meta_key key = key_of(i);
		size_t length;
		bool exact;
		const unsigned char *value;

		ck_assert_uint_eq(node_search(node, &key, &exact), i);
		ck_assert(exact);
		value = node_value(node, i, &length);
		for (size_t n = 0; n < length; n++)
			ck_assert_uint_eq(value[n], i);
	}
}
END_TEST

START_TEST(room_that_removed_values_leave_is_used_again)
{
	uint64_t number = 0;
	size_t room;

	while (node_room(node) >= NODE_ITEM_BYTES + 1000)
		add(node, number++, 1000);
	room = node_room(node);
	for (unsigned int round = 0; round < 100; round++) {
		node_remove(node, round % node_count(node));
		add(node, number++, 1000);
		ck_assert_uint_eq(node_room(node), room);
		ck_assert(valid());
	}
}
END_TEST

START_TEST(three_of_the_longest_values_fit)
{
	for (uint64_t i = 0; i < 3; i++)
		add(node, i, NODE_VALUE_MAX);
	ck_assert(valid());
}
END_TEST

START_TEST(moving_the_upper_half_loses_nothing)
{
	for (uint64_t i = 0; i < 30; i++)
		add(node, i, 10 * i);
	node_init(other, 0, volume, 500, 3);
	node_move(node, node_middle(node), other);
	ck_assert(valid());
	ck_assert_uint_eq(node_count(node) + node_count(other), 30);
	ck_assert_uint_gt(node_count(node), 15); /* the values grow: halves are of bytes, not of items */
	ck_assert_uint_eq(node_key(other, 0).offset, node_count(node));
}
END_TEST

START_TEST(a_smaller_key_belongs_below_the_first_child)
{
	struct format_pointer pointer = { .address = le64_of(1) };
	struct meta_key key;

	node_init(node, 1, volume, 400, 3);
	for (uint64_t i = 1; i < 4; i++) {
		key = key_of(10 * i);
		node_insert(node, (unsigned int)i - 1, &key, &pointer, sizeof(pointer));
	}
	key = key_of(5);
	ck_assert_uint_eq(node_child_slot(node, &key), 0);
	key = key_of(10);
	ck_assert_uint_eq(node_child_slot(node, &key), 0);
	key = key_of(29);
	ck_assert_uint_eq(node_child_slot(node, &key), 1);
	key = key_of(1000);
	ck_assert_uint_eq(node_child_slot(node, &key), 2);
}
END_TEST

START_TEST(another_volume_address_level_generation_or_checksum_is_not_valid)
{
	static const uint8_t foreign[16] = "b volume";
	uint64_t generation = 3, older = 2;
	uint32_t crc, wrong;

	add(node, 1, 100);
	crc = node_seal(node);
	wrong = crc + 1;
	ck_assert(node_valid(node, volume, 400, 0, &generation, &crc));
	ck_assert(node_valid(node, volume, 400, 0, NULL, NULL));
	ck_assert(!node_valid(node, foreign, 400, 0, NULL, NULL));
	ck_assert(!node_valid(node, volume, 404, 0, NULL, NULL));
	ck_assert(!node_valid(node, volume, 400, 1, NULL, NULL));
	ck_assert(!node_valid(node, volume, 400, 0, &older, NULL));
	ck_assert(!node_valid(node, volume, 400, 0, NULL, &wrong));
	node[NODE_BYTES - 1] ^= 1;
	ck_assert(!node_valid(node, volume, 400, 0, NULL, NULL));
}
END_TEST

/* Whatever the bytes are, with a checksum that fits them: it is refused, or safe to search and to change. */
START_TEST(a_forged_node_is_refused_or_harmless)
{
	const char *given = getenv("MIRRORFS_SEED");
	unsigned int seed = given ? (unsigned int)strtoul(given, NULL, 10) : (unsigned int)time(NULL);
	unsigned int accepted = 0;

	printf("seed %u\n", seed);
	srand(seed);
	for (unsigned int round = 0; round < 20000; round++) {
		unsigned int level = (unsigned int)rand() % 2, flips = (unsigned int)rand() % 4;

		node_init(node, (uint8_t)level, volume, 400, 3);
		for (uint64_t i = 0; i < 20; i++)
			add(node, i, level ? sizeof(struct format_pointer) : 30 * i);
		for (unsigned int i = 0; i < flips; i++)
			node[40 + (unsigned int)rand() % 24 * (unsigned int)(1 + rand() % 20)] = (unsigned char)rand();
		node_seal(node);
		if (!node_valid(node, volume, 400, (int)level, NULL, NULL))
			continue;
		accepted++;
		for (unsigned int i = 0; i < node_count(node); i++) {
			struct meta_key key = node_key(node, i);
			bool exact;
			size_t length;
			const unsigned char *value = node_value(node, i, &length);

			ck_assert_uint_eq(node_search(node, &key, &exact), i);
			ck_assert(value >= node && value + length <= node + NODE_BYTES);
		}
		while (node_count(node) > 1)
			node_remove(node, 0);
		if (node_room(node) >= NODE_ITEM_BYTES + NODE_VALUE_MAX)
			add(node, UINT64_MAX, NODE_VALUE_MAX);
	}
	ck_assert_uint_gt(accepted, 1000);
}
END_TEST

Suite *node_suite(void)
{
	Suite *suite = suite_create("node");
	TCase *tcase = tcase_create("node");

	tcase_add_checked_fixture(tcase, setup, NULL);
	tcase_add_test(tcase, items_stay_in_order_with_their_values);
	tcase_add_test(tcase, room_that_removed_values_leave_is_used_again);
	tcase_add_test(tcase, three_of_the_longest_values_fit);
	tcase_add_test(tcase, moving_the_upper_half_loses_nothing);
	tcase_add_test(tcase, a_smaller_key_belongs_below_the_first_child);
	tcase_add_test(tcase, another_volume_address_level_generation_or_checksum_is_not_valid);
	tcase_add_test(tcase, a_forged_node_is_refused_or_harmless);
	suite_add_tcase(suite, tcase);
	return suite;
}
