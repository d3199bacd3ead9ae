/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "journald.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <syslog.h>
#include <unistd.h>

#define JOURNALD_KEY_MAX 32

static const struct sockaddr_un journald_address = { .sun_family = AF_UNIX,
							     .sun_path = "/run/systemd/journal/socket" };
static int journald_socket = -1;
static char journald_fields[8192]; /* lines that all have */

bool journald_open(void)
{
	if (access(journald_address.sun_path, W_OK))
		return false;
	journald_socket = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	return journald_socket >= 0;
}

bool journald_is_stderr(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long device, inode;
	struct stat st;

	return stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 && !fstat(STDERR_FILENO, &st) &&
	       st.st_dev == device && st.st_ino == inode;
}

static void describe(const char *key, const char *value)
{
	size_t used = strlen(journald_fields);

	/* A path may have a newline, which would begin another field. */
	if (value[0] && !strchr(value, '\n'))
		snprintf(journald_fields + used, sizeof(journald_fields) - used, "%s=%s\n", key, value);
}

void journald_describe(const char *volume, const char *label, const char *mountpoint)
{
	journald_fields[0] = '\0';
	describe("MIRRORFS_VOLUME", volume);
	describe("MIRRORFS_LABEL", label);
	describe("MIRRORFS_MOUNTPOINT", mountpoint);
}

static void add(char *text, size_t size, size_t *used, const char *format, ...) __attribute__((format(printf, 4, 5)));
static void add(char *text, size_t size, size_t *used, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	*used += (size_t)vsnprintf(*used < size ? text + *used : NULL, *used < size ? size - *used : 0, format, args);
	va_end(args);
}

/* The length of a key that begins a word here and ends with "="; 0: none does. */
static size_t key_length(const char *line, const char *at)
{
	size_t length = 0;

	if (at > line && at[-1] != ' ')
		return 0;
	while (islower((unsigned char)at[length]) || at[length] == '_')
		length++;
	return at[length] == '=' && length && length < JOURNALD_KEY_MAX ? length : 0;
}

static void add_fields(char *text, size_t size, size_t *used, const char *line)
{
	for (const char *at = line; *at; at++) {
		size_t length = key_length(line, at), value_length;
		const char *value = at + length + 1;
		char key[JOURNALD_KEY_MAX];

		if (!length)
			continue;
		for (size_t i = 0; i < length; i++)
			key[i] = (char)toupper((unsigned char)at[i]);
		if (*value == '"')
			value_length = strcspn(++value, "\"");
		else
			value_length = strcspn(value, " ,;");
		add(text, size, used, "MIRRORFS_%.*s=%.*s\n", (int)length, key, (int)value_length, value);
		at = value + value_length;
		if (!*at)
			break;
	}
}

size_t journald_format(char *text, size_t size, int priority, const char *line)
{
	size_t used = 0, length = strcspn(line, "\n");

	add(text, size, &used, "MESSAGE=%.*s\nPRIORITY=%d\nSYSLOG_FACILITY=%d\nSYSLOG_IDENTIFIER=mirrorfs\n",
	    (int)length, line, priority, LOG_DAEMON >> 3);
	add(text, size, &used, "SYSLOG_PID=%d\n%s", (int)getpid(), journald_fields);
	if (!line[length])
		add_fields(text, size, &used, line);
	return used;
}

void journald_write(int priority, const char *line)
{
	char text[16384];
	size_t length = journald_format(text, sizeof(text), priority, line);

	(void)!sendto(journald_socket, text, length < sizeof(text) ? length : sizeof(text) - 1,
		      MSG_DONTWAIT | MSG_NOSIGNAL, (const struct sockaddr *)&journald_address,
		      sizeof(journald_address));
}
