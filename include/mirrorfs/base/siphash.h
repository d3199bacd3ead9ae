/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A keyed hash: who does not know the key cannot choose what collides, nor find what was hashed. Pure. */
#ifndef MIRRORFS_BASE_SIPHASH_H
#define MIRRORFS_BASE_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t siphash(const uint8_t key[16], const void *data, size_t length);

#endif
