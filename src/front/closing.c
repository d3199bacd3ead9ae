/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whether the next request will be the release of a file: programs that make or read many files close each of them
 * right behind the same kind of request. Of the requests that one thread carries out, and by that alone.
 *
 * Who expects one parks its entry (ring.c). If nothing came meanwhile, that was in vain, as where a program waits for
 * the release: then it takes ever more such files until it is expected again.
 */
#include "front_private.h"

#define CLOSING_ENOUGH 3u /* files in a row */
#define VAIN_MOST 10u

bool closing_expected(const struct closing *closing)
{
	return closing->files >= CLOSING_ENOUGH << closing->vain;
}

bool closing_is_next(const struct closing *closing)
{
	return closing_expected(closing) && closing->last == closing->before;
}

void closing_request(struct closing *closing, uint32_t opcode)
{
	if (closing->last == closing->before)
		closing->files = 0;
	closing->last = opcode;
}

void closing_release(struct closing *closing)
{
	if (closing->last != closing->before)
		closing->files = 0;
	else if (closing->files < CLOSING_ENOUGH << VAIN_MOST)
		closing->files++;
	closing->before = closing->last;
	closing->last = 0;
}

void closing_parked(struct closing *closing, bool in_vain)
{
	if (!in_vain) {
		closing->vain = 0;
		return;
	}
	closing->files = 0;
	if (closing->vain < VAIN_MOST)
		closing->vain++;
}
