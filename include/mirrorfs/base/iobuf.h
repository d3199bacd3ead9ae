/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Buffers for leg I/O: contiguous, aligned to 4096 bytes, counted, from a bounded pool.
 *
 * Every byte that goes to or comes from a leg passes through one of these, never through a caller's own
 * memory: so a caller's alignment cannot reach a leg, a checksum covers bytes that nobody can change
 * meanwhile, and a request that was given up keeps its memory pinned until the kernel returns it.
 *
 * A buffer is freed when its last reference is put. A request in flight holds one; so an abandoned request
 * holds its buffer alone. Such buffers are charged to a reserve of their own (iobuf_abandon), so that a
 * hanging leg does not starve the pool; the reserve is bounded, and a full one refuses new requests.
 */
#ifndef MIRRORFS_BASE_IOBUF_H
#define MIRRORFS_BASE_IOBUF_H

#include <stdbool.h>
#include <stddef.h>

#define IOBUF_ALIGN 4096u
#define IOBUF_MAX (1u << 20) /* the largest buffer, bytes */

struct iobuf_pool;

struct iobuf {
	unsigned char *data; /* aligned to IOBUF_ALIGN */
	size_t size; /* bytes: a power of two, 4 KiB .. IOBUF_MAX */
	/* the pool's own from here on */
	struct iobuf_pool *pool;
	struct iobuf *next;
	unsigned int refs;
	bool abandoned;
	bool spare; /* goes back to these */
};

/* `limit_bytes` bounds buffers in use, `abandon_bytes` the reserve of abandoned ones. NULL: no memory. */
struct iobuf_pool *iobuf_pool_create(size_t limit_bytes, size_t abandon_bytes);
/*
 * Sets 2 MiB aside, beyond the limit: a buffer of each size, for when the system has no memory for one, so that what is
 * to be written can be. 0: locked in memory; -errno: they may be swapped out, or -ENOMEM not be there.
 */
int iobuf_pool_spare(struct iobuf_pool *pool);
/* All buffers must have been put. */
void iobuf_pool_destroy(struct iobuf_pool *pool);

/*
 * A buffer of at least `size` bytes (1 .. IOBUF_MAX), one reference, content undefined. Waits while the pool
 * is at its limit: so hold no buffer while asking for another, and never ask from a completion callback.
 */
struct iobuf *iobuf_get(struct iobuf_pool *pool, size_t size);
/* The same without waiting: NULL where iobuf_get would wait. Any context. */
struct iobuf *iobuf_try_get(struct iobuf_pool *pool, size_t size);
/*
 * For who has to wait for others while the buffer fills: for a tree node to be read, a record to be written, a
 * checkpoint. Those need buffers themselves, of IOBUF_MAX at most, so of a pool that is large enough so much is left
 * to them. Waiting as above.
 */
struct iobuf *iobuf_get_kept(struct iobuf_pool *pool, size_t size);
struct iobuf *iobuf_try_get_kept(struct iobuf_pool *pool, size_t size);

/*
 * For who could do without, and holds it while it waits for others to whom the rest is left: NULL unless half of the
 * pool is free then, and the system has memory; also if the pool is too small for that. Any context.
 */
struct iobuf *iobuf_try_get_early(struct iobuf_pool *pool, size_t size);

void iobuf_ref(struct iobuf *buf); /* any context */
void iobuf_put(struct iobuf *buf); /* any context; NULL is allowed */

/*
 * The caller's request on this buffer was given up while a leg may still use it: charges it to the reserve.
 * Any context; a second call does nothing. True if the reserve still has room afterwards.
 */
bool iobuf_abandon(struct iobuf *buf);
/* True while abandoned buffers fill the reserve: new requests are to be refused. */
bool iobuf_reserve_full(struct iobuf_pool *pool);

struct iobuf_stats {
	size_t used_bytes;
	size_t abandoned_bytes;
	size_t limit_bytes;
	unsigned long waits; /* times iobuf_get had to wait */
};
void iobuf_pool_stats(struct iobuf_pool *pool, struct iobuf_stats *stats);

#endif
