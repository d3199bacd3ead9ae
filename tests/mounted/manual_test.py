# SPDX-License-Identifier: GPL-2.0-or-later
"""The manual is true: help and pages name the same options, and the examples do what they are there for."""
import os
import re

import trees
from cases import FULL, QUICK, case
from workspace import MIB, mounted, wait_for

PAGES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "man")
PROGRAMS = {"mirrorctl": 8, "mirrorfs": 8, "mkfs.mirrorfs": 8, "fsck.mirrorfs": 8, "odirect-matrix": 1,
            "odirect-read": 1}


def page_of(program):
    return trees.read(os.path.join(PAGES, f"{program}.{PROGRAMS[program]}")).decode()


def flags(words):
    """-abc is three of them, --long one."""
    return {f"-{word}" for group in words for word in ([group] if group.startswith("-") else group)}


@case(QUICK)
def help_and_page_of_each_program_name_the_same_options(ws):
    for program in PROGRAMS:
        done, page = ws.run(program, "--help", ok=False), page_of(program)
        text = done.stdout + done.stderr
        told = set(re.findall(r"(?<![\w-])(--[a-z][\w-]*|-[A-Za-z0-9])(?![\w-]*\w)", text))
        items = flags(word for line in re.findall(r"^\.It .*Fl .*$", page, re.MULTILINE)
                      for word in re.findall(r"Fl ([\w-]+)", line))
        named = flags(re.findall(r"Fl ([\w-]+)", page))
        assert items <= told <= named, (program, told ^ items)
    told = set(re.findall(r"^  ([a-z-]+) .*?(?:  |$)", ws.run("mirrorctl", "--help").stdout, re.MULTILINE))
    page = page_of("mirrorctl")
    synopsis = page[page.index(".Sh SYNOPSIS"):page.index(".Sh DESCRIPTION")]
    assert told == set(re.findall(r"^\.Cm ([a-z-]+)$", synopsis, re.MULTILINE)), (told, synopsis)
    assert told <= set(re.findall(r"^\.It Cm ([a-z-]+)", page, re.MULTILINE))
    words = ws.run("mirrorfs", "--help").stdout.partition("\nOptions:\n")[2]
    for word in re.findall(r"^  ([a-z-]+)(?:=|  )", words, re.MULTILINE):
        assert re.search(rf"^\.(It )?Cm (.* , )?{word}\b", page_of("mirrorfs"), re.MULTILINE), word


def examples():
    """Every command line in EXAMPLES of the pages, as it stands there."""
    found = []
    for name in sorted(os.listdir(PAGES)):
        page = trees.read(os.path.join(PAGES, name)).decode()
        part = re.search(r"^\.Sh EXAMPLES$(.*?)^\.Sh ", page, re.MULTILINE | re.DOTALL)
        if part:
            found += re.findall(r"^(?:\.Dl )?((?:[$#] |0 3 ).*)$", part[1], re.MULTILINE)
    return [line for line in found if not line.startswith("# kind of event")]  # a comment in a script


# All examples in an order in which they can be carried out.
ON_DISKS = [
    "# mkfs.mirrorfs -L photos /dev/sdb /dev/sdc",
    "# mkfs.mirrorfs -f -L photos /dev/sdb /dev/sdc",
    "# mirrorfs LABEL=photos /srv/photos",
    "$ mirrorctl status /mnt",
    "0 3 1 * * root mirrorctl scrub /mnt >/dev/null",
    "$ mirrorctl stats --prometheus > /var/lib/node_exporter/mirrorfs.tmp",
    "$ mv /var/lib/node_exporter/mirrorfs.tmp /var/lib/node_exporter/mirrorfs.prom",
    "$ mirrorctl --json status /mnt | jq '.result.legs[0].repaired'",
    "$ odirect-read /mnt/file",
    "# mirrorctl drill /srv/photos 1 read,hang",
    "# fsck.mirrorfs -p /dev/sdb /dev/sdc",
    "# fsck.mirrorfs -f -y LABEL=photos",
    "# mirrorfs -o degraded /dev/sdc /srv/photos",
]
ON_IMAGES = [
    "$ mkfs.mirrorfs -s 1G left.img right.img",
    "$ mkdir here",
    "$ mirrorfs left.img right.img here",
    "$ cp -a precious here",
    "$ fusermount3 -u here",
    "$ fsck.mirrorfs -n --data left.img right.img",
    "$ mirrorfs 'fault:read,corrupt,range=1M-,latch,chance=1000;any,delay=200,chance=50:left.img' right.img here",
    "$ mirrorctl events here",
    "$ mirrorctl status --files here",
    "$ truncate -s 1G new.img",
    "$ mirrorctl replace here 1 new.img",
    "$ mirrorctl resync here",
]
ELSEWHERE = [  # odirect_test.py; install_test.py, with helpers of its own in /sbin
    "$ odirect-matrix /srv | tail -n 1",
    "# mount -t mirrorfs -o leg=/dev/sdb /dev/sda /srv/photos",
    "# umount /srv/photos",
]


@case(QUICK)
def every_example_of_the_manual_is_tested(ws):
    tested = {*ON_DISKS, *ON_IMAGES, *ELSEWHERE}
    assert set(examples()) == tested, set(examples()) ^ tested


def carry_out(ws, line, places):
    command = re.sub(r"^([$#] |0 3 1 \* \* root )", "", line)
    for place, real in places.items():
        command = re.sub(rf"(?<![\w/]){re.escape(place)}(?![\w])", real, command)
    path = f"{ws.tools}:{os.environ['PATH']}"
    return ws.run("sh", "-e", "-c", command, cwd=ws.path, env={**os.environ, "PATH": path},
                  ok=not command.startswith("mirrorctl stats")).stdout


@case(FULL, needs=("loop", "jq"))
def the_examples_on_disks_work(ws):
    volume = ws.volume(size="64M", loop=True, make=False)
    for i, image in enumerate(volume.images):
        ws.run("truncate", "-s", "64M", image)
        volume.legs[i] = ws.loop(image)
    label = "photos" + os.path.basename(ws.path)[-6:]
    places = {"/dev/sdb": volume.legs[0], "/dev/sdc": volume.legs[1], "/srv/photos": volume.mnt, "/mnt/file":
              volume.path("file"), "/mnt": volume.mnt, "/var/lib/node_exporter": ws.folder("node"),
              "photos": label}
    for line in ON_DISKS:
        if line.startswith("# fsck") and mounted(volume.mnt):
            ws.run("mirrorctl", "drill", volume.mnt, "1", "off")
            ws.run("mirrorctl", "umount", volume.mnt)
        said = carry_out(ws, line, places)
        if "LABEL=" in line and "mirrorfs LABEL" in line and mounted(volume.mnt):
            trees.write(volume.path("file"), trees.pattern(MIB))
        if "repaired" in line:
            assert said == "0\n", said
    assert mounted(volume.mnt)
    assert trees.read(volume.path("file")) == trees.pattern(MIB)
    assert b"mirrorfs_health" in trees.read(ws.join("node", "mirrorfs.prom"))
    ws.run("mirrorctl", "umount", volume.mnt)


@case(FULL)
def the_examples_on_images_work(ws):
    ws.folder("precious")
    trees.write(ws.join("precious", "file"), trees.pattern(MIB))
    for line in ON_IMAGES:
        carry_out(ws, line, {"1G": "64M"})
        if "fusermount3" in line:
            wait_for("the end of the mount", lambda: not mounted(ws.join("here")))
    assert trees.read(ws.join("here", "precious", "file")) == trees.pattern(MIB)
    ws.run("mirrorctl", "umount", ws.join("here"))
