/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fs: what POSIX says. Inodes, directories, files, links, rename, and files without a name.
 *
 * Numbers: an inode is named by its object number; the root is OBJECT_ROOT. Numbers are never reused. An inode that
 * a caller has looked up stays known until it is forgotten as often (fs_forget); its content goes when it
 * has neither a name nor anyone who knows it.
 *
 * Permissions are checked above (default_permissions); fs enforces what needs the tree: a directory that is not
 * empty, a name that exists, sizes, limits, and what a write does to setuid and setgid bits.
 *
 * Every call may wait for I/O and returns 0 or -errno. Names are bytes without NUL and '/', 1 .. INODE_NAME_MAX of
 * them, else -EINVAL or -ENAMETOOLONG. Any number of threads may call at once.
 */
#ifndef MIRRORFS_FS_H
#define MIRRORFS_FS_H

#include "mirrorfs/base/error.h"
#include "mirrorfs/cache.h"
#include "mirrorfs/meta.h"

#include <linux/fs.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/types.h>

struct fs;

/* When a read moves the time of access. What the kernel's cache answers is not seen. */
enum fs_atime {
	FS_ATIME_RELATIVE, /* the first read behind a change, or a day after the last one that did */
	FS_ATIME_STRICT, /* each */
	FS_ATIME_NEVER,
};

struct fs_atime_options {
	enum fs_atime mode;
	bool not_directories; /* for them: never */
};

struct fs_options {
	bool read_only;
	bool durable_names; /* whoever makes, links, renames or removes a name is answered when that is durable */
	struct fs_atime_options atime;
	size_t inodes; /* in memory, before those that no call uses leave it; 0: by the cache's budget */
};

/* The root inode of a new volume, for meta_format(): mode 0755, of this owner, made now. */
void fs_format_root(struct format_inode *root, uid_t uid, gid_t gid);

/*
 * Opens the filesystem in `meta`, deletes what a crash left without a name (unless read-only; what takes long is
 * deleted later). meta and cache stay the caller's and must outlive it.
 */
int fs_open(struct meta *meta, struct cache *cache, const struct fs_options *options, struct fs **fs,
	    struct error *error);
/* From now on; any thread. */
void fs_set_atime(struct fs *fs, const struct fs_atime_options *options);
/* Writes every dirty page and inode; the first error. Forgets all. No call may be running. */
int fs_close(struct fs *fs);

/* Who asks: owner of what is made, and what its mode loses where the directory has no default access list. */
struct fs_caller {
	uid_t uid;
	gid_t gid;
	mode_t umask;
};

/* What a caller learns of an inode. st_ino is its number, st_blksize the best I/O size. */
struct fs_attr {
	struct stat st;
	uint64_t generation;
	struct timespec btime;
	bool blocks_pending; /* st_blocks will change by itself, when what was written has reached the legs */
};

/* ---- names; those that give an attr count as one lookup, to be forgotten ---- */

int fs_lookup(struct fs *fs, uint64_t dir, const char *name, struct fs_attr *attr); /* "." and ".." too */
/* Always 0. A nameless inode is deleted, at once or, where that takes long, by a thread that goes on with it. */
int fs_forget(struct fs *fs, uint64_t inode, uint64_t lookups);
struct fs_forgotten {
	uint64_t inode, lookups;
};
void fs_forget_many(struct fs *fs, const struct fs_forgotten *forgotten, size_t count); /* in fewer transactions */
/* `type_and_mode` as mknod(2): any file type but a directory or symlink; `rdev` for devices. */
int fs_mknod(struct fs *fs, const struct fs_caller *caller, uint64_t dir, const char *name, mode_t type_and_mode,
	     dev_t rdev, struct fs_attr *attr);
int fs_mkdir(struct fs *fs, const struct fs_caller *caller, uint64_t dir, const char *name, mode_t mode,
	     struct fs_attr *attr);
int fs_symlink(struct fs *fs, const struct fs_caller *caller, uint64_t dir, const char *name, const char *target,
	       struct fs_attr *attr);
/* A file without a name, looked up. `linkable`: fs_link() may give it one; otherwise it ends when it is forgotten. */
int fs_tmpfile(struct fs *fs, const struct fs_caller *caller, uint64_t dir, mode_t mode, bool linkable,
	       struct fs_attr *attr);
int fs_link(struct fs *fs, uint64_t inode, uint64_t dir, const char *name, struct fs_attr *attr);
int fs_unlink(struct fs *fs, uint64_t dir, const char *name);
int fs_rmdir(struct fs *fs, uint64_t dir, const char *name);
/*
 * `flags`: RENAME_EXCHANGE alone, or any of RENAME_NOREPLACE and RENAME_WHITEOUT (a device of number 0, the caller's,
 * takes the name that becomes free), else -EINVAL. A file that replaces another brings its data.
 */
int fs_rename(struct fs *fs, const struct fs_caller *caller, uint64_t from_dir, const char *from, uint64_t to_dir,
	      const char *to, unsigned int flags);
/* The target and a NUL. `size` at least PATH_MAX. */
int fs_readlink(struct fs *fs, uint64_t inode, char *target, size_t size);

/*
 * Calls `emit` for each entry behind `cookie` (0: from the start; "." and ".." come first) until it returns
 * false. An entry's `next` is the cookie to go on behind it; it stays valid while entries come and go. With `attrs`
 * each inode is looked up (counted, but for "." and "..") before emit, and forgotten if emit returns false.
 */
struct fs_entry {
	const char *name; /* with a NUL */
	uint64_t inode;
	uint8_t type; /* DT_* */
	uint64_t next;
	const struct fs_attr *attr; /* NULL without `attrs` */
};
int fs_readdir(struct fs *fs, uint64_t dir, uint64_t cookie, bool attrs,
	       bool (*emit)(void *context, const struct fs_entry *entry), void *context);

/* ---- attributes ---- */

int fs_getattr(struct fs *fs, uint64_t inode, struct fs_attr *attr);

#define FS_SET_MODE 1u
#define FS_SET_UID 2u
#define FS_SET_GID 4u
#define FS_SET_SIZE 8u
#define FS_SET_ATIME 16u
#define FS_SET_MTIME 32u
#define FS_SET_CTIME 64u
#define FS_SET_ATIME_NOW 128u
#define FS_SET_MTIME_NOW 256u
#define FS_KILL_SUIDGID 512u /* as a write by an unprivileged caller does */
/* `attr` brings the new values in and the whole state out. A size above the maximum: -EFBIG. */
int fs_setattr(struct fs *fs, uint64_t inode, unsigned int set, struct fs_attr *attr);

/* The flags of chattr(1): others are -EOPNOTSUPP. What a flag forbids is -EPERM, to everybody. */
#define FS_FLAGS_KNOWN ((uint32_t)(FS_IMMUTABLE_FL | FS_APPEND_FL | FS_NODUMP_FL | FS_NOATIME_FL))
int fs_getflags(struct fs *fs, uint64_t inode, uint32_t *flags);
int fs_setflags(struct fs *fs, uint64_t inode, uint32_t flags);
/* Whether it may be opened: -EPERM to write to a file that is immutable, or not just to append to one. */
int fs_may_open(struct fs *fs, uint64_t inode, bool write, bool append);

/*
 * Extended attributes, up to XATTR_VALUE_MAX bytes: names that begin with "user.", "trusted." or "security.", else
 * -EOPNOTSUPP. `flags` as setxattr(2): -EEXIST, -ENODATA. Size 0 asks how much there is; too little room: -ERANGE.
 *
 * And access lists, "system.posix_acl_access" and "system.posix_acl_default", which are inherited, and set the mode
 * that they agree with, as a mode that is set changes them.
 */
#define FS_XATTR_KILL_SGID 0x100 /* of fs_setxattr: an access list takes setgid away */
int fs_setxattr(struct fs *fs, uint64_t inode, const char *name, const void *value, size_t size, int flags);
ssize_t fs_getxattr(struct fs *fs, uint64_t inode, const char *name, void *value, size_t size);
/* Names with a NUL each. `trusted`: those that only root may see, too. */
ssize_t fs_listxattr(struct fs *fs, uint64_t inode, char *names, size_t size, bool trusted);
int fs_removexattr(struct fs *fs, uint64_t inode, const char *name);

/* ---- content ---- */

#define FS_SIZE_MAX ((UINT64_C(1) << 62) - 1) /* of a file, bytes */

#define FS_READ_QUIETLY 1u /* the time of access stays as it is (O_NOATIME) */
#define FS_READ_PAST 2u /* the caller wants no cache (O_DIRECT) */
/* Bytes read into `data`: fewer than `length` only at the end of the file. */
ssize_t fs_read_as(struct fs *fs, uint64_t inode, void *data, size_t length, uint64_t offset, unsigned int flags);
/*
 * The same without waiting, for somebody with other things to do: 0, and `done` is told the result, once, on whatever
 * thread, perhaps before this returns; it must not wait. -EAGAIN: nothing was begun, as fs_read_as() would have to wait
 * for more than a leg; only FS_READ_PAST has a chance. All are done before fs_close().
 */
int fs_read_begin(struct fs *fs, uint64_t inode, void *data, size_t length, uint64_t offset, unsigned int flags,
		  void (*done)(void *context, ssize_t result), void *context);
ssize_t fs_read(struct fs *fs, uint64_t inode, void *data, size_t length, uint64_t offset);

#define FS_WRITE_THROUGH 1u /* answered when the data is on every in-sync leg (O_DIRECT) */
#define FS_WRITE_SYNC 2u /* and when what is needed to read it back is durable (O_DSYNC, O_SYNC) */
#define FS_WRITE_KILL_SUIDGID 4u
#define FS_WRITE_MAPPED 8u /* from mapped memory: it was written when that was allowed */
/* All of `length` or -errno: -ENOSPC, -EFBIG, -EIO, -EROFS. What was accepted can be written out later. */
ssize_t fs_write(struct fs *fs, uint64_t inode, const void *data, size_t length, uint64_t offset, unsigned int flags);

/* `mode` as fallocate(2): 0, KEEP_SIZE, PUNCH_HOLE | KEEP_SIZE, ZERO_RANGE [| KEEP_SIZE]; else -EOPNOTSUPP. */
int fs_fallocate(struct fs *fs, uint64_t inode, int mode, uint64_t offset, uint64_t length);
/*
 * Bytes copied from one file to another, or within one if the ranges do not overlap (-EINVAL): fewer than `length` at
 * the source's end, if an error comes behind them, or if it takes long. What can be is shared: whole blocks that begin
 * at the same place in a block of 4096 bytes.
 */
ssize_t fs_copy_range(struct fs *fs, uint64_t from, uint64_t from_offset, uint64_t to, uint64_t to_offset,
		      uint64_t length);
int fs_lseek(struct fs *fs, uint64_t inode, bool hole, uint64_t *offset); /* -ENXIO as lseek(2) */

/*
 * Durable at return: the data and what is needed to read it, or (all) every attribute too; a directory: all that lies
 * below it, names and data. What failed to be written out since the last report to this `seen` is reported once, though
 * it has been written since: keep one for each open file, set by fs_error_mark(). What still fails is an error each
 * time.
 */
int fs_fsync(struct fs *fs, uint64_t inode, bool data_only, uint64_t *seen);
/* At open: what failed before is not reported, unless nobody has been told of it yet. */
int fs_error_mark(struct fs *fs, uint64_t inode, uint64_t *seen);
/* Whoever has this `seen` knows already, by the failure of a write. */
void fs_error_told(struct fs *fs, uint64_t inode, uint64_t *seen);
int fs_sync(struct fs *fs); /* everything */

/* Memory that the caller keeps for what is open counts against the budget of the cache: so much more of it, or less. */
void fs_charge(struct fs *fs, ssize_t bytes);
int fs_statfs(struct fs *fs, struct statvfs *st); /* what is being deleted counts as free */
/* Tells the legs what is free, in bytes of the volume's space; see meta_trim(). *trimmed: so much of it. */
int fs_trim(struct fs *fs, uint64_t start, uint64_t length, uint64_t at_least, uint64_t *trimmed);

void fs_get_label(struct fs *fs, char *label, size_t size); /* of the volume */
int fs_set_label(struct fs *fs, const char *label); /* on every leg, durably. -EINVAL: too long */
/* The volume turns read-only by error, when what was committed is durable. What was not written out yet is lost. */
int fs_shutdown(struct fs *fs);

struct fs_stats {
	uint64_t inodes; /* in memory */
	uint64_t known; /* not in memory, but looked up */
	uint64_t dirty_inodes;
	uint64_t orphans; /* without a name, still known */
};
void fs_stats(struct fs *fs, struct fs_stats *stats);

/* ---- checking a volume that nobody has open ---- */

enum fs_problem_kind {
	FS_PROBLEM_UNREADABLE, /* items that no leg can give; what depends on them is not judged */
	FS_PROBLEM_ITEM, /* an item that is malformed, of no known kind, or where it has no meaning */
	FS_PROBLEM_INODE, /* an inode is missing or contradicts what it holds */
	FS_PROBLEM_NAME, /* a directory entry that is malformed, in the wrong place, or leads nowhere */
	FS_PROBLEM_PARENT, /* a directory that has two names, or is below itself */
	FS_PROBLEM_LOST, /* no name leads to an inode */
	FS_PROBLEM_LINKS, /* links or entries are miscounted */
	FS_PROBLEM_BLOCKS, /* blocks are miscounted */
	FS_PROBLEM_NOTE, /* a nameless inode without a note of it, or a note without an inode */
	FS_PROBLEM_ALLOCATION, /* what a file has and what is recorded as taken differ */
	FS_PROBLEM_OVERLAP, /* two pieces of files claim one block, or one file's block twice */
	FS_PROBLEM_VOLUME, /* the volume's own numbers */
};

enum fs_remedy {
	FS_REMEDY_NONE,
	FS_REMEDY_SAFE, /* loses nothing */
	FS_REMEDY_LOSSY, /* gives something up, or has to guess */
};

struct fs_problem {
	enum fs_problem_kind kind;
	enum fs_remedy remedy;
	const char *text; /* what is wrong, with the file and the bytes that are lost */
	const char *cure; /* what would be done; "" for FS_REMEDY_NONE */
};

#define FS_CHECK_PASSES 4

struct fs_check {
	/* the caller's */
	bool (*problem)(struct fs_check *check, const struct fs_problem *problem); /* true: put it right */
	void (*progress)(struct fs_check *check, int pass, uint64_t done, uint64_t total); /* may be NULL */
	void *context;
	/* told */
	uint64_t files, directories;
	uint64_t blocks; /* recorded as taken by file data */
	uint64_t nameless; /* inodes that the next mount deletes: no problem */
	uint64_t problems, cured;
};

/*
 * Compares everything in the tree with everything else; nobody else may change it meanwhile. What is to be put right
 * is, by transactions. Memory: 48 bytes an inode. After cures: close, and look again. 0 if all was looked at,
 * whatever was found; -EIO (told as a problem), -ENOMEM, -EROFS: a cure could not be committed.
 */
int fs_check(struct meta *meta, struct fs_check *check);
/* Some path of an inode, for people: "/a/b", or "inode 7, which has no name". */
void fs_check_path(struct meta *meta, uint64_t inode, char *path, size_t size);
/* Those of many at once, ascending by inode, in one pass over all names. `go_on` false: enough. */
struct fs_path {
	uint64_t inode;
	char path[512]; /* one that does not fit is told as a nameless one */
};
void fs_check_paths(struct meta *meta, struct fs_path *paths, size_t count, bool (*go_on)(void *context),
		    void *context);

#endif
