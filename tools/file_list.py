#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tools/file_list.py [--check]: writes docs/files.md, a line for each module, from the first sentence of its comment (of the header, or of the .c where there is
none). With --check nothing is written, and the exit status tells whether the page is what it would be."""
import glob
import os
import re
import sys

os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
PAGE = "docs/files.md"
FOLDERS = {
    "common/base": "words and services that everybody uses",
    "common/format": "what is on a disk or a wire",
    "common/rpo": "what both sides say of an objective",
    "common/link": "what connects: TLS, frames, the control server, events",
    "replicator": "the agent on the source host",
    "receiver": "the receiver on the target host",
    "tools": "the command line, and what measures",
}
TOP = """# Every file, in a line

Made by `tools/file_list.py` of the first sentence of each; where to begin is in [architecture.md](architecture.md), "Reading order". A name is a .c file and its
header, or a header alone.
"""


def first_sentence(path):
    """Of the comment that a file begins with; "" where there is none."""
    if not os.path.exists(path):
        return ""
    with open(path, encoding="utf-8") as file:
        lines = file.read().splitlines()[1:]  # without the licence
    text = ""
    for line in lines:
        if not re.match(r"// ?\S", line):
            break
        text += line[2:].strip() + " "
    return re.split(r"(?<=[.:]) (?=[^a-z]|$)", text.strip() + " ")[0].rstrip(":. ")


def page():
    text = TOP
    missing = []
    for folder, what in FOLDERS.items():
        text += f"\n## {folder}/: {what}\n\n| file | |\n|---|---|\n"
        for stem in sorted({os.path.splitext(path)[0] for path in glob.glob(f"{folder}/*.[ch]")}):
            said = first_sentence(stem + ".h") or first_sentence(stem + ".c")
            if not said:
                missing.append(stem)
            ending = "" if os.path.exists(stem + ".c") else ".h"
            text += f"| `{os.path.basename(stem)}{ending}` | {said.replace('|', chr(92) + '|')} |\n"
    return text, missing


new, missing = page()
for stem in missing:
    print(f"{stem} says nowhere what it is: begin its .c or .h with a sentence", file=sys.stderr)
if "--check" in sys.argv:
    with open(PAGE, encoding="utf-8") as file:
        same = file.read() == new
    if not same:
        print(f"{PAGE} is not up to date: run tools/file_list.py", file=sys.stderr)
    elif not missing:
        print(f"ok      files: {PAGE} has them all")
    sys.exit(not same or bool(missing))
with open(PAGE, "w", encoding="utf-8") as file:
    file.write(new)
sys.exit(bool(missing))
