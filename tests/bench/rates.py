#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""How fast are scrub and resync beside the legs themselves? tests/bench/rates.py [--build=DIR] [--dir=DIR] [--loop]
[--size=MIB] [--rounds=N]

What each does is done by fio in the same minute, with direct I/O on the same legs or beside them: both legs read at
once for a scrub; one read and another one written for a resync. The slower of the two counts. Nobody else uses the
mount meanwhile.
"""
import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "mounted"))
import workspace  # noqa: E402

MIB = 1 << 20


def raw(reads, writes, mib):
    """Bytes a second of the slowest of these, all at once."""
    command = ["fio", "--output-format=json", "--ioengine=io_uring", "--iodepth=8", "--bs=1M", "--direct=1",
               f"--size={mib}M", "--fallocate=none"]
    for path in reads:
        command += [f"--name={os.path.basename(path)}", f"--filename={path}", "--rw=read"]
    for path in writes:
        command += [f"--name={os.path.basename(path)}", f"--filename={path}", "--rw=write"]
    jobs = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["jobs"]
    return min(job["read" if job["read"]["io_bytes"] else "write"]["bw_bytes"] for job in jobs)


def took(volume, done):
    start = time.monotonic()
    while not done(volume.status()[0]):
        time.sleep(0.1)
    return time.monotonic() - start


def scrub(ws, volume, mib):
    best = raw(volume.legs, [], mib)
    ws.run("mirrorctl", "scrub", volume.mnt, "start")
    return best, mib * MIB / took(volume, lambda told: not told["scrub"]["running"])


def resync(ws, volume, mib):
    volume.ws.run("mirrorctl", "detach", volume.mnt, "1")
    beside = ws.join("beside")
    if volume.legs[1] == volume.images[1]:
        size = os.stat(volume.legs[1]).st_size
        for path in (beside, volume.legs[1]):
            if os.path.exists(path):
                os.unlink(path)
            ws.run("truncate", "-s", size, path)
    else:
        beside = volume.legs[1]
    best = raw([volume.legs[0]], [beside], mib)
    if beside != volume.legs[1]:
        os.unlink(beside)
    os.sync()
    ws.run("mirrorctl", "attach", "--force", volume.mnt, volume.legs[1])
    return best, mib * MIB / took(volume, lambda told: told["health"] == "healthy")


def fill(volume, mib):
    for number in range(mib // 256):
        with open(volume.path(f"file {number}"), "wb") as file:
            for _ in range(256):
                file.write(os.urandom(MIB))
            os.fsync(file.fileno())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", default=".build/gcc")
    parser.add_argument("--dir", help="where the legs lie; in BUILD")
    parser.add_argument("--loop", action="store_true", help="loop devices on image files")
    parser.add_argument("--size", type=int, default=2048, help="MiB of file data")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="mirrorfs-bench.", dir=os.path.abspath(options.dir or options.build))
    ratios = {scrub: [], resync: []}
    try:
        ws = workspace.Workspace(folder, os.path.abspath(os.path.join(options.build, "tools")))
        said, sys.stdout = sys.stdout, open(os.devnull, "w", encoding="utf-8")
        volume = ws.volume(size=f"{options.size * 5 // 4}M", loop=options.loop)
        volume.mount()
        fill(volume, options.size)
        print("        fio MB/s  mirrorfs MB/s  ratio", file=said)
        for _ in range(options.rounds):
            for what, found in ratios.items():
                best, rate = what(ws, volume, options.size)
                found.append(rate / best)
                print(f"{what.__name__:7} {best / 1e6:8.0f} {rate / 1e6:14.0f} {rate / best:6.2f}", file=said,
                      flush=True)
        for what, found in ratios.items():
            print(f"{what.__name__:7} median {statistics.median(found):.2f}", file=said)
        volume.umount()
    finally:
        workspace.sweep(folder)
        shutil.rmtree(folder, ignore_errors=True)


main()
