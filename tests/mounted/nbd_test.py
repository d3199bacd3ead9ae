# SPDX-License-Identifier: GPL-2.0-or-later
"""Legs that are served elsewhere: NBD exports of the servers that Debian has, and of one that is not good."""
import mmap
import os
import shutil
import threading
import time

import nbd
import trees
from cases import FULL, LONG, QUICK, case
from faults_test import Programs, legs_told
from resync_test import clean, healthy
from workspace import MIB, Volume, wait_for

DEGRADED = 3  # exit status of mirrorctl


def volume_on(ws, server, name="v", **more):
    """Leg 0 is an image, leg 1 the server's."""
    volume = Volume(ws, name, make=False, **more)
    ws.run("truncate", "-s", "256M", volume.legs[0])
    volume.legs[1] = server.uri
    volume.make()
    return volume


def durable(path, data):
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def maps(pid):
    with open(f"/proc/{pid}/maps", encoding="utf-8") as file:
        return file.read()


def fio(volume, *words):
    volume.ws.run("fio", "--name=verified", f"--directory={volume.mnt}", "--size=8M", "--rw=randrw", "--bs=16k",
                  "--direct=1", "--ioengine=psync", "--verify=crc32c", "--verify_fatal=1", "--verify_backlog=64",
                  "--verify_state_save=0", "--minimal", *words)


def whole(volume):
    """Nothing is wrong on either leg, nor was anything refused that the daemon needs."""
    clean(volume)
    volume.counted_nothing_forbidden()
    volume.umount()
    volume.ws.run("fsck.mirrorfs", "-n", "-f", "--data", *volume.legs)


@case(FULL, needs=["nbdkit"])
def libnbd_is_mapped_by_who_has_such_a_leg_and_by_nobody_else(ws):
    plain = ws.volume("plain", size="64M")
    plain.mount()
    assert "leg-nbd" not in maps(plain.pid) and "libnbd" not in maps(plain.pid)
    with nbd.Nbdkit(ws) as server:
        volume = volume_on(ws, server)
        volume.mount()
        assert "leg-nbd" in maps(volume.pid) and "libnbd" in maps(volume.pid)
        told, _ = volume.status()
        assert told["legs"][1]["address"] == server.uri and told["legs"][1]["engine"] == "nbd", told["legs"][1]
        volume.umount()
    plain.umount()


@case(QUICK)
def what_cannot_be_reached_is_named_with_the_way_out(ws):
    ws.run("truncate", "-s", "64M", ws.join("leg0"))

    def refused(*words, tool="mkfs.mirrorfs"):
        done = ws.run(tool, ws.join("leg0"), *words, ok=False)
        assert done.returncode == 1, done
        return done.stderr

    said = refused("iscsi://host/target")
    assert "iscsi://" in said and "nbd://HOST/EXPORT" in said, said
    said = refused(f"nbd+unix:///?socket={ws.join('nobody')}")
    assert ws.join("nobody") in said and "No such file" in said, said
    # Elsewhere than where all was built it is what was installed.
    shutil.copy(os.path.join(ws.tools, "mkfs.mirrorfs"), ws.join("mkfs.mirrorfs"))
    if not os.path.exists("/usr/local/lib/x86_64-linux-gnu/mirrorfs/leg-nbd.so"):
        said = refused("nbd://localhost/leg", tool=ws.join("mkfs.mirrorfs"))
        assert "/mirrorfs/leg-nbd.so" in said and "install the package mirrorfs-nbd" in said, said


@case(FULL, needs=["root", "nbdkit", "nbd-server"])
def exports_that_cannot_be_legs_are_refused_with_the_way_out(ws):
    ws.run("truncate", "-s", "256M", ws.join("leg0"))

    def refused(server):
        with server:
            done = ws.run("mkfs.mirrorfs", ws.join("leg0"), server.uri, ok=False)
        assert done.returncode == 1 and server.uri in done.stderr, done
        return done.stderr

    said = refused(nbd.Nbdkit(ws, "coarse", filters=["blocksize-policy"],
                              words=["blocksize-minimum=8192", "blocksize-preferred=8192"]))
    assert "larger than 4096" in said, said
    assert "reading only" in refused(nbd.Nbdkit(ws, "reading", options=["-r"]))
    assert "flush = true" in refused(nbd.NbdServer(ws, "careless", durable=False))
    assert "too small" in refused(nbd.Nbdkit(ws, "small", size="1M"))
    with nbd.Nbdkit(ws, "foreign") as server:
        ws.run("mkfs.ext4", "-q", "-F", "-L", "precious", server.image)
        done = ws.run("mkfs.mirrorfs", ws.join("leg0"), server.uri, ok=False)
        assert done.returncode == 1 and "holds ext4, label precious" in done.stderr, done
        ws.run("mkfs.mirrorfs", "-f", ws.join("leg0"), server.uri)
        assert ws.run("blkid", "-p", server.image, ok=False).stdout.find("ext4") < 0


@case(LONG, needs=["root", "nbdkit", "qemu-nbd", "nbd-server", "fio"])
def exports_of_each_server_are_legs(ws):
    servers = [nbd.Nbdkit(ws), nbd.QemuNbd(ws), nbd.QemuNbd(ws, "shared", options=["--shared=2"]), nbd.NbdServer(ws),
               nbd.Nbdkit(ws, "rough", filters=["truncate"], words=["truncate=257000001"])]
    for server in servers:
        with server:
            volume = volume_on(ws, server, server.name)
            volume.mount("discard")
            trees.write(volume.path("file"), trees.pattern(4 * MIB))
            fio(volume, "--size=2M")
            os.unlink(volume.path("file"))
            expected = trees.manifest(volume.mnt)
            volume.umount()
            # The label tells where the other one is.
            volume.mount(legs=volume.legs[:1])
            assert volume.status()[0]["legs"][1]["address"] == server.uri
            trees.compare(expected, trees.manifest(volume.mnt))
            whole(volume)
            volume.mount("degraded", "ro", legs=volume.legs[1:])
            trees.compare(expected, trees.manifest(volume.mnt))
            volume.umount()


@case(FULL, needs=["nbdkit"])
def whoever_may_attach_a_leg_elsewhere_said_so_at_the_mount(ws):
    with nbd.Nbdkit(ws) as server:
        volume = ws.volume(legs=1)
        volume.mount()
        attach = ("mirrorctl", "attach", volume.mnt, server.uri)
        done = ws.run(*attach, ok=False)
        assert done.returncode == 1 and "-o network" in done.stderr, done
        volume.remount("network")
        trees.write(volume.path("file"), trees.pattern(MIB))
        ws.run(*attach)
        healthy(volume)
        done = ws.run("mirrorctl", "detach", volume.mnt, server.uri)
        trees.write(volume.path("more"), trees.pattern(MIB))
        ws.run(*attach)
        healthy(volume)
        volume.legs.append(server.uri)
        whole(volume)


@case(LONG, needs=["nbdkit"])
def nobody_else_of_this_machine_mounts_an_export_that_is_mounted(ws):
    with nbd.Nbdkit(ws) as server:
        volume = volume_on(ws, server)
        volume.mount()
        done = ws.run("fsck.mirrorfs", "-n", server.uri, ok=False)
        assert done.returncode == 8 and f"already mounted at {volume.mnt}" in done.stderr, done
        volume.umount()


@case(FULL, needs=["nbdkit"])
def an_idle_leg_does_not_notice_that_its_server_was_another_meanwhile(ws):
    with nbd.Nbdkit(ws) as server:
        volume = volume_on(ws, server)
        volume.mount("heartbeat=60")  # nobody writes a label meanwhile
        durable(volume.path("file"), trees.pattern(MIB))
        clean(volume)  # which begins with a checkpoint: nothing is left to be flushed
        server.kill()
        server.start()
        trees.write(volume.path("new"), trees.pattern(MIB))
        assert volume.status()[1] == 0, "it was noticed"
        whole(volume)


def direct(path, data):
    """On the legs when it returns, and flushed on none."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_DIRECT)
    with open(fd, "wb", buffering=0) as file, mmap.mmap(-1, len(data)) as aligned:
        aligned.write(data)
        os.pwritev(file.fileno(), [aligned], 0)


@case(LONG, needs=["nbdkit"])
def a_leg_whose_server_may_have_forgotten_something_is_out(ws):
    with nbd.Nbdkit(ws) as server:
        volume = volume_on(ws, server)
        volume.mount("commit=600")
        direct(volume.path("file"), trees.pattern(MIB))
        assert volume.status()[1] == 0
        server.kill()
        server.start()
        direct(volume.path("more"), trees.pattern(MIB))
        wait_for("the leg to be out", lambda: leg1(volume)["state"] == "offline")
        assert "not flushed yet" in leg1(volume)["why"], leg1(volume)
        attach(volume)
        healthy(volume)
        whole(volume)


# ---- what becomes of requests whose connection is lost ----

def writing(volume, number):
    """A thread that does so with a file."""
    thread = threading.Thread(target=durable, args=(volume.path(f"file {number}"), trees.pattern(MIB, number)))
    thread.start()
    return thread


def leg1(volume):
    return volume.status()[0]["legs"][1]


def attach(volume, ok=True):
    done = volume.ws.run("mirrorctl", "attach", volume.mnt, volume.legs[1], ok=False)
    assert not ok or done.returncode == 0, done
    return done


@case(FULL)
def a_leg_stays_out_as_long_as_its_server_may_still_come_to_a_write(ws):
    with nbd.Fake(ws) as server:
        volume = volume_on(ws, server)
        volume.mount("leg-timeout=1")
        durable(volume.path("file"), trees.pattern(MIB))
        server.hold()
        writer = writing(volume, 1)
        wait_for("the leg to be given up", lambda: leg1(volume)["state"] == "offline")
        writer.join()
        assert trees.read(volume.path("file 1")) == trees.pattern(MIB, 1)
        assert server.held and leg1(volume)["abandoned"] > 0
        done = attach(volume, ok=False)
        assert done.returncode == 1 and "not given back" in done.stderr and "--force" in done.stderr, done
        # They are carried out late, and answered.
        server.let_go()
        wait_for("what was given up to be given back", lambda: leg1(volume)["abandoned"] == 0)
        attach(volume)
        healthy(volume)
        whole(volume)


@case(LONG)
def a_leg_stays_out_although_its_connection_is_gone_until_its_server_has_ended_it(ws):
    with nbd.Fake(ws) as server:
        volume = volume_on(ws, server)
        volume.mount("leg-timeout=5")
        durable(volume.path("file"), trees.pattern(MIB))
        server.hold()
        writer = writing(volume, 1)
        wait_for("writes to be held", lambda: server.held)
        server.talk_nonsense()
        wait_for("the leg to be lost", lambda: leg1(volume)["state"] == "offline")
        writer.join()
        assert "writes under way" in leg1(volume)["why"], leg1(volume)
        for number in range(2, 12):
            trees.write(volume.path(f"file {number}"), trees.pattern(MIB, number))
        done = attach(volume, ok=False)
        assert done.returncode == 1 and "not given back" in done.stderr, done
        server.let_go()
        wait_for("what was lost to be given back", lambda: leg1(volume)["abandoned"] == 0)
        attach(volume)
        healthy(volume)
        whole(volume)


@case(LONG)
def who_has_stopped_the_server_may_say_so(ws):
    with nbd.Fake(ws) as server:
        volume = volume_on(ws, server)
        volume.mount("leg-timeout=1")
        server.hold()
        writer = writing(volume, 1)
        wait_for("the leg to be given up", lambda: leg1(volume)["state"] == "offline")
        writer.join()
        assert attach(volume, ok=False).returncode == 1
        with server.lock:
            server.held.clear()
            server.holding = False
        ws.run("mirrorctl", "detach", "--force", volume.mnt, "1")
        attach(volume)
        healthy(volume)
        whole(volume)


@case(LONG, needs=["nbdkit", "fio"], timeout=200)
def a_server_may_be_killed_and_come_back(ws):
    with nbd.Nbdkit(ws) as server:
        volume = volume_on(ws, server)
        volume.mount()
        trees.write(volume.path("old"), trees.pattern(50 * MIB))
        with Programs(volume) as programs:
            server.kill()
            programs.more()
            assert legs_told(volume) == ["in-sync", "offline"]
            server.start()
            wait_for("it to be attached", lambda: attach(volume, ok=False).returncode == 0)
            told = healthy(volume)
            programs.more()
        assert told["mirror"]["deadline_missed"] == 0, told["mirror"]
        whole(volume)


@case(FULL, needs=["nbdkit"])
def a_leg_that_comes_back_gets_what_it_lacks_and_no_more(ws):
    with nbd.Nbdkit(ws) as server:
        volume = volume_on(ws, server)
        volume.mount()
        trees.write(volume.path("old"), trees.pattern(30 * MIB))
        volume.umount()
        server.end()
        volume.mount("degraded", "wait=0")
        assert legs_told(volume) == ["in-sync", "absent"]
        durable(volume.path("new"), trees.pattern(MIB))
        server.start()
        attach(volume)
        told = healthy(volume)
        written = told["legs"][1]["io"]["write"]["bytes"]
        assert MIB <= written < 3 * MIB, f"{written} bytes were written to fill 1 MiB of 31"
        whole(volume)


@case(LONG, needs=["nbdkit", "fio"], timeout=200)
def what_a_server_gets_wrong_is_put_right(ws):
    trouble = [(["error"], ["error-pread-rate=5%"]), (["delay"], ["rdelay=5ms", "wdelay=5ms"]),
               (["rate"], ["rate=100M"])]
    for filters, words in trouble:
        with nbd.Nbdkit(ws, filters[0]) as server:
            volume = volume_on(ws, server, filters[0])
            server.end()
            server.filters, server.words = filters, words
            server.start()
            volume.mount()
            fio(volume, "--size=4M")
            told, _ = volume.status()
            assert told["mirror"]["deadline_missed"] == 0 and told["mirror"]["unrecoverable"] == 0, told["mirror"]
            volume.umount()
            server.end()
            server.filters, server.words = (), ()
            server.start()
            volume.mount()
            whole(volume)


# ---- a network that fails ----

@case(LONG, needs=["root", "nbdkit", "fio", "ip", "nft"], timeout=300)
def a_network_that_loses_packets_only_takes_longer(ws):
    with nbd.Afar(ws) as server:
        volume = volume_on(ws, server)
        volume.mount()
        server.loses(3)
        fio(volume, "--size=2M")
        told, _ = volume.status()
        assert told["mirror"]["deadline_missed"] == 0, told["mirror"]
        assert [leg["state"] for leg in told["legs"]] == ["in-sync"] * 2, told["legs"]
        server.loses(0)
        whole(volume)


@case(LONG, needs=["root", "nbdkit", "fio", "ip", "nft"], timeout=400)
def a_network_may_be_cut_for_a_minute(ws):
    with nbd.Afar(ws) as server:
        volume = volume_on(ws, server)
        volume.mount("leg-timeout=2")
        durable(volume.path("old"), trees.pattern(30 * MIB))
        clean(volume)
        with Programs(volume) as programs:
            began = time.monotonic()
            server.loses(100)
            wait_for("the leg to be out", lambda: leg1(volume)["state"] == "offline")
            programs.more()
            if leg1(volume)["abandoned"]:
                assert "not given back" in attach(volume, ok=False).stderr
            wait_for("a minute to pass", lambda: time.monotonic() > began + 60, 100)
            server.loses(0)
            # The requests that were on the way arrive at last, and are answered.
            wait_for("it to be attached", lambda: attach(volume, ok=False).returncode == 0, 200)
            told = healthy(volume)
            programs.more()
        assert told["mirror"]["deadline_missed"] == 0, told["mirror"]
        written = told["legs"][1]["io"]["write"]["bytes"]
        assert written < 200 * MIB, f"{written} bytes were written to fill what was missed"
        whole(volume)


# ---- TLS ----

def keys(ws):
    """A folder with what certtool(1) makes of a line of text each: an authority, and a server named localhost."""
    folder = ws.folder("tls")

    def certtool(*words):
        ws.run("certtool", *words, cwd=folder)

    for name, more in (("ca", "ca\ncert_signing_key\n"),
                       ("server", "dns_name = localhost\ntls_www_server\nencryption_key\nsigning_key\n")):
        with open(os.path.join(folder, f"{name}.info"), "w", encoding="utf-8") as file:
            file.write(f"cn = {'localhost' if name == 'server' else 'test'}\n{more}")
        certtool("--generate-privkey", "--ecc", "--outfile", f"{name}-key.pem")
    certtool("--generate-self-signed", "--load-privkey", "ca-key.pem", "--template", "ca.info", "--outfile",
             "ca-cert.pem")
    certtool("--generate-certificate", "--load-ca-certificate", "ca-cert.pem", "--load-ca-privkey", "ca-key.pem",
             "--load-privkey", "server-key.pem", "--template", "server.info", "--outfile", "server-cert.pem")
    with open(os.path.join(folder, "keys.psk"), "w", encoding="utf-8") as file:
        file.write("alice:" + os.urandom(32).hex() + "\n")
    os.chmod(os.path.join(folder, "keys.psk"), 0o600)
    return folder


@case(LONG, needs=["nbdkit", "certtool"])
def an_export_is_reached_by_tls_with_certificates_or_a_shared_key(ws):
    folder = keys(ws)
    for name, options, parameters in (
            ("certificates", [f"--tls-certificates={folder}"], f"tls-certificates={folder}"),
            ("psk", [f"--tls-psk={folder}/keys.psk"], f"tls-psk-file={folder}/keys.psk")):
        with nbd.Nbdkit(ws, name, options=["--tls=require", *options]) as server:
            user = "alice@" if name == "psk" else ""
            done = ws.run("mkfs.mirrorfs", "-s", "256M", ws.join("refused"), server.uri, ok=False)
            assert done.returncode == 1 and server.uri in done.stderr, done
            # The name in the certificate is the host's in the URI; over a socket there is none, so it is not looked at.
            server.uri = f"nbds+unix://{user}/?socket={server.socket}&{parameters}"
            volume = volume_on(ws, server, name)
            volume.mount()
            durable(volume.path("file"), trees.pattern(4 * MIB))
            clean(volume)
            server.kill()
            server.start()
            trees.write(volume.path("more"), trees.pattern(MIB))
            assert volume.status()[1] == 0
            whole(volume)
