# SPDX-License-Identifier: GPL-2.0-or-later
"""The rules of the house. Each is a function that takes a Tree and yields (path, line, what is wrong)."""
import fnmatch
import os
import re
import subprocess

ORDER = ["base", "format", "leg", "mirror", "range", "cache", "meta", "fs", "front", "ctl", "tools"]
BASE_ONLY = {"range", "cache"}  # pure memory: they may know base and nothing else
COLUMNS = 120
LINES = 800

# Which files may include which foreign header; the first pattern of the header that matches holds.
DOORS = [
    (r"liburing", ["src/leg/*", "src/front/ring.c"]),
    (r"blkid/", ["src/leg/*"]),
    (r"libnbd", ["src/leg/nbd*"]),
    (r"dlfcn", ["src/leg/transport.c", "tests/*"]),
    (r"fuse|linux/fuse", ["src/front/*", "tests/mounted/passthrough.c"]),
    (r"jansson", ["src/ctl/*", "include/mirrorfs/ctl.h", "tools/*"]),
    (r"seccomp\.h|sys/capability", ["tools/sandbox.c"]),
    (r"isa-l", ["src/base/crc32c.c"]),
    (r"check\.h", ["tests/*"]),
    (r"pthread", ["src/base/*", "include/mirrorfs/base/*", "tests/*"]),
]

# What waits, starts threads, tells the time or rolls dice must go through base, or no simulated run replays.
WORLD = re.compile(
    r"\b(pthread_\w+|clock_gettime|clock_nanosleep|gettimeofday|timespec_get|time|rand|rand_r|random|srand|srandom|"
    r"drand48|getrandom|getentropy|arc4random\w*|sleep|usleep|nanosleep|sem_\w*wait|select|pselect|thrd_\w+|mtx_\w+|"
    r"cnd_\w+|p?poll|epoll_\w*wait)\s*\(")
POLL = re.compile(r"p?poll$|epoll")

# Where functions of others that a comment may name are declared.
FOREIGN = ["/usr/include/" + name for name in (
    "libnbd.h", "liburing.h", "fuse3/fuse_lowlevel.h", "fuse3/fuse_common.h", "blkid/blkid.h", "jansson.h", "check.h",
    "pthread.h", "unistd.h", "stdlib.h", "string.h", "fcntl.h", "signal.h", "poll.h")]

OWN_PATH = re.compile(r"(?<![\w/.~*-])((?:src|include|tests|tools|man|\.ci)/[\w./*-]*[\w*/]|(?<!/)mirrorfs/[\w/]+\.h)")
OWN_FILE = re.compile(r"(?<![\w/.<-])([a-z][\w-]*\.[ch])(?!\w|\.\w)")
CALL = re.compile(r"(?<![\w.>-])([a-z_][a-z0-9_]*[a-z0-9])\(\)")


class Tree:
    """The files below a root, their texts and what may be asked of them, read once."""

    def __init__(self, root):
        self.root = root
        self.paths = []
        for folder, folders, files in os.walk(root):
            folders[:] = sorted(f for f in folders if f not in (".git", "__pycache__") and not f.startswith(
                (".build", "build")))
            self.paths += [os.path.relpath(os.path.join(folder, f), root) for f in sorted(files)]
        self.texts = {path: self._read(path) for path in self.paths}
        self.paths = [path for path in self.paths if self.texts[path] is not None and path != "COPYING"]
        self._names = None

    def _read(self, path):
        try:
            with open(os.path.join(self.root, path), encoding="utf-8") as file:
                return file.read()
        except (UnicodeDecodeError, OSError):
            return None

    def match(self, *patterns):
        return [path for path in self.paths if any(fnmatch.fnmatch(path, pattern) for pattern in patterns)]

    def c(self):
        return self.match("*.c", "*.h")

    def shell(self):
        return [p for p in self.paths if p.endswith(".sh") or self.texts[p].startswith("#!/bin/bash")]

    def scripts(self):
        return [p for p in self.paths if p.endswith((".py", ".sh")) or self.texts[p].startswith("#!")]

    def pages(self):
        return self.match("man/*.[1-8]")

    def prose(self):
        """(path, line, text) of whatever a person reads to understand: comments, manual pages, READMEs."""
        for path in self.c():
            for line, comment in comments(self.texts[path]):
                yield path, line, comment
        for path in self.scripts():
            for line, text in enumerate(self.texts[path].split("\n"), 1):
                if re.match(r"\s*#[^!]", text):
                    yield path, line, text
        for path in self.pages() + [p for p in self.paths if os.path.basename(p) == "README"]:
            for line, text in enumerate(self.texts[path].split("\n"), 1):
                if not text.startswith('.\\"'):
                    yield path, line, text

    def names(self):
        """Every name that is followed by an opening parenthesis in code, or defined in a script."""
        if self._names is None:
            self._names = set()
            for path in filter(os.path.exists, FOREIGN):
                with open(path, encoding="utf-8", errors="replace") as file:
                    self._names |= set(re.findall(r"(\w+)\s*\(", file.read()))
            for path in self.c():
                self._names |= set(re.findall(r"(\w+)\)?\s*\(", code(self.texts[path])))
                self._names |= set(re.findall(r"#define\s+(\w+)", self.texts[path]))
            for path in self.scripts():
                self._names |= set(re.findall(r"^\s*(?:def\s+)?(\w+)\(", self.texts[path], re.MULTILINE))
        return self._names


TOKEN = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'', re.DOTALL)


def code(text):
    """C without comments and literals, line for line."""
    return TOKEN.sub(lambda m: "\n" * m[0].count("\n") if m[0][0] == "/" else '""', text)


def comments(text):
    """(line, text) of each line of a C comment."""
    for token in TOKEN.finditer(text):
        if token[0][0] == "/":
            first = text.count("\n", 0, token.start()) + 1
            yield from enumerate(token[0].split("\n"), first)


def includes(text):
    """(line, header, quoted)"""
    for line, found in enumerate(text.split("\n"), 1):
        include = re.match(r'\s*#\s*include\s*([<"])([^>"]+)[>"]', found)
        if include:
            yield line, include[2], include[1] == '"'


def storey(path):
    """Of a source or public header: its storey; None for tests and the like."""
    parts = path.split("/")
    if parts[0] == "src" and len(parts) > 2:
        return parts[1]
    if parts[0] == "tools":
        return "tools"
    if parts[:2] == ["include", "mirrorfs"]:
        return parts[2].removesuffix(".h")
    return None


def own_folders(path):
    """Where a file's private headers may be: beside it, and for a tool of several files among what all tools share."""
    return [os.path.dirname(path)] + ["tools"] * path.startswith("tools/")


def no_include_from_a_storey_above(tree):
    for path in tree.c():
        here = storey(path)
        if here not in ORDER:
            continue
        for line, header, quoted in includes(tree.texts[path]):
            if header.startswith("mirrorfs/"):
                there = storey("include/" + header)
                if there not in ORDER:
                    yield path, line, f"{header}: of no storey"
                elif ORDER.index(there) > ORDER.index(here):
                    yield path, line, f"{header}: {there} stands above {here}"
                elif here in BASE_ONLY and there not in ("base", here):
                    yield path, line, f"{header}: {here} may know base alone"
            elif quoted and not any(os.path.join(folder, header) in tree.texts for folder in own_folders(path)):
                yield path, line, f"{header}: a private header of another folder"


def foreign_headers_enter_by_their_door(tree):
    for path in tree.c():
        for line, header, quoted in includes(tree.texts[path]):
            if quoted:
                continue
            for pattern, doors in DOORS:
                if re.match(pattern, header):
                    if not any(fnmatch.fnmatch(path, door) for door in doors):
                        yield path, line, f"<{header}> enters by {', '.join(doors)} only"
                    break


def the_world_is_reached_through_base(tree):
    for path in tree.c():
        if path.startswith(("src/base/", "include/mirrorfs/base/", "tests/")):
            continue
        for line, text in enumerate(code(tree.texts[path]).split("\n"), 1):
            for found in WORLD.findall(text):
                if POLL.match(found) and path.startswith(("src/front/", "src/ctl/", "src/leg/nbd", "tools/")):
                    continue
                yield path, line, f"{found}(): use mirrorfs/base/sync.h and clock.h"


def every_named_function_exists(tree):
    for path, line, text in tree.prose():
        for name in CALL.findall(text):
            if name not in tree.names():
                yield path, line, f"{name}(): no such function"


def every_named_file_exists(tree):
    files = set(tree.texts)
    folders = {os.path.dirname(path) for path in files}
    folders |= {os.path.dirname(folder) for folder in folders}
    plain = {os.path.basename(path) for path in files}
    for path, line, text in tree.prose():
        for name in OWN_PATH.findall(text):
            wanted = ("include/" if name.startswith("mirrorfs/") else "") + re.sub(r"\b[A-Z]{3,}\b", "*", name)
            wanted = wanted.rstrip("/.")
            if wanted.endswith("/README") or wanted in files | folders:
                continue
            if not any(fnmatch.fnmatch(known, wanted) for known in files | folders):
                yield path, line, f"{name}: no such file"
        for name in OWN_FILE.findall(text):
            if name not in plain and not os.path.exists("/usr/include/" + name):
                yield path, line, f"{name}: no such file"


def every_source_names_its_licence(tree):
    for path in sorted({*tree.c(), *tree.scripts(), *tree.pages()}):
        if "SPDX-License-Identifier: GPL-2.0-or-later" not in "\n".join(tree.texts[path].split("\n")[:3]):
            yield path, 1, "no SPDX line at its head"


def lines_fit_120_columns(tree):
    for path in tree.paths:
        if path.endswith((".patch", ".json")) or path.startswith("."):
            continue
        for line, text in enumerate(tree.texts[path].split("\n"), 1):
            if len(text.expandtabs(8)) > COLUMNS:
                yield path, line, f"{len(text.expandtabs(8))} columns"


def lines_end_where_they_end(tree):
    for path in tree.paths:
        if path.endswith(".patch"):
            continue
        for line, text in enumerate(tree.texts[path].split("\n"), 1):
            if text != text.rstrip():
                yield path, line, "white space at the end"
        if tree.texts[path] and not tree.texts[path].endswith("\n"):
            yield path, tree.texts[path].count("\n") + 1, "no newline at the end of the file"


def nothing_is_left_over(tree):
    """Of an editor, a merge or a patch."""
    for path in tree.match("*.orig", "*.rej", "*.bak", "*~", "*.swp"):
        yield path, 1, "left over: it belongs to no part"


def lint(tree, command, paths):
    """Runs a linter that prints one complaint a line, FILE:LINE: first."""
    if not paths:
        return
    done = subprocess.run(command + paths, cwd=tree.root, text=True, capture_output=True, check=False)
    for text in (done.stdout + done.stderr).splitlines():
        found = re.match(r"(?:\S+: )?([^:\s]+):(\d+):(?:\d+:)? ?(.*)", text)
        yield (found[1], int(found[2]), found[3]) if found else (paths[0], 1, text)
    if done.returncode and not (done.stdout + done.stderr).strip():
        yield paths[0], 1, f"{command[0]} fails with {done.returncode}"


def manual_pages_are_clean(tree):
    yield from lint(tree, ["mandoc", "-T", "lint", "-W", "warning"], tree.pages())


def manual_pages_tell_exits_and_examples(tree):
    for path in tree.pages():
        if path.endswith((".1", ".8")):
            for section in ("EXIT STATUS", "EXAMPLES"):
                if f"\n.Sh {section}\n" not in tree.texts[path]:
                    yield path, 1, f"no section {section}"


STRUCT = re.compile(r"^struct (format_\w+) \{ /\* (\d+) bytes.*?\*/\n(.*?)^\};", re.MULTILINE | re.DOTALL)
MEMBER = re.compile(r"\t(?:struct )?(\w+) (\w+)(\[\])?.*; /\* (\d+)(-?)(\d*)")
TABLE = re.compile(r"^\.Vt struct (format_\w+) ,\n(\d+) bytes.*?\n\.Bl.*?\n(.*?)^\.El", re.MULTILINE | re.DOTALL)
ROW = re.compile(r"\.It (\d+) Ta (\d*) ?Ta (\w+)")
WIDTHS = {"uint8_t": 1, "le16": 2, "le32": 4, "le64": 8}


def members(text):
    """(line in the structure, offset, length, name, length that the type alone has) of each member."""
    for line, member in enumerate(text.rstrip("\n").split("\n"), 1):
        found = MEMBER.match(member)
        if found:
            kind, name, flexible, first, dash, last = found.groups()
            length = "" if flexible else str(int(last if dash else first) - int(first) + 1)
            yield line, first, length, name, None if "[" in member.split(";")[0] else WIDTHS.get(kind)
        else:
            yield line, None, member.strip(), None, None


def the_manual_tells_the_format(tree):
    """Each structure of the disk, member by member, as mirrorfs(5) has it; and its comments add up."""
    page = "man/mirrorfs.5"
    told = {found[1]: found for found in TABLE.finditer(tree.texts.get(page) or "")}
    for path in tree.match("include/mirrorfs/format/*.h"):
        for struct in STRUCT.finditer(tree.texts[path]):
            start = tree.texts[path].count("\n", 0, struct.start()) + 1
            rows, end = [], 0
            for line, first, length, name, width in members(struct[3]):
                if first is None:
                    yield path, start + line, f"no offset at: {length}"
                    continue
                if int(first) != end or (width and length and width != int(length)):
                    yield path, start + line, f"{name}: its offsets do not fit"
                end = int(first) + int(length or 0)
                rows.append((first, length, name))
            if end != int(struct[2]):
                yield path, start, f"{struct[1]}: {end} bytes, not {struct[2]}"
            table = told.pop(struct[1], None)
            if not table:
                yield page, 1, f"{struct[1]}: no table"
            elif ROW.findall(table[3]) != rows or table[2] != struct[2]:
                line = tree.texts[page].count("\n", 0, table.start()) + 1
                wrong = set(ROW.findall(table[3])) ^ set(rows)
                yield page, line, f"{struct[1]}: not as in {path}: {sorted(row[2] for row in wrong)}"
    for name, table in told.items():
        yield page, tree.texts[page].count("\n", 0, table.start()) + 1, f"{name}: no such structure"


def shell_scripts_are_clean(tree):
    yield from lint(tree, ["shellcheck", "-x", "-f", "gcc"], tree.shell())


RULES = [
    no_include_from_a_storey_above,
    foreign_headers_enter_by_their_door,
    the_world_is_reached_through_base,
    every_named_function_exists,
    every_named_file_exists,
    every_source_names_its_licence,
    lines_fit_120_columns,
    lines_end_where_they_end,
    nothing_is_left_over,
    manual_pages_are_clean,
    manual_pages_tell_exits_and_examples,
    the_manual_tells_the_format,
    shell_scripts_are_clean,
]


def remarks(tree):
    """What is told, but fails nothing."""
    for path in tree.c() + tree.scripts():
        count = tree.texts[path].count("\n")
        if count > LINES:
            yield path, count, f"{count} lines: more than {LINES} are hard to hold in one head"
