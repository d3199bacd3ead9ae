/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What "status" answers: everything that the storeys count. Nothing here waits for a leg. */
#include "ctl_private.h"

#include "mirrorfs/base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define INT(value) ((json_int_t)(value))

/* The legs may be well and the volume not. */
static bool failed(const struct ctl_subjects *subjects, const struct mirror_status *status)
{
	const struct meta *meta = subjects->meta;

	return status->failed || (meta && meta_damage(meta));
}

static const char *health(const struct ctl_subjects *subjects, const struct mirror_status *status)
{
	if (failed(subjects, status))
		return "failed";
	return status->healthy ? "healthy" : "degraded";
}

const char *status_health(const struct ctl_subjects *subjects)
{
	struct mirror_status *status = malloc(sizeof(*status));
	const char *told = "failed";

	if (status) {
		mirror_status(subjects->mirror, status);
		told = health(subjects, status);
	}
	free(status);
	return told;
}

static json_t *volume_json(const struct ctl_subjects *subjects, const struct mirror_status *status)
{
	char uuid[UUID_TEXT_SIZE];

	return json_pack("{s:s, s:s, s:s*, s:s*, s:i, s:b, s:s*, s:s, s:I}", "uuid",
			 uuid_format(&status->identity.volume, uuid), "label", status->identity.label, "mountpoint",
			 subjects->mountpoint, "source", subjects->source, "pid", (int)getpid(), "read_only",
			 subjects->read_only || status->read_only || failed(subjects, status), "damage",
			 subjects->meta ? meta_damage(subjects->meta) : NULL, "why", status->failed_why, "size_bytes",
			 INT(status->space_blocks * MIRROR_BLOCK));
}

static json_t *counters_json(const struct leg_counters *counters)
{
	static const char *const names[LEG_OPS] = { "read", "write", "flush", "discard", "look" };
	json_t *json = json_pack("{s:I, s:I, s:I}", "empty_refused", INT(counters->empty_refused), "unaligned_refused",
				 INT(counters->unaligned_refused), "in_flight", INT(counters->in_flight));
	json_t *errors = json_object();

	for (int op = 0; op < LEG_OPS; op++)
		json_object_set_new(json, names[op],
				    json_pack("{s:I, s:I}", "ops", INT(counters->ops[op]), "bytes",
					      INT(counters->bytes[op])));
	for (int verdict = LEG_REQUEST; verdict < LEG_VERDICTS; verdict++)
		json_object_set_new(errors, leg_verdict_name(verdict), json_integer(INT(counters->errors[verdict])));
	json_object_set_new(json, "errors", errors);
	return json;
}

static json_t *leg_json(const struct mirror_status *status, int i)
{
	const struct leg_geometry *geometry = &status->leg[i].geometry;
	char uuid[UUID_TEXT_SIZE];
	json_t *json;

	json = json_pack("{s:i, s:s, s:s, s:s, s:s, s:s, s:I, s:b, s:b, s:b, s:I, s:I, s:b, s:I, s:I, s:I, s:I, s:I, "
			 "s:I, s:I, s:I, s:o}",
			 "index", i, "uuid", uuid_format(&status->identity.leg[i], uuid), "state",
			 mirror_leg_state_name(status->leg[i].state), "address", status->leg[i].address, "engine",
			 status->leg[i].engine, "why", status->leg[i].why, "size_bytes", INT(geometry->size_bytes),
			 "device", geometry->device, "direct", geometry->direct, "rotational", geometry->rotational,
			 "latency_ns", INT(status->leg[i].latency_ns), "usual_ns", INT(status->leg[i].usual_ns),
			 "slow", status->leg[i].slow, "hedged", INT(status->leg[i].hedged), "overtaken",
			 INT(status->leg[i].overtaken), "read_errors", INT(status->leg[i].read_errors),
			 "checksum_errors", INT(status->leg[i].checksum_errors), "repaired",
			 INT(status->leg[i].repaired), "timeouts", INT(status->leg[i].timeouts), "abandoned",
			 INT(status->leg[i].abandoned), "charged", INT(status->leg[i].charged), "io",
			 counters_json(&status->leg[i].counters));
	json_object_set_new(json, "timeout_ns", json_integer(INT(status->leg[i].timeout_ns)));
	json_object_set_new(json, "queue", json_integer(INT(status->leg[i].queue)));
	json_object_set_new(json, "leaving", json_boolean(status->leg[i].leaving));
	if (status->leg[i].replaces[0])
		json_object_set_new(json, "replaces", json_string(status->leg[i].replaces));
	if (status->leg[i].claim.on)
		json_object_set_new(json, "claim",
				    json_pack("{s:I, s:I, s:I}", "since", INT(status->leg[i].claim.since_seconds),
					      "beat_ns", INT(status->leg[i].claim.beat_ns), "left_ns",
					      INT(status->leg[i].claim.left_ns)));
	if (status->leg[i].drill[0])
		json_object_set_new(json, "drill",
				    json_pack("{s:s, s:I}", "rules", status->leg[i].drill, "seconds_left",
					      INT(status->leg[i].drill_left_ns / NSEC_PER_SEC)));
	return json;
}

static json_t *mirror_json(const struct mirror_status *status)
{
	return json_pack("{s:I, s:I, s:I, s:I, s:I}", "empty_refused", INT(status->empty_refused), "request_errors",
			 INT(status->request_errors), "retries", INT(status->retries), "unrecoverable",
			 INT(status->unrecoverable), "deadline_missed", INT(status->deadline_missed));
}

static json_t *resync_json(const struct mirror_resync_status *resync)
{
	return json_pack("{s:I, s:i, s:I, s:I, s:I, s:I, s:I}", "ended", INT(resync->ended), "leg", resync->leg,
			 "done_bytes", INT(resync->done * MIRROR_BLOCK), "total_bytes",
			 INT(resync->total * MIRROR_BLOCK), "lost_bytes", INT(resync->lost * MIRROR_BLOCK),
			 "limit_bytes_per_second", INT(resync->limit), "elapsed_ns", INT(resync->elapsed_ns));
}

/* How the free space is cut up: of pieces of `bytes` and less than twice that, so many. */
static json_t *free_extents_json(const struct range_stats *range)
{
	json_t *json = json_array();

	for (int i = 0; i < RANGE_HISTOGRAM; i++)
		if (range->free_extents[i])
			json_array_append_new(json, json_pack("{s:I, s:I}", "bytes", INT(MIRROR_BLOCK << i), "count",
							      INT(range->free_extents[i])));
	return json;
}

static json_t *space_json(struct meta *meta)
{
	struct meta_statfs statfs;
	struct meta_stats stats;

	meta_statfs(meta, &statfs);
	meta_stats(meta, &stats);
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:o}", "size_bytes", INT(statfs.blocks * MIRROR_BLOCK),
			 "free_bytes", INT(statfs.free * MIRROR_BLOCK), "available_bytes",
			 INT(statfs.available * MIRROR_BLOCK), "deferred_bytes",
			 INT(stats.range.deferred * MIRROR_BLOCK), "largest_free_bytes",
			 INT(stats.range.largest_free * MIRROR_BLOCK), "free_extents",
			 free_extents_json(&stats.range));
}

static json_t *meta_json(struct meta *meta)
{
	struct meta_super_info info;
	struct meta_stats stats;

	meta_super_info(meta, &info);
	meta_stats(meta, &stats);
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "generation", INT(info.generation),
			 "sequence", INT(info.sequence), "epoch", INT(info.epoch), "commits", INT(stats.commits),
			 "records", INT(stats.records), "checkpoints", INT(stats.checkpoints), "replayed",
			 INT(stats.replayed), "ring_used_blocks", INT(stats.ring_used_blocks), "ring_blocks",
			 INT(stats.ring_blocks), "dirty_nodes", INT(stats.dirty_nodes), "tree_height",
			 INT(stats.tree_height));
}

static json_t *cache_class_json(const struct cache_stats *stats, enum cache_class class)
{
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "pages",
			 INT(stats->class[class].pages),
			 "bytes", INT(stats->class[class].bytes), "dirty", INT(stats->class[class].dirty), "writing",
			 INT(stats->class[class].writing), "hits", INT(stats->class[class].hits), "misses",
			 INT(stats->class[class].misses), "passed", INT(stats->class[class].passed), "refaults",
			 INT(stats->class[class].refaults), "scanned", INT(stats->class[class].scanned), "stolen",
			 INT(stats->class[class].stolen), "stalls", INT(stats->class[class].stalls), "direct",
			 INT(stats->class[class].direct));
}

json_t *status_cache(struct cache *cache)
{
	struct cache_stats stats;
	uint64_t stalls = 0, direct = 0;

	cache_stats(cache, &stats);
	for (int class = 0; class < CACHE_CLASSES; class++) {
		stalls += stats.class[class].stalls;
		direct += stats.class[class].direct;
	}
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o}", "budget_bytes", INT(stats.budget_bytes),
			 "used_bytes", INT(stats.used_bytes), "resident_bytes", INT(stats.resident_bytes), "wakeups",
			 INT(stats.wakeups), "stalls", INT(stalls), "direct", INT(direct), "throttled",
			 INT(stats.throttled), "slowed", INT(stats.slowed), "data",
			 cache_class_json(&stats, CACHE_DATA), "nodes", cache_class_json(&stats, CACHE_NODES));
}

/* What the kernel says that this process has, and the most that it may have. */
static json_t *memory_json(const struct ctl_subjects *subjects)
{
	FILE *file = fopen("/proc/self/statm", "re");
	struct cache_stats stats;
	long pages = 0;

	if (file) {
		if (fscanf(file, "%*d %ld", &pages) != 1)
			pages = 0;
		fclose(file);
	}
	cache_stats(subjects->cache, &stats);
	return json_pack("{s:I, s:I, s:I, s:I}", "resident_bytes", INT(pages) * sysconf(_SC_PAGESIZE), "fixed_bytes",
			 INT(subjects->fixed_bytes), "beyond_bytes", INT(stats.beyond_bytes), "limit_bytes",
			 INT(stats.budget_bytes + stats.budget_bytes / 10 + subjects->fixed_bytes +
			     stats.beyond_bytes));
}

static json_t *fs_json(struct fs *fs)
{
	struct fs_stats stats;

	fs_stats(fs, &stats);
	return json_pack("{s:I, s:I, s:I, s:I}", "inodes", INT(stats.inodes), "known",
			 INT(stats.known), "dirty_inodes", INT(stats.dirty_inodes),
			 "orphans", INT(stats.orphans));
}

static json_t *front_json(struct front *front)
{
	struct front_stats stats;

	front_stats(front, &stats);
	return json_pack("{s:s, s:i, s:I, s:I}", "transport", stats.transport, "threads", (int)stats.threads,
			 "requests", INT(stats.requests), "in_flight", INT(stats.in_flight));
}

json_t *status_whole(struct ctl *ctl)
{
	const struct ctl_subjects *subjects = &ctl->subjects;
	struct mirror_status *status = calloc(1, sizeof(*status));
	json_t *json, *legs;

	if (!status)
		return NULL;
	mirror_status(subjects->mirror, status);
	legs = json_array();
	for (int i = 0; i < status->identity.leg_count; i++)
		json_array_append_new(legs, leg_json(status, i));
	json = json_pack("{s:s, s:o, s:o, s:o, s:o}", "health", health(subjects, status), "volume",
			 volume_json(subjects, status), "legs", legs, "mirror", mirror_json(status), "resync",
			 resync_json(&status->resync));
	json_object_set_new(json, "settings", set_json(status));
	if (subjects->meta) {
		json_object_set_new(json, "space", space_json(subjects->meta));
		json_object_set_new(json, "meta", meta_json(subjects->meta));
		json_object_set_new(json, "scrub", scrub_json(ctl, false));
	}
	if (subjects->cache) {
		json_object_set_new(json, "cache", status_cache(subjects->cache));
		json_object_set_new(json, "memory", memory_json(subjects));
	}
	if (subjects->fs)
		json_object_set_new(json, "fs", fs_json(subjects->fs));
	if (subjects->front)
		json_object_set_new(json, "transport", front_json(subjects->front));
	free(status);
	return json;
}
