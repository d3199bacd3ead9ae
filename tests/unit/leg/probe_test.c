/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "leg_test.h"

#include <stdio.h>
#include <unistd.h>

/* Of a path, as it is when nobody has it open. */
static int probe(const char *path, struct leg_signature *signature, struct error *error)
{
	struct leg_options options = { .read_only = true, .shared = true };
	struct leg *leg;
	int code = leg_open(path, &options, &leg, error);

	if (code)
		return code;
	code = leg_probe(leg, signature, error);
	leg_close(leg);
	return code;
}

START_TEST(an_empty_image_carries_nothing)
{
	char *path = leg_test_image(1 << 20);
	struct leg_signature signature;
	struct error error = { "" };
	char where[100];

	ck_assert_int_eq(probe(path, &signature, &error), 0);
	ck_assert(!signature.found);
	ck_assert_int_eq(truncate(path, 0), 0);
	ck_assert_msg(!probe(path, &signature, &error), "%s", error.text);
	ck_assert(!signature.found);
	ck_assert(!leg_in_use(path, where, sizeof(where)));
	leg_test_unlink(path);
}
END_TEST

START_TEST(a_filesystem_is_found_by_name_and_wiped)
{
	char *path = leg_test_image(8 << 20), *command;
	struct leg_signature signature;
	struct error error = { "" };
	struct leg *leg;

	ck_assert_int_gt(asprintf(&command, "PATH=$PATH:/sbin:/usr/sbin mkfs.ext4 -q -F -L precious %s >/dev/null 2>&1",
				  path), 0);
	if (system(command)) {
		fprintf(stderr, "skipped: mkfs.ext4 does not run here\n");
	} else {
		ck_assert_msg(!probe(path, &signature, &error), "%s", error.text);
		ck_assert(signature.found);
		ck_assert_str_eq(signature.type, "ext4");
		ck_assert_str_eq(signature.usage, "filesystem");
		ck_assert_str_eq(signature.label, "precious");
		ck_assert_uint_eq(strlen(signature.uuid), 36);

		ck_assert_int_eq(leg_open(path, &(struct leg_options){ .read_only = true }, &leg, &error), 0);
		ck_assert_int_eq(leg_wipe(leg, &error), -EROFS);
		leg_close(leg);
		error.text[0] = 0;
		ck_assert_int_eq(leg_open(path, &(struct leg_options){ 0 }, &leg, &error), 0);
		ck_assert_msg(!leg_wipe(leg, &error), "%s", error.text);
		leg_close(leg);
		ck_assert_int_eq(probe(path, &signature, &error), 0);
		ck_assert_msg(!signature.found, "still %s", signature.type);
	}
	free(command);
	leg_test_unlink(path);
}
END_TEST

START_TEST(a_partition_table_is_found_and_wiped)
{
	char *path = leg_test_image(8 << 20);
	/* the one entry of a DOS table: type 0x83, first sector 2048, 8192 sectors */
	static const unsigned char table[] = { 0, 0, 2, 0, 0x83, 0, 0, 0, 0, 8, 0, 0, 0, 32, 0, 0 };
	struct leg_signature signature;
	struct error error = { "" };
	unsigned char *sector = leg_test_buffer(4096, 0);
	struct leg *leg;

	memcpy(sector + 446, table, sizeof(table));
	sector[440] = 1;
	sector[510] = 0x55;
	sector[511] = 0xaa;
	ck_assert_int_eq(leg_open(path, &(struct leg_options){ 0 }, &leg, &error), 0);
	ck_assert_int_eq(leg_test_io(leg, LEG_WRITE, LEG_DSYNC, 0, 4096, sector), 0);
	ck_assert_msg(!probe(path, &signature, &error), "%s", error.text);
	ck_assert(signature.found);
	ck_assert_str_eq(signature.type, "dos");
	ck_assert_str_eq(signature.usage, "partition-table");
	ck_assert_msg(!leg_wipe(leg, &error), "%s", error.text);
	leg_close(leg);
	ck_assert_int_eq(probe(path, &signature, &error), 0);
	ck_assert(!signature.found);
	free(sector);
	leg_test_unlink(path);
}
END_TEST

START_TEST(a_mounted_device_is_in_use)
{
	FILE *mounts = fopen("/proc/self/mounts", "re");
	char device[4096], where[400];
	bool found = false;

	/* Any device mounted here will do. */
	while (!found && fscanf(mounts, "%4095s %*[^\n]", device) == 1)
		found = !strncmp(device, "/dev/", 5) && !access(device, F_OK);
	fclose(mounts);
	if (!found) {
		fprintf(stderr, "skipped: no device is mounted here\n");
		return;
	}
	ck_assert(leg_in_use(device, where, sizeof(where)));
	ck_assert_msg(!strncmp(where, "mounted on /", 12), "%s", where);
}
END_TEST

Suite *probe_suite(void)
{
	Suite *suite = suite_create("probe");
	TCase *tests = tcase_create("probe");

	tcase_add_test(tests, an_empty_image_carries_nothing);
	tcase_add_test(tests, a_filesystem_is_found_by_name_and_wiped);
	tcase_add_test(tests, a_partition_table_is_found_and_wiped);
	tcase_add_test(tests, a_mounted_device_is_in_use);
	suite_add_tcase(suite, tests);
	return suite;
}
