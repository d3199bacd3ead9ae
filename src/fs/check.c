/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Does everything in the tree agree with everything else? The frame of the check: what a problem and a cure are, the
 * table of inodes, and the paths by which people know them. What each pass looks at: check_private.h.
 */
#include "check_private.h"
#include "mirrorfs/base/array.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATH_DEPTH 1024 /* directories above one another, in a path that is told */

bool check_problem(struct check *check, enum fs_problem_kind kind, enum fs_remedy remedy, const char *cure,
		   const char *format, ...)
{
	char text[CHECK_PATH_SIZE + 256];
	struct fs_problem problem = { .kind = kind, .remedy = remedy, .text = text, .cure = cure };
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	check->told->problems++;
	return check->told->problem(check->told, &problem) && remedy != FS_REMEDY_NONE;
}

void check_progress(struct check *check, int pass, uint64_t done, uint64_t total)
{
	if (check->told->progress)
		check->told->progress(check->told, pass, done, total);
}

/* ---- the tree ---- */

bool check_advance(struct meta_key *key)
{
	return ++key->offset || ++key->type || ++key->object;
}

static void check_unreadable(struct check *check, const struct meta_key *key, ssize_t length)
{
	if (length < 0 && length != -ENOENT)
		check_problem(check, FS_PROBLEM_UNREADABLE, FS_REMEDY_NONE, "",
			      "what the tree holds from inode %llu on cannot be read on any leg: the check ends here",
			      (unsigned long long)key->object);
}

ssize_t check_next(struct check *check, struct meta_key *key, const struct meta_key *last)
{
	ssize_t length = meta_next(check->meta, key, last, check->value, sizeof(check->value));

	check_unreadable(check, key, length);
	return length;
}

ssize_t check_get(struct check *check, const struct meta_key *key, void *value, size_t size)
{
	ssize_t length = meta_get(check->meta, key, value, size);

	check_unreadable(check, key, length);
	return length;
}

int check_commit(struct check *check, struct meta_txn *txn)
{
	int error = meta_txn_commit(txn, NULL);

	check->told->cured += !error;
	return error;
}

int check_delete(struct check *check, const struct meta_key *key)
{
	struct meta_txn *txn = meta_txn_begin(check->meta);

	if (!txn)
		return -ENOMEM;
	meta_txn_delete(txn, key);
	return check_commit(check, txn);
}

int check_item(struct check *check, uint64_t number, struct format_inode *item)
{
	const struct meta_key key = inode_key(number);
	ssize_t length = check_get(check, &key, item, sizeof(*item));

	if (length < 0)
		return (int)length;
	return length == sizeof(*item) ? 0 : -ENOENT;
}

void check_put_item(struct meta_txn *txn, uint64_t number, const struct format_inode *item)
{
	const struct meta_key key = inode_key(number);

	meta_txn_put(txn, &key, item, sizeof(*item));
}

/* ---- the table ---- */

struct check_inode *check_find(struct check *check, uint64_t number)
{
	size_t low = 0, high = check->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (check->inodes[middle].number < number)
			low = middle + 1;
		else
			high = middle;
	}
	return low < check->count && check->inodes[low].number == number ? &check->inodes[low] : NULL;
}

int check_add(struct check *check, uint64_t number, const struct format_inode *item, bool guessed)
{
	uint32_t mode = le32_get(item->mode);

	if (ARRAY_GROW(check->inodes, check->room, check->count, 1024))
		return -ENOMEM;
	check->inodes[check->count++] = (struct check_inode){
		.number = number,
		.parent = le64_get(item->parent),
		.size = S_ISDIR(mode) ? le64_get(item->size) : 0,
		.nlink = le32_get(item->nlink),
		.type = dir_type(mode),
		.flags = guessed ? CHECK_GUESSED : 0,
	};
	if (S_ISDIR(mode))
		check->told->directories++;
	else
		check->told->files++;
	return 0;
}

/* ---- paths ---- */

/* From an item to where the next entry may be, past all else. */
static void to_next_entry(struct meta_key *key)
{
	if (key->type < TYPE_DIRENT)
		*key = (struct meta_key){ key->object, TYPE_DIRENT, 0 };
	else if (key->type > TYPE_DIRENT)
		*key = (struct meta_key){ key->object + 1, TYPE_DIRENT, 0 };
	else
		key->offset++;
}

/* Some entry that names the inode, of that directory or (0) of any: its directory and name. */
static bool path_entry(struct meta *meta, uint64_t in, uint64_t number, uint64_t *dir, union dirent_value *value)
{
	const struct meta_key last = { in ? in : UINT64_MAX, TYPE_DIRENT, UINT64_MAX };
	struct meta_key key = { in ? in : OBJECT_ROOT, TYPE_DIRENT, 0 };
	ssize_t length;

	while ((length = meta_next(meta, &key, &last, value, sizeof(*value))) >= 0) {
		if (key.type == TYPE_DIRENT && dir_value_valid(value, (size_t)length) &&
		    le64_get(value->head.object) == number) {
			*dir = key.object;
			return true;
		}
		to_next_entry(&key);
	}
	return false;
}

void fs_check_path(struct meta *meta, uint64_t number, char *path, size_t size)
{
	size_t at = size - 1;
	uint64_t here = number;
	struct format_inode item;

	path[at] = '\0';
	for (int depth = 0; here != OBJECT_ROOT && depth < PATH_DEPTH; depth++) {
		const struct meta_key key = inode_key(here);
		bool directory =
			meta_get(meta, &key, &item, sizeof(item)) == sizeof(item) && S_ISDIR(le32_get(item.mode));
		uint64_t parent = directory ? le64_get(item.parent) : 0, dir;
		union dirent_value value;

		if (!(parent && path_entry(meta, parent, here, &dir, &value)) &&
		    !path_entry(meta, 0, here, &dir, &value))
			break;
		if (at < (size_t)value.head.name_length + 1)
			break;
		at -= value.head.name_length;
		memcpy(path + at, value.bytes + sizeof(value.head), value.head.name_length);
		path[--at] = '/';
		here = dir;
	}
	if (here == OBJECT_ROOT && number == OBJECT_ROOT)
		snprintf(path, size, "/");
	else if (here == OBJECT_ROOT)
		memmove(path, path + at, size - at);
	else
		snprintf(path, size, "inode %llu, which has no name", (unsigned long long)number);
}

static struct fs_path *path_wanted(struct fs_path *paths, size_t count, uint64_t inode)
{
	size_t low = 0, high = count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (paths[middle].inode < inode)
			low = middle + 1;
		else
			high = middle;
	}
	return low < count && paths[low].inode == inode && !paths[low].path[0] ? &paths[low] : NULL;
}

/* The entry's directory is mostly that of the one before. */
static void path_found(struct meta *meta, struct fs_path *found, struct fs_path *dir, uint64_t in,
		       const union dirent_value *value)
{
	if (dir->inode != in)
		fs_check_path(meta, in, dir->path, sizeof(dir->path));
	dir->inode = in;
	if (dir->path[0] != '/' ||
	    snprintf(found->path, sizeof(found->path), "%s/%.*s", dir->path[1] ? dir->path : "",
		     value->head.name_length, (const char *)value->bytes + sizeof(value->head)) >=
		    (int)sizeof(found->path))
		found->path[0] = '\0';
}

void fs_check_paths(struct meta *meta, struct fs_path *paths, size_t count, bool (*go_on)(void *context),
		    void *context)
{
	const struct meta_key last = { UINT64_MAX, TYPE_DIRENT, UINT64_MAX };
	struct meta_key key = { OBJECT_ROOT, TYPE_DIRENT, 0 };
	struct fs_path dir = { .inode = 0 };
	union dirent_value value;
	size_t left = count;
	ssize_t length;

	while (left && (length = meta_next(meta, &key, &last, &value, sizeof(value))) >= 0 && go_on(context)) {
		struct fs_path *found = NULL;

		if (key.type == TYPE_DIRENT && dir_value_valid(&value, (size_t)length))
			found = path_wanted(paths, count, le64_get(value.head.object));
		if (found)
			path_found(meta, found, &dir, key.object, &value);
		left -= found != NULL;
		to_next_entry(&key);
	}
	for (size_t i = 0; i < count; i++) {
		if (!paths[i].path[0])
			snprintf(paths[i].path, sizeof(paths[i].path), "inode %llu, which has no name",
				 (unsigned long long)paths[i].inode);
	}
}

const char *check_path(struct check *check, uint64_t number)
{
	if (check->path_of != number)
		fs_check_path(check->meta, number, check->path, sizeof(check->path));
	check->path_of = number;
	return check->path;
}

/* ---- all of it ---- */

/* A number that was used must not be given again. */
static int check_numbers(struct check *check)
{
	uint64_t highest = check->count ? check->inodes[check->count - 1].number : OBJECT_ROOT;
	struct meta_super_info info;

	meta_super_info(check->meta, &info);
	if (info.next_object > highest)
		return 0;
	if (check_problem(check, FS_PROBLEM_VOLUME, FS_REMEDY_SAFE, "numbers above it are given",
			  "inode %llu has a number that is to be given again", (unsigned long long)highest)) {
		meta_skip_objects(check->meta, highest);
		check->told->cured++;
	}
	return 0;
}

int fs_check(struct meta *meta, struct fs_check *told)
{
	struct check *check = calloc(1, sizeof(*check));
	struct meta_super_info info;
	int error;

	if (!check)
		return -ENOMEM;
	told->files = told->directories = told->blocks = told->nameless = told->problems = told->cured = 0;
	check->meta = meta;
	check->told = told;
	meta_super_info(meta, &info);
	memcpy(check->hash_key, info.hash_key, sizeof(check->hash_key));
	error = check_space(check);
	if (!error)
		error = check_items(check);
	if (!error)
		error = check_numbers(check);
	if (!error)
		error = check_names(check);
	if (!error)
		error = check_links(check);
	free(check->inodes);
	free(check);
	return error;
}
