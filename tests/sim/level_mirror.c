/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The mirror alone. Each actor owns some blocks of the space and writes stamps to them; a read must verify. After a
 * crash each leg is looked at for itself: every 512 bytes of a block are of the stamp that was durable last or of
 * a later one, on each leg that is in sync. Then the blocks are written anew, as a journal would, since nothing
 * else makes two legs equal that were cut at different points.
 *
 * A leg that lacks something is filled with all of the actors' blocks, one that is being written excepted: that is
 * written to both legs. Whoever writes says so first, and waits until no copy can be under way there (I9).
 */
#include "audit.h"
#include "legs.h"
#include "level.h"
#include "report.h"
#include "world.h"

#include "mirrorfs/base/clock.h"
#include "mirrorfs/base/sync.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ACTORS_MAX 5
#define OWNED 96u /* blocks of each actor */
#define SECTOR 512u
#define AT_ONCE 24u
#define PIECE 6u
#define REPAIR_LOOKS 3000

struct block {
	uint32_t durable, returned, newest; /* stamps, ascending */
};

struct actor {
	struct mirror_level *level;
	struct thread thread;
	struct sim_random random;
	uint64_t first;
	struct block blocks[OWNED];
	uint32_t writing, writing_count; /* these; count 0: none */
	unsigned long written; /* requests */
	bool running;
};

struct mirror_level {
	struct machine *machine;
	struct actor actors[ACTORS_MAX];
	int count;
	uint32_t stamps;
	struct script *script;
	struct mutex lock; /* what is being written, and what was copied */
	struct cond idle;
	uint64_t copied; /* so many blocks of all the actors' */
};

static void sector_fill(uint64_t block, uint32_t sector, uint32_t stamp, unsigned char data[SECTOR])
{
	uint64_t word = sim_random_mix(block << 36 ^ (uint64_t)sector << 32 ^ stamp);

	memset(data, (int)(word & 0xff), SECTOR);
	memcpy(data, &stamp, sizeof(stamp));
	memcpy(data + 8, &word, sizeof(word));
}

/* The stamp of a sector; UINT32_MAX if it is not one of ours. */
static uint32_t sector_stamp(uint64_t block, uint32_t sector, const unsigned char *data)
{
	static const unsigned char zeros[SECTOR];
	unsigned char expected[SECTOR];
	uint32_t stamp;

	memcpy(&stamp, data, sizeof(stamp));
	if (!stamp)
		return memcmp(data, zeros, SECTOR) ? UINT32_MAX : 0;
	sector_fill(block, sector, stamp, expected);
	return memcmp(data, expected, SECTOR) ? UINT32_MAX : stamp;
}

static void must(const char *what, int error)
{
	if (error)
		sim_fail("%s: %s", what, strerror(-error));
}

/*
 * What was read under a pin may still be repaired with what it was then: nobody writes there before the pins have
 * passed (I9). A leg that hangs holds one for longer than any repair takes, and is not in sync then.
 */
static void await_repairs(struct mirror *mirror)
{
	uint64_t stamp = mirror_pin_stamp(mirror);

	for (int look = 0; look < REPAIR_LOOKS && mirror_pins_passed(mirror) < stamp; look++)
		sim_sleep(10000000);
}

/* Blocks first .. first + count - 1 of the actor's get a new stamp each. */
static int write_blocks(struct actor *actor, uint32_t first, uint32_t count, unsigned int flags)
{
	struct machine *machine = actor->level->machine;
	struct mirror_io io = { .op = MIRROR_WRITE, .flags = flags, .block = actor->first + first, .count = count };
	int error;

	mutex_lock(&actor->level->lock);
	actor->writing = first;
	actor->writing_count = count;
	mutex_unlock(&actor->level->lock);
	await_repairs(machine->mirror);
	io.buf = iobuf_get(mirror_pool(machine->mirror), (size_t)count * MIRROR_BLOCK);
	for (uint32_t i = 0; i < count; i++) {
		actor->blocks[first + i].newest = ++actor->level->stamps;
		for (uint32_t s = 0; s < MIRROR_BLOCK / SECTOR; s++)
			sector_fill(io.block + i, s, actor->level->stamps,
				    io.buf->data + (size_t)i * MIRROR_BLOCK + (size_t)s * SECTOR);
	}
	note("write %lu, %u long, flags %u …", (unsigned long)io.block, count, flags);
	error = audit_submit(machine, &io);
	note("wrote %lu: %s", (unsigned long)io.block, strerror(-error));
	iobuf_put(io.buf);
	for (uint32_t i = 0; i < count && !error; i++) {
		actor->blocks[first + i].returned = actor->blocks[first + i].newest;
		if (flags & MIRROR_DSYNC)
			actor->blocks[first + i].durable = actor->blocks[first + i].newest;
	}
	mutex_lock(&actor->level->lock);
	actor->writing_count = 0;
	actor->written++;
	cond_broadcast(&actor->level->idle);
	mutex_unlock(&actor->level->lock);
	return error;
}

/* The context of a request belongs to mirror_submit_wait(). */
struct stamped_read {
	struct mirror_io io;
	const struct actor *actor;
};

static bool verify(const struct mirror_io *io, uint32_t unit, const void *data)
{
	const struct actor *actor = ((const struct stamped_read *)io)->actor;
	uint64_t block = io->block + unit;

	for (uint32_t s = 0; s < MIRROR_BLOCK / SECTOR; s++)
		if (sector_stamp(block, s, (const unsigned char *)data + (size_t)s * SECTOR) !=
		    actor->blocks[block - actor->first].returned)
			return false;
	return true;
}

static int read_blocks(struct actor *actor, uint32_t first, uint32_t count)
{
	struct machine *machine = actor->level->machine;
	struct stamped_read read = { .actor = actor };
	struct mirror_io *io = &read.io;
	int error;

	io->op = MIRROR_READ;
	io->block = actor->first + first;
	io->count = count;
	io->buf = iobuf_get(mirror_pool(machine->mirror), (size_t)count * MIRROR_BLOCK);
	io->verify = verify;
	io->verify_blocks = 1;
	io->pin = mirror_pin(machine->mirror);
	error = audit_submit(machine, io);
	for (uint32_t i = 0; i < count && !error; i++)
		if (!verify(io, i, io->buf->data + io->buf_offset + (size_t)i * MIRROR_BLOCK))
			sim_fail("block %lu was read without being right", (unsigned long)io->block + i);
	mirror_pin_put(io->pin);
	iobuf_put(io->buf);
	return error;
}

static int flush(struct actor *actor)
{
	struct mirror_level *level = actor->level;
	struct mirror_io io = { .op = MIRROR_FLUSH };
	uint32_t *stamps = calloc((size_t)level->count * OWNED, sizeof(*stamps));
	int error;

	for (uint32_t i = 0; i < (uint32_t)level->count * OWNED; i++)
		stamps[i] = level->actors[i / OWNED].blocks[i % OWNED].returned;
	note("flush …");
	error = audit_submit(level->machine, &io);
	note("flushed: %s", strerror(-error));
	for (uint32_t i = 0; i < (uint32_t)level->count * OWNED && !error; i++) {
		struct block *block = &level->actors[i / OWNED].blocks[i % OWNED];

		if (block->durable < stamps[i])
			block->durable = stamps[i];
	}
	free(stamps);
	return error;
}

static void act(void *arg)
{
	struct actor *actor = arg;

	while (script_next(actor->level->script, &actor->random)) {
		uint32_t count = 1 + (uint32_t)sim_random_below(&actor->random, AT_ONCE);
		uint32_t first = (uint32_t)sim_random_below(&actor->random, OWNED - count);

		switch (sim_random_below(&actor->random, 8)) {
		case 0:
		case 1:
			must("write", write_blocks(actor, first, count, 0));
			break;
		case 2:
			must("write", write_blocks(actor, first, count, MIRROR_DSYNC));
			break;
		case 3:
			must("flush", flush(actor));
			if (sim_random_chance(&actor->random, 8))
				audit_requests(actor->level->machine);
			break;
		case 7:
			if (actor->level->machine->lively && sim_random_chance(&actor->random, 3))
				legs_some(actor->level->machine, &actor->random);
			sim_sleep(sim_random_below(&actor->random,
						   sim_random_chance(&actor->random, 20) ? 8000000000 : 1000000));
			break;
		default:
			must("read", read_blocks(actor, first, count));
		}
	}
	actor->running = false;
}

/* ---- what a leg is filled with ---- */

static uint64_t source_proven(void *context, int leg, uint64_t after)
{
	return after;
}

/* Until whatever is being written now has been. */
static void await_writers(struct mirror_level *level)
{
	mutex_lock(&level->lock);
	for (int i = 0; i < level->count; i++) {
		const struct actor *actor = &level->actors[i];
		unsigned long written = actor->written;

		while (actor->writing_count && actor->written == written)
			cond_wait(&level->idle, &level->lock);
	}
	mutex_unlock(&level->lock);
}

static int source_begin(void *context, const struct mirror_since *since, uint64_t *total)
{
	struct mirror_level *level = context;

	/* It may have gone to the survivor alone. */
	await_writers(level);
	level->copied = 0;
	*total = (uint64_t)level->count * OWNED;
	return 0;
}

struct own {
	const struct actor *actor;
};

static bool live_right(const struct mirror_live *live, uint32_t unit, const void *data)
{
	const struct own *own = (const void *)live->own;
	uint64_t block = live->block + unit;

	for (uint32_t s = 0; s < MIRROR_BLOCK / SECTOR; s++)
		if (sector_stamp(block, s, (const unsigned char *)data + (size_t)s * SECTOR) !=
		    own->actor->blocks[block - own->actor->first].returned)
			return false;
	return true;
}

static bool is_written(const struct actor *actor, uint32_t block)
{
	return block - actor->writing < actor->writing_count;
}

static int source_next(void *context, struct mirror_live *live)
{
	struct mirror_level *level = context;
	uint64_t all = (uint64_t)level->count * OWNED;
	const struct actor *actor = NULL;
	uint32_t first = 0, count = 0;

	live->pin = mirror_pin(level->machine->mirror);
	mutex_lock(&level->lock);
	for (; level->copied < all && !count; level->copied += count ? count : 1) {
		actor = &level->actors[level->copied / OWNED];
		first = (uint32_t)(level->copied % OWNED);
		while (count < PIECE && first + count < OWNED && !is_written(actor, first + count))
			count++;
	}
	mutex_unlock(&level->lock);
	if (!count) {
		mirror_pin_put(live->pin);
		return -ENOENT;
	}
	live->block = actor->first + first;
	live->count = count;
	live->unit_blocks = 1;
	live->position = 0;
	live->right = live_right;
	((struct own *)(void *)live->own)->actor = actor;
	return 0;
}

static int source_end(void *context)
{
	/* It was not copied, but is written to both. */
	await_writers(context);
	return 0;
}

static void serve(struct mirror_level *level)
{
	const struct mirror_source source = {
		.context = level,
		.proven = source_proven,
		.begin = source_begin,
		.next = source_next,
		.end = source_end,
	};

	machine_serve(level->machine, &source);
}

/* ---- after a mount ---- */

static void check_leg(struct actor *actor, int leg, bool crashed)
{
	struct machine *machine = actor->level->machine;
	struct mirror_io io = { .op = MIRROR_READ, .block = actor->first, .count = OWNED };
	int error;

	io.flags = leg ? MIRROR_ONLY_LEG1 : MIRROR_ONLY_LEG0;
	io.buf = iobuf_get(mirror_pool(machine->mirror), OWNED * MIRROR_BLOCK);
	error = audit_submit(machine, &io);
	if (error)
		sim_fail("read of leg %d: %s", leg, strerror(-error));
	for (uint32_t i = 0; i < OWNED * (MIRROR_BLOCK / SECTOR); i++) {
		uint64_t b = i / (MIRROR_BLOCK / SECTOR);
		const struct block *block = &actor->blocks[b];
		uint32_t stamp = sector_stamp(io.block + b, i % (MIRROR_BLOCK / SECTOR),
					      io.buf->data + io.buf_offset + (size_t)i * SECTOR);

		if (crashed ? stamp < block->durable || stamp > block->newest : stamp != block->returned)
			sim_fail("block %lu on leg %d is of stamp %u: durable %u, returned %u, newest %u",
				 (unsigned long)(io.block + b), leg, stamp, block->durable, block->returned,
				 block->newest);
	}
	iobuf_put(io.buf);
}

static void check(void *state, bool crashed)
{
	struct mirror_level *level = state;

	struct machine *machine = level->machine;

	/* A crash took whoever had it. */
	mutex_init(&level->lock, RANK_LEAF);
	cond_init(&level->idle);
	for (int i = 0; i < level->count; i++) {
		struct actor *actor = &level->actors[i];

		actor->writing_count = 0;
		for (int leg = 0; leg < MIRROR_LEGS; leg++) {
			bool doubtful = machine->bad[leg] || machine->harmed[leg];

			if (!doubtful && mirror_leg_insync(machine->mirror, leg))
				check_leg(actor, leg, crashed);
		}
		for (uint32_t first = 0; crashed && first < OWNED; first += AT_ONCE)
			must("write", write_blocks(actor, first, AT_ONCE, MIRROR_DSYNC));
	}
	serve(level);
}

static void *create(struct machine *machine, uint64_t seed)
{
	struct mirror_level *level = calloc(1, sizeof(*level));

	level->machine = machine;
	level->count = 1 + (int)(seed % ACTORS_MAX);
	for (int i = 0; i < level->count; i++) {
		struct actor *actor = &level->actors[i];

		actor->level = level;
		/* Where nothing was written when the volume was made. */
		actor->first = mirror_blocks(machine->mirror) - (uint64_t)(i + 1) * OWNED;
	}
	return level;
}

static void start(void *state, struct script *script)
{
	struct mirror_level *level = state;

	level->script = script;
	for (int i = 0; i < level->count; i++) {
		char name[16] = "actor-0";

		name[6] = (char)('0' + i);
		level->actors[i].running = true;
		thread_start(&level->actors[i].thread, name, act, &level->actors[i]);
	}
}

static bool idle(void *state)
{
	struct mirror_level *level = state;

	for (int i = 0; i < level->count; i++)
		if (level->actors[i].running)
			return false;
	return true;
}

static void join(void *state)
{
	struct mirror_level *level = state;

	for (int i = 0; i < level->count; i++)
		thread_join(&level->actors[i].thread);
}

static void finish(void *state)
{
	struct mirror_level *level = state;

	for (int i = 0; i < level->count; i++)
		for (uint32_t first = 0; first < OWNED; first += AT_ONCE)
			must("read", read_blocks(&level->actors[i], first, AT_ONCE));
}

const struct level level_mirror = {
	.name = "mirror",
	.height = MACHINE_MIRROR,
	.crashes = true,
	.create = create,
	.check = check,
	.start = start,
	.idle = idle,
	.join = join,
	.finish = finish,
};
