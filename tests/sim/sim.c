/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sim: the stack above `leg` on simulated disks, from a seed. Each run is a process of its own, because a crash
 * leaks and a failure aborts. A run makes a volume and repeats: mount, compare with the oracle, let actors
 * work, crash (or unmount) at a point that the seed chooses. It ends with a quiet phase.
 */
#include "level.h"
#include "report.h"
#include "world.h"

#include "mirrorfs/base/log.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct arguments {
	uint64_t seed;
	bool seeded;
	unsigned long runs;
	unsigned long seconds; /* start no further run after so long; 0: no limit */
	unsigned long steps; /* operations of all actors in one run; 0: what the seed says */
	bool verbose;
	bool replay; /* run each seed twice and compare */
	const struct level *level; /* NULL: in turn */
};

static const struct level *const levels[] = { &level_mirror, &level_cache, &level_meta, &level_fs };
#define LEVELS (sizeof(levels) / sizeof(levels[0]))

static struct arguments arguments;
static uint64_t seed_now;
static const struct level *level_now;

/* What a run's process tells the one that waits for it. */
struct outcome {
	bool good;
	uint64_t hash; /* of every step */
	unsigned long operations; /* that the actors began */
};

static struct {
	int pipe;
	bool quiet;
	unsigned long budget, left; /* operations */
} run;

static void tell_replay(void)
{
	fprintf(stderr, "replay: sim --level %s --seed %lu --runs 1", level_now->name, (unsigned long)seed_now);
	if (arguments.steps)
		fprintf(stderr, " --steps %lu", arguments.steps);
	fprintf(stderr, " --verbose\n");
}

static void tell_outcome(bool good, uint64_t hash)
{
	struct outcome outcome = { good, hash, run.budget - run.left };

	if (write(run.pipe, &outcome, sizeof(outcome)) != sizeof(outcome))
		_exit(2);
}

static void failed(void)
{
	tell_outcome(false, 0);
	if (run.quiet)
		_exit(1);
	report_tail();
	tell_replay();
}

static void log_to_story(enum log_level level, const char *line)
{
	note("log %d: %s", (int)level, line);
}

/* What a crash leaves behind is leaked on purpose. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "detect_leaks=0";
}

/* ---- one run, in its own process ---- */

static void on_signal(int number)
{
	signal(number, SIG_DFL);
	if (number != SIGABRT)
		sim_fail("signal %d (%s)", number, strsignal(number));
	/* An assertion of the stack: its line stands above. sim_fail() comes here too, and is done by then. */
	sim_aborted();
}

static void play_round(struct machine *machine, void *state, struct sim_random *random)
{
	uint64_t steps = UINT64_C(16) << sim_random_below(random, 14);
	bool stop = false;

	steps += sim_random_below(random, steps);
	level_now->start(state, &run.left, &stop);
	while (steps > 0 && !level_now->idle(state)) {
		uint64_t part = steps < 16 ? steps : 16;

		sim_wait_steps(part);
		steps -= part;
		if (machine->faulty && sim_random_chance(random, 256))
			machine_fault(machine);
		/* What is promised while a leg goes out is promised in a few steps: often die in the middle of them. */
		if (machine_leg_went_out(machine) && sim_random_chance(random, 2))
			steps = sim_random_below(random, 200);
	}
	if (!sim_random_chance(random, 5)) {
		machine_crash(machine);
		machine_mount(machine, sim_random_chance(random, 3));
		level_now->check(state, true);
		return;
	}
	stop = true;
	level_now->join(state);
	machine_unmount(machine);
	machine_mount(machine, sim_random_chance(random, 3));
	level_now->check(state, false);
}

static uint64_t play(void)
{
	struct sim_world_options options = { .seed = seed_now, .steps_max = 40000000, .failed = failed };
	struct sim_random random = sim_random_of(seed_now, 3);
	struct machine machine;
	void *state;

	run.budget = 50 + sim_random_below(&random, 2000);
	if (arguments.steps && arguments.steps < run.budget)
		run.budget = arguments.steps;
	run.left = run.budget;
	sim_world_install(&options);
	machine_init(&machine, seed_now, level_now->height);
	machine_format(&machine);
	machine_mount(&machine, false);
	state = level_now->create(&machine, seed_now);
	level_now->check(state, false);
	for (unsigned int round = 0; round < 12 && run.left; round++)
		play_round(&machine, state, &random);
	machine_unmount(&machine);
	machine_mount(&machine, false);
	level_now->check(state, false);
	machine_scrub(&machine);
	level_now->finish(state);
	machine_unmount(&machine);
	note("done");
	return sim_trace_hash();
}

static void play_in_child(int result, bool quiet)
{
	static const int fatal[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT };
	static unsigned char stack[65536];
	stack_t other = { .ss_sp = stack, .ss_size = sizeof(stack) };
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_ONSTACK | SA_NODEFER };
	struct rlimit none = { 0, 0 };

	setrlimit(RLIMIT_CORE, &none);
	sigaltstack(&other, NULL);
	for (size_t i = 0; i < sizeof(fatal) / sizeof(fatal[0]); i++)
		sigaction(fatal[i], &action, NULL);
	run.pipe = result;
	run.quiet = quiet;
	if (quiet && !freopen("/dev/null", "w", stderr))
		_exit(2);
	report_start(arguments.verbose && !quiet);
	log_set_level(LOG_LEVEL_DEBUG);
	log_set_sink(log_to_story);
	tell_outcome(true, play());
	_exit(0);
}

/* ---- many runs ---- */

static struct outcome run_seed(bool quiet)
{
	struct outcome outcome = { .good = false };
	int result[2], status;
	pid_t child;

	fflush(NULL);
	if (pipe(result) != 0 || (child = fork()) < 0) {
		perror("sim");
		exit(2);
	}
	if (child == 0)
		play_in_child(result[1], quiet);
	close(result[1]);
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	if (read(result[0], &outcome, sizeof(outcome)) != sizeof(outcome) || !WIFEXITED(status) || WEXITSTATUS(status))
		outcome.good = false;
	close(result[0]);
	return outcome;
}

/* The fewest operations that still fail, as far as halving finds them: what they leave out does not matter. */
static void narrow(unsigned long operations)
{
	unsigned long asked = arguments.steps, good = 0, bad = operations;

	while (bad - good > 1) {
		arguments.steps = good + (bad - good) / 2;
		if (run_seed(true).good)
			good = arguments.steps;
		else
			bad = arguments.steps;
	}
	arguments.steps = asked;
	fprintf(stderr, "seed %lu failed after %lu operations; --steps %lu fails as well\n", (unsigned long)seed_now,
		operations, bad);
}

static bool run_and_compare(void)
{
	struct outcome first = run_seed(false), second;

	if (!first.good) {
		if (first.operations)
			narrow(first.operations);
		tell_replay();
		return false;
	}
	if (!arguments.replay)
		return true;
	second = run_seed(false);
	if (second.good && first.hash == second.hash)
		return true;
	fprintf(stderr, "seed %lu does not replay: %016lx, then %016lx\n", (unsigned long)seed_now,
		(unsigned long)first.hash, (unsigned long)second.hash);
	tell_replay();
	return false;
}

static int usage(int status)
{
	fprintf(status ? stderr : stdout,
		"usage: sim [--level mirror|cache|meta|fs] [--seed N] [--runs M] [--seconds S] [--steps K] [--replay]\n"
		"           [--verbose]\n"
		"Runs M seeds from N on (0: until S seconds are over). Without a seed, MIRRORFS_SEED or a fresh one.\n"
		"--steps bounds the operations of each run; --replay runs each seed twice and compares every step.\n");
	return status;
}

static int parse(int argc, char **argv)
{
	static const struct option known[] = {
		{ "level", required_argument, NULL, 'l' },   { "seed", required_argument, NULL, 's' },
		{ "runs", required_argument, NULL, 'r' },    { "seconds", required_argument, NULL, 't' },
		{ "steps", required_argument, NULL, 'k' },   { "replay", no_argument, NULL, 'p' },
		{ "verbose", no_argument, NULL, 'v' },	     { "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int option;

	arguments.runs = 1;
	while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
		switch (option) {
		case 'l':
			for (size_t i = 0; i < LEVELS; i++)
				if (!strcmp(levels[i]->name, optarg))
					arguments.level = levels[i];
			if (!arguments.level)
				return usage(2);
			break;
		case 's':
			arguments.seed = strtoull(optarg, NULL, 0);
			arguments.seeded = true;
			break;
		case 'r':
			arguments.runs = strtoul(optarg, NULL, 0);
			break;
		case 't':
			arguments.seconds = strtoul(optarg, NULL, 0);
			break;
		case 'k':
			arguments.steps = strtoul(optarg, NULL, 0);
			break;
		case 'p':
			arguments.replay = true;
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
	if (!arguments.seeded) {
		const char *seed = getenv("MIRRORFS_SEED");

		arguments.seed = seed ? strtoull(seed, NULL, 0) : (uint64_t)time(NULL) * 1000003u % 1000000000u;
	}
	return optind == argc ? 0 : usage(2);
}

int main(int argc, char **argv)
{
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
	printf("sim: seeds from %lu\n", (unsigned long)arguments.seed);
	clock_gettime(CLOCK_MONOTONIC, &start);
	while (good && (!arguments.runs || done < arguments.runs) &&
	       (!arguments.seconds || seconds < (double)arguments.seconds)) {
		seed_now = arguments.seed + done;
		level_now = arguments.level ? arguments.level : levels[seed_now % LEVELS];
		good = run_and_compare();
		done++;
		clock_gettime(CLOCK_MONOTONIC, &now);
		seconds = (double)(now.tv_sec - start.tv_sec) + (double)(now.tv_nsec - start.tv_nsec) / 1e9;
	}
	printf("sim: %lu runs, %s, %.1f s, %.1f runs/s\n", done, good ? "all good" : "the last one failed", seconds,
	       seconds > 0 ? (double)done / seconds : 0);
	return good ? 0 : 1;
}
