/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reads and writes of whole blocks go past the cache if they are long, or if a program wants just this (O_DIRECT):
 * they would turn over much of it, and be copied once more, for nothing. A reader's kernel keeps what it has read in
 * memory of its own. Who reads the same again before long has not kept it: then pages are filled. Past it goes what is
 * to be on the legs before it is answered, but for what is short and to be durable, which the journal takes.
 *
 * Writes to one file that come together go together: while the legs have those of one writer the others queue up, and
 * whoever comes next writes for all of them, side by side wherever in the file they belong, in one transaction. Each is
 * answered when that is on the legs. A long one is copied and summed while it waits for its turn.
 *
 * Pages and legs never tell different things. A block that is in a page is read from there, and a write goes past clean
 * pages only, which it drops when the new blocks are in the tree; under the content lock none becomes dirty meanwhile.
 * That is held shared: readers go on, and get a block as it was or as it becomes. A write that fails has changed
 * neither tree nor pages.
 */
#include "fs_private.h"

#include "mirrorfs/base/crc32c.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

ssize_t direct_read(struct inode *inode, unsigned char *data, uint64_t block, uint64_t count, uint64_t least)
{
	uint32_t most = count < EXTENT_BLOCKS_MAX ? (uint32_t)count : EXTENT_BLOCKS_MAX;
	size_t gap = cache_gap(&inode->space, block, most);
	int error;

	if (gap < least || !cache_pass(&inode->space, block, gap))
		return 0;
	error = filepage_fetch(inode, block, (uint32_t)gap, data);
	return error ? error : (ssize_t)gap;
}

static int compare_block(const void *a, const void *b)
{
	const struct direct_turn *x = *(struct direct_turn *const *)a, *y = *(struct direct_turn *const *)b;

	return x->block < y->block ? -1 : x->block > y->block;
}

/*
 * As much as has room, by ascending block: so what is in order in the file will be so on the legs. But it begins with
 * who came first, and goes round: so everybody's turn comes. 0 or why there was an end.
 */
static int direct_fill(struct writeout *wo, struct inode *inode, struct direct_turn **turns, size_t count)
{
	const struct direct_turn *oldest = turns[0];
	size_t first = 0, all = 0;
	ssize_t added = 1;

	qsort(turns, count, sizeof(turns[0]), compare_block);
	for (size_t i = 0; i < count; i++) {
		all += turns[i]->count;
		first = turns[i] == oldest ? i : first;
	}
	for (size_t i = 0; i < count && added > 0; i++) {
		struct direct_turn *turn = turns[(first + i) % count];

		while (turn->taken < turn->count && added > 0) {
			added = writeout_add_blocks(wo, inode, turn->block + turn->taken, &turn->blocks, turn->taken,
						    turn->count - turn->taken, all - wo->taken);
			turn->taken += added > 0 ? (uint64_t)added : 0;
		}
	}
	return added < 0 ? (int)added : 0;
}

/* One transaction for all of them; who got nothing of it waits on. */
static void direct_write_out(struct inode *inode, struct direct_turn **turns, size_t count)
{
	struct writeout wo;
	int error;

	mutex_lock(&inode->log);
	error = writeout_begin(&wo, inode->fs);
	if (!error) {
		wo.side_by_side = count > 1;
		error = direct_fill(&wo, inode, turns, count);
		if (wo.taken) {
			error = writeout_commit(&wo);
		} else {
			writeout_cancel(&wo);
			error = error ? error : -EAGAIN; /* no room at all: the pages know how to go on */
		}
	}
	mutex_unlock(&inode->log);
	/* By way of pages each is tried by itself, so none suffers from what is wrong with another. */
	if (error && count > 1)
		error = -EAGAIN;
	for (size_t i = 0; i < count; i++)
		turns[i]->result = error ? error : (ssize_t)turns[i]->taken;
}

/* Those at the head of the queue for whom one transaction may have room. State lock held. */
static size_t direct_gather_locked(struct inode *inode, struct direct_turn *turns[DIRECT_TURNS])
{
	struct direct_turn *turn;
	uint64_t blocks = 0;
	size_t count = 0;

	TAILQ_FOREACH (turn, &inode->turns, link) {
		if (count == DIRECT_TURNS || blocks >= WRITEOUT_BLOCKS)
			break;
		turns[count++] = turn;
		blocks += turn->count;
	}
	return count;
}

/* Writes for all who wait, its caller perhaps among them. State lock held, given up meanwhile. */
static void direct_lead_locked(struct inode *inode)
{
	struct direct_turn *turns[DIRECT_TURNS];
	size_t count = direct_gather_locked(inode, turns);

	inode->turn_runs = true;
	mutex_unlock(&inode->state);
	direct_write_out(inode, turns, count);
	mutex_lock(&inode->state);
	inode->turn_runs = false;
	for (size_t i = 0; i < count; i++) {
		if (!turns[i]->result)
			continue;
		turns[i]->over = true;
		TAILQ_REMOVE(&inode->turns, turns[i], link);
		cond_signal(&turns[i]->moved);
	}
	if (!TAILQ_EMPTY(&inode->turns))
		cond_signal(&TAILQ_FIRST(&inode->turns)->moved);
}

static void direct_wait(struct inode *inode, struct direct_turn *turn)
{
	cond_init(&turn->moved);
	mutex_lock(&inode->state);
	TAILQ_INSERT_TAIL(&inode->turns, turn, link);
	while (!turn->over) {
		if (inode->turn_runs)
			cond_wait(&turn->moved, &inode->state);
		else
			direct_lead_locked(inode);
	}
	mutex_unlock(&inode->state);
	cond_fini(&turn->moved);
}

void direct_copy_early(struct fs *fs, struct writeout_blocks *blocks, size_t count)
{
	if (count >= LONG_BLOCKS && count <= EXTENT_BLOCKS_MAX)
		blocks->buf = iobuf_try_get_early(mirror_pool(fs->mirror), count * FS_BLOCK);
	for (size_t i = 0; blocks->buf && i < count; i++) {
		unsigned char *to = blocks->buf->data + i * FS_BLOCK;

		memcpy(to, blocks->bytes + i * FS_BLOCK, FS_BLOCK);
		blocks->crc[i] = crc32c(to, FS_BLOCK);
	}
}

/* Somebody else writes: meanwhile. */
static void direct_prepare(struct inode *inode, struct direct_turn *turn)
{
	bool waits;

	mutex_lock(&inode->state);
	waits = inode->turn_runs;
	mutex_unlock(&inode->state);
	if (waits)
		direct_copy_early(inode->fs, &turn->blocks, turn->count);
}

static void direct_touch(struct inode *inode, bool kill)
{
	change_touch(inode, true);
	mutex_lock(&inode->state);
	if (kill)
		inode->attr.mode = file_kill_suidgid(inode->attr.mode);
	inode->failing = false;
	mutex_unlock(&inode->state);
}

/* Blocks beyond a cut may still be mapped, or a page may be newer than what is mapped: the pages know how to go on. */
static bool direct_may_write(struct inode *inode, uint64_t block, uint64_t count)
{
	bool unfinished;

	mutex_lock(&inode->state);
	unfinished = inode->truncating;
	mutex_unlock(&inode->state);
	return !unfinished && !cache_range_dirty(&inode->space, block, block + count - 1);
}

ssize_t direct_write(struct inode *inode, const unsigned char *data, uint64_t block, uint64_t count, bool kill)
{
	struct direct_turn turn = { .block = block, .count = count, .blocks.bytes = data };
	struct fs *fs = inode->fs;
	ssize_t done;

	rwlock_read(&inode->content);
	done = direct_may_write(inode, block, count) ? fs_promise(fs, count) : -EAGAIN;
	if (!done) {
		direct_touch(inode, kill);
		direct_prepare(inode, &turn);
		direct_wait(inode, &turn);
		iobuf_put(turn.blocks.buf);
		done = turn.result;
		meta_unpromise(fs->meta, count - turn.taken);
	}
	if (done > 0)
		filepage_drop(inode, block, block + (uint64_t)done - 1);
	rwlock_unlock(&inode->content);
	return done == -EROFS ? -EIO : done; /* the legs have failed since it was opened */
}
