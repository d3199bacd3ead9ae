# SPDX-License-Identifier: GPL-2.0-or-later
"""The cache keeps to its budget, whatever is done on the mount."""
import json
import os
import resource
import subprocess
import threading
import time

import programs
import trees
import workspace
from cases import FULL, LONG, QUICK, case

MIB = 1 << 20
FIXED_MOST = 24 * MIB
DEADLINE = 20  # seconds; the default of the mount option


def stats(volume):
    return json.loads(volume.ws.run("mirrorctl", "--json", "stats", volume.mnt).stdout)["result"]["cache"]


def read_anew(path):
    """Past what the kernel holds."""
    with open(path, "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return file.read()


@case(QUICK)
def dropped_caches_are_empty_and_nothing_is_lost(ws):
    volume = ws.volume()
    volume.mount("cache=64M")
    with open(volume.path("file"), "wb") as file:
        file.write(trees.pattern(8 * MIB))
        file.flush()
        os.fsync(file.fileno())
    before = stats(volume)
    assert before["data"]["pages"] >= 2048 and before["nodes"]["pages"] > 0, before
    assert read_anew(volume.path("file")) == trees.pattern(8 * MIB)
    assert stats(volume)["data"]["hits"] >= before["data"]["hits"] + 2048
    ws.run("mirrorctl", "drop-caches", volume.mnt)
    after = stats(volume)
    assert after["data"]["pages"] == 0 and after["nodes"]["pages"] <= 2, after
    assert after["resident_bytes"] < before["resident_bytes"] - 7 * MIB, (before, after)
    assert read_anew(volume.path("file")) == trees.pattern(8 * MIB)
    assert stats(volume)["data"]["misses"] >= after["data"]["misses"] + 2048
    told = ws.run("mirrorctl", "stats", volume.mnt).stdout
    for word in ("hits", "refaults", "scanned", "stolen", "stalls", "wake-ups", "dirty", "writing"):
        assert word in told, told
    volume.umount()


@case(QUICK)
def a_long_stream_of_writes_goes_out_while_it_comes_and_leaves(ws):
    volume = ws.volume(size="512M")
    volume.mount("cache=256M")
    for piece in (64 << 10, MIB):
        with open(volume.path("brief"), "wb", buffering=0) as brief, \
             open(volume.path("stream"), "wb", buffering=0) as stream:
            for i in range(4 * MIB // piece):
                brief.write(trees.pattern(piece, i))
            for i in range(24 * MIB // piece):
                stream.write(trees.pattern(piece, i))
            # By age alone it would be written, too; but then it would stay.
            workspace.wait_for("room in the cache", lambda: stats(volume)["data"]["bytes"] < 16 * MIB)
            assert stats(volume)["data"]["bytes"] >= 4 * MIB
            os.fsync(stream.fileno())
        ws.run("mirrorctl", "drop-caches", volume.mnt)
        data = read_anew(volume.path("stream"))
        assert data == b"".join(trees.pattern(piece, i) for i in range(24 * MIB // piece))
        assert read_anew(volume.path("brief")) == data[:4 * MIB]
        os.unlink(volume.path("stream"))
    volume.umount()


@case(QUICK)
def open_files_count(ws):
    volume = ws.volume()
    volume.mount("cache=64M")
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    count = min(5000, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 100)
    first = os.open(volume.path("file"), os.O_RDWR | os.O_CREAT)
    before = stats(volume)["used_bytes"]
    files = [os.open(volume.path("file"), os.O_RDONLY) for _ in range(count)]
    opened = stats(volume)["used_bytes"]
    assert opened - before >= 40 * count, (before, opened, count)
    for file in files:
        os.close(file)
    workspace.wait_for("memory of closed files", lambda: stats(volume)["used_bytes"] <= opened - 40 * count)
    os.close(first)
    volume.umount()


class Watch(threading.Thread):
    """Looks at the daemon's memory, and at how long the mount takes for a small durable change, until it is ended."""

    def __init__(self, volume):
        super().__init__()
        self.volume = volume
        self.most = 0
        self.slowest = 0.0
        self.done = threading.Event()
        self.start()

    def resident(self):
        with open(f"/proc/{self.volume.pid}/statm", encoding="utf-8") as file:
            return int(file.read().split()[1]) * 4096

    def run(self):
        while not self.done.wait(0.05):
            self.most = max(self.most, self.resident())
            began = time.monotonic()
            with open(self.volume.path("probe"), "w", encoding="utf-8") as file:
                file.write("x")
                os.fsync(file.fileno())
            self.slowest = max(self.slowest, time.monotonic() - began)

    def end(self):
        self.done.set()
        self.join()
        memory = self.volume.status()[0]["memory"]
        budget = stats(self.volume)["budget_bytes"]
        print(f"resident {self.most / MIB:.1f} MiB of {memory['limit_bytes'] / MIB:.1f} MiB, "
              f"slowest answer {self.slowest:.2f} s", flush=True)
        assert memory["fixed_bytes"] <= FIXED_MOST, memory
        assert memory["limit_bytes"] == budget + budget // 10 + memory["fixed_bytes"] + memory["beyond_bytes"], memory
        assert self.most <= memory["limit_bytes"], (self.most, memory)
        assert self.slowest < DEADLINE, self.slowest


def fio(ws, volume, name, *more):
    ws.run("fio", f"--name={name}", f"--directory={volume.mnt}", "--verify=crc32c", "--verify_fatal=1",
           "--do_verify=1", "--verify_state_save=0", "--ioengine=psync", "--minimal", *more, timeout=300)


def compile_here(ws, volume, count):
    for i in range(count):
        with open(volume.path(f"source{i}.c"), "w", encoding="utf-8") as file:
            file.write(f"#include <stdio.h>\nint value{i}(void)\n{{\n\treturn printf(\"%d\", {i}) - 1;\n}}\n")
        ws.run("gcc", "-O1", "-c", "-o", volume.path(f"object{i}.o"), volume.path(f"source{i}.c"))
    with open(volume.path("main.c"), "w", encoding="utf-8") as file:
        file.write("int value0(void);\nint main(void)\n{\n\treturn value0();\n}\n")
    ws.run("gcc", "-o", volume.path("program"), volume.path("main.c"),
           *[volume.path(f"object{i}.o") for i in range(count)])
    assert ws.run(volume.path("program")).stdout == "0"


def work_within(ws, budget, megabytes):
    """fio, a compiler and git on a cache of that size, of which fio alone overflows it."""
    volume = ws.volume(size=f"{4 * megabytes + 256}M")
    volume.mount(f"cache={budget}")
    watch = Watch(volume)
    try:
        fio(ws, volume, "stream", "--rw=write", "--bs=1M", f"--size={megabytes}M", "--numjobs=2")
        fio(ws, volume, "random", "--rw=randrw", "--bs=4k", f"--size={megabytes // 2}M", f"--io_size={megabytes // 8}M")
        programs.make_repository(ws, ws.join("origin"))
        ws.run(*programs.GIT, "clone", "-q", "--no-hardlinks", ws.join("origin"), volume.path("clone"))
        programs.check_repository(ws, volume.path("clone"))
        compile_here(ws, volume, 4)
    finally:
        watch.end()
    volume.remount(f"cache={budget}")
    programs.check_repository(ws, volume.path("clone"))
    volume.umount()


@case(FULL, needs=["fio"])
def memory_stays_within_what_status_tells(ws):
    volume = ws.volume()
    volume.mount("cache=16M")
    watch = Watch(volume)
    try:
        fio(ws, volume, "stream", "--rw=write", "--bs=1M", "--size=24M", "--numjobs=4")
    finally:
        watch.end()
    volume.umount()


def many_files(volume, count):
    for i in range(count):
        if i % 1000 == 0:
            os.mkdir(volume.path(f"d{i // 1000}"))
        os.mknod(volume.path(f"d{i // 1000}", f"f{i}"))


def walk_many(ws, count):
    volume = ws.volume(size="1G")
    volume.mount("cache=16M")
    watch = Watch(volume)
    try:
        many_files(volume, count)
        for _ in range(2):
            found = ws.run("sh", "-c", 'find "$0" -size +1M; find "$0" -type f | wc -l', volume.mnt).stdout
            assert int(found) >= count, found
    finally:
        watch.end()
    inodes = volume.status()[0]["fs"]
    assert inodes["inodes"] < 16 * MIB // 1024, inodes
    volume.umount()


@case(FULL)
def files_that_the_kernel_knows_take_little_memory(ws):
    walk_many(ws, 8000)


@case(LONG, timeout=1800)
def a_million_files_take_little_memory(ws):
    walk_many(ws, 1000000)


def nodes_read_by_find(volume):
    """With a kernel that knows no names or inodes."""
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
        file.write("2")
    before = stats(volume)["nodes"]["misses"]
    volume.ws.run("find", volume.mnt, "-size", "+1024G", timeout=900)
    return stats(volume)["nodes"]["misses"] - before


def find_beside_copy(ws, files, megabytes, cache):
    volume = ws.volume(size=f"{2 * megabytes + files // 500 + 512}M")
    volume.mount(f"cache={cache}")
    many_files(volume, files)
    ws.run("dd", "if=/dev/urandom", f"of={volume.path('from')}", "bs=1M", f"count={megabytes}", timeout=1800)
    volume.remount(f"cache={cache}")
    cold = nodes_read_by_find(volume)
    with subprocess.Popen(["dd", f"if={volume.path('from')}", f"of={volume.path('to')}", "bs=1M", "status=none"]) as dd:
        while dd.poll() is None:
            nodes_read_by_find(volume)
    assert dd.returncode == 0
    workspace.wait_for("all is written", lambda: stats(volume)["data"]["dirty"] == 0)
    warm = nodes_read_by_find(volume)
    print(f"nodes read by find: {cold} at first, {warm} behind the copy", flush=True)
    assert warm <= cold / 10, (cold, warm)
    volume.umount()


@case(LONG, needs=["root"], timeout=600)
def find_beside_a_copy_keeps_its_metadata(ws):
    find_beside_copy(ws, 20000, 512, "64M")


@case(LONG, needs=["root"], timeout=7200)
def find_over_a_million_files_beside_a_copy_of_ten_gib_keeps_its_metadata(ws):
    find_beside_copy(ws, 1000000, 10240, "2G")


@case(LONG, needs=["fio", "git", "gcc"], timeout=600)
def sixteen_mib_are_enough_and_are_kept_to(ws):
    work_within(ws, "16M", 64)


@case(LONG, needs=["fio", "git", "gcc"], timeout=600)
def sixty_four_mib_are_kept_to(ws):
    work_within(ws, "64M", 256)


@case(LONG, needs=["fio", "git", "gcc"], timeout=1800)
def a_gib_is_kept_to(ws):
    work_within(ws, "1G", 2048)
