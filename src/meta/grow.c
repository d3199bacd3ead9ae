/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A volume takes up what its legs hold by now.
 *
 *	1  what the reserve gets is allocated for real, as mkfs does it
 *	2  labels: on every leg they durably say how large the space is
 *	3  slots: a checkpoint says how large the heap is
 *	4  what is new may be had
 *
 * After a crash the volume has the size that its newest slot tells, and the space is never smaller (I2). Before 3 is
 * durable nobody gets a block there: a record of the ring that names one must not be read by a mount that does not know
 * of it.
 *
 * The boundary stays where it is, with file data behind it. The reserve grows with the volume nevertheless: a piece of
 * what is new is for nodes alone, see chunk.c. Where so little was added that this would take too much of it, it has to
 * wait for the next time.
 */
#include "meta_private.h"

#include "mirrorfs/base/log.h"

#include <errno.h>
#include <string.h>

#define GROWN_SHARE 4u /* the reserve gets no more than this part of what is new */

struct plan {
	uint64_t old_end, end; /* of the heap, and the space */
	struct range_extent grown;
	uint64_t reserve;
};

static void plan_make(const struct meta *meta, struct plan *plan)
{
	uint64_t have = meta->boundary - meta_fixed_start(meta), want = meta_geometry_of(plan->end).allocated;
	uint64_t start = (plan->old_end + CHUNK_BLOCKS - 1) / CHUNK_BLOCKS * CHUNK_BLOCKS;
	uint64_t length = want > have ? (want - have) / CHUNK_BLOCKS * CHUNK_BLOCKS : 0;

	plan->grown = meta->grown;
	plan->reserve = meta->reserve;
	if (length <= meta->grown.length || start > plan->end || length > (plan->end - start) / GROWN_SHARE)
		return;
	plan->grown = (struct range_extent){ start, length };
	plan->reserve = (have + length) / 2;
}

static bool reserve_grows(const struct plan *plan)
{
	return plan->grown.length && plan->grown.start >= plan->old_end;
}

static int slot_write(struct meta *meta, const struct plan *plan)
{
	struct format_super *super = &meta->super;
	int code;

	mutex_lock(&meta->checkpoint_lock);
	super->heap_blocks = le64_of(plan->end - meta->heap_start);
	super->reserve_blocks = le64_of(plan->reserve);
	super->grown_start = le64_of(plan->grown.start);
	super->grown_blocks = le64_of(plan->grown.length);
	mutex_unlock(&meta->checkpoint_lock);
	/* Both of them: a mount may have to fall back to the older one. */
	code = checkpoint_run(meta);
	return code ? code : checkpoint_run(meta);
}

static void give(struct range *range, uint64_t start, uint64_t end)
{
	if (start < end && range_free(range, start, end - start))
		log_warn("out of memory: what the volume has grown by is there after the next mount");
}

/* The extents that were the reserve's before are returned by the next mount. */
static void give_out(struct meta *meta, const struct plan *plan)
{
	const struct range_extent *grown = &plan->grown;

	rwlock_write(&meta->tree_lock); /* whoever looks for a node asks where the heap ends */
	mutex_lock(&meta->alloc_lock);
	range_grow(meta->node_range, plan->end - plan->old_end);
	range_grow(meta->data_range, plan->end - plan->old_end);
	meta->heap_end = plan->end;
	if (reserve_grows(plan)) {
		meta->grown = *grown;
		meta->chunk_blocks += grown->length;
		give(meta->node_range, grown->start, grown->start + grown->length);
		meta->reserve = plan->reserve;
		give(meta->data_range, plan->old_end, grown->start);
		give(meta->data_range, grown->start + grown->length, plan->end);
	} else {
		give(meta->data_range, plan->old_end, plan->end);
	}
	mutex_unlock(&meta->alloc_lock);
	rwlock_unlock(&meta->tree_lock);
}

int meta_grow(struct meta *meta, struct meta_growth *growth, struct error *error)
{
	struct plan plan = { .old_end = meta->heap_end };
	int code = mirror_grow_room(meta->mirror, plan.old_end, &plan.end, error);

	if (!code && meta_writable(meta))
		code = error_set(error, -EROFS, "the volume is read-only");
	if (code)
		return code;
	*growth = (struct meta_growth){ plan.old_end, plan.end };
	plan_make(meta, &plan);
	if (reserve_grows(&plan))
		code = mirror_grow_allocate(meta->mirror, plan.grown.start, plan.grown.length, error);
	if (!code)
		code = mirror_grow(meta->mirror, plan.end, error);
	if (code)
		return code;
	code = slot_write(meta, &plan);
	if (code)
		return error_set(error, code, "the superblock cannot be written: %s", strerror(-code));
	give_out(meta, &plan);
	return 0;
}
