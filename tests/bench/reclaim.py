#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What the reclaimer costs those for whom it works: tests/bench/reclaim.py [--build=DIR] [--seconds=N] [--rounds=N]

Two threads read 4 KiB here and there in a file of 16 MiB, and one writes 64 KiB after another in a file of 256 MiB,
each with an fdatasync(2), or a large cache would just put the legs' work off. The kernel forgets at once what it has
cached of that (O_DIRECT would pass the daemon's cache, too). Once that is with cache=64M, so that memory must be found
all the time, and once with cache=1G. The two take turns. Of each it prints calls a second, p50 and p99.9 in
milliseconds and the reclaimer's wake-ups, and the ratios of small to large.
"""
import argparse
import json
import mmap
import os
import random
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "mounted"))
import workspace  # noqa: E402

MIB = 1 << 20
HOT, STREAM = 16 * MIB, 256 * MIB
READ, WRITE = 4096, 65536


def work(path, reads, until, taken):
    chance, length = random.Random(len(path)), READ if reads else WRITE
    fd, buffer, at = os.open(path, os.O_RDWR), mmap.mmap(-1, length), 0
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
    while (begun := time.monotonic()) < until:
        if reads:
            at = chance.randrange(HOT // READ) * READ
            os.preadv(fd, [buffer], at)
        else:
            os.pwritev(fd, [buffer], at)
            os.fdatasync(fd)
        taken.append(time.monotonic() - begun)
        os.posix_fadvise(fd, at, length, os.POSIX_FADV_DONTNEED)
        at = (at + WRITE) % STREAM
    os.close(fd)


def round_of(volume, seconds):
    """The latencies of a round, and how often the reclaimer woke up in it."""
    def wakeups():
        told = volume.ws.run("mirrorctl", "--json", "stats", volume.mnt).stdout
        return json.loads(told)["result"]["cache"]["wakeups"]

    taken, before, until = [[], [], []], wakeups(), time.monotonic() + seconds
    threads = [threading.Thread(target=work, args=(volume.path("hot" if i else "stream"), i > 0, until, taken[i]))
               for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(taken[0] + taken[1] + taken[2]), wakeups() - before


def prepare(ws, name, cache):
    volume = ws.volume(name, size="1G")
    volume.mount(f"cache={cache}")
    for path, size in (("hot", HOT), ("stream", STREAM)):
        with open(volume.path(path), "wb") as file:
            for _ in range(size // MIB):
                file.write(os.urandom(MIB))
            os.fsync(file.fileno())
    round_of(volume, 1)
    return volume


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=os.path.join(os.path.dirname(os.path.dirname(HERE)), ".build/gcc"))
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="mirrorfs-bench.")
    results = {"64M": [], "1G": []}
    try:
        stdout, sys.stdout = sys.stdout, open(os.devnull, "w", encoding="utf-8")
        ws = workspace.Workspace(folder, os.path.join(options.build, "tools"))
        volumes = {cache: prepare(ws, cache, cache) for cache in results}
        for _ in range(options.rounds):
            for cache, volume in volumes.items():
                latencies, woken = round_of(volume, options.seconds)
                row = (len(latencies) / options.seconds, latencies[len(latencies) // 2] * 1e3,
                       latencies[len(latencies) * 999 // 1000] * 1e3)
                results[cache].append(row)
                print(f"cache={cache:4} {row[0]:9.0f} calls/s  p50 {row[1]:7.2f} ms  p99.9 {row[2]:7.2f} ms  "
                      f"{woken:6} wake-ups", file=stdout, flush=True)
        for volume in volumes.values():
            volume.umount()
        sys.stdout = stdout
        middle = {cache: [sorted(column)[len(rows) // 2] for column in zip(*rows)] for cache, rows in results.items()}
        print(f"medians: throughput 1/{middle['1G'][0] / middle['64M'][0]:.2f}, "
              f"p99.9 {middle['64M'][2] / middle['1G'][2]:.2f} times")
    finally:
        workspace.sweep(folder)


main()
