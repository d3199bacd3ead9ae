/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mirrorfs/base/uuid.h"

#include "mirrorfs/base/clock.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

struct uuid uuid_random(void)
{
	struct uuid uuid;

	random_bytes(uuid.bytes, sizeof(uuid.bytes));
	uuid.bytes[6] = (uint8_t)((uuid.bytes[6] & 0x0f) | 0x40);
	uuid.bytes[8] = (uint8_t)((uuid.bytes[8] & 0x3f) | 0x80);
	return uuid;
}

bool uuid_equal(const struct uuid *a, const struct uuid *b)
{
	return !memcmp(a->bytes, b->bytes, sizeof(a->bytes));
}

bool uuid_is_null(const struct uuid *uuid)
{
	static const struct uuid null;

	return uuid_equal(uuid, &null);
}

static bool dash_before(int byte)
{
	return byte == 4 || byte == 6 || byte == 8 || byte == 10;
}

const char *uuid_format(const struct uuid *uuid, char text[UUID_TEXT_SIZE])
{
	char *at = text;

	for (int i = 0; i < 16; i++) {
		if (dash_before(i))
			*at++ = '-';
		at += sprintf(at, "%02x", uuid->bytes[i]);
	}
	return text;
}

bool uuid_parse(const char *text, struct uuid *uuid)
{
	struct uuid parsed;

	if (strlen(text) != UUID_TEXT_SIZE - 1)
		return false;
	for (int i = 0; i < 16; i++) {
		unsigned int byte;

		if (dash_before(i) && *text++ != '-')
			return false;
		if (!isxdigit((unsigned char)text[0]) || !isxdigit((unsigned char)text[1]))
			return false;
		sscanf(text, "%2x", &byte);
		parsed.bytes[i] = (uint8_t)byte;
		text += 2;
	}
	*uuid = parsed;
	return true;
}
