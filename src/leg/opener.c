/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A path may lie where nobody answers any more: on a network that is gone, behind a process that was stopped. Whoever
 * asks the kernel for it then waits, and cannot be called back. So it is asked on a thread of its own, which is left
 * to wait alone after a while. If it is answered after all, it closes what it has opened.
 */
#include "leg_private.h"

#include "mirrorfs/base/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define OPENER_PATIENCE_NS (15 * NSEC_PER_SEC)

/* Of one that is left this stays until the process ends, with its thread. */
struct opener {
	struct thread thread;
	struct mutex lock; /* RANK_LEAF */
	struct cond cond;
	bool done, left;
	bool look; /* whether there is an answer is all that is wanted */
	char *path;
	struct leg_options options;
	struct leg_file file;
	struct error error;
	int result;
};

static void opener_free(struct opener *opener)
{
	cond_fini(&opener->cond);
	mutex_fini(&opener->lock);
	free(opener->path);
	free(opener);
}

static void opener_run(void *arg)
{
	struct opener *opener = arg;
	struct stat status;
	bool left;

	if (opener->look)
		opener->result = stat(opener->path, &status) ? -errno : 0;
	else
		opener->result = leg_file_open(opener->path, &opener->options, &opener->file, &opener->error);
	mutex_lock(&opener->lock);
	opener->done = true;
	left = opener->left;
	cond_signal(&opener->cond);
	mutex_unlock(&opener->lock);
	if (left && !opener->look && !opener->result)
		leg_file_close(&opener->file);
}

static struct opener *opener_create(const char *path)
{
	struct opener *opener = calloc(1, sizeof(*opener));

	if (!opener)
		return NULL;
	mutex_init(&opener->lock, RANK_LEAF);
	cond_init(&opener->cond);
	opener->path = strdup(path);
	if (opener->path)
		return opener;
	opener_free(opener);
	return NULL;
}

/* False: it was left. */
static bool opener_wait(struct opener *opener)
{
	uint64_t until_ns = clock_now_ns() + OPENER_PATIENCE_NS;
	bool done;

	mutex_lock(&opener->lock);
	while (!opener->done && cond_wait_until(&opener->cond, &opener->lock, until_ns))
		;
	done = opener->done;
	opener->left = !done;
	mutex_unlock(&opener->lock);
	if (done)
		thread_join(&opener->thread);
	return done;
}

static int opener_ask(struct opener *opener)
{
	int error = thread_start(&opener->thread, "leg-opener", opener_run, opener);

	if (error)
		return error;
	return opener_wait(opener) ? 0 : -ETIMEDOUT;
}

int leg_opener_open(const char *path, const struct leg_options *options, struct leg_file *file, struct error *error)
{
	struct opener *opener = opener_create(path);
	int result = -ENOMEM;

	if (opener) {
		opener->options = *options;
		result = opener_ask(opener);
	}
	if (result == -ETIMEDOUT)
		return error_set(error, result, "%s: its filesystem does not answer", path);
	if (result) {
		error_set(error, result, "%s: %s", path, strerror(-result));
	} else {
		result = opener->result;
		*file = opener->file;
		if (result && error)
			*error = opener->error;
	}
	if (opener)
		opener_free(opener);
	return result;
}

bool leg_answers(const char *path)
{
	struct opener *opener = opener_create(path);
	int result;

	if (!opener)
		return true;
	opener->look = true;
	result = opener_ask(opener);
	if (result == -ETIMEDOUT)
		return false;
	opener_free(opener);
	return true;
}
