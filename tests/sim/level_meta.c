/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Transactions alone. Each actor owns one object with keys and file blocks, and numbers its transactions: the number is
 * a key of every transaction, so what is found after a crash tells which of them were kept. The oracle then
 * demands of all actors together
 *  - the state of each is that after its transaction of this number, whole, to the byte;
 *  - what was kept is a prefix of the commits in the order of their sequences;
 *  - the prefix holds everything for which meta_sync() returned 0;
 *  - no block belongs to two, and the superblock counts them right.
 * Any reader under a pin reads what the mapping said, however often the owner has replaced it since.
 */
#include "audit.h"
#include "level_meta.h"
#include "report.h"
#include "world.h"

#include "mirrorfs/base/crc32c.h"
#include "mirrorfs/base/sync.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct meta_key number_key(const struct actor *actor)
{
	return (struct meta_key){ actor->object, TYPE_SYMLINK, 0 };
}

static struct meta_key value_key(const struct actor *actor, uint32_t key)
{
	return (struct meta_key){ actor->object, TYPE_XATTR, key };
}

/* Commits the transaction of which `history` is the last; the actor's content follows. 0 or -ENOSPC. */
static int commit(struct actor *actor, struct meta_txn *txn)
{
	struct transaction *last = &actor->transactions[actor->count - 1];
	struct meta_key key = number_key(actor);
	le64 number = le64_of(last->number);
	uint64_t sequence = 0;
	int error;

	meta_txn_put(txn, &key, &number, sizeof(number));
	error = meta_txn_commit(txn, &sequence);
	if (error) {
		if (error != -ENOSPC)
			sim_fail("commit of %lu.%u: %s", (unsigned long)actor->object, last->number, strerror(-error));
		note("commit %lu.%u: %s", (unsigned long)actor->object, last->number, strerror(-error));
		history_forget_last(actor);
		return error;
	}
	last->sequence = sequence;
	history_apply(&actor->now, last);
	note("commit %lu.%u: sequence %lu", (unsigned long)actor->object, last->number, (unsigned long)sequence);
	sim_trace(sequence);
	return 0;
}

/* ---- reading ---- */

/* The context of a request belongs to mirror_submit_wait(). */
struct checked_read {
	struct mirror_io io;
	const uint32_t *crc;
};

static bool verify(const struct mirror_io *io, uint32_t unit, const void *data)
{
	return crc32c(data, MIRROR_BLOCK) == ((const struct checked_read *)io)->crc[unit];
}

/* Reads what `mapping` says into a buffer, which the caller puts. Under the pin that the mapping was made under. */
static struct iobuf *read_mapping(struct meta_level *level, const struct meta_mapping *mapping, struct mirror_pin *pin)
{
	struct machine *machine = level->machine;
	struct checked_read read = { .crc = mapping->crc };
	int error;

	read.io = (struct mirror_io){
		.op = MIRROR_READ,
		.block = mapping->address,
		.count = mapping->count,
		.buf = iobuf_get(mirror_pool(machine->mirror), (size_t)mapping->count * MIRROR_BLOCK),
		.verify = verify,
		.verify_blocks = 1,
		.pin = pin,
	};
	error = mirror_submit_wait(machine->mirror, &read.io);
	if (error)
		sim_fail("read of block %lu at %lu, %u long: %s", (unsigned long)mapping->offset,
			 (unsigned long)mapping->address, mapping->count, strerror(-error));
	if (read.io.buf_offset)
		sim_fail("a read moved inside its buffer");
	return read.io.buf;
}

static void compare_blocks(const struct actor *actor, const struct content *content, const struct meta_mapping *mapping,
			   const unsigned char *data)
{
	unsigned char expected[MIRROR_BLOCK];

	for (uint32_t i = 0; i < mapping->count; i++) {
		uint32_t block = (uint32_t)mapping->offset + i;

		if (!content->blocks[block] != !data)
			sim_fail("block %lu.%u is %s, stamp %u", (unsigned long)actor->object, block,
				 data ? "mapped" : "a hole", content->blocks[block]);
		if (!data)
			continue;
		history_block(actor, block, content->blocks[block], expected);
		if (memcmp(expected, data + (size_t)i * MIRROR_BLOCK, MIRROR_BLOCK) != 0)
			sim_fail("block %lu.%u at %lu is not of stamp %u", (unsigned long)actor->object, block,
				 (unsigned long)mapping->address + i, content->blocks[block]);
	}
}

/* Compares file blocks first .. end - 1; returns how many are mapped and marks them in `used` (NULL: does not). */
static uint64_t check_blocks(const struct actor *actor, const struct content *content, uint32_t first, uint32_t end,
			     unsigned char *used)
{
	struct machine *machine = actor->level->machine;
	struct meta_mapping mapping;
	uint64_t mapped = 0;

	while (first < end) {
		struct mirror_pin *pin = mirror_pin(machine->mirror);
		uint32_t count = end - first < EXTENT_BLOCKS_MAX ? end - first : EXTENT_BLOCKS_MAX;
		int error = meta_map(machine->meta, actor->object, first, count, &mapping);
		struct iobuf *buf = NULL;

		if (error || mapping.offset != first || !mapping.count || mapping.count > count)
			sim_fail("meta_map of %lu.%u: %s, %u at %lu", (unsigned long)actor->object, first,
				 strerror(-error), mapping.count, (unsigned long)mapping.offset);
		if (mapping.address)
			buf = read_mapping(actor->level, &mapping, pin);
		compare_blocks(actor, content, &mapping, buf ? buf->data : NULL);
		for (uint32_t i = 0; buf && i < mapping.count; i++, mapped++) {
			if (used && used[mapping.address + i]++)
				sim_fail("block %lu of the legs belongs to two", (unsigned long)mapping.address + i);
		}
		iobuf_put(buf);
		mirror_pin_put(pin);
		first += mapping.count;
	}
	return mapped;
}

static void check_value(const struct actor *actor, uint32_t key, uint32_t stamp, const unsigned char *value,
			ssize_t length)
{
	unsigned char expected[VALUE_MAX];
	size_t size;

	if (length < 0 && length != -ENOENT)
		sim_fail("key %lu.%u: %s", (unsigned long)actor->object, key, strerror((int)-length));
	if ((length == -ENOENT) != !stamp)
		sim_fail("key %lu.%u %s, stamp %u", (unsigned long)actor->object, key,
			 length < 0 ? "is missing" : "is there", stamp);
	if (!stamp)
		return;
	size = history_value(actor, key, stamp, expected);
	if ((size_t)length != size || memcmp(value, expected, size) != 0)
		sim_fail("key %lu.%u is not of stamp %u", (unsigned long)actor->object, key, stamp);
}

static void check_keys(const struct actor *actor, const struct content *content)
{
	const struct meta_key last = value_key(actor, UINT32_MAX);
	struct meta_key key = value_key(actor, 0);
	unsigned char value[VALUE_MAX];
	uint32_t at = 0;

	for (;;) {
		ssize_t length = meta_next(actor->level->machine->meta, &key, &last, value, sizeof(value));
		uint32_t found = length < 0 ? KEYS : (uint32_t)key.offset;

		if (length < 0 && length != -ENOENT)
			sim_fail("meta_next of %lu.%u: %s", (unsigned long)actor->object, at, strerror((int)-length));
		if (found > KEYS)
			sim_fail("key %lu.%u was never made", (unsigned long)actor->object, found);
		for (; at < found; at++)
			check_value(actor, at, content->keys[at], NULL, -ENOENT);
		if (length < 0)
			return;
		check_value(actor, at, content->keys[at], value, length);
		at++;
		key.offset++;
	}
}

/* ---- what actors do ---- */

static void put_keys(struct actor *actor)
{
	struct meta_txn *txn = meta_txn_begin(actor->level->machine->meta);
	struct transaction *history = history_begin(actor);
	uint64_t updates = 1 + sim_random_below(&actor->random, sim_random_chance(&actor->random, 4) ? 60 : 5);
	unsigned char value[VALUE_MAX];

	for (uint64_t i = 0; i < updates && !meta_txn_full(txn, 2, VALUE_MAX + 8); i++) {
		uint32_t key = (uint32_t)sim_random_below(&actor->random, KEYS);
		struct meta_key at = value_key(actor, key);
		uint32_t stamp = sim_random_chance(&actor->random, 3) ? 0 : history->number;

		if (stamp)
			meta_txn_put(txn, &at, value, history_value(actor, key, stamp, value));
		else
			meta_txn_delete(txn, &at);
		history_add(history, false, key, 1, stamp);
	}
	if (sim_random_chance(&actor->random, 16)) {
		meta_txn_abort(txn);
		history_forget_last(actor);
		return;
	}
	commit(actor, txn);
}

struct waited_write {
	struct meta_write write;
	struct mutex lock;
	struct cond cond;
	bool done;
};

static void write_done(struct meta_write *write)
{
	struct waited_write *waited = write->context;

	mutex_lock(&waited->lock);
	waited->done = true;
	cond_signal(&waited->cond);
	mutex_unlock(&waited->lock);
}

static int write_wait(struct machine *machine, const struct range_extent *extent, struct iobuf *buf)
{
	struct waited_write waited = { .write = { .done = write_done, .context = &waited } };
	int error;

	waited.write.io.block = extent->start;
	waited.write.io.count = (uint32_t)extent->length;
	waited.write.io.buf = buf;
	mutex_init(&waited.lock, RANK_LEAF);
	cond_init(&waited.cond);
	error = meta_write(machine->meta, &waited.write);
	mutex_lock(&waited.lock);
	while (!error && !waited.done)
		cond_wait(&waited.cond, &waited.lock);
	mutex_unlock(&waited.lock);
	cond_fini(&waited.cond);
	mutex_fini(&waited.lock);
	return error ? error : waited.write.io.error;
}

/* One piece of a file write, in the record or ahead of it. 0 or why the transaction must be aborted. */
static int map_piece(struct actor *actor, struct meta_txn *txn, uint32_t block, const struct range_extent *extent,
		     bool inside)
{
	struct machine *machine = actor->level->machine;
	struct transaction *history = &actor->transactions[actor->count - 1];
	struct iobuf *buf = iobuf_get(mirror_pool(machine->mirror), extent->length * MIRROR_BLOCK);
	uint32_t crc[EXTENT_BLOCKS_MAX];
	uint64_t freed;
	int error;

	for (uint32_t i = 0; i < extent->length; i++) {
		unsigned char *data = buf->data + (size_t)i * MIRROR_BLOCK;

		history_block(actor, block + i, history->number, data);
		crc[i] = crc32c(data, MIRROR_BLOCK);
	}
	error = inside ? 0 : write_wait(machine, extent, buf);
	if (!error)
		error = meta_map_put(txn, actor->object, block, extent, crc, inside ? buf->data : NULL, &freed);
	if (!error)
		history_add(history, true, block, (uint32_t)extent->length, history->number);
	iobuf_put(buf);
	return error;
}

static void write_blocks(struct actor *actor)
{
	struct machine *machine = actor->level->machine;
	bool busy = actor->level->machine->busy, inside = busy || sim_random_chance(&actor->random, 2);
	uint32_t most = inside ? META_TXN_DATA_BLOCKS : sim_random_chance(&actor->random, 4) ? 300 : 20;
	uint32_t count = busy ? most : 1 + (uint32_t)sim_random_below(&actor->random, most);
	uint32_t block = (uint32_t)sim_random_below(&actor->random, BLOCKS - count);
	uint64_t goal = sim_random_below(&actor->random, 2) * sim_random_below(&actor->random, 20000);
	struct meta_txn *txn;
	int error = meta_promise(machine->meta, count);

	if (error) {
		note("promise of %u: %s", count, strerror(-error));
		return;
	}
	txn = meta_txn_begin(machine->meta);
	history_begin(actor);
	while (!error && count && !meta_txn_full(txn, META_MAP_UPDATES + 1, META_MAP_BYTES(EXTENT_BLOCKS_MAX))) {
		struct meta_aim aim = { .goal = goal, .room = 4 * count, .at_least = 1 };
		struct range_extent got;

		error = meta_alloc(txn, &aim, count < EXTENT_BLOCKS_MAX ? count : EXTENT_BLOCKS_MAX, &got);
		if (error)
			break;
		error = map_piece(actor, txn, block, &got, inside);
		block += (uint32_t)got.length;
		count -= (uint32_t)got.length;
		goal = got.start + got.length;
	}
	if (count)
		meta_unpromise(machine->meta, count);
	if (error || sim_random_chance(&actor->random, 16)) {
		note("write aborted: %s", strerror(-error));
		meta_txn_abort(txn);
		history_forget_last(actor);
	} else {
		commit(actor, txn);
	}
}

static void punch_blocks(struct actor *actor)
{
	uint64_t offset = sim_random_below(&actor->random, BLOCKS);
	uint64_t end = offset + 1 + sim_random_below(&actor->random, BLOCKS - offset);

	while (offset < end) {
		struct meta_txn *txn = meta_txn_begin(actor->level->machine->meta);
		struct transaction *history = history_begin(actor);
		uint64_t first = offset, freed, held = 0;
		int error = meta_map_punch(txn, actor->object, &offset, end, &freed);

		if (error || offset <= first)
			sim_fail("punch of %lu.%lu: %s", (unsigned long)actor->object, (unsigned long)first,
				 strerror(-error));
		for (uint64_t i = first; i < offset; i++)
			held += actor->now.blocks[i] != 0;
		if (freed != held)
			sim_fail("punch freed %lu blocks, the file held %lu", (unsigned long)freed,
				 (unsigned long)held);
		history_add(history, true, (uint32_t)first, (uint32_t)(offset - first), 0);
		if (commit(actor, txn) != 0)
			return;
	}
}

static void sync_all(struct actor *actor)
{
	uint64_t sequence = meta_sequence(actor->level->machine->meta);
	uint32_t number = actor->now.number;
	int error = meta_sync(actor->level->machine->meta, sequence);

	if (error)
		sim_fail("meta_sync: %s", strerror(-error));
	note("synced %lu: sequence %lu", (unsigned long)actor->object, (unsigned long)sequence);
	actor->synced = number;
	if (sequence > actor->level->synced_sequence)
		actor->level->synced_sequence = sequence;
}

/* The last key at or before `from`. */
static void look_back(struct actor *actor, uint32_t from)
{
	const struct meta_key first = value_key(actor, 0);
	struct meta_key key = value_key(actor, from);
	unsigned char value[VALUE_MAX];
	ssize_t length = meta_previous(actor->level->machine->meta, &key, &first, value, sizeof(value));
	uint32_t expected = from;

	while (expected && !actor->now.keys[expected])
		expected--;
	if (length >= 0 && key.offset != expected)
		sim_fail("meta_previous of %lu.%u gives %lu, not %u", (unsigned long)actor->object, from,
			 (unsigned long)key.offset, expected);
	check_value(actor, expected, actor->now.keys[expected], value, length);
}

/* The first block mapped, or not, at or behind `from`. */
static void seek(struct actor *actor, uint32_t from, bool hole)
{
	uint64_t found = from, expected = from;
	int error = meta_map_seek(actor->level->machine->meta, actor->object, hole, &found);

	while (expected < BLOCKS && !actor->now.blocks[expected] != hole)
		expected++;
	if (!hole && expected == BLOCKS ? error != -ENOENT : error || found != expected)
		sim_fail("meta_map_seek of %lu.%u gives %lu, not %lu: %s", (unsigned long)actor->object, from,
			 (unsigned long)found, (unsigned long)expected, strerror(-error));
}

static void read_own(struct actor *actor)
{
	uint32_t first = (uint32_t)sim_random_below(&actor->random, BLOCKS);
	uint32_t key = (uint32_t)sim_random_below(&actor->random, KEYS);
	struct meta_key at = value_key(actor, key);
	unsigned char value[VALUE_MAX];
	ssize_t length = meta_get(actor->level->machine->meta, &at, value, sizeof(value));

	check_value(actor, key, actor->now.keys[key], value, length);
	look_back(actor, key);
	seek(actor, first, sim_random_chance(&actor->random, 2));
	check_blocks(actor, &actor->now, first, first + 1 + (uint32_t)sim_random_below(&actor->random, BLOCKS - first),
		     NULL);
}

/* Another actor's file, which that one may replace or punch meanwhile: under the pin, it reads as it was mapped. */
static void read_foreign(struct actor *actor)
{
	struct meta_level *level = actor->level;
	const struct actor *other = &level->actors[sim_random_below(&actor->random, (uint64_t)level->count)];
	struct mirror_pin *pin = mirror_pin(level->machine->mirror);
	struct meta_mapping mapping;
	int error =
		meta_map(level->machine->meta, other->object, sim_random_below(&actor->random, BLOCKS), 64, &mapping);

	if (error)
		sim_fail("meta_map: %s", strerror(-error));
	if (mapping.address) {
		sim_sleep(sim_random_below(&actor->random, 3000000));
		iobuf_put(read_mapping(level, &mapping, pin));
	}
	mirror_pin_put(pin);
}

static void act(void *arg)
{
	struct actor *actor = arg;

	while (script_next(actor->level->script, &actor->random)) {
		switch (sim_random_below(&actor->random, 13)) {
		case 0:
		case 1:
		case 2:
			put_keys(actor);
			break;
		case 3:
		case 4:
		case 5:
		case 6:
			write_blocks(actor);
			break;
		case 7:
			punch_blocks(actor);
			break;
		case 8:
		case 11:
			sync_all(actor);
			break;
		case 9:
			read_own(actor);
			break;
		case 10:
			read_foreign(actor);
			break;
		default:
			if (actor->level->machine->busy)
				write_blocks(actor);
			else
				sim_sleep(sim_random_below(&actor->random,
						   sim_random_chance(&actor->random, 10) ? 8000000000 : 1000000));
		}
	}
	actor->running = false;
}

/* What is not asked for by those who write: checkpoints, scrubs, a cache emptied under everyone. */
static void meddle(void *arg)
{
	struct meta_level *level = arg;
	struct meta_statfs statfs;
	int error = 0;

	while (script_goes_on(level->script)) {
		sim_sleep(sim_random_below(&level->random, 40000000));
		switch (sim_random_below(&level->random, 4)) {
		case 0:
			error = machine_checkpoint(level->machine);
			break;
		case 1:
			cache_drop_clean(level->machine->cache);
			break;
		case 2:
			if (sim_random_chance(&level->random, 4))
				audit_scrub(level->machine);
			else
				audit_requests(level->machine);
			break;
		default:
			meta_statfs(level->machine->meta, &statfs);
			if (statfs.available > statfs.free || statfs.free > statfs.blocks)
				sim_fail("statfs: %lu available of %lu free of %lu", (unsigned long)statfs.available,
					 (unsigned long)statfs.free, (unsigned long)statfs.blocks);
		}
		if (error)
			sim_fail("checkpoint: %s", strerror(-error));
	}
	level->meddling = false;
}

/* ---- the oracle ---- */

static uint32_t stored_number(const struct actor *actor)
{
	struct meta_key key = number_key(actor);
	le64 number;
	ssize_t length = meta_get(actor->level->machine->meta, &key, &number, sizeof(number));

	if (length == -ENOENT)
		return 0;
	if (length != sizeof(number))
		sim_fail("number of %lu: %s", (unsigned long)actor->object, strerror((int)-length));
	return (uint32_t)le64_get(number);
}

/*
 * Sets actor->now to what it was after its transaction `number`. Narrows the range in which the last kept sequence
 * lies: every kept one is at or below it, every lost one above.
 */
static void rewind_to(struct actor *actor, uint32_t number, uint64_t *kept, uint64_t *lost)
{
	bool known = number == actor->base.number;

	actor->now = actor->base;
	for (size_t i = 0; i < actor->count; i++) {
		const struct transaction *transaction = &actor->transactions[i];

		if (transaction->number > number) {
			if (transaction->sequence && transaction->sequence < *lost)
				*lost = transaction->sequence;
			continue;
		}
		history_apply(&actor->now, transaction);
		if (transaction->sequence > *kept)
			*kept = transaction->sequence;
		known |= transaction->number == number;
	}
	if (!known)
		sim_fail("%lu.%u was never committed", (unsigned long)actor->object, number);
	if (number < actor->synced)
		sim_fail("%lu.%u was synced, only %u is there", (unsigned long)actor->object, actor->synced, number);
}

static void check(void *state, bool crashed)
{
	struct meta_level *level = state;
	unsigned char *used = calloc(1, mirror_blocks(level->machine->mirror));
	uint64_t kept = 0, lost = UINT64_MAX, mapped = 0;
	struct meta_super_info info;

	for (int i = 0; i < level->count; i++) {
		struct actor *actor = &level->actors[i];
		uint32_t number = stored_number(actor), newest = actor->now.number;

		if (!crashed && number != newest)
			sim_fail("%lu.%u was committed, %u is there", (unsigned long)actor->object, newest, number);
		rewind_to(actor, number, &kept, &lost);
		check_keys(actor, &actor->now);
		mapped += check_blocks(actor, &actor->now, 0, BLOCKS, used);
		note("%lu: transaction %u of %u", (unsigned long)actor->object, number, newest);
		history_clear(actor);
		actor->base = actor->now;
		actor->synced = number;
		if (number > actor->numbers)
			actor->numbers = number;
	}
	if (kept >= lost)
		sim_fail("sequence %lu was kept, %lu was lost", (unsigned long)kept, (unsigned long)lost);
	if (level->synced_sequence >= lost)
		sim_fail("sequence %lu was synced, %lu was lost", (unsigned long)level->synced_sequence,
			 (unsigned long)lost);
	meta_super_info(level->machine->meta, &info);
	if (info.data_blocks != mapped)
		sim_fail("the superblock counts %lu blocks, files hold %lu", (unsigned long)info.data_blocks,
			 (unsigned long)mapped);
	level->synced_sequence = 0;
	free(used);
}

/* ---- the level ---- */

static void *create(struct machine *machine, uint64_t seed)
{
	struct meta_level *level = calloc(1, sizeof(*level));

	if (!level)
		sim_fail("no memory");
	level->machine = machine;
	level->random = sim_random_of(seed, 20);
	level->count = 1 + (int)sim_random_below(&level->random, ACTORS_MAX);
	for (int i = 0; i < level->count; i++) {
		level->actors[i].level = level;
		level->actors[i].object = 100 + (uint64_t)i;
	}
	return level;
}

static void start(void *state, struct script *script)
{
	struct meta_level *level = state;

	level->script = script;
	for (int i = 0; i < level->count; i++) {
		char name[16] = "actor-0";

		name[6] = (char)('0' + i);
		level->actors[i].running = true;
		thread_start(&level->actors[i].thread, name, act, &level->actors[i]);
	}
	level->meddling = true;
	thread_start(&level->meddler, "meddler", meddle, level);
}

static bool idle(void *state)
{
	struct meta_level *level = state;

	for (int i = 0; i < level->count; i++)
		if (level->actors[i].running)
			return false;
	return !level->meddling;
}

static void join(void *state)
{
	struct meta_level *level = state;

	for (int i = 0; i < level->count; i++)
		thread_join(&level->actors[i].thread);
	thread_join(&level->meddler);
}

static void finish(void *state)
{
	struct meta_level *level = state;
	struct meta_super_info info;
	int error;

	for (int i = 0; i < level->count; i++) {
		struct actor *actor = &level->actors[i];
		uint64_t offset = 0, freed;

		while (offset < BLOCKS) {
			struct meta_txn *txn = meta_txn_begin(level->machine->meta);

			error = meta_map_punch(txn, actor->object, &offset, BLOCKS, &freed);
			if (!error)
				error = meta_txn_commit(txn, NULL);
			if (error)
				sim_fail("the end's punch: %s", strerror(-error));
		}
	}
	error = meta_checkpoint(level->machine->meta);
	meta_super_info(level->machine->meta, &info);
	if (error || info.data_blocks)
		sim_fail("everything is deleted: %s, %lu blocks are counted", strerror(-error),
			 (unsigned long)info.data_blocks);
}

const struct level level_meta = {
	.name = "meta",
	.height = MACHINE_META,
	.crashes = true,
	.create = create,
	.check = check,
	.start = start,
	.idle = idle,
	.join = join,
	.finish = finish,
};
