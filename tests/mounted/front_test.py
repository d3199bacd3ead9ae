# SPDX-License-Identifier: GPL-2.0-or-later
"""What lies between the kernel and the files: setuid, mapped memory, signals, dead mounts, odd names."""
import contextlib
import errno
import fcntl
import mmap
import os
import signal
import subprocess

import linux
import system
import trees
from cases import FULL, QUICK, TRANSPORTS, Skip, case
from workspace import alive, mounted, wait_for

MIB = 1 << 20
NOBODY = 65534
MOUNT_FAILED, INTERRUPTED, NO_DAEMON = 32, 8, 5


def bits(path):
    return os.stat(path).st_mode & 0o7777


@case(QUICK, needs=["root"], transports=TRANSPORTS)
def whatever_an_ordinary_user_changes_loses_setuid(ws):
    volume = ws.volume()
    volume.mount()
    os.chmod(ws.path, 0o755)
    path = volume.path("program")
    trees.write(path, b"text")
    for command in (f"echo more >>{path}", f": >{path}", f"truncate -s 100 {path}", f"fallocate -l 8192 {path}",
                    f"dd if=/dev/zero of={path} bs=4k count=1 oflag=direct conv=notrunc"):
        os.chmod(path, 0o6777)
        ws.run("sh", "-c", command, user=NOBODY)
        # The kernel remembers modes: what it shows here is what it would grant at execve(2).
        assert bits(path) == 0o777, f"{command}: {bits(path):o}"
    os.chmod(path, 0o6777)
    os.chown(path, NOBODY, NOBODY)
    assert bits(path) == 0o777, "a file given away kept its setuid bit"
    # Who may neither change nor write it takes nothing from it by saying that its owner is to stay.
    os.chown(path, 1, 1)
    os.chmod(path, 0o6755)
    linux.user_fails_with(errno.EPERM, NOBODY, os.chown, path, -1, -1)
    assert bits(path) == 0o6755, "a stranger took the setuid bit"
    for mode in (0o2766, 0o755):
        os.chmod(path, mode)
        linux.user_fails_with(0, NOBODY, os.chown, path, -1, -1)
    os.mkdir(volume.path("shared"))
    os.chmod(volume.path("shared"), 0o2777)
    linux.user_fails_with(0, NOBODY, os.chown, volume.path("shared"), -1, -1)
    assert bits(volume.path("shared")) == 0o2777
    os.chmod(path, 0o6777)
    trees.write(path, b"by root")
    assert bits(path) == 0o6777, "root's own write took the setuid bit"
    volume.umount()


@case(QUICK, needs=["root"])
def mount_words_reach_the_kernel(ws):
    volume = ws.volume()
    volume.mount("nodev,nosuid,noexec,noatime")
    with open("/proc/self/mountinfo", encoding="utf-8") as info:
        line, = [line.split() for line in info if line.split()[4] == volume.mnt]
    assert {"nodev", "nosuid", "noexec", "noatime"} <= set(line[5].split(",")), line
    assert line[line.index("-") + 1:][:2] == ["fuse.mirrorfs", volume.legs[0]], line
    with open(f"/sys/class/bdi/{line[2]}/read_ahead_kb", encoding="utf-8") as file:
        assert int(file.read()) >= 1024
    volume.remount()
    trees.write(volume.path("script"), b"#!/bin/sh\nexit 7\n")
    os.chmod(volume.path("script"), 0o755)
    assert ws.run(volume.path("script"), ok=False).returncode == 7
    volume.umount()


@case(FULL, transports=TRANSPORTS)
def mapped_memory_survives_sigterm(ws):
    volume = ws.volume()
    volume.mount("commit=600")
    # At its end the daemon is gone, which close(2) may tell.
    with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
        for i in range(40):
            file = stack.enter_context(open(volume.path(f"f{i}"), "w+b"))
            file.truncate(MIB)
            memory = stack.enter_context(mmap.mmap(file.fileno(), MIB))
            memory[0:5] = b"first"
            memory[MIB - 4:MIB] = b"last"
        # They are in use, so it is detached; the daemon is killed before the last user is gone.
        os.kill(volume.pid, signal.SIGTERM)
        os.kill(volume.pid, signal.SIGTERM)
        wait_for("the mount point to be free", lambda: not mounted(volume.mnt))
        os.kill(volume.pid, signal.SIGKILL)
        wait_for("the end of the daemon", lambda: not alive(volume.pid))
    assert not alive(volume.pid)
    volume.mount()
    for i in range(40):
        content = trees.read(volume.path(f"f{i}"))
        assert len(content) == MIB, f"{len(content)} bytes"
        assert content[:5] == b"first" and content[-4:] == b"last", i
    volume.umount()


@case(QUICK, transports=TRANSPORTS)
def a_mount_whose_daemon_was_killed_is_told_from_a_living_one(ws):
    volume = ws.volume()
    volume.mount()
    pid, other = volume.pid, ws.folder("other")
    os.kill(pid, signal.SIGKILL)
    wait_for("the end of the daemon", lambda: not alive(pid))
    assert mounted(volume.mnt), "the dead mount should still be there"
    assert ws.run("mirrorctl", "status", volume.mnt, ok=False).returncode == NO_DAEMON
    ws.run("mirrorfs", *volume.legs, other)
    assert ws.run("mirrorctl", "status", volume.mnt, ok=False).returncode == NO_DAEMON
    assert ws.run("mirrorctl", "status", other).returncode == 0
    ws.run("fusermount3", "-u", other)
    # The next mount at its place clears it away.
    volume.mount()
    volume.umount()
    assert not mounted(volume.mnt), "the dead mount is still there"


@case(FULL, needs=["root"], transports=TRANSPORTS)
def a_connection_that_is_cut_off_ends_the_daemon_and_loses_nothing(ws):
    volume = ws.volume()
    volume.mount("commit=600")
    trees.write(volume.path("f"), trees.pattern(3 * MIB))
    minor = os.minor(os.stat(volume.mnt).st_dev)
    control = f"/sys/fs/fuse/connections/{minor}/abort"
    here = not os.path.exists(control)
    if here and ws.run("mount", "-t", "fusectl", "none", "/sys/fs/fuse/connections", ok=False).returncode:
        raise Skip("fusectl: cannot be mounted")
    try:
        trees.write(control, b"1")
    finally:
        if here:
            ws.run("umount", "/sys/fs/fuse/connections")
    volume.wait_end()
    assert not mounted(volume.mnt), "a mount was left behind that nobody serves"
    volume.mount()
    assert trees.read(volume.path("f")) == trees.pattern(3 * MIB)
    volume.umount()


@case(QUICK)
def paths_may_have_any_character(ws):
    odd = ws.folder("a, b\\c=d: é")
    legs, mnt = [os.path.join(odd, "leg 0,"), os.path.join(odd, "leg\\1")], os.path.join(odd, "m n,t")
    os.mkdir(mnt)
    ws.run("mkfs.mirrorfs", "-s", "128M", *legs)
    ws.run("mirrorfs", *legs, mnt)
    trees.write(os.path.join(mnt, "f"), b"x")
    done = ws.run("mirrorctl", "status", mnt)
    assert mnt in done.stdout and legs[0] in done.stdout and legs[1] in done.stdout
    assert ws.run("mirrorctl", "status", os.path.basename(mnt) + "/", cwd=odd).returncode == 0
    ws.run("fusermount3", "-u", mnt)
    wait_for("the end", lambda: ws.run("mirrorfs", "-o", "wait=30", *legs, mnt, ok=False).returncode == 0)
    assert trees.read(os.path.join(mnt, "f")) == b"x"
    ws.run("fusermount3", "-u", mnt)


@case(QUICK, transports=TRANSPORTS)
def in_the_foreground_it_ends_with_its_mount(ws):
    volume = ws.volume()
    tool = os.path.join(ws.tools, "mirrorfs")
    for end in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, None):
        daemon = subprocess.Popen([tool, "-f", *volume.legs, volume.mnt])
        wait_for("the mount", lambda: mounted(volume.mnt))
        # Mounted is not yet served: what is asked for then waits for the answer.
        trees.write(volume.path(f"before {end}"), b"x")
        if end is None:
            # The daemon's own first look at the root may still be under way, and keeps it busy.
            unmount = ("fusermount3", "-u", volume.mnt)
            wait_for("the unmount", lambda unmount=unmount: ws.run(*unmount, ok=False).returncode == 0)
        else:
            daemon.send_signal(end)
        assert daemon.wait(60) == 0
        assert not mounted(volume.mnt)
    volume.mount()
    assert len(os.listdir(volume.mnt)) == 4
    volume.umount()


@case(QUICK)
def waiting_for_a_locked_leg_can_be_interrupted(ws):
    volume = ws.volume()
    with open(volume.legs[0], "rb") as locked:
        fcntl.flock(locked, fcntl.LOCK_EX)
        done = ws.run("mirrorfs", "-o", "wait=0.5", *volume.legs, volume.mnt, ok=False)
        assert done.returncode == MOUNT_FAILED and "lock" in done.stderr
        tool = os.path.join(ws.tools, "mirrorfs")
        waiting = subprocess.Popen([tool, "-f", *volume.legs, volume.mnt], stderr=subprocess.PIPE, text=True)
        assert "waiting" in waiting.stderr.readline()
        waiting.send_signal(signal.SIGINT)
        assert waiting.wait(20) == INTERRUPTED
        assert "interrupted" in waiting.stderr.read()
        # In the background it is another process that waits: it ends as well, or this would read until it does.
        waiting = subprocess.Popen([tool, "-o", "wait=60", *volume.legs, volume.mnt], stderr=subprocess.PIPE, text=True)
        assert "waiting" in waiting.stderr.readline()
        waiting.kill()
        waiting.wait(20)
        assert "interrupted" in waiting.stderr.read()
    assert not mounted(volume.mnt)
    volume.mount()
    volume.umount()


@case(FULL, needs=["loop"])
def devices_are_found_by_uuid_label_and_each_other(ws):
    label = f"test {os.getpid()}"
    volume = ws.volume(loop=True, make=False)
    for i, image in enumerate(volume.images):
        ws.run("truncate", "-s", "128M", image)
        volume.legs[i] = ws.loop(image)
    volume.make("-L", label)
    volume.mount()
    uuid = volume.status()[0]["volume"]["uuid"]
    trees.write(volume.path("f"), b"x")
    volume.umount()
    for spec in (f"LABEL={label}", f"UUID={uuid}", volume.legs[0], volume.legs[1]):
        volume.mount(legs=[spec])
        told, status = volume.status()
        assert status == 0 and [leg["address"] for leg in told["legs"]] == volume.legs, told
        assert trees.read(volume.path("f")) == b"x"
        volume.umount()
    ws.run("cp", volume.images[0], ws.join("clone"))
    clone = ws.loop(ws.join("clone"))
    done = ws.run("mirrorfs", f"UUID={uuid}", volume.mnt, ok=False)
    assert done.returncode == MOUNT_FAILED and clone in done.stderr and volume.legs[0] in done.stderr
    volume.mount()
    volume.umount()


@case(FULL, needs=["loop"])
def a_disk_that_was_replaced_may_stay_where_it_is(ws):
    """It says to be the leg that another is now; and one that was to become a leg says so, too."""
    volume = ws.volume(loop=True, size="64M")
    volume.mount()
    uuid = volume.status()[0]["volume"]["uuid"]
    for leg in (1, 0):
        ws.run("truncate", "-s", "64M", ws.join(f"new{leg}"))
        volume.legs[leg] = ws.loop(ws.join(f"new{leg}"))
        ws.run("mirrorctl", "replace", volume.mnt, str(leg), volume.legs[leg])
        ws.run("mirrorctl", "resync", volume.mnt)
        volume.umount()
        for spec in (f"UUID={uuid}", *volume.legs):
            volume.mount(legs=[spec])
            told, status = volume.status()
            assert status == 0 and [one["address"] for one in told["legs"]] == volume.legs, told
            volume.umount()
        volume.mount()
    volume.umount()


@case(FULL, needs=["loop"])
def a_disk_that_was_to_become_a_leg_is_none(ws):
    """The machine stopped when it had its label, and the one that was to stay did not name it yet."""
    volume = ws.volume(loop=True, size="64M")
    volume.mount()
    uuid = volume.status()[0]["volume"]["uuid"]
    volume.umount()
    for leg, image in enumerate(volume.images):
        ws.run("cp", image, ws.join(f"before{leg}"))
    volume.mount()
    ws.run("truncate", "-s", "64M", ws.join("new"))
    ws.run("mirrorctl", "replace", volume.mnt, "1", ws.loop(ws.join("new")))
    volume.kill()
    for leg in (0, 1):
        ws.run("dd", f"if={ws.join(f'before{leg}')}", f"of={volume.legs[leg]}", "bs=1M", "conv=fsync")
    for spec in (f"UUID={uuid}", *volume.legs):
        volume.mount(legs=[spec])
        told, status = volume.status()
        assert status == 0 and [one["address"] for one in told["legs"]] == volume.legs, told
        volume.umount()


@case(QUICK)
def what_was_written_with_o_dsync_survives_a_kill(ws):
    volume = ws.volume()
    for options, flags, rwf in ((["commit=600"], os.O_DSYNC, 0), (["commit=600"], os.O_SYNC, 0),
                                (["commit=600"], 0, os.RWF_DSYNC), (["commit=600", "sync"], 0, 0)):
        volume.mount(*options)
        fd = os.open(volume.path("f"), os.O_RDWR | os.O_CREAT | flags, 0o600)
        data = os.urandom(70000)
        assert os.pwritev(fd, [data], 333, rwf) == len(data)
        volume.kill()
        with contextlib.suppress(OSError):  # its daemon is gone
            os.close(fd)
        volume.mount()
        assert trees.read(volume.path("f"))[333:] == data, (options, flags, rwf)
        os.unlink(volume.path("f"))
        volume.umount()


def change_every_name(volume):
    """All that mount(8) names for dirsync."""
    os.mkdir(volume.path("dir"))
    for name in ("gone", "from", "over"):
        trees.write(volume.path(name), b"")
    os.mkfifo(volume.path("fifo"))
    os.symlink("from", volume.path("symlink"))
    os.link(volume.path("from"), volume.path("link"))
    os.unlink(volume.path("gone"))
    os.mkdir(volume.path("gone"))
    os.rmdir(volume.path("gone"))
    os.rename(volume.path("over"), volume.path("dir", "over"))
    os.rename(volume.path("link"), volume.path("dir", "over"))


@case(QUICK)
def with_dirsync_and_sync_names_survive_a_kill(ws):
    wanted = ["dir", "dir/over", "fifo", "from", "symlink"]
    for options, durable in (("sync", True), ("dirsync", True), ("sync,async", False)):
        volume = ws.volume(options)
        volume.mount("commit=600", options)
        shown = system.mount_options(volume.mnt)
        assert options == "sync,async" or options in shown[-1][0], shown
        change_every_name(volume)
        volume.kill()
        volume.mount()
        found = sorted(os.path.relpath(os.path.join(place, name), volume.mnt)
                       for place, folders, files in os.walk(volume.mnt) for name in folders + files)
        assert found == (wanted if durable else []), (options, found)
        if durable:
            assert os.path.samefile(volume.path("from"), volume.path("dir", "over"))
        volume.umount()


@case(FULL)
def blocks_are_counted_once_when_a_file_was_overwritten(ws):
    volume = ws.volume()
    volume.mount("commit=0.5")
    path = volume.path("f")
    trees.write(path, trees.pattern(10 * MIB))
    with open(path, "r+b") as file:
        os.fsync(file.fileno())
        before = os.stat(path).st_blocks
        file.write(trees.pattern(10 * MIB, 1))
        file.flush()
        os.stat(path)  # what the kernel is told now counts what waits to be written
    wait_for("the blocks to be counted once", lambda: os.stat(path).st_blocks == before, 20)
    volume.umount()
