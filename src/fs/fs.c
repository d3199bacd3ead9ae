/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The filesystem as a whole: opened over a tree and a cache, synced, asked how full it is, closed. */
#include "fs_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void fs_format_root(struct format_inode *root, uid_t uid, gid_t gid)
{
	struct timespec now = inode_now();
	struct inode_attr attr = {
		.mode = S_IFDIR | 0755,
		.uid = uid,
		.gid = gid,
		.nlink = 2,
		.atime = now,
		.mtime = now,
		.ctime = now,
		.btime = now,
		.generation = 1,
		.parent = OBJECT_ROOT,
	};

	inode_encode(&attr, root);
}

static int fs_check_root(struct fs *fs, struct error *error)
{
	struct inode *root;
	int result = inode_get_directory(fs, OBJECT_ROOT, &root);

	if (result)
		return error_set(error, result == -ESTALE || result == -ENOTDIR ? -EIO : result,
				 "the root directory cannot be read: %s", strerror(-result));
	inode_put(root);
	return 0;
}

int fs_open(struct meta *meta, struct cache *cache, const struct fs_options *options, struct fs **result,
	    struct error *error)
{
	struct fs *fs = calloc(1, sizeof(*fs));
	struct meta_super_info info;
	struct cache_stats stats;
	int failed;

	*result = NULL;
	if (!fs)
		return error_set(error, -ENOMEM, "no memory for the filesystem");
	fs->meta = meta;
	fs->cache = cache;
	fs->mirror = meta_mirror(meta);
	failed = ahead_init(fs);
	fs->read_only = options->read_only;
	fs->durable_names = options->durable_names;
	fs_set_atime(fs, &options->atime);
	fs->hash = siphash;
	meta_super_info(meta, &info);
	memcpy(fs->hash_key, info.hash_key, sizeof(fs->hash_key));
	mutex_init(&fs->rename, RANK_FS_RENAME);
	mutex_init(&fs->table_lock, RANK_FS_TABLE);
	placement_init(&fs->placement);
	cond_init(&fs->loaded);
	RB_INIT(&fs->table);
	TAILQ_INIT(&fs->idle);
	TAILQ_INIT(&fs->unsynced);
	cache_stats(cache, &stats);
	fs->inodes_most = options->inodes ? options->inodes : stats.budget_bytes / 8 / sizeof(struct inode);
	cond_init(&fs->reaper.moved);
	TAILQ_INIT(&fs->reaper.queue);
	if (failed)
		error_set(error, failed, "no memory for the filesystem");
	else
		failed = fs_check_root(fs, error);
	if (!failed && !fs->read_only)
		failed = orphan_reaper_start(fs);
	if (failed) {
		fs_close(fs);
		return failed;
	}
	if (!fs->read_only)
		orphan_recover(fs);
	*result = fs;
	return 0;
}

bool fs_takes_writes(const struct fs *fs)
{
	return !fs->read_only && !mirror_failed(fs->mirror);
}

void fs_get_label(struct fs *fs, char *label, size_t size)
{
	struct mirror_status status;

	mirror_status(fs->mirror, &status);
	snprintf(label, size, "%s", status.identity.label);
}

int fs_set_label(struct fs *fs, const char *label)
{
	return fs_takes_writes(fs) ? mirror_set_label(fs->mirror, label) : -EROFS;
}

int fs_shutdown(struct fs *fs)
{
	int error = fs_takes_writes(fs) ? meta_sync(fs->meta, meta_sequence(fs->meta)) : 0;

	mirror_fail(fs->mirror, "shut down by request");
	return error;
}

int fs_promise(struct fs *fs, uint64_t blocks)
{
	uint64_t steps;
	int error;

	do {
		steps = orphan_steps(fs);
		error = meta_promise(fs->meta, blocks);
	} while (error == -ENOSPC && orphan_wait(fs, steps));
	return error;
}

void fs_set_atime(struct fs *fs, const struct fs_atime_options *options)
{
	atomic_store(&fs->atime, options->mode);
	atomic_store(&fs->atime_not_directories, options->not_directories);
}

int fs_close(struct fs *fs)
{
	int error = fs_sync(fs);

	inode_forget_all(fs);
	orphan_reaper_stop(fs);
	inode_table_fini(fs);
	ahead_fini(fs);
	known_fini(fs);
	cond_fini(&fs->reaper.moved);
	cond_fini(&fs->loaded);
	mutex_fini(&fs->table_lock);
	placement_fini(&fs->placement);
	mutex_fini(&fs->rename);
	free(fs);
	return error;
}

int fs_trim(struct fs *fs, uint64_t start, uint64_t length, uint64_t at_least, uint64_t *trimmed)
{
	struct meta_trim trim = { .start = start / FS_BLOCK, .length = length / FS_BLOCK,
				  .at_least = at_least / FS_BLOCK };
	int error = fs->read_only ? -EROFS : meta_trim(fs->meta, &trim);

	*trimmed = trim.trimmed * FS_BLOCK;
	return error;
}

void fs_charge(struct fs *fs, ssize_t bytes)
{
	cache_charge(fs->cache, bytes);
}

int fs_statfs(struct fs *fs, struct statvfs *st)
{
	struct meta_statfs space;
	uint64_t dying;

	meta_statfs(fs->meta, &space);
	mutex_lock(&fs->table_lock);
	dying = fs->reaper.blocks;
	mutex_unlock(&fs->table_lock);
	*st = (struct statvfs){
		.f_bsize = FS_BLOCK,
		.f_frsize = FS_BLOCK,
		.f_blocks = space.blocks,
		.f_bfree = space.free + dying,
		.f_bavail = space.available + dying,
		.f_namemax = INODE_NAME_MAX,
	};
	return 0;
}
