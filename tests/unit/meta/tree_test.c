/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The tree against a sorted array, across checkpoints, mounts and crashes. */
#include "fixture.h"

#define FILE1 100
#define KEYS 1500

/* By number; length -1: it is not there. */
static struct {
	int length;
	int byte;
} model[KEYS];

static int random_length(void)
{
	switch (rand() % 8) {
	case 0:
		return rand() % 30;
	case 1:
		return rand() % 2 ? 0 : (int)NODE_VALUE_MAX;
	default:
		return (int)NODE_VALUE_MAX - rand() % 600;
	}
}

static void put_random(struct meta_txn *txn, uint64_t number)
{
	static unsigned char value[NODE_VALUE_MAX];
	struct meta_key key = item_key(FILE1, number);

	model[number].length = random_length();
	model[number].byte = rand() & 0xff;
	memset(value, model[number].byte, sizeof(value));
	meta_txn_put(txn, &key, model[number].length ? value : NULL, (size_t)model[number].length);
}

/* Some keys in one transaction, put or deleted. */
static void change_some(unsigned int count, unsigned int deletions)
{
	struct meta_txn *txn = meta_txn_begin(meta);

	while (count-- && !meta_txn_full(txn, 1, NODE_VALUE_MAX)) {
		uint64_t number = (uint64_t)rand() % KEYS;
		struct meta_key key = item_key(FILE1, number);

		if ((unsigned int)rand() % 100 >= deletions) {
			put_random(txn, number);
			continue;
		}
		meta_txn_delete(txn, &key);
		model[number].length = -1;
	}
	ck_assert_int_eq(meta_txn_commit(txn, NULL), 0);
}

/* Most keys, in an order that leaves their nodes half full: a tree of three levels. */
static void put_most(void)
{
	for (uint64_t i = 0; i < KEYS; i++) {
		struct meta_txn *txn = meta_txn_begin(meta);

		if (rand() % 10)
			put_random(txn, i * 7919 % KEYS);
		ck_assert_int_eq(meta_txn_commit(txn, NULL), 0);
	}
}

static void expect_number(uint64_t number)
{
	expect_item(FILE1, number, model[number].byte, model[number].length < 0 ? -ENOENT : model[number].length);
}

static void look_some(void)
{
	uint64_t number = (uint64_t)rand() % KEYS, bound = (uint64_t)rand() % KEYS;
	struct meta_key key = item_key(FILE1, number), last = item_key(FILE1, bound);
	ssize_t length = meta_next(meta, &key, &last, NULL, 0);
	uint64_t wanted = number;

	expect_number(number);
	while (wanted <= bound && model[wanted].length < 0)
		wanted++;
	ck_assert_int_eq(length, wanted <= bound ? model[wanted].length : -ENOENT);
	ck_assert_uint_eq(key.offset, wanted <= bound ? wanted : number);

	key = item_key(FILE1, number);
	length = meta_previous(meta, &key, &last, NULL, 0);
	wanted = number;
	while (wanted > bound && model[wanted].length < 0)
		wanted--;
	if (wanted < bound || model[wanted].length < 0) {
		ck_assert_int_eq(length, -ENOENT);
	} else {
		ck_assert_int_eq(length, model[wanted].length);
		ck_assert_uint_eq(key.offset, wanted);
	}
}

/* All of it, in both directions, and nothing else. */
static void expect_model(void)
{
	const struct meta_key first = item_key(FILE1, 0), last = item_key(FILE1, UINT64_MAX);
	struct meta_key key = first;
	uint64_t next = 0;

	while (meta_next(meta, &key, &last, NULL, 0) >= 0) {
		for (; next < key.offset; next++)
			ck_assert_int_eq(model[next].length, -1);
		expect_number(next++);
		key.offset++;
	}
	for (; next < KEYS; next++)
		ck_assert_int_eq(model[next].length, -1);
	key = last;
	for (next = KEYS; meta_previous(meta, &key, &first, NULL, 0) >= 0; key.offset--) {
		while (--next > key.offset)
			ck_assert_int_eq(model[next].length, -1);
		ck_assert_uint_eq(next, key.offset);
		if (!key.offset)
			break;
	}
}

static void setup(void)
{
	volume_setup();
	for (uint64_t i = 0; i < KEYS; i++)
		model[i].length = -1;
}

START_TEST(random_changes_are_those_of_an_array)
{
	struct meta_stats stats;

	seed_srand(__func__);
	put_most();
	meta_stats(meta, &stats);
	ck_assert_uint_ge(stats.tree_height, 3);
	for (unsigned int step = 0; step < 1200; step++) {
		unsigned int what = (unsigned int)rand() % 200;

		if (what < 90)
			change_some(1 + (unsigned int)rand() % 12, step % 600 < 300 ? 20 : 90);
		else if (what < 190)
			look_some();
		else if (what < 195)
			ck_assert_int_eq(meta_checkpoint(meta), 0);
		else if (what < 198)
			volume_remount();
		else {
			sync_all();
			volume_crash();
		}
		if (step % 100 == 0)
			expect_model();
	}
	expect_model();
	volume_remount();
	expect_model();
}
END_TEST

START_TEST(a_value_may_be_empty)
{
	put_item(FILE1, 1, 0, 0);
	expect_item(FILE1, 1, 0, 0);
	put_item(FILE1, 1, 5, NODE_VALUE_MAX);
	put_item(FILE1, 1, 0, 0);
	volume_remount();
	expect_item(FILE1, 1, 0, 0);
	sync_all();
	volume_crash();
	expect_item(FILE1, 1, 0, 0);
	delete_item(FILE1, 1);
	expect_item(FILE1, 1, 0, -ENOENT);
	delete_item(FILE1, 1);
}
END_TEST

START_TEST(a_value_is_copied_as_far_as_there_is_room)
{
	struct meta_key key = item_key(FILE1, 1);
	unsigned char value[20] = { 0 };

	put_item(FILE1, 1, 5, 100);
	ck_assert_int_eq(meta_get(meta, &key, value, 10), 100);
	ck_assert_int_eq(value[9], 5);
	ck_assert_int_eq(value[10], 0);
}
END_TEST

START_TEST(keys_are_ordered_by_object_then_type_then_offset)
{
	static const struct meta_key keys[] = {
		{ 5, TYPE_INODE, UINT64_MAX }, { 5, TYPE_DIRENT, 0 }, { 5, TYPE_DIRENT, 7 },
		{ 5, TYPE_EXTENT, 3 },	       { 6, TYPE_INODE, 0 },  { UINT64_MAX, 255, UINT64_MAX },
	};
	const struct meta_key last = { UINT64_MAX, 255, UINT64_MAX };
	struct meta_key key = { 5, 0, 0 };

	for (size_t i = 6; i-- > 0;) {
		struct meta_txn *txn = meta_txn_begin(meta);

		meta_txn_put(txn, &keys[i], &keys[i], sizeof(keys[i]));
		ck_assert_int_eq(meta_txn_commit(txn, NULL), 0);
	}
	for (size_t i = 0; i < 6; i++) {
		ck_assert_int_eq(meta_next(meta, &key, &last, NULL, 0), sizeof(key));
		ck_assert_int_eq(meta_key_compare(&key, &keys[i]), 0);
		if (key.offset != UINT64_MAX)
			key.offset++;
		else
			key = (struct meta_key){ key.object, (uint8_t)(key.type + 1), 0 };
	}
}
END_TEST

static uint64_t free_everywhere(void)
{
	struct meta_stats stats;

	meta_stats(meta, &stats);
	return stats.range.free;
}

START_TEST(an_emptied_tree_is_a_leaf_again)
{
	struct meta_stats stats;
	uint64_t free;

	volume_remount();
	free = free_everywhere();
	for (uint64_t i = 0; i < 1200; i++)
		put_item(FILE1, i * 7919 % 1200, 1, NODE_VALUE_MAX);
	meta_stats(meta, &stats);
	ck_assert_uint_ge(stats.tree_height, 3);
	ck_assert_uint_lt(free_everywhere(), free);
	for (uint64_t i = 0; i < 1200; i++)
		delete_item(FILE1, i * 6007 % 1200);
	meta_stats(meta, &stats);
	ck_assert_uint_eq(stats.tree_height, 1);
	volume_remount();
	ck_assert_uint_eq(free_everywhere(), free);
}
END_TEST

START_TEST(who_lets_go_holds_no_node_in_memory)
{
	struct cache_stats stats;

	for (uint64_t i = 0; i < 600; i++)
		put_item(FILE1, i, 1, 1000);
	ck_assert_int_eq(meta_checkpoint(meta), 0);
	meta_let_go(meta);
	cache_drop_clean(meta->cache);
	cache_stats(meta->cache, &stats);
	ck_assert_uint_eq(stats.class[CACHE_NODES].pages, 0);
	for (uint64_t i = 0; i < 600; i++)
		expect_item(FILE1, i, 1, 1000);
}
END_TEST

START_TEST(what_is_appended_fills_its_nodes)
{
	uint64_t nodes = alloc_node_blocks(meta);

	for (uint64_t i = 0; i < 600; i++)
		put_item(FILE1, i, 1, 1000);
	ck_assert_int_eq(meta_checkpoint(meta), 0);
	volume_remount();
	/* 15 of them fit a node. */
	ck_assert_uint_le(alloc_node_blocks(meta) - nodes, (600 / 15 + 4) * NODE_BLOCKS);
}
END_TEST

static unsigned int children_of_root(void)
{
	struct cache_page *page;
	unsigned int count;

	rwlock_read(&meta->tree_lock);
	ck_assert_int_eq(load_root(meta, &page), 0);
	count = node_level(page->data) ? node_count(page->data) : 0;
	cache_put(page);
	rwlock_unlock(&meta->tree_lock);
	return count;
}

START_TEST(a_value_replaced_by_one_as_long_splits_no_full_leaf)
{
	unsigned int children;

	for (uint64_t i = 0; i < 600; i++)
		put_item(FILE1, i, 1, 1000);
	children = children_of_root();
	ck_assert_uint_gt(children, 0);
	for (uint64_t i = 0; i < 600; i++)
		put_item(FILE1, i, 2, 1000);
	ck_assert_uint_eq(children_of_root(), children);
	for (uint64_t i = 0; i < 600; i++)
		expect_item(FILE1, i, 2, 1000);
	put_item(FILE1, 300, 3, 1001);
	ck_assert_uint_eq(children_of_root(), children + 1);
	expect_item(FILE1, 300, 3, 1001);
}
END_TEST

/*
 * The root has room for one more child, and a leaf holds a small, a large and a small half: wherever it is split, the
 * longest value must fit the half where it belongs.
 */
START_TEST(one_split_makes_room_for_the_longest_value)
{
	const size_t all = NODE_BYTES - sizeof(struct format_node);
	const unsigned int most = (unsigned int)(all / (NODE_ITEM_BYTES + sizeof(struct format_pointer)));
	const size_t space = all - 4 * NODE_ITEM_BYTES;
	const size_t first = space / 2 - NODE_VALUE_MAX - 8; /* and the second: just below half of it */
	uint64_t number = 0;

	while (children_of_root() < most - 1)
		put_item(FILE1, 10 * number++, 1, NODE_VALUE_MAX);
	/* The last leaf holds one item: it becomes the first of four. */
	number--;
	put_item(FILE1, 10 * number, 1, first);
	put_item(FILE1, 10 * number + 10, 1, NODE_VALUE_MAX);
	put_item(FILE1, 10 * number + 20, 1, NODE_VALUE_MAX);
	put_item(FILE1, 10 * number + 30, 1, space - first - 2 * NODE_VALUE_MAX);
	ck_assert_uint_eq(children_of_root(), most - 1);
	put_item(FILE1, 10 * number + 5, 2, NODE_VALUE_MAX);
	ck_assert_uint_eq(children_of_root(), most);
	expect_item(FILE1, 10 * number + 5, 2, NODE_VALUE_MAX);
	volume_remount();
	expect_item(FILE1, 10 * number + 5, 2, NODE_VALUE_MAX);
	expect_item(FILE1, 10 * number + 20, 1, NODE_VALUE_MAX);
}
END_TEST

/* The first leaf is gone; what is smaller than all goes to the one behind it, and splits it. */
START_TEST(keys_before_the_first_stay_in_order)
{
	const struct meta_key root = { OBJECT_ROOT, TYPE_INODE, 0 };
	struct meta_txn *txn = meta_txn_begin(meta);

	for (uint64_t i = 0; i < 600; i++)
		put_item(FILE1, i, 1, 200);
	meta_txn_delete(txn, &root);
	ck_assert_int_eq(meta_txn_commit(txn, NULL), 0);
	for (uint64_t i = 0; i < 300; i++)
		delete_item(FILE1, i);
	for (uint64_t i = 500; i > 0; i--)
		put_item(OBJECT_VOLUME, i, 2, 200);
	volume_remount();
	for (uint64_t i = 500; i > 0; i--)
		expect_item(OBJECT_VOLUME, i, 2, 200);
	for (uint64_t i = 300; i < 600; i++)
		expect_item(FILE1, i, 1, 200);
}
END_TEST

/* A child of the root gets a key that belongs below its neighbour; every checksum is made right. */
static void forge_key(int leg, bool last)
{
	struct format_super *super = (struct format_super *)disk_super(leg, true);
	unsigned char *root = disk_block(leg, le64_get(super->root.address)), *child;
	struct format_pointer pointer;
	struct meta_key key;

	ck_assert_uint_eq(node_level(root), 2);
	memcpy(&pointer, node_value(root, 1, NULL), sizeof(pointer));
	child = disk_block(leg, le64_get(pointer.address));
	key = node_key(root, last ? 2 : 1);
	key.offset -= !last;
	node_rekey(child, last ? node_count(child) - 1 : 0, &key);
	pointer.crc = le32_of(node_seal(child));
	memcpy(node_value_mutable(root, 1), &pointer, sizeof(pointer));
	super->root.crc = le32_of(node_seal(root));
	super_reseal(super);
}

/* Nodes are found by key at mount: what is not found would be taken for free. */
START_TEST(a_node_with_a_key_of_its_neighbours_refuses_the_volume)
{
	struct error why;

	put_most();
	for (uint64_t i = 0; i < KEYS; i++)
		put_item(FILE1 + 1, i, 1, NODE_VALUE_MAX);
	volume_unmount();
	forge_key(0, _i);
	forge_key(1, _i);
	ck_assert_int_eq(volume_try_mount(false, &why), -EIO);
	ck_assert_ptr_nonnull(strstr(why.text, "tree"));
}
END_TEST

/* The second leaf of a tree of two levels gets the first key of the third one, and its checksums are right. */
static void forge_leaf(int leg)
{
	struct format_super *super = (struct format_super *)disk_super(leg, true);
	unsigned char *root = disk_block(leg, le64_get(super->root.address)), *leaf;
	struct format_pointer pointer;
	struct meta_key key;

	ck_assert_uint_eq(node_level(root), 1);
	memcpy(&pointer, node_value(root, 1, NULL), sizeof(pointer));
	leaf = disk_block(leg, le64_get(pointer.address));
	key = node_key(root, 2);
	node_rekey(leaf, node_count(leaf) - 1, &key);
	pointer.crc = le32_of(node_seal(leaf));
	memcpy(node_value_mutable(root, 1), &pointer, sizeof(pointer));
	super->root.crc = le32_of(node_seal(root));
	super_reseal(super);
}

/* Such a key would be listed, and not be found. */
START_TEST(a_leaf_with_a_key_of_its_neighbours_is_unreadable)
{
	struct meta_scrub scrub = { .metadata_only = true };
	struct meta_key key = item_key(FILE1, 0), last = item_key(FILE1, UINT64_MAX);
	ssize_t length;

	for (uint64_t i = 0; i < 20; i++)
		put_item(FILE1, i, 1, NODE_VALUE_MAX);
	volume_unmount();
	forge_leaf(0);
	forge_leaf(1);
	volume_mount(false);
	while ((length = meta_next(meta, &key, &last, NULL, 0)) >= 0)
		key.offset++;
	ck_assert_int_eq(length, -EIO);
	expect_item(FILE1, 19, 1, NODE_VALUE_MAX);
	ck_assert_int_eq(meta_scrub(meta, &scrub), 0);
	ck_assert_uint_eq(scrub.unrecoverable, NODE_BLOCKS);
}
END_TEST

Suite *tree_suite(void)
{
	Suite *suite = suite_create("tree");
	TCase *tcase = tcase_create("tree");

	tcase_add_checked_fixture(tcase, setup, volume_teardown);
	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, keys_before_the_first_stay_in_order);
	tcase_add_test(tcase, random_changes_are_those_of_an_array);
	tcase_add_test(tcase, a_value_may_be_empty);
	tcase_add_test(tcase, a_value_is_copied_as_far_as_there_is_room);
	tcase_add_test(tcase, keys_are_ordered_by_object_then_type_then_offset);
	tcase_add_test(tcase, an_emptied_tree_is_a_leaf_again);
	tcase_add_test(tcase, who_lets_go_holds_no_node_in_memory);
	tcase_add_test(tcase, what_is_appended_fills_its_nodes);
	tcase_add_test(tcase, a_value_replaced_by_one_as_long_splits_no_full_leaf);
	tcase_add_test(tcase, one_split_makes_room_for_the_longest_value);
	tcase_add_loop_test(tcase, a_node_with_a_key_of_its_neighbours_refuses_the_volume, 0, 2);
	tcase_add_test(tcase, a_leaf_with_a_key_of_its_neighbours_is_unreadable);
	suite_add_tcase(suite, tcase);
	return suite;
}
