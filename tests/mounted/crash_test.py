# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon is killed under writers, again and again: what they were told is durable is there."""
import os
import random
import time

import writers
from cases import FULL, LONG, case
from workspace import BLOCK, SPACE_OFFSET, wait_for

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
