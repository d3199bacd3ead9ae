/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading and writing a file by way of its pages; what is long and aligned may go past them (direct.c). A write is
 * accepted when room for its pages is promised, so that -ENOSPC is known at once and not when they are written out.
 */
#include "fs_private.h"

#include <errno.h>
#include <string.h>

#define DAY_SECONDS 86400
#define PIECE_BYTES (UINT64_C(1) << 20) /* written under one hold of the content lock */

#define STREAM_BYTES (UINT64_C(8) << 20) /* written in order: more is to come */
#define STREAM_BLOCKS 256u /* of it are written out at a time */

uint32_t file_kill_suidgid(uint32_t mode)
{
	mode &= ~(uint32_t)S_ISUID;
	if (mode & S_IXGRP)
		mode &= ~(uint32_t)S_ISGID;
	return mode;
}

static bool time_before_or_at(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec < b->tv_sec || (a->tv_sec == b->tv_sec && a->tv_nsec <= b->tv_nsec);
}

/* As Linux has it for all filesystems. State lock held. */
static bool file_touch_wanted_locked(const struct inode *inode, const struct timespec *now)
{
	const struct inode_attr *attr = &inode->attr;
	struct fs *fs = inode->fs;

	if (attr->flags & FS_NOATIME_FL || (S_ISDIR(attr->mode) && atomic_load(&fs->atime_not_directories)))
		return false;
	switch (atomic_load(&fs->atime)) {
	case FS_ATIME_STRICT:
		return true;
	case FS_ATIME_NEVER:
		return false;
	case FS_ATIME_RELATIVE:
		break;
	}
	return time_before_or_at(&attr->atime, &attr->mtime) || time_before_or_at(&attr->atime, &attr->ctime) ||
	       now->tv_sec - attr->atime.tv_sec >= DAY_SECONDS;
}

void file_read_touch(struct inode *inode)
{
	struct timespec now = inode_now();

	if (inode->fs->read_only)
		return;
	mutex_lock(&inode->state);
	if (file_touch_wanted_locked(inode, &now)) {
		inode->attr.atime = now;
		inode->attr_dirty = true;
	}
	mutex_unlock(&inode->state);
}

/*
 * Whole blocks at the head that go past the pages: how many bytes, 0, or -errno. The last part of a block is best read
 * with those before it. Content lock held shared.
 */
static ssize_t file_read_past(struct inode *inode, unsigned char *data, size_t length, uint64_t offset, bool wanted)
{
	uint64_t least = wanted && length % FS_BLOCK == 0 ? 1 : DIRECT_LEAST;
	ssize_t blocks = 0;

	if (offset % FS_BLOCK == 0 && length >= least * FS_BLOCK)
		blocks = direct_read(inode, data, offset / FS_BLOCK, length / FS_BLOCK, least);
	return blocks > 0 ? blocks * (ssize_t)FS_BLOCK : blocks;
}

/* Content lock held shared, `length` within the file. */
static ssize_t file_read_pages(struct inode *inode, unsigned char *data, size_t length, uint64_t offset, bool past_them)
{
	uint64_t last = (offset + length - 1) / FS_BLOCK;
	size_t done = 0;

	while (done < length) {
		uint64_t at = offset + done;
		size_t skip = at % FS_BLOCK, piece = FS_BLOCK - skip;
		struct cache_page *page;
		ssize_t past = file_read_past(inode, data + done, length - done, at, past_them);
		int error = past < 0 ? (int)past : 0;

		if (past > 0) {
			done += (size_t)past;
			continue;
		}
		if (!error)
			error = filepage_get_ahead(inode, at / FS_BLOCK, last, &page);
		if (error)
			return error; /* a short read would be taken for the end of the file */
		if (piece > length - done)
			piece = length - done;
		memcpy(data + done, page->data + skip, piece);
		cache_put(page);
		done += piece;
	}
	return (ssize_t)done;
}

ssize_t fs_read_as(struct fs *fs, uint64_t number, void *data, size_t length, uint64_t offset, unsigned int flags)
{
	struct inode *inode;
	uint64_t size;
	ssize_t result = inode_get_file(fs, number, &inode);

	if (result)
		return result;
	rwlock_read(&inode->content);
	size = inode_size(inode);
	if (offset >= size)
		length = 0;
	else if (length > size - offset)
		length = size - offset;
	if (length)
		result = file_read_pages(inode, data, length, offset, flags & FS_READ_PAST);
	rwlock_unlock(&inode->content);
	if (result > 0 && !(flags & FS_READ_QUIETLY))
		file_read_touch(inode);
	inode_put(inode);
	return result;
}

ssize_t fs_read(struct fs *fs, uint64_t number, void *data, size_t length, uint64_t offset)
{
	return fs_read_as(fs, number, data, length, offset, 0);
}

/*
 * A page of which `length` bytes are going to be overwritten. If that is all of it, a new one need not be filled:
 * nobody sees it before, under the content lock.
 */
static int file_page_for_write(struct inode *inode, uint64_t index, size_t length, struct cache_page **page)
{
	int error;

	if (length < FS_BLOCK)
		return filepage_get(inode, index, page);
	error = cache_get(&inode->space, index, true, true, page);
	if (error > 0) {
		cache_filled(*page, 0);
		error = 0;
	}
	return error;
}

static int file_write_pages(struct inode *inode, const unsigned char *data, size_t length, uint64_t offset,
			    uint64_t *promises)
{
	for (size_t done = 0, piece; done < length; done += piece) {
		uint64_t at = offset + done;
		size_t skip = at % FS_BLOCK;
		struct cache_page *page;
		int error;

		piece = FS_BLOCK - skip < length - done ? FS_BLOCK - skip : length - done;
		error = file_page_for_write(inode, at / FS_BLOCK, piece, &page);
		if (error)
			return error;
		filepage_store(inode, page, skip, data + done, piece, true, promises);
		cache_put(page);
	}
	return 0;
}

static int file_write_locked(struct inode *inode, const void *data, size_t length, uint64_t offset, unsigned int flags)
{
	struct meta *meta = inode->fs->meta;
	uint64_t promises = (offset + length - 1) / FS_BLOCK - offset / FS_BLOCK + 1;
	int error = truncate_finish(inode);

	if (!error)
		error = fs_promise(inode->fs, promises);
	if (error)
		return error;
	error = file_write_pages(inode, data, length, offset, &promises);
	meta_unpromise(meta, promises);
	change_touch(inode, true);
	if (flags & FS_WRITE_KILL_SUIDGID) {
		mutex_lock(&inode->state);
		inode->attr.mode = file_kill_suidgid(inode->attr.mode);
		mutex_unlock(&inode->state);
	}
	return error;
}

/*
 * Of what is written in order the legs get a piece while the next is on its way: if all of it waited in the cache, they
 * would be idle first, and whoever wants it durable then.
 */
static void file_write_behind(struct inode *inode, size_t length, uint64_t offset)
{
	bool streams;

	mutex_lock(&inode->state);
	if (offset != inode->stream_end)
		inode->stream_begin = offset;
	inode->stream_end = offset + length;
	streams = offset - inode->stream_begin >= STREAM_BYTES;
	mutex_unlock(&inode->state);
	if (streams && cache_dirty_pages(&inode->space) >= STREAM_BLOCKS)
		cache_write_soon(&inode->space);
}

/* Bytes that went past the pages, or -errno: -EAGAIN, they have to be used. */
static ssize_t file_write_past(struct inode *inode, const unsigned char *data, size_t length, uint64_t offset,
			       unsigned int flags)
{
	size_t least = flags & FS_WRITE_SYNC ? DIRECT_LEAST * FS_BLOCK : FS_BLOCK;
	ssize_t blocks = -EAGAIN;

	if (flags & (FS_WRITE_THROUGH | FS_WRITE_SYNC) && (offset | length) % FS_BLOCK == 0 && length >= least)
		blocks = direct_write(inode, data, offset / FS_BLOCK, length / FS_BLOCK, flags & FS_WRITE_KILL_SUIDGID);
	return blocks > 0 ? blocks * (ssize_t)FS_BLOCK : blocks;
}

static int file_write(struct inode *inode, const unsigned char *data, size_t length, uint64_t offset,
		      unsigned int flags)
{
	for (size_t done = 0, piece; done < length; done += piece) {
		ssize_t past;
		int error;

		piece = length - done < PIECE_BYTES ? length - done : PIECE_BYTES;
		past = file_write_past(inode, data + done, piece, offset + done, flags);
		if (past > 0) {
			piece = (size_t)past;
			continue;
		}
		if (past != -EAGAIN)
			return (int)past;
		cache_throttle(inode->fs->cache);
		rwlock_write(&inode->content);
		error = file_write_locked(inode, data + done, piece, offset + done, flags);
		rwlock_unlock(&inode->content);
		if (error)
			return error;
		file_write_behind(inode, piece, offset + done);
	}
	return 0;
}

/* The durability that `flags` ask for. */
static int file_write_out(struct inode *inode, size_t length, uint64_t offset, unsigned int flags)
{
	uint64_t first = offset / FS_BLOCK, last = (offset + length - 1) / FS_BLOCK;

	if (flags & FS_WRITE_SYNC)
		return writeout_durable(inode, first, last, false);
	if (flags & FS_WRITE_THROUGH)
		return cache_write_range(&inode->space, first, last);
	return 0;
}

ssize_t fs_write(struct fs *fs, uint64_t number, const void *data, size_t length, uint64_t offset, unsigned int flags)
{
	struct inode *inode;
	int error = fs_takes_writes(fs) ? inode_get_file(fs, number, &inode) : -EROFS;

	if (error)
		return error;
	if (offset > FS_SIZE_MAX || length > FS_SIZE_MAX - offset)
		error = -EFBIG;
	else if (!(flags & FS_WRITE_MAPPED))
		error = flags_forbid(inode, FS_IMMUTABLE_FL);
	if (!error && length)
		error = file_write(inode, data, length, offset, flags);
	if (!error && length)
		error = file_write_out(inode, length, offset, flags);
	inode_put(inode);
	return error ? error : (ssize_t)length;
}
