/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Directory by directory: every entry is one that a lookup finds, and leads to an inode of the type that it says. */
#include "check_private.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>

static const union dirent_value *entry_value(const struct check *check)
{
	return (const union dirent_value *)check->value;
}

/* Copies the name, with a NUL. False: it is none. */
static bool entry_name(const union dirent_value *value, char name[INODE_NAME_MAX + 1])
{
	memcpy(name, value->bytes + sizeof(value->head), value->head.name_length);
	name[value->head.name_length] = '\0';
	return strlen(name) == value->head.name_length && !dir_check_name(name);
}

int check_name_of(struct check *check, uint64_t dir, uint64_t number, struct meta_key *key)
{
	const struct meta_key last = { dir, TYPE_DIRENT, UINT64_MAX };
	union dirent_value value;
	ssize_t length;

	*key = (struct meta_key){ dir, TYPE_DIRENT, 0 };
	while ((length = meta_next(check->meta, key, &last, &value, sizeof(value))) >= 0) {
		if (dir_value_valid(&value, (size_t)length) && le64_get(value.head.object) == number)
			return 0;
		key->offset++;
	}
	return (int)length;
}

int check_name_remove(struct check *check, struct check_inode *dir, const struct meta_key *key, bool subdir)
{
	struct meta_txn *txn = meta_txn_begin(check->meta);
	struct format_inode item;

	if (!txn)
		return -ENOMEM;
	meta_txn_delete(txn, key);
	if (!check_item(check, dir->number, &item)) {
		dir->size -= dir->size > 0;
		dir->nlink -= subdir && dir->nlink > 2;
		item.size = le64_of(dir->size);
		item.nlink = le32_of(dir->nlink);
		check_put_item(txn, dir->number, &item);
	}
	return check_commit(check, txn);
}

/* An entry that cannot stay. 1: it went. */
static int entry_bad(struct check *check, struct check_inode *dir, const struct meta_key *key,
		     enum fs_problem_kind kind, const char *name, const char *why, bool subdir)
{
	int error;

	if (!check_problem(check, kind, FS_REMEDY_LOSSY, "the entry is removed", "%s: the entry '%s' %s",
			   check_path(check, dir->number), name, why))
		return 0;
	error = check_name_remove(check, dir, key, subdir);
	return error ? error : 1;
}

/* The entry goes where a lookup looks for it: *key is then there. 1: it is still to be met. */
static int entry_move(struct check *check, struct check_inode *dir, struct meta_key *key, uint64_t bucket,
		      const char *name)
{
	const union dirent_value *value = entry_value(check);
	struct meta_key before = *key;
	struct dir_entry found;
	struct meta_txn *txn;
	int error = dir_find_in(check->meta, dir->number, bucket, name, &found);

	if (!error || error == -ENOSPC)
		return entry_bad(check, dir, key, FS_PROBLEM_NAME, name, "is there twice", value->head.type == DT_DIR);
	if (error != -ENOENT)
		return error;
	if (!check_problem(check, FS_PROBLEM_NAME, FS_REMEDY_SAFE, "it is moved", "%s: the entry '%s' is misplaced",
			   check_path(check, dir->number), name))
		return 0;
	txn = meta_txn_begin(check->meta);
	if (!txn)
		return -ENOMEM;
	meta_txn_delete(txn, key);
	dir_put(txn, &found.key, name, le64_get(value->head.object), value->head.type);
	*key = found.key;
	error = check_commit(check, txn);
	return error ? error : key->offset > before.offset;
}

static int entry_set_type(struct check *check, const struct check_inode *dir, const struct meta_key *key,
			  const char *name, const struct check_inode *inode)
{
	struct meta_txn *txn;

	if (inode->flags & CHECK_GUESSED)
		return 0;
	if (!check_problem(check, FS_PROBLEM_NAME, FS_REMEDY_SAFE, "it is set", "%s: the entry '%s' has the wrong type",
			   check_path(check, dir->number), name))
		return 0;
	txn = meta_txn_begin(check->meta);
	if (!txn)
		return -ENOMEM;
	dir_put(txn, key, name, inode->number, inode->type);
	return check_commit(check, txn);
}

/* ---- one name for each directory ---- */

static int parent_set(struct check *check, const struct check_inode *dir, struct check_inode *inode)
{
	struct format_inode item;
	struct meta_txn *txn;
	int error;

	if (inode->flags & CHECK_GUESSED)
		return 0;
	if (!check_problem(check, FS_PROBLEM_PARENT, FS_REMEDY_SAFE, "it is set",
			   "%s: the directory has another as its parent", check_path(check, inode->number)))
		return 0;
	error = check_item(check, inode->number, &item);
	if (error)
		return error;
	txn = meta_txn_begin(check->meta);
	if (!txn)
		return -ENOMEM;
	item.parent = le64_of(dir->number);
	check_put_item(txn, inode->number, &item);
	return check_commit(check, txn);
}

/* An entry for a directory: it is the name if the directory's own word, or that of no other entry, says so. */
static int directory_named(struct check *check, struct check_inode *dir, const struct meta_key *key, const char *name,
			   struct check_inode *inode)
{
	struct meta_key other;
	int error;

	if (inode->number == OBJECT_ROOT)
		return entry_bad(check, dir, key, FS_PROBLEM_PARENT, name, "names the root directory", true);
	error = inode->names ? 0 : -ENOENT;
	if (!inode->names && inode->parent != dir->number)
		error = check_name_of(check, inode->parent, inode->number, &other);
	if (!error)
		return entry_bad(check, dir, key, FS_PROBLEM_PARENT, name, "names a directory that has a name", true);
	if (error != -ENOENT)
		return error;
	error = inode->parent != dir->number ? parent_set(check, dir, inode) : 0;
	inode->parent = dir->number;
	inode->names++;
	return error;
}

/* ---- all of them ---- */

/* 1: the entry does not count, or not here. */
static int entry_check(struct check *check, struct check_inode *dir, struct meta_key key, size_t length)
{
	const union dirent_value *value = entry_value(check);
	bool subdir = length >= sizeof(value->head) && value->head.type == DT_DIR;
	char name[INODE_NAME_MAX + 1];
	struct check_inode *inode;
	uint64_t bucket;
	int error = 0;

	if (length > sizeof(*value) || !dir_value_valid(value, length) || !entry_name(value, name))
		return entry_bad(check, dir, &key, FS_PROBLEM_NAME, "?", "is malformed", subdir);
	bucket = dir_bucket(siphash(check->hash_key, name, value->head.name_length));
	inode = check_find(check, le64_get(value->head.object));
	if (!inode)
		return entry_bad(check, dir, &key, FS_PROBLEM_NAME, name, "leads to no inode", subdir);
	if (!dir_in_bucket(&key, bucket))
		error = entry_move(check, dir, &key, bucket, name);
	if (!error && value->head.type != inode->type)
		error = entry_set_type(check, dir, &key, name, inode);
	if (!error && inode->type == DT_DIR)
		return directory_named(check, dir, &key, name, inode);
	inode->names += !error;
	return error;
}

/* Whether an entry counts as one of a directory: what leads nowhere is believed. */
static bool names_directory(struct check *check, size_t length)
{
	const struct format_dirent *head = &entry_value(check)->head;
	const struct check_inode *inode = length < sizeof(*head) ? NULL : check_find(check, le64_get(head->object));

	return inode ? inode->type == DT_DIR : length >= sizeof(*head) && head->type == DT_DIR;
}

static int names_of(struct check *check, struct check_inode *dir)
{
	const struct meta_key last = { dir->number, TYPE_DIRENT, UINT64_MAX };
	struct meta_key key = { dir->number, TYPE_DIRENT, 0 };
	int error = 0;

	while (error >= 0) {
		ssize_t length = check_next(check, &key, &last);
		bool subdir;

		if (length < 0)
			return length == -ENOENT ? 0 : (int)length;
		subdir = names_directory(check, (size_t)length);
		error = entry_check(check, dir, key, (size_t)length);
		dir->entries += !error;
		dir->subdirs += !error && subdir;
		if (key.offset++ == UINT64_MAX)
			break;
	}
	return error < 0 ? error : 0;
}

int check_names(struct check *check)
{
	int error = 0;

	for (size_t i = 0; i < check->count && !error; i++) {
		if (check->inodes[i].type == DT_DIR)
			error = names_of(check, &check->inodes[i]);
		check_progress(check, 3, i + 1, check->count);
	}
	return error;
}
