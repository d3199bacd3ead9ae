/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fixture.h"

#include <signal.h>
#include <stdio.h>

START_TEST(the_table_of_transitions_is_this_one)
{
	static const char *const legal[] = {"absent>in-sync", "absent>stale",	"in-sync>offline",
					    "stale>resync",   "stale>offline",	"resync>in-sync",
					    "resync>stale",   "resync>offline", "offline>absent"};
	unsigned int found = 0;

	for (enum mirror_leg_state from = 0; from < MIRROR_LEG_STATES; from++) {
		for (enum mirror_leg_state to = 0; to < MIRROR_LEG_STATES; to++) {
			char name[64];
			bool listed = false;

			snprintf(name, sizeof(name), "%s>%s", mirror_leg_state_name(from), mirror_leg_state_name(to));
			for (size_t i = 0; i < sizeof(legal) / sizeof(legal[0]); i++)
				listed |= !strcmp(name, legal[i]);
			ck_assert_msg(state_legal(from, to) == listed, "%s", name);
			found += listed;
		}
	}
	ck_assert_uint_eq(found, sizeof(legal) / sizeof(legal[0]));
}
END_TEST

START_TEST(an_illegal_transition_aborts)
{
	mutex_lock(&mirror->lock);
	state_set_locked(mirror, 0, MIRROR_RESYNC, "on a whim");
	mutex_unlock(&mirror->lock);
}
END_TEST

START_TEST(the_last_in_sync_leg_cannot_be_taken_out)
{
	mutex_lock(&mirror->lock);
	ck_assert(leg_out_locked(mirror, 0, "first"));
	ck_assert(!leg_out_locked(mirror, 1, "second"));
	ck_assert_int_eq(mirror->legs[1].state, MIRROR_INSYNC);
	mutex_unlock(&mirror->lock);
}
END_TEST

START_TEST(a_stamp_passes_when_the_pins_before_it_are_gone)
{
	struct mirror_pin *before = mirror_pin(mirror), *also = mirror_pin(mirror), *after;
	uint64_t stamp = mirror_pin_stamp(mirror);

	after = mirror_pin(mirror);
	ck_assert_ptr_eq(before, also);
	ck_assert_ptr_ne(before, after);
	ck_assert_uint_lt(mirror_pins_passed(mirror), stamp);
	mirror_pin_put(also);
	ck_assert_uint_lt(mirror_pins_passed(mirror), stamp);
	mirror_pin_ref(before);
	mirror_pin_put(before);
	ck_assert_uint_lt(mirror_pins_passed(mirror), stamp);
	mirror_pin_put(before);
	ck_assert_uint_ge(mirror_pins_passed(mirror), stamp);
	stamp = mirror_pin_stamp(mirror);
	ck_assert_uint_lt(mirror_pins_passed(mirror), stamp);
	mirror_pin_put(after);
	stamp = mirror_pin_stamp(mirror);
	ck_assert_uint_ge(mirror_pins_passed(mirror), stamp);
}
END_TEST

TCase *state_tests(void)
{
	TCase *tests = tcase_create("state");

	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_add_test(tests, the_table_of_transitions_is_this_one);
	if (!getenv("CK_FORK") || strcmp(getenv("CK_FORK"), "no"))
		tcase_add_test_raise_signal(tests, an_illegal_transition_aborts, SIGABRT);
	tcase_add_test(tests, the_last_in_sync_leg_cannot_be_taken_out);
	tcase_add_test(tests, a_stamp_passes_when_the_pins_before_it_are_gone);
	return tests;
}
