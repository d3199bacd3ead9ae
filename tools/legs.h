/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From what the user wrote to two open legs: names, the search for the other leg, waiting, and refusals in words. */
#ifndef MIRRORFS_TOOLS_LEGS_H
#define MIRRORFS_TOOLS_LEGS_H

#include "options.h"

#include "mirrorfs/base/error.h"
#include "mirrorfs/leg.h"
#include "mirrorfs/mirror.h"

#define LEGS_MINIMUM_BYTES (UINT64_C(64) << 20)

struct legs_request {
	const char *spec[MIRROR_LEGS]; /* an address, UUID=… or LABEL=…; [1] may be NULL */
	const struct mount_options *options;
	bool (*pause)(void); /* lets a little time pass; false: the user does not want to wait any longer */
};

/*
 * Opens and locks the legs. legs[1] is NULL if there is no second one to be had: whether that will do is mirror_open's
 * decision. 0 or -errno with `error` told; -EINTR: pause() said no.
 */
int legs_open(const struct legs_request *request, struct leg *legs[MIRROR_LEGS], struct error *error);

/* True: the volume that `spec` names is mounted at `mountpoint`, which is not looked at, and has a daemon. */
bool legs_mounted_at(const char *spec, const char *mountpoint);

/* False: nobody answers for the path in an address: asking for it again would wait. Of a server it is not known. */
bool legs_answer(const char *address);
/*
 * A leg does not answer: may the volume be mounted without it, as the user says, or the label of the other one, which
 * `other` names (NULL: nothing does)?
 */
bool legs_may_lack(const struct mount_options *options, const char *other);
/* What an address names, made absolute: "fault:RULES:PATH" and "PATH" give PATH, a URI stays. 0 or -errno. */
int legs_path(const char *address, char *path, size_t size);

/* By name, before they are opened: the second open of one leg would only find it locked. 0, or -EEXIST told. */
int legs_refuse_same(const char *const address[MIRROR_LEGS], struct error *error);

/* Tells what lies on a leg that is not ours: always returns -ENODATA. */
int legs_refuse_foreign(struct leg *leg, struct error *error);

#endif
