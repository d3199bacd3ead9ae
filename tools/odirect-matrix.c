/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Every shape of O_DIRECT request that a program may make of a file, and some that it should not: memory alignment x
 * file offset x length x call, also at and across the end of the file. Each answer is held against a copy of the file
 * in memory; whatever surrounds the buffer must be untouched; after each write the neighbourhood is read back.
 *
 * A child makes the requests and tells of each end through a pipe. The parent only waits for the next one, so a
 * request that nobody answers is seen even where no signal would end it.
 */
#include "mirrorfs/base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE ((size_t)4096)
#define MIB ((size_t)1 << 20)
#define BASES 64 /* places in the file where the offsets begin, by turns: so that no cache has seen them all */
#define BASE_STEP (MIB * 5 / 8)
#define FILE_BYTES (BASES * BASE_STEP + 3 * MIB + 777) /* its end lies in the middle of a sector */
#define ROOM_BYTES (FILE_BYTES + 2 * MIB) /* what a write across the end may need */
#define VECTORS 1024 /* IOV_MAX */
#define GAP ((size_t)64) /* between two vectors, so that they are no single buffer in disguise */
#define ARENA_BYTES (4 * PAGE + MIB + 1 + VECTORS * GAP + PAGE)
#define GUARD 0xa5
#define PATIENCE_SECONDS 30

enum { ALL_RIGHT = 0, SOME_WRONG = 1, USAGE = 2 };

static const size_t alignments[] = { 1, 4, 16, 32, 511, 512, 4096 };
static const size_t lengths[] = { 0, 1, 333, 511, 512, 777, 4095, 4096, 65537, MIB + 1 };
static const size_t offsets[] = { 0, 1, 333, 511, 512, 777, 4095, 4096, 65537, MIB + 1 }; /* behind a base */
/* Across the end of the file, at it, behind it. */
static const size_t ends[] = { FILE_BYTES - 4096, FILE_BYTES - 333, FILE_BYTES - 1, FILE_BYTES, FILE_BYTES + 512 };

/* How the memory of a request is cut, over and over until its length is reached. */
struct shape {
	const char *name;
	size_t pieces[3];
	int count; /* 0: one buffer, the calls without a vector */
};
static const struct shape shapes[] = {
	{ "", { 0 }, 0 },
	{ " 4+4092", { 4, 4092 }, 2 },
	{ " 1+511+3584", { 1, 511, 3584 }, 3 },
	{ " 2048+0+2048", { 2048, 0, 2048 }, 3 },
};

struct request {
	bool write;
	const struct shape *shape;
	size_t alignment, offset, length;
};

struct matrix {
	int fd;
	bool refusal_allowed; /* EINVAL is an answer: some other filesystem */
	bool failing; /* both legs fail: EIO is the answer */
	bool write_failed; /* so the volume may have turned read-only */
	unsigned char *shadow; /* what the file holds */
	bool *unsure; /* where a write failed: may hold the old bytes or the new */
	size_t size; /* how much of it */
	unsigned char *arena; /* guards, and the request's memory among them */
	unsigned char *aligned; /* to read back with */
	struct iovec vectors[VECTORS];
	int vector_count;
	unsigned int stamp; /* each write brings bytes of its own */
	unsigned int base; /* of the next request */
	unsigned long right, refused, failed;
	uint64_t slowest_ns;
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static unsigned char content(size_t offset, unsigned int stamp)
{
	uint64_t mixed = (offset + 1) * UINT64_C(0x9e3779b97f4a7c15) + stamp * UINT64_C(0xd1342543de82ef95);

	return (unsigned char)(mixed >> 56);
}

/* Lays the request's memory out in the arena: so many bytes behind a page's start. */
static void lay_out(struct matrix *m, const struct request *r)
{
	unsigned char *at = m->arena + PAGE + r->alignment;
	size_t left = r->length;
	int piece = 0;

	memset(m->arena, GUARD, ARENA_BYTES);
	m->vector_count = 0;
	do {
		size_t size = r->shape->count ? r->shape->pieces[piece++ % r->shape->count] : left;

		if (size > left)
			size = left;
		m->vectors[m->vector_count++] = (struct iovec){ at, size };
		at += size + GAP;
		left -= size;
	} while (left);
}

static ssize_t carry_out(struct matrix *m, const struct request *r)
{
	off_t offset = (off_t)r->offset;

	if (r->shape->count)
		return r->write ? pwritev(m->fd, m->vectors, m->vector_count, offset) :
				  preadv(m->fd, m->vectors, m->vector_count, offset);
	return r->write ? pwrite(m->fd, m->vectors[0].iov_base, r->length, offset) :
			  pread(m->fd, m->vectors[0].iov_base, r->length, offset);
}

static bool same(const struct matrix *m, const unsigned char *data, size_t offset, size_t length)
{
	if (!m->write_failed)
		return memcmp(data, m->shadow + offset, length) == 0;
	for (size_t i = 0; i < length; i++)
		if (data[i] != m->shadow[offset + i] && !m->unsure[offset + i])
			return false;
	return true;
}

static bool untouched(const unsigned char *from, const unsigned char *to)
{
	/* The first byte is the guard, and each other one is as that before it: far faster than a loop. */
	return from == to || (*from == GUARD && memcmp(from, from + 1, (size_t)(to - from) - 1) == 0);
}

/* True if the first `got` bytes of the vectors are the file's, and every other byte of the arena is a guard. */
static bool memory_is_right(struct matrix *m, const struct request *r, size_t got)
{
	unsigned char *seen = m->arena;
	size_t done = 0;

	for (int i = 0; i < m->vector_count; i++) {
		unsigned char *base = m->vectors[i].iov_base;
		size_t size = m->vectors[i].iov_len;

		if (size > got - done)
			size = got - done;
		if (!same(m, base, r->offset + done, size))
			return false;
		if (!untouched(seen, base))
			return false;
		seen = base + size;
		done += size;
	}
	return done == got && untouched(seen, m->arena + ARENA_BYTES);
}

/* Reads around the range, as aligned as can be, and compares: what was to change has, and nothing else. */
static bool file_is_right(struct matrix *m, size_t offset, size_t length)
{
	size_t start = offset / PAGE * PAGE, end = (offset + length + PAGE) / PAGE * PAGE;
	ssize_t got;

	start = start > PAGE ? start - PAGE : 0;
	got = pread(m->fd, m->aligned, end - start, (off_t)start);
	if (got < 0)
		return false;
	end = end < m->size ? end : m->size;
	if ((size_t)got != (end > start ? end - start : 0))
		return false;
	return same(m, m->aligned, start, (size_t)got);
}

/* NULL: the answer is right. */
static const char *judge_read(struct matrix *m, const struct request *r, ssize_t got, int error)
{
	size_t there = r->offset < m->size ? m->size - r->offset : 0;

	if (got < 0)
		return m->failing && error == EIO ? NULL : "wrong errno";
	if (r->length < there)
		there = r->length;
	/* A write that failed behind the end may have moved it. */
	if ((size_t)got < there || ((size_t)got > there && !m->unsure[m->size]))
		return "wrong length";
	return memory_is_right(m, r, (size_t)got) ? NULL : "wrong data";
}

static const char *judge_write(struct matrix *m, const struct request *r, ssize_t got, int error)
{
	size_t done = 0;

	if (got < 0) {
		bool read_only = m->write_failed && error == EROFS;
		size_t end = r->offset + r->length;

		memset(m->unsure + r->offset, true, r->length);
		if (end > m->size)
			memset(m->unsure + m->size, true, end - m->size);
		m->write_failed = true;
		return m->failing && (error == EIO || read_only) ? NULL : "wrong errno";
	}
	if ((size_t)got != r->length)
		return "wrong length";
	if (r->length == 0)
		return NULL;
	if (m->failing)
		return "acknowledged, though no leg has it";
	if (r->offset > m->size)
		memset(m->shadow + m->size, 0, r->offset - m->size);
	for (int i = 0; i < m->vector_count; i++) {
		memcpy(m->shadow + r->offset + done, m->vectors[i].iov_base, m->vectors[i].iov_len);
		done += m->vectors[i].iov_len;
	}
	if (r->offset + r->length > m->size)
		m->size = r->offset + r->length;
	return file_is_right(m, r->offset, r->length) ? NULL : "wrong data";
}

static void run_one(struct matrix *m, const struct request *r)
{
	const char *wrong;
	uint64_t start_ns, took_ns;
	ssize_t got;
	int error;

	lay_out(m, r);
	if (r->write) {
		m->stamp++;
		for (size_t i = 0, done = 0; i < (size_t)m->vector_count; done += m->vectors[i++].iov_len)
			for (size_t j = 0; j < m->vectors[i].iov_len; j++)
				((unsigned char *)m->vectors[i].iov_base)[j] = content(done + j, m->stamp);
	}
	printf("%s%s%s align %zu offset %zu length %zu: ", r->write ? "pwrite" : "pread", r->shape->count ? "v" : "",
	       r->shape->name, r->alignment, r->offset, r->length);
	fflush(stdout);

	start_ns = clock_now_ns();
	errno = 0;
	got = carry_out(m, r);
	error = errno;
	took_ns = clock_now_ns() - start_ns;
	if (took_ns > m->slowest_ns)
		m->slowest_ns = took_ns;

	if (got < 0 && error == EINVAL && m->refusal_allowed) {
		m->refused++;
		puts("refused");
		return;
	}
	wrong = (r->write ? judge_write : judge_read)(m, r, got, error);
	m->right += !wrong;
	m->failed += wrong != NULL;
	printf("%s%s%s%zd%s%s, %.1f ms\n", wrong ? "FAIL " : "ok ", wrong ? wrong : "", wrong ? ": " : "", got,
	       got < 0 ? " " : "", got < 0 ? strerror(error) : "", (double)took_ns / 1e6);

	if (m->size != FILE_BYTES) {
		m->size = FILE_BYTES;
		if (ftruncate(m->fd, FILE_BYTES) < 0) {
			printf("FAIL ftruncate: %s\n", strerror(errno));
			m->failed++;
		}
	}
}

/* The requests of one shape and alignment at one offset; tells the parent of the end of each. */
static bool run_lengths(struct matrix *m, struct request *r, size_t offset, bool at_end, int ended)
{
	for (size_t l = 0; l < 2 * COUNT(lengths); l++) {
		r->write = l >= COUNT(lengths);
		r->length = lengths[l % COUNT(lengths)];
		r->offset = at_end ? offset : offset + m->base++ % BASES * BASE_STEP;
		run_one(m, r);
		if (write(ended, "", 1) != 1)
			return false;
	}
	return true;
}

static int run_all(struct matrix *m, int ended)
{
	struct request r = { 0 };

	for (size_t s = 0; s < COUNT(shapes); s++)
		for (size_t a = 0; a < COUNT(alignments); a++) {
			r.shape = &shapes[s];
			r.alignment = alignments[a];
			for (size_t o = 0; o < COUNT(offsets); o++)
				if (!run_lengths(m, &r, offsets[o], false, ended))
					return SOME_WRONG;
			for (size_t o = 0; o < COUNT(ends); o++)
				if (!run_lengths(m, &r, ends[o], true, ended))
					return SOME_WRONG;
		}
	printf("%lu right, %lu refused, %lu failed, slowest %.1f ms\n", m->right, m->refused, m->failed,
	       (double)m->slowest_ns / 1e6);
	return m->failed ? SOME_WRONG : ALL_RIGHT;
}

/* Opens the file, and writes it anew unless the legs are to fail: then an earlier run with -p has written it. */
static int prepare(struct matrix *m, const char *path)
{
	struct statfs fs;
	size_t done = m->failing ? FILE_BYTES : 0;
	int fd;

	m->size = FILE_BYTES;
	for (size_t i = 0; i < FILE_BYTES; i++)
		m->shadow[i] = content(i, 0);
	fd = m->failing ? -1 : open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	while (fd >= 0 && done < FILE_BYTES) {
		ssize_t wrote = pwrite(fd, m->shadow + done, FILE_BYTES - done, (off_t)done);

		if (wrote < 0)
			return -1;
		done += (size_t)wrote;
	}
	if (done < FILE_BYTES || (fd >= 0 && (fsync(fd) < 0 || close(fd) < 0)))
		return -1;
	m->fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (m->fd < 0 || fstatfs(m->fd, &fs) < 0)
		return -1;
	m->refusal_allowed = fs.f_type != FUSE_SUPER_MAGIC;
	return 0;
}

/* The child's life. */
static int work(const char *directory, bool failing, bool prepare_only, int ended)
{
	struct matrix m = { .failing = failing };
	char path[4096];
	int result = ALL_RIGHT;

	m.shadow = calloc(1, ROOM_BYTES);
	m.unsure = calloc(ROOM_BYTES, sizeof(*m.unsure));
	m.arena = aligned_alloc(PAGE, (ARENA_BYTES + PAGE - 1) / PAGE * PAGE);
	m.aligned = aligned_alloc(PAGE, 2 * MIB);
	snprintf(path, sizeof(path), "%s/odirect-matrix.data", directory);
	if (!m.shadow || !m.unsure || !m.arena || !m.aligned || prepare(&m, path) < 0) {
		fprintf(stderr, "odirect-matrix: %s: %s\n", path, strerror(errno));
		return SOME_WRONG;
	}
	if (!prepare_only)
		result = run_all(&m, ended);
	if (!prepare_only && !failing)
		unlink(path);
	return result;
}

/* Waits for the child: for each sign of life so long, and no longer. */
static int watch(pid_t child, int ended, int patience_seconds)
{
	struct pollfd next = { .fd = ended, .events = POLLIN };
	char signs[4096];
	int status;

	for (;;) {
		if (poll(&next, 1, patience_seconds * 1000) == 0) {
			printf("\nFAIL no answer after %d s\n", patience_seconds);
			kill(child, SIGKILL);
			return SOME_WRONG;
		}
		if (read(ended, signs, sizeof(signs)) <= 0)
			break;
	}
	if (waitpid(child, &status, 0) < 0 || !WIFEXITED(status)) {
		printf("\nFAIL the requests were not carried out to their end\n");
		return SOME_WRONG;
	}
	return WEXITSTATUS(status);
}

int main(int argc, char **argv)
{
	bool failing = false, prepare_only = false;
	int patience = PATIENCE_SECONDS, option, pipe_ends[2];
	pid_t child;

	while ((option = getopt(argc, argv, "pt:x")) != -1) {
		if (option == 'p')
			prepare_only = true;
		else if (option == 'x')
			failing = true;
		else if (option != 't' || (patience = (int)strtol(optarg, NULL, 10)) <= 0)
			argc = 0;
	}
	if (argc - optind != 1 || (failing && prepare_only)) {
		fputs("usage: odirect-matrix [-p | -x] [-t SECONDS] DIR\n", stderr);
		return USAGE;
	}
	if (pipe2(pipe_ends, O_CLOEXEC) < 0 || (child = fork()) < 0) {
		perror("odirect-matrix");
		return SOME_WRONG;
	}
	if (child == 0) {
		close(pipe_ends[0]);
		exit(work(argv[optind], failing, prepare_only, pipe_ends[1]));
	}
	close(pipe_ends[1]);
	return watch(child, pipe_ends[0], patience);
}
