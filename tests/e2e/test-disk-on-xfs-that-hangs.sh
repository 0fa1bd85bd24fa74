#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A TRIM hangs on xfs, which takes the lock of the file for reads as well: whatever is asked of that disk then is a worker's, and the other disks of its protection go on.
# What was answered before is read afterwards, and all that was asked is answered once the storage is back.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl nbdsh python3 mkfs.xfs
protect_beside_freezable 384M xfs
let_trim_hang

cat >"$W/ask.py" <<'PY'
import time
ended = []
asked = 0
def ask(call, *what):
    global asked
    asked += 1
    call(*what, completion=lambda error: ended.append(error.value) or 1)
ask(h.aio_trim, 2 << 20, 16 << 20)
read = [nbd.Buffer(size) for size in (4096, 65536, 1 << 20) for _ in range(20)]
for i, buffer in enumerate(read): # all in memory
    ask(h.aio_pread, buffer, (18 + i % 4) << 20)
for i in range(20):
    ask(h.aio_pwrite, bytes([i + 1]) * 4096, (30 << 20) + i * 4096)
    ask(h.aio_pwrite, bytes([i + 1]) * (1 << 20), (32 + i) << 20) # through a pipe
ask(h.aio_block_status, 1 << 20, 0, lambda *extents: 0)
ask(h.aio_zero, 1 << 20, 60 << 20)
ask(h.aio_flush)
open(directory + "/asked", "w").close()
end = time.time() + 60
while len(ended) < asked and time.time() < end:
    h.poll(1000)
assert ended == [0] * asked, (asked, ended)
assert all(buffer.to_bytearray() == b"\x71" * len(buffer) for buffer in read)
assert h.pread(20 * 4096, 30 << 20) == b"".join(bytes([i + 1]) * 4096 for i in range(20))
assert h.pread(2 << 20, 16 << 20) == bytes(2 << 20)
PY
timeout 100 nbdsh --base-allocation -u "$(uri vm1 vda)" -c "directory = '$W'" -c "$(cat "$W/ask.py")" >"$W/asked.out" 2>&1 &
asked=$!
pids+=($asked)
has_asked() { [ -e "$W/asked" ]; }
wait_for 20 has_asked
sleep 1
for pattern in 0x75 0x76 0x77; do
	timeout 10 qemu-io -f raw -c "write -P $pattern 17M 4k" -c "write -P $pattern 1M 70000" -c flush -c "read -P $pattern 17M 4k" -c "discard 2M 1M" "$(uri vm1 vdb)" >"$W/other.out" 2>&1 ||
		fail "vdb waits for vda: $(cat "$W/other.out")"
done
kill -0 $asked || fail "the disk did not hang: $(cat "$W/asked.out")"

unfreeze "$W/storage"
wait $asked || fail "what was asked of vda: $(cat "$W/asked.out")"
n=$(cycle vm1)
point_equals vm1 "$n" vda "$W/slow/a.raw"
point_equals vm1 "$n" vdb "$W/b.raw"
daemons_alive
