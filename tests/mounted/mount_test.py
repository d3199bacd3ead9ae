# SPDX-License-Identifier: GPL-2.0-or-later
"""mirrorfs where an administrator looks for it: fstab, mount(8), umount(8)."""
import contextlib
import fcntl
import os
import re
import signal
import stat
import time
import socket
import subprocess

import system
import trees
from cases import FULL, QUICK, case
from workspace import alive, daemon_of, mounted, wait_for

NOBODY = 65534
MOUNT_USAGE, MOUNT_FAILED = 1, 32
NO_DAEMON = 5
PAGE = os.path.join(os.path.dirname(__file__), "../../man/mirrorfs.8")


def waits_for_a_lock(pid):
    with open("/proc/locks", encoding="utf-8") as locks:
        return any("->" in line and str(pid) in line.split() for line in locks)


def legs_are_free(volume):
    """Not in a moment, but now: nobody serves the mount, and fsck may lock the legs."""
    assert volume.pid is None or not alive(volume.pid), "its daemon is still there"
    volume.ws.run("fsck.mirrorfs", "-n", *volume.legs)


def udev_link(uuid, device):
    """As udev would make it."""
    os.makedirs("/dev/disk/by-uuid", exist_ok=True)
    os.symlink(device, f"/dev/disk/by-uuid/{uuid}")


def mount_line(volume, words, line_words=()):
    """Mounts by a line of fstab."""
    system.fstab(volume.ws, f"{volume.legs[0]} {volume.mnt} mirrorfs leg={volume.legs[1]},{words} 0 0")
    volume.ws.run("mount", *line_words, volume.mnt)
    volume.pid = daemon_of(volume.mnt)


@case(QUICK, needs=["root"])
def fstab_mounts_once_and_umount_waits_for_the_legs(ws):
    volume = ws.volume(size="64M")
    system.enter(ws)
    system.fstab(ws, f"{volume.legs[0]} {volume.mnt} mirrorfs leg={volume.legs[1]},nofail,commit=600 0 0")
    ws.run("mount", "-a")
    volume.pid = daemon_of(volume.mnt)
    ws.run("mount", "-a")
    assert [source for _, source in system.mount_options(volume.mnt)] == [volume.legs[0]]
    # mount(8) does not know that this is the same; the helper does.
    ws.run("mount", "-t", "mirrorfs", volume.legs[1], volume.mnt)
    assert len(system.mount_options(volume.mnt)) == 1
    trees.write(volume.path("file"), b"x" * (8 << 20))
    ws.run("umount", volume.mnt)
    legs_are_free(volume)
    ws.run("mount", "-a")
    assert len(trees.read(volume.path("file"))) == 8 << 20
    volume.pid = daemon_of(volume.mnt)
    ws.run("mirrorctl", "umount", volume.mnt)
    legs_are_free(volume)


@case(QUICK, needs=["root"])
def words_of_mount_and_systemd_are_understood(ws):
    volume = ws.volume(size="64M")
    system.enter(ws)
    mount_line(volume, "noauto,nofail,_netdev,user,x-systemd.mount-timeout=60,x-other,comment=its,ro,relatime")
    options, _ = system.mount_options(volume.mnt)[0]
    assert {"ro", "nosuid", "nodev", "noexec"} <= options, options  # the last three because of "user"
    ws.run("umount", volume.mnt)
    ws.run("mount", "-a")
    assert not mounted(volume.mnt), "noauto"
    done = ws.run("mount.mirrorfs", volume.legs[0], volume.mnt, "-o", "nonsense", ok=False)
    assert done.returncode == MOUNT_USAGE and "nonsense" in done.stderr, done.stderr
    ws.run("mount.mirrorfs", volume.legs[0], volume.mnt, "-f", "-o", "nosuid")
    assert not mounted(volume.mnt), "only a rehearsal"
    ws.run("mount.mirrorfs", volume.legs[0], volume.mnt, "-s", "-o", f"nonsense,leg={volume.legs[1]}")
    ws.run("umount", volume.mnt)
    done = ws.run("mount", "-t", "mirrorfs", ws.join("missing"), volume.mnt, ok=False)
    assert done.returncode == MOUNT_FAILED, done.returncode


def moved(path, age=3600, flags=os.O_RDONLY):
    """Whether reading moves a time of access that was so long ago, and behind all changes."""
    before = int(time.time()) - age
    os.utime(path, (before, 1000))
    if os.path.isdir(path):
        os.listdir(path)
    else:
        fd = os.open(path, flags)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)  # what the kernel's cache answers is not seen
        assert os.read(fd, 1)
        os.close(fd)
    return int(os.stat(path).st_atime) != before


@case(QUICK, needs=["root"])
def words_on_times_of_access_do_what_they_say(ws):
    volume = ws.volume(size="64M")
    system.enter(ws)
    file, folder = volume.path("file"), volume.path("folder")
    mount_line(volume, "rw")
    trees.write(file, b"content")
    os.mkdir(folder)
    trees.write(os.path.join(folder, "f"), b"")
    for words, file_moves, folder_moves in (("noatime", False, False), ("strictatime", True, True),
                                            ("nodiratime,strictatime", True, False), ("lazytime", True, True),
                                            ("relatime,diratime,nolazytime", True, True), ("rw", True, True)):
        ws.run("umount", volume.mnt)
        mount_line(volume, words)
        assert moved(file) == file_moves and moved(folder) == folder_moves, words
        assert ("noatime" in system.mount_options(volume.mnt)[0][0]) == (words == "noatime")
        assert not moved(file, flags=os.O_RDONLY | os.O_NOATIME), words
    for words, moves in (("noatime", False), ("relatime", True), ("noatime", False), ("ro", False), ("rw", False),
                         ("strictatime", True)):
        ws.run("mount", "-o", f"remount,{words}", volume.mnt)
        if words != "ro":
            assert moved(file) == moves, words
        assert (words in system.mount_options(volume.mnt)[0][0]) or words == "strictatime", words
    ws.run("umount", volume.mnt)


@case(FULL, needs=["root"])
def a_user_mounts_what_fstab_allows(ws):
    volume = ws.volume(size="64M", user=NOBODY)
    system.enter(ws)
    system.fstab(ws, f"{volume.legs[0]} {volume.mnt} mirrorfs leg={volume.legs[1]},user,noauto 0 0")
    ws.run("mount", volume.mnt, user=NOBODY)
    volume.pid = daemon_of(volume.mnt)
    assert os.stat(f"/proc/{volume.pid}").st_uid == NOBODY, "the daemon runs as root"
    ws.run("umount", volume.mnt, user=NOBODY)
    assert not alive(volume.pid)


@case(QUICK, needs=["root"])
def remount_is_the_kernels(ws):
    volume = ws.volume(size="64M")
    system.enter(ws)
    mount_line(volume, "rw")
    trees.write(volume.path("before"), b"1")
    ws.run("mount", "-o", "remount,ro,noexec", volume.mnt)
    assert {"ro", "noexec"} <= system.mount_options(volume.mnt)[0][0]
    assert ws.run("touch", volume.path("now"), ok=False).returncode
    ws.run("mount", "-o", "remount,rw", volume.mnt)
    trees.write(volume.path("after"), b"2")
    ws.run("umount", volume.mnt)
    mount_line(volume, "ro")
    done = ws.run("mount", "-o", "remount,rw", volume.mnt, ok=False)
    assert done.returncode == MOUNT_FAILED and "read-only" in done.stderr, done.stderr
    assert "ro" in system.mount_options(volume.mnt)[0][0]
    ws.run("umount", volume.mnt)


@case(QUICK)
def who_cannot_be_told_of_the_end_unmounts_all_the_same(ws):
    volume = ws.volume(size="64M")
    volume.mount()
    with open(volume.path("file"), "wb"):
        for _ in range(20):
            done = ws.run("mirrorctl", "umount", volume.mnt, ok=False)
            assert done.returncode == 1 and "in use" in done.stderr, done.stderr
    with contextlib.ExitStack() as stack:
        where = "/run/mirrorfs" if os.geteuid() == 0 else os.environ["XDG_RUNTIME_DIR"] + "/mirrorfs"
        device = os.stat(volume.mnt).st_dev
        for _ in range(16):
            other = stack.enter_context(socket.socket(socket.AF_UNIX))
            other.connect(f"{where}/{os.major(device)}:{os.minor(device)}")
            other.send(b'{"command": "end"}\n')
            assert other.recv(1) == b"\n"
        done = ws.run("mirrorctl", "umount", volume.mnt, ok=False)
        assert done.returncode == 1 and "cannot tell" in done.stderr, done.stderr
        assert not mounted(volume.mnt)
    wait_for("the end of the daemon", lambda: not alive(volume.pid))


@case(QUICK)
def a_mount_that_ends_takes_no_other_out_of_reach(ws):
    """The kernel gives the device number of a mount to the next one, whose daemon may be quicker than ours to end."""
    volume, other = ws.volume("v", size="64M"), ws.volume("other", size="64M")
    volume.mount()
    device = os.stat(volume.mnt).st_dev
    where = "/run/mirrorfs" if os.geteuid() == 0 else os.environ["XDG_RUNTIME_DIR"] + "/mirrorfs"
    link = f"{where}/{os.major(device)}:{os.minor(device)}"
    own = os.readlink(link)
    os.unlink(link)
    os.symlink("other.sock", link)
    try:
        volume.umount()
        assert os.readlink(link) == "other.sock"
    finally:
        os.unlink(link)
    other.mount()
    device = os.stat(other.mnt).st_dev
    link = f"{where}/{os.major(device)}:{os.minor(device)}"
    assert os.readlink(link) != own
    other.umount()
    assert not os.path.lexists(link)


@case(FULL, needs=["root"])
def of_two_that_clear_a_dead_mount_none_clears_the_others(ws):
    """One has seen it, and before it goes on, the other one has cleared it and mounted there."""
    dead, first, second = (ws.volume(name, size="64M") for name in ("dead", "first", "second"))
    dead.mount()
    os.kill(dead.pid, signal.SIGKILL)
    wait_for("the end of the daemon", lambda: not alive(dead.pid))
    first.mnt = dead.mnt
    lock = os.open("/run/mirrorfs", os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with subprocess.Popen([os.path.join(ws.tools, "mirrorfs"), *second.legs, dead.mnt]) as process:
        wait_for("the second to wait", lambda: waits_for_a_lock(process.pid))
        ws.run("umount", "-i", "-l", dead.mnt)
        first.mount()
        os.close(lock)
        process.wait()
    assert first.legs[0] in [source for _, source in system.mount_options(dead.mnt)]


@case(QUICK, needs=["root"])
def a_dead_mount_is_cleared_by_the_next(ws):
    volume = ws.volume(size="64M")
    system.enter(ws)
    for _ in range(2):
        mount_line(volume, "rw")
        os.kill(volume.pid, signal.SIGKILL)
        wait_for("the end of the daemon", lambda: not alive(volume.pid))
        assert mounted(volume.mnt), "the dead mount should still be there"
    mount_line(volume, "rw")
    assert len(system.mount_options(volume.mnt)) == 1
    assert trees.read("/run/mount/utab").count(b"TARGET=") == 1, "a line for each mount that was killed"
    trees.write(volume.path("file"), b"it works")
    os.kill(volume.pid, signal.SIGKILL)
    wait_for("the end of the daemon", lambda: not alive(volume.pid))
    done = ws.run("mirrorctl", "umount", volume.mnt)
    assert "gone" in done.stderr or "killed" in done.stderr, done.stderr
    assert not mounted(volume.mnt)
    assert ws.run("mirrorctl", "umount", volume.mnt, ok=False).returncode == NO_DAEMON


@case(QUICK, needs=["root"])
def umount_leaves_alone_what_is_in_use(ws):
    volume = ws.volume(size="64M")
    system.enter(ws)
    mount_line(volume, "rw")
    with open(volume.path("file"), "wb") as file:
        assert ws.run("umount", volume.mnt, ok=False).returncode == MOUNT_FAILED
        done = ws.run("mirrorctl", "umount", volume.mnt, ok=False)
        assert done.returncode == 1 and "in use" in done.stderr, done.stderr
        file.write(b"still here")
    ws.run("umount", volume.mnt)
    legs_are_free(volume)
    mount_line(volume, "rw")
    with open(volume.path("file"), "rb") as file:
        ws.run("umount", "-l", volume.mnt)
        assert alive(volume.pid) and not mounted(volume.mnt)
        assert file.read() == b"still here"
    volume.wait_end()


@case(FULL, needs=["root", "loop"])
def a_volume_is_mounted_by_its_name(ws):
    volume = ws.volume(size="64M", loop=True, make=True)
    label = f"t{os.getpid()}"
    volume.make("-f", "-L", label)
    system.enter(ws)
    system.own(ws, "/dev/disk")
    ws.run("mount.mirrorfs", f"LABEL={label}", volume.mnt)
    volume.pid = daemon_of(volume.mnt)
    uuid, legs = volume.status()[0]["volume"]["uuid"], volume.status()[0]["legs"]
    assert {leg["address"] for leg in legs} == set(volume.legs), legs
    ws.run("mount.mirrorfs", f"LABEL={label}", volume.mnt)
    ws.run("mount.mirrorfs", f"UUID={uuid}", volume.mnt)
    assert len(system.mount_options(volume.mnt)) == 1
    ws.run("umount", volume.mnt)
    udev_link(uuid, volume.legs[1])
    system.fstab(ws, f"UUID={uuid} {volume.mnt} mirrorfs defaults 0 0")
    ws.run("mount", "-a")
    ws.run("mount", "-a")
    assert [source for _, source in system.mount_options(volume.mnt)] == [volume.legs[1]]
    ws.run("umount", volume.mnt)


@case(FULL, needs=["root", "loop"])
def the_fstab_of_the_manual_mounts(ws):
    """Its lines, with our names in the place of those that stand there."""
    with open(PAGE, encoding="utf-8") as page:
        lines = [line.split() for line in page if re.match(r"\S+\s+/\S+\s+mirrorfs\s+\S+\s+0\s+0$", line)]
    assert len(lines) >= 3, lines
    system.enter(ws)
    system.own(ws, "/dev/disk")
    for number, (spec, _, kind, words, *rest) in enumerate(lines):
        volume = ws.volume(f"v{number}", size="64M", loop=not spec.endswith(".img"))
        words = re.sub(r"leg=[^,]+", f"leg={volume.legs[1]}", words)
        if spec.startswith("UUID="):
            volume.mount()
            uuid = volume.status()[0]["volume"]["uuid"]
            volume.umount()
            udev_link(uuid, volume.legs[0])
            spec = f"UUID={uuid}"
        else:
            spec = volume.legs[0]
        system.fstab(ws, " ".join([spec, volume.mnt, kind, words, *rest]))
        ws.run("mount", "-a")
        assert mounted(volume.mnt) == ("noauto" not in words), words
        ws.run("mount", volume.mnt)
        ws.run("umount", volume.mnt)
        assert not mounted(volume.mnt)


@case(FULL, needs=["root"])
def the_kernels_part_is_loaded_because_a_mount_asks_for_it(ws):
    volume = ws.volume(size="64M")
    system.leave()
    ws.run("mount", "-t", "tmpfs", "devices", "/dev")
    for name, number in (("null", 3), ("zero", 5), ("urandom", 9)):
        os.mknod(f"/dev/{name}", stat.S_IFCHR | 0o666, os.makedev(1, number))
    # What udev does when the module is there.
    modprobe = os.path.join(ws.folder("bin"), "modprobe")
    trees.write(modprobe, b"#!/bin/sh\necho \"$@\" >\"${0%/*}/asked\"\nmknod /dev/fuse c 10 229\n")
    os.chmod(modprobe, 0o755)
    os.environ["PATH"] = ws.join("bin") + ":" + os.environ["PATH"]
    mount = ("mount.mirrorfs", volume.legs[0], volume.mnt, "-n", "-o", f"leg={volume.legs[1]}")
    ws.run(*mount)
    assert trees.read(ws.join("bin/asked")) == b"fuse\n"
    volume.pid = daemon_of(volume.mnt)
    volume.umount()
    os.unlink(ws.join("bin/asked"))
    ws.run(*mount)
    assert not os.path.exists(ws.join("bin/asked")), "it is there"
    volume.pid = daemon_of(volume.mnt)
    volume.umount()
