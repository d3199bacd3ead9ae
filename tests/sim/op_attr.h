/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The operations of the fs level on attributes, as op_fs.h has those on names and content: each foretells the answer.
 * The links of the file are one's own; a directory's flags and default list change while nobody else is in it, since
 * they decide what becomes of what is made there.
 */
#ifndef SIM_OP_ATTR_H
#define SIM_OP_ATTR_H

#include "level_fs.h"

/* What the root of a volume begins with. */
void op_attr_root(struct oracle_file *root);
/* What a file that is about to be made in `dir` begins with. */
void op_attr_born(struct oracle_file *file, const struct oracle_file *dir, mode_t mode);
/* -EPERM if one of these flags is set; 0. */
int op_attr_forbids(const struct oracle_file *file, uint32_t flags);
#define OP_FIXED ((uint32_t)(FS_IMMUTABLE_FL | FS_APPEND_FL))

void op_attr_chmod(struct fs_level *level, struct oracle_file *file, uint32_t mode);
/* An access list for one user more, whose mode is `mode`; or a directory's default list. */
void op_attr_set_list(struct fs_level *level, struct oracle_file *file, int kind, uint32_t mode, unsigned int user);
/* An access list goes: the mode stays. */
void op_attr_drop_list(struct fs_level *level, struct oracle_file *file, int kind);
/* Whoever changes the content of the file keeps out, too. */
void op_attr_set_flags(struct fs_level *level, struct oracle_file *file, uint32_t flags);
/* `flags` as setxattr(2). */
void op_attr_set(struct fs_level *level, struct oracle_file *file, int kind, const void *bytes, size_t length,
		 int flags);
void op_attr_remove(struct fs_level *level, struct oracle_file *file, int kind);
void op_attr_relabel(struct fs_level *level, const char *label);

/* Its value, in memory from malloc(); length -ENODATA: none; another error. `mode` as fs_getattr() told it. */
ssize_t op_attr_read(struct fs_level *level, const struct oracle_file *file, int kind, mode_t mode,
		     unsigned char **bytes);
/* Every attribute is what it should be: `mounted`, just now, after a crash or not. */
void op_attr_check(struct fs_level *level, struct oracle_file *file, bool mounted, bool crashed);
void op_attr_check_label(struct fs_level *level, bool crashed);

#endif
