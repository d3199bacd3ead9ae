# SPDX-License-Identifier: GPL-2.0-or-later
"""Nobody sees what is another's: what blocks held before, what lies behind holes and ends, other users' files."""
import ctypes
import errno
import fcntl
import mmap
import os
import random
import struct
import subprocess

import linux
from cases import QUICK, case
from linux import libc, user_fails_with
from workspace import end, mount, mounted, wait_for
from writers import fallocate

MIB = 1 << 20
BLOCK = 4096
NOBODY = 65534
KEEP_SIZE, PUNCH, ZERO = 1, 2, 16
SECRET = b"SECRET! " * (BLOCK // 8)
GETLABEL, GETXFLAGS, GETVERSION, SHUTDOWN = 0x81009431, 0x801c581f, 0x80087601, 0x8004587d

libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *(ctypes.c_int,) * 3, ctypes.c_long)
libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
libc.msync.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
libc.pwrite.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_long)


def fill_and_delete():
    """All free blocks held a secret before they became free."""
    free = os.statvfs(".").f_bavail
    try:
        with open("secret", "wb", buffering=0) as file:
            while True:
                file.write(SECRET * 64)
    except OSError as error:
        assert error.errno == errno.ENOSPC
    fd = os.open("secret", os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    os.unlink("secret")
    wait_for("the blocks to be free", lambda: os.statvfs(".").f_bavail >= free * 95 // 100)


class Model:
    """A file and what must be in it."""

    def __init__(self, path):
        self.path = path
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self.direct = os.open(path, os.O_RDWR | os.O_DIRECT)
        self.data = bytearray()

    def resize(self, length):
        self.data = self.data[:length] + bytes(max(0, length - len(self.data)))

    def put(self, offset, data):
        self.resize(max(len(self.data), offset + len(data)))
        self.data[offset:offset + len(data)] = data

    def check(self):
        self.same(os.pread(self.fd, len(self.data) + BLOCK, 0))
        os.posix_fadvise(self.fd, 0, 0, os.POSIX_FADV_DONTNEED)
        self.same(os.pread(self.fd, len(self.data) + BLOCK, 0))
        room = mmap.mmap(-1, (len(self.data) // BLOCK + 2) * BLOCK)
        got = os.preadv(self.direct, [room], 0)
        self.same(room[:got])
        assert not any(room[got:]), f"{self.path}: behind its end"

    def same(self, got):
        if got != self.data:
            at = next((i for i, (a, b) in enumerate(zip(got, self.data)) if a != b), min(len(got), len(self.data)))
            raise AssertionError(f"{self.path}: from {at} on {bytes(got[at:at + 40])} instead of "
                                 f"{bytes(self.data[at:at + 40])}, {len(got)} bytes of {len(self.data)}")


def steps(dice, model):
    """Each a way to make parts of a file that nobody has written."""
    size = len(model.data)
    offset, length = dice.randrange(size + 3 * BLOCK), dice.choice((1, 100, BLOCK - 1, BLOCK, BLOCK + 1, 30000, 100000))

    def write():
        os.pwrite(model.fd, b"w" * length, offset)
        model.put(offset, b"w" * length)

    def write_direct():
        room = mmap.mmap(-1, length + 13)
        room[13:] = b"d" * length
        os.pwritev(model.direct, [memoryview(room)[13:]], offset)
        model.put(offset, b"d" * length)

    def grow():
        os.ftruncate(model.fd, offset + length)
        model.resize(offset + length)

    def allocate():
        fallocate(model.fd, 0, offset, length)
        model.resize(max(size, offset + length))

    def allocate_and_grow_into_it():
        fallocate(model.fd, KEEP_SIZE, size, offset + length)
        os.ftruncate(model.fd, size + length)
        model.resize(size + length)

    def punch():
        fallocate(model.fd, PUNCH | KEEP_SIZE, offset, length)
        model.data[offset:offset + length] = bytes(len(model.data[offset:offset + length]))

    def zero():
        fallocate(model.fd, ZERO, offset, length)
        model.put(offset, bytes(length))

    def copy():
        take, to = offset % (size + 1), size + dice.randrange(2 * BLOCK)
        got = os.copy_file_range(model.fd, model.fd, min(length, size - take), take, to) if take < size else 0
        if got:
            model.put(to, model.data[take:take + got])

    return (write, write_direct, grow, allocate, allocate_and_grow_into_it, punch, zero, copy)


def spoil_the_end(model):
    """What is written to mapped memory behind the end of a file is not the file's."""
    size = len(model.data)
    if not size % BLOCK:
        return
    address = libc.mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, model.fd, 0)
    ctypes.memmove(address + size, SECRET, BLOCK - size % BLOCK)
    assert libc.msync(address, size, 4) == 0 and libc.munmap(address, size) == 0


def blocks_of_others(seed):
    dice = random.Random(seed)
    models = [Model(f"f{number}") for number in range(12)]
    for step in range(400):
        model = dice.choice(models)
        act = dice.choice(steps(dice, model))
        try:
            act()
        except OSError as error:
            assert error.errno == errno.ENOSPC, error
            break
        if step % 7 == 0:
            spoil_the_end(model)
        if step % 50 == 0:
            model.check()
        if len(model.data) > 4 * MIB:
            os.ftruncate(model.fd, 5000)
            model.resize(5000)
    for model in models:
        model.check()


@case(QUICK, needs=["root"])
def freed_blocks_holes_and_ends_show_nothing_of_what_was_there(ws):
    volume = ws.volume(size="64M")
    volume.mount()
    os.chmod(ws.path, 0o755)
    os.chdir(volume.mnt)
    os.chmod(".", 0o777)
    seed = random.randrange(1 << 32)
    print("seed", seed)
    fill_and_delete()
    user_fails_with(0, NOBODY, blocks_of_others, seed)
    found = {name: open(name, "rb").read() for name in os.listdir(".")}
    assert not [name for name, data in found.items() if b"SECRET" in data]
    os.chdir("/")
    volume.remount()
    for name, data in found.items():
        with open(volume.path(name), "rb") as file:
            assert file.read() == data, name
    volume.umount()


def write_from_nowhere():
    """The memory ends in the midst of the write: what there is of it may be written, and nothing else."""
    room = libc.mmap(None, 4 * BLOCK, 3, 0x22, -1, 0)
    ctypes.memset(room, ord("x"), 2 * BLOCK)
    assert libc.munmap(room + 2 * BLOCK, 2 * BLOCK) == 0
    fd = os.open("torn", os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    got = libc.pwrite(fd, room, 4 * BLOCK, 100)
    assert got <= 2 * BLOCK, got
    data = os.pread(fd, 10 * BLOCK, 0)
    assert data == (bytes(100) + b"x" * got if got > 0 else b""), (got, len(data))


@case(QUICK, needs=["root"])
def a_write_whose_memory_ends_leaves_nothing_else(ws):
    volume = mount(ws)
    os.chmod(".", 0o777)
    fill_and_delete()
    user_fails_with(0, NOBODY, write_from_nowhere)
    end(volume)


@case(QUICK, needs=["root"])
def answers_hold_nothing_of_the_daemons_memory(ws):
    volume = mount(ws)
    with open("f", "wb"):
        pass
    # The memory in which answers are made has held this.
    for _ in range(64):
        fd = os.open("g", os.O_RDWR | os.O_CREAT | os.O_DIRECT)
        room = mmap.mmap(-1, MIB)
        room[:] = SECRET * (MIB // BLOCK)
        os.pwrite(fd, room, 0)
        os.preadv(fd, [room], 0)
        os.close(fd)
    fd = os.open("f", os.O_RDONLY)
    assert fcntl.ioctl(fd, GETLABEL, b"\xff" * 256) == bytes(256)
    assert fcntl.ioctl(fd, GETXFLAGS, b"\xff" * 28) == bytes(28)
    os.close(fd)
    buffer = ctypes.create_string_buffer(b"\xff" * 256, 256)
    linux.checked(libc.statx(linux.AT_FDCWD, b"f", 0, 0xfff, buffer), "statx")
    assert b"SECRET" not in buffer.raw and not any(buffer.raw[192:]), buffer.raw
    os.setxattr("f", "user.a", b"value")
    room = ctypes.create_string_buffer(b"\xff" * 65536, 65536)
    assert libc.getxattr(b"f", b"user.a", room, 65536) == 5 and room.raw[:6] == b"value\xff"
    assert libc.listxattr(b"f", room, 65536) == 7 and room.raw[:8] == b"user.a\0\xff"
    os.symlink("target", "link")
    assert libc.readlink(b"link", room, 65536) == 6 and room.raw[:6] == b"target"
    end(volume)


@case(QUICK, needs=["root"])
def a_users_mount_is_that_users_alone(ws):
    volume = ws.volume(size="64M", user=NOBODY)
    volume.mount()
    os.chmod(ws.path, 0o755)
    user_fails_with(errno.EACCES, 1000, os.stat, volume.mnt)
    user_fails_with(errno.EACCES, 0, os.listdir, volume.mnt)
    user_fails_with(0, NOBODY, os.listdir, volume.mnt)
    volume.umount()


def chgrp(path, group):
    os.chown(path, -1, group)


@case(QUICK, needs=["root"])
def supplementary_groups_count_like_the_first(ws):
    volume = mount(ws)
    os.mkdir("d")
    os.chown("d", 0, 4242)
    os.chmod("d", 0o2770)
    with open("d/f", "wb") as file:
        file.write(b"of the group")
    os.chmod("d/f", 0o640)
    os.chown("d/f", 1000, 4242)
    for groups, expected in (((4242,), 0), (range(4200, 4260), 0), ((), errno.EACCES), ((4243,), errno.EACCES)):
        user_fails_with(expected, 1001, os.listdir, "d", groups=list(groups))
        user_fails_with(expected, 1001, lambda: open("d/f", "rb").close(), groups=list(groups))
    user_fails_with(errno.EACCES, 1001, lambda: open("d/f", "r+b").close(), groups=[4242])
    # Its owner may give it to any of its groups, and keep setgid for them, but for no other.
    user_fails_with(0, 1000, chgrp, "d/f", 4300, groups=[4242, 4300])
    user_fails_with(errno.EPERM, 1000, chgrp, "d/f", 4301, groups=[4242, 4300])
    user_fails_with(0, 1000, os.chmod, "d/f", 0o2750, groups=[4242, 4300])
    assert os.stat("d/f").st_mode & 0o7777 == 0o2750 and os.stat("d/f").st_gid == 4300
    user_fails_with(0, 1000, os.chmod, "d/f", 0o2750, groups=[4242])
    assert os.stat("d/f").st_mode & 0o7777 == 0o750
    # What is made in a setgid folder has its group; setgid of it only for who is in that.
    user_fails_with(0, 1001, lambda: os.close(os.open("d/g", os.O_CREAT, 0o2755)), groups=[4242])
    assert os.stat("d/g").st_gid == 4242 and os.stat("d/g").st_mode & 0o2000
    end(volume)


IN_NAMESPACE = """
set -e
mkfs.mirrorfs -s 64M left right >/dev/null
mkdir -p here
mirrorfs left right here
echo content > here/file
mkdir -m 700 here/folder
[ "$(stat -c %u:%g here/file)" = 0:0 ]
chown 0:0 here/file
! chown 1:1 here/file 2>/dev/null
! mknod here/device c 1 3 2>/dev/null || ! cat here/device 2>/dev/null
mirrorctl status here
cat here/file
umount here
for i in $(seq 500); do fsck.mirrorfs -n left right && break; sleep 0.02; done
"""


def in_namespace(ws, user, *command):
    path = f"{ws.tools}:{os.environ['PATH']}"
    done = subprocess.run(["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "env", f"PATH={path}",
                           "unshare", "-Urm", *command], cwd=ws.folder("home"), text=True, capture_output=True,
                          check=False, timeout=60)
    print(done.stdout + done.stderr)
    return done


@case(QUICK, needs=["root", "namespaces", "unshare", "setpriv"])
def a_user_is_root_of_a_mount_in_a_namespace(ws):
    os.chmod(ws.path, 0o755)
    os.chown(ws.folder("home"), 1000, 1000)
    done = in_namespace(ws, 1000, "sh", "-c", IN_NAMESPACE)
    assert done.returncode == 0 and "content" in done.stdout, done.returncode
    assert not mounted(ws.join("home", "here"))


@case(QUICK, needs=["root", "namespaces", "unshare", "setpriv"])
def root_of_a_namespace_is_who_made_it(ws):
    volume = mount(ws)
    os.chmod(".", 0o755)
    for name, owner in (("roots", 0), ("its", 1000), ("others", 1001)):
        with open(name, "w", encoding="utf-8") as file:
            file.write(name + "\n")
        os.chown(name, owner, owner)
        os.chmod(name, 0o600)
    ioctl = f"import fcntl, os; fcntl.ioctl(os.open({volume.mnt!r}, os.O_RDONLY), {SHUTDOWN})"
    done = in_namespace(ws, 1000, "sh", "-c", f"""
        cd {volume.mnt}; cat its; cat roots || echo no; cat others || echo no; stat -c '%u %n' roots its others
        chown 0 its && echo own; chown 0 others || echo no; python3 -c {ioctl!r} 2>&1 | tail -1""".replace("'\"", "'"))
    said = done.stdout.split("\n")
    assert said[:3] == ["its", "no", "no"] and said[3:6] == ["65534 roots", "0 its", "65534 others"], said
    assert said[6:8] == ["own", "no"] and "PermissionError" in said[8], said
    end(volume)


@case(QUICK, needs=["root", "namespaces"])
def a_mount_is_not_idmapped_and_the_kernel_says_so(ws):
    volume = mount(ws)
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(writer)
        libc.unshare(0x10000000)
        os.read(reader, 1)
        os._exit(0)
    wait_for("a namespace", lambda: os.stat(f"/proc/{child}/ns/user").st_ino != os.stat("/proc/self/ns/user").st_ino)
    for name in ("uid_map", "gid_map"):
        with open(f"/proc/{child}/{name}", "w", encoding="utf-8") as file:
            file.write("0 100000 65536")
    namespace = os.open(f"/proc/{child}/ns/user", os.O_RDONLY)
    tree = linux.checked(libc.syscall(428, -100, os.fsencode(volume.mnt), 1), "open_tree")
    attributes = struct.pack("<QQQQ", 0x100000, 0, 0, namespace)
    result = libc.syscall(442, tree, b"", 0x1000, attributes, len(attributes))
    assert result == -1 and ctypes.get_errno() == errno.EINVAL, result
    os.close(writer)
    os.waitpid(child, 0)
    for fd in (tree, namespace, reader):
        os.close(fd)
    end(volume)
