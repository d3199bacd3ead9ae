# SPDX-License-Identifier: GPL-2.0-or-later
"""Faults from below, as the kernel tells them: of a leg's file, of its filesystem, of the process that serves that.

Each test first sees for itself that its fault is there. All the while, programs write and read back what they wrote.
"""
import contextlib
import errno
import mmap
import os
import signal
import subprocess
import threading
import time

import trees
from cases import FULL, LONG, case
from resync_test import clean, healthy, is_whole
from workspace import BLOCK, MIB, alive, daemon_of, mounted, wait_for

DEGRADED = 3  # exit status of mirrorctl


class Far:
    """A folder that shows another one, through a process that may be stopped, killed, or told to hold answers back."""

    def __init__(self, ws):
        self.ws = ws
        self.near, self.path = ws.folder("near"), ws.folder("far")
        self.hold = ws.join("hold")
        self.process = None
        self.start()

    def start(self):
        program = os.path.join(self.ws.tools, "..", "tests", "mounted", "passthrough")
        self.process = subprocess.Popen([program, self.near, self.path, self.hold])
        wait_for("a filesystem to be mounted", lambda: mounted(self.path))

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        """Stops the process, and returns when it has stopped."""
        self.process.send_signal(signal.SIGSTOP)
        wait_for("a process to be stopped", lambda: trees.read(f"/proc/{self.process.pid}/stat").split()[2] == b"T")

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)

    def clear(self):
        self.ws.run(*(["umount", "-l"] if os.geteuid() == 0 else ["fusermount3", "-uz"]), self.path)

    def end(self):
        self.clear()
        wait_for("a filesystem to end", lambda: self.process.poll() is not None)

    def volume(self, **more):
        """Leg 0 is on it."""
        volume = self.ws.volume(make=False, **more)
        volume.images[0] = volume.legs[0] = os.path.join(self.path, "leg0")
        volume.make("-s", "256M")
        return volume


class Programs:
    """fio on a mount, run after run, each of which verifies what it wrote."""

    def __init__(self, volume):
        self.volume, self.ws = volume, volume.ws
        self.runs, self.wrong = 0, []
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.work)

    def work(self):
        while not self.stop.is_set() and not self.wrong:
            job = self.runs % 3
            done = subprocess.run(
                ["fio", f"--name=programs{job}", f"--directory={self.volume.mnt}", "--size=8M", "--rw=randrw",
                 "--bsrange=512-64k", "--bs_unaligned" if job == 1 else "--blockalign=4k", f"--randseed={self.runs}",
                 f"--direct={int(job == 0)}", f"--fsync={16 if job == 2 else 0}", "--ioengine=psync", "--verify=crc32c",
                 "--verify_fatal=1", "--verify_backlog=64", "--verify_state_save=0", "--minimal"],
                text=True, capture_output=True, check=False, stdin=subprocess.DEVNULL)
            if done.returncode:
                self.wrong.append(done.stdout + done.stderr)
            self.runs += 1

    def more(self, count=2):
        """Waits until so many runs have begun and ended from now on."""
        until = self.runs + count + 1
        wait_for("programs to get on", lambda: self.wrong or self.runs >= until, 100)

    def __enter__(self):
        self.thread.start()
        self.more(1)
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()
        assert not self.wrong, self.wrong


def raw_read(path):
    """0, or the errno of a read that passes by every cache."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
        with open(fd, "rb", buffering=0) as file, mmap.mmap(-1, BLOCK) as aligned:
            return 0 if os.preadv(file.fileno(), [aligned], MIB) == BLOCK else errno.ENODATA
    except OSError as error:
        return error.errno


def legs_told(volume):
    """Their states, and what the healthy one of a degraded volume was charged with: nothing."""
    told, status = volume.status()
    states = [leg["state"] for leg in told["legs"]]
    for i, state in enumerate(states):
        assert state != "in-sync" or told["legs"][i]["charged"] == 0, told["legs"][i]
    assert (status == DEGRADED) == (states != ["in-sync"] * 2), (status, states)
    return states


def returns(volume, leg):
    """Under the programs: the leg is attached again, and filled."""
    volume.ws.run("mirrorctl", "attach", volume.mnt, volume.legs[leg])
    return healthy(volume)


def all_is_right(volume, leg):
    """Also on this leg alone."""
    clean(volume)
    volume.counted_nothing_forbidden()
    expected = trees.manifest(volume.mnt)
    volume.umount()
    is_whole(volume, leg, expected)


@case(FULL, needs=["fio"], timeout=200)
def the_server_of_a_legs_filesystem_may_be_killed(ws):
    far = Far(ws)
    volume = far.volume()
    volume.mount()
    with Programs(volume) as programs:
        assert raw_read(volume.legs[0]) == 0
        far.kill()
        assert raw_read(volume.legs[0]) == errno.ENOTCONN
        programs.more()
        assert legs_told(volume) == ["offline", "in-sync"]
        far.clear()
        far.start()
        returns(volume, 0)
        programs.more()
    all_is_right(volume, 0)
    far.end()


@case(FULL, needs=["fio"], timeout=200)
def the_server_of_a_legs_filesystem_may_be_stopped(ws):
    far = Far(ws)
    volume = far.volume()
    volume.mount("leg-timeout=1")
    with Programs(volume) as programs:
        assert raw_read(volume.legs[0]) == 0
        far.stop()
        proof = subprocess.Popen(["dd", f"if={volume.legs[0]}", "of=/dev/null", "count=1", "bs=4k", "iflag=direct"])
        programs.more()
        assert proof.poll() is None, "the leg still answers"
        assert legs_told(volume) == ["offline", "in-sync"]
        told, _ = volume.status()
        assert told["legs"][0]["abandoned"] > 0, told["legs"][0]
        done = ws.run("mirrorctl", "attach", volume.mnt, volume.legs[0], ok=False)
        assert done.returncode == 1 and "given back" in done.stderr, "it has requests that may still land"
        far.go_on()
        assert proof.wait() == 0
        wait_for("requests to be given back", lambda: volume.status()[0]["legs"][0]["abandoned"] == 0)
        returns(volume, 0)
        programs.more()
    all_is_right(volume, 0)
    far.end()


@case(LONG)
def a_leg_that_is_replaced_may_hang_from_then_on(ws):
    far = Far(ws)
    volume = far.volume()
    volume.mount("leg-timeout=2", legs=volume.legs)
    trees.write(volume.path("file"), trees.pattern(4 * MIB))
    ws.run("truncate", "-s", "256M", ws.join("new"))
    ws.run("mirrorctl", "resync", volume.mnt, "limit=256K")
    ws.run("mirrorctl", "replace", volume.mnt, "0", ws.join("new"))
    far.stop()
    ws.run("mirrorctl", "resync", volume.mnt, "limit=0")
    assert legs_told(volume) == ["in-sync"] * 2
    expected = trees.manifest(volume.mnt)
    ws.run("umount", volume.mnt, timeout=60)
    wait_for("the other legs to be free",
             lambda: ws.run("fsck.mirrorfs", "-n", ws.join("new"), volume.legs[1], ok=False).returncode == 0)
    far.go_on()
    volume.wait_end()
    volume.legs[0] = ws.join("new")
    is_whole(volume, 0, expected)
    far.end()


@case(FULL, needs=["fio"], timeout=200)
def a_legs_image_may_be_truncated(ws):
    volume = ws.volume()
    volume.mount()
    size = os.stat(volume.legs[0]).st_size
    with Programs(volume) as programs:
        os.truncate(volume.legs[0], MIB)
        # It may be longer again by what was written since.
        assert raw_read(volume.legs[0]) == errno.ENODATA or os.stat(volume.legs[0]).st_size < size
        programs.more()
        told, _ = volume.status()
        assert told["legs"][1]["charged"] == 0, told["legs"][1]
        if told["legs"][0]["state"] != "in-sync":
            os.truncate(volume.legs[0], size)
            returns(volume, 0)
        programs.more()
    os.truncate(volume.legs[0], size)
    volume.scrub()
    all_is_right(volume, 0)


@case(FULL, needs=["fio"], timeout=200)
def a_legs_image_may_be_deleted_while_it_is_open(ws):
    volume = ws.volume()
    volume.mount()
    with Programs(volume) as programs:
        os.unlink(volume.legs[1])
        assert raw_read(volume.legs[1]) == errno.ENOENT
        wait_for("it to be noticed", lambda: volume.status()[0]["legs"][1]["leaving"])
        told, status = volume.status()
        assert status == DEGRADED and told["health"] == "degraded", told
        assert [leg["state"] for leg in told["legs"]] == ["in-sync"] * 2 and told["legs"][1]["charged"] == 0, told
        assert "mirrorctl replace" in ws.run("mirrorctl", "status", volume.mnt, ok=False).stdout
        programs.more(1)
        assert volume.status()[0]["legs"][1]["io"]["write"]["bytes"] > told["legs"][1]["io"]["write"]["bytes"]
        done = ws.run("mirrorctl", "detach", volume.mnt, "0", ok=False)
        assert done.returncode == 1 and "replace that first" in done.stderr, "the last leg with a name was let go"
        volume.legs[1] = ws.join("new")
        ws.run("truncate", "-s", "256M", volume.legs[1])
        ws.run("mirrorctl", "replace", volume.mnt, "1", volume.legs[1])
        healthy(volume)
        programs.more(1)
    all_is_right(volume, 1)


def full(folder):
    """Takes all the space of that filesystem: the file that has it, and that there is no more."""
    taken = os.path.join(folder, "taken")
    with open(taken, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(MIB))
        except OSError as error:
            assert error.errno == errno.ENOSPC
    return taken


def volume_in(ws, folder, legs):
    """A volume whose legs of these numbers are in that folder, which is a small filesystem."""
    os.mkdir(folder)
    ws.run("mount", "-t", "tmpfs", "-o", "size=100M", "legs", folder)
    volume = ws.volume(make=False)
    for leg in legs:
        volume.images[leg] = volume.legs[leg] = os.path.join(folder, f"leg{leg}")
    volume.make("-s", "256M")
    return volume


@case(FULL, needs=["fio", "root"], timeout=200)
def the_filesystem_of_one_legs_image_may_be_full(ws):
    folder = ws.join("small")
    volume = volume_in(ws, folder, [0])
    volume.mount()
    taken = full(folder)
    with Programs(volume) as programs:
        programs.more()
        assert legs_told(volume) == ["offline", "in-sync"]
        os.unlink(taken)
        returns(volume, 0)
        programs.more()
    all_is_right(volume, 0)
    ws.run("umount", folder)


@case(FULL, needs=["root"], timeout=200)
def legs_on_one_full_filesystem_are_both_kept(ws):
    folder = ws.join("small")
    volume = volume_in(ws, folder, [0, 1])
    volume.mount()
    trees.write(volume.path("before"), trees.pattern(4 * MIB))
    os.sync()
    fd = os.open(volume.path("file"), os.O_RDWR | os.O_CREAT)
    os.fsync(fd)
    taken = full(folder)
    failed = 0
    for number in range(20):
        os.pwrite(fd, trees.pattern(MIB, number), number * MIB)
        # An odd number of pages: the last one goes to one leg alone.
        os.truncate(taken, os.stat(taken).st_size - (2 * number + 1) * BLOCK)
        try:
            os.fsync(fd)
        except OSError as error:
            assert error.errno == errno.ENOSPC, error
            failed += 1
        assert legs_told(volume) == ["in-sync", "in-sync"]
    assert failed > 0, "it was not full"
    assert trees.read(volume.path("before")) == trees.pattern(4 * MIB)
    os.unlink(taken)
    os.fsync(fd)
    os.close(fd)
    assert volume.status()[1] == 0
    assert trees.read(volume.path("file")) == b"".join(trees.pattern(MIB, number) for number in range(20))
    all_is_right(volume, 0)
    ws.run("umount", folder)


@case(LONG, timeout=400)
def a_leg_whose_filesystem_hangs_fails_the_mount_by_name(ws):
    far = Far(ws)
    volume = far.volume()
    volume.mount()
    trees.write(volume.path("old"), trees.pattern(MIB))
    volume.umount()
    far.stop()
    done = volume.mount(ok=False)
    assert done.returncode and volume.legs[0] in done.stderr and "-o degraded" in done.stderr, done
    volume.mount("degraded")
    assert legs_told(volume) == ["absent", "in-sync"]
    trees.write(volume.path("new"), trees.pattern(MIB))
    done = ws.run("mirrorctl", "attach", volume.mnt, volume.legs[0], ok=False)
    assert done.returncode == 1 and "does not answer" in done.stderr, done
    assert trees.read(volume.path("old")) == trees.pattern(MIB)
    far.go_on()
    # The attempt that was given up may still have to let the leg go.
    attach = ("mirrorctl", "attach", volume.mnt, volume.legs[0])
    wait_for("the leg to be attached", lambda: ws.run(*attach, ok=False).returncode == 0)
    healthy(volume)
    all_is_right(volume, 0)
    far.end()


@case(LONG, timeout=400)
def a_leg_whose_filesystem_hangs_is_gone_where_a_leg_may_be_missing(ws):
    far = Far(ws)
    volume = far.volume()
    volume.mount()
    trees.write(volume.path("old"), trees.pattern(MIB))
    volume.umount()
    # One that was asked and does not answer: whoever asked cannot end, but nobody has to wait for that.
    trees.write(far.hold + ".names", b"")
    done = volume.mount(ok=False)
    assert done.returncode and volume.legs[0] in done.stderr and "-o degraded" in done.stderr, done
    volume.mount("degraded")
    ws.run("mirrorctl", "set", volume.mnt, "degraded=auto")
    os.unlink(far.hold + ".names")
    volume.remount()
    healthy(volume)
    volume.umount()
    trees.write(far.hold + ".names", b"")
    volume.mount()
    assert legs_told(volume) == ["absent", "in-sync"]
    assert trees.read(volume.path("old")) == trees.pattern(MIB)
    os.unlink(far.hold + ".names")
    volume.umount()
    far.end()


@case(FULL, timeout=200)
def who_is_killed_while_a_leg_hangs_keeps_its_lock_and_loses_nothing(ws):
    far = Far(ws)
    other = ws.volume("other")
    other.mount()  # whose volume the leg may be of is found out without reading it
    volume = far.volume()
    volume.mount()
    kept = {}

    def write(number):
        data = trees.pattern(100000, number)
        with open(volume.path(f"file {number}"), "wb", buffering=0) as file:
            file.write(data)
            os.fsync(file.fileno())
        kept[number] = data

    def write_on():
        with contextlib.suppress(OSError):
            write(len(kept))

    for number in range(20):
        write(number)
    trees.write(far.hold, b"")
    proof = subprocess.Popen(["dd", f"if={volume.legs[0]}", "of=/dev/null", "count=1", "bs=4k", "iflag=direct"])
    writer = threading.Thread(target=write_on)
    writer.start()
    # One that its server has not begun ends with who asked.
    wait_for("requests of dd and of the daemon to hang", lambda: os.path.getsize(far.hold) >= 2)
    assert volume.status()[0]["legs"][0]["io"]["in_flight"] > 0
    assert proof.poll() is None and len(kept) == 20, "the leg still answers"
    volume.kill([writer])
    words = [os.path.join(ws.tools, "mirrorfs"), *volume.legs, volume.mnt]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as mount:
        said = mount.stderr.readline()
        assert "waiting for a leg" in said and volume.legs[0] in said and "locked" in said, said
        assert not mounted(volume.mnt)
        os.unlink(far.hold)
        assert mount.wait() == 0
    assert proof.wait() == 0
    volume.pid = daemon_of(volume.mnt)
    healthy(volume)
    for number, data in kept.items():
        assert trees.read(volume.path(f"file {number}")) == data, number
    all_is_right(volume, 0)
    far.end()
    other.umount()


@case(FULL, needs=["fio"], timeout=200)
def a_stopped_daemon_charges_nobody(ws):
    volume = ws.volume()
    volume.mount("leg-timeout=1", "deadline=2")
    with Programs(volume) as programs:
        for _ in range(2):
            os.kill(volume.pid, signal.SIGSTOP)
            time.sleep(2.2)
            assert alive(volume.pid)
            os.kill(volume.pid, signal.SIGCONT)
            programs.more(1)
    told, _ = volume.status()
    assert legs_told(volume) == ["in-sync", "in-sync"]
    assert told["mirror"]["deadline_missed"] == 0 and all(leg["timeouts"] == 0 for leg in told["legs"]), told
    all_is_right(volume, 1)
