/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "op_attr.h"

#include "report.h"
#include "tally.h"
#include "world.h"

#include "mirrorfs/format/node.h"
#include "mirrorfs/mirror.h"

#include <errno.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <linux/xattr.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIST_USER 1000u /* whom a list names */

/* ---- access lists ---- */

enum { OWNER, USER, GROUP, MASK, OTHERS, ENTRIES };

struct list {
	struct posix_acl_xattr_header header;
	struct posix_acl_xattr_entry entries[ENTRIES];
};

struct access { /* the value of ORACLE_ACCESS, with the list or without it */
	uint32_t mode;
	struct list list;
};

static_assert(sizeof(struct access) == 48, "without gaps");

static void list_follow(struct list *list, uint32_t mode)
{
	list->entries[OWNER].e_perm = mode >> 6 & 7;
	list->entries[MASK].e_perm = mode >> 3 & 7;
	list->entries[OTHERS].e_perm = mode & 7;
}

static struct list list_of(uint32_t mode, unsigned int user)
{
	struct list list = {
		.header.a_version = POSIX_ACL_XATTR_VERSION,
		.entries = {
			[OWNER] = { .e_tag = ACL_USER_OBJ, .e_id = (uint32_t)ACL_UNDEFINED_ID },
			[USER] = { .e_tag = ACL_USER, .e_perm = user & 7, .e_id = LIST_USER },
			[GROUP] = { .e_tag = ACL_GROUP_OBJ, .e_perm = user >> 3 & 7,
				    .e_id = (uint32_t)ACL_UNDEFINED_ID },
			[MASK] = { .e_tag = ACL_MASK, .e_id = (uint32_t)ACL_UNDEFINED_ID },
			[OTHERS] = { .e_tag = ACL_OTHER, .e_id = (uint32_t)ACL_UNDEFINED_ID },
		},
	};

	list_follow(&list, mode);
	return list;
}

static size_t access_now(const struct oracle_file *file, struct access *access)
{
	struct oracle_value value = oracle_attr_now(&file->attrs[ORACLE_ACCESS]);

	memcpy(access, value.bytes, value.length);
	return value.length;
}

void op_attr_root(struct oracle_file *root)
{
	const uint32_t mode = 0755, flags = 0;

	oracle_attr_first(&root->attrs[ORACLE_ACCESS], &mode, sizeof(mode));
	oracle_attr_first(&root->attrs[ORACLE_FLAGS], &flags, sizeof(flags));
}

void op_attr_born(struct oracle_file *file, const struct oracle_file *dir, mode_t mode)
{
	struct oracle_value defaults = oracle_attr_now(&dir->attrs[ORACLE_DEFAULTS]);
	struct oracle_value inherited = oracle_attr_now(&dir->attrs[ORACLE_FLAGS]);
	struct access access = { .mode = mode & 07777 };
	bool listed = defaults.bytes && !S_ISLNK(file->type);
	uint32_t flags = 0;

	if (listed) {
		memcpy(&access.list, defaults.bytes, sizeof(access.list));
		access.mode &= (uint32_t)access.list.entries[OWNER].e_perm << 6 |
			       (uint32_t)access.list.entries[MASK].e_perm << 3 | access.list.entries[OTHERS].e_perm;
		list_follow(&access.list, access.mode);
		tally(TALLY_ACL_INHERITED);
	}
	oracle_attr_first(&file->attrs[ORACLE_ACCESS], &access, listed ? sizeof(access) : sizeof(access.mode));
	if (listed && file->directory)
		oracle_attr_first(&file->attrs[ORACLE_DEFAULTS], defaults.bytes, defaults.length);
	if (inherited.bytes && (file->directory || S_ISREG(file->type)))
		memcpy(&flags, inherited.bytes, sizeof(flags));
	flags &= FS_NODUMP_FL | FS_NOATIME_FL;
	oracle_attr_first(&file->attrs[ORACLE_FLAGS], &flags, sizeof(flags));
}

int op_attr_forbids(const struct oracle_file *file, uint32_t flags)
{
	struct oracle_value value = oracle_attr_now(&file->attrs[ORACLE_FLAGS]);
	uint32_t now;

	memcpy(&now, value.bytes, sizeof(now));
	if (!(now & flags))
		return 0;
	tally(TALLY_FORBIDDEN);
	return -EPERM;
}

/* ---- operations ---- */

/* Ends one on the attribute, which has begun to change if the answer was foretold to be 0. */
static void done(struct fs_level *level, struct oracle_file *file, int kind, int error, int foretold)
{
	note("attribute %d of inode %lu: %s", kind, (unsigned long)file->inode, error ? strerror(-error) : "done");
	if (error != foretold && !fs_level_may_fail(level, error))
		sim_fail("attribute %s of inode %lu: %s where it should be %s", oracle_attr_name(kind),
			 (unsigned long)file->inode, error ? strerror(-error) : "done", strerror(-foretold));
	if (!error)
		oracle_attr_end(&file->attrs[kind]);
}

void op_attr_chmod(struct fs_level *level, struct oracle_file *file, uint32_t mode)
{
	struct fs_attr attr = { .st.st_mode = mode };
	int error, foretold = op_attr_forbids(file, OP_FIXED);
	struct access access;
	size_t length = access_now(file, &access);

	access.mode = mode;
	list_follow(&access.list, mode);
	if (!foretold)
		oracle_attr_begin(&file->attrs[ORACLE_ACCESS], &access, length);
	note("chmod inode %lu to %o …", (unsigned long)file->inode, mode);
	error = fs_setattr(level->machine->fs, file->inode, FS_SET_MODE, &attr);
	if (!error && (attr.st.st_mode & 07777) != mode)
		sim_fail("inode %lu has mode %o after a change to %o", (unsigned long)file->inode, attr.st.st_mode,
			 mode);
	if (!error && length == sizeof(access))
		tally(TALLY_ACL_CHMOD);
	done(level, file, ORACLE_ACCESS, error, foretold);
}

void op_attr_set_list(struct fs_level *level, struct oracle_file *file, int kind, uint32_t mode, unsigned int user)
{
	struct access access = { .mode = mode, .list = list_of(mode, user) };
	int error, foretold = op_attr_forbids(file, OP_FIXED);

	if (!foretold && kind == ORACLE_ACCESS)
		oracle_attr_begin(&file->attrs[kind], &access, sizeof(access));
	else if (!foretold)
		oracle_attr_begin(&file->attrs[kind], &access.list, sizeof(access.list));
	note("list %d of inode %lu, mode %o …", kind, (unsigned long)file->inode, mode);
	error = fs_setxattr(level->machine->fs, file->inode, oracle_attr_name(kind), &access.list, sizeof(access.list),
			    0);
	if (!error)
		tally(TALLY_ACL);
	done(level, file, kind, error, foretold);
}

void op_attr_drop_list(struct fs_level *level, struct oracle_file *file, int kind)
{
	int error, foretold = op_attr_forbids(file, OP_FIXED);
	struct access access;

	access_now(file, &access);
	if (!foretold)
		oracle_attr_begin(&file->attrs[kind], kind == ORACLE_ACCESS ? &access.mode : NULL, sizeof(access.mode));
	note("no list %d of inode %lu …", kind, (unsigned long)file->inode);
	error = fs_removexattr(level->machine->fs, file->inode, oracle_attr_name(kind));
	done(level, file, kind, error, foretold);
}

void op_attr_set_flags(struct fs_level *level, struct oracle_file *file, uint32_t flags)
{
	int error;

	oracle_attr_begin(&file->attrs[ORACLE_FLAGS], &flags, sizeof(flags));
	note("flags of inode %lu, %x …", (unsigned long)file->inode, flags);
	error = fs_setflags(level->machine->fs, file->inode, flags);
	if (!error)
		tally(TALLY_FLAGS);
	done(level, file, ORACLE_FLAGS, error, 0);
}

void op_attr_set(struct fs_level *level, struct oracle_file *file, int kind, const void *bytes, size_t length,
		 int flags)
{
	bool there = oracle_attr_now(&file->attrs[kind]).bytes;
	int error, foretold = op_attr_forbids(file, OP_FIXED);

	if (!foretold && there && flags & XATTR_CREATE)
		foretold = -EEXIST;
	if (!foretold && !there && flags & XATTR_REPLACE)
		foretold = -ENODATA;
	if (!foretold)
		oracle_attr_begin(&file->attrs[kind], bytes, length);
	note("attribute %d of inode %lu, %zu bytes, flags %d …", kind, (unsigned long)file->inode, length, flags);
	error = fs_setxattr(level->machine->fs, file->inode, oracle_attr_name(kind), bytes, length, flags);
	tally(error ? TALLY_XATTR_REFUSED : length > XATTR_PART ? TALLY_XATTR_LONG : TALLY_XATTR_SHORT);
	done(level, file, kind, error, foretold);
}

void op_attr_remove(struct fs_level *level, struct oracle_file *file, int kind)
{
	int error, foretold = op_attr_forbids(file, OP_FIXED);

	if (!foretold && !oracle_attr_now(&file->attrs[kind]).bytes)
		foretold = -ENODATA;
	if (!foretold)
		oracle_attr_begin(&file->attrs[kind], NULL, 0);
	note("no attribute %d of inode %lu …", kind, (unsigned long)file->inode);
	error = fs_removexattr(level->machine->fs, file->inode, oracle_attr_name(kind));
	tally(error ? TALLY_XATTR_REFUSED : TALLY_XATTR_REMOVED);
	done(level, file, kind, error, foretold);
}

void op_attr_relabel(struct fs_level *level, const char *label)
{
	int error;

	oracle_attr_begin(&level->label, label, strlen(label));
	note("label %s …", label);
	error = fs_set_label(level->machine->fs, label);
	note("label: %s", strerror(-error));
	if (error) {
		fs_level_bad(level, "label", 0, error);
		return;
	}
	tally(TALLY_RELABELLED);
	oracle_attr_end(&level->label);
	oracle_attr_synced(&level->label, level->label.now);
}

/* ---- what is there ---- */

static ssize_t read_flags(struct fs_level *level, const struct oracle_file *file, unsigned char *bytes)
{
	uint32_t flags;
	int error = fs_getflags(level->machine->fs, file->inode, &flags);

	if (error)
		return error;
	memcpy(bytes, &flags, sizeof(flags));
	return sizeof(flags);
}

ssize_t op_attr_read(struct fs_level *level, const struct oracle_file *file, int kind, mode_t mode,
		     unsigned char **bytes)
{
	uint32_t bits = mode & 07777;
	size_t before = kind == ORACLE_ACCESS ? sizeof(bits) : 0;
	ssize_t got;

	*bytes = malloc(XATTR_VALUE_MAX + sizeof(bits));
	if (!*bytes)
		sim_fail("no memory");
	if (kind == ORACLE_FLAGS)
		return read_flags(level, file, *bytes);
	memcpy(*bytes, &bits, before);
	got = fs_getxattr(level->machine->fs, file->inode, oracle_attr_name(kind), *bytes + before, XATTR_VALUE_MAX);
	if (got == -ENODATA && before)
		return (ssize_t)before;
	return got < 0 ? got : got + (ssize_t)before;
}

/* Every name is listed once. */
static void check_list(struct fs_level *level, const struct oracle_file *file, const bool there[ORACLE_ATTRS])
{
	char names[ORACLE_ATTRS * 256];
	ssize_t length = fs_listxattr(level->machine->fs, file->inode, names, sizeof(names), true);
	unsigned int seen[ORACLE_ATTRS] = { 0 };

	if (length < 0)
		sim_fail("names of the attributes of inode %lu: %s", (unsigned long)file->inode,
			 strerror((int)-length));
	for (const char *name = names; name < names + length; name += strlen(name) + 1)
		for (int kind = 0; kind < ORACLE_ATTRS; kind++)
			seen[kind] += kind != ORACLE_FLAGS && !strcmp(name, oracle_attr_name(kind));
	for (int kind = 0; kind < ORACLE_ATTRS; kind++)
		if (seen[kind] != there[kind])
			sim_fail("attribute %s of inode %lu is there %d times, and listed %u times",
				 oracle_attr_name(kind), (unsigned long)file->inode, there[kind], seen[kind]);
}

void op_attr_check(struct fs_level *level, struct oracle_file *file, bool mounted, bool crashed)
{
	bool there[ORACLE_ATTRS];
	struct fs_attr attr;
	int error = fs_getattr(level->machine->fs, file->inode, &attr);

	if (error)
		sim_fail("getattr of inode %lu: %s", (unsigned long)file->inode, strerror(-error));
	if ((attr.st.st_mode & S_IFMT) != file->type)
		sim_fail("inode %lu has mode %o, was made as %o", (unsigned long)file->inode, attr.st.st_mode,
			 file->type);
	for (int kind = 0; kind < ORACLE_ATTRS; kind++) {
		struct oracle_value now = oracle_attr_now(&file->attrs[kind]);
		unsigned char *bytes;
		ssize_t length = op_attr_read(level, file, kind, attr.st.st_mode, &bytes);
		const void *found = length < 0 ? NULL : bytes;

		if (length < 0 && length != -ENODATA)
			fs_level_bad(level, "reading of an attribute", file->inode, (int)length);
		else if (mounted ? !oracle_attr_found(&file->attrs[kind], found, (size_t)length, crashed) :
				   !oracle_value_is(&now, found, (size_t)length))
			sim_fail("attribute %s of inode %lu: %ld bytes, mode %o, acknowledged %zu",
				 oracle_attr_name(kind), (unsigned long)file->inode, (long)length,
				 attr.st.st_mode, now.length);
		there[kind] = kind == ORACLE_ACCESS ? length > (ssize_t)sizeof(uint32_t) :
						      kind != ORACLE_FLAGS && length >= 0;
		free(bytes);
	}
	check_list(level, file, there);
}

void op_attr_check_label(struct fs_level *level, bool crashed)
{
	char label[sizeof(((struct mirror_identity *)NULL)->label)];

	fs_get_label(level->machine->fs, label, sizeof(label));
	if (!oracle_attr_found(&level->label, label, strlen(label), crashed))
		sim_fail("the volume is called \"%s\"", label);
}
