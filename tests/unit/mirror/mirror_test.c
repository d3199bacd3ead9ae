/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fixture.h"

int main(void)
{
	Suite *suite = suite_create("mirror");
	SRunner *runner;
	int failed;

	suite_add_tcase(suite, read_tests());
	suite_add_tcase(suite, resync_tests());
	suite_add_tcase(suite, write_tests());
	suite_add_tcase(suite, clock_tests());
	suite_add_tcase(suite, late_tests());
	suite_add_tcase(suite, hedge_tests());
	suite_add_tcase(suite, stopped_tests());
	suite_add_tcase(suite, pick_tests());
	suite_add_tcase(suite, settings_tests());
	suite_add_tcase(suite, assemble_tests());
	suite_add_tcase(suite, look_tests());
	suite_add_tcase(suite, replace_tests());
	suite_add_tcase(suite, between_tests());
	suite_add_tcase(suite, state_tests());
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
