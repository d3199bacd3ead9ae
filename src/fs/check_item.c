/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inode by inode: its fields, and the items that go with them. Items without an inode get one again, which is lost
 * and found by the later passes: what can be read is not thrown away.
 */
#include "check_private.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#define LOST_TARGET "lost-target"

/* The inode that the pass is at. */
struct object {
	uint64_t number;
	struct format_inode inode;
	bool has_inode, has_entries, has_extents, has_xattrs, guessed;
	size_t target; /* length of a symlink's */
	uint64_t mapped; /* blocks */
	uint64_t end; /* of the extents up to here, in the file */
};

static uint32_t mode_of(const struct object *object)
{
	return le32_get(object->inode.mode);
}

static bool type_known(uint32_t mode)
{
	return S_ISREG(mode) || S_ISDIR(mode) || S_ISLNK(mode) || S_ISCHR(mode) || S_ISBLK(mode) || S_ISFIFO(mode) ||
	       S_ISSOCK(mode);
}

/* What it holds decides if its inode does not. */
static bool may_be(const struct object *object, uint32_t type)
{
	return !object->has_inode || !type_known(mode_of(object)) || (mode_of(object) & S_IFMT) == type;
}

static int misplaced(struct check *check, const struct meta_key *key, const char *what)
{
	return check_problem(check, FS_PROBLEM_ITEM, FS_REMEDY_LOSSY, "it is removed", "%s: %s, type %u, offset %llu",
			     check_path(check, key->object), what, key->type, (unsigned long long)key->offset)
		       ? check_delete(check, key)
		       : 0;
}

/* 1: look at the place again. */
static int extent_check(struct check *check, struct object *object, const struct meta_key *key, size_t length)
{
	union check_extent extent;
	int error;

	if (!meta_extent_valid(check->meta, key, check->value, length) ||
	    key->offset + le32_get(((struct format_extent *)check->value)->length) > FS_BLOCKS_END)
		return misplaced(check, key, "an extent is malformed");
	memcpy(&extent, check->value, length);
	if (!may_be(object, S_IFREG)) {
		if (!check_problem(check, FS_PROBLEM_ITEM, FS_REMEDY_LOSSY, "it is removed",
				   "%s: no file, but has an extent at block %llu", check_path(check, key->object),
				   (unsigned long long)key->offset))
			return 0;
		error = check_space_remove(check, key, &extent);
		return error ? error : 1;
	}
	error = check_space_extent(check, key, &extent, object->end);
	if (error > 0) {
		object->has_inode = !check_item(check, object->number, &object->inode);
		return error;
	}
	object->has_extents = true;
	object->mapped += le32_get(extent.head.length);
	if (object->end < key->offset + le32_get(extent.head.length))
		object->end = key->offset + le32_get(extent.head.length);
	return error;
}

/* ---- extended attributes ---- */

/* A first part that no lookup of its name finds, or that says what cannot be. */
static bool xattr_head_wrong(struct check *check, const struct meta_key *key, const union xattr_value *value,
			     size_t length, struct xattr *found)
{
	char name[INODE_NAME_MAX + 1];
	uint64_t bucket;

	if (length > sizeof(*value) || !xattr_head_valid(value, length))
		return true;
	memcpy(name, value->head.name, value->head.name_length);
	name[value->head.name_length] = '\0';
	bucket = xattr_bucket(siphash(check->hash_key, name, value->head.name_length));
	return !xattr_in_bucket(key->offset, bucket) ||
	       (!xattr_find_in(check->meta, key->object, bucket, name, found) && found->offset != key->offset);
}

/* 0 if all parts of an attribute are there, each as long as its first one says; else -ENOENT; -EIO. */
static int xattr_whole(struct check *check, const struct meta_key *first, uint32_t length)
{
	for (unsigned int part = 1; part < xattr_parts(length); part++) {
		const struct meta_key key = { first->object, TYPE_XATTR, first->offset + part };
		ssize_t got = check_get(check, &key, NULL, 0);

		if (got < 0)
			return (int)got;
		if (got != (ssize_t)xattr_part_bytes(length, part))
			return -ENOENT;
	}
	return 0;
}

/* All that begins where this item's attribute does. */
static int xattr_remove(struct check *check, const struct meta_key *first)
{
	const struct meta_key last = { first->object, TYPE_XATTR, first->offset | 0xff };
	struct meta_txn *txn = meta_txn_begin(check->meta);
	struct meta_key key = *first;

	if (!txn)
		return -ENOMEM;
	for (; meta_next(check->meta, &key, &last, NULL, 0) >= 0; key.offset++) {
		meta_txn_delete(txn, &key);
		if (key.offset == last.offset)
			break;
	}
	return check_commit(check, txn);
}

static int xattr_bad(struct check *check, const struct meta_key *first, const char *what)
{
	return check_problem(check, FS_PROBLEM_ITEM, FS_REMEDY_LOSSY, "it is removed", "%s: %s",
			     check_path(check, first->object), what)
		       ? xattr_remove(check, first)
		       : 0;
}

static int xattr_check(struct check *check, struct object *object, const struct meta_key *key, size_t length)
{
	const struct meta_key first = { key->object, TYPE_XATTR, xattr_beginning(key->offset) };
	union xattr_value value;
	struct xattr found;
	ssize_t got;
	int error;

	if (key->offset == first.offset) {
		memcpy(&value, check->value, length < sizeof(value) ? length : sizeof(value));
		if (xattr_head_wrong(check, key, &value, length, &found))
			return xattr_bad(check, &first, "an extended attribute is malformed");
		error = xattr_whole(check, key, le32_get(value.head.length));
		if (error == -ENOENT)
			return xattr_bad(check, &first, "an extended attribute is not whole");
		object->has_xattrs = !error;
		return error;
	}
	got = check_get(check, &first, &value, sizeof(value));
	if (got < 0 && got != -ENOENT)
		return (int)got;
	if (got < 0 || !xattr_head_valid(&value, (size_t)got) ||
	    xattr_part(key->offset) >= xattr_parts(le32_get(value.head.length)))
		return xattr_bad(check, key, "a piece of an extended attribute lacks its beginning");
	return 0;
}

/* One item of an inode. 1: look at the place again; entries are passed over, to the next type. */
static int item_check(struct check *check, struct object *object, struct meta_key *key, size_t length)
{
	switch (key->object > INT64_MAX ? 0 : key->type) {
	case TYPE_INODE:
		if (key->offset || length != sizeof(object->inode))
			return misplaced(check, key, "its inode is malformed");
		memcpy(&object->inode, check->value, sizeof(object->inode));
		object->has_inode = true;
		return 0;
	case TYPE_SYMLINK:
		if (key->offset || !length || length >= PATH_MAX || !may_be(object, S_IFLNK))
			return misplaced(check, key, "a symbolic link's target has no meaning here");
		object->target = length;
		return 0;
	case TYPE_DIRENT:
		if (!may_be(object, S_IFDIR))
			return misplaced(check, key, "no directory, but has an entry");
		object->has_entries = true;
		key->offset = UINT64_MAX; /* each is the next pass's */
		return 0;
	case TYPE_XATTR:
		return xattr_check(check, object, key, length);
	case TYPE_EXTENT:
		return extent_check(check, object, key, length);
	default:
		return misplaced(check, key, "an item of no known kind");
	}
}

/* ---- an inode as a whole ---- */

/* What an inode must be that has this content. */
static void inode_guess(const struct object *object, struct format_inode *item)
{
	uint32_t permissions = object->has_inode ? mode_of(object) & 07777 : 0600;

	if (!object->has_inode) {
		fs_format_root(item, 0, 0);
		item->nlink = le32_of(1);
		item->parent = le64_of(0);
	}
	if (object->has_entries || object->number == OBJECT_ROOT) {
		item->mode = le32_of(S_IFDIR | permissions | 0100);
		item->parent = le64_of(OBJECT_ROOT);
	} else if (object->target) {
		item->mode = le32_of(S_IFLNK | 0777);
		item->size = le64_of(object->target);
	} else {
		item->mode = le32_of(S_IFREG | permissions);
		item->size = le64_of(object->end * FS_BLOCK);
	}
	item->blocks = le64_of(object->mapped);
}

static int inode_put_again(struct check *check, struct object *object, const struct format_inode *item)
{
	struct meta_txn *txn = meta_txn_begin(check->meta);

	if (!txn)
		return -ENOMEM;
	check_put_item(txn, object->number, item);
	object->inode = *item;
	object->has_inode = true;
	return check_commit(check, txn);
}

static int inode_missing(struct check *check, struct object *object)
{
	struct format_inode item = object->inode;

	if (!object->has_entries && !object->has_extents && !object->has_xattrs && !object->target &&
	    object->number != OBJECT_ROOT && !object->has_inode)
		return 0;
	inode_guess(object, &item);
	if (check_problem(check, FS_PROBLEM_INODE, FS_REMEDY_LOSSY, "one is made that fits what is there",
			  "inode %llu %s", (unsigned long long)object->number,
			  object->has_inode ? "is of no known type" : "is missing"))
		return inode_put_again(check, object, &item);
	object->inode = item;
	object->has_inode = object->guessed = true;
	return 0;
}

/* A symbolic link that leads nowhere any more is one that says so. */
static int target_missing(struct check *check, struct object *object)
{
	const struct meta_key key = { object->number, TYPE_SYMLINK, 0 };
	struct meta_txn *txn;

	if (!check_problem(check, FS_PROBLEM_INODE, FS_REMEDY_LOSSY, "it leads to " LOST_TARGET,
			   "%s: the symbolic link's target is lost", check_path(check, object->number)))
		return 0;
	txn = meta_txn_begin(check->meta);
	if (!txn)
		return -ENOMEM;
	meta_txn_put(txn, &key, LOST_TARGET, strlen(LOST_TARGET));
	object->inode.size = le64_of(strlen(LOST_TARGET));
	check_put_item(txn, object->number, &object->inode);
	return check_commit(check, txn);
}

static int size_check(struct check *check, struct object *object)
{
	uint64_t size = le64_get(object->inode.size), right = size;
	struct format_inode item = object->inode;

	if (S_ISLNK(mode_of(object)) && !object->target)
		return target_missing(check, object);
	if (S_ISLNK(mode_of(object)))
		right = object->target;
	else if (!S_ISDIR(mode_of(object)) && size > FS_SIZE_MAX) /* of a directory: counted in pass 4 */
		right = object->end * FS_BLOCK;
	item.size = le64_of(right);
	if (size == right ||
	    !check_problem(check, FS_PROBLEM_INODE, S_ISLNK(mode_of(object)) ? FS_REMEDY_SAFE : FS_REMEDY_LOSSY,
			   "it is set", "%s: the size is %llu, %llu would be right", check_path(check, object->number),
			   (unsigned long long)size, (unsigned long long)right))
		return 0;
	return inode_put_again(check, object, &item);
}

static int blocks_check(struct check *check, struct object *object)
{
	struct format_inode item = object->inode;

	/* Content without a name goes in steps that the count does not follow. */
	if (le64_get(item.blocks) == object->mapped || !le32_get(item.nlink))
		return 0;
	if (!check_problem(check, FS_PROBLEM_BLOCKS, FS_REMEDY_SAFE, "it is set", "%s: counts %llu blocks and has %llu",
			   check_path(check, object->number), (unsigned long long)le64_get(item.blocks),
			   (unsigned long long)object->mapped))
		return 0;
	item.blocks = le64_of(object->mapped);
	return inode_put_again(check, object, &item);
}

static int object_end(struct check *check, struct object *object)
{
	int error = 0;

	if (!object->has_inode || !type_known(mode_of(object)))
		error = inode_missing(check, object);
	if (error || !object->has_inode)
		return error;
	if (!object->guessed) {
		error = size_check(check, object);
		if (!error)
			error = blocks_check(check, object);
	}
	return error ? error : check_add(check, object->number, &object->inode, object->guessed);
}

int check_items(struct check *check)
{
	const struct meta_key last = { UINT64_MAX, UINT8_MAX, UINT64_MAX };
	struct object object = { .number = OBJECT_ROOT };
	struct meta_key key = { OBJECT_ROOT, 0, 0 };
	struct meta_super_info info;
	int error = 0;

	meta_super_info(check->meta, &info);
	for (bool more = true; more && !error;) {
		ssize_t length = check_next(check, &key, &last);

		if (length < 0 && length != -ENOENT)
			return (int)length;
		if (length < 0 || key.object != object.number) {
			error = object_end(check, &object);
			object = (struct object){ .number = key.object };
			check_progress(check, 2, key.object, info.next_object);
			/* The value may have given way to another: read it again. */
			length = length < 0 || error ? length : check_next(check, &key, &last);
		}
		if (length < 0 || error)
			break;
		error = item_check(check, &object, &key, (size_t)length);
		if (error == 1)
			error = 0;
		else
			more = check_advance(&key);
	}
	return error;
}
