/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Rot: bits and sectors that are not what was written. The volume has a history, so the legs are full of what was true
 * once, and everything in it is known.
 *
 *   rot   on one leg. Every read is right; a scrub heals it all, and a check has nothing to say.
 *   loss  on both. A read is right or an error; what fsck.mirrorfs -y does ends in a volume that has no fault, and what
 *         is no longer as it was has been named.
 */
#include "fuzz.h"
#include "world.h"

#include "mirrorfs/fs.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define ROT_SPOTS 250u /* of a run: 400 runs are 100,000 */
#define DIRS 6u
#define ENTRIES 1400u
#define LINK_BYTES 3000u /* three symbolic links fill a leaf, and so many make a third level */
#define FILE_MAX (300u << 10)
#define TOLD_BYTES (8u << 20)
#define ROUNDS 4u
#define SECTOR 512u

enum kind { KIND_NONE, KIND_FILE, KIND_LINK };

/* What must be there. Its name is its number; the dir is that of the number. */
struct entry {
	enum kind kind;
	uint64_t inode;
	uint32_t size, version;
	bool sparse; /* the second quarter is a hole */
};

static struct volume pristine[2]; /* unmounted, and with records in its ring */
static struct entry entries[ENTRIES];
static uint64_t dirs[DIRS];

/* A mounted volume. */
/* ---- content ---- */

/* Each block tells whose it is, and of which version: nothing that is old looks like what is there now. */
static void fill(const struct entry *entry, uint32_t number, unsigned char *data)
{
	for (uint32_t i = 0; i < entry->size; i++) {
		uint64_t x = ((uint64_t)number << 40) + ((uint64_t)entry->version << 32) + i / 8;

		x = (x ^ x >> 31) * UINT64_C(0x9e3779b97f4a7c15);
		data[i] = (unsigned char)(x >> (8 * (i % 8))) | 1;
	}
	if (entry->sparse)
		memset(data + entry->size / 4 / 4096 * 4096, 0, entry->size / 4 / 4096 * 4096);
}

static void name_of(uint32_t number, char name[16])
{
	snprintf(name, 16, "e%u", number);
}

static uint64_t dir_of(uint32_t number)
{
	return dirs[number % DIRS];
}

/* ---- a mount ---- */

/* True: it is open, with `read_only` as far as it is. */
static bool above_open(struct volume_stack *stack, bool read_only)
{
	const struct meta_options options = { .read_only = read_only };
	const struct fs_options fs_options = { .read_only = read_only };
	struct error error;

	if (meta_open(stack->mirror, stack->cache, &options, &stack->meta, &error))
		return false;
	if (!fs_open(stack->meta, stack->cache, &fs_options, &stack->fs, &error))
		return true;
	meta_close(stack->meta);
	return false;
}

static void above_close(struct volume_stack *stack)
{
	fuzz_expect(!fs_close(stack->fs));
	fuzz_expect(!meta_close(stack->meta));
}

/* ---- making ---- */

static void put(struct fs *fs, uint32_t number, struct sim_random *random)
{
	const struct fs_caller caller = { .uid = 0 };
	struct entry *entry = &entries[number];
	unsigned char *data = malloc(FILE_MAX + 1);
	struct fs_attr attr;
	char name[16];

	name_of(number, name);
	if (entry->kind == KIND_NONE) {
		entry->kind = number % 5 < 4 ? KIND_LINK : KIND_FILE;
		entry->version++;
		entry->size = LINK_BYTES;
		fill(entry, number, data);
		data[LINK_BYTES] = '\0';
		for (uint32_t i = 0; i < LINK_BYTES && entry->kind == KIND_LINK; i++)
			data[i] = (unsigned char)('a' + data[i] % 26);
		if (entry->kind == KIND_LINK)
			fuzz_expect(!fs_symlink(fs, &caller, dir_of(number), name, (char *)data, &attr));
		else
			fuzz_expect(!fs_mknod(fs, &caller, dir_of(number), name, S_IFREG | 0644, 0, &attr));
		entry->inode = attr.st.st_ino;
	} else {
		fuzz_expect(!fs_lookup(fs, dir_of(number), name, &attr));
	}
	if (entry->kind == KIND_FILE) {
		entry->version++;
		entry->size = 1 + (uint32_t)sim_random_below(random, sim_random_chance(random, 8) ? FILE_MAX : 20000);
		entry->sparse = sim_random_chance(random, 4);
		fill(entry, number, data);
		attr.st.st_size = 0;
		fuzz_expect(!fs_setattr(fs, entry->inode, FS_SET_SIZE, &attr));
		for (uint32_t at = 0, length; at < entry->size; at += length) {
			uint32_t hole = entry->size / 4 / 4096 * 4096;

			length = entry->sparse && at < hole ? hole : entry->size - at;
			if (!(entry->sparse && at && at == hole && hole))
				fuzz_expect(fs_write(fs, entry->inode, data + at, length, at, 0) == (ssize_t)length);
			else
				length = hole;
		}
	}
	fs_forget(fs, entry->inode, 1);
	free(data);
}

static void drop(struct fs *fs, uint32_t number)
{
	char name[16];

	if (entries[number].kind == KIND_NONE)
		return;
	name_of(number, name);
	fuzz_expect(!fs_unlink(fs, dir_of(number), name));
	entries[number].kind = KIND_NONE;
}

static void copy_disks(const struct volume *from, struct volume *to)
{
	static const unsigned char zeros[4096];

	to->disk_bytes = from->disk_bytes;
	for (int i = 0; i < 2; i++) {
		to->disk[i] = mmap(NULL, from->disk_bytes, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		fuzz_expect(to->disk[i] != MAP_FAILED);
		for (uint64_t at = 0; at < from->disk_bytes; at += sizeof(zeros))
			if (memcmp(from->disk[i] + at, zeros, sizeof(zeros)) != 0)
				memcpy(to->disk[i] + at, from->disk[i] + at, sizeof(zeros));
	}
}

/* Everything was written more than once, and some of it deleted. */
static void live(struct volume_stack *stack, struct sim_random *random)
{
	for (uint32_t i = 0; i < ENTRIES; i++)
		put(stack->fs, i, random);
	for (int round = 0; round < 6; round++) {
		fuzz_expect(!fs_sync(stack->fs));
		fuzz_expect(!meta_checkpoint(stack->meta));
		for (uint32_t i = 0; i < ENTRIES; i++) {
			if (sim_random_chance(random, 40))
				drop(stack->fs, i);
			else if (entries[i].kind == KIND_NONE ? sim_random_chance(random, 2) :
								sim_random_chance(random, 30))
				put(stack->fs, i, random);
		}
	}
	fuzz_expect(!fs_sync(stack->fs));
}

static void rot_make(void)
{
	struct sim_random random = sim_random_of(1, 31);
	const struct fs_caller caller = { .uid = 0 };
	struct volume made = { .disk_bytes = 96u << 20 };
	struct format_inode root;
	struct volume_stack stack;
	struct fs_attr attr;
	struct error error;
	char name[16];

	for (int i = 0; i < 2; i++) {
		made.disk[i] = mmap(NULL, made.disk_bytes, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		fuzz_expect(made.disk[i] != MAP_FAILED);
	}
	fuzz_world();
	volume_open(&stack, &made, "rot");
	fs_format_root(&root, 0, 0);
	fuzz_expect(!meta_format(stack.mirror, &root, &error));
	fuzz_expect(above_open(&stack, false));
	for (uint32_t d = 0; d < DIRS; d++) {
		snprintf(name, sizeof(name), "d%u", d);
		fuzz_expect(!fs_mkdir(stack.fs, &caller, OBJECT_ROOT, name, 0755, &attr));
		dirs[d] = attr.st.st_ino;
		fs_forget(stack.fs, dirs[d], 1);
	}
	live(&stack, &random);
	copy_disks(&made, &pristine[1]);
	above_close(&stack);
	volume_close(&stack);
	copy_disks(&made, &pristine[0]);
	for (int i = 0; i < 2; i++)
		munmap(made.disk[i], made.disk_bytes);
}

/* ---- rotting ---- */

static const uint64_t label_at[] = { 4096, 528384 };

/* Somewhere on the leg, as a rule where something lies: most of a leg is empty. */
static uint64_t some_spot(const struct volume *volume, struct sim_random *random)
{
	static const unsigned char zeros[4096];
	uint64_t at = 0;

	for (int try = 0; try < 200; try++) {
		at = sim_random_below(random, volume->disk_bytes / 4096) * 4096;
		if (sim_random_chance(random, 8))
			at = MIRROR_SPACE_OFFSET + 4096 * (sim_random_chance(random, 2) ? SUPER_SLOT0 : SUPER_SLOT1);
		if (sim_random_chance(random, 8) || memcmp(volume->disk[0] + at, zeros, sizeof(zeros)) != 0)
			break;
	}
	return at;
}

static void spoil(unsigned char *at, struct sim_random *random)
{
	uint64_t sector = sim_random_below(random, 4096 / SECTOR) * SECTOR;

	switch (sim_random_below(random, 5)) {
	case 0:
	case 1:
		at[sim_random_below(random, 4096)] ^= (unsigned char)(1u << sim_random_below(random, 8));
		break;
	case 2:
		memset(at + sector, 0, SECTOR);
		break;
	case 3:
		for (uint64_t i = 0; i < SECTOR; i++)
			at[sector + i] = (unsigned char)sim_random_u64(random);
		break;
	default: /* another sector's bytes */
		memmove(at + sector, at + sim_random_below(random, 4096 / SECTOR) * SECTOR, SECTOR);
	}
}

/* Without any label a leg is none. */
static bool is_label(uint64_t at, int which)
{
	return at >= label_at[which] && at < label_at[which] + 4096;
}

/* ---- looking ---- */

/* What `entry` is: 0 as it was; -ENOENT; -EIO; 1: something else, never a byte that it did not have. */
static int look_at(struct fs *fs, uint32_t number, bool strict)
{
	static unsigned char data[FILE_MAX + 2], want[FILE_MAX + 2];
	const struct entry *entry = &entries[number];
	bool differs = false;
	struct fs_attr attr;
	char name[16];
	ssize_t got;
	int error;

	name_of(number, name);
	error = fs_lookup(fs, dir_of(number), name, &attr);
	if (error)
		return error;
	fill(entry, number, want);
	for (uint32_t i = 0; i < entry->size && entry->kind == KIND_LINK; i++)
		want[i] = (unsigned char)('a' + want[i] % 26);
	if (entry->kind == KIND_LINK) {
		error = fs_readlink(fs, attr.st.st_ino, (char *)data, PATH_MAX);
		differs = !error && (strlen((char *)data) != entry->size || memcmp(data, want, entry->size) != 0);
		fs_forget(fs, attr.st.st_ino, 1);
		fuzz_expect(!differs || !strict);
		return error ? error : differs;
	}
	differs = attr.st.st_ino != entry->inode || attr.st.st_size != entry->size;
	for (uint32_t at = 0; at < entry->size && !error; at += 4096) {
		uint32_t length = entry->size - at < 4096 ? entry->size - at : 4096;

		got = fs_read(fs, attr.st.st_ino, data, length, at);
		if (got < 0)
			error = (int)got;
		else if (got < (ssize_t)length || memcmp(data, want + at, length) != 0)
			differs = true;
		for (ssize_t i = 0; i < got; i++)
			fuzz_expect(data[i] == want[at + i] || (!strict && !data[i]));
	}
	fs_forget(fs, attr.st.st_ino, 1);
	fuzz_expect(!differs || !strict);
	return error ? error : differs;
}

/* ---- rot ---- */

static void expect_all(struct fs *fs)
{
	struct fs_attr attr;
	char name[16];

	for (uint32_t i = 0; i < ENTRIES; i++) {
		if (entries[i].kind != KIND_NONE) {
			fuzz_expect(!look_at(fs, i, true));
			continue;
		}
		name_of(i, name);
		fuzz_expect(fs_lookup(fs, dir_of(i), name, &attr) == -ENOENT);
	}
}

static bool nothing_is_wrong(struct fs_check *check, const struct fs_problem *problem)
{
	(void)check;
	fprintf(stderr, "%s\n", problem->text);
	return false;
}

/* What fsck.mirrorfs -f -n --data would look at. */
static void expect_sound(struct volume_stack *stack)
{
	const struct meta_options options = { .read_only = true, .checking = true };
	struct fs_check check = { .problem = nothing_is_wrong };
	struct meta_scrub scrub = { .blocks = 0 };
	struct error error;

	fuzz_expect(!meta_open(stack->mirror, stack->cache, &options, &stack->meta, &error));
	fuzz_expect(!meta_damage(stack->meta));
	fuzz_expect(!fs_check(stack->meta, &check) && !check.problems);
	fuzz_expect(!meta_scrub(stack->meta, &scrub) && !scrub.unrecoverable);
	fuzz_expect(!meta_close(stack->meta));
}

static void run_rot(struct sim_random *random)
{
	const struct volume *volume = &pristine[sim_random_below(random, 2)];
	int leg = (int)sim_random_below(random, 2), kept = (int)sim_random_below(random, 2);
	struct meta_scrub scrub = { .blocks = 0 };
	struct volume_stack stack;

	fuzz_world();
	for (unsigned int spot = 0; spot < ROT_SPOTS; spot++) {
		uint64_t at = some_spot(volume, random);

		if (!is_label(at, kept))
			spoil(volume->disk[leg] + at, random);
	}
	volume_open(&stack, volume, NULL);
	fuzz_expect(above_open(&stack, false));
	fuzz_accepted();
	expect_all(stack.fs);
	fuzz_expect(!meta_scrub(stack.meta, &scrub) && !scrub.unrecoverable);
	fuzz_expect(!meta_scrub(stack.meta, &scrub) && !scrub.unrecoverable && !scrub.repaired);
	above_close(&stack);
	expect_sound(&stack);
	volume_close(&stack);
	/* And what was rotten has all of it: nothing else is left. */
	for (uint64_t at = MIRROR_SPACE_OFFSET; at < volume->disk_bytes; at += 4096)
		if (volume->disk[!leg][at + 8])
			volume->disk[!leg][at + 8]++;
	volume_open(&stack, volume, NULL);
	fuzz_expect(above_open(&stack, false));
	expect_all(stack.fs);
	above_close(&stack);
	volume_close(&stack);
}

/* ---- loss ---- */

struct losing {
	char *told; /* all that was said, a line each */
	size_t length;
	struct meta_loss losses[256];
	size_t count;
};

static void tell(struct losing *losing, const char *text)
{
	size_t length = strlen(text);

	if (losing->length + length + 2 > TOLD_BYTES)
		return;
	memcpy(losing->told + losing->length, text, length);
	losing->told[losing->length + length] = '\n';
	losing->length += length + 1;
	losing->told[losing->length] = '\0';
	if (getenv("VERBOSE"))
		fprintf(stderr, "%s\n", text);
}

static bool cure(struct fs_check *check, const struct fs_problem *problem)
{
	tell(check->context, problem->text);
	return problem->remedy != FS_REMEDY_NONE;
}

static void note_loss(struct meta_rebuild *rebuild, const struct meta_loss *loss)
{
	struct losing *losing = rebuild->context;

	if (losing->count < sizeof(losing->losses) / sizeof(losing->losses[0]))
		losing->losses[losing->count++] = *loss;
	if (getenv("VERBOSE"))
		fprintf(stderr, "lost: %llu.%u.%llu to %llu.%u.%llu leaf %d: %llu leaves, %llu items\n",
			(unsigned long long)loss->first.object, loss->first.type,
			(unsigned long long)loss->first.offset,
			(unsigned long long)loss->end.object, loss->end.type, (unsigned long long)loss->end.offset,
			loss->leaf, (unsigned long long)loss->leaves, (unsigned long long)loss->items);
}

static void note_bad(struct meta_scrub *scrub, const struct meta_live *live, int leg, bool healed)
{
	char text[64];

	(void)leg;
	if (healed || !scrub->lost || live->kind != META_LIVE_DATA)
		return;
	snprintf(text, sizeof(text), "inode %llu,", (unsigned long long)live->object);
	tell(scrub->context, text);
}

/* Was something said of it: its path, its number, or a part of the tree that was to hold it? */
static bool is_named(const struct losing *losing, uint32_t number)
{
	static const uint8_t types[] = { TYPE_INODE, TYPE_SYMLINK, TYPE_EXTENT };
	const struct entry *entry = &entries[number];
	char text[3][64];

	snprintf(text[0], sizeof(text[0]), "/d%u/e%u:", number % DIRS, number);
	snprintf(text[1], sizeof(text[1]), "inode %llu,", (unsigned long long)entry->inode);
	snprintf(text[2], sizeof(text[2]), "inode %llu ", (unsigned long long)entry->inode);
	for (int i = 0; i < 3; i++)
		if (strstr(losing->told, text[i]))
			return true;
	snprintf(text[0], sizeof(text[0]), "/d%u: the entry 'e%u'", number % DIRS, number);
	if (strstr(losing->told, text[0]))
		return true;
	for (size_t i = 0; i < losing->count; i++) {
		const struct meta_loss *loss = &losing->losses[i];
		const struct meta_key *first = &loss->first, *end = &loss->end;

		for (size_t t = 0; t < sizeof(types); t++) {
			const struct meta_key low = { entry->inode, types[t], 0 };
			const struct meta_key high = { entry->inode, types[t], UINT64_MAX };

			if (meta_key_compare(&high, first) >= 0 && (loss->endless || meta_key_compare(&low, end) < 0))
				return true;
		}
		/* Names lie where nobody can say. */
		if (first->object <= dir_of(number) && (loss->endless || end->object >= dir_of(number)))
			return true;
	}
	return false;
}

/* As fsck.mirrorfs -f -y --data. */
static void repair(struct volume_stack *stack, struct losing *losing)
{
	const struct meta_options options = { .checking = true };
	bool again = true;
	unsigned int round;

	for (round = 0; again && round < ROUNDS; round++) {
		struct fs_check check = { .problem = cure, .context = losing };
		struct meta_scrub scrub = { .bad = note_bad, .context = losing };
		struct error error = { "" };
		int code = meta_open(stack->mirror, stack->cache, &options, &stack->meta, &error);

		if (code == -EIO || (!code && meta_damage(stack->meta))) {
			struct meta_rebuild rebuild = { .lost = note_loss, .context = losing };

			fuzz_expect(!round);
			fuzz_expect(code || !meta_close(stack->meta));
			fuzz_expect(!meta_rebuild(stack->mirror, stack->cache, &rebuild, &error));
			code = meta_open(stack->mirror, stack->cache, &options, &stack->meta, &error);
		}
		fuzz_expect(!code && !meta_damage(stack->meta));
		if (!round)
			fuzz_expect(!meta_scrub(stack->meta, &scrub));
		fuzz_expect(!fs_check(stack->meta, &check));
		fuzz_expect(check.problems == check.cured);
		again = check.cured;
		fuzz_expect(!meta_close(stack->meta));
	}
	fuzz_expect(!again);
}

/* The same spot of both legs, or each leg somewhere. */
static void spoil_both(const struct volume *volume, struct sim_random *random)
{
	for (uint64_t n = 1 + sim_random_below(random, 60); n > 0; n--) {
		uint64_t at = some_spot(volume, random);
		bool both = !sim_random_chance(random, 3);

		/* A slot or a record that both have lost is the state before it. */
		if (at < MIRROR_SPACE_OFFSET + le64_get(volume_super(volume)->heap_start) * UINT64_C(4096))
			continue;
		for (int leg = 0; leg < 2; leg++)
			if (both || sim_random_chance(random, 2))
				spoil(volume->disk[leg] + at, random);
	}
}

static void run_loss(struct sim_random *random)
{
	const struct volume *volume = &pristine[sim_random_below(random, 2)];
	struct losing *losing = calloc(1, sizeof(*losing));
	struct volume_stack stack;
	int state;

	losing->told = calloc(1, TOLD_BYTES);
	fuzz_world();
	spoil_both(volume, random);
	volume_open(&stack, volume, NULL);
	if (above_open(&stack, false) || above_open(&stack, true)) {
		for (uint32_t i = 0; i < ENTRIES; i++) {
			state = entries[i].kind == KIND_NONE ? 0 : look_at(stack.fs, i, true);
			fuzz_expect(!state || state == -EIO);
		}
		fs_close(stack.fs);
		meta_close(stack.meta);
	}
	repair(&stack, losing);
	fuzz_expect(above_open(&stack, false));
	fuzz_accepted();
	for (uint32_t i = 0; i < ENTRIES; i++) {
		struct fs_attr attr;
		char name[16];

		name_of(i, name);
		if (entries[i].kind == KIND_NONE)
			state = fs_lookup(stack.fs, dir_of(i), name, &attr) == -ENOENT ? 0 : 2;
		else
			state = look_at(stack.fs, i, false);
		if (state && getenv("VERBOSE"))
			fprintf(stderr, "entry %u, inode %llu: %d\n", i, (unsigned long long)entries[i].inode, state);
		/* Also a name that had been removed may be back, where what knew of that is lost. */
		fuzz_expect(!state || is_named(losing, i));
	}
	above_close(&stack);
	volume_close(&stack);
	free(losing->told);
	free(losing);
}

const struct fuzz_target fuzz_rot = { .name = "rot", .setup = rot_make, .run = run_rot, .batch = 1 };
const struct fuzz_target fuzz_loss = { .name = "loss", .setup = rot_make, .run = run_loss, .batch = 1 };
