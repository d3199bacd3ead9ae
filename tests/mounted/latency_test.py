# SPDX-License-Identifier: GPL-2.0-or-later
"""-o cpu-latency: the kernel is asked to keep processors awake while requests follow each other, and not for longer."""
import os
import struct

import system
from cases import CPU_LATENCY, IDLE_DRIVER, QUICK, case
from workspace import wait_for

NO_WISH = 2000000000
USAGE, MOUNT_FAILED, NOBODY = 1, 32, 65534


class Kernel:
    """What this process and its children see in the place of the kernel's device: a file, and all wishes in it."""

    def __init__(self, ws):
        system.leave()
        self.path = ws.join("latency")
        self.driver = ws.join("driver")
        with open(self.path, "wb"):
            pass
        with open(self.driver, "w", encoding="ascii") as file:
            file.write("haltpoll\n")
        system.bind(self.path, CPU_LATENCY)
        system.bind(self.driver, IDLE_DRIVER)

    def wishes(self):
        with open(self.path, "rb") as file:
            data = file.read()
        return list(struct.unpack(f"{len(data) // 4}i", data))


def ask(volume, times=200):
    """Requests that follow each other: names that are not there."""
    for i in range(times):
        assert not os.path.exists(volume.path(f"{ask.count}-{i}"))
    ask.count += 1


ask.count = 0


def wished(kernel, volume, bound, more_than=0):
    """Asks until that is a wish once more, and then nothing until it is taken back."""
    wait_for("a wish", lambda: ask(volume) or kernel.wishes().count(bound) > more_than)
    wait_for("its end", lambda: kernel.wishes()[-1] == NO_WISH)


@case(QUICK, needs=["root", "namespaces", "cpu-latency"])
def processors_are_kept_awake_while_requests_follow_each_other_and_no_longer(ws):
    kernel = Kernel(ws)
    volume = ws.volume()
    volume.mount("cpu-latency=7")
    wished(kernel, volume, 7)
    wished(kernel, volume, 7, more_than=kernel.wishes().count(7))
    # It is made once for many requests, and never twice without being taken back.
    wishes = kernel.wishes()
    assert wishes == [7, NO_WISH] * (len(wishes) // 2), wishes
    volume.umount()


@case(needs=["root", "namespaces", "cpu-latency"])
def without_being_told_it_is_where_the_idle_driver_is_haltpoll(ws):
    kernel = Kernel(ws)
    volume = ws.volume()
    volume.mount()
    wished(kernel, volume, 0)
    volume.umount()
    before = len(kernel.wishes())
    volume.mount("cpu-latency=off")
    ask(volume, 2000)
    volume.umount()
    with open(kernel.driver, "w", encoding="ascii") as file:
        file.write("intel_idle\n")
    volume.mount()
    ask(volume, 2000)
    volume.umount()
    assert len(kernel.wishes()) == before


@case(needs=["root", "cpu-latency"])
def who_may_not_ask_the_kernel_is_told_the_way_out(ws):
    volume = ws.volume(user=NOBODY)
    done = volume.mount("cpu-latency=0", ok=False)
    assert done.returncode == MOUNT_FAILED, done.stderr
    assert "cpu-latency=off" in done.stderr and CPU_LATENCY in done.stderr, done.stderr
    volume.mount()
    volume.umount()
    for wrong in ("", "-1", "1000001", "5us", "never"):
        done = volume.mount(f"cpu-latency={wrong}", ok=False)
        assert done.returncode == USAGE and "cpu-latency" in done.stderr, done.stderr
