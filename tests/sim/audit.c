/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "audit.h"

#include "report.h"
#include "tally.h"
#include "world.h"

#include "mirrorfs/base/clock.h"
#include "mirrorfs/format/journal.h"
#include "mirrorfs/format/super.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TENSE_STEPS 1500
#define OUT_STEPS 250
#define DEADLINE_NS (21 * NSEC_PER_SEC) /* and some ticks */

static void count_change(enum mirror_leg_state from, enum mirror_leg_state to, bool detached)
{
	if (to == MIRROR_RESYNC)
		tally(TALLY_RESYNC);
	else if (to == MIRROR_INSYNC)
		tally(TALLY_RESYNC_ENDED);
	else if (from == MIRROR_RESYNC)
		tally(to == MIRROR_STALE ? TALLY_RESYNC_STOPPED : TALLY_RESYNC_LOST);
	else if (from == MIRROR_INSYNC && !detached)
		tally(TALLY_FAILED);
}

/* What may be asked of the states of legs, whatever the stack is up to. */
static void state_told(struct machine *machine, int leg, enum mirror_leg_state from, enum mirror_leg_state to)
{
	static const bool legal[MIRROR_LEG_STATES][MIRROR_LEG_STATES] = {
		[MIRROR_ABSENT] = { [MIRROR_STALE] = true },
		[MIRROR_INSYNC] = { [MIRROR_OFFLINE] = true },
		[MIRROR_STALE] = { [MIRROR_RESYNC] = true, [MIRROR_OFFLINE] = true },
		[MIRROR_RESYNC] = { [MIRROR_INSYNC] = true, [MIRROR_STALE] = true, [MIRROR_OFFLINE] = true },
		[MIRROR_OFFLINE] = { [MIRROR_ABSENT] = true },
	};
	enum mirror_leg_state last = machine->told[leg];

	if (from == MIRROR_LEG_STATES || to == MIRROR_LEG_STATES || !legal[from][to] ||
	    (last != MIRROR_LEG_STATES && last != from))
		sim_fail("leg %d, which was %s, goes from %s to %s", leg,
			 last == MIRROR_LEG_STATES ? "-" : mirror_leg_state_name(last), mirror_leg_state_name(from),
			 mirror_leg_state_name(to));
	if (to != MIRROR_INSYNC && machine->told[!leg] != MIRROR_LEG_STATES && machine->told[!leg] != MIRROR_INSYNC)
		sim_fail("leg %d is %s, leg %d is %s", leg, mirror_leg_state_name(to), !leg,
			 mirror_leg_state_name(machine->told[!leg]));
	machine->told[leg] = to;
	machine->went_out |= from == MIRROR_INSYNC;
	if (from == MIRROR_INSYNC)
		machine->out_until = sim_steps() + OUT_STEPS;
	machine->filled |= to == MIRROR_INSYNC;
	machine->tense_until = sim_steps() + TENSE_STEPS;
	if (to == MIRROR_INSYNC) {
		machine->filled_until = machine->tense_until;
		machine->blank[leg] = false;
	}
	count_change(from, to, machine->closing[leg]);
}

static enum mirror_leg_state state_named(const char *text)
{
	int state = 0;

	while (state < MIRROR_LEG_STATES && strncmp(text, mirror_leg_state_name((enum mirror_leg_state)state),
						    strlen(mirror_leg_state_name((enum mirror_leg_state)state))))
		state++;
	return (enum mirror_leg_state)state;
}

void audit_event(void *context, const struct mirror_event *event)
{
	const char *from = strstr(event->text, "from=");

	struct machine *machine = context;

	if (event->kind == MIRROR_EVENT_UNRECOVERABLE && machine->rotten)
		sim_fail("what the leg that is replaced has is lost: %s", event->text);
	if (event->kind == MIRROR_EVENT_LEG_STATE)
		state_told(context, event->leg, state_named(from ? from + strlen("from=") : ""),
			   state_named(event->text + strlen("leg 0 is ")));
}

static void count_mount(const struct machine *machine, const struct mirror_status *status)
{
	if (status->request_errors)
		tally(TALLY_REQUEST_ERRORS);
	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		if (status->leg[leg].slow)
			tally(TALLY_SLOW);
		if (status->leg[leg].hedged)
			tally(TALLY_HEDGED);
		if (status->leg[leg].timeouts)
			tally(TALLY_ABANDONED);
		if (status->leg[leg].state == MIRROR_OFFLINE && status->request_errors && !machine->closing[leg] &&
		    !(machine->blamed & 1u << leg))
			tally(TALLY_OUT_UNCHARGED);
	}
}

void audit_counters(struct machine *machine)
{
	struct mirror_status *status;

	if (!machine->mirror)
		return;
	status = malloc(sizeof(*status));
	if (!status)
		sim_fail("no memory for a status");
	mirror_status(machine->mirror, status);
	count_mount(machine, status);
	if (status->empty_refused > machine->empties)
		sim_fail("%lu empty requests reached the mirror, %lu on purpose", (unsigned long)status->empty_refused,
			 machine->empties);
	if (status->failed && !machine->full)
		sim_fail("the volume turned read-only: %s", status->failed_why);
	if (status->deadline_missed)
		sim_fail("%lu requests missed their deadline", (unsigned long)status->deadline_missed);
	for (int i = 0; i < MIRROR_LEGS; i++) {
		struct leg_counters *counters = &status->leg[i].counters;

		if (machine->full && status->leg[i].state != MIRROR_INSYNC)
			sim_fail("leg %d is %s, where both are full", i, status->leg[i].why);
		if (counters->empty_refused || counters->unaligned_refused)
			sim_fail("leg %d refused %lu empty and %lu misaligned requests", i,
				 (unsigned long)counters->empty_refused, (unsigned long)counters->unaligned_refused);
		if (!(machine->blamed & 1u << i) && status->leg[i].charged)
			sim_fail("leg %d was charged with %lu errors without a fault: %s", i,
				 (unsigned long)status->leg[i].charged, status->leg[i].why);
		if (!(machine->doubted & 1u << i) && (status->leg[i].hedged || status->leg[i].slow))
			sim_fail("leg %d was called slow without a fault", i);
		if (!(machine->doubted & 1u << i) && status->leg[i].checksum_errors)
			sim_fail("leg %d gave %lu bad checksums without a fault", i,
				 (unsigned long)status->leg[i].checksum_errors);
	}
	free(status);
}

int audit_submit(struct machine *machine, struct mirror_io *io)
{
	uint64_t began_ns = clock_now_ns();
	int error = mirror_submit_wait(machine->mirror, io);

	tally(TALLY_TIMED);
	if (clock_now_ns() - began_ns > DEADLINE_NS)
		sim_fail("a request was answered after %lu ms", (unsigned long)((clock_now_ns() - began_ns) / 1000000));
	return error;
}

static void submit_empty(struct machine *machine, enum mirror_op op)
{
	struct mirror_io io = { .op = op, .block = SUPER_SLOT0 };
	int error;

	io.buf = iobuf_get(mirror_pool(machine->mirror), MIRROR_BLOCK);
	machine->empties++;
	tally(TALLY_EMPTY);
	error = audit_submit(machine, &io);
	if (error != -EINVAL)
		sim_fail("an empty request is answered with %s", strerror(-error));
	iobuf_put(io.buf);
}

void audit_requests(struct machine *machine)
{
	struct mirror_io read = { .op = MIRROR_READ, .block = SUPER_SLOT0, .count = 1 };
	struct mirror_io flush = { .op = MIRROR_FLUSH };

	submit_empty(machine, MIRROR_READ);
	submit_empty(machine, MIRROR_WRITE);
	submit_empty(machine, MIRROR_DISCARD);
	(void)audit_submit(machine, &flush);
	read.buf = iobuf_get(mirror_pool(machine->mirror), MIRROR_BLOCK);
	(void)audit_submit(machine, &read);
	iobuf_put(read.buf);
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

void audit_compare_legs(struct machine *machine)
{
	const struct format_super *newest = NULL;
	int error;

	if (!machine->meta || machine->suspect >= 0 || !mirror_leg_insync(machine->mirror, 0) ||
	    !mirror_leg_insync(machine->mirror, 1))
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

/* Nothing is wrong with either leg, as far as anybody knows. */
static bool sound(const struct machine *machine)
{
	return machine->suspect < 0 && !machine->bad[0] && !machine->bad[1];
}

static void tell_bad(struct meta_scrub *scrub, const struct meta_live *live, int leg, bool healed)
{
	(void)scrub;
	note("bad on leg %d: %s at block %lu, %u long%s", leg, live->kind == META_LIVE_NODE ? "nodes" : "data",
	     (unsigned long)live->address, live->count, healed ? ", healed" : "");
}

static void scrub_once(struct machine *machine, bool must_be_clean)
{
	struct meta_scrub scrub = { .bad = tell_bad };
	unsigned long troubles = machine->troubles;
	int error;

	machine->scrubbing = true;
	error = meta_scrub(machine->meta, &scrub);
	machine->scrubbing = false;

	must_be_clean = must_be_clean && troubles == machine->troubles;
	if (error)
		sim_fail("meta_scrub: %s", strerror(-error));
	if (scrub.unrecoverable)
		sim_fail("scrub: %lu blocks are bad on every leg", (unsigned long)scrub.unrecoverable);
	if (scrub.repaired && must_be_clean)
		sim_fail("scrub: repaired %lu blocks of %lu where nothing should be wrong",
			 (unsigned long)scrub.repaired, (unsigned long)scrub.blocks);
	if (scrub.repaired)
		tally(TALLY_SCRUB_HEALED);
	note("scrub: %lu blocks, %lu repaired", (unsigned long)scrub.blocks, (unsigned long)scrub.repaired);
}

void audit_scrub(struct machine *machine)
{
	unsigned long troubles = machine->troubles;

	if (!machine->meta || machine->full || machine->rotten)
		return;
	scrub_once(machine, sound(machine));
	if (machine->faulty || sound(machine) || machine->harmed[0] || machine->harmed[1])
		return;
	scrub_once(machine, true);
	if (troubles != machine->troubles || !mirror_leg_insync(machine->mirror, 0) ||
	    !mirror_leg_insync(machine->mirror, 1))
		return;
	machine->bad[0] = machine->bad[1] = false;
	machine->suspect = -1;
}
