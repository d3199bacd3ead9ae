/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What sysfs knows of the disk below a block device. Two legs on one disk survive no more than one: the answer
 * serves a warning, so where sysfs is silent it is "not known", never an error.
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

#define DISK_LAYERS_MAX 8 /* loop on crypt on raid on partition on ...: ends also if sysfs shows a circle */

/* Reads one attribute of a block device, without its newline. */
static bool disk_attribute(dev_t device, const char *name, char *text, size_t text_size)
{
	char path[512];
	ssize_t length;
	int fd;

	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%s", major(device), minor(device), name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	length = read(fd, text, text_size - 1);
	close(fd);
	if (length <= 0)
		return false;
	text[length] = 0;
	text[strcspn(text, "\n")] = 0;
	return true;
}

static dev_t disk_number(dev_t device, const char *name)
{
	unsigned int major_number, minor_number;
	char text[64];

	if (!disk_attribute(device, name, text, sizeof(text)) ||
	    sscanf(text, "%u:%u", &major_number, &minor_number) != 2)
		return 0;
	return makedev(major_number, minor_number);
}

/* The one device that a stacked device stands on; 0 if it stands on none or on several. */
static dev_t disk_only_slave(dev_t device)
{
	char path[64], name[300] = "";
	struct dirent *entry;
	int count = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/slaves", major(device), minor(device));
	dir = opendir(path);
	if (!dir)
		return 0;
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(name, sizeof(name), "slaves/%s/dev", entry->d_name);
		count++;
	}
	closedir(dir);
	return count == 1 ? disk_number(device, name) : 0;
}

static dev_t disk_one_below(dev_t device)
{
	char text[4096];
	struct stat file;

	if (disk_attribute(device, "partition", text, sizeof(text)))
		return disk_number(device, "../dev");
	if (disk_attribute(device, "loop/backing_file", text, sizeof(text)))
		return stat(text, &file) ? 0 : file.st_dev;
	return disk_only_slave(device);
}

dev_t leg_disk_below(dev_t device)
{
	char text[64];

	/* A filesystem without a device of its own (btrfs, tmpfs, overlay) shows a number that sysfs lacks. */
	if (!disk_attribute(device, "dev", text, sizeof(text)))
		return 0;
	for (int layer = 0; layer < DISK_LAYERS_MAX; layer++) {
		dev_t below = disk_one_below(device);

		if (!below || !disk_attribute(below, "dev", text, sizeof(text)))
			break;
		device = below;
	}
	return device;
}

bool leg_disk_rotational(dev_t disk)
{
	char text[64];

	return disk_attribute(disk, "queue/rotational", text, sizeof(text)) && text[0] == '1';
}

bool leg_disk_discards(dev_t device)
{
	char text[64];

	return (disk_attribute(device, "queue/discard_max_bytes", text, sizeof(text)) ||
		disk_attribute(device, "../queue/discard_max_bytes", text, sizeof(text))) &&
	       strtoull(text, NULL, 10) > 0;
}
