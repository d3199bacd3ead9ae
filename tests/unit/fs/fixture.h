/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A volume on two disks in memory for the tests of fs. The disks outlive what is mounted on them: a test unmounts or
 * crashes and mounts again, and finds what is on the disks and nothing else.
 */
#ifndef MIRRORFS_TESTS_UNIT_FS_FIXTURE_H
#define MIRRORFS_TESTS_UNIT_FS_FIXTURE_H

#include "fs_private.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ROOT OBJECT_ROOT

extern struct fs *fs;
extern struct meta *meta;
extern struct cache *cache;
extern struct fs *fs_left_behind[4]; /* by volume_crash(); no leak to a detector */
extern const struct fs_caller caller; /* uid 1000, gid 100 */

void volume_setup(void); /* two disks of 64 MiB, formatted and mounted */
void volume_setup_small(void); /* of the smallest size */
void volume_teardown(void);
void volume_mount(bool read_only);
void volume_mount_to_check(void); /* as fsck opens it */
void volume_unmount(void);
void volume_remount(void);
/* Power loss: what was not flushed is dropped. Mounts again. */
void volume_crash(void);
/* Of a volume that is not mounted, the bytes of a leg: may be changed. */
unsigned char *volume_disk(int leg);
uint64_t volume_disk_bytes(void);
extern enum mirror_read_policy volume_policy; /* of the next mount */
extern size_t volume_inodes; /* likewise: in memory at most; 0: by the cache */
void mirror_repairs_wait(void);
uint64_t mirror_repaired(int leg); /* blocks, since the mount */
/* What the leg has been given, since the mount. */
uint64_t volume_writes(int leg);
uint64_t volume_reads(int leg);
uint64_t volume_read_bytes(int leg);
void volume_fill(void); /* until not one more block can be promised */

/* Each expects success. */
uint64_t make_file(uint64_t dir, const char *name);
uint64_t make_dir(uint64_t dir, const char *name);
uint64_t find(uint64_t dir, const char *name); /* its number, looked up and forgotten; 0: ENOENT */
struct fs_attr attr_of(uint64_t inode);
void put_bytes(uint64_t inode, uint64_t offset, const void *data, size_t length);
void put_pattern(uint64_t inode, uint64_t offset, size_t length, unsigned int seed);
unsigned char *pattern_of(uint64_t offset, size_t length, unsigned int seed); /* to be freed */
void sync_file(uint64_t inode);
void sync_names(void);
void set_size(uint64_t inode, uint64_t size);

/* The file's bytes are those of put_pattern(), or zeros. */
void expect_pattern(uint64_t inode, uint64_t offset, size_t length, unsigned int seed);
void expect_zeros(uint64_t inode, uint64_t offset, size_t length);
void expect_size(uint64_t inode, uint64_t size);
size_t count_entries(uint64_t dir); /* without "." and ".." */
uint64_t free_blocks(void); /* of the volume, nothing being dirty */
size_t count_items(uint64_t object, uint8_t type);

Suite *acl_suite(void);
Suite *ahead_suite(void);
Suite *attr_suite(void);
Suite *check_suite(void);
Suite *check_share_suite(void);
Suite *copy_suite(void);
Suite *damage_suite(void);
Suite *dir_suite(void);
Suite *direct_suite(void);
Suite *flight_suite(void);
Suite *name_suite(void);
Suite *rename_suite(void);
Suite *rot_suite(void);
Suite *file_suite(void);
Suite *truncate_suite(void);
Suite *writeout_suite(void);
Suite *orphan_suite(void);
Suite *inode_suite(void);
Suite *placement_suite(void);
Suite *threads_suite(void);
Suite *xattr_suite(void);

#endif
