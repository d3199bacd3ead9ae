# SPDX-License-Identifier: GPL-2.0-or-later
"""What other programs put on a volume, and how they check it."""
import os
import shutil

COMMITS = 60
ROWS = 20000
GIT = ["git", "--no-optional-locks", "-c", "user.name=test", "-c", "user.email=test@example.org",
       "-c", "init.defaultBranch=main", "-c", "safe.directory=*", "-c", "gc.auto=0"]


def lend_tools(ws):
    """Copies the tools under test to where any user may run them."""
    target = ws.folder("tools")
    for name in ("mkfs.mirrorfs", "mirrorfs", "mirrorctl"):
        shutil.copy(os.path.join(ws.tools, name), target)
    ws.tools = target


def make_repository(ws, path):
    os.makedirs(path, exist_ok=True)
    ws.run(*GIT, "init", "-q", path)
    for i in range(COMMITS):
        folder = os.path.join(path, f"folder{i % 7}")
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, f"file{i % 11}"), "a", encoding="utf-8") as file:
            file.write(f"line {i}\n" * (i + 1))
        ws.run("sh", "-c", 'cd "$0" && shift 0 && "$@" add -A && "$@" commit -q -m "change"', path, *GIT)
    ws.run(*GIT, "-C", path, "gc", "-q")


def check_repository(ws, path):
    ws.run(*GIT, "-C", path, "fsck", "--full", "--strict")
    count = ws.run(*GIT, "-C", path, "rev-list", "--count", "HEAD").stdout.strip()
    assert int(count) == COMMITS, count
    assert ws.run(*GIT, "-C", path, "status", "--porcelain").stdout == ""


def make_database(ws, path, mode="delete"):
    ws.run("sqlite3", path, f"PRAGMA journal_mode={mode}; CREATE TABLE t(i INTEGER PRIMARY KEY, s TEXT);")
    for start in range(0, ROWS, ROWS // 4):
        ws.run("sqlite3", path, f"""
            WITH RECURSIVE n(i) AS (SELECT {start} UNION ALL SELECT i+1 FROM n WHERE i < {start + ROWS // 4 - 1})
            INSERT INTO t SELECT i, hex(randomblob(20)) FROM n; CREATE INDEX i{start} ON t(s);""")
    ws.run("sqlite3", path, "DELETE FROM t WHERE i % 3 = 0; VACUUM;")


def check_database(ws, path):
    assert ws.run("sqlite3", path, "PRAGMA integrity_check;").stdout.strip() == "ok"
    count = int(ws.run("sqlite3", path, "SELECT count(*) FROM t;").stdout)
    assert count == ROWS - (ROWS + 2) // 3, count
