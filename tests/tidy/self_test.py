# SPDX-License-Identifier: GPL-2.0-or-later
"""Shows of each rule that it can go red: for each, files that keep it and the same with one fault put in."""
import os
import tempfile

import rules

SPDX = "/* SPDX-License-Identifier: GPL-2.0-or-later */\n"
BASH = "#!/bin/bash\n# SPDX-License-Identifier: GPL-2.0-or-later\n"
PAGE = """.\\" SPDX-License-Identifier: GPL-2.0-or-later
.Dd November 21, 2026
.Dt THING 8
.Os
.Sh NAME
.Nm thing
.Nd does a thing
.Sh EXIT STATUS
It is 0.
.Sh EXAMPLES
None.
"""

FORMAT = SPDX + """
struct format_thing { /* 6 bytes and more */
\tle32 magic; /* 0-3 */
\tuint8_t kind; /* 4: which */
\tuint8_t reserved; /* 5 */
\tle32 crc[]; /* 6-: of all */
};
"""
FORMAT_PAGE = """.Vt struct format_thing ,
6 bytes and more:
.Bl -column "a" "b"
.It 0 Ta 4 Ta magic Ta it is so
.It 4 Ta 1 Ta kind
.It 5 Ta 1 Ta reserved
.It 6 Ta Ta crc Ta of all
.El
"""

# rule: (files that are right, path to change, what it becomes)
CASES = [
    ("no_include_from_a_storey_above",
     {"src/leg/leg.c": SPDX + '#include "mirrorfs/base/log.h"\n'},
     "src/leg/leg.c", SPDX + '#include "mirrorfs/mirror.h"\n'),
    ("no_include_from_a_storey_above",
     {"src/cache/a.c": SPDX + '#include "mirrorfs/cache.h"\n'},
     "src/cache/a.c", SPDX + '#include "mirrorfs/leg.h"\n'),
    ("no_include_from_a_storey_above",
     {"src/fs/a.c": SPDX + '#include "fs_private.h"\n', "src/fs/fs_private.h": SPDX},
     "src/fs/a.c", SPDX + '#include "meta_private.h"\n'),
    ("foreign_headers_enter_by_their_door",
     {"src/front/a.c": SPDX + "#include <fuse_lowlevel.h>\n"},
     "src/fs/a.c", SPDX + "#include <fuse_lowlevel.h>\n"),
    ("foreign_headers_enter_by_their_door",
     {"src/base/crc32c.c": SPDX + "#include <isa-l/crc.h>\n"},
     "src/meta/a.c", SPDX + "#include <isa-l.h>\n"),
    ("the_world_is_reached_through_base",
     {"src/fs/a.c": SPDX + "/* not time() */\nint runtime(void);\nint a = runtime();\n"},
     "src/fs/a.c", SPDX + "int a = time(NULL);\n"),
    ("the_world_is_reached_through_base",
     {"src/ctl/a.c": SPDX + "int a = poll(0, 0, 0);\n"},
     "src/mirror/a.c", SPDX + "int a = poll(0, 0, 0);\n"),
    ("every_named_function_exists",
     {"src/fs/a.c": SPDX + "/* see leap() */\nint leap(void);\n"},
     "src/fs/a.c", SPDX + "/* see leap() */\nint jump(void);\n"),
    ("every_named_function_exists",
     {"README": "thing_do() does it\n", "src/fs/a.c": SPDX + "int thing_do(void);\n"},
     "README", "thing_did() does it\n"),
    ("every_named_file_exists",
     {"src/fs/a.c": SPDX + "/* src/fs/a.c, a.c, src/STOREY/a.c, drivers/md/md.c */\n"},
     "src/fs/a.c", SPDX + "/* src/fs/b.c */\n"),
    ("every_named_file_exists",
     {"man/thing.8": PAGE},
     "man/thing.8", PAGE + "See b.h.\n"),
    ("the_manual_tells_the_format",
     {"include/mirrorfs/format/thing.h": FORMAT, "man/mirrorfs.5": FORMAT_PAGE},
     "man/mirrorfs.5", FORMAT_PAGE.replace("5 Ta 1", "5 Ta 2")),
    ("the_manual_tells_the_format",
     {"include/mirrorfs/format/thing.h": FORMAT, "man/mirrorfs.5": FORMAT_PAGE},
     "man/mirrorfs.5", ""),
    ("the_manual_tells_the_format",
     {"include/mirrorfs/format/thing.h": FORMAT, "man/mirrorfs.5": FORMAT_PAGE},
     "include/mirrorfs/format/thing.h", FORMAT.replace("le32 magic", "le64 magic")),
    ("the_manual_tells_the_format",
     {"include/mirrorfs/format/thing.h": FORMAT, "man/mirrorfs.5": FORMAT_PAGE},
     "include/mirrorfs/format/thing.h", FORMAT.replace("6 bytes", "7 bytes")),
    ("every_source_names_its_licence", {"src/fs/a.c": SPDX}, "src/fs/a.c", "int a;\n"),
    ("lines_fit_120_columns", {"src/fs/a.c": SPDX + "\t" * 15 + "\n"}, "src/fs/a.c", SPDX + "\t" * 15 + "a\n"),
    ("lines_end_where_they_end", {"src/fs/a.c": SPDX}, "src/fs/a.c", SPDX + "int a; \n"),
    ("lines_end_where_they_end", {"src/fs/a.c": SPDX}, "src/fs/a.c", SPDX + "int a;"),
    ("nothing_is_left_over", {"src/fs/a.c": SPDX}, "src/fs/a.c.orig", SPDX),
    ("manual_pages_are_clean", {"man/thing.8": PAGE}, "man/thing.8", PAGE + ".Xx wrong\n"),
    ("manual_pages_tell_exits_and_examples",
     {"man/thing.8": PAGE},
     "man/thing.8", PAGE.replace("EXAMPLES", "EXAMPLE")),
    ("shell_scripts_are_clean", {"tools/a": BASH + 'echo "$1"\n'}, "tools/a", BASH + "cat $1 | echo\n"),
]


def complaints(rule, files):
    with tempfile.TemporaryDirectory() as root:
        for path, text in files.items():
            os.makedirs(os.path.dirname(os.path.join(root, path)), exist_ok=True)
            with open(os.path.join(root, path), "w", encoding="utf-8") as file:
                file.write(text)
        return list(getattr(rules, rule)(rules.Tree(root)))


def run():
    """Yields (name, what went wrong or None) for each case."""
    for number, (rule, files, path, changed) in enumerate(CASES):
        right = complaints(rule, files)
        wrong = complaints(rule, {**files, path: changed})
        problem = None
        if right:
            problem = f"complains of what is right: {right}"
        elif not wrong:
            problem = f"does not see the fault in {path}: {changed!r}"
        yield f"{rule} can go red ({number})", problem
    untested = {rule.__name__ for rule in rules.RULES} - {case[0] for case in CASES}
    yield "every rule has such a case", f"not so: {', '.join(sorted(untested))}" if untested else None
