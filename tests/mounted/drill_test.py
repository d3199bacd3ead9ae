# SPDX-License-Identifier: GPL-2.0-or-later
"""A fault is rehearsed on a running mount, and the disks never change."""
import os

import trees
from cases import FULL, QUICK, case
from workspace import wait_for

MIB = 1 << 20


def filled(ws, *options):
    volume = ws.volume()
    volume.mount("read-policy=leg0", *options)
    trees.write(volume.path("file"), trees.pattern(4 * MIB))
    return volume


def drill(volume, *words, ok=True):
    return volume.ws.run("mirrorctl", "drill", volume.mnt, *words, ok=ok)


def read_anew(volume):
    """Past what the kernel holds."""
    with open(volume.path("file"), "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return file.read()


@case(QUICK)
def corrupt_reads_are_rehearsed_healed_and_over_when_told(ws):
    volume = filled(ws)
    volume.remount("read-policy=leg0")
    drill(volume, "0", "read,corrupt,range=1M-")
    told, status = volume.status()
    assert status == 0 and told["legs"][0]["drill"]["rules"] == "read,corrupt,range=1M-", told["legs"][0]
    assert 0 < told["legs"][0]["drill"]["seconds_left"] <= 60
    assert read_anew(volume) == trees.pattern(4 * MIB)
    told, status = volume.status()
    assert status == 0 and told["legs"][0]["checksum_errors"] > 0, told["legs"][0]
    drill(volume, "0", "off")
    told, _ = volume.status()
    assert "drill" not in told["legs"][0], told["legs"][0]
    assert "healed 0" in volume.scrub().stdout, "a drill has changed what is on a disk"
    volume.umount()


@case(FULL)
def a_drill_ends_by_itself(ws):
    volume = filled(ws)
    drill(volume, "1", "any,delay=5", "1")
    wait_for("the end of a drill", lambda: "drill" not in volume.status()[0]["legs"][1])
    volume.umount()


@case(FULL)
def a_leg_that_hangs_in_a_drill_goes_offline_and_all_is_answered(ws):
    volume = filled(ws, "leg-timeout=1")
    drill(volume, "0", "any,hang")
    with open(volume.path("other"), "wb", buffering=0) as file:
        file.write(trees.pattern(MIB))
        os.fsync(file.fileno())
    told, status = volume.status()
    assert status == 3 and told["legs"][0]["state"] == "offline", told["legs"][0]
    # The last leg is no place to rehearse; ending one is always allowed.
    done = drill(volume, "1", "read,error=EIO", ok=False)
    assert done.returncode == 1 and "both legs in sync" in done.stderr, done
    drill(volume, "0", "off")
    assert trees.read(volume.path("other")) == trees.pattern(MIB)
    volume.umount()


@case(FULL)
def what_could_change_a_disk_is_refused(ws):
    volume = filled(ws)
    for rules in ("write,drop", "write,torn=512", "write,short=512", "read,misdirect=4096",
                  "read,error=EIO,when=/etc/passwd", "nonsense"):
        done = drill(volume, "0", rules, ok=False)
        assert done.returncode == 1 and done.stderr.strip(), rules
    for words in (["0"], ["2", "read,hang"], ["0", "read,hang", "0"], ["0", "read,hang", "3601"]):
        assert drill(volume, *words, ok=False).returncode == 2, words
    told, _ = volume.status()
    assert "drill" not in told["legs"][0], told["legs"][0]
    volume.umount()
