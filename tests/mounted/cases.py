# SPDX-License-Identifier: GPL-2.0-or-later
"""What a mounted test is: a function marked @case, whose name is its claim, that gets a Workspace."""
import importlib.util
import os
import shutil

QUICK, FULL, LONG, PEERS = "quick", "full", "long", "peers"

# Which cases a mode of tests/run takes.
MODES = {QUICK: {QUICK}, FULL: {QUICK, FULL, PEERS}, LONG: {QUICK, FULL, LONG, PEERS}, PEERS: {PEERS}}


class Skip(Exception):
    """Something that the case needs is not to be had here; the text says what."""


def case(kind=FULL, needs=(), timeout=120, alone=False):
    """`needs`: capabilities, or names of programs; fuse is always needed. `alone`: no other case runs beside it."""

    def mark(function):
        function.case = {"kind": kind, "needs": ("fuse", *needs), "timeout": timeout, "alone": alone}
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


def _jsonschema():
    if not importlib.util.find_spec("jsonschema"):
        raise Skip("jsonschema: python3-jsonschema is not installed")


CAPABILITIES = {"fuse": _fuse, "root": _root, "loop": _loop, "jsonschema": _jsonschema}


def require(needs):
    for need in needs:
        if need in CAPABILITIES:
            CAPABILITIES[need]()
        elif not shutil.which(need):
            raise Skip(f"{need}: not installed")
