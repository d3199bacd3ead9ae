/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is durable when somebody asks for it: of a file, of a directory, of everything.
 *
 * A directory that is synced brings with it all that lies below: names, and the data of files. The kernel does not pass
 * sync(2) and syncfs(2) on to a filesystem in user space, but this: so `sync DIR` keeps what was just copied there. And
 * a name that was made durable does not lead to an empty file.
 *
 * Files with pages to write are in a list, from their first such page on until somebody who looks through it finds
 * none; where each lies is known from how it was found last. Who looks through it has a mark of his own in it, from
 * which he goes on, up to another where the list ended when he came. Of many files a second thread takes some, too:
 * what one prepares, the legs write meanwhile what the other has.
 */
#include "fs_private.h"

#include <errno.h>

#define SYNC_BATCH 64u
#define DEPTH_MOST 4096u /* of folders: more only if they are moved while they are looked through */

void sync_note(struct inode *inode)
{
	struct fs *fs = inode->fs;

	if (atomic_load(&inode->unsynced))
		return;
	mutex_lock(&fs->table_lock);
	if (!atomic_load(&inode->unsynced)) {
		TAILQ_INSERT_TAIL(&fs->unsynced, &inode->unsynced_place, link);
		atomic_store(&inode->unsynced, true);
	}
	mutex_unlock(&fs->table_lock);
}

void sync_leave(struct inode *inode)
{
	if (!atomic_load(&inode->unsynced))
		return;
	TAILQ_REMOVE(&inode->fs->unsynced, &inode->unsynced_place, link);
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

/* Somebody who looks through the list. */
struct sync_call {
	struct fs *fs;
	uint64_t top;
	struct unsynced_place at, end; /* in the list: what lies between is still to be looked at */
	_Atomic int error; /* the first */
};

/* Some of those below that nobody has had in this call, each held: how many. */
static size_t sync_gather(struct sync_call *call, struct inode *inodes[SYNC_BATCH])
{
	struct fs *fs = call->fs;
	struct unsynced_place *place;
	uint64_t asked = 0;
	size_t count = 0;
	bool below = true; /* what is known of none */

	mutex_lock(&fs->table_lock);
	while (count < SYNC_BATCH && (place = TAILQ_NEXT(&call->at, link)) != &call->end) {
		struct inode *inode = place->inode;

		TAILQ_REMOVE(&fs->unsynced, &call->at, link);
		TAILQ_INSERT_AFTER(&fs->unsynced, place, &call->at, link);
		if (!inode || inode->phase != INODE_LIVE || !sync_is_due(inode))
			continue;
		if (inode->found_in != asked) {
			asked = inode->found_in;
			below = !asked || sync_lies_below(fs, asked, call->top);
		}
		if (!below)
			continue;
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

/* False: there was little, and it was the last. */
static bool sync_some(struct sync_call *call)
{
	struct inode *inodes[SYNC_BATCH];
	size_t count = sync_gather(call, inodes);

	for (size_t i = 0; i < count; i++) {
		int error = sync_write(inodes[i]), none = 0;

		if (error)
			atomic_compare_exchange_strong(&call->error, &none, error);
		inode_put(inodes[i]);
	}
	return count == SYNC_BATCH;
}

static void sync_rest(void *call)
{
	while (sync_some(call))
		;
}

static int sync_below(struct fs *fs, uint64_t top)
{
	struct sync_call call = { .fs = fs, .top = top };
	struct thread helper;

	mutex_lock(&fs->table_lock);
	TAILQ_INSERT_HEAD(&fs->unsynced, &call.at, link);
	TAILQ_INSERT_TAIL(&fs->unsynced, &call.end, link);
	mutex_unlock(&fs->table_lock);
	if (sync_some(&call)) {
		bool helped = !thread_start(&helper, "fs-sync", sync_rest, &call);

		sync_rest(&call);
		if (helped)
			thread_join(&helper);
	}
	mutex_lock(&fs->table_lock);
	TAILQ_REMOVE(&fs->unsynced, &call.at, link);
	TAILQ_REMOVE(&fs->unsynced, &call.end, link);
	mutex_unlock(&fs->table_lock);
	return call.error;
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
