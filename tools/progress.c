/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "progress.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define BAR_WIDTH 40

static void bar_draw(const struct progress *progress, int pass, int thousandths)
{
	static const char full[] = "========================================";
	int all = ((pass - 1) * 1000 + thousandths) / progress->passes;
	int width = all * BAR_WIDTH / 1000;

	printf("\r%s: |%.*s%*s| %3d.%d%%", progress->device, width, full, BAR_WIDTH - width, "", all / 10, all % 10);
	fflush(stdout);
}

void progress_tell(struct progress *progress, int pass, uint64_t done, uint64_t total)
{
	int thousandths = total && done < total ? (int)(done * 1000.0 / (double)total) : 1000;

	if ((progress->fd < 0 && !progress->bar) || (pass == progress->last_pass && thousandths == progress->last))
		return;
	progress->last_pass = pass;
	progress->last = thousandths;
	if (progress->bar)
		bar_draw(progress, pass, thousandths);
	else if (dprintf(progress->fd, "%d %llu %llu %s\n", pass, (unsigned long long)done, (unsigned long long)total,
			 progress->device) < 0)
		progress->fd = -1; /* nobody listens any more */
}

void progress_clear(struct progress *progress)
{
	if (progress->bar && progress->last_pass)
		printf("\r%*s\r", (int)strlen(progress->device) + BAR_WIDTH + 12, "");
	progress->last_pass = 0;
}
