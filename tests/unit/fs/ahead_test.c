/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fixture.h"

#include <stdio.h>

#define FILES 256u

static uint64_t files[FILES];

static unsigned int file_bytes(unsigned int i)
{
	return 100 + i % 3 * 4000;
}

/* Small files of one directory, on the legs and nowhere else. */
static void make_cold_files(void)
{
	uint64_t dir = make_dir(ROOT, "dir");

	for (unsigned int i = 0; i < FILES; i++) {
		char name[16];

		snprintf(name, sizeof(name), "file%u", i);
		files[i] = make_file(dir, name);
		put_pattern(files[i], 0, file_bytes(i), i);
	}
	volume_remount();
}

struct order {
	uint64_t inodes[FILES];
	unsigned int count;
};

static bool next_in_order(void *context, const struct fs_entry *entry)
{
	struct order *order = context;

	if (entry->name[0] != '.')
		order->inodes[order->count++] = entry->inode;
	return true;
}

static void read_in_order(const struct order *order)
{
	for (unsigned int at = 0; at < order->count; at++)
		for (unsigned int i = 0; i < FILES; i++)
			if (files[i] == order->inodes[at])
				expect_pattern(files[i], 0, file_bytes(i), i);
}

static struct order directory_order(void)
{
	struct order order = { .count = 0 };

	ck_assert_int_eq(fs_readdir(fs, find(ROOT, "dir"), 0, false, next_in_order, &order), 0);
	ck_assert_uint_eq(order.count, FILES);
	return order;
}

START_TEST(files_read_in_directory_order_are_few_reads_of_a_leg)
{
	struct order order;
	uint64_t reads;

	make_cold_files();
	order = directory_order();
	for (unsigned int i = 0; i < FILES; i++)
		attr_of(order.inodes[i]); /* so that the tree is in memory */
	reads = volume_reads(0) + volume_reads(1);
	read_in_order(&order);
	ck_assert_uint_le(volume_reads(0) + volume_reads(1) - reads, FILES / 8);
}
END_TEST

START_TEST(files_far_from_each_other_are_read_alone)
{
	uint64_t far[8], bytes;

	for (unsigned int i = 0; i < 8; i++) {
		char name[16];

		snprintf(name, sizeof(name), "far%u", i);
		far[i] = make_file(make_dir(ROOT, name), "file");
		put_pattern(far[i], 0, 100, i);
		ck_assert_int_eq(fs_sync(fs), 0);
		snprintf(name, sizeof(name), "between%u", i);
		put_pattern(make_file(ROOT, name), 0, 5 << 20, i);
		ck_assert_int_eq(fs_sync(fs), 0);
	}
	volume_remount();
	for (unsigned int i = 0; i < 8; i++)
		attr_of(far[i]);
	bytes = volume_read_bytes(0) + volume_read_bytes(1);
	for (unsigned int i = 0; i < 8; i++)
		expect_pattern(far[i * 3 % 8], 0, 100, i * 3 % 8);
	ck_assert_uint_eq(volume_read_bytes(0) + volume_read_bytes(1) - bytes, 8 * FS_BLOCK);
}
END_TEST

START_TEST(a_wrong_guess_costs_no_more_than_its_bound)
{
	uint64_t bytes;

	make_cold_files();
	for (unsigned int i = 0; i < FILES; i++)
		attr_of(files[i]);
	bytes = volume_read_bytes(0) + volume_read_bytes(1);
	expect_pattern(files[0], 0, file_bytes(0), 0);
	ck_assert_uint_le(volume_read_bytes(0) + volume_read_bytes(1) - bytes, FS_BLOCK);
	expect_pattern(files[200], 0, file_bytes(200), 200);
	ck_assert_uint_le(volume_read_bytes(0) + volume_read_bytes(1) - bytes, (1 + 16 + 3) * FS_BLOCK);
}
END_TEST

START_TEST(what_was_read_ahead_is_judged_when_it_is_used)
{
	uint64_t addresses[FILES];
	struct order order;

	make_cold_files();
	for (unsigned int i = 0; i < FILES; i++) {
		struct meta_mapping mapping;

		ck_assert_int_eq(meta_map(meta, files[i], 0, 1, &mapping), 0);
		addresses[i] = mapping.address;
	}
	volume_unmount();
	for (unsigned int i = 0; i < FILES; i += 5) /* the leg that is read: rot, everywhere */
		volume_disk(0)[MIRROR_SPACE_OFFSET + addresses[i] * FS_BLOCK + 7] ^= 4;
	volume_mount(false);
	order = directory_order();
	read_in_order(&order);
	mirror_repairs_wait();
	ck_assert_uint_eq(mirror_repaired(0), (FILES + 4) / 5);
}
END_TEST

START_TEST(what_is_written_is_not_what_was_read_ahead_there)
{
	uint64_t new, dir = make_dir(ROOT, "dir");
	struct meta_mapping mapping;
	struct cache_page *page;
	struct mirror_pin *pin;

	/* The free blocks behind the file are read with it, then another file gets them. */
	new = make_file(dir, "a");
	put_pattern(new, 0, 100, 1);
	sync_file(new);
	ck_assert_int_eq(meta_map(meta, new, 0, 1, &mapping), 0);
	fs->ahead.recent[0] = mapping.address;
	pin = mirror_pin(fs->mirror);
	ck_assert(ahead_read(fs, mapping.address, 1, pin));
	mirror_pin_put(pin);
	new = make_file(dir, "b");
	put_pattern(new, 0, 100, 2);
	ck_assert_int_eq(fs_sync(fs), 0);
	ck_assert_int_eq(meta_map(meta, new, 0, 1, &mapping), 0);
	ck_assert_int_eq(cache_get(&fs->ahead.space, mapping.address, false, true, &page), -ENOENT);
	ck_assert_int_eq(cache_get(&fs->ahead.space, mapping.address + 1, false, true, &page), 0);
	cache_put(page);
}
END_TEST

Suite *ahead_suite(void)
{
	Suite *suite = suite_create("ahead");
	TCase *tests = tcase_create("ahead");

	tcase_add_checked_fixture(tests, volume_setup, volume_teardown);
	tcase_set_timeout(tests, 60);
	tcase_add_test(tests, files_read_in_directory_order_are_few_reads_of_a_leg);
	tcase_add_test(tests, files_far_from_each_other_are_read_alone);
	tcase_add_test(tests, a_wrong_guess_costs_no_more_than_its_bound);
	tcase_add_test(tests, what_was_read_ahead_is_judged_when_it_is_used);
	tcase_add_test(tests, what_is_written_is_not_what_was_read_ahead_there);
	suite_add_tcase(suite, tests);
	return suite;
}
