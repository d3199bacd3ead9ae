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


def append(path, data):
    with open(path, "ab") as file:
        file.write(data)


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

@case(QUICK)
def attributes_of_all_sizes_are_kept(ws):
    volume = mount(ws)
    trees.write("f", b"x")
    os.mkdir("d")
    sizes = [0, 1, 4031, 4032, 4033, 65535, 65536]
    for path in ("f", "d"):
        for size in sizes:
            os.setxattr(path, f"user.{size}", trees.pattern(size, size))
    os.setxattr("f", "user." + "n" * 250, b"long name")
    fails_with(errno.ERANGE, os.setxattr, "f", "user." + "n" * 251, b"")
    fails_with(errno.E2BIG, os.setxattr, "f", "user.big", bytes(65537))
    fails_with(errno.EEXIST, os.setxattr, "f", "user.1", b"", os.XATTR_CREATE)
    fails_with(errno.ENODATA, os.setxattr, "f", "user.none", b"", os.XATTR_REPLACE)
    fails_with(errno.ENODATA, os.getxattr, "f", "user.none")
    fails_with(errno.ENODATA, os.removexattr, "f", "user.none")
    fails_with(errno.EOPNOTSUPP, os.setxattr, "f", "system.none", b"")
    fails_with(errno.EOPNOTSUPP, os.getxattr, "f", "none.a")
    os.setxattr("f", "user.65535", b"short", os.XATTR_REPLACE)
    os.removexattr("f", "user.4032")
    assert linux.getxattr_with("f", "user.65536", 100) == -errno.ERANGE
    end(volume)
    volume.mount()
    for path in ("f", "d"):
        for size in sizes:
            expected = trees.pattern(size, size)
            if path == "f" and size == 4032:
                continue
            if path == "f" and size == 65535:
                expected = b"short"
            assert os.getxattr(volume.path(path), f"user.{size}") == expected, (path, size)
    assert len(os.listxattr(volume.path("f"))) == len(sizes) and len(os.listxattr(volume.path("d"))) == len(sizes)
    assert os.getxattr(volume.path("f"), "user." + "n" * 250) == b"long name"
    os.unlink(volume.path("f"))
    volume.umount()
    ws.run("fsck.mirrorfs", "-n", "-f", *volume.legs)


@case(QUICK, needs=["root"])
def each_namespace_has_its_readers_and_writers(ws):
    volume = mount(ws)
    trees.write("f", b"x")
    os.chown("f", NOBODY, NOBODY)
    os.symlink("f", "link")
    for name in ("trusted.a", "security.a", "user.a"):
        os.setxattr("f", name, b"value")
    os.setxattr("link", "trusted.a", b"of the link", follow_symlinks=False)
    fails_with(errno.EPERM, os.setxattr, "link", "user.a", b"", follow_symlinks=False)
    assert sorted(os.listxattr("f")) == ["security.a", "trusted.a", "user.a"]
    assert os.getxattr("link", "trusted.a", follow_symlinks=False) == b"of the link"

    def seen():
        assert sorted(os.listxattr("f")) == ["security.a", "user.a"], os.listxattr("f")
        assert os.getxattr("f", "user.a") == b"value"

    user_fails_with(0, NOBODY, seen)
    user_fails_with(0, NOBODY, os.setxattr, "f", "user.b", b"mine")
    user_fails_with(errno.EPERM, NOBODY, os.setxattr, "f", "trusted.b", b"")
    user_fails_with(errno.EPERM, NOBODY, os.setxattr, "f", "security.b", b"")
    user_fails_with(errno.ENODATA, NOBODY, os.getxattr, "f", "trusted.a")
    os.chmod("f", 0o600)
    user_fails_with(errno.EACCES, 1000, os.getxattr, "f", "user.a")
    user_fails_with(errno.EACCES, 1000, os.setxattr, "f", "user.a", b"")
    os.mkdir("sticky")
    os.chmod("sticky", 0o1777)
    user_fails_with(errno.EPERM, NOBODY, os.setxattr, "sticky", "user.a", b"")
    end(volume)


@case(QUICK, needs=["root"])
def a_write_takes_the_capabilities_of_a_program(ws):
    volume = mount(ws)
    capability = bytes.fromhex("0100000200200000000000000000000000000000")
    trees.write("f", b"x")
    os.chmod("f", 0o777)
    os.setxattr("f", "security.capability", capability)
    assert os.getxattr("f", "security.capability") == capability
    user_fails_with(0, NOBODY, append, "f", b"y")
    fails_with(errno.ENODATA, os.getxattr, "f", "security.capability")
    os.setxattr("f", "security.capability", capability)
    os.chown("f", 1000, 1000)
    fails_with(errno.ENODATA, os.getxattr, "f", "security.capability")
    end(volume)
