#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A disk that was busy and hangs between two of its guest's writes holds the thread that serves its protection, and nothing else: other protections
# are served and get points, every request to the control socket is answered, and a stop ends within its bound, clean for the others.
# It waits most of the time.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl nbdsh
mkdir "$W/slow"
mount_freezable "$W/slow" 96M

new_image "$W/slow/a.raw" $((32 << 20))
new_image "$W/slow/d.raw" $((16 << 20)) 4
new_image "$W/b.raw" $((32 << 20)) 2
new_image "$W/c.raw" $((32 << 20)) 3
start_receiver
start_replicator --stop-wait 12
kagami pair dr "$(new_token)" >/dev/null
kagami protect vm1 vda="$W/slow/a.raw" vdb="$W/b.raw" --to dr --rpo 1h >/dev/null
kagami protect vm2 vda="$W/c.raw" --to dr --rpo 1h >/dev/null
kagami protect vm3 vda="$W/slow/d.raw" --to dr --rpo 1h >/dev/null
for vm in vm1 vm2 vm3; do
	wait_for 30 has_point $vm
	cycle $vm >/dev/null
done

# One small aligned write after the other: each is carried out by the thread itself, for the one before ended a moment ago.
busy() { # NAME
	nbdsh -u "$(uri "$1" vda)" -c 'while True: h.pwrite(b"\x71" * 4096, 1 << 20)' >"$W/busy.$1" 2>&1 &
	pids+=($!)
}
writes() {
	protection "$1" .disks[0].writes
}
is_busy() {
	[ "$(writes "$1")" -ge 1000 ]
}
busy vm1
wait_for 30 is_busy vm1
freeze "$W/slow"
hangs() {
	local before
	before=$(writes vm1)
	sleep 0.3
	[ "$(writes vm1)" = "$before" ]
}
wait_for 20 hangs

# The status says which image it is, whatever thread waits for it.
silent() { [ "$(protection "$1" '.disks[0].silent_ms // 0')" -ge 5000 ]; }
wait_for 15 silent vm1
protection vm1 '.why[].text' | grep -qE "^disk vda: the image $W/slow/a.raw has not answered for [0-9]+ s: see to the storage under it" || fail "why: $(protection vm1 .why)"
protection vm1 .reason | grep -q "^disk vda: the image .* has not answered for" || fail "reason: $(protection vm1 .reason)"
is "health of vm1" "$(protection vm1 .health)" warning
is "why a miss of vm1 would be one" "$(protection vm1 .cause)" source-error
is "silence of a disk beside it" "$(protection vm1 .disks[1].silent_ms)" null
is "health of vm2" "$(protection vm2 .health)" ok
kagami status vm1 | grep -q "! the image $W/slow/a.raw has not answered" || fail "status: $(kagami status vm1)"

# Whoever asks is answered, and the others go on.
all_answers() {
	timeout 10 kagami status >/dev/null || fail "kagami status is not answered"
	timeout 10 kagami status vm1 >/dev/null || fail "kagami status vm1 is not answered"
	timeout 10 kagami history vm1 >/dev/null || fail "kagami history vm1 is not answered"
}
others_go_on() { # PATTERN
	local n
	timeout 30 qemu-io -f raw -c "write -P $1 17M 4k" -c "read -P $1 17M 4k" -c flush "$(uri vm2 vda)" >"$W/other.out" 2>&1 ||
		fail "vm2 waits for a disk of vm1: $(cat "$W/other.out")"
	n=$(cycle vm2)
	point_equals vm2 "$n" vda "$W/c.raw"
}
all_answers
others_go_on 0x75
if timeout 3 qemu-io -f raw -c 'read 0 4k' "$(uri vm1 vdb)" >/dev/null 2>&1; then
	echo "# the write that hangs is a worker's: vdb goes on, too"
else
	echo "# the write that hangs holds the thread of vm1: vdb waits"
fi

# What is asked of vm1 itself has an answer, too.
at_source POST /v1/protections/vm1/cycle >/dev/null
kagami pause vm1 >/dev/null
kagami resume vm1 >/dev/null
kagami resize vm1 vdb --size 48M >"$W/resize.out" 2>&1 &
resizing=$!
pids+=($resizing)
all_answers
others_go_on 0x76
if wait $resizing; then
	fail "a disk has grown in a thread that hangs: $(cat "$W/resize.out")"
fi
grep -qE 'kagami (pause|status) vm1' "$W/resize.out" || fail "the answer does not say what to do: $(cat "$W/resize.out")"

# A protection with such a disk is taken away: that waits for the disk, and nobody else does.
qemu-io -f raw -c 'write -P 0x72 4k 4k' "$(uri vm3 vda)" >"$W/hung.out" 2>&1 &
pids+=($!)
wrote() {
	[ "$(writes vm3)" -ge 1 ]
}
wait_for 10 wrote
point3=$(protection vm3 .point)
kagami unprotect vm3 --yes >"$W/unprotect.out" 2>&1 </dev/null &
pids+=($!)
leaves() {
	protection vm3 .reason | grep -q 'is being unprotected'
}
wait_for 10 leaves
refuses 'is being unprotected' kagami cycle vm3
refuses 'is being unprotected' kagami unprotect vm3 --yes
all_answers
others_go_on 0x77
is "state of vm3 while a write of its guest hangs" "$(protection vm3 .state)" ending

# What keeps it is said, by the daemon and by who asks it; nothing binds it any more.
ends_long() { [ "$(protection vm3 .health)" = warning ]; }
wait_for 20 ends_long
hung_image=$(protection vm3 .disks[0].path)
protection vm3 .reason | grep -qE "^it is being unprotected: disk vda: the image $hung_image has not answered for [0-9]+ s: see to the storage under it$" || fail "reason: $(protection vm3 .reason)"
protection vm3 '.why[0].text' | grep -qE "^has been ending for [0-9.]+ s: it is being unprotected: disk vda: the image $hung_image" || fail "why: $(protection vm3 .why)"
[ "$(protection vm3 .ending_ms)" -gt 5000 ] || fail "ending_ms: $(protection vm3 .ending_ms)"
is "ending_ms of one that does not end" "$(protection vm2 .ending_ms)" null
is "the point of vm3" "$(protection vm3 .point)" "$point3"
[ "$(protection vm3 .age_ms)" -gt 0 ] || fail "age_ms: $(protection vm3 .age_ms)"
is "what waits for its next point" "$(protection vm3 .deadline_in_ms)" null
refuses 'it is being unprotected' timeout 20 kagami cycle vm3 --wait
status=0
kagami status --check vm3 >"$W/out" || status=$?
is "exit status of the check" $status 1
grep -q '^KAGAMI WARNING - .* not well: vm3: has been ending for' "$W/out" || fail "the check says: $(cat "$W/out")"
kagami status | grep -A1 '^vm3 ' | grep -q '! has been ending for' || fail "status: $(kagami status)"
kagami status vm3 >"$W/out"
grep -q '^  ending  *for .*; it answers nothing else meanwhile$' "$W/out" || fail "status vm3: $(cat "$W/out")"
sed "/(target)/,\$d" "$W/out" | grep -q "RPO of" && fail "an RPO binds what ends: $(cat "$W/out")"

# A stop is bounded, and clean for vm2.
kill -TERM "$REPLICATOR"
log_says() {
	grep -q "$1" "$W/kagami-replicator.log"
}
stopped_vm2() { log_says 'stopped protection=vm2'; }
stops() { protection vm1 .reason | grep -qE '^the replicator stops: disk vda: the image .* has not answered for [0-9]+ s'; }
wait_for 40 stops
is "state of what a stop waits for" "$(protection vm1 .state)" ending
stopped_vm2 && is "health of what has ended" "$(protection vm2 .health)" ok
refuses 'the replicator stops' timeout 5 kagami unprotect vm1 --yes
wait_for 40 log_says 'the stop is given up'
log_says 'stopped protection=vm2' || fail "vm2 was not stopped cleanly"
log_says 'have not ended.*protection=vm1' || log_says 'not saved to the end.*protection=vm1' || fail "the log does not name vm1"
if log_says 'have not ended.*protection=vm1' && qemu-io -f raw -c 'write 0 4k' "$W/b.raw" >/dev/null 2>&1; then
	fail "an image of a protection that has not ended is free for others: a write of ours may still come"
fi
unfreeze "$W/slow"
status=0
wait "$REPLICATOR" || status=$?
is "exit status of a stop that was given up" $status 3

start_replicator
for vm in vm1 vm2; do
	wait_for 20 connected $vm
	n=$(cycle $vm)
	[ $vm = vm1 ] && point_equals vm1 "$n" vda "$W/slow/a.raw" && point_equals vm1 "$n" vdb "$W/b.raw"
	[ $vm = vm2 ] && point_equals vm2 "$n" vda "$W/c.raw"
done
# The write that hung has its time from when the disk answered again: from outside nobody knows whose it was.
reason=$(kagami syncs vm1 --json | jq -r '.syncs[0].reason')
[ "$reason" = image-changed ] || is "sync of vm1" "$reason" unclean-stop
is "sync of vm2, which was stopped cleanly" "$(protection vm2 .last_cycle.sync_reason)" null
daemons_alive
