/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which leg a read asks first.
 *
 * In this order: the leg that is in sync, if only one is; the leg that keeps no other reader waiting; the one that is
 * not write-mostly; then the policy. `auto` asks the leg that would answer first, by the reads it has and the time one
 * takes, but a sequential reader stays on its leg, where the readahead is, unless the other one is twice as good. If
 * both lie on one disk, that reads no faster at two places at once: then it must be far better. Where legs are equally
 * good they share the space by stripes, so that each has streams of its own.
 *
 * Long reads of one reader are under way side by side, and come in any order: what begins not far from where a stream
 * has come belongs to it.
 */
#include "mirror_private.h"

#define STRIPE_BLOCKS 512u /* 2 MiB */
#define LONG_BLOCKS 64u /* 256 KiB */
#define NEAR_BLOCKS 1024u
#define WORTH_MOVING 2u /* so many times as good */
#define WORTH_MOVING_ON_ONE_DISK 16u

static struct stream *stream_at(struct mirror *mirror, uint64_t block, uint32_t count)
{
	uint64_t off = count < LONG_BLOCKS ? 0 : NEAR_BLOCKS;

	for (unsigned int i = 0; i < STREAMS; i++) {
		uint64_t next = mirror->streams[i].next_block;

		if (next && next <= block + off && block <= next + off)
			return &mirror->streams[i];
	}
	return NULL;
}

static unsigned int worth_moving(const struct mirror_leg *legs)
{
	return leg_geometry_same_disk(leg_geometry(legs[0].leg), leg_geometry(legs[1].leg)) ? WORTH_MOVING_ON_ONE_DISK
											    : WORTH_MOVING;
}

static int pick_auto(struct mirror *mirror, uint64_t block, uint32_t count)
{
	struct mirror_leg *legs = mirror->legs;
	struct stream *stream = stream_at(mirror, block, count);
	int stripe = (int)(block / STRIPE_BLOCKS & 1), best;
	uint64_t cost[MIRROR_LEGS];

	for (int leg = 0; leg < MIRROR_LEGS; leg++)
		cost[leg] = (legs[leg].reading + 1) * legs[leg].latency_ns;
	best = cost[0] == cost[1] ? stripe : cost[1] < cost[0];
	if (stream)
		best = cost[stream->leg] <= worth_moving(legs) * cost[!stream->leg] ? stream->leg : !stream->leg;
	else if (cost[!best] - cost[best] < cost[best] / 8)
		best = stripe;
	/* What was learned of the other one ages, so that it is asked again some day. */
	legs[!best].latency_ns -= legs[!best].latency_ns / 256;
	return best;
}

int pick_leg_locked(struct mirror *mirror, uint64_t block, uint32_t count)
{
	unsigned int mostly = mirror->options.write_mostly;
	bool late = read_late_locked(mirror, 0);

	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		if (mirror->legs[!leg].state != MIRROR_INSYNC)
			return leg;
	}
	if (late != read_late_locked(mirror, 1))
		return late;
	if (mostly == 1u << 0 || mostly == 1u << 1)
		return mostly == 1u << 0;
	switch (mirror->options.policy) {
	case MIRROR_POLICY_ROUND_ROBIN:
		return (int)(mirror->turn++ & 1);
	case MIRROR_POLICY_LEG0:
		return 0;
	case MIRROR_POLICY_LEG1:
		return 1;
	case MIRROR_POLICY_AUTO:
		break;
	}
	return pick_auto(mirror, block, count);
}

/* A leg was given this read: whoever goes on where it ends is its stream. */
void pick_note_locked(struct mirror *mirror, int leg, uint64_t block, uint32_t count)
{
	struct stream *stream = stream_at(mirror, block, count);
	uint64_t next = block + count;

	if (!stream)
		stream = &mirror->streams[mirror->stream_turn++ % STREAMS];
	else if (next < stream->next_block)
		next = stream->next_block;
	*stream = (struct stream){ .next_block = next, .leg = leg };
}
