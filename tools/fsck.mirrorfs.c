/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fsck.mirrorfs: looks through a volume that is not mounted, and puts it right.
 *
 * It opens the volume as a mount does, so the journal is replayed and bad copies are healed on the way, by the same
 * code. Cures are ordinary transactions; after them everything is looked at again. As long as anything is left the
 * volume is not called clean, so the next run looks again, too.
 */
#include "legs.h"
#include "options.h"
#include "progress.h"

#include "mirrorfs/base/clock.h"
#include "mirrorfs/base/iobuf.h"
#include "mirrorfs/base/log.h"
#include "mirrorfs/cache.h"
#include "mirrorfs/fs.h"
#include "mirrorfs/meta.h"
#include "mirrorfs/mirror.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* fsck(8) */
enum { EXIT_CLEAN = 0, EXIT_CORRECTED = 1, EXIT_LEFT = 4, EXIT_OPERATION = 8, EXIT_USAGE = 16 };

#define POOL_BYTES ((size_t)64 << 20)
#define POOL_ABANDON_BYTES ((size_t)32 << 20)
#define CACHE_BYTES ((size_t)128 << 20)
#define ROUNDS 4 /* of cures, each of what the one before has uncovered */

enum answer { ANSWER_ASK, ANSWER_NO, ANSWER_SAFE, ANSWER_YES };

#define UNLOCK_NS (10 * NSEC_PER_SEC)

struct fsck {
	const char *spec[MIRROR_LEGS];
	enum answer answer;
	bool force, data, mounted_is_fine;
	bool look_only; /* the tree is damaged, and is to stay so */
	struct progress progress;
	struct mount_options options;
	struct iobuf_pool *pool;
	struct mirror *mirror;
	struct cache *cache;
	struct meta *meta;
	struct meta_slot slots[MIRROR_LEGS][META_SLOTS];
	const struct meta_slot *newest; /* of them */
	uint64_t cured; /* by transactions */
	uint64_t healed; /* copies, in blocks */
	uint64_t left; /* wrong, and not put right */
	uint64_t lost_data; /* pieces of file data, or the journal's end: the volume is sound without them */
	uint64_t bad[MIRROR_LEGS]; /* blocks of a leg that only the other one has right */
	struct meta_live lost; /* the last piece told of that no leg has */
	int lost_leg;
	struct meta_loss *losses; /* what the tree lacks that was made anew */
	size_t loss_count;
	struct fs_check seen; /* what there is */
};

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *format, ...)
{
	va_list args;

	fflush(stdout);
	va_start(args, format);
	fputs("fsck.mirrorfs: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
}

static void tell(struct fsck *fsck, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void tell(struct fsck *fsck, const char *format, ...)
{
	va_list args;

	progress_clear(&fsck->progress);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
}

static bool writes(const struct fsck *fsck)
{
	return fsck->answer != ANSWER_NO && !fsck->look_only;
}

/* ---- opening ---- */

/* A daemon whose mount has just ended may still be writing. */
static bool pause_a_little(void)
{
	(void)poll(NULL, 0, 200);
	return true;
}

static int open_mirror(struct fsck *fsck, bool read_only, struct error *error)
{
	struct legs_request request = { .spec = { fsck->spec[0], fsck->spec[1] },
					.options = &fsck->options,
					.pause = pause_a_little };
	struct mirror_options options = { .read_only = read_only,
					  .takeover = fsck->options.takeover,
					  .pool = fsck->pool };
	struct leg *legs[MIRROR_LEGS];
	int code;

	fsck->options.read_only = read_only;
	code = legs_open(&request, legs, error);
	if (code)
		return code;
	host_this(&options.host);
	code = mirror_open(legs, &options, &fsck->mirror, error);
	if (code) {
		fsck->mirror = NULL;
		leg_close(legs[0]);
		leg_close(legs[1]);
	}
	return code;
}

/* Nothing was written before it was known that something is to be. */
static int reopen_mirror(struct fsck *fsck, struct error *error)
{
	bool closed = mirror_close(fsck->mirror);

	fsck->mirror = NULL;
	return closed ? open_mirror(fsck, false, error) : error_set(error, -EBUSY, "a leg does not answer");
}

static int open_cache(struct fsck *fsck, struct error *error)
{
	const struct cache_config config = { .budget_bytes = CACHE_BYTES,
					     .node_floor_percent = 50,
					     .dirty_percent = 20 };

	fsck->cache = cache_create(&config);
	return fsck->cache ? 0 : error_set(error, -ENOMEM, "out of memory");
}

static void close_cache(struct fsck *fsck)
{
	cache_destroy(fsck->cache);
	fsck->cache = NULL;
}

static int open_meta(struct fsck *fsck, bool checking, struct error *error)
{
	const struct meta_options options = { .read_only = !writes(fsck), .checking = checking };
	int code = open_cache(fsck, error);

	if (code)
		return code;
	code = meta_open(fsck->mirror, fsck->cache, &options, &fsck->meta, error);
	if (code) {
		close_cache(fsck);
		fsck->meta = NULL;
	}
	return code;
}

static int close_meta(struct fsck *fsck)
{
	int code = meta_close(fsck->meta);

	close_cache(fsck);
	fsck->meta = NULL;
	return code;
}

/* ---- what lies on each leg ---- */

static void tell_leg(struct fsck *fsck, const struct mirror_status *status, int leg)
{
	const struct meta_slot *slots = fsck->slots[leg];
	char slot[META_SLOTS][64];

	if (status->leg[leg].state != MIRROR_INSYNC) {
		tell(fsck, "leg %d: %s%s%s", leg, mirror_leg_state_name(status->leg[leg].state),
		     status->leg[leg].why[0] ? ": " : "", status->leg[leg].why);
		return;
	}
	for (int i = 0; i < META_SLOTS; i++) {
		if (slots[i].valid)
			snprintf(slot[i], sizeof(slot[i]), "%llu%s", (unsigned long long)slots[i].generation,
				 slots[i].unmounted ? " (unmounted)" : "");
		else
			snprintf(slot[i], sizeof(slot[i]), "none");
	}
	tell(fsck, "leg %d: %s: label good, in sync; superblocks %s and %s", leg, status->leg[leg].address, slot[0],
	     slot[1]);
}

/* How many slots are not alike on two legs in sync. */
static unsigned int slots_differ(const struct fsck *fsck, const struct mirror_status *status)
{
	unsigned int differ = 0;

	for (int i = 0; i < META_SLOTS; i++) {
		const struct meta_slot *a = &fsck->slots[0][i], *b = &fsck->slots[1][i];

		if (status->leg[0].state == MIRROR_INSYNC && status->leg[1].state == MIRROR_INSYNC)
			differ += a->valid != b->valid || a->generation != b->generation || a->crc != b->crc;
	}
	return differ;
}

/* What a newer mirrorfs has put there is not to be put right by one that does not know what it means. */
static void heed_features(struct fsck *fsck, const struct mirror_status *status)
{
	uint64_t compat = status->compat | (fsck->newest ? fsck->newest->compat : 0);
	uint64_t ro_compat = status->ro_compat | (fsck->newest ? fsck->newest->ro_compat : 0);

	if (!compat && !ro_compat)
		return;
	tell(fsck,
	     "The volume uses features that this fsck.mirrorfs does not know (compat 0x%llx, ro_compat 0x%llx)%s.",
	     (unsigned long long)compat, (unsigned long long)ro_compat,
	     writes(fsck) ? ": it is only looked at; a newer one may put it right" : "");
	fsck->answer = ANSWER_NO;
}

/* True: nothing was done to it since it was unmounted in order, and both legs say so. */
static bool look_at_legs(struct fsck *fsck)
{
	struct mirror_status status;
	unsigned int differ;

	mirror_status(fsck->mirror, &status);
	for (int leg = 0; leg < status.identity.leg_count; leg++) {
		meta_slots(fsck->mirror, leg, fsck->slots[leg]);
		for (int i = 0; i < META_SLOTS; i++) {
			const struct meta_slot *slot = &fsck->slots[leg][i];

			if (slot->valid && (!fsck->newest || slot->generation > fsck->newest->generation))
				fsck->newest = slot;
		}
	}
	for (int leg = 0; leg < status.identity.leg_count; leg++)
		tell_leg(fsck, &status, leg);
	heed_features(fsck, &status);
	differ = slots_differ(fsck, &status);
	if (!fsck->newest)
		return false;
	if (!fsck->newest->unmounted) {
		tell(fsck, "The volume was not unmounted: the journal says what happened last%s.",
		     differ ? ", and the legs differ" : "");
		return false;
	}
	if (differ) {
		tell(fsck, "The legs differ: %u superblock%s.", differ, differ > 1 ? "s" : "");
		*(writes(fsck) ? &fsck->healed : &fsck->left) += differ;
	}
	return !differ && status.healthy;
}

/* ---- pass 1: copies ---- */

static bool copies_progress(struct meta_scrub *scrub, uint64_t done, uint64_t total)
{
	struct fsck *fsck = scrub->context;

	progress_tell(&fsck->progress, 1, done, total);
	return true;
}

/* Of data: the file and the bytes; of a node nobody can say what was in it. */
static void tell_lost(struct fsck *fsck, const struct meta_live *live, int leg)
{
	char path[4200];

	if (live->kind == fsck->lost.kind && live->address == fsck->lost.address && leg != fsck->lost_leg)
		return; /* the other leg's copy of the same */
	fsck->lost = *live;
	fsck->lost_leg = leg;
	*(live->kind == META_LIVE_NODE ? &fsck->left : &fsck->lost_data) += 1;
	if (live->kind == META_LIVE_NODE) {
		tell(fsck, "A node of the tree, at block %llu, can be read on no leg.",
		     (unsigned long long)live->address);
		return;
	}
	fs_check_path(fsck->meta, live->object, path, sizeof(path));
	tell(fsck, "%s: bytes %llu to %llu are bad on every leg, and lost.", path,
	     (unsigned long long)live->offset * FORMAT_BLOCK,
	     (unsigned long long)(live->offset + live->count) * FORMAT_BLOCK - 1);
}

static void copies_bad(struct meta_scrub *scrub, const struct meta_live *live, int leg, bool healed)
{
	struct fsck *fsck = scrub->context;

	if (scrub->lost)
		tell_lost(fsck, live, leg);
	else if (!healed)
		fsck->bad[leg] += live->count;
}

static int check_copies(struct fsck *fsck)
{
	struct meta_scrub scrub = {
		.progress = copies_progress,
		.bad = copies_bad,
		.metadata_only = !fsck->data,
		.context = fsck,
	};
	int code = meta_scrub(fsck->meta, &scrub);

	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		if (!fsck->bad[leg])
			continue;
		tell(fsck, "leg %d: %llu blocks are bad; the other leg has them.", leg,
		     (unsigned long long)fsck->bad[leg]);
		fsck->left += fsck->bad[leg];
	}
	return code;
}

/* ---- the other passes: what it all means ---- */

static bool ask(struct fsck *fsck, const char *cure)
{
	char line[16];

	for (;;) {
		printf("  Then %s: do so (y, n; a: all)? ", cure);
		fflush(stdout);
		if (!fgets(line, sizeof(line), stdin) || line[0] == 'n')
			return false;
		if (line[0] == 'a')
			fsck->answer = ANSWER_YES;
		if (line[0] == 'a' || line[0] == 'y')
			return true;
	}
}

static bool problem(struct fs_check *check, const struct fs_problem *problem)
{
	struct fsck *fsck = check->context;
	bool cure = problem->remedy == FS_REMEDY_SAFE ? fsck->answer == ANSWER_SAFE || fsck->answer == ANSWER_YES
						      : fsck->answer == ANSWER_YES;

	tell(fsck, "%s.", problem->text);
	if (problem->remedy != FS_REMEDY_NONE && fsck->answer == ANSWER_ASK)
		return ask(fsck, problem->cure);
	if (problem->remedy == FS_REMEDY_NONE)
		return false;
	if (cure)
		tell(fsck, "  So %s.", problem->cure);
	else if (writes(fsck))
		tell(fsck, "  Left as it is.");
	return cure;
}

static void meaning_progress(struct fs_check *check, int pass, uint64_t done, uint64_t total)
{
	struct fsck *fsck = check->context;

	progress_tell(&fsck->progress, 1 + pass, done, total);
}

/* ---- a tree that no leg has as a whole ---- */

static void note_loss(struct meta_rebuild *rebuild, const struct meta_loss *loss)
{
	struct fsck *fsck = rebuild->context;
	struct meta_loss *losses = reallocarray(fsck->losses, fsck->loss_count + 1, sizeof(*losses));

	fsck->cured++;
	if (!losses) /* it is told less of */
		return;
	fsck->losses = losses;
	fsck->losses[fsck->loss_count++] = *loss;
}

static void rebuild_progress(struct meta_rebuild *rebuild, uint64_t done, uint64_t total)
{
	struct fsck *fsck = rebuild->context;

	progress_tell(&fsck->progress, 1, done, total);
}

/* What lies at a key, for people. */
static void key_text(struct fsck *fsck, const struct meta_key *key, char *text, size_t size)
{
	char path[4200] = "";

	if (key->object == OBJECT_VOLUME) {
		if (key->type == TYPE_ALLOC)
			snprintf(text, size, "the record of block %llu", (unsigned long long)key->offset);
		else if (key->type == TYPE_SHARE)
			snprintf(text, size, "who shares block %llu",
				 (unsigned long long)key->offset >> SHARE_SLOT_BITS);
		else
			snprintf(text, size, "the volume's own");
		return;
	}
	fs_check_path(fsck->meta, key->object, path, sizeof(path));
	if (key->type == TYPE_EXTENT)
		snprintf(text, size, "byte %llu of %s", (unsigned long long)key->offset * FORMAT_BLOCK, path);
	else if (key->type == TYPE_DIRENT)
		snprintf(text, size, "some name in %s", path);
	else
		snprintf(text, size, "inode %llu (%s)", (unsigned long long)key->object, path);
}

/* Which files and bytes that means is told by the passes: names, records and inodes without their counterpart. */
static void tell_losses(struct fsck *fsck)
{
	char first[4400], end[4400];

	for (size_t i = 0; i < fsck->loss_count; i++) {
		const struct meta_loss *loss = &fsck->losses[i];

		key_text(fsck, &loss->first, first, sizeof(first));
		if (loss->endless)
			snprintf(end, sizeof(end), "the end");
		else
			key_text(fsck, &loss->end, end, sizeof(end));
		if (loss->leaf)
			tell(fsck, "Lost on every leg: what the tree held from %s to %s; %llu items of it were found.",
			     first, end, (unsigned long long)loss->items);
		else
			tell(fsck, "Lost on every leg: the way to what the tree holds from %s to %s; "
			     "%llu leaves of it were found, and %llu items.", first, end,
			     (unsigned long long)loss->leaves, (unsigned long long)loss->items);
	}
	free(fsck->losses);
	fsck->losses = NULL;
	fsck->loss_count = 0;
}

static void tell_damage(struct fsck *fsck)
{
	tell(fsck, "The tree is damaged: part of it can be read on no leg.");
}

/* Is the tree to be made anew? Without a word from anybody it is only looked at. */
static bool may_rebuild(struct fsck *fsck)
{
	tell_damage(fsck);
	if (fsck->answer == ANSWER_ASK)
		return ask(fsck, "it is made anew from what is found");
	if (fsck->answer == ANSWER_YES)
		tell(fsck, "  So it is made anew from what is found.");
	return fsck->answer == ANSWER_YES;
}

/* The tree is opened in the end, as far as it can be. */
static int open_damaged(struct fsck *fsck, struct error *error)
{
	struct meta_rebuild rebuild = { .lost = note_loss, .progress = rebuild_progress, .context = fsck };
	int code = 0;

	if (!may_rebuild(fsck)) {
		fsck->look_only = !fsck->meta;
		return fsck->meta ? 0 : open_meta(fsck, true, error);
	}
	if (fsck->meta)
		code = close_meta(fsck);
	if (!code)
		code = open_cache(fsck, error);
	if (code)
		return code;
	code = meta_rebuild(fsck->mirror, fsck->cache, &rebuild, error);
	close_cache(fsck);
	if (!code)
		code = open_meta(fsck, true, error);
	if (!code)
		tell_losses(fsck);
	return code;
}

/* The checkpoint that closes the volume writes the number anew. */
static void check_count(struct fsck *fsck, uint64_t blocks)
{
	if (!fsck->newest || !fsck->newest->unmounted || fsck->newest->data_blocks == blocks)
		return;
	tell(fsck, "The superblock counts %llu blocks of file data, %llu are recorded.",
	     (unsigned long long)fsck->newest->data_blocks, (unsigned long long)blocks);
	*(writes(fsck) ? &fsck->cured : &fsck->left) += 1;
}

/* What was committed last, and cannot be replayed: it is told once, as the next mount begins the journal anew. */
static void check_journal(struct fsck *fsck)
{
	struct meta_stats stats;

	meta_stats(fsck->meta, &stats);
	if (!stats.cut_off)
		return;
	tell(fsck, "A record of the journal is bad on every leg: what was done last, %llu records of it, is lost.",
	     (unsigned long long)stats.cut_off);
	fsck->lost_data++;
}

/* One look at everything. *again: cures may have uncovered more. 0 or -errno: it could not be done. */
static int look(struct fsck *fsck, bool first, bool *again, struct error *error)
{
	struct meta_super_info info;
	int code, closed;

	fsck->seen = (struct fs_check){ .problem = problem, .progress = meaning_progress, .context = fsck };
	code = open_meta(fsck, true, error);
	if (first && writes(fsck) && !mirror_failed(fsck->mirror) &&
	    (code == -EIO || (!code && meta_damage(fsck->meta)))) {
		error->text[0] = '\0';
		code = open_damaged(fsck, error);
	}
	if (code)
		return code;
	if (meta_damage(fsck->meta)) {
		if (fsck->answer == ANSWER_NO)
			tell_damage(fsck);
		tell(fsck, "  Left as it is: -y makes it anew from what is found.");
		fsck->left++;
	}
	if (first) {
		meta_super_info(fsck->meta, &info);
		check_journal(fsck);
		code = check_copies(fsck);
		check_count(fsck, info.data_blocks);
	}
	if (!code) {
		code = fs_check(fsck->meta, &fsck->seen);
		fsck->cured += fsck->seen.cured;
		fsck->left += fsck->seen.problems - fsck->seen.cured;
		*again = fsck->seen.cured;
	}
	closed = close_meta(fsck);
	if (!code)
		code = closed;
	if (code == -EIO)
		return error_set(error, code, "the check ends here: what it needs cannot be read on any leg");
	return code ? error_set(error, code, "%s", strerror(-code)) : 0;
}

/*
 * The last word is that of a mount: it deletes what has no name, and then the volume may be called clean. With -n it
 * only has to be possible.
 */
static int finish(struct fsck *fsck, struct error *error)
{
	const struct fs_options options = { .read_only = !writes(fsck) };
	struct fs *fs;
	int code = open_meta(fsck, false, error), closed;

	if (code)
		return code;
	code = fs_open(fsck->meta, fsck->cache, &options, &fs, error);
	if (!code)
		code = fs_close(fs);
	closed = close_meta(fsck);
	return code ? code : closed;
}

static int check(struct fsck *fsck, struct error *error)
{
	bool again = true;
	int code = 0;

	for (int round = 0; round < ROUNDS && again && !code && !fsck->left; round++) {
		if (round)
			tell(fsck, "Looking again.");
		code = look(fsck, !round, &again, error);
	}
	if (code)
		return code;
	if (again && writes(fsck) && !fsck->left) {
		tell(fsck, "There is no end of problems.");
		fsck->left++;
	}
	return fsck->left ? 0 : finish(fsck, error);
}

/* ---- the whole ---- */

static int tell_result(struct fsck *fsck)
{
	struct mirror_status status;

	mirror_status(fsck->mirror, &status);
	for (int leg = 0; leg < MIRROR_LEGS; leg++)
		fsck->healed += status.leg[leg].repaired;
	if (fsck->seen.directories)
		tell(fsck, "%llu directories, %llu other files, %llu blocks of data, %llu inodes without a name.",
		     (unsigned long long)fsck->seen.directories, (unsigned long long)fsck->seen.files,
		     (unsigned long long)fsck->seen.blocks, (unsigned long long)fsck->seen.nameless);
	if (fsck->healed)
		tell(fsck, "%llu blocks were healed from the other leg.", (unsigned long long)fsck->healed);
	if (fsck->cured)
		tell(fsck, "%llu problems were put right.", (unsigned long long)fsck->cured);
	if (fsck->lost_data)
		tell(fsck, "%llu losses that nothing can put right were told; the volume is sound without them.",
		     (unsigned long long)fsck->lost_data);
	if (fsck->left) {
		tell(fsck, "%s: %llu problems are left%s.", fsck->progress.device, (unsigned long long)fsck->left,
		     fsck->answer == ANSWER_SAFE ? "; run fsck.mirrorfs without -p" : "");
		return EXIT_LEFT;
	}
	if (fsck->lost_data)
		return EXIT_LEFT;
	tell(fsck, "%s: clean", fsck->progress.device);
	return fsck->healed || fsck->cured ? EXIT_CORRECTED : EXIT_CLEAN;
}

/* Damage is one thing, not having been able to look another. */
static int failed(struct fsck *fsck, int code, const struct error *error)
{
	progress_clear(&fsck->progress);
	say("%s", error->text[0] ? error->text : strerror(-code));
	if (code == -EIO && fsck->mirror && !mirror_failed(fsck->mirror)) {
		say("what no leg can give is not made up");
		return EXIT_LEFT;
	}
	return fsck->mounted_is_fine && code == -EALREADY ? EXIT_CLEAN : EXIT_OPERATION;
}

static int run(struct fsck *fsck)
{
	struct error error = { "" };
	int code, exit_code;
	bool clean;

	fsck->pool = iobuf_pool_create(POOL_BYTES, POOL_ABANDON_BYTES);
	code = fsck->pool ? open_mirror(fsck, true, &error) : -ENOMEM;
	clean = !code && look_at_legs(fsck) && !fsck->force;
	if (!code && !clean && writes(fsck))
		code = reopen_mirror(fsck, &error);
	if (!code && !clean)
		code = check(fsck, &error);
	if (code)
		exit_code = failed(fsck, code, &error);
	else
		exit_code = tell_result(fsck);
	if (fsck->mirror && !mirror_close(fsck->mirror))
		return exit_code; /* a leg still has memory of the pool */
	if (fsck->pool)
		iobuf_pool_destroy(fsck->pool);
	return exit_code;
}

/* ---- the command line ---- */

static void usage(FILE *out)
{
	fputs("usage: fsck.mirrorfs [-n|-p|-a|-y] [-f] [-C FD] [--data] [--takeover] LEG [LEG]\n"
	      "Looks through a mirrorfs volume that is not mounted, and puts it right.\n\n"
	      "  LEG              a path, nbd://HOST/EXPORT, UUID=..., LABEL=... or fault:RULES:PATH\n"
	      "  -n               look, and write nothing\n"
	      "  -p, -a           put right what loses nothing\n"
	      "  -y               put right everything\n"
	      "                   none of these: ask, on a terminal; else as -n\n"
	      "  -f, --force      look also if the volume was unmounted in order\n"
	      "      --data       read all file data on both legs, too\n"
	      "      --takeover   take legs that a dead machine has claimed, after a watch\n"
	      "  -C, -C FD        show a bar, or write lines for programs to FD\n"
	      "  -T, -l, -M       of fsck(8): -M takes a mounted volume for clean\n"
	      "  -h, --help       this text\n"
	      "  -V, --version    the version\n",
	      out);
}

static bool set_answer(struct fsck *fsck, enum answer answer)
{
	if (fsck->answer != ANSWER_ASK && fsck->answer != answer) {
		say("only one of -n, -p, -a and -y can be");
		return false;
	}
	fsck->answer = answer;
	return true;
}

static bool is_number(const char *text)
{
	size_t length = strlen(text);

	return length && length < 5 && strspn(text, "0123456789") == length;
}

/* "-C", "-C0", "-C 7": descriptor 0 stands for a bar. */
static bool set_progress(struct fsck *fsck, int argc, char **argv)
{
	const char *text = optarg;

	if (!text && optind < argc && is_number(argv[optind]))
		text = argv[optind++];
	if (text && !is_number(text)) {
		say("-C %s: not a file descriptor", text);
		return false;
	}
	fsck->progress.fd = text ? atoi(text) : 0;
	if (!fsck->progress.fd) {
		fsck->progress.fd = -1;
		fsck->progress.bar = isatty(STDOUT_FILENO);
	}
	return true;
}

enum { OPTION_DATA = 256, OPTION_TAKEOVER };

/* -1: go on; else the exit status. */
static int parse(struct fsck *fsck, int argc, char **argv)
{
	static const struct option long_options[] = { { "data", no_argument, NULL, OPTION_DATA },
						      { "takeover", no_argument, NULL, OPTION_TAKEOVER },
						      { "force", no_argument, NULL, 'f' },
						      { "help", no_argument, NULL, 'h' },
						      { "version", no_argument, NULL, 'V' },
						      { NULL, 0, NULL, 0 } };
	bool fine = true;
	int c;

	while (fine && (c = getopt_long(argc, argv, "npayfC::TlMhV", long_options, NULL)) >= 0) {
		if (c == 'n')
			fine = fsck->force = set_answer(fsck, ANSWER_NO);
		else if (c == 'p' || c == 'a')
			fine = set_answer(fsck, ANSWER_SAFE);
		else if (c == 'y')
			fine = set_answer(fsck, ANSWER_YES);
		else if (c == 'f')
			fsck->force = true;
		else if (c == OPTION_DATA)
			fsck->data = true;
		else if (c == OPTION_TAKEOVER)
			fsck->options.takeover = true;
		else if (c == 'C')
			fine = set_progress(fsck, argc, argv);
		else if (c == 'M')
			fsck->mounted_is_fine = true;
		else if (c == 'h')
			usage(stdout);
		else if (c == 'V')
			puts("fsck.mirrorfs " MIRRORFS_VERSION);
		else if (c != 'T' && c != 'l')
			fine = false;
		if (c == 'h' || c == 'V')
			return EXIT_CLEAN;
	}
	if (fine && argc - optind >= 1 && argc - optind <= MIRROR_LEGS) {
		for (int i = 0; i < argc - optind; i++)
			fsck->spec[i] = argv[optind + i];
		return -1;
	}
	usage(stderr);
	return EXIT_USAGE;
}

int main(int argc, char **argv)
{
	static struct fsck fsck = { .progress = { .passes = 1 + FS_CHECK_PASSES, .fd = -1 } };
	int code;

	options_init(&fsck.options);
	code = parse(&fsck, argc, argv);
	if (code >= 0)
		return code;
	if (fsck.answer == ANSWER_ASK && (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)))
		fsck.answer = ANSWER_NO;
	signal(SIGPIPE, SIG_IGN);
	log_set_level(LOG_LEVEL_ERROR);
	fsck.progress.device = fsck.spec[0];
	fsck.options.wait_ns = UNLOCK_NS;
	return run(&fsck);
}
