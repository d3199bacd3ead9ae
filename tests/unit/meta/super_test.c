/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The two slots: which one counts, and what is refused. */
#include "fixture.h"

#define FILE1 100

/* Both slots hold what a mount may come from; the volume is not mounted. */
static void two_checkpoints(void)
{
	put_item(FILE1, 1, 1, 10);
	ck_assert_int_eq(meta_checkpoint(meta), 0);
	put_item(FILE1, 1, 2, 10);
	ck_assert_int_eq(meta_checkpoint(meta), 0);
	volume_kill();
}

static struct format_super *slot(int leg, bool newest)
{
	return (struct format_super *)disk_super(leg, newest);
}

static void rot_slot(int leg, bool newest)
{
	disk_rot(leg, le64_get(slot(leg, newest)->address), 1);
}

START_TEST(the_newest_valid_slot_on_any_leg_wins)
{
	uint64_t generation, address;
	struct format_super wanted;

	two_checkpoints();
	generation = le64_get(slot(0, true)->generation);
	address = le64_get(slot(0, true)->address);
	wanted = *slot(0, true);
	rot_slot(_i, true);
	volume_mount(false);
	expect_item(FILE1, 1, 2, 10);
	ck_assert_uint_eq(meta->generation, generation + 2);
	/* The mount's first slot is the one that it chose, made equal on both legs. */
	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		const struct entry *entry = log_entry(log_find(0, leg, PLACE_SLOT));

		ck_assert_uint_eq(entry->block, address);
		ck_assert_mem_eq(entry->data, &wanted, sizeof(wanted));
		ck_assert(entry->dsync);
	}
}
END_TEST

START_TEST(the_older_slot_serves_when_the_newest_is_bad)
{
	two_checkpoints();
	rot_slot(0, true);
	rot_slot(1, true);
	volume_mount(false);
	expect_item(FILE1, 1, 2, 10); /* what came behind it is still in the ring */
	volume_remount();
	expect_item(FILE1, 1, 2, 10);
}
END_TEST

START_TEST(a_leg_without_slots_gets_them_back)
{
	two_checkpoints();
	rot_slot(_i, true);
	rot_slot(_i, false);
	volume_mount(false);
	expect_item(FILE1, 1, 2, 10);
	volume_remount();
	ck_assert_mem_eq(disk_block(0, SUPER_SLOT0), disk_block(1, SUPER_SLOT0), FORMAT_BLOCK);
	ck_assert_mem_eq(disk_block(0, SUPER_SLOT1), disk_block(1, SUPER_SLOT1), FORMAT_BLOCK);
}
END_TEST

START_TEST(unreadable_slots_of_one_leg_do_no_harm)
{
	two_checkpoints();
	disk_fails(_i, LEG_READ, 0, SUPER_RING, -EIO);
	volume_mount(false);
	expect_item(FILE1, 1, 2, 10);
}
END_TEST

START_TEST(no_slot_at_all_is_refused)
{
	struct error why;

	two_checkpoints();
	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		rot_slot(leg, true);
		rot_slot(leg, false);
	}
	ck_assert_int_eq(volume_try_mount(false, &why), -ENODATA);
	ck_assert_ptr_nonnull(strstr(why.text, "superblock"));
	ck_assert_uint_eq(log_find(0, 0, PLACE_SLOT), log_count());
}
END_TEST

START_TEST(a_slot_at_the_place_of_the_other_is_not_valid)
{
	struct error why;

	two_checkpoints();
	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		struct format_super newest = *slot(leg, true), older = *slot(leg, false);

		memcpy(disk_block(leg, le64_get(newest.address)), &older, sizeof(older));
		memcpy(disk_block(leg, le64_get(older.address)), &newest, sizeof(newest));
	}
	ck_assert_int_eq(volume_try_mount(false, &why), -ENODATA);
}
END_TEST

START_TEST(what_a_newer_mirrorfs_wrote_is_named)
{
	struct format_super *super;
	struct error why;

	two_checkpoints();
	super = slot(_i & 1, _i & 2);
	if (_i & 4)
		super->version = le32_of(77);
	else
		super->incompat = le64_of(0x4000);
	super_reseal(super);
	for (int read_only = 0; read_only < 2; read_only++) {
		ck_assert_int_eq(volume_try_mount(read_only, &why), -EPROTONOSUPPORT);
		ck_assert_ptr_nonnull(strstr(why.text, _i & 4 ? "version 77" : "incompat 0x4000"));
	}
}
END_TEST

/* What a later mirrorfs has put there is not for this one to judge, and none of it may get lost by its checkpoints. */
START_TEST(unknown_compat_bits_and_reserved_fields_are_kept)
{
	volume_unmount();
	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		struct format_super *super = slot(leg, true);

		super->compat = le64_of(0x40);
		super->reserved3 = le32_of(1);
		memset(super->growth, 2, sizeof(super->growth));
		memset(super->reserved, 3, sizeof(super->reserved));
		super_reseal(super);
	}
	volume_mount(false);
	for (int i = 0; i < 3; i++) {
		put_item(FILE1, 1, i, 10);
		sync_all();
	}
	volume_unmount();
	for (int i = 0; i < 2 * MIRROR_LEGS; i++) {
		const struct format_super *super = slot(i / 2, i % 2);

		ck_assert_uint_eq(le64_get(super->compat), 0x40);
		ck_assert_uint_eq(le32_get(super->reserved3), 1);
		ck_assert_uint_eq(super->growth[0] + super->growth[sizeof(super->growth) - 1], 4);
		ck_assert_uint_eq(super->reserved[0] + super->reserved[sizeof(super->reserved) - 1], 6);
	}
}
END_TEST

/* format/super.h: unknown bits of ro_compat mean that it may be mounted read-only alone. */
START_TEST(unknown_ro_compat_bits_allow_reading_alone)
{
	struct error why;

	two_checkpoints();
	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		slot(leg, true)->ro_compat = le64_of(0x20);
		super_reseal(slot(leg, true));
	}
	ck_assert_int_eq(volume_try_mount(false, &why), -EPROTONOSUPPORT);
	ck_assert_ptr_nonnull(strstr(why.text, "ro_compat 0x20"));
	ck_assert_uint_eq(log_find(0, 0, PLACE_SLOT), log_count());
	volume_mount(true);
	expect_item(FILE1, 1, 2, 10);
}
END_TEST

static void grown(struct format_super *super, uint64_t start, uint64_t blocks)
{
	super->grown_start = le64_of(start);
	super->grown_blocks = le64_of(blocks);
}

#define GEOMETRIES 28
static void forge_geometry(struct format_super *super, int how)
{
	uint64_t space = mirror_space_blocks(64u << 20);
	uint64_t ring_blocks = le64_get(super->ring_blocks), heap = le64_get(super->heap_start);

	switch (how) {
	case 0: super->ring_start = le64_of(0); break;
	case 1: super->ring_start = le64_of(UINT64_MAX - 10); break;
	case 2: super->ring_start = le64_of(space); break;
	case 3: super->ring_blocks = le64_of(0); break;
	case 4: super->ring_blocks = le64_of(UINT64_MAX - 31); break;
	case 5: super->ring_blocks = le64_of(JOURNAL_RECORD_BLOCKS); break;
	case 6: super->ring_blocks = le64_of(ring_blocks + 4096); break;
	case 7: super->heap_start = le64_of(0); break;
	case 8: super->heap_start = le64_of(heap + 1); break;
	case 9: super->heap_start = le64_of(UINT64_MAX - 3); break;
	case 10: super->heap_blocks = le64_of(UINT64_MAX - 1); break;
	case 11: super->heap_blocks = le64_of(space - heap + 1); break;
	case 12: super->boundary = le64_of(heap - 4); break;
	case 13: super->boundary = le64_of(le64_get(super->boundary) + 2); break;
	case 14: super->boundary = le64_of(space + 4); break;
	case 15: super->reserve_blocks = le64_of(UINT64_MAX); break;
	case 16: super->ring_position = le64_of(ring_blocks); break;
	case 17: super->ring_position = le64_of(ring_blocks - JOURNAL_RECORD_BLOCKS + 1); break;
	case 18: super->root_level = le32_of(NODE_LEVELS); break;
	case 19: super->generation = le64_of(FORMAT_NUMBER_END); break;
	case 20: super->sequence = le64_of(UINT64_MAX); break;
	case 21: super->next_object = le64_of(FORMAT_NUMBER_END); break;
	case 22: super->next_object = le64_of(OBJECT_ROOT); break;
	case 23: super->next_object = le64_of(0); break;
	case 24: grown(super, 12804, 256); break;
	case 25: grown(super, 12800, 1); break;
	case 26: grown(super, heap / 256 * 256, 256); break;
	case 27: grown(super, 12800, UINT64_MAX - 255); break;
	}
}

START_TEST(a_forged_geometry_is_refused)
{
	struct format_super *slots[2 * MIRROR_LEGS];
	struct error why;

	two_checkpoints();
	for (int i = 0; i < 2 * MIRROR_LEGS; i++)
		slots[i] = slot(i / 2, i % 2);
	for (int i = 0; i < 2 * MIRROR_LEGS; i++) {
		forge_geometry(slots[i], _i);
		super_reseal(slots[i]);
	}
	ck_assert_int_eq(volume_try_mount(false, &why), -ENODATA);
}
END_TEST

#define ROOTS 8
static void forge_root(struct format_super *super, int how)
{
	switch (how) {
	case 0: super->root.address = le64_of(0); break;
	case 1: super->root.address = le64_of(UINT64_MAX - 2); break;
	case 2: super->root.address = le64_of(le64_get(super->root.address) + 1); break;
	case 3: super->root.address = le64_of(le64_get(super->heap_start) + le64_get(super->heap_blocks) - 2); break;
	case 4: super->root.generation = le64_of(1); break;
	case 5: super->root.crc = le32_of(le32_get(super->root.crc) ^ 1); break;
	case 6: super->root_level = le32_of(1); break;
	case 7: super->root_level = le32_of(NODE_LEVELS - 1); break;
	}
}

START_TEST(a_forged_root_is_refused)
{
	struct error why;

	two_checkpoints();
	for (int i = 0; i < 2 * MIRROR_LEGS; i++) {
		forge_root(slot(i / 2, i % 2), _i);
		super_reseal(slot(i / 2, i % 2));
	}
	ck_assert_int_eq(volume_try_mount(false, &why), -EIO);
	ck_assert_ptr_nonnull(strstr(why.text, "tree"));
}
END_TEST

/* What mkfs allocates for real in a sparse image: slots and ring, and where the nodes go first. */
START_TEST(fixed_extents_hold_slots_ring_and_nodes)
{
	struct range_extent extents[META_FIXED_EXTENTS];

	meta_fixed_extents(mirror_blocks(mirror), extents);
	for (uint64_t i = 0; i < 300; i++)
		put_item(FILE1, i, 1, 1000);
	sync_all();
	ck_assert_int_eq(meta_checkpoint(meta), 0);
	for (size_t n = 0; n < log_count(); n++) {
		const struct entry *entry = log_entry(n);
		const struct range_extent *extent = &extents[entry->place == PLACE_HEAP];

		if (entry->place == PLACE_FLUSH || entry->place == PLACE_LABEL)
			continue;
		ck_assert_uint_ge(entry->block, extent->start);
		ck_assert_uint_le(entry->block + entry->count, extent->start + extent->length);
	}
}
END_TEST

Suite *super_suite(void)
{
	Suite *suite = suite_create("super");
	TCase *tcase = tcase_create("super");

	tcase_add_checked_fixture(tcase, volume_setup, volume_teardown);
	tcase_set_timeout(tcase, 60);
	tcase_add_loop_test(tcase, the_newest_valid_slot_on_any_leg_wins, 0, 2);
	tcase_add_test(tcase, the_older_slot_serves_when_the_newest_is_bad);
	tcase_add_loop_test(tcase, a_leg_without_slots_gets_them_back, 0, 2);
	tcase_add_loop_test(tcase, unreadable_slots_of_one_leg_do_no_harm, 0, 2);
	tcase_add_test(tcase, no_slot_at_all_is_refused);
	tcase_add_test(tcase, a_slot_at_the_place_of_the_other_is_not_valid);
	tcase_add_loop_test(tcase, what_a_newer_mirrorfs_wrote_is_named, 0, 8);
	tcase_add_test(tcase, unknown_compat_bits_and_reserved_fields_are_kept);
	tcase_add_test(tcase, unknown_ro_compat_bits_allow_reading_alone);
	tcase_add_loop_test(tcase, a_forged_geometry_is_refused, 0, GEOMETRIES);
	tcase_add_loop_test(tcase, a_forged_root_is_refused, 0, ROOTS);
	tcase_add_test(tcase, fixed_extents_hold_slots_ring_and_nodes);
	suite_add_tcase(suite, tcase);
	return suite;
}
