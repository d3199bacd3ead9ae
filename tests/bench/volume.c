/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "volume.h"

#include "mirrorfs/base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define POOL_BYTES (32u << 20)

struct mirror *mirror;
struct cache *cache;
struct meta *meta;

static struct iobuf_pool *pool;
static uint64_t leg_bytes;
static unsigned char *memory[MIRROR_LEGS]; /* NULL: image files */
static char paths[MIRROR_LEGS][4096];

void must_be_zero(int error, const char *what)
{
	if (!error)
		return;
	fprintf(stderr, "%s: %s\n", what, strerror(error < 0 ? -error : error));
	exit(EXIT_FAILURE);
}

void *shared(size_t bytes)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	must_be_zero(at == MAP_FAILED ? errno : 0, "mmap");
	return at;
}

/* The kernel may still hold what a process had open that is gone. */
static int open_image(const char *path, struct leg **leg, struct error *why)
{
	const struct leg_options options = { .engine = LEG_ENGINE_AUTO };
	int error;

	for (int tries = 0; tries < 1000; tries++) {
		error = leg_open(path, &options, leg, why);
		if (error != -EBUSY)
			break;
		usleep(10000);
	}
	return error;
}

static void open_legs(struct leg *legs[MIRROR_LEGS])
{
	for (int i = 0; i < MIRROR_LEGS; i++) {
		const struct leg_memory_options in_memory = {
			.size_bytes = leg_bytes,
			.block_size = 4096,
			.name = i ? "memory1" : "memory0",
			.bytes = memory[i],
		};
		struct error why = { "cannot open a leg" };

		must_be_zero(memory[i] ? leg_memory_open(&in_memory, &legs[i]) : open_image(paths[i], &legs[i], &why),
			     why.text);
	}
}

static void open_mirror(struct leg *legs[MIRROR_LEGS])
{
	struct mirror_options options = { .policy = MIRROR_POLICY_AUTO };
	struct error why = { "" };

	pool = iobuf_pool_create(POOL_BYTES, POOL_BYTES);
	options.pool = pool;
	must_be_zero(mirror_open(legs, &options, &mirror, &why), why.text);
}

static void close_mirror(void)
{
	if (!mirror_close(mirror))
		abort();
	iobuf_pool_destroy(pool);
}

static void format(void *context)
{
	const struct format_inode root = { .mode = le32_of(S_IFDIR | 0755), .nlink = le32_of(2) };
	struct mirror_identity identity;
	struct leg *legs[MIRROR_LEGS];
	struct error why = { "" };
	uint64_t blocks;

	open_legs(legs);
	must_be_zero(mirror_format(legs, "bench", &identity, &blocks, &why), why.text);
	open_mirror(legs);
	must_be_zero(meta_format(mirror, &root, &why), why.text);
	close_mirror();
}

void volume_make(const char *dir, uint64_t bytes)
{
	leg_bytes = bytes;
	for (int i = 0; i < MIRROR_LEGS; i++) {
		int fd;

		if (!dir) {
			memory[i] = shared(bytes);
			continue;
		}
		snprintf(paths[i], sizeof(paths[i]), "%s/bench-%d-leg%d", dir, (int)getpid(), i);
		fd = open(paths[i], O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		if (fd < 0 || ftruncate(fd, (off_t)bytes))
			must_be_zero(errno, paths[i]);
		close(fd);
	}
	volume_part(format, NULL);
}

void volume_end(void)
{
	for (int i = 0; i < MIRROR_LEGS; i++) {
		if (memory[i])
			munmap(memory[i], leg_bytes);
		else
			unlink(paths[i]);
		memory[i] = NULL;
	}
}

uint64_t volume_mount(uint64_t cache_bytes)
{
	const struct cache_config config = {
		.budget_bytes = cache_bytes,
		.node_floor_percent = 25,
		.dirty_percent = 20,
	};
	struct leg *legs[MIRROR_LEGS];
	struct error why = { "" };
	uint64_t start;

	open_legs(legs);
	start = clock_now_ns();
	open_mirror(legs);
	cache = cache_create(&config);
	must_be_zero(meta_open(mirror, cache, &(struct meta_options){ 0 }, &meta, &why), why.text);
	return clock_now_ns() - start;
}

void volume_unmount(void)
{
	MUST(meta_close(meta));
	cache_destroy(cache);
	close_mirror();
}

void volume_part(void (*part)(void *context), void *context)
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	must_be_zero(pid < 0 ? errno : 0, "fork");
	if (!pid) {
		part(context);
		fflush(stdout);
		_exit(EXIT_SUCCESS);
	}
	if (waitpid(pid, &status, 0) < 0 || status) {
		volume_end();
		exit(EXIT_FAILURE);
	}
}

static struct cache_stats stats_now(void)
{
	struct cache_stats stats;

	cache_stats(cache, &stats);
	return stats;
}

uint64_t node_visits(void)
{
	struct cache_stats stats = stats_now();

	return stats.class[CACHE_NODES].hits + stats.class[CACHE_NODES].misses;
}

uint64_t node_reads(void)
{
	return stats_now().class[CACHE_NODES].misses;
}

uint64_t random_next(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

uint64_t random_below(uint64_t *state, uint64_t limit)
{
	return (uint64_t)((unsigned __int128)random_next(state) * limit >> 64);
}
