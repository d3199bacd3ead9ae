/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The ring after a crash. A record that is valid on either leg counts, and is made equal on the other. All are read
 * before the first is applied: no node may be put where the tail of the ring has data, so the extents that it names are
 * reserved, and the data that rides in it goes to its place.
 *
 * Replay judges no data: a valid record implies that what it refers to is durable.
 */
#include "meta_private.h"
#include "mirrorfs/base/array.h"

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

/* A piece of the ring as one leg has it, read in one go: most records are short. */
struct window {
	unsigned char *bytes; /* IOBUF_MAX of them */
	uint64_t start, count; /* blocks of the ring */
};

/* The next `blocks` blocks of the ring on this leg. What lies behind them may be unreadable. */
static int window_at(struct meta *meta, int leg, struct window *window, uint32_t blocks, const unsigned char **at)
{
	int error = 0;

	if (meta->head < window->start || meta->head + blocks > window->start + window->count) {
		window->start = meta->head;
		window->count = meta->ring_blocks - meta->head;
		if (window->count > IOBUF_MAX / FORMAT_BLOCK)
			window->count = IOBUF_MAX / FORMAT_BLOCK;
		error = io_read(meta->mirror, io_only(leg), ring_block(meta), window->bytes,
				window->count * FORMAT_BLOCK);
		if (error) {
			window->count = blocks;
			error = io_read(meta->mirror, io_only(leg), ring_block(meta), window->bytes,
					blocks * (size_t)FORMAT_BLOCK);
		}
		if (error)
			window->count = 0;
	}
	*at = window->bytes + (meta->head - window->start) * FORMAT_BLOCK;
	return error;
}

/* The record at the head of the ring on this leg. *blocks 0: what is there is not the record that must come. */
static int record_at(struct meta *meta, int leg, struct window *window, const unsigned char **at, uint32_t *blocks)
{
	int error = window_at(meta, leg, window, 1, at);

	*blocks = error ? 0 : journal_record_blocks(meta, *at, meta->head, meta->record + 1, meta->record_crc);
	return *blocks ? window_at(meta, leg, window, *blocks, at) : error;
}

/*
 * The record at the head of the ring, from any leg that has it, made equal on the other. NULL and 0: none. If no leg
 * can be read there, nobody knows what was acknowledged: -EIO.
 */
static int record_read(struct meta *meta, struct window *windows, struct meta_record **found)
{
	bool valid[MIRROR_LEGS] = { false, false };
	struct meta_record *record = NULL;
	int unreadable = 0, readable = 0, error = 0;

	*found = NULL;
	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		const unsigned char *at;
		uint32_t blocks;

		if (!mirror_leg_insync(meta->mirror, leg))
			continue;
		error = record_at(meta, leg, &windows[leg], &at, &blocks);
		if (error)
			unreadable++;
		else
			readable++;
		if (error || !blocks || !journal_record_valid(at, blocks))
			continue;
		valid[leg] = true;
		if (record)
			continue;
		record = malloc(sizeof(*record) + blocks * (size_t)FORMAT_BLOCK);
		if (!record)
			return -ENOMEM;
		record->next = NULL;
		record->size = blocks * (size_t)FORMAT_BLOCK;
		memcpy(record->bytes, at, blocks * (size_t)FORMAT_BLOCK);
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

/* ---- the updates of a record ---- */

struct cursor {
	const struct meta_record *record;
	const unsigned char *at;
	uint32_t left; /* updates */
};

static void cursor_start(struct cursor *cursor, const struct meta_record *record)
{
	const struct format_record *head = record ? (const struct format_record *)record->bytes : NULL;

	*cursor = (struct cursor){
		.record = record,
		.at = record ? record->bytes + sizeof(*head) : NULL,
		.left = record ? le32_get(head->updates) : 0,
	};
}

/* 1 and the next update, 0 behind the last; -EIO if the record, though its checksum is right, makes no sense. */
static int cursor_next(struct cursor *cursor, const struct format_update **update, struct meta_key *key,
		       const void **value)
{
	const struct format_record *head = (const struct format_record *)cursor->record->bytes;
	const unsigned char *end = cursor->record->bytes + sizeof(*head) + le32_get(head->update_bytes);
	const struct format_update *next = (const struct format_update *)cursor->at;
	size_t length, padded;

	if (!cursor->left)
		return 0;
	if ((size_t)(end - cursor->at) < sizeof(*next))
		return -EIO;
	length = le16_get(next->length);
	padded = (length + 7) & ~(size_t)7;
	if ((size_t)(end - cursor->at) - sizeof(*next) < padded || length > NODE_VALUE_MAX)
		return -EIO;
	*update = next;
	*key = (struct meta_key){ le64_get(next->object), next->type, le64_get(next->offset) };
	*value = cursor->at + sizeof(*next);
	cursor->at += sizeof(*next) + padded;
	cursor->left--;
	return 1;
}

struct survey {
	struct meta *meta;
	struct tail *tail;
	const unsigned char *data, *data_end;
};

static int late_add(struct tail *tail, uint64_t address, const unsigned char *data)
{
	int error = ARRAY_GROW(tail->late, tail->room, tail->count, 256);

	if (!error)
		tail->late[tail->count++] = (struct meta_late){ address, data };
	return error;
}

/* Reserves what an update names and notes its data. */
static int survey_update(struct survey *survey, const struct format_update *update, const struct meta_key *key,
			 const void *value)
{
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

static int survey_record(struct meta *meta, struct tail *tail, const struct meta_record *record)
{
	const struct format_record *head = (const struct format_record *)record->bytes;
	struct survey survey = {
		.meta = meta,
		.tail = tail,
		.data_end = record->bytes + le32_get(head->blocks) * (size_t)FORMAT_BLOCK,
	};
	const struct format_update *update;
	struct cursor cursor;
	struct meta_key key;
	const void *value;
	int more, error = 0;

	if (le64_get(head->generation) >= FORMAT_NUMBER_END || le64_get(head->next_object) >= FORMAT_NUMBER_END)
		return -EIO;
	survey.data = survey.data_end - le32_get(head->data) * (size_t)FORMAT_BLOCK;
	cursor_start(&cursor, record);
	while (!error && (more = cursor_next(&cursor, &update, &key, &value)))
		error = more < 0 ? more : survey_update(&survey, update, &key, value);
	return error;
}

static int tail_read(struct meta *meta, struct tail *tail)
{
	struct window windows[MIRROR_LEGS] = { { .bytes = malloc(IOBUF_MAX) }, { .bytes = malloc(IOBUF_MAX) } };
	int error = windows[0].bytes && windows[1].bytes ? 0 : -ENOMEM;

	while (!error) {
		struct meta_record *record = NULL;
		struct format_record *head;

		error = record_read(meta, windows, &record);
		if (!record)
			break;
		*tail->last = record;
		tail->last = &record->next;
		head = (struct format_record *)record->bytes;
		if (!error)
			error = survey_record(meta, tail, record);
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
	if (!error && meta->options.checking)
		meta->cut_off = journal_cut_off(meta);
	free(windows[0].bytes);
	free(windows[1].bytes);
	return error;
}

/* ---- applying ---- */

struct apply {
	struct meta *meta;
	struct cursor cursor; /* what is applied next */
	struct cursor ahead; /* what is looked at next: the nodes that it touches are read together */
	uint64_t applied, looked; /* updates that they have passed */
	struct meta_cut done; /* behind the last record that was applied as a whole */
};

/* As many updates as name 64 nodes that are not in memory. */
#define LOOK_UPDATES 4096u

static void look_ahead(struct apply *apply)
{
	struct cursor *cursor = &apply->ahead;
	uint64_t until = apply->applied + LOOK_UPDATES;
	const struct format_update *update;
	struct meta_key key;
	struct ahead ahead;
	const void *value;
	bool more = true;

	ahead_begin(&ahead, apply->meta);
	while (more && cursor->record && apply->looked < until) {
		if (cursor_next(cursor, &update, &key, &value) <= 0) {
			cursor_start(cursor, cursor->record->next);
			continue;
		}
		apply->looked++;
		if (update->kind == UPDATE_PUT || update->kind == UPDATE_DELETE)
			more = ahead_key(&ahead, &key);
	}
	ahead_end(&ahead);
}

/*
 * When the nodes that replay dirties become too many for memory, a checkpoint takes them to the legs under the epoch of
 * the mount before. It may come in the middle of a record, and then names the record before: should this mount not come
 * to its end, the next one applies this record again, to the same effect.
 */
static int apply_checkpoint(struct apply *apply, struct error *error)
{
	struct meta *meta = apply->meta;

	if (meta->options.read_only)
		return error_set(
			error, -ENOMEM,
			"the journal is too long to be replayed in memory: mount read-write, or with a larger cache=");
	apply->done.generation = meta->generation;
	meta->cut[meta->generation & 1] = apply->done;
	return checkpoint_run(meta);
}

/* Where a node cannot be read, a read-only mount does without the update: what is there is -EIO as well. */
static int apply_update(struct meta *meta, const struct format_update *update, const struct meta_key *key,
			const void *value)
{
	int error = 0;

	if (update->kind == UPDATE_PUT)
		error = tree_put(meta, key, value, le16_get(update->length));
	else if (update->kind == UPDATE_DELETE)
		error = tree_delete(meta, key);
	if (error != -EIO || !meta->options.read_only)
		return error;
	meta->damage = "what the journal would change cannot be read on any leg";
	return 0;
}

static int apply_record(struct apply *apply, struct error *error)
{
	const struct format_record *head = (const struct format_record *)apply->cursor.record->bytes;
	struct meta *meta = apply->meta;
	const struct format_update *update;
	struct meta_key key;
	const void *value;
	int more, result = 0;

	while (!result && (more = cursor_next(&apply->cursor, &update, &key, &value))) {
		if (more < 0)
			return more;
		if (apply->applied++ == apply->looked)
			look_ahead(apply);
		if (meta->dirty.count * (size_t)NODE_BYTES > meta->dirty_limit)
			result = apply_checkpoint(apply, error);
		if (!result)
			result = apply_update(meta, update, &key, value);
	}
	apply->done = (struct meta_cut){
		.record = le64_get(head->sequence),
		.crc = le32_get(head->crc),
		.position = journal_next_position(meta, le64_get(head->position), le32_get(head->blocks)),
	};
	return result;
}

static int apply_all(struct meta *meta, const struct meta_record *first, struct error *error)
{
	struct apply apply = {
		.meta = meta,
		.done = {
			.record = le64_get(meta->super.sequence),
			.crc = le32_get(meta->super.ring_crc),
			.position = le64_get(meta->super.ring_position),
		},
	};
	int result = 0;

	cursor_start(&apply.ahead, first);
	for (const struct meta_record *record = first; record && !result; record = record->next) {
		cursor_start(&apply.cursor, record);
		result = apply_record(&apply, error);
	}
	return result;
}

static int late_compare(const void *a, const void *b)
{
	const struct meta_late *x = a, *y = b;

	return x->address < y->address ? -1 : x->address > y->address;
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

static void records_free(struct meta_record *record)
{
	while (record) {
		struct meta_record *next = record->next;

		free(record);
		record = next;
	}
}

int replay(struct meta *meta, struct error *error)
{
	struct tail tail = { .last = &tail.first };
	uint64_t on_legs = le64_get(meta->super.generation);
	int result = tail_read(meta, &tail);

	/* The mount's checkpoint goes to the older slot. */
	if (!((meta->generation ^ on_legs) & 1))
		meta->generation++;
	if (tail.count)
		qsort(tail.late, tail.count, sizeof(*tail.late), late_compare);
	if (!result && !meta->options.read_only)
		result = home_write(meta, tail.late, tail.count); /* no block is named twice */
	if (!result)
		result = apply_all(meta, tail.first, error);
	if (!result && meta->options.read_only) {
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
