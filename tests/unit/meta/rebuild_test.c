/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Nodes that no leg has: what the rest proves comes back, what is only old does not, and nothing is overwritten. */
#include "fixture.h"

#define FILE1 100
#define MANY 1500u /* a tree of three levels */
#define LOSSES 8

static struct meta_loss losses[LOSSES];
static size_t loss_count;

static void note_loss(struct meta_rebuild *rebuild, const struct meta_loss *loss)
{
	ck_assert_uint_lt(loss_count, LOSSES);
	losses[loss_count++] = *loss;
}

/* And mounts it. */
static void rebuild(size_t expected)
{
	struct meta_rebuild how = { .lost = note_loss };

	loss_count = 0;
	volume_rebuild(&how);
	ck_assert_uint_eq(loss_count, expected);
	volume_mount(false);
	ck_assert_ptr_null(meta_damage(meta));
}

static uint64_t node_of(unsigned int level, uint64_t object, uint64_t number, uint8_t type)
{
	const struct meta_key key = { object, type, number };
	struct format_pointer pointer;
	struct node_bounds bounds;

	rwlock_read(&meta->tree_lock);
	ck_assert_int_eq(tree_pointer(meta, level, &key, &pointer, &bounds), 0);
	rwlock_unlock(&meta->tree_lock);
	return le64_get(pointer.address);
}

static void lose(uint64_t node)
{
	for (int leg = 0; leg < MIRROR_LEGS; leg++)
		disk_rot(leg, node, 1);
}

static void put_many(int byte)
{
	for (uint64_t i = 0; i < MANY; i++)
		put_item(FILE1, i, byte, NODE_VALUE_MAX);
}

START_TEST(what_lies_below_a_lost_node_is_found)
{
	uint64_t lost;

	put_many(1);
	volume_remount();
	ck_assert_uint_eq(meta->root.level, 2);
	lost = node_of((unsigned int)_i + 1, FILE1, 800, TYPE_XATTR);
	volume_unmount();
	lose(lost);
	rebuild(1);
	ck_assert(!losses[0].leaf);
	ck_assert_uint_gt(losses[0].leaves, 0);
	for (uint64_t i = 0; i < MANY; i++)
		expect_item(FILE1, i, 1, NODE_VALUE_MAX);
	put_item(FILE1, 3, 2, 5);
	volume_remount();
	expect_item(FILE1, 3, 2, 5);
}
END_TEST

/* A slot that is right by its checksum names a root outside the heap, or one that is not there. */
START_TEST(without_a_root_all_leaves_are_found)
{
	put_many(1);
	volume_remount();
	volume_unmount();
	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		for (int newest = 0; newest < 2; newest++) {
			struct format_super *super = (struct format_super *)disk_super(leg, newest);

			super->root.address = le64_of(_i ? le64_get(super->root.address) + 1 : UINT64_MAX - 1);
			super_reseal(super);
		}
	}
	rebuild(1);
	for (uint64_t i = 0; i < MANY; i++)
		expect_item(FILE1, i, 1, NODE_VALUE_MAX);
}
END_TEST

/* A generation that no checkpoint has reached, with every checksum right. */
START_TEST(a_child_younger_than_its_parent_counts_as_lost)
{
	put_many(1);
	volume_remount();
	ck_assert_uint_eq(meta->root.level, 2);
	volume_unmount();
	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		struct format_super *super = (struct format_super *)disk_super(leg, true);
		unsigned char *root = disk_block(leg, le64_get(super->root.address));
		struct format_pointer pointer = load_pointer(root, 1);

		pointer.generation = le64_of(le64_get(super->root.generation) + 1);
		memcpy(node_value_mutable(root, 1), &pointer, sizeof(pointer));
		super->root.crc = le32_of(node_seal(root));
		super_reseal(super);
	}
	rebuild(1);
	for (uint64_t i = 0; i < MANY; i++)
		expect_item(FILE1, i, 1, NODE_VALUE_MAX);
}
END_TEST

/* The legs are full of leaves that were true once. */
START_TEST(what_was_deleted_or_changed_does_not_come_back)
{
	uint64_t lost;

	put_many(1);
	for (int round = 0; round < 3; round++) {
		volume_remount();
		for (uint64_t i = 700 + 30 * (uint64_t)round; i < 730 + 30 * (uint64_t)round; i++) {
			if (i % 30 < 12)
				delete_item(FILE1, i);
			else
				put_item(FILE1, i, 2 + round, 100);
		}
	}
	volume_remount();
	lost = node_of(1, FILE1, 750, TYPE_XATTR);
	volume_unmount();
	lose(lost);
	rebuild(1);
	for (uint64_t i = 0; i < MANY; i++) {
		if (i < 700 || i >= 790)
			expect_item(FILE1, i, 1, NODE_VALUE_MAX);
		else if (i % 30 >= 12)
			expect_item(FILE1, i, 2 + (int)(i - 700) / 30, 100);
	}
}
END_TEST

/* A leaf is lost; an older one has some extents that are still the file's, and some whose blocks it no longer has. */
START_TEST(of_an_older_leaf_only_what_records_prove_is_taken)
{
	struct meta_mapping mapping;
	uint64_t lost;

	for (uint64_t i = 0; i < 400; i++) /* away from what else is in the tree */
		put_item(FILE1 - 1, i, 1, 1000);
	for (uint64_t i = 0; i < 40; i++)
		put_file(FILE1, 2 * i, 1, 1, false, 0, NULL);
	for (uint64_t i = 0; i < 400; i++)
		put_item(FILE1 + 1, i, 1, 1000);
	volume_remount();
	put_file(FILE1, 20, 1, 2, false, 0, NULL);
	punch(FILE1, 30, 31);
	volume_remount();
	lost = node_of(0, FILE1, 20, TYPE_EXTENT);
	ck_assert_uint_ne(lost, node_of(0, OBJECT_VOLUME, UINT64_MAX, TYPE_ALLOC));
	volume_unmount();
	lose(lost);
	rebuild(1);
	ck_assert(losses[0].leaf);
	ck_assert_uint_gt(losses[0].items, 10);
	for (uint64_t i = 0; i < 40; i++) {
		ck_assert_int_eq(meta_map(meta, FILE1, 2 * i, 1, &mapping), 0);
		if (2 * i != 20 && 2 * i != 30)
			expect_file(FILE1, 2 * i, 1, 1);
		else
			ck_assert_uint_eq(mapping.address, 0);
	}
}
END_TEST

START_TEST(the_journal_is_replayed_on_what_was_found)
{
	uint64_t lost;

	put_many(1);
	volume_remount();
	lost = node_of(1, FILE1, 800, TYPE_XATTR);
	put_item(FILE1, 800, 2, 20);
	delete_item(FILE1, 801);
	put_item(FILE1, 1, 2, 20);
	sync_all();
	volume_kill();
	lose(lost);
	rebuild(1);
	expect_item(FILE1, 800, 2, 20);
	expect_item(FILE1, 801, 1, -ENOENT);
	expect_item(FILE1, 802, 1, NODE_VALUE_MAX);
	expect_item(FILE1, 1, 2, 20);
}
END_TEST

#define NODES_MAX 2048

START_TEST(nothing_that_is_referenced_is_overwritten_by_a_rebuild)
{
	static uint64_t node[NODES_MAX];
	struct meta_rebuild how = { .lost = note_loss };
	size_t count, first, slot;
	uint64_t lost;

	put_many(1);
	volume_remount();
	lost = node_of(1, FILE1, 800, TYPE_XATTR);
	volume_unmount();
	count = disk_nodes(disk_super(0, true), node, NODES_MAX);
	lose(lost);
	loss_count = 0;
	volume_rebuild(&how);
	first = log_find(0, -1, PLACE_HEAP);
	slot = log_find(0, -1, PLACE_SLOT);
	ck_assert_uint_lt(first, slot);
	ck_assert_uint_lt(slot, log_count());
	for (size_t i = 0; i < count; i++)
		if (node[i] != lost) /* a bad copy may be tried to be healed */
			ck_assert(!log_wrote(0, log_count(), node[i], NODE_BLOCKS));
	ck_assert_uint_eq(log_find(slot, -1, PLACE_HEAP), log_count());
	/* Flushed before the slot, on each leg. */
	for (int leg = 0; leg < MIRROR_LEGS; leg++)
		ck_assert_uint_lt(log_find(first, leg, PLACE_FLUSH), log_find(0, leg, PLACE_SLOT));
	volume_mount(false);
}
END_TEST

Suite *rebuild_suite(void)
{
	Suite *suite = suite_create("rebuild");
	TCase *tcase = tcase_create("rebuild");

	tcase_add_checked_fixture(tcase, volume_setup, volume_teardown);
	tcase_set_timeout(tcase, 60);
	tcase_add_loop_test(tcase, what_lies_below_a_lost_node_is_found, 0, 2);
	tcase_add_loop_test(tcase, without_a_root_all_leaves_are_found, 0, 2);
	tcase_add_test(tcase, a_child_younger_than_its_parent_counts_as_lost);
	tcase_add_test(tcase, what_was_deleted_or_changed_does_not_come_back);
	tcase_add_test(tcase, of_an_older_leaf_only_what_records_prove_is_taken);
	tcase_add_test(tcase, the_journal_is_replayed_on_what_was_found);
	tcase_add_test(tcase, nothing_that_is_referenced_is_overwritten_by_a_rebuild);
	suite_add_tcase(suite, tcase);
	return suite;
}
