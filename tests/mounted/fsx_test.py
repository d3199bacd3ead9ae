# SPDX-License-Identifier: GPL-2.0-or-later
"""Every way to change and read a file, mixed at random: see fsx.py."""
import os

import fsx
from cases import FULL, LONG, case


def exercised(ws, rounds, steps, cache="4M", **ways):
    seed = int(os.environ.get("MIRRORFS_SEED") or int.from_bytes(os.urandom(4), "little"))
    print(f"note: seed {seed} cache={cache} {ways}", flush=True)
    volume = ws.volume(f"v{cache}{''.join(map(str, ways.values()))}")
    volume.mount(f"cache={cache}", "commit=0.1")  # of 4M, little fits
    files = [fsx.Exerciser(volume.path(f"f{i}"), f"{seed}/{i}", **ways) for i in range(3)]
    for number in range(rounds):
        for file in files:
            file.run(steps)
        for file in files:
            file.close()
        volume.remount(f"cache={cache}", f"commit={(0.1, 600)[number % 2]}")
        for file in files:
            file.open()
            file.check()
    for file in files:
        file.close()
    volume.umount()
    ws.run("fsck.mirrorfs", "-n", "-f", "--data", *volume.legs)


@case(FULL, timeout=200)
def a_file_is_what_was_made_of_it_in_every_way(ws):
    exercised(ws, 2, 250)


@case(LONG, timeout=3600)
def a_file_is_what_was_made_of_it_in_every_way_for_long(ws):
    for cache in ("4M", "1G"):
        for ways in ({}, {"direct": False}, {"mapped": False}):
            exercised(ws, 7, 1000, cache, **ways)
