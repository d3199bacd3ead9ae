/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A mount's life: mount, negotiate, serve, end.
 *
 * Promise: nobody who asks for the end loses data. front_stop() first has the kernel write what it holds (dirty mapped
 * pages), takes it, makes it durable, and only then unmounts, all while the workers serve; a busy mount is detached and
 * served until its last user is gone.
 *
 * A mount of a block device ends with a request, DESTROY, for whose answer umount(2) waits, and the kernel's claim on
 * the device with it. It is given when everything is closed: so a leg is safe to pull once umount has returned. What
 * the kernel had sent before and nobody waits for is passed over from then on.
 *
 * Lock: RANK_FRONT guards the list of open files, the start of the stopper against the end of serving, and that end.
 */
#include "front_private.h"

#include "mirrorfs/base/log.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

/* Each waits for its own I/O, so there are more of them than processors. */
#define WORKERS 16
#define READERS 2 /* of /dev/fuse where requests come over rings: for what still comes there */
#define READ_AHEAD_KIB 1024

/* ---- libfuse's words ---- */

static _Thread_local struct error *library_error; /* while mounting: where its complaint goes */

static void library_log(enum fuse_log_level level, const char *format, va_list args)
{
	char line[256], *end;

	vsnprintf(line, sizeof(line), format, args);
	end = strchr(line, '\n');
	if (end)
		*end = '\0';
	if (library_error)
		error_set(library_error, 0, "%s", line);
	else
		log_warn("libfuse: %s", line);
}

/* ---- unmounting ---- */

static int fusermount(const char *how, const char *mountpoint)
{
	char *argv[] = { "fusermount3", "-q", (char *)how, "--", (char *)mountpoint, NULL };
	posix_spawnattr_t attr;
	sigset_t none;
	int error, status;
	pid_t pid;

	sigemptyset(&none);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
	posix_spawnattr_setsigmask(&attr, &none);
	error = posix_spawnp(&pid, argv[0], NULL, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
	if (error)
		return -error;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) && !WEXITSTATUS(status) ? 0 : -EBUSY;
}

int front_unmount(const char *mountpoint, int flags)
{
	if (!umount2(mountpoint, UMOUNT_NOFOLLOW | flags))
		return 0;
	return errno == EPERM ? fusermount(flags & MNT_DETACH ? "-uz" : "-u", mountpoint) : -errno;
}

static int unmount_ours(const struct front *front, int flags)
{
	return front->unmount ? front->unmount(flags) : front_unmount(front->mountpoint, flags);
}

/* ---- mounting ---- */

static int option_add(char **text, const char *name, const char *value)
{
	char option[8192];

	snprintf(option, sizeof(option), "%s%s", name, value);
	return fuse_opt_add_opt_escaped(text, option) ? -ENOMEM : 0;
}

/* The -o words for libfuse. The caller's come last, so that they win. */
static int mount_words(const struct front_options *options, char **text)
{
	int error = option_add(text, "fsname=", options->source);

	if (!error)
		error = option_add(text, "subtype=", "mirrorfs");
	if (!error)
		error = option_add(text, "default_permissions", "");
	if (!error && !geteuid() && fuse_opt_add_opt(text, "allow_other,dev,suid"))
		error = -ENOMEM;
	if (!error && options->read_only)
		error = option_add(text, "ro", "");
	/* The kernel's default of 512 is refused where sectors are larger. */
	if (!error && options->block_device && fuse_opt_add_opt(text, "blkdev,blksize=4096"))
		error = -ENOMEM;
	if (!error && options->mount_options && options->mount_options[0] &&
	    fuse_opt_add_opt(text, options->mount_options))
		error = -ENOMEM;
	return error;
}

static int session_mount(struct front *front, const struct front_options *options, struct error *error)
{
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	struct error said = { "" };
	char *words = NULL;
	int result = -ENOMEM;

	fuse_set_log_func(library_log);
	if (mount_words(options, &words) || fuse_opt_add_arg(&args, "mirrorfs") || fuse_opt_add_arg(&args, "-o") ||
	    fuse_opt_add_arg(&args, words))
		goto out;
	library_error = &said;
	front->session = fuse_session_new(&args, &ops_table, sizeof(ops_table), front);
	if (!front->session) {
		result = error_set(error, -EINVAL, "%s: mount options refused: %s", options->mountpoint, said.text);
	} else if (fuse_session_mount(front->session, options->mountpoint)) {
		result = error_set(error, -EPERM, "%s: cannot mount: %s", options->mountpoint,
				   said.text[0] ? said.text : "refused by fusermount3");
	} else {
		result = transport_hook(front);
	}
	library_error = NULL;
out:
	free(words);
	fuse_opt_free_args(&args);
	return result;
}

/* When the transport was agreed on. */
static int workers_create(struct front *front)
{
	unsigned int count = front->ring_count ? front->ring_count + READERS : front->threads;

	front->workers = calloc(count, sizeof(*front->workers));
	front->entries = calloc(count, sizeof(*front->entries));
	if (!front->workers || !front->entries)
		return -ENOMEM;
	for (; front->worker_count < count; front->worker_count++) {
		struct front_worker *worker = &front->workers[front->worker_count];
		struct front_entry *entry = &front->entries[front->entry_count];
		int error;

		worker->front = front;
		worker->ring = rings_at(front, front->worker_count);
		if (worker->ring && !ring_has_entry(worker->ring))
			continue;
		error = transport_entry_init(entry, front);
		if (error)
			return error;
		worker->entry = entry;
		front->entry_count++;
	}
	return 0;
}

static void worker_run(void *arg)
{
	struct front_worker *worker = arg;
	struct front *front = worker->front;
	struct ring *ring = worker->ring;

	transport_run(worker);
	mutex_lock(&front->lock);
	front->serving--;
	cond_broadcast(&front->moved);
	mutex_unlock(&front->lock);
	if (ring)
		ring_leave(ring);
}

static int workers_start(struct front *front)
{
	for (; front->worker_started < front->worker_count; front->worker_started++) {
		struct front_worker *worker = &front->workers[front->worker_started];
		int error;

		mutex_lock(&front->lock);
		front->serving++;
		mutex_unlock(&front->lock);
		error = thread_start(&worker->thread, "front", worker_run, worker);
		if (error)
			return error;
	}
	return 0;
}

static void workers_join(struct front *front)
{
	for (; front->worker_started; front->worker_started--)
		thread_join(&front->workers[front->worker_started - 1].thread);
}

/* The kernel's default of 128 KiB leaves sequential reads waiting; only root may change it. */
static void raise_read_ahead(const struct front *front)
{
	char path[64];
	FILE *file;

	snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u%s/read_ahead_kb", major(front->device),
		 minor(front->device), front->block_device ? "-fuseblk" : "");
	file = fopen(path, "we");
	if (!file)
		return;
	fprintf(file, "%d\n", READ_AHEAD_KIB);
	if (fclose(file))
		log_debug("read-ahead not raised: %s", strerror(errno));
}

/* The first request is INIT: how many workers it takes to go on is known after it. */
static int negotiate(struct front *front, struct error *error)
{
	struct front_entry entry = { .front = NULL };
	struct front_worker worker = { .front = front, .entry = &entry };
	int result = transport_entry_init(&entry, front);

	if (result)
		return error_set(error, result, "out of memory");
	result = transport_serve_one(&worker);
	transport_entry_fini(&entry);
	if (result || !front->negotiated)
		return error_set(error, -EPROTO, "%s: the kernel and libfuse did not agree on a protocol",
				 front->mountpoint);
	if (front->transport == FRONT_URING && !front->ring_count)
		return error_set(error, -EOPNOTSUPP, "%s: transport=uring is not to be had: it takes Linux 6.14, a Y "
				 "in /sys/module/fuse/parameters/enable_uring, and leave to use io_uring; "
				 "transport=auto goes without", front->mountpoint);
	return 0;
}

/* The last step asks through the kernel for the root: what we promise was seen to work. */
static int begin_serving(struct front *front, struct error *error)
{
	struct stat st;
	int result = negotiate(front, error);

	if (result)
		return result;
	result = workers_create(front);
	if (!result)
		result = workers_start(front);
	if (result)
		return error_set(error, result, "cannot start threads: %s", strerror(-result));
	if (stat(front->mountpoint, &st))
		return error_set(error, -errno, "%s: mounted, but its root cannot be read: %s", front->mountpoint,
				 strerror(errno));
	front->device = st.st_dev;
	raise_read_ahead(front);
	return 0;
}

int front_mount(struct fs *fs, const struct front_options *options, struct front **result, struct error *error)
{
	struct front *front = aligned_alloc(_Alignof(struct front), sizeof(*front));
	int code;

	*result = NULL;
	if (!front)
		return error_set(error, -ENOMEM, "out of memory");
	memset(front, 0, sizeof(*front));
	front->fs = fs;
	front->fd = -1;
	poll_create(&front->poll, options);
	front->io_max = FRONT_IO_LEAST; /* until INIT */
	front->block_device = options->block_device;
	front->unmount = options->unmount;
	front->transport = options->transport;
	front->old_kernel = getenv("MIRRORFS_LINUX61");
	front->threads = options->threads ? options->threads : WORKERS;
	front->buffer_bytes = options->buffer_bytes ? options->buffer_bytes : front->threads * (size_t)FRONT_IO_MAX;
	LIST_INIT(&front->handles);
	mutex_init(&front->lock, RANK_FRONT);
	cond_init(&front->moved);
	front->mountpoint = strdup(options->mountpoint);
	front->times = histograms_create(FRONT_OPS);
	code = front->mountpoint && front->times ? 0 : -ENOMEM;
	if (!code && options->iolog)
		code = iolog_open(options->iolog, options->iolog_msec, &front->iolog, error);
	if (!code)
		code = latency_create(options, &front->latency, error);
	if (!code)
		code = session_mount(front, options, error);
	if (!code) {
		code = begin_serving(front, error);
		/* Cut off first: so the workers that were started end, and no last request needs an answer of them. */
		if (code)
			unmount_ours(front, MNT_FORCE | MNT_DETACH);
	}
	if (code) {
		front_destroy(front);
		return error_set(error, code, "%s: cannot mount: %s", options->mountpoint, strerror(-code));
	}
	*result = front;
	return 0;
}

/* ---- stopping ---- */

/* False: what lies at the mount point is not ours. */
static bool mount_is_ours(const struct front *front)
{
	int fd = open(front->mountpoint, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat st;
	bool ours;

	if (fd < 0)
		return false;
	ours = !fstat(fd, &st) && st.st_dev == front->device;
	close(fd);
	return ours;
}

/* The lowest number above `inode` of a file that is open; 0: none. */
static uint64_t next_open(struct front *front, uint64_t inode)
{
	struct front_handle *handle;
	uint64_t next = 0;

	mutex_lock(&front->lock);
	LIST_FOREACH(handle, &front->handles, link)
		if (handle->inode > inode && (!next || handle->inode < next))
			next = handle->inode;
	mutex_unlock(&front->lock);
	return next;
}

/*
 * Dirty mapped pages are the kernel's alone, of files that somebody has open. syncfs(2) does not wait until it has
 * written them, but whoever has it forget the pages of a file gets each dirty one first, as long as there is someone to
 * serve that.
 */
static void take_mapped_pages(struct front *front)
{
	for (uint64_t inode = next_open(front, 0); inode; inode = next_open(front, inode)) {
		int error = fuse_lowlevel_notify_inval_inode(front->session, inode, 0, 0);

		if (error && error != -ENOENT)
			log_error("mapped memory was not written before the unmount inode=%llu: %s",
				  (unsigned long long)inode, strerror(-error));
	}
}

static void stop_run(void *arg)
{
	struct front *front = arg;
	bool ours = mount_is_ours(front);
	int error;

	take_mapped_pages(front);
	error = fs_sync(front->fs);
	if (error)
		log_error("%s: sync before the unmount failed: %s", front->mountpoint, strerror(-error));
	mutex_lock(&front->lock);
	front->stop_synced = true;
	cond_broadcast(&front->moved);
	mutex_unlock(&front->lock);
	if (!ours) {
		log_error("%s: not unmounted, something else is mounted over it; serving goes on", front->mountpoint);
		front->stop_failed = true;
		return;
	}
	error = unmount_ours(front, 0);
	if (error == -EBUSY) {
		log_warn("%s is busy: detached, and served until its last user is gone", front->mountpoint);
		error = unmount_ours(front, MNT_DETACH);
	}
	/* EINVAL: someone else unmounted it first. */
	if (error && error != -EINVAL) {
		log_error("%s: cannot unmount: %s", front->mountpoint, strerror(-error));
		front->stop_failed = true;
	}
}

void front_stop(struct front *front)
{
	mutex_lock(&front->lock);
	if (front->stop_started && front->stop_failed && !front->ended) {
		/* Perhaps it can now. */
		thread_join(&front->stop_thread);
		front->stop_started = front->stop_synced = false;
		front->stop_failed = false;
	}
	if (!front->stop_started && !front->ended)
		front->stop_started = !thread_start(&front->stop_thread, "front-stop", stop_run, front);
	mutex_unlock(&front->lock);
}

int front_cut(struct front *front)
{
	char path[64];
	int fd, error;

	take_mapped_pages(front);
	error = fs_sync(front->fs);
	if (error)
		log_error("%s: sync before the end failed: %s", front->mountpoint, strerror(-error));
	/* The kernel's own form of the number. */
	snprintf(path, sizeof(path), "/sys/fs/fuse/connections/%u/abort",
		 major(front->device) << 20 | minor(front->device));
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	atomic_store(&front->cut, true);
	error = write(fd, "1", 1) == 1 ? 0 : -errno;
	close(fd);
	return error;
}

/* ---- serving ---- */

/* The last request has come, and nobody but the worker that has it is busy, nor the stopper with the fs. */
static bool is_over_locked(const struct front *front)
{
	unsigned int busy = 0;

	for (unsigned int i = 0; i < front->entry_count; i++)
		busy += atomic_load(&front->entries[i].busy);
	return front->last && busy <= 1 && (!front->stop_started || front->stop_synced);
}

void front_last_request(struct front *front)
{
	mutex_lock(&front->lock);
	atomic_store(&front->last, true);
	cond_broadcast(&front->moved);
	while (!front->closed)
		cond_wait(&front->moved, &front->lock);
	mutex_unlock(&front->lock);
}

void front_worker_moved(struct front *front)
{
	mutex_lock(&front->lock);
	cond_broadcast(&front->moved);
	mutex_unlock(&front->lock);
}

/* Until the stopper has done what it can; it may wait in umount(2) for the answer to the last request. */
static void stopper_join(struct front *front)
{
	bool stopping;

	mutex_lock(&front->lock);
	stopping = front->stop_started;
	front->stop_started = false;
	mutex_unlock(&front->lock);
	if (stopping)
		thread_join(&front->stop_thread);
}

int front_serve(struct front *front)
{
	bool last;

	mutex_lock(&front->lock);
	while (front->serving && !is_over_locked(front))
		cond_wait(&front->moved, &front->lock);
	front->ended = true;
	last = front->last;
	mutex_unlock(&front->lock);
	if (last)
		return 0;
	workers_join(front);
	stopper_join(front);
	/* What we had detached before has no place any more: whatever lies there is not ours to unmount. */
	if (!front->aborted || front->cut)
		return 0;
	/* The connection was cut off below a mount that is still there: all who look at it would get ENOTCONN. */
	log_error("%s: the connection to the kernel was aborted", front->mountpoint);
	unmount_ours(front, MNT_DETACH);
	return -ECONNABORTED;
}

/* Nobody reads or writes any more, but for a worker that has the last request, which is neither. */
static void log_end(struct front *front)
{
	iolog_close(front->iolog);
	front->iolog = NULL;
}

void front_destroy(struct front *front)
{
	struct front_handle *handle;

	log_end(front);
	mutex_lock(&front->lock);
	front->closed = true;
	cond_broadcast(&front->moved);
	mutex_unlock(&front->lock);
	workers_join(front);
	stopper_join(front);
	if (front->session) {
		fuse_session_unmount(front->session);
		fuse_session_destroy(front->session);
	}
	latency_destroy(front->latency);
	poll_destroy(&front->poll);
	rings_destroy(front);
	for (unsigned int i = 0; i < front->entry_count; i++)
		transport_entry_fini(&front->entries[i]);
	while ((handle = LIST_FIRST(&front->handles))) {
		LIST_REMOVE(handle, link);
		free(handle);
	}
	free(front->entries);
	free(front->workers);
	histograms_destroy(front->times);
	free(front->mountpoint);
	cond_fini(&front->moved);
	mutex_fini(&front->lock);
	free(front);
}

void front_stats(struct front *front, struct front_stats *stats)
{
	bool rings = front->ring_count && !atomic_load(&front->rings_refused);

	*stats = (struct front_stats){ .transport = rings ? "uring" : "classic",
				       .threads = front->worker_count,
				       .device = front->device };
	for (unsigned int i = 0; i < front->worker_count; i++)
		stats->requests += atomic_load_explicit(&front->workers[i].requests, memory_order_relaxed);
	for (unsigned int i = 0; i < front->entry_count; i++)
		stats->in_flight += atomic_load_explicit(&front->entries[i].busy, memory_order_relaxed);
}
