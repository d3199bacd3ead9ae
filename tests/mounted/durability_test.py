# SPDX-License-Identifier: GPL-2.0-or-later
"""What was acknowledged is there: after a kill, and after every orderly way to end a mount."""
import mmap
import os
import signal

import trees
from cases import FULL, QUICK, TRANSPORTS, case
from workspace import mounted, wait_for

MIB = 1 << 20


def put(path, data, sync):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    assert os.write(fd, data) == len(data)
    if sync:
        os.fsync(fd)
    os.close(fd)


@case(QUICK, transports=TRANSPORTS)
def what_was_synced_survives_a_kill(ws):
    volume = ws.volume()
    volume.mount("commit=600")
    os.mkdir(volume.path("d"))
    for i, length in enumerate([0, 1, 5000, 65536, 3 * MIB]):
        put(volume.path("d", f"synced {i}"), trees.pattern(length, i), True)
        put(volume.path("d", f"not synced {i}"), trees.pattern(length, i), False)
    os.rename(volume.path("d", "synced 1"), volume.path("d", "renamed"))
    fd = os.open(volume.path("d"), os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    volume.kill()
    volume.mount()
    for i, length in enumerate([0, 1, 5000, 65536, 3 * MIB]):
        name = "renamed" if i == 1 else f"synced {i}"
        assert trees.read(volume.path("d", name)) == trees.pattern(length, i), name
    assert not os.path.exists(volume.path("d", "synced 1"))
    told, status = volume.status()
    assert status == 0, told
    volume.umount()


def put_fsync(path, data):
    put(path, data, True)


def put_fdatasync(path, data):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.write(fd, data)
    os.fdatasync(fd)
    os.close(fd)


def put_synchronous(flags, rwf):
    def way(path, data):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | flags)
        os.pwritev(fd, [data], 0, rwf)
        os.close(fd)

    return way


def put_msync(path, data):
    with open(path, "w+b") as file:
        file.truncate(len(data))
        with mmap.mmap(file.fileno(), len(data)) as memory:
            memory[:] = data
            memory.flush()


# To make what is written durable. A file of no length is not mapped: the first way is not msync.
WAYS = (put_fsync, put_fdatasync, put_synchronous(os.O_SYNC, 0), put_synchronous(os.O_DSYNC, 0),
        put_synchronous(0, os.RWF_DSYNC), put_synchronous(os.O_DIRECT | os.O_DSYNC, 0), put_msync)


@case(FULL, timeout=200)
def so_it_does_when_a_leg_is_lost_with_it(ws):
    for lost in (0, 1):
        volume = ws.volume(f"lost{lost}")
        volume.mount("commit=600")
        for i in range(40):
            WAYS[i % len(WAYS)](volume.path(f"f{i}"), trees.pattern(i * 5000, i))
        folder = os.open(volume.mnt, os.O_RDONLY)
        os.mkdir(volume.path("made"))
        os.fsync(folder)
        os.close(folder)
        volume.kill()
        os.unlink(volume.legs[lost])
        volume.mount("degraded", legs=[volume.legs[1 - lost]])
        for i in range(40):
            assert trees.read(volume.path(f"f{i}")) == trees.pattern(i * 5000, i), i
        assert os.path.isdir(volume.path("made"))
        volume.umount()


def leaves_everything(ws, end):
    """A mount that ends with data not yet written out, in a file that is still open if `end` allows that."""
    volume = ws.volume()
    volume.mount("commit=600")
    trees.copy(["/usr/include/linux"], volume.mnt)
    put(volume.path("closed"), trees.pattern(5 * MIB), False)
    expected = trees.manifest(volume.mnt)
    end(volume)
    volume.mount()
    trees.compare(expected, trees.manifest(volume.mnt))
    volume.umount()


@case(QUICK)
def sigterm_leaves_everything_on_disk(ws):
    def end(volume):
        os.kill(volume.pid, signal.SIGTERM)
        volume.wait_end()
        assert not mounted(volume.mnt)

    leaves_everything(ws, end)


@case(QUICK)
def sigint_leaves_everything_on_disk(ws):
    def end(volume):
        os.kill(volume.pid, signal.SIGINT)
        volume.wait_end()
        assert not mounted(volume.mnt)

    leaves_everything(ws, end)


@case(FULL)
def fusermount3_leaves_everything_on_disk(ws):
    def end(volume):
        ws.run("fusermount3", "-u", volume.mnt)
        volume.wait_end()

    leaves_everything(ws, end)


@case(FULL, needs=["root"])
def umount_leaves_everything_on_disk(ws):
    def end(volume):
        ws.run("umount", volume.mnt)
        volume.wait_end()

    leaves_everything(ws, end)


@case(FULL, transports=TRANSPORTS)
def sigterm_waits_for_an_open_file_and_loses_none_of_it(ws):
    volume = ws.volume()
    volume.mount("commit=600")
    fd = os.open(volume.path("open"), os.O_RDWR | os.O_CREAT)
    os.write(fd, trees.pattern(3 * MIB))
    os.kill(volume.pid, signal.SIGTERM)
    wait_for("the mount point to be free", lambda: not mounted(volume.mnt))
    os.pwrite(fd, b"after", 3 * MIB)
    os.fsync(fd)
    os.close(fd)
    volume.wait_end()
    volume.mount()
    assert trees.read(volume.path("open")) == trees.pattern(3 * MIB) + b"after"
    volume.umount()


@case(FULL)
def a_mount_waits_for_the_daemon_before_it(ws):
    volume = ws.volume()
    volume.mount()
    put(volume.path("f"), trees.pattern(20 * MIB), False)
    ws.run("fusermount3", "-u", volume.mnt)
    volume.mount()
    assert trees.read(volume.path("f")) == trees.pattern(20 * MIB)
    volume.umount()
