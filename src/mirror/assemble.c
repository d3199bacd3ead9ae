/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Assembling: which legs make the volume, and in which state each of them starts. Decides from labels alone and
 * writes nothing. Two histories are never mixed (I11).
 */
#include "mirror_private.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* After a crash one label may still tell of the time before the volume grew: the larger space counts. */
static int take_space(struct assembly *assembly, struct error *error)
{
	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		uint64_t space = assembly->leg[leg] ? le64_get(assembly->label[leg].space_blocks) : 0;

		if (space > assembly->space_blocks)
			assembly->space_blocks = space;
	}
	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		uint64_t size;

		if (!assembly->leg[leg])
			continue;
		size = leg_geometry(assembly->leg[leg])->size_bytes;
		if (assembly->space_blocks > (UINT64_MAX >> 1) / MIRROR_BLOCK ||
		    MIRROR_SPACE_OFFSET + assembly->space_blocks * MIRROR_BLOCK > size)
			return error_set(error, -ENXIO,
					 "%s: shorter than the volume needs (%llu of %llu bytes); was it truncated? "
					 "-o degraded mounts without it",
					 leg_path(assembly->leg[leg]), (unsigned long long)size,
					 (unsigned long long)(MIRROR_SPACE_OFFSET +
							      assembly->space_blocks * MIRROR_BLOCK));
	}
	return 0;
}

static int check_alone(const struct format_label *label, struct leg *leg, const struct mirror_options *options,
		       struct error *error)
{
	if (le64_get(label->ro_compat) && !options->read_only)
		return error_set(
			error, -EPROTONOSUPPORT,
			"%s: the label uses features that this mirrorfs only reads (ro_compat 0x%llx): "
			"mount with -o ro",
			leg_path(leg), (unsigned long long)le64_get(label->ro_compat));
	return 0;
}

static int read_labels(struct leg *legs[MIRROR_LEGS], const struct mirror_options *options, struct assembly *assembly,
		       struct error *error)
{
	for (int i = 0; i < MIRROR_LEGS; i++) {
		struct format_label label;
		unsigned int bad;
		int result, index;

		if (!legs[i])
			continue;
		result = label_read_slots(legs[i], &label, &bad, error);
		if (!result)
			result = check_alone(&label, legs[i], options, error);
		if (result)
			return result;
		index = (int)le32_get(label.index);
		/* The good one is the older or the newer: either way the next goes to where the bad one is. */
		if (bad)
			log_warn("one of the two copies of the label is damaged%s: leg=%d path=%s",
				 options->read_only ? "" : ", and written anew", index, leg_path(legs[i]));
		if (i == 1 && legs[0]) {
			int first = assembly->leg[0] ? 0 : 1;

			if (memcmp(assembly->label[first].volume, label.volume, sizeof(label.volume)))
				return error_set(error, -EXDEV, "%s and %s are legs of different volumes",
						 leg_path(legs[0]), leg_path(legs[1]));
			if (first == index)
				return error_set(error, -EEXIST, "%s and %s are the same leg (number %d) of the volume",
						 leg_path(legs[0]), leg_path(legs[1]), index);
			if (memcmp(assembly->label[first].leg, label.leg, sizeof(label.leg)))
				return error_set(error, -EXDEV,
						 "%s and %s: their labels do not name each other: mount the one that "
						 "has what you want alone, then mirrorctl attach the other",
						 leg_path(legs[0]), leg_path(legs[1]));
		}
		assembly->leg[index] = legs[i];
		assembly->label[index] = label;
		assembly->bad[index] = bad;
		assembly->leg_count = (int)le32_get(label.leg_count);
	}
	return take_space(assembly, error);
}

__attribute__((format(printf, 3, 4))) static void stale(struct assembly *assembly, int leg, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(assembly->why[leg], sizeof(assembly->why[leg]), format, args);
	va_end(args);
	assembly->state[leg] = MIRROR_STALE;
}

/* A leg that cannot be mounted alone has no history of its own: it is made equal to the other one. */
static bool given_up(struct assembly *assembly, int leg)
{
	if (label_has(&assembly->label[leg], LABEL_RESYNCING))
		stale(assembly, leg, "its resync has not ended");
	else if (label_has(&assembly->label[leg], LABEL_SUPERSEDED))
		stale(assembly, leg, "the other leg was newer");
	return assembly->state[leg] == MIRROR_STALE;
}

/* When a leg was written alone, and how much: "2026-11-21 10:22 UTC, 12 KiB". */
static const char *epoch_text(const struct format_label *label, char text[64])
{
	const struct format_epoch *epoch = &label->history[le32_get(label->history_count) - 1];
	uint64_t blocks = le64_get(epoch->written);
	time_t begun = (time_t)le64_get(epoch->begun_seconds);
	struct tm tm = {.tm_year = 70};
	size_t length;

	gmtime_r(&begun, &tm);
	length = strftime(text, 64, "%Y-%m-%d %H:%M UTC", &tm);
	if (blocks)
		snprintf(text + length, 64 - length, ", %" PRIu64 " KiB", blocks * (MIRROR_BLOCK / 1024));
	return text;
}

static int split_brain(const struct assembly *assembly, struct error *error)
{
	char since[MIRROR_LEGS][64];

	for (int leg = 0; leg < MIRROR_LEGS; leg++)
		epoch_text(&assembly->label[leg], since[leg]);
	return error_set(error, -ESTALE,
			 "split brain: %.90s was written alone since %s, and %.90s since %s; keep one: mount it with "
			 "mirrorfs -o degraded LEG MOUNTPOINT, then mirrorctl attach --force MOUNTPOINT OTHER gives up "
			 "what the other has alone",
			 leg_path(assembly->leg[0]), since[0], leg_path(assembly->leg[1]), since[1]);
}

static int compare(struct assembly *assembly, struct error *error)
{
	const struct format_label *a = &assembly->label[0], *b = &assembly->label[1];
	bool a_knows_b = label_knows(a, b), b_knows_a = label_knows(b, a);
	bool a_is_old, b_is_old;

	assembly->state[0] = assembly->state[1] = MIRROR_INSYNC;
	a_is_old = given_up(assembly, 0);
	b_is_old = given_up(assembly, 1);
	if (a_is_old && b_is_old)
		return error_set(error, -ESTALE, "neither leg is whole: %s (%s), %s (%s)", leg_path(assembly->leg[0]),
				 assembly->why[0], leg_path(assembly->leg[1]), assembly->why[1]);
	if (a_is_old || b_is_old)
		return 0;
	if (!a_knows_b && !b_knows_a)
		return split_brain(assembly, error);
	if (a_knows_b != b_knows_a) {
		stale(assembly, a_knows_b, "the volume was written without it");
		return 0;
	}
	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		const struct format_label *other = &assembly->label[!leg];

		if (label_has(other, LABEL_LACKS_OTHER) && !label_has(&assembly->label[leg], LABEL_LACKS_OTHER))
			stale(assembly, leg, "the other leg's label says that it lacks what came after generation %llu",
			      (unsigned long long)le64_get(other->lacks_after));
	}
	return 0;
}

static int one_of_two(struct assembly *assembly, int leg, const struct mirror_options *options, struct error *error)
{
	const struct format_label *label = &assembly->label[leg];
	const char *path = leg_path(assembly->leg[leg]);
	const char *other = (const char *)label->path[!leg];

	if (!*other)
		other = "(path not known)";
	if (label_has(label, LABEL_RESYNCING))
		return error_set(
			error, -ESTALE,
			"%s cannot be mounted alone: its resync has not ended; leg %d, last seen at %s, is whole", path,
			!leg, other);
	if (label_has(label, LABEL_SUPERSEDED))
		return error_set(error, -ESTALE, "%s cannot be mounted alone: leg %d is newer, last seen at %s", path,
				 !leg, other);
	if (label_replaced(label) && !options->degraded)
		return error_set(error, -ESTALE,
				 "%s was replaced: the volume is on other legs, leg %d last seen at %s; -o degraded "
				 "mounts it alone, as it was then",
				 path, !leg, other);
	if (!label_has(label, LABEL_LACKS_OTHER) && !label_has(label, LABEL_DEGRADED_AUTO) && !options->degraded)
		return error_set(error, -ENOLINK,
				 "leg %d is missing, last seen at %s; name it, or mount %s alone with -o degraded",
				 !leg, other, path);
	assembly->state[leg] = MIRROR_INSYNC;
	snprintf(assembly->why[!leg], sizeof(assembly->why[!leg]), "not given at the mount; last seen at %.200s",
		 other);
	return 0;
}

int assemble(struct leg *legs[MIRROR_LEGS], const struct mirror_options *options, struct assembly *assembly,
	     struct error *error)
{
	int result;

	memset(assembly, 0, sizeof(*assembly));
	result = read_labels(legs, options, assembly, error);
	if (result)
		return result;
	if (assembly->leg[0] && assembly->leg[1])
		return compare(assembly, error);
	if (assembly->leg_count == 1) {
		assembly->state[0] = MIRROR_INSYNC;
		return 0;
	}
	return one_of_two(assembly, assembly->leg[0] ? 0 : 1, options, error);
}
