/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef MIRRORFS_FRONT_TEST_H
#define MIRRORFS_FRONT_TEST_H

#include "front_private.h"

#include <check.h>

TCase *poll_tests(void);
TCase *closing_tests(void);

#endif
