/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The flags of chattr(1), and what they forbid: as ioctl_iflags(2) has it and Linux does, to root, too. Who may set
 * them was asked above. What was written to mapped memory before still reaches the file.
 */
#include "fs_private.h"

#include <errno.h>

uint32_t flags_of(struct inode *inode)
{
	uint32_t flags;

	mutex_lock(&inode->state);
	flags = inode->attr.flags;
	mutex_unlock(&inode->state);
	return flags;
}

int flags_forbid(struct inode *inode, uint32_t flags)
{
	return inode && flags_of(inode) & flags ? -EPERM : 0;
}

int flags_forbid_removal(struct inode *dir, struct inode *victim)
{
	int error = flags_forbid(dir, FS_FLAGS_FIXED);

	return error ? error : flags_forbid(victim, FS_FLAGS_FIXED);
}

int flags_forbid_setattr(struct inode *inode, unsigned int set)
{
	if (set & (FS_SET_MODE | FS_SET_UID | FS_SET_GID | FS_SET_SIZE | FS_SET_ATIME | FS_SET_MTIME | FS_SET_CTIME))
		return flags_forbid(inode, FS_FLAGS_FIXED);
	return set ? flags_forbid(inode, FS_IMMUTABLE_FL) : 0;
}

uint32_t flags_inherited(struct inode *dir)
{
	return flags_of(dir) & (FS_NODUMP_FL | FS_NOATIME_FL);
}

int fs_getflags(struct fs *fs, uint64_t number, uint32_t *flags)
{
	struct inode *inode;
	int error = inode_get(fs, number, &inode);

	if (error)
		return error;
	*flags = flags_of(inode);
	inode_put(inode);
	return 0;
}

int fs_may_open(struct fs *fs, uint64_t number, bool write, bool append)
{
	uint32_t flags = 0;
	int error = write ? fs_getflags(fs, number, &flags) : 0;

	if (!error && (flags & FS_IMMUTABLE_FL || (flags & FS_APPEND_FL && !append)))
		error = -EPERM;
	return error;
}

static int flags_change(struct inode *inode, uint32_t flags)
{
	struct change change;
	int error = change_begin(&change, inode->fs, &inode, 1);

	if (error)
		return error;
	mutex_lock(&inode->state);
	inode->attr.flags = flags;
	mutex_unlock(&inode->state);
	change_touch(inode, false);
	return change_commit(&change);
}

int fs_setflags(struct fs *fs, uint64_t number, uint32_t flags)
{
	struct inode *inode;
	int error = fs_takes_writes(fs) ? 0 : -EROFS;

	if (!error && flags & ~FS_FLAGS_KNOWN)
		error = -EOPNOTSUPP;
	if (!error && flags)
		error = meta_use_feature(fs->meta, SUPER_RO_FLAGS);
	if (!error)
		error = inode_get(fs, number, &inode);
	if (error)
		return error;
	if (!inode_is_file(inode) && !inode_is_directory(inode))
		error = -ENOTTY;
	if (!error) {
		/* What is forbidden from now on has ended, but for later pieces of a call that was long. */
		rwlock_write(&inode->content);
		error = flags_change(inode, flags);
		rwlock_unlock(&inode->content);
	}
	inode_put(inode);
	return error;
}
