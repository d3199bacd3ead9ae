/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the leg's test files share: one suite each, one runner in leg_test.c. */
#ifndef MIRRORFS_LEG_TEST_H
#define MIRRORFS_LEG_TEST_H

#include "mirrorfs/base/iobuf.h"
#include "mirrorfs/leg.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

Suite *leg_suite(void);
Suite *engine_suite(void);
Suite *fault_suite(void);
Suite *memory_suite(void);
Suite *probe_suite(void);
Suite *transport_suite(void);
Suite *record_suite(void);
Suite *wait_suite(void);

/* A buffer on a page of its own, filled with `byte`; free() it. */
unsigned char *leg_test_buffer(size_t length, int byte);

/* Submits and waits: the error. */
int leg_test_io(struct leg *leg, enum leg_op op, unsigned int flags, uint64_t offset, size_t length, void *data);

/* Writes `byte` over the range, waits; it must succeed. */
void leg_test_fill(struct leg *leg, unsigned int flags, uint64_t offset, size_t length, int byte);

/* The range must read as `byte` throughout. */
void leg_test_all(const unsigned char *data, size_t length, int byte); /* each is `byte` */
void leg_test_expect(struct leg *leg, uint64_t offset, size_t length, int byte);

/* A memory leg of 1 MiB that answers at once. */
struct leg *leg_test_memory(void);

/* An empty image file of its own below $TMPDIR; leg_test_unlink() removes and frees. */
char *leg_test_image(size_t size);
void leg_test_unlink(char *path);

/* For requests that are waited for later, or never. */
struct leg_test_request {
	struct leg_io io;
	_Atomic int done;
};
/* Submits; the request must be taken. */
void leg_test_start(struct leg *leg, struct leg_test_request *request, enum leg_op op, unsigned int flags,
		    uint64_t offset, size_t length, void *data);
int leg_test_wait(struct leg_test_request *request); /* the error */

#endif
