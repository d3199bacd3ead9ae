/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A crash drops the stack and asks each disk what is left on it; memory of the stack that is gone leaks, on purpose.
 * A leg that went out of sync is never chosen as the one that survives alone.
 */
#include "machine.h"

#include "report.h"
#include "world.h"

#include "mirrorfs/base/clock.h"
#include "mirrorfs/base/crc32c.h"
#include "mirrorfs/base/sync.h"
#include "mirrorfs/format/journal.h"
#include "mirrorfs/format/super.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define POOL_BYTES (12u << 20)
#define ABANDON_BYTES (4u << 20)

static unsigned char *disk_create(uint64_t bytes)
{
	unsigned char *disk =
		mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (disk == MAP_FAILED)
		sim_fail("no memory for a disk");
	return disk;
}

void machine_init(struct machine *machine, uint64_t seed, enum machine_height height)
{
	uint64_t blocks = height == MACHINE_MIRROR ? 1024 : meta_minimum_blocks();

	memset(machine, 0, sizeof(*machine));
	machine->random = sim_random_of(seed, 10);
	machine->height = height;
	machine->busy = sim_random_chance(&machine->random, 3);
	machine->suspect = machine->doubted = -1;
	blocks += sim_random_below(&machine->random, 8192);
	machine->disk_bytes = 2 * MIRROR_SPACE_OFFSET;
	while (mirror_space_blocks(machine->disk_bytes) < blocks)
		machine->disk_bytes += UINT64_C(1) << 20;
	for (int i = 0; i < MIRROR_LEGS; i++)
		machine->disk[i] = disk_create(machine->disk_bytes);
	for (int i = 0; i < MIRROR_LEGS; i++) {
		struct machine_disk *disk = &machine->disks[i];

		disk->machine = machine;
		disk->written = calloc(machine->disk_bytes / MIRROR_BLOCK, sizeof(*disk->written));
		disk->blocks = calloc(machine->disk_bytes / MIRROR_BLOCK, sizeof(*disk->blocks));
		if (!disk->written || !disk->blocks)
			sim_fail("no memory for a disk");
	}
}

static void disk_changed(void *context, uint64_t offset, size_t length)
{
	struct machine_disk *disk = context;

	disk->machine->changes++;
	for (uint64_t block = offset / MIRROR_BLOCK; length && block <= (offset + length - 1) / MIRROR_BLOCK; block++) {
		if (disk->written[block])
			continue;
		disk->written[block] = true;
		disk->blocks[disk->count++] = (uint32_t)block;
	}
}

static uint64_t hash_block(const unsigned char *data, uint64_t hash)
{
	uint64_t words[MIRROR_BLOCK / sizeof(uint64_t)];

	memcpy(words, data, sizeof(words));
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		hash = (hash ^ words[i]) * UINT64_C(0x9fb21c651e98df25);
		hash ^= hash >> 32;
	}
	return hash;
}

uint64_t machine_image(const struct machine *machine)
{
	uint64_t sum = 0;

	for (int i = 0; i < MIRROR_LEGS; i++) {
		const struct machine_disk *disk = &machine->disks[i];

		for (size_t n = 0; machine->disk[i] && n < disk->count; n++)
			sum += sim_random_mix(hash_block(machine->disk[i] + (uint64_t)disk->blocks[n] * MIRROR_BLOCK,
							 (uint64_t)i << 32 | disk->blocks[n]));
	}
	return sum;
}

static void power_on(struct machine *machine, int i)
{
	/* Good disks, too, are slow now and then: what was asked for first may be done last. */
	static const char *const slow[] = { "any,delay=40,chance=12", "write,delay=30,chance=4", "flush,delay=100",
					    "flush,delay=400" };
	static const uint64_t latency_max_ns[] = { 0, 20000, 200000, 5000000 };
	struct leg_memory_options options = {
		.size_bytes = machine->disk_bytes,
		.block_size = sim_random_chance(&machine->random, 2) ? 512 : 4096,
		.latency_max_ns = latency_max_ns[sim_random_below(&machine->random, 4)],
		.name = i ? "disk1" : "disk0",
		.bytes = machine->disk[i],
		.changed = disk_changed,
		.context = &machine->disks[i],
	};
	int error = leg_memory_open(&options, &machine->memory[i]);

	if (error)
		sim_fail("leg_memory_open: %s", strerror(-error));
	if ((!machine->faulty || machine->suspect != i) &&
	    !sim_random_chance(&machine->random, machine->busy ? 2 : 4))
		return;
	error = leg_fault_wrap(machine->memory[i],
			       slow[machine->busy ? 3 : sim_random_below(&machine->random, 4)],
			       &machine->fault[i], NULL);
	if (error)
		sim_fail("leg_fault_wrap: %s", strerror(-error));
}

static void power_off(struct machine *machine)
{
	machine->dying = false;
	for (int i = 0; i < MIRROR_LEGS; i++)
		machine->memory[i] = machine->fault[i] = NULL;
	machine->went_out = machine->checkpointing = false;
	machine->pool = NULL;
	machine->mirror = NULL;
	machine->cache = NULL;
	machine->meta = NULL;
	machine->fs = NULL;
}

static void create_pool_and_cache(struct machine *machine)
{
	struct cache_config config = {
		.budget_bytes = (4u << 20) + sim_random_below(&machine->random, 8u << 20),
		.node_floor_percent = 25,
		.dirty_percent = 5 + (unsigned int)sim_random_below(&machine->random, 40),
		.write_after_ns = 1000000 + sim_random_below(&machine->random, 5000000000),
	};

	machine->pool = iobuf_pool_create(POOL_BYTES, ABANDON_BYTES);
	machine->cache = cache_create(&config);
	if (!machine->pool || !machine->cache)
		sim_fail("no memory for the pool or the cache");
}

static void open_mirror(struct machine *machine, bool degraded)
{
	struct leg *legs[MIRROR_LEGS] = { NULL, NULL };
	struct mirror_options options = { .degraded = degraded, .pool = machine->pool };
	struct error told = { "" };
	int count = 0, error;

	options.policy = (enum mirror_read_policy)sim_random_below(&machine->random, 4);
	options.write_mostly = (unsigned int)sim_random_below(&machine->random, 3); /* neither, leg 0, leg 1 */
	for (int i = 0; i < MIRROR_LEGS; i++)
		if (machine->memory[i])
			legs[count++] = machine->fault[i] ? machine->fault[i] : machine->memory[i];
	if (count == 2 && sim_random_chance(&machine->random, 4)) {
		struct leg *first = legs[0];

		legs[0] = legs[1];
		legs[1] = first;
	}
	error = mirror_open(legs, &options, &machine->mirror, &told);
	while (error == -ETIMEDOUT && machine->dying)
		sim_sleep(1000000000); /* there is no mount; the crash comes */
	if (error)
		sim_fail("mirror_open: %s: %s", strerror(-error), told.text);
}

/*
 * A ring as short as a volume may have, so that it is full and comes round all the time. mkfs.mirrorfs makes longer
 * ones.
 */
static void shorten_ring(struct machine *machine, uint64_t blocks)
{
	for (int i = 0; i < 2 * MIRROR_LEGS; i++) {
		struct format_super super;
		unsigned char *slot = machine->disk[i / 2] + MIRROR_SPACE_OFFSET +
				      (uint64_t)(i % 2 ? SUPER_SLOT1 : SUPER_SLOT0) * MIRROR_BLOCK;

		memcpy(&super, slot, sizeof(super));
		if (le32_get(super.magic) != SUPER_MAGIC)
			continue;
		if (le64_get(super.ring_position))
			sim_fail("the ring of a new volume does not begin at its start");
		super.ring_blocks = le64_of(blocks);
		super.crc = le32_of(crc32c_block(&super, sizeof(super), offsetof(struct format_super, crc)));
		memcpy(slot, &super, sizeof(super));
	}
}

void machine_format(struct machine *machine)
{
	struct leg *legs[MIRROR_LEGS];
	struct mirror_identity identity;
	struct format_inode root;
	struct error told = { "" };
	uint64_t blocks;
	int error;

	power_on(machine, 0);
	power_on(machine, 1);
	legs[0] = machine->memory[0];
	legs[1] = machine->memory[1];
	error = mirror_format(legs, "simulated", &identity, &blocks, &told);
	if (error)
		sim_fail("mirror_format: %s: %s", strerror(-error), told.text);
	create_pool_and_cache(machine);
	open_mirror(machine, false);
	if (machine->height >= MACHINE_META) {
		fs_format_root(&root, 0, 0);
		error = meta_format(machine->mirror, &root, &told);
		if (error)
			sim_fail("meta_format: %s: %s", strerror(-error), told.text);
	}
	machine_unmount(machine);
	if (machine->height >= MACHINE_META && (machine->busy || sim_random_chance(&machine->random, 3)))
		shorten_ring(machine, JOURNAL_RECORD_BLOCKS *
					      ((machine->busy ? 8 : 4) + sim_random_below(&machine->random, 4)));
}

static bool disagree(struct fs_check *check, const struct fs_problem *problem)
{
	struct machine *machine = check->context;

	if (!machine->spoilt)
		sim_fail("the check found: %s", problem->text);
	note("the check: %s", problem->text);
	machine->problems++;
	return false;
}

/* Whatever a crash left, fsck has nothing to say of it. */
static void check(struct machine *machine)
{
	struct fs_check check = { .problem = disagree, .context = machine };
	int error = fs_check(machine->meta, &check);

	if (error && !(machine->spoilt && machine->problems))
		sim_fail("fs_check: %s", strerror(-error));
}

/* As the mount does it: of what is damaged, whatever can be read. */
static int open_spoilt(struct machine *machine, struct meta_options *options, struct error *told)
{
	int error = meta_open(machine->mirror, machine->cache, options, &machine->meta, told);

	if (error != -EIO)
		return error;
	note("meta_open: %s", told->text);
	options->read_only = true;
	return meta_open(machine->mirror, machine->cache, options, &machine->meta, told);
}

static void open_stack(struct machine *machine)
{
	struct meta_options meta_options = { .commit_ns = 1000000 + sim_random_below(&machine->random, 5000000000) };
	struct fs_options fs_options = { .read_only = false };
	struct error told = { "" };
	int error;

	if (machine->height < MACHINE_META)
		return;
	meta_options.discard = sim_random_chance(&machine->random, 2);
	error = open_spoilt(machine, &meta_options, &told);
	if (error == -EIO && machine->spoilt)
		return;
	if (error || (!machine->spoilt && (meta_options.read_only || meta_damage(machine->meta))))
		sim_fail("meta_open: %s: %s", strerror(-error), told.text);
	if (machine->height < MACHINE_FS)
		return;
	check(machine);
	fs_options.read_only = meta_options.read_only;
	error = fs_open(machine->meta, machine->cache, &fs_options, &machine->fs, &told);
	if (error && !(error == -EIO && machine->spoilt))
		sim_fail("fs_open: %s: %s", strerror(-error), told.text);
}

static void set_fault(struct machine *machine, const char *rules)
{
	struct error told = { "" };

	note("fault on leg %d: %s", machine->suspect, rules);
	machine->lied |= strstr(rules, "drop") || strstr(rules, "torn") || strstr(rules, "misdirect");
	if (leg_fault_set(machine->fault[machine->suspect], rules, &told) != 0)
		sim_fail("leg_fault_set: %s", told.text);
}

void machine_mount(struct machine *machine, bool faulty)
{
	bool present[MIRROR_LEGS];

	machine->faulty = faulty && !machine->stale[0] && !machine->stale[1];
	if (machine->faulty && machine->suspect < 0)
		machine->suspect = (int)sim_random_below(&machine->random, 2);
	machine->doubted = machine->suspect;
	for (int i = 0; i < MIRROR_LEGS; i++) {
		/* A stale leg may be shown or not: it must make no difference. */
		present[i] = machine->disk[i] && (!machine->stale[i] || sim_random_chance(&machine->random, 2));
		if (present[i])
			power_on(machine, i);
	}
	note("mount with%s%s, suspect is %d", present[0] ? " leg 0" : "", present[1] ? " leg 1" : "", machine->suspect);
	create_pool_and_cache(machine);
	open_mirror(machine, true);
	for (int i = 0; i < MIRROR_LEGS; i++)
		if (!present[i])
			machine->stale[i] = true;
	for (int i = 0; i < MIRROR_LEGS; i++) {
		/* Nothing was acknowledged without it before the crash; the level's check would find what was. */
		if (machine->stale[i] && mirror_leg_insync(machine->mirror, i)) {
			note("leg %d is in sync after all", i);
			machine->stale[i] = false;
		} else if (!machine->stale[i] && !mirror_leg_insync(machine->mirror, i)) {
			/* It was given up by a mount that never came about. The other one has the only copy now. */
			note("leg %d is out of sync", i);
			machine->stale[i] = true;
			machine->faulty = machine->faulty && machine->suspect == i;
		}
	}
	/* What is there on this leg alone cannot be read now, but next time. */
	if (machine->faulty && sim_random_chance(&machine->random, 3))
		set_fault(machine, "read,error=EIO,range=1M-");
	else if (sim_random_chance(&machine->random, 2))
		machine_fault(machine);
	open_stack(machine);
}

static void spoil(struct machine *machine, uint64_t block)
{
	uint64_t style = sim_random_below(&machine->random, 3), at = sim_random_below(&machine->random, MIRROR_BLOCK);

	for (int i = 0; i < MIRROR_LEGS; i++) {
		unsigned char *data = machine->disk[i] + block * MIRROR_BLOCK;

		if (style == 0)
			memset(data, 0, MIRROR_BLOCK);
		else if (style == 1)
			data[at] ^= (unsigned char)(1u << at % 8);
		else
			memcpy(data, data + MIRROR_BLOCK, MIRROR_BLOCK);
	}
}

void machine_spoil(struct machine *machine)
{
	const struct machine_disk *disk = &machine->disks[0];
	const uint64_t space = MIRROR_SPACE_OFFSET / MIRROR_BLOCK;
	struct format_super super;

	memcpy(&super, machine->disk[0] + MIRROR_SPACE_OFFSET, sizeof(super));
	machine->spoilt = true;
	for (uint64_t i = 1 + sim_random_below(&machine->random, 12); i; i--) {
		uint64_t block = disk->blocks[sim_random_below(&machine->random, disk->count)];

		if (block < space + le64_get(super.heap_start) || (block + 2) * MIRROR_BLOCK > machine->disk_bytes)
			continue;
		note("block %lu is bad on both legs", (unsigned long)(block - space));
		spoil(machine, block);
	}
}

bool machine_mount_spoilt(struct machine *machine)
{
	machine_mount(machine, false);
	return machine->fs;
}

static void mount_aside(void *arg)
{
	machine_mount(arg, false);
}

void machine_mount_cut(struct machine *machine, uint64_t steps)
{
	struct thread mounter;

	thread_start(&mounter, "mounter", mount_aside, machine);
	sim_wait_steps(steps);
	machine_crash(machine, 12);
}

static void remember_states(struct machine *machine)
{
	if (!machine->mirror)
		return;
	for (int i = 0; i < MIRROR_LEGS; i++) {
		if (!machine->stale[i] && !mirror_leg_insync(machine->mirror, i)) {
			note("leg %d is out of sync from here on", i);
			machine->stale[i] = true;
		} else if (machine->stale[i] && mirror_leg_insync(machine->mirror, i)) {
			note("leg %d was filled and is in sync again", i);
			machine->stale[i] = false;
		}
	}
	if (machine->stale[0] && machine->stale[1])
		sim_fail("neither leg is in sync");
}

void machine_unmount(struct machine *machine)
{
	int error = 0;

	note("unmount");
	if (machine->fs)
		error = fs_close(machine->fs);
	if (machine->meta && !error)
		error = meta_close(machine->meta);
	if (error)
		sim_fail("unmount: %s", strerror(-error));
	cache_destroy(machine->cache);
	remember_states(machine);
	machine_check_counters(machine);
	/* A leg that hangs would be left open, as it must. */
	if (machine->faulty && leg_fault_set(machine->fault[machine->suspect], "", NULL) != 0)
		sim_fail("leg_fault_set");
	if (!mirror_close(machine->mirror))
		sim_fail("mirror_close left requests behind");
	iobuf_pool_destroy(machine->pool);
	power_off(machine);
	if (sim_world_fibers())
		sim_fail("%u threads outlive the unmount", sim_world_fibers());
}

struct chooser {
	struct sim_random *random;
	uint32_t favourite; /* the answer given most of the time: 0 keep, 1 drop, else none */
};

static uint32_t choose(void *context, uint32_t n)
{
	struct chooser *chooser = context;

	if (chooser->favourite < 2 && n <= 3 && !sim_random_chance(chooser->random, 8))
		return chooser->favourite;
	return (uint32_t)sim_random_below(chooser->random, n);
}

/* Whatever is asked: the first one, lost. */
static uint32_t choose_loss(void *context, uint32_t n)
{
	bool *fate = context, lose = *fate;

	*fate = !lose;
	return lose;
}

static void cut(struct machine *machine, int i, enum machine_cut how)
{
	struct chooser chooser = { &machine->random, (uint32_t)sim_random_below(&machine->random, 4) };
	bool fate = false;

	if (!machine->memory[i])
		return;
	if (how == MACHINE_CUT_ANY)
		leg_memory_crash(machine->memory[i], machine->disk[i], choose, &chooser);
	else
		leg_memory_crash(machine->memory[i], machine->disk[i],
				 how == MACHINE_CUT_DURABLE ? choose_loss : NULL, &fate);
}

/* One disk dies first: what it is asked for is never answered. With both in sync and good, nothing may fail by that. */
static int cut_first(struct machine *machine)
{
	int first = machine->faulty ? machine->suspect : (int)sim_random_below(&machine->random, 2);

	if (!sim_random_chance(&machine->random, 3) || !machine->memory[0] || !machine->memory[1] ||
	    machine->stale[0] || machine->stale[1])
		return -1;
	note("disk %d dies", first);
	machine->dying = true;
	cut(machine, first, MACHINE_CUT_ANY);
	sim_wait_steps(1 + sim_random_below(&machine->random, UINT64_C(1) << sim_random_below(&machine->random, 11)));
	return first;
}

/* All disks but `first`, which is dead already. */
static void crash(struct machine *machine, enum machine_cut how, int first)
{
	note("crash");
	sim_world_crash();
	remember_states(machine);
	for (int i = 0; i < MIRROR_LEGS; i++) {
		if (i != first)
			cut(machine, i, how);
		if (machine->memory[i])
			leg_memory_abandon(machine->fault[i] ? machine->fault[i] : machine->memory[i]);
	}
	power_off(machine);
}

static void lose(struct machine *machine, int lost)
{
	note("leg %d is lost", lost);
	munmap(machine->disk[lost], machine->disk_bytes);
	machine->disk[lost] = NULL;
	machine->stale[lost] = true;
}

void machine_crash(struct machine *machine, unsigned int lost_odds)
{
	machine_check_counters(machine);
	crash(machine, MACHINE_CUT_ANY, cut_first(machine));
	if (!machine->stale[0] && !machine->stale[1] && sim_random_chance(&machine->random, lost_odds))
		lose(machine, machine->suspect < 0 ? (int)sim_random_below(&machine->random, 2) : machine->suspect);
}

void machine_crash_as(struct machine *machine, enum machine_cut how, int lost)
{
	machine_check_counters(machine);
	crash(machine, how, -1);
	if (lost >= 0)
		lose(machine, lost);
}

void machine_fault(struct machine *machine)
{
	/* Labels are below 1 MiB; what is wrong with those is for the mirror's own tests. */
	static const char *const all_rules[] = {
		"",
		"",
		"read,error=EIO,chance=4,range=1M-",
		"read,error=EIO,range=1M-",
		"read,corrupt,chance=4,range=1M-",
		"read,corrupt,range=1M-",
		"read,error=EIO,latch,chance=16,range=1M-16M",
		"read,corrupt,latch,chance=16,range=1M-16M",
		"read,error=EINVAL,chance=8,range=1M-",
		"read,short=512,chance=4,range=1M-",
		"read,misdirect=8192,chance=8,range=1M-",
		"any,delay=300,chance=20",
		"read,delay=1000,chance=6",
		"read,delay=1000,chance=6;read,corrupt,chance=4,range=1M-",
		"write,drop,chance=8,range=1M-",
		"write,torn=512,chance=8,range=1M-",
		"write,error=EIO,chance=40,count=1,range=1M-",
		"read,hang,chance=50,range=1M-",
	};
	/* These take the leg out, for the rest of the run. */
	static const char *const last_rules[] = {
		"write,error=EIO,after=30,range=1M-",
		"flush,error=EIO,after=3",
		"write,hang,after=60,range=1M-",
		"any,error=ENODEV,after=50",
	};
	const size_t count = sizeof(all_rules) / sizeof(all_rules[0]);
	const size_t last_count = sizeof(last_rules) / sizeof(last_rules[0]);
	const char *rules;

	if (!machine->faulty)
		return;
	rules = sim_random_chance(&machine->random, 5) ? last_rules[sim_random_below(&machine->random, last_count)] :
							all_rules[sim_random_below(&machine->random, count)];
	set_fault(machine, rules);
}

bool machine_leg_went_out(struct machine *machine)
{
	int leg = machine->suspect;

	if (!machine->faulty || machine->went_out || mirror_leg_insync(machine->mirror, leg))
		return false;
	note("leg %d has gone out of sync", leg);
	machine->went_out = true;
	return true;
}

int machine_checkpoint(struct machine *machine)
{
	int error;

	machine->checkpointing = true;
	note("checkpoint …");
	error = meta_checkpoint(machine->meta);
	note("checkpoint: %s", strerror(-error));
	machine->checkpointing = false;
	return error;
}

void machine_check_counters(struct machine *machine)
{
	struct mirror_status *status;

	if (!machine->mirror)
		return;
	status = malloc(sizeof(*status));
	if (!status)
		sim_fail("no memory for a status");
	mirror_status(machine->mirror, status);
	if (status->empty_refused)
		sim_fail("%lu empty requests reached the mirror", (unsigned long)status->empty_refused);
	if (status->failed)
		sim_fail("the volume turned read-only");
	if (status->deadline_missed)
		sim_fail("%lu requests missed their deadline", (unsigned long)status->deadline_missed);
	for (int i = 0; i < MIRROR_LEGS; i++) {
		struct leg_counters *counters = &status->leg[i].counters;

		if (counters->empty_refused || counters->unaligned_refused)
			sim_fail("leg %d refused %lu empty and %lu misaligned requests", i,
				 (unsigned long)counters->empty_refused, (unsigned long)counters->unaligned_refused);
		if (i != machine->doubted && status->leg[i].charged)
			sim_fail("leg %d was charged with %lu errors without a fault: %s", i,
				 (unsigned long)status->leg[i].charged, status->leg[i].why);
		if (i != machine->doubted && (status->leg[i].hedged || status->leg[i].slow))
			sim_fail("leg %d was called slow without a fault", i);
		if (i != machine->doubted && status->leg[i].checksum_errors)
			sim_fail("leg %d gave %lu bad checksums without a fault", i,
				 (unsigned long)status->leg[i].checksum_errors);
	}
	free(status);
}

static const unsigned char *raw_block(const struct machine *machine, int leg, uint64_t block)
{
	return leg_memory_bytes(machine->memory[leg]) + MIRROR_SPACE_OFFSET + block * MIRROR_BLOCK;
}

static void compare_block(const struct machine *machine, uint64_t block, const char *what)
{
	if (memcmp(raw_block(machine, 0, block), raw_block(machine, 1, block), MIRROR_BLOCK) != 0)
		sim_fail("%s at block %lu differs between the legs", what, (unsigned long)block);
}

/* The record that must come at `position`, on this leg; NULL. */
static const struct format_record *raw_record(const struct machine *machine, int leg, const struct format_super *super,
					      uint64_t position, uint64_t sequence)
{
	const void *at = raw_block(machine, leg, le64_get(super->ring_start) + position);
	const struct format_record *record = at;

	return le32_get(record->magic) == JOURNAL_MAGIC && le64_get(record->epoch) == le64_get(super->epoch) &&
			       le64_get(record->sequence) == sequence ?
		       record :
		       NULL;
}

static unsigned int compare_ring(const struct machine *machine, const struct format_super *super)
{
	const struct format_record *record;
	uint64_t position = le64_get(super->ring_position);
	unsigned int count = 0;

	for (;; count++) {
		uint64_t sequence = le64_get(super->sequence) + 1 + count;

		record = raw_record(machine, 0, super, position, sequence);
		if (!record)
			record = raw_record(machine, 1, super, position, sequence);
		if (!record)
			return count;
		for (uint32_t i = 0; i < le32_get(record->blocks); i++)
			compare_block(machine, le64_get(super->ring_start) + position + i, "the ring");
		position += le32_get(record->blocks);
		if (position > le64_get(super->ring_blocks) - JOURNAL_RECORD_BLOCKS)
			position = 0;
	}
}

void machine_compare_legs(struct machine *machine)
{
	const struct format_super *newest = NULL;
	int error;

	if (!machine->meta || machine->suspect >= 0 || machine->stale[0] || machine->stale[1])
		return;
	error = machine->fs ? fs_sync(machine->fs) : meta_sync(machine->meta, meta_sequence(machine->meta));
	if (error == -ENOSPC)
		return;
	if (error)
		sim_fail("sync: %s", strerror(-error));
	sim_sleep(10 * NSEC_PER_SEC); /* a checkpoint may have been under way */
	for (uint64_t block = SUPER_SLOT0; block <= SUPER_SLOT1; block += SUPER_SLOT1 - SUPER_SLOT0) {
		const void *at = raw_block(machine, 0, block);
		const struct format_super *super = at;

		compare_block(machine, block, "a slot");
		if (!newest || le64_get(super->generation) > le64_get(newest->generation))
			newest = super;
	}
	note("legs compared, %u records", compare_ring(machine, newest));
}

static void scrub_once(struct machine *machine, bool must_be_clean)
{
	struct meta_scrub scrub = { .blocks = 0 };
	int error = meta_scrub(machine->meta, &scrub);

	if (error)
		sim_fail("meta_scrub: %s", strerror(-error));
	if (scrub.unrecoverable)
		sim_fail("scrub: %lu blocks are bad on every leg", (unsigned long)scrub.unrecoverable);
	if (scrub.repaired && must_be_clean)
		sim_fail("scrub: repaired %lu blocks of %lu where nothing should be wrong",
			 (unsigned long)scrub.repaired, (unsigned long)scrub.blocks);
	note("scrub: %lu blocks, %lu repaired", (unsigned long)scrub.blocks, (unsigned long)scrub.repaired);
}

void machine_scrub(struct machine *machine)
{
	if (!machine->meta)
		return;
	scrub_once(machine, machine->suspect < 0);
	if (machine->faulty || machine->suspect < 0)
		return;
	scrub_once(machine, true);
	machine->suspect = -1;
}
