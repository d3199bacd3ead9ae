/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "run.h"

#include "audit.h"
#include "legs.h"
#include "report.h"
#include "tally.h"
#include "world.h"

#include "mirrorfs/base/log.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define ROUNDS 40
#define FILLING_LOOKS 400 /* at most, for a resync to end */
#define LOOK_STEPS 16 /* between two looks at the run */
#define CRASH_STREAM UINT64_C(5000000)

static struct {
	struct run_order order;
	struct run_outcome *outcome; /* shared with whoever waits for this process */
	struct script script;
	struct sim_random random;
	struct machine machine;
	void *state;
	unsigned int forks;
} run;

static void failed(const char *why)
{
	run.outcome->good = false;
	run.outcome->operations = run.script.begun;
	run.outcome->why = why;
	if (run.order.quiet)
		_exit(1);
	report_tail();
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

static void on_signal(int number)
{
	signal(number, SIG_DFL);
	if (number != SIGABRT)
		sim_fail("signal %d (%s)", number, strsignal(number));
	/* An assertion of the stack: its line stands above. sim_fail() comes here too, and is done by then. */
	sim_aborted();
}

/* ---- crashes ---- */

static uint64_t some_steps(void)
{
	return 1 + sim_random_below(&run.random, UINT64_C(1) << sim_random_below(&run.random, 12));
}

/* The power comes back, and may fail again before the mount is done. */
static void recover(bool faulty)
{
	if (run.machine.lively)
		legs_mount_alone(&run.machine, &run.random);
	while (sim_random_chance(&run.random, 4))
		machine_mount_cut(&run.machine, some_steps());
	machine_mount(&run.machine, faulty);
	run.order.level->check(run.state, true);
}

/* In a process of its own: what if the power failed just now? */
static void crash_aside(void)
{
	run.random = sim_random_of(run.order.seed, CRASH_STREAM + run.forks);
	run.machine.random = sim_random_of(run.order.seed, 2 * CRASH_STREAM + run.forks);
	note("what if here, %u", run.forks);
	machine_crash(&run.machine, 3);
	recover(sim_random_chance(&run.random, 3));
	/* Nothing was done since: nothing may have changed. */
	while (sim_random_chance(&run.random, run.machine.faulty ? 2 : 4)) {
		machine_crash(&run.machine, 6);
		recover(sim_random_chance(&run.random, 4));
	}
	if (!run.machine.faulty)
		audit_compare_legs(&run.machine);
	if (!run.machine.faulty && sim_random_chance(&run.random, 8)) {
		audit_scrub(&run.machine);
		run.order.level->finish(run.state);
		machine_unmount(&run.machine);
	}
	run.outcome->hash ^= sim_random_mix(sim_trace_hash());
	run.outcome->crashes++;
	_exit(0);
}

/* In a process of its own: what if one leg were all that is left? */
static void alone_aside(void)
{
	run.random = sim_random_of(run.order.seed, CRASH_STREAM + run.forks);
	run.machine.random = sim_random_of(run.order.seed, 4 * CRASH_STREAM + run.forks);
	note("what if one leg were lost here, %u", run.forks);
	tally(TALLY_FILLED_ALONE);
	machine_crash(&run.machine, 1);
	machine_mount(&run.machine, false);
	run.order.level->check(run.state, true);
	run.outcome->hash ^= sim_random_mix(sim_trace_hash());
	run.outcome->crashes++;
	_exit(0);
}

static void aside(void (*what)(void), unsigned int count)
{
	while (count--) {
		pid_t child;
		int status;

		run.forks++;
		child = fork();
		if (child < 0)
			sim_fail("fork: %s", strerror(errno));
		if (child == 0)
			what();
		while (waitpid(child, &status, 0) < 0 && errno == EINTR)
			;
		if (status)
			_exit(1); /* it has told why */
	}
}

/* In a process of its own: what if blocks went bad on both legs while nobody looked? */
static void spoil_aside(void)
{
	run.machine.random = sim_random_of(run.order.seed, 3 * CRASH_STREAM + run.forks);
	machine_spoil(&run.machine);
	if (machine_mount_spoilt(&run.machine))
		run.order.level->check_spoilt(run.state);
	_exit(0);
}

/* ---- rounds ---- */

static void look(void)
{
	uint64_t odds = 64;

	if (run.machine.rotten)
		return;
	if (run.machine.faulty && sim_random_chance(&run.random, 256))
		legs_fault(&run.machine);
	if (run.order.dense)
		odds = 2;
	else if (run.machine.out_until > sim_steps())
		odds = 3;
	else if (run.machine.growing)
		odds = 12;
	/* Much is promised in a few steps. */
	else if (run.machine.checkpointing || run.machine.tense_until > sim_steps())
		odds = 16;
	if (run.machine.filled && run.order.level->crashes)
		aside(alone_aside, 3);
	run.machine.filled = false;
	if (run.order.level->crashes && sim_random_chance(&run.random, odds))
		aside(crash_aside, 1 + (unsigned int)sim_random_below(&run.random, 3));
}

/* What happens while a leg is filled, and just behind that, is to be seen often. */
static void await_filling(void)
{
	const enum mirror_leg_state *told = run.machine.told;

	for (int n = 0; n < FILLING_LOOKS && (told[0] == MIRROR_RESYNC || told[1] == MIRROR_RESYNC); n++) {
		sim_wait_steps(LOOK_STEPS);
		look();
	}
}

static void play_round(void)
{
	unsigned int last = run.script.begun + 1;

	/* Most of what befalls legs takes two that are whole. */
	if (run.machine.lively && !legs_whole(&run.machine) && !sim_random_chance(&run.random, 3))
		legs_heal(&run.machine);
	if (run.machine.lively && run.machine.fs && sim_random_chance(&run.random, 24) && legs_fill_up(&run.machine))
		note("both disks are full");
	last += (unsigned int)sim_random_below(&run.random, UINT64_C(2) << sim_random_below(&run.random, 9));
	/* A leg is called slow for what it has done for a while. */
	if (run.machine.steady)
		last += 200;
	run.script.stop = false;
	run.order.level->start(run.state, &run.script);
	while (run.script.begun < last && !run.order.level->idle(run.state)) {
		sim_wait_steps(LOOK_STEPS);
		look();
		/* What is promised while a leg goes out is promised in a few steps: often die in the middle of them. */
		if (machine_leg_went_out(&run.machine) && sim_random_chance(&run.random, 2))
			break;
	}
	if (sim_random_chance(&run.random, 2))
		await_filling();
	for (uint64_t steps = some_steps(); steps > LOOK_STEPS; steps -= LOOK_STEPS) {
		sim_wait_steps(LOOK_STEPS);
		look();
	}
	while (run.machine.rotten)
		sim_wait_steps(LOOK_STEPS);
	if (run.machine.full || !sim_random_chance(&run.random, 5)) {
		machine_crash(&run.machine, 12);
		recover(sim_random_chance(&run.random, 3));
		run.outcome->crashes += run.order.level->crashes;
		return;
	}
	run.script.stop = true;
	run.order.level->join(run.state);
	audit_compare_legs(&run.machine);
	machine_unmount(&run.machine);
	machine_mount(&run.machine, sim_random_chance(&run.random, 3));
	run.order.level->check(run.state, false);
}

/* Everything comes good, and is still so when it is mounted again. */
static void quiet_end(void)
{
	struct machine *machine = &run.machine;

	machine_mount(machine, false);
	run.order.level->check(run.state, false);
	if (machine->serving || machine->meta) {
		legs_heal(machine);
		audit_scrub(machine);
		audit_compare_legs(machine);
		aside(alone_aside, 2);
		machine_unmount(machine);
		machine->whole = true;
		if (run.order.both && run.order.level->check_spoilt)
			aside(spoil_aside, 20);
		machine_mount(machine, false);
		run.order.level->check(run.state, false);
	}
	run.order.level->finish(run.state);
	audit_compare_legs(machine);
	machine_unmount(machine);
}

static void play(void)
{
	struct sim_world_options options = { .seed = run.order.seed, .steps_max = 40000000, .failed = failed };

	if (run.order.exhaust.length) {
		options.orderly = true;
		sim_world_install(&options);
		exhaust(&run.order.exhaust, &run.outcome->exhaust);
		run.outcome->good = true;
		return;
	}
	run.random = sim_random_of(run.order.seed, 3);
	run.script.seed = run.order.seed;
	run.script.left_out = run.order.left_out;
	run.script.most = 50 + (unsigned int)sim_random_below(&run.random, 800);
	if (run.order.most && run.order.most < run.script.most)
		run.script.most = run.order.most;
	sim_world_install(&options);
	machine_init(&run.machine, run.order.seed, run.order.level->height);
	run.machine.lively = run.order.level->crashes && !sim_random_chance(&run.random, 3);
	machine_format(&run.machine);
	machine_mount(&run.machine, false);
	run.state = run.order.level->create(&run.machine, run.order.seed);
	run.order.level->check(run.state, false);
	run.script.stop = false;
	for (unsigned int round = 0; round < ROUNDS && script_goes_on(&run.script); round++) {
		play_round();
		run.script.stop = false;
	}
	machine_unmount(&run.machine);
	quiet_end();
	note("done");
	run.outcome->hash ^= sim_trace_hash();
	run.outcome->operations = run.script.begun;
	run.outcome->good = true;
}

static void play_in_child(const struct run_order *order, struct run_outcome *outcome)
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
	run.order = *order;
	run.outcome = outcome;
	if (order->quiet && !freopen("/dev/null", "w", stderr))
		_exit(2);
	report_start(order->verbose && !order->quiet);
	log_debug_storeys("all");
	log_set_sink(log_to_story);
	play();
	_exit(0);
}

void run_play(const struct run_order *order, struct run_outcome *outcome)
{
	static struct run_outcome *shared;
	pid_t child;
	int status;

	if (!shared)
		shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	fflush(NULL);
	if (shared == MAP_FAILED) {
		perror("sim");
		exit(2);
	}
	memset(shared, 0, sizeof(*shared));
	child = fork();
	if (child < 0) {
		perror("sim");
		exit(2);
	}
	if (child == 0)
		play_in_child(order, shared);
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	*outcome = *shared;
	if (status)
		outcome->good = false;
}
