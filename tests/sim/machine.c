/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A crash drops the stack and asks each disk what is left on it; memory of the stack that is gone leaks, on purpose.
 * A leg that went out of sync is never chosen as the one that survives alone.
 */
#include "machine.h"

#include "audit.h"
#include "legs.h"
#include "report.h"
#include "tally.h"
#include "world.h"

#include "mirrorfs/base/clock.h"
#include "mirrorfs/base/crc32c.h"
#include "mirrorfs/base/sync.h"
#include "mirrorfs/format/journal.h"
#include "mirrorfs/format/label.h"
#include "mirrorfs/format/super.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define POOL_BYTES (12u << 20)
#define ABANDON_BYTES (4u << 20)
#define DISK_BYTES_MORE (64u << 20) /* so much larger may a disk become than it was at first */

static unsigned char *disk_create(const struct machine *machine)
{
	unsigned char *disk = mmap(NULL, machine->most_bytes, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (disk == MAP_FAILED)
		sim_fail("no memory for a disk");
	return disk;
}

void machine_new_disk(struct machine *machine, int leg, uint64_t bytes)
{
	if (bytes > machine->most_bytes)
		sim_fail("a disk of %lu bytes", (unsigned long)bytes);
	if (machine->disk[leg])
		munmap(machine->disk[leg], machine->most_bytes);
	machine->disk[leg] = disk_create(machine);
	machine->disks[leg].bytes = bytes;
	machine->bad[leg] = machine->divided[leg] = machine->split[leg] = false;
	machine->blank[leg] = true;
}

void machine_swap_disk(struct machine *machine, int leg, uint64_t bytes)
{
	machine->disk[leg] = NULL;
	machine->memory[leg] = machine->fault[leg] = NULL;
	machine_new_disk(machine, leg, bytes);
	machine->strange[leg] = true;
}

void machine_init(struct machine *machine, uint64_t seed, enum machine_height height)
{
	uint64_t blocks = height == MACHINE_MIRROR ? 1024 : meta_minimum_blocks();

	memset(machine, 0, sizeof(*machine));
	machine->random = sim_random_of(seed, 10);
	machine->height = height;
	machine->busy = sim_random_chance(&machine->random, 3);
	machine->suspect = -1;
	blocks += sim_random_below(&machine->random, 8192);
	machine->disk_bytes = 2 * MIRROR_SPACE_OFFSET;
	while (mirror_space_blocks(machine->disk_bytes) < blocks)
		machine->disk_bytes += UINT64_C(1) << 20;
	machine->most_bytes = machine->disk_bytes + DISK_BYTES_MORE;
	for (int i = 0; i < MIRROR_LEGS; i++) {
		struct machine_disk *disk = &machine->disks[i];
		size_t most = machine->most_bytes / MIRROR_BLOCK;

		machine_new_disk(machine, i, machine->disk_bytes);
		disk->machine = machine;
		disk->written = calloc(most, sizeof(*disk->written));
		disk->blocks = calloc(most, sizeof(*disk->blocks));
		if (!disk->written || !disk->blocks)
			sim_fail("no memory for a disk");
	}
}

static void disk_changed(void *context, uint64_t offset, size_t length)
{
	struct machine_disk *disk = context;

	disk->machine->changes++;
	if (length && offset < MIRROR_SPACE_OFFSET)
		legs_label_written(disk->machine);
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

void machine_power_on(struct machine *machine, int i)
{
	/* Good disks, too, are slow now and then: what was asked for first may be done last. */
	static const char *const slow[] = { "any,delay=40,chance=12", "write,delay=30,chance=4", "flush,delay=100",
					    "flush,delay=400" };
	static const uint64_t latency_max_ns[] = { 0, 20000, 200000, 5000000 };
	struct leg_memory_options options = {
		.size_bytes = machine->most_bytes,
		.block_size = sim_random_chance(&machine->random, 2) ? 512 : 4096,
		.latency_max_ns = latency_max_ns[sim_random_below(&machine->random, 4)],
		.name = i ? "disk1" : "disk0",
		.bytes = machine->disk[i],
		.changed = disk_changed,
		.context = &machine->disks[i],
	};
	int error = leg_memory_open(&options, &machine->memory[i]);
	const char *rules;

	if (error)
		sim_fail("leg_memory_open: %s", strerror(-error));
	leg_memory_resize(machine->memory[i], machine->disks[i].bytes);
	leg_refresh(machine->memory[i]);
	if ((!machine->faulty || machine->suspect != i) && !machine->lively &&
	    !sim_random_chance(&machine->random, machine->busy ? 2 : 4))
		return;
	rules = slow[machine->busy ? 3 : sim_random_below(&machine->random, 4)];
	if (machine->lively && !sim_random_chance(&machine->random, 4))
		rules = "";
	error = leg_fault_wrap(machine->memory[i], rules, &machine->fault[i], NULL);
	if (error)
		sim_fail("leg_fault_wrap: %s", strerror(-error));
}

void machine_resize_disk(struct machine *machine, int i, uint64_t bytes)
{
	if (bytes > machine->most_bytes)
		return;
	machine->disks[i].bytes = bytes;
	leg_memory_resize(machine->memory[i], bytes);
}

void machine_power_off(struct machine *machine)
{
	machine->dying = machine->changing = machine->growing = machine->filled = false;
	machine->serving = machine->steady = machine->rotten = machine->scrubbing = false;
	for (int i = 0; i < MIRROR_LEGS; i++) {
		machine->memory[i] = machine->fault[i] = NULL;
		machine->harmed[i] = machine->pulled[i] = machine->closing[i] = false;
		machine->replaced[i] = NULL;
		machine->told[i] = MIRROR_LEG_STATES;
	}
	/* What is wrong with a disk that has stored all that it was given ends with its power. */
	machine->suspect = machine->bad[0] ? 0 : machine->bad[1] ? 1 : -1;
	machine->went_out = machine->checkpointing = false;
	machine->filled_until = machine->out_until = 0;
	machine->empties = 0;
	machine->pool = NULL;
	machine->mirror = NULL;
	machine->cache = NULL;
	machine->meta = NULL;
	machine->fs = NULL;
}

void machine_create_pool_and_cache(struct machine *machine)
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

/* 0; or an error that is foreseen, and the legs are still ours. */
static int open_mirror(struct machine *machine)
{
	struct leg *legs[MIRROR_LEGS] = { NULL, NULL };
	struct mirror_options options = {
		.degraded = true, .pool = machine->pool, .event = audit_event, .event_context = machine
	};
	bool strange = false, divided = false;
	struct error told = { "" };
	int count = 0, error;

	options.policy = (enum mirror_read_policy)sim_random_below(&machine->random, 4);
	options.write_mostly = (unsigned int)sim_random_below(&machine->random, 3); /* neither, leg 0, leg 1 */
	for (int i = 0; i < MIRROR_LEGS; i++) {
		strange |= machine->memory[i] && machine->strange[i];
		divided |= machine->divided[i];
		if (machine->memory[i])
			legs[count++] = machine->fault[i] ? machine->fault[i] : machine->memory[i];
	}
	if (count == 2 && sim_random_chance(&machine->random, 4)) {
		struct leg *first = legs[0];

		legs[0] = legs[1];
		legs[1] = first;
	}
	error = mirror_open(legs, &options, &machine->mirror, &told);
	while (error == -ETIMEDOUT && machine->dying)
		sim_sleep(1000000000); /* there is no mount; the crash comes */
	if (error)
		note("mirror_open: %s", told.text);
	if (count == 2 && divided && error != -ESTALE)
		sim_fail("both legs were written alone, and are mounted together: %s", strerror(-error));
	/* Another history; no label yet; a label that the other leg has not heard of. */
	if (error && !(strange && count == 2 && (error == -ESTALE || error == -ENODATA || error == -EXDEV)))
		sim_fail("mirror_open: %s: %s", strerror(-error), told.text);
	return error;
}

static void lose(struct machine *machine, int lost)
{
	note("leg %d is lost", lost);
	munmap(machine->disk[lost], machine->most_bytes);
	machine->disk[lost] = NULL;
	machine->stale[lost] = true;
	machine->blank[lost] = false;
	machine->bad[lost] = machine->strange[lost] = machine->divided[lost] = machine->split[lost] = false;
}

/*
 * A ring as short as a volume may have, so that it is full and comes round all the time. mkfs.mirrorfs makes longer
 * ones.
 */
static void shorten_ring(struct machine *machine, uint64_t blocks)
{
	for (int i = 0; i < 2 * MIRROR_LEGS; i++) {
		struct format_super super;
		unsigned char *slot = machine->disk[i / 2];

		if (!slot)
			continue;
		slot += MIRROR_SPACE_OFFSET + (uint64_t)(i % 2 ? SUPER_SLOT1 : SUPER_SLOT0) * MIRROR_BLOCK;
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

	/* Some volumes begin with one leg. */
	if (machine->lively && sim_random_chance(&machine->random, 6)) {
		tally(TALLY_BEGUN_WITH_ONE);
		lose(machine, 1);
	}
	machine_power_on(machine, 0);
	if (machine->disk[1])
		machine_power_on(machine, 1);
	legs[0] = machine->memory[0];
	legs[1] = machine->memory[1];
	error = mirror_format(legs, MACHINE_LABEL, &identity, &blocks, &told);
	if (error)
		sim_fail("mirror_format: %s: %s", strerror(-error), told.text);
	machine->blank[0] = machine->blank[1] = false;
	machine_create_pool_and_cache(machine);
	open_mirror(machine);
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

void machine_open_stack(struct machine *machine)
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
	if (sim_random_chance(&machine->random, 2))
		fs_options.inodes = 1 + sim_random_below(&machine->random, 4);
	error = fs_open(machine->meta, machine->cache, &fs_options, &machine->fs, &told);
	if (error && !(error == -EIO && machine->spoilt))
		sim_fail("fs_open: %s: %s", strerror(-error), told.text);
}

void machine_serve(struct machine *machine, const struct mirror_source *source)
{
	int error = mirror_source_set(machine->mirror, source);

	if (error)
		sim_fail("mirror_source_set: %s", strerror(-error));
	machine->serving = true;
}

void machine_doubt(struct machine *machine, int leg, bool charged)
{
	machine->troubles++;
	machine->doubted |= 1u << leg;
	if (charged)
		machine->blamed |= 1u << leg;
}

/* A stale leg may be shown or not: it must make no difference. One in sync may be missing, whatever the label says. */
static void power_on_some(struct machine *machine)
{
	bool shown[MIRROR_LEGS];
	int missing = -1;

	if (machine->lively && !machine->faulty && machine->suspect < 0 && !machine->whole &&
	    !machine->stale[0] && !machine->stale[1] && sim_random_chance(&machine->random, 12))
		missing = (int)sim_random_below(&machine->random, 2);
	if (missing >= 0 && !machine_label_says_whole(machine, !missing))
		missing = -1;
	for (int i = 0; i < MIRROR_LEGS; i++) {
		shown[i] = machine->disk[i] && i != missing &&
			   (!machine->stale[i] || sim_random_chance(&machine->random, 2)) &&
			   (!machine->strange[i] || sim_random_chance(&machine->random, 3));
		if (shown[i])
			machine_power_on(machine, i);
	}
	if (missing >= 0)
		tally(TALLY_MISSING);
	note("mount with%s%s, suspect is %d", shown[0] ? " leg 0" : "", shown[1] ? " leg 1" : "", machine->suspect);
}

/* Two histories are not mixed (I11): the one that was given up is not shown again in this mount. */
static void refused(struct machine *machine, int error)
{
	int leg = machine->strange[0] ? 0 : 1;

	if (!machine->stale[leg])
		sim_fail("leg %d is refused, and is not stale", leg);
	machine->split[leg] = error == -ESTALE;
	if (machine->split[leg])
		tally(TALLY_REFUSED_SPLIT);
	leg_close(machine->fault[leg] ? machine->fault[leg] : machine->memory[leg]);
	machine->memory[leg] = machine->fault[leg] = NULL;
	if (open_mirror(machine))
		sim_fail("leg %d alone is refused", !leg);
}

/* What the labels have made of the legs. */
static void learn_states(struct machine *machine)
{
	for (int i = 0; i < MIRROR_LEGS; i++) {
		bool insync = mirror_leg_insync(machine->mirror, i);

		/* Nothing was acknowledged without it before the crash; the level's check would find what was. */
		if (machine->stale[i] && insync)
			note("leg %d is in sync after all", i);
		/* It was not shown, or given up by a mount that never came about. The other one has the only copy. */
		if (!machine->stale[i] && !insync)
			note("leg %d is out of sync", i);
		if (machine->whole && !insync)
			sim_fail("leg %d was whole at the unmount, and is not in sync now", i);
		if (!insync && machine->memory[i])
			tally(TALLY_RETURNED);
		machine->stale[i] = !insync;
		machine->faulty = machine->faulty && (insync || machine->suspect == i);
		if (insync || machine->memory[i])
			machine->strange[i] = false;
	}
	if (machine->stale[0] && machine->stale[1])
		sim_fail("neither leg is in sync");
}

void machine_mount(struct machine *machine, bool faulty)
{
	int error;

	machine->faulty = faulty && !machine->stale[0] && !machine->stale[1];
	if (machine->faulty && machine->suspect < 0)
		machine->suspect = (int)sim_random_below(&machine->random, 2);
	machine->doubted = machine->blamed = (unsigned int)machine->bad[0] | (unsigned int)machine->bad[1] << 1;
	machine->full = false;
	power_on_some(machine);
	machine_create_pool_and_cache(machine);
	error = open_mirror(machine);
	if (error)
		refused(machine, error);
	learn_states(machine);
	machine->whole = false;
	legs_fault_mount(machine);
	machine_open_stack(machine);
}

struct format_label machine_disk_label(const unsigned char *disk)
{
	static const uint64_t slots[] = { LABEL_SLOT0, LABEL_SLOT1 };
	struct format_label newest = { .flags = le32_of(LABEL_RESYNCING) }; /* without a valid label */

	for (size_t i = 0; i < sizeof(slots) / sizeof(slots[0]); i++) {
		struct format_label label;

		memcpy(&label, disk + slots[i], sizeof(label));
		if (le32_get(label.magic) == LABEL_MAGIC && le64_get(label.sequence) >= le64_get(newest.sequence) &&
		    le32_get(label.crc) == crc32c_block(&label, sizeof(label), offsetof(struct format_label, crc)))
			newest = label;
	}
	return newest;
}

uint32_t machine_label(const struct machine *machine, int leg)
{
	return le32_get(machine_disk_label(machine->disk[leg]).flags);
}

bool machine_label_says_whole(const struct machine *machine, int leg)
{
	return !(machine_label(machine, leg) & (LABEL_RESYNCING | LABEL_SUPERSEDED));
}

/* The block, and all that may be one node with it: a newer node may share a part of its bytes with an old one. */
static bool same_around(const struct machine *machine, const unsigned char *mine, const unsigned char *other,
			uint64_t block)
{
	uint64_t first = block - (NODE_BLOCKS - 1), end = block + NODE_BLOCKS;

	if (end > machine->most_bytes / MIRROR_BLOCK)
		end = machine->most_bytes / MIRROR_BLOCK;
	return !memcmp(mine + first * MIRROR_BLOCK, other + first * MIRROR_BLOCK, (end - first) * MIRROR_BLOCK);
}

void machine_rot(struct machine *machine, int leg, const unsigned char *other, unsigned int count)
{
	const struct machine_disk *disk = &machine->disks[leg];
	const uint64_t space = MIRROR_SPACE_OFFSET / MIRROR_BLOCK;
	unsigned char *mine = leg_memory_bytes(machine->memory[leg]);
	struct format_super super;

	memcpy(&super, mine + MIRROR_SPACE_OFFSET + SUPER_SLOT0 * MIRROR_BLOCK, sizeof(super));
	for (; count; count--) {
		uint64_t block = disk->blocks[sim_random_below(&machine->random, disk->count)];
		uint64_t at = block * MIRROR_BLOCK;

		if (block < space + le64_get(super.heap_start) || !same_around(machine, mine, other, block))
			continue;
		note("block %lu rots on leg %d", (unsigned long)(block - space), leg);
		mine[at + sim_random_below(&machine->random, MIRROR_BLOCK)] ^= 0x10;
	}
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

	/* One that was mounted alone may be the newer one to this mount, and nobody sees whether it came so far. */
	for (int i = 0; i < MIRROR_LEGS; i++)
		if (machine->strange[i] && !machine->divided[i])
			return;
	thread_start(&mounter, "mounter", mount_aside, machine);
	sim_wait_steps(steps);
	machine_crash(machine, 12);
}

static void remember_states(struct machine *machine)
{
	if (!machine->mirror)
		return;
	for (int i = 0; i < MIRROR_LEGS; i++) {
		/* A disk that was to take the place of another may not have done so yet. */
		bool insync = mirror_leg_insync(machine->mirror, i) && !machine->strange[i];

		if (!machine->stale[i] && !insync) {
			note("leg %d is out of sync from here on", i);
			machine->stale[i] = true;
		} else if (machine->stale[i] && insync) {
			note("leg %d was filled and is in sync again", i);
			machine->stale[i] = false;
		}
	}
	if (machine->stale[0] && machine->stale[1])
		sim_fail("neither leg is in sync");
}

void machine_unmount(struct machine *machine)
{
	struct mirror_io flush = { .op = MIRROR_FLUSH };
	int error = 0;

	note("unmount");
	if (machine->fs)
		error = fs_close(machine->fs);
	if (machine->meta && !error)
		error = meta_close(machine->meta);
	if (error)
		sim_fail("unmount: %s", strerror(-error));
	/* As whoever stands on a mirror does: a leg that was pulled is found out by that. */
	if (machine->serving)
		error = mirror_submit_wait(machine->mirror, &flush);
	if (error)
		sim_fail("flush at the unmount: %s", strerror(-error));
	if (machine->serving)
		(void)mirror_source_set(machine->mirror, NULL);
	cache_destroy(machine->cache);
	remember_states(machine);
	audit_counters(machine);
	/* A leg that hangs would be left open, as it must. */
	for (int i = 0; i < MIRROR_LEGS; i++)
		if (machine->harmed[i])
			legs_set_fault(machine, i, "");
	if (!mirror_close(machine->mirror))
		sim_fail("mirror_close left requests behind");
	iobuf_pool_destroy(machine->pool);
	machine_power_off(machine);
	if (sim_world_fibers())
		sim_fail("%u threads outlive the unmount", sim_world_fibers());
}

bool machine_mount_alone(struct machine *machine, int leg, bool must)
{
	struct mirror_options options = { .degraded = true };
	struct leg *legs[MIRROR_LEGS] = { machine->fault[leg] ? machine->fault[leg] : machine->memory[leg] };
	struct error told = { "" };
	int error;

	machine->doubted = machine->blamed = 0;
	machine_create_pool_and_cache(machine);
	options.pool = machine->pool;
	error = mirror_open(legs, &options, &machine->mirror, &told);
	if (must ? error : error != -ESTALE && !(machine->blank[leg] && error))
		sim_fail("leg %d alone: %s: %s", leg, strerror(-error), told.text);
	if (!error) {
		bool stale[MIRROR_LEGS];

		memcpy(stale, machine->stale, sizeof(stale));
		machine_open_stack(machine);
		machine_unmount(machine);
		memcpy(machine->stale, stale, sizeof(stale));
		return true;
	}
	leg_close(legs[0]);
	cache_destroy(machine->cache);
	iobuf_pool_destroy(machine->pool);
	machine_power_off(machine);
	return false;
}

struct chooser {
	struct sim_random *random;
	uint32_t favourite; /* the answer given most of the time: 0 keep, 1 drop, else none */
	bool asked; /* there was something to be lost */
};

static uint32_t choose(void *context, uint32_t n)
{
	struct chooser *chooser = context;

	chooser->asked = true;
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
	struct chooser chooser = { &machine->random, (uint32_t)sim_random_below(&machine->random, 4), false };
	bool fate = false;

	if (!machine->memory[i] || machine->closing[i])
		return;
	if (how == MACHINE_CUT_ANY)
		leg_memory_crash(machine->memory[i], machine->disk[i], choose, &chooser);
	else
		leg_memory_crash(machine->memory[i], machine->disk[i],
				 how == MACHINE_CUT_DURABLE ? choose_loss : NULL, &fate);
}

bool machine_pull(struct machine *machine, int i)
{
	struct chooser chooser = { &machine->random, (uint32_t)sim_random_below(&machine->random, 4), false };

	leg_memory_pull(machine->memory[i], choose, &chooser);
	return chooser.asked;
}

/* One disk dies first: what it is asked for is never answered. With both in sync and good, nothing may fail by that. */
static int cut_first(struct machine *machine)
{
	int first = machine->suspect < 0 ? (int)sim_random_below(&machine->random, 2) : machine->suspect;

	if (!sim_random_chance(&machine->random, 3) || !machine->memory[0] || !machine->memory[1] ||
	    machine->stale[0] || machine->stale[1] || machine->closing[first] || machine->full)
		return -1;
	for (int i = 0; i < MIRROR_LEGS; i++)
		if (machine->told[i] != MIRROR_LEG_STATES && machine->told[i] != MIRROR_INSYNC)
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
	if (machine->growing)
		tally(TALLY_GROW_CRASH);
	if (machine->told[0] == MIRROR_RESYNC || machine->told[1] == MIRROR_RESYNC)
		tally(TALLY_RESYNC_CRASH);
	else if (machine->filled_until > sim_steps())
		tally(TALLY_FILLED_CRASH);
	sim_world_crash();
	remember_states(machine);
	for (int i = 0; i < MIRROR_LEGS; i++) {
		if (i != first)
			cut(machine, i, how);
		if (machine->memory[i] && !machine->closing[i])
			leg_memory_abandon(machine->fault[i] ? machine->fault[i] : machine->memory[i]);
	}
	machine_power_off(machine);
}

/* The other one is good for all that was promised. */
static bool may_be_lost(const struct machine *machine, int leg)
{
	return machine->disk[leg] && machine->disk[!leg] && !machine->stale[!leg] && !machine->bad[!leg] &&
	       machine_label_says_whole(machine, !leg);
}

void machine_crash(struct machine *machine, unsigned int lost_odds)
{
	int leg = (int)sim_random_below(&machine->random, 2);

	machine->dying = true; /* others go on until it happens: nothing begins that must not be interrupted */
	audit_counters(machine);
	crash(machine, MACHINE_CUT_ANY, cut_first(machine));
	if (!may_be_lost(machine, leg))
		leg = !leg;
	if (may_be_lost(machine, leg) && sim_random_chance(&machine->random, lost_odds)) {
		tally(TALLY_LOST_AT_CRASH);
		lose(machine, leg);
	}
}

void machine_crash_as(struct machine *machine, enum machine_cut how, int lost)
{
	machine->dying = true;
	audit_counters(machine);
	crash(machine, how, -1);
	if (lost >= 0)
		lose(machine, lost);
}

bool machine_leg_went_out(struct machine *machine)
{
	bool out = machine->went_out;

	machine->went_out = false;
	return out;
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
