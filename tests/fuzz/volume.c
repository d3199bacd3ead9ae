/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The volumes that are forged, and their disks. They are made once, in memory that is private to each process: a run
 * forges its own copy.
 */
#include "fuzz.h"
#include "world.h"

#include "mirrorfs/base/crc32c.h"
#include "mirrorfs/fs.h"
#include "node_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define TOUCHED_MAX 1024u
#define PAGE 4096u
#define TALL_ITEMS 1100u /* three fill a leaf, and more leaves than a node has children make a third level */

struct volume volumes[VOLUME_KINDS];

static struct {
	const unsigned char *at;
	size_t bytes;
} touched[TOUCHED_MAX];
static size_t touched_count;

/* ---- making ---- */

static unsigned char *disk_new(uint64_t bytes)
{
	unsigned char *disk =
		mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	fuzz_expect(disk != MAP_FAILED);
	return disk;
}

struct leg *volume_leg(const struct volume *volume, int leg)
{
	const struct leg_memory_options options = {
		.size_bytes = volume->disk_bytes,
		.block_size = 4096,
		.name = leg ? "disk1" : "disk0",
		.bytes = volume->disk[leg],
	};
	struct leg *opened;

	fuzz_expect(!leg_memory_open(&options, &opened));
	return opened;
}

void volume_open(struct volume_stack *stack, const struct volume *volume, const char *label)
{
	const struct cache_config config = { .budget_bytes = 32u << 20, .node_floor_percent = 25 };
	struct mirror_options options = { .pool = iobuf_pool_create(8u << 20, 4u << 20) };
	struct leg *legs[2] = { volume_leg(volume, 0), volume_leg(volume, 1) };
	struct mirror_identity identity;
	struct error error;
	uint64_t blocks;

	stack->pool = options.pool;
	stack->cache = cache_create(&config);
	if (label)
		fuzz_expect(!mirror_format(legs, label, &identity, &blocks, &error));
	fuzz_expect(!mirror_open(legs, &options, &stack->mirror, &error));
}

void volume_close(struct volume_stack *stack)
{
	cache_destroy(stack->cache);
	fuzz_expect(mirror_close(stack->mirror));
	iobuf_pool_destroy(stack->pool);
	fuzz_expect(!sim_world_fibers());
}

static void stack_format(struct volume_stack *stack, const struct volume *volume)
{
	const struct meta_options meta_options = { .commit_ns = 0 };
	const struct fs_options fs_options = { .read_only = false };
	struct format_inode root;
	struct error error;

	volume_open(stack, volume, "fuzzed");
	fs_format_root(&root, 0, 0);
	fuzz_expect(!meta_format(stack->mirror, &root, &error));
	fuzz_expect(!meta_open(stack->mirror, stack->cache, &meta_options, &stack->meta, &error));
	fuzz_expect(!fs_open(stack->meta, stack->cache, &fs_options, &stack->fs, &error));
}

static void stack_close(struct volume_stack *stack)
{
	fuzz_expect(!fs_close(stack->fs));
	fuzz_expect(!meta_close(stack->meta));
	volume_close(stack);
}

static void write_file(struct fs *fs, uint64_t dir, const char *name, size_t length, uint64_t offset)
{
	const struct fs_caller caller = { .uid = 0 };
	unsigned char *data = malloc(length);
	struct fs_attr attr;

	memset(data, name[0], length);
	if (fs_lookup(fs, dir, name, &attr))
		fuzz_expect(!fs_mknod(fs, &caller, dir, name, S_IFREG | 0644, 0, &attr));
	fuzz_expect(fs_write(fs, attr.st.st_ino, data, length, offset, 0) == (ssize_t)length);
	fs_forget(fs, attr.st.st_ino, 1);
	free(data);
}

/* Three directories, each with files short and long, whole and with holes, links of both kinds. */
static void populate(struct fs *fs)
{
	const struct fs_caller caller = { .uid = 0 };
	struct fs_attr dir, attr;
	uint64_t parent = OBJECT_ROOT;
	static const char value[9000] = "long";
	char name[32];

	for (int d = 0; d < 3; d++) {
		snprintf(name, sizeof(name), "d%d", d);
		fuzz_expect(!fs_mkdir(fs, &caller, parent, name, 0755, &dir));
		for (int f = 0; f < 12; f++) {
			snprintf(name, sizeof(name), "f%d", f);
			write_file(fs, dir.st.st_ino, name, 1u << (f + 6), 0);
		}
		write_file(fs, dir.st.st_ino, "holes", 5000, 0);
		write_file(fs, dir.st.st_ino, "holes", 5000, 60000);
		write_file(fs, dir.st.st_ino, "holes", 5000, 3u << 20);
		fuzz_expect(!fs_symlink(fs, &caller, dir.st.st_ino, "symlink", "where it leads", &attr));
		fs_forget(fs, attr.st.st_ino, 1);
		fuzz_expect(!fs_lookup(fs, dir.st.st_ino, "f3", &attr));
		fuzz_expect(!fs_link(fs, attr.st.st_ino, dir.st.st_ino, "link", &attr));
		fuzz_expect(!fs_setxattr(fs, attr.st.st_ino, "user.short", "value", 5, 0));
		fs_forget(fs, attr.st.st_ino, 2);
		fuzz_expect(!fs_setxattr(fs, dir.st.st_ino, "user.long", value, sizeof(value), 0));
		if (d)
			fs_forget(fs, parent, 1);
		parent = dir.st.st_ino;
	}
	fs_forget(fs, parent, 1);
	fuzz_expect(!fs_sync(fs));
}

/* What a tree must hold to have a third level: long values that fs does not look at. */
static void grow(struct meta *meta)
{
	static const unsigned char value[NODE_VALUE_MAX];

	for (unsigned int i = 0; i < TALL_ITEMS;) {
		struct meta_txn *txn = meta_txn_begin(meta);

		for (unsigned int n = 0; n < 16; n++, i++) {
			const struct meta_key key = { 30, TYPE_INLINE, i };

			meta_txn_put(txn, &key, value, sizeof(value));
		}
		fuzz_expect(!meta_txn_commit(txn, NULL));
	}
}

/* Work that stays in the ring: records with data inside and without, and a file that nobody can reach. */
static void leave_records(struct volume_stack *stack)
{
	struct fs_attr dir, attr;
	char name[32];

	fuzz_expect(!meta_checkpoint(stack->meta));
	fuzz_expect(!fs_lookup(stack->fs, OBJECT_ROOT, "d0", &dir));
	for (int i = 0; i < 6; i++) {
		snprintf(name, sizeof(name), "late%d", i);
		write_file(stack->fs, dir.st.st_ino, name, 3000u << (2 * (i % 4)), 0);
		if (i == 3)
			fuzz_expect(!fs_unlink(stack->fs, dir.st.st_ino, "f11"));
		fuzz_expect(!fs_sync(stack->fs));
	}
	fuzz_expect(!fs_lookup(stack->fs, dir.st.st_ino, "f10", &attr));
	fuzz_expect(!fs_unlink(stack->fs, dir.st.st_ino, "f10"));
	fuzz_expect(!fs_sync(stack->fs));
}

/* The disks as a crash would leave them now, everything written having got there. */
static void copy_disks(const struct volume *from, struct volume *to)
{
	static const unsigned char zeros[PAGE];

	to->disk_bytes = from->disk_bytes;
	for (int i = 0; i < 2; i++) {
		to->disk[i] = disk_new(from->disk_bytes);
		for (uint64_t at = 0; at < from->disk_bytes; at += PAGE)
			if (memcmp(from->disk[i] + at, zeros, PAGE) != 0)
				memcpy(to->disk[i] + at, from->disk[i] + at, PAGE);
	}
}

static void make(struct volume *unmounted, struct volume *crashed, bool tall)
{
	struct volume made = { .disk_bytes = 2 * MIRROR_SPACE_OFFSET };
	struct volume_stack stack;

	while (mirror_space_blocks(made.disk_bytes) < meta_minimum_blocks())
		made.disk_bytes += MIRROR_SPACE_OFFSET;
	for (int i = 0; i < 2; i++)
		made.disk[i] = disk_new(made.disk_bytes);
	fuzz_world();
	stack_format(&stack, &made);
	populate(stack.fs);
	if (tall)
		grow(stack.meta);
	leave_records(&stack);
	copy_disks(&made, crashed);
	stack_close(&stack);
	copy_disks(&made, unmounted);
	for (int i = 0; i < 2; i++)
		munmap(made.disk[i], made.disk_bytes);
}

void volumes_make(void)
{
	make(&volumes[VOLUME_UNMOUNTED], &volumes[VOLUME_CRASHED], false);
	make(&volumes[VOLUME_TALL], &volumes[VOLUME_TALL_CRASHED], true);
}

/* ---- what lies where ---- */

uint64_t volume_blocks(const struct volume *volume)
{
	return mirror_space_blocks(volume->disk_bytes);
}

unsigned char *volume_block(const struct volume *volume, uint64_t block)
{
	return volume->disk[0] + MIRROR_SPACE_OFFSET + block * FORMAT_BLOCK;
}

struct format_super *volume_super(const struct volume *volume)
{
	struct format_super *a = (struct format_super *)volume_block(volume, SUPER_SLOT0);
	struct format_super *b = (struct format_super *)volume_block(volume, SUPER_SLOT1);

	if (le32_get(a->magic) != SUPER_MAGIC)
		return b;
	if (le32_get(b->magic) != SUPER_MAGIC)
		return a;
	return le64_get(a->generation) > le64_get(b->generation) ? a : b;
}

void volume_seal_super(struct format_super *super)
{
	super->crc = le32_of(crc32c_block(super, sizeof(*super), offsetof(struct format_super, crc)));
}

void volume_touched(const void *at, size_t bytes)
{
	if (touched_count == TOUCHED_MAX)
		return;
	touched[touched_count].at = at;
	touched[touched_count++].bytes = bytes;
}

void volume_settle(const struct volume *volume, struct sim_random *random)
{
	uint64_t mode = sim_random_below(random, 8);

	for (size_t i = 0; i < touched_count && mode; i++) {
		unsigned char *other = volume->disk[1] + (touched[i].at - volume->disk[0]);

		if (mode > 2 || sim_random_chance(random, 2))
			memcpy(other, touched[i].at, touched[i].bytes);
		else if (mode == 2)
			fuzz_bytes(random, other, touched[i].bytes);
	}
	touched_count = 0;
}

/* ---- the tree ---- */

static unsigned char *node_at(const struct volume *volume, uint64_t address)
{
	uint64_t blocks = volume_blocks(volume);

	return address > blocks - NODE_BLOCKS ? NULL : volume_block(volume, address);
}

static struct format_pointer *pointer_at(unsigned char *node, unsigned int slot)
{
	struct format_item *item = (struct format_item *)(node + sizeof(struct format_node)) + slot;
	size_t value = le16_get(item->value);

	if ((unsigned char *)(item + 1) > node + NODE_BYTES || value + sizeof(struct format_pointer) > NODE_BYTES)
		return NULL;
	return (struct format_pointer *)(node + value);
}

void volume_walk(const struct volume *volume, struct sim_random *random, unsigned int most, struct volume_path *path)
{
	unsigned char *node = node_at(volume, le64_get(volume_super(volume)->root.address));

	path->count = 0;
	while (node && path->count < VOLUME_HEIGHT && path->count < most) {
		unsigned int at = path->count++, items = node_count(node);
		struct format_pointer pointer, *where;

		path->node[at] = node;
		if (!node_level(node) || !items)
			break;
		/* What fs looks at comes first in the tree. */
		if (sim_random_chance(random, 2) && items > 4)
			items = 4;
		path->slot[at] = (unsigned int)sim_random_below(random, items);
		where = pointer_at(node, path->slot[at]);
		if (!where)
			break;
		memcpy(&pointer, where, sizeof(pointer));
		node = node_at(volume, le64_get(pointer.address));
	}
}

void volume_seal_path(const struct volume *volume, const struct volume_path *path)
{
	struct format_super *super = volume_super(volume);

	for (unsigned int i = path->count; i-- > 0;) {
		const struct format_node *head = (const struct format_node *)path->node[i];
		uint32_t crc = node_seal(path->node[i]);
		struct format_pointer *where = i ? pointer_at(path->node[i - 1], path->slot[i - 1]) : &super->root;
		struct format_pointer pointer;

		volume_touched(path->node[i], NODE_BYTES);
		if (!where)
			continue;
		memcpy(&pointer, where, sizeof(pointer));
		pointer.crc = le32_of(crc);
		pointer.generation = head->generation;
		memcpy(where, &pointer, sizeof(pointer));
		if (!i)
			super->root_level = le32_of(head->level);
	}
	volume_seal_super(super);
	volume_touched(super, sizeof(*super));
}
