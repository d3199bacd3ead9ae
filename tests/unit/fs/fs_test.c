/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fixture.h"

#ifdef __SANITIZE_THREAD__
/*
 * A crash leaves threads behind on purpose. Directories that change places are locked parent before child, whichever
 * that is at the time: an order that fs->rename guards and that the detector cannot see.
 */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
	return "detect_deadlocks=0:report_thread_leaks=0";
}
#endif

int main(void)
{
	SRunner *runner = srunner_create(attr_suite());
	int failed;

	srunner_add_suite(runner, acl_suite());
	srunner_add_suite(runner, check_suite());
	srunner_add_suite(runner, check_share_suite());
	srunner_add_suite(runner, copy_suite());
	srunner_add_suite(runner, damage_suite());
	srunner_add_suite(runner, ahead_suite());
	srunner_add_suite(runner, dir_suite());
	srunner_add_suite(runner, direct_suite());
	srunner_add_suite(runner, flight_suite());
	srunner_add_suite(runner, inode_suite());
	srunner_add_suite(runner, name_suite());
	srunner_add_suite(runner, rename_suite());
	srunner_add_suite(runner, rot_suite());
	srunner_add_suite(runner, file_suite());
	srunner_add_suite(runner, truncate_suite());
	srunner_add_suite(runner, writeout_suite());
	srunner_add_suite(runner, orphan_suite());
	srunner_add_suite(runner, placement_suite());
	srunner_add_suite(runner, threads_suite());
	srunner_add_suite(runner, xattr_suite());
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
