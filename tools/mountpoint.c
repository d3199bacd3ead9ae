/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mountpoint.h"

#include "mirrorfs/front.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define STACKED_MAX 64 /* dead mounts at one place */

/*
 * The kernel remembers the attributes of a dead mount's root, but cannot tell its size. Who asks while the rings of a
 * killed daemon are still being taken down hears that his request was cancelled, or aborted.
 */
static bool is_dead(const char *path)
{
	struct statvfs vfs;

	return statvfs(path, &vfs) && (errno == ENOTCONN || errno == ECONNABORTED || errno == ECANCELED);
}

int mountpoint_clear(const char *path, struct error *error)
{
	struct ctl_mount *mount;
	int code, lock;

	if (!is_dead(path))
		return 0;
	/* Who else clears it may have mounted there, when we come to what we saw. */
	lock = ctl_lock(error);
	if (lock < 0)
		return lock;
	mount = malloc(sizeof(*mount));
	code = mount ? 0 : -ENOMEM;
	for (int i = 0; !code && i < STACKED_MAX && is_dead(path); i++) {
		code = ctl_mounts(path, mount, 1, NULL);
		code = code < 0 ? code : !code ? -ENOTCONN : front_unmount(mount->mountpoint, MNT_DETACH);
	}
	free(mount);
	close(lock);
	if (code)
		return error_set(error, code, "%s: a mount whose daemon is gone lies here; first: umount -l %s", path,
				 path);
	return 0;
}

int mountpoint_end(const struct ctl_mount *mount, int flags, bool *unmounted, struct error *error)
{
	struct error silence = { "" };
	struct ctl_end end;
	int silent = ctl_end_ask(mount, &end, &silence), code = front_unmount(mount->mountpoint, flags);

	*unmounted = !code;
	if (code == -EBUSY)
		error_set(error, code, "%s is in use", mount->mountpoint);
	else if (code)
		error_set(error, code, "%s: cannot unmount: %s", mount->mountpoint, strerror(-code));
	if (!silent && (code || flags & MNT_DETACH))
		ctl_end_forget(&end);
	else if (!silent)
		code = ctl_end_wait(&end, error);
	else if (!code && silent != -ETIMEDOUT && silent != -EBUSY)
		code = error_set(error, -ECONNREFUSED, "its daemon had gone before: what was not synced is lost");
	else if (!code && !(flags & MNT_DETACH))
		code = error_set(error, silent, "unmounted, but %s: its legs may not be safe to pull", silence.text);
	return code;
}
