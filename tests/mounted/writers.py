# SPDX-License-Identifier: GPL-2.0-or-later
"""Processes that write to a volume until it is killed under them, and then say whether what they find is right."""
import contextlib
import ctypes
import multiprocessing
import os
import random
import traceback

from oracle import Model, look

FILE_MAX = 400_000
DIRECT_MAX = 200_000  # one request to the daemon: a longer direct write is cut anywhere, and each part is a write
FILES_MOST = 24
FOLDERS = ("a", "b")
PUNCH_HOLE, KEEP_SIZE = 2, 1
LIBC = ctypes.CDLL(None, use_errno=True)


def fallocate(fd, mode, offset, length):
    if LIBC.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(length)):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def patched(data, offset, piece):
    return data[:offset].ljust(offset, b"\0") + piece + data[offset + len(piece):]


class Writer:
    """Works in a folder of its own."""

    def __init__(self, folder, seed):
        self.folder = folder
        self.random = random.Random(seed)
        self.model = None
        self.made = self.acknowledged = self.changes = 0
        self.folder_touched = {}
        self.open = []  # descriptors of files that have lost their name

    def path(self, name):
        return os.path.join(self.folder, name)

    # ---- what is written ----

    def bytes(self, inode, length):
        """They tell where they come from."""
        self.made += 1
        line = b"%s of inode %d, write %d | " % (os.path.basename(self.folder).encode(), inode, self.made)
        return (line * (length // len(line) + 1))[:length]

    def length(self):
        return self.random.choice((self.random.randrange(1, 300), self.random.randrange(1, 20_000),
                                   self.random.choice((4096, 8192, 65536)), self.random.randrange(1, FILE_MAX)))

    # ---- changes of names ----

    def change(self, names, *touched):
        """What is about to be done to these names."""
        number = self.model.intend(names)
        for name in touched:
            self.folder_touched[os.path.dirname(name)] = number
        self.changes += 1
        return number

    def files(self):
        return [name for name, inode in self.model.names.items() if inode]

    def new_name(self):
        return os.path.join(self.random.choice(FOLDERS), f"f{self.random.randrange(FILES_MOST)}")

    def create(self):
        name = self.new_name()
        if name in self.model.names:
            return None
        self.change({**self.model.names, name: None}, name)
        fd = os.open(self.path(name), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            inode = os.fstat(fd).st_ino
            self.model.known(name, inode)
            self.write(fd, inode, 0, self.length())
            if self.random.random() < 0.4:
                self.sync(fd, inode)
        finally:
            os.close(fd)
        return name

    def replace(self):
        """A new file over an old one or to a free name, with or without a sync before."""
        old = self.create() or self.pick()
        new = self.random.choice([*self.files(), self.new_name()])
        if not old or not self.model.names[old] or self.model.names.get(new) == self.model.names[old]:
            return
        self.rename(old, new)

    def rename(self, old, new):
        names = dict(self.model.names)
        inode, gone = names.pop(old), names.get(new)
        names[new] = inode
        number = self.change(names, old, new)
        self.model.files[inode].renamed(number)
        if gone:
            self.model.files[gone].touched = number
        os.rename(self.path(old), self.path(new))

    def link(self):
        old, new = self.pick(), self.new_name()
        if old and new not in self.model.names:
            inode = self.model.names[old]
            self.model.files[inode].touched = self.change({**self.model.names, new: inode}, new)
            os.link(self.path(old), self.path(new))

    def unlink(self):
        name = self.pick()
        if not name:
            return
        inode = self.model.names[name]
        if self.random.random() < 0.3 and len(self.open) < 5:
            self.open.append(os.open(self.path(name), os.O_RDONLY))
        names = dict(self.model.names)
        del names[name]
        self.model.files[inode].touched = self.change(names, name)
        os.unlink(self.path(name))

    def folders(self):
        name = os.path.join(self.random.choice(FOLDERS), f"folder{self.random.randrange(3)}")
        names = dict(self.model.names)
        if name in names:
            del names[name]
            self.change(names, name)
            os.rmdir(self.path(name))
        else:
            names[name] = 0
            self.change(names, name)
            os.mkdir(self.path(name))

    # ---- changes of content ----

    def pick(self):
        files = self.files()
        return self.random.choice(files) if files else None

    def write(self, fd, inode, offset, length, durable=False, flags=0):
        file = self.model.files[inode]
        piece = self.bytes(inode, length)
        file.change(patched(file.data, offset, piece))
        done = os.pwritev(fd, [piece], offset, flags)
        if done != length:
            raise OSError(f"{done} bytes of {length} were written")
        if durable:
            file.range_durable(offset, length)
            self.model.durable_until(file.touched)
            self.acknowledged += 1

    def sync(self, fd, inode):
        (os.fsync if self.random.random() < 0.7 else os.fdatasync)(fd)
        self.model.files[inode].durable()
        self.model.durable_until(self.model.files[inode].touched)
        self.acknowledged += 1

    def overwrite(self):
        name = self.pick()
        if not name:
            return
        inode = self.model.names[name]
        size = len(self.model.files[inode].data)
        how = self.random.choice((0, 0, 0, os.O_DSYNC, os.O_SYNC, os.O_DIRECT, os.O_DIRECT | os.O_DSYNC))
        rwf = os.RWF_DSYNC if not how and self.random.random() < 0.2 else 0
        fd = os.open(self.path(name), os.O_RDWR | how)
        try:
            for _ in range(self.random.randrange(1, 5)):
                length = min(self.length(), DIRECT_MAX if how & os.O_DIRECT else FILE_MAX)
                offset = self.random.choice((size, self.random.randrange(size + 1), self.random.randrange(FILE_MAX)))
                if offset + length <= FILE_MAX:
                    self.write(fd, inode, offset, length, bool(rwf or how & os.O_DSYNC), rwf)
                size = len(self.model.files[inode].data)
            if self.random.random() < 0.3:
                self.sync(fd, inode)
        finally:
            os.close(fd)

    def truncate(self):
        name = self.pick()
        if not name:
            return
        inode = self.model.names[name]
        file = self.model.files[inode]
        size = self.random.choice((0, len(file.data) // 2, self.random.randrange(FILE_MAX)))
        file.change(file.data[:size].ljust(size, b"\0"))
        fd = os.open(self.path(name), os.O_RDWR)
        try:
            os.ftruncate(fd, size)
            if self.random.random() < 0.3:
                self.sync(fd, inode)
        finally:
            os.close(fd)

    def punch(self):
        name = self.pick()
        if not name or not self.model.files[self.model.names[name]].data:
            return
        inode = self.model.names[name]
        file = self.model.files[inode]
        offset = self.random.randrange(len(file.data))
        length = min(self.length(), len(file.data) - offset)
        file.change(patched(file.data, offset, bytes(length)))
        fd = os.open(self.path(name), os.O_RDWR)
        try:
            fallocate(fd, PUNCH_HOLE | KEEP_SIZE, offset, length)
            if self.random.random() < 0.3:
                self.sync(fd, inode)
        finally:
            os.close(fd)

    def sync_file(self):
        name = self.pick()
        if not name:
            return
        fd = os.open(self.path(name), os.O_RDONLY)
        try:
            self.sync(fd, self.model.names[name])
        finally:
            os.close(fd)

    def sync_folder(self):
        folder = self.random.choice(FOLDERS)
        fd = os.open(self.path(folder), os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        self.model.durable_until(self.folder_touched.get(folder, 0))
        self.acknowledged += 1

    # ---- the whole ----

    def prepare(self):
        for folder in FOLDERS:
            os.makedirs(self.path(folder))
        self.model = Model({folder: 0 for folder in FOLDERS})

    def step(self):
        steps = ((self.create, 4), (self.replace, 4), (self.overwrite, 6), (self.truncate, 2), (self.punch, 1),
                 (self.link, 1), (self.unlink, 3), (self.folders, 1), (self.sync_file, 2), (self.sync_folder, 2))
        self.random.choices([step for step, _ in steps], [weight for _, weight in steps])[0]()

    def forget(self):
        for fd in self.open:
            with contextlib.suppress(OSError):
                os.close(fd)
        self.open = []

    def check(self):
        self.folder_touched = {}
        return self.model.check(*look(self.folder))


class Cutter(Writer):
    """Makes a file of very many extents, and cuts or deletes it."""

    EXTENTS = 4000
    STRIDE = 8192

    def prepare(self):
        os.makedirs(self.folder)
        self.size = 0  # what was synced; 0: nothing is promised
        self.least = 0  # what a cut under way may leave; None: nothing

    def piece(self, i):
        return (b"extent %d " % i * 600)[:4096]

    def step(self):
        path = self.path("long")
        fd = os.open(path, os.O_RDWR | os.O_CREAT)
        try:
            if not self.size:
                for i in range(self.EXTENTS):
                    os.pwrite(fd, self.piece(i), i * self.STRIDE)
                os.fsync(fd)
                self.size = self.least = os.fstat(fd).st_size
                self.acknowledged += 1
            if self.random.random() < 0.5:
                self.least = None
                os.unlink(path)
                self.size = self.least = 0
            else:
                self.least = self.random.randrange(self.size)
                os.ftruncate(fd, self.least)
                self.size = 0  # not synced: the cut may be found undone
                self.changes += 1
                os.ftruncate(fd, 0)
        finally:
            os.close(fd)

    def check(self):
        path = self.path("long")
        wrong = None
        if not os.path.exists(path):
            wrong = f"{path} is gone" if self.size and self.least is not None else None
        elif self.size:
            with open(path, "rb") as file:
                length = os.fstat(file.fileno()).st_size
                if length not in (self.size, self.least):
                    wrong = f"{length} bytes, not {self.size} or {self.least}"
                for i in range(0, self.EXTENTS, 37):
                    file.seek(i * self.STRIDE)
                    expected = self.piece(i)[:max(0, length - i * self.STRIDE)]
                    if not wrong and file.read(len(expected)) != expected:
                        wrong = f"extent {i} of {length} bytes is wrong"
        if not wrong and os.path.exists(path):
            os.unlink(path)
        self.size = self.least = 0
        return wrong


def serve(writer, pipe, killed):
    """A writer's process: does as it is told."""
    try:
        while (told := pipe.recv()) != "end":
            if told == "prepare":
                pipe.send(writer.prepare())
            elif told == "check":
                pipe.send(writer.check())
            elif told == "work":
                try:
                    while True:
                        writer.step()
                except OSError:
                    pipe.send(None if killed.is_set() else "an error before the kill: " + traceback.format_exc())
                writer.forget()
            elif told == "told":
                pipe.send((writer.acknowledged, writer.changes))
    except Exception:  # pylint: disable=broad-except
        pipe.send(traceback.format_exc())


class Crew:
    """Several writers, each in a process, below one folder."""

    def __init__(self, folder, seed, writers=3, cutters=1):
        self.killed = multiprocessing.Event()
        self.pipes, self.processes = [], []
        for i in range(writers + cutters):
            kind, name = (Writer, f"writer{i}") if i < writers else (Cutter, f"cutter{i}")
            ours, theirs = multiprocessing.Pipe()
            writer = kind(os.path.join(folder, name), f"{seed}/{i}")
            process = multiprocessing.Process(target=serve, args=(writer, theirs, self.killed), daemon=True)
            process.start()
            self.pipes.append(ours)
            self.processes.append(process)

    def tell(self, what):
        for pipe in self.pipes:
            pipe.send(what)

    def answers(self):
        return [pipe.recv() for pipe in self.pipes]

    def ask(self, what):
        """Every writer does it: none may find anything wrong."""
        self.tell(what)
        self.join()

    def join(self):
        """Waits for the end of what they were told to do."""
        wrong = [answer for answer in self.answers() if answer]
        assert not wrong, "\n".join(wrong)

    def work(self):
        self.killed.clear()
        self.tell("work")

    def told(self):
        """(acknowledged syncs, changes of names) of all."""
        self.tell("told")
        return [sum(column) for column in zip(*self.answers())]

    def end(self):
        self.tell("end")
        for process in self.processes:
            process.join()
