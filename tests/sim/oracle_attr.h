/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Attributes as promised: of a file its mode with its access list, a directory's default list, the flags of chattr(1),
 * some extended attributes; and the volume's label. A value is bytes, or that there is none. It is set whole, one time
 * after the other; after a crash it is the durable one or a later one.
 */
#ifndef SIM_ORACLE_ATTR_H
#define SIM_ORACLE_ATTR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum oracle_attr_kind {
	ORACLE_ACCESS, /* four bytes of mode, and the list */
	ORACLE_DEFAULTS,
	ORACLE_FLAGS,
	ORACLE_XATTR, /* the first one; oracle_attr_name() */
	ORACLE_ATTRS = ORACLE_XATTR + 4
};

const char *oracle_attr_name(int kind);

struct oracle_value {
	size_t length;
	unsigned char *bytes; /* NULL: none */
};

struct oracle_attr {
	struct oracle_value *values; /* [0 .. begun]; NULL: one, of nothing */
	uint32_t begun; /* what was begun last, or has failed */
	uint32_t now, durable;
};

/* The value that it has from the beginning on. */
void oracle_attr_first(struct oracle_attr *attr, const void *bytes, size_t length);
/* It begins to be set; `bytes` NULL: it begins to be removed. */
void oracle_attr_begin(struct oracle_attr *attr, const void *bytes, size_t length);
/* That has returned. */
void oracle_attr_end(struct oracle_attr *attr);
void oracle_attr_synced(struct oracle_attr *attr, uint32_t version);
struct oracle_value oracle_attr_now(const struct oracle_attr *attr);
bool oracle_value_is(const struct oracle_value *value, const void *bytes, size_t length);
/* This was found after a mount. True: it may be, and is the only value from now on. */
bool oracle_attr_found(struct oracle_attr *attr, const void *bytes, size_t length, bool crashed);

#endif
