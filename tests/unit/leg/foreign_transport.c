/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A transport of a mirrorfs that has another interface: no more is known of it than its number. */
#include <stdint.h>

extern const uint32_t leg_transport[64];
const uint32_t leg_transport[64] = { 4711 };
