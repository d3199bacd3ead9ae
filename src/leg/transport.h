/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a transport is: a module, leg-NAME.so, that makes legs of addresses which name it (transport.c). It is loaded
 * by the first of them, and calls back into the program that loaded it: only what transport.symbols lists.
 *
 * It is one with the rest, built from one tree, since it fills a `struct leg`. So that an old one is told instead of
 * trusted, it begins with a number that changes with what is listed there, and the size of that structure.
 */
#ifndef MIRRORFS_LEG_TRANSPORT_H
#define MIRRORFS_LEG_TRANSPORT_H

#include "leg_private.h"

#include <stdint.h>

#define LEG_TRANSPORT_ABI 1u

struct leg_transport {
	uint32_t abi; /* LEG_TRANSPORT_ABI: first, for ever */
	uint32_t leg_size; /* sizeof(struct leg) */
	const char *version; /* of mirrorfs, for people */
	/*
	 * As leg_open() of the URI; `address` is what the leg is to be called, with what is wrapped around it. May wait
	 * as long as leg_open() may.
	 */
	int (*open)(const char *uri, const char *address, const struct leg_options *options, struct leg **leg,
		    struct error *error);
};

/* What the module is looked for by. */
extern const struct leg_transport leg_transport __attribute__((visibility("default")));

/* Where modules are, instead of the folder that was compiled in: for tests. NULL: there. */
extern const char *leg_transport_folder;

#endif
