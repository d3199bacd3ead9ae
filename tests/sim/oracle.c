/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "oracle.h"

#include "random.h"
#include "report.h"
#include "world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK 4096u

static const char *const names[ORACLE_NAMES] = {
	"a",
	"b",
	"c",
	"d",
	"e",
	"a name with spaces and \xc3\xbcmlauts",
	"0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"
	"0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"
	"0123456789012345678901234567890123456789012345678901234",
};

const char *oracle_name(int name)
{
	return names[name];
}

int oracle_name_of(const char *text)
{
	for (int i = 0; i < ORACLE_NAMES; i++)
		if (!strcmp(names[i], text))
			return i;
	return -1;
}

static void *must(void *memory)
{
	if (!memory)
		sim_fail("no memory for the oracle");
	return memory;
}

struct oracle_file *oracle_new_file(struct oracle *oracle, mode_t type)
{
	struct oracle_file *file = must(calloc(1, sizeof(*file)));

	file->type = type;
	file->directory = S_ISDIR(type);
	file->index = oracle->count;
	oracle->files = must(realloc(oracle->files, (oracle->count + 1) * sizeof(struct oracle_file *)));
	oracle->files[oracle->count++] = file;
	return file;
}

void oracle_init(struct oracle *oracle, uint64_t root_inode)
{
	memset(oracle, 0, sizeof(*oracle));
	oracle->root = oracle_new_file(oracle, S_IFDIR);
	oracle->root->inode = root_inode;
	oracle->root->links = 1;
	oracle->root->parent = oracle->root;
}

struct oracle_file *oracle_find(struct oracle *oracle, uint64_t inode)
{
	for (unsigned int i = 0; i < oracle->count; i++)
		if (oracle->files[i]->inode == inode)
			return oracle->files[i];
	return NULL;
}

/* ---- content ---- */

uint8_t oracle_pattern(const struct oracle_file *file, uint32_t id, uint64_t offset)
{
	uint64_t salt = file->changes[id - 1].salt;

	return (uint8_t)(sim_random_mix((uint64_t)file->index << 44 ^ salt << 20 ^ offset >> 9) + offset * 7);
}

static void make_room(struct oracle_file *file, uint64_t end)
{
	size_t room = end;

	if (room <= file->room)
		return;
	file->now = must(realloc(file->now, room * sizeof(*file->now)));
	file->durable = must(realloc(file->durable, room * sizeof(*file->durable)));
	file->durable_id = must(realloc(file->durable_id, room * sizeof(*file->durable_id)));
	for (size_t i = file->room; i < room; i++) {
		file->now[i] = file->durable[i] = ORACLE_EOF;
		file->durable_id[i] = 0;
	}
	file->room = room;
}

uint32_t oracle_change_begin(struct oracle_file *file, enum oracle_kind kind, uint64_t offset, uint64_t end,
			     bool extends)
{
	file->changes = must(realloc(file->changes, (file->count + 1) * sizeof(*file->changes)));
	file->changes[file->count] = (struct oracle_change){
		.kind = kind,
		.id = file->count + 1,
		.salt = ++file->salts,
		.offset = offset,
		.end = end,
		.extends = extends || kind == ORACLE_WRITE,
	};
	file->count++;
	make_room(file, end);
	return file->count;
}

void oracle_copy_begin(struct oracle_file *file, const struct oracle_file *from, uint64_t from_offset, uint64_t offset,
		       uint64_t end)
{
	uint8_t *bytes = must(malloc(end - offset));

	for (uint64_t i = 0; i < end - offset; i++)
		bytes[i] = (uint8_t)from->now[from_offset + i];
	oracle_change_begin(file, ORACLE_COPY, offset, end, true);
	file->changes[file->count - 1].bytes = bytes;
}

/* What a change that covers the byte makes of it. */
static uint8_t byte_of(const struct oracle_file *file, const struct oracle_change *change, uint64_t at)
{
	switch (change->kind) {
	case ORACLE_WRITE:
		return oracle_pattern(file, change->id, at);
	case ORACLE_COPY:
		return change->bytes[at - change->offset];
	default:
		return 0;
	}
}

void oracle_change_end(struct oracle_file *file, bool durable)
{
	const struct oracle_change *change = &file->changes[file->count - 1];

	file->returned = file->count;
	if (change->kind == ORACLE_TRUNCATE) {
		for (uint64_t i = change->end; i < file->size; i++)
			file->now[i] = ORACLE_EOF;
		for (uint64_t i = file->size; i < change->end; i++)
			file->now[i] = 0;
		file->size = change->end;
		return;
	}
	if (change->extends && change->end > file->size) {
		for (uint64_t i = file->size; i < change->end; i++)
			file->now[i] = 0;
		file->size = change->end;
	}
	for (uint64_t i = change->offset; i < change->end && i < file->size; i++) {
		file->now[i] = byte_of(file, change, i);
		if (durable) {
			file->durable[i] = file->now[i];
			file->durable_id[i] = change->id;
		}
	}
}

/* True if byte `at` may be `value`: it was `base`, and changes above `id` may have been made or not. */
static bool allowed(const struct oracle_file *file, uint64_t at, int value, int base, uint32_t id)
{
	bool may_be_eof = base == ORACLE_EOF;

	if (value == base)
		return true;
	for (uint32_t i = id; i < file->count; i++) {
		const struct oracle_change *change = &file->changes[i];
		bool covers = change->kind != ORACLE_TRUNCATE && at >= change->offset && at < change->end;

		if (change->kind == ORACLE_TRUNCATE && change->end <= at) {
			may_be_eof = true;
			if (value == ORACLE_EOF)
				return true;
		}
		if (covers && value == byte_of(file, change, at))
			return true;
		/* A longer file reads as zeros where it had ended. */
		if (may_be_eof && value == 0 && change->end > at &&
		    (change->kind == ORACLE_TRUNCATE || change->extends))
			return true;
	}
	return false;
}

static void tell_changes(const struct oracle_file *file, uint64_t at)
{
	static const char *const kinds[] = { "write", "zero", "truncate", "copy" };

	for (uint32_t i = 0; i < file->count; i++) {
		const struct oracle_change *change = &file->changes[i];

		if (change->kind == ORACLE_TRUNCATE || (at >= change->offset && at < change->end))
			note("  change %u: %s %lu .. %lu, byte %d", change->id, kinds[change->kind],
			     (unsigned long)change->offset, (unsigned long)change->end,
			     change->kind == ORACLE_TRUNCATE ? 0 : byte_of(file, change, at));
	}
}

void oracle_change_failed(struct oracle_file *file, const unsigned char *data, uint64_t size)
{
	make_room(file, size);
	file->changes[file->count - 1].failed = true;
	for (uint64_t i = 0; i < file->room; i++) {
		int value = i < size ? data[i] : ORACLE_EOF;

		if (!allowed(file, i, value, file->now[i], file->returned)) {
			tell_changes(file, i);
			sim_fail("inode %lu, byte %lu: is %d after a change that failed, was %d",
				 (unsigned long)file->inode, (unsigned long)i, value, file->now[i]);
		}
		file->now[i] = (int16_t)value;
	}
	file->size = size;
	file->returned = file->count;
}

void oracle_snapshot(struct oracle_file *file, uint64_t offset, size_t length, struct oracle_snapshot *snapshot)
{
	*snapshot = (struct oracle_snapshot){ .file = file, .offset = offset, .length = length, .id = file->returned };
	for (int i = 0; i < ORACLE_ATTRS; i++)
		snapshot->attrs[i] = file->attrs[i].now;
	snapshot->bytes = must(malloc((length + 1) * sizeof(*snapshot->bytes)));
	for (size_t i = 0; i < length; i++)
		snapshot->bytes[i] = offset + i < file->room ? file->now[offset + i] : ORACLE_EOF;
}

void oracle_snapshot_free(struct oracle_snapshot *snapshot)
{
	free(snapshot->bytes);
}

void oracle_check_read(const struct oracle_snapshot *snapshot, const unsigned char *data, size_t got)
{
	for (size_t i = 0; i < snapshot->length; i++) {
		int value = i < got ? data[i] : ORACLE_EOF;

		if (allowed(snapshot->file, snapshot->offset + i, value, snapshot->bytes[i], snapshot->id))
			continue;
		tell_changes(snapshot->file, snapshot->offset + i);
		sim_fail("inode %lu, byte %lu: read %d, was %d after change %u of %u",
			 (unsigned long)snapshot->file->inode, (unsigned long)(snapshot->offset + i), value,
			 snapshot->bytes[i], snapshot->id, snapshot->file->count);
	}
}

static void make_durable(struct oracle_file *file, const int16_t *bytes, size_t length, uint32_t id)
{
	for (size_t i = 0; i < file->room; i++) {
		if (file->durable_id[i] > id)
			continue;
		file->durable[i] = i < length ? bytes[i] : ORACLE_EOF;
		file->durable_id[i] = id;
	}
}

void oracle_synced(const struct oracle_snapshot *snapshot, bool attrs)
{
	for (int i = 0; attrs && i < ORACLE_ATTRS; i++)
		oracle_attr_synced(&snapshot->file->attrs[i], snapshot->attrs[i]);
	make_durable(snapshot->file, snapshot->bytes, snapshot->length, snapshot->id);
}

/* What was found is the new state. Written only where it differs: after a fork, a page that is written is copied. */
static void settle_content(struct oracle_file *file, const unsigned char *data, uint64_t size)
{
	for (uint64_t i = 0; i < file->room; i++) {
		int16_t value = i < size ? data[i] : ORACLE_EOF;

		if (file->now[i] != value)
			file->now[i] = value;
		if (file->durable[i] != value)
			file->durable[i] = value;
		if (file->durable_id[i])
			file->durable_id[i] = 0;
	}
	file->size = size;
}

static int byte_after(const struct oracle_file *file, const struct oracle_change *change, uint64_t at, int value)
{
	return at >= change->offset && at < change->end ? oracle_pattern(file, change->id, at) : value;
}

/* True if nothing but whole writes was done to the block. */
static bool only_written(const struct oracle_file *file, uint64_t start)
{
	for (uint32_t i = 0; i < file->count; i++) {
		const struct oracle_change *change = &file->changes[i];

		if ((change->kind != ORACLE_WRITE || change->failed) &&
		    (change->kind == ORACLE_TRUNCATE || change->offset < start + BLOCK) && change->end > start)
			return false;
		if (change->kind == ORACLE_TRUNCATE && change->end <= start + BLOCK)
			return false;
	}
	return true;
}

/* Each byte is allowed; but are they of one moment? What has ended reads as zeros here. */
static void check_block(const struct oracle_file *file, uint64_t start, const unsigned char *data, uint64_t size)
{
	int block[BLOCK];
	uint32_t at_least = 0;
	uint64_t length = file->room - start < BLOCK ? file->room - start : BLOCK;

	if (!only_written(file, start))
		return;
	for (uint64_t i = 0; i < length; i++) {
		block[i] = file->durable[start + i];
		if (file->durable_id[start + i] > at_least)
			at_least = file->durable_id[start + i];
	}
	for (uint32_t id = 0; id <= file->count; id++) {
		uint64_t equal = 0;

		for (uint64_t i = 0; id && i < length; i++)
			if (file->durable_id[start + i] < id)
				block[i] = byte_after(file, &file->changes[id - 1], start + i, block[i]);
		if (id < at_least)
			continue;
		while (equal < length &&
		       (block[equal] < 0 ? 0 : block[equal]) == (start + equal < size ? data[start + equal] : 0))
			equal++;
		if (equal == length)
			return;
	}
	sim_fail("inode %lu, bytes %lu .. %lu are of no one moment", (unsigned long)file->inode, (unsigned long)start,
		 (unsigned long)(start + length));
}

void oracle_check_content(struct oracle_file *file, const unsigned char *data, uint64_t size, bool crashed)
{
	make_room(file, size);
	for (uint64_t i = 0; i < file->room; i++) {
		int value = i < size ? data[i] : ORACLE_EOF;

		if (value == (crashed ? file->durable[i] : file->now[i]) ||
		    (crashed && allowed(file, i, value, file->durable[i], file->durable_id[i])))
			continue;
		tell_changes(file, i);
		sim_fail("inode %lu, byte %lu of %lu: is %d, was %d, durably %d since change %u of %u",
			 (unsigned long)file->inode, (unsigned long)i, (unsigned long)size, value, file->now[i],
			 file->durable[i], file->durable_id[i], file->count);
	}
	for (uint64_t start = 0; crashed && start < file->room; start += BLOCK)
		check_block(file, start, data, size);
	settle_content(file, data, size);
}

/* ---- names ---- */

struct oracle_naming *oracle_naming_begin(struct oracle *oracle)
{
	struct oracle_naming *naming = must(calloc(1, sizeof(*naming)));

	oracle->namings = must(realloc(oracle->namings, (oracle->naming_count + 1) * sizeof(struct oracle_naming *)));
	oracle->namings[oracle->naming_count++] = naming;
	naming->start = ++oracle->clock;
	return naming;
}

void oracle_naming_move(struct oracle_naming *naming, struct oracle_file *dir, int name, struct oracle_file *to)
{
	naming->moves[naming->count++] = (struct oracle_move){ dir, name, dir->entries[name].file, to };
	dir->entries[name].version++;
}

void oracle_naming_end(struct oracle *oracle, struct oracle_naming *naming, bool done)
{
	naming->end = ++oracle->clock;
	naming->done = done;
	for (int i = 0; i < naming->count; i++) {
		struct oracle_move *move = &naming->moves[i];

		move->dir->entries[move->name].version++;
		if (!done)
			continue;
		if (move->from)
			move->from->links--;
		if (move->to) {
			move->to->links++;
			if (move->to->directory)
				move->to->parent = move->dir;
		}
		move->dir->entries[move->name].file = move->to;
	}
}

/* A rename of one name of a file onto another is none: nothing is written that a sync could make durable. */
static bool changed(const struct oracle_naming *naming)
{
	for (int m = 0; m < naming->count; m++)
		if (naming->moves[m].from != naming->moves[m].to)
			return true;
	return false;
}

void oracle_names_synced(struct oracle *oracle, const struct oracle_file *file, uint64_t start)
{
	for (size_t i = 0; i < oracle->naming_count; i++) {
		struct oracle_naming *naming = oracle->namings[i];

		if (!naming->end || naming->end > start || !naming->done || !changed(naming))
			continue;
		for (int m = 0; m < naming->count; m++) {
			const struct oracle_move *move = &naming->moves[m];

			if (!file || move->dir == file || move->from == file || move->to == file)
				naming->required = true;
		}
	}
}

static bool found_as(const struct oracle_found *found, const struct oracle_file *dir, int name,
		     const struct oracle_file *file)
{
	uint64_t inode = dir->index < found->count ? found->names[dir->index][name] : 0;

	if (!file)
		return inode == 0;
	/* A creation that has not returned: whatever number is there. */
	return file->inode ? inode == file->inode : inode != 0;
}

/* In a directory that is not there itself nothing can be seen. */
static void mark_visible(struct oracle *oracle, const struct oracle_found *found)
{
	for (unsigned int i = 0; i < oracle->count; i++) {
		struct oracle_file *dir = oracle->files[i];

		dir->visible = dir == oracle->root;
		for (unsigned int d = 0; dir->directory && dir->inode && d < found->count; d++)
			for (int n = 0; n < ORACLE_NAMES; n++)
				dir->visible |= found->names[d][n] == dir->inode;
	}
}

static bool moves_match(const struct oracle_found *found, const struct oracle_naming *naming, bool in)
{
	for (int m = 0; m < naming->count; m++) {
		const struct oracle_move *move = &naming->moves[m];

		if (move->dir->visible && !found_as(found, move->dir, move->name, in ? move->to : move->from))
			return false;
	}
	return true;
}

/*
 * True if the names found are those of moment `tick`: sets entries[].file to what it holds of them. `why` tells what
 * does not fit.
 */
static bool explains(struct oracle *oracle, const struct oracle_found *found, uint64_t tick, char why[200])
{
	for (unsigned int d = 0; d < oracle->count; d++)
		for (int n = 0; oracle->files[d]->directory && n < ORACLE_NAMES; n++)
			oracle->files[d]->entries[n].file = oracle->files[d]->entries[n].base;
	/* In the order of their starts; those on one name do not overlap. */
	for (size_t i = 0; i < oracle->naming_count; i++) {
		struct oracle_naming *naming = oracle->namings[i];
		bool ended = naming->end && naming->end <= tick, in;

		if (naming->end && !naming->done)
			continue;
		in = ended || (naming->start < tick && moves_match(found, naming, true));
		naming->found = in;
		if (naming->required && !in) {
			snprintf(why, 200, "a change of ticks %lu .. %lu was synced", (unsigned long)naming->start,
				 (unsigned long)naming->end);
			return false;
		}
		for (int m = 0; in && m < naming->count; m++)
			naming->moves[m].dir->entries[naming->moves[m].name].file = naming->moves[m].to;
	}
	for (unsigned int d = 0; d < oracle->count; d++) {
		struct oracle_file *dir = oracle->files[d];

		if (!dir->directory || !dir->visible)
			continue;
		for (int n = 0; n < ORACLE_NAMES; n++) {
			if (found_as(found, dir, n, dir->entries[n].file))
				continue;
			snprintf(why, 200, "name %d of directory %lu is inode %lu, not %lu", n,
				 (unsigned long)dir->inode, (unsigned long)(d < found->count ? found->names[d][n] : 0),
				 (unsigned long)(dir->entries[n].file ? dir->entries[n].file->inode : 0));
			return false;
		}
	}
	return true;
}

static void tell_namings(struct oracle *oracle)
{
	for (size_t i = oracle->naming_count > 40 ? oracle->naming_count - 40 : 0; i < oracle->naming_count; i++) {
		struct oracle_naming *naming = oracle->namings[i];

		for (int m = 0; m < naming->count; m++) {
			struct oracle_move *move = &naming->moves[m];

			note("  ticks %lu .. %lu%s%s: %lu/%d from %ld to %ld", (unsigned long)naming->start,
			     (unsigned long)naming->end, naming->end && !naming->done ? " refused" : "",
			     naming->required ? " required" : "", (unsigned long)move->dir->inode, move->name,
			     move->from ? (long)move->from->inode : -1, move->to ? (long)move->to->inode : -1);
		}
	}
}

/* A file that replaced another one came with its content, also where the rename had not returned. */
static void bring_content(struct oracle *oracle)
{
	for (size_t i = 0; i < oracle->naming_count; i++) {
		struct oracle_naming *naming = oracle->namings[i];

		if (naming->brought && naming->found)
			make_durable(naming->brought, naming->brought_bytes, naming->brought_room, naming->brought_id);
	}
}

static void bind_new_files(struct oracle *oracle, const struct oracle_found *found)
{
	for (unsigned int d = 0; d < oracle->count && d < found->count; d++) {
		struct oracle_file *dir = oracle->files[d];

		for (int n = 0; dir->directory && n < ORACLE_NAMES; n++)
			if (found->names[d][n] && dir->entries[n].file && !dir->entries[n].file->inode)
				dir->entries[n].file->inode = found->names[d][n];
	}
}

void oracle_check_names(struct oracle *oracle, const struct oracle_found *found, bool crashed)
{
	char why[200] = "", last[200] = "";
	const uint64_t end = oracle->clock + 1; /* behind the start of what has not returned */
	uint64_t tick = crashed ? 0 : end;

	mark_visible(oracle, found);
	while (tick <= end && !explains(oracle, found, tick, why)) {
		memcpy(last, why, sizeof(last));
		tick++;
	}
	if (tick > end) {
		tell_namings(oracle);
		sim_fail("no moment explains the names: at the last one, %s", last);
	}
	note("names are those of tick %lu of %lu", (unsigned long)tick, (unsigned long)oracle->clock);
	bring_content(oracle);
	bind_new_files(oracle, found);
}

void oracle_settle(struct oracle *oracle)
{
	for (unsigned int i = 0; i < oracle->count; i++) {
		struct oracle_file *file = oracle->files[i];

		file->links = file == oracle->root;
		file->linkable = false;
		file->changing = file->linking = file->exclusive = false;
		file->users = 0;
		file->lookups = 0;
		for (uint32_t n = 0; n < file->count; n++)
			free(file->changes[n].bytes);
		file->count = file->returned = 0;
	}
	oracle->root->lookups = 1;
	for (unsigned int d = 0; d < oracle->count; d++) {
		struct oracle_file *dir = oracle->files[d];

		for (int n = 0; dir->directory && n < ORACLE_NAMES; n++) {
			struct oracle_entry *entry = &dir->entries[n];

			entry->reserved = false;
			entry->base = entry->file;
			if (!entry->file)
				continue;
			entry->file->links++;
			if (entry->file->directory)
				entry->file->parent = dir;
		}
	}
	for (size_t i = 0; i < oracle->naming_count; i++) {
		free(oracle->namings[i]->brought_bytes);
		free(oracle->namings[i]);
	}
	oracle->naming_count = 0;
	oracle->clock = 0;
}
