/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A volume on two disks for the tests of meta. What a test decides: how a disk answers, and where in the log of all
 * that was written the power fails. The log tells in which order things went to the disks.
 */
#ifndef MIRRORFS_TESTS_UNIT_META_FIXTURE_H
#define MIRRORFS_TESTS_UNIT_META_FIXTURE_H

#include "../mirror/fake_leg.h"
#include "meta_private.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

extern struct meta *meta;
extern struct mirror *mirror;
extern struct disk *disks[MIRROR_LEGS];
extern size_t cache_bytes; /* of the next mount; 64 MiB */
extern bool discard, checking; /* likewise */
extern unsigned int legs_there; /* likewise: a mask; 3 */

/* ---- a volume's life; each expects success unless it returns an error ---- */

void volume_setup(void); /* two disks of 64 MiB, formatted and mounted */
void volume_teardown(void);
void volume_mount(bool read_only);
int volume_try_mount(bool read_only, struct error *why); /* what meta_open() says; afterwards all is as unmounted */
void volume_unmount(void);
void volume_rebuild(struct meta_rebuild *rebuild); /* of one that is not mounted */
int volume_close(void); /* what meta_close() says */
void volume_remount(void);
void volume_kill(void); /* ends it without another write */

/* ---- the log: writes and flushes of both disks since the mount, in the order in which they were carried out ---- */

enum place { PLACE_LABEL, PLACE_SLOT, PLACE_RING, PLACE_HEAP, PLACE_FLUSH };
struct entry {
	enum place place;
	int leg;
	bool dsync;
	bool lost; /* it hung, or failed */
	uint64_t block; /* of the mirrored space; of a label: bytes from the disk's start */
	uint32_t count;
	unsigned char *data;
};
size_t log_count(void);
const struct entry *log_entry(size_t n);
/* The first one of this leg (-1: any) at this place from entry `from` on; log_count() if there is none. */
size_t log_find(size_t from, int leg, enum place place);
bool log_wrote(size_t from, size_t to, uint64_t block, uint32_t count); /* anything of these blocks */

/* ---- power loss ---- */

/* For each write that no flush and no DSYNC made durable: true keeps it. */
typedef bool keep_rule(const struct entry *entry);
bool keep_nothing(const struct entry *entry);
bool keep_everything(const struct entry *entry);

void crash_take(void); /* kills the volume; the log is kept for crash_at() */
size_t crash_count(void); /* length of that log */
const struct entry *crash_entry(size_t n);
void crash_at(size_t n, keep_rule *keep); /* the disks are as if the power had failed behind n entries; not mounted */
void volume_crash(void); /* all of it, unflushed writes are lost; mounted again */

/* ---- the disks ---- */

unsigned char *disk_block(int leg, uint64_t block); /* of the mirrored space; may be changed */
void disk_rot(int leg, uint64_t block, uint32_t count);
/* Requests of this kind that touch these blocks (a flush: any) are answered so: -errno or FAKE_HANG. */
void disk_fails(int leg, enum leg_op op, uint64_t block, uint32_t count, int answer);
void disks_work(void); /* again */

/* ---- what tests do all the time ---- */

struct meta_key item_key(uint64_t object, uint64_t number);
uint64_t put_item(uint64_t object, uint64_t number, int byte, size_t length); /* the commit's sequence */
int try_put_item(uint64_t object, uint64_t number, int byte, size_t length);
void delete_item(uint64_t object, uint64_t number);
void expect_item(uint64_t object, uint64_t number, int byte, ssize_t length); /* -ENOENT: it is not there */
void sync_all(void);

/* A write of file data, and the commit that maps it. */
struct put {
	struct meta_write write; /* first */
	struct meta_txn *txn;
	struct range_extent extent;
	uint64_t object, offset;
	unsigned int seed;
	uint32_t crc[EXTENT_BLOCKS_MAX];
	bool in_record; /* the data is: nothing is written before */
	bool done;
};
/*
 * Promises, allocates and submits; expects one piece. put_join(): for a transaction that has been begun; put_take():
 * and of what was promised before.
 */
void put_take(struct put *put, struct meta_txn *txn, uint64_t object, uint64_t offset, uint32_t blocks,
	      unsigned int seed, bool in_record, uint64_t goal);
void put_join(struct put *put, struct meta_txn *txn, uint64_t object, uint64_t offset, uint32_t blocks,
	      unsigned int seed, bool in_record, uint64_t goal);
void put_begin(struct put *put, uint64_t object, uint64_t offset, uint32_t blocks, unsigned int seed, bool in_record,
	       uint64_t goal);
void put_answered(struct put *put); /* waits for the write alone: put_wait() is still to come */
int put_wait(struct put *put); /* for the write, and until nobody holds a pin of that time */
uint64_t put_map(struct put *put); /* how many blocks the file lost */
uint64_t put_commit(struct put *put); /* put_map() and the commit: its sequence */
/* All of it: the sequence. `where` may be NULL. */
uint64_t put_file(uint64_t object, uint64_t offset, uint32_t blocks, unsigned int seed, bool in_record, uint64_t goal,
		  struct range_extent *where);
void punch(uint64_t object, uint64_t from, uint64_t to);
/* How many transactions it took. */
unsigned int share(uint64_t from, uint64_t from_offset, uint64_t to, uint64_t to_offset, uint64_t count);
/* Mapped, with the right checksums, and the right content on every disk that is there, or in the ring. */
void expect_file(uint64_t object, uint64_t offset, uint32_t blocks, unsigned int seed);
void expect_hole(uint64_t object, uint64_t offset, uint32_t blocks);
void fill_block(unsigned char *block, uint64_t offset, unsigned int seed);
bool is_free(uint64_t block, uint32_t count); /* nothing has it, and nothing holds it back */

/* Every node below the tree that a slot on the disks names, by what is on leg 0; returns their number. */
size_t disk_nodes(const struct format_super *super, uint64_t *address, size_t room);
const struct format_super *disk_super(int leg, bool newest); /* or the older one */

/* The bytes of a slot or record are changed: its checksum is made right. */
void super_reseal(struct format_super *super);
void record_reseal(struct format_record *record, uint32_t blocks);

unsigned int seed_srand(const char *test); /* MIRRORFS_SEED or the time; printed */

Suite *node_suite(void);
Suite *tree_suite(void);
Suite *journal_suite(void);
Suite *replay_suite(void);
Suite *checkpoint_suite(void);
Suite *super_suite(void);
Suite *map_suite(void);
Suite *alloc_suite(void);
Suite *scrub_suite(void);
Suite *share_suite(void);
Suite *failure_suite(void);
Suite *rebuild_suite(void);
Suite *trim_suite(void);
Suite *resync_suite(void);
Suite *grow_suite(void);
Suite *home_suite(void);

#endif
