/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the kernel lets through of ioctl(2). It asks who may set flags (ioctl_iflags(2)) and nothing else: it does not
 * know whose the volume is, so what concerns all of it is for root and for whoever runs this daemon.
 */
#include "front_private.h"

#include <errno.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define IOCTL_SHUTDOWN _IOR('X', 125, uint32_t) /* of XFS, and others */

struct call {
	struct front *front;
	uint64_t inode;
	bool privileged;
	const void *in;
	union {
		uint32_t number;
		struct fsxattr fsxattr;
		struct fstrim_range range;
		char label[FSLABEL_MAX];
	} out;
	size_t answer; /* bytes of `out`, as many as programs have room for */
};

static const struct {
	uint32_t flag, xflag;
} flag_map[] = {
	{ FS_IMMUTABLE_FL, FS_XFLAG_IMMUTABLE },
	{ FS_APPEND_FL, FS_XFLAG_APPEND },
	{ FS_NOATIME_FL, FS_XFLAG_NOATIME },
	{ FS_NODUMP_FL, FS_XFLAG_NODUMP },
};

static int get_flags(struct call *call)
{
	call->answer = sizeof(call->out.number);
	return fs_getflags(call->front->fs, call->inode, &call->out.number);
}

static int set_flags(struct call *call)
{
	uint32_t flags;

	memcpy(&flags, call->in, sizeof(flags));
	return fs_setflags(call->front->fs, call->inode, flags);
}

static int get_xflags(struct call *call)
{
	uint32_t flags;
	int error = fs_getflags(call->front->fs, call->inode, &flags);

	call->answer = sizeof(call->out.fsxattr);
	for (size_t i = 0; i < sizeof(flag_map) / sizeof(flag_map[0]) && !error; i++)
		call->out.fsxattr.fsx_xflags |= flags & flag_map[i].flag ? flag_map[i].xflag : 0;
	return error;
}

static int set_xflags(struct call *call)
{
	uint32_t flags = 0, left;
	struct fsxattr set;

	memcpy(&set, call->in, sizeof(set));
	left = set.fsx_xflags;
	for (size_t i = 0; i < sizeof(flag_map) / sizeof(flag_map[0]); i++) {
		flags |= left & flag_map[i].xflag ? flag_map[i].flag : 0;
		left &= ~flag_map[i].xflag;
	}
	if (left || set.fsx_extsize || set.fsx_projid || set.fsx_cowextsize)
		return -EOPNOTSUPP;
	return fs_setflags(call->front->fs, call->inode, flags);
}

static int get_version(struct call *call)
{
	struct fs_attr attr;
	int error = fs_getattr(call->front->fs, call->inode, &attr);

	call->out.number = (uint32_t)attr.generation;
	call->answer = sizeof(call->out.number);
	return error;
}

static int trim(struct call *call)
{
	struct fstrim_range *range = &call->out.range;
	uint64_t trimmed = 0;
	int error = -EPERM;

	memcpy(range, call->in, sizeof(*range));
	if (call->privileged)
		error = fs_trim(call->front->fs, range->start, range->len, range->minlen, &trimmed);
	range->len = trimmed;
	call->answer = sizeof(*range);
	return error;
}

static int get_label(struct call *call)
{
	fs_get_label(call->front->fs, call->out.label, sizeof(call->out.label));
	call->answer = sizeof(call->out.label);
	return 0;
}

static int set_label(struct call *call)
{
	if (!call->privileged)
		return -EPERM;
	if (!memchr(call->in, '\0', FSLABEL_MAX))
		return -EINVAL;
	return fs_set_label(call->front->fs, call->in);
}

/* How, is lost on the way: the number says that nothing is read from the caller. */
static int shut_down(struct call *call)
{
	return call->privileged ? fs_shutdown(call->front->fs) : -EPERM;
}

static const struct {
	unsigned int command;
	size_t in, out; /* the room that must be there */
	int (*run)(struct call *call);
} calls[] = {
	{ FS_IOC_GETFLAGS, 0, sizeof(uint32_t), get_flags },
	{ FS_IOC_SETFLAGS, sizeof(uint32_t), 0, set_flags },
	{ FS_IOC_FSGETXATTR, 0, sizeof(struct fsxattr), get_xflags },
	{ FS_IOC_FSSETXATTR, sizeof(struct fsxattr), 0, set_xflags },
	{ FS_IOC_GETVERSION, 0, sizeof(uint32_t), get_version },
	{ FS_IOC_GETFSLABEL, 0, FSLABEL_MAX, get_label },
	{ FS_IOC_SETFSLABEL, FSLABEL_MAX, 0, set_label },
	{ IOCTL_SHUTDOWN, 0, 0, shut_down },
	{ FITRIM, sizeof(struct fstrim_range), sizeof(struct fstrim_range), trim },
};

void ioctl_serve(fuse_req_t req, fuse_ino_t inode, unsigned int command, const void *in, size_t in_size,
		 size_t out_size)
{
	uid_t uid = fuse_req_ctx(req)->uid;
	struct call call = {
		.front = fuse_req_userdata(req),
		.inode = inode,
		.privileged = !uid || uid == geteuid(),
		.in = in,
	};
	int error = -ENOTTY;

	/* Of a union an initializer may leave all but the first member as the stack had it. */
	memset(&call.out, 0, sizeof(call.out));
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		if (calls[i].command == command && in_size >= calls[i].in && out_size >= calls[i].out)
			error = calls[i].run(&call);
	}
	if (error)
		reply_error(req, error);
	else
		fuse_reply_ioctl(req, 0, &call.out, call.answer);
}
