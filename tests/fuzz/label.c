/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Forged labels: read one by one, and assembled to a volume. */
#include "fuzz.h"

#include "mirrorfs/base/crc32c.h"
#include "mirrorfs/format/label.h"
#include "mirrorfs/mirror.h"
#include "world.h"

#include <stdlib.h>
#include <string.h>

#define DISK_BYTES (2 * MIRROR_SPACE_OFFSET)

static const uint64_t slots[LABEL_SLOTS] = { LABEL_SLOT0, LABEL_SLOT1 };
static const struct fuzz_field fields[] = {
	FUZZ_FIELD(format_label, magic),       FUZZ_FIELD(format_label, volume),
	FUZZ_FIELD(format_label, address),     FUZZ_FIELD(format_label, sequence),
	FUZZ_FIELD(format_label, version),     FUZZ_FIELD(format_label, flags),
	FUZZ_FIELD(format_label, flags),       FUZZ_FIELD(format_label, compat),
	FUZZ_FIELD(format_label, ro_compat),   FUZZ_FIELD(format_label, incompat),
	FUZZ_FIELD(format_label, leg),	       FUZZ_FIELD(format_label, index),
	FUZZ_FIELD(format_label, leg_count),   FUZZ_FIELD(format_label, space_blocks),
	FUZZ_FIELD(format_label, lacks_after), FUZZ_FIELD(format_label, name),
	FUZZ_FIELD(format_label, path),	       FUZZ_FIELD(format_label, history_count),
	FUZZ_FIELD(format_label, history),     FUZZ_FIELD(format_label, claim),
};

static struct format_label good[MIRROR_LEGS][LABEL_SLOTS];
static unsigned char *disks[MIRROR_LEGS];

static void open_legs(struct leg *legs[MIRROR_LEGS])
{
	for (int i = 0; i < MIRROR_LEGS; i++) {
		const struct leg_memory_options options = {
			.size_bytes = DISK_BYTES,
			.block_size = 4096,
			.name = i ? "disk1" : "disk0",
			.bytes = disks[i],
		};

		fuzz_expect(!leg_memory_open(&options, &legs[i]));
	}
}

static void setup(void)
{
	struct leg *legs[MIRROR_LEGS];
	struct mirror_identity identity;
	struct error error;
	uint64_t blocks;

	fuzz_world();
	for (int i = 0; i < MIRROR_LEGS; i++)
		disks[i] = calloc(1, DISK_BYTES);
	open_legs(legs);
	fuzz_expect(!mirror_format(legs, "fuzzed", &identity, &blocks, &error));
	for (int i = 0; i < MIRROR_LEGS; i++) {
		leg_close(legs[i]);
		for (int slot = 0; slot < LABEL_SLOTS; slot++)
			memcpy(&good[i][slot], disks[i] + slots[slot], LABEL_SIZE);
	}
}

/* A volume that has a past: epochs, a leg that lacks something, no history at all. */
static void live(struct format_label *label, struct sim_random *random)
{
	uint32_t count = 1 + (uint32_t)sim_random_below(random, LABEL_HISTORY);

	for (uint32_t i = 0; i < count; i++)
		memset(label->history[i].uuid, (int)sim_random_below(random, 5), sizeof(label->history[i].uuid));
	label->history_count = le32_of(count);
	label->flags = le32_of((uint32_t)sim_random_below(random, 32));
	label->lacks_after = le64_of(fuzz_number(random, 100));
	if (sim_random_chance(random, 3))
		label->incompat = le64_of(LABEL_INCOMPAT_SHARED);
	if (sim_random_chance(random, 2))
		fuzz_bytes(random, &label->claim, sizeof(label->claim));
}

static void forge(struct sim_random *random)
{
	for (int i = 0; i < MIRROR_LEGS; i++) {
		for (int slot = 0; slot < LABEL_SLOTS; slot++) {
			struct format_label label = good[i][slot];

			if (sim_random_chance(random, 3))
				live(&label, random);
			for (uint64_t n = sim_random_below(random, 4); n > 0; n--) {
				if (sim_random_chance(random, 6))
					fuzz_bytes(random, &label, sizeof(label));
				else
					fuzz_field(random, &label, fields, sizeof(fields) / sizeof(fields[0]));
			}
			if (!sim_random_chance(random, 20))
				label.crc = le32_of(crc32c_block(&label, sizeof(label),
								 offsetof(struct format_label, crc)));
			memcpy(disks[i] + slots[slot], &label, LABEL_SIZE);
		}
	}
}

static void check_info(const struct mirror_label_info *info)
{
	fuzz_expect(info->identity.leg_count >= 1 && info->identity.leg_count <= MIRROR_LEGS);
	fuzz_expect(info->index >= 0 && info->index < info->identity.leg_count);
	fuzz_expect(memchr(info->identity.label, 0, sizeof(info->identity.label)) != NULL);
	for (int i = 0; i < MIRROR_LEGS; i++)
		fuzz_expect(memchr(info->path[i], 0, sizeof(info->path[i])) != NULL);
}

static void assemble(struct leg *legs[MIRROR_LEGS], struct sim_random *random)
{
	struct mirror_options options = {
		.read_only = sim_random_chance(random, 4),
		.degraded = sim_random_chance(random, 2),
		.takeover = sim_random_chance(random, 2),
		.pool = iobuf_pool_create(4u << 20, 1u << 20),
	};
	struct mirror_status *status = malloc(sizeof(*status));
	struct mirror *mirror;
	struct error error;

	if (mirror_open(legs, &options, &mirror, &error)) {
		for (int i = 0; i < MIRROR_LEGS; i++)
			leg_close(legs[i]);
	} else {
		fuzz_accepted();
		mirror_status(mirror, status);
		fuzz_expect(status->space_blocks <= mirror_space_blocks(DISK_BYTES));
		fuzz_expect(mirror_leg_insync(mirror, 0) || mirror_leg_insync(mirror, 1));
		fuzz_expect(mirror_close(mirror));
	}
	iobuf_pool_destroy(options.pool);
	free(status);
}

static void run(struct sim_random *random)
{
	struct mirror_label_info *info = malloc(sizeof(*info));
	struct leg *legs[MIRROR_LEGS];
	struct error error;

	fuzz_world();
	forge(random);
	open_legs(legs);
	for (int i = 0; i < MIRROR_LEGS; i++)
		if (!mirror_label_read(legs[i], info, &error))
			check_info(info);
	free(info);
	if (sim_random_chance(random, 4)) {
		leg_close(legs[1]);
		legs[1] = NULL;
	}
	assemble(legs, random);
	fuzz_expect(!sim_world_fibers());
}

const struct fuzz_target fuzz_label = { .name = "label", .setup = setup, .run = run, .batch = 256 };
