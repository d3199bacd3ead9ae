# SPDX-License-Identifier: GPL-2.0-or-later
"""What udev and lsblk show of a leg."""
import json
import os
import subprocess

import system
import trees
from cases import FULL, QUICK, Skip, case
from workspace import mounted, wait_for

UDEVD = "/usr/lib/systemd/systemd-udevd"
RULES = "/usr/lib/udev/rules.d"
NO_LEG, ERROR = 2, 3


def probed(ws, path, **more):
    done = ws.run("mirrorfs-probe", path, **more)
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


@case(QUICK)
def the_probe_tells_of_volume_leg_and_label(ws):
    volume = ws.volume(make=False)
    volume.make("-s", "64M", "-L", "a b\"/\u00e4'")
    told = [probed(ws, leg) for leg in volume.legs]
    volume.mount()
    uuid = volume.status()[0]["volume"]["uuid"]
    assert told == [probed(ws, leg) for leg in volume.legs], "mounted, it is told otherwise"
    volume.umount()
    for leg in told:
        assert (leg["ID_FS_TYPE"], leg["ID_FS_USAGE"], leg["ID_FS_UUID"]) == ("mirrorfs", "filesystem", uuid), leg
        assert leg["ID_FS_LABEL"] == "a_b_/\u00e4_", leg
        assert leg["ID_FS_LABEL_ENC"] == "a\\x20b\\x22\\x2f\u00e4\\x27", leg
    assert told[0]["ID_FS_UUID_SUB"] != told[1]["ID_FS_UUID_SUB"]
    trees.write(ws.join("other"), b"\0" * (1 << 20))
    assert ws.run("mirrorfs-probe", ws.join("other"), ok=False).returncode == NO_LEG
    assert ws.run("mirrorfs-probe", ws.join("missing"), ok=False).returncode == ERROR


class Udev:
    """A udevd that knows our rule and what comes before it, for these devices alone, and is seen by nobody else."""

    def __init__(self, ws, rule, devices):
        self.ws = ws
        names = "|".join(os.path.basename(device) for device in devices)
        rules = ws.folder("rules.d")
        with open(os.path.join(rules, "10-blkid.rules"), "w", encoding="utf-8") as file:
            file.write(f'KERNEL!="{names}", ENV{{UDEV_DISABLE_PERSISTENT_STORAGE_RULES_FLAG}}="1"\n'
                       f'KERNEL=="{names}", IMPORT{{builtin}}="blkid"\n')
        with open(rule, encoding="utf-8") as ours, \
                open(os.path.join(rules, "64-mirrorfs.rules"), "w", encoding="utf-8") as file:
            file.write(ours.read().replace("mirrorfs-probe", os.path.join(ws.tools, "mirrorfs-probe")))
        system.bind(rules, RULES)
        system.own(ws, "/run/udev", "/dev/disk", "/dev/block")
        self.log = open(ws.join("udevd.log"), "w+", encoding="utf-8", errors="replace")
        self.process = subprocess.Popen([UDEVD, "--resolve-names=never", "--children-max=2"], stdout=self.log,
                                        stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        wait_for("udevd", lambda: self.process.poll() is not None or os.path.exists("/run/udev/control"))
        if self.process.poll() is not None:
            self.log.seek(0)
            raise Skip("udev: its daemon does not run here: " + self.log.read().strip()[-200:])
        self.look_at(*devices)

    def look_at(self, *devices):
        """As the kernel has it look at what appears, or was written."""
        self.ws.run("udevadm", "trigger", "--action=change", "--settle", *devices)

    def end(self):
        self.process.terminate()
        self.process.wait()
        self.log.seek(0)
        print(self.log.read())


@case(FULL, needs=["root", "loop", "udevadm", "lsblk"])
def lsblk_shows_legs_and_fstab_finds_them_by_uuid_and_label(ws):
    if not os.path.exists(UDEVD):
        raise Skip(f"udev: no {UDEVD}")
    volume = ws.volume(size="64M", loop=True)
    label = f"t{os.getpid()} \u00e4"
    spare = ws.join("spare")
    ws.run("truncate", "-s", "64M", spare)
    new = ws.loop(spare)
    volume.make("-f", "-L", label)
    told = [probed(ws, leg) for leg in volume.legs]
    rule = os.path.join(ws.tools, "system/64-mirrorfs.rules")
    system.enter(ws, net=True)
    udev = Udev(ws, rule, [*volume.legs, new])
    try:
        listed = json.loads(ws.run("lsblk", "-J", "-o", "PATH,FSTYPE,UUID,LABEL", *volume.legs).stdout)
        for leg, device in zip(told, listed["blockdevices"]):
            assert (device["fstype"], device["uuid"], device["label"]) == ("mirrorfs", leg["ID_FS_UUID"], label), device
        shown = ws.run("udevadm", "info", "--query=property", volume.legs[1]).stdout
        assert f"ID_FS_UUID_SUB={told[1]['ID_FS_UUID_SUB']}\n" in shown, shown
        for spec in (f"UUID={told[0]['ID_FS_UUID']}", "LABEL=" + label.replace(" ", "\\040")):
            system.fstab(ws, f"{spec} {volume.mnt} mirrorfs defaults 0 0")
            ws.run("mount", "-a")
            ws.run("mount", "-a")
            assert mounted(volume.mnt) and len(system.mount_options(volume.mnt)) == 1
            ws.run("umount", volume.mnt)
        # Nor is one that was replaced.
        old = volume.legs[1]
        ws.run("mirrorfs", *volume.legs, volume.mnt)
        ws.run("mirrorctl", "replace", volume.mnt, old, new)
        ws.run("mirrorctl", "resync", volume.mnt)
        ws.run("mirrorctl", "umount", volume.mnt)
        udev.look_at(*volume.legs, new)
        assert ws.run("lsblk", "-no", "FSTYPE,UUID,LABEL", old).stdout.split() == ["mirrorfs"]
        for link in ("by-uuid/" + told[0]["ID_FS_UUID"], "by-label/" + told[0]["ID_FS_LABEL_ENC"]):
            assert os.path.realpath(f"/dev/disk/{link}") in (volume.legs[0], new), link
        volume.legs[1] = new
        system.fstab(ws, f"UUID={told[0]['ID_FS_UUID']} {volume.mnt} mirrorfs defaults 0 0")
        ws.run("mount", "-a")
        ws.run("umount", volume.mnt)
        # What holds something else is no leg any more.
        ws.run("mkfs.ext4", "-q", "-F", volume.legs[0])
        udev.look_at(volume.legs[0])
        assert ws.run("lsblk", "-no", "FSTYPE", volume.legs[0]).stdout.strip() == "ext4"
        assert os.path.realpath(f"/dev/disk/by-uuid/{told[0]['ID_FS_UUID']}") == volume.legs[1]
    finally:
        udev.end()
