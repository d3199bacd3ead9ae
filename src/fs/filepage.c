/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pages of a file: filled from the legs, and made dirty against a promise of room.
 *
 * A fill verifies each 4096 bytes against the checksum in the mapping (I3) and holds a pin from before the mapping is
 * looked up until the bytes are copied (I9). A page that is not in the cache has been written out: the cache keeps a
 * page until its write-out was answered, which is after its mapping is in the tree.
 */
#include "fs_private.h"

#include "mirrorfs/base/crc32c.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define FILL_PAGES EXTENT_BLOCKS_MAX

/* Called one at a time for a space; only pages that are dropped hold promises, and their dropper gives those back. */
static void filepage_evict(struct cache_space *space, struct cache_page *page)
{
	struct inode *inode = space->context;

	if (filepage_mark(page) == PAGE_PROMISED)
		inode->evicted_promises++;
	page->owner = NULL;
}

const struct cache_space_ops filepage_space_ops = {
	.write = writeout_pages,
	.evict = filepage_evict,
};

void filepage_set_mark(struct inode *inode, struct cache_page *page, enum page_mark mark)
{
	if (filepage_mark(page) != PAGE_PROMISED && mark == PAGE_PROMISED) {
		if (!inode->promised++)
			inode->recent_count = 0;
		if (inode->recent_count < META_TXN_DATA_BLOCKS)
			inode->recent[inode->recent_count] = page->index;
		if (inode->recent_count <= META_TXN_DATA_BLOCKS)
			inode->recent_count++;
	}
	if (filepage_mark(page) == PAGE_PROMISED && mark != PAGE_PROMISED)
		inode->promised--;
	page->owner = (void *)(uintptr_t)mark;
}

/* ---- filling ---- */

struct filepage_read {
	struct mirror_io io;
	struct meta_mapping mapping;
	/* Where the blocks go: */
	struct cache_page **pages;
	unsigned char *bytes; /* if that is NULL */
};

static bool filepage_verify(const struct mirror_io *io, uint32_t unit, const void *data)
{
	const struct filepage_read *read = (const struct filepage_read *)io;

	return crc32c(data, FS_BLOCK) == read->mapping.crc[unit];
}

static unsigned char *filepage_target(struct filepage_read *read, uint32_t unit)
{
	return read->pages ? read->pages[unit]->data : read->bytes + (size_t)unit * FS_BLOCK;
}

/* Blocks that lie at `from` side by side; NULL: zeros. */
static void filepage_deliver(struct filepage_read *read, const void *from)
{
	for (uint32_t i = 0; i < read->mapping.count; i++) {
		if (from)
			memcpy(filepage_target(read, i), (const unsigned char *)from + (size_t)i * FS_BLOCK, FS_BLOCK);
		else
			memset(filepage_target(read, i), 0, FS_BLOCK);
	}
}

static bool filepage_was_ahead(struct inode *inode, struct filepage_read *read)
{
	uint32_t count = read->mapping.count;

	for (uint32_t i = 0; i < count; i++)
		if (!ahead_take(inode->fs, read->mapping.address + i, read->mapping.crc[i], filepage_target(read, i)))
			return false;
	ahead_forget(inode->fs, read->mapping.address, count);
	return true;
}

/* Without the legs, or with what lies around. False: it is to be read for itself. */
static bool filepage_read_ahead(struct inode *inode, struct filepage_read *read, struct mirror_pin *pin)
{
	bool small;

	if (filepage_was_ahead(inode, read))
		return true;
	mutex_lock(&inode->state);
	small = inode->attr.size <= AHEAD_SMALL * FS_BLOCK;
	mutex_unlock(&inode->state);
	return small && !read->mapping.offset &&
	       ahead_read(inode->fs, read->mapping.address, read->mapping.count, pin) &&
	       filepage_was_ahead(inode, read);
}

/* What the mapping says. */
static int filepage_read(struct inode *inode, struct filepage_read *read, struct mirror_pin *pin)
{
	uint32_t count = read->mapping.count;
	int error;

	if (!read->mapping.address || read->mapping.data) {
		filepage_deliver(read, read->mapping.data);
		return 0;
	}
	if (filepage_read_ahead(inode, read, pin))
		return 0;
	read->io = (struct mirror_io){
		.op = MIRROR_READ,
		.block = read->mapping.address,
		.count = count,
		.buf = iobuf_get(mirror_pool(inode->fs->mirror), count * FS_BLOCK),
		.verify = filepage_verify,
		.verify_blocks = 1,
		.pin = pin,
	};
	error = mirror_submit_wait(inode->fs->mirror, &read->io);
	if (!error)
		filepage_deliver(read, read->io.buf->data + read->io.buf_offset);
	iobuf_put(read->io.buf);
	return error;
}

/* Fills neighbouring pages. Their first error; pages are answered each for itself. */
static int filepage_fill(struct inode *inode, struct cache_page **pages, uint32_t count)
{
	struct filepage_read read;
	int first_error = 0;

	for (uint32_t done = 0; done < count; done += read.mapping.count) {
		struct mirror_pin *pin = mirror_pin(inode->fs->mirror);
		int error = meta_map(inode->fs->meta, inode->number, pages[done]->index, count - done, &read.mapping);

		read.pages = pages + done;
		if (error)
			read.mapping.count = count - done;
		else
			error = filepage_read(inode, &read, pin);
		mirror_pin_put(pin);
		for (uint32_t i = 0; i < read.mapping.count; i++)
			cache_filled(pages[done + i], error);
		if (!done)
			first_error = error;
	}
	return first_error;
}

int filepage_fetch(struct inode *inode, uint64_t index, uint32_t count, unsigned char *data)
{
	struct filepage_read read = { .pages = NULL };

	for (uint32_t done = 0; done < count; done += read.mapping.count) {
		struct mirror_pin *pin = mirror_pin(inode->fs->mirror);
		int error = meta_map(inode->fs->meta, inode->number, index + done, count - done, &read.mapping);

		read.bytes = data + (size_t)done * FS_BLOCK;
		if (!error)
			error = filepage_read(inode, &read, pin);
		mirror_pin_put(pin);
		if (error)
			return error;
	}
	return 0;
}

int filepage_get_ahead(struct inode *inode, uint64_t index, uint64_t last, struct cache_page **page)
{
	struct cache_page *pages[FILL_PAGES], *there = NULL;
	uint32_t count = 1;
	int error = cache_get(&inode->space, index, true, true, &pages[0]);

	*page = NULL;
	if (error < 0)
		return error;
	if (error) {
		/* Only the first may be waited for: the others might be filled by someone who waits for it. */
		while (count < FILL_PAGES && index + count <= last) {
			error = cache_get(&inode->space, index + count, true, false, &pages[count]);
			if (error != 1)
				break;
			count++;
		}
		if (!error && count < FILL_PAGES && index + count <= last)
			there = pages[count];
		error = filepage_fill(inode, pages, count);
	}
	cache_put(there);
	while (--count > 0)
		cache_put(pages[count]);
	if (error)
		cache_put(pages[0]);
	else
		*page = pages[0];
	return error;
}

int filepage_get(struct inode *inode, uint64_t index, struct cache_page **page)
{
	return filepage_get_ahead(inode, index, index, page);
}

/* ---- changing ---- */

void filepage_store(struct inode *inode, struct cache_page *page, size_t offset, const void *data, size_t length,
		    bool extend, uint64_t *promises)
{
	uint64_t end = page->index * FS_BLOCK + offset + length;

	mutex_lock(&inode->state);
	if (data)
		memcpy(page->data + offset, data, length);
	else
		memset(page->data + offset, 0, length);
	if (filepage_mark(page) != PAGE_PROMISED) {
		assert(*promises > 0);
		--*promises;
		filepage_set_mark(inode, page, PAGE_PROMISED);
	}
	if (extend && end > inode->attr.size)
		inode->attr.size = end;
	inode->failing = false;
	cache_dirty(page);
	mutex_unlock(&inode->state);
	sync_note(inode);
}

void filepage_drop(struct inode *inode, uint64_t first, uint64_t last)
{
	uint64_t promises;

	if (first > last)
		return;
	cache_drop_range(&inode->space, first, last);
	mutex_lock(&inode->state);
	promises = inode->evicted_promises;
	inode->evicted_promises = 0;
	inode->promised -= promises;
	mutex_unlock(&inode->state);
	meta_unpromise(inode->fs->meta, promises);
}
