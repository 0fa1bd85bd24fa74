# SPDX-License-Identifier: Apache-2.0
# slow_guest.py URI PAUSE SECONDS: writes a piece after the other, with a pause behind each, for so long, and comes back when it was thrown out. Prints the longest time that one
# of them took, in ms: so long it was not served.
import sys
import time

import nbd

uri, pause, seconds = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
disk, longest, count = None, 0.0, 0
until = time.monotonic() + seconds
while time.monotonic() < until:
    began = time.monotonic()
    while True:
        try:
            if disk is None:
                disk = nbd.NBD()
                disk.connect_uri(uri)
            disk.pwrite(b"\x55" * 4096, count % 4000 * 16384)
            break
        except nbd.Error:
            disk = None
            time.sleep(0.02)
    longest = max(longest, time.monotonic() - began)
    count += 1
    time.sleep(pause)
print(int(longest * 1000))
