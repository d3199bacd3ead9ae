# SPDX-License-Identifier: GPL-2.0-or-later
"""What goes in comes out: after an unmount and a mount every byte, mode, owner, time and link is as it was."""
import os

import programs
import trees
from cases import FULL, LONG, QUICK, Skip, case

GIB = 1 << 30
NOBODY = 65534


def goes_in_and_comes_out(volume, sources, fill=None, check=None):
    expected = {}
    volume.mount()
    trees.copy(sources, volume.mnt)
    for source in sources:
        for path, what in trees.manifest(source).items():
            if os.geteuid() != 0:  # whoever copies owns the copy
                what = (what[0], os.getuid(), os.getgid(), *what[3:])
            expected[os.path.join(os.fsencode(os.path.basename(source)), path)] = what
    if fill:
        fill(volume.mnt)
    before = trees.manifest(volume.mnt, skip=("sparse",))
    if volume.user is None:
        trees.compare(expected, {path: before.get(path) for path in expected})
    for _ in range(2):
        volume.remount()
        trees.compare(before, trees.manifest(volume.mnt, skip=("sparse",)))
        if check:
            check(volume.mnt)
    told, status = volume.status()
    assert (told["health"], status) == ("healthy", 0), told
    volume.counted_nothing_forbidden()
    volume.umount()
    volume.ws.run("fsck.mirrorfs", "-n", *volume.legs, user=volume.user)


def fill_odd(mnt):
    trees.odd_things(os.path.join(mnt, "odd"))
    trees.sparse(os.path.join(mnt, "sparse"))


def check_odd(mnt):
    trees.check_sparse(os.path.join(mnt, "sparse"))


@case(QUICK, timeout=90)
def a_tree_comes_back_as_it_was(ws):
    goes_in_and_comes_out(ws.volume(), trees.real_trees(20, ["/usr/include/linux", "/usr/share/bash-completion"]),
                          fill_odd, check_odd)


@case(FULL, needs=["git", "sqlite3"], timeout=400)
def include_files_a_repository_and_a_database_come_back(ws):
    def fill(mnt):
        fill_odd(mnt)
        programs.make_repository(ws, os.path.join(mnt, "repository"))
        programs.make_database(ws, os.path.join(mnt, "database"))

    def check(mnt):
        check_odd(mnt)
        programs.check_repository(ws, os.path.join(mnt, "repository"))
        programs.check_database(ws, os.path.join(mnt, "database"))

    goes_in_and_comes_out(ws.volume(size="2G"), trees.real_trees(400), fill, check)


@case(FULL, needs=["loop"], timeout=200)
def it_does_so_on_block_devices(ws):
    sources = trees.real_trees(100, ["/usr/include/linux", "/usr/share/perl5"])
    goes_in_and_comes_out(ws.volume(loop=True, size="512M"), sources, fill_odd, check_odd)


@case(QUICK, timeout=90)
def an_ordinary_user_needs_no_root(ws):
    if os.geteuid() != 0:
        volume = ws.volume()
    elif os.stat("/dev/fuse").st_mode & 0o006 != 0o006:
        raise Skip("fuse: only root may open /dev/fuse")
    else:
        programs.lend_tools(ws)
        volume = ws.volume(user=NOBODY)
    volume.mount()
    # Only the user may look inside, so the work is done in that user's name.
    script = f"""set -e; cd {volume.mnt}; mkdir a; cp -r /usr/include/linux a; ln -s a b
        echo hello >a/hello; mv a/hello a/there; chmod 600 a/there; diff -r /usr/include/linux a/linux"""
    ws.run("sh", "-c", script, user=volume.user)
    volume.remount()
    ws.run("sh", "-c", f"cd {volume.mnt}; diff -r /usr/include/linux b/linux && cat b/there && stat -c %a:%u b/there",
           user=volume.user)
    _, status = volume.status()
    assert status == 0
    volume.umount()


@case(LONG, needs=["git", "sqlite3"], timeout=3600)
def all_of_usr_share_and_a_file_above_4_gib_come_back(ws):
    def fill(mnt):
        with open(os.path.join(mnt, "large"), "wb") as file:
            for i in range(0, 9 * GIB // 2, 1 << 20):
                file.write(trees.pattern(1 << 20, i))

    def check(mnt):
        with open(os.path.join(mnt, "large"), "rb") as file:
            for i in range(0, 9 * GIB // 2, 1 << 20):
                assert file.read(1 << 20) == trees.pattern(1 << 20, i), f"wrong data at {i}"

    goes_in_and_comes_out(ws.volume(size="8G"), ["/usr/share", "/usr/include"], fill, check)
