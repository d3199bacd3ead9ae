# SPDX-License-Identifier: GPL-2.0-or-later
"""What may be found after a crash, by what was done and what of it was acknowledged.

Names: changes of names are commits, in order. So what is found is what a writer had after one of its changes, not an
older one than the last that is known to be durable; the change under way when the crash came counts as done or not.

Content, page by page: what the page held at some moment since it was last known to be durable. A rename brings the
file's data, so behind a rename that is found, nothing older than it is.
"""
import os

PAGE = 4096


def page_of(data, index):
    return bytes(data[index * PAGE:(index + 1) * PAGE]).ljust(PAGE, b"\0")


class Stage:
    """What a file may hold, between two renames of it."""

    def __init__(self, since, data):
        self.since = since  # number of the change of names that began it
        self.data = data  # bytes after the last change in this stage
        self.low = self.high = len(data)
        self.pages = {}  # {index: hashes of what it held, the last one as in data}

    def change(self, data):
        """The file is about to hold `data` instead."""
        last = (max(len(data), len(self.data)) + PAGE - 1) // PAGE
        for index in range(last):
            before, after = page_of(self.data, index), page_of(data, index)
            if before != after:
                self.pages.setdefault(index, [hash(before)]).append(hash(after))
        self.data = data
        self.low, self.high = min(self.low, len(data)), max(self.high, len(data))

    def wrong(self, found):
        if not self.low <= len(found) <= self.high:
            return f"{len(found)} bytes, not {self.low} to {self.high}"
        for index in range((len(found) + PAGE - 1) // PAGE):
            page = page_of(found, index)
            if index in self.pages:
                good = hash(page) in self.pages[index]
            else:
                good = page == page_of(self.data, index)
            if not good:
                expected = page_of(self.data, index)
                at = next((i for i in range(PAGE) if page[i] != expected[i]), 0)
                return (f"page {index} of {len(found)} bytes holds what it never held since it was synced: "
                        f"at {at} {page[at:at + 60]!r}, last {expected[at:at + 60]!r}")
        return None


class File:
    def __init__(self, since, data=b""):
        self.stages = [Stage(since, data)]
        self.touched = since  # the last change of names that this inode was part of

    @property
    def data(self):
        return self.stages[-1].data

    def change(self, data):
        self.stages[-1].change(data)

    def renamed(self, number):
        self.stages.append(Stage(number, self.data))
        self.touched = number

    def durable(self):
        """All of it is on disk as it is."""
        self.stages = [Stage(0, self.data)]

    def range_durable(self, offset, length):
        """A write has been acknowledged as durable: its bytes, the size they need, and the changes before it."""
        stage = self.stages[-1]
        self.stages = [stage]
        stage.since = 0
        for index in range(offset // PAGE, (offset + length - 1) // PAGE + 1):
            stage.pages.pop(index, None)
        stage.low = max(stage.low, offset + length)
        stage.high = len(stage.data)

    def wrong(self, number, found):
        """`number`: of the latest change of names that was found."""
        return [stage for stage in self.stages if stage.since <= number][-1].wrong(found)


class Model:
    """A writer's folder: {name: inode number}; None is a file whose number the crash kept to itself, 0 a folder."""

    def __init__(self, names):
        self.number = 1
        self.names = dict(names)
        self.history = [(1, self.names)]  # from the last durable one on
        self.files = {}

    def intend(self, names):
        """The names are about to become these. The number of this change."""
        self.number += 1
        self.names = names
        self.history.append((self.number, names))
        return self.number

    def known(self, name, inode):
        """The number of a file that was just made, by the latest change."""
        self.names[name] = inode
        self.files[inode] = File(self.number)

    def durable_until(self, number):
        """Changes of names up to this one are on disk."""
        while self.history[0][0] < number:
            self.history.pop(0)

    def _differs(self, names, found):
        if names.keys() != found.keys():
            return f"only one has {sorted(names.keys() ^ found.keys())}"
        for name, inode in names.items():
            if inode is None and found[name] not in self.files:
                continue
            if inode != found[name]:
                return f"{name} is inode {found[name]}, not {inode}"
        return None

    def _wrong_content(self, number, found, contents):
        for name, inode in found.items():
            if not inode:
                continue
            if inode in self.files:
                wrong = self.files[inode].wrong(number, contents[name])
            else:
                wrong = "not empty" if contents[name] else None
            if wrong:
                return f"{name} (inode {inode}) after change {number}: {wrong}"
        return None

    def check(self, found, contents):
        """None, or what is wrong. `found`: {name: inode}; `contents`: {name: bytes}. Right: it is the new beginning."""
        wrong_names = wrong_content = None
        for number, names in reversed(self.history):
            wrong = self._differs(names, found)
            if wrong:
                wrong_names = wrong_names or wrong
                continue
            wrong = self._wrong_content(number, found, contents)
            if not wrong:
                self.begin(found, contents)
                return None
            wrong_content = wrong_content or wrong
        return wrong_content or f"no change from {self.history[0][0]} to {self.number} left these names: {wrong_names}"

    def begin(self, found, contents):
        self.number = 1
        self.names = dict(found)
        self.history = [(1, self.names)]
        self.files = {inode: File(1, contents[name]) for name, inode in found.items() if inode}


def look(folder):
    """({name: inode}, {name: content}) of all that is below the folder."""
    found, contents = {}, {}
    for here, folders, files in os.walk(folder):
        for name in folders:
            found[os.path.relpath(os.path.join(here, name), folder)] = 0
        for name in files:
            path = os.path.join(here, name)
            relative = os.path.relpath(path, folder)
            with open(path, "rb") as file:
                contents[relative] = file.read()
                found[relative] = os.fstat(file.fileno()).st_ino
    return found, contents
