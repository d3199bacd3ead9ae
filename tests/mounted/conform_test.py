# SPDX-License-Identifier: GPL-2.0-or-later
"""Rules of POSIX and of Linux's manual, each with the errno that they demand; as root and as an ordinary user."""
import errno
import fcntl
import mmap
import os
import stat
import struct

import linux
import trees
from cases import LONG, QUICK, case
from linux import fails_with, user_fails_with
from workspace import end, mount

MIB = 1 << 20
NOBODY = 65534
OFD_GETLK, OFD_SETLK = 36, 37
KEEP_SIZE, PUNCH, COLLAPSE, ZERO, INSERT, UNSHARE = 1, 2, 8, 16, 32, 64
SIZE_MAX = 2**62 - 1


def in_child(function, *arguments):
    """Its errno, or 0: in a process of its own, so that locks are another's."""
    child = os.fork()
    if not child:
        status = 0
        try:
            function(*arguments)
        except OSError as error:
            status = error.errno
        except BaseException:  # a child that must not return into the tests
            status = 255
        os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def fallocate(fd, mode, offset, length):
    linux.checked(linux.libc.fallocate(fd, mode, linux.ctypes.c_long(offset), linux.ctypes.c_long(length)), "fallocate")


def lock_as_other(path, kind, start, length):
    with open(path, "r+b") as other:
        fcntl.lockf(other, kind | fcntl.LOCK_NB, length, start)


def flock_as_other(path, kind):
    with open(path, "r+b") as other:
        fcntl.flock(other, kind | fcntl.LOCK_NB)


def ofd(fd, kind, start, length):
    fcntl.fcntl(fd, OFD_SETLK, struct.pack("hhqqi4x", kind, os.SEEK_SET, start, length, 0))


@case(QUICK)
def locks_keep_others_out(ws):
    volume = mount(ws)
    trees.write("f", b"x" * 100)
    with open("f", "r+b") as file, open("f", "r+b") as again:
        fcntl.lockf(file, fcntl.LOCK_EX, 10, 20)
        assert in_child(lock_as_other, "f", fcntl.LOCK_SH, 25, 1) in (errno.EAGAIN, errno.EACCES)
        assert in_child(lock_as_other, "f", fcntl.LOCK_EX, 30, 10) == 0
        fcntl.lockf(file, fcntl.LOCK_SH, 10, 20)
        assert in_child(lock_as_other, "f", fcntl.LOCK_SH, 25, 1) == 0
        assert in_child(lock_as_other, "f", fcntl.LOCK_EX, 25, 1) in (errno.EAGAIN, errno.EACCES)
        open("f", "rb").close()  # POSIX: whatever the process closes of a file ends its locks
        assert in_child(lock_as_other, "f", fcntl.LOCK_EX, 25, 1) == 0
        # An open file's own lock is not the process's, and survives that.
        ofd(file.fileno(), fcntl.F_WRLCK, 0, 10)
        fails_with(errno.EAGAIN, ofd, again.fileno(), fcntl.F_RDLCK, 5, 1)
        open("f", "rb").close()
        fails_with(errno.EAGAIN, ofd, again.fileno(), fcntl.F_RDLCK, 5, 1)
        ofd(file.fileno(), fcntl.F_UNLCK, 0, 10)
        ofd(again.fileno(), fcntl.F_RDLCK, 5, 1)
        ofd(again.fileno(), fcntl.F_UNLCK, 5, 1)
        fcntl.flock(file, fcntl.LOCK_SH)
        assert in_child(flock_as_other, "f", fcntl.LOCK_SH) == 0
        fails_with(errno.EWOULDBLOCK, fcntl.flock, again, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(file, fcntl.LOCK_UN)
        fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
    end(volume)


@case(QUICK)
def beyond_the_largest_size_there_is_no_file(ws):
    volume = mount(ws)
    with open("f", "w+b") as file:
        fd = file.fileno()
        os.ftruncate(fd, SIZE_MAX)
        assert os.fstat(fd).st_size == SIZE_MAX and os.fstat(fd).st_blocks == 0
        fails_with(errno.EFBIG, os.ftruncate, fd, SIZE_MAX + 1)
        fails_with(errno.EFBIG, os.pwrite, fd, b"xx", SIZE_MAX - 1)
        fails_with(errno.EFBIG, os.pwrite, fd, b"x", SIZE_MAX)
        fails_with(errno.EFBIG, fallocate, fd, 0, SIZE_MAX, 1)
        fails_with(errno.EINVAL, os.ftruncate, fd, -1)
        assert os.pwrite(fd, b"x", SIZE_MAX - 1) == 1
        assert os.pread(fd, 10, SIZE_MAX - 1) == b"x"
        assert os.lseek(fd, 0, os.SEEK_DATA) == (SIZE_MAX - 1) // 4096 * 4096
        fails_with(errno.ENXIO, os.lseek, fd, SIZE_MAX, os.SEEK_DATA)
    end(volume)


@case(QUICK)
def names_are_bytes(ws):
    volume = mount(ws)
    alphabet = bytes(byte for byte in range(1, 256) if byte != ord("/"))
    names = [alphabet, b"\xff" * 255, b" ", b"\n\t", b"-rf", b"...", b"\xc3\x28", b"CON", b"a" * 255, b"A" * 255]
    for name in names:
        fd = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        os.write(fd, name)
        os.close(fd)
    assert sorted(os.listdir(b".")) == sorted(names)
    for name in names:
        assert trees.read(name) == name
    for call in ((os.mkdir, b"b" * 256), (os.stat, b"b" * 256), (os.symlink, b"x", b"b" * 256),
                 (os.rename, b" ", b"b" * 256), (os.link, b" ", b"b" * 256), (os.mknod, b"b" * 256)):
        fails_with(errno.ENAMETOOLONG, *call)
    os.mkdir(b"d")
    nameless = linux.tmpfile(b".")
    for length in (256, 300, 1023, 1024, 1025, 4000):
        name = b"b" * length
        for call in ((os.open, name, os.O_CREAT | os.O_WRONLY), (os.unlink, name), (os.rmdir, name),
                     (os.rename, name, b"c"),
                     (os.lstat, name), (os.mkdir, b"d/" + name), (os.link, name, b"c"), (os.symlink, b"t", name),
                     (linux.renameat2, b" ", name, linux.RENAME_EXCHANGE), (os.rename, b"d", name),
                     (linux.renameat2, b" ", name, linux.RENAME_NOREPLACE), (linux.give_name, nameless, name)):
            fails_with(errno.ENAMETOOLONG, *call)
    os.close(nameless)
    os.rmdir(b"d")
    fails_with(errno.ENAMETOOLONG, os.symlink, b"t" * 4096, b"l")
    os.symlink(b"t" * 4095, b"l")
    assert os.readlink(b"l") == b"t" * 4095
    fails_with(errno.ENOENT, os.symlink, b"", b"m")
    fails_with(errno.ENOENT, os.stat, b"")
    os.symlink(b"loop", b"loop")
    fails_with(errno.ELOOP, os.stat, b"loop")
    fails_with(errno.ENOTEMPTY, os.rmdir, b"../" + os.path.basename(os.getcwdb()) + b"/..")
    fails_with(errno.EINVAL, os.rmdir, b".")
    end(volume)


@case(QUICK)
def folders_may_be_deep(ws):
    volume = mount(ws)
    top = os.open(".", os.O_RDONLY)
    for _ in range(300):  # 75,000 bytes: no path leads there in one go
        os.mkdir("d" * 250)
        os.chdir("d" * 250)
    trees.write("f", b"deep down")
    fd = os.open("f", os.O_RDONLY)
    os.fchdir(top)
    fails_with(errno.ENAMETOOLONG, os.stat, ("d" * 250 + "/") * 17)
    assert os.read(fd, 100) == b"deep down"
    os.close(fd)
    here = os.dup(top)
    for _ in range(300):
        there = os.open("d" * 250, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = there
    assert os.listdir(here) == ["f"]
    os.unlink("f", dir_fd=here)
    os.close(here)
    os.close(top)
    end(volume)


@case(LONG)
def a_file_may_have_many_names(ws):
    volume = mount(ws)
    os.mkdir("d")
    trees.write("f", b"content")
    for i in range(65100):
        os.link("f", f"d/{i}")
    assert os.stat("f").st_nlink == 65101
    os.unlink("f")
    assert trees.read("d/65099") == b"content" and os.stat("d/7").st_nlink == 65100
    end(volume)


@case(QUICK)
def space_is_allocated_punched_and_zeroed(ws):
    volume = mount(ws)
    data = trees.pattern(MIB)
    trees.write("f", data)
    with open("f", "r+b") as file, open("f", "rb") as reader:
        fd = file.fileno()
        fallocate(fd, KEEP_SIZE, MIB, MIB)
        os.fsync(fd)
        assert os.fstat(fd).st_size == MIB and os.fstat(fd).st_blocks == 2 * MIB // 512
        fallocate(fd, 0, MIB, 2 * MIB)
        assert os.fstat(fd).st_size == 3 * MIB
        assert os.pread(fd, 3 * MIB, 0) == data + bytes(2 * MIB)
        fallocate(fd, PUNCH | KEEP_SIZE, 5000, 100000)
        fallocate(fd, ZERO, 300000, 5)
        fallocate(fd, ZERO | KEEP_SIZE, 3 * MIB - 10, 100)
        assert os.fstat(fd).st_size == 3 * MIB
        fallocate(fd, ZERO, 3 * MIB - 10, 100)
        assert os.fstat(fd).st_size == 3 * MIB + 90
        expected = bytearray(data + bytes(2 * MIB + 90))
        expected[5000:105000] = bytes(100000)
        expected[300000:300005] = bytes(5)
        assert os.pread(fd, 4 * MIB, 0) == expected
        assert os.lseek(fd, 0, os.SEEK_HOLE) == 8192 and os.lseek(fd, 8192, os.SEEK_DATA) == 102400
        assert os.lseek(fd, 102400, os.SEEK_HOLE) >= MIB
        fails_with(errno.ENXIO, os.lseek, fd, 3 * MIB + 90, os.SEEK_HOLE)
        fails_with(errno.ENXIO, os.lseek, fd, 3 * MIB + 90, os.SEEK_DATA)
        for mode in (PUNCH, COLLAPSE, INSERT, UNSHARE, ZERO | PUNCH | KEEP_SIZE, 0x8000):
            fails_with(errno.EOPNOTSUPP, fallocate, fd, mode, 0, 4096)
        fails_with(errno.EINVAL, fallocate, fd, 0, 0, 0)
        fails_with(errno.EINVAL, fallocate, fd, 0, -1, 10)
        fails_with(errno.EBADF, fallocate, reader.fileno(), 0, 0, 10)
        fails_with(errno.ENOSPC, fallocate, fd, 0, 0, 1 << 40)
    fails_with(errno.ESPIPE, fallocate, os.pipe()[1], 0, 0, 10)
    end(volume)


@case(QUICK, needs=("root",))
def sticky_folders_and_groups(ws):
    volume = mount(ws)
    os.mkdir("tmp")
    os.chmod("tmp", 0o1777)
    for name, owner in (("tmp/mine", NOBODY), ("tmp/yours", 1000), ("tmp/roots", 0)):
        trees.write(name, b"")
        os.chown(name, owner, owner)
        os.chmod(name, 0o666)
    os.mkdir("own")
    os.chmod("own", 0o1777)
    os.chown("own", NOBODY, NOBODY)
    trees.write("own/yours", b"")
    for call in ((os.unlink, "tmp/yours"), (os.rename, "tmp/roots", "tmp/r"), (os.rename, "tmp/mine", "tmp/yours"),
                 (linux.renameat2, "tmp/mine", "tmp/roots", linux.RENAME_EXCHANGE)):
        user_fails_with(errno.EPERM, NOBODY, *call)
    assert linux.as_user(NOBODY, os.unlink, "own/yours") == 0
    assert linux.as_user(NOBODY, os.unlink, "tmp/mine") == 0
    # A setgid folder gives its group, and itself to folders.
    os.mkdir("g")
    os.chown("g", 0, 4242)
    os.chmod("g", 0o2777)
    assert linux.as_user(NOBODY, os.mkdir, "g/d") == 0 and linux.as_user(NOBODY, os.mknod, "g/f") == 0
    assert os.stat("g/d").st_gid == os.stat("g/f").st_gid == 4242 and os.stat("g/d").st_mode & stat.S_ISGID
    assert not os.stat("g/f").st_mode & stat.S_ISGID
    # Who is not in the group cannot set setgid for it; who writes takes setuid away; chown takes both.
    os.chown("g/f", NOBODY, 4242)
    assert linux.as_user(NOBODY, os.chmod, "g/f", 0o2755) == 0
    assert stat.S_IMODE(os.stat("g/f").st_mode) == 0o755
    os.chmod("g/f", 0o6777)
    assert linux.as_user(1000, trees.write, "g/f", b"data") == 0
    assert stat.S_IMODE(os.stat("g/f").st_mode) == 0o777
    os.chmod("g/f", 0o6777)
    os.chown("g/f", 1, 1)
    assert stat.S_IMODE(os.stat("g/f").st_mode) == 0o777
    user_fails_with(errno.EPERM, NOBODY, os.chown, "tmp/yours", NOBODY, NOBODY)
    user_fails_with(errno.EPERM, NOBODY, os.chmod, "tmp/yours", 0o777)
    user_fails_with(errno.EPERM, NOBODY, os.utime, "tmp/yours", (1, 1))
    assert linux.as_user(NOBODY, os.utime, "tmp/yours") == 0
    os.chmod("tmp/yours", 0o444)
    user_fails_with(errno.EACCES, NOBODY, os.utime, "tmp/yours")
    user_fails_with(errno.EACCES, NOBODY, os.truncate, "tmp/yours", 0)
    os.chmod("own", 0o700)
    user_fails_with(errno.EACCES, 1000, os.listdir, "own")
    user_fails_with(errno.EACCES, 1000, os.stat, "own/x")
    end(volume)


@case(QUICK, needs=("root",))
def the_umask_gives_way_to_a_default_list(ws):
    volume = mount(ws)
    os.mkdir("plain")
    os.mkdir("listed")
    os.setxattr("listed", linux.DEFAULT, linux.acl("u::rwx u:1000:rwx g::rwx m::rwx o::r-x"))
    os.umask(0o077)
    for folder, file_mode, dir_mode in (("plain", 0o600, 0o700), ("listed", 0o664, 0o775)):
        os.close(os.open(f"{folder}/f", os.O_CREAT, 0o666))
        os.mkdir(f"{folder}/d", 0o777)
        assert stat.S_IMODE(os.stat(f"{folder}/f").st_mode) == file_mode, folder
        assert stat.S_IMODE(os.stat(f"{folder}/d").st_mode) == dir_mode, folder
    os.umask(0o022)
    end(volume)


@case(QUICK)
def times_of_access_follow_changes(ws):
    volume = mount(ws)
    trees.write("f", b"content")
    os.utime("f", ns=(10**9, 2 * 10**9 + 3))
    assert os.stat("f").st_mtime_ns == 2 * 10**9 + 3 and os.stat("f").st_atime_ns == 10**9
    trees.read("f")
    first = os.stat("f").st_atime_ns
    assert first > 2 * 10**9 + 3
    trees.read("f")
    assert os.stat("f").st_atime_ns == first  # nothing has changed since
    os.utime("f", ns=(-5 * 10**9, -1))
    assert os.stat("f").st_atime_ns == -5 * 10**9 and os.stat("f").st_mtime_ns == -1
    end(volume)
    volume.mount()
    assert os.stat(volume.path("f")).st_mtime_ns == -1
    volume.umount()


@case(QUICK)
def mapped_and_direct_and_buffered_are_one_file(ws):
    volume = mount(ws)
    trees.write("f", bytes(MIB))
    direct = os.open("f", os.O_RDWR | os.O_DIRECT)
    plain = os.open("f", os.O_RDWR)
    room = mmap.mmap(-1, 2 * MIB)
    model = bytearray(MIB)
    with mmap.mmap(plain, MIB) as shared, mmap.mmap(plain, MIB, mmap.MAP_PRIVATE) as private:
        private[100:104] = b"mine"
        for step, (offset, length) in enumerate(((0, 4096), (333, 777), (4095, 2), (65536, 65536), (99999, 200001),
                                                 (MIB - 5000, 5000), (1, MIB - 1))):
            data = trees.pattern(length, step)
            model[offset:offset + length] = data
            if step % 3 == 0:  # any offset, length and memory will do
                room[7:7 + length] = data
                assert os.pwritev(direct, [memoryview(room)[7:7 + length]], offset) == length
            elif step % 3 == 1:
                shared[offset:offset + length] = data
            else:
                assert os.pwrite(plain, data, offset) == length
            assert shared[:] == model, step
            assert os.pread(plain, MIB, 0) == model, step
            view = memoryview(room)[3:3 + MIB]
            assert os.preadv(direct, [view], 0) == MIB and view == model, step
            view.release()
            assert private[100:104] == b"mine"
    os.ftruncate(plain, 5000)
    view = memoryview(room)[:8192]
    assert os.preadv(direct, [view], 0) == 5000
    view.release()
    os.close(direct)
    os.close(plain)
    end(volume)
    volume.mount()
    assert trees.read(volume.path("f")) == model[:5000]
    volume.umount()
