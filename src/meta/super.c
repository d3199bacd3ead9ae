/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The two superblock slots. A checkpoint writes the one that its generation's parity names, so the other stays whole
 * whatever happens to this write.
 */
#include "meta_private.h"
#include "mirrorfs/base/crc32c.h"

#include <errno.h>
#include <string.h>

static uint64_t slot_address(uint64_t generation)
{
	return generation & 1 ? SUPER_SLOT1 : SUPER_SLOT0;
}

static bool numbers_valid(const struct format_super *super)
{
	return le64_get(super->generation) < FORMAT_NUMBER_END && le64_get(super->sequence) < FORMAT_NUMBER_END &&
	       le64_get(super->next_object) > OBJECT_ROOT && le64_get(super->next_object) < FORMAT_NUMBER_END;
}

static bool grown_valid(const struct format_super *super)
{
	uint64_t start = le64_get(super->grown_start), blocks = le64_get(super->grown_blocks);
	uint64_t end = le64_get(super->heap_start) + le64_get(super->heap_blocks);

	return !blocks || (start % CHUNK_BLOCKS == 0 && blocks % CHUNK_BLOCKS == 0 &&
			   start >= le64_get(super->boundary) && start <= end && blocks <= end - start);
}

/* Everything that mounting relies on, so that a malicious slot cannot lead it astray. */
static bool geometry_valid(const struct format_super *super, uint64_t space)
{
	uint64_t ring = le64_get(super->ring_start), ring_blocks = le64_get(super->ring_blocks);
	uint64_t heap = le64_get(super->heap_start), heap_blocks = le64_get(super->heap_blocks);
	uint64_t boundary = le64_get(super->boundary);

	return ring >= SUPER_RING && ring_blocks >= 4 * JOURNAL_RECORD_BLOCKS && ring_blocks <= space &&
	       ring <= space - ring_blocks && heap >= ring + ring_blocks && heap <= space &&
	       heap_blocks <= space - heap && heap % NODE_BLOCKS == 0 && boundary >= heap &&
	       boundary - heap <= heap_blocks && boundary % NODE_BLOCKS == 0 &&
	       le64_get(super->reserve_blocks) <= heap_blocks && grown_valid(super) &&
	       le64_get(super->ring_position) <= ring_blocks - JOURNAL_RECORD_BLOCKS &&
	       le32_get(super->root_level) < NODE_LEVELS &&
	       le64_get(super->root.generation) <= le64_get(super->generation);
}

static int super_check(const struct format_super *super, uint64_t address, const uint8_t volume[16],
		       struct error *error)
{
	if (le32_get(super->magic) != SUPER_MAGIC || le64_get(super->address) != address ||
	    memcmp(super->volume, volume, sizeof(super->volume)) ||
	    crc32c_block(super, sizeof(*super), offsetof(struct format_super, crc)) != le32_get(super->crc))
		return -ENODATA;
	if (le32_get(super->version) != FORMAT_VERSION)
		return error_set(error, -EPROTONOSUPPORT,
				 "the volume's format is version %u, this mirrorfs knows version %u: use %s",
				 le32_get(super->version), FORMAT_VERSION,
				 le32_get(super->version) < FORMAT_VERSION ? "the one that made it" : "a newer one");
	if (le64_get(super->incompat))
		return error_set(
			error, -EPROTONOSUPPORT,
			"the volume uses features that this mirrorfs does not know (incompat 0x%llx): use a newer one",
			(unsigned long long)le64_get(super->incompat));
	return 0;
}

/* The newest valid slot on any in-sync leg. A slot that a newer mirrorfs wrote refuses the volume. */
int super_read(struct mirror *mirror, struct format_super *super, struct error *error)
{
	const uint8_t *volume = mirror_identity(mirror)->volume.bytes;
	static const uint64_t slots[] = { SUPER_SLOT0, SUPER_SLOT1 };
	struct format_super found;
	int result = -ENODATA;

	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		for (int i = 0; i < 2 && mirror_leg_insync(mirror, leg); i++) {
			int check = io_read(mirror, io_only(leg), slots[i], &found, sizeof(found));

			if (!check)
				check = super_check(&found, slots[i], volume, error);
			if (check == -EPROTONOSUPPORT)
				return check;
			if (check || !geometry_valid(&found, mirror_blocks(mirror)) || !numbers_valid(&found))
				continue;
			if (result || le64_get(found.generation) > le64_get(super->generation))
				*super = found;
			result = 0;
		}
	}
	if (result)
		return error_set(error, result, "no valid superblock on any leg: was mkfs.mirrorfs interrupted?");
	return 0;
}

uint64_t super_generation(struct meta *meta, int leg, uint64_t below)
{
	static const uint64_t slots[] = { SUPER_SLOT0, SUPER_SLOT1 };
	uint64_t newest = 0;

	for (int i = 0; i < META_SLOTS; i++) {
		struct format_super found;

		if (!io_read(meta->mirror, io_only(leg), slots[i], &found, sizeof(found)) &&
		    !super_check(&found, slots[i], meta->volume, NULL) && le64_get(found.generation) < below &&
		    le64_get(found.generation) > newest)
			newest = le64_get(found.generation);
	}
	return newest;
}

void meta_slots(struct mirror *mirror, int leg, struct meta_slot slots[META_SLOTS])
{
	static const uint64_t addresses[META_SLOTS] = { SUPER_SLOT0, SUPER_SLOT1 };
	struct format_super found;

	memset(slots, 0, META_SLOTS * sizeof(slots[0]));
	for (int i = 0; i < META_SLOTS && mirror_leg_insync(mirror, leg); i++) {
		if (io_read(mirror, io_only(leg), addresses[i], &found, sizeof(found)) ||
		    super_check(&found, addresses[i], mirror_identity(mirror)->volume.bytes, NULL) ||
		    !geometry_valid(&found, mirror_blocks(mirror)))
			continue;
		slots[i] = (struct meta_slot){
			.valid = true,
			.unmounted = le32_get(found.flags) & SUPER_UNMOUNTED,
			.generation = le64_get(found.generation),
			.data_blocks = le64_get(found.data_blocks),
			.compat = le64_get(found.compat),
			.ro_compat = le64_get(found.ro_compat) & ~(uint64_t)SUPER_RO_KNOWN,
			.crc = le32_get(found.crc),
		};
	}
}

void super_adopt(struct meta *meta, const struct format_super *super)
{
	meta->super = *super;
	meta->ring_start = le64_get(super->ring_start);
	meta->ring_blocks = le64_get(super->ring_blocks);
	meta->heap_start = le64_get(super->heap_start);
	meta->heap_end = meta->heap_start + le64_get(super->heap_blocks);
	meta->boundary = le64_get(super->boundary);
	meta->reserve = le64_get(super->reserve_blocks);
	meta->data_blocks = (int64_t)le64_get(super->data_blocks);
	meta->root = (struct meta_root){
		.address = le64_get(super->root.address),
		.generation = le64_get(super->root.generation),
		.crc = le32_get(super->root.crc),
		.level = le32_get(super->root_level),
	};
	meta->generation = le64_get(super->generation) + 1;
	meta->last_cut.generation = le64_get(super->generation);
	atomic_store(&meta->next_object, le64_get(super->next_object));
	meta->unmounted = le32_get(super->flags) & SUPER_UNMOUNTED;
	meta->record = le64_get(super->sequence);
	meta->record_crc = le32_get(super->ring_crc);
	meta->head = le64_get(super->ring_position);
	meta->epoch = le64_get(super->epoch);
	atomic_store(&meta->features, le64_get(super->ro_compat));
}

/* The slot of a checkpoint; durable on every in-sync leg at return. */
int super_write(struct meta *meta, const struct meta_root *root, const struct meta_cut *cut)
{
	struct format_super *super = &meta->super;

	super->address = le64_of(slot_address(cut->generation));
	super->flags = le32_of(meta->closing && !meta->options.checking ? SUPER_UNMOUNTED : 0);
	super->generation = le64_of(cut->generation);
	super->root.address = le64_of(root->address);
	super->root.generation = le64_of(root->generation);
	super->root.crc = le32_of(root->crc);
	super->root_level = le32_of(root->level);
	super->sequence = le64_of(cut->record);
	super->ring_crc = le32_of(cut->crc);
	super->ring_position = le64_of(cut->position);
	super->epoch = le64_of(meta->epoch);
	super->next_object = le64_of(atomic_load(&meta->next_object));
	super->crc = le32_of(crc32c_block(super, sizeof(*super), offsetof(struct format_super, crc)));
	return io_write(meta->mirror, MIRROR_DSYNC, slot_address(cut->generation), super, sizeof(*super));
}

/*
 * Both slots say so before anything is committed that needs it: whoever does not know the feature changes nothing then,
 * though one slot is lost.
 */
int meta_use_feature(struct meta *meta, uint64_t ro_compat)
{
	int error;

	if (atomic_load(&meta->features) & ro_compat)
		return 0;
	mutex_lock(&meta->checkpoint_lock);
	meta->super.ro_compat = le64_of(le64_get(meta->super.ro_compat) | ro_compat);
	mutex_unlock(&meta->checkpoint_lock);
	error = checkpoint_run(meta);
	if (!error)
		error = checkpoint_run(meta);
	if (!error)
		atomic_fetch_or(&meta->features, ro_compat);
	return error;
}

/* After a crash the slots may differ between the legs: both legs get the one that the mount chose. */
int super_equalise(struct meta *meta)
{
	return io_write(meta->mirror, MIRROR_DSYNC, slot_address(le64_get(meta->super.generation)), &meta->super,
			sizeof(meta->super));
}

/* A slot that one leg has lost is written again from the other's; checkpoints stand still meanwhile. */
static void slot_scrub(struct meta *meta, struct meta_scrub *scrub, uint64_t address)
{
	struct format_super copy[MIRROR_LEGS];
	bool read[MIRROR_LEGS], valid[MIRROR_LEGS] = { false, false };

	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		/* Asked once: a leg that comes in sync meanwhile is not bad for not having been read. */
		read[leg] = mirror_leg_insync(meta->mirror, leg);
		if (!read[leg])
			continue;
		scrub->blocks++;
		valid[leg] = !io_read(meta->mirror, io_only(leg), address, &copy[leg], sizeof(copy[leg])) &&
			     !super_check(&copy[leg], address, meta->volume, NULL);
	}
	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		if (valid[leg] || !valid[!leg] || !read[leg] || meta_writable(meta))
			continue;
		if (io_write(meta->mirror, io_only(leg) | MIRROR_DSYNC, address, &copy[!leg], sizeof(copy[!leg])))
			continue;
		scrub->repaired++;
		mirror_scrubbed(meta->mirror, leg, 1, 1);
	}
}

void super_scrub(struct meta *meta, struct meta_scrub *scrub)
{
	mutex_lock(&meta->checkpoint_lock);
	slot_scrub(meta, scrub, SUPER_SLOT0);
	slot_scrub(meta, scrub, SUPER_SLOT1);
	mutex_unlock(&meta->checkpoint_lock);
}

void meta_scrub_state(struct meta *meta, struct meta_scrub_state *state)
{
	const struct format_super *super = &meta->super;

	mutex_lock(&meta->checkpoint_lock);
	*state = (struct meta_scrub_state){
		.under_way = le32_get(super->scrub_flags) & SUPER_SCRUB_UNDER_WAY,
		.position = le64_get(super->scrub_position),
		.done = le64_get(super->scrub_done),
		.blocks = le64_get(super->scrub_blocks),
		.repaired = le64_get(super->scrub_repaired),
		.unrecoverable = le64_get(super->scrub_unrecoverable),
		.began = le64_get(super->scrub_began),
		.ended = le64_get(super->scrub_ended),
	};
	mutex_unlock(&meta->checkpoint_lock);
}

int meta_scrub_remember(struct meta *meta, const struct meta_scrub_state *state, bool durable)
{
	struct format_super *super = &meta->super;

	mutex_lock(&meta->checkpoint_lock);
	super->scrub_flags = le32_of(state->under_way ? SUPER_SCRUB_UNDER_WAY : 0);
	super->scrub_position = le64_of(state->position);
	super->scrub_done = le64_of(state->done);
	super->scrub_blocks = le64_of(state->blocks);
	super->scrub_repaired = le64_of(state->repaired);
	super->scrub_unrecoverable = le64_of(state->unrecoverable);
	super->scrub_began = le64_of(state->began);
	super->scrub_ended = le64_of(state->ended);
	mutex_unlock(&meta->checkpoint_lock);
	return durable ? checkpoint_run(meta) : 0;
}
