# SPDX-License-Identifier: GPL-2.0-or-later
"""Trees of files to copy in, and what is to be compared of them."""
import hashlib
import os
import stat
import subprocess

MIB = 1 << 20
TIB = 1 << 40
REAL = ["/usr/include", "/usr/share/perl5", "/usr/share/bash-completion", "/usr/share/doc"]


def real_trees(limit_mib, candidates=None):
    """Folders of the machine that together stay below the limit."""
    chosen = []
    for folder in candidates or REAL + ["/usr/include/linux"]:
        if not os.path.isdir(folder) or any(folder.startswith(other + "/") for other in chosen):
            continue
        size = int(subprocess.run(["du", "-sm", folder], text=True, capture_output=True, check=False).stdout.split()[0])
        if size <= limit_mib:
            chosen.append(folder)
            limit_mib -= size
    assert chosen, "no folder of this machine is small enough"
    return chosen


def copy(sources, target):
    subprocess.run(["cp", "-a", *sources, target], check=True)


def pattern(length, seed=0):
    """Bytes that differ from block to block and from seed to seed, cheaply."""
    block = hashlib.sha256(str(seed).encode()).digest() * 128
    return b"".join(i.to_bytes(8, "little") + block[8:] for i in range(length // 4096 + 1))[:length]


def write(path, data):
    with open(path, "wb") as file:
        file.write(data)


def read(path):
    with open(path, "rb") as file:
        return file.read()


def odd_things(folder):
    """Makes what real trees seldom hold."""
    os.mkdir(folder)
    for length in (0, 1, 4095, 4096, 4097, 65536, MIB + 1):
        write(os.path.join(folder, f"length-{length}"), pattern(length, length))
    write(os.path.join(folder, "n" * 255), b"a long name")
    write(os.path.join(folder, "Grüße – 你好"), b"another name")
    write(os.fsencode(folder) + b"/\xff\xfe not UTF-8", b"bytes are bytes")
    os.symlink("nowhere/at/all", os.path.join(folder, "dangling"))
    os.symlink("x" * 4000, os.path.join(folder, "long symlink"))
    os.link(os.path.join(folder, "length-4096"), os.path.join(folder, "hard link"))
    os.mkfifo(os.path.join(folder, "fifo"))
    for mode in (0o000, 0o111, 0o444, 0o640, 0o777, 0o4755, 0o2755):
        write(os.path.join(folder, f"mode-{mode:o}"), b"")
        os.chmod(os.path.join(folder, f"mode-{mode:o}"), mode)
    os.mkdir(os.path.join(folder, "sticky"))
    os.chmod(os.path.join(folder, "sticky"), 0o1777)
    many = os.path.join(folder, "many")
    os.mkdir(many)
    for i in range(1500):
        write(os.path.join(many, f"file {i}"), b"%d" % i)
    deep = folder
    for i in range(40):
        deep = os.path.join(deep, f"deep{i}")
        os.mkdir(deep)
    write(os.path.join(deep, "bottom"), b"here")
    if os.geteuid() == 0:
        write(os.path.join(folder, "owned"), b"")
        os.chown(os.path.join(folder, "owned"), 1234, 5678)
    for name, when in (("length-1", 1), ("length-0", -12345 * 10**9 + 678), ("many", 4102444800 * 10**9 + 999999999)):
        os.utime(os.path.join(folder, name), ns=(when, when))


def sparse(path, size=TIB):
    """A file of that apparent size, with data at some places."""
    with open(path, "wb") as file:
        for offset in sparse_places(size):
            file.seek(offset)
            file.write(pattern(10000, offset))
        file.truncate(size)


def sparse_places(size):
    return [0, 5 * MIB + 123, size // 3, size - 10000]


def check_sparse(path, size=TIB):
    st = os.stat(path)
    assert st.st_size == size, st
    assert st.st_blocks * 512 < 10 * MIB, f"{st.st_blocks} blocks: not sparse"
    with open(path, "rb") as file:
        for offset in sparse_places(size):
            file.seek(offset)
            assert file.read(10000) == pattern(10000, offset), f"wrong data at {offset}"
        file.seek(size // 2)
        assert not any(file.read(MIB)), "a hole is not empty"
        assert os.lseek(file.fileno(), size // 2, os.SEEK_DATA) > size // 2


def _one(path, st):
    kind = stat.S_IFMT(st.st_mode)
    if kind == stat.S_IFLNK:
        return os.readlink(path)
    if kind != stat.S_IFREG:
        return None
    if st.st_size == 0:
        return 0
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while data := file.read(MIB):
            digest.update(data)
    return st.st_size, digest.hexdigest()


def manifest(folder, skip=()):
    """{path: what must stay as it is} of everything below a folder, without the folder itself."""
    found, first = {}, {}
    root = os.fsencode(folder)
    for here, folders, files in os.walk(root):
        for name in folders + files:
            path = os.path.join(here, name)
            relative = os.path.relpath(path, root)
            if relative.decode(errors="replace") in skip:
                continue
            st = os.lstat(path)
            links = st.st_nlink if not stat.S_ISDIR(st.st_mode) else 0
            twin = first.setdefault(st.st_ino, relative) if links > 1 else None
            found[relative] = (oct(st.st_mode), st.st_uid, st.st_gid, st.st_mtime_ns, links, twin, _one(path, st))
    return found


def compare(expected, got):
    wrong = [f"{path!r}: {expected.get(path)} became {got.get(path)}"
             for path in sorted({*expected, *got}) if expected.get(path) != got.get(path)]
    assert not wrong, f"{len(wrong)} differ: " + "; ".join(wrong[:5])
