# SPDX-License-Identifier: GPL-2.0-or-later
"""What Linux promises of a local filesystem beyond POSIX, through the kernel, with the errors that its manual tells."""
import errno
import os
import stat
import time

import linux
import trees
from cases import QUICK, case
from linux import fails_with, user_fails_with

NOBODY = 65534


def mount(ws, *options):
    volume = ws.volume()
    volume.mount(*options)
    os.chmod(ws.path, 0o755)
    os.chdir(volume.mnt)
    return volume


def end(volume):
    """Unmounts; a check finds everything in order."""
    os.chdir("/")
    volume.umount()
    volume.ws.run("fsck.mirrorfs", "-n", "-f", *volume.legs)


@case(QUICK)
def names_are_spared_exchanged_and_whited_out(ws):
    volume = mount(ws)
    trees.write("a", b"a")
    trees.write("b", b"b")
    os.mkdir("d")
    fails_with(errno.EEXIST, linux.renameat2, "a", "b", linux.RENAME_NOREPLACE)
    linux.renameat2("a", "d/a", linux.RENAME_NOREPLACE)
    linux.renameat2("d", "b", linux.RENAME_EXCHANGE)
    assert trees.read("d") == b"b" and trees.read("b/a") == b"a"
    fails_with(errno.ENOENT, linux.renameat2, "d", "none", linux.RENAME_EXCHANGE)
    fails_with(errno.EINVAL, linux.renameat2, "b", "b/a", linux.RENAME_EXCHANGE)
    fails_with(errno.EINVAL, linux.renameat2, "d", "b", linux.RENAME_EXCHANGE | linux.RENAME_NOREPLACE)
    fails_with(errno.EINVAL, linux.renameat2, "d", "b", 8)
    linux.renameat2("d", "moved", linux.RENAME_WHITEOUT)
    left = os.lstat("d")
    assert stat.S_ISCHR(left.st_mode) and left.st_rdev == 0 and left.st_nlink == 1
    assert trees.read("moved") == b"b"
    end(volume)
    volume.mount()
    assert sorted(os.listdir(volume.mnt)) == ["b", "d", "moved"]
    volume.umount()


@case(QUICK)
def a_file_without_a_name_is_given_one(ws):
    volume = mount(ws)
    os.mkdir("d")
    fd = linux.tmpfile("d", mode=0o640)
    assert os.fstat(fd).st_nlink == 0 and stat.S_IMODE(os.fstat(fd).st_mode) == 0o640 and not os.listdir("d")
    os.write(fd, trees.pattern(100000))
    linux.give_name(fd, "d/f")
    assert os.stat("d/f").st_nlink == 1 and os.stat("d/f").st_ino == os.fstat(fd).st_ino
    fails_with(errno.EEXIST, linux.give_name, fd, "d/f")
    os.unlink("d/f")
    fails_with(errno.ENOENT, linux.give_name, fd, "d/g")
    os.close(fd)
    fd = linux.tmpfile(".", os.O_RDWR | os.O_EXCL)
    fails_with(errno.ENOENT, linux.give_name, fd, "g")
    os.close(fd)
    trees.write("nodir", b"")
    fails_with(errno.ENOTDIR, linux.tmpfile, "nodir")
    fd = linux.tmpfile("d")
    os.write(fd, b"kept")
    linux.give_name(fd, "kept")
    lost = linux.tmpfile("d")
    os.write(lost, trees.pattern(1 << 20))
    os.fsync(fd)
    os.close(fd)
    os.close(lost)
    end(volume)
    volume.mount()
    assert sorted(os.listdir(volume.mnt)) == ["d", "kept", "nodir"] and trees.read(volume.path("kept")) == b"kept"
    volume.umount()


@case(QUICK, needs=["root"])
def a_file_without_a_name_needs_the_right_to_write_the_folder(ws):
    volume = mount(ws)
    os.mkdir("closed", 0o755)
    os.mkdir("open")
    os.chmod("open", 0o1777)
    user_fails_with(errno.EACCES, NOBODY, linux.tmpfile, "closed")
    user_fails_with(0, NOBODY, linux.tmpfile, "open")
    end(volume)


@case(QUICK)
def a_file_knows_when_it_was_made(ws):
    volume = mount(ws)
    before = time.time_ns() - 10**8
    trees.write("f", b"x")
    os.mkdir("d")
    made = linux.birth_ns("f")
    assert made is not None and before <= made <= time.time_ns() + 10**8, made
    assert linux.birth_ns("d") >= before
    os.utime("f", ns=(1, 1))
    os.chmod("f", 0o600)
    os.rename("f", "g")
    assert linux.birth_ns("g") == made
    end(volume)
    volume.mount()
    assert linux.birth_ns(volume.path("g")) == made
    volume.umount()
