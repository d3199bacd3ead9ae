/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The ring after a crash. A record that is valid on either leg counts, and is made equal on the other. All are read
 * before the first is applied: no node may be put where the tail of the ring has data, so the extents that it names are
 * reserved, and the data that rides in it goes to its place.
 *
 * Replay judges no data: a valid record implies that what it refers to is durable.
 */
#include "meta_private.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct meta_record {
	struct meta_record *next;
	size_t size;
	unsigned char bytes[];
};

struct tail {
	struct meta_record *first, **last;
	struct meta_late *late;
	size_t count, room;
};

static uint64_t ring_block(const struct meta *meta)
{
	return meta->ring_start + meta->head;
}

/* The length of the record at the head of the ring on this leg; 0: what is there is not the record that must come. */
static int record_head(struct meta *meta, int leg, void *window, uint32_t *blocks)
{
	int error = io_read(meta->mirror, io_only(leg), ring_block(meta), window, FORMAT_BLOCK);

	*blocks = error ? 0 : journal_record_blocks(meta, window, meta->head, meta->record + 1, meta->record_crc);
	return error;
}

/*
 * The record at the head of the ring, from any leg that has it, made equal on the other. NULL and 0: none. If no leg
 * can be read there, nobody knows what was acknowledged: -EIO.
 */
static int record_read(struct meta *meta, unsigned char *window, struct meta_record **found)
{
	bool valid[MIRROR_LEGS] = { false, false };
	struct meta_record *record = NULL;
	int unreadable = 0, readable = 0, error = 0;

	*found = NULL;
	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		uint32_t blocks;

		if (!mirror_leg_insync(meta->mirror, leg))
			continue;
		error = record_head(meta, leg, window, &blocks);
		if (!error && blocks)
			error = io_read(meta->mirror, io_only(leg), ring_block(meta), window,
					blocks * (size_t)FORMAT_BLOCK);
		if (error)
			unreadable++;
		else
			readable++;
		if (error || !blocks || !journal_record_valid(window, blocks))
			continue;
		valid[leg] = true;
		if (record)
			continue;
		record = malloc(sizeof(*record) + blocks * (size_t)FORMAT_BLOCK);
		if (!record)
			return -ENOMEM;
		record->next = NULL;
		record->size = blocks * (size_t)FORMAT_BLOCK;
		memcpy(record->bytes, window, blocks * (size_t)FORMAT_BLOCK);
	}
	if (unreadable && !readable)
		return error;
	/* To both legs: what one of them cannot take is then the mirror's business. */
	if (record && valid[0] + valid[1] < readable + unreadable && !meta->options.read_only)
		error = io_write(meta->mirror, 0, ring_block(meta), record->bytes, record->size);
	else
		error = 0;
	*found = record;
	return error;
}

/* Calls `each` for every update; -EIO if the record, though its checksum is right, makes no sense. */
static int each_update(const struct meta_record *record,
		       int (*each)(void *context, const struct format_update *update, const struct meta_key *key,
				   const void *value),
		       void *context)
{
	const struct format_record *head = (const struct format_record *)record->bytes;
	const unsigned char *at = record->bytes + sizeof(*head), *end = at + le32_get(head->update_bytes);

	for (uint32_t i = 0; i < le32_get(head->updates); i++) {
		const struct format_update *update = (const struct format_update *)at;
		size_t length, padded;
		struct meta_key key;
		int error;

		if ((size_t)(end - at) < sizeof(*update))
			return -EIO;
		length = le16_get(update->length);
		padded = (length + 7) & ~(size_t)7;
		if ((size_t)(end - at) - sizeof(*update) < padded || length > NODE_VALUE_MAX)
			return -EIO;
		key = (struct meta_key){ le64_get(update->object), update->type, le64_get(update->offset) };
		error = each(context, update, &key, at + sizeof(*update));
		if (error)
			return error;
		at += sizeof(*update) + padded;
	}
	return 0;
}

struct survey {
	struct meta *meta;
	struct tail *tail;
	const unsigned char *data, *data_end;
};

static int late_add(struct tail *tail, uint64_t address, const unsigned char *data)
{
	if (tail->count == tail->room) {
		size_t room = tail->room ? 2 * tail->room : 256;
		struct meta_late *late = reallocarray(tail->late, room, sizeof(*late));

		if (!late)
			return -ENOMEM;
		tail->late = late;
		tail->room = room;
	}
	tail->late[tail->count++] = (struct meta_late){ address, data };
	return 0;
}

/* Reserves what the record names and notes its data. */
static int survey_update(void *context, const struct format_update *update, const struct meta_key *key,
			 const void *value)
{
	struct survey *survey = context;
	struct meta *meta = survey->meta;
	struct format_alloc alloc;
	int error = 0;

	switch (update->kind) {
	case UPDATE_PUT:
		if (key->object != OBJECT_VOLUME || key->type != TYPE_ALLOC)
			return 0;
		if (le16_get(update->length) != sizeof(alloc))
			return -EIO;
		memcpy(&alloc, value, sizeof(alloc));
		if (le32_get(alloc.length) > EXTENT_BLOCKS_MAX)
			return -EIO;
		return alloc_reserve_tail(meta, key->offset, le32_get(alloc.length));
	case UPDATE_DELETE:
		return 0;
	case UPDATE_DATA:
		if (survey->data >= survey->data_end || key->offset < meta->boundary || key->offset >= meta->heap_end)
			return -EIO;
		error = late_add(survey->tail, key->offset, survey->data);
		survey->data += FORMAT_BLOCK;
		return error;
	default:
		return -EIO;
	}
}

/* Where a node cannot be read, a read-only mount does without the update: what is there is -EIO as well. */
static int apply_update(void *context, const struct format_update *update, const struct meta_key *key,
			const void *value)
{
	struct meta *meta = context;
	int error = 0;

	if (meta->dirty.count * (size_t)NODE_BYTES > 5 * meta->dirty_limit)
		return -ENOMEM;
	if (update->kind == UPDATE_PUT)
		error = tree_put(meta, key, value, le16_get(update->length));
	else if (update->kind == UPDATE_DELETE)
		error = tree_delete(meta, key);
	if (error != -EIO || !meta->options.read_only)
		return error;
	meta->damage = "what the journal would change cannot be read on any leg";
	return 0;
}

static int late_compare(const void *a, const void *b)
{
	const struct meta_late *x = a, *y = b;

	return x->address < y->address ? -1 : x->address > y->address;
}

/* Brings the data that rode in records to its place, on both legs. */
static int late_write(struct meta *meta, const struct tail *tail)
{
	int error = 0;

	for (size_t i = 0; i < tail->count && !error; i++)
		error = io_write(meta->mirror, 0, tail->late[i].address, tail->late[i].data, FORMAT_BLOCK);
	return error;
}

uint32_t replay_late(const struct meta *meta, uint64_t address, uint32_t count, const void **data)
{
	size_t low = 0, high = meta->late_count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (meta->late[middle].address < address)
			low = middle + 1;
		else
			high = middle;
	}
	*data = NULL;
	if (low == meta->late_count || meta->late[low].address - address >= count)
		return count;
	if (meta->late[low].address > address)
		return (uint32_t)(meta->late[low].address - address);
	*data = meta->late[low].data;
	return 1;
}

static int tail_read(struct meta *meta, struct tail *tail)
{
	unsigned char *window = malloc(JOURNAL_RECORD_BLOCKS * (size_t)FORMAT_BLOCK);
	int error = window ? 0 : -ENOMEM;

	while (!error) {
		struct meta_record *record = NULL;
		struct format_record *head;
		struct survey survey;

		error = record_read(meta, window, &record);
		if (!record)
			break;
		*tail->last = record;
		tail->last = &record->next;
		head = (struct format_record *)record->bytes;
		survey = (struct survey){
			.meta = meta,
			.tail = tail,
			.data_end = record->bytes + le32_get(head->blocks) * (size_t)FORMAT_BLOCK,
		};
		survey.data = survey.data_end - le32_get(head->data) * (size_t)FORMAT_BLOCK;
		if (!error && (le64_get(head->generation) >= FORMAT_NUMBER_END ||
			       le64_get(head->next_object) >= FORMAT_NUMBER_END))
			error = -EIO;
		if (!error)
			error = each_update(record, survey_update, &survey);
		meta->head = journal_next_position(meta, meta->head, le32_get(head->blocks));
		meta->record++;
		meta->record_crc = le32_get(head->crc);
		if (le64_get(head->next_object) > atomic_load(&meta->next_object))
			atomic_store(&meta->next_object, le64_get(head->next_object));
		/* What it holds was born in the generations up to its own. */
		if (le64_get(head->generation) > meta->generation)
			meta->generation = le64_get(head->generation);
		atomic_fetch_add(&meta->replayed, 1);
	}
	free(window);
	return error;
}

static void records_free(struct meta_record *record)
{
	while (record) {
		struct meta_record *next = record->next;

		free(record);
		record = next;
	}
}

/*
 * Applies one record. When the nodes that it dirties become too many for memory, a checkpoint takes them to the legs:
 * it is one that the mount before might have made, under its epoch.
 */
static int record_apply(struct meta *meta, const struct meta_record *record, struct error *error)
{
	const struct format_record *head = (const struct format_record *)record->bytes;
	int result = each_update(record, apply_update, meta);

	if (result == -ENOMEM)
		return error_set(error, result, "not enough memory to replay the journal: mount with a larger cache=");
	if (result || meta->dirty.count * (size_t)NODE_BYTES <= meta->dirty_limit)
		return result;
	if (meta->options.read_only)
		return error_set(
			error, -ENOMEM,
			"the journal is too long to be replayed in memory: mount read-write, or with a larger cache=");
	meta->cut[meta->generation & 1] = (struct meta_cut){
		.generation = meta->generation,
		.record = le64_get(head->sequence),
		.crc = le32_get(head->crc),
		.position = journal_next_position(meta, le64_get(head->position), le32_get(head->blocks)),
	};
	return checkpoint_run(meta);
}

int replay(struct meta *meta, struct error *error)
{
	struct tail tail = { .last = &tail.first };
	uint64_t on_legs = le64_get(meta->super.generation);
	int result = tail_read(meta, &tail);

	/* The mount's checkpoint goes to the older slot. */
	if (!((meta->generation ^ on_legs) & 1))
		meta->generation++;
	if (!result && !meta->options.read_only)
		result = late_write(meta, &tail);
	for (struct meta_record *record = tail.first; record && !result; record = record->next)
		result = record_apply(meta, record, error);
	if (!result && meta->options.read_only) {
		if (tail.count)
			qsort(tail.late, tail.count, sizeof(*tail.late), late_compare);
		meta->late = tail.late;
		meta->late_count = tail.count;
		meta->late_records = tail.first;
		return 0;
	}
	records_free(tail.first);
	free(tail.late);
	if (result)
		error_set(error, result, "the journal cannot be replayed: %s", strerror(-result));
	return result;
}

void replay_close(struct meta *meta)
{
	records_free(meta->late_records);
	free(meta->late);
}
