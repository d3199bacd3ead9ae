/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Every inode can be reached from the root, and says rightly how many names lead to it. One without a name that
 * nobody has taken from it on purpose goes to /lost+found, under its number.
 */
#include "check_private.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define LOST_FOUND "lost+found"
#define LOST_FOUND_TRIES 100

/* ---- notes ---- */

static struct meta_key note_key(uint64_t number)
{
	return (struct meta_key){ .object = OBJECT_VOLUME, .type = TYPE_ORPHAN, .offset = number };
}

static int notes_check(struct check *check)
{
	const struct meta_key last = note_key(UINT64_MAX);
	struct meta_key key = note_key(0);
	ssize_t length;
	int error = 0;

	while (!error && (length = check_next(check, &key, &last)) != -ENOENT) {
		struct check_inode *inode = check_find(check, key.offset);

		if (length < 0)
			return (int)length;
		if (inode)
			inode->flags |= CHECK_NOTED;
		else if (check_problem(check, FS_PROBLEM_NOTE, FS_REMEDY_SAFE, "it is removed",
				       "inode %llu is noted as one to be deleted, and is not there",
				       (unsigned long long)key.offset))
			error = check_delete(check, &key);
		if (key.offset++ == UINT64_MAX)
			break;
	}
	return error;
}

static int note_missing(struct check *check, struct check_inode *inode)
{
	struct meta_txn *txn;

	if (!check_problem(check, FS_PROBLEM_NOTE, FS_REMEDY_SAFE, "it is deleted",
			   "inode %llu has no name and wants none, but nothing says that it is to be deleted",
			   (unsigned long long)inode->number))
		return 0;
	txn = meta_txn_begin(check->meta);
	if (!txn)
		return -ENOMEM;
	orphan_put(txn, inode->number);
	return check_commit(check, txn);
}

/* ---- directories below themselves ---- */

static bool is_end(const struct check_inode *inode)
{
	return !inode || inode->number == OBJECT_ROOT || !inode->names || inode->flags & CHECK_WALKED;
}

/* Goes up from a directory and marks the way. The one that is met again, or NULL. */
static struct check_inode *walk_up(struct check *check, struct check_inode *from)
{
	struct check_inode *at = from;

	for (; !is_end(at) && !(at->flags & CHECK_WALKING); at = check_find(check, at->parent))
		at->flags |= CHECK_WALKING;
	if (is_end(at))
		at = NULL;
	for (struct check_inode *step = from; !is_end(step); step = check_find(check, step->parent))
		step->flags = (uint8_t)((step->flags & ~CHECK_WALKING) | CHECK_WALKED);
	return at;
}

static int ring_break(struct check *check, struct check_inode *inode)
{
	struct check_inode *dir = check_find(check, inode->parent);
	struct meta_key key;
	int error;

	if (!check_problem(check, FS_PROBLEM_PARENT, FS_REMEDY_LOSSY, "its name is removed",
			   "the directory of inode %llu is below itself", (unsigned long long)inode->number))
		return 0;
	error = check_name_of(check, dir->number, inode->number, &key);
	if (!error)
		error = check_name_remove(check, dir, &key, true);
	if (error)
		return error;
	inode->names--;
	dir->entries--;
	dir->subdirs--;
	return 0;
}

/* ---- lost and found ---- */

static int lost_found_make(struct check *check, const struct meta_key *key, const char *name, uint64_t *number)
{
	struct check_inode *root = check_find(check, OBJECT_ROOT);
	struct meta_txn *txn = meta_txn_begin(check->meta);
	struct format_inode item;
	int error;

	if (!txn)
		return -ENOMEM;
	*number = meta_new_object(check->meta);
	if (*number <= check->inodes[check->count - 1].number) { /* the volume is wrong about what it has used */
		meta_txn_abort(txn);
		return -EIO;
	}
	dir_put(txn, key, name, *number, DT_DIR);
	if (!check_item(check, OBJECT_ROOT, &item)) {
		item.size = le64_of(++root->size);
		item.nlink = le32_of(++root->nlink);
		check_put_item(txn, OBJECT_ROOT, &item);
	}
	root->entries++;
	root->subdirs++;
	fs_format_root(&item, 0, 0);
	item.mode = le32_of(S_IFDIR | 0700);
	check_put_item(txn, *number, &item);
	error = meta_txn_commit(txn, NULL);
	if (!error)
		error = check_add(check, *number, &item, false);
	if (!error)
		check->inodes[check->count - 1].names = 1;
	return error;
}

/* The directory, made if need be; under another name if a file has this one. */
static int lost_found(struct check *check, uint64_t *number)
{
	char name[sizeof(LOST_FOUND) + 8] = LOST_FOUND;

	for (int try = 1; try <= LOST_FOUND_TRIES; try++) {
		uint64_t bucket = dir_bucket(siphash(check->hash_key, name, strlen(name)));
		struct dir_entry entry;
		int error = dir_find_in(check->meta, OBJECT_ROOT, bucket, name, &entry);
		const struct check_inode *found = error ? NULL : check_find(check, entry.object);

		if (error == -ENOENT)
			return lost_found_make(check, &entry.key, name, number);
		if (error)
			return error;
		*number = entry.object;
		if (found && found->type == DT_DIR)
			return 0;
		snprintf(name, sizeof(name), LOST_FOUND ".%d", try);
	}
	return -EEXIST;
}

/* One transaction gives it a name, and lets both say so. */
static int attach(struct check *check, size_t index)
{
	struct check_inode *inode, *dir;
	char name[32];
	struct format_inode item, dir_item;
	struct dir_entry entry;
	struct meta_txn *txn;
	uint64_t number;
	int error = lost_found(check, &number);

	if (error)
		return error;
	inode = &check->inodes[index]; /* the table may have moved */
	dir = check_find(check, number);
	snprintf(name, sizeof(name), "#%llu", (unsigned long long)inode->number);
	error = dir_find_in(check->meta, number, dir_bucket(siphash(check->hash_key, name, strlen(name))), name,
			    &entry);
	if (error != -ENOENT)
		return error ? error : -EEXIST;
	if (check_item(check, inode->number, &item) || check_item(check, number, &dir_item))
		return 0;
	txn = meta_txn_begin(check->meta);
	if (!txn)
		return -ENOMEM;
	dir_put(txn, &entry.key, name, inode->number, inode->type);
	inode->names = 1;
	inode->nlink = inode->type == DT_DIR ? 2 + inode->subdirs : 1;
	inode->parent = number;
	dir->entries++;
	dir->size++;
	dir->subdirs += inode->type == DT_DIR;
	dir->nlink += inode->type == DT_DIR;
	item.nlink = le32_of(inode->nlink);
	if (inode->type == DT_DIR)
		item.parent = le64_of(number);
	dir_item.size = le64_of(dir->size);
	dir_item.nlink = le32_of(dir->nlink);
	check_put_item(txn, inode->number, &item);
	check_put_item(txn, number, &dir_item);
	if (inode->flags & CHECK_NOTED && inode->type == DT_DIR)
		orphan_remove(txn, inode->number);
	return check_commit(check, txn);
}

static int nameless(struct check *check, size_t index)
{
	struct check_inode *inode = &check->inodes[index];

	if (!inode->nlink && !inode->entries) {
		check->told->nameless++;
		return inode->flags & CHECK_NOTED ? 0 : note_missing(check, inode);
	}
	if (inode->flags & CHECK_GUESSED)
		return 0;
	if (!check_problem(check, FS_PROBLEM_LOST, FS_REMEDY_LOSSY, "it is put into /" LOST_FOUND,
			   "inode %llu has no name, but was not deleted", (unsigned long long)inode->number))
		return 0;
	return attach(check, index);
}

/* ---- counts ---- */

static int counts_check(struct check *check, struct check_inode *inode)
{
	bool directory = inode->type == DT_DIR;
	uint32_t nlink = directory ? 2 + inode->subdirs : inode->names;
	struct format_inode item;
	struct meta_txn *txn;
	int error;

	if (inode->flags & CHECK_GUESSED)
		return 0;
	if (inode->nlink == nlink && (!directory || inode->size == inode->entries))
		return 0;
	if (inode->nlink != nlink
		    ? !check_problem(check, FS_PROBLEM_LINKS, FS_REMEDY_SAFE, "it is set",
				     "%s: counts %u links and has %u", check_path(check, inode->number), inode->nlink,
				     nlink)
		    : !check_problem(check, FS_PROBLEM_LINKS, FS_REMEDY_SAFE, "it is set",
				     "%s: counts %llu entries and has %u", check_path(check, inode->number),
				     (unsigned long long)inode->size, inode->entries))
		return 0;
	error = check_item(check, inode->number, &item);
	if (error)
		return error;
	txn = meta_txn_begin(check->meta);
	if (!txn)
		return -ENOMEM;
	item.nlink = le32_of(nlink);
	if (directory)
		item.size = le64_of(inode->entries);
	check_put_item(txn, inode->number, &item);
	return check_commit(check, txn);
}

int check_links(struct check *check)
{
	size_t count = check->count; /* what is made meanwhile is right */
	int error = notes_check(check);

	for (size_t i = 0; i < count && !error; i++) {
		struct check_inode *ring = check->inodes[i].type == DT_DIR ? walk_up(check, &check->inodes[i]) : NULL;

		if (ring)
			error = ring_break(check, ring);
	}
	for (size_t i = 0; i < count && !error; i++) {
		if (check->inodes[i].number != OBJECT_ROOT && !check->inodes[i].names)
			error = nameless(check, i);
		check_progress(check, 4, i + 1, 2 * count);
	}
	for (size_t i = 0; i < count && !error; i++) {
		if (check->inodes[i].number == OBJECT_ROOT || check->inodes[i].names)
			error = counts_check(check, &check->inodes[i]);
		check_progress(check, 4, count + i + 1, 2 * count);
	}
	return error;
}
