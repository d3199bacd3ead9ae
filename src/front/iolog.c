/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The log of reads and writes in fio's own format: PREFIX_lat.log (ns), PREFIX_bw.log (KiB/s), PREFIX_iops.log. A line
 * is "time since the mount in ms, value, 0 for read or 1 for write, bytes, offset"; for a window of time the value is
 * the mean, and bytes and offset are 0.
 *
 * There is one epoch, the mount. What is counted is never set back: a window is the difference between two looks at
 * counters that only grow, so whatever ends when, it is in exactly one window, and the last one is written when the
 * mount ends, however short it was. Nothing here makes a request wait: without windows, what the writer has no room
 * for is left out, and the daemon's log says at the end how much that was.
 */
#include "front_private.h"

#include "mirrorfs/base/clock.h"
#include "mirrorfs/base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DIRECTIONS 2
#define RECORDS (1u << 16) /* that may wait for the writer */
#define WRITE_MSEC 500 /* it writes at least so often */

enum { COUNTER_OPS, COUNTER_BYTES };
enum { LAT, BW, IOPS, LOGS };

struct record {
	uint64_t ended_ns, took_ns, offset;
	uint32_t bytes, direction;
};

struct iolog {
	FILE *file[LOGS];
	uint64_t epoch_ns, window_ns; /* 0: a line for each request */
	struct thread thread;
	struct mutex lock; /* RANK_LEAF */
	struct cond moved;
	bool ending, failed;
	struct histograms *counted; /* windows: by direction */
	struct histogram told[DIRECTIONS]; /* so much is in the windows that were written; the writer's own */
	uint64_t told_ns;
	struct record *records; /* each request: those that wait; under the lock */
	struct record *writing; /* the writer's own */
	unsigned int count;
	uint64_t latest_ns; /* of the records; under the lock */
	uint64_t left_out;
};

/* ---- adding ---- */

void iolog_add(struct iolog *iolog, bool write, uint64_t ended_ns, uint64_t took_ns, uint64_t offset, uint32_t bytes)
{
	if (iolog->window_ns) {
		histograms_add(iolog->counted, write, took_ns);
		histograms_count(iolog->counted, write, COUNTER_BYTES, bytes);
		histograms_count(iolog->counted, write, COUNTER_OPS, 1);
		return;
	}
	mutex_lock(&iolog->lock);
	/* Who was held up on the way here is told as if he had ended now: in a log time does not go backwards. */
	iolog->latest_ns = ended_ns > iolog->latest_ns ? ended_ns : iolog->latest_ns;
	ended_ns = iolog->latest_ns;
	if (iolog->count < RECORDS)
		iolog->records[iolog->count++] = (struct record){ ended_ns, took_ns, offset, bytes, write };
	else
		iolog->left_out++;
	if (iolog->count == RECORDS / 2)
		cond_signal(&iolog->moved);
	mutex_unlock(&iolog->lock);
}

/* ---- writing ---- */

static void line(struct iolog *iolog, int log, uint64_t at_ns, uint64_t value, unsigned int direction, uint32_t bytes,
		 uint64_t offset)
{
	fprintf(iolog->file[log], "%llu, %llu, %u, %u, %llu\n",
		(unsigned long long)((at_ns - iolog->epoch_ns) / NSEC_PER_MSEC), (unsigned long long)value, direction,
		bytes, (unsigned long long)offset);
}

static void window_write(struct iolog *iolog)
{
	uint64_t now_ns = clock_now_ns(), length_ns = now_ns - iolog->told_ns;
	double seconds = (double)(length_ns ? length_ns : 1) / 1e9;
	struct histogram now;

	for (unsigned int direction = 0; direction < DIRECTIONS; direction++) {
		struct histogram *told = &iolog->told[direction];
		uint64_t ops, bytes;

		histograms_read(iolog->counted, direction, &now);
		ops = now.counter[COUNTER_OPS] - told->counter[COUNTER_OPS];
		bytes = now.counter[COUNTER_BYTES] - told->counter[COUNTER_BYTES];
		if (!ops)
			continue;
		line(iolog, LAT, now_ns, (now.sum_ns - told->sum_ns) / ops, direction, 0, 0);
		line(iolog, BW, now_ns, (uint64_t)((double)bytes / 1024 / seconds), direction, 0, 0);
		line(iolog, IOPS, now_ns, (uint64_t)((double)ops / seconds + 0.5), direction, 0, 0);
		*told = now;
	}
	iolog->told_ns = now_ns;
}

/* Lock held at call and return, not meanwhile. */
static void records_write_locked(struct iolog *iolog)
{
	struct record *records = iolog->records;
	unsigned int count = iolog->count;

	iolog->records = iolog->writing;
	iolog->writing = records;
	iolog->count = 0;
	mutex_unlock(&iolog->lock);
	for (unsigned int i = 0; i < count; i++) {
		const struct record *one = &records[i];
		double seconds = (double)(one->took_ns ? one->took_ns : 1) / 1e9;

		line(iolog, LAT, one->ended_ns, one->took_ns, one->direction, one->bytes, one->offset);
		line(iolog, BW, one->ended_ns, (uint64_t)(one->bytes / 1024.0 / seconds), one->direction, one->bytes,
		     one->offset);
		line(iolog, IOPS, one->ended_ns, 1, one->direction, one->bytes, one->offset);
	}
	mutex_lock(&iolog->lock);
}

static void write_all(struct iolog *iolog)
{
	for (int log = 0; log < LOGS; log++) {
		if (!iolog->failed && (fflush(iolog->file[log]) || ferror(iolog->file[log]))) {
			log_error("iolog: cannot be written, what comes is missing in it: %s", strerror(errno));
			iolog->failed = true;
		}
	}
}

static void writer_run(void *arg)
{
	struct iolog *iolog = arg;
	uint64_t step_ns = iolog->window_ns ? iolog->window_ns : WRITE_MSEC * NSEC_PER_MSEC, due_ns = iolog->epoch_ns;
	bool ending;

	mutex_lock(&iolog->lock);
	do {
		/* Ends of windows that passed while we were held up are one: the next is where it would have been. */
		while (due_ns <= clock_now_ns())
			due_ns += step_ns;
		while (!iolog->ending && iolog->count < RECORDS / 2 &&
		       cond_wait_until(&iolog->moved, &iolog->lock, due_ns))
			;
		ending = iolog->ending;
		if (iolog->window_ns) {
			mutex_unlock(&iolog->lock);
			window_write(iolog);
			mutex_lock(&iolog->lock);
		} else {
			records_write_locked(iolog);
		}
		write_all(iolog);
	} while (!ending);
	mutex_unlock(&iolog->lock);
}

/* ---- life ---- */

static int files_open(struct iolog *iolog, const char *prefix, struct error *error)
{
	static const char *const names[LOGS] = { [LAT] = "lat", [BW] = "bw", [IOPS] = "iops" };
	char path[4200];

	for (int log = 0; log < LOGS; log++) {
		snprintf(path, sizeof(path), "%s_%s.log", prefix, names[log]);
		iolog->file[log] = fopen(path, "we");
		if (!iolog->file[log])
			return error_set(error, -errno, "iolog: %s: %s", path, strerror(errno));
	}
	return 0;
}

static void iolog_free(struct iolog *iolog)
{
	for (int log = 0; log < LOGS; log++)
		if (iolog->file[log])
			fclose(iolog->file[log]);
	cond_fini(&iolog->moved);
	mutex_fini(&iolog->lock);
	histograms_destroy(iolog->counted);
	free(iolog->records);
	free(iolog->writing);
	free(iolog);
}

int iolog_open(const char *prefix, unsigned int msec, struct iolog **result, struct error *error)
{
	struct iolog *iolog = calloc(1, sizeof(*iolog));
	int code;

	if (!iolog)
		return error_set(error, -ENOMEM, "out of memory");
	mutex_init(&iolog->lock, RANK_LEAF);
	cond_init(&iolog->moved);
	iolog->epoch_ns = iolog->told_ns = clock_now_ns();
	iolog->window_ns = msec * NSEC_PER_MSEC;
	if (msec) {
		iolog->counted = histograms_create(DIRECTIONS);
	} else {
		iolog->records = calloc(RECORDS, sizeof(*iolog->records));
		iolog->writing = calloc(RECORDS, sizeof(*iolog->writing));
	}
	if (msec ? !iolog->counted : !iolog->records || !iolog->writing)
		code = error_set(error, -ENOMEM, "out of memory");
	else
		code = files_open(iolog, prefix, error);
	if (!code)
		code = thread_start(&iolog->thread, "iolog", writer_run, iolog);
	if (code) {
		iolog_free(iolog);
		return code;
	}
	*result = iolog;
	return 0;
}

void iolog_close(struct iolog *iolog)
{
	if (!iolog)
		return;
	mutex_lock(&iolog->lock);
	iolog->ending = true;
	cond_signal(&iolog->moved);
	mutex_unlock(&iolog->lock);
	thread_join(&iolog->thread);
	if (iolog->left_out)
		log_warn("iolog: the disk was too slow for it: requests=%llu are missing",
			 (unsigned long long)iolog->left_out);
	iolog_free(iolog);
}
