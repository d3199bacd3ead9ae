/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reads that are under way by themselves: whoever began one has other things to do until a leg has answered. So nothing
 * that could be waited for may be needed, neither for the way to the block (inode and tree are in memory, and nobody
 * changes them now) nor afterwards. All else is fs_read_as()'s, which waits: pages, holes, small files, the end of a
 * file.
 *
 * While it is under way a read has a pin and the checksums of its blocks (I3, I9), and no lock. The file may change:
 * then this read comes before that change. Errors and bad copies are the mirror's to see to.
 */
#include "fs_private.h"

#include "mirrorfs/base/crc32c.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct flight {
	struct mirror_io io;
	struct meta_mapping mapping;
	unsigned char *data;
	void (*done)(void *context, ssize_t result);
	void *context;
};

static bool flight_verify(const struct mirror_io *io, uint32_t unit, const void *data)
{
	const struct flight *flight = (const struct flight *)io;

	return crc32c(data, FS_BLOCK) == flight->mapping.crc[unit];
}

static void flight_free(struct flight *flight)
{
	iobuf_put(flight->io.buf);
	mirror_pin_put(flight->io.pin);
	free(flight);
}

static void flight_end(struct mirror_io *io)
{
	struct flight *flight = (struct flight *)io;
	void (*done)(void *context, ssize_t result) = flight->done;
	ssize_t result = io->error ? io->error : (ssize_t)(io->count * (size_t)FS_BLOCK);
	void *context = flight->context;

	if (!io->error)
		memcpy(flight->data, io->buf->data + io->buf_offset, (size_t)result);
	flight_free(flight);
	done(context, result);
}

/* Where all of it is. Content lock held shared. */
static bool flight_map(struct flight *flight, struct inode *inode, uint64_t block, uint32_t count)
{
	uint64_t size = inode_size(inode);

	return size > AHEAD_SMALL * FS_BLOCK && block + count <= size / FS_BLOCK &&
	       cache_gap(&inode->space, block, count) == count &&
	       !meta_map_now(inode->fs->meta, inode->number, block, count, &flight->mapping) &&
	       flight->mapping.count == count && cache_pass(&inode->space, block, count);
}

/* NULL: it would have to wait. */
static struct flight *flight_prepare(struct inode *inode, uint64_t block, uint32_t count)
{
	struct mirror *mirror = inode->fs->mirror;
	struct flight *flight = malloc(sizeof(*flight));
	bool mapped = false;

	if (!flight)
		return NULL;
	flight->io = (struct mirror_io){
		.op = MIRROR_READ,
		.count = count,
		.buf = iobuf_try_get(mirror_pool(mirror), count * (size_t)FS_BLOCK),
		.verify = flight_verify,
		.verify_blocks = 1,
		.pin = mirror_pin(mirror),
		.done = flight_end,
	};
	if (flight->io.buf && rwlock_tryread(&inode->content)) {
		mapped = flight_map(flight, inode, block, count);
		rwlock_unlock(&inode->content);
	}
	if (mapped) {
		flight->io.block = flight->mapping.address;
		return flight;
	}
	flight_free(flight);
	return NULL;
}

int fs_read_begin(struct fs *fs, uint64_t number, void *data, size_t length, uint64_t offset, unsigned int flags,
		  void (*done)(void *context, ssize_t result), void *context)
{
	struct flight *flight;
	struct inode *inode;

	if (!(flags & FS_READ_PAST) || !length || (length | offset) % FS_BLOCK ||
	    length > (size_t)EXTENT_BLOCKS_MAX * FS_BLOCK)
		return -EAGAIN;
	inode = inode_get_file_now(fs, number);
	if (!inode)
		return -EAGAIN;
	flight = flight_prepare(inode, offset / FS_BLOCK, (uint32_t)(length / FS_BLOCK));
	if (flight && !(flags & FS_READ_QUIETLY))
		file_read_touch(inode);
	inode_put_now(inode);
	if (!flight)
		return -EAGAIN;
	flight->data = data;
	flight->done = done;
	flight->context = context;
	if (!mirror_submit(fs->mirror, &flight->io))
		return 0;
	flight_free(flight);
	return -EAGAIN;
}
