/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mount.mirrorfs: what mount(8) runs for a line of fstab. It takes out the words that are for mount(8) and systemd,
 * says yes to a mount that is there already, carries out a remount, and leaves the rest to mirrorfs.
 */
#include "legs.h"
#include "mountpoint.h"
#include "options.h"

#include <errno.h>
#include <fnmatch.h>
#include <libgen.h>
#include <limits.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

/* mount(8) */
enum { EXIT_OK = 0, EXIT_USAGE = 1, EXIT_SYSTEM = 2, EXIT_FAIL = 32 };

/* Not ours: they say when, by whom and whether to mount, or are what is done anyway. */
static const char *const theirs[] = {
	"defaults", "auto", "noauto", "user", "user=*", "nouser", "users", "owner", "noowner", "group", "nogroup",
	"nofail", "fail", "_netdev", "comment=*", "x-*", "X-*", "uhelper=*", "helper=*", "loud", "silent", "nomand",
	"noiversion", "symfollow", NULL,
};

struct request {
	bool fake, sloppy, no_table, remount;
	const char *spec, *path;
	char *words; /* for mirrorfs */
	struct mount_options options;
};

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("mount.mirrorfs: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
}

/* ---- the words behind -o ---- */

static bool is_theirs(const char *word)
{
	for (int i = 0; theirs[i]; i++)
		if (!fnmatch(theirs[i], word, 0))
			return true;
	return false;
}

static int word_take(struct request *request, const char *word, struct error *error)
{
	struct error unknown = { "" };
	size_t used = strlen(request->words);
	char *longer;

	if (!strcmp(word, "remount")) {
		request->remount = true;
		return 0;
	}
	if (!*word || is_theirs(word))
		return 0;
	if (options_parse(&request->options, word, &unknown)) {
		if (request->sloppy)
			return 0;
		return error_set(error, -EINVAL, "%s", unknown.text);
	}
	longer = realloc(request->words, used + strlen(word) + 2);
	if (!longer)
		return error_set(error, -ENOMEM, "out of memory");
	sprintf(longer + used, "%s%s", used ? "," : "", word);
	request->words = longer;
	return 0;
}

/* A comma that is escaped stays in its word, with the backslash: mirrorfs reads it again. */
static int words_take(struct request *request, const char *text, struct error *error)
{
	char *word = malloc(strlen(text) + 1);
	int code = word ? 0 : error_set(error, -ENOMEM, "out of memory");

	while (!code) {
		size_t length = 0;

		for (; *text && *text != ','; text++) {
			word[length++] = *text;
			if (*text == '\\' && text[1])
				word[length++] = *++text;
		}
		word[length] = '\0';
		code = word_take(request, word, error);
		if (!*text++)
			break;
	}
	free(word);
	return code;
}

/* ---- remounting ---- */

/* What the kernel itself keeps to; what mirrorfs does is settled when it is mounted. */
static unsigned long kernel_flags(const struct mount_options *options)
{
	static const struct {
		const char *word;
		unsigned long flag;
	} flags[] = {
		{ "nosuid", MS_NOSUID },
		{ "nodev", MS_NODEV },
		{ "noexec", MS_NOEXEC },
		{ "sync", MS_SYNCHRONOUS },
	};
	static const unsigned long atime[] = { [FS_ATIME_RELATIVE] = MS_RELATIME,
					       [FS_ATIME_STRICT] = MS_STRICTATIME,
					       [FS_ATIME_NEVER] = MS_NOATIME };
	unsigned long found = options->read_only ? MS_RDONLY : 0;
	char copy[sizeof(options->kernel)], *save = NULL;

	strcpy(copy, options->kernel);
	for (char *word = strtok_r(copy, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
		for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
			if (!strcmp(word, flags[i].word))
				found |= flags[i].flag;
			else if (!strncmp(flags[i].word, "no", 2) && !strcmp(word, flags[i].word + 2))
				found &= ~flags[i].flag;
		}
	}
	/* If none is told, the kernel leaves them as they are. */
	if (options->atime_given)
		found |= atime[options->atime.mode] | (options->atime.not_directories ? MS_NODIRATIME : 0);
	return found;
}

/* The kernel shows these words, and the daemon keeps to them. */
static bool atime_tell(const struct ctl_mount *mount, const struct fs_atime_options *atime)
{
	json_t *answer, *request = json_pack("{s:s, s:i, s:b}", "command", "atime", "mode", (int)atime->mode,
					     "not_directories", atime->not_directories);
	int code = ctl_request(mount, request, &answer, NULL);

	json_decref(answer);
	return !code;
}

/* The kernel would turn a mount writable whose daemon writes nothing. */
static bool daemon_is_read_only(const struct ctl_mount *mount)
{
	json_t *answer;
	bool read_only;

	if (ctl_request(mount, json_pack("{s:s}", "command", "status"), &answer, NULL))
		return false;
	read_only = json_is_true(json_object_get(
		json_object_get(json_object_get(answer, "result"), "volume"), "read_only"));
	json_decref(answer);
	return read_only;
}

static int remount(const struct request *request)
{
	struct ctl_mount *ours = malloc(sizeof(*ours));
	int count = ours ? ctl_mounts(request->path, ours, 1, NULL) : -ENOMEM;
	bool stays = count == 1 && !request->options.read_only && daemon_is_read_only(ours);
	bool told = true;

	if (count == 1 && !stays && request->options.atime_given && !request->fake)
		told = atime_tell(ours, &request->options.atime);
	free(ours);
	if (count != 1) {
		say("%s: no mirrorfs is mounted there", request->path);
		return EXIT_FAIL;
	}
	if (stays) {
		say("%s was mounted read-only, or became so by an error: unmount and mount it again", request->path);
		return EXIT_FAIL;
	}
	if (!told)
		say("%s: its daemon does not answer: when times of access move stays as it is", request->path);
	if (request->fake ||
	    !mount("mirrorfs", request->path, NULL, MS_REMOUNT | kernel_flags(&request->options), NULL))
		return EXIT_OK;
	say("%s: cannot remount: %s", request->path, strerror(errno));
	return EXIT_FAIL;
}

/* ---- mounting ---- */

/* The exit status of a program, or -1: it could not be run. `argv` begins with its path or name. */
static int program_run(char *const argv[])
{
	int status;
	pid_t pid;

	if (posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ))
		return -1;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_SYSTEM;
}

/* The kernel's part is loaded because a mount asks for it. If it is not to be had, mirrorfs says what is missing. */
static void fuse_ask(void)
{
	char *argv[] = { "modprobe", "fuse", NULL };

	if (!geteuid() && access("/dev/fuse", F_OK))
		(void)program_run(argv);
}

/* The one beside us, where all was built, or the one that was installed with us. */
static int mirrorfs_run(const struct request *request)
{
	char self[PATH_MAX], program[PATH_MAX + 32];
	char *argv[] = { program, "-o", request->words, "--", (char *)request->spec, (char *)request->path, NULL };
	ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);
	int status;

	self[length > 0 ? length : 0] = '\0';
	snprintf(program, sizeof(program), "%s/mirrorfs", dirname(self));
	if (access(program, X_OK))
		snprintf(program, sizeof(program), "%s", MIRRORFS_PROGRAM);
	status = program_run(argv);
	if (status >= 0)
		return status;
	say("cannot run %s", program);
	return EXIT_SYSTEM;
}

/* True: its table has such a line, left by a mount that ended otherwise. */
static bool umount_knows(const char *mountpoint)
{
	FILE *table = fopen("/run/mount/utab", "re");
	char *line = NULL, target[PATH_MAX + 16];
	bool known = false;
	size_t size = 0;

	snprintf(target, sizeof(target), " TARGET=%s ", mountpoint);
	while (table && !known && getline(&line, &size, table) > 0)
		known = strstr(line, target) && strstr(line, "uhelper=mirrorfs");
	free(line);
	if (table)
		fclose(table);
	return known;
}

/*
 * umount(8) looks for a helper by the whole type only where its own table has a line for the mount point: otherwise it
 * asks statfs(2), which says no more than "fuse". So we have mount(8) write that line; the mount is there already.
 */
static void umount_tell(const struct request *request)
{
	struct ctl_mount *ours = malloc(sizeof(*ours));

	if (ours && ctl_mounts(request->path, ours, 1, NULL) == 1 && !umount_knows(ours->mountpoint)) {
		char *argv[] = { "mount",	 "--no-canonicalize", "-i", "-f", "-t", "fuse.mirrorfs", "-o",
				 "uhelper=mirrorfs", ours->source,	 ours->mountpoint, NULL };

		program_run(argv);
	}
	free(ours);
}

static int run(const struct request *request)
{
	struct error error = { "" };
	int code;

	if (request->remount)
		return remount(request);
	if (mountpoint_clear(request->path, &error)) {
		say("%s", error.text);
		return EXIT_FAIL;
	}
	if (legs_mounted_at(request->spec, request->path)) {
		say("%s is mounted at %s already", request->spec, request->path);
		return EXIT_OK;
	}
	if (request->fake)
		return EXIT_OK;
	fuse_ask();
	code = mirrorfs_run(request);
	if (!code && !request->no_table && !geteuid())
		umount_tell(request);
	return code;
}

/* ---- the command line ---- */

static void usage(FILE *out)
{
	fputs("usage: mount.mirrorfs LEG MOUNTPOINT [-fnrsvw] [-N NAMESPACE] [-t TYPE] [-o OPTIONS]\n"
	      "Run by mount(8) for the type mirrorfs. -o leg=LEG names the other leg; see mirrorfs(8).\n\n"
	      "  -f   only look whether all is well said\n"
	      "  -n   do not have umount(8) told to wait for the daemon\n"
	      "  -r   the same as -o ro\n"
	      "  -s   pass over options that are not known\n"
	      "  -w   the same as -o rw\n"
	      "  -h   this text\n"
	      "  -V   the version\n"
	      "Other options of mount(8) are taken and change nothing.\n",
	      out);
}

/* All that stands behind -o, in order; "" to begin with. -s may come behind it, and decides about it. */
static void text_add(char **text, const char *more)
{
	char *longer;

	if (asprintf(&longer, "%s,%s", *text, more) < 0) {
		say("out of memory");
		exit(EXIT_SYSTEM);
	}
	free(*text);
	*text = longer;
}

int main(int argc, char **argv)
{
	struct request request = { .words = strdup("") };
	struct error error = { "" };
	char *text = strdup("");
	int c, code;

	options_init(&request.options);
	while (text && (c = getopt(argc, argv, "fnrsvwN:t:o:hV")) >= 0) {
		switch (c) {
		case 'f':
			request.fake = true;
			break;
		case 'n':
			request.no_table = true;
			break;
		case 'r':
			text_add(&text, "ro");
			break;
		case 's':
			request.sloppy = true;
			break;
		case 'w':
			text_add(&text, "rw");
			break;
		case 'o':
			text_add(&text, optarg);
			break;
		case 'h':
			usage(stdout);
			return EXIT_OK;
		case 'V':
			puts("mount.mirrorfs " MIRRORFS_VERSION);
			return EXIT_OK;
		case '?':
			usage(stderr);
			return EXIT_USAGE;
		}
	}
	if (!text || !request.words || words_take(&request, text, &error)) {
		say("%s", error.text[0] ? error.text : "out of memory");
		return EXIT_USAGE;
	}
	free(text);
	if (optind != argc - 2) {
		usage(stderr);
		return EXIT_USAGE;
	}
	request.spec = argv[optind];
	request.path = argv[optind + 1];
	code = run(&request);
	free(request.words);
	return code;
}
