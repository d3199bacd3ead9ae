/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What lies on a leg before it becomes ours, as libblkid sees it; the only file that knows libblkid. It looks
 * for what somebody may miss: filesystems, raid members, swap, partition tables. mirrorfs' own labels are read
 * by the mirror.
 */
#include "leg_private.h"

#include "mirrorfs/base/iobuf.h"

#include <blkid/blkid.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PROBE_WIPES_MAX 64 /* signatures wiped from one leg before something must be wrong */

/* libblkid's -1 comes with an errno, sometimes. */
static int probe_errno(void)
{
	return errno ? -errno : -EIO;
}

static int probe_start(int fd, blkid_probe *probe)
{
	errno = 0;
	*probe = blkid_new_probe();
	if (!*probe)
		return -ENOMEM;
	if (!blkid_probe_set_device(*probe, fd, 0, 0) && !blkid_probe_enable_superblocks(*probe, 1) &&
	    !blkid_probe_set_superblocks_flags(*probe, BLKID_SUBLKS_LABEL | BLKID_SUBLKS_UUID | BLKID_SUBLKS_TYPE |
						       BLKID_SUBLKS_USAGE | BLKID_SUBLKS_MAGIC) &&
	    !blkid_probe_enable_partitions(*probe, 1) &&
	    !blkid_probe_set_partitions_flags(*probe, BLKID_PARTS_MAGIC))
		return 0;
	blkid_free_probe(*probe);
	return probe_errno();
}

/* False: libblkid has no such value, and `text` is empty. */
static bool probe_value(blkid_probe probe, const char *name, char *text, size_t text_size)
{
	const char *value;

	text[0] = 0;
	if (blkid_probe_lookup_value(probe, name, &value, NULL))
		return false;
	snprintf(text, text_size, "%s", value);
	return true;
}

static void probe_tell(blkid_probe probe, struct leg_signature *signature)
{
	if (probe_value(probe, "TYPE", signature->type, sizeof(signature->type))) {
		probe_value(probe, "USAGE", signature->usage, sizeof(signature->usage));
		probe_value(probe, "LABEL", signature->label, sizeof(signature->label));
		probe_value(probe, "UUID", signature->uuid, sizeof(signature->uuid));
	} else if (probe_value(probe, "PTTYPE", signature->type, sizeof(signature->type))) {
		snprintf(signature->usage, sizeof(signature->usage), "partition-table");
		probe_value(probe, "PTUUID", signature->uuid, sizeof(signature->uuid));
	}
	signature->found = signature->type[0];
}

static int probe_fd(int fd, struct leg_signature *signature)
{
	struct stat status;
	blkid_probe probe;
	int result;

	if (fstat(fd, &status))
		return -errno;
	if (S_ISREG(status.st_mode) && !status.st_size)
		return 0; /* libblkid refuses what is empty; so is the answer */
	result = probe_start(fd, &probe);
	if (result)
		return result;
	/* The first signature is enough: several that contradict each other are no reason to find nothing. */
	result = blkid_do_probe(probe);
	if (!result)
		probe_tell(probe, signature);
	blkid_free_probe(probe);
	return result < 0 ? probe_errno() : 0;
}

/* ---- a leg that is no file ---- */

#define COPY_END (UINT64_C(4) << 20) /* at its beginning and its end: no signature lies further in */
#define COPY_PIECE (1u << 20)

/* The ends of such a leg in a file in memory, as libblkid reads files. */
struct copy {
	struct leg *leg;
	unsigned char *piece, *wiped; /* COPY_PIECE each, aligned as legs want it */
	int fd;
};

static int copy_move(struct copy *copy, enum leg_op op, uint64_t offset, size_t length, void *data)
{
	struct leg_io io = { .op = op, .offset = offset, .length = length, .data = data };

	return leg_submit_wait(copy->leg, &io);
}

/* Calls `move` with each piece of both ends. */
static int copy_each(struct copy *copy, int (*move)(struct copy *copy, uint64_t offset, size_t length))
{
	uint64_t size = leg_geometry(copy->leg)->size_bytes, at = 0;
	int error = 0;

	while (at < size && !error) {
		size_t length = size - at < COPY_PIECE ? (size_t)(size - at) : COPY_PIECE;

		error = move(copy, at, length);
		at += length;
		if (at >= COPY_END && size - at > COPY_END)
			at = size - COPY_END;
	}
	return error;
}

static int copy_take(struct copy *copy, uint64_t offset, size_t length)
{
	int error = copy_move(copy, LEG_READ, offset, length, copy->piece);

	if (error)
		return error;
	return pwrite(copy->fd, copy->piece, length, (off_t)offset) == (ssize_t)length ? 0 : -EIO;
}

/* Writes what is no longer as it was taken. */
static int copy_give(struct copy *copy, uint64_t offset, size_t length)
{
	int error = copy_move(copy, LEG_READ, offset, length, copy->piece);

	if (!error && pread(copy->fd, copy->wiped, length, (off_t)offset) != (ssize_t)length)
		error = -EIO;
	if (error || !memcmp(copy->piece, copy->wiped, length))
		return error;
	return copy_move(copy, LEG_WRITE, offset, length, copy->wiped);
}

static void copy_close(struct copy *copy)
{
	if (copy->fd >= 0)
		close(copy->fd);
	free(copy->piece);
	free(copy->wiped);
}

static int copy_open(struct copy *copy, struct leg *leg)
{
	int error = 0;

	copy->leg = leg;
	copy->piece = aligned_alloc(IOBUF_ALIGN, COPY_PIECE);
	copy->wiped = aligned_alloc(IOBUF_ALIGN, COPY_PIECE);
	copy->fd = memfd_create("leg", MFD_CLOEXEC);
	if (!copy->piece || !copy->wiped)
		error = -ENOMEM;
	else if (copy->fd < 0 || ftruncate(copy->fd, (off_t)leg_geometry(leg)->size_bytes))
		error = -errno;
	if (!error)
		error = copy_each(copy, copy_take);
	if (error)
		copy_close(copy);
	return error;
}

/*
 * libblkid reads and writes a few bytes at a time, which O_DIRECT refuses: so through a second open file of the same
 * thing, reached by its descriptor, since its name may have come to mean something else.
 */
static int file_again(const struct leg *leg, int flags)
{
	char again[64];
	int fd;

	snprintf(again, sizeof(again), "/proc/self/fd/%d", leg->fd);
	fd = open(again, flags | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static struct leg *below_all(struct leg *leg)
{
	while (leg->below)
		leg = leg->below;
	return leg;
}

/* ---- probing ---- */

static int probe_leg(struct leg *leg, struct leg_signature *signature)
{
	struct copy copy;
	int fd, result;

	if (leg->fd < 0 && !leg->geometry.elsewhere)
		return 0; /* memory: nobody left anything there */
	if (leg->fd < 0) {
		result = copy_open(&copy, leg);
		if (result)
			return result;
		result = probe_fd(copy.fd, signature);
		copy_close(&copy);
		return result;
	}
	fd = file_again(leg, O_RDONLY);
	if (fd < 0)
		return fd;
	result = probe_fd(fd, signature);
	close(fd);
	return result;
}

int leg_probe(struct leg *leg, struct leg_signature *signature, struct error *error)
{
	int result;

	memset(signature, 0, sizeof(*signature));
	result = probe_leg(below_all(leg), signature);
	if (result)
		return error_set(error, result, "%s: cannot see what lies on it: %s", leg->path, strerror(-result));
	return 0;
}

/* ---- wiping ---- */

static int probe_wipe(blkid_probe probe)
{
	int wiped = 0, result;

	errno = 0;
	while (!(result = blkid_do_probe(probe))) {
		if (blkid_do_wipe(probe, 0) || ++wiped > PROBE_WIPES_MAX)
			return probe_errno();
	}
	return result < 0 ? probe_errno() : 0;
}

static int wipe_fd(int fd)
{
	blkid_probe probe;
	int result = probe_start(fd, &probe);

	if (result)
		return result;
	result = probe_wipe(probe);
	blkid_free_probe(probe);
	return result;
}

static int wipe_copy(struct leg *leg)
{
	struct leg_io flush = { .op = LEG_FLUSH };
	struct copy copy;
	int result = copy_open(&copy, leg);

	if (result)
		return result;
	result = wipe_fd(copy.fd);
	if (!result)
		result = copy_each(&copy, copy_give);
	if (!result)
		result = leg_submit_wait(leg, &flush);
	copy_close(&copy);
	return result;
}

static int wipe_file(struct leg *leg)
{
	int fd = file_again(leg, O_RDWR), result;

	if (fd < 0)
		return fd;
	result = wipe_fd(fd);
	if (!result && fsync(fd))
		result = -errno;
	close(fd);
	return result;
}

int leg_wipe(struct leg *leg, struct error *error)
{
	int result;

	leg = below_all(leg);
	if (leg->fd < 0 && !leg->geometry.elsewhere)
		return 0; /* memory: nobody left anything there */
	if (leg->read_only)
		return error_set(error, -EROFS, "%s is open for reading only", leg->path);
	result = leg->fd < 0 ? wipe_copy(leg) : wipe_file(leg);
	if (result)
		return error_set(error, result, "%s: cannot wipe what lies on it: %s", leg->path, strerror(-result));
	return 0;
}
