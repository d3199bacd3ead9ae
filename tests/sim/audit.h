/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What must be so of a mounted machine, whatever was stored on it; else the run has failed. */
#ifndef SIM_AUDIT_H
#define SIM_AUDIT_H

#include "machine.h"

/* Each change of a leg's state is legal, and one leg is in sync all the time. For mirror_options.event. */
void audit_event(void *context, const struct mirror_event *event);
/* No empty request but those made on purpose, no deadline missed, nobody charged without a fault. */
void audit_counters(struct machine *machine);
/* A request is answered by its deadline, with an error if it must; an empty one is refused. */
int audit_submit(struct machine *machine, struct mirror_io *io);
void audit_requests(struct machine *machine);
/* Has everything verified. Unless faults go on: again, and the second pass must find nothing to repair. */
void audit_scrub(struct machine *machine);
/* With everything synced and nobody at work: both legs have the same slots, and the same records in the ring. */
void audit_compare_legs(struct machine *machine);

#endif
