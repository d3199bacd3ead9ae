/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fixture.h"

#include "mirrorfs/base/clock.h"
#include "mirrorfs/base/crc32c.h"
#include "mirrorfs/base/log.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define HOUR (3600 * NSEC_PER_SEC)
#define POOL_BYTES (16u << 20)
#define DISK_BYTES (64u << 20)
#define DISK_MOST (72u << 20) /* what they can become */
#define PATCH (16u << 10) /* what is copied if any of it was written */
#define PATCHES (DISK_MOST / PATCH)
#define FAULTS 16

struct meta *meta;
struct mirror *mirror;
struct disk *disks[MIRROR_LEGS];
size_t cache_bytes = 64u << 20;
bool discard, checking;
unsigned int legs_there = 3;

static struct cache *cache;
static struct iobuf_pool *pool;
static uint64_t heap_start; /* once there is a volume */

struct image {
	unsigned char *bytes[MIRROR_LEGS];
	bool touched[MIRROR_LEGS][PATCHES]; /* the disks have been written there since */
};
static struct image at_mount, at_crash;
static bool written_to[MIRROR_LEGS][PATCHES]; /* ever: the rest is zeros, on the disks and in each image */

struct log {
	struct entry *entries;
	size_t count, room;
};
static struct mutex lock; /* the log and the faults */
static struct cond written;
static struct log now, crashed;

static struct fault {
	int leg;
	enum leg_op op;
	uint64_t block;
	uint32_t count;
	int answer;
} faults[FAULTS];
static unsigned int fault_count;

static void quiet(enum log_level level, const char *line)
{
}

/* ---- what the disks do ---- */

static void touch(int leg, uint64_t offset, size_t length)
{
	for (uint64_t patch = offset / PATCH; patch <= (offset + length - 1) / PATCH; patch++)
		at_mount.touched[leg][patch] = at_crash.touched[leg][patch] = written_to[leg][patch] = true;
}

static void copy_patches(unsigned char *to, const unsigned char *from, const bool *which)
{
	for (size_t patch = 0; patch < PATCHES; patch++) {
		if (which[patch])
			memcpy(to + patch * PATCH, from + patch * PATCH, PATCH);
	}
}

static enum place place_of(const struct leg_io *io)
{
	uint64_t block = (io->offset - MIRROR_SPACE_OFFSET) / FORMAT_BLOCK;

	if (io->op == LEG_FLUSH)
		return PLACE_FLUSH;
	if (io->offset < MIRROR_SPACE_OFFSET)
		return PLACE_LABEL;
	if (block < SUPER_RING)
		return PLACE_SLOT;
	return block >= heap_start ? PLACE_HEAP : PLACE_RING;
}

static void log_add(int leg, const struct leg_io *io, bool lost)
{
	struct entry *entry;

	if (now.count == now.room) {
		now.room = now.room ? 2 * now.room : 64;
		now.entries = reallocarray(now.entries, now.room, sizeof(*now.entries));
	}
	entry = &now.entries[now.count++];
	*entry = (struct entry){ .place = place_of(io), .leg = leg, .dsync = io->flags & LEG_DSYNC, .lost = lost };
	if (io->op == LEG_FLUSH)
		return;
	entry->block = entry->place == PLACE_LABEL ? io->offset : (io->offset - MIRROR_SPACE_OFFSET) / FORMAT_BLOCK;
	entry->count = (uint32_t)(io->length / FORMAT_BLOCK);
	entry->data = malloc(io->length);
	memcpy(entry->data, io->data, io->length);
	touch(leg, io->offset, io->length);
}

static int rule(struct disk *disk, const struct leg_io *io, void *context)
{
	int leg = disk == disks[1], answer = 0;
	uint64_t block = (io->offset - MIRROR_SPACE_OFFSET) / FORMAT_BLOCK;

	mutex_lock(&lock);
	for (unsigned int i = 0; i < fault_count && !answer; i++) {
		const struct fault *fault = &faults[i];

		if (fault->leg != leg || fault->op != io->op)
			continue;
		if (io->op == LEG_FLUSH || (io->offset >= MIRROR_SPACE_OFFSET && block < fault->block + fault->count &&
					    fault->block < block + io->length / FORMAT_BLOCK))
			answer = fault->answer;
	}
	if (io->op == LEG_WRITE || io->op == LEG_FLUSH)
		log_add(leg, io, answer);
	mutex_unlock(&lock);
	return answer;
}

void disk_fails(int leg, enum leg_op op, uint64_t block, uint32_t count, int answer)
{
	mutex_lock(&lock);
	ck_assert_uint_lt(fault_count, FAULTS);
	faults[fault_count++] = (struct fault){ leg, op, block, count, answer };
	mutex_unlock(&lock);
}

void disks_work(void)
{
	mutex_lock(&lock);
	fault_count = 0;
	mutex_unlock(&lock);
}

unsigned char *disk_block(int leg, uint64_t block)
{
	uint64_t offset = MIRROR_SPACE_OFFSET + block * FORMAT_BLOCK;

	mutex_lock(&lock);
	touch(leg, offset, FORMAT_BLOCK);
	mutex_unlock(&lock);
	return disk_bytes(disks[leg]) + offset;
}

void disk_rot(int leg, uint64_t block, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		disk_block(leg, block + i)[100 + i] ^= 0x10;
}

/* ---- the log ---- */

size_t log_count(void)
{
	size_t count;

	mutex_lock(&lock);
	count = now.count;
	mutex_unlock(&lock);
	return count;
}

const struct entry *log_entry(size_t n)
{
	return &now.entries[n];
}

size_t log_find(size_t from, int leg, enum place place)
{
	size_t n;

	mutex_lock(&lock);
	for (n = from; n < now.count; n++) {
		if (now.entries[n].place == place && (leg < 0 || now.entries[n].leg == leg) && !now.entries[n].lost)
			break;
	}
	mutex_unlock(&lock);
	return n;
}

bool log_wrote(size_t from, size_t to, uint64_t block, uint32_t count)
{
	bool wrote = false;

	mutex_lock(&lock);
	for (size_t n = from; n < to && n < now.count; n++) {
		const struct entry *entry = &now.entries[n];

		wrote |= entry->place != PLACE_LABEL && entry->place != PLACE_FLUSH && entry->block < block + count &&
			 block < entry->block + entry->count;
	}
	mutex_unlock(&lock);
	return wrote;
}

static void log_free(struct log *log)
{
	for (size_t n = 0; n < log->count; n++)
		free(log->entries[n].data);
	free(log->entries);
	*log = (struct log){ .count = 0 };
}

/* ---- power loss ---- */

bool keep_nothing(const struct entry *entry)
{
	return false;
}

bool keep_everything(const struct entry *entry)
{
	return true;
}

void crash_take(void)
{
	volume_kill();
	log_free(&crashed);
	crashed = now;
	now = (struct log){ .count = 0 };
	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		if (!at_crash.bytes[leg])
			at_crash.bytes[leg] = zeroed_create(DISK_MOST);
		copy_patches(at_crash.bytes[leg], at_mount.bytes[leg], written_to[leg]);
		memcpy(at_crash.touched[leg], at_mount.touched[leg], sizeof(at_mount.touched[leg]));
	}
}

size_t crash_count(void)
{
	return crashed.count;
}

const struct entry *crash_entry(size_t n)
{
	return &crashed.entries[n];
}

static bool is_durable(size_t n, size_t end)
{
	const struct entry *entry = &crashed.entries[n];

	if (entry->dsync)
		return true;
	while (++n < end) {
		if (crashed.entries[n].place == PLACE_FLUSH && crashed.entries[n].leg == entry->leg &&
		    !crashed.entries[n].lost)
			return true;
	}
	return false;
}

void crash_at(size_t end, keep_rule *keep)
{
	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		copy_patches(disk_bytes(disks[leg]), at_crash.bytes[leg], at_crash.touched[leg]);
		copy_patches(disk_bytes(disks[leg]), at_crash.bytes[leg], at_mount.touched[leg]);
	}
	for (size_t n = 0; n < end; n++) {
		const struct entry *entry = &crashed.entries[n];
		uint64_t at = entry->place == PLACE_LABEL ? entry->block :
							    MIRROR_SPACE_OFFSET + entry->block * FORMAT_BLOCK;
		size_t length = entry->count * (size_t)FORMAT_BLOCK;

		if (entry->place == PLACE_FLUSH || entry->lost || (!is_durable(n, end) && !keep(entry)))
			continue;
		memcpy(disk_bytes(disks[entry->leg]) + at, entry->data, length);
		touch(entry->leg, at, length);
	}
}

void volume_crash(void)
{
	crash_take();
	crash_at(crash_count(), keep_nothing);
	volume_mount(false);
}

/* ---- a volume's life ---- */

static void open_below(bool read_only)
{
	/* Nothing happens by age: what a test sees written was written by what it called. */
	const struct cache_config config = {
		.budget_bytes = cache_bytes,
		.node_floor_percent = 25,
		.dirty_percent = 50,
		.write_after_ns = HOUR,
	};
	struct mirror_options options = {
		.policy = MIRROR_POLICY_LEG0,
		.read_only = read_only,
		.degraded = legs_there != 3,
	};
	struct leg *legs[MIRROR_LEGS];
	struct error why = { "" };
	int error;

	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		copy_patches(at_mount.bytes[leg], disk_bytes(disks[leg]), at_mount.touched[leg]);
		memset(at_mount.touched[leg], 0, sizeof(at_mount.touched[leg]));
		legs[leg] = legs_there & 1u << leg ? disk_open(disks[leg]) : NULL;
	}
	log_free(&now);
	pool = iobuf_pool_create(POOL_BYTES, POOL_BYTES);
	options.pool = pool;
	error = mirror_open(legs, &options, &mirror, &why);
	ck_assert_msg(!error, "%s", why.text);
	cache = cache_create(&config);
	ck_assert_ptr_nonnull(cache);
}

static void close_below(void)
{
	cache_destroy(cache);
	ck_assert(mirror_close(mirror));
	iobuf_pool_destroy(pool);
	meta = NULL;
}

int volume_try_mount(bool read_only, struct error *why)
{
	const struct meta_options options = { .read_only = read_only, .commit_ns = HOUR, .discard = discard,
					     .checking = checking };
	int error;

	open_below(read_only);
	*why = (struct error){ "" };
	error = meta_open(mirror, cache, &options, &meta, why);
	if (error)
		close_below();
	return error;
}

void volume_rebuild(struct meta_rebuild *rebuild)
{
	struct error why = { "" };
	int error;

	open_below(false);
	error = meta_rebuild(mirror, cache, rebuild, &why);
	ck_assert_msg(!error, "%s", why.text);
	close_below();
}

void volume_mount(bool read_only)
{
	struct error why;
	int error = volume_try_mount(read_only, &why);

	ck_assert_msg(!error, "%s", why.text);
}

int volume_close(void)
{
	int error = meta_close(meta);

	close_below();
	return error;
}

void volume_unmount(void)
{
	ck_assert_int_eq(volume_close(), 0);
}

void volume_remount(void)
{
	volume_unmount();
	volume_mount(false);
}

void volume_kill(void)
{
	atomic_store(&meta->failed, -EIO);
	(void)volume_close();
}

void volume_setup(void)
{
	struct mirror_identity identity;
	struct mirror_options options = { .policy = MIRROR_POLICY_LEG0 };
	const struct format_inode root = { .nlink = le32_of(2) };
	struct leg *legs[MIRROR_LEGS];
	struct error why = { "" };
	uint64_t blocks;

	log_set_sink(getenv("VERBOSE") ? NULL : quiet);
	mutex_init(&lock, RANK_LEAF);
	cond_init(&written);
	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		disks[leg] = disk_create(leg ? "disk1" : "disk0", DISK_MOST);
		at_mount.bytes[leg] = zeroed_create(DISK_MOST);
		disk_resize(disks[leg], DISK_BYTES);
		legs[leg] = disk_open(disks[leg]);
		disk_rule_set(disks[leg], rule, NULL);
	}
	ck_assert_int_eq(mirror_format(legs, "test", &identity, &blocks, &why), 0);
	pool = iobuf_pool_create(POOL_BYTES, POOL_BYTES);
	options.pool = pool;
	ck_assert_int_eq(mirror_open(legs, &options, &mirror, &why), 0);
	ck_assert_int_eq(meta_format(mirror, &root, &why), 0);
	heap_start = le64_get(disk_super(0, true)->heap_start);
	ck_assert(mirror_close(mirror));
	iobuf_pool_destroy(pool);
	volume_mount(false);
}

void volume_teardown(void)
{
	if (meta)
		volume_unmount();
	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		disk_destroy(disks[leg]);
		zeroed_destroy(at_mount.bytes[leg], DISK_MOST);
		zeroed_destroy(at_crash.bytes[leg], DISK_MOST);
		at_crash.bytes[leg] = NULL;
	}
	log_free(&now);
	log_free(&crashed);
	cond_fini(&written);
	mutex_fini(&lock);
}

/* ---- what tests do all the time ---- */

struct meta_key item_key(uint64_t object, uint64_t number)
{
	return (struct meta_key){ object, TYPE_XATTR, number };
}

static int commit_item(uint64_t object, uint64_t number, int byte, size_t length, uint64_t *sequence)
{
	struct meta_txn *txn = meta_txn_begin(meta);
	struct meta_key key = item_key(object, number);
	unsigned char value[NODE_VALUE_MAX];

	memset(value, byte, sizeof(value));
	meta_txn_put(txn, &key, length ? value : NULL, length);
	return meta_txn_commit(txn, sequence);
}

uint64_t put_item(uint64_t object, uint64_t number, int byte, size_t length)
{
	uint64_t sequence;

	ck_assert_int_eq(commit_item(object, number, byte, length, &sequence), 0);
	return sequence;
}

int try_put_item(uint64_t object, uint64_t number, int byte, size_t length)
{
	return commit_item(object, number, byte, length, NULL);
}

void delete_item(uint64_t object, uint64_t number)
{
	struct meta_txn *txn = meta_txn_begin(meta);
	struct meta_key key = item_key(object, number);

	meta_txn_delete(txn, &key);
	ck_assert_int_eq(meta_txn_commit(txn, NULL), 0);
}

void expect_item(uint64_t object, uint64_t number, int byte, ssize_t length)
{
	struct meta_key key = item_key(object, number);
	unsigned char value[NODE_VALUE_MAX], wanted[NODE_VALUE_MAX];

	ck_assert_int_eq(meta_get(meta, &key, value, sizeof(value)), length);
	memset(wanted, byte, sizeof(wanted));
	if (length > 0)
		ck_assert_mem_eq(value, wanted, length);
}

void sync_all(void)
{
	ck_assert_int_eq(meta_sync(meta, meta_sequence(meta)), 0);
}

void fill_block(unsigned char *block, uint64_t offset, unsigned int seed)
{
	for (size_t i = 0; i < FORMAT_BLOCK; i++)
		block[i] = (unsigned char)((i ^ i >> 7) * 31 + offset * 13 + seed);
}

static void put_done(struct meta_write *write)
{
	struct put *put = (struct put *)write;

	mutex_lock(&lock);
	put->done = true;
	cond_broadcast(&written);
	mutex_unlock(&lock);
}

void put_take(struct put *put, struct meta_txn *txn, uint64_t object, uint64_t offset, uint32_t blocks,
	      unsigned int seed, bool in_record, uint64_t goal)
{
	struct meta_aim aim = { .goal = goal, .at_least = 1 };

	memset(put, 0, sizeof(*put));
	put->object = object;
	put->offset = offset;
	put->seed = seed;
	put->txn = txn;
	ck_assert_int_eq(meta_alloc(put->txn, &aim, blocks, &put->extent), 0);
	ck_assert_uint_eq(put->extent.length, blocks);
	put->write.io.block = put->extent.start;
	put->write.io.count = blocks;
	put->write.io.buf = iobuf_get(pool, blocks * (size_t)FORMAT_BLOCK);
	for (uint32_t i = 0; i < blocks; i++) {
		unsigned char *block = put->write.io.buf->data + i * (size_t)FORMAT_BLOCK;

		fill_block(block, offset + i, seed);
		put->crc[i] = crc32c(block, FORMAT_BLOCK);
	}
	put->write.done = put_done;
	put->in_record = put->done = in_record;
	if (!in_record)
		ck_assert_int_eq(meta_write(meta, &put->write), 0);
}

void put_join(struct put *put, struct meta_txn *txn, uint64_t object, uint64_t offset, uint32_t blocks,
	      unsigned int seed, bool in_record, uint64_t goal)
{
	ck_assert_int_eq(meta_promise(meta, blocks), 0);
	put_take(put, txn, object, offset, blocks, seed, in_record, goal);
}

void put_begin(struct put *put, uint64_t object, uint64_t offset, uint32_t blocks, unsigned int seed, bool in_record,
	       uint64_t goal)
{
	put_join(put, meta_txn_begin(meta), object, offset, blocks, seed, in_record, goal);
}

void put_answered(struct put *put)
{
	mutex_lock(&lock);
	while (!put->done)
		cond_wait(&written, &lock);
	mutex_unlock(&lock);
}

int put_wait(struct put *put)
{
	uint64_t stamp;

	put_answered(put);
	/* The leg's thread lets go of the write's pin a little later. */
	stamp = mirror_pin_stamp(mirror);
	while (mirror_pins_passed(mirror) < stamp)
		usleep(10);
	iobuf_put(put->write.io.buf);
	return put->write.io.error;
}

uint64_t put_map(struct put *put)
{
	uint32_t blocks = (uint32_t)put->extent.length;
	unsigned char *data = NULL;
	uint64_t freed;

	if (put->in_record) {
		data = malloc(blocks * (size_t)FORMAT_BLOCK);
		for (uint32_t i = 0; i < blocks; i++)
			fill_block(data + i * (size_t)FORMAT_BLOCK, put->offset + i, put->seed);
	}
	ck_assert_int_eq(meta_map_put(put->txn, put->object, put->offset, &put->extent, put->crc, data, &freed), 0);
	free(data);
	return freed;
}

uint64_t put_commit(struct put *put)
{
	uint64_t sequence;

	put_map(put);
	ck_assert_int_eq(meta_txn_commit(put->txn, &sequence), 0);
	return sequence;
}

uint64_t put_file(uint64_t object, uint64_t offset, uint32_t blocks, unsigned int seed, bool in_record, uint64_t goal,
		  struct range_extent *where)
{
	struct put put;

	put_begin(&put, object, offset, blocks, seed, in_record, goal);
	ck_assert_int_eq(put_wait(&put), 0);
	if (where)
		*where = put.extent;
	return put_commit(&put);
}

void punch(uint64_t object, uint64_t from, uint64_t to)
{
	while (from < to) {
		struct meta_txn *txn = meta_txn_begin(meta);
		uint64_t freed;

		ck_assert_int_eq(meta_map_punch(txn, object, &from, to, &freed), 0);
		ck_assert_int_eq(meta_txn_commit(txn, NULL), 0);
	}
}

unsigned int share(uint64_t from, uint64_t from_offset, uint64_t to, uint64_t to_offset, uint64_t count)
{
	struct meta_sharing sharing = { from, from_offset, to, to_offset, count, 0, 0 };
	unsigned int links = 0;

	while (sharing.count) {
		struct meta_txn *txn = meta_txn_begin(meta);
		uint64_t before = sharing.count;

		ck_assert_int_eq(meta_map_share(txn, &sharing), 0);
		ck_assert_uint_lt(sharing.count, before);
		ck_assert_int_eq(meta_txn_commit(txn, NULL), 0);
		links++;
	}
	ck_assert_uint_eq(sharing.from_offset, from_offset + count);
	ck_assert_uint_eq(sharing.to_offset, to_offset + count);
	return links;
}

void expect_file(uint64_t object, uint64_t offset, uint32_t blocks, unsigned int seed)
{
	static struct meta_mapping mapping;
	unsigned char wanted[FORMAT_BLOCK];

	for (uint64_t end = offset + blocks; offset < end; offset += mapping.count) {
		ck_assert_int_eq(meta_map(meta, object, offset, (uint32_t)(end - offset), &mapping), 0);
		ck_assert_uint_ne(mapping.address, 0);
		for (uint32_t i = 0; i < mapping.count; i++) {
			const unsigned char *late = mapping.data;

			fill_block(wanted, offset + i, seed);
			ck_assert_uint_eq(mapping.crc[i], crc32c(wanted, FORMAT_BLOCK));
			if (late) {
				ck_assert_mem_eq(late + i * (size_t)FORMAT_BLOCK, wanted, FORMAT_BLOCK);
				continue;
			}
			for (int leg = 0; leg < MIRROR_LEGS; leg++) {
				if (legs_there & 1u << leg)
					ck_assert_mem_eq(disk_block(leg, mapping.address + i), wanted, FORMAT_BLOCK);
			}
		}
	}
}

void expect_hole(uint64_t object, uint64_t offset, uint32_t blocks)
{
	static struct meta_mapping mapping;

	ck_assert_int_eq(meta_map(meta, object, offset, blocks, &mapping), 0);
	ck_assert_uint_eq(mapping.address, 0);
	ck_assert_uint_eq(mapping.count, blocks);
}

struct search {
	uint64_t block, end;
	bool free;
};

static bool covers(void *context, uint64_t start, uint64_t length)
{
	struct search *search = context;

	search->free |= start <= search->block && search->end <= start + length;
	return !search->free;
}

bool is_free(uint64_t block, uint32_t count)
{
	struct search search = { block, block + count, false };

	range_each_free(block < meta->boundary ? meta->node_range : meta->data_range, covers, &search);
	return search.free;
}

const struct format_super *disk_super(int leg, bool newest)
{
	const struct format_super *a = (void *)disk_block(leg, SUPER_SLOT0), *b = (void *)disk_block(leg, SUPER_SLOT1);

	return (le64_get(a->generation) > le64_get(b->generation)) == newest ? a : b;
}

static size_t nodes_below(const struct format_pointer *pointer, uint64_t *address, size_t count, size_t room)
{
	const unsigned char *node = disk_block(0, le64_get(pointer->address));

	ck_assert_uint_lt(count, room);
	ck_assert_uint_eq(le64_get(((const struct format_node *)node)->address), le64_get(pointer->address));
	ck_assert_uint_eq(node_generation(node), le64_get(pointer->generation));
	address[count++] = le64_get(pointer->address);
	for (unsigned int i = 0; node_level(node) && i < node_count(node); i++) {
		struct format_pointer child;

		memcpy(&child, node_value(node, i, NULL), sizeof(child));
		count = nodes_below(&child, address, count, room);
	}
	return count;
}

size_t disk_nodes(const struct format_super *super, uint64_t *address, size_t room)
{
	return nodes_below(&super->root, address, 0, room);
}

void super_reseal(struct format_super *super)
{
	super->crc = le32_of(crc32c_block(super, sizeof(*super), offsetof(struct format_super, crc)));
}

void record_reseal(struct format_record *record, uint32_t blocks)
{
	record->crc = le32_of(crc32c_block(record, blocks * (size_t)FORMAT_BLOCK, offsetof(struct format_record, crc)));
}

unsigned int seed_srand(const char *test)
{
	const char *given = getenv("MIRRORFS_SEED");
	unsigned int seed = given ? (unsigned int)strtoul(given, NULL, 10) : (unsigned int)time(NULL);

	printf("%s: MIRRORFS_SEED=%u\n", test, seed);
	srand(seed);
	return seed;
}
