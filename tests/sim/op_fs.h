/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The operations of the fs level: each tells the oracle what it begins, does it, compares the answer with what the
 * oracle foretells, and tells the oracle what was acknowledged. Who calls has reserved what is changed, so that nobody
 * else changes it meanwhile.
 */
#ifndef SIM_OP_FS_H
#define SIM_OP_FS_H

#include "level_fs.h"

#include <limits.h>
#include <sys/types.h>

/* ---- reservations ---- */

/* The file is in use: it stays known. False: it cannot be. */
bool op_enter(struct oracle_file *file);
void op_leave(struct oracle_file *file);

struct place { /* a name, reserved, with its directory in use */
	struct oracle_file *dir;
	int name;
	struct oracle_entry *entry;
};
bool op_reserve(struct place *place, struct oracle_file *dir, int name);
void op_release(struct place *place);

/* The links of `file` (NULL: none) are one's own until op_link_end(). Others leave a directory that may go alone. */
bool op_link_begin(struct oracle_file *file, bool may_go);
void op_link_end(struct oracle_file *file);

/* The content of a file, in use, is one's own; what changes it ends that. */
bool op_change_begin(struct oracle_file *file);

/* What a symlink is made with and leads to; what a device's number is. */
void op_target(const struct oracle_file *file, char target[PATH_MAX]);
dev_t op_device(const struct oracle_file *file);

/* Nobody has the file any more: what has no name goes. */
void op_forget(struct fs_level *level, struct oracle_file *file);

/* ---- names ---- */

void op_create(struct fs_level *level, struct place *at, mode_t type);
/* The links of what bears the name are one's own. */
void op_remove(struct fs_level *level, struct place *at, bool as_directory);
void op_tmpfile(struct fs_level *level, struct oracle_file *dir);
void op_link(struct fs_level *level, struct oracle_file *file, struct place *at);
void op_rename(struct fs_level *level, struct place *from, struct place *to, unsigned int flags);

/* ---- content ---- */

void op_write(struct fs_level *level, struct oracle_file *file, uint64_t offset, uint64_t end, unsigned int flags);
/* Both are one's own; `from` may be the same. */
void op_copy(struct fs_level *level, struct oracle_file *from, uint64_t from_offset, struct oracle_file *file,
	     uint64_t offset, uint64_t length);
void op_truncate(struct fs_level *level, struct oracle_file *file, uint64_t size);
void op_fallocate(struct fs_level *level, struct oracle_file *file, int mode, uint64_t offset, uint64_t end);
/* The file is in use. */
void op_fsync(struct fs_level *level, struct oracle_file *file, bool data_only);
void op_sync(struct fs_level *level, bool from_root); /* of everything, or of all below the root */

#endif
