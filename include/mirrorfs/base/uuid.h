/* SPDX-License-Identifier: GPL-2.0-or-later */
/* UUIDs as 16 bytes on disk and as the usual 36 characters for people. */
#ifndef MIRRORFS_BASE_UUID_H
#define MIRRORFS_BASE_UUID_H

#include <stdbool.h>
#include <stdint.h>

#define UUID_TEXT_SIZE 37

struct uuid {
	uint8_t bytes[16];
};

struct uuid uuid_random(void); /* version 4 */
bool uuid_equal(const struct uuid *a, const struct uuid *b);
bool uuid_is_null(const struct uuid *uuid);
/* Writes 36 characters and a NUL; returns `text`. */
const char *uuid_format(const struct uuid *uuid, char text[UUID_TEXT_SIZE]);
/* False: `text` is not exactly a UUID (either case); `uuid` is then unchanged. */
bool uuid_parse(const char *text, struct uuid *uuid);

#endif
