/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What "set" changes of a mount in use. Those that are options of the mount, too, are called and written as there; but
 * for the label, `degraded` and `shared`, which lie on the legs, they hold until the volume is unmounted.
 */
#include "ctl_private.h"

#include "mirrorfs/base/clock.h"

#include <errno.h>
#include <string.h>

#define SET_SECONDS_LEAST 0.01 /* as the mount has it */

static const char *const masks[] = { "none", "0", "1" }; /* by the mask of legs that are written mostly */

static int refuse(const char *option, const char *value, const char *takes, struct error *error)
{
	return error_set(error, -EINVAL, "%s=%s: '%s' is not %s", option, value, value, takes);
}

static int set_label(const struct ctl_subjects *subjects, const char *value)
{
	return subjects->fs ? fs_set_label(subjects->fs, value) : -EOPNOTSUPP;
}

static int set_degraded(const struct ctl_subjects *subjects, const char *value)
{
	bool on = !strcmp(value, "auto");

	return on || !strcmp(value, "ask") ? mirror_set_degraded_auto(subjects->mirror, on) : -EINVAL;
}

static int set_shared(const struct ctl_subjects *subjects, const char *value)
{
	bool on = !strcmp(value, "yes");

	return on || !strcmp(value, "no") ? mirror_set_shared(subjects->mirror, on) : -EINVAL;
}

static int set_policy(const struct ctl_subjects *subjects, const char *value)
{
	int policy = mirror_policy_named(value);

	if (policy >= 0)
		mirror_set_policy(subjects->mirror, (enum mirror_read_policy)policy);
	return policy < 0 ? -EINVAL : 0;
}

static int set_write_mostly(const struct ctl_subjects *subjects, const char *value)
{
	for (unsigned int mask = 0; mask < 3; mask++) {
		if (strcmp(value, masks[mask]) != 0)
			continue;
		mirror_set_write_mostly(subjects->mirror, mask);
		return 0;
	}
	return -EINVAL;
}

static int set_seconds(struct mirror *mirror, void (*set)(struct mirror *mirror, uint64_t ns), const char *value)
{
	uint64_t ns;

	if (!clock_seconds(value, SET_SECONDS_LEAST, &ns))
		return -EINVAL;
	set(mirror, ns);
	return 0;
}

static int set_leg_timeout(const struct ctl_subjects *subjects, const char *value)
{
	return set_seconds(subjects->mirror, mirror_set_leg_timeout, value);
}

static int set_deadline(const struct ctl_subjects *subjects, const char *value)
{
	return set_seconds(subjects->mirror, mirror_set_deadline, value);
}

static const struct option {
	const char *name, *takes;
	int (*set)(const struct ctl_subjects *subjects, const char *value); /* -EINVAL: a wrong value */
} options[] = {
	{ "label", "a name of 63 bytes at most", set_label },
	{ "degraded", "auto or ask", set_degraded },
	{ "shared", "yes or no", set_shared },
	{ "read-policy", "auto, round-robin, leg0 or leg1", set_policy },
	{ "write-mostly", "0, 1 or none", set_write_mostly },
	{ "leg-timeout", "a number of seconds, from 0.01 to a day", set_leg_timeout },
	{ "deadline", "a number of seconds, from 0.01 to a day", set_deadline },
};
#define OPTIONS (sizeof(options) / sizeof(options[0]))

static int refuse_name(const char *name, struct error *error)
{
	char known[128] = "";
	size_t used = 0;

	for (size_t i = 0; i < OPTIONS && used < sizeof(known); i++)
		used += (size_t)snprintf(known + used, sizeof(known) - used, "%s%s",
					 !i ? "" : i + 1 < OPTIONS ? ", " : " and ", options[i].name);
	return error_set(error, -EINVAL, "%s cannot be set; %s can", name, known);
}

int set_option(struct ctl *ctl, const json_t *request, struct error *error)
{
	const char *name = json_string_value(json_object_get(request, "option")) ?: "",
		   *value = json_string_value(json_object_get(request, "value")) ?: "";
	int code;

	for (size_t i = 0; i < OPTIONS; i++) {
		if (strcmp(name, options[i].name) != 0)
			continue;
		code = options[i].set(&ctl->subjects, value);
		return code == -EINVAL ? refuse(name, value, options[i].takes, error) : code;
	}
	return refuse_name(name, error);
}

json_t *set_json(const struct mirror_status *status)
{
	return json_pack("{s:s, s:s, s:s, s:I}", "degraded", status->identity.degraded_auto ? "auto" : "ask",
			 "read_policy", mirror_policy_name(status->policy), "write_mostly",
			 masks[status->write_mostly], "deadline_ns", (json_int_t)status->deadline_ns);
}
