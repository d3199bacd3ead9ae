/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A filesystem for legs that fail: it shows the files of a folder, and is a process that a test may stop or kill. As
 * long as the file HOLD exists, reads and writes are not answered, though names still are; it gets a byte for each. As
 * long as HOLD.names exists, whoever asks what a file is gets no answer, and cannot even be killed.
 *
 *	passthrough FOLDER MOUNTPOINT HOLD
 */
#define FUSE_USE_VERSION 31
#include <fuse.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define HOLD_USEC 20000

static const char *hold;
static char hold_names[PATH_MAX];
static int folder;

static const char *below(const char *path)
{
	return path[1] ? path + 1 : ".";
}

static void wait_while_held(void)
{
	int fd = open(hold, O_WRONLY | O_APPEND | O_CLOEXEC);

	if (fd >= 0) {
		(void)!write(fd, "", 1);
		close(fd);
	}
	while (!access(hold, F_OK))
		usleep(HOLD_USEC);
}

static int answer(long result)
{
	return result < 0 ? -errno : (int)result;
}

/* What is not cached has to be asked for. */
static void *pass_init(struct fuse_conn_info *connection, struct fuse_config *config)
{
	config->use_ino = 1;
	config->nullpath_ok = 1;
	config->attr_timeout = config->entry_timeout = config->negative_timeout = 0;
	return NULL;
}

static int pass_getattr(const char *path, struct stat *status, struct fuse_file_info *file)
{
	while (!file && path[1] && !access(hold_names, F_OK))
		usleep(HOLD_USEC);
	return answer(file ? fstat((int)file->fh, status) :
			     fstatat(folder, below(path), status, AT_SYMLINK_NOFOLLOW));
}

static int pass_open(const char *path, struct fuse_file_info *file)
{
	int fd = openat(folder, below(path), file->flags & ~(O_EXCL | O_DIRECT));

	file->fh = (uint64_t)fd;
	return fd < 0 ? -errno : 0;
}

static int pass_create(const char *path, mode_t mode, struct fuse_file_info *file)
{
	int fd = openat(folder, below(path), (file->flags & ~O_DIRECT) | O_CREAT, mode);

	file->fh = (uint64_t)fd;
	return fd < 0 ? -errno : 0;
}

/* So that close(2) asks, too, and waits. */
static int pass_flush(const char *path, struct fuse_file_info *file)
{
	return 0;
}

static int pass_release(const char *path, struct fuse_file_info *file)
{
	return answer(close((int)file->fh));
}

static int pass_read(const char *path, char *data, size_t size, off_t offset, struct fuse_file_info *file)
{
	wait_while_held();
	return answer(pread((int)file->fh, data, size, offset));
}

static int pass_write(const char *path, const char *data, size_t size, off_t offset, struct fuse_file_info *file)
{
	wait_while_held();
	return answer(pwrite((int)file->fh, data, size, offset));
}

static int pass_fsync(const char *path, int datasync, struct fuse_file_info *file)
{
	wait_while_held();
	return answer(fdatasync((int)file->fh));
}

static int pass_fallocate(const char *path, int mode, off_t offset, off_t length, struct fuse_file_info *file)
{
	return answer(fallocate((int)file->fh, mode, offset, length));
}

static int pass_truncate(const char *path, off_t size, struct fuse_file_info *file)
{
	int fd, result;

	if (file)
		return answer(ftruncate((int)file->fh, size));
	fd = openat(folder, below(path), O_WRONLY);
	if (fd < 0)
		return -errno;
	result = answer(ftruncate(fd, size));
	close(fd);
	return result;
}

static int pass_unlink(const char *path)
{
	return answer(unlinkat(folder, below(path), 0));
}

static int pass_rename(const char *from, const char *to, unsigned int flags)
{
	return flags ? -EINVAL : answer(renameat(folder, below(from), folder, below(to)));
}

static int pass_statfs(const char *path, struct statvfs *status)
{
	return answer(fstatvfs(folder, status));
}

int main(int argc, char **argv)
{
	static const struct fuse_operations operations = {
		.init = pass_init,
		.getattr = pass_getattr,
		.open = pass_open,
		.create = pass_create,
		.flush = pass_flush,
		.release = pass_release,
		.read = pass_read,
		.write = pass_write,
		.fsync = pass_fsync,
		.fallocate = pass_fallocate,
		.truncate = pass_truncate,
		.unlink = pass_unlink,
		.rename = pass_rename,
		.statfs = pass_statfs,
	};
	char *words[] = { argv[0], "-f", argv[2], NULL };

	if (argc != 4) {
		fputs("usage: passthrough FOLDER MOUNTPOINT HOLD\n", stderr);
		return EXIT_FAILURE;
	}
	hold = argv[3];
	snprintf(hold_names, sizeof(hold_names), "%s.names", hold);
	folder = open(argv[1], O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (folder < 0) {
		perror(argv[1]);
		return EXIT_FAILURE;
	}
	return fuse_main(3, words, &operations, NULL);
}
