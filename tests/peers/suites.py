# SPDX-License-Identifier: GPL-2.0-or-later
"""The suites: each is made ready once, and then runs in a folder: {name of a test: whether it passed}."""
import concurrent.futures
import glob
import os
import re
import shutil
import signal
import subprocess
import time

import workspace

MINUTE = 60
NOBODY = 65534
APT = "deb-src http://deb.debian.org/debian {0} main\ndeb-src http://deb.debian.org/debian-security {0}-security main\n"
JOBS = str(len(os.sched_getaffinity(0)))


class Suite:
    alone = False  # nothing to compare: it is all or nothing, or passes anywhere
    compared = False  # runs on ext4 also if nothing failed

    def __init__(self, ws, store, everything):
        self.ws, self.store, self.everything = ws, store, everything
        self.prepare()

    def prepare(self):
        pass

    def run(self, folder, volume, only=None):
        """`volume`: ours; None on ext4, where `only` these need to run."""
        raise NotImplementedError

    def source(self, package):
        """Its unpacked source."""
        found = glob.glob(f"{self.store}/{package}-[0-9]*/debian")
        if found:
            return os.path.dirname(found[0])
        lists = os.path.join(self.store, "lists")
        os.makedirs(os.path.join(lists, "partial"), exist_ok=True)
        with open("/etc/os-release", encoding="utf-8") as file:
            release = dict(line.rstrip().split("=", 1) for line in file if "=" in line)["VERSION_CODENAME"]
        with open(os.path.join(self.store, "sources.list"), "w", encoding="utf-8") as file:
            file.write(APT.format(release))
        apt = ["apt-get", "-q", "-o", f"Dir::Etc::sourcelist={self.store}/sources.list",
               "-o", "Dir::Etc::sourceparts=-", "-o", f"Dir::State::lists={lists}"]
        self.ws.run(*apt, "update", timeout=10 * MINUTE)
        self.ws.run(*apt, "source", package, cwd=self.store, timeout=10 * MINUTE)
        return os.path.dirname(glob.glob(f"{self.store}/{package}-[0-9]*/debian")[0])


class Git(Suite):
    """Scripts of git's t/. Built without what has nothing to do with files."""

    PARTS = ("t000", "t001", "t002", "t003", "t006", "t10", "t11", "t13", "t14", "t15", "t20", "t21", "t22", "t24",
             "t300", "t32", "t37", "t39", "t53", "t62", "t700", "t71", "t73", "t75", "t77")

    def prepare(self):
        self.tree = self.source("git")
        words = ["NO_CURL=1", "NO_EXPAT=1", "NO_TCLTK=1", "NO_GETTEXT=1", "NO_PYTHON=1", "CFLAGS=-O1"]
        if not os.path.exists(f"{self.tree}/t/helper/test-tool"):
            self.ws.run("make", "-s", f"-j{JOBS}", *words, cwd=self.tree, timeout=60 * MINUTE)
        found = sorted(os.path.basename(p)[:-3] for p in glob.glob(f"{self.tree}/t/t[0-9]*.sh"))
        self.scripts = [s for s in found if self.everything or s.startswith(self.PARTS)]

    def one(self, folder, name):
        trash = f"{folder}/{name}"
        os.makedirs(trash)
        environment = {**os.environ, "GIT_TEST_EXT_CHAIN_LINT": "0", "TEST_OUTPUT_DIRECTORY": trash}
        with open(f"{self.store}/git-{name}.out", "w", encoding="utf-8") as log:
            status = subprocess.run(["timeout", "-k", "5", str(10 * MINUTE), "sh", f"./{name}.sh", f"--root={trash}"],
                                    cwd=f"{self.tree}/t", env=environment, stdout=log, stderr=log, check=False,
                                    stdin=subprocess.DEVNULL).returncode
        shutil.rmtree(trash, ignore_errors=True)
        return name, status == 0

    def run(self, folder, volume, only=None):
        with concurrent.futures.ThreadPoolExecutor(int(JOBS)) as pool:
            names = self.scripts if only is None else only
            return dict(pool.map(lambda name: self.one(folder, name), names))


class Sqlite(Suite):
    """Files of its test/ in a folder on the mount: of veryquick, which takes hours where each commit is one, those
    about what a database asks of its filesystem."""

    PARTS = ("atomic", "attach", "backup", "bigfile", "delete_db", "exclusive", "fallocate", "filectrl", "io",
             "journal", "lock", "mmap", "multiplex", "nolock", "pager", "readonly", "rollback", "savepoint", "shared",
             "superlock", "symlink", "sync", "temp", "trans", "truncate", "uri", "vacuum", "wal", "zeroblob", "zipfile")

    def prepare(self):
        self.tree = self.source("sqlite3")
        self.build = f"{self.store}/sqlite3-build"
        if not os.path.exists(f"{self.build}/testfixture"):
            os.makedirs(self.build, exist_ok=True)
            self.ws.run("sh", f"{self.tree}/configure", "-q", "CFLAGS=-O1", cwd=self.build, timeout=10 * MINUTE)
            self.ws.run("make", "-s", f"-j{JOBS}", "testfixture", cwd=self.build, timeout=60 * MINUTE)

    def run(self, folder, volume, only=None):
        script = "all.test" if self.everything else "veryquick.test"
        work = os.path.join(folder, "sqlite")
        os.makedirs(work)
        os.chown(work, NOBODY, NOBODY)
        done = self.ws.run(f"{self.build}/testfixture", f"{self.tree}/test/{script}", cwd=work, ok=False, user=NOBODY,
                           env={**os.environ, **({} if self.everything else {"SQLITE_TEST_PATTERN_LIST": " ".join(
                               f"{part}%.test" for part in self.PARTS)})},
                           timeout=(600 if self.everything else 60) * MINUTE)
        with open(f"{self.store}/sqlite-{'ours' if volume else 'ext4'}.out", "w", encoding="utf-8") as file:
            file.write(done.stdout + done.stderr)
        shutil.rmtree(work)
        found = re.search(r"(\d+) errors out of (\d+) tests", done.stdout)
        assert found, "sqlite's tests did not come to their end"
        failed = re.search(r"Failures on these tests: (.*)", done.stdout)
        results = {name: False for name in (failed[1].split() if failed else [])}
        results.update({f"test {n}": True for n in range(int(found[2]) - len(results))})
        return results


class StressNg(Suite):
    """Every stressor of its class filesystem."""

    def run(self, folder, volume, only=None):
        work = os.path.join(folder, "stress-ng")
        os.makedirs(work)
        os.chmod(work, 0o777)
        names = self.ws.run("stress-ng", "--class", "filesystem?", ok=False)
        names = (names.stdout + names.stderr).split(":", 1)[1].split()
        results = {}
        for name in names if only is None else only:
            done = self.ws.run("stress-ng", f"--{name}", JOBS, "--verify", "--timeout", "5s", "--temp-path", work,
                               "--oomable", ok=False, timeout=5 * MINUTE)
            # 3: it cannot run here; 4: not implemented
            results[name] = done.returncode in (0, 3, 4)
            if done.returncode in (3, 4):
                print(f"note: {name} does not run here")
        shutil.rmtree(work)
        return results


class Dbench(Suite):
    compared = True

    def run(self, folder, volume, only=None):
        done = self.ws.run("dbench", "-D", folder, "-t", "30", "4", ok=False, timeout=10 * MINUTE)
        return {"dbench": done.returncode == 0 and "Throughput" in done.stdout}


class Bonnie(Suite):
    compared = True

    def run(self, folder, volume, only=None):
        done = self.ws.run("bonnie++", "-q", "-f", "-d", folder, "-s", "512", "-r", "256", "-n", "4", "-u", "root",
                           ok=False, timeout=20 * MINUTE)
        return {"bonnie++": done.returncode == 0}


class Postgresql(Suite):
    """initdb, pgbench, and the ends that a server or its filesystem may come to; behind each, nothing is lost."""

    alone = True
    USER = ("setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups")

    def prepare(self):
        self.data = self.sockets = self.server = None
        self.bin = max(glob.glob("/usr/lib/postgresql/*/bin"))

    def as_postgres(self, *command, **more):
        return self.ws.run(*self.USER, *command, cwd="/", **more)

    def start(self):
        with open(f"{self.sockets}/log", "a", encoding="utf-8") as log:
            self.server = subprocess.Popen(  # pylint: disable=consider-using-with
                [*self.USER, f"{self.bin}/postgres", "-D", self.data, "-k", self.sockets, "-c", "listen_addresses="],
                cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        workspace.wait_for("PostgreSQL", lambda: self.server.poll() is not None or self.as_postgres(
            f"{self.bin}/pg_isready", "-q", "-h", self.sockets, ok=False).returncode == 0, 3 * MINUTE)
        if self.server.poll() is not None:
            with open(f"{self.sockets}/log", encoding="utf-8") as log:
                raise AssertionError("PostgreSQL does not start: " + log.read()[-1000:])

    def sql(self, query):
        done = self.as_postgres("psql", "-h", self.sockets, "-d", "postgres", "-tAqc", query, timeout=5 * MINUTE)
        return done.stdout.strip()

    def pgbench(self, *words, **more):
        return self.as_postgres(f"{self.bin}/pgbench", "-h", self.sockets, *words, "postgres", timeout=10 * MINUTE,
                                **more)

    def in_order(self):
        """Balances agree: what was not wholly done was not done at all."""
        sums = {self.sql(f"SELECT sum({column}) FROM pgbench_{table}") for table, column in (
            ("accounts", "abalance"), ("tellers", "tbalance"), ("branches", "bbalance"), ("history", "delta"))}
        return len(sums) == 1 and self.sql("SELECT count(*) FROM pgbench_accounts") == "500000"

    def broken(self, end):
        """Whether all that pgbench was told is there when `end` has come in the middle of its work."""
        before = int(self.sql("SELECT count(*) FROM pgbench_history"))
        log = f"{self.sockets}/bench-{time.monotonic_ns()}"
        bench = subprocess.Popen(  # pylint: disable=consider-using-with
            [*self.USER, f"{self.bin}/pgbench", "-h", self.sockets, "-n", "-c", "4", "-T", "60", "-l",
             f"--log-prefix={log}", "postgres"], cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(8)
        end()
        bench.wait(timeout=2 * MINUTE)
        self.start()
        done = 0
        for path in glob.glob(f"{log}.*"):
            with open(path, encoding="utf-8") as file:
                done += sum(line.endswith("\n") for line in file)
        after = int(self.sql("SELECT count(*) FROM pgbench_history"))
        print(f"note: {done} transactions were acknowledged, {after - before} are there")
        return done > 0 and after - before >= done and self.in_order()

    def kill_server(self):
        with open(f"/proc/{self.server.pid}/task/{self.server.pid}/children", encoding="utf-8") as file:
            family = list(map(int, file.read().split()))
        self.server.kill()
        self.server.wait()
        for pid in family:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        workspace.wait_for("the servers' end", lambda: not any(map(workspace.alive, family)))

    def run(self, folder, volume, only=None):
        self.sockets = self.ws.folder("postgres")
        self.data = os.path.join(folder, "postgres")
        os.makedirs(self.data)
        for path in (self.sockets, self.data):
            shutil.chown(path, "postgres", "postgres")
        os.chmod(self.data, 0o700)
        results = {"initdb": True}
        self.as_postgres(f"{self.bin}/initdb", "-k", "-D", self.data, timeout=5 * MINUTE)
        self.start()
        self.pgbench("-i", "-q", "-s", "5")
        results["pgbench"] = self.pgbench("-n", "-c", "4", "-T", "20").returncode == 0 and self.in_order()
        results["kill -9 of the server"] = self.broken(self.kill_server)

        def kill_filesystem():
            volume.kill()
            self.kill_server()
            volume.mount("cache=256M")

        results["kill -9 of mirrorfs"] = self.broken(kill_filesystem)
        self.server.send_signal(signal.SIGINT)
        self.server.wait(timeout=3 * MINUTE)
        results["checksums"] = self.as_postgres(f"{self.bin}/pg_checksums", "--check", "-D", self.data, ok=False,
                                                timeout=5 * MINUTE).returncode == 0
        return results


ALL = (Git, Sqlite, StressNg, Dbench, Bonnie, Postgresql)
