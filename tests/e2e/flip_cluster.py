#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""flip_cluster.py IMAGE BLOCK: flips a bit of what a qcow2 with extended L2 and 64 KiB clusters stores of a block."""
import struct
import sys

CLUSTER = 65536
OFFSET = 0x00FFFFFFFFFFFE00

with open(sys.argv[1], "r+b") as image:
    def be64(at):
        image.seek(at)
        return struct.unpack(">Q", image.read(8))[0]

    block = int(sys.argv[2])
    table = be64(be64(40) + block // (CLUSTER // 16) * 8) & OFFSET
    where, bits = be64(table + block % (CLUSTER // 16) * 16), be64(table + block % (CLUSTER // 16) * 16 + 8)
    if where == 0:
        sys.exit(f"the image stores nothing of block {block}")
    if where >> 62 & 1:
        at = (where & (1 << 54) - 1) + 8  # within the packed stream, be it ever so short
    else:
        first = next(i for i in range(32) if bits >> i & 1)
        at = (where & OFFSET) + first * 2048 + 100
    image.seek(at)
    byte = image.read(1)[0]
    image.seek(at)
    image.write(bytes([byte ^ 0x20]))
