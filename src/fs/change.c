/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A transaction over the items of a few inodes: what a name operation or setattr does is one commit, and memory
 * shows it only if the tree took it. The log locks held from begin to end keep the items of one inode in order.
 */
#include "fs_private.h"

#include <assert.h>
#include <errno.h>

static void change_unlock(struct change *change)
{
	while (change->count)
		mutex_unlock(&change->inodes[--change->count]->log);
}

/* Ascending addresses, each once: the order in which the log locks are taken. */
static void change_collect(struct change *change, struct inode *const *inodes, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++) {
		unsigned int at = 0;

		if (!inodes[i])
			continue;
		while (at < change->count && change->inodes[at] < inodes[i])
			at++;
		if (at < change->count && change->inodes[at] == inodes[i])
			continue;
		assert(change->count < CHANGE_INODES);
		for (unsigned int j = change->count++; j > at; j--)
			change->inodes[j] = change->inodes[j - 1];
		change->inodes[at] = inodes[i];
	}
}

int change_begin(struct change *change, struct fs *fs, struct inode *const *inodes, unsigned int count)
{
	*change = (struct change){ .fs = fs };
	if (fs->read_only)
		return -EROFS;
	change_collect(change, inodes, count);
	for (unsigned int i = 0; i < change->count; i++) {
		if (i == 0)
			mutex_lock(&change->inodes[i]->log);
		else
			mutex_lock_second(&change->inodes[i]->log);
	}
	change->txn = meta_txn_begin(fs->meta);
	if (!change->txn) {
		change_unlock(change);
		return -ENOMEM;
	}
	for (unsigned int i = 0; i < change->count; i++) {
		mutex_lock(&change->inodes[i]->state);
		change->before[i] = change->inodes[i]->attr;
		mutex_unlock(&change->inodes[i]->state);
	}
	return 0;
}

void change_put_item(struct meta_txn *txn, struct inode *inode)
{
	struct meta_key key = inode_key(inode->number);
	struct inode_attr attr;
	struct format_inode item;

	mutex_lock(&inode->state);
	attr = inode->attr;
	if (inode_is_file(inode))
		attr.size = inode->logged_size;
	inode->attr_dirty = false;
	mutex_unlock(&inode->state);
	inode_encode(&attr, &item);
	meta_txn_put(txn, &key, &item, sizeof(item));
}

void change_done(struct inode *inode, int error, uint64_t sequence)
{
	mutex_lock(&inode->state);
	if (error)
		inode->attr_dirty = true;
	else
		inode->sequence = sequence;
	mutex_unlock(&inode->state);
}

/* Puts back what only this transaction could change; times and a file's size may have been changed by others too. */
static void change_restore(struct inode *inode, const struct inode_attr *before)
{
	mutex_lock(&inode->state);
	inode->attr.mode = before->mode;
	inode->attr.uid = before->uid;
	inode->attr.gid = before->gid;
	inode->attr.nlink = before->nlink;
	inode->attr.flags = before->flags;
	inode->attr.parent = before->parent;
	if (inode_is_directory(inode))
		inode->attr.size = before->size;
	mutex_unlock(&inode->state);
}

int change_commit(struct change *change)
{
	uint64_t sequence = 0;
	int error;

	for (unsigned int i = 0; i < change->count; i++)
		change_put_item(change->txn, change->inodes[i]);
	error = meta_txn_commit(change->txn, &sequence);
	for (unsigned int i = 0; i < change->count; i++) {
		if (error)
			change_restore(change->inodes[i], &change->before[i]);
		change_done(change->inodes[i], error, sequence);
	}
	change_unlock(change);
	return error;
}

void change_abort(struct change *change)
{
	meta_txn_abort(change->txn);
	change_unlock(change);
}

void change_touch(struct inode *inode, bool modified)
{
	struct timespec now = inode_now();

	mutex_lock(&inode->state);
	inode->attr.ctime = now;
	if (modified)
		inode->attr.mtime = now;
	inode->attr_dirty = true;
	mutex_unlock(&inode->state);
}

void change_add(struct inode *inode, bool modified, int links, int entries)
{
	mutex_lock(&inode->state);
	inode->attr.nlink += (uint32_t)links;
	inode->attr.size += (uint64_t)(int64_t)entries;
	mutex_unlock(&inode->state);
	change_touch(inode, modified);
}

int change_log(struct inode *inode)
{
	struct change change;
	bool dirty;
	int error;

	mutex_lock(&inode->state);
	dirty = inode->attr_dirty;
	mutex_unlock(&inode->state);
	if (!dirty)
		return 0;
	error = change_begin(&change, inode->fs, &inode, 1);
	return error ? error : change_commit(&change);
}
