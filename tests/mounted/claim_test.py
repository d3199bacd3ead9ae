# SPDX-License-Identifier: GPL-2.0-or-later
"""Legs that machines share: one mount at a time. A machine here is a name, a machine-id, a boot and a /run of its own,
and loop devices of its own on the images, so that no lock of this kernel keeps it off."""
import contextlib
import os
import signal
import struct
import subprocess
import uuid

from cases import FULL, LONG, case
from ondisk import LABEL_SLOTS
from workspace import alive, wait_for

BEAT = "heartbeat=1"  # seconds; a leg is given up after 8 of them, and taken over after 24
SETUP = """
hostname "$1"
mount --bind "$2/id" /etc/machine-id
mount --bind "$2/boot" /proc/sys/kernel/random/boot_id
mkdir -p /run/mirrorfs
mount --bind "$2/run" /run/mirrorfs
echo ready
exec sleep infinity
"""


class Machine:
    def __init__(self, ws, name, images, machine=None):
        self.ws, self.name = ws, name
        self.mnt = ws.folder(f"{name}.mnt")
        folder = ws.folder(name)
        os.makedirs(os.path.join(folder, "run"))
        for file, text in ("id", (machine or uuid.uuid4()).hex), ("boot", str(uuid.uuid4())):
            with open(os.path.join(folder, file), "w", encoding="ascii") as out:
                out.write(text + "\n")
        self.legs = [ws.loop(image) for image in images]
        self.init = subprocess.Popen(["unshare", "-m", "-u", "--propagation", "private", "sh", "-ec", SETUP, "sh",
                                      name, folder], stdout=subprocess.PIPE, text=True)
        assert self.init.stdout.readline() == "ready\n", f"{name} cannot be set up"

    def run(self, command, *words, **more):
        tool = os.path.join(self.ws.tools, command)
        words = [tool if os.path.exists(tool) else command, *words]
        return self.ws.run("nsenter", "-t", self.init.pid, "-m", "-u", *words, **more)

    def mount(self, *options, **more):
        return self.run("mirrorfs", "-o", ",".join(("rw", *options)), *self.legs, self.mnt, **more)

    def daemon(self):
        """Of its mount, by the mount point."""
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
                if words[-2:-1] == [os.fsencode(self.mnt)] and words[0].endswith(b"mirrorfs"):
                    return int(pid)
        raise AssertionError(f"{self.name} has no daemon")

    def umount(self):
        """And the daemon has written its last."""
        pid = self.daemon()
        self.run("umount", self.mnt)
        wait_for(f"the end of the daemon of {self.name}", lambda: not alive(pid))

    def kill(self):
        pid = self.daemon()
        os.kill(pid, signal.SIGKILL)
        wait_for("the end of a killed daemon", lambda: not alive(pid))
        self.run("umount", "-l", self.mnt)

    def write(self, name, text, ok=True):
        return self.run("sh", "-c", f'printf %s "$2" >"$1" && sync "$1"', "sh", os.path.join(self.mnt, name), text,
                        ok=ok)

    def read(self, name):
        return self.run("cat", os.path.join(self.mnt, name)).stdout

    def legs_told(self):
        return self.run("mirrorctl", "--json", "status", self.mnt, ok=False).stdout


@contextlib.contextmanager
def machines(ws, *names, **more):
    """Which see the same two legs, of a volume that is made."""
    images = [ws.join("left"), ws.join("right")]
    ws.run("mkfs.mirrorfs", "--shared", "-s", "64M", *images)
    there = [Machine(ws, name, images, **more) for name in names]
    try:
        yield there
    finally:
        for machine in there:
            machine.init.kill()
            machine.init.wait()
            machine.init.stdout.close()


NEEDS = ("loop", "namespaces", "unshare", "nsenter")


@case(FULL, needs=NEEDS)
def a_volume_is_mounted_on_one_machine_at_a_time(ws):
    with machines(ws, "anvil", "bellows") as (anvil, bellows):
        anvil.mount()
        anvil.write("file", "of anvil")
        told = anvil.legs_told()
        assert told.count('"claim"') == 2, told
        for tool, words in ("mirrorfs", [*bellows.legs, bellows.mnt]), ("fsck.mirrorfs", ["-n", *bellows.legs]):
            done = bellows.run(tool, *words, ok=False)
            assert done.returncode == (32 if tool == "mirrorfs" else 8), done.returncode
            assert "claimed by anvil since" in done.stderr and "takeover" in done.stderr, done.stderr
        anvil.write("file", "of anvil again")
        anvil.umount()
        bellows.mount()
        assert bellows.read("file") == "of anvil again"
        bellows.umount()
        bellows.run("fsck.mirrorfs", "-n", "-f", *bellows.legs)


@case(LONG, needs=NEEDS, timeout=300)
def who_was_taken_for_dead_writes_nothing_any_more(ws):
    with machines(ws, "anvil", "bellows") as (anvil, bellows):
        anvil.mount(BEAT)
        anvil.write("file", "of anvil")
        stopped = anvil.daemon()
        os.kill(stopped, signal.SIGSTOP)
        try:
            assert bellows.mount("takeover", BEAT).returncode == 0
            bellows.write("file", "of bellows")
        finally:
            os.kill(stopped, signal.SIGCONT)
        assert anvil.write("other", "too late", ok=False).returncode
        wait_for("the old mount to be read-only by error",
                 lambda: "claim" in anvil.legs_told() and '"failed"' in anvil.legs_told())
        anvil.umount()
        assert bellows.read("file") == "of bellows"
        bellows.write("file", "of bellows again")
        bellows.umount()
        bellows.run("fsck.mirrorfs", "-n", "-f", "--data", *bellows.legs)


@case(LONG, needs=NEEDS, timeout=300)
def after_a_crash_a_machine_takes_its_own_claim_and_no_other_does(ws):
    with machines(ws, "anvil", "bellows") as (anvil, bellows):
        anvil.mount(BEAT)
        anvil.write("file", "of anvil")
        anvil.kill()
        assert bellows.mount(ok=False).returncode == 32
        done = bellows.run("mkfs.mirrorfs", "--shared", *bellows.legs, ok=False)
        assert done.returncode == 1, done.stderr
        assert "watching" in anvil.mount(BEAT).stderr
        assert anvil.read("file") == "of anvil"
        # Whoever insists finds that it lives.
        for tool, words in ("mirrorfs", ["-o", "takeover", *bellows.legs, bellows.mnt]), ("mkfs.mirrorfs", [
                "-f", *bellows.legs]):
            done = bellows.run(tool, *words, ok=False)
            assert done.returncode and "in use on another machine" in done.stderr, done.stderr
        anvil.umount()


def sequence(image):
    """Of the newest label."""
    with open(image, "rb") as file:
        label = file.read(1 << 20)
    return max(struct.unpack_from("<Q", label, slot + 32)[0] for slot in LABEL_SLOTS)


@case(FULL)
def legs_are_claimed_from_when_they_are_said_to_be_shared(ws):
    volume = ws.volume(size="64M")
    volume.mount("heartbeat=0.5")
    assert not any("claim" in leg for leg in volume.status()[0]["legs"])
    before = [sequence(image) for image in volume.images]
    ws.run("mirrorctl", "set", volume.mnt, "shared=yes")
    wait_for("beats", lambda: all(sequence(image) > old + 3 for image, old in zip(volume.images, before)))
    assert "claimed since" in ws.run("mirrorctl", "status", volume.mnt).stdout
    volume.remount()
    assert all("claim" in leg for leg in volume.status()[0]["legs"])
    ws.run("mirrorctl", "set", volume.mnt, "shared=no")
    assert not any("claim" in leg for leg in volume.status()[0]["legs"])
    volume.umount()
