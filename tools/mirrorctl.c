/* SPDX-License-Identifier: GPL-2.0-or-later */
/* mirrorctl: asks the daemon of a mount, and shows what it answers. */
#include "mountpoint.h"
#include "options.h"

#include "mirrorfs/base/clock.h"
#include "mirrorfs/base/sync.h"
#include "mirrorfs/ctl.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { EXIT_HEALTHY = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_DEGRADED = 3, EXIT_BROKEN = 4, EXIT_NO_DAEMON = 5 };

enum { FILES = 256, FOLLOW }; /* options without a letter */

#define MOUNTS_MAX 64
#define DRILL_SECONDS 60
#define POLL_MSEC 200 /* how often a scrub is asked about */

static bool as_json, force, files, follow; /* options */

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("mirrorctl: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
}

/* ---- reading answers ---- */

static const char *text_of(const json_t *json, const char *key)
{
	return json_string_value(json_object_get(json, key)) ?: "";
}

static unsigned long long number_of(const json_t *json, const char *key)
{
	return (unsigned long long)json_integer_value(json_object_get(json, key));
}

static const char *size_text(unsigned long long bytes, char text[32])
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

static void print_json(const json_t *json)
{
	char *text = json_dumps(json, JSON_COMPACT);

	if (text)
		puts(text);
	free(text);
	fflush(stdout);
}

/* Sends the request, which is stolen. 0 and the result in *result (to be put), or an exit status, told. */
static int ask(const struct ctl_mount *mount, json_t *request, json_t **result)
{
	struct error error = { "" };
	json_t *answer;
	int code = ctl_request(mount, request, &answer, &error);

	*result = NULL;
	if (code) {
		say("%s: %s", mount->mountpoint, error.text);
		return code == -EACCES || code == -EPERM ? EXIT_FAILED : EXIT_NO_DAEMON;
	}
	if (as_json)
		print_json(answer);
	if (json_object_get(answer, "error")) {
		say("%s: %s", mount->mountpoint, text_of(json_object_get(answer, "error"), "text"));
		json_decref(answer);
		return EXIT_FAILED;
	}
	*result = json_incref(json_object_get(answer, "result"));
	json_decref(answer);
	return 0;
}

/* ---- status ---- */

static void print_leg(const json_t *leg)
{
	const json_t *io = json_object_get(leg, "io"), *errors = json_object_get(io, "errors"), *value;
	char size[32], got[32], put[32];
	const char *name;

	printf("  leg %llu    %s%s%s\n", number_of(leg, "index"), text_of(leg, "state"),
	       text_of(leg, "address")[0] ? "  " : "", text_of(leg, "address"));
	if (text_of(leg, "why")[0])
		printf("           because: %s\n", text_of(leg, "why"));
	if (json_is_true(json_object_get(leg, "leaving")))
		puts("           LEAVING: its file was deleted or moved; mirrorctl replace puts another one in its "
		     "place");
	if (json_object_get(leg, "replaces"))
		printf("           replaces: %s, which is read where the other leg has nothing right\n",
		       text_of(leg, "replaces"));
	if (json_object_get(leg, "drill"))
		printf("           DRILL: %s, for %llu more seconds\n", text_of(json_object_get(leg, "drill"), "rules"),
		       number_of(json_object_get(leg, "drill"), "seconds_left"));
	if (!number_of(leg, "size_bytes"))
		return;
	printf("           %s, engine %s%s, reads answered in %.1f ms, hardly any in more than %.1f ms%s\n",
	       size_text(number_of(leg, "size_bytes"), size), text_of(leg, "engine"),
	       json_is_true(json_object_get(leg, "direct")) ? ", direct" : "",
	       (double)number_of(leg, "latency_ns") / 1e6, (double)number_of(leg, "usual_ns") / 1e6,
	       json_is_true(json_object_get(leg, "slow")) ? "; SLOW" : "");
	printf("           late reads: %llu, of which the other leg answered %llu first\n", number_of(leg, "hedged"),
	       number_of(leg, "overtaken"));
	printf("           read %s in %llu, written %s in %llu, %llu flushes\n",
	       size_text(number_of(json_object_get(io, "read"), "bytes"), got),
	       number_of(json_object_get(io, "read"), "ops"),
	       size_text(number_of(json_object_get(io, "write"), "bytes"), put),
	       number_of(json_object_get(io, "write"), "ops"), number_of(json_object_get(io, "flush"), "ops"));
	printf("           errors: %llu reads, %llu checksums, %llu timeouts, %llu charged; blocks repaired: %llu\n",
	       number_of(leg, "read_errors"), number_of(leg, "checksum_errors"), number_of(leg, "timeouts"),
	       number_of(leg, "charged"), number_of(leg, "repaired"));
	printf("           completions:");
	json_object_foreach((json_t *)errors, name, value)
		printf(" %s %" JSON_INTEGER_FORMAT, name, json_integer_value(value));
	printf(", abandoned %llu, empty refused %llu, misaligned refused %llu\n", number_of(leg, "abandoned"),
	       number_of(io, "empty_refused"), number_of(io, "unaligned_refused"));
}

static void print_cache(const json_t *cache)
{
	const json_t *data = json_object_get(cache, "data"), *nodes = json_object_get(cache, "nodes");
	char used[32], budget[32], text[32];

	printf("  cache    %s of %s: data %s, %llu hits, %llu misses, %llu dirty;",
	       size_text(number_of(cache, "used_bytes"), used), size_text(number_of(cache, "budget_bytes"), budget),
	       size_text(number_of(data, "bytes"), text), number_of(data, "hits"), number_of(data, "misses"),
	       number_of(data, "dirty"));
	printf(" nodes %s, %llu hits, %llu misses, %llu dirty\n", size_text(number_of(nodes, "bytes"), text),
	       number_of(nodes, "hits"), number_of(nodes, "misses"), number_of(nodes, "dirty"));
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
	json_array_foreach(extents, i, extent)
		printf("%s %llu of %s", i ? "," : "", number_of(extent, "count"),
		       size_text(number_of(extent, "bytes"), text));
	printf(" and more; the largest is %s\n", size_text(number_of(space, "largest_free_bytes"), text));
}

static double percent_of(const json_t *scrub)
{
	unsigned long long total = number_of(scrub, "total");

	return total ? 100.0 * (double)number_of(scrub, "done") / (double)total : 0;
}

/* Where a scrub stands, without a newline. */
static void print_progress(FILE *out, const json_t *scrub)
{
	unsigned long long left = number_of(scrub, "seconds_left");

	fprintf(out, "%.1f %%, healed %llu, unrecoverable %llu", percent_of(scrub), number_of(scrub, "repaired"),
		number_of(scrub, "unrecoverable"));
	if (left)
		fprintf(out, ", about %llu:%02llu:%02llu left", left / 3600, left / 60 % 60, left % 60);
}

static void print_scrub(const json_t *scrub)
{
	time_t began = (time_t)number_of(scrub, "began"), ended = (time_t)number_of(scrub, "ended");
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
	unsigned long long done = number_of(resync, "done_bytes"), total = number_of(resync, "total_bytes");
	double seconds = (double)number_of(resync, "elapsed_ns") / 1e9;
	char size[32];

	fprintf(out, "%.1f %% of %s", total ? 100.0 * (double)done / (double)total : 0.0, size_text(total, size));
	if (done && seconds > 1)
		fprintf(out, ", %.0f s left", seconds * (double)(total - done) / (double)done);
	if (number_of(resync, "lost_bytes"))
		fprintf(out, ", %s bad on the other leg", size_text(number_of(resync, "lost_bytes"), size));
}

static void print_status(const json_t *status)
{
	const json_t *volume = json_object_get(status, "volume"), *space = json_object_get(status, "space"),
		     *mirror = json_object_get(status, "mirror"), *meta = json_object_get(status, "meta"),
		     *transport = json_object_get(status, "transport"),
		     *memory = json_object_get(status, "memory"), *leg;
	const char *label = text_of(volume, "label");
	char free_text[32], size[32], fixed[32];
	size_t i;

	printf("%s: %s%s\n", text_of(volume, "mountpoint"), text_of(status, "health"),
	       json_is_true(json_object_get(volume, "read_only")) ? ", read-only" : "");
	if (text_of(volume, "damage")[0])
		printf("  damage   %s: unmount, and run fsck.mirrorfs\n", text_of(volume, "damage"));
	if (text_of(volume, "why")[0])
		printf("  because  %s\n", text_of(volume, "why"));
	printf("  volume   %s%s%s, pid %llu\n", text_of(volume, "uuid"), *label ? ", label " : "", label,
	       number_of(volume, "pid"));
	json_array_foreach(json_object_get(status, "legs"), i, leg)
		print_leg(leg);
	if (json_integer_value(json_object_get(json_object_get(status, "resync"), "leg")) >= 0) {
		fputs("  resync   ", stdout);
		print_resync(stdout, json_object_get(status, "resync"));
		putchar('\n');
	}
	printf("  mirror   %llu retries, %llu request errors, %llu deadlines missed, %llu blocks unrecoverable, "
	       "%llu empty refused\n",
	       number_of(mirror, "retries"), number_of(mirror, "request_errors"), number_of(mirror, "deadline_missed"),
	       number_of(mirror, "unrecoverable"), number_of(mirror, "empty_refused"));
	printf("  space    %s free of %s\n", size_text(number_of(space, "available_bytes"), free_text),
	       size_text(number_of(space, "size_bytes"), size));
	print_free_extents(space);
	print_cache(json_object_get(status, "cache"));
	printf("  memory   %s resident of %s at most, %s of that beside the cache\n",
	       size_text(number_of(memory, "resident_bytes"), size),
	       size_text(number_of(memory, "limit_bytes"), free_text),
	       size_text(number_of(memory, "fixed_bytes"), fixed));
	print_scrub(json_object_get(status, "scrub"));
	printf("  journal  %llu commits in %llu records, %llu checkpoints, %llu records replayed at mount\n",
	       number_of(meta, "commits"), number_of(meta, "records"), number_of(meta, "checkpoints"),
	       number_of(meta, "replayed"));
	printf("  requests %llu, %llu in flight, transport %s with %llu threads\n", number_of(transport, "requests"),
	       number_of(transport, "in_flight"), text_of(transport, "transport"), number_of(transport, "threads"));
}

static void print_file(const json_t *file)
{
	const json_t *range;
	char size[32];
	size_t i;

	printf("  %s: %s: bytes", text_of(file, "file"), size_text(number_of(file, "bytes"), size));
	json_array_foreach(json_object_get(file, "ranges"), i, range)
		printf("%s %llu to %llu", i ? "," : "", number_of(range, "from"), number_of(range, "to"));
	if (number_of(file, "more_ranges"))
		printf(" and %llu more places", number_of(file, "more_ranges"));
	putchar('\n');
}

/* What is on one leg alone. */
static void print_files(const struct ctl_mount *mount, const json_t *listing)
{
	const json_t *list = json_object_get(listing, "files"), *file;
	unsigned long long count = json_array_size(list) + number_of(listing, "more_files");
	json_int_t leg = json_integer_value(json_object_get(listing, "lacking_leg"));
	char size[32], nodes[32];
	size_t i;

	if (leg < 0)
		printf("%s: %s: no leg lacks anything\n", mount->mountpoint, text_of(listing, "health"));
	else
		printf("%s: %s: on leg %d alone are %s in %llu files, and %s of metadata\n", mount->mountpoint,
		       text_of(listing, "health"), !leg, size_text(number_of(listing, "bytes"), size), count,
		       size_text(number_of(listing, "metadata_bytes"), nodes));
	json_array_foreach(list, i, file)
		print_file(file);
	if (number_of(listing, "more_files"))
		printf("  and %llu more files with %s\n", number_of(listing, "more_files"),
		       size_text(number_of(listing, "more_bytes"), size));
	if (text_of(listing, "error")[0])
		printf("  and what could not be looked up: %s\n", text_of(listing, "error"));
}

static int status(const struct ctl_mount *mount, char **words)
{
	const char *health;
	json_t *result;
	int code = ask(mount, json_pack("{s:s}", "command", files ? "files" : "status"), &result);

	if (code)
		return code;
	if (!as_json && files)
		print_files(mount, result);
	else if (!as_json)
		print_status(result);
	health = text_of(result, "health");
	if (!strcmp(health, "failed"))
		code = EXIT_BROKEN;
	else if (strcmp(health, "healthy") != 0)
		code = EXIT_DEGRADED;
	json_decref(result);
	return code;
}

/* ---- the cache ---- */

static void print_stats(const struct ctl_mount *mount, const json_t *result)
{
	static const char *const rows[] = { "hits",    "misses",  "refaults", "pages",	"bytes", "dirty",
					    "writing", "scanned", "stolen",   "direct", "stalls" };
	const json_t *cache = json_object_get(result, "cache");
	char used[32], budget[32], resident[32];

	printf("%s: cache: %s of %s in use, %s resident; %llu wake-ups, %llu slowed, %llu throttled\n",
	       mount->mountpoint, size_text(number_of(cache, "used_bytes"), used),
	       size_text(number_of(cache, "budget_bytes"), budget),
	       size_text(number_of(cache, "resident_bytes"), resident), number_of(cache, "wakeups"),
	       number_of(cache, "slowed"), number_of(cache, "throttled"));
	printf("  %-10s %16s %16s\n", "", "data", "nodes");
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		printf("  %-10s %16llu %16llu\n", rows[i], number_of(json_object_get(cache, "data"), rows[i]),
		       number_of(json_object_get(cache, "nodes"), rows[i]));
}

static int ask_cache(const struct ctl_mount *mount, const char *command, bool print)
{
	json_t *result;
	int code = ask(mount, json_pack("{s:s}", "command", command), &result);

	if (!code && print && !as_json)
		print_stats(mount, result);
	json_decref(result);
	return code;
}

static int stats(const struct ctl_mount *mount, char **words)
{
	return ask_cache(mount, "stats", true);
}

static int drop_caches(const struct ctl_mount *mount, char **words)
{
	return ask_cache(mount, "drop-caches", false);
}

/* ---- scrub ---- */

static json_t *scrub_request(const char *what, uint64_t limit)
{
	return json_pack("{s:s, s:s, s:I}", "command", "scrub", "do", what, "limit", (json_int_t)limit);
}

static void print_finding(const json_t *finding)
{
	if (json_object_get(finding, "file"))
		printf("leg %llu: %s: bytes %llu to %llu of %s\n", number_of(finding, "leg"), text_of(finding, "fate"),
		       number_of(finding, "from"), number_of(finding, "to"), text_of(finding, "file"));
	else
		printf("leg %llu: %s: metadata at block %llu\n", number_of(finding, "leg"), text_of(finding, "fate"),
		       number_of(finding, "block"));
}

static int scrub_print(const struct ctl_mount *mount, const json_t *result)
{
	unsigned long long unrecoverable = number_of(result, "unrecoverable");
	const json_t *finding;
	size_t i;

	if (!as_json) {
		json_array_foreach(json_object_get(result, "findings"), i, finding)
			print_finding(finding);
		printf("%s: scrub verified %llu blocks, healed %llu, unrecoverable %llu\n", mount->mountpoint,
		       number_of(result, "blocks"), number_of(result, "repaired"), unrecoverable);
		if (text_of(result, "error")[0])
			printf("%s: and was ended by an error: %s\n", mount->mountpoint, text_of(result, "error"));
		else if (json_is_true(json_object_get(result, "stopped")))
			printf("%s: and was stopped at %.1f %%\n", mount->mountpoint, percent_of(result));
	}
	return unrecoverable || text_of(result, "error")[0] || json_is_true(json_object_get(result, "stopped")) ?
		       EXIT_FAILED :
		       EXIT_HEALTHY;
}

static void pause_msec(unsigned int msec)
{
	uint64_t until = clock_now_ns() + msec * NSEC_PER_MSEC;
	struct mutex lock;
	struct cond never;

	mutex_init(&lock, RANK_LEAF);
	cond_init(&never);
	mutex_lock(&lock);
	while (cond_wait_until(&never, &lock, until))
		;
	mutex_unlock(&lock);
	cond_fini(&never);
	mutex_fini(&lock);
}

/* Asks until it has ended. */
static int scrub_watch(const struct ctl_mount *mount, json_t *result)
{
	bool terminal = !as_json && isatty(STDERR_FILENO);
	int code = 0;

	while (!code && json_is_true(json_object_get(result, "running"))) {
		if (terminal) {
			fputs("\r\033[Kscrub: ", stderr);
			print_progress(stderr, result);
		}
		pause_msec(POLL_MSEC);
		json_decref(result);
		code = ask(mount, scrub_request("show", 0), &result);
	}
	if (terminal)
		fputs("\r\033[K", stderr);
	if (!code)
		code = scrub_print(mount, result);
	json_decref(result);
	return code;
}

static int scrub(const struct ctl_mount *mount, char **words)
{
	const char *what = "watch";
	uint64_t limit = 0;
	json_t *result;
	int code;

	for (; *words; words++) {
		if (!strncmp(*words, "limit=", 6) && options_size(*words + 6, &limit) && limit <= INT64_MAX)
			continue;
		if (strcmp(*words, "start") != 0 && strcmp(*words, "stop") != 0)
			return EXIT_USAGE;
		what = *words;
	}
	code = ask(mount, scrub_request(!strcmp(what, "stop") ? what : "start", limit), &result);
	if (code)
		return code;
	if (!strcmp(what, "watch"))
		return scrub_watch(mount, result);
	json_decref(result);
	return EXIT_HEALTHY;
}

/* ---- drill ---- */

static int drill(const struct ctl_mount *mount, char **words)
{
	long seconds = DRILL_SECONDS;
	json_t *result;
	char *end = "";
	int code;

	if (words[2])
		seconds = strtol(words[2], &end, 10);
	if ((strcmp(words[0], "0") != 0 && strcmp(words[0], "1") != 0) || *end ||
	    seconds < 1 || seconds > CTL_DRILL_SECONDS)
		return EXIT_USAGE;
	code = ask(mount,
		   json_pack("{s:s, s:i, s:s, s:I}", "command", "drill", "leg", words[0][0] - '0', "rules",
			     strcmp(words[1], "off") ? words[1] : "", "seconds", (json_int_t)seconds),
		   &result);
	json_decref(result);
	return code;
}

/* ---- events ---- */

static void print_event(const json_t *event)
{
	double when = json_number_value(json_object_get(event, "time"));
	time_t seconds = (time_t)when;
	char text[64];

	if (as_json) {
		print_json(event);
		return;
	}
	strftime(text, sizeof(text), "%F %T", localtime(&seconds));
	printf("%s %s: %s\n", text, text_of(event, "kind"), text_of(event, "text"));
	fflush(stdout);
}

/* With --follow until the daemon goes. */
static int events(const struct ctl_mount *mount, char **words)
{
	bool more = true, json = as_json;
	json_int_t after = 0;
	int code = 0;

	while (more && !code) {
		const json_t *list, *event;
		json_t *result;
		size_t i;

		as_json = false;
		code = ask(mount, json_pack("{s:s, s:I}", "command", "events", "after", after), &result);
		as_json = json;
		list = json_object_get(result, "events");
		json_array_foreach(list, i, event) {
			print_event(event);
			after = json_integer_value(json_object_get(event, "number"));
		}
		more = json_array_size(list) || follow;
		if (!json_array_size(list) && more && !code)
			pause_msec(POLL_MSEC);
		json_decref(result);
	}
	return code;
}

/* ---- legs ---- */

/* A path as the daemon must be told it: it has another working directory. False: told. */
static bool address_of(const char *name, char *address, size_t size)
{
	const char *path = strncmp(name, "fault:", 6) ? name : strchr(name + 6, ':');
	char current[4096] = "";

	path = !path ? name : *path == ':' ? path + 1 : path;
	if ((path[0] != '/' && !getcwd(current, sizeof(current))) ||
	    snprintf(address, size, "%.*s%s%s%s", (int)(path - name), name, current, current[0] ? "/" : "", path) >=
		    (int)size) {
		say("%s: too long a path", name);
		return false;
	}
	return true;
}

static int change_legs(const struct ctl_mount *mount, const char *command, const char *leg, const char *newcomer)
{
	char address[8192] = "", name[8192] = "";
	json_t *result;
	int code;

	if (newcomer && !address_of(newcomer, address, sizeof(address)))
		return EXIT_FAILED;
	if (leg && (!strcmp(leg, "0") || !strcmp(leg, "1")))
		snprintf(name, sizeof(name), "%s", leg);
	else if (leg && !address_of(leg, name, sizeof(name)))
		return EXIT_FAILED;
	code = ask(mount,
		   json_pack("{s:s, s:s, s:s, s:b}", "command", command, "leg", name, "address", address, "force",
			     force),
		   &result);
	json_decref(result);
	return code;
}

static int detach(const struct ctl_mount *mount, char **words)
{
	return change_legs(mount, "detach", words[0], NULL);
}

static int attach(const struct ctl_mount *mount, char **words)
{
	return change_legs(mount, "attach", NULL, words[0]);
}

static int replace(const struct ctl_mount *mount, char **words)
{
	return change_legs(mount, "replace", words[0], words[1]);
}

static int grow(const struct ctl_mount *mount, char **words)
{
	char before[32], now[32];
	json_t *result;
	int code = ask(mount, json_pack("{s:s}", "command", "grow"), &result);

	if (!code && !as_json)
		printf("%s: %s, it was %s\n", mount->mountpoint, size_text(number_of(result, "size_bytes"), now),
		       size_text(number_of(result, "before_bytes"), before));
	json_decref(result);
	return code;
}

/* Waits until one more resync has ended. */
static int resync_watch(const struct ctl_mount *mount, unsigned long long ended)
{
	bool terminal = !as_json && isatty(STDERR_FILENO);
	const char *health;
	json_t *result;
	int code;

	for (;;) {
		const json_t *resync;

		code = ask(mount, json_pack("{s:s}", "command", "status"), &result);
		if (code)
			return code;
		resync = json_object_get(result, "resync");
		if (number_of(resync, "ended") > ended)
			break;
		if (terminal) {
			fputs("\r\033[Kresync: ", stderr);
			print_resync(stderr, resync);
		}
		json_decref(result);
		pause_msec(POLL_MSEC);
	}
	if (terminal)
		fputs("\r\033[K", stderr);
	health = text_of(result, "health");
	if (!as_json)
		printf("%s: %s\n", mount->mountpoint, health);
	code = !strcmp(health, "healthy") ? EXIT_HEALTHY : EXIT_DEGRADED;
	json_decref(result);
	return code;
}

static int resync(const struct ctl_mount *mount, char **words)
{
	json_t *request, *result;
	unsigned long long ended;
	uint64_t limit;
	bool runs;
	int code;

	if (words[0] &&
	    (strncmp(words[0], "limit=", 6) != 0 || !options_size(words[0] + 6, &limit) || limit > INT64_MAX))
		return EXIT_USAGE;
	code = ask(mount, json_pack("{s:s}", "command", "status"), &result);
	if (code)
		return code;
	ended = number_of(json_object_get(result, "resync"), "ended");
	json_decref(result);
	request = json_pack("{s:s}", "command", "resync");
	if (words[0])
		json_object_set_new(request, "limit", json_integer((json_int_t)limit));
	code = ask(mount, request, &result);
	runs = json_is_true(json_object_get(result, "runs"));
	json_decref(result);
	if (!code && !runs && !words[0] && !as_json)
		printf("%s: healthy\n", mount->mountpoint);
	return code || !runs ? code : resync_watch(mount, ended);
}

/* ---- the end ---- */

static int unmount(const struct ctl_mount *mount, char **words)
{
	struct error error = { "" };
	bool unmounted;
	int code = mountpoint_end(mount, 0, &unmounted, &error);
	json_t *line;

	if (code)
		say("%s: %s", mount->mountpoint, error.text);
	if (code == -ECONNREFUSED)
		code = 0;
	if (as_json) {
		line = code ? json_pack("{s:i, s:{s:s, s:s}}", "version", CTL_VERSION, "error", "errno",
					strerrorname_np(-code), "text", error.text) :
			      json_pack("{s:i, s:{}}", "version", CTL_VERSION, "result");
		print_json(line);
		json_decref(line);
	}
	return code ? EXIT_FAILED : EXIT_HEALTHY;
}

/* ---- the command line ---- */

static const struct verb {
	const char *name;
	int (*run)(const struct ctl_mount *mount, char **words); /* EXIT_USAGE: the words behind MNT make no sense */
	int least, most; /* words behind MNT */
	bool all; /* without MNT: every mount */
	bool forced; /* it may be */
} verbs[] = {
	{ "status", status, 0, 0, true, false },   { "scrub", scrub, 0, 2, false, false },
	{ "resync", resync, 0, 1, false, false },  { "detach", detach, 1, 1, false, false },
	{ "attach", attach, 1, 1, false, true },   { "replace", replace, 2, 2, false, true },
	{ "grow", grow, 0, 0, false, false },
	{ "drill", drill, 2, 3, false, false },	   { "stats", stats, 0, 0, true, false },
	{ "drop-caches", drop_caches, 0, 0, false, false }, { "events", events, 0, 0, false, false },
	{ "umount", unmount, 0, 0, false, false },
};

static void usage(FILE *out)
{
	fputs("usage: mirrorctl [--json] VERB [MNT [WORD...]]\n"
	      "Asks the daemon of the mirrorfs mounted at MNT.\n\n"
	      "  status [MNT]     health, legs, counters (all mounts if MNT is left out)\n"
	      "  status --files MNT   the files that have blocks on one leg alone\n"
	      "  stats [MNT]      what the cache holds and has done, data and nodes apart\n"
	      "  drop-caches MNT  forget what is clean, give its memory back\n"
	      "  events [-f] MNT  what has happened; -f, --follow: and what happens\n"
	      "  scrub MNT [limit=SIZE]   verify every copy, rewrite bad ones, wait for the end\n"
	      "  scrub MNT start [limit=SIZE]   the same, and do not wait\n"
	      "  scrub MNT stop   for now: it goes on where it was when it is started again\n"
	      "  resync MNT [limit=SIZE]  fill a leg that lacks something, wait for the end\n"
	      "  detach MNT LEG   take a leg out\n"
	      "  attach MNT LEG   let a leg join that was away, or a new one\n"
	      "  replace MNT OLD NEW   put a leg in another one's place\n"
	      "  grow MNT         take up what the legs have become larger by\n"
	      "  umount MNT       unmount, and wait until the legs are safe to pull\n"
	      "  drill MNT LEG RULES [SECONDS]   rehearse a fault of leg 0 or 1 (60 seconds); off: end it\n\n"
	      "  -f, --force      attach, replace: give up what the leg holds; events: --follow\n"
	      "  -j, --json       answers as they come, a JSON object a line\n"
	      "  -h, --help       this text\n"
	      "  -V, --version    the version\n",
	      out);
}

static int run(const struct verb *verb, const char *mountpoint, char **words)
{
	struct ctl_mount *mounts = calloc(MOUNTS_MAX, sizeof(*mounts));
	struct error error = { "" };
	int asked = 0, worst = 0, count = mounts ? ctl_mounts(mountpoint, mounts, MOUNTS_MAX, &error) : -ENOMEM;

	if (count < 0)
		say("%s", error.text);
	else if (!count && mountpoint)
		say("%s: no mirrorfs is mounted there", mountpoint);
	else if (!count)
		say("no mirrorfs is mounted");
	if (count <= 0)
		worst = EXIT_NO_DAEMON;
	for (int i = 0; i < count; i++) {
		bool foreign = geteuid() && mounts[i].owner != geteuid();
		int code;

		if (foreign && mountpoint)
			say("%s belongs to user %u: only that user and root may ask", mountpoint, mounts[i].owner);
		if (foreign && !mountpoint)
			continue;
		code = foreign ? EXIT_FAILED : verb->run(&mounts[i], words);
		asked++;
		worst = code > worst ? code : worst;
	}
	if (count > 0 && !asked) {
		say("no mirrorfs of yours is mounted");
		worst = EXIT_NO_DAEMON;
	}
	free(mounts);
	return worst;
}

int main(int argc, char **argv)
{
	static const struct option long_options[] = { { "json", no_argument, NULL, 'j' },
						      { "force", no_argument, NULL, 'f' },
						      { "files", no_argument, NULL, FILES },
						      { "follow", no_argument, NULL, FOLLOW },
						      { "help", no_argument, NULL, 'h' },
						      { "version", no_argument, NULL, 'V' },
						      { NULL, 0, NULL, 0 } };
	int c, count, code = EXIT_USAGE;

	while ((c = getopt_long(argc, argv, "jfhV", long_options, NULL)) >= 0) {
		switch (c) {
		case 'j':
			as_json = true;
			break;
		case 'f':
			force = true;
			break;
		case FOLLOW:
			follow = true;
			break;
		case FILES:
			files = true;
			break;
		case 'h':
			usage(stdout);
			return EXIT_HEALTHY;
		case 'V':
			puts("mirrorctl " MIRRORFS_VERSION);
			return EXIT_HEALTHY;
		default:
			usage(stderr);
			return EXIT_USAGE;
		}
	}
	count = argc - optind - 2; /* words behind MNT; -1: no MNT */
	for (size_t i = 0; count >= -1 && i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		const struct verb *verb = &verbs[i];

		if (strcmp(argv[optind], verb->name) != 0)
			continue;
		if (force && verb->run == events) {
			follow = true;
			force = false;
		}
		if ((force && !verb->forced) || (files && (verb->run != status || count < 0)) ||
		    (follow && verb->run != events))
			continue;
		if (count < 0 ? verb->all : count >= verb->least && count <= verb->most)
			code = run(verb, count < 0 ? NULL : argv[optind + 1], argv + optind + (count < 0 ? 1 : 2));
	}
	if (code == EXIT_USAGE)
		usage(stderr);
	return code;
}
