/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Legs that have become larger: the mirrored space follows the smaller one.
 *
 * Nothing moves, as the labels lie before the space. They say the new size durably on every leg before anybody may put
 * anything there. A crash between the two leaves labels that differ in this alone: then the larger space counts, which
 * both legs are known to hold, and whoever lives in it still has the size that he knows of.
 */
#include "mirror_private.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

static int usable_locked(const struct mirror *mirror, struct error *error)
{
	if (mirror->options.read_only || mirror->failed)
		return error_set(error, -EROFS, "the volume is read-only");
	for (int leg = 0; leg < mirror->identity.leg_count; leg++) {
		const struct mirror_leg *mine = &mirror->legs[leg];

		if (mine->state != MIRROR_INSYNC)
			return error_set(error, -EBUSY,
					 "leg %d is %s: a volume grows when all of its legs are there and whole", leg,
					 mirror_leg_state_name(mine->state));
	}
	return 0;
}

static int usable(struct mirror *mirror, struct error *error)
{
	int code;

	mutex_lock(&mirror->lock);
	code = usable_locked(mirror, error);
	mutex_unlock(&mirror->lock);
	return code;
}

/* Which leg is in the way. */
static int too_small(const struct mirror *mirror, uint64_t blocks, const uint64_t *holds, struct error *error)
{
	bool two = mirror->identity.leg_count == 2;
	int small = two && holds[1] < holds[0];
	const char *path = leg_path(mirror->legs[small].leg);
	const char *both = two && holds[!small] <= blocks ? ", and so must the other leg" : "";

	return error_set(error, -ENOSPC,
			 "leg %d, %s, holds %" PRIu64 " MiB and the volume has %" PRIu64
			 ": that leg must become larger first%s",
			 small, path, holds[small] >> 8, blocks >> 8, both);
}

int mirror_grow_room(struct mirror *mirror, uint64_t blocks, uint64_t *room, struct error *error)
{
	uint64_t holds[MIRROR_LEGS];
	int code = usable(mirror, error);

	*room = UINT64_MAX;
	for (int leg = 0; leg < mirror->identity.leg_count && !code; leg++) {
		struct leg *open = mirror->legs[leg].leg;

		code = leg_refresh(open);
		if (code)
			return error_set(error, code, "%s: cannot ask for its size: %s", leg_path(open),
					 strerror(-code));
		holds[leg] = mirror_space_blocks(leg_geometry(open)->size_bytes);
		*room = holds[leg] < *room ? holds[leg] : *room;
	}
	if (!code && *room <= blocks)
		return too_small(mirror, blocks, holds, error);
	return code;
}

int mirror_grow_allocate(struct mirror *mirror, uint64_t block, uint64_t count, struct error *error)
{
	int code = usable(mirror, error);

	for (int leg = 0; leg < mirror->identity.leg_count && !code; leg++) {
		struct leg *open = mirror->legs[leg].leg;

		code = leg_allocate(open, MIRROR_SPACE_OFFSET + block * MIRROR_BLOCK, count * MIRROR_BLOCK);
		if (code)
			error_set(error, code, "%s: no room for %" PRIu64 " MiB of reserve: %s", leg_path(open),
				  count >> 8, strerror(-code));
	}
	return code;
}

int mirror_grow(struct mirror *mirror, uint64_t blocks, struct error *error)
{
	uint64_t version[MIRROR_LEGS], until_ns = relabel_deadline_ns(mirror);
	int code;

	mutex_lock(&mirror->lock);
	code = usable_locked(mirror, error);
	for (int leg = 0; leg < mirror->identity.leg_count && !code; leg++) {
		mirror->legs[leg].label.space_blocks = le64_of(blocks);
		version[leg] = relabel_want_locked(mirror, leg);
	}
	/* From here on it is so, as a label may say it; but not safe to use. */
	if (!code)
		mirror->space_blocks = blocks;
	for (int leg = 0; leg < mirror->identity.leg_count && !code; leg++) {
		code = relabel_wait_until_locked(mirror, leg, version[leg], until_ns);
		error_set(code ? error : NULL, code, "the label of leg %d cannot be written: nothing has grown", leg);
	}
	mutex_unlock(&mirror->lock);
	return code;
}
