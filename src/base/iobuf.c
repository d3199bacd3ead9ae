/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The pool of I/O buffers. Freed buffers stay on a list for their size, counted against the limit only while
 * in use; when a new size is asked for and idle buffers would take the pool over its limit, idle ones go back
 * to the system. The spare ones stay, and serve only while the system has no memory for another one.
 */
#include "mirrorfs/base/iobuf.h"

#include "mirrorfs/base/sync.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#define CLASSES 9 /* 4 KiB << 0 .. 8 */

struct iobuf_pool {
	struct mutex lock;
	struct cond freed;
	struct iobuf *idle[CLASSES];
	struct iobuf *spare[CLASSES]; /* NULL: in use, or there is none */
	size_t idle_bytes;
	size_t used_bytes;
	size_t limit_bytes;
	size_t abandoned_bytes;
	size_t abandon_limit_bytes;
	unsigned long waits;
};

static int class_of(size_t size)
{
	int class = 0;

	assert(size > 0 && size <= IOBUF_MAX);
	while (((size_t)IOBUF_ALIGN << class) < size)
		class ++;
	return class;
}

static void unmap(struct iobuf *buf)
{
	munmap(buf->data, buf->size);
	free(buf);
}

struct iobuf_pool *iobuf_pool_create(size_t limit_bytes, size_t abandon_bytes)
{
	struct iobuf_pool *pool = calloc(1, sizeof(*pool));

	if (!pool)
		return NULL;
	assert(limit_bytes >= IOBUF_MAX);
	mutex_init(&pool->lock, RANK_POOL);
	cond_init(&pool->freed);
	pool->limit_bytes = limit_bytes;
	pool->abandon_limit_bytes = abandon_bytes;
	return pool;
}

void iobuf_pool_destroy(struct iobuf_pool *pool)
{
	if (!pool)
		return;
	assert(!pool->used_bytes && !pool->abandoned_bytes);
	for (int i = 0; i < CLASSES; i++) {
		while (pool->idle[i]) {
			struct iobuf *buf = pool->idle[i];

			pool->idle[i] = buf->next;
			unmap(buf);
		}
		if (pool->spare[i])
			unmap(pool->spare[i]);
	}
	cond_fini(&pool->freed);
	mutex_fini(&pool->lock);
	free(pool);
}

static struct iobuf *map(struct iobuf_pool *pool, int class)
{
	struct iobuf *buf = calloc(1, sizeof(*buf));

	if (!buf)
		return NULL;
	buf->size = (size_t)IOBUF_ALIGN << class;
	buf->pool = pool;
	buf->data = mmap(NULL, buf->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (buf->data != MAP_FAILED)
		return buf;
	free(buf);
	return NULL;
}

int iobuf_pool_spare(struct iobuf_pool *pool)
{
	int error = 0;

	for (int i = 0; i < CLASSES; i++) {
		struct iobuf *buf = map(pool, i);

		if (!buf)
			return -ENOMEM;
		buf->spare = true;
		if (mlock(buf->data, buf->size) && !error)
			error = -errno;
		mutex_lock(&pool->lock);
		pool->spare[i] = buf;
		mutex_unlock(&pool->lock);
	}
	return error;
}

/* Gives idle buffers back until `bytes` more fit under the limit. Lock held. */
static void trim(struct iobuf_pool *pool, size_t bytes)
{
	for (int i = CLASSES - 1; i >= 0; i--) {
		while (pool->idle[i] && pool->used_bytes + pool->idle_bytes + bytes > pool->limit_bytes) {
			struct iobuf *buf = pool->idle[i];

			pool->idle[i] = buf->next;
			pool->idle_bytes -= buf->size;
			unmap(buf);
		}
	}
}

/* What a kept buffer leaves to those whom its holder may wait for. A pool of tests may be too small for that. */
static size_t kept_limit(const struct iobuf_pool *pool)
{
	return pool->limit_bytes < 2 * IOBUF_MAX ? pool->limit_bytes : pool->limit_bytes - IOBUF_MAX;
}

static struct iobuf *take(struct iobuf_pool *pool, int class, size_t limit_bytes, bool spare)
{
	size_t size = (size_t)IOBUF_ALIGN << class;
	struct iobuf *buf = pool->idle[class];

	if (pool->used_bytes + size > limit_bytes)
		return NULL;
	if (buf) {
		pool->idle[class] = buf->next;
		pool->idle_bytes -= size;
	} else {
		trim(pool, size);
		buf = map(pool, class);
	}
	if (!buf && spare) {
		buf = pool->spare[class];
		pool->spare[class] = NULL;
	}
	if (!buf)
		return NULL;
	pool->used_bytes += size;
	buf->refs = 1;
	buf->abandoned = false;
	buf->next = NULL;
	return buf;
}

static struct iobuf *get(struct iobuf_pool *pool, size_t size, size_t limit_bytes)
{
	int class = class_of(size);
	struct iobuf *buf;

	mutex_lock(&pool->lock);
	while (!(buf = take(pool, class, limit_bytes, true))) {
		pool->waits++;
		cond_wait(&pool->freed, &pool->lock);
	}
	mutex_unlock(&pool->lock);
	return buf;
}

static struct iobuf *try_get(struct iobuf_pool *pool, size_t size, size_t limit_bytes)
{
	struct iobuf *buf;

	mutex_lock(&pool->lock);
	buf = take(pool, class_of(size), limit_bytes, true);
	mutex_unlock(&pool->lock);
	return buf;
}

struct iobuf *iobuf_get(struct iobuf_pool *pool, size_t size)
{
	return get(pool, size, pool->limit_bytes);
}

struct iobuf *iobuf_try_get(struct iobuf_pool *pool, size_t size)
{
	return try_get(pool, size, pool->limit_bytes);
}

struct iobuf *iobuf_get_kept(struct iobuf_pool *pool, size_t size)
{
	return get(pool, size, kept_limit(pool));
}

struct iobuf *iobuf_try_get_kept(struct iobuf_pool *pool, size_t size)
{
	return try_get(pool, size, kept_limit(pool));
}

struct iobuf *iobuf_try_get_early(struct iobuf_pool *pool, size_t size)
{
	struct iobuf *buf = NULL;

	mutex_lock(&pool->lock);
	if (pool->limit_bytes >= 4 * IOBUF_MAX)
		buf = take(pool, class_of(size), pool->limit_bytes / 2, false);
	mutex_unlock(&pool->lock);
	return buf;
}

void iobuf_ref(struct iobuf *buf)
{
	mutex_lock(&buf->pool->lock);
	assert(buf->refs > 0);
	buf->refs++;
	mutex_unlock(&buf->pool->lock);
}

void iobuf_put(struct iobuf *buf)
{
	struct iobuf_pool *pool;

	if (!buf)
		return;
	pool = buf->pool;
	mutex_lock(&pool->lock);
	assert(buf->refs > 0);
	if (--buf->refs == 0) {
		int class = class_of(buf->size);

		if (buf->abandoned)
			pool->abandoned_bytes -= buf->size;
		else
			pool->used_bytes -= buf->size;
		if (buf->spare) {
			pool->spare[class] = buf;
		} else {
			buf->next = pool->idle[class];
			pool->idle[class] = buf;
			pool->idle_bytes += buf->size;
		}
		cond_broadcast(&pool->freed);
	}
	mutex_unlock(&pool->lock);
}

bool iobuf_abandon(struct iobuf *buf)
{
	struct iobuf_pool *pool = buf->pool;
	bool room;

	mutex_lock(&pool->lock);
	if (!buf->abandoned) {
		buf->abandoned = true;
		pool->used_bytes -= buf->size;
		pool->abandoned_bytes += buf->size;
		cond_broadcast(&pool->freed);
	}
	room = pool->abandoned_bytes < pool->abandon_limit_bytes;
	mutex_unlock(&pool->lock);
	return room;
}

bool iobuf_reserve_full(struct iobuf_pool *pool)
{
	bool full;

	mutex_lock(&pool->lock);
	full = pool->abandoned_bytes >= pool->abandon_limit_bytes;
	mutex_unlock(&pool->lock);
	return full;
}

void iobuf_pool_stats(struct iobuf_pool *pool, struct iobuf_stats *stats)
{
	mutex_lock(&pool->lock);
	stats->used_bytes = pool->used_bytes;
	stats->abandoned_bytes = pool->abandoned_bytes;
	stats->limit_bytes = pool->limit_bytes;
	stats->waits = pool->waits;
	mutex_unlock(&pool->lock);
}
