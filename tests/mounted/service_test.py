# SPDX-License-Identifier: GPL-2.0-or-later
"""mirrorfs as a service: what it tells systemd and the journal, and how it ends. Both are played by the test."""
import os
import re
import shlex
import signal
import socket
import subprocess

import system
import trees
from cases import FULL, LONG, QUICK, case
from faults_test import Far
from workspace import alive, daemon_of, mounted, wait_for

PATIENCE = 60


class Listener:
    """A socket that takes datagrams, as systemd and journald have."""

    def __init__(self, path):
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path)
        self.socket.settimeout(PATIENCE)

    def until(self, wanted):
        """The datagrams up to the one in which `wanted` is a line, or the beginning of one that ends with "..."."""
        told = []
        while True:
            told.append(self.socket.recv(65536).decode().rstrip("\n").split("\n"))
            print(told[-1], flush=True)
            if any(line == wanted or (wanted.endswith("...") and line.startswith(wanted[:-3])) for line in told[-1]):
                return told


def start(ws, command, notify, **environment):
    tool = os.path.join(ws.tools, command[0])
    return subprocess.Popen([tool if os.path.exists(tool) else command[0], *command[1:]], stdin=subprocess.DEVNULL,
                            env={**os.environ, "NOTIFY_SOCKET": notify, **environment})


@case(QUICK)
def systemd_is_told_of_the_start_of_what_befalls_and_of_the_end(ws):
    volume = ws.volume(size="64M")
    for name in (ws.join("notify"), f"@mirrorfs-test-{os.getpid()}"):
        systemd = Listener(name.replace("@", "\0"))
        process = start(ws, ["mirrorfs", "-f", *volume.legs, volume.mnt], name)
        told = systemd.until("READY=1")
        assert mounted(volume.mnt), "it is not ready"
        assert f"MAINPID={process.pid}" in told[-1] and told[0][0].startswith("STATUS="), told
        trees.write(volume.path("file"), b"it works")
        ws.run("mirrorctl", "detach", volume.mnt, "1")
        assert "leg 1" in systemd.until("STATUS=leg 1 ...")[-1][0]
        ws.run("mirrorctl", "attach", volume.mnt, volume.legs[1])
        systemd.until("STATUS=leg 1 is in-sync...")
        process.send_signal(signal.SIGTERM)
        systemd.until("STOPPING=1")
        assert process.wait(PATIENCE) == 0
        assert not mounted(volume.mnt)


@case(QUICK)
def a_background_service_names_its_daemon(ws):
    volume = ws.volume(size="64M")
    systemd = Listener(ws.join("notify"))
    assert start(ws, ["mirrorfs", *volume.legs, volume.mnt], systemd.path).wait(PATIENCE) == 0
    volume.pid = daemon_of(volume.mnt)
    assert f"MAINPID={volume.pid}" in systemd.until("READY=1")[-1]
    volume.umount()
    systemd.until("STOPPING=1")


@case(FULL, needs=["root"])
def the_unit_starts_and_stops_a_volume(ws):
    """Its command, with what systemd puts into it, for a path that systemd would escape."""
    with open(os.path.join(ws.tools, "system/mirrorfs@.service"), encoding="utf-8") as file:
        unit = file.read()
    assert "Type=notify" in unit
    command = re.search(r"^ExecStart=(.*)$", unit, re.MULTILINE)[1]
    volume = ws.volume(size="64M")
    values = {"${OPTIONS}": ["commit=1,noatime"], "$LEGS": volume.legs, "%f": [volume.mnt]}
    words = [word for part in shlex.split(command) for word in values.get(part, [part])]
    systemd = Listener(ws.join("notify"))
    process = start(ws, ["mirrorfs", *words[1:]], systemd.path)
    systemd.until("READY=1")
    options, source = system.mount_options(volume.mnt)[0]
    assert "noatime" in options and source == volume.legs[0]
    # Killed, it is started anew, where the dead mount still lies.
    process.kill()
    process.wait()
    process = start(ws, ["mirrorfs", *words[1:]], systemd.path)
    systemd.until("READY=1")
    trees.write(volume.path("file"), b"it works")
    process.terminate()
    assert process.wait(PATIENCE) == 0 and not mounted(volume.mnt)


@case(FULL, needs=["systemd-analyze"])
def systemd_understands_the_unit(ws):
    with open(os.path.join(ws.tools, "system/mirrorfs@.service"), encoding="utf-8") as file:
        unit = file.read()
    path = ws.join("mirrorfs@srv-photos.service")
    trees.write(path, re.sub(r"=\S+/mirrorfs ", f"={ws.tools}/mirrorfs ", unit).encode())
    done = ws.run("systemd-analyze", "verify", "--man=no", path)
    assert "mirrorfs@" not in done.stderr, done.stderr


@case(FULL, needs=["root"])
def the_journal_has_fields_to_look_for(ws):
    volume = ws.volume(size="64M", make=False)
    volume.make("-s", "64M", "-L", "photos")
    system.enter(ws)
    system.own(ws, "/run/systemd/journal")
    journal = Listener("/run/systemd/journal/socket")
    volume.mount()
    first = journal.until("MESSAGE=mounted ...")[-1]
    uuid = volume.status()[0]["volume"]["uuid"]
    wanted = {"PRIORITY=6", "SYSLOG_FACILITY=3", "SYSLOG_IDENTIFIER=mirrorfs", f"SYSLOG_PID={volume.pid}",
              f"MIRRORFS_VOLUME={uuid}", "MIRRORFS_LABEL=photos", f"MIRRORFS_MOUNTPOINT={volume.mnt}"}
    assert wanted <= set(first), first
    ws.run("mirrorctl", "detach", volume.mnt, "1")
    state = journal.until("MIRRORFS_LEG=1")[-1]
    assert {f"MIRRORFS_PATH={volume.legs[1]}", f"MIRRORFS_VOLUME={uuid}", "MIRRORFS_FROM=in-sync",
            "MIRRORFS_REASON=detached"} <= set(state), state
    ws.run("umount", volume.mnt)


@case(FULL, timeout=200)
def who_waits_for_the_end_is_told_which_leg_is_held(ws):
    """A leg that does not give its requests back cannot be closed: the mount goes, and its name is told."""
    far = Far(ws)
    volume = far.volume()
    volume.mount("leg-timeout=0.5", "deadline=2", "commit=0.2")
    far.stop()
    try:
        trees.write(volume.path("file"), b"x" * 100000)
        wait_for("leg 0 to be given up", lambda: volume.status()[0]["legs"][0]["state"] == "offline")
        done = ws.run("mirrorctl", "umount", volume.mnt, ok=False)
        assert done.returncode == 1, done.returncode
        assert "leg 0" in done.stderr and volume.legs[0] in done.stderr, done.stderr
        assert not mounted(volume.mnt)
    finally:
        far.go_on()
    wait_for("the kernel to let go of it", lambda: not alive(volume.pid))
    far.end()


@case(LONG, needs=["root"], timeout=200)
def a_service_in_use_ends_in_time(ws):
    """Whoever still uses the mount when systemd stops it gets a minute, then errors; nothing is lost."""
    volume = ws.volume(size="64M")
    here = not os.listdir("/sys/fs/fuse/connections")
    if here:
        ws.run("mount", "-t", "fusectl", "none", "/sys/fs/fuse/connections")
    systemd = Listener(ws.join("notify"))
    process = start(ws, ["mirrorfs", "-f", "-o", "commit=600", *volume.legs, volume.mnt], systemd.path)
    systemd.until("READY=1")
    file = open(volume.path("file"), "wb", buffering=0)
    file.write(b"first")
    process.terminate()
    wait_for("the mount point to be free", lambda: not mounted(volume.mnt))
    file.write(b", last")
    assert process.wait(90) == 0
    try:
        file.write(b"nobody there")
        raise AssertionError("it was written nowhere")
    except OSError:
        pass
    if here:
        ws.run("umount", "/sys/fs/fuse/connections")
    volume.mount()
    assert trees.read(volume.path("file")) == b"first, last"
    volume.umount()
