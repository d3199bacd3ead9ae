# SPDX-License-Identifier: GPL-2.0-or-later
"""A volume's room: df tells the truth about it, a full volume can be emptied, and nothing of it is ever lost."""
import errno
import mmap
import os
import shutil

import trees
from cases import FULL, LONG, QUICK, case
from workspace import wait_for

MIB = 1 << 20
BLOCK = 4096
SMALL = "64M"  # the smallest there is: soon full
CHUNKS = 1024  # blocks that may stay with the nodes of an emptied volume, until the last node has left them


def free(volume):
    return os.statvfs(volume.mnt).f_bfree


def is_empty_again(volume, empty, in_chunks=0):
    """What was deleted goes when the kernel has forgotten it, a moment later."""
    last = [0]

    def check():
        last[0] = free(volume)
        return 0 <= empty - last[0] <= in_chunks

    try:
        wait_for("all blocks free again", check, 20)
    except AssertionError:
        raise AssertionError(f"{empty - last[0]} blocks of {empty} are lost") from None


def available(volume):
    return os.statvfs(volume.mnt).f_bavail


def until_full(step):
    """step(0), step(1), … until there is no room: how many there were."""
    count = 0
    try:
        while True:
            step(count)
            count += 1
    except OSError as error:
        assert error.errno == errno.ENOSPC, error
    return count


def fill(path, seed=0):
    """Writes a file until the volume is full: its size. What was accepted must be durable on demand."""
    piece = trees.pattern(MIB, seed)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)  # new or empty: there may be no room to say so once more
    length = size = 0
    for part in (MIB, BLOCK, 1):

        def step(_, part=part):
            nonlocal length
            length += os.write(fd, piece[length % MIB:][:part])

        until_full(step)
    os.fsync(fd)
    size = os.fstat(fd).st_size
    os.close(fd)
    return size


def is_filled(path, size, seed=0):
    piece = trees.pattern(MIB, seed)
    with open(path, "rb") as file:
        for at in range(0, size, MIB):
            assert file.read(MIB) == piece[:min(MIB, size - at)], f"{path} is wrong at {at}"
        assert not file.read(1)


def small_files(folder, length=BLOCK):
    os.mkdir(folder)
    data = trees.pattern(length)

    def step(number):
        fd = os.open(os.path.join(folder, str(number)), os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            os.write(fd, data)
        finally:
            os.close(fd)

    return until_full(step)


@case(FULL)
def what_df_says_can_be_written_and_no_more_is_accepted(ws):
    volume = ws.volume(size=SMALL)
    volume.mount()
    said = available(volume)
    size = fill(volume.path("f"))
    print(f"df said {said} blocks, {size / BLOCK:.1f} could be written", flush=True)
    assert said * 0.995 <= size / BLOCK <= said + 1, "df lied"
    assert available(volume) == 0
    volume.kill()
    volume.mount()
    is_filled(volume.path("f"), size)
    os.unlink(volume.path("f"))
    said = available(volume)
    count = small_files(volume.path("d"))
    print(f"df said {said} blocks, {count} files of a block could be written", flush=True)
    assert count >= said * 0.8
    volume.umount()


def cycles(ws, number):
    volume = ws.volume(size=SMALL)
    volume.mount()
    empty = free(volume)
    first = fill(volume.path("f"))
    os.unlink(volume.path("f"))
    for i in range(number):
        print(f"cycle {i}", flush=True)
        is_empty_again(volume, empty)
        size = fill(volume.path("f"), i)
        assert size == first, f"only {size} bytes of {first} had room the {i}th time"
        if i % 10 == 1:
            volume.remount()
            is_filled(volume.path("f"), size, i)
        if i % 10 == 3:
            volume.kill()
            volume.mount()
            is_filled(volume.path("f"), size, i)
        if i % 2:
            os.truncate(volume.path("f"), 5000)
        os.unlink(volume.path("f"))
        if i % 10 == 5:
            volume.umount()
            ws.run("fsck.mirrorfs", "-n", "-f", *volume.legs)
            volume.mount()
    small = None
    for i in range(max(2, number // 10)):
        # Room for nodes that lies between others goes back when they go, at the latest with the mount.
        count = small_files(volume.path("d"))
        small = small or count
        assert count > small * 0.97, f"{count} files had room the {i}th time, {small} the first"
        shutil.rmtree(volume.path("d"))
        volume.remount()
        is_empty_again(volume, empty, CHUNKS)
    volume.umount()
    ws.run("fsck.mirrorfs", "-n", "-f", *volume.legs)


@case(FULL, timeout=300)
def a_volume_that_is_filled_and_emptied_loses_no_block(ws):
    cycles(ws, 6)


@case(LONG, timeout=3600)
def a_volume_that_is_filled_and_emptied_a_hundred_times_loses_no_block(ws):
    cycles(ws, 100)


def folders(volume):
    os.mkdir(volume.path("d"))
    return until_full(lambda i: os.mkdir(volume.path("d", str(i))))


def deep(volume):
    """Folders in folders, two hundred deep."""
    fd = None

    def step(number):
        nonlocal fd
        if number % 200 == 0:
            path = volume.path("d" if number == 0 else f"d/{number}")
            os.mkdir(path)
            if fd is not None:
                os.close(fd)
            fd = os.open(path, os.O_RDONLY)
        os.mkdir("deep", dir_fd=fd)
        below = os.open("deep", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below

    count = until_full(step)
    os.close(fd)
    return count


def scattered(volume):
    """A file whose every block is an extent, and which lies in holes of one block."""
    os.mkdir(volume.path("d"))
    small_files(volume.path("d", "small"))
    for name in os.listdir(volume.path("d", "small"))[::2]:
        os.unlink(volume.path("d", "small", name))
    fd = os.open(volume.path("d", "f"), os.O_RDWR | os.O_CREAT)
    count = until_full(lambda i: os.pwrite(fd, b"x" * BLOCK, 2 * i * BLOCK))
    os.fsync(fd)
    os.close(fd)
    return count


def long_names(volume):
    os.mkdir(volume.path("d"))
    return until_full(lambda i: os.symlink("t" * 3000, volume.path("d", f"{i:0255}")))


@case(FULL, timeout=400)
def what_fills_a_volume_can_be_deleted(ws):
    for make in (folders, deep, scattered, long_names):
        volume = ws.volume(make.__name__, size=SMALL)
        volume.mount()
        empty = free(volume)
        if make in (folders, deep):
            # Most of it is one file: what is left is full sooner.
            fd = os.open(volume.path("most"), os.O_RDWR | os.O_CREAT)
            os.posix_fallocate(fd, 0, (available(volume) - 100) * BLOCK)
            os.close(fd)
        for name in ("rest", "more"):  # later there may be no room for another name
            fd = os.open(volume.path(name), os.O_WRONLY | os.O_CREAT)
            os.fsync(fd)
            os.close(fd)
        print(f"{make.__name__}: {make(volume)}", flush=True)
        fill(volume.path("rest"))
        volume.kill()
        volume.mount()
        fill(volume.path("more"))  # where unsynced data is gone
        ws.run("find", volume.mnt, "-mindepth", "1", "-delete")
        volume.remount()
        is_empty_again(volume, empty, CHUNKS)
        volume.umount()
        ws.run("fsck.mirrorfs", "-n", "-f", *volume.legs)


@case(QUICK)
def mapped_memory_without_room_is_told_by_msync(ws):
    volume = ws.volume(size=SMALL)
    volume.mount()
    with open(volume.path("hole"), "w+b") as file:
        file.truncate(MIB)
        size = fill(volume.path("rest"))
        with mmap.mmap(file.fileno(), MIB) as memory:
            memory[5000:5010] = b"0123456789"
            try:
                memory.flush()
                raise AssertionError("accepted where there is no room")
            except OSError as error:
                assert error.errno == errno.ENOSPC, error
            os.unlink(volume.path("rest"))
            wait_for("room", lambda: available(volume) > size // BLOCK // 2)
            memory[5000:5010] = b"0123456789"
            memory.flush()
    volume.kill()
    volume.mount()
    assert trees.read(volume.path("hole"))[4999:5011] == b"\0" + b"0123456789" + b"\0"
    volume.umount()
