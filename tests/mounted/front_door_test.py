# SPDX-License-Identifier: GPL-2.0-or-later
"""What a stranger meets first: quickstart, the help of the tools and their manual pages."""
import os
import re

from cases import FULL, QUICK, case

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


@case(FULL, timeout=400)
def quickstart_comes_to_its_end_and_leaves_nothing(ws):
    before = set(os.listdir("/tmp"))
    done = ws.run(os.path.join(ROOT, "tools", "quickstart"))
    assert done.stdout.count("Every byte, mode, owner and time is as it was.") == 2
    assert not [name for name in set(os.listdir("/tmp")) - before if name.startswith("mirrorfs-quickstart")]


@case(QUICK, needs=["mandoc"])
def the_manual_has_every_option_of_the_help(ws):
    for tool in ("mkfs.mirrorfs", "mirrorfs", "mirrorctl"):
        said = ws.run(tool, "-h").stdout
        page = re.sub(".\b", "", ws.run("mandoc", "-T", "ascii", f"{ROOT}/man/{tool}.8").stdout)
        words = set(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", said))
        words |= set(re.findall(r"^  ([a-z-]+)(?==| )", said, re.MULTILINE))
        missing = sorted(word for word in words if word not in page)
        assert not missing, f"{tool}: not in its manual page: {missing}"
        assert re.fullmatch(rf"{re.escape(tool)} \d+\.\d+\.\d+\n", ws.run(tool, "-V").stdout)
