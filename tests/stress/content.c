/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "known.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

struct range {
	size_t offset, length;
};

static bool one_of(struct known *known, uint64_t n)
{
	return below(known, n) == 0;
}

/* Short and odd, or whole blocks; within the file, at its end, behind it. */
static struct range some_range(struct known *known, const struct file *file)
{
	static const size_t lengths[] = { 1, 300, 4096, 10000, 70000, 400000 };
	struct range range = { .length = 1 + below(known, lengths[below(known, 6)]) };

	switch (below(known, 4)) {
	case 0: range.offset = file->size; break;
	case 1: range.offset = below(known, KNOWN_SIZE_MAX); break;
	default: range.offset = below(known, file->size + 1);
	}
	if (one_of(known, 2)) {
		range.offset &= ~(size_t)4095;
		range.length = (range.length + 4095) & ~(size_t)4095;
	}
	if (range.offset >= KNOWN_SIZE_MAX)
		range.offset = KNOWN_SIZE_MAX - 1;
	if (range.length > KNOWN_SIZE_MAX - range.offset)
		range.length = KNOWN_SIZE_MAX - range.offset;
	return range;
}

/* Of some file with content: by a name, or the one that is open. Returns the descriptor, to be ended with done(). */
static struct file *some_content(struct known *known, int flags, int *fd)
{
	struct file *file = known->files[below(known, KNOWN_FILES)];

	if (!file || file->fd < 0)
		file = known_some(known, S_IFREG);
	if (!file)
		return NULL;
	if (known->worker->stress->direct && one_of(known, 2))
		flags |= O_DIRECT;
	if (file->fd >= 0 && (!file->links || one_of(known, 2))) {
		*fd = file->fd;
		return file;
	}
	*fd = open(known_path(known_place_of(known, file)), O_RDWR | flags);
	known_expect(known, "open", *fd, 0);
	return file;
}

static void done(struct file *file, int fd)
{
	if (fd != file->fd)
		close(fd);
}

static void same(struct known *known, const struct file *file, struct range range, const unsigned char *bytes)
{
	size_t at = 0;

	if (!memcmp(file->data + range.offset, bytes, range.length))
		return;
	while (file->data[range.offset + at] == bytes[at])
		at++;
	worker_fail(known->worker, "byte %zu of %zu is %d, should be %d; it was compared from %zu on, %zu bytes",
		    range.offset + at, file->size, bytes[at], file->data[range.offset + at], range.offset,
		    range.length);
}

static void fresh(struct known *known, size_t length)
{
	uint64_t word = 0;

	for (size_t i = 0; i < length; i++) {
		if (i % 8 == 0)
			word = chance_next(&known->worker->chance);
		known->piece[i] = (unsigned char)(word >> i % 8 * 8);
	}
}

static void grown(struct file *file, size_t end)
{
	if (end > file->size)
		file->size = end;
}

/* ---- changes ---- */

static void write_some(struct known *known, struct file *file, int fd)
{
	struct range range = some_range(known, file);
	const bool vector = one_of(known, 4);
	struct iovec parts[2];
	ssize_t written;

	worker_note(known->worker, "write %zu at %zu%s", range.length, range.offset, vector ? ", in two parts" : "");
	fresh(known, range.length);
	parts[0] = (struct iovec){ known->piece, below(known, range.length) };
	parts[1] = (struct iovec){ known->piece + parts[0].iov_len, range.length - parts[0].iov_len };
	written = vector ? pwritev(fd, parts, 2, (off_t)range.offset) :
			   pwrite(fd, known->piece, range.length, (off_t)range.offset);
	known_expect(known, "write", written, 0);
	if ((size_t)written != range.length)
		worker_fail(known->worker, "write of %zu bytes: %zd", range.length, written);
	memcpy(file->data + range.offset, known->piece, range.length);
	grown(file, range.offset + range.length);
}

static void append_some(struct known *known, struct file *file)
{
	size_t length = 1 + below(known, 5000);
	int fd;

	if (!file->links || length > KNOWN_SIZE_MAX - file->size)
		return;
	worker_note(known->worker, "append %zu to %zu", length, file->size);
	fd = open(known_path(known_place_of(known, file)), O_WRONLY | O_APPEND | (one_of(known, 3) ? O_DSYNC : 0));
	known_expect(known, "open to append", fd, 0);
	fresh(known, length);
	if (pwrite(fd, known->piece, length, 0) != (ssize_t)length) /* Linux appends, whatever the offset */
		worker_fail(known->worker, "append: %s", strerror(errno));
	memcpy(file->data + file->size, known->piece, length);
	file->size += length;
	close(fd);
}

static void truncate_some(struct known *known, struct file *file, int fd)
{
	size_t size = one_of(known, 4) ? 0 : below(known, one_of(known, 2) ? file->size + 1 : KNOWN_SIZE_MAX);

	worker_note(known->worker, "truncate %zu to %zu", file->size, size);
	known_expect(known, "ftruncate", ftruncate(fd, (off_t)size), 0);
	if (size < file->size)
		memset(file->data + size, 0, file->size - size);
	file->size = size;
}

static void fallocate_some(struct known *known, struct file *file, int fd)
{
	static const int modes[] = { 0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				     FALLOC_FL_ZERO_RANGE, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE };
	struct range range = some_range(known, file);
	size_t end = range.offset + range.length;
	int mode = modes[below(known, 5)];

	worker_note(known->worker, "fallocate %d, %zu at %zu of %zu", mode, range.length, range.offset, file->size);
	known_expect(known, "fallocate", fallocate(fd, mode, (off_t)range.offset, (off_t)range.length), 0);
	if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE) && range.offset < file->size)
		memset(file->data + range.offset, 0, (end < file->size ? end : file->size) - range.offset);
	if (!(mode & FALLOC_FL_KEEP_SIZE))
		grown(file, end);
}

static void copy_some(struct known *known, struct file *file, int fd)
{
	struct file *from = known_some(known, S_IFREG);
	struct range range;
	loff_t source, target;
	ssize_t got = 1;
	int from_fd;

	if (!from || from == file || !from->size)
		return;
	range = some_range(known, from);
	if (range.offset >= from->size)
		range.offset = 0;
	if (range.length > from->size - range.offset)
		range.length = from->size - range.offset;
	source = (loff_t)range.offset;
	target = one_of(known, 2) ? source : (loff_t)below(known, KNOWN_SIZE_MAX - range.length);
	worker_note(known->worker, "copy %zu from %zu of %zu to %zu of %zu", range.length, range.offset, from->size,
		    (size_t)target, file->size);
	from_fd = open(known_path(known_place_of(known, from)), O_RDONLY);
	known_expect(known, "open to copy", from_fd, 0);
	while (range.length && got > 0) {
		size_t from_at = (size_t)source, at = (size_t)target;

		got = copy_file_range(from_fd, &source, fd, &target, range.length, 0);
		known_expect(known, "copy_file_range", got, 0);
		memmove(file->data + at, from->data + from_at, (size_t)got);
		grown(file, at + (size_t)got);
		range.length -= (size_t)got;
	}
	if (range.length)
		worker_fail(known->worker, "copy_file_range ends %zu bytes early", range.length);
	close(from_fd);
}

/* Also what is read there. */
static void map_some(struct known *known, struct file *file, int fd)
{
	struct range range = some_range(known, file);
	unsigned char *map;

	if (!known->worker->stress->mmap || range.offset >= file->size)
		return;
	if (range.length > file->size - range.offset)
		range.length = file->size - range.offset;
	worker_note(known->worker, "map %zu at %zu of %zu", range.length, range.offset, file->size);
	map = mmap(NULL, file->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	known_expect(known, "mmap", map == MAP_FAILED ? -1 : 0, 0);
	same(known, file, range, map + range.offset);
	if (below(known, 4)) {
		fresh(known, range.length);
		memcpy(map + range.offset, known->piece, range.length);
		memcpy(file->data + range.offset, known->piece, range.length);
	}
	if (one_of(known, 3))
		known_expect(known, "msync", msync(map, file->size, one_of(known, 2) ? MS_SYNC : MS_ASYNC), 0);
	munmap(map, file->size);
}

static void sync_some(struct known *known, int fd)
{
	worker_note(known->worker, "sync");
	if (one_of(known, 20))
		known_expect(known, "syncfs", syncfs(fd), 0);
	else
		known_expect(known, "fsync", one_of(known, 2) ? fsync(fd) : fdatasync(fd), 0);
}

void content_change(struct known *known)
{
	int fd;
	struct file *file = some_content(known, one_of(known, 8) ? O_SYNC : 0, &fd);

	if (!file)
		return;
	file->mtime = 0;
	switch (below(known, 16)) {
	case 0: truncate_some(known, file, fd); break;
	case 1:
	case 2: fallocate_some(known, file, fd); break;
	case 3:
	case 4: copy_some(known, file, fd); break;
	case 5:
	case 6:
	case 7: map_some(known, file, fd); break;
	case 8: sync_some(known, fd); break;
	case 9:
	case 10: append_some(known, file); break;
	default: write_some(known, file, fd);
	}
	done(file, fd);
}

/* ---- looks ---- */

/* What is told to be a hole reads as zeros. */
static void seek_some(struct known *known, struct file *file, int fd)
{
	size_t from = below(known, file->size + 10), until;
	off_t data = lseek(fd, (off_t)from, SEEK_DATA), hole = lseek(fd, (off_t)from, SEEK_HOLE);

	worker_note(known->worker, "seek from %zu of %zu: data at %ld, hole at %ld", from, file->size, (long)data,
		    (long)hole);
	if (from >= file->size) {
		known_expect(known, "lseek behind the end", data, ENXIO);
		return;
	}
	until = data < 0 ? file->size : (size_t)data;
	for (size_t i = from; i < until; i++)
		if (file->data[i])
			worker_fail(known->worker, "data at %zu", i);
	if (hole < (off_t)from || hole > (off_t)file->size)
		worker_fail(known->worker, "no hole up to the end");
	if ((size_t)hole < file->size && file->data[hole])
		worker_fail(known->worker, "data in a hole");
}

void content_read(struct known *known)
{
	int fd;
	struct file *file = some_content(known, 0, &fd);
	struct range range;
	ssize_t got;

	if (!file)
		return;
	range = some_range(known, file);
	if (one_of(known, 8)) {
		seek_some(known, file, fd);
	} else if (one_of(known, 4)) {
		map_some(known, file, fd);
		file->mtime = 0;
	} else {
		worker_note(known->worker, "read %zu at %zu of %zu", range.length, range.offset, file->size);
		got = pread(fd, known->piece, range.length, (off_t)range.offset);
		known_expect(known, "read", got, 0);
		if (range.offset >= file->size)
			range.length = 0;
		else if (range.length > file->size - range.offset)
			range.length = file->size - range.offset;
		if ((size_t)got != range.length)
			worker_fail(known->worker, "read gives %zd bytes, not %zu", got, range.length);
		same(known, file, range, known->piece);
	}
	done(file, fd);
}

void content_check(struct known *known, struct file *file, int fd)
{
	struct stat st;

	known_expect(known, "fstat", fstat(fd, &st), 0);
	if ((size_t)st.st_size != file->size || st.st_nlink != file->links)
		worker_fail(known->worker, "a file of %zu bytes and %lu links has %ld and %lu", file->size,
			    (unsigned long)file->links, (long)st.st_size, (unsigned long)st.st_nlink);
	if (pread(fd, known->piece, file->size, 0) != (ssize_t)file->size)
		worker_fail(known->worker, "a file of %zu bytes cannot be read: %s", file->size, strerror(errno));
	same(known, file, (struct range){ 0, file->size }, known->piece);
}

void content_hold(struct known *known)
{
	struct file *file = known->files[below(known, KNOWN_FILES)];

	if (!file || !S_ISREG(file->mode))
		return;
	if (file->fd >= 0) {
		worker_note(known->worker, "close one with %lu links", (unsigned long)file->links);
		content_check(known, file, file->fd);
		close(file->fd);
		file->fd = -1;
		known_drop(known, file);
	} else {
		file->fd = open(known_path(known_place_of(known, file)), O_RDWR);
		worker_note(known->worker, "hold one open");
		known_expect(known, "open to hold", file->fd, 0);
	}
}
