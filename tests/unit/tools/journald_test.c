/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the journal is told of a line. */
#include "journald.h"

#include <check.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

static char text[4096];

/* True: it has this line. */
static bool has(const char *field)
{
	char line[256];

	snprintf(line, sizeof(line), "\n%s\n", field);
	return strstr(text, line);
}

static void format(const char *line)
{
	text[0] = '\n';
	ck_assert_uint_lt(journald_format(text + 1, sizeof(text) - 1, LOG_WARNING, line), sizeof(text) - 1);
}

START_TEST(a_line_has_message_priority_and_process)
{
	char pid[64];

	format("it rains");
	ck_assert(has("MESSAGE=it rains"));
	ck_assert(has("PRIORITY=4"));
	ck_assert(has("SYSLOG_FACILITY=3"));
	ck_assert(has("SYSLOG_IDENTIFIER=mirrorfs"));
	snprintf(pid, sizeof(pid), "SYSLOG_PID=%d", (int)getpid());
	ck_assert(has(pid));
}
END_TEST

START_TEST(what_stands_in_a_line_as_key_and_value_is_a_field)
{
	format("leg 1 is offline: leg=1 path=/dev/sdb from=in-sync reason=\"a write at block 7 failed: no=it\" n=2");
	ck_assert(has("MIRRORFS_LEG=1"));
	ck_assert(has("MIRRORFS_PATH=/dev/sdb"));
	ck_assert(has("MIRRORFS_FROM=in-sync"));
	ck_assert(has("MIRRORFS_REASON=a write at block 7 failed: no=it"));
	ck_assert(has("MIRRORFS_N=2"));
	ck_assert(!strstr(text, "MIRRORFS_NO="));
}
END_TEST

START_TEST(what_is_not_a_key_is_no_field)
{
	format("x =11 A=22 3=44 a-b=55 ab=");
	ck_assert(!strstr(text, "MIRRORFS_A="));
	ck_assert(!strstr(text, "=11\n"));
	ck_assert(!strstr(text, "=44\n"));
	ck_assert(!strstr(text, "=55\n"));
	ck_assert(has("MIRRORFS_AB="));
}
END_TEST

START_TEST(every_line_tells_the_volume)
{
	journald_describe("uuid", "photos", "/srv/photos");
	format("it rains");
	ck_assert(has("MIRRORFS_VOLUME=uuid"));
	ck_assert(has("MIRRORFS_LABEL=photos"));
	ck_assert(has("MIRRORFS_MOUNTPOINT=/srv/photos"));
	journald_describe("uuid", "", "/srv/photos");
	format("it rains");
	ck_assert(!strstr(text, "MIRRORFS_LABEL"));
}
END_TEST

START_TEST(no_field_is_smuggled_in)
{
	journald_describe("uuid", "a\nPRIORITY=0", "/srv/photos");
	format("a path\nPRIORITY=0\nleg=1");
	ck_assert(!has("PRIORITY=0"));
	ck_assert(has("MESSAGE=a path"));
	journald_describe("", "", "");
}
END_TEST

TCase *journald_tests(void);
TCase *journald_tests(void)
{
	TCase *tests = tcase_create("journald");

	tcase_add_test(tests, a_line_has_message_priority_and_process);
	tcase_add_test(tests, what_stands_in_a_line_as_key_and_value_is_a_field);
	tcase_add_test(tests, what_is_not_a_key_is_no_field);
	tcase_add_test(tests, every_line_tells_the_volume);
	tcase_add_test(tests, no_field_is_smuggled_in);
	return tests;
}
