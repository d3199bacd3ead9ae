/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the fuzzers share. A run forges bytes that the stack reads from disk, makes the checksums above them right, so
 * that what is forged is believed as far as checksums go, and lets the stack have it. Any error is a good answer.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include "mirrorfs/format/super.h"
#include "mirrorfs/fs.h"
#include "mirrorfs/leg.h"
#include "random.h"

#include <stddef.h>

struct fuzz_target {
	const char *name;
	void (*setup)(void); /* once, before all runs; NULL: nothing */
	void (*run)(struct sim_random *random);
	unsigned int batch; /* runs that one process does: 1 if a run changes what setup() has made */
};

extern const struct fuzz_target fuzz_label, fuzz_slot, fuzz_record, fuzz_node, fuzz_image, fuzz_rot, fuzz_loss;

/* A claim about the stack that has turned out false; ends the process, as an assertion would. */
#define fuzz_expect(condition) \
	((condition) ? (void)0 : fuzz_broken(__FILE__, __LINE__, #condition))
void fuzz_broken(const char *file, int line, const char *condition) __attribute__((noreturn));

extern uint64_t fuzz_seed; /* of the run */
void fuzz_accepted(void); /* the stack takes what was forged for good: counted, since only that goes deep */
void fuzz_world(void); /* a fresh world in one thread, from that seed */

/* ---- mutate.c ---- */

/* A number that a programmer may not have thought of, often near `was`. */
uint64_t fuzz_number(struct sim_random *random, uint64_t was);

struct fuzz_field {
	size_t offset, size; /* little-endian, 1, 2, 4 or 8 bytes; any other size: bytes */
};
#define FUZZ_FIELD(type, field) { offsetof(struct type, field), sizeof(((struct type *)0)->field) }
void fuzz_field(struct sim_random *random, void *base, const struct fuzz_field *fields, size_t count);
/* One of `size` bytes or a few of them: flipped, set, or copied from elsewhere among them. */
void fuzz_bytes(struct sim_random *random, void *base, size_t size);

/* ---- volume.c ---- */

enum volume_kind {
	VOLUME_UNMOUNTED,
	VOLUME_CRASHED, /* with records in its ring */
	VOLUME_TALL, /* unmounted; its tree has three levels */
	VOLUME_TALL_CRASHED,
	VOLUME_KINDS,
};
struct volume {
	unsigned char *disk[2];
	uint64_t disk_bytes;
};
extern struct volume volumes[VOLUME_KINDS];
void volumes_make(void);

struct volume_stack {
	struct iobuf_pool *pool;
	struct mirror *mirror;
	struct cache *cache;
	struct meta *meta; /* the user's */
	struct fs *fs; /* the user's */
};
struct leg *volume_leg(const struct volume *volume, int leg); /* opened, the caller's */
/* All below meta. With a `label` it is formatted, as far as the mirror is concerned; NULL: it is not. */
void volume_open(struct volume_stack *stack, const struct volume *volume, const char *label);
void volume_close(struct volume_stack *stack);

#define VOLUME_OBJECTS 60u /* most inodes have a number up to this */
uint64_t volume_blocks(const struct volume *volume); /* of the mirrored space */
/* On disk 0. What is changed there comes to disk 1 with volume_settle(), which has to be told of it. */
void volume_touched(const void *at, size_t bytes);
unsigned char *volume_block(const struct volume *volume, uint64_t block);
struct format_super *volume_super(const struct volume *volume); /* the newest slot */
void volume_seal_super(struct format_super *super);
/* Disk 1 becomes like disk 0, or keeps what it had, or rots. */
void volume_settle(const struct volume *volume, struct sim_random *random);

/* Mounts it, once or twice, and does with it what a user may; expects nothing but to survive. */
void volume_use(const struct volume *volume, struct sim_random *random);

/* A walk at random from the root down; path[0] is the root. Empty if the root is outside. */
#define VOLUME_HEIGHT 12
struct volume_path {
	unsigned char *node[VOLUME_HEIGHT];
	unsigned int slot[VOLUME_HEIGHT]; /* which child was taken */
	unsigned int count;
};
void volume_walk(const struct volume *volume, struct sim_random *random, unsigned int most, struct volume_path *path);
/* Checksums of the nodes of a path, of the pointers to them, and of the slot. */
void volume_seal_path(const struct volume *volume, const struct volume_path *path);

/* ---- forge.c: one change to what lies on disk 0, with the checksums made right ---- */

void forge_slot(const struct volume *volume, struct sim_random *random);
void forge_node(void *node, struct sim_random *random); /* seals nothing */
void forge_tree(const struct volume *volume, struct sim_random *random);
void forge_ring(const struct volume *volume, struct sim_random *random);

#endif
