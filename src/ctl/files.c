/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which files have blocks on one leg alone. So many are named, each with so many of its ranges; all are counted. The
 * walk through a large volume takes its time, and whoever has asked hears now and then that it goes on.
 */
#include "ctl_private.h"

#include "mirrorfs/base/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define FILES_MAX 1000u
#define RANGES_MAX 16u
#define SIGN_NS (5 * NSEC_PER_SEC) /* of life */
#define INT(value) ((json_int_t)(value))

struct range_of_file {
	uint64_t from, to; /* blocks */
};

struct file {
	uint64_t blocks;
	size_t ranges; /* those above RANGES_MAX are counted */
	struct range_of_file range[RANGES_MAX];
};

struct listing {
	struct ctl *ctl;
	struct meta_missing walk;
	uint64_t files, blocks, object, signed_ns;
	struct range_of_file latest; /* piece */
	struct file file[FILES_MAX];
	struct fs_path path[FILES_MAX];
};

/* False: the mount ends. */
static bool go_on(void *context)
{
	struct listing *listing = context;
	uint64_t now = clock_now_ns();

	if (now - listing->signed_ns > SIGN_NS) {
		listing->signed_ns = now;
		send(listing->ctl->files.fd, "\n", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	}
	return !atomic_load(&listing->ctl->files_stop);
}

static bool piece(struct meta_missing *walk, uint64_t object, uint64_t offset, uint32_t count)
{
	struct listing *listing = walk->context;
	bool begins = !listing->files || listing->object != object, joins = !begins && listing->latest.to == offset;
	struct file *file;

	listing->files += begins;
	listing->blocks += count;
	listing->object = object;
	listing->latest = (struct range_of_file){ .from = offset, .to = offset + count };
	if (listing->files <= FILES_MAX) {
		file = &listing->file[listing->files - 1];
		listing->path[listing->files - 1].inode = object;
		file->blocks += count;
		file->ranges += !joins;
		if (file->ranges <= RANGES_MAX && joins)
			file->range[file->ranges - 1].to = offset + count;
		else if (file->ranges <= RANGES_MAX)
			file->range[file->ranges - 1] = listing->latest;
	}
	return go_on(listing);
}

static json_t *file_json(const struct file *file, const struct fs_path *path)
{
	json_t *ranges = json_array();

	for (size_t i = 0; i < file->ranges && i < RANGES_MAX; i++)
		json_array_append_new(ranges, json_pack("{s:I, s:I}", "from", INT(file->range[i].from * MIRROR_BLOCK),
							"to", INT(file->range[i].to * MIRROR_BLOCK)));
	return json_pack("{s:o, s:I, s:I, s:o, s:I}", "file", command_text(path->path), "inode", INT(path->inode),
			 "bytes", INT(file->blocks * MIRROR_BLOCK), "ranges", ranges, "more_ranges",
			 INT(file->ranges > RANGES_MAX ? file->ranges - RANGES_MAX : 0));
}

static json_t *listing_json(struct listing *listing, int error)
{
	size_t told = listing->files < FILES_MAX ? listing->files : FILES_MAX;
	json_t *files = json_array();
	uint64_t blocks = 0;

	fs_check_paths(listing->ctl->subjects.meta, listing->path, told, go_on, listing);
	for (size_t i = 0; i < told; i++) {
		json_array_append_new(files, file_json(&listing->file[i], &listing->path[i]));
		blocks += listing->file[i].blocks;
	}
	return json_pack("{s:s, s:i, s:o, s:I, s:I, s:I, s:I, s:s}", "health", status_health(&listing->ctl->subjects),
			 "lacking_leg", listing->walk.leg, "files", files, "bytes", INT(listing->blocks * MIRROR_BLOCK),
			 "more_files", INT(listing->files - told), "more_bytes",
			 INT((listing->blocks - blocks) * MIRROR_BLOCK), "metadata_bytes",
			 INT(listing->walk.node_blocks * MIRROR_BLOCK), "error", error ? strerror(-error) : "");
}

static void files_run(void *arg)
{
	struct ctl *ctl = arg;
	struct listing *listing = calloc(1, sizeof(*listing));
	int error = -ENOMEM;

	if (listing) {
		listing->ctl = ctl;
		listing->signed_ns = clock_now_ns();
		listing->walk = (struct meta_missing){ .piece = piece, .context = listing };
		error = meta_missing(ctl->subjects.meta, &listing->walk);
	}
	if (!listing || error == -EINTR)
		worker_answer(&ctl->files, "error",
			      command_error(error, listing ? "the volume is being unmounted" : "out of memory"));
	else
		worker_answer(&ctl->files, "result", listing_json(listing, error));
	free(listing);
}

void files_command(struct ctl *ctl, int fd, const json_t *request)
{
	if (ctl->subjects.meta)
		worker_start(&ctl->files, "files", fd, request, files_run, ctl);
	else
		command_answer_error(fd, -EOPNOTSUPP, "there are no files");
}

void files_end(struct ctl *ctl)
{
	atomic_store(&ctl->files_stop, true);
	worker_end(&ctl->files);
}
