/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Dirty pages to the legs and into the tree.
 *
 * Pages go to free space (I1), all in flight at once on both legs; when all are there, one transaction maps them and
 * puts the inode's item, whose size never runs ahead of what was written. A page's bytes are copied under the state
 * lock in the same step that takes its promise, and the checksum is that of the copy: a write that comes meanwhile
 * promises anew and is written again.
 *
 * The first buffer is waited for, further ones only taken: whoever holds a buffer never waits for another. Without
 * more, what was gathered goes first (I10).
 */
#include "fs_private.h"

#include "mirrorfs/base/crc32c.h"
#include "mirrorfs/base/log.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/* A transaction always has room for what a write-out gathers, an item and a note. */
static_assert(WRITEOUT_PIECES * META_MAP_BYTES(EXTENT_BLOCKS_MAX) + 1024 <= META_TXN_BYTES, "bytes");
static_assert(WRITEOUT_PIECES * META_MAP_UPDATES + 8 <= META_TXN_UPDATES, "updates");

int writeout_begin(struct writeout *wb, struct inode *inode, const uint64_t *cut_size)
{
	wb->inode = inode;
	wb->cut = cut_size;
	wb->size = cut_size ? *cut_size : FS_SIZE_MAX;
	wb->end = wb->freed = wb->taken = 0;
	wb->in_flight = wb->count = 0;
	wb->error = 0;
	wb->txn = meta_txn_begin(inode->fs->meta);
	if (!wb->txn)
		return -ENOMEM;
	mutex_init(&wb->lock, RANK_LEAF);
	cond_init(&wb->done);
	return 0;
}

static void writeout_written(struct meta_write *write)
{
	struct writeout *wb = write->context;

	mutex_lock(&wb->lock);
	if (write->io.error && !wb->error)
		wb->error = write->io.error;
	if (!--wb->in_flight)
		cond_signal(&wb->done);
	mutex_unlock(&wb->lock);
}

/* Where the next block should go: behind the one before it in the file. */
static uint64_t writeout_goal(struct inode *inode, uint64_t block)
{
	struct meta_mapping mapping;

	if (inode->goal_address && inode->goal_block == block)
		return inode->goal_address;
	if (!block || meta_map(inode->fs->meta, inode->number, block - 1, 1, &mapping) || !mapping.address)
		return 0;
	return mapping.address + 1;
}

/* The page's bytes as they are now, zeros beyond the end of the file, and its promise. */
static void writeout_copy(struct writeout *wb, struct cache_page *page, unsigned char *to)
{
	struct inode *inode = wb->inode;
	uint64_t start = page->index * FS_BLOCK, end;

	mutex_lock(&inode->state);
	end = inode->attr.size < wb->size ? inode->attr.size : wb->size;
	memcpy(to, page->data, FS_BLOCK);
	filepage_set_mark(inode, page, PAGE_WRITTEN);
	mutex_unlock(&inode->state);
	if (end < start)
		end = start;
	if (end < start + FS_BLOCK)
		memset(to + (end - start), 0, start + FS_BLOCK - end);
	else
		end = start + FS_BLOCK;
	if (end > start && end > wb->end)
		wb->end = end;
}

/* One extent of pages on its way. */
static int writeout_send(struct writeout *wb, struct cache_page **pages, uint32_t count, struct iobuf *buf,
			  size_t buf_offset)
{
	struct writeout_piece *piece = &wb->pieces[wb->count];
	struct inode *inode = wb->inode;
	int error = meta_alloc(wb->txn, writeout_goal(inode, pages[0]->index), count, &piece->extent);

	if (error)
		return error;
	piece->pages = pages;
	piece->crc = (uint32_t)wb->taken;
	wb->taken += piece->extent.length;
	wb->count++;
	inode->goal_block = pages[0]->index + piece->extent.length;
	inode->goal_address = piece->extent.start + piece->extent.length;
	for (uint64_t i = 0; i < piece->extent.length; i++) {
		unsigned char *to = buf->data + buf_offset + i * FS_BLOCK;

		writeout_copy(wb, pages[i], to);
		wb->crc[piece->crc + i] = crc32c(to, FS_BLOCK);
	}
	iobuf_ref(buf);
	piece->write = (struct meta_write){
		.io = { .block = piece->extent.start, .count = (uint32_t)piece->extent.length, .buf = buf,
			.buf_offset = buf_offset },
		.done = writeout_written,
		.context = wb,
	};
	mutex_lock(&wb->lock);
	wb->in_flight++;
	mutex_unlock(&wb->lock);
	error = meta_write(inode->fs->meta, &piece->write);
	if (error) {
		piece->write.io.error = error;
		writeout_written(&piece->write);
	}
	return 0;
}

/* How many neighbours stand at the head of `pages`. */
static uint32_t writeout_run(struct writeout *wb, struct cache_page **pages, size_t count)
{
	uint64_t most = WRITEOUT_BLOCKS - wb->taken;
	uint32_t run = 1;

	if (most > EXTENT_BLOCKS_MAX)
		most = EXTENT_BLOCKS_MAX;
	if (most > count)
		most = count;
	while (run < most && pages[run]->index == pages[0]->index + run)
		run++;
	return run;
}

ssize_t writeout_add(struct writeout *wb, struct cache_page **pages, size_t count)
{
	struct iobuf_pool *pool = mirror_pool(wb->inode->fs->mirror);
	struct iobuf *buf;
	uint32_t run, sent = 0;
	int error = 0;

	if (wb->count == WRITEOUT_PIECES || wb->taken == WRITEOUT_BLOCKS)
		return 0;
	run = writeout_run(wb, pages, count);
	buf = wb->count ? iobuf_try_get(pool, run * FS_BLOCK) : iobuf_get(pool, run * FS_BLOCK);
	if (!buf)
		return 0;
	while (!error && sent < run && wb->count < WRITEOUT_PIECES) {
		error = writeout_send(wb, pages + sent, run - sent, buf, sent * FS_BLOCK);
		if (!error)
			sent += (uint32_t)wb->pieces[wb->count - 1].extent.length;
	}
	iobuf_put(buf);
	return sent ? (ssize_t)sent : error;
}

/* The legs have it, or have refused it. */
static int writeout_wait(struct writeout *wb)
{
	mutex_lock(&wb->lock);
	while (wb->in_flight)
		cond_wait(&wb->done, &wb->lock);
	mutex_unlock(&wb->lock);
	for (unsigned int i = 0; i < wb->count; i++)
		iobuf_put(wb->pieces[i].write.io.buf);
	mutex_fini(&wb->lock);
	cond_fini(&wb->done);
	return wb->error;
}

static int writeout_map(struct writeout *wb)
{
	for (unsigned int i = 0; i < wb->count; i++) {
		struct writeout_piece *piece = &wb->pieces[i];
		uint64_t freed = 0;
		int error = meta_map_put(wb->txn, wb->inode->number, piece->pages[0]->index, &piece->extent,
					 wb->crc + piece->crc, NULL, &freed);

		if (error)
			return error;
		wb->freed += freed;
	}
	return 0;
}

/* The fields as they are behind this transaction, the item, the commit. */
static int writeout_commit_item(struct writeout *wb)
{
	struct inode *inode = wb->inode;
	uint64_t sequence = 0, logged, size, blocks;
	int error;

	mutex_lock(&inode->state);
	logged = inode->logged_size;
	size = inode->attr.size;
	blocks = inode->attr.blocks;
	inode->attr.blocks += wb->taken - wb->freed;
	if (wb->cut)
		inode->attr.size = inode->logged_size = wb->size;
	else if (wb->end > logged)
		inode->logged_size = wb->end;
	mutex_unlock(&inode->state);
	change_put_item(wb->txn, inode);
	error = meta_txn_commit(wb->txn, &sequence);
	if (error) {
		mutex_lock(&inode->state);
		inode->attr.blocks = blocks;
		inode->logged_size = logged;
		if (wb->cut)
			inode->attr.size = size;
		mutex_unlock(&inode->state);
	}
	change_done(inode, error, sequence);
	return error;
}

/* Pages that were copied for nothing: their blocks are free again, and the promises went with them. */
static void writeout_unmark(struct writeout *wb)
{
	struct inode *inode = wb->inode;

	mutex_lock(&inode->state);
	for (unsigned int i = 0; i < wb->count; i++) {
		for (uint64_t j = 0; j < wb->pieces[i].extent.length; j++) {
			struct cache_page *page = wb->pieces[i].pages[j];

			if (filepage_mark(page) == PAGE_WRITTEN)
				filepage_set_mark(inode, page, PAGE_UNPROMISED);
		}
	}
	mutex_unlock(&inode->state);
	inode->goal_address = 0;
}

int writeout_commit(struct writeout *wb)
{
	int error = writeout_wait(wb);

	if (!error)
		error = writeout_map(wb);
	if (error)
		meta_txn_abort(wb->txn);
	else
		error = writeout_commit_item(wb);
	if (error)
		writeout_unmark(wb);
	return error;
}

void writeout_cancel(struct writeout *wb)
{
	writeout_wait(wb);
	meta_txn_abort(wb->txn);
	writeout_unmark(wb);
}

/* ---- the cache asks ---- */

static void writeout_latch(struct inode *inode, int error)
{
	bool news;

	mutex_lock(&inode->state);
	news = inode->error != error;
	inode->errors++;
	inode->error = error;
	mutex_unlock(&inode->state);
	if (news) /* it is tried again every few seconds */
		log_error("write-out failed inode=%llu error=%d", (unsigned long long)inode->number, error);
}

/* A page's mark; the promise that a failed write-out took is asked for again, since every page to write has one. */
static enum page_mark writeout_promise(struct inode *inode, struct cache_page *page)
{
	enum page_mark mark;
	bool spare = false;

	mutex_lock(&inode->state);
	mark = filepage_mark(page);
	mutex_unlock(&inode->state);
	if (mark != PAGE_UNPROMISED || meta_promise(inode->fs->meta, 1))
		return mark;
	mutex_lock(&inode->state);
	if (filepage_mark(page) == PAGE_PROMISED)
		spare = true; /* a write came meanwhile and brought its own */
	else
		filepage_set_mark(inode, page, PAGE_PROMISED);
	mutex_unlock(&inode->state);
	if (spare)
		meta_unpromise(inode->fs->meta, 1);
	return PAGE_PROMISED;
}

/* Pages at the head that need no writing or cannot be written are answered: how many. */
static size_t writeout_skip(struct inode *inode, struct cache_page **pages, size_t count)
{
	size_t skipped;

	for (skipped = 0; skipped < count; skipped++) {
		enum page_mark mark = writeout_promise(inode, pages[skipped]);

		if (mark == PAGE_PROMISED)
			break;
		if (mark == PAGE_UNPROMISED)
			writeout_latch(inode, -ENOSPC);
		cache_written(pages[skipped], mark == PAGE_UNPROMISED ? -ENOSPC : 0);
	}
	return skipped;
}

/* One transaction for some pages at the head, each promised; they are answered: how many. */
static size_t writeout_batch(struct inode *inode, struct cache_page **pages, size_t count)
{
	struct writeout wb;
	size_t taken = 0;
	int error = writeout_begin(&wb, inode, NULL);

	if (!error) {
		ssize_t added = 0;

		while (taken < count && (added = writeout_add(&wb, pages + taken, count - taken)) > 0)
			taken += (size_t)added;
		if (taken) {
			error = writeout_commit(&wb);
		} else {
			writeout_cancel(&wb);
			error = (int)added;
		}
	}
	if (!taken)
		taken = count; /* not even one could be sent: what stopped it would stop all */
	if (error)
		writeout_latch(inode, error);
	for (size_t i = 0; i < taken; i++)
		cache_written(pages[i], error);
	return taken;
}

void writeout_pages(struct cache_space *space, struct cache_page **pages, size_t count)
{
	struct inode *inode = space->context;

	mutex_lock(&inode->log);
	for (size_t done = 0; done < count;) {
		size_t run = 0;

		done += writeout_skip(inode, pages + done, count - done);
		while (done + run < count && writeout_promise(inode, pages[done + run]) == PAGE_PROMISED)
			run++;
		if (run)
			done += writeout_batch(inode, pages + done, run);
	}
	mutex_unlock(&inode->log);
}

/* ---- a caller asks ---- */

int writeout_inode(struct inode *inode, bool attributes)
{
	int error = 0;

	if (inode->fs->read_only)
		return 0;
	if (inode_is_file(inode))
		error = cache_write_range(&inode->space, 0, UINT64_MAX);
	if (!error && attributes)
		error = change_log(inode);
	return error;
}

int writeout_sync(struct inode *inode)
{
	uint64_t sequence;

	if (inode->fs->read_only)
		return 0;
	mutex_lock(&inode->state);
	sequence = inode->sequence;
	mutex_unlock(&inode->state);
	return meta_sync(inode->fs->meta, sequence);
}

int fs_error_mark(struct fs *fs, uint64_t number, uint64_t *seen)
{
	struct inode *inode;
	int error = inode_get(fs, number, &inode);

	if (error)
		return error;
	mutex_lock(&inode->state);
	*seen = inode->errors;
	mutex_unlock(&inode->state);
	inode_put(inode);
	return 0;
}

int fs_fsync(struct fs *fs, uint64_t number, bool data_only, uint64_t *seen)
{
	struct inode *inode;
	int error = inode_get(fs, number, &inode);

	if (error)
		return error;
	error = writeout_inode(inode, !data_only);
	if (!error)
		error = writeout_sync(inode);
	mutex_lock(&inode->state);
	if (seen && *seen != inode->errors) {
		*seen = inode->errors;
		if (!error)
			error = inode->error;
	}
	mutex_unlock(&inode->state);
	inode_put(inode);
	return error;
}
