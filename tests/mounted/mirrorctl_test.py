# SPDX-License-Identifier: GPL-2.0-or-later
"""mirrorctl as an administrator meets it: what it shows and where, and what it says when a daemon cannot answer."""
import json
import os
import pty
import re
import signal
import subprocess
import threading
import time

import trees
from cases import FULL, QUICK, case
from stats_test import stats, write_direct
from workspace import MIB, alive, wait_for

VERBS = ["status"], ["stats"], ["top", "0.1", "1"], ["events"], ["scrub", "start"], ["set", "read-policy=auto"]


def on_terminal(ws, *words, **environment):
    """What it writes to a terminal."""
    main, other = pty.openpty()
    with subprocess.Popen([os.path.join(ws.tools, "mirrorctl"), *words], stdin=subprocess.DEVNULL, stdout=other,
                          stderr=other, env={**os.environ, "TERM": "xterm", **environment}):
        os.close(other)
        told = b""
        try:
            while piece := os.read(main, 65536):
                told += piece
        except OSError:  # EIO: its last user has closed the terminal
            pass
    os.close(main)
    return told.decode()


def written(volume):
    fd = os.open(volume.path("file"), os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


@case(QUICK)
def a_daemon_that_is_stopped_or_gone_is_told_within_a_second(ws):
    volume = ws.volume(size="64M")
    volume.mount()
    os.kill(volume.pid, signal.SIGSTOP)
    try:
        for verb, *words in VERBS:
            began = time.monotonic()
            done = ws.run("mirrorctl", verb, volume.mnt, *words, ok=False)
            assert done.returncode == 5, (verb, done)
            assert f"kill -CONT {volume.pid}" in done.stderr, done
            assert time.monotonic() - began < 5, "it waited for the daemon"
    finally:
        os.kill(volume.pid, signal.SIGCONT)
    wait_for("a daemon that goes on", lambda: not ws.run("mirrorctl", "status", volume.mnt, ok=False).returncode)
    pid = volume.pid
    os.kill(pid, signal.SIGKILL)
    wait_for("the end of a killed daemon", lambda: not alive(pid))
    for verb, *words in VERBS:
        done = ws.run("mirrorctl", verb, volume.mnt, *words, ok=False)
        # Its socket may outlive it for a moment.
        assert done.returncode == 5, (verb, done)
        assert "no daemon answers" in done.stderr or "the daemon has gone" in done.stderr, (verb, done)
    ws.run("mirrorctl", "umount", volume.mnt)
    done = ws.run("mirrorctl", "status", volume.mnt, ok=False)
    assert done.returncode == 5 and "no mirrorfs is mounted there" in done.stderr, done


@case(QUICK)
def a_volume_set_to_degraded_auto_mounts_without_a_leg_once_it_has_waited(ws):
    volume = ws.volume(size="64M")
    volume.mount()
    ws.run("mirrorctl", "set", volume.mnt, "degraded=auto")
    volume.umount()
    os.rename(volume.legs[1], ws.join("away"))
    volume.mount("wait=1")
    told, status = volume.status()
    assert status == 3 and told["settings"]["degraded"] == "auto", told
    volume.umount()
    os.rename(ws.join("away"), volume.legs[1])
    volume.mount()
    ws.run("mirrorctl", "resync", volume.mnt)
    assert volume.status()[1] == 0
    ws.run("mirrorctl", "set", volume.mnt, "degraded=ask")
    volume.umount()
    os.unlink(volume.legs[1])
    done = volume.mount("wait=1", ok=False)
    assert done.returncode == 32 and "-o degraded" in done.stderr, done


@case(FULL)
def every_verb_answers_while_a_leg_hangs_and_the_volume_is_busy(ws):
    volume = ws.volume(size="64M")
    volume.mount("leg-timeout=30", "deadline=60")
    ws.run("mirrorctl", "drill", volume.mnt, "1", "any,hang", "600")
    writer = threading.Thread(target=write_direct, args=(volume.path("file"), 1))
    writer.start()
    wait_for("a request that hangs", lambda: volume.status()[0]["legs"][1]["queue"] > 0)
    for verb, *words in VERBS:
        ws.run("mirrorctl", verb, volume.mnt, *words, timeout=20)
    assert writer.is_alive(), "nothing hung"
    top = ws.run("mirrorctl", "top", volume.mnt, "0.1", "1").stdout
    assert re.search(r"leg 1: in-sync, [1-9]\d* in its queue", top), top
    ws.run("mirrorctl", "drill", volume.mnt, "1", "off")
    writer.join()
    ws.run("mirrorctl", "scrub", volume.mnt, "stop")
    volume.umount()


@case(FULL)
def top_tells_what_happens_and_ends_with_the_daemon(ws):
    volume = ws.volume(size="64M")
    volume.mount()
    write_direct(volume.path("file"), 5)
    with subprocess.Popen([os.path.join(ws.tools, "mirrorctl"), "top", volume.mnt, "0.5"], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True) as follower:
        lines = [follower.stdout.readline()]
        assert lines[0].startswith(f"{volume.mnt}: healthy "), lines
        told = iter(follower.stdout.readline, "")
        while not re.match(r"  write +\d+/s +[\d.]+ MiB/s +[\d.]+ .s ", next(told)):
            write_direct(volume.path("file"), 50)
        ws.run("mirrorctl", "umount", volume.mnt)
        rest = follower.stdout.read()
        assert follower.wait() == 5 and "\033" not in rest, rest
    volume.mount()
    answers = ws.run("mirrorctl", "--json", "top", volume.mnt, "0.1", "2").stdout.splitlines()
    assert [json.loads(answer)["result"]["health"] for answer in answers] == ["healthy"] * 3
    assert ws.run("mirrorctl", "top", volume.mnt, "often", ok=False).returncode == 2
    assert "\033[H\033[J" in on_terminal(ws, "top", volume.mnt, "0.1", "1")
    volume.umount()


@case(FULL)
def what_is_set_and_trimmed_takes_effect(ws):
    volume = ws.volume(size="64M")
    volume.mount()
    trees.write(volume.path("file"), trees.pattern(4 * MIB))
    written(volume)
    for leg in 0, 1:
        ws.run("mirrorctl", "set", volume.mnt, f"read-policy=leg{leg}")
        ws.run("mirrorctl", "drop-caches", volume.mnt)
        before = stats(volume)["legs"]
        with open(volume.path("file"), "rb", buffering=0) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            file.read()
        after = stats(volume)["legs"]
        asked = [now["io"]["read"]["ops"] - then["io"]["read"]["ops"] for then, now in zip(before, after)]
        late = after[leg]["hedged"] - before[leg]["hedged"]  # these went to the other one, too
        assert asked[leg] > 0 and asked[not leg] <= late, (asked, late)
    ws.run("mirrorctl", "set", volume.mnt, "label=new name")
    ws.run("mirrorctl", "set", volume.mnt, "write-mostly=none")
    assert volume.status()[0]["volume"]["label"] == "new name"
    for setting in "leg-timeout=2.5", "deadline=7":
        ws.run("mirrorctl", "set", volume.mnt, setting)
    told, _ = volume.status()
    assert told["settings"]["deadline_ns"] == 7 * 10**9 and told["settings"]["read_policy"] == "leg1", told
    assert [leg["timeout_ns"] for leg in told["legs"]] == [25 * 10**8] * 2, told
    shown = ws.run("mirrorctl", "status", volume.mnt).stdout
    assert "degraded=ask, read-policy=leg1, write-mostly=none, deadline=7\n" in shown, shown
    assert shown.count("leg-timeout=2.5,") == 2, shown
    for wrong in "read-policy=leg2", "colour=red", "write-mostly=both", "deadline=soon", "degraded=never", \
                 "leg-timeout=0", f"label={'x' * 64}":
        done = ws.run("mirrorctl", "set", volume.mnt, wrong, ok=False)
        assert done.returncode == 1 and wrong.split("=", maxsplit=1)[0] in done.stderr, done
    assert ws.run("mirrorctl", "set", volume.mnt, "label", ok=False).returncode == 2
    told = json.loads(ws.run("mirrorctl", "--json", "trim", volume.mnt).stdout)["result"]["trimmed_bytes"]
    free = volume.status()[0]["space"]["free_bytes"]
    assert 0 < told <= free + 8 * MIB, (told, free)
    for leg in volume.legs:
        assert os.stat(leg).st_blocks * 512 < 48 * MIB, "the image is as full as before"
    volume.umount()


@case(FULL)
def bars_and_colours_are_for_terminals_alone(ws):
    volume = ws.volume(size="64M")
    volume.mount()
    trees.write(volume.path("file"), trees.pattern(8 * MIB))
    written(volume)
    told = on_terminal(ws, "scrub", volume.mnt, "limit=4M")
    assert re.search(r"\rscrub \|=* *\| +[\d.]+ %|\r\033\[Kscrub \|=* *\| +[\d.]+ %", told), told
    assert re.search(r", [\d.]+ .iB/s, 0:00:0\d left", told), told
    assert f"{volume.mnt}: \033[1;32mhealthy\033[m" in on_terminal(ws, "status", volume.mnt)
    assert "\033" not in on_terminal(ws, "status", volume.mnt, NO_COLOR="1")
    for verb in "status", "stats", "scrub":
        done = ws.run("mirrorctl", verb, volume.mnt)
        assert "\033" not in done.stdout + done.stderr and "\r" not in done.stdout + done.stderr, done
    ws.run("mirrorctl", "detach", volume.mnt, "0")
    assert f"{volume.mnt}: \033[1;33mdegraded\033[m" in on_terminal(ws, "status", volume.mnt)
    assert ws.run("mirrorctl", "status", volume.mnt, ok=False).stdout.startswith(f"{volume.mnt}: degraded\n")
    volume.umount()
