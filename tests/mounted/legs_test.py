# SPDX-License-Identifier: GPL-2.0-or-later
"""Files survive what befalls a leg: rot, absence, death."""
import os
import threading

import trees
from cases import FULL, QUICK, case
from workspace import wait_for

MIB = 1 << 20
DEGRADED = 3  # exit status of mirrorctl


def filled(ws, **more):
    """A volume, mounted, with a tree on it; the tree's manifest."""
    volume = ws.volume(**more)
    volume.mount()
    trees.copy(trees.real_trees(30, ["/usr/include/linux", "/usr/share/bash-completion"]), volume.mnt)
    trees.write(volume.path("large"), trees.pattern(24 * MIB))
    return volume, trees.manifest(volume.mnt)


def survives_rot(ws, **more):
    volume, expected = filled(ws, **more)
    volume.umount()
    volume.rot(0)
    volume.mount("read-policy=leg0")
    trees.compare(expected, trees.manifest(volume.mnt))
    wait_for("repairs", lambda: volume.status()[0]["legs"][0]["repaired"] > 0)  # behind the readers' backs
    told, status = volume.status()
    assert status == 0, "rot in single blocks takes no leg out"
    assert told["legs"][0]["checksum_errors"] > 0, told["legs"][0]
    assert told["legs"][1]["checksum_errors"] == 0, told["legs"][1]
    volume.scrub()
    told, status = volume.status()
    assert status == 0 and told["mirror"]["unrecoverable"] == 0, told
    volume.umount()
    volume.rot(1)
    volume.mount("read-policy=leg1")
    trees.compare(expected, trees.manifest(volume.mnt))
    volume.umount()


@case(QUICK, timeout=110)
def all_reads_when_leg_0_has_rotted_and_after_a_scrub_when_leg_1_has(ws):
    survives_rot(ws)


@case(FULL, needs=["loop"], timeout=200)
def devices_may_rot_too(ws):
    survives_rot(ws, loop=True)


@case(FULL)
def what_is_bad_on_both_legs_is_an_error_and_nothing_else(ws):
    volume, expected = filled(ws)
    volume.umount()
    volume.rot(0)
    volume.mount()
    # Its nodes are healed by this walk over names alone; its data stays bad on leg 0.
    for _ in os.walk(volume.mnt):
        pass
    os.stat(volume.path("large"))
    start, length = volume.heap(1)
    data = trees.pattern(4096)
    with open(volume.legs[1], "r+b") as leg:
        leg.seek(start)
        heap = leg.read(length)
        # The first block of "large" is to be found by its content, and is spoiled on leg 1 as well.
        at = heap.find(data)
        assert at >= 0
        leg.seek(start + at)
        leg.write(b"spoiled!")
        leg.flush()
        os.fsync(leg.fileno())
    with open(volume.path("large"), "rb") as file:
        try:
            os.pread(file.fileno(), 4096, 0)
            raise AssertionError("a block that is bad on both legs was read")
        except OSError as error:
            assert error.errno == 5, error
        assert os.pread(file.fileno(), MIB, 8 * MIB) == trees.pattern(9 * MIB)[8 * MIB:]
    told, status = volume.status()
    assert status == 0 and told["mirror"]["unrecoverable"] > 0, told
    good = trees.manifest(volume.mnt, skip=("large",))
    expected.pop(b"large")
    trees.compare(expected, good)
    assert volume.scrub(ok=False).returncode != 0, "a scrub that could not heal everything says so"
    volume.umount()


@case(QUICK)
def a_missing_leg_is_named_and_needs_leave(ws):
    volume, expected = filled(ws)
    volume.umount()
    os.rename(volume.legs[0], ws.join("away"))
    done = volume.mount(ok=False, legs=[volume.legs[1]])
    assert done.returncode != 0
    assert volume.legs[0] in done.stderr, "the missing leg is not named"
    assert "degraded" in done.stderr, "the way out is not named"
    done = volume.mount("degraded", legs=[volume.legs[1]])
    trees.compare(expected, trees.manifest(volume.mnt))
    _, status = volume.status()
    assert status == DEGRADED
    trees.write(volume.path("new"), b"written without leg 0")
    volume.umount()
    # From now on the label of leg 1 says that it runs on alone.
    volume.mount(legs=[volume.legs[1]])
    assert trees.read(volume.path("new")) == b"written without leg 0"
    volume.umount()
    # And leg 0, back again, is not taken for a good copy.
    os.rename(ws.join("away"), volume.legs[0])
    volume.mount()
    assert trees.read(volume.path("new")) == b"written without leg 0"
    trees.compare(expected, {path: what for path, what in trees.manifest(volume.mnt).items() if path != b"new"})
    volume.umount()


@case(QUICK)
def swapped_legs_are_the_same_volume(ws):
    volume, expected = filled(ws)
    volume.umount()
    volume.mount(legs=volume.legs[::-1])
    trees.compare(expected, trees.manifest(volume.mnt))
    told, status = volume.status()
    assert status == 0
    assert told["legs"][0]["address"].endswith("leg0"), told["legs"]
    volume.umount()


@case(FULL)
def a_single_leg_is_a_volume(ws):
    volume, expected = filled(ws, legs=1)
    volume.remount()
    trees.compare(expected, trees.manifest(volume.mnt))
    told, status = volume.status()
    assert status == 0 and len(told["legs"]) == 1, told
    volume.umount()


class Traffic:
    """Reads and writes files all the while, and remembers what was acknowledged."""

    def __init__(self, volume, expected):
        self.volume, self.expected = volume, expected
        self.wrong, self.written = [], {}
        self.rounds = 0
        self.stop = threading.Event()
        self.threads = [threading.Thread(target=self.guard, args=(f,)) for f in (self.read, self.write)]

    def guard(self, function):
        try:
            while not self.stop.is_set():
                function()
        except Exception as error:  # pylint: disable=broad-except
            self.wrong.append(error)

    def read(self):
        trees.compare(self.expected, {p: w for p, w in trees.manifest(self.volume.mnt, skip=("new",)).items()
                                      if not p.startswith(b"new/")})
        self.rounds += 1

    def write(self):
        number = len(self.written)
        path = self.volume.path("new", f"file {number % 300}")
        data = trees.pattern(100000 if number % 10 == 0 else 3000, number)
        with open(path, "wb", buffering=0) as file:
            file.write(data)
            if number % 7 == 0:
                os.fsync(file.fileno())
        self.written[number] = (path, data)

    def __enter__(self):
        os.mkdir(self.volume.path("new"))
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join()
        assert not self.wrong, self.wrong

    def check(self):
        last = {path: data for path, data in self.written.values()}
        for path, data in last.items():
            assert trees.read(path) == data, path


@case(FULL, timeout=200)
def leg_0_may_die_under_reads_and_writes(ws):
    volume, expected = filled(ws)
    volume.remount("cache=16M")
    with Traffic(volume, expected) as traffic:
        traffic.stop.wait(2)
        os.truncate(volume.images[0], MIB)
        for _ in range(600):
            traffic.stop.wait(0.1)
            if traffic.wrong or traffic.rounds >= 4 and len(traffic.written) > 50:
                break
    traffic.check()
    told, status = volume.status()
    assert status in (0, DEGRADED), told
    assert told["legs"][1]["charged"] == 0, told["legs"][1]
    volume.umount()
    os.unlink(volume.images[0])
    volume.mount("degraded", legs=[volume.legs[1]])
    traffic.check()
    trees.compare(expected, {p: w for p, w in trees.manifest(volume.mnt).items() if not p.startswith(b"new")})
    volume.umount()


def fails_under_traffic(ws, rules, *options):
    volume, expected = filled(ws)
    switch = ws.join("switch")
    volume.umount()
    volume.mount("cache=16M", *options, faults={0: f"{rules},when={switch}"})
    with Traffic(volume, expected) as traffic:
        traffic.stop.wait(2)
        trees.write(switch, b"")
        rounds = traffic.rounds
        for _ in range(600):
            traffic.stop.wait(0.1)
            if traffic.wrong or traffic.rounds >= rounds + 3:
                break
    traffic.check()
    told, status = volume.status()
    assert status == DEGRADED and told["legs"][0]["state"] == "offline", told["legs"][0]
    assert told["legs"][1]["charged"] == 0, told["legs"][1]
    volume.umount()
    # Leg 0, well again, lacks what was written meanwhile: it is not asked.
    os.unlink(switch)
    volume.mount()
    traffic.check()
    trees.compare(expected, {p: w for p, w in trees.manifest(volume.mnt).items() if not p.startswith(b"new")})
    volume.umount()


@case(FULL, timeout=200)
def leg_0_may_be_unplugged_under_reads_and_writes(ws):
    fails_under_traffic(ws, "any,error=ENXIO")


@case(FULL, timeout=200)
def leg_0_may_hang_under_reads_and_writes(ws):
    fails_under_traffic(ws, "any,hang", "leg-timeout=1", "deadline=5")


@case(FULL, timeout=200)
def leg_0_may_fail_every_write_under_reads_and_writes(ws):
    fails_under_traffic(ws, "write,error=EIO")
