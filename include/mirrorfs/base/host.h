/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which machine this is, to others that share a disk with it. */
#ifndef MIRRORFS_BASE_HOST_H
#define MIRRORFS_BASE_HOST_H

#include <stdint.h>

#define HOST_NAME_SIZE 52

struct host {
	uint8_t machine[16]; /* follows from its machine-id, which it does not tell; zero: not known */
	uint8_t boot[16]; /* of the running kernel; zero: not known */
	char name[HOST_NAME_SIZE]; /* for people */
};

/* Reads files of /etc and /proc: before that is forbidden. What cannot be read stays zero. */
void host_this(struct host *host);

#endif
