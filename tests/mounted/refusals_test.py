# SPDX-License-Identifier: GPL-2.0-or-later
"""Bad input gives one clear line and changes nothing."""
import fcntl
import hashlib
import os
import signal
import socket
import struct

import ondisk
import programs
import trees
from cases import FULL, QUICK, case
from workspace import alive, mounted, wait_for

MIB = 1 << 20
NOBODY = 65534
REFUSED, USAGE = 1, 2  # of mkfs.mirrorfs
MOUNT_USAGE, MOUNT_FAILED = 1, 32


def digest(path):
    """Of a file: its length, and what in it is not zero."""
    if os.path.isdir(path):
        return sorted(os.listdir(path))
    found = hashlib.sha256()
    with open(path, "rb") as file:
        at, end = 0, os.fstat(file.fileno()).st_size
        while at < end:
            try:
                at = os.lseek(file.fileno(), at, os.SEEK_DATA) // MIB * MIB
            except OSError:
                break
            chunk = os.pread(file.fileno(), MIB, at)
            if chunk != bytes(len(chunk)):
                found.update(b"%d" % at + chunk)
            at += MIB
    return end, found.hexdigest()


def refused(ws, command, says, status, keeps=()):
    """The command ends with this status and one line that holds all these words; the files stay as they are."""
    before = [digest(path) for path in keeps]
    done = ws.run(*command, ok=False)
    assert done.returncode == status, f"status {done.returncode}, not {status}"
    lines = [line for line in done.stderr.splitlines() if "warning:" not in line]
    assert len(lines) == 1, f"{len(lines)} lines where one was expected"
    for word in says:
        assert word in lines[0], f"{word!r} is not in: {lines[0]}"
    assert [digest(path) for path in keeps] == before, "it changed something"


def filesystem(ws, name):
    path = ws.join(name)
    ws.run("truncate", "-s", "64M", path)
    ws.run("mkfs.ext4", "-q", "-L", "precious", path)
    return path


# ---- mkfs.mirrorfs ----


@case(QUICK, needs=["mkfs.ext4", "mkfs.xfs"])
def mkfs_names_what_a_leg_holds_and_leaves_it(ws):
    path = filesystem(ws, "ext4")
    uuid = ws.run("blkid", "-o", "value", "-s", "UUID", path).stdout.strip()
    refused(ws, ["mkfs.mirrorfs", "-s", "64M", path, ws.join("new")], [path, "ext4", "precious", uuid], REFUSED,
            [path])
    assert not os.path.exists(ws.join("new")), "a file that it made was left behind"
    refused(ws, ["mkfs.mirrorfs", "-s", "64M", ws.join("new"), path], ["ext4"], REFUSED, [path])
    assert not os.path.exists(ws.join("new")), "a file that it made was left behind"
    ws.run("mkfs.mirrorfs", "-f", "-s", "64M", path, ws.join("new"))
    assert "ext4" not in ws.run("blkid", "-p", path, ok=False).stdout
    # Now it holds a leg, and that counts as much.
    refused(ws, ["mkfs.mirrorfs", path], ["mirrorfs volume"], REFUSED, [path])


@case(FULL, needs=["loop", "mkfs.ext4"])
def mkfs_never_takes_a_mounted_device(ws):
    device = ws.loop(filesystem(ws, "ext4"))
    ws.run("mount", device, ws.folder("there"))
    trees.write(ws.join("there", "file"), b"precious")
    for words in ([], ["-f"]):
        refused(ws, ["mkfs.mirrorfs", *words, device], [device, "use"], REFUSED)
        refused(ws, ["mkfs.mirrorfs", *words, ws.join("ext4")], ["use"], REFUSED)
    ws.run("umount", ws.join("there"))
    ws.run("e2fsck", "-fn", device)


@case(QUICK)
def mkfs_never_takes_a_leg_of_a_mounted_volume(ws):
    volume = ws.volume(size="64M")
    volume.mount()
    trees.write(volume.path("file"), b"precious")
    for words in ([], ["-f"]):
        refused(ws, ["mkfs.mirrorfs", *words, volume.legs[0]], [volume.legs[0]], REFUSED)
    volume.remount()
    assert trees.read(volume.path("file")) == b"precious"
    volume.umount()


@case(QUICK)
def mkfs_never_takes_one_leg_for_two(ws):
    path, link, hard = ws.join("leg"), ws.join("symlink"), ws.join("hardlink")
    ws.run("truncate", "-s", "64M", path)
    os.symlink(path, link)
    os.link(path, hard)
    for other in (path, link, hard, ws.join("./leg")):
        refused(ws, ["mkfs.mirrorfs", "-f", path, other], ["same"], REFUSED, [path])


@case(QUICK)
def mkfs_refuses_what_is_too_small_or_missing_or_wrong(ws):
    small, good = ws.join("small"), ws.join("good")
    ws.run("truncate", "-s", "63M", small)
    ws.run("truncate", "-s", "64M", good)
    refused(ws, ["mkfs.mirrorfs", good, small], [small, "64 MiB"], REFUSED, [small, good])
    refused(ws, ["mkfs.mirrorfs", good, ws.join("missing")], ["missing", "-s"], REFUSED, [good])
    refused(ws, ["mkfs.mirrorfs", "-s", "1M", good, ws.join("missing")], ["64 MiB"], REFUSED, [good])
    assert not os.path.exists(ws.join("missing")), "a file that it made was left behind"
    refused(ws, ["mkfs.mirrorfs", good, ws.folder("folder")], ["folder"], REFUSED, [good])
    refused(ws, ["mkfs.mirrorfs", "-s", "12X", good], ["12X"], USAGE, [good])
    refused(ws, ["mkfs.mirrorfs", "-L", "x" * 64, good], ["63"], USAGE, [good])
    for words in ([], ["-z", good], [good, good, good]):
        assert ws.run("mkfs.mirrorfs", *words, ok=False).returncode == USAGE
    ws.run("mkfs.mirrorfs", good)


@case(FULL)
def mkfs_reserves_what_must_never_run_out_of_room(ws):
    volume = ws.volume(size="1G")
    for image in volume.images:
        allocated = os.stat(image).st_blocks * 512
        assert MIB < allocated < 512 * MIB, f"{allocated} bytes allocated: neither sparse nor reserved"


# ---- mirrorfs ----


@case(QUICK, needs=["mkfs.ext4"])
def a_mount_refuses_what_is_no_leg(ws):
    volume = ws.volume(size="64M")
    ext4 = filesystem(ws, "ext4")
    ws.run("truncate", "-s", "64M", ws.join("zeros"))
    keeps = [*volume.legs, ext4]
    refused(ws, ["mirrorfs", ext4, volume.legs[1], volume.mnt], [ext4, "ext4"], MOUNT_FAILED, keeps)
    refused(ws, ["mirrorfs", volume.legs[0], ws.join("zeros"), volume.mnt], ["zeros"], MOUNT_FAILED, keeps)
    refused(ws, ["mirrorfs", volume.legs[0], ws.join("nowhere"), volume.mnt], ["nowhere"], MOUNT_FAILED, keeps)
    refused(ws, ["mirrorfs", ws.join("nowhere"), volume.mnt], ["nowhere"], MOUNT_FAILED, keeps)


@case(QUICK)
def a_mount_refuses_a_leg_of_another_volume(ws):
    volume, other = ws.volume("a", size="64M"), ws.volume("b", size="64M")
    refused(ws, ["mirrorfs", volume.legs[0], other.legs[1], volume.mnt], ["volume"], MOUNT_FAILED,
            volume.legs + other.legs)
    refused(ws, ["mirrorfs", "-o", "degraded", volume.legs[0], other.legs[1], volume.mnt], ["volume"], MOUNT_FAILED,
            volume.legs + other.legs)


@case(QUICK)
def a_mount_refuses_a_truncated_leg(ws):
    volume = ws.volume(size="64M")
    volume.mount()
    trees.write(volume.path("file"), trees.pattern(8 * MIB))
    volume.umount()
    os.truncate(volume.legs[0], 40 * MIB)
    refused(ws, ["mirrorfs", *volume.legs, volume.mnt], [volume.legs[0], "degraded"], MOUNT_FAILED, volume.legs)
    # Without it all is there.
    volume.mount("degraded")
    assert trees.read(volume.path("file")) == trees.pattern(8 * MIB)
    volume.umount()


@case(QUICK)
def a_mount_refuses_one_leg_twice(ws):
    volume = ws.volume(size="64M")
    copy = ws.join("copy")
    ws.run("cp", "--sparse=always", volume.legs[0], copy)
    refused(ws, ["mirrorfs", volume.legs[0], volume.legs[0], volume.mnt], ["same leg"], MOUNT_FAILED, volume.legs)
    refused(ws, ["mirrorfs", volume.legs[0], copy, volume.mnt], ["same leg"], MOUNT_FAILED, [*volume.legs, copy])
    os.link(volume.legs[0], ws.join("link"))
    refused(ws, ["mirrorfs", volume.legs[0], ws.join("link"), volume.mnt], ["same leg"], MOUNT_FAILED, volume.legs)


@case(FULL, needs=["root"])
def roots_mount_asks_no_daemon_of_another_user(ws):
    """Anybody can make a mount of that type and say what he likes for it, or nothing."""
    theirs, volume = ws.volume("theirs", size="64M", user=NOBODY), ws.volume(size="64M")
    theirs.mount()
    with open("/proc/self/mountinfo", encoding="utf-8") as info:
        device, = (line.split()[2] for line in info if line.split()[4] == theirs.mnt)
    link = f"/tmp/mirrorfs-{NOBODY}/{device}"
    address = os.path.join(os.path.dirname(link), os.readlink(link))
    os.kill(theirs.pid, signal.SIGKILL)
    wait_for("the end of their daemon", lambda: not alive(theirs.pid))
    os.unlink(address)
    with socket.socket(socket.AF_UNIX) as listener, open(volume.legs[0], "rb") as leg:
        listener.bind(address)
        listener.listen()
        listener.setblocking(False)
        fcntl.flock(leg, fcntl.LOCK_EX)
        refused(ws, ["mirrorfs", "-o", "wait=0", *volume.legs, volume.mnt], [volume.legs[0]], MOUNT_FAILED)
        try:
            listener.accept()
            raise AssertionError("it was asked")
        except BlockingIOError:
            pass
    os.unlink(address)
    os.unlink(link)


@case(QUICK)
def a_mount_refuses_a_volume_that_is_mounted(ws):
    volume = ws.volume(size="64M")
    volume.mount()
    refused(ws, ["mirrorfs", "-o", "wait=1", *volume.legs, ws.folder("second")], ["already mounted", volume.mnt],
            MOUNT_FAILED)
    trees.write(volume.path("file"), b"still works")
    volume.umount()


@case(QUICK)
def a_mount_refuses_a_bad_mount_point(ws):
    volume = ws.volume(size="64M")
    trees.write(ws.join("file"), b"")
    refused(ws, ["mirrorfs", *volume.legs, ws.join("file")], ["file", "not a directory"], MOUNT_FAILED, volume.legs)
    refused(ws, ["mirrorfs", *volume.legs, ws.join("missing")], ["missing"], MOUNT_FAILED, volume.legs)
    # The legs would disappear under what is mounted on them.
    refused(ws, ["mirrorfs", *volume.legs, ws.path], [volume.legs[0], "inside"], MOUNT_FAILED, volume.legs)
    assert not mounted(ws.path)


@case(QUICK)
def a_mount_refuses_an_option_it_does_not_know(ws):
    volume = ws.volume(size="64M")
    for word, says in (("nonsense", "nonsense"), ("ro=1", "ro"), ("cache=12Q", "12Q"), ("wait", "wait"),
                       ("read-policy=leg2", "leg2"), ("errors=continue", "continue")):
        refused(ws, ["mirrorfs", "-o", word, *volume.legs, volume.mnt], [says], MOUNT_USAGE, volume.legs)
    for words in ([], [volume.legs[0]], [*volume.legs, volume.mnt, "more"], ["-z", *volume.legs, volume.mnt]):
        assert ws.run("mirrorfs", *words, ok=False).returncode == MOUNT_USAGE
    assert not mounted(volume.mnt)


@case(QUICK)
def a_mount_refuses_a_format_it_does_not_know(ws):
    def version(block):
        block[ondisk.VERSION:ondisk.VERSION + 4] = struct.pack("<I", 77)

    def older(block):
        block[ondisk.VERSION:ondisk.VERSION + 4] = struct.pack("<I", 0)

    def incompatible(block):
        block[ondisk.INCOMPAT:ondisk.INCOMPAT + 8] = struct.pack("<Q", 1 << 40)

    for name, change, says in (("v", version, ["77", "newer"]), ("o", older, ["version 0", "made it"]),
                               ("i", incompatible, ["10000000000", "newer"])):
        for where, slots in (("label", ondisk.LABEL_SLOTS), ("super", ondisk.SUPER_SLOTS)):
            volume = ws.volume(f"{where}-{name}", size="64M")
            for leg in volume.legs:
                for slot in ondisk.written(leg, slots):
                    ondisk.edit_block(leg, slot, change)
            refused(ws, ["mirrorfs", "-o", "ro", *volume.legs, volume.mnt], says, MOUNT_FAILED, volume.legs)
            refused(ws, ["mirrorfs", *volume.legs, volume.mnt], says, MOUNT_FAILED, volume.legs)


@case(FULL)
def two_histories_are_never_mixed(ws):
    volume = ws.volume(size="64M")
    for leg in (0, 1):
        away = ws.join("away")
        os.rename(volume.legs[1 - leg], away)
        volume.mount("degraded", legs=[volume.legs[leg]])
        trees.write(volume.path(f"written on {leg}"), b"alone")
        volume.umount()
        os.rename(away, volume.legs[1 - leg])
    refused(ws, ["mirrorfs", *volume.legs, volume.mnt], [volume.legs[0], "split brain", "degraded"], MOUNT_FAILED,
            volume.legs)
    # The way out that it names: one of them alone, though the other is there.
    volume.mount("degraded", legs=[volume.legs[1]])
    assert os.listdir(volume.mnt) == ["written on 1"]
    volume.umount()


@case(QUICK)
def a_read_only_mount_writes_nothing(ws):
    volume = ws.volume(size="64M")
    volume.mount()
    trees.write(volume.path("file"), b"content")
    volume.umount()
    before = [digest(leg) for leg in volume.legs]
    volume.mount("ro")
    assert trees.read(volume.path("file")) == b"content"
    try:
        trees.write(volume.path("new"), b"")
        raise AssertionError("a read-only mount took a write")
    except OSError as error:
        assert error.errno == 30, error
    volume.umount()
    assert [digest(leg) for leg in volume.legs] == before, "a read-only mount wrote"


@case(QUICK)
def mirrorctl_tells_by_its_exit_status(ws):
    volume = ws.volume(size="64M")
    assert ws.run("mirrorctl", "status", volume.mnt, ok=False).returncode == 5
    assert ws.run("mirrorctl", "scrub", volume.mnt, ok=False).returncode == 5
    for words in ([], ["nonsense", volume.mnt], ["scrub"], ["status", volume.mnt, "more"], ["status", "--files"],
                  ["events"], ["events", volume.mnt, "more"], ["scrub", "--files", volume.mnt],
                  ["status", "--force", volume.mnt], ["status", "--follow", volume.mnt], ["detach", volume.mnt],
                  ["attach", volume.mnt], ["replace", volume.mnt, volume.legs[0]], ["--nonsense"]):
        assert ws.run("mirrorctl", *words, ok=False).returncode == USAGE, words
    volume.mount()
    for words in (["scrub", volume.mnt, "nonsense"], ["scrub", volume.mnt, "limit=much"],
                  ["resync", volume.mnt, "limit=-1"], ["drill", volume.mnt, "2", "read,hang"]):
        assert ws.run("mirrorctl", *words, ok=False).returncode == USAGE, words
    assert ws.run("mirrorctl", "status", volume.mnt).returncode == 0
    assert volume.mnt in ws.run("mirrorctl", "status", ok=False).stdout
    volume.umount()


@case(FULL, needs=["root"])
def mirrorctl_of_a_user_leaves_the_mounts_of_others_alone(ws):
    programs.lend_tools(ws)
    volume = ws.volume(size="64M")
    volume.mount()
    done = ws.run("mirrorctl", "status", user=NOBODY, ok=False)
    assert volume.mnt not in done.stdout + done.stderr, "it asked for a mount of root"
    done = ws.run("mirrorctl", "status", volume.mnt, user=NOBODY, ok=False)
    assert done.returncode == 1 and "belongs to user 0" in done.stderr, done.stderr
    volume.umount()
