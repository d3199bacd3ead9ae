/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the counters were in the course of the mount: first each second; when the place is used up every other look is
 * dropped, and looks become half as frequent. As counters only grow, what lies between two looks is their difference,
 * however many were dropped: the whole mount is there, in a bounded place.
 */
#include "ctl_private.h"

#include "mirrorfs/base/clock.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_NS NSEC_PER_SEC
#define INT(value) ((json_int_t)(value))

static void look(const struct ctl *ctl, struct ctl_look *look)
{
	static const char *const names[CTL_LOOK_OPERATIONS] = { "read", "write", "fsync" };
	struct histogram histogram;
	struct front_times times;
	uint32_t nanoseconds;

	*look = (struct ctl_look){ .wall = 0 };
	clock_wall(&look->wall, &nanoseconds);
	for (unsigned int op = 0; ctl->subjects.front && op < FRONT_OPS; op++) {
		for (int i = 0; i < CTL_LOOK_OPERATIONS; i++) {
			if (!front_op_name(op) || strcmp(front_op_name(op), names[i]) != 0)
				continue;
			front_times(ctl->subjects.front, op, &times);
			look->operation[i] = (struct ctl_sum){ times.took.count, times.took.sum_ns, times.bytes };
		}
	}
	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		for (int op = LEG_READ; op <= LEG_WRITE; op++) {
			mirror_times(ctl->subjects.mirror, leg, op, &histogram);
			look->leg[leg][op] = (struct ctl_sum){ histogram.count, histogram.sum_ns, 0 };
		}
	}
}

uint64_t history_note(struct ctl *ctl)
{
	struct ctl_history *history = &ctl->history;
	uint64_t now_ns = clock_now_ns();

	if (!history->step_ns)
		history->step_ns = FIRST_NS;
	if (now_ns >= history->due_ns) {
		if (history->count == CTL_LOOKS) {
			for (unsigned int i = 0; i < CTL_LOOKS / 2; i++)
				history->look[i] = history->look[2 * i];
			history->count = CTL_LOOKS / 2;
			history->step_ns *= 2;
		}
		look(ctl, &history->look[history->count++]);
		history->due_ns = now_ns + history->step_ns;
	}
	return history->due_ns - now_ns;
}

static json_t *sum_json(const struct ctl_sum *sum)
{
	return json_pack("[I, I, I]", INT(sum->count), INT(sum->sum_ns), INT(sum->bytes));
}

static json_t *look_json(const struct ctl_look *look)
{
	return json_pack("{s:I, s:o, s:o, s:o, s:[[o, o], [o, o]]}", "time", INT(look->wall), "read",
			 sum_json(&look->operation[0]), "write", sum_json(&look->operation[1]), "fsync",
			 sum_json(&look->operation[2]), "legs", sum_json(&look->leg[0][LEG_READ]),
			 sum_json(&look->leg[0][LEG_WRITE]), sum_json(&look->leg[1][LEG_READ]),
			 sum_json(&look->leg[1][LEG_WRITE]));
}

static json_t *map_json(struct meta *meta)
{
	uint32_t *parts = calloc(CTL_MAP_CELLS, sizeof(*parts));
	json_t *map = json_array();

	if (parts)
		meta_free_map(meta, parts, CTL_MAP_CELLS);
	for (unsigned int i = 0; parts && i < CTL_MAP_CELLS; i++)
		json_array_append_new(map, json_integer(parts[i]));
	free(parts);
	return map;
}

void history_command(struct ctl *ctl, int fd, const json_t *request)
{
	json_t *looks = json_array();
	struct ctl_look now;

	for (unsigned int i = 0; i < ctl->history.count; i++)
		json_array_append_new(looks, look_json(&ctl->history.look[i]));
	look(ctl, &now);
	json_array_append_new(looks, look_json(&now));
	command_answer(fd, "result",
		       json_pack("{s:o, s:o}", "looks", looks, "free_map",
				 ctl->subjects.meta ? map_json(ctl->subjects.meta) : json_array()));
}
