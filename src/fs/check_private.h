/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The check, inside: four passes over the tree, each on what the one before has left in order.
 *
 *   check_space.c  1: every allocation record has its extent, and no two lie on one block
 *   check_share.c  the same of what files share
 *   check_item.c   2: every inode agrees with its own items; each extent has its record
 *   check_name.c   3: every entry leads to an inode, from its right place
 *   check_link.c   4: every inode has a name, and as many as it says; what has none goes to lost+found
 *   check.c        the order of these, problems and cures, paths
 *
 * Each finding is judged by what was read, never by what could not be read: an item that no leg can give ends the
 * check, as counts that lack something would be taken for wrong ones.
 */
#ifndef MIRRORFS_FS_CHECK_PRIVATE_H
#define MIRRORFS_FS_CHECK_PRIVATE_H

#include "fs_private.h"

#define CHECK_PATH_SIZE 4200u

enum check_flag {
	CHECK_NOTED = 1, /* a note tells the next mount to cut it */
	CHECK_WALKED = 2, /* the way up from it ends */
	CHECK_WALKING = 4,
	CHECK_GUESSED = 8, /* its item is missing, and was left so: nothing else is said of it */
};

/* What is kept of each inode, ascending by number. */
struct check_inode {
	uint64_t number;
	uint64_t parent; /* of a directory: as its item says; then, the one whose entry was taken for its name */
	uint64_t size; /* of a directory: entries, as its item says */
	uint32_t nlink; /* as its item says */
	uint32_t names, entries, subdirs; /* as found */
	uint8_t type; /* DT_* */
	uint8_t flags;
};
static_assert(sizeof(struct check_inode) == 48, "told in fs.h and in the manual");

union check_extent {
	struct format_extent head;
	unsigned char bytes[sizeof(struct format_extent) + 4 * EXTENT_BLOCKS_MAX];
};

struct check {
	struct meta *meta;
	struct fs_check *told;
	uint8_t hash_key[16];
	struct check_inode *inodes;
	size_t count, room;
	_Alignas(8) unsigned char value[NODE_VALUE_MAX]; /* of check_next() */
	uint64_t path_of;
	char path[CHECK_PATH_SIZE]; /* of that inode */
};

/* ---- check.c ---- */

/* True: it is to be put right. */
bool check_problem(struct check *check, enum fs_problem_kind kind, enum fs_remedy remedy, const char *cure,
		   const char *format, ...) __attribute__((format(printf, 5, 6)));
/* The first item >= *key and <= *last: the length of its value, now in check->value. -ENOENT: none; -EIO told. */
ssize_t check_next(struct check *check, struct meta_key *key, const struct meta_key *last);
/* The value of one item, at most `size` bytes of it: its length. -ENOENT; -EIO told. */
ssize_t check_get(struct check *check, const struct meta_key *key, void *value, size_t size);
bool check_advance(struct meta_key *key); /* to the next key that there may be; false: none */
void check_progress(struct check *check, int pass, uint64_t done, uint64_t total);
const char *check_path(struct check *check, uint64_t number); /* valid until it is asked for another */
/* Ends a cure. */
int check_commit(struct check *check, struct meta_txn *txn);
int check_delete(struct check *check, const struct meta_key *key); /* a cure that removes one item */
/* An inode's item: 0, -ENOENT (also if it is malformed), -EIO. Nothing is cured in one that is not there. */
int check_item(struct check *check, uint64_t number, struct format_inode *item);
void check_put_item(struct meta_txn *txn, uint64_t number, const struct format_inode *item);
struct check_inode *check_find(struct check *check, uint64_t number);
int check_add(struct check *check, uint64_t number, const struct format_inode *item, bool guessed);

/* ---- check_space.c ---- */

int check_space(struct check *check);
/* An extent of a file, with the key of its item: is its space its own? 1: it was changed, look at it again. */
int check_space_extent(struct check *check, const struct meta_key *key, const union check_extent *extent,
		       uint64_t file_end);
/* All of an extent away, with its record. */
int check_space_remove(struct check *check, const struct meta_key *key, const union check_extent *extent);

/* Whether the extent has a record of its own at its address. */
bool check_space_own(struct check *check, const struct meta_key *key, const union check_extent *extent);
/* Whether a record's owner has what it says: 0, -ENOENT, -EINVAL: its extent is malformed, -EIO. */
int check_space_owner(struct check *check, const struct meta_key *key, const struct format_alloc *record);
void check_space_record(struct meta_txn *txn, uint64_t address, uint64_t owner, uint64_t offset, uint32_t length,
			uint64_t birth, uint32_t references);

/* ---- check_share.c ---- */

/* The items that name counted extents. */
int check_shares(struct check *check);
/* A counted record. `young`: its birth is not to be believed; `high`: where those before it end. 1: it was changed. */
int check_share_record(struct check *check, uint64_t address, const struct format_alloc *record, bool young,
		       uint64_t high);
/*
 * An extent without a record of its own. Some of `lost` set: these blocks are others'; else 0: it is in order, or is
 * now; -ENOENT: nothing is recorded of it.
 */
int check_share_extent(struct check *check, const struct meta_key *key, const union check_extent *extent, bool *lost);
/* Whether records or items of others change if the extent is cut. */
bool check_share_concerns(struct check *check, const struct meta_key *key, const union check_extent *extent,
			  const bool *lost);
int check_share_anew(struct check *check, struct meta_txn *txn, const struct meta_key *key,
		     const union check_extent *extent, const bool *lost);

/* ---- check_item.c ---- */

int check_items(struct check *check);

/* ---- check_name.c ---- */

int check_names(struct check *check);
/* Removes an entry and counts it out of its directory. */
int check_name_remove(struct check *check, struct check_inode *dir, const struct meta_key *key, bool subdir);
/* The entry of `dir` that names `number`: 0 or -ENOENT. */
int check_name_of(struct check *check, uint64_t dir, uint64_t number, struct meta_key *key);

/* ---- check_link.c ---- */

int check_links(struct check *check);

#endif
