/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ctl: the control socket of a running mount, and the client's side of it. The only door to JSON.
 *
 * One request and one answer a connection, each a JSON object on a line. Requests: {"command": "status"};
 * {"command": "stats"}: what "status" tells, and how long everything took; {"command": "drop-caches"};
 * {"command": "scrub", "do": "show"}, "start" (with "limit": bytes a second, 0 for none) or "stop";
 * {"command": "resync"}, perhaps with "limit"; {"command": "detach", "leg": NAME};
 * {"command": "attach", "address": ADDRESS, "force": BOOL}; {"command": "replace"} with all of these;
 * {"command": "events", "after": NUMBER}: the events kept of those behind that one, some at a time;
 * {"command": "files"}: what is on one leg alone, perhaps with empty lines before the answer while it is looked for;
 * {"command": "history"}: what was counted, in the course of the mount, and where space is free;
 * {"command": "grow"}; {"command": "trim"}; {"command": "set", "option": NAME, "value": TEXT}, of those in ctl/set.c;
 * {"command": "end"}: an empty line, and the answer when the mount has ended and the legs are closed, see
 * ctl_end_ask();
 * {"command": "drill", "leg": 0, "rules": "read,hang", "seconds": 60}. NAME is a leg's number or path. An answer
 * carries "version": 1 and "result" or "error". What takes long is started so, goes on by itself, and is asked about.
 * A request that begins with "GET /metrics" gets an HTTP answer instead: that of ctl_prometheus().
 * Only uid 0 and the daemon's own uid are heard (SO_PEERCRED).
 */
#ifndef MIRRORFS_CTL_H
#define MIRRORFS_CTL_H

#include "mirrorfs/base/error.h"
#include "mirrorfs/cache.h"
#include "mirrorfs/front.h"
#include "mirrorfs/fs.h"
#include "mirrorfs/meta.h"
#include "mirrorfs/mirror.h"

#include <jansson.h>
#include <stdio.h>

#define CTL_VERSION 1
#define CTL_DRILL_SECONDS 3600 /* no drill lasts longer */

struct ctl;
struct ctl_events;

/* What the socket can tell of and act on; any of them but `mirror` may be NULL. All outlive the ctl. */
struct ctl_subjects {
	struct mirror *mirror;
	struct cache *cache;
	struct meta *meta;
	struct fs *fs;
	struct front *front;
	const char *mountpoint;
	const char *source;
	bool read_only; /* the mount is */
	enum leg_engine engine; /* of legs that are attached */
	size_t fixed_bytes; /* of memory that the daemon may have beside 1.1 times the cache's budget */
	struct ctl_events *events;
};

/*
 * The latest events, each with a snapshot of the volume's state, to be asked for. They are kept from before the mirror
 * is opened, whose events ctl_event() takes (as mirror_options.event, with the events as its context), until it is
 * closed.
 */
struct ctl_events *ctl_events_create(void); /* NULL: no memory */
/*
 * From now on `tell` hears of each event, in their order: its kind, one line for people, and all of it as JSON. But of
 * healed and of unrecoverable blocks no more than one a minute each. It must not wait, nor call back.
 */
void ctl_events_tell(struct ctl_events *events, void (*tell)(void *context, const char *kind, const char *text,
							     const char *json), void *context);
void ctl_events_destroy(struct ctl_events *events); /* NULL is allowed */
void ctl_event(void *events, const struct mirror_event *event);

/*
 * Opens the socket of this volume and starts the thread that answers. The directory is /run/mirrorfs for root,
 * $XDG_RUNTIME_DIR/mirrorfs else, else a private one under /tmp. 0 or -errno with `error` told.
 */
int ctl_serve(const struct ctl_subjects *subjects, struct ctl **ctl, struct error *error);
/* Ends running commands, removes the socket; the subjects are not used any more. NULL is allowed. */
void ctl_stop(struct ctl *ctl);
/*
 * The last word, when the legs are closed, to those who asked for it; then frees. `code` 0: all is on the legs, and
 * they are free; -EBUSY: `text` tells which leg the kernel still holds; else what went wrong. NULL is allowed.
 */
void ctl_destroy(struct ctl *ctl, int code, const char *text);

/* ---- the client ---- */

/* Answers to "stats", of one mount each, in the text format of Prometheus. */
void ctl_prometheus(FILE *out, const json_t *mounts);

struct ctl_mount {
	char mountpoint[4096];
	char source[4096];
	char socket[108]; /* of its daemon; "" none found */
	uid_t owner;
};

/*
 * One process of a user at a time, to look what is mounted and change it: a descriptor, whose closing ends that, or
 * -errno told. May wait for others.
 */
int ctl_lock(struct error *error);

/*
 * Finds the mirrorfs mounts in /proc/self/mountinfo (`mountpoint` NULL: all), never touching the mount itself.
 * Returns the number found, at most `max`, or -errno.
 */
int ctl_mounts(const char *mountpoint, struct ctl_mount *mounts, int max, struct error *error);

/*
 * Sends `request` (stolen). 0 and the answer in *result, the caller's; -ECONNREFUSED or -ENOENT: no daemon; -ETIMEDOUT:
 * it does not answer; -EMSGSIZE: it does not come to an end. However it behaves, and whoever it is, "status" takes
 * 20 seconds at most; others may take as long as an empty line comes in each 20 seconds.
 */
int ctl_request(const struct ctl_mount *mount, json_t *request, json_t **result, struct error *error);

/*
 * Asks a daemon to be told of its end, so that the mount can be unmounted then: 0; or -errno told as for
 * ctl_request(), or -EBUSY: it is there and cannot tell. Afterwards ctl_end_wait() waits for that, without any limit: 0
 * when all is on the legs and the process is gone; -EBUSY: a leg has not given all requests back, and stays locked
 * until it has; -ECONNRESET: the daemon was killed; -EIO: not everything could be written. Whoever does not wait
 * forgets.
 */
struct ctl_end {
	int socket, process;
};
int ctl_end_ask(const struct ctl_mount *mount, struct ctl_end *end, struct error *error);
int ctl_end_wait(struct ctl_end *end, struct error *error);
void ctl_end_forget(struct ctl_end *end);

#endif
