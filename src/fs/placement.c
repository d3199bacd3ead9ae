/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where file data should go. What is written in order should lie in order, two files that are written at once should
 * not take turns, and the small files of a directory should lie together.
 *
 * A block goes behind the one before it in the file. Where that place is taken, a file that grows moves to where there
 * is room for as much again as it has, so however often it has to move, its pieces are few. A new small file goes
 * behind the last one of its directory; when others have come between, the directory moves in the same way.
 *
 * All of it is advice: the allocator gives what it has. Directories are remembered in memory alone, a few dozen.
 */
#include "fs_private.h"

#define SMALL_BLOCKS 64u /* a file so short lies with its directory's */
#define ROOM_MIN 16u
#define ROOM_MAX 32768u /* 128 MiB: pieces so long are long enough */

void placement_init(struct placement *placement)
{
	*placement = (struct placement){ 0 };
	mutex_init(&placement->lock, RANK_LEAF);
}

void placement_fini(struct placement *placement)
{
	mutex_fini(&placement->lock);
}

static uint64_t room_for(uint64_t blocks)
{
	return blocks < ROOM_MIN ? ROOM_MIN : blocks > ROOM_MAX ? ROOM_MAX : blocks;
}

static bool new_and_small(const struct placement_step *step)
{
	return !step->block && !step->had && step->blocks <= SMALL_BLOCKS;
}

static struct placement_directory *slot_of(struct placement *placement, uint64_t directory)
{
	return &placement->directories[directory % PLACEMENT_DIRECTORIES];
}

static void aim_at_directory(struct placement *placement, const struct placement_step *step, struct meta_aim *aim)
{
	struct placement_directory *slot = slot_of(placement, step->directory);

	mutex_lock(&placement->lock);
	if (step->directory && slot->number == step->directory) {
		aim->goal = slot->goal;
		aim->room = room_for(slot->blocks);
	}
	mutex_unlock(&placement->lock);
	aim->at_least = step->count;
}

struct meta_aim placement_aim(struct placement *placement, const struct placement_step *step)
{
	uint64_t rest = step->blocks > step->block ? step->blocks - step->block : 0;
	struct meta_aim aim = { .goal = step->before, .at_least = 1 };

	if (new_and_small(step))
		aim_at_directory(placement, step, &aim);
	else if (step->block >= step->had)
		aim.room = room_for(rest > step->block ? rest : step->block);
	else /* old content that is replaced: in order, or a block here and there? */
		aim.room = step->run + step->follow;
	return aim;
}

void placement_done(struct placement *placement, const struct placement_step *step, const struct range_extent *got)
{
	struct placement_directory *slot = slot_of(placement, step->directory);

	if (!step->directory || !new_and_small(step))
		return;
	mutex_lock(&placement->lock);
	if (slot->number != step->directory)
		*slot = (struct placement_directory){ .number = step->directory };
	slot->goal = got->start + got->length;
	slot->blocks += got->length;
	mutex_unlock(&placement->lock);
}
