# SPDX-License-Identifier: GPL-2.0-or-later
"""What ioctl(2) asks of files and of the volume: flags as of chattr(1), and what they forbid; labels; the end."""
import errno
import fcntl
import os
import struct

import linux
import trees
from cases import QUICK, TRANSPORTS, case
from linux import fails_with, user_fails_with
from workspace import end, mount

NOBODY = 65534
GETFLAGS, SETFLAGS, GETVERSION = 0x80086601, 0x40086602, 0x80087601
FSGETXATTR, FSSETXATTR = 0x801c581f, 0x401c5820
GETLABEL, SETLABEL, SHUTDOWN = 0x81009431, 0x41009432, 0x8004587d
IMMUTABLE, APPEND, NODUMP, NOATIME = 0x10, 0x20, 0x40, 0x80


def ioctl(path, command, argument):
    fd = os.open(path, os.O_RDONLY)
    try:
        return fcntl.ioctl(fd, command, argument)
    finally:
        os.close(fd)


def flags(path):
    return struct.unpack("<I", ioctl(path, GETFLAGS, bytes(4)))[0]


def set_flags(path, value):
    ioctl(path, SETFLAGS, struct.pack("<I", value))


@case(QUICK, needs=("root",))
def what_is_immutable_stays(ws):
    volume = mount(ws)
    os.mkdir("d")
    for name in ("f", "g", "d/x"):
        trees.write(name, b"content")
    writer = os.open("f", os.O_RDWR)
    set_flags("f", IMMUTABLE)
    set_flags("d", IMMUTABLE)
    assert flags("f") == IMMUTABLE and flags("g") == 0
    for call in ((os.open, "f", os.O_WRONLY), (os.open, "f", os.O_RDWR | os.O_APPEND), (os.pwrite, writer, b"x", 0),
                 (os.ftruncate, writer, 1), (os.truncate, "f", 1), (os.posix_fallocate, writer, 0, 10),
                 (os.unlink, "f"), (os.chmod, "f", 0o777), (os.chown, "f", 1, 1), (os.utime, "f"), (os.utime, "f",
                 (1, 1)),
                 (os.link, "f", "h"), (os.rename, "f", "h"), (os.rename, "g", "f"),
                 (linux.renameat2, "f", "g", linux.RENAME_EXCHANGE), (os.setxattr, "f", "user.a", b"1"),
                 (os.removexattr, "f", "user.a"), (os.setxattr, "f", linux.ACCESS, linux.acl("u::rw- g::r-- o::r--")),
                 (os.open, "d/new", os.O_CREAT | os.O_WRONLY), (os.mkdir, "d/new"), (os.symlink, "x", "d/new"),
                 (os.unlink, "d/x"), (os.rename, "d/x", "x"), (os.rename, "g", "d/g"), (os.link, "g", "d/g"),
                 (os.rmdir, "d"), (linux.tmpfile, "d")):
        fails_with(errno.EPERM, *call)
    assert trees.read("f") == b"content"
    trees.write("d/x", b"the file in it is another")
    os.close(writer)
    end(volume)
    volume.mount()
    os.chdir(volume.mnt)
    assert flags("f") == IMMUTABLE
    set_flags("f", 0)
    set_flags("d", 0)
    os.unlink("f")
    os.unlink("d/x")
    os.rmdir("d")
    end(volume)


@case(QUICK, needs=("root",))
def what_is_append_only_grows(ws):
    volume = mount(ws)
    trees.write("log", b"one")
    set_flags("log", APPEND)
    fd = os.open("log", os.O_WRONLY | os.O_APPEND)
    os.write(fd, b" two")
    for call in ((os.open, "log", os.O_WRONLY), (os.open, "log", os.O_WRONLY | os.O_APPEND | os.O_TRUNC),
                 (os.truncate, "log", 0), (os.ftruncate, fd, 0), (os.unlink, "log"), (os.rename, "log", "l"),
                 (os.link, "log", "l"), (os.chmod, "log", 0), (os.utime, "log", (1, 1)),
                 (os.setxattr, "log", "user.a", b"")):
        fails_with(errno.EPERM, *call)
    os.utime("log")
    os.write(fd, b" three")
    os.close(fd)
    assert trees.read("log") == b"one two three"
    os.mkdir("d")
    set_flags("d", APPEND)
    trees.write("d/a", b"")
    fails_with(errno.EPERM, os.unlink, "d/a")
    fails_with(errno.EPERM, os.rename, "d/a", "d/b")
    os.mkdir("d/sub")
    set_flags("d", 0)
    set_flags("log", 0)
    os.unlink("log")
    end(volume)


@case(QUICK, needs=("root",))
def flags_are_set_by_those_who_may(ws):
    volume = mount(ws)
    os.chmod(".", 0o777)
    trees.write("mine", b"1")
    os.chown("mine", NOBODY, NOBODY)
    trees.write("roots", b"1")
    assert linux.as_user(NOBODY, set_flags, "mine", NODUMP | NOATIME) == 0
    user_fails_with(errno.EPERM, NOBODY, set_flags, "mine", IMMUTABLE)
    user_fails_with(errno.EPERM, NOBODY, set_flags, "mine", APPEND)
    user_fails_with(errno.EPERM, NOBODY, set_flags, "roots", NODUMP)
    set_flags("mine", IMMUTABLE | NODUMP)
    user_fails_with(errno.EPERM, NOBODY, set_flags, "mine", NODUMP)
    user_fails_with(errno.EPERM, NOBODY, os.truncate, "mine", 0)
    set_flags("mine", NOATIME | NODUMP)
    fails_with(errno.EOPNOTSUPP, set_flags, "mine", 0x4)
    # The newer call says the same.
    told = struct.unpack("<5I8x", ioctl("mine", FSGETXATTR, bytes(28)))
    assert told == (0xc0, 0, 0, 0, 0), told
    ioctl("mine", FSSETXATTR, struct.pack("<5I8x", 0x8, 0, 0, 0, 0))
    assert flags("mine") == IMMUTABLE
    ioctl("mine", FSSETXATTR, struct.pack("<5I8x", 0x40, 0, 0, 0, 0))
    # What is made in a directory that is not dumped, is not dumped.
    os.mkdir("d")
    set_flags("d", NODUMP | NOATIME | APPEND)
    trees.write("d/f", b"content")
    os.mkdir("d/e")
    assert flags("d/f") == flags("d/e") == NODUMP | NOATIME
    os.utime("mine", (1, 1))
    assert trees.read("mine") == b"1" and os.stat("mine").st_atime == 1
    version = [struct.unpack("<I", ioctl(name, GETVERSION, bytes(4)))[0] for name in ("mine", "roots", "mine")]
    assert version[0] == version[2]
    end(volume)


@case(QUICK, needs=("root",), transports=TRANSPORTS)
def the_volume_has_a_label(ws):
    volume = mount(ws)
    os.chmod(".", 0o777)

    def label():
        return ioctl(".", GETLABEL, bytes(256)).rstrip(b"\0").decode()

    def set_label(text):
        ioctl(".", SETLABEL, text.encode().ljust(256, b"\0"))

    assert label() == ""
    set_label("holidays")
    assert label() == "holidays"
    fails_with(errno.EINVAL, set_label, "x" * 64)
    user_fails_with(errno.EPERM, NOBODY, set_label, "mine")
    end(volume)
    for leg in volume.legs:
        with open(leg, "rb") as file:
            assert b"holidays\0" in file.read(1 << 20), leg
    volume.mount()
    assert volume.status()[0]["volume"]["label"] == "holidays"
    volume.umount()


@case(QUICK, needs=("root",), transports=TRANSPORTS)
def who_is_told_to_shut_down_writes_no_more(ws):
    volume = mount(ws)
    os.chmod(".", 0o777)
    trees.write("durable", trees.pattern(100000))
    fd = os.open("durable", os.O_RDWR)
    os.fsync(fd)
    user_fails_with(errno.EPERM, NOBODY, ioctl, ".", SHUTDOWN, struct.pack("<I", 0))
    ioctl(".", SHUTDOWN, struct.pack("<I", 0))
    fails_with(errno.EROFS, os.pwrite, fd, b"x", 0)
    fails_with(errno.EROFS, os.mkdir, "d")
    assert trees.read("durable") == trees.pattern(100000)
    os.close(fd)
    os.chdir("/")
    volume.umount()
    volume.mount()
    assert os.listdir(volume.mnt) == ["durable"] and trees.read(volume.path("durable")) == trees.pattern(100000)
    trees.write(volume.path("durable"), b"again")
    volume.umount()
