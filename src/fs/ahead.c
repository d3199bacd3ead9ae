/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Read-ahead across small files. The kernel's own ends with the file: who reads a directory of small files, in whatever
 * order, waits for the legs once for each. But what was written together lies together. So where the beginnings of
 * small files are missed not far from each other, the neighbourhood of the next one is read with it, and kept by the
 * place where it lies until a file wants it.
 *
 * What lies there is nobody's in particular and is not verified when it is read. It is judged when it is used, by the
 * checksum in the mapping that leads there (I3); what does not fit is read again in the usual way. What is written anew
 * is forgotten when the legs have it, before it can be asked for; or, if it goes there later, before it is committed.
 *
 * Bounds: a neighbourhood grows with misses that are near to one of the last few, and shrinks with others. It is
 * AHEAD_MOST blocks at most and a small part of the cache; nothing is read ahead while memory is short. A wrong guess
 * costs no more than that: blocks that nobody wants are the first to go.
 */
#include "fs_private.h"

#include "mirrorfs/base/crc32c.h"

#include <string.h>

#define AHEAD_FIRST 16u
#define AHEAD_MOST 128u
#define BUDGET_SHARE 128 /* of the cache that a neighbourhood may take, and 32 times that is near */

static const struct cache_space_ops ahead_ops = { .write = NULL };

int ahead_init(struct fs *fs)
{
	struct ahead *ahead = &fs->ahead;
	struct cache_stats stats;
	uint64_t share;
	int error;

	cache_stats(fs->cache, &stats);
	share = stats.budget_bytes / BUDGET_SHARE / FS_BLOCK;
	ahead->most = share < AHEAD_MOST ? (uint32_t)share : AHEAD_MOST;
	ahead->near = 32 * share;
	mutex_init(&ahead->lock, RANK_LEAF);
	error = cache_space_init(fs->cache, &ahead->space, CACHE_DATA, FS_BLOCK, &ahead_ops, fs);
	if (error)
		ahead->space.index = NULL;
	return error;
}

void ahead_fini(struct fs *fs)
{
	if (fs->ahead.space.index)
		cache_space_fini(&fs->ahead.space);
	mutex_fini(&fs->ahead.lock);
}

bool ahead_take(struct fs *fs, uint64_t address, uint32_t crc, unsigned char *to)
{
	struct cache_page *page;

	if (cache_get(&fs->ahead.space, address, false, true, &page))
		return false;
	memcpy(to, page->data, FS_BLOCK);
	cache_put(page);
	return crc32c(to, FS_BLOCK) == crc;
}

void ahead_forget(struct fs *fs, uint64_t address, uint32_t count)
{
	cache_drop_range(&fs->ahead.space, address, address + count - 1);
}

/* A small file's beginning was missed there: how many blocks to read at once; 0: no more than it needs. */
static uint32_t ahead_window(struct ahead *ahead, uint64_t address)
{
	bool near = false;
	uint32_t window;

	mutex_lock(&ahead->lock);
	for (unsigned int i = 0; i < AHEAD_RECENT; i++) {
		uint64_t recent = ahead->recent[i];

		near |= recent && (recent < address ? address - recent : recent - address) < ahead->near;
	}
	ahead->recent[ahead->next++ % AHEAD_RECENT] = address;
	if (!near)
		ahead->window /= 2;
	else
		ahead->window = ahead->window ? 2 * ahead->window : AHEAD_FIRST;
	if (ahead->window > ahead->most)
		ahead->window = ahead->most;
	window = near ? ahead->window : 0;
	mutex_unlock(&ahead->lock);
	return window;
}

/* All of it that is not here yet, with one request. */
static void ahead_fill(struct fs *fs, uint64_t from, uint32_t count, struct iobuf *buf, struct mirror_pin *pin)
{
	struct mirror_io io = { .op = MIRROR_READ, .block = from, .count = count, .buf = buf, .pin = pin };
	struct cache_page *pages[EXTENT_BLOCKS_MAX];
	uint32_t missing = 0;
	int error = 0;

	for (uint32_t i = 0; i < count; i++) {
		int got = cache_get(&fs->ahead.space, from + i, true, false, &pages[i]);

		if (!got)
			cache_put(pages[i]);
		if (got != 1)
			pages[i] = NULL;
		else
			missing++;
	}
	if (missing)
		error = mirror_submit_wait(fs->mirror, &io);
	for (uint32_t i = 0; i < count; i++) {
		if (!pages[i])
			continue;
		if (!error)
			memcpy(pages[i]->data, io.buf->data + io.buf_offset + (size_t)i * FS_BLOCK, FS_BLOCK);
		cache_filled(pages[i], error);
		cache_put(pages[i]);
	}
	iobuf_put(io.buf);
}

bool ahead_read(struct fs *fs, uint64_t address, uint32_t count, struct mirror_pin *pin)
{
	uint32_t window = ahead_window(&fs->ahead, address);
	uint64_t from, end;
	struct iobuf *buf;

	if (window <= count || !cache_has_spare(fs->cache, window * FS_BLOCK))
		return false;
	from = address / window * window;
	end = from + window;
	if (end < address + count)
		end = address + count;
	if (end > mirror_blocks(fs->mirror))
		end = mirror_blocks(fs->mirror);
	buf = iobuf_try_get(mirror_pool(fs->mirror), (size_t)(end - from) * FS_BLOCK);
	if (!buf)
		return false;
	ahead_fill(fs, from, (uint32_t)(end - from), buf, pin);
	return true;
}
