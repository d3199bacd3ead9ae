/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A leg that remembers: each write, flush and discard that succeeded, in order of completion, with its data. A
 * crash test replays any prefix of it. Memory is taken at submission, so that what completed is always recorded.
 */
#include "leg_private.h"
#include "mirrorfs/base/array.h"

#include <bsd/sys/queue.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct record_request {
	struct leg_io below;
	struct leg_io *io;
	LIST_ENTRY(record_request) all;
	struct leg_record_entry entry;
	unsigned char data[]; /* of a write: as it was submitted */
};

struct record_leg {
	struct leg leg;
	LIST_HEAD(, record_request) all; /* in flight; this and the rest: under leg.lock */
	size_t in_flight;
	struct record_request **entries; /* completed; room for those in flight too */
	size_t count;
	size_t room;
};

static bool record_is_kept(const struct leg_io *io)
{
	return io->op != LEG_READ && !io->error;
}

static void record_done(struct leg_io *below)
{
	struct record_request *request = below->context;
	struct leg_io *io = request->io;
	struct record_leg *record = (struct record_leg *)io->leg;
	int error = below->error;
	size_t bytes = below->bytes;
	bool kept = record_is_kept(below);

	mutex_lock(&record->leg.lock);
	LIST_REMOVE(request, all);
	record->in_flight--;
	if (kept)
		record->entries[record->count++] = request;
	mutex_unlock(&record->leg.lock);
	if (!kept)
		free(request);
	leg_complete(io, error, bytes);
}

/* Counts the request in and makes room for its entry. */
static int record_admit(struct record_leg *record, struct record_request *request)
{
	int error;

	mutex_lock(&record->leg.lock);
	error = ARRAY_GROW(record->entries, record->room, record->count + record->in_flight, 64);
	if (!error) {
		LIST_INSERT_HEAD(&record->all, request, all);
		record->in_flight++;
	}
	mutex_unlock(&record->leg.lock);
	return error;
}

static int record_submit(struct leg *leg, struct leg_io *io)
{
	struct record_leg *record = (struct record_leg *)leg;
	size_t length = io->op == LEG_WRITE ? io->length : 0;
	struct record_request *request = malloc(sizeof(*request) + length);
	int error;

	if (!request)
		return -ENOMEM;
	request->io = io;
	request->below = (struct leg_io){ .op = io->op, .flags = io->flags, .offset = io->offset, .length = io->length,
					  .data = io->data, .done = record_done, .context = request };
	request->entry = (struct leg_record_entry){ .op = io->op, .flags = io->flags, .offset = io->offset,
						    .length = io->length, .data = length ? request->data : NULL };
	if (length)
		memcpy(request->data, io->data, length);
	error = record_admit(record, request);
	if (error) {
		free(request);
		return error;
	}
	error = leg_submit(leg->below, &request->below);
	if (error) {
		mutex_lock(&leg->lock);
		LIST_REMOVE(request, all);
		record->in_flight--;
		mutex_unlock(&leg->lock);
		free(request);
	}
	return error;
}

static void record_free(struct record_leg *record)
{
	struct record_request *request;

	while ((request = LIST_FIRST(&record->all))) {
		LIST_REMOVE(request, all);
		free(request);
	}
	for (size_t i = 0; i < record->count; i++)
		free(record->entries[i]);
	free(record->entries);
	leg_fini(&record->leg);
	free(record);
}

static void record_close(struct leg *leg)
{
	leg_close(leg->below);
	record_free((struct record_leg *)leg);
}

static void record_abandon(struct leg *leg)
{
	leg->below->ops->abandon(leg->below);
	record_free((struct record_leg *)leg);
}

static const struct leg_ops record_ops = {
	.submit = record_submit,
	.refresh = leg_refresh_wrapper,
	.close = record_close,
	.abandon = record_abandon,
};

int leg_record_wrap(struct leg *below, struct leg **leg)
{
	struct record_leg *record = calloc(1, sizeof(*record));
	int error = record ? leg_init_wrapper(&record->leg, &record_ops, below) : -ENOMEM;

	*leg = NULL;
	if (error) {
		free(record);
		leg_close(below);
		return error;
	}
	LIST_INIT(&record->all);
	*leg = &record->leg;
	return 0;
}

size_t leg_record_count(struct leg *leg)
{
	struct record_leg *record = (struct record_leg *)leg;
	size_t count;

	mutex_lock(&leg->lock);
	count = record->count;
	mutex_unlock(&leg->lock);
	return count;
}

void leg_record_get(struct leg *leg, size_t n, struct leg_record_entry *entry)
{
	struct record_leg *record = (struct record_leg *)leg;

	mutex_lock(&leg->lock);
	*entry = record->entries[n]->entry;
	mutex_unlock(&leg->lock);
}
