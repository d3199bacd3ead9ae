/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Labels: reading, checking, writing and making them. Layout and meaning: mirrorfs/format/label.h. */
#include "mirror_private.h"

#include "mirrorfs/base/crc32c.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

uint64_t label_patience_ns = 15 * NSEC_PER_SEC;

static_assert(LABEL_SLOT1 + LABEL_SIZE <= MIRROR_SPACE_OFFSET, "labels lie before the mirrored space");
static_assert(LABEL_LEGS == MIRROR_LEGS, "disk format");

uint64_t label_slot(uint64_t sequence)
{
	return sequence & 1 ? LABEL_SLOT1 : LABEL_SLOT0;
}

void label_seal(struct format_label *label)
{
	int64_t seconds;
	uint32_t nanoseconds;

	clock_wall(&seconds, &nanoseconds);
	label->written_seconds = le64_of((uint64_t)seconds);
	label->address = le64_of(label_slot(le64_get(label->sequence)));
	label->crc = le32_of(crc32c_block(label, sizeof(*label), offsetof(struct format_label, crc)));
}

void label_set_path(struct format_label *label, int leg, const char *path)
{
	if (strlen(path) >= LABEL_PATH_SIZE)
		path = "";
	memset(label->path[leg], 0, LABEL_PATH_SIZE);
	memcpy(label->path[leg], path, strlen(path));
}

bool label_has(const struct format_label *label, uint32_t flag)
{
	return le32_get(label->flags) & flag;
}

void label_set(struct format_label *label, uint32_t flag, bool on)
{
	uint32_t flags = le32_get(label->flags);

	label->flags = le32_of(on ? flags | flag : flags & ~flag);
}

bool label_replaced(const struct format_label *label)
{
	return le64_get(label->compat) & LABEL_COMPAT_REPLACED;
}

void label_set_replaced(struct format_label *label, bool replaced)
{
	uint64_t others = le64_get(label->compat) & ~(uint64_t)LABEL_COMPAT_REPLACED;

	label->compat = le64_of(others | (replaced ? LABEL_COMPAT_REPLACED : 0));
}

bool label_shared(const struct format_label *label)
{
	return le64_get(label->incompat) & LABEL_INCOMPAT_SHARED;
}

void label_set_claim(struct format_label *label, const struct format_claim *claim)
{
	uint64_t others = le64_get(label->incompat) & ~(uint64_t)LABEL_INCOMPAT_SHARED;

	label->incompat = le64_of(others | (claim ? LABEL_INCOMPAT_SHARED : 0));
	if (claim)
		label->claim = *claim;
	else
		memset(&label->claim, 0, sizeof(label->claim));
}

void label_begin_epoch(struct format_label *label, bool alone, uint64_t generation)
{
	uint32_t count = le32_get(label->history_count);
	struct format_epoch *epoch;
	struct uuid uuid = uuid_random();
	int64_t seconds;
	uint32_t nanoseconds;

	if (count == LABEL_HISTORY)
		memmove(&label->history[0], &label->history[1], --count * sizeof(label->history[0]));
	epoch = &label->history[count];
	clock_wall(&seconds, &nanoseconds);
	*epoch = (struct format_epoch){.begun_seconds = le64_of((uint64_t)seconds), .generation = le64_of(generation)};
	memcpy(epoch->uuid, uuid.bytes, sizeof(epoch->uuid));
	label->history_count = le32_of(count + 1);
	label_set(label, LABEL_EPOCH_ALONE, alone);
}

const uint8_t *label_newest(const struct format_label *label)
{
	return label->history[le32_get(label->history_count) - 1].uuid;
}

void label_count_written(struct format_label *label, uint64_t blocks)
{
	struct format_epoch *epoch = &label->history[le32_get(label->history_count) - 1];

	epoch->written = le64_of(le64_get(epoch->written) + blocks);
}

bool label_knows(const struct format_label *label, const struct format_label *of)
{
	for (uint32_t i = 0; i < le32_get(label->history_count); i++) {
		if (!memcmp(label->history[i].uuid, label_newest(of), sizeof(label->history[i].uuid)))
			return true;
	}
	return false;
}

/*
 * That generation is told of a leg as it was in the epoch before the one that was begun without it. A leg that knows
 * the newest one was whole later still. Any other is a copy from an earlier time, or was given up.
 */
uint64_t label_lacks_after(const struct format_label *whole, const struct format_label *stale)
{
	uint32_t count = le32_get(whole->history_count);
	const uint8_t *newest = label_newest(stale);

	if (!label_has(whole, LABEL_LACKS_OTHER))
		return 0;
	if (!memcmp(label_newest(whole), newest, 16))
		return le64_get(whole->lacks_after);
	if (!label_has(whole, LABEL_EPOCH_ALONE) || count < 2 || memcmp(whole->history[count - 2].uuid, newest, 16))
		return 0;
	return le64_get(whole->lacks_after);
}

void label_adopt(struct format_label *label, const struct format_label *from)
{
	memcpy(label->leg, from->leg, sizeof(label->leg));
	memcpy(label->path, from->path, sizeof(label->path));
	memcpy(label->name, from->name, sizeof(label->name));
	memcpy(label->history, from->history, sizeof(label->history));
	label->history_count = from->history_count;
	label->leg_count = from->leg_count;
	label->space_blocks = from->space_blocks;
	label->lacks_after = le64_of(0);
	memset(&label->resync, 0, offsetof(struct format_resync, reserved));
	label_set(label, LABEL_LACKS_OTHER | LABEL_RESYNCING | LABEL_SUPERSEDED | LABEL_EPOCH_ALONE, false);
	label_set(label, LABEL_DEGRADED_AUTO, label_has(from, LABEL_DEGRADED_AUTO));
}

bool label_sound(const struct format_label *label, uint64_t address)
{
	return le32_get(label->magic) == LABEL_MAGIC && le64_get(label->address) == address &&
	       le32_get(label->crc) == crc32c_block(label, sizeof(*label), offsetof(struct format_label, crc));
}

/* One slot. 0, -ENODATA: nothing of ours or damaged, -EPROTONOSUPPORT: ours, but from another time. */
static int check(const struct format_label *label, uint64_t address, const char *path, struct error *error)
{
	uint32_t history = le32_get(label->history_count);
	uint32_t legs = le32_get(label->leg_count);

	if (!label_sound(label, address))
		return -ENODATA;
	if (le32_get(label->version) != LABEL_VERSION)
		return error_set(error, -EPROTONOSUPPORT,
				 "%s: the label's format is version %u, this mirrorfs knows version %u: use %s", path,
				 le32_get(label->version), LABEL_VERSION,
				 le32_get(label->version) < LABEL_VERSION ? "the one that made it" : "a newer one");
	if (le64_get(label->incompat) & ~(uint64_t)LABEL_INCOMPAT_KNOWN)
		return error_set(error, -EPROTONOSUPPORT,
				 "%s: the label uses features that this mirrorfs does not know (incompat 0x%llx): "
				 "use a newer one",
				 path, (unsigned long long)le64_get(label->incompat) & ~(uint64_t)LABEL_INCOMPAT_KNOWN);
	if (legs < 1 || legs > LABEL_LEGS || le32_get(label->index) >= legs || history < 1 || history > LABEL_HISTORY)
		return -ENODATA;
	if (memchr(label->name, 0, sizeof(label->name)) == NULL)
		return -ENODATA;
	for (int i = 0; i < LABEL_LEGS; i++) {
		if (memchr(label->path[i], 0, LABEL_PATH_SIZE) == NULL)
			return -ENODATA;
	}
	return 0;
}

/*
 * A label is no part of the mirrored space and is read before there is a pool: so not an iobuf. Who opens a volume does
 * not wait for ever for a leg that hangs: what it has not given back is left to it (I6).
 */
struct transfer {
	struct leg_io io;
	struct mutex lock;
	struct cond cond;
	bool done, left;
	unsigned char *block;
};

static void transfer_free(struct transfer *transfer)
{
	cond_fini(&transfer->cond);
	mutex_fini(&transfer->lock);
	free(transfer->block);
	free(transfer);
}

static void transfer_done(struct leg_io *io)
{
	struct transfer *transfer = io->context;
	bool left;

	mutex_lock(&transfer->lock);
	transfer->done = true;
	left = transfer->left;
	cond_signal(&transfer->cond);
	mutex_unlock(&transfer->lock);
	if (left)
		transfer_free(transfer);
}

/* False: the leg still has it, and frees it some day. */
static bool transfer_wait(struct transfer *transfer)
{
	uint64_t until_ns = clock_now_ns() + label_patience_ns;
	bool done;

	mutex_lock(&transfer->lock);
	while (!transfer->done && cond_wait_until(&transfer->cond, &transfer->lock, until_ns))
		;
	done = transfer->done;
	transfer->left = !done;
	mutex_unlock(&transfer->lock);
	return done;
}

static int transfer(struct leg *leg, enum leg_op op, uint64_t offset, struct format_label *label)
{
	struct transfer *transfer = calloc(1, sizeof(*transfer));
	int error;

	if (!transfer)
		return -ENOMEM;
	mutex_init(&transfer->lock, RANK_LEAF);
	cond_init(&transfer->cond);
	transfer->block = aligned_alloc(IOBUF_ALIGN, LABEL_SIZE);
	if (!transfer->block) {
		transfer_free(transfer);
		return -ENOMEM;
	}
	transfer->io = (struct leg_io){.op = op,
				       .offset = offset,
				       .length = LABEL_SIZE,
				       .data = transfer->block,
				       .done = transfer_done,
				       .context = transfer};
	if (op == LEG_WRITE) {
		transfer->io.flags = LEG_DSYNC;
		memcpy(transfer->block, label, LABEL_SIZE);
	}
	error = leg_submit(leg, &transfer->io);
	if (!error && !transfer_wait(transfer))
		return -ETIMEDOUT;
	error = error ? error : transfer->io.error;
	if (!error && op == LEG_READ)
		memcpy(label, transfer->block, LABEL_SIZE);
	transfer_free(transfer);
	return error;
}

int label_read_slots(struct leg *leg, struct format_label *label, unsigned int *bad, struct error *error)
{
	static const uint64_t slots[LABEL_SLOTS] = {LABEL_SLOT0, LABEL_SLOT1};
	struct error foreign = {""};
	bool found = false;
	int failed = 0;

	*bad = 0;
	if (leg_geometry(leg)->size_bytes < MIRROR_SPACE_OFFSET)
		return error_set(error, -ENODATA, "%s: not a mirrorfs leg (only %llu bytes)", leg_path(leg),
				 (unsigned long long)leg_geometry(leg)->size_bytes);
	for (int i = 0; i < LABEL_SLOTS; i++) {
		struct format_label slot;
		int result = transfer(leg, LEG_READ, slots[i], &slot);

		if (result) {
			failed = result;
			++*bad;
			if (result == -ETIMEDOUT)
				break;
			continue;
		}
		result = check(&slot, slots[i], leg_path(leg), &foreign);
		if (result == -EPROTONOSUPPORT)
			return error_set(error, result, "%s", foreign.text);
		*bad += result != 0;
		if (result || (found && le64_get(slot.sequence) <= le64_get(label->sequence)))
			continue;
		*label = slot;
		found = true;
	}
	if (found)
		return 0;
	if (failed)
		return error_set(error, failed, "%s: its label cannot be read: %s", leg_path(leg), strerror(-failed));
	return error_set(error, -ENODATA, "%s: not a mirrorfs leg (no valid label)", leg_path(leg));
}

int label_read(struct leg *leg, struct format_label *label, struct error *error)
{
	unsigned int bad;

	return label_read_slots(leg, label, &bad, error);
}

int label_write_wait(struct leg *leg, struct format_label *label)
{
	label->sequence = le64_of(le64_get(label->sequence) + 1);
	label_seal(label);
	return transfer(leg, LEG_WRITE, label_slot(le64_get(label->sequence)), label);
}

int mirror_label_read(struct leg *leg, struct mirror_label_info *info, struct error *error)
{
	struct format_label label;
	int result = label_read(leg, &label, error);

	if (result)
		return result;
	memset(info, 0, sizeof(*info));
	memcpy(info->identity.volume.bytes, label.volume, sizeof(label.volume));
	memcpy(info->identity.label, label.name, sizeof(info->identity.label));
	info->identity.degraded_auto = label_has(&label, LABEL_DEGRADED_AUTO);
	info->identity.leg_count = (int)le32_get(label.leg_count);
	for (int i = 0; i < MIRROR_LEGS; i++) {
		memcpy(info->identity.leg[i].bytes, label.leg[i], sizeof(label.leg[i]));
		memcpy(info->path[i], label.path[i], sizeof(info->path[i]));
	}
	info->index = (int)le32_get(label.index);
	info->space_blocks = le64_get(label.space_blocks);
	info->lacks_other = label_has(&label, LABEL_LACKS_OTHER);
	info->lacks_after = le64_get(label.lacks_after);
	info->resyncing = label_has(&label, LABEL_RESYNCING);
	info->superseded = label_has(&label, LABEL_SUPERSEDED);
	info->replaced = label_replaced(&label);
	info->shared = label_shared(&label);
	return 0;
}

uint64_t mirror_space_blocks(uint64_t leg_bytes)
{
	if (leg_bytes < 2 * MIRROR_SPACE_OFFSET)
		return 0;
	return (leg_bytes - MIRROR_SPACE_OFFSET) / MIRROR_BLOCK;
}

int mirror_format(struct leg *legs[MIRROR_LEGS], const char *name, struct mirror_identity *identity,
		  uint64_t *space_blocks, struct error *error)
{
	struct format_label label = {.magic = le32_of(LABEL_MAGIC), .version = le32_of(LABEL_VERSION)};

	memset(identity, 0, sizeof(*identity));
	if (strlen(name) >= sizeof(label.name))
		return error_set(error, -EINVAL, "the label \"%s\" is longer than %zu bytes", name,
				 sizeof(label.name) - 1);
	identity->volume = uuid_random();
	identity->leg_count = legs[1] ? 2 : 1;
	strcpy(identity->label, name);
	*space_blocks = UINT64_MAX;
	memcpy(label.volume, identity->volume.bytes, sizeof(label.volume));
	memcpy(label.name, identity->label, sizeof(label.name));
	label.leg_count = le32_of((uint32_t)identity->leg_count);
	for (int i = 0; i < identity->leg_count; i++) {
		uint64_t blocks = mirror_space_blocks(leg_geometry(legs[i])->size_bytes);

		if (!blocks)
			return error_set(error, -ENOSPC, "%s: too small to be a leg (%llu bytes)", leg_path(legs[i]),
					 (unsigned long long)leg_geometry(legs[i])->size_bytes);
		if (blocks < *space_blocks)
			*space_blocks = blocks;
		identity->leg[i] = uuid_random();
		memcpy(label.leg[i], identity->leg[i].bytes, sizeof(label.leg[i]));
		if (strlen(leg_path(legs[i])) < LABEL_PATH_SIZE)
			strcpy((char *)label.path[i], leg_path(legs[i]));
	}
	label.space_blocks = le64_of(*space_blocks);
	label_begin_epoch(&label, false, 0);
	/* Both slots, so that no older label of another volume stays behind. */
	for (int i = 0; i < identity->leg_count; i++) {
		label.index = le32_of((uint32_t)i);
		label.sequence = le64_of(0);
		for (int slot = 0; slot < LABEL_SLOTS; slot++) {
			int result = label_write_wait(legs[i], &label);

			if (result)
				return error_set(error, result, "%s: its label cannot be written: %s",
						 leg_path(legs[i]), strerror(-result));
		}
	}
	return 0;
}
