/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "options.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

TCase *budget_tests(void);
TCase *journald_tests(void);
TCase *helper_tests(void);
TCase *sandbox_tests(void);

static struct mount_options options;
static struct error error;

static int parse(const char *text)
{
	options_init(&options);
	error.text[0] = '\0';
	return options_parse(&options, text, &error);
}

START_TEST(sizes_take_powers_of_1024)
{
	uint64_t bytes = 7;

	ck_assert(options_size("512", &bytes));
	ck_assert_uint_eq(bytes, 512);
	ck_assert(options_size("64k", &bytes));
	ck_assert_uint_eq(bytes, 65536);
	ck_assert(options_size("3T", &bytes));
	ck_assert_uint_eq(bytes, UINT64_C(3) << 40);
}
END_TEST

START_TEST(what_is_no_size_is_refused)
{
	static const char *const bad[] = { "",   "K",   "-1",	  "+1",			  " 1",
					   "1X", "1KB", "1.5G", "99999999999999999999", "16777216T" };
	uint64_t bytes = 7;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ck_assert_msg(!options_size(bad[i], &bytes), "'%s' was taken for a size", bad[i]);
	ck_assert_uint_eq(bytes, 7);
}
END_TEST

START_TEST(every_word_reaches_its_field)
{
	ck_assert_int_eq(parse("ro,degraded,takeover,heartbeat=0.5,discard,wait=0,commit=2.5,leg-timeout=1,deadline=3,"
			       "cache=16M,"
			       "engine=threads,transport=classic,"
			       "read-policy=leg1,write-mostly=0,errors=ro,leg=/dev/other"), 0);
	ck_assert(options.read_only && options.degraded && options.takeover && options.discard);
	ck_assert_uint_eq(options.heartbeat_ns, UINT64_C(500000000));
	ck_assert_uint_eq(options.wait_ns, 0);
	ck_assert_uint_eq(options.commit_ns, UINT64_C(2500000000));
	ck_assert_uint_eq(options.leg_timeout_ns, UINT64_C(1000000000));
	ck_assert_uint_eq(options.deadline_ns, UINT64_C(3000000000));
	ck_assert_uint_eq(options.cache_bytes, UINT64_C(16) << 20);
	ck_assert_int_eq(options.engine, LEG_ENGINE_THREADS);
	ck_assert_int_eq(options.transport, FRONT_CLASSIC);
	ck_assert_int_eq(options.policy, MIRROR_POLICY_LEG1);
	ck_assert_uint_eq(options.write_mostly, 1);
	ck_assert_str_eq(options.leg, "/dev/other");
	ck_assert_str_eq(options.kernel, "");
}
END_TEST

START_TEST(the_kernels_words_are_handed_on_in_order)
{
	ck_assert_int_eq(parse("nosuid,ro,nodev,,noatime"), 0);
	ck_assert_str_eq(options.kernel, "nosuid,nodev,noatime");
}
END_TEST

START_TEST(the_last_word_on_the_time_of_access_holds)
{
	ck_assert_int_eq(parse("ro"), 0);
	ck_assert(!options.atime_given && options.atime.mode == FS_ATIME_RELATIVE && !options.atime.not_directories);
	ck_assert_int_eq(parse("noatime,strictatime,nodiratime,lazytime"), 0);
	ck_assert(options.atime_given && options.atime.mode == FS_ATIME_STRICT && options.atime.not_directories);
	ck_assert_str_eq(options.kernel, "noatime,atime");
	ck_assert_int_eq(parse("strictatime,noatime,nodiratime,diratime"), 0);
	ck_assert(options.atime.mode == FS_ATIME_NEVER && !options.atime.not_directories);
	ck_assert_str_eq(options.kernel, "atime,noatime");
	ck_assert_int_eq(parse("noatime,relatime"), 0);
	ck_assert_int_eq(options.atime.mode, FS_ATIME_RELATIVE);
	ck_assert_int_eq(parse("lazytime,nolazytime"), 0);
	ck_assert(!options.atime_given);
	ck_assert_int_eq(parse("noatime=1"), -EINVAL);
}
END_TEST

START_TEST(the_last_of_ro_and_rw_holds)
{
	ck_assert_int_eq(parse("ro,rw"), 0);
	ck_assert(!options.read_only);
	ck_assert_int_eq(parse("rw,ro"), 0);
	ck_assert(options.read_only);
}
END_TEST

START_TEST(a_comma_in_a_value_is_escaped)
{
	ck_assert_int_eq(parse("leg=fault:eio\\,hang:/tmp/a\\\\b,ro"), 0);
	ck_assert_str_eq(options.leg, "fault:eio,hang:/tmp/a\\b");
	ck_assert(options.read_only);
}
END_TEST

START_TEST(an_unknown_word_is_named_with_all_that_there_are)
{
	ck_assert_int_eq(parse("ro,nofail"), -EINVAL);
	ck_assert_ptr_nonnull(strstr(error.text, "'nofail'"));
	ck_assert_ptr_nonnull(strstr(error.text, "degraded"));
	ck_assert_ptr_nonnull(strstr(error.text, "deadline="));
	/* The last one of the list: it was not cut off. */
	ck_assert_ptr_nonnull(strstr(error.text, "async, sync"));
}
END_TEST

START_TEST(a_value_that_is_missing_wrong_or_too_much_is_refused)
{
	static const struct {
		const char *text, *says;
	} bad[] = {
		{ "wait", "wait=SECONDS" },   { "ro=1", "takes no value" }, { "wait=soon", "'soon'" },
		{ "heartbeat=0.4", "'0.4'" }, { "heartbeat=61", "'61'" },
		{ "wait=-1", "'-1'" },	      { "commit=0", "'0'" },	    { "deadline=nan", "'nan'" },
		{ "cache=1K", "'1K'" },	      { "cache=12Q", "'12Q'" },	    { "engine=fast", "auto|uring" },
		{ "errors=rw", "'rw'" },      { "leg=", "leg" },	    { "read-policy=leg2", "leg2" },
		{ "write-mostly=2", "'2'" },
		{ "noexec=1", "unknown" },
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		ck_assert_msg(parse(bad[i].text) == -EINVAL, "%s was taken", bad[i].text);
		ck_assert_msg(strstr(error.text, bad[i].says), "%s: '%s' is not in: %s", bad[i].text, bad[i].says,
			      error.text);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("tools");
	TCase *tests = tcase_create("options");
	SRunner *runner;
	int failed;

	tcase_add_test(tests, sizes_take_powers_of_1024);
	tcase_add_test(tests, what_is_no_size_is_refused);
	tcase_add_test(tests, every_word_reaches_its_field);
	tcase_add_test(tests, the_kernels_words_are_handed_on_in_order);
	tcase_add_test(tests, the_last_of_ro_and_rw_holds);
	tcase_add_test(tests, the_last_word_on_the_time_of_access_holds);
	tcase_add_test(tests, a_comma_in_a_value_is_escaped);
	tcase_add_test(tests, an_unknown_word_is_named_with_all_that_there_are);
	tcase_add_test(tests, a_value_that_is_missing_wrong_or_too_much_is_refused);
	suite_add_tcase(suite, tests);
	suite_add_tcase(suite, budget_tests());
	suite_add_tcase(suite, journald_tests());
	suite_add_tcase(suite, helper_tests());
	suite_add_tcase(suite, sandbox_tests());
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
