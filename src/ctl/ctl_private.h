/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of `ctl` share. */
#ifndef MIRRORFS_CTL_PRIVATE_H
#define MIRRORFS_CTL_PRIVATE_H

#include "mirrorfs/base/sync.h"
#include "mirrorfs/ctl.h"

#include <stdatomic.h>
#include <sys/un.h>

#define CTL_PATH_SIZE sizeof(((struct sockaddr_un *)0)->sun_path)
#define CTL_REQUEST_MAX 4096u /* bytes of a request line */
#define CTL_CONNECTIONS 16
#define CTL_ANSWER_SECONDS 20 /* a daemon that says nothing for so long does not answer */
#define CTL_FINDINGS 256u
#define CTL_FINDINGS_HEALED 128u /* of these: what is lost must be known, what was healed is counted as well */
#define CTL_FINDING_PATH 512

/* A client that has not sent its whole line yet. */
struct ctl_connection {
	int fd; /* -1: free */
	size_t length;
	char line[CTL_REQUEST_MAX];
};

/* A place at which a scrub has found something. */
struct ctl_finding {
	struct meta_live live;
	int leg;
	bool healed, lost;
	char path[CTL_FINDING_PATH]; /* of the file; "" not looked for yet */
};

struct ctl_scrub {
	struct thread thread;
	bool started; /* to be joined; the serving thread's own */
	uint64_t requests, worked_ns, kept_ns; /* the scrub's own thread's: when it last rested, and was kept */
	unsigned int told; /* findings */
	_Atomic uint64_t limit; /* bytes of the space in a second; 0: none */

	struct mutex lock; /* RANK_CTL */
	struct cond moved;
	bool running, stop, halted; /* halted: by a person */
	int error; /* that ended it */
	struct meta_scrub_state state;
	uint64_t total, begun_ns, begun_done;
	unsigned int finding_count;
	struct ctl_finding findings[CTL_FINDINGS];
};

/* A command that waits for the legs. */
struct ctl_worker {
	struct thread thread;
	bool started; /* to be joined */
	_Atomic bool running;
	int fd; /* of the client */
	json_t *request;
};

/* What was counted since the mount, at one look; see history.c. */
#define CTL_LOOKS 512u
#define CTL_LOOK_OPERATIONS 3
#define CTL_MAP_CELLS 1024u

struct ctl_sum {
	uint64_t count, sum_ns, bytes;
};

struct ctl_look {
	int64_t wall;
	struct ctl_sum operation[CTL_LOOK_OPERATIONS], leg[MIRROR_LEGS][2];
};

struct ctl_history {
	uint64_t step_ns, due_ns;
	unsigned int count;
	struct ctl_look look[CTL_LOOKS];
};

struct ctl {
	struct ctl_subjects subjects;
	char path[CTL_PATH_SIZE]; /* of the socket */
	char link[CTL_PATH_SIZE]; /* by the mount's device number; "" none */
	int listener;
	int wake; /* eventfd: ctl_stop() was called */
	struct thread thread;
	struct ctl_connection connections[CTL_CONNECTIONS];
	struct ctl_scrub scrub;
	struct ctl_history history; /* the serving thread's own */
	struct ctl_worker legs, files;
	_Atomic bool files_stop;
	int waiters[CTL_CONNECTIONS]; /* clients to be told of the end; -1: none */
};

/* path.c */
/*
 * The n-th directory in which a daemon of `owner` may have its sockets, the best first. False: there is none. A
 * directory counts only if it is the owner's and nobody else can write to it: path_trusted().
 */
bool path_directory(uid_t owner, int n, char *directory, size_t size);
bool path_trusted(const char *directory, uid_t owner);
int path_connect(const char *path); /* a connected socket or -errno */

/* status.c */
json_t *status_whole(struct ctl *ctl); /* with the scrub; NULL: no memory */
json_t *status_cache(struct cache *cache); /* likewise */
const char *status_health(const struct ctl_subjects *subjects);

/* command.c */
void command_run(struct ctl *ctl, int fd, const char *line, size_t length); /* carries out one request line */

/* Sends {"version": …, `name`: `value`} and a newline, as far as the client's buffer goes; `value` is stolen. */
void command_answer(int fd, const char *name, json_t *value);
void command_answer_error(int fd, int error, const char *text);
char *command_line(const char *name, json_t *value); /* what such an answer is, but for the newline; NULL: no memory */
json_t *command_error(int error, const char *text); /* the value of an answer with the name "error" */
json_t *command_text(const char *text); /* names need not be UTF-8, JSON must: then '?' stands for what is not ASCII */

bool command_send(int fd, const char *text, size_t length, int flags); /* as far as send(2) with `flags` goes: all? */

/* stats.c */
void stats_command(struct ctl *ctl, int fd, const json_t *request);
void stats_http(struct ctl *ctl, int fd, const char *line, size_t length); /* answers the first line of a GET */

/* history.c */
uint64_t history_note(struct ctl *ctl); /* how long until it is to be called again, ns */
void history_command(struct ctl *ctl, int fd, const json_t *request);

/* worker.c; the serving thread, but for worker_answer(), which is the last that a worker does */
void worker_start(struct ctl_worker *worker, const char *name, int fd, const json_t *request, void (*run)(void *),
		  void *arg);
/* Waits for a slow client, but not for ever; `value` is stolen. Whoever has read it may send the next such command. */
void worker_answer(struct ctl_worker *worker, const char *name, json_t *value);
void worker_end(struct ctl_worker *worker);

/* events.c */
void events_begin(struct ctl *ctl); /* snapshots tell of space and scrub, too */
void events_end(struct ctl *ctl);
void events_command(struct ctl *ctl, int fd, const json_t *request);
/* One of our own: `more` (stolen) is added to it; of those that are `minor` half may be kept. */
void events_add(struct ctl *ctl, const char *kind, bool minor, json_t *more, const char *format, ...)
	__attribute__((format(printf, 5, 6)));
void events_watch_space(struct ctl *ctl); /* tells when it becomes scarce */

/* client.c */
int client_connect(const struct ctl_mount *mount, struct error *error); /* a socket, or -errno told */
enum client_patience {
	CLIENT_BRIEF, /* the whole answer has to be there in time */
	CLIENT_SIGNS, /* or each time an empty line */
	CLIENT_ENDLESS,
};
extern uint64_t client_patience_ns; /* tests have less */
/* Reads an answer. 0; -ECONNREFUSED nobody is there any more; -ETIMEDOUT, -EMSGSIZE, -EPROTO: *result is NULL. */
int client_answer(int fd, enum client_patience patience, json_t **result, struct error *error);

/* end.c */
void end_command(struct ctl *ctl, int fd, const json_t *request);
void end_tell(struct ctl *ctl, int code, const char *text); /* to all who asked; `code` 0: it is a good one */

/* files.c */
void files_command(struct ctl *ctl, int fd, const json_t *request);
void files_end(struct ctl *ctl);

/* legs.c */
void legs_resync(struct ctl *ctl, int fd, const json_t *request);
void legs_change(struct ctl *ctl, int fd, const json_t *request);

/* set.c */
int set_option(struct ctl *ctl, const json_t *request, struct error *error); /* 0, or -errno; `error` may be told */
json_t *set_json(const struct mirror_status *status); /* what the options are now */

/* scrub.c */
void scrub_begin(struct ctl *ctl); /* goes on with what the last mount left */
void scrub_end(struct ctl *ctl);
int scrub_start(struct ctl *ctl, uint64_t limit); /* 0 also if it runs; -EBUSY: it is being stopped */
void scrub_stop(struct ctl *ctl); /* a person's wish; does not wait for it */
json_t *scrub_json(struct ctl *ctl, bool findings);

#endif
