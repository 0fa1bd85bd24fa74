#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Which blocks of a disk are holes is asked just when a TRIM of it begins to hang, with the lock of the file: the other disks of its protection go on, and nobody
# is told of a hole that is none.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl nbdsh python3
mkdir "$W/storage" "$W/slow"
mount_freezable "$W/storage" 256M
mount_over_freezable "$W/storage" "$W/slow"

new_image "$W/slow/a.raw" $((64 << 20))
new_image "$W/b.raw" $((32 << 20)) 2
start_pair
kagami protect vm1 vda="$W/slow/a.raw" vdb="$W/b.raw" --to dr --rpo 1h >/dev/null
wait_for 30 has_point vm1
nbdsh -u "$(uri vm1 vda)" -c 'for i in range(8): h.pwrite(b"\x71" * (1 << 20), (16 + i) << 20)' # and no flush
freeze "$W/storage"
# Its pages are on their way to the storage from here on: a TRIM of them waits for that.
python3 -c 'import ctypes, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
ctypes.CDLL(None).sync_file_range(fd, ctypes.c_long(16 << 20), ctypes.c_long(8 << 20), 2)' "$W/slow/a.raw" &
pids+=($!)
sleep 1

cat >"$W/ask.py" <<'PY'
import time
told, trimmed = [], []
def extents(context, offset, entries, error):
    told.append(entries)
    return 0
def ended(error):
    trimmed.append(error)
    return 1
h.aio_trim(2 << 20, 16 << 20, completion=ended)
asked = [h.aio_block_status(64 << 20, 0, extents) for _ in range(100)] # many: some come when the TRIM has the lock
end = time.time() + 10
while len(told) < 100 and time.time() < end:
    h.poll(100)
print("told", len(told), "trimmed", len(trimmed))
assert len(told) == 100, "they wait for the disk"
h.poll(2000)
assert not trimmed, "the disk did not hang"
PY
timeout 60 nbdsh --base-allocation -u "$(uri vm1 vda)" -c "$(cat "$W/ask.py")" >"$W/asked.out" 2>&1 &
asked=$!
pids+=($asked)
sleep 0.5
timeout 10 qemu-io -f raw -c 'write -P 0x75 17M 4k' -c 'read -P 0x75 17M 4k' "$(uri vm1 vdb)" >"$W/other.out" 2>&1 || fail "vdb waits for vda: $(cat "$W/other.out")"
wait $asked || fail "the status of vda: $(cat "$W/asked.out")"

unfreeze "$W/storage"
nbd_io vm1 vda 'read -P 0 16M 2M' 'read -P 0x71 18M 6M' flush
n=$(cycle vm1)
point_equals vm1 "$n" vda "$W/slow/a.raw"
point_equals vm1 "$n" vdb "$W/b.raw"
daemons_alive
