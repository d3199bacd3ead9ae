/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Several threads at once. Nothing here depends on who comes first: only on what must hold for each order. */
#include "fixture.h"

#include "mirrorfs/base/clock.h"

#include <stdio.h>

#define THREADS 4

struct worker {
	struct thread thread;
	unsigned int number;
	uint64_t dir, file;
};

static void run_all(void (*run)(void *arg), uint64_t dir, uint64_t file)
{
	struct worker workers[THREADS];

	for (unsigned int i = 0; i < THREADS; i++) {
		workers[i].number = i;
		workers[i].dir = dir;
		workers[i].file = file;
		ck_assert_int_eq(thread_start(&workers[i].thread, "worker", run, &workers[i]), 0);
	}
	for (unsigned int i = 0; i < THREADS; i++)
		thread_join(&workers[i].thread);
}

static void must(int error)
{
	if (error)
		abort();
}

/* Each thread owns every fourth block: makes it, reads it back, syncs now and then, cuts the common end. */
static void write_blocks(void *arg)
{
	struct worker *w = arg;
	unsigned char data[FS_BLOCK], back[FS_BLOCK];
	struct fs_attr attr;

	for (unsigned int i = 0; i < 200; i++) {
		uint64_t block = (uint64_t)(random_u64() % 64) * THREADS + w->number;

		memset(data, (int)(w->number * 50 + i % 50 + 1), sizeof(data));
		must(fs_write(fs, w->file, data, sizeof(data), block * FS_BLOCK, 0) != FS_BLOCK);
		must(fs_read(fs, w->file, back, sizeof(back), block * FS_BLOCK) != FS_BLOCK);
		must(memcmp(data, back, sizeof(data)));
		if (i % 20 == w->number)
			must(fs_fsync(fs, w->file, i % 3, NULL));
		if (i % 20 == 19)
			cache_drop_clean(cache);
		attr.st.st_size = (off_t)(64 * THREADS * FS_BLOCK + random_u64() % 100000);
		if (i % 10 == 9)
			must(fs_setattr(fs, w->file, FS_SET_SIZE, &attr));
	}
}

START_TEST(writers_of_one_file_do_not_disturb_each_other)
{
	uint64_t file = make_file(ROOT, "file");

	run_all(write_blocks, ROOT, file);
	set_size(file, 64 * THREADS * FS_BLOCK);
	volume_remount();
	for (uint64_t block = 0; block < 64 * THREADS; block++) {
		unsigned char data[FS_BLOCK];

		ck_assert_int_eq(fs_read(fs, file, data, sizeof(data), block * FS_BLOCK), FS_BLOCK);
		ck_assert_int_eq(memcmp(data, data + 1, FS_BLOCK - 1), 0); /* of one write, or a hole */
		if (data[0])
			ck_assert_uint_eq((data[0] - 1) / 50u, block % THREADS);
	}
}
END_TEST

/* Names come, go and move in two directories, all threads on the same few names. */
static void change_names(void *arg)
{
	struct worker *w = arg;
	uint64_t dirs[2] = { ROOT, w->dir };
	char a[8], b[8];
	struct fs_attr attr;

	for (unsigned int i = 0; i < 400; i++) {
		uint64_t from = dirs[random_u64() % 2], to = dirs[random_u64() % 2], r = random_u64();

		snprintf(a, sizeof(a), "n%u", (unsigned int)(r >> 8) % 6);
		snprintf(b, sizeof(b), "n%u", (unsigned int)(r >> 16) % 6);
		switch (r % 7) {
		case 0:
		case 1:
			if (!fs_mknod(fs, &caller, from, a, S_IFREG | 0600, 0, &attr)) {
				must(fs_write(fs, attr.st.st_ino, "content", 7, 0, 0) != 7);
				fs_forget(fs, attr.st.st_ino, 1);
			}
			break;
		case 2:
			if (!fs_mkdir(fs, &caller, from, a, 0700, &attr))
				fs_forget(fs, attr.st.st_ino, 1);
			break;
		case 3:
			fs_unlink(fs, from, a);
			fs_rmdir(fs, from, a);
			break;
		case 4:
			fs_rename(fs, &caller, from, a, to, b, r >> 32 & 1 ? RENAME_EXCHANGE : 0);
			break;
		case 5:
			if (!fs_lookup(fs, from, a, &attr)) {
				if (!fs_link(fs, attr.st.st_ino, to, b, &attr))
					fs_forget(fs, attr.st.st_ino, 1);
				fs_forget(fs, attr.st.st_ino, 1);
			}
			break;
		default:
			count_entries(from);
		}
	}
}

static bool check_entry(void *context, const struct fs_entry *entry)
{
	struct fs_attr attr = attr_of(entry->inode);

	ck_assert_uint_gt(attr.st.st_nlink, 0);
	ck_assert_uint_eq((attr.st.st_mode & S_IFMT) >> 12, entry->type);
	if (S_ISREG(attr.st.st_mode) && attr.st.st_size)
		ck_assert_int_eq(attr.st.st_size, 7);
	++*(uint64_t *)context;
	return true;
}

START_TEST(names_changed_by_many_threads_add_up)
{
	uint64_t dir = make_dir(ROOT, "dir"), count = 0;

	run_all(change_names, dir, 0);
	volume_remount();
	ck_assert_int_eq(fs_readdir(fs, ROOT, 0, false, check_entry, &count), 0);
	ck_assert_uint_eq(attr_of(ROOT).st.st_size, count * 32);
	count = 0;
	ck_assert_int_eq(fs_readdir(fs, dir, 0, false, check_entry, &count), 0);
	ck_assert_uint_eq(attr_of(dir).st.st_size, count * 32);
	ck_assert_uint_eq(count_items(OBJECT_VOLUME, TYPE_ORPHAN), 0);
}
END_TEST

/* Directories are moved below each other by everybody: whatever wins, it stays a tree. */
static void move_directories(void *arg)
{
	struct worker *w = arg;
	char a[4], b[4];

	for (unsigned int i = 0; i < 300; i++) {
		uint64_t r = random_u64();

		snprintf(a, sizeof(a), "%u", (unsigned int)(r % 6));
		snprintf(b, sizeof(b), "%u", (unsigned int)(r >> 8) % 6);
		fs_rename(fs, &caller, w->dir + r % 7, a, w->dir + (r >> 16) % 7, b, 0);
	}
}

START_TEST(directories_moved_by_many_threads_stay_a_tree)
{
	uint64_t dir = make_dir(ROOT, "dir");
	char name[4];

	for (uint64_t i = 0; i < 6; i++) {
		snprintf(name, sizeof(name), "%u", (unsigned int)i);
		ck_assert_uint_eq(make_dir(dir, name), dir + 1 + i);
	}
	run_all(move_directories, dir, 0);
	for (uint64_t i = 1; i <= 6; i++) {
		struct fs_attr attr;
		uint64_t at = dir + i;
		int depth = 0;

		ck_assert_int_eq(fs_getattr(fs, at, &attr), 0);
		if (!attr.st.st_nlink)
			continue; /* replaced while empty */
		while (at != ROOT && depth++ < 10)
			at = find(at, "..");
		ck_assert_uint_eq(at, ROOT);
	}
}
END_TEST

Suite *threads_suite(void)
{
	Suite *suite = suite_create("threads");
	TCase *tests = tcase_create("threads");

	tcase_add_checked_fixture(tests, volume_setup, volume_teardown);
	tcase_set_timeout(tests, 240);
	tcase_add_test(tests, writers_of_one_file_do_not_disturb_each_other);
	tcase_add_test(tests, names_changed_by_many_threads_add_up);
	tcase_add_test(tests, directories_moved_by_many_threads_stay_a_tree);
	suite_add_tcase(suite, tests);
	return suite;
}
