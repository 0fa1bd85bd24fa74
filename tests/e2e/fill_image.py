#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""fill_image.py PATH SEED: fills a sparse file the way disks look: text, random bytes, zeros written out, and holes.

A third of every MiB stays a hole. The same seed gives the same bytes."""
import os
import random
import sys

path, seed = sys.argv[1], int(sys.argv[2])
rng = random.Random(seed)
words = [bytes(rng.choice(b"abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(2, 9))) for _ in range(500)]
size = os.path.getsize(path)
with open(path, "r+b") as image:
    for at in range(0, size, 1 << 20):
        room = min(1 << 20, size - at)
        image.seek(at)
        text = b" ".join(rng.choices(words, k=40000))[: room // 3]
        image.write(text)
        noise = rng.randbytes(room // 6)
        image.write(noise)
        image.write(bytes(room // 6))
