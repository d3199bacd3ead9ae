/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fs, inside. What each file is for:
 *
 *   fs.c         open, close, sync, statfs: the whole
 *   inode.c      inodes in memory: the table, references, loading, leaving
 *   known.c      how often callers have looked up those that are not
 *   change.c     a transaction over the items of a few inodes
 *   attr.c       getattr, setattr
 *   dir.c        entries of directories: hash, find, add; lookup, readdir
 *   name.c       mknod, mkdir, symlink, link, unlink, rmdir; files that begin without a name
 *   rename.c     rename
 *   filepage.c       pages of a file: fill from the legs, promises
 *   file.c       read, write
 *   direct.c     what is long and aligned, past the pages
 *   flight.c     reads past the pages that nobody waits for
 *   ahead.c      reads ahead across small files
 *   truncate.c   sizes, fallocate, lseek
 *   copy.c       copy_file_range: sharing, and copying
 *   flags.c      the flags of chattr(1)
 *   xattr.c      extended attributes
 *   acl.c        access control lists: what ties them to modes, and to directories
 *   writeout.c  dirty pages to the legs, of many files together; fsync
 *   orphan.c     what has no name: deleted when nobody knows it, or by the next mount; the reaper
 *   check*.c     does all of it hold together? What fsck asks and puts right; see check_private.h
 *
 * Locks, outer first (the ranks of sync.h):
 *   fs->rename      a rename between two directories: who is whose ancestor stays
 *   inode->content  a directory's entries; a file's pages and size against truncation; extended attributes.
 *                   Directories: parent before child
 *   inode->log      from the encoding of an inode's item to its commit, and while its mappings change: items and
 *                   mappings of one inode enter the tree in order. Several: by ascending address. Whoever holds it may
 *                   wait for I/O, but never for memory of the cache: the cache's writer needs it to free some
 *   fs->table_lock  the table, `lookups`, `references`, `phase`
 *   inode->state    the other fields, and the bytes of pages against the write-out that copies them
 */
#ifndef MIRRORFS_FS_PRIVATE_H
#define MIRRORFS_FS_PRIVATE_H

#include "mirrorfs/base/siphash.h"
#include "mirrorfs/base/sync.h"
#include "mirrorfs/fs.h"

#include <bsd/sys/queue.h>
#include <bsd/sys/tree.h>
#include <stdatomic.h>

#define FS_BLOCK FORMAT_BLOCK
#define FS_BLOCKS_END (FS_SIZE_MAX / FS_BLOCK + 1) /* beyond every file's last block */
#define FS_NLINK_MAX 0x7fffffffu

/* The fields of an inode's item, in the machine's own order. */
struct inode_attr {
	uint32_t mode, uid, gid, nlink;
	uint64_t size; /* bytes; of a directory: entries */
	uint64_t blocks;
	struct timespec atime, mtime, ctime, btime;
	uint32_t rdev;
	uint32_t flags; /* FS_FLAGS_KNOWN */
	uint64_t generation;
	uint64_t parent;
};

enum inode_xattrs {
	XATTRS_UNKNOWN,
	XATTRS_NONE,
	XATTRS_SOME, /* or there were some */
};

enum inode_phase {
	INODE_LOADING,
	INODE_LIVE,
	INODE_DEAD, /* being deleted; its number leads nowhere any more */
};

/* Of a file, or the mark of somebody who looks through them. */
struct unsynced_place {
	TAILQ_ENTRY(unsynced_place) link;
	struct inode *inode; /* NULL: a mark */
};

struct inode {
	RB_ENTRY(inode) link;
	struct fs *fs;
	uint64_t number;

	/* under fs->table_lock */
	enum inode_phase phase;
	uint64_t lookups; /* the callers' */
	unsigned int references; /* calls that run */
	bool idle; /* in fs->idle: looked up, and used by no call */
	TAILQ_ENTRY(inode) idle_link;
	uint64_t found_in; /* the directory that its name was last looked up, made or moved in; 0: not known */
	_Atomic bool unsynced; /* in fs->unsynced */
	struct unsynced_place unsynced_place;

	struct rwlock content;
	struct mutex log;
	struct mutex state;

	uint64_t born_in; /* the directory, of what was created in this mount; 0: not known */

	/* under state; what is in the tree too also under log: blocks, nlink, parent, a directory's size */
	struct inode_attr attr;
	/*
	 * A file's size as its item has it: never ahead of what was written out, unless it was set (truncate,
	 * fallocate). What is mapped holds zeros beyond it, or `truncating` is set.
	 */
	uint64_t logged_size;
	bool attr_dirty; /* the item in the tree is older */
	bool truncating; /* blocks beyond the end may be mapped: a note in the tree says so; changed under log too */
	enum inode_xattrs xattrs;
	bool linkable; /* made without a name, and may be given one */
	uint64_t sequence; /* of the latest commit that this inode was part of */
	/* Write-outs that failed, each counted once however often it is tried again, and of the last one: */
	uint64_t errors;
	int error;
	bool failing; /* and nothing was written to the file since */
	bool error_told; /* to someone */

	/* under log */
	uint64_t goal_block, goal_address; /* where the block after the latest write-out should go */
	uint64_t goal_run; /* how many blocks before that were written in order */

	/* in the reaper's queue; under fs->table_lock */
	TAILQ_ENTRY(inode) dying;

	/* a regular file's pages; see filepage.c */
	struct cache_space space;
	uint64_t evicted_promises; /* of dropped pages, to be given back by the dropper */
	uint64_t copied; /* pages on their way to the legs, which attr.blocks will count; under state */
	uint64_t promised; /* pages that hold one; under state, with the next two */
	uint64_t stream_begin, stream_end; /* of what was last written in order; under state */
	uint64_t recent[META_TXN_DATA_BLOCKS]; /* their indexes, and perhaps others */
	unsigned int recent_count; /* above META_TXN_DATA_BLOCKS: not all of them */

	/* writes past the pages that wait, see direct.c; under state */
	TAILQ_HEAD(, direct_turn) turns;
	bool turn_runs; /* somebody writes for some that have left the queue */
};

RB_HEAD(inode_table, inode);

#define FS_RECENT 256u /* inodes that are found without a search */

#define PLACEMENT_DIRECTORIES 61u

/* Where the small files of some directories went; see placement.c. */
struct placement {
	struct mutex lock;
	struct placement_directory {
		uint64_t number;
		uint64_t goal; /* behind the last one */
		uint64_t blocks; /* that they have */
	} directories[PLACEMENT_DIRECTORIES];
};

/* Inodes that callers have looked up and that are not in memory; see known.c. */
struct known {
	struct known_slot {
		uint64_t number;
		uint64_t lookups; /* 0: free */
	} *slots;
	size_t size, count; /* a power of two or 0 */
};

#define AHEAD_RECENT 4u

/* What was read because something near it was wanted; see ahead.c. */
struct ahead {
	struct cache_space space; /* by block of the volume */
	uint32_t most; /* blocks at a time */
	uint64_t near; /* blocks */
	struct mutex lock;
	uint64_t recent[AHEAD_RECENT]; /* where the beginnings of small files were missed */
	unsigned int next;
	uint32_t window;
};

struct fs {
	struct meta *meta;
	struct cache *cache;
	struct mirror *mirror;
	bool read_only;
	bool durable_names;
	_Atomic(enum fs_atime) atime;
	_Atomic bool atime_not_directories;
	uint8_t hash_key[16];
	uint64_t (*hash)(const uint8_t key[16], const void *data, size_t length); /* of names; siphash */

	struct placement placement;
	struct ahead ahead;
	struct mutex rename;
	struct mutex table_lock;
	struct cond loaded;
	struct inode_table table;
	struct inode *recent[FS_RECENT]; /* of the table, each at its number's place; NULL: none */
	uint64_t inodes, inodes_most; /* in the table, and how many there may be before idle ones leave */
	TAILQ_HEAD(, inode) idle; /* who has been so for longest comes first */
	TAILQ_HEAD(, unsynced_place) unsynced; /* files with pages to write, and others; see sync.c */
	struct known known;

	/* Deletes what takes long; see orphan.c. Under table_lock. */
	struct {
		struct thread thread;
		bool runs, stop;
		struct cond moved;
		TAILQ_HEAD(inode_queue, inode) queue; /* the first one is being deleted */
		uint64_t steps; /* counts what it has done */
		uint64_t blocks; /* that those in the queue still have */
	} reaper;
};

/* ---- fs.c ---- */

/* False once no leg takes writes any more (I12), too: pages made dirty would fill the cache for good. */
bool fs_takes_writes(const struct fs *fs);
/* meta_promise(), which waits for what is being deleted before it says that there is no room. */
int fs_promise(struct fs *fs, uint64_t blocks);

/* ---- inode.c ---- */

struct timespec inode_now(void);
void inode_decode(const struct format_inode *item, struct inode_attr *attr);
void inode_encode(const struct inode_attr *attr, struct format_inode *item);
uint32_t inode_encode_rdev(dev_t rdev);
void inode_fill_attr(struct inode *inode, struct fs_attr *attr);

/* The inode, referenced; loaded if need be. -ESTALE: there is none. May wait for I/O. */
int inode_get(struct fs *fs, uint64_t number, struct inode **inode);
/* inode_get() of a directory, else -ENOTDIR. */
int inode_get_directory(struct fs *fs, uint64_t number, struct inode **inode);
/* inode_get() of a regular file, else -EISDIR or -EINVAL. */
int inode_get_file(struct fs *fs, uint64_t number, struct inode **inode);
/* The same of one in memory that is looked up, for a moment and without waiting; else NULL. */
struct inode *inode_get_file_now(struct fs *fs, uint64_t number);
void inode_put_now(struct inode *inode);
uint64_t inode_size(struct inode *inode); /* bytes, as of now. State lock taken inside */
/*
 * The reference back. The last one, if nobody has it looked up either: writes out and leaves memory, or deletes. So no
 * content or log lock may be held; NULL is allowed. May wait for I/O.
 */
void inode_put(struct inode *inode);
/* The only reference to a dead inode, whose struct goes. */
void inode_bury(struct inode *inode);
/* A reference becomes one lookup of the caller's, in that directory; 0: it has no name. Never waits. */
void inode_put_looked_up(struct inode *inode, uint64_t directory);
void inode_moved(struct inode *inode, uint64_t directory);
/* Of those in the table, or NULL, perhaps not LIVE; one more reference. Table lock held. */
struct inode *inode_in_memory(struct fs *fs, uint64_t number);
void inode_hold(struct inode *inode);
/* A new inode with `attr`; nobody finds it before inode_publish(). -ENOMEM. */
int inode_new(struct fs *fs, const struct inode_attr *attr, struct inode **inode);
/* error 0: live, referenced once. Else it never was. Returns `error`. */
int inode_publish(struct inode *inode, int error);
/* The inode with the lowest number above `number`, referenced; NULL: none. */
struct inode *inode_next(struct fs *fs, uint64_t number);
/* Forgets every lookup. */
void inode_forget_all(struct fs *fs);
/* Frees what is left of the table, dirty or not. */
void inode_table_fini(struct fs *fs);

static inline struct meta_key inode_key(uint64_t number)
{
	return (struct meta_key){ .object = number, .type = TYPE_INODE };
}

static inline bool inode_is_directory(const struct inode *inode)
{
	return S_ISDIR(inode->attr.mode); /* a file's type never changes, so no lock */
}

static inline uint64_t blocks_of(uint64_t bytes)
{
	return bytes / FS_BLOCK + (bytes % FS_BLOCK ? 1 : 0);
}

static inline bool inode_is_file(const struct inode *inode)
{
	return S_ISREG(inode->attr.mode);
}

/* ---- known.c; table lock held ---- */

bool known_put(struct fs *fs, uint64_t number, uint64_t lookups); /* that was not there. False: no memory */
uint64_t known_take(struct fs *fs, uint64_t number); /* takes it out; 0: it was not there */
void known_fini(struct fs *fs);

/* ---- change.c ---- */

#define CHANGE_INODES 5u

/*
 * A transaction that changes the items of up to five inodes. Their log locks are held from begin to end; fields are
 * changed in place under the state lock, and nlink, parent, owner, mode and a directory's size are put back if the
 * commit fails.
 */
struct change {
	struct fs *fs;
	struct meta_txn *txn;
	unsigned int count;
	struct inode *inodes[CHANGE_INODES];
	struct inode_attr before[CHANGE_INODES];
};

/* NULLs and repetitions among `inodes` are skipped. -EROFS, -ENOMEM: nothing is held. */
int change_begin(struct change *change, struct fs *fs, struct inode *const *inodes, unsigned int count);
/* Puts the items, commits, puts the locks back. 0 or -errno: as before. */
int change_commit(struct change *change);
void change_abort(struct change *change); /* before anything was changed in place */
/* In a transaction: the item as it is now, under the log lock. Marks the fields as logged. */
void change_put_item(struct meta_txn *txn, struct inode *inode);
/* After its commit: with 0 the sequence is remembered, else the fields are dirty again. */
void change_done(struct inode *inode, int error, uint64_t sequence);
/* Logs the fields if they are newer than the item. */
int change_log(struct inode *inode);
/* Now is when the inode was changed (and its content modified). State lock taken inside. */
void change_touch(struct inode *inode, bool modified);
/* change_touch(), and that many links and (of a directory) entries more. */
void change_add(struct inode *inode, bool modified, int links, int entries);

/* ---- dir.c ---- */

struct dir_entry {
	struct meta_key key;
	uint64_t object;
	uint8_t type;
};

union dirent_value {
	struct format_dirent head;
	unsigned char bytes[sizeof(struct format_dirent) + INODE_NAME_MAX];
};

int dir_check_name(const char *name); /* 0, -EINVAL, -ENAMETOOLONG; "." and "..": -EEXIST */
/* Content lock held. -ENOENT: entry->key is where the name would go, or -ENOSPC: its bucket is full. */
int dir_find(struct inode *dir, const char *name, struct dir_entry *entry);
/* The same for a directory by its number, and a bucket by dir_bucket(). */
int dir_find_in(struct meta *meta, uint64_t dir, uint64_t bucket, const char *name, struct dir_entry *entry);
uint64_t dir_bucket(uint64_t hash); /* the lowest offset of entries whose name has this hash */
bool dir_in_bucket(const struct meta_key *key, uint64_t bucket);
bool dir_value_valid(const union dirent_value *value, size_t length); /* its length is what it says */
uint64_t dir_parent(struct inode *dir); /* as its item says */
/* dir_find() and the inode that the entry names. */
int dir_get(struct inode *dir, const char *name, struct dir_entry *entry, struct inode **inode);
void dir_put(struct meta_txn *txn, const struct meta_key *key, const char *name, uint64_t object, uint8_t type);
static inline uint8_t dir_type(uint32_t mode)
{
	return (uint8_t)((mode & S_IFMT) >> 12); /* DT_* */
}

/* ---- name.c ---- */

struct acl_inherited;

/* What to make: an inode with these fields, and for a symlink its target. */
struct name_new {
	const struct fs_caller *caller;
	uint32_t mode;
	uint32_t rdev;
	const char *target;
	bool nameless;
};

/*
 * inode_new() with what it gets from the directory that it is made in; acl_put_inherited() is still to be called.
 * Content lock of `dir` held.
 */
int name_new_inode(struct inode *dir, const struct name_new *new, struct acl_inherited *inherited,
		   struct inode **inode);
/* Where who changes names is answered when that is durable: what was committed of this directory becomes so. */
int name_durable(struct inode *dir);
/* One name less for a file, all for a directory; with a note if none is left. Log lock held by `change`. */
void name_drop_link(struct change *change, struct inode *inode);

/* ---- filepage.c ---- */

/*
 * What page->owner says of a dirty page. Every page whose bytes are newer than what the last write-out copied holds
 * one promised block, so what was accepted can be written. A dirty page without a mark has nothing new to write.
 */
enum page_mark {
	PAGE_WRITTEN, /* NULL */
	PAGE_PROMISED,
	PAGE_UNPROMISED, /* its write-out failed, which took the promise: the next one asks for another */
};

static inline enum page_mark filepage_mark(const struct cache_page *page)
{
	return (enum page_mark)(uintptr_t)page->owner;
}

extern const struct cache_space_ops filepage_space_ops;

void filepage_set_mark(struct inode *inode, struct cache_page *page, enum page_mark mark); /* state lock held */
/* The page, referenced and valid: read from the legs, or zeros where nothing is mapped. May wait. */
int filepage_get(struct inode *inode, uint64_t index, struct cache_page **page);
/* The same, and pages behind it up to `last` that are missing too are filled with the same reads. */
int filepage_get_ahead(struct inode *inode, uint64_t index, uint64_t last, struct cache_page **page);
/* Blocks that are in no page, into memory of the caller's, up to EXTENT_BLOCKS_MAX. May wait. */
int filepage_fetch(struct inode *inode, uint64_t index, uint32_t count, unsigned char *data);
/*
 * Copies `length` bytes (NULL: zeros) into the page, which becomes dirty; *promises is what the caller holds.
 * `extend`: the file ends behind them at least. One step to a write-out, which takes no byte beyond the end.
 */
void filepage_store(struct inode *inode, struct cache_page *page, size_t offset, const void *data, size_t length,
		    bool extend, uint64_t *promises);
/* Drops pages first .. last with their promises. No log lock may be held. May wait. */
void filepage_drop(struct inode *inode, uint64_t first, uint64_t last);

/* ---- placement.c ---- */

/* Blocks of a file on their way to a place. */
struct placement_step {
	uint64_t directory; /* that it was created in; 0: not known */
	uint64_t block; /* of the file, the first one */
	uint32_t count;
	uint64_t before; /* behind the place of the block before it, or of what goes with it; 0: it has none */
	uint64_t run; /* blocks before it that were placed in order */
	uint64_t follow; /* so many from elsewhere in the file are to lie behind them */
	uint64_t had; /* blocks that the file had when it was last written out */
	uint64_t blocks; /* that it has now */
};

void placement_init(struct placement *placement);
void placement_fini(struct placement *placement);
struct meta_aim placement_aim(struct placement *placement, const struct placement_step *step);
void placement_done(struct placement *placement, const struct placement_step *step, const struct range_extent *got);

/* ---- file.c ---- */

/* What a write by an unprivileged caller takes from a mode. */
uint32_t file_kill_suidgid(uint32_t mode);
/* Somebody has read it. The time is noted in memory; the item follows when there is a reason. */
void file_read_touch(struct inode *inode);

/* ---- direct.c ---- */

#define DIRECT_LEAST (META_TXN_DATA_BLOCKS + 1) /* blocks: what is long */
#define DIRECT_TURNS WRITEOUT_REQUESTS /* writes that go together */

/* Whole blocks that are in no page. */
struct writeout_blocks {
	const unsigned char *bytes;
	struct iobuf *buf; /* a copy of them; NULL: none was made before it was their turn to be written */
	uint32_t crc[EXTENT_BLOCKS_MAX]; /* of its blocks */
};

/* A write that waits for the legs, on its writer's stack. */
struct direct_turn {
	uint64_t block, count;
	struct writeout_blocks blocks;
	/* under state */
	struct cond moved;
	TAILQ_ENTRY(direct_turn) link;
	bool over;
	/* whoever writes for it */
	uint64_t taken; /* blocks of its promise that are gone */
	ssize_t result; /* blocks that are written, or -errno; 0: neither yet */
};

/*
 * Copies and sums up to EXTENT_BLOCKS_MAX blocks beforehand, if that is worth it and there is memory that nobody else
 * is waiting for. The buffer is the caller's to put.
 */
void direct_copy_early(struct fs *fs, struct writeout_blocks *blocks, size_t count);
/*
 * Whole blocks that are not in the cache, at the head of what is asked for, past it: how many, or -errno; 0: they are
 * there, or better there, or so few that are not do not count: `least`. Content lock held shared.
 */
ssize_t direct_read(struct inode *inode, unsigned char *data, uint64_t block, uint64_t count, uint64_t least);
/*
 * As many as go into one transaction, past the cache, onto both legs and into the tree: how many, or -errno. -EAGAIN:
 * they must go through it. Content lock not held.
 */
ssize_t direct_write(struct inode *inode, const unsigned char *data, uint64_t block, uint64_t count, bool kill);

/* ---- ahead.c ---- */

#define AHEAD_SMALL META_TXN_DATA_BLOCKS /* blocks of a file that counts as small */

int ahead_init(struct fs *fs);
void ahead_fini(struct fs *fs);
/* The block, if it was read ahead and its checksum is that. May wait for who reads it. */
bool ahead_take(struct fs *fs, uint64_t address, uint32_t crc, unsigned char *to);
void ahead_forget(struct fs *fs, uint64_t address, uint32_t count); /* they are not wanted, or written anew. May wait */
/*
 * The beginning of a small file lies there and is wanted: reads it, and what lies around it, if that looks promising.
 * `pin` as for the read of a mapping.
 */
bool ahead_read(struct fs *fs, uint64_t address, uint32_t count, struct mirror_pin *pin);

/* ---- truncate.c ---- */

/* Content lock held exclusively. */
int truncate_to(struct inode *inode, uint64_t size, bool kill);
/* Unmaps what an interrupted truncation left beyond the end. Content lock held exclusively. */
int truncate_finish(struct inode *inode);

/* ---- flags.c ---- */

#define FS_FLAGS_FIXED (FS_IMMUTABLE_FL | FS_APPEND_FL)

uint32_t flags_of(struct inode *inode);
/* -EPERM if the inode (NULL: none) has one of these. */
int flags_forbid(struct inode *inode, uint32_t flags);
int flags_forbid_removal(struct inode *dir, struct inode *victim); /* of a name from `dir` */
int flags_forbid_setattr(struct inode *inode, unsigned int set);
uint32_t flags_inherited(struct inode *dir); /* by what is made in it */

/* ---- xattr.c ---- */

union xattr_value {
	struct format_xattr head;
	unsigned char bytes[sizeof(struct format_xattr) + INODE_NAME_MAX + XATTR_PART];
};

struct xattr {
	uint64_t offset; /* of its part 0 */
	uint32_t length; /* of the value */
	union xattr_value value; /* part 0 */
};

bool xattr_is_acl(const char *name);
uint64_t xattr_beside(uint64_t offset); /* the next place in the same bucket */
uint64_t xattr_bucket_of(struct inode *inode, const char *name);
uint64_t xattr_bucket(uint64_t hash); /* the lowest offset of attributes whose name has this hash */
bool xattr_in_bucket(uint64_t offset, uint64_t bucket);
unsigned int xattr_part(uint64_t offset); /* which part the item at this offset is */
uint64_t xattr_beginning(uint64_t offset); /* where part 0 of the same attribute is */
unsigned int xattr_parts(uint32_t length);
size_t xattr_part_bytes(uint32_t length, unsigned int part); /* of the value */
bool xattr_head_valid(const union xattr_value *value, size_t length); /* of an item that is a part 0 */
/* The attribute, by part 0: 0; -ENODATA, and where it would go; -ENOSPC: nowhere; -EIO. */
int xattr_find_in(struct meta *meta, uint64_t number, uint64_t bucket, const char *name, struct xattr *xattr);
/* The same. Content or log lock held, as with the next one. */
int xattr_find(struct inode *inode, const char *name, struct xattr *xattr);
int xattr_read(struct inode *inode, const struct xattr *xattr, unsigned char *data); /* all of the value */
void xattr_put(struct meta_txn *txn, uint64_t number, uint64_t offset, const char *name, const void *data,
	       uint32_t length);
/* Parts from .. to - 1. */
void xattr_drop(struct meta_txn *txn, uint64_t number, uint64_t offset, unsigned int from, unsigned int to);
/* Attributes from *offset on, as many as the transaction takes: 0 all, -EAGAIN, -EIO. */
int xattr_drop_some(struct meta_txn *txn, struct inode *inode, uint64_t *offset);
void xattr_known(struct inode *inode); /* it has some now */

/* ---- acl.c ---- */

#define ACL_BYTES 4096u /* the kernel takes no longer one */

/* An access control list as the kernel hands it over. */
struct acl {
	uint32_t size; /* 0: none */
	unsigned char bytes[ACL_BYTES];
};

/* What a new inode gets from the default list of its directory. */
struct acl_inherited {
	struct acl access, defaults;
};

bool acl_empty(const struct acl *acl);
bool acl_valid(const struct acl *acl);
bool acl_is_mode(const struct acl *acl); /* it says no more than a mode can */
uint32_t acl_mode(const struct acl *acl, uint32_t mode); /* `mode` with its permissions */
void acl_chmod(struct acl *acl, uint32_t mode); /* the other way round */
/* The list of that name, and where it is; size 0: there is none. -EIO also if it is not one. Content lock held. */
int acl_find(struct inode *inode, const char *name, struct xattr *xattr, struct acl *acl);
/* What is made in `dir` gets, *mode included: by the umask, if there is no default list. Content lock of `dir` held. */
int acl_inherit(struct inode *dir, uint32_t umask, uint32_t *mode, struct acl_inherited *inherited);
/* In the transaction that makes the inode. */
void acl_put_inherited(struct meta_txn *txn, struct inode *inode, const struct acl_inherited *inherited);
/* What a caller brings: -EINVAL, -E2BIG, -EACCES (a default list of a file), -EOPNOTSUPP (a symbolic link). */
int acl_take(struct inode *inode, bool access, const void *value, size_t size, struct acl *acl);

/* ---- writeout.c ---- */

#define WRITEOUT_BLOCKS 1024u /* 4 MiB in flight for one transaction */
#define WRITEOUT_FILES CACHE_WRITE_SPACES
#define WRITEOUT_REQUESTS 32u
#define LONG_BLOCKS 64u /* the legs are quick with a request so long, also if there is one at a time */

/* Dirty pages of some inodes on their way to the legs and into the tree, with one transaction. Log locks held. */
struct writeout {
	struct fs *fs;
	struct meta_txn *txn;
	bool in_record; /* the data rides in the journal alone, and is durable with it */
	bool side_by_side; /* blocks of one file from here and there: they lie as they come, not as in the file */
	bool cut; /* the one file ends at `size` from this transaction on */
	uint64_t size; /* bytes beyond it are written as zeros */
	uint64_t sequence; /* of its commit */
	uint32_t taken; /* blocks, of all files */
	struct mutex lock;
	struct leg_wait wait;
	unsigned int in_flight; /* under lock */
	int error; /* under lock */
	int refused; /* why it cannot be committed */
	struct iobuf *buf; /* that is being filled, up to `filled` */
	size_t filled;
	unsigned int file_count, request_count;
	struct writeout_file {
		struct inode *inode;
		struct cache_page **pages; /* NULL: what was written is in none */
		size_t count; /* blocks that it got */
		uint64_t copied; /* pages; see struct inode */
		uint64_t end; /* of the bytes written */
		uint64_t freed; /* blocks that it lost */
		uint64_t blocks_before, size_before, logged_before; /* the commit */
	} files[WRITEOUT_FILES];
	/* Neighbours on the legs, of whatever file; more may join the last one until it is submitted. */
	struct meta_write requests[WRITEOUT_REQUESTS + EXTENT_BLOCKS_MAX / LONG_BLOCKS];
	bool open; /* it is not */
};

/* -ENOMEM: nothing to end. */
int writeout_begin(struct writeout *writeout, struct fs *fs);
void writeout_cut(struct writeout *writeout, struct inode *inode, uint64_t size); /* the only file is cut there */
/*
 * Takes some of these pages (ascending, each PAGE_PROMISED, behind those that it took of this inode before) and sends
 * them: how many, 0 if it is full, or -errno. `more`: so many pages may come in all.
 */
ssize_t writeout_add(struct writeout *writeout, struct inode *inode, struct cache_page **pages, size_t count,
		     size_t more);
/*
 * The same with `count` blocks from the `first` of these on, which are in the file from `block` on; it ends behind them
 * at least.
 */
ssize_t writeout_add_blocks(struct writeout *writeout, struct inode *inode, uint64_t block,
			    const struct writeout_blocks *blocks, size_t first, size_t count, size_t more);
/*
 * Waits for the legs; on success puts the items and commits. Ends the write-out. 0 or -errno: as before.
 * in_record: makes that durable, too.
 */
int writeout_commit(struct writeout *writeout);
void writeout_cancel(struct writeout *writeout); /* waits, and nothing has happened */

void writeout_pages(struct cache_page **pages, size_t count);
/* Everything dirty of this inode into the tree, not yet durable. */
int writeout_inode(struct inode *inode, bool attributes);
/* What is dirty of blocks first .. last, and what is needed to read it (with `attributes`: all fields), is durable. */
int writeout_durable(struct inode *inode, uint64_t first, uint64_t last, bool attributes);

/* What failed since the last report to `seen`, or 0. */
int writeout_report(struct inode *inode, uint64_t *seen);

/* ---- sync.c ---- */

/* A page of it is to be written. */
void sync_note(struct inode *inode);
/* It leaves memory. Table lock held. */
void sync_leave(struct inode *inode);

/* ---- orphan.c ---- */

/*
 * The note that content is to be cut: all of the inode if it has no name, else what lies beyond its end. It is put with
 * the change that makes the cut necessary and removed with the last piece of it.
 */
void orphan_put(struct meta_txn *txn, uint64_t number);
void orphan_remove(struct meta_txn *txn, uint64_t number);
/* Deletes an inode that nobody can reach any more. False: that takes long, and is to be handed over. */
bool orphan_delete(struct inode *inode);
#define ORPHANS_TOGETHER 16u /* small files that a transaction surely takes: META_TXN_CUTS */
/* The same for all of them, which come to their ends or to the reaper: with the references. */
void orphan_delete_all(struct inode **inodes, unsigned int count);
void orphan_hand_over(struct inode *inode); /* to the reaper, with the reference. Table lock held */
int orphan_reaper_start(struct fs *fs);
void orphan_reaper_stop(struct fs *fs); /* what it has not deleted by then, the next mount does */
/* How much the reaper has done; waits until it is more than that. False: it has nothing to do. */
uint64_t orphan_steps(struct fs *fs);
bool orphan_wait(struct fs *fs, uint64_t steps);
/* What a crash left: finishes deletions and truncations. */
void orphan_recover(struct fs *fs);

#endif
