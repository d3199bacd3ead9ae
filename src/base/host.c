/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A machine-id is not to leave its machine, so what others see is a hash of it that is of use to nobody else. Two
 * machines that were cloned from one image have the same: whoever compares may not take that for more than a hint.
 */
#include "mirrorfs/base/host.h"

#include "mirrorfs/base/endian.h"
#include "mirrorfs/base/siphash.h"
#include "mirrorfs/base/uuid.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* The first line of a file, without its end. False: there is none. */
static bool line_of(const char *path, char *line, int size)
{
	FILE *file = fopen(path, "re");
	bool read = file && fgets(line, size, file);

	if (file)
		fclose(file);
	if (read)
		line[strcspn(line, "\n")] = '\0';
	return read && line[0];
}

void host_this(struct host *host)
{
	static const uint8_t keys[2][16] = {"mirrorfs claim 0", "mirrorfs claim 1"};
	char line[64];

	memset(host, 0, sizeof(*host));
	if (line_of("/etc/machine-id", line, sizeof(line)) && strlen(line) == 32) {
		for (int i = 0; i < 2; i++) {
			le64 half = le64_of(siphash(keys[i], line, 32));

			memcpy(host->machine + 8 * i, &half, sizeof(half));
		}
	}
	if (line_of("/proc/sys/kernel/random/boot_id", line, sizeof(line))) {
		struct uuid boot;

		if (uuid_parse(line, &boot))
			memcpy(host->boot, boot.bytes, sizeof(host->boot));
	}
	if (gethostname(host->name, sizeof(host->name) - 1))
		strcpy(host->name, "?");
}
