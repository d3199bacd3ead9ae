/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Asking the daemon of a mount: what the verbs of mirrorctl share. */
#ifndef MIRRORFS_ASK_H
#define MIRRORFS_ASK_H

#include "mirrorfs/ctl.h"

#include <stdbool.h>

enum { EXIT_HEALTHY = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_DEGRADED = 3, EXIT_BROKEN = 4, EXIT_NO_DAEMON = 5 };

#define ASK_POLL_MSEC 200 /* how often what takes long is asked about */

/* A verb for one mount, as it stands on the command line. */
struct ask {
	const struct ctl_mount *mount;
	char **words; /* behind MNT, up to a NULL */
	bool json; /* answers are printed as they come, and nothing else */
	bool files, follow, force;
	json_t *metrics; /* stats --prometheus: what each mount has answered; NULL: not so */
};

void ask_say(const char *format, ...) __attribute__((format(printf, 1, 2)));
void ask_print_json(const json_t *json);

/* Sends the request, which is stolen. 0 and the result in *result (to be put), or an exit status, told. */
int ask(const struct ask *ask, json_t *request, json_t **result);
int ask_command(const struct ask *ask, const char *command, json_t **result); /* one that takes nothing */
int ask_done(const struct ask *ask, json_t *request); /* whose result says nothing */

void ask_pause_msec(unsigned int msec);

#endif
