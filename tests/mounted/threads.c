/* SPDX-License-Identifier: GPL-2.0-or-later */
/* To be preloaded: once something was mounted, the thread of number FAILING_THREAD from then on cannot be had. */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mount.h>

static int left; /* until it fails; 0: nothing was mounted yet */

int mount(const char *source, const char *target, const char *type, unsigned long flags, const void *data)
{
	int (*real)(const char *, const char *, const char *, unsigned long, const void *) = dlsym(RTLD_NEXT, "mount");
	int result = real(source, target, type, flags, data);

	if (!result)
		left = atoi(getenv("FAILING_THREAD"));
	return result;
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *arg)
{
	int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) =
		dlsym(RTLD_NEXT, "pthread_create");

	return left && !--left ? EAGAIN : real(thread, attr, run, arg);
}
