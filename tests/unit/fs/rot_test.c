/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Each single block of a leg, one after another: whatever it holds, all files are right, and it is healed. */
#include "fixture.h"

#include <stdio.h>

#define FILES 6
#define BYTES 30000u

static const unsigned char zeros[FS_BLOCK];

static void setup(void)
{
	volume_setup_small();
	for (unsigned int i = 0; i < FILES; i++) {
		char name[16];
		uint64_t dir, file;

		snprintf(name, sizeof(name), "dir%u", i);
		dir = make_dir(ROOT, name);
		file = make_file(dir, "file");
		put_pattern(file, 0, BYTES, i);
		sync_file(file);
	}
	volume_unmount();
}

static void expect_all(void)
{
	for (unsigned int i = 0; i < FILES; i++) {
		char name[16];
		uint64_t file;

		snprintf(name, sizeof(name), "dir%u", i);
		file = find(find(ROOT, name), "file");
		ck_assert_uint_ne(file, 0);
		expect_size(file, BYTES);
		expect_pattern(file, 0, BYTES, i);
	}
}

static unsigned int bad_count;

static void count_bad(struct meta_scrub *scrub, const struct meta_live *live, int leg, bool healed)
{
	bad_count++;
}

START_TEST(every_block_of_a_leg_may_be_bad_and_every_repair_lands)
{
	struct meta_scrub scrub = { .bad = count_bad };
	unsigned char *disk = volume_disk(_i);
	unsigned int looked_at = 0, healed = 0;

	volume_policy = _i ? MIRROR_POLICY_LEG1 : MIRROR_POLICY_LEG0;
	for (uint64_t at = MIRROR_SPACE_OFFSET; at < volume_disk_bytes(); at += FS_BLOCK) {
		if (!memcmp(disk + at, zeros, FS_BLOCK))
			continue;
		disk[at + 100] ^= 1;
		disk[at + 3000] ^= 1;
		volume_mount(false);
		expect_all();
		/* Behind the repairs of what was read nothing is left to a scrub. */
		mirror_repairs_wait();
		bad_count = 0;
		ck_assert_int_eq(meta_scrub(meta, &scrub), 0);
		ck_assert_uint_eq(scrub.unrecoverable + bad_count, 0);
		healed += mirror_repaired(_i) > 0;
		volume_unmount();
		looked_at++;
	}
	ck_assert_uint_gt(looked_at, FILES * (BYTES / FS_BLOCK));
	ck_assert_uint_ge(healed, FILES * (BYTES / FS_BLOCK));
	volume_mount(false);
}
END_TEST

Suite *rot_suite(void)
{
	Suite *suite = suite_create("rot");
	TCase *tcase = tcase_create("rot");

	tcase_add_checked_fixture(tcase, setup, volume_teardown);
	tcase_set_timeout(tcase, 240);
	tcase_add_loop_test(tcase, every_block_of_a_leg_may_be_bad_and_every_repair_lands, 0, MIRROR_LEGS);
	suite_add_tcase(suite, tcase);
	return suite;
}
