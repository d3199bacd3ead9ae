# SPDX-License-Identifier: GPL-2.0-or-later
"""fsck.mirrorfs: sound volumes are clean, what one leg has heals the other, and what is lost is named."""
import errno
import hashlib
import os
import signal
import threading

import ondisk
import trees
from cases import FULL, QUICK, case
from workspace import BLOCK, SPACE_OFFSET

MIB = 1 << 20
CLEAN, CORRECTED, LEFT, OPERATION, USAGE = 0, 1, 4, 8, 16


def fsck(volume, *options, status=CLEAN, legs=None):
    done = volume.ws.run("fsck.mirrorfs", *options, *(volume.legs if legs is None else legs), ok=False)
    assert done.returncode == status, f"ended with {done.returncode}, not {status}"
    return done.stdout + done.stderr


def filled(ws, **more):
    volume = ws.volume(**{"size": "128M", **more})
    volume.mount()
    trees.copy(trees.real_trees(20, ["/usr/include/linux", "/usr/share/bash-completion"]), volume.mnt)
    trees.write(volume.path("large"), trees.pattern(12 * MIB))
    return volume, trees.manifest(volume.mnt)


def hashes(volume):
    """Of the legs, byte for byte."""
    found = []
    for leg in volume.legs:
        with open(leg, "rb") as file:
            found.append(hashlib.file_digest(file, "sha256").hexdigest())
    return found


def spoil(volume, leg, at, data=b"spoiled!"):
    with open(volume.legs[leg], "r+b") as file:
        file.seek(at)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def place_of(volume, leg, content):
    """Where a block with this content lies on a leg."""
    start, length = volume.heap(leg)
    with open(volume.legs[leg], "rb") as file:
        file.seek(start)
        at = file.read(length).find(content)
    assert at >= 0
    return start + at


def same(volume, expected):
    volume.mount()
    trees.compare(expected, trees.manifest(volume.mnt))
    volume.umount()


@case(QUICK)
def a_sound_volume_is_clean(ws):
    volume, expected = filled(ws)
    volume.umount()
    before = hashes(volume)
    said = fsck(volume, "-p")
    assert "clean" in said and "directories" not in said, "it was looked through though it was unmounted in order"
    assert hashes(volume) == before, "being told clean changed it"
    said = fsck(volume, "-f", "-p", "--data")
    assert "directories" in said
    fsck(volume, "-n", legs=volume.legs[::-1])
    fsck(volume, "-y", legs=volume.legs[:1])
    same(volume, expected)


@case(FULL)
def after_a_kill_it_is_clean_at_once_and_stays_so(ws):
    volume = ws.volume(size="128M")
    volume.mount("commit=1")
    stop = threading.Event()

    def work(worker):
        for i in range(100000):
            if stop.is_set():
                return
            try:
                path = volume.path(f"f{worker}.{i % 50}")
                with open(path, "wb") as file:
                    file.write(trees.pattern((i * 7919) % 200000, i))
                    if i % 5 == 0:
                        os.fsync(file.fileno())
                if i % 3 == 0:
                    os.rename(path, path + "x")
                if i % 7 == 0:
                    os.unlink(path + ("x" if i % 3 == 0 else ""))
            except OSError:
                return

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(3)]
    for thread in threads:
        thread.start()
    held = open(volume.path("held"), "wb")  # pylint: disable=consider-using-with
    held.write(trees.pattern(MIB))
    os.unlink(volume.path("held"))
    os.sync()
    stop.wait(3)
    pid = volume.pid
    os.kill(pid, signal.SIGKILL)
    stop.set()
    for thread in threads:
        thread.join()
    try:
        held.close()
    except OSError:
        pass
    ws.run("umount" if os.geteuid() == 0 else "fusermount3", "-l" if os.geteuid() == 0 else "-uz", volume.mnt)
    fsck(volume, "-n", "--data")
    before = hashes(volume)
    fsck(volume, "-n")
    assert hashes(volume) == before
    said = fsck(volume, "-p")
    assert "not unmounted" in said
    assert "directories" not in fsck(volume, "-p"), "it was not left as one unmounted in order"
    said = fsck(volume, "-f", "-p", "--data")
    assert " 0 inodes without a name" in said, "a deletion was left unfinished"
    volume.mount()
    volume.umount()


@case(FULL)
def a_leg_that_rotted_is_healed(ws):
    volume, expected = filled(ws)
    volume.umount()
    volume.rot(0)
    before = hashes(volume)
    said = fsck(volume, "-n", status=LEFT)
    assert "leg 0:" in said and "the other leg has them" in said
    assert hashes(volume) == before, "-n has written"
    fsck(volume, "-f", "-p", "--data", status=CORRECTED)
    fsck(volume, "-f", "-p", "--data")
    volume.rot(1)
    same(volume, expected)


@case(FULL)
def what_is_bad_on_both_legs_is_named_by_path_and_bytes(ws):
    volume, expected = filled(ws)
    volume.umount()
    data = trees.pattern(12 * MIB)
    for leg in (0, 1):
        spoil(volume, leg, place_of(volume, leg, data[MIB:MIB + BLOCK]))
    fsck(volume, "-n")  # without --data nobody looks
    before = hashes(volume)
    for options in (["-n"], ["-f", "-p"], ["-f", "-y"]):
        said = fsck(volume, "--data", *options, status=LEFT)
        assert f"/large: bytes {MIB} to {MIB + BLOCK - 1} are bad on every leg" in said, said
        assert options != ["-n"] or hashes(volume) == before, "-n has written"
    said = fsck(volume, "-p")
    assert "directories" not in said, "what is lost and was told holds up each start"
    expected.pop(b"large")
    volume.mount()
    trees.compare(expected, trees.manifest(volume.mnt, skip=("large",)))
    volume.umount()
    volume.mount()
    os.unlink(volume.path("large"))
    volume.umount()
    fsck(volume, "-f", "-p", "--data")


def lose_nodes(volume, content):
    """On both legs, all nodes with this in them: the newest, and the older ones that nobody refers to any more."""
    for leg in (0, 1):
        start, length = volume.heap(leg)
        with open(volume.legs[leg], "rb") as file:
            file.seek(start)
            heap = file.read(length)
        at = heap.find(content)
        assert at >= 0
        while at >= 0:
            spoil(volume, leg, start + at)
            at = heap.find(content, at + 1)


@case(FULL)
def nodes_that_no_leg_has_are_told_and_the_tree_is_made_anew(ws):
    volume, expected = filled(ws)
    # Far from what the volume keeps of itself.
    for i in range(200):  # in the tree between the blocks of "large" and its names: no block goes with a name
        trees.write(volume.path(f"before {i}"), b"")
    os.mkdir(volume.path("late"))
    for i in range(200):  # in the tree between its names and what they stand for: no directory goes with a name
        trees.write(volume.path(f"between {i}"), b"")
    for i in range(1000):
        os.mkdir(volume.path("late", f"{i}: a name that stands nowhere else" if i == 500 else str(i)))
    volume.umount()
    lose_nodes(volume, b"a name that stands nowhere else")
    before = hashes(volume)
    said = fsck(volume, "-n", status=LEFT)
    assert "can be read on no leg" in said and "cannot be read on any leg" in said, said
    assert hashes(volume) == before
    fsck(volume, "-f", "-p", status=LEFT)
    said = fsck(volume, "-p", status=LEFT)  # it was not called clean: this one looks again without being told to
    assert "lost+found" not in said and "is removed" not in said, "it took what it could not read for missing"
    volume.mount()
    os.mkdir(volume.path("new"))
    assert os.path.exists(volume.path("large"))
    volume.umount()
    said = fsck(volume, "-f", "-y", status=CORRECTED)
    assert "Lost on every leg" in said and "some name in /late" in said, said
    assert "lost+found" in said, said
    said = fsck(volume, "-f", "-n", "--data")
    assert "clean" in said
    volume.mount()
    found = os.listdir(volume.path("late")) + os.listdir(volume.path("lost+found"))
    assert len(found) == 1000, f"{len(found)} of 1000 directories are left"
    trees.compare(expected, {name: what for name, what in trees.manifest(volume.mnt).items() if name in expected})
    volume.umount()


@case(FULL)
def without_the_records_of_space_a_volume_is_read_only_until_the_tree_is_made_anew(ws):
    volume, expected = filled(ws)
    volume.umount()
    root, level = ondisk.tree_root(volume.legs[0])
    assert level == 1
    leaves = list(ondisk.children(volume.legs[0], root))
    assert [leaf[0] for leaf in leaves[:3]] == [0, 0, 0], "the second leaf does not have records alone"
    for leg in (0, 1):
        spoil(volume, leg, leaves[1][1] + 2048)
    volume.mount()
    trees.compare(expected, trees.manifest(volume.mnt))
    try:
        os.mkdir(volume.path("new"))
        raise AssertionError("a directory was made")
    except OSError as error:
        assert error.errno == errno.EROFS, error
    done = ws.run("mirrorctl", "status", volume.mnt, ok=False)
    assert done.returncode == 4 and "fsck.mirrorfs" in done.stdout and "read-only" in done.stdout, done
    volume.umount()
    before = hashes(volume)
    said = fsck(volume, "-n", status=LEFT)
    assert "-y makes it anew" in said, said
    assert hashes(volume) == before
    fsck(volume, "-f", "-p", status=LEFT)
    said = fsck(volume, "-f", "-y", status=CORRECTED)
    assert "the record of block" in said, said
    fsck(volume, "-f", "-n", "--data")
    same(volume, expected)


@case(FULL)
def without_its_root_a_volume_is_rebuilt_from_its_leaves(ws):
    volume, expected = filled(ws)
    volume.umount()
    for leg in (0, 1):
        spoil(volume, leg, ondisk.tree_root(volume.legs[leg])[0] + 2048)
    said = fsck(volume, "-y", "-f", status=CORRECTED)
    assert "the way to what the tree holds from" in said, said
    fsck(volume, "-f", "-n", "--data")
    same(volume, expected)


@case(FULL)
def a_wrong_number_of_blocks_in_the_superblock_is_set(ws):
    volume, expected = filled(ws)
    volume.umount()

    def one_more(block):
        block[192:200] = (int.from_bytes(block[192:200], "little") + 1).to_bytes(8, "little")

    for leg in volume.legs:
        for slot in ondisk.SUPER_SLOTS:
            ondisk.edit_block(leg, slot, one_more)
    said = fsck(volume, "-n", status=LEFT)
    assert "The superblock counts" in said, said
    fsck(volume, "-f", "-p", status=CORRECTED)
    fsck(volume, "-f", "-p")
    same(volume, expected)


@case(FULL)
def a_superblock_that_one_leg_lost_is_written_again(ws):
    volume, expected = filled(ws)
    volume.umount()
    for slot in (0, 16):
        spoil(volume, 1, SPACE_OFFSET + slot * BLOCK + 100)
    before = hashes(volume)
    said = fsck(volume, "-n", status=LEFT)
    assert "superblocks none and none" in said and "The legs differ" in said, said
    assert hashes(volume) == before
    fsck(volume, "-p", status=CORRECTED)
    fsck(volume, "-f", "-p")
    same(volume, expected)


@case(QUICK)
def what_cannot_be_checked_is_refused(ws):
    volume = ws.volume(size="128M")
    volume.mount()
    for option in ("-n", "-p", "-y"):
        said = fsck(volume, option, status=OPERATION)
        assert "already mounted" in said and volume.mnt in said, said
    fsck(volume, "-M", "-p")
    trees.write(volume.path("file"), b"still there")
    volume.umount()
    with open(ws.join("foreign"), "wb") as file:
        file.truncate(128 * MIB)
    said = fsck(volume, "-p", legs=[volume.legs[0], ws.join("foreign")], status=OPERATION)
    assert "not a mirrorfs leg" in said
    fsck(volume, "-p", legs=[ws.join("nothing")], status=OPERATION)
    os.rename(volume.legs[1], ws.join("away"))
    said = fsck(volume, "-p", legs=volume.legs[:1], status=OPERATION)
    assert volume.legs[1] in said, "the missing leg is not named"
    os.rename(ws.join("away"), volume.legs[1])
    os.truncate(volume.legs[0], 64 * MIB)
    said = fsck(volume, "-p", status=OPERATION)
    assert "truncated" in said


@case(QUICK)
def wrong_words_are_16_and_those_of_fsck_are_taken(ws):
    volume = ws.volume(size="128M")
    for words in (["-Q"], ["--nonsense"], ["-n", "-y"], ["-Cx"], []):
        fsck(volume, *words, status=USAGE, legs=[] if not words else None)
    fsck(volume, "-a", "-T", "-l", "-M", "-C0")
    said = fsck(volume, "-f", "-p", "-C", "1")
    lines = [line.split() for line in said.splitlines() if line[:1].isdigit() and line.split()[-1] == volume.legs[0]]
    assert [line[0] for line in lines] == sorted(line[0] for line in lines), lines
    assert {line[0] for line in lines} >= {"1", "3", "4", "5"}, lines
    assert all(int(line[1]) <= int(line[2]) for line in lines), lines


@case(FULL, needs=["loop"])
def a_clean_volume_of_block_devices_is_found_by_one_leg(ws):
    volume, expected = filled(ws, loop=True)
    volume.umount()
    fsck(volume, "-f", "-p", legs=volume.legs[1:])
    volume.rot(1)
    fsck(volume, "-f", "-y", "--data", legs=volume.legs[:1], status=CORRECTED)
    same(volume, expected)


@case(QUICK)
def a_volume_without_one_leg_is_checked_alone(ws):
    volume, expected = filled(ws)
    volume.umount()
    os.rename(volume.legs[1], ws.join("away"))
    volume.mount("degraded", legs=volume.legs[:1])
    volume.kill()
    said = fsck(volume, "-p", legs=volume.legs[:1])
    assert "leg 1: absent" in said, said
    os.rename(ws.join("away"), volume.legs[1])
    said = fsck(volume, "-p", "-f")
    assert "leg 1: stale" in said, said
    same(volume, expected)
