/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A folder that one worker has for itself, and everything in it as it must be. Files have up to a few hundred kB, and
 * there are some dozens of them; some are open and have no name any more.
 */
#ifndef KNOWN_H
#define KNOWN_H

#include "stress.h"

#include <sys/stat.h>
#include <sys/types.h>

#define KNOWN_NAMES 10 /* in each folder */
#define KNOWN_FILES 60
#define KNOWN_XATTRS 3
#define KNOWN_SIZE_MAX 700000
#define KNOWN_PATH 4096

struct value {
	unsigned char *bytes; /* NULL: none */
	size_t length;
};

struct file {
	mode_t mode; /* with its type */
	nlink_t links; /* names; of a folder: 2, and one for each folder in it */
	int fd; /* open all the time, -1: not */
	struct file *parent; /* a folder's */
	struct file *entries[KNOWN_NAMES]; /* a folder's */
	unsigned char *data; /* of a regular file, KNOWN_SIZE_MAX of room; a symlink's target */
	size_t size;
	struct value xattrs[KNOWN_XATTRS];
	int64_t mtime; /* as it was set, in ns; 0: not known */
	dev_t device;
};

struct known {
	struct worker *worker;
	struct file *files[KNOWN_FILES]; /* [0]: the folder itself */
	unsigned char *piece; /* KNOWN_SIZE_MAX bytes, for data on its way */
};

struct place { /* a name in a folder */
	struct file *dir;
	int name;
};

/* ---- known.c ---- */

static inline uint64_t below(struct known *known, uint64_t n)
{
	return chance_below(&known->worker->chance, n);
}

/* One of a type (S_IFREG, …; 0: any) that has a name; NULL. */
struct file *known_some(struct known *known, mode_t type);
struct place known_place(struct known *known); /* in some folder, taken or free */
struct place known_place_of(struct known *known, const struct file *file); /* one of its names */
const char *known_path(struct place place); /* one of several, for a while */
struct file *known_new(struct known *known, mode_t mode); /* NULL: there are enough */
void known_drop(struct known *known, struct file *file); /* if nothing holds it any more */
/* What a call returned: -1 with errno, or not. Fails the worker unless it is `error` (0: no error). */
void known_expect(struct known *known, const char *what, long result, int error);

/* ---- content.c ---- */

void content_change(struct known *known);
void content_read(struct known *known);
void content_hold(struct known *known); /* one more is open all the time, or one less */
void content_check(struct known *known, struct file *file, int fd); /* all of it */

/* ---- names.c ---- */

void names_create(struct known *known);
void names_remove(struct known *known);
void names_rename(struct known *known);
void names_link(struct known *known);
void names_attribute(struct known *known);
void names_check(struct known *known, struct place place); /* that it is there, and what it is */
void names_list(struct known *known, struct file *dir);

#endif
