# SPDX-License-Identifier: GPL-2.0-or-later
"""One file, changed and read in every way in random order, against the same bytes in memory."""
import ctypes
import mmap
import os
import random

import trees

SIZE_MAX = 1_500_000
PUNCH, ZERO, KEEP = 2 | 1, 16, 1
LIBC = ctypes.CDLL(None, use_errno=True)


class Exerciser:
    def __init__(self, path, seed, direct=True, mapped=True):
        self.path = path
        self.odirect = os.O_DIRECT if direct else 0
        self.ways = [self.write, self.write, self.read, self.read, self.truncate, self.fallocate, self.sync]
        if mapped:
            self.ways.append(self.mapped)
        self.random = random.Random(seed)
        self.data = bytearray()
        self.step = 0
        self.done = []
        self.open()

    def open(self):
        flags = os.O_RDWR | os.O_CREAT
        self.plain, self.direct = os.open(self.path, flags), os.open(self.path, flags | self.odirect)

    def close(self):
        os.close(self.plain)
        os.close(self.direct)

    def place(self, inside=False):
        """(offset, length)"""
        end = len(self.data) if inside else SIZE_MAX
        offset = self.random.randrange(max(end, 1))
        if self.random.random() < 0.3:
            offset -= offset % 4096
        length = self.random.choice((1, 4096, self.random.randrange(1, 10_000), self.random.randrange(1, 500_000)))
        length = min(length, end - offset)
        if length > 4096 and self.random.random() < 0.5:
            length -= length % 4096  # whole blocks, if they begin as such: past the cache
        return offset, length

    def fresh(self, length):
        return trees.pattern(length, (self.random.random(), self.step))

    def patch(self, offset, piece):
        if len(self.data) < offset:
            self.data.extend(bytes(offset - len(self.data)))
        self.data[offset:offset + len(piece)] = piece

    def write(self):
        offset, length = self.place()
        piece = self.fresh(length)
        fd = self.random.choice((self.plain, self.direct))
        assert os.pwrite(fd, piece, offset) == length
        self.patch(offset, piece)
        return fd == self.direct and "direct", offset, length

    def read(self):
        offset, length = self.place()
        fd = self.random.choice((self.plain, self.direct))
        self.same(os.pread(fd, length, offset), offset, length)
        return fd == self.direct and "direct", offset, length

    def truncate(self):
        size = self.random.choice((0, self.random.randrange(SIZE_MAX), len(self.data) // 2))
        os.ftruncate(self.plain, size)
        del self.data[size:]
        self.data.extend(bytes(size - len(self.data)))
        return (size,)

    def fallocate(self):
        mode = self.random.choice((0, KEEP, PUNCH, ZERO, ZERO | KEEP))
        offset, length = self.place()
        if LIBC.fallocate(self.plain, mode, ctypes.c_long(offset), ctypes.c_long(length)):
            raise OSError(ctypes.get_errno(), f"fallocate {mode} {offset} {length}")
        end = offset + length
        if mode in (PUNCH, ZERO, ZERO | KEEP):
            zeroed = min(end, len(self.data)) - offset
            if zeroed > 0:
                self.data[offset:offset + zeroed] = bytes(zeroed)
        if mode in (0, ZERO) and end > len(self.data):
            self.data.extend(bytes(end - len(self.data)))
        return mode, offset, length

    def mapped(self):
        if not self.data:
            return ()
        offset, length = self.place(inside=True)
        with mmap.mmap(self.plain, len(self.data)) as memory:
            self.same(memory[offset:offset + length], offset, length)
            if self.random.random() < 0.7:
                piece = self.fresh(length)
                memory[offset:offset + length] = piece
                self.data[offset:offset + length] = piece
            if self.random.random() < 0.3:
                memory.flush()
        return offset, length

    def sync(self):
        self.random.choice((os.fsync, os.fdatasync))(self.random.choice((self.plain, self.direct)))
        return ()

    def same(self, found, offset, length):
        expected = bytes(self.data[offset:offset + length])
        if found != expected:
            at = next((i for i, (a, b) in enumerate(zip(found, expected)) if a != b), min(len(found), len(expected)))
            raise AssertionError(f"step {self.step}: wrong at {offset + at} of {len(self.data)}; before:\n"
                                 + "\n".join(map(str, self.done[-15:])))

    def run(self, steps):
        for _ in range(steps):
            self.step += 1
            way = self.random.choice(self.ways)
            self.done.append((self.step, way.__name__, *way()))
        self.check()

    def check(self):
        assert os.fstat(self.plain).st_size == len(self.data)
        self.same(os.pread(self.plain, SIZE_MAX + 1, 0), 0, len(self.data))
