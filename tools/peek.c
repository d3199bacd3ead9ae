/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "peek.h"

#include "mirrorfs/leg.h"

int peek_label(const char *address, struct mirror_label_info *info, struct error *error)
{
	struct leg_options options = { .engine = LEG_ENGINE_THREADS, .read_only = true, .shared = true };
	struct leg *leg;
	int code = leg_open(address, &options, &leg, error);

	if (code)
		return code;
	code = mirror_label_read(leg, info, error);
	leg_close(leg);
	return code;
}
