/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "narrow.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PATIENCE 90 /* seconds */

static bool left_out[SCRIPT_MOST];

static bool fails_as_well(const struct run_order *order, const struct run_outcome *failure)
{
	struct run_outcome outcome;

	run_play(order, &outcome);
	return !outcome.good && outcome.why == failure->why;
}

/* Leaves out `chunk` operations at a time, the last ones first; true if some could go. */
static bool narrow_by(struct run_order *order, const struct run_outcome *failure, unsigned int chunk, time_t end)
{
	bool some = false;

	for (unsigned int at = (order->most - 1) / chunk * chunk;; at -= chunk) {
		bool before[SCRIPT_MOST];
		bool more = false;

		memcpy(before, left_out, sizeof(before));
		for (unsigned int i = at; i < at + chunk && i < order->most; i++) {
			more |= !left_out[i];
			left_out[i] = true;
		}
		if (more && time(NULL) < end && fails_as_well(order, failure))
			some = true;
		else
			memcpy(left_out, before, sizeof(before));
		if (!at)
			return some;
	}
}

static void tell_command(const struct run_order *order, unsigned int kept)
{
	const char *comma = "";

	fprintf(stderr, "%u of %u operations will do:\nreplay: sim --level %s --seed %lu", kept, order->most,
		order->level->name, (unsigned long)order->seed);
	if (order->dense)
		fprintf(stderr, " --dense");
	fprintf(stderr, " --steps %u --only ", order->most);
	for (unsigned int i = 0; i < order->most; i++) {
		unsigned int last = i;

		if (left_out[i])
			continue;
		while (last + 1 < order->most && !left_out[last + 1])
			last++;
		fprintf(stderr, "%s%u", comma, i);
		if (last > i)
			fprintf(stderr, "-%u", last);
		comma = ",";
		i = last;
	}
	fprintf(stderr, "%s --verbose\n", *comma ? "" : "none");
}

void narrow(const struct run_order *failed, const struct run_outcome *failure)
{
	struct run_order order = *failed;
	time_t end = time(NULL) + PATIENCE;
	unsigned int kept = 0;
	bool some;

	if (!failure->operations || failure->operations > SCRIPT_MOST)
		return;
	memset(left_out, 0, sizeof(left_out));
	if (failed->left_out)
		memcpy(left_out, failed->left_out, sizeof(left_out));
	order.left_out = left_out;
	order.most = failure->operations;
	order.quiet = true;
	/* With more crashes it does not take luck to meet the one that matters. */
	order.dense = true;
	if (!fails_as_well(&order, failure)) {
		order.dense = failed->dense;
		if (!fails_as_well(&order, failure))
			return;
	}
	do {
		some = false;
		for (unsigned int chunk = (order.most + 1) / 2;; chunk /= 2) {
			some |= narrow_by(&order, failure, chunk, end);
			if (chunk == 1)
				break;
		}
	} while (some && time(NULL) < end);
	while (order.most > 1 && left_out[order.most - 1])
		order.most--;
	if (!fails_as_well(&order, failure)) /* the number of operations counts for when rounds end */
		order.most = failure->operations;
	for (unsigned int i = 0; i < order.most; i++)
		kept += !left_out[i];
	fprintf(stderr, "---- narrowed ----\n");
	order.quiet = false;
	run_play(&order, &(struct run_outcome){ 0 });
	tell_command(&order, kept);
}

bool narrow_only(const char *list, bool out[SCRIPT_MOST])
{
	memset(out, 1, SCRIPT_MOST * sizeof(out[0]));
	if (!strcmp(list, "none"))
		return true;
	for (;;) {
		char *end;
		unsigned long first = strtoul(list, &end, 10), last = first;

		if (end == list)
			return false;
		if (*end == '-')
			last = strtoul(end + 1, &end, 10);
		if (last < first || last >= SCRIPT_MOST)
			return false;
		memset(out + first, 0, (last - first + 1) * sizeof(out[0]));
		if (!*end)
			return true;
		if (*end != ',')
			return false;
		list = end + 1;
	}
}
