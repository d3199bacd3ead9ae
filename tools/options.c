/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "options.h"

#include "mirrorfs/base/clock.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define IOLOG_MSEC 1000
#define IOLOG_MSEC_MAX 3600000
#define CACHE_MIN (UINT64_C(4) << 20)

/* ---- values ---- */

bool options_size(const char *text, uint64_t *bytes)
{
	static const char units[] = "KMGT";
	const char *unit;
	uint64_t value;
	char *end;

	errno = 0;
	if (!isdigit((unsigned char)text[0]))
		return false;
	value = strtoumax(text, &end, 10);
	if (errno)
		return false;
	if (*end) {
		unit = strchr(units, toupper((unsigned char)*end));
		if (!unit || end[1])
			return false;
		for (const char *u = units; u <= unit; u++) {
			if (value > UINT64_MAX / 1024)
				return false;
			value *= 1024;
		}
	}
	*bytes = value;
	return true;
}

/* The place of `text` in `names`, which ends with NULL; -1: not there. */
static int choice(const char *text, const char *const *names)
{
	for (int i = 0; names[i]; i++)
		if (!strcmp(text, names[i]))
			return i;
	return -1;
}

/* ---- the words ---- */

static bool set_ro(struct mount_options *options, const char *value)
{
	options->read_only = true;
	return true;
}

static bool set_rw(struct mount_options *options, const char *value)
{
	options->read_only = false;
	return true;
}

static bool set_degraded(struct mount_options *options, const char *value)
{
	options->degraded = true;
	return true;
}

static bool set_takeover(struct mount_options *options, const char *value)
{
	options->takeover = true;
	return true;
}

static bool set_heartbeat(struct mount_options *options, const char *value)
{
	return clock_seconds(value, 0.5, &options->heartbeat_ns) && options->heartbeat_ns <= 60 * NSEC_PER_SEC;
}

static bool set_discard(struct mount_options *options, const char *value)
{
	options->discard = true;
	return true;
}

static bool set_network(struct mount_options *options, const char *value)
{
	options->network = true;
	return true;
}

static bool set_blkdev(struct mount_options *options, const char *value)
{
	options->block_device = true;
	return true;
}

static bool set_wait(struct mount_options *options, const char *value)
{
	return clock_seconds(value, 0, &options->wait_ns);
}

static bool set_commit(struct mount_options *options, const char *value)
{
	return clock_seconds(value, 0.01, &options->commit_ns);
}

static bool set_iolog(struct mount_options *options, const char *value)
{
	return value[0] && snprintf(options->iolog, sizeof(options->iolog), "%s", value) < (int)sizeof(options->iolog);
}

static bool set_notify(struct mount_options *options, const char *value)
{
	return value[0] &&
	       snprintf(options->notify, sizeof(options->notify), "%s", value) < (int)sizeof(options->notify);
}

static bool set_iolog_msec(struct mount_options *options, const char *value)
{
	char *end;
	unsigned long msec = isdigit((unsigned char)value[0]) ? strtoul(value, &end, 10) : ULONG_MAX;

	options->iolog_msec = (unsigned int)msec;
	return msec <= IOLOG_MSEC_MAX && !*end;
}

static bool set_leg_timeout(struct mount_options *options, const char *value)
{
	return clock_seconds(value, 0.01, &options->leg_timeout_ns);
}

static bool set_deadline(struct mount_options *options, const char *value)
{
	return clock_seconds(value, 0.01, &options->deadline_ns);
}

static bool set_cache(struct mount_options *options, const char *value)
{
	return options_size(value, &options->cache_bytes) && options->cache_bytes >= CACHE_MIN &&
	       options->cache_bytes <= SIZE_MAX;
}

static bool set_leg(struct mount_options *options, const char *value)
{
	return value[0] &&
	       snprintf(options->leg, sizeof(options->leg), "%s", value) < (int)sizeof(options->leg);
}

static bool set_errors(struct mount_options *options, const char *value)
{
	return !strcmp(value, "ro");
}

static bool set_engine(struct mount_options *options, const char *value)
{
	static const char *const names[] = { "auto", "uring", "threads", NULL };
	int i = choice(value, names);

	options->engine = (enum leg_engine)i;
	return i >= 0;
}

static bool set_transport(struct mount_options *options, const char *value)
{
	static const char *const names[] = { "auto", "uring", "classic", NULL };
	int i = choice(value, names);

	options->transport = (enum front_transport)i;
	return i >= 0;
}

/* Microseconds. */
static bool usec_of(const char *value, unsigned int most, unsigned int *result)
{
	char *end = "";
	unsigned long usec = isdigit((unsigned char)value[0]) ? strtoul(value, &end, 10) : ULONG_MAX;

	*result = (unsigned int)usec;
	return usec <= most && !*end;
}

static bool set_cpu_latency(struct mount_options *options, const char *value)
{
	static const char *const names[] = { "auto", "off", NULL };
	int i = choice(value, names);

	if (i >= 0) {
		options->cpu_latency = (enum front_latency)i;
		return true;
	}
	options->cpu_latency = FRONT_LATENCY_BOUND;
	return usec_of(value, FRONT_LATENCY_MOST, &options->cpu_latency_us);
}

static bool set_poll(struct mount_options *options, const char *value)
{
	return usec_of(value, FRONT_POLL_MOST, &options->poll_us);
}

static bool set_policy(struct mount_options *options, const char *value)
{
	int i = mirror_policy_named(value);

	options->policy = (enum mirror_read_policy)i;
	return i >= 0;
}

static bool set_write_mostly(struct mount_options *options, const char *value)
{
	static const char *const names[] = { "0", "1", NULL };
	int i = choice(value, names);

	options->write_mostly = 1u << (i & 1);
	return i >= 0;
}

static const struct word {
	const char *name;
	const char *value; /* what it takes, as help shows it; NULL: nothing */
	bool (*set)(struct mount_options *options, const char *value);
	const char *help;
} words[] = {
	{ "ro", NULL, set_ro, "write nothing, neither files nor legs" },
	{ "rw", NULL, set_rw, "the contrary (the default)" },
	{ "degraded", NULL, set_degraded, "mount although a leg is missing" },
	{ "wait", "SECONDS", set_wait, "for a leg that comes late or is still locked (30)" },
	{ "leg", "LEG", set_leg, "where the other leg is, if only one is given" },
	{ "commit", "SECONDS", set_commit, "changes reach the legs at the latest after this (5)" },
	{ "cache", "SIZE", set_cache, "memory for file data and metadata, at least 4M (an eighth of the machine's)" },
	{ "takeover", NULL, set_takeover, "take legs that a dead machine has claimed, after a watch" },
	{ "heartbeat", "SECONDS", set_heartbeat, "how often a claim is renewed, 0.5 to 60 (2)" },
	{ "discard", NULL, set_discard, "tell the legs which blocks are free" },
	{ "blkdev", NULL, set_blkdev, "mount the first leg's device: umount then waits for the daemon (root)" },
	{ "network", NULL, set_network, "legs elsewhere may be attached later, though none is given now" },
	{ "engine", "auto|uring|threads", set_engine, "how legs are read and written" },
	{ "transport", "auto|uring|classic", set_transport, "how requests come from the kernel" },
	{ "cpu-latency", "auto|off|USEC", set_cpu_latency, "how deep processors may sleep between requests" },
	{ "poll", "USEC", set_poll, "how long a thread looks for the next request before it sleeps (50)" },
	{ "errors", "ro", set_errors, "when the last leg fails a write, turn read-only (the only choice)" },
	{ "read-policy", "auto|round-robin|leg0|leg1", set_policy, "which leg answers reads" },
	{ "write-mostly", "0|1", set_write_mostly, "read this leg only where the other one cannot answer, or is late" },
	{ "leg-timeout", "SECONDS", set_leg_timeout, "one try on one leg (5; rotational or elsewhere 15)" },
	{ "deadline", "SECONDS", set_deadline, "a request on both legs together (20)" },
	{ "notify", "PROGRAM", set_notify, "run it for each event, with what mirrorctl events tells" },
	{ "iolog", "PREFIX", set_iolog, "log reads and writes as fio does: PREFIX_lat.log, _bw.log, _iops.log" },
	{ "iolog-msec", "MSEC", set_iolog_msec, "means of so much time in these logs (1000); 0: each request" },
};
#define WORDS (sizeof(words) / sizeof(words[0]))

static const char *const kernel_words[] = {
	"suid", "nosuid", "dev", "nodev", "exec", "noexec", "async", "sync", "dirsync", NULL,
};

/*
 * When a read moves the time of access. It is we who do it; libfuse knows but one of these words, which the kernel then
 * shows. That times wait in memory for a reason to be written (lazytime) is always so.
 */
static const struct {
	const char *name;
	enum fs_atime mode;
	const char *kernel;
} atime_words[] = {
	{ "atime", FS_ATIME_RELATIVE, "atime" },	 { "noatime", FS_ATIME_NEVER, "noatime" },
	{ "relatime", FS_ATIME_RELATIVE, "atime" },	 { "norelatime", FS_ATIME_RELATIVE, "atime" },
	{ "strictatime", FS_ATIME_STRICT, "atime" }, { "nostrictatime", FS_ATIME_RELATIVE, "atime" },
};

#define ATIME_WORDS (sizeof(atime_words) / sizeof(atime_words[0]))

static const char *const other_atime_words[] = { "diratime", "nodiratime", "lazytime", "nolazytime", NULL };

static void words_list(char *text, size_t size)
{
	size_t at = 0;

	for (size_t i = 0; i < WORDS && at < size; i++)
		at += (size_t)snprintf(text + at, size - at, "%s%s%s", i ? ", " : "", words[i].name,
				       words[i].value ? "=" : "");
	for (size_t i = 0; i < ATIME_WORDS && at < size; i++)
		at += (size_t)snprintf(text + at, size - at, ", %s", atime_words[i].name);
	for (size_t i = 0; other_atime_words[i] && at < size; i++)
		at += (size_t)snprintf(text + at, size - at, ", %s", other_atime_words[i]);
	for (size_t i = 0; kernel_words[i] && at < size; i++)
		at += (size_t)snprintf(text + at, size - at, ", %s", kernel_words[i]);
}

void options_help(FILE *out)
{
	for (size_t i = 0; i < WORDS; i++) {
		char left[64];

		snprintf(left, sizeof(left), "%s%s%s", words[i].name, words[i].value ? "=" : "",
			 words[i].value ? words[i].value : "");
		fprintf(out, "  %-40s %s\n", left, words[i].help);
	}
	fprintf(out, "  ");
	for (size_t i = 0; i < ATIME_WORDS; i++)
		fprintf(out, "%s%s", i ? ", " : "", atime_words[i].name);
	for (size_t i = 0; other_atime_words[i]; i++)
		fprintf(out, ", %s", other_atime_words[i]);
	fprintf(out, ": as in mount(8)\n  ");
	for (size_t i = 0; kernel_words[i]; i++)
		fprintf(out, "%s%s", i ? ", " : "", kernel_words[i]);
	fprintf(out, ": as in mount(8)\n");
}

void options_init(struct mount_options *options)
{
	*options = (struct mount_options){ .wait_ns = 30 * NSEC_PER_SEC,
					   .iolog_msec = IOLOG_MSEC,
					   .poll_us = FRONT_POLL_US };
}

static int kernel_word_add(struct mount_options *options, const char *name, struct error *error)
{
	size_t used = strlen(options->kernel);

	if (snprintf(options->kernel + used, sizeof(options->kernel) - used, "%s%s", used ? "," : "", name) >=
	    (int)(sizeof(options->kernel) - used))
		return error_set(error, -EINVAL, "too many mount options");
	return 0;
}

/* 1: it is none of these words. */
static int atime_parse(struct mount_options *options, const char *text, struct error *error)
{
	int other = choice(text, other_atime_words);

	for (size_t i = 0; i < ATIME_WORDS; i++) {
		if (strcmp(text, atime_words[i].name) != 0)
			continue;
		options->atime_given = true;
		options->atime.mode = atime_words[i].mode;
		return kernel_word_add(options, atime_words[i].kernel, error);
	}
	if (other < 0)
		return 1;
	if (other < 2) {
		options->atime_given = true;
		options->atime.not_directories = other;
	}
	return 0;
}

/* The kernel has file data written through; names are ours. */
static void sync_parse(struct mount_options *options, const char *text)
{
	if (!strcmp(text, "sync") || !strcmp(text, "async"))
		options->sync = text[0] == 's';
	else if (!strcmp(text, "dirsync"))
		options->dirsync = true;
}

static int word_parse(struct mount_options *options, char *text, struct error *error)
{
	char *value = strchr(text, '='), known[700];
	int code;

	if (value)
		*value++ = '\0';
	if (!value && choice(text, kernel_words) >= 0) {
		sync_parse(options, text);
		return kernel_word_add(options, text, error);
	}
	code = value ? 1 : atime_parse(options, text, error);
	if (code <= 0)
		return code;
	for (size_t i = 0; i < WORDS; i++) {
		if (strcmp(text, words[i].name) != 0)
			continue;
		if (!value && words[i].value)
			return error_set(error, -EINVAL, "option %s needs a value: %s=%s", text, text, words[i].value);
		if (value && !words[i].value)
			return error_set(error, -EINVAL, "option %s takes no value", text);
		if (!words[i].set(options, value))
			return error_set(error, -EINVAL, "option %s: '%s' is not %s", text, value, words[i].value);
		return 0;
	}
	words_list(known, sizeof(known));
	return error_set(error, -EINVAL, "unknown option '%.40s'; there are %s", text, known);
}

int options_parse(struct mount_options *options, const char *text, struct error *error)
{
	char *word = malloc(strlen(text) + 1);
	int code = 0;

	if (!word)
		return error_set(error, -ENOMEM, "out of memory");
	while (!code) {
		size_t length = 0;

		for (; *text && *text != ','; text++) {
			if (*text == '\\' && text[1])
				text++;
			word[length++] = *text;
		}
		word[length] = '\0';
		if (length)
			code = word_parse(options, word, error);
		if (!*text++)
			break;
	}
	free(word);
	return code;
}
