# SPDX-License-Identifier: GPL-2.0-or-later
"""The stories of mirrorfs(7), each with the very commands of the page: page and program cannot drift apart."""
import os
import shlex
import signal
import threading

import trees
from cases import FULL, QUICK, case
from claim_test import NEEDS, machines
from workspace import MIB, daemons, wait_for

PAGE = os.path.join(os.path.dirname(__file__), "..", "..", "man", "mirrorfs.7")
DEGRADED = 3  # exit status of mirrorctl
MOUNT_FAILED = 32


def commands_of(title):
    """What the section tells to type."""
    with open(PAGE, encoding="utf-8") as page:
        section = page.read().split(f".Ss {title}\n")[1].split("\n.S")[0]
    return [line[len(".Dl # "):] for line in section.splitlines() if line.startswith(".Dl # ")]


class Story:
    """A section's commands, on image files (or what `disks` names) instead of the page's disks."""

    def __init__(self, ws, title, sizes=("128M", "128M"), disks=None):
        self.ws = ws
        self.left = commands_of(title)
        self.mnt = ws.folder("photos")
        self.disks = disks or [ws.join(f"sd{letter}") for letter, _ in zip("abc", sizes)]
        for disk, size in zip(self.disks, sizes if not disks else ()):
            ws.run("truncate", "-s", size, disk)
        self.names = {f"/dev/sd{letter}": disk for letter, disk in zip("abc", self.disks)}
        self.names.update({"/srv/photos": self.mnt, "/backup/photos.img": ws.join("backup"), "/mnt": ws.folder("mnt")})

    def tell(self, begins, ok=True):
        """Runs the page's next command, which must begin so."""
        words = shlex.split(self.left.pop(0))
        assert " ".join(words).startswith(begins), f"the page says {words}, the test expects {begins}"
        return self.ws.run(*(self.names.get(word, word) for word in words), ok=ok)

    def done(self):
        assert not self.left, f"the page says more than was tested: {self.left}"

    def path(self, name):
        return os.path.join(self.mnt, name)

    def write(self, name, data):
        with open(self.path(name), "wb") as file:
            file.write(data)
            os.fsync(file.fileno())

    def files(self):
        return trees.manifest(self.mnt)

    def healthy(self):
        assert self.ws.run("mirrorctl", "status", self.mnt, ok=False).returncode == 0

    def clean(self):
        said = self.ws.run("mirrorctl", "scrub", self.mnt).stdout
        assert "healed 0, unrecoverable 0" in said, said

    def umount(self, mnt=None):
        """And waits until the daemon has written all it holds."""
        mnt = mnt or self.mnt
        if os.geteuid() == 0:
            self.ws.run("umount", mnt)
        else:
            self.ws.run("fusermount3", "-u", mnt)
        wait_for("the end of the daemon", lambda: all(words[-1] != mnt for _, words in daemons()))

    def make(self, *options):
        self.ws.run("mkfs.mirrorfs", *self.disks[:2])
        self.mount(*options)

    def mount(self, *options, legs=None, ok=True):
        words = ["-o", ",".join(options)] if options else []
        return self.ws.run("mirrorfs", *words, *(legs or self.disks[:2]), self.mnt, ok=ok)

    def is_on_the_second_disk(self, expected):
        """And sound; the first one is away afterwards."""
        self.healthy()
        self.clean()
        self.umount()
        self.away(0)
        self.mount("degraded", legs=self.disks[1:2])
        trees.compare(expected, self.files())
        self.umount()

    def away(self, disk):
        os.rename(self.disks[disk], self.disks[disk] + ".away")

    def back(self, disk):
        os.rename(self.disks[disk] + ".away", self.disks[disk])


@case(QUICK)
def after_a_reboot_one_disk_is_not_there(ws):
    story = Story(ws, "After a reboot one disk is not there")
    story.make()
    story.write("old", trees.pattern(8 * MIB))
    story.umount()
    story.away(1)
    refusal = story.mount(ok=False, legs=story.disks[:1])
    assert refusal.returncode == MOUNT_FAILED
    for word in ("leg 1 is missing", story.disks[1], "-o degraded"):
        assert word in refusal.stderr, word
    story.tell("mirrorfs -o degraded")
    story.write("new", trees.pattern(MIB))
    story.umount()
    story.tell("mirrorfs /dev/sda")
    expected = story.files()
    listed = story.tell("mirrorctl status --files", ok=False)
    assert listed.returncode == DEGRADED and "/new: 1.0 MiB" in listed.stdout and "/old" not in listed.stdout
    story.back(1)
    story.tell("mirrorctl attach")
    story.tell("mirrorctl resync")
    story.done()
    story.is_on_the_second_disk(expected)


@case(FULL)
def a_disk_is_to_be_replaced(ws):
    story = Story(ws, "A disk is to be replaced", sizes=("128M", "128M", "200M"))
    story.make()
    story.write("file", trees.pattern(16 * MIB))
    expected = story.files()
    story.tell("mirrorctl replace")
    story.tell("mirrorctl resync")
    assert "healed 0, unrecoverable 0" in story.tell("mirrorctl scrub").stdout
    story.done()
    story.healthy()
    story.umount()
    refusal = story.mount(ok=False)
    assert refusal.returncode == MOUNT_FAILED and "do not name each other" in refusal.stderr
    story.away(0)
    story.mount("degraded", legs=[story.disks[2]])
    trees.compare(expected, story.files())
    story.umount()


@case(FULL)
def one_disk_now_the_other_later(ws):
    story = Story(ws, "One disk now, the other later")
    story.tell("mkfs.mirrorfs")
    story.tell("mirrorfs")
    story.write("file", trees.pattern(16 * MIB))
    expected = story.files()
    story.healthy()
    story.tell("mirrorctl attach")
    story.tell("mirrorctl resync")
    story.done()
    story.is_on_the_second_disk(expected)


@case(FULL)
def an_image_was_copied_while_it_was_mounted(ws):
    story = Story(ws, "An image was copied while it was mounted")
    story.make()
    story.write("file", trees.pattern(16 * MIB))
    copy = ws.join("copy")
    ws.run("cp", story.disks[1], copy)
    for number in range(20):
        story.write(f"later {number}", trees.pattern(300000, number))
    story.write("file", trees.pattern(16 * MIB, 1))
    expected = story.files()
    story.umount()
    refusal = story.mount(ok=False, legs=[story.disks[1], copy])
    assert refusal.returncode == MOUNT_FAILED and "the same leg" in refusal.stderr
    story.mount(legs=[story.disks[0], copy])
    trees.compare(expected, story.files())
    assert "unrecoverable 0" in ws.run("mirrorctl", "scrub", story.mnt).stdout
    story.clean()
    story.umount()
    story.mount()
    ws.run("mirrorctl", "scrub", story.mnt)
    # The right way.
    story.tell("mirrorctl detach")
    backed_up = story.files()
    story.write("file", trees.pattern(MIB))
    story.tell("cp")
    story.tell("mirrorctl attach")
    story.tell("mirrorctl resync")
    story.healthy()
    story.clean()
    story.umount()
    story.away(0)
    story.away(1)
    story.tell("mirrorfs -o ro,degraded")
    story.done()
    trees.compare(backed_up, trees.manifest(story.names["/mnt"]))
    story.umount(story.names["/mnt"])


@case(FULL)
def two_histories(ws):
    story = Story(ws, "Two histories")
    story.make()
    story.umount()
    for leg, size in ((0, 40000), (1, 9000)):
        story.away(1 - leg)
        story.mount("degraded", legs=[story.disks[leg]])
        story.write(f"written on {leg}", b"x" * size)
        story.umount()
        story.back(1 - leg)
    refusal = story.mount(ok=False)
    assert refusal.returncode == MOUNT_FAILED
    for word in ("split brain", *story.disks[:2], "UTC", "KiB", "-o degraded", "mirrorctl attach --force"):
        assert word in refusal.stderr, word
    assert "attach" not in refusal.stdout
    story.tell("mirrorfs -o degraded")
    assert os.listdir(story.mnt) == ["written on 1"]
    story.tell("mirrorctl attach --force")
    story.done()
    ws.run("mirrorctl", "resync", story.mnt, ok=False)
    story.healthy()
    story.clean()
    assert os.listdir(story.mnt) == ["written on 1"]
    story.umount()
    story.mount()
    story.healthy()
    story.umount()


@case(FULL, needs=["loop"])
def two_disks_that_are_not_alike(ws):
    images = [ws.join("image0"), ws.join("image1")]
    for image, size in zip(images, ("160M", "128M")):
        ws.run("truncate", "-s", size, image)
    disks = [ws.loop(images[0]), ws.run("losetup", "-f", "--show", "-b", "4096", images[1]).stdout.strip()]
    sectors = [int(ws.run("blockdev", "--getss", disk).stdout) for disk in disks]
    assert sectors == [512, 4096], sectors
    story = Story(ws, "Two disks that are not alike", disks=disks)
    assert "of 127 MiB" in story.tell("mkfs.mirrorfs").stdout
    story.tell("mirrorfs")
    story.done()
    story.write("file", trees.pattern(16 * MIB))
    with open(story.path("file"), "r+b", buffering=0) as file:
        os.pwrite(file.fileno(), b"odd", 12345)
        os.fsync(file.fileno())
    expected = story.files()
    story.clean()
    story.umount()
    for leg in 0, 1:
        story.mount("ro", "degraded", legs=[disks[leg]])
        trees.compare(expected, story.files())
        story.umount()


@case(FULL)
def the_machine_slept(ws):
    story = Story(ws, "The machine slept")
    ws.run("mkfs.mirrorfs", *story.disks)
    # Some request is always under way, and the sleep is longer than a leg has time.
    slow = [f"fault:any,delay=100:{disk}" for disk in story.disks]
    story.mount("leg-timeout=1", "deadline=2", legs=slow)
    pid = next(pid for pid, words in daemons() if words[-1] == story.mnt)
    stop, wrong, written = threading.Event(), [], []

    def write():
        try:
            while not stop.is_set():
                story.write("file", trees.pattern(100000, len(written)))
                written.append(True)
        except OSError as error:
            wrong.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    wait_for("a write", lambda: written)
    os.kill(pid, signal.SIGSTOP)
    stop.wait(3.5)
    os.kill(pid, signal.SIGCONT)
    before = len(written)
    wait_for("writes after the sleep", lambda: len(written) > before + 1 or wrong)
    stop.set()
    writer.join()
    assert not wrong, wrong
    said = story.tell("mirrorctl status").stdout
    assert "healthy" in said and said.count("in-sync") == 2 and "0 timeouts" in said, said
    story.done()
    story.umount()


@case(FULL, needs=NEEDS, timeout=200)
def another_machine_is_to_take_over(ws):
    with machines(ws, "anvil") as (anvil,):
        anvil.mount("heartbeat=0.5")  # the wait is 24 beats of who had the claim
        anvil.write("file", "of anvil")
        anvil.kill()
    story = Story(ws, "Another machine is to take over", disks=[ws.loop(ws.join(leg)) for leg in ("left", "right")])
    refusal = story.mount(ok=False)
    assert refusal.returncode == MOUNT_FAILED and "takeover" in refusal.stderr, refusal.stderr
    story.tell("mirrorfs -o takeover")
    story.done()
    assert trees.read(story.path("file")) == b"of anvil"
    story.umount()


@case(QUICK)
def each_story_of_the_page_has_a_test(_):
    with open(PAGE, encoding="utf-8") as page:
        stories = page.read().split(".Sh STORIES\n")[1].split("\n.Sh ")[0]
    titles = [line[len(".Ss "):] for line in stories.splitlines() if line.startswith(".Ss ")]
    names = {title.lower().replace(" ", "_").replace(",", "") for title in titles}
    assert len(names) >= 7 and names <= set(globals()), names - set(globals())
