/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a filesystem has promised so far, for a small tree: each file's bytes and each directory's names, as
 * acknowledged (`now`) and as durable, with every operation since that a crash may have kept or lost.
 *
 * Content. Changes to one file are made one after the other. A byte is 0 .. 255, or ORACLE_EOF behind the end. After a
 * crash it is the durable one or what any later change would make of it; and a block that was only written to is
 * whole: all of it is as it was after one change.
 *
 * Attributes (oracle_attr.h). Each changes in an order of its own; after a crash it is the durable one or a later one.
 *
 * Names. A change of names starts and ends at ticks of the oracle's clock; changes to one name or to one inode's links
 * are made one after the other, others overlap. After a crash there is one moment such that every change that had
 * ended before it is there, none that began after it, and each one between wholly or not at all.
 */
#ifndef SIM_ORACLE_H
#define SIM_ORACLE_H

#include "oracle_attr.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#define ORACLE_EOF (-1)
#define ORACLE_NAMES 7 /* in each directory; oracle_name() */
#define ORACLE_FILE_MAX (400u << 10) /* bytes */

enum oracle_kind { ORACLE_WRITE, ORACLE_ZERO, ORACLE_TRUNCATE, ORACLE_COPY };

struct oracle_change {
	enum oracle_kind kind;
	uint32_t id; /* 1, 2, … of this file since the mount, in order */
	uint32_t salt; /* never the same again: what it writes is known from what any other change wrote */
	uint64_t offset, end; /* TRUNCATE: end is the new size */
	bool extends; /* ZERO: to `end`, if the file is shorter; a WRITE and a COPY always do */
	uint8_t *bytes; /* COPY: what was there to be copied */
	bool failed; /* what was made of it is anyone's guess */
};

struct oracle_file {
	uint64_t inode; /* 0: its creation has not returned */
	mode_t type; /* S_IFMT */
	bool directory;
	unsigned int index; /* among all files of the oracle */
	int links; /* names, as acknowledged */
	bool whiteout; /* a device of number 0 */
	bool linkable; /* made without a name, and may be given one */
	/* who uses it just now, for the actors to keep out of each other's way */
	bool changing; /* its content */
	bool linking; /* its names and attributes */
	bool exclusive; /* about to go, or gone from memory for a moment */
	unsigned int users;
	uint64_t lookups; /* that the filesystem counts for us */
	struct oracle_attr attrs[ORACLE_ATTRS];
	/* a directory */
	struct oracle_file *parent;
	bool visible; /* was found after the mount */
	struct oracle_entry {
		struct oracle_file *file; /* NULL: no such name */
		struct oracle_file *base; /* at the last mount */
		bool reserved;
		uint32_t version;
	} entries[ORACLE_NAMES];
	uint64_t size; /* a symlink's: of its target */
	/* a regular file */
	size_t room; /* of the arrays; behind it everything is EOF and durably so */
	int16_t *now, *durable;
	uint32_t *durable_id; /* [b]: durable[b] holds every change up to this one */
	struct oracle_change *changes;
	uint32_t count; /* of changes; the last one may not have returned */
	uint32_t returned;
	uint32_t salts;
};

struct oracle_move { /* one name's change */
	struct oracle_file *dir;
	int name;
	struct oracle_file *from, *to; /* NULL: no such name */
};

struct oracle_naming {
	uint64_t start, end; /* ticks; end 0: has not returned */
	struct oracle_move moves[2];
	int count;
	bool required; /* to be found after a crash */
	bool done; /* false at the end: refused, nothing changed */
	bool found; /* after a crash */
	struct oracle_file *brought; /* the file that replaced another: its content up to this change comes with it */
	uint32_t brought_id;
	int16_t *brought_bytes;
	size_t brought_room;
};

struct oracle {
	struct oracle_file *root;
	struct oracle_file **files; /* all since the start; a nameless one may be dead */
	unsigned int count;
	struct oracle_naming **namings; /* since the mount */
	size_t naming_count;
	uint64_t clock;
};

const char *oracle_name(int name);
int oracle_name_of(const char *text); /* -1: none of ours */

void oracle_init(struct oracle *oracle, uint64_t root_inode);
/* Its attributes are the caller's to tell. */
struct oracle_file *oracle_new_file(struct oracle *oracle, mode_t type);
/* A file (not a dead one) by its inode; NULL. */
struct oracle_file *oracle_find(struct oracle *oracle, uint64_t inode);

/* ---- content ---- */

uint8_t oracle_pattern(const struct oracle_file *file, uint32_t id, uint64_t offset);
/* A change begins: its id. */
uint32_t oracle_change_begin(struct oracle_file *file, enum oracle_kind kind, uint64_t offset, uint64_t end,
			     bool extends);
/* A copy begins, of what `from` holds from from_offset on: nothing changes that meanwhile. */
void oracle_copy_begin(struct oracle_file *file, const struct oracle_file *from, uint64_t from_offset, uint64_t offset,
		       uint64_t end);
/* It has returned. `durable`: its bytes are. */
void oracle_change_end(struct oracle_file *file, bool durable);
/* It has failed: what is there now tells which bytes it has changed; `data` is the whole file. */
void oracle_change_failed(struct oracle_file *file, const unsigned char *data, uint64_t size);

/* The content at one moment: for a read or an fsync that runs beside changes. */
struct oracle_snapshot {
	struct oracle_file *file;
	uint64_t offset;
	size_t length;
	int16_t *bytes; /* [i]: of offset + i */
	uint32_t id; /* the last change that had returned */
	uint32_t attrs[ORACLE_ATTRS];
};
void oracle_snapshot(struct oracle_file *file, uint64_t offset, size_t length, struct oracle_snapshot *snapshot);
void oracle_snapshot_free(struct oracle_snapshot *snapshot);
/* A read of the snapshot's range gave these bytes: fails the run unless each is of then or of a change since. */
void oracle_check_read(const struct oracle_snapshot *snapshot, const unsigned char *data, size_t got);
/* An fsync that began at the snapshot (of the whole file) has returned; without `attrs` it was an fdatasync. */
void oracle_synced(const struct oracle_snapshot *snapshot, bool attrs);

/* ---- names ---- */

struct oracle_naming *oracle_naming_begin(struct oracle *oracle);
void oracle_naming_move(struct oracle_naming *naming, struct oracle_file *dir, int name, struct oracle_file *to);
/* Returned: with `done` the names are as the moves say, else nothing has changed. */
void oracle_naming_end(struct oracle *oracle, struct oracle_naming *naming, bool done);
/* A sync of `file` (of everything: NULL) that began at tick `start` has returned. */
void oracle_names_synced(struct oracle *oracle, const struct oracle_file *file, uint64_t start);

/* ---- after a mount ---- */

/* What is found there: names[index of directory][name] as inodes, 0: none. */
struct oracle_found {
	uint64_t (*names)[ORACLE_NAMES];
	unsigned int count;
};
/*
 * Names as found must be explained (crashed: by one moment; else: exactly as acknowledged). Binds inodes to files whose
 * creation had not returned, and takes the names for the new state. Then each file that has a name is to be
 * checked with oracle_check_content(), and oracle_settle() ends it.
 */
void oracle_check_names(struct oracle *oracle, const struct oracle_found *found, bool crashed);
void oracle_check_content(struct oracle_file *file, const unsigned char *data, uint64_t size, bool crashed);
void oracle_settle(struct oracle *oracle);

#endif
