# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs that people run on a filesystem run on this one."""
import os

import programs
from cases import FULL, QUICK, case


@case(FULL, needs=["git"], timeout=200)
def git_clones_and_checks_a_repository(ws):
    volume = ws.volume()
    volume.mount()
    programs.make_repository(ws, ws.join("origin"))
    ws.run(*programs.GIT, "clone", "-q", "--no-hardlinks", ws.join("origin"), volume.path("clone"))
    programs.check_repository(ws, volume.path("clone"))
    ws.run(*programs.GIT, "clone", "-q", volume.path("clone"), volume.path("linked"))
    programs.check_repository(ws, volume.path("linked"))
    volume.remount()
    programs.check_repository(ws, volume.path("clone"))
    volume.umount()


@case(QUICK, needs=["gcc"])
def a_compiler_builds_a_program_that_runs(ws):
    volume = ws.volume()
    volume.mount()
    with open(volume.path("hello.c"), "w", encoding="utf-8") as file:
        file.write("#include <stdio.h>\nint main(void)\n{\n\treturn puts(\"hello\") < 0;\n}\n")
    ws.run("gcc", "-O2", "-pipe", "-o", volume.path("hello"), volume.path("hello.c"))
    assert ws.run(volume.path("hello")).stdout == "hello\n"
    volume.remount()
    assert ws.run(volume.path("hello")).stdout == "hello\n"
    volume.umount()


@case(FULL, needs=["sqlite3"], timeout=300)
def sqlite_keeps_its_integrity(ws):
    volume = ws.volume()
    volume.mount()
    for mode in ("delete", "truncate", "persist", "wal"):
        programs.make_database(ws, volume.path(mode), mode)
        programs.check_database(ws, volume.path(mode))
    volume.remount()
    for mode in ("delete", "truncate", "persist", "wal"):
        programs.check_database(ws, volume.path(mode))
    volume.umount()


@case(FULL, needs=["qemu-img", "qemu-io"], timeout=200)
def qemu_works_without_a_cache(ws):
    volume = ws.volume()
    volume.mount()
    for kind in ("raw", "qcow2"):
        image = volume.path(f"disk.{kind}")
        ws.run("qemu-img", "create", "-q", "-f", kind, image, "64M")
        writes, reads = [], []
        for i, (offset, length) in enumerate([(0, 4096), (512, 512), (65536, 1 << 20), (5000192, 66048)]):
            writes += ["-c", f"write -q -P {i + 1} {offset} {length}"]
            reads += ["-c", f"read -q -P {i + 1} {max(offset, 1024) if i == 0 else offset} "
                      f"{length - 1024 if i == 0 else length}"]
        ws.run("qemu-io", "-t", "none", "-f", kind, *writes, "-c", "flush", image)
        done = ws.run("qemu-io", "-t", "none", "-f", kind, *reads, image)
        assert "failed" not in done.stdout + done.stderr
    ws.run("qemu-img", "check", volume.path("disk.qcow2"))
    ws.run("qemu-img", "convert", "-t", "none", "-T", "none", "-f", "qcow2", "-O", "raw", volume.path("disk.qcow2"),
           volume.path("converted"))
    ws.run("qemu-img", "compare", volume.path("disk.qcow2"), volume.path("converted"))
    volume.remount()
    ws.run("qemu-img", "compare", "-T", "none", volume.path("disk.qcow2"), volume.path("converted"))
    volume.umount()


def fio(ws, volume, name, *more):
    ws.run("fio", f"--name={name}", f"--directory={volume.mnt}", "--size=32M", "--verify=crc32c", "--verify_fatal=1",
           "--do_verify=1", "--verify_state_save=0", "--ioengine=psync", "--minimal", *more, timeout=150)


@case(FULL, needs=["fio"], timeout=300)
def fio_verifies_what_it_wrote(ws):
    volume = ws.volume(size="512M")
    volume.mount()
    fio(ws, volume, "buffered", "--rw=randwrite", "--bs=4k", "--io_size=16M", "--fsync=64")
    fio(ws, volume, "direct", "--rw=randwrite", "--bs=4k", "--direct=1", "--io_size=8M")
    fio(ws, volume, "odd", "--rw=randwrite", "--bsrange=1k-100k", "--bs_unaligned=1", "--io_size=32M", "--numjobs=2")
    fio(ws, volume, "mixed", "--rw=randrw", "--bs=64k", "--direct=1", "--io_size=32M")
    for folder, _, files in os.walk(volume.mnt):
        assert files, folder
    told, status = volume.status()
    assert status == 0, told
    volume.umount()
