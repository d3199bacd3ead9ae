# SPDX-License-Identifier: GPL-2.0-or-later
"""A system of one's own: mount(8) finds its helpers in /sbin and its table in /etc, which are not ours to change."""
import ctypes
import glob
import os
import shutil

from cases import Skip, require

CLONE_NEWNS, CLONE_NEWNET = 0x20000, 0x40000000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
HELPERS = ("mount.mirrorfs", "umount.mirrorfs")

libc = ctypes.CDLL(None, use_errno=True)


def _checked(result, what):
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), what)


def bind(source, target):
    _checked(libc.mount(os.fsencode(source), os.fsencode(target), None, MS_BIND, None), target)


def own(ws, *folders):
    """Empty ones in their places."""
    for folder in folders:
        os.makedirs(folder, exist_ok=True)
        bind(ws.folder(folder.replace("/", "-")), folder)


def leave(more=0):
    """From here on this process, and all that it starts, has mounts of its own."""
    require(["namespaces"])
    _checked(libc.unshare(CLONE_NEWNS | more), "unshare")
    _checked(libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None), "/")


def overlay(upper, lower):
    """Whoever has these mounts sees the one folder over the other."""
    if libc.mount(b"overlay", os.fsencode(lower), b"overlay", 0, os.fsencode(f"lowerdir={upper}:{lower}")):
        raise Skip(f"overlay: {os.strerror(ctypes.get_errno())}")


def enter(ws, net=False):
    """Leaves, for a /sbin with our helpers; with `net` nobody else hears what udev says."""
    leave(CLONE_NEWNET if net else 0)
    sbin = ws.folder("sbin")
    for tool in glob.glob(os.path.join(ws.tools, "*mirror*")):
        if os.path.isfile(tool):
            shutil.copy(tool, sbin)
    for helper in HELPERS:
        for kind in ("fuse", "fuseblk"):
            os.symlink(helper, os.path.join(sbin, helper.replace(".", f".{kind}.")))
    overlay(sbin, "/usr/sbin")
    own(ws, "/run/mount")
    ws.tools = sbin


def fstab(ws, *lines):
    """Becomes /etc/fstab."""
    path = ws.join("fstab")
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(line + "\n" for line in lines)
    if not os.path.exists("/etc/fstab"):
        with open(os.path.join(ws.folder("etc"), "fstab"), "w", encoding="utf-8"):
            pass
        overlay(ws.join("etc"), "/etc")
    bind(path, "/etc/fstab")


def mount_options(point):
    """What the kernel says of a mount: (of the mount point and of the filesystem, source), the uppermost last."""
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8") as info:
        for line in info:
            left, _, right = line.partition(" - ")
            words = left.split()
            if words[4] == point:
                found.append((set(words[5].split(",") + right.split()[2].split(",")), right.split()[1]))
    return found
