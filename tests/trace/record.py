#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Records which pages a program uses: tests/trace/record.py NAME [FOLDER]

Runs one of the loads below in FOLDER (a new one below /tmp) under strace, and writes tests/trace/recorded/NAME.xz:
what the filesystem's cache would be asked for if nobody else had a cache. A file's page is one of 4096 bytes; a
file that is mapped counts as read. Metadata are modelled: the entries and inodes of each folder lie in leaves of
70 each, in the order in which they are first seen, below one root. An event is three numbers in LEB128:

    file      the difference to the event before, zigzag, times 2; odd if it is a write. File 0 is the tree.
    first     page, less the one behind the latest event of this file, zigzag
    count     of pages

Private folders and names are not in a trace: files are numbered.
"""
import lzma
import os
import re
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
PAGE = 4096
LEAF_ITEMS = 70

SQLITE = """
seq=$(seq 1 400)
sqlite3 db "CREATE TABLE t(i INTEGER PRIMARY KEY, k INTEGER, s TEXT);
  WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 150000)
  INSERT INTO t SELECT i, abs(random()) % 1000000, hex(randomblob(40)) FROM n; CREATE INDEX k ON t(k);"
for i in $seq; do
  echo "SELECT count(s) FROM t WHERE k BETWEEN $((i * 7919 % 990000)) AND $((i * 7919 % 990000 + 400));"
  echo "UPDATE t SET s = hex(randomblob(40)) WHERE i = abs(random()) % 20000;"
  case $i in *00) echo "SELECT count(*) FROM t WHERE s LIKE '%ABCDEF%';" ;; esac
done | sqlite3 -cmd "PRAGMA cache_size=50" db
"""
# Each works in the folder it is called in; $0 is the root of this tree. Files elsewhere count only below `also`.
LOADS = {
    "git": ("""git clone -q --no-hardlinks "$0" r && cd r && git log --stat -60 >/dev/null && git checkout -q HEAD~60 &&
               git status -s && git checkout -q - && git grep -c struct >/dev/null; git log -p -60 -- src >/dev/null &&
               git status -s && git diff --stat HEAD~30 && git gc -q && git fsck""", []),
    "sqlite": (SQLITE, []),
    "compiler": ("""cp -r "$0/src" "$0/include" . && for f in src/*/*.c; do
                    gcc -O1 -D_GNU_SOURCE -Iinclude $(for d in src/*/; do echo -I$d; done) -I/usr/include/fuse3 \\
                      -c $f -o ${f%.c}.o || true; done; ar rc all.a src/*/*.o; ar t all.a >/dev/null""",
                 ["/usr/include", "/usr/lib/gcc"]),
    "find": ("""find /usr/share /usr/lib -size +100k >/dev/null; find /usr/include -name '*.h' | head -1500 |
                xargs grep -l struct >/dev/null; find /usr/share /usr/lib -newer /etc/passwd >/dev/null;
                grep -rl inline /usr/include/linux /usr/share/perl >/dev/null; find /usr/include >/dev/null;
                find /usr/share -type l >/dev/null""", ["/usr"]),
}

CALLS = ("openat,open,creat,read,pread64,readv,write,pwrite64,writev,lseek,mmap,stat,lstat,newfstatat,statx,access,"
         "faccessat2,readlink,readlinkat,unlink,unlinkat,rename,renameat2,mkdir,mkdirat,getdents64,copy_file_range,"
         "execve,chdir")
LINE = re.compile(r"^(\d+)\s+(\w+)\((.*)\)\s+=\s+(-?\d+|0x[0-9a-f]+)(.*)$")
UNFINISHED = re.compile(r"^(\d+)\s+(.*) <unfinished \.\.\.>$")
RESUMED = re.compile(r"^(\d+)\s+<\.\.\. \w+ resumed>(.*)$")
DESCRIPTOR = re.compile(r"^(\d+)<([^>]*)>")
NAME = re.compile(r'"((?:[^"\\]|\\.)*)"')


def varint(number):
    out = bytearray()
    while number >= 128:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def zigzag(number):
    return number * 2 if number >= 0 else -number * 2 - 1


class Trace:
    def __init__(self):
        self.out = bytearray()
        self.file = 0
        self.next = {}
        self.files = {}
        self.leaves = {}
        self.items = {}
        self.pages = 0

    def put(self, file, first, count, write=False):
        self.out += varint(zigzag(file - self.file) * 2 + write)
        self.out += varint(zigzag(first - self.next.get(file, 0))) + varint(count)
        self.file = file
        self.next[file] = first + count
        self.pages += count

    def node(self, path):
        """The root, and the leaf with the entry and inode of this path."""
        folder = os.path.dirname(path)
        items = self.items.setdefault(folder, {})
        at = items.setdefault(path, len(items))
        leaf = self.leaves.setdefault((folder, at // LEAF_ITEMS), len(self.leaves) + 1)
        self.put(0, 0, 1)
        self.put(0, leaf, 1)

    def data(self, path, start, length, write=False):
        if length <= 0:
            return
        file = self.files.setdefault(path, len(self.files) + 1)
        self.put(file, start // PAGE, (start + length - 1) // PAGE - start // PAGE + 1, write)


class Reader:
    """Turns strace's lines into a trace."""

    def __init__(self, trace, roots):
        self.trace = trace
        self.roots = roots
        self.offsets = {}

    def counts(self, path):
        return any(path == root or path.startswith(root + "/") for root in self.roots)

    def call(self, pid, name, arguments, result, behind):
        descriptor = DESCRIPTOR.match(arguments)
        if name in ("read", "readv", "write", "writev", "pread64", "pwrite64", "lseek", "getdents64"):
            if descriptor and self.counts(descriptor[2]):
                self.io(pid, name, descriptor, arguments, result)
        elif name == "mmap":
            words = arguments.split(", ")
            mapped = DESCRIPTOR.match(words[4]) if len(words) > 5 else None
            if mapped and self.counts(mapped[2]) and os.path.isfile(mapped[2]):
                start = int(words[5], 0)
                self.trace.data(mapped[2], start, min(int(words[1]), os.path.getsize(mapped[2]) - start))
        else:
            self.named(pid, name, arguments, behind)

    def io(self, pid, name, descriptor, arguments, result):
        key, path = (pid, descriptor[1], descriptor[2]), descriptor[2]
        if name == "getdents64":
            # The whole folder's leaves, once for each call that gave something.
            for (folder, _), leaf in self.trace.leaves.items() if result else ():
                if folder == path:
                    self.trace.put(0, leaf, 1)
        elif name == "lseek":
            self.offsets[key] = result
        elif name in ("pread64", "pwrite64"):
            self.trace.data(path, int(arguments.rsplit(", ", 1)[1], 0), result, name == "pwrite64")
        else:
            start = self.offsets.get(key, 0)
            self.trace.data(path, start, result, name.startswith("write"))
            self.offsets[key] = start + max(result, 0)

    def named(self, pid, name, arguments, behind):
        found = NAME.search(arguments)
        if not found:
            return
        path = found[1]
        if not path.startswith("/"):
            base = re.search(r"<([^>]*)>", arguments[:found.start()])
            path = os.path.join(base[1], path) if base else path
        path = os.path.normpath(path)
        if self.counts(path):
            self.trace.node(path)
        opened = re.match(r"<([^>]*)>", behind)
        if name in ("openat", "open", "creat") and opened:
            for key in [key for key in self.offsets if key[0] == pid and key[2] == opened[1]]:
                del self.offsets[key]

    def run(self, lines):
        begun = {}
        for line in lines:
            line = line.rstrip("\n")
            half = UNFINISHED.match(line)
            if half:
                begun[half[1]] = half[2]
                continue
            rest = RESUMED.match(line)
            if rest:
                line = f"{rest[1]} {begun.pop(rest[1], '')}{rest[2]}"
            call = LINE.match(line)
            if call:
                self.call(call[1], call[2], call[3], int(call[4], 0), call[5])


def main():
    name = sys.argv[1]
    script, also = LOADS[name]
    folder = os.path.realpath(sys.argv[2] if len(sys.argv) > 2 else tempfile.mkdtemp(prefix="trace-"))
    log = folder + ".strace"
    try:
        subprocess.run(["strace", "-f", "-qq", "-y", "-s", "512", "-e", f"trace={CALLS}", "-o", log, "sh", "-c", script,
                        ROOT], cwd=folder, check=False)
        trace = Trace()
        with open(log, encoding="utf-8", errors="replace") as lines:
            Reader(trace, [folder, *also]).run(lines)
    finally:
        shutil.rmtree(folder)
        os.unlink(log)
    with lzma.open(os.path.join(HERE, "recorded", name + ".xz"), "wb", preset=9) as file:
        file.write(trace.out)
    print(f"{name}: {trace.pages} pages used, of {len(trace.files)} files and {len(trace.leaves)} leaves")


main()
