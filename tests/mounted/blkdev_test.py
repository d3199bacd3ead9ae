# SPDX-License-Identifier: GPL-2.0-or-later
"""-o blkdev: the mount is one of the first leg's device, and umount(2) waits for the daemon."""
import errno
import os
import signal
import subprocess

import trees
from cases import FULL, QUICK, TRANSPORTS, case
from resync_test import DEGRADED, clean, healthy
from workspace import MIB, alive, daemon_of, wait_for

MOUNT_USAGE, MOUNT_FAILED = 1, 32
SLOW = {1: "flush,delay=300"}  # so that what is not waited for is not over either


def is_claimed(device):
    try:
        os.close(os.open(device, os.O_RDWR | os.O_EXCL))
    except OSError as error:
        assert error.errno == errno.EBUSY, error
        return True
    return False


def kernel_says(volume):
    """(major:minor, type, source) of the mount."""
    with open("/proc/self/mountinfo", encoding="utf-8") as info:
        for line in info:
            words = line.split()
            if words[4] == volume.mnt:
                return words[2], *words[words.index("-") + 1:][:2]
    return None


@case(QUICK, needs=["root", "loop"], transports=TRANSPORTS)
def the_legs_are_free_as_soon_as_a_mount_of_a_device_has_ended(ws):
    volume = ws.volume(loop=True)
    volume.mount("blkdev", faults=SLOW)
    number = os.stat(volume.legs[0]).st_rdev
    assert kernel_says(volume) == (f"{os.major(number)}:{os.minor(number)}", "fuseblk.mirrorfs", volume.legs[0])
    trees.write(volume.path("file"), trees.pattern(8 * MIB))
    expected = trees.manifest(volume.mnt)
    # Without the helper, which would ask the daemon.
    ws.run("umount", "-i", volume.mnt)
    claimed = [is_claimed(leg) for leg in volume.legs]
    assert claimed == [False, False], claimed
    volume.wait_end()
    ws.run("fsck.mirrorfs", "-n", "-f", *volume.legs)
    volume.mount("blkdev", "ro")
    trees.compare(expected, trees.manifest(volume.mnt))
    ws.run("umount", "-i", volume.mnt)
    volume.wait_end()


@case(QUICK, needs=["root", "loop"])
def a_mounted_device_is_kept_from_all_others_also_when_its_daemon_was_killed(ws):
    volume = ws.volume(loop=True)
    volume.mount("blkdev")
    trees.write(volume.path("file"), trees.pattern(MIB))
    os.sync()
    expected = trees.manifest(volume.mnt)
    assert [is_claimed(leg) for leg in volume.legs] == [True, True]
    for command in (["mkfs.mirrorfs", "-f", *volume.legs], ["fsck.mirrorfs", "-n", *volume.legs],
                    ["mirrorfs", "-o", "wait=0", *volume.legs, ws.folder("elsewhere")]):
        refusal = ws.run(*command, ok=False)
        assert refusal.returncode and "mounted" in refusal.stderr, refusal.stderr
    os.kill(volume.pid, signal.SIGKILL)
    wait_for("the end of the daemon", lambda: not alive(volume.pid))
    assert is_claimed(volume.legs[0]), "there is still a mount of it"
    refusal = ws.run("mirrorfs", "-o", "wait=0", *volume.legs, ws.join("elsewhere"), ok=False)
    assert refusal.returncode == MOUNT_FAILED and f"mounted on {volume.mnt}" in refusal.stderr, refusal.stderr
    volume.mount("blkdev")
    trees.compare(expected, trees.manifest(volume.mnt))
    clean(volume)
    volume.counted_nothing_forbidden()
    volume.umount()


@case(needs=["root", "loop"], transports=TRANSPORTS)
def a_daemon_that_is_told_to_stop_ends_its_mount_of_a_device(ws):
    volume = ws.volume(loop=True)
    volume.mount("blkdev")
    trees.write(volume.path("file"), trees.pattern(MIB))
    os.kill(volume.pid, signal.SIGTERM)
    volume.wait_end()
    assert not kernel_says(volume) and not any(map(is_claimed, volume.legs))
    # A busy one goes on for its last user.
    volume.mount("blkdev")
    with open(volume.path("file"), "rb") as file:
        os.kill(volume.pid, signal.SIGTERM)
        wait_for("the detaching", lambda: not kernel_says(volume))
        assert file.read() == trees.pattern(MIB) and alive(volume.pid) and is_claimed(volume.legs[0])
    volume.wait_end()
    assert not any(map(is_claimed, volume.legs))
    ws.run("fsck.mirrorfs", "-n", "-f", *volume.legs)


@case(needs=["root", "loop"])
def the_mounts_device_is_detached_and_attached_and_stays_claimed(ws):
    volume = ws.volume(loop=True)
    volume.mount("blkdev")
    trees.write(volume.path("file"), trees.pattern(MIB))
    said = ws.run("mirrorctl", "detach", volume.mnt, "0").stdout
    assert f"keeps {volume.legs[0]} claimed" in said, said
    assert volume.status()[1] == DEGRADED and is_claimed(volume.legs[0])
    trees.write(volume.path("later"), trees.pattern(MIB, 1))
    ws.run("mirrorctl", "attach", volume.mnt, volume.legs[0])
    healthy(volume)
    assert not ws.run("mirrorctl", "detach", volume.mnt, "1").stdout and not is_claimed(volume.legs[1])
    ws.run("mirrorctl", "attach", volume.mnt, volume.legs[1])
    healthy(volume)
    clean(volume)
    ws.run("umount", "-i", volume.mnt)
    assert not any(map(is_claimed, volume.legs))
    volume.wait_end()


@case(FULL, needs=["root", "loop"])
def blkdev_is_refused_where_it_cannot_be(ws):
    volume = ws.volume()
    refusal = volume.mount("blkdev", ok=False)
    assert refusal.returncode == MOUNT_FAILED and "block device" in refusal.stderr, refusal.stderr
    assert not daemon_of(volume.mnt)
    volume.mount()
    volume.umount()
    theirs = ws.volume("theirs", user=65534)
    refusal = theirs.mount("blkdev", ok=False)
    assert refusal.returncode == MOUNT_USAGE and "only root" in refusal.stderr, refusal.stderr


def cut_off(ws, device):
    """Ends the connection of a mount that hangs in the kernel: its daemon cannot even be killed."""
    connections = "/sys/fs/fuse/connections"
    here = not os.listdir(connections)
    if here:
        ws.run("mount", "-t", "fusectl", "none", connections)
    number = os.stat(device).st_rdev
    trees.write(f"{connections}/{os.major(number) << 20 | os.minor(number)}/abort", b"1")
    if here:
        ws.run("umount", connections)


@case(FULL, needs=["root", "loop"])
def a_mount_of_a_device_that_fails_late_ends(ws):
    """The kernel and we have agreed; then a thread cannot be had: the first one, or one beside those that serve."""
    volume = ws.volume(size="64M", loop=True)
    preload = os.path.join(ws.tools, "..", "tests", "mounted", "libthreads.so")
    for thread in ("1", "2"):
        env = {**os.environ, "LD_PRELOAD": preload, "FAILING_THREAD": thread,
               "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"}
        try:
            refusal = volume.mount("blkdev", "wait=0", ok=False, env=env, timeout=20)
        except subprocess.TimeoutExpired:
            cut_off(ws, volume.legs[0])
            raise
        assert refusal.returncode == MOUNT_FAILED and "threads" in refusal.stderr, refusal.stderr
        assert not kernel_says(volume)
        wait_for("the legs to be free", lambda: not any(map(is_claimed, volume.legs)))
    volume.mount("blkdev")
    volume.umount()
