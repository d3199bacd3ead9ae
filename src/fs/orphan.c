/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Notes of what is to be cut, and their carrying out. The transaction that takes an inode's last name, or cuts a file
 * of which not everything can be unmapped at once, puts a note; the one that removes the last piece removes it. So
 * nothing is lost to a crash between: fs_open() carries out every note it finds.
 */
#include "fs_private.h"

#include "mirrorfs/base/log.h"

#include <errno.h>

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

static int orphan_delete_content(struct inode *inode)
{
	uint64_t block = inode_is_file(inode) ? 0 : FS_BLOCKS_END, freed;
	bool last = false;
	int error = 0;

	while (!error && !last) {
		struct meta_txn *txn = meta_txn_begin(inode->fs->meta);

		if (!txn)
			return -ENOMEM;
		if (block < FS_BLOCKS_END)
			error = meta_map_punch(txn, inode->number, &block, FS_BLOCKS_END, &freed);
		if (error) {
			meta_txn_abort(txn);
			return error;
		}
		last = block == FS_BLOCKS_END && !meta_txn_full(txn, 3, 0);
		if (last)
			orphan_delete_items(txn, inode);
		error = meta_txn_commit(txn, NULL);
	}
	return error;
}

int orphan_delete(struct inode *inode)
{
	int error;

	if (inode_is_file(inode))
		filepage_drop(inode, 0, UINT64_MAX);
	error = orphan_delete_content(inode);
	if (error)
		log_warn("a file without a name waits for the next mount inode=%llu error=%d",
			 (unsigned long long)inode->number, error);
	return error;
}

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
