# SPDX-License-Identifier: GPL-2.0-or-later
"""mirrorctl events tells what has become of a volume, each thing once, with what it was like at that moment."""
import json
import os
import subprocess

import trees
from cases import FULL, QUICK, case
from debug_test import Foreground
from errors_test import outcome
from scrub_test import spoil
from workspace import BLOCK, MIB, wait_for


def events_of(volume):
    lines = volume.ws.run("mirrorctl", "--json", "events", volume.mnt).stdout.splitlines()
    return [json.loads(line) for line in lines]


def states_of(events, leg):
    return [event["state"]["legs"][leg]["state"] for event in events if event["kind"] == "leg-state"]


def spoiled_volume(ws):
    """Not mounted; it has a file of which block 40 is bad on leg 0, and block 50 on both."""
    volume, data = ws.volume(size="64M"), trees.pattern(4 * MIB)
    volume.mount()
    trees.write(volume.path("file"), data)
    volume.umount()
    for leg, block in (0, 40), (0, 50), (1, 50):
        spoil(volume, leg, data[block * BLOCK:(block + 1) * BLOCK])
    return volume


@case(QUICK)
def a_leg_that_goes_and_comes_back_is_told_step_by_step(ws):
    volume = ws.volume()
    volume.mount("commit=1")
    assert events_of(volume) == []
    with open(ws.join("told"), "w", encoding="utf-8") as out:
        follower = subprocess.Popen(  # pylint: disable=consider-using-with
            [os.path.join(ws.tools, "mirrorctl"), "events", "-f", volume.mnt], stdout=out)
    ws.run("mirrorctl", "detach", volume.mnt, "1")
    trees.write(volume.path("file"), trees.pattern(MIB))
    ws.run("mirrorctl", "attach", volume.mnt, volume.legs[1])
    ws.run("mirrorctl", "resync", volume.mnt, ok=False)
    volume.scrub()
    wait_for("the end of a scrub", lambda: [e for e in events_of(volume) if e["kind"] == "scrub-ended"])
    events = events_of(volume)
    assert states_of(events, 1) == ["offline", "absent", "stale", "resync", "in-sync"], events
    assert [event["kind"] for event in events[-2:]] == ["resync-ended", "scrub-ended"], events
    assert [event["number"] for event in events] == list(range(1, 8)), events
    assert events[0]["state"]["lacking_leg"] == 1 and events[0]["state"]["lacks_after"] > 0, events[0]
    assert events[4]["state"]["lacking_leg"] == -1, events[4]
    assert events[4]["state"]["space"]["available_bytes"] > 0 and events[6]["state"]["scrub"]["ended"], events[6]
    wait_for("what the follower tells", lambda: trees.read(ws.join("told")).count(b"\n") == len(events))
    told = trees.read(ws.join("told")).decode().splitlines()
    assert all(event["text"] in line for event, line in zip(events, told)), told
    volume.umount()
    follower.wait()


@case()
def what_a_reader_finds_is_told_by_file_and_bytes(ws):
    volume = ws.volume(size="64M")
    volume.mount()
    os.mkdir(volume.path("folder"))
    data = trees.pattern(MIB)
    for name in ("other", "folder/file", "third"):
        trees.write(volume.path(name), data if name == "folder/file" else trees.pattern(MIB, 7))
    volume.umount()
    for block in (40, 41, 60):
        spoil(volume, 0, data[block * BLOCK:(block + 1) * BLOCK])
    for leg in 0, 1:
        spoil(volume, leg, data[50 * BLOCK:51 * BLOCK])
    volume.mount("read-policy=leg0")
    with open(volume.path("folder", "file"), "rb", buffering=0) as file:
        for block in (50, 40, 60):
            try:
                assert os.pread(file.fileno(), 2 * BLOCK, block * BLOCK) == data[block * BLOCK:(block + 2) * BLOCK]
            except OSError:
                assert block == 50, "what the other leg has was not read"

    def ranges(kind):
        named = [event for event in events_of(volume) if event["kind"] == kind and "file" in event]
        assert all(event["file"] == "/folder/file" for event in named), named
        return {block for event in named for block in range(event["from"] // BLOCK, event["to"] // BLOCK)}

    wait_for("the names", lambda: ranges("healed") == {40, 41, 60} and ranges("unrecoverable") == {50})
    volume.umount()


@case(FULL)
def what_a_scrub_finds_is_told_by_file_and_a_full_volume_is_told_once(ws):
    volume = spoiled_volume(ws)
    volume.mount()
    volume.scrub(ok=False)
    events = {event["kind"]: event for event in events_of(volume)}
    assert (events["healed"]["leg"], events["healed"]["file"], events["healed"]["from"]) == (0, "/file", 40 * BLOCK)
    assert (events["unrecoverable"]["file"], events["unrecoverable"]["to"]) == ("/file", 51 * BLOCK)
    assert "scrub-ended" in events and "space-low" not in events, events
    try:
        trees.write(volume.path("large"), trees.pattern(80 * MIB))
    except OSError:
        pass
    for _ in range(2):  # a look at the state has the daemon look at the space, too
        wait_for("little space", lambda: [e for e in events_of(volume) if e["kind"] == "space-low"])
    assert len([e for e in events_of(volume) if e["kind"] == "space-low"]) == 1
    volume.umount()


@case(FULL)
def a_leg_that_is_slow_for_good_is_told_once_and_once_more_when_it_is_not(ws):
    volume = ws.volume(size="64M")
    volume.mount()

    def paces():
        return [event for event in events_of(volume) if event["kind"] == "leg-pace"]

    def written_until(what, condition):
        """Commits to both legs, whatever else the machine has to do."""
        with open(volume.path("file"), "wb", buffering=0) as file:
            def commit():
                for _ in range(16):
                    file.write(b"more")
                    os.fsync(file.fileno())
                return condition()
            wait_for(what, commit, 240)

    written_until("a beginning", lambda: True)
    assert paces() == [], "equal legs are not told of"
    ws.run("mirrorctl", "drill", volume.mnt, "1", "write,delay=150", "600")
    written_until("a slow leg", paces)
    told, status = volume.status()
    assert [leg["slow"] for leg in told["legs"]] == [False, True], told["legs"]
    assert status == 0 and told["legs"][1]["state"] == "in-sync", "slow is not failed"
    written_until("the same", lambda: True)
    assert [(event["leg"], event["state"]["legs"][1]["slow"]) for event in paces()] == [(1, True)], paces()
    ws.run("mirrorctl", "drill", volume.mnt, "1", "off")
    written_until("a leg that is no longer slow", lambda: len(paces()) > 1)
    assert [event["state"]["legs"][1]["slow"] for event in paces()] == [True, False], paces()
    assert "no longer slow" in paces()[1]["text"], paces()
    volume.umount()


@case(QUICK)
def the_program_of_a_mount_is_told_each_event_once_and_in_order(ws):
    volume = ws.volume(size="64M")
    program, told = ws.join("tell it"), ws.join("told")
    trees.write(program, f"#!/bin/sh\nprintf '%s\\n' \"$1\" \"$2\" \"$3\" \"$4\" >>{told}\n".encode())
    refused = volume.mount(f"notify={program}", ok=False)
    assert refused.returncode == 32 and f"{program}: not a program" in refused.stderr, refused
    os.chmod(program, 0o755)
    refused = volume.mount("notify=/nowhere", ok=False)
    assert refused.returncode == 32 and "/nowhere: No such file" in refused.stderr, refused
    volume.mount(f"notify={program}", "commit=1")
    ws.run("mirrorctl", "detach", volume.mnt, "1")
    trees.write(volume.path("file"), trees.pattern(MIB))
    ws.run("mirrorctl", "attach", volume.mnt, volume.legs[1])
    ws.run("mirrorctl", "resync", volume.mnt, ok=False)
    volume.scrub()
    wait_for("the end of a scrub", lambda: [e for e in events_of(volume) if e["kind"] == "scrub-ended"])
    events = events_of(volume)
    wait_for("what the program was told", lambda: trees.read(told).count(b"\n") >= 4 * len(events))
    lines = trees.read(told).decode().splitlines()
    assert len(lines) == 4 * len(events), (lines, events)
    for at, event in enumerate(events):
        kind, mountpoint, text, told_json = lines[4 * at:4 * at + 4]
        assert (kind, mountpoint, text) == (event["kind"], volume.mnt, event["text"]), (lines, event)
        assert json.loads(told_json) == event
    volume.umount()


@case(FULL)
def blocks_that_are_healed_by_thousands_keep_the_program_from_nothing_else(ws):
    volume = ws.volume(size="64M")
    volume.mount()
    trees.write(volume.path("file"), trees.pattern(8 * MIB))
    volume.umount()
    volume.rot(0)
    program, told = ws.join("tell"), ws.join("told")
    trees.write(program, f"#!/bin/sh\necho $1 >>{told}\n".encode())
    os.chmod(program, 0o755)
    volume.mount(f"notify={program}", "read-policy=leg0")
    volume.scrub(ok=False)
    ws.run("mirrorctl", "detach", volume.mnt, "0")
    wait_for("the last event", lambda: os.path.exists(told) and b"scrub-ended" in trees.read(told)
             and trees.read(told).count(b"leg-state") == 2)
    assert trees.read(told).split().count(b"healed") == 1, trees.read(told)
    assert len([event for event in events_of(volume) if event["kind"] == "healed"]) > 1
    volume.umount()


def everything_happens_to(volume, switch):
    """To a spoiled one, of which leg 1 refuses writes while there is `switch`0, and leg 0 while there is `switch`1."""
    run = volume.ws.run
    volume.scrub(ok=False)
    trees.write(f"{switch}0", b"")
    trees.write(volume.path("lost"), b"to leg 1")
    with open(volume.path("lost"), "rb") as file:
        os.fsync(file.fileno())
    wait_for("the loss of a leg", lambda: volume.status()[1] == 3)
    os.unlink(f"{switch}0")
    run("mirrorctl", "attach", volume.mnt, volume.legs[1])
    run("mirrorctl", "resync", volume.mnt, ok=False)
    wait_for("the end of a resync", lambda: volume.status()[1] == 0)
    outcome(trees.write, volume.path("large"), trees.pattern(80 * MIB))
    wait_for("little space", lambda: [e for e in events_of(volume) if e["kind"] == "space-low"])
    os.truncate(volume.path("large"), MIB)
    # The one in the place of leg 1 has no faults, so that leaves, too.
    run("mirrorctl", "detach", volume.mnt, "1")
    trees.write(f"{switch}1", b"")
    with open(volume.path("lost"), "r+b", buffering=0) as file:
        file.write(b"read-only")
        outcome(os.fsync, file.fileno())
    wait_for("the end of all writing", lambda: volume.status()[1] == 4)


@case(FULL)
def whatever_happens_is_told_once_in_the_log_by_mirrorctl_and_to_the_program(ws):
    volume = spoiled_volume(ws)
    start, _ = volume.heap(0)
    program, told, switch, legs = ws.join("tell"), ws.join("told"), ws.join("switch"), volume.legs
    trees.write(program, f"#!/bin/sh\necho \"$3\" >>{told}\n".encode())
    os.chmod(program, 0o755)
    volume.legs = [f"fault:write,error=EIO,range={start}-,when={switch}1:{legs[0]}",
                   f"fault:write,error=EIO,range={start}-,when={switch}0:{legs[1]}"]
    daemon = Foreground(volume, "-o", f"notify={program},commit=1")
    volume.legs = legs
    everything_happens_to(volume, switch)
    events = events_of(volume)
    kinds = [event["kind"] for event in events if event["kind"] != "leg-state"]
    assert sorted(kinds) == ["healed", "read-only", "resync-ended", "scrub-ended", "space-low", "unrecoverable"], events
    assert states_of(events, 1) == ["offline", "absent", "stale", "resync", "in-sync", "offline", "absent"], events
    assert [event["number"] for event in events] == list(range(1, len(events) + 1)), events
    assert all(event["state"]["legs"][0]["state"] for event in events), events
    wait_for("the last that the program is told", lambda: events[-1]["text"] in trees.read(told).decode())
    log, lines = daemon.log(), trees.read(told).decode().splitlines()
    assert lines == [event["text"] for event in events], lines
    for text in set(lines):  # leg 1 leaves twice
        assert log.count(text) == lines.count(text), (text, log)
    daemon.end()
