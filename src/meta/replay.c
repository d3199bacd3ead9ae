/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The ring after a crash. A record that is valid on either leg counts, and is made equal on the other. All are read before
 * the first is applied: no node may be put where the tail of the ring has data (the extents it names are reserved),
 * and of the data that rides in records only the last for each block goes to its place.
 *
 * Replay judges no data: a valid record implies that what it refers to is durable.
 */
#include "meta_private.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct record {
	struct record *next;
	unsigned char bytes[]; /* le32 blocks in its head tells how many */
};

/* Data of one block: the last one wins; NULL: it was written in place after what the ring has for it. */
struct late {
	uint64_t address;
	size_t order;
	const unsigned char *data;
};

struct tail {
	struct record *first, **last;
	struct late *late;
	size_t count, room;
};

static int leg_io(struct meta *meta, enum mirror_op op, int leg, uint64_t position, uint32_t blocks, void *bytes)
{
	struct mirror_io io = {
		.op = op,
		.flags = leg ? MIRROR_ONLY_LEG1 : MIRROR_ONLY_LEG0,
		.block = meta->ring_start + position,
		.count = blocks,
	};
	size_t size = blocks * (size_t)FORMAT_BLOCK;
	int error;

	io.buf = iobuf_get(mirror_pool(meta->mirror), size);
	if (op == MIRROR_WRITE)
		memcpy(io.buf->data, bytes, size);
	error = mirror_submit_wait(meta->mirror, &io);
	if (!error && op == MIRROR_READ)
		memcpy(bytes, io.buf->data + io.buf_offset, size);
	iobuf_put(io.buf);
	return error;
}

/* The record at the head of the ring, from any leg that has it. NULL and 0: none. */
static int record_read(struct meta *meta, unsigned char *window, struct record **found)
{
	bool valid[MIRROR_LEGS] = { false, false };
	struct record *record = NULL;
	int error = 0;

	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		uint32_t blocks;

		if (!mirror_leg_insync(meta->mirror, leg) ||
		    leg_io(meta, MIRROR_READ, leg, meta->head, JOURNAL_RECORD_BLOCKS, window) ||
		    !journal_record_valid(meta, window, meta->head, meta->record + 1, meta->record_crc))
			continue;
		valid[leg] = true;
		if (record)
			continue;
		blocks = le32_get(((struct format_record *)window)->blocks);
		record = malloc(sizeof(*record) + blocks * (size_t)FORMAT_BLOCK);
		if (!record)
			return -ENOMEM;
		memcpy(record->bytes, window, blocks * (size_t)FORMAT_BLOCK);
	}
	for (int leg = 0; record && leg < MIRROR_LEGS && !error && !meta->options.read_only; leg++) {
		if (!valid[leg] && mirror_leg_insync(meta->mirror, leg))
			error = leg_io(meta, MIRROR_WRITE, leg, meta->head,
				       le32_get(((struct format_record *)record->bytes)->blocks), record->bytes);
	}
	*found = record;
	return error;
}

/* Calls `each` for every update; -EIO if the record, though its checksum is right, makes no sense. */
static int each_update(const struct record *record, int (*each)(void *context, const struct format_update *update,
								const struct meta_key *key, const void *value),
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
		struct late *late = reallocarray(tail->late, room, sizeof(*late));

		if (!late)
			return -ENOMEM;
		tail->late = late;
		tail->room = room;
	}
	tail->late[tail->count] = (struct late){ address, tail->count, data };
	tail->count++;
	return 0;
}

/* Reserves what the record names and notes its data. */
static int survey_update(void *context, const struct format_update *update, const struct meta_key *key, const void *value)
{
	struct survey *survey = context;
	struct meta *meta = survey->meta;
	int error = 0;
	le32 count;

	switch (update->kind) {
	case UPDATE_PUT:
		if (key->object != OBJECT_VOLUME || key->type != TYPE_ALLOC)
			return 0;
		if (le16_get(update->length) != sizeof(struct format_alloc))
			return -EIO;
		return alloc_reserve_tail(meta, key->offset, le32_get(((const struct format_alloc *)value)->length));
	case UPDATE_DELETE:
		return 0;
	case UPDATE_DATA:
		if (survey->data >= survey->data_end || key->offset < meta->boundary || key->offset >= meta->heap_end)
			return -EIO;
		error = late_add(survey->tail, key->offset, survey->data);
		survey->data += FORMAT_BLOCK;
		return error;
	case UPDATE_WRITTEN:
		if (le16_get(update->length) != sizeof(count))
			return -EIO;
		memcpy(&count, value, sizeof(count));
		if (le32_get(count) > EXTENT_BLOCKS_MAX)
			return -EIO;
		for (uint32_t i = 0; !error && i < le32_get(count); i++)
			error = late_add(survey->tail, key->offset + i, NULL);
		return error;
	default:
		return -EIO;
	}
}

static int apply_update(void *context, const struct format_update *update, const struct meta_key *key, const void *value)
{
	struct meta *meta = context;

	if (update->kind == UPDATE_PUT)
		return tree_put(meta, key, value, le16_get(update->length));
	if (update->kind == UPDATE_DELETE)
		return tree_delete(meta, key);
	return 0;
}

static int late_compare(const void *a, const void *b)
{
	const struct late *x = a, *y = b;

	if (x->address != y->address)
		return x->address < y->address ? -1 : 1;
	return x->order < y->order ? -1 : x->order > y->order;
}

/* Brings the data that rode in records to its place, on both legs. */
static int late_write(struct meta *meta, struct tail *tail)
{
	if (tail->count)
		qsort(tail->late, tail->count, sizeof(*tail->late), late_compare);
	for (size_t i = 0; i < tail->count; i++) {
		struct mirror_io io = { .op = MIRROR_WRITE, .block = tail->late[i].address, .count = 1 };
		int error;

		if ((i + 1 < tail->count && tail->late[i + 1].address == tail->late[i].address) || !tail->late[i].data)
			continue;
		io.buf = iobuf_get(mirror_pool(meta->mirror), FORMAT_BLOCK);
		memcpy(io.buf->data, tail->late[i].data, FORMAT_BLOCK);
		error = mirror_submit_wait(meta->mirror, &io);
		iobuf_put(io.buf);
		if (error)
			return error;
	}
	return 0;
}

static int tail_read(struct meta *meta, struct tail *tail)
{
	unsigned char *window = malloc(JOURNAL_RECORD_BLOCKS * (size_t)FORMAT_BLOCK);
	int error = window ? 0 : -ENOMEM;

	while (!error) {
		struct record *record = NULL;
		struct format_record *head;
		struct survey survey;

		error = record_read(meta, window, &record);
		if (!record)
			break;
		*tail->last = record;
		record->next = NULL;
		tail->last = &record->next;
		head = (struct format_record *)record->bytes;
		survey = (struct survey){
			.meta = meta,
			.tail = tail,
			.data_end = record->bytes + le32_get(head->blocks) * (size_t)FORMAT_BLOCK,
		};
		survey.data = survey.data_end - le32_get(head->data) * (size_t)FORMAT_BLOCK;
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

int replay(struct meta *meta, struct error *error)
{
	struct tail tail = { .last = &tail.first };
	struct record *record;
	int result = tail_read(meta, &tail);

	if (!result && !meta->options.read_only)
		result = late_write(meta, &tail);
	for (record = tail.first; record && !result; record = record->next)
		result = each_update(record, apply_update, meta);
	while ((record = tail.first)) {
		tail.first = record->next;
		free(record);
	}
	free(tail.late);
	if (result)
		error_set(error, result, "the journal cannot be replayed: %s", strerror(-result));
	return result;
}
