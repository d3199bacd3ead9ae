# SPDX-License-Identifier: GPL-2.0-or-later
"""Servers of legs: those that Debian has, and one of ours that does what no good server does."""
import contextlib
import ctypes
import os
import signal
import socket
import struct
import subprocess
import threading

import system
from workspace import wait_for

PR_SET_PDEATHSIG = 1


def _die_with_us():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def listens(path):
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
    return True


class Server:
    """A process that serves an image over a socket in the workspace. `uri` is its leg's address."""

    def __init__(self, ws, name, size="256M"):
        self.ws, self.name = ws, name
        self.image, self.socket = ws.join(f"{name}.img"), ws.join(f"{name}.sock")
        self.uri = f"nbd+unix:///?socket={self.socket}"
        self.process = None
        if not os.path.exists(self.image):
            ws.run("truncate", "-s", size, self.image)

    def run(self, *words, prefix=()):
        print("$", *prefix, *words, flush=True)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.socket)
        self.process = subprocess.Popen([*prefix, *words], stdin=subprocess.DEVNULL, preexec_fn=_die_with_us)
        wait_for("a server to listen", self.ready)

    def ready(self):
        assert self.process.poll() is None, f"{self.name} has ended with {self.process.returncode}"
        return listens(self.socket)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def end(self):
        """In order, if nobody is connected any more."""
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.end()


class Nbdkit(Server):
    """`filters`: their names. `words`: parameters, for them and the plugin."""

    def __init__(self, ws, name="nbdkit", filters=(), words=(), plugin="file", options=(), **more):
        super().__init__(ws, name, **more)
        self.filters, self.words, self.plugin, self.options = filters, words, plugin, options

    def start(self):
        what = [self.image] if self.plugin == "file" else []
        self.run("nbdkit", "-f", "-U", self.socket, *self.options, *(f"--filter={name}" for name in self.filters),
                 self.plugin, *what, *self.words)


class Afar(Nbdkit):
    """Behind a cable of its own, which may lose what it carries or be cut. This process then has a network of its own,
    too, with nothing but that cable: for root."""

    def __init__(self, ws, **more):
        super().__init__(ws, "afar", **more)
        self.uri = "nbd://10.9.9.2/"

    def start(self):
        system.leave(system.CLONE_NEWNET)
        self.run("unshare", "-n", "nbdkit", "-f", "file", self.image)
        inside = ("nsenter", "-n", "-t", str(self.process.pid))
        self.ws.run("ip", "link", "add", "near", "type", "veth", "peer", "name", "far", "netns", str(self.process.pid))
        for where, name, address in (((), "near", "10.9.9.1/24"), (inside, "far", "10.9.9.2/24")):
            self.ws.run(*where, "ip", "address", "add", address, "dev", name)
            self.ws.run(*where, "ip", "link", "set", name, "up")
        # What is lost is lost on the way in: where it is sent from nobody knows.
        self.ends = ((), inside)
        for end in self.ends:
            self.ws.run(*end, "nft", "add table inet cable")
            self.ws.run(*end, "nft", "add chain inet cable in { type filter hook input priority 0; }")

    def ready(self):
        assert self.process.poll() is None, f"{self.name} has ended with {self.process.returncode}"
        with open(f"/proc/{self.process.pid}/net/tcp", encoding="ascii") as file:
            return ":2A39 " in file.read() and os.readlink("/proc/self/ns/net") != os.readlink(
                f"/proc/{self.process.pid}/ns/net")

    def loses(self, percent):
        """So many of a hundred packets, either way."""
        which = f"numgen random mod 100 < {percent}" if percent < 100 else ""
        for end in self.ends:
            self.ws.run(*end, "nft", "flush table inet cable")
            if percent:
                self.ws.run(*end, "nft", f"add rule inet cable in {which} drop")


class QemuNbd(Server):
    """Of one connection at a time, as it is if nobody says otherwise."""

    def __init__(self, ws, name="qemu", options=(), **more):
        super().__init__(ws, name, **more)
        self.options = options

    def start(self):
        self.run("qemu-nbd", "-f", "raw", "-t", "-k", self.socket, *self.options, self.image)

    def ready(self):
        # Whoever connects is the one.
        assert self.process.poll() is None, f"{self.name} has ended with {self.process.returncode}"
        return os.path.exists(self.socket)


class NbdServer(Server):
    """With or without what a leg must have. For root, in a PID namespace that ends with it."""

    def __init__(self, ws, name="nbdserver", durable=True, **more):
        super().__init__(ws, name, **more)
        self.durable = durable
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri = f"nbd://127.0.0.1:{self.port}/leg"

    def start(self):
        config = self.ws.join(f"{self.name}.conf")
        with open(config, "w", encoding="utf-8") as file:
            file.write(f"[generic]\nuser = root\ngroup = root\nport = {self.port}\nlistenaddr = 127.0.0.1\n")
            file.write(f"[leg]\nexportname = {self.image}\n")
            file.write("flush = true\nfua = true\ntrim = true\n" if self.durable else "")
        # Only in the background it serves more than one, and there it would outlive us.
        self.run("unshare", "--fork", "--pid", "--kill-child", "sh", "-c",
                 f"nbd-server -C {config} && exec sleep infinity")

    def end(self):
        self.kill()

    def ready(self):
        assert self.process.poll() is None, f"{self.name} has ended with {self.process.returncode}"
        with socket.socket() as probe:
            return not probe.connect_ex(("127.0.0.1", self.port))


MAGIC, OPTION, REPLY = 0x4e42444d41474943, 0x49484156454f5054, 0x3e889045565a9
REQUEST, ANSWER = 0x25609513, 0x67446698
OPT_GO, OPT_EXPORT_NAME, REP_ACK, REP_INFO, REP_UNSUPPORTED = 7, 1, 1, 3, 0x80000001
READ, WRITE, DISCONNECT, FLUSH = 0, 1, 2, 3
FLAGS = 1 | 4 | 8  # it has flags; flush; FUA


class Fake:
    """A server in threads of ours, of plain NBD. While `holding`, it takes writes and does not carry them out, until
    let_go(); what becomes of the connection meanwhile does not matter to it."""

    def __init__(self, ws, name="fake", size=256 << 20):
        self.size = size
        self.image, self.socket = ws.join(f"{name}.img"), ws.join(f"{name}.sock")
        self.uri = f"nbd+unix:///?socket={self.socket}"
        self.holding = False
        self.held, self.ends = [], []
        self.lock = threading.Lock()
        with open(self.image, "wb") as file:
            file.truncate(size)
        self.fd = os.open(self.image, os.O_RDWR)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.socket)
        self.listener.listen()
        self.thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.listener.close()
        for end in self.ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        os.unlink(self.socket)

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                end, _ = self.listener.accept()
                self.ends.append(end)
                threading.Thread(target=self._serve, args=(end,), daemon=True).start()

    @staticmethod
    def _take(end, length):
        got = b""
        while len(got) < length:
            more = end.recv(length - len(got))
            if not more:
                raise EOFError
            got += more
        return got

    def _greet(self, end):
        end.sendall(struct.pack(">QQH", MAGIC, OPTION, 1))
        self._take(end, 4)
        while True:
            _, option, length = struct.unpack(">QII", self._take(end, 16))
            self._take(end, length)
            if option == OPT_EXPORT_NAME:
                end.sendall(struct.pack(">QH", self.size, FLAGS) + bytes(124))
                return
            if option == OPT_GO:
                info = struct.pack(">HQH", 0, self.size, FLAGS)
                end.sendall(struct.pack(">QIII", REPLY, option, REP_INFO, len(info)) + info)
                end.sendall(struct.pack(">QIII", REPLY, option, REP_ACK, 0))
                return
            end.sendall(struct.pack(">QIII", REPLY, option, REP_UNSUPPORTED, 0))

    def _serve(self, end):
        with contextlib.suppress(OSError, EOFError):
            self._greet(end)
            while True:
                _, _, kind, cookie, offset, length = struct.unpack(">IHHQQI", self._take(end, 28))
                data = self._take(end, length) if kind == WRITE else b""
                if kind == DISCONNECT:
                    break
                with self.lock:
                    if kind == WRITE and self.holding:
                        self.held.append((end, cookie, offset, data))
                        continue
                    self._answer(end, cookie, kind, offset, data, length)
        # Whoever holds a request has not ended with its connection.
        wait_for("what is held of a connection", lambda: not any(held[0] is end for held in self.held), 600)
        end.close()

    def _answer(self, end, cookie, kind, offset, data, length):
        if kind == WRITE:
            os.pwrite(self.fd, data, offset)
        read = os.pread(self.fd, length, offset) if kind == READ else b""
        end.sendall(struct.pack(">IIQ", ANSWER, 0, cookie) + read)

    def hold(self):
        with self.lock:
            self.holding = True

    def talk_nonsense(self):
        """To all who are connected: no client can go on after that."""
        with self.lock:
            for end in self.ends:
                with contextlib.suppress(OSError):
                    end.sendall(b"this is no answer at all")

    def let_go(self):
        """Carries out what was held, and says so to whoever still listens."""
        with self.lock:
            self.holding = False
            for end, cookie, offset, data in self.held:
                os.pwrite(self.fd, data, offset)
                with contextlib.suppress(OSError):
                    end.sendall(struct.pack(">IIQ", ANSWER, 0, cookie))
            self.held.clear()
