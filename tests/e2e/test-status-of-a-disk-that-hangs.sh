#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Which blocks of a disk are holes is asked just when a TRIM of it begins to hang, with the lock of the file: the other disks of its protection go on, and nobody
# is told of a hole that is none.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl nbdsh python3
protect_beside_freezable
let_trim_hang

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
