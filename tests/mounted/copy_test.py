# SPDX-License-Identifier: GPL-2.0-or-later
"""copy_file_range(2) shares blocks: what it costs, what it promises, and what becomes of a bad block that is shared."""
import errno
import mmap
import os
import stat
import subprocess
import time

import linux
import trees
from cases import FULL, LONG, QUICK, case
from linux import fails_with
from workspace import end, mount, wait_for

MIB = 1 << 20
NOBODY = 65534


def used():
    st = os.statvfs(".")
    return (st.f_blocks - st.f_bfree) * st.f_frsize


def write(path, data):
    trees.write(path, data)
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def copy(source, target, length, source_offset=0, target_offset=0):
    """Bytes copied by as many calls as it takes."""
    a, b = os.open(source, os.O_RDONLY), os.open(target, os.O_RDWR | os.O_CREAT, 0o644)
    done = 0
    try:
        while done < length:
            got = os.copy_file_range(a, b, length - done, source_offset + done, target_offset + done)
            if not got:
                break
            done += got
    finally:
        os.close(a)
        os.close(b)
    return done


@case(QUICK)
def a_copy_takes_no_room(ws):
    volume = mount(ws)
    data = trees.pattern(80 * MIB + 1234)
    write("a", data)
    before = used()
    for name in "bcd":
        assert copy("a", name, len(data) + 5) == len(data)
        assert os.stat(name).st_blocks == os.stat("a").st_blocks
    assert used() - before < MIB, used() - before
    subprocess.run(["cp", "--reflink=auto", "a", "e"], check=True)
    subprocess.run(["cp", "a", "f"], check=True)
    assert used() - before < MIB, "cp copied"
    os.unlink("a")
    for name in "bcdef":
        assert trees.read(name) == data, name
    with open("c", "r+b") as file:
        file.seek(5000)
        file.write(b"changed")
    for name in "bdef":
        assert trees.read(name) == data, name
    assert trees.read("c") == data[:5000] + b"changed" + data[5007:]
    end(volume)
    volume.mount()
    assert trees.read(volume.path("d")) == data
    for name in "bcdef":
        os.unlink(volume.path(name))
    os.chdir(volume.mnt)
    wait_for("the room to come back", lambda: used() < MIB)
    end(volume)


@case(QUICK)
def a_range_is_copied_wherever_it_goes(ws):
    volume = mount(ws)
    data, old = trees.pattern(MIB), trees.pattern(MIB, 7)
    trees.write("a", data)
    for source, target, length in ((0, 0, 100), (4096, 8192, 8192), (1, 1, 20000), (1, 2, 300000), (5000, 904, 50000),
                                   (0, MIB, MIB), (0, 2 * MIB + 100, 4096), (MIB - 10, 0, 10),
                                   (4096, MIB - 4096, 100000)):
        trees.write("b", old)
        expected = old.ljust(target + length, b"\0")
        expected = expected[:target] + data[source:source + length] + expected[target + length:]
        assert copy("a", "b", length, source, target) == length
        assert trees.read("b") == expected, (source, target, length)
    # Through memory, and what lies there as a copy comes.
    trees.write("m", old)
    with open("m", "r+b") as m, mmap.mmap(m.fileno(), MIB) as shared, open("a", "r+b") as a, \
            mmap.mmap(a.fileno(), MIB) as source:
        assert shared[:] == old
        source[5 * 4096] = data[5 * 4096] ^ 1
        assert copy("a", "m", 10 * 4096) == 10 * 4096
        assert shared[:10 * 4096] == source[:10 * 4096] and shared[10 * 4096:] == old[10 * 4096:]
        assert shared[5 * 4096] == data[5 * 4096] ^ 1
    # A hole is a hole again.
    with open("sparse", "wb") as file:
        file.truncate(10 * MIB)
        file.seek(5 * MIB)
        file.write(data)
    trees.write("target", trees.pattern(12 * MIB))
    assert copy("sparse", "target", 10 * MIB) == 10 * MIB
    assert os.stat("target").st_blocks == 3 * MIB // 512
    assert trees.read("target")[:10 * MIB] == trees.read("sparse")
    end(volume)


@case(QUICK, needs=("root",))
def copies_are_refused_as_the_manual_says(ws):
    volume = mount(ws)
    data = trees.pattern(MIB)
    trees.write("a", data)
    with open("a", "r+b") as a, open("b", "w+b") as b, open("a", "rb") as reader, open("b", "ab") as appender:
        fd = a.fileno()
        fails_with(errno.EINVAL, os.copy_file_range, fd, fd, 8192, 0, 4096)
        fails_with(errno.EINVAL, os.copy_file_range, fd, fd, 1, 0, 0)
        fails_with(errno.EBADF, os.copy_file_range, b.fileno(), reader.fileno(), 10, 0, 0)
        fails_with(errno.EBADF, os.copy_file_range, fd, appender.fileno(), 10, 0, 0)
        fails_with(errno.EFBIG, os.copy_file_range, fd, b.fileno(), 4096, 0, 2**62)
        folder = os.open(".", os.O_RDONLY)
        fails_with(errno.EISDIR, os.copy_file_range, folder, b.fileno(), 10, 0, 0)
        os.close(folder)
        assert os.copy_file_range(fd, b.fileno(), 10, MIB, 0) == 0
        assert os.copy_file_range(fd, fd, 4096, 0, 512 * 1024) == 4096
        # Linux gives FUSE no FICLONE; copies go the other way.
        fails_with(errno.EOPNOTSUPP, linux.clone, fd, b.fileno())
    # Who copies into a file writes to it.
    os.chmod("b", 0o6777)
    os.chown("b", NOBODY, NOBODY)
    os.chmod("b", 0o6777)
    os.chmod("a", 0o644)
    before = os.stat("b").st_mtime_ns
    time.sleep(0.01)
    assert linux.as_user(NOBODY, copy, "a", "b", 8192) == 0
    after = os.stat("b")
    assert stat.S_IMODE(after.st_mode) == 0o777, oct(after.st_mode)
    assert after.st_mtime_ns > before and after.st_size == 8192
    end(volume)


@case(LONG)
def a_full_volume_takes_copies(ws):
    volume = mount(ws)
    write("a", trees.pattern(100 * MIB))
    for i in range(20):
        assert copy("a", f"b{i}", 100 * MIB) == 100 * MIB
    # 2 GiB on 256 MiB. To write to one takes room, which ends.
    written = 0
    try:
        for i in range(20):
            for at in range(0, 100 * MIB, MIB):
                with open(f"b{i}", "r+b") as file:
                    file.seek(at)
                    file.write(trees.pattern(MIB, i))
                    os.fsync(file.fileno())
                written += MIB
    except OSError as error:
        assert error.errno == errno.ENOSPC, error
    assert 80 * MIB < written < 200 * MIB, written
    assert trees.read("a") == trees.pattern(100 * MIB) and trees.read("b19") == trees.pattern(100 * MIB)
    for i in range(20):
        os.truncate(f"b{i}", 4097)
    os.unlink("a")
    for i in range(20):
        os.unlink(f"b{i}")
    wait_for("the room to come back", lambda: used() < MIB)
    end(volume)


@case(FULL)
def every_file_that_shares_a_bad_block_is_named(ws):
    volume = mount(ws)
    trees.write("a", trees.pattern(8 * MIB))
    copy("a", "b", 8 * MIB)
    os.mkdir("d")
    copy("a", "d/c", 4 * MIB, 2 * MIB, MIB)
    end(volume)
    block = trees.pattern(8 * MIB)[3 * MIB:3 * MIB + 4096]
    for leg in volume.legs:
        with open(leg, "r+b") as file, mmap.mmap(file.fileno(), 0) as image:
            at = image.find(block)
            assert at > 0 and image.find(block, at + 1) < 0
            image[at + 7] ^= 1
    volume.mount()
    told = volume.scrub(ok=False)
    told = told.stdout + told.stderr + volume.ws.run("mirrorctl", "events", volume.mnt, ok=False).stdout
    for name in ("/a", "/b", "/d/c"):
        assert f'file="{name}"' in told, (name, told[-3000:])
    fails_with(errno.EIO, trees.read, volume.path("b"))
    # Who writes there is rid of it; the others are not.
    with open(volume.path("b"), "r+b") as file:
        file.seek(3 * MIB)
        file.write(block)
    assert trees.read(volume.path("b")) == trees.pattern(8 * MIB)
    fails_with(errno.EIO, trees.read, volume.path("a"))
    volume.umount()
