/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Large directories and files in very many pieces: is everything there, is nothing twice, and what does it cost?
 *
 *   small       files of 4 KiB are made, renamed and removed, by what the kernel asks for when a program does that
 *   directory   N files in it are made, looked up, listed while others come and go, and removed
 *   file        N extents: every second block of a file is written, in no order, then read back; the file is cut in
 *               half and removed, while somebody else makes and removes a file, over and over
 *
 * `nodes` are nodes of the tree looked at for each of them, `bystander` the longest that the other one waited.
 *
 *   fs_bench [-d DIR] [-c CACHE_MIB] [N [EXTENTS]]    100000 of each; on images in DIR, else in memory
 *
 * Fails if anything is missing or wrong, or if one of these visits more nodes than a few times the tree's height.
 */
#include "volume.h"

#include "mirrorfs/base/clock.h"
#include "mirrorfs/base/sync.h"
#include "mirrorfs/fs.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLOCK 4096u
#define STEP UINT64_C(2654435761) /* a prime: i * STEP mod n comes by every place once */
#define LISTED 100u /* entries a call of readdir */
#define NODES_MAX 100.0

static uint64_t entries = 100000, extents = 100000, cache_bytes = UINT64_C(256) << 20;
static const struct fs_caller caller = { .uid = 0 };
static struct fs *fs;

static void wrong(const char *what, uint64_t number)
{
	fprintf(stderr, "wrong: %s %" PRIu64 "\n", what, number);
	exit(EXIT_FAILURE);
}

static void mount_fs(void)
{
	struct error why = { "" };

	volume_mount(cache_bytes);
	must_be_zero(fs_open(meta, cache, &(struct fs_options){ 0 }, &fs, &why), why.text);
}

static void unmount_fs(void)
{
	MUST(fs_close(fs));
	volume_unmount();
}

/* ---- a clock and a counter ---- */

static uint64_t began_ns, began_visits;

static void begin(void)
{
	began_visits = node_visits();
	began_ns = clock_now_ns();
}

static void end(const char *what, uint64_t times)
{
	double ns = (double)(clock_now_ns() - began_ns), nodes = (double)(node_visits() - began_visits);

	printf("%-28s %10" PRIu64 " %10.1f %8.1f\n", what, times, ns / 1e3 / (double)times, nodes / (double)times);
	fflush(stdout);
	if (nodes / (double)times > NODES_MAX)
		wrong("too many nodes at a time:", (uint64_t)(nodes / (double)times));
}

/* ---- a directory ---- */

static uint64_t dir;

static void make(uint64_t parent, const char *prefix, uint64_t number)
{
	struct fs_attr attr;
	char name[32];

	snprintf(name, sizeof(name), "%s%" PRIu64, prefix, number);
	MUST(fs_mknod(fs, &caller, parent, name, S_IFREG | 0644, 0, &attr));
	fs_forget(fs, attr.st.st_ino, 1);
}

static int take(uint64_t parent, const char *prefix, uint64_t number)
{
	char name[32];

	snprintf(name, sizeof(name), "%s%" PRIu64, prefix, number);
	return fs_unlink(fs, parent, name);
}

static void find_dir(void)
{
	struct fs_attr attr;

	MUST(fs_lookup(fs, OBJECT_ROOT, "dir", &attr));
	dir = attr.st.st_ino;
}

static void part_make(void *context)
{
	struct fs_attr attr;

	mount_fs();
	MUST(fs_mkdir(fs, &caller, OBJECT_ROOT, "dir", 0755, &attr));
	dir = attr.st.st_ino;
	begin();
	for (uint64_t i = 0; i < entries; i++)
		make(dir, "a-file-", i);
	end("make", entries);
	unmount_fs();
}

static void part_look_up(void *context)
{
	uint64_t count = entries < 20000 ? entries : 20000, seed = 1;

	mount_fs();
	find_dir();
	begin();
	for (uint64_t i = 0; i < count; i++) {
		struct fs_attr attr;
		char name[32];

		snprintf(name, sizeof(name), "a-file-%" PRIu64, random_below(&seed, entries));
		MUST(fs_lookup(fs, dir, name, &attr));
		fs_forget(fs, attr.st.st_ino, 1);
		if (fs_lookup(fs, dir, name + 1, &attr) != -ENOENT)
			wrong("found", i);
	}
	end("look up, and miss", 2 * count);
	unmount_fs();
}

struct listing {
	unsigned char *seen; /* times, of the first `entries` */
	uint64_t cookie, count, last;
	unsigned int left;
};

static bool emit(void *context, const struct fs_entry *entry)
{
	struct listing *listing = context;
	uint64_t number;

	if (!listing->left)
		return false;
	listing->left--;
	listing->cookie = entry->next;
	listing->count++;
	if (sscanf(entry->name, "a-file-%" SCNu64, &number) == 1) {
		if (listing->seen[number]++)
			wrong("listed twice:", number);
		listing->last = number;
	}
	return true;
}

/* Between two calls the last one listed is removed, and another one comes. */
static void part_list(void *context)
{
	struct listing listing = { .seen = calloc(1, entries) };
	uint64_t before, others = 0;

	mount_fs();
	find_dir();
	begin();
	do {
		before = listing.count;
		listing.left = LISTED;
		MUST(fs_readdir(fs, dir, listing.cookie, false, emit, &listing));
		if (listing.count > before) {
			MUST(take(dir, "a-file-", listing.last));
			make(dir, "another-", others++);
		}
	} while (listing.count > before);
	end("list, while some come and go", listing.count);
	for (uint64_t i = 0; i < entries; i++) {
		if (!listing.seen[i])
			wrong("not listed:", i);
	}
	free(listing.seen);
	unmount_fs();
}

static void part_remove(void *context)
{
	uint64_t removed = 0, missing = 0, others = 0;

	mount_fs();
	find_dir();
	begin();
	for (uint64_t i = 0; i < entries; i++) {
		int error = take(dir, "a-file-", i * STEP % entries);

		if (error && error != -ENOENT)
			must_be_zero(error, "unlink");
		removed += !error;
		missing += error != 0;
	}
	end("remove", removed);
	while (!take(dir, "another-", others))
		others++;
	if (others < missing || others > missing + 1)
		wrong("entries lost:", missing);
	MUST(fs_rmdir(fs, OBJECT_ROOT, "dir"));
	unmount_fs();
}

/* ---- small files, as the kernel asks ---- */

#define FORGOTTEN 48u /* files at a time */
#define SMALL_MOST 20000u

static void small_name(char name[32], char prefix, uint64_t number)
{
	snprintf(name, 32, "%c%06" PRIu64, prefix, number);
}

/* What open(2) and write(2) of a new file come to. */
static uint64_t small_make(uint64_t parent, uint64_t number)
{
	static const unsigned char data[BLOCK] = { 1 };
	struct fs_attr attr;
	uint64_t seen;
	char name[32];

	small_name(name, 'f', number);
	MUST(fs_getattr(fs, parent, &attr));
	if (fs_lookup(fs, parent, name, &attr) != -ENOENT)
		wrong("found", number);
	MUST(fs_mknod(fs, &caller, parent, name, S_IFREG | 0644, 0, &attr));
	MUST(fs_error_mark(fs, attr.st.st_ino, &seen));
	if (fs_getxattr(fs, attr.st.st_ino, "security.capability", NULL, 0) != -ENODATA)
		wrong("has an attribute:", number);
	if (fs_write(fs, attr.st.st_ino, data, BLOCK, 0, 0) != BLOCK)
		wrong("write", number);
	return attr.st.st_ino;
}

static void small_rename(uint64_t parent, uint64_t number)
{
	struct fs_attr attr;
	char from[32], to[32];

	small_name(from, 'f', number);
	small_name(to, 'g', number);
	MUST(fs_getattr(fs, parent, &attr));
	if (fs_lookup(fs, parent, to, &attr) != -ENOENT)
		wrong("found", number);
	MUST(fs_rename(fs, &caller, parent, from, parent, to, 0));
}

static void small_remove(uint64_t parent, const uint64_t *inodes, uint64_t count)
{
	struct fs_forgotten forgotten[FORGOTTEN];
	struct fs_attr attr;
	size_t filled = 0;
	char name[32];

	for (uint64_t i = 0; i < count; i++) {
		small_name(name, 'g', i);
		MUST(fs_getattr(fs, parent, &attr));
		MUST(fs_unlink(fs, parent, name));
		forgotten[filled++] = (struct fs_forgotten){ inodes[i], 1 };
		if (filled == FORGOTTEN || i + 1 == count) {
			fs_forget_many(fs, forgotten, filled);
			filled = 0;
		}
	}
}

static void part_small(void *context)
{
	uint64_t count = entries < SMALL_MOST ? entries : SMALL_MOST, parent;
	uint64_t *inodes = calloc(count, sizeof(*inodes));
	struct fs_attr attr;

	mount_fs();
	MUST(fs_mkdir(fs, &caller, OBJECT_ROOT, "small", 0755, &attr));
	parent = attr.st.st_ino;
	begin();
	for (uint64_t i = 0; i < count; i++)
		inodes[i] = small_make(parent, i);
	end("make a small file", count);
	begin();
	MUST(fs_sync(fs));
	end("sync", count);
	begin();
	for (uint64_t i = 0; i < count; i++)
		small_rename(parent, i);
	end("rename it", count);
	begin();
	small_remove(parent, inodes, count);
	end("remove it", count);
	MUST(fs_rmdir(fs, OBJECT_ROOT, "small"));
	free(inodes);
	unmount_fs();
}

/* ---- a file ---- */

static uint64_t file;

static uint64_t free_now(void)
{
	struct statvfs st;

	MUST(meta_checkpoint(meta));
	MUST(fs_statfs(fs, &st));
	return st.f_bfree;
}

static void find_file(void)
{
	struct fs_attr attr;

	MUST(fs_lookup(fs, OBJECT_ROOT, "file", &attr));
	file = attr.st.st_ino;
}

static void part_write(void *context)
{
	uint64_t block[BLOCK / 8];
	struct fs_attr attr;

	mount_fs();
	*(uint64_t *)context = free_now();
	MUST(fs_mknod(fs, &caller, OBJECT_ROOT, "file", S_IFREG | 0644, 0, &attr));
	memset(block, 0, sizeof(block));
	begin();
	for (uint64_t i = 0; i < extents; i++) {
		uint64_t at = i * STEP % extents;

		block[0] = block[511] = at + 1;
		if (fs_write(fs, attr.st.st_ino, block, BLOCK, 2 * at * BLOCK, 0) != BLOCK)
			wrong("write at", at);
	}
	MUST(fs_sync(fs));
	end("write every second block", extents);
	unmount_fs();
}

static void part_read(void *context)
{
	uint64_t block[2 * BLOCK / 8];

	mount_fs();
	find_file();
	begin();
	for (uint64_t i = 0; i < extents; i++) {
		uint64_t at = i * STEP % extents, length = at == extents - 1 ? BLOCK : 2 * BLOCK;

		if (fs_read(fs, file, block, 2 * BLOCK, 2 * at * BLOCK) != (ssize_t)length)
			wrong("read at", at);
		if (block[0] != at + 1 || block[511] != at + 1 || (length > BLOCK && (block[512] || block[1023])))
			wrong("content at", at);
	}
	end("read them back", extents);
	unmount_fs();
}

/* Somebody else, who wants to go on meanwhile. */
static struct bystander {
	struct thread thread;
	atomic_bool stop;
	uint64_t longest_ns, turns;
} bystander;

static void stand_by(void *arg)
{
	while (!atomic_load(&bystander.stop)) {
		uint64_t start = clock_now_ns(), ns;

		make(OBJECT_ROOT, "bystander-", bystander.turns);
		MUST(take(OBJECT_ROOT, "bystander-", bystander.turns++));
		ns = clock_now_ns() - start;
		if (ns > bystander.longest_ns)
			bystander.longest_ns = ns;
	}
}

static void beside(const char *what, uint64_t times, void (*work)(void))
{
	bystander = (struct bystander){ .turns = 0 };
	MUST(thread_start(&bystander.thread, "bystander", stand_by, NULL));
	begin();
	work();
	end(what, times); /* with the nodes of the other */
	atomic_store(&bystander.stop, true);
	thread_join(&bystander.thread);
	printf("%-28s %10" PRIu64 " %10.1f ms at the longest\n", "  bystander", bystander.turns,
	       (double)bystander.longest_ns / 1e6);
}

static void cut(void)
{
	struct fs_attr attr = { .st.st_size = (off_t)(extents * BLOCK) };

	MUST(fs_setattr(fs, file, FS_SET_SIZE, &attr));
}

/* Whoever forgets it does not wait for the end of that; here it is the end that counts. */
static void forget(void)
{
	uint64_t start = clock_now_ns();
	struct fs_stats stats;

	fs_forget(fs, file, 1);
	printf("%-28s %10u %10.1f ms\n", "  forget comes back", 1, (double)(clock_now_ns() - start) / 1e6);
	do {
		usleep(1000);
		fs_stats(fs, &stats);
	} while (stats.orphans);
}

static void part_cut(void *context)
{
	uint64_t before = *(uint64_t *)context, now;

	mount_fs();
	find_file();
	beside("cut in half", extents / 2, cut);
	MUST(fs_unlink(fs, OBJECT_ROOT, "file"));
	beside("remove and forget", extents / 2, forget);
	unmount_fs();
	mount_fs();
	now = free_now();
	if (now + 64 < before)
		wrong("blocks lost:", before - now);
	unmount_fs();
}

int main(int argc, char **argv)
{
	const char *path = NULL;
	uint64_t *free_blocks, start = clock_now_ns();
	int option;

	while ((option = getopt(argc, argv, "d:c:")) != -1) {
		switch (option) {
		case 'd': path = optarg; break;
		case 'c': cache_bytes = strtoull(optarg, NULL, 0) << 20; break;
		default: return EXIT_FAILURE;
		}
	}
	if (optind < argc)
		entries = strtoull(argv[optind], NULL, 0);
	if (optind + 1 < argc)
		extents = strtoull(argv[optind + 1], NULL, 0);
	free_blocks = shared(sizeof(*free_blocks));
	printf("%-28s %10s %10s %8s\n", "", "times", "us", "nodes");
	volume_make(path, (UINT64_C(512) << 20) + entries * 2048 + extents * (BLOCK + 1024));
	volume_part(part_make, NULL);
	volume_part(part_look_up, NULL);
	volume_part(part_list, NULL);
	volume_part(part_remove, NULL);
	volume_part(part_small, NULL);
	volume_part(part_write, free_blocks);
	volume_part(part_read, NULL);
	volume_part(part_cut, free_blocks);
	volume_end();
	printf("%.0f s in all\n", (double)(clock_now_ns() - start) / 1e9);
	return EXIT_SUCCESS;
}
