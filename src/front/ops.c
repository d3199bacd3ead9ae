/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The request handlers: each calls `fs` once or twice and answers. They run on the worker that received the request
 * and may wait for I/O there.
 *
 * Left out, so that the kernel does it by itself or stops asking: access (default_permissions), flush (nothing is
 * reported at close), opendir (answered once with ENOSYS: no messages after that, and the kernel caches what readdir
 * gave), locks, poll. ioctl(2): ioctl.c.
 */
#include "front_private.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct fs *fs_of(fuse_req_t req)
{
	struct front *front = fuse_req_userdata(req);

	return front->fs;
}

static struct fs_caller caller_of(fuse_req_t req)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);

	return (struct fs_caller){ .uid = ctx->uid, .gid = ctx->gid, .umask = ctx->umask };
}

static void reply_entry_or_error(fuse_req_t req, int error, const struct fs_attr *attr)
{
	if (error)
		reply_error(req, error);
	else
		reply_entry(req, attr);
}

/* ---- names ---- */

static void op_lookup(fuse_req_t req, fuse_ino_t dir, const char *name)
{
	struct fs_attr attr;
	int error = fs_lookup(fs_of(req), dir, name, &attr);

	if (error == -ENOENT)
		reply_no_entry(req);
	else
		reply_entry_or_error(req, error, &attr);
}

static void op_forget(fuse_req_t req, fuse_ino_t inode, uint64_t lookups)
{
	fs_forget(fs_of(req), inode, lookups);
	fuse_reply_none(req);
}

#define FORGET_BATCH 96u

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	struct fs_forgotten some[FORGET_BATCH];
	size_t filled = 0;

	for (size_t i = 0; i < count; i++) {
		some[filled++] = (struct fs_forgotten){ forgets[i].ino, forgets[i].nlookup };
		if (filled == FORGET_BATCH || i + 1 == count) {
			fs_forget_many(fs_of(req), some, filled);
			filled = 0;
		}
	}
	fuse_reply_none(req);
}

static void op_mknod(fuse_req_t req, fuse_ino_t dir, const char *name, mode_t mode, dev_t rdev)
{
	struct fs_caller caller = caller_of(req);
	struct fs_attr attr;
	int error = fs_mknod(fs_of(req), &caller, dir, name, mode, rdev, &attr);

	reply_entry_or_error(req, error, &attr);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t dir, const char *name, mode_t mode)
{
	struct fs_caller caller = caller_of(req);
	struct fs_attr attr;
	int error = fs_mkdir(fs_of(req), &caller, dir, name, mode, &attr);

	reply_entry_or_error(req, error, &attr);
}

static void op_symlink(fuse_req_t req, const char *target, fuse_ino_t dir, const char *name)
{
	struct fs_caller caller = caller_of(req);
	struct fs_attr attr;
	int error = fs_symlink(fs_of(req), &caller, dir, name, target, &attr);

	reply_entry_or_error(req, error, &attr);
}

static void op_link(fuse_req_t req, fuse_ino_t inode, fuse_ino_t dir, const char *name)
{
	struct fs_attr attr;
	int error = fs_link(fs_of(req), inode, dir, name, &attr);

	reply_entry_or_error(req, error, &attr);
}

static void op_unlink(fuse_req_t req, fuse_ino_t dir, const char *name)
{
	reply_error(req, fs_unlink(fs_of(req), dir, name));
}

static void op_rmdir(fuse_req_t req, fuse_ino_t dir, const char *name)
{
	reply_error(req, fs_rmdir(fs_of(req), dir, name));
}

static void op_rename(fuse_req_t req, fuse_ino_t from_dir, const char *from, fuse_ino_t to_dir, const char *to,
		      unsigned int flags)
{
	struct fs_caller caller = caller_of(req);

	reply_error(req, fs_rename(fs_of(req), &caller, from_dir, from, to_dir, to, flags));
}

static void op_readlink(fuse_req_t req, fuse_ino_t inode)
{
	char target[PATH_MAX];
	int error = fs_readlink(fs_of(req), inode, target, sizeof(target));

	if (error)
		reply_error(req, error);
	else
		fuse_reply_readlink(req, target);
}

/* ---- directories ---- */

struct listing {
	fuse_req_t req;
	char *data;
	size_t size, used;
};

static bool listing_took(struct listing *listing, size_t needed)
{
	if (needed > listing->size - listing->used)
		return false;
	listing->used += needed;
	return true;
}

static bool listing_emit(void *context, const struct fs_entry *entry)
{
	struct listing *listing = context;
	struct stat st = { .st_ino = entry->inode, .st_mode = DTTOIF(entry->type) };

	return listing_took(listing, fuse_add_direntry(listing->req, listing->data + listing->used,
						       listing->size - listing->used, entry->name, &st,
						       (off_t)entry->next));
}

static bool listing_emit_plus(void *context, const struct fs_entry *entry)
{
	struct listing *listing = context;
	struct fuse_entry_param param;

	if (entry->attr)
		reply_entry_fill(&param, entry->attr);
	else
		param = (struct fuse_entry_param){ .attr = { .st_ino = entry->inode, .st_mode = DTTOIF(entry->type) } };
	return listing_took(listing, fuse_add_direntry_plus(listing->req, listing->data + listing->used,
							    listing->size - listing->used, entry->name, &param,
							    (off_t)entry->next));
}

/* The kernel did not take the listing: nor the lookups that it brings. */
static void listing_forget(struct fs *fs, const struct listing *listing)
{
	const struct fuse_direntplus *plus;

	for (size_t at = 0; at < listing->used; at += FUSE_DIRENTPLUS_SIZE(plus)) {
		const char *name;

		plus = (const void *)(listing->data + at);
		name = plus->dirent.name;
		if (plus->entry_out.nodeid && !(name[0] == '.' && plus->dirent.namelen == 1) &&
		    !(name[0] == '.' && name[1] == '.' && plus->dirent.namelen == 2))
			fs_forget(fs, plus->entry_out.nodeid, 1);
	}
}

static void list(fuse_req_t req, fuse_ino_t dir, size_t size, off_t cookie, bool plus)
{
	struct listing listing = { .req = req, .data = (char *)transport_payload(), .size = size };
	struct front *front = fuse_req_userdata(req);
	struct fs *fs = front->fs;
	int error;

	if (listing.size > front->io_max)
		listing.size = front->io_max;
	error = fs_readdir(fs, dir, (uint64_t)cookie, plus, plus ? listing_emit_plus : listing_emit, &listing);
	/* What was listed before an error is told first; the error comes back with the next call. */
	if (error && !listing.used)
		reply_error(req, error);
	else if (fuse_reply_buf(req, listing.data, listing.used) && plus)
		listing_forget(fs, &listing);
}

static void op_opendir(fuse_req_t req, fuse_ino_t dir, struct fuse_file_info *fi)
{
	reply_error(req, -ENOSYS);
}

static void op_readdir(fuse_req_t req, fuse_ino_t dir, size_t size, off_t cookie, struct fuse_file_info *fi)
{
	list(req, dir, size, cookie, false);
}

static void op_readdirplus(fuse_req_t req, fuse_ino_t dir, size_t size, off_t cookie, struct fuse_file_info *fi)
{
	list(req, dir, size, cookie, true);
}

static void op_fsyncdir(fuse_req_t req, fuse_ino_t dir, int data_only, struct fuse_file_info *fi)
{
	reply_error(req, fs_fsync(fs_of(req), dir, data_only, NULL));
}

/* ---- attributes ---- */

static void op_getattr(fuse_req_t req, fuse_ino_t inode, struct fuse_file_info *fi)
{
	struct fs_attr attr;
	int error = fs_getattr(fs_of(req), inode, &attr);

	if (error)
		reply_error(req, error);
	else if (transport_opcode() == OPCODE_STATX)
		statx_reply(req, &attr);
	else
		reply_attr(req, &attr);
}

static unsigned int set_of(int to_set, uint32_t valid)
{
	static const struct {
		int fuse;
		unsigned int fs;
	} map[] = {
		{ FUSE_SET_ATTR_MODE, FS_SET_MODE },	       { FUSE_SET_ATTR_UID, FS_SET_UID },
		{ FUSE_SET_ATTR_GID, FS_SET_GID },	       { FUSE_SET_ATTR_SIZE, FS_SET_SIZE },
		{ FUSE_SET_ATTR_ATIME, FS_SET_ATIME },	       { FUSE_SET_ATTR_MTIME, FS_SET_MTIME },
		{ FUSE_SET_ATTR_CTIME, FS_SET_CTIME },	       { FUSE_SET_ATTR_ATIME_NOW, FS_SET_ATIME_NOW },
		{ FUSE_SET_ATTR_MTIME_NOW, FS_SET_MTIME_NOW },
	};
	unsigned int set = 0;

	for (size_t i = 0; i < sizeof(map) / sizeof(map[0]); i++)
		if (to_set & map[i].fuse)
			set |= map[i].fs;
	/* The kernel sends both where it means now. */
	if (set & FS_SET_ATIME_NOW)
		set &= ~FS_SET_ATIME;
	if (set & FS_SET_MTIME_NOW)
		set &= ~FS_SET_MTIME;
	/*
	 * Before an unprivileged write to a setuid file the kernel asks for nothing by name: it wants these bits gone,
	 * and to learn so from the answer, since it keeps the mode for ever.
	 */
	if (valid & FATTR_KILL_SUIDGID || !(valid & ~(FATTR_FH | FATTR_LOCKOWNER)))
		set |= FS_KILL_SUIDGID;
	return set;
}

static bool is_open_to_write(struct front *front, uint64_t inode)
{
	struct front_handle *handle;
	bool found = false;

	mutex_lock(&front->lock);
	LIST_FOREACH (handle, &front->handles, link)
		found |= handle->inode == inode && handle->writes;
	mutex_unlock(&front->lock);
	return found;
}

/*
 * A chown(2) that changes neither owner nor group looks like that, too: it must not take from a file what only its
 * owner may. Who is about to write has it open.
 */
static int may_kill_suidgid(fuse_req_t req, uint64_t inode)
{
	struct front *front = fuse_req_userdata(req);
	uid_t uid = fuse_req_ctx(req)->uid;
	struct fs_attr attr;
	int error = fs_getattr(front->fs, inode, &attr);
	mode_t mode = attr.st.st_mode;

	if (error || !uid || uid == attr.st.st_uid || S_ISDIR(mode) ||
	    !(mode & S_ISUID || (mode & S_ISGID && mode & S_IXGRP)) || is_open_to_write(front, inode))
		return error;
	return -EPERM;
}

static void op_setattr(fuse_req_t req, fuse_ino_t inode, struct stat *st, int to_set, struct fuse_file_info *fi)
{
	const struct fuse_setattr_in *in = transport_argument();
	struct fs_attr attr = { .st = *st };
	unsigned int set = set_of(to_set, in->valid);
	int error = set == FS_KILL_SUIDGID ? may_kill_suidgid(req, inode) : 0;

	if (!error)
		error = fs_setattr(fs_of(req), inode, set, &attr);
	if (error)
		reply_error(req, error);
	else
		reply_attr(req, &attr);
}

/* ---- extended attributes ---- */

/* Debian's libfuse does not know that the kernel's structure has grown, and takes the name from the middle of it. */
static void op_setxattr(fuse_req_t req, fuse_ino_t inode, const char *name, const char *value, size_t size, int flags)
{
	const struct fuse_setxattr_in *in = transport_argument();
	struct front *front = fuse_req_userdata(req);

	if (front->agreed & FUSE_SETXATTR_EXT) {
		name = (const char *)(in + 1);
		value = name + strlen(name) + 1;
		if (in->setxattr_flags & FUSE_SETXATTR_ACL_KILL_SGID)
			flags |= FS_XATTR_KILL_SGID;
	}
	reply_error(req, fs_setxattr(front->fs, inode, name, value, size, flags));
}

/* `got`: how much there is, or lies in the payload; or -errno. */
static void xattr_reply(fuse_req_t req, ssize_t got, bool asked_size)
{
	if (got < 0)
		reply_error(req, (int)got);
	else if (asked_size)
		fuse_reply_xattr(req, (size_t)got);
	else
		fuse_reply_buf(req, (const char *)transport_payload(), (size_t)got);
}

static void op_getxattr(fuse_req_t req, fuse_ino_t inode, const char *asked, size_t size)
{
	size_t length = strnlen(asked, XATTR_NAME_MAX);
	char name[XATTR_NAME_MAX + 1]; /* it lies where the answer is made */
	ssize_t got;

	memcpy(name, asked, length);
	name[length] = '\0';
	if (size > XATTR_VALUE_MAX)
		size = XATTR_VALUE_MAX;
	got = fs_getxattr(fs_of(req), inode, name, transport_payload(), size);
	xattr_reply(req, got, !size);
}

static void op_listxattr(fuse_req_t req, fuse_ino_t inode, size_t size)
{
	struct fs_caller caller = caller_of(req);
	ssize_t got;

	if (size > XATTR_LIST_MAX)
		size = XATTR_LIST_MAX;
	got = fs_listxattr(fs_of(req), inode, (char *)transport_payload(), size, !caller.uid);
	xattr_reply(req, got, !size);
}

static void op_removexattr(fuse_req_t req, fuse_ino_t inode, const char *name)
{
	reply_error(req, fs_removexattr(fs_of(req), inode, name));
}

static void op_statfs(fuse_req_t req, fuse_ino_t inode)
{
	struct statvfs st;
	int error = fs_statfs(fs_of(req), &st);

	if (error)
		reply_error(req, error);
	else
		fuse_reply_statfs(req, &st);
}

/* ---- files ---- */

static struct front_handle *handle_of(const struct fuse_file_info *fi)
{
	return (struct front_handle *)(uintptr_t)fi->fh;
}

#define HANDLE_BYTES ((ssize_t)(sizeof(struct front_handle) + 2 * sizeof(size_t))) /* with what malloc adds */

/* `seen`: failures of the file that this descriptor is not to be told of. */
static int handle_open(struct front *front, uint64_t inode, uint64_t seen, struct fuse_file_info *fi)
{
	struct front_handle *handle = malloc(sizeof(*handle));

	if (!handle)
		return -ENOMEM;
	handle->inode = inode;
	handle->writes = (fi->flags & O_ACCMODE) != O_RDONLY;
	atomic_init(&handle->seen, seen);
	mutex_lock(&front->lock);
	LIST_INSERT_HEAD(&front->handles, handle, link);
	mutex_unlock(&front->lock);
	fs_charge(front->fs, HANDLE_BYTES);
	fi->fh = (uintptr_t)handle;
	fi->keep_cache = 1;
	return 0;
}

void ops_release(struct front *front, uint64_t fh)
{
	struct front_handle *handle = (struct front_handle *)(uintptr_t)fh;

	mutex_lock(&front->lock);
	LIST_REMOVE(handle, link);
	mutex_unlock(&front->lock);
	fs_charge(front->fs, -HANDLE_BYTES);
	free(handle);
}

static void op_open(fuse_req_t req, fuse_ino_t inode, struct fuse_file_info *fi)
{
	struct front *front = fuse_req_userdata(req);
	int error = fs_may_open(front->fs, inode, (fi->flags & O_ACCMODE) != O_RDONLY, fi->flags & O_APPEND);
	uint64_t seen;

	if (!error)
		error = fs_error_mark(front->fs, inode, &seen);
	if (!error)
		error = handle_open(front, inode, seen, fi);

	if (error)
		reply_error(req, error);
	else if (fuse_reply_open(req, fi))
		ops_release(front, fi->fh);
}

/* And O_TMPFILE, of which the name means nothing. */
static void op_create(fuse_req_t req, fuse_ino_t dir, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	struct front *front = fuse_req_userdata(req);
	struct fs_caller caller = caller_of(req);
	struct fs *fs = front->fs;
	struct fuse_entry_param entry;
	struct fs_attr attr;
	int error;

	if (transport_opcode() == OPCODE_TMPFILE)
		error = fs_tmpfile(fs, &caller, dir, mode, !(fi->flags & O_EXCL), &attr);
	else
		error = fs_mknod(fs, &caller, dir, name, S_IFREG | (mode & 07777), 0, &attr);
	if (error) {
		reply_error(req, error);
		return;
	}
	error = handle_open(front, attr.st.st_ino, 0, fi);
	if (error) {
		fs_forget(fs, attr.st.st_ino, 1);
		reply_error(req, error);
		return;
	}
	reply_entry_fill(&entry, &attr);
	if (fuse_reply_create(req, &entry, fi)) {
		ops_release(front, fi->fh);
		fs_forget(fs, attr.st.st_ino, 1);
	}
}

static void op_release(fuse_req_t req, fuse_ino_t inode, struct fuse_file_info *fi)
{
	ops_release(fuse_req_userdata(req), fi->fh);
	reply_error(req, 0);
}

static void op_read(fuse_req_t req, fuse_ino_t inode, size_t size, off_t offset, struct fuse_file_info *fi)
{
	struct front *front = fuse_req_userdata(req);
	unsigned char *data = transport_payload();
	unsigned int flags = 0;
	ssize_t got = -EINVAL;

	if (fi->flags & O_NOATIME)
		flags |= FS_READ_QUIETLY;
	if (fi->flags & O_DIRECT)
		flags |= FS_READ_PAST;
	if (size <= front->io_max)
		got = fs_read_as(front->fs, inode, data, size, (uint64_t)offset, flags);
	if (got < 0)
		reply_error(req, (int)got);
	else
		fuse_reply_buf(req, (const char *)data, (size_t)got);
}

/* This write has told of what failed: the next fsync through this descriptor does not tell it again. */
static void handle_told(struct fs *fs, fuse_ino_t inode, const struct fuse_file_info *fi)
{
	struct front_handle *handle = handle_of(fi);
	uint64_t seen = atomic_load(&handle->seen);

	fs_error_told(fs, inode, &seen);
	atomic_store(&handle->seen, seen);
}

static void op_write(fuse_req_t req, fuse_ino_t inode, const char *data, size_t size, off_t offset,
		     struct fuse_file_info *fi)
{
	const struct fuse_write_in *in = transport_argument();
	unsigned int flags = 0;
	ssize_t done;

	/* The flags come with each write: fcntl(2) may have changed them since the open, RWF_DSYNC adds to them. */
	if (fi->flags & O_DIRECT)
		flags |= FS_WRITE_THROUGH;
	if (fi->flags & O_DSYNC)
		flags |= FS_WRITE_THROUGH | FS_WRITE_SYNC;
	if (in->write_flags & FUSE_WRITE_KILL_SUIDGID)
		flags |= FS_WRITE_KILL_SUIDGID;
	if (in->write_flags & FUSE_WRITE_CACHE)
		flags |= FS_WRITE_MAPPED;
	done = fs_write(fs_of(req), inode, data, size, (uint64_t)offset, flags);
	if (done < 0 && flags & (FS_WRITE_THROUGH | FS_WRITE_SYNC))
		handle_told(fs_of(req), inode, fi);
	if (done < 0)
		reply_error(req, (int)done);
	else
		fuse_reply_write(req, (size_t)done);
}

static void op_fsync(fuse_req_t req, fuse_ino_t inode, int data_only, struct fuse_file_info *fi)
{
	struct front_handle *handle = handle_of(fi);
	uint64_t seen = atomic_load(&handle->seen);
	int error = fs_fsync(fs_of(req), inode, data_only, &seen);

	atomic_store(&handle->seen, seen);
	reply_error(req, error);
}

static void op_fallocate(fuse_req_t req, fuse_ino_t inode, int mode, off_t offset, off_t length,
			 struct fuse_file_info *fi)
{
	reply_error(req, fs_fallocate(fs_of(req), inode, mode, (uint64_t)offset, (uint64_t)length));
}

static void op_copy_file_range(fuse_req_t req, fuse_ino_t from, off_t from_offset, struct fuse_file_info *from_fi,
			       fuse_ino_t to, off_t to_offset, struct fuse_file_info *to_fi, size_t length, int flags)
{
	const size_t most = UINT32_MAX & ~(size_t)0xfffff; /* the answer has 32 bits */
	ssize_t done = -EINVAL;

	if (length > most)
		length = most;
	if (!flags)
		done = fs_copy_range(fs_of(req), from, (uint64_t)from_offset, to, (uint64_t)to_offset, length);
	if (done < 0)
		reply_error(req, (int)done);
	else
		fuse_reply_write(req, (size_t)done);
}

static void op_lseek(fuse_req_t req, fuse_ino_t inode, off_t offset, int whence, struct fuse_file_info *fi)
{
	uint64_t at = (uint64_t)offset;
	int error = -EINVAL;

	if (whence == SEEK_DATA || whence == SEEK_HOLE)
		error = offset < 0 ? -ENXIO : fs_lseek(fs_of(req), inode, whence == SEEK_HOLE, &at);
	if (error)
		reply_error(req, error);
	else
		fuse_reply_lseek(req, (off_t)at);
}

static void op_ioctl(fuse_req_t req, fuse_ino_t inode, unsigned int command, void *argument, struct fuse_file_info *fi,
		     unsigned int flags, const void *in, size_t in_size, size_t out_size)
{
	ioctl_serve(req, inode, command, in, in_size, out_size);
}

const struct fuse_lowlevel_ops ops_table = {
	.lookup = op_lookup,
	.forget = op_forget,
	.forget_multi = op_forget_multi,
	.mknod = op_mknod,
	.mkdir = op_mkdir,
	.symlink = op_symlink,
	.link = op_link,
	.unlink = op_unlink,
	.rmdir = op_rmdir,
	.rename = op_rename,
	.readlink = op_readlink,
	.opendir = op_opendir,
	.readdir = op_readdir,
	.readdirplus = op_readdirplus,
	.fsyncdir = op_fsyncdir,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.setxattr = op_setxattr,
	.getxattr = op_getxattr,
	.listxattr = op_listxattr,
	.removexattr = op_removexattr,
	.statfs = op_statfs,
	.open = op_open,
	.create = op_create,
	.release = op_release,
	.read = op_read,
	.write = op_write,
	.fsync = op_fsync,
	.fallocate = op_fallocate,
	.lseek = op_lseek,
	.copy_file_range = op_copy_file_range,
	.ioctl = op_ioctl,
};
