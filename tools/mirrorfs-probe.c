/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mirrorfs-probe: what udev shall know of a leg, as lines that its rules import. libblkid, which tells udev of other
 * filesystems, cannot be taught a new one from outside.
 */
#include "peek.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { EXIT_LEG = 0, EXIT_USAGE = 1, EXIT_NONE = 2, EXIT_ERROR = 3 };

/* As udev writes names of links: what is neither plain nor part of UTF-8 becomes \xNN. */
static void print_encoded(const char *key, const char *text)
{
	printf("%s=", key);
	for (const unsigned char *at = (const unsigned char *)text; *at; at++) {
		if (isalnum(*at) || strchr("#+-.:=@_", *at) || *at >= 0x80)
			putchar(*at);
		else
			printf("\\x%02x", *at);
	}
	putchar('\n');
}

/* A line is a line, whatever stands in a label. */
static void print_plain(const char *key, const char *text)
{
	printf("%s=", key);
	for (const unsigned char *at = (const unsigned char *)text; *at; at++)
		putchar(isspace(*at) || iscntrl(*at) || strchr("\"'\\", *at) ? '_' : *at);
	putchar('\n');
}

static void print(const struct mirror_label_info *info)
{
	const struct mirror_identity *identity = &info->identity;
	char text[UUID_TEXT_SIZE];

	puts("ID_FS_TYPE=mirrorfs\nID_FS_USAGE=filesystem");
	uuid_format(&identity->leg[info->index], text);
	printf("ID_FS_UUID_SUB=%s\nID_FS_UUID_SUB_ENC=%s\n", text, text);
	/* Whoever looks for the volume is not to find the leg that another one has replaced. */
	if (info->replaced)
		return;
	uuid_format(&identity->volume, text);
	printf("ID_FS_UUID=%s\nID_FS_UUID_ENC=%s\n", text, text);
	if (!identity->label[0])
		return;
	print_plain("ID_FS_LABEL", identity->label);
	print_encoded("ID_FS_LABEL_ENC", identity->label);
}

int main(int argc, char **argv)
{
	struct mirror_label_info info;
	struct error error = { "" };
	int code;

	if (argc != 2 || argv[1][0] == '-') {
		fputs("usage: mirrorfs-probe DEVICE\n"
		      "Prints what udev's rules import of a leg. Exit status: 0 it is one, 2 it is none, 3 an error.\n",
		      stderr);
		return EXIT_USAGE;
	}
	code = peek_label(argv[1], &info, &error);
	if (code == -ENODATA)
		return EXIT_NONE;
	if (code) {
		fprintf(stderr, "mirrorfs-probe: %s\n", error.text);
		return EXIT_ERROR;
	}
	print(&info);
	return EXIT_LEG;
}
