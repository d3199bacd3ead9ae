#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""How long single reads take while others write: tests/bench/tail.py [options]

One fio job reads 4 KiB at random with O_DIRECT at depth 1. Beside it one writes 4 KiB at random with O_DIRECT at depth
4, and one writes 1 MiB after another into the page cache, with an fsync every --sync MiB: without it, what is written
within seconds may stay in the page cache of a filesystem in the kernel, and nobody would write but one. Each has a file
of its own, which was filled before; caches are emptied before each round. Reads are counted once all three have run for
a second.

Labels are those of peers.py and take turns, round after round. The table tells the median over rounds of p50, p99 and
p99.9 of the reads, in microseconds (lower is better; the ratio is to the first label, to which the others are held:
p99.9 at most twice as long), and of what each job got done: a reader next to slow writers has it easy.

Needs root, loop devices and fio.
"""
import argparse
import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import fsbench  # noqa: E402
import peers  # noqa: E402

MOST = 2
TAIL = "read 4k O_DIRECT qd1, p99.9"
ROWS = [("read 4k O_DIRECT qd1, p50", "us"), ("read 4k O_DIRECT qd1, p99", "us"), (TAIL, "us"),
        ("read 4k O_DIRECT qd1", "op/s"), ("beside: write 4k O_DIRECT qd4", "op/s"),
        ("beside: write 1M buffered", "MB/s")]


def prepare(programs, target):
    os.mkdir(target.dir)
    for name in ("read", "write", "stream"):
        target.file = os.path.join(target.dir, name)
        programs.fio(target, "write", "1M", False, "MB/s", fsbench.SYNC_ENGINE, "--end_fsync=1")


def mixed(options, target):
    """The rows, once."""
    fsbench.settle(True, target)
    common = ["--time_based", f"--runtime={options.seconds:g}", "--ramp_time=1", f"--size={options.size}M"]
    jobs = [["--rw=randread", "--bs=4k", fsbench.SYNC_ENGINE, fsbench.DIRECT, "--percentile_list=50:99:99.9"],
            ["--rw=randwrite", "--bs=4k", "--ioengine=io_uring", "--iodepth=4", fsbench.DIRECT],
            ["--rw=write", "--bs=1M", fsbench.SYNC_ENGINE, f"--fsync={options.sync}"]]
    words = []
    for name, job in zip(("read", "write", "stream"), jobs):
        words += [f"--name={name}", f"--filename={target.dir}/{name}", *common, *job]
    read, write, stream = fsbench.fio_jobs(options.cap, *words)
    return [*(fsbench.percentile(read["read"], which) for which in (50, 99, 99.9)), read["read"]["iops"],
            write["write"]["iops"], stream["write"]["bw_bytes"] / 1e6]


def judge(figures, label):
    def column(name):
        ratio = figures.ratio(name, label)
        if name != TAIL or not ratio:
            return ""
        return f"at most {MOST} " + ("reached" if ratio <= MOST else "missed")
    return column


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    fsbench.add_basic_options(parser, size=512)
    parser.add_argument("--labels", default="btrfs,mirrorfs")
    parser.add_argument("--sync", type=int, default=64, help="MiB between fsyncs of the third; 0: none (default 64)")
    peers.add_options(parser)
    options = parser.parse_args()
    with peers.made(options, options.labels.split(",")) as targets:
        figures = fsbench.Figures([target.label for target in targets], ROWS)
        for target in targets:
            prepare(fsbench.Programs(options), target)
        for number in range(options.rounds):
            for target in targets if number % 2 == 0 else targets[::-1]:
                for (name, unit), value in zip(ROWS, mixed(options, target)):
                    figures.add(name, target.label, value)
                    print(f"{number + 1} {name:30s} {target.label:10s} {value:10.1f} {unit}", file=sys.stderr)
        print(figures.table([(f"{label}: held to", judge(figures, label)) for label in figures.labels[1:]]))


if __name__ == "__main__":
    main()
