/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Long reads and writes of whole blocks go past the cache: they would turn over much of it, and be copied once more,
 * for nothing. A reader's kernel keeps what it has read in memory of its own, and a program that reads and writes with
 * O_DIRECT has asked for just this. Who reads the same again before long has not kept it: then pages are filled.
 *
 * Pages and legs never tell different things. A block that is in a page is read from there, and a write goes past clean
 * pages only, which it drops when the new blocks are in the tree; under the content lock none becomes dirty meanwhile.
 * That is held shared: readers go on, and get a block as it was or as it becomes. A write that fails has changed
 * neither tree nor pages.
 */
#include "fs_private.h"

#include <errno.h>

ssize_t direct_read(struct inode *inode, unsigned char *data, uint64_t block, uint64_t count)
{
	uint32_t most = count < EXTENT_BLOCKS_MAX ? (uint32_t)count : EXTENT_BLOCKS_MAX;
	size_t gap = cache_gap(&inode->space, block, most);
	int error;

	if (gap < DIRECT_LEAST || !cache_pass(&inode->space, block, gap))
		return 0;
	error = filepage_fetch(inode, block, (uint32_t)gap, data);
	return error ? error : (ssize_t)gap;
}

/* One transaction: how many blocks, or -errno. Of the promise `*taken` are gone. Log lock held. */
static ssize_t direct_write_out(struct inode *inode, const unsigned char *data, uint64_t block, uint64_t count,
				uint64_t *taken)
{
	struct writeout wo;
	ssize_t added = 1;
	int error = writeout_begin(&wo, inode->fs);

	if (error)
		return error;
	while (wo.taken < count && added > 0)
		added = writeout_add_bytes(&wo, inode, block + wo.taken, data + (size_t)wo.taken * FS_BLOCK,
					   count - wo.taken);
	*taken = wo.taken;
	if (*taken) {
		error = writeout_commit(&wo);
	} else {
		writeout_cancel(&wo);
		error = added < 0 ? (int)added : -EAGAIN; /* no room at all: the pages know how to go on */
	}
	return error ? error : (ssize_t)*taken;
}

static void direct_touch(struct inode *inode, bool kill)
{
	change_touch(inode, true);
	mutex_lock(&inode->state);
	if (kill)
		inode->attr.mode = file_kill_suidgid(inode->attr.mode);
	inode->failing = false;
	mutex_unlock(&inode->state);
}

/* Blocks beyond a cut may still be mapped, or a page may be newer than what is mapped: the pages know how to go on. */
static bool direct_may_write(struct inode *inode, uint64_t block, uint64_t count)
{
	bool unfinished;

	mutex_lock(&inode->state);
	unfinished = inode->truncating;
	mutex_unlock(&inode->state);
	return !unfinished && !cache_range_dirty(&inode->space, block, block + count - 1);
}

ssize_t direct_write(struct inode *inode, const unsigned char *data, uint64_t block, uint64_t count, bool kill)
{
	struct fs *fs = inode->fs;
	uint64_t taken = 0;
	ssize_t done;

	rwlock_read(&inode->content);
	done = direct_may_write(inode, block, count) ? fs_promise(fs, count) : -EAGAIN;
	if (!done) {
		direct_touch(inode, kill);
		mutex_lock(&inode->log);
		done = direct_write_out(inode, data, block, count, &taken);
		mutex_unlock(&inode->log);
		meta_unpromise(fs->meta, count - taken);
	}
	if (done > 0)
		filepage_drop(inode, block, block + (uint64_t)done - 1);
	rwlock_unlock(&inode->content);
	return done == -EROFS ? -EIO : done; /* the legs have failed since it was opened */
}
