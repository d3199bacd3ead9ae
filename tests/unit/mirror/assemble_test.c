/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fixture.h"

static int enodev = -ENODEV, eio = -EIO;

/* A mount with leg `with` alone, that writes. */
static void write_alone(int with)
{
	options.degraded = true;
	ck_assert_int_eq(open_legs(disks[with], NULL), 0);
	ck_assert_int_eq(write_blocks(0, 1, 0), 0);
	close_mirror();
	options.degraded = false;
}

START_TEST(a_new_volume_opens_healthy_and_records_where_its_legs_are)
{
	struct format_label label;

	ck_assert_int_eq(open_both(), 0);
	ck_assert(status().healthy);
	ck_assert_uint_eq(mirror_blocks(mirror), (DISK_SIZE - MIRROR_SPACE_OFFSET) / MIRROR_BLOCK);
	ck_assert_str_eq(mirror_identity(mirror)->label, "test");
	for (int i = 0; i < 2; i++) {
		label = label_of(disks[i]);
		ck_assert_str_eq((char *)label.path[0], "disk0");
		ck_assert_str_eq((char *)label.path[1], "disk1");
		ck_assert_uint_eq(le32_get(label.flags), 0);
	}
}
END_TEST

START_TEST(legs_in_the_wrong_order_are_put_right)
{
	ck_assert_int_eq(open_legs(disks[1], disks[0]), 0);
	ck_assert_str_eq(status().leg[0].address, "disk0");
	ck_assert_str_eq(status().leg[1].address, "disk1");
	ck_assert(status().healthy);
}
END_TEST

START_TEST(one_torn_label_is_made_good_by_the_other_slot)
{
	struct format_label newest = label_of(disks[0]), label;
	uint64_t torn = le64_get(newest.address);

	memset(disk_bytes(disks[0]) + torn + 512, 0xee, 512);
	ck_assert_int_eq(open_both(), 0);
	ck_assert(status().healthy);
	label = label_of(disks[0]);
	/* Written over the torn one: the good one is not touched before there is another. */
	ck_assert_uint_eq(le64_get(label.address), torn);
}
END_TEST

START_TEST(a_disk_without_a_label_is_no_leg)
{
	memset(disk_bytes(disks[0]) + LABEL_SLOT0, 0, LABEL_SIZE);
	memset(disk_bytes(disks[0]) + LABEL_SLOT1 + 100, 0x11, 100);
	ck_assert_int_eq(open_both(), -ENODATA);
	ck_assert_ptr_nonnull(strstr(why.text, "disk0"));
	ck_assert_uint_eq(disks_open(), 0);
}
END_TEST

static void future_version(struct format_label *label)
{
	label->version = le32_of(7);
}

static void unknown_incompat(struct format_label *label)
{
	label->incompat = le64_of(0x10);
}

static void unknown_ro_compat(struct format_label *label)
{
	label->ro_compat = le64_of(0x10);
}

START_TEST(an_unknown_version_is_refused_by_name)
{
	change_label(disks[1], future_version);
	ck_assert_int_eq(open_both(), -EPROTONOSUPPORT);
	ck_assert_ptr_nonnull(strstr(why.text, "version 7"));
}
END_TEST

START_TEST(an_unknown_incompat_bit_is_refused_by_name)
{
	change_label(disks[1], unknown_incompat);
	ck_assert_int_eq(open_both(), -EPROTONOSUPPORT);
	ck_assert_ptr_nonnull(strstr(why.text, "0x10"));
}
END_TEST

START_TEST(an_unknown_ro_compat_bit_allows_reading)
{
	change_label(disks[0], unknown_ro_compat);
	change_label(disks[1], unknown_ro_compat);
	ck_assert_int_eq(open_both(), -EPROTONOSUPPORT);
	options.read_only = true;
	ck_assert_int_eq(open_both(), 0);
}
END_TEST

static void of_a_later_time(struct format_label *label)
{
	label->compat = le64_of(0x10);
	memset(label->resync.reserved, 1, sizeof(label->resync.reserved));
	memset(label->claim.reserved, 1, sizeof(label->claim.reserved));
	memset(label->growth, 1, sizeof(label->growth));
	memset(label->reserved, 1, sizeof(label->reserved));
}

START_TEST(what_a_later_mirrorfs_wrote_is_kept)
{
	struct format_label label;

	change_label(disks[0], of_a_later_time);
	options.degraded = true;
	ck_assert_int_eq(open_legs(disks[0], NULL), 0);
	label = label_of(disks[0]);
	ck_assert(label_has(&label, LABEL_LACKS_OTHER)); /* so it was written */
	ck_assert_uint_eq(le64_get(label.compat), 0x10);
	ck_assert_uint_eq(label.resync.reserved[0] + label.resync.reserved[sizeof(label.resync.reserved) - 1], 2);
	ck_assert_uint_eq(label.claim.reserved[0] + label.claim.reserved[sizeof(label.claim.reserved) - 1], 2);
	ck_assert_uint_eq(label.growth[0] + label.growth[sizeof(label.growth) - 1], 2);
	ck_assert_uint_eq(label.reserved[0] + label.reserved[sizeof(label.reserved) - 1], 2);
}
END_TEST

START_TEST(the_same_leg_twice_is_refused)
{
	memcpy(disk_bytes(disks[1]), disk_bytes(disks[0]), DISK_SIZE);
	ck_assert_int_eq(open_both(), -EEXIST);
}
END_TEST

START_TEST(legs_of_two_volumes_are_refused)
{
	struct leg *legs[2] = {disk_open(disks[1]), NULL};
	struct mirror_identity identity;
	uint64_t blocks;

	ck_assert_int_eq(mirror_format(legs, "", &identity, &blocks, NULL), 0);
	leg_close(legs[0]);
	ck_assert_int_eq(open_both(), -EXDEV);
}
END_TEST

START_TEST(a_truncated_leg_is_refused)
{
	disk_resize(disks[1], DISK_SIZE / 2);
	ck_assert_int_eq(open_both(), -ENXIO);
	ck_assert_ptr_nonnull(strstr(why.text, "disk1"));
}
END_TEST

START_TEST(a_single_leg_volume_is_healthy_alone)
{
	struct leg *legs[2] = {disk_open(disks[0]), NULL};
	struct mirror_identity identity;
	uint64_t blocks;

	ck_assert_int_eq(mirror_format(legs, "one", &identity, &blocks, &why), 0);
	ck_assert_int_eq(identity.leg_count, 1);
	leg_close(legs[0]);
	fill(0, 16);
	ck_assert_int_eq(open_legs(disks[0], NULL), 0);
	ck_assert(status().healthy);
	ck_assert_int_eq(read_blocks(0, 16), 0);
	ck_assert_int_eq(write_blocks(20, 4, 0), 0);
	ck_assert_int_eq(flush(), 0);
	ck_assert_uint_eq(le32_get(label_of(disks[0]).flags), 0);
	rot(0, 3);
	ck_assert_int_eq(read_blocks(0, 16), -EIO);
	disk_rule_set(disks[0], rule_fail_writes, &eio);
	ck_assert_int_eq(write_blocks(20, 4, 0), -EIO);
	ck_assert(mirror_failed(mirror));
}
END_TEST

START_TEST(a_missing_leg_needs_the_word_degraded_once)
{
	struct format_label label;

	ck_assert_int_eq(open_both(), 0);
	close_mirror();
	ck_assert_int_eq(open_legs(NULL, disks[1]), -ENOLINK);
	ck_assert_ptr_nonnull(strstr(why.text, "leg 0"));
	ck_assert_ptr_nonnull(strstr(why.text, "disk0"));
	options.degraded = true;
	ck_assert_int_eq(open_legs(NULL, disks[1]), 0);
	/* Durable before mirror_open() returned, so before anything could be written. */
	label = label_of(disks[1]);
	ck_assert(label_has(&label, LABEL_LACKS_OTHER));
	ck_assert(!label_has(&label, LABEL_EPOCH_ALONE));
	ck_assert_int_eq(state_of(0), MIRROR_ABSENT);
	ck_assert(!status().healthy);
	close_mirror();
	options.degraded = false;
	ck_assert_int_eq(open_legs(disks[1], NULL), 0);
}
END_TEST

START_TEST(a_degraded_read_only_mount_writes_no_label)
{
	unsigned char *before = malloc(DISK_SIZE);

	memcpy(before, disk_bytes(disks[1]), DISK_SIZE);
	options.degraded = options.read_only = true;
	ck_assert_int_eq(open_legs(disks[1], NULL), 0);
	close_mirror();
	ck_assert_int_eq(memcmp(before, disk_bytes(disks[1]), DISK_SIZE), 0);
	free(before);
}
END_TEST

static void degraded_auto(struct format_label *label)
{
	label_set(label, LABEL_DEGRADED_AUTO, true);
}

START_TEST(the_policy_in_the_label_is_as_good_as_the_word)
{
	change_label(disks[1], degraded_auto);
	ck_assert_int_eq(open_legs(disks[1], NULL), 0);
}
END_TEST

START_TEST(a_leg_that_missed_writes_comes_back_stale_and_is_not_read)
{
	unsigned int before;

	fill(0, 16);
	write_alone(1);
	rot(0, 3);
	before = disk_count(disks[0], LEG_READ);
	ck_assert_int_eq(open_both(), 0);
	ck_assert_int_eq(state_of(0), MIRROR_STALE);
	ck_assert_int_eq(state_of(1), MIRROR_INSYNC);
	ck_assert_int_eq(read_blocks(0, 8), 0);
	ck_assert_int_eq(write_blocks(8, 1, 0), 0);
	ck_assert_uint_eq(disk_count(disks[0], LEG_READ) - before, 2); /* its labels */
	ck_assert(!block_right(0, 3));
	close_mirror();
	/* It knows by now that it is old: alone it is refused, whatever the user says. */
	options.degraded = true;
	ck_assert_int_eq(open_legs(disks[0], NULL), -ESTALE);
	ck_assert_ptr_nonnull(strstr(why.text, "disk1"));
}
END_TEST

START_TEST(a_stale_leg_does_not_name_the_volume)
{
	options.degraded = true;
	ck_assert_int_eq(open_legs(disks[1], NULL), 0);
	ck_assert_int_eq(write_blocks(0, 1, 0), 0);
	ck_assert_int_eq(mirror_set_label(mirror, "new"), 0);
	close_mirror();
	ck_assert_int_eq(open_both(), 0);
	ck_assert_int_eq(state_of(0), MIRROR_STALE);
	ck_assert_str_eq(mirror_identity(mirror)->label, "new");
}
END_TEST

static void half_named(struct format_label *label)
{
	strcpy((char *)label->name, "new");
}

/* Power was lost when one of them had been told. */
START_TEST(legs_that_name_the_volume_differently_are_made_to_agree)
{
	change_label(disks[_i], half_named);
	ck_assert_int_eq(open_both(), 0);
	ck_assert_str_eq(mirror_identity(mirror)->label, _i ? "test" : "new");
	close_mirror();
	for (int i = 0; i < 2; i++)
		ck_assert_str_eq((char *)label_of(disks[i]).name, _i ? "test" : "new");
}
END_TEST

/* What its other copy says may be what the volume was called before. */
START_TEST(a_leg_with_one_copy_of_its_label_does_not_name_the_volume)
{
	ck_assert_int_eq(open_both(), 0);
	ck_assert_int_eq(mirror_set_label(mirror, "new"), 0);
	close_mirror();
	memset(disk_bytes(disks[_i]) + le64_get(label_of(disks[_i]).address), 0xee, LABEL_SIZE);
	ck_assert_int_eq(open_both(), 0);
	ck_assert(status().healthy);
	ck_assert_str_eq(mirror_identity(mirror)->label, "new");
}
END_TEST

START_TEST(a_damaged_copy_of_a_label_is_written_anew_by_a_mount)
{
	static const uint64_t slots[] = {LABEL_SLOT0, LABEL_SLOT1};
	struct format_label *slot = (void *)(disk_bytes(disks[0]) + slots[_i]);

	memset(slot, 0xee, sizeof(*slot));
	ck_assert_int_eq(open_both(), 0);
	ck_assert(status().healthy);
	ck_assert_uint_eq(le32_get(slot->magic), LABEL_MAGIC);
	ck_assert_uint_eq(le64_get(slot->sequence), le64_get(label_of(disks[0]).sequence));
}
END_TEST

START_TEST(what_no_whole_leg_has_comes_from_a_stale_one_if_it_is_right)
{
	fill(0, 16);
	write_alone(1);
	rot(0, 3);
	rot(1, 5);
	ck_assert_int_eq(open_both(), 0);
	ck_assert_int_eq(state_of(0), MIRROR_STALE);
	ck_assert_int_eq(read_blocks(0, 8), 0);
	wait_repairs();
	ck_assert(block_right(1, 5));
	ck_assert_uint_eq(status().unrecoverable, 0);
	/* What is not right there is nobody's fault, and not taken. */
	rot(1, 3);
	ck_assert_int_eq(read_blocks(0, 8), -EIO);
	ck_assert_uint_eq(status().unrecoverable, 1);
	ck_assert_uint_eq(status().leg[0].charged, 0);
	ck_assert_uint_eq(status().leg[0].checksum_errors, 0);
	ck_assert_int_eq(state_of(0), MIRROR_STALE);
}
END_TEST

START_TEST(a_leg_that_failed_in_the_last_mount_comes_back_stale)
{
	ck_assert_int_eq(open_both(), 0);
	disk_rule_set(disks[0], rule_fail_writes, &enodev);
	ck_assert_int_eq(write_blocks(0, 1, 0), 0);
	close_mirror();
	ck_assert_int_eq(open_both(), 0);
	ck_assert_int_eq(state_of(0), MIRROR_STALE);
	ck_assert_int_eq(write_blocks(1, 1, 0), 0);
	ck_assert_uint_eq(le32_get(label_of(disks[1]).history_count), 2);
}
END_TEST

START_TEST(legs_that_were_each_written_alone_are_refused_together)
{
	write_alone(0);
	write_alone(1);
	ck_assert_int_eq(open_both(), -ESTALE);
	ck_assert_ptr_nonnull(strstr(why.text, "split brain"));
	ck_assert_ptr_nonnull(strstr(why.text, "-o degraded"));
	/* Each alone goes on. */
	ck_assert_int_eq(open_legs(disks[0], NULL), 0);
}
END_TEST

START_TEST(legs_that_each_named_the_volume_alone_are_refused_together)
{
	options.degraded = true;
	for (int leg = 0; leg < 2; leg++) {
		ck_assert_int_eq(open_legs(disks[leg], NULL), 0);
		ck_assert_int_eq(mirror_set_label(mirror, leg ? "one" : "zero"), 0);
		close_mirror();
	}
	options.degraded = false;
	ck_assert_int_eq(open_both(), -ESTALE);
}
END_TEST

START_TEST(legs_that_were_mounted_alone_but_never_written_are_whole)
{
	options.degraded = true;
	ck_assert_int_eq(open_legs(disks[0], NULL), 0);
	close_mirror();
	ck_assert_int_eq(open_legs(disks[1], NULL), 0);
	close_mirror();
	ck_assert_int_eq(open_both(), 0);
	ck_assert(status().healthy);
}
END_TEST

static void resyncing(struct format_label *label)
{
	label_set(label, LABEL_RESYNCING, true);
}

START_TEST(a_leg_that_is_being_filled_cannot_be_mounted_alone)
{
	struct mirror_label_info info;
	struct leg *leg;

	change_label(disks[0], resyncing);
	options.degraded = true;
	ck_assert_int_eq(open_legs(disks[0], NULL), -ESTALE);
	ck_assert_int_eq(open_both(), 0);
	ck_assert_int_eq(state_of(0), MIRROR_STALE);
	close_mirror();
	leg = disk_open(disks[0]);
	ck_assert_int_eq(mirror_label_read(leg, &info, &why), 0);
	ck_assert(info.resyncing);
	ck_assert_int_eq(info.index, 0);
	leg_close(leg);
}
END_TEST

START_TEST(a_leg_whose_label_cannot_be_written_starts_offline)
{
	struct format_label label;

	disk_rule_set(disks[0], rule_fail_labels, &eio);
	ck_assert_int_eq(open_both(), 0);
	ck_assert_int_eq(state_of(0), MIRROR_OFFLINE);
	label = label_of(disks[1]);
	ck_assert(label_has(&label, LABEL_LACKS_OTHER));
	ck_assert_int_eq(write_blocks(0, 1, 0), 0);
	close_mirror();
	disk_rule_set(disks[1], rule_fail_labels, &eio);
	ck_assert_int_eq(open_both(), -EIO);
}
END_TEST

START_TEST(a_leg_that_hangs_holds_up_nobody_for_ever)
{
	uint64_t patience_ns = label_patience_ns;
	struct leg *legs[2] = {disk_open(disks[0]), disk_open(disks[1])};

	label_patience_ns = 500 * NSEC_PER_MSEC; /* a busy machine may take as long as that */
	disk_rule_set(disks[0], rule_hang, NULL);
	ck_assert_int_eq(mirror_open(legs, &options, &mirror, &why), -ETIMEDOUT);
	ck_assert_ptr_nonnull(strstr(why.text, "disk0"));
	leg_close(legs[1]);
	leg_close(legs[0]); /* It is left open, with what it holds. */
	ck_assert_uint_eq(disks_open(), 1);
	disk_rule_set(disks[0], NULL, NULL);
	disk_release(disks[0], -EIO);
	while (disks_open())
		leg_close(legs[0]);
	/* One that does not write its label starts offline. */
	disk_rule_set(disks[0], rule_hang_labels, NULL);
	ck_assert_int_eq(open_both(), 0);
	ck_assert_int_eq(state_of(0), MIRROR_OFFLINE);
	ck_assert_int_eq(mirror_detach(mirror, 0, false, &why), -EBUSY);
	label_patience_ns = patience_ns;
	disk_rule_set(disks[0], NULL, NULL);
	disk_release(disks[0], 0);
}
END_TEST

START_TEST(a_long_history_keeps_its_newest_epochs)
{
	struct format_label label = label_of(disks[0]), older = label;

	for (int i = 0; i < LABEL_HISTORY + 5; i++)
		label_begin_epoch(&label, true, 0);
	ck_assert_uint_eq(le32_get(label.history_count), LABEL_HISTORY);
	ck_assert(!label_knows(&label, &older));
	older = label;
	label_begin_epoch(&label, true, 0);
	ck_assert(label_knows(&label, &older));
	ck_assert(!label_knows(&older, &label));
}
END_TEST

START_TEST(a_tiny_leg_is_refused_at_format)
{
	struct leg *legs[2] = {NULL, NULL};
	struct mirror_identity identity;
	uint64_t blocks;

	disk_resize(disks[0], MIRROR_SPACE_OFFSET);
	legs[0] = disk_open(disks[0]);
	ck_assert_int_eq(mirror_format(legs, "", &identity, &blocks, &why), -ENOSPC);
	leg_close(legs[0]);
}
END_TEST

TCase *assemble_tests(void)
{
	TCase *tests = tcase_create("assemble");

	tcase_add_checked_fixture(tests, setup_disks, teardown);
	tcase_set_timeout(tests, 60);
	tcase_add_test(tests, a_new_volume_opens_healthy_and_records_where_its_legs_are);
	tcase_add_test(tests, legs_in_the_wrong_order_are_put_right);
	tcase_add_test(tests, one_torn_label_is_made_good_by_the_other_slot);
	tcase_add_test(tests, a_disk_without_a_label_is_no_leg);
	tcase_add_test(tests, an_unknown_version_is_refused_by_name);
	tcase_add_test(tests, an_unknown_incompat_bit_is_refused_by_name);
	tcase_add_test(tests, an_unknown_ro_compat_bit_allows_reading);
	tcase_add_test(tests, what_a_later_mirrorfs_wrote_is_kept);
	tcase_add_test(tests, the_same_leg_twice_is_refused);
	tcase_add_test(tests, legs_of_two_volumes_are_refused);
	tcase_add_test(tests, a_truncated_leg_is_refused);
	tcase_add_test(tests, a_single_leg_volume_is_healthy_alone);
	tcase_add_test(tests, a_missing_leg_needs_the_word_degraded_once);
	tcase_add_test(tests, a_degraded_read_only_mount_writes_no_label);
	tcase_add_test(tests, the_policy_in_the_label_is_as_good_as_the_word);
	tcase_add_test(tests, a_leg_that_missed_writes_comes_back_stale_and_is_not_read);
	tcase_add_test(tests, a_stale_leg_does_not_name_the_volume);
	tcase_add_loop_test(tests, a_leg_with_one_copy_of_its_label_does_not_name_the_volume, 0, 2);
	tcase_add_loop_test(tests, legs_that_name_the_volume_differently_are_made_to_agree, 0, 2);
	tcase_add_loop_test(tests, a_damaged_copy_of_a_label_is_written_anew_by_a_mount, 0, LABEL_SLOTS);
	tcase_add_test(tests, what_no_whole_leg_has_comes_from_a_stale_one_if_it_is_right);
	tcase_add_test(tests, a_leg_that_failed_in_the_last_mount_comes_back_stale);
	tcase_add_test(tests, legs_that_were_each_written_alone_are_refused_together);
	tcase_add_test(tests, legs_that_each_named_the_volume_alone_are_refused_together);
	tcase_add_test(tests, legs_that_were_mounted_alone_but_never_written_are_whole);
	tcase_add_test(tests, a_leg_that_is_being_filled_cannot_be_mounted_alone);
	tcase_add_test(tests, a_leg_whose_label_cannot_be_written_starts_offline);
	tcase_add_test(tests, a_leg_that_hangs_holds_up_nobody_for_ever);
	tcase_add_test(tests, a_long_history_keeps_its_newest_epochs);
	tcase_add_test(tests, a_tiny_leg_is_refused_at_format);
	return tests;
}
