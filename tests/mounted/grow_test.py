# SPDX-License-Identifier: GPL-2.0-or-later
"""Legs of other sizes: volumes that grow, and legs that are larger, or have other sectors."""
import os

import trees
from cases import FULL, case
from resync_test import clean, healthy, is_whole

MIB = 1 << 20


def grow(volume, ok=True):
    return volume.ws.run("mirrorctl", "grow", volume.mnt, ok=ok)


def size(volume):
    told = os.statvfs(volume.mnt)
    return told.f_blocks * told.f_frsize


def checked(volume):
    """fsck has nothing to say, and the volume mounts again."""
    volume.umount()
    said = volume.ws.run("fsck.mirrorfs", "-n", "-f", "--data", *volume.legs).stdout
    print(said)
    volume.mount()


def fills(volume, least):
    """Really takes so many bytes, in files."""
    for n in range(least // (16 * MIB)):
        with open(volume.path(f"fill{n}"), "wb") as file:
            file.write(trees.pattern(16 * MIB, n))
            os.fsync(file.fileno())
    return trees.manifest(volume.mnt)


@case(FULL)
def a_volume_in_use_grows_with_its_images(ws):
    volume = ws.volume(size="64M")
    volume.mount()
    trees.write(volume.path("old"), trees.pattern(20 * MIB))
    before = size(volume)
    os.truncate(volume.images[0], 160 * MIB)
    refusal = grow(volume, ok=False)
    assert refusal.returncode == 1, refusal
    for word in ("leg 1", volume.images[1], "holds 63 MiB"):
        assert word in refusal.stderr, word
    os.truncate(volume.images[1], 128 * MIB)
    assert "127.0 MiB, it was 63.0 MiB" in grow(volume).stdout
    assert size(volume) == before + 64 * MIB, (before, size(volume))
    expected = fills(volume, 80 * MIB)
    checked(volume)
    trees.compare(expected, trees.manifest(volume.mnt))
    assert size(volume) == before + 64 * MIB
    clean(volume)
    expected = trees.manifest(volume.mnt)
    volume.umount()
    is_whole(volume, 1, expected)


@case(FULL, needs=["loop"])
def a_volume_in_use_grows_with_its_devices(ws):
    volume = ws.volume(size="64M", loop=True)
    volume.mount()
    before = size(volume)
    for image, device in zip(volume.images, volume.legs):
        os.truncate(image, 128 * MIB)
        assert "holds 63 MiB" in grow(volume, ok=False).stderr, "the device is as small as it was"
        ws.run("losetup", "-c", device)
    grow(volume)
    assert size(volume) == before + 64 * MIB
    expected = fills(volume, 80 * MIB)
    volume.kill()
    volume.mount()
    trees.compare(expected, trees.manifest(volume.mnt))
    checked(volume)
    volume.umount()


@case(FULL)
def the_reserve_grows_too_and_is_there_for_real(ws):
    volume = ws.volume(size="64M")
    volume.mount()
    for image in volume.images:
        os.truncate(image, 4096 * MIB)
    taken = [os.stat(image).st_blocks for image in volume.images]
    grow(volume)
    for image, blocks in zip(volume.images, taken):
        more = (os.stat(image).st_blocks - blocks) * 512
        assert 50 * MIB < more < 70 * MIB, f"{more} bytes were allocated for the reserve"
    grown = size(volume)
    trees.write(volume.path("new"), trees.pattern(100 * MIB))
    volume.remount()
    assert size(volume) == grown
    # Nobody gives it back: neither freed nodes nor a trim.
    volume.remount("discard")
    ws.run("fstrim", volume.mnt)
    os.unlink(volume.path("new"))
    volume.remount()
    for image, blocks in zip(volume.images, taken):
        assert (os.stat(image).st_blocks - blocks) * 512 > 50 * MIB
    checked(volume)
    # A second time.
    for image in volume.images:
        os.truncate(image, 8192 * MIB)
    grow(volume)
    assert size(volume) - grown > 3900 * MIB
    checked(volume)
    volume.umount()


@case(FULL, needs=["root"])
def without_room_for_its_reserve_a_volume_stays_as_it_is(ws):
    volume = ws.volume(make=False)
    ws.run("mount", "-t", "tmpfs", "-o", "size=100M", "none", ws.folder("narrow"))
    volume.legs = volume.images = [ws.join("wide"), ws.join("narrow", "leg")]
    volume.make("-s", "64M")
    volume.mount()
    before = size(volume)
    for image in volume.images:
        os.truncate(image, 16384 * MIB)
    refusal = grow(volume, ok=False)
    assert refusal.returncode == 1 and volume.legs[1] in refusal.stderr and "reserve" in refusal.stderr, refusal
    assert size(volume) == before and volume.status()[1] == 0
    checked(volume)
    volume.umount()
    ws.run("umount", ws.join("narrow"))


@case(FULL)
def a_leg_that_is_away_does_not_let_a_volume_grow(ws):
    volume = ws.volume(size="64M")
    volume.mount()
    ws.run("mirrorctl", "detach", volume.mnt, "1")
    for image in volume.images:
        os.truncate(image, 128 * MIB)
    refusal = grow(volume, ok=False)
    assert refusal.returncode == 1 and "leg 1 is absent" in refusal.stderr, refusal
    ws.run("mirrorctl", "attach", volume.mnt, volume.legs[1])
    healthy(volume)
    grow(volume)
    checked(volume)
    volume.umount()


def replaced(volume, leg, new):
    """`new` takes the place of a leg, and is whole."""
    volume.ws.run("mirrorctl", "replace", volume.mnt, volume.legs[leg], new)
    healthy(volume)
    volume.legs[leg] = new


@case(FULL)
def legs_of_two_sizes_make_a_volume_of_the_smaller(ws):
    small, large = ws.join("small"), ws.join("large")
    ws.run("truncate", "-s", "100M", small)
    ws.run("truncate", "-s", "150M", large)
    volume = ws.volume(make=False)
    volume.legs = [large, small]
    volume.make()
    volume.mount()
    assert size(volume) < 100 * MIB
    trees.write(volume.path("file"), trees.pattern(20 * MIB))
    # One that is too small: both sizes are told, and nothing is given up.
    ws.run("truncate", "-s", "99M", ws.join("tiny"))
    refusal = ws.run("mirrorctl", "replace", volume.mnt, small, ws.join("tiny"), ok=False)
    assert refusal.returncode == 1 and str(99 * MIB) in refusal.stderr and str(100 * MIB) in refusal.stderr, refusal
    assert volume.status()[1] == 0
    # A larger one in the place of the one that limits, and then there is room.
    ws.run("truncate", "-s", "200M", ws.join("larger"))
    replaced(volume, 1, ws.join("larger"))
    assert "149.0 MiB, it was 99.0 MiB" in grow(volume).stdout
    expected = fills(volume, 80 * MIB)
    checked(volume)
    trees.compare(expected, trees.manifest(volume.mnt))
    volume.umount()
    is_whole(volume, 1, expected)


@case(FULL, needs=["loop"])
def a_leg_with_other_sectors_takes_the_place_of_one(ws):
    volume = ws.volume(size="100M", loop=True)
    volume.mount()
    trees.write(volume.path("file"), trees.pattern(20 * MIB))
    ws.run("truncate", "-s", "120M", ws.join("large"))
    device = ws.run("losetup", "-f", "--show", "--sector-size", "4096", ws.join("large")).stdout.strip()
    with open(f"/sys/block/{os.path.basename(device)}/queue/logical_block_size", encoding="ascii") as file:
        assert file.read().strip() == "4096"
    replaced(volume, 0, device)
    clean(volume)
    expected = fills(volume, 32 * MIB)
    volume.counted_nothing_forbidden()
    volume.umount()
    # Whatever is read of either leg is right.
    for policy in ("leg0", "leg1"):
        volume.mount(f"read-policy={policy}")
        trees.compare(expected, trees.manifest(volume.mnt))
        told, status = volume.status()
        assert status == 0 and not any(leg["checksum_errors"] + leg["read_errors"] for leg in told["legs"]), told
        volume.umount()
