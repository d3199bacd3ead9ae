/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the checks (level_fs.c) and the actors (actor_fs.c) of the fs level share. */
#ifndef SIM_LEVEL_FS_H
#define SIM_LEVEL_FS_H

#include "level.h"
#include "oracle.h"

#include "mirrorfs/base/sync.h"

#define FS_ACTORS_MAX 5

struct fs_actor {
	struct fs_level *level;
	struct thread thread;
	struct sim_random random;
	bool running;
};

struct fs_level {
	struct machine *machine;
	struct oracle oracle;
	struct fs_actor actors[FS_ACTORS_MAX];
	int count;
	struct sim_random random;
	struct script *script;
	struct thread meddler;
	bool meddling;
	bool renaming_directory;
	struct oracle_attr label; /* of the volume */
	bool labelling;
};

/* The volume is full; or its disks are, and then it may have turned read-only. */
bool fs_level_may_fail(const struct fs_level *level, int error);
/* An error that was not foreseen: fails the run, but for one that may be. */
void fs_level_bad(struct fs_level *level, const char *what, uint64_t inode, int error);
/* The whole content, malloc'ed. Nobody may be changing it. */
unsigned char *fs_level_read_all(struct fs_level *level, uint64_t inode, uint64_t *size);

/* What the level's check_spoilt does. */
void fs_check_spoilt(void *state);

/* An actor's thread: `arg` is a struct fs_actor. */
void fs_act(void *arg);

#endif
