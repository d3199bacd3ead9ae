/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a user does with a volume that may be forged: walks through it, reads, writes, renames and deletes, has it
 * scrubbed and checked, unmounts. Every call may fail; what it hands up must be what callers may rely on.
 */
#include "fuzz.h"
#include "world.h"

#include "mirrorfs/fs.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ENTRIES_MAX 96u
#define PIECE 65536u

struct entry {
	uint64_t dir, inode;
	mode_t mode;
	char name[INODE_NAME_MAX + 1];
};

struct use {
	struct sim_random *random;
	bool read_only;
	struct mirror *mirror;
	struct cache *cache;
	struct meta *meta;
	struct fs *fs;
	uint64_t dir; /* being listed */
	struct entry entries[ENTRIES_MAX];
	unsigned int count;
	unsigned char piece[PIECE];
};

static bool list_one(void *context, const struct fs_entry *entry)
{
	struct use *use = context;
	struct entry *to = &use->entries[use->count];
	size_t length = strlen(entry->name);

	fuzz_expect(length > 0 && length <= INODE_NAME_MAX && !strchr(entry->name, '/'));
	if (!strcmp(entry->name, ".") || !strcmp(entry->name, "..")) {
		fuzz_expect(entry->next <= 2);
		return true;
	}
	if (use->count == ENTRIES_MAX)
		return false;
	fuzz_expect(entry->attr && entry->attr->st.st_ino == entry->inode);
	fuzz_expect(entry->attr->st.st_size >= 0);
	*to = (struct entry){ .dir = use->dir, .inode = entry->inode, .mode = entry->attr->st.st_mode };
	memcpy(to->name, entry->name, length + 1);
	use->count++;
	return true;
}

/* What is listed grows while it is gone through; a directory may contain itself. */
static void list_all(struct use *use)
{
	use->dir = OBJECT_ROOT;
	fs_readdir(use->fs, OBJECT_ROOT, 0, true, list_one, use);
	for (unsigned int i = 0; i < use->count; i++) {
		use->dir = use->entries[i].inode;
		if (S_ISDIR(use->entries[i].mode))
			fs_readdir(use->fs, use->dir, 0, true, list_one, use);
	}
}

static void read_piece(struct use *use, uint64_t inode, uint64_t size, uint64_t offset)
{
	size_t length = 1 + sim_random_below(use->random, PIECE);
	ssize_t got;

	if (offset > FS_SIZE_MAX - length)
		return;
	got = fs_read(use->fs, inode, use->piece, length, offset);
	fuzz_expect(got <= (ssize_t)length && (got <= 0 || offset + (uint64_t)got <= size));
}

static void look_at_attributes(struct use *use, uint64_t inode)
{
	char names[1024], *name = names;
	ssize_t length = fs_listxattr(use->fs, inode, names, sizeof(names), sim_random_chance(use->random, 2));

	fuzz_expect(length <= (ssize_t)sizeof(names));
	for (; length > 0 && name < names + length; name += strlen(name) + 1) {
		size_t room = 1 + sim_random_below(use->random, PIECE);
		ssize_t got = fs_getxattr(use->fs, inode, name, use->piece, room);

		fuzz_expect(got <= (ssize_t)room && got <= (ssize_t)XATTR_VALUE_MAX);
	}
}

static void look_at(struct use *use, const struct entry *entry)
{
	char target[PATH_MAX];
	struct fs_attr attr;
	uint64_t size, offset;

	if (fs_getattr(use->fs, entry->inode, &attr))
		return;
	look_at_attributes(use, entry->inode);
	if (S_ISLNK(attr.st.st_mode) && !fs_readlink(use->fs, entry->inode, target, sizeof(target)))
		fuzz_expect(strlen(target) < sizeof(target));
	if (S_ISDIR(attr.st.st_mode) && !fs_lookup(use->fs, entry->inode, "..", &attr))
		fs_forget(use->fs, attr.st.st_ino, 1);
	if (!S_ISREG(attr.st.st_mode))
		return;
	size = (uint64_t)attr.st.st_size;
	read_piece(use, entry->inode, size, 0);
	read_piece(use, entry->inode, size, size > 5000 ? size - 5000 : size);
	offset = sim_random_below(use->random, size + 1);
	read_piece(use, entry->inode, size, offset);
	fs_lseek(use->fs, entry->inode, sim_random_chance(use->random, 2), &offset);
}

static uint64_t some_offset(struct use *use)
{
	uint64_t offset = sim_random_below(use->random, UINT64_C(1) << (12 + sim_random_below(use->random, 51)));

	return sim_random_chance(use->random, 2) ? offset % (200u << 10) : offset;
}

static void change_file(struct use *use, uint64_t inode)
{
	static const int modes[] = { 0, 1, 1 | 2, 16, 16 | 1 }; /* as fallocate(2) */
	uint64_t offset = some_offset(use), length = 1 + sim_random_below(use->random, PIECE), seen = 0;
	struct fs_attr attr = { .st.st_size = (off_t)offset };

	switch (sim_random_below(use->random, 7)) {
	case 5:
		fs_setxattr(use->fs, inode, sim_random_chance(use->random, 2) ? "user.short" : "user.long", use->piece,
			    length % XATTR_VALUE_MAX, 0);
		break;
	case 6:
		fs_removexattr(use->fs, inode, sim_random_chance(use->random, 2) ? "user.short" : "user.long");
		break;
	case 0:
	case 1:
		fs_write(use->fs, inode, use->piece, length, offset, (unsigned int)sim_random_below(use->random, 8));
		break;
	case 2:
		fs_setattr(use->fs, inode, FS_SET_SIZE, &attr);
		break;
	case 3:
		fs_fallocate(use->fs, inode, modes[sim_random_below(use->random, 5)], offset, length);
		break;
	default:
		fs_fsync(use->fs, inode, sim_random_chance(use->random, 2), &seen);
	}
}

static void change_names(struct use *use, const struct entry *entry, const struct entry *other)
{
	const struct fs_caller caller = { .uid = 0 };
	struct fs_attr attr;
	char name[16];
	int made = -1;

	snprintf(name, sizeof(name), "new%u", (unsigned int)sim_random_below(use->random, 4));
	switch (sim_random_below(use->random, 9)) {
	case 0:
		fs_unlink(use->fs, entry->dir, entry->name);
		break;
	case 1:
		fs_rmdir(use->fs, entry->dir, entry->name);
		break;
	case 2:
		fs_rename(use->fs, &caller, entry->dir, entry->name, other->dir, other->name, 0);
		break;
	case 3:
		fs_rename(use->fs, &caller, entry->dir, entry->name, other->dir, other->name, RENAME_EXCHANGE);
		break;
	case 4:
		fs_rename(use->fs, &caller, entry->dir, entry->name, other->inode, name, 0);
		break;
	case 5:
		made = fs_link(use->fs, entry->inode, other->dir, name, &attr);
		break;
	case 6:
		made = fs_mkdir(use->fs, &caller, entry->inode, name, 0755, &attr);
		break;
	case 7:
		made = fs_symlink(use->fs, &caller, entry->dir, name, "there", &attr);
		break;
	default:
		made = fs_mknod(use->fs, &caller, entry->dir, name, S_IFREG | 0600, 0, &attr);
		if (!made)
			change_file(use, attr.st.st_ino);
	}
	if (!made)
		fs_forget(use->fs, attr.st.st_ino, 1);
}

static void work(struct use *use)
{
	struct meta_scrub scrub = { .blocks = 0 };

	list_all(use);
	for (unsigned int i = 0; i < use->count; i++)
		look_at(use, &use->entries[i]);
	for (uint64_t n = sim_random_below(use->random, 40); n > 0 && use->count; n--) {
		const struct entry *entry = &use->entries[sim_random_below(use->random, use->count)];

		if (sim_random_chance(use->random, 2))
			change_file(use, entry->inode);
		else
			change_names(use, entry, &use->entries[sim_random_below(use->random, use->count)]);
		if (sim_random_chance(use->random, 16))
			fs_sync(use->fs);
		if (sim_random_chance(use->random, 16))
			meta_checkpoint(use->meta);
		if (sim_random_chance(use->random, 16))
			cache_drop_clean(use->cache);
	}
	if (sim_random_chance(use->random, 2))
		meta_scrub(use->meta, &scrub);
	for (unsigned int i = 0; i < use->count; i++)
		fs_forget(use->fs, use->entries[i].inode, 1);
}

/* ---- and what fsck does ---- */

#define CHECKS_MAX 4u /* what a cure uncovers is cured by the next check */

struct checking {
	struct use *use;
	unsigned int odds; /* one problem in so many is left as it is; 0: none */
	unsigned long told;
};

static bool answer(struct fs_check *check, const struct fs_problem *problem)
{
	struct checking *checking = check->context;

	fuzz_expect(problem->text[0] && (problem->remedy == FS_REMEDY_NONE || problem->cure[0]));
	checking->told++;
	return problem->remedy != FS_REMEDY_NONE &&
	       !(checking->odds && sim_random_chance(checking->use->random, checking->odds));
}

static void note_loss(struct meta_rebuild *rebuild, const struct meta_loss *loss)
{
	(void)rebuild;
	fuzz_expect(loss->endless || meta_key_compare(&loss->first, &loss->end) < 0);
	fuzz_expect(!loss->leaf || !loss->leaves);
}

/* Opens it to be checked; if its tree is damaged it is made anew, now and then. */
static bool open_to_check(struct use *use, const struct meta_options *options)
{
	struct meta_rebuild rebuild = { .lost = note_loss };
	struct error error;
	int code = meta_open(use->mirror, use->cache, options, &use->meta, &error);

	if (use->read_only || sim_random_chance(use->random, 4) ||
	    !(code == -EIO || (!code && meta_damage(use->meta))))
		return !code;
	if (!code)
		meta_close(use->meta);
	if (meta_rebuild(use->mirror, use->cache, &rebuild, &error))
		return false;
	return !meta_open(use->mirror, use->cache, options, &use->meta, &error);
}

/* One check of everything. True: it has cured something. */
static bool check_once(struct use *use, unsigned int odds)
{
	const struct meta_options options = { .read_only = use->read_only, .checking = true };
	struct checking checking = { .use = use, .odds = odds };
	struct fs_check check = { .problem = answer, .context = &checking };
	struct meta_scrub scrub = { .blocks = 0 };
	char path[PATH_MAX];
	bool again;

	if (!open_to_check(use, &options))
		return false;
	if (sim_random_chance(use->random, 4))
		meta_scrub(use->meta, &scrub);
	again = !fs_check(use->meta, &check) && check.cured;
	fuzz_expect(check.problems == checking.told && check.cured <= check.problems);
	fs_check_path(use->meta, 1 + sim_random_below(use->random, VOLUME_OBJECTS), path, sizeof(path));
	fuzz_expect(strlen(path) < sizeof(path));
	return !meta_close(use->meta) && again && !use->read_only;
}

static void check_all(struct use *use)
{
	unsigned int odds = sim_random_chance(use->random, 2) ? 0 : 2, checks = 1;

	while (check_once(use, odds) && checks < CHECKS_MAX)
		checks++;
}

static void use_meta(struct use *use)
{
	const struct meta_options options = {
		.read_only = use->read_only,
		.discard = sim_random_chance(use->random, 2),
	};
	const struct fs_options fs_options = { .read_only = use->read_only };
	struct error error;

	if (sim_random_chance(use->random, 3))
		check_all(use);
	if (meta_open(use->mirror, use->cache, &options, &use->meta, &error))
		return;
	if (!fs_open(use->meta, use->cache, &fs_options, &use->fs, &error)) {
		fuzz_accepted();
		work(use);
		fs_close(use->fs);
	}
	meta_close(use->meta);
}

static bool use_mirror(struct use *use, const struct volume *volume)
{
	const struct cache_config config = {
		.budget_bytes = (4u << 20) + sim_random_below(use->random, 8u << 20),
		.node_floor_percent = 25,
	};
	struct mirror_options options = {
		.read_only = use->read_only,
		.degraded = true,
		.pool = iobuf_pool_create(8u << 20, 4u << 20),
	};
	int count = sim_random_chance(use->random, 6) ? 1 : 2;
	struct mirror_status *status = malloc(sizeof(*status));
	struct leg *legs[2] = { NULL, NULL };
	struct error error;
	bool opened;

	for (int i = 0; i < count; i++)
		legs[i] = volume_leg(volume, i);
	opened = !mirror_open(legs, &options, &use->mirror, &error);
	if (opened) {
		use->cache = cache_create(&config);
		use_meta(use);
		cache_destroy(use->cache);
		mirror_status(use->mirror, status);
		fuzz_expect(!status->empty_refused && !status->deadline_missed);
		for (int i = 0; i < 2; i++)
			fuzz_expect(!status->leg[i].counters.empty_refused &&
				    !status->leg[i].counters.unaligned_refused);
		fuzz_expect(mirror_close(use->mirror));
	} else {
		for (int i = 0; i < count; i++)
			leg_close(legs[i]);
	}
	free(status);
	iobuf_pool_destroy(options.pool);
	fuzz_expect(!sim_world_fibers());
	return opened;
}

void volume_use(const struct volume *volume, struct sim_random *random)
{
	unsigned int mounts = 1 + (unsigned int)sim_random_below(random, 2);

	for (unsigned int i = 0; i < mounts; i++) {
		struct use *use = calloc(1, sizeof(*use));
		bool opened;

		use->random = random;
		use->read_only = sim_random_chance(random, 5);
		opened = use_mirror(use, volume);
		free(use);
		if (!opened)
			break;
	}
}
