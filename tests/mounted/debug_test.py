# SPDX-License-Identifier: GPL-2.0-or-later
"""What helps whoever has to find out what is wrong: debug lines, what is in flight, a last line, probes."""
import os
import re
import signal
import subprocess
import threading

import trees
from cases import FULL, QUICK, case
from stats_test import write_direct
from workspace import mounted, wait_for


class Foreground:
    """A daemon in the foreground, whose log is a file."""

    def __init__(self, volume, *options, **environment):
        self.volume = volume
        self.path = volume.ws.join("log")
        with open(self.path, "wb") as log:
            self.process = subprocess.Popen(  # pylint: disable=consider-using-with
                [os.path.join(volume.ws.tools, "mirrorfs"), "-f", *options, *volume.legs, volume.mnt], stderr=log,
                stdout=log, env={**os.environ, **environment})
        wait_for("the mount", lambda: mounted(volume.mnt) and "mounted " in self.log())

    def log(self):
        return trees.read(self.path).decode()

    def end(self):
        self.volume.ws.run("umount", self.volume.mnt)
        self.process.wait()


@case(QUICK)
def debug_lines_are_those_of_the_storeys_that_are_named(ws):
    volume = ws.volume(size="64M")
    daemon = Foreground(volume, MIRRORFS_DEBUG="leg,meta")
    write_direct(volume.path("file"), 1)
    daemon.end()
    said = daemon.log()
    assert "completed op=1 " in said and "checkpoint generation=" in said, said
    assert "answered op=" not in said and "request op=" not in said, said
    refused = ws.run("mirrorfs", *volume.legs, volume.mnt, ok=False, env={**os.environ, "MIRRORFS_DEBUG": "leg,roof"})
    assert refused.returncode == 1 and "MIRRORFS_DEBUG=leg,roof: there are base, leg," in refused.stderr, refused


@case(FULL)
def what_is_in_flight_is_told_on_sigusr1(ws):
    volume = ws.volume(size="64M")
    daemon = Foreground(volume, "-o", "leg-timeout=30,deadline=60")
    ws.run("mirrorctl", "drill", volume.mnt, "1", "any,hang", "600")
    writer = threading.Thread(target=write_direct, args=(volume.path("file"), 1))
    writer.start()
    wait_for("a request that hangs", lambda: [leg["queue"] > 0 for leg in volume.status()[0]["legs"]] == [False, True])
    daemon.process.send_signal(signal.SIGUSR1)
    wait_for("the dump", lambda: "in flight: leg=1" in daemon.log())
    said = daemon.log()
    assert re.search(r"in flight: request op=write node=\d+ pid=\d+ since_ms=\d+", said), said
    assert re.search(r"in flight: leg=1 op=write block=\d+ count=1 since_ms=\d+", said), said
    assert "in flight: leg=0" not in said, said
    ws.run("mirrorctl", "drill", volume.mnt, "1", "off")
    writer.join()
    daemon.end()


@case(FULL)
def a_fault_leaves_a_last_line(ws):
    volume = ws.volume(size="64M")
    for fault in signal.SIGSEGV, signal.SIGABRT:
        daemon = Foreground(volume)
        daemon.process.send_signal(fault)
        assert daemon.process.wait() == -fault
        last = daemon.log().splitlines()[-1]
        assert f"ended by a fault: signal={fault.name} thread=" in last and " at=0x" in last, last
        ws.run("umount", "-l", volume.mnt)


@case(FULL, needs=("readelf",))
def the_probes_are_in_the_program_and_in_the_manual(ws):
    notes = ws.run("readelf", "-n", os.path.join(ws.tools, "mirrorfs")).stdout
    found = set(re.findall(r"Provider: mirrorfs\s+Name: (\w+)", notes))
    page = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "man", "mirrorfs.8")
    told = set(re.findall(r"^\.It Cm (\w+_(?:begin|end)) Pq", trees.read(page).decode(), re.MULTILINE))
    assert found == told and len(found) == 6, (found, told)
