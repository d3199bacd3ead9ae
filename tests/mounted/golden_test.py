# SPDX-License-Identifier: GPL-2.0-or-later
"""Volumes that were made when version 1 of the format was fixed are read for ever; tests/golden/make.py made them.

They have one UUID, and of those with one UUID only one can be mounted.
"""
import errno
import json
import lzma
import os

import golden
import ondisk
import trees
from cases import FULL, QUICK, case
from linux import fails_with
from refusals_test import MOUNT_FAILED, digest, refused

HERE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "golden")
LEG_BYTES = 64 << 20
CHUNK = 1 << 20
CHECK_REFUSED = 8  # of fsck.mirrorfs


def unpack(ws, name):
    volume = ws.volume(name, make=False)
    with lzma.open(os.path.join(HERE, name + ".xz")) as packed:
        for leg in volume.legs:
            with open(leg, "wb") as file:
                for at in range(0, LEG_BYTES, CHUNK):
                    if (piece := packed.read(CHUNK)) != bytes(CHUNK):
                        os.pwrite(file.fileno(), piece, at)
                file.truncate(LEG_BYTES)
    return volume


def holds_what_it_held(volume, name):
    with open(os.path.join(HERE, name + ".json"), encoding="utf-8") as file:
        expected = json.load(file)
    found = json.loads(json.dumps(golden.manifest(volume.mnt)))
    for path in sorted(expected.keys() | found.keys()):
        assert found.get(path) == expected.get(path), f"{path}: {found.get(path)}, not {expected.get(path)}"


def goes_on(ws, volume):
    """It can be written, mounted again and checked."""
    trees.write(volume.path("new"), b"of today" * 1000)
    volume.remount()
    assert trees.read(volume.path("new")) == b"of today" * 1000
    volume.umount()
    ws.run("fsck.mirrorfs", "-n", "-f", "--data", *volume.legs)


@case(QUICK, needs=("root",))
def a_volume_whose_files_share_holds_what_it_held(ws):
    volume = unpack(ws, "shared")
    ws.run("fsck.mirrorfs", "-n", "-f", "--data", *volume.legs)
    volume.mount()
    holds_what_it_held(volume, "shared")
    st = os.statvfs(volume.mnt)
    assert (st.f_blocks - st.f_bfree) == 707, st.f_blocks - st.f_bfree
    fails_with(errno.EPERM, trees.write, volume.path("immutable"), b"")
    fails_with(errno.EPERM, trees.write, volume.path("append"), b"")
    for name in ("first", "all", "middle"):
        os.unlink(volume.path(name))
    goes_on(ws, volume)


@case(QUICK, alone=True)
def a_volume_of_version_1_holds_what_it_held(ws):
    volume = unpack(ws, "clean")
    ws.run("fsck.mirrorfs", "-n", "-f", "--data", *volume.legs)
    before = [digest(leg) for leg in volume.legs]
    volume.mount("ro")
    holds_what_it_held(volume, "clean")
    volume.umount()
    assert [digest(leg) for leg in volume.legs] == before
    volume.mount()
    holds_what_it_held(volume, "clean")
    goes_on(ws, volume)


@case(QUICK, alone=True)
def the_journal_of_version_1_is_replayed(ws):
    volume = unpack(ws, "crashed")
    volume.mount("ro")
    holds_what_it_held(volume, "crashed")
    volume.remount()
    holds_what_it_held(volume, "crashed")
    goes_on(ws, volume)


@case(FULL, alone=True)
def a_leg_of_version_1_that_lacks_something_is_known(ws):
    volume = unpack(ws, "alone")
    refused(ws, ["mirrorfs", "-o", "ro", volume.legs[1], volume.mnt], [volume.legs[1]], MOUNT_FAILED, volume.legs)
    volume.mount()
    holds_what_it_held(volume, "alone")


@case(QUICK, alone=True)
def an_unknown_compat_bit_of_version_1_is_kept(ws):
    volume = unpack(ws, "compat")
    volume.mount()
    holds_what_it_held(volume, "compat")
    trees.write(volume.path("new"), b"new")
    volume.remount()
    volume.umount()
    for leg in volume.legs:
        for slot in [*ondisk.written(leg, ondisk.LABEL_SLOTS), *ondisk.written(leg, ondisk.SUPER_SLOTS)]:
            with open(leg, "rb") as file:
                file.seek(slot + ondisk.COMPAT)
                assert int.from_bytes(file.read(8), "little") == 1 << 62, f"{leg}: lost at {slot}"


@case(QUICK, alone=True)
def an_unknown_ro_compat_bit_of_version_1_is_only_read(ws):
    volume = unpack(ws, "ro-compat")
    refused(ws, ["mirrorfs", *volume.legs, volume.mnt], ["ro_compat 0x4000000000000000", "-o ro"], MOUNT_FAILED,
            volume.legs)
    volume.mount("ro")
    holds_what_it_held(volume, "ro-compat")


@case(FULL, alone=True)
def unknown_features_are_looked_at_by_a_check_and_not_touched(ws):
    for name, bits in (("compat", "compat 0x4000000000000000"), ("ro-compat", "ro_compat 0x4000000000000000")):
        volume = unpack(ws, name)
        before = [digest(leg) for leg in volume.legs]
        for options in (["-f", "-p"], ["-f", "-y", "--data"]):
            done = ws.run("fsck.mirrorfs", *options, *volume.legs)
            assert bits in done.stdout and "only looked at" in done.stdout, done.stdout
            assert "directories" in done.stdout
        assert [digest(leg) for leg in volume.legs] == before, f"{name}: it was written to"


@case(QUICK, alone=True)
def an_unknown_incompat_bit_of_version_1_is_refused(ws):
    volume = unpack(ws, "incompat")
    says = ["incompat 0x4000000000000000"]
    refused(ws, ["mirrorfs", "-o", "ro", *volume.legs, volume.mnt], says, MOUNT_FAILED, volume.legs)
    refused(ws, ["fsck.mirrorfs", *volume.legs], says, CHECK_REFUSED, volume.legs)
    refused(ws, ["mirrorfs", *volume.legs, volume.mnt], says, MOUNT_FAILED)
