/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What lies on a path before it becomes a leg, as libblkid sees it; the only file that knows libblkid. It looks
 * for what somebody may miss: filesystems, raid members, swap, partition tables. mirrorfs' own labels are read
 * by the mirror.
 */
#include "leg_private.h"

#include <blkid/blkid.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
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

int leg_probe(const char *path, struct leg_signature *signature, struct error *error)
{
	struct stat status;
	int fd, result;

	memset(signature, 0, sizeof(*signature));
	if (stat(path, &status))
		return error_set(error, -errno, "%s: %s", path, strerror(errno));
	if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode))
		return error_set(error, -ENOTBLK, "%s is neither a block device nor an image file", path);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return error_set(error, -errno, "%s: cannot open for reading: %s", path, strerror(errno));
	result = probe_fd(fd, signature);
	close(fd);
	if (result)
		return error_set(error, result, "%s: cannot see what lies on it: %s", path, strerror(-result));
	return 0;
}

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

int leg_wipe(struct leg *leg, struct error *error)
{
	blkid_probe probe;
	char again[64];
	int fd, result;

	while (leg->below)
		leg = leg->below;
	if (leg->fd < 0)
		return 0; /* memory: nobody left anything there */
	if (leg->read_only)
		return error_set(error, -EROFS, "%s is open for reading only", leg->path);
	/*
	 * libblkid writes a few bytes at a time, which O_DIRECT refuses: so through a second open file of the same
	 * thing, reached by its descriptor, since its name may have come to mean something else.
	 */
	snprintf(again, sizeof(again), "/proc/self/fd/%d", leg->fd);
	fd = open(again, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return error_set(error, -errno, "%s: cannot open for wiping: %s", leg->path, strerror(errno));
	result = probe_start(fd, &probe);
	if (!result) {
		result = probe_wipe(probe);
		blkid_free_probe(probe);
	}
	if (!result && fsync(fd))
		result = -errno;
	close(fd);
	if (result)
		return error_set(error, result, "%s: cannot wipe what lies on it: %s", leg->path, strerror(-result));
	return 0;
}
