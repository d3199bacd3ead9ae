/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fuzz.h"

#include "mirrorfs/base/endian.h"

#include <string.h>

uint64_t fuzz_number(struct sim_random *random, uint64_t was)
{
	uint64_t power = UINT64_C(1) << sim_random_below(random, 64);

	switch (sim_random_below(random, 10)) {
	case 0:
		return 0;
	case 1:
		return was + 1;
	case 2:
		return was - 1;
	case 3:
		return was ^ power;
	case 4:
		return was + sim_random_below(random, 4096) - 2048;
	case 5:
		return power;
	case 6:
		return power - 1;
	case 7:
		return UINT64_MAX - sim_random_below(random, 300);
	case 8:
		return sim_random_below(random, power);
	default:
		return sim_random_below(random, 300);
	}
}

void fuzz_field(struct sim_random *random, void *base, const struct fuzz_field *fields, size_t count)
{
	const struct fuzz_field *field = &fields[sim_random_below(random, count)];
	unsigned char *at = (unsigned char *)base + field->offset;
	le64 number = le64_of(0);

	if (field->size > sizeof(number)) {
		fuzz_bytes(random, at, field->size);
		return;
	}
	memcpy(&number, at, field->size);
	number = le64_of(fuzz_number(random, le64_get(number)));
	memcpy(at, &number, field->size);
}

void fuzz_bytes(struct sim_random *random, void *base, size_t size)
{
	unsigned char *bytes = base;
	size_t at = sim_random_below(random, size), from = sim_random_below(random, size);
	size_t length = 1 + sim_random_below(random, 32);

	switch (sim_random_below(random, 4)) {
	case 0:
		bytes[at] ^= (unsigned char)(1u << sim_random_below(random, 8));
		break;
	case 1:
		bytes[at] = (unsigned char)fuzz_number(random, bytes[at]);
		break;
	case 2:
		for (; length-- && at < size; at++)
			bytes[at] = (unsigned char)sim_random_u64(random);
		break;
	default:
		if (length > size - at)
			length = size - at;
		if (length > size - from)
			length = size - from;
		memmove(bytes + at, bytes + from, length);
	}
}
