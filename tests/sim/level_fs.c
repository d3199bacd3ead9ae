/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The whole stack: actors that create, write, sync, rename and delete in a tree so small that they meet all the time,
 * beside an oracle (oracle.h). Two actors never change one name, one inode's links or one file's bytes at once, since
 * nobody could say what must come of it; they do read, sync, list and look up beside such changes.
 */
#include "level_fs.h"

#include "audit.h"
#include "op_attr.h"
#include "op_fs.h"
#include "report.h"
#include "world.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define READ_PIECE (128u << 10)

bool fs_level_may_fail(const struct fs_level *level, int error)
{
	return error == -ENOSPC || (level->machine->full && (error == -EROFS || error == -EIO));
}

void fs_level_bad(struct fs_level *level, const char *what, uint64_t inode, int error)
{
	if (fs_level_may_fail(level, error))
		note("%s of %lu: %s", what, (unsigned long)inode, strerror(-error));
	else
		sim_fail("%s of inode %lu: %s", what, (unsigned long)inode, strerror(-error));
}

/* ---- what is there after a mount ---- */

struct listing {
	struct fs_level *level;
	struct oracle_found *found;
	unsigned int index; /* of the directory among the oracle's files; UINT_MAX: one that it does not know */
	unsigned int entries, directories;
	uint64_t *inodes; /* of everything listed so far, once for each name */
	unsigned char *types;
	size_t count;
	uint64_t self, parent;
};

static bool list_one(void *context, const struct fs_entry *entry)
{
	struct listing *listing = context;
	int name = oracle_name_of(entry->name);

	if (!strcmp(entry->name, ".") || !strcmp(entry->name, "..")) {
		uint64_t expected = entry->name[1] ? listing->parent : listing->self;

		if (entry->inode != expected)
			sim_fail("%s of directory %lu is %lu, not %lu", entry->name, (unsigned long)listing->self,
				 (unsigned long)entry->inode, (unsigned long)expected);
		return true;
	}
	if (name < 0)
		sim_fail("directory %lu holds a name that was never made: %s", (unsigned long)listing->self,
			 entry->name);
	if (listing->index == UINT32_MAX)
		sim_fail("directory %lu, whose creation never returned, is not empty", (unsigned long)listing->self);
	if (listing->found->names[listing->index][name])
		sim_fail("directory %lu lists %s twice", (unsigned long)listing->self, entry->name);
	if (!entry->attr || entry->attr->st.st_ino != entry->inode)
		sim_fail("directory %lu lists %s without its attributes", (unsigned long)listing->self, entry->name);
	listing->found->names[listing->index][name] = entry->inode;
	listing->inodes = realloc(listing->inodes, (listing->count + 1) * sizeof(*listing->inodes));
	listing->types = realloc(listing->types, listing->count + 1);
	listing->inodes[listing->count] = entry->inode;
	listing->types[listing->count++] = entry->type;
	listing->entries++;
	listing->directories += entry->type == DT_DIR;
	return true;
}

static void list_directory(struct listing *listing, uint64_t inode, uint64_t parent)
{
	struct fs *fs = listing->level->machine->fs;
	struct oracle_file *dir = oracle_find(&listing->level->oracle, inode);
	struct fs_attr attr;
	int error;

	listing->self = inode;
	listing->parent = parent;
	listing->index = dir ? dir->index : UINT32_MAX;
	listing->entries = listing->directories = 0;
	error = fs_readdir(fs, inode, 0, true, list_one, listing);
	if (!error)
		error = fs_getattr(fs, inode, &attr);
	if (error)
		sim_fail("listing of directory %lu: %s", (unsigned long)inode, strerror(-error));
	if (!S_ISDIR(attr.st.st_mode) || attr.st.st_nlink != 2 + listing->directories)
		sim_fail("directory %lu has mode %o and %lu links, with %u directories in it", (unsigned long)inode,
			 attr.st.st_mode, (unsigned long)attr.st.st_nlink, listing->directories);
}

/* The directory that was found to name it. */
static uint64_t parent_of(const struct listing *listing, uint64_t inode)
{
	for (unsigned int d = 0; d < listing->found->count; d++)
		for (int n = 0; n < ORACLE_NAMES; n++)
			if (listing->found->names[d][n] == inode)
				return listing->level->oracle.files[d]->inode;
	return 0;
}

/* Lists the whole tree; what is listed grows while it is gone through. */
static void list_tree(struct listing *listing)
{
	list_directory(listing, OBJECT_ROOT, OBJECT_ROOT);
	for (size_t i = 0; i < listing->count; i++)
		if (listing->types[i] == DT_DIR)
			list_directory(listing, listing->inodes[i], parent_of(listing, listing->inodes[i]));
}

unsigned char *fs_level_read_all(struct fs_level *level, uint64_t inode, uint64_t *size)
{
	struct fs_attr attr;
	unsigned char *data;
	int error = fs_getattr(level->machine->fs, inode, &attr);

	if (error)
		sim_fail("fs_getattr of inode %lu: %s", (unsigned long)inode, strerror(-error));
	*size = (uint64_t)attr.st.st_size;
	if (*size > 4 * ORACLE_FILE_MAX)
		sim_fail("inode %lu has %lu bytes", (unsigned long)inode, (unsigned long)*size);
	data = malloc(*size + 1);
	for (uint64_t at = 0; at < *size; at += READ_PIECE) {
		size_t length = *size - at < READ_PIECE ? *size - at : READ_PIECE;
		ssize_t got = fs_read(level->machine->fs, inode, data + at, length, at);

		if (got != (ssize_t)length)
			sim_fail("fs_read of inode %lu, %lu bytes at %lu: %ld", (unsigned long)inode,
				 (unsigned long)length, (unsigned long)at, (long)got);
	}
	return data;
}

/* Where blocks of files are: one that they share is there once for each. */
struct held {
	uint64_t *at;
	size_t count;
};

static void held_add(struct fs_level *level, uint64_t inode, struct held *held)
{
	struct meta *meta = level->machine->meta;
	struct meta_mapping mapping;

	for (uint64_t at = 0; !meta_map_seek(meta, inode, false, &at); at += mapping.count) {
		if (meta_map(meta, inode, at, EXTENT_BLOCKS_MAX, &mapping) || !mapping.address)
			sim_fail("block %lu of inode %lu is mapped, and is not", (unsigned long)at,
				 (unsigned long)inode);
		held->at = realloc(held->at, (held->count + mapping.count) * sizeof(*held->at));
		for (uint32_t i = 0; i < mapping.count; i++)
			held->at[held->count++] = mapping.address + i;
	}
}

static int by_address(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* How many blocks there are, each counted once. */
static uint64_t held_count(struct held *held)
{
	uint64_t count = 0;

	if (held->count)
		qsort(held->at, held->count, sizeof(*held->at), by_address);
	for (size_t i = 0; i < held->count; i++)
		count += !i || held->at[i] != held->at[i - 1];
	free(held->at);
	return count;
}

/* A symlink, device, pipe or socket. */
static void check_special(struct fs_level *level, const struct oracle_file *file, const struct fs_attr *attr)
{
	char target[PATH_MAX], found[PATH_MAX];
	int error;

	if (attr->st.st_rdev != op_device(file) || (uint64_t)attr->st.st_size != file->size || attr->st.st_blocks)
		sim_fail("inode %lu, mode %o, is device %lx, not %lx, and has %lu bytes, not %lu",
			 (unsigned long)file->inode, file->type, (unsigned long)attr->st.st_rdev,
			 (unsigned long)op_device(file), (unsigned long)attr->st.st_size, (unsigned long)file->size);
	if (!S_ISLNK(file->type))
		return;
	op_target(file, target);
	error = fs_readlink(level->machine->fs, file->inode, found, sizeof(found));
	if (error || strcmp(target, found))
		sim_fail("inode %lu leads to \"%s\", not \"%s\": %s", (unsigned long)file->inode,
			 error ? "" : found, target, strerror(-error));
}

/* Compares one file, and adds the blocks that it holds. */
static void check_file(struct fs_level *level, const struct listing *listing, struct oracle_file *file,
		       struct held *held, bool crashed)
{
	size_t before = held->count;
	struct fs_attr attr;
	unsigned char *data;
	uint64_t size;
	unsigned int names = 0;
	int error;

	for (size_t i = 0; i < listing->count; i++)
		names += listing->inodes[i] == file->inode;
	if (!names && file->inode != OBJECT_ROOT)
		return;
	error = fs_getattr(level->machine->fs, file->inode, &attr);
	if (error)
		sim_fail("getattr of inode %lu: %s", (unsigned long)file->inode, strerror(-error));
	op_attr_check(level, file, true, crashed);
	if (file->directory)
		return;
	if (attr.st.st_nlink != names)
		sim_fail("inode %lu has %lu links, with %u names", (unsigned long)file->inode,
			 (unsigned long)attr.st.st_nlink, names);
	if (!S_ISREG(file->type)) {
		check_special(level, file, &attr);
		return;
	}
	data = fs_level_read_all(level, file->inode, &size);
	oracle_check_content(file, data, size, crashed);
	free(data);
	held_add(level, file->inode, held);
	if ((uint64_t)attr.st.st_blocks / 8 != held->count - before)
		sim_fail("inode %lu counts %lu blocks and has %zu", (unsigned long)file->inode,
			 (unsigned long)attr.st.st_blocks / 8, held->count - before);
}

static void check_space(struct fs_level *level, uint64_t blocks)
{
	struct meta_super_info info;
	int error = fs_sync(level->machine->fs);

	if (!error)
		error = meta_checkpoint(level->machine->meta);
	if (error)
		sim_fail("checkpoint after the mount: %s", strerror(-error));
	meta_super_info(level->machine->meta, &info);
	if (info.data_blocks != blocks)
		sim_fail("the superblock counts %lu blocks, files hold %lu", (unsigned long)info.data_blocks,
			 (unsigned long)blocks);
}

static void check(void *state, bool crashed)
{
	struct fs_level *level = state;
	struct oracle *oracle = &level->oracle;
	struct oracle_found found = { .count = oracle->count };
	struct listing listing = { .level = level, .found = &found };
	struct held held = { .at = NULL };
	uint64_t blocks;

	found.names = calloc(found.count, sizeof(*found.names));
	list_tree(&listing);
	oracle_check_names(oracle, &found, crashed);
	for (unsigned int i = 0; i < oracle->count; i++)
		if (oracle->files[i]->inode)
			check_file(level, &listing, oracle->files[i], &held, crashed);
	blocks = held_count(&held);
	oracle_settle(oracle);
	for (size_t i = 0; i < listing.count; i++) {
		struct oracle_file *file = oracle_find(oracle, listing.inodes[i]);

		if (!file)
			sim_fail("inode %lu was never made", (unsigned long)listing.inodes[i]);
		if (listing.types[i] != IFTODT(file->type))
			sim_fail("inode %lu is listed as type %d", (unsigned long)file->inode, listing.types[i]);
		file->lookups++;
	}
	check_space(level, blocks);
	op_attr_check_label(level, crashed);
	level->renaming_directory = level->labelling = false;
	note("checked: %zu names, %lu blocks", listing.count, (unsigned long)blocks);
	free(listing.inodes);
	free(listing.types);
	free(found.names);
}

/* ---- the level ---- */

static void *create(struct machine *machine, uint64_t seed)
{
	struct fs_level *level = calloc(1, sizeof(*level));

	if (!level)
		sim_fail("no memory");
	level->machine = machine;
	level->random = sim_random_of(seed, 20);
	level->count = 1 + (int)sim_random_below(&level->random, FS_ACTORS_MAX);
	for (int i = 0; i < level->count; i++) {
		level->actors[i].level = level;
	}
	oracle_init(&level->oracle, OBJECT_ROOT);
	op_attr_root(level->oracle.root);
	oracle_attr_first(&level->label, MACHINE_LABEL, strlen(MACHINE_LABEL));
	return level;
}

static void meddle(void *arg)
{
	struct fs_level *level = arg;
	struct statvfs st;
	int error = 0;

	while (script_goes_on(level->script)) {
		sim_sleep(sim_random_below(&level->random, 40000000));
		switch (sim_random_below(&level->random, 4)) {
		case 0:
			error = machine_checkpoint(level->machine);
			break;
		case 1:
			cache_drop_clean(level->machine->cache);
			break;
		case 2:
			if (sim_random_chance(&level->random, 4))
				audit_scrub(level->machine);
			else
				audit_requests(level->machine);
			break;
		default:
			error = fs_statfs(level->machine->fs, &st);
			if (st.f_bavail > st.f_bfree || st.f_bfree > st.f_blocks)
				sim_fail("statfs: %lu available of %lu free of %lu", (unsigned long)st.f_bavail,
					 (unsigned long)st.f_bfree, (unsigned long)st.f_blocks);
		}
		if (error)
			fs_level_bad(level, "meddling", 0, error);
	}
	level->meddling = false;
}

static void start(void *state, struct script *script)
{
	struct fs_level *level = state;

	level->script = script;
	for (int i = 0; i < level->count; i++) {
		char name[16] = "actor-0";

		name[6] = (char)('0' + i);
		level->actors[i].running = true;
		thread_start(&level->actors[i].thread, name, fs_act, &level->actors[i]);
	}
	level->meddling = true;
	thread_start(&level->meddler, "meddler", meddle, level);
}

static bool idle(void *state)
{
	struct fs_level *level = state;

	for (int i = 0; i < level->count; i++)
		if (level->actors[i].running)
			return false;
	return !level->meddling;
}

static void join(void *state)
{
	struct fs_level *level = state;

	for (int i = 0; i < level->count; i++)
		thread_join(&level->actors[i].thread);
	thread_join(&level->meddler);
}

/* Nothing forbids anything any more. */
static void set_free(struct fs_level *level)
{
	for (unsigned int i = 0; i < level->oracle.count; i++) {
		struct oracle_file *file = level->oracle.files[i];

		if (file->lookups && op_attr_forbids(file, OP_FIXED))
			op_attr_set_flags(level, file, 0);
	}
}

/* Deletes the names in `dir`, those in directories first. */
static void empty(struct fs_level *level, struct oracle_file *dir)
{
	for (int n = 0; n < ORACLE_NAMES; n++) {
		struct oracle_file *file = dir->entries[n].file;
		int error;

		if (!file)
			continue;
		if (file->directory)
			empty(level, file);
		error = file->directory ? fs_rmdir(level->machine->fs, dir->inode, oracle_name(n)) :
					  fs_unlink(level->machine->fs, dir->inode, oracle_name(n));
		if (error)
			sim_fail("the end's deletion of inode %lu: %s", (unsigned long)file->inode, strerror(-error));
	}
}

static void finish(void *state)
{
	struct fs_level *level = state;

	set_free(level);
	empty(level, level->oracle.root);
	for (unsigned int i = 0; i < level->oracle.count; i++) {
		struct oracle_file *file = level->oracle.files[i];

		if (file->lookups && file != level->oracle.root)
			fs_forget(level->machine->fs, file->inode, file->lookups);
	}
	check_space(level, 0);
}

const struct level level_fs = {
	.name = "fs",
	.height = MACHINE_FS,
	.crashes = true,
	.create = create,
	.check = check,
	.check_spoilt = fs_check_spoilt,
	.start = start,
	.idle = idle,
	.join = join,
	.finish = finish,
};
