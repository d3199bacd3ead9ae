/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How far a long work is: a bar on a terminal, or the lines that fsck(8) reads from its checkers. */
#ifndef MIRRORFS_TOOLS_PROGRESS_H
#define MIRRORFS_TOOLS_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
	const char *device;
	int passes;
	int fd; /* -1: nobody wants to know; lines "pass done total device" go there */
	bool bar; /* on standard output instead */
	int last; /* what was told, in thousandths of a pass; and of which pass */
	int last_pass;
};

void progress_tell(struct progress *progress, int pass, uint64_t done, uint64_t total);
void progress_clear(struct progress *progress); /* before anything else is printed */

#endif
