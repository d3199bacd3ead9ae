# SPDX-License-Identifier: GPL-2.0-or-later
"""A scrub finds what has rotted where nobody reads, heals it, and says in which file."""
import os

import trees
from cases import FULL, QUICK, case
from workspace import wait_for

BLOCK = 4096
MIB = 1 << 20


def spoil(volume, leg, data):
    """Spoils the block of that content on a leg, of a volume that is not mounted."""
    start, length = volume.heap(leg)
    with open(volume.legs[leg], "r+b") as file:
        file.seek(start)
        at = file.read(length).find(data)
        assert at >= 0 and at % BLOCK == 0, "the block is not to be found on the leg"
        file.seek(start + at)
        assert file.read(len(data)) == data
        file.seek(start + at)
        file.write(b"spoiled!")
        file.flush()
        os.fsync(file.fileno())


def filled(ws, megabytes):
    volume = ws.volume()
    volume.mount()
    os.mkdir(volume.path("folder"))
    trees.write(volume.path("folder", "file"), trees.pattern(megabytes * MIB))
    volume.umount()
    return volume


def scrub_of(volume):
    return volume.status()[0]["scrub"]


@case(QUICK)
def a_scrub_names_the_file_and_the_bytes_and_a_clean_one_clears_the_counters(ws):
    volume = filled(ws, 8)
    data = trees.pattern(8 * MIB)
    spoil(volume, 0, data[40 * BLOCK:41 * BLOCK])
    spoil(volume, 1, data[50 * BLOCK:51 * BLOCK])
    volume.mount()
    said = volume.scrub().stdout
    for leg, block in ((0, 40), (1, 50)):
        line = f"leg {leg}: healed: bytes {block * BLOCK} to {(block + 1) * BLOCK} of /folder/file"
        assert line in said, line
    told, _ = volume.status()
    assert [leg["repaired"] for leg in told["legs"]] == [1, 1], told["legs"]
    assert told["scrub"]["ended"] and not told["scrub"]["running"], told["scrub"]
    assert "healed 0" in volume.scrub().stdout
    told, _ = volume.status()
    assert [leg["repaired"] + leg["checksum_errors"] for leg in told["legs"]] == [0, 0], told["legs"]
    volume.umount()


@case(FULL)
def what_is_bad_on_both_legs_is_named_and_counted_in_blocks(ws):
    volume = filled(ws, 8)
    data = trees.pattern(8 * MIB)
    for leg in 0, 1:
        spoil(volume, leg, data[40 * BLOCK:41 * BLOCK])
    volume.mount()
    done = volume.scrub(ok=False)
    assert done.returncode == 1
    assert f"unrecoverable: bytes {40 * BLOCK} to {41 * BLOCK} of /folder/file" in done.stdout
    assert scrub_of(volume)["unrecoverable"] == 1
    volume.umount()


def slow_scrub(ws, volume):
    """One that has got somewhere, and would take a long time yet."""
    ws.run("mirrorctl", "scrub", volume.mnt, "start", "limit=1M")
    wait_for("a scrub that has got somewhere", lambda: scrub_of(volume)["done"] > 500)
    found = scrub_of(volume)
    assert found["running"] and found["seconds_left"] > 5, found
    return found


def looked_at_once(volume, found):
    """Each block was looked at once on each leg, whatever came between."""
    volume.scrub()
    assert abs(scrub_of(volume)["blocks"] - found["blocks"]) < 600, (scrub_of(volume), found)


@case(FULL)
def a_scrub_goes_on_with_the_next_mount(ws):
    volume = filled(ws, 48)
    volume.mount()
    before = slow_scrub(ws, volume)
    volume.remount()
    wait_for("the end of a scrub", lambda: scrub_of(volume)["ended"])
    found = scrub_of(volume)
    assert found["began"] == before["began"], (before, found)
    looked_at_once(volume, found)
    volume.umount()


@case(FULL)
def a_scrub_that_was_stopped_goes_on_when_it_is_started_again(ws):
    volume = filled(ws, 48)
    volume.mount()
    before = slow_scrub(ws, volume)
    ws.run("mirrorctl", "scrub", volume.mnt, "stop")
    wait_for("the end of a scrub", lambda: not scrub_of(volume)["running"])
    volume.remount()
    found = scrub_of(volume)
    assert found["stopped"] and not found["running"] and found["done"] >= before["done"], (before, found)
    volume.scrub()
    found = scrub_of(volume)
    assert not found["stopped"] and found["began"] == before["began"], (before, found)
    looked_at_once(volume, found)
    volume.umount()


@case(FULL)
def a_scrub_under_writers_finds_nothing_wrong(ws):
    volume = filled(ws, 16)
    volume.mount()
    ws.run("mirrorctl", "scrub", volume.mnt, "start")
    count = 0
    while scrub_of(volume)["running"] or count < 20:
        trees.write(volume.path("folder", f"other{count % 7}"), trees.pattern(MIB + count * 1000))
        if count % 3 == 0:
            os.unlink(volume.path("folder", f"other{count % 7}"))
        count += 1
    found = scrub_of(volume)
    assert found["ended"] and not found["repaired"] and not found["unrecoverable"], found
    volume.umount()
