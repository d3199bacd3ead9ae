#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What gets slower as more is there? tests/bench/growth.py [options]

Three sizes, each ten times the one before. Files: N (--files), 10 N and 100 N of 4 KiB are created in one directory by
one thread, with a sync at the end; then all caches are emptied, and each is looked up in the order of names. Data: a
file of S MiB (--size), 10 S and 100 S is filled; then all caches are emptied, and 4 KiB are written at random with
O_DIRECT at depth 32. Each has a new volume, whose legs are equally large for all. The sizes take turns: small, medium,
large, then back.

The table tells the median rates (higher is better), their ratios to the small size, and whether these are within two
times of it, which is what mirrorfs is held to. A file that is small enough is written to over and over, and its tree
stays in the cache: part of what one sees is that of the machine; --label=btrfs tells how another fares on it.

The images are sparse. The large size takes about 10 GB for 100 times 10,000 files, 25 GB for a file of 10 GiB.
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
TIMES = (1, 10, 100)
CREATE, LOOKUP, WRITE = "create 4 KiB files, 1 thread, + sync", "stat cold, name order", "rand write 4k O_DIRECT qd32"


def files(programs, target, times):
    count = programs.options.files * times
    fsbench.settle(False, target)
    yield CREATE, programs.meta("create", target.dir, count, 1, 4096)[0]
    fsbench.settle(True, target)
    yield LOOKUP, programs.meta("stat", target.dir, count)[0]


def data(programs, target, times):
    size = f"--size={programs.options.size * times}M"
    deep = ["--ioengine=io_uring", "--iodepth=32", fsbench.DIRECT]
    programs.fio(target, "write", "1M", False, "MB/s", fsbench.SYNC_ENGINE, "--end_fsync=1", size)
    fsbench.settle(True, target)
    yield WRITE, programs.fio(target, "randwrite", "4k", True, "op/s", *deep, size)[0]


def named(options, times):
    return f"{options.files * times:,} files, {options.size * times:,} MiB"


def within(figures):
    def column(name):
        ratios = [figures.ratio(name, label) for label in figures.labels[1:]]
        if None in ratios:
            return ""
        return f"{1 / MOST:.2f} " + ("reached" if min(ratios) >= 1 / MOST else "missed")
    return column


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    fsbench.add_basic_options(parser, size=100, cap=1800)
    parser.add_argument("--label", default="mirrorfs", help="what is measured, one of those of peers.py")
    parser.add_argument("--images", action="store_const", const="images", dest="label", help="--label=images")
    peers.add_options(parser, gib=32)
    options = parser.parse_args()
    figures = fsbench.Figures([named(options, times) for times in TIMES],
                              [(CREATE, "op/s"), (LOOKUP, "op/s"), (WRITE, "op/s")])
    for number in range(options.rounds):
        for times in TIMES if number % 2 == 0 else TIMES[::-1]:
            for work in (files, data):
                with peers.made(options, [options.label]) as (target,):
                    os.mkdir(target.dir)
                    for name, value in work(fsbench.Programs(options), target, times):
                        figures.add(name, named(options, times), value)
                        print(f"{number + 1} {name:36s} x{times:<4} {value:10.0f} op/s", file=sys.stderr, flush=True)
    print(figures.table([("held to", within(figures))]))


if __name__ == "__main__":
    main()
