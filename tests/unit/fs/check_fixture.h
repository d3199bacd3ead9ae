/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A small volume for the tests of the check, what the check told of it, and ways to break it behind the back of fs. */
#ifndef MIRRORFS_TESTS_UNIT_FS_CHECK_FIXTURE_H
#define MIRRORFS_TESTS_UNIT_FS_CHECK_FIXTURE_H

#include "check_private.h"
#include "fixture.h"

#define BLOCKS 70u
#define BYTES (BLOCKS * FS_BLOCK)
#define DISK_BLOCKS 16384u

extern uint64_t dir, sub, file, other, linked;

/* What fs_check() told, and what it was answered. */
extern struct told {
	enum fs_problem_kind kinds[32];
	char text[32][512];
	unsigned int count;
	bool cure, safe_only;
} told;

bool check_tell(struct fs_check *check, const struct fs_problem *problem);
struct fs_check check_run(bool cure);
void check_expect_clean(void);
void check_expect_cured(unsigned int count, const enum fs_problem_kind *kinds);
void check_setup(void);
void check_put(uint64_t object, uint8_t type, uint64_t offset, const void *value, size_t length);
void check_drop(uint64_t object, uint8_t type, uint64_t offset);
struct format_inode check_item_of(uint64_t number);
void check_put_item_of(uint64_t number, const struct format_inode *item);
union check_extent check_extent_of(uint64_t number, uint64_t *offset);
size_t check_extent_bytes(const union check_extent *extent);
void check_put_overlap(uint64_t at, uint32_t length, uint64_t offset, bool recorded);

#define EXPECT_CURED(...)                                                                                              \
	check_expect_cured(sizeof((enum fs_problem_kind[]){ __VA_ARGS__ }) / sizeof(enum fs_problem_kind),             \
			   (enum fs_problem_kind[]){ __VA_ARGS__ })

#endif
