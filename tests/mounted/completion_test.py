# SPDX-License-Identifier: GPL-2.0-or-later
"""bash completes what there is, and all that there is."""
import os
import re

from cases import FULL, case

SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tools/system/completion.bash")
FUNCTIONS = {"mirrorfs": "_mirrorfs", "mkfs.mirrorfs": "_mirrorfs_mkfs", "fsck.mirrorfs": "_mirrorfs_fsck",
             "mirrorctl": "_mirrorfs_ctl"}
# What readline does: a word ends at white space, "=" or ":", which are words of their own.
READLINE = """
. "$1"
COMP_LINE=$2 COMP_POINT=${#2} COMP_WORDS=()
while IFS= read -r word; do COMP_WORDS+=("$word"); done < <(sed -E 's/[=:]/ & /g; s/ +/\\n/g' <<<"$2")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
"$3"
printf '%s\\n' "${COMPREPLY[@]}"
"""


def completed(ws, line):
    done = ws.run("bash", "-c", READLINE, "bash", SCRIPT, line, FUNCTIONS[line.split()[0]])
    return {word.rstrip() for word in done.stdout.splitlines() if word}


def told(ws, command):
    return ws.run(command, "-h").stdout


@case(FULL)
def every_option_is_completed_and_every_completion_is_an_option(ws):
    for command in FUNCTIONS:
        text = re.sub(r"usage: \S+ \[-\w+\]", "", told(ws, command))
        options = set(re.findall(r"(?<![\w.-])--?[A-Za-z][\w-]*", text))
        assert completed(ws, f"{command} -") == options, command


@case(FULL)
def every_word_and_value_of_a_mount_is_completed(ws):
    text = told(ws, "mirrorfs").partition("\nOptions:\n")[2]
    lines = re.findall(r"^  ([a-z-]+)(=(\S+))?  ", text, re.MULTILINE)
    words = {name + ("=" if value else "") for name, value, _ in lines}
    for line in re.findall(r"^  (.*): as in mount", text, re.MULTILINE):
        words |= set(line.split(", "))
    assert completed(ws, "mirrorfs -o ") == words
    assert completed(ws, "mirrorfs -o ro,") == {"ro," + word for word in words}
    assert completed(ws, "mirrorfs a -o cache=1G,wr") == {"1G,write-mostly="}  # readline has kept "cache="
    for name, _, values in lines:
        if values.islower() or values[:1].isdigit():
            assert completed(ws, f"mirrorfs -o ro,{name}=") == set(values.split("|")), name


@case(FULL)
def every_verb_is_completed_with_what_follows(ws):
    verbs = set(re.findall(r"^  ([a-z-]+) ", told(ws, "mirrorctl"), re.MULTILINE))
    assert completed(ws, "mirrorctl ") == verbs
    assert completed(ws, "mirrorctl --json st") == {"status", "stats"}
    volume = ws.volume(size="64M")
    volume.mount()
    for verb in verbs:
        assert volume.mnt in completed(ws, f"mirrorctl {verb} "), verb
    volume.umount()
    assert volume.mnt not in completed(ws, "mirrorctl status ")
    assert completed(ws, "mirrorctl scrub /mnt ") == {"start", "stop", "limit="}
    assert completed(ws, "mirrorctl replace /mnt ") == {"0", "1"}
    assert completed(ws, f"mirrorctl attach /mnt {volume.images[0][:-1]}") == set(volume.images)
    assert completed(ws, f"fsck.mirrorfs {volume.images[0][:-1]}") == set(volume.images)
