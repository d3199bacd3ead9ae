/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fixture.h"

#include "mirrorfs/base/clock.h"
#include "mirrorfs/base/log.h"

#include <sched.h>
#include <sys/mman.h>

#define HOUR (3600 * NSEC_PER_SEC)
#define POOL_BYTES (16u << 20)

struct fs *fs;
struct meta *meta;
struct cache *cache;
struct fs *fs_left_behind[4];
enum mirror_read_policy volume_policy = MIRROR_POLICY_LEG0;
size_t volume_inodes;
const struct fs_caller caller = { .uid = 1000, .gid = 100 };

static struct mirror *mirror;
static struct iobuf_pool *pool;
static struct leg *legs[MIRROR_LEGS];
static unsigned char *disks[MIRROR_LEGS];
static uint64_t disk_bytes;

static void quiet(enum log_level level, const char *line)
{
}

static void open_legs(void)
{
	for (int i = 0; i < MIRROR_LEGS; i++) {
		struct leg_memory_options options = {
			.size_bytes = disk_bytes,
			.block_size = 512,
			.name = i ? "disk1" : "disk0",
			.bytes = disks[i],
		};

		ck_assert_int_eq(leg_memory_open(&options, &legs[i]), 0);
	}
}

static void open_below(void)
{
	/* Nothing happens by age: what a test sees written was written by what it called. */
	const struct cache_config config = {
		.budget_bytes = 16u << 20,
		.node_floor_percent = 25,
		.dirty_percent = 50,
		.write_after_ns = HOUR,
	};
	struct mirror_options options = { .policy = volume_policy };
	struct error why = { "" };
	int error;

	open_legs();
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
}

static void mount_with(const struct meta_options *options)
{
	const struct fs_options fs_options = { .read_only = options->read_only, .inodes = volume_inodes };
	struct error why = { "" };
	int error;

	open_below();
	error = meta_open(mirror, cache, options, &meta, &why);
	ck_assert_msg(!error, "%s", why.text);
	error = fs_open(meta, cache, &fs_options, &fs, &why);
	ck_assert_msg(!error, "%s", why.text);
}

void volume_mount(bool read_only)
{
	mount_with(&(struct meta_options){ .read_only = read_only, .commit_ns = HOUR });
}

void volume_mount_to_check(void)
{
	mount_with(&(struct meta_options){ .checking = true, .commit_ns = HOUR });
}

void volume_unmount(void)
{
	ck_assert_int_eq(fs_close(fs), 0);
	ck_assert_int_eq(meta_close(meta), 0);
	close_below();
	fs = NULL;
}

void volume_remount(void)
{
	volume_unmount();
	volume_mount(false);
}

static uint32_t drop(void *context, uint32_t n)
{
	return n > 1; /* of keep, drop, tear */
}

void volume_crash(void)
{
	static unsigned int count;

	/* What is mounted stays behind, asleep: its process is gone as far as the disks are concerned. */
	ck_assert_uint_lt(count, 4);
	fs_left_behind[count++] = fs;
	for (int i = 0; i < MIRROR_LEGS; i++)
		leg_memory_crash(legs[i], disks[i], drop, NULL);
	volume_mount(false);
}

unsigned char *volume_disk(int leg)
{
	return disks[leg];
}

uint64_t volume_disk_bytes(void)
{
	return disk_bytes;
}

void mirror_repairs_wait(void)
{
	uint64_t stamp = mirror_pin_stamp(mirror);

	while (mirror_pins_passed(mirror) < stamp)
		sched_yield();
}

uint64_t mirror_repaired(int leg)
{
	struct mirror_status status;

	mirror_status(mirror, &status);
	return status.leg[leg].repaired;
}

static struct leg_counters counters_of(int leg)
{
	struct leg_counters counters;

	leg_counters(legs[leg], &counters);
	return counters;
}

uint64_t volume_writes(int leg)
{
	return counters_of(leg).ops[LEG_WRITE];
}

uint64_t volume_reads(int leg)
{
	return counters_of(leg).ops[LEG_READ];
}

uint64_t volume_read_bytes(int leg)
{
	return counters_of(leg).bytes[LEG_READ];
}

static void format(uint64_t bytes)
{
	struct mirror_identity identity;
	struct mirror_options options = { .policy = MIRROR_POLICY_LEG0 };
	struct format_inode root;
	struct error why = { "" };
	uint64_t blocks;

	log_set_sink(getenv("VERBOSE") ? NULL : quiet);
	disk_bytes = bytes;
	for (int i = 0; i < MIRROR_LEGS; i++) {
		disks[i] = mmap(NULL, disk_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		ck_assert_ptr_ne(disks[i], MAP_FAILED);
	}
	open_legs();
	ck_assert_int_eq(mirror_format(legs, "test", &identity, &blocks, &why), 0);
	pool = iobuf_pool_create(POOL_BYTES, POOL_BYTES);
	options.pool = pool;
	ck_assert_int_eq(mirror_open(legs, &options, &mirror, &why), 0);
	fs_format_root(&root, 0, 0);
	ck_assert_int_eq(meta_format(mirror, &root, &why), 0);
	ck_assert(mirror_close(mirror));
	iobuf_pool_destroy(pool);
}

void volume_setup(void)
{
	format(64u << 20);
	volume_mount(false);
}

void volume_setup_small(void)
{
	uint64_t bytes = MIRROR_SPACE_OFFSET;

	while (mirror_space_blocks(bytes) < meta_minimum_blocks())
		bytes += 1u << 20;
	format(bytes);
	volume_mount(false);
}

void volume_teardown(void)
{
	if (fs)
		volume_unmount();
	for (int i = 0; i < MIRROR_LEGS; i++)
		munmap(disks[i], disk_bytes);
}

void volume_fill(void)
{
	uint64_t inode = make_file(ROOT, "filler");
	uint64_t offset = 0;
	static unsigned char block[FS_BLOCK];

	for (size_t i = 0; i < sizeof(block); i++)
		block[i] = (unsigned char)(i * 7);
	for (size_t length = 64 * FS_BLOCK; length >= FS_BLOCK; length /= 2) {
		while (fs_fallocate(fs, inode, 0, offset, length) == 0)
			offset += length;
	}
	ck_assert_int_eq(fs_write(fs, inode, block, sizeof(block), offset, 0), -ENOSPC);
}

uint64_t make_file(uint64_t dir, const char *name)
{
	struct fs_attr attr;

	ck_assert_int_eq(fs_mknod(fs, &caller, dir, name, S_IFREG | 0644, 0, &attr), 0);
	return attr.st.st_ino;
}

uint64_t make_dir(uint64_t dir, const char *name)
{
	struct fs_attr attr;

	ck_assert_int_eq(fs_mkdir(fs, &caller, dir, name, 0755, &attr), 0);
	return attr.st.st_ino;
}

uint64_t find(uint64_t dir, const char *name)
{
	struct fs_attr attr;
	int error = fs_lookup(fs, dir, name, &attr);

	if (error == -ENOENT)
		return 0;
	ck_assert_int_eq(error, 0);
	ck_assert_int_eq(fs_forget(fs, attr.st.st_ino, 1), 0);
	return attr.st.st_ino;
}

struct fs_attr attr_of(uint64_t inode)
{
	struct fs_attr attr;

	ck_assert_int_eq(fs_getattr(fs, inode, &attr), 0);
	return attr;
}

void put_bytes(uint64_t inode, uint64_t offset, const void *data, size_t length)
{
	ck_assert_int_eq(fs_write(fs, inode, data, length, offset, 0), (ssize_t)length);
}

static void pattern(unsigned char *data, uint64_t offset, size_t length, unsigned int seed)
{
	for (size_t i = 0; i < length; i++) {
		uint64_t at = offset + i;

		data[i] = (unsigned char)((at ^ at >> 8 ^ at >> 16) * 31 + seed) | 1; /* never zero */
	}
}

unsigned char *pattern_of(uint64_t offset, size_t length, unsigned int seed)
{
	unsigned char *data = malloc(length + 1);

	pattern(data, offset, length, seed);
	return data;
}

void put_pattern(uint64_t inode, uint64_t offset, size_t length, unsigned int seed)
{
	unsigned char *data = pattern_of(offset, length, seed);

	put_bytes(inode, offset, data, length);
	free(data);
}

void sync_file(uint64_t inode)
{
	ck_assert_int_eq(fs_fsync(fs, inode, false, NULL), 0);
}

/* As the writer does after a while: all that was committed is durable, no data is written out for it. */
void sync_names(void)
{
	ck_assert_int_eq(meta_sync(meta, meta_sequence(meta)), 0);
}

void set_size(uint64_t inode, uint64_t size)
{
	struct fs_attr attr = { .st.st_size = (off_t)size };

	ck_assert_int_eq(fs_setattr(fs, inode, FS_SET_SIZE, &attr), 0);
	ck_assert_uint_eq((uint64_t)attr.st.st_size, size);
}

static unsigned char *get_bytes(uint64_t inode, uint64_t offset, size_t length)
{
	unsigned char *data = malloc(length + 1);

	ck_assert_int_eq(fs_read(fs, inode, data, length, offset), (ssize_t)length);
	return data;
}

static void expect_same(const unsigned char *data, const unsigned char *wanted, uint64_t offset, size_t length)
{
	size_t i = 0;

	while (i < length && data[i] == wanted[i])
		i++;
	if (i < length)
		ck_abort_msg("byte %llu is %02x, not %02x", (unsigned long long)(offset + i), data[i], wanted[i]);
}

void expect_pattern(uint64_t inode, uint64_t offset, size_t length, unsigned int seed)
{
	unsigned char *data = get_bytes(inode, offset, length), *wanted = pattern_of(offset, length, seed);

	expect_same(data, wanted, offset, length);
	free(wanted);
	free(data);
}

void expect_zeros(uint64_t inode, uint64_t offset, size_t length)
{
	unsigned char *data = get_bytes(inode, offset, length), *wanted = calloc(1, length + 1);

	expect_same(data, wanted, offset, length);
	free(wanted);
	free(data);
}

void expect_size(uint64_t inode, uint64_t size)
{
	ck_assert_uint_eq((uint64_t)attr_of(inode).st.st_size, size);
}

static bool count_one(void *context, const struct fs_entry *entry)
{
	++*(size_t *)context;
	return true;
}

size_t count_entries(uint64_t dir)
{
	size_t count = 0;

	ck_assert_int_eq(fs_readdir(fs, dir, 0, false, count_one, &count), 0);
	ck_assert_uint_ge(count, 2);
	return count - 2;
}

uint64_t free_blocks(void)
{
	struct statvfs st;

	ck_assert_int_eq(fs_sync(fs), 0);
	ck_assert_int_eq(fs_statfs(fs, &st), 0);
	return st.f_bavail;
}

size_t count_items(uint64_t object, uint8_t type)
{
	struct meta_key key = { .object = object, .type = type };
	const struct meta_key last = { .object = object, .type = type, .offset = UINT64_MAX };
	size_t count = 0;

	while (meta_next(meta, &key, &last, NULL, 0) >= 0) {
		count++;
		key.offset++;
	}
	return count;
}
