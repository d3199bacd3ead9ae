/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sizes, and holes in files.
 *
 * No byte beyond the end of a file may come back when it grows. So what is mapped holds zeros beyond the end: a
 * cut rewrites the last block in the very transaction that logs the new size. Blocks behind it go in that transaction
 * too, or in a chain of them under a note (orphan.c) that a mount after a crash follows up, and before which
 * the file does not grow.
 */
#include "fs_private.h"

#include <errno.h>
#include <linux/falloc.h>
#include <string.h>

#define PIECE_BLOCKS UINT64_C(256) /* made or looked at under one hold of the content lock */

/* ---- cutting ---- */

/*
 * One transaction that unmaps blocks from *block on, up to `end`, and puts the item. A note is removed with the last
 * piece unless the inode itself is to go. Log lock not held.
 */
static int truncate_punch(struct inode *inode, uint64_t *block, uint64_t end)
{
	struct change change;
	uint64_t freed = 0;
	bool noted, named;
	int error = change_begin(&change, inode->fs, &inode, 1);

	if (error)
		return error;
	error = meta_map_punch(change.txn, inode->number, block, end, &freed);
	if (error) {
		change_abort(&change);
		return error;
	}
	mutex_lock(&inode->state);
	noted = inode->truncating;
	named = inode->attr.nlink;
	inode->attr.blocks -= freed;
	if (*block == end)
		inode->truncating = false;
	mutex_unlock(&inode->state);
	if (noted && named && *block == end)
		orphan_remove(change.txn, inode->number);
	error = change_commit(&change);
	if (error) {
		mutex_lock(&inode->state);
		inode->attr.blocks += freed;
		inode->truncating = noted;
		mutex_unlock(&inode->state);
	}
	return error;
}

int truncate_finish(struct inode *inode)
{
	uint64_t block = blocks_of(inode_size(inode));
	bool unfinished;
	int error = 0;

	do {
		mutex_lock(&inode->state);
		unfinished = inode->truncating;
		mutex_unlock(&inode->state);
		if (unfinished)
			error = truncate_punch(inode, &block, FS_BLOCKS_END);
	} while (unfinished && !error);
	return error;
}

/* Makes the page one that a write-out may take, with a promise of the caller's unless it has its own: *took. */
static int truncate_mark(struct inode *inode, struct cache_page *page, uint64_t *promises, bool *took)
{
	int error = 0;

	mutex_lock(&inode->state);
	*took = filepage_mark(page) != PAGE_PROMISED;
	if (*took && !*promises)
		error = -ENOSPC;
	if (*took && !error) {
		filepage_set_mark(inode, page, PAGE_PROMISED);
		--*promises;
	}
	mutex_unlock(&inode->state);
	return error;
}

/* The last block, if it is mapped, is written with zeros beyond the new end. Log lock held. */
static int truncate_tail(struct writeout *wo, struct inode *inode, struct cache_page **tail, uint64_t *promises)
{
	uint64_t address;
	ssize_t added;
	bool took;
	int error = meta_where(inode->fs->meta, inode->number, (*tail)->index, &address);

	if (error || !address)
		return error;
	error = truncate_mark(inode, *tail, promises, &took);
	if (error)
		return error;
	added = writeout_add(wo, inode, tail, 1, 1);
	if (added < 0 && took) {
		mutex_lock(&inode->state);
		filepage_set_mark(inode, *tail, PAGE_WRITTEN);
		mutex_unlock(&inode->state);
		++*promises;
	}
	return added < 0 ? (int)added : 0;
}

/* The first transaction of a cut: the new size, the last block, and as much behind it as it takes. Log lock held. */
static int truncate_cut_locked(struct inode *inode, uint64_t size, struct cache_page **tail, uint64_t *promises)
{
	uint64_t first = blocks_of(size), block = first;
	uint64_t freed = 0;
	struct writeout wo;
	bool unfinished, before;
	int error = writeout_begin(&wo, inode->fs);

	if (error)
		return error;
	writeout_cut(&wo, inode, size);
	if (*tail)
		error = truncate_tail(&wo, inode, tail, promises);
	if (!error)
		error = meta_map_punch(wo.txn, inode->number, &block, FS_BLOCKS_END, &freed);
	wo.files[0].freed += freed;
	if (error) {
		writeout_cancel(&wo);
		return error;
	}
	/* A dirty page behind the end can still be written and mapped before it is dropped. */
	unfinished = block < FS_BLOCKS_END || cache_range_dirty(&inode->space, first, UINT64_MAX);
	mutex_lock(&inode->state);
	before = inode->truncating;
	unfinished |= before;
	inode->truncating = unfinished;
	mutex_unlock(&inode->state);
	if (unfinished)
		orphan_put(wo.txn, inode->number);
	error = writeout_commit(&wo);
	if (error) {
		mutex_lock(&inode->state);
		inode->truncating = before;
		mutex_unlock(&inode->state);
	}
	return error;
}

static int truncate_cut(struct inode *inode, uint64_t size)
{
	struct meta *meta = inode->fs->meta;
	struct cache_page *tail = NULL;
	uint64_t promises = 0;
	int error = 0;

	if (size % FS_BLOCK) {
		error = filepage_get(inode, size / FS_BLOCK, &tail);
		if (!error && !meta_promise_to_cut(meta, inode->number, size / FS_BLOCK))
			promises = 1;
	}
	if (!error) {
		mutex_lock(&inode->log);
		error = truncate_cut_locked(inode, size, &tail, &promises);
		mutex_unlock(&inode->log);
	}
	meta_unpromise(meta, promises);
	if (!error && tail) {
		mutex_lock(&inode->state);
		memset(tail->data + size % FS_BLOCK, 0, FS_BLOCK - size % FS_BLOCK);
		mutex_unlock(&inode->state);
	}
	cache_put(tail);
	if (error)
		return error;
	filepage_drop(inode, blocks_of(size), UINT64_MAX);
	/* The file is cut; what is left of the chain is finished now, or before it grows, or by the next mount. */
	truncate_finish(inode);
	return 0;
}

/* ---- growing ---- */

static int truncate_grow(struct inode *inode, uint64_t size)
{
	struct change change;
	uint64_t before, logged;
	int error = truncate_finish(inode);

	if (!error)
		error = change_begin(&change, inode->fs, &inode, 1);
	if (error)
		return error;
	mutex_lock(&inode->state);
	before = inode->attr.size;
	logged = inode->logged_size;
	inode->attr.size = inode->logged_size = size;
	mutex_unlock(&inode->state);
	error = change_commit(&change);
	if (error) {
		mutex_lock(&inode->state);
		inode->attr.size = before;
		inode->logged_size = logged;
		mutex_unlock(&inode->state);
	}
	return error;
}

int truncate_to(struct inode *inode, uint64_t size, bool kill)
{
	uint64_t before = inode_size(inode);

	if (kill) {
		mutex_lock(&inode->state);
		inode->attr.mode = file_kill_suidgid(inode->attr.mode);
		mutex_unlock(&inode->state);
	}
	change_touch(inode, true);
	if (size < before)
		return truncate_cut(inode, size);
	if (size > before)
		return truncate_grow(inode, size);
	return change_log(inode);
}

/* ---- fallocate ---- */

/* The first hole at or behind *block: its blocks end before *end. False: none before `end`. */
static int fallocate_hole(struct inode *inode, uint64_t *block, uint64_t *end)
{
	struct meta *meta = inode->fs->meta;
	uint64_t data;
	int error = meta_map_seek(meta, inode->number, true, block);

	if (error || *block >= *end)
		return error;
	data = *block;
	error = meta_map_seek(meta, inode->number, false, &data);
	if (!error && data < *end)
		*end = data;
	return error == -ENOENT ? 0 : error;
}

/* How many blocks of first .. end - 1 are not mapped. */
static int fallocate_count(struct inode *inode, uint64_t first, uint64_t end, uint64_t *count)
{
	uint64_t block = first;

	*count = 0;
	while (block < end) {
		uint64_t hole_end = end;
		int error = fallocate_hole(inode, &block, &hole_end);

		if (error)
			return error;
		if (block < end)
			*count += hole_end - block;
		block = hole_end;
	}
	return 0;
}

/* Zeros for a hole, dirty and promised unless it has dirty content already. */
static int fallocate_zero(struct inode *inode, uint64_t block, uint64_t *promises)
{
	struct cache_page *page;
	int error = 0;

	if (!*promises) {
		error = fs_promise(inode->fs, 1);
		*promises = !error;
	}
	if (!error)
		error = filepage_get(inode, block, &page);
	if (error)
		return error;
	filepage_store(inode, page, 0, NULL, 0, false, promises);
	cache_put(page);
	return 0;
}

static int fallocate_piece(struct inode *inode, uint64_t block, uint64_t end, uint64_t *promises)
{
	int error = truncate_finish(inode);

	while (!error && block < end) {
		uint64_t hole_end = end;

		error = fallocate_hole(inode, &block, &hole_end);
		for (; !error && block < hole_end; block++)
			error = fallocate_zero(inode, block, promises);
	}
	return error;
}

/* Real blocks for every hole: all of them are promised before the first is made. Content lock not held. */
static int fallocate_reserve(struct inode *inode, uint64_t block, uint64_t end)
{
	struct meta *meta = inode->fs->meta;
	uint64_t promises;
	int error;

	rwlock_read(&inode->content);
	error = fallocate_count(inode, block, end, &promises);
	rwlock_unlock(&inode->content);
	if (!error && promises)
		error = fs_promise(inode->fs, promises);
	if (error)
		return error;
	while (!error && block < end) {
		uint64_t next = end - block < PIECE_BLOCKS ? end : block + PIECE_BLOCKS;

		cache_throttle(inode->fs->cache);
		rwlock_write(&inode->content);
		error = fallocate_piece(inode, block, next, &promises);
		rwlock_unlock(&inode->content);
		block = next;
	}
	meta_unpromise(meta, promises);
	return error;
}

/* Zeros for from .. to - 1, which lie in one block, unless they are a hole. */
static int fallocate_zero_part(struct inode *inode, uint64_t from, uint64_t to)
{
	uint64_t block = from / FS_BLOCK, size = inode_size(inode), promises = 1;
	struct cache_page *page;
	uint64_t address;
	int error;

	if (to > size)
		to = size;
	if (from >= to)
		return 0;
	error = meta_where(inode->fs->meta, inode->number, block, &address);
	if (error || (!address && !cache_range_dirty(&inode->space, block, block)))
		return error;
	error = meta_promise_to_cut(inode->fs->meta, inode->number, block);
	if (error)
		return error;
	error = filepage_get(inode, block, &page);
	if (!error) {
		filepage_store(inode, page, from % FS_BLOCK, NULL, to - from, false, &promises);
		cache_put(page);
	}
	meta_unpromise(inode->fs->meta, promises);
	return error;
}

/* Dirty pages up to `end` go without having been written: what they did to the size is logged with the hole. */
static void fallocate_keep_size(struct inode *inode, uint64_t end)
{
	mutex_lock(&inode->state);
	if (end > inode->attr.size)
		end = inode->attr.size;
	if (inode->logged_size < end)
		inode->logged_size = end;
	mutex_unlock(&inode->state);
}

/* Content lock held exclusively. */
static int fallocate_punch(struct inode *inode, uint64_t offset, uint64_t end)
{
	uint64_t first = blocks_of(offset), last = end / FS_BLOCK;
	int error;

	if (first > last) /* within one block */
		return fallocate_zero_part(inode, offset, end);
	error = fallocate_zero_part(inode, offset, first * FS_BLOCK);
	if (!error)
		error = fallocate_zero_part(inode, last * FS_BLOCK, end);
	if (error || first == last)
		return error;
	filepage_drop(inode, first, last - 1);
	fallocate_keep_size(inode, last * FS_BLOCK);
	while (!error && first < last)
		error = truncate_punch(inode, &first, last);
	return error;
}

static int fallocate_locked(struct inode *inode, int mode, uint64_t offset, uint64_t end)
{
	int error = truncate_finish(inode);

	if (!error && mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
		error = fallocate_punch(inode, offset, end);
	change_touch(inode, true);
	if (!error && !(mode & FALLOC_FL_KEEP_SIZE) && end > inode_size(inode))
		return truncate_grow(inode, end);
	return error ? error : change_log(inode);
}

static bool fallocate_supported(int mode)
{
	switch (mode) {
	case 0:
	case FALLOC_FL_KEEP_SIZE:
	case FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE:
	case FALLOC_FL_ZERO_RANGE:
	case FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE:
		return true;
	}
	return false;
}

int fs_fallocate(struct fs *fs, uint64_t number, int mode, uint64_t offset, uint64_t length)
{
	struct inode *inode;
	int error;

	if (!fallocate_supported(mode))
		return -EOPNOTSUPP;
	if (!fs_takes_writes(fs))
		return -EROFS;
	if (!length)
		return -EINVAL;
	if (offset > FS_SIZE_MAX || length > FS_SIZE_MAX - offset)
		return -EFBIG;
	error = inode_get_file(fs, number, &inode);
	if (error)
		return error;
	error = flags_forbid(inode, mode & ~FALLOC_FL_KEEP_SIZE ? FS_FLAGS_FIXED : FS_IMMUTABLE_FL);
	if (!error && !(mode & ~FALLOC_FL_KEEP_SIZE))
		error = fallocate_reserve(inode, offset / FS_BLOCK, blocks_of(offset + length));
	if (!error) {
		rwlock_write(&inode->content);
		error = fallocate_locked(inode, mode, offset, offset + length);
		rwlock_unlock(&inode->content);
	}
	inode_put(inode);
	return error;
}

/* ---- lseek ---- */

/* Content lock held shared, so nothing becomes dirty meanwhile: what is mapped is what there is. */
static int lseek_locked(struct inode *inode, bool hole, uint64_t *offset)
{
	uint64_t size = inode_size(inode), block = *offset / FS_BLOCK, found;
	int error;

	if (*offset >= size)
		return -ENXIO;
	error = inode->fs->read_only ? 0 : cache_write_range(&inode->space, 0, UINT64_MAX);
	if (!error)
		error = meta_map_seek(inode->fs->meta, inode->number, hole, &block);
	if (error)
		return error == -ENOENT ? -ENXIO : error;
	found = block * FS_BLOCK;
	if (found >= size && !hole)
		return -ENXIO;
	if (found > size)
		found = size;
	if (found > *offset)
		*offset = found;
	return 0;
}

int fs_lseek(struct fs *fs, uint64_t number, bool hole, uint64_t *offset)
{
	struct inode *inode;
	int error = inode_get_file(fs, number, &inode);

	if (error)
		return error;
	rwlock_read(&inode->content);
	error = lseek_locked(inode, hole, offset);
	rwlock_unlock(&inode->content);
	inode_put(inode);
	return error;
}
