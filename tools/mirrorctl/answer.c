/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "answer.h"
#include "watch.h"

#include <stdbool.h>
#include <string.h>
#include <time.h>

const char *answer_text(const json_t *json, const char *key)
{
	return json_string_value(json_object_get(json, key)) ?: "";
}

unsigned long long answer_number(const json_t *json, const char *key)
{
	return (unsigned long long)json_integer_value(json_object_get(json, key));
}

const char *answer_size(unsigned long long bytes, char text[32])
{
	static const char *const units[] = { "bytes", "KiB", "MiB", "GiB", "TiB", "PiB" };
	double value = (double)bytes;
	int unit = 0;

	while (value >= 1024 && unit < 5) {
		value /= 1024;
		unit++;
	}
	snprintf(text, 32, unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
	return text;
}

void answer_print_health(const json_t *answer)
{
	const char *health = answer_text(answer, "health");
	int colour = !strcmp(health, "healthy") ? 32 : !strcmp(health, "degraded") ? 33 : 31;

	if (watch_colours())
		printf("\033[1;%dm%s\033[m", colour, health);
	else
		fputs(health, stdout);
}

static void print_claim(const json_t *claim)
{
	time_t since = (time_t)answer_number(claim, "since");
	char text[32];

	strftime(text, sizeof(text), "%F %T", localtime(&since));
	printf("           claimed since %s, renewed every %g s; given up in %.1f s unless it is\n", text,
	       (double)answer_number(claim, "beat_ns") / 1e9, (double)answer_number(claim, "left_ns") / 1e9);
}

static void print_leg(const json_t *leg)
{
	const json_t *io = json_object_get(leg, "io"), *errors = json_object_get(io, "errors"), *value;
	char size[32], got[32], put[32];
	const char *name;

	printf("  leg %llu    %s%s%s\n", answer_number(leg, "index"), answer_text(leg, "state"),
	       answer_text(leg, "address")[0] ? "  " : "", answer_text(leg, "address"));
	if (answer_text(leg, "why")[0])
		printf("           because: %s\n", answer_text(leg, "why"));
	if (json_is_true(json_object_get(leg, "leaving")))
		puts("           LEAVING: its file was deleted or moved; mirrorctl replace puts another one in its "
		     "place");
	if (json_object_get(leg, "replaces"))
		printf("           replaces: %s, which is read where the other leg has nothing right\n",
		       answer_text(leg, "replaces"));
	if (json_object_get(leg, "claim"))
		print_claim(json_object_get(leg, "claim"));
	if (json_object_get(leg, "drill"))
		printf("           DRILL: %s, for %llu more seconds\n",
		       answer_text(json_object_get(leg, "drill"), "rules"),
		       answer_number(json_object_get(leg, "drill"), "seconds_left"));
	if (!answer_number(leg, "size_bytes"))
		return;
	printf("           %s, engine %s%s, leg-timeout=%g, "
	       "reads answered in %.1f ms, hardly any in more than %.1f ms%s\n",
	       answer_size(answer_number(leg, "size_bytes"), size), answer_text(leg, "engine"),
	       json_is_true(json_object_get(leg, "direct")) ? ", direct" : "",
	       json_number_value(json_object_get(leg, "timeout_ns")) / 1e9,
	       (double)answer_number(leg, "latency_ns") / 1e6, (double)answer_number(leg, "usual_ns") / 1e6,
	       json_is_true(json_object_get(leg, "slow")) ? "; SLOW" : "");
	printf("           late reads: %llu, of which the other leg answered %llu first\n",
	       answer_number(leg, "hedged"), answer_number(leg, "overtaken"));
	printf("           read %s in %llu, written %s in %llu, %llu flushes\n",
	       answer_size(answer_number(json_object_get(io, "read"), "bytes"), got),
	       answer_number(json_object_get(io, "read"), "ops"),
	       answer_size(answer_number(json_object_get(io, "write"), "bytes"), put),
	       answer_number(json_object_get(io, "write"), "ops"), answer_number(json_object_get(io, "flush"), "ops"));
	printf("           errors: %llu reads, %llu checksums, %llu timeouts, %llu charged; blocks repaired: %llu\n",
	       answer_number(leg, "read_errors"), answer_number(leg, "checksum_errors"), answer_number(leg, "timeouts"),
	       answer_number(leg, "charged"), answer_number(leg, "repaired"));
	printf("           completions:");
	json_object_foreach((json_t *)errors, name, value)
		printf(" %s %" JSON_INTEGER_FORMAT, name, json_integer_value(value));
	printf(", abandoned %llu, empty refused %llu, misaligned refused %llu\n", answer_number(leg, "abandoned"),
	       answer_number(io, "empty_refused"), answer_number(io, "unaligned_refused"));
}

/* As "set" takes them. */
static void print_settings(const json_t *settings)
{
	printf("  settings degraded=%s, read-policy=%s, write-mostly=%s, deadline=%g\n",
	       answer_text(settings, "degraded"), answer_text(settings, "read_policy"),
	       answer_text(settings, "write_mostly"),
	       json_number_value(json_object_get(settings, "deadline_ns")) / 1e9);
}

static void print_cache(const json_t *cache)
{
	const json_t *data = json_object_get(cache, "data"), *nodes = json_object_get(cache, "nodes");
	char used[32], budget[32], text[32];

	printf("  cache    %s of %s: data %s, %llu hits, %llu misses, %llu dirty;",
	       answer_size(answer_number(cache, "used_bytes"), used),
	       answer_size(answer_number(cache, "budget_bytes"), budget),
	       answer_size(answer_number(data, "bytes"), text), answer_number(data, "hits"),
	       answer_number(data, "misses"), answer_number(data, "dirty"));
	printf(" nodes %s, %llu hits, %llu misses, %llu dirty\n", answer_size(answer_number(nodes, "bytes"), text),
	       answer_number(nodes, "hits"), answer_number(nodes, "misses"), answer_number(nodes, "dirty"));
}

/* The sizes of the pieces that free space consists of. */
static void print_free_extents(const json_t *space)
{
	const json_t *extents = json_object_get(space, "free_extents"), *extent;
	char text[32];
	size_t i;

	if (!json_array_size(extents))
		return;
	printf("           in pieces:");
	json_array_foreach(extents, i, extent) printf("%s %llu of %s", i ? "," : "", answer_number(extent, "count"),
						      answer_size(answer_number(extent, "bytes"), text));
	printf(" and more; the largest is %s\n", answer_size(answer_number(space, "largest_free_bytes"), text));
}

double answer_percent(const json_t *scrub)
{
	unsigned long long total = answer_number(scrub, "total");

	return total ? 100.0 * (double)answer_number(scrub, "done") / (double)total : 0;
}

/* Where a scrub stands, without a newline. */
static void print_progress(FILE *out, const json_t *scrub)
{
	unsigned long long left = answer_number(scrub, "seconds_left");

	fprintf(out, "%.1f %%, healed %llu, unrecoverable %llu", answer_percent(scrub),
		answer_number(scrub, "repaired"), answer_number(scrub, "unrecoverable"));
	if (left)
		fprintf(out, ", about %llu:%02llu:%02llu left", left / 3600, left / 60 % 60, left % 60);
}

static void print_scrub(const json_t *scrub)
{
	time_t began = (time_t)answer_number(scrub, "began"), ended = (time_t)answer_number(scrub, "ended");
	bool running = json_is_true(json_object_get(scrub, "running"));
	char when[64] = "";

	if (!began) {
		puts("  scrub    never");
		return;
	}
	strftime(when, sizeof(when), "%F %R", localtime(ended ? &ended : &began));
	printf("  scrub    %s %s: ", running ? "under way since" : ended ? "ended" : "stopped, began", when);
	print_progress(stdout, scrub);
	putchar('\n');
}

/* "12.3 % of 1.0 GiB, 40 s left" */
static void print_resync(FILE *out, const json_t *resync)
{
	unsigned long long done = answer_number(resync, "done_bytes"), total = answer_number(resync, "total_bytes");
	double seconds = (double)answer_number(resync, "elapsed_ns") / 1e9;
	char size[32];

	fprintf(out, "%.1f %% of %s", total ? 100.0 * (double)done / (double)total : 0.0, answer_size(total, size));
	if (done && seconds > 1)
		fprintf(out, ", %.0f s left", seconds * (double)(total - done) / (double)done);
	if (answer_number(resync, "lost_bytes"))
		fprintf(out, ", %s bad on the other leg", answer_size(answer_number(resync, "lost_bytes"), size));
}

void answer_print_status(const json_t *status)
{
	const json_t *volume = json_object_get(status, "volume"), *space = json_object_get(status, "space"),
		     *mirror = json_object_get(status, "mirror"), *meta = json_object_get(status, "meta"),
		     *transport = json_object_get(status, "transport"), *memory = json_object_get(status, "memory"),
		     *leg;
	const char *label = answer_text(volume, "label");
	char free_text[32], size[32], fixed[32];
	size_t i;

	printf("%s: ", answer_text(volume, "mountpoint"));
	answer_print_health(status);
	printf("%s\n", json_is_true(json_object_get(volume, "read_only")) ? ", read-only" : "");
	if (answer_text(volume, "damage")[0])
		printf("  damage   %s: unmount, and run fsck.mirrorfs\n", answer_text(volume, "damage"));
	if (answer_text(volume, "why")[0])
		printf("  because  %s\n", answer_text(volume, "why"));
	printf("  volume   %s%s%s, pid %llu\n", answer_text(volume, "uuid"), *label ? ", label " : "", label,
	       answer_number(volume, "pid"));
	json_array_foreach(json_object_get(status, "legs"), i, leg) print_leg(leg);
	if (json_integer_value(json_object_get(json_object_get(status, "resync"), "leg")) >= 0) {
		fputs("  resync   ", stdout);
		print_resync(stdout, json_object_get(status, "resync"));
		putchar('\n');
	}
	printf("  mirror   %llu retries, %llu request errors, %llu deadlines missed, %llu blocks unrecoverable, "
	       "%llu empty refused\n",
	       answer_number(mirror, "retries"), answer_number(mirror, "request_errors"),
	       answer_number(mirror, "deadline_missed"), answer_number(mirror, "unrecoverable"),
	       answer_number(mirror, "empty_refused"));
	print_settings(json_object_get(status, "settings"));
	printf("  space    %s free of %s\n", answer_size(answer_number(space, "available_bytes"), free_text),
	       answer_size(answer_number(space, "size_bytes"), size));
	print_free_extents(space);
	print_cache(json_object_get(status, "cache"));
	printf("  memory   %s resident of %s at most, %s of that beside the cache\n",
	       answer_size(answer_number(memory, "resident_bytes"), size),
	       answer_size(answer_number(memory, "limit_bytes"), free_text),
	       answer_size(answer_number(memory, "fixed_bytes"), fixed));
	print_scrub(json_object_get(status, "scrub"));
	printf("  journal  %llu commits in %llu records, %llu checkpoints, %llu records replayed at mount\n",
	       answer_number(meta, "commits"), answer_number(meta, "records"), answer_number(meta, "checkpoints"),
	       answer_number(meta, "replayed"));
	printf("  requests %llu, %llu in flight, transport %s with %llu threads\n",
	       answer_number(transport, "requests"), answer_number(transport, "in_flight"),
	       answer_text(transport, "transport"), answer_number(transport, "threads"));
}

static void print_file(const json_t *file)
{
	const json_t *range;
	char size[32];
	size_t i;

	printf("  %s: %s: bytes", answer_text(file, "file"), answer_size(answer_number(file, "bytes"), size));
	json_array_foreach(json_object_get(file, "ranges"), i, range)
		printf("%s %llu to %llu", i ? "," : "", answer_number(range, "from"), answer_number(range, "to"));
	if (answer_number(file, "more_ranges"))
		printf(" and %llu more places", answer_number(file, "more_ranges"));
	putchar('\n');
}

/* What is on one leg alone. */
void answer_print_files(const char *mountpoint, const json_t *listing)
{
	const json_t *list = json_object_get(listing, "files"), *file;
	unsigned long long count = json_array_size(list) + answer_number(listing, "more_files");
	json_int_t leg = json_integer_value(json_object_get(listing, "lacking_leg"));
	char size[32], nodes[32];
	size_t i;

	if (leg < 0)
		printf("%s: %s: no leg lacks anything\n", mountpoint, answer_text(listing, "health"));
	else
		printf("%s: %s: on leg %d alone are %s in %llu files, and %s of metadata\n", mountpoint,
		       answer_text(listing, "health"), !leg, answer_size(answer_number(listing, "bytes"), size), count,
		       answer_size(answer_number(listing, "metadata_bytes"), nodes));
	json_array_foreach(list, i, file) print_file(file);
	if (answer_number(listing, "more_files"))
		printf("  and %llu more files with %s\n", answer_number(listing, "more_files"),
		       answer_size(answer_number(listing, "more_bytes"), size));
	if (answer_text(listing, "error")[0])
		printf("  and what could not be looked up: %s\n", answer_text(listing, "error"));
}
