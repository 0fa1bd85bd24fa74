#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A disk hangs whose file system leaves each read to a worker of the kernel's, under more reads and hints than there are workers: the other disk of its protection is
# written and synced, by workers, at once.
. "$(dirname "$0")/lib.sh"
requires qemu-img jq curl nbdsh
mount_hangable "$W/a.raw" $((128 << 20))
new_image "$W/b.raw" $((32 << 20)) 2
start_pair
kagami protect vm1 vda="$W/a.raw" vdb="$W/b.raw" --to dr --rpo 1h >/dev/null
wait_for 60 has_point vm1
look python3 -c 'import os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)' "$W/a.raw"
kill -STOP $server

cat >"$W/ask.py" <<'PY'
ended = []
def asked(error):
    ended.append(error.value)
    return 1
READS, HINTS = 90, 12
buffers = [nbd.Buffer(4096) for _ in range(READS)]
for i in range(HINTS):
    h.aio_cache(32 << 20, (i % 4) << 25, completion=asked)
for i, buffer in enumerate(buffers):
    h.aio_pread(buffer, i * 1048576, completion=asked)
h.poll(1000)
open(directory + "/asked", "w").close()
while len(ended) < READS + HINTS:
    h.poll(1000)
assert ended == [0] * (READS + HINTS), ended
PY
timeout 100 nbdsh -u "$(uri vm1 vda)" -c "directory = '$W'" -c "$(cat "$W/ask.py")" >"$W/asked.out" 2>&1 &
asked=$!
pids+=($asked)
wait_for 20 test -e "$W/asked"
sleep 1
for byte in A B C; do
	timeout 10 nbdsh -u "$(uri vm1 vdb)" -c "h.pwrite(b'$byte' * 70000, 4096); h.flush(); h.trim(65536, 1 << 20); assert h.pread(70000, 4096) == b'$byte' * 70000" 2>"$W/err" ||
		fail "the guest of the disk that is well is not served: $(cat "$W/err")"
done
kill -CONT $server
wait $asked || fail "what was asked of vda: $(cat "$W/asked.out")"
n=$(cycle vm1)
point_equals vm1 "$n" vdb "$W/b.raw"
daemons_alive
