/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mirrorfs/base/clock.h"

#include <ctype.h>
#include <stdlib.h>

bool clock_seconds(const char *text, double least, uint64_t *ns)
{
	double value;
	char *end;

	if (!isdigit((unsigned char)text[0]))
		return false;
	value = strtod(text, &end);
	if (*end || !(value >= least && value <= CLOCK_SECONDS_MAX))
		return false;
	*ns = (uint64_t)(value * 1e9);
	return true;
}
