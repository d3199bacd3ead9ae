/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Attributes as a caller sees and sets them. A change of attributes is a transaction of its own. */
#include "fs_private.h"

#include <errno.h>
#include <linux/xattr.h>

#define SET_OWNER (FS_SET_UID | FS_SET_GID)

int fs_getattr(struct fs *fs, uint64_t number, struct fs_attr *attr)
{
	struct inode *inode;
	int error = inode_get(fs, number, &inode);

	if (error)
		return error;
	inode_fill_attr(inode, attr);
	inode_put(inode);
	return 0;
}

/* State lock held. */
static void attr_set_owner_and_mode(struct inode_attr *attr, bool directory, unsigned int set, const struct stat *st)
{
	if (set & FS_SET_UID)
		attr->uid = st->st_uid;
	if (set & FS_SET_GID)
		attr->gid = st->st_gid;
	/* As Linux does, for root too: a program given away must not run with the powers of its new owner. */
	if ((set & FS_KILL_SUIDGID || set & SET_OWNER) && !directory)
		attr->mode = file_kill_suidgid(attr->mode);
	if (set & FS_SET_MODE)
		attr->mode = (attr->mode & S_IFMT) | (st->st_mode & 07777);
}

static void attr_set(struct inode *inode, unsigned int set, const struct stat *st)
{
	struct inode_attr *attr = &inode->attr;
	struct timespec now = inode_now();

	mutex_lock(&inode->state);
	attr_set_owner_and_mode(attr, inode_is_directory(inode), set, st);
	if (set & FS_SET_ATIME)
		attr->atime = st->st_atim;
	if (set & FS_SET_ATIME_NOW)
		attr->atime = now;
	if (set & FS_SET_MTIME)
		attr->mtime = st->st_mtim;
	if (set & FS_SET_MTIME_NOW)
		attr->mtime = now;
	attr->ctime = set & FS_SET_CTIME ? st->st_ctim : now;
	mutex_unlock(&inode->state);
}

static int attr_change(struct inode *inode, unsigned int set, const struct stat *st)
{
	struct change change;
	int error = change_begin(&change, inode->fs, &inode, 1);

	if (error)
		return error;
	attr_set(inode, set, st);
	return change_commit(&change);
}

/* With a mode, which the access list follows. Content lock held exclusively. */
static int attr_change_mode(struct inode *inode, unsigned int set, const struct stat *st)
{
	struct xattr xattr;
	struct change change;
	struct acl acl;
	int error = acl_find(inode, XATTR_NAME_POSIX_ACL_ACCESS, &xattr, &acl);

	if (!error)
		error = change_begin(&change, inode->fs, &inode, 1);
	if (error)
		return error;
	attr_set(inode, set, st);
	if (acl.size) {
		acl_chmod(&acl, st->st_mode);
		xattr_put(change.txn, inode->number, xattr.offset, XATTR_NAME_POSIX_ACL_ACCESS, acl.bytes, acl.size);
	}
	return change_commit(&change);
}

static int attr_set_size(struct inode *inode, unsigned int set, off_t size)
{
	int error;

	if (!inode_is_file(inode))
		return inode_is_directory(inode) ? -EISDIR : -EINVAL;
	if (size < 0)
		return -EINVAL;
	if ((uint64_t)size > FS_SIZE_MAX)
		return -EFBIG;
	rwlock_write(&inode->content);
	error = truncate_to(inode, (uint64_t)size, set & FS_KILL_SUIDGID);
	rwlock_unlock(&inode->content);
	return error;
}

int fs_setattr(struct fs *fs, uint64_t number, unsigned int set, struct fs_attr *attr)
{
	struct inode *inode;
	int error;

	if (fs->read_only)
		return -EROFS;
	error = inode_get(fs, number, &inode);
	if (error)
		return error;
	error = flags_forbid_setattr(inode, set);
	if (!error && set & FS_SET_SIZE) {
		error = attr_set_size(inode, set, attr->st.st_size);
		set &= ~(FS_SET_SIZE | FS_KILL_SUIDGID);
	}
	if (!error && set & FS_SET_MODE) {
		rwlock_write(&inode->content);
		error = attr_change_mode(inode, set, &attr->st);
		rwlock_unlock(&inode->content);
	} else if (!error && set) {
		error = attr_change(inode, set, &attr->st);
	}
	if (!error)
		inode_fill_attr(inode, attr);
	inode_put(inode);
	return error;
}
