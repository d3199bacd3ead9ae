# SPDX-License-Identifier: GPL-2.0-or-later
"""What is installed is complete, and mounts."""
import glob
import os
import re
import sysconfig

import system
import trees
from cases import FULL, LONG, Skip, case
from workspace import mounted

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
PROGRAMS = {"bin": ["mkfs.mirrorfs", "mirrorfs", "mirrorctl", "fsck.mirrorfs", "odirect-read", "odirect-matrix"],
            "sbin": ["mount.mirrorfs", "umount.mirrorfs"]}
LINKS = {f"{helper}.{kind}.mirrorfs": f"{helper}.mirrorfs" for helper in ("mount", "umount")
         for kind in ("fuse", "fuseblk")}


def installed(folder):
    """{path: where it leads to, or ""}"""
    found = {}
    for where, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(where, name)
            found["/" + os.path.relpath(path, folder)] = os.readlink(path) if os.path.islink(path) else ""
    return found


def expected(prefix, packed=""):
    """What is installed, and nothing else. `packed`: how the names of manual pages end."""
    paths = {f"{prefix}/bin/{name}": "" for name in PROGRAMS["bin"]}
    paths |= {f"/usr/sbin/{name}": "" for name in PROGRAMS["sbin"]}
    paths |= {f"/usr/sbin/{name}": target for name, target in LINKS.items()}
    paths[f"{prefix}/share/mirrorfs/mirrorctl.schema.json"] = ""
    for page in os.listdir(os.path.join(ROOT, "man")):
        if page.endswith(".json"):
            continue
        paths[f"{prefix}/share/man/man{page[-1]}/{page}{packed}"] = ""
    for name in [*LINKS, "umount.mirrorfs"]:
        paths[f"{prefix}/share/man/man8/{name}.8{packed}"] = f"mount.mirrorfs.8{packed}"
    paths |= {"/usr/lib/udev/mirrorfs-probe": "", "/usr/lib/udev/rules.d/64-mirrorfs.rules": "",
              "/usr/lib/systemd/system/mirrorfs@.service": ""}
    paths[f"{prefix}/lib/{sysconfig.get_config_var('MULTIARCH')}/mirrorfs/leg-nbd.so"] = ""
    completions = f"{prefix}/share/bash-completion/completions"
    paths[f"{completions}/mirrorctl"] = ""
    return paths | {f"{completions}/{name}": "mirrorctl" for name in PROGRAMS["bin"] if name.endswith("mirrorfs")}


def use(ws, folder):
    """As somebody would who has installed it: over the system's /usr, for this process alone."""
    system.leave()
    system.overlay(os.path.join(folder, "usr"), "/usr")
    ws.tools = "/nowhere"
    volume = ws.volume(size="64M")
    system.fstab(ws, f"{volume.legs[0]} {volume.mnt} mirrorfs leg={volume.legs[1]} 0 0")
    ws.run("mount", "-a")
    ws.run("mount", "-a")
    trees.write(volume.path("file"), b"it works")
    ws.run("mirrorctl", "status", volume.mnt)
    ws.run("umount", volume.mnt)
    assert not mounted(volume.mnt)
    ws.run("fsck", "-t", "mirrorfs", volume.legs[0], "--", "-n")
    ws.run("mkfs", "-t", "mirrorfs", "-f", *volume.legs)
    unit = trees.read("/usr/lib/systemd/system/mirrorfs@.service").decode()
    program = re.search(r"^ExecStart=(\S+) ", unit, re.MULTILINE)[1]
    ws.run(program, "-V")
    ws.run("/usr/lib/udev/mirrorfs-probe", volume.legs[1])


@case(FULL, needs=["root", "meson"])
def meson_install_puts_everything_in_its_place(ws):
    build, target = os.path.dirname(ws.tools), ws.join("target")
    ws.run("meson", "install", "--no-rebuild", "--quiet", "-C", build, "--destdir", target)
    prefix = "/usr/local"
    found, wanted = installed(target), expected(prefix)
    if f"{prefix}/bin/mirrorfs" not in found:
        raise Skip("prefix: this build is to be installed elsewhere")
    assert found == wanted, {path for path in found.keys() ^ wanted.keys()} or (found, wanted)
    use(ws, target)


@case(LONG, needs=["root", "dpkg-buildpackage", "dh", "lintian"], timeout=1200)
def the_debian_package_is_clean_and_mounts(ws):
    folder = ws.join("package")
    ws.run(os.path.join(ROOT, "tools/system/build-deb"), folder, timeout=1000)
    packages = [path for path in glob.glob(os.path.join(folder, "*.deb")) if "dbgsym" not in path]
    assert sorted(os.path.basename(path).split("_")[0] for path in packages) == ["mirrorfs", "mirrorfs-nbd"], packages
    done = ws.run("lintian", "--allow-root", *glob.glob(os.path.join(folder, "*.changes")))
    assert done.stdout == "", done.stdout
    target = ws.join("target")
    for package in packages:
        ws.run("dpkg", "-x", package, target)
    found = {path: link for path, link in installed(target).items() if not path.startswith("/usr/share/doc/")}
    wanted = expected("/usr", ".gz")
    assert found == wanted, {path for path in found.keys() ^ wanted.keys()} or (found, wanted)
    needed = {line.split()[0] for line in trees.read(os.path.join(ROOT, "tools/packages")).decode().splitlines()
              if "-dev " in line and " build " in line} - {"libc6-dev", "linux-libc-dev"}
    control = trees.read(os.path.join(ROOT, "tools/system/debian/control")).decode()
    assert needed == set(re.findall(r"\S+-dev", control)), "tools/packages and debian/control differ"
    use(ws, target)
