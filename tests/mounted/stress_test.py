# SPDX-License-Identifier: GPL-2.0-or-later
"""Workers that do whatever can be done, and know what must come of it: tests/stress."""
import itertools
import os
import subprocess

import workspace
from cases import FULL, LONG, TRANSPORTS, case


def unmounted(volume):
    try:
        volume.umount()
    except AssertionError:
        return False
    return True


def unmount(volume):
    """No worker is in there; but whoever reads /proc may look at one that was a moment ago."""
    workspace.wait_for("umount", lambda: unmounted(volume))


def stressed(ws, seconds, rounds, cache, *words):
    """Each round on a new mount."""
    seed = os.environ.get("MIRRORFS_SEED") or str(int.from_bytes(os.urandom(4), "little"))
    options = (f"cache={cache}", "commit=1")
    print(f"note: seed {seed} cache={cache} {' '.join(words)}", flush=True)
    volume = ws.volume(f"v{cache}{''.join(words)}", size="2G")
    volume.mount(*options)
    program = os.path.join(os.path.dirname(ws.tools), "tests/stress/stress")
    command = [program, "--seed", seed, "--seconds", str(seconds), "--rounds", str(rounds), *words, volume.mnt]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == f"seed {seed}\n"
        for number in range(rounds):
            told = process.stdout.readline()
            assert told.endswith(" operations\n"), told
            print(f"note: round {number}: {told}", end="", flush=True)
            if number < rounds - 1:
                unmount(volume)
                volume.mount(*options)
                process.stdin.write("\n")
                process.stdin.flush()
    assert process.returncode == 0
    unmount(volume)
    ws.run("fsck.mirrorfs", "-n", "-f", "--data", *volume.legs, timeout=1000)
    for image in volume.images:
        os.unlink(image)


@case(FULL, transports=TRANSPORTS)
def whatever_is_done_comes_out_as_it_must(ws):
    stressed(ws, 1, 2, "16M", "--direct", "--mmap")


@case(LONG, timeout=7200, transports=TRANSPORTS)
def whatever_is_done_for_long_comes_out_as_it_must(ws):
    for cache, direct, mmap in itertools.product(("16M", "1G"), ("--direct", None), ("--mmap", None)):
        stressed(ws, 40, 3, cache, *filter(None, (direct, mmap)))
