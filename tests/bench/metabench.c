/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The metadata half of fsbench.py: small loops of plain system calls.
 * Prints one JSON object: {"ops":N,"sec":S,"sync_sec":T}; sec includes sync_sec,
 * the time to make the result durable (see make_durable).
 *
 *   create DIR N THREADS SIZE [SYNCPATH..]  N files of SIZE bytes; T>1: DIR/0..T-1
 *   stat   DIR N                 stat f000000.. in name order
 *   ls     DIR                   readdir + fstatat of every entry, as `ls -l`
 *   rename DIR N [SYNCPATH..]    f000000 -> g000000 ..
 *   unlink DIR N [SYNCPATH..]    remove g000000 ..
 *   append FILE SECONDS          100-byte O_APPEND write + fsync, until time is up
 *   walk   DIR                   recursive readdir + fstatat, as `git status` / `du`
 *   sync   DIR [SYNCPATH..]      only make_durable
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define THREADS_MOST 64

static double began; /* of what is measured */

static void die(const char *what)
{
	fprintf(stderr, "metabench: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

/* syncfs(2) does not reach every FUSE server, so the directory is fsynced too
 * (FSYNCDIR does), and so is each extra path: the file system or the block
 * device below a FUSE server. A kernel file system pays for the syncfs only. */
static void make_durable(const char *dir, char **extra)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY);

	if (fd < 0)
		die(dir);
	if (syncfs(fd))
		die("syncfs");
	if (fsync(fd) && errno != EINVAL && errno != ENOSYS)
		die("fsync dir");
	close(fd);
	for (; extra && *extra; extra++) {
		struct stat st;

		if ((fd = open(*extra, O_RDONLY)) < 0 || fstat(fd, &st))
			die(*extra);
		if (S_ISDIR(st.st_mode) ? syncfs(fd) : fsync(fd))
			die(*extra);
		close(fd);
	}
}

struct job {
	char dir[PATH_MAX + 24];
	long count;
	size_t size;
	const char *data;
};

static void *creator(void *arg)
{
	struct job *j = arg;
	char path[PATH_MAX + 64];

	for (long i = 0; i < j->count; i++) {
		int fd;

		snprintf(path, sizeof(path), "%s/f%06ld", j->dir, i);
		fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
		if (fd < 0 || write(fd, j->data, j->size) != (ssize_t)j->size || close(fd))
			die(path);
	}
	return NULL;
}

static long walk(const char *dir, bool recurse)
{
	long n = 0;
	char path[PATH_MAX];
	struct dirent *e;
	struct stat st;
	DIR *d = opendir(dir);

	if (!d)
		die(dir);
	while ((e = readdir(d))) {
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW))
			die(e->d_name);
		n++;
		if (recurse && S_ISDIR(st.st_mode)) {
			snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
			n += walk(path, true);
		}
	}
	closedir(d);
	return n;
}

/* ---- commands: how many operations ---- */

static void fill(char *data, size_t size)
{
	for (size_t i = 0; i < size; i++)
		data[i] = (char)(i * 2654435761u >> 7);
}

static long run_create(char **args)
{
	long n = atol(args[1]), threads = atol(args[2]);
	struct job job[THREADS_MOST];
	pthread_t tid[THREADS_MOST];
	size_t size = (size_t)atol(args[3]);
	char *data = malloc(size + 1);

	if (threads < 1 || threads > THREADS_MOST || !data) {
		fprintf(stderr, "metabench: 1 to %d threads\n", THREADS_MOST);
		exit(2);
	}
	fill(data, size);
	for (long t = 0; t < threads; t++) {
		job[t] = (struct job){ .count = n / threads, .size = size, .data = data };
		if (threads > 1)
			snprintf(job[t].dir, sizeof(job[t].dir), "%s/%ld", args[0], t);
		else
			snprintf(job[t].dir, sizeof(job[t].dir), "%s", args[0]);
		if (threads > 1 && mkdir(job[t].dir, 0755))
			die(job[t].dir);
	}
	began = now();
	for (long t = 0; t < threads; t++)
		pthread_create(&tid[t], NULL, creator, &job[t]);
	for (long t = 0; t < threads; t++)
		pthread_join(tid[t], NULL);
	free(data);
	return n / threads * threads;
}

static long run_stat(char **args)
{
	long n = atol(args[1]);
	struct stat st;
	char path[PATH_MAX];

	for (long i = 0; i < n; i++) {
		snprintf(path, sizeof(path), "%s/f%06ld", args[0], i);
		if (stat(path, &st))
			die(path);
	}
	return n;
}

static long run_ls(char **args)
{
	return walk(args[0], false);
}

static long run_walk(char **args)
{
	return walk(args[0], true);
}

static long run_rename(char **args)
{
	long n = atol(args[1]);
	char from[PATH_MAX], to[PATH_MAX];

	for (long i = 0; i < n; i++) {
		snprintf(from, sizeof(from), "%s/f%06ld", args[0], i);
		snprintf(to, sizeof(to), "%s/g%06ld", args[0], i);
		if (rename(from, to))
			die(from);
	}
	return n;
}

static long run_unlink(char **args)
{
	long n = atol(args[1]);
	char path[PATH_MAX];

	for (long i = 0; i < n; i++) {
		snprintf(path, sizeof(path), "%s/g%06ld", args[0], i);
		if (unlink(path))
			die(path);
	}
	return n;
}

static long run_append(char **args)
{
	int fd = open(args[0], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	double end = began + atof(args[1]);
	char line[100];
	long n;

	if (fd < 0)
		die(args[0]);
	memset(line, 'x', sizeof(line));
	for (n = 0; now() < end; n++) {
		if (write(fd, line, sizeof(line)) != sizeof(line) || fsync(fd))
			die("append");
	}
	close(fd);
	return n;
}

static long run_sync(char **args)
{
	return 0;
}

static const struct command {
	const char *name;
	int args;
	bool sync; /* what follows is synced too */
	long (*run)(char **args);
} commands[] = {
	{ "create", 4, true, run_create },  { "stat", 2, false, run_stat },    { "ls", 1, false, run_ls },
	{ "walk", 1, false, run_walk },	    { "rename", 2, true, run_rename }, { "unlink", 2, true, run_unlink },
	{ "append", 2, false, run_append }, { "sync", 1, true, run_sync },
};

int main(int argc, char **argv)
{
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		const struct command *command = &commands[i];
		double done;
		long n;

		if (argc < 2 + command->args || strcmp(argv[1], command->name))
			continue;
		began = now();
		n = command->run(argv + 2);
		done = now();
		if (command->sync)
			make_durable(argv[2], argv + 2 + command->args);
		printf("{\"ops\":%ld,\"sec\":%.6f,\"sync_sec\":%.6f}\n", n, now() - began, now() - done);
		return 0;
	}
	fprintf(stderr,
		"usage: metabench create|stat|ls|walk|rename|unlink|append|sync ...: see the top of metabench.c\n");
	return 2;
}
