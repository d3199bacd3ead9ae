/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From a run that failed to the operations that it takes: it is played again and again with more of them left out, as
 * long as the same failure comes of it.
 */
#ifndef SIM_NARROW_H
#define SIM_NARROW_H

#include "run.h"

/* Prints the shortest list found, as an argument of --only; plays that once more, aloud. */
void narrow(const struct run_order *order, const struct run_outcome *failure);
/* "3-5,9": those are not left out. False: it is not such a list. */
bool narrow_only(const char *list, bool left_out[SCRIPT_MOST]);

#endif
