#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Nobody reads the log of the replicator, and the pipe that it is written to is full: guests, new connections, cycles and the control socket go on, and a stop is one. Once
# somebody reads, the log goes on as well. And where the standard descriptors are closed, no message goes into a file of its.
. "$(dirname "$0")/lib.sh"
requires qemu-img jq curl nbdsh python3
new_image "$W/a.raw" $((16 << 20))
fill_log() {
	python3 -c 'import os, sys
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_NONBLOCK)
for size in (4096, 1):
    try:
        while True:
            os.write(fd, b"x" * size)
    except BlockingIOError:
        pass' "$W/log"
}
start_receiver
mkfifo "$W/log"
exec 8<>"$W/log"
kagami-replicator --run-dir "$KAGAMI_RUN_DIR" --state "$STATE" 2>"$W/log" 8<&- &
REPLICATOR=$!
pids+=("$REPLICATOR")
wait_for 20 answers replicator.sock
kagami pair dr "$(new_token)" >/dev/null
kagami protect vm1 vda="$W/a.raw" --to dr --rpo 1h >/dev/null
wait_for 30 has_point vm1
fill_log

timeout 60 nbdsh -u "$(uri vm1 vda)" -c "path = '$KAGAMI_RUN_DIR/nbd/vm1.sock'" -c '
import socket, struct
for i in range(20):
    s = socket.socket(socket.AF_UNIX)
    s.connect(path)
    s.recv(18)
    s.sendall(struct.pack(">I", 0x80000003)) # flags that there are not: a line of the log each
    s.recv(1)
    h.pwrite(bytes([i + 1]) * 4096, i * 4096)
    h.flush()
' || fail "a guest waits for who reads the log"
for ((i = 0; i < 40; i++)); do
	timeout 30 kagami cycle vm1 --wait >/dev/null || fail "cycle $i waits for who reads the log"
done
timeout 20 kagami pause vm1 >/dev/null || fail "kagami pause waits"
timeout 20 kagami resume vm1 >/dev/null || fail "kagami resume waits"
n=$(cycle vm1)
point_equals vm1 "$n" vda "$W/a.raw"
cat <&8 >"$W/read" &
reader=$!
pids+=($reader)
wait_for 20 grep -q "point committed protection=vm1 point=$n" "$W/read"
kill $reader
wait $reader 2>/dev/null || true

# Full again, at the stop.
fill_log
stop_replicator

kagami-replicator --run-dir "$KAGAMI_RUN_DIR" --state "$STATE" <&- >&- 2>&- 8<&- &
REPLICATOR=$!
pids+=("$REPLICATOR")
wait_for 20 answers replicator.sock
for fd in 0 1 2; do
	is "descriptor $fd of a replicator that was started without" "$(readlink "/proc/$REPLICATOR/fd/$fd")" /dev/null
done
kagami pause vm1 >/dev/null
kagami resume vm1 >/dev/null
n=$(cycle vm1)
jq -es 'length > 0' "$STATE/events.jsonl" >/dev/null || fail "events.jsonl is not JSON any more"
stop_replicator
