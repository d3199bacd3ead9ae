/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The sequences are a tree of processes: after each operation one more is forked for each that may come next, so what
 * sequences have in common is done once. At a cut one is forked that crashes, and ends after its check. Every
 * sequence ends with a sync and a checkpoint, cut like the rest.
 */
#include "exhaust.h"

#include "op_fs.h"
#include "report.h"
#include "world.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define SEEN_SLOTS (UINT64_C(1) << 22)
#define PATH_MAX_LENGTH 8

enum name { A, B, C, DIR, DIR2 }; /* files a and b, directory d; c and e are free at first */

static struct {
	const struct exhaust_order *order;
	struct exhaust_counts *counts;
	uint64_t *seen; /* a hash table */
	struct machine machine;
	struct fs_level *level;
	uint64_t promises; /* a hash of what was begun and what has returned */
	uint64_t changes; /* of the disks, at the last cut */
	unsigned int path[PATH_MAX_LENGTH], depth;
} ex;

/* ---- the operations ---- */

static struct oracle_file *in_root(enum name name)
{
	return ex.level->oracle.root->entries[name].file;
}

static struct oracle_file *file_in_root(enum name name)
{
	struct oracle_file *file = in_root(name);

	return file && !file->directory ? file : NULL;
}

static bool create(enum name name, bool directory)
{
	struct place at;

	if (in_root(name))
		return false;
	op_reserve(&at, ex.level->oracle.root, name);
	op_create(ex.level, &at, directory ? S_IFDIR : S_IFREG);
	op_release(&at);
	return true;
}

static bool write_at(enum name name, uint64_t offset, uint64_t length, unsigned int flags)
{
	struct oracle_file *file = file_in_root(name);

	if (!file || !op_change_begin(file))
		return false;
	op_write(ex.level, file, offset == UINT64_MAX ? file->size : offset,
		 (offset == UINT64_MAX ? file->size : offset) + length, flags);
	return true;
}

static bool truncate_to(enum name name, uint64_t size)
{
	struct oracle_file *file = file_in_root(name);

	if (!file || !op_change_begin(file))
		return false;
	op_truncate(ex.level, file, size);
	return true;
}

static bool fsync_of(struct oracle_file *file, bool data_only)
{
	if (!file)
		return false;
	op_fsync(ex.level, file, data_only);
	return true;
}

static bool remove_name(struct oracle_file *dir, enum name name)
{
	struct place at;

	if (!dir || !dir->entries[name].file)
		return false;
	op_reserve(&at, dir, name);
	op_remove(ex.level, &at, dir->entries[name].file->directory);
	op_release(&at);
	return true;
}

static bool rename_to(enum name from_name, struct oracle_file *dir, enum name to_name)
{
	struct place from, to;

	if (!dir || !dir->directory || !in_root(from_name))
		return false;
	op_reserve(&from, ex.level->oracle.root, from_name);
	op_reserve(&to, dir, to_name);
	op_rename(ex.level, &from, &to, 0);
	op_release(&to);
	op_release(&from);
	return true;
}

static bool link_as(enum name name, enum name new_name)
{
	struct place at;

	if (!file_in_root(name) || in_root(new_name))
		return false;
	op_reserve(&at, ex.level->oracle.root, new_name);
	op_link(ex.level, in_root(name), &at);
	op_release(&at);
	return true;
}

static bool create_c(void) { return create(C, false); }
static bool mkdir_e(void) { return create(DIR2, true); }
static bool write_a(void) { return write_at(A, 4000, 600, 0); }
static bool append_a(void) { return write_at(A, UINT64_MAX, 300000, 0); }
static bool append_b(void) { return write_at(B, UINT64_MAX, 2000, 0); }
static bool write_c(void) { return write_at(C, 0, 5000, 0); }
static bool write_a_through(void) { return write_at(A, 0, 8192, FS_WRITE_THROUGH); }
static bool write_a_sync(void) { return write_at(A, 0, 3000, FS_WRITE_SYNC); }
static bool truncate_a_to_0(void) { return truncate_to(A, 0); }
static bool truncate_a_to_4500(void) { return truncate_to(A, 4500); }
static bool fsync_a(void) { return fsync_of(file_in_root(A), false); }
static bool fsync_b(void) { return fsync_of(file_in_root(B), false); }
static bool fdatasync_c(void) { return fsync_of(file_in_root(C), true); }
static bool fsync_root(void) { return fsync_of(ex.level->oracle.root, false); }
static bool unlink_a(void) { return remove_name(ex.level->oracle.root, A); }
static bool unlink_b(void) { return remove_name(ex.level->oracle.root, B); }
static bool rmdir_d(void) { return remove_name(ex.level->oracle.root, DIR); }
static bool rename_a_over_b(void) { return rename_to(A, ex.level->oracle.root, B); }
static bool rename_a_to_c(void) { return rename_to(A, ex.level->oracle.root, C); }
static bool rename_a_into_d(void) { return rename_to(A, in_root(DIR), B); }
static bool rename_d_to_e(void) { return rename_to(DIR, ex.level->oracle.root, DIR2); }
static bool link_a_as_c(void) { return link_as(A, C); }

static bool sync_all(void)
{
	op_sync(ex.level, false);
	return true;
}

static bool checkpoint(void)
{
	int error = meta_checkpoint(ex.machine.meta);

	if (error)
		sim_fail("checkpoint: %s", strerror(-error));
	return true;
}

#define OP(function) { #function, function }
static const struct op {
	const char *name;
	bool (*run)(void); /* false: it makes no sense now */
} ops[] = {
	OP(create_c),	     OP(write_a),	    OP(append_a),     OP(append_b),	OP(write_c),
	OP(write_a_through), OP(write_a_sync),	    OP(fsync_a),      OP(fsync_b),	OP(fdatasync_c),
	OP(fsync_root),	     OP(rename_a_over_b),   OP(rename_a_to_c), OP(rename_a_into_d), OP(link_a_as_c),
	OP(unlink_a),	     OP(unlink_b),	    OP(truncate_a_to_0), OP(truncate_a_to_4500), OP(mkdir_e),
	OP(rmdir_d),	     OP(rename_d_to_e),	    OP(sync_all),     OP(checkpoint),
};
#define OPS (sizeof(ops) / sizeof(ops[0]))

/* ---- cuts ---- */

static void tell_path(void)
{
	char path[16 * PATH_MAX_LENGTH] = "";
	size_t at = 0;

	for (unsigned int i = 0; i < ex.depth; i++)
		at += (size_t)snprintf(path + at, sizeof(path) - at, "%s%u", i ? "." : "", ex.path[i]);
	note("replay: sim --exhaustive %u --seed %lu --path %s --verbose", ex.order->length,
	     (unsigned long)ex.order->seed, path);
}

/* True if this state was checked against the same promises; else it is noted. One process at a time comes here. */
static bool seen(uint64_t key)
{
	uint64_t slot = key % SEEN_SLOTS;

	key |= 1;
	for (unsigned int tries = 0; ex.seen[slot] && tries < 100; tries++) {
		if (ex.seen[slot] == key)
			return true;
		slot = (slot + 1) % SEEN_SLOTS;
	}
	ex.seen[slot] = key;
	return false;
}

static pid_t fork_or_fail(void)
{
	pid_t child = fork();

	if (child < 0)
		sim_fail("fork: %s", strerror(errno));
	return child;
}

static void await(pid_t child)
{
	int status;

	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	if (status)
		_exit(1); /* it has told why */
}

static void cut_as(enum machine_cut how, unsigned int sample)
{
	pid_t child = fork_or_fail();
	int lost = -1;

	ex.counts->cuts++;
	if (child) {
		await(child);
		return;
	}
	ex.machine.random = sim_random_of(ex.promises ^ ex.changes, 100 + (uint64_t)how + sample);
	if (sim_random_chance(&ex.machine.random, 8))
		lost = (int)sim_random_below(&ex.machine.random, 2);
	machine_crash_as(&ex.machine, how, lost);
	if (seen(sim_random_mix(machine_image(&ex.machine) ^ sim_random_mix(ex.promises + (uint64_t)lost))))
		_exit(0);
	ex.counts->checks++;
	tell_path();
	note("cut %d, sample %u, after %lu changes of the disks", (int)how, sample, (unsigned long)ex.changes);
	machine_mount(&ex.machine, false);
	level_fs.check(ex.level, true);
	_exit(0);
}

static void cut(void)
{
	ex.changes = ex.machine.changes;
	cut_as(MACHINE_CUT_COMPLETED, 0);
	cut_as(MACHINE_CUT_DURABLE, 0);
	for (unsigned int i = 0; i < ex.order->samples; i++)
		cut_as(MACHINE_CUT_ANY, i);
}

/* ---- sequences ---- */

struct doing {
	const struct op *op;
	bool done, sensible;
};

static void act(void *arg)
{
	struct doing *doing = arg;

	doing->sensible = doing->op->run();
	doing->done = true;
}

/* False: it makes no sense here. */
static bool perform(const struct op *op)
{
	struct doing doing = { .op = op };
	struct thread thread;

	ex.promises = sim_random_mix(ex.promises ^ (uintptr_t)op->run);
	note("---- %s", op->name);
	thread_start(&thread, "actor", act, &doing);
	while (!doing.done) {
		sim_wait_steps(2); /* one of them is this */
		if (ex.machine.changes != ex.changes)
			cut();
	}
	thread_join(&thread);
	if (!doing.sensible)
		return false;
	ex.promises = sim_random_mix(ex.promises + 1);
	cut();
	return true;
}

static void sequences(void)
{
	static const struct op last[] = { OP(sync_all), OP(checkpoint) };

	if (ex.depth == ex.order->length) {
		ex.counts->sequences++;
		for (size_t i = 0; i < sizeof(last) / sizeof(last[0]); i++)
			perform(&last[i]);
		return;
	}
	for (unsigned int i = 0; i < OPS; i++) {
		const char *asked = ex.order->path;
		pid_t child;

		for (unsigned int d = 0; asked && d < ex.depth; d++)
			asked = strchr(asked, '.') ? strchr(asked, '.') + 1 : NULL;
		if (asked && strtoul(asked, NULL, 10) != i)
			continue;
		child = fork_or_fail();
		if (child) {
			await(child);
			continue;
		}
		ex.path[ex.depth++] = i;
		if (perform(&ops[i]))
			sequences();
		_exit(0);
	}
}

static void prepare(void *arg)
{
	create(A, false);
	create(B, false);
	create(DIR, true);
	write_at(A, 0, 5000, 0);
	write_at(B, 0, 3000, 0);
	sync_all();
	checkpoint();
}

void exhaust(const struct exhaust_order *order, struct exhaust_counts *counts)
{
	struct thread thread;

	ex.order = order;
	ex.counts = counts;
	ex.seen = mmap(NULL, SEEN_SLOTS * sizeof(*ex.seen), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (ex.seen == MAP_FAILED)
		sim_fail("no memory for the table of states");
	machine_init(&ex.machine, order->seed, MACHINE_FS);
	machine_format(&ex.machine);
	machine_mount(&ex.machine, false);
	ex.level = level_fs.create(&ex.machine, order->seed);
	level_fs.check(ex.level, false);
	thread_start(&thread, "actor", prepare, NULL);
	thread_join(&thread);
	sequences();
}
