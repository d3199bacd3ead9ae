# SPDX-License-Identifier: GPL-2.0-or-later
"""What a daemon that serves has given up, and that it still does all it has to."""
import os
import re
import resource
import signal
import subprocess

import trees
from cases import QUICK, case
from linux import libc
from workspace import alive, daemons, mounted, wait_for

NOBODY = 65534
ROOTS = 1 << 1 | 1 << 14  # CAP_DAC_OVERRIDE, CAP_IPC_LOCK
MIB = 1 << 20
PR_SET_IO_FLUSHER, MEMALLOC_NOIO = 57, 0x80000


def with_sanitizer(ws):
    """Then there is no filter, and nothing is locked in memory."""
    program = trees.read(os.path.join(ws.tools, "mirrorfs"))
    return b"__asan_init" in program or b"__tsan_init" in program


def threads(pid):
    """{name: {field: value}} of what the kernel tells of each."""
    found = {}
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/status", encoding="utf-8") as file:
            told = dict(line.rstrip("\n").split(":\t", 1) for line in file)
        found[f"{told['Name']} {thread}"] = told
    return found


def confined(volume, capabilities):
    for name, told in threads(volume.pid).items():
        begins = int(told["CapPrm"], 16) & ~capabilities and told["Name"] == "mirrorfs" and not name.endswith(
            f" {volume.pid}")
        if begins:  # its first act is to give them up, and to take a name of its own
            continue
        if not with_sanitizer(volume.ws):
            assert told["Seccomp"] == "2" and told["NoNewPrivs"] == "1", (name, told["Seccomp"], told["NoNewPrivs"])
        # What the kernel runs for a ring cannot put others into effect.
        for kind in ("CapEff",) if name.startswith("iou-") else ("CapPrm", "CapEff", "CapInh", "CapAmb"):
            assert int(told[kind], 16) & ~capabilities == 0, (name, kind, told[kind])


def helper_of(volume):
    """The process beside its daemon."""
    found = [pid for pid, words in daemons(["mirrorfs-helper"]) if words[1:] == [volume.mnt]]
    assert len(found) == 1, found
    return found[0]


def foreground(volume, *options):
    """Mounts in the foreground: the process, whose stderr is the log."""
    words = ["-o", ",".join(options)] if options else []
    process = subprocess.Popen([os.path.join(volume.ws.tools, "mirrorfs"), "-f", *words, *volume.legs, volume.mnt],
                               stderr=subprocess.PIPE, text=True)
    wait_for("the mount", lambda: mounted(volume.mnt) and process.poll() is None)
    volume.pid = process.pid
    wait_for("its answer", lambda: volume.ws.run("mirrorctl", "status", volume.mnt, ok=False).returncode == 0)
    return process


@case(QUICK, needs=["root"])
def all_threads_are_confined_also_those_to_come(ws):
    for engine in ("uring", "threads"):
        volume = ws.volume(engine, size="64M")
        volume.mount(f"engine={engine}")
        confined(volume, ROOTS)
        before = set(threads(volume.pid))
        ws.run("mirrorctl", "detach", volume.mnt, "1")
        ws.run("mirrorctl", "attach", volume.mnt, volume.legs[1])
        ws.run("mirrorctl", "resync", volume.mnt)
        assert set(threads(volume.pid)) - before, "no thread was started"
        confined(volume, ROOTS)
        volume.umount()


@case(QUICK, needs=["root"])
def a_users_daemon_has_no_rights_and_ends_its_mount(ws):
    volume = ws.volume(size="64M", user=NOBODY)
    volume.mount()
    confined(volume, 0)
    helper = helper_of(volume)
    assert os.stat(f"/proc/{helper}").st_uid == NOBODY
    trees.write(ws.join("f"), b"")
    ws.run("cp", ws.join("f"), volume.path("f"), user=NOBODY)
    # Only fusermount3 may do that for it, and only the helper may run fusermount3.
    os.kill(volume.pid, signal.SIGTERM)
    volume.wait_end()
    assert not mounted(volume.mnt)
    wait_for("the end of the helper", lambda: not alive(helper))


@case(QUICK)
def the_helper_ends_when_its_daemon_was_killed_and_holds_no_leg(ws):
    volume = ws.volume(size="64M")
    volume.mount()
    helper = helper_of(volume)
    held = [os.readlink(f"/proc/{helper}/fd/{fd}") for fd in os.listdir(f"/proc/{helper}/fd")]
    assert not [path for path in held if not re.match(r"socket:|/dev/null$", path)], held
    ignored, = re.findall(r"^SigIgn:\s*(\w+)", trees.read(f"/proc/{helper}/status").decode(), re.MULTILINE)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        assert int(ignored, 16) & 1 << number - 1, f"{number}, which ends the daemon, ends it, too"
    volume.kill()
    wait_for("the end of the helper", lambda: not alive(helper))


@case(QUICK, needs=["root"])
def without_its_helper_a_daemon_serves_on_and_says_so(ws):
    volume = ws.volume(size="64M")
    process = foreground(volume)
    os.kill(helper_of(volume), signal.SIGKILL)
    process.send_signal(signal.SIGTERM)
    wait_for("a word on it", lambda: "cannot unmount" in process.stderr.readline())
    trees.write(volume.path("f"), b"still served")
    ws.run("umount", volume.mnt)
    assert process.wait(60) == 0


@case(QUICK, needs=["root"])
def root_attaches_anybodys_image(ws):
    volume = ws.volume(size="64M")
    home = ws.folder("home")
    os.chmod(home, 0o700)
    image = os.path.join(home, "image")
    ws.run("truncate", "-s", "64M", image)
    os.chmod(image, 0o600)
    for path in (home, image):
        os.chown(path, NOBODY, NOBODY)
    volume.mount()
    ws.run("mirrorctl", "detach", volume.mnt, "1")
    ws.run("mirrorctl", "attach", volume.mnt, image)
    ws.run("mirrorctl", "resync", volume.mnt)
    assert volume.status()[0]["legs"][1]["state"] == "in-sync"
    volume.umount()


@case(QUICK, needs=["root", "loop"])
def nothing_that_a_daemon_does_is_refused(ws):
    for engine in ("uring", "threads"):
        volume = ws.volume(engine, size="64M", loop=True)
        process = foreground(volume, f"engine={engine}", "discard")
        for number in range(20):
            trees.write(volume.path(f"f{number}"), trees.pattern(200000, number))
        ws.run("fstrim", volume.mnt)
        ws.run("mirrorctl", "scrub", volume.mnt)
        ws.run("mirrorctl", "drill", volume.mnt, "1", "read,error=EIO,count=1", ok=False)
        ws.run("mirrorctl", "detach", volume.mnt, "1")
        ws.run("mirrorctl", "attach", volume.mnt, volume.legs[1])
        ws.run("mirrorctl", "resync", volume.mnt)
        image = ws.join(f"{engine}.third")
        ws.run("truncate", "-s", "128M", image)
        third = ws.loop(image)
        # What it holds is looked at through libblkid, by the daemon.
        ws.run("mkfs.ext4", "-q", third, ok=False)
        ws.run("mirrorctl", "replace", volume.mnt, "0", third, ok=False)
        ws.run("mirrorctl", "replace", "--force", volume.mnt, "0", third)
        ws.run("mirrorctl", "resync", volume.mnt)
        ws.run("mirrorctl", "grow", volume.mnt, ok=False)
        ws.run("mirrorctl", "events", volume.mnt)
        ws.run("mirrorctl", "status", "--files", volume.mnt)
        process.send_signal(signal.SIGTERM)
        log = process.stderr.read()
        print(log)
        assert process.wait(60) == 0 and "sandbox" not in log, log


def may(function, *arguments):
    """Whether the kernel lets a process of ours do that: it returns 0."""
    child = os.fork()
    if not child:
        try:
            os._exit(0 if function(*arguments) == 0 else 1)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def spare_oneself():
    with open("/proc/self/oom_score_adj", "w", encoding="utf-8") as file:
        file.write("-1000")
    return 0


@case(QUICK)
def a_daemon_is_spared_when_memory_is_short_as_far_as_it_may(ws):
    volume = ws.volume(size="64M")
    volume.mount()
    with open(f"/proc/{volume.pid}/stat", encoding="utf-8") as file:
        flags = int(file.read().rsplit(")", 1)[1].split()[6])
    may_flush, may_be_spared = may(libc.prctl, PR_SET_IO_FLUSHER, 1, 0, 0, 0), may(spare_oneself)
    print("note:", "may" if may_flush else "may not", "be an I/O flusher,",
          "may" if may_be_spared else "may not", "be kept from the OOM killer")
    assert bool(flags & MEMALLOC_NOIO) == may_flush
    assert (trees.read(f"/proc/{volume.pid}/oom_score_adj") == b"-1000\n") == may_be_spared
    locked, = re.findall(r"^VmLck:\s*(\d+) kB", trees.read(f"/proc/{volume.pid}/status").decode(), re.MULTILINE)
    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if not with_sanitizer(ws) and (os.geteuid() == 0 or limit >= 4 * MIB):
        assert int(locked) * 1024 >= 2 * MIB, locked
    volume.umount()
