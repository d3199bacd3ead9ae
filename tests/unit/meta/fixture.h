/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the tests of meta share. */
#ifndef MIRRORFS_TESTS_UNIT_META_FIXTURE_H
#define MIRRORFS_TESTS_UNIT_META_FIXTURE_H

#include "meta_private.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

Suite *node_suite(void);

#endif
