# SPDX-License-Identifier: GPL-2.0-or-later
"""What mirrorctl stats tells: each operation once, with how long it took, for people, as JSON and for Prometheus."""
import json
import mmap
import os
import re
import socket
import subprocess

import trees
from cases import FULL, QUICK, case
from workspace import BLOCK, MIB, wait_for

SCHEMA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "man", "mirrorctl.schema.json")


def stats(volume):
    return json.loads(volume.ws.run("mirrorctl", "--json", "stats", volume.mnt).stdout)["result"]


def write_direct(path, blocks):
    """So many requests of a block each, none of which the kernel keeps or joins."""
    with mmap.mmap(-1, BLOCK) as page:
        page.write(b"\x5a" * BLOCK)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_DIRECT)
        for block in range(blocks):
            assert os.pwrite(fd, page, block * BLOCK) == BLOCK
        os.close(fd)


@case(QUICK)
def each_operation_is_counted_once_with_its_time_and_its_errors(ws):
    volume = ws.volume(size="64M")
    volume.mount()
    before = stats(volume)["operations"]
    assert "write" not in before, before
    write_direct(volume.path("file"), 37)
    for number in range(5):
        os.mkdir(volume.path(f"folder{number}"))
    asked = stats(volume)["operations"]["getxattr"]["count"]  # the kernel asks, too, whether a file has capabilities
    for _ in range(3):
        try:
            os.getxattr(volume.path("file"), "user.none")
        except OSError:
            pass
    # A request is counted when its answer has been given.
    wait_for("the last request to be counted", lambda: stats(volume)["operations"]["getxattr"]["count"] == asked + 3)
    told = stats(volume)["operations"]
    assert (told["write"]["count"], told["write"]["bytes"]) == (37, 37 * BLOCK), told["write"]
    assert told["mkdir"]["count"] == 5 and not any(told["mkdir"]["errors"].values()), told["mkdir"]
    assert told["getxattr"]["errors"] == {"caller": asked + 3, "space": 0, "read-only": 0, "io": 0}, told["getxattr"]
    for name, times in told.items():
        assert sum(count for _, count in times["buckets"]) == times["count"], name
        assert 0 < times["p50_ns"] <= times["p99_ns"] <= times["p999_ns"], name
        # No bucket lies about its times by more than a quarter, the first one aside.
        most = sum(count * (below or 0) for below, count in times["buckets"])
        assert times["sum_ns"] <= most and most <= 1.25 * times["sum_ns"] + 1024 * times["count"], (name, times)
    try:
        trees.write(volume.path("large"), trees.pattern(80 * MIB))
    except OSError:
        pass
    assert stats(volume)["operations"]["write"]["errors"]["space"] > 0
    text = ws.run("mirrorctl", "stats", volume.mnt).stdout
    assert re.search(r"^  mkdir +5 ", text, re.M) and "errors (space)" in text, text
    volume.umount()


@case(FULL)
def the_time_of_a_leg_is_its_own_and_so_are_those_of_commits_and_checkpoints(ws):
    volume = ws.volume(size="64M")
    volume.mount()
    ws.run("mirrorctl", "drill", volume.mnt, "1", "write,delay=30", "60")
    write_direct(volume.path("file"), 10)
    fd = os.open(volume.path("file"), os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    ws.run("mirrorctl", "drill", volume.mnt, "1", "off")
    told = stats(volume)
    times = [leg["times"]["write"] for leg in told["legs"]]
    assert all(one["count"] >= 11 for one in times), times
    assert sum(count for below, count in times[1]["buckets"] if below is None or below > 30e6) >= 11, times[1]
    assert told["operations"]["write"]["sum_ns"] >= 10 * 30e6, told["operations"]["write"]
    assert told["meta"]["times"]["commit"]["count"] == told["meta"]["records"] > 0, told["meta"]
    assert told["meta"]["times"]["commit"]["p50_ns"] > 30e6, told["meta"]
    assert told["meta"]["times"]["checkpoint"]["count"] == told["meta"]["checkpoints"], told["meta"]
    volume.umount()


def scrape(path, request="GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"):
    """As a proxy would, in two pieces."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        client.sendall(request[:20].encode())
        client.sendall(request[20:].encode())
        answer = b""
        while piece := client.recv(65536):
            answer += piece
    head, _, body = answer.decode().partition("\r\n\r\n")
    return head.splitlines(), body


def samples(text):
    return dict(re.match(r"(.*) (\S+)$", line).groups() for line in text.splitlines() if not line.startswith("#"))


def check_metrics(text):
    done = subprocess.run(["promtool", "check", "metrics"], input=text, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@case(QUICK, needs=("promtool",))
def prometheus_takes_what_is_told_of_several_mounts_and_over_the_socket(ws):
    volume, other = ws.volume(size="64M"), ws.volume('we"ird\\', size="64M")
    volume.mount()
    other.mount()
    write_direct(volume.path("file"), 23)
    wait_for("the last request to be counted", lambda: stats(volume)["operations"]["write"]["count"] == 23)
    ws.run("mirrorctl", "detach", other.mnt, "1")
    # Other mounts of this machine may come and go: what is told of them is not looked at.
    text = ws.run("mirrorctl", "stats", "--prometheus", ok=False).stdout
    check_metrics(text)
    told, mine = samples(text), f'mountpoint="{volume.mnt}"'
    escaped = other.mnt.replace("\\", "\\\\").replace('"', '\\"')
    assert told[f'mirrorfs_operation_seconds_count{{{mine},operation="write"}}'] == "23"
    assert told[f'mirrorfs_operation_seconds_bucket{{{mine},operation="write",le="+Inf"}}'] == "23"
    assert told[f'mirrorfs_operation_bytes_total{{{mine},operation="write"}}'] == str(23 * BLOCK)
    assert told[f'mirrorfs_health{{{mine},state="healthy"}}'] == "1"
    assert told[f'mirrorfs_health{{mountpoint="{escaped}",state="degraded"}}'] == "1"
    assert told[f'mirrorfs_leg_state{{mountpoint="{escaped}",leg="1",state="absent"}}'] == "1"
    path = f"/run/mirrorfs/{stats(volume)['volume']['uuid']}.sock"
    head, body = scrape(path)
    assert head[0] == "HTTP/1.0 200 OK" and f"Content-Length: {len(body.encode())}" in head, head
    check_metrics(body)
    assert samples(body).keys() <= told.keys() and len(samples(body)) > 300
    assert scrape(path, "GET /other HTTP/1.1\r\nHost: localhost\r\n\r\n")[0][0] == "HTTP/1.0 404 Not Found"
    other.umount()
    volume.umount()


def closed(schema):
    """The same, but what it does not name is refused."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {key: closed(value) for key, value in schema.items()}
    if "properties" in schema:
        strict.setdefault("additionalProperties", False)
    return strict


@case(FULL, needs=("jsonschema",))
def each_answer_is_as_its_schema_says(ws):
    import jsonschema  # pylint: disable=import-outside-toplevel,import-error
    with open(SCHEMA, encoding="utf-8") as file:
        schema = json.load(file)
    jsonschema.Draft202012Validator.check_schema(schema)
    strict = closed(schema)

    def check(verb, *words, ok=True, as_result=True):
        lines = ws.run("mirrorctl", "--json", *words, ok=ok).stdout.splitlines()
        assert lines, words
        for line in lines:
            answer = json.loads(line)
            jsonschema.validate(answer, schema)
            told = answer["result"] if as_result else answer
            jsonschema.validate(told, {**strict, "oneOf": [{"$ref": f"#/$defs/{verb}"}]})

    volume = ws.volume(size="64M")
    volume.mount("read-policy=leg0")
    trees.write(volume.path("file"), trees.pattern(4 * MIB))
    check("drop-caches", "drop-caches", volume.mnt)
    check("scrub", "scrub", volume.mnt)
    ws.run("mirrorctl", "drill", volume.mnt, "1", "read,delay=1", "60")
    check("status", "status", volume.mnt)
    check("stats", "stats", volume.mnt)
    ws.run("mirrorctl", "drill", volume.mnt, "1", "off")
    check("detach", "detach", volume.mnt, "1")
    trees.write(volume.path("other"), trees.pattern(MIB))
    check("files", "status", "--files", volume.mnt, ok=False)
    check("attach", "attach", volume.mnt, volume.legs[1])
    ws.run("mirrorctl", "resync", volume.mnt)
    check("resync", "resync", volume.mnt, "limit=0")
    for leg in volume.legs:
        ws.run("truncate", "-s", "96M", leg)
    check("grow", "grow", volume.mnt)
    check("event", "events", volume.mnt, as_result=False)
    refused = json.loads(ws.run("mirrorctl", "--json", "detach", volume.mnt, "7", ok=False).stdout)
    jsonschema.validate(refused, schema)
    assert refused["error"]["errno"], refused
    volume.umount()
