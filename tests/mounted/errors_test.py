# SPDX-License-Identifier: GPL-2.0-or-later
"""What cannot be written is told: by whichever call asks for durability, once for each open file."""
import contextlib
import errno
import itertools
import mmap
import os

import trees
from cases import FULL, QUICK, TRANSPORTS, case
from workspace import wait_for

MIB = 1 << 20
FAILED, HEALTHY = 4, 0


def outcome(function, *arguments):
    """0 or the errno."""
    try:
        function(*arguments)
    except OSError as error:
        return error.errno
    return 0


class Refusing:
    """A volume whose legs both refuse data with this error while `refuse` holds."""

    def __init__(self, ws, error, *options):
        self.volume = ws.volume()
        self.volume.mount()
        self.volume.umount()
        self.switch = ws.join("switch")
        start, _ = self.volume.heap(0)
        rule = f"write,error={error},range={start}-,when={self.switch}"
        self.volume.mount(*options, faults={0: rule, 1: rule})

    @contextlib.contextmanager
    def refuse(self):
        trees.write(self.switch, b"")
        yield
        os.unlink(self.switch)

    def failed_writes(self):
        return sum(leg["io"]["errors"]["space"] for leg in self.volume.status()[0]["legs"])

    def await_failed_writes(self):
        """Data was to be written out behind everyone's back, and was refused."""
        before = self.failed_writes()
        wait_for("a write-out to fail", lambda: self.failed_writes() > before)
        wait_for("it to be tried again", lambda: self.failed_writes() > before + 8)

    def opened(self, count, flags=os.O_RDWR):
        return [os.open(self.volume.path("f"), os.O_CREAT | flags) for _ in range(count)]


@case(QUICK, transports=TRANSPORTS)
def a_failed_write_back_is_told_once_to_each_open_file(ws):
    refusing = Refusing(ws, "ENOSPC", "commit=0.2")
    a, b = refusing.opened(2)
    with refusing.refuse():
        os.pwrite(a, trees.pattern(MIB), 0)
        refusing.await_failed_writes()
        # As long as it cannot be written, whoever asks is told.
        assert [outcome(os.fsync, fd) for fd in (a, a)] == [errno.ENOSPC] * 2
        assert outcome(os.fdatasync, a) == errno.ENOSPC
        late, = refusing.opened(1)
    assert [outcome(os.fsync, fd) for fd in (a, b, late)] == [0, errno.ENOSPC, 0]
    assert [outcome(os.fsync, fd) for fd in (a, b, late)] == [0, 0, 0]
    # Written at last before anyone heard of it: those who had it open are told, and the first who opens it then.
    with refusing.refuse():
        os.pwrite(a, trees.pattern(MIB, 1), 0)
        refusing.await_failed_writes()
    wait_for("the data to be written", lambda: refusing.volume.status()[0]["fs"]["dirty_inodes"] == 0)
    next_one, = refusing.opened(1)
    assert [outcome(os.fsync, fd) for fd in (a, b, next_one)] == [errno.ENOSPC] * 3
    last_one, = refusing.opened(1)
    assert [outcome(os.fsync, fd) for fd in (a, b, next_one, last_one)] == [0] * 4
    assert refusing.volume.status()[1] == HEALTHY
    refusing.volume.kill()
    refusing.volume.mount()
    assert trees.read(refusing.volume.path("f")) == trees.pattern(MIB, 1)
    refusing.volume.umount()


@case(QUICK, transports=TRANSPORTS)
def a_failed_synchronous_write_says_so_itself(ws):
    refusing = Refusing(ws, "ENOSPC", "commit=600")
    ways = (os.O_SYNC, 0), (os.O_DSYNC, 0), (0, os.RWF_DSYNC), (os.O_DIRECT, 0)
    data = mmap.mmap(-1, MIB)  # aligned: the kernel makes one request of it
    data[:] = trees.pattern(MIB)
    for (flags, rwf), dirty in itertools.product(ways, (True, False)):
        fd, other = refusing.opened(1, os.O_RDWR | flags) + refusing.opened(1)
        if dirty:
            os.pwrite(other, b"before", 0)
        with refusing.refuse():
            assert outcome(os.pwritev, fd, [data], 0, rwf) == errno.ENOSPC, (flags, dirty)
        assert [outcome(os.fsync, x) for x in (fd, fd)] == [0, 0], f"{flags}: it was told already"
        # Where nothing waits to be written it goes past the cache: if that fails the file is as it was for everyone.
        others = [errno.ENOSPC, 0] if dirty else [0, 0]
        heard = [outcome(os.fsync, x) for x in (other, other)]
        assert heard == others, (flags, dirty, heard)
        assert os.pwritev(fd, [data], 0, rwf) == MIB
        assert trees.read(refusing.volume.path("f")) == data[:]
        for x in (fd, other):
            os.close(x)
    with refusing.refuse(), open(refusing.volume.path("f"), "r+b") as file, mmap.mmap(file.fileno(), MIB) as memory:
        memory[:] = trees.pattern(MIB, 1)
        assert outcome(memory.flush) == errno.ENOSPC
    refusing.volume.umount()
    refusing.volume.mount()
    assert trees.read(refusing.volume.path("f")) == trees.pattern(MIB, 1)
    refusing.volume.umount()


@case(FULL)
def when_no_leg_takes_writes_nothing_is_acknowledged_and_reads_go_on(ws):
    refusing = Refusing(ws, "EIO", "commit=600")
    volume = refusing.volume
    kept = trees.pattern(MIB)
    with open(volume.path("kept"), "wb", buffering=0) as file:
        file.write(kept)
        os.fsync(file.fileno())
    a, b = refusing.opened(2)
    folder = os.open(volume.mnt, os.O_RDONLY)
    with refusing.refuse():
        os.pwrite(a, trees.pattern(3 * MIB), 0)
        os.mkdir(volume.path("not to stay"))
        for fd in (a, b, a, b):
            assert outcome(os.fsync, fd) == errno.EIO
        told = [outcome(os.fsync, folder), outcome(os.fdatasync, a), outcome(os.fsync, a)]
        assert told == [errno.EIO] * 3, told
        assert outcome(os.write, a, b"x") == errno.EROFS
        assert outcome(os.mkdir, volume.path("nor this")) == errno.EROFS
    told, status = volume.status()
    assert status == FAILED and told["health"] == "failed" and told["volume"]["read_only"], told
    assert "read-only by error" in told["volume"]["why"] and "Input/output error" in told["volume"]["why"], told
    assert outcome(os.fsync, a) == errno.EIO, "a volume that has failed does not come back by itself"
    assert trees.read(volume.path("kept")) == kept
    for fd in (a, b, folder):
        os.close(fd)
    volume.umount()
    volume.mount("degraded")
    assert trees.read(volume.path("kept")) == kept
    volume.umount()


@case(FULL)
def images_on_a_full_disk_lose_nothing_acknowledged(ws):
    refusing = Refusing(ws, "ENOSPC", "commit=600")
    volume = refusing.volume
    synced = os.open(volume.path("synced"), os.O_RDWR | os.O_CREAT)
    os.write(synced, trees.pattern(3000))
    os.fsync(synced)
    with refusing.refuse():
        # So little rides in the journal, which has its room; where it then belongs there is none, as is found later.
        late = refusing.opened(1, os.O_RDWR | os.O_SYNC)[0]
        kept = 0
        while kept < 1000 and not outcome(os.pwrite, late, b"x" * 4096, kept * 4096):
            kept += 1
        assert 0 < kept < 1000, kept
    told, status = volume.status()
    assert status == FAILED and told["volume"]["read_only"], told
    assert outcome(os.pwrite, synced, b"x", 0) == errno.EROFS
    assert trees.read(volume.path("synced")) == trees.pattern(3000)
    os.close(synced)
    volume.kill()
    volume.mount()
    assert volume.status()[1] == HEALTHY
    assert trees.read(volume.path("synced")) == trees.pattern(3000)
    volume.umount()
    ws.run("fsck.mirrorfs", "-n", "-f", "--data", *volume.legs)
