/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fuzz: forged disks for the real stack, from a seed. Run n has the seed N + n and depends on nothing else, so the seed
 * that a failure prints replays it. Runs are processes, or share one: whatever ends a process in another way than it
 * should (a signal, a sanitizer, a leak at its end, too much of the processor's time) is a finding.
 */
#include "fuzz.h"
#include "world.h"

#include "mirrorfs/base/log.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define STEPS_MAX 20000000 /* of the world in one run: more is a livelock */
#define PROCESSOR_SECONDS 60 /* of one run: more is a loop without end */

static const struct fuzz_target *const targets[] = { &fuzz_label, &fuzz_slot, &fuzz_record, &fuzz_node, &fuzz_image,
						     &fuzz_rot, &fuzz_loss };
#define TARGETS (sizeof(targets) / sizeof(targets[0]))

uint64_t fuzz_seed;

static struct {
	const struct fuzz_target *target;
	uint64_t seed;
	unsigned long runs, seconds;
	bool verbose;
} arguments = { .runs = 1 };

/* Shared with the processes that run. */
static struct {
	uint64_t seed;
	unsigned long accepted;
} *shared;

void fuzz_broken(const char *file, int line, const char *condition)
{
	fprintf(stderr, "%s:%d: not so: %s\n", file, line, condition);
	abort();
}

void fuzz_accepted(void)
{
	shared->accepted++;
}

void fuzz_world(void)
{
	const struct sim_world_options options = { .seed = fuzz_seed, .steps_max = STEPS_MAX };

	sim_world_install(&options);
}

static void drop_line(enum log_level level, const char *line)
{
	(void)level;
	if (arguments.verbose)
		fprintf(stderr, "%s\n", line);
}

static void play(uint64_t seed)
{
	const struct itimerval limit = { .it_value.tv_sec = PROCESSOR_SECONDS };
	struct sim_random random = sim_random_of(seed, 30);

	setitimer(ITIMER_PROF, &limit, NULL);
	shared->seed = fuzz_seed = seed;
	arguments.target->run(&random);
}

/* Runs seeds first .. first + count - 1 in a process of their own. */
static bool play_in_child(uint64_t first, unsigned long count)
{
	pid_t child;
	int status;

	fflush(NULL);
	child = fork();
	if (child < 0) {
		perror("fuzz");
		exit(2);
	}
	if (child == 0) {
		for (unsigned long i = 0; i < count; i++)
			play(first + i);
		exit(0);
	}
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(status) && !WEXITSTATUS(status))
		return true;
	if (WIFSIGNALED(status))
		fprintf(stderr, "signal %d (%s)\n", WTERMSIG(status), strsignal(WTERMSIG(status)));
	if (count > 1)
		fprintf(stderr, "runs %lu .. %lu shared a process\n", (unsigned long)first,
			(unsigned long)shared->seed);
	fprintf(stderr, "replay: fuzz %s --seed %lu --runs 1 --verbose\n", arguments.target->name,
		(unsigned long)shared->seed);
	return false;
}

static int usage(int status)
{
	fprintf(status ? stderr : stdout,
		"usage: fuzz label|slot|record|node|image|rot|loss [--seed N] [--runs M] [--seconds S] [--verbose]\n"
		"Runs M seeds from N on (0: until S seconds are over). Without a seed, MIRRORFS_SEED or a fresh "
		"one.\n");
	return status;
}

static int parse(int argc, char **argv)
{
	static const struct option known[] = {
		{ "seed", required_argument, NULL, 's' },    { "runs", required_argument, NULL, 'r' },
		{ "seconds", required_argument, NULL, 't' }, { "verbose", no_argument, NULL, 'v' },
		{ "help", no_argument, NULL, 'h' },	     { NULL, 0, NULL, 0 },
	};
	const char *seed = getenv("MIRRORFS_SEED");
	int option;

	arguments.seed = seed ? strtoull(seed, NULL, 0) : (uint64_t)time(NULL) * 1000003u % 1000000000u;
	while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
		switch (option) {
		case 's':
			arguments.seed = strtoull(optarg, NULL, 0);
			break;
		case 'r':
			arguments.runs = strtoul(optarg, NULL, 0);
			break;
		case 't':
			arguments.seconds = strtoul(optarg, NULL, 0);
			break;
		case 'v':
			arguments.verbose = true;
			break;
		case 'h':
			exit(usage(0));
		default:
			return usage(2);
		}
	}
	for (size_t i = 0; i < TARGETS && optind < argc; i++)
		if (!strcmp(targets[i]->name, argv[optind]))
			arguments.target = targets[i];
	return arguments.target && optind + 1 == argc ? 0 : usage(2);
}

int main(int argc, char **argv)
{
	const struct rlimit none = { 0, 0 };
	struct timespec start, now;
	unsigned long done = 0;
	double seconds = 0;
	bool good = true;
	int status;

	/* Where the heap lies must not differ between runs: some orders are those of addresses. */
	if (!(personality(0xffffffff) & ADDR_NO_RANDOMIZE) && personality(ADDR_NO_RANDOMIZE) >= 0)
		execv("/proc/self/exe", argv);
	status = parse(argc, argv);
	if (status)
		return status;
	setrlimit(RLIMIT_CORE, &none);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if ((void *)shared == MAP_FAILED)
		return 2;
	printf("fuzz %s: seeds from %lu\n", arguments.target->name, (unsigned long)arguments.seed);
	log_set_sink(drop_line);
	if (arguments.target->setup)
		arguments.target->setup();
	clock_gettime(CLOCK_MONOTONIC, &start);
	while (good && (!arguments.runs || done < arguments.runs) &&
	       (!arguments.seconds || seconds < (double)arguments.seconds)) {
		unsigned long count = arguments.target->batch;

		if (arguments.runs && count > arguments.runs - done)
			count = arguments.runs - done;
		good = play_in_child(arguments.seed + done, count);
		done += count;
		clock_gettime(CLOCK_MONOTONIC, &now);
		seconds = (double)(now.tv_sec - start.tv_sec) + (double)(now.tv_nsec - start.tv_nsec) / 1e9;
	}
	printf("fuzz %s: %lu runs, %lu accepted, %s, %.1f s, %.1f runs/s\n", arguments.target->name, done,
	       shared->accepted, good ? "all good" : "the last one failed", seconds,
	       seconds > 0 ? (double)done / seconds : 0);
	return good ? 0 : 1;
}
