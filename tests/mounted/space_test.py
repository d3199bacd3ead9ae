# SPDX-License-Identifier: GPL-2.0-or-later
"""Where free space lies, and what becomes of it."""
import errno
import fcntl
import os
import struct

import trees
from cases import FULL, QUICK, case
from workspace import wait_for

MIB = 1 << 20
FITRIM = 0xC0185879
NOBODY = 65534


def write_through(path, data):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.write(fd, data)
    os.fsync(fd)
    os.close(fd)


@case(QUICK)
def status_tells_how_free_space_is_cut_up(ws):
    volume = ws.volume()
    volume.mount()
    space = volume.status()[0]["space"]
    assert sum(extent["count"] for extent in space["free_extents"]) == 1, space
    assert space["free_extents"][0]["bytes"] <= space["largest_free_bytes"] < 2 * space["free_extents"][0]["bytes"]
    for i in range(40):
        write_through(volume.path(f"f{i}"), trees.pattern(64 * 1024, i))
    for i in range(0, 40, 2):
        os.unlink(volume.path(f"f{i}"))
    volume.remount()
    space = volume.status()[0]["space"]
    counts = {extent["bytes"]: extent["count"] for extent in space["free_extents"]}
    assert counts.get(64 * 1024, 0) >= 15, counts
    told = ws.run("mirrorctl", "status", volume.mnt).stdout
    assert f"{counts[64 * 1024]} of 64.0 KiB" in told, told
    volume.umount()


def real_size(volume):
    return max(os.stat(image).st_blocks * 512 for image in volume.images)


def trim(volume, start=0, length=2**64 - 1, at_least=0):
    """Bytes that were trimmed."""
    fd = os.open(volume.mnt, os.O_RDONLY)
    try:
        return struct.unpack("QQQ", fcntl.ioctl(fd, FITRIM, struct.pack("QQQ", start, length, at_least)))[1]
    finally:
        os.close(fd)


def fill_and_free(volume):
    """(size of the images when new, and when they were full)"""
    new = real_size(volume)
    for i in range(10):
        write_through(volume.path(f"f{i}"), trees.pattern(8 * MIB, i))
    full = real_size(volume)
    assert full >= new + 70 * MIB, (new, full)
    for i in range(1, 10):
        os.unlink(volume.path(f"f{i}"))
    return new, full


@case(QUICK, needs=("root", "fstrim"))
def fstrim_makes_image_files_sparse_again(ws):
    volume = ws.volume()
    volume.mount()
    new, full = fill_and_free(volume)
    volume.remount()
    assert real_size(volume) > full - 20 * MIB, "something was trimmed without being asked for"
    before = os.statvfs(volume.mnt).f_bavail
    told = ws.run("fstrim", "-v", volume.mnt).stdout
    assert "trimmed" in told, told
    assert real_size(volume) < new + 10 * MIB, (new, full, real_size(volume))
    assert os.statvfs(volume.mnt).f_bavail == before, "trimming took space"
    assert trees.read(volume.path("f0")) == trees.pattern(8 * MIB, 0)
    write_through(volume.path("again"), trees.pattern(30 * MIB, 99))
    volume.remount()
    assert trees.read(volume.path("again")) == trees.pattern(30 * MIB, 99)
    volume.umount()
    ws.run("fsck.mirrorfs", "-n", "-f", "--data", *volume.legs)


@case(QUICK)
def a_trim_keeps_to_what_was_asked_for(ws):
    volume = ws.volume()
    volume.mount()
    free = os.statvfs(volume.mnt).f_bfree * 4096
    everything = trim(volume)
    assert everything >= free, (everything, free)
    assert trim(volume, start=100 * MIB, length=10 * MIB) == 10 * MIB
    assert trim(volume, at_least=1 << 40) == 0
    volume.umount()


@case(QUICK, needs=("root",))
def only_who_owns_the_legs_may_trim(ws):
    volume = ws.volume()
    volume.mount()
    os.chmod(ws.path, 0o755)
    child = os.fork()
    if not child:
        os.setresuid(NOBODY, NOBODY, NOBODY)
        try:
            trim(volume)
        except OSError as error:
            os._exit(0 if error.errno == errno.EPERM else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    volume.umount()


@case(FULL)
def with_discard_image_files_become_sparse_by_themselves(ws):
    volume = ws.volume()
    volume.mount("discard", "commit=1")
    new, full = fill_and_free(volume)
    wait_for(f"less than {full} bytes", lambda: real_size(volume) < new + 15 * MIB)
    assert trees.read(volume.path("f0")) == trees.pattern(8 * MIB, 0)
    volume.umount()
    ws.run("fsck.mirrorfs", "-n", "-f", "--data", *volume.legs)


@case(FULL)
def a_checkpoint_follows_when_it_is_quiet_after_something_was_deleted(ws):
    volume = ws.volume(size="64M")
    volume.mount("commit=0.1")
    write_through(volume.path("file"), trees.pattern(4 * MIB))
    before = volume.status()[0]["meta"]["checkpoints"]
    os.unlink(volume.path("file"))
    wait_for("a checkpoint", lambda: volume.status()[0]["meta"]["checkpoints"] > before)
    wait_for("nothing that waits", lambda: volume.status()[0]["meta"]["dirty_nodes"] == 0)
    volume.umount()
