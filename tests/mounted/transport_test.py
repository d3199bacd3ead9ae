# SPDX-License-Identifier: GPL-2.0-or-later
"""How requests come from the kernel: out of /dev/fuse (classic) or over io_uring. What comes of them is the same."""
import concurrent.futures
import ctypes
import errno
import mmap
import os
import signal
import struct
import subprocess
import sys

import trees
from cases import FULL, QUICK, TRANSPORTS, case, uring_is_on
from workspace import MIB, daemon_of, wait_for

USAGE, MOUNT_FAILED = 1, 32
BLOCKED_READERS = 3
OPEN_AND_READ = ("import mmap, os, sys; f = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT); print('open', flush=True);"
                 "os.preadv(f, [mmap.mmap(-1, 4096)], int(sys.argv[2]))")


def transport_of(volume):
    return volume.status()[0]["transport"]["transport"]


@case(QUICK, transports=TRANSPORTS)
def the_transport_is_the_one_that_was_asked_for(ws):
    volume = ws.volume()
    volume.mount()
    assert transport_of(volume) == ws.transport
    volume.remount("cache=4M")
    assert transport_of(volume) == ws.transport
    volume.umount()
    # And without being asked: what there is.
    ws.transport = "auto"
    volume.mount()
    assert transport_of(volume) == ("uring" if uring_is_on() else "classic")
    volume.umount()


def front_threads(volume):
    tasks = f"/proc/{daemon_of(volume.mnt)}/task"
    return [trees.read(f"{tasks}/{task}/comm") for task in os.listdir(tasks)].count(b"front\n")


@case(QUICK, transports=TRANSPORTS)
def a_daemon_that_may_not_run_everywhere_serves_requests_from_everywhere(ws):
    volume = ws.volume()
    volume.mount()
    threads = front_threads(volume)
    volume.umount()
    volume.mount(preexec_fn=lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}))
    assert front_threads(volume) == threads
    for cpu in os.sched_getaffinity(0):
        subprocess.run(["cp", "/proc/self/status", volume.path(str(cpu))], check=True,
                       preexec_fn=lambda cpu=cpu: os.sched_setaffinity(0, {cpu}))
    volume.umount()


@case(QUICK)
def how_long_a_thread_looks_for_requests_has_bounds(ws):
    volume = ws.volume()
    for wrong in ("", "-1", "1001", "5us", "never"):
        done = volume.mount(f"poll={wrong}", ok=False)
        assert done.returncode == USAGE and "poll" in done.stderr, done.stderr
    for right in ("0", "1000"):
        volume.mount(f"poll={right}")
        trees.write(volume.path("f"), right.encode())
        assert trees.read(volume.path("f")) == right.encode()
        volume.umount()


@case(QUICK, needs=["root"])
def the_kernel_is_told_of_all_that_was_carried_out(ws):
    """Also where a thread looks for requests itself, and tells of a closed file with what comes next."""
    volume = ws.volume()
    volume.mount("poll=1000,cpu-latency=off")
    for i in range(3000):
        file = os.open(volume.path(f"f{i}"), os.O_CREAT | os.O_WRONLY)
        os.write(file, b"x" * 4096)
        os.close(file)
    control = ws.join("control")
    os.mkdir(control)
    ws.run("mount", "-t", "fusectl", "none", control)
    try:
        waiting = f"{control}/{os.stat(volume.mnt).st_dev & 0xfffff}/waiting"
        wait_for("no request left", lambda: trees.read(waiting) == b"0\n")
    finally:
        ws.run("umount", control)
    for i in range(3000):
        assert os.stat(volume.path(f"f{i}")).st_size == 4096
    volume.umount()


def forbid_io_uring():
    """For this process and its children: io_uring_setup(2) fails with EPERM, as many containers have it."""
    number, ret, equal, load = 425, 0x06, 0x15, 0x20
    program = b"".join(struct.pack("HBBI", *line) for line in (
        (load, 0, 0, 0), (equal, 0, 1, number), (ret, 0, 0, 0x00050000 | errno.EPERM), (ret, 0, 0, 0x7fff0000)))
    buffer = ctypes.create_string_buffer(program)
    head = struct.pack("HxxxxxxP", 4, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    assert not libc.prctl(38, 1, 0, 0, 0) and not libc.prctl(22, 2, head, 0, 0), os.strerror(ctypes.get_errno())


@case(QUICK, needs=["root"])
def where_io_uring_is_forbidden_auto_goes_without_it_and_uring_is_refused(ws):
    volume = ws.volume()
    volume.mount(preexec_fn=forbid_io_uring)
    assert transport_of(volume) == "classic"
    trees.write(volume.path("f"), b"x")
    assert trees.read(volume.path("f")) == b"x"
    volume.umount()
    done = volume.mount("transport=uring", ok=False, preexec_fn=forbid_io_uring)
    assert done.returncode == MOUNT_FAILED and "transport=auto" in done.stderr, done.stderr
    volume.mount()
    volume.umount()


def readers_that_wait(volume):
    """Processes on one processor, each in the middle of a read that no leg answers."""
    cpu = min(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cpu})
    readers = [subprocess.Popen([sys.executable, "-c", OPEN_AND_READ, volume.path("big"), str(i * MIB)],
                                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) for i in range(BLOCKED_READERS)]
    for reader in readers:
        assert reader.stdout.readline() == b"open\n"
    wait_for("the reads under way", lambda: volume.status()[0]["transport"]["in_flight"] >= BLOCKED_READERS)
    return readers


@case(QUICK, transports=TRANSPORTS)
def a_request_that_waits_for_a_leg_holds_up_no_other(ws):
    volume = ws.volume()
    volume.mount()
    trees.write(volume.path("big"), trees.pattern(4 * MIB))
    switch = ws.join("switch")
    volume.remount("cache=4M", "leg-timeout=60", "deadline=60",
                   faults=dict.fromkeys((0, 1), f"read,hang,when={switch}"))
    os.listdir(volume.mnt)
    trees.write(volume.path("before"), b"x")
    trees.write(switch, b"")
    readers = readers_that_wait(volume)
    # From the very processor that they wait on.
    for i in range(50):
        trees.write(volume.path("before"), b"%d" % i)
        assert os.stat(volume.path("before")).st_size == len(b"%d" % i)
    assert all(reader.poll() is None for reader in readers), "they should still wait"
    # Whoever waits and is killed is gone when the leg is; the mount ends in order.
    for reader in readers:
        reader.send_signal(signal.SIGKILL)
    os.unlink(switch)
    volume.kill()
    for reader in readers:
        reader.wait(60)
    volume.mount()
    assert trees.read(volume.path("big")) == trees.pattern(4 * MIB)
    volume.umount()


def read_past_the_cache(path, many, data):
    """So many short reads by each of eight threads on one processor; what they bring is that."""
    def read(first):
        fd, buffer = os.open(path, os.O_RDONLY | os.O_DIRECT), mmap.mmap(-1, 4096)
        for i in range(many):
            at = (first + 8 * i) * 4096
            assert os.preadv(fd, [buffer], at) == 4096 and buffer[:] == data[at:at + 4096], at
        os.close(fd)

    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(read, range(8)))


@case(FULL, transports=TRANSPORTS)
def who_reads_for_others_carries_out_nothing_that_waits(ws):
    volume = ws.volume()
    volume.mount()
    trees.write(volume.path("big"), trees.pattern(4 * MIB))
    switch = ws.join("switch")
    volume.remount("leg-timeout=60", "deadline=60", faults=dict.fromkeys((0, 1), f"read,hang,when={switch}"))
    trees.write(volume.path("before"), b"x")
    # Those that overlap have one thread begin and answer them all; it then has the room for many requests.
    read_past_the_cache(volume.path("big"), 100, trees.pattern(4 * MIB))
    trees.write(switch, b"")
    reader = subprocess.Popen([sys.executable, "-c", "import sys; open(sys.argv[1], 'rb').read(1)", volume.path("big")],
                              stderr=subprocess.DEVNULL)
    wait_for("the read under way", lambda: volume.status()[0]["transport"]["in_flight"] >= 1)
    for i in range(50):
        trees.write(volume.path("before"), b"%d" % i)
        assert os.stat(volume.path("before")).st_size == len(b"%d" % i)
    assert reader.poll() is None, "it should still wait"
    os.unlink(switch)
    volume.kill()
    reader.wait(60)
    volume.mount()
    assert trees.read(volume.path("big")) == trees.pattern(4 * MIB)
    volume.umount()


@case(FULL, transports=TRANSPORTS)
def requests_of_every_size_go_through(ws):
    volume = ws.volume()
    for options in ((), ("cache=4M",)):
        volume.mount(*options)
        fd = os.open(volume.path("f"), os.O_RDWR | os.O_CREAT)
        at = 0
        for size in (1, 4095, 4096, 65535, 200_001, MIB - 1, MIB, MIB + 1, 3 * MIB):
            data = trees.pattern(size, at)
            assert os.pwrite(fd, data, at) == size and os.pread(fd, size, at) == data
            at += size
        os.setxattr(fd, "user.large", b"v" * 65536)
        assert os.getxattr(fd, "user.large") == b"v" * 65536
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        whole = mmap.mmap(fd, at)
        assert whole[:1] == trees.pattern(1, 0) and whole[at - 3 * MIB:] == trees.pattern(3 * MIB, at - 3 * MIB)
        whole.close()
        os.close(fd)
        os.unlink(volume.path("f"))
        for i in range(3000):
            trees.write(volume.path(f"{i:0200}"), b"")
        assert len(os.listdir(volume.mnt)) == 3000
        for i in range(3000):
            os.unlink(volume.path(f"{i:0200}"))
        volume.umount()
