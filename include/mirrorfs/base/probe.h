/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Static probes (USDT) in the life of a request, for bpftrace, perf and SystemTap: each is one instruction that does
 * nothing, and a note in the program that tells where it is. mirrorfs(8) lists them. Without the header of SystemTap at
 * the build there are none.
 */
#ifndef MIRRORFS_BASE_PROBE_H
#define MIRRORFS_BASE_PROBE_H

#if __has_include(<sys/sdt.h>)
#include <sys/sdt.h>
#define probe2(name, a, b) DTRACE_PROBE2(mirrorfs, name, a, b)
#define probe3(name, a, b, c) DTRACE_PROBE3(mirrorfs, name, a, b, c)
#define probe4(name, a, b, c, d) DTRACE_PROBE4(mirrorfs, name, a, b, c, d)
#else
#define probe2(name, a, b) ((void)(a), (void)(b))
#define probe3(name, a, b, c) ((void)(a), (void)(b), (void)(c))
#define probe4(name, a, b, c, d) ((void)(a), (void)(b), (void)(c), (void)(d))
#endif

#endif
