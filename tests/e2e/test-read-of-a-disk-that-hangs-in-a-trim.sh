#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What is not in memory is read just when a TRIM of the disk hangs, with the lock that reading ahead takes: the other disks of its protection go on, and what is in memory
# of that disk is read, too.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl nbdsh python3
protect_beside_freezable
nbdsh -u "$(uri vm1 vda)" -c 'h.pwrite(b"\x33" * (1 << 20), 40 << 20); h.flush()'
python3 -c 'import os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)' "$W/slow/a.raw"
let_trim_hang

cat >"$W/ask.py" <<'PY'
import time
trimmed, read, memory = [], [], []
h.aio_trim(2 << 20, 16 << 20, completion=lambda error: trimmed.append(error.value) or 1)
time.sleep(0.3)
warm = [nbd.Buffer(65536), nbd.Buffer(4096), nbd.Buffer(1 << 20)]
for buffer in warm:
    h.aio_pread(buffer, 20 << 20, completion=lambda error: memory.append(error.value) or 1)
cold = [nbd.Buffer(65536) for _ in range(50)] # more than have a turn
for i, buffer in enumerate(cold):
    h.aio_pread(buffer, (40 << 20) + (i % 16) * 65536, completion=lambda error: read.append(error.value) or 1)
end = time.time() + 10
while len(memory) < 3 and time.time() < end:
    h.poll(100)
print("memory", memory, "read", read, "trimmed", trimmed)
assert memory == [0, 0, 0], "what is in memory waits for the disk"
assert all(buffer.to_bytearray() == b"\x71" * len(buffer) for buffer in warm)
assert not trimmed and not read, "the disk did not hang"
open(directory + "/asked", "w").close()
while len(read) < 50 or not trimmed:
    h.poll(1000)
assert read == [0] * 50 and trimmed == [0], "%s %s" % (read, trimmed)
assert all(buffer.to_bytearray() == b"\x33" * 65536 for buffer in cold)
PY
timeout 100 nbdsh -u "$(uri vm1 vda)" -c "directory = '$W'" -c "$(cat "$W/ask.py")" >"$W/asked.out" 2>&1 &
asked=$!
pids+=($asked)
sleep 1
for pattern in 0x75 0x76; do
	timeout 10 qemu-io -f raw -c "write -P $pattern 17M 4k" -c "write -P $pattern 1M 70000" -c flush -c "read -P $pattern 17M 4k" "$(uri vm1 vdb)" >"$W/other.out" 2>&1 ||
		fail "vdb waits for vda: $(cat "$W/other.out")"
done
has_asked() { [ -e "$W/asked" ]; }
for ((n = 0; n < 150; n++)); do has_asked && break; sleep 0.1; done
has_asked || fail "vda: $(cat "$W/asked.out")"

unfreeze "$W/storage"
wait $asked || fail "the reads of vda: $(cat "$W/asked.out")"
n=$(cycle vm1)
point_equals vm1 "$n" vda "$W/slow/a.raw"
point_equals vm1 "$n" vdb "$W/b.raw"
daemons_alive
