/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * With one leg named, the other is looked for where it was at the last mount, then among the block devices by its
 * label. Image files are never searched for. Whoever is only looked at is opened without a lock and not written.
 */
#include "legs.h"
#include "peek.h"

#include "mirrorfs/base/clock.h"
#include "mirrorfs/base/log.h"
#include "mirrorfs/ctl.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ADDRESS_SIZE 1100
#define MOUNTS_MAX 64

/* What the attempts of one legs_open() have found. */
struct search {
	const struct legs_request *request;
	struct leg *leg[MIRROR_LEGS];
	struct mirror_label_info label[MIRROR_LEGS]; /* of leg[i] */
	int count; /* legs open */
	bool late; /* something was missing that may still come */
	bool lacking; /* a leg was named and is missing */
};

/* ---- names ---- */

bool legs_answer(const char *address)
{
	return leg_address_elsewhere(address) || leg_answers(leg_address_inside(address));
}

bool legs_may_lack(const struct mount_options *options, const char *other)
{
	struct mirror_label_info *info;
	bool may = options->degraded;

	if (may || !other || !legs_answer(other))
		return may;
	info = malloc(sizeof(*info));
	may = info && !peek_label(leg_address_inside(other), info, NULL) && info->identity.degraded_auto;
	free(info);
	return may;
}

int legs_path(const char *address, char *path, size_t size)
{
	const char *named = leg_address_inside(address);
	char resolved[PATH_MAX], *current;
	int length;

	if (leg_address_elsewhere(address)) {
		length = snprintf(path, size, "%s", named);
	} else if (realpath(named, resolved)) {
		length = snprintf(path, size, "%s", resolved);
	} else if (named[0] == '/') {
		length = snprintf(path, size, "%s", named);
	} else {
		current = getcwd(resolved, sizeof(resolved));
		if (!current)
			return -errno;
		length = snprintf(path, size, "%s/%s", current, named);
	}
	return length < (int)size ? 0 : -ENAMETOOLONG;
}

/* What mirrorctl shows and the log says must still be true when the daemon has left this directory. */
static int address_absolute(const char *address, char *absolute, size_t size)
{
	const char *path = leg_address_inside(address);
	char current[PATH_MAX] = "";
	int length;

	if (path[0] != '/' && !leg_address_elsewhere(address) && !getcwd(current, sizeof(current)))
		return -errno;
	length = snprintf(absolute, size, "%.*s%s%s%s", (int)(path - address), address, current,
			  current[0] ? "/" : "", path);
	return length < (int)size ? 0 : -ENAMETOOLONG;
}

/* True for what may appear by itself a moment later: a device or a server, unlike a mistyped file. */
static bool may_come(const char *address)
{
	return leg_address_elsewhere(address) || !strncmp(leg_address_inside(address), "/dev/", 5) ||
	       !strncmp(address, "UUID=", 5) || !strncmp(address, "LABEL=", 6);
}

int legs_refuse_same(const char *const address[MIRROR_LEGS], struct error *error)
{
	struct stat first, second;
	char path[MIRROR_LEGS][PATH_MAX];

	for (int i = 0; i < MIRROR_LEGS; i++)
		if (!address[i] || legs_path(address[i], path[i], sizeof(path[i])))
			return 0;
	if (strcmp(path[0], path[1]) != 0) {
		if (stat(path[0], &first) || stat(path[1], &second))
			return 0;
		if (S_ISBLK(first.st_mode) && S_ISBLK(second.st_mode) ?
			    first.st_rdev != second.st_rdev :
			    first.st_dev != second.st_dev || first.st_ino != second.st_ino)
			return 0;
	}
	return error_set(error, -EEXIST, "%s and %s are the same leg", address[0], address[1]);
}

/* ---- labels ---- */

int legs_refuse_foreign(struct leg *leg, struct error *error)
{
	const char *path = leg_path(leg);
	struct leg_signature found;

	if (leg_probe(leg, &found, NULL) || !found.found)
		return error_set(error, -ENODATA, "%s is not a mirrorfs leg: it holds nothing that is known", path);
	return error_set(error, -ENODATA, "%s is not a mirrorfs leg: it holds %s%s%s%s%s", path, found.type,
			 found.label[0] ? ", label " : "", found.label, found.uuid[0] ? ", UUID " : "", found.uuid);
}

/* ---- the search among block devices ---- */

struct wanted {
	const char *volume; /* UUID, or NULL: by label */
	const char *label;
	struct uuid volume_uuid;
};

#define CANDIDATES_MAX 8

/* What says to be a leg of the volume: beside those that are, one that was replaced or was to be, or a copy. */
struct candidate {
	char address[ADDRESS_SIZE];
	int index;
	struct uuid leg[MIRROR_LEGS]; /* itself and the other one, as it knows them */
};

struct found {
	struct uuid volume;
	struct candidate candidate[CANDIDATES_MAX];
	int count;
};

/* 1; 0: it is neither UUID= nor LABEL=; -EINVAL told. */
static int wanted_parse(const char *spec, struct wanted *wanted, struct error *error)
{
	memset(wanted, 0, sizeof(*wanted));
	if (!strncmp(spec, "UUID=", 5)) {
		wanted->volume = spec + 5;
		return uuid_parse(wanted->volume, &wanted->volume_uuid) ?
			       1 : error_set(error, -EINVAL, "%s: not a UUID", spec);
	}
	if (strncmp(spec, "LABEL=", 6) != 0)
		return 0;
	wanted->label = spec + 6;
	return 1;
}

static bool matches(const struct wanted *wanted, const struct mirror_label_info *info)
{
	if (info->replaced)
		return false;
	return wanted->volume ? uuid_equal(&wanted->volume_uuid, &info->identity.volume) :
				!strcmp(wanted->label, info->identity.label);
}

static int found_add(struct found *found, const char *path, const struct mirror_label_info *info, struct error *error)
{
	struct candidate *candidate = &found->candidate[found->count];
	char first[UUID_TEXT_SIZE], second[UUID_TEXT_SIZE];

	if (uuid_is_null(&found->volume))
		found->volume = info->identity.volume;
	else if (!uuid_equal(&found->volume, &info->identity.volume))
		return error_set(error, -EEXIST, "two volumes are labelled '%s': %s and %s; name one by UUID=",
				 info->identity.label, uuid_format(&found->volume, first),
				 uuid_format(&info->identity.volume, second));
	if (found->count == CANDIDATES_MAX)
		return error_set(error, -EEXIST, "too many devices say to be legs of one volume: name them by path");
	snprintf(candidate->address, sizeof(candidate->address), "%s", path);
	candidate->index = info->index;
	memcpy(candidate->leg, info->identity.leg, sizeof(candidate->leg));
	found->count++;
	return 0;
}

/* The other leg names it: that one's UUID for it is `named`, or NULL: one is looked for that it names, too. */
static bool is_named(const struct found *found, const struct candidate *one, const struct uuid *named)
{
	if (named)
		return uuid_equal(named, &one->leg[one->index]);
	for (int i = 0; i < found->count; i++) {
		const struct candidate *other = &found->candidate[i];

		if (other->index != one->index && !memcmp(one->leg, other->leg, sizeof(one->leg)))
			return true;
	}
	return false;
}

/* Leg `index`; of several that say to be it, the one that the other leg names. 1; 0: there is none; -EEXIST told. */
static int found_leg(const struct found *found, int index, const struct uuid *named, const struct candidate **leg,
		     struct error *error)
{
	const struct candidate *seen[2] = { NULL };
	int count = 0, right = 0;

	for (int i = 0; i < found->count; i++) {
		const struct candidate *one = &found->candidate[i];

		if (one->index != index)
			continue;
		seen[count++ % 2] = one;
		if (is_named(found, one, named)) {
			*leg = one;
			right++;
		}
	}
	if (count > 1 && right != 1)
		return error_set(error, -EEXIST, "%s and %s are the same leg (a copy of one disk on another?): "
						 "name the right one by its path", seen[0]->address, seen[1]->address);
	if (count == 1)
		*leg = seen[0];
	return count > 0;
}

static int search_devices(const struct wanted *wanted, struct found *found, struct error *error)
{
	FILE *partitions = fopen("/proc/partitions", "re");
	struct mirror_label_info *info = malloc(sizeof(*info));
	char line[256], name[128], path[160];
	unsigned long long kib;
	int code = 0;

	memset(found, 0, sizeof(*found));
	while (partitions && info && !code && fgets(line, sizeof(line), partitions)) {
		if (sscanf(line, "%*u %*u %llu %127s", &kib, name) != 2 || kib * 1024 < LEGS_MINIMUM_BYTES)
			continue;
		snprintf(path, sizeof(path), "/dev/%s", name);
		if (!peek_label(path, info, NULL) && matches(wanted, info))
			code = found_add(found, path, info, error);
	}
	if (partitions)
		fclose(partitions);
	free(info);
	return code;
}

/* ---- opening ---- */

/* A mount may be left behind whose daemon was killed: that one holds no leg. */
static bool is_served(const struct ctl_mount *mount)
{
	json_t *answer;
	int code = ctl_request(mount, json_pack("{s:s}", "command", "status"), &answer, NULL);

	json_decref(answer);
	return code != -ECONNREFUSED && code != -ENOENT;
}

/* Whatever `spec` names, as far as that can be seen: null, nothing is. */
static struct uuid volume_of(const char *spec)
{
	struct mirror_label_info *info = malloc(sizeof(*info));
	struct uuid volume = { .bytes = { 0 } };
	struct found *found = NULL;
	struct wanted wanted;

	if (info && wanted_parse(spec, &wanted, NULL) > 0) {
		found = malloc(sizeof(*found));
		if (wanted.volume)
			volume = wanted.volume_uuid;
		else if (found && !search_devices(&wanted, found, NULL))
			volume = found->volume;
	} else if (info && !peek_label(spec, info, NULL)) {
		volume = info->identity.volume;
	}
	free(found);
	free(info);
	return volume;
}

static bool is_mount_of(const struct ctl_mount *mount, const struct uuid *volume, const char *path)
{
	const char *end = strrchr(mount->socket, '/');
	char name[UUID_TEXT_SIZE + 8], uuid[UUID_TEXT_SIZE];

	snprintf(name, sizeof(name), "/%s.sock", uuid_format(volume, uuid));
	return (end && !strcmp(end, name)) || !strcmp(mount->source, path);
}

bool legs_mounted_at(const char *spec, const char *mountpoint)
{
	struct ctl_mount *mount = malloc(sizeof(*mount));
	struct uuid volume;
	char path[PATH_MAX];
	bool mounted = false;

	if (mount && ctl_mounts(mountpoint, mount, 1, NULL) == 1) {
		volume = volume_of(spec);
		if (legs_path(spec, path, sizeof(path)))
			path[0] = '\0';
		mounted = is_mount_of(mount, &volume, path) && is_served(mount);
	}
	free(mount);
	return mounted;
}

/* The leg is one of those that the daemon of the mount serves, by what it is called there. */
static bool is_leg_of(const struct ctl_mount *mount, const char *address)
{
	char path[PATH_MAX], absolute[ADDRESS_SIZE];
	json_t *answer, *leg;
	bool served = false;
	size_t i;

	if (legs_path(address, path, sizeof(path)) ||
	    address_absolute(leg_address_inside(address), absolute, sizeof(absolute)) ||
	    ctl_request(mount, json_pack("{s:s}", "command", "status"), &answer, NULL))
		return false;
	json_array_foreach(json_object_get(json_object_get(answer, "result"), "legs"), i, leg) {
		const char *there = json_string_value(json_object_get(leg, "address"));

		there = there ? leg_address_inside(there) : "";
		served |= !strcmp(there, path) || !strcmp(there, absolute);
	}
	json_decref(answer);
	return served;
}

/* Anybody can make a mount that looks like one of ours, and answer for it what he likes, or nothing. */
static bool is_trusted(const struct ctl_mount *mount)
{
	return mount->owner == 0 || mount->owner == geteuid();
}

/*
 * If this volume is mounted already, that is the answer, not "in use by process 4711". The daemons are asked, and no
 * label is read: the leg may be locked by one that hangs with it.
 */
static int refuse_mounted(const char *address, struct error *error)
{
	struct ctl_mount *mounts = calloc(MOUNTS_MAX, sizeof(*mounts));
	int code = 0, count = mounts ? ctl_mounts(NULL, mounts, MOUNTS_MAX, NULL) : 0;

	for (int i = 0; i < count && !code; i++) {
		if (is_trusted(&mounts[i]) && is_leg_of(&mounts[i], address))
			code = error_set(error, -EALREADY, "%s: this volume is already mounted at %s",
					 leg_address_inside(address), mounts[i].mountpoint);
	}
	free(mounts);
	return code;
}

static bool is_missing(int code)
{
	return code == -ENOENT || code == -ENXIO || code == -ENODEV || code == -ENOMEDIUM;
}

/* The leg that was named beside this one; NULL: none was. */
static const char *other_spec(const struct legs_request *request, const char *address)
{
	return request->spec[request->spec[0] == address];
}

/* Opens one more leg of the search. 1: it is missing, or cannot be used and we are told to do without. */
static int open_one(struct search *search, const char *address, struct error *error)
{
	const struct mount_options *options = search->request->options;
	struct leg_options how = { .engine = options->engine, .read_only = options->read_only };
	struct mirror_label_info *label = &search->label[search->count];
	struct error said = { "" };
	char absolute[ADDRESS_SIZE];
	struct leg *leg;
	int code = address_absolute(address, absolute, sizeof(absolute));

	if (!code)
		code = leg_open(absolute, &how, &leg, &said);
	else
		error_set(&said, code, "%s: %s", address, strerror(-code));
	if (code == -EBUSY) {
		code = refuse_mounted(address, error);
		return code ? code : error_set(error, -EBUSY, "%s", said.text);
	}
	if (is_missing(code)) {
		search->lacking = true;
		search->late |= may_come(address);
		error_set(error, code, "%s", said.text);
		return 1;
	}
	if (code == -ETIMEDOUT && legs_may_lack(options, other_spec(search->request, address))) {
		search->lacking = true;
		error_set(error, code, "%s", said.text);
		return 1;
	}
	if (code)
		return error_set(error, code, "%s", said.text);
	code = mirror_label_read(leg, label, &said);
	if (code == -ENODATA) {
		legs_refuse_foreign(leg, error);
		leg_close(leg);
		return options->degraded ? 1 : -ENODATA;
	}
	if (code) {
		leg_close(leg);
		error_set(error, code, "%s", said.text);
		return code == -ETIMEDOUT && legs_may_lack(options, other_spec(search->request, address)) ? 1 : code;
	}
	if (options->degraded && mirror_space_blocks(leg_geometry(leg)->size_bytes) < label->space_blocks) {
		error_set(error, -ENXIO, "%s is shorter than the volume needs: left out", leg_path(leg));
		leg_close(leg);
		return 1;
	}
	search->leg[search->count++] = leg;
	return 0;
}

/* UUID= and LABEL=: all devices of that volume. */
static int open_searched(struct search *search, const char *spec, struct error *error)
{
	const struct candidate *leg[MIRROR_LEGS] = { NULL };
	struct wanted wanted;
	struct found *found;
	int code = wanted_parse(spec, &wanted, error);

	if (code < 0)
		return code;
	found = malloc(sizeof(*found));
	if (!found)
		return error_set(error, -ENOMEM, "out of memory");
	code = search_devices(&wanted, found, error);
	for (int i = 0; i < MIRROR_LEGS && code >= 0; i++)
		code = found_leg(found, i, NULL, &leg[i], error);
	for (int i = 0; i < MIRROR_LEGS && code >= 0; i++)
		if (leg[i] && search->count < MIRROR_LEGS)
			code = open_one(search, leg[i]->address, error);
	free(found);
	if (code < 0)
		return code;
	if (!search->count) {
		search->late = true;
		return error_set(error, -ENOENT, "no block device holds a leg of %s", spec);
	}
	return 0;
}

/* The leg that was not named: where it was, else by label. Not finding it is no error here. */
static int open_other(struct search *search, struct error *error)
{
	const struct mirror_label_info *label = &search->label[0];
	int other = 1 - label->index, code = 0;
	const struct uuid *named = &label->identity.leg[other];
	const struct candidate *leg = NULL;
	struct mirror_label_info *info;
	struct found *found;

	if (label->identity.leg_count < MIRROR_LEGS)
		return 0;
	info = malloc(sizeof(*info));
	found = malloc(sizeof(*found));
	if (!info || !found) {
		code = error_set(error, -ENOMEM, "out of memory");
	} else if (label->path[other][0] && !peek_label(label->path[other], info, NULL) && info->index == other &&
		   uuid_equal(&info->identity.volume, &label->identity.volume) &&
		   uuid_equal(&info->identity.leg[other], named)) {
		code = open_one(search, label->path[other], error);
	} else {
		struct wanted wanted = { .volume = "", .volume_uuid = label->identity.volume };

		code = search_devices(&wanted, found, error);
		if (!code)
			code = found_leg(found, other, named, &leg, error);
		if (code > 0)
			code = open_one(search, leg->address, error);
		else
			search->late |= may_come(label->path[other]);
	}
	free(info);
	free(found);
	return code < 0 ? code : 0;
}

static void search_close(struct search *search)
{
	while (search->count)
		leg_close(search->leg[--search->count]);
}

static bool may_do_alone(const struct search *search)
{
	const struct mirror_label_info *label = &search->label[0];

	return search->request->options->degraded || label->lacks_other || label->identity.leg_count < MIRROR_LEGS;
}

/* One attempt. 0: what is open will do, or nothing better will come. -ENOLINK: one is open, which is not enough. */
static int attempt(struct search *search, struct error *error)
{
	const struct legs_request *request = search->request;
	int code = 0;

	for (int i = 0; i < MIRROR_LEGS && request->spec[i] && code >= 0; i++) {
		const char *spec = request->spec[i];

		if (!strncmp(spec, "UUID=", 5) || !strncmp(spec, "LABEL=", 6))
			code = open_searched(search, spec, error);
		else
			code = open_one(search, spec, error);
	}
	/* A leg that was named is not replaced by one that was not; one that was replaced is nobody's other leg. */
	if (code >= 0 && search->count == 1 && !search->lacking && !search->label[0].replaced)
		code = open_other(search, error);
	if (code < 0)
		return code;
	if (!search->count)
		return -ENOENT;
	if (search->count == 1 && (search->lacking || search->late) && !may_do_alone(search))
		return -ENOLINK;
	return 0;
}

int legs_open(const struct legs_request *request, struct leg *legs[MIRROR_LEGS], struct error *error)
{
	uint64_t until = clock_now_ns() + request->options->wait_ns;
	struct search *search = calloc(1, sizeof(*search));
	struct error said;
	bool told = false;
	int code;

	if (!search)
		return error_set(error, -ENOMEM, "out of memory");
	search->request = request;
	for (;;) {
		said.text[0] = '\0';
		search->late = search->lacking = false;
		code = attempt(search, &said);
		if (!code || !(code == -EBUSY || search->late) || clock_now_ns() >= until)
			break;
		if (!told)
			log_info("waiting for a leg: %s", said.text[0] ? said.text : "the other one is not there");
		told = true;
		search_close(search);
		if (!request->pause()) {
			code = -EINTR;
			break;
		}
	}
	if (!code && said.text[0])
		log_warn("%s", said.text);
	/*
	 * If none was named, mirror_open says which one is missing and where it was. A volume that needs nobody's word
	 * has waited as well: a disk that only comes late is not to lack anything for it.
	 */
	if (code == -ENOLINK && (!search->lacking || search->label[0].identity.degraded_auto))
		code = 0;
	if (code) {
		search_close(search);
		error_set(error, code, "%s%s", code == -EINTR ? "interrupted" : said.text,
			  code == -ENOLINK ? "; -o degraded mounts without it" : "");
	}
	legs[0] = search->count > 0 ? search->leg[0] : NULL;
	legs[1] = search->count > 1 ? search->leg[1] : NULL;
	free(search);
	return code;
}
