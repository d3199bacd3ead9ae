/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sim: the stack above `leg` on simulated disks, from a seed. A run (run.h) makes a volume and repeats: mount, compare
 * with the oracle, let actors work, crash or unmount at points that the seed chooses. It ends with a quiet phase.
 */
#include "narrow.h"
#include "run.h"
#include "tally.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static const struct level *const levels[] = { &level_mirror, &level_cache, &level_meta, &level_fs };
#define LEVELS (sizeof(levels) / sizeof(levels[0]))

static struct {
	struct run_order order;
	bool seeded;
	unsigned long runs; /* 0: no limit */
	unsigned long seconds; /* start no further run after so long; 0: no limit */
	unsigned long crashes; /* nor after so many; 0: no limit */
	bool brief; /* a failure is not narrowed, nor told at length */
	bool replay; /* run each seed twice and compare */
	bool tally; /* tell what has happened how often, and fail if something has not */
	const struct level *level; /* NULL: in turn */
	bool left_out[SCRIPT_MOST];
} arguments;

static struct {
	unsigned long runs, crashes, operations;
	struct timespec start;
} total;

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)(now.tv_sec - total.start.tv_sec) + (double)(now.tv_nsec - total.start.tv_nsec) / 1e9;
}

static double processor_seconds(void)
{
	struct rusage usage;

	getrusage(RUSAGE_CHILDREN, &usage);
	return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
	       (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static bool run_and_compare(const struct run_order *order)
{
	struct run_outcome first, second;

	run_play(order, &first);
	total.runs++;
	total.crashes += first.crashes;
	total.operations += first.operations;
	if (!first.good) {
		fprintf(stderr, "seed %lu failed after %u operations and %lu crashes\n", (unsigned long)order->seed,
			first.operations, first.crashes);
		fprintf(stderr, "replay: sim --level %s --seed %lu --runs 1 --verbose\n", order->level->name,
			(unsigned long)order->seed);
		if (!arguments.brief)
			narrow(order, &first);
		return false;
	}
	if (!arguments.replay)
		return true;
	run_play(order, &second);
	if (second.good && first.hash == second.hash)
		return true;
	fprintf(stderr, "seed %lu of level %s does not replay: %016lx, then %016lx\n", (unsigned long)order->seed,
		order->level->name, (unsigned long)first.hash, (unsigned long)second.hash);
	return false;
}

static bool run_all(void)
{
	struct run_order order = arguments.order;
	bool good = true;

	while (good && (!arguments.runs || total.runs < arguments.runs) &&
	       (!arguments.seconds || seconds() < (double)arguments.seconds) &&
	       (!arguments.crashes || total.crashes < arguments.crashes)) {
		order.level = arguments.level ? arguments.level : levels[order.seed % LEVELS];
		good = run_and_compare(&order);
		order.seed++;
	}
	return good;
}

static bool run_exhaustive(void)
{
	struct run_order order = arguments.order;
	struct run_outcome outcome;

	order.level = &level_fs;
	order.exhaust.seed = order.seed;
	run_play(&order, &outcome);
	printf("sim: %lu sequences of %u operations, %lu cuts, %lu different states checked, %s\n",
	       outcome.exhaust.sequences, order.exhaust.length, outcome.exhaust.cuts, outcome.exhaust.checks,
	       outcome.good ? "all good" : "the last one failed");
	printf("sim: %.1f s, %.1f cuts/s, %.1f in a second of one processor\n", seconds(),
	       (double)outcome.exhaust.cuts / seconds(),
	       (double)outcome.exhaust.cuts / (processor_seconds() + 1e-9));
	return outcome.good;
}

static int usage(int status)
{
	fprintf(status ? stderr : stdout,
		"usage: sim [--level mirror|cache|meta|fs] [--seed N] [--runs M] [--seconds S] [--crashes C]\n"
		"           [--steps K] [--only LIST] [--dense] [--both] [--replay] [--brief] [--verbose]\n"
		"           [--tally]\n"
		"       sim --exhaustive LENGTH [--samples N] [--path OPERATIONS] [--seed N] [--verbose]\n"
		"Runs seeds from N on: M (1; 0: any number), until S seconds or C crashes are over.\n"
		"Without a seed, MIRRORFS_SEED or a fresh one.\n"
		"--steps bounds the operations of each run, --only 3-5,9 leaves out all others, --dense crashes more;\n"
		"--replay runs each seed twice and compares every step.\n"
		"--both spoils blocks on both legs at the end of each run: there may be errors then, no wrong bytes.\n"
		"--brief tells a failure in a few words, and does not narrow it.\n"
		"--tally tells how often what is to befall legs and files has, and fails if something never has.\n"
		"--exhaustive does all sequences of so many operations, with a cut after all that disks do, and\n"
		"N (2) more at each point, of each disk for itself.\n");
	return status;
}

static bool set(int option, const char *value)
{
	switch (option) {
	case 'l':
		for (size_t i = 0; i < LEVELS; i++)
			if (!strcmp(levels[i]->name, value))
				arguments.level = levels[i];
		return arguments.level;
	case 's':
		arguments.order.seed = strtoull(value, NULL, 0);
		arguments.seeded = true;
		return true;
	case 'r':
		arguments.runs = strtoul(value, NULL, 0);
		return true;
	case 't':
		arguments.seconds = strtoul(value, NULL, 0);
		return true;
	case 'c':
		arguments.crashes = strtoul(value, NULL, 0);
		arguments.runs = 0;
		return true;
	case 'k':
		arguments.order.most = (unsigned int)strtoul(value, NULL, 0);
		return true;
	case 'o':
		arguments.order.left_out = arguments.left_out;
		return narrow_only(value, arguments.left_out);
	case '2':
		return arguments.order.both = true;
	case 'd':
		return arguments.order.dense = true;
	case 'e':
		arguments.order.exhaust.length = (unsigned int)strtoul(value, NULL, 0);
		return arguments.order.exhaust.length - 1 < 8;
	case 'a':
		arguments.order.exhaust.path = value;
		return true;
	case 'n':
		arguments.order.exhaust.samples = (unsigned int)strtoul(value, NULL, 0);
		return true;
	case 'b':
		return arguments.brief = arguments.order.quiet = true;
	case 'p':
		return arguments.replay = true;
	case 'y':
		return arguments.tally = true;
	case 'v':
		return arguments.order.verbose = true;
	default:
		return false;
	}
}

static int parse(int argc, char **argv)
{
	static const struct option known[] = {
		{ "level", required_argument, NULL, 'l' },   { "seed", required_argument, NULL, 's' },
		{ "runs", required_argument, NULL, 'r' },    { "seconds", required_argument, NULL, 't' },
		{ "crashes", required_argument, NULL, 'c' }, { "steps", required_argument, NULL, 'k' },
		{ "only", required_argument, NULL, 'o' },    { "dense", no_argument, NULL, 'd' },
		{ "both", no_argument, NULL, '2' },
		{ "exhaustive", required_argument, NULL, 'e' }, { "path", required_argument, NULL, 'a' },
		{ "samples", required_argument, NULL, 'n' }, { "brief", no_argument, NULL, 'b' },
		{ "replay", no_argument, NULL, 'p' },	     { "verbose", no_argument, NULL, 'v' },
		{ "tally", no_argument, NULL, 'y' },
		{ "help", no_argument, NULL, 'h' },	     { NULL, 0, NULL, 0 },
	};
	int option;

	arguments.runs = 1;
	arguments.order.exhaust.samples = 2;
	while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
		if (option == 'h')
			exit(usage(0));
		if (!set(option, optarg))
			return usage(2);
	}
	if (!arguments.seeded) {
		const char *seed = getenv("MIRRORFS_SEED");

		arguments.order.seed = seed ? strtoull(seed, NULL, 0) : (uint64_t)time(NULL) * 1000003 % 1000000000;
	}
	return optind == argc ? 0 : usage(2);
}

int main(int argc, char **argv)
{
	bool good;
	int status;

	/* Where the heap lies must not differ between runs: some orders are those of addresses. */
	if (!(personality(0xffffffff) & ADDR_NO_RANDOMIZE) && personality(ADDR_NO_RANDOMIZE) >= 0)
		execv("/proc/self/exe", argv);
	status = parse(argc, argv);
	if (status)
		return status;
	printf("sim: seeds from %lu\n", (unsigned long)arguments.order.seed);
	clock_gettime(CLOCK_MONOTONIC, &total.start);
	tally_start();
	if (arguments.order.exhaust.length)
		return run_exhaustive() ? 0 : 1;
	good = run_all();
	printf("sim: %lu runs, %lu crashes, %lu operations, %s\n", total.runs, total.crashes, total.operations,
	       good ? "all good" : "the last one failed");
	printf("sim: %.1f s, %.1f crashes/s, %.1f in a second of one processor\n", seconds(),
	       (double)total.crashes / seconds(), (double)total.crashes / (processor_seconds() + 1e-9));
	if (arguments.tally && good)
		good = tally_print(arguments.level == &level_fs);
	return good ? 0 : 1;
}
