/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Entries of directories. An entry's key is its place: 55 bits of the keyed hash of its name and, below them, a
 * number that tells names of one hash apart. The key is also the cookie of readdir: it depends on the name alone,
 * not on what else comes and goes, and it is a positive off_t. The hash is never 0, so that no entry is below 256
 * and the cookies of "." and ".." are theirs alone.
 */
#include "fs_private.h"

#include "mirrorfs/base/log.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>

#define BUCKET_BITS 8
#define BUCKET_MASK ((UINT64_C(1) << BUCKET_BITS) - 1)
#define HASH_SHIFT (64 - 55)

enum { COOKIE_START = 0, COOKIE_DOT = 1, COOKIE_DOTDOT = 2 };

int dir_check_name(const char *name)
{
	size_t length = strlen(name);

	if (!length || strchr(name, '/'))
		return -EINVAL;
	if (length > INODE_NAME_MAX)
		return -ENAMETOOLONG;
	if (!strcmp(name, ".") || !strcmp(name, ".."))
		return -EEXIST;
	return 0;
}

uint64_t dir_bucket(uint64_t hash)
{
	hash >>= HASH_SHIFT;
	return (hash ? hash : 1) << BUCKET_BITS;
}

bool dir_in_bucket(const struct meta_key *key, uint64_t bucket)
{
	return (key->offset & ~BUCKET_MASK) == bucket;
}

/* No path can be made of any other name. */
static bool name_valid(const char *name, size_t length)
{
	bool dots = name[0] == '.' && (length == 1 || (length == 2 && name[1] == '.'));

	return !dots && !memchr(name, '/', length) && !memchr(name, 0, length);
}

bool dir_value_valid(const union dirent_value *value, size_t length)
{
	return length > sizeof(value->head) && length == sizeof(value->head) + value->head.name_length &&
	       name_valid((const char *)value->bytes + sizeof(value->head), value->head.name_length);
}

/* 0, or -EIO: what came from the tree is no entry. */
static int dirent_check(const struct meta_key *key, const union dirent_value *value, ssize_t length)
{
	if (length < 0)
		return (int)length;
	if (dir_value_valid(value, (size_t)length))
		return 0;
	log_error("directory entry is malformed directory=%llu offset=%llu length=%zd",
		  (unsigned long long)key->object, (unsigned long long)key->offset, length);
	return -EIO;
}

int dir_find_in(struct meta *meta, uint64_t dir, uint64_t bucket, const char *name, struct dir_entry *entry)
{
	struct meta_key key = { .object = dir, .type = TYPE_DIRENT, .offset = bucket };
	const struct meta_key last = { .object = dir, .type = TYPE_DIRENT, .offset = bucket | BUCKET_MASK };
	uint64_t free_offset = bucket;
	size_t name_length = strlen(name);
	union dirent_value value;
	int error;

	for (;; key.offset++) {
		error = dirent_check(&key, &value, meta_next(meta, &key, &last, &value, sizeof(value)));
		if (error)
			break;
		if (value.head.name_length == name_length && !memcmp(value.head.name, name, name_length)) {
			entry->key = key;
			entry->object = le64_get(value.head.object);
			entry->type = value.head.type;
			return 0;
		}
		if (key.offset == free_offset)
			free_offset++;
		if (key.offset == last.offset) {
			error = -ENOENT;
			break;
		}
	}
	if (error != -ENOENT)
		return error;
	if (free_offset > last.offset)
		return -ENOSPC;
	entry->key = last;
	entry->key.offset = free_offset;
	return -ENOENT;
}

int dir_find(struct inode *dir, const char *name, struct dir_entry *entry)
{
	uint64_t bucket = dir_bucket(dir->fs->hash(dir->fs->hash_key, name, strlen(name)));

	return dir_find_in(dir->fs->meta, dir->number, bucket, name, entry);
}

void dir_put(struct meta_txn *txn, const struct meta_key *key, const char *name, uint64_t object, uint8_t type)
{
	union dirent_value value = { .head = { .object = le64_of(object), .type = type } };
	size_t length = strlen(name);

	value.head.name_length = (uint8_t)length;
	memcpy(value.bytes + sizeof(value.head), name, length);
	meta_txn_put(txn, key, &value, sizeof(value.head) + length);
}

uint64_t dir_parent(struct inode *dir)
{
	uint64_t parent;

	mutex_lock(&dir->state);
	parent = dir->attr.parent;
	mutex_unlock(&dir->state);
	return parent;
}

/* The inode that an entry names. -EUCLEAN: the entry leads nowhere, which is damage. */
static int dir_get_named(struct inode *dir, uint64_t number, struct inode **inode)
{
	int error = inode_get(dir->fs, number, inode);

	if (error != -ESTALE)
		return error;
	log_error("directory entry names no inode directory=%llu inode=%llu", (unsigned long long)dir->number,
		  (unsigned long long)number);
	return -EUCLEAN;
}

int dir_get(struct inode *dir, const char *name, struct dir_entry *entry, struct inode **inode)
{
	int error = dir_find(dir, name, entry);

	*inode = NULL;
	if (!error)
		error = dir_get_named(dir, entry->object, inode);
	return error == -EUCLEAN ? -EIO : error;
}

static int dir_lookup(struct inode *dir, const char *name, struct inode **inode)
{
	struct dir_entry entry;
	int error = dir_check_name(name);

	if (error == -EEXIST)
		return inode_get(dir->fs, name[1] ? dir_parent(dir) : dir->number, inode);
	if (error)
		return error;
	rwlock_read(&dir->content);
	error = dir_get(dir, name, &entry, inode);
	rwlock_unlock(&dir->content);
	return error;
}

int fs_lookup(struct fs *fs, uint64_t dir_number, const char *name, struct fs_attr *attr)
{
	struct inode *dir, *inode;
	int error = inode_get_directory(fs, dir_number, &dir);

	if (error)
		return error;
	error = dir_lookup(dir, name, &inode);
	if (!error) {
		inode_fill_attr(inode, attr);
		inode_put_looked_up(inode, dir_number);
	}
	inode_put(dir);
	return error;
}

/* ---- readdir ---- */

struct dir_walk {
	struct inode *dir;
	bool attrs;
	bool (*emit)(void *context, const struct fs_entry *entry);
	void *context;
};

/* "." or "..": 1 emitted, 0 the caller wants no more, or -errno. */
static int dir_emit_dot(const struct dir_walk *walk, uint64_t cookie)
{
	struct fs_entry entry = {
		.name = cookie == COOKIE_DOT ? "." : "..",
		.inode = cookie == COOKIE_DOT ? walk->dir->number : dir_parent(walk->dir),
		.type = DT_DIR,
		.next = cookie,
	};
	struct fs_attr attr;
	int error;

	if (walk->attrs) {
		error = fs_getattr(walk->dir->fs, entry.inode, &attr);
		if (error)
			return error;
		entry.attr = &attr;
	}
	return walk->emit(walk->context, &entry);
}

/* The next entry at or behind *key, and with attrs its inode. An entry that leads nowhere hides none behind it. */
static int dir_next(const struct dir_walk *walk, struct meta_key *key, union dirent_value *value, struct inode **inode)
{
	const struct meta_key last = { .object = key->object, .type = TYPE_DIRENT, .offset = INT64_MAX };
	struct inode *dir = walk->dir;
	int error;

	*inode = NULL;
	do {
		/* Both in one step: behind it the name can be removed and its inode with it. */
		rwlock_read(&dir->content);
		error = dirent_check(key, value, meta_next(dir->fs->meta, key, &last, value, sizeof(*value)));
		if (!error && walk->attrs)
			error = dir_get_named(dir, le64_get(value->head.object), inode);
		rwlock_unlock(&dir->content);
		key->offset += error == -EUCLEAN;
	} while (error == -EUCLEAN);
	return error;
}

/* 1 emitted, 0 the caller wants no more. Takes over the reference. */
static int dir_emit(const struct dir_walk *walk, const struct meta_key *key, const union dirent_value *value,
		    struct inode *inode)
{
	char name[INODE_NAME_MAX + 1];
	struct fs_attr attr;
	struct fs_entry entry = {
		.name = name,
		.inode = le64_get(value->head.object),
		.type = value->head.type,
		.next = key->offset,
		.attr = inode ? &attr : NULL,
	};
	bool more;

	memcpy(name, value->bytes + sizeof(value->head), value->head.name_length);
	name[value->head.name_length] = 0;
	if (inode)
		inode_fill_attr(inode, &attr);
	more = walk->emit(walk->context, &entry);
	if (inode && more)
		inode_put_looked_up(inode, walk->dir->number);
	else
		inode_put(inode);
	return more;
}

static int dir_walk(const struct dir_walk *walk, uint64_t cookie)
{
	struct meta_key key = { .object = walk->dir->number, .type = TYPE_DIRENT };
	union dirent_value value;
	struct inode *inode;
	int result = 1;

	while (result > 0 && cookie < COOKIE_DOTDOT)
		result = dir_emit_dot(walk, ++cookie);
	while (result > 0) {
		key.offset = cookie + 1;
		result = dir_next(walk, &key, &value, &inode);
		if (!result)
			result = dir_emit(walk, &key, &value, inode);
		cookie = key.offset;
	}
	return result == -ENOENT ? 0 : result;
}

int fs_readdir(struct fs *fs, uint64_t number, uint64_t cookie, bool attrs,
	       bool (*emit)(void *context, const struct fs_entry *entry), void *context)
{
	struct dir_walk walk = { .attrs = attrs, .emit = emit, .context = context };
	int error;

	if (cookie > INT64_MAX)
		return -EINVAL;
	error = inode_get_directory(fs, number, &walk.dir);
	if (error)
		return error;
	error = dir_walk(&walk, cookie);
	if (!error)
		file_read_touch(walk.dir);
	inode_put(walk.dir);
	return error;
}
