#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What it costs to be watched: by `mirrorctl top` and a scrape for Prometheus, each once a second.

usage: tests/bench/watching.py [--tools=DIR] [--pairs=N] [--slice=SECONDS]

fio writes and reads 4 KiB at random on a mount of image files all the time. The time is cut into slices, by turns
watched and not (A B B A ...), and what fio gets done in each is compared with its neighbour's. A machine that has other
things to do shows in the interval, not in the mean. Beside that stands what does not depend on others: the processor
time that watching took, of the daemon's thread that answers and of mirrorctl itself, in a second of being watched, and
its part of all that the load took in that second. A load that has the processors for itself takes all of them.
"""
import argparse
import contextlib
import json
import math
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def cpu_ns(pid, threads=""):
    """Processor time of a process, or of its threads of that name."""
    total = 0
    for tid in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{tid}/comm", encoding="utf-8") as comm:
            if threads in ("", comm.read().strip()):
                with open(f"/proc/{pid}/task/{tid}/schedstat", encoding="utf-8") as stat:
                    total += int(stat.read().split()[0])
    return total


def done_by(pid):
    """Reads and writes that a process has called."""
    with open(f"/proc/{pid}/io", encoding="utf-8") as file:
        told = dict(line.split(": ") for line in file.read().splitlines())
    return int(told["syscr"]) + int(told["syscw"])


def scrape(path):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        while client.recv(65536):
            pass


class Load:
    """fio, what it does and what it costs; and `top`, which is stopped while nobody shall watch."""

    def __init__(self, tools, mnt, seconds):
        mctl = os.path.join(tools, "mirrorctl")
        told = subprocess.run([mctl, "--json", "status", mnt], check=True, capture_output=True, text=True).stdout
        volume = json.loads(told)["result"]["volume"]
        self.daemon, self.socket = volume["pid"], f"/run/mirrorfs/{volume['uuid']}.sock"
        self.fio = subprocess.Popen(  # pylint: disable=consider-using-with
            ["fio", "--name=load", f"--directory={mnt}", "--size=64m", "--bs=4k", "--rw=randrw", "--ioengine=psync",
             "--direct=1", "--numjobs=4", "--thread", "--time_based", f"--runtime={seconds}"],
            stdout=subprocess.DEVNULL)
        self.top = subprocess.Popen([mctl, "top", mnt], stdout=subprocess.DEVNULL)  # pylint: disable=R1732
        time.sleep(3)  # its files are laid out
        self.top.send_signal(signal.SIGSTOP)

    def slice(self, seconds, watched):
        """(what fio did in a second, processor ns of watching, and of everything)"""
        began, did = time.monotonic(), done_by(self.fio.pid)
        watching, all_of_it = self.costs()
        if watched:
            self.top.send_signal(signal.SIGCONT)
        while (left := began + seconds - time.monotonic()) > 0:
            if watched:
                scrape(self.socket)
            time.sleep(min(left, 1))
        if watched:
            self.top.send_signal(signal.SIGSTOP)
        took = time.monotonic() - began
        watching_then, all_then = self.costs()
        return ((done_by(self.fio.pid) - did) / took, (watching_then - watching) / took,
                (all_then - all_of_it) / took)

    def costs(self):
        watching = cpu_ns(self.daemon, "ctl") + cpu_ns(self.top.pid)
        return watching, cpu_ns(self.fio.pid) + cpu_ns(self.daemon) + cpu_ns(self.top.pid)

    def end(self):
        self.top.send_signal(signal.SIGCONT)
        for process in self.top, self.fio:
            process.terminate()
            process.wait()


def tell(pairs):
    ratios = [watched[0] / alone[0] for alone, watched in pairs]
    half = 1.96 * statistics.stdev(ratios) / math.sqrt(len(ratios))
    watching = statistics.mean(watched[1] for _, watched in pairs)
    part = sum(watched[1] for _, watched in pairs) / sum(watched[2] for _, watched in pairs)
    print(f"throughput watched / alone: mean {statistics.mean(ratios):.4f} +- {half:.4f} (95 %), "
          f"median {statistics.median(ratios):.4f}, {len(pairs)} pairs")
    print(f"processor time of watching: {watching / 1e6:.2f} ms a second: {100 * part:.2f} % of what the load took, "
          f"{watching / 1e7 / os.cpu_count():.2f} % of what {os.cpu_count()} processors have")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tools", default=os.path.join(ROOT, ".build/gcc/tools"))
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--slice", type=float, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        legs, mnt = [os.path.join(folder, name) for name in ("left", "right")], os.path.join(folder, "mnt")
        os.mkdir(mnt)
        subprocess.run([os.path.join(options.tools, "mkfs.mirrorfs"), "-s", "1G", *legs], check=True,
                       capture_output=True)
        subprocess.run([os.path.join(options.tools, "mirrorfs"), *legs, mnt], check=True)
        try:
            load = Load(options.tools, mnt, 2 * options.pairs * options.slice * 2 + 60)
            pairs = []
            for number in range(options.pairs):
                order = (False, True) if number % 2 else (True, False)
                done = {watched: load.slice(options.slice, watched) for watched in order}
                pairs.append((done[False], done[True]))
            load.end()
            tell(pairs)
        finally:
            subprocess.run([os.path.join(options.tools, "mirrorctl"), "umount", mnt], check=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
