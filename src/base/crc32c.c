/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mirrorfs/base/crc32c.h"

#include <assert.h>
#include <isa-l/crc.h>
#include <limits.h>

uint32_t crc32c_add(uint32_t crc, const void *data, size_t length)
{
	unsigned char *at = (unsigned char *)data; /* ISA-L's prototype lacks const */

	crc = ~crc;
	while (length) {
		int part = length > INT_MAX / 2 ? INT_MAX / 2 : (int)length;

		crc = crc32_iscsi(at, part, crc);
		at += part;
		length -= (size_t)part;
	}
	return ~crc;
}

uint32_t crc32c(const void *data, size_t length)
{
	return crc32c_add(0, data, length);
}

uint32_t crc32c_block(const void *block, size_t length, size_t field_offset)
{
	static const uint32_t zero;
	const unsigned char *bytes = block;
	size_t after = field_offset + sizeof(zero);
	uint32_t crc;

	assert(after <= length);
	crc = crc32c(bytes, field_offset);
	crc = crc32c_add(crc, &zero, sizeof(zero));
	return crc32c_add(crc, bytes + after, length - after);
}
