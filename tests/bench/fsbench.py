#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The same fixed workloads in several mounted directories, in turn.

  tests/bench/fsbench.py [options] LABEL=DIR[@BELOW[,BELOW..]] [LABEL=DIR ...]

Each workload runs in every DIR before the next one starts, round after round (A B C, then C B A, ..), so the drift of a
noisy machine hits all labels alike. Prints one Markdown table; each cell: the median rate (higher is better), (its
ratio to the first label) and the spread over rounds, +-(max-min)/2 in percent of the median.

BELOW is what lies under a FUSE server (its backing directory, image or block device): it is synced too, inside the
timed part, wherever a workload ends with a sync, because syncfs(2) does not reach every FUSE server.

What is cached: workloads named "cold" and every O_DIRECT read start after a sync and `echo 3 >
/proc/sys/vm/drop_caches`. That empties this kernel's page, dentry and inode caches, not what a FUSE server keeps in its
own memory (give --cold a command for that), nor a cache below this machine (a hypervisor's, a disk's). "warm": the same
was just read or statted once. Needs root and fio; leaves nothing behind in DIR.

peers.py makes the directories.
"""
import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

# Workloads that later ones need: they run even when --only leaves them out.
SETUP = "buffered . fsync$|1 thread|rename|unlink|untar|rm -rf"
DIRECT = "--direct=1"
SYNC_ENGINE = "--ioengine=psync"


def add_basic_options(parser, size=1024, files=10000, cap=60):
    parser.add_argument("--build", default=".build/dev", help="where tests/bench/metabench was built")
    parser.add_argument("-n", "--rounds", type=int, default=3)
    parser.add_argument("-t", "--seconds", type=float, default=3, help="length of each timed workload (default 3)")
    parser.add_argument("-s", "--size", type=int, default=size, help=f"MiB of the data file (default {size})")
    parser.add_argument("-f", "--files", type=int, default=files, help=f"small files (default {files})")
    parser.add_argument("-c", "--cap", type=float, default=cap, help="seconds after which a workload is given up (n/a)")


def add_options(parser):
    add_basic_options(parser)
    parser.add_argument("-w", "--only", default="", help="regex: only these workloads (and what they build on)")
    parser.add_argument("--tree", default="/usr/include", help="where the files of the tree workload come from")
    parser.add_argument("--tree-files", type=int, default=4000, help="how many, first by name (default 4000)")
    parser.add_argument("-j", "--json", help="append every raw figure to this file, one JSON object a line")


class Target:
    """A mounted directory. `cold`: a shell command that empties the server's own caches."""

    def __init__(self, label, mount, below=(), cold=None):
        self.label, self.mount, self.below, self.cold = label, os.path.realpath(mount), list(below), cold
        self.dir = os.path.join(self.mount, f"fsbench.{os.getpid()}")
        self.file = self.dir + "/data"


def run(command, cap, **more):
    """The standard output, or RuntimeError with what it said."""
    try:
        done = subprocess.run(command, capture_output=True, timeout=cap, text=True, check=False, **more)
    except subprocess.TimeoutExpired as late:
        raise RuntimeError(f"no end within {cap:g} s") from late
    if done.returncode:
        raise RuntimeError(f"exit {done.returncode}: {(done.stderr or done.stdout).strip()[-200:]}")
    return done.stdout


def settle(drop, target):
    """Write back what earlier workloads left behind; empty the caches if asked."""
    os.sync()
    if not drop:
        return
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
        file.write("3")
    if target.cold:
        run(["sh", "-c", target.cold], 60)


def busy_ticks():
    """CPU time the whole machine has spent outside idle and I/O wait."""
    with open("/proc/stat", encoding="ascii") as file:
        fields = [int(word) for word in file.readline().split()[1:9]]
    return sum(fields) - fields[3] - fields[4]


def fio_jobs(cap, *words):
    """What each fio job tells."""
    common = ["--output-format=json", "--thread", "--fallocate=none", "--randrepeat=0", "--norandommap"]
    out = run(["fio", *common, *words], cap)
    jobs = json.loads(out[out.index("{"):])["jobs"]
    for job in jobs:
        if job.get("error"):
            raise RuntimeError(f"fio: error {job['error']}")
    return jobs


def percentile(told, which):
    """Of the latencies of a fio job's reads or writes, in us."""
    return told["clat_ns"].get("percentile", {}).get(f"{which:.6f}", 0) / 1e3


class Programs:
    """fio and metabench."""

    def __init__(self, options):
        self.options = options
        self.metabench = os.path.join(options.build, "tests", "bench", "metabench")

    def fio(self, target, rw, size, timed, unit, *more):
        """One fio job on the data file; MB/s or operations a second, and p99 in us."""
        words = ["--name=j", "--filename=" + target.file, "--rw=" + rw, "--bs=" + size, f"--size={self.options.size}M",
                 *more]
        if timed:
            words += ["--time_based", f"--runtime={self.options.seconds:g}"]
        told = fio_jobs(self.options.cap, *words)[0]["write" if "write" in rw else "read"]
        rate = told["io_bytes"] / 1e6 / (told["runtime"] / 1e3) if unit == "MB/s" else told["iops"]
        return rate, {f"p{which:g}_us": percentile(told, which) for which in (99, 99.9)}

    def meta(self, *args):
        told = json.loads(run([self.metabench, *map(str, args)], self.options.cap))
        return told["ops"] / told["sec"], {"sec": told["sec"], "sync_sec": told["sync_sec"]}


class Bench(Programs):
    """The workloads, and what they need."""

    def __init__(self, options, folder):
        super().__init__(options)
        self.tar = os.path.join(folder, "tree.tar")  # the first files by name of a real tree, in memory
        names = []
        for path, folders, files in os.walk(options.tree):
            folders.sort()
            names += [os.path.join(path, name) for name in sorted(files)
                      if not os.path.islink(os.path.join(path, name))]
        self.tree_names = names[:options.tree_files]
        listing = "\n".join(os.path.relpath(name, options.tree) for name in self.tree_names) + "\n"
        run(["tar", "-cf", self.tar, "-C", options.tree, "-T", "-"], 60, input=listing)

    def write(self, *more):
        def work(target):
            run(["rm", "-f", target.file], self.options.cap)
            os.sync()
            return self.fio(target, "write", "1M", False, "MB/s", "--end_fsync=1", *more)
        return work

    def warm(self, target):
        run(["dd", "if=" + target.file, "of=/dev/null", "bs=1M"], self.options.cap)
        return self.fio(target, "randread", "4k", True, "op/s", SYNC_ENGINE, "--invalidate=0")

    def create(self, threads):
        def work(target):
            folder = f"{target.dir}/m{threads}"
            os.mkdir(folder)
            return self.meta("create", folder, self.options.files, threads, 4096, *target.below)
        return work

    def append(self, target):
        return self.meta("append", target.dir + "/log", self.options.seconds)

    def tree(self, *command):
        def work(target):
            began = time.monotonic()
            run([word.replace("TREE", target.dir + "/tree") for word in command], self.options.cap)
            self.meta("sync", target.dir, *target.below)
            return len(self.tree_names) / (time.monotonic() - began), {}
        return work

    def small(self, command, *args, sync=False, twice=False):
        def work(target):
            if twice:
                self.meta(command, target.dir + "/m1", *args)
            return self.meta(command, target.dir + "/m1", *args, *(target.below if sync else ()))
        return work

    def job(self, *args):
        return lambda target: self.fio(target, *args)

    def workloads(self):
        """(name, unit, cold?, function). They build on each other within a round: the data file and the small files
        are made by the first ones and removed again."""
        files = self.options.files
        deep = ["--ioengine=io_uring", "--iodepth=32"]
        four = ["--ioengine=io_uring", "--iodepth=4"]
        return [
            ("seq write 1M O_DIRECT qd4 + fsync", "MB/s", False, self.write(*four, DIRECT)),
            ("seq write 1M buffered + fsync", "MB/s", False, self.write(SYNC_ENGINE)),
            ("seq read 1M buffered cold", "MB/s", True, self.job("read", "1M", False, "MB/s", SYNC_ENGINE)),
            ("seq read 1M O_DIRECT qd4", "MB/s", True, self.job("read", "1M", False, "MB/s", *four, DIRECT)),
            ("rand read 4k O_DIRECT qd1", "op/s", True, self.job("randread", "4k", True, "op/s", SYNC_ENGINE, DIRECT)),
            ("rand read 4k O_DIRECT qd32", "op/s", True, self.job("randread", "4k", True, "op/s", *deep, DIRECT)),
            ("rand read 4k buffered warm", "op/s", False, self.warm),
            ("rand write 4k O_DIRECT qd1", "op/s", False,
             self.job("randwrite", "4k", True, "op/s", SYNC_ENGINE, DIRECT)),
            ("rand write 4k O_DIRECT qd32", "op/s", False, self.job("randwrite", "4k", True, "op/s", *deep, DIRECT)),
            ("rand write 4k buffered + fsync each", "op/s", False,
             self.job("randwrite", "4k", True, "op/s", SYNC_ENGINE, "--fsync=1", "--end_fsync=1")),
            ("append 100 B + fsync each", "op/s", False, self.append),
            ("create 4 KiB files, 1 thread, + sync", "op/s", False, self.create(1)),
            ("stat cold, name order", "op/s", True, self.small("stat", files)),
            ("stat warm, name order", "op/s", False, self.small("stat", files, twice=True)),
            ("ls -l cold", "op/s", True, self.small("ls")),
            ("rename + sync", "op/s", False, self.small("rename", files, sync=True)),
            ("unlink + sync", "op/s", False, self.small("unlink", files, sync=True)),
            ("create 4 KiB files, 4 threads, + sync", "op/s", False, self.create(4)),
            ("untar a source tree + sync", "op/s", False,
             self.tree("sh", "-c", f"mkdir TREE && tar -xf {self.tar} -C TREE")),
            ("walk the tree cold (git status)", "op/s", True, lambda target: self.meta("walk", target.dir + "/tree")),
            ("rm -rf the tree + sync", "op/s", False, self.tree("rm", "-rf", "TREE")),
        ]


class Figures:
    """What was measured: {(workload, label): a rate for each round}, and what went wrong."""

    def __init__(self, labels, names):
        self.labels = list(labels)
        self.names = names  # [(workload, unit)]
        self.rates, self.errors = {}, {}

    def add(self, name, label, rate):
        self.rates.setdefault((name, label), []).append(rate)

    def median(self, name, label):
        rates = self.rates.get((name, label))
        return statistics.median(rates) if rates else None

    def ratio(self, name, label, to=None):
        """None: not measured."""
        rate, base = self.median(name, label), self.median(name, self.labels[0] if to is None else to)
        return rate / base if rate and base else None

    def cell(self, name, label):
        rates, ratio = self.rates.get((name, label), []), self.ratio(name, label)
        if not rates:
            return "n/a"
        median = statistics.median(rates)
        text = format(round(median), ",") if median >= 100 else f"{median:.3g}"
        if ratio and label != self.labels[0]:
            text += f" ({ratio:.2f}x)"
        if len(rates) > 1:
            text += f" ±{round(50 * (max(rates) - min(rates)) / median)}%"
        return text

    def table(self, more=()):
        """`more`: (title, function of a workload's name) of further columns."""
        lines = ["| workload | unit | " + " | ".join(self.labels + [title for title, _ in more]) + " |",
                 "|---|---|" + "---:|" * (len(self.labels) + len(more))]
        for name, unit in self.names:
            cells = [self.cell(name, label) for label in self.labels]
            if any(cell != "n/a" for cell in cells):
                lines.append(f"| {name} | {unit} | " + " | ".join(cells + [column(name) for _, column in more]) + " |")
        for (name, label), error in self.errors.items():
            lines.append(f"\nn/a or partial: {name}, {label}: {error}")
        return "\n".join(lines)


def measure_one(bench, target, cold, function):
    settle(cold, target)
    began, ticks = time.monotonic(), busy_ticks()
    value, more = function(target)
    wall = time.monotonic() - began
    more["cpu_pct"] = round(100 * (busy_ticks() - ticks) / os.sysconf("SC_CLK_TCK") / wall, 1)
    return value, dict(more, wall=wall)


def measure_round(bench, targets, number, figures):
    options = bench.options
    for target in targets:
        os.mkdir(target.dir)
    for name, unit, cold, function in bench.workloads():
        wanted = re.search(options.only, name)
        if not wanted and not re.search(SETUP, name):
            continue
        for target in targets if number % 2 == 0 else targets[::-1]:
            try:
                value, more = measure_one(bench, target, cold, function)
            except (RuntimeError, OSError, ValueError, KeyError) as error:
                figures.errors.setdefault((name, target.label), str(error))
                continue
            if wanted:
                figures.add(name, target.label, value)
            if options.json:
                row = dict(workload=name, unit=unit, label=target.label, round=number, value=value, **more)
                with open(options.json, "a", encoding="ascii") as file:
                    file.write(json.dumps(row) + "\n")
            print(f"{number + 1} {name:38s} {target.label:14s} {value:12.1f} {unit}", file=sys.stderr, flush=True)
    for target in targets:
        shutil.rmtree(target.dir, ignore_errors=True)


def measure(options, targets):
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        bench = Bench(options, folder)
        figures = Figures([target.label for target in targets],
                          [(name, unit) for name, unit, _, _ in bench.workloads()])
        try:
            for number in range(options.rounds):
                measure_round(bench, targets, number, figures)
        finally:
            for target in targets:
                shutil.rmtree(target.dir, ignore_errors=True)
    return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="+", metavar="LABEL=DIR[@BELOW,..]")
    add_options(parser)
    parser.add_argument("--cold", metavar="CMD", help="shell command that empties a server's caches; gets $LABEL, $DIR")
    options = parser.parse_args()
    targets = []
    for text in options.targets:
        label, _, rest = text.partition("=")
        path, _, below = rest.partition("@")
        cold = f"LABEL='{label}' DIR='{os.path.realpath(path)}'; {options.cold}" if options.cold else None
        targets.append(Target(label, path, below.split(",") if below else (), cold))
    print(measure(options, targets).table())


if __name__ == "__main__":
    main()
