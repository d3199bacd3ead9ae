/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is durable when somebody asks for it: of a file, of a directory, of everything.
 *
 * A directory that is synced brings with it all that lies below: names, and the data of files. The kernel does not pass
 * sync(2) and syncfs(2) on to a filesystem in user space, but this: so `sync DIR` keeps what was just copied there. And
 * a name that was made durable does not lead to an empty file.
 *
 * Files with pages to write are in a list, from their first such page on until somebody who looks through it finds
 * none; where each lies is known from how it was found last.
 */
#include "fs_private.h"

#include <errno.h>

#define SYNC_BATCH 128u
#define DEPTH_MOST 4096u /* of folders: more only if they are moved while they are looked through */

void sync_note(struct inode *inode)
{
	struct fs *fs = inode->fs;

	if (atomic_load(&inode->unsynced))
		return;
	mutex_lock(&fs->table_lock);
	if (!atomic_load(&inode->unsynced)) {
		TAILQ_INSERT_TAIL(&fs->unsynced, inode, unsynced_link);
		atomic_store(&inode->unsynced, true);
	}
	mutex_unlock(&fs->table_lock);
}

void sync_leave(struct inode *inode)
{
	if (!atomic_load(&inode->unsynced))
		return;
	TAILQ_REMOVE(&inode->fs->unsynced, inode, unsynced_link);
	atomic_store(&inode->unsynced, false);
}

/* A directory lies below itself. What is not known lies anywhere. Table lock held. */
static bool sync_lies_below(struct fs *fs, uint64_t directory, uint64_t top)
{
	for (unsigned int depth = 0; depth < DEPTH_MOST && directory != top; depth++) {
		struct inode *inode;

		if (directory == OBJECT_ROOT)
			return false;
		inode = inode_in_memory(fs, directory);
		if (!inode)
			return true;
		mutex_lock(&inode->state);
		directory = inode->attr.parent;
		mutex_unlock(&inode->state);
	}
	return true;
}

/* Pages to write or on their way; whoever makes one now finds that it is in no list. Table lock held. */
static bool sync_is_due(struct inode *inode)
{
	bool due;

	atomic_store(&inode->unsynced, false);
	mutex_lock(&inode->state);
	due = inode->attr.nlink && (inode->promised || inode->copied || inode->failing);
	mutex_unlock(&inode->state);
	atomic_store(&inode->unsynced, true);
	if (!due)
		sync_leave(inode);
	return due;
}

/* Some of those below that this call has not had yet, each held: how many. */
static size_t sync_gather(struct fs *fs, uint64_t top, uint64_t call, struct inode *inodes[SYNC_BATCH])
{
	struct inode *inode, *next;
	uint64_t asked = 0;
	size_t count = 0;
	bool below = true; /* what is known of none */

	mutex_lock(&fs->table_lock);
	TAILQ_FOREACH_SAFE (inode, &fs->unsynced, unsynced_link, next) {
		if (count == SYNC_BATCH)
			break;
		/* Whoever has nothing left leaves the list here, also one of this call: it is not looked at again. */
		if (inode->phase != INODE_LIVE || !sync_is_due(inode) || inode->synced_by == call)
			continue;
		if (inode->found_in != asked) {
			asked = inode->found_in;
			below = !asked || sync_lies_below(fs, asked, top);
		}
		if (!below)
			continue;
		inode->synced_by = call;
		inode_hold(inode);
		inodes[count++] = inode;
	}
	mutex_unlock(&fs->table_lock);
	return count;
}

/* The data and the item. */
static int sync_write(struct inode *inode)
{
	int error;

	/* Who punches has dropped pages before the hole is in the tree: neither would be durable. */
	rwlock_read(&inode->content);
	error = writeout_inode(inode, true);
	rwlock_unlock(&inode->content);
	return error;
}

static int sync_below(struct fs *fs, uint64_t top)
{
	struct inode *inodes[SYNC_BATCH];
	int first_error = 0;
	uint64_t call;
	size_t count;

	mutex_lock(&fs->table_lock);
	call = ++fs->sync_calls;
	mutex_unlock(&fs->table_lock);
	while ((count = sync_gather(fs, top, call, inodes))) {
		for (size_t i = 0; i < count; i++) {
			int error = sync_write(inodes[i]);

			if (!first_error)
				first_error = error;
			inode_put(inodes[i]);
		}
	}
	return first_error;
}

static int sync_directory(struct inode *dir)
{
	struct fs *fs = dir->fs;
	int error, later;

	if (fs->read_only)
		return 0;
	error = sync_below(fs, dir->number);
	later = writeout_inode(dir, true);
	if (!error)
		error = later;
	later = meta_sync(fs->meta, meta_sequence(fs->meta));
	if (!error)
		error = later;
	return error == -EROFS ? -EIO : error; /* the legs have failed since it was opened */
}

int fs_fsync(struct fs *fs, uint64_t number, bool data_only, uint64_t *seen)
{
	struct inode *inode;
	int error = inode_get(fs, number, &inode), before = 0;

	if (error)
		return error;
	error = inode_is_directory(inode) ? sync_directory(inode) :
					    writeout_durable(inode, 0, UINT64_MAX, !data_only);
	if (seen)
		before = writeout_report(inode, seen);
	inode_put(inode);
	return error ? error : before;
}

int fs_sync(struct fs *fs)
{
	struct inode *inode;
	uint64_t number = 0;
	int first_error = 0, error;

	if (fs->read_only)
		return 0;
	cache_write_all(fs->cache); /* what goes together; each for itself what that leaves */
	while ((inode = inode_next(fs, number))) {
		number = inode->number;
		error = sync_write(inode);
		if (!first_error)
			first_error = error;
		inode_put(inode);
	}
	error = meta_sync(fs->meta, meta_sequence(fs->meta));
	return first_error ? first_error : error;
}
