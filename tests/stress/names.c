/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "known.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

static struct file **entry(struct place place)
{
	return &place.dir->entries[place.name];
}

static bool is_dir(const struct file *file)
{
	return file && S_ISDIR(file->mode);
}

static bool is_empty(const struct file *dir)
{
	for (int i = 0; i < KNOWN_NAMES; i++)
		if (dir->entries[i])
			return false;
	return true;
}

static bool is_below(const struct file *dir, const struct file *ancestor)
{
	while (dir && dir != ancestor)
		dir = dir->parent;
	return dir;
}

static unsigned int depth(const struct file *dir)
{
	return dir->parent ? 1 + depth(dir->parent) : 0;
}

/* The name leads to the file from now on. */
static void put(struct place place, struct file *file)
{
	if (is_dir(*entry(place)))
		place.dir->links--;
	*entry(place) = file;
	if (!is_dir(file))
		return;
	place.dir->links++;
	file->parent = place.dir;
}

static void lose(struct known *known, struct file *file)
{
	file->links = S_ISDIR(file->mode) ? 0 : file->links - 1;
	known_drop(known, file);
}

/* ---- changes ---- */

static long make_regular(struct known *known, const char *path)
{
	char link[64];
	long result;
	int fd;

	if (below(known, 4)) {
		fd = open(path, O_CREAT | O_EXCL | O_RDWR, 0644);
		return fd < 0 ? fd : close(fd);
	}
	fd = open(".", O_TMPFILE | O_RDWR, 0644);
	known_expect(known, "O_TMPFILE", fd, 0);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	result = linkat(AT_FDCWD, link, AT_FDCWD, path, AT_SYMLINK_FOLLOW);
	close(fd);
	return result;
}

static void target_of(struct known *known, struct file *file)
{
	file->size = 1 + below(known, below(known, 4) ? 80 : 4095);
	file->data = malloc(file->size + 1);
	for (size_t i = 0; i < file->size; i++)
		file->data[i] = (unsigned char)('a' + (i + file->size) % 26);
	file->data[file->size] = '\0';
}

void names_create(struct known *known)
{
	static const mode_t modes[] = { S_IFREG | 0644, S_IFREG | 0644, S_IFREG | 0644, S_IFREG | 0644, S_IFREG | 0644,
					S_IFDIR | 0755, S_IFDIR | 0755, S_IFLNK | 0777, S_IFIFO | 0644, S_IFSOCK | 0644,
					S_IFCHR | 0600 };
	struct place place = known_place(known);
	mode_t mode = modes[below(known, known->worker->stress->root ? 11 : 10)];
	const char *path = known_path(place);
	struct file *file;
	long result;

	if (S_ISDIR(mode) && depth(place.dir) >= 3)
		return;
	file = known_new(known, mode);
	if (!file)
		return;
	if (S_ISLNK(mode))
		target_of(known, file);
	if (S_ISCHR(mode))
		file->device = makedev(below(known, 4096), below(known, 1 << 20));
	worker_note(known->worker, "create mode %o%s", mode, *entry(place) ? ", which exists" : "");
	if (S_ISREG(mode))
		result = make_regular(known, path);
	else if (S_ISDIR(mode))
		result = mkdir(path, mode & 0777);
	else if (S_ISLNK(mode))
		result = symlink((const char *)file->data, path);
	else
		result = mknod(path, mode, file->device);
	known_expect(known, "create", result, *entry(place) ? EEXIST : 0);
	if (*entry(place))
		lose(known, S_ISDIR(mode) ? file : (file->links = 1, file));
	else
		put(place, file);
}

void names_remove(struct known *known)
{
	struct place place = known_place(known);
	struct file *file = *entry(place);
	bool as_dir = is_dir(file) == (below(known, 8) > 0);
	const char *path = known_path(place);
	int error = 0;

	if (!file)
		error = ENOENT;
	else if (as_dir != is_dir(file))
		error = as_dir ? ENOTDIR : EISDIR;
	else if (as_dir && !is_empty(file))
		error = ENOTEMPTY;
	worker_note(known->worker, "%s", as_dir ? "rmdir" : "unlink");
	known_expect(known, "remove", as_dir ? rmdir(path) : unlink(path), error);
	if (error)
		return;
	put(place, NULL);
	lose(known, file);
}

/* As Linux answers, before and in the filesystem. */
static int rename_error(struct place from, struct place to, unsigned int flags)
{
	struct file *a = *entry(from), *b = *entry(to);

	if (!a)
		return ENOENT;
	if (flags & RENAME_NOREPLACE && b)
		return EEXIST;
	if (flags & RENAME_EXCHANGE && !b)
		return ENOENT;
	if (is_dir(a) && is_below(to.dir, a))
		return EINVAL;
	if (is_dir(b) && is_below(from.dir, b))
		return flags & RENAME_EXCHANGE ? EINVAL : ENOTEMPTY;
	if (a == b || !b || flags & RENAME_EXCHANGE)
		return 0;
	if (is_dir(a) != is_dir(b))
		return is_dir(a) ? ENOTDIR : EISDIR;
	return is_dir(b) && !is_empty(b) ? ENOTEMPTY : 0;
}

static unsigned int height(const struct file *dir)
{
	unsigned int most = 0;

	for (int i = 0; i < KNOWN_NAMES; i++)
		if (is_dir(dir->entries[i]) && 1 + height(dir->entries[i]) > most)
			most = 1 + height(dir->entries[i]);
	return most;
}

void names_rename(struct known *known)
{
	static const unsigned int all[] = { 0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_EXCHANGE,
					    RENAME_WHITEOUT };
	unsigned int flags = all[below(known, known->worker->stress->root ? 7 : 6)];
	struct place from = known_place(known), to = known_place(known);
	struct file *a = *entry(from), *b = *entry(to), *whiteout = NULL;
	int error = rename_error(from, to, flags);
	long result;

	/* So that paths stay short enough. */
	if ((is_dir(a) && depth(to.dir) + height(a) > 2) || (is_dir(b) && depth(from.dir) + height(b) > 2))
		return;
	if (flags & RENAME_WHITEOUT && !error && a != b) {
		whiteout = known_new(known, S_IFCHR);
		if (!whiteout)
			return;
	}
	worker_note(known->worker, "rename mode %o to mode %o, flags %u", a ? a->mode : 0, b ? b->mode : 0, flags);
	result = renameat2(AT_FDCWD, known_path(from), AT_FDCWD, known_path(to), flags);
	known_expect(known, "rename", result, error);
	if (error || a == b)
		return;
	put(from, flags & RENAME_EXCHANGE ? b : whiteout);
	put(to, a);
	if (b && !(flags & RENAME_EXCHANGE))
		lose(known, b);
}

void names_link(struct known *known)
{
	struct file *file = known_some(known, 0);
	struct place from, to = known_place(known);

	if (!file)
		return;
	from = known_place_of(known, file);
	worker_note(known->worker, "link mode %o, which has %lu", file->mode, (unsigned long)file->links);
	known_expect(known, "link", linkat(AT_FDCWD, known_path(from), AT_FDCWD, known_path(to), 0),
		     *entry(to) ? EEXIST : is_dir(file) ? EPERM : 0);
	if (*entry(to) || is_dir(file))
		return;
	put(to, file);
	file->links++;
}

/* ---- attributes ---- */

static const char *xattr_name(const struct known *known, const struct file *file, int i)
{
	static const char *const users[] = { "user.a", "user.the second", "user.\xc3\xbc" };
	static const char *const trusted[] = { "trusted.a", "trusted.b", "trusted.c" };

	/* What has no content has none of the user's. */
	if (S_ISREG(file->mode) || S_ISDIR(file->mode))
		return users[i];
	return known->worker->stress->root ? trusted[i] : NULL;
}

static void set_xattr(struct known *known, struct file *file, const char *path)
{
	int i = (int)below(known, KNOWN_XATTRS);
	const char *name = xattr_name(known, file, i);
	struct value *value = &file->xattrs[i];

	if (!name)
		return;
	if (below(known, 4) == 0) {
		worker_note(known->worker, "remove %s of %zu bytes", name, value->length);
		known_expect(known, "lremovexattr", lremovexattr(path, name), value->bytes ? 0 : ENODATA);
		free(value->bytes);
		*value = (struct value){ .bytes = NULL };
		return;
	}
	free(value->bytes);
	value->length = below(known, below(known, 4) ? 200 : known->worker->stress->xattr + 1);
	value->bytes = malloc(value->length + 1);
	for (size_t at = 0; at < value->length; at++)
		value->bytes[at] = (unsigned char)chance_next(&known->worker->chance);
	worker_note(known->worker, "set %s to %zu bytes", name, value->length);
	known_expect(known, "lsetxattr", lsetxattr(path, name, value->bytes, value->length, 0), 0);
}

static void set_time(struct known *known, struct file *file, const char *path)
{
	int64_t ns = (int64_t)below(known, UINT64_C(4000000000000000000));
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT },
				     { .tv_sec = (time_t)(ns / 1000000000), .tv_nsec = ns % 1000000000 } };

	worker_note(known->worker, "utimensat");
	known_expect(known, "utimensat", utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW), 0);
	file->mtime = S_ISDIR(file->mode) ? 0 : ns;
}

void names_attribute(struct known *known)
{
	struct file *file = known_some(known, below(known, 4) ? 0 : S_IFDIR);
	const char *path;

	if (!file || !file->links || (!file->parent && is_dir(file)))
		return;
	path = known_path(known_place_of(known, file));
	switch (below(known, 4)) {
	case 0:
		/* Ordinary users have to get at it. */
		file->mode = (file->mode & S_IFMT) | (S_ISLNK(file->mode) ? 0777 : (mode_t)(0700 | below(known, 0100)));
		worker_note(known->worker, "chmod %o", file->mode);
		if (!S_ISLNK(file->mode))
			known_expect(known, "chmod", chmod(path, file->mode & 0777), 0);
		break;
	case 1:
		set_time(known, file, path);
		break;
	default:
		set_xattr(known, file, path);
	}
}

/* ---- looks ---- */

static void check_xattrs(struct known *known, const struct file *file, const char *path)
{
	static unsigned char bytes[XATTR_MAX];

	for (int i = 0; i < KNOWN_XATTRS; i++) {
		const struct value *value = &file->xattrs[i];
		const char *name = xattr_name(known, file, i);
		ssize_t got = name ? lgetxattr(path, name, bytes, sizeof(bytes)) : 0;

		if (!name)
			continue;
		known_expect(known, "lgetxattr", got, value->bytes ? 0 : ENODATA);
		if (value->bytes && ((size_t)got != value->length || memcmp(bytes, value->bytes, value->length)))
			worker_fail(known->worker, "%s has %zd bytes, not the %zu that were set", name, got,
				    value->length);
	}
}

void names_check(struct known *known, struct place place)
{
	struct file *file = *entry(place);
	const char *path = known_path(place);
	char target[KNOWN_PATH];
	struct stat st;
	long result = lstat(path, &st);

	known_expect(known, "lstat", result, file ? 0 : ENOENT);
	if (!file)
		return;
	if (st.st_mode != file->mode || st.st_nlink != file->links || st.st_rdev != file->device ||
	    (!is_dir(file) && (size_t)st.st_size != file->size))
		worker_fail(known->worker, "mode %o, %lu links, %zu bytes, device %lx is: %o, %lu, %ld, %lx",
			    file->mode, (unsigned long)file->links, file->size, (unsigned long)file->device,
			    st.st_mode, (unsigned long)st.st_nlink, (long)st.st_size, (unsigned long)st.st_rdev);
	if (file->mtime && st.st_mtim.tv_sec * INT64_C(1000000000) + st.st_mtim.tv_nsec != file->mtime)
		worker_fail(known->worker, "the time of mode %o is %ld.%09ld, was set to %ld ns", file->mode,
			    (long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec, (long)file->mtime);
	check_xattrs(known, file, path);
	if (S_ISLNK(file->mode) && (readlink(path, target, sizeof(target)) != (ssize_t)file->size ||
				    memcmp(target, file->data, file->size)))
		worker_fail(known->worker, "the symlink leads elsewhere");
}

/* Its names are there, each once. */
void names_list(struct known *known, struct file *dir)
{
	char path[KNOWN_PATH + 4] = ".";
	unsigned int seen = 0, expected = 0, unknown = 0;
	struct dirent *found;
	DIR *open;

	if (dir->parent)
		snprintf(path, sizeof(path), "%s", known_path(known_place_of(known, dir)));
	open = opendir(path);
	known_expect(known, "opendir", open ? 0 : -1, 0);
	while ((found = readdir(open))) {
		int name = found->d_name[0] - 'a';

		if (found->d_name[0] == '.')
			continue;
		if (name < 0 || name >= KNOWN_NAMES || !dir->entries[name] || seen & 1u << name ||
		    found->d_type != IFTODT(dir->entries[name]->mode))
			unknown++;
		else
			seen |= 1u << name;
	}
	closedir(open);
	for (int i = 0; i < KNOWN_NAMES; i++)
		expected |= dir->entries[i] ? 1u << i : 0;
	if (unknown || seen != expected)
		worker_fail(known->worker, "a folder lists %x, holds %x; %u more, or twice", seen, expected, unknown);
}
