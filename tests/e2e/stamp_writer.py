#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Writers whose every state can be told from the disk alone.

  stamp_writer.py write ACKED URI URI...    writes stamps 1, 2, 3, ... to the disks in turn, each acknowledged before the
                                            next is sent, until it is told to stop (SIGTERM). The file ACKED holds the
                                            number of the newest acknowledged stamp; a writer continues from there.
  stamp_writer.py outlive ACKED URI URI...  the same, and when the server goes away it waits for it, up to 30 seconds, and sends
                                            again what was not acknowledged.
  stamp_writer.py check LEAST RAW RAW...    exits 0 when the files together are the state after exactly the stamps 1..m
                                            for some m >= LEAST, and prints m.

Each disk has SLOTS slots of 4 KiB, far apart; stamp i goes to disk i % disks, to that disk's slots in turn, and fills
its slot. So for a given m the content of every slot is known: a lost write, a torn one, one that came too early and one
disk ahead of the other all show. With STAMP_SPAN=BYTES in the environment they are in the first so many bytes of each disk."""
import os
import signal
import struct
import sys
import time

SLOTS = 192
SLOT = 4096
PATIENCE_SECONDS = 30
SPAN = int(os.environ.get("STAMP_SPAN", 1 << 62))
SECTOR = struct.Struct("<8sQ496x")


def content(stamp):
    return SECTOR.pack(b"kagamist", stamp) * (SLOT // SECTOR.size)


def place(disks, size, stamp):
    disk = stamp % disks
    slot = (stamp // disks) % SLOTS
    stride = size // SLOTS // SLOT * SLOT
    return disk, (slot * 89 % SLOTS) * stride + slot % 8 * SLOT


def connect(uris):
    import nbd

    disks = []
    for uri in uris:
        handle = nbd.NBD()
        handle.connect_uri(uri)
        disks.append(handle)
    return disks


def connect_again(uris):
    import nbd

    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return connect(uris)
        except nbd.Error:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def write(acked_path, uris, outlive):
    import nbd

    disks = connect(uris)
    size = min(disks[0].get_size(), SPAN)
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
    acked = os.open(acked_path, os.O_RDWR | os.O_CREAT, 0o600)
    stamp = int(os.read(acked, 32) or 0)
    while not stop:
        disk, off = place(len(disks), size, stamp + 1)
        try:
            disks[disk].pwrite(content(stamp + 1), off)
            if (stamp + 1) % 100 == 0:
                disks[disk].flush()
        except nbd.Error:
            # Only a connection that is gone may be outlived: an error on a living one is the guest's.
            if not outlive or disks[disk].aio_is_ready():
                raise
            disks = connect_again(uris)
            continue
        stamp += 1
        os.pwrite(acked, b"%020d\n" % stamp, 0)
    for handle in disks:
        handle.flush()
        handle.shutdown()
    print(f"{stamp} stamps written")


def stamp_in(data):
    """The stamp that fills a slot; 0 for one never written; raises when it is torn."""
    if data == bytes(SLOT):
        return 0
    magic, stamp = SECTOR.unpack(data[: SECTOR.size])
    if magic != b"kagamist" or data != content(stamp):
        raise ValueError("torn or foreign bytes")
    return stamp


def check(least, paths):
    size = min(os.path.getsize(paths[0]), SPAN)
    files = [open(path, "rb") for path in paths]
    found = {}
    for stamp in range(1, SLOTS * len(paths) + 1):
        disk, off = place(len(paths), size, stamp)
        files[disk].seek(off)
        try:
            found[disk, off] = stamp_in(files[disk].read(SLOT))
        except ValueError as error:
            return f"{paths[disk]} at {off}: {error}"
    newest = max(found.values())
    for stamp in range(max(1, newest - SLOTS * len(paths) + 1), newest + 1):
        held = found[place(len(paths), size, stamp)]
        if held != stamp:
            return f"the newest stamp is {newest}, but the place of stamp {stamp} holds {held}"
    written = min(newest, SLOTS * len(paths))
    if sum(1 for stamp in found.values() if stamp) != written:
        return f"the newest stamp is {newest}, but more slots than that are filled"
    if newest < least:
        return f"the newest stamp is {newest}, but {least} was acknowledged before the cut"
    print(newest)
    return None


if len(sys.argv) < 4 or sys.argv[1] not in ("write", "outlive", "check"):
    sys.exit(__doc__)
if sys.argv[1] == "check":
    sys.exit(check(int(sys.argv[2]), sys.argv[3:]))
else:
    write(sys.argv[2], sys.argv[3:], sys.argv[1] == "outlive")
