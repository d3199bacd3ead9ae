/* SPDX-License-Identifier: GPL-2.0-or-later */
/* mirrorctl: asks the daemon of a mount, and shows what it answers. Here is its command line. */
#include "verbs.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FILES = 256, FOLLOW, PROMETHEUS }; /* options without a letter */

#define MOUNTS_MAX 64

/* Options that not every verb takes. */
enum { TAKES_FILES = 1, TAKES_FOLLOW = 2, TAKES_FORCE = 4, TAKES_PROMETHEUS = 8 };

static const struct verb {
	const char *name;
	int (*run)(const struct ask *call);
	int least, most; /* words behind MNT */
	bool all; /* without MNT: every mount */
	unsigned int takes;
} verbs[] = {
	{ "status", show_status, 0, 0, true, TAKES_FILES },
	{ "stats", show_stats, 0, 0, true, TAKES_PROMETHEUS },
	{ "top", show_top, 0, 2, false, 0 },
	{ "events", show_events, 0, 0, false, TAKES_FOLLOW },
	{ "report", show_report, 1, 1, false, 0 },
	{ "scrub", work_scrub, 0, 2, false, 0 },
	{ "resync", work_resync, 0, 1, false, 0 },
	{ "attach", change_attach, 1, 1, false, TAKES_FORCE },
	{ "detach", change_detach, 1, 1, false, TAKES_FORCE },
	{ "replace", change_replace, 2, 2, false, TAKES_FORCE },
	{ "grow", change_grow, 0, 0, false, 0 },
	{ "trim", change_trim, 0, 0, false, 0 },
	{ "set", change_set, 1, 1, false, 0 },
	{ "drill", change_drill, 2, 3, false, 0 },
	{ "drop-caches", change_drop_caches, 0, 0, false, 0 },
	{ "umount", change_umount, 0, 0, false, 0 },
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
	      "  set MNT degraded=auto|ask   may it be mounted while a leg is missing?\n"
	      "  set MNT shared=yes|no   can other machines open its legs?\n"
	      "  umount MNT       unmount, and wait until the legs are safe to pull\n"
	      "  drill MNT LEG RULES [SECONDS]   rehearse a fault of leg 0 or 1 (60 seconds); off: end it\n\n"
	      "  -f, --force      attach, replace: give up what the leg holds; events: --follow;\n"
	      "                   detach: its server was stopped, what it has not answered is lost\n"
	      "  -j, --json       answers as they come, a JSON object a line\n"
	      "  -h, --help       this text\n"
	      "  -V, --version    the version\n",
	      out);
}

static int run(const struct verb *verb, const char *mountpoint, struct ask *call)
{
	struct ctl_mount *mounts = calloc(MOUNTS_MAX, sizeof(*mounts));
	struct error error = { "" };
	int asked = 0, worst = 0, count = mounts ? ctl_mounts(mountpoint, mounts, MOUNTS_MAX, &error) : -ENOMEM;

	if (count < 0)
		ask_say("%s", error.text);
	else if (!count && mountpoint)
		ask_say("%s: no mirrorfs is mounted there", mountpoint);
	else if (!count)
		ask_say("no mirrorfs is mounted");
	if (count <= 0)
		worst = EXIT_NO_DAEMON;
	for (int i = 0; i < count; i++) {
		bool foreign = geteuid() && mounts[i].owner != geteuid();
		int code;

		if (foreign && mountpoint)
			ask_say("%s belongs to user %u: only that user and root may ask", mountpoint, mounts[i].owner);
		if (foreign && !mountpoint)
			continue;
		call->mount = &mounts[i];
		code = foreign ? EXIT_FAILED : verb->run(call);
		asked++;
		worst = code > worst ? code : worst;
	}
	if (count > 0 && !asked) {
		ask_say("no mirrorfs of yours is mounted");
		worst = EXIT_NO_DAEMON;
	}
	if (json_array_size(call->metrics))
		ctl_prometheus(stdout, call->metrics);
	free(mounts);
	return worst;
}

static const struct verb *verb_named(const char *name)
{
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (!strcmp(name, verbs[i].name))
			return &verbs[i];
	return NULL;
}

/* `count` words stand behind the verb, of which the first is MNT. */
static bool may_be(const struct verb *verb, int count, const struct ask *call)
{
	unsigned int given = (call->files ? TAKES_FILES : 0) | (call->follow ? TAKES_FOLLOW : 0) |
			     (call->force ? TAKES_FORCE : 0) | (call->metrics ? TAKES_PROMETHEUS : 0);

	if ((given & ~verb->takes) || (call->metrics && call->json))
		return false;
	return count ? count > verb->least && count <= verb->most + 1 : verb->all && !call->files;
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
	struct ask call = { .json = false };
	const struct verb *verb = NULL;
	int c, count, code;

	while ((c = getopt_long(argc, argv, "jfhV", long_options, NULL)) >= 0) {
		switch (c) {
		case 'j':
			call.json = true;
			break;
		case 'f':
			call.force = true;
			break;
		case FOLLOW:
			call.follow = true;
			break;
		case PROMETHEUS:
			call.metrics = json_array();
			break;
		case FILES:
			call.files = true;
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
	if (optind < argc)
		verb = verb_named(argv[optind]);
	/* One letter for two words that never meet. */
	if (verb && (verb->takes & TAKES_FOLLOW) && call.force) {
		call.follow = true;
		call.force = false;
	}
	count = argc - optind - 1;
	call.words = argv + optind + (count > 0 ? 2 : 1);
	code = verb && may_be(verb, count, &call) ? run(verb, count ? argv[optind + 1] : NULL, &call) : EXIT_USAGE;
	if (code == EXIT_USAGE)
		usage(stderr);
	return code;
}
