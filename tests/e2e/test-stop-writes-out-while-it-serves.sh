#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A stop brings to the disks what guests have written before it ends anything: with a disk that takes its time all guests are served meanwhile, and the stop is clean. One whose
# disk hangs for good is not waited for longer than the others need, and ten seconds.
. "$(dirname "$0")/lib.sh"
requires qemu-img jq curl nbdsh
mkdir "$W/storage" "$W/slow"
mount_freezable "$W/storage" 256M
mount_over_freezable "$W/storage" "$W/slow"

new_image "$W/slow/a.raw" $((64 << 20))
new_image "$W/b.raw" $((16 << 20)) 2
manager() { # NAME of a daemon
	/usr/bin/python3 tests/e2e/notified.py "$R/$1" "$W/$1.notified" "$KAGAMI_RUN_DIR/$1.sock" &
	pids+=($!)
}
listens() { [ -S "$R/$1" ]; }
for daemon in receiver replicator; do
	manager $daemon
	wait_for 10 listens $daemon
done
NOTIFY_SOCKET=$R/receiver start_receiver
NOTIFY_SOCKET=$R/replicator start_replicator
kagami pair dr "$(new_token)" >/dev/null
kagami protect vm1 vda="$W/slow/a.raw" --to dr --rpo 1h >/dev/null
kagami protect vm2 vda="$W/b.raw" --to dr --rpo 1h >/dev/null
for vm in vm1 vm2; do
	wait_for 60 has_point $vm
done
write_much() { # BYTE: more pieces than any queue of a device holds
	nbdsh -u "$(uri vm1 vda)" -c "for i in range(2000): h.pwrite(b'$1' * 4096, i * 28672)"
}
vda=$(uri vm1 vda) other=$(uri vm2 vda) # the control socket is asked no more
all_served() { # BYTE
	timeout 10 nbdsh -u "$vda" -c "assert h.pread(4096, 1999 * 28672) == b'$1' * 4096" 2>"$W/err" || fail "the guest of the slow disk is not served: $(cat "$W/err")"
	timeout 10 nbdsh -u "$other" -c "h.pwrite(b'$1' * 4096, 8192); h.flush()" 2>"$W/err" || fail "the other guest is not served: $(cat "$W/err")"
}

sync -f "$W/slow"
freeze "$W/storage"
write_much A
kill "$REPLICATOR"
for _ in 1 2 3 4 5 6; do
	sleep 1
	all_served A
done
kill -0 "$REPLICATOR" || fail "the stop has not waited for the disk"
unfreeze "$W/storage"
wait "$REPLICATOR" || fail "the stop was not clean: status $?"
# The service manager has heard of it, and lets it go on for longer than it would.
said() { sed -n "$2p" "$W/$1.notified"; } # DAEMON NUMBER
is "the replicator's first word" "$(said replicator 1)" "READY=1 STATUS= answers"
is "its second" "$(said replicator 2)" "STOPPING=1"
said replicator 3 | grep -qE '^EXTEND_TIMEOUT_USEC=60000000 STATUS=Stopping: ([0-9]+ MiB of )?what .*; guests are served meanwhile$' || fail "its third: $(said replicator 3)"
is "the receiver's" "$(cat "$W/receiver.notified")" "READY=1 STATUS= answers"
start_replicator
for vm in vm1 vm2; do
	n=$(cycle $vm)
	is "$vm is synced, though the stop was clean" "$(kagami syncs $vm --json | jq -r '.syncs[0].reason')" initial
done
point_equals vm1 "$(newest_point vm1)" vda "$W/slow/a.raw"

# It hangs for good: the stop has its bound, and is clean for the other.
stop_replicator
start_replicator --stop-wait 4
wait_for 20 connected vm2
sync -f "$W/slow"
freeze "$W/storage"
write_much B
kill "$REPLICATOR"
given_up() { grep -q 'the stop is given up' "$W/kagami-replicator.log"; }
wait_for 40 given_up
unfreeze "$W/storage" # a thread of it is in the sync, and the kernel lets the process end behind that
status=0
wait "$REPLICATOR" || status=$?
is "status of a stop that was given up" $status 3
grep -q 'not all that guests have written is on the disks' "$W/kagami-replicator.log" || fail "the log does not say that the stop went on"
start_replicator
wait_for 30 connected vm1
for vm in vm1 vm2; do
	n=$(cycle $vm)
	point_equals $vm "$n" vda "$([ $vm = vm1 ] && echo "$W/slow/a.raw" || echo "$W/b.raw")"
done
is "why vm1 was synced" "$(kagami syncs vm1 --json | jq -r '.syncs[0].reason')" unclean-stop
is "why vm2 was" "$(kagami syncs vm2 --json | jq -r '.syncs[0].reason')" initial
daemons_alive
