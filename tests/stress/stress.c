/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "stress.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WORKERS_MAX 16

static struct stress stress = { .seconds = 10, .xattr = XATTR_MAX };
static time_t until;

/* ---- chance ---- */

uint64_t chance_next(struct chance *chance)
{
	uint64_t word = chance->state += UINT64_C(0x9e3779b97f4a7c15);

	word = (word ^ word >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	word = (word ^ word >> 27) * UINT64_C(0x94d049bb133111eb);
	return word ^ word >> 31;
}

uint64_t chance_below(struct chance *chance, uint64_t n)
{
	return n ? chance_next(chance) % n : 0;
}

/* ---- workers ---- */

void worker_note(struct worker *worker, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(worker->story[worker->operations++ % 64], sizeof(worker->story[0]), format, args);
	va_end(args);
}

void worker_fail(struct worker *worker, const char *format, ...)
{
	va_list args;

	fprintf(stderr, "worker %u, operation %lu: ", worker->number, worker->operations);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, "\nbefore:\n");
	for (unsigned long i = worker->operations < 40 ? 0 : worker->operations - 40; i < worker->operations; i++)
		fprintf(stderr, "  %lu %s\n", i, worker->story[i % 64]);
	_exit(1);
}

static bool goes_on(void)
{
	return time(NULL) < until;
}

/* A byte begins a round, the pipe's end ends all. */
static _Noreturn void work(struct worker *worker, const char *folder, int begin, int ended)
{
	bool known = worker->number % 3 < 2;
	void *state = NULL;
	char byte, name[32];

	snprintf(name, sizeof(name), known ? "known%u" : "chaos", worker->number);
	while (read(begin, &byte, 1) == 1) {
		until = time(NULL) + (time_t)stress.seconds;
		if (chdir(folder) || (!state && mkdir(name, 0755) && errno != EEXIST) || chdir(name))
			worker_fail(worker, "%s/%s: %s", folder, name, strerror(errno));
		state = (known ? known_round : chaos_round)(worker, state, goes_on);
		if (chdir("/") || write(ended, &worker->operations, sizeof(worker->operations)) < 0)
			_exit(1);
	}
	_exit(0);
}

static int begin[WORKERS_MAX], ended[WORKERS_MAX];

static void start(struct worker *worker, const char *folder)
{
	int to[2], from[2];

	if (pipe2(to, 0) || pipe2(from, 0)) {
		perror("stress");
		exit(2);
	}
	begin[worker->number] = to[1];
	ended[worker->number] = from[0];
	switch (fork()) {
	case -1:
		perror("stress");
		exit(2);
	case 0:
		for (unsigned int i = 0; i <= worker->number; i++) {
			close(begin[i]);
			close(ended[i]);
		}
		work(worker, folder, to[0], from[1]);
	}
	close(to[0]);
	close(from[1]);
}

/* False: one of them has failed, and told why. */
static bool play_round(unsigned int workers)
{
	unsigned long all = 0, operations;
	bool good = true;

	for (unsigned int i = 0; i < workers; i++)
		good &= write(begin[i], "", 1) == 1;
	for (unsigned int i = 0; i < workers; i++) {
		bool came = read(ended[i], &operations, sizeof(operations)) == sizeof(operations);

		good &= came;
		all += came ? operations : 0;
	}
	printf("%lu operations%s\n", all, good ? "" : ", FAILED");
	fflush(stdout);
	return good;
}

static int usage(int status)
{
	fprintf(status ? stderr : stdout,
		"usage: stress [--seed N] [--seconds S] [--rounds R] [--workers W] [--direct] [--mmap]\n"
		"              [--xattr BYTES] FOLDER\n"
		"Does whatever can be done in FOLDER, and compares. After each round but the last it tells how much\n"
		"was done and waits for a line: meanwhile the filesystem may be mounted anew.\n"
		"--direct: also with O_DIRECT, at any offset. --xattr: no extended attribute is longer.\n");
	return status;
}

int main(int argc, char **argv)
{
	static const struct option known[] = {
		{ "seed", required_argument, NULL, 's' },    { "seconds", required_argument, NULL, 't' },
		{ "rounds", required_argument, NULL, 'r' },  { "workers", required_argument, NULL, 'w' },
		{ "direct", no_argument, NULL, 'd' },	     { "mmap", no_argument, NULL, 'm' },
		{ "xattr", required_argument, NULL, 'x' },
		{ "help", no_argument, NULL, 'h' },	     { NULL, 0, NULL, 0 },
	};
	unsigned int rounds = 1, workers = 6;
	bool good = true;
	char line[8];
	int option;

	stress.seed = (uint64_t)time(NULL);
	stress.root = geteuid() == 0;
	while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
		switch (option) {
		case 's': stress.seed = strtoull(optarg, NULL, 0); break;
		case 't': stress.seconds = (unsigned int)strtoul(optarg, NULL, 0); break;
		case 'r': rounds = (unsigned int)strtoul(optarg, NULL, 0); break;
		case 'w': workers = (unsigned int)strtoul(optarg, NULL, 0); break;
		case 'x': stress.xattr = strtoul(optarg, NULL, 0); break;
		case 'd': stress.direct = true; break;
		case 'm': stress.mmap = true; break;
		default: return usage(option == 'h' ? 0 : 2);
		}
	}
	if (optind + 1 != argc || workers > WORKERS_MAX || stress.xattr > XATTR_MAX)
		return usage(2);
	printf("seed %lu\n", (unsigned long)stress.seed);
	fflush(stdout);
	for (unsigned int i = 0; i < workers; i++)
		start(&(struct worker){ .stress = &stress, .number = i, .chance = { stress.seed * 1000003 + i } },
		      argv[optind]);
	while (good && rounds--) {
		good = play_round(workers);
		if (rounds && good && !fgets(line, sizeof(line), stdin))
			break;
	}
	for (unsigned int i = 0; i < workers; i++)
		close(begin[i]);
	while (wait(NULL) > 0)
		;
	return good ? 0 : 1;
}
