# SPDX-License-Identifier: GPL-2.0-or-later
"""Blocks of a leg, changed behind the back of mirrorfs; mirrorfs(5) has the offsets."""
import struct

from workspace import BLOCK, SPACE_OFFSET

LABEL_SLOTS = (4096, 528384)
SUPER_SLOTS = (SPACE_OFFSET, SPACE_OFFSET + 16 * BLOCK)
VERSION, COMPAT, RO_COMPAT, INCOMPAT = 40, 48, 56, 64  # fields of label and superblock


def _crc_of_a_byte(crc):
    for _ in range(8):
        crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc


CRC = [_crc_of_a_byte(byte) for byte in range(256)]


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc = crc >> 8 ^ CRC[(crc ^ byte) & 0xff]
    return crc ^ 0xffffffff


def edit_block(path, offset, change):
    """Rewrites a disk block with a changed field and a right checksum."""
    with open(path, "r+b") as file:
        file.seek(offset)
        block = bytearray(file.read(BLOCK))
        change(block)
        block[4:8] = bytes(4)
        block[4:8] = struct.pack("<I", crc32c(block))
        file.seek(offset)
        file.write(block)


def written(leg, slots):
    """Those of the slots that were ever written."""
    with open(leg, "rb") as file:
        for slot in slots:
            file.seek(slot)
            if any(file.read(4)):
                yield slot


def tree_root(leg):
    """The newest superblock's root: (its byte on the leg, its level)."""
    newest = 0, 0, 0
    with open(leg, "rb") as file:
        for slot in SUPER_SLOTS:
            file.seek(slot)
            block = file.read(BLOCK)
            generation, = struct.unpack_from("<Q", block, 32)
            address, = struct.unpack_from("<Q", block, 72)
            newest = max(newest, (generation, SPACE_OFFSET + address * BLOCK, struct.unpack_from("<I", block, 96)[0]))
    return newest[1:]


def children(leg, node):
    """Of an internal node, in order: (the object of the first key, the child's byte on the leg)."""
    with open(leg, "rb") as file:
        file.seek(node)
        data = file.read(4 * BLOCK)
    for item in range(struct.unpack_from("<H", data, 44)[0]):
        value, = struct.unpack_from("<H", data, 64 + 24 * item + 18)
        yield (struct.unpack_from("<Q", data, 64 + 24 * item)[0],
               SPACE_OFFSET + struct.unpack_from("<Q", data, value)[0] * BLOCK)
