# SPDX-License-Identifier: GPL-2.0-or-later
"""The logs of -o iolog: in fio's format, never empty after I/O, and of one mind with fio's own."""
import json
import os
import signal
import subprocess
import time

import trees
from cases import FULL, LONG, QUICK, case
from stats_test import stats, write_direct
from workspace import BLOCK, wait_for

LOGS = "lat", "bw", "iops"
READ, WRITE = 0, 1


def log_of(prefix, name):
    """[(msec, value, direction, bytes, offset)]"""
    with open(f"{prefix}_{name}.log", encoding="ascii") as file:
        lines = [tuple(int(word) for word in line.split(", ")) for line in file]
    assert all(len(line) == 5 for line in lines), lines
    assert [line[0] for line in lines] == sorted(line[0] for line in lines), "time goes backwards"
    return lines


def operations(lines, msec):
    """How many writes there were, by their rates in windows of so long; one in which nothing was done has no line."""
    total, before = 0, 0
    for end, rate, *_ in (line for line in lines if line[2] == WRITE):
        total += rate * (end - before if end - before < 1.5 * msec else msec) / 1000
        before = end
    return total


@case(QUICK)
def a_mount_that_did_one_write_leaves_logs_that_are_not_empty(ws):
    for how in "umount", "SIGTERM":
        volume, prefix = ws.volume(how, size="64M"), ws.join(how)
        volume.mount(f"iolog={prefix}")
        write_direct(volume.path("file"), 1)
        if how == "umount":
            volume.umount()
        else:
            os.kill(volume.pid, signal.SIGTERM)
            volume.wait_end()
        for name in LOGS:
            line, = log_of(prefix, name)
            assert line[2] == WRITE and (name != "lat" or line[1] > 0), (name, line)


@case(QUICK)
def each_request_has_its_line_with_its_size_and_place(ws):
    volume, prefix = ws.volume(size="64M"), ws.join("log")
    volume.mount(f"iolog={prefix}", "iolog-msec=0")
    write_direct(volume.path("file"), 11)
    volume.remount(f"iolog={prefix}", "iolog-msec=0")  # begins anew
    assert trees.read(f"{prefix}_lat.log") == b""
    with open(volume.path("file"), "rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        file.seek(3 * BLOCK)
        file.read(BLOCK)
    write_direct(volume.path("other"), 5)
    volume.umount()
    for name in LOGS:
        lines = log_of(prefix, name)
        assert [line[2:] for line in lines if line[2] == WRITE] == [(WRITE, BLOCK, n * BLOCK) for n in range(5)], lines
        reads = [line for line in lines if line[2] == READ]
        assert reads and reads[0][4] <= 3 * BLOCK < reads[0][4] + reads[0][3], reads


@case(FULL)
def windows_hold_all_of_many_short_runs(ws):
    volume, prefix = ws.volume(size="64M"), ws.join("log")
    volume.mount(f"iolog={prefix}", "iolog-msec=100")
    until = time.monotonic() + 1.5
    while time.monotonic() < until:
        write_direct(volume.path("file"), 3)  # opened, written and closed again and again
    count = stats(volume)["operations"]["write"]["count"]
    volume.umount()
    lines = log_of(prefix, "iops")
    assert len(lines) >= 3, lines
    assert abs(operations(lines, 100) - count) <= 0.05 * count, (lines, count)
    assert [line[0] for line in log_of(prefix, "lat")] == [line[0] for line in lines]


@case(FULL)
def a_log_that_cannot_be_is_refused_before_there_is_a_mount(ws):
    volume = ws.volume(size="64M")
    refused = volume.mount(f"iolog={ws.join('nowhere', 'log')}", ok=False)
    assert refused.returncode == 32 and "nowhere/log_lat.log" in refused.stderr, refused
    refused = volume.mount(f"iolog={volume.path('log')}", ok=False)
    assert refused.returncode == 32 and "inside the mount point" in refused.stderr, refused
    refused = volume.mount("iolog-msec=soon", ok=False)
    assert refused.returncode == 1 and "iolog-msec" in refused.stderr, refused


def fio(ws, *options):
    done = ws.run("fio", "--output-format=json", *options, cwd=ws.path)
    return json.loads(done.stdout[done.stdout.index("{"):])["jobs"]


def fio_logs(ws, names):
    """Those of fio's own that are empty are told, as they were in 2015."""
    empty = [name for name in names if not os.path.getsize(ws.join(name))]
    if empty:
        print(f"fio has left {', '.join(empty)} empty", flush=True)
    return len(names) - len(empty)


SLOW_WRITE = ("--name=slow_write", "--ioengine=libaio", "--direct=1", "--numjobs=1", "--bs=4k", "--iodepth=300",
              "--rw=randwrite", "--randrepeat=0", "--rate_iops=8070", "--time_based=1")


def offloads(ws):
    """Whether this fio does that job on any file at all.

    Debian's 3.33 stops for ever, on ext4 as well as here: 64 threads that it has made to submit wait for work
    (pthread_cond_wait), so does the one that hands it out, none of them is in a call on a file, and the filesystem has
    nothing in flight.
    """
    words = ["fio", *SLOW_WRITE, "--io_submit_mode=offload", f"--filename={ws.join('plain')}", "--size=1m",
             "--runtime=1"]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as tried:
        try:
            return tried.wait(5) == 0
        except subprocess.TimeoutExpired:
            with open(f"/proc/{tried.pid}/task/{tried.pid}/children", encoding="ascii") as children:
                for child in children.read().split():
                    os.kill(int(child), signal.SIGKILL)
            tried.kill()
            print("this fio hangs with io_submit_mode=offload: inline is used instead", flush=True)
            return False


def randwrite(ws, seconds, msec):
    """At a rate that is more than a disk can do, from a thread of fio's of its own, if that works here."""
    volume, prefix = ws.volume(size="512M"), ws.join("log")
    volume.mount(f"iolog={prefix}", f"iolog-msec={msec}")
    job, = fio(ws, *SLOW_WRITE, f"--io_submit_mode={'offload' if offloads(ws) else 'inline'}", "--size=64m",
               f"--filename={volume.path('testfile.io')}", f"--runtime={seconds}", "--write_lat_log=fio_lat")
    count, rate = job["write"]["total_ios"], job["write"]["iops"]
    assert count > 0
    wait_for("the last request to be counted", lambda: stats(volume)["operations"]["write"]["count"] == count)
    volume.umount()
    assert fio_logs(ws, [f"fio_lat_{name}.1.log" for name in ("lat", "clat", "slat")]) > 0
    return prefix, count, rate


@case(FULL, needs=("fio",))
def the_first_job_of_2015_is_in_both_logs_request_by_request(ws):
    prefix, count, rate = randwrite(ws, 3, 0)
    for name in LOGS:
        lines = log_of(prefix, name)
        assert len(lines) == count and all(line[2:4] == (WRITE, BLOCK) for line in lines), (len(lines), count)
    mean = count / ((lines[-1][0] - lines[0][0]) / 1000)
    assert abs(mean - rate) <= 0.1 * rate, (mean, rate)
    assert len(trees.read(ws.join("fio_lat_lat.1.log")).splitlines()) == count


@case(LONG, needs=("fio",))
def the_first_job_of_2015_is_in_both_logs_at_its_full_length(ws):
    prefix, count, rate = randwrite(ws, 60, 1000)
    lines = log_of(prefix, "iops")
    assert 60 <= len(lines) <= 70 and abs(operations(lines, 1000) - count) <= 0.01 * count, (lines, count)
    mean = operations(lines, 1000) / ((lines[-1][0] - lines[0][0]) / 1000)
    assert abs(mean - rate) <= 0.1 * rate, (mean, rate)


@case(FULL, needs=("fio",))
def the_second_job_of_2015_is_in_both_logs(ws):
    """Each of eight goes round in 64 KiB, so that for fio its work is always just beginning."""
    volume, prefix = ws.volume(size="512M"), ws.join("log")
    volume.mount(f"iolog={prefix}", "iolog-msec=500")
    group, = fio(ws, "--name=write", "--group_reporting=1", "--numjobs=8", "--ioengine=posixaio",
                 "--io_submit_mode=inline", "--stonewall", "--rw=write", "--bs=32k", "--time_based=1", "--runtime=3",
                 "--filesize=64k", f"--directory={volume.mnt}", "--per_job_logs=1", "--write_bw_log=write_bw",
                 "--write_iops_log=write_iops", "--log_avg_msec=500")
    count, rate = group["write"]["total_ios"], group["write"]["iops"]
    wait_for("the last request to be counted", lambda: stats(volume)["operations"]["write"]["count"] == count)
    told = stats(volume)["operations"]["write"]
    assert (told["count"], told["bytes"]) == (count, count * 32768), (told, count)
    volume.umount()
    fio_logs(ws, [f"write_{name}_{name}.{job}.log" for name in ("bw", "iops") for job in range(1, 9)])
    lines = log_of(prefix, "iops")
    assert abs(operations(lines, 500) - count) <= 0.05 * count, (lines, count)
    # Windows in which it ran from end to end.
    whole = [line[1] for line in lines[1:-1]]
    assert abs(sum(whole) / len(whole) - rate) <= 0.1 * rate, (lines, rate)
    for line, rate_line in zip(log_of(prefix, "bw"), lines):
        assert abs(line[1] - rate_line[1] * 32) <= 0.02 * line[1] + 32, (line, rate_line)
    assert log_of(prefix, "lat")
