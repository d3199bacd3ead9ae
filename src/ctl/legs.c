/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Commands that steer resyncs and change the legs of a running mount. What opens or waits for a leg has a thread. */
#include "ctl_private.h"

#include "mirrorfs/base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* By number, address or path. -1: it is none. */
static int leg_named(struct mirror *mirror, const char *name)
{
	struct mirror_status *status = malloc(sizeof(*status));
	int found = -1;

	if (!status)
		return -1;
	mirror_status(mirror, status);
	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		char number[2] = { (char)('0' + leg), '\0' };

		if (!strcmp(name, number) || (name[0] && !strcmp(name, status->leg[leg].address)))
			found = leg;
	}
	free(status);
	return found;
}

/* One that failed in this mount makes room: it may be the very leg that is to be attached, and it holds its lock. */
static int failed_leave(struct mirror *mirror, struct error *error)
{
	struct mirror_status *status = malloc(sizeof(*status));
	int code = status ? 0 : -ENOMEM;

	if (status)
		mirror_status(mirror, status);
	for (int leg = 0; leg < MIRROR_LEGS && !code; leg++) {
		if (status->leg[leg].state == MIRROR_OFFLINE)
			code = mirror_detach(mirror, leg, false, error);
	}
	free(status);
	return code;
}

/* Which leg is to leave: -ENOENT it is none. What it has when it goes is as new as can be. */
static int leaver(struct ctl *ctl, const json_t *request, struct error *error)
{
	const char *name = json_string_value(json_object_get(request, "leg"));
	int leg = name ? leg_named(ctl->subjects.mirror, name) : -1;

	if (leg < 0)
		return error_set(error, -ENOENT, "%s is no leg of this volume: see mirrorctl status",
				 name ? name : "(nothing)");
	if (ctl->subjects.meta && mirror_leg_insync(ctl->subjects.mirror, leg))
		(void)meta_checkpoint(ctl->subjects.meta);
	return leg;
}

/* The kernel has claimed the device of which the mount is one, whoever reads and writes it. */
static bool is_claimed(const struct ctl *ctl, dev_t device)
{
	struct front_stats stats = { .device = 0 };

	if (ctl->subjects.front)
		front_stats(ctl->subjects.front, &stats);
	return device && device == stats.device;
}

static bool names_claimed(const struct ctl *ctl, const char *address)
{
	struct stat st;

	return !stat(address, &st) && S_ISBLK(st.st_mode) && is_claimed(ctl, st.st_rdev);
}

/* It stays so until the end of the mount. */
static void tell_claimed(const struct ctl *ctl, int leg, json_t *result)
{
	struct mirror_status *status = malloc(sizeof(*status));

	if (status) {
		mirror_status(ctl->subjects.mirror, status);
		if (is_claimed(ctl, status->leg[leg].geometry.device_rdev))
			json_object_set_new(result, "claimed", command_text(status->leg[leg].address));
	}
	free(status);
}

static int leg_detach(struct ctl *ctl, const json_t *request, json_t *result, struct error *error)
{
	int leg = leaver(ctl, request, error);

	if (leg < 0)
		return leg;
	tell_claimed(ctl, leg, result);
	return mirror_detach(ctl->subjects.mirror, leg, json_is_true(json_object_get(request, "force")), error);
}

/* As mkfs has it done: what is rewritten in place, and the room for nodes, is there for real in a sparse image. */
static int newcomer_allocate(const struct ctl *ctl, struct leg *leg, struct error *error)
{
	uint64_t needed = MIRROR_SPACE_OFFSET + mirror_blocks(ctl->subjects.mirror) * MIRROR_BLOCK;
	struct range_extent reserved[META_RESERVED_EXTENTS];
	int code;

	/* One that is too small is refused for that, and as small as it was. */
	if (!ctl->subjects.meta || leg_geometry(leg)->size_bytes < needed)
		return 0;
	meta_reserved_extents(ctl->subjects.meta, reserved);
	code = leg_allocate(leg, 0, MIRROR_SPACE_OFFSET);
	for (int i = 0; i < META_RESERVED_EXTENTS && !code; i++) {
		if (reserved[i].length)
			code = leg_allocate(leg, MIRROR_SPACE_OFFSET + reserved[i].start * MIRROR_BLOCK,
					    reserved[i].length * MIRROR_BLOCK);
	}
	return code ? error_set(error, code, "%s: no room for labels, journal and reserve: %s", leg_path(leg),
				strerror(-code)) :
		      0;
}

static int newcomer_open(struct ctl *ctl, const json_t *request, struct leg **leg, struct error *error)
{
	const char *address = json_string_value(json_object_get(request, "address"));
	struct leg_options options = { .engine = ctl->subjects.engine };
	struct leg_signature found = { .found = false };
	struct error said = { "" };
	int code = address ? leg_open(address, &options, leg, &said) : error_set(error, -EINVAL, "attach what?");

	/* It may be our own mount that has it. Only now it is known that somebody answers for that path. */
	if (code == -EBUSY && names_claimed(ctl, address)) {
		options.handed_over = true;
		code = leg_open(address, &options, leg, error);
	}
	if (code)
		return error_set(error, code, "%s", said.text);
	if (!json_is_true(json_object_get(request, "force")) && !leg_probe(*leg, &found, NULL) && found.found)
		code = error_set(error, -EEXIST, "%s holds %s, which would be lost; --force gives it up", address,
				 found.type);
	if (!code)
		code = newcomer_allocate(ctl, *leg, error);
	if (code)
		leg_close(*leg);
	return code;
}

static int leg_attach(struct ctl *ctl, const json_t *request, struct error *error)
{
	bool force = json_is_true(json_object_get(request, "force"));
	int code = failed_leave(ctl->subjects.mirror, error);
	struct leg *leg = NULL;

	if (!code)
		code = newcomer_open(ctl, request, &leg, error);
	if (code)
		return code;
	code = mirror_attach(ctl->subjects.mirror, leg, force, error);
	if (code)
		leg_close(leg);
	return code;
}

static int leg_replace(struct ctl *ctl, const json_t *request, json_t *result, struct error *error)
{
	bool force = json_is_true(json_object_get(request, "force"));
	struct leg *by = NULL;
	int code = newcomer_open(ctl, request, &by, error), leg;

	if (code)
		return code;
	leg = leaver(ctl, request, error);
	if (leg >= 0)
		tell_claimed(ctl, leg, result);
	code = leg < 0 ? leg : mirror_replace(ctl->subjects.mirror, leg, by, force, error);
	if (code)
		leg_close(by);
	return code;
}

static int grow(struct ctl *ctl, json_t *result, struct error *error)
{
	struct meta_growth growth;
	int code;

	if (!ctl->subjects.meta)
		return error_set(error, -EOPNOTSUPP, "there is nothing that could grow");
	code = meta_grow(ctl->subjects.meta, &growth, error);
	if (code)
		return code;
	json_object_set_new(result, "before_bytes", json_integer((json_int_t)(growth.before * MIRROR_BLOCK)));
	json_object_set_new(result, "size_bytes", json_integer((json_int_t)(growth.now * MIRROR_BLOCK)));
	log_info("the volume has grown: bytes=%llu before=%llu", (unsigned long long)growth.now * MIRROR_BLOCK,
		 (unsigned long long)growth.before * MIRROR_BLOCK);
	return 0;
}

#define TRIM_STEP (UINT64_C(4) << 30) /* bytes, after which who waits hears that it goes on */

static int trim(struct ctl *ctl, json_t *result, struct error *error)
{
	uint64_t size = mirror_blocks(ctl->subjects.mirror) * MIRROR_BLOCK, trimmed = 0, more;
	int code = 0;

	if (!ctl->subjects.fs)
		return error_set(error, -EOPNOTSUPP, "there is nothing that could be trimmed");
	if (!mirror_discards(ctl->subjects.mirror))
		return error_set(error, -EOPNOTSUPP, "no leg can be told what is free");
	for (uint64_t at = 0; !code && at < size; at += TRIM_STEP) {
		command_send(ctl->legs.fd, "\n", 1, MSG_DONTWAIT);
		code = fs_trim(ctl->subjects.fs, at, TRIM_STEP, 0, &more);
		trimmed += code ? 0 : more;
	}
	json_object_set_new(result, "trimmed_bytes", json_integer((json_int_t)trimmed));
	return code;
}

static int change(struct ctl *ctl, const json_t *request, json_t *result, struct error *error)
{
	const char *command = json_string_value(json_object_get(request, "command"));

	if (!strcmp(command, "grow"))
		return grow(ctl, result, error);
	if (!strcmp(command, "trim"))
		return trim(ctl, result, error);
	if (!strcmp(command, "set"))
		return set_option(ctl, request, error);
	if (!strcmp(command, "detach"))
		return leg_detach(ctl, request, result, error);
	if (!strcmp(command, "attach"))
		return leg_attach(ctl, request, error);
	return leg_replace(ctl, request, result, error);
}

static void change_run(void *arg)
{
	struct ctl *ctl = arg;
	struct ctl_worker *worker = &ctl->legs;
	struct error error = { "" };
	json_t *result = json_object();
	int code = change(ctl, worker->request, result, &error);

	if (code)
		worker_answer(worker, "error", command_error(code, error.text[0] ? error.text : strerror(-code)));
	else
		worker_answer(worker, "result", json_incref(result));
	json_decref(result);
}

void legs_change(struct ctl *ctl, int fd, const json_t *request)
{
	worker_start(&ctl->legs, "legs", fd, request, change_run, ctl);
}

void legs_resync(struct ctl *ctl, int fd, const json_t *request)
{
	const json_t *limit = json_object_get(request, "limit");
	bool runs;
	int error;

	if (limit)
		mirror_resync_limit(ctl->subjects.mirror, (uint64_t)json_integer_value(limit));
	error = mirror_resync_start(ctl->subjects.mirror);
	runs = !error;
	/* The limit holds for the next one; and what has ended a moment ago need not be asked for again. */
	if (error == -ENOENT && (limit || !strcmp(status_health(&ctl->subjects), "healthy")))
		error = 0;
	if (error)
		command_answer_error(fd, error,
				     error == -ENOENT ? "no leg is stale: there is nothing to fill; one that is gone "
							"comes back by mirrorctl attach" :
							"the volume is read-only");
	else
		command_answer(fd, "result", json_pack("{s:b}", "runs", runs));
}
