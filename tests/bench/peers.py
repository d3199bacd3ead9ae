#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""mirrorfs beside btrfs raid1 in the kernel, and others that the machine has: tests/bench/peers.py [options]

Each gets legs of its own, image files side by side in one folder; kernel filesystems and mirrorfs get loop devices
with direct I/O on them, so nothing is cached twice. The workloads are those of fsbench.py, in turn, and its options
are ours. The table tells each rate, its ratio to btrfs raid1, and beside it what mirrorfs is held to.

  --labels     which ones, in order; the first is what the others are compared to. btrfs: raid1 on two loop devices;
               mirrorfs: on two loop devices; images: mirrorfs on two image files; ext4: on one loop device, no mirror;
               fuse2fs: on one image file; ntfs-3g: on one loop device
  --mount      options for mirrorfs, as of mirrorfs -o
  --plot       writes the ratios as a picture (SVG) as well

Needs root, loop devices, fio, and of the peers what is named.
"""
import argparse
import contextlib
import os
import sys
import tempfile

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "mounted"))
import fsbench  # noqa: E402
import workspace  # noqa: E402

# The least ratio to btrfs raid1 that is accepted; a median of 0.95 of it counts as reached.
FLOORS = {
    "seq write 1M O_DIRECT qd4 + fsync": 1.70,
    "seq write 1M buffered + fsync": 1.10,
    "seq read 1M buffered cold": 1.10,
    "seq read 1M O_DIRECT qd4": 1.00,
    "rand read 4k O_DIRECT qd1": 0.95,
    "rand read 4k O_DIRECT qd32": 1.00,
    "rand read 4k buffered warm": 1.00,
    "rand write 4k O_DIRECT qd1": 1.10,
    "rand write 4k O_DIRECT qd32": 2.50,
    "rand write 4k buffered + fsync each": 3.80,
    "append 100 B + fsync each": 2.70,
    "create 4 KiB files, 1 thread, + sync": 1.00,
    "create 4 KiB files, 4 threads, + sync": 1.25,
    "stat cold, name order": 0.50,
    "stat warm, name order": 1.00,
    "ls -l cold": 1.30,
    "rename + sync": 1.30,
    "unlink + sync": 0.80,
    "untar a source tree + sync": 0.50,
    "walk the tree cold (git status)": 1.00,
    "rm -rf the tree + sync": 0.80,
}
NOISE = 0.95


class Peers:
    """Makes what is measured in the workspace."""

    def __init__(self, ws, gib, options):
        self.ws, self.gib, self.options = ws, gib, options

    def legs(self, label, count, loop=True):
        paths = []
        for i in range(count):
            path = self.ws.join(f"{label}.leg{i}")
            self.ws.run("truncate", "-s", f"{self.gib}G", path)
            if loop:
                path = self.ws.run("losetup", "-f", "--show", "--direct-io=on", path).stdout.strip()
            paths.append(path)
        return paths, self.ws.folder(f"{label}.mnt")

    def kernel(self, label, count, make, *mount):
        devices, mnt = self.legs(label, count)
        self.ws.run(*make, *devices)
        self.ws.run("mount", "-o", ",".join(("noatime", *mount)), devices[0], mnt)
        return fsbench.Target(label, mnt)

    def served(self, label, loop):
        legs, mnt = self.legs(label, 2, loop)
        self.ws.run("mkfs.mirrorfs", *legs)
        self.ws.run("mirrorfs", *(["-o", self.options.mount] if self.options.mount else []), *legs, mnt)
        drop = os.path.join(self.ws.tools, "mirrorctl")
        return fsbench.Target(label, mnt, cold=f"{drop} drop-caches {mnt}")

    def btrfs(self):
        return self.kernel("btrfs", 2, ["mkfs.btrfs", "-q", "-d", "raid1", "-m", "raid1"])

    def ext4(self):
        return self.kernel("ext4", 1, ["mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0"])

    def mirrorfs(self):
        return self.served("mirrorfs", True)

    def images(self):
        return self.served("images", False)

    def fuse2fs(self):
        (image,), mnt = self.legs("fuse2fs", 1, loop=False)
        self.ws.run("mkfs.ext4", "-q", image)
        self.ws.run("fuse2fs", "-o", "rw", image, mnt)
        return fsbench.Target("fuse2fs", mnt, [image])

    def ntfs_3g(self):
        (device,), mnt = self.legs("ntfs-3g", 1)
        self.ws.run("mkfs.ntfs", "-Q", "-q", device)
        self.ws.run("ntfs-3g", "-o", "big_writes,noatime", device, mnt)
        return fsbench.Target("ntfs-3g", mnt, [device])


def add_options(parser, gib=6):
    parser.add_argument("--dir", default="/var/tmp", help="where the images lie")
    parser.add_argument("--gib", type=int, default=gib, help="of each leg")
    parser.add_argument("--mount", default="", help="options for mirrorfs, as of mirrorfs -o")


@contextlib.contextmanager
def made(options, labels):
    """New volumes, mounted; what it takes to make them is told on standard error. In the end all is gone."""
    if os.geteuid():
        sys.exit(f"{os.path.basename(sys.argv[0])}: needs root, to mount and to empty caches")
    options.build = os.path.abspath(options.build)
    folder = tempfile.mkdtemp(prefix="mirrorfs-bench-", dir=options.dir)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            peers = Peers(workspace.Workspace(folder, os.path.join(options.build, "tools")), options.gib, options)
            targets = [getattr(peers, label.replace("-", "_"))() for label in labels]
        yield targets
    finally:
        workspace.sweep(folder)


# ---- the picture ----

ROW, LEFT, WIDTH = 22, 330, 900
COLOURS = ("#1b6ca8", "#c8553d", "#588157", "#6d597a", "#b08900")


def bars(figures, names, scale):
    for i, name in enumerate(names):
        top = 40 + i * ROW * len(figures.labels[1:])
        yield f'<text x="{LEFT - 8}" y="{top + 14}" text-anchor="end">{name}</text>'
        for j, label in enumerate(figures.labels[1:]):
            ratio = figures.ratio(name, label) or 0
            y = top + j * ROW
            yield (f'<rect x="{LEFT}" y="{y}" width="{ratio * scale:.0f}" height="{ROW - 6}" '
                   f'fill="{COLOURS[j % len(COLOURS)]}"/>'
                   f'<text x="{LEFT + ratio * scale + 4:.0f}" y="{y + 13}">{ratio:.2f}</text>')


def picture(figures):
    """Bars: the ratio of each to the first."""
    names = [name for name, _ in figures.names if any(figures.ratio(name, label) for label in figures.labels[1:])]
    most = max([figures.ratio(name, label) or 0 for name in names for label in figures.labels[1:]] + [1])
    scale = (WIDTH - LEFT - 60) / most
    height = 50 + len(names) * ROW * len(figures.labels[1:])
    legend = "".join(f'<text x="{LEFT + 140 * j}" y="20" fill="{COLOURS[j % len(COLOURS)]}">{label}</text>'
                     for j, label in enumerate(figures.labels[1:]))
    line = (f'<line x1="{LEFT + scale:.0f}" y1="30" x2="{LEFT + scale:.0f}" y2="{height}" stroke="#444" '
            f'stroke-dasharray="4"/><text x="{LEFT + scale:.0f}" y="34" font-size="10">{figures.labels[0]} = 1</text>')
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif" '
            f'font-size="12"><rect width="100%" height="100%" fill="white"/>{legend}'
            + "".join(bars(figures, names, scale)) + line + "</svg>\n")


# ---- what mirrorfs is held to ----

def judge(figures, label):
    def column(name):
        ratio, floor = figures.ratio(name, label, to="btrfs"), FLOORS.get(name)
        if not ratio or floor is None:
            return ""
        return f"{floor:.2f} " + ("reached" if ratio >= NOISE * floor else "missed")
    return column


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    fsbench.add_options(parser)
    parser.add_argument("--labels", default="btrfs,mirrorfs")
    add_options(parser)
    parser.add_argument("--plot", metavar="FILE")
    options = parser.parse_args()
    with made(options, options.labels.split(",")) as targets:
        figures = fsbench.measure(options, targets)
        held = [label for label in ("mirrorfs", "images") if label in figures.labels and "btrfs" in figures.labels]
        print(figures.table([(f"{label}: held to", judge(figures, label)) for label in held]))
        if options.plot:
            with open(options.plot, "w", encoding="utf-8") as file:
                file.write(picture(figures))


if __name__ == "__main__":
    main()
