/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is agreed with the kernel at INIT. Debian's libfuse answers without PARALLEL_DIROPS and HANDLE_KILLPRIV_V2 and
 * cannot be told to; without the latter each write(2) asks for security.capability first. So its answer is
 * replaced here.
 *
 * Nothing is agreed that the kernel did not offer: an older kernel gets less.
 */
#include "front_private.h"

#define BACKGROUND_PER_WORKER 4 /* readahead and direct requests in flight before the kernel holds more back */

/*
 * Left out on purpose: ATOMIC_O_TRUNC (the kernel would not learn that the truncation took setuid away),
 * WRITEBACK_CACHE (a full disk would show at close only), AUTO_INVAL_DATA (nobody else changes the files, and it would
 * win over EXPLICIT_INVAL_DATA), the SPLICE flags (slower than copying), POSIX_LOCKS and FLOCK_LOCKS (the kernel's own
 * suffice with one kernel).
 */
static const uint32_t wanted = FUSE_ASYNC_READ | FUSE_EXPORT_SUPPORT | FUSE_BIG_WRITES |
			       FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO | FUSE_ASYNC_DIO | FUSE_PARALLEL_DIROPS |
			       FUSE_ABORT_ERROR | FUSE_MAX_PAGES | FUSE_CACHE_SYMLINKS | FUSE_EXPLICIT_INVAL_DATA |
			       FUSE_HANDLE_KILLPRIV_V2 | FUSE_POSIX_ACL | FUSE_DONT_MASK | FUSE_SETXATTR_EXT;

void init_answer(const struct front *front, const struct fuse_init_in *in, struct fuse_init_out *out)
{
	unsigned int background = front->worker_count * BACKGROUND_PER_WORKER;

	out->flags = in->flags & wanted;
	out->flags2 = 0;
	out->max_background = (uint16_t)background;
	out->congestion_threshold = (uint16_t)(background * 3 / 4);
	out->max_write = (uint32_t)front->io_max;
	out->time_gran = 1;
	if (in->flags & FUSE_MAX_PAGES)
		out->max_pages = (uint16_t)(front->io_max / 4096);
}
