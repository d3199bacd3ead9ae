/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inodes in memory: one struct for each number that somebody has looked up, uses, or has left dirty.
 *
 * An inode leaves when nobody knows it: then it is written out, or, without a name, deleted. One that cannot be
 * written stays, so that its data is not lost to a passing error.
 *
 * The kernel knows as many as it likes. Those that no call uses leave, too, when there are too many: what remains is
 * how often they were looked up. Not so while something of them is only in memory: what is dirty, a failure that
 * somebody is to hear of, or that they have no name. Those of which pages are cached stay until there are twice too
 * many.
 */
#include "fs_private.h"

#include "mirrorfs/base/clock.h"
#include "mirrorfs/base/log.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#define BLKSIZE_BEST (128u << 10)
#define TRIM_TRIES 8 /* idle inodes in a row that may not leave */

static int inode_compare(const struct inode *a, const struct inode *b)
{
	return a->number < b->number ? -1 : a->number > b->number;
}

RB_GENERATE_INTERNAL(inode_table, inode, link, inode_compare, __attribute__((unused)) static)

/* ---- the item and its fields ---- */

struct timespec inode_now(void)
{
	struct timespec now;
	int64_t seconds;
	uint32_t nanoseconds;

	clock_wall(&seconds, &nanoseconds);
	now.tv_sec = seconds;
	now.tv_nsec = nanoseconds;
	return now;
}

static struct timespec time_decode(le64 seconds, le32 nanoseconds)
{
	return (struct timespec){ .tv_sec = (time_t)le64_get(seconds), .tv_nsec = le32_get(nanoseconds) };
}

void inode_decode(const struct format_inode *item, struct inode_attr *attr)
{
	attr->mode = le32_get(item->mode);
	attr->uid = le32_get(item->uid);
	attr->gid = le32_get(item->gid);
	attr->nlink = le32_get(item->nlink);
	attr->size = le64_get(item->size);
	attr->blocks = le64_get(item->blocks);
	attr->atime = time_decode(item->atime, item->atime_nsec);
	attr->mtime = time_decode(item->mtime, item->mtime_nsec);
	attr->ctime = time_decode(item->ctime, item->ctime_nsec);
	attr->btime = time_decode(item->btime, item->btime_nsec);
	attr->rdev = le32_get(item->rdev);
	attr->flags = le32_get(item->flags);
	attr->generation = le64_get(item->generation);
	attr->parent = le64_get(item->parent);
}

void inode_encode(const struct inode_attr *attr, struct format_inode *item)
{
	*item = (struct format_inode){
		.mode = le32_of(attr->mode),
		.uid = le32_of(attr->uid),
		.gid = le32_of(attr->gid),
		.nlink = le32_of(attr->nlink),
		.size = le64_of(attr->size),
		.blocks = le64_of(attr->blocks),
		.atime = le64_of((uint64_t)attr->atime.tv_sec),
		.mtime = le64_of((uint64_t)attr->mtime.tv_sec),
		.ctime = le64_of((uint64_t)attr->ctime.tv_sec),
		.btime = le64_of((uint64_t)attr->btime.tv_sec),
		.atime_nsec = le32_of((uint32_t)attr->atime.tv_nsec),
		.mtime_nsec = le32_of((uint32_t)attr->mtime.tv_nsec),
		.ctime_nsec = le32_of((uint32_t)attr->ctime.tv_nsec),
		.btime_nsec = le32_of((uint32_t)attr->btime.tv_nsec),
		.rdev = le32_of(attr->rdev),
		.flags = le32_of(attr->flags),
		.generation = le64_of(attr->generation),
		.parent = le64_of(attr->parent),
	};
}

/* Device numbers lie on disk as the kernel packs them into 32 bits. */
static dev_t rdev_decode(uint32_t rdev)
{
	return makedev((rdev >> 8) & 0xfff, (rdev & 0xff) | ((rdev >> 12) & 0xfff00));
}

uint32_t inode_encode_rdev(dev_t rdev)
{
	return (minor(rdev) & 0xff) | ((major(rdev) & 0xfff) << 8) | ((minor(rdev) & 0xfff00) << 12);
}

void inode_fill_attr(struct inode *inode, struct fs_attr *attr)
{
	const struct inode_attr *from = &inode->attr;

	*attr = (struct fs_attr){ .generation = from->generation, .btime = from->btime };
	mutex_lock(&inode->state);
	attr->st.st_ino = inode->number;
	attr->st.st_mode = from->mode;
	attr->st.st_uid = from->uid;
	attr->st.st_gid = from->gid;
	attr->st.st_nlink = from->nlink;
	attr->st.st_rdev = rdev_decode(from->rdev);
	attr->st.st_blksize = BLKSIZE_BEST;
	attr->st.st_atim = from->atime;
	attr->st.st_mtim = from->mtime;
	attr->st.st_ctim = from->ctime;
	attr->st.st_size = (off_t)(inode_is_directory(inode) ? (from->size + 2) * 32 : from->size);
	/* What waits to be written counts: tools take a file without blocks for one hole. */
	attr->st.st_blocks = (blkcnt_t)((from->blocks + inode->promised + inode->copied) * (FS_BLOCK / 512));
	attr->blocks_pending = inode->promised + inode->copied > 0;
	mutex_unlock(&inode->state);
}

/* ---- the table ---- */

/* Where it is remembered that it was found. */
static struct inode **table_recent(struct fs *fs, uint64_t number)
{
	return &fs->recent[number % FS_RECENT];
}

struct inode *inode_in_memory(struct fs *fs, uint64_t number)
{
	struct inode **recent = table_recent(fs, number), wanted;

	if (!*recent || (*recent)->number != number) {
		wanted.number = number;
		*recent = RB_FIND(inode_table, &fs->table, &wanted);
	}
	return *recent;
}

/* A new struct, which is charged: for table_insert(), or to be freed with inode_free(). */
static struct inode *inode_create(struct fs *fs, uint64_t number)
{
	struct inode *inode = calloc(1, sizeof(*inode));

	if (!inode)
		return NULL;
	inode->fs = fs;
	inode->unsynced_place.inode = inode;
	inode->number = number;
	rwlock_init(&inode->content, RANK_FS_INODE);
	mutex_init(&inode->log, RANK_FS_WRITEBACK);
	mutex_init(&inode->state, RANK_FS_STATE);
	cache_charge(fs->cache, sizeof(*inode));
	return inode;
}

/* Becomes LOADING. Table lock held. */
static void table_insert(struct inode *inode)
{
	struct fs *fs = inode->fs;

	RB_INSERT(inode_table, &fs->table, inode);
	*table_recent(fs, inode->number) = inode;
	fs->inodes++;
	inode->lookups = known_take(fs, inode->number);
}

void inode_hold(struct inode *inode)
{
	inode->references++;
	if (!inode->idle)
		return;
	TAILQ_REMOVE(&inode->fs->idle, inode, idle_link);
	inode->idle = false;
}

/* One call less. Table lock held. */
static void table_release(struct inode *inode)
{
	assert(inode->references > 0 && !inode->idle);
	if (--inode->references || !inode->lookups || inode->phase != INODE_LIVE)
		return;
	TAILQ_INSERT_TAIL(&inode->fs->idle, inode, idle_link);
	inode->idle = true;
}

/* Table lock held. The struct is then to be freed with inode_free(), without it. */
static void table_remove(struct inode *inode)
{
	struct inode **recent = table_recent(inode->fs, inode->number);

	if (*recent == inode)
		*recent = NULL;
	RB_REMOVE(inode_table, &inode->fs->table, inode);
	sync_leave(inode);
	inode->fs->inodes--;
	cond_broadcast(&inode->fs->loaded);
}

static void inode_free(struct inode *inode)
{
	if (inode->space.cache) {
		cache_space_fini(&inode->space);
		meta_unpromise(inode->fs->meta, inode->evicted_promises);
	}
	cache_charge(inode->fs->cache, -(ssize_t)sizeof(*inode));
	mutex_fini(&inode->state);
	mutex_fini(&inode->log);
	rwlock_fini(&inode->content);
	free(inode);
}

/* Behind the reading of its fields: what an inode of this type needs. */
static int inode_prepare(struct inode *inode)
{
	int error;

	if (!inode_is_file(inode))
		return 0;
	TAILQ_INIT(&inode->turns);
	error = cache_space_init(inode->fs->cache, &inode->space, CACHE_DATA, FS_BLOCK, &filepage_space_ops, inode);
	if (error)
		inode->space.cache = NULL;
	return error;
}

int inode_publish(struct inode *inode, int error)
{
	struct fs *fs = inode->fs;

	mutex_lock(&fs->table_lock);
	if (!error) {
		inode->phase = INODE_LIVE;
		inode->references = 1;
		cond_broadcast(&fs->loaded);
	} else {
		table_remove(inode);
		if (inode->lookups && !known_put(fs, inode->number, inode->lookups))
			log_warn("no memory to remember that an inode was looked up inode=%llu",
				 (unsigned long long)inode->number);
	}
	mutex_unlock(&fs->table_lock);
	if (error)
		inode_free(inode);
	return error;
}

/* Behind a right checksum there may still be a type that there is not, or a size that nothing can have. */
static bool inode_valid(const struct inode_attr *attr)
{
	switch (attr->mode & S_IFMT) {
	case S_IFDIR:
		return attr->size <= FS_SIZE_MAX / 64; /* a directory's st_size is so many times its entries, at most */
	case S_IFREG:
	case S_IFLNK:
	case S_IFCHR:
	case S_IFBLK:
	case S_IFIFO:
	case S_IFSOCK:
		return attr->size <= FS_SIZE_MAX;
	}
	return false;
}

static int inode_read(struct inode *inode)
{
	struct fs *fs = inode->fs;
	struct meta_key key = inode_key(inode->number);
	struct format_inode item;
	ssize_t length = meta_get(fs->meta, &key, &item, sizeof(item));

	if (length == -ENOENT)
		return -ESTALE;
	if (length < 0)
		return (int)length;
	if (length != sizeof(item)) {
		log_error("inode item has a wrong length inode=%llu length=%zd", (unsigned long long)inode->number,
			  length);
		return -EIO;
	}
	inode_decode(&item, &inode->attr);
	if (!inode_valid(&inode->attr)) {
		log_error("inode item makes no sense inode=%llu mode=%o size=%llu", (unsigned long long)inode->number,
			  inode->attr.mode, (unsigned long long)inode->attr.size);
		return -EIO;
	}
	inode->logged_size = inode->attr.size;
	/* What made it as it is may have been committed by a struct that left memory, and not be durable yet. */
	inode->sequence = meta_sequence(fs->meta);
	return inode_prepare(inode);
}

/* Table lock held, but not while another thread reads it. */
static struct inode *table_find(struct fs *fs, uint64_t number)
{
	struct inode *inode;

	while ((inode = inode_in_memory(fs, number)) && inode->phase == INODE_LOADING)
		cond_wait(&fs->loaded, &fs->table_lock);
	return inode;
}

int inode_get(struct fs *fs, uint64_t number, struct inode **result)
{
	struct inode *inode, *fresh = NULL;
	int error = 0;

	*result = NULL;
	mutex_lock(&fs->table_lock);
	inode = table_find(fs, number);
	if (!inode) {
		mutex_unlock(&fs->table_lock);
		fresh = inode_create(fs, number);
		if (!fresh)
			return -ENOMEM;
		mutex_lock(&fs->table_lock);
		inode = table_find(fs, number);
	}
	if (!inode)
		table_insert(fresh);
	else if (inode->phase == INODE_DEAD)
		error = -ESTALE;
	else
		inode_hold(inode);
	mutex_unlock(&fs->table_lock);
	if (inode && fresh) {
		inode_free(fresh);
	} else if (fresh) {
		inode = fresh;
		error = inode_publish(inode, inode_read(inode));
	}
	if (!error)
		*result = inode;
	return error;
}

struct inode *inode_get_file_now(struct fs *fs, uint64_t number)
{
	struct inode *inode;

	mutex_lock(&fs->table_lock);
	inode = inode_in_memory(fs, number);
	if (inode && inode->phase == INODE_LIVE && inode->lookups && inode_is_file(inode))
		inode_hold(inode);
	else
		inode = NULL;
	mutex_unlock(&fs->table_lock);
	return inode;
}

int inode_get_directory(struct fs *fs, uint64_t number, struct inode **inode)
{
	int error = inode_get(fs, number, inode);

	if (!error && !inode_is_directory(*inode)) {
		inode_put(*inode);
		*inode = NULL;
		error = -ENOTDIR;
	}
	return error;
}

uint64_t inode_size(struct inode *inode)
{
	uint64_t size;

	mutex_lock(&inode->state);
	size = inode->attr.size;
	mutex_unlock(&inode->state);
	return size;
}

int inode_get_file(struct fs *fs, uint64_t number, struct inode **inode)
{
	int error = inode_get(fs, number, inode);

	if (!error && !inode_is_file(*inode)) {
		error = inode_is_directory(*inode) ? -EISDIR : -EINVAL;
		inode_put(*inode);
		*inode = NULL;
	}
	return error;
}

int inode_new(struct fs *fs, const struct inode_attr *attr, struct inode **result)
{
	uint64_t number = meta_new_object(fs->meta);
	struct inode *inode = inode_create(fs, number);
	bool used;
	int error;

	if (!inode)
		return -ENOMEM;
	mutex_lock(&fs->table_lock);
	used = inode_in_memory(fs, number);
	if (!used)
		table_insert(inode);
	mutex_unlock(&fs->table_lock);
	if (used) {
		inode_free(inode);
		return -EIO; /* the volume is wrong about what it has used */
	}
	inode->attr = *attr;
	inode->attr.generation = siphash(fs->hash_key, &number, sizeof(number)); /* no number comes twice */
	inode->xattrs = XATTRS_NONE;
	inode->logged_size = attr->size;
	*result = inode;
	error = inode_prepare(inode);
	return error ? inode_publish(inode, error) : 0;
}

/* ---- leaving ---- */

static bool inode_dirty(struct inode *inode)
{
	bool dirty;

	mutex_lock(&inode->state);
	dirty = inode->attr_dirty || inode->truncating;
	mutex_unlock(&inode->state);
	return dirty || (inode_is_file(inode) && cache_range_dirty(&inode->space, 0, UINT64_MAX));
}

static bool inode_nameless(struct inode *inode)
{
	bool nameless;

	mutex_lock(&inode->state);
	nameless = !inode->attr.nlink;
	mutex_unlock(&inode->state);
	return nameless;
}

/*
 * What has to be done before the inode may leave. Table lock held, released meanwhile. True: the reaper does the rest
 * and has the caller's reference.
 */
static bool inode_settle(struct inode *inode)
{
	struct fs *fs = inode->fs;
	bool tried = false, deleted;

	while (inode->references == 1 && !inode->lookups && !fs->read_only) {
		if (inode_nameless(inode)) {
			inode->phase = INODE_DEAD;
			mutex_unlock(&fs->table_lock);
			deleted = orphan_delete(inode);
			mutex_lock(&fs->table_lock);
			if (!deleted)
				orphan_hand_over(inode);
			return !deleted;
		}
		if (tried || !inode_dirty(inode))
			return false;
		mutex_unlock(&fs->table_lock);
		writeout_inode(inode, true); /* an error is latched, and what stays dirty stays in memory */
		tried = true;
		mutex_lock(&fs->table_lock);
	}
	return false;
}

enum trim_verdict { TRIM_STAYS, TRIM_LEAVES, TRIM_IS_TO_BE_LOGGED };

/* Table lock held; the inode is idle. */
static enum trim_verdict inode_trim_verdict(struct inode *inode)
{
	struct fs *fs = inode->fs;
	bool logged, stays;

	if (inode_is_file(inode) && (cache_range_dirty(&inode->space, 0, UINT64_MAX) ||
				     (fs->inodes < 2 * fs->inodes_most && cache_space_pages(&inode->space))))
		return TRIM_STAYS;
	mutex_lock(&inode->state);
	logged = !inode->attr_dirty;
	stays = !inode->attr.nlink || inode->errors || inode->truncating;
	mutex_unlock(&inode->state);
	return stays ? TRIM_STAYS : logged ? TRIM_LEAVES : TRIM_IS_TO_BE_LOGGED;
}

/* Has the oldest idle inode leave, or moves it to the end. Table lock held, released meanwhile. False: it is there. */
static bool inode_trim_one(struct inode *inode)
{
	struct fs *fs = inode->fs;
	enum trim_verdict verdict = inode_trim_verdict(inode);

	if (verdict == TRIM_LEAVES && known_put(fs, inode->number, inode->lookups)) {
		TAILQ_REMOVE(&fs->idle, inode, idle_link);
		table_remove(inode);
		mutex_unlock(&fs->table_lock);
		inode_free(inode);
		mutex_lock(&fs->table_lock);
		return true;
	}
	inode_hold(inode);
	if (verdict == TRIM_IS_TO_BE_LOGGED) {
		mutex_unlock(&fs->table_lock);
		change_log(inode); /* an error leaves it dirty, and here */
		mutex_lock(&fs->table_lock);
	}
	table_release(inode);
	return false;
}

/* While too many inodes are in memory, those leave that have been idle for longest. */
static void inode_trim(struct fs *fs)
{
	int tries = 0;

	mutex_lock(&fs->table_lock);
	while (fs->inodes > fs->inodes_most && !TAILQ_EMPTY(&fs->idle) && tries < TRIM_TRIES)
		tries = inode_trim_one(TAILQ_FIRST(&fs->idle)) ? 0 : tries + 1;
	mutex_unlock(&fs->table_lock);
}

void inode_put(struct inode *inode)
{
	struct fs *fs;
	bool leaves, many;

	if (!inode)
		return;
	fs = inode->fs;
	mutex_lock(&fs->table_lock);
	if (inode_settle(inode)) {
		mutex_unlock(&fs->table_lock);
		return;
	}
	table_release(inode);
	leaves = !inode->references && !inode->lookups && (inode->phase == INODE_DEAD || !inode_dirty(inode));
	if (leaves)
		table_remove(inode);
	many = fs->inodes > fs->inodes_most;
	mutex_unlock(&fs->table_lock);
	if (leaves)
		inode_free(inode);
	if (many)
		inode_trim(fs);
}

void inode_put_now(struct inode *inode)
{
	struct fs *fs = inode->fs;
	bool kept;

	mutex_lock(&fs->table_lock);
	kept = inode->references > 1 || inode->lookups;
	if (kept)
		table_release(inode);
	mutex_unlock(&fs->table_lock);
	if (!kept) /* whoever has it looked up has just forgotten it */
		inode_put(inode);
}

void inode_bury(struct inode *inode)
{
	struct fs *fs = inode->fs;

	mutex_lock(&fs->table_lock);
	assert(inode->phase == INODE_DEAD && inode->references == 1);
	table_remove(inode);
	mutex_unlock(&fs->table_lock);
	inode_free(inode);
}

void inode_put_looked_up(struct inode *inode, uint64_t directory)
{
	mutex_lock(&inode->fs->table_lock);
	inode->lookups++;
	if (directory)
		inode->found_in = directory;
	table_release(inode);
	mutex_unlock(&inode->fs->table_lock);
}

void inode_moved(struct inode *inode, uint64_t directory)
{
	mutex_lock(&inode->fs->table_lock);
	inode->found_in = directory;
	mutex_unlock(&inode->fs->table_lock);
}

/* It is known to fewer. The inode, held for the caller, if it is in memory and alive. Table lock held. */
static struct inode *inode_forget(struct fs *fs, uint64_t number, uint64_t lookups)
{
	struct inode *inode = inode_in_memory(fs, number);
	uint64_t known;

	if (inode) {
		inode->lookups -= lookups < inode->lookups ? lookups : inode->lookups;
		if (inode->phase != INODE_LIVE) /* whoever loads or deletes it sees to the rest */
			return NULL;
		inode_hold(inode);
		return inode;
	}
	known = known_take(fs, number);
	if (known > lookups) /* in the room that it has just left */
		known_put(fs, number, known - lookups);
	return NULL;
}

int fs_forget(struct fs *fs, uint64_t number, uint64_t lookups)
{
	struct inode *inode;

	mutex_lock(&fs->table_lock);
	inode = inode_forget(fs, number, lookups);
	mutex_unlock(&fs->table_lock);
	inode_put(inode);
	return 0;
}

/* From now on it is the caller's alone, to be deleted. Table lock held. */
static bool inode_dies(struct inode *inode)
{
	if (inode->references > 1 || inode->lookups || inode->fs->read_only || !inode_nameless(inode))
		return false;
	inode->phase = INODE_DEAD;
	return true;
}

void fs_forget_many(struct fs *fs, const struct fs_forgotten *forgotten, size_t count)
{
	struct inode *dead[ORPHANS_TOGETHER];
	unsigned int dying = 0;

	for (size_t i = 0; i < count; i++) {
		struct inode *inode;

		mutex_lock(&fs->table_lock);
		inode = inode_forget(fs, forgotten[i].inode, forgotten[i].lookups);
		if (inode && inode_dies(inode)) {
			dead[dying++] = inode;
			inode = NULL;
		}
		mutex_unlock(&fs->table_lock);
		inode_put(inode);
		if (dying && (dying == ORPHANS_TOGETHER || i + 1 == count)) {
			orphan_delete_all(dead, dying);
			dying = 0;
		}
	}
}

struct inode *inode_next(struct fs *fs, uint64_t number)
{
	struct inode wanted = { .number = number + 1 }, *inode;

	mutex_lock(&fs->table_lock);
	inode = RB_NFIND(inode_table, &fs->table, &wanted);
	while (inode && inode->phase != INODE_LIVE)
		inode = RB_NEXT(inode_table, &fs->table, inode);
	if (inode)
		inode_hold(inode);
	mutex_unlock(&fs->table_lock);
	return inode;
}

void inode_forget_all(struct fs *fs)
{
	uint64_t number = 0;
	struct inode *inode;

	while ((inode = inode_next(fs, number))) {
		number = inode->number;
		mutex_lock(&fs->table_lock);
		inode->lookups = 0;
		mutex_unlock(&fs->table_lock);
		inode_put(inode);
	}
}

void inode_table_fini(struct fs *fs)
{
	struct inode *inode;

	while ((inode = RB_MIN(inode_table, &fs->table))) {
		RB_REMOVE(inode_table, &fs->table, inode);
		inode_free(inode);
	}
}

void fs_stats(struct fs *fs, struct fs_stats *stats)
{
	struct inode *inode;

	*stats = (struct fs_stats){ 0 };
	mutex_lock(&fs->table_lock);
	stats->inodes = fs->inodes;
	stats->known = fs->known.count;
	RB_FOREACH(inode, inode_table, &fs->table) {
		if (inode->phase == INODE_LOADING)
			continue;
		stats->dirty_inodes += inode_dirty(inode);
		stats->orphans += inode_nameless(inode);
	}
	mutex_unlock(&fs->table_lock);
}
