/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Notes of what is to be cut, and their carrying out. The transaction that takes an inode's last name, or cuts a file
 * of which not everything can be unmapped at once, puts a note; the one that removes the last piece removes it. So
 * nothing is lost to a crash between: fs_open() carries out every note it finds.
 *
 * A file in very many pieces takes long to delete, and whoever forgot it last, or mounts, does not wait for that:
 * behind the first few transactions a thread of its own goes on, the reaper. What it still has to free counts as free,
 * and who finds no room waits for it. A thread that waits so may hold any lock of an inode: the reaper takes none but
 * `state`.
 */
#include "fs_private.h"

#include "mirrorfs/base/log.h"

#include <errno.h>

#define ORPHAN_STEPS 8u /* transactions of a deletion in a row, and within a call of somebody else's */

static struct meta_key orphan_key(uint64_t number)
{
	return (struct meta_key){ .object = OBJECT_VOLUME, .type = TYPE_ORPHAN, .offset = number };
}

void orphan_put(struct meta_txn *txn, uint64_t number)
{
	const struct meta_key key = orphan_key(number);

	meta_txn_put(txn, &key, NULL, 0);
}

void orphan_remove(struct meta_txn *txn, uint64_t number)
{
	const struct meta_key key = orphan_key(number);

	meta_txn_delete(txn, &key);
}

static void orphan_delete_items(struct meta_txn *txn, struct inode *inode)
{
	const struct meta_key key = inode_key(inode->number);
	const struct meta_key symlink = { .object = inode->number, .type = TYPE_SYMLINK };

	meta_txn_delete(txn, &key);
	if (S_ISLNK(inode->attr.mode))
		meta_txn_delete(txn, &symlink);
	orphan_remove(txn, inode->number);
}

/* How far the deletion of one is. */
struct orphan_progress {
	uint64_t block, xattr; /* what comes next */
	uint64_t freed;
};

static struct orphan_progress orphan_begin(const struct inode *inode)
{
	return (struct orphan_progress){ .block = inode_is_file(inode) ? 0 : FS_BLOCKS_END };
}

/* As much as the transaction takes. 0: all of it; -EAGAIN: there is more; or what went wrong. */
static int orphan_take_apart(struct meta_txn *txn, struct inode *inode, struct orphan_progress *progress)
{
	uint64_t blocks = 0;
	int error = 0;

	if (progress->block < FS_BLOCKS_END)
		error = meta_map_punch(txn, inode->number, &progress->block, FS_BLOCKS_END, &blocks);
	progress->freed += blocks;
	if (!error && (progress->block < FS_BLOCKS_END || meta_txn_full(txn, 4, 0)))
		error = -EAGAIN;
	if (!error)
		error = xattr_drop_some(txn, inode, &progress->xattr);
	if (!error)
		orphan_delete_items(txn, inode);
	return error;
}

/* At most so many transactions. 0, -EAGAIN: there is more to do, or what went wrong. */
static int orphan_delete_some(struct inode *inode, uint64_t *freed)
{
	struct orphan_progress progress = orphan_begin(inode);
	int part = -EAGAIN, error = 0;

	*freed = 0;
	for (unsigned int step = 0; step < ORPHAN_STEPS && !error && part == -EAGAIN; step++) {
		struct meta_txn *txn = meta_txn_begin(inode->fs->meta);

		if (!txn)
			return -ENOMEM;
		part = orphan_take_apart(txn, inode, &progress);
		if (part && part != -EAGAIN) {
			meta_txn_abort(txn);
			return part;
		}
		error = meta_txn_commit(txn, NULL);
		if (!error)
			*freed = progress.freed;
	}
	return error ? error : part;
}

/* All of them in one transaction, or none. */
static int orphan_delete_together(struct inode *const *inodes, unsigned int count)
{
	struct meta_txn *txn = meta_txn_begin(inodes[0]->fs->meta);
	int error = 0;

	if (!txn)
		return -ENOMEM;
	for (unsigned int i = 0; i < count && !error; i++) {
		struct orphan_progress progress = orphan_begin(inodes[i]);

		error = orphan_take_apart(txn, inodes[i], &progress);
	}
	if (!error)
		return meta_txn_commit(txn, NULL);
	meta_txn_abort(txn);
	return error;
}

static int orphan_step(struct inode *inode)
{
	uint64_t freed;
	int error = orphan_delete_some(inode, &freed);

	mutex_lock(&inode->state);
	inode->attr.blocks -= freed < inode->attr.blocks ? freed : inode->attr.blocks;
	mutex_unlock(&inode->state);
	if (error && error != -EAGAIN)
		log_warn("a file without a name waits for the next mount inode=%llu error=%d",
			 (unsigned long long)inode->number, error);
	return error;
}

bool orphan_delete(struct inode *inode)
{
	if (inode_is_file(inode))
		filepage_drop(inode, 0, UINT64_MAX);
	return orphan_step(inode) != -EAGAIN;
}

void orphan_delete_all(struct inode **inodes, unsigned int count)
{
	struct fs *fs = inodes[0]->fs;
	bool together;

	for (unsigned int i = 0; i < count; i++)
		if (inode_is_file(inodes[i]))
			filepage_drop(inodes[i], 0, UINT64_MAX);
	together = !orphan_delete_together(inodes, count);
	for (unsigned int i = 0; i < count; i++) {
		if (together || orphan_step(inodes[i]) != -EAGAIN) {
			inode_bury(inodes[i]);
			continue;
		}
		mutex_lock(&fs->table_lock);
		orphan_hand_over(inodes[i]);
		mutex_unlock(&fs->table_lock);
	}
}

/* ---- the reaper ---- */

/* A dead inode's fields are its deleter's alone. Table lock held. */
void orphan_hand_over(struct inode *inode)
{
	struct fs *fs = inode->fs;

	TAILQ_INSERT_TAIL(&fs->reaper.queue, inode, dying);
	fs->reaper.blocks += inode->attr.blocks;
	cond_broadcast(&fs->reaper.moved);
}

/* A step of the first one in the queue. Table lock held, released meanwhile. */
static void reaper_turn(struct fs *fs, struct inode *inode)
{
	uint64_t before = inode->attr.blocks;
	int error;

	mutex_unlock(&fs->table_lock);
	error = orphan_step(inode);
	mutex_lock(&fs->table_lock);
	fs->reaper.steps++;
	fs->reaper.blocks -= error == -EAGAIN ? before - inode->attr.blocks : before;
	cond_broadcast(&fs->reaper.moved);
	if (error == -EAGAIN)
		return;
	TAILQ_REMOVE(&fs->reaper.queue, inode, dying);
	mutex_unlock(&fs->table_lock);
	inode_bury(inode);
	mutex_lock(&fs->table_lock);
}

static void reaper(void *arg)
{
	struct fs *fs = arg;

	mutex_lock(&fs->table_lock);
	while (!fs->reaper.stop) {
		struct inode *inode = TAILQ_FIRST(&fs->reaper.queue);

		if (inode)
			reaper_turn(fs, inode);
		else
			cond_wait(&fs->reaper.moved, &fs->table_lock);
	}
	mutex_unlock(&fs->table_lock);
}

int orphan_reaper_start(struct fs *fs)
{
	int error = thread_start(&fs->reaper.thread, "reaper", reaper, fs);

	fs->reaper.runs = !error;
	return error;
}

void orphan_reaper_stop(struct fs *fs)
{
	if (!fs->reaper.runs)
		return;
	mutex_lock(&fs->table_lock);
	fs->reaper.stop = true;
	cond_broadcast(&fs->reaper.moved);
	mutex_unlock(&fs->table_lock);
	thread_join(&fs->reaper.thread);
}

uint64_t orphan_steps(struct fs *fs)
{
	uint64_t steps;

	mutex_lock(&fs->table_lock);
	steps = fs->reaper.steps;
	mutex_unlock(&fs->table_lock);
	return steps;
}

bool orphan_wait(struct fs *fs, uint64_t steps)
{
	bool moved;

	mutex_lock(&fs->table_lock);
	while (fs->reaper.steps == steps && !TAILQ_EMPTY(&fs->reaper.queue) && !fs->reaper.stop)
		cond_wait(&fs->reaper.moved, &fs->table_lock);
	moved = fs->reaper.steps != steps;
	mutex_unlock(&fs->table_lock);
	return moved;
}

/* ---- by the next mount ---- */

/* A note that leads nowhere. */
static int orphan_forget(struct fs *fs, uint64_t number)
{
	struct meta_txn *txn = meta_txn_begin(fs->meta);

	if (!txn)
		return -ENOMEM;
	orphan_remove(txn, number);
	return meta_txn_commit(txn, NULL);
}

static int orphan_carry_out(struct fs *fs, uint64_t number)
{
	struct inode *inode;
	int error = inode_get(fs, number, &inode);

	if (error == -ESTALE)
		return orphan_forget(fs, number);
	if (error)
		return error;
	if (inode->attr.nlink) {
		inode->truncating = true;
		rwlock_write(&inode->content);
		error = truncate_finish(inode);
		rwlock_unlock(&inode->content);
	}
	inode_put(inode); /* without a name it goes now */
	return error;
}

void orphan_recover(struct fs *fs)
{
	struct meta_key key = orphan_key(0);
	const struct meta_key last = orphan_key(UINT64_MAX);

	while (meta_next(fs->meta, &key, &last, NULL, 0) >= 0) {
		int error = orphan_carry_out(fs, key.offset);

		if (error)
			log_warn("a note of content to be cut waits for the next mount inode=%llu error=%d",
				 (unsigned long long)key.offset, error);
		if (key.offset++ == UINT64_MAX)
			break;
	}
}
