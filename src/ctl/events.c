/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Events: what has become of the volume, each once, with what it was like at that moment. The latest are kept in
 * memory for whoever asks; the log has had its line already.
 *
 * A rotten leg may give thousands of healed blocks: when the place is used up, they make room for changes of states.
 * The mirror's come on its keeper's thread, which waits for nobody: no lock that is taken here is held across I/O.
 *
 * The mirror knows blocks, people files: a thread of its own looks for the names, adds them to what is kept, and writes
 * them into the log. It may have to read all directories for that, so it rests longer than it works.
 */
#include "ctl_private.h"

#include "mirrorfs/base/clock.h"
#include "mirrorfs/base/log.h"

#include <bsd/sys/queue.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEPT_MAX 256u
#define MINOR_MAX 128u /* of these */
#define TOLD_MAX 64u   /* in one answer */
#define LOW_PERCENT 5u /* of the space left: told once, and again when there were twice as much in between */
#define NAMED_MAX 64u /* in one go; more that come meanwhile keep their blocks */
#define REST_FACTOR 3u
#define QUIET_NS (60 * NSEC_PER_SEC) /* between two of those that may come by thousands, for who is told of each */
#define QUIET_KINDS 2 /* healed, and whatever else is of a single block */
#define INT(value) ((json_int_t)(value))

struct kept {
	uint64_t number;
	bool minor;
	char *text; /* JSON */
	TAILQ_ENTRY(kept) entry;
};

/* Blocks of one event, to be named. */
struct nameless {
	uint64_t number;
	struct meta_live live;
};

struct ctl_events {
	struct mutex lock; /* RANK_CTL_EVENTS */
	struct cond moved;
	struct thread namer;
	bool naming;
	_Atomic bool stopping;
	unsigned int nameless_count;
	struct nameless nameless[NAMED_MAX];
	struct ctl *ctl;   /* NULL: there is no mount yet, or no longer */
	uint64_t number;   /* of the latest */
	unsigned int count, minors;
	void (*tell)(void *context, const char *kind, const char *text, const char *json);
	void *tell_context;
	uint64_t quiet_until_ns[QUIET_KINDS];
	bool space_low;
	TAILQ_HEAD(, kept) list;
};

struct ctl_events *ctl_events_create(void)
{
	struct ctl_events *events = calloc(1, sizeof(*events));

	if (!events)
		return NULL;
	mutex_init(&events->lock, RANK_CTL_EVENTS);
	cond_init(&events->moved);
	TAILQ_INIT(&events->list);
	return events;
}

static void drop(struct ctl_events *events, struct kept *kept)
{
	TAILQ_REMOVE(&events->list, kept, entry);
	events->count--;
	events->minors -= kept->minor;
	free(kept->text);
	free(kept);
}

void ctl_events_destroy(struct ctl_events *events)
{
	if (!events)
		return;
	while (!TAILQ_EMPTY(&events->list))
		drop(events, TAILQ_FIRST(&events->list));
	cond_fini(&events->moved);
	mutex_fini(&events->lock);
	free(events);
}

/* ---- snapshots ---- */

static json_t *leg_json(const struct mirror_snapshot *now, int leg)
{
	return json_pack("{s:s, s:b, s:I, s:I, s:I, s:I, s:I, s:I}", "state",
			 mirror_leg_state_name(now->leg[leg].state), "slow", now->leg[leg].slow, "read_errors",
			 INT(now->leg[leg].read_errors), "checksum_errors", INT(now->leg[leg].checksum_errors),
			 "repaired", INT(now->leg[leg].repaired), "timeouts", INT(now->leg[leg].timeouts), "abandoned",
			 INT(now->leg[leg].abandoned), "charged", INT(now->leg[leg].charged));
}

static json_t *snapshot_json(const struct ctl_events *events, const struct mirror_snapshot *now)
{
	struct ctl *ctl = events->ctl;
	json_t *legs = json_array(), *json;

	for (int leg = 0; leg < now->leg_count; leg++)
		json_array_append_new(legs, leg_json(now, leg));
	json = json_pack("{s:o, s:b, s:i, s:I, s:{s:i, s:I, s:I}}", "legs", legs, "failed", now->failed, "lacking_leg",
			 now->lacking, "lacks_after", INT(now->lacks_after), "resync", "leg", now->resync.leg,
			 "done_bytes", INT(now->resync.done * MIRROR_BLOCK), "total_bytes",
			 INT(now->resync.total * MIRROR_BLOCK));
	if (ctl && ctl->subjects.meta) {
		struct meta_statfs space;

		meta_statfs(ctl->subjects.meta, &space);
		json_object_set_new(json, "space",
				    json_pack("{s:I, s:I}", "size_bytes", INT(space.blocks * MIRROR_BLOCK),
					      "available_bytes", INT(space.available * MIRROR_BLOCK)));
		json_object_set_new(json, "scrub", scrub_json(ctl, false));
	}
	return json;
}

/* ---- coming ---- */

void ctl_events_tell(struct ctl_events *events, void (*tell)(void *context, const char *kind, const char *text,
							     const char *json), void *context)
{
	mutex_lock(&events->lock);
	events->tell = tell;
	events->tell_context = context;
	mutex_unlock(&events->lock);
}

static void tell_locked(struct ctl_events *events, const struct kept *kept, const char *kind, const char *text)
{
	uint64_t *quiet_until_ns = &events->quiet_until_ns[strcmp(kind, "healed") != 0], now_ns = clock_now_ns();

	if (!events->tell || !kept->text || (kept->minor && now_ns < *quiet_until_ns))
		return;
	if (kept->minor)
		*quiet_until_ns = now_ns + QUIET_NS;
	events->tell(events->tell_context, kind, text, kept->text);
}

/* `more` is stolen. */
static void keep_locked(struct ctl_events *events, const char *kind, bool minor, const char *text, json_t *more,
			const struct mirror_snapshot *now)
{
	struct kept *kept = calloc(1, sizeof(*kept)), *oldest;
	uint32_t nanoseconds;
	int64_t seconds;
	json_t *json;

	if (!kept) {
		json_decref(more);
		return;
	}
	clock_wall(&seconds, &nanoseconds);
	kept->number = ++events->number;
	kept->minor = minor;
	json = json_pack("{s:I, s:f, s:s, s:o, s:o}", "number", INT(kept->number), "time",
			 (double)seconds + nanoseconds / 1e9, "kind", kind, "text", command_text(text), "state",
			 snapshot_json(events, now));
	json_object_update(json, more);
	json_decref(more);
	kept->text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	json_decref(json);
	TAILQ_INSERT_TAIL(&events->list, kept, entry);
	tell_locked(events, kept, kind, text);
	events->count++;
	events->minors += minor;
	if (events->count <= KEPT_MAX && events->minors <= MINOR_MAX)
		return;
	oldest = TAILQ_FIRST(&events->list);
	while (events->minors > MINOR_MAX && !oldest->minor)
		oldest = TAILQ_NEXT(oldest, entry);
	drop(events, oldest);
}

void ctl_event(void *context, const struct mirror_event *event)
{
	static const char *const kinds[MIRROR_EVENT_KINDS] = {
		[MIRROR_EVENT_LEG_STATE] = "leg-state",
		[MIRROR_EVENT_REPAIR] = "healed",
		[MIRROR_EVENT_UNRECOVERABLE] = "unrecoverable",
		[MIRROR_EVENT_READ_ONLY] = "read-only",
		[MIRROR_EVENT_LEG_NAME] = "leg-name",
		[MIRROR_EVENT_LEG_PACE] = "leg-pace",
		[MIRROR_EVENT_LEG_RELEASED] = "leg-released",
		[MIRROR_EVENT_RESYNC_ENDED] = "resync-ended",
		[MIRROR_EVENT_RESYNC_STOPPED] = "resync-stopped",
	};
	bool minor = event->kind == MIRROR_EVENT_REPAIR || event->kind == MIRROR_EVENT_UNRECOVERABLE;
	struct ctl_events *events = context;
	json_t *more = json_object();

	if (event->leg >= 0)
		json_object_set_new(more, "leg", json_integer(event->leg));
	if (event->count) {
		json_object_set_new(more, "block", json_integer(INT(event->block)));
		json_object_set_new(more, "count", json_integer(INT(event->count)));
	}
	mutex_lock(&events->lock);
	keep_locked(events, kinds[event->kind], minor, event->text, more, &event->now);
	if (minor && events->naming && events->nameless_count < NAMED_MAX) {
		events->nameless[events->nameless_count++] = (struct nameless){
			.number = events->number, .live = { .address = event->block, .count = event->count }
		};
		cond_signal(&events->moved);
	}
	mutex_unlock(&events->lock);
}

/* ---- names ---- */

static void name_add(struct ctl_events *events, const struct nameless *named, const char *path)
{
	unsigned long long from = named->live.offset * MIRROR_BLOCK,
			   to = (named->live.offset + named->live.count) * MIRROR_BLOCK;
	struct kept *kept;
	json_t *json;

	log_warn("that is in a file: event=%llu block=%llu file=\"%s\" bytes=%llu-%llu",
		 (unsigned long long)named->number, (unsigned long long)named->live.address, path, from, to);
	mutex_lock(&events->lock);
	TAILQ_FOREACH (kept, &events->list, entry) {
		if (kept->number == named->number)
			break;
	}
	json = kept && kept->text ? json_loads(kept->text, 0, NULL) : NULL;
	if (json) {
		json_object_set_new(json, "file", command_text(path));
		json_object_set_new(json, "from", json_integer(INT(from)));
		json_object_set_new(json, "to", json_integer(INT(to)));
		free(kept->text);
		kept->text = json_dumps(json, JSON_COMPACT);
		json_decref(json);
	}
	mutex_unlock(&events->lock);
}

static bool goes_on(void *context)
{
	struct ctl_events *events = context;

	return !events->stopping;
}

static int by_inode(const void *a, const void *b)
{
	const struct fs_path *first = a, *second = b;

	return first->inode < second->inode ? -1 : first->inode > second->inode;
}

/* All of them in one walk. What lies in no file keeps its block. */
static void names_find(struct ctl_events *events, struct meta *meta, struct nameless *batch, unsigned int count,
		       struct fs_path *paths)
{
	size_t files = 0;

	for (unsigned int i = 0; i < count; i++) {
		struct meta_live *live = &batch[i].live, found;

		if (meta_whose(meta, live->address, &found))
			continue;
		found.count = found.count < live->count ? found.count : live->count;
		*live = found;
		if (!bsearch(&(struct fs_path){ .inode = live->object }, paths, files, sizeof(*paths), by_inode))
			paths[files++] = (struct fs_path){ .inode = live->object };
		qsort(paths, files, sizeof(*paths), by_inode);
	}
	fs_check_paths(meta, paths, files, goes_on, events);
	for (unsigned int i = 0; i < count && goes_on(events); i++) {
		const struct fs_path wanted = { .inode = batch[i].live.object },
				     *path = bsearch(&wanted, paths, files, sizeof(*paths), by_inode);

		if (path)
			name_add(events, &batch[i], path->path);
	}
}

static void namer_run(void *arg)
{
	struct ctl_events *events = arg;
	struct meta *meta = events->ctl->subjects.meta;
	struct nameless *batch = calloc(NAMED_MAX, sizeof(*batch));
	struct fs_path *paths = calloc(NAMED_MAX, sizeof(*paths));

	mutex_lock(&events->lock);
	while (!events->stopping && batch && paths) {
		unsigned int count = events->nameless_count;
		uint64_t began = clock_now_ns(), until;

		if (!count) {
			cond_wait(&events->moved, &events->lock);
			continue;
		}
		memcpy(batch, events->nameless, count * sizeof(*batch));
		events->nameless_count = 0;
		mutex_unlock(&events->lock);
		names_find(events, meta, batch, count, paths);
		mutex_lock(&events->lock);
		until = clock_now_ns() + REST_FACTOR * (clock_now_ns() - began);
		while (!events->stopping && cond_wait_until(&events->moved, &events->lock, until))
			;
	}
	mutex_unlock(&events->lock);
	free(batch);
	free(paths);
}

void events_add(struct ctl *ctl, const char *kind, bool minor, json_t *more, const char *format, ...)
{
	struct ctl_events *events = ctl->subjects.events;
	struct mirror_snapshot now;
	char text[1024];
	va_list args;

	if (!events) {
		json_decref(more);
		return;
	}
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	mirror_snapshot(ctl->subjects.mirror, &now);
	mutex_lock(&events->lock);
	keep_locked(events, kind, minor, text, more, &now);
	mutex_unlock(&events->lock);
}

void events_watch_space(struct ctl *ctl)
{
	struct ctl_events *events = ctl->subjects.events;
	struct meta_statfs space;
	char text[80];

	if (!ctl->subjects.meta || !events)
		return;
	meta_statfs(ctl->subjects.meta, &space);
	if (!events->space_low && space.available < space.blocks / 100 * LOW_PERCENT) {
		snprintf(text, sizeof(text), "space is low: available_mib=%llu size_mib=%llu",
			 (unsigned long long)space.available >> 8, (unsigned long long)space.blocks >> 8);
		log_warn("%s", text);
		events_add(ctl, "space-low", false, NULL, "%s", text);
		events->space_low = true;
	} else if (space.available >= space.blocks / 100 * (2 * LOW_PERCENT)) {
		events->space_low = false;
	}
}

static void subject_set(struct ctl *ctl, struct ctl *now)
{
	struct ctl_events *events = ctl->subjects.events;

	if (!events)
		return;
	mutex_lock(&events->lock);
	events->ctl = now;
	mutex_unlock(&events->lock);
}

void events_begin(struct ctl *ctl)
{
	struct ctl_events *events = ctl->subjects.events;

	bool names = events && ctl->subjects.meta;

	subject_set(ctl, ctl);
	names = names && !thread_start(&events->namer, "names", namer_run, events);
	if (!names)
		return;
	mutex_lock(&events->lock);
	events->naming = true;
	mutex_unlock(&events->lock);
}

void events_end(struct ctl *ctl)
{
	struct ctl_events *events = ctl->subjects.events;

	if (events && events->naming) {
		mutex_lock(&events->lock);
		events->naming = false;
		events->stopping = true;
		cond_broadcast(&events->moved);
		mutex_unlock(&events->lock);
		thread_join(&events->namer);
	}
	subject_set(ctl, NULL);
}

/* ---- told ---- */

void events_command(struct ctl *ctl, int fd, const json_t *request)
{
	uint64_t after = (uint64_t)json_integer_value(json_object_get(request, "after"));
	struct ctl_events *events = ctl->subjects.events;
	json_t *told = json_array();
	const struct kept *kept;

	if (!events) {
		json_decref(told);
		command_answer_error(fd, -EOPNOTSUPP, "events are not kept");
		return;
	}
	mutex_lock(&events->lock);
	TAILQ_FOREACH (kept, &events->list, entry) {
		if (kept->number <= after || !kept->text || json_array_size(told) == TOLD_MAX)
			continue;
		json_array_append_new(told, json_loads(kept->text, 0, NULL));
	}
	mutex_unlock(&events->lock);
	command_answer(fd, "result", json_pack("{s:o}", "events", told));
}
