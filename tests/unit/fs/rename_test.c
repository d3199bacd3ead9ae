/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fixture.h"

#include <stdio.h>

static int move(uint64_t from_dir, const char *from, uint64_t to_dir, const char *to, unsigned int flags)
{
	return fs_rename(fs, &caller, from_dir, from, to_dir, to, flags);
}

START_TEST(a_rename_moves_the_name_and_nothing_else)
{
	uint64_t dir = make_dir(ROOT, "dir"), file = make_file(ROOT, "file");

	put_pattern(file, 0, 9000, 1);
	ck_assert_int_eq(move(ROOT, "file", dir, "moved", 0), 0);
	ck_assert_uint_eq(find(ROOT, "file"), 0);
	ck_assert_uint_eq(find(dir, "moved"), file);
	ck_assert_int_eq(move(dir, "moved", dir, "again", 0), 0);
	ck_assert_int_eq(move(dir, "moved", dir, "x", 0), -ENOENT);
	volume_remount();
	ck_assert_uint_eq(find(dir, "again"), file);
	ck_assert_uint_eq(count_entries(dir), 1);
	ck_assert_uint_eq(count_entries(ROOT), 1);
	ck_assert_uint_eq(attr_of(file).st.st_nlink, 1);
	expect_pattern(file, 0, 9000, 1);
}
END_TEST

START_TEST(a_replaced_file_is_deleted_when_nobody_knows_it)
{
	uint64_t from = make_file(ROOT, "from"), to = make_file(ROOT, "to");
	struct fs_attr attr;

	put_pattern(to, 0, 9000, 1);
	put_pattern(from, 0, 9000, 2);
	ck_assert_int_eq(move(ROOT, "from", ROOT, "to", 0), 0);
	ck_assert_uint_eq(find(ROOT, "to"), from);
	ck_assert_uint_eq(count_entries(ROOT), 1);
	ck_assert_uint_eq(attr_of(to).st.st_nlink, 0);
	expect_pattern(to, 0, 9000, 1); /* still open somewhere */
	fs_forget(fs, to, 1);
	ck_assert_int_eq(fs_getattr(fs, to, &attr), -ESTALE);
	expect_pattern(from, 0, 9000, 2);
}
END_TEST

START_TEST(noreplace_spares_and_exchange_swaps)
{
	uint64_t dir = make_dir(ROOT, "dir"), a = make_file(ROOT, "a"), b = make_dir(dir, "b");

	ck_assert_int_eq(move(ROOT, "a", dir, "b", RENAME_NOREPLACE), -EEXIST);
	ck_assert_int_eq(move(ROOT, "a", dir, "c", RENAME_EXCHANGE), -ENOENT);
	ck_assert_int_eq(move(ROOT, "a", dir, "b", RENAME_EXCHANGE), 0);
	ck_assert_uint_eq(find(ROOT, "a"), b);
	ck_assert_uint_eq(find(dir, "b"), a);
	ck_assert_uint_eq(find(b, ".."), ROOT);
	ck_assert_uint_eq(attr_of(ROOT).st.st_nlink, 4);
	ck_assert_uint_eq(attr_of(dir).st.st_nlink, 2);
	ck_assert_int_eq(move(ROOT, "a", dir, "c", RENAME_NOREPLACE), 0);
	ck_assert_int_eq(move(dir, "b", dir, "c", RENAME_EXCHANGE | RENAME_NOREPLACE), -EINVAL);
	ck_assert_int_eq(move(dir, "b", dir, "c", 1u << 3), -EINVAL);
	volume_remount();
	ck_assert_uint_eq(find(dir, "b"), a);
	ck_assert_uint_eq(find(dir, "c"), b);
	ck_assert_uint_eq(find(b, ".."), dir);
}
END_TEST

START_TEST(a_whiteout_takes_the_name_that_becomes_free)
{
	uint64_t dir = make_dir(ROOT, "dir"), file = make_file(ROOT, "file"), sub = make_dir(dir, "sub"), whiteout;
	struct fs_attr attr;

	make_file(dir, "old");
	ck_assert_int_eq(move(ROOT, "file", dir, "old", RENAME_WHITEOUT | RENAME_NOREPLACE), -EEXIST);
	ck_assert_int_eq(move(ROOT, "no", dir, "old", RENAME_WHITEOUT), -ENOENT);
	ck_assert_int_eq(move(ROOT, "file", dir, "old", RENAME_WHITEOUT | RENAME_EXCHANGE), -EINVAL);
	ck_assert_uint_eq(find(ROOT, "file"), file);
	ck_assert_int_eq(move(ROOT, "file", dir, "old", RENAME_WHITEOUT), 0);
	ck_assert_int_eq(move(dir, "sub", ROOT, "sub", RENAME_WHITEOUT), 0);
	volume_remount();
	ck_assert_uint_eq(find(dir, "old"), file);
	ck_assert_uint_eq(find(ROOT, "sub"), sub);
	whiteout = find(ROOT, "file");
	attr = attr_of(whiteout);
	ck_assert_uint_eq(attr.st.st_mode, S_IFCHR);
	ck_assert_uint_eq(attr.st.st_rdev, 0);
	ck_assert_uint_eq(attr.st.st_nlink, 1);
	ck_assert_uint_eq(attr.st.st_uid, caller.uid);
	ck_assert_uint_eq(attr_of(find(dir, "sub")).st.st_mode, S_IFCHR);
	ck_assert_uint_eq(attr_of(dir).st.st_nlink, 2);
	ck_assert_uint_eq(attr_of(ROOT).st.st_nlink, 4);
	ck_assert_uint_eq(count_entries(ROOT), 3);
	ck_assert_int_eq(fs_unlink(fs, ROOT, "file"), 0);
}
END_TEST

START_TEST(two_names_of_one_file_both_stay)
{
	uint64_t file = make_file(ROOT, "one");
	struct fs_attr attr;

	ck_assert_int_eq(fs_link(fs, file, ROOT, "two", &attr), 0);
	ck_assert_int_eq(move(ROOT, "one", ROOT, "two", 0), 0);
	ck_assert_uint_eq(find(ROOT, "one"), file);
	ck_assert_uint_eq(find(ROOT, "two"), file);
	ck_assert_int_eq(move(ROOT, "one", ROOT, "one", 0), 0);
	ck_assert_uint_eq(attr_of(file).st.st_nlink, 2);
}
END_TEST

START_TEST(a_directory_replaces_an_empty_directory_only)
{
	uint64_t from = make_dir(ROOT, "from"), full = make_dir(ROOT, "full"), empty = make_dir(ROOT, "empty");
	struct fs_attr attr;

	make_file(full, "x");
	make_file(ROOT, "file");
	ck_assert_int_eq(move(ROOT, "from", ROOT, "full", 0), -ENOTEMPTY);
	ck_assert_int_eq(move(ROOT, "from", ROOT, "file", 0), -ENOTDIR);
	ck_assert_int_eq(move(ROOT, "file", ROOT, "empty", 0), -EISDIR);
	ck_assert_uint_eq(attr_of(ROOT).st.st_nlink, 5);
	ck_assert_int_eq(move(ROOT, "from", ROOT, "empty", 0), 0);
	ck_assert_uint_eq(find(ROOT, "empty"), from);
	ck_assert_uint_eq(attr_of(ROOT).st.st_nlink, 4);
	fs_forget(fs, empty, 1);
	ck_assert_int_eq(fs_getattr(fs, empty, &attr), -ESTALE);
	ck_assert_int_eq(move(ROOT, "empty", full, "below", 0), 0);
	ck_assert_uint_eq(find(from, ".."), full);
	ck_assert_uint_eq(attr_of(full).st.st_nlink, 3);
	ck_assert_uint_eq(attr_of(ROOT).st.st_nlink, 3);
}
END_TEST

START_TEST(no_directory_comes_to_lie_below_itself)
{
	uint64_t a = make_dir(ROOT, "a"), b = make_dir(a, "b"), c = make_dir(b, "c");

	make_file(c, "file");
	ck_assert_int_eq(move(ROOT, "a", a, "x", 0), -EINVAL);
	ck_assert_int_eq(move(ROOT, "a", b, "x", 0), -EINVAL);
	ck_assert_int_eq(move(ROOT, "a", c, "x", 0), -EINVAL);
	ck_assert_int_eq(move(a, "b", c, "x", 0), -EINVAL);
	ck_assert_int_eq(move(c, "file", ROOT, "a", 0), -ENOTEMPTY);
	ck_assert_int_eq(move(b, "c", ROOT, "a", 0), -ENOTEMPTY);
	ck_assert_int_eq(move(b, "c", ROOT, "a", RENAME_EXCHANGE), -EINVAL);
	ck_assert_int_eq(move(ROOT, "a", b, "c", RENAME_EXCHANGE), -EINVAL);
	ck_assert_int_eq(move(b, "c", ROOT, "c", 0), 0);
	ck_assert_int_eq(move(ROOT, "a", c, "a", 0), 0);
	ck_assert_uint_eq(find(a, ".."), c);
	ck_assert_int_eq(move(ROOT, "c", b, "c", 0), -EINVAL);
	volume_remount();
	ck_assert_uint_eq(find(find(find(ROOT, "c"), "a"), "b"), b);
}
END_TEST

START_TEST(a_replacing_rename_never_leads_to_an_empty_file)
{
	uint64_t to = make_file(ROOT, "to"), from;

	put_pattern(to, 0, 9000, 1);
	sync_file(to);
	sync_names();
	from = make_file(ROOT, "from");
	put_pattern(from, 0, 9000, 2);
	ck_assert_int_eq(move(ROOT, "from", ROOT, "to", 0), 0);
	/* Nobody synced the new file, but somebody synced something later. */
	sync_names();
	volume_crash();
	ck_assert_uint_eq(find(ROOT, "to"), from);
	expect_size(from, 9000);
	expect_pattern(from, 0, 9000, 2);
}
END_TEST

START_TEST(renames_across_a_bucket_of_one_hash_lose_nobody)
{
	uint64_t dir = make_dir(ROOT, "dir"), inodes[30];
	char from[16], to[16];

	for (int i = 0; i < 30; i++) {
		snprintf(from, sizeof(from), "n%d", i);
		inodes[i] = make_file(dir, from);
	}
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 30; i++) {
			snprintf(from, sizeof(from), "%c%d", "nmlk"[round], i);
			snprintf(to, sizeof(to), "%c%d", "nmlk"[round + 1], i);
			ck_assert_int_eq(move(dir, from, dir, to, 0), 0);
		}
	}
	for (int i = 0; i < 30; i++) {
		snprintf(to, sizeof(to), "k%d", i);
		ck_assert_uint_eq(find(dir, to), inodes[i]);
	}
	ck_assert_uint_eq(count_entries(dir), 30);
}
END_TEST

Suite *rename_suite(void)
{
	Suite *suite = suite_create("rename");
	TCase *tests = tcase_create("rename");

	tcase_add_checked_fixture(tests, volume_setup, volume_teardown);
	tcase_set_timeout(tests, 60);
	tcase_add_test(tests, a_rename_moves_the_name_and_nothing_else);
	tcase_add_test(tests, a_replaced_file_is_deleted_when_nobody_knows_it);
	tcase_add_test(tests, noreplace_spares_and_exchange_swaps);
	tcase_add_test(tests, a_whiteout_takes_the_name_that_becomes_free);
	tcase_add_test(tests, two_names_of_one_file_both_stay);
	tcase_add_test(tests, a_directory_replaces_an_empty_directory_only);
	tcase_add_test(tests, no_directory_comes_to_lie_below_itself);
	tcase_add_test(tests, a_replacing_rename_never_leads_to_an_empty_file);
	tcase_add_test(tests, renames_across_a_bucket_of_one_hash_lose_nobody);
	suite_add_tcase(suite, tests);
	return suite;
}
