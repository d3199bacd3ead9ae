/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fixture.h"

#include <dirent.h>
#include <stdio.h>

START_TEST(siphash_gives_the_published_value)
{
	uint8_t key[16], text[15];

	for (uint8_t i = 0; i < 16; i++)
		key[i] = i;
	for (uint8_t i = 0; i < 15; i++)
		text[i] = i;
	ck_assert_uint_eq(siphash(key, text, 15), UINT64_C(0xa129ca6149be45e5));
	ck_assert_uint_eq(siphash(key, text, 0), UINT64_C(0x726fdb47dd0e0e31));
	ck_assert_uint_eq(siphash(key, text, 8), UINT64_C(0x93f5f5799a932462));
}
END_TEST

START_TEST(a_name_is_bytes_without_slash_of_at_most_255)
{
	char name[258];
	struct fs_attr attr;

	memset(name, 'n', sizeof(name));
	name[256] = 0;
	ck_assert_int_eq(fs_mknod(fs, &caller, ROOT, name, S_IFREG, 0, &attr), -ENAMETOOLONG);
	ck_assert_int_eq(fs_lookup(fs, ROOT, name, &attr), -ENAMETOOLONG);
	name[255] = 0;
	make_file(ROOT, name);
	ck_assert_uint_ne(find(ROOT, name), 0);
	ck_assert_int_eq(fs_mknod(fs, &caller, ROOT, "", S_IFREG, 0, &attr), -EINVAL);
	ck_assert_int_eq(fs_mknod(fs, &caller, ROOT, "a/b", S_IFREG, 0, &attr), -EINVAL);
	ck_assert_int_eq(fs_mknod(fs, &caller, ROOT, ".", S_IFREG, 0, &attr), -EEXIST);
	ck_assert_int_eq(fs_mkdir(fs, &caller, ROOT, "..", 0755, &attr), -EEXIST);
	ck_assert_int_eq(fs_rmdir(fs, ROOT, "."), -EINVAL);
	make_file(ROOT, "\xff\x01 \n");
	ck_assert_uint_ne(find(ROOT, "\xff\x01 \n"), 0);
}
END_TEST

START_TEST(dot_and_dotdot_lead_to_self_and_parent)
{
	uint64_t a = make_dir(ROOT, "a"), b = make_dir(a, "b");

	ck_assert_uint_eq(find(b, "."), b);
	ck_assert_uint_eq(find(b, ".."), a);
	ck_assert_uint_eq(find(a, ".."), ROOT);
	ck_assert_uint_eq(find(ROOT, ".."), ROOT);
	volume_remount();
	ck_assert_uint_eq(find(b, ".."), a);
}
END_TEST

START_TEST(what_is_no_directory_has_no_names)
{
	uint64_t file = make_file(ROOT, "file");
	struct fs_attr attr;

	ck_assert_int_eq(fs_lookup(fs, file, "x", &attr), -ENOTDIR);
	ck_assert_int_eq(fs_mknod(fs, &caller, file, "x", S_IFREG, 0, &attr), -ENOTDIR);
	ck_assert_int_eq(fs_lookup(fs, 987654321, "x", &attr), -ESTALE);
}
END_TEST

/* ---- readdir ---- */

struct listing {
	char names[64][16];
	uint64_t inodes[64];
	uint64_t next[64];
	uint8_t types[64];
	size_t count, stop;
	bool attrs;
};

static bool list(void *context, const struct fs_entry *entry)
{
	struct listing *l = context;

	if (l->count == l->stop)
		return false;
	ck_assert_int_eq(!!entry->attr, l->attrs);
	if (entry->attr)
		ck_assert_uint_eq(entry->attr->st.st_ino, entry->inode);
	snprintf(l->names[l->count], sizeof(l->names[0]), "%s", entry->name);
	l->inodes[l->count] = entry->inode;
	l->types[l->count] = entry->type;
	l->next[l->count++] = entry->next;
	return true;
}

static struct listing list_from(uint64_t dir, uint64_t cookie, size_t stop, bool attrs)
{
	struct listing l = { .stop = stop, .attrs = attrs };

	ck_assert_int_eq(fs_readdir(fs, dir, cookie, attrs, list, &l), 0);
	return l;
}

START_TEST(readdir_begins_with_dot_and_dotdot_and_tells_types)
{
	uint64_t dir = make_dir(ROOT, "dir"), sub = make_dir(dir, "sub");
	struct fs_attr attr;
	struct listing l;

	ck_assert_int_eq(fs_symlink(fs, &caller, dir, "link", "x", &attr), 0);
	ck_assert_int_eq(fs_mknod(fs, &caller, dir, "pipe", S_IFIFO | 0600, 0, &attr), 0);
	l = list_from(dir, 0, 64, false);
	ck_assert_uint_eq(l.count, 5);
	ck_assert_str_eq(l.names[0], ".");
	ck_assert_uint_eq(l.inodes[0], dir);
	ck_assert_uint_eq(l.next[0], 1);
	ck_assert_str_eq(l.names[1], "..");
	ck_assert_uint_eq(l.inodes[1], ROOT);
	ck_assert_uint_eq(l.next[1], 2);
	for (size_t i = 2; i < 5; i++) {
		ck_assert_uint_ge(l.next[i], 256);
		ck_assert_uint_le(l.next[i], INT64_MAX);
		if (!strcmp(l.names[i], "sub")) {
			ck_assert_uint_eq(l.inodes[i], sub);
			ck_assert_uint_eq(l.types[i], DT_DIR);
		} else {
			ck_assert_uint_eq(l.types[i], l.names[i][0] == 'l' ? DT_LNK : DT_FIFO);
		}
	}
}
END_TEST

START_TEST(readdir_goes_on_behind_any_cookie)
{
	uint64_t dir = make_dir(ROOT, "dir");
	struct listing all;
	char name[16];

	for (int i = 0; i < 40; i++) {
		snprintf(name, sizeof(name), "file%d", i);
		make_file(dir, name);
	}
	all = list_from(dir, 0, 64, false);
	ck_assert_uint_eq(all.count, 42);
	for (size_t i = 0; i < all.count; i++) {
		struct listing rest = list_from(dir, all.next[i], 64, false);

		ck_assert_uint_eq(rest.count, all.count - i - 1);
		for (size_t j = 0; j < rest.count; j++)
			ck_assert_str_eq(rest.names[j], all.names[i + 1 + j]);
	}
	ck_assert_int_eq(fs_readdir(fs, dir, UINT64_C(1) << 63, false, list, &all), -EINVAL);
}
END_TEST

START_TEST(cookies_stay_valid_while_entries_come_and_go)
{
	uint64_t dir = make_dir(ROOT, "dir");
	struct listing before, part;
	size_t seen = 0;
	char name[16];

	for (int i = 0; i < 40; i++) {
		snprintf(name, sizeof(name), "old%d", i);
		make_file(dir, name);
	}
	before = list_from(dir, 0, 64, false);
	/* rm -r: reads a few, removes those it read, goes on behind the last that it read. */
	for (uint64_t cookie = 2;;) {
		part = list_from(dir, cookie, 7, false);
		if (!part.count)
			break;
		for (size_t i = 0; i < part.count; i++) {
			if (part.names[i][0] != 'o')
				continue;
			ck_assert_int_eq(fs_unlink(fs, dir, part.names[i]), 0);
			ck_assert_str_eq(part.names[i], before.names[2 + seen]);
			snprintf(name, sizeof(name), "new%zu", seen++);
			make_file(dir, name);
		}
		cookie = part.next[part.count - 1];
	}
	ck_assert_uint_eq(seen, 40);
	ck_assert_uint_eq(count_entries(dir), 40);
}
END_TEST

START_TEST(readdir_with_attrs_looks_up_what_it_emits_and_nothing_else)
{
	uint64_t dir = make_dir(ROOT, "dir"), a = make_file(dir, "a"), b = make_file(dir, "b");
	struct fs_stats stats;
	struct listing l;

	fs_forget(fs, a, 1);
	fs_forget(fs, b, 1);
	fs_stats(fs, &stats);
	ck_assert_uint_eq(stats.inodes, 1); /* dir */
	l = list_from(dir, 0, 3, true);
	ck_assert_uint_eq(l.count, 3);
	fs_stats(fs, &stats);
	ck_assert_uint_eq(stats.inodes, 2); /* and the one that was taken */
	fs_forget(fs, l.inodes[2], 1);
	fs_stats(fs, &stats);
	ck_assert_uint_eq(stats.inodes, 1);
}
END_TEST

START_TEST(ten_thousand_files_in_a_directory_are_found_listed_and_removed)
{
	uint64_t dir = make_dir(ROOT, "dir");
	char name[24];

	for (int i = 0; i < 10000; i++) {
		snprintf(name, sizeof(name), "a-file-%d", i);
		ck_assert_int_eq(fs_forget(fs, make_file(dir, name), 1), 0);
	}
	ck_assert_uint_eq(count_entries(dir), 10000);
	ck_assert_uint_eq(attr_of(dir).st.st_size, 10002 * 32);
	volume_remount();
	ck_assert_uint_eq(count_entries(dir), 10000);
	for (int i = 0; i < 10000; i++) {
		snprintf(name, sizeof(name), "a-file-%d", i);
		ck_assert_uint_ne(find(dir, name), 0);
		ck_assert_int_eq(fs_unlink(fs, dir, name), 0);
		ck_assert_uint_eq(find(dir, name), 0);
	}
	ck_assert_uint_eq(count_entries(dir), 0);
	ck_assert_int_eq(fs_rmdir(fs, ROOT, "dir"), 0);
}
END_TEST

/* ---- collisions ---- */

static uint64_t one_bucket(const uint8_t key[16], const void *data, size_t length)
{
	return UINT64_C(0x1234) << 40;
}

static uint64_t lowest(const uint8_t key[16], const void *data, size_t length)
{
	return 0;
}

static uint64_t highest(const uint8_t key[16], const void *data, size_t length)
{
	return UINT64_MAX;
}

START_TEST(names_of_one_hash_are_told_apart)
{
	uint64_t inodes[20];
	char name[16];

	fs->hash = one_bucket;
	for (int i = 0; i < 20; i++) {
		snprintf(name, sizeof(name), "same%d", i);
		inodes[i] = make_file(ROOT, name);
	}
	for (int i = 0; i < 20; i += 2) {
		snprintf(name, sizeof(name), "same%d", i);
		ck_assert_int_eq(fs_unlink(fs, ROOT, name), 0);
	}
	/* With holes among them all are found, and a new one takes a free number. */
	for (int i = 0; i < 20; i++) {
		snprintf(name, sizeof(name), "same%d", i);
		ck_assert_uint_eq(find(ROOT, name), i % 2 ? inodes[i] : 0);
	}
	make_file(ROOT, "another");
	ck_assert_uint_ne(find(ROOT, "another"), 0);
	ck_assert_uint_eq(count_entries(ROOT), 11);
	ck_assert_uint_eq(list_from(ROOT, 0, 64, false).count, 13);
	ck_assert_int_eq(fs_rename(fs, &caller, ROOT, "same1", ROOT, "other", 0), 0);
	ck_assert_uint_eq(find(ROOT, "other"), inodes[1]);
	ck_assert_uint_eq(find(ROOT, "same1"), 0);
}
END_TEST

START_TEST(a_full_bucket_is_refused_and_harms_nobody)
{
	struct fs_attr attr;
	char name[16];

	fs->hash = one_bucket;
	for (int i = 0; i < 256; i++) {
		snprintf(name, sizeof(name), "same%d", i);
		make_file(ROOT, name);
	}
	ck_assert_int_eq(fs_mknod(fs, &caller, ROOT, "one more", S_IFREG, 0, &attr), -ENOSPC);
	ck_assert_uint_eq(count_entries(ROOT), 256);
	ck_assert_int_eq(fs_unlink(fs, ROOT, "same77"), 0);
	make_file(ROOT, "one more");
}
END_TEST

START_TEST(the_ends_of_the_hash_give_cookies_that_work)
{
	struct listing l;

	fs->hash = lowest;
	make_file(ROOT, "low");
	fs->hash = highest;
	make_file(ROOT, "high");
	l = list_from(ROOT, 0, 64, false);
	ck_assert_uint_eq(l.count, 4);
	ck_assert_uint_eq(l.next[2], 256);
	ck_assert_uint_eq(l.next[3], INT64_MAX & ~UINT64_C(255));
	ck_assert_uint_eq(list_from(ROOT, l.next[2], 64, false).count, 1);
	ck_assert_uint_eq(list_from(ROOT, l.next[3], 64, false).count, 0);
}
END_TEST

START_TEST(an_entry_that_leads_nowhere_hides_no_other)
{
	struct fs_attr attr;
	struct meta_txn *txn;
	struct meta_key key;
	uint64_t bad = make_file(ROOT, "bad");

	make_file(ROOT, "good");
	ck_assert_int_eq(fs_sync(fs), 0);
	fs_forget(fs, bad, 1);
	key = inode_key(bad);
	txn = meta_txn_begin(meta);
	meta_txn_delete(txn, &key);
	ck_assert_int_eq(meta_txn_commit(txn, NULL), 0);
	ck_assert_int_eq(fs_lookup(fs, ROOT, "bad", &attr), -EIO);
	ck_assert_uint_eq(list_from(ROOT, 2, 64, true).count, 1);
	ck_assert_uint_eq(list_from(ROOT, 2, 64, false).count, 2);
}
END_TEST

Suite *dir_suite(void)
{
	Suite *suite = suite_create("dir");
	TCase *tests = tcase_create("dir");

	tcase_add_checked_fixture(tests, volume_setup, volume_teardown);
	tcase_set_timeout(tests, 120);
	tcase_add_test(tests, siphash_gives_the_published_value);
	tcase_add_test(tests, a_name_is_bytes_without_slash_of_at_most_255);
	tcase_add_test(tests, dot_and_dotdot_lead_to_self_and_parent);
	tcase_add_test(tests, what_is_no_directory_has_no_names);
	tcase_add_test(tests, readdir_begins_with_dot_and_dotdot_and_tells_types);
	tcase_add_test(tests, readdir_goes_on_behind_any_cookie);
	tcase_add_test(tests, cookies_stay_valid_while_entries_come_and_go);
	tcase_add_test(tests, readdir_with_attrs_looks_up_what_it_emits_and_nothing_else);
	tcase_add_test(tests, ten_thousand_files_in_a_directory_are_found_listed_and_removed);
	tcase_add_test(tests, names_of_one_hash_are_told_apart);
	tcase_add_test(tests, a_full_bucket_is_refused_and_harms_nobody);
	tcase_add_test(tests, the_ends_of_the_hash_give_cookies_that_work);
	tcase_add_test(tests, an_entry_that_leads_nowhere_hides_no_other);
	suite_add_tcase(suite, tests);
	return suite;
}
