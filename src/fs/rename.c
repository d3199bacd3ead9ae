/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Rename: one transaction over both directories, what moves, and what it replaces, is exchanged with or leaves behind.
 *
 * A directory must not end below itself. fs->rename keeps who is whose ancestor while a rename between two
 * directories runs, so one walk up from each tells the two cases: a trap is the child of the upper directory that the
 * lower one lies under (or is), and that child may neither move down nor be replaced. The same walk gives the order
 * of the two content locks: the upper directory first; unrelated ones by address, and only one such pair is held
 * at a time.
 */
#include "fs_private.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE (1u << 0)
#define RENAME_EXCHANGE (1u << 1)
#define RENAME_WHITEOUT (1u << 2)
#endif

#define SOURCE_IS_DIRTY 1 /* an answer beside errors: it is to be written first */

struct rename {
	struct fs *fs;
	const struct fs_caller *caller;
	unsigned int flags;
	bool written; /* what waited to be written of the source */
	const char *from_name, *to_name;
	struct inode *from_dir, *to_dir;
	uint64_t from_trap; /* the child of from_dir that to_dir lies under; 0: none */
	uint64_t to_trap; /* the child of to_dir that from_dir lies under; 0: none */
	struct dir_entry from, to;
	struct inode *source, *target; /* target NULL: `to` is free */
	struct inode *whiteout; /* what takes the name that becomes free; NULL: nothing */
	const struct acl_inherited *inherited; /* the whiteout's */
};

/*
 * The child of `upper` on the way down to `lower`; 0: `upper` is not above it. fs->rename held. On a damaged volume
 * the way up may lead round in a circle: whoever comes to a place again that he has marked is in one.
 */
static int rename_child_above(struct fs *fs, uint64_t upper, uint64_t lower, uint64_t *child)
{
	uint64_t marked = 0;
	struct inode *inode;

	*child = 0;
	for (uint64_t steps = 1; lower != OBJECT_ROOT; steps++) {
		uint64_t parent;
		int error = inode_get_directory(fs, lower, &inode);

		if (error)
			return error;
		mutex_lock(&inode->state);
		parent = inode->attr.parent;
		mutex_unlock(&inode->state);
		inode_put(inode);
		if (parent == upper) {
			*child = lower;
			return 0;
		}
		if (parent == marked)
			return -EIO;
		if (!(steps & (steps - 1)))
			marked = parent;
		lower = parent;
	}
	return 0;
}

static void rename_lock(struct rename *r)
{
	struct inode *first = r->from_dir, *second = r->to_dir;

	if (first == second) {
		rwlock_write(&first->content);
		return;
	}
	if (r->to_trap || (!r->from_trap && r->to_dir < r->from_dir)) {
		first = r->to_dir;
		second = r->from_dir;
	}
	rwlock_write(&first->content);
	rwlock_write_second(&second->content);
}

static void rename_unlock(struct rename *r)
{
	rwlock_unlock(&r->from_dir->content);
	if (r->to_dir != r->from_dir)
		rwlock_unlock(&r->to_dir->content);
}

/* Finds both ends. Content locks held. */
static int rename_find(struct rename *r)
{
	int error = dir_get(r->from_dir, r->from_name, &r->from, &r->source);

	if (error)
		return error;
	error = dir_get(r->to_dir, r->to_name, &r->to, &r->target);
	if (!error)
		return r->flags & RENAME_NOREPLACE ? -EEXIST : 0;
	if (error == -ENOENT && !(r->flags & RENAME_EXCHANGE))
		error = r->to_dir->attr.nlink ? 0 : -ENOENT;
	return error;
}

/* No directory below itself; and what contains from_dir is not empty (its lock would come before those held). */
static int rename_check_loops(struct rename *r)
{
	if (r->source->number == r->from_trap)
		return -EINVAL;
	if (r->target && r->target->number == r->to_trap)
		return r->flags & RENAME_EXCHANGE ? -EINVAL : -ENOTEMPTY;
	/* Only on a damaged volume: a directory that is not where its `parent` says. */
	if (r->source == r->from_dir || r->source == r->to_dir || r->target == r->from_dir || r->target == r->to_dir)
		return -EIO;
	return 0;
}

static int rename_check_links(struct rename *r)
{
	if (r->from_dir == r->to_dir)
		return 0;
	if (inode_is_directory(r->source) && r->to_dir->attr.nlink >= FS_NLINK_MAX)
		return -EMLINK;
	if (r->flags & RENAME_EXCHANGE && inode_is_directory(r->target) && r->from_dir->attr.nlink >= FS_NLINK_MAX)
		return -EMLINK;
	return 0;
}

/* `inode` now hangs in `to` instead of `from`. */
static void rename_move(struct inode *inode, struct inode *from, struct inode *to)
{
	change_touch(inode, false);
	if (!inode_is_directory(inode) || from == to)
		return;
	change_add(from, true, -1, 0);
	change_add(to, true, 1, 0);
	mutex_lock(&inode->state);
	inode->attr.parent = to->number;
	mutex_unlock(&inode->state);
}

/* `from` becomes free, or is a whiteout's. */
static void rename_leave(struct rename *r, struct change *change)
{
	if (r->whiteout) {
		dir_put(change->txn, &r->from.key, r->from_name, r->whiteout->number, DT_CHR);
		acl_put_inherited(change->txn, r->whiteout, r->inherited);
		return;
	}
	meta_txn_delete(change->txn, &r->from.key);
	change_add(r->from_dir, true, 0, -1);
}

static int rename_commit_all(struct rename *r)
{
	struct inode *inodes[] = { r->from_dir, r->to_dir, r->source, r->target, r->whiteout };
	struct change change;
	int error = change_begin(&change, r->fs, inodes, 5);

	if (error)
		return error;
	dir_put(change.txn, &r->to.key, r->to_name, r->source->number, dir_type(r->source->attr.mode));
	if (r->flags & RENAME_EXCHANGE) {
		dir_put(change.txn, &r->from.key, r->from_name, r->target->number, dir_type(r->target->attr.mode));
		rename_move(r->target, r->to_dir, r->from_dir);
	} else {
		rename_leave(r, &change);
		change_add(r->to_dir, true, 0, 1);
		if (r->target) {
			change_add(r->to_dir, true, inode_is_directory(r->target) ? -1 : 0, -1);
			name_drop_link(&change, r->target);
		}
	}
	rename_move(r->source, r->from_dir, r->to_dir);
	change_touch(r->from_dir, true);
	change_touch(r->to_dir, true);
	error = change_commit(&change);
	if (!error)
		inode_moved(r->source, r->to_dir->number);
	if (!error && r->flags & RENAME_EXCHANGE)
		inode_moved(r->target, r->from_dir->number);
	return error;
}

static int rename_commit(struct rename *r)
{
	const struct name_new new = { .caller = r->caller, .mode = S_IFCHR }; /* device 0: what overlayfs looks for */
	struct acl_inherited inherited;
	struct inode *whiteout;
	int error;

	if (!(r->flags & RENAME_WHITEOUT))
		return rename_commit_all(r);
	error = name_new_inode(r->from_dir, &new, &inherited, &whiteout);
	if (error)
		return error;
	r->whiteout = whiteout;
	r->inherited = &inherited;
	error = inode_publish(whiteout, rename_commit_all(r));
	if (error)
		r->whiteout = NULL;
	return error;
}

/* The target is to give way: content lock of a directory held. */
static int rename_replace(struct rename *r)
{
	if (inode_is_directory(r->target) && r->target->attr.size)
		return -ENOTEMPTY;
	return rename_commit(r);
}

static int rename_locked(struct rename *r)
{
	int error = rename_find(r);

	if (error)
		return error;
	if (r->source == r->target) /* two names of one file: POSIX leaves both */
		return 0;
	if (!r->written && inode_is_file(r->source) && cache_range_dirty(&r->source->space, 0, UINT64_MAX))
		return SOURCE_IS_DIRTY;
	error = rename_check_loops(r);
	if (!error)
		error = rename_check_links(r);
	if (!error)
		error = flags_forbid_removal(r->from_dir, r->source);
	if (!error && r->target)
		error = flags_forbid_removal(r->to_dir, r->target);
	if (!error)
		error = flags_forbid(r->to_dir, FS_IMMUTABLE_FL);
	if (error)
		return error;
	if (!r->target || r->flags & RENAME_EXCHANGE)
		return rename_commit(r);
	if (inode_is_directory(r->source) != inode_is_directory(r->target))
		return inode_is_directory(r->target) ? -EISDIR : -ENOTDIR;
	if (!inode_is_directory(r->target))
		return rename_replace(r);
	rwlock_write_second(&r->target->content);
	error = rename_replace(r);
	rwlock_unlock(&r->target->content);
	return error;
}

static int rename_try(struct rename *r)
{
	bool apart = r->from_dir != r->to_dir;
	int error = 0;

	if (apart) {
		mutex_lock(&r->fs->rename);
		error = rename_child_above(r->fs, r->from_dir->number, r->to_dir->number, &r->from_trap);
		if (!error)
			error = rename_child_above(r->fs, r->to_dir->number, r->from_dir->number, &r->to_trap);
	}
	if (!error) {
		rename_lock(r);
		error = rename_locked(r);
		rename_unlock(r);
	}
	if (apart)
		mutex_unlock(&r->fs->rename);
	return error;
}

static void rename_put(struct rename *r)
{
	inode_put(r->source);
	inode_put(r->target);
	inode_put(r->whiteout);
	r->source = r->target = r->whiteout = NULL;
}

/*
 * The new content goes to the legs and into the tree before the name does: commits are ordered, so after a crash the
 * name leads to the old file or to the new one, never to an empty one. No lock is held meanwhile.
 */
static int rename_between(struct rename *r)
{
	int error = rename_try(r);

	if (error == SOURCE_IS_DIRTY) {
		error = writeout_inode(r->source, false);
		rename_put(r);
		r->written = true;
		if (!error)
			error = rename_try(r);
	}
	rename_put(r);
	return error;
}

int fs_rename(struct fs *fs, const struct fs_caller *caller, uint64_t from_dir, const char *from, uint64_t to_dir,
	      const char *to, unsigned int flags)
{
	struct rename r = { .fs = fs, .caller = caller, .flags = flags, .from_name = from, .to_name = to };
	int error = fs->read_only ? -EROFS : 0;

	if (flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT) ||
	    (flags & RENAME_EXCHANGE && flags != RENAME_EXCHANGE))
		return -EINVAL;
	if (!error)
		error = dir_check_name(from);
	if (!error)
		error = dir_check_name(to);
	if (error)
		return error == -EEXIST ? -EINVAL : error;
	error = inode_get_directory(fs, from_dir, &r.from_dir);
	if (!error) {
		error = inode_get_directory(fs, to_dir, &r.to_dir);
		if (!error)
			error = rename_between(&r);
		if (!error)
			error = name_durable(r.from_dir); /* and the other one: it is one transaction */
		inode_put(r.to_dir);
		inode_put(r.from_dir);
	}
	return error;
}
