/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The journal: committed transactions wait in order, whoever needs them durable writes records for everybody who
 * waits (group commit), one record after the other.
 *
 * Ordering (I2). A record is written with DSYNC and acknowledged alone; so each earlier record must be durable
 * before, which holds because records are written one at a time. What a record refers to outside itself must be
 * durable before it is valid: a flush of both legs comes first, unless every transaction in it carries its data inside.
 * Records of two generations are never mixed, so a checkpoint's cut falls between two records.
 */
#include "meta_private.h"
#include "mirrorfs/base/clock.h"
#include "mirrorfs/base/crc32c.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define RECORD_BYTES (JOURNAL_RECORD_BLOCKS * FORMAT_BLOCK)

void journal_chunk_free(struct meta_chunk *chunk)
{
	free(chunk->updates);
	free(chunk->data);
	free(chunk);
}

static uint64_t blocks_of(size_t bytes)
{
	return (bytes + FORMAT_BLOCK - 1) / FORMAT_BLOCK;
}

bool journal_fits(const struct meta_chunk *chunk)
{
	return blocks_of(sizeof(struct format_record) + chunk->bytes) + chunk->data_count <= JOURNAL_RECORD_BLOCKS;
}

uint64_t journal_next_position(const struct meta *meta, uint64_t position, uint64_t blocks)
{
	uint64_t next = position + blocks;

	return next > meta->ring_blocks - JOURNAL_RECORD_BLOCKS ? 0 : next;
}

uint32_t journal_record_blocks(const struct meta *meta, const void *record, uint64_t position, uint64_t sequence,
			       uint32_t previous_crc)
{
	const struct format_record *head = record;
	uint32_t blocks = le32_get(head->blocks), data = le32_get(head->data);
	size_t updates = le32_get(head->update_bytes);

	if (le32_get(head->magic) != JOURNAL_MAGIC || memcmp(head->volume, meta->volume, sizeof(head->volume)) ||
	    le64_get(head->position) != position || le64_get(head->sequence) != sequence ||
	    le64_get(head->epoch) != meta->epoch || le32_get(head->previous_crc) != previous_crc)
		return 0;
	if (blocks > JOURNAL_RECORD_BLOCKS || data >= blocks || updates > RECORD_BYTES ||
	    blocks_of(sizeof(*head) + updates) + data != blocks)
		return 0;
	return blocks;
}

bool journal_record_valid(const void *record, uint32_t blocks)
{
	const struct format_record *head = record;

	return le32_get(head->blocks) == blocks &&
	       crc32c_block(record, blocks * (size_t)FORMAT_BLOCK, offsetof(struct format_record, crc)) ==
		       le32_get(head->crc);
}

/* A record of this epoch behind the one that must come next: that one was on the legs when this was written. */
static bool is_beyond(const struct meta *meta, const struct format_record *head, uint64_t position)
{
	uint64_t sequence = le64_get(head->sequence);
	uint32_t blocks = le32_get(head->blocks);

	return le32_get(head->magic) == JOURNAL_MAGIC && !memcmp(head->volume, meta->volume, sizeof(head->volume)) &&
	       le64_get(head->position) == position && le64_get(head->epoch) == meta->epoch &&
	       sequence > meta->record + 1 && sequence < FORMAT_NUMBER_END && blocks &&
	       blocks <= JOURNAL_RECORD_BLOCKS && blocks <= meta->ring_blocks - position;
}

static uint64_t beyond_on(struct meta *meta, int leg, unsigned char *window, unsigned char *record)
{
	uint64_t last = meta->record;

	for (uint64_t at = 0, count; at < meta->ring_blocks; at += count) {
		count = IOBUF_MAX / FORMAT_BLOCK;
		if (count > meta->ring_blocks - at)
			count = meta->ring_blocks - at;
		if (io_read(meta->mirror, io_only(leg), meta->ring_start + at, window, count * FORMAT_BLOCK))
			continue;
		for (uint64_t i = 0; i < count; i++) {
			const struct format_record *head = (const void *)(window + i * FORMAT_BLOCK);
			uint32_t blocks = le32_get(head->blocks);

			if (is_beyond(meta, head, at + i) && le64_get(head->sequence) > last &&
			    !io_read(meta->mirror, io_only(leg), meta->ring_start + at + i, record,
				     blocks * (size_t)FORMAT_BLOCK) &&
			    journal_record_valid(record, blocks))
				last = le64_get(head->sequence);
		}
	}
	return last;
}

uint64_t journal_cut_off(struct meta *meta)
{
	unsigned char *window = malloc(IOBUF_MAX), *record = malloc(RECORD_BYTES);
	uint64_t last = meta->record;

	for (int leg = 0; leg < MIRROR_LEGS && window && record; leg++) {
		uint64_t found = mirror_leg_insync(meta->mirror, leg) ? beyond_on(meta, leg, window, record) : 0;

		if (found > last)
			last = found;
	}
	free(window);
	free(record);
	return last - meta->record;
}

void journal_add(struct meta *meta, struct meta_chunk *chunk)
{
	chunk->sequence = ++meta->committed;
	STAILQ_INSERT_TAIL(&meta->pending, chunk, link);
	meta->pending_blocks += blocks_of(sizeof(struct format_record) + chunk->bytes) + chunk->data_count;
}

/* Takes from the queue what goes into one record. Lock held. */
static void gather(struct meta *meta, struct meta_chunks *batch, struct format_record *head, bool *flush)
{
	size_t bytes = 0;
	unsigned int data = 0, updates = 0;
	struct meta_chunk *chunk, *first = STAILQ_FIRST(&meta->pending);

	*flush = false;
	while ((chunk = STAILQ_FIRST(&meta->pending))) {
		if (chunk->generation != first->generation ||
		    blocks_of(sizeof(*head) + bytes + chunk->bytes) + data + chunk->data_count > JOURNAL_RECORD_BLOCKS)
			break;
		STAILQ_REMOVE_HEAD(&meta->pending, link);
		STAILQ_INSERT_TAIL(batch, chunk, link);
		bytes += chunk->bytes;
		data += chunk->data_count;
		updates += chunk->update_count;
		*flush |= chunk->flush;
		head->next_object = le64_of(chunk->next_object);
		meta->pending_blocks -= blocks_of(sizeof(*head) + chunk->bytes) + chunk->data_count;
	}
	head->generation = le64_of(first->generation);
	head->updates = le32_of(updates);
	head->update_bytes = le32_of((uint32_t)bytes);
	head->data = le32_of(data);
	head->blocks = le32_of((uint32_t)(blocks_of(sizeof(*head) + bytes) + data));
}

static void fill(unsigned char *at, const struct format_record *head, const struct meta_chunks *batch)
{
	size_t bytes = le32_get(head->blocks) * (size_t)FORMAT_BLOCK;
	unsigned char *updates = at + sizeof(*head);
	unsigned char *data = at + bytes - le32_get(head->data) * (size_t)FORMAT_BLOCK;
	const struct meta_chunk *chunk;
	struct format_record *to = (struct format_record *)at;

	memset(at, 0, bytes);
	*to = *head;
	STAILQ_FOREACH (chunk, batch, link) {
		if (chunk->bytes)
			memcpy(updates, chunk->updates, chunk->bytes);
		updates += chunk->bytes;
		if (chunk->data_count)
			memcpy(data, chunk->data, chunk->data_count * (size_t)FORMAT_BLOCK);
		data += chunk->data_count * (size_t)FORMAT_BLOCK;
	}
	to->crc = le32_of(crc32c_block(at, bytes, offsetof(struct format_record, crc)));
}

/* Writes one record with what heads the queue. Lock held at call and return, not meanwhile; meta->writing is set. */
static int write_record(struct meta *meta)
{
	struct meta_chunks batch = STAILQ_HEAD_INITIALIZER(batch);
	struct format_record head = { .magic = le32_of(JOURNAL_MAGIC) };
	struct mirror_io io = { .op = MIRROR_WRITE, .flags = MIRROR_DSYNC };
	uint64_t position = meta->head, last = 0, began_ns = clock_now_ns();
	struct meta_chunk *chunk;
	bool flush;
	int error = 0;

	gather(meta, &batch, &head, &flush);
	memcpy(head.volume, meta->volume, sizeof(head.volume));
	head.position = le64_of(position);
	head.sequence = le64_of(meta->record + 1);
	head.epoch = le64_of(meta->epoch);
	head.previous_crc = le32_of(meta->record_crc);
	mutex_unlock(&meta->journal_lock);

	io.block = meta->ring_start + position;
	io.count = le32_get(head.blocks);
	if (flush)
		error = io_flush(meta->mirror);
	if (!error) {
		io.buf = iobuf_get(mirror_pool(meta->mirror), io.count * (size_t)FORMAT_BLOCK);
		fill(io.buf->data, &head, &batch);
		head.crc = ((struct format_record *)io.buf->data)->crc;
		error = mirror_submit_wait(meta->mirror, &io);
		iobuf_put(io.buf);
	}
	while ((chunk = STAILQ_FIRST(&batch))) {
		STAILQ_REMOVE_HEAD(&batch, link);
		last = chunk->sequence;
		journal_chunk_free(chunk);
	}

	mutex_lock(&meta->journal_lock);
	if (error)
		return error;
	histograms_add(meta->times, META_TIME_COMMIT, clock_now_ns() - began_ns);
	meta->record++;
	meta->record_crc = le32_get(head.crc);
	meta->head = journal_next_position(meta, position, io.count);
	meta->ring_written += meta->head ? io.count : meta->ring_blocks - position;
	meta->cut[le64_get(head.generation) & 1] = (struct meta_cut){
		.generation = le64_get(head.generation),
		.record = meta->record,
		.crc = meta->record_crc,
		.position = meta->head,
		.written = meta->ring_written,
	};
	meta->durable = last;
	atomic_fetch_add(&meta->records, 1);
	return 0;
}

int journal_write(struct meta *meta, uint64_t up_to)
{
	int error = 0;

	mutex_lock(&meta->journal_lock);
	while (meta->durable < up_to && !(error = atomic_load(&meta->failed))) {
		if (meta->writing) {
			cond_wait(&meta->journal_moved, &meta->journal_lock);
			continue;
		}
		meta->writing = true;
		assert(!STAILQ_EMPTY(&meta->pending));
		error = write_record(meta);
		if (error)
			meta_fail(meta, error);
		meta->writing = false;
		cond_broadcast(&meta->journal_moved);
	}
	mutex_unlock(&meta->journal_lock);
	return error;
}

/* Who commits faster than the ring takes it goes on at its pace: else a checkpoint would have it all to write. */
void journal_relieve(struct meta *meta)
{
	uint64_t first = 0;

	mutex_lock(&meta->journal_lock);
	if (meta->pending_blocks > 2 * JOURNAL_DUE)
		first = STAILQ_FIRST(&meta->pending)->sequence;
	mutex_unlock(&meta->journal_lock);
	if (first)
		(void)journal_write(meta, first); /* a failure is latched */
}

int meta_sync(struct meta *meta, uint64_t sequence)
{
	return journal_write(meta, sequence);
}

uint64_t meta_sequence(struct meta *meta)
{
	uint64_t sequence;

	mutex_lock(&meta->journal_lock);
	sequence = meta->committed;
	mutex_unlock(&meta->journal_lock);
	return sequence;
}
