# SPDX-License-Identifier: GPL-2.0-or-later
"""What programs expect of files, looked at through the kernel."""
import errno
import mmap
import os
import threading

import trees
from cases import FULL, QUICK, TRANSPORTS, case
from linux import fails_with
from workspace import end, mount

MIB = 1 << 20
NOBODY = 65534


@case(QUICK, transports=TRANSPORTS)
def names_come_and_go(ws):
    volume = mount(ws)
    os.mkdir("a")
    os.mkdir("b")
    trees.write("a/f", b"one")
    trees.write("b/g", b"two")
    os.rename("a/f", "b/f")
    os.rename("b/f", "b/g")
    assert trees.read("b/g") == b"one" and os.listdir("b") == ["g"] and not os.listdir("a")
    os.rename("b", "a/b")
    assert os.stat("a").st_nlink == 3 and os.stat(".").st_nlink == 3
    fails_with(errno.EINVAL, os.rename, "a", "a/b/c")
    fails_with(errno.ENOTEMPTY, os.rmdir, "a")
    fails_with(errno.EEXIST, os.mkdir, "a")
    fails_with(errno.ENOENT, os.stat, "no")
    fails_with(errno.ENAMETOOLONG, trees.write, "x" * 256, b"")
    fails_with(errno.ENOTDIR, os.stat, "a/b/g/h")
    fails_with(errno.EISDIR, os.unlink, "a")
    os.link("a/b/g", "h")
    assert os.stat("h").st_nlink == 2
    os.unlink("a/b/g")
    assert os.stat("h").st_nlink == 1 and trees.read("h") == b"one"
    fails_with(errno.EPERM, os.link, "a", "dirlink")
    end(volume)


@case(QUICK, transports=TRANSPORTS)
def a_file_without_a_name_lives_while_it_is_open(ws):
    volume = mount(ws)
    before = os.statvfs(".").f_bavail
    fd = os.open("f", os.O_RDWR | os.O_CREAT)
    os.write(fd, trees.pattern(8 * MIB))
    os.fsync(fd)
    os.unlink("f")
    assert os.fstat(fd).st_nlink == 0
    os.pwrite(fd, b"more", 100)
    assert os.pread(fd, 200, 0)[100:104] == b"more"
    os.close(fd)
    os.sync()
    end(volume)
    volume.mount()
    assert os.listdir(volume.mnt) == []
    assert abs(os.statvfs(volume.mnt).f_bavail - before) < 64, "its space did not come back"
    volume.umount()


@case(QUICK)
def space_is_told_and_comes_back(ws):
    volume = mount(ws)
    before = os.statvfs(".")
    assert 100 * MIB < before.f_blocks * before.f_frsize < 256 * MIB and before.f_namemax == 255
    for i in range(20):
        trees.write(f"f{i}", trees.pattern(2 * MIB, i))
    os.sync()
    middle = os.statvfs(".")
    assert (before.f_bavail - middle.f_bavail) * before.f_frsize >= 40 * MIB
    for i in range(20):
        os.unlink(f"f{i}")
    end(volume)
    volume.mount()
    assert abs(os.statvfs(volume.mnt).f_bavail - before.f_bavail) < 64, "space was lost"
    volume.umount()


@case(FULL, timeout=200)
def a_full_volume_says_so_and_goes_on(ws):
    volume = mount(ws)
    count = 0
    try:
        while True:
            fd = os.open(f"f{count}", os.O_WRONLY | os.O_CREAT)
            try:
                os.write(fd, trees.pattern(MIB, count))
                os.fsync(fd)
            finally:
                os.close(fd)
            count += 1
    except OSError as error:
        assert error.errno == errno.ENOSPC, error
    assert count > 100, count
    for i in range(count):
        assert trees.read(f"f{i}") == trees.pattern(MIB, i), i
    for i in range(0, count, 2):
        os.unlink(f"f{i}")
    fd = os.open("again", os.O_WRONLY | os.O_CREAT)
    for _ in range(600):
        try:
            os.pwrite(fd, trees.pattern(20 * MIB), 0)
            os.fsync(fd)
            break
        except OSError as error:
            # Freed space is reusable when its freeing is durable, which takes a moment.
            assert error.errno == errno.ENOSPC, error
            threading.Event().wait(0.1)
    os.close(fd)
    told, status = volume.status()
    assert status == 0, told
    end(volume)
    volume.mount()
    assert trees.read(volume.path("again")) == trees.pattern(20 * MIB)
    for i in range(1, count, 2):
        assert trees.read(volume.path(f"f{i}")) == trees.pattern(MIB, i), i
    volume.umount()


@case(QUICK, transports=TRANSPORTS)
def lengths_and_holes_are_as_asked(ws):
    volume = mount(ws)
    trees.write("f", trees.pattern(3 * MIB))
    os.truncate("f", MIB + 17)
    os.truncate("f", 2 * MIB)
    assert trees.read("f") == trees.pattern(3 * MIB)[:MIB + 17] + bytes(MIB - 17)
    fd = os.open("f", os.O_RDWR)
    os.posix_fallocate(fd, 0, 3 * MIB)
    assert os.fstat(fd).st_size == 3 * MIB
    os.pwrite(fd, b"end", 5 * MIB)
    assert os.lseek(fd, 4 * MIB, os.SEEK_DATA) <= 5 * MIB
    assert os.pread(fd, 10, 5 * MIB - 5) == bytes(5) + b"end"
    fails_with(errno.ENXIO, os.lseek, fd, 6 * MIB, os.SEEK_DATA)
    os.close(fd)
    fd = os.open("g", os.O_RDWR | os.O_CREAT | os.O_APPEND)
    for i in range(100):
        os.write(fd, b"%04d" % i)
    os.close(fd)
    assert trees.read("g") == b"".join(b"%04d" % i for i in range(100))
    end(volume)
    volume.mount()
    assert trees.read(volume.path("f")) == (trees.pattern(3 * MIB)[:MIB + 17] + bytes(4 * MIB - 17) + b"end")
    volume.umount()


@case(QUICK, transports=TRANSPORTS)
def mapped_memory_is_the_file(ws):
    volume = mount(ws)
    trees.write("f", trees.pattern(MIB))
    with open("f", "r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        assert memory[:] == trees.pattern(MIB)
        memory[5000:5005] = b"hello"
        memory.flush()
        assert os.pread(file.fileno(), 5, 5000) == b"hello"
    end(volume)
    volume.mount()
    assert trees.read(volume.path("f"))[5000:5005] == b"hello"
    volume.umount()


@case(FULL, transports=TRANSPORTS)
def a_folder_is_read_whole_while_it_changes(ws):
    volume = mount(ws)
    os.mkdir("d")
    for i in range(2000):
        trees.write(f"d/keep{i}", b"")
    stop = threading.Event()

    def churn():
        count = 0
        while not stop.is_set():
            trees.write(f"d/come{count}", b"")
            os.unlink(f"d/come{count}")
            count += 1

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(5):
            names = os.listdir("d")
            assert len(names) == len(set(names)), "a name came twice"
            assert {f"keep{i}" for i in range(2000)} <= set(names), "a name is missing"
    finally:
        stop.set()
        thread.join()
    end(volume)


@case(QUICK, needs=["root"])
def permissions_decide_who_may_what(ws):
    volume = mount(ws)
    os.chmod(ws.path, 0o755)
    trees.write("private", b"secret")
    os.chmod("private", 0o600)
    trees.write("public", b"open")
    os.mkdir("theirs")
    os.chown("theirs", NOBODY, NOBODY)
    assert ws.run("cat", volume.path("private"), user=NOBODY, ok=False).returncode != 0
    ws.run("cat", volume.path("public"), user=NOBODY)
    assert ws.run("touch", volume.path("new"), user=NOBODY, ok=False).returncode != 0
    ws.run("touch", volume.path("theirs", "new"), user=NOBODY)
    assert os.stat("theirs/new").st_uid == NOBODY
    trees.write("suid", b"")
    os.chown("suid", NOBODY, NOBODY)
    os.chmod("suid", 0o4755)
    ws.run("sh", "-c", f"echo more >>{volume.path('suid')}", user=NOBODY)
    assert os.stat("suid").st_mode & 0o4000 == 0, "a write left the setuid bit"
    for how in ("os.copy_file_range(os.open('public', os.O_RDONLY), fd, 4)", "os.posix_fallocate(fd, 0, 9000)",
                "os.truncate(fd, 2)"):
        os.chmod("suid", 0o6775)
        ws.run("/usr/bin/python3", "-c", f"import os; fd = os.open('suid', os.O_WRONLY); {how}", user=NOBODY)
        assert os.stat("suid").st_mode & 0o6000 == 0, f"{how} left setuid or setgid"
    end(volume)


@case(QUICK)
def times_move_when_they_should(ws):
    volume = mount(ws)
    trees.write("f", b"a")
    os.utime("f", ns=(1, 1))
    before = os.stat("f")
    with open("f", "ab") as file:
        file.write(b"b")
    after = os.stat("f")
    assert after.st_mtime_ns > before.st_mtime_ns
    folder = os.stat(".")
    os.chmod("f", 0o600)
    assert os.stat("f").st_ctime_ns >= after.st_ctime_ns and os.stat("f").st_mtime_ns == after.st_mtime_ns
    threading.Event().wait(0.01)
    os.rename("f", "g")
    assert os.stat(".").st_mtime_ns > folder.st_mtime_ns
    end(volume)
