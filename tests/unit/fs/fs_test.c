/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fixture.h"

int main(void)
{
	SRunner *runner = srunner_create(attr_suite());
	int failed;

	srunner_add_suite(runner, dir_suite());
	srunner_add_suite(runner, name_suite());
	srunner_add_suite(runner, rename_suite());
	srunner_add_suite(runner, file_suite());
	srunner_add_suite(runner, truncate_suite());
	srunner_add_suite(runner, writeout_suite());
	srunner_add_suite(runner, orphan_suite());
	srunner_add_suite(runner, threads_suite());
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
