/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inodes that callers know and no call uses leave memory, and nobody can tell. */
#include "fixture.h"

#include <stdio.h>

#define MOST 10
#define MANY 1000

static void setup(void)
{
	volume_setup();
	volume_inodes = MOST;
	volume_remount();
}

static void teardown(void)
{
	volume_teardown();
	volume_inodes = 0;
}

static struct fs_stats stats_now(void)
{
	struct fs_stats stats;

	fs_stats(fs, &stats);
	return stats;
}

/* So many files that whatever may leave memory has left it. */
static void push_out(void)
{
	char name[32];
	struct fs_attr attr;

	cache_drop_clean(cache); /* else files with pages stay for longer */
	for (int i = 0; i < 4 * MOST; i++) {
		snprintf(name, sizeof(name), "other%d", i);
		if (fs_lookup(fs, ROOT, name, &attr))
			make_file(ROOT, name);
	}
}

START_TEST(idle_inodes_leave_memory_and_are_known)
{
	uint64_t files[MANY];
	char name[32];

	for (int i = 0; i < MANY; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		files[i] = make_file(ROOT, name);
		ck_assert_uint_le(stats_now().inodes, MOST + 2);
	}
	ck_assert_uint_eq(stats_now().inodes + stats_now().known, MANY);
	for (int i = 0; i < MANY; i++)
		ck_assert_uint_eq(attr_of(files[i]).st.st_nlink, 1);
	ck_assert_uint_le(stats_now().inodes, MOST + 2);
	ck_assert_uint_eq(stats_now().inodes + stats_now().known, MANY);
	for (int i = 0; i < MANY; i++)
		ck_assert_int_eq(fs_forget(fs, files[i], 1), 0);
	ck_assert_uint_eq(stats_now().inodes + stats_now().known, 0);
}
END_TEST

START_TEST(lookups_add_up_whether_in_memory_or_not)
{
	uint64_t file = make_file(ROOT, "file");
	struct fs_attr attr;

	put_pattern(file, 0, 5000, 1);
	sync_file(file);
	push_out();
	ck_assert_int_eq(fs_lookup(fs, ROOT, "file", &attr), 0);
	push_out();
	ck_assert_int_eq(fs_lookup(fs, ROOT, "file", &attr), 0);
	push_out();
	ck_assert_int_eq(fs_forget(fs, file, 1), 0);
	ck_assert_int_eq(fs_unlink(fs, ROOT, "file"), 0);
	push_out();
	ck_assert_int_eq(fs_forget(fs, file, 1), 0);
	expect_pattern(file, 0, 5000, 1);
	ck_assert_int_eq(fs_forget(fs, file, 1), 0);
	ck_assert_int_eq(fs_getattr(fs, file, &attr), -ESTALE);
	ck_assert_uint_eq(count_items(file, TYPE_INODE), 0);
}
END_TEST

START_TEST(what_is_only_in_memory_stays)
{
	uint64_t files[4 * MOST], nameless;
	char name[32];

	for (int i = 0; i < 4 * MOST; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		files[i] = make_file(ROOT, name);
		put_pattern(files[i], 0, 5000, (unsigned int)i);
	}
	nameless = make_file(ROOT, "nameless");
	put_pattern(nameless, 0, 5000, 1);
	sync_file(nameless);
	ck_assert_int_eq(fs_unlink(fs, ROOT, "nameless"), 0);
	push_out();
	ck_assert_uint_eq(stats_now().dirty_inodes, 4 * MOST);
	ck_assert_uint_eq(stats_now().orphans, 1);
	for (int i = 0; i < 4 * MOST; i++)
		expect_pattern(files[i], 0, 5000, (unsigned int)i);
	expect_pattern(nameless, 0, 5000, 1);
}
END_TEST

START_TEST(times_that_were_only_in_memory_are_logged_first)
{
	uint64_t file = make_file(ROOT, "file");
	struct timespec read, now;

	put_pattern(file, 0, 5000, 1);
	sync_file(file);
	cache_drop_clean(cache);
	expect_pattern(file, 0, 5000, 1);
	read = attr_of(file).st.st_atim;
	ck_assert_uint_eq(stats_now().dirty_inodes, 1);
	cache_drop_clean(cache);
	push_out();
	ck_assert_uint_eq(stats_now().dirty_inodes, 0);
	now = attr_of(file).st.st_atim;
	ck_assert_int_eq(memcmp(&now, &read, sizeof(read)), 0);
}
END_TEST

START_TEST(files_with_cached_pages_stay_up_to_twice_as_many)
{
	char name[32];

	for (int i = 0; i < 10 * MOST; i++) {
		uint64_t file;

		snprintf(name, sizeof(name), "f%d", i);
		file = make_file(ROOT, name);
		put_pattern(file, 0, 5000, (unsigned int)i);
		sync_file(file);
	}
	ck_assert_uint_ge(stats_now().inodes, 2 * MOST - 2);
	ck_assert_uint_le(stats_now().inodes, 2 * MOST + 2);
}
END_TEST

START_TEST(a_directory_that_is_not_in_memory_is_used_as_ever)
{
	uint64_t dir = make_dir(ROOT, "dir"), file;
	struct fs_attr attr;

	make_file(dir, "a");
	push_out();
	file = make_file(dir, "b");
	push_out();
	ck_assert_int_eq(fs_rename(fs, &caller, dir, "b", ROOT, "c", 0), 0);
	push_out();
	ck_assert_uint_eq(find(ROOT, "c"), file);
	ck_assert_uint_eq(count_entries(dir), 1);
	ck_assert_int_eq(fs_rmdir(fs, ROOT, "dir"), -ENOTEMPTY);
	ck_assert_int_eq(fs_unlink(fs, dir, "a"), 0);
	push_out();
	ck_assert_int_eq(fs_rmdir(fs, ROOT, "dir"), 0);
	ck_assert_int_eq(fs_forget(fs, dir, 1), 0);
	ck_assert_int_eq(fs_getattr(fs, dir, &attr), -ESTALE);
}
END_TEST

/* Looks at all of them, as find does: how many nodes of the tree had to be read for it. */
static uint64_t walk_all(const uint64_t *files, unsigned int count)
{
	struct cache_stats before, after;

	cache_stats(cache, &before);
	for (unsigned int i = 0; i < count; i++)
		ck_assert_uint_eq(attr_of(files[i]).st.st_nlink, 1);
	ck_assert_uint_eq(count_entries(ROOT), count + 2); /* and what is copied */
	cache_stats(cache, &after);
	return after.class[CACHE_NODES].misses - before.class[CACHE_NODES].misses;
}

START_TEST(a_walk_beside_a_copy_of_many_times_the_cache_keeps_its_metadata)
{
	enum { FILES = 6000, PIECE = 65536, LONG = 16 << 20 };
	static uint64_t files[FILES];
	static unsigned char data[PIECE];
	uint64_t from = make_file(ROOT, "from"), to = make_file(ROOT, "to"), cold, warm;
	struct fs_attr attr;
	char name[32];

	put_pattern(from, 0, LONG, 1);
	for (unsigned int i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		files[i] = make_file(ROOT, name);
	}
	volume_remount();
	ck_assert_int_eq(fs_lookup(fs, ROOT, "from", &attr), 0);
	ck_assert_int_eq(fs_lookup(fs, ROOT, "to", &attr), 0);
	cold = walk_all(files, FILES);
	ck_assert_uint_gt(cold, 60);
	for (uint64_t at = 0; at < UINT64_C(10) * LONG; at += PIECE) {
		ck_assert_int_eq(fs_read(fs, from, data, PIECE, at % LONG), PIECE);
		ck_assert_int_eq(fs_write(fs, to, data, PIECE, at % LONG, 0), PIECE);
	}
	warm = walk_all(files, FILES);
	ck_assert_msg(warm <= cold / 10, "%llu nodes were read again of %llu", (unsigned long long)warm,
		      (unsigned long long)cold);
}
END_TEST

Suite *inode_suite(void)
{
	Suite *suite = suite_create("inode");
	TCase *tests = tcase_create("inode"), *walk = tcase_create("walk");

	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_set_timeout(tests, 30);
	tcase_add_test(tests, idle_inodes_leave_memory_and_are_known);
	tcase_add_test(tests, lookups_add_up_whether_in_memory_or_not);
	tcase_add_test(tests, what_is_only_in_memory_stays);
	tcase_add_test(tests, times_that_were_only_in_memory_are_logged_first);
	tcase_add_test(tests, files_with_cached_pages_stay_up_to_twice_as_many);
	tcase_add_test(tests, a_directory_that_is_not_in_memory_is_used_as_ever);
	suite_add_tcase(suite, tests);
	tcase_add_checked_fixture(walk, volume_setup, volume_teardown);
	tcase_set_timeout(walk, 60);
	tcase_add_test(walk, a_walk_beside_a_copy_of_many_times_the_cache_keeps_its_metadata);
	suite_add_tcase(suite, walk);
	return suite;
}
