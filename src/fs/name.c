/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Names come and go: one transaction each, over the directory and the inode. Between two directory locks the
 * parent's comes first. A reference that may be the last is put after the locks: an inode without a name is then
 * deleted.
 */
#include "fs_private.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

static void name_fill(const struct name_new *new, struct inode *dir, struct inode_attr *attr)
{
	struct timespec now = inode_now();
	bool directory = S_ISDIR(new->mode);

	*attr = (struct inode_attr){
		.mode = new->mode,
		.uid = new->caller->uid,
		.gid = new->caller->gid,
		.nlink = directory ? 2 : new->nameless ? 0 : 1,
		.size = new->target ? strlen(new->target) : 0,
		.atime = now,
		.mtime = now,
		.ctime = now,
		.btime = now,
		.rdev = new->rdev,
		.parent = directory ? dir->number : 0,
	};
	mutex_lock(&dir->state);
	if (dir->attr.mode & S_ISGID) {
		attr->gid = dir->attr.gid;
		if (directory)
			attr->mode |= S_ISGID;
	}
	mutex_unlock(&dir->state);
}

/*
 * Room for `links` more, and a directory that still has a name of its own, or a file that has one or is to be given its
 * first. Content or log lock held.
 */
static int name_check_links(struct inode *inode, unsigned int links)
{
	uint32_t nlink;
	bool linkable;

	mutex_lock(&inode->state);
	nlink = inode->attr.nlink;
	linkable = inode->linkable;
	mutex_unlock(&inode->state);
	if (!nlink && !linkable)
		return -ENOENT;
	return nlink > FS_NLINK_MAX - links ? -EMLINK : 0;
}

/* Where `name` would go in `dir`, content lock held: 0, or why it cannot. */
static int name_find_room(struct inode *dir, const char *name, unsigned int links, struct dir_entry *entry)
{
	int error = dir_find(dir, name, entry);

	if (error != -ENOENT)
		return error ? error : -EEXIST;
	return name_check_links(dir, links);
}

int name_new_inode(struct inode *dir, const struct name_new *new, struct acl_inherited *inherited, struct inode **inode)
{
	struct inode_attr attr;
	int error;

	name_fill(new, dir, &attr);
	attr.flags = S_ISREG(new->mode) || S_ISDIR(new->mode) ? flags_inherited(dir) : 0;
	error = acl_inherit(dir, new->caller->umask, &attr.mode, inherited);
	if (!error)
		error = inode_new(dir->fs, &attr, inode);
	if (!error)
		(*inode)->born_in = dir->number;
	return error;
}

static int name_commit_new(struct inode *dir, const char *name, const struct name_new *new,
			   const struct dir_entry *entry, const struct acl_inherited *inherited, struct inode *inode)
{
	struct inode *both[] = { dir, inode };
	bool directory = S_ISDIR(new->mode);
	struct change change;
	int error = change_begin(&change, dir->fs, both, 2);

	if (error)
		return error;
	dir_put(change.txn, &entry->key, name, inode->number, dir_type(new->mode));
	if (new->target) {
		const struct meta_key key = { .object = inode->number, .type = TYPE_SYMLINK };

		meta_txn_put(change.txn, &key, new->target, strlen(new->target));
	}
	acl_put_inherited(change.txn, inode, inherited);
	change_add(dir, true, directory, 1);
	return change_commit(&change);
}

static int name_create_locked(struct inode *dir, const char *name, const struct name_new *new, struct inode **inode)
{
	struct acl_inherited inherited;
	struct dir_entry entry;
	int error = name_find_room(dir, name, S_ISDIR(new->mode) ? 1 : 0, &entry);

	if (!error)
		error = flags_forbid(dir, FS_IMMUTABLE_FL);
	if (!error)
		error = name_new_inode(dir, new, &inherited, inode);
	return error ? error : inode_publish(*inode, name_commit_new(dir, name, new, &entry, &inherited, *inode));
}

/* Without its lock: what others do in it meanwhile shares the record. */
int name_durable(struct inode *dir)
{
	return dir->fs->durable_names ? writeout_durable(dir, 0, UINT64_MAX, true) : 0;
}

/* What is told of an inode that got a name, once that is as durable as it has to be; the reference goes. */
static int name_answer(struct inode *dir, struct inode *inode, struct fs_attr *attr)
{
	int error = name_durable(dir);

	if (error) {
		inode_put(inode);
		return error;
	}
	inode_fill_attr(inode, attr);
	inode_put_looked_up(inode, dir->number);
	return 0;
}

static int name_create(struct fs *fs, uint64_t dir_number, const char *name, const struct name_new *new,
		       struct fs_attr *attr)
{
	struct inode *dir, *inode;
	int error = fs->read_only ? -EROFS : dir_check_name(name);

	if (error)
		return error;
	error = inode_get_directory(fs, dir_number, &dir);
	if (error)
		return error;
	rwlock_write(&dir->content);
	error = name_create_locked(dir, name, new, &inode);
	rwlock_unlock(&dir->content);
	if (!error)
		error = name_answer(dir, inode, attr);
	inode_put(dir);
	return error;
}

int fs_mknod(struct fs *fs, const struct fs_caller *caller, uint64_t dir, const char *name, mode_t type_and_mode,
	     dev_t rdev, struct fs_attr *attr)
{
	mode_t type = type_and_mode & S_IFMT ? type_and_mode & S_IFMT : S_IFREG;
	struct name_new new = { .caller = caller, .mode = type | (type_and_mode & 07777) };

	if (type == S_IFCHR || type == S_IFBLK)
		new.rdev = inode_encode_rdev(rdev);
	else if (type != S_IFREG && type != S_IFIFO && type != S_IFSOCK)
		return -EINVAL;
	return name_create(fs, dir, name, &new, attr);
}

int fs_mkdir(struct fs *fs, const struct fs_caller *caller, uint64_t dir, const char *name, mode_t mode,
	     struct fs_attr *attr)
{
	struct name_new new = { .caller = caller, .mode = S_IFDIR | (mode & 07777) };

	return name_create(fs, dir, name, &new, attr);
}

int fs_symlink(struct fs *fs, const struct fs_caller *caller, uint64_t dir, const char *name, const char *target,
	       struct fs_attr *attr)
{
	struct name_new new = { .caller = caller, .mode = S_IFLNK | 0777, .target = target };

	if (!*target)
		return -ENOENT;
	if (strlen(target) >= PATH_MAX)
		return -ENAMETOOLONG;
	return name_create(fs, dir, name, &new, attr);
}

/* It is born with the note that deletes it, should it never get a name. */
static int name_commit_nameless(struct inode *inode, const struct acl_inherited *inherited)
{
	struct change change;
	int error = change_begin(&change, inode->fs, &inode, 1);

	if (error)
		return error;
	orphan_put(change.txn, inode->number);
	acl_put_inherited(change.txn, inode, inherited);
	return change_commit(&change);
}

int fs_tmpfile(struct fs *fs, const struct fs_caller *caller, uint64_t dir_number, mode_t mode, bool linkable,
	       struct fs_attr *attr)
{
	struct name_new new = { .caller = caller, .mode = S_IFREG | (mode & 07777), .nameless = true };
	struct acl_inherited inherited;
	struct inode *dir, *inode;
	int error = fs->read_only ? -EROFS : inode_get_directory(fs, dir_number, &dir);

	if (error)
		return error;
	rwlock_read(&dir->content);
	error = name_check_links(dir, 0);
	if (!error)
		error = flags_forbid(dir, FS_IMMUTABLE_FL);
	if (!error)
		error = name_new_inode(dir, &new, &inherited, &inode);
	rwlock_unlock(&dir->content);
	inode_put(dir);
	if (error)
		return error;
	inode->linkable = linkable;
	error = inode_publish(inode, name_commit_nameless(inode, &inherited));
	if (error)
		return error;
	inode_fill_attr(inode, attr);
	inode_put_looked_up(inode, 0);
	return 0;
}

int fs_readlink(struct fs *fs, uint64_t number, char *target, size_t size)
{
	const struct meta_key key = { .object = number, .type = TYPE_SYMLINK };
	ssize_t length = meta_get(fs->meta, &key, target, size - 1);
	struct inode *inode;

	if (length == -ENOENT)
		return -EINVAL;
	if (length < 0)
		return (int)length;
	if ((size_t)length > size - 1)
		return -ENAMETOOLONG;
	target[length] = 0;
	if (!inode_get(fs, number, &inode)) {
		file_read_touch(inode);
		inode_put(inode);
	}
	return 0;
}

static int name_link_locked(struct inode *dir, const char *name, struct inode *inode)
{
	struct inode *both[] = { dir, inode };
	struct dir_entry entry;
	struct change change;
	int error = name_find_room(dir, name, 0, &entry);

	if (!error)
		error = flags_forbid(dir, FS_IMMUTABLE_FL);
	if (!error)
		error = flags_forbid(inode, FS_FLAGS_FIXED);
	if (!error)
		error = change_begin(&change, dir->fs, both, 2);
	if (error)
		return error;
	error = name_check_links(inode, 1);
	if (error) {
		change_abort(&change);
		return error;
	}
	dir_put(change.txn, &entry.key, name, inode->number, dir_type(inode->attr.mode));
	if (!inode->attr.nlink && !inode->truncating)
		orphan_remove(change.txn, inode->number);
	change_add(dir, true, 0, 1);
	change_add(inode, false, 1, 0);
	error = change_commit(&change);
	if (!error) {
		mutex_lock(&inode->state);
		inode->linkable = false;
		mutex_unlock(&inode->state);
	}
	return error;
}

int fs_link(struct fs *fs, uint64_t number, uint64_t dir_number, const char *name, struct fs_attr *attr)
{
	struct inode *inode, *dir;
	int error = fs->read_only ? -EROFS : dir_check_name(name);

	if (!error)
		error = inode_get(fs, number, &inode);
	if (error)
		return error;
	if (inode_is_directory(inode))
		error = -EPERM;
	if (!error && inode->linkable) /* as with a rename: the name does not lead to less than was written */
		error = writeout_inode(inode, false);
	if (!error)
		error = inode_get_directory(fs, dir_number, &dir);
	if (error) {
		inode_put(inode);
		return error;
	}
	rwlock_write(&dir->content);
	error = name_link_locked(dir, name, inode);
	rwlock_unlock(&dir->content);
	if (error)
		inode_put(inode);
	else
		error = name_answer(dir, inode, attr);
	inode_put(dir);
	return error;
}

void name_drop_link(struct change *change, struct inode *inode)
{
	int links = inode_is_directory(inode) ? -(int)inode->attr.nlink : -1;

	change_add(inode, false, links, 0);
	if (!inode->attr.nlink)
		orphan_put(change->txn, inode->number);
}

static int name_commit_removal(struct inode *dir, const struct dir_entry *entry, struct inode *inode)
{
	struct inode *both[] = { dir, inode };
	bool directory = inode_is_directory(inode);
	struct change change;
	int error;

	if (directory && inode->attr.size)
		return -ENOTEMPTY;
	error = change_begin(&change, dir->fs, both, 2);
	if (error)
		return error;
	meta_txn_delete(change.txn, &entry->key);
	change_add(dir, true, directory ? -1 : 0, -1);
	name_drop_link(&change, inode);
	return change_commit(&change);
}

/* Content lock held. *inode: what had the name, to be put when it is no longer held. */
static int name_remove_locked(struct inode *dir, const char *name, bool directory, struct inode **inode)
{
	struct dir_entry entry;
	int error = dir_get(dir, name, &entry, inode);

	if (error)
		return error;
	if (inode_is_directory(*inode) != directory)
		return directory ? -ENOTDIR : -EISDIR;
	if (*inode == dir) /* damage: its lock is held */
		return -EIO;
	error = flags_forbid_removal(dir, *inode);
	if (error)
		return error;
	if (!directory)
		return name_commit_removal(dir, &entry, *inode);
	/* Damage, too: of two directories that contain each other either might be locked first. */
	if (dir_parent(*inode) != dir->number || dir_parent(dir) == (*inode)->number)
		return -EIO;
	rwlock_write_second(&(*inode)->content);
	error = name_commit_removal(dir, &entry, *inode);
	rwlock_unlock(&(*inode)->content);
	return error;
}

static int name_remove(struct fs *fs, uint64_t dir_number, const char *name, bool directory)
{
	struct inode *dir, *inode;
	int error = fs->read_only ? -EROFS : dir_check_name(name);

	if (error)
		return error == -EEXIST ? -EINVAL : error;
	error = inode_get_directory(fs, dir_number, &dir);
	if (error)
		return error;
	rwlock_write(&dir->content);
	error = name_remove_locked(dir, name, directory, &inode);
	rwlock_unlock(&dir->content);
	if (!error)
		error = name_durable(dir);
	inode_put(inode);
	inode_put(dir);
	return error;
}

int fs_unlink(struct fs *fs, uint64_t dir, const char *name)
{
	return name_remove(fs, dir, name, false);
}

int fs_rmdir(struct fs *fs, uint64_t dir, const char *name)
{
	return name_remove(fs, dir, name, true);
}
