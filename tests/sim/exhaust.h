/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * All short sequences of operations on a small tree, with a cut after everything that the disks do: both disks cut at
 * the same point, with what they had completed and without what was not durable, and some cuts of each disk for
 * itself. A state of the disks that was checked against the same promises is not checked again.
 */
#ifndef SIM_EXHAUST_H
#define SIM_EXHAUST_H

#include "machine.h"

struct exhaust_order {
	unsigned int length; /* operations of a sequence */
	const char *path; /* "3.17": only sequences that begin with these operations; NULL: all */
	unsigned int samples; /* cuts of each disk for itself, at each point */
	uint64_t seed;
};

struct exhaust_counts { /* shared by all processes */
	unsigned long sequences, cuts, checks;
};

/* Ends the process where it forks; returns in the first one. A failure ends all of them. */
void exhaust(const struct exhaust_order *order, struct exhaust_counts *counts);

#endif
