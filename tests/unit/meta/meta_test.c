/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fixture.h"

int main(void)
{
	SRunner *runner = srunner_create(node_suite());
	int failed;

	srunner_add_suite(runner, tree_suite());
	srunner_add_suite(runner, journal_suite());
	srunner_add_suite(runner, replay_suite());
	srunner_add_suite(runner, checkpoint_suite());
	srunner_add_suite(runner, super_suite());
	srunner_add_suite(runner, map_suite());
	srunner_add_suite(runner, alloc_suite());
	srunner_add_suite(runner, scrub_suite());
	srunner_add_suite(runner, share_suite());
	srunner_add_suite(runner, failure_suite());
	srunner_add_suite(runner, rebuild_suite());
	srunner_add_suite(runner, trim_suite());
	srunner_add_suite(runner, resync_suite());
	srunner_add_suite(runner, grow_suite());
	srunner_add_suite(runner, home_suite());
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
