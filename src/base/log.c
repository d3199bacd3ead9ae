/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mirrorfs/base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void to_stderr(enum log_level level, const char *line)
{
	(void)level;
	fprintf(stderr, "mirrorfs: %s\n", line);
}

static void (*log_sink)(enum log_level level, const char *line) = to_stderr;
static enum log_level log_limit = LOG_LEVEL_INFO;

/* The folders of src/, and the tools. */
static const char *const storeys[] = {
	"base", "leg", "mirror", "range", "cache", "meta", "fs", "front", "ctl", "tools",
};
#define STOREYS (sizeof(storeys) / sizeof(storeys[0]))

bool log_debugging;
static unsigned int wanted; /* mask of storeys */

void log_set_sink(void (*sink)(enum log_level level, const char *line))
{
	log_sink = sink ? sink : to_stderr;
}

void log_set_level(enum log_level level)
{
	log_limit = level;
}

bool log_debug_storeys(const char *names)
{
	unsigned int mask = 0;

	while (*names) {
		size_t length = strcspn(names, ","), i = 0;

		while (i < STOREYS && (strlen(storeys[i]) != length || memcmp(storeys[i], names, length) != 0))
			i++;
		if (i < STOREYS)
			mask |= 1u << i;
		else if (length == strlen("all") && !memcmp(names, "all", length))
			mask = ~0u;
		else if (length)
			return false;
		names += length + (names[length] == ',');
	}
	wanted = mask;
	log_debugging = mask;
	return true;
}

/* "../src/leg/uring.c": the folder in which it lies. */
bool log_debug_wanted(const char *file)
{
	const char *name = strrchr(file, '/'), *folder = name;

	while (folder && folder > file && folder[-1] != '/')
		folder--;
	for (size_t i = 0; folder && i < STOREYS; i++)
		if (!strncmp(storeys[i], folder, (size_t)(name - folder)) && !storeys[i][name - folder])
			return wanted >> i & 1;
	return false;
}

void log_line(enum log_level level, const char *format, ...)
{
	char line[1024];
	va_list args;

	if (level > log_limit && level != LOG_LEVEL_DEBUG)
		return;
	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	log_sink(level, line);
}
