#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Crash states out of a log of writes and flushes (QEMU's blklogwrites, the format of dm-log-writes).

    replay.py LOG BASE ACKS WORK SEED STATES CHECK

BASE is what the device held before the log began. For each chosen state the device is made in WORK/crash.img and
`CHECK WORK/crash.img CREATED ACKED ASKED FAILED FAILOVER` judges it (what was promised by then: see fs_store.c).

A state is a moment of the log. All that came before the last flush by then is there. Of the writes after it there survive
all (a prefix of the log), or a drawn subset, some of them torn at 4 KiB. There is a state at every flush, and drawn ones between;
when they are more than STATES, some are drawn. Prints "N states, M failed"; exit status 1 when one failed."""
import os
import random
import shutil
import struct
import subprocess
import sys

SECTOR, MAGIC, FLUSH, FUA, DISCARD, MARK, PIECE = 512, 0x6A736677736872, 1, 2, 4, 8, 4096


def entries_of(log):
    """[(flags, offset on the device, bytes, offset of the data in the log, end in the log)]"""
    size = os.fstat(log).st_size
    magic, version, _, sector = struct.unpack("<QQQI", os.pread(log, 28, 0))
    if magic != MAGIC or version != 1 or sector != SECTOR:
        sys.exit("the log is not one of blklogwrites")
    found, at = [], SECTOR
    while at + SECTOR <= size:
        where, count, flags, extra = struct.unpack("<QQQQ", os.pread(log, 32, at))
        if not flags and not count:
            break  # where the log ends
        data = at + SECTOR
        at = data + (0 if flags & DISCARD else count * SECTOR)
        found.append((flags, where * SECTOR, count * SECTOR, data, at))
    return found


def promises_of(path):
    with open(path, encoding="ascii") as acks:
        return [line.split() for line in acks]


def promised(lines, end):
    """CREATED ACKED ASKED FAILED FAILOVER at the moment that the log ended at `end`"""
    now = {"created": 0, "point": 0, "asked": 0, "failover": 0, "asked-failover": 0}
    for words in lines:
        if int(words[-1]) <= end:
            now[words[0]] = int(words[1]) if len(words) == 3 else 1
    return [str(now[k]) for k in ("created", "point", "asked", "failover", "asked-failover")]


def apply(log, to, entry, keep=None):
    """`keep`: which 4 KiB pieces of it survive"""
    flags, off, length, data, _ = entry
    if flags & DISCARD:
        return  # may or may not show zeros: keeps what was there
    done = 0
    while done < length:
        step = min(length - done, PIECE if keep else 1 << 20)
        if keep is None or keep(done // PIECE):
            os.pwrite(to, os.pread(log, step, data + done), off + done)
        done += step


def survivors(log, to, entries, draw):
    for entry in entries:
        luck = draw.random()
        if luck < 0.5:
            apply(log, to, entry)
        elif luck < 0.65:
            apply(log, to, entry, lambda _: draw.random() < 0.5)


def states_of(entries, draw, most):
    """[(how many entries came, subset or prefix)], rising"""
    flushes = [n + 1 for n, e in enumerate(entries) if e[0] & FLUSH]
    between = sorted(draw.sample(range(1, len(entries) + 1), min(len(entries), len(flushes))))
    states = [(n, False) for n in flushes] + [(n, draw.random() < 0.75) for n in between]
    if len(states) > most:
        states = draw.sample(states, most)
    return sorted(states)


def main():
    log_path, base, acks, work, seed, most, check = sys.argv[1:8]
    draw = random.Random(int(seed))
    log = os.open(log_path, os.O_RDONLY)
    entries, lines = entries_of(log), promises_of(acks)
    states = states_of(entries, draw, int(most))
    durable_path, crash_path = work + "/durable.img", work + "/crash.img"
    subprocess.run(["cp", "--sparse=always", base, durable_path], check=True)
    durable = os.open(durable_path, os.O_RDWR)
    applied = failed = 0
    for count, subset in states:
        flushed = max((n + 1 for n in range(applied, count) if entries[n][0] & FLUSH), default=applied)
        for entry in entries[applied:flushed]:
            apply(log, durable, entry)
        applied = flushed
        subprocess.run(["cp", "--sparse=always", durable_path, crash_path], check=True)
        crash = os.open(crash_path, os.O_RDWR)
        rest = entries[flushed:count]
        if subset:
            survivors(log, crash, rest, draw)
        else:
            for entry in rest:
                apply(log, crash, entry)
        os.close(crash)
        promise = promised(lines, entries[count - 1][4])
        run = subprocess.run([check, crash_path, *promise], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        if run.returncode:
            failed += 1
            kept = "%s/failed-%d.img" % (work, count)
            shutil.copyfile(crash_path, kept)
            text = run.stdout.decode(errors="replace").strip()
            print("state %d of %d (%s, SEED=%s, promised %s): %s" % (
                count, len(entries), "a subset" if subset else "a prefix", seed, " ".join(promise), text))
    flushes = sum(1 for e in entries if e[0] & FLUSH)
    writes = sum(1 for e in entries if e[2] and not e[0] & DISCARD)
    written = sum(e[2] for e in entries if not e[0] & DISCARD) >> 20
    print("%d states, %d failed (of a log of %d writes, %d flushes, %d MiB)" % (
        len(states), failed, writes, flushes, written))
    sys.exit(1 if failed else 0)


main()
