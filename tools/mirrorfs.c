/* SPDX-License-Identifier: GPL-2.0-or-later */
/* mirrorfs: mounts a volume and serves it. */
#include "budget.h"
#include "daemon.h"
#include "dump.h"
#include "helper.h"
#include "journald.h"
#include "legs.h"
#include "mountpoint.h"
#include "notify.h"
#include "options.h"
#include "sandbox.h"

#include "mirrorfs/base/clock.h"
#include "mirrorfs/base/iobuf.h"
#include "mirrorfs/base/log.h"
#include "mirrorfs/base/sync.h"
#include "mirrorfs/cache.h"
#include "mirrorfs/ctl.h"
#include "mirrorfs/front.h"
#include "mirrorfs/fs.h"
#include "mirrorfs/meta.h"
#include "mirrorfs/mirror.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

/* mount(8) */
enum { EXIT_OK = 0, EXIT_USAGE = 1, EXIT_SYSTEM = 2, EXIT_USER = 8, EXIT_FAIL = 32 };

#define PAUSE_NS (200 * NSEC_PER_MSEC)
#define STOP_MSEC 60000 /* systemd kills a service 90 seconds after it was told to stop */

struct volume {
	struct mount_options options;
	struct budget_plan memory;
	const char *spec[MIRROR_LEGS];
	char mountpoint[PATH_MAX];
	char source[1100];
	struct iobuf_pool *pool;
	struct mirror *mirror;
	struct cache *cache;
	struct meta *meta;
	struct fs *fs;
	struct front *front;
	struct ctl *ctl;
	struct ctl_events *events;
};

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("mirrorfs: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
}

/* ---- signals: blocked everywhere, taken by one thread ---- */

static void signals_block(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGHUP);
	sigaddset(set, SIGUSR1);
	sigprocmask(SIG_BLOCK, set, NULL);
	signal(SIGPIPE, SIG_IGN);
}

/* Before there is a mount to end, they end the waiting. */
static bool pause_or_signal(void)
{
	struct timespec a_little = { .tv_nsec = PAUSE_NS };
	sigset_t set;

	signals_block(&set);
	return sigtimedwait(&set, NULL, &a_little) < 0;
}

struct watcher {
	struct thread thread;
	struct front *front;
	struct mirror *mirror;
	int signals, done;
};

static void watcher_run(void *arg)
{
	struct watcher *watcher = arg;
	struct pollfd polls[] = { { .fd = watcher->signals, .events = POLLIN },
				  { .fd = watcher->done, .events = POLLIN } };
	struct signalfd_siginfo info;
	int patience = -1;

	while (!polls[1].revents) {
		int ready = poll(polls, 2, patience), error;

		if (!ready) {
			log_warn("still in use: those who use it get errors from now on");
			error = front_cut(watcher->front);
			if (error)
				log_error("cannot end it: %s", strerror(-error));
			patience = -1;
		}
		if (ready <= 0 || !polls[0].revents)
			continue;
		if (read(watcher->signals, &info, sizeof(info)) != sizeof(info))
			continue;
		if (info.ssi_signo == SIGUSR1) {
			dump_in_flight(watcher->front, watcher->mirror);
			continue;
		}
		log_info("%s: unmounting", strsignal((int)info.ssi_signo));
		notify_send("STOPPING=1", "unmounting");
		if (notify_wanted())
			patience = STOP_MSEC;
		front_stop(watcher->front);
	}
}

static int watcher_start(struct watcher *watcher, struct front *front, struct mirror *mirror)
{
	sigset_t set;

	signals_block(&set);
	watcher->front = front;
	watcher->mirror = mirror;
	watcher->signals = signalfd(-1, &set, SFD_CLOEXEC);
	watcher->done = eventfd(0, EFD_CLOEXEC);
	if (watcher->signals < 0 || watcher->done < 0)
		return -errno;
	return thread_start(&watcher->thread, "signals", watcher_run, watcher);
}

static void watcher_stop(struct watcher *watcher)
{
	eventfd_write(watcher->done, 1);
	thread_join(&watcher->thread);
	close(watcher->signals);
	close(watcher->done);
}

/* ---- opening and closing ---- */

/* What befalls the volume is for whoever asks later, and what it is like then for `systemctl status`. */
static void event(void *context, const struct mirror_event *event)
{
	ctl_event(context, event);
	if (event->kind == MIRROR_EVENT_LEG_STATE || event->kind == MIRROR_EVENT_READ_ONLY)
		notify_send("", "%s", event->text);
}

/* The program of -o notify; the helper keeps their order. */
static void event_notify(void *context, const char *kind, const char *text, const char *json)
{
	const struct volume *volume = context;
	const char *const words[] = { kind, volume->mountpoint, text, json, NULL };
	int code = helper_notify(words);

	if (code)
		log_warn("%s was not told: event=%s error=\"%s\"", volume->options.notify, kind, strerror(-code));
}

static int open_mirror(struct volume *volume, struct error *error)
{
	struct legs_request request = { .spec = { volume->spec[0], volume->spec[1] },
					.options = &volume->options,
					.pause = pause_or_signal };
	struct mirror_options options = { .read_only = volume->options.read_only,
					  .degraded = volume->options.degraded,
					  .takeover = volume->options.takeover,
					  .heartbeat_ns = volume->options.heartbeat_ns,
					  .admit = meta_admit,
					  .policy = volume->options.policy,
					  .write_mostly = volume->options.write_mostly,
					  .leg_timeout_ns = volume->options.leg_timeout_ns,
					  .deadline_ns = volume->options.deadline_ns,
					  .event = event,
					  .event_context = volume->events,
					  .pool = volume->pool };
	struct leg *legs[MIRROR_LEGS];
	struct error said = { "" };
	int code = legs_open(&request, legs, error);

	if (code)
		return code;
	host_this(&options.host);
	snprintf(volume->source, sizeof(volume->source), "%s", leg_path(legs[0]));
	code = mirror_open(legs, &options, &volume->mirror, &said);
	/* The way out of two histories and of a broken label: the leg that was named, without the other. */
	if (code && volume->options.degraded && !volume->spec[1] && legs[1]) {
		log_warn("%s; without %s, which was not named", said.text, leg_path(legs[1]));
		leg_close(legs[1]);
		legs[1] = NULL;
		said.text[0] = '\0';
		code = mirror_open(legs, &options, &volume->mirror, &said);
	}
	if (code) {
		error_set(error, code, "%s", said.text);
		leg_close(legs[0]);
		leg_close(legs[1]);
	}
	return code;
}

/* Data waits to be written, then what it changed in the tree waits for the journal: half of the time each. */
static int open_cache(struct volume *volume, struct error *error)
{
	struct cache_config config = { .budget_bytes = volume->options.cache_bytes,
				       .node_floor_percent = 25,
				       .dirty_percent = 20,
				       .write_after_ns = volume->options.commit_ns / 2 };

	volume->cache = cache_create(&config);
	return volume->cache ? 0 : error_set(error, -ENOMEM, "out of memory for a cache of %zu MiB",
					     config.budget_bytes >> 20);
}

static int open_meta(struct volume *volume, struct error *error)
{
	struct meta_options options = { .read_only = volume->options.read_only,
					.commit_ns = volume->options.commit_ns / 2,
					.discard = volume->options.discard };

	int code = meta_open(volume->mirror, volume->cache, &options, &volume->meta, error);

	/* What can be read of a damaged volume is worth more than a refusal. */
	if (code == -EIO && !options.read_only && !mirror_failed(volume->mirror)) {
		struct error said = *error;

		options.read_only = volume->options.read_only = true;
		error->text[0] = '\0';
		code = meta_open(volume->mirror, volume->cache, &options, &volume->meta, error);
		if (!code)
			log_warn("%s", said.text);
	}
	if (!code && meta_damage(volume->meta))
		log_error("%s: %s; mounted read-only, and part of it cannot be read: unmount, then run fsck.mirrorfs",
			  volume->source, meta_damage(volume->meta));
	return code;
}

static int open_fs(struct volume *volume, struct error *error)
{
	struct fs_options options = { .read_only = volume->options.read_only,
				      .durable_names = volume->options.sync || volume->options.dirsync,
				      .atime = volume->options.atime };

	return fs_open(volume->meta, volume->cache, &options, &volume->fs, error);
}

static int open_front(struct volume *volume, struct error *error)
{
	struct front_options options = { .mountpoint = volume->mountpoint,
					 .source = volume->source,
					 .read_only = volume->options.read_only,
					 .block_device = volume->options.block_device,
					 .transport = volume->options.transport,
					 .threads = volume->memory.threads,
					 .buffer_bytes = volume->memory.buffer_bytes,
					 .cpu_latency = volume->options.cpu_latency,
					 .cpu_latency_us = volume->options.cpu_latency_us,
					 .poll_us = volume->options.poll_us,
					 .iolog = volume->options.iolog[0] ? volume->options.iolog : NULL,
					 .iolog_msec = volume->options.iolog_msec,
					 .mount_options = volume->options.kernel,
					 .unmount = helper_unmount };
	int code = options.block_device ? mirror_hand_over(volume->mirror, volume->source) : 0;

	if (code == -ENOTBLK)
		return error_set(error, code, "%s: -o blkdev is for a leg that is a block device", volume->source);
	if (code)
		error_set(error, code, "%s: cannot be handed over to the mount: %s", volume->source, strerror(-code));
	else
		sandbox_lift();
	code = front_mount(volume->fs, &options, &volume->front, error);
	sandbox_lower();
	/* Somebody else may have claimed it in between. */
	if (code && options.block_device)
		mirror_fail(volume->mirror, "its device could not be mounted");
	return code;
}

static int open_ctl(struct volume *volume, struct error *error)
{
	struct ctl_subjects subjects = { .mirror = volume->mirror,
					 .cache = volume->cache,
					 .meta = volume->meta,
					 .fs = volume->fs,
					 .front = volume->front,
					 .mountpoint = volume->mountpoint,
					 .source = volume->source,
					 .read_only = volume->options.read_only,
					 .fixed_bytes = volume->memory.fixed_bytes,
					 .events = volume->events };

	return ctl_serve(&subjects, &volume->ctl, error);
}

/* The mirror of which a leg has not given everything back is still there to be asked. */
static void tell_held(struct mirror *mirror, struct error *error)
{
	struct mirror_status *status = malloc(sizeof(*status));

	if (status)
		mirror_status(mirror, status);
	for (int leg = 0; status && leg < MIRROR_LEGS; leg++) {
		if (status->leg[leg].abandoned)
			error_set(error, -EBUSY, "leg %d (%s) has not given all requests back: it stays locked",
				  leg, status->leg[leg].address);
	}
	error_set(error, -EBUSY, "a leg has not given all requests back: it stays locked until then");
	free(status);
}

/* In reverse, from wherever the opening got to. The first error of what was still to be written. */
static int volume_close(struct volume *volume)
{
	struct error held = { "" };
	int code = 0, error;

	ctl_stop(volume->ctl);
	if (volume->fs)
		code = fs_close(volume->fs);
	if (volume->meta) {
		error = meta_close(volume->meta);
		code = code ? code : error;
	}
	if (volume->cache)
		cache_destroy(volume->cache);
	if (volume->mirror && !mirror_close(volume->mirror)) {
		/* The kernel may still write into its buffers, and what it gives back is counted. */
		tell_held(volume->mirror, &held);
	} else {
		ctl_events_destroy(volume->events);
		if (volume->pool)
			iobuf_pool_destroy(volume->pool);
	}
	/* Where umount(2) waits for this, it returns now. */
	if (volume->front)
		front_destroy(volume->front);
	if (code)
		log_error("%s: not everything reached the legs: %s", volume->mountpoint, strerror(-code));
	ctl_destroy(volume->ctl, code ? code : held.text[0] ? -EBUSY : 0, code ? strerror(-code) : held.text);
	return code;
}

static int volume_open(struct volume *volume, struct error *error)
{
	int code;

	if (!volume->options.cache_bytes)
		volume->options.cache_bytes = budget_default("");
	volume->memory = budget_plan(volume->options.cache_bytes);
	volume->pool = iobuf_pool_create(volume->memory.pool_bytes, volume->memory.abandon_bytes);
	if (!volume->pool)
		return error_set(error, -ENOMEM, "out of memory");
	if (iobuf_pool_spare(volume->pool))
		log_debug("what is set aside for writing may be swapped out");
	volume->events = ctl_events_create();
	if (!volume->events)
		return error_set(error, -ENOMEM, "out of memory");
	if (volume->options.notify[0])
		ctl_events_tell(volume->events, event_notify, volume);
	code = volume->options.network ? leg_network(error) : 0;
	if (!code)
		code = open_mirror(volume, error);
	if (!code)
		code = open_cache(volume, error);
	if (!code)
		code = open_meta(volume, error);
	if (!code)
		code = open_fs(volume, error);
	if (!code)
		code = open_front(volume, error);
	return code;
}

/* What is freed goes back: an arena for each thread, or large pieces among small ones, would keep it. */
static void settle_memory(void)
{
	mallopt(M_ARENA_MAX, 2);
	mallopt(M_MMAP_THRESHOLD, 128 << 10);
}

/*
 * A daemon under the page cache must neither wait for it when memory is short nor be killed to make room. What is there
 * now stays in memory, that is the program; what the cache will have must be able to go.
 */
static void protect_process(void)
{
	FILE *file;

	if (mlockall(MCL_CURRENT | MCL_ONFAULT))
		log_debug("the program may be swapped out: %s", strerror(errno));
	prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
	file = fopen("/proc/self/oom_score_adj", "we");
	if (!file)
		return;
	setvbuf(file, NULL, _IONBF, 0);
	fputs("-1000", file);
	fclose(file);
}


static void tell_ready(const struct volume *volume)
{
	const struct mirror_identity *identity = mirror_identity(volume->mirror);
	char uuid[UUID_TEXT_SIZE], ready[64];

	snprintf(ready, sizeof(ready), "READY=1\nMAINPID=%d", (int)getpid());
	journald_describe(uuid_format(&identity->volume, uuid), identity->label, volume->mountpoint);
	daemon_ready();
	notify_send(ready, "serving %s at %s", volume->source, volume->mountpoint);
	log_info("mounted %s at %s", volume->source, volume->mountpoint);
}

/* From the last word on the mount until it has been written out. */
static int serve(struct volume *volume, struct error *error)
{
	struct watcher watcher;
	int code = watcher_start(&watcher, volume->front, volume->mirror);

	if (code) {
		front_stop(volume->front);
		front_serve(volume->front);
		return error_set(error, code, "cannot take signals: %s", strerror(-code));
	}
	code = open_ctl(volume, error);
	if (code) {
		front_stop(volume->front);
	} else {
		sandbox_enter(leg_network_seal());
		tell_ready(volume);
	}
	front_serve(volume->front);
	notify_send("STOPPING=1", "writing the last to the legs");
	watcher_stop(&watcher);
	return code;
}

static int run(struct volume *volume)
{
	struct error error = { "" };
	int code, closed;

	umask(0);
	settle_memory();
	protect_process();
	sandbox_begin();
	notify_send("", "opening the legs");
	code = volume_open(volume, &error);
	if (!code)
		code = serve(volume, &error);
	if (code)
		log_error("%s", error.text[0] ? error.text : strerror(-code));
	closed = volume_close(volume);
	if (code)
		return code == -EINTR ? EXIT_USER : EXIT_FAIL;
	return closed ? EXIT_SYSTEM : EXIT_OK;
}

/* ---- the command line ---- */

static void usage(FILE *out)
{
	fputs("usage: mirrorfs [-fdhV] [-o OPTIONS] LEG [LEG] MOUNTPOINT\n"
	      "Mounts the files that lie on two legs, each a full copy.\n\n"
	      "  LEG                a path, nbd://HOST/EXPORT, UUID=..., LABEL=... or fault:RULES:PATH\n"
	      "  -o, --options      comma separated, see below\n"
	      "  -f, --foreground   do not go into the background\n"
	      "  -d, --debug        foreground, with a line for each request\n"
	      "  -h, --help         this text\n"
	      "  -V, --version      the version\n\n"
	      "Options:\n",
	      out);
	options_help(out);
}

static int check_mountpoint(struct volume *volume, const char *path)
{
	struct error error = { "" };
	struct stat st;

	if (mountpoint_clear(path, &error)) {
		say("%s", error.text);
		return EXIT_FAIL;
	}
	if (stat(path, &st)) {
		if (errno == ENOENT)
			say("%s: no such directory to mount at", path);
		else
			say("%s: %s", path, strerror(errno));
		return EXIT_FAIL;
	}
	if (!S_ISDIR(st.st_mode)) {
		say("%s: not a directory to mount at", path);
		return EXIT_FAIL;
	}
	if (access(path, W_OK)) {
		say("%s: to mount here you must be allowed to write to it", path);
		return EXIT_USAGE;
	}
	if (!realpath(path, volume->mountpoint)) {
		say("%s: %s", path, strerror(errno));
		return EXIT_FAIL;
	}
	return EXIT_OK;
}

/* What can be said of the legs by their names alone. */
static int check_legs(const struct volume *volume)
{
	char path[MIRROR_LEGS][PATH_MAX] = { "", "" };
	struct error error = { "" };
	size_t length = strlen(volume->mountpoint);

	for (int i = 0; i < MIRROR_LEGS && volume->spec[i]; i++) {
		if (!strncmp(volume->spec[i], "UUID=", 5) || !strncmp(volume->spec[i], "LABEL=", 6))
			continue;
		if (!legs_answer(volume->spec[i])) {
			if (legs_may_lack(&volume->options, volume->spec[!i]))
				continue;
			say("%s: its filesystem does not answer; -o degraded mounts without it", volume->spec[i]);
			return EXIT_FAIL;
		}
		if (legs_path(volume->spec[i], path[i], sizeof(path[i]))) {
			say("%s: the path is too long", volume->spec[i]);
			return EXIT_FAIL;
		}
		if (leg_address_elsewhere(volume->spec[i]))
			continue;
		if (!strncmp(path[i], volume->mountpoint, length) && (path[i][length] == '/' || !path[i][length])) {
			say("%s lies inside the mount point %s", path[i], volume->mountpoint);
			return EXIT_FAIL;
		}
	}
	if (path[0][0] && path[1][0] && legs_refuse_same(volume->spec, &error)) {
		say("%s", error.text);
		return EXIT_FAIL;
	}
	return EXIT_OK;
}

/* There it would lie below the mount, and nobody would find it before the end. */
static int check_iolog(const struct volume *volume)
{
	char prefix[sizeof(volume->options.iolog)], folder[PATH_MAX];
	size_t length = strlen(volume->mountpoint);
	char *name;

	strcpy(prefix, volume->options.iolog);
	name = strrchr(prefix, '/');
	if (name)
		*name = '\0';
	if (!prefix[0] || !realpath(name ? prefix : ".", folder))
		return EXIT_OK; /* whoever opens it will tell */
	if (strncmp(folder, volume->mountpoint, length) != 0 || (folder[length] && folder[length] != '/'))
		return EXIT_OK;
	say("option iolog: %s lies inside the mount point %s", volume->options.iolog, volume->mountpoint);
	return EXIT_FAIL;
}

/* Found now, and by its absolute path: the daemon stands in the root. */
static int check_notify(struct volume *volume)
{
	char path[PATH_MAX];
	struct stat st;

	if (!volume->options.notify[0])
		return EXIT_OK;
	if (!realpath(volume->options.notify, path) || stat(path, &st)) {
		say("option notify: %s: %s", volume->options.notify, strerror(errno));
		return EXIT_FAIL;
	}
	if (!S_ISREG(st.st_mode) || access(path, X_OK)) {
		say("option notify: %s: not a program", volume->options.notify);
		return EXIT_FAIL;
	}
	snprintf(volume->options.notify, sizeof(volume->options.notify), "%s", path);
	return EXIT_OK;
}

static int operands(struct volume *volume, char **words, int count)
{
	int code;

	if (count < 2 || count > 3) {
		usage(stderr);
		return EXIT_USAGE;
	}
	volume->spec[0] = words[0];
	volume->spec[1] = count == 3 ? words[1] : NULL;
	if (volume->options.leg[0]) {
		if (volume->spec[1]) {
			say("option leg names the other leg, but two are given");
			return EXIT_USAGE;
		}
		volume->spec[1] = volume->options.leg;
	}
	if (volume->options.block_device && geteuid()) {
		say("option blkdev: only root mounts block devices");
		return EXIT_USAGE;
	}
	code = check_mountpoint(volume, words[count - 1]);
	if (!code)
		code = check_iolog(volume);
	return code ? code : check_notify(volume);
}

int main(int argc, char **argv)
{
	static const struct option long_options[] = { { "options", required_argument, NULL, 'o' },
						      { "foreground", no_argument, NULL, 'f' },
						      { "debug", no_argument, NULL, 'd' },
						      { "help", no_argument, NULL, 'h' },
						      { "version", no_argument, NULL, 'V' },
						      { NULL, 0, NULL, 0 } };
	static struct volume volume;
	struct helper_options helper = { .argv = argv, .mountpoint = volume.mountpoint };
	const char *debugged = getenv("MIRRORFS_DEBUG");
	struct error error = { "" };
	sigset_t set;
	int code, c;

	options_init(&volume.options);
	if (debugged && !log_debug_storeys(debugged)) {
		say("MIRRORFS_DEBUG=%s: there are base, leg, mirror, range, cache, meta, fs, front, ctl, tools and all",
		    debugged);
		return EXIT_USAGE;
	}
	while ((c = getopt_long(argc, argv, "o:fdhV", long_options, NULL)) >= 0) {
		switch (c) {
		case 'o':
			if (options_parse(&volume.options, optarg, &error)) {
				say("%s", error.text);
				return EXIT_USAGE;
			}
			break;
		case 'd':
			log_debug_storeys("all");
			helper.foreground = true;
			break;
		case 'f':
			helper.foreground = true;
			break;
		case 'h':
			usage(stdout);
			return EXIT_OK;
		case 'V':
			puts("mirrorfs " MIRRORFS_VERSION);
			return EXIT_OK;
		default:
			usage(stderr);
			return EXIT_USAGE;
		}
	}
	code = operands(&volume, argv + optind, argc - optind);
	if (code)
		return code;
	notify_begin();
	if (volume.options.notify[0])
		helper.program = volume.options.notify;
	code = helper_start(&helper);
	if (code) {
		say("cannot start a process: %s", strerror(-code));
		return EXIT_SYSTEM;
	}
	daemon_begin(helper.foreground);
	signals_block(&set);
	dump_last_line();
	code = check_legs(&volume);
	if (!code)
		code = run(&volume);
	daemon_over(code);
	return code;
}
