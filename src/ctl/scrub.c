/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Scrub in the background: one at a time, on a thread of its own, which nobody has to wait for.
 *
 * Others go first: while the mount is used, a scrub reads little at a time and rests three times as long as that took;
 * so it goes on however busy the mount is. What it has done is kept in the slots once a minute and when it stops. What
 * the end of the mount has stopped goes on with the next one; what a person has stopped, when it is started again.
 *
 * What it finds is told in the log at once, by file and range of bytes, and kept for whoever asks.
 */
#include "ctl_private.h"

#include "mirrorfs/base/clock.h"
#include "mirrorfs/base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REST_FACTOR 3u
#define REST_MAX_NS NSEC_PER_SEC
#define KEEP_NS (60 * NSEC_PER_SEC)
#define INT(value) ((json_int_t)(value))

static uint64_t now_seconds(void)
{
	uint32_t nanoseconds;
	int64_t seconds;

	clock_wall(&seconds, &nanoseconds);
	return (uint64_t)seconds;
}

static bool bytes_of(const struct ctl_finding *finding)
{
	return finding->live.kind == META_LIVE_DATA;
}

/* ---- findings ---- */

static void finding_add(struct meta_scrub *run, const struct meta_live *live, int leg, bool healed)
{
	struct ctl *ctl = run->context;
	struct ctl_scrub *scrub = &ctl->scrub;

	mutex_lock(&scrub->lock);
	if (scrub->finding_count < (healed ? CTL_FINDINGS_HEALED : CTL_FINDINGS))
		scrub->findings[scrub->finding_count++] =
			(struct ctl_finding){ .live = *live, .leg = leg, .healed = healed, .lost = run->lost };
	mutex_unlock(&scrub->lock);
}

static const char *fate(const struct ctl_finding *finding)
{
	return finding->healed ? "healed" : finding->lost ? "unrecoverable" : "not-healed";
}

/* One line in the log, one event. What is lost is not a matter of one leg. */
static void finding_tell(struct ctl *ctl, const struct ctl_finding *finding)
{
	json_t *more = json_pack("{s:I, s:I}", "block", INT(finding->live.address), "count", INT(finding->live.count));
	unsigned long long from = finding->live.offset * MIRROR_BLOCK,
			   to = (finding->live.offset + finding->live.count) * MIRROR_BLOCK;
	char text[CTL_FINDING_PATH + 256], leg[16] = "";

	if (!finding->lost) {
		json_object_set_new(more, "leg", json_integer(finding->leg));
		snprintf(leg, sizeof(leg), " leg=%d", finding->leg);
	}
	if (bytes_of(finding)) {
		snprintf(text, sizeof(text), "scrub: %s:%s file=\"%s\" inode=%llu bytes=%llu-%llu", fate(finding), leg,
			 finding->path, (unsigned long long)finding->live.object, from, to);
		json_object_set_new(more, "file", command_text(finding->path));
		json_object_set_new(more, "from", json_integer(INT(from)));
		json_object_set_new(more, "to", json_integer(INT(to)));
	} else {
		snprintf(text, sizeof(text), "scrub: %s:%s metadata at block=%llu count=%u", fate(finding), leg,
			 (unsigned long long)finding->live.address, finding->live.count);
	}
	log_warn("%s", text);
	events_add(ctl, fate(finding), true, more, "%s", text);
}

/* As lost on the other leg. A block that files share is each one's loss. */
static bool is_told(const struct ctl_scrub *scrub, const struct ctl_finding *finding)
{
	for (const struct ctl_finding *told = scrub->findings; told < finding && finding->lost; told++) {
		if (told->lost && told->live.address == finding->live.address &&
		    told->live.count == finding->live.count && told->live.object == finding->live.object &&
		    told->live.offset == finding->live.offset)
			return true;
	}
	return false;
}

/* Names are looked for when nothing is pinned. Only this thread adds findings and names them. */
static void findings_tell(struct ctl *ctl)
{
	struct ctl_scrub *scrub = &ctl->scrub;

	for (; scrub->told < scrub->finding_count; scrub->told++) {
		struct ctl_finding *finding = &scrub->findings[scrub->told], *before = finding - 1;
		char path[CTL_FINDING_PATH] = "";

		if (bytes_of(finding) && scrub->told && before->live.object == finding->live.object)
			strcpy(path, before->path);
		else if (bytes_of(finding))
			fs_check_path(ctl->subjects.meta, finding->live.object, path, sizeof(path));
		mutex_lock(&scrub->lock);
		strcpy(finding->path, path);
		mutex_unlock(&scrub->lock);
		if (!is_told(scrub, finding))
			finding_tell(ctl, finding);
	}
}

/* ---- the run ---- */

static void state_take(struct ctl_scrub *scrub, const struct meta_scrub *run, uint64_t done)
{
	scrub->state.position = run->position;
	scrub->state.done = done;
	scrub->state.blocks = run->blocks;
	scrub->state.repaired = run->repaired;
	scrub->state.unrecoverable = run->unrecoverable;
}

static uint64_t requests_of(const struct ctl *ctl)
{
	struct front_stats stats = { .requests = 0 };

	if (ctl->subjects.front)
		front_stats(ctl->subjects.front, &stats);
	return stats.requests;
}

/* How long to rest after the piece of work just done. */
static uint64_t rest_ns(struct ctl *ctl, struct meta_scrub *run, uint64_t done, uint64_t took)
{
	struct ctl_scrub *scrub = &ctl->scrub;
	uint64_t requests = requests_of(ctl), limit = scrub->limit, rest = 0;
	bool busy = requests != scrub->requests;

	scrub->requests = requests;
	if (busy)
		rest = took < REST_MAX_NS / REST_FACTOR ? REST_FACTOR * took : REST_MAX_NS;
	if (limit) {
		double due = (double)((done - scrub->state.done) * MIRROR_BLOCK) / (double)limit *
			     (double)NSEC_PER_SEC;

		if (due > (double)(took + rest))
			rest = (uint64_t)due - took;
	}
	run->gently = busy || limit;
	return rest;
}

static bool progress(struct meta_scrub *run, uint64_t done, uint64_t total)
{
	struct ctl *ctl = run->context;
	struct ctl_scrub *scrub = &ctl->scrub;
	uint64_t now = clock_now_ns(), rest = rest_ns(ctl, run, done, now - scrub->worked_ns);
	struct meta_scrub_state keep;
	bool stop;

	findings_tell(ctl);
	mutex_lock(&scrub->lock);
	state_take(scrub, run, done);
	scrub->total = total;
	keep = scrub->state;
	while (rest && !scrub->stop && cond_wait_until(&scrub->moved, &scrub->lock, now + rest))
		;
	stop = scrub->stop;
	mutex_unlock(&scrub->lock);
	if (!stop && now - scrub->kept_ns > KEEP_NS) {
		scrub->kept_ns = now;
		/* What has failed says so itself. */
		(void)meta_scrub_remember(ctl->subjects.meta, &keep, true);
	}
	scrub->worked_ns = clock_now_ns();
	return !stop;
}

/* Everything was sound on every leg: what was counted of the time before is history. */
static void clear_counters(struct ctl *ctl, const struct meta_scrub *run)
{
	struct mirror *mirror = ctl->subjects.mirror;

	for (int leg = 0; leg < mirror_identity(mirror)->leg_count; leg++) {
		if (!mirror_leg_insync(mirror, leg))
			return;
	}
	if (!run->repaired && !run->unrecoverable)
		mirror_counters_clear(mirror);
}

static void finish(struct ctl *ctl, const struct meta_scrub *run, int error)
{
	struct ctl_scrub *scrub = &ctl->scrub;
	struct meta_scrub_state keep;

	mutex_lock(&scrub->lock);
	state_take(scrub, run, run->done);
	scrub->error = error == -EINTR ? 0 : error;
	scrub->state.under_way = error == -EINTR && !scrub->halted;
	scrub->state.ended = error ? 0 : now_seconds();
	keep = scrub->state;
	mutex_unlock(&scrub->lock);
	if (!error)
		clear_counters(ctl, run);
	(void)meta_scrub_remember(ctl->subjects.meta, &keep, true);
	log_info("scrub %s: blocks=%llu repaired=%llu unrecoverable=%llu error=%d", error ? "stopped" : "ended",
		 (unsigned long long)run->blocks, (unsigned long long)run->repaired,
		 (unsigned long long)run->unrecoverable, error);
	events_add(ctl, error ? "scrub-stopped" : "scrub-ended", false, NULL,
		   "scrub %s: blocks=%llu repaired=%llu unrecoverable=%llu", error ? "stopped" : "ended",
		   (unsigned long long)run->blocks, (unsigned long long)run->repaired,
		   (unsigned long long)run->unrecoverable);
	mutex_lock(&scrub->lock);
	scrub->running = false;
	mutex_unlock(&scrub->lock);
}

static void scrub_run(void *arg)
{
	struct ctl *ctl = arg;
	struct ctl_scrub *scrub = &ctl->scrub;
	struct meta_scrub run = {
		.progress = progress,
		.bad = finding_add,
		.context = ctl,
		.position = scrub->state.position,
		.done = scrub->state.done,
		.blocks = scrub->state.blocks,
		.repaired = scrub->state.repaired,
		.unrecoverable = scrub->state.unrecoverable,
		.gently = scrub->limit > 0,
	};
	int error;

	log_info("scrub %s", run.position ? "goes on" : "begins");
	error = meta_scrub(ctl->subjects.meta, &run);
	findings_tell(ctl);
	finish(ctl, &run, error);
}

/* ---- from outside; the serving thread, but for scrub_begin() at the start ---- */

static void join(struct ctl_scrub *scrub)
{
	if (scrub->started)
		thread_join(&scrub->thread);
	scrub->started = false;
}

static bool running(struct ctl_scrub *scrub)
{
	bool now;

	mutex_lock(&scrub->lock);
	now = scrub->running;
	mutex_unlock(&scrub->lock);
	return now;
}

static bool stopping(struct ctl_scrub *scrub)
{
	bool now;

	mutex_lock(&scrub->lock);
	now = scrub->stop;
	mutex_unlock(&scrub->lock);
	return now;
}

int scrub_start(struct ctl *ctl, uint64_t limit)
{
	struct ctl_scrub *scrub = &ctl->scrub;
	int error;

	if (running(scrub)) {
		if (limit)
			scrub->limit = limit;
		return stopping(scrub) ? -EBUSY : 0;
	}
	join(scrub);
	if (!scrub->state.position) {
		scrub->state = (struct meta_scrub_state){ .began = now_seconds() };
		scrub->finding_count = scrub->told = 0;
	}
	scrub->state.under_way = true;
	scrub->limit = limit;
	scrub->stop = scrub->halted = false;
	scrub->error = 0;
	scrub->running = true;
	scrub->requests = requests_of(ctl);
	scrub->begun_ns = scrub->worked_ns = scrub->kept_ns = clock_now_ns();
	scrub->begun_done = scrub->state.done;
	error = thread_start(&scrub->thread, "scrub", scrub_run, ctl);
	scrub->started = !error;
	scrub->running = !error;
	return error;
}

static void stop(struct ctl *ctl, bool halted)
{
	struct ctl_scrub *scrub = &ctl->scrub;

	mutex_lock(&scrub->lock);
	scrub->stop = true;
	scrub->halted |= halted;
	cond_broadcast(&scrub->moved);
	mutex_unlock(&scrub->lock);
}

void scrub_stop(struct ctl *ctl)
{
	stop(ctl, true);
}

void scrub_begin(struct ctl *ctl)
{
	struct ctl_scrub *scrub = &ctl->scrub;
	struct mirror_status status;

	mutex_init(&scrub->lock, RANK_CTL);
	cond_init(&scrub->moved);
	if (!ctl->subjects.meta)
		return;
	meta_scrub_state(ctl->subjects.meta, &scrub->state);
	mirror_status(ctl->subjects.mirror, &status);
	if (scrub->state.under_way && !status.read_only && scrub_start(ctl, 0))
		log_warn("the scrub that was under way cannot go on now");
}

void scrub_end(struct ctl *ctl)
{
	stop(ctl, false);
	join(&ctl->scrub);
	cond_fini(&ctl->scrub.moved);
	mutex_fini(&ctl->scrub.lock);
}

/* ---- what is told ---- */

static json_t *findings_json(const struct ctl_scrub *scrub)
{
	json_t *all = json_array();

	for (unsigned int i = 0; i < scrub->finding_count; i++) {
		const struct ctl_finding *finding = &scrub->findings[i];
		json_t *one = json_pack("{s:i, s:s, s:I, s:I}", "leg", finding->leg, "fate", fate(finding), "block",
					INT(finding->live.address), "count", INT(finding->live.count));

		if (bytes_of(finding)) {
			json_object_set_new(one, "file", command_text(finding->path));
			json_object_set_new(one, "inode", json_integer(INT(finding->live.object)));
			json_object_set_new(one, "from", json_integer(INT(finding->live.offset * MIRROR_BLOCK)));
			json_object_set_new(one, "to", json_integer(INT((finding->live.offset + finding->live.count) *
									MIRROR_BLOCK)));
		}
		json_array_append_new(all, one);
	}
	return all;
}

static uint64_t seconds_left(const struct ctl_scrub *scrub)
{
	uint64_t did = scrub->state.done - scrub->begun_done, took = clock_now_ns() - scrub->begun_ns;

	if (!scrub->running || !did || scrub->total <= scrub->state.done)
		return 0;
	return (uint64_t)((double)(scrub->total - scrub->state.done) / (double)did * (double)took /
			  (double)NSEC_PER_SEC);
}

json_t *scrub_json(struct ctl *ctl, bool findings)
{
	struct ctl_scrub *scrub = &ctl->scrub;
	const struct meta_scrub_state *state = &scrub->state;
	json_t *json;

	mutex_lock(&scrub->lock);
	json = json_pack("{s:b, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s}", "running", scrub->running,
			 "stopped", !scrub->running && state->position != 0, "done", INT(state->done), "total",
			 INT(scrub->total), "blocks", INT(state->blocks), "repaired", INT(state->repaired),
			 "unrecoverable", INT(state->unrecoverable), "began", INT(state->began), "ended",
			 INT(state->ended), "seconds_left", INT(seconds_left(scrub)), "limit", INT(scrub->limit),
			 "error", scrub->error ? strerror(-scrub->error) : "");
	if (findings)
		json_object_set_new(json, "findings", findings_json(scrub));
	mutex_unlock(&scrub->lock);
	return json;
}
