/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How long requests take: from when a thread has one to when its answer has been given. How long it had waited for a
 * thread before, only the kernel knows.
 *
 * What the kernel has more than one opcode for is one operation here.
 */
#include "front_private.h"

#include "mirrorfs/base/clock.h"
#include "mirrorfs/base/probe.h"

#include <errno.h>

enum { COUNTER_BYTES = FRONT_ERRORS };
_Static_assert(COUNTER_BYTES < HISTOGRAM_COUNTERS, "each series has room for these counters");

/* By opcode. 0 is none: there goes what has no name here. */
static const char *const names[FRONT_OPS] = {
	[0] = "other",
	[FUSE_LOOKUP] = "lookup",
	[FUSE_FORGET] = "forget",
	[FUSE_GETATTR] = "getattr",
	[FUSE_SETATTR] = "setattr",
	[FUSE_READLINK] = "readlink",
	[FUSE_SYMLINK] = "symlink",
	[FUSE_MKNOD] = "mknod",
	[FUSE_MKDIR] = "mkdir",
	[FUSE_UNLINK] = "unlink",
	[FUSE_RMDIR] = "rmdir",
	[FUSE_RENAME] = "rename",
	[FUSE_LINK] = "link",
	[FUSE_OPEN] = "open",
	[FUSE_READ] = "read",
	[FUSE_WRITE] = "write",
	[FUSE_STATFS] = "statfs",
	[FUSE_RELEASE] = "release",
	[FUSE_FSYNC] = "fsync",
	[FUSE_FLUSH] = "flush",
	[FUSE_SETXATTR] = "setxattr",
	[FUSE_GETXATTR] = "getxattr",
	[FUSE_LISTXATTR] = "listxattr",
	[FUSE_REMOVEXATTR] = "removexattr",
	[FUSE_OPENDIR] = "opendir",
	[FUSE_READDIR] = "readdir",
	[FUSE_RELEASEDIR] = "releasedir",
	[FUSE_FSYNCDIR] = "fsyncdir",
	[FUSE_CREATE] = "create",
	[FUSE_IOCTL] = "ioctl",
	[FUSE_FALLOCATE] = "fallocate",
	[FUSE_LSEEK] = "lseek",
	[FUSE_COPY_FILE_RANGE] = "copy",
	[OPCODE_SYNCFS] = "syncfs",
};

static unsigned int series_of(uint32_t opcode)
{
	switch (opcode) {
	case FUSE_BATCH_FORGET:
		return FUSE_FORGET;
	case FUSE_READDIRPLUS:
		return FUSE_READDIR;
	case FUSE_RENAME2:
		return FUSE_RENAME;
	case OPCODE_TMPFILE:
		return FUSE_CREATE;
	case OPCODE_STATX:
		return FUSE_GETATTR;
	}
	return opcode < FRONT_OPS && names[opcode] ? opcode : 0;
}

static enum front_error class_of(int error)
{
	switch (error) {
	case ENOSPC:
	case EDQUOT:
		return FRONT_ERROR_SPACE;
	case EROFS:
		return FRONT_ERROR_READ_ONLY;
	case EIO:
	case ETIMEDOUT:
	case ENOMEM:
	case EUCLEAN:
		return FRONT_ERROR_IO;
	}
	return FRONT_ERROR_CALLER;
}

void measure_begin(struct front_entry *entry)
{
	const struct fuse_in_header *in = (const void *)entry->request;

	entry->error = 0;
	entry->answered_bytes = 0;
	entry->opcode = in->opcode;
	atomic_store_explicit(&entry->series, series_of(entry->opcode), memory_order_relaxed);
	atomic_store_explicit(&entry->node, in->nodeid, memory_order_relaxed);
	atomic_store_explicit(&entry->pid, in->pid, memory_order_relaxed);
	atomic_store_explicit(&entry->began_ns, clock_now_ns(), memory_order_release);
	probe4(request_begin, entry->opcode, in->unique, in->nodeid, in->pid);
}

void measure_answer(struct front_entry *entry, const struct fuse_out_header *out)
{
	/* With ENOSYS the kernel is told that it need not ask again. */
	entry->error = out->error == -ENOSYS ? 0 : -out->error;
	entry->answered_bytes = out->len - (uint32_t)sizeof(*out);
}

static void transfer_end(struct front_entry *entry, bool write, uint64_t now_ns, uint64_t took_ns)
{
	const void *argument = entry->request + sizeof(struct fuse_in_header);
	const struct fuse_write_in *write_in = argument;
	const struct fuse_read_in *read_in = argument;
	uint32_t bytes = write ? write_in->size : entry->answered_bytes;

	histograms_count(entry->front->times, write ? FUSE_WRITE : FUSE_READ, COUNTER_BYTES, bytes);
	if (entry->front->iolog)
		iolog_add(entry->front->iolog, write, now_ns, took_ns, write ? write_in->offset : read_in->offset,
			  bytes);
}

void measure_end(struct front_entry *entry)
{
	struct histograms *times = entry->front->times;
	unsigned int series = series_of(entry->opcode);
	uint64_t now_ns = clock_now_ns();
	uint64_t took_ns = now_ns - atomic_load_explicit(&entry->began_ns, memory_order_relaxed);

	atomic_store_explicit(&entry->began_ns, 0, memory_order_relaxed);
	probe3(request_end, entry->opcode, entry->error, took_ns);

	histograms_add(times, series, took_ns);
	if (entry->error)
		histograms_count(times, series, class_of(entry->error), 1);
	else if (series == FUSE_READ || series == FUSE_WRITE)
		transfer_end(entry, series == FUSE_WRITE, now_ns, took_ns);
}

size_t front_in_flight(struct front *front, struct front_in_flight *list, size_t most)
{
	uint64_t now_ns = clock_now_ns();
	size_t count = 0;

	for (unsigned int i = 0; i < front->entry_count && count < most; i++) {
		struct front_entry *entry = &front->entries[i];
		uint64_t began_ns = atomic_load_explicit(&entry->began_ns, memory_order_acquire);

		if (began_ns && began_ns <= now_ns)
			list[count++] = (struct front_in_flight){ .op = names[atomic_load(&entry->series)],
								  .node = atomic_load(&entry->node),
								  .since_ns = now_ns - began_ns,
								  .pid = atomic_load(&entry->pid) };
	}
	return count;
}

const char *front_op_name(unsigned int op)
{
	return op < FRONT_OPS ? names[op] : NULL;
}

const char *front_error_name(enum front_error error)
{
	static const char *const error_names[FRONT_ERRORS] = {
		[FRONT_ERROR_CALLER] = "caller",
		[FRONT_ERROR_SPACE] = "space",
		[FRONT_ERROR_READ_ONLY] = "read-only",
		[FRONT_ERROR_IO] = "io",
	};

	return (unsigned int)error < FRONT_ERRORS ? error_names[error] : "unknown";
}

void front_times(struct front *front, unsigned int op, struct front_times *times)
{
	histograms_read(front->times, op, &times->took);
	for (int error = 0; error < FRONT_ERRORS; error++)
		times->errors[error] = times->took.counter[error];
	times->bytes = times->took.counter[COUNTER_BYTES];
}
