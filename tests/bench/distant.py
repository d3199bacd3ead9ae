#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What a distant leg costs: tests/bench/distant.py [--build=DIR] [--seconds=N] [--rounds=N]

Volumes whose leg 0 is an image and whose leg 1 is one as well, or is served by nbdkit(1), which adds 0, 1 or 20 ms to
each read and write, as a network would that far away. On each in turn one reader reads 4 KiB here and there with
O_DIRECT, then one writer writes 4 KiB and syncs. Of each it prints reads a second and what that is of the local one's,
and how long a commit took (p50), and how much of that is beyond the local one's and the delay.
"""
import argparse
import mmap
import os
import random
import sys
import tempfile
import time

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "mounted"))
import nbd  # noqa: E402
import workspace  # noqa: E402

MIB = 1 << 20
SIZE = 64 * MIB
PIECE = 4096


def reads(volume, seconds):
    """Reads a second."""
    chance, count, buffer = random.Random(1), 0, mmap.mmap(-1, PIECE)
    fd = os.open(volume.path("file"), os.O_RDONLY | os.O_DIRECT)
    begun = time.monotonic()
    while time.monotonic() < begun + seconds:
        os.preadv(fd, [buffer], chance.randrange(SIZE // PIECE) * PIECE)
        count += 1
    os.close(fd)
    return count / (time.monotonic() - begun)


def commits(volume, seconds):
    """How long each took, in milliseconds."""
    taken, data = [], os.urandom(PIECE)
    fd = os.open(volume.path("log"), os.O_WRONLY | os.O_CREAT)
    until = time.monotonic() + seconds
    while (begun := time.monotonic()) < until:
        os.pwrite(fd, data, len(taken) % 256 * PIECE)
        os.fsync(fd)
        taken.append((time.monotonic() - begun) * 1000)
    os.close(fd)
    return taken


def prepare(ws, delay):
    """`delay` in milliseconds; None: both legs are images."""
    volume = workspace.Volume(ws, f"v{delay}", make=False)
    ws.run("truncate", "-s", "256M", *volume.legs)
    server = None
    if delay is not None:
        server = nbd.Nbdkit(ws, f"server{delay}", filters=["delay"], words=[f"rdelay={delay}ms", f"wdelay={delay}ms"])
        server.start()
        volume.legs[1] = server.uri
    volume.make()
    volume.mount()
    with open(volume.path("file"), "wb") as file:
        for _ in range(SIZE // MIB):
            file.write(os.urandom(MIB))
        os.fsync(file.fileno())
    reads(volume, 1)
    return volume, server


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=os.path.join(os.path.dirname(os.path.dirname(HERE)), ".build/gcc"))
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="mirrorfs-distant.")
    ws = workspace.Workspace(folder, os.path.join(options.build, "tools"))
    delays, rate, took = (None, 0, 1, 20), {}, {}
    said, sys.stdout = sys.stdout, sys.stderr
    try:
        volumes = {delay: prepare(ws, delay) for delay in delays}
        for _ in range(options.rounds):
            for delay, (volume, _) in volumes.items():
                rate.setdefault(delay, []).append(reads(volume, options.seconds))
            for delay, (volume, _) in volumes.items():
                took.setdefault(delay, []).extend(commits(volume, options.seconds))
        for volume, server in volumes.values():
            volume.umount()
            if server:
                server.end()
    finally:
        sys.stdout = said
        workspace.sweep(folder)

    def middle(values):
        return sorted(values)[len(values) // 2]

    for delay in delays:
        name = "local" if delay is None else f"{delay} ms away"
        beyond = middle(took[delay]) - middle(took[None]) - (delay or 0)
        print(f"{name:12} {middle(rate[delay]):8.0f} reads/s {middle(rate[delay]) / middle(rate[None]):5.2f} of local"
              f"   commit {middle(took[delay]):7.2f} ms, {beyond:+.2f} beyond local and delay")


main()
