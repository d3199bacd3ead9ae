# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon is killed under writers, again and again: what they were told is durable is there."""
import contextlib
import os
import random
import threading
import time

import trees
import writers
from cases import FULL, LONG, case
from workspace import BLOCK, SPACE_OFFSET, wait_for

MIB = 1 << 20
FSCK_EVERY = 3
HURT_EVERY = 5


def seed_of_this_run():
    seed = int(os.environ.get("MIRRORFS_SEED") or int.from_bytes(os.urandom(4), "little"))
    print(f"note: seed {seed}", flush=True)
    return seed


def hurt(volume, leg, chance):
    """Random bytes over some places of one leg, its superblocks and journal among them."""
    size = os.stat(volume.legs[leg]).st_size
    with open(volume.legs[leg], "r+b") as file:
        for _ in range(60):
            file.seek(chance.randrange(SPACE_OFFSET, size - 65536))
            file.write(os.urandom(chance.choice((1, 512, BLOCK, 65536))))
        if chance.random() < 0.3:
            file.seek(SPACE_OFFSET + chance.randrange(2) * BLOCK)
            file.write(os.urandom(BLOCK))
        os.fsync(file.fileno())


def crash_and_look(ws, volume, crew, chance, number):
    crew.work()
    time.sleep(chance.choice((chance.uniform(0.02, 0.3), chance.uniform(0.1, 2))))
    crew.killed.set()
    volume.kill([crew])
    if number % FSCK_EVERY == 0:
        ws.run("fsck.mirrorfs", "-n", *volume.legs)
    hurting = number % HURT_EVERY == 0
    if hurting:
        hurt(volume, chance.randrange(2), chance)
    volume.mount(f"commit={chance.choice((0.05, 0.3, 5, 600))}", f"cache={chance.choice((8, 64))}M")
    crew.ask("check")
    if hurting:
        assert volume.scrub().returncode == 0


def survives_kills(ws, kills):
    seed = seed_of_this_run()
    chance = random.Random(seed)
    volume = ws.volume(size="384M")
    volume.mount()
    empty = os.statvfs(volume.mnt).f_bfree
    crew = writers.Crew(volume.mnt, seed)
    crew.ask("prepare")
    os.sync()
    fd = os.open(volume.mnt, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    start = time.monotonic()
    for number in range(1, kills + 1):
        print(f"kill {number}", flush=True)
        crash_and_look(ws, volume, crew, chance, number)
    acknowledged, changes = crew.told()
    crew.end()
    print(f"note: {kills} kills in {time.monotonic() - start:.0f} s, {acknowledged} syncs acknowledged, "
          f"{changes} names changed", flush=True)
    ws.run("sh", "-c", f"rm -rf {volume.mnt}/*")
    volume.remount()
    wait_for("all space back", lambda: os.statvfs(volume.mnt).f_bfree == empty, 10)
    volume.umount()
    ws.run("fsck.mirrorfs", "-n", "-f", "--data", *volume.legs)


@case(FULL, timeout=200)
def ten_kills_under_writers_lose_nothing_acknowledged(ws):
    survives_kills(ws, 10)


@case(LONG, timeout=3600)
def five_hundred_kills_under_writers_lose_nothing_acknowledged(ws):
    survives_kills(ws, 500)


@case(FULL, timeout=300)
def a_rename_over_a_file_is_all_or_nothing_without_a_sync(ws):
    chance = random.Random(seed_of_this_run())
    volume = ws.volume()
    found = {"old": 0, "new": 0}
    for number in range(12):
        volume.mount(f"commit={chance.choice((0.01, 600))}")
        new = trees.pattern(chance.choice((1, 3000, 70_000, 3_000_000, 20_000_000)), number)
        before = trees.read(volume.path("target")) if os.path.exists(volume.path("target")) else None
        trees.write(volume.path("new"), new)
        os.rename(volume.path("new"), volume.path("target"))
        if chance.random() < 0.7:
            # Makes the rename durable, and is no sync of the file, which does not lie there.
            os.makedirs(volume.path("beside"), exist_ok=True)
            fd = os.open(volume.path("beside"), os.O_RDONLY)
            os.fsync(fd)
            os.close(fd)
        volume.kill()
        volume.mount()
        after = trees.read(volume.path("target")) if os.path.exists(volume.path("target")) else None
        assert after in (before, new), f"{after and len(after)} bytes, neither the old file nor the new one"
        found["old" if after == before else "new"] += 1
        volume.umount()
    print(f"note: {found}", flush=True)


@case(FULL)
def a_file_that_lost_its_name_while_it_was_open_is_gone_behind_a_crash(ws):
    volume = ws.volume()
    volume.mount()
    empty = os.statvfs(volume.mnt).f_bfree
    files = []
    for i in range(20):
        fd = os.open(volume.path(f"f{i}"), os.O_RDWR | os.O_CREAT)
        os.write(fd, trees.pattern(MIB, i))
        os.unlink(volume.path(f"f{i}"))
        os.fsync(fd)
        files.append(fd)
    assert os.statvfs(volume.mnt).f_bfree <= empty - 20 * MIB // BLOCK
    assert os.pread(files[3], 2 * MIB, 0) == trees.pattern(MIB, 3)
    volume.kill()
    told = ws.run("fsck.mirrorfs", "-n", *volume.legs).stdout
    assert "20 inodes without a name" in told
    for fd in files:
        with contextlib.suppress(OSError):
            os.close(fd)
    volume.mount()
    assert os.statvfs(volume.mnt).f_bfree == empty, "blocks of files that nobody can reach"
    volume.umount()
    ws.run("fsck.mirrorfs", "-n", "-f", *volume.legs)


def long_file(path, extents, size):
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    for i in range(extents):
        os.pwrite(fd, b"x" * BLOCK, i * (size // extents // BLOCK * BLOCK))
    os.ftruncate(fd, size)
    os.fsync(fd)
    os.close(fd)


def cut_and_killed(ws, extents, kills):
    """A file of 10 GiB is deleted or cut, and the daemon killed in the middle of it; the next mount goes on."""
    chance = random.Random(seed_of_this_run())
    volume = ws.volume(size="1G")
    volume.mount("commit=0.05")
    empty = os.statvfs(volume.mnt).f_bfree
    middle = 0
    for number in range(kills):
        path = volume.path("long")
        long_file(path, extents, 10 << 30)
        size = chance.choice((0, BLOCK, 5 << 30)) + chance.randrange(2) * 100
        remove = number % 2 == 0

        def cut(path=path, size=size, remove=remove):
            with contextlib.suppress(OSError):
                if remove:
                    os.unlink(path)
                else:
                    os.truncate(path, size)

        thread = threading.Thread(target=cut)
        thread.start()
        time.sleep(chance.uniform(0, extents / 100_000))
        volume.kill([thread])
        told = ws.run("fsck.mirrorfs", "-n", *volume.legs).stdout
        middle += " 0 inodes without a name" not in told
        volume.mount("commit=0.05")
        if os.path.exists(path):
            length = os.stat(path).st_size
            assert length in ((10 << 30,) if remove else (10 << 30, size)), length
            with open(path, "rb") as file:
                assert file.read(min(length, BLOCK)) == b"x" * min(length, BLOCK)
                file.seek(BLOCK)
                assert not any(file.read(BLOCK)), "what was cut off is back"
            os.unlink(path)
        wait_for("all space back", lambda: os.statvfs(volume.mnt).f_bfree == empty)
    volume.umount()
    ws.run("fsck.mirrorfs", "-n", "-f", *volume.legs)
    print(f"note: {middle} of {kills} kills left a file without a name", flush=True)


@case(FULL, timeout=300)
def a_long_file_that_is_cut_when_the_daemon_is_killed_gives_all_its_space_back(ws):
    cut_and_killed(ws, 10_000, 6)


@case(LONG, timeout=3600)
def a_very_long_file_that_is_cut_when_the_daemon_is_killed_gives_all_its_space_back(ws):
    cut_and_killed(ws, 100_000, 30)
