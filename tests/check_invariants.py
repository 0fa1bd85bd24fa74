#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tests/check_invariants.py: what docs/invariants.md names is there, and every id of an invariant that stands anywhere leads to what defines it.

A row has an id, a sentence, where it is checked, tests and mutants. Each file must exist, each test must be a function of the program that it is said of, and each
mutant must say itself that one of the row's programs kills it. How an id is read is said there, under "Ids"; that is what is followed here."""
import glob
import os
import re
import sys

os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
PAGE = "docs/invariants.md"
ID = re.compile(r"(?<![\w#%&+/.\-\"'\[{@$=])([A-Z][1-9])(?![\w.=\-])")
# What looks like one: tables of qcow2, the controls of a terminal.
OTHERS = re.compile(r"extended L2|L[12] (?:table|entr|offset)|\bL1,( L2,)? refcount|tables? of L[12]|L1 and L2|C0, DEL, C1|C1 (?:\\x|\?\?)|magic, L1|header, L1|V2\.0")
NEAR = 160  # characters between an id and the file that is named with it
bad = 0


def wrong(text):
    global bad
    bad += 1
    print(text, file=sys.stderr)


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def mutant_killers(name):
    path = f"tests/mutants/{name}.patch"
    if not os.path.exists(path):
        wrong(f"{PAGE}: there is no {path}")
        return []
    return [word for line in re.findall(r"^Killed-by: (.*)$", read(path), re.M) for word in line.split()]


def all_killers_check():
    for path in sorted(glob.glob("tests/mutants/*.patch")):
        killers = mutant_killers(os.path.splitext(os.path.basename(path))[0])
        if not killers:
            wrong(f"{path}: it names no test in a line Killed-by")
        for killer in killers:
            if not os.path.exists(f"tests/unit/{killer}.c") and not os.path.exists(f"tests/e2e/{killer}.sh"):
                wrong(f"{path}: there is no test {killer}")


def row_check(row_id, checked, tests, mutants):
    programs = set()
    for path in re.findall(r"`([\w/.\-]+\.\w+)`", checked + tests):
        if not glob.glob(path):
            wrong(f"{PAGE}: {row_id} names {path}, which is not there")
    for program, function in re.findall(r"`(test_\w+): (\w+)`", tests):
        programs.add(program)
        path = f"tests/unit/{program}.c"
        if not os.path.exists(path) or not re.search(rf"^static void {function}\(", read(path), re.M):
            wrong(f"{PAGE}: {row_id} names {function} of {program}, which is not there")
    for name in re.findall(r"`([a-z0-9\-]+)`", mutants):
        killers = mutant_killers(name)
        if killers and not programs.intersection(killers):
            wrong(f"{PAGE}: {row_id} names {name}, which none of its tests is said to kill, but {' '.join(killers)}")
    if not programs or not mutants:
        wrong(f"{PAGE}: {row_id} needs a test and a mutant, or why there is none")


def page_read():
    project, definers = set(), {}
    for line in read(PAGE).splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if re.fullmatch(r"[A-Z][1-9]", cells[0]):
            project.add(cells[0])
            row_check(*cells[:1], *cells[2:5])
        elif re.fullmatch(r"`[\w/]+\.[ch]`", cells[0]):
            path = cells[0].strip("`")
            definers[path] = cells[1].split(", ")
            if not os.path.exists(path):
                wrong(f"{PAGE}: there is no {path}")
                continue
            for each in definers[path]:
                if not re.search(rf"\b{each}\b", read(path)):
                    wrong(f"{PAGE}: {path} does not define {each}")
    return project, definers


def readable(path, text):
    """What a reader of the file takes for an id: comments and strings of C, all of a document, the description of a mutant."""
    if path.endswith(".patch"):
        return text.split("\n--- ")[0]
    if path.endswith((".c", ".h")):
        return "\n".join(" ".join(re.findall(r"//.*|\"[^\"\n]*\"", line)) for line in text.splitlines())
    if path.endswith(".sh"):
        return "\n".join(line if line.startswith("#") else "" for line in text.splitlines())
    return text


def covers(text, each):
    """Whether the text has the id, or a range of ids with it: T1 to T3."""
    for first, last in re.findall(r"\b([A-Z][1-9]) to ([A-Z][1-9])\b", text):
        if first[0] == each[0] and first[1] <= each[1] <= last[1]:
            return True
    return re.search(rf"\b{each}\b", text) is not None


def named_near(text, base, each):
    return any(covers(text[max(0, at.start() - NEAR):at.end() + NEAR], each) for at in re.finditer(rf"\b{re.escape(base)}", text))


def citations_check(project, definers):
    count = 0
    paths = [p for p in glob.glob("README.md") + glob.glob("docs/**/*.md", recursive=True) if p != PAGE]
    for folder in ("common", "replicator", "receiver", "tools", "tests"):
        for ending in ("c", "h", "sh", "patch"):
            paths += glob.glob(f"{folder}/**/*.{ending}", recursive=True)
    for path in sorted(paths):
        text = OTHERS.sub("", readable(path, read(path)))
        name = re.sub(r"^test_|_crash$", "", os.path.splitext(os.path.basename(path))[0])
        for each in sorted(set(ID.findall(text))):
            count += 1
            of = [file for file, ids in definers.items() if each in ids]
            own = any(os.path.splitext(os.path.basename(file))[0] == name for file in of)
            if not own and each not in project and not any(named_near(text, os.path.basename(file), each) for file in of):
                line = next((n for n, row in enumerate(text.splitlines(), 1) if re.search(rf"\b{each}\b", row)), 0)
                wrong(f"{path}:{line}: {each} stands without the file that defines it ({', '.join(of) or 'none does'})")
    return count


everything = page_read()
count = citations_check(*everything)
all_killers_check()
if bad == 0:
    print(f"ok      invariants: {len(everything[0])} of the project, {sum(map(len, everything[1].values()))} of {len(everything[1])} files, cited in {count} places")
sys.exit(bad != 0)
