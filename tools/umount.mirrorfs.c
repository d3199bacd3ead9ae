/* SPDX-License-Identifier: GPL-2.0-or-later */
/* umount.mirrorfs: what umount(8) runs for a mount of ours. When it returns, the legs are safe to pull. */
#include "mountpoint.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

/* mount(8) */
enum { EXIT_OK = 0, EXIT_USAGE = 1, EXIT_SYSTEM = 2, EXIT_FAIL = 32 };

static void usage(FILE *out)
{
	fputs("usage: umount.mirrorfs MOUNTPOINT [-flnrv] [-N NAMESPACE] [-t TYPE]\n"
	      "Run by umount(8): unmounts, and waits until the daemon has written all and let go of the legs.\n\n"
	      "  -l   detach it now, do not wait for its last user nor for the daemon\n"
	      "  -f   also if the daemon does not answer: those who use it get errors\n"
	      "  -h   this text\n"
	      "  -V   the version\n"
	      "Other options of umount(8) are taken and change nothing.\n",
	      out);
}

static int end(const char *path, int flags)
{
	struct ctl_mount *mount = malloc(sizeof(*mount));
	struct error error = { "" };
	int count = mount ? ctl_mounts(path, mount, 1, &error) : -ENOMEM, code = 0;
	bool unmounted = false;

	if (count == 1)
		code = mountpoint_end(mount, flags, &unmounted, &error);
	free(mount);
	if (count != 1) {
		fprintf(stderr, "umount.mirrorfs: %s\n", error.text[0] ? error.text : "no mirrorfs is mounted there");
		return EXIT_USAGE;
	}
	if (code)
		fprintf(stderr, "umount.mirrorfs: %s: %s\n", path, error.text);
	/* A dead mount was to go away, and did. */
	if (!code || code == -ECONNREFUSED)
		return EXIT_OK;
	return unmounted ? EXIT_SYSTEM : EXIT_FAIL;
}

int main(int argc, char **argv)
{
	int c, flags = 0;

	while ((c = getopt(argc, argv, "flnrvN:t:hV")) >= 0) {
		switch (c) {
		case 'f':
			flags |= MNT_FORCE;
			break;
		case 'l':
			flags |= MNT_DETACH;
			break;
		case 'h':
			usage(stdout);
			return EXIT_OK;
		case 'V':
			puts("umount.mirrorfs " MIRRORFS_VERSION);
			return EXIT_OK;
		case '?':
			usage(stderr);
			return EXIT_USAGE;
		}
	}
	if (optind != argc - 1) {
		usage(stderr);
		return EXIT_USAGE;
	}
	return end(argv[optind], flags);
}
