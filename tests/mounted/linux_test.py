# SPDX-License-Identifier: GPL-2.0-or-later
"""What Linux promises of a local filesystem beyond POSIX, through the kernel, with the errors that its manual tells."""
import errno
import os
import stat
import time

import linux
import trees
from cases import QUICK, TRANSPORTS, case
from linux import fails_with, user_fails_with
from workspace import end, mount

NOBODY = 65534


def append(path, data):
    with open(path, "ab") as file:
        file.write(data)


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


@case(QUICK, transports=TRANSPORTS)
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


@case(QUICK, needs=["newer"], transports=TRANSPORTS)
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
def a_mount_can_do_without_what_is_newer_than_linux_6_1(ws):
    volume = ws.volume()
    volume.mount(env={**os.environ, "MIRRORFS_LINUX61": "1"})
    told, _ = volume.status()
    assert told["transport"]["transport"] == "classic", told["transport"]
    trees.write(volume.path("f"), b"x")
    assert linux.birth_ns(volume.path("f")) is None
    fd = linux.tmpfile(volume.mnt)
    linux.give_name(fd, volume.path("g"))
    os.close(fd)
    assert os.stat(volume.path("g")).st_nlink == 1
    volume.umount()


@case(QUICK, transports=TRANSPORTS)
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


@case(QUICK, needs=["root"])
def access_lists_decide_and_agree_with_modes(ws):
    volume = mount(ws)
    trees.write("f", b"secret")
    os.chmod("f", 0o640)
    user_fails_with(errno.EACCES, 1000, trees.read, "f")
    granted = linux.acl("u::rw- u:1000:rw- g::--- g:1001:r-- m::rw- o::---")
    os.setxattr("f", linux.ACCESS, granted)
    assert os.getxattr("f", linux.ACCESS) == granted and stat.S_IMODE(os.stat("f").st_mode) == 0o660
    user_fails_with(0, 1000, append, "f", b"!")
    user_fails_with(0, 1001, trees.read, "f")
    user_fails_with(errno.EACCES, 1001, append, "f", b"!")
    user_fails_with(errno.EACCES, 1002, trees.read, "f")
    user_fails_with(0, 1002, trees.read, "f", groups=[1001])
    os.chmod("f", 0o640)
    assert os.getxattr("f", linux.ACCESS) == linux.acl("u::rw- u:1000:rw- g::--- g:1001:r-- m::r-- o::---")
    user_fails_with(errno.EACCES, 1000, append, "f", b"!")
    user_fails_with(0, 1000, trees.read, "f")
    user_fails_with(errno.EPERM, 1000, os.setxattr, "f", linux.ACCESS, granted)
    fails_with(errno.EINVAL, os.setxattr, "f", linux.ACCESS, linux.acl("u::rw- g::r--"))
    fails_with(errno.EACCES, os.setxattr, "f", linux.DEFAULT, granted)
    fails_with(errno.EOPNOTSUPP, os.setxattr, "f", "system.posix_acl_other", b"")
    end(volume)
    volume.mount()
    user_fails_with(0, 1000, trees.read, volume.path("f"))
    os.removexattr(volume.path("f"), linux.ACCESS)
    user_fails_with(errno.EACCES, 1000, trees.read, volume.path("f"))
    assert linux.ACCESS not in os.listxattr(volume.path("f"))
    volume.umount()


@case(QUICK, needs=["root"])
def what_is_made_in_a_folder_inherits_its_default_list(ws):
    volume = mount(ws)
    os.mkdir("plain")
    os.mkdir("d")
    default = linux.acl("u::rwx u:1000:rwx g::r-x m::rwx o::---")
    os.setxattr("d", linux.DEFAULT, default)
    before = os.umask(0o077)
    for folder, file_mode, folder_mode in (("plain", 0o600, 0o700), ("d", 0o660, 0o770)):
        os.close(os.open(f"{folder}/f", os.O_CREAT | os.O_WRONLY, 0o666))
        os.mkdir(f"{folder}/sub", 0o777)
        os.mkfifo(f"{folder}/fifo", 0o666)
        os.symlink("x", f"{folder}/link")
        fd = linux.tmpfile(folder, mode=0o666)
        modes = [stat.S_IMODE(os.lstat(f"{folder}/{name}").st_mode) for name in ("f", "fifo", "sub")]
        assert modes == [file_mode, file_mode, folder_mode], (folder, [oct(mode) for mode in modes])
        assert stat.S_IMODE(os.fstat(fd).st_mode) == file_mode
        os.close(fd)
    os.umask(before)
    assert os.getxattr("d/f", linux.ACCESS) == linux.acl("u::rw- u:1000:rwx g::r-x m::rw- o::---")
    assert os.getxattr("d/sub", linux.DEFAULT) == default
    user_fails_with(errno.EACCES, 1000, trees.write, "plain/f", b"x")
    user_fails_with(0, 1000, trees.read, "d/f")
    user_fails_with(errno.EACCES, 1001, trees.read, "d/f")
    os.mkdir("d/sub/deeper")
    assert os.getxattr("d/sub/deeper", linux.DEFAULT) == default
    end(volume)


@case(QUICK, needs=["root"])
def setgid_goes_where_linux_takes_it(ws):
    volume = mount(ws)
    os.mkdir("d")
    os.chown("d", 1000, 1001)
    os.chmod("d", 0o2777)
    user_fails_with(0, 1000, trees.write, "d/f", b"x")
    assert os.stat("d/f").st_gid == 1001
    user_fails_with(0, 1000, os.mkdir, "d/sub")
    assert os.stat("d/sub").st_gid == 1001 and os.stat("d/sub").st_mode & stat.S_ISGID
    # Its owner is not in the group: neither a mode nor a list keeps or sets the bit.
    user_fails_with(0, 1000, os.chmod, "d/f", 0o2775)
    assert not os.stat("d/f").st_mode & stat.S_ISGID
    os.chmod("d/f", 0o2775)
    user_fails_with(0, 1000, os.setxattr, "d/f", linux.ACCESS, linux.acl("u::rwx u:5:r-x g::r-x m::r-x o::r-x"))
    assert not os.stat("d/f").st_mode & stat.S_ISGID, "a list that a stranger to the group set left setgid"
    os.chmod("d/f", 0o2775)
    os.setxattr("d/f", linux.ACCESS, linux.acl("u::rwx u:6:r-x g::r-x m::r-x o::r-x"))
    assert os.stat("d/f").st_mode & stat.S_ISGID, "root lost setgid"
    end(volume)
