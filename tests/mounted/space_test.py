# SPDX-License-Identifier: GPL-2.0-or-later
"""Where free space lies, and what becomes of it."""
import os

import trees
from cases import QUICK, case

MIB = 1 << 20


def write_through(path, data):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.write(fd, data)
    os.fsync(fd)
    os.close(fd)


@case(QUICK)
def status_tells_how_free_space_is_cut_up(ws):
    volume = ws.volume()
    volume.mount()
    space = volume.status()[0]["space"]
    assert sum(extent["count"] for extent in space["free_extents"]) == 1, space
    assert space["free_extents"][0]["bytes"] <= space["largest_free_bytes"] < 2 * space["free_extents"][0]["bytes"]
    for i in range(40):
        write_through(volume.path(f"f{i}"), trees.pattern(64 * 1024, i))
    for i in range(0, 40, 2):
        os.unlink(volume.path(f"f{i}"))
    volume.remount()
    space = volume.status()[0]["space"]
    counts = {extent["bytes"]: extent["count"] for extent in space["free_extents"]}
    assert counts.get(64 * 1024, 0) >= 15, counts
    told = ws.run("mirrorctl", "status", volume.mnt).stdout
    assert f"{counts[64 * 1024]} of 64.0 KiB" in told, told
    volume.umount()
