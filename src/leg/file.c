/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A path becomes an open, locked file with a known geometry; what the kernel then answers about it is read here
 * too, so that both engines say the same.
 *
 * I13: the lock is taken through the open file that does the I/O, so it lasts as long as any request of it: a
 * block device is claimed with O_EXCL (the kernel's mounts, md and dm honour that claim), an image with flock.
 * A leg that is only read shares its image with other readers; of a device the kernel knows no shared claim, so
 * it is claimed alone there too.
 *
 * The kernel gives its claim on a device to one holder, and a mount of that device must be it. Such a leg has a record
 * lock of its open file, after which whoever gets the claim looks: it may still be there when the mount has gone, with
 * the last requests of a daemon that was killed. Only who has the claim gives it away, so nobody looks too early.
 */
#include "leg_private.h"

#include "mirrorfs/base/clock.h"
#include "mirrorfs/base/iobuf.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define CLAIM_LOOK_NS NSEC_PER_MSEC

#define FILE_BLOCK 4096u /* sizes are rounded down to it; the granularity where nothing finer is known */

static const char *file_kind(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFDIR:
		return "a directory";
	case S_IFCHR:
		return "a character device";
	case S_IFIFO:
		return "a FIFO";
	case S_IFSOCK:
		return "a socket";
	default:
		return "neither";
	}
}

/* Looks before opening: opening a FIFO waits, opening some character devices does things. */
static int file_look(const char *path, struct stat *status, struct error *error)
{
	if (stat(path, status))
		return error_set(error, -errno, "%s: %s", path, strerror(errno));
	if (!S_ISREG(status->st_mode) && !S_ISBLK(status->st_mode))
		return error_set(error, -ENOTBLK, "%s is %s; a leg is a block device or an image file", path,
				 file_kind(status->st_mode));
	return 0;
}

static int file_busy(const char *path, const struct stat *status, struct error *error)
{
	char who[512];

	if (S_ISBLK(status->st_mode) && leg_in_use(path, who, sizeof(who)))
		return error_set(error, -EBUSY, "%s is in use: %s", path, who);
	if (leg_holder(status, who, sizeof(who)))
		return error_set(error, -EBUSY, "%s is locked by %s", path, who);
	return error_set(error, -EBUSY, "%s is locked by another process", path);
}

/* The file as opened; geometry.direct tells whether O_DIRECT was granted. */
static int file_open_fd(const char *path, const struct stat *status, bool exclusive, struct leg_file *file,
			struct error *error)
{
	int flags = O_CLOEXEC | (file->read_only ? O_RDONLY : O_RDWR);

	if (S_ISBLK(status->st_mode) && exclusive)
		flags |= O_EXCL;
	file->geometry.direct = true;
	file->fd = open(path, flags | O_DIRECT);
	if (file->fd < 0 && errno == EINVAL) {
		file->geometry.direct = false;
		file->fd = open(path, flags);
	}
	if (file->fd >= 0)
		return 0;
	if (errno == EBUSY)
		return file_busy(path, status, error);
	return error_set(error, -errno, "%s: cannot open for %s: %s", path, file->read_only ? "reading" : "writing",
			 strerror(errno));
}

static struct flock record_lock(bool read_only)
{
	return (struct flock){ .l_type = read_only ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET };
}

static int file_lock_device(const char *path, const struct stat *status, bool handed_over, struct leg_file *file,
			    struct error *error)
{
	struct flock lock = record_lock(handed_over && file->read_only);

	if (fcntl(file->fd, handed_over ? F_OFD_SETLK : F_OFD_GETLK, &lock))
		return errno == EAGAIN || errno == EACCES ?
			       file_busy(path, status, error) :
			       error_set(error, -errno, "%s: cannot lock: %s", path, strerror(errno));
	return handed_over || lock.l_type == F_UNLCK ? 0 : file_busy(path, status, error);
}

static int file_lock(const char *path, const struct stat *status, bool handed_over, struct leg_file *file,
		     struct error *error)
{
	if (S_ISBLK(status->st_mode))
		return file_lock_device(path, status, handed_over, file, error);
	if (!flock(file->fd, (file->read_only ? LOCK_SH : LOCK_EX) | LOCK_NB))
		return 0;
	if (errno == EWOULDBLOCK)
		return file_busy(path, status, error);
	return error_set(error, -errno, "%s: cannot lock: %s", path, strerror(errno));
}

/* Bytes there now, whole blocks; 0 also for a device that was pulled. */
static int file_size(int fd, uint64_t *size)
{
	struct stat status;

	if (fstat(fd, &status))
		return -errno;
	*size = (uint64_t)status.st_size;
	if (S_ISBLK(status.st_mode) && ioctl(fd, BLKGETSIZE64, size))
		return -errno;
	*size -= *size % FILE_BLOCK;
	return 0;
}

/* Alignment of O_DIRECT as statx tells it (files since 6.1, depending on the filesystem). */
static void file_direct_alignment(struct leg_file *file)
{
	struct leg_geometry *geometry = &file->geometry;
	struct statx status;

	if (!geometry->direct || statx(file->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &status) ||
	    !(status.stx_mask & STATX_DIOALIGN))
		return;
	if (status.stx_dio_offset_align && status.stx_dio_offset_align <= FILE_BLOCK &&
	    status.stx_dio_mem_align <= IOBUF_ALIGN) {
		geometry->mem_align = status.stx_dio_mem_align;
		if (!geometry->device)
			geometry->block_size = status.stx_dio_offset_align < 512 ? 512 : status.stx_dio_offset_align;
		return;
	}
	/* 0: not on this file (encrypted, inlined ...). Larger than our buffers promise: as good as not at all. */
	if (!fcntl(file->fd, F_SETFL, fcntl(file->fd, F_GETFL) & ~O_DIRECT))
		geometry->direct = false;
}

static int file_measure_device(const char *path, const struct stat *status, struct leg_file *file, struct error *error)
{
	struct leg_geometry *geometry = &file->geometry;
	int block_size;

	if (ioctl(file->fd, BLKSSZGET, &block_size))
		return error_set(error, -errno, "%s: cannot ask for its block size: %s", path, strerror(errno));
	if (block_size < 512 || block_size > (int)FILE_BLOCK)
		return error_set(error, -EINVAL, "%s has blocks of %d bytes; a leg's are 512 to %u", path, block_size,
				 FILE_BLOCK);
	geometry->device = true;
	geometry->block_size = (uint32_t)block_size;
	geometry->mem_align = (uint32_t)block_size;
	geometry->device_rdev = status->st_rdev;
	geometry->disk_rdev = leg_disk_below(status->st_rdev);
	geometry->rotational = leg_disk_rotational(geometry->disk_rdev ? geometry->disk_rdev : status->st_rdev);
	geometry->discard = !file->read_only && leg_disk_discards(status->st_rdev);
	return 0;
}

/* Filesystems behind which there is a network, or a process: slow to answer, like a spinning disk. */
static bool file_is_remote(int fd)
{
	static const unsigned long remote[] = {
		0x6969 /* nfs */, 0xfe534d42 /* smb2 */, 0xff534d42 /* cifs */, 0x00c36400 /* ceph */,
		0x65735546 /* fuse */, 0x01021997 /* 9p */, 0x5346414f /* afs */,
	};
	struct statfs status;

	if (fstatfs(fd, &status))
		return false;
	for (size_t i = 0; i < sizeof(remote) / sizeof(remote[0]); i++) {
		if (((unsigned long)status.f_type & 0xffffffff) == remote[i])
			return true;
	}
	return false;
}

static void file_measure_image(const struct stat *status, struct leg_file *file)
{
	struct leg_geometry *geometry = &file->geometry;
	off_t beyond = status->st_size + FILE_BLOCK - status->st_size % FILE_BLOCK;

	geometry->block_size = FILE_BLOCK;
	geometry->mem_align = IOBUF_ALIGN;
	geometry->file_dev = status->st_dev;
	geometry->file_ino = status->st_ino;
	geometry->disk_rdev = leg_disk_below(status->st_dev);
	geometry->rotational = file_is_remote(file->fd) ||
			       (geometry->disk_rdev && leg_disk_rotational(geometry->disk_rdev));
	/* A hole beyond the end changes nothing, so it may be asked for to see whether holes can be made. */
	geometry->discard = !file->read_only &&
			    !fallocate(file->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, beyond, FILE_BLOCK);
}

static int file_measure(const char *path, struct leg_file *file, struct error *error)
{
	struct stat status;
	int result;

	if (fstat(file->fd, &status))
		return error_set(error, -errno, "%s: %s", path, strerror(errno));
	if (S_ISBLK(status.st_mode)) {
		result = file_measure_device(path, &status, file, error);
		if (result)
			return result;
	} else {
		file_measure_image(&status, file);
	}
	file_direct_alignment(file);
	file->geometry.max_io = IOBUF_MAX;
	result = file_size(file->fd, &file->geometry.size_bytes);
	if (result)
		return error_set(error, result, "%s: cannot ask for its size: %s", path, strerror(-result));
	return 0;
}

/* The folder is resolved, the name in it is not: links below /dev/disk are steadier than what they point to. */
static char *file_absolute(const char *path)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	char *folder, *resolved, *absolute = NULL;

	folder = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
	if (!folder)
		return NULL;
	resolved = realpath(folder, NULL);
	free(folder);
	if (!resolved)
		return NULL;
	if (asprintf(&absolute, "%s/%s", strcmp(resolved, "/") ? resolved : "", name) < 0)
		absolute = NULL;
	free(resolved);
	return absolute;
}

int leg_file_open(const char *path, const struct leg_options *options, struct leg_file *file, struct error *error)
{
	struct stat status;
	int result = file_look(path, &status, error);

	if (result)
		return result;
	memset(file, 0, sizeof(*file));
	/* Who takes no lock may not write (I13). */
	file->read_only = options->read_only || options->shared;
	result = file_open_fd(path, &status, !options->shared && !options->handed_over, file, error);
	if (result)
		return result;
	if (!options->shared)
		result = file_lock(path, &status, options->handed_over, file, error);
	if (!result)
		result = file_measure(path, file, error);
	if (!result) {
		file->path = file_absolute(path);
		if (!file->path)
			result = error_set(error, -ENOMEM, "%s: %s", path, strerror(ENOMEM));
	}
	if (result)
		leg_file_close(file);
	return result;
}

void leg_file_close(struct leg_file *file)
{
	close(file->fd);
	free(file->path);
}

int leg_file_refresh(struct leg *leg)
{
	uint64_t size;
	int error = file_size(leg->fd, &size);

	if (error)
		return error;
	mutex_lock(&leg->lock);
	leg->geometry.size_bytes = size;
	mutex_unlock(&leg->lock);
	return 0;
}

/* What was under way holds the file before open, and with it the claim. */
static int claim_wait(struct leg *leg, const char *path, uint64_t limit_ns)
{
	uint64_t until_ns = clock_now_ns() + limit_ns, now_ns;
	struct cond pause;
	int fd, error;

	cond_init(&pause);
	mutex_lock(&leg->lock);
	for (;;) {
		fd = open(path, O_RDONLY | O_EXCL | O_CLOEXEC);
		error = fd < 0 ? -errno : 0;
		now_ns = clock_now_ns();
		if (error != -EBUSY || now_ns >= until_ns)
			break;
		cond_wait_until(&pause, &leg->lock, now_ns + CLAIM_LOOK_NS);
	}
	mutex_unlock(&leg->lock);
	cond_fini(&pause);
	if (fd >= 0)
		close(fd);
	return error;
}

int leg_file_hand_over(struct leg *leg, uint64_t limit_ns)
{
	struct flock lock = record_lock(leg->read_only);
	char path[64];
	int fd, error = 0;

	if (!leg->geometry.device)
		return -ENOTBLK;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", leg->fd);
	fd = open(path, (leg->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | (leg->geometry.direct ? O_DIRECT : 0));
	if (fd < 0)
		return -errno;
	/* It takes the place under the same number: with the last request before, the claim goes. */
	if (fcntl(fd, F_OFD_SETLK, &lock) || dup3(fd, leg->fd, O_CLOEXEC) < 0)
		error = -errno;
	close(fd);
	return error ? error : claim_wait(leg, path, limit_ns);
}

/* Through an open file of its own: where the filesystem cannot, what the C library does instead is not aligned. */
int leg_file_allocate(struct leg *leg, uint64_t offset, uint64_t length)
{
	char path[64];
	int fd, error;

	if (leg->geometry.device)
		return 0;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", leg->fd);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	error = posix_fallocate(fd, (off_t)offset, (off_t)length);
	close(fd);
	return -error;
}

bool leg_file_beyond_locked(const struct leg *leg, const struct leg_io *io)
{
	return io->op != LEG_FLUSH && io->offset + io->length > leg->geometry.size_bytes;
}

bool leg_file_goes_on(const struct leg *leg, struct leg_io *io, long result)
{
	if (io->op != LEG_WRITE || result <= 0 || io->bytes + (size_t)result >= io->length ||
	    result % leg->geometry.block_size)
		return false;
	io->bytes += (size_t)result;
	return true;
}

int leg_file_result(const struct leg *leg, const struct leg_io *io, long result, size_t *bytes)
{
	uint64_t size;

	*bytes = io->bytes + (result > 0 ? (size_t)result : 0);
	if (result < 0)
		return (int)result;
	if ((io->op != LEG_READ && io->op != LEG_WRITE) || *bytes == io->length)
		return 0;
	/*
	 * Short. A read is not continued: the rest would meet the same obstacle, and the other leg has the whole. An
	 * end that was passed means that the leg has shrunk, or is no longer there.
	 */
	return file_size(leg->fd, &size) || io->offset + io->length > size ? -ENXIO : -EIO;
}
