/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the actors of the fs level do. An operation reserves what it changes in the oracle, foretells the result, and
 * leaves where another one is in the way: so each result is certain although many run at once.
 */
#include "op_attr.h"
#include "op_fs.h"

#include "legs.h"
#include "report.h"
#include "tally.h"
#include "world.h"

#include "mirrorfs/format/node.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/xattr.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DIRECTORIES_MAX 5

static uint64_t below(struct fs_actor *actor, uint64_t n)
{
	return sim_random_below(&actor->random, n);
}

static bool chance(struct fs_actor *actor, uint64_t n)
{
	return sim_random_chance(&actor->random, n);
}

/* ---- reservations ---- */

/* A directory (S_IFDIR), a file that has content (S_IFREG), or anything but a directory (0). */
static struct oracle_file *some_file(struct fs_actor *actor, mode_t type)
{
	struct oracle *oracle = &actor->level->oracle;
	struct oracle_file *found[64];
	unsigned int count = 0;

	for (unsigned int i = 0; i < oracle->count; i++) {
		struct oracle_file *file = oracle->files[i];

		if (!file->inode || (type ? file->type != type : file->directory) ||
		    !(file == oracle->root || file->lookups) || (file->directory && !file->links) || file->exclusive)
			continue;
		found[count++ % 64] = file;
	}
	if (!count)
		return NULL;
	return found[below(actor, count < 64 ? count : 64)];
}

static struct oracle_file *anything(struct fs_actor *actor)
{
	return some_file(actor, chance(actor, 4) ? S_IFDIR : 0);
}

static bool reserve_name(struct fs_actor *actor, struct place *place)
{
	struct oracle_file *dir = some_file(actor, S_IFDIR);

	return dir && op_reserve(place, dir, (int)below(actor, ORACLE_NAMES));
}

/* ---- names ---- */

static void create(struct fs_actor *actor)
{
	static const mode_t others[] = { S_IFLNK, S_IFLNK, S_IFCHR, S_IFBLK, S_IFIFO, S_IFSOCK };
	mode_t type = chance(actor, 6) ? others[below(actor, 6)] : S_IFREG;
	struct oracle *oracle = &actor->level->oracle;
	unsigned int directories = 0;
	struct place at;

	if (!reserve_name(actor, &at))
		return;
	for (unsigned int i = 0; i < oracle->count; i++)
		directories += oracle->files[i]->directory && oracle->files[i]->links;
	if (directories < DIRECTORIES_MAX && chance(actor, 4))
		type = S_IFDIR;
	op_create(actor->level, &at, type);
	op_release(&at);
}

/* Others may write to it, and give it a name. */
static void create_nameless(struct fs_actor *actor)
{
	struct oracle_file *dir = some_file(actor, S_IFDIR);

	if (!dir || !op_enter(dir))
		return;
	op_tmpfile(actor->level, dir);
	op_leave(dir);
}

static void remove_name(struct fs_actor *actor)
{
	struct oracle_file *file;
	struct place at;

	if (!reserve_name(actor, &at))
		return;
	file = at.entry->file;
	if (op_link_begin(file, true)) {
		bool as_expected = !chance(actor, 8);

		op_remove(actor->level, &at, (file && file->directory) == as_expected);
		op_link_end(file);
	}
	op_release(&at);
}

static void add_link(struct fs_actor *actor)
{
	struct oracle_file *file = some_file(actor, 0);
	struct place at;

	if (!file || !op_enter(file))
		return;
	if ((file->links || file->linkable) && reserve_name(actor, &at)) {
		if (op_link_begin(file, false)) {
			op_link(actor->level, file, &at);
			op_link_end(file);
		}
		op_release(&at);
	}
	op_leave(file);
}

static void rename_some(struct fs_actor *actor)
{
	static const unsigned int all_flags[] = {
		0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT, RENAME_NOREPLACE | RENAME_WHITEOUT };
	unsigned int flags = all_flags[below(actor, 7)];
	struct fs_level *level = actor->level;
	struct oracle_file *a, *b;
	struct place from, to;
	bool directories;

	if (!reserve_name(actor, &from))
		return;
	if (!reserve_name(actor, &to)) {
		op_release(&from);
		return;
	}
	a = from.entry->file;
	b = to.entry->file;
	directories = (a && a->directory) || (b && b->directory);
	/* A directory that is also one of the two parents stays: its reservation counts as a user. */
	if (!(directories && level->renaming_directory) && op_link_begin(a, false)) {
		bool replaced = flags != RENAME_EXCHANGE && b != from.dir && b != to.dir;

		if (b == a || op_link_begin(b, replaced)) {
			level->renaming_directory |= directories;
			op_rename(level, &from, &to, flags);
			if (directories)
				level->renaming_directory = false;
			if (b != a)
				op_link_end(b);
		}
		op_link_end(a);
	}
	op_release(&to);
	op_release(&from);
}

static void look_up(struct fs_actor *actor)
{
	struct fs_level *level = actor->level;
	struct fs_attr attr;
	struct place at;
	int error;

	if (!reserve_name(actor, &at))
		return;
	error = fs_lookup(level->machine->fs, at.dir->inode, oracle_name(at.name), &attr);
	if (error && error != -ENOENT)
		fs_level_bad(level, "lookup", at.dir->inode, error);
	else if (!error != !!at.entry->file || (!error && attr.st.st_ino != at.entry->file->inode))
		sim_fail("lookup %lu/%d: %s, inode %lu", (unsigned long)at.dir->inode, at.name, strerror(-error),
			 error ? 0ul : (unsigned long)attr.st.st_ino);
	if (!error)
		at.entry->file->lookups++;
	op_release(&at);
}

struct seen {
	struct oracle_entry before[ORACLE_NAMES];
	uint64_t inode[ORACLE_NAMES];
	unsigned int pause_odds;
	struct fs_actor *actor;
	uint64_t next;
	bool ended;
};

static bool see(void *context, const struct fs_entry *entry)
{
	struct seen *seen = context;
	int name = oracle_name_of(entry->name);

	/* A listing in many calls, as the kernel makes them. */
	if (chance(seen->actor, seen->pause_odds)) {
		seen->ended = false;
		return false;
	}
	seen->next = entry->next;
	if (name >= 0) {
		if (seen->inode[name])
			sim_fail("a listing gives name %d twice", name);
		seen->inode[name] = entry->inode;
	}
	return true;
}

/* Names that nobody touched meanwhile are listed exactly once, whatever happens to the others. */
static void list(struct fs_actor *actor)
{
	struct oracle_file *dir = some_file(actor, S_IFDIR);
	struct seen seen = { .pause_odds = chance(actor, 2) ? 3 : 100, .actor = actor };
	int error = 0;

	if (!dir || !op_enter(dir))
		return;
	memcpy(seen.before, dir->entries, sizeof(seen.before));
	while (!error && !seen.ended) {
		seen.ended = true;
		error = fs_readdir(actor->level->machine->fs, dir->inode, seen.next, false, see, &seen);
	}
	if (error)
		fs_level_bad(actor->level, "readdir", dir->inode, error);
	for (int n = 0; !error && n < ORACLE_NAMES; n++) {
		const struct oracle_entry *before = &seen.before[n];

		if (before->reserved || dir->entries[n].version != before->version)
			continue;
		if (seen.inode[n] != (before->file ? before->file->inode : 0))
			sim_fail("a listing of %lu gives name %d as inode %lu, not %lu", (unsigned long)dir->inode, n,
				 (unsigned long)seen.inode[n],
				 (unsigned long)(before->file ? before->file->inode : 0));
	}
	op_leave(dir);
}

/* Forgets a file altogether, and looks it up again if it has the name. */
static void forget_some(struct fs_actor *actor)
{
	struct oracle_file *file = some_file(actor, 0);
	struct fs_level *level = actor->level;
	struct fs_attr attr;
	struct place at;

	/* What cannot be written is forgotten with its inode. */
	if (level->machine->full)
		return;
	if (file && !file->links && !file->users && !file->linking && !file->changing && !file->exclusive) {
		note("forget nameless inode %lu", (unsigned long)file->inode);
		op_forget(actor->level, file);
		return;
	}
	if (!reserve_name(actor, &at))
		return;
	file = at.entry->file;
	if (file && !file->directory && !file->users && !file->changing && op_link_begin(file, false)) {
		int error;

		file->exclusive = true;
		note("forget inode %lu", (unsigned long)file->inode);
		op_forget(actor->level, file);
		error = fs_lookup(level->machine->fs, at.dir->inode, oracle_name(at.name), &attr);
		if (error)
			fs_level_bad(level, "lookup of what was forgotten", file->inode, error);
		else if (attr.st.st_ino != file->inode || (uint64_t)attr.st.st_size != file->size)
			sim_fail("inode %lu of %lu bytes was forgotten, found are inode %lu and %lu bytes",
				 (unsigned long)file->inode, (unsigned long)file->size, (unsigned long)attr.st.st_ino,
				 (unsigned long)attr.st.st_size);
		file->lookups += !error;
		op_link_end(file);
	}
	op_release(&at);
}

/* ---- content ---- */

static struct oracle_file *file_to_change(struct fs_actor *actor)
{
	struct oracle_file *file = some_file(actor, S_IFREG);

	return file && op_change_begin(file) ? file : NULL;
}

/* Most files are small, so that changes meet; some are longer than a record of the journal. */
static uint64_t length_max(const struct oracle_file *file)
{
	return file->index % 8 ? 24u << 10 : ORACLE_FILE_MAX;
}

/* Small ones and unaligned ones, whole blocks, and more than a record of the journal holds. */
static void some_range(struct fs_actor *actor, const struct oracle_file *file, uint64_t *offset, uint64_t *end)
{
	static const uint64_t lengths[] = { 16, 600, 5000, 70000, 300000 };
	uint64_t most = length_max(file), length = 1 + below(actor, lengths[below(actor, 5)]);

	switch (below(actor, 4)) {
	case 0:
		*offset = file->size;
		break;
	case 1:
		*offset = below(actor, most);
		break;
	default:
		*offset = below(actor, file->size + 1);
	}
	if (chance(actor, 2)) {
		*offset &= ~UINT64_C(4095);
		length = (length + 4095) & ~UINT64_C(4095);
	}
	if (*offset >= most)
		*offset = most - 1;
	*end = *offset + length < most ? *offset + length : most;
}

static void write_some(struct fs_actor *actor)
{
	static const unsigned int all_flags[] = {
		0, 0, 0, FS_WRITE_THROUGH, FS_WRITE_SYNC, FS_WRITE_THROUGH | FS_WRITE_SYNC};
	struct oracle_file *file = file_to_change(actor);
	uint64_t offset, end;

	if (!file)
		return;
	some_range(actor, file, &offset, &end);
	op_write(actor->level, file, offset, end, all_flags[below(actor, 6)]);
}

static void truncate_some(struct fs_actor *actor)
{
	struct oracle_file *file = file_to_change(actor);

	if (!file)
		return;
	op_truncate(actor->level, file,
		    chance(actor, 4) ? 0 : below(actor, chance(actor, 2) ? file->size + 1 : length_max(file)));
}

static void fallocate_some(struct fs_actor *actor)
{
	static const int modes[] = { FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE,
				     FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 0, FALLOC_FL_KEEP_SIZE };
	struct oracle_file *file = file_to_change(actor);
	int mode = modes[below(actor, 5)];
	uint64_t offset, end;

	if (!file)
		return;
	some_range(actor, file, &offset, &end);
	op_fallocate(actor->level, file, mode, offset, end);
}

/* Of a file or within one, mostly so that blocks can be shared; to its end, often. */
static void copy_some(struct fs_actor *actor)
{
	struct oracle_file *file = file_to_change(actor), *from;
	uint64_t from_offset, end, offset;

	if (!file)
		return;
	from = chance(actor, 4) ? file : file_to_change(actor);
	if (from && from->size) {
		some_range(actor, from, &from_offset, &end);
		if (chance(actor, 3))
			from_offset = 0;
		if (from_offset >= from->size)
			from_offset = from->size - 1;
		if (end > from->size || end <= from_offset || chance(actor, 3))
			end = from->size;
		offset = chance(actor, 3) ? from_offset : below(actor, length_max(file));
		if (!chance(actor, 4))
			offset = (offset & ~UINT64_C(4095)) + from_offset % 4096;
		if (offset < length_max(file)) {
			if (end - from_offset > length_max(file) - offset)
				end = from_offset + length_max(file) - offset;
			op_copy(actor->level, from, from_offset, file, offset, end - from_offset);
			return;
		}
	}
	if (from && from != file) {
		from->changing = false;
		op_leave(from);
	}
	file->changing = false;
	op_leave(file);
}

/* A read that is under way by itself. */
struct flight {
	struct mutex lock;
	struct cond ended;
	bool over;
	ssize_t result;
};

static void flight_ended(void *context, ssize_t result)
{
	struct flight *flight = context;

	mutex_lock(&flight->lock);
	flight->over = true;
	flight->result = result;
	cond_signal(&flight->ended);
	mutex_unlock(&flight->lock);
}

/* By itself where that can be, and with a wait where not. */
static ssize_t read_past(struct fs *fs, uint64_t inode, unsigned char *data, size_t length, uint64_t offset)
{
	struct flight flight = { .over = false };
	int error;

	mutex_init(&flight.lock, RANK_LEAF);
	cond_init(&flight.ended);
	error = fs_read_begin(fs, inode, data, length, offset, FS_READ_PAST, flight_ended, &flight);
	if (!error) {
		mutex_lock(&flight.lock);
		while (!flight.over)
			cond_wait(&flight.ended, &flight.lock);
		mutex_unlock(&flight.lock);
		tally(TALLY_READ_BEGUN);
	}
	cond_fini(&flight.ended);
	mutex_fini(&flight.lock);
	return error ? fs_read_as(fs, inode, data, length, offset, FS_READ_PAST) : flight.result;
}

static void read_some(struct fs_actor *actor)
{
	struct fs *fs = actor->level->machine->fs;
	struct oracle_file *file = some_file(actor, S_IFREG);
	struct oracle_snapshot snapshot;
	uint64_t offset, end;
	unsigned char *data;
	ssize_t got;
	bool past;

	if (!file || !op_enter(file))
		return;
	some_range(actor, file, &offset, &end);
	past = offset / 4096 % 2;
	if (past && chance(actor, 2)) { /* whole blocks */
		offset -= offset % 4096;
		end = offset + (end - offset + 4095) / 4096 * 4096;
	}
	oracle_snapshot(file, offset, end - offset, &snapshot);
	data = malloc(end - offset);
	got = past ? read_past(fs, file->inode, data, end - offset, offset) :
		     fs_read_as(fs, file->inode, data, end - offset, offset, 0);
	if (got < 0)
		sim_fail("fs_read of inode %lu, %lu bytes at %lu: %s", (unsigned long)file->inode,
			 (unsigned long)(end - offset), (unsigned long)offset, strerror((int)-got));
	oracle_check_read(&snapshot, data, (size_t)got);
	free(data);
	oracle_snapshot_free(&snapshot);
	op_leave(file);
}

/* What is told to be a hole reads as zeros. */
static void seek_some(struct fs_actor *actor)
{
	struct oracle_file *file = file_to_change(actor);
	bool hole = chance(actor, 2);
	uint64_t from, to;
	int error;

	if (!file)
		return;
	from = to = below(actor, file->size + 10);
	error = fs_lseek(actor->level->machine->fs, file->inode, hole, &to);
	if (error && error != -ENXIO)
		fs_level_bad(actor->level, "lseek", file->inode, error);
	else if (error && hole && from < file->size)
		sim_fail("inode %lu has no hole behind %lu, not even its end", (unsigned long)file->inode,
			 (unsigned long)from);
	else if (!error && (from >= file->size || to < from || to > file->size))
		sim_fail("lseek in inode %lu of %lu bytes from %lu gives %lu", (unsigned long)file->inode,
			 (unsigned long)file->size, (unsigned long)from, (unsigned long)to);
	for (uint64_t i = from; !hole && (!error || error == -ENXIO) && i < (error ? file->size : to); i++)
		if (file->now[i] > 0)
			sim_fail("inode %lu has data at %lu, lseek from %lu gives %lu", (unsigned long)file->inode,
				 (unsigned long)i, (unsigned long)from, (unsigned long)to);
	if (!error && hole && to < file->size && file->now[to] > 0)
		sim_fail("inode %lu has data at %lu where lseek gives a hole", (unsigned long)file->inode,
			 (unsigned long)to);
	file->changing = false;
	op_leave(file);
}

static void sync_file(struct fs_actor *actor)
{
	struct oracle_file *file = some_file(actor, chance(actor, 4) ? S_IFDIR : S_IFREG);

	if (!file || !op_enter(file))
		return;
	op_fsync(actor->level, file, chance(actor, 2));
	op_leave(file);
}

static void sync_everything(struct fs_actor *actor)
{
	op_sync(actor->level, chance(actor, 2));
}

static void look_at(struct fs_actor *actor)
{
	struct oracle_file *file = anything(actor);
	struct fs_attr attr;
	int error;

	if (!file || file->linking || file->changing || !op_enter(file))
		return;
	file->linking = file->changing = true;
	error = fs_getattr(actor->level->machine->fs, file->inode, &attr);
	if (error)
		fs_level_bad(actor->level, "getattr", file->inode, error);
	else if (!file->directory &&
		 (attr.st.st_nlink != (nlink_t)file->links || (uint64_t)attr.st.st_size != file->size))
		sim_fail("inode %lu has %lu links and %lu bytes, not %d and %lu", (unsigned long)file->inode,
			 (unsigned long)attr.st.st_nlink, (unsigned long)attr.st.st_size, file->links,
			 (unsigned long)file->size);
	if (!error)
		op_attr_check(actor->level, file, false, false);
	file->linking = file->changing = false;
	op_leave(file);
}

/* ---- attributes ---- */

static void change_mode(struct fs_actor *actor)
{
	struct oracle_file *file = anything(actor);
	uint32_t mode = (uint32_t)below(actor, 01000);

	if (!file || file->linking || S_ISLNK(file->type) || !op_enter(file))
		return;
	file->linking = true;
	if (chance(actor, 3))
		op_attr_set_list(actor->level, file, ORACLE_ACCESS, mode, (unsigned int)below(actor, 64));
	else if (chance(actor, 4))
		op_attr_drop_list(actor->level, file, ORACLE_ACCESS);
	else
		op_attr_chmod(actor->level, file, mode);
	file->linking = false;
	op_leave(file);
}

static void change_defaults(struct fs_actor *actor)
{
	struct oracle_file *dir = some_file(actor, S_IFDIR);

	if (!dir || !op_link_begin(dir, true))
		return;
	if (chance(actor, 3))
		op_attr_drop_list(actor->level, dir, ORACLE_DEFAULTS);
	else
		op_attr_set_list(actor->level, dir, ORACLE_DEFAULTS, (uint32_t)below(actor, 01000),
				 (unsigned int)below(actor, 64));
	op_link_end(dir);
}

/* What forbids anything does not stay for long. */
static struct oracle_file *file_to_flag(struct fs_actor *actor, uint32_t *flags)
{
	static const uint32_t all[] = { 0, FS_NODUMP_FL, FS_NOATIME_FL, FS_NODUMP_FL | FS_NOATIME_FL, FS_APPEND_FL,
					FS_IMMUTABLE_FL, FS_IMMUTABLE_FL | FS_APPEND_FL | FS_NODUMP_FL };
	const struct oracle *oracle = &actor->level->oracle;

	*flags = all[below(actor, 7)];
	for (unsigned int i = 0; i < oracle->count; i++) {
		struct oracle_file *file = oracle->files[i];

		if (file->inode && file->lookups && op_attr_forbids(file, OP_FIXED)) {
			*flags &= FS_NODUMP_FL | FS_NOATIME_FL;
			return file;
		}
	}
	return some_file(actor, chance(actor, 4) ? S_IFDIR : S_IFREG);
}

static void change_flags(struct fs_actor *actor)
{
	uint32_t flags;
	struct oracle_file *file = file_to_flag(actor, &flags);

	if (!file || file->changing || !op_link_begin(file, true))
		return;
	file->changing = true;
	op_attr_set_flags(actor->level, file, flags);
	file->changing = false;
	op_link_end(file);
}

/* As short as they are mostly, and as long as one, two and all items hold. */
static size_t some_length(struct fs_actor *actor)
{
	static const size_t edges[] = { 0, 1, XATTR_PART, 2 * XATTR_PART, XATTR_VALUE_MAX };
	size_t length;

	if (!chance(actor, 3))
		return below(actor, 200);
	length = edges[below(actor, 5)] + below(actor, 3);
	if (chance(actor, 3))
		length = below(actor, XATTR_VALUE_MAX);
	return length < 1 ? 0 : length - 1 < XATTR_VALUE_MAX ? length - 1 : XATTR_VALUE_MAX;
}

static void change_xattr(struct fs_actor *actor)
{
	int kind = ORACLE_XATTR + (int)below(actor, ORACLE_ATTRS - ORACLE_XATTR);
	struct oracle_file *file = anything(actor);
	uint64_t salt = below(actor, UINT64_C(1) << 32);
	size_t length = some_length(actor);
	unsigned char *bytes;

	if (!file || file->linking || !op_enter(file))
		return;
	file->linking = true;
	if (chance(actor, 4)) {
		op_attr_remove(actor->level, file, kind);
	} else {
		bytes = malloc(length + 1);
		for (size_t i = 0; i < length; i++)
			bytes[i] = (unsigned char)(sim_random_mix(salt + i / 8) >> i % 8 * 8);
		op_attr_set(actor->level, file, kind, bytes, length,
			    chance(actor, 3) ? chance(actor, 2) ? XATTR_CREATE : XATTR_REPLACE : 0);
		free(bytes);
	}
	file->linking = false;
	op_leave(file);
}

static void change_label(struct fs_actor *actor)
{
	struct fs_level *level = actor->level;
	char label[32];

	if (level->labelling)
		return;
	snprintf(label, sizeof(label), "label %lu", (unsigned long)below(actor, 1000000));
	level->labelling = true;
	op_attr_relabel(level, chance(actor, 6) ? "" : label);
	level->labelling = false;
}

static void change_legs(struct fs_actor *actor)
{
	if (actor->level->machine->lively)
		legs_some(actor->level->machine, &actor->random);
}

void fs_act(void *arg)
{
	static const struct {
		unsigned int weight;
		void (*run)(struct fs_actor *actor);
	} doings[] = {
		{8, create},	 {6, remove_name}, {3, add_link},	 {6, rename_some},   {3, look_up},
		{3, list},	 {3, forget_some}, {22, write_some},	 {4, truncate_some}, {4, fallocate_some},
		{8, copy_some},	 {2, create_nameless},
		{10, read_some}, {6, sync_file},   {1, sync_everything}, {3, look_at},	     {3, seek_some},
		{4, change_mode}, {14, change_legs}, {1, change_defaults}, {3, change_flags},    {5, change_xattr},
		{1, change_label},
	};
	struct fs_actor *actor = arg;
	unsigned int total = 0;

	for (size_t i = 0; i < sizeof(doings) / sizeof(doings[0]); i++)
		total += doings[i].weight;
	while (script_next(actor->level->script, &actor->random)) {
		uint64_t draw = below(actor, total + 6);
		size_t i = 0;

		if (draw >= total && !actor->level->machine->busy) {
			sim_sleep(below(actor, chance(actor, 10) ? 8000000000 : 1000000));
			continue;
		}
		draw %= total;
		while (draw >= doings[i].weight)
			draw -= doings[i++].weight;
		doings[i].run(actor);
	}
	actor->running = false;
}
