/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One mount at a time across machines (I13), in virtual time: each machine has a leg of its own on the same bytes.
 * What reaches the bytes is seen by `landed`, which knows of each write which mount it is of: once a later mount has
 * written, nothing of an earlier one may land any more, whatever the legs do within the bounds that claims count on.
 */
#include "world.h"

#include "mirror_private.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DISK_BYTES (UINT64_C(2) << 20)
#define MACHINES 3
#define SECOND NSEC_PER_SEC

/* A machine's way to a disk. */
struct way {
	int disk;
	int mount; /* 0: none has it open */
	struct leg *fault;
};

/* A process for each seed takes a sanitizer long. */
#ifdef __SANITIZE_ADDRESS__
#define SEEDS 30
#else
#define SEEDS 200
#endif

static unsigned char disks[2][DISK_BYTES];
static int newest[2]; /* mount whose data landed last */
static int mounts;    /* so far */
static unsigned long landings, overlaps;
static struct iobuf_pool *pool;
static struct world_ops leaping;
static uint64_t asleep_ns;

static void landed(void *context, uint64_t offset, size_t length)
{
	struct way *way = context;

	if (!length || offset < MIRROR_SPACE_OFFSET)
		return;
	landings++;
	if (way->mount < newest[way->disk])
		overlaps++;
	else
		newest[way->disk] = way->mount;
}

static uint64_t leaping_boot(void)
{
	return clock_now_ns() + asleep_ns;
}

/* What befalls machines here is told by the thousand. */
static void unheard(enum log_level level, const char *line)
{
}

static void install(uint64_t seed)
{
	sim_world_install(&(struct sim_world_options){ .seed = seed, .steps_max = 20000000 });
	leaping = *world;
	leaping.boot_ns = leaping_boot;
	world = &leaping;
	log_set_sink(unheard);
	pool = iobuf_pool_create(1 << 20, 1 << 20);
}

/* ---- machines ---- */

static struct mirror_options options_of(const char *machine)
{
	struct mirror_options options = { .pool = pool, .degraded = true };

	snprintf(options.host.name, sizeof(options.host.name), "%s", machine);
	memset(options.host.machine, machine[0], sizeof(options.host.machine));
	random_bytes(options.host.boot, sizeof(options.host.boot));
	return options;
}

static struct leg *leg_on(struct way *way, int disk)
{
	struct leg_memory_options options = { .size_bytes = DISK_BYTES,
					      .block_size = 512,
					      .latency_min_ns = 100000,
					      .latency_max_ns = 5000000,
					      .name = "shared",
					      .bytes = disks[disk],
					      .changed = landed,
					      .context = way };
	struct leg *leg;

	way->disk = disk;
	ck_assert_int_eq(leg_memory_open(&options, &leg), 0);
	ck_assert_int_eq(leg_fault_wrap(leg, "", &way->fault, NULL), 0);
	return way->fault;
}

static void rule(struct way *way, const char *rules)
{
	ck_assert_int_eq(leg_fault_set(way->fault, rules, NULL), 0);
}

/* The way's leg, mounted alone; 0 or what mirror_open() said. */
static int mount_one(struct way *way, const struct mirror_options *options, struct mirror **mirror,
		     struct error *error)
{
	struct leg *legs[MIRROR_LEGS] = { leg_on(way, 0) };
	int code;

	code = mirror_open(legs, options, mirror, error);
	if (code)
		leg_close(legs[0]);
	else
		way->mount = ++mounts;
	return code;
}

static int mount_as(struct way *way, const char *machine, bool takeover, struct mirror **mirror, struct error *error)
{
	struct mirror_options options = options_of(machine);

	options.takeover = takeover;
	return mount_one(way, &options, mirror, error);
}

static void format(int count)
{
	struct mirror_options options = options_of("mkfs");
	struct way way[2] = { { .disk = 0 } };
	struct leg *legs[MIRROR_LEGS] = { leg_on(&way[0], 0), count > 1 ? leg_on(&way[1], 1) : NULL };
	struct mirror_identity identity;
	struct mirror *mirror;
	uint64_t blocks;

	options.shared = true;
	ck_assert_int_eq(mirror_format(legs, "", &identity, &blocks, NULL), 0);
	ck_assert_int_eq(mirror_open(legs, &options, &mirror, NULL), 0);
	ck_assert(mirror_close(mirror));
}

static int write_one(struct mirror *mirror)
{
	struct mirror_io io = { .op = MIRROR_WRITE, .flags = MIRROR_DSYNC, .block = random_u64() % 8, .count = 1 };
	int error;

	io.buf = iobuf_get(pool, MIRROR_BLOCK);
	memset(io.buf->data, 1, MIRROR_BLOCK);
	error = mirror_submit_wait(mirror, &io);
	iobuf_put(io.buf);
	return error;
}

static struct mirror_status status_of(struct mirror *mirror)
{
	struct mirror_status status;

	mirror_status(mirror, &status);
	return status;
}

static struct format_label label_now(int disk)
{
	struct format_label *slots[2] = { (struct format_label *)(disks[disk] + LABEL_SLOT0),
					  (struct format_label *)(disks[disk] + LABEL_SLOT1) };

	return *slots[le64_get(slots[0]->sequence) < le64_get(slots[1]->sequence)];
}

static bool claimed_by(int disk, const char *machine)
{
	struct format_label label = label_now(disk);

	return label_shared(&label) && !strcmp((const char *)label.claim.host, machine);
}

/* ---- claims that hold ---- */

START_TEST(a_mount_elsewhere_is_refused_at_once_and_by_name)
{
	struct way one = { 0 }, two = { 0 };
	struct error why = { "" };
	struct mirror *mirror, *other;
	uint64_t begun_ns;

	install(1);
	format(1);
	ck_assert_int_eq(mount_as(&one, "anvil", false, &mirror, NULL), 0);
	sim_sleep(60 * SECOND);
	begun_ns = clock_now_ns();
	ck_assert_int_eq(mount_as(&two, "bellows", false, &other, &why), -EBUSY);
	ck_assert_uint_lt(clock_now_ns() - begun_ns, SECOND);
	ck_assert_ptr_nonnull(strstr(why.text, "anvil"));
	ck_assert_ptr_nonnull(strstr(why.text, "-o takeover"));
	ck_assert_int_eq(write_one(mirror), 0);
	ck_assert(mirror_close(mirror));
	ck_assert_int_eq(mount_as(&two, "bellows", false, &other, &why), 0);
	ck_assert(mirror_close(other));
	ck_assert_uint_eq(sim_world_fibers(), 0);
}
END_TEST

START_TEST(a_claim_that_is_kept_up_is_not_taken)
{
	struct way one = { 0 }, two = { 0 };
	struct error why = { "" };
	struct mirror *mirror, *other;

	install(2);
	format(1);
	ck_assert_int_eq(mount_as(&one, "anvil", false, &mirror, NULL), 0);
	/* As somebody who insists, and as the same machine, or a clone of it. */
	ck_assert_int_eq(mount_as(&two, _i ? "anvil" : "bellows", !_i, &other, &why), -EBUSY);
	ck_assert_ptr_nonnull(strstr(why.text, "anvil"));
	ck_assert(claimed_by(0, "anvil"));
	ck_assert_int_eq(write_one(mirror), 0);
	ck_assert(mirror_close(mirror));
}
END_TEST

/* Its memory leaks, as that of a machine does that lost its power. */
static void crash(struct way *way)
{
	rule(way, "any,hang");
	sim_world_crash();
}

START_TEST(the_claim_of_a_dead_machine_is_taken_when_it_was_silent_for_long)
{
	struct way one = { 0 }, two = { 0 };
	struct mirror *mirror;
	uint64_t begun_ns;

	install(3);
	format(1);
	ck_assert_int_eq(mount_as(&one, "anvil", false, &mirror, NULL), 0);
	crash(&one);
	begun_ns = clock_now_ns();
	if (!_i)
		ck_assert_int_eq(mount_as(&two, "bellows", false, &mirror, NULL), -EBUSY);
	ck_assert_int_eq(mount_as(&two, _i ? "anvil" : "bellows", !_i, &mirror, NULL), 0);
	ck_assert_uint_ge(clock_now_ns() - begun_ns, 48 * SECOND);
	ck_assert_uint_le(clock_now_ns() - begun_ns, 54 * SECOND);
	ck_assert_int_eq(write_one(mirror), 0);
	ck_assert(mirror_close(mirror));
}
END_TEST

START_TEST(a_mount_that_only_reads_makes_sure_that_nobody_writes)
{
	struct mirror_options options;
	struct way one = { 0 }, two = { 0 };
	struct mirror *mirror, *other;
	struct format_label before, after;

	install(4);
	format(1);
	ck_assert_int_eq(mount_as(&one, "anvil", false, &mirror, NULL), 0);
	options = options_of("bellows");
	options.read_only = true;
	ck_assert_int_eq(mount_one(&two, &options, &other, NULL), -EBUSY);
	options.takeover = true;
	ck_assert_int_eq(mount_one(&two, &options, &other, NULL), -EBUSY);
	crash(&one);
	before = label_now(0);
	ck_assert_int_eq(mount_one(&two, &options, &other, NULL), 0);
	ck_assert_int_eq(write_one(other), -EROFS);
	sim_sleep(60 * SECOND);
	ck_assert(!status_of(other).failed);
	ck_assert(mirror_close(other));
	after = label_now(0);
	ck_assert_mem_eq(&before, &after, sizeof(before));
	ck_assert(claimed_by(0, "anvil"));
}
END_TEST

/* ---- who cannot keep it up ---- */

START_TEST(who_cannot_write_labels_stops_writing_before_others_may)
{
	static const char *const rules[] = { "write,hang,range=0-1M", "any,hang,range=0-1M", "write,drop,range=0-1M",
					     "write,error=ENOMEM,range=0-1M", "read,error=ENOLINK,range=0-1M" };
	struct way one = { 0 };
	struct mirror *mirror;
	uint64_t begun_ns;
	int error;

	install(5);
	format(1);
	ck_assert_int_eq(mount_as(&one, "anvil", false, &mirror, NULL), 0);
	sim_sleep(5 * SECOND);
	/* Labels alone: data is still written. */
	rule(&one, rules[_i]);
	begun_ns = clock_now_ns();
	do {
		sim_sleep(SECOND / 10);
		error = write_one(mirror);
	} while (!error);
	ck_assert_uint_le(clock_now_ns() - begun_ns, 17 * SECOND);
	ck_assert(mirror_failed(mirror));
	rule(&one, "");
	sim_sleep(20 * SECOND);
	ck_assert_int_eq(write_one(mirror), -EROFS);
	ck_assert(mirror_close(mirror));
}
END_TEST

START_TEST(who_wakes_from_a_sleep_writes_nothing)
{
	struct way one = { 0 };
	struct mirror *mirror;
	unsigned long before;

	install(6);
	format(1);
	ck_assert_int_eq(mount_as(&one, "anvil", false, &mirror, NULL), 0);
	ck_assert_int_eq(write_one(mirror), 0);
	before = landings;
	asleep_ns += 17 * SECOND; /* what other clocks do not see */
	ck_assert_int_ne(write_one(mirror), 0);
	ck_assert_uint_eq(landings, before);
	ck_assert(mirror_failed(mirror));
	ck_assert(mirror_close(mirror));
	ck_assert(claimed_by(0, "anvil")); /* it is not its to give back */
}
END_TEST

START_TEST(who_finds_anothers_claim_stops_at_the_next_beat)
{
	struct way one = { 0 };
	struct format_label *label;
	struct mirror *mirror;

	install(7);
	format(1);
	ck_assert_int_eq(mount_as(&one, "anvil", false, &mirror, NULL), 0);
	sim_sleep(5 * SECOND);
	/* By a machine whose clock counts otherwise. */
	for (int slot = 0; slot < 2; slot++) {
		label = (struct format_label *)(disks[0] + (slot ? LABEL_SLOT1 : LABEL_SLOT0));
		label->claim.mount[0] ^= 1;
		strcpy((char *)label->claim.host, "bellows");
		label_seal(label);
	}
	sim_sleep(3 * SECOND);
	ck_assert(mirror_failed(mirror));
	ck_assert_ptr_nonnull(strstr(status_of(mirror).failed_why, "bellows"));
	ck_assert_int_eq(write_one(mirror), -EROFS);
	ck_assert(mirror_close(mirror));
	ck_assert(claimed_by(0, "bellows"));
}
END_TEST

START_TEST(a_leg_that_is_lost_leaves_the_other_one_to_us)
{
	struct mirror_options options;
	struct way one[2] = { { .disk = 0 } }, two = { 0 };
	struct leg *legs[MIRROR_LEGS];
	struct format_label label;
	struct mirror *mirror, *other;

	install(8);
	format(2);
	options = options_of("anvil");
	one[0].mount = one[1].mount = ++mounts;
	legs[0] = leg_on(&one[0], 0);
	legs[1] = leg_on(&one[1], 1);
	ck_assert_int_eq(mirror_open(legs, &options, &mirror, NULL), 0);
	ck_assert(status_of(mirror).leg[0].claim.on && status_of(mirror).leg[1].claim.on);
	/* The network to leg 0 is cut; at its other end somebody says that we are dead. */
	rule(&one[0], "any,error=ENOTCONN");
	ck_assert_int_eq(mount_as(&two, "bellows", true, &other, NULL), 0);
	ck_assert(!mirror_failed(mirror) && status_of(mirror).leg[0].state == MIRROR_OFFLINE);
	rule(&one[0], "");
	ck_assert_int_eq(write_one(mirror), 0);
	ck_assert_int_eq(write_one(other), 0);
	label = label_now(1);
	ck_assert(label_has(&label, LABEL_EPOCH_ALONE)); /* two histories, to be refused together (I11) */
	ck_assert(claimed_by(0, "bellows") && claimed_by(1, "anvil"));
	ck_assert(mirror_close(mirror));
	ck_assert(mirror_close(other));
	ck_assert(claimed_by(0, "") && claimed_by(1, ""));
	ck_assert_uint_eq(overlaps, 0);
}
END_TEST

START_TEST(a_leg_that_hangs_holds_up_no_beat_of_the_other)
{
	struct mirror_options options;
	struct way one[2] = { { .disk = 0 } };
	struct leg *legs[MIRROR_LEGS];
	uint64_t before, begun_ns;
	struct mirror *mirror;

	install(11);
	format(2);
	options = options_of("anvil");
	legs[0] = leg_on(&one[0], 0);
	legs[1] = leg_on(&one[1], 1);
	ck_assert_int_eq(mirror_open(legs, &options, &mirror, NULL), 0);
	sim_sleep(5 * SECOND);
	rule(&one[1], "any,hang");
	begun_ns = clock_now_ns();
	before = le64_get(label_now(0).sequence);
	while (status_of(mirror).leg[1].state == MIRROR_INSYNC)
		sim_sleep(SECOND / 10);
	ck_assert_uint_le(clock_now_ns() - begun_ns, 17 * SECOND); /* though nothing was read or written */
	sim_sleep(40 * SECOND);
	ck_assert(!mirror_failed(mirror));
	ck_assert_uint_ge(le64_get(label_now(0).sequence), before + 19);
	ck_assert_int_eq(write_one(mirror), 0);
	rule(&one[1], "");
	ck_assert(mirror_close(mirror));
	ck_assert(claimed_by(0, "") && claimed_by(1, "anvil"));
}
END_TEST

START_TEST(a_leg_that_joins_is_claimed_and_one_that_leaves_is_not)
{
	struct mirror_options options;
	struct way one[2] = { { .disk = 0 } }, again = { 0 }, two = { 0 };
	struct leg *legs[MIRROR_LEGS];
	struct error why = { "" };
	struct mirror *mirror, *other;
	uint64_t begun_ns;
	struct leg *leg;

	install(9);
	format(2);
	options = options_of("anvil");
	legs[0] = leg_on(&one[0], 0);
	legs[1] = leg_on(&one[1], 1);
	ck_assert_int_eq(mirror_open(legs, &options, &mirror, NULL), 0);
	ck_assert_int_eq(mirror_detach(mirror, 0, false, NULL), 0);
	ck_assert(claimed_by(0, ""));
	ck_assert_int_eq(mount_as(&two, "bellows", false, &other, NULL), 0);
	leg = leg_on(&again, 0);
	begun_ns = clock_now_ns();
	ck_assert_int_eq(mirror_attach(mirror, leg, false, &why), -EBUSY);
	ck_assert_uint_lt(clock_now_ns() - begun_ns, SECOND / 2);
	ck_assert_ptr_nonnull(strstr(why.text, "bellows"));
	ck_assert_int_eq(mirror_attach(mirror, leg, true, NULL), -EBUSY);
	ck_assert(mirror_close(other));
	ck_assert_int_eq(mirror_attach(mirror, leg, true, NULL), 0);
	ck_assert(claimed_by(0, "anvil"));
	ck_assert(mirror_close(mirror));
	ck_assert(claimed_by(0, "") && claimed_by(1, ""));
}
END_TEST

START_TEST(what_is_not_shared_is_never_written_for_a_claim)
{
	struct format_label before;
	struct way one = { 0 };
	struct mirror *mirror;

	install(10);
	format(1);
	ck_assert_int_eq(mount_as(&one, "anvil", false, &mirror, NULL), 0);
	ck_assert_int_eq(mirror_set_shared(mirror, false), 0);
	before = label_now(0);
	ck_assert(!label_shared(&before) && !status_of(mirror).leg[0].claim.on);
	sim_sleep(600 * SECOND);
	ck_assert_int_eq(le64_get(label_now(0).sequence), le64_get(before.sequence));
	ck_assert_int_eq(mirror_set_shared(mirror, true), 0);
	ck_assert(claimed_by(0, "anvil"));
	sim_sleep(60 * SECOND);
	ck_assert(!mirror_failed(mirror));
	ck_assert_uint_ge(le64_get(label_now(0).sequence), le64_get(before.sequence) + 25);
	ck_assert(mirror_close(mirror));
}
END_TEST

/* ---- any order ---- */

struct machine {
	struct thread thread;
	char name[2];
	uint64_t late_ns; /* it begins after so much at the most */
	struct way *way; /* of this mount; what is still on its way may outlive that */
	int code;
	struct mirror *mirror;
};

static void mount_in_race(void *arg)
{
	struct machine *machine = arg;

	sim_sleep(random_u64() % machine->late_ns);
	machine->way = calloc(1, sizeof(*machine->way));
	machine->code = mount_as(machine->way, machine->name, false, &machine->mirror, NULL);
	if (machine->code)
		return;
	for (int i = 0; i < 20; i++) {
		write_one(machine->mirror);
		sim_sleep(random_u64() % SECOND);
	}
}

START_TEST(of_those_that_come_together_one_has_it)
{
	struct machine machines[MACHINES] = { { .code = 0 } };
	int won = 0;

	install((uint64_t)_i);
	format(1);
	for (int i = 0; i < MACHINES; i++) {
		machines[i].name[0] = (char)('a' + i);
		machines[i].late_ns = _i % 2 ? 3 * SECOND : SECOND / 50;
		ck_assert_int_eq(thread_start(&machines[i].thread, "machine", mount_in_race, &machines[i]), 0);
	}
	for (int i = 0; i < MACHINES; i++) {
		thread_join(&machines[i].thread);
		won += !machines[i].code;
		ck_assert(!machines[i].code || machines[i].code == -EBUSY || machines[i].code == -ETIMEDOUT);
		if (!machines[i].code) {
			ck_assert(!mirror_failed(machines[i].mirror));
			ck_assert(mirror_close(machines[i].mirror));
		}
	}
	ck_assert_int_eq(won, 1);
	ck_assert_uint_eq(overlaps, 0);
}
END_TEST

/* What befalls a machine's way to the disk. A write is on it for 30 s at the most: the claim counts on 32. */
static const char *const troubles[] = {
	"",
	"any,delay=1500,chance=3",
	"any,delay=30000,chance=2",
	"write,delay=30000",
	"write,delay=30000,range=0-1M",
	"write,delay=30000,range=1M-,chance=2",
	"write,drop,range=0-1M",
	"write,drop,range=0-1M,chance=2",
	"write,error=EIO,range=0-1M,chance=2",
	"any,error=ENOTCONN",
	"read,corrupt,range=0-1M,chance=3",
};

#define TROUBLES (sizeof(troubles) / sizeof(troubles[0]))

static void live(void *arg)
{
	struct machine *machine = arg;

	for (int life = 0; life < 4; life++) {
		uint64_t until_ns;

		sim_sleep(random_u64() % (20 * SECOND));
		machine->way = calloc(1, sizeof(*machine->way));
		machine->code = mount_as(machine->way, machine->name, true, &machine->mirror, NULL);
		if (machine->code)
			continue;
		until_ns = clock_now_ns() + random_u64() % (200 * SECOND);
		while (clock_now_ns() < until_ns && !mirror_failed(machine->mirror)) {
			unsigned int trouble = (unsigned int)(random_u64() % (2 * TROUBLES));

			if (trouble < TROUBLES)
				rule(machine->way, troubles[trouble]);
			for (unsigned int i = 0; i < 10 && !write_one(machine->mirror); i++)
				sim_sleep(random_u64() % SECOND);
			sim_sleep(random_u64() % (20 * SECOND));
		}
		rule(machine->way, "");
		(void)mirror_close(machine->mirror);
	}
}

START_TEST(two_never_write_at_once)
{
	struct machine machines[MACHINES] = { { .code = 0 } };

	install((uint64_t)_i);
	format(1);
	for (int i = 0; i < MACHINES; i++) {
		machines[i].name[0] = (char)('a' + i);
		ck_assert_int_eq(thread_start(&machines[i].thread, "machine", live, &machines[i]), 0);
	}
	for (int i = 0; i < MACHINES; i++)
		thread_join(&machines[i].thread);
	ck_assert_msg(!overlaps, "seed %d: %lu of %lu writes landed behind those of a later mount", _i, overlaps,
		      landings);
}
END_TEST

/* What dies here with its machine leaves its memory behind. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "detect_leaks=0";
}

int main(void)
{
	Suite *suite = suite_create("claim");
	TCase *tests = tcase_create("claim");
	SRunner *runner;
	int failed;

	tcase_set_timeout(tests, 120);
	tcase_add_test(tests, a_mount_elsewhere_is_refused_at_once_and_by_name);
	tcase_add_loop_test(tests, a_claim_that_is_kept_up_is_not_taken, 0, 2);
	tcase_add_loop_test(tests, the_claim_of_a_dead_machine_is_taken_when_it_was_silent_for_long, 0, 2);
	tcase_add_test(tests, a_mount_that_only_reads_makes_sure_that_nobody_writes);
	tcase_add_loop_test(tests, who_cannot_write_labels_stops_writing_before_others_may, 0, 5);
	tcase_add_test(tests, who_wakes_from_a_sleep_writes_nothing);
	tcase_add_test(tests, who_finds_anothers_claim_stops_at_the_next_beat);
	tcase_add_test(tests, a_leg_that_is_lost_leaves_the_other_one_to_us);
	tcase_add_test(tests, a_leg_that_hangs_holds_up_no_beat_of_the_other);
	tcase_add_test(tests, a_leg_that_joins_is_claimed_and_one_that_leaves_is_not);
	tcase_add_test(tests, what_is_not_shared_is_never_written_for_a_claim);
	tcase_add_loop_test(tests, of_those_that_come_together_one_has_it, 0, SEEDS / 2);
	tcase_add_loop_test(tests, two_never_write_at_once, 0, SEEDS);
	suite_add_tcase(suite, tests);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
