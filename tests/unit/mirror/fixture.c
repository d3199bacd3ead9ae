/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fixture.h"

#include "mirrorfs/base/crc32c.h"

struct disk *disks[2];
struct mirror *mirror;
struct iobuf_pool *pool;
struct mirror_options options;
struct error why;

static struct mutex event_lock;
static unsigned int event_counts[MIRROR_EVENT_KINDS];

static void on_event(void *context, const struct mirror_event *event)
{
	mutex_lock(&event_lock);
	event_counts[event->kind]++;
	mutex_unlock(&event_lock);
}

unsigned int events_of(enum mirror_event_kind kind)
{
	unsigned int count;

	mutex_lock(&event_lock);
	count = event_counts[kind];
	mutex_unlock(&event_lock);
	return count;
}

static void quiet(enum log_level level, const char *line)
{
}

void setup_disks(void)
{
	struct leg *legs[2];
	struct mirror_identity identity;
	uint64_t blocks;

	log_set_sink(getenv("VERBOSE") ? NULL : quiet);
	mutex_init(&event_lock, RANK_LEAF);
	memset(event_counts, 0, sizeof(event_counts));
	disks[0] = disk_create("disk0", DISK_SIZE);
	disks[1] = disk_create("disk1", DISK_SIZE);
	legs[0] = disk_open(disks[0]);
	legs[1] = disk_open(disks[1]);
	ck_assert_int_eq(mirror_format(legs, "test", &identity, &blocks, &why), 0);
	leg_close(legs[0]);
	leg_close(legs[1]);
	pool = iobuf_pool_create(8 << 20, 2 << 20);
	options = (struct mirror_options){
		.policy = MIRROR_POLICY_LEG0,
		.leg_timeout_ns = 50 * NSEC_PER_MSEC,
		.deadline_ns = 2 * NSEC_PER_SEC,
		.pool = pool,
		.event = on_event,
	};
}

int open_legs(struct disk *first, struct disk *second)
{
	struct leg *legs[2] = {first ? disk_open(first) : NULL, second ? disk_open(second) : NULL};
	int result;

	why.text[0] = '\0';
	result = mirror_open(legs, &options, &mirror, &why);
	for (int i = 0; result && i < 2; i++) {
		if (legs[i])
			leg_close(legs[i]);
	}
	return result;
}

int open_both(void)
{
	return open_legs(disks[0], disks[1]);
}

void setup(void)
{
	setup_disks();
	fill(0, 1024);
	ck_assert_int_eq(open_both(), 0);
}

void close_mirror(void)
{
	if (!mirror)
		return;
	for (int i = 0; i < 2; i++) {
		disk_rule_set(disks[i], NULL, NULL);
		disk_refuse(disks[i], 0);
		disk_release(disks[i], -EIO);
	}
	ck_assert(mirror_close(mirror));
	mirror = NULL;
	ck_assert_uint_eq(disks_open(), 0);
}

void teardown(void)
{
	close_mirror();
	disk_destroy(disks[0]);
	disk_destroy(disks[1]);
	iobuf_pool_destroy(pool);
	mutex_fini(&event_lock);
	log_set_sink(NULL);
}

/* ---- a clock that jumps ---- */

static uint64_t jump_ns;

static uint64_t jumping_now(void)
{
	return world_real.now_ns() + __atomic_load_n(&jump_ns, __ATOMIC_SEQ_CST);
}

void clock_jump(uint64_t ns)
{
	__atomic_store_n(&jump_ns, ns, __ATOMIC_SEQ_CST);
}

static bool jumping_wait(struct cond *cond, struct mutex *mutex, uint64_t deadline_ns)
{
	uint64_t jump = __atomic_load_n(&jump_ns, __ATOMIC_SEQ_CST);

	if (deadline_ns != CLOCK_NEVER)
		deadline_ns = deadline_ns > jump ? deadline_ns - jump : 0;
	return world_real.cond_wait(cond, mutex, deadline_ns);
}

uint64_t running_now(void)
{
	uint64_t running;

	mutex_lock(&mirror->lock);
	running = mirror->running_ns;
	mutex_unlock(&mirror->lock);
	return running;
}

void setup_jumping(void)
{
	static struct world_ops jumping;

	jumping = world_real;
	jumping.now_ns = jumping_now;
	jumping.cond_wait = jumping_wait;
	world = &jumping;
	setup();
}

void teardown_jumping(void)
{
	teardown();
	world = &world_real;
}

/* ---- what comes in between ---- */

static _Thread_local void (*in_between)(void);

static void hooked_unlock(struct mutex *mutex)
{
	void (*hook)(void) = mirror && mutex == &mirror->lock ? in_between : NULL;

	world_real.mutex_unlock(mutex);
	if (hook) {
		in_between = NULL;
		hook();
	}
}

void at_unlock(void (*hook)(void))
{
	in_between = hook;
}

void setup_hooked(void)
{
	static struct world_ops hooked;

	hooked = world_real;
	hooked.mutex_unlock = hooked_unlock;
	world = &hooked;
	setup();
}

void teardown_hooked(void)
{
	teardown();
	world = &world_real;
}

/* ---- content ---- */

static void expected(uint64_t block, uint64_t words[512])
{
	for (int i = 0; i < 512; i++)
		words[i] = (block + 1) * UINT64_C(0x9e3779b97f4a7c15) + (uint64_t)i;
}

static unsigned char *place(int leg, uint64_t block)
{
	return disk_bytes(disks[leg]) + MIRROR_SPACE_OFFSET + block * MIRROR_BLOCK;
}

void fill(uint64_t block, uint32_t count)
{
	uint64_t words[512];

	for (uint64_t i = block; i < block + count; i++) {
		expected(i, words);
		memcpy(place(0, i), words, sizeof(words));
		memcpy(place(1, i), words, sizeof(words));
	}
}

void rot(int leg, uint64_t block)
{
	place(leg, block)[1000] ^= 0x40;
}

bool block_right(int leg, uint64_t block)
{
	uint64_t words[512];

	expected(block, words);
	return !memcmp(place(leg, block), words, sizeof(words));
}

bool verify_blocks(const struct mirror_io *io, uint32_t unit, const void *data)
{
	uint64_t words[512];

	for (uint32_t i = 0; i < io->verify_blocks; i++) {
		expected(io->block + unit * io->verify_blocks + i, words);
		if (memcmp((const char *)data + (size_t)i * MIRROR_BLOCK, words, sizeof(words)))
			return false;
	}
	return true;
}

/* ---- requests ---- */

static void shot_answered(struct mirror_io *io)
{
	struct shot *shot = io->context;

	if (shot->at_done)
		shot->at_done(shot);
	mutex_lock(&shot->lock);
	ck_assert(!shot->done);
	shot->done = true;
	cond_broadcast(&shot->cond);
	mutex_unlock(&shot->lock);
}

void shot_init(struct shot *shot, enum mirror_op op, uint64_t block, uint32_t count)
{
	memset(shot, 0, sizeof(*shot));
	mutex_init(&shot->lock, RANK_LEAF);
	cond_init(&shot->cond);
	shot->io = (struct mirror_io){.op = op, .block = block, .count = count, .done = shot_answered, .context = shot};
	if (op == MIRROR_READ || op == MIRROR_WRITE) {
		shot->io.buf = iobuf_get(pool, (size_t)(count ? count : 1) * MIRROR_BLOCK);
		shot->given = shot->io.buf;
		memset(shot->io.buf->data, 0, shot->io.buf->size);
	}
	for (uint64_t i = 0; op == MIRROR_WRITE && i < count; i++) {
		uint64_t words[512];

		expected(block + i, words);
		memcpy(shot->io.buf->data + i * MIRROR_BLOCK, words, sizeof(words));
	}
}

int shot_fire(struct shot *shot)
{
	return mirror_submit(mirror, &shot->io);
}

bool shot_done(struct shot *shot)
{
	bool done;

	mutex_lock(&shot->lock);
	done = shot->done;
	mutex_unlock(&shot->lock);
	return done;
}

int shot_wait(struct shot *shot)
{
	mutex_lock(&shot->lock);
	while (!shot->done)
		cond_wait(&shot->cond, &shot->lock);
	mutex_unlock(&shot->lock);
	iobuf_put(shot->io.buf);
	cond_fini(&shot->cond);
	mutex_fini(&shot->lock);
	return shot->io.error;
}

int read_blocks(uint64_t block, uint32_t count)
{
	struct mirror_pin *pin = mirror_pin(mirror);
	struct shot shot;
	int error;

	shot_init(&shot, MIRROR_READ, block, count);
	shot.io.verify = verify_blocks;
	shot.io.verify_blocks = 1;
	shot.io.pin = pin;
	ck_assert_int_eq(shot_fire(&shot), 0);
	mutex_lock(&shot.lock);
	while (!shot.done)
		cond_wait(&shot.cond, &shot.lock);
	mutex_unlock(&shot.lock);
	mirror_pin_put(pin);
	for (uint32_t unit = 0; !shot.io.error && unit < count; unit++)
		ck_assert(verify_blocks(&shot.io, unit,
					shot.io.buf->data + shot.io.buf_offset + (size_t)unit * MIRROR_BLOCK));
	error = shot_wait(&shot);
	return error;
}

int write_blocks(uint64_t block, uint32_t count, unsigned int flags)
{
	struct shot shot;

	shot_init(&shot, MIRROR_WRITE, block, count);
	shot.io.flags = flags;
	ck_assert_int_eq(shot_fire(&shot), 0);
	return shot_wait(&shot);
}

int flush(void)
{
	struct mirror_io io = {.op = MIRROR_FLUSH};

	return mirror_submit_wait(mirror, &io);
}

void wait_repairs(void)
{
	mutex_lock(&mirror->lock);
	while (mirror->working)
		cond_wait(&mirror->idle, &mirror->lock);
	mutex_unlock(&mirror->lock);
}

/* ---- rules ---- */

static bool is_label(const struct leg_io *io)
{
	return io->op != LEG_FLUSH && io->offset < MIRROR_SPACE_OFFSET;
}

int rule_hang(struct disk *disk, const struct leg_io *io, void *context)
{
	return FAKE_HANG;
}

int rule_fail(struct disk *disk, const struct leg_io *io, void *context)
{
	return *(int *)context;
}

int rule_fail_reads(struct disk *disk, const struct leg_io *io, void *context)
{
	return io->op == LEG_READ ? *(int *)context : 0;
}

int rule_fail_writes(struct disk *disk, const struct leg_io *io, void *context)
{
	return io->op == LEG_WRITE && !is_label(io) ? *(int *)context : 0;
}

int rule_fail_flushes(struct disk *disk, const struct leg_io *io, void *context)
{
	return io->op == LEG_FLUSH ? *(int *)context : 0;
}

int rule_fail_labels(struct disk *disk, const struct leg_io *io, void *context)
{
	return io->op == LEG_WRITE && is_label(io) ? *(int *)context : 0;
}

int rule_hang_labels(struct disk *disk, const struct leg_io *io, void *context)
{
	return io->op == LEG_WRITE && is_label(io) ? FAKE_HANG : 0;
}

/* ---- questions ---- */

struct mirror_status status(void)
{
	struct mirror_status status;

	mirror_status(mirror, &status);
	return status;
}

enum mirror_leg_state state_of(int leg)
{
	return status().leg[leg].state;
}

struct format_label label_of(struct disk *disk)
{
	static const uint64_t slots[2] = {LABEL_SLOT0, LABEL_SLOT1};
	struct format_label best = {.sequence = le64_of(0)};

	for (int i = 0; i < 2; i++) {
		struct format_label label;

		memcpy(&label, disk_bytes(disk) + slots[i], sizeof(label));
		if (le32_get(label.crc) == crc32c_block(&label, sizeof(label), offsetof(struct format_label, crc)) &&
		    le64_get(label.sequence) > le64_get(best.sequence))
			best = label;
	}
	return best;
}

void change_label(struct disk *disk, void (*change)(struct format_label *label))
{
	struct format_label label = label_of(disk);

	change(&label);
	label.crc = le32_of(crc32c_block(&label, sizeof(label), offsetof(struct format_label, crc)));
	memcpy(disk_bytes(disk) + le64_get(label.address), &label, sizeof(label));
}
