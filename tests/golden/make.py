#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes the golden images, by root: volumes of the format's version 1, kept for ever and never made again.

usage: tests/golden/make.py FOLDER-OF-THE-PROGRAMS [shared]

Each NAME.xz holds leg 0 and leg 1, one behind the other; NAME.json tells what must be found in them.
"""
import fcntl
import json
import lzma
import os
import random
import shutil
import struct
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "mounted"))
sys.dont_write_bytecode = True
import golden  # noqa: E402
import ondisk  # noqa: E402
from workspace import Workspace, sweep  # noqa: E402

SIZE = "64M"
UNKNOWN = 1 << 62  # no feature will ever get this bit


def fill(volume):
    """One of everything."""
    chance = random.Random(1)
    path = volume.path
    for folder in ("photos", "photos/2026", "empty", "many"):
        os.mkdir(path(folder))
    for name, size in (("a block less one byte", 4095), ("a block", 4096), ("a block and a byte", 4097),
                       ("no byte", 0), ("photos/2026/wedding", 1500000), ("photos/two extents", 1 << 20 | 5)):
        golden.write(path(name), bytes([chance.randrange(256)]) * (size // 2) + b"z" * (size - size // 2))
    for i in range(300):
        golden.write(path("many", f"{i:03d} " + "n" * (i % 240)), b"%d\n" % i)
    golden.write(path("n" * 255), b"the longest name")
    golden.write(os.fsencode(path("")) + b"no \xff utf-8", b"a name of any bytes")
    with open(path("sparse"), "wb") as file:
        for block in (0, 7, 8, 1 << 10, 1 << 15):
            file.seek(block << 12)
            file.write(b"block %d" % block)
        file.truncate((128 << 20) + 4097)
    with open(path("fragments"), "wb") as file:
        for block in chance.sample(range(200), 150):
            file.seek(block << 12)
            file.write(b"fragment %d" % block)
            os.fsync(file.fileno())
    os.link(path("a block"), path("photos", "another name"))
    os.symlink("photos/2026/wedding", path("short link"))
    os.symlink("x" * 4000, path("long link"))
    os.mkfifo(path("fifo"), 0o640)
    os.mknod(path("device"), 0o20666, os.makedev(1, 3))
    os.chmod(path("photos"), 0o3755)
    os.chown(path("photos/2026"), 1000, 100)
    for at in ("photos/2026/wedding", "short link", "empty"):
        os.utime(path(at), ns=(-1, 1 << 33), follow_symlinks=False)


def share(volume):
    """Copies of a file and of pieces of it, some of them changed since; and files with flags."""
    os.chdir(volume.mnt)
    golden.write("first", b"".join(b"block %d" % i + bytes(4089 - len(str(i))) for i in range(700)) + b"end",
                 sync=True)
    for name, source, length, target in (("all", 0, 1 << 22, 0), ("middle", 100, 300, 7), ("changed", 0, 1 << 22, 0),
                                         ("first", 0, 50, 1000), ("lost", 0, 1 << 22, 0)):
        one, two = os.open("first", os.O_RDONLY), os.open(name, os.O_RDWR | os.O_CREAT)
        os.copy_file_range(one, two, length << 12, source << 12, target << 12)
        os.close(one)
        os.close(two)
    with open("changed", "r+b") as file:
        for block in (3, 255, 256, 600):
            file.seek(block << 12)
            file.write(b"changed %d" % block)
    os.unlink("lost")
    for name, flags in (("immutable", 0x10), ("append", 0x20), ("unseen", 0xc0)):
        golden.write(name, name.encode())
        with open(name, "rb") as file:
            fcntl.ioctl(file, 0x40086602, struct.pack("<I", flags))
    os.chdir("/")


def make_shared(ws):
    volume = ws.volume("shared", size=SIZE)
    volume.mount()
    share(volume)
    volume.remount()
    tell(volume, "shared")
    volume.umount()
    keep(volume, "shared")


def journal_tail(volume):
    """Records behind the checkpoint: keys put and deleted, data inside and outside."""
    golden.write(path := volume.path("after the checkpoint"), b"small, so it rides in its record", sync=True)
    golden.write(volume.path("after it, and large"), b"outside" * 50000, sync=True)
    os.unlink(volume.path("many", "000 "))
    os.rename(volume.path("a block less one byte"), volume.path("photos", "renamed"))
    golden.write(path, b"written over", sync=True)
    folder = os.open(volume.mnt, os.O_DIRECTORY)
    os.fsync(folder)
    os.close(folder)


def keep(volume, name):
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": 128 << 20}]
    with lzma.open(os.path.join(HERE, name + ".xz"), "wb", filters=filters) as out:
        for leg in volume.legs:
            with open(leg, "rb") as file:
                shutil.copyfileobj(file, out, 1 << 20)


def tell(volume, name):
    with open(os.path.join(HERE, name + ".json"), "w", encoding="utf-8") as file:
        json.dump(golden.manifest(volume.mnt), file, indent=0, sort_keys=True)
        file.write("\n")


def set_unknown(volume, field, slots):
    """A bit that nobody knows, in every slot on both legs."""
    def change(block):
        block[field:field + 8] = struct.pack("<Q", UNKNOWN)

    for leg in volume.legs:
        for slot in ondisk.written(leg, slots):
            ondisk.edit_block(leg, slot, change)


def make(ws):
    volume = ws.volume(size=SIZE)
    volume.mount()
    fill(volume)
    volume.remount()
    tell(volume, "clean")
    volume.umount()
    keep(volume, "clean")
    volume.mount("commit=300")
    journal_tail(volume)
    tell(volume, "crashed")
    volume.kill()
    keep(volume, "crashed")
    os.rename(volume.legs[1], ws.join("away"))
    volume.mount("degraded", legs=[volume.legs[0]])
    golden.write(volume.path("written on leg 0 alone"), b"alone")
    tell(volume, "alone")
    volume.umount()
    os.rename(ws.join("away"), volume.legs[1])
    keep(volume, "alone")
    for name, field in (("compat", ondisk.COMPAT), ("ro-compat", ondisk.RO_COMPAT), ("incompat", ondisk.INCOMPAT)):
        volume = ws.volume(name, size=SIZE)
        volume.mount()
        golden.write(volume.path("file"), name.encode() * 1000)
        tell(volume, name)
        volume.umount()
        set_unknown(volume, field, ondisk.SUPER_SLOTS)
        if field != ondisk.INCOMPAT:  # of which the first would hide the second
            set_unknown(volume, field, ondisk.LABEL_SLOTS)
        keep(volume, name)


def main():
    folder = tempfile.mkdtemp(prefix="mirrorfs-golden-")
    try:
        (make_shared if sys.argv[2:] == ["shared"] else make)(Workspace(folder, os.path.abspath(sys.argv[1])))
    finally:
        sweep(folder)


main()
