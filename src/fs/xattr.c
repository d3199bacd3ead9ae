/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Extended attributes: a name and up to 64 KiB, in one item or, if it is long, in several that follow each other. The
 * key is made of the name's hash, a number that tells names of one hash apart, and the part's number. An attribute is
 * set, replaced and removed whole, in one transaction.
 *
 * The content lock of the inode keeps its attributes together: exclusive for who changes them, shared for who reads.
 * Who may read and write which namespace was decided above; but for trusted names, which the kernel does not hide.
 */
#include "fs_private.h"

#include "mirrorfs/base/log.h"

#include <errno.h>
#include <linux/xattr.h>
#include <string.h>

#define PART_MASK UINT64_C(0xff)
#define NUMBER_STEP (PART_MASK + 1)
#define BUCKET_MASK UINT64_C(0xffff)

/* ---- the item ---- */

size_t xattr_part_bytes(uint32_t length, unsigned int part)
{
	size_t before = (size_t)part * XATTR_PART;

	if (length <= before)
		return 0;
	return length - before < XATTR_PART ? length - before : XATTR_PART;
}

unsigned int xattr_parts(uint32_t length)
{
	return length ? (length + XATTR_PART - 1) / XATTR_PART : 1;
}

unsigned int xattr_part(uint64_t offset)
{
	return offset & PART_MASK;
}

uint64_t xattr_beginning(uint64_t offset)
{
	return offset & ~PART_MASK;
}

uint64_t xattr_beside(uint64_t offset)
{
	return offset + NUMBER_STEP;
}

bool xattr_in_bucket(uint64_t offset, uint64_t bucket)
{
	return (offset & ~BUCKET_MASK) == bucket;
}

uint64_t xattr_bucket(uint64_t hash)
{
	return hash & ~BUCKET_MASK;
}

bool xattr_head_valid(const union xattr_value *value, size_t length)
{
	const struct format_xattr *head = &value->head;
	size_t name = length < sizeof(*head) ? 0 : head->name_length;

	return name && le32_get(head->length) <= XATTR_VALUE_MAX &&
	       length == sizeof(*head) + name + xattr_part_bytes(le32_get(head->length), 0) &&
	       !memchr(value->bytes + sizeof(*head), 0, name);
}

static int xattr_malformed(const struct meta_key *key)
{
	log_error("extended attribute is malformed inode=%llu offset=%llx", (unsigned long long)key->object,
		  (unsigned long long)key->offset);
	return -EIO;
}

int xattr_find_in(struct meta *meta, uint64_t number, uint64_t bucket, const char *name, struct xattr *xattr)
{
	const struct meta_key last = { number, TYPE_XATTR, bucket | BUCKET_MASK };
	struct meta_key key = { number, TYPE_XATTR, bucket };
	uint64_t free_number = 0, here = 0;
	size_t name_length = strlen(name);

	/* What has the number `here` begins at its part 0; further parts are not looked at. */
	for (; here <= BUCKET_MASK / NUMBER_STEP; here++) {
		const union xattr_value *value = &xattr->value;
		ssize_t length;

		key.offset = bucket | here * NUMBER_STEP;
		length = meta_next(meta, &key, &last, &xattr->value, sizeof(xattr->value));
		if (length == -ENOENT)
			break;
		if (length < 0)
			return (int)length;
		here = (key.offset & BUCKET_MASK) / NUMBER_STEP;
		if (free_number == here)
			free_number++;
		if (xattr_part(key.offset) || !xattr_head_valid(value, (size_t)length))
			return xattr_malformed(&key);
		if (value->head.name_length == name_length && !memcmp(value->head.name, name, name_length)) {
			xattr->offset = key.offset;
			xattr->length = le32_get(value->head.length);
			return 0;
		}
	}
	xattr->offset = bucket | free_number * NUMBER_STEP;
	return free_number > BUCKET_MASK / NUMBER_STEP ? -ENOSPC : -ENODATA;
}

uint64_t xattr_bucket_of(struct inode *inode, const char *name)
{
	return xattr_bucket(inode->fs->hash(inode->fs->hash_key, name, strlen(name)));
}

/* Content or log lock held. False: it certainly has none; most files never have. */
static bool xattr_any(struct inode *inode)
{
	const struct meta_key last = { inode->number, TYPE_XATTR, UINT64_MAX };
	struct meta_key key = { inode->number, TYPE_XATTR, 0 };
	enum inode_xattrs known;

	mutex_lock(&inode->state);
	known = inode->xattrs;
	mutex_unlock(&inode->state);
	if (known != XATTRS_UNKNOWN)
		return known == XATTRS_SOME;
	if (meta_next(inode->fs->meta, &key, &last, NULL, 0) != -ENOENT)
		return true;
	mutex_lock(&inode->state);
	if (inode->xattrs == XATTRS_UNKNOWN)
		inode->xattrs = XATTRS_NONE;
	mutex_unlock(&inode->state);
	return false;
}

int xattr_find(struct inode *inode, const char *name, struct xattr *xattr)
{
	uint64_t bucket = xattr_bucket_of(inode, name);

	if (!xattr_any(inode)) {
		xattr->offset = bucket;
		return -ENODATA;
	}
	return xattr_find_in(inode->fs->meta, inode->number, bucket, name, xattr);
}

int xattr_read(struct inode *inode, const struct xattr *xattr, unsigned char *data)
{
	size_t first = xattr_part_bytes(xattr->length, 0);
	struct meta_key key = { inode->number, TYPE_XATTR, xattr->offset };

	memcpy(data, xattr->value.bytes + sizeof(xattr->value.head) + xattr->value.head.name_length, first);
	for (unsigned int part = 1; part < xattr_parts(xattr->length); part++) {
		size_t bytes = xattr_part_bytes(xattr->length, part);
		ssize_t got;

		key.offset++;
		got = meta_get(inode->fs->meta, &key, data + (size_t)part * XATTR_PART, bytes);
		if (got < 0 && got != -ENOENT)
			return (int)got;
		if (got != (ssize_t)bytes)
			return xattr_malformed(&key);
	}
	return 0;
}

void xattr_put(struct meta_txn *txn, uint64_t number, uint64_t offset, const char *name, const void *data,
	       uint32_t length)
{
	union xattr_value value = { .head = { .length = le32_of(length), .name_length = (uint8_t)strlen(name) } };
	struct meta_key key = { number, TYPE_XATTR, offset };
	size_t first = xattr_part_bytes(length, 0), at = sizeof(value.head) + value.head.name_length;

	memcpy(value.bytes + sizeof(value.head), name, value.head.name_length);
	if (first)
		memcpy(value.bytes + at, data, first);
	meta_txn_put(txn, &key, &value, at + first);
	for (unsigned int part = 1; part < xattr_parts(length); part++) {
		key.offset++;
		meta_txn_put(txn, &key, (const unsigned char *)data + (size_t)part * XATTR_PART,
			     xattr_part_bytes(length, part));
	}
}

void xattr_drop(struct meta_txn *txn, uint64_t number, uint64_t offset, unsigned int from, unsigned int to)
{
	for (unsigned int part = from; part < to; part++) {
		const struct meta_key key = { number, TYPE_XATTR, offset + part };

		meta_txn_delete(txn, &key);
	}
}

int xattr_drop_some(struct meta_txn *txn, struct inode *inode, uint64_t *offset)
{
	const struct meta_key last = { inode->number, TYPE_XATTR, UINT64_MAX };
	struct meta_key key = { inode->number, TYPE_XATTR, *offset };
	ssize_t length = 0;

	while (!meta_txn_full(txn, 4, 0)) {
		length = meta_next(inode->fs->meta, &key, &last, NULL, 0);
		if (length < 0)
			return length == -ENOENT ? 0 : (int)length;
		meta_txn_delete(txn, &key);
		*offset = ++key.offset;
	}
	return -EAGAIN;
}

/* ---- names ---- */

static bool xattr_trusted(const char *name, size_t length)
{
	const size_t prefix = sizeof(XATTR_TRUSTED_PREFIX) - 1;

	return length > prefix && !memcmp(name, XATTR_TRUSTED_PREFIX, prefix);
}

bool xattr_is_acl(const char *name)
{
	return !strcmp(name, XATTR_NAME_POSIX_ACL_ACCESS) || !strcmp(name, XATTR_NAME_POSIX_ACL_DEFAULT);
}

static int xattr_check_name(const char *name)
{
	static const char *const namespaces[] = { XATTR_USER_PREFIX, XATTR_TRUSTED_PREFIX, XATTR_SECURITY_PREFIX };

	if (strlen(name) > INODE_NAME_MAX)
		return -ERANGE;
	if (xattr_is_acl(name))
		return 0;
	for (size_t i = 0; i < sizeof(namespaces) / sizeof(namespaces[0]); i++)
		if (!strncmp(name, namespaces[i], strlen(namespaces[i])))
			return name[strlen(namespaces[i])] ? 0 : -EINVAL;
	return -EOPNOTSUPP;
}

/* ---- the callers' ---- */

struct xattr_set {
	const char *name;
	const void *data; /* NULL: it goes */
	uint32_t length;
	int flags;
	bool any; /* it may go without having been there */
	const struct acl *acl; /* whose permissions become those of the mode; NULL: the mode stays */
};

/* State lock taken inside. */
static void xattr_set_mode(struct inode *inode, const struct xattr_set *set)
{
	if (!set->acl)
		return;
	mutex_lock(&inode->state);
	inode->attr.mode = acl_mode(set->acl, inode->attr.mode);
	if (set->flags & FS_XATTR_KILL_SGID)
		inode->attr.mode &= ~(uint32_t)S_ISGID;
	mutex_unlock(&inode->state);
}

/* Content lock held exclusively. */
static int xattr_set_locked(struct inode *inode, const struct xattr_set *set)
{
	struct xattr xattr;
	struct change change;
	unsigned int before = 0;
	int error = xattr_find(inode, set->name, &xattr);

	if (error && error != -ENODATA)
		return error;
	if (!error && set->flags & XATTR_CREATE)
		return -EEXIST;
	if (error && (set->flags & XATTR_REPLACE || (!set->data && !set->any)))
		return -ENODATA;
	if (!error)
		before = xattr_parts(xattr.length);
	error = change_begin(&change, inode->fs, &inode, 1);
	if (error)
		return error;
	if (set->data)
		xattr_put(change.txn, inode->number, xattr.offset, set->name, set->data, set->length);
	xattr_drop(change.txn, inode->number, xattr.offset, set->data ? xattr_parts(set->length) : 0, before);
	xattr_set_mode(inode, set);
	change_touch(inode, false);
	error = change_commit(&change);
	if (!error && set->data)
		xattr_known(inode);
	return error;
}

/* A list that says no more than a mode is kept as the mode. */
static int xattr_set_acl(struct inode *inode, struct xattr_set *set)
{
	bool access = !strcmp(set->name, XATTR_NAME_POSIX_ACL_ACCESS);
	struct acl acl;
	int error = acl_take(inode, access, set->data, set->length, &acl);

	if (error)
		return error;
	set->any = true;
	set->data = acl.bytes;
	if (acl_empty(&acl) || (access && acl_is_mode(&acl)))
		set->data = NULL;
	if (access && !acl_empty(&acl))
		set->acl = &acl;
	return xattr_set_locked(inode, set);
}

void xattr_known(struct inode *inode)
{
	mutex_lock(&inode->state);
	inode->xattrs = XATTRS_SOME;
	mutex_unlock(&inode->state);
}

static int xattr_set(struct fs *fs, uint64_t number, struct xattr_set *set)
{
	struct inode *inode;
	int error = fs_takes_writes(fs) ? xattr_check_name(set->name) : -EROFS;

	if (!error && set->data)
		error = meta_use_feature(fs->meta, SUPER_RO_XATTRS);
	if (!error)
		error = inode_get(fs, number, &inode);
	if (error)
		return error;
	rwlock_write(&inode->content);
	error = flags_forbid(inode, FS_FLAGS_FIXED);
	if (!error)
		error = xattr_is_acl(set->name) ? xattr_set_acl(inode, set) : xattr_set_locked(inode, set);
	rwlock_unlock(&inode->content);
	inode_put(inode);
	return error;
}

int fs_setxattr(struct fs *fs, uint64_t number, const char *name, const void *value, size_t size, int flags)
{
	struct xattr_set set = { .name = name, .data = size ? value : "", .length = (uint32_t)size, .flags = flags };

	if (flags & ~(XATTR_CREATE | XATTR_REPLACE | FS_XATTR_KILL_SGID))
		return -EINVAL;
	return size > XATTR_VALUE_MAX ? -E2BIG : xattr_set(fs, number, &set);
}

int fs_removexattr(struct fs *fs, uint64_t number, const char *name)
{
	struct xattr_set set = { .name = name };

	return xattr_set(fs, number, &set);
}

static ssize_t xattr_get_locked(struct inode *inode, const char *name, void *value, size_t size)
{
	struct xattr xattr;
	int error = xattr_find(inode, name, &xattr);

	if (error)
		return error == -ENOSPC ? -ENODATA : error;
	if (size && xattr.length > size)
		return -ERANGE;
	if (size)
		error = xattr_read(inode, &xattr, value);
	return error ? error : (ssize_t)xattr.length;
}

ssize_t fs_getxattr(struct fs *fs, uint64_t number, const char *name, void *value, size_t size)
{
	struct inode *inode;
	ssize_t result = xattr_check_name(name);

	if (!result)
		result = inode_get(fs, number, &inode);
	if (result)
		return result;
	rwlock_read(&inode->content);
	result = xattr_get_locked(inode, name, value, size);
	rwlock_unlock(&inode->content);
	inode_put(inode);
	return result;
}

static ssize_t xattr_list_locked(struct inode *inode, char *names, size_t size, bool trusted)
{
	const struct meta_key last = { inode->number, TYPE_XATTR, UINT64_MAX };
	struct meta_key key = { inode->number, TYPE_XATTR, 0 };
	union xattr_value value;
	size_t used = 0;

	while (xattr_any(inode)) {
		ssize_t length = meta_next(inode->fs->meta, &key, &last, &value, sizeof(value));
		size_t name = value.head.name_length;

		if (length < 0)
			return length == -ENOENT ? (ssize_t)used : length;
		if (xattr_part(key.offset) || !xattr_head_valid(&value, (size_t)length))
			return xattr_malformed(&key);
		if (trusted || !xattr_trusted(value.head.name, name)) {
			if (size && name + 1 > size - used)
				return -ERANGE;
			if (size) {
				memcpy(names + used, value.head.name, name);
				names[used + name] = '\0';
			}
			used += name + 1;
		}
		if ((key.offset | PART_MASK) == UINT64_MAX)
			break;
		key.offset = (key.offset | PART_MASK) + 1;
	}
	return (ssize_t)used;
}

ssize_t fs_listxattr(struct fs *fs, uint64_t number, char *names, size_t size, bool trusted)
{
	struct inode *inode;
	ssize_t result = inode_get(fs, number, &inode);

	if (result)
		return result;
	rwlock_read(&inode->content);
	result = xattr_list_locked(inode, names, size, trusted);
	rwlock_unlock(&inode->content);
	inode_put(inode);
	return result;
}
