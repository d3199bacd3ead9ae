/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The words behind -o, and sizes, as every tool reads them. */
#ifndef MIRRORFS_TOOLS_OPTIONS_H
#define MIRRORFS_TOOLS_OPTIONS_H

#include "mirrorfs/base/error.h"
#include "mirrorfs/front.h"
#include "mirrorfs/fs.h"
#include "mirrorfs/leg.h"
#include "mirrorfs/mirror.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct mount_options {
	bool read_only;
	bool degraded;
	bool takeover; /* of claims of other machines */
	bool discard;
	bool network; /* legs elsewhere may be attached later */
	bool block_device; /* the mount is one of the first leg's device */
	uint64_t wait_ns; /* for a leg that is late or still locked */
	uint64_t commit_ns; /* 0: the default of meta, and so on below */
	uint64_t leg_timeout_ns;
	uint64_t deadline_ns;
	uint64_t heartbeat_ns;
	uint64_t cache_bytes;
	enum leg_engine engine;
	enum front_transport transport;
	enum mirror_read_policy policy;
	unsigned int write_mostly; /* mask of legs */
	struct fs_atime_options atime;
	bool atime_given; /* one of its words was there */
	enum front_latency cpu_latency;
	unsigned int cpu_latency_us;
	unsigned int poll_us;
	unsigned int iolog_msec;
	char iolog[1024]; /* prefix; "" none */
	char notify[4096]; /* program; "" none */
	char leg[1024]; /* where the other leg is; "" not said */
	bool sync, dirsync; /* of these: names are durable at once */
	char kernel[512]; /* words that are the kernel's, comma separated */
};

void options_init(struct mount_options *options);
/* Reads the comma-separated words of one -o; a comma in a value is written "\,". 0, or -EINVAL with `error` told. */
int options_parse(struct mount_options *options, const char *text, struct error *error);
void options_help(FILE *out);

/* "512", "64K", "10M", "4G", "1T": powers of 1024. False: not a size. */
bool options_size(const char *text, uint64_t *bytes);

#endif
