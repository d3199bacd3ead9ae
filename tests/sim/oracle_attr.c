/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "oracle_attr.h"

#include "report.h"
#include "world.h"

#include <linux/xattr.h>
#include <stdlib.h>
#include <string.h>

const char *oracle_attr_name(int kind)
{
	static const char *const names[ORACLE_ATTRS] = {
		[ORACLE_ACCESS] = XATTR_NAME_POSIX_ACL_ACCESS,
		[ORACLE_DEFAULTS] = XATTR_NAME_POSIX_ACL_DEFAULT,
		[ORACLE_FLAGS] = "flags",
		[ORACLE_XATTR] = "user.a",
		[ORACLE_XATTR + 1] = "trusted.b",
		[ORACLE_XATTR + 2] = "security.c",
		/* 255 bytes */
		[ORACLE_XATTR + 3] =
			"user.12345678901234567890123456789012345678901234567890123456789012345678901234567890"
			"12345678901234567890123456789012345678901234567890123456789012345678901234567890"
			"12345678901234567890123456789012345678901234567890123456789012345678901234567890"
			"1234567890",
	};

	return names[kind];
}

static void *must(void *memory)
{
	if (!memory)
		sim_fail("no memory for the oracle");
	return memory;
}

static struct oracle_value value_of(const void *bytes, size_t length)
{
	struct oracle_value value = { .length = bytes ? length : 0 };

	if (!bytes)
		return value;
	value.bytes = must(malloc(length + 1));
	memcpy(value.bytes, bytes, length);
	return value;
}

static void clear(struct oracle_attr *attr)
{
	for (uint32_t i = 0; attr->values && i <= attr->begun; i++)
		free(attr->values[i].bytes);
	free(attr->values);
	*attr = (struct oracle_attr){ .values = NULL };
}

void oracle_attr_first(struct oracle_attr *attr, const void *bytes, size_t length)
{
	struct oracle_value value = value_of(bytes, length);

	clear(attr);
	if (!value.bytes)
		return;
	attr->values = must(calloc(1, sizeof(*attr->values)));
	attr->values[0] = value;
}

void oracle_attr_begin(struct oracle_attr *attr, const void *bytes, size_t length)
{
	bool none = !attr->values;

	attr->values = must(realloc(attr->values, (attr->begun + 2) * sizeof(*attr->values)));
	if (none)
		attr->values[0] = value_of(NULL, 0);
	attr->values[++attr->begun] = value_of(bytes, length);
}

void oracle_attr_end(struct oracle_attr *attr)
{
	attr->now = attr->begun;
}

void oracle_attr_synced(struct oracle_attr *attr, uint32_t version)
{
	if (attr->durable < version)
		attr->durable = version;
}

struct oracle_value oracle_attr_now(const struct oracle_attr *attr)
{
	return attr->values ? attr->values[attr->now] : (struct oracle_value){ .bytes = NULL };
}

bool oracle_value_is(const struct oracle_value *value, const void *bytes, size_t length)
{
	if (!value->bytes || !bytes)
		return !value->bytes && !bytes;
	return value->length == length && !memcmp(value->bytes, bytes, length);
}

bool oracle_attr_found(struct oracle_attr *attr, const void *bytes, size_t length, bool crashed)
{
	uint32_t version = crashed ? attr->begun : attr->now, least = crashed ? attr->durable : attr->now;

	if (!attr->values)
		return !bytes;
	while (!oracle_value_is(&attr->values[version], bytes, length))
		if (version-- == least)
			return false;
	/* Untouched where nothing has changed: after a fork, a page that is written is copied. */
	if (attr->begun || !bytes)
		oracle_attr_first(attr, bytes, length);
	return true;
}
