/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Forged volumes: their slots, their rings, anything at all; mounted and used. */
#include "fuzz.h"

#include "mirrorfs/mirror.h"

static const struct volume *pick(struct sim_random *random, bool crashed)
{
	/* The tall ones are slower. */
	enum volume_kind kind = sim_random_chance(random, 4) ? VOLUME_TALL : VOLUME_UNMOUNTED;

	return &volumes[kind + (crashed ? VOLUME_CRASHED - VOLUME_UNMOUNTED : 0)];
}

static void run_slot(struct sim_random *random)
{
	const struct volume *volume = pick(random, sim_random_chance(random, 2));

	fuzz_world();
	for (uint64_t n = 1 + sim_random_below(random, 3); n > 0; n--)
		forge_slot(volume, random);
	volume_settle(volume, random);
	volume_use(volume, random);
}

static void run_record(struct sim_random *random)
{
	const struct volume *volume = pick(random, !sim_random_chance(random, 4));

	fuzz_world();
	for (uint64_t n = 1 + sim_random_below(random, 3); n > 0; n--)
		forge_ring(volume, random);
	volume_settle(volume, random);
	volume_use(volume, random);
}

/* Rot that no checksum covers up. */
static void rot(const struct volume *volume, struct sim_random *random)
{
	uint64_t bytes = sim_random_chance(random, 2) ? volume->disk_bytes : 2 * MIRROR_SPACE_OFFSET;
	unsigned char *disk = volume->disk[sim_random_below(random, 2)];

	for (uint64_t n = sim_random_below(random, 64); n > 0; n--)
		fuzz_bytes(random, disk + sim_random_below(random, bytes / 4096) * 4096, 4096);
}

static void run_image(struct sim_random *random)
{
	const struct volume *volume = pick(random, sim_random_chance(random, 2));

	fuzz_world();
	for (uint64_t n = 1 + sim_random_below(random, 4); n > 0; n--) {
		uint64_t what = sim_random_below(random, 16);

		if (what == 0)
			forge_slot(volume, random);
		else if (what <= 2)
			forge_ring(volume, random);
		else
			forge_tree(volume, random);
	}
	volume_settle(volume, random);
	if (sim_random_chance(random, 8))
		rot(volume, random);
	volume_use(volume, random);
}

const struct fuzz_target fuzz_slot = { .name = "slot", .setup = volumes_make, .run = run_slot, .batch = 1 };
const struct fuzz_target fuzz_record = { .name = "record", .setup = volumes_make, .run = run_record, .batch = 1 };
const struct fuzz_target fuzz_image = { .name = "image", .setup = volumes_make, .run = run_image, .batch = 1 };
