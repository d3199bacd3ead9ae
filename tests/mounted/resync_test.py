# SPDX-License-Identifier: GPL-2.0-or-later
"""Legs that come back, leave, join and take each other's place."""
import fcntl
import json
import os
import time

import trees
from cases import LONG, QUICK, case
from scrub_test import spoil
from workspace import BLOCK, wait_for

MIB = 1 << 20
DEGRADED = 3  # exit status of mirrorctl


def healthy(volume):
    """Waits until no leg lacks anything."""
    while True:
        told, status = volume.status()
        if status == 0:
            return told
        assert status == DEGRADED and (told["resync"]["leg"] >= 0 or not told["resync"]["ended"]), told
        time.sleep(0.1)


def alone(volume, leg, name, content):
    """Written while the other leg was not there."""
    away = volume.ws.join("away")
    os.rename(volume.legs[1 - leg], away)
    volume.mount("degraded", legs=[volume.legs[leg]])
    trees.write(volume.path(name), content)
    volume.umount()
    os.rename(away, volume.legs[1 - leg])


def is_whole(volume, leg, expected):
    """This leg, with nothing of the other one, has all of it."""
    away = volume.legs[1 - leg] + ".away"
    os.rename(volume.legs[1 - leg], away)
    volume.mount("degraded", legs=[volume.legs[leg]])
    trees.compare(expected, trees.manifest(volume.mnt))
    volume.umount()
    os.rename(away, volume.legs[1 - leg])


def clean(volume):
    said = volume.scrub().stdout
    assert "healed 0, unrecoverable 0" in said, said


@case(QUICK)
def a_leg_that_comes_back_gets_what_it_lacks_and_no_more(ws):
    volume = ws.volume()
    volume.mount()
    trees.write(volume.path("old"), trees.pattern(100 * MIB))
    volume.umount()
    alone(volume, 0, "new", trees.pattern(MIB))
    volume.mount()
    told = healthy(volume)
    written = told["legs"][1]["io"]["write"]["bytes"]
    assert MIB <= written < 3 * MIB, f"{written} bytes were written to fill 1 MiB of 101"
    clean(volume)
    expected = trees.manifest(volume.mnt)
    volume.umount()
    is_whole(volume, 1, expected)


@case(LONG, timeout=1800)
def of_ten_gibibytes_of_which_a_hundredth_was_changed_a_hundredth_is_copied(ws):
    volume = ws.volume(size="10G")
    volume.mount()
    names, size = [volume.path(f"file {number}") for number in range(36)], 256 * MIB
    for number, name in enumerate(names):
        trees.write(name, trees.pattern(size, number))
    volume.umount()
    away = volume.legs[1] + ".away"
    os.rename(volume.legs[1], away)
    volume.mount("degraded", legs=[volume.legs[0]])
    changed, piece = 0, 65536
    # Here and there in each file.
    while changed < 10240 * MIB // 100:
        number = changed // piece
        with open(names[number % len(names)], "r+b") as file:
            file.seek(number * 7919 * piece % size)
            file.write(trees.pattern(piece, -number))
        changed += piece
    volume.umount()
    os.rename(away, volume.legs[1])
    volume.mount()
    told = healthy(volume)
    written = told["legs"][1]["io"]["write"]["bytes"]
    print(f"note: {changed >> 20} MiB changed, {written >> 20} MiB written", flush=True)
    assert changed <= written < 1.3 * changed, f"{written} bytes were written to fill {changed}"
    clean(volume)
    volume.umount()


@case()
def a_resync_that_is_killed_goes_on(ws):
    volume = ws.volume()
    volume.mount()
    trees.write(volume.path("old"), trees.pattern(MIB))
    volume.umount()
    alone(volume, 1, "new", trees.pattern(60 * MIB))
    volume.mount()
    volume.kill()
    volume.mount()
    trees.write(volume.path("later"), trees.pattern(MIB))
    healthy(volume)
    clean(volume)
    expected = trees.manifest(volume.mnt)
    volume.umount()
    is_whole(volume, 0, expected)


@case(QUICK)
def a_leg_is_detached_and_attached_again(ws):
    volume = ws.volume()
    volume.mount()
    trees.write(volume.path("old"), trees.pattern(20 * MIB))
    ws.run("sync", volume.path("old"))  # what is only written out later, the leg lacks
    ws.run("mirrorctl", "detach", volume.mnt, volume.legs[1])
    told, status = volume.status()
    assert status == DEGRADED and told["legs"][1]["state"] == "absent", told["legs"]
    trees.write(volume.path("new"), trees.pattern(MIB))
    done = ws.run("mirrorctl", "detach", volume.mnt, "0", ok=False)
    assert done.returncode == 1 and "not whole" in done.stderr, "the last leg was let go"
    ws.run("mirrorctl", "attach", volume.mnt, volume.legs[1])
    told = healthy(volume)
    assert told["legs"][1]["io"]["write"]["bytes"] < 8 * MIB, told["legs"][1]["io"]
    # What is over by now is no reason to complain.
    assert ws.run("mirrorctl", "resync", volume.mnt).stdout == f"{volume.mnt}: healthy\n"
    clean(volume)
    volume.counted_nothing_forbidden()
    expected = trees.manifest(volume.mnt)
    volume.umount()
    is_whole(volume, 1, expected)


def files_of(volume):
    """The files that have blocks on one leg alone, each with its ranges in bytes; the whole answer."""
    done = volume.ws.run("mirrorctl", "--json", "status", "--files", volume.mnt, ok=False)
    told = json.loads(done.stdout)["result"]
    return {f["file"]: [(r["from"], r["to"]) for r in f["ranges"]] for f in told["files"]}, told, done.returncode


@case()
def files_on_one_leg_alone_are_named_until_they_are_on_both(ws):
    volume = ws.volume()
    volume.mount("commit=1")
    trees.write(volume.path("old"), trees.pattern(20 * MIB))
    os.makedirs(volume.path("a folder", "below"))
    volume.remount("commit=1")
    assert files_of(volume) == ({}, {**files_of(volume)[1], "lacking_leg": -1}, 0)
    ws.run("mirrorctl", "detach", volume.mnt, "1")
    with open(volume.path("old"), "r+b") as file:
        for block in (7, 8, 100):
            os.pwrite(file.fileno(), b"new" * 1000, block * 4096)
        os.fsync(file.fileno())
    trees.write(volume.path("a folder", "below", "new"), trees.pattern(40 * MIB))
    wait_for("all of it on a leg", lambda: files_of(volume)[1]["bytes"] == 40 * MIB + 3 * 4096)
    expected = {"/old": [(7 * 4096, 9 * 4096), (100 * 4096, 101 * 4096)], "/a folder/below/new": [(0, 40 * MIB)]}
    found, told, status = files_of(volume)
    assert found == expected and status == DEGRADED and told["lacking_leg"] == 1 and told["metadata_bytes"], told
    said = ws.run("mirrorctl", "status", "--files", volume.mnt, ok=False).stdout
    assert "on leg 0 alone are 40.0 MiB in 2 files" in said and "/old: 12.0 KiB: bytes 28672 to 36864, 409600" in said
    # So it is in the next mount, without the leg; and while it is filled there is less and less of it.
    volume.umount()
    os.rename(volume.legs[1], ws.join("away"))
    volume.mount(legs=[volume.legs[0]])
    assert files_of(volume)[0] == expected
    os.rename(ws.join("away"), volume.legs[1])
    ws.run("mirrorctl", "resync", volume.mnt, "limit=8M")
    ws.run("mirrorctl", "attach", volume.mnt, volume.legs[1])
    wait_for("a resync that is under way", lambda: 0 < files_of(volume)[1]["bytes"] < 30 * MIB)
    found, told, status = files_of(volume)
    assert set(found) == {"/a folder/below/new"} and not told["metadata_bytes"] and status == DEGRADED, told
    left = found["/a folder/below/new"]  # it need not lie on the legs in one piece, nor in order
    assert 0 < sum(end - begin for begin, end in left) < 40 * MIB and left[-1][1] <= 40 * MIB, found
    ws.run("mirrorctl", "resync", volume.mnt, "limit=0")
    healthy(volume)
    assert files_of(volume)[0] == {} and files_of(volume)[2] == 0
    clean(volume)
    volume.umount()


@case()
def a_thousand_files_are_named_and_the_others_counted(ws):
    volume = ws.volume()
    volume.mount("commit=1")
    ws.run("mirrorctl", "detach", volume.mnt, "0")
    for number in range(1100):
        with open(volume.path(f"file {number}"), "wb") as file:
            file.write(b"x" * 5000)
    with open(volume.path("in many pieces"), "wb") as file:
        for number in range(50):
            os.pwrite(file.fileno(), b"y", number * 8192)
        os.fsync(file.fileno())
    wait_for("all of it on a leg", lambda: files_of(volume)[1]["bytes"] == 1100 * 8192 + 50 * 4096)
    found, told, _ = files_of(volume)
    assert len(found) == 1000 and told["more_files"] == 101 and told["lacking_leg"] == 0, told["more_files"]
    assert told["more_bytes"] == 100 * 8192 + 50 * 4096, told["more_bytes"]
    for number in range(1000):
        os.unlink(volume.path(f"file {number}"))
    wait_for("the end of what was deleted", lambda: files_of(volume)[1]["more_files"] == 0)
    piece = [f for f in files_of(volume)[1]["files"] if f["file"] == "/in many pieces"][0]
    assert len(piece["ranges"]) == 16 and piece["more_ranges"] == 34, piece
    volume.umount()


@case()
def a_leg_is_replaced_by_a_larger_one(ws):
    volume = ws.volume()
    volume.mount()
    trees.write(volume.path("file"), trees.pattern(20 * MIB))
    small, large = ws.join("small"), ws.join("large")
    ws.run("truncate", "-s", "100M", small)
    ws.run("truncate", "-s", "400M", large)
    done = ws.run("mirrorctl", "replace", volume.mnt, volume.legs[0], small, ok=False)
    assert done.returncode == 1 and "too small" in done.stderr
    assert volume.status()[1] == 0, "nothing is given up for a leg that does not fit"
    ws.run("mirrorctl", "replace", volume.mnt, volume.legs[0], large)
    healthy(volume)
    clean(volume)
    expected = trees.manifest(volume.mnt)
    volume.umount()
    # The one that was replaced belongs to nobody now.
    done = volume.mount(ok=False)
    assert done.returncode and "do not name each other" in done.stderr
    volume.legs[0] = large
    is_whole(volume, 0, expected)
    volume.mount()
    healthy(volume)
    volume.umount()


@case(QUICK)
def who_looks_for_the_volume_does_not_find_the_leg_that_was_replaced(ws):
    volume = ws.volume()
    volume.make("-f", "-L", "a label")
    volume.mount()
    trees.write(volume.path("file"), b"as it was")
    ws.run("sync", volume.path("file"))
    old, new = volume.legs[0], ws.join("new")
    ws.run("truncate", "-s", "256M", new)
    ws.run("mirrorctl", "replace", volume.mnt, old, new)
    healthy(volume)
    trees.write(volume.path("file"), b"as it is")
    volume.umount()
    told = ws.run("mirrorfs-probe", old).stdout
    assert "ID_FS_TYPE=mirrorfs" in told and "ID_FS_UUID_SUB=" in told, told
    assert "ID_FS_UUID=" not in told and "LABEL" not in told, told
    done = volume.mount(legs=[old], ok=False)
    assert done.returncode and "was replaced" in done.stderr, done.stderr
    # Who insists has what it had then.
    volume.mount("degraded", "ro", legs=[old])
    assert trees.read(volume.path("file")) == b"as it was"
    volume.umount()
    volume.legs[0] = new
    volume.mount(legs=[volume.legs[1]])
    assert trees.read(volume.path("file")) == b"as it is"
    healthy(volume)
    volume.umount()


@case()
def a_leg_is_replaced_while_the_other_one_turns_out_to_be_rotten(ws):
    volume, data = ws.volume(), trees.pattern(20 * MIB)
    volume.mount()
    trees.write(volume.path("file"), data)
    expected = trees.manifest(volume.mnt)
    volume.umount()
    for block in (3, 700, 701, 5000):
        spoil(volume, 0, data[block * BLOCK:(block + 1) * BLOCK])
    new, old = ws.join("new"), volume.legs[1]
    ws.run("truncate", "-s", "256M", new)
    volume.mount()
    ws.run("mirrorctl", "replace", volume.mnt, old, new)
    told = healthy(volume)
    assert told["mirror"]["unrecoverable"] == 0 and told["resync"]["lost_bytes"] == 0, told
    wait_for("the end of the old leg", lambda: "leg-released" in ws.run("mirrorctl", "events", volume.mnt).stdout)
    with open(old, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    clean(volume)
    volume.counted_nothing_forbidden()
    volume.umount()
    volume.legs[1] = new
    is_whole(volume, 1, expected)
    is_whole(volume, 0, expected)


@case()
def a_scrub_beside_a_replacement_finds_what_the_old_leg_has(ws):
    volume, data = ws.volume(), trees.pattern(20 * MIB)
    volume.mount()
    trees.write(volume.path("file"), data)
    volume.umount()
    for block in (4000, 5000):
        spoil(volume, 0, data[block * BLOCK:(block + 1) * BLOCK])
    new, old = ws.join("new"), volume.legs[1]
    ws.run("truncate", "-s", "256M", new)
    volume.mount()
    ws.run("mirrorctl", "resync", volume.mnt, "limit=256K")
    ws.run("mirrorctl", "replace", volume.mnt, old, new)
    said = volume.scrub().stdout
    assert "healed 2, unrecoverable 0" in said and "bytes 16384000 to 16388096 of /file" in said, said
    ws.run("mirrorctl", "resync", volume.mnt, "limit=0")
    assert healthy(volume)["mirror"]["unrecoverable"] == 0
    clean(volume)
    volume.umount()


@case()
def a_replacement_that_is_killed_goes_on_without_the_old_leg(ws):
    volume = ws.volume()
    volume.mount()
    trees.write(volume.path("file"), trees.pattern(20 * MIB))
    # What waits to be written is on both legs as soon as it is, and nothing is left to copy.
    with open(volume.path("file"), "rb") as file:
        os.fsync(file.fileno())
    new, old = ws.join("new"), volume.legs[1]
    ws.run("truncate", "-s", "256M", new)
    ws.run("mirrorctl", "resync", volume.mnt, "limit=1M")
    ws.run("mirrorctl", "replace", volume.mnt, old, new)
    told, status = volume.status()
    assert status == DEGRADED and told["legs"][1]["replaces"] == old, told["legs"]
    trees.write(volume.path("later"), trees.pattern(MIB))
    for name in ("file", "later"):
        with open(volume.path(name), "rb") as file:
            os.fsync(file.fileno())
    expected = trees.manifest(volume.mnt)
    volume.kill()
    done = volume.mount(ok=False)
    assert done.returncode and "do not name each other" in done.stderr, done.stderr
    volume.legs[1] = new
    volume.mount()
    told = healthy(volume)
    assert "replaces" not in told["legs"][1], told["legs"]
    clean(volume)
    volume.umount()
    is_whole(volume, 1, expected)


@case(needs=["root"])
def a_new_leg_gets_room_for_its_metadata_as_mkfs_gives_it(ws):
    volume = ws.volume(size="64M")
    taken = os.stat(volume.legs[1]).st_blocks
    new, full = ws.join("new"), ws.folder("full")
    ws.run("truncate", "-s", "64M", new)
    volume.mount()
    ws.run("mirrorctl", "resync", volume.mnt, "limit=1M")
    ws.run("mount", "-t", "tmpfs", "-o", "size=4M", "tmpfs", full)
    ws.run("truncate", "-s", "64M", os.path.join(full, "leg"))
    refusal = ws.run("mirrorctl", "replace", volume.mnt, volume.legs[1], os.path.join(full, "leg"), ok=False)
    assert refusal.returncode == 1 and "no room for labels, journal and reserve" in refusal.stderr, refusal.stderr
    assert volume.status()[1] == 0, "a leg was given up for one without room"
    ws.run("mirrorctl", "replace", volume.mnt, volume.legs[1], new)
    assert os.stat(new).st_blocks >= taken, f"{os.stat(new).st_blocks} of {taken} blocks are there for real"
    healthy(volume)
    clean(volume)
    volume.umount()


@case()
def a_volume_of_one_leg_becomes_a_mirror(ws):
    volume = ws.volume(legs=1)
    volume.mount()
    trees.write(volume.path("file"), trees.pattern(20 * MIB))
    other = ws.join("other")
    ws.run("truncate", "-s", "256M", other)
    ws.run("mirrorctl", "attach", volume.mnt, other)
    healthy(volume)
    clean(volume)
    expected = trees.manifest(volume.mnt)
    volume.umount()
    volume.legs.append(other)
    is_whole(volume, 1, expected)


@case()
def one_of_two_histories_is_given_up_by_name(ws):
    volume = ws.volume()
    alone(volume, 0, "written on 0", b"alone")
    alone(volume, 1, "written on 1", b"alone")
    refusal = volume.mount(ok=False).stderr
    for word in ("split brain", *volume.legs, "UTC", "KiB", "attach --force"):
        assert word in refusal, word
    volume.mount("degraded", legs=[volume.legs[1]])
    done = ws.run("mirrorctl", "attach", volume.mnt, volume.legs[0], ok=False)
    assert done.returncode == 1 and "--force" in done.stderr
    ws.run("mirrorctl", "attach", "--force", volume.mnt, volume.legs[0])
    healthy(volume)
    assert os.listdir(volume.mnt) == ["written on 1"]
    clean(volume)
    expected = trees.manifest(volume.mnt)
    volume.umount()
    is_whole(volume, 0, expected)


@case()
def what_holds_something_else_is_not_attached(ws):
    volume = ws.volume()
    other = ws.volume("other")
    volume.mount()
    ws.run("mirrorctl", "detach", volume.mnt, "1")
    done = ws.run("mirrorctl", "attach", volume.mnt, other.legs[0], ok=False)
    assert done.returncode == 1 and "another volume" in done.stderr and "--force" in done.stderr
    volume.umount()
    other.mount()
    assert other.status()[1] == 0, "it was touched"
    other.umount()


@case()
def a_leg_that_failed_comes_back_without_a_remount(ws):
    switch = ws.join("switch")
    volume = ws.volume()
    volume.mount(faults={1: f"write,error=EIO,when={switch},range=1M-"})
    trees.write(volume.path("old"), trees.pattern(20 * MIB))
    trees.write(switch, b"")
    trees.write(volume.path("new"), trees.pattern(MIB))
    os.sync()
    fd = os.open(volume.path("new"), os.O_RDWR)
    os.fsync(fd)
    os.close(fd)
    told, status = volume.status()
    assert status == DEGRADED and told["legs"][1]["state"] == "offline", told["legs"][1]
    ws.run("mirrorctl", "attach", volume.mnt, volume.legs[1])
    healthy(volume)
    clean(volume)
    expected = trees.manifest(volume.mnt)
    volume.umount()
    is_whole(volume, 1, expected)
