/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who else has it: mounts, swap, stacked devices, loop devices, processes. This only tells a person what stands
 * in the way; what keeps two writers apart is the lock (file.c, I13). So what /proc and /sys hide is passed over.
 */
#include "leg_private.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static bool same_thing(const struct stat *a, const struct stat *b)
{
	if (S_ISBLK(a->st_mode))
		return S_ISBLK(b->st_mode) && a->st_rdev == b->st_rdev;
	return S_ISREG(b->st_mode) && a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

static bool names(const char *path, const struct stat *thing)
{
	struct stat status;

	/* Only absolute paths: a source such as "host:/export" is no file, and asking for it may hang. */
	return path[0] == '/' && !stat(path, &status) && same_thing(thing, &status);
}

/* /proc writes blanks and backslashes as \ooo; undone in place. */
static void unescape(char *text)
{
	char *to = text;

	while (*text) {
		if (text[0] == '\\' && text[1] >= '0' && text[1] <= '3' && text[2] >= '0' && text[2] <= '7' &&
		    text[3] >= '0' && text[3] <= '7') {
			*to++ = (char)((text[1] - '0') * 64 + (text[2] - '0') * 8 + (text[3] - '0'));
			text += 4;
		} else {
			*to++ = *text++;
		}
	}
	*to = 0;
}

/* One line of mountinfo: "36 35 98:0 /root /where options ... - type source super". */
static bool mount_is_on(char *line, const struct stat *thing, char **where)
{
	unsigned int major_number, minor_number;
	char *separator = strstr(line, " - "), *save, *field, *source;
	int fields = 0;

	if (!separator || sscanf(line, "%*d %*d %u:%u", &major_number, &minor_number) != 2)
		return false;
	strtok_r(separator + 3, " ", &save);
	source = strtok_r(NULL, " ", &save);
	*separator = 0;
	for (field = strtok_r(line, " ", &save); field && fields < 4; fields++)
		field = strtok_r(NULL, " ", &save);
	if (!field || !source)
		return false;
	*where = field;
	unescape(*where);
	unescape(source);
	/* The number first: the source may be a name of another namespace. btrfs has a number of its own. */
	if (S_ISBLK(thing->st_mode) && thing->st_rdev == makedev(major_number, minor_number))
		return true;
	return names(source, thing);
}

static bool in_use_mounted(const struct stat *thing, char *where, size_t where_size)
{
	FILE *mounts = fopen("/proc/self/mountinfo", "re");
	char *line = NULL, *point;
	size_t line_size = 0;
	bool found = false;

	if (!mounts)
		return false;
	while (!found && getline(&line, &line_size, mounts) > 0) {
		line[strcspn(line, "\n")] = 0;
		found = mount_is_on(line, thing, &point);
	}
	if (found)
		snprintf(where, where_size, "mounted on %s", point);
	free(line);
	fclose(mounts);
	return found;
}

static bool in_use_swap(const struct stat *thing, char *where, size_t where_size)
{
	FILE *swaps = fopen("/proc/swaps", "re");
	size_t line_size = 0;
	char *line = NULL;
	bool found = false;

	if (!swaps)
		return false;
	while (!found && getline(&line, &line_size, swaps) > 0) {
		line[strcspn(line, " \t\n")] = 0;
		unescape(line);
		found = names(line, thing);
	}
	if (found)
		snprintf(where, where_size, "swap");
	free(line);
	fclose(swaps);
	return found;
}

/* Calls `visit` for each name in a folder that does not begin with a dot, until it says true. */
static bool any_entry(const char *folder, bool (*visit)(const char *folder, const char *name, void *context),
		      void *context)
{
	struct dirent *entry;
	bool found = false;
	DIR *dir = opendir(folder);

	if (!dir)
		return false;
	while (!found && (entry = readdir(dir))) {
		if (entry->d_name[0] != '.')
			found = visit(folder, entry->d_name, context);
	}
	closedir(dir);
	return found;
}

struct search {
	const struct stat *thing;
	char *where;
	size_t where_size;
};

static bool in_use_thing(const struct stat *thing, char *where, size_t where_size);

static bool visit_holder(const char *folder, const char *name, void *context)
{
	struct search *search = context;

	snprintf(search->where, search->where_size, "held by /dev/%s", name);
	return true;
}

/* Below a whole disk: its partitions, folders with a `partition` and a `dev` in them. */
static bool visit_partition(const char *folder, const char *name, void *context)
{
	struct search *search = context;
	struct stat partition = { .st_mode = S_IFBLK };
	unsigned int major_number, minor_number;
	char path[600], inner[400];
	FILE *file;
	int fields;

	snprintf(path, sizeof(path), "%s/%s/partition", folder, name);
	if (access(path, F_OK))
		return false;
	snprintf(path, sizeof(path), "%s/%s/dev", folder, name);
	file = fopen(path, "re");
	if (!file)
		return false;
	fields = fscanf(file, "%u:%u", &major_number, &minor_number);
	fclose(file);
	if (fields != 2)
		return false;
	partition.st_rdev = makedev(major_number, minor_number);
	if (!in_use_thing(&partition, inner, sizeof(inner)))
		return false;
	snprintf(search->where, search->where_size, "its partition %s is %s", name, inner);
	return true;
}

/* /sys/block/loopN: is the file under it the one we look for? */
static bool visit_loop(const char *folder, const char *name, void *context)
{
	struct search *search = context;
	struct stat loop;
	char path[4096], inner[400], device[300];
	FILE *file;
	bool same;

	if (strncmp(name, "loop", 4))
		return false;
	snprintf(path, sizeof(path), "%s/%s/loop/backing_file", folder, name);
	file = fopen(path, "re");
	if (!file)
		return false;
	same = fgets(path, sizeof(path), file);
	fclose(file);
	if (!same)
		return false;
	path[strcspn(path, "\n")] = 0;
	if (!names(path, search->thing))
		return false;
	snprintf(device, sizeof(device), "/dev/%s", name);
	if (!stat(device, &loop) && in_use_thing(&loop, inner, sizeof(inner)))
		snprintf(search->where, search->where_size, "it lies under %s, %s", device, inner);
	else
		snprintf(search->where, search->where_size, "it lies under %s", device);
	return true;
}

static bool in_use_thing(const struct stat *thing, char *where, size_t where_size)
{
	struct search search = { thing, where, where_size };
	char folder[64];

	if (in_use_mounted(thing, where, where_size) || in_use_swap(thing, where, where_size))
		return true;
	if (!S_ISBLK(thing->st_mode))
		return any_entry("/sys/block", visit_loop, &search);
	snprintf(folder, sizeof(folder), "/sys/dev/block/%u:%u/holders", major(thing->st_rdev), minor(thing->st_rdev));
	if (any_entry(folder, visit_holder, &search))
		return true;
	snprintf(folder, sizeof(folder), "/sys/dev/block/%u:%u", major(thing->st_rdev), minor(thing->st_rdev));
	return any_entry(folder, visit_partition, &search);
}

bool leg_in_use(const char *path, char *where, size_t where_size)
{
	struct stat thing;

	if (where_size)
		where[0] = 0;
	if (stat(path, &thing) || (!S_ISBLK(thing.st_mode) && !S_ISREG(thing.st_mode)))
		return false;
	return in_use_thing(&thing, where, where_size);
}

static bool tell_process(long pid, char *who, size_t who_size)
{
	char path[64], command[64] = "";
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%ld/comm", pid);
	file = fopen(path, "re");
	if (!file)
		return false;
	if (!fgets(command, sizeof(command), file))
		command[0] = 0;
	fclose(file);
	command[strcspn(command, "\n")] = 0;
	snprintf(who, who_size, "process %ld (%s)", pid, command);
	return true;
}

/* /proc/locks: "1: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF", device numbers in hex. */
static bool holder_by_lock(const struct stat *thing, char *who, size_t who_size)
{
	unsigned int major_number, minor_number;
	FILE *locks = fopen("/proc/locks", "re");
	unsigned long long inode;
	size_t line_size = 0;
	char *line = NULL;
	bool found = false;
	long pid;

	if (!locks)
		return false;
	while (!found && getline(&line, &line_size, locks) > 0) {
		if (sscanf(line, "%*d: FLOCK %*s %*s %ld %x:%x:%llu", &pid, &major_number, &minor_number, &inode) != 4)
			continue;
		/* The process that took the lock may have left it to a child: then look for who has the file open. */
		found = makedev(major_number, minor_number) == thing->st_dev && inode == thing->st_ino &&
			tell_process(pid, who, who_size);
	}
	free(line);
	fclose(locks);
	return found;
}

static bool visit_open_file(const char *folder, const char *name, void *context)
{
	const struct search *search = context;
	struct stat status = { 0 };
	struct statx found;
	char path[1024];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	/* What is known already is enough: a process may have a file open on a filesystem that answers no more. */
	if (statx(AT_FDCWD, path, AT_STATX_DONT_SYNC, STATX_TYPE | STATX_INO, &found))
		return false;
	status.st_mode = found.stx_mode;
	status.st_ino = found.stx_ino;
	status.st_dev = makedev(found.stx_dev_major, found.stx_dev_minor);
	status.st_rdev = makedev(found.stx_rdev_major, found.stx_rdev_minor);
	return same_thing(search->thing, &status);
}

static bool visit_process(const char *folder, const char *name, void *context)
{
	struct search *search = context;
	char path[600];
	long pid = strtol(name, NULL, 10);

	if (pid <= 0 || (pid == getpid() && S_ISREG(search->thing->st_mode)))
		return false; /* our own attempt at an image is open; at a device it never was */
	snprintf(path, sizeof(path), "%s/%s/fd", folder, name);
	return any_entry(path, visit_open_file, search) && tell_process(pid, search->where, search->where_size);
}

bool leg_holder(const struct stat *file, char *who, size_t who_size)
{
	struct search search = { file, who, who_size };

	if (S_ISREG(file->st_mode) && holder_by_lock(file, who, who_size))
		return true;
	return any_entry("/proc", visit_process, &search);
}
