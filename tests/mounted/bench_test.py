# SPDX-License-Identifier: GPL-2.0-or-later
"""What the benchmark counts as durable when its clock stops is durable: the daemon is killed then, and it is there."""
import argparse
import os
import sys
import tempfile

import trees
from cases import FULL, case

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "bench"))
import fsbench  # noqa: E402


def prepare(ws):
    parser = argparse.ArgumentParser()
    fsbench.add_options(parser)
    options = parser.parse_args(["--build", os.path.dirname(ws.tools), "--seconds", "0.5", "--size", "48",
                                 "--files", "600", "--tree-files", "300"])
    return fsbench.Bench(options, tempfile.mkdtemp(dir=ws.path))


@case(FULL, needs=["fio"], timeout=300, transports=("classic", "uring"))
def each_row_that_ends_with_a_sync_is_there_behind_a_kill(ws):
    bench = prepare(ws)
    volume = ws.volume(size="1G")
    volume.mount("commit=600")
    target = fsbench.Target("mirrorfs", volume.mnt)
    os.mkdir(target.dir)
    killed = 0
    for name, _, _, work in bench.workloads():
        rate, _ = work(target)
        assert rate > 0, name
        if "sync" not in name:
            continue
        print(name, flush=True)
        expected = trees.manifest(volume.mnt)
        volume.kill()
        volume.mount("commit=600")
        trees.compare(expected, trees.manifest(volume.mnt))
        killed += 1
    assert killed == 10, killed
    volume.umount()
    ws.run("fsck.mirrorfs", "-n", "--data", *volume.legs)
