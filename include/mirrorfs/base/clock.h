/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Time and randomness, by way of the world in force (world.h). Any thread; none of these waits. */
#ifndef MIRRORFS_BASE_CLOCK_H
#define MIRRORFS_BASE_CLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NSEC_PER_SEC UINT64_C(1000000000)
#define NSEC_PER_MSEC UINT64_C(1000000)
#define CLOCK_NEVER UINT64_MAX
#define CLOCK_SECONDS_MAX 86400.0

/* Nanoseconds since some fixed moment; monotonic, does not count a suspended machine. */
uint64_t clock_now_ns(void);
/* The same, but it counts a suspended machine as well. */
uint64_t clock_boot_ns(void);

/* What a file's timestamp shows: seconds since 1970 and nanoseconds below 1e9. */
void clock_wall(int64_t *seconds, uint32_t *nanoseconds);

/* A time as people write it: "2.5", in seconds, `least` and a day at most. False: it is not one. */
bool clock_seconds(const char *text, double least, uint64_t *ns);

void random_bytes(void *buffer, size_t length);
uint64_t random_u64(void);

#endif
