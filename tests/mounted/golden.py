# SPDX-License-Identifier: GPL-2.0-or-later
"""What the golden images are made with and compared by."""
import hashlib
import os
import stat


def write(path, content, sync=False):
    with open(path, "wb") as file:
        file.write(content)
        if sync:
            file.flush()
            os.fsync(file.fileno())


def content(path, status):
    if stat.S_ISLNK(status.st_mode):
        return os.fsdecode(os.readlink(path))
    if not stat.S_ISREG(status.st_mode):
        return status.st_rdev
    found = hashlib.sha256()
    with open(path, "rb") as file:
        at = 0
        while piece := file.read(1 << 20):
            if piece != bytes(len(piece)):  # holes need no hashing: the length is told apart
                found.update(b"%d:" % at + piece)
            at += len(piece)
    return found.hexdigest()


def manifest(root):
    """Of everything below: path -> what stat(2) tells and what is in it."""
    found = {}
    for folder, folders, files in os.walk(os.fsencode(root)):
        for name in sorted(folders + files):
            path = os.path.join(folder, name)
            status = os.lstat(path)
            found[os.path.relpath(path, os.fsencode(root)).decode(errors="backslashreplace")] = [
                status.st_ino, oct(status.st_mode), status.st_nlink, status.st_uid, status.st_gid, status.st_size,
                status.st_blocks, status.st_mtime_ns, content(path, status)]
    return found
