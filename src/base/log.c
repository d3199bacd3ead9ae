/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mirrorfs/base/log.h"

#include <stdarg.h>
#include <stdio.h>

static void to_stderr(enum log_level level, const char *line)
{
	(void)level;
	fprintf(stderr, "mirrorfs: %s\n", line);
}

static void (*log_sink)(enum log_level level, const char *line) = to_stderr;
static enum log_level log_limit = LOG_LEVEL_INFO;

void log_set_sink(void (*sink)(enum log_level level, const char *line))
{
	log_sink = sink ? sink : to_stderr;
}

void log_set_level(enum log_level level)
{
	log_limit = level;
}

void log_line(enum log_level level, const char *format, ...)
{
	char line[1024];
	va_list args;

	if (level > log_limit)
		return;
	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	log_sink(level, line);
}
