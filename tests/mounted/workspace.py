# SPDX-License-Identifier: GPL-2.0-or-later
"""A folder in which one test makes, mounts and breaks volumes, and which takes everything down with it."""
import json
import os
import shutil
import signal
import struct
import subprocess
import time

from cases import Skip

MIB = 1 << 20
SPACE_OFFSET = MIB  # of the mirrored space on a leg; see mirrorfs(5)
HEAP_START, HEAP_BLOCKS = 160, 168  # fields of the superblock
BLOCK = 4096
PATIENCE = 60  # seconds for whatever should come soon


def wait_for(what, condition, seconds=PATIENCE):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"waited {seconds} s in vain: {what}"
        time.sleep(0.02)


def mounts_below(folder):
    """Mount points under the folder, innermost first."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as info:
        points = [line.split()[4].encode().decode("unicode_escape") for line in info]
    return sorted((p for p in points if p == folder or p.startswith(folder + "/")), key=len, reverse=True)


def mounted(point):
    return point in mounts_below(point)


def daemons(names=("mirrorfs",)):
    """(pid, words of its command line) of every process of these names that this user can see."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = [os.fsdecode(word) for word in file.read().rstrip(b"\0").split(b"\0")]
        except OSError:
            continue
        if os.path.basename(words[0]) in names:
            yield int(pid), words


def daemon_of(point):
    """The pid of the mirrorfs that serves this mount point, or None."""
    return next((pid for pid, words in daemons() if words[-1] == point), None)


def holds_files_in(pid, folder):
    try:
        return any(os.readlink(f"/proc/{pid}/fd/{fd}").startswith(folder + "/") for fd in os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return False


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def sweep(folder):
    """Ends whatever still lives in the folder and removes it."""
    for pid, words in daemons(("mirrorfs", "passthrough")):
        if any(folder in word for word in words) or holds_files_in(pid, folder):
            os.kill(pid, signal.SIGKILL)
    for point in mounts_below(folder):
        command = ["umount", "-l"] if os.geteuid() == 0 else ["fusermount3", "-u", "-z"]
        subprocess.run([*command, point], check=False)
    if os.geteuid() == 0 and shutil.which("losetup"):
        listed = subprocess.run(["losetup", "-n", "-l", "-O", "NAME,BACK-FILE"], text=True, capture_output=True,
                                check=False).stdout
        for line in listed.splitlines():
            name, _, file = line.partition(" ")
            if file.strip().startswith(folder + "/"):
                subprocess.run(["losetup", "-d", name], check=False)
    shutil.rmtree(folder, ignore_errors=True)


class Workspace:
    """`path`: the folder; `tools`: where the programs under test are; `transport`: that volumes are mounted with."""

    def __init__(self, path, tools, transport="auto"):
        self.path = path
        self.tools = tools
        self.transport = transport

    def join(self, *names):
        return os.path.join(self.path, *names)

    def folder(self, name):
        os.makedirs(self.join(name), exist_ok=True)
        return self.join(name)

    def run(self, *command, ok=True, user=None, timeout=PATIENCE * 5, **more):
        """Runs a command; `ok`: it must succeed. Tools under test go by their bare name."""
        command = [str(word) for word in command]
        tool = os.path.join(self.tools, command[0])
        if os.path.exists(tool):
            command[0] = tool
        if user is not None:
            command = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *command]
        print("$", " ".join(command), flush=True)
        done = subprocess.run(command, text=True, capture_output=True, timeout=timeout, check=False,
                              stdin=subprocess.DEVNULL, errors="surrogateescape", **more)
        said = (done.stdout + done.stderr).encode(errors="replace").decode()
        print(said[-4000:], end="" if not said or said.endswith("\n") else "\n", flush=True)
        if ok:
            assert done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}"
        return done

    def loop(self, path):
        done = self.run("losetup", "-f", "--show", path, ok=False)
        if done.returncode:
            raise Skip("loop: " + done.stderr.strip())
        return done.stdout.strip()

    def volume(self, name="v", **more):
        return Volume(self, name, **more)


class Volume:
    """Two legs and a mount point. `loop`: block devices on the image files. `user`: a uid that does it all."""

    def __init__(self, ws, name, size="256M", loop=False, user=None, make=True, legs=2):
        self.ws = ws
        self.user = user
        self.images = [ws.join(f"{name}.leg{i}") for i in range(legs)]
        self.legs = list(self.images)
        self.mnt = ws.folder(f"{name}.mnt")
        self.pid = None
        if user is not None:
            os.chmod(ws.path, 0o777)
            os.chown(self.mnt, user, user)
        if make and loop:
            for i, image in enumerate(self.images):
                ws.run("truncate", "-s", size, image)
                self.legs[i] = ws.loop(image)
            self.make()
        elif make:
            self.make("-s", size)

    def make(self, *options):
        self.ws.run("mkfs.mirrorfs", *options, *self.legs, user=self.user)

    def mount(self, *options, legs=None, faults=None, ok=True, **more):
        """`options`: words for -o. `faults`: {leg: RULES}. Returns what the mount command said."""
        legs = list(self.legs if legs is None else legs)
        for leg, rules in (faults or {}).items():
            legs[leg] = f"fault:{rules}:{legs[leg]}"
        if self.ws.transport != "auto":
            options = (f"transport={self.ws.transport}", *options)
        words = ["-o", ",".join(options)] if options else []
        done = self.ws.run("mirrorfs", *words, *legs, self.mnt, ok=ok, user=self.user, **more)
        if done.returncode == 0:
            assert mounted(self.mnt), "mirrorfs said that it had mounted, and has not"
            self.pid = daemon_of(self.mnt)
            assert self.pid, "no daemon serves the mount"
        return done

    def wait_end(self):
        """The daemon goes on writing when umount has returned: waits for its end."""
        wait_for(f"the end of the daemon {self.pid}", lambda: not alive(self.pid))
        self.pid = None

    def umount(self):
        if os.geteuid() == 0 and self.user is None:
            self.ws.run("umount", self.mnt)
        else:
            self.ws.run("fusermount3", "-u", self.mnt, user=self.user)
        self.wait_end()

    def remount(self, *options, **more):
        self.umount()
        return self.mount(*options, **more)

    def kill(self, threads=()):
        """SIGKILL, and the dead mount point cleared, but not before these threads have ended: the next call of one
        that is in the middle of something would reach the folder below the mount point and succeed there."""
        pid, self.pid = self.pid, None
        os.kill(pid, signal.SIGKILL)
        wait_for("the end of a killed daemon", lambda: not alive(pid))
        for thread in threads:
            thread.join()
        self.ws.run("umount", "-l", self.mnt)

    def path(self, *names):
        return os.path.join(self.mnt, *names)

    def status(self):
        """What mirrorctl tells, and its exit status."""
        done = self.ws.run("mirrorctl", "--json", "status", self.mnt, ok=False, user=self.user)
        return json.loads(done.stdout)["result"], done.returncode

    def scrub(self, ok=True):
        return self.ws.run("mirrorctl", "scrub", self.mnt, ok=ok, user=self.user)

    def counted_nothing_forbidden(self):
        """No empty or misaligned request went anywhere, and no request error was charged to a leg."""
        told, _ = self.status()
        assert told["mirror"]["empty_refused"] == 0, told["mirror"]
        for leg in told["legs"]:
            assert leg["io"]["empty_refused"] == 0, leg
            assert leg["io"]["unaligned_refused"] == 0, leg
        return told

    def heap(self, leg):
        """(start, length) in bytes of a leg's heap: where all trees and all file data lie."""
        with open(self.legs[leg], "rb") as file:
            file.seek(SPACE_OFFSET)
            super_block = file.read(BLOCK)
        start, = struct.unpack_from("<Q", super_block, HEAP_START)
        blocks, = struct.unpack_from("<Q", super_block, HEAP_BLOCKS)
        assert start and blocks, f"{self.legs[leg]}: no superblock"
        return SPACE_OFFSET + start * BLOCK, blocks * BLOCK

    def rot(self, leg):
        """Overwrites the whole heap of a leg with random bytes."""
        start, length = self.heap(leg)
        print(f"leg {leg}: {length} random bytes from {start} on", flush=True)
        with open(self.legs[leg], "r+b") as file:
            file.seek(start)
            for left in range(length, 0, -MIB):
                file.write(os.urandom(min(MIB, left)))
            file.flush()
            os.fsync(file.fileno())


def mount(ws, *options):
    """A new volume, mounted, in which the test stands and any user may work."""
    volume = ws.volume()
    volume.mount(*options)
    os.chmod(ws.path, 0o755)
    os.chdir(volume.mnt)
    return volume


def end(volume):
    """Unmounts; a check finds everything in order."""
    os.chdir("/")
    volume.umount()
    volume.ws.run("fsck.mirrorfs", "-n", "-f", "--data", *volume.legs)
