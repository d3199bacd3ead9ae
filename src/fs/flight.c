/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reads that are under way by themselves: whoever began one has other things to do until a leg has answered. So nothing
 * that could be waited for may be needed, neither for the way to the block (inode and tree are in memory, and nobody
 * changes them now) nor afterwards. All else is fs_read_as()'s, which waits: holes, small files, the end of a file,
 * what is in memory in part. What is in pages as a whole is answered at once.
 *
 * While it is under way a read has a pin and the checksums of its blocks (I3, I9), and no lock. The file may change:
 * then this read comes before that change. Errors and bad copies are the mirror's to see to.
 *
 * A block that is read again before long fills a page by the way. That page is there before the way to the block is
 * looked up: whoever writes past it afterwards finds it, and drops it when it is filled.
 */
#include "fs_private.h"

#include "mirrorfs/base/crc32c.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct flight {
	struct mirror_io io;
	struct meta_mapping mapping;
	struct cache_page *page; /* NULL: none is to be filled */
	struct inode *inode; /* the page's, referenced, once it is under way */
	unsigned char *data;
	void (*done)(void *context, ssize_t result);
	void *context;
};

static bool flight_verify(const struct mirror_io *io, uint32_t unit, const void *data)
{
	const struct flight *flight = (const struct flight *)io;

	return crc32c(data, FS_BLOCK) == flight->mapping.crc[unit];
}

/* Error -EAGAIN: it is as if the page had never been there. */
static void flight_page_end(struct flight *flight, int error)
{
	if (!flight->page)
		return;
	cache_filled(flight->page, error);
	cache_put(flight->page);
	flight->page = NULL;
	if (flight->inode)
		inode_put_now(flight->inode);
}

static void flight_free(struct flight *flight)
{
	flight_page_end(flight, -EAGAIN);
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
	if (flight->page && !io->error)
		memcpy(flight->page->data, flight->data, FS_BLOCK);
	flight_page_end(flight, io->error);
	flight_free(flight);
	done(context, result);
}

static bool flight_map(struct flight *flight, struct inode *inode, uint64_t block, uint32_t count)
{
	return !meta_map_now(inode->fs->meta, inode->number, block, count, &flight->mapping) &&
	       flight->mapping.count == count;
}

/* Where all of it is. Content lock held shared. */
static bool flight_way(struct flight *flight, struct inode *inode, uint64_t block, uint32_t count)
{
	if (cache_gap(&inode->space, block, count) != count || !flight_map(flight, inode, block, count))
		return false;
	if (cache_pass(&inode->space, block, count))
		return true;
	if (count > 1)
		return false;
	/* Where somebody else fills it, or there is no memory now, it is just read. */
	switch (cache_get(&inode->space, block, true, false, &flight->page)) {
	case 1:
		return flight_map(flight, inode, block, count);
	case 0:
		cache_put(flight->page);
	}
	flight->page = NULL;
	return true;
}

/* NULL: it would have to wait. Content lock held shared. */
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
	flight->page = NULL;
	flight->inode = NULL;
	if (flight->io.buf)
		mapped = flight_way(flight, inode, block, count);
	if (mapped) {
		flight->io.block = flight->mapping.address;
		return flight;
	}
	flight_free(flight);
	return NULL;
}

/* True: all of it was in pages. Content lock held shared. */
static bool flight_copy(struct inode *inode, unsigned char *data, uint64_t block, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		struct cache_page *page;

		if (cache_get(&inode->space, block + i, false, false, &page))
			return false;
		memcpy(data + (size_t)i * FS_BLOCK, page->data, FS_BLOCK);
		cache_put(page);
	}
	return true;
}

int fs_read_begin(struct fs *fs, uint64_t number, void *data, size_t length, uint64_t offset, unsigned int flags,
		  void (*done)(void *context, ssize_t result), void *context)
{
	struct flight *flight = NULL;
	struct inode *inode;
	bool copied = false;
	uint64_t size;

	if (!(flags & FS_READ_PAST) || !length || (length | offset) % FS_BLOCK ||
	    length > (size_t)EXTENT_BLOCKS_MAX * FS_BLOCK)
		return -EAGAIN;
	inode = inode_get_file_now(fs, number);
	if (!inode)
		return -EAGAIN;
	if (rwlock_tryread(&inode->content)) {
		size = inode_size(inode);
		if (size > AHEAD_SMALL * FS_BLOCK && offset + length <= size / FS_BLOCK * FS_BLOCK) {
			copied = flight_copy(inode, data, offset / FS_BLOCK, (uint32_t)(length / FS_BLOCK));
			if (!copied)
				flight = flight_prepare(inode, offset / FS_BLOCK, (uint32_t)(length / FS_BLOCK));
		}
		rwlock_unlock(&inode->content);
	}
	if ((copied || flight) && !(flags & FS_READ_QUIETLY))
		file_read_touch(inode);
	if (flight && flight->page)
		flight->inode = inode;
	else
		inode_put_now(inode);
	if (copied)
		done(context, (ssize_t)length);
	if (!flight)
		return copied ? 0 : -EAGAIN;
	flight->data = data;
	flight->done = done;
	flight->context = context;
	if (!mirror_submit(fs->mirror, &flight->io))
		return 0;
	flight_free(flight);
	return -EAGAIN;
}
