#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What a fault of a leg costs whoever uses the mount: tests/bench/faults.py [--build=DIR] [--seconds=N] [NAME...]

Two threads read and two write 4 KiB here and there in a file larger than the cache: a second before the fault, N
seconds from the fault on, and a second when the leg is back and filled. Of each time the latencies are printed, p50,
p99 and the longest, in milliseconds. A leg's try has one second.
"""
import argparse
import contextlib
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
import faults_test  # noqa: E402
import workspace  # noqa: E402
from resync_test import healthy  # noqa: E402

MIB, BLOCK = 1 << 20, 4096
FILE = 64 * MIB


class Load:
    """Reads and writes, each with the moment when it began and how long it took."""

    def __init__(self, path):
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_DIRECT)
        for at in range(0, FILE, MIB):
            os.pwrite(self.fd, os.urandom(MIB), at)
        self.stop = False
        self.taken = {"read": [], "write": []}
        self.threads = [threading.Thread(target=self.work, args=(kind, seed))
                        for seed, kind in enumerate(("read", "write") * 2)]

    def work(self, kind, seed):
        chance, buffer = random.Random(seed), mmap.mmap(-1, BLOCK)
        call = os.preadv if kind == "read" else os.pwritev
        while not self.stop:
            at = chance.randrange(FILE // BLOCK) * BLOCK
            begun = time.monotonic()
            call(self.fd, [buffer], at)
            self.taken[kind].append((begun, time.monotonic() - begun))

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop = True
        for thread in self.threads:
            thread.join()
        os.close(self.fd)

    def told(self, kind, begin, end):
        """Of those that ended in that time."""
        took = sorted(t for begun, t in self.taken[kind] if begin <= begun + t < end)
        if not took:
            return " ".join(["%8s" % "-"] * 3)
        return " ".join(f"{1000 * t:8.2f}" for t in (took[len(took) // 2], took[len(took) * 99 // 100], took[-1]))


def back(volume):
    volume.ws.run("mirrorctl", "attach", volume.mnt, volume.legs[0])


class Killed:
    """the process behind a leg's filesystem is killed"""

    def __init__(self, ws):
        self.far = faults_test.Far(ws)
        self.volume = self.far.volume()

    def begin(self):
        self.far.kill()

    def end(self):
        self.far.clear()
        self.far.start()
        back(self.volume)

    def clear(self):
        self.far.end()


class Stopped(Killed):
    """the process behind a leg's filesystem is stopped"""

    def begin(self):
        self.far.stop()

    def end(self):
        self.far.go_on()
        workspace.wait_for("requests", lambda: not self.volume.status()[0]["legs"][0]["abandoned"])
        back(self.volume)


class Truncated:
    """a leg's image is truncated"""

    def __init__(self, ws):
        self.volume = ws.volume()

    def begin(self):
        os.truncate(self.volume.legs[0], MIB)

    def end(self):
        os.truncate(self.volume.legs[0], 256 * MIB)
        if self.volume.status()[1]:
            back(self.volume)

    def clear(self):
        pass


class Deleted(Truncated):
    """a leg's image is deleted"""

    def begin(self):
        os.unlink(self.volume.legs[0])

    def end(self):
        self.volume.ws.run("truncate", "-s", 256 * MIB, self.volume.legs[0])
        self.volume.ws.run("mirrorctl", "replace", self.volume.mnt, "0", self.volume.legs[0])


class Full:
    """the filesystem of a leg's image is full (root)"""

    def __init__(self, ws):
        self.folder = ws.join("small")
        self.volume = faults_test.volume_in(ws, self.folder, [0])

    def begin(self):
        self.taken = faults_test.full(self.folder)

    def end(self):
        os.unlink(self.taken)
        if self.volume.status()[1]:
            back(self.volume)

    def clear(self):
        self.volume.ws.run("umount", self.folder)


def measure(fault, seconds, say):
    volume = fault.volume
    volume.mount("leg-timeout=1", "read-policy=leg0", "cache=8M")
    with Load(volume.path("file")) as load:
        begun = time.monotonic()
        time.sleep(1)
        broken = time.monotonic()
        fault.begin()
        time.sleep(seconds)
        mending = time.monotonic()
        fault.end()
        healthy(volume)
        mended = time.monotonic()
        time.sleep(1)
    for kind in load.taken:
        say(f"{type(fault).__name__.lower():9} {kind:5} " + "  ".join(
            load.told(kind, *when) for when in ((begun, broken), (broken, mending), (mended, mended + 1))))
    volume.umount()
    fault.clear()


def main():
    faults = [Killed, Stopped, Truncated, Deleted] + ([Full] if os.geteuid() == 0 else [])
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", default=".build/gcc")
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("names", nargs="*", help=", ".join(fault.__name__.lower() for fault in faults))
    options = parser.parse_args()
    say = print
    titles = [f"{when + ': p50':>8} {'p99':>8} {'longest':>8}" for when in ("before", "during", "after")]
    say(" " * 15 + "  ".join(titles))
    for fault in faults:
        if options.names and fault.__name__.lower() not in options.names:
            continue
        folder = tempfile.mkdtemp(prefix="mirrorfs-bench.")
        try:
            ws = workspace.Workspace(folder, os.path.abspath(os.path.join(options.build, "tools")))
            with open(os.devnull, "w", encoding="utf-8") as quiet, contextlib.redirect_stdout(quiet):
                measure(fault(ws), options.seconds, lambda line: say(line, file=sys.__stdout__, flush=True))
        finally:
            workspace.sweep(folder)


main()
