/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Few names that all share: whatever comes of it, no call gives an error that has no reason. */
#include "stress.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define LENGTH_MAX 200000u

/* Of folders in folders, now and then. */
static void some_path(struct worker *worker, char path[128])
{
	size_t at = 0;

	for (uint64_t depth = 1 + chance_below(&worker->chance, 3); depth; depth--)
		at += (size_t)snprintf(path + at, 128 - at, "%s%c%lu", at ? "/" : "", depth > 1 ? 'd' : 'n',
				       (unsigned long)chance_below(&worker->chance, depth > 1 ? 3 : 6));
}

/* Each of these can be the fate of a name that others change. */
static void expect(struct worker *worker, const char *what, const char *path, long result)
{
	static const int fates[] = { ENOENT, EEXIST, ENOTDIR, EISDIR, ENOTEMPTY, EINVAL, ELOOP, ENXIO, ENODATA, EPERM,
				     EACCES, ETXTBSY };

	if (result >= 0)
		return;
	for (size_t i = 0; i < sizeof(fates) / sizeof(fates[0]); i++)
		if (errno == fates[i])
			return;
	worker_fail(worker, "%s %s: %s", what, path, strerror(errno));
}

static void change_content(struct worker *worker, const char *path)
{
	static char data[LENGTH_MAX];
	const bool direct = worker->stress->direct && chance_of(&worker->chance, 2);
	const int create = chance_of(&worker->chance, 2) ? O_CREAT : 0;
	int fd = open(path, O_RDWR | O_NONBLOCK | create | (direct ? O_DIRECT : 0), 0644);
	size_t length = 1 + chance_below(&worker->chance, LENGTH_MAX);
	off_t offset = (off_t)chance_below(&worker->chance, LENGTH_MAX);
	struct stat st;
	char *map;

	expect(worker, "open", path, fd);
	if (fd < 0)
		return;
	switch (fstat(fd, &st) || !S_ISREG(st.st_mode) ? 9 : chance_below(&worker->chance, 7)) {
	case 0:
		expect(worker, "write", path, pwrite(fd, data, length, offset));
		break;
	case 1:
		expect(worker, "read", path, pread(fd, data, length, offset));
		break;
	case 2:
		expect(worker, "ftruncate", path, ftruncate(fd, offset));
		break;
	case 3:
		expect(worker, "fallocate", path,
		       fallocate(fd, chance_of(&worker->chance, 2) ? 3 : 0, offset, (off_t)length));
		break;
	case 4:
		expect(worker, "fsync", path, chance_of(&worker->chance, 2) ? fsync(fd) : fdatasync(fd));
		break;
	case 5:
		/* Private: another one may truncate it meanwhile, and what is touched then is gone. */
		map = worker->stress->mmap ? mmap(NULL, length, PROT_READ, MAP_PRIVATE, fd, 0) : MAP_FAILED;
		if (map != MAP_FAILED)
			munmap(map, length);
		break;
	case 6:
		expect(worker, "lseek", path, lseek(fd, offset, chance_of(&worker->chance, 2) ? SEEK_DATA : SEEK_HOLE));
		break;
	}
	close(fd);
}

static void list(struct worker *worker, const char *path)
{
	DIR *dir = opendir(path);
	unsigned int count = 0;

	expect(worker, "opendir", path, dir ? 0 : -1);
	if (!dir)
		return;
	/* More than there can ever have been: the listing does not come to its end. */
	for (errno = 0; readdir(dir); errno = 0)
		if (++count > 10000)
			worker_fail(worker, "readdir %s: %u entries", path, count);
	expect(worker, "readdir", path, errno ? -1 : 0);
	closedir(dir);
}

static void change_names(struct worker *worker, const char *path, const char *other)
{
	static const unsigned int flags[] = { 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE };
	struct stat st;

	switch (chance_below(&worker->chance, 12)) {
	case 0:
	case 1:
		expect(worker, "mkdir", path, mkdir(path, 0755));
		break;
	case 2:
		expect(worker, "unlink", path, unlink(path));
		break;
	case 3:
		expect(worker, "rmdir", path, rmdir(path));
		break;
	case 4:
	case 5:
		expect(worker, "rename", path,
		       renameat2(AT_FDCWD, path, AT_FDCWD, other, flags[chance_below(&worker->chance, 4)]));
		break;
	case 6:
		expect(worker, "link", path, linkat(AT_FDCWD, path, AT_FDCWD, other, 0));
		break;
	case 7:
		expect(worker, "symlink", path, symlink(other, path));
		break;
	case 8:
		expect(worker, "mkfifo", path, mkfifo(path, 0644));
		break;
	case 9:
		expect(worker, "stat", path, stat(path, &st));
		break;
	case 10:
		expect(worker, "setxattr", path, setxattr(path, "user.a", other, strlen(other), 0));
		break;
	case 11:
		expect(worker, "chmod", path, chmod(path, (mode_t)(0700 | chance_below(&worker->chance, 0100))));
		break;
	}
}

void *chaos_round(struct worker *worker, void *state, bool (*goes_on)(void))
{
	char path[128], other[128];

	for (unsigned int i = 0; i % 64 || goes_on(); i++) {
		some_path(worker, path);
		some_path(worker, other);
		worker_note(worker, "%s, %s", path, other);
		switch (chance_below(&worker->chance, 4)) {
		case 0:
		case 1:
			change_content(worker, path);
			break;
		case 2:
			change_names(worker, path, other);
			break;
		default:
			if (chance_of(&worker->chance, 4))
				list(worker, chance_of(&worker->chance, 2) ? "." : "d0");
			else
				change_names(worker, path, other);
		}
	}
	return worker;
}
