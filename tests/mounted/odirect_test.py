# SPDX-License-Identifier: GPL-2.0-or-later
"""The O_DIRECT matrix on healthy and on failing legs, and on other filesystems as they are.

A fault is switched on by a file that its rule names (when=), after the mount.
"""
import errno
import os
import time

import trees
from cases import FULL, PEERS, QUICK, TRANSPORTS, case
from workspace import MIB

HEALTHY, DEGRADED, FAILED = 0, 3, 4  # exit status of mirrorctl


def matrix(ws, folder, *words, ok=True):
    """Runs the matrix; its lines of failures and its sums are printed."""
    script = '"$0" "$@" >matrix.log 2>&1; s=$?; grep FAIL matrix.log | head -n 20; tail -n 1 matrix.log; exit $s'
    done = ws.run("sh", "-c", script, os.path.join(ws.tools, "odirect-matrix"), *words, folder, cwd=ws.path, ok=ok)
    sums = done.stdout.strip().splitlines()[-1]
    print(f"note: {sums}")
    return sums


class Faulty:
    """A volume with the matrix's file on it, mounted cold on legs with these faults; switch_on() lets them happen."""

    def __init__(self, ws, faults, *options):
        self.switch = ws.join("switch")
        self.volume = ws.volume()
        self.volume.mount()
        ws.run("odirect-matrix", "-p", self.volume.mnt)
        self.volume.umount()
        self.volume.mount("cache=4M", *options, faults={
            leg: ";".join(f"{rule},when={self.switch}" for rule in rules.split(";")) for leg, rules in faults.items()})

    def switch_on(self):
        trees.write(self.switch, b"")

    def end(self, health):
        told, status = self.volume.status()
        assert status == health, f"mirrorctl ended with {status}, not {health}"
        assert told["mirror"]["empty_refused"] == 0, told["mirror"]
        assert told["mirror"]["request_errors"] == 0, "a request error came from a leg"
        for leg in told["legs"]:
            for counter in ("empty_refused", "unaligned_refused"):
                assert leg["io"][counter] == 0, (counter, leg)
            assert leg["io"]["errors"]["request"] == 0, "a request error came from a leg"
        os.path.exists(self.switch) and os.unlink(self.switch)
        self.volume.umount()
        return told


def all_right(ws, rules, health, *options):
    faulty = Faulty(ws, {0: rules} if rules else {}, *options)
    faulty.switch_on()
    sums = matrix(ws, faulty.volume.mnt)
    assert " 0 refused, 0 failed" in sums, sums
    told = faulty.end(health)
    assert told["mirror"]["unrecoverable"] == 0 and told["legs"][1]["charged"] == 0, told
    return told


@case(QUICK, timeout=100)
def every_request_is_right_on_healthy_legs(ws):
    told = all_right(ws, "", HEALTHY)
    assert told["legs"][0]["charged"] == 0, told["legs"][0]


@case(FULL, timeout=200)
def every_request_is_right_when_leg_0_fails_its_reads(ws):
    told = all_right(ws, "read,error=EIO", HEALTHY, "read-policy=leg0")
    assert told["legs"][0]["read_errors"] > 0, told["legs"][0]


@case(FULL, timeout=200)
def every_request_is_right_when_leg_0_fails_everything(ws):
    told = all_right(ws, "any,error=EIO", DEGRADED, "read-policy=leg0")
    assert told["legs"][0]["charged"] > 0, told["legs"][0]


@case(FULL, timeout=200)
def every_request_is_right_when_leg_0_refuses_misaligned_memory(ws):
    told = all_right(ws, "read,align=4096;write,align=4096", HEALTHY, "read-policy=leg0")
    assert told["legs"][0]["charged"] == 0, told["legs"][0]


@case(FULL, timeout=300)
def every_request_is_right_when_leg_0_hangs(ws):
    told = all_right(ws, "any,hang", DEGRADED, "read-policy=leg0", "leg-timeout=1", "deadline=6")
    assert told["legs"][0]["timeouts"] > 0, told["legs"][0]


@case(FULL, timeout=300)
def every_request_is_right_when_leg_0_returns_wrong_bytes(ws):
    told = all_right(ws, "read,corrupt", HEALTHY, "read-policy=leg0")
    assert told["legs"][0]["checksum_errors"] > 0, told["legs"][0]


@case(FULL, timeout=200)
def every_request_is_right_when_leg_0_is_short(ws):
    all_right(ws, "read,short=4K;write,short=4K", DEGRADED, "read-policy=leg0")


@case(FULL, timeout=300)
def every_request_ends_with_eio_when_both_legs_fail(ws):
    faulty = Faulty(ws, {0: "any,error=EIO", 1: "any,error=EIO"}, "leg-timeout=1", "deadline=4", "commit=600")
    os.stat(faulty.volume.path("odirect-matrix.data"))
    faulty.switch_on()
    matrix(ws, faulty.volume.mnt, "-x", "-t", "10")
    faulty.end(FAILED)


@case(FULL)
def a_request_that_neither_leg_answers_ends_by_its_deadline(ws):
    faulty = Faulty(ws, {0: "read,hang", 1: "read,hang"}, "leg-timeout=1", "deadline=3")
    fd = os.open(faulty.volume.path("odirect-matrix.data"), os.O_RDONLY | os.O_DIRECT)
    faulty.switch_on()
    start = time.monotonic()
    try:
        os.preadv(fd, [memoryview(bytearray(2 * MIB))[:MIB]], 16 * MIB)
        raise AssertionError("a read without an answer came to a good end")
    except OSError as error:
        print(f"{error} after {time.monotonic() - start:.1f} s")
        assert error.errno in (errno.EIO, errno.ETIMEDOUT), error
    assert time.monotonic() - start < 10
    os.close(fd)
    os.unlink(faulty.switch)
    told, status = faulty.volume.status()
    assert status == HEALTHY, "neither leg is blamed"
    assert all(leg["timeouts"] for leg in told["legs"]), told["legs"]
    matrix(ws, faulty.volume.mnt)
    faulty.volume.umount()


@case(QUICK, transports=TRANSPORTS)
def the_request_of_2026_is_answered(ws):
    for rules in ("read,align=4096", "read,error=EIO"):
        volume = ws.volume(rules[5:8])
        volume.mount()
        trees.write(volume.path("file"), trees.pattern(MIB))
        volume.remount("read-policy=leg0", faults={0: rules + f",when={ws.join(rules[5:8])}"})
        trees.write(ws.join(rules[5:8]), b"")
        assert "said: 4096 " in ws.run("odirect-read", volume.path("file")).stdout
        volume.counted_nothing_forbidden()
        volume.umount()


def peer(ws, kind, *options):
    image = ws.join(kind)
    ws.run("truncate", "-s", "512M", image)
    ws.run(f"mkfs.{kind}", *options, image)
    device = ws.loop(image)
    ws.run("mount", device, ws.folder("there"))
    matrix(ws, ws.join("there"))
    ws.run("umount", ws.join("there"))


@case(PEERS, needs=["loop", "mkfs.ext4"])
def ext4_answers_or_refuses(ws):
    peer(ws, "ext4", "-q")


@case(PEERS, needs=["loop", "mkfs.btrfs"])
def btrfs_answers_or_refuses(ws):
    peer(ws, "btrfs", "-q")


@case(PEERS)
def mirrorfs_refuses_nothing(ws):
    volume = ws.volume()
    volume.mount()
    sums = matrix(ws, volume.mnt)
    assert " 0 refused, 0 failed" in sums, sums
    volume.umount()
