/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "range_test.h"

#include <errno.h>
#include <stdlib.h>

int main(void)
{
	Suite *suite = suite_create("range");
	SRunner *runner;
	int failed;

	suite_add_tcase(suite, model_tests());
	suite_add_tcase(suite, threads_tests());
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
