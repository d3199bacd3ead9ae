# SPDX-License-Identifier: GPL-2.0-or-later
"""Every way to change and read a file, mixed at random: see fsx.py."""
import os

import fsx
from cases import FULL, LONG, case


def exercised(ws, rounds, steps):
    seed = int(os.environ.get("MIRRORFS_SEED") or int.from_bytes(os.urandom(4), "little"))
    print(f"note: seed {seed}", flush=True)
    volume = ws.volume()
    volume.mount("cache=4M", "commit=0.1")  # little of it fits
    files = [fsx.Exerciser(volume.path(f"f{i}"), f"{seed}/{i}") for i in range(3)]
    for number in range(rounds):
        for file in files:
            file.run(steps)
        for file in files:
            file.close()
        volume.remount("cache=4M", f"commit={(0.1, 600)[number % 2]}")
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
    exercised(ws, 20, 2000)
