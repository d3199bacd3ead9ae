/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A volume with blocks that are bad on both legs. Whatever is read is right or is -EIO; a listing that ends without an
 * error is complete; and where there was an error, the check or the scrub has named something.
 */
#include "level_fs.h"

#include "op_attr.h"
#include "op_fs.h"
#include "report.h"
#include "world.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PIECE 4096u

struct spoilt {
	struct fs_level *level;
	struct oracle_file *dir; /* that is listed */
	bool listed[ORACLE_NAMES];
	unsigned long errors;
};

/* True: it failed as it may. */
static bool failed(struct spoilt *spoilt, const char *what, uint64_t inode, int error)
{
	if (!error)
		return false;
	if (error != -EIO)
		sim_fail("%s of inode %lu: %s", what, (unsigned long)inode, strerror(-error));
	note("%s of inode %lu: %s", what, (unsigned long)inode, strerror(-error));
	spoilt->errors++;
	return true;
}

static bool list_one(void *context, const struct fs_entry *entry)
{
	struct spoilt *spoilt = context;
	int name = oracle_name_of(entry->name);

	if (!strcmp(entry->name, ".") || !strcmp(entry->name, ".."))
		return true;
	if (name < 0 || !spoilt->dir->entries[name].file || spoilt->dir->entries[name].file->inode != entry->inode)
		sim_fail("directory %lu lists %s as inode %lu", (unsigned long)spoilt->dir->inode, entry->name,
			 (unsigned long)entry->inode);
	if (spoilt->listed[name])
		sim_fail("directory %lu lists %s twice", (unsigned long)spoilt->dir->inode, entry->name);
	spoilt->listed[name] = true;
	return true;
}

static void read_file(struct spoilt *spoilt, const struct oracle_file *file)
{
	struct fs *fs = spoilt->level->machine->fs;

	for (uint64_t at = 0; at < file->size; at += PIECE) {
		size_t length = file->size - at < PIECE ? file->size - at : PIECE;
		unsigned char data[PIECE];
		ssize_t got = fs_read(fs, file->inode, data, length, at);

		if (got < 0 && failed(spoilt, "read", file->inode, (int)got))
			continue;
		if ((size_t)got != length)
			sim_fail("read of inode %lu at %lu: %ld bytes", (unsigned long)file->inode, (unsigned long)at,
				 (long)got);
		for (size_t i = 0; i < length; i++)
			if (data[i] != file->now[at + i])
				sim_fail("inode %lu, byte %lu is %d, was %d", (unsigned long)file->inode,
					 (unsigned long)(at + i), data[i], file->now[at + i]);
	}
}

static void read_target(struct spoilt *spoilt, const struct oracle_file *file)
{
	char target[PATH_MAX], found[PATH_MAX];

	op_target(file, target);
	if (!failed(spoilt, "readlink", file->inode,
		    fs_readlink(spoilt->level->machine->fs, file->inode, found, sizeof(found))) &&
	    strcmp(found, target))
		sim_fail("inode %lu leads to \"%s\", not \"%s\"", (unsigned long)file->inode, found, target);
}

static void read_attrs(struct spoilt *spoilt, const struct oracle_file *file, mode_t mode)
{
	for (int kind = 0; kind < ORACLE_ATTRS; kind++) {
		struct oracle_value now = oracle_attr_now(&file->attrs[kind]);
		unsigned char *bytes;
		ssize_t length = op_attr_read(spoilt->level, file, kind, mode, &bytes);
		bool there = length != -ENODATA;

		if ((length >= 0 || !there || !failed(spoilt, "attribute", file->inode, (int)length)) &&
		    !oracle_value_is(&now, there ? bytes : NULL, (size_t)length))
			sim_fail("attribute %s of inode %lu: %ld bytes, not %zu", oracle_attr_name(kind),
				 (unsigned long)file->inode, (long)length, now.length);
		free(bytes);
	}
}

static void walk(struct spoilt *spoilt, struct oracle_file *dir)
{
	struct fs *fs = spoilt->level->machine->fs;
	bool listed[ORACLE_NAMES], whole;

	memset(spoilt->listed, 0, sizeof(spoilt->listed));
	spoilt->dir = dir;
	whole = !failed(spoilt, "listing", dir->inode, fs_readdir(fs, dir->inode, 0, true, list_one, spoilt));
	memcpy(listed, spoilt->listed, sizeof(listed));
	for (int n = 0; n < ORACLE_NAMES; n++) {
		struct oracle_file *file = dir->entries[n].file;
		struct fs_attr attr;

		if (!file)
			continue;
		if (whole && !listed[n])
			sim_fail("directory %lu has lost name %d without a word", (unsigned long)dir->inode, n);
		if (failed(spoilt, "lookup", dir->inode, fs_lookup(fs, dir->inode, oracle_name(n), &attr)))
			continue;
		if (attr.st.st_ino != file->inode || (attr.st.st_mode & S_IFMT) != file->type ||
		    (!file->directory && (uint64_t)attr.st.st_size != file->size))
			sim_fail("inode %lu is found as %lu, mode %o, %lu bytes", (unsigned long)file->inode,
				 (unsigned long)attr.st.st_ino, attr.st.st_mode, (unsigned long)attr.st.st_size);
		read_attrs(spoilt, file, attr.st.st_mode);
		if (file->directory)
			walk(spoilt, file);
		else if (S_ISLNK(file->type))
			read_target(spoilt, file);
		else if (S_ISREG(file->type))
			read_file(spoilt, file);
	}
}

void fs_check_spoilt(void *state)
{
	struct fs_level *level = state;
	struct spoilt spoilt = { .level = level };
	struct meta_scrub scrub = { .blocks = 0 };
	int error;

	walk(&spoilt, level->oracle.root);
	error = meta_scrub(level->machine->meta, &scrub);
	if (error && error != -EIO)
		sim_fail("meta_scrub: %s", strerror(-error));
	note("spoilt: %lu errors, %lu problems, %lu blocks lost", spoilt.errors, level->machine->problems,
	     (unsigned long)scrub.unrecoverable);
	if (spoilt.errors && !level->machine->problems && !scrub.unrecoverable && !error)
		sim_fail("%lu errors, but neither the check nor the scrub names one", spoilt.errors);
}
