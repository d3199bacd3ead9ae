/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The answer to STATX: what the kernel asks with when somebody wants to know when a file was made. */
#include "front_private.h"

#include <linux/stat.h>
#include <string.h>
#include <sys/sysmacros.h>

/* As <linux/fuse.h> has them from version 7.39 on. */
struct statx_time {
	int64_t seconds;
	uint32_t nanoseconds;
	int32_t reserved;
};

struct statx_answer {
	uint64_t valid_seconds;
	uint32_t valid_nanoseconds;
	uint32_t flags;
	uint64_t reserved[2];
	uint32_t mask;
	uint32_t blksize;
	uint64_t attributes;
	uint32_t nlink, uid, gid;
	uint16_t mode, reserved1;
	uint64_t ino, size, blocks;
	uint64_t attributes_mask;
	struct statx_time atime, btime, ctime, mtime;
	uint32_t rdev_major, rdev_minor, dev_major, dev_minor;
	uint64_t reserved2[14];
};
static_assert(sizeof(struct statx_answer) == 32 + 256, "the kernel's");

static struct statx_time time_of(const struct timespec *time)
{
	return (struct statx_time){ .seconds = time->tv_sec, .nanoseconds = (uint32_t)time->tv_nsec };
}

void statx_reply(fuse_req_t req, const struct fs_attr *attr)
{
	const struct stat *st = &attr->st;
	struct statx_answer answer = {
		.valid_seconds = (uint64_t)reply_attr_seconds(attr),
		.mask = STATX_BASIC_STATS | STATX_BTIME,
		.blksize = (uint32_t)st->st_blksize,
		.nlink = (uint32_t)st->st_nlink,
		.uid = st->st_uid,
		.gid = st->st_gid,
		.mode = (uint16_t)st->st_mode,
		.ino = st->st_ino,
		.size = (uint64_t)st->st_size,
		.blocks = (uint64_t)st->st_blocks,
		.atime = time_of(&st->st_atim),
		.btime = time_of(&attr->btime),
		.ctime = time_of(&st->st_ctim),
		.mtime = time_of(&st->st_mtim),
		.rdev_major = major(st->st_rdev),
		.rdev_minor = minor(st->st_rdev),
	};

	fuse_reply_buf(req, (const char *)&answer, sizeof(answer));
}
