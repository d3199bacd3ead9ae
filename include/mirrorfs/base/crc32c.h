/* SPDX-License-Identifier: GPL-2.0-or-later */
/* CRC-32C (Castagnoli), the one checksum of the disk format; computed by ISA-L. */
#ifndef MIRRORFS_BASE_CRC32C_H
#define MIRRORFS_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Checksum of one piece: crc32c("123456789") is 0xe3069283. Any thread, never waits. */
uint32_t crc32c(const void *data, size_t length);

/* Continues: crc32c_add(crc32c(a), b) is crc32c(a followed by b). */
uint32_t crc32c_add(uint32_t crc, const void *data, size_t length);

/*
 * Checksum of a disk block whose own le32 checksum field lies at `field_offset`: that field counts as zero.
 * The block is not changed. `field_offset` + 4 <= `length`.
 */
uint32_t crc32c_block(const void *block, size_t length, size_t field_offset);

#endif
