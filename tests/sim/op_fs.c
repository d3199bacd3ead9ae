/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "op_fs.h"

#include "op_attr.h"
#include "report.h"
#include "tally.h"
#include "world.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

static const struct fs_caller caller = { .uid = 0 };

bool op_enter(struct oracle_file *file)
{
	if (file->exclusive || !file->lookups)
		return false;
	file->users++;
	return true;
}

void op_leave(struct oracle_file *file)
{
	file->users--;
}

bool op_reserve(struct place *place, struct oracle_file *dir, int name)
{
	*place = (struct place){ dir, name, &dir->entries[name] };
	if (place->entry->reserved)
		return false;
	dir->users++;
	place->entry->reserved = true;
	return true;
}

void op_release(struct place *place)
{
	place->entry->reserved = false;
	op_leave(place->dir);
}

bool op_link_begin(struct oracle_file *file, bool may_go)
{
	if (!file)
		return true;
	if (file->linking || file->exclusive || (may_go && file->directory && file->users))
		return false;
	file->linking = true;
	file->exclusive = may_go && file->directory;
	return true;
}

void op_link_end(struct oracle_file *file)
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
static bool named(struct fs_level *level, struct oracle_naming *naming, const char *what, int error, int foretold)
{
	struct oracle *oracle = &level->oracle;

	note("%s: %s", what, error ? strerror(-error) : "done");
	if (!foretold && error)
		fs_level_bad(level, what, naming->moves[0].dir->inode, error);
	else if (error != foretold && !fs_level_may_fail(level, error))
		sim_fail("%s: %s where it should be %s", what, error ? strerror(-error) : "done", strerror(-foretold));
	oracle_naming_end(oracle, naming, !error);
	return !error;
}

void op_forget(struct fs_level *level, struct oracle_file *file)
{
	uint64_t lookups = file->lookups;

	file->lookups = 0;
	fs_forget(level->machine->fs, file->inode, lookups);
}

/* ---- names ---- */

/* Two reasons to refuse: either may be told. */
static int or_forbidden(int foretold, bool forbidden, int error)
{
	return forbidden && (!foretold || error == -EPERM) ? -EPERM : foretold;
}

void op_target(const struct oracle_file *file, char target[PATH_MAX])
{
	uint64_t word = sim_random_mix(file->index);
	size_t length = 1 + word % (word >> 32 & 3 ? 60 : PATH_MAX - 1);

	for (size_t i = 0; i < length; i++)
		target[i] = (char)('a' + (word + i * i) % 26);
	target[length] = '\0';
}

dev_t op_device(const struct oracle_file *file)
{
	uint64_t word = sim_random_mix(file->index);

	if (file->whiteout || !(S_ISCHR(file->type) || S_ISBLK(file->type)))
		return 0;
	return makedev(word & 0xfff, word >> 12 & 0xfffff);
}

/* One that is about to be made in `dir`, or has been just now. */
static struct oracle_file *new_file(struct fs_level *level, const struct oracle_file *dir, mode_t mode)
{
	struct oracle_file *file = oracle_new_file(&level->oracle, mode & S_IFMT);

	op_attr_born(file, dir, mode);
	return file;
}

static void bind(struct fs_level *level, struct oracle_file *file, uint64_t inode)
{
	if (oracle_find(&level->oracle, inode))
		sim_fail("inode number %lu is used again", (unsigned long)inode);
	file->inode = inode;
	file->lookups = 1;
	note("it is inode %lu", (unsigned long)inode);
}

static int make(struct fs_level *level, struct oracle_file *file, const struct place *at, mode_t type,
		struct fs_attr *attr)
{
	struct fs *fs = level->machine->fs;
	const char *name = oracle_name(at->name);
	char target[PATH_MAX];

	if (S_ISDIR(type))
		return fs_mkdir(fs, &caller, at->dir->inode, name, 0755, attr);
	if (!S_ISLNK(type))
		return fs_mknod(fs, &caller, at->dir->inode, name, type | 0644, op_device(file), attr);
	op_target(file, target);
	file->size = strlen(target);
	return fs_symlink(fs, &caller, at->dir->inode, name, target, attr);
}

void op_create(struct fs_level *level, struct place *at, mode_t type)
{
	static const char *const calls[] = { [S_IFDIR >> 12] = "mkdir", [S_IFLNK >> 12] = "symlink" };
	bool forbidden = op_attr_forbids(at->dir, FS_IMMUTABLE_FL);
	struct oracle_file *file, refused = { .type = type };
	struct oracle_naming *naming;
	struct fs_attr attr;
	char what[96];
	int error, foretold = at->entry->file ? -EEXIST : 0;

	naming = oracle_naming_begin(&level->oracle);
	if (foretold || forbidden)
		file = &refused;
	else
		file = new_file(level, at->dir, type | (S_ISDIR(type) ? 0755 : S_ISLNK(type) ? 0777 : 0644));
	oracle_naming_move(naming, at->dir, at->name, foretold || forbidden ? at->entry->file : file);
	snprintf(what, sizeof(what), "%s %lu/%d", type >> 12 < 11 && calls[type >> 12] ? calls[type >> 12] : "mknod",
		 (unsigned long)at->dir->inode, at->name);
	note("%s …", what);
	error = make(level, file, at, type, &attr);
	if (!error && file != &refused)
		bind(level, file, attr.st.st_ino);
	if (!error && !S_ISDIR(type) && !S_ISREG(type))
		tally(S_ISLNK(type) ? TALLY_SYMLINK : TALLY_SPECIAL);
	named(level, naming, what, error, or_forbidden(foretold, forbidden, error));
}

void op_remove(struct fs_level *level, struct place *at, bool as_directory)
{
	struct oracle_file *file = at->entry->file;
	bool forbidden = op_attr_forbids(at->dir, OP_FIXED) || (file && op_attr_forbids(file, OP_FIXED));
	struct oracle_naming *naming;
	char what[96];
	int error, foretold = 0;

	if (!file)
		foretold = -ENOENT;
	else if (as_directory != file->directory)
		foretold = as_directory ? -ENOTDIR : -EISDIR;
	else if (file->directory && !is_empty(file))
		foretold = -ENOTEMPTY;
	naming = oracle_naming_begin(&level->oracle);
	oracle_naming_move(naming, at->dir, at->name, NULL);
	snprintf(what, sizeof(what), "%s %lu/%d inode %ld", as_directory ? "rmdir" : "unlink",
		 (unsigned long)at->dir->inode, at->name, file ? (long)file->inode : -1);
	note("%s …", what);
	error = as_directory ? fs_rmdir(level->machine->fs, at->dir->inode, oracle_name(at->name)) :
			       fs_unlink(level->machine->fs, at->dir->inode, oracle_name(at->name));
	if (named(level, naming, what, error, or_forbidden(foretold, forbidden, error)) && file && file->directory)
		op_forget(level, file);
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

void op_tmpfile(struct fs_level *level, struct oracle_file *dir)
{
	int error, foretold = op_attr_forbids(dir, FS_IMMUTABLE_FL);
	struct oracle_file *file;
	struct fs_attr attr;

	note("tmpfile in %lu …", (unsigned long)dir->inode);
	error = fs_tmpfile(level->machine->fs, &caller, dir->inode, 0644, true, &attr);
	if (error != foretold)
		fs_level_bad(level, "tmpfile", dir->inode, error);
	if (error)
		return;
	file = new_file(level, dir, S_IFREG | 0644);
	bind(level, file, attr.st.st_ino);
	file->linkable = true;
}

void op_link(struct fs_level *level, struct oracle_file *file, struct place *at)
{
	bool forbidden = op_attr_forbids(at->dir, FS_IMMUTABLE_FL) || op_attr_forbids(file, OP_FIXED);
	int error, foretold = at->entry->file ? -EEXIST : 0;
	struct oracle_naming *naming = oracle_naming_begin(&level->oracle);
	struct fs_attr attr;
	char what[96];

	oracle_naming_move(naming, at->dir, at->name, foretold || forbidden ? at->entry->file : file);
	if (!foretold && file->linkable)
		remember_brought(naming, file);
	snprintf(what, sizeof(what), "link inode %lu as %lu/%d", (unsigned long)file->inode,
		 (unsigned long)at->dir->inode, at->name);
	note("%s …", what);
	error = fs_link(level->machine->fs, file->inode, at->dir->inode, oracle_name(at->name), &attr);
	if (!error && file->linkable)
		tally(TALLY_NAMED);
	if (!error)
		file->lookups++;
	if (!error && attr.st.st_nlink != (nlink_t)file->links + 1)
		sim_fail("%s: %lu links, not %d", what, (unsigned long)attr.st.st_nlink, file->links + 1);
	file->linkable = file->linkable && error;
	named(level, naming, what, error, or_forbidden(foretold, forbidden, error));
}

/* What a rename must answer; 0 with *same: nothing to do. */
static int foretell_rename(const struct place *from, const struct place *to, unsigned int flags, bool *same)
{
	struct oracle_file *a = from->entry->file, *b = to->entry->file;

	*same = false;
	if (!a)
		return -ENOENT;
	if (flags & RENAME_NOREPLACE && b)
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

static bool rename_forbidden(const struct place *from, const struct place *to)
{
	const struct oracle_file *a = from->entry->file, *b = to->entry->file;

	if (!a || a == b)
		return false;
	return op_attr_forbids(from->dir, OP_FIXED) || op_attr_forbids(a, OP_FIXED) ||
	       op_attr_forbids(to->dir, b ? OP_FIXED : (uint32_t)FS_IMMUTABLE_FL) ||
	       (b && op_attr_forbids(b, OP_FIXED));
}

static void tell_flags(unsigned int flags)
{
	if (flags & RENAME_EXCHANGE)
		tally(TALLY_EXCHANGED);
	if (flags & RENAME_WHITEOUT)
		tally(TALLY_WHITEOUT);
}

/* What took the name that became free. */
static void bind_whiteout(struct fs_level *level, const struct place *from, struct oracle_file *whiteout)
{
	struct fs_attr attr;
	int error = fs_lookup(level->machine->fs, from->dir->inode, oracle_name(from->name), &attr);

	if (error)
		sim_fail("no whiteout in inode %lu: %s", (unsigned long)from->dir->inode, strerror(-error));
	bind(level, whiteout, attr.st.st_ino);
}

void op_rename(struct fs_level *level, struct place *from, struct place *to, unsigned int flags)
{
	struct oracle_file *a = from->entry->file, *b = to->entry->file, *whiteout = NULL;
	struct oracle_naming *naming;
	bool same, done, forbidden = rename_forbidden(from, to);
	char what[128];
	int error, foretold = foretell_rename(from, to, flags, &same);

	naming = oracle_naming_begin(&level->oracle);
	if (flags & RENAME_WHITEOUT && !foretold && !same && !forbidden) {
		whiteout = new_file(level, from->dir, S_IFCHR);
		whiteout->whiteout = true;
	}
	oracle_naming_move(naming, from->dir, from->name, same ? a : flags == RENAME_EXCHANGE ? b : whiteout);
	oracle_naming_move(naming, to->dir, to->name, a);
	if (!foretold && b && !same && !a->directory && !(flags & RENAME_EXCHANGE))
		remember_brought(naming, a);
	snprintf(what, sizeof(what), "rename %lu/%d inode %ld to %lu/%d inode %ld flags %u",
		 (unsigned long)from->dir->inode, from->name, a ? (long)a->inode : -1, (unsigned long)to->dir->inode,
		 to->name, b ? (long)b->inode : -1, flags);
	note("%s …", what);
	error = fs_rename(level->machine->fs, &caller, from->dir->inode, oracle_name(from->name), to->dir->inode,
			  oracle_name(to->name), flags);
	if (!error && whiteout)
		bind_whiteout(level, from, whiteout);
	if (!error)
		tell_flags(flags);
	/* The kernel refuses these loops before it asks: any error is as good as another. */
	if (foretold == -EINVAL && error)
		foretold = error;
	done = named(level, naming, what, error, or_forbidden(foretold, forbidden, error));
	if (done && b && !same && flags != RENAME_EXCHANGE && b->directory)
		op_forget(level, b);
}

/* ---- content ---- */

bool op_change_begin(struct oracle_file *file)
{
	if (file->changing || !op_enter(file))
		return false;
	file->changing = true;
	return true;
}

static void changed(struct fs_level *level, struct oracle_file *file, const char *what, int error, bool durable)
{
	if (error) {
		uint64_t size;
		unsigned char *data;

		fs_level_bad(level, what, file->inode, error);
		data = fs_level_read_all(level, file->inode, &size);
		oracle_change_failed(file, data, size);
		free(data);
	} else {
		oracle_change_end(file, durable);
	}
	file->changing = false;
	op_leave(file);
}

/* Ends a change that a flag forbids; so does a volume that has turned read-only. */
static void unchanged(struct fs_level *level, struct oracle_file *file, const char *what, int error)
{
	if (error != -EPERM && !(error == -EROFS && fs_level_may_fail(level, error)))
		sim_fail("%s of inode %lu, which is forbidden: %s", what, (unsigned long)file->inode, strerror(-error));
	note("%s of inode %lu is forbidden", what, (unsigned long)file->inode);
	file->changing = false;
	op_leave(file);
}

void op_write(struct fs_level *level, struct oracle_file *file, uint64_t offset, uint64_t end, unsigned int flags)
{
	bool forbidden = op_attr_forbids(file, FS_IMMUTABLE_FL);
	uint32_t id = forbidden ? 0 : oracle_change_begin(file, ORACLE_WRITE, offset, end, true);
	unsigned char *data = calloc(1, end - offset);
	uint64_t tick = ++level->oracle.clock;
	ssize_t written;

	for (uint64_t i = offset; !forbidden && i < end; i++)
		data[i - offset] = oracle_pattern(file, id, i);
	note("write inode %lu, %lu at %lu, flags %u, change %u …", (unsigned long)file->inode,
	     (unsigned long)(end - offset), (unsigned long)offset, flags, id);
	written = fs_write(level->machine->fs, file->inode, data, end - offset, offset, flags);
	if (written >= 0 && (uint64_t)written != end - offset)
		sim_fail("fs_write of %lu bytes wrote %ld", (unsigned long)(end - offset), (long)written);
	note("wrote inode %lu, change %u: %ld", (unsigned long)file->inode, id, (long)written);
	free(data);
	if (forbidden) {
		unchanged(level, file, "write", (int)written);
		return;
	}
	if (written >= 0 && flags & FS_WRITE_SYNC)
		oracle_names_synced(&level->oracle, file, tick);
	changed(level, file, "write", written < 0 ? (int)written : 0, flags & FS_WRITE_SYNC);
}

static bool overlap(uint64_t a, uint64_t b, uint64_t length)
{
	return a < b + length && b < a + length;
}

void op_copy(struct fs_level *level, struct oracle_file *from, uint64_t from_offset, struct oracle_file *file,
	     uint64_t offset, uint64_t length)
{
	bool refused = from == file && overlap(from_offset, offset, length);
	uint64_t done = 0;
	ssize_t got = 0;

	if (op_attr_forbids(file, OP_FIXED)) {
		got = fs_copy_range(level->machine->fs, from->inode, from_offset, file->inode, offset, length);
		if (from != file) {
			from->changing = false;
			op_leave(from);
		}
		unchanged(level, file, "copy", (int)got);
		return;
	}
	oracle_copy_begin(file, from, from_offset, offset, offset + length);
	note("copy inode %lu, %lu at %lu, to inode %lu, %lu, change %u …", (unsigned long)from->inode,
	     (unsigned long)length, (unsigned long)from_offset, (unsigned long)file->inode, (unsigned long)offset,
	     file->count);
	while (done < length && got >= 0) {
		got = fs_copy_range(level->machine->fs, from->inode, from_offset + done, file->inode, offset + done,
				    length - done);
		if (got > 0 && !refused)
			done += (uint64_t)got;
		else if (got >= 0 || (got == -EINVAL && !refused))
			sim_fail("fs_copy_range of %lu bytes: %ld at %lu", (unsigned long)length, (long)got,
				 (unsigned long)done);
	}
	note("copied inode %lu: %ld", (unsigned long)file->inode, got < 0 ? (long)got : (long)done);
	if (from != file) {
		from->changing = false;
		op_leave(from);
	}
	if (got == -EINVAL) /* nothing was changed, so it is a change of nothing */
		file->changes[file->count - 1].end = offset;
	changed(level, file, "copy", got < 0 && got != -EINVAL ? (int)got : 0, false);
}

void op_truncate(struct fs_level *level, struct oracle_file *file, uint64_t size)
{
	struct fs_attr attr = { .st.st_size = (off_t)size };
	int error;

	if (op_attr_forbids(file, OP_FIXED)) {
		unchanged(level, file, "truncate", fs_setattr(level->machine->fs, file->inode, FS_SET_SIZE, &attr));
		return;
	}
	oracle_change_begin(file, ORACLE_TRUNCATE, 0, size, false);
	note("truncate inode %lu to %lu, change %u …", (unsigned long)file->inode, (unsigned long)size, file->count);
	error = fs_setattr(level->machine->fs, file->inode, FS_SET_SIZE, &attr);
	if (!error && (uint64_t)attr.st.st_size != size)
		sim_fail("inode %lu truncated to %lu has %lu bytes", (unsigned long)file->inode, (unsigned long)size,
			 (unsigned long)attr.st.st_size);
	note("truncated inode %lu", (unsigned long)file->inode);
	changed(level, file, "truncate", error, false);
}

void op_fallocate(struct fs_level *level, struct oracle_file *file, int mode, uint64_t offset, uint64_t end)
{
	bool zeroes = mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE);
	int error;

	if (op_attr_forbids(file, mode & ~FALLOC_FL_KEEP_SIZE ? OP_FIXED : (uint32_t)FS_IMMUTABLE_FL)) {
		unchanged(level, file, "fallocate",
			  fs_fallocate(level->machine->fs, file->inode, mode, offset, end - offset));
		return;
	}
	/* Real blocks for holes change no byte. */
	oracle_change_begin(file, ORACLE_ZERO, zeroes ? offset : end, end, !(mode & FALLOC_FL_KEEP_SIZE));
	note("fallocate inode %lu, %lu .. %lu, mode %d, change %u …", (unsigned long)file->inode,
	     (unsigned long)offset, (unsigned long)end, mode, file->count);
	error = fs_fallocate(level->machine->fs, file->inode, mode, offset, end - offset);
	note("fallocated inode %lu", (unsigned long)file->inode);
	changed(level, file, "fallocate", error, false);
}

void op_fsync(struct fs_level *level, struct oracle_file *file, bool data_only)
{
	struct oracle_snapshot snapshot;
	uint64_t tick = ++level->oracle.clock, seen = 0;
	int error;

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
}

void op_sync(struct fs_level *level, bool from_root)
{
	struct oracle *oracle = &level->oracle;
	unsigned int count = oracle->count;
	struct oracle_snapshot *snapshots = calloc(count, sizeof(*snapshots));
	uint64_t tick = ++oracle->clock;
	int error;

	for (unsigned int i = 0; i < count; i++)
		if (oracle->files[i]->links || (oracle->files[i]->lookups && !from_root))
			oracle_snapshot(oracle->files[i], 0, oracle->files[i]->room, &snapshots[i]);
	note("sync%s …", from_root ? " of the root" : "");
	error = from_root ? fs_fsync(level->machine->fs, OBJECT_ROOT, false, NULL) : fs_sync(level->machine->fs);
	note("sync: %s", strerror(-error));
	if (error)
		fs_level_bad(level, "sync", 0, error);
	else
		oracle_names_synced(oracle, NULL, tick);
	for (unsigned int i = 0; i < count; i++) {
		if (!error && snapshots[i].file)
			oracle_synced(&snapshots[i], !from_root);
		oracle_snapshot_free(&snapshots[i]);
	}
	free(snapshots);
}
