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
        said = re.sub(r"^usage:.*", "", said)
        words = set(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", said))
        words |= set(re.findall(r"^  ([a-z-]+)(?==| )", said, re.MULTILINE))
        missing = sorted(word for word in words if word not in page)
        assert not missing, f"{tool}: not in its manual page: {missing}"
        assert re.fullmatch(rf"{re.escape(tool)} \d+\.\d+\.\d+\n", ws.run(tool, "-V").stdout)


def run_as_written(ws, lines):
    os.mkdir(ws.join("precious"))
    with open(ws.join("precious", "file"), "w", encoding="utf-8") as file:
        file.write("precious\n")
    for line in lines:
        ws.run("sh", "-c", line, cwd=ws.path, env={**os.environ, "PATH": f"{ws.tools}:{os.environ['PATH']}"})


@case(QUICK)
def the_example_of_the_manual_works_as_written(ws):
    with open(f"{ROOT}/man/mirrorfs.8", encoding="utf-8") as file:
        block = re.search(r"^\.Bd -literal[^\n]*\n(\$ .*?)^\.Ed", file.read(), re.DOTALL | re.MULTILINE)[1]
    commands = [line[2:] for line in block.splitlines() if line.startswith("$ ")]
    assert len(commands) == 5, commands
    run_as_written(ws, commands)


@case(QUICK)
def the_example_of_the_readme_works_as_written(ws):
    with open(f"{ROOT}/README", encoding="utf-8") as file:
        block = re.search(r"^Use\n---\n\n(.*?)\n\n", file.read(), re.DOTALL | re.MULTILINE)[1]
    commands = [re.split(r"  +", line.strip())[0] for line in block.splitlines()]
    assert len(commands) == 8, commands
    run_as_written(ws, [command.replace("whatever", "precious") for command in commands])
