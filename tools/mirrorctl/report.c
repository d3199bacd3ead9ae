/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "report.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* report.html: tools/meson.build makes C of it. */
extern const char report_page[];

static const char mark[] = "@DATA@";

/* JSON as it may stand in a page: nothing in it ends the element around it. */
static void put_data(FILE *out, const json_t *data)
{
	char *text = json_dumps(data, JSON_COMPACT);

	for (const char *at = text; at && *at; at++) {
		if (*at == '<')
			fputs("\\u003c", out);
		else
			fputc(*at, out);
	}
	free(text);
}

int report_write(const char *path, const json_t *data)
{
	const char *at = strstr(report_page, mark);
	FILE *out = fopen(path, "we");
	int error = 0;

	if (!out)
		return -errno;
	fwrite(report_page, 1, (size_t)(at - report_page), out);
	put_data(out, data);
	fputs(at + strlen(mark), out);
	if (ferror(out))
		error = -EIO;
	if (fclose(out))
		error = -errno;
	return error;
}
