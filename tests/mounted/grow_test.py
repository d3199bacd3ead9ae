# SPDX-License-Identifier: GPL-2.0-or-later
"""Legs of other sizes: volumes that grow, and legs that are larger, or have other sectors."""
import os

import trees
from cases import FULL, QUICK, case
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


@case(QUICK)
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
