#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A page of a disk that cannot be read stays in the page cache among its neighbours: a large read over it is an error, on a connection that goes on.
. "$(dirname "$0")/lib.sh"
requires qemu-img jq curl losetup nbdsh
requires_root
losetup -f >/dev/null 2>&1 || skip "needs a free loop device"

dd if=/dev/urandom of="$W/back" bs=1M count=64 status=none
dev=$(losetup -f --show "$W/back")
at_end "losetup -d $dev"
start_pair
kagami protect vm1 vda="$dev" --to dr --rpo 1h >/dev/null
wait_for 30 has_point vm1
cat >"$W/reads.py" <<'EOF'
import os
bad = (32 << 20) + 65536
def told(size, at):
    try:
        h.pread(size, at)
        return "read"
    except nbd.Error as error:
        return str(error.errno)
print(told(256 << 10, 32 << 20))
os.truncate(os.environ["BACK"], bad)
with open(os.environ["DEVICE"], "rb") as device:
    os.posix_fadvise(device.fileno(), bad, 4096, os.POSIX_FADV_DONTNEED)
with open(os.environ["DEVICE"], "rb", buffering=0) as device: # the page is in memory from here on, and was not read
    device.seek(bad)
    try:
        print(len(device.read(4096)))
    except OSError as error:
        print(error.errno)
print(told(256 << 10, 32 << 20), told(4096, bad), told(64 << 10, 32 << 20), told(256 << 10, 32 << 20))
os.truncate(os.environ["BACK"], 64 << 20)
print(told(256 << 10, 32 << 20), told(4096, bad))
EOF
BACK=$W/back DEVICE=$dev nbdsh -u "$(uri vm1 vda)" -c "$(cat "$W/reads.py")" >"$W/out" 2>&1 || true
is "what a client was told" "$(cat "$W/out")" "read
5
EIO EIO read EIO
read read"
is "errors of the disk" "$(protection vm1 '.disks[0].errors')" 3
daemons_alive
