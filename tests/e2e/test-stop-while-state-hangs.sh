#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A stop while the state directory does not answer: guests are served to the end and see it, what cannot be written is given up after --stop-wait
# with a line in the log, and the stop is as a crash for the next start, which compares what is marked. One that answers in time is clean.
# It waits most of the time.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl flock
mount_freezable "$STATE" 32M
chmod 700 "$STATE"

new_image "$W/a.raw" $((64 << 20))
start_receiver
start_replicator --stop-wait 4
kagami pair dr "$(new_token)" >/dev/null
kagami protect vm1 vda="$W/a.raw" --to dr --rpo 1h >/dev/null
wait_for 30 has_point vm1
cycle vm1 >/dev/null
nbd_io vm1 vda 'write -P 0x60 1M 64k' flush
socket=$KAGAMI_RUN_DIR/nbd/vm1.sock

# A guest that is attached and asks for nothing: it leaves when its connection ends.
/usr/bin/python3 - "$socket" <<'END' &
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.recv(18, socket.MSG_WAITALL)
s.sendall(b"\0\0\0\3" + b"IHAVEOPT" + b"\0\0\0\1" + b"\0\0\0\3" + b"vda")
s.recv(10, socket.MSG_WAITALL)
assert s.recv(1) == b""
END
guest=$!
pids+=($guest)
attached() {
	[ "$(protection vm1 .disks[0].clients)" = 1 ]
}
wait_for 10 attached

freeze "$STATE"
kill -TERM "$REPLICATOR"
guest_left() {
	! kill -0 $guest 2>/dev/null
}
wait_for 20 guest_left
wait $guest || fail "the guest's connection did not end as it should"
log_says() {
	grep -q "$1" "$W/kagami-replicator.log"
}
wait_for 30 log_says 'the stop is given up: nothing has gone on for 2 s'
wait_for 10 test ! -e "$KAGAMI_RUN_DIR/replicator.sock" # nobody asks in vain
log_says 'the state of a protection was not saved to the end.*protection=vm1' || fail "the log does not say what was not saved"
wait_for 10 test ! -e "$socket"
wait_for 10 flock -n "$W/a.raw" true # others may have the image
unfreeze "$STATE"
status=0
wait "$REPLICATOR" || status=$?
is "exit status of a stop that was given up" $status 3

# It was no clean stop, and is not taken for one: what is marked is compared, and nothing else.
start_replicator --stop-wait 20
wait_for 10 connected vm1
n=$(cycle vm1)
is "reason after it" "$(kagami syncs vm1 --json | jq -r '.syncs[0].reason')" unclean-stop
point_equals vm1 "$n" vda "$W/a.raw"
at_most "compared after it" "$(kagami syncs vm1 --json | jq '.syncs[0].read_bytes')" $((16 << 20))

# It answers before the bound: the stop is clean, and the next start goes on with a delta.
nbd_io vm1 vda 'write -P 0x61 33M 64k' flush
freeze "$STATE"
kill -TERM "$REPLICATOR"
sleep 7
kill -0 "$REPLICATOR" || fail "it did not wait for its state directory"
unfreeze "$STATE"
wait "$REPLICATOR" || fail "the stop was not clean, status $?"
start_replicator
wait_for 10 connected vm1
n=$(cycle vm1)
is "sync after a clean stop" "$(protection vm1 .last_cycle.sync_reason)" null
point_equals vm1 "$n" vda "$W/a.raw"

# It hangs before the stop, in the record of ages, which is saved each minute: no disk waits for that, and what ends is shown as such.
record_hangs() {
	local task
	for task in /proc/"$REPLICATOR"/task/*; do
		if [ "$(<"$task/comm")" = kagami-replicat ] && grep -q '^State:.*D' "$task/status"; then
			return 0
		fi
	done 2>/dev/null
	return 1
}
freeze "$STATE"
wait_for 90 record_hangs
kill -TERM "$REPLICATOR"
ends() {
	[ "$(protection vm1 .state)" = ending ]
}
wait_for 5 ends
unfreeze "$STATE"
wait "$REPLICATOR" || fail "the stop was not clean, status $?"
start_replicator
wait_for 10 connected vm1
cycle vm1 >/dev/null
is "sync after it" "$(protection vm1 .last_cycle.sync_reason)" null
daemons_alive
