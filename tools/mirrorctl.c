/* SPDX-License-Identifier: GPL-2.0-or-later */
/* mirrorctl: asks the daemon of a mount, and shows what it answers. */
#include "answer.h"
#include "mountpoint.h"
#include "options.h"
#include "report.h"
#include "watch.h"

#include "mirrorfs/base/clock.h"
#include "mirrorfs/base/sync.h"
#include "mirrorfs/ctl.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { EXIT_HEALTHY = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_DEGRADED = 3, EXIT_BROKEN = 4, EXIT_NO_DAEMON = 5 };

enum { FILES = 256, FOLLOW, PROMETHEUS }; /* options without a letter */

#define MOUNTS_MAX 64
#define BLOCK 4096ull
#define DRILL_SECONDS 60
#define TOP_SECONDS 1.0
#define TOP_SECONDS_MAX 3600.0
#define POLL_MSEC 200 /* how often a scrub is asked about */

static bool as_json, force, files, follow, prometheus; /* options */
static json_t *metrics; /* with --prometheus: what each mount has answered */

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

/* ---- questions and answers ---- */

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
		say("%s: %s", mount->mountpoint, answer_text(json_object_get(answer, "error"), "text"));
		json_decref(answer);
		return EXIT_FAILED;
	}
	*result = json_incref(json_object_get(answer, "result"));
	json_decref(answer);
	return 0;
}

/* ---- status ---- */

static int status(const struct ctl_mount *mount, char **words)
{
	const char *health;
	json_t *result;
	int code = ask(mount, json_pack("{s:s}", "command", files ? "files" : "status"), &result);

	if (code)
		return code;
	if (!as_json && files)
		answer_print_files(mount->mountpoint, result);
	else if (!as_json)
		answer_print_status(result);
	health = answer_text(result, "health");
	if (!strcmp(health, "failed"))
		code = EXIT_BROKEN;
	else if (strcmp(health, "healthy") != 0)
		code = EXIT_DEGRADED;
	json_decref(result);
	return code;
}

/* ---- figures ---- */

static int stats(const struct ctl_mount *mount, char **words)
{
	json_t *result;
	int code = ask(mount, json_pack("{s:s}", "command", "stats"), &result);

	if (!code && prometheus)
		json_array_append(metrics, result);
	else if (!code && !as_json)
		answer_print_stats(mount->mountpoint, result);
	json_decref(result);
	return code;
}

static int drop_caches(const struct ctl_mount *mount, char **words)
{
	json_t *result;
	int code = ask(mount, json_pack("{s:s}", "command", "drop-caches"), &result);

	json_decref(result);
	return code;
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

/* Until the daemon goes, somebody ends it, or so often. */
static int top(const struct ctl_mount *mount, char **words)
{
	double seconds = TOP_SECONDS;
	uint64_t before_ns, now_ns;
	json_t *before, *now;
	char *end = "";
	long count = 0;
	int code;

	if (words[0])
		seconds = strtod(words[0], &end);
	if (words[0] && words[1] && !*end)
		count = strtol(words[1], &end, 10);
	if (*end || !(seconds >= 0.1 && seconds <= TOP_SECONDS_MAX) || count < 0)
		return EXIT_USAGE;
	before_ns = clock_now_ns();
	code = ask(mount, json_pack("{s:s}", "command", "stats"), &before);
	for (long n = 0; !code && (!count || n < count); n++) {
		pause_msec((unsigned int)(seconds * 1e3));
		now_ns = clock_now_ns();
		code = ask(mount, json_pack("{s:s}", "command", "stats"), &now);
		if (!code && !as_json) {
			fputs(isatty(STDOUT_FILENO) ? "\033[H\033[J" : n ? "\n" : "", stdout);
			answer_print_top(mount->mountpoint, now, before, (double)(now_ns - before_ns) / 1e9);
		}
		json_decref(before);
		before = now;
		before_ns = now_ns;
	}
	json_decref(before);
	return code;
}

/* ---- scrub ---- */

static json_t *scrub_request(const char *what, uint64_t limit)
{
	return json_pack("{s:s, s:s, s:I}", "command", "scrub", "do", what, "limit", (json_int_t)limit);
}

static void print_finding(const json_t *finding)
{
	if (json_object_get(finding, "file"))
		printf("leg %llu: %s: bytes %llu to %llu of %s\n", answer_number(finding, "leg"),
		       answer_text(finding, "fate"), answer_number(finding, "from"), answer_number(finding, "to"),
		       answer_text(finding, "file"));
	else
		printf("leg %llu: %s: metadata at block %llu\n", answer_number(finding, "leg"),
		       answer_text(finding, "fate"), answer_number(finding, "block"));
}

static int scrub_print(const struct ctl_mount *mount, const json_t *result)
{
	unsigned long long unrecoverable = answer_number(result, "unrecoverable");
	const json_t *finding;
	size_t i;

	if (!as_json) {
		json_array_foreach(json_object_get(result, "findings"), i, finding) print_finding(finding);
		printf("%s: scrub verified %llu blocks, healed %llu, unrecoverable %llu\n", mount->mountpoint,
		       answer_number(result, "blocks"), answer_number(result, "repaired"), unrecoverable);
		if (answer_text(result, "error")[0])
			printf("%s: and was ended by an error: %s\n", mount->mountpoint, answer_text(result, "error"));
		else if (json_is_true(json_object_get(result, "stopped")))
			printf("%s: and was stopped at %.1f %%\n", mount->mountpoint, answer_percent(result));
	}
	return unrecoverable || answer_text(result, "error")[0] || json_is_true(json_object_get(result, "stopped"))
		       ? EXIT_FAILED
		       : EXIT_HEALTHY;
}

/* Asks until it has ended. */
static int scrub_watch(const struct ctl_mount *mount, json_t *result)
{
	struct watch watch;
	char more[80];
	int code = 0;

	watch_begin(&watch, "scrub", as_json);
	while (!code && json_is_true(json_object_get(result, "running"))) {
		snprintf(more, sizeof(more), ", healed %llu, unrecoverable %llu", answer_number(result, "repaired"),
			 answer_number(result, "unrecoverable"));
		watch_tell(&watch, answer_number(result, "done") * BLOCK, answer_number(result, "total") * BLOCK,
			   more);
		pause_msec(POLL_MSEC);
		json_decref(result);
		code = ask(mount, scrub_request("show", 0), &result);
	}
	watch_end(&watch);
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
	if ((strcmp(words[0], "0") != 0 && strcmp(words[0], "1") != 0) || *end || seconds < 1 ||
	    seconds > CTL_DRILL_SECONDS)
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
	printf("%s %s: %s\n", text, answer_text(event, "kind"), answer_text(event, "text"));
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
		json_array_foreach(list, i, event)
		{
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

/* All that are kept; NULL: told. */
static json_t *events_all(const struct ctl_mount *mount)
{
	json_t *all = json_array(), *result;
	json_int_t after = 0;

	for (;;) {
		const json_t *list;

		if (ask(mount, json_pack("{s:s, s:I}", "command", "events", "after", after), &result)) {
			json_decref(all);
			return NULL;
		}
		list = json_object_get(result, "events");
		json_array_extend(all, (json_t *)list);
		after = json_integer_value(
			json_object_get(json_array_get(list, json_array_size(list) - 1), "number"));
		if (!json_array_size(list))
			break;
		json_decref(result);
	}
	json_decref(result);
	return all;
}

static int report(const struct ctl_mount *mount, char **words)
{
	json_t *stats_now = NULL, *history = NULL, *happened = NULL, *data;
	uint32_t nanoseconds;
	int64_t seconds;
	int code;

	clock_wall(&seconds, &nanoseconds);
	code = ask(mount, json_pack("{s:s}", "command", "stats"), &stats_now);
	if (!code)
		code = ask(mount, json_pack("{s:s}", "command", "history"), &history);
	if (!code)
		happened = events_all(mount);
	if (!code && happened) {
		data = json_pack("{s:I, s:O, s:O, s:O}", "time", (json_int_t)seconds, "stats", stats_now, "history",
				 history, "events", happened);
		code = report_write(words[0], data);
		if (code)
			say("%s: %s", words[0], strerror(-code));
		json_decref(data);
		code = code ? EXIT_FAILED : EXIT_HEALTHY;
	} else if (!code) {
		code = EXIT_NO_DAEMON;
	}
	json_decref(stats_now);
	json_decref(history);
	json_decref(happened);
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
	code = ask(
		mount,
		json_pack("{s:s, s:s, s:s, s:b}", "command", command, "leg", name, "address", address, "force", force),
		&result);
	if (!code && !as_json && json_object_get(result, "claimed"))
		printf("%s: the kernel keeps %s claimed until it is unmounted\n", mount->mountpoint,
		       answer_text(result, "claimed"));
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
		printf("%s: %s, it was %s\n", mount->mountpoint, answer_size(answer_number(result, "size_bytes"), now),
		       answer_size(answer_number(result, "before_bytes"), before));
	json_decref(result);
	return code;
}

static int trim(const struct ctl_mount *mount, char **words)
{
	json_t *result;
	int code = ask(mount, json_pack("{s:s}", "command", "trim"), &result);
	char size[32];

	if (!code && !as_json)
		printf("%s: the legs were told of %s that are free\n", mount->mountpoint,
		       answer_size(answer_number(result, "trimmed_bytes"), size));
	json_decref(result);
	return code;
}

static int set(const struct ctl_mount *mount, char **words)
{
	const char *value = strchr(words[0], '=');
	json_t *result;
	int code;

	if (!value)
		return EXIT_USAGE;
	code = ask(mount,
		   json_pack("{s:s, s:s%, s:s}", "command", "set", "option", words[0], (size_t)(value - words[0]),
			     "value", value + 1),
		   &result);
	json_decref(result);
	return code;
}

/* Waits until one more resync has ended. */
static int resync_watch(const struct ctl_mount *mount, unsigned long long ended)
{
	struct watch watch;
	const char *health;
	json_t *result;
	int code;

	watch_begin(&watch, "resync", as_json);
	for (;;) {
		const json_t *resync;

		code = ask(mount, json_pack("{s:s}", "command", "status"), &result);
		if (code)
			return code;
		resync = json_object_get(result, "resync");
		if (answer_number(resync, "ended") > ended)
			break;
		watch_tell(&watch, answer_number(resync, "done_bytes"), answer_number(resync, "total_bytes"), "");
		json_decref(result);
		pause_msec(POLL_MSEC);
	}
	watch_end(&watch);
	health = answer_text(result, "health");
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
	ended = answer_number(json_object_get(result, "resync"), "ended");
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
					strerrorname_np(-code), "text", error.text)
			    : json_pack("{s:i, s:{}}", "version", CTL_VERSION, "result");
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
	{ "status", status, 0, 0, true, false },  { "scrub", scrub, 0, 2, false, false },
	{ "resync", resync, 0, 1, false, false }, { "detach", detach, 1, 1, false, false },
	{ "attach", attach, 1, 1, false, true },  { "replace", replace, 2, 2, false, true },
	{ "grow", grow, 0, 0, false, false },	  { "drill", drill, 2, 3, false, false },
	{ "stats", stats, 0, 0, true, false },	  { "drop-caches", drop_caches, 0, 0, false, false },
	{ "top", top, 0, 2, false, false },	  { "trim", trim, 0, 0, false, false },
	{ "set", set, 1, 1, false, false },	  { "report", report, 1, 1, false, false },
	{ "events", events, 0, 0, false, false }, { "umount", unmount, 0, 0, false, false },
};

static void usage(FILE *out)
{
	fputs("usage: mirrorctl [--json] VERB [MNT [WORD...]]\n"
	      "Asks the daemon of the mirrorfs mounted at MNT.\n\n"
	      "  status [MNT]     health, legs, counters (all mounts if MNT is left out)\n"
	      "  status --files MNT   the files that have blocks on one leg alone\n"
	      "  stats [MNT]      how long operations and legs take, what the cache holds and has done\n"
	      "  stats --prometheus [MNT]   the same and more, for Prometheus\n"
	      "  top MNT [SECONDS [COUNT]]   what happens, every second\n"
	      "  report MNT FILE  a page for a browser: health, times, legs, space, scrubs\n"
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
	      "  trim MNT         tell the legs which blocks are free\n"
	      "  set MNT label=TEXT   name the volume\n"
	      "  set MNT read-policy=auto|round-robin|leg0|leg1   which leg answers reads\n"
	      "  set MNT write-mostly=0|1|none   read this leg only where the other one cannot answer\n"
	      "  set MNT leg-timeout=SECONDS   one try on one leg\n"
	      "  set MNT deadline=SECONDS   a request on both legs together\n"
	      "  set MNT degraded=auto|ask   mount always, or only with -o degraded, if a leg is missing\n"
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
	if (prometheus && json_array_size(metrics))
		ctl_prometheus(stdout, metrics);
	free(mounts);
	return worst;
}

int main(int argc, char **argv)
{
	static const struct option long_options[] = { { "json", no_argument, NULL, 'j' },
						      { "force", no_argument, NULL, 'f' },
						      { "files", no_argument, NULL, FILES },
						      { "follow", no_argument, NULL, FOLLOW },
						      { "prometheus", no_argument, NULL, PROMETHEUS },
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
		case PROMETHEUS:
			prometheus = true;
			metrics = json_array();
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
		    (follow && verb->run != events) || (prometheus && (verb->run != stats || as_json)))
			continue;
		if (count < 0 ? verb->all : count >= verb->least && count <= verb->most)
			code = run(verb, count < 0 ? NULL : argv[optind + 1], argv + optind + (count < 0 ? 1 : 2));
	}
	if (code == EXIT_USAGE)
		usage(stderr);
	return code;
}
