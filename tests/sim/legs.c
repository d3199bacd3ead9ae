/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "legs.h"

#include "report.h"
#include "tally.h"
#include "world.h"

#include "mirrorfs/base/clock.h"
#include "mirrorfs/format/label.h"
#include "mirrorfs/format/super.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEAL_LOOKS 600 /* seconds */

/* What is known of a rule. */
enum blame {
	NOBODY, /* the leg is right, if slow */
	REQUESTS, /* it fails, but is not charged with it (I7) */
	CHARGED,
	LIES, /* it says that it has stored what it has not: its copies are bad from then on */
};

struct rule {
	enum blame blame;
	const char *text;
};

/* Labels are below 1 MiB; what is wrong with those is for the mirror's own tests. */
static const struct rule passing[] = {
	{ NOBODY, "" },
	{ NOBODY, "" },
	{ CHARGED, "read,error=EIO,chance=4,range=1M-" },
	{ CHARGED, "read,error=EIO,range=1M-" },
	{ CHARGED, "read,corrupt,chance=4,range=1M-" },
	{ CHARGED, "read,corrupt,range=1M-" },
	{ CHARGED, "read,error=EIO,latch,chance=16,range=1M-16M" },
	{ CHARGED, "read,corrupt,latch,chance=16,range=1M-16M" },
	{ REQUESTS, "read,error=EINVAL,chance=8,range=1M-" },
	{ REQUESTS, "read,error=ENOMEM,range=1M-" },
	{ REQUESTS, "write,error=EINVAL,count=1,range=1M-" },
	{ REQUESTS, "any,error=EAGAIN,chance=30" },
	{ CHARGED, "read,short=512,chance=4,range=1M-" },
	{ CHARGED, "read,misdirect=8192,chance=8,range=1M-" },
	{ NOBODY, "any,delay=300,chance=20" },
	{ NOBODY, "read,delay=1000,chance=6" },
	{ NOBODY, "read,delay=400" },
	{ NOBODY, "any,delay=300" },
	{ NOBODY, "discard,delay=7000,chance=3" }, /* done after all, when nobody waits for it */
	{ CHARGED, "read,delay=1000,chance=6;read,corrupt,chance=4,range=1M-" },
	{ LIES, "write,drop,chance=8,range=1M-" },
	{ LIES, "write,torn=512,chance=8,range=1M-" },
	{ CHARGED, "write,error=EIO,chance=40,count=1,range=1M-" },
	{ CHARGED, "read,hang,chance=50,range=1M-" },
};

/* These take the leg out. */
static const struct rule last[] = {
	{ CHARGED, "write,error=EIO,after=30,range=1M-" },
	{ REQUESTS, "write,error=EINVAL,after=20,range=1M-" },
	{ REQUESTS, "write,error=EINVAL,chance=3,range=1M-" },
	{ REQUESTS, "write,error=ENOMEM,chance=2,range=1M-" },
	{ CHARGED, "write,error=ENOSPC,after=10,range=1M-" },
	{ CHARGED, "flush,error=EIO,after=3" },
	{ REQUESTS, "flush,error=EINVAL,after=2" },
	{ CHARGED, "write,hang,after=60,range=1M-" },
	{ CHARGED, "write,delay=7000,after=20,chance=4,range=1M-" },
	{ CHARGED, "any,error=ENODEV,after=50" },
	{ CHARGED, "write,lost,after=30,range=1M-" },
	/* a server that comes to it after its connection was given up */
	{ CHARGED, "write,lost,delay=7000,after=20,chance=4,range=1M-" },
	{ CHARGED, "any,hang,after=20" },
};

static enum mirror_leg_state state_of(const struct machine *machine, int leg)
{
	struct mirror_status *status = malloc(sizeof(*status));
	enum mirror_leg_state state;

	if (!status)
		sim_fail("no memory for a status");
	mirror_status(machine->mirror, status);
	state = status->leg[leg].state;
	free(status);
	return state;
}

/* It has everything, and nothing is wrong with it. */
static bool sound(const struct machine *machine, int leg)
{
	return !machine->bad[leg] && !machine->harmed[leg] && state_of(machine, leg) == MIRROR_INSYNC;
}

/* ---- faults ---- */

static void set(struct machine *machine, int leg, const struct rule *rule)
{
	struct error told = { "" };

	note("fault on leg %d: %s", leg, rule->text);
	if (rule->blame != NOBODY)
		machine->harmed[leg] = true;
	if (rule->blame == LIES) {
		machine->bad[leg] = true;
		tally(TALLY_LIES);
	}
	if (rule->text[0])
		machine_doubt(machine, leg, rule->blame >= CHARGED);
	if (leg_fault_set(machine->fault[leg], rule->text, &told) != 0)
		sim_fail("leg_fault_set: %s", told.text);
	if (rule->blame == NOBODY)
		machine->harmed[leg] = machine->pulled[leg];
}

void legs_set_fault(struct machine *machine, int leg, const char *rules)
{
	const struct rule rule = { rules[0] ? CHARGED : NOBODY, rules };

	if (machine->fault[leg])
		set(machine, leg, &rule);
}

static void fault(struct machine *machine, struct sim_random *random)
{
	const struct rule *rule = sim_random_chance(random, 3) ?
					  &last[sim_random_below(random, sizeof(last) / sizeof(last[0]))] :
					  &passing[sim_random_below(random, sizeof(passing) / sizeof(passing[0]))];
	int leg = machine->suspect;

	if (machine->steady)
		return;
	if (leg < 0)
		leg = (int)sim_random_below(random, 2);
	if (!machine->fault[leg] || !sound(machine, !leg) || state_of(machine, leg) == MIRROR_OFFLINE)
		return;
	machine->suspect = leg;
	set(machine, leg, rule);
}

void legs_fault(struct machine *machine)
{
	if (!machine->faulty || machine->changing)
		return;
	machine->changing = true;
	fault(machine, &machine->random);
	machine->changing = false;
}

void legs_fault_mount(struct machine *machine)
{
	static const struct rule blind = { CHARGED, "read,error=EIO,range=1M-" };
	static const struct rule slow = { NOBODY, "any,delay=300" };

	/* What befalls a leg while it is filled takes time. */
	if (machine->lively && sim_random_chance(&machine->random, 3))
		mirror_resync_limit(machine->mirror, 256u << 10);
	if (!machine->faulty)
		return;
	/* What is there on this leg alone cannot be read now, but next time. */
	if (sim_random_chance(&machine->random, 3)) {
		set(machine, machine->suspect, &blind);
		tally(TALLY_BLIND);
	} else if (sim_random_chance(&machine->random, 6)) {
		set(machine, machine->suspect, &slow);
		machine->steady = true;
	} else if (sim_random_chance(&machine->random, 2))
		fault(machine, &machine->random);
}

static uint64_t heap_start(const struct machine *machine, int leg)
{
	struct format_super super;

	memcpy(&super, leg_memory_bytes(machine->memory[leg]) + MIRROR_SPACE_OFFSET + SUPER_SLOT0 * MIRROR_BLOCK,
	       sizeof(super));
	return le64_get(super.heap_start);
}

/* The reserve is allocated for real, so labels, slots and ring can always be written. */
bool legs_fill_up(struct machine *machine)
{
	char rules[64];

	if (machine->suspect >= 0 || !machine->fault[0] || !machine->fault[1] || !sound(machine, 0) ||
	    !sound(machine, 1) || fs_sync(machine->fs))
		return false;
	/* What is under way would find room on one of them. */
	sim_sleep(10 * NSEC_PER_SEC);
	snprintf(rules, sizeof(rules), "write,error=ENOSPC,range=%lu-",
		 (unsigned long)(MIRROR_SPACE_OFFSET + heap_start(machine, 0) * MIRROR_BLOCK));
	machine->full = true;
	tally(TALLY_FULL);
	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		const struct rule rule = { REQUESTS, rules };

		set(machine, leg, &rule);
	}
	return true;
}

/* ---- one in the place of another ---- */

/*
 * What the survivor loses now the leg that is replaced still has: nobody is told of an error, the new one gets it, and
 * the survivor, too.
 */
static void rot_meanwhile(struct machine *machine, int leg, const unsigned char *outgoing)
{
	int survivor = !leg;

	machine->rotten = machine->bad[survivor] = true;
	machine->suspect = survivor;
	machine_doubt(machine, survivor, true);
	machine_rot(machine, survivor, outgoing, 40);
	mirror_resync_limit(machine->mirror, 0);
	for (int look = 0; state_of(machine, leg) != MIRROR_INSYNC; look++) {
		if (look == HEAL_LOOKS * 10)
			sim_fail("leg %d, which takes the place of another, is not whole", leg);
		sim_sleep(NSEC_PER_SEC / 10);
	}
	machine->rotten = false;
	tally(TALLY_REPLACED_ROT);
}

/* What a mount would find now: both legs are whole, and name each other. */
static bool labels_say_whole(const struct machine *machine)
{
	struct format_label label[MIRROR_LEGS];

	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		if (!machine->disk[leg])
			return false;
		label[leg] = machine_disk_label(machine->disk[leg]);
		if (le32_get(label[leg].flags) & (LABEL_RESYNCING | LABEL_SUPERSEDED | LABEL_LACKS_OTHER))
			return false;
	}
	return !memcmp(label[0].leg, label[1].leg, sizeof(label[0].leg));
}

void legs_label_written(struct machine *machine)
{
	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		if (!machine->replaced[leg])
			continue;
		machine->succeeded[leg] |= labels_say_whole(machine);
		if (!(le64_get(machine_disk_label(machine->replaced[leg]).compat) & LABEL_COMPAT_REPLACED))
			continue;
		if (!machine->succeeded[leg])
			sim_fail("leg %d says that it was replaced, and the one in its place is not whole", leg);
		machine->replaced[leg] = NULL;
		tally(TALLY_REPLACED_SAID);
	}
}

static void replace(struct machine *machine, int leg, struct sim_random *random)
{
	const unsigned char *outgoing = machine->disk[leg];
	bool whole = sound(machine, leg), harmed = machine->harmed[leg], bad = machine->bad[leg];
	struct leg *memory = machine->memory[leg], *fault = machine->fault[leg], *by;
	struct error told = { "" };
	int error;

	if (machine->dying)
		return;
	machine_doubt(machine, leg, false);
	machine_swap_disk(machine, leg, machine->disk_bytes);
	machine_power_on(machine, leg);
	machine->replaced[leg] = whole ? outgoing : NULL;
	machine->succeeded[leg] = false;
	by = machine->fault[leg] ? machine->fault[leg] : machine->memory[leg];
	note("replace leg %d …", leg);
	error = mirror_replace(machine->mirror, leg, by, false, &told);
	note("replaced leg %d: %s %s", leg, strerror(-error), told.text);
	if (error == -EBUSY && harmed) {
		/* The old one hangs, and is out. */
		leg_close(by);
		machine->memory[leg] = memory;
		machine->fault[leg] = fault;
		machine->bad[leg] = bad;
		machine->blank[leg] = false;
		machine->replaced[leg] = NULL;
		return;
	}
	if (error && machine->dying)
		return;
	if (error)
		sim_fail("mirror_replace of leg %d: %s: %s", leg, strerror(-error), told.text);
	tally(TALLY_REPLACED);
	machine->harmed[leg] = machine->pulled[leg] = machine->strange[leg] = false;
	machine->suspect = -1;
	if (whole && machine->meta && !machine->scrubbing && !machine->dying && sim_random_chance(random, 2))
		rot_meanwhile(machine, leg, outgoing);
}

/* ---- leaving ---- */

/* True: it is gone. */
static bool detach(struct machine *machine, int leg)
{
	struct error told = { "" };
	bool harmed = machine->harmed[leg];
	int error;

	note("detach leg %d …", leg);
	machine->closing[leg] = true;
	error = mirror_detach(machine->mirror, leg, false, &told);
	machine->closing[leg] = false;
	note("detached leg %d: %s %s", leg, strerror(-error), told.text);
	if (error == -EBUSY && harmed) {
		tally(TALLY_DETACHED_HANGING);
		return false;
	}
	if (error)
		sim_fail("mirror_detach of leg %d: %s: %s", leg, strerror(-error), told.text);
	tally(TALLY_DETACHED);
	machine->memory[leg] = machine->fault[leg] = NULL;
	machine->harmed[leg] = machine->pulled[leg] = false;
	machine->suspect = machine->bad[leg] ? leg : -1;
	return true;
}

static void leave(struct machine *machine, struct sim_random *random)
{
	static const struct rule gone = { CHARGED, "any,error=ENODEV" }, hangs = { CHARGED, "any,hang" };
	int leg = machine->suspect < 0 ? (int)sim_random_below(random, 2) : machine->suspect;
	enum mirror_leg_state state = state_of(machine, leg);
	uint64_t how = sim_random_below(random, 5);

	if (state == MIRROR_OFFLINE || state == MIRROR_ABSENT || !machine->memory[leg] || !sound(machine, !leg))
		return;
	machine->suspect = leg;
	if (how == 0 && machine->fault[leg]) {
		set(machine, leg, &gone);
	} else if (how == 1 && machine->fault[leg]) {
		set(machine, leg, &hangs);
		if (sim_random_chance(random, 2)) {
			sim_sleep(sim_random_below(random, 3 * NSEC_PER_SEC));
			(void)detach(machine, leg);
		}
	} else if (how <= 3) {
		note("pull leg %d", leg);
		if (state == MIRROR_INSYNC)
			tally(TALLY_PULLED_INSYNC);
		machine->harmed[leg] = machine->pulled[leg] = true;
		machine_doubt(machine, leg, true);
		if (machine_pull(machine, leg) && state == MIRROR_INSYNC)
			tally(TALLY_PULLED_CACHE);
	} else {
		machine_doubt(machine, leg, false);
		if (machine->meta && sim_random_chance(random, 2) && machine_checkpoint(machine))
			sim_fail("no checkpoint before a leg is detached");
		if (sound(machine, !leg))
			detach(machine, leg);
	}
}

/* ---- joining ---- */

static void count_attached(const struct machine *machine, int leg, bool split)
{
	const struct leg_geometry *mine = leg_geometry(machine->memory[leg]);
	const struct leg_geometry *other = leg_geometry(machine->memory[!leg]);

	tally(split ? TALLY_ATTACHED_SPLIT : machine->strange[leg] ? TALLY_ATTACHED_BLANK : TALLY_ATTACHED_AGAIN);
	if (mine->size_bytes > other->size_bytes)
		tally(TALLY_ATTACHED_LARGER);
	if (mine->block_size != other->block_size)
		tally(TALLY_ATTACHED_SECTOR);
}

static void attach(struct machine *machine, int leg)
{
	struct error told = { "" };
	bool split = machine->split[leg];
	struct leg *open;
	int error;

	if (machine->dying)
		return;
	machine->suspect = machine->bad[leg] ? leg : -1;
	machine_doubt(machine, leg, false);
	machine_power_on(machine, leg);
	open = machine->fault[leg] ? machine->fault[leg] : machine->memory[leg];
	note("attach leg %d%s …", leg, split ? ", which was written alone" : "");
	error = mirror_attach(machine->mirror, open, false, &told);
	if (split && error != -ESTALE)
		sim_fail("leg %d was written alone, attached without a word: %s", leg, strerror(-error));
	machine->divided[leg] = false;
	/* From here on it may be given up: after a crash in the middle of it, the label may say so or not. */
	machine->split[leg] = false;
	if (machine->strange[leg] && (error == -ESTALE || error == -EXDEV))
		error = mirror_attach(machine->mirror, open, true, &told);
	note("attached leg %d: %s %s", leg, strerror(-error), told.text);
	if (error)
		sim_fail("mirror_attach of leg %d: %s: %s", leg, strerror(-error), told.text);
	count_attached(machine, leg, split);
	machine->strange[leg] = false;
}

static void attach_too_small(struct machine *machine, int leg)
{
	struct error told = { "" };
	struct leg *open;
	int error;

	machine_new_disk(machine, leg, MIRROR_SPACE_OFFSET + (mirror_blocks(machine->mirror) - 1) * MIRROR_BLOCK);
	machine_power_on(machine, leg);
	open = machine->fault[leg] ? machine->fault[leg] : machine->memory[leg];
	error = mirror_attach(machine->mirror, open, true, &told);
	if (error != -ENOSPC)
		sim_fail("leg %d is too small, and attached: %s", leg, strerror(-error));
	tally(TALLY_REFUSED_SMALL);
	leg_close(open);
	machine->memory[leg] = machine->fault[leg] = NULL;
}

static void new_disk(struct machine *machine, int leg, struct sim_random *random)
{
	uint64_t bytes = machine->disk_bytes + (sim_random_below(random, 4) << 20);

	machine->strange[leg] = true;
	if (sim_random_chance(random, 4))
		attach_too_small(machine, leg);
	if (bytes > machine->most_bytes)
		bytes = machine->most_bytes;
	note("a blank disk for leg %d, %lu bytes", leg, (unsigned long)bytes);
	machine_new_disk(machine, leg, bytes);
}

/* A leg that is out comes back, or another one in its place. False: none is. */
static bool join(struct machine *machine, struct sim_random *random)
{
	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		enum mirror_leg_state state = state_of(machine, leg);

		if (state != MIRROR_OFFLINE && state != MIRROR_ABSENT)
			continue;
		if (state == MIRROR_OFFLINE) {
			/* It may hang still. */
			if (!sim_random_chance(random, 3))
				legs_set_fault(machine, leg, "");
			if (machine->memory[leg] && sim_random_chance(random, 4)) {
				replace(machine, leg, random);
				return true;
			}
			if (!detach(machine, leg))
				return true;
		}
		if (!machine->disk[leg] || machine->disks[leg].bytes < machine->disk_bytes ||
		    sim_random_chance(random, 6))
			new_disk(machine, leg, random);
		attach(machine, leg);
		return true;
	}
	return false;
}

static void limit(struct machine *machine, struct sim_random *random)
{
	static const uint64_t limits[] = { 0, 0, 64u << 10, 1u << 20, 16u << 20 };

	mirror_resync_limit(machine->mirror, limits[sim_random_below(random, 5)]);
}

/* ---- growing ---- */

/* By one block, so that there is next to nothing to be had, or by many. */
static void enlarge(struct machine *machine, int leg, struct sim_random *random)
{
	uint64_t more = sim_random_chance(random, 4) ? MIRROR_BLOCK : (1 + sim_random_below(random, 24)) << 20;

	note("disk %d has %lu bytes more", leg, (unsigned long)more);
	machine_resize_disk(machine, leg, machine->disks[leg].bytes + more);
}

static uint64_t heap_end(const struct machine *machine)
{
	struct meta_super_info info;

	meta_super_info(machine->meta, &info);
	return heap_start(machine, state_of(machine, 0) == MIRROR_INSYNC ? 0 : 1) + info.heap_blocks;
}

/* What the legs hold, if each is whole; else 0. */
static uint64_t room(const struct machine *machine)
{
	uint64_t least = UINT64_MAX;

	for (int leg = 0; leg < mirror_identity(machine->mirror)->leg_count; leg++) {
		uint64_t blocks = mirror_space_blocks(machine->disks[leg].bytes);

		if (state_of(machine, leg) != MIRROR_INSYNC)
			return 0;
		least = blocks < least ? blocks : least;
	}
	return least;
}

static void grow(struct machine *machine, struct sim_random *random)
{
	uint64_t before = heap_end(machine), holds;
	struct meta_growth growth = { 0, 0 };
	struct error told = { "" };
	bool sure;
	int error;

	for (int leg = 0; leg < MIRROR_LEGS; leg++)
		if (machine->memory[leg] && !machine->closing[leg] && !sim_random_chance(random, 6))
			enlarge(machine, leg, random);
	holds = room(machine);
	sure = !machine->harmed[0] && !machine->harmed[1];
	/* A blank disk must be large enough from now on, whatever comes of this. */
	if (holds > before)
		machine->disk_bytes = MIRROR_SPACE_OFFSET + holds * MIRROR_BLOCK;
	note("grow from %lu to %lu blocks …", (unsigned long)before, (unsigned long)holds);
	machine->growing = true;
	error = meta_grow(machine->meta, &growth, &told);
	machine->growing = false;
	note("grown: %s %s", strerror(-error), told.text);
	if (machine->dying || (error && !sure))
		return;
	if (error ? holds > before : growth.before != before || growth.now != holds || heap_end(machine) != holds)
		sim_fail("a volume of %lu blocks whose legs hold %lu grows from %lu to %lu: %s", (unsigned long)before,
			 (unsigned long)holds, (unsigned long)growth.before, (unsigned long)growth.now, told.text);
	tally(error ? TALLY_GROW_REFUSED : TALLY_GROWN);
	if (!error && mirror_identity(machine->mirror)->leg_count == 1)
		tally(TALLY_GROWN_ALONE);
}

bool legs_whole(const struct machine *machine)
{
	return state_of(machine, 0) == MIRROR_INSYNC && state_of(machine, 1) == MIRROR_INSYNC;
}

static void some_change(struct machine *machine, struct sim_random *random)
{
	bool one = !legs_whole(machine);

	switch (sim_random_below(random, 16)) {
	case 0:
		limit(machine, random);
		break;
	case 1:
		(void)mirror_resync_start(machine->mirror);
		break;
	case 10:
	case 11:
	case 12:
		if (machine->meta && (room(machine) || sim_random_chance(random, 8)))
			grow(machine, random);
		break;
	case 13:
	case 14:
		if (sound(machine, 0) && sound(machine, 1))
			replace(machine, (int)sim_random_below(random, 2), random);
		break;
	case 2:
		leave(machine, random);
		break;
	case 3:
	case 4:
	case 5:
		if (machine->faulty)
			fault(machine, random);
		break;
	default:
		if (!one || (!join(machine, random) && sim_random_chance(random, 2)))
			leave(machine, random);
	}
}

void legs_some(struct machine *machine, struct sim_random *random)
{
	if (machine->changing || machine->dying || machine->full)
		return;
	machine->changing = true;
	some_change(machine, random);
	machine->changing = false;
}

/* ---- the end ---- */

static bool healthy(const struct machine *machine)
{
	struct mirror_status *status = malloc(sizeof(*status));
	struct mirror_io flush = { .op = MIRROR_FLUSH };
	bool good;

	if (!status)
		sim_fail("no memory for a status");
	/* A leg that is gone is noticed when it is asked for something. */
	(void)mirror_submit_wait(machine->mirror, &flush);
	mirror_status(machine->mirror, status);
	good = status->healthy && status->identity.leg_count == MIRROR_LEGS && status->resync.leg < 0;
	free(status);
	return good;
}

void legs_heal(struct machine *machine)
{
	struct sim_random random = sim_random_of(sim_random_u64(&machine->random), 0);

	note("nothing goes wrong any more");
	machine->faulty = false;
	mirror_resync_limit(machine->mirror, 0);
	for (int leg = 0; leg < MIRROR_LEGS; leg++)
		legs_set_fault(machine, leg, "");
	for (int look = 0; !healthy(machine); look++) {
		if (look == HEAL_LOOKS)
			sim_fail("the volume is not healthy after %d s: leg 0 is %s, leg 1 is %s", HEAL_LOOKS,
				 mirror_leg_state_name(state_of(machine, 0)),
				 mirror_leg_state_name(state_of(machine, 1)));
		(void)join(machine, &random);
		/* One whose resync was interrupted waits for a word. */
		(void)mirror_resync_start(machine->mirror);
		sim_sleep(NSEC_PER_SEC);
	}
	if (!machine->bad[0] && !machine->bad[1])
		machine->suspect = -1;
}

/* ---- one leg alone ---- */

void legs_mount_alone(struct machine *machine, struct sim_random *random)
{
	int leg = machine->stale[0] ? 0 : 1;
	bool blank = machine->blank[leg], whole;

	if (!machine->disk[leg] || !machine->stale[leg] || machine->bad[leg] || (machine->strange[leg] && !blank) ||
	    !sim_random_chance(random, 3))
		return;
	whole = !blank && machine_label_says_whole(machine, leg);
	note("leg %d is mounted alone, which must be %s", leg, whole ? "done" : "refused");
	tally(whole ? TALLY_ALONE : TALLY_ALONE_REFUSED);
	machine->faulty = false;
	machine_power_on(machine, leg);
	if (!machine_mount_alone(machine, leg, whole))
		return;
	machine->strange[leg] = true;
	/* To mount is to write, but for a mirror with nothing above it. */
	machine->divided[leg] = machine->height >= MACHINE_META && machine_label(machine, !leg) & LABEL_EPOCH_ALONE;
}
