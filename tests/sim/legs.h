/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What befalls the legs of a volume in use, by fate or by its administrator: a leg fails, lies, hangs, is slow, is
 * pulled and loses its cache, is detached, is replaced; the same one comes back, or a blank one in its place; a resync
 * is told to be slower; one leg is mounted alone while the other goes on. Disks become larger, and the volume grows.
 *
 * Something is wrong with one leg at a time, and only while the other one has everything: so whatever is asked of the
 * volume must succeed, and in the end both are in sync. An operation does one thing and draws from one stream, so it
 * can be left out of a run like any other.
 */
#ifndef SIM_LEGS_H
#define SIM_LEGS_H

#include "machine.h"

void legs_set_fault(struct machine *machine, int leg, const char *rules);
/* Of a faulty mount: what is wrong with the leg that something may be wrong with changes. */
void legs_fault(struct machine *machine);
void legs_fault_mount(struct machine *machine); /* at its beginning */
/*
 * With nobody at work: there is no more room on either disk, to the end of this mount, which must be a crash. Writes
 * fail from here on, and no leg goes out for that. False: not now.
 */
bool legs_fill_up(struct machine *machine);
/* Something happens to a leg. May wait for legs. */
void legs_some(struct machine *machine, struct sim_random *random);
bool legs_whole(const struct machine *machine); /* both are in sync */
/* With nobody at work: nothing is wrong any more, and both legs come in sync. */
/* A label on one of the disks has changed: of a leg that was replaced it says so only when the new one is whole. */
void legs_label_written(struct machine *machine);
void legs_heal(struct machine *machine);
/* While the power is off: a leg that the volume has gone on without may be mounted for itself, and be written to. */
void legs_mount_alone(struct machine *machine, struct sim_random *random);

#endif
