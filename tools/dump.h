/* SPDX-License-Identifier: GPL-2.0-or-later */
/* For whoever wonders why nothing goes on, or why it has ended: lines in the log. */
#ifndef MIRRORFS_DUMP_H
#define MIRRORFS_DUMP_H

#include "mirrorfs/front.h"
#include "mirrorfs/mirror.h"

/* What is in flight: requests of the kernel and of legs, since when, and where. */
void dump_in_flight(struct front *front, struct mirror *mirror);

/*
 * From now on a fault of our own (a bad address, an assertion, abort) leaves a last line that says which signal, in
 * which thread, and where in the program, before it ends the process as it would have.
 */
void dump_last_line(void);

#endif
