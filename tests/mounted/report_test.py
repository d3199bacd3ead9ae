# SPDX-License-Identifier: GPL-2.0-or-later
"""mirrorctl report: a page of itself alone, which a browser shows whole."""
import re
import time

import trees
from cases import FULL, case
from mirrorctl_test import written
from workspace import MIB


def shown(ws, page):
    """What the browser has made of it."""
    return ws.run("chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                  f"--user-data-dir={ws.join('browser')}", "--virtual-time-budget=2000", "--dump-dom", f"file://{page}",
                  timeout=100).stdout


@case(FULL)
def a_report_needs_nothing_from_elsewhere_and_no_name_ends_its_data(ws):
    volume, page = ws.volume(size="64M"), ws.join("report.html")
    volume.mount()
    ws.run("mirrorctl", "set", volume.mnt, "label=</script><b>x")
    ws.run("mirrorctl", "report", volume.mnt, page)
    text = trees.read(page).decode()
    assert not re.search(r"https?://|src=|@import|url\(", text), "it asks for something"
    assert text.count("</script>") == 2 and "\\u003c/script>\\u003cb>x" in text
    refused = ws.run("mirrorctl", "report", volume.mnt, ws.join("nowhere", "report.html"), ok=False)
    assert refused.returncode == 1 and "nowhere/report.html: No such file" in refused.stderr, refused
    volume.umount()


@case(FULL, needs=("chromium",), timeout=180)
def a_browser_shows_the_whole_report(ws):
    volume, page = ws.volume(size="64M"), ws.join("report.html")
    volume.mount("commit=1")
    until = time.monotonic() + 3
    while time.monotonic() < until:
        trees.write(volume.path("file"), trees.pattern(4 * MIB))
        written(volume)
    volume.scrub()
    ws.run("mirrorctl", "detach", volume.mnt, "1")
    ws.run("mirrorctl", "report", volume.mnt, page)
    volume.umount()
    dom = shown(ws, page)
    assert f'<span id="where">{volume.mnt}</span>' in dom
    assert '<span id="health" class="badge degraded">degraded</span>' in dom
    svgs = dict(re.findall(r'<svg id="(\w+)"[^>]*>(.*?)</svg>', dom, re.DOTALL))
    assert svgs["map"].count("<rect") == 1024, svgs["map"][:500]
    assert len(set(re.findall(r"fill-opacity:[\d.]+", svgs["map"]))) > 1, "all of the space looks the same"
    for chart, least in (("latency", 4), ("activity", 4)):
        assert svgs[chart].count("<circle") >= least and "NaN" not in svgs[chart], svgs[chart]
    assert svgs["spread"].count("<rect") >= 3 and "NaN" not in svgs["spread"], svgs["spread"]
    tables = dict(re.findall(r'<table id="(\w+)">(.*?)</table>', dom, re.DOTALL))
    assert tables["legs"].count("<tr>") == 3 and "in-sync" in tables["legs"] and "absent" in tables["legs"]
    assert "scrub ended" in tables["scrubs"] and "leg 1 is offline" in tables["events"], tables
