/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "budget.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHARE 8
#define LEAST (UINT64_C(64) << 20)
#define MOST (UINT64_C(4) << 30)

#define MIB ((size_t)1 << 20)
#define SMALL (64 * MIB) /* a budget below this shrinks the transport, too */
#define CODE (8 * MIB) /* with libraries, stacks and what is allocated once */
#define SPARE (2 * MIB) /* iobuf_pool_spare() */
#define TRANSPORT (14 * MIB)
#define TRANSPORT_SMALL (2 * MIB)
#define POOL_LEAST (5 * MIB)
#define POOL_MOST (64 * MIB)

/* The number that stands in the file; UINT64_MAX: there is none ("max", no such file). */
static uint64_t number_in(const char *path)
{
	FILE *file = fopen(path, "re");
	uint64_t number;

	if (!file)
		return UINT64_MAX;
	if (fscanf(file, "%" SCNu64, &number) != 1)
		number = UINT64_MAX;
	fclose(file);
	return number;
}

/* The least limit on the way from the group up to the root of its hierarchy. Cuts `group` up. */
static uint64_t group_limit(const char *root, const char *hierarchy, char *group, const char *limit)
{
	uint64_t least = UINT64_MAX;
	char path[3 * PATH_MAX], *end;

	for (;;) {
		uint64_t number;

		snprintf(path, sizeof(path), "%s/sys/fs/cgroup%s%s/%s", root, hierarchy, group, limit);
		number = number_in(path);
		if (number < least)
			least = number;
		end = strrchr(group, '/');
		if (!end)
			return least;
		*end = '\0';
	}
}

/* What control groups allow, of either version; UINT64_MAX: as much as there is. */
static uint64_t allowed(const char *root)
{
	uint64_t least = UINT64_MAX, limit;
	char path[PATH_MAX], *line = NULL;
	size_t size = 0;
	FILE *file;

	snprintf(path, sizeof(path), "%s/proc/self/cgroup", root);
	file = fopen(path, "re");
	if (!file)
		return least;
	while (getline(&line, &size, file) > 0) {
		char *controllers = strchr(line, ':'), *group = controllers ? strchr(controllers + 1, ':') : NULL;

		if (!group)
			continue;
		*controllers++ = '\0';
		*group++ = '\0';
		group[strcspn(group, "\n")] = '\0';
		if (!strcmp(line, "0") && !*controllers)
			limit = group_limit(root, "", group, "memory.max");
		else if (!strcmp(controllers, "memory"))
			limit = group_limit(root, "/memory", group, "memory.limit_in_bytes");
		else
			continue;
		if (limit < least)
			least = limit;
	}
	free(line);
	fclose(file);
	return least;
}

/* All that the machine has; UINT64_MAX: it does not say. */
static uint64_t installed(const char *root)
{
	uint64_t kib = UINT64_MAX / 1024;
	char path[PATH_MAX];
	FILE *file;

	snprintf(path, sizeof(path), "%s/proc/meminfo", root);
	file = fopen(path, "re");
	if (!file)
		return UINT64_MAX;
	if (fscanf(file, "MemTotal: %" SCNu64, &kib) != 1)
		kib = UINT64_MAX / 1024;
	fclose(file);
	return kib * 1024;
}

uint64_t budget_default(const char *root)
{
	uint64_t bytes = installed(root), limit = allowed(root);

	if (limit < bytes)
		bytes = limit;
	if (bytes >= UINT64_MAX - 1024 || bytes / SHARE < LEAST) /* neither says, or too little */
		return LEAST;
	return bytes / SHARE < MOST ? bytes / SHARE : MOST;
}

struct budget_plan budget_plan(uint64_t cache_bytes)
{
	struct budget_plan plan = { .threads = 16, .buffer_bytes = TRANSPORT, .pool_bytes = POOL_MOST };
	uint64_t slack = cache_bytes / 10;

	if (cache_bytes < SMALL) {
		plan.threads = 8;
		plan.buffer_bytes = TRANSPORT_SMALL;
	}
	if (cache_bytes / 16 + MIB < POOL_MOST)
		plan.pool_bytes = (cache_bytes / 16 + MIB) & ~(size_t)4095;
	if (plan.pool_bytes < POOL_LEAST)
		plan.pool_bytes = POOL_LEAST;
	plan.abandon_bytes = plan.pool_bytes / 4;
	plan.fixed_bytes = CODE + SPARE + plan.buffer_bytes;
	if (plan.pool_bytes + plan.abandon_bytes > slack)
		plan.fixed_bytes += plan.pool_bytes + plan.abandon_bytes - slack;
	else
		plan.buffer_bytes += (slack - plan.pool_bytes - plan.abandon_bytes) / 2;
	return plan;
}
