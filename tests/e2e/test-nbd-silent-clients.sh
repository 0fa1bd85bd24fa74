#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Connections that never choose a disk lock no guest out: where there is no place left the slowest goes at once, and all go after ten seconds. An option that is
# too long is refused, and its connection lives. Signals that ask for no stop are none.
# It waits most of the time.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl nbdinfo

new_image "$W/a.raw" $((8 << 20))
start_pair
kagami protect vm1 vda="$W/a.raw" --to dr --rpo 1h >/dev/null
wait_for 30 has_point vm1
socket=$KAGAMI_RUN_DIR/nbd/vm1.sock

cat >"$W/silent.py" <<'PY'
import socket, sys, time
path, count, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
silent = []
for _ in range(count):
    s = socket.socket(socket.AF_UNIX)
    s.connect(path)
    silent.append(s)
print("there", flush=True)
time.sleep(seconds)
closed = 0
for s in silent:
    s.setblocking(False)
    try:
        while s.recv(4096):
            pass
        closed += 1
    except BlockingIOError:
        pass
print("closed", closed, flush=True)
PY

cat >"$W/long.py" <<'PY'
import long_options, socket, struct, sys
s = socket.socket(socket.AF_UNIX)
s.settimeout(10)
s.connect(sys.argv[1])
s.recv(18, socket.MSG_WAITALL)
s.sendall(struct.pack(">I", 3))
long_options.check(s, b"vda")
print("lives")
PY
is "a connection after options that are too long" "$(PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$root/tests/e2e /usr/bin/python3 "$W/long.py" "$socket")" lives

nbdinfo --size "nbd+unix:///vda?socket=$socket" >/dev/null
/usr/bin/python3 "$W/silent.py" "$socket" 64 0 >/dev/null # they come and go
/usr/bin/python3 "$W/silent.py" "$socket" 64 13 >"$W/silent.out" &
silent=$!
pids+=($silent)
there() { grep -q there "$W/silent.out"; }
wait_for 10 there
is "size beside 64 silent connections" "$(nbdinfo --size "nbd+unix:///vda?socket=$socket")" $((8 << 20))
nbd_io vm1 vda 'write -P 7 1M 64k'
wait $silent
is "silent connections that were closed" "$(tail -n 1 "$W/silent.out")" "closed 64"
grep -q 'chose no disk' "$W/kagami-replicator.log" || fail "the log says nothing of connections that were closed"

# Nor do those that end their handshake, and never take what it was answered with.
cat >"$W/deaf.py" <<'PY'
import array, fcntl, socket, struct, sys, termios, time
path, seconds = sys.argv[1], float(sys.argv[2])
def waiting(s): # bytes of answers
    n = array.array("i", [0])
    fcntl.ioctl(s, termios.FIONREAD, n)
    return n[0]
def answered(s, options): # whether all of them are
    s.sendall(struct.pack(">QII", 0x49484156454F5054, 3, 0) * options)
    until = time.monotonic() + 0.2
    while waiting(s) < goal[s] + 20 * options and time.monotonic() < until: # an answer has 20 bytes and more
        time.sleep(0.001)
    all_are = waiting(s) >= goal[s] + 20 * options
    goal[s] = waiting(s)
    return all_are
goal = {}
for _ in range(64):
    s = socket.socket(socket.AF_UNIX)
    s.connect(path)
    s.recv(18, socket.MSG_WAITALL)
    s.sendall(struct.pack(">I", 3))
    goal[s] = 0
    while answered(s, 48): # until there is no room for more: less than it takes to have the server read no further
        pass
    s.shutdown(socket.SHUT_WR)
print("there", flush=True)
time.sleep(seconds)
PY
/usr/bin/python3 "$W/deaf.py" "$socket" 60 >"$W/deaf.out" &
deaf=$!
pids+=($deaf)
are_deaf() { grep -q there "$W/deaf.out"; }
wait_for 30 are_deaf
is "size beside 64 deaf connections" "$(timeout 20 nbdinfo --size "nbd+unix:///vda?socket=$socket")" $((8 << 20))
kill $deaf

# What strangers bring about is not logged each time.
/usr/bin/python3 - "$socket" <<'PY'
import socket, sys
for _ in range(300):
    s = socket.socket(socket.AF_UNIX)
    s.connect(sys.argv[1])
    s.sendall(b"\0\0\0\0")
    while s.recv(4096):
        pass
PY
at_least "lines of 300 strange greetings" "$(grep -c 'handshake flags are not those.*protection=vm1' "$W/kagami-replicator.log")" 1
at_most "lines of 300 strange greetings" "$(grep -c 'handshake flags are not those' "$W/kagami-replicator.log")" 10

for signal in HUP USR1 USR2 ALRM; do
	kill -$signal "$REPLICATOR" "$RECEIVER"
done
said() { grep -q "SIGHUP changes nothing" "$W/kagami-replicator.log" && grep -q "SIGHUP changes nothing" "$W/kagami-receiver.log"; }
wait_for 5 said
cycle vm1 >/dev/null
daemons_alive
