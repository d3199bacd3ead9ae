/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The default budget, from a forged /proc and /sys. */
#include "budget.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define MIB (UINT64_C(1) << 20)

static char root[64];

/* With its folders. */
static void put(const char *path, const char *text)
{
	char full[256];
	FILE *file;

	snprintf(full, sizeof(full), "%s%s", root, path);
	for (char *at = full + 1; *at; at++) {
		if (*at != '/')
			continue;
		*at = '\0';
		mkdir(full, 0700);
		*at = '/';
	}
	file = fopen(full, "w");
	ck_assert_ptr_nonnull(file);
	fputs(text, file);
	fclose(file);
}

static void setup(void)
{
	snprintf(root, sizeof(root), "/tmp/budget_test.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(root));
	put("/proc/meminfo", "MemTotal:        8388608 kB\nMemFree: 1 kB\n");
}

static void teardown(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -r %s", root);
	ck_assert_int_eq(system(command), 0);
}

START_TEST(an_eighth_of_the_machine)
{
	ck_assert_uint_eq(budget_default(root), 1024 * MIB);
}
END_TEST

START_TEST(never_less_than_64_mib_and_never_more_than_4_gib)
{
	put("/proc/meminfo", "MemTotal: 262144 kB\n");
	ck_assert_uint_eq(budget_default(root), 64 * MIB);
	put("/proc/meminfo", "MemTotal: 268435456 kB\n");
	ck_assert_uint_eq(budget_default(root), 4096 * MIB);
	put("/proc/meminfo", "something else\n");
	ck_assert_uint_eq(budget_default(root), 64 * MIB);
}
END_TEST

START_TEST(an_eighth_of_what_the_control_group_allows)
{
	put("/proc/self/cgroup", "0::/a/b\n");
	put("/sys/fs/cgroup/a/b/memory.max", "1610612736\n");
	put("/sys/fs/cgroup/a/memory.max", "max\n");
	ck_assert_uint_eq(budget_default(root), 192 * MIB);
}
END_TEST

START_TEST(a_group_above_may_allow_less)
{
	put("/proc/self/cgroup", "0::/a/b\n");
	put("/sys/fs/cgroup/a/b/memory.max", "max\n");
	put("/sys/fs/cgroup/a/memory.max", "1073741824\n");
	ck_assert_uint_eq(budget_default(root), 128 * MIB);
}
END_TEST

START_TEST(control_groups_of_the_first_version_count)
{
	put("/proc/self/cgroup", "9:name=systemd:/\n4:cpu,memory:/x\n3:memory:/a\n0::/\n");
	put("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "1073741824\n");
	put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
	ck_assert_uint_eq(budget_default(root), 128 * MIB);
}
END_TEST

START_TEST(the_fixed_part_is_24_mib_at_most_and_less_for_small_budgets)
{
	for (uint64_t bytes = 4 * MIB; bytes <= 65536 * MIB; bytes += bytes / 64) {
		struct budget_plan plan = budget_plan(bytes);

		ck_assert_msg(plan.fixed_bytes <= 24 * MIB, "%llu: %zu", (unsigned long long)bytes, plan.fixed_bytes);
		ck_assert_uint_ge(plan.abandon_bytes, MIB); /* one request of the longest */
	}
	ck_assert_uint_le(budget_plan(16 * MIB).fixed_bytes, 17 * MIB);
	ck_assert_uint_lt(budget_plan(63 * MIB).buffer_bytes, budget_plan(64 * MIB).buffer_bytes);
	ck_assert_uint_lt(budget_plan(63 * MIB).threads, budget_plan(64 * MIB).threads);
}
END_TEST

/* All that is not the cache itself, where each part is as large as it may be. */
START_TEST(what_is_beside_the_cache_fits_into_its_tenth_and_the_fixed_part)
{
	for (uint64_t bytes = 4 * MIB; bytes <= 65536 * MIB; bytes += bytes / 64) {
		struct budget_plan plan = budget_plan(bytes);

		ck_assert_uint_le(10 * MIB + plan.buffer_bytes + plan.pool_bytes + plan.abandon_bytes,
				  plan.fixed_bytes + bytes / 10);
	}
}
END_TEST

TCase *budget_tests(void);
TCase *budget_tests(void)
{
	TCase *tests = tcase_create("budget");

	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_add_test(tests, an_eighth_of_the_machine);
	tcase_add_test(tests, never_less_than_64_mib_and_never_more_than_4_gib);
	tcase_add_test(tests, an_eighth_of_what_the_control_group_allows);
	tcase_add_test(tests, a_group_above_may_allow_less);
	tcase_add_test(tests, control_groups_of_the_first_version_count);
	tcase_add_test(tests, what_is_beside_the_cache_fits_into_its_tenth_and_the_fixed_part);
	tcase_add_test(tests, the_fixed_part_is_24_mib_at_most_and_less_for_small_budgets);
	return tests;
}
