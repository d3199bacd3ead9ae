/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is agreed with the kernel at INIT. Debian's libfuse answers without PARALLEL_DIROPS and HANDLE_KILLPRIV_V2 and
 * cannot be told to; without the latter each write(2) asks for security.capability first. So its answer is
 * replaced here.
 *
 * Nothing is agreed that the kernel did not offer: an older kernel gets less.
 */
#include "front_private.h"

#include "mirrorfs/base/log.h"

#include <errno.h>
#include <string.h>

/* Newer than the kernel's headers may be. */
#define OVER_IO_URING (UINT64_C(1) << 41) /* Linux 6.14 */

#define LINUX_6_1 ((UINT64_C(1) << 34) - 1) /* all flags that it may offer */

#define BACKGROUND_PER_WORKER 4 /* readahead and direct requests in flight before the kernel holds more back */

/*
 * Left out on purpose: ATOMIC_O_TRUNC (the kernel would not learn that the truncation took setuid away),
 * WRITEBACK_CACHE (a full disk would show at close only), AUTO_INVAL_DATA (nobody else changes the files, and it would
 * win over EXPLICIT_INVAL_DATA), the SPLICE flags (slower than copying), POSIX_LOCKS and FLOCK_LOCKS (the kernel's own
 * suffice with one kernel).
 */
static const uint64_t wanted = FUSE_INIT_EXT | OVER_IO_URING | FUSE_ASYNC_READ | FUSE_EXPORT_SUPPORT | FUSE_BIG_WRITES |
			       FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO | FUSE_ASYNC_DIO | FUSE_PARALLEL_DIROPS |
			       FUSE_ABORT_ERROR | FUSE_MAX_PAGES | FUSE_CACHE_SYMLINKS | FUSE_EXPLICIT_INVAL_DATA |
			       FUSE_HANDLE_KILLPRIV_V2 | FUSE_POSIX_ACL | FUSE_DONT_MASK | FUSE_SETXATTR_EXT;

/* All that the kernel has; whatever is newer than some kernel goes through here. */
static uint64_t offered(const struct front *front, const struct fuse_init_in *in)
{
	uint64_t flags = in->flags & FUSE_INIT_EXT ? (uint64_t)in->flags2 << 32 | in->flags : in->flags;

	return front->old_kernel ? flags & LINUX_6_1 : flags;
}

/* What each thread can have of the memory for requests: a power of two, so that they go on where one ended. */
static size_t longest(size_t buffer_bytes, unsigned int threads)
{
	size_t bytes = FRONT_IO_MAX;

	while (bytes > FRONT_IO_LEAST && bytes * threads > buffer_bytes)
		bytes /= 2;
	return bytes;
}

void init_answer(struct front *front, const struct fuse_init_in *in, struct fuse_init_out *out)
{
	unsigned int background = front->threads * BACKGROUND_PER_WORKER;
	uint64_t agreed = offered(front, in) & wanted;
	int error = 0;

	if (front->transport == FRONT_CLASSIC)
		agreed &= ~OVER_IO_URING;
	/* The rings must be there before the kernel hears of it: from then on it waits for them. */
	if (agreed & OVER_IO_URING)
		error = rings_create(front);
	if (error) {
		log_warn("no FUSE over io_uring: %s", error == -E2BIG ?
			 "its buffers for so many processors take more memory: a larger -o cache gives it" :
			 strerror(-error));
		agreed &= ~OVER_IO_URING;
	}
	front->agreed = agreed;
	front->kernel_minor = in->minor;
	front->negotiated = true;
	front->io_max = longest(front->buffer_bytes, front->ring_count ? front->ring_entries : front->threads);
	out->flags = (uint32_t)agreed;
	out->flags2 = (uint32_t)(agreed >> 32);
	out->max_background = (uint16_t)background;
	out->congestion_threshold = (uint16_t)(background * 3 / 4);
	out->max_write = (uint32_t)front->io_max;
	out->time_gran = 1;
	if (in->flags & FUSE_MAX_PAGES)
		out->max_pages = (uint16_t)(front->io_max / 4096);
}
