/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the actors of the fs level do. An operation reserves what it changes in the oracle, foretells the result, and
 * leaves where another one is in the way: so each result is certain although many run at once.
 */
#include "level_fs.h"

#include "report.h"
#include "world.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DIRECTORIES_MAX 5

static const struct fs_caller caller = { 0, 0 };

static uint64_t below(struct fs_actor *actor, uint64_t n)
{
	return sim_random_below(&actor->random, n);
}

static bool chance(struct fs_actor *actor, uint64_t n)
{
	return sim_random_chance(&actor->random, n);
}

/* ---- reservations ---- */

static bool enter(struct oracle_file *file)
{
	if (file->exclusive || !file->lookups)
		return false;
	file->users++;
	return true;
}

static void leave(struct oracle_file *file)
{
	file->users--;
}

static struct oracle_file *some_file(struct fs_actor *actor, bool directory)
{
	struct oracle *oracle = &actor->level->oracle;
	struct oracle_file *found[64];
	unsigned int count = 0;

	for (unsigned int i = 0; i < oracle->count; i++) {
		struct oracle_file *file = oracle->files[i];

		if (!file->inode || file->directory != directory || !(file == oracle->root || file->lookups) ||
		    (directory && !file->links) || file->exclusive)
			continue;
		found[count++ % 64] = file;
	}
	if (!count)
		return NULL;
	return found[below(actor, count < 64 ? count : 64)];
}

/* A name, reserved with its directory in use; release_name() ends it. */
struct place {
	struct oracle_file *dir;
	int name;
	struct oracle_entry *entry;
};

static bool reserve_name(struct fs_actor *actor, struct place *place)
{
	place->dir = some_file(actor, true);
	if (!place->dir)
		return false;
	place->name = (int)below(actor, ORACLE_NAMES);
	place->entry = &place->dir->entries[place->name];
	if (place->entry->reserved)
		return false;
	place->dir->users++;
	place->entry->reserved = true;
	return true;
}

static void release_name(struct place *place)
{
	place->entry->reserved = false;
	leave(place->dir);
}

/* The links of `file` (NULL: none) are one's own until link_end(). A directory that may go is left alone by others. */
static bool link_begin(struct oracle_file *file, bool may_go)
{
	if (!file)
		return true;
	if (file->linking || file->exclusive || (may_go && file->directory && file->users))
		return false;
	file->linking = true;
	file->exclusive = may_go && file->directory;
	return true;
}

static void link_end(struct oracle_file *file)
{
	if (!file)
		return;
	file->linking = false;
	file->exclusive = false;
}

static bool is_empty(const struct oracle_file *dir)
{
	for (int n = 0; n < ORACLE_NAMES; n++)
		if (dir->entries[n].file)
			return false;
	return true;
}

static bool is_inside(const struct oracle_file *dir, const struct oracle_file *ancestor)
{
	for (;; dir = dir->parent) {
		if (dir == ancestor)
			return true;
		if (dir->parent == dir)
			return false;
	}
}

/* Ends a change of names: as foretold, refused for a good reason, or the run fails. True: it was done. */
static bool named(struct fs_actor *actor, struct oracle_naming *naming, const char *what, int error, int foretold)
{
	struct oracle *oracle = &actor->level->oracle;

	note("%s: %s", what, error ? strerror(-error) : "done");
	if (!foretold && error)
		fs_level_bad(actor->level, what, naming->moves[0].dir->inode, error);
	else if (error != foretold && error != -ENOSPC)
		sim_fail("%s: %s where it should be %s", what, error ? strerror(-error) : "done", strerror(-foretold));
	oracle_naming_end(oracle, naming, !error);
	return !error;
}

/* Nobody has the file any more: what has no name goes. */
static void forget(struct fs_actor *actor, struct oracle_file *file)
{
	uint64_t lookups = file->lookups;

	file->lookups = 0;
	fs_forget(actor->level->machine->fs, file->inode, lookups);
}

/* ---- names ---- */

static void create(struct fs_actor *actor)
{
	struct oracle *oracle = &actor->level->oracle;
	unsigned int directories = 0;
	struct oracle_naming *naming;
	struct oracle_file *file;
	struct fs_attr attr;
	struct place at;
	bool directory;
	char what[96];
	int error, foretold;

	if (!reserve_name(actor, &at))
		return;
	for (unsigned int i = 0; i < oracle->count; i++)
		directories += oracle->files[i]->directory && oracle->files[i]->links;
	directory = directories < DIRECTORIES_MAX && chance(actor, 4);
	foretold = at.entry->file ? -EEXIST : 0;
	naming = oracle_naming_begin(oracle);
	file = foretold ? at.entry->file : oracle_new_file(oracle, directory);
	oracle_naming_move(naming, at.dir, at.name, file);
	snprintf(what, sizeof(what), "%s %lu/%d", directory ? "mkdir" : "mknod", (unsigned long)at.dir->inode, at.name);
	note("%s …", what);
	if (directory)
		error = fs_mkdir(actor->level->machine->fs, &caller, at.dir->inode, oracle_name(at.name), 0755, &attr);
	else
		error = fs_mknod(actor->level->machine->fs, &caller, at.dir->inode, oracle_name(at.name),
				 S_IFREG | 0644, 0, &attr);
	if (!error && !foretold) {
		if (oracle_find(oracle, attr.st.st_ino))
			sim_fail("inode number %lu is used again", (unsigned long)attr.st.st_ino);
		file->inode = attr.st.st_ino;
		file->lookups = 1;
		note("it is inode %lu", (unsigned long)file->inode);
	}
	named(actor, naming, what, error, foretold);
	release_name(&at);
}

static void remove_name(struct fs_actor *actor)
{
	struct fs_level *level = actor->level;
	struct oracle_naming *naming;
	struct oracle_file *file;
	struct place at;
	bool as_directory;
	char what[96];
	int error, foretold = 0;

	if (!reserve_name(actor, &at))
		return;
	file = at.entry->file;
	as_directory = file && file->directory ? !chance(actor, 8) : chance(actor, 8);
	if (!link_begin(file, true)) {
		release_name(&at);
		return;
	}
	if (!file)
		foretold = -ENOENT;
	else if (as_directory != file->directory)
		foretold = as_directory ? -ENOTDIR : -EISDIR;
	else if (file->directory && !is_empty(file))
		foretold = -ENOTEMPTY;
	naming = oracle_naming_begin(&level->oracle);
	oracle_naming_move(naming, at.dir, at.name, NULL);
	snprintf(what, sizeof(what), "%s %lu/%d inode %ld", as_directory ? "rmdir" : "unlink",
		 (unsigned long)at.dir->inode, at.name, file ? (long)file->inode : -1);
	note("%s …", what);
	error = as_directory ? fs_rmdir(level->machine->fs, at.dir->inode, oracle_name(at.name)) :
			       fs_unlink(level->machine->fs, at.dir->inode, oracle_name(at.name));
	if (named(actor, naming, what, error, foretold) && file && file->directory)
		forget(actor, file);
	link_end(file);
	release_name(&at);
}

static void add_link(struct fs_actor *actor)
{
	struct fs_level *level = actor->level;
	struct oracle_file *file = some_file(actor, false);
	struct oracle_naming *naming;
	struct fs_attr attr;
	struct place at;
	char what[96];
	int error, foretold;

	if (!file || !enter(file))
		return;
	if (!file->links || !reserve_name(actor, &at)) {
		leave(file);
		return;
	}
	if (link_begin(file, false)) {
		foretold = at.entry->file ? -EEXIST : 0;
		naming = oracle_naming_begin(&level->oracle);
		oracle_naming_move(naming, at.dir, at.name, foretold ? at.entry->file : file);
		snprintf(what, sizeof(what), "link inode %lu as %lu/%d", (unsigned long)file->inode,
			 (unsigned long)at.dir->inode, at.name);
		note("%s …", what);
		error = fs_link(level->machine->fs, file->inode, at.dir->inode, oracle_name(at.name), &attr);
		if (!error)
			file->lookups++;
		if (!error && attr.st.st_nlink != (nlink_t)file->links + 1)
			sim_fail("%s: %lu links, not %d", what, (unsigned long)attr.st.st_nlink, file->links + 1);
		named(actor, naming, what, error, foretold);
		link_end(file);
	}
	release_name(&at);
	leave(file);
}

/* What a rename must answer; 0 with *same: nothing to do. */
static int foretell_rename(const struct place *from, const struct place *to, unsigned int flags, bool *same)
{
	struct oracle_file *a = from->entry->file, *b = to->entry->file;

	*same = false;
	if (!a)
		return -ENOENT;
	if (flags == RENAME_NOREPLACE && b)
		return -EEXIST;
	if (flags == RENAME_EXCHANGE) {
		if (!b)
			return -ENOENT;
		if ((a->directory && is_inside(to->dir, a)) || (b->directory && is_inside(from->dir, b)))
			return -EINVAL;
		*same = a == b;
		return 0;
	}
	if (a->directory && is_inside(to->dir, a))
		return -EINVAL;
	if (b && b->directory && is_inside(from->dir, b))
		return -ENOTEMPTY; /* as the kernel says it, whatever `a` is */
	*same = a == b;
	if (!b || *same)
		return 0;
	if (a->directory != b->directory)
		return a->directory ? -ENOTDIR : -EISDIR;
	return b->directory && !is_empty(b) ? -ENOTEMPTY : 0;
}

static void remember_brought(struct oracle_naming *naming, struct oracle_file *file)
{
	struct oracle_snapshot snapshot;

	oracle_snapshot(file, 0, file->room, &snapshot);
	naming->brought = file;
	naming->brought_id = snapshot.id;
	naming->brought_bytes = snapshot.bytes;
	naming->brought_room = snapshot.length;
}

static void rename_reserved(struct fs_actor *actor, struct place *from, struct place *to, unsigned int flags)
{
	struct fs_level *level = actor->level;
	struct oracle_file *a = from->entry->file, *b = to->entry->file;
	struct oracle_naming *naming;
	bool same, done;
	char what[128];
	int error, foretold = foretell_rename(from, to, flags, &same);

	naming = oracle_naming_begin(&level->oracle);
	oracle_naming_move(naming, from->dir, from->name, same ? a : flags == RENAME_EXCHANGE ? b : NULL);
	oracle_naming_move(naming, to->dir, to->name, a);
	if (!foretold && b && !same && !a->directory && !flags)
		remember_brought(naming, a);
	snprintf(what, sizeof(what), "rename %lu/%d inode %ld to %lu/%d inode %ld flags %u",
		 (unsigned long)from->dir->inode, from->name, a ? (long)a->inode : -1, (unsigned long)to->dir->inode,
		 to->name, b ? (long)b->inode : -1, flags);
	note("%s …", what);
	error = fs_rename(level->machine->fs, from->dir->inode, oracle_name(from->name), to->dir->inode,
			  oracle_name(to->name), flags);
	/* The kernel refuses these loops before it asks: any error is as good as another. */
	if (foretold == -EINVAL && error)
		foretold = error;
	done = named(actor, naming, what, error, foretold);
	if (done && b && !same && flags != RENAME_EXCHANGE && b->directory)
		forget(actor, b);
}

static void rename_some(struct fs_actor *actor)
{
	static const unsigned int all_flags[] = { 0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE };
	unsigned int flags = all_flags[below(actor, 5)];
	struct fs_level *level = actor->level;
	struct oracle_file *a, *b;
	struct place from, to;
	bool directories;

	if (!reserve_name(actor, &from))
		return;
	if (!reserve_name(actor, &to)) {
		release_name(&from);
		return;
	}
	a = from.entry->file;
	b = to.entry->file;
	directories = (a && a->directory) || (b && b->directory);
	/* A directory that is also one of the two parents stays: its reservation counts as a user. */
	if (!(directories && level->renaming_directory) && link_begin(a, false)) {
		bool replaced = flags != RENAME_EXCHANGE && b != from.dir && b != to.dir;

		if (b == a || link_begin(b, replaced)) {
			level->renaming_directory |= directories;
			rename_reserved(actor, &from, &to, flags);
			if (directories)
				level->renaming_directory = false;
			if (b != a)
				link_end(b);
		}
		link_end(a);
	}
	release_name(&to);
	release_name(&from);
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
	release_name(&at);
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
	struct oracle_file *dir = some_file(actor, true);
	struct seen seen = { .pause_odds = chance(actor, 2) ? 3 : 100, .actor = actor };
	int error = 0;

	if (!dir || !enter(dir))
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
	leave(dir);
}

/* Forgets a file altogether, and looks it up again if it has the name. */
static void forget_some(struct fs_actor *actor)
{
	struct oracle_file *file = some_file(actor, false);
	struct fs_level *level = actor->level;
	struct fs_attr attr;
	struct place at;

	if (file && !file->links && !file->users && !file->linking && !file->changing && !file->exclusive) {
		note("forget nameless inode %lu", (unsigned long)file->inode);
		forget(actor, file);
		return;
	}
	if (!reserve_name(actor, &at))
		return;
	file = at.entry->file;
	if (file && !file->directory && !file->users && !file->changing && link_begin(file, false)) {
		int error;

		file->exclusive = true;
		note("forget inode %lu", (unsigned long)file->inode);
		forget(actor, file);
		error = fs_lookup(level->machine->fs, at.dir->inode, oracle_name(at.name), &attr);
		if (error)
			fs_level_bad(level, "lookup of what was forgotten", file->inode, error);
		else if (attr.st.st_ino != file->inode || (uint64_t)attr.st.st_size != file->size)
			sim_fail("inode %lu of %lu bytes was forgotten, found are inode %lu and %lu bytes",
				 (unsigned long)file->inode, (unsigned long)file->size, (unsigned long)attr.st.st_ino,
				 (unsigned long)attr.st.st_size);
		file->lookups += !error;
		link_end(file);
	}
	release_name(&at);
}

/* ---- content ---- */

static struct oracle_file *file_to_change(struct fs_actor *actor)
{
	struct oracle_file *file = some_file(actor, false);

	if (!file || file->changing || !enter(file))
		return NULL;
	file->changing = true;
	return file;
}

static void changed(struct fs_actor *actor, struct oracle_file *file, const char *what, int error, bool durable)
{
	if (error) {
		uint64_t size;
		unsigned char *data;

		fs_level_bad(actor->level, what, file->inode, error);
		data = fs_level_read_all(actor->level, file->inode, &size);
		oracle_change_failed(file, data, size);
		free(data);
	} else {
		oracle_change_end(file, durable);
	}
	file->changing = false;
	leave(file);
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
	unsigned int flags = all_flags[below(actor, 6)];
	uint64_t offset, end;
	unsigned char *data;
	uint64_t tick = ++actor->level->oracle.clock;
	ssize_t written;
	uint32_t id;

	if (!file)
		return;
	some_range(actor, file, &offset, &end);
	id = oracle_change_begin(file, ORACLE_WRITE, offset, end, true);
	data = malloc(end - offset);
	for (uint64_t i = offset; i < end; i++)
		data[i - offset] = oracle_pattern(file, id, i);
	note("write inode %lu, %lu at %lu, flags %u, change %u …", (unsigned long)file->inode,
	     (unsigned long)(end - offset), (unsigned long)offset, flags, id);
	written = fs_write(actor->level->machine->fs, file->inode, data, end - offset, offset, flags);
	if (written >= 0 && (uint64_t)written != end - offset)
		sim_fail("fs_write of %lu bytes wrote %ld", (unsigned long)(end - offset), (long)written);
	note("wrote inode %lu, change %u: %ld", (unsigned long)file->inode, id, (long)written);
	free(data);
	if (written >= 0 && flags & FS_WRITE_SYNC)
		oracle_names_synced(&actor->level->oracle, file, tick);
	changed(actor, file, "write", written < 0 ? (int)written : 0, flags & FS_WRITE_SYNC);
}

static void truncate_some(struct fs_actor *actor)
{
	struct oracle_file *file = file_to_change(actor);
	struct fs_attr attr = { 0 };
	uint64_t size;
	int error;

	if (!file)
		return;
	size = chance(actor, 4) ? 0 : chance(actor, 2) ? below(actor, file->size + 1) : below(actor, length_max(file));
	oracle_change_begin(file, ORACLE_TRUNCATE, 0, size, false);
	note("truncate inode %lu to %lu, change %u …", (unsigned long)file->inode, (unsigned long)size, file->count);
	attr.st.st_size = (off_t)size;
	error = fs_setattr(actor->level->machine->fs, file->inode, FS_SET_SIZE, &attr);
	if (!error && (uint64_t)attr.st.st_size != size)
		sim_fail("inode %lu truncated to %lu has %lu bytes", (unsigned long)file->inode, (unsigned long)size,
			 (unsigned long)attr.st.st_size);
	note("truncated inode %lu", (unsigned long)file->inode);
	changed(actor, file, "truncate", error, false);
}

static void fallocate_some(struct fs_actor *actor)
{
	static const int modes[] = { FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE,
				     FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 0, FALLOC_FL_KEEP_SIZE };
	struct oracle_file *file = file_to_change(actor);
	int mode = modes[below(actor, 5)], error;
	bool zeroes = mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE);
	uint64_t offset, end;

	if (!file)
		return;
	some_range(actor, file, &offset, &end);
	/* Real blocks for holes change no byte. */
	oracle_change_begin(file, ORACLE_ZERO, zeroes ? offset : end, end, !(mode & FALLOC_FL_KEEP_SIZE));
	note("fallocate inode %lu, %lu .. %lu, mode %d, change %u …", (unsigned long)file->inode,
	     (unsigned long)offset,
	     (unsigned long)end, mode, file->count);
	error = fs_fallocate(actor->level->machine->fs, file->inode, mode, offset, end - offset);
	note("fallocated inode %lu", (unsigned long)file->inode);
	changed(actor, file, "fallocate", error, false);
}

static void read_some(struct fs_actor *actor)
{
	struct oracle_file *file = some_file(actor, false);
	struct oracle_snapshot snapshot;
	uint64_t offset, end;
	unsigned char *data;
	ssize_t got;

	if (!file || !enter(file))
		return;
	some_range(actor, file, &offset, &end);
	oracle_snapshot(file, offset, end - offset, &snapshot);
	data = malloc(end - offset);
	got = fs_read(actor->level->machine->fs, file->inode, data, end - offset, offset);
	if (got < 0)
		sim_fail("fs_read of inode %lu, %lu bytes at %lu: %s", (unsigned long)file->inode,
			 (unsigned long)(end - offset), (unsigned long)offset, strerror((int)-got));
	oracle_check_read(&snapshot, data, (size_t)got);
	free(data);
	oracle_snapshot_free(&snapshot);
	leave(file);
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
	for (uint64_t i = from; !hole && i < (error ? file->size : to); i++)
		if (file->now[i] > 0)
			sim_fail("inode %lu has data at %lu, lseek from %lu gives %lu", (unsigned long)file->inode,
				 (unsigned long)i, (unsigned long)from, (unsigned long)to);
	if (!error && hole && to < file->size && file->now[to] > 0)
		sim_fail("inode %lu has data at %lu where lseek gives a hole", (unsigned long)file->inode,
			 (unsigned long)to);
	file->changing = false;
	leave(file);
}

static void sync_file(struct fs_actor *actor)
{
	struct fs_level *level = actor->level;
	struct oracle_file *file = some_file(actor, chance(actor, 4));
	struct oracle_snapshot snapshot;
	uint64_t tick = ++level->oracle.clock, seen = 0;
	bool data_only = chance(actor, 2);
	int error;

	if (!file || !enter(file))
		return;
	oracle_snapshot(file, 0, file->room, &snapshot);
	note("fsync inode %lu, change %u …", (unsigned long)file->inode, snapshot.id);
	error = fs_error_mark(level->machine->fs, file->inode, &seen);
	if (!error)
		error = fs_fsync(level->machine->fs, file->inode, data_only, &seen);
	if (error) {
		fs_level_bad(level, "fsync", file->inode, error);
	} else {
		note("fsynced inode %lu, change %u", (unsigned long)file->inode, snapshot.id);
		oracle_synced(&snapshot, !data_only);
		oracle_names_synced(&level->oracle, file, tick);
	}
	oracle_snapshot_free(&snapshot);
	leave(file);
}

static void sync_everything(struct fs_actor *actor)
{
	struct fs_level *level = actor->level;
	struct oracle *oracle = &level->oracle;
	unsigned int count = oracle->count;
	struct oracle_snapshot *snapshots = calloc(count, sizeof(*snapshots));
	uint64_t tick = ++oracle->clock;
	int error;

	for (unsigned int i = 0; i < count; i++)
		if (oracle->files[i]->links || oracle->files[i]->lookups)
			oracle_snapshot(oracle->files[i], 0, oracle->files[i]->room, &snapshots[i]);
	note("sync …");
	error = fs_sync(level->machine->fs);
	note("sync: %s", strerror(-error));
	if (error)
		fs_level_bad(level, "sync", 0, error);
	else
		oracle_names_synced(oracle, NULL, tick);
	for (unsigned int i = 0; i < count; i++) {
		if (!error && snapshots[i].file)
			oracle_synced(&snapshots[i], true);
		oracle_snapshot_free(&snapshots[i]);
	}
	free(snapshots);
}

static void look_at(struct fs_actor *actor)
{
	struct oracle_file *file = some_file(actor, false);
	struct fs_attr attr;
	int error;

	if (!file || file->linking || file->changing || !enter(file))
		return;
	file->linking = file->changing = true;
	error = fs_getattr(actor->level->machine->fs, file->inode, &attr);
	if (error)
		fs_level_bad(actor->level, "getattr", file->inode, error);
	else if (attr.st.st_nlink != (nlink_t)file->links || (uint64_t)attr.st.st_size != file->size)
		sim_fail("inode %lu has %lu links and %lu bytes, not %d and %lu", (unsigned long)file->inode,
			 (unsigned long)attr.st.st_nlink, (unsigned long)attr.st.st_size, file->links,
			 (unsigned long)file->size);
	file->linking = file->changing = false;
	leave(file);
}

static void change_mode(struct fs_actor *actor)
{
	struct oracle_file *file = some_file(actor, chance(actor, 4));
	struct fs_attr attr = { .st.st_mode = 0 };
	uint32_t mode;
	int error;

	if (!file || file->linking || !enter(file))
		return;
	file->linking = true;
	mode = ++file->mode.begun;
	attr.st.st_mode = oracle_mode(file, mode);
	note("chmod inode %lu to %o …", (unsigned long)file->inode, attr.st.st_mode);
	error = fs_setattr(actor->level->machine->fs, file->inode, FS_SET_MODE, &attr);
	if (error) {
		fs_level_bad(actor->level, "chmod", file->inode, error);
		error = fs_getattr(actor->level->machine->fs, file->inode, &attr);
	}
	if (!error && (attr.st.st_mode & 07777) == oracle_mode(file, mode))
		file->mode.now = mode;
	else
		sim_fail("inode %lu has mode %o after a change to %o: %s", (unsigned long)file->inode,
			 attr.st.st_mode, oracle_mode(file, mode), strerror(-error));
	note("mode of inode %lu is %o", (unsigned long)file->inode, attr.st.st_mode);
	file->linking = false;
	leave(file);
}

void fs_act(void *arg)
{
	static const struct {
		unsigned int weight;
		void (*run)(struct fs_actor *actor);
	} doings[] = {
		{8, create},	 {6, remove_name}, {3, add_link},	 {6, rename_some},   {3, look_up},
		{3, list},	 {3, forget_some}, {22, write_some},	 {4, truncate_some}, {4, fallocate_some},
		{10, read_some}, {6, sync_file},   {1, sync_everything}, {3, look_at},	     {3, seek_some},
		{3, change_mode},
	};
	struct fs_actor *actor = arg;
	unsigned int total = 0;

	for (size_t i = 0; i < sizeof(doings) / sizeof(doings[0]); i++)
		total += doings[i].weight;
	while (script_next(actor->level->script, &actor->random)) {
		uint64_t draw = below(actor, total + 6);
		size_t i = 0;

		if (draw >= total) {
			sim_sleep(below(actor, chance(actor, 10) ? 8000000000 : 1000000));
			continue;
		}
		while (draw >= doings[i].weight)
			draw -= doings[i++].weight;
		doings[i].run(actor);
	}
	actor->running = false;
}
