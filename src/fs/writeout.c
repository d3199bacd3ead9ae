/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Dirty pages to the legs and into the tree.
 *
 * Pages go to free space (I1), all in flight at once on both legs; when all are there, one transaction maps them and
 * puts the inode's item, whose size never runs ahead of what was written. A page's bytes are copied under the state
 * lock in the same step that takes its promise, and the checksum is that of the copy: a write that comes meanwhile
 * promises anew and is written again.
 *
 * The first buffer is waited for, further ones only taken: whoever holds a buffer that is not on its way to the legs
 * never waits for another, but for the few that ride in a record. Without more, what was gathered goes first (I10).
 */
#include "fs_private.h"

#include "mirrorfs/base/crc32c.h"
#include "mirrorfs/base/log.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A transaction always has room for what a write-out gathers, an item and a note. */
static_assert(WRITEOUT_PIECES * META_MAP_BYTES(EXTENT_BLOCKS_MAX) + 1024 <= META_TXN_BYTES, "bytes");
static_assert(WRITEOUT_PIECES * META_MAP_UPDATES + 8 <= META_TXN_UPDATES, "updates");

int writeout_begin(struct writeout *wo, struct inode *inode, const uint64_t *cut_size)
{
	wo->inode = inode;
	wo->in_record = false;
	wo->sequence = 0;
	wo->cut = cut_size;
	wo->size = cut_size ? *cut_size : FS_SIZE_MAX;
	wo->end = wo->freed = wo->taken = 0;
	wo->in_flight = wo->count = 0;
	wo->error = 0;
	wo->txn = meta_txn_begin(inode->fs->meta);
	if (!wo->txn)
		return -ENOMEM;
	mutex_init(&wo->lock, RANK_LEAF);
	cond_init(&wo->done);
	return 0;
}

static void writeout_written(struct meta_write *write)
{
	struct writeout *wo = write->context;

	mutex_lock(&wo->lock);
	if (write->io.error && !wo->error)
		wo->error = write->io.error;
	if (!--wo->in_flight)
		cond_signal(&wo->done);
	mutex_unlock(&wo->lock);
}

static uint64_t blocks_of(uint64_t size)
{
	return size / FS_BLOCK + (size % FS_BLOCK ? 1 : 0);
}

/* Room for some of `count` blocks of the file from `block` on. */
static int writeout_place(struct writeout *wo, uint64_t block, uint32_t count, struct range_extent *got)
{
	struct inode *inode = wo->inode;
	struct fs *fs = inode->fs;
	struct placement_step step = { .directory = inode->born_in, .block = block, .count = count };
	struct meta_mapping mapping;
	struct meta_aim aim;
	int error;

	if (inode->goal_address && inode->goal_block == block) {
		step.before = inode->goal_address;
		step.run = inode->goal_run;
	} else if (block && !meta_map(fs->meta, inode->number, block - 1, 1, &mapping) && mapping.address) {
		step.before = mapping.address + 1;
	}
	mutex_lock(&inode->state);
	step.had = blocks_of(inode->logged_size);
	step.blocks = blocks_of(inode->attr.size);
	mutex_unlock(&inode->state);
	aim = placement_aim(&fs->placement, &step);
	error = meta_alloc(wo->txn, &aim, count, got);
	if (error)
		return error;
	placement_done(&fs->placement, &step, got);
	inode->goal_block = block + got->length;
	inode->goal_address = got->start + got->length;
	inode->goal_run = step.run + got->length;
	return 0;
}

/* The page's bytes as they are now, zeros beyond the end of the file, and its promise. */
static void writeout_copy(struct writeout *wo, struct cache_page *page, unsigned char *to)
{
	struct inode *inode = wo->inode;
	uint64_t start = page->index * FS_BLOCK, end;

	mutex_lock(&inode->state);
	end = inode->attr.size < wo->size ? inode->attr.size : wo->size;
	memcpy(to, page->data, FS_BLOCK);
	filepage_set_mark(inode, page, PAGE_WRITTEN);
	mutex_unlock(&inode->state);
	if (end < start)
		end = start;
	if (end < start + FS_BLOCK)
		memset(to + (end - start), 0, start + FS_BLOCK - end);
	else
		end = start + FS_BLOCK;
	if (end > start && end > wo->end)
		wo->end = end;
}

/* One extent of pages on its way. */
static int writeout_send(struct writeout *wo, struct cache_page **pages, uint32_t count, struct iobuf *buf,
			 size_t buf_offset)
{
	struct writeout_piece *piece = &wo->pieces[wo->count];
	struct inode *inode = wo->inode;
	int error = writeout_place(wo, pages[0]->index, count, &piece->extent);

	if (error)
		return error;
	piece->pages = pages;
	piece->crc = (uint32_t)wo->taken;
	wo->taken += piece->extent.length;
	wo->count++;
	for (uint64_t i = 0; i < piece->extent.length; i++) {
		unsigned char *to = buf->data + buf_offset + i * FS_BLOCK;

		writeout_copy(wo, pages[i], to);
		wo->crc[piece->crc + i] = crc32c(to, FS_BLOCK);
	}
	piece->buf = wo->in_record ? buf : NULL; /* else the mirror's own reference is enough */
	if (piece->buf)
		iobuf_ref(buf);
	piece->write = (struct meta_write){
		.io = { .block = piece->extent.start, .count = (uint32_t)piece->extent.length, .buf = buf,
			.buf_offset = buf_offset },
		.done = writeout_written,
		.context = wo,
		.in_record = wo->in_record,
	};
	mutex_lock(&wo->lock);
	wo->in_flight++;
	mutex_unlock(&wo->lock);
	error = meta_write(inode->fs->meta, &piece->write);
	if (error) {
		piece->write.io.error = error;
		writeout_written(&piece->write);
	}
	return 0;
}

/* How many neighbours stand at the head of `pages`. */
static uint32_t writeout_run(struct writeout *wo, struct cache_page **pages, size_t count)
{
	uint64_t most = WRITEOUT_BLOCKS - wo->taken;
	uint32_t run = 1;

	if (most > EXTENT_BLOCKS_MAX)
		most = EXTENT_BLOCKS_MAX;
	if (most > count)
		most = count;
	while (run < most && pages[run]->index == pages[0]->index + run)
		run++;
	return meta_map_limit(wo->txn, wo->inode->number, pages[0]->index, run);
}

ssize_t writeout_add(struct writeout *wo, struct cache_page **pages, size_t count)
{
	struct iobuf_pool *pool = mirror_pool(wo->inode->fs->mirror);
	struct iobuf *buf;
	uint32_t run, sent = 0;
	int error = 0;

	if (wo->count == WRITEOUT_PIECES || wo->taken == WRITEOUT_BLOCKS)
		return 0;
	run = writeout_run(wo, pages, count);
	if (!run)
		return 0;
	buf = wo->count ? iobuf_try_get(pool, run * FS_BLOCK) : iobuf_get(pool, run * FS_BLOCK);
	if (!buf)
		return 0;
	while (!error && sent < run && wo->count < WRITEOUT_PIECES) {
		error = writeout_send(wo, pages + sent, run - sent, buf, sent * FS_BLOCK);
		if (!error)
			sent += (uint32_t)wo->pieces[wo->count - 1].extent.length;
	}
	iobuf_put(buf);
	return sent ? (ssize_t)sent : error;
}

/* The record has been given the bytes. */
static void writeout_put_buffers(struct writeout *wo)
{
	for (unsigned int i = 0; i < wo->count; i++)
		iobuf_put(wo->pieces[i].buf);
}

/* The legs have it, or have refused it. */
static int writeout_wait(struct writeout *wo)
{
	mutex_lock(&wo->lock);
	while (wo->in_flight)
		cond_wait(&wo->done, &wo->lock);
	mutex_unlock(&wo->lock);
	mutex_fini(&wo->lock);
	cond_fini(&wo->done);
	return wo->error;
}

static int writeout_map(struct writeout *wo)
{
	for (unsigned int i = 0; i < wo->count; i++) {
		struct writeout_piece *piece = &wo->pieces[i];
		const void *data = wo->in_record ? piece->buf->data + piece->write.io.buf_offset : NULL;
		uint64_t freed = 0;
		int error = meta_map_put(wo->txn, wo->inode->number, piece->pages[0]->index, &piece->extent,
					 wo->crc + piece->crc, data, &freed);

		if (error)
			return error;
		wo->freed += freed;
	}
	return 0;
}

/* The fields as they are behind this transaction, the item, the commit. */
static int writeout_commit_item(struct writeout *wo)
{
	struct inode *inode = wo->inode;
	uint64_t logged, size, blocks;
	int error;

	mutex_lock(&inode->state);
	logged = inode->logged_size;
	size = inode->attr.size;
	blocks = inode->attr.blocks;
	inode->attr.blocks += wo->taken - wo->freed;
	if (wo->cut)
		inode->attr.size = inode->logged_size = wo->size;
	else if (wo->end > logged)
		inode->logged_size = wo->end;
	mutex_unlock(&inode->state);
	change_put_item(wo->txn, inode);
	error = meta_txn_commit(wo->txn, &wo->sequence);
	if (error) {
		mutex_lock(&inode->state);
		inode->attr.blocks = blocks;
		inode->logged_size = logged;
		if (wo->cut)
			inode->attr.size = size;
		mutex_unlock(&inode->state);
	}
	change_done(inode, error, wo->sequence);
	return error;
}

/* Pages that were copied for nothing: their blocks are free again, and the promises went with them. */
static void writeout_unmark(struct writeout *wo)
{
	struct inode *inode = wo->inode;

	mutex_lock(&inode->state);
	for (unsigned int i = 0; i < wo->count; i++) {
		for (uint64_t j = 0; j < wo->pieces[i].extent.length; j++) {
			struct cache_page *page = wo->pieces[i].pages[j];

			if (filepage_mark(page) == PAGE_WRITTEN)
				filepage_set_mark(inode, page, PAGE_UNPROMISED);
		}
	}
	mutex_unlock(&inode->state);
	inode->goal_address = 0;
}

static int writeout_map_and_commit(struct writeout *wo)
{
	int error = writeout_map(wo);

	if (!error)
		return writeout_commit_item(wo);
	meta_txn_abort(wo->txn);
	return error;
}

int writeout_commit(struct writeout *wo)
{
	int error = 0, home = 0;

	if (!wo->in_record)
		error = writeout_wait(wo);
	if (!error)
		error = writeout_map_and_commit(wo);
	else
		meta_txn_abort(wo->txn);
	writeout_put_buffers(wo);
	if (wo->in_record) {
		if (!error)
			meta_sync(wo->inode->fs->meta, wo->sequence); /* who wants to know asks again */
		home = writeout_wait(wo);
	}
	if (error || home)
		writeout_unmark(wo);
	return error ? error : home;
}

void writeout_cancel(struct writeout *wo)
{
	writeout_wait(wo);
	writeout_put_buffers(wo);
	meta_txn_abort(wo->txn);
	writeout_unmark(wo);
}

/* ---- the cache asks ---- */

/* It is tried again every few seconds: what fails again is the same failure, of which nobody is to hear twice. */
static void writeout_latch(struct inode *inode, int error)
{
	bool news;

	mutex_lock(&inode->state);
	news = !inode->failing || inode->error != error;
	if (news) {
		inode->errors++;
		inode->error = error;
		inode->error_told = false;
	}
	inode->failing = true;
	mutex_unlock(&inode->state);
	if (news)
		log_error("write-out failed inode=%llu error=%d", (unsigned long long)inode->number, error);
}

/*
 * A page's mark; the promise that a failed write-out took is asked for again, since every page to write has one.
 * *error: why there is none.
 */
static enum page_mark writeout_promise(struct inode *inode, struct cache_page *page, int *error)
{
	enum page_mark mark;
	bool spare = false;

	mutex_lock(&inode->state);
	mark = filepage_mark(page);
	mutex_unlock(&inode->state);
	if (mark != PAGE_UNPROMISED)
		return mark;
	*error = meta_promise(inode->fs->meta, 1);
	if (*error == -EROFS) /* the legs have failed since */
		*error = -EIO;
	if (*error)
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
		int error = 0;
		enum page_mark mark = writeout_promise(inode, pages[skipped], &error);

		if (mark == PAGE_PROMISED)
			break;
		if (mark == PAGE_UNPROMISED)
			writeout_latch(inode, error);
		cache_written(pages[skipped], error);
	}
	return skipped;
}

/* One transaction for some pages at the head, each promised; they are answered: how many. */
static size_t writeout_batch(struct inode *inode, struct cache_page **pages, size_t count, bool in_record)
{
	struct writeout wo;
	size_t taken = 0;
	int error = writeout_begin(&wo, inode, NULL);

	if (!error) {
		ssize_t added = 0;

		wo.in_record = in_record;
		while (taken < count && (added = writeout_add(&wo, pages + taken, count - taken)) > 0)
			taken += (size_t)added;
		if (taken) {
			error = writeout_commit(&wo);
		} else {
			writeout_cancel(&wo);
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
	int error;

	mutex_lock(&inode->log);
	for (size_t done = 0; done < count;) {
		size_t run = 0;

		done += writeout_skip(inode, pages + done, count - done);
		while (done + run < count && writeout_promise(inode, pages[done + run], &error) == PAGE_PROMISED)
			run++;
		if (run)
			done += writeout_batch(inode, pages + done, run, false);
	}
	mutex_unlock(&inode->log);
}

/* ---- a caller asks ---- */

static int compare_index(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Takes the promised pages into writing, if there are so few that a record holds them: how many. Log lock held. */
static size_t writeout_take_few(struct inode *inode, struct cache_page *pages[META_TXN_DATA_BLOCKS])
{
	uint64_t recent[META_TXN_DATA_BLOCKS];
	size_t count, taken = 0;
	int error;

	mutex_lock(&inode->state);
	count = inode->promised && inode->recent_count <= META_TXN_DATA_BLOCKS ? inode->recent_count : 0;
	memcpy(recent, inode->recent, sizeof(recent));
	mutex_unlock(&inode->state);
	qsort(recent, count, sizeof(recent[0]), compare_index);
	for (size_t i = 0; i < count; i++) {
		struct cache_page *page;

		if (cache_get(&inode->space, recent[i], false, false, &page))
			continue;
		/* While it is being written it is held by its writer, whose turn comes when we are done. */
		if (writeout_promise(inode, page, &error) == PAGE_PROMISED && cache_write_begin(page))
			pages[taken++] = page;
		cache_put(page);
	}
	return taken;
}

/*
 * Few dirty pages whose durability somebody waits for: their data rides in the journal's record, and so one round to
 * the legs does for data and tree. What it leaves is the usual way's.
 */
static void writeout_few(struct inode *inode)
{
	struct cache_page *pages[META_TXN_DATA_BLOCKS];
	size_t count, done = 0;

	mutex_lock(&inode->log);
	count = writeout_take_few(inode, pages);
	while (done < count)
		done += writeout_batch(inode, pages + done, count - done, true);
	mutex_unlock(&inode->log);
}

static int writeout_range(struct inode *inode, uint64_t first, uint64_t last, bool attributes)
{
	int error = 0;

	if (inode_is_file(inode))
		error = cache_write_range(&inode->space, first, last);
	if (!error && attributes)
		error = change_log(inode);
	return error;
}

int writeout_inode(struct inode *inode, bool attributes)
{
	return inode->fs->read_only ? 0 : writeout_range(inode, 0, UINT64_MAX, attributes);
}

/* What was committed of this inode becomes durable. */
static int writeout_sync(struct inode *inode)
{
	uint64_t sequence;

	mutex_lock(&inode->state);
	sequence = inode->sequence;
	mutex_unlock(&inode->state);
	return meta_sync(inode->fs->meta, sequence);
}

int writeout_durable(struct inode *inode, uint64_t first, uint64_t last, bool attributes)
{
	int error;

	if (inode->fs->read_only)
		return 0;
	if (inode_is_file(inode))
		writeout_few(inode);
	error = writeout_range(inode, first, last, attributes);
	if (!error)
		error = writeout_sync(inode);
	return error == -EROFS ? -EIO : error; /* the legs have failed since it was opened */
}

int fs_error_mark(struct fs *fs, uint64_t number, uint64_t *seen)
{
	struct inode *inode;
	int error = inode_get(fs, number, &inode);

	if (error)
		return error;
	mutex_lock(&inode->state);
	*seen = inode->errors && !inode->error_told ? inode->errors - 1 : inode->errors;
	mutex_unlock(&inode->state);
	inode_put(inode);
	return 0;
}

/* What failed since the last report, or 0. */
static int writeout_report(struct inode *inode, uint64_t *seen)
{
	int error = 0;

	mutex_lock(&inode->state);
	if (*seen != inode->errors) {
		*seen = inode->errors;
		inode->error_told = true;
		error = inode->error;
	}
	mutex_unlock(&inode->state);
	return error;
}

void fs_error_told(struct fs *fs, uint64_t number, uint64_t *seen)
{
	struct inode *inode;

	if (inode_get(fs, number, &inode))
		return;
	writeout_report(inode, seen);
	inode_put(inode);
}

int fs_fsync(struct fs *fs, uint64_t number, bool data_only, uint64_t *seen)
{
	struct inode *inode;
	int error = inode_get(fs, number, &inode), before = 0;

	if (error)
		return error;
	error = writeout_durable(inode, 0, UINT64_MAX, !data_only);
	if (seen)
		before = writeout_report(inode, seen);
	inode_put(inode);
	return error ? error : before;
}
