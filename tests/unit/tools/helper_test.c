/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The process that runs programs for a daemon. That it unmounts is tested on mounts. */
#include "helper.h"

#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[] = "/tmp/helper-test-XXXXXX", program[64], output[64], gate[64];

static void write_program(const char *text)
{
	FILE *file;

	ck_assert_ptr_nonnull(mkdtemp(folder));
	snprintf(program, sizeof(program), "%s/program", folder);
	snprintf(output, sizeof(output), "%s/output", folder);
	snprintf(gate, sizeof(gate), "%s/gate", folder);
	file = fopen(program, "we");
	ck_assert_ptr_nonnull(file);
	fprintf(file, "#!/bin/sh\ncd %s\n%s\n", folder, text);
	fclose(file);
	ck_assert_int_eq(chmod(program, 0700), 0);
}

static void start(const char *text)
{
	char *argv[] = { program_invocation_name, NULL };
	struct helper_options options = { .argv = argv, .mountpoint = "/nowhere", .program = program };

	write_program(text);
	ck_assert_int_eq(helper_start(&options), 0);
}

/* Until the output has as many bytes, which must be these; the test has a time limit. */
static void wait_for(const char *expected)
{
	char found[4096];
	FILE *file;

	do {
		usleep(2000);
		memset(found, 0, sizeof(found));
		file = fopen(output, "re");
		if (file) {
			(void)!fread(found, 1, sizeof(found) - 1, file);
			fclose(file);
		}
	} while (strlen(found) < strlen(expected));
	ck_assert_mem_eq(found, expected, strlen(expected));
}

static void clean(void)
{
	unlink(program);
	unlink(output);
	unlink(gate);
	rmdir(folder);
}

START_TEST(the_program_gets_the_words_one_call_after_the_other)
{
	start("for word; do printf '[%s]' \"$word\" >> output; done; echo >> output");
	ck_assert_int_eq(helper_notify((const char *[]){ "one", "two  words", "", NULL }), 0);
	ck_assert_int_eq(helper_notify((const char *[]){ NULL }), 0);
	ck_assert_int_eq(helper_notify((const char *[]){ "$(three)", NULL }), 0);
	wait_for("[one][two  words][]\n\n[$(three)]\n");
	clean();
}
END_TEST

START_TEST(nobody_waits_for_a_program_that_hangs)
{
	const char *call[] = { "x", NULL };
	int taken = 0, error;
	FILE *file;

	start("printf '[' >> output; while [ ! -e gate ]; do sleep 0.01; done; printf ']' >> output");
	while (!(error = helper_notify(call)))
		taken++;
	ck_assert_int_eq(error, -EAGAIN);
	ck_assert_int_ge(taken, 100);
	wait_for("[");
	/* Nor does the end of the mount. */
	ck_assert_int_eq(helper_unmount(0), -ENOENT);
	file = fopen(gate, "we");
	ck_assert_ptr_nonnull(file);
	fclose(file);
	wait_for("[][][");
	unlink(program); /* what else waits cannot be run */
	clean();
}
END_TEST

START_TEST(what_is_too_long_or_leads_nowhere_is_refused)
{
	char *argv[] = { program_invocation_name, NULL };
	struct helper_options options = { .argv = argv, .mountpoint = "/nowhere" };
	char *long_word = calloc(1, 20000);
	const char *many[70] = { NULL };

	ck_assert_int_eq(helper_start(&options), 0);
	ck_assert_int_eq(helper_notify((const char *[]){ "x", NULL }), -ENOENT);
	start("exit 0");
	memset(long_word, 'x', 19999);
	ck_assert_int_eq(helper_notify((const char *[]){ long_word, NULL }), -E2BIG);
	for (int i = 0; i < 69; i++)
		many[i] = "x";
	ck_assert_int_eq(helper_notify(many), -E2BIG);
	free(long_word);
	clean();
}
END_TEST

START_TEST(the_process_list_does_not_take_it_for_the_daemon)
{
	start("tr '\\0' ' ' < /proc/$PPID/cmdline | cut -c1-16 > output");
	ck_assert_int_eq(helper_notify((const char *[]){ NULL }), 0);
	wait_for("mirrorfs-helper \n");
	clean();
}
END_TEST

TCase *helper_tests(void);
TCase *helper_tests(void)
{
	TCase *tests = tcase_create("helper");

	tcase_add_test(tests, the_program_gets_the_words_one_call_after_the_other);
	tcase_add_test(tests, nobody_waits_for_a_program_that_hangs);
	tcase_add_test(tests, what_is_too_long_or_leads_nowhere_is_refused);
	tcase_add_test(tests, the_process_list_does_not_take_it_for_the_daemon);
	return tests;
}
