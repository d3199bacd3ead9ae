/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * copy_file_range: whole blocks that lie alike in both files are shared, so that a copy takes neither room nor time;
 * the rest is read and written. A last block that the source's end cuts is shared too, if the target ends there as
 * well: it holds zeros beyond.
 *
 * What is dirty of both files is written out first, since what is shared is what is mapped. A long copy is a chain of
 * transactions, each of which leaves the target whole up to where it is, and of pieces between which others get at the
 * files.
 */
#include "fs_private.h"

#include <errno.h>
#include <stdlib.h>

#define SHARE_BLOCKS UINT64_C(16384) /* under one hold of the content locks: 64 MiB */
#define COPY_BYTES (UINT64_C(128) << 10) /* read and written at a time */
#define COPY_MOST (UINT64_C(16) << 20) /* in one call: who asks for more asks again */

struct copy {
	struct inode *from, *to;
	uint64_t from_offset, to_offset, length; /* what is left, bytes */
	unsigned char *data; /* COPY_BYTES; NULL: not needed so far */
	uint64_t copied; /* by reading and writing */
	uint64_t gone; /* bytes that the source had when it began */
};

static void copy_advance(struct copy *copy, uint64_t bytes)
{
	copy->from_offset += bytes;
	copy->to_offset += bytes;
	copy->length -= bytes;
}

/* ---- reading and writing ---- */

static int copy_bytes(struct copy *copy, uint64_t most)
{
	size_t length = copy->length < most ? (size_t)copy->length : (size_t)most;
	ssize_t got;

	if (length > COPY_BYTES)
		length = COPY_BYTES;
	if (!copy->data)
		copy->data = malloc(COPY_BYTES);
	if (!copy->data)
		return -ENOMEM;
	got = fs_read(copy->from->fs, copy->from->number, copy->data, length, copy->from_offset);
	if (!got) /* the source has become shorter */
		return -ENODATA;
	if (got > 0)
		got = fs_write(copy->to->fs, copy->to->number, copy->data, (size_t)got, copy->to_offset, 0);
	if (got < 0)
		return (int)got;
	copy_advance(copy, (uint64_t)got);
	copy->copied += (uint64_t)got;
	return 0;
}

/* ---- sharing ---- */

static void copy_lock(struct copy *copy)
{
	struct inode *first = copy->from < copy->to ? copy->from : copy->to;
	struct inode *second = copy->from < copy->to ? copy->to : copy->from;

	rwlock_write(&first->content);
	if (second != first)
		rwlock_write_second(&second->content);
}

static void copy_unlock(struct copy *copy)
{
	rwlock_unlock(&copy->from->content);
	if (copy->to != copy->from)
		rwlock_unlock(&copy->to->content);
}

/* Somebody may have cut the source since the last piece. What is behind its end is not there. Content locks held. */
static void copy_clip(struct copy *copy)
{
	uint64_t size = inode_size(copy->from), left = size > copy->from_offset ? size - copy->from_offset : 0;

	if (left >= copy->length)
		return;
	copy->gone += copy->length - left;
	copy->length = left;
}

/* How many blocks can be shared from here on; the last may be a part of one. Content locks held. */
static uint64_t copy_alike(const struct copy *copy)
{
	uint64_t blocks = copy->length / FS_BLOCK, end = copy->from_offset + copy->length;

	if (copy->length % FS_BLOCK && end >= inode_size(copy->from) &&
	    copy->to_offset + copy->length >= inode_size(copy->to))
		blocks++;
	return blocks < SHARE_BLOCKS ? blocks : SHARE_BLOCKS;
}

/* One transaction. Content locks held. */
static int copy_commit(struct copy *copy, struct meta_sharing *sharing)
{
	struct inode *both[] = { copy->from, copy->to }, *to = copy->to;
	uint64_t size, logged, blocks, end;
	struct change change;
	int error = change_begin(&change, to->fs, both, 2);

	if (error)
		return error;
	error = meta_map_share(change.txn, sharing);
	if (error) {
		change_abort(&change);
		return error;
	}
	end = sharing->to_offset * FS_BLOCK;
	if (end > copy->to_offset + copy->length)
		end = copy->to_offset + copy->length;
	mutex_lock(&to->state);
	size = to->attr.size;
	logged = to->logged_size;
	blocks = to->attr.blocks;
	to->attr.blocks += sharing->taken - sharing->freed;
	if (size < end)
		to->attr.size = end;
	if (logged < end)
		to->logged_size = end;
	mutex_unlock(&to->state);
	error = change_commit(&change);
	if (error) {
		mutex_lock(&to->state);
		to->attr.size = size;
		to->logged_size = logged;
		to->attr.blocks = blocks;
		mutex_unlock(&to->state);
		return error;
	}
	copy_advance(copy, end - copy->to_offset);
	return 0;
}

/* What there is to share of the two files is what is mapped. Content locks held. */
static int copy_settle(const struct copy *copy, uint64_t blocks)
{
	uint64_t from = copy->from_offset / FS_BLOCK, to = copy->to_offset / FS_BLOCK;
	int error = truncate_finish(copy->from);

	if (!error)
		error = truncate_finish(copy->to);
	if (!error)
		error = cache_write_range(&copy->from->space, from, from + blocks - 1);
	if (!error)
		error = cache_write_range(&copy->to->space, to, to + blocks - 1);
	if (!error)
		filepage_drop(copy->to, to, to + blocks - 1);
	return error;
}

/* -EMLINK: the next block must be copied. */
static int copy_share(struct copy *copy)
{
	uint64_t blocks;
	int error;

	copy_lock(copy);
	copy_clip(copy);
	blocks = copy_alike(copy);
	error = blocks ? copy_settle(copy, blocks) : -EMLINK;
	if (!error) {
		struct meta_sharing sharing = {
			.from = copy->from->number,
			.from_offset = copy->from_offset / FS_BLOCK,
			.to = copy->to->number,
			.to_offset = copy->to_offset / FS_BLOCK,
			.count = blocks,
		};

		change_touch(copy->to, true);
		while (sharing.count && !error)
			error = copy_commit(copy, &sharing);
	}
	copy_unlock(copy);
	return error;
}

/* ---- both ---- */

static int copy_some(struct copy *copy)
{
	uint64_t into = copy->from_offset % FS_BLOCK;
	int error;

	if (into != copy->to_offset % FS_BLOCK)
		return copy_bytes(copy, COPY_BYTES);
	if (into)
		return copy_bytes(copy, FS_BLOCK - into);
	error = meta_use_feature(copy->to->fs->meta, SUPER_RO_SHARED);
	if (!error)
		error = copy_share(copy);
	return error == -EMLINK ? copy_bytes(copy, FS_BLOCK) : error;
}

static int copy_all(struct copy *copy, uint64_t *done)
{
	uint64_t length = copy->length, size = inode_size(copy->from);
	int error = 0;

	*done = 0;
	if (copy->from_offset >= size)
		return 0;
	if (copy->length > size - copy->from_offset)
		copy->length = length = size - copy->from_offset;
	if (copy->to_offset > FS_SIZE_MAX || length > FS_SIZE_MAX - copy->to_offset)
		return -EFBIG;
	if (copy->from == copy->to && copy->from_offset < copy->to_offset + length &&
	    copy->to_offset < copy->from_offset + length)
		return -EINVAL;
	while (!error && copy->length && copy->copied < COPY_MOST)
		error = copy_some(copy);
	*done = length - copy->length - copy->gone;
	return *done || error == -ENODATA ? 0 : error;
}

ssize_t fs_copy_range(struct fs *fs, uint64_t from, uint64_t from_offset, uint64_t to, uint64_t to_offset,
		      uint64_t length)
{
	struct copy copy = { .from_offset = from_offset, .to_offset = to_offset, .length = length };
	uint64_t done = 0;
	int error = fs_takes_writes(fs) ? 0 : -EROFS;

	if (!error)
		error = inode_get_file(fs, from, &copy.from);
	if (!error)
		error = inode_get_file(fs, to, &copy.to);
	if (!error)
		error = flags_forbid(copy.to, FS_FLAGS_FIXED);
	if (!error)
		error = copy_all(&copy, &done);
	if (done)
		file_read_touch(copy.from);
	inode_put(copy.from);
	inode_put(copy.to);
	free(copy.data);
	return error ? error : (ssize_t)done;
}
