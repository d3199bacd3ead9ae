/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A leg whose every answer a test decides: bytes in memory, and a rule that is asked about each request when the leg's
 * thread carries it out. An engine behind the real door of the leg storey; no verdict depends on timing.
 */
#ifndef FAKE_LEG_H
#define FAKE_LEG_H

#include "mirrorfs/leg.h"

#define FAKE_HANG 1 /* a rule's answer: not until disk_release() */

struct disk;
/* 0: carry out; -errno: fail so; FAKE_HANG. On the leg's thread, no lock held. */
typedef int disk_rule(struct disk *disk, const struct leg_io *io, void *context);

/* Zeros that take no memory before they are written, and no time to be given back, whatever malloc is made to do. */
unsigned char *zeroed_create(size_t size);
void zeroed_destroy(unsigned char *bytes, size_t size); /* NULL is allowed */

struct disk *disk_create(const char *name, uint64_t size_bytes);
void disk_destroy(struct disk *disk);	  /* its leg must be closed */
struct leg *disk_open(struct disk *disk); /* closing the leg keeps the bytes */
unsigned char *disk_bytes(struct disk *disk);
void disk_resize(struct disk *disk, uint64_t size_bytes);
void disk_lies_on(struct disk *disk, dev_t filesystem, ino_t file); /* as an image file; before it is opened */

void disk_rule_set(struct disk *disk, disk_rule *rule, void *context); /* NULL: everything works */
void disk_refuse(struct disk *disk, int error);		       /* leg_submit() itself refuses with it; 0 ends that */
void disk_wait_hanging(struct disk *disk, unsigned int count); /* until so many hang */
void disk_release(struct disk *disk, int error);	       /* ends what hangs: 0 carries it out */
unsigned int disk_count(struct disk *disk, enum leg_op op);    /* requests the rule was asked about */
uint64_t disk_last_offset(struct disk *disk, enum leg_op op);
size_t disk_last_length(struct disk *disk, enum leg_op op);
unsigned int disk_last_flags(struct disk *disk, enum leg_op op);
unsigned int disks_open(void); /* legs open now */

#endif
