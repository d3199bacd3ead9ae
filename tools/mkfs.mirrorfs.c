/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mkfs.mirrorfs: makes a volume on one or two legs. Nothing is written to either leg before both have passed every
 * check; files that it created are removed if it fails.
 */
#include "legs.h"
#include "options.h"

#include "mirrorfs/base/iobuf.h"
#include "mirrorfs/fs.h"
#include "mirrorfs/meta.h"
#include "mirrorfs/mirror.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum { EXIT_MADE = 0, EXIT_REFUSED = 1, EXIT_USAGE = 2 };

#define POOL_BYTES ((size_t)32 << 20)

/* One leg to be. */
struct target {
	const char *address;
	char path[PATH_MAX]; /* the file or device in it, absolute */
	bool created; /* by us: to be removed on failure */
	bool foreign; /* holds something that -f lets us wipe */
	struct leg *leg;
};

struct making {
	struct target target[MIRROR_LEGS];
	int count;
	const char *label;
	uint64_t size; /* of files to be created; 0: none */
	bool force;
	bool shared; /* machines share the legs */
};

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("mkfs.mirrorfs: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
}

/* ---- checks: nothing is written here but a new file's size ---- */

static int create_image(const struct making *making, struct target *target, struct error *error)
{
	int fd;

	if (!making->size)
		return error_set(error, -ENOENT, "%s: no such file; -s SIZE creates it", target->path);
	if (making->size < LEGS_MINIMUM_BYTES)
		return error_set(error, -ENOSPC, "%s: %llu bytes are too small, a leg has at least 64 MiB",
				 target->path, (unsigned long long)making->size);
	fd = open(target->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return error_set(error, -errno, "%s: cannot create: %s", target->path, strerror(errno));
	target->created = true;
	if (ftruncate(fd, (off_t)making->size)) {
		int code = error_set(error, -errno, "%s: cannot be made %llu bytes long: %s", target->path,
				     (unsigned long long)making->size, strerror(errno));

		close(fd);
		return code;
	}
	close(fd);
	return 0;
}

static int check_signature(const struct making *making, struct target *target, struct error *error)
{
	struct mirror_label_info *info = calloc(1, sizeof(*info));
	struct leg_signature found = { .found = false };
	char uuid[UUID_TEXT_SIZE];
	int code = info ? 0 : error_set(error, -ENOMEM, "out of memory");
	/* An old label of a version that we do not know is somebody's volume as well. */
	bool ours = info && mirror_label_read(target->leg, info, NULL) != -ENODATA;

	if (!code && ours && !making->force)
		code = error_set(error, -EEXIST, "%s holds a leg of the mirrorfs volume %s%s%s; -f overrides that",
				 target->path, uuid_format(&info->identity.volume, uuid),
				 info->identity.label[0] ? ", label " : "", info->identity.label);
	if (!code && !ours)
		code = leg_probe(target->leg, &found, error);
	if (!code && found.found && !making->force)
		code = error_set(error, -EEXIST, "%s holds %s%s%s%s%s; -f overrides that", target->path, found.type,
				 found.label[0] ? ", label " : "", found.label, found.uuid[0] ? ", UUID " : "",
				 found.uuid);
	/* Whoever has it mounted, and be it on another machine, is not overwritten. */
	if (!code && ours && info->shared)
		code = mirror_claim_silent(target->leg, error);
	target->foreign = ours || found.found;
	free(info);
	return code;
}

static int check_target(const struct making *making, struct target *target, struct error *error)
{
	struct leg_options options = { .engine = LEG_ENGINE_AUTO };
	char where[PATH_MAX];
	int code = legs_path(target->address, target->path, sizeof(target->path));

	if (code)
		return error_set(error, code, "%s: %s", target->address, strerror(-code));
	if (!leg_address_elsewhere(target->address) && access(target->path, F_OK) && errno == ENOENT) {
		code = create_image(making, target, error);
		if (code)
			return code;
	}
	if (leg_in_use(target->path, where, sizeof(where)))
		return error_set(error, -EBUSY, "%s is in use: %s", target->path, where);
	code = leg_open(target->address, &options, &target->leg, error);
	if (code)
		return code;
	if (leg_geometry(target->leg)->size_bytes < LEGS_MINIMUM_BYTES)
		return error_set(error, -ENOSPC, "%s: too small (%llu MiB), a leg has at least 64 MiB", target->path,
				 (unsigned long long)(leg_geometry(target->leg)->size_bytes >> 20));
	return check_signature(making, target, error);
}

static int check_all(struct making *making, struct error *error)
{
	const char *const address[MIRROR_LEGS] = { making->target[0].address, making->target[1].address };
	int code = legs_refuse_same(address, error);

	for (int i = 0; i < making->count && !code; i++)
		code = check_target(making, &making->target[i], error);
	if (!code && making->count == 2 &&
	    leg_geometry_same_disk(leg_geometry(making->target[0].leg), leg_geometry(making->target[1].leg)))
		say("warning: both legs lie on one disk or filesystem; what breaks it breaks both");
	return code;
}

/* ---- making ---- */

/* What must never run out of space in a sparse image: labels, slots, ring and reserve. */
static int allocate_image(const struct target *target, uint64_t space, struct error *error)
{
	struct range_extent fixed[META_FIXED_EXTENTS];
	uint64_t blocks = 0;
	int code;

	meta_fixed_extents(space, fixed);
	code = leg_allocate(target->leg, 0, MIRROR_SPACE_OFFSET);
	for (int i = 0; i < META_FIXED_EXTENTS && !code; i++) {
		blocks += fixed[i].length;
		code = leg_allocate(target->leg, MIRROR_SPACE_OFFSET + fixed[i].start * MIRROR_BLOCK,
				    fixed[i].length * MIRROR_BLOCK);
	}
	if (!code)
		return 0;
	return error_set(error, code, "%s: no room for %llu MiB of labels, journal and reserve: %s", target->path,
			 (unsigned long long)(MIRROR_SPACE_OFFSET + blocks * MIRROR_BLOCK) >> 20, strerror(-code));
}

/* Of the smaller leg: both have the same space. */
static uint64_t space_of(const struct making *making)
{
	uint64_t space = UINT64_MAX;

	for (int i = 0; i < making->count; i++) {
		uint64_t blocks = mirror_space_blocks(leg_geometry(making->target[i].leg)->size_bytes);

		if (blocks < space)
			space = blocks;
	}
	return space;
}

/* Takes over the legs. */
static int format_space(struct leg *legs[MIRROR_LEGS], bool shared, struct iobuf_pool *pool, struct error *error)
{
	struct mirror_options options = { .pool = pool, .shared = shared };
	struct format_inode root;
	struct mirror *mirror = NULL;
	int code;

	host_this(&options.host);
	code = mirror_open(legs, &options, &mirror, error);
	if (code) {
		leg_close(legs[0]);
		leg_close(legs[1]);
		return code;
	}
	fs_format_root(&root, getuid(), getgid());
	code = meta_format(mirror, &root, error);
	mirror_close(mirror);
	return code;
}

static int make(struct making *making, struct mirror_identity *identity, uint64_t *blocks, struct error *error)
{
	struct iobuf_pool *pool = iobuf_pool_create(POOL_BYTES, POOL_BYTES);
	struct leg *legs[MIRROR_LEGS] = { making->target[0].leg, making->target[1].leg };
	int code = pool ? 0 : error_set(error, -ENOMEM, "out of memory");

	for (int i = 0; i < making->count && !code; i++)
		code = allocate_image(&making->target[i], space_of(making), error);
	for (int i = 0; i < making->count && !code; i++)
		if (making->target[i].foreign)
			code = leg_wipe(legs[i], error);
	if (!code)
		code = mirror_format(legs, making->label, identity, blocks, error);
	if (!code) {
		making->target[0].leg = making->target[1].leg = NULL;
		code = format_space(legs, making->shared, pool, error);
	}
	for (int i = 0; i < making->count; i++)
		leg_close(making->target[i].leg);
	if (pool)
		iobuf_pool_destroy(pool);
	return code;
}

static void tell(const struct making *making, const struct mirror_identity *identity, uint64_t blocks)
{
	const char *second = making->count == 2 ? making->target[1].address : "";
	char uuid[UUID_TEXT_SIZE];

	printf("Made mirrorfs volume %s%s%s of %llu MiB on %s.\n", uuid_format(&identity->volume, uuid),
	       making->label[0] ? ", label " : "", making->label,
	       (unsigned long long)(blocks * MIRROR_BLOCK >> 20), making->count == 2 ? "two legs" : "a single leg");
	printf("Mount it with: mirrorfs %s%s%s MOUNTPOINT\n", making->target[0].address, *second ? " " : "", second);
}

static int run(struct making *making)
{
	struct mirror_identity identity = { .leg_count = 0 };
	struct error error = { "" };
	uint64_t blocks = 0;
	int code = check_all(making, &error);

	if (!code) {
		code = make(making, &identity, &blocks, &error);
	} else {
		for (int i = 0; i < making->count; i++)
			leg_close(making->target[i].leg);
	}
	if (!code) {
		tell(making, &identity, blocks);
		return EXIT_MADE;
	}
	for (int i = 0; i < making->count; i++)
		if (making->target[i].created)
			unlink(making->target[i].path);
	say("%s", error.text[0] ? error.text : strerror(-code));
	return EXIT_REFUSED;
}

/* ---- the command line ---- */

static void usage(FILE *out)
{
	fputs("usage: mkfs.mirrorfs [-f] [-L LABEL] [-s SIZE] [--shared] LEG [LEG]\n"
	      "Makes a mirrorfs volume on one or two block devices, image files or NBD exports.\n\n"
	      "  -L, --label LABEL  name of the volume, at most 63 bytes\n"
	      "  -s, --size SIZE    create missing image files of this size (K, M, G, T)\n"
	      "  -f, --force        overwrite what a leg holds, if it is not in use\n"
	      "      --shared       other machines can open the legs: a mount claims them\n"
	      "  -h, --help         this text\n"
	      "  -V, --version      the version\n",
	      out);
}

enum { OPTION_SHARED = 256 };

int main(int argc, char **argv)
{
	static const struct option long_options[] = { { "label", required_argument, NULL, 'L' },
						      { "size", required_argument, NULL, 's' },
						      { "force", no_argument, NULL, 'f' },
						      { "shared", no_argument, NULL, OPTION_SHARED },
						      { "help", no_argument, NULL, 'h' },
						      { "version", no_argument, NULL, 'V' },
						      { NULL, 0, NULL, 0 } };
	static struct making making = { .label = "" };
	int c;

	while ((c = getopt_long(argc, argv, "L:s:fhV", long_options, NULL)) >= 0) {
		switch (c) {
		case 'L':
			making.label = optarg;
			if (strlen(optarg) >= sizeof(((struct mirror_identity *)0)->label)) {
				say("label '%s' is longer than 63 bytes", optarg);
				return EXIT_USAGE;
			}
			break;
		case 's':
			if (!options_size(optarg, &making.size) || making.size > INT64_MAX) {
				say("'%s' is not a size", optarg);
				return EXIT_USAGE;
			}
			break;
		case 'f':
			making.force = true;
			break;
		case OPTION_SHARED:
			making.shared = true;
			break;
		case 'h':
			usage(stdout);
			return EXIT_MADE;
		case 'V':
			puts("mkfs.mirrorfs " MIRRORFS_VERSION);
			return EXIT_MADE;
		default:
			usage(stderr);
			return EXIT_USAGE;
		}
	}
	making.count = argc - optind;
	if (making.count < 1 || making.count > MIRROR_LEGS) {
		usage(stderr);
		return EXIT_USAGE;
	}
	for (int i = 0; i < making.count; i++)
		making.target[i].address = argv[optind + i];
	return run(&making);
}
