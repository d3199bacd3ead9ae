/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Dirty pages to the legs and into the tree.
 *
 * Pages go to free space (I1), all in flight at once on both legs; when all are there, one transaction maps them and
 * puts the inodes' items, whose sizes never run ahead of what was written. A page's bytes are copied under the state
 * lock in the same step that takes its promise, and the checksum is that of the copy: a write that comes meanwhile
 * promises anew and is written again.
 *
 * Little data of many files goes together: placement has their blocks lie side by side, and what lies side by side is
 * one request to each leg, wherever it belongs. If that fails, each file is tried by itself, so none suffers from
 * another's damage.
 *
 * The first buffer is waited for, further ones only taken; without more, what was gathered goes first. While one fills
 * the tree is asked and put to, which may have to read a node: the pool keeps some for that from those who write out,
 * so all of them together do not wait for each other (I10).
 */
#include "fs_private.h"

#include "mirrorfs/base/crc32c.h"
#include "mirrorfs/base/log.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Room in the transaction for an item, and once for what a cut puts beside them. */
#define ITEM_BYTES sizeof(struct format_inode)
#define NOTE_UPDATES 8u
#define NOTE_BYTES 1024u

int writeout_begin(struct writeout *wo, struct fs *fs)
{
	wo->fs = fs;
	wo->in_record = wo->side_by_side = wo->cut = wo->open = false;
	wo->size = FS_SIZE_MAX;
	wo->sequence = 0;
	wo->taken = 0;
	wo->in_flight = 1; /* we, until it is waited for */
	wo->file_count = wo->request_count = 0;
	wo->error = wo->refused = 0;
	wo->buf = NULL;
	wo->txn = meta_txn_begin(fs->meta);
	if (!wo->txn)
		return -ENOMEM;
	mutex_init(&wo->lock, RANK_LEAF);
	return 0;
}

static struct writeout_file *writeout_file(struct writeout *wo, struct inode *inode)
{
	struct writeout_file *file = wo->file_count ? &wo->files[wo->file_count - 1] : NULL;

	if (file && file->inode == inode)
		return file;
	file = &wo->files[wo->file_count++];
	*file = (struct writeout_file){ .inode = inode };
	return file;
}

void writeout_cut(struct writeout *wo, struct inode *inode, uint64_t size)
{
	wo->cut = true;
	wo->size = size;
	writeout_file(wo, inode);
}

/* One less is in flight. Whoever is the last may be the end of the wait, and of `wo`. */
static void writeout_returned(struct writeout *wo, int error)
{
	bool last;

	mutex_lock(&wo->lock);
	if (error && !wo->error)
		wo->error = error;
	last = !--wo->in_flight;
	mutex_unlock(&wo->lock);
	if (last)
		leg_wait_done(&wo->wait);
}

static void writeout_written(struct meta_write *write)
{
	writeout_returned(write->context, write->io.error);
}

/* ---- gathering ---- */

/* Room for some of `count` blocks of the file from `block` on. */
static int writeout_place(struct writeout *wo, struct inode *inode, uint64_t block, uint32_t count,
			  struct range_extent *got)
{
	struct fs *fs = wo->fs;
	struct placement_step step = { .directory = inode->born_in, .block = block, .count = count };
	struct meta_aim aim;
	uint64_t before;
	int error;

	mutex_lock(&inode->state);
	step.had = blocks_of(inode->logged_size);
	step.blocks = blocks_of(inode->attr.size);
	mutex_unlock(&inode->state);
	if (step.blocks < block + count)
		step.blocks = block + count;
	if (inode->goal_address && inode->goal_block == block) {
		step.before = inode->goal_address;
		step.run = inode->goal_run;
	} else if (wo->side_by_side && block < step.had) {
		step.before = inode->goal_address;
		step.follow = WRITEOUT_REQUESTS;
	} else if (block && !meta_where(fs->meta, inode->number, block - 1, &before) && before) {
		step.before = before + 1;
	}
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
static void writeout_copy(struct writeout *wo, struct writeout_file *file, struct cache_page *page, unsigned char *to)
{
	struct inode *inode = file->inode;
	uint64_t start = page->index * FS_BLOCK, end;

	mutex_lock(&inode->state);
	end = inode->attr.size < wo->size ? inode->attr.size : wo->size;
	memcpy(to, page->data, FS_BLOCK);
	filepage_set_mark(inode, page, PAGE_WRITTEN);
	inode->copied++;
	file->copied++;
	mutex_unlock(&inode->state);
	if (end < start)
		end = start;
	if (end < start + FS_BLOCK)
		memset(to + (end - start), 0, start + FS_BLOCK - end);
	else
		end = start + FS_BLOCK;
	if (end > start && end > file->end)
		file->end = end;
}

/* The last request goes to the legs: nothing that comes is its neighbour. */
static void writeout_submit(struct writeout *wo)
{
	struct meta_write *write;
	int error;

	if (!wo->open)
		return;
	write = &wo->requests[wo->request_count - 1];
	wo->open = false;
	mutex_lock(&wo->lock);
	wo->in_flight++;
	mutex_unlock(&wo->lock);
	error = meta_write(wo->fs->meta, write);
	if (error)
		writeout_returned(wo, error);
}

/*
 * What was put there in the buffer lies there on the legs: in the last request, or the first of a new one. What rides
 * in the record is brought there by meta. One that is long enough does not wait for more: so the legs have something
 * to do while the rest is copied.
 */
static void writeout_request(struct writeout *wo, struct iobuf *buf, size_t buf_offset,
			     const struct range_extent *extent)
{
	struct mirror_io *last = &wo->requests[wo->request_count - wo->open].io;

	if (wo->in_record) {
		ahead_forget(wo->fs, extent->start, (uint32_t)extent->length);
		return;
	}
	if (wo->open && last->buf == buf && last->block + last->count == extent->start) {
		last->count += (uint32_t)extent->length;
	} else {
		writeout_submit(wo);
		wo->requests[wo->request_count++] = (struct meta_write){
			.io = { .block = extent->start, .count = (uint32_t)extent->length, .buf = buf,
				.buf_offset = buf_offset },
			.done = writeout_written,
			.context = wo,
		};
		wo->open = true;
	}
	if (wo->requests[wo->request_count - 1].io.count >= LONG_BLOCKS)
		writeout_submit(wo);
}

/* Neighbours in a file, from `pages` or, if that is NULL, from these blocks, of which `done` are done. */
struct writeout_run {
	uint64_t block;
	uint32_t count;
	struct cache_page **pages;
	const struct writeout_blocks *blocks;
	size_t done;
};

static bool writeout_prepared(const struct writeout_run *run)
{
	return run->blocks && run->blocks->buf;
}

/* The extent's blocks are copied, if they were not, and go into requests piece by piece. */
static void writeout_fill(struct writeout *wo, struct writeout_file *file, const struct writeout_run *run,
			  const struct range_extent *extent, uint32_t *crc)
{
	bool prepared = writeout_prepared(run);
	struct iobuf *buf = prepared ? run->blocks->buf : wo->buf;
	size_t at = prepared ? run->done * FS_BLOCK : wo->filled;
	struct range_extent piece = { .start = extent->start };

	for (size_t i = 0; i < extent->length; i++, at += FS_BLOCK) {
		if (run->pages)
			writeout_copy(wo, file, run->pages[i], buf->data + at);
		else if (!prepared)
			memcpy(buf->data + at, run->blocks->bytes + (run->done + i) * FS_BLOCK, FS_BLOCK);
		crc[i] = prepared ? run->blocks->crc[run->done + i] : crc32c(buf->data + at, FS_BLOCK);
		if (++piece.length < LONG_BLOCKS && i + 1 < extent->length)
			continue;
		writeout_request(wo, buf, at - (piece.length - 1) * FS_BLOCK, &piece);
		piece = (struct range_extent){ .start = piece.start + piece.length };
	}
	if (!prepared)
		wo->filled = at;
}

/* One extent: placed, copied, mapped in the transaction, which is not committed before all is written. */
static int writeout_send(struct writeout *wo, struct writeout_file *file, struct writeout_run *run)
{
	const unsigned char *data = wo->in_record ? wo->buf->data + wo->filled : NULL;
	uint32_t crc[EXTENT_BLOCKS_MAX];
	struct range_extent extent;
	uint64_t freed = 0;
	int error = writeout_place(wo, file->inode, run->block, run->count, &extent);

	if (error)
		return error;
	writeout_fill(wo, file, run, &extent, crc);
	if (!run->pages && file->end < (run->block + extent.length) * FS_BLOCK)
		file->end = (run->block + extent.length) * FS_BLOCK;
	file->count += extent.length;
	wo->taken += (uint32_t)extent.length;
	error = meta_map_put(wo->txn, file->inode->number, run->block, &extent, crc, data, &freed);
	file->freed += freed;
	if (error)
		wo->refused = error;
	run->block += extent.length;
	run->count -= (uint32_t)extent.length;
	run->done += extent.length;
	if (run->pages)
		run->pages += extent.length;
	return error;
}

/* Room for `run` blocks that lie side by side; a new buffer has some for what else may come. False: no memory. */
static bool writeout_buffer(struct writeout *wo, uint32_t run, size_t more)
{
	struct iobuf_pool *pool = mirror_pool(wo->fs->mirror);
	struct iobuf *buf;

	if (wo->buf && wo->buf->size - wo->filled >= run * FS_BLOCK)
		return true;
	if (more > IOBUF_MAX / FS_BLOCK)
		more = IOBUF_MAX / FS_BLOCK;
	writeout_submit(wo);
	buf = wo->taken ? iobuf_try_get_kept(pool, more * FS_BLOCK) : iobuf_get_kept(pool, more * FS_BLOCK);
	if (!buf)
		return false;
	iobuf_put(wo->buf);
	wo->buf = buf;
	wo->filled = 0;
	return true;
}

/* How many of `most` neighbours have room in the write-out: the run becomes so long. */
static void writeout_fit(struct writeout *wo, const struct inode *inode, struct writeout_run *run, size_t most)
{
	unsigned int items = wo->file_count + 1;

	if (most > EXTENT_BLOCKS_MAX)
		most = EXTENT_BLOCKS_MAX;
	if (most > WRITEOUT_BLOCKS - wo->taken)
		most = WRITEOUT_BLOCKS - wo->taken;
	if (!most || wo->request_count >= WRITEOUT_REQUESTS || items > WRITEOUT_FILES ||
	    meta_txn_full(wo->txn, META_MAP_UPDATES + items + NOTE_UPDATES,
			  META_MAP_BYTES(EXTENT_BLOCKS_MAX) + items * ITEM_BYTES + NOTE_BYTES))
		run->count = 0;
	else
		run->count = meta_map_limit(wo->txn, inode->number, run->block, (uint32_t)most);
}

/* As much of the run as there is room for. `more`: so many blocks may come in all. */
static ssize_t writeout_take(struct writeout *wo, struct inode *inode, struct writeout_run *run, size_t more)
{
	struct cache_page **pages = run->pages;
	uint32_t count = run->count;
	struct writeout_file *file;
	int error = 0;

	if (!count || (!writeout_prepared(run) && !writeout_buffer(wo, count, more)))
		return 0;
	file = writeout_file(wo, inode);
	if (!file->count)
		file->pages = pages;
	while (!error && run->count && wo->request_count < WRITEOUT_REQUESTS)
		error = writeout_send(wo, file, run);
	if (!file->count && !wo->cut)
		wo->file_count--;
	return run->count < count ? (ssize_t)(count - run->count) : error;
}

ssize_t writeout_add(struct writeout *wo, struct inode *inode, struct cache_page **pages, size_t count, size_t more)
{
	struct writeout_run run = { .block = pages[0]->index, .pages = pages };
	size_t neighbours = 1;

	if (count > EXTENT_BLOCKS_MAX)
		count = EXTENT_BLOCKS_MAX;
	while (neighbours < count && pages[neighbours]->index == run.block + neighbours)
		neighbours++;
	writeout_fit(wo, inode, &run, neighbours);
	return writeout_take(wo, inode, &run, more);
}

ssize_t writeout_add_blocks(struct writeout *wo, struct inode *inode, uint64_t block,
			    const struct writeout_blocks *blocks, size_t first, size_t count, size_t more)
{
	struct writeout_run run = { .block = block, .blocks = blocks, .done = first };

	writeout_fit(wo, inode, &run, count);
	return writeout_take(wo, inode, &run, more);
}

/* ---- ending ---- */

/* The legs have it, or have refused it. What was read there before is not it. */
static int writeout_wait(struct writeout *wo)
{
	leg_wait_begin(&wo->wait);
	writeout_submit(wo);
	writeout_returned(wo, 0);
	leg_wait(&wo->wait);
	for (unsigned int i = 0; i < wo->request_count; i++)
		ahead_forget(wo->fs, wo->requests[i].io.block, wo->requests[i].io.count);
	mutex_fini(&wo->lock);
	return wo->error;
}

/* They count as blocks now, or never will. State lock held. */
static void writeout_counted(struct writeout_file *file)
{
	file->inode->copied -= file->copied;
	file->copied = 0;
}

/* The fields as they are behind this transaction, and the item. */
static void writeout_put_item(struct writeout *wo, struct writeout_file *file)
{
	struct inode *inode = file->inode;

	mutex_lock(&inode->state);
	file->blocks_before = inode->attr.blocks;
	file->size_before = inode->attr.size;
	file->logged_before = inode->logged_size;
	inode->attr.blocks += file->count - file->freed;
	writeout_counted(file);
	if (wo->cut)
		inode->attr.size = inode->logged_size = wo->size;
	else if (file->end > inode->logged_size)
		inode->logged_size = file->end;
	if (file->end > inode->attr.size) /* not by way of pages, so nobody else changes it */
		inode->attr.size = file->end;
	mutex_unlock(&inode->state);
	change_put_item(wo->txn, inode);
}

static void writeout_restore(struct writeout *wo, const struct writeout_file *file)
{
	struct inode *inode = file->inode;

	mutex_lock(&inode->state);
	inode->attr.blocks = file->blocks_before;
	inode->logged_size = file->logged_before;
	if (wo->cut || file->end > file->size_before)
		inode->attr.size = file->size_before;
	mutex_unlock(&inode->state);
}

static int writeout_commit_items(struct writeout *wo)
{
	int error;

	for (unsigned int i = 0; i < wo->file_count; i++)
		writeout_put_item(wo, &wo->files[i]);
	error = meta_txn_commit(wo->txn, &wo->sequence);
	for (unsigned int i = 0; i < wo->file_count; i++) {
		if (error)
			writeout_restore(wo, &wo->files[i]);
		change_done(wo->files[i].inode, error, wo->sequence);
	}
	return error;
}

/* Pages that were copied for nothing: their blocks are free again, and the promises went with them. */
static void writeout_unmark(struct writeout *wo)
{
	for (unsigned int i = 0; i < wo->file_count; i++) {
		struct writeout_file *file = &wo->files[i];

		mutex_lock(&file->inode->state);
		for (size_t j = 0; file->pages && j < file->count; j++) {
			if (filepage_mark(file->pages[j]) == PAGE_WRITTEN)
				filepage_set_mark(file->inode, file->pages[j], PAGE_UNPROMISED);
		}
		writeout_counted(file);
		mutex_unlock(&file->inode->state);
		file->inode->goal_address = 0;
	}
}

int writeout_commit(struct writeout *wo)
{
	int error = writeout_wait(wo);

	iobuf_put(wo->buf);
	if (wo->refused)
		error = wo->refused;
	if (!error)
		error = writeout_commit_items(wo);
	else
		meta_txn_abort(wo->txn);
	if (!error && wo->in_record)
		error = meta_sync(wo->fs->meta, wo->sequence);
	if (error)
		writeout_unmark(wo);
	return error;
}

void writeout_cancel(struct writeout *wo)
{
	writeout_wait(wo);
	iobuf_put(wo->buf);
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

/* Pages of one inode that are still to be written. Its log lock is held. */
struct writeout_part {
	struct inode *inode;
	struct cache_page **pages;
	size_t count;
};

static void writeout_advance(struct writeout_part *part, size_t count)
{
	part->pages += count;
	part->count -= count;
}

/* Pages at the head that need no writing or cannot be written are answered. How many behind them are promised? */
static size_t writeout_ready(struct writeout_part *part)
{
	enum page_mark mark = PAGE_PROMISED;
	size_t run = 0;
	int error = 0;

	while (part->count && (mark = writeout_promise(part->inode, part->pages[0], &error)) != PAGE_PROMISED) {
		if (mark == PAGE_UNPROMISED)
			writeout_latch(part->inode, error);
		cache_written(part->pages[0], mark == PAGE_UNPROMISED ? error : 0);
		writeout_advance(part, 1);
	}
	while (run < part->count && writeout_promise(part->inode, part->pages[run], &error) == PAGE_PROMISED)
		run++;
	return run;
}

static void writeout_answer(struct inode *inode, struct cache_page **pages, size_t count, int error)
{
	if (error)
		writeout_latch(inode, error);
	for (size_t i = 0; i < count; i++)
		cache_written(pages[i], error);
}

/* What is promised at the heads of the parts, as much as has room. 0 or why not even one page was sent. */
static int writeout_gather(struct writeout *wo, struct writeout_part *parts, size_t count)
{
	ssize_t added = 1;
	size_t all = 0;

	for (size_t i = 0; i < count; i++)
		all += parts[i].count;
	for (size_t i = 0; i < count && added > 0; i++) {
		size_t run = writeout_ready(&parts[i]);

		while (run && (added = writeout_add(wo, parts[i].inode, parts[i].pages, run, all)) > 0) {
			writeout_advance(&parts[i], (size_t)added);
			run -= (size_t)added;
			all -= (size_t)added;
		}
		if (parts[i].count) /* its pages are taken from one place */
			break;
	}
	return wo->taken ? 0 : added < 0 ? (int)added : 0;
}

static void writeout_parts(struct writeout_part *parts, size_t count, bool in_record);

static void writeout_end(struct writeout *wo)
{
	int error = writeout_commit(wo);

	for (unsigned int i = 0; i < wo->file_count; i++) {
		struct writeout_file *file = &wo->files[i];
		struct writeout_part alone = { file->inode, file->pages, file->count };

		if (error && wo->file_count > 1)
			writeout_parts(&alone, 1, false);
		else
			writeout_answer(file->inode, file->pages, file->count, error);
	}
}

/* One transaction. What it took is answered, and if it takes nothing, the first part. */
static void writeout_batch(struct fs *fs, struct writeout_part *parts, size_t count, bool in_record)
{
	struct writeout wo;
	int error = writeout_begin(&wo, fs);

	if (!error) {
		wo.in_record = wo.side_by_side = in_record; /* meta brings them there together */
		error = writeout_gather(&wo, parts, count);
		if (wo.taken) {
			writeout_end(&wo);
			return;
		}
		writeout_cancel(&wo);
	}
	if (!error) /* nothing of it needed to be written */
		return;
	/* Not even one page could be sent: what stopped it would stop all. */
	writeout_answer(parts->inode, parts->pages, parts->count, error);
	writeout_advance(parts, parts->count);
}

static void writeout_parts(struct writeout_part *parts, size_t count, bool in_record)
{
	while (count) {
		if (parts->count) {
			writeout_batch(parts->inode->fs, parts, count, in_record);
			continue;
		}
		parts++;
		count--;
	}
}

static int compare_address(const void *a, const void *b)
{
	const struct writeout_part *x = a, *y = b;

	return x->inode < y->inode ? -1 : x->inode > y->inode;
}

/* The files of a directory side by side, in the order in which they were made. */
static int compare_place(const void *a, const void *b)
{
	const struct inode *x = ((const struct writeout_part *)a)->inode, *y = ((const struct writeout_part *)b)->inode;

	if (x->born_in != y->born_in)
		return x->born_in < y->born_in ? -1 : 1;
	return x->number < y->number ? -1 : x->number > y->number;
}

void writeout_pages(struct cache_page **pages, size_t count)
{
	struct writeout_part parts[CACHE_WRITE_SPACES];
	struct inode *inodes[CACHE_WRITE_SPACES];
	size_t part_count = 0;

	for (size_t i = 0; i < count; i++) {
		if (!i || pages[i]->space != pages[i - 1]->space)
			parts[part_count++] = (struct writeout_part){ .inode = pages[i]->space->context,
								      .pages = pages + i };
		parts[part_count - 1].count++;
	}
	qsort(parts, part_count, sizeof(parts[0]), compare_address);
	for (size_t i = 0; i < part_count; i++) {
		inodes[i] = parts[i].inode;
		if (i)
			mutex_lock_second(&inodes[i]->log);
		else
			mutex_lock(&inodes[i]->log);
	}
	qsort(parts, part_count, sizeof(parts[0]), compare_place);
	writeout_parts(parts, part_count, false);
	for (size_t i = 0; i < part_count; i++)
		mutex_unlock(&inodes[i]->log);
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
	struct writeout_part part = { .inode = inode, .pages = pages };

	mutex_lock(&inode->log);
	part.count = writeout_take_few(inode, pages);
	writeout_parts(&part, 1, true);
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
	int error = 0;

	if (inode->fs->read_only)
		return 0;
	if (inode_is_file(inode))
		error = cache_write_space(&inode->space);
	if (!error && attributes)
		error = change_log(inode);
	return error;
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

int writeout_report(struct inode *inode, uint64_t *seen)
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
