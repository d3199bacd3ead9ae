# SPDX-License-Identifier: GPL-2.0-or-later
"""What a mounted test is: a function marked @case, whose name is its claim, that gets a Workspace."""
import importlib.util
import os
import shutil

QUICK, FULL, LONG, PEERS = "quick", "full", "long", "peers"
TRANSPORTS = ("classic", "uring")
CPU_LATENCY = "/dev/cpu_dma_latency"
IDLE_DRIVER = "/sys/devices/system/cpu/cpuidle/current_driver"
URING_SWITCH = "/sys/module/fuse/parameters/enable_uring"

# Which cases a mode of tests/run takes.
MODES = {QUICK: {QUICK}, FULL: {QUICK, FULL, PEERS}, LONG: {QUICK, FULL, LONG, PEERS}, PEERS: {PEERS}}


class Skip(Exception):
    """Something that the case needs is not to be had here; the text says what."""


def case(kind=FULL, needs=(), timeout=120, alone=False, transports=("auto",)):
    """`needs`: capabilities, or names of programs; fuse is always needed. `alone`: no other case runs beside it.
    `transports`: over which it runs, one after the other."""

    def mark(function):
        function.case = {"kind": kind, "needs": ("fuse", *needs), "timeout": timeout, "alone": alone,
                         "transports": transports}
        return function

    return mark


def _fuse():
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except OSError as error:
        raise Skip(f"fuse: /dev/fuse: {error.strerror}") from None


def _root():
    if os.geteuid() != 0:
        raise Skip("root: only root may do this")


def _loop():
    _root()
    if not os.path.exists("/dev/loop-control") and not os.path.exists("/dev/loop0"):
        raise Skip("loop: no loop devices")


def _namespaces():
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        if all(line.split()[4] != "/" for line in file):
            raise Skip("namespaces: a plain chroot gets none")


def _jsonschema():
    if not importlib.util.find_spec("jsonschema"):
        raise Skip("jsonschema: python3-jsonschema is not installed")


def as_on_linux_6_1():
    return "MIRRORFS_LINUX61" in os.environ


def _newer():
    if as_on_linux_6_1():
        raise Skip("newer: Linux 6.1 has not what this is about")


def _uring():
    if not uring_is_on():
        raise Skip(f"uring: the kernel has no FUSE over io_uring, or no Y in {URING_SWITCH}")


def uring_is_on():
    try:
        with open(URING_SWITCH, encoding="ascii") as file:
            return file.read().strip() == "Y" and not as_on_linux_6_1()
    except OSError:
        return False


def _cpu_latency():
    for path in (CPU_LATENCY, IDLE_DRIVER):
        if not os.path.exists(path):
            raise Skip(f"cpu-latency: no {path}")


CAPABILITIES = {"fuse": _fuse, "root": _root, "loop": _loop, "namespaces": _namespaces, "jsonschema": _jsonschema,
                "uring": _uring, "newer": _newer, "cpu-latency": _cpu_latency}


def require(needs):
    for need in needs:
        if need in CAPABILITIES:
            CAPABILITIES[need]()
        elif not shutil.which(need):
            raise Skip(f"{need}: not installed")
